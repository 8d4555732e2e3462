"""BumpHunter's scan of spectra that each have an expectation of their own, such as a background fitted to each.

`scan` gives the numbers of pyBumpHunter, and two things more: the expectation may differ from spectrum to spectrum, and
p-values below 1e-300 keep their logarithm, so that large bumps still have a most significant window.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammainc, gammaincc, gammaln, xlogy
from scipy.stats import norm

from pipelines.bumphunt.fit_functions import Array

SMALLEST = 1e-300  # as pyBumpHunter: a p-value that is told is no smaller, and its logarithm knows how small it is
UNDERFLOW = 1e-290  # p-values below are taken from the approximation, whose relative error there is below 1e-3
MARGIN = 0.25  # sigma: of windows within, the exact p-value decides; the approximation is right to 0.05
BLOCK = 2**20  # windows times spectra in memory at a time


@dataclasses.dataclass(frozen=True)
class BestWindows:
    """The most significant window of each of T spectra, or all windows of one, (T,) each.

    Attributes:
        log_p_value: natural logarithm of the local p-value, however small it is; 0 if there is no excess.
        start, width: first bin, and number of bins.
    """

    log_p_value: Array
    start: NDArray[np.int64]
    width: NDArray[np.int64]

    @property
    def p_value(self) -> Array:
        """The local p-value (T,), at least 1e-300."""
        return np.maximum(SMALLEST, np.exp(self.log_p_value))

    @property
    def test_statistic(self) -> Array:
        """BumpHunter's -ln p (T,), rounded to 1e-6: equal ones compare as equal, in whatever order they were summed."""
        return np.maximum(0.0, -self.log_p_value).round(6)


