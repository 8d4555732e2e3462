"""One mass spectrum from a file: CSV, HEPData's CSV and YAML, and all that `pipelines.histograms` reads.

**CSV.** A header line, which comments (`#`) may precede, then a line for every bin: low edge, high edge, events observed,
and further columns, such as a background. Edges are the columns whose names contain "low" and "high", else the first two.

**HEPData CSV.** Comments begin with `#:`. Columns are the centre, `... LOW`, `... HIGH`, the value and its errors. A table
with several dependent variables has a block for each.

**HEPData YAML.** `independent_variables` with `low` and `high` of every bin, and `dependent_variables`.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines import histograms
from pipelines.arguments import argument
from pipelines.errors import InputError
from pipelines.events.layout import some_of
from pipelines.histograms import MOST

Array = NDArray[np.float64]

LARGEST = 20_000_000  # bytes of a table; a spectrum has some hundred bins
BINS = 100_000
LOW = re.compile(r"(?<![a-z])(x?low|min|lower)(?![a-z])", re.IGNORECASE)
HIGH = re.compile(r"(?<![a-z])(x?high|max|upper)(?![a-z])", re.IGNORECASE)
SLACK = 1e-6  # of a bin, by which edges may differ: decimal numbers are not exact
ERRORS = re.compile(r"(^|[\s_])(stat|sys|syst|error|err|total|unc|uncertainty)\b.*|.*[+-]$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class MassSpectrum:
    """A spectrum as a file has it, before it is asked whether its counts can be used.

    Attributes:
        source: what errors call it. observed: name of the column of observed events.
        edges: (B + 1,), rising. counts: (B,) observed. columns: all others by name, (B,) each.
    """

    source: str
    observed: str
    edges: Array
    counts: Array
    columns: Mapping[str, Array]

    def column(self, name: str) -> Array:
        """Return a column by its name; raises `InputError` for one that is not there, and names those that are."""
        if name in self.columns:
            return self.columns[name]
        there = ", ".join(self.columns) or "no other than the edges and the observed events"
        raise InputError(f"{self.source}: no column {name!r}; there are {there}")

    def within(self, mass_range: tuple[float, float]) -> MassSpectrum:
        """Return the bins that lie within a range; raises `InputError` if none does.

        >>> four = MassSpectrum("four", "n", np.arange(5.0), np.ones(4), {})
        >>> four.within((1, 3)).edges.tolist()
        [1.0, 2.0, 3.0]
        """
        low, high = map(float, mass_range)
        if not low < high:
            raise InputError(f"mass range {low:g} to {high:g} is not possible; expected the low end first")
        slack = SLACK * np.diff(self.edges)
        inside = (self.edges[:-1] >= low - slack) & (self.edges[1:] <= high + slack)
        if not inside.any():
            raise InputError(
                f"{self.source}: no bin lies within {low:g} to {high:g}; the spectrum is from {self.edges[0]:g} to "
                f"{self.edges[-1]:g}"
            )
        first, last = np.flatnonzero(inside)[[0, -1]]
        part = slice(first, last + 1)
        return MassSpectrum(
            self.source,
            self.observed,
            self.edges[first : last + 2],
            self.counts[part],
            {name: values[part] for name, values in self.columns.items()},
        )

    def check_poisson(self) -> None:
        """Raise `InputError` for counts that are not numbers of events: negative, not finite, not whole, or all 0."""
        where = f"{self.source}: column {self.observed!r}"
        for wrong, what in (
            (~np.isfinite(self.counts), "is NaN, infinite or missing; expected a number of events"),
            (self.counts < 0, "is negative; expected a number of events"),
            (self.counts >= MOST, f"is {MOST:.0e} or more; expected a number of events"),
            (
                np.abs(self.counts - np.rint(self.counts)) > 1e-9 * np.maximum(1, np.abs(self.counts)),
                "is not a whole number: weighted events and cross-sections do not fluctuate as Poisson numbers; give "
                "numbers of events (a differential cross-section times luminosity, efficiency and width of the bin)",
            ),
        ):
            if wrong.any():
                bad = int(np.flatnonzero(wrong)[0])
                bin_ = f"{self.edges[bad]:g} to {self.edges[bad + 1]:g}"
                raise InputError(f"{where}: {self.counts[bad]:g} in the bin {bin_} {what}")
        if not self.counts.any():
            raise InputError(f"{where}: no event in any bin; expected a spectrum with events")


def read(
    path: str | os.PathLike[str], column: str | None = None, mass_range: tuple[float, float] | None = None
) -> MassSpectrum:
    """Return the spectrum of a file; see the top of this module.

    Args:
        column: of the observed events: a name in the header, or of a histogram. By default the first after the edges, or
            the only histogram.
        mass_range: only bins within, in the unit of the edges.

    Raises:
        InputError: for a file that cannot be read as one of the formats, a column that is not there, bins that overlap
            or leave gaps, edges that are no numbers.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "spectrum.csv"
        >>> _ = path.write_text("# of two bins\\nlow,high,observed,fit\\n10,20,5,4.5\\n20,40,3,3.1\\n")
        >>> found = read(path)
        >>> found.edges.tolist(), found.observed, found.column("fit").tolist()
        ([10.0, 20.0, 40.0], 'observed', [4.5, 3.1])
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file, expected a spectrum in CSV, HEPData YAML, ROOT, HDF5 or hist")
    suffix = path.suffix.lower()
    if suffix in (".csv", ".txt", ".dat"):
        found = _from_csv(_text(path), str(path), column)
    elif suffix in (".yaml", ".yml"):
        found = _from_yaml(_text(path), str(path), column)
    else:
        return _from_histograms(path, column, mass_range)  # of which what lies outside is not looked at
    return found if mass_range is None else found.within(mass_range)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(
                f"{path}: {path.stat().st_size:,} bytes, expected a table of a spectrum's bins, far smaller"
            )
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text, expected a table of a spectrum's bins") from None
    if "\0" in text:
        raise InputError(f"{path}: has NUL characters, expected text")
    return text


