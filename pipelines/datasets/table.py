"""Tables of features, as analyses leave them, become events: CSV, Parquet, NumPy and HDF5.

| ending                                  | what is read                                                               |
|-----------------------------------------|----------------------------------------------------------------------------|
| .csv .tsv .txt .dat, each also with .gz | names in the first line; a comma, semicolon or tab between values          |
| .parquet .pq .parq                      | any columns of numbers                                                     |
| .npy                                    | records with named fields, or (N, F) with names given                      |
| .npz                                    | one array a column, or `x` or `features` (N, F) with `columns` or `cols`   |
| .h5 .hdf5 .hdf                          | the same two; records; a DataFrame in pandas' "fixed" layout               |

Nothing that holds a Python object is ever read from an array or a DataFrame: reading one would run its program.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipelines.errors import InputError
from pipelines.events.events import BLOCK
from pipelines.events.layout import match_columns, source_files, typed
from pipelines.jobs.chunks import Arrays, Outcome, write_events
from pipelines.outputs import check_new

UNITS = {"pt": "GeV", "mass": "GeV", "e": "GeV", "mj1j2": "GeV", "mj1j2j3": "GeV", "phi": "rad"}
GEV = {"keV": 1e6, "MeV": 1e3, "GeV": 1.0, "TeV": 1e-3}  # of these make one GeV
ENERGY = re.compile(r"(pt|e|m|mass|energy|met|ht|mjj|mj1j2|mj1j2j3)(_?j?\d+|_.*)?", re.IGNORECASE)
COLLISION = 14_000  # GeV: no jet of the LHC has more

READ, OUTSIDE, BROKEN = "rows read", "outside the mass range", "broken lines left out"
NOT_FINITE = "left out for NaN, infinite or empty values"


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is taken from each table, and how."""

    features: tuple[str, ...]
    mass: str
    label: str | None
    weight: str | None
    mass_range: tuple[float, float] | None
    divisors: Mapping[str, float]  # of columns that are in no GeV
    suspects: tuple[str, ...]  # columns in GeV by their name alone
    skip: bool

    @property
    def names(self) -> tuple[str, ...]:
        """All columns to read."""
        others = (self.mass, self.label, self.weight)
        return tuple(dict.fromkeys([*self.features, *(name for name in others if name is not None)]))


