"""Jet images: the energy flow of a jet in the (eta, phi) plane, on pixels.

The idea is of Cogan et al. (arXiv 1407.5675). The steps, and the default of 25 x 25 pixels of 0.1 x 0.1 for jets of
R = 1, are those of de Oliveira et al. (arXiv 1511.05190); as in Macaluso and Shih (arXiv 1803.00107) the constituents
are moved and turned before they are put on pixels, so that nothing is interpolated.
"""

from __future__ import annotations

import dataclasses
from numbers import Integral, Real

import numpy as np

CENTRINGS = ("axis", "centroid", "subjet")
ROTATIONS = ("none", "principal", "subjet")


@dataclasses.dataclass(frozen=True)
class ImageOptions:
    """How a jet is drawn.

    Args:
        pixels: pixels on each side, 1 to 1000. The centre is in the middle of pixel `pixels // 2`, for even
            numbers as well: a hadron there must not fall on one side or the other by rounding.
        width: full width in eta and in phi, > 0.
        centring: what is in the centre: the jet's "axis", the pt-weighted "centroid", or the leading "subjet".
        rotation: "none"; "subjet" turns the second subjet straight below the leading one; "principal" turns the
            axis of largest spread upright, the half with more pt above. A jet with one subjet is turned by its
            principal axis.
        flip: mirror images so that the right half has more pt.
        normalise: divide by the jet's sum of pt, so that pixels sum to 1 if nothing is outside; else GeV.

    Raises:
        ValueError: an option is out of its range.

    Example:
        >>> ImageOptions(centring="middle")
        Traceback (most recent call last):
        ValueError: centring is 'middle', expected 'axis', 'centroid' or 'subjet'
    """

    pixels: int = 25
    width: float = 2.5
    centring: str = "subjet"
    rotation: str = "subjet"
    flip: bool = True
    normalise: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.pixels, bool) or not isinstance(self.pixels, Integral) or not 1 <= self.pixels <= 1000:
            raise ValueError(f"pixels is {self.pixels!r}, expected a whole number from 1 to 1000")
        if not isinstance(self.width, Real) or not 0 < self.width < np.inf:
            raise ValueError(f"width is {self.width!r}, expected a finite number > 0")
        for name, allowed in (("centring", CENTRINGS), ("rotation", ROTATIONS)):
            if getattr(self, name) not in allowed:
                expected = "{!r}, {!r} or {!r}".format(*allowed)
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected {expected}")


