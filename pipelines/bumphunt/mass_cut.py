"""A cut that follows the mass: a threshold t(m) on the score that selects the same share of events at every mass.

A score of background that depends on the mass makes bumps out of background if it is cut at one threshold. A threshold
at a fixed quantile of the score given the mass does not (Dolen et al. 2016, arXiv:1603.00027, "designed decorrelated
taggers"; quantile regression in CMS EXO-22-026, arXiv:2512.20395).

**The fit.** t(m) is a polynomial in log m, fitted by quantile regression (Koenker and Bassett 1978): it minimises the
pinball loss sum_i w_i rho(z_i - t(m_i)), rho(r) = r (tau - [r < 0]), tau the percentile. z is the score after a
transformation to a Gaussian by its ranks, so that the result depends on the order of the scores alone. Then t is moved
by a constant until exactly the share of events asked for is beyond it.

**The degree** is fixed before any score is looked at: the largest, at most 4, for which the guarantee below holds. So there
is nothing in it that could be chosen by the result, and pseudo-experiments have nothing to choose anew.

**It cannot follow a bump.** Take any window that is scanned, with side bands of its own width on either side. The fit
takes away at most half of an excess there (`MOST_ABSORBED`): t(m) moves there by at most half of what would hide a
bump. The share that is taken away, `absorbed`, is known exactly to first order; every `Bump` has that of its window.
Where no window has such side bands, t(m) is a straight line in log m. Windows at an end of the spectrum, with a side
band on one side only, lose more: at the low end of a falling spectrum no method can tell a bump from a slope.

**Equal scores.** A threshold that changes with the mass steps over every group of equal scores, and each step is a step in the
selected spectrum. Scores of which a group that t(m) reaches holds more than 2 % of the events selected are refused.

**Pseudo-experiments** fit it anew. If the rank of the score given the mass does not depend on the mass, as the search
assumes of background, the selection is shuffled among the events. A fit of t(m) to these would remove what the
polynomials can describe. To first order in the shift of t(m) that is a weighted linear regression of the selected share
(`refitted`), which takes no time. What it neglects is of relative order 1/sqrt(selected events).
`benchmarks/mass_cut.py` measures the error that is left, and docs/hunt.md has it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.polynomial.legendre import legvander
from scipy.stats import norm, rankdata

from pipelines.arguments import argument
from pipelines.bumphunt.options import Range
from pipelines.bumphunt.spectrum import Spectrum
from pipelines.errors import InputError

LARGEST_DEGREE = 4
MOST_ABSORBED = 0.5  # of an excess, by the fit, in windows with side bands of their own width on either side
TIES, FEW_TIES = 0.02, 5  # equal scores that t(m) may reach: share of the events selected, and a number that always may
STRIPS = (
    200  # parts of the spectrum with equal numbers of events, in each of which t is taken as constant for the fit ...
)
STRIP_EVENTS = 20  # ... of so many events at least
LONG = 1000.0  # ratio of the ends of a range from which on t is a polynomial in m, not in log m
SIGN = {"upper": 1.0, "lower": -1.0}
BANDWIDTHS = (0.4, 0.2, 0.1)  # of the smoothed pinball loss, one after the other, in standard deviations of the score
STEPS = 30  # of Newton's method at most, for each bandwidth


def degree_of(before: Spectrum, widths: tuple[int, int]) -> int:
    """Return the degree of t(m): the largest, from 1 to 4, whose fit takes away at most half of an excess.

    That is asked of every window of `widths` bins, narrowest and widest, in the bins of the scan, with side bands of its own
    width on either side.

    >>> before = Spectrum(np.linspace(2700, 5000, 41), np.exp(-np.linspace(0, 4.6, 40)), np.ones(40))
    >>> [degree_of(before, widths) for widths in ((2, 4), (3, 8), (3, 13))]
    [4, 3, 2]
    """
    return max([1, *(d for d in range(2, LARGEST_DEGREE + 1) if largest_absorbed(before, widths, d) <= MOST_ABSORBED)])


def largest_absorbed(before: Spectrum, widths: tuple[int, int], degree: int) -> float:
    """Return the largest share of an excess that a fit takes away, of the windows `degree_of` looks at; 1 without any."""
    bins, x = len(before.content), bin_masses(before)
    return max(
        [
            absorbed(before.content, x, degree, slice(start, start + width))
            for width in range(widths[0], widths[1] + 1)
            for start in range(width, bins - 2 * width + 1)
        ],
        default=1.0,
    )


def bin_masses(before: Spectrum) -> np.ndarray:
    """Return the scaled masses (B,) of the centres of bins."""
    ends = float(before.edges[0]), float(before.edges[-1])
    return scaled_mass((before.edges[1:] + before.edges[:-1]) / 2, ends)


def scaled_mass(mass: np.ndarray, ends: Range) -> np.ndarray:
    """Return log m scaled so that the range is -1 to 1, masses outside at its ends; m itself for a range down to 0 or nearly.

    >>> print(scaled_mass(np.array([100.0, 1000.0, 10_000.0]), (100, 10_000)).round(6) + 0.0)
    [-1. 0. 1.]
    """
    low, high = ends
    within = np.clip(mass, low, high)
    if low > high / LONG:
        within, low, high = np.log(within), float(np.log(low)), float(np.log(high))
    scaled: np.ndarray = 2 * (within - low) / (high - low) - 1
    return scaled


@dataclasses.dataclass(frozen=True)
class FollowingThreshold:
    """A threshold t(m): sum_k c_k P_k(x), P_k Legendre polynomials, x as `scaled_mass`; t in Gaussian scores.

    Attributes:
        coefficients: c_0 to c_degree. ends: the range of the spectrum, GeV.
        scores, gaussian: the scores in ascending order, and what the Gaussian transformation makes of them.
    """

    coefficients: tuple[float, ...]
    ends: Range
    scores: np.ndarray = dataclasses.field(repr=False)
    gaussian: np.ndarray = dataclasses.field(repr=False)

    def at(self, mass: np.ndarray) -> np.ndarray:
        """Return t at masses (N,) in units of the score."""
        t = legvander(scaled_mass(mass, self.ends), len(self.coefficients) - 1) @ np.array(self.coefficients)
        return np.interp(t, self.gaussian, self.scores)


def gaussian_ranks(score: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Return the scores as standard deviations of a Gaussian of the same order, Phi^-1((r - 1/2) / N); ties stay ties.

    >>> print(gaussian_ranks(np.array([5.0, -2.0, 7.0])).round(2))
    [ 0. -0.97 0.97]
    """
    if weight is None:
        share = (rankdata(score) - 0.5) / len(score)
    else:
        _, index = np.unique(score, return_inverse=True)
        of_value = np.bincount(index, weight)
        share = ((of_value.cumsum() - of_value / 2) / weight.sum())[index]
    z: np.ndarray = norm.ppf(np.clip(share, 1e-12, 1 - 1e-12))
    return z


