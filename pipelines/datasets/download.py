"""Published files, fetched once: a download that goes on where it broke off, and is checked ever after.

The folder of the downloads (`data_folder`) holds

    events_LHCO2020_BlackBox1.h5     a file that has arrived whole, under its published name
    checksums.json                   its SHA-256, size and time of change, written before the file gets its name
    .partial/lhco_bb1/               a file on its way: `data`, and in `state.json` what the server said it is

A partial download goes on by an HTTP range request (RFC 9110, sections 13.1.5 and 14.2) that the server answers
with the rest only if its file is still the same one, by its `ETag` or its date.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from pipelines import locks
from pipelines.datasets.catalog import Published, published
from pipelines.documents import read_json_document
from pipelines.errors import InputError
from pipelines.outputs import write_json

VARIABLE = "HEP_ANOMALY_ZOO_DATA"
RECORDS = "checksums.json"
RECORDS_WAIT = 60.0  # seconds, while another download writes its record

BLOCK = 1 << 16  # a connection that breaks off loses less than this
TIMEOUT = (10, 60)
"""Seconds to connect, and between two pieces of an answer."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Progress = Callable[[int, "int | None"], object]


def data_folder(folder: str | os.PathLike | None = None) -> Path:
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
    folder: str | os.PathLike | None = None,
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
            _record(folder, entry.file, None)
        if (folder / entry.file).exists():
            return verified(name, folder)
        expected = entry.checksum or _recorded_sum(folder, entry.file)
        transfer = _Transfer(name, entry, work, url or entry.url, progress or (lambda done, total: None), retries, wait)
        whole = _fetched(transfer, expected)
        return _taken_in(whole, name, entry, folder)


def adopt(name: str, source: str | os.PathLike, folder: str | os.PathLike | None = None) -> Path:
    """Take in a published file that was fetched by other means, and return where it is now: a copy, checked.

    Raises `InputError` for an unknown name; if `source` cannot be read, or is not the file by its checksum, its size
    or its first bytes; for want of space.
    """
    entry, folder, source = published(name), data_folder(folder), Path(source)
    if not source.is_file():
        raise InputError(f"{source}: no such file; expected {entry.file}, from {entry.page}")
    work = _folder(folder / ".partial" / name)
    with _only_one(work, None):
        expected = entry.checksum or _recorded_sum(folder, entry.file)
        _check_sum(source, expected, f"is it {entry.file} of {entry.page}, and whole?")
        whole = work / "whole"
        with _told(whole, "free some space"):
            shutil.copyfile(source, whole)
            with open(whole, "rb+") as file:
                os.fsync(file.fileno())
        return _taken_in(whole, name, entry, folder)


def verified(name: str, folder: str | os.PathLike | None = None) -> Path:
    """Return a downloaded file after a look at its checksum.

    A file of the recorded size and time of change is trusted; any other is read in full.

    Raises `InputError` if it is not there, or not what was downloaded.
    """
    entry, folder = published(name), data_folder(folder)
    path = folder / entry.file
    if not path.exists():
        there = f"{_size(_partial(folder, name))} of it are there; " if _partial(folder, name) else ""
        raise InputError(f"{name}: not downloaded yet ({path}); {there}run `zoo data get {name}`")
    record = _records(folder).get(entry.file, {})
    if _touch(path) == (record.get("size"), record.get("mtime_ns")):
        return path
    expected = f"sha256:{record['sha256']}" if record else entry.checksum
    if expected is None:
        raise InputError(
            f"{path}: is there, but was never checked; run `zoo data get {name} --from {path}` if you trust it, "
            f"or remove it and run `zoo data get {name}`"
        )
    _check_sum(path, expected, f"it was altered or damaged; remove it and run `zoo data get {name}`")
    _check_content(path, entry)
    _record(folder, entry.file, path)
    return path


