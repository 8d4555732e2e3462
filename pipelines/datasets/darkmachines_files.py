"""Files of Dark Machines events, as text or compressed by gzip: their first lines, and pieces of whole lines."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from pipelines.datasets.darkmachines_lines import EXAMPLE, Line, sound_line
from pipelines.errors import InputError

LONGEST_LINE = 2**20
OPENING = 2**16
LOOKED_AT = 100  # lines of it


@dataclasses.dataclass(frozen=True)
class Piece:
    """Some whole lines of a file: bytes start to stop of it, or the text itself and the number of lines before."""

    path: str
    start: int = 0
    stop: int = 0
    text: bytes | None = None
    before: int = 0

    def read(self) -> bytes:
        if self.text is not None:
            return self.text
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return file.read(self.stop - self.start)

    def line(self, number: int) -> int:
        """Return the number in the file, from 1, of a line of the piece, from 0."""
        if self.text is not None:
            return self.before + number + 1
        with open(self.path, "rb") as file:
            blocks = iter(lambda: file.read(min(2**20, self.start - file.tell())), b"")
            return sum(block.count(b"\n") for block in blocks) + number + 1


def pieces(path: Path, block: int) -> Iterator[Piece]:
    """Cut a file into pieces of whole lines, each of at least `block` bytes but the last."""
    if is_gzip(path):
        yield from _pieces_of_gzip(path, block)
        return
    size, start = path.stat().st_size, 0
    with open(path, "rb") as file:
        while start < size:
            file.seek(min(start + block, size))
            _check_length(file.readline(LONGEST_LINE), path)
            yield Piece(str(path), start, file.tell())
            start = file.tell()


def _pieces_of_gzip(path: Path, block: int) -> Iterator[Piece]:
    """Decompress a file as far as pieces of it are wanted; raises `InputError` where it is damaged."""
    before = 0
    with gzip.open(path, "rb") as file:
        while True:
            try:
                text = file.read(block)
                rest = file.readline(LONGEST_LINE) if text else b""
            except (EOFError, OSError, zlib.error) as error:
                what = "ends too early" if isinstance(error, EOFError) else f"is damaged ({error})"
                raise InputError(f"{path}: {what}, somewhere after line {before}; is the download complete?") from None
            if not text:
                return
            _check_length(rest, path)
            yield Piece(str(path), text=text + rest, before=before)
            before += (text + rest).count(b"\n")


def _check_length(line: bytes, path: Path) -> None:
    if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
        raise InputError(f"{path}: a line of more than {LONGEST_LINE} bytes, expected Dark Machines events as text")


def is_gzip(path: str | os.PathLike[str]) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def opening_of(path: str | os.PathLike[str]) -> bytes:
    """Return the first 64 KiB of text; raises `InputError` if there is nothing to read."""
    path = Path(path)
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: is {'a folder' if path.is_dir() else 'no file'}, expected Dark Machines events")
    try:
        with gzip.open(path, "rb") if is_gzip(path) else open(path, "rb") as file:
            opening = file.read(OPENING)
    except PermissionError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror})") from None
    except (EOFError, OSError, zlib.error) as error:
        what = "ends too early" if isinstance(error, EOFError) else f"is damaged ({error})"
        raise InputError(f"{path}: {what}; is the download complete?") from None
    if not opening.strip():
        raise InputError(f"{path}: is empty, expected Dark Machines events, one a line")
    return opening


def lines_of(opening: bytes) -> Iterator[str]:
    """Yield the lines of the opening that are there in full and have something in them."""
    lines = opening.decode("latin-1").split("\n")
    if len(opening) == OPENING and len(lines) > 1:
        lines.pop()
    return (line for line in lines if line.strip(" \r"))


def sound_lines(path: str | os.PathLike[str], opening: bytes, *units: str) -> list[Line]:
    """Return the events of a file's opening; raises `InputError`, for its first line, if no line is one."""
    for kind, place, magic in (
        ("a tar archive; unpack it", 257, b"ustar"),
        ("a zip archive; unpack it", 0, b"PK\x03\x04"),
    ):
        if opening[place : place + len(magic)] == magic:
            raise InputError(f"{path}: is {kind}, then convert the .csv files in it")
    found, reasons = [], []
    for line, unit in itertools.product(itertools.islice(lines_of(opening), LOOKED_AT), units):
        try:
            found.append(sound_line(line, unit))
        except ValueError as error:
            reasons.append(f"line {line[:40]!r}: {error}")
    if not found:
        raise InputError(f"{path}: {reasons[0]}; expected Dark Machines events such as {EXAMPLE}")
    return found
