"""The transfer of a published file, which goes on where it broke off; see `pipelines.datasets.download`."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from typing_extensions import TypedDict

from pipelines.datasets.catalog import Published
from pipelines.datasets.records import one_line, size_text, told
from pipelines.documents import read_json_document
from pipelines.errors import InputError
from pipelines.outputs import write_json

if TYPE_CHECKING:
    import requests

BLOCK = 1 << 16  # a connection that breaks off loses less than this
TIMEOUT = (10, 60)
"""Seconds to connect, and between two pieces of an answer."""
Progress = Callable[[int, "int | None"], object]


class State(TypedDict):
    """What is noted of a download that was begun."""

    url: str
    validator: str | None
    total: int | None


class Transfer:
    """A downloader for pooch that resumes: it fills `work/data`, through as many tries as it takes."""

    def __init__(
        self, name: str, entry: Published, work: Path, url: str, progress: Progress, retries: int, wait: float
    ):
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

    def _check_status(self, answer: requests.Response) -> None:
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

    def _receive(self, answer: requests.Response, done: int, known: Mapping[str, Any]) -> None:
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
            raise _Interrupted(f"the connection ended after {size_text(done)} of {size_text(total)}")

    def _disk(self) -> contextlib.AbstractContextManager[None]:
        return told(self.part, f"free some space; what has come is kept, `zoo data get {self.name}` goes on from there")

    def _state(self) -> dict[str, Any]:
        """What the server said about the partial file; empty if that is from elsewhere or cannot be read."""
        try:
            known: Any = read_json_document(self.state_file, State)
        except InputError:
            return {}
        return dict(known) if known["url"] == self.url else {}

    def _refusal(self, reason: str) -> InputError:
        kept = f"{size_text(self.done())} are kept and the next try goes on from there; " if self.done() else ""
        return InputError(
            f"{self.url}: {self.entry.file} cannot be downloaded ({reason}); {kept}check the connection and the proxy "
            f"(HTTPS_PROXY), or fetch it from {self.entry.page} by other means and run "
            f"`zoo data get {self.name} --from FILE`"
        )


class _Interrupted(Exception):
    """A temporary failure; `pause` is how long the server asks to wait, in seconds."""

    def __init__(self, reason: str, pause: float = 0):
        super().__init__(reason)
        self.reason, self.pause = reason, pause


def fetched(transfer: Transfer, expected: str | None) -> Path:
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
                reason = f"checksum is {found[2]}, expected {found[1]}" if found else one_line(error)
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
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def _check_space(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{size_text(needed)} to come, {size_text(free)} free")


class SupportsWrite(Protocol):
    """A file, which may take less than it is given."""

    def write(self, block: memoryview, /) -> int:
        """Write what there is room for; return how many bytes."""


def _write_all(file: SupportsWrite, block: bytes) -> None:
    rest = memoryview(block)
    while rest:  # a disk that gets full takes a part first
        rest = rest[file.write(rest) :]


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)
