"""Mass spectra: histograms with errors, a reference normalised by side bands, and the most significant window.

`scan` looks at thousands of histograms at a time, `by_pybumphunter` at one, with the same result.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
from collections.abc import Iterator

import numpy as np
from scipy.special import gammainc, gammaincc, gammaln
from scipy.stats import norm

from pipelines.errors import InputError

RELATIVE_ERROR = 0.15  # of a bin at most, GAN-AE sec. 4.3
WIDTHS = (3, 8)  # of the scan window in bins, GAN-AE sec. 4.3
STATISTICS = ("poisson", "fisher")
SMALLEST = 1e-300  # as pyBumpHunter: no p-value is 0, whose logarithm is infinite

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """A binned mass spectrum: edges (B + 1,) in GeV, content (B,) = sum w, variance (B,) = sum w^2 of every bin."""

    edges: np.ndarray
    content: np.ndarray
    variance: np.ndarray

    @property
    def relative_error(self) -> np.ndarray:
        """Statistical error of every bin over its content, (B,); infinite for an empty bin."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.content > 0, np.sqrt(self.variance) / self.content, np.inf)

    def merged(self, edges: np.ndarray) -> Spectrum:
        """Return this spectrum in wider bins, whose edges are some of its own."""
        bin_of = np.searchsorted(edges, self.edges[:-1], side="right") - 1
        sums = (np.bincount(bin_of, values, len(edges) - 1) for values in (self.content, self.variance))
        return Spectrum(edges, *sums)

    def __mul__(self, factor: float) -> Spectrum:
        """Return the spectrum expected of a random share `factor` of these events: sum w and sum w^2 shrink alike."""
        return Spectrum(self.edges, self.content * factor, self.variance * factor)


