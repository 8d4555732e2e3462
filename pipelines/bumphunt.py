"""From scores and masses to a significance: select on the score, hunt a bump in the mass of what is selected.

The recipe is that of GAN-AE sec. 4.3: cut at a percentile of the score, take the spectrum before the cut as the
reference, normalise it by side bands, scan with BumpHunter (Choudalakis 2011, arXiv:1101.0390). pyBumpHunter scans
the observed spectrum and says where the bump is. The spectra of the pseudo-experiments are scanned by
`pipelines.spectra.scan`, with the same numbers (tests hold it to pyBumpHunter's) and 7 to 20 times faster
(benchmarks/bumphunt.py).

**What the global p-value means.** Selected events are some of those the reference is made of: given the reference,
their number in a bin has the variance N eps (1 - eps), not N eps. pyBumpHunter's own pseudo-experiments, Poisson
numbers around the reference, do not know that, and their global p-values come out too large, the more so the looser
the cut. Here the scores are shuffled among the events instead: every pseudo-experiment has the observed masses and
the observed scores, dealt anew. If score and mass of background are independent, which is what the method rests on,
all shufflings are equally likely, and the global p-value is exact for every spectrum, binning and percentile: it is a
permutation test. Mean, and Kolmogorov-Smirnov p-value against a uniform distribution, of the global p-values of 300
background-only data sets of 20,000 events (`benchmarks/bumphunt.py --coverage 300`):

| percentile         | Poisson       | shuffled   |
|--------------------|---------------|------------|
| 50                 | 0.82, 7e-73   | 0.50, 0.71 |
| 85                 | 0.59, 7e-07   | 0.51, 0.71 |
| 95                 | 0.51, 0.88    | 0.49, 0.80 |
| 50, 85, 95         | 0.63, 3e-10   | 0.49, 0.52 |
| 85, 95, both tails | 0.55, 8e-04   | 0.49, 0.88 |

All selections, of several percentiles, tails and spectra, are made in the same pseudo-experiments, so the trials
factor knows their correlations. Shuffling single events would be slow, and is not needed: how many events of every
slice of the score fall into every bin is a multivariate hypergeometric number.

**Which statistic.** BumpHunter's Poisson number takes the normalised reference as exact. In windows that leave few
events outside, where the normalisation is uncertain, background alone makes it tiny, and a bump elsewhere has to
compete with that. Fisher's exact test of the same windows (`statistic="fisher"`) knows all that is uncertain. Both
are calibrated alike, but Fisher's finds more where few events are selected: with 60 signal events in 60,000, at the
99th percentile, the median global significance is 1.9 instead of 1.0 to 1.3 (`--power 40`). The Poisson number is the
default because it is what the paper and pyBumpHunter report.

A background whose scores do depend on the mass makes bumps of its own, which no p-value here can tell from a signal:
look at `pipelines.metrics.sculpting` first.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy.stats import hypergeom, norm

from pipelines.errors import InputError
from pipelines.spectra import (
    RELATIVE_ERROR,
    SMALLEST,
    STATISTICS,
    WIDTHS,
    Scan,
    Spectrum,
    adaptive_edges,
    bin_of,
    by_pybumphunter,
    poisson_p_value,
    scan,
    side_band_reference,
    spectrum,
)

BINS = 40  # before merging, GAN-AE sec. 4.3
PSEUDO_EXPERIMENTS = 40_000  # GAN-AE sec. 4.3
TAILS = {"upper": ("upper",), "lower": ("lower",), "both": ("upper", "lower")}
NULLS = ("shuffled", "poisson")
BLOCK = 2**22  # numbers of pseudo-experiments in memory at a time
WEIGHTS = 16  # distinct weights that are kept apart; more are grouped ...
RATIO = 1.5  # ... in classes whose largest weight is this times the smallest: 1.3 % of the variance is lost, at most


def significance(p_value: float) -> float:
    """Return the number of standard deviations, Z = Phi^-1(1 - p), of a one-sided p-value; 0 for p of a half or more.

    >>> round(significance(0.00135), 2), significance(0.8)
    (3.0, 0.0)
    """
    return max(0.0, float(norm.isf(p_value)))


@dataclasses.dataclass(frozen=True)
class Bump:
    """What BumpHunter finds in one selection: one spectrum, percentile and tail of the score.

    Attributes:
        spectrum: its name. percentile, tail: of the selection. threshold: the score cut.
        selected_events: within the mass range.
        local_p_value, local_significance: pyBumpHunter's Poisson number in the best window, the reference taken as
            exact.
        fisher_p_value, fisher_significance: of Fisher's exact test of that window, inside or outside against selected
            or not: with the statistical errors of reference and normalisation. None for weighted events.
        global_p_value, global_significance: of this selection alone, over all windows.
        global_p_value_is_bound: no pseudo-experiment was as extreme: the p-value is below the number given, 1 / n, and
            the significance above.
        interval: edges of the best window, GeV; None if no window has an excess.
        mass_estimate: mean mass of the excess, (sum_selected m - f sum_all m) / (n - f N) over the events of the
            window, f the normalisation, GeV; kept within the interval. The centre of the interval, pyBumpHunter's
            "mean", is far off where bins are merged.
        signal_estimate: events in the window minus reference, n - f N, negative for a deficit. Signal is in the
            reference too: with loose cuts this is too small by its share there.
        normalisation, normalisation_error: factor of the reference, from the events outside the window.
        edges, observed, reference: (B + 1,), (B,), (B,): the binned spectra, the reference normalised.
    """

    spectrum: str
    percentile: float
    tail: str
    threshold: float
    selected_events: int
    local_p_value: float
    local_significance: float
    fisher_p_value: float | None
    fisher_significance: float | None
    global_p_value: float
    global_p_value_is_bound: bool
    global_significance: float
    interval: tuple[float, float] | None
    mass_estimate: float | None
    signal_estimate: float
    normalisation: float
    normalisation_error: float
    edges: tuple[float, ...]
    observed: tuple[float, ...]
    reference: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Hunt:
    """What a hunt found: a `Bump` per selection, and one p-value for all of them together.

    Attributes:
        bumps: in the order of spectra, percentiles, tails.
        global_p_value: P(min over selections of their global p-values is as small as observed), from the same
            pseudo-experiments: the trials factor of windows, percentiles, tails and spectra is in it.
        global_p_value_is_bound: that p-value is an upper bound, `global_significance` a lower one.
        trials_factor: `global_p_value` over the smallest of the bumps' own; None if that is a bound.
        pseudo_experiments, null: their number and kind. statistic: what chose the windows. mode: excess or deficit.
        events: within the mass range.
    """

    bumps: tuple[Bump, ...]
    global_p_value: float
    global_p_value_is_bound: bool
    global_significance: float
    trials_factor: float | None
    pseudo_experiments: int
    null: str
    statistic: str
    mode: str
    events: int

    @property
    def best(self) -> Bump:
        """The bump of smallest global p-value; of equal ones, that of smallest local p-value."""
        return min(self.bumps, key=lambda bump: (bump.global_p_value, bump.local_p_value))

    def to_json(self) -> str:
        """Return everything as JSON text; NaN and infinities do not occur."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False)


