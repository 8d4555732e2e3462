"""Smooth functions of the mass that a background is fitted by: the dijet functions, exponentials and a power law.

All are functions of x = m / sqrt(s), and the logarithm of each is linear in its parameters:

    dijet3 to dijet5   f = p0 (1 - x)^p1 x^(p2 + p3 ln x + p4 ln^2 x), with 3 to 5 parameters
    exp1 to exp3       f = p0 exp(p1 x + p2 x^2 + p3 x^3), with 2 to 4 parameters
    power              f = p0 x^p1

The dijet functions are those of every dijet search of ATLAS and CMS (arXiv:1910.08447, eq. 1; arXiv:1911.03947, eq. 1).
f is a density: events per unit of mass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipelines.arguments import argument
from pipelines.errors import InputError

Array = NDArray[np.float64]

SQRT_S = 13_000.0  # GeV


@dataclasses.dataclass(frozen=True)
class FitFunction:
    """A smooth function of x = m / sqrt(s) whose logarithm is linear in its parameters.

    Attributes:
        name: as in `FUNCTIONS`. formula: as text.
        terms: gives the derivatives of ln f for its parameters, x (...,) to (..., P). The first is 1, of ln p0.
        parameters: how many there are, P.
        below_sqrt_s: whether the function is defined for x < 1 only.
        above_zero: whether it is defined for x > 0 only.
    """

    name: str
    formula: str
    terms: Callable[[Array], Array]
    parameters: int
    below_sqrt_s: bool
    above_zero: bool

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters, p0, p1 and so on."""
        return tuple(f"p{i}" for i in range(self.parameters))

    def log_density(self, x: Array, parameters: Array) -> Array:
        """Return ln f at x (...,) for the parameters (P,): ln p0, p1, p2 and so on.

        >>> f = FUNCTIONS["dijet3"]
        >>> float(f.log_density(np.array(0.5), np.array([0.0, 2.0, -1.0])).round(6))  # 2 ln 0.5 - ln 0.5
        -0.693147
        """
        return self.terms(np.asarray(x, np.float64)) @ parameters


def _dijet_terms(number: int) -> Callable[[Array], Array]:
    def terms(x: Array) -> Array:
        log = np.log(x)
        columns = [np.ones_like(x), np.log1p(-x), log, log**2, log**3]
        return np.stack(columns[:number], axis=-1)

    return terms


def _exponential_terms(degree: int) -> Callable[[Array], Array]:
    return lambda x: np.stack([x**power for power in range(degree + 1)], axis=-1)


def _power_terms(x: Array) -> Array:
    return np.stack([np.ones_like(x), np.log(x)], axis=-1)


_EXPONENTS = {3: "p2", 4: "(p2 + p3 ln x)", 5: "(p2 + p3 ln x + p4 ln^2 x)"}
_POLYNOMIALS = {1: "p1 x", 2: "p1 x + p2 x^2", 3: "p1 x + p2 x^2 + p3 x^3"}

FUNCTIONS: dict[str, FitFunction] = {
    **{
        f"dijet{n}": FitFunction(f"dijet{n}", f"p0 (1 - x)^p1 x^{power}", _dijet_terms(n), n, True, True)
        for n, power in _EXPONENTS.items()
    },
    **{
        f"exp{n}": FitFunction(f"exp{n}", f"p0 exp({inside})", _exponential_terms(n), n + 1, False, False)
        for n, inside in _POLYNOMIALS.items()
    },
    "power": FitFunction("power", "p0 x^p1", _power_terms, 2, False, True),
}

# Families of nested functions, of which an F-test chooses one.
FAMILIES: dict[str, tuple[str, ...]] = {
    "auto": ("dijet3", "dijet4", "dijet5"),
    "auto-exp": ("exp1", "exp2", "exp3"),
}


def functions_of(kind: str) -> tuple[FitFunction, ...]:
    """Return the function, or the functions of the family, of a name.

    Raises `InputError` for another name.

    >>> [function.name for function in functions_of("auto")]
    ['dijet3', 'dijet4', 'dijet5']
    """
    if kind in FUNCTIONS:
        return (FUNCTIONS[kind],)
    if kind in FAMILIES:
        return tuple(FUNCTIONS[name] for name in FAMILIES[kind])
    raise InputError(f"background {kind!r}: no such function; there are {', '.join([*FAMILIES, *FUNCTIONS])}")


def one_more(function: FitFunction) -> FitFunction:
    """Return the function with one parameter more: the next power of ln x in the exponent, or of x for exponentials.

    >>> one_more(FUNCTIONS["dijet3"]).parameters, one_more(FUNCTIONS["dijet5"]).name
    (4, 'dijet5 with one parameter more')
    """
    power = function.parameters - (1 if function.below_sqrt_s else 0)

    def terms(x: Array) -> Array:
        more = (np.log(x) if function.above_zero else x) ** power
        return np.concatenate([function.terms(x), more[..., None]], axis=-1)

    return dataclasses.replace(
        function,
        name=f"{function.name} with one parameter more",
        formula=f"{function.formula}, and the next power",
        terms=terms,
        parameters=function.parameters + 1,
    )


def check_range(function: FitFunction, edges: Array, sqrt_s: float) -> None:
    """Raise `InputError` where a function is not defined over the whole spectrum.

    >>> check_range(FUNCTIONS["dijet3"], np.array([1100.0, 8000.0]), 13_000)
    """
    if not (np.isfinite(sqrt_s) and sqrt_s > 0):
        raise InputError(f"sqrt(s) {sqrt_s:g}, expected an energy above 0 in the unit of the mass, such as {SQRT_S:g}")
    if function.below_sqrt_s and not edges[-1] < sqrt_s:
        raise InputError(
            f"{function.name}: the spectrum ends at {edges[-1]:g}, expected it below sqrt(s) = {sqrt_s:g}, in the same "
            f"unit; give another {argument('sqrt_s')}, or end the range below"
        )
    if function.above_zero and not edges[0] > 0:
        raise InputError(
            f"{function.name}: the spectrum begins at {edges[0]:g}, where ln x is not defined; begin the range above 0 "
            f"({argument('mass_range')}), or fit exp1, exp2 or exp3"
        )
