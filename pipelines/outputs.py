"""Outputs that appear whole or not at all: written under a temporary name beside their target, then renamed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from pipelines.errors import InputError


def check_new(path: str | os.PathLike) -> Path:
    """Return `path` if something new can be written there.

    Raises `InputError` if it exists, or if its folder is missing or cannot be written to.

    >>> check_new("surely-not-there.h5").name
    'surely-not-there.h5'
    """
    path = Path(path)
    if path.exists():
        raise InputError(f"{path}: exists already; choose another name or remove it first")
    folder = path.resolve().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(f"{path}: {folder} is a file, expected a folder; choose another output")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{path}: folder {folder} is not writable; choose another output")
    return path


@contextlib.contextmanager
def new_file(path: str | os.PathLike, *, replace: bool = False) -> Iterator[Path]:
    """Give a temporary path that becomes `path` when the block ends well and vanishes when it does not.

    Raises `InputError` if `path` exists (unless `replace`) or cannot be written.
    """
    path = Path(path) if replace else check_new(path)
    part = _beside(path)
    try:
        yield part
        if not replace:
            check_new(path)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def new_directory(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` when the block ends well and vanishes when it does not.

    Raises `InputError` if `path` exists or cannot be written.
    """
    path = check_new(path)
    part = _beside(path)
    part.mkdir()
    try:
        yield part
        check_new(path)
        os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_json(path: str | os.PathLike, value: object) -> None:
    """Write `value` as indented JSON, atomically, over whatever was there."""
    with new_file(path, replace=True) as part:
        part.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def _beside(path: Path) -> Path:
    path.resolve().parent.mkdir(parents=True, exist_ok=True)
    return path.resolve().parent / f".{path.name}.{uuid.uuid4().hex[:8]}.part"
