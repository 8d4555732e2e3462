"""LHC Olympics 2020 raw events: up to 700 hadrons (pt, eta, phi) each, in pandas' "fixed" HDF5 layout.

The published files (R&D: doi 10.5281/zenodo.6466204) hold one table `df/block0_values`, float64, a row for
each event: 2100 columns pt, eta, phi, pt, ... padded with zeros, then, in the R&D files only, the label. The
black boxes' truth is in separate master keys, one number a line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import h5py

# Registers the Blosc filter (32001) of the published files, which h5py alone cannot read.
import hdf5plugin  # noqa: F401
import numpy as np

from pipelines.errors import InputError
from pipelines.events import EventsWriter
from pipelines.features import jets
from pipelines.layout import open_hdf5

TABLE = "df/block0_values"
HADRONS = 700
WIDTH = 3 * HADRONS
LABEL_NAMES = {0: "background", 1: "signal"}

RawBlock = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]


def is_raw(path: str | os.PathLike) -> bool:
    """Tell whether a file has the layout of LHC Olympics raw events (False for anything else, or no file).

    >>> from pipelines.datasets.catalog import find
    >>> is_raw(find("lhco_rnd_real")), is_raw(find("lhco_sim_test"))
    (True, False)
    """
    try:
        with open_hdf5(path) as file:
            return _layout_problem(file) is None
    except InputError:
        return False


def read_raw(path: str | os.PathLike, key: str | os.PathLike | None = None, block: int = 20_000) -> Iterator[RawBlock]:
    """Yield the hadrons of `block` events at a time, without their padding.

    Args:
        path: raw file, N events.
        key: master key of a file without labels: N lines, each 0 or 1.
        block: events read at a time; 20,000 take 340 MB.

    Returns:
        Iterator of (pt, eta, phi, counts, label): flat arrays (M,) in GeV, -, rad, float64; hadrons of each
        event (n,), int64, summing to M; truth (n,) int8, None where neither file nor key has it.

    Raises:
        InputError: at once for a missing or wrong file or key; on reaching them for a momentum that is not
            finite, a negative pt, a label that is not a whole number from 0 to 127, or unreadable rows.

    Example:
        >>> from pipelines.datasets.catalog import find
        >>> pt, eta, phi, counts, label = next(read_raw(find("lhco_rnd_real"), block=100))
        >>> int(counts.sum()) == len(pt), label.shape
        (True, (100,))
    """
    if block < 1:
        raise InputError(f"block is {block}, expected at least 1 event")
    size, has_label = _describe(path)
    if key is not None and has_label:
        raise InputError(f"{path}: has its own label column; leave the key {key} out")
    truth = None if key is None else _read_key(key, size, path)
    return _blocks(Path(path), truth, block)


def cluster(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    key: str | os.PathLike | None = None,
    block: int = 5_000,
    progress: Callable[[int, int], object] | None = None,
    label_names: Mapping[int, str] = LABEL_NAMES,
    license: str = "",
    citation: str = "",
    **jet_options: float,
) -> int:
    """Cluster a raw file into an events file of the 47 jet variables and return its number of events.

    The columns are `pipelines.features.jets.COLUMNS`, the mass is their m_jj.

    Args:
        source: raw file, as for `read_raw`.
        out: events file to make; it appears only when all events are in it.
        key: master key, as for `read_raw`.
        block: events in memory at a time; 5,000 take 0.1 GB and some seconds.
        progress: called with (events done, all events) after every block.
        label_names: what the labels mean.
        license, citation: of the raw file, to go with the events.
        jet_options: `radius`, `subjet_radius`, `dcut`, `min_pt` of `pipelines.features.jets.cluster_events`.

    Raises:
        InputError: as `read_raw`; `out` exists or cannot be written; a jet option is out of range.

    Example:
        >>> import pathlib, tempfile
        >>> from pipelines.datasets.catalog import find
        >>> cluster(find("lhco_rnd_real"), pathlib.Path(tempfile.mkdtemp()) / "events.h5")
        1000
    """
    blocks = read_raw(source, key, block)
    total, _ = _describe(source)
    _cluster_block([], [], [], [], "jet options", jet_options)  # a wrong option is found before any work
    about = {
        "columns": jets.COLUMNS,
        "units": jets.UNITS,
        "mass_column": jets.COLUMNS[-1],
        "dataset": "lhco",
        "label_names": label_names,
        "source": f"clustered from {Path(source).name}",
        "license": license,
        "citation": citation,
    }
    done = 0
    with EventsWriter(out, **about) as writer:
        for pt, eta, phi, counts, label in blocks:
            where = f"{source}, events from row {done}"
            features = _cluster_block(pt, eta, phi, counts, where, jet_options)
            truth = {} if label is None else {"label": label}
            writer.append(features=features, mass=features[:, -1], **truth)
            done += len(counts)
            if progress is not None:
                progress(done, total)
    return done


def describe(path: str | os.PathLike) -> dict[str, object]:
    """Return what a raw file is: its number of events and whether it has labels; raises `InputError` as `read_raw`.

    >>> from pipelines.datasets.catalog import find
    >>> describe(find("lhco_rnd_real"))["events"]
    1000
    """
    events, has_label = _describe(path)
    return {
        "file": str(path),
        "events": events,
        "layout": f"raw LHC Olympics hadrons, up to {HADRONS} an event (pt, eta, phi)",
        "labels": "in the last column" if has_label else "none; a master key may hold them",
        "next": "zoo data cluster",
    }


def _cluster_block(pt, eta, phi, counts, where: str, jet_options: Mapping[str, float]) -> np.ndarray:
    try:
        return jets.cluster_events(pt, eta, phi, counts, **jet_options)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def _layout_problem(file: h5py.File) -> str | None:
    """Say what keeps an open file from being raw events, or None."""
    table = file.get(TABLE)
    if not isinstance(table, h5py.Dataset):
        return f"no dataset {TABLE!r}, found {sorted(file)}; expected a raw LHC Olympics file"
    if table.ndim != 2 or table.shape[1] not in (WIDTH, WIDTH + 1) or table.dtype.kind not in "fiu":
        return (
            f"{TABLE} has shape {table.shape} of {table.dtype}, expected numbers in {WIDTH} columns "
            f"({HADRONS} hadrons x pt, eta, phi) or {WIDTH + 1} (label last); is it the raw file?"
        )
    return None


def _describe(path: str | os.PathLike) -> tuple[int, bool]:
    """Return the number of events and whether they have labels."""
    with open_hdf5(path) as file:
        problem = _layout_problem(file)
        if problem:
            raise InputError(f"{path}: {problem}")
        rows, columns = file[TABLE].shape
        return rows, columns > WIDTH


def _blocks(path: Path, truth: np.ndarray | None, block: int) -> Iterator[RawBlock]:
    with open_hdf5(path) as file:
        table = file[TABLE]
        for start in range(0, len(table), block):
            stop = min(start + block, len(table))
            try:
                rows = table[start:stop]
            except OSError as error:
                reason = str(error).splitlines()[0]
                raise InputError(
                    f"{path}: rows {start} to {stop - 1} cannot be read ({reason}); is the download complete?"
                ) from None
            hadrons = _hadrons(rows, path, start)
            if rows.shape[1] > WIDTH:
                yield *hadrons, _labels(rows[:, WIDTH], path, start)
            else:
                yield *hadrons, None if truth is None else truth[start:stop]


def _hadrons(rows: np.ndarray, path: Path, start: int) -> tuple[np.ndarray, ...]:
    """Return pt, eta, phi and counts of some rows without the padding, which is where pt is 0."""
    pt, eta, phi = (rows[:, quantity:WIDTH:3] for quantity in range(3))
    real = pt != 0
    row = np.repeat(np.arange(len(rows)), real.sum(axis=1))
    pt, eta, phi = (np.asarray(quantity[real], np.float64) for quantity in (pt, eta, phi))
    good = np.isfinite(pt) & np.isfinite(eta) & np.isfinite(phi) & (pt > 0)
    if not good.all():
        bad = np.flatnonzero(~good)[0]
        raise InputError(
            f"{path}: row {start + row[bad]} has a hadron with pt {pt[bad]:g}, eta {eta[bad]:g}, "
            f"phi {phi[bad]:g}, expected finite numbers and pt >= 0; remove that event"
        )
    return pt, eta, phi, np.bincount(row, minlength=len(rows))


def _labels(values: np.ndarray, path: Path, start: int) -> np.ndarray:
    good = (values >= 0) & (values <= 127) & (values == np.floor(values))
    if not good.all():
        bad = np.flatnonzero(~good)[0]
        raise InputError(
            f"{path}: row {start + bad} has label {values[bad]:g} in its last column, "
            f"expected 0 for background or a whole number up to 127 for a signal"
        )
    return values.astype(np.int8)


def _read_key(key: str | os.PathLike, size: int, path: str | os.PathLike) -> np.ndarray:
    """Return the truth (size,) int8 of a master key, whose lines are 0 or 1 (published as 0.0 and 1.0)."""
    try:
        lines = Path(key).read_text(encoding="ascii").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise InputError(f"{key}: {reason}; expected a master key, one number a line") from None
    while lines and not lines[-1].strip():  # a text file ends with a newline
        lines.pop()
    if len(lines) != size:
        raise InputError(f"{key}: {len(lines)} lines, expected {size}, one for each event of {path}; is it its key?")
    truth = np.empty(size, np.int8)
    for number, line in enumerate(lines):
        try:
            value = float(line)
        except ValueError:
            value = np.nan
        if value not in (0.0, 1.0):
            found = repr(line.strip()[:40])
            raise InputError(f"{key}: line {number + 1} is {found}, expected 0 (background) or 1 (signal)")
        truth[number] = value
    return truth
