"""How tables lie on disk: CSV, Parquet, NumPy and HDF5, read piece by piece.

Each format is a `Table`: it knows its columns after a look at the header, names the pieces of the file that can be
read on their own, and reads one of them. Tables are small and picklable, so that a piece can be read by any process.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import gzip
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np

from pipelines.errors import InputError
from pipelines.events.events import BLOCK
from pipelines.events.layout import as_text, check_names, open_hdf5, read_names, read_rows

TEXT_BLOCK = 2**22  # bytes of text in a piece: some 10,000 events, half a second of work
NPY_HEADER = 2**20  # characters: NumPy's own limit of 10,000 is too short for some hundred named columns
MATRICES = ("features", "x")  # datasets that hold all columns at once; their names are in one of NAMES
NAMES = ("columns", "cols")

Columns = dict[str, np.ndarray]
Piece = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    """A file with one row an event and one named column a variable.

    `columns` may be features; `extra` are other numbers of an event, which only a mass, label or weight by its own
    name can be. `types` says of both what they are; those in `numbers` can be read.
    """

    path: Path
    columns: tuple[str, ...]
    types: Mapping[str, str]
    numbers: frozenset[str]
    extra: tuple[str, ...] = ()
    rows: int | None = None
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)
    about: Mapping[str, str] = dataclasses.field(default_factory=dict)
    label_names: Mapping[int, str] = dataclasses.field(default_factory=dict)
    layout: ClassVar[str] = ""

    def __post_init__(self):
        check_names((*self.columns, *self.extra), self.path)

    def pieces(self, names: Sequence[str]) -> Iterator[Piece]:
        """Yield what to give to `read`, in the order of the rows."""
        assert self.rows is not None
        for start in range(0, self.rows, BLOCK):
            yield start, min(start + BLOCK, self.rows)

    def sizes(self) -> Iterator[int]:
        """Yield the rows of each piece, where `rows` are known."""
        assert self.rows is not None
        return (min(BLOCK, self.rows - start) for start in range(0, self.rows, BLOCK))

    def read(self, piece: Piece, names: Sequence[str], skip: bool) -> tuple[Columns, str, int]:
        """Return the named columns (n,) of a piece, where it is for messages, and the rows that were skipped."""
        start, stop = piece
        with unbroken(self.path, f"rows {start} to {stop - 1}"):
            values = self._rows(start, stop, names)
        return values, f"{self.path}, rows {start} to {stop - 1}", 0

    def _rows(self, start: int, stop: int, names: Sequence[str]) -> Columns:
        raise NotImplementedError


@contextlib.contextmanager
def unbroken(path: Path, what: str = "") -> Iterator[None]:
    """Turn what libraries raise for a damaged file into an `InputError` that names it."""
    from pyarrow import ArrowException

    try:
        yield
    except InputError:
        raise
    except (OSError, EOFError, ValueError, KeyError, zlib.error, zipfile.BadZipFile, ArrowException) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        where = f"{path}: {what} cannot be read" if what else f"{path}: cannot be read"
        raise InputError(f"{where} ({reason}); damaged or truncated, or not what its name says") from None


# -- CSV ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class CsvTable(Table):
    """Text with a line an event, plain or gzipped. A piece is a range of bytes, or, of a gzipped file, the lines."""

    separator: str = ","
    start: int = 0  # where the first event begins, in bytes of the text
    line: int = 1  # and on which line
    zipped: bool = False
    layout: ClassVar[str] = "text, a line an event"

    def pieces(self, names: Sequence[str]) -> Iterator[Piece]:
        """Yield (start, stop) in bytes, or (first line, text) where a process cannot begin anywhere."""
        with unbroken(self.path), open_text(self.path) as file:
            file.seek(self.start)
            start, line = self.start, self.line
            while True:
                if self.zipped:
                    text = file.read(TEXT_BLOCK) + self._rest(file)
                    piece, size = (line, text), len(text)
                    line += text.count(b"\n")
                else:
                    file.seek(min(start + TEXT_BLOCK, os.path.getsize(self.path)))
                    self._rest(file)
                    piece, size = (start, file.tell()), file.tell() - start
                    start = file.tell()
                if not size:
                    return
                yield piece

    def read(self, piece: Piece, names: Sequence[str], skip: bool) -> tuple[Columns, str, int]:
        """Return the named columns of some lines; a line that cannot be read is left out if `skip`, else told."""
        text = piece[1] if self.zipped else self._text(*piece)
        table, broken = self._parsed(text, names), []
        first = None
        if table is None:
            first = self._first_line(piece)
            lines = text.split(b"\n")
            broken = list(self._broken(lines, 0, len(lines), names, only_first=not skip))
            if not skip:
                raise InputError(self._trouble(lines[broken[0]], first + broken[0], names))
            table = self._without(lines, set(broken), names)
            if table is None:
                broken = sorted({*broken, *_quoted(lines, 0, len(lines))})
                table = self._without(lines, set(broken), names)
        first = self._first_line(piece) if first is None and _has_gaps(table) else first
        values = {name: table[name].to_numpy() for name in names}
        where = f"{self.path}" if first is None else f"{self.path}, lines {first} to {first + _lines(text) - 1}"
        return values, where, len(broken)

    def count_lines(self) -> int:
        """Return how many events the whole file has, by reading it once."""
        with unbroken(self.path):
            return sum(_filled(piece[1] if self.zipped else self._text(*piece)) for piece in self.pieces(self.columns))

    def guess_types(self) -> dict[str, str]:
        """Return what the first lines look like; only reading all of them says what they are."""
        import pyarrow
        from pyarrow import csv as arrow_csv

        with unbroken(self.path), open_text(self.path) as file:
            file.seek(self.start)
            text = file.read(2**16) + self._rest(file)
        try:
            options = arrow_csv.ReadOptions(block_size=len(text), column_names=list(self.columns))
            parsing = arrow_csv.ParseOptions(delimiter=self.separator)
            schema = arrow_csv.read_csv(pyarrow.py_buffer(text), options, parsing).schema
        except pyarrow.ArrowInvalid:
            return dict(self.types)
        return {name: str(kind) for name, kind in zip(schema.names, schema.types)}

    def _rest(self, file) -> bytes:
        """Read on to the end of the line."""
        rest = file.readline(TEXT_BLOCK)
        if len(rest) == TEXT_BLOCK:
            raise InputError(f"{self.path}: a line is longer than {TEXT_BLOCK:,} bytes; is it a table of text?")
        return rest

    def _text(self, start: int, stop: int) -> bytes:
        with unbroken(self.path), open(self.path, "rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def _first_line(self, piece: Piece) -> int:
        """Return the number of a piece's first line; looked for only when there is something to say about it."""
        if self.zipped:
            return piece[0]
        lines, left = self.line, piece[0] - self.start
        with open(self.path, "rb") as file:
            file.seek(self.start)
            while left > 0:
                text = file.read(min(left, TEXT_BLOCK))
                if not text:
                    break
                lines += text.count(b"\n")
                left -= len(text)
        return lines

    def _parsed(self, text: bytes, names: Sequence[str]):
        """Return the named columns as numbers, None where empty; None if any line is not what it should be."""
        import pyarrow
        from pyarrow import csv as arrow_csv

        if b'"' in text and any(line.count(b'"') % 2 for line in text.split(b"\n")):
            return None  # a quote that does not end would swallow the lines after it
        types = {name: pyarrow.float64() for name in names}
        if not text.strip(b"\r\n"):
            return pyarrow.table({name: pyarrow.array([], kind) for name, kind in types.items()})
        try:
            table = arrow_csv.read_csv(
                pyarrow.py_buffer(text),
                arrow_csv.ReadOptions(use_threads=False, block_size=len(text), column_names=list(self.columns)),
                arrow_csv.ParseOptions(delimiter=self.separator),
                arrow_csv.ConvertOptions(include_columns=list(names), column_types=types),
            )
        except pyarrow.ArrowInvalid:
            return None
        return table if table.num_rows in (_lines(text), _filled(text)) else None

    def _broken(self, lines, start: int, stop: int, names, only_first: bool) -> Iterator[int]:
        """Yield the lines that cannot be read, by halving: the parser itself decides, and most are good."""
        if start == stop or self._parsed(b"\n".join(lines[start:stop]), names) is not None:
            return
        if stop - start == 1:
            yield start
            return
        middle, found = (start + stop) // 2, False
        for half in ((start, middle), (middle, stop)):
            for number in self._broken(lines, *half, names, only_first):
                found = True
                yield number
                if only_first:
                    return
        if not found:  # each half is good alone: a quote reaches from one into the other
            yield from _quoted(lines, start, stop)

    def _without(self, lines: Sequence[bytes], broken: set[int], names: Sequence[str]):
        return self._parsed(b"\n".join(line for i, line in enumerate(lines) if i not in broken), names)

    def _trouble(self, line: bytes, number: int, names: Sequence[str]) -> str:
        where = f"{self.path}: line {number}"
        text = line.decode("utf-8", "replace").rstrip("\r")
        if text.count('"') % 2:
            return f'{where} has a quote " that does not end: {text[:60]!r}'
        try:
            cells = next(csv.reader([text], delimiter=self.separator), [])
        except csv.Error as error:
            return f"{where}: {text[:60]!r} cannot be read ({error})"
        if len(cells) != len(self.columns):
            return (
                f"{where} has {_count(len(cells), 'value')}, expected {len(self.columns)} as in the header; "
                f"mend it, or leave such lines out with on_error skip"
            )
        for name in names:
            if self._parsed(line, [name]) is None:
                cell = cells[self.columns.index(name)]
                return (
                    f"{where}, column {name!r}: {cell[:40]!r}, expected a number; choose other columns, "
                    f"mend it, or leave such lines out with on_error skip"
                )
        return f"{where} cannot be read: {text[:60]!r}"


