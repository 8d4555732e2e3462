"""A bump hunt in a spectrum alone: no model, no events, a background that is given or fitted.

1. The background is fitted to the whole spectrum, or given.
2. All windows are scanned (BumpHunter, arXiv:1101.0390), and the one of smallest local p-value is the bump.
3. Pseudo-experiments are Poisson numbers around the background. Each is fitted and scanned as the data are. The share
   that is as extreme is the global p-value, (k + 1) / (n + 1).
4. If the global p-value is below 0.01, the background is fitted again without the window, as ATLAS does
   (arXiv:1910.08447, sec. 6): a signal pulls the fit. Flanks of the bump are left
   out too. Mass and number of signal events are then of this fit.

The global p-value is that of the first fit, which a signal can only make less significant.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from pipelines.bumphunt.background_fit import Background, FittedBackground, GivenBackground, SlidingWindow
from pipelines.bumphunt.batched_fit import Fits, deviance
from pipelines.bumphunt.bump_hunt import significance
from pipelines.bumphunt.fit_functions import FAMILIES, FUNCTIONS, SQRT_S, Array
from pipelines.bumphunt.fitted_scan import every_window, scan, significance_of_log
from pipelines.bumphunt.pseudo_experiments import estimated
from pipelines.errors import InputError
from pipelines.spectrum_files import MassSpectrum
from pipelines.spectrum_files import read as read_spectrum

PSEUDO_EXPERIMENTS = 10_000
BLOCK = 1000  # pseudo-experiments that are fitted and scanned together
EXCLUDE_BELOW = 0.01  # global p-value below which the window is left out of a second fit
GROWTH = 100  # times that the range which is left out of the second fit may grow, by a bin on each side
FLANK = 2.0  # sigma: a bin of such an excess, beside what is left out, belongs to the bump
REFITS = 1000  # pseudo-experiments that judge the second fit
EVENTS_PER_PARAMETER = 10  # at least, of a fit
DESCRIBES = 0.01  # a background whose goodness of fit has a smaller p-value does not describe the spectrum
TINY = 1e-300  # no p-value is 0; the test statistic knows how small it is


@dataclasses.dataclass(frozen=True)
class SpectrumOptions:
    """What a bump hunt in a spectrum is told.

    Attributes:
        background: `auto` (an F-test among dijet3, dijet4, dijet5), `auto-exp`, a function of
            `pipelines.bumphunt.fit_functions`, a column of the spectrum, a file, or an array (B,).
        column: of the observed events. mass_range: bins within, in the unit of the edges.
        sqrt_s: collision energy in the unit of the edges.
        sliding_window: bins of the window of a sliding fit; None fits the whole range.
        exclude: (low, high), left out of the fit from the beginning.
        widths: narrowest and widest window in bins; 2 to half of the bins by default.
        pseudo_experiments: how many. seed: of these.
        deficit: look for too few events. normalise: scale a given background by the events outside each window.
    """

    background: str | os.PathLike[str] | ArrayLike = "auto"
    column: str | None = None
    mass_range: tuple[float, float] | None = None
    sqrt_s: float = SQRT_S
    sliding_window: int | None = None
    exclude: tuple[float, float] | None = None
    widths: tuple[int, int] | None = None
    pseudo_experiments: int = PSEUDO_EXPERIMENTS
    seed: int = 0
    deficit: bool = False
    normalise: bool = False

    def check(self) -> None:
        """Raise `InputError` for options that cannot be."""
        if not (isinstance(self.pseudo_experiments, int) and self.pseudo_experiments >= 1):
            raise InputError(f"{self.pseudo_experiments} pseudo-experiments, expected a whole number above 0")
        if self.widths is not None and not 1 <= self.widths[0] <= self.widths[1]:
            raise InputError(
                f"widths {self.widths[0]} to {self.widths[1]} bins, expected the narrowest window first, at least 1 bin"
            )
        if self.exclude is not None and not self.exclude[0] < self.exclude[1]:
            raise InputError(f"exclude {self.exclude[0]:g} to {self.exclude[1]:g}, expected the low end first")

    def widths_in(self, bins: int) -> tuple[int, int]:
        """Return the widths of the windows in a spectrum of so many bins; raises `InputError` if they do not fit."""
        if self.widths is None:
            return min(2, bins), max(2, bins // 2) if bins > 1 else 1
        if self.widths[1] > bins:
            raise InputError(f"widths {self.widths[0]} to {self.widths[1]} bins, but the spectrum has {bins} bins")
        return self.widths


@dataclasses.dataclass(frozen=True)
class BackgroundResult:
    """The background of one spectrum, and how well it describes it.

    Attributes:
        kind: function that was fitted, "given", or a column. asked: what was asked for, such as `auto`.
        fitted: whether it was. formula: of the function. parameters: by name. errors: their standard deviations, None
            where not known. sliding_window: its bins, or None.
        excluded: range that was not fitted, or None.
        chi2: Poisson deviance of Baker and Cousins (1984) in the fitted bins. degrees_of_freedom: None for a sliding
            window.
        p_value: share of pseudo-experiments, fitted alike, of as large a chi2. p_value_is_bound: none was as large.
        describes: whether the p-value is above 0.01. converged: whether the fit did.
        not_converged: share of the pseudo-experiments whose fit did not.
    """

    kind: str
    asked: str
    fitted: bool
    formula: str | None
    parameters: dict[str, float]
    errors: dict[str, float | None]
    sliding_window: int | None
    excluded: tuple[float, float] | None
    chi2: float
    degrees_of_freedom: int | None
    p_value: float
    p_value_is_bound: bool
    describes: bool
    converged: bool
    not_converged: float


@dataclasses.dataclass(frozen=True)
class SpectrumHunt:
    """What a bump hunt in a spectrum found.

    Attributes:
        source, observed: of the spectrum. mode: excess or deficit.
        local_p_value: of the window, the background taken as exact; at least 1e-300. local_significance: also beyond.
        global_p_value, global_p_value_is_bound, global_significance: over all windows, the fit included.
        test_statistic: -ln of the smallest local p-value.
        interval: edges of the window, None if no window has an excess.
        mass_estimate: mean mass of the excess, from the centres of the bins. signal_estimate: observed minus expected.
            Both in the window; with a `refit` in the range that it leaves out, which may be wider.
        observed_events, expected_events: in the window.
        background: of the whole spectrum. refit: of the fit without the bump, if the global p-value asked for it:
            estimates, `expected_events` and `expected` are then of this one.
        refit_local_significance: of the window with that background, without trials factor; else None.
        windows, widths: how many were scanned, and the bins of the narrowest and widest.
        pseudo_experiments, seed: of the global p-value.
        edges (B + 1,), counts, expected (B,): the spectrum; `expected` is of the last fit. first_expected (B,): of the fit
            to all bins, which the p-values are of.
        tomography: (W, 3), ends and local p-value of every window.
        toys: test statistic of every pseudo-experiment, (n,).
    """

    source: str
    observed: str
    mode: str
    local_p_value: float
    local_significance: float
    global_p_value: float
    global_p_value_is_bound: bool
    global_significance: float
    test_statistic: float
    interval: tuple[float, float] | None
    mass_estimate: float | None
    signal_estimate: float
    observed_events: float
    expected_events: float
    background: BackgroundResult
    refit: BackgroundResult | None
    refit_local_significance: float | None
    windows: int
    widths: tuple[int, int]
    pseudo_experiments: int
    seed: int
    sqrt_s: float
    edges: Array = dataclasses.field(repr=False, compare=False)
    counts: Array = dataclasses.field(repr=False, compare=False)
    expected: Array = dataclasses.field(repr=False, compare=False)
    first_expected: Array = dataclasses.field(repr=False, compare=False)
    tomography: Array = dataclasses.field(repr=False, compare=False)
    toys: Array = dataclasses.field(repr=False, compare=False)
    fit: Background = dataclasses.field(repr=False, compare=False)

    @property
    def window(self) -> slice | None:
        """Bins of the most significant window."""
        if self.interval is None:
            return None
        first, last = np.searchsorted(self.edges, self.interval)
        return slice(int(first), int(last))

    @property
    def assumptions(self) -> dict[str, str]:
        """What each p-value assumes, in words."""
        return assumptions(self)

    def to_dict(self) -> dict[str, object]:
        """Return everything but single pseudo-experiments and windows, for JSON."""
        left_out = {"edges", "counts", "expected", "first_expected", "tomography", "toys", "fit", "background", "refit"}
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in left_out}
        return {
            **found,
            "background": dataclasses.asdict(self.background),
            "refit": None if self.refit is None else dataclasses.asdict(self.refit),
            "assumptions": self.assumptions,
            "spectrum": {
                "edges": self.edges.tolist(),
                "observed": self.counts.tolist(),
                "expected": self.expected.tolist(),
            },
        }

    def to_json(self) -> str:
        """Return what `to_dict` gives as JSON text; NaN and infinities do not occur."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)


