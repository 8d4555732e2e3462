"""The challenge's CSV files: tables of scores, read and written, and its summary of total improvements."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipelines.errors import InputError
from pipelines.events.layout import source_files
from pipelines.leaderboard.table import FIGURES, Table
from pipelines.outputs import new_disk

KEYS = ("Signal", "Model", "Chan")
ERRORS = tuple(f"{figure}_error" for figure in FIGURES)
SUMMARY = ("MinTotalImprovement", "MedianTotalImprovement", "MaxTotalImprovement")


def read(files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Table:
    """Read tables of scores as one; a row that is there twice with the same numbers counts once.

    Args:
        files: CSV with the columns `Signal`, `Model`, `Chan`, `AUC`, `1e-2`, `1e-3`, `1e-4`, in any order among others.

    Raises:
        InputError: naming the file and the line, for a missing or damaged file, a missing column, a number outside
            [0, 1], or one signal, model and channel with two different sets of numbers.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "mine.csv"
        >>> _ = path.write_text("Signal,Model,Chan,AUC,1e-2,1e-3,1e-4\\nstop,VAE,2b,0.87,0.21,0.10,0.05\\n")
        >>> read(path).values.tolist()
        [[0.87, 0.21, 0.1, 0.05]]
    """
    found: dict[tuple[str, ...], _Found] = {}
    for path in source_files(files):
        for where, record in _records(path, (*KEYS, *FIGURES), ERRORS):
            key = tuple(_name(record[column], column, where) for column in KEYS)
            values = [_number(record[figure], figure, where, highest=1) for figure in FIGURES]
            errors = [_number(record.get(error, ""), error, where) for error in ERRORS]
            found[key] = _same(key, found.get(key), (values, errors, where))
    signal, model, channel = (np.array(column) for column in zip(*found))
    figures, spreads = (np.array([row[i] for row in found.values()]) for i in range(2))
    return Table(signal, model, channel, figures, spreads)


_Found = tuple[list[float], list[float], str]  # values, errors, and where they are


def _same(key: tuple[str, ...], before: _Found | None, now: _Found) -> _Found:
    """Return what is known of a row that may have come before; raises `InputError` if it was different then."""
    if before is None:
        return now
    unknown = np.isnan(before[1]).all() or np.isnan(now[1]).all()  # errors in one of two files are no contradiction
    pairs = [(before[0], now[0]), (before[1], now[1])]
    for old, new in pairs[:1] if unknown else pairs:
        if not np.array_equal(old, new, equal_nan=True):
            raise InputError(
                f"{now[2]}: {', '.join(key)} has {_numbers(new)}, but {_numbers(old)} in {before[2]}; "
                f"remove one of them, or call the models differently"
            )
    return now if np.isnan(before[1]).all() else before


def _numbers(values: Sequence[float]) -> str:
    return " ".join("-" if np.isnan(value) else f"{value:.6g}" for value in values)


def _records(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row of a CSV file as where it is ("FILE, line 3") and its fields by column."""
    header, rows = None, 0
    for number, fields in _lines(path, required):
        if header is None:
            header = fields
            _check_header(path, header, required, optional)
            continue
        rows += 1
        where = f"{path}, line {number}"
        if len(fields) != len(header):
            raise InputError(f"{where}: {len(fields)} fields, expected {len(header)}; is the file complete?")
        yield where, dict(zip(header, fields))
    if not rows:
        raise InputError(f"{path}: has a header but no rows; expected a row for each signal, model and channel")


def _lines(path: Path, required: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield number and fields of the first line, and of all others that are not empty."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            reader = csv.reader(file, strict=True)
            yield 1, [field.strip() for field in next(reader, [])]
            yield from ((reader.line_num, [field.strip() for field in row]) for row in reader if row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = "not text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", error)
        raise InputError(f"{path}: {reason}; expected CSV with the columns {', '.join(required)}") from None


def _check_header(path: Path, header: Sequence[str], required: Sequence[str], optional: Sequence[str]) -> None:
    if not header:
        raise InputError(f"{path}: its first line is empty; expected CSV with the columns {', '.join(required)}")
    missing = [name for name in required if name not in header]
    if missing:
        found = repr(", ".join(header))
        found = found if len(found) <= 100 else f"{found[:100]}..."
        hint = "that is a summary of scores; leave it out" if set(SUMMARY) & set(header) else "is it a table of scores?"
        raise InputError(f"{path}: no column {', '.join(missing)}, found {found}; {hint}")
    twice = [name for name in (*required, *optional) if header.count(name) > 1]
    if twice:
        raise InputError(f"{path}: column {twice[0]} is there {header.count(twice[0])} times, expected once")


def read_summary(path: str | os.PathLike[str]) -> dict[str, list[float]]:
    """Return the numbers of `SUMMARY` for each model; raises `InputError` as `read`, and for a model that is twice."""
    found: dict[str, list[float]] = {}
    for where, record in _records(Path(path), ("Model", *SUMMARY)):
        model = _name(record["Model"], "Model", where)
        if model in found:
            raise InputError(f"{where}: model {model} is there for the second time, expected once")
        found[model] = [_number(record[column], column, where) for column in SUMMARY]
    return found


def _name(text: str, column: str, where: str) -> str:
    if not text or not text.isprintable():
        raise InputError(f"{where}: {column} is {text!r}, expected a name")
    return text


def _number(text: str, column: str, where: str, highest: float = np.inf) -> float:
    """Return a number from 0 to `highest`, NaN for an empty field."""
    try:
        value = float(text or "nan")
    except ValueError:
        value = np.inf
    if np.isnan(value) or (0 <= value <= highest and np.isfinite(value) and "_" not in text):
        return value
    expected = "a number from 0 to 1" if highest == 1 else "a number, 0 or more"
    hint = "; is that per cent?" if 1 < value <= 100 and highest == 1 else ", or nothing if it was not measured"
    raise InputError(f"{where}: {column} is {text!r}, expected {expected}{hint}")


def write(table: Table, path: str | os.PathLike[str], *, errors: bool = False) -> None:
    """Write a table as the challenge's CSV, every number with all its digits, whole or not at all.

    `errors` adds the columns of standard errors at the end; the challenge's own programs, which take columns by name,
    read such files too. Raises `InputError` if `path` exists or cannot be written.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "mine.csv"
    >>> from pipelines.leaderboard.merit import entries
    >>> write(entries("mine", "1", np.arange(100.0), {"stop": np.arange(60.0, 120.0)}), path)
    >>> print(path.read_text(), end="")
    Signal,Model,Chan,AUC,1e-2,1e-3,1e-4
    stop,mine,1,0.8666666666666667,0.35,,
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*KEYS, *FIGURES, *(ERRORS if errors else ())])
    numbers = np.hstack([table.values, table.errors]) if errors else table.values
    for *names, row in zip(table.signal, table.model, table.channel, numbers.tolist()):
        lines.writerow([*names, *("" if np.isnan(number) else repr(number) for number in row)])
    with new_disk(path) as disk:
        disk.write(text.getvalue().encode())