def state(name: str, folder: str | os.PathLike | None = None) -> str:
    """Say in a word or two how much of a published file is there.

    >>> import tempfile
    >>> state("lhco_bb1", tempfile.mkdtemp())
    'not downloaded'
    """
    entry, folder = published(name), data_folder(folder)
    if (folder / entry.file).exists():
        return "downloaded"
    done = _partial(folder, name)
    return f"{_size(done)} of {_size(entry.size) if entry.size else '?'}" if done else "not downloaded"


class State(TypedDict):
    """What is noted of a download that was begun."""

    url: str
    validator: str | None
    total: int | None


class Record(TypedDict):
    """What is noted of a file that has come."""

    sha256: str
    size: int
    mtime_ns: int


# -- the transfer ---------------------------------------------------------------------------------------------


class _Transfer:
    """A downloader for pooch that resumes: it fills `work/data`, through as many tries as it takes."""

    def __init__(self, name, entry: Published, work: Path, url: str, progress: Progress, retries: int, wait: float):
        self.name, self.entry, self.url, self.progress = name, entry, url, progress
        self.part, self.state_file = work / "data", work / "state.json"
        self.retries, self.wait = retries, wait
        self.resumed = False

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        best, failures = self.done(), 0
        self.resumed = best > 0
        while True:
            try:
                self._pull()
                break
            except _Interrupted as interruption:
                failures = 0 if self.done() > best else failures + 1
                best = max(best, self.done())
                if failures > self.retries:
                    raise self._refusal(interruption.reason) from None
                time.sleep(interruption.pause or min(self.wait * 2 ** max(failures - 1, 0), 30))
        os.unlink(output_file)  # pooch's empty one
        try:
            os.link(self.part, output_file)  # so that who is killed while the sum is taken has not lost the file
        except OSError:  # not every file system has links
            os.replace(self.part, output_file)

    def done(self) -> int:
        """Bytes that are there."""
        return self.part.stat().st_size if self.part.exists() else 0

    def start_over(self) -> None:
        """Forget what is there."""
        self.part.unlink(missing_ok=True)
        self.state_file.unlink(missing_ok=True)
        self.resumed = False

    def _pull(self) -> None:
        """Ask once for what is missing; raises `_Interrupted` if another try may help."""
        import requests

        known = self._state()
        done = self.done()
        if known and done == known["total"]:
            return
        if done and (not known or not known["validator"] or (known["total"] and done > known["total"])):
            self.start_over()  # nothing says that the rest would be the rest of the same file
            known, done = {}, 0
        headers = {"User-Agent": "hep-anomaly-zoo", "Accept-Encoding": "identity"}
        if done:
            headers |= {"Range": f"bytes={done}-", "If-Range": known["validator"]}
        try:
            with requests.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
                self._check_status(answer)
                self._receive(answer, done, known)
        except requests.exceptions.SSLError as error:
            raise self._refusal(f"its certificate is not accepted: {_innermost(error)}") from None
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise _Interrupted(_reason(error)) from None
        except requests.RequestException as error:
            raise self._refusal(f"{type(error).__name__}: {error}") from None

    def _check_status(self, answer) -> None:
        """Raise for what is neither the file nor the rest of it."""
        code = answer.status_code
        reason = f"the server answers {code} {answer.reason}"
        if code == 416:  # there is no such rest: the file is another one now
            self.start_over()
            raise _Interrupted(reason)
        if code in (408, 429) or code >= 500:
            pause = answer.headers.get("Retry-After", "")
            raise _Interrupted(reason, min(int(pause), 60) if pause.isdigit() else 0)
        if code not in (200, 206):
            raise self._refusal(reason)
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise self._refusal("a web page comes instead; the log-in page of a network?")

    def _receive(self, answer, done: int, known: Mapping) -> None:
        """Append what the server sends to what is there, or start over if it sends the whole file."""
        if answer.status_code == 206 and not known:
            raise self._refusal("the server sends a part of the file, and was not asked for one")
        if answer.status_code == 206:
            total = _range_total(answer.headers.get("Content-Range", ""), done)
            same = _validator(answer.headers) in (None, known["validator"]) and known["total"] in (None, total)
            if total is None or not same:
                self.start_over()
                raise _Interrupted("the server sends the rest of another file")
            self.resumed = True
        else:
            length = answer.headers.get("Content-Length", "")
            done, total = 0, int(length) if length.isdigit() else None
            if None not in (total, self.entry.size) and total != self.entry.size:
                raise self._refusal(f"the server offers {total} bytes, expected {self.entry.size}: another file")
            self.start_over()
            validator = _validator(answer.headers)
            write_json(self.state_file, {"url": self.url, "validator": validator, "total": total})
        with self._disk():
            _check_space(self.part, (total or done) - done)
            self.part.touch()
        with open(self.part, "ab", buffering=0) as file:
            self.progress(done, total)
            for block in answer.iter_content(BLOCK):
                with self._disk():
                    _write_all(file, block)
                done += len(block)
                self.progress(done, total)
            with self._disk():
                os.fsync(file.fileno())
        if total is not None and done != total:
            raise _Interrupted(f"the connection ended after {_size(done)} of {_size(total)}")

    def _disk(self) -> contextlib.AbstractContextManager:
        return _told(
            self.part, f"free some space; what has come is kept, `zoo data get {self.name}` goes on from there"
        )

    def _state(self) -> dict:
        """What the server said about the partial file; empty if that is from elsewhere or cannot be read."""
        try:
            known: Any = read_json_document(self.state_file, State)
        except InputError:
            return {}
        return dict(known) if known["url"] == self.url else {}

    def _refusal(self, reason: str) -> InputError:
        kept = f"{_size(self.done())} are kept and the next try goes on from there; " if self.done() else ""
        return InputError(
            f"{self.url}: {self.entry.file} cannot be downloaded ({reason}); {kept}check the connection and the proxy "
            f"(HTTPS_PROXY), or fetch it from {self.entry.page} by other means and run "
            f"`zoo data get {self.name} --from FILE`"
        )


