"""Windows in mass: the signal region that a weakly supervised model looks into, and the side bands beside it.

A model that needs them declares `WindowHyperparameters` or `SidebandHyperparameters`. The masses are those of the spectrum
that is searched for bumps, in GeV, and every edge belongs to the region above it: low <= mass < high.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipelines.arguments import argument
from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.events.statistics import masses_of
from zoo.hyperparameters import NOT_NEGATIVE, EventHyperparameters, hyperparameter

FEWEST = 100  # events in a region that a classifier can learn anything from


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowHyperparameters(EventHyperparameters):
    """What a model has that needs a signal region."""

    window: Sequence[float] = hyperparameter(
        (), "signal region (low, high) in GeV, without which there is no training", NOT_NEGATIVE
    )

    def check(self) -> None:
        super().check()
        _check_edges("window", self.window)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SidebandHyperparameters(WindowHyperparameters):
    """What a model has that needs a signal region and side bands."""

    sidebands: Sequence[float] = hyperparameter(
        (),
        "outer edges (low, high) in GeV of the side bands; or the width of each: GeV, below 1 a share of the window's centre; "
        "() takes all events outside the window",
        NOT_NEGATIVE,
    )

    def check(self) -> None:
        super().check()
        if len(self.sidebands) != 1 or not self.sidebands[0]:
            _check_edges("sidebands", self.sidebands, ", or a width above 0, as 400 or 0.1")
        if self.window and self.sidebands:
            (low, high), (outer_low, outer_high) = self.window, outer_edges(self.window, self.sidebands)
            if not outer_low < low < high < outer_high:
                raise InputError(
                    f"sidebands={tuple(self.sidebands)} is not possible; expected outer edges on both sides of the window "
                    f"{low:g} to {high:g} GeV, as ({low - 500:g}, {high + 500:g})"
                )


def outer_edges(window: Sequence[float], sidebands: Sequence[float]) -> tuple[float, ...]:
    """Return the outer edges of side bands in GeV, (low, high); () for all events outside the window.

    >>> outer_edges((3300, 3700), (0.1,)), outer_edges((3300, 3700), (400,)), outer_edges((3300, 3700), (2900, 4500))
    ((2950.0, 4050.0), (2900.0, 4100.0), (2900.0, 4500.0))
    """
    if len(sidebands) != 1:
        return tuple(map(float, sidebands))
    (low, high), width = map(float, window), float(sidebands[0])
    width *= (low + high) / 2 if width < 1 else 1
    return max(low - width, 0.0), high + width


def _check_edges(name: str, edges: Sequence[float], other: str = "") -> None:
    """Raise `InputError` unless edges are none, or a lower and an upper one; `other` says what else could be."""
    if len(edges) and (len(edges) != 2 or not edges[0] < edges[1]):
        raise InputError(f"{name}={tuple(edges)} is not possible; expected (low, high) in GeV, as (3300, 3700){other}")


@dataclasses.dataclass(frozen=True)
class Regions:
    """A window in mass and the side bands beside it, in GeV.

    >>> regions = Regions(3300.0, 3700.0)
    >>> mass = np.array([2900.0, 3300.0, 3700.0])
    >>> regions.inside(mass).tolist(), regions.beside(mass).tolist()
    ([False, True, False], [True, False, True])
    """

    low: float
    high: float
    outer_low: float = -math.inf
    outer_high: float = math.inf

    @classmethod
    def of(cls, hp: WindowHyperparameters, model: str) -> Regions:
        """Return the regions of a model's hyperparameters; raises `InputError` naming the model if it has no window."""
        if not hp.window:
            raise InputError(f"{model} needs a signal region; give one in GeV, as {argument('window', (3300, 3700))}")
        return cls(*map(float, hp.window), *outer_edges(hp.window, getattr(hp, "sidebands", ())))

    @classmethod
    def between(cls, window: Sequence[float], sidebands: Sequence[float] = ()) -> Regions:
        """Return the regions of given edges, GeV; raises `InputError` for edges that are not possible."""
        hp = SidebandHyperparameters(window=tuple(window), sidebands=tuple(sidebands))
        return cls(*map(float, hp.window), *outer_edges(hp.window, hp.sidebands))

    def inside(self, mass: Any) -> Any:
        """Tell which masses, an array or a tensor, are in the window."""
        return (mass >= self.low) & (mass < self.high)

    def beside(self, mass: Any) -> Any:
        """Tell which masses, an array or a tensor, are in a side band."""
        return self.below(mass) | self.above(mass)

    def below(self, mass: Any) -> Any:
        """Tell which masses are in the lower side band."""
        return (mass >= self.outer_low) & (mass < self.low)

    def above(self, mass: Any) -> Any:
        """Tell which masses are in the upper side band."""
        return (mass >= self.high) & (mass < self.outer_high)

    def check(self, events: Events, sidebands: bool = True) -> None:
        """Raise `InputError` unless events have at least `FEWEST` in the window and, with `sidebands`, on both sides."""
        mass = masses_of(events).mass
        first, last = (float(mass.min()), float(mass.max())) if len(mass) else (math.nan, math.nan)
        there = f"the masses of its {len(mass)} events go from {first:g} to {last:g} GeV"
        if not (self.high > first and self.low <= last):
            raise InputError(
                f"{events.name}: the window {self.low:g} to {self.high:g} GeV is outside of its masses; {there}"
            )
        found = {f"in the window {self.low:g} to {self.high:g} GeV": self.inside(mass)}
        if sidebands:
            found |= {
                f"below the window, in {max(self.outer_low, first):g} to {self.low:g} GeV": self.below(mass),
                f"above the window, in {self.high:g} to {min(self.outer_high, last):g} GeV": self.above(mass),
            }
        for where, which in found.items():
            if (count := int(which.sum())) < FEWEST:
                raise InputError(
                    f"{events.name}: {count} events {where}, expected at least {FEWEST}; {there}: move the window, or "
                    f"train on a wider mass range"
                )


class ClassBalance:
    """Weights that give events of the first class half of the total weight, and the others the other half.

    w(m) = N / (2 W) with N all events and W the sum of the events' own weights in the class of m, so that the mean of
    both products is one. Raises `InputError` if the weights of a class add up to nothing.

    Args:
        events: of both classes.
        first: tells by the masses (N,) which events are of the first class.

    >>> events = Events.from_arrays(np.zeros((4, 1)), [3000.0, 3500.0, 4000.0, 4100.0], ["x"])
    >>> print(ClassBalance(events, Regions(3300.0, 3700.0).inside)(events.mass).round(3))
    [0.667 2.    0.667 0.667]
    """

    def __init__(self, events: Events, first: Callable[[np.ndarray], np.ndarray]):
        self._first, totals = first, np.zeros(2)
        for mass, weight in masses_of(events).blocks():
            totals += np.bincount(first(mass).astype(int), weight, minlength=2)
        if not (totals > 0).all():
            raise InputError(
                f"{events.name}: the weights of a class add up to {totals.min():g}, expected more than 0: "
                f"{totals[1]:g} are in the window, {totals[0]:g} are what it is compared with"
            )
        self.weights = (len(events) / (2.0 * totals)).astype(np.float32)

    def __call__(self, mass: np.ndarray) -> np.ndarray:
        """Return the weight for each of the masses (N,), float32."""
        return self.weights[self._first(mass).astype(int)]
