"""Tables of features, as analyses leave them, become events: CSV, Parquet, NumPy, HDF5 and ROOT.

| ending                                  | what is read                                                               |
|-----------------------------------------|----------------------------------------------------------------------------|
| .csv .tsv .txt .dat, each also with .gz | names in the first line; a comma, semicolon or tab between values          |
| .parquet .pq .parq                      | any columns of numbers                                                     |
| .npy                                    | records with named fields, or (N, F) with names given                      |
| .npz                                    | one array a column, or `x` or `features` (N, F) with `columns` or `cols`   |
| .h5 .hdf5 .hdf                          | the same two; records; a DataFrame in pandas' "fixed" layout               |
| .root                                   | a TTree: branches of one number, and elements of lists, as `Jet_pt[0]`     |

Which columns are truth, weights or numbers of events is told by their names (`pipelines.events.column_kinds`): truth and
weights are never features, and a pattern such as `*` takes no event numbers, run numbers, or names of regions.

Nothing that holds a Python object is ever read from an array or a DataFrame: reading one would run its program.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.arguments import argument, check_range, check_texts, check_whole
from pipelines.datasets.table_choice import GEV, Asked, Choice, choose, with_elements
from pipelines.datasets.tables import MAGIC, CsvTable, RootTable, Table, kind_of, open_table
from pipelines.datasets.tables.base import Columns, Piece
from pipelines.datasets.tables.csv import open_text
from pipelines.datasets.tables.root import trees_of
from pipelines.errors import InputError
from pipelines.events.events import BLOCK
from pipelines.events.files import regular_file
from pipelines.events.layout import check_magnitudes, some_of, source_files, typed
from pipelines.jobs.chunks import Arrays, Outcome, write_events
from pipelines.outputs import check_new

UNITS = {"pt": "GeV", "mass": "GeV", "e": "GeV", "mj1j2": "GeV", "mj1j2j3": "GeV", "phi": "rad"}
COLLISION = 14_000  # GeV: no jet of the LHC has more

READ, OUTSIDE, BROKEN = "rows read", "outside the mass range", "broken lines left out"
NOT_FINITE = "left out for NaN, infinite or empty values"
FLAG, ONES, KEPT = "0 or 1 in ", "1 in ", "events kept"  # counts that are not for the user's eyes


def convert(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    mass: str,
    features: Sequence[str] = ("*",),
    label: str | None = None,
    weight: str | None = None,
    columns: Sequence[str] | None = None,
    tree: str | None = None,
    fill: float | None = None,
    mass_range: tuple[float, float] | None = None,
    units: Mapping[str, str] | None = None,
    on_error: str = "stop",
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[int, int | None], object] | None = None,
) -> Outcome:
    """Convert tables, one after the other, to an events file; return the events written and what was left out.

    Args:
        sources: a table of a format named above, or several with the same columns.
        out: events file to make; what it is made of stays in `out.parts` if the process is killed, and the same call
            goes on from there.
        mass: the column that is the mass spectrum; among the features only if they name it, since no pattern means it.
        features: names and shell patterns of columns; a name is that name first, as `tau[1]`. No column that is truth or
            a weight by its name is ever a feature, and a pattern takes no event numbers
            (`pipelines.events.column_kinds.kind_of_column`).
        label: column of truth, whole numbers 0 to 127; by default the one named label, in whatever case.
        weight: column of event weights; by default the one named weight, in whatever case.
        columns: names of the columns, for a table that has none.
        tree: of ROOT files, the TTree; not needed if there is only one.
        fill: of ROOT files, what stands for an element that a list does not have, as `Jet_pt[3]` of an event with three
            jets; by default it is missing.
        mass_range: keep low <= mass < high, GeV.
        units: unit of columns by name or pattern, such as {"pt_*": "MeV"}; keV, MeV and TeV become GeV.
        on_error: "stop", or "skip" to leave out and count lines that cannot be read, and events with values that are
            NaN, infinite or missing.
        workers, scheduler: who reads, as in `pipelines.jobs.executors.open_workers`.
        progress: called with (rows read, rows in all); for text, which must be read to be counted, (events, None).

    Raises:
        InputError: a file that is missing, damaged or without the columns; a line or value that is no number (named
            line and column); NaN, infinite or missing values (named column and count); energies above 14 TeV in
            columns whose unit is not given; nothing left; and as `pipelines.jobs.chunks.in_chunks`.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "jets.csv").write_text("mjj,tau21_1,tau21_2\\n3100,0.4,0.6\\n2950,0.7,0.5\\n")
        >>> convert(folder / "jets.csv", folder / "events.h5", mass="mjj", features=["tau*"])
        Outcome(events=2, counts={'rows read': 2})
    """
    check_new(out)
    if on_error not in ("stop", "skip"):
        raise InputError(f"on_error is {on_error!r}, expected 'stop' or 'skip'")
    for name, value in {"mass": mass, "label": label, "weight": weight, "tree": tree}.items():
        if not isinstance(value, str) and (value is not None or name == "mass"):
            raise InputError(f"{argument(name)} is {value!r}, expected a name in the table")
    features = [features] if isinstance(features, str) else check_texts("features", features, "names and patterns")
    columns = None if columns is None else check_texts("columns", columns)
    mass_range = None if mass_range is None else check_range("mass_range", mass_range)
    if units is not None and not isinstance(units, Mapping):
        raise InputError(f"units is {units!r}, expected units by column, such as {{'pt_*': 'MeV'}}")
    check_whole("workers", workers, 1)
    asked = Asked(mass=mass, features=list(features), label=label, weight=weight)
    tables, asked = with_elements([_open(path, columns, tree, fill) for path in source_files(sources)], asked)
    choice, given = choose(tables, asked, dict(units or {}), mass_range, on_error == "skip")
    total = None if any(table.rows is None for table in tables) else sum(table.rows or 0 for table in tables)
    if total == 0:
        raise InputError(f"{_names(tables)}: none of 0 events has anything in it")
    options = {
        "mass": mass,
        "features": list(features),
        "label": label,
        "weight": weight,
        "tree": tree,
        "fill": fill,
        "columns": None if columns is None else list(columns),
        "mass_range": mass_range and list(mass_range),
        "units": dict(units or {}),
        "on_error": on_error,
        "block": BLOCK,
    }
    done = write_events(
        out,
        _events,
        ((table, piece, choice) for table in tables for piece in table.pieces(choice.names)),
        about=lambda counts: _about(tables, choice, given, counts),
        sources=[table.path for table in tables],
        options=options,
        total=total,
        workers=workers,
        scheduler=scheduler,
        progress=progress if progress is None or total is None else _ByRows(progress, tables, total),
    )
    _warn_of_flags(choice, done.counts, _names(tables))
    counts = {what: n for what, n in done.counts.items() if what != KEPT and not what.startswith((FLAG, ONES))}
    return dataclasses.replace(done, counts=counts, columns=choice.columns(tables[0]))


def _warn_of_flags(choice: Choice, counts: Mapping[str, int], where: str) -> None:
    """Warn of features with the values 0 and 1 only: they may be truth under an unknown name."""
    flags = [
        name
        for name in choice.features
        if 0 < counts.get(ONES + name, 0) < counts.get(FLAG + name, 0) == counts.get(KEPT, 0)
    ]
    if flags:
        warnings.warn(
            f"{where}: {some_of([*map(repr, flags)], 10)} among the features hold{'s' * (len(flags) == 1)} only 0 and 1; "
            f"if that is truth or a selection, leave it out (features '!{flags[0]}')",
            stacklevel=3,
        )


def recognises(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file has the ending and the first bytes of a table, and is not of raw hadrons.

    What is wrong with it otherwise `convert` can tell better, which knows what is asked for.

    >>> from pipelines.datasets.find import find
    >>> recognises(find("lhco_rnd_real")), recognises("no-such-file.csv")
    (False, False)
    """
    from pipelines.datasets import lhco

    kind = kind_of(Path(path))
    if kind is None or not os.path.isfile(path):
        return False
    try:
        with open_text(Path(path)) if kind == "csv" else open(path, "rb") as file:
            head = file.read(512)
    except (OSError, EOFError, zlib.error):
        return kind == "csv"  # zipped and damaged, which no other family has a name for either
    fits = b"\0" not in head if kind == "csv" else head.startswith(MAGIC[kind])
    return fits and not (kind == "hdf5" and lhco.recognises(path))