def open_text(path: Path):
    """Open a text file, plain or gzipped, as bytes."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if zipped else open(path, "rb")


def open_csv(path: Path, columns: Sequence[str] | None) -> CsvTable:
    """Look at the first line of a text table."""
    with unbroken(path), open_text(path) as file:
        zipped = isinstance(file, gzip.GzipFile)
        head = file.readline(TEXT_BLOCK)
        separator, cells = _header(head, path)
        numeric = [cell for cell in cells if _is_number(cell)]
        if columns is not None:
            if not numeric or cells == [str(i) for i in range(len(cells))]:  # which pandas writes for no names
                raise InputError(f"{path}: line 1 has names ({', '.join(cells[:4])}, ...); leave columns out")
            if len(columns) != len(cells):
                raise InputError(f"{path}: {len(columns)} names in columns, expected {len(cells)} as line 1 has values")
            names, start, line = tuple(columns), 0, 1
        elif numeric:
            raise InputError(
                f"{path}: line 1 has the number {numeric[0]}, expected the names of the columns; "
                f"give them as columns, one name for each of its {len(cells)} values"
            )
        else:
            names, start, line = tuple(cells), len(head), 2
            if not _any_line(file):
                raise InputError(f"{path}: has a header and no events")
    types = dict.fromkeys(names, "text")
    return CsvTable(path, names, types, frozenset(names), separator=separator, start=start, line=line, zipped=zipped)


def _header(head: bytes, path: Path) -> tuple[str, list[str]]:
    """Return the separator and the cells of the first line."""
    if not head.strip():
        raise InputError(f"{path}: is empty, or begins with an empty line; expected the names of the columns")
    try:
        text = head.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or "\r" in text or len(head) == TEXT_BLOCK:
        raise InputError(f"{path}: line 1 is not UTF-8 text with line ends \\n or \\r\\n; expected a table of text")
    text = text.removeprefix("#").strip(" ")  # as numpy.savetxt writes it
    separator = max(",\t;", key=text.count)
    if separator not in text and len(text.split()) > 1:
        raise InputError(f"{path}: line 1 has words apart by blanks, expected a comma, semicolon or tab between them")
    return separator, [cell.strip() for cell in next(csv.reader([text], delimiter=separator))]


def _any_line(file) -> bool:
    while text := file.read(2**16):
        if text.strip(b"\r\n"):
            return True
    return False


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _quoted(lines: Sequence[bytes], start: int, stop: int) -> Iterator[int]:
    return (number for number in range(start, stop) if b'"' in lines[number])


def _lines(text: bytes) -> int:
    return text.count(b"\n") + (not text.endswith(b"\n"))


def _filled(text: bytes) -> int:
    return sum(bool(line.strip(b"\r")) for line in text.split(b"\n"))


def _has_gaps(table) -> bool:
    return any(column.null_count or not np.isfinite(column.to_numpy()).all() for column in table.columns)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


# -- Parquet ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ParquetTable(Table):
    """A Parquet file. A piece is some row groups, which is what its writer meant to be read at once."""

    groups: tuple[int, ...] = ()  # rows of each
    layout: ClassVar[str] = "Parquet"

    def pieces(self, names: Sequence[str]) -> Iterator[Piece]:
        """Yield (first row, row after the last, row groups); small ones go together."""
        start = stop = 0
        together: list[int] = []
        for group, rows in enumerate(self.groups):
            if together and stop + rows - start > BLOCK:
                yield start, stop, tuple(together)
                start, together = stop, []
            together.append(group)
            stop += rows
        if stop > start:
            yield start, stop, tuple(together)

    def sizes(self) -> Iterator[int]:
        """Yield the rows of each piece."""
        return (stop - start for start, stop, _ in self.pieces(()))

    def read(self, piece: Piece, names: Sequence[str], skip: bool) -> tuple[Columns, str, int]:
        """Return the named columns of some row groups; empty cells are NaN."""
        import pyarrow
        from pyarrow import parquet

        start, stop, groups = piece
        with (
            unbroken(self.path, f"rows {start} to {stop - 1}"),
            parquet.ParquetFile(self.path, page_checksum_verification=True) as file,
        ):
            table = file.read_row_groups(list(groups), columns=list(names), use_threads=False)
            if table.num_rows != stop - start:
                raise ValueError(f"{table.num_rows} rows")
            # Through float64, which has NaN; integers beyond 2^53 would be rounded by float32 all the more.
            values = {name: table[name].cast(pyarrow.float64(), safe=False).to_numpy() for name in names}
        return values, f"{self.path}, rows {start} to {stop - 1}", 0


def open_parquet(path: Path) -> ParquetTable:
    """Look at the schema of a Parquet file."""
    from pyarrow import parquet
    from pyarrow import types as kinds

    with unbroken(path), parquet.ParquetFile(path) as file:
        # An index without a name, which pandas writes along, is the number of a row and no variable of an event.
        fields = [field for field in file.schema_arrow if not field.name.startswith("__index_level_")]
        tests = (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_decimal)
        return ParquetTable(
            path,
            tuple(field.name for field in fields),
            {field.name: str(field.type) for field in fields},
            frozenset(field.name for field in fields if any(test(field.type) for test in tests)),
            rows=file.metadata.num_rows,
            groups=tuple(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)),
        )


# -- arrays: what NumPy and HDF5 files have in common --------------------------------------------------------

Place = tuple[str, int | str | None]  # dataset, and the column or field of it


def _is_numeric(dtype: np.dtype) -> bool:
    return dtype.kind in "fiub" and dtype.shape == ()


def _fields(name: str, dtype: np.dtype) -> dict[str, tuple[Place, np.dtype]]:
    return {field: ((name, field), dtype[field]) for field in dtype.names or ()}


def _array_table(kind: type, path: Path, columns: dict, extra: dict, rows: int, **options) -> Table:
    """Make a table of columns and others given as name -> (place, type)."""
    types = {name: str(dtype) for name, (_, dtype) in (columns | extra).items()}
    places = {name: place for name, (place, _) in (columns | extra).items()}
    numbers = frozenset(name for name, (_, dtype) in (columns | extra).items() if _is_numeric(dtype))
    return kind(path, tuple(columns), types, numbers, tuple(extra), rows, places=places, **options)


def _layout(
    path: Path,
    shapes: Mapping[str, tuple[tuple[int, ...], np.dtype]],
    names_of: Callable[[str], Sequence[str] | None],
    given: Sequence[str] | None,
) -> tuple[dict, dict, int]:
    """Return columns, extra and rows of named arrays: a matrix with names, an array of records, or one a column."""
    matrix = next((n for n in MATRICES if n in shapes and (len(shapes[n][0]) == 2 or names_of(n) is not None)), None)
    matrix = matrix or _only(name for name, (shape, _) in shapes.items() if len(shape) == 2 and given is not None)
    if matrix is not None:
        columns, rows = _matrix(path, matrix, *shapes[matrix], names_of(matrix), given), shapes[matrix][0][0]
        extra = {
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
        return _fields(records, shapes[records][1]), {}, shapes[records][0][0]
    single = {name: ((name, None), dtype) for name, (shape, dtype) in shapes.items() if len(shape) == 1}
    lengths = {shapes[name][0][0] for name in single}
    if len(lengths) > 1:
        raise InputError(f"{path}: columns of different lengths, {_found(shapes)}; expected one value for each event")
    if not single:
        raise InputError(
            f"{path}: no dataset 'features' with names in 'columns', and none with one value an event; "
            f"found {_found(shapes)}"
        )
    return single, {}, lengths.pop()


def _matrix(path, name, shape, dtype, names, given) -> dict[str, tuple[Place, np.dtype]]:
    if names is not None and given is not None:
        raise InputError(f"{path}: {name} has names ({', '.join(names[:4])}, ...); leave columns out")
    names = given if names is None else names
    if names is None:
        raise InputError(f"{path}: no attribute or dataset 'columns' with the names of {name}; give columns")
    if len(shape) != 2 or shape[1] != len(names):
        raise InputError(f"{path}: {name} has shape {shape}, expected (N, {len(names)}) as in 'columns'")
    if not _is_numeric(dtype):
        raise InputError(f"{path}: {name} is of type {dtype}, expected numbers")
    check_names(names, path)
    return {column: ((name, i), dtype) for i, column in enumerate(names)}


def _only(names) -> str | None:
    names = list(names)
    return names[0] if len(names) == 1 else None


def _found(shapes: Mapping[str, tuple]) -> str:
    some = [f"{name!r} {shape}" for name, (shape, _) in list(shapes.items())[:6]]
    return ", ".join(some + ["..."] * (len(shapes) > 6)) or "nothing"


# -- NumPy --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class NpyTable(Table):
    """A NumPy array in a file: records, or (N, F) with names given. It is mapped, not loaded."""

    places: Mapping[str, Place] = dataclasses.field(default_factory=dict)
    layout: ClassVar[str] = "NumPy array"

    def _rows(self, start: int, stop: int, names: Sequence[str]) -> Columns:
        rows = _map(self.path)[start:stop]
        return {name: np.array(_column(rows, self.places[name][1])) for name in names}


def _map(path: Path) -> np.memmap:
    return np.lib.format.open_memmap(path, mode="r", max_header_size=NPY_HEADER)


def _column(rows: np.ndarray, at: int | str | None) -> np.ndarray:
    if at is None:
        return rows
    return rows[at] if isinstance(at, str) else rows[:, at]


def open_npy(path: Path, columns: Sequence[str] | None) -> NpyTable:
    """Look at the header of a NumPy array."""
    with unbroken(path):
        if not os.path.getsize(path):
            raise InputError(f"{path}: is empty, expected a NumPy array")
        with open(path, "rb") as file:
            shape, _, dtype = _npy_header(file)
        _refuse_objects(path, "it", dtype)
        if shape[0:1] != (0,):  # nothing cannot be mapped
            _map(path)
    if len(shape) != (1 if dtype.names else 2):
        raise InputError(f"{path}: has shape {shape} of {dtype}, expected (N, F) and columns, or records with names")
    if dtype.names:
        if columns is not None:
            raise InputError(f"{path}: has names ({', '.join(dtype.names[:4])}, ...); leave columns out")
        found = _fields("", dtype)
    else:
        found = _matrix(path, "it", shape, dtype, None, columns)
    return _array_table(NpyTable, path, found, {}, shape[0])


def _npy_header(file) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version[0]}.{version[1]} of the format, which has names beyond Latin-1")
    return read(file, max_header_size=NPY_HEADER)


def _refuse_objects(path: Path, name: str, dtype: np.dtype) -> None:
    """Python objects in a file are a program that would run when they are read: they never are."""
    if dtype.hasobject:
        raise InputError(f"{path}: {name} holds Python objects, which are not read; save it as an array of numbers")


@dataclasses.dataclass(frozen=True)
class NpzTable(Table):
    """Several NumPy arrays in a zip file, which can be read only from its beginning: a piece is the columns."""

    places: Mapping[str, Place] = dataclasses.field(default_factory=dict)
    layout: ClassVar[str] = "NumPy arrays in a zip file"

    def pieces(self, names: Sequence[str]) -> Iterator[Piece]:
        """Yield (first row, row after the last, columns); all arrays are read side by side."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(unbroken(self.path))
            archive = stack.enter_context(zipfile.ZipFile(self.path))
            members = {self.places[name][0] for name in names}
            streams = {member: _Member(archive, member, stack) for member in members}
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

    def __init__(self, archive: zipfile.ZipFile, name: str, stack: contextlib.ExitStack):
        self._open = lambda: stack.enter_context(archive.open(f"{name}.npy"))
        self._name, self._file = name, self._open()
        self._shape, self._fortran, self._dtype = _npy_header(self._file)
        self._begin, self._done = self._file.tell(), 0
        self._columns: dict[int, Any] = {}

    def rows(self, count: int, places: Sequence[int | str | None]) -> Iterator[np.ndarray]:
        """Return the next `count` rows of the columns or fields asked for, the same at every call."""
        if self._fortran and len(self._shape) == 2:  # whole columns one after the other, as pandas leaves them
            return iter([self._next(self._column_file(int(i)), count, ()) for i in places if i is not None])
        block = self._next(self._file, count, self._shape[1:])
        return iter([np.ascontiguousarray(_column(block, at)) for at in places])

    def _column_file(self, column: int):
        if column not in self._columns:
            self._columns[column] = self._open()
            self._columns[column].seek(self._begin + column * self._shape[0] * self._dtype.itemsize)
        return self._columns[column]

    def _next(self, file, count: int, width: tuple[int, ...]) -> np.ndarray:
        shape = (count, *width)
        size = int(np.prod(shape)) * self._dtype.itemsize
        data = file.read(size)
        if len(data) != size:
            raise EOFError(f"{self._name} ends too early")
        return np.frombuffer(data, self._dtype).reshape(shape)


