"""Hyperparameters of models: one declaration each, from which the constructor, checks and documentation follow.

A model declares a frozen dataclass whose fields are made by `hyperparameter`:

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(EventHyperparameters):
        latent_dim: int = hyperparameter(8, "dimensions of the latent space", UNITS)
        learning_rate: float = hyperparameter(1e-3, "of Adam", POSITIVE, runtime=True)
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from pipelines.errors import InputError
from zoo.settings import with_spellings

DEEPEST = 64  # values in a list, such as the layers of a network


@dataclasses.dataclass(frozen=True)
class Limit:
    """The values that a hyperparameter may take: a range, or a set of choices. For a list it holds for each value.

    >>> Limit(0, 1, open_high=True).check("dropout_rate", 0.2)
    """

    low: float = 0
    high: float = float("inf")
    whole: bool = False
    open_low: bool = False
    open_high: bool = False
    choices: tuple[object, ...] = ()

    def check(self, name: str, value: object) -> None:
        """Raise `InputError` naming the hyperparameter, its value and what was expected, unless it is allowed."""
        if not (value in self.choices if self.choices else self._in_range(value)):
            raise InputError(f"{name}={_short(value)} is not possible; expected {self}")

    def _in_range(self, value: object) -> bool:
        values: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
        kind: Any = numbers.Integral if self.whole else numbers.Real
        return bool(values) and all(
            isinstance(n, kind)
            and not isinstance(n, bool)
            and math.isfinite(n)
            and self.low <= n <= self.high
            and not (self.open_low and n == self.low)
            and not (self.open_high and n == self.high)
            for n in values
        )

    def __str__(self) -> str:
        if self.choices:
            return f"one of {', '.join(map(repr, self.choices))}"
        kind = "a whole number" if self.whole else "a number"
        low = f"{'>' if self.open_low else '>='} {_number(self.low)}"
        high = "" if self.high == float("inf") else f" and {'<' if self.open_high else '<='} {_number(self.high)}"
        return f"{kind} {low}{high}"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:100]} ... {text[-50:]}"


COUNT = Limit(1, 1_000_000, whole=True)
COUNT_OR_ZERO = Limit(0, 1_000_000, whole=True)
UNITS = Limit(1, 16_384, whole=True)  # two layers of the widest have a kernel of 1 GB between them
BATCH = Limit(1, 2**24, whole=True)
MEMBERS = Limit(1, 4096, whole=True)
SLOTS = Limit(0, 65_536, whole=True)
SEED = Limit(0, 2**31 - 1, whole=True)
NOT_NEGATIVE = Limit(0)
POSITIVE = Limit(0, open_low=True)
FRACTION = Limit(0, 1, open_high=True)
FLAG = Limit(choices=(True, False))
SCALING = Limit(choices=("minmax", "standard", "maxabs", "quantile"))


@dataclasses.dataclass(frozen=True)
class Declaration:
    """What is known of one hyperparameter.

    Attributes:
        text: what it is, in a line.
        limit: what values it may take; None is for names, which are checked where they are looked up.
        runtime: whether it changes no shape, so that another value compiles nothing anew. Each of several members
            may then have its own.
        shared: whether all members have the same value of it all the same.
        resizable: whether it is a size, such that a network with a larger one can hold this one (`zoo.padded_networks`).
        switchable: whether it says nothing but which optimizer the tasks have, so that one program can have all.
    """

    text: str
    limit: Limit | None = None
    runtime: bool = False
    shared: bool = False
    resizable: bool = False
    switchable: bool = False


def hyperparameter(
    default: object,
    text: str | None = None,
    limit: Limit | None = None,
    *,
    runtime: bool = False,
    shared: bool = False,
    resizable: bool = False,
    switchable: bool = False,
) -> Any:
    """Return a field of a `Hyperparameters` dataclass, see `Declaration` for what it takes.

    Without a text it keeps the declaration of the class that it inherits from, and gives another default.
    """
    declared = None if text is None else Declaration(text, limit, runtime, shared, resizable, switchable)
    return dataclasses.field(default=default, metadata={"declaration": declared})


Own = TypeVar("Own", bound="Hyperparameters")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """The hyperparameters of a model: what every model has, and what checks them.

    Raises `InputError` naming the first that is not possible.

    >>> Hyperparameters(seed=3)
    Hyperparameters(seed=3)
    """

    seed: int = hyperparameter(0, "fixes weights, random numbers, and the order of events", SEED)

    def __post_init__(self) -> None:
        self.check_ranges()
        self.check()

    def check(self) -> None:
        """Raise `InputError` for values that do not go together; a subclass says which, after `super().check()`."""

    def check_ranges(self) -> None:
        """Raise `InputError` naming the first hyperparameter that is outside its limits."""
        members = getattr(self, "members", 1)
        for name, one in self.declarations().items():
            value = getattr(self, name)
            if one.limit is None or (value == () and self.defaults()[name] == ()):
                continue
            if isinstance(value, (list, tuple)) and one.runtime:
                _check_each(name, value, members, one.shared)
            elif isinstance(value, (list, tuple)) and len(value) > DEEPEST:
                raise InputError(f"{name} has {len(value)} values; expected at most {DEEPEST}")
            one.limit.check(name, value)

    @classmethod
    def of(cls: type[Own], given: Mapping[str, object], owner: str = "the model") -> Own:
        """Return hyperparameters with these values over the defaults; lists and arrays may stand for tuples.

        Raises `InputError` for an unknown name, with those that are near, and for values that are not possible.
        """
        defaults = cls.defaults()
        for name in given:
            if name not in defaults:
                raise InputError(f"hyperparameter {name!r} of {owner!r} is not known; {near(str(name), defaults)}")
        runtime, members = cls.runtime(), given.get("members", 1)
        several, limits = members != 1, cls.limits()
        return cls(
            **{  # type: ignore[arg-type]
                name: _each(value)  # type: ignore[arg-type]
                if several and name in runtime and _is_list(value)
                else _shaped(name, _spelled(value, limits.get(name)), defaults[name])
                for name, value in given.items()
            }
        )

    @classmethod
    def declarations(cls) -> dict[str, Declaration]:
        """Return what is known of every hyperparameter, by its name."""
        found = {}
        for field in dataclasses.fields(cls):
            for owner in cls.__mro__:
                one = vars(owner).get("__dataclass_fields__", {}).get(field.name)
                declared = None if one is None else one.metadata.get("declaration")
                if declared is not None:
                    found[field.name] = declared
                    break
            else:
                raise TypeError(f"{cls.__qualname__}.{field.name} has no text; give hyperparameter(default, text)")
        return found

    @classmethod
    def defaults(cls) -> dict[str, object]:
        """Return the default values by name."""
        return {field.name: field.default for field in dataclasses.fields(cls)}

    @classmethod
    def limits(cls) -> dict[str, Limit]:
        """Return the limits by name, of those that have some."""
        return {name: one.limit for name, one in cls.declarations().items() if one.limit is not None}

    @classmethod
    def runtime(cls) -> tuple[str, ...]:
        """Return the names of those that change no shape."""
        return tuple(name for name, one in cls.declarations().items() if one.runtime)

    @classmethod
    def shared(cls) -> tuple[str, ...]:
        """Return the names of those that change no shape and are the same for all members."""
        return tuple(name for name, one in cls.declarations().items() if one.runtime and one.shared)

    @classmethod
    def resizable(cls) -> tuple[str, ...]:
        """Return the names of sizes that a network with larger ones can hold."""
        return tuple(name for name, one in cls.declarations().items() if one.resizable)

    @classmethod
    def switchable(cls) -> tuple[str, ...]:
        """Return the names of those that say which optimizer there is, and nothing else."""
        return tuple(name for name, one in cls.declarations().items() if one.switchable)

    @classmethod
    def table(cls) -> str:
        """Return the names with their meaning, defaults and limits, as the `Args:` of a docstring."""
        lines = []
        for name, one in cls.declarations().items():
            default = repr(cls.defaults()[name])
            limit = "" if one.limit is None or one.limit in (FLAG, SEED) else f"; {one.limit}"
            text = f"{name}: {one.text}. Default {default}{limit}."
            lines += textwrap.wrap(text, 112, subsequent_indent="    ", break_long_words=False)
        return "\n".join(["Args:", *(f"    {line}" for line in lines)])

    def as_dict(self) -> dict[str, object]:
        """Return the values by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def replaced(self: Own, **changes: object) -> Own:
        """Return the same with other values; raises `InputError` as `of`."""
        return type(self).of({**self.as_dict(), **changes})