def bumphunt(
    spectrum: str | os.PathLike[str] | MassSpectrum | ArrayLike | object,
    background: str | os.PathLike[str] | ArrayLike = "auto",
    *,
    edges: ArrayLike | None = None,
    column: str | None = None,
    mass_range: tuple[float, float] | None = None,
    sqrt_s: float = SQRT_S,
    sliding_window: int | None = None,
    exclude: tuple[float, float] | None = None,
    widths: tuple[int, int] | None = None,
    pseudo_experiments: int = PSEUDO_EXPERIMENTS,
    seed: int = 0,
    deficit: bool = False,
    normalise: bool = False,
) -> SpectrumHunt:
    """Hunt a bump in a spectrum; see the top of this module.

    Args:
        spectrum: a file (`pipelines.spectrum_files`), a `hist` or `boost_histogram` object, or counts (B,) with `edges`.
        edges: (B + 1,), of an array.
        background and all others: as the attributes of `SpectrumOptions`.

    Raises:
        InputError: for spectra that are not numbers of events, backgrounds that do not fit, functions that are not defined
            over the range, too few bins or events, and options that cannot be.

    Example:
        >>> edges = np.linspace(1000, 4000, 31)
        >>> counts = np.random.default_rng(1).poisson(1e5 * np.exp(-edges[:-1] / 400))
        >>> counts[12] += 700
        >>> found = bumphunt(counts, "exp1", edges=edges, widths=(1, 4), pseudo_experiments=500)
        >>> found.interval, found.global_p_value_is_bound, round(found.mass_estimate)
        ((2200.0, 2300.0), True, 2250)
    """
    options = SpectrumOptions(
        background, column, mass_range, sqrt_s, sliding_window, exclude, widths, pseudo_experiments, seed, deficit, normalise
    )  # fmt: skip
    options.check()
    found = _opened(spectrum, edges, column)
    if mass_range is not None:
        found = found.within(mass_range)
    found.check_poisson()
    chosen, asked = background_of(found, options)
    return hunted(found, chosen, asked, options)


