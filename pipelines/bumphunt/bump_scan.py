"""BumpHunter's scan: the p-value of every window of a spectrum, and the most significant window.

`bump_scan` looks at thousands of histograms at a time, `pipelines.bumphunt.bumphunter` at one, with the same result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.special import gammaln

from pipelines.bumphunt.fitted_scan import SMALLEST, BestWindows, log_tail
from pipelines.errors import InputError

WIDTHS = (3, 8)  # of the scan window in bins, GAN-AE sec. 4.3
STATISTICS = ("poisson", "fisher")


def bump_scan(
    histograms: np.ndarray,
    reference: np.ndarray,
    *,
    widths: tuple[int, int] = WIDTHS,
    side_band: int = 0,
    deficit: bool = False,
    normalise: bool = True,
    statistic: str = "poisson",
) -> BestWindows:
    """Find the window of smallest p-value in every histogram: BumpHunter, arXiv:1101.0390, all at once.

    In a window with n events where r are expected, p = P(X >= n | r) = gammainc(n, r) if n > r, else 1; for a deficit
    P(X <= n | r) = gammaincc(n + 1, r) if n < r. The reference is scaled by side bands, window by window: r is that of
    the window times (events outside) / (reference outside). The windows, their order and what happens to empty bins at
    the ends of the reference are as in pyBumpHunter 0.5.1; so are the numbers, but for a deficit of p < 1e-10, where
    pyBumpHunter's 1 - gammainc loses digits, and for p < 1e-300, which it takes as equal.

    Args:
        histograms: (B,) or (B, T) contents >= 0, one column a histogram. reference: (B,).
        widths: narrowest and widest window in bins.
        side_band: bins at both ends where no window may be; they only normalise, if that is done.
        deficit: look for too few events instead of too many.
        normalise: scale by side bands; if not, the reference is taken as it is.
        statistic: "poisson" as above, or "fisher": P(X >= n) of Fisher's exact test, where X is hypergeometric: so
            many of the histogram's events fall into the window if they are drawn from the reference's. It knows what
            the Poisson number does not, that reference and normalisation have errors of their own, and it needs whole
            events of which the reference has all, and histograms of one total.

    Returns:
        `BestWindows`. A histogram without any excess has p-value 1. Raises `InputError` for histograms that Fisher's test is
        not for.

    Example:
        >>> found = bump_scan(np.array([10, 10, 40, 10, 10]), np.full(5, 10.0), widths=(1, 2))
        >>> print(found.start, found.width, f"{found.p_value[0]:.1e}")
        [2] [1] 7.3e-13
    """
    histograms = np.asarray(histograms, np.float64).reshape(len(reference), -1)
    best = BestWindows(
        *(np.full(histograms.shape[1], value) for value in (0.0, np.flatnonzero(reference)[0], widths[0]))
    )
    columns = np.arange(histograms.shape[1])
    for width, starts, log_p in _windows(histograms, reference, widths, side_band, deficit, normalise, statistic):
        smallest = log_p.argmin(axis=0)
        log_p = log_p[smallest, columns]
        better = log_p < best.log_p_value
        best.log_p_value[better] = log_p[better]
        best.start[better] = starts[smallest[better]]
        best.width[better] = width
    return best


def tomography(
    histogram: np.ndarray,
    reference: np.ndarray,
    *,
    widths: tuple[int, int] = WIDTHS,
    side_band: int = 0,
    deficit: bool = False,
    normalise: bool = True,
    statistic: str = "poisson",
) -> BestWindows:
    """Return the p-value of every window of one histogram (B,), in the order in which `bump_scan` looks at them.

    BumpHunter's tomography plot. Arguments as for `bump_scan`, whose window is the first of smallest p-value here.

    >>> found = tomography(np.array([10, 10, 40, 10, 10]), np.full(5, 10.0), widths=(1, 2))
    >>> print(found.start, found.width)
    [0 1 2 3 4 0 1 2 3] [1 1 1 1 1 2 2 2 2]
    """
    histogram = np.asarray(histogram, np.float64).reshape(len(reference), 1)
    rows = [
        (starts, np.full(len(starts), width), log_p[:, 0])
        for width, starts, log_p in _windows(histogram, reference, widths, side_band, deficit, normalise, statistic)
    ]
    starts, found, log_p = map(np.concatenate, zip(*rows)) if rows else (np.empty(0, int),) * 2 + (np.empty(0),)
    return BestWindows(log_p, starts, found)


def _windows(
    histograms: np.ndarray,
    reference: np.ndarray,
    widths: tuple[int, int],
    side_band: int,
    deficit: bool,
    normalise: bool,
    statistic: str,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield width, first bins (W,) and logarithms of p-values (W, T) of all windows of each width in histograms (B, T)."""
    filled = np.flatnonzero(reference)
    counts = _cumulated(histograms[filled[0] : filled[-1] + 1])
    expected = _cumulated(np.asarray(reference, np.float64)[filled[0] : filled[-1] + 1, None])
    side_band = side_band if normalise else 0
    if statistic == "fisher":
        _check_drawn(counts, expected)
    for width in range(widths[0], widths[1] + 1):
        starts = np.arange(side_band, len(counts) - side_band - width)
        if not len(starts):
            break
        n, r = (cumulated[starts + width] - cumulated[starts] for cumulated in (counts, expected))
        if statistic == "fisher":
            log_p = _fisher_tail(n, r, counts[-1, 0], expected[-1, 0], deficit)
        else:
            log_p = _log_p_values(n, r, counts[-1], expected[-1], deficit, normalise)
        yield width, filled[0] + starts, log_p


