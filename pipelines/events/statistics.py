"""What has to be known of events before they are trained on, gathered in one pass over them.

A `Statistic` looks at blocks of events, one after the other, and has a result: a checksum, the fit of a scaling, the
masses. `gather` reads the events once for all that are asked for. `Events.remembering()` returns events that keep the
results, so that later calls read nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from pipelines.events.derived import Reading
from pipelines.events.events import BLOCK, Events

Block = Mapping[str, np.ndarray]


class Statistic(Protocol):
    """What `gather` gives the blocks of a pass to."""

    @property
    def key(self) -> Hashable:
        """By which its result is known; two statistics of one key have the same result."""

    @property
    def fields(self) -> Sequence[str]:
        """The datasets that it looks at, such as ("features", "mass")."""

    @property
    def columns(self) -> Sequence[str] | None:
        """The features that it looks at, in this order; None for all that are stored."""

    def add(self, block: Block) -> None:
        """Look at the next block of events."""

    def result(self) -> Any:
        """Return what all blocks together gave."""


def gather(events: Events, *wanted: Statistic) -> list[Any]:
    """Return the results of statistics, after one pass over the events for all whose results are not remembered yet.

    Raises `InputError` for a missing column, for NaN or infinite values, and for what a statistic refuses.

    >>> events = Events.from_arrays(np.zeros((2, 1)), [3000.0, 3100.0], ["x"]).remembering()
    >>> gather(events, MassesOf(events))[0].mass.tolist()
    [3000.0, 3100.0]
    """
    known = {} if events.remembered is None else events.remembered
    missing = {one.key: one for one in wanted if one.key not in known}
    if missing:
        _pass_over(events, list(missing.values()))
        known.update({key: one.result() for key, one in missing.items()})
    return [known[one.key] for one in wanted]


def _pass_over(events: Events, statistics: Sequence[Statistic]) -> None:
    fields = dict.fromkeys(field for one in statistics for field in one.fields)
    asked = dict.fromkeys(
        None if one.columns is None else tuple(one.columns) for one in statistics if "features" in one.fields
    )
    stored = events.columns
    if None not in asked:
        stored = tuple(dict.fromkeys(name for columns in asked if columns for name in events.reading(columns).names))
    readings = {columns: Reading(columns, stored) for columns in asked if columns not in (None, stored)}
    for block in events.blocks(*fields, columns=None if None in asked or not asked else stored):
        for one in statistics:
            reading = None if one.columns is None else readings.get(tuple(one.columns))
            if reading is None or "features" not in one.fields:
                one.add(block)
            else:
                one.add({**block, "features": reading(block["features"][:, reading.take])})


class Masses:
    """The masses (N,) of events in GeV, and their own weights (N,), None where all weights are 1."""

    def __init__(self, mass: np.ndarray, weight: np.ndarray | None):
        self.mass, self.weight = mass, weight

    def __len__(self) -> int:
        return len(self.mass)

    def of_rows(self, rows: np.ndarray) -> Masses:
        """Return those of some of the events."""
        return Masses(self.mass[rows], None if self.weight is None else self.weight[rows])

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield masses, and weights in float64, in blocks: a float32 sum of millions loses single events."""
        for start in range(0, len(self), BLOCK):
            mass = self.mass[start : start + BLOCK]
            own = None if self.weight is None else self.weight[start : start + BLOCK]
            yield mass, np.ones(len(mass)) if own is None else own.astype(np.float64)


class MassesOf:
    """The statistic whose result is `Masses`: 4 bytes an event, 8 with weights."""

    key = "masses"
    columns = None

    def __init__(self, events: Events):
        self.fields = ("mass", "weight") if events.has("weight") else ("mass",)
        self._parts: dict[str, list[np.ndarray]] = {name: [np.empty(0, np.float32)] for name in self.fields}

    def add(self, block: Block) -> None:
        """Keep the masses and weights of a block."""
        for name, parts in self._parts.items():
            parts.append(block[name])

    def result(self) -> Masses:
        """Return masses and weights of all events."""
        whole = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        return Masses(whole["mass"], whole.get("weight"))


def masses_of(events: Events) -> Masses:
    """Return masses and weights of events, without reading them where they are remembered.

    >>> events = Events.from_arrays(np.zeros((2, 1)), [3000.0, 3100.0], ["x"], weight=[1.0, 2.0])
    >>> masses_of(events).weight.tolist()
    [1.0, 2.0]
    """
    found: Masses = gather(events, MassesOf(events))[0]
    return found
