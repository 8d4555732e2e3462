"""Parquet files, a piece for some row groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from pipelines.datasets.tables import base
from pipelines.datasets.tables.base import Columns, Piece, Table, check_column_count
from pipelines.errors import InputError
from pipelines.events.files import reading

MOST_BYTES = 2**31  # of a row group, of the columns that are asked for


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
            if together and stop + rows - start > base.BLOCK:
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
        self._check_size(groups, len(names))
        with (
            reading(self.path, f"rows {start} to {stop - 1}"),
            parquet.ParquetFile(self.path, page_checksum_verification=True) as file,
        ):
            table = file.read_row_groups(list(groups), columns=list(names), use_threads=False)
            if table.num_rows != stop - start:
                raise ValueError(f"{table.num_rows} rows")
            # Through float64, which has NaN; integers beyond 2^53 would be rounded by float32 all the more.
            values = {name: table[name].cast(pyarrow.float64(), safe=False).to_numpy() for name in names}
        return values, f"{self.path}, rows {start} to {stop - 1}", 0

    def _check_size(self, groups: Sequence[int], columns: int) -> None:
        """Raise `InputError` for row groups that would take gigabytes: a few bytes can hold a billion equal values."""
        for group in groups:
            if 8 * columns * self.groups[group] > MOST_BYTES:
                raise InputError(
                    f"{self.path}: row group {group} has {self.groups[group]} rows, too many to be read at once; write it "
                    f"with row groups of a million rows"
                )


def open_parquet(path: Path) -> ParquetTable:
    """Look at the schema of a Parquet file."""
    from pyarrow import parquet
    from pyarrow import types as kinds

    with reading(path), parquet.ParquetFile(path) as file:
        check_column_count(len(file.schema_arrow), path)
        # An index without a name, which pandas writes along, is the number of a row and no variable of an event.
        fields = [field for field in file.schema_arrow if not field.name.startswith("__index_level_")]
        tests = (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_decimal)
        groups = tuple(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))
        if sum(groups) != file.metadata.num_rows or min(groups, default=0) < 0:
            raise InputError(f"{path}: claims {file.metadata.num_rows} rows, its groups have {sum(groups)}; damaged")
        return ParquetTable(
            path,
            tuple(field.name for field in fields),
            {field.name: str(field.type) for field in fields},
            frozenset(field.name for field in fields if any(test(field.type) for test in tests)),
            rows=file.metadata.num_rows,
            groups=groups,
        )