def open_npz(path: Path, columns: Sequence[str] | None) -> NpzTable:
    """Look at the headers of the arrays in a zip file."""
    shapes, names = {}, {}
    with unbroken(path), zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if not member.endswith(".npy"):
                continue
            name = member.removesuffix(".npy")
            with archive.open(member) as file:
                shape, _, dtype = _npy_header(file)
            _refuse_objects(path, name, dtype)
            shapes[name] = (shape, dtype)
            if name in NAMES and dtype.kind in "US":
                with archive.open(member) as file:
                    names[name] = [as_text(text) for text in np.lib.format.read_array(file).tolist()]
        named = next((names[name] for name in NAMES if name in names), None)
        found, extra, rows = _layout(path, shapes, lambda matrix: named, columns)
    return _array_table(NpzTable, path, found, extra, rows)


# -- HDF5 ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Hdf5Table(Table):
    """HDF5: a matrix with names, one dataset a column, records, or a DataFrame as pandas writes it."""

    places: Mapping[str, Place] = dataclasses.field(default_factory=dict)
    layout: ClassVar[str] = "HDF5"

    def _rows(self, start: int, stop: int, names: Sequence[str]) -> Columns:
        values, blocks = {}, {}
        with open_hdf5(self.path) as file:
            for name in names:
                dataset, at = self.places[name]
                if dataset not in blocks:
                    blocks[dataset] = read_rows(file[dataset], start, stop, str(self.path))
                values[name] = np.ascontiguousarray(_column(blocks[dataset], at))
        return values


