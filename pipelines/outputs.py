"""Outputs that appear whole or not at all: written under a temporary name beside their target, then renamed."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from pipelines.errors import InputError, Unfinished


def check_new(path: str | os.PathLike) -> Path:
    """Return `path` if something new can be written there.

    Raises `InputError` if it exists, or if its folder is missing or cannot be written to.

    >>> check_new("surely-not-there.h5").name
    'surely-not-there.h5'
    """
    path = Path(path)
    if os.path.lexists(path):  # a link that leads nowhere is there too, and would be replaced
        raise InputError(f"{path}: exists already; choose another name or remove it first")
    folder = path.parent.resolve()
    while not os.path.lexists(folder):
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
        _put(part, path, replace)
    finally:
        with contextlib.suppress(OSError):  # it has been moved, or could not be made
            part.unlink()


@contextlib.contextmanager
def new_directory(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` when the block ends well and vanishes when it does not.

    Raises `InputError` if `path` exists or cannot be written.
    """
    path = check_new(path)
    part = _beside(path)
    with _told(path):
        part.mkdir()
    try:
        yield part
        _put(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


class Disk(io.FileIO):
    """A new file for HDF5 to write to that keeps the first error of the disk for `check`, and swallows it.

    HDF5 must not see it: what it could not write it tries again when the process ends, and crashes there with a
    segmentation fault (HDF5 1.14.6, a full disk). After an error nothing more is written: the file is lost.
    """

    error: OSError | None = None

    def write(self, data) -> int:
        rest = memoryview(data).cast("B")
        while rest and not self.error:  # a disk that gets full takes a part first
            rest = rest[self._tried(super().write, rest) or 0 :]
        return len(data)

    def truncate(self, size=None) -> int:
        self._tried(super().truncate, size)
        return size

    def read(self, size=-1) -> bytes:
        found = super().read(size)
        return found.ljust(size, b"\0") if self.error else found

    def check(self, path: Path) -> None:
        """Raise `InputError` naming `path` if anything could not be written so far."""
        if self.error:
            raise _refusal(path, self.error)

    def _tried(self, operation, *arguments):
        try:
            return None if self.error else operation(*arguments)
        except OSError as error:
            self.error = error


@contextlib.contextmanager
def new_disk(path: str | os.PathLike, *, replace: bool = False) -> Iterator[Disk]:
    """Give a `Disk` for `h5py.File(disk, "w")` that becomes `path` when the block ends well, as `new_file` does.

    Raises `InputError` if `path` exists (unless `replace`) or cannot be written, also for want of space.

    >>> import h5py, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.h5"
    >>> with new_disk(path) as disk, h5py.File(disk, "w") as file:
    ...     file["score"] = [0.1, 0.9]
    >>> path.exists()
    True
    """
    with new_file(path, replace=replace) as part:
        with _told(path):
            disk = Disk(part, "x+")
        with disk:
            try:
                yield disk
            except Exception:
                disk.check(path)  # what HDF5 complains of after the disk's first error, is that error
                raise
            with _told(path):
                os.fsync(disk.fileno())  # some file systems say only now that they are full
            disk.check(path)


def write_json(path: str | os.PathLike, value: object) -> None:
    """Write `value` as indented JSON, atomically, over whatever was there.

    Raises `InputError` if `path` cannot be written.
    """
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with new_file(path, replace=True) as part, _told(path):
        part.write_text(text)


def as_json(value: object) -> object:
    """Return what `value` is after it was written as JSON and read back: tuples become lists.

    >>> as_json({"units": (64, 64)})
    {'units': [64, 64]}
    """
    return json.loads(json.dumps(value))


def json_number(value: float) -> float | None:
    """Return a number as JSON has it: None for NaN and for infinities.

    >>> json_number(0.5), json_number(float("nan"))
    (0.5, None)
    """
    value = float(value)
    return value if math.isfinite(value) else None


def _beside(path: Path) -> Path:
    folder = path.parent.resolve()
    with _told(path):
        folder.mkdir(parents=True, exist_ok=True)
    return folder / f".{path.name}.{uuid.uuid4().hex[:8]}.part"


def _put(part: Path, path: Path, replace: bool = False) -> None:
    if not replace:
        check_new(path)
    with _told(path):
        os.replace(part, path)


@contextlib.contextmanager
def _told(path: str | os.PathLike) -> Iterator[None]:
    """Turn an error of the operating system into one that names the output."""
    try:
        yield
    except OSError as error:
        raise _refusal(path, error) from None


def _refusal(path: str | os.PathLike, error: OSError) -> Unfinished:
    hint = "free some space there or " if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
    return Unfinished(f"{path}: cannot be written ({error.strerror}); {hint}choose another output")
