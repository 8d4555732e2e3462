"""NumPy files: an array (.npy), which is mapped, or several in a zip file (.npz), read side by side."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, ClassVar, NamedTuple, cast

import numpy as np

from pipelines.datasets.tables.arrays import (
    NAMES,
    ArrayTable,
    array_table,
    column,
    fields,
    layout,
    matrix_columns,
    unused_arrays,
)
from pipelines.datasets.tables.base import MOST_COLUMNS, Columns, Piece
from pipelines.errors import InputError
from pipelines.events.files import reading
from pipelines.events.hdf5_files import as_text
from pipelines.events.layout import some_of

NPY_HEADER = 2**22  # characters: NumPy's own limit of 10,000 is too short for some hundred named columns
DEPTH = 8  # brackets within brackets: a header has three


class Header(NamedTuple):
    """What the header of an array says: its shape, order and type, and where its values begin."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    begin: int

    @property
    def size(self) -> int:
        """Bytes of the values, which may be more than any machine has."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes], path: Path, name: str = "it") -> Header:
    """Read the header of an array; raises `InputError` for Python objects, and for shapes and texts that are none."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version[0]}.{version[1]} of the format, which has names beyond Latin-1")
    length = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
    start = 8 + (2 if version == (1, 0) else 4)
    text = file.read(min(length, NPY_HEADER + 1))
    if len(text) > NPY_HEADER or len(text) < length:
        raise ValueError(f"a header of {length} bytes")
    _check_depth(text)
    file.seek(0)
    np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file, max_header_size=NPY_HEADER)
    if any(isinstance(n, bool) or not 0 <= n < 2**62 for n in shape):
        raise ValueError(f"shape {str(shape)[:60]}")
    if dtype.hasobject:  # a program that would run when they are read: they never are
        raise InputError(f"{path}: {name} holds Python objects, which are not read; save it as an array of numbers")
    return Header(tuple(int(n) for n in shape), bool(fortran), dtype, start + length)


def _check_depth(text: bytes) -> None:
    """Raise `ValueError` for what would keep Python's parser busy or make it fail: nested brackets, chains of signs."""
    depth = 0
    for byte in text:
        if byte in b"([{":
            depth += 1
            if depth > DEPTH:
                raise ValueError("brackets within brackets in its header")
        elif byte in b")]}":
            depth -= 1
    if any(sign * 3 in text for sign in (b"-", b"+", b"~")):
        raise ValueError("signs in a row in its header")


# -- one array ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class NpyTable(ArrayTable):
    """A NumPy array in a file: records, or (N, F) with names given. It is mapped, not loaded."""

    layout: ClassVar[str] = "NumPy array"

    def _rows(self, start: int, stop: int, names: Sequence[str]) -> Columns:
        rows = _map(self.path)[start:stop]
        return {name: np.array(column(rows, self.places[name][1])) for name in names}


def _map(path: Path) -> np.memmap:
    return np.lib.format.open_memmap(path, mode="r", max_header_size=NPY_HEADER)


def array_header(path: Path) -> Header:
    """Return the header of a .npy file that is as long as it says; raises `InputError` as `open_npy`."""
    with reading(path):
        if not os.path.getsize(path):
            raise InputError(f"{path}: is empty, expected a NumPy array")
        with open(path, "rb") as file:
            header = read_header(file, path)
        if os.path.getsize(path) < header.begin + header.size:
            raise InputError(
                f"{path}: truncated, {os.path.getsize(path)} bytes, its header claims shape {header.shape} of "
                f"{header.dtype}, which takes {header.begin + header.size}"
            )
    return header


def open_npy(path: Path, columns: Sequence[str] | None) -> NpyTable:
    """Look at the header of a NumPy array."""
    header = array_header(path)
    shape, dtype = header.shape, header.dtype
    if len(shape) != (1 if dtype.names else 2):
        raise InputError(f"{path}: has shape {shape} of {dtype}, expected (N, F) and columns, or records with names")
    if dtype.names:
        if columns is not None:
            raise InputError(f"{path}: has names ({', '.join(dtype.names[:4])}, ...); leave columns out")
        found = fields("", dtype)
    else:
        found = matrix_columns(path, "it", shape, dtype, None, columns)
    return cast(NpyTable, array_table(NpyTable, path, found, {}, shape[0]))