def _opened(spectrum: object, edges: ArrayLike | None, column: str | None) -> MassSpectrum:
    if isinstance(spectrum, MassSpectrum):
        return spectrum
    if isinstance(spectrum, (str, os.PathLike)):
        return read_spectrum(spectrum, column)
    if edges is None:
        from pipelines.histograms import from_hist

        one = from_hist(spectrum)
        if len(one) != 1:
            raise InputError(f"{len(one)} histograms, expected one")
        bins = int(one.bins[0])
        return MassSpectrum("histogram", "counts", one.edges[0, : bins + 1], one.counts[0, :bins], {})
    counts, borders = np.asarray(spectrum, np.float64), np.asarray(edges, np.float64)
    if counts.ndim != 1 or borders.shape != (len(counts) + 1,) or not (np.diff(borders) > 0).all():
        raise InputError(
            f"spectrum of shape {counts.shape} with edges of shape {borders.shape}, expected (B,) and (B + 1,), rising"
        )
    return MassSpectrum("spectrum", "counts", borders, counts, {})


def background_of(spectrum: MassSpectrum, options: SpectrumOptions) -> tuple[Background, str]:
    """Return the background that the options ask for, and what they call it."""
    asked = options.background
    if isinstance(asked, str) and asked in {*FAMILIES, *FUNCTIONS}:
        if options.normalise:
            raise InputError(f"normalise is for a background that is given; {asked} is fitted")
        return _fitted(spectrum, asked, options), asked
    if options.sliding_window is not None or options.exclude is not None:
        what = "sliding window" if options.sliding_window is not None else "excluded range"
        raise InputError(f"a {what} is for a fitted background, not for {_called(asked)}")
    events, name = _given(spectrum, asked)
    unexpected = (events == 0) & (spectrum.counts > 0)
    if unexpected.any():
        bad = int(np.flatnonzero(unexpected)[0])
        raise InputError(
            f"background {name!r}: 0 in the bin {spectrum.edges[bad]:g} to {spectrum.edges[bad + 1]:g}, where "
            f"{spectrum.counts[bad]:g} events are observed; take another range (--mass-range), or wider bins"
        )
    return GivenBackground(events, name), name


