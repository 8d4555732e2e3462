"""Tables of text, a line an event: plain or gzipped, with commas, semicolons or tabs."""

from __future__ import annotations

import csv
import dataclasses
import functools
import gzip
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple, cast

import numpy as np

from pipelines.datasets.tables.base import Columns, Piece, Table, check_column_count
from pipelines.errors import InputError
from pipelines.events.files import is_number, reading

MOST_COMMENTS = 1000  # lines before the names
NOTHING = [  # cells without a value, however programs spell them
    *("", "NULL", "null", "None", "none", "NA", "N/A", "n/a", "#NA", "#N/A", "#N/A N/A", "~"),
    *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
]
TRUE, FALSE = ["true", "True", "TRUE"], ["false", "False", "FALSE"]
# what cells say to Arrow, to which 1 and 0 are true and false too by itself
CELLS = {"null_values": NOTHING, "true_values": TRUE, "false_values": FALSE}
BOM = b"\xef\xbb\xbf"  # how programs of Windows begin a text
TEXT_BLOCK = 2**22  # bytes of text in a piece: some 10,000 events, half a second of work


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
        with reading(self.path), open_text(self.path) as file:
            file.seek(self.start)
            start, line = self.start, self.line
            piece: Piece
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
            if not broken:
                last = first + len(lines) - 1
                raise InputError(f"{self.path}: lines {first} to {last} cannot be read together, though each can alone")
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
        with reading(self.path):
            return sum(_filled(piece[1] if self.zipped else self._text(*piece)) for piece in self.pieces(self.columns))

    def guess_types(self) -> dict[str, str]:
        """Return what the first lines look like; only reading all of them says what they are."""
        table = self._first_rows()
        return (
            dict(self.types)
            if table is None
            else {n: str(kind) for n, kind in zip(table.schema.names, table.schema.types)}
        )

    @functools.cached_property
    def truth_values(self) -> frozenset[str]:
        """The columns of true and false, which are 1 and 0 as in Parquet; of the first lines some may be broken."""
        table = self._first_rows()
        if table is None:
            return frozenset()
        found = set()
        for name, column in zip(table.column_names, table.columns):
            if str(column.type) == "string":
                texts = column.drop_null().to_pylist()
                said = sum(text in TRUE + FALSE for text in texts)
                found |= {name} if said and 2 * said > len(texts) else set()
            elif str(column.type) == "bool":
                found.add(name)
        return frozenset(found)

    def _first_rows(self) -> Any:
        """Return the first lines as a table of the types that they look like, or None if they are none."""
        import pyarrow
        from pyarrow import csv as arrow_csv

        with reading(self.path), open_text(self.path) as file:
            file.seek(self.start)
            text = file.read(2**16) + self._rest(file)
            text = text.decode("utf-8", "replace").encode()  # Arrow prints a trace for a skipped line that is no UTF-8
        try:
            return arrow_csv.read_csv(
                pyarrow.py_buffer(text),
                arrow_csv.ReadOptions(block_size=len(text), column_names=list(self.columns)),
                arrow_csv.ParseOptions(delimiter=self.separator, invalid_row_handler=lambda row: "skip"),
                arrow_csv.ConvertOptions(**CELLS),
            )
        except pyarrow.ArrowInvalid:
            return None

    def is_number(self, name: str) -> bool:
        """Tell whether the first values of a column are numbers."""
        return self.guess_types().get(name, "text") not in ("text", "string", "binary", "timestamp[s]", "date32[day]")

    def _rest(self, file: IO[bytes]) -> bytes:
        """Read on to the end of the line."""
        rest = file.readline(TEXT_BLOCK)
        if len(rest) == TEXT_BLOCK:
            raise InputError(f"{self.path}: a line is longer than {TEXT_BLOCK:,} bytes; is it a table of text?")
        return rest

    def _text(self, start: int, stop: int) -> bytes:
        with reading(self.path), open(self.path, "rb") as file:
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

    def _parsed(self, text: bytes, names: Sequence[str]) -> Any:
        """Return the named columns as numbers, None where empty; None if any line is not what it should be."""
        import pyarrow
        from pyarrow import csv as arrow_csv

        if text.startswith(BOM):
            return None  # Arrow passes over it at the beginning of any piece, and stumbles over it within
        if b'"' in text and any(line.count(b'"') % 2 for line in text.split(b"\n")):
            return None  # a quote that does not end would swallow the lines after it
        number = pyarrow.float64()
        types = {name: pyarrow.bool_() if name in self.truth_values else number for name in names}
        if not text.strip(b"\r\n"):
            return pyarrow.table({name: pyarrow.array([], number) for name in names})
        try:
            table = arrow_csv.read_csv(
                pyarrow.py_buffer(text),
                arrow_csv.ReadOptions(use_threads=False, block_size=len(text), column_names=list(self.columns)),
                arrow_csv.ParseOptions(delimiter=self.separator),
                arrow_csv.ConvertOptions(include_columns=list(names), column_types=types, **CELLS),
            )
        except pyarrow.ArrowInvalid:
            return None
        if table.num_rows not in (_lines(text), _filled(text)):
            return None
        return pyarrow.table({name: table[name].cast(number) for name in names})

    def _broken(
        self, lines: Sequence[bytes], start: int, stop: int, names: Sequence[str], only_first: bool
    ) -> Iterator[int]:
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

    def _without(self, lines: Sequence[bytes], broken: set[int], names: Sequence[str]) -> Any:
        return self._parsed(b"\n".join(line for i, line in enumerate(lines) if i not in broken), names)

    def _trouble(self, line: bytes, number: int, names: Sequence[str]) -> str:
        where = f"{self.path}: line {number}"
        text = line.decode("utf-8", "replace").rstrip("\r")
        if line.startswith(BOM):
            return f"{where} begins with a mark of byte order, as a file does; mend it, or leave such lines out with on_error skip"
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
                is_truth = name in self.truth_values
                wanted = "true or false" if is_truth else "a number"
                both = is_number(cell) if is_truth else cell in TRUE + FALSE
                return (
                    f"{where}, column {name!r}: {cell[:40]!r}, expected {wanted}{' as in its other lines' if both else ''}; "
                    f"choose other columns, mend it, or leave such lines out with on_error skip"
                )
        return f"{where} cannot be read: {text[:60]!r}"


