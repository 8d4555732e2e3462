"""Several events files as one, and mixtures of background and signal in a given proportion.

Nothing is copied: a mixture reads its files lazily, like any `Events`. Batches take the same share from each of its
files at any time, so that a little signal is spread evenly over a pass through the data.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.events.layout import AXES, CHUNK, DTYPES, TRUTH, Description
from pipelines.events.row_cache import pieces_of
from pipelines.events.writer import EventsWriter


class Joined(Events):
    """Events of several sources, one after the other; made by `join` and `mix`."""

    def __init__(
        self, parts: Sequence[Events], about: Description, fields: Sequence[str], labels: Sequence[int] | None
    ):
        self._stacks = {name: _Stack(parts, name, about.columns, labels) for name in fields}
        self._ends = tuple(int(end) for end in np.cumsum([0, *map(len, parts)]))
        self._files = tuple(dict.fromkeys(file for part in parts for file in part.files))
        self._title = " + ".join(dict.fromkeys(part.name for part in parts))
        super().__init__(None, None, self._ends[-1], about)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files behind all sources, each once."""
        return self._files

    @property
    def _bounds(self) -> tuple[int, ...]:
        return self._ends

    @contextlib.contextmanager
    def _source(self) -> Iterator[Mapping[str, Any]]:
        yield self._stacks


class _Stack:
    """One dataset of several events, end to end; sliced like an array, read when it is."""

    def __init__(self, parts: Sequence[Events], field: str, columns: Sequence[str], labels: Sequence[int] | None):
        self._parts, self._field, self._columns = parts, field, columns
        self._labels = labels if field == "label" else None
        self._ends = np.cumsum([len(part) for part in parts])
        width: tuple[int, ...] = (len(columns),) if field == "features" else ()
        if field in AXES and field != "features":
            width = parts[0].shape_of(field)
        self.shape = (int(self._ends[-1]), *width)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        pieces = [np.empty((0, *self.shape[1:]), DTYPES[self._field])]
        for number, (part, end) in enumerate(zip(self._parts, self._ends)):
            first, last = max(start - (end - len(part)), 0), min(stop - (end - len(part)), len(part))
            if first < last and self._labels is not None:
                pieces.append(np.full(last - first, self._labels[number], DTYPES["label"]))
            elif first < last:
                columns = self._columns if self._field == "features" else None
                pieces += [b[self._field] for b in part.blocks(self._field, columns=columns, rows=[(first, last)])]
        return np.concatenate(pieces)


def join(parts: Sequence[Events]) -> Events:
    """Return the events of several sources as one, in their order.

    The columns are those of the first one, found by name in the others. Truth is there if all of them have it and no
    number means two things; else it is left out, in the second case with a warning.

    Raises `InputError` if there are none, a column is missing, or objects, units or the mass differ.

    Example:
        >>> import pipelines
        >>> train = pipelines.open("lhco_sim_train")
        >>> joined = join([train.sample(100), train.sample(50, seed=1)])
        >>> len(joined), joined.seams
        (150, (0, 100, 150))
    """
    return _joined(parts, None, {})


def mix(
    background: Events | Sequence[Events],
    signals: Events | Sequence[Events],
    s_over_b: float | Sequence[float],
    *,
    seed: int = 0,
) -> Events:
    """Return background with signal in it, at a given ratio S/B of their numbers of events.

    As much background and signal is drawn at random as the ratios allow. Labels are 0 for the background and 1, 2,
    ... for the signals, for evaluation. Events that have labels give those of label 0 as background, those above 0
    as signal.

    Args:
        background: one or several, taken as one.
        signals: one or several, each with a label of its own.
        s_over_b: of each signal, > 0, or one number for all.
        seed: which events are drawn.

    Raises:
        InputError: a ratio <= 0 or too many of them; so few events that a part would be empty; and as `join`.

    Example:
        >>> import pipelines
        >>> test = pipelines.open("lhco_sim_test")
        >>> mixed = mix(test, test.select(label=1), s_over_b=0.01)
        >>> [int(n) for n in np.bincount(mixed.label)]
        [4000, 40]
    """
    signals = [signals] if isinstance(signals, Events) else list(signals)
    given: Any = s_over_b
    ratios: list[float] = [given] * len(signals) if np.ndim(given) == 0 else list(given)
    if not signals or len(ratios) != len(signals) or not all(np.isfinite(r) and r > 0 for r in ratios):
        raise InputError(f"S/B {s_over_b} for {len(signals)} signals, expected a number > 0, or one for each signal")
    backgrounds = [background] if isinstance(background, Events) else list(background)
    background = _joined([_of(part, truth=False) for part in backgrounds], [0] * len(backgrounds), {0: "background"})
    signals = [_of(signal, truth=True) for signal in signals]
    number = min([len(background), *(int(len(signal) / ratio) for signal, ratio in zip(signals, ratios))])
    counts = [number, *(round(ratio * number) for ratio in ratios)]
    parts = [background, *signals]
    for part, count in zip(parts, counts):
        if not count:
            raise InputError(f"{part.name}: S/B {s_over_b} leaves none of its {len(part)} events; give more background")
    drawn = [part if len(part) == n else part.sample(n, seed + i) for i, (part, n) in enumerate(zip(parts, counts))]
    names = {0: "background"} | {i: _title(signal, i) for i, signal in enumerate(signals, 1)}
    return _joined(drawn, list(range(len(parts))), names)