def describe(path: str | os.PathLike[str]) -> dict[str, object]:
    """Return what a table is: layout, rows, and its columns with their types; raises `InputError` as `convert`.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "jets.csv"
    >>> _ = path.write_text("mjj,tau21_1\\n3100,0.4\\n2950,0.7\\n")
    >>> describe(path)["rows"], describe(path)["columns"]
    (2, {'mjj': 'int64', 'tau21_1': 'double'})
    """
    if kind_of(Path(path)) == "root" and len(trees := trees_of(regular_file(path, "a table"))) > 1:
        return {"file": str(path), "layout": RootTable.layout, "trees": trees, "next": "zoo data convert --tree NAME"}
    table = _open(path, None)
    types = table.guess_types() if isinstance(table, CsvTable) else table.types
    lists = {name: types[name] for name in table.lists} if isinstance(table, RootTable) else {}
    return {
        "file": str(path),
        "layout": table.layout,
        "rows": table.count_lines() if isinstance(table, CsvTable) else table.rows,
        "columns": {name: types[name] for name in table.columns},
        **({"lists, as NAME[0]": lists} if lists else {}),
        "others": {name: table.types[name] for name in table.extra},
        "next": "zoo data convert",
    }


def column_names(
    path: str | os.PathLike[str], columns: Sequence[str] | None = None, tree: str | None = None
) -> tuple[str, ...]:
    """Return the names of a table's columns, in their order, those that hold no numbers among them.

    Args:
        path, columns, tree: as for `convert`.

    Raises `InputError` as `convert` for a file that is missing, damaged, or no table.
    """
    table = _open(path, columns, tree)
    return (*table.columns, *table.extra)


