"""Standard streams that are closed, or whose reader has gone, do not end a command."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

GONE = (errno.EPIPE, errno.EIO, errno.EBADF)  # the reader of a pipe, a terminal, the stream itself


def open_closed() -> None:
    """Open /dev/null in the place of standard streams that are closed (`2>&-`).

    Else the next file that is opened has the number of stderr, and gets what libraries say there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            file = os.open(os.devnull, os.O_RDWR)
            if file != number:
                os.dup2(file, number)
                os.close(file)
        if getattr(sys, name) is None:
            stream = open(number, "w" if number else "r", closefd=False)  # noqa: SIM115  as long as the process runs
            setattr(sys, name, stream)


class _Forgiving:
    """A text stream that swallows what nobody reads any more."""

    def __init__(self, stream: Any, name: str):
        self._stream, self._name = stream, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return int(self._stream.write(text))
        except OSError as error:
            self._forget(error)
            return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._forget(error)

    def _forget(self, error: OSError) -> None:
        """Discard output if the reader has gone; raise other errors, such as a full disk."""
        if error.errno not in GONE:
            raise OSError(error.errno, error.strerror, self._name) from None
        self.drop()

    def drop(self) -> None:
        """Send all that was and will be written to nowhere."""
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())
            self._stream.flush()  # what waited to be written, or Python complains of it when it ends


@contextlib.contextmanager
def forgiving() -> Iterator[None]:
    """Let writes to a closed stdout or stderr succeed while the block runs.

    Raises `OSError` at the end if what was written has not arrived for another reason, such as a full disk.
    """
    kept = sys.stdout, sys.stderr
    ours = sys.stdout, sys.stderr = _Forgiving(kept[0], "stdout"), _Forgiving(kept[1], "stderr")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = kept
        for stream in ours:
            try:
                stream.flush()
            except OSError:
                stream.drop()  # else Python tries again when it ends
                raise