def _fitted(spectrum: MassSpectrum, kind: str, options: SpectrumOptions) -> Background:
    if options.sliding_window is not None:
        if options.exclude is not None:
            raise InputError("a sliding window with an excluded range is not offered; give one of both")
        return SlidingWindow(spectrum.edges, kind, options.sliding_window, sqrt_s=options.sqrt_s)
    used = np.ones(len(spectrum.counts), bool)
    if options.exclude is not None:
        low, high = options.exclude
        used = (spectrum.edges[1:] <= low) | (spectrum.edges[:-1] >= high)
        if used.all():
            raise InputError(
                f"exclude {low:g} to {high:g}: no bin there; the spectrum is from {spectrum.edges[0]:g} to "
                f"{spectrum.edges[-1]:g}"
            )
    background = FittedBackground(spectrum.edges, kind, sqrt_s=options.sqrt_s, used=used)
    events, least = spectrum.counts[used].sum(), EVENTS_PER_PARAMETER * background.functions[0].parameters
    if events < least:
        raise InputError(
            f"{spectrum.source}: {events:g} events to fit {background.functions[0].name} to, expected at least {least}; "
            f"give a background (--background COLUMN or FILE), or a function with fewer parameters"
        )
    return background


def _called(asked: object) -> str:
    return repr(str(asked)) if isinstance(asked, (str, os.PathLike)) else "an array"


def _given(spectrum: MassSpectrum, asked: object) -> tuple[Array, str]:
    """Events of a background that is a column, a file, or an array."""
    if not isinstance(asked, (str, os.PathLike)):
        events = np.asarray(asked, np.float64)
        if events.shape != spectrum.counts.shape:
            raise InputError(
                f"background of shape {events.shape}, expected one number for each of the {len(spectrum.counts)} bins"
            )
        return events, "given"
    name = str(asked)
    if name in spectrum.columns:
        return spectrum.columns[name], name
    if os.path.isfile(name):
        return _of_file(spectrum, name), Path(name).name
    there = ", ".join([*spectrum.columns]) or "none"
    raise InputError(
        f"background {name!r}: no function, no column of {spectrum.source}, no file; functions are "
        f"{', '.join([*FAMILIES, *FUNCTIONS])}; columns {there}"
    )