# -- histograms ------------------------------------------------------------------------------------------


def _from_histograms(path: Path, column: str | None, mass_range: tuple[float, float] | None) -> MassSpectrum:
    there = histograms.names_in(path)
    chosen = there if column is None else histograms.selected(there, (column,), path)
    if len(chosen) > 1:
        raise InputError(
            f"{path}: {len(chosen)} histograms, expected one; name it by {argument('column')} (there are "
            f"{some_of(chosen, 8)})"
        )
    found = histograms.read(path, select=chosen, mass_range=mass_range)
    bins = int(found.bins[0])
    return MassSpectrum(str(path), found.names[0], found.edges[0, : bins + 1], found.counts[0, :bins], {})


# -- CSV -------------------------------------------------------------------------------------------------


def _from_csv(text: str, source: str, column: str | None) -> MassSpectrum:
    blocks = [block for block in _blocks(text) if block]
    if not blocks:
        raise InputError(f"{source}: no line of a table; expected a header and a line for every bin")
    tables = [_table(block, source) for block in blocks]
    names, _ = tables[0]
    low, high = _edge_columns(names, source)
    edges, order = _edges(tables[0][1][names[low]], tables[0][1][names[high]], source)
    centre = {name for name in names if names[low].lower().startswith(name.lower()) and name != names[low]}
    columns: dict[str, Array] = {}
    for header, table in tables:
        low, high = _edge_columns(header, source)
        other, _ = _edges(table[header[low]], table[header[high]], source)
        if len(other) != len(edges) or not np.allclose(other, edges, rtol=1e-9):
            raise InputError(f"{source}: its tables have different bins; keep one table in the file")
        for name in header:
            if name not in (header[low], header[high]) and name not in centre:
                columns[_unused(name, columns)] = np.asarray(table[name][order], np.float64)
    return _with_observed(source, edges, columns, column)


def _blocks(text: str) -> list[list[tuple[int, str]]]:
    """Tables of a text, which blank lines part, without comments: numbers and contents of their lines."""
    blocks: list[list[tuple[int, str]]] = [[]]
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip(" ,\t"):
            blocks.append([])
        elif not line.lstrip().startswith(("#", '"#')):
            blocks[-1].append((number, line))
    return blocks


def _table(block: list[tuple[int, str]], source: str) -> tuple[list[str], dict[str, Array]]:
    """Names of the columns, and their numbers."""
    delimiter = next((one for one in (",", ";", "\t") if one in block[0][1]), None)
    lines = [line if delimiter else ",".join(line.split()) for _, line in block]
    try:
        rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter or ",", skipinitialspace=True))
    except csv.Error as error:
        raise InputError(f"{source}: not a table ({error}); expected lines of numbers with commas between") from None
    header, rows = [name.strip() for name in rows[0]], rows[1:]
    first = block[0][0]
    if all(_number(cell) is not None for cell in header):
        raise InputError(
            f"{source}: line {first} has numbers where the names of the columns are expected; begin with a line such as "
            f"low,high,observed,background"
        )
    if len(header) < 3:
        raise InputError(
            f"{source}: line {first} has {len(header)} columns, expected at least low edge, high edge and observed events"
        )
    if not rows:
        raise InputError(f"{source}: no line after the header; expected one for every bin")
    if len(rows) > BINS:
        raise InputError(f"{source}: {len(rows):,} lines, expected one for each of a spectrum's bins")
    numbers = np.full((len(rows), len(header)), np.nan)
    for i, row in enumerate(rows):
        line = block[i + 1][0] if i + 1 < len(block) else first + 1 + i
        if len(row) != len(header):
            raise InputError(f"{source}: line {line} has {len(row)} cells, expected {len(header)} as in the header")
        for j, cell in enumerate(row):
            value = _number(cell)
            if value is None and cell.strip() not in ("", "-"):
                raise InputError(f"{source}: line {line}, column {header[j]!r}: {cell[:40]!r} is not a number")
            numbers[i, j] = np.nan if value is None else value
    named: dict[str, Array] = {}
    for j in range(len(header)):
        header[j] = _unused(header[j] or f"column {j + 1}", named)
        named[header[j]] = numbers[:, j]
    return header, named


