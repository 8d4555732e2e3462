"""The spurious signal of a function: what a fit of signal and background finds where there is no signal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from pipelines.bumphunt.batched_fit import SpectrumFitter
from pipelines.bumphunt.fit_functions import Array


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
