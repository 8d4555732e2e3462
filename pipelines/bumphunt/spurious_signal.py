"""The spurious signal of a function: what a fit of signal and background finds where there is no signal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from pipelines.bumphunt.background_fit import FittedBackground
from pipelines.bumphunt.batched_fit import SpectrumFitter
from pipelines.bumphunt.fit_functions import Array, one_more


def gaussian_shape(edges: ArrayLike, mass: float, width: float) -> Array:
    """Return the share of a Gaussian of this mass and standard deviation in every bin, (B,).

    >>> gaussian_shape([0.0, 1.0, 2.0], 1.0, 0.1).round(3).tolist()
    [0.5, 0.5]
    """
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

    @property
    def ratio(self) -> float:
        """Spurious signal over its statistical error."""
        return self.events / self.error


@dataclasses.dataclass(frozen=True)
class SpuriousSignals:
    """The spurious signal of the function that was fitted to a spectrum.

    Attributes:
        function: that was tested. template: the background that it was tested on, in words. given: whether that was given; if
            not, it is fitted to the data, and what it finds is what the data leave open.
        each: at masses over the spectrum, for several widths. at_bump: at the mass and width of the bump; None without one.
    """

    function: str
    template: str
    given: bool
    each: tuple[SpuriousSignal, ...]
    at_bump: SpuriousSignal | None

    @property
    def largest(self) -> SpuriousSignal:
        """The one that is largest compared with its error."""
        return max(self.each, key=lambda one: abs(one.ratio))

    def to_dict(self) -> dict[str, object]:
        """Return everything, ready for JSON."""
        one = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        each = [_plain(signal) for signal in self.each]
        return {**one, "each": each, "largest": _plain(self.largest),
                "at_bump": None if self.at_bump is None else _plain(self.at_bump)}  # fmt: skip


def _plain(one: SpuriousSignal) -> dict[str, float]:
    return {**dataclasses.asdict(one), "ratio": one.ratio}


MASSES = 15  # at most, at which it is told
CORE = 2.8  # standard deviations of a signal that a window is wide
WIDER = (1, 2, 4)  # times the narrowest window


def of_spectrum(
    background: FittedBackground,
    choice: int,
    counts: Array,
    *,
    widths: tuple[int, int],
    template: Array | None = None,
    name: str = "",
    excluded: tuple[float, float] | None = None,
    bump: tuple[float, float] | None = None,
) -> SpuriousSignals | None:
    """Return the spurious signal of the function that was fitted to a spectrum; None if there are too few bins for it.

    Args:
        background, choice: that was fitted, and which of its functions. counts: (B,) the spectrum. widths: of its windows, bins.
        template, name: (B,) events expected of background, up to a factor, and what it is. By default the function with one
            parameter more, fitted to the spectrum without the range `excluded`, that of a bump.
        bump: mass and standard deviation of a signal besides.

    Example:
        >>> edges = np.linspace(1000, 5000, 41)
        >>> background = FittedBackground(edges, "dijet3")
        >>> counts = background.fitters[0].expected(np.array([[5.0], [9.0], [-4.0]]))[:, 0]
        >>> abs(of_spectrum(background, 0, counts, widths=(2, 8)).largest.ratio) < 0.01
        True
    """
    function, edges = background.functions[choice], background.edges
    fitter = SpectrumFitter(edges, function, background.sqrt_s, background.used)
    given = template is not None
    if int(background.used.sum()) <= function.parameters + 2:
        return None
    if template is None:
        used = background.used.copy()
        if excluded is not None:
            used &= (edges[1:] <= excluded[0]) | (edges[:-1] >= excluded[1])
        if int(used.sum()) <= function.parameters + 1:
            return None
        richer = one_more(function)
        template = SpectrumFitter(edges, richer, background.sqrt_s, used).fit(counts).expected[:, 0]
        name = f"{richer.name}, fitted to the data"
    elif template.sum() > 0:
        template = template * (counts.sum() / template.sum())
    signals = _signals(edges, widths)
    each = spurious_signal(fitter, template, [one[0] for one in signals], [one[1] for one in signals])
    there = spurious_signal(fitter, template, [bump[0]], [bump[1]])[0] if bump is not None else None
    each = [one for one in each if np.isfinite(one.error) and one.error > 0]
    return SpuriousSignals(function.name, name, given, tuple(each), there) if each else None


def _signals(edges: Array, widths: tuple[int, int]) -> list[tuple[float, float]]:
    """Mass and standard deviation of the signals: windows of the narrowest width, twice and four times that."""
    bins, found = len(edges) - 1, []
    for wide in sorted({min(times * widths[0], widths[1], bins) for times in WIDER}):
        starts = np.unique(np.linspace(0, bins - wide, min(MASSES, bins - wide + 1)).astype(int))
        found += [((edges[i] + edges[i + wide]) / 2, (edges[i + wide] - edges[i]) / CORE) for i in starts]
    return found


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
        >>> from pipelines.bumphunt.fit_functions import functions_of
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


def said(found: SpuriousSignals) -> str:
    """Return the spurious signal as a sentence.

    >>> one = SpuriousSignal(3000, 100, 4.0, 20.0)
    >>> said(SpuriousSignals("dijet3", "qcd", True, (one,), None))
    'Spurious signal: where qcd is the truth, dijet3 and a Gaussian find at most 4.0 signal events, 0.20 of their error, at 3000.'
    """
    most = found.largest
    at_bump = ""
    if found.at_bump is not None:
        there = found.at_bump
        at_bump = f", and {there.events:,.1f}, {abs(there.ratio):.2f} of their error, at the bump"
    return (
        f"Spurious signal: where {found.template} is the truth, {found.function} and a Gaussian find at most "
        f"{most.events:,.1f} signal events, {abs(most.ratio):.2f} of their error, at {most.mass:.4g}{at_bump}."
    )