def open_h5(path: Path, columns: Sequence[str] | None) -> Hdf5Table:
    """Look at the datasets of an HDF5 file."""
    with open_hdf5(path) as file:
        group = _inner(file)
        if as_text(group.attrs.get("pandas_type", "")).startswith("frame"):
            found, extra, rows = _frame(group, path, columns)
        else:
            found, extra, rows = _plain(group, path, columns)
        units = [as_text(unit) for unit in file.attrs.get("units", ())]
        about = {k: as_text(file.attrs[k]) for k in ("source", "license", "citation", "dataset") if k in file.attrs}
        about |= {"source": as_text(file.attrs["note"])} if "note" in file.attrs and "source" not in about else {}
        return _array_table(
            Hdf5Table,
            path,
            found,
            extra,
            rows,
            units=dict(zip(found, units)) if len(units) == len(found) else {},
            about=about,
            label_names=read_names(file.attrs, "label_names", path),
        )


def _inner(group: h5py.Group) -> h5py.Group:
    """Go into groups that hold nothing but a group."""
    while len(group) == 1 and isinstance(next(iter(group.values())), h5py.Group):
        group = next(iter(group.values()))
    return group


def _plain(group: h5py.Group, path: Path, columns: Sequence[str] | None):
    there = {name: data for name, data in group.items() if isinstance(data, h5py.Dataset)}
    if not there:
        raise InputError(f"{path}: no dataset 'features' and no columns, found {sorted(group)}")
    if "schema_version" in group.attrs and "objects" in there:
        raise InputError(f"{path}: is an events file already, with objects, which no table has")
    if as_text(group.attrs.get("pandas_type", "")):
        raise InputError(f"{path}: is in pandas' 'table' layout; write it with format='fixed', or as Parquet")

    def names_of(matrix: str) -> list[str] | None:
        names = group.file.attrs.get("columns", there[matrix].attrs.get("columns", group.attrs.get("columns")))
        if names is None:
            names = next((there[name][:] for name in NAMES if name in there), None)
        return None if names is None else [as_text(name) for name in names]

    shapes = {name: (data.shape, data.dtype) for name, data in there.items()}
    found, extra, rows = _layout(path, shapes, names_of, columns)
    prefix = group.name.rstrip("/")
    place = {name: ((f"{prefix}/{at[0]}", at[1]), dtype) for name, (at, dtype) in (found | extra).items()}
    return {name: place[name] for name in found}, {name: place[name] for name in extra}, rows


