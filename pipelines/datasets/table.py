"""Tables of features in HDF5, as analyses leave them: `features` (N, F), column names, maybe `label`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from pipelines.errors import InputError
from pipelines.events import BLOCK, EventsWriter, open_hdf5

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
        labelled = isinstance(file.get("label"), h5py.Dataset)
        rows = _select(file, columns.index(mass), mass_range, source)
        about = {key: str(file.attrs[key]) for key in ("source", "license", "citation", "dataset") if key in file.attrs}
        about.setdefault("source", str(file.attrs.get("note", source.name)))
        about.setdefault("dataset", "table")
        if labelled:
            about["label_names"] = _label_names(file)
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
    columns = [name.decode() if isinstance(name, bytes) else str(name) for name in names]
    if features.ndim != 2 or features.shape[1] != len(columns):
        raise InputError(f"{source}: features has shape {features.shape}, expected (N, {len(columns)}) as in 'columns'")
    for name in ("label", "weight"):
        if isinstance(file.get(name), h5py.Dataset) and file[name].shape != features.shape[:1]:
            raise InputError(f"{source}: {name} has shape {file[name].shape}, expected {features.shape[:1]}")
    return columns


def _select(file: h5py.File, mass_index: int, mass_range: tuple[float, float] | None, source: Path) -> np.ndarray:
    keep = np.ones(len(file["features"]), bool)
    if mass_range is not None:
        low, high = mass_range
        for start in range(0, len(keep), BLOCK):
            mass = file["features"][start : start + BLOCK, mass_index]
            keep[start : start + BLOCK] = (mass >= low) & (mass < high)
    if not keep.any():
        wanted = f"a mass in [{mass_range[0]:g}, {mass_range[1]:g}) GeV" if mass_range else "anything in it"
        raise InputError(f"{source}: none of {len(keep)} events has {wanted}")
    return np.flatnonzero(keep)


def _block(file, start, stop, picked, columns, source) -> dict[str, np.ndarray]:
    names = [n for n in ("features", "label", "weight") if isinstance(file.get(n), h5py.Dataset)]
    block = {name: file[name][start:stop][picked] for name in names}
    bad = ~np.isfinite(block["features"])
    if bad.any():
        found = ", ".join(f"{c!r} {n}" for c, n in zip(columns, bad.sum(0)) if n)
        raise InputError(f"{source}: NaN or infinite values (column, count) in rows {start} to {stop}: {found}")
    return block


def _label_names(file: h5py.File) -> dict[int, str]:
    if "label_names" in file.attrs:
        return {int(k): str(v) for k, v in json.loads(file.attrs["label_names"]).items()}
    return {int(k): "background" if k == 0 else f"signal {k}" for k in np.unique(file["label"][:])}