@dataclasses.dataclass(frozen=True)
class _Selection:
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

    @property
    def unit(self) -> float:
        """Weight of an equivalent unweighted event (Bohm and Zech 2014), 1 without weights.

        That of all events, selected or not, which no shuffling of the scores changes.
        """
        return self.before.variance.sum() / self.before.content.sum()


def hunt(
    score: np.ndarray,
    mass: np.ndarray | Mapping[str, np.ndarray],
    weight: np.ndarray | None = None,
    *,
    percentiles: Sequence[float] = (99.0,),
    tails: str = "upper",
    mass_range: tuple[float, float] | Mapping[str, tuple[float, float]] | None = None,
    bins: int = BINS,
    relative_error: float | None = RELATIVE_ERROR,
    widths: tuple[int, int] = WIDTHS,
    side_band: int = 0,
    deficit: bool = False,
    statistic: str = "poisson",
    pseudo_experiments: int = PSEUDO_EXPERIMENTS,
    null: str = "shuffled",
    seed: int | np.random.Generator = 0,
) -> Hunt:
    """Select events on their score and hunt a bump in their mass; see the top of this module for the statistics.

    Args:
        score, mass: (N,), mass in GeV. Several masses of the same events, such as those of two and of three jets,
            are hunted together as `{"m_jj": ..., "m_jjj": ...}`; an event outside the range of one is in none of its
            bins.
        weight: (N,) >= 0. Counts are then sum w / s with s = sum w^2 / sum w, a number of equivalent unweighted
            events, so local p-values are approximate. The shuffling calibrates the global ones, if scores of background
            depend neither on the mass nor on the weight; more than 16 distinct weights are grouped for it.
        percentiles: of the score, in (0, 100), among events within the mass range: 99 selects one percent. With
            weights, of the sum of weights. An event at the cut is not selected.
        tails: "upper", "lower" (99 is then the lowest percent), or "both", with its trials factor.
        mass_range: GeV, of one spectrum or by name; by default all masses.
        bins: equal bins over the range. relative_error: bins are merged from the high end until the error of the
            number expected in each, of the selected, is below this (GAN-AE sec. 4.3); None merges nothing.
        widths: narrowest and widest window in (merged) bins; one bin at least is left outside.
        side_band: bins at each end that normalise only. All other bins outside a window always do as well.
        deficit: look for too few events.
        statistic: whose smallest value over windows is compared with pseudo-experiments: "poisson", pyBumpHunter's, or
            "fisher", see above.
        pseudo_experiments: how many.
        null: "shuffled" as above; "poisson", for comparison, Poisson numbers around the reference as pyBumpHunter
            throws them, which forgets that the reference fluctuates.
        seed: of the pseudo-experiments; NumPy's global state is never touched.

    Raises:
        InputError: for scores or masses that are not finite, ranges without events, percentiles outside (0, 100), a
            constant score, and selections with too few events for a window and a side band.

    Example:
        >>> rng = np.random.default_rng(1)
        >>> mass = np.r_[2700 + rng.exponential(500, 20_000), rng.normal(3500, 60, 100)]
        >>> score = np.r_[rng.normal(0, 1, 20_000), rng.normal(3, 1, 100)]
        >>> found = hunt(score, mass, percentiles=[95, 98], mass_range=(2700, 5000), pseudo_experiments=1000)
        >>> 3400 < found.best.mass_estimate < 3600, found.global_p_value, found.global_p_value_is_bound
        (True, 0.001, True)
    """
    masses = dict(mass) if isinstance(mass, Mapping) else {"mass": mass}
    score, masses, weight = _checked_events(score, masses, weight)
    _check_options(
        percentiles, bins, widths, side_band, pseudo_experiments, tails=tails, null=null, statistic=statistic
    )
    mass_range = _ranges(masses, mass_range)
    edges = {name: _edges(name, values, mass_range[name], bins) for name, values in masses.items()}
    inside = np.any([bin_of(masses[name], edges[name]) < bins for name in masses], axis=0)
    masses = {name: values[inside] for name, values in masses.items()}
    score, weight = score[inside], None if weight is None else weight[inside]
    options = {"widths": widths, "side_band": side_band, "deficit": deficit, "statistic": statistic}
    selections = [
        _selection(name, masses[name], edges[name], cut, weight, relative_error, options)
        for name in masses
        for cut in _cuts(score, weight, percentiles, TAILS[tails])
    ]
    observed = [selection.scan(selection.selected.content) for selection in selections]
    minima = np.empty((len(selections), pseudo_experiments))
    thrown = _thrown(selections, masses, edges, weight, pseudo_experiments, null, np.random.default_rng(seed))
    for columns, histograms in thrown:
        for i, (selection, histogram) in enumerate(zip(selections, histograms)):
            minima[i, columns] = _comparable(selection.scan(histogram))
    bumps = tuple(_bump(*each, weight is None) for each in zip(selections, observed, minima))
    together = _together(minima, np.array([_comparable(found)[0] for found in observed]))
    mode = "deficit" if deficit else "excess"
    return _hunt(bumps, together, pseudo_experiments, null=null, statistic=statistic, mode=mode, events=len(score))


