"""Events to a file, block by block; see `pipelines.events.layout` for what the file holds."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import hdf5plugin

from pipelines.checksums import create
from pipelines.errors import InputError
from pipelines.events.layout import CHUNK, DTYPES, Description, check_names, check_shapes, typed
from pipelines.outputs import Disk, new_disk

# Smaller than gzip, and several times faster to write and to read. To read such a file with h5py alone, import
# hdf5plugin first, as for the published LHC Olympics files.
COMPRESSION = hdf5plugin.Zstd(clevel=1)


class EventsWriter:
    """Write an events file block by block; it appears under its name only when the block ends well.

    Raises `InputError` if the path exists or cannot be written, or if blocks do not fit together.

    Example:
        >>> import numpy as np, tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "events.h5"
        >>> from pipelines.events.events import Events
        >>> with EventsWriter(path, columns=["pt_1"]) as writer:
        ...     writer.append(features=np.ones((3, 1)), mass=[3000, 3500, 4000])
        >>> len(Events.from_file(path))
        3
    """

    def __init__(
        self, path: str | os.PathLike[str], columns: Sequence[str] = (), *, disk: Disk | None = None, **about: Any
    ):
        self._about = Description(columns=tuple(columns), **about)
        self._path, self._given = Path(path), disk
        check_names(self._about.columns, str(path))

    def __enter__(self) -> EventsWriter:
        with contextlib.ExitStack() as stack:
            self._disk = self._given or stack.enter_context(new_disk(self._path))
            self._file = stack.enter_context(create(self._disk, cache=2**25))  # whole chunks: small appends
            self._output = stack.pop_all()
        return self

    def append(self, **given: Any) -> None:
        """Append rows: `mass` (n,), and the same others of `pipelines.events.layout` at every call."""
        block = {name: typed(name, v, str(self._path)) for name, v in given.items() if v is not None}
        check_shapes({name: values.shape for name, values in block.items()}, self._about, str(self._path))
        for name, values in block.items():
            if name not in self._file:
                self._create(name, values.shape[1:])
            data = self._file[name]
            if data.shape[1:] != values.shape[1:]:
                raise InputError(f"{name} has shape {values.shape}, expected {('n', *data.shape[1:])} as before")
            data.resize(len(data) + len(values), axis=0)
            data[len(data) - len(values) :] = values
        if len({len(self._file[name]) for name in self._file}) != 1:
            raise InputError(f"a block has {sorted(block)}, expected {sorted(self._file)} as the blocks before")
        self._disk.check(self._path)

    def describe(self, **about: Any) -> None:
        """Change what the file will say about itself, such as names that are known only after the last block."""
        self._about = dataclasses.replace(self._about, **about)

    def _create(self, name: str, width: tuple[int, ...]) -> None:
        self._file.create_dataset(
            name,
            shape=(0, *width),
            maxshape=(None, *width),
            dtype=DTYPES[name],
            chunks=(_chunk_rows(width), *width),
            shuffle=True,
            fletcher32=True,
            **COMPRESSION,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if kind is not None:
            return self._output.__exit__(kind, error, traceback)
        with self._output:
            for name, width in (("features", (len(self._about.columns),)), ("mass", ())):
                if name not in self._file and 0 not in width:
                    self._create(name, width)
            self._file.attrs.update(self._about.to_attributes())
        return None


def _chunk_rows(width: tuple[int, ...]) -> int:
    """Return how many events a chunk of the file holds: `CHUNK`, fewer of large ones so that it stays under 4 MB."""
    return max(1, min(CHUNK, 2**20 // max(1, math.prod(width))))
