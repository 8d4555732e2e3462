"""Events as training reads them, again and again: packed, one row of float32 an event, kept where there is room.

In memory if they fit there; else in a file of their own, filled in the first pass, from which they come back without
being decompressed, selected and scaled another time; else from the events file itself at every pass. What is read is
the same in all three.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.events.events import Events

log = logging.getLogger(__name__)

MEMORY = 4 * 2**30  # bytes of packed rows that are held in memory, at most
SHARE = 0.5  # and of the memory that is free
SPARE = 2**30  # bytes that must stay free on the disk

Transform = Callable[[np.ndarray], np.ndarray]
Weighting = Callable[[np.ndarray], np.ndarray]
Piece = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Packing:
    """Where an event's numbers stand in its packed row: features, objects, their mask, mass, weight.

    >>> Packing(features=2, objects=(3, 4)).width
    19
    """

    features: int = 0
    objects: tuple[int, int] = (0, 0)

    @property
    def slots(self) -> int:
        return self.objects[0]

    @property
    def width(self) -> int:
        return self.features + self.slots * (self.objects[1] + 1) + 2

    def pack(self, block: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the rows (n, width) of a block of `Events.blocks`."""
        names = ("features",) * bool(self.features) + ("objects", "mask") * bool(self.slots) + ("mass", "weight")
        return np.concatenate([block[name].reshape(len(block["mass"]), -1) for name in names], axis=1, dtype=np.float32)

    def unpack(self, rows: Any) -> dict[str, Any]:
        """Return what rows (B, width), an array or a tensor, hold: a batch."""
        batch, end = {}, self.features
        if self.features:
            batch["features"] = rows[:, :end]
        if self.slots:
            start, end = end, end + self.slots * self.objects[1]
            batch["objects"] = _reshaped(rows[:, start:end], (-1, *self.objects))
            batch["mask"] = rows[:, end : end + self.slots] > 0
        return batch | {"mass": rows[:, -2], "weight": rows[:, -1]}


def _reshaped(values: Any, shape: tuple[int, ...]) -> Any:
    if isinstance(values, np.ndarray):
        return values.reshape(shape)
    import tensorflow as tf

    return tf.reshape(values, (values.shape[0] or -1, *shape[1:]))


class FromFile:
    """Rows straight from the events, read, scaled and weighted every time they are asked for."""

    def __init__(
        self,
        events: Events,
        columns: Sequence[str],
        packing: Packing,
        transform: Transform | None = None,
        weighting: Weighting | None = None,
    ):
        self.events, self.packing = events, packing
        self._columns, self._transform, self._weighting = list(columns), transform, weighting
        self._fields = ("features",) * bool(packing.features) + ("objects", "mask") * bool(packing.slots)

    def read(self, pieces: Sequence[Piece]) -> np.ndarray:
        """Return the rows of pieces (first, last + 1) of the events, in the order of the pieces."""
        rows = np.empty((sum(last - first for first, last in pieces), self.packing.width), np.float32)
        end = 0
        for block in self.blocks(pieces):
            rows[end : end + len(block)] = block
            end += len(block)
        return rows

    def blocks(self, pieces: Sequence[Piece]) -> Iterator[np.ndarray]:
        """Yield those rows in blocks as they are read."""
        for block in self.events.blocks(*self._fields, "mass", "weight", columns=self._columns, rows=pieces):
            if self._transform is not None and self.packing.features:
                block["features"] = np.asarray(self._transform(block["features"]), np.float32)
            if self._weighting is not None:
                block["weight"] = block["weight"] * self._weighting(block["mass"])
            yield self.packing.pack(block)


