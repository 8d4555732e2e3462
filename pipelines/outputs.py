"""Outputs that appear whole or not at all: written under a temporary name beside their target, then renamed.

While an output NAME is made, this process holds `.NAME.lock`, and `.NAME.part` is what there is of it. Both go with it; what a
killed process left of them is removed by the next one that makes NAME. Nothing is written through a link.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines import locks
from pipelines.errors import InputError, Unfinished


def check_apart(path: str | os.PathLike[str], other: str | os.PathLike[str], what: str) -> None:
    """Raise `InputError` if two outputs are one, or one is inside the other; `what` names the first.

    >>> check_apart("board", "run", "tensorboard")
    """
    one, two = Path(path).resolve(), Path(other).resolve()
    if one == two or one in two.parents or two in one.parents:
        raise InputError(f"{path}: given for {what}, and {other} for the output; name two folders beside each other")


def check_new(path: str | os.PathLike[str], *, unless: str | None = None) -> Path:
    """Return `path` if something new can be written there.

    What a killed process left beside it is removed. `unless` is a file by which a folder is known as a finished output of
    the same kind: then it may be there, for a command that goes on where it was (`--resume`).

    Raises `InputError` if it exists, or if its folder is missing or cannot be written to.

    >>> check_new("surely-not-there.h5").name
    'surely-not-there.h5'
    """
    path = Path(path)
    if os.path.lexists(path):
        clean(path)
    if unless is not None and (path / unless).is_file():
        return path
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


def check_part(path: str | os.PathLike[str]) -> None:
    """Raise `Unfinished` if a path is in an output of this process that has vanished."""
    target = locks.real(path)
    for part, output in _parts.items():
        if (part == target or part in target.parents) and not part.exists():
            raise Unfinished(f"{output}: {part} vanished while it was written to; start again")


def clean(path: str | os.PathLike[str]) -> None:
    """Remove what a killed process left beside an output: its lock, its part, and files of a set that is not complete.

    Nothing is done to what another process, or this one, is writing.
    """
    left = (_journal(Path(path)), locks.lock_of(path), locks.part_of(path))
    if not any(map(os.path.lexists, left)) or locks.is_known(path) or _is_ours(Path(path)):
        return
    with contextlib.suppress(InputError), locks.held(path, make_folders=False):
        _undo(Path(path))


def clean_folder(folder: str | os.PathLike[str]) -> None:
    """Do `clean` for every output in a folder that is all ours, such as that of a search."""
    for one in Path(folder).glob(".*"):
        if one.suffix in (".lock", ".part", ".names"):
            clean(one.with_name(one.stem[1:]))


def work_folder(out: str | os.PathLike[str]) -> Path:
    """Return the folder beside an output that keeps what is trained for it until it is written.

    >>> work_folder("/results/hunt").name
    '.hunt.search'
    """
    path = locks.real(out)
    return path.with_name(f".{path.name}.search")


@contextlib.contextmanager
def hold(path: str | os.PathLike[str], *, new: bool = True) -> Iterator[Path]:
    """Hold an output, so that no other process writes it; a command does so before it begins to work.

    Args:
        path: file or folder to make.
        new: whether it must not be there yet.

    Raises:
        InputError: another process holds it; with `new`, as `check_new`.

    >>> with hold("surely-not-there.h5") as path:
    ...     path.name
    'surely-not-there.h5'
    """
    path = _expected(path, new)
    with locks.held(path):
        _undo(path)
        yield check_new(path) if new else path  # which the one before may have made


@contextlib.contextmanager
def new_file(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Give a temporary path that becomes `path` when the block ends well and vanishes when it does not.

    Raises `InputError` if `path` exists (unless `replace`), another process writes it, or it cannot be written.
    """
    with new_files(path, replace=replace) as (part,):
        yield part


