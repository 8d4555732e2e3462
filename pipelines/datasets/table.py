"""Tables of features in HDF5, as analyses leave them: `features` (N, F), column names, maybe `label`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from pipelines.errors import InputError
from pipelines.events import BLOCK, EventsWriter
from pipelines.layout import (
    as_text,
    check_datasets,
    check_finite,
    check_names,
    open_hdf5,
    read_label_names,
    read_rows,
    typed,
)

UNITS = {"pt": "GeV", "mass": "GeV", "e": "GeV", "mj1j2": "GeV", "mj1j2j3": "GeV", "phi": "rad"}


def convert(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    mass: str,
    mass_range: tuple[float, float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Convert an HDF5 table to an events file, block by block, and return the number of events written.

    The table has `features` (N, F) with names in an attribute or dataset `columns`, and maybe `label` (N,) and
    `weight` (N,).

    Args:
        source, out: the table, and the new file.
        mass: the column that is the mass spectrum, GeV; it stays among the features too.
        mass_range: keep low <= mass < high, GeV.
        progress: called with (rows read, rows in all).

    Raises `InputError` for a missing dataset, column or file, for NaN or infinite values, and if nothing is left.
    """
    source = Path(source)
    with open_hdf5(source) as file:
        columns = _columns(file, source)
        if mass not in columns:
            raise InputError(f"{source}: no column {mass!r} for the mass; it has {', '.join(columns)}")
        rows = _select(file, columns, mass, mass_range, source)
        about = {
            key: as_text(file.attrs[key]) for key in ("source", "license", "citation", "dataset") if key in file.attrs
        }
        about.setdefault("source", as_text(file.attrs.get("note", source.name)))
        about.setdefault("dataset", "table")
        if "label" in file:
            about["label_names"] = _label_names(file, source)
        units = tuple(UNITS.get(column.rsplit("_", 1)[0], "") for column in columns)
        with EventsWriter(out, columns, units=units, mass_column=mass, **about) as writer:
            for start in range(0, len(file["features"]), BLOCK):
                stop = min(start + BLOCK, len(file["features"]))
                first, last = np.searchsorted(rows, (start, stop))
                block = _block(file, start, stop, rows[first:last] - start, columns, source)
                writer.append(mass=block["features"][:, columns.index(mass)], **block)
                if progress:
                    progress(stop, len(file["features"]))
    return len(rows)


def _columns(file: h5py.File, source: Path) -> list[str]:
    features = file.get("features")
    if not isinstance(features, h5py.Dataset):
        raise InputError(f"{source}: no dataset 'features', found {sorted(file)}; raw hadrons need `zoo data cluster`")
    names = file.attrs.get("columns", features.attrs.get("columns"))
    if names is None and isinstance(file.get("columns"), h5py.Dataset):
        names = file["columns"][:]
    if names is None:
        raise InputError(f"{source}: no attribute or dataset 'columns' with the names of the features")
    columns = [as_text(name) for name in names]
    if features.ndim != 2 or features.shape[1] != len(columns):
        raise InputError(f"{source}: features has shape {features.shape}, expected (N, {len(columns)}) as in 'columns'")
    check_names(columns, source)
    check_datasets(file, ("features", "label", "weight"), source)
    return columns


def _select(file: h5py.File, columns: list[str], mass: str, mass_range: tuple | None, source: Path) -> np.ndarray:
    keep = np.ones(len(file["features"]), bool)
    if mass_range is not None:
        low, high = mass_range
        if not low < high:
            raise InputError(f"mass range {low:g} to {high:g} GeV is empty; give the lower edge first")
        for start in range(0, len(keep), BLOCK):
            rows = read_rows(file["features"], start, start + BLOCK, str(source))
            # As it will be stored: a float64 4999.9999 is a float32 5000, which is not below 5000.
            found = typed("mass", rows[:, columns.index(mass)], str(source))
            check_finite(found, (mass,), str(source))  # NaN is outside of any range, and would go without a word
            keep[start : start + BLOCK] = (found >= low) & (found < high)
    if not keep.any():
        wanted = f"a mass in [{mass_range[0]:g}, {mass_range[1]:g}) GeV" if mass_range else "anything in it"
        raise InputError(f"{source}: none of {len(keep)} events has {wanted}")
    return np.flatnonzero(keep)


def _block(file, start, stop, picked, columns, source) -> dict[str, np.ndarray]:
    block = {}
    for name in ("features", "label", "weight"):
        if name in file:
            values = read_rows(file[name], start, stop, str(source))[picked]
            block[name] = typed(name, values, str(source))
            check_finite(
                block[name], columns if name == "features" else (name,), f"{source}, rows {start} to {stop - 1}"
            )
    return block


def _label_names(file: h5py.File, source: Path) -> dict[int, str]:
    found = np.unique(typed("label", file["label"][:], str(source)))
    return read_label_names(file.attrs, source) or {int(k): f"signal {k}" if k else "background" for k in found}
