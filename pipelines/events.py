"""Events: the data currency of the project. Read lazily from one HDF5 file, in physical units (GeV, rad).

What the file holds is in `pipelines/layout.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from pipelines.errors import InputError
from pipelines.layout import DTYPES, Description, check_datasets, check_finite, check_names, open_hdf5, read_rows, typed
from pipelines.outputs import new_disk

BLOCK = 65_536  # events read at a time: 12 MB of 47 columns


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

    def __init__(self, arrays: Mapping[str, np.ndarray] | None, path: Path | None, size: int, about: Description):
        self._arrays, self.path, self._size, self.about = arrays, path, size, about
        self._rows: np.ndarray | None = None
        with self._source() as source:
            self._fields = tuple(name for name in DTYPES if name in source)

    # -- where events come from ------------------------------------------------------------------

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> Events:
        """Open an events file lazily.

        Raises `InputError` if it is missing, is not HDF5, or lacks a dataset or attribute of the format.
        """
        path = Path(path)
        with open_hdf5(path) as file:
            missing = [name for name in ("features", "mass") if not isinstance(file.get(name), h5py.Dataset)]
            if missing:
                raise InputError(
                    f"{path}: no dataset {' and '.join(map(repr, missing))}, found {sorted(file)}; "
                    f"make an events file with `zoo data convert` or `zoo data cluster`"
                )
            about = Description.from_attributes(file.attrs, path)
            shape = file["features"].shape
            if len(shape) != 2 or shape[1] != len(about.columns):
                raise InputError(
                    f"{path}: features has shape {shape}, expected (N, {len(about.columns)}) as in 'columns'"
                )
            check_names(about.columns, path)
            check_datasets(file, DTYPES, path)
        return cls(None, path, shape[0], about)

    @classmethod
    def from_arrays(
        cls,
        features: np.ndarray,
        mass: np.ndarray,
        columns: Sequence[str],
        *,
        weight: np.ndarray | None = None,
        label: np.ndarray | None = None,
        **about: object,
    ) -> Events:
        """Wrap arrays in memory: features (N, F), mass (N,) in GeV, optional weight and label (N,).

        Raises `InputError` if the lengths differ, a name is there twice, or a label is not a whole number 0 to 127.
        """
        given = {"features": features, "mass": mass, "weight": weight, "label": label}
        arrays = {k: typed(k, v, "arrays in memory") for k, v in given.items() if v is not None}
        if arrays["features"].ndim != 2 or arrays["features"].shape[1] != len(columns):
            raise InputError(
                f"features has shape {arrays['features'].shape}, expected (N, {len(columns)}) as in columns"
            )
        size = len(arrays["features"])
        for name, array in arrays.items():
            if name != "features" and array.shape != (size,):
                raise InputError(f"{name} has shape {array.shape}, expected {(size,)}, one for each row of features")
        check_names(columns, "arrays in memory")
        return cls(arrays, None, size, Description(columns=tuple(columns), **about))

    # -- what they are ---------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._size if self._rows is None else len(self._rows)

    def __repr__(self) -> str:
        return f"Events({len(self)} events, {len(self.columns)} columns, {self.name})"

    @property
    def name(self) -> str:
        """Where the events are, for messages: the file, or "arrays in memory"."""
        return str(self.path) if self.path else "arrays in memory"

    @property
    def rows_in_store(self) -> int:
        """How many rows the file behind this selection has."""
        return self._size

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features, in the order of the file."""
        return self.about.columns

    @property
    def has_labels(self) -> bool:
        """Whether truth is there."""
        return "label" in self._fields

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
        parts = [block[field] for block in self.blocks(field, columns=columns)]
        width = (len(columns or self.columns),) if field == "features" else ()
        return np.concatenate(parts) if parts else np.empty((0, *width), DTYPES[field])

    def blocks(
        self,
        *fields: str,
        columns: Sequence[str] | None = None,
        size: int = BLOCK,
        starts: Sequence[int] | None = None,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yield the named datasets in blocks of at most `size` stored rows, in order.

        `starts`, first rows of blocks in the file (multiples of `size`), picks blocks and their order:
        that is how events larger than memory are shuffled. `weight` is ones where there is none.

        Raises `InputError` for a missing column, or for NaN or infinite values (named column, count).
        """
        take = None if columns is None else self._indices(columns)
        names = self.columns if columns is None else tuple(columns)
        with self._source() as source:
            for start in range(0, self._size, size) if starts is None else starts:
                stop = min(start + size, self._size)
                picked = self._picked(start, stop)
                if picked is not None and not len(picked):
                    continue
                block = {}
                for field in fields:
                    values = self._stored(source, field, start, stop)
                    values = typed(field, values if picked is None else values[picked], self.name)
                    if field == "features" and take is not None:
                        values = values[:, take]
                    check_finite(values, names if field == "features" else (field,), self.name)
                    block[field] = values
                yield block

    def _stored(self, source: Mapping[str, np.ndarray], field: str, start: int, stop: int) -> np.ndarray:
        if field not in self._fields:  # which leaves out what the file has and this selection must not see
            return _default(field, stop - start, self.name)
        return read_rows(source[field], start, stop, self.name)

    @contextlib.contextmanager
    def _source(self) -> Iterator[Mapping[str, np.ndarray]]:
        if self._arrays is not None:
            yield self._arrays
        else:
            with open_hdf5(self.path) as file:
                yield file

    def _picked(self, start: int, stop: int) -> np.ndarray | None:
        if self._rows is None:
            return None
        first, last = np.searchsorted(self._rows, (start, stop))
        return self._rows[first:last] - start

    def _indices(self, columns: Sequence[str]) -> list[int]:
        missing = [c for c in columns if c not in self.columns]
        if missing:
            raise InputError(
                f"{self.name}: no column {', '.join(map(repr, missing))}; it has {', '.join(self.columns)}"
            )
        return [self.columns.index(c) for c in columns]

    # -- selecting -------------------------------------------------------------------------------

    def take(self, rows: np.ndarray) -> Events:
        """Keep the given rows of this selection, in the order of the file: integers, or a mask of its length.

        Raises `InputError` if there is no such row, or the mask is of another length.
        """
        rows = np.asarray(rows)
        if rows.dtype == bool and rows.shape != (len(self),):
            raise InputError(f"{self.name}: mask has shape {rows.shape}, expected {(len(self),)}, one for each event")
        rows = np.flatnonzero(rows) if rows.dtype == bool else np.sort(rows).astype(np.int64)
        if len(rows) and not 0 <= rows[0] <= rows[-1] < len(self):
            raise InputError(f"{self.name}: no rows {rows[0]} to {rows[-1]}, expected 0 to {len(self) - 1}")
        chosen = object.__new__(Events)
        chosen.__dict__.update(self.__dict__)
        chosen._rows = rows if self._rows is None else self._rows[rows]
        return chosen

    def select(self, *, mass_range: tuple[float, float] | None = None, label: int | None = None) -> Events:
        """Keep events with low <= mass < high (GeV), and of one truth label (evaluation only).

        Raises `InputError` if nothing is left.
        """
        keep = np.ones(len(self), bool)
        if mass_range is not None:
            low, high = mass_range
            if not low < high:
                raise InputError(f"mass range {low:g} to {high:g} GeV is empty; give the lower edge first")
            mass = self.mass
            keep &= (mass >= low) & (mass < high)
        if label is not None:
            keep &= self.label == label
        if not keep.any():
            wanted = [f"mass in [{mass_range[0]:g}, {mass_range[1]:g}) GeV"] if mass_range is not None else []
            wanted += [f"label {label}"] if label is not None else []
            raise InputError(f"{self.name}: none of {len(self)} events has {' and '.join(wanted)}; {self._extent()}")
        return self if keep.all() else self.take(keep)

    def _extent(self) -> str:
        mass = self.mass
        extent = f"masses go from {mass.min():g} to {mass.max():g} GeV" if len(mass) else "there are no events"
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
        if not 0 < events <= len(self):
            raise InputError(f"{self.name}: {events} events asked for, it has {len(self)}")
        return self.take(np.random.default_rng(seed).permutation(len(self))[:events])

    # -- writing ---------------------------------------------------------------------------------

    def without_labels(self) -> Events:
        """Return the same events without truth."""
        blind = self.take(np.arange(len(self)))
        blind._fields = tuple(field for field in self._fields if field != "label")
        blind.about = dataclasses.replace(self.about, label_names={})
        return blind

    def write(self, path: str | os.PathLike) -> None:
        """Write these events to a new file, block by block, atomically."""
        about = {f.name: getattr(self.about, f.name) for f in dataclasses.fields(Description)}
        with EventsWriter(path, **about) as writer:
            for block in self.blocks(*self._fields):
                writer.append(**block)


class EventsWriter:
    """Write an events file block by block; it appears under its name only when the block ends well.

    Raises `InputError` if the path exists or cannot be written, or if blocks do not fit together.

    Example:
        >>> import numpy as np, tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "events.h5"
        >>> with EventsWriter(path, columns=["pt_1"]) as writer:
        ...     writer.append(features=np.ones((3, 1)), mass=[3000, 3500, 4000])
        >>> len(Events.from_file(path))
        3
    """

    def __init__(self, path: str | os.PathLike, columns: Sequence[str], **about: object):
        self._about = Description(columns=tuple(columns), **about)
        self._path = path

    def __enter__(self) -> EventsWriter:
        with contextlib.ExitStack() as stack:
            self._disk = stack.enter_context(new_disk(self._path))
            self._file = stack.enter_context(h5py.File(self._disk, "w"))
            self._output = stack.pop_all()
        return self

    def append(self, features: np.ndarray, mass: np.ndarray, **optional: np.ndarray) -> None:
        """Append rows: features (n, F), mass (n,), and label and weight (n,) if every block has them."""
        block = {"features": features, "mass": mass} | {k: v for k, v in optional.items() if v is not None}
        for name, values in block.items():
            values = typed(name, values, str(self._path))
            width = (len(self._about.columns),) if name == "features" else ()
            if values.shape != (len(mass), *width):
                raise InputError(f"{name} has shape {values.shape}, expected {(len(mass), *width)}")
            if name not in self._file:
                self._create(name, width)
            data = self._file[name]
            data.resize(len(data) + len(values), axis=0)
            data[len(data) - len(values) :] = values
        if len({len(self._file[name]) for name in self._file}) != 1:
            raise InputError(f"a block has {sorted(block)}, expected {sorted(self._file)} as the blocks before")
        self._disk.check(self._path)

    def _create(self, name: str, width: tuple[int, ...]) -> None:
        self._file.create_dataset(
            name,
            shape=(0, *width),
            maxshape=(None, *width),
            dtype=DTYPES[name],
            chunks=(8192, *width),
            compression="gzip",
            shuffle=True,
        )

    def __exit__(self, *failure: object) -> bool | None:
        if failure[0] is not None:
            return self._output.__exit__(*failure)
        with self._output:
            for name, width in (("features", (len(self._about.columns),)), ("mass", ())):
                if name not in self._file:
                    self._create(name, width)
            self._file.attrs.update(self._about.to_attributes())
        return None


def _default(field: str, size: int, where: str) -> np.ndarray:
    if field != "weight":
        hint = "; truth is needed to evaluate, not to train or score" if field == "label" else ""
        raise InputError(f"{where}: no dataset {field!r}{hint}")
    return np.ones(size, np.float32)
