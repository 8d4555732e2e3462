"""From scores and masses to a significance: select on the score, hunt a bump in the mass of what is selected.

The recipe is that of GAN-AE sec. 4.3: cut at a percentile of the score, take the spectrum before the cut as the
reference, normalise it by side bands, scan with BumpHunter (Choudalakis 2011, arXiv:1101.0390). pyBumpHunter scans
the observed spectrum and says where the bump is. The spectra of the pseudo-experiments are scanned by
`pipelines.bumphunt.bump_scan`, with the same numbers (tests hold it to pyBumpHunter's) and ten times faster and more
(benchmarks/bumphunt.py).

**What the global p-value means.** Selected events are some of those the reference is made of: given the reference,
their number in a bin has the variance N eps (1 - eps), not N eps. pyBumpHunter's own pseudo-experiments, Poisson
numbers around the reference, do not know that, and their global p-values come out too large, the more so the looser
the cut. Here the scores are shuffled among the events instead: every pseudo-experiment has the observed masses and
the observed scores, shuffled among the events. The method assumes that the scores of background events are exchangeable
given their masses. Then all shufflings are equally likely, the data among them. The global p-value is (k + 1) / (n + 1)
if k of n are as extreme. It is exact for every spectrum, binning and percentile: it is a permutation test (Phipson and
Smyth 2010, doi 10.2202/1544-6115.1585).

**When it is not exact.** A model that was trained on the very events that are hunted does not guarantee this: what it
learnt of each event, with its mass, is in the score. That is more so if a term that decorrelates score and mass was
fitted on these events. Scores of other events, or of folds (each event scored by a model that has not seen it), are
exchangeable if background does not depend on the mass.

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

A background whose scores do depend on the mass makes bumps of its own if it is cut at one threshold. No p-value here
can tell these from a signal. `cut="mass"` is the remedy, and the default of `pipelines.search`
(`pipelines.bumphunt.mass_cut`); `reference_p_value` tells whether the reference describes the spectrum outside the
bump.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.polynomial.legendre import legvander
from numpy.typing import ArrayLike
from scipy.stats import chi2, hypergeom, norm

from pipelines.bumphunt.bumphunter import by_pybumphunter
from pipelines.bumphunt.fitted_scan import SMALLEST, UNDERFLOW, BestWindows, log_tail, significance_of_log
from pipelines.bumphunt.mass_cut import SIGN, bin_masses, following_thresholds
from pipelines.bumphunt.options import BumpHuntOptions, with_changes
from pipelines.bumphunt.pseudo_experiments import comparable, count_together, estimated, pseudo_spectra
from pipelines.bumphunt.selection import Curve, Selection, check_events, cuts_of, equal_edges, ranges_of, selection_of
from pipelines.bumphunt.spectrum import Spectrum, bin_of, histogram, side_band_reference
from pipelines.errors import InputError
from pipelines.moved import moved_names

__getattr__ = moved_names(
    __name__,
    {
        "Hunt": f"{__name__}.BumpHunt",
        "hunt": f"{__name__}.bump_hunt",
        **{name: f"pipelines.bumphunt.options.{name}" for name in ("BINS", "PSEUDO_EXPERIMENTS", "NULLS")},
    },
)


DESCRIBES = 0.01  # least probability of a spectrum outside of a bump, given its reference


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


def local_p_text(p_value: float) -> str:
    """Return a local p-value as text; 1e-300 is a bound.

    >>> local_p_text(0.01234), local_p_text(1e-300)
    ('0.0123', '< 1e-300')
    """
    return f"< {SMALLEST:g}" if p_value <= SMALLEST else f"{p_value:.3g}"


@dataclasses.dataclass(frozen=True)
class Bump:
    """What BumpHunter finds in one selection: one spectrum, percentile and tail of the score.

    Attributes:
        spectrum: its name. percentile, tail: of the selection. threshold: the score cut.
        threshold_curve: t(m) of a cut that follows the mass, whose `threshold` is that at the median mass; else None.
        selected_events: within the mass range.
        local_p_value, local_significance: pyBumpHunter's Poisson number in the best window, the reference taken as
            exact. P-values are at least 1e-300, a bound; significances go on beyond.
        fisher_p_value, fisher_significance: of Fisher's exact test of that window, inside or outside against selected
            or not: with the statistical errors of reference and normalisation. None for events whose weights differ.
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
        absorbed: share of an excess in the interval that a threshold which follows the mass takes away, so that
            `signal_estimate` is too small by it; 0 for one threshold (see `pipelines.bumphunt.mass_cut`).
        reference_p_value: chi2 probability of the selected spectrum outside the interval, given the reference: small
            where the reference does not describe it, and then no p-value of the bump means anything
            (`reference_describes`). A threshold that follows the mass is fitted again without the interval for it, where
            that with it fails: a large bump bends it. None without enough bins.
        normalisation, normalisation_error: factor of the reference, from the events outside the window.
        edges, observed, reference: (B + 1,), (B,), (B,): the binned spectra, the reference normalised.
        before: (B,), the spectrum before the cut, as it is. unit: weight of an equivalent unweighted event, by which
            contents are divided for p-values; 1 without weights.
        tomography: of every window that was scanned its ends in GeV and its p-value, that of the statistic, each with
            the reference normalised outside of it: (W, 3).
        test_statistic: -ln of the smallest of these p-values, BumpHunter's test statistic; rounded to 1e-6, as those
            of the pseudo-experiments are, so that equal ones compare as equal.
        pseudo_statistics: test statistic of every pseudo-experiment, (n,); not in JSON.
    """

    spectrum: str
    percentile: float
    tail: str
    threshold: float
    threshold_curve: Curve | None
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
    absorbed: float
    reference_p_value: float | None
    normalisation: float
    normalisation_error: float
    edges: tuple[float, ...]
    observed: tuple[float, ...]
    reference: tuple[float, ...]
    before: tuple[float, ...]
    unit: float
    tomography: tuple[tuple[float, float, float], ...]
    test_statistic: float
    pseudo_statistics: np.ndarray = dataclasses.field(repr=False, compare=False)

    @property
    def window(self) -> slice:
        """Bins of the interval; none if it has none."""
        first, last = np.searchsorted(self.edges, self.interval or (self.edges[0], self.edges[0]))
        return slice(int(first), int(last))

    @property
    def reference_describes(self) -> bool | None:
        """Whether the reference describes the spectrum outside the interval, with p of 0.01 or more; None: not known."""
        return None if self.reference_p_value is None else self.reference_p_value >= DESCRIBES

    @property
    def toys(self) -> np.ndarray:
        """The old name of `pseudo_statistics`."""
        warnings.warn("Bump.toys is pseudo_statistics now", DeprecationWarning, stacklevel=2)
        return self.pseudo_statistics


@dataclasses.dataclass(frozen=True)
class BumpHunt:
    """What a bump hunt found: a `Bump` per selection, and one p-value for all of them together.

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
        return min(self.bumps, key=lambda bump: (bump.global_p_value, bump.local_p_value, -bump.local_significance))

    def to_json(self) -> str:
        """Return everything but the single pseudo-experiments as JSON text; NaN and infinities do not occur."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_dict(self) -> dict[str, object]:
        """Return what `to_json` writes."""
        together = dataclasses.asdict(dataclasses.replace(self, bumps=()))
        fields = [field.name for field in dataclasses.fields(Bump) if field.name != "pseudo_statistics"]
        bumps = [{name: _plain(getattr(bump, name)) for name in fields} for bump in self.bumps]
        return together | {"bumps": bumps}


def _plain(value: object) -> object:
    return dataclasses.asdict(value) if isinstance(value, Curve) else value


def bump_hunt(
    score: ArrayLike,
    mass: ArrayLike | Mapping[str, ArrayLike],
    weight: ArrayLike | None = None,
    options: BumpHuntOptions | None = None,
    **changed: Any,
) -> BumpHunt:
    """Select events on their score and hunt a bump in their mass; see the top of this module for the statistics.

    Args:
        score, mass: (N,), mass in GeV. Several masses of the same events, such as those of two and of three jets,
            are hunted together as `{"m_jj": ..., "m_jjj": ...}`; an event outside the range of one is in none of its
            bins.
        weight: (N,) >= 0. Counts are then sum w / s with s = sum w^2 / sum w, a number of equivalent unweighted
            events, so local p-values are approximate. The shuffling calibrates the global ones, if scores of background
            depend neither on the mass nor on the weight; more than 16 distinct weights are grouped for it.
        options: the `BumpHuntOptions`. changed: options by name, in place of those.

    Raises:
        InputError: for scores or masses that are not finite, options that cannot be, ranges without events, a constant
            score, Fisher's test of events whose weights differ, and selections with too few events for a window and a side band:
            it names a percentile that leaves enough.

    Example:
        >>> rng = np.random.default_rng(1)
        >>> mass = np.r_[2700 + rng.exponential(500, 20_000), rng.normal(3500, 60, 100)]
        >>> score = np.r_[rng.normal(0, 1, 20_000), rng.normal(3, 1, 100)]
        >>> result = bump_hunt(score, mass, percentiles=[95, 98], mass_range=(2700, 5000), pseudo_experiments=1000)
        >>> 3400 < result.best.mass_estimate < 3600, p_text(result.global_p_value, result.global_p_value_is_bound, 1000)
        (True, '< 2/1,001')
    """
    options = with_changes(options or BumpHuntOptions(), changed)
    scores, masses, weights = _checked_events(score, mass if isinstance(mass, Mapping) else {"mass": mass}, weight)
    ranges = ranges_of(masses, options.mass_range)
    edges = {name: equal_edges(name, values, ranges[name], options.bins) for name, values in masses.items()}
    inside = np.any([bin_of(masses[name], edges[name]) < options.bins for name in masses], axis=0)
    masses = {name: values[inside] for name, values in masses.items()}
    scores, weights = scores[inside], None if weights is None else weights[inside]
    check_events(masses, edges, weights, options)
    selections = [
        selection_of(name, masses[name], edges[name], cut, weights, options)
        for name in masses
        for cut in cuts_of(name, scores, masses[name], edges[name], weights, options)
    ]
    found = _judged(selections, masses, edges, weights, options)
    if options.cut == "global":
        return found
    bumps = tuple(_looked_at_again(bump, scores, masses[bump.spectrum], weights) for bump in found.bumps)
    return dataclasses.replace(found, bumps=bumps)


def _looked_at_again(bump: Bump, score: np.ndarray, mass: np.ndarray, weight: np.ndarray | None) -> Bump:
    """Return a bump whose `reference_p_value`, where it fails, is that of a threshold fitted outside the interval.

    A bump of many events bends t(m) on both sides of it more than a fit to the shares selected can tell.
    """
    if bump.reference_describes is not False or bump.interval is None or bump.threshold_curve is None:
        return bump
    edges, (low, high) = np.array(bump.edges), bump.interval
    ends = float(edges[0]), float(edges[-1])
    fitted = (bin_of(mass, edges) < len(edges) - 1) & ~((mass >= low) & (mass < high))
    weights = None if weight is None else weight[fitted]
    degree, cut = bump.threshold_curve.degree, (bump.percentile, bump.tail)
    (t,) = following_thresholds(score[fitted], mass[fitted], weights, ends, [cut], [degree])
    sign = SIGN[bump.tail]
    selected = fitted & (sign * score > sign * t.at(mass))
    chosen, before = (
        histogram(mass[which], edges, None if weight is None else weight[which]).content / bump.unit
        for which in (selected, fitted)
    )
    share = chosen.sum() / before.sum()
    used = share * before >= LEAST_EXPECTED
    used &= (edges[1:] <= low) | (edges[:-1] >= high)
    freedom = int(np.count_nonzero(used)) - 1 - degree
    if freedom < 1:
        return dataclasses.replace(bump, reference_p_value=None)
    expected = share * before[used]
    left = np.sum((chosen[used] - expected) ** 2 / (expected * (1 - share)))
    return dataclasses.replace(bump, reference_p_value=float(chi2.sf(left, freedom)))


def _judged(
    selections: Sequence[Selection],
    masses: Mapping[str, np.ndarray],
    edges: Mapping[str, np.ndarray],
    weight: np.ndarray | None,
    options: BumpHuntOptions,
) -> BumpHunt:
    """Scan the selected spectra and those of the pseudo-experiments, and compare them."""
    n = options.pseudo_experiments
    observed = [selection.best_windows(selection.selected.content) for selection in selections]
    minima = np.empty((len(selections), n))
    rng = np.random.default_rng(options.seed)
    for columns, histograms in pseudo_spectra(selections, masses, edges, weight, n, options.null, rng):
        for i, (selection, contents) in enumerate(zip(selections, histograms)):
            minima[i, columns] = comparable(selection.best_windows(contents))
    unweighted = weight is None or np.ptp(weight) == 0
    bumps = tuple(_bump(*each, unweighted) for each in zip(selections, observed, minima))
    p_value, bound = estimated(count_together(minima, np.array([comparable(best)[0] for best in observed])), n)
    bound = bound or any(bump.global_p_value_is_bound for bump in bumps)
    return BumpHunt(
        bumps=bumps,
        global_p_value=p_value,
        global_p_value_is_bound=bound,
        global_significance=significance(p_value),
        trials_factor=None if bound else p_value / min(bump.global_p_value for bump in bumps),
        pseudo_experiments=n,
        null=options.null,
        statistic=options.statistic,
        mode="deficit" if options.deficit else "excess",
        events=len(next(iter(masses.values()))),
    )


def _checked_events(
    score: ArrayLike, masses: Mapping[str, ArrayLike], weight: ArrayLike | None
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray | None]:
    """Return scores, masses and weights as float64; raises `InputError` for what cannot be hunted in."""
    scores = np.asarray(score, np.float64)
    arrays = {name: np.asarray(values, np.float64) for name, values in masses.items()}
    weights = None if weight is None else np.asarray(weight, np.float64)
    if not arrays:
        raise InputError("mass names no spectrum, expected one at least")
    for name, values in {"score": scores, **arrays, **({} if weights is None else {"weight": weights})}.items():
        if values.shape != scores.shape or values.ndim != 1:
            raise InputError(f"{name} has shape {values.shape}, expected ({scores.size},), one number for each score")
        bad = np.count_nonzero(~np.isfinite(values))
        if bad or not len(values):
            fault = f"{bad} of {len(values)} are NaN or infinite" if bad else "there are no events"
            raise InputError(f"{name}: {fault}, expected finite numbers; remove those events, or look at the training")
    return scores, arrays, weights


def _bump(selection: Selection, best: BestWindows, minima: np.ndarray, unweighted: bool) -> Bump:
    """Return the bump of one selection, given its scan and those of its pseudo-experiments, log p-values (n,)."""
    start, width = _window(selection, best)
    window = slice(start, start + width)
    selected, before, deficit = selection.selected, selection.before, selection.options.deficit
    reference, normalisation, error = side_band_reference(selected, before, window)
    n, r = (each.content[window].sum() for each in (selected, reference))
    local = float(log_tail(n / selection.unit, r / selection.unit, deficit))
    moment = selection.mass_selected[window].sum() - normalisation * selection.mass_before[window].sum()
    nothing = best.log_p_value[0] >= 0
    interval = None if nothing else (float(selected.edges[start]), float(selected.edges[start + width]))
    fisher = _fisher(selection, window) if unweighted else None
    global_p_value, bound = estimated(int(np.count_nonzero(minima <= comparable(best))), len(minima))
    return Bump(
        spectrum=selection.name,
        percentile=selection.percentile,
        tail=selection.tail,
        threshold=selection.threshold,
        threshold_curve=selection.curve,
        selected_events=selection.events,
        local_p_value=max(SMALLEST, float(np.exp(local))),
        local_significance=significance_of_log(local),
        fisher_p_value=None if fisher is None else max(SMALLEST, float(np.exp(fisher))),
        fisher_significance=None if fisher is None else significance_of_log(fisher),
        global_p_value=global_p_value,
        global_p_value_is_bound=bound,
        global_significance=significance(global_p_value),
        interval=interval,
        mass_estimate=None if interval is None else float(np.clip(moment / (n - r), *interval)),
        signal_estimate=0.0 if interval is None else float(n - r),
        absorbed=0.0 if interval is None else selection.absorbed(window),
        reference_p_value=_outside(selection, reference, slice(0, 0) if interval is None else window, normalisation),
        normalisation=normalisation,
        normalisation_error=error,
        edges=tuple(selected.edges.tolist()),
        observed=tuple(selected.content.tolist()),
        reference=tuple(reference.content.tolist()),
        before=tuple(before.content.tolist()),
        unit=float(selection.unit),
        tomography=_tomography(selection),
        test_statistic=0.0 - float(comparable(best)[0]),
        pseudo_statistics=0.0 - minima,
    )


def _tomography(selection: Selection) -> tuple[tuple[float, float, float], ...]:
    windows, edges = selection.tomography(), selection.selected.edges
    ends = edges[windows.start].tolist(), edges[windows.start + windows.width].tolist()
    return tuple(zip(*ends, windows.p_value.tolist()))


def _fisher(selection: Selection, window: slice) -> float:
    """Logarithm of the one-sided p-value of Fisher's exact test: events in the window or not, selected or not."""
    deficit = selection.options.deficit
    selected, before = (np.rint(one.content / selection.unit) for one in (selection.selected, selection.before))
    n, table = selected[window].sum(), hypergeom(before.sum(), before[window].sum(), selected.sum())
    p = float(table.cdf(n) if deficit else table.sf(n - 1))
    return float(np.log(p) if p > UNDERFLOW else table.logcdf(n) if deficit else table.logsf(n - 1))


