"""What a kind of simulated sample says about itself: its name, its options and their ranges, and who makes it."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

from pipelines.errors import InputError
from pipelines.jobs.chunks import Outcome

Value = float | int | str


@dataclasses.dataclass(frozen=True)
class Option:
    """A number, with its range, or one of some `choices`; whole numbers are those whose default is an int."""

    name: str
    about: str
    default: Value
    low: float = -math.inf
    high: float = math.inf
    unit: str = ""
    choices: tuple[Value, ...] = ()

    def check(self, value: Any) -> Any:
        """Return a value, or its text, in the option's type; raises `InputError` unless it is in range.

        >>> Option("m_x", "mass of X", 500.0, low=30, high=1000, unit="GeV").check("300")
        300.0
        """
        if isinstance(value, str) and not isinstance(self.default, str):
            with contextlib.suppress(ValueError):  # no number: told below
                value = float(value)
        if self.choices:
            if value not in self.choices:
                raise InputError(f"{self.name} is {value!r}, expected {_alternatives(self.choices)}")
            return self.choices[self.choices.index(value)]
        number = type(self.default)
        try:
            good = self.low <= value <= self.high and number(value) == value
        except (TypeError, ValueError, OverflowError):
            good = False
        if not good:
            what = "a whole number" if number is int else "a number"
            raise InputError(f"{self.name} is {value}, expected {what} {self._range()}{self.unit and ' ' + self.unit}")
        return number(value)

    def _range(self) -> str:
        if math.isinf(self.high):
            return f"of at least {self.low:g}"
        return f"from {self.low:g} to {self.high:g}"


@dataclasses.dataclass(frozen=True)
class Request:
    """A sample that is asked for: the kind's name, events, seed, and all its options."""

    kind: str
    events: int
    seed: int
    options: Mapping[str, Any]

    def identity(self) -> dict[str, object]:
        """Return what the sample depends on, for `pipelines.jobs.chunks.in_chunks` and for its attributes."""
        import numpy as np

        from pipelines.simulation.pythia import version

        made_with = {"pythia8mc": version(), "numpy": np.__version__}
        return {"kind": self.kind, "events": self.events, "seed": self.seed, **self.options, **made_with}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of sample.

    `make(out, request, workers=..., scheduler=..., progress=...)` writes it, by `pipelines.jobs.chunks.in_chunks` or
    `write_events`, and returns their `Outcome`; it raises `InputError` for options that do not go together.
    """

    name: str
    about: str
    layout: str
    make: Callable[..., Outcome]
    options: tuple[Option, ...] = ()

    def resolve(self, given: Mapping[str, Value]) -> dict[str, Value]:
        """Return all options, those not given at their defaults; raises `InputError` for an unknown one or a bad value."""
        names = [option.name for option in self.options]
        for name in given:
            if name not in names:
                raise InputError(f"{name}: {self.name} has no such option; {nearest(name, names)}")
        return {option.name: option.check(given.get(option.name, option.default)) for option in self.options}


def nearest(name: str, names: list[str]) -> str:
    """Say which of the names was probably meant, or which there are.

    >>> nearest("lhco_qdc", ["lhco_qcd", "lhco_2prong"])
    "did you mean 'lhco_qcd'?"
    """
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"there are {', '.join(names)}" if names else "it has none"


def _alternatives(choices: tuple[Value, ...]) -> str:
    return " or ".join(map(repr, choices))
