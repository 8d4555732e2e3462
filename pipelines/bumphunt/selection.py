"""Selections of a bump hunt: cuts on the score, and the binned spectra before and after each of them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from pipelines.arguments import argument
from pipelines.bumphunt.bump_scan import bump_scan, tomography
from pipelines.bumphunt.fitted_scan import BestWindows
from pipelines.bumphunt.mass_cut import absorbed, bin_masses, check_ties, degree_of, following_thresholds
from pipelines.bumphunt.options import BumpHuntOptions, Range, numbers
from pipelines.bumphunt.spectrum import Spectrum, adaptive_edges, bin_of, histogram
from pipelines.errors import InputError

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
    widths: tuple[int, int]  # of the windows that leave side bands, in bins
    options: BumpHuntOptions
    curve: Curve | None = None

    def best_windows(self, histograms: np.ndarray) -> BestWindows:
        """Return the most significant window of each of T histograms (B, T) of selected events."""
        return bump_scan(
            self.in_events(histograms), self.in_events(self.before.content), widths=self.widths,
            side_band=self.options.side_band, deficit=self.options.deficit, statistic=self.options.statistic,
        )  # fmt: skip

    def tomography(self) -> BestWindows:
        """Return the p-value of every window of the selected spectrum."""
        return tomography(
            self.in_events(self.selected.content), self.in_events(self.before.content), widths=self.widths,
            side_band=self.options.side_band, deficit=self.options.deficit, statistic=self.options.statistic,
        )  # fmt: skip

    def in_events(self, contents: np.ndarray) -> np.ndarray:
        """Return contents as numbers of equivalent unweighted events, whole ones for Fisher's test: weights are equal then."""
        found: np.ndarray = contents / self.unit
        return np.rint(found) if self.options.statistic == "fisher" else found

    def absorbed(self, window: slice) -> float:
        """Return the share of an excess in a window of bins that t(m) takes away; 0 for one threshold for all masses."""
        if self.curve is None:
            return 0.0
        return absorbed(self.before.content, bin_masses(self.before), self.curve.degree, window)

    @property
    def unit(self) -> float:
        """Weight of an equivalent unweighted event (Bohm and Zech 2014), 1 without weights.

        That of all events, selected or not, which no shuffling of the scores changes.
        """
        return float(self.before.variance.sum() / self.before.content.sum())


def ranges_of(
    masses: Mapping[str, np.ndarray], mass_range: Range | Mapping[str, Range | None] | None
) -> dict[str, Range]:
    """Return the range of every spectrum, GeV; raises `InputError` for what is no range."""
    by_name = mass_range if isinstance(mass_range, Mapping) else dict.fromkeys(masses, mass_range)
    unknown = set(by_name) - set(masses)
    if unknown:
        raise InputError(f"mass_range names {', '.join(sorted(unknown))}, expected some of {', '.join(masses)}")
    ranges = {}
    for name, mass in masses.items():
        ends = by_name.get(name)
        low, high = numbers(
            f"{name}: range", (mass.min(), mass.max()) if ends is None else ends, 2, "its two ends in GeV"
        )
        ranges[name] = (low, high)
    return ranges


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


def check_weights(weight: np.ndarray | None) -> None:
    """Raise `InputError` for weights (N,) of which no percentile can be taken: below 0, or all 0.

    >>> check_weights(None)
    """
    if weight is not None and (weight.min() < 0 or not weight.any()):
        raise InputError(
            f"weight: {weight.min():g} to {weight.max():g}, expected numbers >= 0, and some above; to count all "
            f"events alike give {argument('ignore_weights', True)}"
        )


def check_events(
    masses: Mapping[str, np.ndarray],
    edges: Mapping[str, np.ndarray],
    weight: np.ndarray | None,
    options: BumpHuntOptions,
) -> None:
    """Raise `InputError` for what cannot be hunted in, whatever the scores will be: known before hours of training.

    That is a weight below 0; with Fisher's test weights that differ, or events outside a spectrum; and a percentile that leaves no
    window with side bands of the spectrum before the cut. The message names a percentile that does.
    """
    check_weights(weight)
    if options.statistic == "fisher":
        _check_unweighted(masses, edges, weight)
    for name, mass in masses.items():
        events = int(np.count_nonzero(bin_of(mass, edges[name]) < len(edges[name]) - 1))
        before = histogram(mass, edges[name], weight)
        binning = partial(expected, name, options.cuts[0][1], before, events, options)
        for percentile in options.several_percentiles:
            try:
                binning(percentile)
            except InputError as error:
                easier = _first(binning, [(p,) for p in EASIER if p < percentile])
                more = _first(binning, [(percentile, times) for times in MORE])
                advice = [f"percentile {easier[0]:g} leaves enough"] if easier else []
                advice += [f"{more[1]} times as many events would do"] if more else []
                raise InputError("; ".join([str(error), *advice])) from None


