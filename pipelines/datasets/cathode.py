"""The NumPy arrays that are published with CATHODE: LHC Olympics R&D events as five features and their truth.

Each row (6 numbers, float) of `innerdata_train.npy`, `outerdata_train.npy` and so on is, first, m_jj, the mass of the
lighter jet and the mass of the heavier less that of the lighter, all in TeV. Then come tau21 of the lighter and of the
heavier jet, and the label, 1 for signal. They are described in A. Hallin et al., Phys. Rev. D 106 (2022) 055006
(arXiv:2109.00546). Here masses are in GeV, and the features have the names that the same quantities have in other LHC
Olympics files (`pipelines.events.derived`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pipelines.datasets.tables import Table, open_table
from pipelines.datasets.tables.base import Piece
from pipelines.errors import InputError
from pipelines.events.layout import check_finite, source_files, typed
from pipelines.jobs.chunks import Arrays, Outcome, write_events

COLUMNS = ("mass_light", "mass_difference", "tau21_light", "tau21_heavy")
"""Names of the four features."""

UNITS = ("GeV", "GeV", "", "")
PUBLISHED_COLUMNS = ("mass", *COLUMNS, "label")
LABEL_NAMES = {0: "background", 1: "signal"}
GEV_PER_TEV = 1000.0
LARGEST_MASS = 14.0  # TeV: the LHC's collisions
ROUNDING = 1e-3  # TeV below zero that the mass of a light jet may be, by rounding
PROBE = 1000  # rows by which a file is recognised


def recognises(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is such an array, by its shape and its first rows (False for anything else, or no file).

    >>> from pipelines.datasets.find import find
    >>> recognises(find("lhco_rnd_real"))
    False
    """
    if Path(path).suffix != ".npy" or not os.path.isfile(path):
        return False
    try:
        table = open_table(path, PUBLISHED_COLUMNS)
        values = np.stack(list(_first_rows(table).values()), axis=1).astype(np.float64)
    except (InputError, ValueError):  # damaged, or of another shape
        return False
    return len(values) > 0 and _problem(values) is None


def _first_rows(table: Table) -> dict[str, np.ndarray]:
    for piece in table.pieces(PUBLISHED_COLUMNS):
        start, stop = piece[:2]
        return dict(table.read((start, min(stop, start + PROBE)), PUBLISHED_COLUMNS, False)[0])
    return {name: np.empty(0) for name in PUBLISHED_COLUMNS}


def describe(path: str | os.PathLike[str]) -> dict[str, object]:
    """Return what a file of CATHODE's arrays is: events and units; raises `InputError` if it is none."""
    table = open_table(path, PUBLISHED_COLUMNS)
    return {
        "file": str(path),
        "events": table.rows,
        "layout": "CATHODE's array of m_jj, four features, and label; masses in TeV",
        "labels": "in the last column",
        "next": "zoo data convert",
    }


def convert(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    license: str = "",
    citation: str = "",
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[int, int | None], object] | None = None,
) -> Outcome:
    """Make one events file of CATHODE's arrays, one after the other; masses become GeV.

    Args:
        sources: the file, or several.
        out: events file to make; it appears only when all events are in it.
        license, citation: of the sources, to go with the events.
        workers, scheduler, progress: as in `pipelines.jobs.chunks.in_chunks`.

    Returns:
        Number of events, and how many are of each label.

    Raises:
        InputError: no such file, damaged, or of another shape; values that are not finite, or impossible (named row
            and column), such as masses in GeV; `out` exists or cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> np.save(folder / "inner.npy", [[3.5, 0.1, 0.4, 0.2, 0.3, 1.0], [3.4, 0.05, 0.1, 0.6, 0.7, 0.0]])
        >>> convert(folder / "inner.npy", folder / "events.h5")
        Outcome(events=2, counts={'of label 0': 1, 'of label 1': 1})
    """
    tables = [open_table(source, PUBLISHED_COLUMNS) for source in source_files(sources)]
    about = {
        "columns": COLUMNS,
        "units": UNITS,
        "mass_column": "mj1j2",
        "dataset": "lhco",
        "label_names": LABEL_NAMES,
        "source": "CATHODE's arrays " + ", ".join(table.path.name for table in tables),
        "license": license,
        "citation": citation,
    }
    return write_events(
        out,
        _events,
        [(table, piece) for table in tables for piece in table.pieces(PUBLISHED_COLUMNS)],
        about=about,
        sources=[table.path for table in tables],
        options={"reader": "cathode"},
        total=sum(table.rows or 0 for table in tables),
        workers=workers,
        scheduler=scheduler,
        progress=progress,
    )


def _events(table: Table, piece: Piece) -> tuple[Arrays, dict[str, int]]:
    """Return the events of a piece of a table, and how many are of each label."""
    read, where, _ = table.read(piece, PUBLISHED_COLUMNS, False)
    values = np.stack([read[name] for name in PUBLISHED_COLUMNS], axis=1).astype(np.float64)
    check_finite(values, PUBLISHED_COLUMNS, where)
    if problem := _problem(values):
        raise InputError(f"{where}: {problem}")
    masses = GEV_PER_TEV * np.maximum(values[:, :3], 0.0)
    label = typed("label", values[:, 5], where)
    found, events = np.unique(label, return_counts=True)
    arrays = {"features": np.concatenate([masses[:, 1:], values[:, 3:5]], axis=1), "mass": masses[:, 0], "label": label}
    return arrays, {f"of label {k}": n for k, n in zip(found.tolist(), events.tolist())}


def _problem(values: np.ndarray) -> str | None:
    """Return what is not possible in rows of such a file, with the first such row; None if all is."""
    names = ("m_jj", "mass of the lighter jet", "difference of masses", "tau21", "tau21", "label")
    limits = ((0.0, LARGEST_MASS), *((-ROUNDING, LARGEST_MASS),) * 2, *((-ROUNDING, 1.5),) * 2, (0.0, 1.0))
    for place, (name, (low, high)) in enumerate(zip(names, limits)):
        column = values[:, place]
        wrong = ~((column >= low) & (column <= high)) | ((place == 5) & (column != np.round(column)))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            hint = "; is it in GeV? Convert it as a table, with --format table --columns" if place < 3 else ""
            return f"{name} is {column[row]:g} in row {row} of these, expected {low:g} to {high:g}{hint}"
    return None