def _open(
    path: str | os.PathLike[str], columns: Sequence[str] | None, tree: str | None = None, fill: float | None = None
) -> Table:
    from pipelines.datasets import lhco

    if kind_of(Path(path)) == "hdf5" and lhco.recognises(path):
        raise InputError(f"{path}: raw hadrons, expected a table; make events of them with `zoo data cluster`")
    return open_table(path, columns, tree=tree, fill=fill)


def _names(tables: Sequence[Table]) -> str:
    return ", ".join(str(table.path) for table in tables)


# -- the events of one piece --------------------------------------------------------------------------------


def _events(table: Table, piece: Piece, choice: Choice) -> tuple[Arrays, dict[str, int]]:
    """Return the events of a piece of a table, and what was left out of it."""
    raw, where, broken = table.read(piece, choice.names, choice.skip)
    values = {name: _as_stored(name, raw[name], choice, where) for name in raw}
    counts = {READ: len(values[choice.mass]) + broken, BROKEN: broken}
    keep = _in_range(values, choice, where, counts)
    keep &= _complete(values, keep, choice, where, counts)
    _check_energies(values, keep, [name for name in choice.suspects if name != choice.mass], where)
    _check_magnitudes(values, keep, [name for name in choice.names if name != choice.label], where)
    _count_flags(values, keep, choice.features, counts)
    arrays = {
        "features": np.stack([values[name][keep] for name in choice.features], axis=1),
        "mass": values[choice.mass][keep],
    }
    if choice.weight is not None:
        arrays["weight"] = values[choice.weight][keep]
    if choice.label is not None:
        arrays["label"] = typed("label", values[choice.label][keep], where)
        found, events = np.unique(arrays["label"], return_counts=True)
        counts |= {f"of label {k}": n for k, n in zip(found.tolist(), events.tolist())}
    return arrays, {what: count for what, count in counts.items() if count}


def _as_stored(name: str, values: np.ndarray, choice: Choice, where: str) -> np.ndarray:
    """Return a column in GeV and float32; the label, which must be whole, as it is."""
    if name == choice.label:
        return values
    return typed("features", values / choice.divisors[name] if name in choice.divisors else values, where)


def _in_range(values: Columns, choice: Choice, where: str, counts: dict[str, int]) -> np.ndarray:
    mass = values[choice.mass]
    keep = np.ones(len(mass), bool)
    if choice.mass in choice.suspects:  # before the range, in which no mass in MeV would be
        _check_energies({choice.mass: mass}, np.isfinite(mass), [choice.mass], where)
    if choice.mass_range is not None:
        low, high = choice.mass_range
        # As it will be stored: a float64 4999.9999 is a float32 5000, which is not below 5000. NaN is outside of any
        # range, and would go without a word.
        keep = (mass >= low) & (mass < high) | ~np.isfinite(mass)
        counts[OUTSIDE] = int((~keep).sum())
    return keep