# -- several in a zip file ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class NpzTable(ArrayTable):
    """Several NumPy arrays in a zip file, which can be read only from its beginning: a piece is the columns."""

    layout: ClassVar[str] = "NumPy arrays in a zip file"

    def pieces(self, names: Sequence[str]) -> Iterator[Piece]:
        """Yield (first row, row after the last, columns); all arrays are read side by side."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(reading(self.path))
            archive = stack.enter_context(zipfile.ZipFile(self.path))
            members = {self.places[name][0] for name in names}
            streams = {member: _Member(archive, member, stack, self.path) for member in members}
            for start, stop in super().pieces(names):
                values: Columns = {}
                for member, stream in streams.items():
                    there = [name for name in names if self.places[name][0] == member]
                    values |= dict(zip(there, stream.rows(stop - start, [self.places[n][1] for n in there])))
                yield start, stop, values

    def read(self, piece: Piece, names: Sequence[str], skip: bool) -> tuple[Columns, str, int]:
        """Return the columns that the piece brings."""
        start, stop, values = piece
        return values, f"{self.path}, rows {start} to {stop - 1}", 0


class _Member:
    """An array of a zip file, read on and on."""

    def __init__(self, archive: zipfile.ZipFile, name: str, stack: contextlib.ExitStack, path: Path):
        self._archive, self._stack = archive, stack
        self._name, self._file = name, self._open(name)
        self._header = read_header(self._file, path, name)
        self._columns: dict[int, IO[bytes]] = {}

    def _open(self, name: str) -> IO[bytes]:
        return self._stack.enter_context(self._archive.open(f"{name}.npy"))

    def rows(self, count: int, places: Sequence[int | str | None]) -> Iterator[np.ndarray]:
        """Return the next `count` rows of the columns or fields asked for, the same at every call."""
        shape = self._header.shape
        if self._header.fortran and len(shape) == 2:  # whole columns one after the other, as pandas leaves them
            return iter([self._next(self._column_file(int(i)), count, ()) for i in places if i is not None])
        block = self._next(self._file, count, shape[1:])
        return iter([np.ascontiguousarray(column(block, at)) for at in places])

    def _column_file(self, number: int) -> IO[bytes]:
        if number not in self._columns:
            self._columns[number] = self._open(self._name)
            length = self._header.shape[0] * self._header.dtype.itemsize
            self._columns[number].seek(self._header.begin + number * length)
        return self._columns[number]

    def _next(self, file: IO[bytes], count: int, width: tuple[int, ...]) -> np.ndarray:
        shape, dtype = (count, *width), self._header.dtype
        size = math.prod(shape) * dtype.itemsize
        data = file.read(size)
        if len(data) != size:
            raise EOFError(f"{self._name} ends too early")
        return np.frombuffer(data, dtype).reshape(shape)


def open_npz(path: Path, columns: Sequence[str] | None) -> NpzTable:
    """Look at the headers of the arrays in a zip file."""
    shapes: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
    names: dict[str, list[str]] = {}
    with reading(path), zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        if len(members) > MOST_COLUMNS:
            raise InputError(f"{path}: {len(members)} arrays, expected at most {MOST_COLUMNS}")
        twice = [name for name, count in Counter(member.filename for member in members).items() if count > 1]
        if twice:
            raise InputError(f"{path}: {some_of(twice, 5)} is in the zip file more than once; damaged?")
        for member in members:
            name = member.filename.removesuffix(".npy")
            shapes[name] = _member_shape(archive, member, path)
            if name in NAMES and shapes[name][1].kind in "US":
                names[name] = _member_names(archive, member, path)
        named = next((names[name] for name in NAMES if name in names), None)
        found, extra, rows = layout(path, shapes, lambda matrix: named, columns)
    unused = unused_arrays(shapes, found | extra)
    return cast(NpzTable, array_table(NpzTable, path, found, extra, rows, unused=unused))


def _member_shape(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape and type of an array; raises `InputError` unless it can be decompressed, and is as long as it says."""
    name = member.filename.removesuffix(".npy")
    if member.flag_bits & 1:
        raise InputError(f"{path}: {name} is encrypted; save the arrays without a password")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        raise InputError(
            f"{path}: {name} is compressed by method {member.compress_type}, which is not read; use deflate"
        )
    with archive.open(member) as file:
        header = read_header(file, path, name)
    if member.file_size < header.begin + header.size:
        raise InputError(
            f"{path}: {name} claims shape {header.shape} of {header.dtype}, which takes {header.begin + header.size} "
            f"bytes, and has {member.file_size}; damaged or truncated"
        )
    return header.shape, header.dtype


def _member_names(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> list[str]:
    """Return the texts of an array of names."""
    with archive.open(member) as file:
        header = read_header(file, path)
        if header.size > 2**26 or len(header.shape) != 1:
            raise InputError(f"{path}: {member.filename} has shape {header.shape}, expected the names of columns")
        values = np.frombuffer(file.read(header.size), header.dtype)
    return [as_text(text) for text in values.tolist()]