def _of_file(spectrum: MassSpectrum, path: str) -> Array:
    other = read_spectrum(path)
    first = int(np.searchsorted(other.edges, spectrum.edges[0] - 1e-6 * (spectrum.edges[1] - spectrum.edges[0])))
    same = other.edges[first : first + len(spectrum.edges)]
    if len(same) != len(spectrum.edges) or not np.allclose(same, spectrum.edges, rtol=1e-6):
        raise InputError(f"{path}: its bins are not those of {spectrum.source}; give the background in the same bins")
    return other.counts[first : first + len(spectrum.counts)]


# -- the hunt --------------------------------------------------------------------------------------------


def hunted(spectrum: MassSpectrum, background: Background, asked: str, options: SpectrumOptions) -> SpectrumHunt:
    """Hunt a bump in a checked spectrum with a background; see the top of this module."""
    counts, edges = spectrum.counts, spectrum.edges
    widths = options.widths_in(len(counts))
    how = {"widths": widths, "deficit": options.deficit, "normalise": options.normalise}
    fits = background.fit(counts)
    expected = fits.expected[:, 0]
    best = scan(counts, expected, **how)  # type: ignore[arg-type]
    statistic = float(best.test_statistic[0])
    toys, chi2, failed = thrown(background, expected, options, how)
    global_p, bound = estimated(int((toys >= statistic).sum()), len(toys))
    of_all = _background_result(background, asked, fits, chi2, failed, options)
    log_p = float(best.log_p_value[0])
    window = None if log_p == 0 else slice(int(best.start[0]), int(best.start[0] + best.width[0]))
    refit, again, left_out = _without(background, asked, counts, window, global_p, options)
    every = every_window(counts, expected, **how)  # type: ignore[arg-type]
    ends = edges[every.start], edges[every.start + every.width]
    last = expected if again is None else again
    reference = _scaled(counts, last, window) if options.normalise else last
    return SpectrumHunt(
        source=spectrum.source,
        observed=spectrum.observed,
        mode="deficit" if options.deficit else "excess",
        local_p_value=max(TINY, float(np.exp(log_p))),
        local_significance=significance_of_log(log_p),
        global_p_value=global_p,
        global_p_value_is_bound=bound,
        global_significance=significance(global_p),
        test_statistic=statistic,
        interval=None if window is None else (float(edges[window.start]), float(edges[window.stop])),
        **_estimates(edges, counts, reference, window if left_out is None else left_out),  # type: ignore[arg-type]
        observed_events=0.0 if window is None else float(counts[window].sum()),
        expected_events=0.0 if window is None else float(reference[window].sum()),
        background=of_all,
        refit=refit,
        refit_local_significance=None if again is None else _local(counts, again, window, options.deficit),
        windows=len(every.start),
        widths=widths,
        pseudo_experiments=len(toys),
        seed=options.seed,
        sqrt_s=options.sqrt_s,
        edges=edges,
        counts=counts,
        expected=reference,
        first_expected=expected,
        tomography=np.stack([*ends, np.maximum(TINY, np.exp(every.log_p_value))], axis=1),
        toys=toys,
        fit=background,
    )


def thrown(
    background: Background,
    expected: Array,
    options: SpectrumOptions,
    how: dict[str, object],
    added: Array | None = None,
) -> tuple[Array, Array, float]:
    """Throw Poisson numbers around what is expected (B,); fit and scan them as the data.

    Returns:
        Test statistics (n,), deviances (n,), and the share of fits that did not converge. `added` (B,) are events of a
        signal that are expected besides.
    """
    rng = np.random.default_rng(options.seed)
    mean = np.maximum(expected if added is None else expected + added, 0)
    statistics, deviances, failed = [], [], 0
    for first in range(0, options.pseudo_experiments, BLOCK):
        many = min(BLOCK, options.pseudo_experiments - first)
        counts = rng.poisson(mean[:, None], (len(mean), many)).astype(np.float64)
        counts[:, ~counts.any(axis=0)] = mean[:, None]  # without any event there is nothing to fit
        fits = background.fit(counts)
        statistics.append(scan(counts, fits.expected, **how).test_statistic)  # type: ignore[arg-type]
        deviances.append(fits.deviance)
        failed += int((~fits.converged).sum())
    return np.concatenate(statistics), np.concatenate(deviances), failed / options.pseudo_experiments