def expected(
    name: str,
    tail: str,
    before: Spectrum,
    events: float,
    options: BumpHuntOptions,
    percentile: float,
    times: float = 1.0,
) -> tuple[Spectrum, Spectrum, tuple[int, int]]:
    """Return what `binned` does of a cut whose scores know nothing of the mass, in so many times these events."""
    before, events = before * times, events * times
    selected = int((1 - percentile / 100) * events + 1e-6)  # 10 % of 50 are 5, not 4.999...
    share, where = selected / events, _where(name, percentile, tail, selected)
    return binned(before, before * share, share, selected, options, where)


def _first(possible: Callable[..., object], candidates: Iterable[tuple[float, ...]]) -> tuple[float, ...] | None:
    """Return the first arguments that `possible` takes without an `InputError`, or None."""
    for arguments in candidates:
        with contextlib.suppress(InputError):
            possible(*arguments)
            return arguments
    return None


def _check_unweighted(
    masses: Mapping[str, np.ndarray], edges: Mapping[str, np.ndarray], weight: np.ndarray | None
) -> None:
    outside = [name for name, mass in masses.items() if (bin_of(mass, edges[name]) == len(edges[name]) - 1).any()]
    if outside or (weight is not None and np.ptp(weight) > 0):
        found = f"some are outside the range of {outside[0]}" if outside else "their weights differ"
        raise InputError(
            f"statistic 'fisher' needs events of one weight, all within the range of every spectrum, and {found}; take "
            f"'poisson', ignore the weights, or hunt in one spectrum"
        )


CURVE_POINTS = 401  # masses at which a threshold that follows the mass is written down; between them it is linear


@dataclasses.dataclass(frozen=True)
class Curve:
    """A threshold t(m) on the score, by its values at rising masses; linear between them, constant outside.

    Attributes:
        mass: (P,) GeV. threshold: (P,) scores. degree: of the polynomial that it is.

    >>> curve = Curve((3000.0, 4000.0), (1.0, 2.0), 1)
    >>> print(curve.at(np.array([3500.0])), curve.beyond(np.array([1.6, 1.4]), np.array([3500.0, 3500.0]), "upper"))
    [1.5] [ True False]
    """

    mass: tuple[float, ...]
    threshold: tuple[float, ...]
    degree: int

    def at(self, mass: ArrayLike) -> np.ndarray:
        """Return t at masses (N,)."""
        return np.interp(np.asarray(mass, np.float64), self.mass, self.threshold)

    def beyond(self, score: np.ndarray, mass: np.ndarray, tail: str) -> np.ndarray:
        """Return which events (N,) are beyond t in the upper or lower tail."""
        t = self.at(mass)
        selected: np.ndarray = score > t if tail == "upper" else score < t
        return selected


@dataclasses.dataclass(frozen=True)
class Cut:
    """A cut on the score: its percentile, tail and threshold, and the events beyond it, (N,) bool.

    Of a cut that follows the mass the threshold is that at the median mass, and `curve` is t(m).
    """

    percentile: float
    tail: str
    threshold: float
    chosen: np.ndarray
    curve: Curve | None = None


def cuts_of(
    name: str,
    score: np.ndarray,
    mass: np.ndarray,
    edges: np.ndarray,
    weight: np.ndarray | None,
    options: BumpHuntOptions,
) -> Iterator[Cut]:
    """Yield the cuts for a spectrum, of the kind that the options ask for."""
    return (
        mass_cuts(name, score, mass, edges, weight, options)
        if options.cut == "mass"
        else global_cuts(score, weight, options)
    )


