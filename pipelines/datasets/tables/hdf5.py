"""HDF5 tables: a matrix with names, one dataset a column, records, or a DataFrame as pandas writes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np

from pipelines.datasets.frames import frame_groups, frame_of
from pipelines.datasets.tables.arrays import NAMES, ArrayTable, Found, array_table, column, layout, unused_arrays
from pipelines.datasets.tables.base import Columns, check_column_count
from pipelines.errors import InputError
from pipelines.events.files import reading
from pipelines.events.hdf5_files import as_text, check_stored, open_hdf5, read_rows
from pipelines.events.layout import read_names


@dataclasses.dataclass(frozen=True)
class Hdf5Table(ArrayTable):
    """HDF5: a matrix with names, one dataset a column, records, or a DataFrame as pandas writes it."""

    layout: ClassVar[str] = "HDF5"

    def _rows(self, start: int, stop: int, names: Sequence[str]) -> Columns:
        values: Columns = {}
        blocks: dict[str, np.ndarray] = {}
        with open_hdf5(self.path) as file:
            for name in names:
                dataset, at = self.places[name]
                if dataset not in blocks:
                    check_stored(file[dataset], self.path)
                    blocks[dataset] = read_rows(file[dataset], start, stop, str(self.path))
                values[name] = np.ascontiguousarray(column(blocks[dataset], at))
        return values


def open_h5(path: Path, columns: Sequence[str] | None) -> Hdf5Table:
    """Look at the datasets of an HDF5 file."""
    with open_hdf5(path) as file, reading(path):
        group = _inner(file)
        frames = frame_groups(file)
        if len(frames) == 1:
            group = frames[0]
        if frames or as_text(group.attrs.get("pandas_type", "")).startswith("frame"):
            found, extra, rows, unused = _frame(group, len(frames), path, columns)
        else:
            found, extra, rows, unused = _plain(group, path, columns)
        units = [as_text(unit) for unit in np.ravel(file.attrs.get("units", ()))]
        about = {k: as_text(file.attrs[k]) for k in ("source", "license", "citation", "dataset") if k in file.attrs}
        about |= {"source": as_text(file.attrs["note"])} if "note" in file.attrs and "source" not in about else {}
        table = array_table(
            Hdf5Table,
            path,
            found,
            extra,
            rows,
            units=dict(zip(found, units)) if len(units) == len(found) else {},
            about=about,
            label_names=read_names(file.attrs, "label_names", path),
            unused=unused,
        )
    assert isinstance(table, Hdf5Table)
    return table


def _inner(group: h5py.Group) -> h5py.Group:
    """Go into groups that hold nothing but a group; there is no circle in a file that could be opened."""
    while len(group) == 1 and isinstance(inner := group.get(next(iter(group))), h5py.Group):
        group = inner
    return group


def _plain(group: h5py.Group, path: Path, columns: Sequence[str] | None) -> tuple[Found, Found, int, tuple[str, ...]]:
    there = {name: data for name, data in group.items() if isinstance(data, h5py.Dataset)}
    if not there:
        raise InputError(f"{path}: no dataset 'features' and no columns, found {sorted(group)}")
    if "schema_version" in group.attrs and "objects" in there:
        raise InputError(f"{path}: is an events file already, with objects, which no table has")
    if as_text(group.attrs.get("pandas_type", "")):
        raise InputError(f"{path}: is in pandas' 'table' layout; write it with format='fixed', or as Parquet")
    check_column_count(len(there), path)

    def names_of(matrix: str) -> list[str] | None:
        names = group.file.attrs.get("columns", there[matrix].attrs.get("columns", group.attrs.get("columns")))
        if names is None:
            names = next((there[name] for name in NAMES if name in there and there[name].ndim == 1), None)
            if names is not None:
                check_column_count(names.shape[0], path)
                check_stored(names, path)
                names = names[:]
        return None if names is None else [as_text(name) for name in np.ravel(names).tolist()]

    shapes = {name: (data.shape, data.dtype) for name, data in there.items() if data.shape is not None}
    found, extra, rows = layout(path, shapes, names_of, columns)
    prefix = group.name.rstrip("/")
    place = {name: ((f"{prefix}/{at[0]}", at[1]), dtype) for name, (at, dtype) in (found | extra).items()}
    unused = unused_arrays(shapes, found | extra)
    return {name: place[name] for name in found}, {name: place[name] for name in extra}, rows, unused


def _frame(
    group: h5py.Group, frames: int, path: Path, given: Sequence[str] | None
) -> tuple[Found, Found, int, tuple[str, ...]]:
    """Return the columns of a pandas DataFrame in the "fixed" layout: blocks of one type, with names for each."""
    if given is not None:
        raise InputError(f"{path}: a DataFrame has names; leave columns out")
    if frames > 1:
        raise InputError(f"{path}: has {frames} DataFrames, expected one; write the one that is meant to its own file")
    if not frames:
        raise InputError(f"{path}: is in pandas' 'table' layout; write it with format='fixed', or as Parquet")
    frame = frame_of(group, path)
    return {name: ((c.dataset, c.place), c.dtype) for name, c in frame.columns.items()}, {}, frame.rows, ()
