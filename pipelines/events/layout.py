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
import fnmatch
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import h5py

# Registers the Zstandard filter of events files, and the Blosc filter of the published LHC Olympics files.
import hdf5plugin  # noqa: F401
import numpy as np

from pipelines.checksums import digest
from pipelines.errors import InputError
from pipelines.events.derived import derivable

SCHEMA_VERSION = 1
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
    def from_attributes(cls, attributes: Mapping[str, object], path: Path) -> Description:
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
            values: dict[str, object] = {}
            for name in (f.name for f in dataclasses.fields(cls)):
                found = attributes.get(name, () if name in lists else "")
                values[name] = tuple(map(as_text, found)) if name in lists else as_text(found)
        except InputError:
            raise
        except (TypeError, ValueError, OSError):
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


def source_files(sources: str | os.PathLike | Sequence[str | os.PathLike]) -> list[Path]:
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

    A pattern that begins with "!" takes columns away. One that matches nothing of the data may match columns that can be
    derived from them (see `pipelines.events.derived`). Raises `InputError` naming the pattern that matches nothing, or
    if nothing is left.

    >>> match_columns(["mass_1", "tau*_1"], ["tau1_1", "pt_1", "tau2_1", "mass_1"])
    ('mass_1', 'tau1_1', 'tau2_1')
    >>> match_columns(["*", "!tau*"], ["tau1_1", "pt_1", "tau2_1", "mass_1"])
    ('pt_1', 'mass_1')
    """

    def matching(pattern, names):
        return [c for c in names if fnmatch.fnmatchcase(c, pattern.removeprefix("!"))]

    derived = derivable(available)
    matches = {
        one: [*matching(one, available), *matching(one, derived)]
        if one[:1] == "!"
        else matching(one, available) or matching(one, derived)
        for one in patterns
    }
    missing = [pattern for pattern, found in matches.items() if not found]
    if missing:
        raise InputError(f"{where}: no column {', '.join(map(repr, missing))}; it has {', '.join(available)}")
    found = dict.fromkeys(c for pattern in patterns if pattern[:1] != "!" for c in matches[pattern])
    away = {c for pattern in patterns if pattern[:1] == "!" for c in matches[pattern]}
    if not set(found) - away:
        raise InputError(f"{where}: columns {', '.join(map(repr, patterns))} leave nothing of {', '.join(available)}")
    return tuple(c for c in found if c not in away)


def typed(field: str, values: np.ndarray, where: str) -> np.ndarray:
    """Return values of a dataset of the format in its type.

    Raises `InputError` for a label that is not a whole number 0 to 127: int8 would make another one of it.
    """
    values = np.asarray(values)
    if field in TRUTH and values.dtype != bool:
        most = np.iinfo(DTYPES[field]).max
        bad = values[~((values >= 0) & (values <= most) & (values == np.floor(values)))]
        if bad.size:
            allowed = "0 for background or a whole number up to 127 for a signal"
            raise InputError(
                f"{where}: {field} {bad.flat[0]:g}, "
                f"expected {allowed if field == 'label' else f'a whole number 0 to {most}'}"
            )
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite then, and refused by `check_finite`
        return values.astype(DTYPES[field], copy=False)


def read_rows(data: np.ndarray | h5py.Dataset, start: int, stop: int, where: str) -> np.ndarray:
    """Return rows start <= i < stop; raises `InputError` if the file is damaged there."""
    try:
        return data[start:stop]
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{where}: rows {start} to {stop - 1} cannot be read ({reason}); damaged or truncated"
        ) from None


def check_finite(values: np.ndarray, names: Sequence[str], where: str) -> None:
    """Raise `InputError` with columns and counts if values (n,) or (n, ..., F) of these names are NaN or infinite."""
    bad = ~np.isfinite(values)
    if bad.any():
        counts = bad.reshape(-1, len(names)).sum(axis=0)
        found = ", ".join(f"{name!r} {count}" for name, count in zip(names, counts) if count)
        raise InputError(f"{where}: NaN or infinite values (column, count): {found}; remove those events first")


def as_text(value: object) -> str:
    """Return a string of HDF5, which has them as bytes or as text.

    >>> as_text(b"pt_1"), as_text("pt_1")
    ('pt_1', 'pt_1')
    """
    return value.decode() if isinstance(value, bytes) else str(value)


def read_names(attributes: Mapping[str, object], name: str, path: Path) -> dict[int, str]:
    """Return the attribute `label_names` or `process_names`, empty if there is none; raises `InputError` if damaged."""
    text = as_text(attributes.get(name, "")) or "{}"
    try:
        return {int(k): str(v) for k, v in json.loads(text).items()}
    except (ValueError, AttributeError, RecursionError):
        example = '{"0": "background"}'
        raise InputError(f"{path}: attribute {name} is {text[:60]!r}, expected JSON like {example}") from None


def check_names(columns: Sequence[str], where: object) -> None:
    """Raise `InputError` if a column is there twice: which one is meant could not be told."""
    twice = sorted({c for c in columns if list(columns).count(c) > 1})
    if twice:
        raise InputError(f"{where}: column {', '.join(map(repr, twice))} is there more than once; rename one")


def check_datasets(file: h5py.File, names: Iterable[str], path: Path) -> None:
    """Raise `InputError` unless those of the named datasets that are there hold numbers, one row an event."""
    there = {name: file.get(name) for name in names if name in file or file.get(name, getlink=True) is not None}
    rows = next((data.shape[:1] for data in there.values() if isinstance(data, h5py.Dataset) and data.shape), ())
    for name, data in there.items():
        if not isinstance(data, h5py.Dataset) or data.shape is None or data.dtype.kind not in "fiub":
            raise InputError(f"{path}: {name} is {data}, expected a dataset of numbers")
        if data.shape[:1] != rows or data.ndim != 1 + len(AXES.get(name, ())):
            raise InputError(f"{path}: {name} has shape {data.shape}, expected {_shape(rows, name)}")


def _shape(rows: tuple[int, ...], name: str) -> str:
    axes = [*map(str, rows), *AXES.get(name, ())]
    return f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"


def open_hdf5(path: str | os.PathLike) -> h5py.File:
    """Open an HDF5 file for reading; raises `InputError` if it is missing, not a file, or not HDF5."""
    path = Path(path)
    if not os.path.exists(path):  # Path.exists would raise for a name that is too long
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: is {'a folder' if path.is_dir() else 'no file'}, expected an HDF5 file")
    try:
        return h5py.File(path, "r")
    except (PermissionError, BlockingIOError) as error:
        raise InputError(f"{path}: cannot be opened ({os.strerror(error.errno)})") from None
    except OSError as error:
        reason = "damaged or truncated" if h5py.is_hdf5(path) else "not an HDF5 file"
        raise InputError(f"{path}: {reason} ({str(error).splitlines()[0]})") from None
