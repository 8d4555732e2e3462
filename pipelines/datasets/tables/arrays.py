"""Which columns named arrays hold: what NumPy and HDF5 files have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.datasets.tables.base import Table, check_column_count
from pipelines.errors import InputError
from pipelines.events.layout import check_unique

MATRICES = ("features", "x")  # datasets that hold all columns at once; their names are in one of NAMES
NAMES = ("columns", "cols")

Place = tuple[str, int | str | None]  # dataset, and the column or field of it
Found = dict[str, tuple[Place, np.dtype]]  # where each column is, and of what type
Shapes = Mapping[str, tuple[tuple[int, ...], np.dtype]]


@dataclasses.dataclass(frozen=True)
class ArrayTable(Table):
    """A table whose columns are in arrays that have names; `places` says where."""

    places: Mapping[str, Place] = dataclasses.field(default_factory=dict)


def is_numeric(dtype: np.dtype) -> bool:
    """Tell whether a type is of real numbers: no complex ones, dates, or texts."""
    return dtype.kind in "fiub" and dtype.shape == ()


def fields(name: str, dtype: np.dtype) -> Found:
    """Return the columns of an array of records."""
    return {field: ((name, field), dtype[field]) for field in dtype.names or ()}


def array_table(
    kind: type[ArrayTable], path: Path, columns: Found, extra: Found, rows: int, **options: Any
) -> ArrayTable:
    """Make a table of columns and others given as name -> (place, type)."""
    types = {name: str(dtype) for name, (_, dtype) in (columns | extra).items()}
    places = {name: place for name, (place, _) in (columns | extra).items()}
    numbers = frozenset(name for name, (_, dtype) in (columns | extra).items() if is_numeric(dtype))
    return kind(path, tuple(columns), types, numbers, tuple(extra), rows, places=places, **options)


def layout(
    path: Path,
    shapes: Shapes,
    names_of: Callable[[str], Sequence[str] | None],
    given: Sequence[str] | None,
) -> tuple[Found, Found, int]:
    """Return columns, extra and rows of named arrays: a matrix with names, an array of records, or one a column."""
    matrix = next((n for n in MATRICES if n in shapes and (len(shapes[n][0]) == 2 or names_of(n) is not None)), None)
    matrix = matrix or _only(name for name, (shape, _) in shapes.items() if len(shape) == 2 and given is not None)
    if matrix is not None:
        columns, rows = matrix_columns(path, matrix, *shapes[matrix], names_of(matrix), given), shapes[matrix][0][0]
        extra: Found = {
            name: ((name, None), dtype)
            for name, (shape, dtype) in shapes.items()
            if shape == (rows,) and name not in NAMES and (name not in columns or name in ("label", "weight"))
        }
        for name in ("label", "weight"):
            if name in shapes and name not in extra:
                raise InputError(f"{path}: {name} has shape {shapes[name][0]}, expected ({rows},)")
        return columns, extra, rows
    if given is not None:
        raise InputError(f"{path}: no matrix (N, F) that columns could name, found {_found(shapes)}; leave columns out")
    records = _only(name for name, (_, dtype) in shapes.items() if dtype.names)
    if records is not None and len(shapes[records][0]) == 1:
        return fields(records, shapes[records][1]), {}, shapes[records][0][0]
    single: Found = {name: ((name, None), dtype) for name, (shape, dtype) in shapes.items() if len(shape) == 1}
    lengths = {shapes[name][0][0] for name in single}
    if len(lengths) > 1:
        raise InputError(f"{path}: columns of different lengths, {_found(shapes)}; expected one value for each event")
    if not single:
        raise InputError(
            f"{path}: no dataset 'features' with names in 'columns', and none with one value an event; "
            f"found {_found(shapes)}"
        )
    return single, {}, lengths.pop()


def matrix_columns(
    path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype, names: Sequence[str] | None,
    given: Sequence[str] | None,
) -> Found:  # fmt: skip
    """Return the columns of a matrix (N, F), whose names are its own or given."""
    if len(shape) == 2:
        check_column_count(shape[1], path)
    if names is not None and given is not None:
        raise InputError(f"{path}: {name} has names ({', '.join(names[:4])}, ...); leave columns out")
    names = given if names is None else names
    if names is None:
        raise InputError(f"{path}: no attribute or dataset 'columns' with the names of {name}; give columns")
    if len(shape) != 2 or shape[1] != len(names):
        raise InputError(f"{path}: {name} has shape {shape}, expected (N, {len(names)}) as in 'columns'")
    if not is_numeric(dtype):
        raise InputError(f"{path}: {name} is of type {dtype}, expected numbers")
    check_unique(names, path)
    return {column: ((name, i), dtype) for i, column in enumerate(names)}


def _only(names: Iterable[str]) -> str | None:
    found = list(names)
    return found[0] if len(found) == 1 else None


def _found(shapes: Shapes) -> str:
    some = [f"{name!r} {shape}" for name, (shape, _) in list(shapes.items())[:6]]
    return ", ".join(some + ["..."] * (len(shapes) > 6)) or "nothing"


def column(rows: np.ndarray, at: int | str | None) -> np.ndarray:
    """Return a column or field of some rows, or the rows if they are the column."""
    if at is None:
        return rows
    return rows[at] if isinstance(at, str) else rows[:, at]


def unused_arrays(shapes: Shapes, found: Found) -> tuple[str, ...]:
    """Return the arrays of a file that no column is in, but for names."""
    used = {place[0] for place, _ in found.values()}
    return tuple(name for name in shapes if name not in used and name not in NAMES)
