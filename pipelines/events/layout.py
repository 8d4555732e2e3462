"""What an events file looks like, and the checks that tell a user when one does not.

Layout of a file (schema version 1):

| dataset    | shape        | type    | what                                                                |
|------------|--------------|---------|---------------------------------------------------------------------|
| `features` | (N, F)       | float32 | fixed-length variables of an event, names in `columns`             |
| `objects`  | (N, P, C)    | float32 | reconstructed particles, names of the C numbers in `object_columns` |
| `images`   | (N, J, H, W) | float32 | pictures of an event's J leading jets                               |
| `mass`     | (N,)         | float32 | the spectrum that is bump-hunted, GeV                               |
| `weight`   | (N,)         | float32 | optional event weight                                               |
| `label`    | (N,)         | int8    | optional truth: 0 background, k > 0 signal k; evaluation only       |
| `process`  | (N,)         | int16   | optional truth: which simulated process or sample; evaluation only  |

`mass` is always there, and at least one of `features` and `objects`. Objects are padded with zeros: a slot is
empty where all its numbers are 0, and `mask` (N, P), bool, which is not stored, is False there.

Attributes: `columns`, `units`, `object_columns`, `object_units`, `mass_column`, `dataset`, `label_names` and
`process_names` (JSON), `source`, `license`, `citation`, `schema_version`. Chunked by event, compressed with
Zstandard: `import hdf5plugin` before reading a file with h5py alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipelines.checksums import digest
from pipelines.errors import InputError
from pipelines.events.column_kinds import matching, taken_by_pattern
from pipelines.events.derived import derivable
from pipelines.events.files import reading
from pipelines.events.hdf5_files import as_text, check_stored, open_hdf5, read_rows

__all__ = ["as_text", "open_hdf5", "read_rows"]  # which are in `pipelines.events.hdf5_files`

SCHEMA_VERSION = 1
LARGEST, SMALLEST = 1e15, 1e-30  # beyond, squares of numbers are no float32 any more, and no training goes on
CHUNK = 2048  # events that a file compresses together: what shuffled training reads at a time
MOST_COLUMNS = 4000  # an attribute of HDF5 has 64 kB, in which there is room for some 4,090 names
MOST_TEXT = 2**20  # characters of the JSON in an attribute
DTYPES = {
    "features": np.float32,
    "objects": np.float32,
    "images": np.float32,
    "mass": np.float32,
    "weight": np.float32,
    "label": np.int8,
    "process": np.int16,
}
AXES = {"features": ("F",), "objects": ("P", "C"), "images": ("J", "H", "W")}  # the others: one number an event
TRUTH = ("label", "process")


@dataclasses.dataclass(frozen=True)
class Description:
    """What a set of events says about itself: column names and units, truth names, origin and licence."""

    columns: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    object_columns: tuple[str, ...] = ()
    object_units: tuple[str, ...] = ()
    mass_column: str = ""
    dataset: str = ""
    label_names: Mapping[int, str] = dataclasses.field(default_factory=dict)
    process_names: Mapping[int, str] = dataclasses.field(default_factory=dict)
    source: str = ""
    license: str = ""
    citation: str = ""

    def to_attributes(self) -> dict[str, object]:
        """Return the HDF5 attributes that hold this description."""
        values = dataclasses.asdict(self)
        for names, units in (("columns", "units"), ("object_columns", "object_units")):
            values[names] = list(values[names])
            values[units] = list(values[units]) or [""] * len(values[names])
        for names in ("label_names", "process_names"):
            values[names] = json.dumps({str(k): v for k, v in values[names].items()})
        values["schema_version"] = SCHEMA_VERSION
        return values | {"description_sha256": digest(values)}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any], path: Path) -> Description:
        """Read the description back; raises `InputError` if `path` comes from a newer schema or is incomplete."""
        if "columns" not in attributes or "schema_version" not in attributes:
            raise InputError(
                f"{path}: no attributes 'columns' and 'schema_version', expected an events file; "
                f"make one with `zoo data convert` or `zoo data cluster`"
            )
        lists = ("columns", "units", "object_columns", "object_units")
        name = "schema_version"
        try:
            version = int(attributes[name])
            if version > SCHEMA_VERSION:
                raise InputError(
                    f"{path}: schema version {version}, this release reads up to {SCHEMA_VERSION}; upgrade"
                )
            values: dict[str, Any] = {}
            for name in (f.name for f in dataclasses.fields(cls)):
                found = attributes.get(name, () if name in lists else "")
                values[name] = _texts(found) if name in lists else as_text(found)
        except InputError:
            raise
        except (TypeError, ValueError, OSError, LookupError, RuntimeError, OverflowError):
            raise InputError(f"{path}: attribute {name!r} is damaged; convert the events again") from None
        for names, units in (("columns", "units"), ("object_columns", "object_units")):
            if values[units] and len(values[units]) != len(values[names]):
                raise InputError(f"{path}: {len(values[units])} {units} of {len(values[names])} {names}; convert again")
        for name in ("label_names", "process_names"):
            values[name] = read_names(attributes, name, path)
        found = cls(**values)
        check_names(found.columns, path)
        check_names(found.object_columns, path)
        if (written := attributes.get("description_sha256")) is not None:  # HDF5 has no checksum of texts
            present = {**found.to_attributes(), "schema_version": version}
            del present["description_sha256"]
            if digest(present) != written:
                raise InputError(
                    f"{path}: attributes are not as they were written, or damaged; convert the events again"
                )
        return found


def _texts(found: object) -> tuple[str, ...]:
    """Return a list of strings; raises `TypeError` for a single one, whose letters would be taken for names."""
    if isinstance(found, (str, bytes)):
        raise TypeError("a text, expected a list of them")
    return tuple(map(as_text, np.asarray(found, object).ravel().tolist()))


def source_files(sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return one or several files as a list of paths.

    Raises `InputError` if there are none, or if one comes twice: its events would count twice.

    >>> [str(path) for path in source_files("a.h5")], [str(path) for path in source_files(["a.h5", "b.h5"])]
    (['a.h5'], ['a.h5', 'b.h5'])
    """
    paths = [Path(path) for path in ([sources] if isinstance(sources, (str, os.PathLike)) else sources)]
    if not paths:
        raise InputError("no files given; name at least one")
    real = [os.path.realpath(path) for path in paths]
    twice = sorted({str(path) for path, target in zip(paths, real) if real.count(target) > 1})
    if twice:
        raise InputError(f"{', '.join(twice)}: given more than once, its events would count twice")
    return paths


