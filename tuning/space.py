"""Search spaces: a model's own, with hyperparameters fixed, and narrowed, widened or replaced by a file.

A model's `search_space(hp)` draws *names* (`width`, `depth`) and returns *hyperparameters* (`units`). A `Space` puts
itself between the two: it answers the model's questions with what was fixed or written in a file, in the place where
the model asks. So what is conditional in the model's space stays conditional.

    space = Space("vae", fixed={"units": (64, 64)}, overrides="space.yaml")
    space.check()                       # 100 draws and all corners are possible hyperparameters, or InputError
    space.hyperparameters()             # the KerasTuner space, complete, for an oracle
    space.draw(trial.hyperparameters)   # what a trial's model is made of: preset, drawn and fixed together

A file of overrides is YAML; `read_space` says what may be in it.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import os
from collections.abc import Mapping
from typing import Any

from pipelines.arguments import argument, setting
from pipelines.errors import InputError
from tuning.kerastuner import keras_tuner
from tuning.ranges import SteppedRange, nearest
from tuning.space_points import (
    can_be,
    complete,
    conditional_name,
    definitions,
    ends,
    feeds,
    number_wanted,
    parents,
    plain_name,
    repeated,
    sample,
    settle,
)
from tuning.space_text import fixed_line, range_text, row_of, yaml_line
from tuning.spacefile import FIX, RANGE, Entry, load_space, none_of, read_space
from zoo import registry

DRAWS = 100  # that must all be possible before a search starts


@dataclasses.dataclass(frozen=True)
class Space:
    """The hyperparameters that are searched of a model.

    Args:
        model: registered name.
        fixed: names of the space, or hyperparameters, that are not searched. What makes a fixed hyperparameter and
            nothing else leaves the space: with `d_units` fixed nobody asks for `d_shape`.
        preset: named set of hyperparameters for those that are neither searched nor fixed.
        overrides: path of a YAML file, or what `read_space` gives of one, or the same as a mapping.

    Raises `InputError` for unknown names, naming the near ones, and for values that cannot be searched.

    >>> space = Space("gan_ae", fixed={"d_units": (300, 200, 100)}, overrides={"alpha": {"max": 100.0}})
    >>> space.searched["alpha"].max_value, "d_shape" in space.searched
    (100.0, False)
    """

    model: str
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    preset: str | None = None
    overrides: str | os.PathLike | Mapping[str, Any] | None = None
    # What follows from these:
    # the model's own definitions, by name
    _names: dict[str, Any] = dataclasses.field(init=False, repr=False, compare=False)
    # of names that it asks for under several conditions, each of their definitions
    _repeated: Mapping[str, Any] = dataclasses.field(init=False, repr=False, compare=False)
    # all hyperparameters of the model, with their defaults
    _valid: dict[str, Any] = dataclasses.field(init=False, repr=False, compare=False)
    # of the file, those that change a name of the model's space
    _entries: dict[str, Entry] = dataclasses.field(init=False, repr=False, compare=False)
    # of the file, those that the model's space does not have
    _extra: dict[str, Entry] = dataclasses.field(init=False, repr=False, compare=False)
    # fixed hyperparameters that the model is not asked for
    _given: dict[str, Any] = dataclasses.field(init=False, repr=False, compare=False)
    # fixed names of the model's space
    _held: dict[str, Any] = dataclasses.field(init=False, repr=False, compare=False)
    # names that make nothing any more
    _dropped: set[str] = dataclasses.field(init=False, repr=False, compare=False)
    # with `replace`, the hyperparameters that are still drawn
    _made: set[str] | None = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self):
        kind = registry.model_class(self.model)
        if self.preset is not None:
            registry.get(self.model, self.preset)  # raises where there is none
        entries, replace = read_space(self.overrides) if self.overrides is not None else ({}, False)
        names = definitions(kind.search_space)
        entries = {name: entry.spelled(names) for name, entry in entries.items()}
        object.__setattr__(self, "fixed", {name: none_of(names.get(name), v) for name, v in self.fixed.items()})
        self._keep(names=names, valid=registry.defaults(kind), entries=entries, repeated=repeated(kind.search_space))
        self._check_names()
        fixed = dict(self.fixed) | {name: e.values[0] for name, e in entries.items() if e.kind == FIX and not e.when}
        searched = {name: entry for name, entry in entries.items() if name not in fixed}
        given = {k: v for k, v in fixed.items() if k not in self._names or not isinstance(v, (bool, int, float, str))}
        extra = {name: e for name, e in searched.items() if name not in self._names or e.coded}
        self._keep(given=given, extra=extra, entries={k: v for k, v in searched.items() if k not in extra})
        self._keep(held={name: value for name, value in fixed.items() if name not in given})
        made_by = feeds(kind.search_space) if replace or given or extra else {}
        dropped = self._superfluous(made_by)
        if replace:
            dropped |= set(self._names) - {*self._held, *self._entries}
        makers = set(self._names) - dropped
        self._keep(dropped=dropped, made={out for name in makers for out in made_by.get(name, ())} if replace else None)

    def _keep(self, **values) -> None:
        for name, value in values.items():
            object.__setattr__(self, f"_{name}", value)

    @property
    def source(self) -> str:
        """Where the overrides are from: a file, or the word "space"."""
        return str(self.overrides) if isinstance(self.overrides, (str, os.PathLike)) else "space"

    def _check_names(self) -> None:
        known = list(dict.fromkeys([*self._names, *self._valid]))
        for where, given in ((argument("fixed"), self.fixed), (self.source, self._entries)):
            for name in given:
                if name not in known:
                    near = ", ".join(difflib.get_close_matches(name, known, 3)) or ", ".join(known)
                    raise InputError(
                        f"{where}: {name!r} is no hyperparameter of {self.model}, nor a name of its space; near: {near}"
                    )
        if twice := sorted(set(self.fixed) & set(self._entries)):
            raise InputError(
                f"{self.source}: {twice[0]} is there, and in {argument('fixed')} too; choose one of the two"
            )
        limits = registry.model_class(self.model).limits
        for name, value in self.fixed.items():
            self._check_fixed(name, value, limits.get(name))
        for place, (name, entry) in enumerate(self._entries.items()):
            own = self._names.get(name)
            for key, value in entry.extremes():
                is_whole = entry.kind == RANGE and isinstance(value, float) and value.is_integer()
                self._check_word(
                    f"{self.source}: {key} of {name} is {value!r}", name, int(value) if is_whole else value
                )
            if name not in self._valid and entry.type == "float" and (wanted := number_wanted(own, 0.5)):
                raise InputError(f"{self.source}: type of {name} is float, expected {wanted}")
            _check_limits(self.source, entry, limits.get(name), getattr(own, "values", ()))
            if None in entry.values and name not in limits and self._valid.get(name) is not None:
                raise InputError(
                    f"{self.source}: a value of {name} is None, expected one such as {self._valid[name]!r}"
                )
            before = {*self._names, *list(self._entries)[:place]}
            if unknown := [parent for parent in entry.when if parent not in before]:
                raise InputError(
                    f"{self.source}: when of {name} has {unknown[0]!r}, which is no name of the space of {self.model}, "
                    f"nor listed above {name}"
                )
            for each in self._repeated.get(name, (own,)):
                entry.check_against(self.source, each, self._valid.get(name))

    def _check_fixed(self, name: str, value: object, limit) -> None:
        own = getattr(self._names.get(name), "values", ())
        self._check_word(f"{argument('fixed')}: {name}={value!r} is not possible", name, value)
        try:
            if limit is not None and value not in own:
                limit.check(name, value)
        except InputError as error:
            raise InputError(f"{argument('fixed')}: {error}") from None

    def _check_word(self, found: str, name: str, value: object) -> None:
        """Raise `InputError` for a word or number which the space, not the model, gives a meaning to, if it has none."""
        own = getattr(self._names.get(name), "values", ())
        if name not in self._valid and own and all(isinstance(one, str) for one in own) and value not in own:
            raise InputError(f"{found}; expected one of {', '.join(own)}")
        if name not in self._valid and (wanted := number_wanted(self._names[name], value)):
            raise InputError(f"{found}; expected {wanted}")

    def _superfluous(self, made_by: Mapping[str, set[str]]) -> set[str]:
        """Return the names that make nothing but hyperparameters which are given otherwise."""
        made = {*self._given, *self._extra}
        idle = {name for name in self._names if made_by.get(name) and made_by[name] <= made} | made & set(self._names)
        for name in {*self._held, *self._entries} & idle:
            both = ", ".join(sorted(made_by[name] & made))
            raise InputError(f"{name} makes nothing but {both}, which is given too; choose one of the two")
        return idle

    def of_features(self, features: int) -> Space:
        """Return the space for so many features, and for what is fixed, where neither file nor `fixed` say otherwise.

        >>> Space("ae").of_features(12).searched["layers"].max_value
        2
        """
        searched, drawn = self.searched, self.draw(self.hyperparameters())
        plain = {plain_name(name) for name in searched}
        fixed = {name: value for name, value in {**self._valid, **drawn}.items() if name not in plain}
        narrowed = registry.model_class(self.model).search_space_of(features, fixed)
        given = (
            self.overrides
            if isinstance(self.overrides, Mapping) or self.overrides is None
            else load_space(self.overrides)
        )
        added = {name: value for name, value in narrowed.items() if name in plain and name not in (given or {})}
        return dataclasses.replace(self, overrides={**(given or {}), **added}) if added else self

    def standing(self, name: str) -> Any:
        """Return what a name is that is not searched any more: as the preset has it, or else the default of the space."""
        kind = registry.model_class(self.model)
        return kind.presets.get(self.preset, {}).get(name, self._names[name].default)

    # -- use -----------------------------------------------------------------------------------------

    def draw(self, hp) -> dict[str, Any]:
        """Return a model's hyperparameters for the values in a KerasTuner object: preset, drawn and fixed together."""
        guided = _Guided(hp, self)
        kind = registry.model_class(self.model)
        drawn = dict(kind.search_space(guided))
        if self._made is not None:
            drawn = {name: value for name, value in drawn.items() if name in self._made}
        for name, entry in self._extra.items():
            with entry.scopes(guided, self._extra):
                value = guided.extra(entry)
            if value is not None:  # it is drawn with these values of others
                drawn[name] = entry.value_of(value)
        # a name that the model was not asked for here, such as the child of another parent, is a hyperparameter still
        held = {name: v for name, v in self._held.items() if name in self._valid and name not in guided.answered}
        return {**kind.presets.get(self.preset, {}), **drawn, **held, **self._given}

    def hyperparameters(self) -> keras_tuner.HyperParameters:
        """Return the whole space, conditional hyperparameters included, as KerasTuner's oracles take it."""
        return complete(self.draw)

    @property
    def searched(self) -> dict[str, Any]:
        """What is searched, by name: KerasTuner's Choice, Int, Float and Boolean, without what is fixed.

        A name that the model asks for under several conditions is there for each: "learning_rate[adam]".
        """
        space = {one.name: one for one in self.hyperparameters().space}
        return {
            name: one for name, one in space.items() if not isinstance(one, keras_tuner.engine.hyperparameters.Fixed)
        }

    def shapes(self) -> set[str]:
        """Return the names that change a shape: what depends on them is no runtime hyperparameter of the model.

        >>> [name in Space("vae").shapes() for name in ("width", "alpha")]
        [True, False]
        """
        runtime = set(registry.model_class(self.model).runtime_hyperparameters)
        made_by = feeds(registry.model_class(self.model).search_space)
        names = [one.name for one in self.hyperparameters().space]
        return {name for name in names if not made_by.get(plain_name(name), {plain_name(name)}) <= runtime}

    def check(self, draws: int = DRAWS, events: int | None = None) -> None:
        """Raise `InputError` unless all corners of the space and so many random draws are possible hyperparameters.

        A corner has one name at an end of its range, or at one of its choices, and the others at their defaults.

        Args:
            events: how many there are to train on; a batch cannot have more.
        """
        space = self.hyperparameters()
        corners = [parents(space, one) | {one.name: value} for one in space.space for value in ends(one)]
        point = space.copy()
        for corner in [{}, *corners]:
            self._check_draw(settle(point, corner), events)
        for seed in range(draws):
            self._check_draw(settle(point, sample(space, seed).values), events)

    def _check_draw(self, hp, events: int | None) -> None:
        kind = registry.model_class(self.model)
        given = self.draw(hp)
        at = ", ".join(f"{k}={v}" for k, v in hp.values.items())
        try:
            kind.check({**self._valid, **given})
        except InputError as error:
            where = f"{self.source}: " if self.overrides is not None else ""
            raise InputError(
                f"{where}the space of {self.model} has an impossible point: {error}; drawn at {at}: fix or narrow these"
            ) from None
        size = given.get("batch_size", self._valid["batch_size"])
        if events is not None and size > events:
            raise InputError(
                f"batch_size={size} is searched, and {events} events train; give more events, or fewer to a batch by "
                f"{setting('batch_size', min(events, 256))} or {argument('space')}"
            )

    # -- documentation -------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """Return the space as a table, ready for JSON: a row for each name, in the order in which they are drawn.

        Every row has `name`, `kind` ("choice", "int", "float", "fixed") and `makes`, the hyperparameters that depend
        on it; further `values` or `min`, `max`, `step` and `sampling`, of a range with a step all of these and whether it
        `multiplies`; `default`; and `when`, the values that other names must have for this one to be drawn at all.
        """
        made_by = feeds(registry.model_class(self.model).search_space)
        rows = []
        for one in self.hyperparameters().space:
            name = plain_name(one.name)
            row = row_of(one, sorted(made_by.get(name, [name]))) | {"name": name}
            rows.append(row)
            if row["name"] in self._extra and "values" in row:
                value_of = self._extra[row["name"]].value_of
                row["values"], row["default"] = list(map(value_of, row["values"])), value_of(row["default"])
            if (stepped := self._stepped(name)) is not None:
                row |= stepped.row()
        return rows

    def _stepped(self, name: str) -> SteppedRange | None:
        """Return the range with a step that a name has, or None."""
        entry: Entry | None = {**self._entries, **self._extra}.get(name)
        known: Any = self._names.get(name)
        if entry is not None and entry.kind == RANGE:
            return SteppedRange.of(*entry.definition(known, self._valid.get(name)))
        if entry is not None or name in self._held or not hasattr(known, "min_value"):
            return None
        return SteppedRange.of(type(known).__name__, known.get_config())

    def table(self) -> str:
        """Return the space as text: name, what is searched, what it makes, when it is drawn."""
        lines = [("name", "searched", "makes", "when")]
        for row in self.rows():
            when = ", ".join(f"{name} is {' or '.join(map(str, values))}" for name, values in row["when"].items())
            lines.append((row["name"], range_text(row), ", ".join(row["makes"]), when))
        widths = [max(len(line[i]) for line in lines) for i in range(4)]
        return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in lines)

    def template(self) -> str:
        """Return the space as YAML that `overrides` takes and that changes nothing: a file to begin with."""
        lines = [f"# The search space of {self.model}: change, remove or add lines; what is not here stays as it is.",
                 "# With `replace: true` only what is here is searched, and all else is what the preset says."]  # fmt: skip
        lines += ["replace: true"] if self._made is not None else []
        rows = self.rows()
        for row in rows:
            when = "; ".join(f"when {name} in {values}" for name, values in row["when"].items())
            extra = row["name"] not in self._names
            sampling = getattr(self._names.get(row["name"]), "sampling", "linear")
            others = [yaml_line(one, extra, sampling) for one in rows if one["name"] == row["name"] and one is not row]
            line = f"{row['name']}: {yaml_line(row, extra, sampling)}"
            if others and set(others) != {yaml_line(row, extra, sampling)}:  # a line in a file is for all conditions
                line = f"# {line}"
            if f"{line}\n" not in "".join(f"{one.partition('  #')[0]}\n" for one in lines):
                lines.append(line + (f"  # {when}" if when and not extra else ""))
        lines += [f"{name}: {fixed_line(value)}" for name, value in self._given.items() if name not in self.fixed]
        return "\n".join(lines) + "\n"


class _Guided:
    """A KerasTuner object that answers as a `Space` wants it; the rest it leaves to the one behind it."""

    def __init__(self, hp, space: Space):
        self._hp, self._space = hp, space
        self.answered: set[str] = set()

    def __getattr__(self, name):
        return getattr(self._hp, name)

    def Choice(self, *args, **kwargs):
        return self._asked("Choice", *args, **kwargs)

    def Int(self, *args, **kwargs):
        return self._asked("Int", *args, **kwargs)

    def Float(self, *args, **kwargs):
        return self._asked("Float", *args, **kwargs)

    def Boolean(self, *args, **kwargs):
        return self._asked("Boolean", *args, **kwargs)

    def conditional_scope(self, parent_name, parent_values):
        if parent_name in self._space._dropped and not self._hp._exists(parent_name):
            self._hp.Fixed(parent_name, self._space.standing(parent_name))  # others are conditional on it
        return self._hp.conditional_scope(parent_name, parent_values)

    def _asked(self, kind: str, *args, **kwargs):
        bound = inspect.signature(getattr(keras_tuner.HyperParameters, kind)).bind(None, *args, **kwargs).arguments
        options = {name: value for name, value in bound.items() if name not in ("self", "name")}
        return self.one(bound["name"], kind, options)

    def one(self, name: str, kind: str, options: Mapping[str, Any]):
        """Answer one question of the model, of `kind` with its `options`."""
        space, hp = self._space, self._hp
        if name in space._dropped:
            return space.standing(name) if hp._conditions_are_active(hp._conditions) else None
        known, called = space._names.get(name), name
        if name in space._repeated:
            conditions = hp._conditions
            if not can_be(conditions, hp):
                return None
            known = next(one for one in space._repeated[name] if _alike(one.conditions, conditions))
            called = conditional_name(name, conditions)
        if name in space._held:
            value = hp.Fixed(called, space._held[name])
            self.answered |= set() if value is None else {name}
            return value
        if name in space._entries:
            return self._register(called, *space._entries[name].definition(known, space._valid.get(name)))
        return self._register(called, kind, options)

    def extra(self, entry: Entry):
        """Draw what the model's own space does not have."""
        return self._register(entry.name, *entry.definition(None, self._space._valid[entry.name]))

    def _register(self, name: str, kind: str, options: Mapping[str, Any]):
        """Ask KerasTuner; for a range with a step ask for a choice among its values, since KerasTuner omits ends (its issue 1001)."""
        try:
            if (stepped := SteppedRange.of(kind, options)) is not None:
                shared = {key: options[key] for key in ("parent_name", "parent_values") if key in options}
                default = nearest(stepped.values, options.get("default"))
                return self._hp.Choice(name, stepped.values, default=default, **shared)
            return getattr(self._hp, kind)(name, **options)
        except (ValueError, TypeError, OverflowError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{self._space.source}: {name} cannot be searched ({' '.join(str(error).split())})"
            ) from None


def _alike(one, other) -> bool:
    """Return whether two lists of conditions are of the same parents and values."""
    return [(each.name, tuple(each.values)) for each in one] == [(each.name, tuple(each.values)) for each in other]


def _check_limits(source: str, entry: Entry, limit, own) -> None:
    """Raise `InputError` for a value that is neither one of the model's `own` choices, nor within its limits."""
    for key, value in entry.extremes() if limit is not None else ():
        try:
            if value not in own:
                is_whole = limit.whole and isinstance(value, float) and value.is_integer()
                limit.check(entry.name, int(value) if is_whole else value)
        except InputError:
            raise InputError(f"{source}: {key} of {entry.name} is {value!r}, expected {limit}") from None
