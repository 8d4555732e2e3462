"""LHC Olympics 2020 raw events: up to 700 hadrons (pt, eta, phi) each, in pandas' "fixed" HDF5 layout.

The published files (R&D: doi 10.5281/zenodo.6466204) hold one table `df/block0_values`, float64, a row for
each event: 2100 columns pt, eta, phi, pt, ... padded with zeros, then, in the R&D files only, the label. The
black boxes' truth is in separate master keys, one number a line. Written again by pandas, the same events may be in
several blocks of different types, such as a label of whole numbers. The blocks come in any order and under any key.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from pipelines.datasets.frames import frame_groups, frame_of
from pipelines.errors import InputError
from pipelines.events.column_kinds import TRUTH, kind_of_column
from pipelines.events.files import reason_of
from pipelines.events.hdf5_files import check_stored, open_hdf5, reading_hdf5
from pipelines.events.layout import read_names, source_files
from pipelines.features.images import ImageOptions
from pipelines.features.jets import JetOptions, find_jets
from pipelines.features.jets import columns as jet_columns
from pipelines.features.jets import units as jet_units
from pipelines.jobs.chunks import Outcome, write_events

TABLE = "df/block0_values"
HADRONS = 700
WIDTH = 3 * HADRONS
LABEL_NAMES = {0: "background", 1: "signal", 2: "signal 2"}  # Black Box 3 has two

RawBlock = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]


def recognises(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file has the layout of LHC Olympics raw events (False for anything else, or no file).

    >>> from pipelines.datasets.find import find
    >>> recognises(find("lhco_rnd_real")), recognises(find("lhco_sim_test"))
    (True, False)
    """
    try:
        with reading_hdf5(path) as file:
            _raw_table(file, path)
    except InputError:
        return False
    return True


def read_raw(
    path: str | os.PathLike[str], key: str | os.PathLike[str] | None = None, block: int = 20_000
) -> Iterator[RawBlock]:
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
        >>> from pipelines.datasets.find import find
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


def convert(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    key: str | os.PathLike[str] | None = None,
    jets: JetOptions | None = None,
    images: ImageOptions | None = None,
    mass: str | None = None,
    block: int = 5_000,
    label_names: Mapping[int, str] | None = None,
    license: str = "",
    citation: str = "",
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[int, int | None], object] | None = None,
) -> Outcome:
    """Cluster raw files into an events file of jet variables (and images, if asked for).

    The columns are `pipelines.features.jets.columns(jets)`. A killed run continues at its last finished block.

    Args:
        sources: raw files, as for `read_raw`.
        out: events file to make; it appears only when all events are in it.
        key: master key of a file without labels, as for `read_raw`; for a single source.
        jets: what jets are; by default two, R = 1.
        images: how to draw them; by default they are not drawn.
        mass: the column that is the mass spectrum; by default the mass of all jets, m_jj or m_jjj.
        block: events done together; 5,000 take 0.2 GB and some seconds.
        label_names: what the labels mean; by default what the files say, or `LABEL_NAMES`.
        license, citation: of the raw files, to go with the events.
        workers, scheduler, progress: as in `pipelines.jobs.chunks.in_chunks`.

    Returns:
        `Outcome`: events written, and how many have fewer jets than were to be taken.

    Raises:
        InputError: as `read_raw`; some files have labels and others not; no such mass column; a hadron of more than
            14,000 GeV; `out` exists or cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> from pipelines.datasets.find import find
        >>> convert([find("lhco_rnd_real")], pathlib.Path(tempfile.mkdtemp()) / "events.h5").events
        1000
    """
    sources = source_files(sources)
    jets = jets or JetOptions()
    columns = jet_columns(jets)
    mass = mass or columns[-1]
    if mass not in columns:
        raise InputError(
            f"mass {mass!r}: no such column; the jets' masses are {', '.join(c for c in columns if c.startswith('mj'))}"
        )
    if block < 1:
        raise InputError(f"block is {block}, expected at least 1 event")
    label_names = _label_names(sources) if label_names is None else label_names
    truth = _truth(sources, key)
    sizes = [_describe(path)[0] for path in sources]
    tasks = (
        (str(path), start, min(start + block, size), jets, images, mass, labels and labels[start : start + block])
        for path, size, labels in zip(sources, sizes, truth)
        for start in range(0, size, block)
    )
    about = {
        "columns": columns,
        "units": jet_units(jets),
        "mass_column": mass,
        "dataset": "lhco",
        "label_names": label_names if any(_describe(path)[1] for path in sources) or key else {},
        "source": f"clustered from {', '.join(Path(path).name for path in sources)}",
        "license": license,
        "citation": citation,
    }
    options = {"block": block, "mass": mass, "jets": str(jets), "images": str(images), "labels": str(label_names)}
    return write_events(
        out,
        _cluster,
        tasks,
        about=about,
        sources=[*sources, *([key] if key else [])],
        options=options,
        total=sum(sizes),
        workers=workers,
        scheduler=scheduler,
        progress=progress,
    )


