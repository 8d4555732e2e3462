"""How tables lie on disk: CSV, Parquet, NumPy, HDF5 and ROOT, read piece by piece.

Each format is a `Table`: it knows its columns after a look at the header, names the pieces of the file that can be
read on their own, and reads one of them. Tables are small and picklable, so that any process can read a piece.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.datasets.tables.base import Table
from pipelines.datasets.tables.csv import CsvTable, open_csv
from pipelines.datasets.tables.hdf5 import open_h5
from pipelines.datasets.tables.numpy import open_npy, open_npz
from pipelines.datasets.tables.parquet import open_parquet
from pipelines.datasets.tables.root import RootTable, open_root
from pipelines.errors import InputError
from pipelines.events.files import regular_file

__all__ = ["ENDINGS", "MAGIC", "CsvTable", "RootTable", "Table", "kind_of", "open_table"]

ENDINGS = {
    "csv": (".csv", ".tsv", ".txt", ".dat", ".csv.gz", ".tsv.gz", ".txt.gz", ".dat.gz"),
    "parquet": (".parquet", ".pq", ".parq"),
    "npy": (".npy",),
    "npz": (".npz",),
    "hdf5": (".h5", ".hdf5", ".hdf"),
    "root": (".root",),
}

MAGIC = {"parquet": b"PAR1", "npy": b"\x93NUMPY", "npz": b"PK", "hdf5": b"\x89HDF\r\n\x1a\n", "root": b"root"}


def kind_of(path: Path) -> str | None:
    """Return which format the name of a file says it has, or None."""
    return next((kind for kind, ends in ENDINGS.items() if path.name.lower().endswith(ends)), None)


def open_table(
    path: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    *,
    tree: str | None = None,
    fill: float | None = None,
) -> Table:
    """Look at the header of a table of any format; its name says which.

    Args:
        path: the file.
        columns: names of the columns, for a format that has none.
        tree: of a ROOT file, the TTree that is meant; not needed if it has one only.
        fill: of a ROOT file, the value of elements that a list does not have; NaN by default.

    Raises `InputError` if it is missing, of no format that is read, damaged, or without names for its columns.
    """
    path = regular_file(path, "a table")
    kind = kind_of(path)
    if kind is None:
        expected = ", ".join(end for ends in ENDINGS.values() for end in ends)
        raise InputError(f"{path}: {path.suffix or 'no'} ending, expected one of {expected}; rename it")
    if kind in ("parquet", "hdf5", "npz", "root") and not os.path.getsize(path):
        raise InputError(f"{path}: is empty, expected a table")
    if kind in ("parquet", "root") and columns is not None:
        raise InputError(f"{path}: {'Parquet' if kind == 'parquet' else 'a tree'} has names; leave columns out")
    if kind == "root":
        return open_root(path, tree, fill)
    if tree is not None or fill is not None:
        raise InputError(f"{path}: is no ROOT file, leave {'tree' if tree is not None else 'fill'} out")
    if kind == "parquet":
        return open_parquet(path)
    openers: dict[str, Callable[[Path, Sequence[str] | None], Table]] = {
        "csv": open_csv,
        "npy": open_npy,
        "npz": open_npz,
        "hdf5": open_h5,
    }
    return openers[kind](path, columns)