@contextlib.contextmanager
def new_files(*paths: str | os.PathLike[str], replace: bool = False) -> Iterator[tuple[Path, ...]]:
    """Give a temporary path for each of several files that appear together, when the block ends well.

    If the process is killed while they get their names, the next one that holds the first of them takes the names away
    again: then there are none.

    Raises `InputError` as `new_file`.
    """
    for path in paths:  # before one of them is refused
        clean(path)
    targets = [_expected(path, not replace) for path in paths]
    with contextlib.ExitStack() as stack:
        for path in targets:
            if not _is_ours(path):
                stack.enter_context(locks.held(path, wait=WAIT * replace, make_folders=not replace))
                _undo(path)
            elif not replace:
                _make_inside(path)
            if path is targets[0] and len(targets) > 1:  # after all other locks: who finds it removes those
                stack.callback(locks.remove, _journal(path))
        for path in targets:
            if not replace:
                check_new(path)
        parts = [_part(path) for path in targets]
        try:
            for path, part in zip(targets, parts):
                _parts[part] = path
                with _told(path), open(part, "x"):  # never through a link, and nobody else's
                    pass
            yield tuple(parts)
            _put_all(parts, targets, replace)
        finally:
            for part in parts:
                _parts.pop(part, None)
                with contextlib.suppress(OSError):  # it has its name, or could not be made
                    part.unlink()


