"""Fits of a smooth function to spectra, thousands at a time.

**Expectation.** The events expected in bin b are mu_b = integral of f over the bin, by Gauss-Legendre quadrature with
`NODES` points: f is smooth within a bin, and 4 points give ATLAS's bins to about 1e-12.

**Likelihood.** Poisson. Fits minimise the deviance D = 2 sum_b [mu_b - n_b + n_b ln(n_b / mu_b)], the chi-square of
Baker and Cousins (1984, doi 10.1016/0167-5087(84)90016-4).

**Minimisation.** ln f is linear in the parameters, so this is almost a generalised linear model. Fisher scoring
(iteratively reweighted least squares) converges in a few steps from any reasonable start. Each step is done for all
spectra at once. The parameters are made orthonormal first, since powers of ln x are almost alike. Tests hold the
results to iminuit's.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

from pipelines.bumphunt.fit_functions import SQRT_S, Array, FitFunction, check_range
from pipelines.errors import InputError

NODES = 4  # of the Gauss-Legendre quadrature over a bin
STEPS = 60  # at most; a fit takes 2 to 6
HALVINGS = 30  # of a step that leads uphill
EDM = 1e-4  # estimated distance to the minimum of the deviance from where a last step is taken
BLOCK = 128  # spectra that are fitted together, so that their arrays stay in the processor's cache
SMALLEST = 1e-12  # events expected in a bin at least: a deviance is finite


@dataclasses.dataclass(frozen=True)
class Fits:
    """Fits of T spectra with B bins.

    Attributes:
        expected: (B, T) events, in all bins, also those that were not fitted.
        deviance: (T,) of the fitted bins.
        degrees_of_freedom: (T,) fitted bins minus parameters.
        converged: (T,) bool.
        choice: (T,) which of the functions was taken, by its place among the background's.
        parameters: (P, T) ln p0, p1, ...; of the function with most parameters, those not there are 0.
    """

    expected: Array
    deviance: Array
    degrees_of_freedom: Array
    converged: NDArray[np.bool_]
    choice: NDArray[np.int64]
    parameters: Array


def deviance(counts: Array, expected: Array) -> Array:
    """Return the Poisson deviance of every bin, 2 [mu - n + n ln(n / mu)], the shape of the arguments.

    >>> deviance(np.array([4.0, 0.0]), np.array([4.0, 1.5])).tolist()
    [0.0, 3.0]
    """
    expected = np.maximum(expected, SMALLEST)
    return np.asarray(2 * (expected - counts + xlogy(counts, counts / expected)))


def bin_significance(counts: Array, expected: Array) -> Array:
    """Return the signed root of the deviance of every bin, (B,): the significance of its excess, or minus its deficit's.

    >>> bin_significance(np.array([120.0, 80.0]), np.array([100.0, 100.0])).round(2).tolist()
    [1.94, -2.07]
    """
    return np.asarray(np.sign(counts - expected) * np.sqrt(np.maximum(deviance(counts, expected), 0)))


class SpectrumFitter:
    """Fits one function to spectra of given bins.

    Args:
        edges: (B + 1,), rising, in the unit of sqrt(s).
        function: a `FitFunction`.
        sqrt_s: collision energy, in the unit of the edges.
        used: (B,) bool, bins that are fitted; all by default.

    Raises:
        InputError: if the function is not defined there, or there are no more bins than parameters.

    Example:
        >>> edges = np.linspace(1000, 5000, 41)
        >>> from pipelines.bumphunt.fit_functions import functions_of
        >>> fitter = SpectrumFitter(edges, functions_of("dijet3")[0])
        >>> truth = fitter.expected(np.array([[1.0], [9.0], [-4.0]]))
        >>> fits = fitter.fit(np.repeat(truth, 2, axis=1))
        >>> fits.parameters[:, 1].round(3).tolist()
        [1.0, 9.0, -4.0]
    """

    def __init__(
        self,
        edges: ArrayLike,
        function: FitFunction,
        sqrt_s: float = SQRT_S,
        used: NDArray[np.bool_] | None = None,
    ):
        self.edges = np.asarray(edges, np.float64)
        self.function, self.sqrt_s = function, float(sqrt_s)
        check_range(function, self.edges, self.sqrt_s)
        self.used = np.ones(len(self.edges) - 1, bool) if used is None else np.asarray(used, bool)
        fitted = int(self.used.sum())
        if fitted <= function.parameters:
            raise InputError(
                f"{function.name}: {fitted} bins to fit, expected more than its {function.parameters} parameters; take "
                f"a function with fewer, or a wider range"
            )
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        half = np.diff(self.edges)[:, None] / 2
        mass = self.edges[:-1, None] + half * (1 + nodes)
        self._terms = function.terms(mass / self.sqrt_s)  # (B, Q, P)
        self._weights = half * weights  # (B, Q)

    @property
    def degrees_of_freedom(self) -> int:
        """Fitted bins minus parameters."""
        return int(self.used.sum()) - self.function.parameters

    def expected(self, parameters: Array) -> Array:
        """Return the events expected in every bin, (B, T), for parameters (P, T)."""
        problem = _Problem(self._terms, self._weights, None)
        return problem.expected(parameters, problem.density(parameters))

    def fit(self, counts: ArrayLike, signal: ArrayLike | None = None) -> Fits:
        """Fit all spectra (B, T), or one (B,).

        Args:
            counts: events in every bin, >= 0.
            signal: (B,), if signal of this shape is fitted too, share by bin. Its number of events is the last of the
                parameters, may be negative, and is in `expected`.

        Raises:
            InputError: for counts that are negative or not finite, and for spectra without events in the fitted bins.
        """
        counts = check_counts(counts, len(self.used), self.used)
        shape = None if signal is None else np.asarray(signal, np.float64)
        inside = counts[self.used]
        basis, back = self._orthonormal(inside.mean(axis=1))
        problem = _Problem(basis, self._weights[self.used], None if shape is None else shape[self.used])
        start = _first_guess(basis, inside.mean(axis=1), self._weights[self.used].sum(axis=1))
        if shape is not None:
            start = np.append(start, 0.0)
        if counts.shape[1] > 1:  # from what fits their mean
            start = problem.solve(inside.mean(axis=1, keepdims=True), start[:, None])[0][:, 0]
        found, converged = problem.solve(inside, np.repeat(start[:, None], counts.shape[1], axis=1))
        number = self.function.parameters
        parameters = back @ found[:number]
        expected = self.expected(parameters)
        if shape is not None:
            expected = expected + shape[:, None] * found[number]
            parameters = np.concatenate([parameters, found[number:]])
        degrees = self.degrees_of_freedom - (0 if shape is None else 1)
        t = counts.shape[1]
        return Fits(
            expected=expected,
            deviance=deviance(inside, expected[self.used]).sum(axis=0),
            degrees_of_freedom=np.full(t, float(degrees)),
            converged=converged,
            choice=np.zeros(t, np.int64),
            parameters=parameters,
        )

    def covariance(self, parameters: Array, signal: ArrayLike | None = None) -> Array:
        """Return the covariance of the parameters (P,) of one fit: the inverse of the Fisher information, (P, P).

        With a `signal` (B,), its number of events is the last parameter.
        """
        shape = None if signal is None else np.asarray(signal, np.float64)[self.used]
        number = self.function.parameters
        basis, back = self._orthonormal(self.expected(parameters[:number, None])[self.used, 0])
        problem = _Problem(basis, self._weights[self.used], shape)
        theta = np.concatenate([np.linalg.solve(back, parameters[:number]), parameters[number:]])
        information = problem.information(theta[:, None])[0]
        change = np.eye(len(parameters))
        change[:number, :number] = back
        return np.asarray(change @ np.linalg.inv(information) @ change.T)

    def jacobian(self, parameters: Array) -> Array:
        """Return the derivatives of the events in every bin for the parameters (P,) of one fit, (B, P)."""
        density = np.exp(np.minimum(self._terms @ parameters, 700)) * self._weights
        return np.asarray(np.einsum("bqp,bq->bp", self._terms, density))

    def _orthonormal(self, events: Array) -> tuple[Array, Array]:
        """Return terms of which products, weighted with the events of the bins, are 0 or 1; and the way back."""
        terms = self._terms[self.used]
        weight = np.sqrt(np.maximum(events, 0) + 0.1)
        centre = terms.mean(axis=1) * weight[:, None]
        _, triangle = np.linalg.qr(centre)
        back = np.linalg.inv(triangle)
        return terms @ back, back


class _Problem:
    """Fisher scoring of many spectra at once, in given terms; see the top of this module."""

    def __init__(self, terms: Array, weights: Array, signal: Array | None):
        self.terms, self.weights, self.signal = terms, weights, signal
        self.number = terms.shape[2]
        self._flat = np.ascontiguousarray(terms.reshape(-1, self.number))
        self._derivative = np.ascontiguousarray((terms * weights[:, :, None]).transpose(0, 2, 1))  # (B, P, Q)

    def density(self, theta: Array) -> Array:
        """Return f at the nodes of every bin, (B, Q, T)."""
        log_density = self._flat @ theta[: self.number]
        np.minimum(log_density, 700, out=log_density)
        return np.exp(log_density, out=log_density).reshape(*self.weights.shape, -1)

    def expected(self, theta: Array, density: Array) -> Array:
        """Return the events in every bin, (B, T)."""
        expected = (self.weights[:, None] @ density)[:, 0]
        return expected if self.signal is None else expected + self.signal[:, None] * theta[self.number]

    def derivatives(self, density: Array) -> Array:
        """Return the derivatives of the events in every bin, (B, P, T)."""
        jacobian = self._derivative @ density
        if self.signal is None:
            return jacobian
        shape = np.broadcast_to(self.signal[:, None, None], (len(jacobian), 1, jacobian.shape[2]))
        return np.concatenate([jacobian, shape], axis=1)

    def information(self, theta: Array) -> Array:
        """Return the Fisher information of parameters (P, T), (T, P, P)."""
        density = self.density(theta)
        return _information(self.expected(theta, density), self.derivatives(density))

    def solve(self, counts: Array, start: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Return parameters (P, T) at the minimum, and which fits converged, from a start (P, T)."""
        theta, done = start.copy(), np.zeros(counts.shape[1], bool)
        for first in range(0, counts.shape[1], BLOCK):
            block = slice(first, first + BLOCK)
            theta[:, block], done[block] = self._solve_block(counts[:, block], theta[:, block])
        return theta, done

    def _solve_block(self, counts: Array, theta: Array) -> tuple[Array, NDArray[np.bool_]]:
        found, done = theta.copy(), np.zeros(counts.shape[1], bool)
        left = np.arange(counts.shape[1])
        density = self.density(theta)
        expected = self.expected(theta, density)
        best = _total(counts, expected)
        for _ in range(STEPS):
            step, edm = self._step(counts, expected, density)
            theta, density, expected, best = self._moved(counts, theta, step, density, expected, best)
            found[:, left], done[left] = theta, edm < EDM
            going = edm >= EDM
            if not going.any():
                break
            if not going.all():
                left, counts, theta, best = left[going], counts[:, going], theta[:, going], best[going]
                density, expected = density[:, :, going], expected[:, going]
        return found, done

    def _moved(
        self, counts: Array, theta: Array, step: Array, density: Array, expected: Array, best: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Take the step, or the largest half, quarter, ... of it that makes no deviance larger."""
        moved = theta + step
        new_density = self.density(moved)
        new_expected = self.expected(moved, new_density)
        value = _total(counts, new_expected)
        worse = ~(value <= best + 1e-9 * (1 + np.abs(best)))
        for halved in range(1, HALVINGS + 1):
            if not worse.any():
                break
            shorter = 0.5**halved if halved < HALVINGS else 0.0
            moved[:, worse] = theta[:, worse] + shorter * step[:, worse]
            new_density[:, :, worse] = self.density(moved[:, worse])
            new_expected[:, worse] = self.expected(moved[:, worse], new_density[:, :, worse])
            value[worse] = _total(counts[:, worse], new_expected[:, worse])
            worse[worse] = ~(value[worse] <= best[worse] + 1e-9 * (1 + np.abs(best[worse])))
        return moved, new_density, new_expected, value

    def _step(self, counts: Array, expected: Array, density: Array) -> tuple[Array, Array]:
        """Return the step of Fisher scoring (P, T), at most a factor e^3 in any bin, and how far the minimum is (T,)."""
        jacobian = self.derivatives(density)
        ratio = counts / np.maximum(expected, SMALLEST) - 1
        gradient = np.einsum("bpt,bt->pt", jacobian, ratio)
        information = _information(expected, jacobian)
        ridge = 1e-13 * np.einsum("tpp->t", information) + 1e-300
        information += ridge[:, None, None] * np.eye(len(gradient))
        step = np.linalg.solve(information, gradient.T[:, :, None])[:, :, 0].T
        edm = np.einsum("pt,pt->t", step, gradient)
        change = np.abs(self.terms[:, self.terms.shape[1] // 2] @ step[: self.number]).max(axis=0)
        return step * np.minimum(1.0, 3.0 / np.maximum(change, 1e-300)), edm


def _information(expected: Array, jacobian: Array) -> Array:
    """Return sum_b (d mu_b)(d mu_b)^T / mu_b, (T, P, P), of events (B, T) and their derivatives (B, P, T)."""
    scaled = (jacobian / np.sqrt(np.maximum(expected, SMALLEST))[:, None]).transpose(2, 1, 0)
    scaled = np.ascontiguousarray(scaled)
    return np.asarray(scaled @ scaled.transpose(0, 2, 1))


def _total(counts: Array, expected: Array) -> Array:
    """Return the deviance of every spectrum, (T,); infinite where not above 0 is expected."""
    impossible = (expected <= 0).any(axis=0)
    return np.where(impossible, np.inf, deviance(counts, expected).sum(axis=0))


def _first_guess(terms: Array, counts: Array, widths: Array) -> Array:
    """Parameters of a straight line through ln of the density, by weighted least squares."""
    weight = np.sqrt(counts + 0.1)
    density = np.log((counts + 0.1) / widths)
    found = np.linalg.lstsq(terms.mean(axis=1) * weight[:, None], density * weight, rcond=None)[0]
    return np.asarray(found, np.float64)


def check_counts(counts: ArrayLike, bins: int, fitted: NDArray[np.bool_] | None = None) -> Array:
    """Return counts as (B, T).

    Raises `InputError` for another number of bins, bad numbers, and spectra without an event in bins that are fitted (B,).
    """
    counts = np.asarray(counts, np.float64)
    counts = counts[:, None] if counts.ndim == 1 else counts
    if counts.ndim != 2 or len(counts) != bins:
        raise InputError(f"counts have shape {counts.shape}, expected ({bins},) or ({bins}, T)")
    if not np.isfinite(counts).all() or counts.min() < 0:
        raise InputError("counts are negative or not finite, expected numbers of events >= 0")
    if fitted is not None and not counts[fitted].any(axis=0).all():
        raise InputError("a spectrum has no event in the bins that are fitted; widen the range")
    return counts