def jet_images(
    pt: np.ndarray,
    eta: np.ndarray,
    phi: np.ndarray,
    size: np.ndarray,
    axis: np.ndarray,
    subjets: np.ndarray,
    options: ImageOptions | None = None,
) -> np.ndarray:
    """Draw jets: the pt of their constituents, summed in pixels of (phi, eta).

    `pipelines.features.jets.find_jets(..., images=ImageOptions())` finds the jets and draws them in one go.

    Args:
        pt, eta, phi: constituents of all jets, one jet after the other, (M,); GeV, -, rad of any period.
        size: constituents of each jet, (J,), at least 1, summing to M.
        axis: (eta, phi) of each jet, (J, 2).
        subjets: (eta, phi) of its leading and second subjet, (J, 2, 2), NaN where there is none.
        options: how; default `ImageOptions()`.

    Returns:
        (J, pixels, pixels) float32: the first index rises with phi (up, in a plot with origin="lower"), the
        second with eta. Constituents outside the window are left out.

    Raises:
        ValueError: lengths that disagree, or a jet without constituents or pt.

    Example:
        >>> none = np.full((1, 2, 2), np.nan)
        >>> options = ImageOptions(pixels=3, width=3, centring="axis", rotation="none", flip=False)
        >>> jet_images([30, 10], [0, 1], [0, 0], [2], [[0, 0]], none, options)[0].tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.75, 0.25], [0.0, 0.0, 0.0]]
    """
    options = options or ImageOptions()
    pt, eta, phi, axis, subjets = (np.asarray(values, np.float64) for values in (pt, eta, phi, axis, subjets))
    size = np.asarray(size)
    if size.ndim != 1 or (size < 1).any() or not pt.shape == eta.shape == phi.shape == (size.sum(),):
        raise ValueError(
            f"pt, eta, phi have shapes {pt.shape}, {eta.shape}, {phi.shape}, expected (M,), M the sum of size, all >= 1"
        )
    if axis.shape != (len(size), 2) or subjets.shape != (len(size), 2, 2):
        raise ValueError(
            f"axis and subjets have shapes {axis.shape} and {subjets.shape}, "
            f"expected {(len(size), 2)} and {(len(size), 2, 2)}"
        )
    owner = np.repeat(np.arange(len(size)), size)
    total = np.bincount(owner, pt, len(size))
    if not ((total > 0) & (total < np.inf)).all():
        raise ValueError(f"jet {np.argmin((total > 0) & (total < np.inf))} has no pt, or one that is not finite")
    # x is along eta and y along phi, both from the jet axis, where phi is wrapped.
    x, y = eta - axis[owner, 0], _wrap(phi - axis[owner, 1])
    prongs = np.stack([subjets[..., 0] - axis[:, :1], _wrap(subjets[..., 1] - axis[:, 1:])], axis=2)
    moments = np.stack([np.bincount(owner, pt * x, len(size)), np.bincount(owner, pt * y, len(size))], axis=1)
    centroid = moments / total[:, None]
    centre = {"axis": 0 * axis, "centroid": centroid, "subjet": prongs[:, 0]}[options.centring]
    centre = np.where(np.isnan(centre), 0.0, centre)
    angle = _turn(pt, x - centroid[owner, 0], y - centroid[owner, 1], owner, prongs, options)
    x, y = x - centre[owner, 0], y - centre[owner, 1]
    x, y = np.cos(angle)[owner] * x - np.sin(angle)[owner] * y, np.sin(angle)[owner] * x + np.cos(angle)[owner] * y
    if options.flip:
        x = x * np.where(_balance(x, pt, owner, len(size), options) < 0, -1, 1)[owner]
    return _pixels(x, y, pt / total[owner] if options.normalise else pt, owner, len(size), options)


def _turn(
    pt: np.ndarray, x: np.ndarray, y: np.ndarray, owner: np.ndarray, prongs: np.ndarray, options: ImageOptions
) -> np.ndarray:
    """Return the angle by which to turn each jet, (J,); x and y are from its centroid."""
    jets = len(prongs)
    if options.rotation == "none":
        return np.zeros(jets)
    xx, xy, yy = (np.bincount(owner, pt * product, jets) for product in (x * x, x * y, y * y))
    upright = np.pi / 2 - np.arctan2(2 * xy, xx - yy) / 2
    height = np.sin(upright)[owner] * x + np.cos(upright)[owner] * y
    upright = np.where(_balance(height, pt, owner, jets, options) < 0, upright + np.pi, upright)
    if options.rotation == "principal":
        return upright
    across, up = (prongs[:, 1] - prongs[:, 0]).T
    return np.where(np.isnan(across), upright, -np.pi / 2 - np.arctan2(up, across))


def _balance(place: np.ndarray, pt: np.ndarray, owner: np.ndarray, jets: int, options: ImageOptions) -> np.ndarray:
    """Return the pt on the positive side less that on the negative one, (J,)."""
    # Without the middle pixel: what is in the centre, often a subjet, would be on a side by rounding only.
    return np.bincount(owner, pt * np.sign(np.rint(place * (options.pixels / options.width))), jets)


def _pixels(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, owner: np.ndarray, jets: int, options: ImageOptions
) -> np.ndarray:
    pixels = options.pixels
    column, row = (np.floor(place * (pixels / options.width) + 0.5) + pixels // 2 for place in (x, y))
    inside = (column >= 0) & (column < pixels) & (row >= 0) & (row < pixels)
    pixel = (owner[inside] * pixels + row[inside]) * pixels + column[inside]
    flat = np.bincount(pixel.astype(np.int64), weight[inside], jets * pixels**2)
    return flat.reshape(jets, pixels, pixels).astype(np.float32)


def _wrap(dphi: np.ndarray) -> np.ndarray:
    return dphi - 2 * np.pi * np.rint(dphi / (2 * np.pi))