def match_columns(patterns: Sequence[str], available: Sequence[str], where: str = "the data") -> tuple[str, ...]:
    """Resolve names and shell patterns to column names: in the order of the patterns, then of the data.

    A name is that name before it is a pattern. A pattern that begins with "!" takes columns away, and no pattern takes
    truth, weights or numbers of events (`pipelines.events.column_kinds`), which may be named. A pattern that matches
    nothing of the data may match columns that can be derived from them (see `pipelines.events.derived`). Raises
    `InputError` naming the pattern that matches nothing, or if nothing is left.

    >>> match_columns(["mass_1", "tau*_1"], ["tau1_1", "pt_1", "tau2_1", "mass_1"])
    ('mass_1', 'tau1_1', 'tau2_1')
    >>> match_columns(["*", "!tau*"], ["tau1_1", "pt_1", "tau2_1", "mass_1", "isSignal"])
    ('pt_1', 'mass_1')
    """
    derived = derivable(available)
    matches = {
        one: [*matching(one[1:], available), *matching(one[1:], derived)]
        if one[:1] == "!" and one not in available
        else taken_by_pattern(one, available) or matching(one, derived)
        for one in patterns
    }
    missing = [pattern for pattern, found in matches.items() if not found]
    if missing:
        raise InputError(f"{where}: {no_column(missing)}; it has {some_of(available)}")
    removed = {pattern for pattern in patterns if pattern[:1] == "!" and pattern not in available}
    found = dict.fromkeys(c for pattern in patterns if pattern not in removed for c in matches[pattern])
    away = {c for pattern in removed for c in matches[pattern]}
    if not set(found) - away:
        raise InputError(f"{where}: columns {', '.join(map(repr, patterns))} leave nothing of {some_of(available)}")
    return tuple(c for c in found if c not in away)


def no_column(patterns: Sequence[str]) -> str:
    """Return what is wrong with patterns that match nothing, of which some may take columns away.

    >>> no_column(["tua*"]), no_column(["!pt_3", "!tua*"])
    ("no column 'tua*'", "'!pt_3', '!tua*' leave nothing out: no column is 'pt_3', 'tua*'")
    """
    wanted = [pattern for pattern in patterns if pattern[:1] != "!"]
    if wanted:
        return f"no column {', '.join(map(repr, wanted))}"
    verb = "leaves" if len(patterns) == 1 else "leave"
    names = ", ".join(repr(pattern[1:]) for pattern in patterns)
    return f"{', '.join(map(repr, patterns))} {verb} nothing out: no column is {names}"


