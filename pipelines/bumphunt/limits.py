"""Upper limits on the number of signal events in the window of a bump: CLs by pyhf.

One counting experiment, the number of events in the window, with a background known to an error: Poisson(n; s + gamma b), gamma
constrained to 1 by an auxiliary Poisson measurement of relative error sigma_b / b (pyhf's `uncorrelated_background`). Limits
are asymptotic, with the test statistic q~ (Cowan, Cranmer, Gross and Vitells 2011, arXiv:1007.1727).

The window was chosen for its excess. So the observed limit is that for a signal there, not for one of unknown mass.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from pipelines.errors import InputError

CONFIDENCE = 0.95
POINTS = 8  # numbers of signal events for which CLs is worked out, at least; ln CLs is interpolated between them
SMALLEST_CLS, FAR = 1e-12, 8.0
LEAST_BACKGROUND, LEAST_ERROR = 1e-3, 1e-3  # events, and relative error, that pyhf can work with
LOOKS = 100  # numbers of signal events at most
LOOSE = 0.05  # share selected of background from which on it is said what that does to a limit
BANDS = ("-2 sigma", "-1 sigma", "median", "+1 sigma", "+2 sigma")


class NoLimit(InputError):
    """Numbers of events that allow no limit."""


@dataclasses.dataclass(frozen=True)
class Limit:
    """An upper limit on the number of signal events in a window, at a confidence level of 95 %.

    Attributes:
        observed: limit. expected: limits of background alone, median and one and two standard deviations, by name.
        events, background, background_error: what was counted and expected in the window. absorbed: share of a signal that
            the selection hides (`pipelines.bumphunt.mass_cut`); the limits are of the signal before that.
        window: its ends.
        share: f, of background that the cut selects, if the background is measured by events that it does not select (see
            `limit_of_cut`); else 0. The limits are for a signal of which the cut selects all. If it selects a share e, they are
            larger by (1 - f) / (1 - f / e), and there is none for e <= f.
    """

    observed: float
    expected: Mapping[str, float]
    events: float
    background: float
    background_error: float
    absorbed: float
    window: tuple[float, float]
    share: float = 0.0

    def to_dict(self) -> dict[str, object]:
        """Return the numbers for JSON, and how they were made."""
        method = "CLs, asymptotic, pyhf; one counting experiment with the error of the background"
        return {**dataclasses.asdict(self), "confidence_level": CONFIDENCE, "method": method}


@functools.lru_cache(256)
def upper_limit(events: float, background: float, error: float) -> tuple[float, tuple[float, ...]]:
    """Return the observed 95 % CLs limit on signal events, and the five expected ones from -2 to +2 sigma.

    Args:
        events: counted. background: expected, and its standard deviation `error`.

    Raises:
        InputError: for numbers below 0. NoLimit: for an error larger than the background and than one event, and where the
            fits find no limit.

    Example:
        >>> observed, expected = upper_limit(10, 10.0, 1.0)
        >>> round(observed, 1), [round(value, 1) for value in expected]
        (7.7, [3.8, 5.3, 7.7, 11.5, 16.7])
    """
    if not (events >= 0 and background >= 0 and error >= 0 and np.isfinite([events, background, error]).all()):
        raise InputError(
            f"limit: {events:g} events, background {background:g} +- {error:g}, expected numbers of at least 0"
        )
    told = f"limit: {events:g} events, background {background:g} +- {error:g}"
    if error > max(background, 1.0):
        raise NoLimit(f"{told}, expected an error of at most the background, or one event")
    background = max(background, LEAST_BACKGROUND)
    error = max(error, LEAST_ERROR * background)
    with warnings.catch_warnings():  # pyhf 0.7 uses what jsonschema deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        import pyhf

        logging.getLogger("pyhf").setLevel(logging.CRITICAL)  # what fails is told below
        model = pyhf.simplemodels.uncorrelated_background([1.0], [background], [error])
    try:
        return _scanned(model, events, background, error)
    except (pyhf.exceptions.FailedMinimization, ValueError):
        raise NoLimit(f"{told}: the fits find no limit; take numbers that are nearer to each other") from None


def _scanned(model: Any, events: float, background: float, error: float) -> tuple[float, tuple[float, ...]]:
    """Return what `upper_limit` does, of allowed numbers; raises `ValueError` where CLs does not fall as it should."""
    sigma = float(np.sqrt(max(background, 1.0) + error**2))
    found = {
        signal: _log_cls(model, events, signal) for signal in np.geomspace(0.5 * sigma, 5 * sigma, POINTS).tolist()
    }
    wanted = np.log(1 - CONFIDENCE)

    def look(signal: float) -> np.ndarray:
        if len(found) >= LOOKS:
            raise ValueError("no limit")
        found[signal] = _log_cls(model, events, signal)
        return found[signal]

    while (found[max(found)][1:] > wanted).any():  # until every limit of background alone is between two points
        look(1.5 * max(found))
    while (found[min(found)] < wanted).any():
        look(0.5 * min(found))
    of_events = float(np.sqrt(max(events, 1.0) + error**2))
    signal = max(events - background, 0.0) + of_events
    while look(signal)[0] > wanted:  # and the observed one, which may be far from those
        signal += 0.5 * of_events
    rising = np.array(sorted(found))
    each = np.array([found[signal] for signal in rising])
    limits = [_where(rising, logarithms, wanted) for logarithms in each.T]
    if not 0 < min(limits) <= max(limits) < np.inf:
        raise ValueError("no limit")
    return limits[0], tuple(limits[1:])


def _where(signals: np.ndarray, logarithms: np.ndarray, wanted: float) -> float:
    """Where ln CLs falls to what is wanted; far below that it is 0 within the accuracy of the fits, and no use."""
    used = np.append(True, np.diff(np.minimum.accumulate(logarithms)) < 0) & (logarithms > FAR * wanted)
    return float(PchipInterpolator(-logarithms[used], signals[used])(-wanted))


def _log_cls(model: Any, events: float, signal: float) -> np.ndarray:
    """ln CLs of a number of signal events, (6,): observed, and expected from -2 to +2 sigma."""
    import pyhf

    bounds = [(0, 4 * signal + 10), (1e-10, 10)]
    with warnings.catch_warnings():  # of fits with a parameter at its bound
        warnings.simplefilter("ignore")
        observed, expected = pyhf.infer.hypotest(
            signal, [events, *model.config.auxdata], model, test_stat="qtilde", par_bounds=bounds,
            return_expected_set=True,
        )  # fmt: skip
    return np.log(np.maximum(np.array([float(observed), *map(float, expected)]), SMALLEST_CLS))


def limit_of(
    events: float,
    background: float,
    error: float,
    window: tuple[float, float],
    *,
    unit: float = 1.0,
    absorbed: float = 0.0,
) -> Limit | None:
    """Return the limit of a window; of weighted events, whose equivalent unweighted one has the weight `unit`.

    None where `upper_limit` finds none.

    >>> limit_of(10, 10.0, 1.0, (3000, 3200), absorbed=0.5).observed / upper_limit(10, 10.0, 1.0)[0]
    2.0
    """
    try:
        observed, expected = upper_limit(round(events / unit, 6), round(background / unit, 6), round(error / unit, 6))
    except NoLimit:
        return None
    scale = unit / (1 - min(absorbed, 0.99))
    return Limit(
        observed * scale, {name: value * scale for name, value in zip(BANDS, expected)}, events, background, error,
        absorbed, window,
    )  # fmt: skip


def limit_of_cut(
    selected: float,
    events: float,
    share: float,
    error: float,
    window: tuple[float, float],
    *,
    unit: float = 1.0,
    absorbed: float = 0.0,
) -> Limit | None:
    """Return the limit of a window where a cut selects some of the events; arguments besides as of `limit_of`.

    The background is f / (1 - f) times the events that are not selected: f times all events would have f times the signal in it.

    Args:
        selected, events: counted in the window, selected and all. share, error: f, of background that the cut selects.

    400 signal events, all of them selected, among 1,000 of background, of which half are selected:

    >>> limit_of_cut(900, 1400, 0.5, 0.0, (3000, 3200)).background
    500.0
    """
    others, share = max(events - selected, 0.0), min(share, 0.99)
    ratio = share / (1 - share)
    spread = float(np.hypot(ratio * np.sqrt(others * unit), others * error / (1 - share) ** 2))
    found = limit_of(selected, ratio * others, spread, window, unit=unit, absorbed=absorbed)
    return None if found is None else dataclasses.replace(found, share=share)


def said(limit: Limit) -> str:
    """Return a limit as a sentence.

    >>> said(limit_of(10, 10.0, 1.0, (3000, 3200)))
    'At most 7.7 signal events in 3000 to 3200 GeV at 95 % CL (CLs); expected 7.7, 5.3 to 11.5 within one standard deviation.'
    """
    expected, (low, high), share = limit.expected, limit.window, limit.share
    loose = (
        f" This holds if the cut selects all of the signal; if it selects a share e, the limits are larger by "
        f"{1 - share:.2g} / (1 - {share:.2g} / e), and there is none for e of at most {share:.2g}."
    )
    return (
        f"At most {limit.observed:,.1f} signal events in {low:g} to {high:g} GeV at 95 % CL (CLs); expected "
        f"{expected['median']:,.1f}, {expected['-1 sigma']:,.1f} to {expected['+1 sigma']:,.1f} within one standard deviation."
        f"{loose if share >= LOOSE else ''}"
    )
