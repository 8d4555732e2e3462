"""From scores and masses to a significance: select on the score, hunt a bump in the mass of what is selected.

The recipe is that of GAN-AE sec. 4.3: cut at a percentile of the score, take the spectrum before the cut as the
reference, normalise it by side bands, scan with BumpHunter (Choudalakis 2011, arXiv:1101.0390). pyBumpHunter scans
the observed spectrum and says where the bump is. The spectra of the pseudo-experiments are scanned by
`pipelines.bumphunt.spectra.scan`, with the same numbers (tests hold it to pyBumpHunter's) and ten times faster and more
(benchmarks/bumphunt.py).

**What the global p-value means.** Selected events are some of those the reference is made of: given the reference,
their number in a bin has the variance N eps (1 - eps), not N eps. pyBumpHunter's own pseudo-experiments, Poisson
numbers around the reference, do not know that, and their global p-values come out too large, the more so the looser
the cut. Here the scores are shuffled among the events instead: every pseudo-experiment has the observed masses and
the observed scores, dealt anew. If the scores of background events are exchangeable given their masses, which is what
the method rests on, all shufflings are equally likely, the data among them, and the global p-value, (k + 1) / (n + 1) if
k of n are as extreme, is exact for every spectrum, binning and percentile: it is a permutation test (Phipson and Smyth
2010, doi 10.2202/1544-6115.1585).

**When it is not exact.** A model that was trained on the very events that are hunted does not guarantee this: what it
learnt of each event, with its mass, is in the score, the more so if a term that decorrelates score and mass was fitted on
these events. Scores of other events, or of folds (each event scored by a model that has not seen it), are exchangeable if
background does not depend on the mass.

**Measured.** Mean, and Kolmogorov-Smirnov p-value against a uniform distribution, of the global p-values of 200
background-only data sets of 20,000 events (`benchmarks/bumphunt.py --repeats 0 --coverage 200`):

| percentile         | Poisson       | shuffled   |
|--------------------|---------------|------------|
| 50                 | 0.82, 1e-48   | 0.50, 0.83 |
| 85                 | 0.58, 5e-04   | 0.50, 0.91 |
| 95                 | 0.52, 0.64    | 0.50, 0.97 |
| 50, 85, 95         | 0.63, 1e-07   | 0.49, 0.85 |
| 85, 95, both tails | 0.55, 0.01    | 0.49, 0.50 |

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
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import hypergeom, norm

from pipelines.bumphunt.pseudo_experiments import comparable, count_together, estimated, thrown_for
from pipelines.bumphunt.selection import (
    TAILS,
    Selection,
    check_events,
    cuts_of,
    equal_edges,
    numbers,
    percentiles_of,
    ranges_of,
    selection_of,
)
from pipelines.bumphunt.spectra import (
    RELATIVE_ERROR,
    SMALLEST,
    STATISTICS,
    WIDTHS,
    Scan,
    Spectrum,
    bin_of,
    by_pybumphunter,
    poisson_p_value,
    side_band_reference,
)
from pipelines.errors import InputError

BINS = 40  # before merging, GAN-AE sec. 4.3
PSEUDO_EXPERIMENTS = 40_000  # GAN-AE sec. 4.3
NULLS = ("shuffled", "poisson")


def significance(p_value: float) -> float:
    """Return the number of standard deviations, Z = Phi^-1(1 - p), of a one-sided p-value; 0 for p of a half or more.

    >>> round(significance(0.00135), 2), significance(0.8)
    (3.0, 0.0)
    """
    return max(0.0, float(norm.isf(p_value)))


def p_text(p_value: float, is_bound: bool, n: int) -> str:
    """Return a p-value found among n pseudo-experiments as text; a bound is k / (n + 1), k = 1 where none was as extreme.

    >>> p_text(0.0123, False, 39_999), p_text(2.5e-5, True, 39_999)
    ('0.0123', '< 1/40,000')
    """
    return f"< {round(p_value * (n + 1)):,}/{n + 1:,}" if is_bound else f"{p_value:.3g}"


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
        global_p_value, global_significance: of this selection alone, over all windows: (k + 1) / (n + 1) if k of n
            pseudo-experiments are as extreme (`pipelines.bumphunt.pseudo_experiments.estimated`).
        global_p_value_is_bound: no pseudo-experiment was as extreme: the p-value is below the number given,
            1 / (n + 1), and the significance above.
        interval: edges of the best window, GeV; None if no window has an excess.
        mass_estimate: mean mass of the excess, (sum_selected m - f sum_all m) / (n - f N) over the events of the
            window, f the normalisation, GeV; kept within the interval. The centre of the interval, pyBumpHunter's
            "mean", is far off where bins are merged.
        signal_estimate: events in the window minus reference, n - f N, negative for a deficit. Signal is in the
            reference too: with loose cuts this is too small by its share there.
        normalisation, normalisation_error: factor of the reference, from the events outside the window.
        edges, observed, reference: (B + 1,), (B,), (B,): the binned spectra, the reference normalised.
        before: (B,), the spectrum before the cut, as it is. unit: weight of an equivalent unweighted event, by which
            contents are divided for p-values; 1 without weights.
        tomography: of every window that was scanned its ends in GeV and its p-value, that of the statistic, each with
            the reference normalised outside of it: (W, 3).
        test_statistic: -ln of the smallest of these p-values, BumpHunter's test statistic; rounded to 1e-6, as those
            of the pseudo-experiments are, so that equal ones compare as equal.
        toys: test statistic of every pseudo-experiment, (n,) float32; not in JSON.
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
    before: tuple[float, ...]
    unit: float
    tomography: tuple[tuple[float, float, float], ...]
    test_statistic: float
    toys: np.ndarray = dataclasses.field(repr=False, compare=False)


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
        """Return everything but the single pseudo-experiments as JSON text; NaN and infinities do not occur."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_dict(self) -> dict[str, object]:
        """Return what `to_json` writes."""
        found = dataclasses.asdict(dataclasses.replace(self, bumps=()))
        fields = [field.name for field in dataclasses.fields(Bump) if field.name != "toys"]
        return found | {"bumps": [{name: getattr(bump, name) for name in fields} for bump in self.bumps]}


