"""The background of a spectrum: fitted again without the bump, and how well it describes the spectrum."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.stats import chi2 as chi2_distribution

from pipelines.bumphunt.background_fit import (
    Background,
    FittedBackground,
    GivenBackground,
    SlidingWindow,
    poisson_spectra,
)
from pipelines.bumphunt.batched_fit import Fits, bin_significance
from pipelines.bumphunt.fit_functions import Array
from pipelines.bumphunt.pseudo_experiments import estimated
from pipelines.bumphunt.spectrum_background import enough
from pipelines.bumphunt.spectrum_options import SpectrumOptions
from pipelines.bumphunt.spectrum_result import BackgroundResult

EXCLUDE_BELOW = 0.01  # global p-value below which the window is left out of a second fit
GROWTH = 100  # times that the range which is left out of the second fit may grow, by a bin on each side
BESIDE = 2.0  # sigma: a bin of such an excess, beside what is left out, belongs to the bump
REFITS = 1000  # pseudo-experiments that judge the second fit
DESCRIBES = 0.01  # a background whose goodness of fit has a smaller p-value does not describe the spectrum


def without_bump(
    background: Background,
    asked: str,
    counts: Array,
    window: slice | None,
    global_p: float,
    options: SpectrumOptions,
    edges: Array,
) -> tuple[BackgroundResult | None, Array | None, slice | None]:
    """Fit without the bump, if there is reason to and enough is left; of a given background, compare it without the bump.

    Without the bump the background is lower, and flanks of the bump are seen: a bin beside what is left out, with an
    excess of 2 sigma or more, is left out as well, until there is none.

    Returns:
        The background, what is expected, and the bins that were left out; None three times if there is no such fit.
    """
    if isinstance(background, SlidingWindow) or window is None or global_p >= EXCLUDE_BELOW:
        return None, None, None
    other, left_out = None, window
    for _ in range(GROWTH):
        if not enough(background, counts, left_out):
            break
        other, final = background.excluding(left_out), left_out
        fits = other.fit(counts)
        left_out = _grown(left_out, bin_significance(counts, fits.expected[:, 0]), -1 if options.deficit else 1)
        if left_out == final:
            break
    if other is None:
        return None, None, None
    few = dataclasses.replace(options, pseudo_experiments=min(REFITS, options.pseudo_experiments))
    excluded = (float(edges[final.start]), float(edges[final.stop]))
    chi2, failed = _deviances(other, fits.expected[:, 0], few)
    result = background_result(other, asked, fits, chi2, failed, options, excluded)
    return result, fits.expected[:, 0], final


def _grown(window: slice, significances: Array, sign: int) -> slice:
    """Return a window of bins, and the bin on each side if that deviates in the same direction.

    >>> _grown(slice(2, 3), np.array([0.0, 2.5, 9.0, 1.0]), 1)
    slice(1, 3, None)
    """
    first, last = window.start, window.stop
    first -= first > 0 and sign * significances[first - 1] >= BESIDE
    last += last < len(significances) and sign * significances[last] >= BESIDE
    return slice(int(first), int(last))


def _deviances(background: Background, expected: Array, options: SpectrumOptions) -> tuple[Array, float]:
    rng = np.random.default_rng(options.seed)
    fits = background.fit(poisson_spectra(background, expected, options.pseudo_experiments, rng))
    return fits.deviance, float((~fits.converged).mean())


def _unlikely(observed: float, degrees: float) -> bool:
    """Whether the chi2 distribution has such a chi2 rarely: where none of few pseudo-experiments does, that is not seen."""
    return bool(np.isfinite(degrees) and chi2_distribution.sf(observed, degrees) < DESCRIBES)


def background_result(
    background: Background,
    asked: str,
    fits: Fits,
    chi2: Array,
    failed: float,
    options: SpectrumOptions,
    excluded: tuple[float, float] | None = None,
) -> BackgroundResult:
    """Return the background of the first of the fits; `chi2` (n,) are deviances of pseudo-experiments fitted alike."""
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
        describes=p_value >= DESCRIBES and not (bound and _unlikely(observed, degrees)),
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