def _cumulated(histograms: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((1, histograms.shape[1])), histograms.cumsum(axis=0)])


def _log_p_values(
    n: np.ndarray, r: np.ndarray, total: np.ndarray, expected_total: np.ndarray, deficit: bool, normalise: bool
) -> np.ndarray:
    """Logarithms of p-values (windows, T) of counts n (windows, T) where r (windows, 1) are expected before normalisation.

    Where all histograms have the same total, or nothing is normalised, p depends on the window and n alone. Counts are
    few and pseudo-experiments are many, so a table of all that occur is far shorter than their list.
    """
    if not normalise or np.ptp(total) == 0:
        lowest = n.min(axis=1, keepdims=True)
        span = int((n - lowest).max()) + 1
        if span < n.shape[1] and (n == np.rint(n)).all():
            counts = lowest + np.arange(span)
            table = log_tail(counts, _scaled(r, counts, total[:1], expected_total, normalise), deficit)
            return np.take_along_axis(table, (n - lowest).astype(np.int64), axis=1)
    return log_tail(n, _scaled(r, n, total, expected_total, normalise), deficit)


def _scaled(r: np.ndarray, n: np.ndarray, total: np.ndarray, expected_total: np.ndarray, normalise: bool) -> np.ndarray:
    if not normalise:
        return np.broadcast_to(r, n.shape)
    with np.errstate(divide="ignore", invalid="ignore"):  # a window that leaves no side band: not a number, so p = 1
        scaled: np.ndarray = (total - n) / (expected_total - r) * r
    return scaled


def poisson_p_value(n: float, r: float, deficit: bool = False) -> float:
    """Return P(X >= n | r), or P(X <= n | r) for a deficit; 1 where there is none, and at least 1e-300.

    >>> round(poisson_p_value(3, 1.0), 5), poisson_p_value(3, 3.5), round(poisson_p_value(0, 3.5, deficit=True), 4)
    (0.0803, 1.0, 0.0302)
    """
    return max(SMALLEST, float(np.exp(log_tail(n, r, deficit))))


def _check_drawn(counts: np.ndarray, expected: np.ndarray) -> None:
    whole = all((values == np.rint(values)).all() for values in (counts, expected))
    if not whole or np.ptp(counts[-1]) > 0 or counts[-1, 0] > expected[-1, 0]:
        raise InputError(
            "statistic 'fisher' needs whole numbers of events, the same number selected in every pseudo-experiment: take "
            "'poisson', or shuffled pseudo-experiments of one spectrum"
        )


def _fisher_tail(n: np.ndarray, r: np.ndarray, total: float, of: float, deficit: bool) -> np.ndarray:
    """log P(X >= n) for counts n (windows, T) in windows with r (windows, 1) of all events; `total` of `of` are drawn.

    A table per window, the probabilities summed from the far end: beyond ten standard deviations nothing is left.
    """
    if deficit:  # too few of those drawn are too many of those that are not
        n, total = r - n, of - total
    lowest = n.min(axis=1, keepdims=True)
    span = int((n - lowest).max()) + 1
    counts = lowest + np.arange(span + int(50 + 10 * np.sqrt(n.max())))
    possible = (counts <= np.minimum(r, total)) & (counts >= total - (of - r))
    table = np.full(counts.shape, -np.inf)
    window, k = np.broadcast_to(r, counts.shape)[possible], counts[possible]
    table[possible] = _log_choose(window, k) + _log_choose(of - window, total - k) - _log_choose(of, total)
    table = np.minimum(np.logaddexp.accumulate(table[:, ::-1], axis=1)[:, ::-1], 0.0)
    table[counts * of <= total * r] = 0.0
    return np.take_along_axis(table, (n - lowest).astype(np.int64), axis=1)


def _log_choose(n: Any, k: Any) -> Any:
    """log of n! / k! (n - k)!

    >>> print(np.exp(_log_choose(5, 2)).round(9))
    10.0
    """
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