def hunt(
    score: np.ndarray,
    mass: np.ndarray | Mapping[str, np.ndarray],
    weight: np.ndarray | None = None,
    *,
    percentiles: float | Sequence[float] = (99.0,),
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
        percentiles: of the score, in (0, 100), one or several, among events within the mass range: 99 selects one
            percent. With weights, of the sum of weights. An event at the cut is not selected.
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
        InputError: for scores or masses that are not finite, options that cannot be, ranges without events, a constant
            score, Fisher's test of weighted events, and selections with too few events for a window and a side band:
            it names a percentile that leaves enough.

    Example:
        >>> rng = np.random.default_rng(1)
        >>> mass = np.r_[2700 + rng.exponential(500, 20_000), rng.normal(3500, 60, 100)]
        >>> score = np.r_[rng.normal(0, 1, 20_000), rng.normal(3, 1, 100)]
        >>> found = hunt(score, mass, percentiles=[95, 98], mass_range=(2700, 5000), pseudo_experiments=1000)
        >>> 3400 < found.best.mass_estimate < 3600, p_text(found.global_p_value, found.global_p_value_is_bound, 1000)
        (True, '< 2/1,001')
    """
    masses = dict(mass) if isinstance(mass, Mapping) else {"mass": mass}
    score, masses, weight = _checked_events(score, masses, weight)
    percentiles = percentiles_of(percentiles)
    check_options(bins, relative_error, widths, side_band, pseudo_experiments, seed, tails, null, statistic)
    mass_range = ranges_of(masses, mass_range)
    edges = {name: equal_edges(name, values, mass_range[name], bins) for name, values in masses.items()}
    inside = np.any([bin_of(masses[name], edges[name]) < bins for name in masses], axis=0)
    masses = {name: values[inside] for name, values in masses.items()}
    score, weight = score[inside], None if weight is None else weight[inside]
    options = {"widths": widths, "side_band": side_band, "deficit": deficit, "statistic": statistic}
    check_events(masses, edges, weight, percentiles, tails, relative_error, options)
    selections = [
        selection_of(name, masses[name], edges[name], cut, weight, relative_error, options)
        for name in masses
        for cut in cuts_of(score, weight, percentiles, TAILS[tails])
    ]
    observed = [selection.scan(selection.selected.content) for selection in selections]
    minima = np.empty((len(selections), pseudo_experiments))
    thrown = thrown_for(selections, masses, edges, weight, pseudo_experiments, null, np.random.default_rng(seed))
    for columns, histograms in thrown:
        for i, (selection, histogram) in enumerate(zip(selections, histograms)):
            minima[i, columns] = comparable(selection.scan(histogram))
    bumps = tuple(_bump(*each, weight is None) for each in zip(selections, observed, minima))
    together = count_together(minima, np.array([comparable(found)[0] for found in observed]))
    mode = "deficit" if deficit else "excess"
    return _hunt(bumps, together, pseudo_experiments, null=null, statistic=statistic, mode=mode, events=len(score))


def _hunt(bumps: tuple[Bump, ...], together: int, n: int, **about) -> Hunt:
    """Put the bumps of all selections together: in `together` of n pseudo-experiments one was as extreme."""
    p_value, bound = estimated(together, n)
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
    return score, masses, weight


def check_options(
    bins,
    relative_error,
    widths,
    side_band,
    pseudo_experiments,
    seed=0,
    tails="upper",
    null="shuffled",
    statistic="poisson",
) -> None:
    """Raise `InputError` for an option of a hunt that cannot be, whatever the events are."""
    for name, choice, allowed in (("tails", tails, TAILS), ("null", null, NULLS), ("statistic", statistic, STATISTICS)):
        if not isinstance(choice, str) or choice not in allowed:
            raise InputError(f"{name} {choice!r}, expected one of {', '.join(allowed)}")
    if statistic == "fisher" and null != "shuffled":
        raise InputError(
            f"statistic 'fisher' has the number of selected events given, and null {null!r} changes it; take 'shuffled'"
        )
    is_number = isinstance(relative_error, (int, float, np.number))
    if relative_error is not None and not (is_number and relative_error > 0):
        raise InputError(
            f"relative_error {relative_error}, expected a number above 0, such as {RELATIVE_ERROR:g}, or None"
        )
    narrowest, _ = numbers("widths", widths, 2, "the narrowest and the widest window, in bins")
    whole = [("bins", bins, 2), ("side_band", side_band, 0), ("pseudo_experiments", pseudo_experiments, 1)]
    whole += [("widths", widths[0], 1), ("widths", widths[1], narrowest)]
    whole += [] if isinstance(seed, np.random.Generator) else [("seed", seed, 0)]
    for name, value, least in whole:
        if not isinstance(value, (int, np.integer)) or value < least:
            raise InputError(f"{name} {value}, expected a whole number of at least {least:g}")


def _bump(selection: Selection, found: Scan, minima: np.ndarray, unweighted: bool) -> Bump:
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
    global_p_value, bound = estimated(int(np.count_nonzero(minima <= comparable(found))), len(minima))
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
        before=tuple(before.content.tolist()),
        unit=float(selection.unit),
        tomography=_tomography(selection),
        test_statistic=0.0 - float(comparable(found)[0]),
        toys=(0.0 - minima).astype(np.float32),
    )


def _tomography(selection: Selection) -> tuple[tuple[float, float, float], ...]:
    found, edges = selection.tomography(), selection.selected.edges
    return tuple(zip(edges[found.start].tolist(), edges[found.start + found.width].tolist(), found.p_value.tolist()))


def _fisher(selected: Spectrum, before: Spectrum, window: slice, deficit: bool) -> float:
    """One-sided p-value of Fisher's exact test: events in the window or not, selected or not."""
    n = selected.content[window].sum()
    table = hypergeom(before.content.sum(), before.content[window].sum(), selected.content.sum())
    return max(SMALLEST, float(table.cdf(n) if deficit else table.sf(n - 1)))


def _window(selection: Selection, ours: Scan) -> tuple[int, int]:
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
