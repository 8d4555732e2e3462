"""Locks by which one process at a time writes an output; the kernel drops them when a process ends."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import logging
import os
import shutil
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from pipelines.errors import InputError, Unfinished

log = logging.getLogger(__name__)

POLL = 0.02  # seconds between two looks at a lock that is waited for
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@dataclasses.dataclass
class _Lock:
    file: int
    thread: int
    works: bool  # False on a file system without locks
    made: list[Path]  # folders that were made for it
    depth: int = 1


_locks: dict[Path, _Lock] = {}  # of this process, by the real path of the output
_guard = threading.RLock()


def real(path: str | os.PathLike[str]) -> Path:
    """Return the path whose folder has no links in it; the last name may be a link, which is not followed.

    Raises `InputError` for a path without a name of its own, as / is one.
    """
    path = Path(path)
    found = path.parent.resolve() / path.name
    if not found.name:
        raise InputError(f"{found}: exists already; choose another name")
    return found


def part_of(path: str | os.PathLike[str]) -> Path:
    """Return where an output is while it is being written.

    >>> part_of("/data/events.h5").name
    '.events.h5.part'
    """
    path = real(path)
    return path.with_name(f".{path.name}.part")


def lock_of(path: str | os.PathLike[str]) -> Path:
    """Return the lock file of an output."""
    path = real(path)
    return path.with_name(f".{path.name}.lock")


def is_known(path: str | os.PathLike[str]) -> bool:
    """Return whether this process writes an output, on whatever file system."""
    return real(path) in _locks


def is_held(path: str | os.PathLike[str]) -> bool:
    """Return whether this process holds an output, on a file system that has locks."""
    lock = _locks.get(real(path))
    return lock is not None and lock.works


@contextlib.contextmanager
def held(path: str | os.PathLike[str], *, wait: float = 0.0, make_folders: bool = True) -> Iterator[None]:
    """Hold an output as long as the block runs; what a killed process left of it beside it is removed.

    The same thread may hold it again meanwhile. `wait` is for how many seconds another process is waited for.

    Raises:
        InputError: another process, or another thread, holds it.
        Unfinished: the lock cannot be made.
    """
    target = real(path)
    with _guard:
        lock = _locks.get(target)
        if lock is not None and lock.thread == threading.get_ident():
            lock.depth += 1
        else:
            lock = None
    if lock is None:
        lock = _take(Path(path), target, wait, make_folders)
    try:
        yield
    finally:
        with _guard:
            lock.depth -= 1
            if not lock.depth:
                _locks.pop(target, None)
                _release(lock, target)


def remove(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link (not what it leads to); nothing if it is not there."""
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        pass


def _take(path: Path, target: Path, wait: float, make_folders: bool) -> _Lock:
    until, made = time.monotonic() + wait, _make_folders(path, target.parent) if make_folders else []
    while True:
        file = _open(path, target)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            works = True
        except BlockingIOError:
            who = _who(file)
            os.close(file)
            if time.monotonic() >= until:
                raise InputError(f"{path}: {who} is writing it; wait for it, or choose another output") from None
            time.sleep(POLL)
            continue
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(file)
                raise Unfinished(
                    f"{lock_of(path)}: cannot be locked ({error.strerror}); choose another output"
                ) from None
            works = False
            _warn(target.parent)
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(file), os.lstat(lock_of(path))):
                break
        os.close(file)  # the lock of a process that has just ended, and removed it
    lock = _Lock(file, threading.get_ident(), works, made)
    with _guard:
        _locks[target] = lock
    with contextlib.suppress(OSError):
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()} {socket.gethostname()}".encode(), 0)
    if works:
        with contextlib.suppress(OSError):  # if it cannot be removed, writing it fails with a reason
            remove(part_of(path))
    return lock


def _open(path: Path, target: Path) -> int:
    """Open the lock file, which is made if it is not there; never through a link."""
    lock = lock_of(path)
    try:
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        reason = str(error.strerror)
        if error.errno == errno.ELOOP:
            reason = f"{lock.name} is a symbolic link, which is not followed"
        elif not target.parent.is_dir():
            reason = f"its folder {target.parent} is not there, and is not made anew if it vanished"
        raise Unfinished(f"{path}: cannot be written ({reason}); choose another output") from None
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    raise InputError(f"{path}: {lock} is no file, expected a lock; remove it, or choose another output")


def _make_folders(path: Path, folder: Path) -> list[Path]:
    """Make the folder of an output, and return the folders that were not there."""
    missing = []
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = folder.parent
    try:
        for one in reversed(missing):
            one.mkdir(exist_ok=True)
    except OSError as error:
        raise Unfinished(f"{path}: cannot be written ({error.strerror}); choose another output") from None
    return missing


def _release(lock: _Lock, target: Path) -> None:
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(lock.file), os.lstat(lock_of(target))):
            lock_of(target).unlink()  # while it is held: nobody holds a lock that is not there
    os.close(lock.file)
    with contextlib.suppress(OSError):  # there is something in it, as there should be
        for folder in lock.made:
            folder.rmdir()


def _who(file: int) -> str:
    with contextlib.suppress(OSError, ValueError):
        process, host = os.pread(file, 300, 0).decode().split()
        if int(process) != os.getpid() or host != socket.gethostname():
            return f"another process ({process} on {host})"
    return "another process"


_warned: set[Path] = set()


def _warn(folder: Path) -> None:
    if folder not in _warned:
        _warned.add(folder)
        log.warning("%s: this file system has no locks; see that no two commands write the same output", folder)


def _forget() -> None:
    """In a forked process: what its parent holds it does not hold, also if it outlives it."""
    for lock in _locks.values():
        with contextlib.suppress(OSError):
            os.close(lock.file)
    _locks.clear()


os.register_at_fork(after_in_child=_forget)
