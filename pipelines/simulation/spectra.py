"""Smoothly falling mass spectra, with and without bumps, and the significance of a bump if the background is known.

What the network `ddp` is trained on, after the Data Directed Paradigm (Volkovich, De Vito Halevy, Bressler 2021,
arXiv:2107.11573). Shapes, binnings, yields and signals are drawn at random over wide ranges, so that a real spectrum is
one of many that could have been drawn. With x the mass in units of a drawn collision energy, and t the place in the
range, 0 to 1, the logarithm of the density is one of

    dijet3              p1 ln(1 - x) - p2 ln x
    dijet4              dijet3 - p3 ln^2 x
    dijet5              dijet4 - p4 ln^3 x
    exponential         -t
    power               -ln(1 + t / c)
    modified            -(t + 1/10)^c
    ua2                 -p ln x - a x - b x^2
    two_exponentials    ln(exp(-a t) + r exp(-b t))

times a number that makes it fall by as many decades as were drawn: a power of the density, so that all families but the
last stay what they are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import numba
import numpy as np
from scipy.special import ndtr

from pipelines.errors import InputError
from pipelines.histograms import LEAST_BINS, Histograms

Shape = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def _dijet(terms: int) -> Shape:
    def shape(x: np.ndarray, t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        p1, p2, p3, p4 = (rng.uniform(low, high, (len(x), 1)) for low, high in ((0, 20), (1, 8), (-1, 1), (-0.1, 0.1)))
        log = np.log(x)
        more = p3 * log**2 if terms > 3 else 0.0
        return p1 * np.log1p(-x) - p2 * log - more - (p4 * log**3 if terms > 4 else 0.0)

    return shape


def _power(x: np.ndarray, t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return -np.log1p(t / np.exp(rng.uniform(np.log(0.1), np.log(5), (len(t), 1))))


def _modified(x: np.ndarray, t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return -((t + 0.1) ** rng.uniform(0.5, 1.8, (len(t), 1)))


def _ua2(x: np.ndarray, t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return -rng.uniform(0, 4, (len(x), 1)) * np.log(x) - rng.uniform(1, 10, (len(x), 1)) * x - rng.uniform(
        0, 10, (len(x), 1)
    ) * x**2  # fmt: skip


def _two_exponentials(x: np.ndarray, t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    a, b = rng.uniform(4, 15, (len(t), 1)), rng.uniform(1, 4, (len(t), 1))
    share = np.exp(rng.uniform(np.log(1e-3), np.log(0.3), (len(t), 1)))
    return np.log(np.exp(-a * t) + share * np.exp(-b * t))


FAMILIES: Mapping[str, Shape] = {
    "dijet3": _dijet(3),
    "dijet4": _dijet(4),
    "dijet5": _dijet(5),
    "exponential": lambda x, t, rng: -t,
    "power": _power,
    "modified": _modified,
    "ua2": _ua2,
    "two_exponentials": _two_exponentials,
}
BINNINGS = ("uniform", "growing")
SIGNAL_SHAPES = ("gaussian", "low_tail")
RANGES = {  # least and most; beyond, Poisson numbers are no longer exact and densities are 0 to a computer
    "bins": (LEAST_BINS, math.inf),
    "yields": (0, 1e12),
    "decades": (0, 30),
    "widths": (0.3, math.inf),
    "signal_widths": (0, math.inf),
    "strengths": (0, math.inf),
}


@dataclasses.dataclass(frozen=True)
class Spectra:
    """Generated spectra with their truth.

    Attributes:
        histograms: N spectra of up to B bins.
        background: (N, B) events expected without signal, 0 beyond a spectrum's own bins.
        resolution: (N, B) standard deviation of a narrow resonance in the middle of every bin, in the unit of the edges.
        signal: (N,) signal events expected within the range, 0 without signal. place, width: (N,) its mean and standard
            deviation.
        family: (N,) places of the background's family in the generator's `families`.
    """

    histograms: Histograms
    background: np.ndarray
    resolution: np.ndarray
    signal: np.ndarray
    place: np.ndarray
    width: np.ndarray
    family: np.ndarray

    def __len__(self) -> int:
        return len(self.histograms)

    def ideal(self) -> np.ndarray:
        """Significance (N, B) at every bin with the true background, see `ideal_significance`."""
        h = self.histograms
        return ideal_significance(h.counts, self.background, h.edges, self.resolution, h.bins)


@dataclasses.dataclass(frozen=True)
class Generator:
    """Draws spectra: what is drawn depends on `seed` and the number of the draw alone.

    Args:
        families: of background shapes, some of `FAMILIES`.
        bins: fewest and most bins.
        binnings: "uniform", and "growing", where bins get wider with the mass by a drawn power.
        yields: smallest and largest number of background events in the fullest bin; logarithmically uniform between.
        decades: how far the density falls over the range, powers of ten, uniform between.
        turn_on: share of spectra that rise first, as (1 + erf) / 2 at the low end.
        widths: smallest and largest resolution in bins, logarithmically uniform; within a spectrum with narrowing or
            growing by a power of the mass.
        signal_share: of spectra with a bump.
        signal_shapes: "gaussian", and "low_tail", where 30 % of the events are in a Gaussian of twice the width that
            sits one width lower, as from radiation or losses.
        signal_widths: smallest and largest width of a bump, in units of the resolution.
        strengths: smallest and largest expected significance of a bump.
        seed: fixes everything.

    Raises `InputError` naming an argument that is not possible.

    Example:
        >>> spectra = Generator(bins=(30, 60), seed=1).draw(100, number=0)
        >>> len(spectra), bool((spectra.histograms.bins >= 30).all()), spectra.ideal().shape == spectra.background.shape
        (100, True, True)
    """

    families: tuple[str, ...] = tuple(FAMILIES)
    bins: tuple[int, int] = (30, 120)
    binnings: tuple[str, ...] = BINNINGS
    yields: tuple[float, float] = (30.0, 1e6)
    decades: tuple[float, float] = (0.5, 6.0)
    turn_on: float = 0.0
    widths: tuple[float, float] = (0.8, 4.0)
    signal_share: float = 0.7
    signal_shapes: tuple[str, ...] = ("gaussian",)
    signal_widths: tuple[float, float] = (0.9, 1.1)
    strengths: tuple[float, float] = (1.0, 12.0)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("families", FAMILIES), ("binnings", BINNINGS), ("signal_shapes", SIGNAL_SHAPES)):
            chosen = getattr(self, name)
            if not isinstance(chosen, (list, tuple)) or not chosen or any(one not in tuple(known) for one in chosen):
                raise InputError(f"{name}={chosen!r} is not possible; expected some of {', '.join(known)}")
        for name, (least, most) in RANGES.items():
            pair = getattr(self, name)
            if not _is_range(pair, least, most, whole=name == "bins", above=name in ("yields", "signal_widths")):
                kind = "whole numbers" if name == "bins" else "numbers"
                upper = "" if most == math.inf else f" and <= {most:g}"
                raise InputError(
                    f"{name}={pair!r} is not possible; expected two {kind} >= {least}{upper}, low and high"
                )
        for name in ("turn_on", "signal_share"):
            if not _is_range((getattr(self, name),) * 2, 0, 1):
                raise InputError(f"{name}={getattr(self, name)!r} is not possible; expected a share, 0 to 1")
        if not _is_range((self.seed,) * 2, 0, math.inf, whole=True):
            raise InputError(f"seed={self.seed!r} is not possible; expected a whole number >= 0")

    def draw(self, n: int, number: int = 0) -> Spectra:
        """Return n spectra; the same `number` gives the same."""
        rng = np.random.default_rng([self.seed, number])
        bins = rng.integers(self.bins[0], self.bins[1] + 1, n)
        edges = self._edges(bins, rng)
        family = rng.integers(len(self.families), size=n)
        background = self._background(edges, bins, family, rng)
        resolution = self._resolution(edges, bins, rng)
        expected, events, place, width = self._signal(background, edges, bins, resolution, rng)
        counts = rng.poisson(background + expected).astype(np.float64)
        names = tuple(f"{self.families[k]} {number}.{i}" for i, k in enumerate(family))
        return Spectra(Histograms(counts, edges, bins, names), background, resolution, events, place, width, family)

    def provenance(self) -> dict[str, object]:
        """Return what a run's configuration says of its data: the settings, and their SHA-256."""
        settings = json.loads(json.dumps(dataclasses.asdict(self)))
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        return {"source": "generated spectra", "files": [], "generator": settings, "sha256": digest}

    def background_only(self) -> Generator:
        """Return the generator of the same spectra without signal."""
        return dataclasses.replace(self, signal_share=0.0)

    def _edges(self, bins: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Edges (N, B + 1): equal steps in m^q, q = 1 for uniform bins, towards 0 for such in proportion to the mass."""
        n = len(bins)
        ratio = np.exp(rng.uniform(np.log(1.5), np.log(10), (n, 1)))  # last edge over first
        uniform = np.array([one == "uniform" for one in self.binnings])[rng.integers(len(self.binnings), size=(n, 1))]
        q = np.where(uniform, 1.0, rng.uniform(0.05, 0.9, (n, 1)))
        step = np.arange(self.bins[1] + 1) / bins[:, None]
        return 1000.0 * (1.0 + step * (ratio**q - 1.0)) ** (1.0 / q)

    def _background(
        self, edges: np.ndarray, bins: np.ndarray, family: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Events expected (N, B), by Simpson's rule in every bin."""
        middles = 0.5 * (edges[:, 1:] + edges[:, :-1])
        points = np.empty((len(bins), 2 * edges.shape[1] - 1))
        points[:, ::2], points[:, 1::2] = edges, middles
        own = np.arange(points.shape[1]) <= 2 * bins[:, None]
        last = edges[np.arange(len(bins)), bins][:, None]
        points = np.where(own, points, last)
        t = (points - points[:, :1]) / (last - points[:, :1])
        log = self._falling(points, t, last, family, rng)
        if self.turn_on:
            rises = rng.uniform(size=(len(bins), 1)) < self.turn_on
            width = rng.uniform(0.02, 0.1, (len(bins), 1))
            log = log + np.where(rises, np.log(np.maximum(ndtr(t / width - rng.uniform(0, 1.5, width.shape)), 1e-9)), 0)
        density = np.exp(log)
        each = (density[:, :-2:2] + 4 * density[:, 1:-1:2] + density[:, 2::2]) / 6 * np.diff(edges, axis=1)
        each = np.where(np.arange(each.shape[1]) < bins[:, None], each, 0.0)
        fewest, most = np.log(self.yields)
        fullest = np.exp(rng.uniform(fewest, most, (len(bins), 1)))
        return each * (fullest / each.max(1, keepdims=True))

    def _falling(
        self, points: np.ndarray, t: np.ndarray, last: np.ndarray, family: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Logarithm of the density, 0 at the first edge, that falls everywhere, by the decades drawn in all."""
        log, wanted = np.zeros_like(points), np.ones(len(points), bool)
        fall = rng.uniform(*self.decades, (len(points), 1)) * np.log(10)
        while wanted.any():  # a few shapes rise somewhere: these are drawn again
            for k, name in enumerate(self.families):
                rows = np.flatnonzero(wanted & (family == k))
                x = points[rows] / last[rows] * rng.uniform(0.3, 0.9, (len(rows), 1))
                log[rows] = FAMILIES[name](x, t[rows], rng)
            wanted = np.asarray((np.diff(log, axis=1) > 0).any(1))
        log -= log[:, :1]
        return log * (fall / np.maximum(-log[:, -1:], 1e-12))

    def _resolution(self, edges: np.ndarray, bins: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Resolution (N, B): proportional to m^p, and within `widths` of bins where it is drawn, in the middle."""
        rows, middle = np.arange(len(bins)), bins // 2
        centres, steps = 0.5 * (edges[:, 1:] + edges[:, :-1]), np.diff(edges, axis=1)
        narrowest, widest = np.log(self.widths)
        in_bins = np.exp(rng.uniform(narrowest, widest, (len(bins), 1)))
        power = rng.uniform(0, 1, (len(bins), 1))
        sigma = in_bins * steps[rows, middle][:, None] * (centres / centres[rows, middle][:, None]) ** power
        return np.clip(sigma, self.widths[0] * steps, self.widths[1] * steps)

    def _signal(
        self,
        background: np.ndarray,
        edges: np.ndarray,
        bins: np.ndarray,
        resolution: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Signal events expected (N, B), their sum, place and width (N,)."""
        n, rows = len(bins), np.arange(len(bins))
        has = rng.uniform(size=n) < self.signal_share
        at = (rng.uniform(size=n) * bins).astype(int)
        place = edges[rows, at] + rng.uniform(size=n) * (edges[rows, at + 1] - edges[rows, at])
        width = resolution[rows, at] * rng.uniform(*self.signal_widths, n)
        tailed = np.array([one == "low_tail" for one in self.signal_shapes])[
            rng.integers(len(self.signal_shapes), size=n)
        ]
        tail = np.where(tailed, 0.3, 0.0)[:, None]
        cumulated = (1 - tail) * _cumulated(edges, place, width) + tail * _cumulated(edges, place - width, 2 * width)
        shape = np.where(background > 0, np.diff(cumulated, axis=1), 0.0)
        events = _yield_of(rng.uniform(*self.strengths, n), shape, background)
        expected = np.where(has, events, 0.0)[:, None] * shape
        return expected, expected.sum(1), place, width


def _is_range(pair: object, least: float, most: float, whole: bool = False, above: bool = False) -> bool:
    """Whether it is two numbers, low and high, from `least` on, or only `above` it, to `most`."""
    kind = numbers.Integral if whole else numbers.Real
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        return False
    if any(not isinstance(one, kind) or isinstance(one, bool) for one in pair):
        return False
    low, high = pair
    return least <= low <= high <= most and high < math.inf and not (above and low == least)


def _cumulated(edges: np.ndarray, place: np.ndarray, width: np.ndarray) -> np.ndarray:
    return ndtr((edges - place[:, None]) / width[:, None])


def _yield_of(strength: np.ndarray, shape: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Signal events (N,) whose expected significance, of Asimov's data set, is `strength`.

    Z^2 = 2 sum_j (b + s g) ln(1 + s g / b) - s g rises with s (Cowan et al. 2011, arXiv:1007.1727, eq. 97): bisection.
    """
    safe = np.where(background > 0, background, 1.0)
    low, high = np.full(len(shape), -10.0), np.full(len(shape), 20.0)  # of ln s
    for _ in range(30):
        middle = 0.5 * (low + high)
        s = np.exp(middle)[:, None] * shape
        q = 2 * ((safe + s) * np.log1p(s / safe) - s).sum(1)
        low, high = np.where(q < strength**2, middle, low), np.where(q < strength**2, high, middle)
    return np.exp(low)


# -- the target ------------------------------------------------------------------------------------------


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    try:  # kept beside this file or in the user's cache folder; where neither can be written to, compiled anew
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:
        return numba.njit(nogil=True, error_model="numpy")(function)


REACH = 4.0  # standard deviations of the Gaussian on either side that are looked at


def ideal_significance(
    counts: np.ndarray, background: np.ndarray, edges: np.ndarray, resolution: np.ndarray, bins: np.ndarray
) -> np.ndarray:
    """Return the significance (N, B) of a Gaussian signal at every bin, the background being known.

    At bin i with the template g_j, the share of a Gaussian of mean (middle of bin i) and standard deviation
    `resolution[i]` that falls into bin j,

        Z_i = sign(s) sqrt(2 ln L(s) / L(0)),    L(s) = prod_j Poisson(n_j | b_j + s g_j),

    s the number of signal events that maximises L; it may be negative, down to where b + s g is 0 in some bin. The
    product is over bins within 4 standard deviations.

    Args:
        counts, background: (N, B), the background > 0 in own bins. edges: (N, B + 1). resolution: (N, B), > 0.
        bins: (N,), how many bins each has; beyond them Z is 0.

    Example:
        >>> background = np.full((1, 20), 100.0)
        >>> counts = background.copy(); counts[0, 10] = 150
        >>> z = ideal_significance(counts, background, np.arange(21.0)[None], np.full((1, 20), 0.1), np.array([20]))
        >>> print(z[0, 10].round(3), (2 * (150 * np.log(1.5) - 50)) ** 0.5)
        4.652 4.651...
    """
    arrays = (np.ascontiguousarray(a, np.float64) for a in (counts, background, edges, resolution))
    return _significances(*arrays, np.ascontiguousarray(bins, np.int64), REACH)


@_compiled
def _significances(counts: Any, background: Any, edges: Any, resolution: Any, bins: Any, reach: float) -> Any:
    found = np.zeros(counts.shape)
    template = np.empty(counts.shape[1])
    for row in range(len(counts)):
        n, b, edge = counts[row], background[row], edges[row]
        for i in range(bins[row]):
            centre, scale = 0.5 * (edge[i] + edge[i + 1]), math.sqrt(0.5) / resolution[row, i]
            first, last = i, i + 1
            while first > 0 and (centre - edge[first]) * scale < reach * math.sqrt(0.5):
                first -= 1
            while last < bins[row] and (edge[last] - centre) * scale < reach * math.sqrt(0.5):
                last += 1
            below = math.erf((edge[first] - centre) * scale)
            for j in range(first, last):
                above = math.erf((edge[j + 1] - centre) * scale)
                template[j] = 0.5 * (above - below)
                below = above
            found[row, i] = _significance(n[first:last], b[first:last], template[first:last])
    return found


@_compiled
def _significance(n: Any, b: Any, g: Any) -> Any:
    """Signed significance of the template g on top of b."""
    lowest, slope, seen = -np.inf, 0.0, 0.0
    for j in range(len(n)):
        if g[j] > 0:
            lowest = max(lowest, -b[j] / g[j])
            slope += g[j] * (n[j] / b[j] - 1.0)
            seen += n[j]
    if seen == 0:  # ln L falls all the way
        total = 0.0
        for j in range(len(n)):
            total += g[j]
        return -math.sqrt(max(0.0, -2.0 * lowest * total))
    # d ln L / ds is convex and falls, so Newton's steps, once left of the root, approach it from there
    s, low, high = 0.0, lowest, np.inf if slope > 0 else 0.0
    for _ in range(60):
        slope, curvature = 0.0, 0.0
        for j in range(len(n)):
            if g[j] > 0:
                share = g[j] / (b[j] + s * g[j])
                slope += n[j] * share - g[j]
                curvature += n[j] * share * share
        if slope > 0:
            low = s
        else:
            high = s
        following = s + slope / curvature if curvature > 0 else low
        if not low < following < high:
            following = 0.5 * (low + high)
        if abs(following - s) <= 1e-7 * (1e-3 + abs(s)) or high - low <= 1e-9:
            s = following
            break
        s = following
    q = 0.0
    for j in range(len(n)):
        if g[j] > 0:
            ratio = s * g[j] / b[j]
            q -= s * g[j]
            if n[j] > 0:
                q += n[j] * math.log1p(ratio)
    return math.copysign(math.sqrt(max(0.0, 2.0 * q)), s)
