"""Binned mass spectra: histograms with errors, adaptive bins, and a reference normalised by side bands."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from pipelines.errors import InputError
from pipelines.moved import moved_names

RELATIVE_ERROR = 0.15  # of a bin at most, GAN-AE sec. 4.3

__getattr__ = moved_names(
    __name__,
    {
        "spectrum": "pipelines.bumphunt.spectrum.histogram",
        "Scan": "pipelines.bumphunt.fitted_scan.BestWindows",
        "scan": "pipelines.bumphunt.bump_scan.bump_scan",
        **{
            name: f"pipelines.bumphunt.bump_scan.{name}"
            for name in ("WIDTHS", "STATISTICS", "SMALLEST", "tomography", "poisson_p_value")
        },
        **{name: f"pipelines.bumphunt.bumphunter.{name}" for name in ("by_pybumphunter", "inject_by_pybumphunter")},
    },
)


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """A binned mass spectrum: edges (B + 1,) in GeV, content (B,) = sum w, variance (B,) = sum w^2 of every bin."""

    edges: np.ndarray
    content: np.ndarray
    variance: np.ndarray

    @property
    def relative_error(self) -> np.ndarray:
        """Statistical error of every bin over its content, (B,); infinite for an empty bin."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.content > 0, np.sqrt(self.variance) / self.content, np.inf)

    def merged(self, edges: np.ndarray) -> Spectrum:
        """Return this spectrum in wider bins, whose edges are some of its own."""
        bin_of = np.searchsorted(edges, self.edges[:-1], side="right") - 1
        sums = (np.bincount(bin_of, values, len(edges) - 1) for values in (self.content, self.variance))
        return Spectrum(edges, *sums)

    def __mul__(self, factor: float) -> Spectrum:
        """Return the spectrum expected of a random share `factor` of these events: sum w and sum w^2 shrink alike."""
        return Spectrum(self.edges, self.content * factor, self.variance * factor)


def bin_of(mass: ArrayLike, edges: np.ndarray) -> np.ndarray:
    """Return the bin of every mass, (N,); len(edges) - 1 for masses outside. As in NumPy, the last edge is inside.

    >>> print(bin_of(np.array([1.0, 2.0, 3.0, 3.5]), np.array([1.0, 2.0, 3.0])))
    [0 1 1 2]
    """
    masses, outside = np.asarray(mass, np.float64), len(edges) - 1
    index = np.searchsorted(edges, masses, side="right") - 1
    index[masses == edges[-1]] = outside - 1
    return np.where(index < 0, outside, index)


def histogram(mass: ArrayLike, edges: ArrayLike, weight: np.ndarray | None = None) -> Spectrum:
    """Histogram masses (N,) in GeV with weights (N,); masses outside the edges are left out.

    >>> found = histogram(np.array([1.0, 1.5, 2.5]), np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 1.0]))
    >>> print(found.content, found.variance)
    [3. 1.] [5. 1.]
    """
    edges = np.asarray(edges, np.float64)
    index = bin_of(mass, edges)
    weight = np.ones(len(index)) if weight is None else np.asarray(weight, np.float64)
    content, variance = (np.bincount(index, values, len(edges))[:-1] for values in (weight, weight**2))
    return Spectrum(edges, content, variance)


def adaptive_edges(before: Spectrum, relative_error: float = RELATIVE_ERROR) -> np.ndarray:
    """Merge bins from the high end until the relative error of each, sqrt(sum w^2) / sum w, is under a limit.

    This is the binning of GAN-AE sec. 4.3. What is left over at the low end joins the lowest finished bin.

    Args:
        before: the spectrum in the bins to start from. relative_error: the limit, > 0; 0.15 are 45 events a bin.

    Returns:
        The edges that remain, in GeV. Raises `InputError` if all events together are above the limit.

    Example:
        >>> counts = np.array([90.0, 60.0, 30.0, 20.0])
        >>> print(adaptive_edges(Spectrum(np.arange(5.0), counts, counts)))
        [0. 1. 2. 4.]
    """
    if not relative_error > 0:
        raise InputError(f"relative error {relative_error:g}, expected a number above 0, such as {RELATIVE_ERROR:g}")
    kept, content, variance = [len(before.content)], 0.0, 0.0
    for i in reversed(range(len(before.content))):
        content, variance = content + before.content[i], variance + before.variance[i]
        if content > 0 and np.sqrt(variance) < relative_error * content:
            kept.append(i)
            content, variance = 0.0, 0.0
    if len(kept) == 1:
        raise InputError(
            f"all {before.content.sum():.0f} events in one bin have a relative error above {relative_error:g}; "
            f"select more events, or allow a larger error"
        )
    kept[-1] = 0
    return before.edges[kept[::-1]]


def side_band_reference(selected: Spectrum, before: Spectrum, window: slice) -> tuple[Spectrum, float, float]:
    """Scale the spectrum before a selection to the selected events outside a window of bins.

    r_b = f N_b with f = sum_out n / sum_out N, n the selected events and N all. The selected events are some of all,
    so f has the binomial error of an efficiency: var f = f^2 (1 - f) sum_out w^2 / (sum_out n)^2, w the weights of
    the selected events. Without weights that is f (1 - f) / sum_out N.

    Returns:
        The reference; f; its error. Raises `InputError` if no event is outside the window.

    Example:
        >>> edges, n, N = np.arange(4.0), np.array([20.0, 9.0, 5.0]), np.array([200.0, 60.0, 50.0])
        >>> reference, f, error = side_band_reference(Spectrum(edges, n, n), Spectrum(edges, N, N), slice(1, 2))
        >>> print(reference.content, f, round(error, 3))
        [20.  6.  5.] 0.1 0.019
    """
    outside = np.ones(len(before.content), bool)
    outside[window] = False
    n, all_of_them = selected.content[outside].sum(), before.content[outside].sum()
    if not n > 0:
        raise InputError(
            f"no selected event is outside {selected.edges[window.start]:g} to {selected.edges[window.stop]:g} GeV: "
            f"the side bands are empty; widen the mass range, or select more events"
        )
    factor = n / all_of_them
    error = factor * np.sqrt(max(0.0, 1 - factor) * selected.variance[outside].sum()) / n
    scaled = Spectrum(before.edges, before.content * factor, before.variance * factor**2)
    return scaled, float(factor), float(error)
