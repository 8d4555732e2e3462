"""Files that change a search space: YAML, read strictly.

learning_rate: {min: 1e-4, max: 1e-2, sampling: log}   a range; what is left out stays as the model has it
dropout_rate: {min: 0, max: 0.3, step: 0.1}            0, 0.1, 0.2 and 0.3: a step is added where sampling is linear
latent_dim: {min: 2, max: 16, step: 2, sampling: log}  2, 4, 8 and 16: and multiplies where it is log or reverse_log
batch_size: {min: 100, max: 900, step: "*3"}           "*3" multiplies and "+100" adds, whatever the sampling is
flow: [none, planar]                                   a choice; none, None, null and ~ all mean that there is none
latent_dim: [1, 2, 4]                                  a choice
d_units: [[300, 200, 100], [150, 100, 50]]             a choice of layer widths
alpha: 5000                                            fixed
units: {fix: [64, 64]}                                 fixed, where a list would be a choice
batch_size: {values: [500, 1000], default: 1000}       a choice with its default
beta_1: {min: 0.5, max: 0.9, when: {optimizer: [adam]}} drawn only with these values of others
replace: true                                          only what is listed is searched
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.documents import MAX_INTEGER, read_yaml_document, shown
from pipelines.errors import InputError
from tuning.ranges import Step, stepped_values
from zoo.settings import with_spellings

SAMPLINGS = ("linear", "log", "reverse_log")
KEYS = ("min", "max", "step", "sampling", "type", "default", "values", "fix", "when")
RANGE, CHOICE, FIX = "range", "choice", "fix"
ADVICE = "expected lines such as `alpha: {min: 1, max: 9}`, as `tune space MODEL --yaml` prints them"


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a file says about one name: `kind` "range", "choice" or "fix", and what belongs to it."""

    name: str
    kind: str
    values: tuple[object, ...] = ()
    low: float | None = None
    high: float | None = None
    step: float | str | None = None
    sampling: str | None = None
    type: str | None = None
    default: Any = None
    when: Mapping[str, tuple[object, ...]] = dataclasses.field(default_factory=dict)

    @property
    def coded(self) -> bool:
        """Whether it chooses among lists, or has None among its choices: KerasTuner is given their text as JSON."""
        return self.kind != RANGE and any(isinstance(value, tuple) or value is None for value in self.values)

    def code(self, value: Any) -> Any:
        """Return what KerasTuner is given for a value.

        >>> entry = Entry("units", CHOICE, ((64, 32), (16,)))
        >>> entry.code((64, 32)), entry.value_of("[64, 32]")
        ('[64, 32]', (64, 32))
        """
        return json.dumps(value) if self.coded else value

    def value_of(self, drawn: object) -> object:
        """Return the value that KerasTuner's one stands for."""
        if not self.coded or not isinstance(drawn, str):
            return drawn
        value = json.loads(drawn)
        return tuple(value) if isinstance(value, list) else value

    @contextlib.contextmanager
    def scopes(self, hp, entries: Mapping[str, Entry]) -> Iterator[None]:
        """Open the conditional scopes of `when`; `entries` are those of the names that it may depend on."""
        with contextlib.ExitStack() as stack:
            for parent, values in self.when.items():
                code = entries[parent].code if parent in entries else lambda value: value
                stack.enter_context(hp.conditional_scope(parent, list(map(code, values))))
            yield

    def extremes(self) -> list[tuple[str, Any]]:
        """Return (what it is called, value) of all that must be within the limits of the model."""
        if self.kind == RANGE:
            ends = {"min": self.low, "max": self.high, "default": self.default}
            return [(key, value) for key, value in ends.items() if value is not None]
        return [("a value", value) for value in self.values]

    def definition(self, known, usual: Any) -> tuple[str, dict[str, Any]]:
        """Return the KerasTuner method and its arguments; `known` is the model's own, `usual` the model's default."""
        if self.kind == FIX:
            return "Fixed", {"value": self.code(self.values[0])}
        if self.kind == CHOICE:
            return self._choice(known, usual)
        return self._range(known, usual)

    def _choice(self, known, usual) -> tuple[str, dict[str, Any]]:
        values = [self.code(value) for value in self.values]
        default = None if self.default is None else self.code(self.default)
        if all(isinstance(value, bool) for value in values):
            return "Boolean", {"default": values[0] if default is None else default}
        if {type(value) for value in values} == {int, float}:  # KerasTuner wants one type
            kind = int if self.whole(known, usual) and all(value == int(value) for value in values) else float
            values, default = [kind(value) for value in values], None if default is None else kind(default)
        if default is None:
            candidates = [getattr(known, "default", None), usual]
            mine = [self.code(v) for v in candidates if not isinstance(v, (list, tuple)) and self.code(v) in values]
            default = mine[0] if mine else values[0]
        return "Choice", {"values": values, "default": type(values[0])(default)}

    def _range(self, known, usual) -> tuple[str, dict[str, Any]]:
        whole = self.whole(known, usual)
        low, high = self.ends(known)
        number = int if whole else float
        sampling = self.sampling or getattr(known, "sampling", None) or "linear"
        step: Any = self.step
        if step is None and self.sampling in (None, getattr(known, "sampling", None)):
            step = getattr(known, "step", None)
        default = next((v for v in (self.default, getattr(known, "default", None), usual) if _is_number(v)), low)
        default = number(min(max(default, low), high))
        found = {"min_value": number(low), "max_value": number(high), "sampling": sampling, "default": default}
        return ("Int" if whole else "Float"), found | ({} if step is None else {"step": step})

    def whole(self, known, usual) -> bool:
        """Whether it is of whole numbers: as it says, or as the model has it."""
        if self.type:
            return self.type == "int"
        own = type(known).__name__ if known is not None else ""
        if own in ("Int", "Float"):
            return own == "Int"
        example = known.values[0] if own == "Choice" else usual
        return isinstance(example, int) and not isinstance(example, bool)

    def ends(self, known) -> tuple[Any, Any]:
        """Return both ends; one that is not given is the model's own."""
        own = [one for one in getattr(known, "values", ()) if _is_number(one)] if known is not None else []
        low = getattr(known, "min_value", min(own, default=None)) if self.low is None else self.low
        high = getattr(known, "max_value", max(own, default=None)) if self.high is None else self.high
        return low, high

    def spelled(self, own: Mapping[str, Any]) -> Entry:
        """Return the entry with None as the model's own names spell it; `own` has what they are, by name."""

        def of(name: str, value: object) -> object:
            return none_of(own.get(name), value)

        when = {name: tuple(of(name, value) for value in values) for name, values in self.when.items()}
        values = tuple(of(self.name, value) for value in self.values)
        return dataclasses.replace(
            self, values=values, default=of(self.name, self.default) if values else self.default, when=when
        )

    def check_against(self, source: str, known, usual: object) -> None:
        """Raise `InputError` unless it can be searched in the place of the model's own definition."""
        if self.when and known is not None:
            raise InputError(f"{source}: when of {self.name}: its conditions are the model's own; leave it out")
        listed = isinstance(usual, (list, tuple))
        for value in self.values:
            if isinstance(value, tuple) and not listed:
                raise InputError(
                    f"{source}: {self.name} has the list {list(value)}, expected one value, such as {usual!r}"
                )
        if self.kind == RANGE:
            if known is None and not _is_number(usual):
                raise InputError(f"{source}: {self.name} is a range, expected a choice: it is no number, but {usual!r}")
            self._check_range(source, known, usual)

    def _check_range(self, source, known, usual) -> None:
        low, high = self.ends(known)
        for key, value in (("min", low), ("max", high)):
            if value is None:
                raise InputError(
                    f"{source}: {self.name} has no {key}, and the model's own space has none either; give it"
                )
        if not low < high:
            raise InputError(f"{source}: {self.name} is from {low:g} to {high:g}; expected min < max")
        sampling = self.sampling or getattr(known, "sampling", None) or "linear"
        if sampling != "linear" and low <= 0:
            raise InputError(
                f"{source}: min of {self.name} is {low:g}, expected a number > 0 where sampling is {sampling}"
            )
        whole = self.whole(known, usual)
        step = self._step(source, sampling)
        bounds: Any = (("min", self.low), ("max", self.high), ("step", step and step.size))
        for key, value in bounds if whole else ():
            if value is not None and value != int(value):
                raise InputError(f"{source}: {key} of {self.name} is {value:g}, expected a whole number")
        if step is None:
            return
        if step.multiplies and low <= 0:
            raise InputError(f"{source}: step of {self.name} multiplies, and min is {low:g}; expected min > 0")
        try:
            stepped_values(low, high, step, whole=whole, mirrored=sampling == "reverse_log")
        except ValueError as error:
            raise InputError(f"{source}: step of {self.name} is {error}") from None

    def _step(self, source: str, sampling: str) -> Step | None:
        if self.step is None:
            return None
        try:
            return Step.read(self.step, sampling)
        except ValueError as error:
            raise InputError(f"{source}: step of {self.name} is {error}") from None