def convert(
    sources: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    mass: str,
    features: Sequence[str] = ("*",),
    label: str | None = None,
    weight: str | None = None,
    columns: Sequence[str] | None = None,
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
        mass: the column that is the mass spectrum; among the features only if they match it too.
        features: names and shell patterns of columns; label and weight are never among them.
        label: column of truth, whole numbers 0 to 127; "label" if there is one. No column named label, process, weight,
            is_signal, signal, target or truth is ever a feature.
        weight: column of event weights; "weight" if there is one.
        columns: names of the columns, for a table that has none.
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
    if mass_range is not None and not mass_range[0] < mass_range[1]:
        low, high = mass_range
        raise InputError(f"mass range {low:g} to {high:g} GeV is empty; give the lower edge first")
    tables = _open_all(sources, columns)
    asked = {"mass": mass, "features": list(features), "label": label, "weight": weight}
    choice, given = _choose(tables, asked, dict(units or {}), mass_range, on_error == "skip")
    total = None if any(table.rows is None for table in tables) else sum(table.rows for table in tables)
    if total == 0:
        raise InputError(f"{_names(tables)}: none of 0 events has anything in it")
    return write_events(
        out,
        _events,
        ((table, piece, choice) for table in tables for piece in table.pieces(choice.names)),
        about=lambda counts: _about(tables, choice, given, counts),
        sources=[table.path for table in tables],
        options=asked
        | {"columns": None if columns is None else list(columns), "mass_range": mass_range and list(mass_range)}
        | {"units": dict(units or {}), "on_error": on_error, "block": BLOCK},
        total=total,
        workers=workers,
        scheduler=scheduler,
        progress=progress if progress is None or total is None else _ByRows(progress, tables, total),
    )


def recognises(path: str | os.PathLike) -> bool:
    """Tell whether a file has the ending and the first bytes of a table, and is not of raw hadrons.

    What is wrong with it otherwise `convert` can tell better, which knows what is asked for.

    >>> from pipelines.datasets.catalog import find
    >>> recognises(find("lhco_rnd_real")), recognises("no-such-file.csv")
    (False, False)
    """
    from pipelines.datasets import lhco
    from pipelines.datasets.table_formats import MAGIC, kind_of, open_text

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


def describe(path: str | os.PathLike) -> dict[str, object]:
    """Return what a table is: layout, rows, and its columns with their types; raises `InputError` as `convert`.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "jets.csv"
    >>> _ = path.write_text("mjj,tau21_1\\n3100,0.4\\n2950,0.7\\n")
    >>> describe(path)["rows"], describe(path)["columns"]
    (2, {'mjj': 'int64', 'tau21_1': 'double'})
    """
    from pipelines.datasets.table_formats import CsvTable

    table = _open(path, None)
    text = isinstance(table, CsvTable)
    types = table.guess_types() if text else table.types
    return {
        "file": str(path),
        "layout": table.layout,
        "rows": table.count_lines() if text else table.rows,
        "columns": {name: types[name] for name in table.columns},
        "others": {name: table.types[name] for name in table.extra},
        "next": "zoo data convert",
    }


# -- what to take -------------------------------------------------------------------------------------------


def _open(path: str | os.PathLike, columns: Sequence[str] | None):
    from pipelines.datasets import lhco
    from pipelines.datasets.table_formats import kind_of, open_table

    if kind_of(Path(path)) == "hdf5" and lhco.recognises(path):
        raise InputError(f"{path}: raw hadrons, expected a table; make events of them with `zoo data cluster`")
    return open_table(path, columns)


# Columns of these names are truth or weights, also where other ones are named as the label or the weight.
NO_FEATURES = ("label", "process", "weight", "is_signal", "signal", "target", "truth")


def _open_all(sources, columns) -> list:
    return [_open(path, columns) for path in source_files(sources)]


def _choose(tables, asked, units, mass_range, skip) -> tuple[Choice, dict[str, str]]:
    """Resolve names and patterns, which must be alike for all tables; return the choice, and units by column."""
    chosen = [_resolve(table, asked) for table in tables]
    first = chosen[0]
    for table, found in zip(tables[1:], chosen[1:]):
        differ = sorted(set(first["features"]) ^ set(found["features"]))
        differ += [name for name in ("label", "weight") if first[name] != found[name]]
        if differ:
            raise InputError(
                f"{table.path}: its columns are not those of {tables[0].path}: {_some(differ)} only in one; "
                f"name columns that all have"
            )
    names = tuple(dict.fromkeys([*first["features"], asked["mass"]]))
    given = _units(tables, names, units)
    suspects = tuple(n for n in names if n not in given and (n == asked["mass"] or ENERGY.fullmatch(n)))
    divisors = {name: GEV[unit] for name, unit in given.items() if GEV.get(unit, 1.0) != 1.0}
    span = None if mass_range is None else (float(mass_range[0]), float(mass_range[1]))
    return Choice(**first, mass=asked["mass"], mass_range=span, divisors=divisors, suspects=suspects, skip=skip), given


def _resolve(table, asked) -> dict[str, object]:
    there = (*table.columns, *table.extra)
    for what in ("mass", "label", "weight"):
        name = asked[what]
        if name is not None and name not in there:
            raise InputError(f"{table.path}: no column {name!r} for the {what}{_near(name, there)}")
    label = asked["label"] or ("label" if "label" in there else None)
    weight = asked["weight"] or ("weight" if "weight" in there else None)
    truth = [name for name in (label, weight) if name is not None]
    if len({asked["mass"], *truth}) != 1 + len(truth):
        raise InputError(f"{table.path}: mass, label and weight are one column; name three different ones")
    possible = [name for name in table.columns if name not in truth and name.lower() not in NO_FEATURES]
    for pattern in asked["features"]:
        if not fnmatch.filter(possible, pattern.removeprefix("!")):
            reserved = pattern in truth or pattern.lower() in NO_FEATURES
            hint = "; it is truth or a weight, never a feature" if reserved else _near(pattern, possible)
            raise InputError(f"{table.path}: no column {pattern!r} for the features{hint}")
    features = match_columns(asked["features"], possible, str(table.path))
    if not features:
        raise InputError("features: no pattern given, expected names or patterns such as 'tau*'")
    if "" in features:
        raise InputError(
            f"{table.path}: column {table.columns.index('') + 1} has no name, as the index that pandas writes; "
            f"give it one, or choose features that leave it out"
        )
    for name in (*features, asked["mass"], *truth):
        if name not in table.numbers:
            raise InputError(
                f"{table.path}: column {name!r} is of type {table.types[name]}, expected numbers; choose other features"
            )
    return {"features": features, "label": label, "weight": weight}


def _units(tables, names, asked: Mapping[str, str]) -> dict[str, str]:
    """Return the units that are known of columns: those asked for, then those that the tables have."""
    units: dict[str, str] = {}
    for table in tables:
        own = {name: unit for name, unit in table.units.items() if unit and name in names}
        differ = sorted(name for name, unit in own.items() if units.get(name, unit) != unit and name not in asked)
        if differ:
            raise InputError(
                f"{table.path}: {_some(differ)} in another unit than in {tables[0].path}; convert it alone"
            )
        units |= own
    chosen: dict[str, str] = {}
    for pattern, unit in asked.items():
        found = fnmatch.filter(names, pattern)
        if not found:
            raise InputError(f"units: {pattern!r} matches no column that is taken{_near(pattern, names)}")
        twice = [name for name in found if chosen.get(name, unit) != unit]
        if twice:
            raise InputError(f"units: {_some(twice)} is both {chosen[twice[0]]} and {unit}; give one")
        chosen |= dict.fromkeys(found, unit)
    return units | chosen


def _near(name: str, there: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.lower(), [n.lower() for n in there], n=3)
    meant = [n for n in there if n.lower() in near]
    return (f"; did you mean {_some(meant)}?" if meant else "") + f"; it has {_some(there, quoted=False)}"


def _some(names: Sequence[str], quoted: bool = True) -> str:
    shown = [repr(n) if quoted else n for n in names[:20]]
    return ", ".join(shown) + (f" and {len(names) - 20} more" if len(names) > 20 else "") or "no columns"


def _names(tables) -> str:
    return ", ".join(str(table.path) for table in tables)


# -- the events of one piece --------------------------------------------------------------------------------


def _events(table, piece, choice: Choice) -> tuple[Arrays, dict[str, int]]:
    """Return the events of a piece of a table, and what was left out of it."""
    raw, where, broken = table.read(piece, choice.names, choice.skip)
    values = {name: _as_stored(name, raw[name], choice, where) for name in raw}
    counts = {READ: len(values[choice.mass]) + broken, BROKEN: broken}
    keep = _in_range(values, choice, where, counts)
    keep &= _complete(values, keep, choice, where, counts)
    _check_energies(values, keep, [name for name in choice.suspects if name != choice.mass], where)
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


def _in_range(values, choice: Choice, where: str, counts: dict[str, int]) -> np.ndarray:
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


def _complete(values, keep: np.ndarray, choice: Choice, where: str, counts: dict[str, int]) -> np.ndarray:
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
        raise InputError(
            f"{where}: NaN, infinite or empty values (column, count): {found}; "
            f"choose other features, or leave such events out with on_error skip"
        )
    counts[NOT_FINITE] = int((keep & ~complete).sum())
    counts |= {f"NaN, infinite or empty in {name}": count for name, count in bad.items()}
    return complete


def _check_energies(values, keep: np.ndarray, names: Iterable[str], where: str) -> None:
    for name in names:
        most = values[name][keep].max(initial=0)
        if most > COLLISION:
            raise InputError(
                f"{where}: column {name!r} has {most:.5g}, more GeV than LHC protons have; if it is in MeV say so "
                f"with units {name}=MeV, if it is right with {name}=GeV"
            )


# -- the file -----------------------------------------------------------------------------------------------


def _about(tables, choice: Choice, given: Mapping[str, str], counts: Mapping[str, int]) -> dict[str, object]:
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
        default = {"source": lambda table: table.path.name, "dataset": lambda table: "table"}.get(
            what, lambda table: ""
        )
        found = dict.fromkeys(table.about.get(what) or default(table) for table in tables)
        about[what] = "; ".join(text for text in found if text)
    if choice.label is not None:
        about["label_names"] = _label_names(tables, counts)
    return about


def _unit(name: str, given: Mapping[str, str]) -> str:
    unit = given.get(name) or UNITS.get(name.rsplit("_", 1)[0], "")
    return "GeV" if unit in GEV else unit


def _label_names(tables, counts: Mapping[str, int]) -> dict[int, str]:
    names: dict[int, str] = {}
    for table in tables:
        for k, name in table.label_names.items():
            if names.setdefault(k, name) != name:
                raise InputError(f"{table.path}: label {k} is {name!r}, in another table it is {names[k]!r}")
    found = sorted(int(what.rsplit(" ", 1)[1]) for what in counts if what.startswith("of label "))
    return names or {k: f"signal {k}" if k else "background" for k in found}


class _ByRows:
    """Counts rows read for a progress bar, not events kept, of which nobody knows how many there will be."""

    def __init__(self, progress: Callable[[int, int | None], object], tables, total: int):
        self._progress, self._total, self._done = progress, total, 0
        self._sizes = (size for table in tables for size in table.sizes())

    def __call__(self, events: int, total: int | None) -> None:
        self._done += next(self._sizes)
        self._progress(self._done, self._total)