def scan(
    counts: ArrayLike,
    expected: ArrayLike,
    *,
    widths: tuple[int, int],
    deficit: bool = False,
    normalise: bool = False,
) -> BestWindows:
    """Find the window of smallest p-value in every spectrum (BumpHunter, arXiv:1101.0390).

    In a window with n events where r are expected, p = P(X >= n | r) if n > r, else 1. For a deficit
    p = P(X <= n | r) if n < r.

    Args:
        counts: (B,) or (B, T) events. expected: (B,) for all spectra, or (B, T).
        widths: narrowest and widest window in bins. deficit: look for too few events.
        normalise: scale r by the events outside the window, r (N - n) / (R - r).

    Example:
        >>> found = scan(np.array([10, 10, 40, 10, 10]), np.full(5, 10.0), widths=(1, 2))
        >>> print(found.start, found.width, found.log_p_value.round(2))
        [2] [1] [-27.94]
    """
    counts, expected = _columns(counts, expected)
    windows = max(1, sum(len(counts) + 1 - width for width in range(widths[0], widths[1] + 1)))
    block, parts = max(1, BLOCK // windows), []
    for first in range(0, counts.shape[1], block):
        there = slice(first, first + block)
        mine = expected if expected.shape[1] == 1 else expected[:, there]
        parts.append(_scan(counts[:, there], mine, widths, deficit, normalise))
    return BestWindows(
        np.concatenate([part.log_p_value for part in parts]),
        np.concatenate([part.start for part in parts]),
        np.concatenate([part.width for part in parts]),
    )


def every_window(
    counts: ArrayLike, expected: ArrayLike, *, widths: tuple[int, int], deficit: bool = False, normalise: bool = False
) -> BestWindows:
    """Return all windows of one spectrum (B,) with their p-values, the narrow ones first: BumpHunter's tomography.

    >>> every_window(np.array([10, 40, 10]), np.full(3, 10.0), widths=(2, 3)).start.tolist()
    [0, 1, 0]
    """
    counts, expected = _columns(counts, expected)
    rows = list(_each_width(counts, expected, widths, normalise))
    n, r, starts, width = (np.concatenate(part) for part in zip(*rows))
    return BestWindows(log_tail(n, r, deficit)[:, 0], starts, width)


def _columns(counts: ArrayLike, expected: ArrayLike) -> tuple[Array, Array]:
    counts, expected = np.asarray(counts, np.float64), np.asarray(expected, np.float64)
    return counts.reshape(len(counts), -1), expected.reshape(len(expected), -1)


def _each_width(
    counts: Array, expected: Array, widths: tuple[int, int], normalise: bool
) -> Iterator[tuple[Array, Array, NDArray[np.int64], NDArray[np.int64]]]:
    """Yield events n and expectation r (W, T) of the windows of each width, their first bins and widths (W,)."""
    n_below, r_below = (np.concatenate([np.zeros((1, a.shape[1])), a.cumsum(axis=0)]) for a in (counts, expected))
    for width in range(widths[0], min(widths[1], len(counts)) + 1):
        n = n_below[width:] - n_below[:-width]
        r = np.maximum(r_below[width:] - r_below[:-width], 0.0)
        if normalise:
            outside = r_below[-1] - r
            r = np.divide(
                (n_below[-1] - n) * r, outside, out=np.full(n.shape, np.inf), where=outside > 1e-12 * r_below[-1]
            )
        starts = np.arange(len(n))
        yield n, np.broadcast_to(r, n.shape), starts, np.full(len(n), width)


def _scan(counts: Array, expected: Array, widths: tuple[int, int], deficit: bool, normalise: bool) -> BestWindows:
    rows = list(_each_width(counts, expected, widths, normalise))
    starts = np.concatenate([row[2] for row in rows])
    width = np.concatenate([row[3] for row in rows])
    about = np.concatenate([_approximate_z(n, r, deficit) for n, r, _, _ in rows])
    likely = about >= np.minimum(about.max(axis=0), 6.0 + 0.9 * np.maximum(about.max(axis=0) - 6.0, 0)) - MARGIN
    likely |= (about > 0) & (about.max(axis=0) < 1.0)  # where the approximation is poor, and nothing is found
    log_p = np.zeros(about.shape)
    n = np.concatenate([row[0] for row in rows])[likely]
    r = np.concatenate([row[1] for row in rows])[likely]
    log_p[likely] = log_tail(n, r, deficit)
    best = log_p.argmin(axis=0)
    return BestWindows(log_p[best, np.arange(len(best))], starts[best], width[best])


def _approximate_z(n: Array, r: Array, deficit: bool) -> Array:
    """Significance of Poisson numbers to about 0.05 sigma; 0 where there is no excess (or deficit).

    The signed root of the deviance, corrected after Lugannani and Rice: w + ln(u / w) / w, where
    w^2 = 2 [k ln(k / r) - k + r], u = (1 - r / k) sqrt(k), for P(X >= k). A deficit is 1 - P(X >= n + 1).
    """
    found = np.zeros(n.shape)
    there = (n < r) & np.isfinite(r) if deficit else (n > r) & (r > 0)
    k, mean = n[there] + (1.0 if deficit else 0.0), r[there]
    w = np.sqrt(np.maximum(2 * (k * np.log(k / mean) - k + mean), 0))
    if deficit:
        w = np.where(k < mean, -w, w)
    u = (1 - mean / k) * np.sqrt(k)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = w + np.log(u / w) / w
    z = np.where(np.abs(w) > 0.3, z, w)
    found[there] = np.maximum(-z if deficit else z, 1e-9)
    return found


def log_tail(n: ArrayLike, r: ArrayLike, deficit: bool = False) -> Array:
    """Return ln P(X >= n | r) where n > r, else 0; for a deficit ln P(X <= n | r) where n < r.

    Where the p-value is too small for a floating-point number it is the first term of the tail times a geometric series.

    >>> log_tail([3.0, 1.0, 50_000.0], [1.0, 2.0, 10_000.0]).round(3).tolist()
    [-2.522, 0.0, -40478.001]
    """
    n, r = np.broadcast_arrays(np.asarray(n, np.float64), np.asarray(r, np.float64))
    found = np.zeros(n.shape)
    there = (n < r) & np.isfinite(r) if deficit else (n > r) & (r > 0)
    m, mean = n[there], r[there]
    p = gammaincc(m + 1, mean) if deficit else gammainc(m, mean)
    tiny = p < UNDERFLOW
    with np.errstate(divide="ignore"):
        log_p = np.log(p)
    log_p[tiny] = log_tail_far_out(m[tiny], mean[tiny], deficit)
    found[there] = np.minimum(log_p, 0.0)
    return found


def log_tail_far_out(n: Array, r: Array, deficit: bool = False) -> Array:
    """Return ln of the tail from its first term: P(n) times a geometric series, whose ratio is r / (n + 1), or n / r."""
    first = xlogy(n, r) - r - gammaln(n + 1)
    ratio = n / r if deficit else r / (n + 1)
    return np.asarray(first - np.log1p(-ratio))


def significance_of_log(log_p: float) -> float:
    """Return the standard deviations of a one-sided p-value given by its logarithm; 0 for p of a half or more.

    >>> round(significance_of_log(np.log(0.00135)), 2), round(significance_of_log(-5000.0), 1)
    (3.0, 99.9)
    """
    if log_p > np.log(1e-280):
        return max(0.0, float(norm.isf(np.exp(log_p))))
    z = np.sqrt(-2 * log_p)
    for _ in range(20):  # ln p = -z^2 / 2 - ln(z sqrt(2 pi)), to 1/z^2
        z = np.sqrt(-2 * (log_p + np.log(z * np.sqrt(2 * np.pi))))
    return float(z)