class _Interrupted(Exception):
    """A try that failed for a reason that may pass; `pause` is how long the server asks to wait, in seconds."""

    def __init__(self, reason: str, pause: float = 0):
        super().__init__(reason)
        self.reason, self.pause = reason, pause


def _fetched(transfer: _Transfer, expected: str | None) -> Path:
    """Download by pooch, which checks the sum; return where the whole file is."""
    import pooch

    work, file = transfer.part.parent, transfer.entry.file
    store = pooch.create(path=work, base_url="", registry={file: expected}, urls={file: transfer.url})
    with _quiet(pooch.get_logger()):
        for _ in range(2):
            try:
                return Path(store.fetch(file, downloader=transfer))
            except InputError:
                raise
            except ValueError as error:  # pooch's word for a wrong sum
                found = re.search(r"expected (\S+) but got (\w+)", str(error))
                reason = f"checksum is {found[2]}, expected {found[1]}" if found else _one_line(error)
            resumed = transfer.resumed
            transfer.start_over()
            if not resumed:
                break  # else: two parts of different files, maybe; once from the beginning
    advice = "the file has changed on the server or on the way"
    if transfer.entry.checksum is None:
        advice += f"; if you trust the new one, run `zoo data get {transfer.name} --renew`"
    raise InputError(f"{transfer.url}: {reason}; {advice}")


def _range_total(header: str, start: int) -> int | None:
    """Return the size of the whole file from a `Content-Range` that begins at `start`, else None.

    >>> _range_total("bytes 100-199/200", 100), _range_total("bytes 0-199/200", 100)
    (200, None)
    """
    try:
        unit, _, rest = header.partition(" ")
        part, _, total = rest.partition("/")
        return int(total) if unit == "bytes" and int(part.partition("-")[0]) == start else None
    except ValueError:
        return None


