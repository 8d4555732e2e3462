"""What is expected of background among the selected events of a window, by the ways that `WindowScanOptions` names.

Events are counted in cells: bins in mass, between whose edges are those of all windows. A `Selected` is what one cut of one
window selects, and `expect` says how many are expected in the window for any number of spectra (C, T) of selected events.
So it is done to pseudo-experiments as to the data.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.polynomial.legendre import legvander
from numpy.typing import ArrayLike
from scipy.special import betainc, betaln, gammainc
from scipy.stats import chi2

from pipelines.bumphunt.background_fit import FittedBackground
from pipelines.bumphunt.fitted_scan import SMALLEST, UNDERFLOW, log_tail_far_out
from pipelines.bumphunt.mass_cut import following_thresholds, scaled_mass
from pipelines.errors import InputError
from pipelines.window_scan.options import Window, WindowScanOptions

DEGREE = {
    "spectrum": 3,
    "sidebands": 1,
}  # of the polynomial in log m that describes the share selected beside the window
LEAST = 1e-3  # events expected at least
LEAST_EXPECTED = 5.0  # events of a group of cells in a chi2


def log_p_value(n: np.ndarray, b: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return the logarithm of the probability of n (N,) or more events where b are expected, b known to a Gaussian error.

    The background is taken as measured beside the window: n_off = b tau events with tau = b / error^2, and p is that of a
    binomial test, I_{1 / (1 + tau)}(n, 1 + n_off) (their Z_Bi: Cousins, Linnemann and Tucker 2008, arXiv:physics/0702156).
    Without an error it is the Poisson probability. Where p is too small for a floating-point number, it is its first term
    times a geometric series.

    140 events, and 100 beside a window with tau = 1.2:

    >>> from pipelines.bumphunt.fitted_scan import significance_of_log
    >>> log_p = log_p_value(np.array([140.0]), np.array([100 / 1.2]), np.array([np.sqrt(100) / 1.2]))
    >>> round(significance_of_log(float(log_p[0])), 2)
    3.93
    """
    n, b, error = np.broadcast_arrays(np.asarray(n, np.float64), np.maximum(b, LEAST), np.asarray(error, np.float64))
    k, tau = np.maximum(n, 1.0), b / np.maximum(error**2, 1e-12 * b)
    with np.errstate(all="ignore"):
        binomial = betainc(k, 1.0 + b * tau, 1.0 / (1.0 + tau))
        known = (tau >= 1e8) | ~np.isfinite(binomial)
        p = np.where(n > 0, np.where(known, gammainc(k, b), binomial), 1.0)
        log_p: np.ndarray = np.log(p)
    tiny = p < UNDERFLOW
    few, off, x = k[tiny], 1.0 + (b * tau)[tiny], 1.0 / (1.0 + tau[tiny])
    first = few * np.log(x) + off * np.log1p(-x) - np.log(few) - betaln(few, off)
    far_out = first - np.log1p(-x * (few + off) / (few + 1))
    log_p[tiny] = np.where(known[tiny], log_tail_far_out(few, b[tiny]), far_out)
    return log_p


def local_p_value(log_p: ArrayLike) -> np.ndarray:
    """Return p-values of logarithms, at least 1e-300: that is a bound."""
    return np.maximum(SMALLEST, np.exp(log_p))