@contextlib.contextmanager
def new_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` when the block ends well and vanishes when it does not.

    Raises `InputError` if `path` exists, another process writes it, or it cannot be written.
    """
    path = _expected(path, new=True)
    with contextlib.ExitStack() as stack:
        if _is_ours(path):
            _make_inside(path)
        else:
            stack.enter_context(hold(path))
        part = _part(path)
        with _told(path):
            part.mkdir()
        _parts[part] = path
        try:
            yield part
            _put(part, path)
        finally:
            _parts.pop(part, None)
            shutil.rmtree(part, ignore_errors=True)


class Disk(io.FileIO):
    """A new file for HDF5 that hides the first error of the disk, and keeps it for `check`.

    HDF5 must not see it: what it could not write it tries again when the process ends, and crashes there with a
    segmentation fault (HDF5 1.14.6, a full disk). After an error nothing more is written: the file is lost.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        while rest and not self.error:  # a disk that gets full takes a part first
            rest = rest[self._tried(super().write, rest) or 0 :]
        return len(data)

    def truncate(self, size: Any = None) -> Any:
        self._tried(super().truncate, size)
        return size

    def read(self, size: Any = -1) -> bytes:
        found = super().read(size) or b""
        return found.ljust(size, b"\0") if self.error else found

    def check(self, path: str | os.PathLike[str]) -> None:
        """Raise `InputError` naming `path` if anything could not be written so far."""
        if self.error:
            raise _refusal(path, self.error)

    def _tried(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return None if self.error else operation(*arguments)
        except OSError as error:
            self.error = error
        return None


@contextlib.contextmanager
def new_disk(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Disk]:
    """Give a `Disk` for `h5py.File(disk, "w")` that becomes `path` when the block ends well, as `new_file` does.

    Raises `InputError` if `path` exists (unless `replace`) or cannot be written, also for want of space.

    >>> import h5py, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.h5"
    >>> with new_disk(path) as disk, h5py.File(disk, "w") as file:
    ...     file["score"] = [0.1, 0.9]
    >>> path.exists()
    True
    """
    with new_disks(path, replace=replace) as (disk,):
        yield disk


@contextlib.contextmanager
def new_disks(*paths: str | os.PathLike[str], replace: bool = False) -> Iterator[tuple[Disk, ...]]:
    """Give a `Disk` for each of several files that appear together, as `new_files` does; raises as `new_disk`."""
    with new_files(*paths, replace=replace) as parts, contextlib.ExitStack() as stack:
        disks = []
        for path, part in zip(paths, parts):
            with _told(path):
                disks.append(stack.enter_context(Disk(part, "r+", opener=_open_no_link)))
        try:
            yield tuple(disks)
        except Exception:
            for path, disk in zip(paths, disks):  # what HDF5 complains of after the disk's first error, is that error
                disk.check(path)
            raise
        for path, disk in zip(paths, disks):
            with _told(path):
                os.fsync(disk.fileno())  # some file systems say only now that they are full
            disk.check(path)


def write_json(path: str | os.PathLike[str], value: object, *, replace: bool = True) -> None:
    """Write `value` as indented JSON, atomically, over whatever was there (unless not `replace`).

    Raises `InputError` if `path` cannot be written; with `replace` also if its folder is not there.
    """
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with new_file(path, replace=replace) as part, _told(path):
        part.write_text(text)


def as_json(value: object) -> Any:
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


# -- what is being written by this process -----------------------------------------------------------


def _expected(path: str | os.PathLike[str], new: bool) -> Path:
    """Return the path of an output, after a look whether it can be one, before anything is locked."""
    left = (_journal(Path(path)), locks.lock_of(path), locks.part_of(path))
    if new and not any(map(os.path.lexists, left)):  # else what is there may be half of what was to be
        check_new(path)
    return Path(path)


WAIT = 60.0  # seconds that a file which is replaced is waited for, while another process replaces it
_parts: dict[Path, Path] = {}  # by its temporary path, the output


def _is_ours(path: Path) -> bool:
    """Return whether this process holds a path, or a folder around it."""
    target = locks.real(path)
    return any(part == target or part in target.parents for part in _parts)


def _make_inside(path: Path) -> None:
    """Make the folders between a path and the part that it is in, which must still be there."""
    check_part(path)
    with _told(path):
        locks.real(path).parent.mkdir(parents=True, exist_ok=True)


def _part(path: Path) -> Path:
    """Return the temporary path of an output; where no lock says that it is ours alone, one that nobody else has."""
    part = locks.part_of(path)
    if locks.is_held(path) or _is_ours(path):
        return part
    return part.with_name(f"{part.stem}.{uuid.uuid4().hex}.part")


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _put(part: Path, path: Path, replace: bool = False) -> None:
    if not replace:
        check_new(path)
    with _told(path):
        os.replace(part, path)


def _put_all(parts: Sequence[Path], paths: Sequence[Path], replace: bool) -> None:
    if len(parts) == 1 or replace:
        for part, path in zip(parts, paths):
            _put(part, path, replace)
        return
    for path in paths:
        check_new(path)
    journal = _journal(paths[0])
    with _told(paths[0]):
        told = [[str(locks.real(path)), *_identity(part)] for part, path in zip(parts, paths)]
        with open(journal, "x") as file:
            json.dump(told, file)
    try:
        for part, path in zip(parts, paths):
            _put(part, path)
    except BaseException:
        _undo(paths[0])
        raise


def _journal(path: Path) -> Path:
    path = locks.real(path)
    return path.with_name(f".{path.name}.names")


def _identity(path: Path) -> tuple[int, int, int]:
    found = os.lstat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _undo(path: Path) -> None:
    """Take away the files of a process that was killed when only some of them had their names."""
    journal = _journal(path)
    if not os.path.lexists(journal):
        return
    named: list[tuple[str, tuple[int, ...]]] = []
    with contextlib.suppress(ValueError, TypeError, OSError):  # killed while it wrote it: no file has its name yet
        file = os.open(journal, os.O_RDONLY | os.O_NOFOLLOW)
        with open(file) as text:
            if os.fstat(file).st_uid != os.getuid():
                raise ValueError("somebody else's")
            named = [(str(name), tuple(identity)) for name, *identity in json.load(text)]
    there = [Path(name) for name, identity in named if os.path.lexists(name) and _identity(Path(name)) == identity]
    if len(there) < len(named):
        for one in there:
            one.unlink()
    for name, _ in named[1:]:
        clean(name)
    with _told(path):
        locks.remove(journal)


@contextlib.contextmanager
def _told(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an error of the operating system into one that names the output."""
    try:
        yield
    except OSError as error:
        raise _refusal(path, error) from None


def _refusal(path: str | os.PathLike[str], error: OSError) -> Unfinished:
    hint = "free some space there or " if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
    return Unfinished(f"{_shown(path)}: cannot be written ({error.strerror}); {hint}choose another output")


def _shown(path: str | os.PathLike[str]) -> Path:
    """Return the name that a user knows a path by: not that of a part."""
    target = locks.real(path)
    for part, output in _parts.items():
        if target == part or part in target.parents:
            return output / target.relative_to(part)
    return Path(path)