def _number(cell: str) -> float | None:
    """The number that a cell is, None if it is none; "1_000" is none."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _unused(name: str, taken: Mapping[str, object]) -> str:
    number, unused = 2, name
    while unused in taken:
        unused, number = f"{name} ({number})", number + 1
    return unused


def _edge_columns(names: Sequence[str], source: str) -> tuple[int, int]:
    """Places of the columns of low and high edges."""
    low = [i for i, name in enumerate(names) if LOW.search(name.replace("_", " "))]
    high = [i for i, name in enumerate(names) if HIGH.search(name.replace("_", " "))]
    if len(names) < 3:
        raise InputError(f"{source}: {len(names)} columns, expected at least low edge, high edge and observed events")
    return (low[0], high[0]) if low and high else (0, 1)


def _edges(low: Array, high: Array, source: str) -> tuple[Array, NDArray[np.int64]]:
    """Edges (B + 1,) of bins without gaps, and the order of the lines in which they rise."""
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise InputError(f"{source}: an edge of a bin is NaN, infinite or missing; expected both edges of every bin")
    bad = np.flatnonzero(high <= low)
    if len(bad):
        raise InputError(
            f"{source}: a bin from {low[bad[0]]:g} to {high[bad[0]]:g}, expected the low edge below the high edge; the "
            f"first two columns, or those named low and high, are the edges"
        )
    order = np.argsort(low, kind="stable")
    low, high = low[order], high[order]
    gap = low[1:] - high[:-1]
    bad = np.flatnonzero(np.abs(gap) > SLACK * (high - low)[1:])
    if len(bad):
        what = "a gap" if gap[bad[0]] > 0 else "an overlap"
        raise InputError(
            f"{source}: {what} between the bins that end at {high[bad[0]]:g} and begin at {low[bad[0] + 1]:g}; expected "
            f"bins without gaps; take a range without it ({argument('mass_range')})"
        )
    return np.append(low, high[-1]), order


def _with_observed(source: str, edges: Array, columns: dict[str, Array], column: str | None) -> MassSpectrum:
    if not columns:
        raise InputError(f"{source}: no column but the edges; expected one of observed events")
    observed = next((name for name in columns if not ERRORS.match(name)), next(iter(columns)))
    found = MassSpectrum(source, column or observed, edges, np.empty(0), columns)
    counts = found.column(found.observed)
    others = {name: values for name, values in columns.items() if name != found.observed}
    return dataclasses.replace(found, counts=counts, columns=others)


# -- HEPData YAML ----------------------------------------------------------------------------------------


def _from_yaml(text: str, source: str, column: str | None) -> MassSpectrum:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=loader)):
            raise InputError(
                f"{source}: has YAML aliases, which may stand for endless text; expected a table of HEPData"
            )
        document = yaml.load(text, Loader=loader)  # a safe loader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{source}: no YAML ({reason})") from None
    if not isinstance(document, dict) or not {"independent_variables", "dependent_variables"} <= set(document):
        raise InputError(
            f"{source}: no table of HEPData, expected independent_variables and dependent_variables; take the file of a "
            f"table, not submission.yaml"
        )
    independent = _variables(document, "independent_variables", source)
    if len(independent) != 1:
        raise InputError(f"{source}: {len(independent)} independent variables, expected one, the mass")
    low, high = (np.array([_entry(value, key, source) for value in independent[0][1]]) for key in ("low", "high"))
    if not len(low):
        raise InputError(f"{source}: no bins; expected the low and high edge of each")
    edges, order = _edges(low, high, source)
    columns: dict[str, Array] = {}
    for name, values in _variables(document, "dependent_variables", source):
        if len(values) != len(low):
            raise InputError(f"{source}: {name!r} has {len(values)} values for {len(low)} bins")
        numbers = [_entry(value, "value", source, missing_is_nan=True) for value in values]
        columns[_unused(name, columns)] = np.array(numbers)[order]
    return _with_observed(source, edges, columns, column)


def _variables(document: Mapping[str, Any], kind: str, source: str) -> list[tuple[str, list[Any]]]:
    found = document[kind]
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise InputError(f"{source}: {kind} is no list of variables, expected a table of HEPData")
    variables = []
    for number, one in enumerate(found, 1):
        header, values = one.get("header"), one.get("values")
        if not isinstance(values, list):
            raise InputError(f"{source}: variable {number} of {kind} has no list of values")
        name = header.get("name") if isinstance(header, dict) else None
        variables.append((str(name or f"column {number}"), values))
    return variables


def _entry(value: Any, key: str, source: str, missing_is_nan: bool = False) -> float:
    """The number under a key of one entry of HEPData."""
    number = value.get(key) if isinstance(value, dict) else None
    if isinstance(number, str):
        number = _number(number)
    if isinstance(number, (int, float)) and not isinstance(number, bool):
        try:
            return float(number)
        except OverflowError:
            return float("inf")
    if missing_is_nan:
        return float("nan")
    raise InputError(
        f"{source}: an entry {str(value)[:60]!r} without a number {key!r}, expected low and high of every bin"
    )