def none_of(own, value: object) -> object:
    """Return a value as a name of a model's space has it: that may spell None "none", since KerasTuner knows no None."""
    value = with_spellings(value)
    return "none" if value is None and "none" in getattr(own, "values", ()) else value


def read_space(source: str | os.PathLike | Mapping[str, Any]) -> tuple[dict[str, Entry], bool]:
    """Read a file of overrides, or the same as a mapping; returns entries by name, and whether they replace the space.

    Raises `InputError` naming the file, the key, what was found and what was expected.

    >>> entries, replace = read_space({"alpha": 5000, "latent_dim": [1, 2], "learning_rate": {"max": 0.01}})
    >>> [entry.kind for entry in entries.values()], replace
    (['fix', 'choice', 'range'], False)
    """
    if isinstance(source, Mapping):
        return _entries("space", source)
    return _entries(str(source), load_space(source))


def load_space(path: str | os.PathLike) -> Mapping[str, Any]:
    """Return the content of a file of overrides, ready for JSON, so that a search does not change with the file.

    Raises `InputError` if it cannot be read, or is no YAML.
    """
    found = read_yaml_document(path, advice=ADVICE)
    if not isinstance(found, Mapping):
        raise InputError(f"{path}: {type(found).__name__}, expected names and what is searched of each")
    return found