@dataclasses.dataclass(frozen=True)
class Selected:
    """The selected events of one window and cut, counted in cells, and what is expected of them.

    Attributes:
        window, percentile, threshold: the cut at the window's centre. chosen: (N,) bool.
        counts: (C,) selected in every cell. inside: (C,) bool, cells of the window.
        weights: (C,), w with b = w . counts, of a background that is a sum over cells; else None.
        expected: b. error: its standard deviation.
        shape: (C,) expected in every cell beside the window, and in it; None where nothing says.
        before: (C,) events before the cut, of a background that is a share of these; else None.
        free: parameters that were fitted to the cells. fit: what fits again, else None.
    """

    window: Window
    percentile: float
    threshold: float
    chosen: np.ndarray
    counts: np.ndarray
    inside: np.ndarray
    beside: np.ndarray
    weights: np.ndarray | None
    expected: float
    error: float
    shape: np.ndarray | None
    free: int
    fit: FittedBackground | None = None
    before: np.ndarray | None = None

    @property
    def events(self) -> float:
        """Events selected in the window."""
        return float(self.counts[self.inside].sum())

    def expect(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what is expected in the window, (T,), and its error, for spectra of selected events (C, T)."""
        if self.weights is not None:
            return self.weights @ counts, np.sqrt(self.weights**2 @ counts)
        if self.fit is not None:
            b = self.fit.expected(counts)[self.inside].sum(axis=0)
            return b, b * (self.error / max(self.expected, LEAST))
        return np.full(counts.shape[1], self.expected), np.full(counts.shape[1], self.error)

    @property
    def describes(self) -> float | None:
        """The chi2 probability of the selected spectrum beside the window, given what describes it; None if nothing does.

        The number selected of N events in a cell has the variance N f (1 - f), f the share expected. Where a function is
        fitted to the selected spectrum it is a Poisson number.
        """
        if self.shape is None:
            return None
        before = np.full(len(self.shape), np.inf) if self.before is None else self.before
        expected, observed, of = _grouped(*(each[self.beside] for each in (self.shape, self.counts, before)))
        freedom = len(expected) - self.free
        if freedom < 1:
            return None
        variance = expected * np.maximum(1 - expected / of, LEAST)
        return float(chi2.sf(np.sum((observed - expected) ** 2 / variance), freedom))


def _grouped(expected: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Return numbers of neighbouring cells together, so that at least 5 are expected in each group."""
    groups, total = np.zeros(len(expected), int), 0.0
    for cell, value in enumerate(expected[:-1]):
        total += value
        groups[cell + 1] = groups[cell] + (total >= LEAST_EXPECTED)
        total = 0.0 if total >= LEAST_EXPECTED else total
    sums = [np.bincount(groups, values) for values in (expected, *others)]
    return [each[sums[0] >= LEAST_EXPECTED] for each in sums]


@dataclasses.dataclass(frozen=True)
class Cells:
    """Bins in mass between whose edges are those of all windows, and the events in each.

    Attributes:
        edges: (C + 1,) GeV. of: (N,) the cell of every event, -1 beyond the side bands of all windows. events: (C,) numbers of
            events.
    """

    edges: np.ndarray
    of: np.ndarray
    events: np.ndarray

    @classmethod
    def between(cls, windows: list[Window], mass: np.ndarray, bins: int) -> Cells:
        """Return cells: equal bins over the side bands of all windows, cut at the edges of windows."""
        low, high = min(one.outer_low for one in windows), max(one.outer_high for one in windows)
        own = np.unique([edge for one in windows for edge in (one.low, one.high, one.outer_low, one.outer_high)])
        equal = np.linspace(low, high, bins + 1)
        near = np.abs(equal[:, None] - own).min(axis=1) < 0.2 * (high - low) / bins
        edges = np.unique(np.concatenate([own, equal[~near]]))
        of = np.where((mass >= low) & (mass < high), np.searchsorted(edges, mass, side="right") - 1, -1)
        return cls(edges, of, np.bincount(of[of >= 0], minlength=len(edges) - 1))

    @property
    def centres(self) -> np.ndarray:
        """The middle of every cell, (C,) GeV."""
        found: np.ndarray = (self.edges[1:] + self.edges[:-1]) / 2
        return found

    def count(self, chosen: np.ndarray) -> np.ndarray:
        """Return how many of the chosen events (N,) are in every cell."""
        return np.bincount(self.of[chosen], minlength=len(self.events)).astype(np.float64)


@dataclasses.dataclass(frozen=True)
class Ranked:
    """Scores by their ranks, from 0, with equal scores in random order: a cut may go through a group of equal scores.

    A threshold that changes with the mass would otherwise step over every such group, and trees give few different scores.

    Attributes:
        score: (N,) ranks of the events among these and the template. template: (M,), or None. values: (N + M,) scores by rank.
    """

    score: np.ndarray
    template: np.ndarray | None
    values: np.ndarray

    @classmethod
    def of(cls, score: np.ndarray, template: np.ndarray | None, seed: int) -> Ranked:
        """Return the ranks of scores and of a template's scores.

        >>> Ranked.of(np.array([0.5, 0.1, 0.9]), None, 0).score.tolist()
        [1.0, 0.0, 2.0]
        """
        every = score if template is None else np.concatenate([score, template])
        order = np.lexsort((np.random.default_rng([seed, 4]).random(len(every)), every))
        rank = np.empty(len(every))
        rank[order] = np.arange(len(every))
        return cls(rank[: len(score)], None if template is None else rank[len(score) :], every[order])

    def value(self, rank: float) -> float:
        """Return the score of a rank."""
        return float(self.values[int(np.clip(np.floor(rank), 0, len(self.values) - 1))])


def select(
    window: Window, percentile: float, ranked: Ranked, mass: np.ndarray, cells: Cells, options: WindowScanOptions
) -> Selected:  # fmt: skip
    """Return what one cut selects of the events of a window and its side bands, and what is expected in the window.

    Args:
        ranked: scores of the model of this window, of all events, and of its template, if need be. mass: (N,) GeV.

    Raises:
        InputError: if no event beside the window is selected, and for a function that cannot be fitted.
    """
    score, template = ranked.score, ranked.template
    where = f"percentile {percentile:g} in the window {window.low:.0f} to {window.high:.0f} GeV"
    inside, beside = window.inside(cells.centres), window.beside(cells.centres)
    of_window = window.inside(mass) | window.beside(mass)
    if options.background == "spectrum":
        threshold, chosen = _following(window, percentile, score, mass)
    else:
        like = template if options.background == "template" else score[window.beside(mass)]
        assert like is not None
        threshold = float(np.percentile(like, percentile, method="inverted_cdf"))
        chosen = score > threshold
    chosen = chosen & of_window
    if not chosen[window.beside(mass)].any() and options.background != "template":
        raise InputError(
            f"{where}: no event beside the window is selected; the scores are (nearly) constant, or too few"
        )
    found: dict[str, Any] = {"window": window, "percentile": percentile, "threshold": ranked.value(threshold), "chosen": chosen,
                             "counts": cells.count(chosen), "inside": inside, "beside": beside}  # fmt: skip
    if options.background in DEGREE:
        return _by_share(found, cells, DEGREE[options.background])
    if options.background == "template":
        assert template is not None
        return _by_template(found, cells, float((template > threshold).sum()), len(template))
    return _by_fit(found, cells, options.background)


def _following(window: Window, percentile: float, score: np.ndarray, mass: np.ndarray) -> tuple[float, np.ndarray]:
    """Return t at the window's centre, and the events beyond t(m), which is fitted to the side bands alone."""
    ends, there = (window.outer_low, window.outer_high), window.beside(mass)
    (fitted,) = following_thresholds(
        score[there], mass[there], None, ends, [(percentile, "upper")], [DEGREE["spectrum"]]
    )
    return float(fitted.at(np.array([(window.low + window.high) / 2]))[0]), score > fitted.at(mass)


def _by_share(found: dict[str, Any], cells: Cells, degree: int) -> Selected:
    """Describe the share selected beside the window by a polynomial in log m, and take that share in the window.

    A least-squares fit of n_c / N_c with weights N_c is linear in the numbers n_c, so b = sum_c w_c n_c.
    """
    window: Window = found["window"]
    basis = legvander(scaled_mass(cells.centres, (window.outer_low, window.outer_high)), degree)
    events, beside, inside = cells.events.astype(float), found["beside"], found["inside"]
    if np.count_nonzero(beside) <= degree:
        raise InputError(
            f"{np.count_nonzero(beside)} bins beside the window {window.low:g} to {window.high:g} GeV, expected more than {degree}; "
            f"take more bins, or wider side bands"
        )
    there = basis[beside]
    inverse = np.linalg.pinv((there.T * events[beside]) @ there)
    weights = np.zeros(len(events))
    weights[beside] = (events[inside] @ basis[inside]) @ inverse @ there.T
    counts = found["counts"]
    shape = np.where(inside | beside, events * (basis @ (inverse @ (there.T @ counts[beside]))), 0.0)
    expected, error = float(weights @ counts), float(np.sqrt(weights**2 @ counts))
    return Selected(
        **found, weights=weights, expected=expected, error=error, shape=shape, free=degree + 1, before=events
    )


def _by_template(found: dict[str, Any], cells: Cells, passing: float, size: int) -> Selected:
    """Take the share of the template that passes, of all events in the window."""
    events = float(cells.events[found["inside"]].sum())
    share = passing / size
    error = events * np.sqrt(max(share * (1 - share), 1 / size) / size)
    return Selected(**found, weights=None, expected=events * share, error=float(error), shape=None, free=0)


def _by_fit(found: dict[str, Any], cells: Cells, kind: str) -> Selected:
    """Fit a function to the spectrum of the selected events beside the window."""
    fit = FittedBackground(cells.edges, kind, used=found["beside"])
    one = fit.fit(found["counts"][:, None])
    shape = one.expected[:, 0]
    if not one.converged[0]:
        window: Window = found["window"]
        raise InputError(
            f"background {kind}: the fit beside the window {window.low:.0f} to {window.high:.0f} GeV does not converge; take "
            f"another function, or background 'spectrum'"
        )
    expected = float(shape[found["inside"]].sum())
    again = np.random.default_rng(0).poisson(shape[:, None], (len(shape), 200)).astype(float)
    error = float(fit.expected(again)[found["inside"]].sum(axis=0).std())
    free = len(one.parameters) if len(fit.functions) == 1 else fit.functions[int(one.choice[0])].parameters
    return Selected(**found, weights=None, expected=expected, error=error, shape=shape, free=free, fit=fit)