def _scaled(counts: Array, expected: Array, window: slice | None) -> Array:
    """A given background, normalised by the events outside the window."""
    outside = np.ones(len(counts), bool)
    if window is not None:
        outside[window] = False
    total = expected[outside].sum()
    return expected * (counts[outside].sum() / total) if total > 0 else expected


def _estimates(edges: Array, counts: Array, expected: Array, window: slice | None) -> dict[str, float | None]:
    """Mass and number of events of the excess in a window of bins."""
    if window is None:
        return {"mass_estimate": None, "signal_estimate": 0.0}
    centres = 0.5 * (edges[1:] + edges[:-1])[window]
    excess = counts[window] - expected[window]
    total = float(excess.sum())
    mean = float((excess * centres).sum() / total) if total else float(centres.mean())
    mass = float(np.clip(mean, edges[window.start], edges[window.stop]))
    return {"mass_estimate": mass, "signal_estimate": total}


def _local(counts: Array, expected: Array, window: slice | None, deficit: bool) -> float:
    """Significance of the events in a window of bins."""
    if window is None:
        return 0.0
    width = window.stop - window.start
    one = every_window(counts, expected, widths=(width, width), deficit=deficit)
    return significance_of_log(float(one.log_p_value[window.start]))


def _without(
    background: Background,
    asked: str,
    counts: Array,
    window: slice | None,
    global_p: float,
    options: SpectrumOptions,
) -> tuple[BackgroundResult | None, Array | None, slice | None]:
    """Fit without the bump, if there is reason to and enough is left.

    Without the bump the background is lower, and flanks of the bump are seen: a bin beside what is left out, with an
    excess of 2 sigma or more, is left out as well, until there is none.

    Returns:
        The background, what is expected, and the bins that were left out; None three times if there is no such fit.
    """
    if not isinstance(background, FittedBackground) or window is None or global_p >= EXCLUDE_BELOW:
        return None, None, None
    other, left_out = None, window
    for _ in range(GROWTH):
        if not _enough(background, counts, left_out):
            break
        other, final = background.excluding(left_out), left_out
        fits = other.fit(counts)
        left_out = _grown(left_out, bin_significance(counts, fits.expected[:, 0]), -1 if options.deficit else 1)
        if left_out == final:
            break
    if other is None:
        return None, None, None
    few = dataclasses.replace(options, pseudo_experiments=min(REFITS, options.pseudo_experiments))
    edges = background.edges
    excluded = (float(edges[final.start]), float(edges[final.stop]))
    chi2, failed = _deviances(other, fits.expected[:, 0], few)
    result = _background_result(other, asked, fits, chi2, failed, options, excluded)
    return result, fits.expected[:, 0], final


def _grown(window: slice, significances: Array, sign: int) -> slice:
    """Return a window of bins, and the bin on each side if that deviates in the same direction.

    >>> _grown(slice(2, 3), np.array([0.0, 2.5, 9.0, 1.0]), 1)
    slice(1, 3, None)
    """
    first, last = window.start, window.stop
    first -= first > 0 and sign * significances[first - 1] >= FLANK
    last += last < len(significances) and sign * significances[last] >= FLANK
    return slice(int(first), int(last))


def _enough(background: FittedBackground, counts: Array, window: slice) -> bool:
    """Whether a fit without a window of bins has more bins than parameters, and half of all bins, and events."""
    left = background.used.copy()
    left[window] = False
    most = max(function.parameters for function in background.functions)
    least = EVENTS_PER_PARAMETER * background.functions[0].parameters
    return bool(left.sum() > max(most, len(counts) / 3) and counts[left].sum() >= least)