def mass_cuts(
    name: str,
    score: np.ndarray,
    mass: np.ndarray,
    edges: np.ndarray,
    weight: np.ndarray | None,
    options: BumpHuntOptions,
) -> Iterator[Cut]:
    """Yield the cuts that follow the mass of one spectrum, fitted to the events within its range."""
    ends = float(edges[0]), float(edges[-1])
    inside = bin_of(mass, edges) < len(edges) - 1
    mine, weights = score[inside], None if weight is None else weight[inside]
    before, events = histogram(mass, edges, weight), int(np.count_nonzero(inside))
    degrees = []
    for percentile, tail in options.cuts:  # before any score is looked at
        binned_before, _, widths = expected(name, tail, before, events, options, percentile)
        degrees.append(degree_of(binned_before, widths))
    fitted = following_thresholds(mine, mass[inside], weights, ends, options.cuts, degrees)
    grid = np.linspace(*ends, CURVE_POINTS)
    for (percentile, tail), threshold, degree in zip(options.cuts, fitted, degrees):
        t = threshold.at(grid)
        check_ties(mine, t, (1 - percentile / 100) * events, f"percentile {percentile:g} in the {tail} tail of {name}")
        curve = Curve(tuple(grid.tolist()), tuple(t.tolist()), degree)
        chosen = curve.beyond(score, mass, tail)
        if not chosen[inside].any():
            raise InputError(
                f"no score is beyond the cut of percentile {percentile:g} in the {tail} tail of {name}: the scores are "
                f"(nearly) constant, or the events too few"
            )
        yield Cut(percentile, tail, float(curve.at(np.median(mass[inside]))), chosen, curve)


def global_cuts(score: np.ndarray, weight: np.ndarray | None, options: BumpHuntOptions) -> Iterator[Cut]:
    """Yield the cuts at one threshold for all masses, as in the papers."""
    for percentile, tail in options.cuts:
        sign = 1.0 if tail == "upper" else -1.0
        threshold = np.percentile(sign * score, percentile, method="inverted_cdf", weights=weight)
        chosen = sign * score > threshold
        if not chosen.any():
            raise InputError(
                f"no score is beyond {sign * threshold:g}, the cut of percentile {percentile:g} in the {tail} tail: the "
                f"scores are (nearly) constant, or the events too few"
            )
        yield Cut(percentile, tail, sign * float(threshold), chosen)


def selection_of(
    name: str, mass: np.ndarray, edges: np.ndarray, cut: Cut, weight: np.ndarray | None, options: BumpHuntOptions
) -> Selection:
    """Return the spectra before and after a cut, in bins and windows that fit; raises `InputError` if none do."""
    chosen = cut.chosen
    before = histogram(mass, edges, weight)
    selected = histogram(mass[chosen], edges, None if weight is None else weight[chosen])
    share = chosen.mean() if weight is None else weight[chosen].sum() / weight.sum()
    events = int(np.count_nonzero(bin_of(mass[chosen], edges) < len(edges) - 1))
    where = _where(name, cut.percentile, cut.tail, events)
    before, selected, widths = binned(before, selected, float(share), events, options, where)
    moment = mass if weight is None else weight * mass
    return Selection(
        name=name,
        percentile=cut.percentile,
        tail=cut.tail,
        threshold=cut.threshold,
        chosen=chosen,
        events=events,
        before=before,
        selected=selected,
        mass_before=histogram(mass, before.edges, moment).content,
        mass_selected=histogram(mass[chosen], before.edges, moment[chosen]).content,
        widths=widths,
        options=options,
        curve=cut.curve,
    )


def _where(name: str, percentile: float, tail: str, events: int) -> str:
    return f"percentile {percentile:g}, {tail} tail: {events} selected events in {name}"


def binned(
    before: Spectrum, selected: Spectrum, share: float, events: float, options: BumpHuntOptions, where: str
) -> tuple[Spectrum, Spectrum, tuple[int, int]]:
    """Return both spectra in merged bins, and the widths of windows that leave side bands.

    Bins are merged until the error expected of the `share` selected is below the limit. Raises `InputError`, about
    `where`, if there are too few events for one window.
    """
    if options.relative_error is not None:
        try:
            edges = adaptive_edges(before * share, options.relative_error)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        before, selected = before.merged(edges), selected.merged(edges)
    elif events < (bins := len(before.content)):
        raise InputError(f"{where}, fewer than {bins} bins; select more, or take fewer bins, or merge them")
    return before, selected, _widths(before, selected, options.widths, options.side_band, where)


def _widths(
    before: Spectrum, selected: Spectrum, widths: tuple[int, int], side_band: int, where: str
) -> tuple[int, int]:
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