LEAST_EXPECTED = 5.0  # events of a bin in a chi2


def _outside(selection: Selection, reference: Spectrum, window: slice, normalisation: float) -> float | None:
    """Return the chi2 probability of the selected spectrum outside a window, given what the cut lets the reference be.

    That is one share selected at all masses, or, with a threshold that follows the mass, a polynomial of its degree in log m:
    what a bump takes from t(m) elsewhere is no fault of the reference. It is fitted by least squares, with the variance
    N f (1 - f) of the number selected of N in a bin, f the normalisation. Bins with fewer than 5 events expected are left
    out.
    """
    expected = reference.content / selection.unit
    used = expected >= LEAST_EXPECTED
    used[window] = False
    degree = 0 if selection.curve is None else selection.curve.degree
    freedom = int(np.count_nonzero(used)) - 1 - degree
    if freedom < 1 or normalisation >= 1:
        return None
    error = np.sqrt(expected[used] * (1 - normalisation))
    shapes = legvander(bin_masses(selection.before), degree)[used] * (expected[used] / error)[:, None]
    observed = selection.selected.content[used] / selection.unit / error
    left = observed - shapes @ np.linalg.lstsq(shapes, observed, rcond=None)[0]
    return float(chi2.sf(np.sum(left**2), freedom))


def _window(selection: Selection, ours: BestWindows) -> tuple[int, int]:
    """Return first bin and width of the best window of the observed spectrum, by pyBumpHunter if it can tell."""
    options, smallest = selection.options, float(ours.p_value[0])
    # a deficit of p < 1e-10 has lost its digits in pyBumpHunter's 1 - gammainc, and p-values below 1e-300 are equal there
    if options.statistic == "fisher" or smallest < (1e-10 if options.deficit else UNDERFLOW):
        return int(ours.start[0]), int(ours.width[0])
    observed, reference = (s.content / selection.unit for s in (selection.selected, selection.before))
    p_value, start, width = by_pybumphunter(
        observed, reference, widths=selection.widths, side_band=options.side_band, deficit=options.deficit
    )
    if not np.isclose(p_value, smallest, rtol=1e-6, atol=0):
        raise RuntimeError(f"pyBumpHunter finds a local p-value of {p_value:g}, our scan {smallest:g}: please report")
    return start, width
