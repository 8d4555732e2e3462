"""What an events file looks like, and the checks that tell a user when one does not.

Layout of a file (schema version 1):

| dataset    | shape     | type    | what                                                        |
|------------|-----------|---------|-------------------------------------------------------------|
| `features` | (N, F)    | float32 | fixed-length variables of an event, names in `columns`       |
| `mass`     | (N,)      | float32 | the spectrum that is bump-hunted, GeV                        |
| `weight`   | (N,)      | float32 | optional training weight                                     |
| `label`    | (N,)      | int8    | optional truth: 0 background, k > 0 signal k; evaluation only |

Attributes: `columns`, `units`, `mass_column`, `dataset`, `label_names` (JSON), `source`, `license`,
`citation`, `schema_version`.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from pipelines.errors import InputError

SCHEMA_VERSION = 1
DTYPES = {"features": np.float32, "mass": np.float32, "weight": np.float32, "label": np.int8}


@dataclasses.dataclass(frozen=True)
class Description:
    """What a set of events says about itself: column names and units, truth names, origin and licence."""

    columns: tuple[str, ...]
    units: tuple[str, ...] = ()
    mass_column: str = ""
    dataset: str = ""
    label_names: Mapping[int, str] = dataclasses.field(default_factory=dict)
    source: str = ""
    license: str = ""
    citation: str = ""

    def to_attributes(self) -> dict[str, object]:
        """Return the HDF5 attributes that hold this description."""
        values = dataclasses.asdict(self)
        values["columns"] = list(self.columns)
        values["units"] = list(self.units) or [""] * len(self.columns)
        values["label_names"] = json.dumps({str(k): v for k, v in self.label_names.items()})
        return values | {"schema_version": SCHEMA_VERSION}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, object], path: Path) -> Description:
        """Read the description back; raises `InputError` if `path` comes from a newer schema or is incomplete."""
        if "columns" not in attributes or "schema_version" not in attributes:
            raise InputError(
                f"{path}: no attributes 'columns' and 'schema_version', expected an events file; "
                f"make one with `zoo data convert` or `zoo data cluster`"
            )
        version = int(attributes["schema_version"])
        if version > SCHEMA_VERSION:
            raise InputError(f"{path}: schema version {version}, this release reads up to {SCHEMA_VERSION}; upgrade")
        values = {f.name: as_text(attributes.get(f.name, "")) for f in dataclasses.fields(cls)}
        values |= {name: tuple(map(as_text, attributes.get(name, ()))) for name in ("columns", "units")}
        return cls(**values | {"label_names": read_label_names(attributes, path)})


def match_columns(patterns: Sequence[str], available: Sequence[str], where: str = "the data") -> tuple[str, ...]:
    """Resolve names and shell patterns to column names: in the order of the patterns, then of the data.

    Raises `InputError` naming the pattern that matches nothing.

    >>> match_columns(["mass_1", "tau*_1"], ["tau1_1", "pt_1", "tau2_1", "mass_1"])
    ('mass_1', 'tau1_1', 'tau2_1')
    """
    found: dict[str, None] = {}
    missing = []
    for pattern in patterns:
        matches = [c for c in available if fnmatch.fnmatchcase(c, pattern)]
        if not matches:
            missing.append(pattern)
        found.update(dict.fromkeys(matches))
    if missing:
        raise InputError(f"{where}: no column {', '.join(map(repr, missing))}; it has {', '.join(available)}")
    return tuple(found)


def typed(field: str, values: np.ndarray, where: str) -> np.ndarray:
    """Return values of `features`, `mass`, `weight` or `label` in the type of the format.

    Raises `InputError` for a label that is not a whole number 0 to 127: int8 would make another one of it.
    """
    values = np.asarray(values)
    if field == "label" and values.dtype != bool:
        bad = values[~((values >= 0) & (values <= 127) & (values == np.floor(values)))]
        if bad.size:
            allowed = "0 for background or a whole number up to 127 for a signal"
            raise InputError(f"{where}: label {bad.flat[0]:g}, expected {allowed}")
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
    """Raise `InputError` with columns and counts if values (n,) or (n, F) of these names are NaN or infinite."""
    bad = ~np.isfinite(values)
    if bad.any():
        counts = bad.reshape(len(values), -1).sum(axis=0)
        found = ", ".join(f"{name!r} {count}" for name, count in zip(names, counts) if count)
        raise InputError(f"{where}: NaN or infinite values (column, count): {found}; remove those events first")


def as_text(value: object) -> str:
    """Return a string of HDF5, which has them as bytes or as text.

    >>> as_text(b"pt_1"), as_text("pt_1")
    ('pt_1', 'pt_1')
    """
    return value.decode() if isinstance(value, bytes) else str(value)


def read_label_names(attributes: Mapping[str, object], path: Path) -> dict[int, str]:
    """Return the attribute `label_names`, empty if there is none; raises `InputError` if it is not such JSON."""
    text = as_text(attributes.get("label_names", "")) or "{}"
    try:
        return {int(k): str(v) for k, v in json.loads(text).items()}
    except (ValueError, AttributeError):
        example = '{"0": "background"}'
        raise InputError(f"{path}: attribute label_names is {text[:60]!r}, expected JSON like {example}") from None


def check_names(columns: Sequence[str], where: object) -> None:
    """Raise `InputError` if a column is there twice: which one is meant could not be told."""
    twice = sorted({c for c in columns if list(columns).count(c) > 1})
    if twice:
        raise InputError(f"{where}: column {', '.join(map(repr, twice))} is there more than once; rename one")


def check_datasets(file: h5py.File, names: Iterable[str], path: Path) -> None:
    """Raise `InputError` unless those of the named datasets that are there hold numbers, one row an event."""
    rows = file["features"].shape[:1]
    for name in names:
        data = file.get(name)
        if data is None:
            continue
        if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "fiub":
            raise InputError(f"{path}: {name} is {data}, expected a dataset of numbers")
        if name != "features" and data.shape != rows:
            raise InputError(f"{path}: {name} has shape {data.shape}, expected {rows}")


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
