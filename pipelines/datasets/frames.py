"""DataFrames that pandas wrote to HDF5, in its "fixed" layout, read without pandas and without running what is in them.

Such a frame is a group with the names of all columns in `axis0` and, for every type of number, `block<i>_items` (names,
(F,)) and `block<i>_values` (N, F). A frame whose label is a whole number has two blocks, in an order of pandas' own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from pipelines.errors import InputError
from pipelines.events.hdf5_files import as_text, check_stored
from pipelines.events.layout import check_unique

_VALUES = re.compile(r"block\d+_values")


class Column(NamedTuple):
    """Where a column of a frame is: a dataset (N, F) and the place in it; and of which type."""

    dataset: str
    place: int
    dtype: np.dtype


class Frame(NamedTuple):
    """A frame: its rows, and its columns by name, in the order of the frame."""

    rows: int
    columns: dict[str, Column]


def frame_groups(file: h5py.Group) -> list[h5py.Group]:
    """Return the groups of a file, at any depth, that are frames in the "fixed" layout."""
    return [group for group in _groups(file) if any(_VALUES.fullmatch(str(name)) for name in group)]


def _groups(group: h5py.Group) -> Iterator[h5py.Group]:
    yield group
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink) and group.get(name, getclass=True) is h5py.Group:
            yield from _groups(group[name])


def frame_of(group: h5py.Group, path: str | Path) -> Frame:
    """Return where the columns of a frame are, of all its blocks; raises `InputError` if they do not fit together."""
    numbers = sorted(int(name[5:-7]) for name in group if _VALUES.fullmatch(str(name)))
    told = group.attrs.get("nblocks")
    if told is not None and (np.ndim(told) or np.asarray(told).dtype.kind not in "iu" or int(told) != len(numbers)):
        raise InputError(f"{path}: {group.name} has {len(numbers)} blocks of columns, nblocks says {told}; damaged?")
    found: dict[str, Column] = {}
    names: list[str] = []
    sizes = set()
    for number in numbers:
        items, values = (group.get(f"block{number}_{part}") for part in ("items", "values"))
        where = f"{path}: block{number} of {group.name}"
        if not isinstance(values, h5py.Dataset) or not isinstance(items, h5py.Dataset):
            raise InputError(f"{where} has no values for its items; damaged?")
        there = _names(items, path)
        names += there
        if values.dtype.kind == "O":  # columns of text are one pickled object, never read
            found |= {name: Column(str(values.name), i, values.dtype) for i, name in enumerate(there)}
            continue
        if "shape" in values.attrs:  # how an empty array is marked
            raise InputError(f"{path}: the data frame {group.name} has no rows")
        if values.ndim != 2 or values.shape[1] != len(there):
            raise InputError(f"{where} has no values for its items; damaged?")
        check_stored(values, path)
        sizes.add(values.shape[0])
        dtype = np.dtype("M8[ns]") if "time" in as_text(values.attrs.get("value_type", "")) else values.dtype
        found |= {name: Column(str(values.name), i, dtype) for i, name in enumerate(there)}
    check_unique(names, path)
    if len(sizes) != 1:
        raise InputError(f"{path}: columns of {sorted(sizes)} rows, expected one length; damaged?")
    order = names
    if isinstance(group.get("axis0"), h5py.Dataset):
        order = _names(group["axis0"], path)
        check_unique(order, path)
        if set(order) != set(names):
            raise InputError(
                f"{path}: axis0 of {group.name} names {len(order)} columns, its blocks {len(names)}, and not the same; "
                f"damaged?"
            )
    return Frame(sizes.pop(), {name: found[name] for name in order})


def _names(data: h5py.Dataset, path: str | Path) -> list[str]:
    text = h5py.check_string_dtype(data.dtype) is not None
    if data.ndim != 1 or not (text or data.dtype.kind in "Siu"):
        raise InputError(
            f"{path}: {data.name} are no names of columns but {data.dtype} of shape {data.shape}; damaged?"
        )
    if data.shape[0] > 2**17:
        raise InputError(f"{path}: {data.name} has {data.shape[0]} names, expected fewer; is it the right way round?")
    check_stored(data, path)
    try:
        return [as_text(name) for name in data[:].tolist()]
    except UnicodeDecodeError:
        raise InputError(f"{path}: {data.name} has names that are not UTF-8; write them as such") from None
