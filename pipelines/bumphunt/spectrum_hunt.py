"""A bump hunt in a spectrum alone: no model, no events, a background that is given or fitted.

1. The background is fitted to the whole spectrum, or given.
2. All windows are scanned (BumpHunter, arXiv:1101.0390), and the one of smallest local p-value is the bump.
3. Pseudo-experiments are Poisson numbers around the background. Each is fitted and scanned as the data are. The share
   that is as extreme is the global p-value, (k + 1) / (n + 1).
4. If the global p-value is below 0.01, the background is fitted again without the window, as ATLAS does
   (arXiv:1910.08447, sec. 6): a signal pulls the fit. Flanks of the bump are left
   out too. Mass and number of signal events are then of this fit. A given background is compared again without the bump.

The global p-value is that of the first fit, which a signal can only make less significant.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pipelines.bumphunt.background_fit import Background, FittedBackground, poisson_spectra
from pipelines.bumphunt.batched_fit import bin_significance
from pipelines.bumphunt.bump_hunt import significance
from pipelines.bumphunt.discovery_reach import REPEATS
from pipelines.bumphunt.fit_functions import SQRT_S, Array
from pipelines.bumphunt.fitted_scan import SMALLEST, every_window, scan, significance_of_log
from pipelines.bumphunt.pseudo_experiments import estimated
from pipelines.bumphunt.spectrum_background import background_of, given_events, opened
from pipelines.bumphunt.spectrum_options import PSEUDO_EXPERIMENTS, SpectrumOptions
from pipelines.bumphunt.spectrum_reach import spectrum_reach
from pipelines.bumphunt.spectrum_refit import background_result, without_bump
from pipelines.bumphunt.spectrum_result import BackgroundResult, SpectrumHunt, assumptions
from pipelines.errors import InputError
from pipelines.spectrum_files import MassSpectrum

__all__ = [
    "BackgroundResult",
    "SpectrumHunt",
    "SpectrumOptions",
    "assumptions",
    "background_of",
    "bin_significance",
    "bumphunt",
    "hunted",
    "thrown",
]

BLOCK = 1000  # pseudo-experiments that are fitted and scanned together


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
    template: str | os.PathLike[str] | ArrayLike | None = None,
    inject: tuple[float, float] | None = None,
    inject_events: Sequence[float] | None = None,
    repeats: int = REPEATS,
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
        background, column, mass_range, sqrt_s, sliding_window, exclude, widths, pseudo_experiments, seed, deficit, normalise,
        template, inject, inject_events, repeats,
    )  # fmt: skip
    options.check()
    found = opened(spectrum, edges, column, mass_range)
    found.check_poisson()
    options.check_injection((float(found.edges[0]), float(found.edges[-1])))
    chosen, asked = background_of(found, options)
    if options.template is not None and not isinstance(chosen, FittedBackground):
        raise InputError(
            "a template measures the spurious signal of a function that is fitted to the whole spectrum; none is"
        )
    hunt = hunted(found, chosen, asked, options)
    if inject is None:
        return hunt
    return dataclasses.replace(
        hunt, reach=spectrum_reach(hunt, *inject, options.inject_events or None, repeats=repeats)
    )


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
    of_all = background_result(background, asked, fits, chi2, failed, options)
    log_p = float(best.log_p_value[0])
    window = None if log_p == 0 else slice(int(best.start[0]), int(best.start[0] + best.width[0]))
    refit, again, left_out = without_bump(background, asked, counts, window, global_p, options, edges)
    every = every_window(counts, expected, **how)  # type: ignore[arg-type]
    ends = edges[every.start], edges[every.start + every.width]
    last = expected if again is None else again
    reference = last
    if options.normalise and window is not None and again is None:
        reference = background.excluding(window).fit(counts).expected[:, 0]
    return SpectrumHunt(
        source=spectrum.source,
        observed=spectrum.observed,
        mode="deficit" if options.deficit else "excess",
        local_p_value=max(SMALLEST, float(np.exp(log_p))),
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
        normalised=options.normalise,
        template=None if options.template is None else given_events(spectrum, options.template),
        edges=edges,
        counts=counts,
        expected=reference,
        first_expected=expected,
        tomography=np.stack([*ends, np.maximum(SMALLEST, np.exp(every.log_p_value))], axis=1),
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
    mean = expected if added is None else expected + added
    statistics, deviances, failed = [], [], 0
    for first in range(0, options.pseudo_experiments, BLOCK):
        many = min(BLOCK, options.pseudo_experiments - first)
        counts = poisson_spectra(background, mean, many, rng)
        fits = background.fit(counts)
        statistics.append(scan(counts, fits.expected, **how).test_statistic)  # type: ignore[arg-type]
        deviances.append(fits.deviance)
        failed += int((~fits.converged).sum())
    return np.concatenate(statistics), np.concatenate(deviances), failed / options.pseudo_experiments


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