def _deviances(background: Background, expected: Array, options: SpectrumOptions) -> tuple[Array, float]:
    rng = np.random.default_rng(options.seed)
    counts = rng.poisson(expected[:, None], (len(expected), options.pseudo_experiments)).astype(np.float64)
    counts[:, ~counts.any(axis=0)] = expected[:, None]
    fits = background.fit(counts)
    return fits.deviance, float((~fits.converged).mean())


def _background_result(
    background: Background,
    asked: str,
    fits: Fits,
    chi2: Array,
    failed: float,
    options: SpectrumOptions,
    excluded: tuple[float, float] | None = None,
) -> BackgroundResult:
    observed = float(fits.deviance[0])
    p_value, bound = estimated(int((chi2 >= observed * (1 - 1e-9)).sum()), len(chi2))
    degrees = float(fits.degrees_of_freedom[0])
    names, values, errors, formula, kind = _parameters(background, fits)
    return BackgroundResult(
        kind=kind,
        asked=asked,
        fitted=not isinstance(background, GivenBackground),
        formula=formula,
        parameters=dict(zip(names, values)),
        errors=dict(zip(names, errors)),
        sliding_window=background.bins if isinstance(background, SlidingWindow) else None,
        excluded=excluded if excluded is not None else options.exclude,
        chi2=observed,
        degrees_of_freedom=None if np.isnan(degrees) else int(degrees),
        p_value=p_value,
        p_value_is_bound=bound,
        describes=p_value >= DESCRIBES,
        converged=bool(fits.converged[0]),
        not_converged=failed,
    )


def _parameters(
    background: Background, fits: Fits
) -> tuple[Sequence[str], list[float], list[float | None], str | None, str]:
    """Names, values and errors of the parameters of the first fit, the formula, and the name of the function.

    A sliding window has parameters in each window, which are not told.
    """
    if isinstance(background, SlidingWindow):
        return (), [], [], background.functions[0].formula, background.kind
    if not isinstance(background, FittedBackground):
        return (), [], [], None, background.kind
    choice = int(fits.choice[0])
    function, fitter = background.functions[choice], background.fitters[choice]
    logarithmic = fits.parameters[: function.parameters, 0]
    variances = np.diag(fitter.covariance(logarithmic))
    values = [float(np.exp(min(logarithmic[0], 700.0))), *map(float, logarithmic[1:])]
    deviations: list[float | None] = [
        float(np.sqrt(v)) if np.isfinite(v) and v >= 0 else None for v in variances.tolist()
    ]
    if deviations[0] is not None:
        deviations[0] *= values[0]
    return function.parameter_names, values, deviations, function.formula, function.name


def assumptions(found: SpectrumHunt) -> dict[str, str]:
    """Say what each p-value of a hunt assumes."""
    if found.background.fitted:
        window = found.background.sliding_window
        where = "" if window is None else f" in a sliding window of {window} bins"
        known = f"{found.background.kind}{where}, fitted again to each"
        if found.background.asked in FAMILIES:
            known = (
                f"one of {', '.join(FAMILIES[found.background.asked])} by an F-test, chosen and fitted again in each"
            )
        holds = "that the function describes the background"
    else:
        known, holds = f"the background {found.background.kind!r}", "that this background is exact"
    return {
        "local_p_value": "Poisson probability of one window, chosen after the fact; the background taken as exact.",
        "global_p_value": f"{found.pseudo_experiments:,} Poisson pseudo-experiments around {known}; over "
        f"{found.windows:,} windows. It assumes {holds}.",
        "background_p_value": "Share of pseudo-experiments around this background, treated alike, with as large a chi2.",
    }


def bin_significance(counts: Array, expected: Array) -> Array:
    """Return the signed root of the deviance of every bin, (B,): the significance of its excess, or minus its deficit's.

    >>> bin_significance(np.array([120.0, 80.0]), np.array([100.0, 100.0])).round(2).tolist()
    [1.94, -2.07]
    """
    return np.asarray(np.sign(counts - expected) * np.sqrt(np.maximum(deviance(counts, expected), 0)))
