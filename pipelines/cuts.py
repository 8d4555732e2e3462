"""Selections of a bump hunt: cuts on the score, and the binned spectra before and after each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from pipelines.errors import InputError
from pipelines.spectra import Scan, Spectrum, adaptive_edges, bin_of, scan, spectrum, tomography

TAILS = {"upper": ("upper",), "lower": ("lower",), "both": ("upper", "lower")}


@dataclasses.dataclass(frozen=True)
class Selection:
    """A spectrum before and after one cut on the score, in the bins and windows in which it is scanned."""

    name: str
    percentile: float
    tail: str
    threshold: float
    chosen: np.ndarray  # (N,) bool: beyond the cut, also where outside this spectrum's range
    events: int
    before: Spectrum
    selected: Spectrum
    mass_before: np.ndarray  # (B,) sum of weight * mass
    mass_selected: np.ndarray
    options: dict[str, object]  # of `scan`

    def scan(self, histograms: np.ndarray) -> Scan:
        return scan(histograms / self.unit, self.before.content / self.unit, **self.options)

    def tomography(self) -> Scan:
        return tomography(self.selected.content / self.unit, self.before.content / self.unit, **self.options)

    @property
    def unit(self) -> float:
        """Weight of an equivalent unweighted event (Bohm and Zech 2014), 1 without weights.

        That of all events, selected or not, which no shuffling of the scores changes.
        """
        return self.before.variance.sum() / self.before.content.sum()


def ranges_of(masses, mass_range) -> dict[str, tuple[float, float]]:
    """Return the range of every spectrum, GeV."""
    given = dict(mass_range) if isinstance(mass_range, Mapping) else dict.fromkeys(masses, mass_range)
    unknown = set(given) - set(masses)
    if unknown:
        raise InputError(f"mass_range names {', '.join(sorted(unknown))}, expected some of {', '.join(masses)}")
    whole = {name: (mass.min(), mass.max()) for name, mass in masses.items()}
    return whole | {name: tuple(ends) for name, ends in given.items() if ends is not None}


def equal_edges(name: str, mass: np.ndarray, mass_range: tuple[float, float], bins: int) -> np.ndarray:
    """Return the edges of equal bins over the range of one spectrum, GeV."""
    if len(mass_range) != 2:
        raise InputError(f"{name}: range {mass_range}, expected its two ends in GeV")
    low, high = mass_range
    if not (np.isfinite([low, high]).all() and low < high):
        raise InputError(f"{name}: range {low:g} to {high:g} GeV, expected the lower end first")
    if not ((mass >= low) & (mass <= high)).any():
        raise InputError(
            f"{name}: no event within {low:g} to {high:g} GeV, masses are {mass.min():g} to {mass.max():g}; "
            f"is the unit right?"
        )
    return np.linspace(low, high, bins + 1)


def cuts_of(score, weight, percentiles, tails) -> Iterator[tuple[float, str, float, np.ndarray]]:
    """Yield percentile, tail, threshold and chosen events (N,) of every selection."""
    for percentile in percentiles:
        for tail in tails:
            sign = 1.0 if tail == "upper" else -1.0
            cut = np.percentile(sign * score, percentile, method="inverted_cdf", weights=weight)
            chosen = sign * score > cut
            if not chosen.any():
                raise InputError(
                    f"no score is beyond {sign * cut:g}, the cut of percentile {percentile:g} in the {tail} tail: the "
                    f"scores are (nearly) constant, or the events too few"
                )
            yield float(percentile), tail, sign * float(cut), chosen


def selection_of(name, mass, edges, cut, weight, relative_error, options) -> Selection:
    percentile, tail, threshold, chosen = cut
    before = spectrum(mass, edges, weight)
    selected = spectrum(mass[chosen], edges, None if weight is None else weight[chosen])
    events = int(np.count_nonzero(bin_of(mass[chosen], edges) < len(edges) - 1))
    where = f"percentile {percentile:g}, {tail} tail: {events} selected events in {name}"
    if relative_error is not None:
        try:
            edges = adaptive_edges(before * chosen.mean(), relative_error)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        before, selected = before.merged(edges), selected.merged(edges)
    elif events < len(edges) - 1:
        raise InputError(f"{where}, fewer than {len(edges) - 1} bins; select more, or take fewer bins, or merge them")
    moment = mass if weight is None else weight * mass
    moments = (spectrum(mass[some], edges, moment[some]).content for some in (slice(None), chosen))
    options = options | {"widths": _widths(before, selected, options["widths"], options["side_band"], where)}
    return Selection(name, percentile, tail, threshold, chosen, events, before, selected, *moments, options)


def _widths(before: Spectrum, selected: Spectrum, widths, side_band: int, where: str) -> tuple[int, int]:
    """Return the widths of windows that leave a side band; raises `InputError` if there are none."""
    filled = np.ptp(np.flatnonzero(before.content)) + 1
    widest = min(widths[1], int(filled) - max(2 * side_band, 1))
    if widest < widths[0]:
        raise InputError(
            f"{where} fill {filled} bins, too few for a window of {widths[0]} and side bands; select more events, or "
            f"take narrower windows, or bins of larger error"
        )
    if np.lib.stride_tricks.sliding_window_view(selected.content, widest).sum(axis=1).max() == selected.content.sum():
        raise InputError(f"{where} are all in one window: its side bands are empty; select more, or widen the range")
    return widths[0], widest