def _hunt(bumps: tuple[Bump, ...], together: int, n: int, **about) -> Hunt:
    """Put the bumps of all selections together: in `together` of n pseudo-experiments one was as extreme."""
    p_value, bound = _estimated(together, n)
    bound = bound or any(bump.global_p_value_is_bound for bump in bumps)
    return Hunt(
        bumps=bumps,
        global_p_value=p_value,
        global_p_value_is_bound=bound,
        global_significance=significance(p_value),
        trials_factor=None if bound else p_value / min(bump.global_p_value for bump in bumps),
        pseudo_experiments=n,
        **about,
    )


def _checked_events(score, masses: dict[str, np.ndarray], weight):
    """Return scores, masses and weights as float64; raises `InputError` for what cannot be hunted in."""
    score = np.asarray(score, np.float64)
    masses = {name: np.asarray(values, np.float64) for name, values in masses.items()}
    weight = None if weight is None else np.asarray(weight, np.float64)
    if not masses:
        raise InputError("mass names no spectrum, expected one at least")
    for name, values in {"score": score, **masses, **({} if weight is None else {"weight": weight})}.items():
        if values.shape != score.shape or values.ndim != 1:
            raise InputError(f"{name} has shape {values.shape}, expected ({score.size},), one number for each score")
        bad = np.count_nonzero(~np.isfinite(values))
        if bad or not len(values):
            found = f"{bad} of {len(values)} are NaN or infinite" if bad else "there are no events"
            raise InputError(f"{name}: {found}, expected finite numbers; remove those events, or look at the training")
    if weight is not None and (weight.min() < 0 or not weight.any()):
        raise InputError(f"weight: {weight.min():g} to {weight.max():g}, expected numbers >= 0, and some above")
    return score, masses, weight