def _entries(source: str, found: Mapping[str, Any]) -> tuple[dict[str, Entry], bool]:
    replace = found.get("replace", False)
    if not isinstance(replace, bool):
        raise InputError(f"{source}: replace is {shown(replace)}, expected true or false")
    entries = {}
    for name, value in found.items():
        if not isinstance(name, str):
            raise InputError(f"{source}: the key {shown(name)} is no name")
        if name != "replace":
            entries[name] = _entry(source, name, value)
    if replace and not entries:
        raise InputError(f"{source}: replace is true and nothing is listed; expected at least one name to search")
    return entries, replace


def _entry(source: str, name: str, value: object) -> Entry:
    if isinstance(value, Mapping):
        return _described(source, name, value)
    if isinstance(value, (list, tuple)):
        return _chosen(source, name, value, None, {})
    return Entry(name, FIX, (_scalar(source, name, "the value", value),))


def _described(source: str, name: str, value: Mapping[str, Any]) -> Entry:
    if unknown := [key for key in value if key not in KEYS]:
        raise InputError(f"{source}: {name} has {unknown[0]!r}, expected some of {', '.join(KEYS)}")
    when = _conditions(source, name, value.get("when", {}))
    if "fix" in value:
        _alone(source, name, value, "fix")
        fixed = value["fix"]
        fixed = (
            _listed(source, name, fixed) if isinstance(fixed, (list, tuple)) else _scalar(source, name, "fix", fixed)
        )
        return Entry(name, FIX, (fixed,))
    if "values" in value:
        _alone(source, name, value, "values", "default", "when", "type")
        return _chosen(source, name, value["values"], value.get("default"), when)
    numbers = {key: _number(source, name, key, value[key]) for key in ("min", "max", "default") if key in value}
    if not {"min", "max", "step", "sampling"} & set(value):
        raise InputError(f"{source}: {name} is {shown(value)}, expected min and max, values, or fix")
    step = value.get("step")
    if step is not None and not isinstance(step, str):
        step = _number(source, name, "step", step)
        if step <= 0:
            raise InputError(f"{source}: step of {name} is {step:g}, expected a number > 0")
    for key, allowed in (("sampling", SAMPLINGS), ("type", ("int", "float"))):
        if value.get(key, allowed[0]) not in allowed:
            raise InputError(f"{source}: {key} of {name} is {shown(value[key])}, expected one of {', '.join(allowed)}")
    low, high, default = (numbers.get(key) for key in ("min", "max", "default"))
    return Entry(name, RANGE, (), low, high, step, value.get("sampling"), value.get("type"), default, when)