def _frame(group: h5py.Group, path: Path, given: Sequence[str] | None):
    """Return the columns of a pandas DataFrame in the "fixed" layout: blocks of one type, with names for each."""
    if given is not None:
        raise InputError(f"{path}: a DataFrame has names; leave columns out")
    if "axis0" not in group or "block0_values" not in group:
        raise InputError(f"{path}: is in pandas' 'table' layout; write it with format='fixed', or as Parquet")
    order, found = [as_text(name) for name in group["axis0"][:].tolist()], {}
    check_names(order, path)
    for number in range(int(group.attrs.get("nblocks", 1))):
        values, items = group[f"block{number}_values"], group[f"block{number}_items"][:].tolist()
        for i, item in enumerate(items):  # columns of text are one pickled object: of dtype object, never read
            found[as_text(item)] = ((values.name, i), values.dtype)
    rows = group["block0_values"].shape[0]
    return {name: found[name] for name in order}, {}, rows


# -- which of them ------------------------------------------------------------------------------------------

ENDINGS = {
    "csv": (".csv", ".tsv", ".txt", ".dat", ".csv.gz", ".tsv.gz", ".txt.gz", ".dat.gz"),
    "parquet": (".parquet", ".pq", ".parq"),
    "npy": (".npy",),
    "npz": (".npz",),
    "hdf5": (".h5", ".hdf5", ".hdf"),
}