class InMemory(FromFile):
    """Rows read once and held."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self._rows = super().read([(0, len(self.events))])

    def read(self, pieces: Sequence[Piece]) -> np.ndarray:
        if len(pieces) == 1:
            return self._rows[slice(*pieces[0])]
        return np.concatenate([self._rows[first:last] for first, last in pieces])


class OnDisk(FromFile):
    """Rows kept, as they are first read, in a file without a name, which goes when this process does."""

    def __init__(self, folder: Path, *arguments: Any):
        super().__init__(*arguments)
        self._file = tempfile.TemporaryFile(dir=folder, prefix="hep-anomaly-zoo-")  # noqa: SIM115  (as long as this)
        self._row = 4 * self.packing.width
        os.posix_fallocate(
            self._file.fileno(), 0, max(1, self._row * len(self.events))
        )  # it is ours, not just free now
        self._kept: set[Piece] = set()

    def read(self, pieces: Sequence[Piece]) -> np.ndarray:
        missing = [piece for piece in pieces if piece not in self._kept]
        if missing:
            self._keep(missing, super().read(missing))
        rows = np.empty((sum(last - first for first, last in pieces), self.packing.width), np.float32)
        buffer, end = memoryview(rows.data).cast("B"), 0
        for first, last in pieces:
            size = (last - first) * self._row
            _whole(os.preadv, self._file.fileno(), buffer[end : end + size], first * self._row)
            end += size
        return rows

    def _keep(self, pieces: Sequence[Piece], rows: np.ndarray) -> None:
        start = 0
        for first, last in pieces:
            part = memoryview(rows[start : start + last - first].data).cast("B")
            _whole(os.pwritev, self._file.fileno(), part, first * self._row)
            self._kept.add((first, last))
            start += last - first


def _whole(operation: Callable[..., int], file: int, buffer: memoryview, offset: int) -> None:
    """Read or write all of a buffer: the system may do a part of it."""
    while buffer:
        done = operation(file, [buffer], offset)
        if not done:
            raise OSError(f"cached events end at byte {offset}")
        buffer, offset = buffer[done:], offset + done


def keep(
    events: Events,
    columns: Sequence[str],
    packing: Packing,
    transform: Transform | None = None,
    weighting: Weighting | None = None,
    *,
    memory: int | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> FromFile:
    """Return the rows of events, kept where there is room for them.

    Args:
        memory: bytes that may be held in memory; by default `MEMORY`, or half of what is free if that is less.
        cache: folder for those that do not fit there; by default $TMPDIR, or /var/tmp, which is on a disk where /tmp
            may be memory. An empty string keeps nothing.
    """
    size = 4 * packing.width * len(events)
    arguments = events, columns, packing, transform, weighting
    if size <= (min(MEMORY, SHARE * free_memory()) if memory is None else memory):
        return InMemory(*arguments)
    folder = Path(os.environ.get("TMPDIR") or "/var/tmp") if cache is None else Path(cache)
    if cache == "":
        return FromFile(*arguments)
    try:
        free = shutil.disk_usage(folder).free
        if free >= size + SPARE:
            return OnDisk(folder, *arguments)
        reason = f"it has {free / 2**30:.1f} GB free, {(size + SPARE) / 2**30:.1f} GB are needed"
    except OSError as error:
        reason = str(error.strerror)
    log.warning(
        "events do not fit into memory and are not cached in %s (%s): every pass reads and scales %s anew; set TMPDIR to a "
        "larger disk",
        folder, reason, events.name,
    )  # fmt: skip
    return FromFile(*arguments)


def free_memory() -> float:
    """Return the bytes of memory that this process may still take: of the machine, and of its control groups."""
    with open("/proc/meminfo") as lines:
        free = next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    return min([free, *_room_in_groups()])


def _room_in_groups() -> Iterator[float]:
    """Yield what the control groups of this process leave it: batch farms and containers limit memory by these."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for _, controllers, group in (line.split(":", 2) for line in lines):
        if controllers == "":
            root, limit, used = Path("/sys/fs/cgroup"), "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit, used = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        place = root / group.lstrip("/")
        for folder in (place, *place.parents):
            with contextlib.suppress(OSError, ValueError):  # not there, or "max"
                yield float((folder / limit).read_text()) - float((folder / used).read_text())


def pieces_of(events: Events, size: int) -> list[list[Piece]]:
    """Cut events into units of about `size`, each with its share of every source the events come from.

    >>> events = Events.from_arrays(np.zeros((5, 1)), np.zeros(5), ["x"])
    >>> pieces_of(events, 2)
    [[(0, 2)], [(2, 4)], [(4, 5)]]
    """
    seams = events.seams
    units = -(-len(events) // size)
    if len(seams) == 2:  # whole chunks of the file
        return [[(first, min(first + size, len(events)))] for first in range(0, len(events), size)]
    edges = [
        [start + (end - start) * unit // units for unit in range(units + 1)] for start, end in itertools.pairwise(seams)
    ]
    return [[(e[unit], e[unit + 1]) for e in edges if e[unit] < e[unit + 1]] for unit in range(units)]