def _check_each(name: str, values: Sequence, members: int, shared: bool) -> None:
    """Raise `InputError` unless there is one value for each of several members."""
    if shared or members == 1 or len(values) != members:
        each = f"one value, or {members}, one for each member" if members > 1 else "one value"
        expected = "one for all members" if shared and members > 1 else each
        raise InputError(f"{name}={_short(values)} is not possible; expected {expected}")


def near(wrong: str, valid: Iterable[str]) -> str:
    """Return which of the valid names may have been meant, for an error message.

    >>> near("epsilom", ["alpha", "epsilon"])
    "did you mean 'epsilon'?"
    """
    close = difflib.get_close_matches(wrong, list(valid), n=3)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"expected one of {', '.join(valid)}"


def _spelled(value: object, limit: Limit | None) -> object:
    """Return what a word spells that is none of the choices: None or a truth value, as in `--set` (see `zoo.settings`)."""
    if limit == FLAG and isinstance(value, (int, float, np.number, np.bool_)) and value in (0, 1):
        return bool(value)
    if limit is None or not isinstance(value, str) or value in limit.choices:
        return value
    meant = with_spellings(value)
    return meant if meant in limit.choices else value


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple, np.ndarray))


def _each(values: Sequence | np.ndarray) -> tuple:
    """Return a value for each member: a list, tuple or array of them."""
    return tuple(values.tolist() if isinstance(values, np.ndarray) else values)