def bin_of(mass: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the bin of every mass, (N,); len(edges) - 1 for masses outside. As in NumPy, the last edge is inside.

    >>> print(bin_of(np.array([1.0, 2.0, 3.0, 3.5]), np.array([1.0, 2.0, 3.0])))
    [0 1 1 2]
    """
    mass, outside = np.asarray(mass, np.float64), len(edges) - 1
    found = np.searchsorted(edges, mass, side="right") - 1
    found[mass == edges[-1]] = outside - 1
    return np.where(found < 0, outside, found)


def spectrum(mass: np.ndarray, edges: np.ndarray, weight: np.ndarray | None = None) -> Spectrum:
    """Histogram masses (N,) in GeV with weights (N,); masses outside the edges are left out.

    >>> found = spectrum(np.array([1.0, 1.5, 2.5]), np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 1.0]))
    >>> print(found.content, found.variance)
    [3. 1.] [5. 1.]
    """
    edges = np.asarray(edges, np.float64)
    place = bin_of(mass, edges)
    weight = np.ones(len(place)) if weight is None else np.asarray(weight, np.float64)
    content, variance = (np.bincount(place, values, len(edges))[:-1] for values in (weight, weight**2))
    return Spectrum(edges, content, variance)


def adaptive_edges(found: Spectrum, relative_error: float = RELATIVE_ERROR) -> np.ndarray:
    """Merge bins from the high end until the relative error of each, sqrt(sum w^2) / sum w, is under a limit.

    This is the binning of GAN-AE sec. 4.3. What is left over at the low end joins the lowest finished bin.

    Args:
        found: the spectrum in the bins to start from. relative_error: the limit, > 0; 0.15 are 45 events a bin.

    Returns:
        The edges that remain, in GeV. Raises `InputError` if all events together are above the limit.

    Example:
        >>> counts = np.array([90.0, 60.0, 30.0, 20.0])
        >>> print(adaptive_edges(Spectrum(np.arange(5.0), counts, counts)))
        [0. 1. 2. 4.]
    """
    if not relative_error > 0:
        raise InputError(f"relative error {relative_error:g}, expected a number above 0, such as {RELATIVE_ERROR:g}")
    kept, content, variance = [len(found.content)], 0.0, 0.0
    for i in reversed(range(len(found.content))):
        content, variance = content + found.content[i], variance + found.variance[i]
        if content > 0 and np.sqrt(variance) < relative_error * content:
            kept.append(i)
            content, variance = 0.0, 0.0
    if len(kept) == 1:
        raise InputError(
            f"all {found.content.sum():.0f} events in one bin have a relative error above {relative_error:g}; "
            f"select more events, or allow a larger error"
        )
    kept[-1] = 0
    return found.edges[kept[::-1]]


def side_band_reference(selected: Spectrum, before: Spectrum, window: slice) -> tuple[Spectrum, float, float]:
    """Scale the spectrum before a selection to the selected events outside a window of bins.

    r_b = f N_b with f = sum_out n / sum_out N, n the selected events and N all. The selected events are some of all,
    so f has the binomial error of an efficiency: var f = f^2 (1 - f) sum_out w^2 / (sum_out n)^2, w the weights of
    the selected events. Without weights that is f (1 - f) / sum_out N.

    Returns:
        The reference; f; its error. Raises `InputError` if no event is outside the window.

    Example:
        >>> edges, n, N = np.arange(4.0), np.array([20.0, 9.0, 5.0]), np.array([200.0, 60.0, 50.0])
        >>> reference, f, error = side_band_reference(Spectrum(edges, n, n), Spectrum(edges, N, N), slice(1, 2))
        >>> print(reference.content, f, round(error, 3))
        [20.  6.  5.] 0.1 0.019
    """
    outside = np.ones(len(before.content), bool)
    outside[window] = False
    n, all_of_them = selected.content[outside].sum(), before.content[outside].sum()
    if not n > 0:
        raise InputError(
            f"no selected event is outside {selected.edges[window.start]:g} to {selected.edges[window.stop]:g} GeV: "
            f"the side bands are empty; widen the mass range, or select more events"
        )
    factor = n / all_of_them
    error = factor * np.sqrt(max(0.0, 1 - factor) * selected.variance[outside].sum()) / n
    scaled = Spectrum(before.edges, before.content * factor, before.variance * factor**2)
    return scaled, float(factor), float(error)


@dataclasses.dataclass(frozen=True)
class Scan:
    """The most significant window of each of T histograms: p-value, first bin and width in bins, (T,) each."""

    p_value: np.ndarray
    start: np.ndarray
    width: np.ndarray


def scan(
    histograms: np.ndarray,
    reference: np.ndarray,
    *,
    widths: tuple[int, int] = WIDTHS,
    side_band: int = 0,
    deficit: bool = False,
    normalise: bool = True,
    statistic: str = "poisson",
) -> Scan:
    """Find the window of smallest p-value in every histogram: BumpHunter, arXiv:1101.0390, all at once.

    In a window with n events where r are expected, p = P(X >= n | r) = gammainc(n, r) if n > r, else 1; for a deficit
    P(X <= n | r) = gammaincc(n + 1, r) if n < r. The reference is scaled by side bands, window by window: r is that of
    the window times (events outside) / (reference outside). The windows, their order and what happens to empty bins at
    the ends of the reference are as in pyBumpHunter 0.5.1; so are the numbers, but for a deficit of p < 1e-10, where
    pyBumpHunter's 1 - gammainc loses digits.

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
        A `Scan`. A histogram without any excess has p-value 1. Raises `InputError` for histograms that Fisher's test is
        not for.

    Example:
        >>> found = scan(np.array([10, 10, 40, 10, 10]), np.full(5, 10.0), widths=(1, 2))
        >>> print(found.start, found.width, f"{found.p_value[0]:.1e}")
        [2] [1] 7.3e-13
    """
    histograms = np.asarray(histograms, np.float64).reshape(len(reference), -1)
    best = Scan(*(np.full(histograms.shape[1], value) for value in (1.0, np.flatnonzero(reference)[0], widths[0])))
    columns = np.arange(histograms.shape[1])
    for width, starts, p in _windows(histograms, reference, widths, side_band, deficit, normalise, statistic):
        smallest = p.argmin(axis=0)
        p = p[smallest, columns]
        better = p < best.p_value
        best.p_value[better] = p[better]
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
) -> Scan:
    """Return the p-value of every window of one histogram (B,), in the order in which `scan` looks at them.

    BumpHunter's tomography plot. Arguments as for `scan`, whose window is the first of smallest p-value here.

    >>> found = tomography(np.array([10, 10, 40, 10, 10]), np.full(5, 10.0), widths=(1, 2))
    >>> print(found.start, found.width)
    [0 1 2 3 4 0 1 2 3] [1 1 1 1 1 2 2 2 2]
    """
    histogram = np.asarray(histogram, np.float64).reshape(len(reference), 1)
    rows = [
        (starts, np.full(len(starts), width), p[:, 0])
        for width, starts, p in _windows(histogram, reference, widths, side_band, deficit, normalise, statistic)
    ]
    starts, found, p = map(np.concatenate, zip(*rows)) if rows else (np.empty(0, int),) * 2 + (np.empty(0),)
    return Scan(p, starts, found)


def _windows(histograms, reference, widths, side_band: int, deficit: bool, normalise: bool, statistic: str) -> Iterator:
    """Yield width, first bins (W,) and p-values (W, T) of all windows of each width in histograms (B, T)."""
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
            p = _fisher_tail(n, r, counts[-1, 0], expected[-1, 0], deficit)
        else:
            p = _p_values(n, r, counts[-1], expected[-1], deficit, normalise)
        yield width, filled[0] + starts, p


def _cumulated(histograms: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((1, histograms.shape[1])), histograms.cumsum(axis=0)])


def _p_values(n, r, total, expected_total, deficit: bool, normalise: bool) -> np.ndarray:
    """p-values (windows, T) of counts n (windows, T) where r (windows, 1) are expected before normalisation.

    Where all histograms have the same total, or nothing is normalised, p depends on the window and n alone. Counts are
    few and pseudo-experiments are many, so a table of all that occur is far shorter than their list.
    """
    if not normalise or np.ptp(total) == 0:
        lowest = n.min(axis=1, keepdims=True)
        span = int((n - lowest).max()) + 1
        if span < n.shape[1] and (n == np.rint(n)).all():
            counts = lowest + np.arange(span)
            table = _poisson_tail(counts, _scaled(r, counts, total[:1], expected_total, normalise), deficit)
            return np.take_along_axis(table, (n - lowest).astype(np.int64), axis=1)
    return _poisson_tail(n, _scaled(r, n, total, expected_total, normalise), deficit)


def _scaled(r, n, total, expected_total, normalise: bool) -> np.ndarray:
    if not normalise:
        return np.broadcast_to(r, n.shape)
    with np.errstate(divide="ignore", invalid="ignore"):  # a window that leaves no side band: not a number, so p = 1
        return (total - n) / (expected_total - r) * r


def _poisson_tail(n: np.ndarray, r: np.ndarray, deficit: bool) -> np.ndarray:
    p = np.ones(n.shape)
    there = n < r if deficit else (n > r) & (r > 0)
    n, r = n[there], r[there]  # not where=there: that crashes these functions of SciPy 1.17
    p[there] = gammaincc(n + 1, r) if deficit else gammainc(n, r)
    return np.maximum(p, SMALLEST)


def poisson_p_value(n: float, r: float, deficit: bool = False) -> float:
    """Return P(X >= n | r), or P(X <= n | r) for a deficit; 1 where there is none, as in `scan`.

    >>> round(poisson_p_value(3, 1.0), 5), poisson_p_value(3, 3.5), round(poisson_p_value(0, 3.5, deficit=True), 4)
    (0.0803, 1.0, 0.0302)
    """
    return float(_poisson_tail(np.array([n], float), np.array([r], float), deficit)[0])


def _check_drawn(counts: np.ndarray, expected: np.ndarray) -> None:
    whole = all((values == np.rint(values)).all() for values in (counts, expected))
    if not whole or np.ptp(counts[-1]) > 0 or counts[-1, 0] > expected[-1, 0]:
        raise InputError(
            "statistic 'fisher' needs unweighted events, the same number selected in every pseudo-experiment: take "
            "'poisson', or shuffled pseudo-experiments of one spectrum"
        )


def _fisher_tail(n: np.ndarray, r: np.ndarray, total: float, of: float, deficit: bool) -> np.ndarray:
    """P(X >= n) for counts n (windows, T) in windows with r (windows, 1) of all events; `total` of `of` are drawn.

    A table per window, the probabilities summed from the far end: beyond ten standard deviations nothing is left.
    """
    if deficit:  # too few of those drawn are too many of those that are not
        n, total = r - n, of - total
    lowest = n.min(axis=1, keepdims=True)
    span = int((n - lowest).max()) + 1
    counts = lowest + np.arange(span + int(50 + 10 * np.sqrt(n.max())))
    possible = (counts <= np.minimum(r, total)) & (counts >= total - (of - r))
    table = np.zeros(counts.shape)
    window, k = np.broadcast_to(r, counts.shape)[possible], counts[possible]
    table[possible] = np.exp(_log_choose(window, k) + _log_choose(of - window, total - k) - _log_choose(of, total))
    table = np.maximum(table[:, ::-1].cumsum(axis=1)[:, ::-1], SMALLEST)
    table[counts * of <= total * r] = 1.0
    return np.take_along_axis(table, (n - lowest).astype(np.int64), axis=1)


def _log_choose(n, k):
    """log of n! / k! (n - k)!

    >>> print(np.exp(_log_choose(5, 2)).round(9))
    10.0
    """
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def by_pybumphunter(
    observed: np.ndarray,
    reference: np.ndarray,
    *,
    widths: tuple[int, int] = WIDTHS,
    side_band: int = 0,
    deficit: bool = False,
) -> tuple[float, int, int]:
    """Scan one histogram (B,) with pyBumpHunter: smallest local p-value, first bin and width of its window.

    Arguments as for `scan`. What pyBumpHunter prints goes to logging; NumPy's global random state stays as it was.

    >>> p_value, start, width = by_pybumphunter(np.array([10, 10, 40, 10, 10]), np.full(5, 10.0), widths=(1, 2))
    >>> print(start, width, f"{p_value:.1e}")
    2 1 7.3e-13
    """
    with _undisturbed():
        from pyBumpHunter import BumpHunter1D

        hunter = BumpHunter1D(
            mode="deficit" if deficit else "excess",
            width_min=widths[0],
            width_max=widths[1],
            nworker=1,
            use_sideband=True,
            sideband_width=side_band,
        )
        hunter.bump_scan(observed, reference, is_hist=True, do_pseudo=False)
    return float(hunter.min_Pval_ar[0]), int(hunter.min_loc_ar[0]), int(hunter.min_width_ar[0])


def inject_by_pybumphunter(
    signal: np.ndarray,
    background: np.ndarray,
    *,
    target: float,
    step: float,
    widths: tuple[int, int] = WIDTHS,
    side_band: int = 0,
    toys: int = 1000,
    repeats: int = 100,
    seed: int = 0,
) -> list[dict[str, object]]:
    """Add ever more signal to a background with pyBumpHunter's `signal_inject`, up to a global significance.

    Data are Poisson numbers around background plus signal, and pseudo-experiments Poisson numbers around the background;
    the global p-value of a step is the share of these whose test statistic is beyond the median of the data's.

    Args:
        signal: (B,), its share in every bin, of 1 in all. background: (B,) events expected.
        target: global significance in standard deviations, at which it ends; and it ends where the data are beyond all
            but one of the `toys` pseudo-experiments. step: events that each step adds. repeats: data sets of a step.
        widths, side_band: as for `scan`.

    Returns:
        For every step `events`, and `local` and `global` significance as [16 %, median, 84 %]. NumPy's global random state
        stays as it was, and what pyBumpHunter prints goes to logging.

    Raises:
        InputError: if there is no signal within the bins, or if as much signal as background is not enough.

    Example:
        >>> rows = inject_by_pybumphunter(np.eye(12)[5], np.full(12, 100.0), target=2, step=10, toys=200, widths=(1, 3))
        >>> rows[-1]["global"][1] > 2, rows[-1]["events"] < 60
        (True, True)
    """
    if not (signal.sum() > 0 and step > 0):
        raise InputError(f"signal of {signal.sum():g} within the spectrum, step {step:g}: expected both above 0")
    most, kept = background.sum() / step, []

    def keep(hunter, statistic) -> None:
        if len(kept) > most:  # it would go on for ever
            raise InputError(
                f"{background.sum():.0f} events of signal, as many as of background, do not reach {target:g} sigma"
            )
        kept.append(statistic)

    with _undisturbed():
        from pyBumpHunter import BumpHunter1D

        class Watched(BumpHunter1D):  # by itself it keeps the test statistics of its last step only
            t_ar = property(lambda self: kept[-1], keep)

        hunter = Watched(
            width_min=widths[0], width_max=widths[1], use_sideband=True, sideband_width=side_band, nworker=1, seed=seed,
            npe=toys, npe_inject=repeats, sigma_limit=target, str_min=step, str_step=step, signal_exp=signal.sum(),
        )  # fmt: skip
        hunter.signal_inject(signal, background, is_hist=True)
    statistics = kept[-1 - len(hunter.sigma_ar) : -1]  # the last are those of the background, joined
    return [
        {
            "events": float((i + 1) * step),
            "local": np.maximum(0, norm.isf(np.exp(-np.quantile(statistic, [0.16, 0.5, 0.84])))).tolist(),
            "global": np.maximum(0, [z - below, z, z + above]).tolist(),
        }
        for i, (statistic, (z, below, above)) in enumerate(zip(statistics, hunter.sigma_ar))
    ]


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Restore NumPy's global random state, which pyBumpHunter seeds anew; log what it prints; let it divide by 0."""
    state, printed = np.random.get_state(legacy=False), io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), np.errstate(divide="ignore", invalid="ignore"):
            yield
    finally:
        np.random.set_state(state)
        for line in filter(None, printed.getvalue().splitlines()):
            log.debug("pyBumpHunter: %s", line)