MAGIC = {"parquet": b"PAR1", "npy": b"\x93NUMPY", "npz": b"PK", "hdf5": b"\x89HDF\r\n\x1a\n"}


def kind_of(path: Path) -> str | None:
    """Return which format the name of a file says it has, or None."""
    return next((kind for kind, ends in ENDINGS.items() if path.name.lower().endswith(ends)), None)


def open_table(path: str | os.PathLike, columns: Sequence[str] | None = None) -> Table:
    """Look at the header of a table of any format; its name says which.

    Raises `InputError` if it is missing, of no format that is read, damaged, or without names for its columns.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: is {'a folder' if path.is_dir() else 'no file'}, expected a table")
    kind = kind_of(path)
    if kind is None:
        expected = ", ".join(end for ends in ENDINGS.values() for end in ends)
        raise InputError(f"{path}: {path.suffix or 'no'} ending, expected one of {expected}; rename it")
    if kind in ("parquet", "hdf5", "npz") and not os.path.getsize(path):
        raise InputError(f"{path}: is empty, expected a table")
    if kind == "parquet" and columns is not None:
        raise InputError(f"{path}: Parquet has names; leave columns out")
    if kind == "parquet":
        return open_parquet(path)
    return {"csv": open_csv, "npy": open_npy, "npz": open_npz, "hdf5": open_h5}[kind](path, columns)