def _alone(source: str, name: str, value: Mapping[str, Any], *together: str) -> None:
    if others := [key for key in value if key not in together]:
        raise InputError(f"{source}: {name} has {together[0]} and {others[0]}; expected one of them")


def _chosen(source: str, name: str, values: object, default: object, when) -> Entry:
    if not isinstance(values, (list, tuple)) or not values:
        raise InputError(f"{source}: values of {name} are {shown(values)}, expected a list of at least one")
    read = [
        _listed(source, name, v) if isinstance(v, (list, tuple)) else _scalar(source, name, "a value", v)
        for v in values
    ]
    kinds = {_kind(value) for value in read if value is not None}
    if len(kinds) > 1:
        raise InputError(f"{source}: values of {name} are {shown(values)}, expected all of one type")
    if len(set(read)) < len(read):
        raise InputError(f"{source}: values of {name} are {shown(values)}, expected each once")
    default = tuple(default) if isinstance(default, list) else with_spellings(default)
    if default is not None and default not in read:
        raise InputError(f"{source}: default of {name} is {shown(default)}, expected one of its values")
    if len(read) == 1:
        return Entry(name, FIX, (read[0],), when=when)
    return Entry(name, CHOICE, tuple(read), default=default, when=when)


def _kind(value: object) -> str:
    return "list" if isinstance(value, tuple) else "number" if _is_number(value) else type(value).__name__


def _listed(source: str, name: str, values) -> tuple[object, ...]:
    return tuple(_scalar(source, name, "a value in a list", value) for value in values)


def _conditions(source: str, name: str, when: object) -> dict[str, tuple[object, ...]]:
    if not isinstance(when, Mapping) or not all(isinstance(parent, str) for parent in when):
        raise InputError(f"{source}: when of {name} is {shown(when)}, expected names with the values they must have")
    lists = {parent: values if isinstance(values, (list, tuple)) else [values] for parent, values in when.items()}
    return {parent: tuple(_scalar(source, name, "when", v) for v in values) for parent, values in lists.items()}


def _scalar(source: str, name: str, key: str, value: object) -> object:
    value = with_spellings(value) if isinstance(value, str) else value
    if value is None or isinstance(value, (bool, str)) or _is_number(value):
        return value
    raise InputError(f"{source}: {key} of {name} is {shown(value)}, expected a finite number, a word, true or false")


def _number(source: str, name: str, key: str, value: Any) -> float:
    if _is_number(value):
        return value
    raise InputError(f"{source}: {key} of {name} is {shown(value)}, expected a finite number")


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -MAX_INTEGER <= value < MAX_INTEGER if isinstance(value, int) else math.isfinite(value)
