"""Backgrounds of a spectrum: given, fitted as a whole, or fitted in a sliding window.

A `Background` says what is expected in every bin of every spectrum. A fitted one is fitted again to every
pseudo-experiment, so its freedom to follow fluctuations is in the global p-value.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import f as f_distribution

from pipelines.bumphunt.batched_fit import SMALLEST, Fits, SpectrumFitter, check_counts, deviance
from pipelines.bumphunt.fit_functions import SQRT_S, Array, functions_of
from pipelines.errors import InputError

F_TEST = 0.05  # a function with a parameter more is taken if its F-test has a p-value below this
LEAST_DEVIANCE = (
    1e-3  # per degree of freedom: with three or more hardly any observed spectrum has less; below, rounding decides
)


class Background(Protocol):
    """What is expected of background in a spectrum."""

    kind: str

    @property
    def used(self) -> NDArray[np.bool_]:
        """Bins that are fitted, (B,) bool."""

    def fit(self, counts: ArrayLike) -> Fits:
        """Return the background of spectra (B, T), or of one (B,), as `Fits`."""

    def expected(self, counts: ArrayLike) -> Array:
        """Return the events expected in every bin of spectra (B, T): (B, T), or (B, 1) if it is the same for all."""

    def excluding(self, window: slice) -> Background:
        """Return the same background, fitted without a window of bins; raises `InputError` if too few are left."""


class GivenBackground:
    """A background that is known, the same for all spectra, or known up to a factor, which is fitted.

    Args:
        events: (B,) expected in every bin, >= 0. kind: what it is called.
        normalise: scale it to the events of every spectrum. used: (B,) bool, bins in which; all by default.

    Example:
        >>> GivenBackground([4.0, 2.0]).expected(np.zeros((2, 7))).shape
        (2, 1)
        >>> GivenBackground([4.0, 2.0], normalise=True).expected([5.0, 7.0]).ravel().tolist()
        [8.0, 4.0]
    """

    def __init__(
        self,
        events: ArrayLike,
        kind: str = "given",
        *,
        normalise: bool = False,
        used: NDArray[np.bool_] | None = None,
    ):
        self.kind, self.events, self.normalise = kind, np.asarray(events, np.float64), normalise
        self.used = np.ones(len(self.events), bool) if used is None else np.asarray(used, bool)
        if self.events.ndim != 1 or not np.isfinite(self.events).all() or self.events.min(initial=0) < 0:
            raise InputError(
                f"background {kind!r}: a bin is negative, NaN or infinite; expected events >= 0 in every bin"
            )
        if not self.events[self.used].any():
            raise InputError(f"background {kind!r}: nothing is expected in any bin")

    def fit(self, counts: ArrayLike) -> Fits:
        """Return the background and its deviance from spectra (B, T), or from one (B,); its factor alone is fitted."""
        counts = check_counts(counts, len(self.events))
        many = counts.shape[1]
        expected = np.repeat(self.expected(counts), 1 if self.normalise else many, axis=1)
        return Fits(
            expected=expected,
            deviance=deviance(counts, expected)[self.used].sum(axis=0),
            degrees_of_freedom=np.full(many, float(self.used.sum() - self.normalise)),
            converged=np.ones(many, bool),
            choice=np.zeros(many, np.int64),
            parameters=np.zeros((0, many)),
        )

    def expected(self, counts: ArrayLike) -> Array:
        """Return the events expected in every bin, (B, 1), or (B, T) if it is scaled to every spectrum."""
        if not self.normalise:
            return self.events[:, None]
        inside = check_counts(counts, len(self.events))[self.used]
        return np.asarray(self.events[:, None] * (inside.sum(axis=0) / self.events[self.used].sum()))

    def excluding(self, window: slice) -> GivenBackground:
        """Return the same background, scaled to the events outside of a window of bins."""
        used = self.used.copy()
        used[window] = False
        return GivenBackground(self.events, self.kind, normalise=self.normalise, used=used)


def poisson_spectra(background: Background, expected: Array, many: int, rng: np.random.Generator) -> Array:
    """Return so many Poisson spectra around what is expected (B,), (B, many).

    One without any event to fit is what is expected instead.
    """
    mean = np.maximum(expected, 0)[:, None]
    counts: Array = rng.poisson(mean, (len(mean), many)).astype(np.float64)
    if not isinstance(background, GivenBackground):
        counts[:, ~counts[background.used].any(axis=0)] = mean
    return counts


class FittedBackground:
    """A background fitted to each spectrum: by one function, or by one of a family that an F-test chooses.

    The function with one parameter more is taken while F = (D_1 - D_2) / (D_2 / ndf_2) has a p-value below `alpha`, D the
    deviance. The test is repeated for every spectrum.

    Args:
        edges: (B + 1,). kind: name of a function or family of `pipelines.bumphunt.fit_functions`.
        sqrt_s: in the unit of the edges. used: (B,) bool, bins that are fitted. alpha: of the F-test.

    Raises:
        InputError: for an unknown name, a range where the function is not defined, and too few bins.

    Example:
        >>> edges = np.linspace(1000, 5000, 41)
        >>> background = FittedBackground(edges, "auto")
        >>> expected = background.fitters[0].expected(np.array([[-6.0], [9.0], [-4.0]]))
        >>> counts = np.random.default_rng(0).poisson(expected)
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
    Of expected instead of observed counts both deviances are rounding errors, and D_2 / ndf_2 is taken to be 0.001 at least.

    >>> f_test(*(np.array([v]) for v in (50.0, 31.0, 30.0, 30.0))).round(6).tolist()
    [0.000103]
    >>> f_test(*(np.array([v]) for v in (2e-6, 31.0, -3e-6, 30.0))).round(2).tolist()
    [0.94]
    """
    more = degrees_1 - degrees_2
    ratio = np.maximum(deviance_1 - deviance_2, 0) / more / np.maximum(deviance_2 / degrees_2, LEAST_DEVIANCE)
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
        used: (B,) bool, bins that are fitted; around a bin these are the nearest.

    Raises:
        InputError: as `FittedBackground`, and for a window that is wider than the spectrum.
    """

    def __init__(
        self,
        edges: ArrayLike,
        kind: str,
        bins: int,
        *,
        sqrt_s: float = SQRT_S,
        used: NDArray[np.bool_] | None = None,
    ):
        self.kind, self.bins, self.sqrt_s = kind, bins, float(sqrt_s)
        self.edges = np.asarray(edges, np.float64)
        self.functions = functions_of(kind)
        self.used = np.ones(len(self.edges) - 1, bool) if used is None else np.asarray(used, bool)
        fitted = np.flatnonzero(self.used)
        if len(self.functions) > 1:
            raise InputError(
                f"background {kind!r} with a sliding window: an F-test in every window is not offered; name one "
                f"function, such as {self.functions[0].name}"
            )
        if not self.functions[0].parameters < bins <= len(fitted):
            raise InputError(
                f"sliding window of {bins} bins: expected more than the {self.functions[0].parameters} parameters of "
                f"{kind}, and at most the {len(fitted)} bins of the spectrum that are fitted"
            )
        every = np.arange(len(self.used))
        first = np.clip(np.searchsorted(fitted, every) - bins // 2, 0, len(fitted) - bins)
        self._bins_of = [(fitted[start : start + bins], every[first == start]) for start in np.unique(first)]

    def excluding(self, window: slice) -> SlidingWindow:
        """Return the same background, fitted without a window of bins: to the nearest of the others."""
        used = self.used.copy()
        used[window] = False
        return SlidingWindow(self.edges, self.kind, self.bins, sqrt_s=self.sqrt_s, used=used)

    def fit(self, counts: ArrayLike) -> Fits:
        """Fit all spectra (B, T), or one (B,). The parameters are those of the window in the middle of the spectrum."""
        counts = check_counts(counts, len(self.used), self.used)
        expected, converged = np.empty_like(counts), np.ones(counts.shape[1], bool)
        middle = self._bins_of[len(self._bins_of) // 2][0][0]
        parameters = np.zeros((self.functions[0].parameters, counts.shape[1]))
        for fitted, bins in self._bins_of:
            first, last = min(fitted[0], bins[0]), max(fitted[-1], bins[-1]) + 1
            used = np.isin(np.arange(first, last), fitted)
            fitter = SpectrumFitter(self.edges[first : last + 1], self.functions[0], self.sqrt_s, used)
            there = counts[fitted].any(axis=0)  # without any event nothing is expected
            expected[bins] = SMALLEST
            if there.any():
                fits = fitter.fit(counts[first:last, there])
                expected[np.ix_(bins, there)] = fits.expected[bins - first]
                converged[there] &= fits.converged
                if fitted[0] == middle:
                    parameters[:, there] = fits.parameters
        return Fits(
            expected=expected,
            deviance=deviance(counts, expected)[self.used].sum(axis=0),
            degrees_of_freedom=np.full(counts.shape[1], np.nan),
            converged=converged,
            choice=np.zeros(counts.shape[1], np.int64),
            parameters=parameters,
        )

    def expected(self, counts: ArrayLike) -> Array:
        """Return the events expected of background in every bin of every spectrum, (B, T)."""
        return self.fit(counts).expected
