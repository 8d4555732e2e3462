"""Ranges with a step: the values that they have, both ends among them."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

MAX_VALUES = 1000  # of a range with a step


@dataclasses.dataclass(frozen=True)
class Step:
    """The step of a range: a number that is added, or a factor (`multiplies`).

    >>> print(Step.read(0.1, "linear"), Step.read(2, "log"), Step.read("+0.5", "log"), Step.read("*3", "linear"))
    +0.1 *2 +0.5 *3
    """

    size: float
    multiplies: bool = False

    @classmethod
    def read(cls, given: float | str, sampling: str) -> Step:
        """Return a step: a bare number is added where `sampling` is linear, and multiplies elsewhere.

        Raises `ValueError` for a text other than "+NUMBER" or "*NUMBER", and for a step that leads nowhere.
        """
        if isinstance(given, str):
            match = re.fullmatch(r"\s*([+*x])\s*(\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)\s*", given)
            if not match:
                raise ValueError(f"{given!r}, expected a number, '+NUMBER' to add or '*NUMBER' to multiply")
            number = float(match[2])
            step = cls(int(number) if number.is_integer() else number, match[1] != "+")
        else:
            step = cls(given, sampling != "linear")
        if step.multiplies and not 1 < step.size < math.inf:
            where = f"it multiplies, since sampling is {sampling}; " if not isinstance(given, str) else ""
            raise ValueError(f"{step.size:g}: {where}expected a factor > 1, or '+{step.size:g}' to add")
        if not 0 < step.size < math.inf:
            raise ValueError(f"{step.size:g}, expected a number > 0")
        return step

    def __str__(self) -> str:
        return f"{'*' if self.multiplies else '+'}{self.size:g}"


def stepped_values(low: float, high: float, step: Step, *, whole: bool, mirrored: bool = False) -> list[float]:
    """Return the values of a range in rising order, each once: from `low` by steps, and `high` whatever the step.

    They are worked out in decimal numbers, so that 0.1 and 0.1 and 0.1 make 0.3.

    Args:
        low, high: the ends, low < high; low > 0 for a step that multiplies.
        whole: of whole numbers. mirrored: the steps begin at `high`, as sampling "reverse_log" has them.

    Raises `ValueError` for more than 1000 values.

    >>> stepped_values(0.0, 0.3, Step(0.1), whole=False)
    [0.0, 0.1, 0.2, 0.3]
    >>> stepped_values(2, 8, Step(2, multiplies=True), whole=True), stepped_values(1, 10, Step(4), whole=True)
    ([2, 4, 8], [1, 5, 9, 10])
    """
    first, last, size = (Decimal(repr(number)) for number in (low, high, step.size))
    count = math.log(high / low) / math.log(step.size) if step.multiplies else (high - low) / step.size
    if not count < MAX_VALUES:
        raise ValueError(
            f"{step} makes {count:.3g} values, expected at most {MAX_VALUES}; leave the step out, or widen it"
        )
    values: list[Decimal] = []
    value = first
    while value < last and len(values) <= MAX_VALUES:
        values.append(value)
        value = value * size if step.multiplies else value + size
    if values and float(last - values[-1]) < 1e-9 * float(last - first):  # rounding of a step such as 1/3
        values.pop()
    values.append(last)
    if mirrored:
        values = [first + last - value for value in reversed(values)]
    if whole:
        return list(dict.fromkeys(round(value) for value in values))
    return list(dict.fromkeys(float(value) for value in values))


@dataclasses.dataclass(frozen=True)
class SteppedRange:
    """A range with a step, and all of its `values`."""

    low: float
    high: float
    step: Step
    sampling: str
    whole: bool

    @classmethod
    def of(cls, kind: str, options: Mapping[str, Any]) -> SteppedRange | None:
        """Return the range that KerasTuner's `kind` with its `options` asks for; None if it has no step.

        >>> SteppedRange.of("Float", {"min_value": 0.0, "max_value": 0.2, "step": 0.1}).values
        [0.0, 0.1, 0.2]
        """
        step, sampling = options.get("step"), options.get("sampling") or "linear"
        if kind not in ("Int", "Float") or step is None or (kind == "Int" and step == 1 and sampling == "linear"):
            return None
        return cls(options["min_value"], options["max_value"], Step.read(step, sampling), sampling, kind == "Int")

    @property
    def values(self) -> list[float]:
        """All values, in rising order."""
        return stepped_values(self.low, self.high, self.step, whole=self.whole, mirrored=self.sampling == "reverse_log")

    def row(self) -> dict[str, object]:
        """Return what `Space.rows` says of it."""
        ends = {"kind": "int" if self.whole else "float", "min": self.low, "max": self.high}
        return {**ends, "step": self.step.size, "multiplies": self.step.multiplies, "sampling": self.sampling}


def nearest(values: list[float], wanted: float | None) -> float:
    """Return the value that is nearest to the one wanted, the first for None.

    >>> nearest([0.0, 0.1, 0.2], 0.14), nearest([2, 4, 8], None)
    (0.1, 2)
    """
    return values[0] if wanted is None else min(values, key=lambda value: abs(value - wanted))
