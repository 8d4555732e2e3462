"""Selections of a bump hunt: cuts on the score, and the binned spectra before and after each of them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from pipelines.bumphunt.spectra import Scan, Spectrum, adaptive_edges, bin_of, scan, spectrum, tomography
from pipelines.errors import InputError

TAILS = {"upper": ("upper",), "lower": ("lower",), "both": ("upper", "lower")}
EASIER = (99.5, 99, 98, 97, 95, 90, 85, 80, 70, 60, 50)  # percentiles to suggest
MORE = (2, 3, 5, 10, 20, 50, 100)  # times as many events, to suggest


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
    """Return the range of every spectrum, GeV; raises `InputError` for what is no range."""
    given = dict(mass_range) if isinstance(mass_range, Mapping) else dict.fromkeys(masses, mass_range)
    unknown = set(given) - set(masses)
    if unknown:
        raise InputError(f"mass_range names {', '.join(sorted(unknown))}, expected some of {', '.join(masses)}")
    whole = {name: (mass.min(), mass.max()) for name, mass in masses.items()}
    return {
        name: tuple(
            numbers(f"{name}: range", ends if given.get(name) is None else given[name], 2, "its two ends in GeV")
        )
        for name, ends in whole.items()
    }


def numbers(name: str, given, count: int | None = None, expected: str = "numbers") -> list[float]:
    """Return numbers as floats; raises `InputError` if they are something else, or not `count` of them.

    >>> numbers("widths", (3, 8), 2)
    [3.0, 8.0]
    """
    found = list(given) if np.iterable(given) and not isinstance(given, str) else [None]
    if not all(isinstance(value, (int, float, np.number)) for value in found) or count not in (None, len(found)):
        raise InputError(f"{name} {given}, expected {expected}")
    return list(map(float, found))


def percentiles_of(percentiles: float | Sequence[float]) -> tuple[float, ...]:
    """Return percentiles, of which one may be given as a number; raises `InputError` if they cannot be.

    >>> percentiles_of(99), percentiles_of([95, 99])
    ((99.0,), (95.0, 99.0))
    """
    expected = "different numbers between 0 and 100, such as 99"
    found = numbers("percentiles", [percentiles] if np.ndim(percentiles) == 0 else percentiles, expected=expected)
    bad = [percentile for percentile in found if not 0 < percentile < 100]
    if bad or not found or len(set(found)) < len(found):
        raise InputError(f"percentiles {', '.join(f'{p:g}' for p in bad or found) or 'none'}, expected {expected}")
    return tuple(found)


def equal_edges(name: str, mass: np.ndarray, mass_range: tuple[float, float], bins: int) -> np.ndarray:
    """Return the edges of equal bins over the range of one spectrum, GeV."""
    low, high = mass_range
    if not (np.isfinite([low, high]).all() and low < high):
        raise InputError(f"{name}: range {low:g} to {high:g} GeV, expected the lower end first")
    if not ((mass >= low) & (mass <= high)).any():
        raise InputError(
            f"{name}: no event within {low:g} to {high:g} GeV, masses are {mass.min():g} to {mass.max():g}; "
            f"is the unit right?"
        )
    return np.linspace(low, high, bins + 1)


def check_events(masses, edges, weight, percentiles, tails: str, relative_error, options) -> None:
    """Raise `InputError` for what cannot be hunted in, whatever the scores will be: known before hours of training.

    That is a weight below 0; with Fisher's test weights, or events outside a spectrum; and a percentile that leaves no
    window with side bands of the spectrum before the cut. The message names a percentile that does.
    """
    if weight is not None and (weight.min() < 0 or not weight.any()):
        raise InputError(f"weight: {weight.min():g} to {weight.max():g}, expected numbers >= 0, and some above")
    if options["statistic"] == "fisher":
        _check_unweighted(masses, edges, weight)
    for name, mass in masses.items():
        events = np.count_nonzero(bin_of(mass, edges[name]) < len(edges[name]) - 1)
        before = spectrum(mass, edges[name], weight)
        binning = partial(expected, name, TAILS[tails][0], before, events, relative_error, options)
        for percentile in percentiles:
            try:
                binning(percentile)
            except InputError as error:
                easier = _first(binning, [(p,) for p in EASIER if p < percentile])
                more = _first(binning, [(percentile, times) for times in MORE])
                advice = [f"percentile {easier[0]:g} leaves enough"] if easier else []
                advice += [f"{more[1]} times as many events would do"] if more else []
                raise InputError("; ".join([str(error), *advice])) from None


def expected(name, tail, before: Spectrum, events: float, relative_error, options, percentile, times=1.0):
    """Return what `binned` does of a cut whose scores know nothing of the mass, in so many times these events."""
    before, events = before * times, events * times
    selected = int((1 - percentile / 100) * events + 1e-6)  # 10 % of 50 are 5, not 4.999...
    share, where = selected / events, _where(name, percentile, tail, selected)
    return binned(before, before * share, share, selected, relative_error, options, where)


def _first(possible, candidates):
    """Return the first arguments that `possible` takes without an `InputError`, or None."""
    for arguments in candidates:
        with contextlib.suppress(InputError):
            possible(*arguments)
            return arguments
    return None


def _check_unweighted(masses, edges, weight) -> None:
    outside = [name for name, mass in masses.items() if (bin_of(mass, edges[name]) == len(edges[name]) - 1).any()]
    if outside or (weight is not None and np.ptp(weight) > 0):
        found = f"some are outside the range of {outside[0]}" if outside else "they have weights"
        raise InputError(
            f"statistic 'fisher' needs unweighted events, all within the range of every spectrum, and {found}; take "
            f"'poisson', ignore the weights, or hunt in one spectrum"
        )


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
    """Return the spectra before and after a cut, in bins and windows that fit; raises `InputError` if none do."""
    percentile, tail, threshold, chosen = cut
    before = spectrum(mass, edges, weight)
    selected = spectrum(mass[chosen], edges, None if weight is None else weight[chosen])
    share = chosen.mean() if weight is None else weight[chosen].sum() / weight.sum()
    events = int(np.count_nonzero(bin_of(mass[chosen], edges) < len(edges) - 1))
    where = _where(name, percentile, tail, events)
    before, selected, widths = binned(before, selected, share, events, relative_error, options, where)
    moment = mass if weight is None else weight * mass
    moments = (spectrum(mass[some], before.edges, moment[some]).content for some in (slice(None), chosen))
    options = options | {"widths": widths}
    return Selection(name, percentile, tail, threshold, chosen, events, before, selected, *moments, options)


def _where(name: str, percentile: float, tail: str, events: int) -> str:
    return f"percentile {percentile:g}, {tail} tail: {events} selected events in {name}"


def binned(before: Spectrum, selected: Spectrum, share: float, events: int, relative_error, options, where: str):
    """Return both spectra in merged bins, and the widths of windows that leave side bands.

    Bins are merged until the error expected of the `share` selected is below the limit. Raises `InputError`, about
    `where`, if there are too few events for one window.
    """
    if relative_error is not None:
        try:
            edges = adaptive_edges(before * share, relative_error)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        before, selected = before.merged(edges), selected.merged(edges)
    elif events < (bins := len(before.content)):
        raise InputError(f"{where}, fewer than {bins} bins; select more, or take fewer bins, or merge them")
    return before, selected, _widths(before, selected, options["widths"], options["side_band"], where)


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