class _Strips:
    """Events ordered by mass strips and score, so that sums beyond any thresholds are looked up, not summed."""

    def __init__(self, x: np.ndarray, z: np.ndarray, weight: np.ndarray):
        strips = int(np.clip(len(x) // STRIP_EVENTS, 1, STRIPS))
        order = np.argsort(x, kind="stable")
        strip = np.empty(len(x), np.int64)
        strip[order] = np.arange(len(x)) * strips // len(x)
        self.weight = np.bincount(strip, weight, strips)
        self.x = np.bincount(strip, weight * x, strips) / np.maximum(self.weight, np.finfo(float).tiny)
        self.span = 2 * float(np.abs(z).max()) + 10  # more than any z and threshold are apart
        key = strip * self.span + z
        order = np.argsort(key)
        self.keys = key[order]
        self.sums = np.concatenate([[0.0], weight[order].cumsum()])
        self.moments = np.concatenate([[0.0], (weight * z)[order].cumsum()])
        self.offset = np.arange(strips) * self.span

    def below(self, t: np.ndarray, bandwidth: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the weight below thresholds t (strips,), smoothed by a box of this half width, and its derivative."""
        limit = self.span / 2 - 1
        low, high = (np.clip(t + sign * bandwidth, -limit, limit) for sign in (-1, 1))
        first, last = (np.searchsorted(self.keys, self.offset + end) for end in (low, high))
        start = np.searchsorted(self.keys, self.offset - self.span / 2)
        near = self.sums[last] - self.sums[first]
        partial = (high * near - (self.moments[last] - self.moments[first])) / (2 * bandwidth)
        return self.sums[first] - self.sums[start] + partial, near / (2 * bandwidth)

    def fit(self, tau: float, degree: int) -> np.ndarray:
        """Return the coefficients (degree + 1,) of the smallest pinball loss, by Newton's method on a smoothed one."""
        basis = legvander(self.x, degree)
        coefficients = np.zeros(degree + 1)
        coefficients[0] = norm.ppf(tau)
        least = 0.2 * norm.pdf(coefficients[0]) * self.weight  # of the density, where no event is near the threshold
        for bandwidth in BANDWIDTHS:
            for _ in range(STEPS):
                below, density = self.below(basis @ coefficients, bandwidth)
                gradient = basis.T @ (below - tau * self.weight)
                step = np.linalg.solve((basis.T * np.maximum(density, least)) @ basis, gradient)
                coefficients = coefficients - step * min(1.0, 0.5 / max(np.abs(step).sum(), 1e-12))
                if np.abs(step).sum() < 1e-4:
                    break
        return coefficients


def check_ties(score: np.ndarray, t: np.ndarray, selected: float, where: str) -> None:
    """Raise `InputError` if a group of equal scores that thresholds t (M,) reach holds too many of the `selected` events.

    >>> check_ties(np.arange(100.0), np.array([90.0, 92.0]), 9, "percentile 90")
    """
    near = score[(score >= t.min()) & (score <= t.max())]
    values, counts = np.unique(near, return_counts=True)
    most = max(FEW_TIES, TIES * selected)
    if len(counts) and counts.max() > most:
        value = values[counts.argmax()]
        constant = "; the scores are (nearly) constant" if counts.max() > len(score) / 2 else ""
        raise InputError(
            f"score: {counts.max():,} of {len(score):,} events have the same score, {value:g}, at the cut of {where}, expected at "
            f"most {most:.0f}{constant}: a threshold that follows the mass would step over them and make steps in the "
            f"spectrum; take a score without ties, another percentile, or one threshold for all masses "
            f"({argument('cut', 'global')})"
        )


def following_thresholds(
    score: np.ndarray,
    mass: np.ndarray,
    weight: np.ndarray | None,
    ends: Range,
    cuts: Sequence[tuple[float, str]],
    degrees: Sequence[int],
) -> list[FollowingThreshold]:
    """Fit a threshold for every cut, a percentile and a tail ("upper" or "lower"), to events within the range.

    Args:
        score, mass, weight: (N,), mass in GeV. ends: of the spectrum, GeV. degrees: of every cut, see `degree_of`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mass = 2700 + rng.exponential(500, 20_000)
        >>> score = mass / 1000 + rng.normal(size=20_000)
        >>> (t,) = following_thresholds(score, mass, None, (2700, 5000), [(90.0, "upper")], [3])
        >>> selected = score > t.at(mass)
        >>> [round(float(selected[(mass > m) & (mass < m + 300)].mean()), 1) for m in (2700, 3500)]
        [0.1, 0.1]
    """
    x = scaled_mass(mass, ends)
    z = gaussian_ranks(score, weight)
    weights = np.ones(len(score)) if weight is None else np.asarray(weight, np.float64)
    order = np.argsort(score, kind="stable")
    strips = {tail: _Strips(x, sign * z, weights) for tail, sign in SIGN.items() if tail in {of for _, of in cuts}}
    found = []
    for (percentile, tail), degree in zip(cuts, degrees):
        coefficients = strips[tail].fit(percentile / 100, degree)
        residual = SIGN[tail] * z - legvander(x, degree) @ coefficients
        coefficients[0] += np.percentile(residual, percentile, method="inverted_cdf", weights=weight)
        found.append(FollowingThreshold(tuple((SIGN[tail] * coefficients).tolist()), ends, score[order], z[order]))
    return found


def refitted(
    selected: np.ndarray, cells: np.ndarray, weight: np.ndarray, basis: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the selected events of pseudo-experiments after a fit of t(m) to each, to first order.

    With N_c events in a cell, n_c of them selected, and the polynomials p at its mass, the share selected is described
    by a regression a . p_c, weighted by w_c N_c, and n_c becomes n_c - N_c (a . p_c - epsilon), epsilon the overall share.
    That keeps the number selected. The numbers are rounded to whole ones with the same sum.

    Args:
        selected: (C, T) events selected of C cells in T pseudo-experiments. cells: (C,) events. weight: (C,) of an
            event. basis: (C, degree + 1); rows of zeros for cells outside of the spectrum, which stay as they are.

    Example:
        >>> slope = np.array([[20.0], [10.0], [0.0]])
        >>> basis = legvander(np.array([-1.0, 0.0, 1.0]), 1)
        >>> print(refitted(slope, np.full(3, 100.0), np.ones(3), basis, np.random.default_rng(0)).T)
        [[10. 10. 10.]]
    """
    inside = basis.any(axis=1)
    n, events, w, p = selected[inside], cells[inside, None].astype(float), weight[inside, None], basis[inside]
    normal = (p.T * (w * events).T) @ p
    share = p @ (np.linalg.pinv(normal) @ (p.T @ (w * n)))
    epsilon = (w * n).sum(axis=0) / (w * events).sum()
    shifted = np.clip(n - events * (share - epsilon), 0, events)
    total = n.sum(axis=0)
    missing = total - shifted.sum(axis=0)
    room = np.where(missing > 0, events - shifted, shifted)
    shifted += room * missing / np.maximum(room.sum(axis=0), np.finfo(float).tiny)
    result = selected.copy()
    upper = np.floor(shifted.cumsum(axis=0).round(9) + rng.random(shifted.shape[1]))
    result[inside] = np.diff(upper, axis=0, prepend=0.0)
    return result


def absorbed(before: np.ndarray, x: np.ndarray, degree: int, window: slice) -> float:
    """Return the share of an excess in a window that a fit of this degree takes away, between 0 and 1.

    To first order that is R^2 of the regression of the window, 1 inside and 0 outside, on the polynomials, weighted with
    the spectrum `before` (B,) at scaled masses x (B,).

    >>> flat, x = np.ones(100), np.linspace(-1, 1, 100)
    >>> absorbed(flat, x, 0, slice(45, 55)), round(absorbed(flat, x, 2, slice(45, 55)), 2)
    (0.0, 0.14)
    """
    inside = np.zeros(len(x))
    inside[window] = 1.0
    share = float(before @ inside / before.sum())
    if degree == 0 or not 0 < share < 1:
        return 0.0
    root = np.sqrt(before)
    basis = legvander(x, degree)
    fit = basis @ np.linalg.lstsq(basis * root[:, None], inside * root, rcond=None)[0]
    left = float(before @ (inside - fit) ** 2 / before.sum())
    return float(np.clip(1 - left / (share * (1 - share)), 0.0, 1.0))
