"""Files that change a search space: YAML, read strictly.

learning_rate: {min: 1e-4, max: 1e-2, sampling: log}   a range; what is left out stays as the model has it
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
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipelines.errors import InputError

SAMPLINGS = ("linear", "log", "reverse_log")
KEYS = ("min", "max", "step", "sampling", "type", "default", "values", "fix", "when")
RANGE, CHOICE, FIX = "range", "choice", "fix"


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a file says about one name: `kind` "range", "choice" or "fix", and what belongs to it."""

    name: str
    kind: str
    values: tuple[object, ...] = ()
    low: float | None = None
    high: float | None = None
    step: float | None = None
    sampling: str | None = None
    type: str | None = None
    default: object = None
    when: Mapping[str, tuple[object, ...]] = dataclasses.field(default_factory=dict)

    @property
    def layouts(self) -> bool:
        """Whether it chooses among lists, which KerasTuner knows by their text only."""
        return self.kind == CHOICE and any(isinstance(value, tuple) for value in self.values)

    def value_of(self, drawn: object) -> object:
        """Return what a drawn value stands for: of the text of a list, the list."""
        return tuple(json.loads(drawn)) if self.layouts and isinstance(drawn, str) else drawn

    @contextlib.contextmanager
    def scopes(self, hp) -> Iterator[None]:
        """Open the conditional scopes of `when`."""
        with contextlib.ExitStack() as stack:
            for parent, values in self.when.items():
                stack.enter_context(hp.conditional_scope(parent, list(values)))
            yield

    def extremes(self) -> list[tuple[str, object]]:
        """Return (what it is called, value) of all that must be within the limits of the model."""
        if self.kind == RANGE:
            ends = {"min": self.low, "max": self.high, "default": self.default}
            return [(key, value) for key, value in ends.items() if value is not None]
        return [("a value", value) for value in self.values]

    def definition(self, known, usual: object) -> tuple[str, dict[str, object]]:
        """Return the KerasTuner method and its arguments; `known` is the model's own, `usual` the model's default."""
        if self.kind == FIX:
            return "Fixed", {"value": self.values[0]}
        if self.kind == CHOICE:
            return self._choice(known, usual)
        return self._range(known, usual)

    def _choice(self, known, usual) -> tuple[str, dict[str, object]]:
        values = [json.dumps(value) if isinstance(value, tuple) else value for value in self.values]
        default = json.dumps(self.default) if isinstance(self.default, tuple) else self.default
        if all(isinstance(value, bool) for value in values):
            return "Boolean", {"default": values[0] if default is None else default}
        if {type(value) for value in values} == {int, float}:  # KerasTuner wants one type
            values, default = [float(value) for value in values], None if default is None else float(default)
        if default is None:
            mine = [
                v for v in (getattr(known, "default", None), usual) if not isinstance(v, (list, tuple)) and v in values
            ]
            default = mine[0] if mine else values[0]
        return "Choice", {"values": values, "default": type(values[0])(default)}

    def _range(self, known, usual) -> tuple[str, dict[str, object]]:
        whole = self.whole(known, usual)
        low, high = self.ends(known)
        number = int if whole else float
        sampling = self.sampling or getattr(known, "sampling", None) or "linear"
        step = self.step
        if step is None and self.sampling in (None, getattr(known, "sampling", None)):
            step = getattr(known, "step", None)
        default = next((v for v in (self.default, getattr(known, "default", None), usual) if _is_number(v)), low)
        default = number(min(max(default, low), high))
        found = {"min_value": number(low), "max_value": number(high), "sampling": sampling, "default": default}
        return ("Int" if whole else "Float"), found | ({} if step is None else {"step": number(step)})

    def whole(self, known, usual) -> bool:
        """Whether it is of whole numbers: as it says, or as the model has it."""
        if self.type:
            return self.type == "int"
        own = type(known).__name__ if known is not None else ""
        if own in ("Int", "Float"):
            return own == "Int"
        example = known.values[0] if own == "Choice" else usual
        return isinstance(example, int) and not isinstance(example, bool)

    def ends(self, known) -> tuple[float | None, float | None]:
        """Return both ends; one that is not given is the model's own."""
        own = [one for one in getattr(known, "values", ()) if _is_number(one)] if known is not None else []
        low = getattr(known, "min_value", min(own, default=None)) if self.low is None else self.low
        high = getattr(known, "max_value", max(own, default=None)) if self.high is None else self.high
        return low, high

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
        if self.whole(known, usual):
            for key, value in (("min", self.low), ("max", self.high), ("step", self.step)):
                if value is not None and value != int(value):
                    raise InputError(f"{source}: {key} of {self.name} is {value:g}, expected a whole number")


def read_space(source: str | os.PathLike | Mapping[str, object]) -> tuple[dict[str, Entry], bool]:
    """Read a file of overrides, or the same as a mapping; returns entries by name, and whether they replace the space.

    Raises `InputError` naming the file, the key, what was found and what was expected.

    >>> entries, replace = read_space({"alpha": 5000, "latent_dim": [1, 2], "learning_rate": {"max": 0.01}})
    >>> [entry.kind for entry in entries.values()], replace
    (['fix', 'choice', 'range'], False)
    """
    if isinstance(source, Mapping):
        return _entries("space", source)
    return _entries(str(source), load_space(source))