def some_of(names: Sequence[str], most: int = 60) -> str:
    """Return names for a message, with how many more there are.

    >>> some_of(["pt_1", "pt_2", "pt_3"], most=2)
    'pt_1, pt_2 and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def typed(field: str, values: np.ndarray, where: str) -> np.ndarray:
    """Return values of a dataset of the format in its type.

    Raises `InputError` for values that are no real numbers, and for a label that is not a whole number 0 to 127: int8 would
    make another one of it.
    """
    if np.ma.is_masked(values):
        raise InputError(
            f"{where}: {field} are masked in part; leave those events out, since nobody knows their values"
        )
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        raise InputError(f"{where}: {field} are of type {values.dtype}, expected real numbers")
    if field in TRUTH and values.dtype != bool:
        most = np.iinfo(np.int8 if field == "label" else np.int16).max
        bad = values[~((values >= 0) & (values <= most) & (values == np.floor(values)))]
        if bad.size:
            allowed = "0 for background or a whole number up to 127 for a signal"
            raise InputError(
                f"{where}: {field} {bad.flat[0]:g}, "
                f"expected {allowed if field == 'label' else f'a whole number 0 to {most}'}"
            )
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite then, and refused by `check_finite`
        return values.astype(DTYPES[field], copy=False)


def check_magnitudes(largest: Sequence[float] | np.ndarray, names: Sequence[str], where: str) -> None:
    """Raise `InputError` for columns with which float32 cannot calculate, so that every training would diverge.

    Args:
        largest: of each column the largest magnitude; 0 is possible. names: of the columns. where: for the message.
    """
    for most, name in zip(largest, names):
        if most > LARGEST or 0 < most < SMALLEST:
            raise InputError(
                f"{where}: column {name!r} has {most:.5g} as its largest value, expected {SMALLEST:g} to {LARGEST:g}, with "
                f"which float32 can calculate; choose other features, or another unit"
            )


def check_finite(values: np.ndarray, names: Sequence[str], where: str) -> None:
    """Raise `InputError` with columns and counts if values (n,) or (n, ..., F) of these names are NaN or infinite."""
    bad = ~np.isfinite(values)
    if bad.any():
        counts = bad.reshape(-1, len(names)).sum(axis=0)
        found = ", ".join(f"{name!r} {count}" for name, count in zip(names, counts) if count)
        raise InputError(f"{where}: NaN or infinite values (column, count): {found}; remove those events first")


def read_names(attributes: Mapping[str, object], name: str, path: Path) -> dict[int, str]:
    """Return the attribute `label_names` or `process_names`, empty if there is none; raises `InputError` if damaged."""
    text = "?"
    try:
        text = as_text(attributes.get(name, "")) or "{}"
        if len(text) > MOST_TEXT:
            raise ValueError(f"{len(text)} characters")
        return {int(k): str(v) for k, v in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError, RecursionError, OSError, RuntimeError, LookupError):
        example = '{"0": "background"}'
        raise InputError(f"{path}: attribute {name} is {text[:60]!r}, expected JSON like {example}") from None


def check_names(columns: Sequence[str], where: object) -> None:
    """Raise `InputError` for names that HDF5 cannot hold, too many of them, or one that is there twice."""
    check_unique(columns, where)
    if len(columns) > MOST_COLUMNS:
        raise InputError(f"{where}: {len(columns)} columns, expected at most {MOST_COLUMNS} in a file; choose fewer")
    for name in columns:
        shown = name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
        if shown != name:
            raise InputError(f"{where}: column {shown!r} has a NUL or no UTF-8 in its name; rename it")


def check_unique(columns: Sequence[str], where: object) -> None:
    """Raise `InputError` if a column is there twice: which one is meant could not be told."""
    if len(set(columns)) != len(columns):
        twice = sorted(name for name, count in Counter(columns).items() if count > 1)
        raise InputError(f"{where}: column {some_of([*map(repr, twice)], 10)} is there more than once; rename one")


def check_datasets(file: h5py.File, names: Iterable[str], path: Path) -> None:
    """Raise `InputError` unless those of the named datasets that are there hold numbers, one row an event."""
    with reading(path):
        there = {name: file.get(name) for name in names if name in file or file.get(name, getlink=True) is not None}
    rows = next((data.shape[:1] for data in there.values() if isinstance(data, h5py.Dataset) and data.shape), ())
    for name, data in there.items():
        if not isinstance(data, h5py.Dataset) or data.shape is None or data.dtype.kind not in "fiub":
            raise InputError(f"{path}: {name} is {data}, expected a dataset of numbers")
        if data.shape[:1] != rows or data.ndim != 1 + len(AXES.get(name, ())):
            raise InputError(f"{path}: {name} has shape {data.shape}, expected {_shape(rows, name)}")
        check_stored(data, path)


def _shape(rows: tuple[int, ...], name: str) -> str:
    axes = [*map(str, rows), *AXES.get(name, ())]
    return f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"


def check_shapes(shapes: Mapping[str, tuple[int, ...]], about: Description, where: str) -> None:
    """Raise `InputError` unless shapes of arrays are those of the format and of the names in the description."""
    named = {"features": about.columns, "objects": about.object_columns}
    rows = next((name for name in named if name in shapes), None)
    if rows is None or "mass" not in shapes:
        raise InputError(f"{where}: {sorted(shapes)}, expected mass and at least one of features and objects")
    for name, shape in shapes.items():
        axes = (*AXES.get(name, ())[:-1], len(named[name])) if name in named else AXES.get(name, ())
        expected = (shapes[rows][0], *axes)
        if len(shape) != len(expected) or any(n != m for n, m in zip(shape, expected) if not isinstance(m, str)):
            text = f"({', '.join(map(str, expected))}{',' if len(expected) == 1 else ''})"
            source = "columns" if name == "features" else "object_columns"
            hint = f" as in {source!r}" if name in named else f", one for each row of {rows}"
            raise InputError(f"{where}: {name} has shape {shape}, expected {text}{hint}")
    for names in named.values():
        check_names(names, where)