def _label_names(sources: Sequence[str | os.PathLike[str]]) -> dict[int, str]:
    """Return what labels mean by the files themselves (simulated ones say so), or as published."""
    names: dict[int, str] = {}
    for path in sources:
        with reading_hdf5(path) as file:
            names |= read_names(file.attrs, "label_names", Path(path))
    return LABEL_NAMES | names if names else LABEL_NAMES


def _truth(sources: Sequence[str | os.PathLike[str]], key: str | os.PathLike[str] | None) -> list[bytes | None]:
    """Return the truth of each file from its master key, a byte an event; None for files with truth, or without any key."""
    labelled = [str(path) for path in sources if _describe(path)[1]]
    if key is None:
        if labelled and len(labelled) < len(sources):
            without = next(str(path) for path in sources if str(path) not in labelled)
            raise InputError(f"{without}: no labels, which {labelled[0]} has; cluster them one by one")
        return [None] * len(sources)
    if len(sources) > 1:
        raise InputError(f"{key}: a master key goes with one file, found {len(sources)}; cluster them one by one")
    if labelled:
        raise InputError(f"{labelled[0]}: has its own label column; leave the key {key} out")
    return [_read_key(key, _describe(sources[0])[0], sources[0]).tobytes()]


def _cluster(
    path: str, start: int, stop: int, jets: JetOptions, images: ImageOptions | None, mass: str, truth: bytes | None
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Cluster rows of a raw file: what one worker does at a time."""
    pt, eta, phi, counts, label = next(_blocks(Path(path), None, stop - start, start))
    try:
        found = find_jets(pt, eta, phi, counts, jets, images)
    except ValueError as error:
        raise InputError(f"{path}, events from row {start}: {error}") from None
    chunk = {"features": found.features, "mass": found.features[:, jet_columns(jets).index(mass)]}
    if found.images is not None:
        chunk["images"] = found.images
    if truth is not None:
        label = np.frombuffer(truth, np.int8)
    if label is not None:
        chunk["label"] = label
    return chunk, {f"events with fewer than {jets.njets} jets": found.incomplete}


def describe(path: str | os.PathLike[str]) -> dict[str, object]:
    """Return what a raw file is: its number of events and whether it has labels; raises `InputError` as `read_raw`.

    >>> from pipelines.datasets.find import find
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


class _RawTable(NamedTuple):
    """Where the numbers of a raw file are: datasets, and the columns of each (None: all, in order), the label last."""

    rows: int
    width: int
    parts: tuple[tuple[str, np.ndarray | None], ...]

    def read(self, file: h5py.File, start: int, stop: int) -> np.ndarray:
        """Return rows start <= i < stop, (n, width), as they are, or in float64 if they are of several types."""
        if len(self.parts) == 1 and self.parts[0][1] is None:
            return np.asarray(file[self.parts[0][0]][start:stop])
        found = np.empty((stop - start, self.width), np.float64)
        for name, places in self.parts:
            found[:, places] = file[name][start:stop]
        return found


def _raw_table(file: h5py.File, path: str | os.PathLike[str]) -> _RawTable:
    """Find the hadrons and the label of an open file; raises `InputError` if it is no raw file."""
    frames = frame_groups(file)
    group = frames[0] if len(frames) == 1 else None
    if group is not None and "block0_items" in group:
        return _of_frame(group, path)
    table = file.get(TABLE)
    if not isinstance(table, h5py.Dataset):
        raise InputError(f"{path}: no dataset {TABLE!r}, found {sorted(file)}; expected a raw LHC Olympics file")
    if table.ndim != 2 or table.shape[1] not in (WIDTH, WIDTH + 1) or table.dtype.kind not in "fiu":
        raise InputError(
            f"{path}: {TABLE} has shape {table.shape} of {table.dtype}, expected numbers in {WIDTH} columns "
            f"({HADRONS} hadrons x pt, eta, phi) or {WIDTH + 1} (label last); is it the raw file?"
        )
    others = [name for name in table.parent if name != "block0_values" and name.endswith("_values")]
    if others:
        raise InputError(
            f"{path}: {others[0]} beside {TABLE} has no items that say which columns it holds; write the frame again"
        )
    check_stored(table, path)
    return _RawTable(table.shape[0], table.shape[1], ((TABLE, None),))


def _of_frame(group: h5py.Group, path: str | os.PathLike[str]) -> _RawTable:
    frame = frame_of(group, Path(path))
    wrong = next((str(c.dtype) for c in frame.columns.values() if c.dtype.kind not in "fiub"), None)
    if len(frame.columns) not in (WIDTH, WIDTH + 1) or wrong:
        raise InputError(
            f"{path}: {group.name} has shape {(frame.rows, len(frame.columns))}{f' of {wrong}' if wrong else ''}, expected "
            f"numbers in {WIDTH} columns ({HADRONS} hadrons x pt, eta, phi) or {WIDTH + 1} (with the label), as in {TABLE}; "
            f"is it the raw file?"
        )
    order = list(frame.columns)
    if len(order) > WIDTH:  # the label is last, unless a column says that it is the label
        label = next((name for name in order if kind_of_column(name) == TRUTH), order[-1])
        order = [*(name for name in order if name != label), label]
    place = {name: i for i, name in enumerate(order)}
    parts: dict[str, list[int]] = {}
    for name, column in sorted(frame.columns.items(), key=lambda one: (one[1].dataset, one[1].place)):
        parts.setdefault(column.dataset, []).append(place[name])
    straight = list(range(len(order)))
    kept = ((name, None if at == straight else np.array(at)) for name, at in parts.items())
    return _RawTable(frame.rows, len(order), tuple(kept))


def _describe(path: str | os.PathLike[str]) -> tuple[int, bool]:
    """Return the number of events and whether they have labels."""
    with reading_hdf5(path) as file:
        table = _raw_table(file, path)
    return table.rows, table.width > WIDTH


def _blocks(path: Path, truth: np.ndarray | None, block: int, first: int = 0) -> Iterator[RawBlock]:
    with open_hdf5(path) as file:
        table = _raw_table(file, path)
        for start in range(first, table.rows, block):
            stop = min(start + block, table.rows)
            try:
                rows = table.read(file, start, stop)
            except OSError as error:
                raise InputError(
                    f"{path}: rows {start} to {stop - 1} cannot be read ({reason_of(error)}); is the download complete?"
                ) from None
            hadrons = _hadrons(rows, path, start)
            if rows.shape[1] > WIDTH:
                yield (*hadrons, _labels(rows[:, WIDTH], path, start))
            else:
                yield *hadrons, None if truth is None else truth[start:stop]


def _hadrons(rows: np.ndarray, path: Path, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
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


def _read_key(key: str | os.PathLike[str], size: int, path: str | os.PathLike[str]) -> np.ndarray:
    """Return the truth (size,) int8 of a master key, whose lines are 0 or 1 (published as 0.0 and 1.0), in Black Box 3 also 2."""
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
        if not (0 <= value <= 127 and value == np.floor(value)):
            found = repr(line.strip()[:40])
            raise InputError(f"{key}: line {number + 1} is {found}, expected 0 (background), 1 or 2 (signals)")
        truth[number] = value
    return truth