def load_space(path: str | os.PathLike) -> Mapping[str, object]:
    """Return what is written in a file of overrides, ready for JSON: what is searched must not change with the file.

    Raises `InputError` if it cannot be read, or is no YAML.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise InputError(f"{path}: {reason}; expected a YAML file, such as `tune space MODEL --yaml` prints") from None
    return _load(path, text)


def _load(path: Path, text: str) -> Mapping[str, object]:
    import yaml

    try:
        found = yaml.load(text, _loader())
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        what = getattr(error, "problem", None) or "cannot be read"
        raise InputError(
            f"{path}:{line} no YAML ({what}); expected lines such as `alpha: {{min: 1, max: 9}}`"
        ) from None
    if not isinstance(found, Mapping):
        raise InputError(f"{path}: {type(found).__name__}, expected names and what is searched of each")
    return found


def _loader():
    """PyYAML's safe loader, which takes 1e-4 for the number that it is in YAML 1.2, and no key twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            seen = set()
            for key, _ in node.value:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    number = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    return Loader


def _entries(source: str, found: Mapping[str, object]) -> tuple[dict[str, Entry], bool]:
    replace = found.get("replace", False)
    if not isinstance(replace, bool):
        raise InputError(f"{source}: replace is {replace!r}, expected true or false")
    entries = {}
    for name, value in found.items():
        if not isinstance(name, str):
            raise InputError(f"{source}: the key {name!r} is no name")
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
    return Entry(name, FIX, (_scalar(source, name, name, value),))


def _described(source: str, name: str, value: Mapping[str, object]) -> Entry:
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
    numbers = {key: _number(source, name, key, value[key]) for key in ("min", "max", "step", "default") if key in value}
    if not {"min", "max", "step", "sampling"} & set(value):
        raise InputError(f"{source}: {name} is {dict(value)}, expected min and max, values, or fix")
    if numbers.get("step", 1) <= 0:
        raise InputError(f"{source}: step of {name} is {numbers['step']:g}, expected a number > 0")
    for key, allowed in (("sampling", SAMPLINGS), ("type", ("int", "float"))):
        if value.get(key, allowed[0]) not in allowed:
            raise InputError(f"{source}: {key} of {name} is {value[key]!r}, expected one of {', '.join(allowed)}")
    low, high, step, default = (numbers.get(key) for key in ("min", "max", "step", "default"))
    return Entry(name, RANGE, (), low, high, step, value.get("sampling"), value.get("type"), default, when)


def _alone(source: str, name: str, value: Mapping[str, object], *together: str) -> None:
    if others := [key for key in value if key not in together]:
        raise InputError(f"{source}: {name} has {together[0]} and {others[0]}; expected one of them")


def _chosen(source: str, name: str, values: object, default: object, when) -> Entry:
    if not isinstance(values, (list, tuple)) or not values:
        raise InputError(f"{source}: values of {name} are {values!r}, expected a list of at least one")
    read = [
        _listed(source, name, v) if isinstance(v, (list, tuple)) else _scalar(source, name, "a value", v)
        for v in values
    ]
    kinds = {"list" if isinstance(v, tuple) else "number" if _is_number(v) else type(v).__name__ for v in read}
    if len(kinds) > 1:
        raise InputError(f"{source}: values of {name} are {values!r}, expected all of one type")
    if len(set(read)) < len(read):
        raise InputError(f"{source}: values of {name} are {values!r}, expected each once")
    default = tuple(default) if isinstance(default, list) else default
    if default is not None and default not in read:
        raise InputError(f"{source}: default of {name} is {default!r}, expected one of its values")
    if len(read) == 1:
        return Entry(name, FIX, (read[0],), when=when)
    return Entry(name, CHOICE, tuple(read), default=default, when=when)


def _listed(source: str, name: str, values) -> tuple[object, ...]:
    return tuple(_scalar(source, name, "a value in a list", value) for value in values)


def _conditions(source: str, name: str, when: object) -> dict[str, tuple[object, ...]]:
    if not isinstance(when, Mapping) or not all(isinstance(parent, str) for parent in when):
        raise InputError(f"{source}: when of {name} is {when!r}, expected names with the values they must have")
    lists = {parent: values if isinstance(values, (list, tuple)) else [values] for parent, values in when.items()}
    return {parent: tuple(_scalar(source, name, "when", v) for v in values) for parent, values in lists.items()}


def _scalar(source: str, name: str, key: str, value: object):
    if isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise InputError(f"{source}: {key} of {name} is {value!r}, expected a finite number, a word, true or false")


def _number(source: str, name: str, key: str, value: object) -> float:
    if _is_number(value):
        return value
    raise InputError(f"{source}: {key} of {name} is {value!r}, expected a finite number")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
