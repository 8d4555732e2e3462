"""What a model takes of an event: numbers with names ("features"), particles ("objects"), or both."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.events.layout import match_columns
from zoo.tables import column_names, read_columns

# The hyperparameters that say what a model takes; meeting the data makes names of patterns, and numbers of "as it is".
TAKES = {"features": ("columns",), "objects": ("columns", "object_columns", "slots"), "spectrum": ()}


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The arrays that `AnomalyModel.infer` takes: `objects` (N, P, C) if there are object columns, `features` (N, F) if
    there are columns, in that order and in physical units. A slot of objects whose numbers are all 0 is empty. A model whose
    score takes the mass (`AnomalyModel.scores_by_mass`) has `mass` (N,) in GeV as the last.

    >>> Inputs(("MET", "HT"), ("E", "pt", "eta", "phi"), slots=39).shapes
    {'objects': (39, 4), 'features': (2,)}
    """

    columns: tuple[str, ...] = ()
    object_columns: tuple[str, ...] = ()
    slots: int = 0
    mass: bool = False

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of one event's part of every array."""
        objects = {"objects": (self.slots, len(self.object_columns))} if self.object_columns else {}
        features = {"features": (len(self.columns),)} if self.columns else {}
        return objects | features | ({"mass": ()} if self.mass else {})

    @property
    def specs(self) -> list[tf.TensorSpec]:
        """What a compiled function of any number of events is to be told."""
        return [tf.TensorSpec((None, *shape), tf.float32, name=name) for name, shape in self.shapes.items()]

    def zeros(self, size: int) -> list[tf.Tensor]:
        """Return the arrays of so many events in which all is 0."""
        return [tf.zeros((size, *shape)) for shape in self.shapes.values()]

    def blocks(self, events: Events | np.ndarray | Mapping[str, np.ndarray]) -> Iterator[list[np.ndarray]]:
        """Yield the arrays block by block: of `Events`, a batch, a frame, or a single array.

        Columns of a frame go by their names, those of an array by their order.

        Raises `InputError` for a missing array or column, a wrong shape, values that are not finite, or no events.
        """
        events = events if isinstance(events, Events) else self._wrapped(events)
        if not len(events):
            raise InputError(f"{events.name}: no events to score")
        order = self._order(events)
        for block in events.blocks(*self.shapes, columns=self.columns):
            if order is not None:
                block["objects"] = block["objects"][..., order]
            yield [block[name] for name in self.shapes]

    def check_layout(self, events: Events) -> None:
        """Raise `InputError` unless events have the same objects in the same order: training reads them as stored."""
        if self.object_columns and self._order(events) is not None:
            found = ", ".join(events.about.object_columns)
            raise InputError(
                f"{events.name}: objects are {found}; expected {', '.join(self.object_columns)}, in this order"
            )

    def _order(self, events: Events) -> list[int] | None:
        """Where the object columns are among those of events, or None if they are the same; raises `InputError`."""
        if not self.object_columns:
            return None
        slots, columns = objects_of(events)
        if slots != self.slots or set(columns) != set(self.object_columns):
            raise InputError(
                f"{events.name}: objects have {slots} slots of {', '.join(columns)}; "
                f"expected {self.slots} of {', '.join(self.object_columns)}"
            )
        return None if columns == self.object_columns else [columns.index(name) for name in self.object_columns]

    def _wrapped(self, arrays: np.ndarray | Mapping[str, np.ndarray]) -> Events:
        if (names := column_names(arrays)) is not None:
            arrays = self._of_frame(arrays, names)
        if not isinstance(arrays, Mapping):
            if self.mass:
                raise InputError(
                    "the score of this model takes the mass of an event, and an array of features has none; expected Events, "
                    "or a dict of features (N, F) and mass (N,) in GeV"
                )
            arrays = {next(iter(self.shapes)): arrays}
        if missing := [name for name in self.shapes if name not in arrays]:
            raise InputError(
                f"no array {missing[0]!r} to score; expected a batch, a dict of {' and '.join(self.shapes)}"
            )
        if masked := [name for name in self.shapes if np.ma.is_masked(arrays[name])]:
            raise InputError(f"{masked[0]} are masked in part; leave those events out, since nobody knows their values")
        try:
            given = {name: np.asarray(arrays[name], np.float32) for name in self.shapes}
        except (TypeError, ValueError):
            what = " and ".join(self.shapes)
            raise InputError(
                f"{what} to score are no regular arrays of numbers; of a file give pipelines.open(file)"
            ) from None
        size = len(next(iter(given.values()))) if all(array.ndim for array in given.values()) else 0
        for name, shape in self.shapes.items():
            if given[name].shape != (size, *shape):
                expected = f"(N, {', '.join(map(str, shape))})" if shape else "(N,)"
                raise InputError(f"{name} have shape {given[name].shape}, expected {expected}")
        features, mass = given.get("features"), given.get("mass", np.zeros(size))
        if not np.isfinite(mass).all():
            raise InputError("mass: NaN or infinite values, expected GeV")
        about: dict[str, Any] = {"objects": given.get("objects"), "object_columns": self.object_columns}
        return Events.from_arrays(features, mass, () if features is None else self.columns, **about)

    def _of_frame(self, frame: Any, names: Sequence[str]) -> np.ndarray | dict[str, np.ndarray]:
        """Return the features (N, F) of a frame, whose columns go by their names; it may have others, and `mass` if need be."""
        if self.object_columns:
            raise InputError("a frame has no objects, which this model takes; expected Events, or a dict of arrays")
        features = read_columns(frame, self.columns, names)
        return {"features": features, "mass": read_columns(frame, ["mass"], names)[:, 0]} if self.mass else features


def resolve(
    events: Events, columns: Sequence[str], object_columns: Sequence[str] | None = None, slots: int = 0
) -> Inputs:
    """Return the inputs for events, by names or patterns of columns, with objects unless `object_columns` is None.

    A pattern never means the mass that is searched for bumps. No `object_columns` and 0 `slots` are those that the events
    have. Raises `InputError` for what the events lack.

    >>> events = Events.from_arrays(np.zeros((1, 3)), np.zeros(1), ["MET", "HT", "mass"], mass_column="mass")
    >>> resolve(events, ["*"])
    Inputs(columns=('MET', 'HT'), object_columns=(), slots=0, mass=False)
    """
    named = match_columns(columns, events.columns, events.name) if columns else ()
    mass = events.about.mass_column
    if mass in named and mass not in columns and len(named) > 1:
        named = tuple(name for name in named if name != mass)
    if object_columns is None:
        return Inputs(named)
    found = Inputs(named, tuple(object_columns) or objects_of(events)[1], slots or objects_of(events)[0])
    found.check_layout(events)
    return found


def objects_of(events: Events) -> tuple[int, tuple[str, ...]]:
    """Return how many slots for objects events have, and the objects' columns; raises `InputError` if there are none."""
    if not events.has("objects"):
        raise InputError(f"{events.name}: no objects, which this model takes; it has {', '.join(events.fields)}")
    return events.shape_of("objects")[0], tuple(events.about.object_columns)