def write_spread(events: Events, path: str | os.PathLike[str], size: int = CHUNK) -> None:
    """Write events of several sources to one file so that every stretch of it has its share of each of them.

    In the order of `Events.write` one source comes after the other. A training that reads the file in blocks would meet
    a rare signal in few of them.
    """
    about = {f.name: getattr(events.about, f.name) for f in dataclasses.fields(Description)}
    with EventsWriter(path, **about) as writer:
        for unit in pieces_of(events, size):
            parts = list(events.blocks(*events.fields, rows=unit))
            writer.append(**{name: np.concatenate([part[name] for part in parts]) for name in events.fields})


def _of(events: Events, *, truth: bool) -> Events:
    if not events.has_labels:
        return events
    keep = (events.label > 0) == truth
    if not keep.any():
        raise InputError(f"{events.name}: no {'signal' if truth else 'background'} among its {len(events)} events")
    return events if keep.all() else events.take(keep)


def _title(signal: Events, number: int) -> str:
    names = [signal.about.label_names.get(int(k)) for k in np.unique(signal.label)] if signal.has_labels else []
    known = [name for name in names if name]
    return known[0] if len(known) == 1 else (signal.path.stem if signal.path else f"signal {number}")


def _joined(parts: Sequence[Events], labels: Sequence[int] | None, label_names: Mapping[int, str]) -> Events:
    if not parts:
        raise InputError("there are no events to join; give at least one file")
    parts, labels = _flat(parts, labels)
    first, others = parts[0], parts[1:]
    fields = [f for f in first.fields if f not in ("weight", *TRUTH) and all(f in part.fields for part in others)]
    fields += ["weight"] if any("weight" in part.fields for part in parts) else []
    truth = [f for f in TRUTH if all(f in part.fields for part in parts)] if labels is None else ["label"]
    for part in others:
        _check_alike(first, part, fields)
    process_names: Mapping[int, str] = {}
    if labels is None:
        names = {f: _united(parts, f) for f in truth}
        truth = [f for f in truth if names[f] is not None]
        label_names = (names["label"] or {}) if "label" in truth else {}
        process_names = (names["process"] or {}) if "process" in truth else {}
    about = {f: getattr(first.about, f) for f in ("columns", "units", "object_columns", "object_units", "mass_column")}
    for text in ("dataset", "source", "license", "citation"):
        about[text] = "; ".join(dict.fromkeys(filter(None, (getattr(part.about, text) for part in parts))))
    description = Description(**about, label_names=dict(label_names), process_names=process_names)
    return Joined(parts, description, [f for f in DTYPES if f in (*fields, *truth)], labels)


def _flat(parts: Sequence[Events], labels: Sequence[int] | None) -> tuple[list[Events], list[int] | None]:
    """Take apart what was joined before, so that every source keeps its share of a batch."""
    flat, flat_labels = [], []
    for number, part in enumerate(parts):
        pairs = [(a, b) for a, b in itertools.pairwise(part.seams) if a < b]
        pieces = [part] if len(part.seams) == 2 else [part.take(np.arange(a, b)) for a, b in pairs]
        flat += pieces
        flat_labels += [labels[number]] * len(pieces) if labels is not None else []
    return flat, None if labels is None else flat_labels


def _united(parts: Sequence[Events], field: str) -> dict[int, str] | None:
    """Return what labels or processes mean in all parts; None, and a warning, if one means two things."""
    united: dict[int, str] = {}
    for part in parts:
        for number, name in getattr(part.about, f"{field}_names").items():
            if united.setdefault(number, name) != name:
                warnings.warn(
                    f"{field} {number} is {united[number]!r} in one source and {name!r} in {part.name}: "
                    f"the joined events have no {field}",
                    stacklevel=2,
                )
                return None
    return united


def _check_alike(first: Events, other: Events, fields: Sequence[str]) -> None:
    for name in ("features", "objects"):
        if name in first.fields and name not in fields:
            raise InputError(f"{other.name}: no {name}, which {first.name} has; convert both in the same way")
    missing = [c for c in first.columns if c not in other.columns]
    if missing:
        raise InputError(f"{other.name}: no column {', '.join(map(repr, missing))}, which {first.name} has")
    if first.about.mass_column != other.about.mass_column:
        masses = other.about.mass_column or "not named", first.about.mass_column or "not named"
        raise InputError(f"{other.name}: the mass is {masses[0]}, in {first.name} it is {masses[1]}; convert one")
    for what in ("object_columns", "object_units"):
        if getattr(first.about, what) != getattr(other.about, what) and "objects" in fields:
            found = [", ".join(getattr(events.about, what)) for events in (other, first)]
            raise InputError(f"{other.name}: {what} {found[0]}, in {first.name} they are {found[1]}; convert one")
    for column, unit in zip(first.columns, first.about.units):
        known = dict(zip(other.columns, other.about.units)).get(column, "")
        if unit and known and unit != known:
            raise InputError(f"{other.name}: {column} is in {known}, in {first.name} it is in {unit}; convert one")
    for name in (f for f in fields if f in AXES and f != "features"):
        shapes = first.shape_of(name), other.shape_of(name)
        if shapes[0] != shapes[1]:
            raise InputError(f"{other.name}: {name} of shape {shapes[1]}, in {first.name} they are {shapes[0]}")