def _check_options(percentiles, bins, widths, side_band, pseudo_experiments, **choices) -> None:
    bad = [percentile for percentile in percentiles if not 0 < percentile < 100]
    if bad or len(set(percentiles)) < len(percentiles):
        found = ", ".join(f"{percentile:g}" for percentile in (bad or percentiles))
        raise InputError(f"percentiles {found}, expected different numbers between 0 and 100, such as 99")
    if not len(percentiles) or len(widths) != 2:
        raise InputError(f"percentiles {percentiles}, widths {widths}: expected one of the first and two of the second")
    for name, allowed in {"tails": TAILS, "null": NULLS, "statistic": STATISTICS}.items():
        if choices[name] not in allowed:
            raise InputError(f"{name} {choices[name]!r}, expected one of {', '.join(allowed)}")
    for name, value, least in (
        ("bins", bins, 2),
        ("side_band", side_band, 0),
        ("pseudo_experiments", pseudo_experiments, 1),
        ("widths", widths[0], 1),
        ("widths", widths[1], widths[0]),
    ):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise InputError(f"{name} {value}, expected a whole number of at least {least}")


def _ranges(masses, mass_range) -> dict[str, tuple[float, float]]:
    """Return the range of every spectrum, GeV."""
    given = dict(mass_range) if isinstance(mass_range, Mapping) else dict.fromkeys(masses, mass_range)
    unknown = set(given) - set(masses)
    if unknown:
        raise InputError(f"mass_range names {', '.join(sorted(unknown))}, expected some of {', '.join(masses)}")
    whole = {name: (mass.min(), mass.max()) for name, mass in masses.items()}
    return whole | {name: tuple(ends) for name, ends in given.items() if ends is not None}


def _edges(name: str, mass: np.ndarray, mass_range: tuple[float, float], bins: int) -> np.ndarray:
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


def _cuts(score, weight, percentiles, tails) -> Iterator[tuple[float, str, float, np.ndarray]]:
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


def _selection(name, mass, edges, cut, weight, relative_error, options) -> _Selection:
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
    return _Selection(name, percentile, tail, threshold, chosen, events, before, selected, *moments, options)


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