def open_text(path: Path) -> IO[bytes]:
    """Open a text file, plain or gzipped, as bytes."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path)) if zipped else open(path, "rb")


def open_csv(path: Path, columns: Sequence[str] | None) -> CsvTable:
    """Look for the line of names at the beginning of a text table, after comments (#) and empty lines."""
    with reading(path), open_text(path) as file:
        zipped = isinstance(file, gzip.GzipFile)
        comments, first = _opening_lines(file)
        separator, cells = _header(first, path)
        numeric = [cell for cell in cells if is_number(cell)]
        if numeric and columns is None and comments:  # as numpy.savetxt writes it: the names are a comment
            named = _header(comments[-1], path)
            if len(named[1]) == len(cells):
                return _table(path, named[1], separator, first.start, first.number, zipped)
        if columns is not None:
            if not numeric or cells == [str(i) for i in range(len(cells))]:  # which pandas writes for no names
                raise InputError(
                    f"{path}: line {first.number} has names ({', '.join(cells[:4])}, ...); leave columns out"
                )
            if len(columns) != len(cells):
                raise InputError(
                    f"{path}: {len(columns)} names in columns, expected {len(cells)} as line {first.number} has values"
                )
            start = first.start + len(BOM) * first.text.startswith(BOM)
            return _table(path, columns, separator, start, first.number, zipped)
        if numeric:
            raise InputError(
                f"{path}: line {first.number} has the number {numeric[0]}, expected the names of the columns; "
                f"give them as columns, one name for each of its {len(cells)} values"
            )
        if not _any_line(file):
            raise InputError(f"{path}: has a header and no events")
        return _table(path, cells, separator, first.start + len(first.text), first.number + 1, zipped)


class _Line(NamedTuple):
    """A line of text: its bytes, where it begins, and its number from 1."""

    text: bytes
    start: int
    number: int


def _opening_lines(file: IO[bytes]) -> tuple[list[_Line], _Line]:
    """Return the comments at the beginning, and the first line that is none and not empty (or an empty one)."""
    comments: list[_Line] = []
    start = 0
    for number in range(1, MOST_COMMENTS + 1):
        line = _Line(file.readline(TEXT_BLOCK), start, number)
        start += len(line.text)
        if line.text.removeprefix(BOM).startswith(b"#") and line.text.strip():
            comments.append(line)
        elif line.text.strip() or not line.text:
            break
    if not line.text and comments:  # nothing but a comment, which is the names then
        return [], comments[-1]
    return comments, line


def _table(path: Path, names: Sequence[str], separator: str, start: int, line: int, zipped: bool) -> CsvTable:
    types = dict.fromkeys(names, "text")
    return CsvTable(
        path, tuple(names), types, frozenset(names), separator=separator, start=start, line=line, zipped=zipped
    )


def _header(line: _Line, path: Path) -> tuple[str, list[str]]:
    """Return the separator and the cells of a line."""
    head, where = line.text, f"{path}: line {line.number}"
    if not head.strip():
        raise InputError(f"{path}: is empty, or begins with an empty line; expected the names of the columns")
    try:
        text = head.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or "\r" in text or len(head) == TEXT_BLOCK:
        raise InputError(f"{where} is not UTF-8 text with line ends \\n or \\r\\n; expected a table of text")
    text = text.removeprefix("#").strip(" ")  # as numpy.savetxt writes it
    separator = max(",\t;", key=text.count)
    if separator not in text and len(text.split()) > 1:
        raise InputError(
            f"{where} has words apart by blanks, expected the names of the columns with a comma, semicolon or tab "
            f"between them; remove what is before the names, or begin such lines with #"
        )
    check_column_count(text.count(separator) + 1, path)
    return separator, [cell.strip() for cell in next(csv.reader([text], delimiter=separator))]


def _any_line(file: IO[bytes]) -> bool:
    while text := file.read(2**16):
        if text.strip(b"\r\n"):
            return True
    return False


def _quoted(lines: Sequence[bytes], start: int, stop: int) -> Iterator[int]:
    return (number for number in range(start, stop) if b'"' in lines[number])


def _lines(text: bytes) -> int:
    return text.count(b"\n") + (not text.endswith(b"\n"))


def _filled(text: bytes) -> int:
    return sum(bool(line.strip(b"\r")) for line in text.split(b"\n"))


def _has_gaps(table: Any) -> bool:
    return any(column.null_count or not np.isfinite(column.to_numpy()).all() for column in table.columns)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