def _shaped(name: str, value: object, default: object) -> object:
    """Return a value in the shape of the default, a sequence or not; raises `InputError` if that cannot be."""
    if not isinstance(default, (list, tuple)):
        if isinstance(value, (list, tuple, dict, set)) or (isinstance(value, np.ndarray) and value.ndim):
            raise InputError(f"{name}={_short(value)} is not possible; expected one value, such as {default!r}")
        return value.item() if isinstance(value, (np.generic, np.ndarray)) else value
    value = value.tolist() if isinstance(value, np.ndarray) else value
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if default and any(isinstance(v, str) != isinstance(default[0], str) for v in values):
        raise InputError(f"{name}={_short(value)} is not possible; expected values such as {default[0]!r}")
    return tuple(v.item() if isinstance(v, np.generic) else v for v in values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EventHyperparameters(Hyperparameters):
    """What every model of events with features has."""

    columns: Sequence[str] = hyperparameter(("*",), "names or patterns of the features")
    scaling: str = hyperparameter("standard", "of the features", SCALING)
    batch_size: int = hyperparameter(1024, "events per step", BATCH)
    members: int = hyperparameter(
        1, "independently seeded copies trained together; their mean score is the score", MEMBERS
    )

    may_be_empty: ClassVar[bool] = False

    def check(self) -> None:
        super().check()
        check_names("columns", self.columns, self.may_be_empty)
        if self.seed + self.members - 1 > SEED.high:
            raise InputError(f"seed={self.seed} is not possible; expected at most {SEED.high} for the last member")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectHyperparameters(EventHyperparameters):
    """What every model of events made of objects, such as particles, has."""

    columns: Sequence[str] = hyperparameter((), "names or patterns of the features beside the objects, if any")
    object_columns: Sequence[str] = hyperparameter((), "the columns of an object; none are those that the events have")
    slots: int = hyperparameter(0, "objects in an event; 0 is as many as the events have", SLOTS)

    may_be_empty: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        check_names("object_columns", self.object_columns, True)


def check_names(name: str, value: object, may_be_empty: bool = False) -> None:
    """Raise `InputError` unless a value is a list of names.

    >>> check_names("columns", ("pt_1", "pt_2"))
    """
    is_list = isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value)
    if not is_list or not (value or may_be_empty):
        raise InputError(f"{name}={_short(value)} is not possible; expected a list of names or patterns")
