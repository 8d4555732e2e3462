"""Published files, fetched once: a download that goes on where it broke off, and is checked ever after.

The folder of the downloads (`data_folder`) holds

    events_LHCO2020_BlackBox1.h5     a file that has arrived whole, under its published name
    checksums.json                   its SHA-256, size and time of change, written before the file gets its name
    .partial/lhco_bb1/               a file on its way: `data`, and in `state.json` what the server said it is

A partial download goes on by an HTTP range request (RFC 9110, sections 13.1.5 and 14.2). The server answers it with
the rest only if its file is still the same one, by its `ETag` or its date.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipelines.datasets.catalog import Published, published
from pipelines.datasets.records import (
    VARIABLE,
    check_content,
    check_sum,
    record_file,
    recorded_sum,
    records_of,
    size_and_time,
    size_text,
    told,
)
from pipelines.datasets.transfer import Progress, Transfer, fetched
from pipelines.errors import InputError

__all__ = ["VARIABLE", "Progress", "adopt", "data_folder", "get", "state", "verified"]


def data_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of downloads: `folder`, else that of the variable HEP_ANOMALY_ZOO_DATA, else the user's cache.

    >>> data_folder("data").name
    'data'
    """
    chosen = folder or os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("hep-anomaly-zoo"))


def get(
    name: str,
    folder: str | os.PathLike[str] | None = None,
    *,
    url: str | None = None,
    progress: Progress | None = None,
    renew: bool = False,
    retries: int = 4,
    wait: float = 0.5,
) -> Path:
    """Return a published file, downloading it if it is not there yet; it appears whole and checked, or not at all.

    What an interrupted call has fetched is kept, and the next one goes on from there.

    Args:
        name: one of `pipelines.datasets.catalog.PUBLISHED`.
        folder: where it goes, see `data_folder`.
        url: another address to fetch it from, a mirror say.
        progress: called with (bytes done, all bytes or None) as they arrive; while another process downloads the
            same file, with what that one has.
        renew: download again even if it is there, and forget the checksum recorded at the first download.
        retries: tries without a single new byte before it gives up.
        wait: seconds before the second try; doubled for every further one.

    Raises:
        InputError: for an unknown name; if the server cannot be reached, refuses, or breaks off too often; for want
            of space; if what arrived is not the file by its checksum, its size or its first bytes.
    """
    entry, folder = published(name), data_folder(folder)
    work = _folder(folder / ".partial" / name)
    with _only_one(work, progress):
        if renew:
            (folder / entry.file).unlink(missing_ok=True)
            _clear(work)
            record_file(folder, entry.file, None)
        if (folder / entry.file).exists():
            return verified(name, folder)
        expected = entry.checksum or recorded_sum(folder, entry.file)
        transfer = Transfer(name, entry, work, url or entry.url, progress or (lambda done, total: None), retries, wait)
        whole = fetched(transfer, expected)
        return _taken_in(whole, name, entry, folder)


def adopt(name: str, source: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> Path:
    """Take in a published file that was fetched by other means, and return where it is now: a copy, checked.

    Raises `InputError` for an unknown name; if `source` cannot be read, or is not the file by its checksum, its size
    or its first bytes; for want of space.
    """
    entry, folder, source = published(name), data_folder(folder), Path(source)
    if not source.is_file():
        raise InputError(f"{source}: no such file; expected {entry.file}, from {entry.page}")
    work = _folder(folder / ".partial" / name)
    with _only_one(work, None):
        expected = entry.checksum or recorded_sum(folder, entry.file)
        check_sum(source, expected, f"is it {entry.file} of {entry.page}, and whole?")
        whole = work / "whole"
        with told(whole, "free some space"):
            shutil.copyfile(source, whole)
            with open(whole, "rb+") as file:
                os.fsync(file.fileno())
        return _taken_in(whole, name, entry, folder)


def verified(name: str, folder: str | os.PathLike[str] | None = None) -> Path:
    """Return a downloaded file after a look at its checksum.

    A file of the recorded size and time of change is trusted; any other is read in full.

    Raises `InputError` if it is not there, or not what was downloaded.
    """
    entry, folder = published(name), data_folder(folder)
    path = folder / entry.file
    if not path.exists():
        there = f"{size_text(_partial(folder, name))} of it are there; " if _partial(folder, name) else ""
        raise InputError(f"{name}: not downloaded yet ({path}); {there}run `zoo data get {name}`")
    record: Any = records_of(folder).get(entry.file, {})
    if size_and_time(path) == (record.get("size"), record.get("mtime_ns")):
        return path
    expected = f"sha256:{record['sha256']}" if record else entry.checksum
    if expected is None:
        raise InputError(
            f"{path}: is there, but was never checked; run `zoo data get {name} --from {path}` if you trust it, "
            f"or remove it and run `zoo data get {name}`"
        )
    check_sum(path, expected, f"it was altered or damaged; remove it and run `zoo data get {name}`")
    check_content(path, entry)
    record_file(folder, entry.file, path)
    return path


def state(name: str, folder: str | os.PathLike[str] | None = None) -> str:
    """Say in a word or two how much of a published file is there.

    >>> import tempfile
    >>> state("lhco_bb1", tempfile.mkdtemp())
    'not downloaded'
    """
    entry, folder = published(name), data_folder(folder)
    if (folder / entry.file).exists():
        return "downloaded"
    done = _partial(folder, name)
    return f"{size_text(done)} of {size_text(entry.size) if entry.size else '?'}" if done else "not downloaded"


# -- files and sums -------------------------------------------------------------------------------------------


def _taken_in(whole: Path, name: str, entry: Published, folder: Path) -> Path:
    """Give a checked file its name, after its sum has been recorded."""
    try:
        check_content(whole, entry)
    except InputError:
        _clear(whole.parent)
        raise
    path = folder / entry.file
    record_file(folder, entry.file, whole)
    with told(path):
        os.replace(whole, path)
        _sync(folder)
    _clear(whole.parent)
    return path


def _partial(folder: Path, name: str) -> int:
    part = folder / ".partial" / name / "data"
    return part.stat().st_size if part.exists() else 0


def _clear(work: Path) -> None:
    for path in work.iterdir():
        path.unlink()


def _folder(path: Path) -> Path:
    with told(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _only_one(work: Path, progress: Progress | None) -> Iterator[None]:
    """Hold a download for this process; while another one has it, report how far that is.

    Where no byte has come, nothing is left behind.
    """

    def waiting() -> None:
        if progress is not None:
            progress(_partial(work.parents[1], work.name), None)

    with _locked(work.with_name(f"{work.name}.lock"), waiting):
        for stray in _folder(work).iterdir():  # what a killed process left beside the partial file
            if stray.name not in ("data", "state.json"):
                stray.unlink()
        try:
            yield
        finally:
            if not _partial(work.parents[1], work.name):
                with contextlib.suppress(OSError):
                    _clear(work)
                    work.rmdir()


@contextlib.contextmanager
def _locked(path: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold a lock between processes, which ends with the process however that ends; its file is removed at the end."""
    while True:
        with told(path):
            lock = os.open(_folder(path.parent) / path.name, os.O_RDWR | os.O_CREAT, 0o666)
        while not _taken(lock):
            waiting()
            time.sleep(0.1)
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(lock), os.stat(path)):
                break
        os.close(lock)  # of a process that has just ended, and removed it
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # while it is held: nobody holds a lock that is not there
            path.parent.rmdir()
        os.close(lock)


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # some file systems of batch farms have no locks; then it is the user who must not start two
    return True