def _complete(values: Columns, keep: np.ndarray, choice: Choice, where: str, counts: dict[str, int]) -> np.ndarray:
    """Tell which events have finite numbers only; raises `InputError` for others unless they are to be skipped."""
    complete = np.ones(len(keep), bool)
    bad = {}
    for name in choice.names:
        finite = np.isfinite(values[name])
        complete &= finite
        bad[name] = int((~finite & keep).sum())
    bad = {name: count for name, count in bad.items() if count}
    if bad and not choice.skip:
        found = ", ".join(f"{name!r} {count}" for name, count in bad.items())
        filled = f", say what stands for them with {argument('fill')}" if any("[" in name for name in bad) else ""
        raise InputError(
            f"{where}: NaN, infinite or empty values (column, count): {found}; "
            f"choose other features{filled}, or leave such events out with on_error skip"
        )
    counts[NOT_FINITE] = int((keep & ~complete).sum())
    counts |= {f"NaN, infinite or empty in {name}": count for name, count in bad.items()}
    return complete


def _check_energies(values: Columns, keep: np.ndarray, names: Iterable[str], where: str) -> None:
    for name in names:
        most = values[name][keep].max(initial=0)
        if most > COLLISION:
            raise InputError(
                f"{where}: column {name!r} has {most:.5g}, more GeV than LHC protons have; if it is in MeV say so "
                f"with units {name}=MeV, if it is right with {name}=GeV"
            )


def _check_magnitudes(values: Columns, keep: np.ndarray, names: Iterable[str], where: str) -> None:
    """Raise `InputError` for columns whose squares are beyond float32, in which every training would diverge."""
    names = list(names)
    check_magnitudes([np.abs(values[name][keep]).max(initial=0) for name in names], names, where)


def _count_flags(values: Columns, keep: np.ndarray, names: Iterable[str], counts: dict[str, int]) -> None:
    """Count the zeros and ones of features that hold nothing else."""
    counts[KEPT] = int(keep.sum())
    for name in names:
        kept = values[name][keep]
        ones = kept == 1
        if (ones | (kept == 0)).all():
            counts[FLAG + name] = len(kept)
            counts[ONES + name] = int(ones.sum())


# -- the file -----------------------------------------------------------------------------------------------


def _about(
    tables: Sequence[Table], choice: Choice, given: Mapping[str, str], counts: Mapping[str, int]
) -> dict[str, object]:
    """Return the attributes of the events file; raises `InputError` if no event is left."""
    rows = counts.get(READ, 0)
    if rows == sum(counts.get(what, 0) for what in (OUTSIDE, BROKEN, NOT_FINITE)):
        low, high = choice.mass_range or (0, 0)
        wanted = f"a mass in [{low:g}, {high:g}) GeV" if choice.mass_range else "anything in it"
        raise InputError(f"{_names(tables)}: none of {rows} events has {wanted}")
    about: dict[str, object] = {
        "columns": choice.features,
        "units": tuple(_unit(name, given) for name in choice.features),
        "mass_column": choice.mass,
    }
    for what in ("source", "license", "citation", "dataset"):
        found = dict.fromkeys(table.about.get(what) or _default(what, table) for table in tables)
        about[what] = "; ".join(text for text in found if text)
    if choice.label is not None:
        about["label_names"] = _label_names(tables, counts)
    return about


def _unit(name: str, given: Mapping[str, str]) -> str:
    unit = given.get(name) or UNITS.get(name.rsplit("_", 1)[0], "")
    return "GeV" if unit in GEV else unit


def _label_names(tables: Sequence[Table], counts: Mapping[str, int]) -> dict[int, str]:
    names: dict[int, str] = {}
    for table in tables:
        for k, name in table.label_names.items():
            if names.setdefault(k, name) != name:
                raise InputError(f"{table.path}: label {k} is {name!r}, in another table it is {names[k]!r}")
    found = sorted(int(what.rsplit(" ", 1)[1]) for what in counts if what.startswith("of label "))
    return names or {k: f"signal {k}" if k else "background" for k in found}


def _default(what: str, table: Any) -> str:
    return {"source": str(table.path.name), "dataset": "table"}.get(what, "")


class _ByRows:
    """Counts rows read for a progress bar, not events kept, of which nobody knows how many there will be."""

    def __init__(self, progress: Callable[[int, int | None], object], tables: Sequence[Any], total: int):
        self._progress, self._total, self._done = progress, total, 0
        self._sizes = (size for table in tables for size in table.sizes())

    def __call__(self, events: int, total: int | None) -> None:
        self._done += next(self._sizes)
        self._progress(self._done, self._total)
