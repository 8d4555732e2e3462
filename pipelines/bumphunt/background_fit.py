"""Fits of smooth backgrounds to spectra, thousands at a time.

**Expectation.** The events expected in bin b are mu_b = integral of f over the bin, by Gauss-Legendre quadrature with
`NODES` points: f is smooth within a bin, and 4 points give ATLAS's bins to about 1e-12.

**Likelihood.** Poisson. Fits minimise the deviance D = 2 sum_b [mu_b - n_b + n_b ln(n_b / mu_b)], the chi-square of
Baker and Cousins (1984, doi 10.1016/0167-5087(84)90016-4).

**Minimisation.** ln f is linear in the parameters, so this is almost a generalised linear model, and Fisher scoring
(iteratively reweighted least squares) converges in a few steps from any reasonable start. Each step is done for all
spectra at once. The parameters are made orthonormal first, since powers of ln x are almost alike. Tests hold the results
to iminuit's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy
from scipy.stats import f as f_distribution

from pipelines.bumphunt.fit_functions import SQRT_S, Array, FitFunction, check_range, functions_of
from pipelines.errors import InputError

NODES = 4  # of the Gauss-Legendre quadrature over a bin
STEPS = 60  # at most; a fit takes 2 to 6
HALVINGS = 30  # of a step that leads uphill
EDM = 1e-4  # estimated distance to the minimum of the deviance from where a last step is taken
BLOCK = 128  # spectra that are fitted together, so that their arrays stay in the processor's cache
F_TEST = 0.05  # a function with a parameter more is taken if its F-test has a p-value below this
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
        counts = _checked(counts, len(self.used))
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
        return np.einsum("bqp,bq->bp", self._terms, density)

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


def _checked(counts: ArrayLike, bins: int) -> Array:
    counts = np.asarray(counts, np.float64)
    counts = counts[:, None] if counts.ndim == 1 else counts
    if counts.ndim != 2 or len(counts) != bins:
        raise InputError(f"counts have shape {counts.shape}, expected ({bins},) or ({bins}, T)")
    if not np.isfinite(counts).all() or counts.min() < 0:
        raise InputError("counts are negative or not finite, expected numbers of events >= 0")
    if not counts.sum(axis=0).all():
        raise InputError("a spectrum has no event in the bins that are fitted; widen the range")
    return counts


# -- backgrounds -----------------------------------------------------------------------------------------


class FittedBackground:
    """A background fitted to each spectrum: by one function, or by one of a family that an F-test chooses.

    The function with one parameter more is taken while F = (D_1 - D_2) / (D_2 / ndf_2) has a p-value below `alpha`, D the
    deviance. The test is made anew for every spectrum.

    Args:
        edges: (B + 1,). kind: name of a function or family of `pipelines.bumphunt.fit_functions`.
        sqrt_s: in the unit of the edges. used: (B,) bool, bins that are fitted. alpha: of the F-test.

    Raises:
        InputError: for an unknown name, a range where the function is not defined, and too few bins.

    Example:
        >>> edges = np.linspace(1000, 5000, 41)
        >>> background = FittedBackground(edges, "auto")
        >>> counts = background.fitters[0].expected(np.array([[10.0], [9.0], [-4.0]]))
        >>> background.functions[background.fit(counts).choice[0]].name
        'dijet3'
    """

    def __init__(
        self,
        edges: ArrayLike,
        kind: str = "auto",
        *,
        sqrt_s: float = SQRT_S,
        used: NDArray[np.bool_] | None = None,
        alpha: float = F_TEST,
    ):
        self.kind, self.sqrt_s, self.alpha = kind, float(sqrt_s), alpha
        self.edges = np.asarray(edges, np.float64)
        functions = functions_of(kind)
        bins = len(self.edges) - 1 if used is None else int(np.sum(used))
        kept = [function for function in functions if function.parameters < bins] or functions[:1]
        self.functions = tuple(kept)
        self.fitters = tuple(SpectrumFitter(edges, function, sqrt_s, used) for function in kept)

    @property
    def used(self) -> NDArray[np.bool_]:
        """Bins that are fitted, (B,) bool."""
        return self.fitters[0].used

    def excluding(self, window: slice) -> FittedBackground:
        """Return the same background, fitted without a window of bins."""
        used = self.used.copy()
        used[window] = False
        return FittedBackground(self.edges, self.kind, sqrt_s=self.sqrt_s, used=used, alpha=self.alpha)

    def only(self, choice: int) -> FittedBackground:
        """Return the background of one of the functions, without a choice."""
        name = self.functions[choice].name
        return FittedBackground(self.edges, name, sqrt_s=self.sqrt_s, used=self.used)

    def fit(self, counts: ArrayLike) -> Fits:
        """Fit all spectra (B, T), or one (B,); arguments and errors as of `SpectrumFitter.fit`."""
        each = [fitter.fit(counts) for fitter in self.fitters]
        if len(each) == 1:
            return each[0]
        choice = chosen_by_f_test(
            np.stack([one.deviance for one in each]), np.stack([one.degrees_of_freedom for one in each]), self.alpha
        )
        spectra = np.arange(len(choice))
        most = self.functions[-1].parameters
        padded = [np.pad(one.parameters, ((0, most - len(one.parameters)), (0, 0))) for one in each]
        return Fits(
            expected=np.stack([one.expected for one in each])[choice, :, spectra].T,
            deviance=np.stack([one.deviance for one in each])[choice, spectra],
            degrees_of_freedom=np.stack([one.degrees_of_freedom for one in each])[choice, spectra],
            converged=np.stack([one.converged for one in each])[choice, spectra],
            choice=choice,
            parameters=np.stack(padded)[choice, :, spectra].T,
        )

    def expected(self, counts: ArrayLike) -> Array:
        """Return the events expected of background in every bin of every spectrum, (B, T)."""
        return self.fit(counts).expected


def f_test(deviance_1: Array, degrees_1: Array, deviance_2: Array, degrees_2: Array) -> Array:
    """Return p-values of the F-test between fits of nested functions; the second has more parameters.

    F = [(D_1 - D_2) / (ndf_1 - ndf_2)] / (D_2 / ndf_2). A small p-value says that the further parameters are needed.

    >>> f_test(*(np.array([v]) for v in (50.0, 31.0, 30.0, 30.0))).round(6).tolist()
    [9.4e-05]
    """
    more = degrees_1 - degrees_2
    ratio = np.maximum(deviance_1 - deviance_2, 0) / more / (np.maximum(deviance_2, 1e-300) / degrees_2)
    return np.asarray(f_distribution.sf(ratio, more, degrees_2))


def chosen_by_f_test(deviances: Array, degrees: Array, alpha: float = F_TEST) -> NDArray[np.int64]:
    """Return which of F nested functions to take for each of T spectra, (T,): deviances and degrees are (F, T).

    Begins with the first function, and goes on to the next while the F-test asks for it.

    >>> chosen_by_f_test(np.array([[90.0], [50.0], [49.9]]), np.array([[32.0], [31.0], [30.0]])).tolist()
    [1]
    """
    choice = np.zeros(deviances.shape[1], np.int64)
    going = np.ones(deviances.shape[1], bool)
    for following in range(1, len(deviances)):
        p = f_test(deviances[following - 1], degrees[following - 1], deviances[following], degrees[following])
        going &= p < alpha
        choice[going] = following
    return choice


class SlidingWindow:
    """A background from fits in a window that slides over the spectrum (SWiFt, arXiv:1703.09127, sec. 6).

    The expectation of a bin is that of a fit to the `bins` bins around it; near the ends the window stops and the bin is not
    in its middle. A function with few parameters then describes spectra that it cannot describe as a whole.

    Args:
        edges: (B + 1,). kind: name of a function, not of a family. bins: of the window. sqrt_s: as the edges.

    Raises:
        InputError: as `FittedBackground`, and for a window that is wider than the spectrum.
    """

    def __init__(self, edges: ArrayLike, kind: str, bins: int, *, sqrt_s: float = SQRT_S):
        self.kind, self.bins, self.sqrt_s = kind, bins, float(sqrt_s)
        self.edges = np.asarray(edges, np.float64)
        self.functions = functions_of(kind)
        many = len(self.edges) - 1
        if len(self.functions) > 1:
            raise InputError(
                f"background {kind!r} with a sliding window: an F-test in every window is not offered; name one "
                f"function, such as {self.functions[0].name}"
            )
        if not self.functions[0].parameters < bins <= many:
            raise InputError(
                f"sliding window of {bins} bins: expected more than the {self.functions[0].parameters} parameters of "
                f"{kind}, and at most the {many} bins of the spectrum"
            )
        first = np.clip(np.arange(many) - bins // 2, 0, many - bins)
        self._bins_of: list[tuple[int, list[int]]] = []
        for start in np.unique(first).tolist():
            self._bins_of.append((start, np.flatnonzero(first == start).tolist()))

    @property
    def used(self) -> NDArray[np.bool_]:
        """Bins that are fitted: all."""
        return np.ones(len(self.edges) - 1, bool)

    def fit(self, counts: ArrayLike) -> Fits:
        """Fit all spectra (B, T), or one (B,). The parameters are those of the window in the middle of the spectrum."""
        counts = _checked(counts, len(self.edges) - 1)
        expected, converged = np.empty_like(counts), np.ones(counts.shape[1], bool)
        middle = self._bins_of[len(self._bins_of) // 2][0]
        parameters = np.zeros((self.functions[0].parameters, counts.shape[1]))
        for start, bins in self._bins_of:
            inside = slice(start, start + self.bins)
            fitter = SpectrumFitter(self.edges[start : start + self.bins + 1], self.functions[0], self.sqrt_s)
            there = counts[inside].any(axis=0)  # without any event nothing is expected
            fits = fitter.fit(counts[inside][:, there]) if there.any() else None
            for bin_ in bins:
                expected[bin_] = SMALLEST
                if fits is not None:
                    expected[bin_, there] = fits.expected[bin_ - start]
            if fits is not None:
                converged[there] &= fits.converged
                if start == middle:
                    parameters[:, there] = fits.parameters
        return Fits(
            expected=expected,
            deviance=deviance(counts, expected).sum(axis=0),
            degrees_of_freedom=np.full(counts.shape[1], np.nan),
            converged=converged,
            choice=np.zeros(counts.shape[1], np.int64),
            parameters=parameters,
        )

    def expected(self, counts: ArrayLike) -> Array:
        """Return the events expected of background in every bin of every spectrum, (B, T)."""
        return self.fit(counts).expected


def gaussian_shape(edges: ArrayLike, mass: float, width: float) -> Array:
    """Return the share of a Gaussian of this mass and standard deviation in every bin, (B,).

    >>> gaussian_shape([0.0, 1.0, 2.0], 1.0, 0.1).round(3).tolist()
    [0.5, 0.5]
    """
    from scipy.stats import norm

    return np.diff(norm.cdf(np.asarray(edges, np.float64), mass, width))


@dataclasses.dataclass(frozen=True)
class SpuriousSignal:
    """Signal that a fit of signal and background finds where there is none.

    Attributes:
        mass, width: of the Gaussian signal. events: the fitted number. error: its standard deviation.
    """

    mass: float
    width: float
    events: float
    error: float


def spurious_signal(
    fitter: SpectrumFitter, template: ArrayLike, masses: Sequence[float], widths: Sequence[float]
) -> list[SpuriousSignal]:
    """Fit signal and background to a background without statistical fluctuation.

    What is fitted as signal is a bias of the function: the spurious signal, which ATLAS asks to be a small share of the
    statistical error (arXiv:1207.7214, sec. 5).

    Args:
        fitter: of the function that is tested. template: (B,) events expected of background, from simulation or from a
            function with more parameters. masses, widths: of Gaussian signals.

    Example:
        >>> edges = np.linspace(1000, 5000, 41)
        >>> fitter = SpectrumFitter(edges, functions_of("dijet3")[0])
        >>> template = fitter.expected(np.array([[10.0], [9.0], [-4.0]]))[:, 0]
        >>> abs(spurious_signal(fitter, template, [2500], [100])[0].events) < 0.01
        True
    """
    found = []
    for mass, width in zip(masses, widths):
        shape = gaussian_shape(fitter.edges, mass, width)
        fits = fitter.fit(np.asarray(template, np.float64), signal=shape)
        error = float(np.sqrt(fitter.covariance(fits.parameters[:, 0], shape)[-1, -1]))
        found.append(SpuriousSignal(float(mass), float(width), float(fits.parameters[-1, 0]), error))
    return found
