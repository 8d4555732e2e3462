"""What every table is: columns that are known after a look at the header, and pieces that can be read alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pipelines.errors import InputError
from pipelines.events import events
from pipelines.events.files import reading
from pipelines.events.layout import check_unique

Columns = dict[str, np.ndarray]
Piece = tuple[Any, ...]

BLOCK = events.BLOCK  # rows of a piece, at most
MOST_COLUMNS = 2**16
MOST_ROWS = 2**40
PIECE_BYTES = 2**27  # of all columns of a piece, also of those that are not asked for


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
    unused: tuple[str, ...] = ()  # arrays of the file that are no columns
    layout: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_column_count(len(self.columns), self.path)
        check_unique((*self.columns, *self.extra), self.path)
        if self.rows is not None and not 0 <= self.rows <= MOST_ROWS:
            raise InputError(f"{self.path}: claims {self.rows} rows, expected at most {MOST_ROWS}; damaged?")

    @property
    def block(self) -> int:
        """The rows of a piece: fewer of a table with many columns."""
        return max(1, min(BLOCK, PIECE_BYTES // (8 * max(1, len(self.columns)))))

    def pieces(self, names: Sequence[str]) -> Iterator[Piece]:
        """Yield what to give to `read`, in the order of the rows."""
        assert self.rows is not None
        for start in range(0, self.rows, self.block):
            yield start, min(start + self.block, self.rows)

    def sizes(self) -> Iterator[int]:
        """Yield the rows of each piece, where `rows` are known."""
        rows = self.rows
        assert rows is not None
        return (min(self.block, rows - start) for start in range(0, rows, self.block))

    def read(self, piece: Piece, names: Sequence[str], skip: bool) -> tuple[Columns, str, int]:
        """Return the named columns (n,) of a piece, where it is for messages, and the rows that were skipped."""
        start, stop = piece
        with reading(self.path, f"rows {start} to {stop - 1}"):
            values = self._rows(start, stop, names)
        return values, f"{self.path}, rows {start} to {stop - 1}", 0

    def is_number(self, name: str) -> bool:
        """Tell whether a column holds numbers, as far as is known before it is read."""
        return name in self.numbers

    def expand(self, patterns: Sequence[str]) -> list[str]:
        """Return patterns, with names for those that mean elements of lists, which only some formats have."""
        return list(patterns)

    def lists_of(self, pattern: str) -> list[str]:
        """Return the lists that a pattern matches, of which single elements can be columns."""
        return []

    def _rows(self, start: int, stop: int, names: Sequence[str]) -> Columns:
        raise NotImplementedError


def check_column_count(count: int, path: Path) -> None:
    """Raise `InputError` if there are too many columns, before anything is made for each of them."""
    if count > MOST_COLUMNS:
        raise InputError(f"{path}: {count} columns, expected at most {MOST_COLUMNS}; is it the right way round?")
