"""Events: the data currency of the project. Read lazily from one HDF5 file, in physical units (GeV, rad).

What the file holds is in `pipelines/events/layout.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipelines.arguments import check_range, check_texts, check_whole
from pipelines.errors import InputError
from pipelines.events.derived import Reading
from pipelines.events.hdf5_files import reading_hdf5
from pipelines.events.layout import (
    AXES,
    CHUNK,
    DTYPES,
    TRUTH,
    Description,
    check_datasets,
    check_finite,
    check_shapes,
    open_hdf5,
    read_rows,
    typed,
)
from pipelines.events.writer import EventsWriter
from pipelines.outputs import Disk

__all__ = ["BLOCK", "CHUNK", "Events", "EventsWriter"]

BLOCK = 65_536  # events read at a time: 12 MB of 47 columns
BLOCK_BYTES = 2**26


class Events:
    """Events on disk or in memory, possibly a selection of them; nothing is read before it is asked for.

    Made by `pipelines.open`, `Events.from_file` or `Events.from_arrays`. Selections (`select`, `split`,
    `sample`) share the file and keep the order of its rows.

    Example:
        >>> import numpy as np
        >>> events = Events.from_arrays(np.zeros((4, 2)), mass=[3000, 3100, 3200, 6000], columns=["pt_1", "pt_2"])
        >>> len(events), len(events.select(mass_range=(2700, 5000)))
        (4, 3)
    """

    _title: str | None = None  # another name than that of the file

    def __init__(self, arrays: Mapping[str, np.ndarray] | None, path: Path | None, size: int, about: Description):
        self._arrays, self.path, self._size, self.about = arrays, path, size, about
        self._rows: np.ndarray | None = None
        self.remembered: dict[Hashable, Any] | None = None  # results of `pipelines.events.statistics`, by their keys
        with self._source() as source:
            self._fields = tuple(name for name in DTYPES if name in source)

    # -- where events come from ------------------------------------------------------------------

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Events:
        """Open an events file lazily.

        Raises `InputError` if it is missing, is not HDF5, or lacks a dataset or attribute of the format.
        """
        path = Path(path)
        try:
            size, about = cls._looked_at(path)
        except (RuntimeError, OSError) as error:  # of h5py, where metadata are damaged
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: damaged or truncated ({reason}); convert the events again") from None
        return cls(None, path, size, about)

    @staticmethod
    def _looked_at(path: Path) -> tuple[int, Description]:
        """Return the number of events of a file and its description, after a look at what else is there."""
        with reading_hdf5(path) as file:
            there = [name for name in DTYPES if isinstance(file.get(name), h5py.Dataset)]
            missing = [] if {"features", "objects"} & set(there) else ["features"]
            missing += [] if "mass" in there else ["mass"]
            if missing:
                raise InputError(
                    f"{path}: no dataset {' and '.join(map(repr, missing))}, found {sorted(file)}; "
                    f"make an events file with `zoo data convert` or `zoo data cluster`"
                )
            about = Description.from_attributes(file.attrs, path)
            check_datasets(file, DTYPES, path)
            check_shapes({name: file[name].shape for name in there}, about, str(path))
            size = len(file["mass"])
        return size, about

    @classmethod
    def from_arrays(
        cls,
        features: np.ndarray | None,
        mass: np.ndarray,
        columns: Sequence[str] = (),
        *,
        objects: np.ndarray | None = None,
        images: np.ndarray | None = None,
        weight: np.ndarray | None = None,
        label: np.ndarray | None = None,
        process: np.ndarray | None = None,
        **about: Any,
    ) -> Events:
        """Wrap arrays in memory: features (N, F), mass (N,) in GeV, and what else `pipelines.events.layout` has.

        Raises `InputError` if the lengths differ, a name is there twice, or a label is not a whole number 0 to 127.
        """
        given = {"features": features, "objects": objects, "images": images, "mass": mass}
        given |= {"weight": weight, "label": label, "process": process}
        arrays = {k: typed(k, v, "arrays in memory") for k, v in given.items() if v is not None}
        description = Description(columns=check_texts("columns", columns), **about)
        check_shapes({name: array.shape for name, array in arrays.items()}, description, "arrays in memory")
        return cls(arrays, None, len(arrays["mass"]), description)

    # -- what they are ---------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, object]:
        # for another process, which may be at work in another folder, and remembers for itself
        remembered: dict[str, object] = {"remembered": None if self.remembered is None else {}}
        return self.__dict__ | remembered | ({"path": self.path.absolute()} if self.path else {})

    def __len__(self) -> int:
        return self._size if self._rows is None else len(self._rows)

    def __repr__(self) -> str:
        return f"Events({len(self)} events, {len(self.columns)} columns, {self.name})"

    @property
    def name(self) -> str:
        """Where the events are from, for messages: the file, or "arrays in memory"."""
        return self._title or (str(self.path) if self.path else "arrays in memory")

    def renamed(self, name: str) -> Events:
        """Return the same events by another `name`, such as that of the table that a temporary file was made of."""
        renamed = object.__new__(type(self))
        renamed.__dict__.update(self.__dict__, _title=name)
        return renamed

    @property
    def files(self) -> tuple[Path, ...]:
        """The files behind these events; none if they are in memory."""
        return (self.path,) if self.path else ()

    @property
    def seams(self) -> tuple[int, ...]:
        """Where one source ends and the next begins, counted within this selection: (0, N) if there is one source."""
        if self._rows is None:
            return self._bounds
        return tuple(int(row) for row in np.searchsorted(self._rows, self._bounds))

    @property
    def _bounds(self) -> tuple[int, ...]:
        return (0, self._size)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features, in the order of the file."""
        return self.about.columns

    @property
    def fields(self) -> tuple[str, ...]:
        """The datasets that are there, such as `features`, `objects`, `mass`, `label`."""
        return self._fields

    def has(self, field: str) -> bool:
        """Tell whether a dataset of the format is there."""
        return field in self._fields

    @property
    def has_labels(self) -> bool:
        """Whether truth is there."""
        return self.has("label")

    def shape_of(self, field: str) -> tuple[int, ...]:
        """Return the shape of one event's part of a dataset, such as (39, 5) of `objects`."""
        if field not in self._fields:
            raise InputError(f"{self.name}: no dataset {field!r}; it has {', '.join(self._fields)}")
        with self._source() as source:
            return tuple(source[field].shape[1:])

    @property
    def mass(self) -> np.ndarray:
        """The spectrum, (N,) float32, GeV."""
        return self.read("mass")

    @property
    def weight(self) -> np.ndarray:
        """Training weights, (N,) float32; ones if the file has none."""
        return self.read("weight")

    @property
    def label(self) -> np.ndarray:
        """Truth, (N,) int8, for evaluation only; raises `InputError` if the file has none."""
        return self.read("label")

    # -- reading ---------------------------------------------------------------------------------

    def read(self, field: str, columns: Sequence[str] | None = None) -> np.ndarray:
        """Read one dataset whole, `features` restricted to `columns` in the order given.

        Raises `InputError` naming column and count if a value is NaN or infinite.
        """
        if not isinstance(field, str):
            raise InputError(f"field is {field!r}, expected the name of a dataset, such as 'features'")
        parts = [block[field] for block in self.blocks(field, columns=columns)]
        return np.concatenate(parts) if parts else self._nothing(field, columns)

    def blocks(
        self,
        *fields: str,
        columns: Sequence[str] | None = None,
        size: int | None = None,
        rows: Iterable[tuple[int, int]] | None = None,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yield the named datasets, and `mask` for the objects', in blocks of at most `size` stored rows, in order.

        By default blocks have `BLOCK` rows, fewer of large ones so that they stay under `BLOCK_BYTES`.

        `rows`, pairs (first, last + 1) counted within this selection, picks what is read and in which order: that is
        how events larger than memory are shuffled. `weight` is ones where there is none.

        `columns` may be derived ones too (see `pipelines.events.derived`).

        Raises `InputError` for a missing column, or for NaN or infinite values (named column, count).
        """
        reading = None if columns is None else self.reading(columns)
        names = self.columns if reading is None else reading.names
        with self._source() as source:
            shapes = [source["objects" if f == "mask" else f].shape[1:] for f in fields if f in source or f == "mask"]
            largest = 4 * sum(math.prod(shape) for shape in shapes)
            size = size or max(1, min(BLOCK, BLOCK_BYTES // max(1, largest)))
            for start, stop, picked in self._stretches(size, [(0, len(self))] if rows is None else rows):
                block = {}
                for field in (f for f in fields if f != "mask"):
                    values = self._stored(source, field, start, stop)
                    values = typed(field, values if picked is None else values[picked], self.name)
                    chosen = reading if field == "features" else None
                    if chosen is not None:
                        values = values[:, chosen.take]
                    check_finite(values, self._names(field, names), self.name)
                    block[field] = values if chosen is None else chosen(values)
                if "mask" in fields:
                    objects = self._stored(source, "objects", start, stop) if "objects" not in block else None
                    objects = block["objects"] if objects is None else objects if picked is None else objects[picked]
                    block["mask"] = (objects != 0).any(axis=-1)
                yield block

    def _stretches(self, size: int, rows: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, np.ndarray | None]]:
        """Yield stretches of stored rows to read, and which of each to keep (None for all)."""
        for first, last in rows:
            if self._rows is None:
                yield from ((start, min(start + size, last), None) for start in range(first, last, size))
                continue
            while first < last:
                start = int(self._rows[first])
                stop = min(start + size, int(self._rows[last - 1]) + 1)
                following = first + int(np.searchsorted(self._rows[first:last], stop))
                yield start, stop, self._rows[first:following] - start
                first = following

    def _names(self, field: str, columns: Sequence[str]) -> Sequence[str]:
        return {"features": columns, "objects": self.about.object_columns}.get(field, (field,))

    def _nothing(self, field: str, columns: Sequence[str] | None) -> np.ndarray:
        if field == "mask":
            return np.empty((0, *self.shape_of("objects")[:1]), bool)
        stored = self.shape_of(field) if field in AXES else ()
        width = (len(columns or self.columns),) if field == "features" else stored
        return np.empty((0, *width), DTYPES[field])

    def _stored(self, source: Mapping[str, np.ndarray], field: str, start: int, stop: int) -> np.ndarray:
        if field not in self._fields:  # which leaves out what the file has and this selection must not see
            return _default(field, stop - start, self.name)
        return read_rows(source[field], start, stop, self.name)

    @contextlib.contextmanager
    def _source(self) -> Iterator[Mapping[str, np.ndarray]]:
        if self._arrays is not None:
            yield self._arrays
        else:
            assert self.path is not None  # events are in one of the two
            with open_hdf5(self.path) as file:
                yield file

    def reading(self, columns: Sequence[str]) -> Reading:
        """Return how columns, stored or derived, come from those stored; raises `InputError` for a missing one."""
        reading = Reading(check_texts("columns", columns), self.columns)
        if reading.missing:
            missing = ", ".join(map(repr, reading.missing))
            raise InputError(f"{self.name}: no column {missing}; it has {', '.join(self.columns)}")
        return reading

    def in_memory(self) -> Events:
        """Return the same events as arrays in memory: every read of a selection costs about as much as the whole file."""
        fields = [name for name in DTYPES if name in self._fields]
        parts = list(self.blocks(*fields))
        arrays = {
            name: np.concatenate([part[name] for part in parts]) if parts else self._nothing(name, None)
            for name in fields
        }
        return Events(arrays, None, len(self), self.about)

    # -- selecting -------------------------------------------------------------------------------

    def take(self, rows: np.ndarray) -> Events:
        """Keep the given rows of this selection, in the order of the file: integers, or a mask of its length.

        Raises `InputError` if there is no such row, or the mask is of another length.
        """
        rows = np.asarray(rows)
        if rows.size and rows.dtype.kind not in "iub":
            raise InputError(f"{self.name}: rows of type {rows.dtype}, expected whole numbers or a mask")
        if rows.ndim != 1:
            raise InputError(f"{self.name}: rows have shape {rows.shape}, expected (n,), a list of them")
        if rows.dtype == bool and rows.shape != (len(self),):
            raise InputError(f"{self.name}: mask has shape {rows.shape}, expected {(len(self),)}, one for each event")
        kind = np.int32 if self._size < 2**31 else np.int64  # there may be 10^8 of them
        rows = _true(rows, kind) if rows.dtype == bool else np.sort(rows)
        if len(rows) and not 0 <= rows[0] <= rows[-1] < len(self):
            raise InputError(f"{self.name}: no rows {rows[0]} to {rows[-1]}, expected 0 to {len(self) - 1}")
        rows = rows.astype(kind, copy=False)  # after the check: a cast would make other rows of those beyond 2^31
        chosen = self._copy()
        chosen._rows = rows if self._rows is None else self._rows[rows]
        if self.remembered is not None:  # what is known of each event is known of these
            kept = {key: one for key, one in self.remembered.items() if hasattr(one, "of_rows")}
            chosen.remembered = {key: one.of_rows(rows) for key, one in kept.items()}
        return chosen

    def remembering(self) -> Events:
        """Return the same events, which remember what `pipelines.events.statistics.gather` gets to know of them.

        A selection of them remembers the masses. For a training or a search, while which the events do not change.
        """
        if self.remembered is not None:
            return self
        same = self._copy()
        same.remembered = {}
        return same

    def _copy(self) -> Events:
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def select(self, *, mass_range: tuple[float, float] | None = None, label: int | None = None) -> Events:
        """Keep events with low <= mass < high (GeV), and of one truth label (evaluation only).

        Raises `InputError` if nothing is left.
        """
        if mass_range is not None:
            mass_range = check_range("mass_range", mass_range)
        keep, row = np.ones(len(self), bool), 0
        fields = ("mass",) * (mass_range is not None) + ("label",) * (label is not None)
        for block in self.blocks(*fields) if fields else ():
            kept = keep[row : row + len(block[fields[0]])]
            if mass_range is not None:
                kept &= (block["mass"] >= mass_range[0]) & (block["mass"] < mass_range[1])
            if label is not None:
                kept &= block["label"] == label
            row += len(kept)
        if not keep.any():
            wanted = [f"mass in [{mass_range[0]:g}, {mass_range[1]:g}) GeV"] if mass_range is not None else []
            wanted += [f"label {label}"] if label is not None else []
            raise InputError(f"{self.name}: none of {len(self)} events has {' and '.join(wanted)}; {self._extent()}")
        return self if keep.all() else self.take(keep)

    def mass_extent(self) -> tuple[float | None, float | None]:
        """Return the smallest and the largest mass, GeV; None if there are no events."""
        ends = [(float(block["mass"].min()), float(block["mass"].max())) for block in self.blocks("mass")]
        return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else (None, None)

    def _extent(self) -> str:
        low, high = self.mass_extent()
        extent = "there are no events" if low is None else f"masses go from {low:g} to {high:g} GeV"
        return extent + (f", labels are {sorted(set(self.label.tolist()))}" if self.has_labels else "")

    def split(self, fraction: float, seed: int = 0) -> tuple[Events, Events]:
        """Divide at random into two disjoint parts, the first with `fraction` (0 to 1) of the events.

        Raises `InputError` if a part would be empty.
        """
        first = round(fraction * len(self)) if 0 < fraction < 1 else 0
        if not 0 < first < len(self):
            raise InputError(
                f"fraction {fraction:g} of {len(self)} events leaves an empty part; expected 0 < fraction < 1"
            )
        order = np.random.default_rng(seed).permutation(len(self))
        return self.take(order[:first]), self.take(order[first:])

    def set_aside(self, events: int, *, label: int | None = None, seed: int = 0) -> tuple[Events, Events]:
        """Draw `events` at random, of one truth label if given, as a training sample without labels; and the rest.

        That is how a study on simulation gets a pure background to train on, disjoint from what it is judged by.
        Raises `InputError` if there are not as many, or nothing would be left.
        """
        eligible = np.arange(len(self)) if label is None else np.flatnonzero(self.label == label)
        if not 0 < events <= len(eligible) or events == len(self):
            kind = "events" if label is None else f"events of label {label}"
            raise InputError(f"{self.name}: {events} {kind} asked for, it has {len(eligible)} of {len(self)}")
        drawn = np.zeros(len(self), bool)
        drawn[np.random.default_rng(seed).permutation(eligible)[:events]] = True
        return self.take(drawn).without_labels(), self.take(~drawn)

    def sample(self, events: int, seed: int = 0) -> Events:
        """Keep `events` of them at random; raises `InputError` if there are fewer."""
        if not 0 < check_whole("events", events) <= len(self):
            raise InputError(f"{self.name}: {events} events asked for, it has {len(self)}")
        return self.take(np.random.default_rng(check_whole("seed", seed)).permutation(len(self))[:events])

    # -- writing ---------------------------------------------------------------------------------

    def without_labels(self) -> Events:
        """Return the same events without truth."""
        blind = self.take(np.arange(len(self)))
        blind._fields = tuple(field for field in self._fields if field not in TRUTH)
        blind.about = dataclasses.replace(self.about, label_names={}, process_names={})
        return blind

    def write(self, path: str | os.PathLike[str], *, disk: Disk | None = None) -> None:
        """Write these events to a new file, block by block, atomically; `disk` is of `new_disks`, for several files."""
        about = {f.name: getattr(self.about, f.name) for f in dataclasses.fields(Description)}
        with EventsWriter(path, disk=disk, **about) as writer:
            for block in self.blocks(*self._fields):
                writer.append(**block)


def _true(mask: np.ndarray, kind: type) -> np.ndarray:
    """Return where a mask is true, without an array of eight bytes an event on the way."""
    parts = [
        np.flatnonzero(mask[start : start + BLOCK]).astype(kind) + kind(start) for start in range(0, len(mask), BLOCK)
    ]
    return np.concatenate([np.empty(0, kind), *parts])


def _default(field: str, size: int, where: str) -> np.ndarray:
    if field != "weight":
        hint = "; truth is needed to evaluate, not to train or score" if field == "label" else ""
        raise InputError(f"{where}: no dataset {field!r}{hint}")
    return np.ones(size, np.float32)
