"""The two files of a figure: the picture, and beside it the numbers it was drawn from, both or neither."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from pipelines.documents import read_json_document
from pipelines.errors import InputError
from pipelines.outputs import new_disks

MOST_BYTES = 2**28  # of numbers as JSON


def target(path: str | os.PathLike[str]) -> Path:
    """Return the path of a picture; raises `InputError` if it does not end in `.png`."""
    path = Path(path)
    if path.suffix != ".png":
        raise InputError(f"{path}: expected a name that ends in .png; the numbers go beside it")
    return path


def plain(value: Any) -> Any:
    """Return the same in types of JSON; what is not finite is None.

    >>> plain({"kl": np.array([1.0, np.nan]), 2: (np.int64(3), True)})
    {'kl': [1.0, None], '2': [3, True]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write(path: Path, picture: bytes, numbers: Mapping[str, object], kind: str, *, replace: bool) -> None:
    """Write a PNG and, beside it, its numbers as `kind`, `.json` or `.h5`; raises `InputError` as `new_disks`."""
    import h5py

    with new_disks(path.with_suffix(kind), path, replace=replace) as (disk, png):
        png.write(picture)
        png.check(path)
        if kind == ".json":
            disk.write((json.dumps(numbers, indent=1, allow_nan=False) + "\n").encode())
            return
        with h5py.File(disk, "w", track_order=True) as file:
            _to_group(file, numbers)


def read_numbers(path: str | os.PathLike[str]) -> dict[str, object]:
    """Return the numbers behind a figure, from its `.json` or `.h5` file, as the function that drew it did.

    Raises `InputError` if there is no such file, or it is no file of numbers.

    Example:
        >>> import tempfile
        >>> from pipelines.plots import plot_peak
        >>> path = Path(tempfile.mkdtemp()) / "kl.png"
        >>> numbers = plot_peak(np.array([1.0, 2.0]), path)
        >>> read_numbers(path.with_suffix(".json")) == numbers
        True
    """
    import h5py

    path = Path(path)
    try:
        if path.suffix == ".json":
            found: Any = read_json_document(path, dict[str, Any], max_bytes=MOST_BYTES)
            return dict(found)
        with h5py.File(path, "r") as file:
            return _from_group(file)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no JSON or HDF5"
        raise InputError(f"{path}: {reason}, expected the .json or .h5 file beside a figure") from None


def _to_group(group: Any, numbers: Mapping[str, object]) -> None:
    for name, value in numbers.items():
        name = quote(name, safe=" ").replace(".", "%2E")  # HDF5 gives a meaning to / and to a lone .
        if isinstance(value, Mapping):
            _to_group(group.create_group(name, track_order=True), value)
        else:
            group[name] = value


def _from_group(group: Any) -> dict[str, object]:
    return {unquote(name): _from_item(item) for name, item in group.items()}


def _from_item(item: Any) -> Any:
    if hasattr(item, "keys"):
        return _from_group(item)
    return item.asstr()[()] if item.dtype == object else item[()]