def _validator(headers: Mapping[str, str]) -> str | None:
    """Return what tells this version of a file from others: a strong ETag, else its date."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _reason(error: Exception) -> str:
    """Say why a server cannot be reached or stopped answering, in a few words."""
    import socket

    import requests

    if isinstance(error, requests.exceptions.ProxyError):
        return f"the proxy does not let it through: {_innermost(error)}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    cause = _innermost(error)
    if isinstance(cause, socket.gaierror):
        return "the name of the server is not known here: offline?"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return "the connection broke off"


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return error


# -- files and sums -------------------------------------------------------------------------------------------


def _taken_in(whole: Path, name: str, entry: Published, folder: Path) -> Path:
    """Give a checked file its name, after its sum has been recorded."""
    try:
        _check_content(whole, entry)
    except InputError:
        _clear(whole.parent)
        raise
    path = folder / entry.file
    _record(folder, entry.file, whole)
    with _told(path):
        os.replace(whole, path)
        _sync(folder)
    _clear(whole.parent)
    return path


def _check_sum(path: Path, expected: str | None, advice: str) -> None:
    """Raise `InputError` with both sums if a file does not have the expected one."""
    if expected is None:
        return
    import pooch

    kind, _, wanted = expected.rpartition(":")
    with _told(path, "", "read"):
        found = pooch.file_hash(str(path), kind)
    if found != wanted:
        raise InputError(f"{path}: {kind} is {found}, expected {wanted}; {advice}")


def _check_content(path: Path, entry: Published) -> None:
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
            problem = f"not a whole HDF5 file ({_one_line(error)})"
    else:
        with open(path, "rb") as file:
            start = file.read(4096)
        if not start or start.strip(b"0123456789.eE+- \r\n\t"):
            problem = f"not numbers but {start[:40]!r}"
    if problem:
        raise InputError(f"{path}: {problem}, expected {entry.file} of {entry.page}; try again, or fetch it elsewhere")


def _records(folder: Path) -> dict[str, dict]:
    path = folder / RECORDS
    if not os.path.lexists(path):
        return {}
    advice = "not the checksums of downloads; remove it, and the files whose sums are in it"
    found: Any = read_json_document(path, dict[str, Record], advice=advice)
    return dict(found)


def _recorded_sum(folder: Path, file: str) -> str | None:
    record = _records(folder).get(file)
    return f"sha256:{record['sha256']}" if record else None


def _record(folder: Path, file: str, path: Path | None) -> None:
    """Write down sum, size and time of change of `path` as those of `file`; forget them for None."""
    import pooch

    entry = None
    if path is not None:
        size, changed = _touch(path)
        entry = {"sha256": pooch.file_hash(str(path)), "size": size, "mtime_ns": changed}
    with locks.held(folder / RECORDS, wait=RECORDS_WAIT):  # read and written as one
        records = _records(folder)
        records.pop(file, None)
        write_json(folder / RECORDS, records | ({file: entry} if entry else {}))


def _touch(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _partial(folder: Path, name: str) -> int:
    part = folder / ".partial" / name / "data"
    return part.stat().st_size if part.exists() else 0


def _clear(work: Path) -> None:
    for path in work.iterdir():
        path.unlink()


def _folder(path: Path) -> Path:
    with _told(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def _check_space(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{_size(needed)} to come, {_size(free)} free")


def _write_all(file, block: bytes) -> None:
    rest = memoryview(block)
    while rest:  # a disk that gets full takes a part first
        rest = rest[file.write(rest) :]


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _told(path: Path, when_full: str = "free some space", what: str = "written") -> Iterator[None]:
    """Turn an error of the disk into one that names the file and what to do."""
    try:
        yield
    except OSError as error:
        advice = when_full if error.errno in _FULL else f"choose another folder (variable {VARIABLE})"
        advice = advice if what == "written" else "check the file"
        raise InputError(f"{path}: cannot be {what} ({error.strerror or error}); {advice}") from None


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
        with _told(path):
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


@contextlib.contextmanager
def _quiet(logger) -> Iterator[None]:
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _size(size: int) -> str:
    """Write a number of bytes as people do.

    >>> _size(2_908_260_409), _size(500)
    ('2.9 GB', '500 bytes')
    """
    for factor, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"