def _thrown(selections, masses, edges, weight, n: int, null: str, rng) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """Yield pseudo-experiments in blocks: their columns, and for every selection its histograms (B, columns).

    Events of the same bins and weight are alike: they are one cell. Events that the same selections choose are one
    slice.
    """
    places = {name: bin_of(mass, edges[name]) for name, mass in masses.items()}
    cell_of, cells, weights = _cells(places, weight)
    first = np.unique(cell_of, return_index=True)[1]
    # Cuts on one number: an event's slice is told by how many cuts of either tail it passes.
    passed = {tail: sum(s.chosen.astype(np.int64) for s in selections if s.tail == tail) for tail in TAILS["both"]}
    slice_of = passed["upper"] * (len(selections) + 1) + passed["lower"]
    _, example, slices = np.unique(slice_of, return_index=True, return_counts=True)
    members = np.array([s.chosen[example] for s in selections])  # (selections, slices)
    slices, members = slices[members.any(axis=0)], members[:, members.any(axis=0)]
    projections = [_projection(s, places[s.name][first], edges[s.name], weights) for s in selections]
    block = max(1, BLOCK // (len(cells) * len(slices)))
    for start in range(0, n, block):
        columns = slice(start, min(start + block, n))
        throw = _shuffled if null == "shuffled" else _poisson
        thrown = throw(cells, slices, columns.stop - columns.start, rng)
        chosen = (thrown[member].sum(axis=0).astype(np.float64) for member in members)
        yield columns, [projection @ numbers for projection, numbers in zip(projections, chosen)]


def _cells(places: Mapping[str, np.ndarray], weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the cell of every event (N,), the number of events of every cell (C,), and their mean weight (C,)."""
    code = np.zeros(len(next(iter(places.values()))), np.int64) if weight is None else _weight_class(weight)
    for place in places.values():
        code = code * (place.max() + 1) + place
    _, cell_of, cells = np.unique(code, return_inverse=True, return_counts=True)
    return cell_of, cells, np.bincount(cell_of, weight) / cells


def _weight_class(weight: np.ndarray) -> np.ndarray:
    distinct, index = np.unique(weight, return_inverse=True)
    if len(distinct) <= WEIGHTS:
        return index
    return np.unique(np.floor(np.log(np.maximum(weight, np.finfo(float).tiny)) / np.log(RATIO)), return_inverse=True)[1]


def _projection(selection: _Selection, place: np.ndarray, edges: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What an event of every cell, in bin `place` (C,) of these edges, adds to the bins of a selection: (B, C)."""
    centres = np.r_[(edges[1:] + edges[:-1]) / 2, np.inf]  # last, what is outside
    merged = bin_of(centres, selection.before.edges)[place]
    return (merged == np.arange(len(selection.before.content))[:, None]) * weights


def _shuffled(cells: np.ndarray, slices: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Deal the events of cells (C,) to slices (S,) at random: numbers of events (S, C, n) with these sums.

    One multivariate hypergeometric number per slice, of what the slices before have left; cell by cell it is a
    hypergeometric number given those before.
    """
    left = np.repeat(cells[:, None], n, axis=1)
    dealt = np.empty((len(slices), *left.shape), np.int64)
    for drawn, size in zip(dealt, slices):
        others, wanted = left.sum(axis=0), np.full(n, size)
        for cell, there in enumerate(left):
            others -= there
            drawn[cell] = rng.hypergeometric(there, others, wanted)
            wanted -= drawn[cell]
        left -= drawn
    return dealt


def _poisson(cells: np.ndarray, slices: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Poisson numbers (S, C, n) around the share of every slice (S,) in every cell (C,), as if that were known."""
    expected = slices[:, None, None] * (cells / cells.sum())[:, None]
    return rng.poisson(expected, (len(slices), len(cells), n))


def _estimated(count: int, n: int) -> tuple[float, bool]:
    """The p-value when `count` of n pseudo-experiments are as extreme, and whether it is a bound.

    >>> _estimated(3, 1000), _estimated(0, 1000)
    ((0.003, False), (0.001, True))
    """
    return max(count, 1) / n, count == 0


def _together(minima: np.ndarray, observed: np.ndarray) -> int:
    """Count the pseudo-experiments whose smallest p-value over selections is as small as the observed one.

    minima (S, n): the statistic of S selections in n pseudo-experiments; observed (S,). The p-value of a selection is
    the rank of its statistic among all n and the observed one (Westfall and Young 1993), so that selections compare as
    equals, however many windows they have. An observation beyond all pseudo-experiments has rank 1, and so have up to
    S of them, one a selection: their number is a bound then.
    """
    everything = np.concatenate([observed[:, None], minima], axis=1)
    ranks = np.array([np.searchsorted(np.sort(values), values, side="right") for values in everything]).min(axis=0)
    return int((ranks[1:] <= ranks[0]).sum())


def _comparable(found: Scan) -> np.ndarray:
    """log p-values (T,), rounded: what is equal must be so in whatever order it was summed."""
    return np.log(found.p_value).round(6)


def _bump(selection: _Selection, found: Scan, minima: np.ndarray, unweighted: bool) -> Bump:
    """Return the bump of one selection, given its scan and those of its pseudo-experiments, log p-values (n,)."""
    start, width = _window(selection, found)
    window = slice(start, start + width)
    selected, before, deficit = selection.selected, selection.before, selection.options["deficit"]
    reference, normalisation, error = side_band_reference(selected, before, window)
    n, r = (each.content[window].sum() for each in (selected, reference))
    local = poisson_p_value(n / selection.unit, r / selection.unit, deficit)
    moment = selection.mass_selected[window].sum() - normalisation * selection.mass_before[window].sum()
    nothing = found.p_value[0] >= 1
    interval = None if nothing else (float(selected.edges[start]), float(selected.edges[start + width]))
    fisher = _fisher(selected, before, window, deficit) if unweighted else None
    global_p_value, bound = _estimated(int(np.count_nonzero(minima <= _comparable(found))), len(minima))
    return Bump(
        spectrum=selection.name,
        percentile=selection.percentile,
        tail=selection.tail,
        threshold=selection.threshold,
        selected_events=selection.events,
        local_p_value=local,
        local_significance=significance(local),
        fisher_p_value=fisher,
        fisher_significance=None if fisher is None else significance(fisher),
        global_p_value=global_p_value,
        global_p_value_is_bound=bound,
        global_significance=significance(global_p_value),
        interval=interval,
        mass_estimate=None if interval is None else float(np.clip(moment / (n - r), *interval)),
        signal_estimate=0.0 if interval is None else float(n - r),
        normalisation=normalisation,
        normalisation_error=error,
        edges=tuple(selected.edges.tolist()),
        observed=tuple(selected.content.tolist()),
        reference=tuple(reference.content.tolist()),
    )


def _fisher(selected: Spectrum, before: Spectrum, window: slice, deficit: bool) -> float:
    """One-sided p-value of Fisher's exact test: events in the window or not, selected or not."""
    n = selected.content[window].sum()
    table = hypergeom(before.content.sum(), before.content[window].sum(), selected.content.sum())
    return max(SMALLEST, float(table.cdf(n) if deficit else table.sf(n - 1)))


def _window(selection: _Selection, ours: Scan) -> tuple[int, int]:
    """Return first bin and width of the best window of the observed spectrum, by pyBumpHunter if it can tell."""
    options, smallest = dict(selection.options), float(ours.p_value[0])
    # a deficit of p < 1e-10 has lost its digits in pyBumpHunter's 1 - gammainc
    if options.pop("statistic") == "fisher" or (options["deficit"] and smallest < 1e-10):
        return int(ours.start[0]), int(ours.width[0])
    observed, reference = (s.content / selection.unit for s in (selection.selected, selection.before))
    p_value, start, width = by_pybumphunter(observed, reference, **options)
    if not np.isclose(p_value, smallest, rtol=1e-6, atol=0):
        raise RuntimeError(f"pyBumpHunter finds a local p-value of {p_value:g}, our scan {smallest:g}: please report")
    return start, width
