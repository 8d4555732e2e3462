"""What is known of downloaded files: their checksums, which are recorded beside them; see `pipelines.datasets.download`."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from pipelines import locks
from pipelines.datasets.catalog import Published
from pipelines.documents import read_json_document
from pipelines.errors import InputError
from pipelines.outputs import write_json

VARIABLE = "HEP_ANOMALY_ZOO_DATA"
RECORDS = "checksums.json"
RECORDS_WAIT = 60.0  # seconds, while another download writes its record
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Record(TypedDict):
    """What is noted of a file that has come."""

    sha256: str
    size: int
    mtime_ns: int


def check_sum(path: Path, expected: str | None, advice: str) -> None:
    """Raise `InputError` with both sums if a file does not have the expected one."""
    if expected is None:
        return
    import pooch

    kind, _, wanted = expected.rpartition(":")
    with told(path, "", "read"):
        found = pooch.file_hash(str(path), kind)
    if found != wanted:
        raise InputError(f"{path}: {kind} is {found}, expected {wanted}; {advice}")


def check_content(path: Path, entry: Published) -> None:
    """Raise `InputError` if a file is not of its kind: a log-in page of a network, say, or cut off.

    That matters where no sum is known: the sum of what comes first would be taken for that of the file.
    """
    if entry.size is not None and path.stat().st_size != entry.size:
        raise InputError(f"{path}: {path.stat().st_size} bytes, expected {entry.size}; {entry.file} is not whole")
    problem = None
    if entry.file.endswith(".h5"):
        import h5py

        try:
            h5py.File(path, "r").close()
        except OSError as error:
            problem = f"not a whole HDF5 file ({one_line(error)})"
    else:
        with open(path, "rb") as file:
            start = file.read(4096)
        if not start or start.strip(b"0123456789.eE+- \r\n\t"):
            problem = f"not numbers but {start[:40]!r}"
    if problem:
        raise InputError(f"{path}: {problem}, expected {entry.file} of {entry.page}; try again, or fetch it elsewhere")


def records_of(folder: Path) -> dict[str, Record]:
    path = folder / RECORDS
    if not os.path.lexists(path):
        return {}
    advice = "not the checksums of downloads; remove it, and the files whose sums are in it"
    found: Any = read_json_document(path, dict[str, Record], advice=advice)
    return dict(found)


def recorded_sum(folder: Path, file: str) -> str | None:
    record = records_of(folder).get(file)
    return f"sha256:{record['sha256']}" if record else None


def record_file(folder: Path, file: str, path: Path | None) -> None:
    """Write down sum, size and time of change of `path` as those of `file`; forget them for None."""
    import pooch

    entry: dict[str, Record] = {}
    if path is not None:
        size, changed = size_and_time(path)
        entry[file] = {"sha256": pooch.file_hash(str(path)), "size": size, "mtime_ns": changed}
    with locks.held(folder / RECORDS, wait=RECORDS_WAIT):  # read and written as one
        records = records_of(folder)
        records.pop(file, None)
        write_json(folder / RECORDS, records | entry)


def size_and_time(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@contextlib.contextmanager
def told(path: Path, when_full: str = "free some space", what: str = "written") -> Iterator[None]:
    """Turn an error of the disk into one that names the file and what to do."""
    try:
        yield
    except OSError as error:
        advice = when_full if error.errno in _FULL else f"choose another folder (variable {VARIABLE})"
        advice = advice if what == "written" else "check the file"
        raise InputError(f"{path}: cannot be {what} ({error.strerror or error}); {advice}") from None


def one_line(text: object) -> str:
    return " ".join(str(text).split())


def size_text(size: int) -> str:
    """Write a number of bytes as people do.

    >>> size_text(2_908_260_409), size_text(500)
    ('2.9 GB', '500 bytes')
    """
    for factor, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"
