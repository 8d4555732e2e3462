"""Files of others: what may be opened at all, and errors of reading that say whose fault they are."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from numbers import Real
from pathlib import Path

import numpy as np

from pipelines.errors import InputError, note_read

# What parsers raise for a file that is damaged. ArrowException, whose import takes a while, is known by its module.
DAMAGE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, ArithmeticError, RuntimeError, MemoryError, SyntaxError),
    *(zlib.error, zipfile.BadZipFile, tokenize.TokenError, struct.error, AssertionError),
)
# Errors of the machine, for which the content of the file is not to blame.
SYSTEM = (
    *(errno.EACCES, errno.EPERM, errno.EIO, errno.ENOLCK, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOENT),
    *(errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EREMOTEIO),
)


def regular_file(path: str | os.PathLike[str], expected: str) -> Path:
    """Return `path` if it is a file of bytes; raises `InputError` if it is missing, a folder, a pipe or a device.

    A named pipe has no end before somebody writes to it, and a device such as /dev/zero has none at all.

    >>> regular_file("surely-not-there.h5", "an HDF5 file")
    Traceback (most recent call last):
    pipelines.errors.InputError: surely-not-there.h5: no such file
    """
    check_utf8(path)
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        reason = (
            "" if getattr(error, "errno", None) in (errno.ENOENT, errno.ENOTDIR, None) else f" ({reason_of(error)})"
        )
        raise InputError(f"{os.fspath(path)!s}: no such file{reason}".replace("\0", "\\0")) from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no file"
        raise InputError(f"{path}: is {kind}, expected {expected}")
    note_read(path)
    return Path(path)


def is_number(text: str) -> bool:
    """Tell whether a text of a file is a number, as Python reads them.

    >>> is_number("1e-3"), is_number("pt_1")
    (True, False)
    """
    try:
        float(text)
    except ValueError:
        return False
    return True


def mixes_truth(values: Iterable[object]) -> bool:
    """Tell whether there are truth values among the numbers of a column in memory.

    >>> mixes_truth([1.5, True]), mixes_truth([True, None, False])
    (True, False)
    """
    numbers = [v for v in values if isinstance(v, (Real, np.bool_))]
    truth = sum(isinstance(v, (bool, np.bool_)) for v in numbers)
    return 0 < truth < sum(v == v for v in numbers)  # NaN stands for what is missing


def check_utf8(path: str | os.PathLike[str]) -> None:
    """Raise `InputError` for a name that is not UTF-8: no JSON or HDF5 file could say which file it was.

    >>> check_utf8("events.h5")
    """
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise InputError(f"{shown}: its name is not UTF-8, which results could not name; rename it") from None


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], what: str = "") -> Iterator[None]:
    """Turn what libraries raise while they read a file into an `InputError` that names it and the cause.

    >>> with reading("jets.npz", "rows 0 to 9"):
    ...     raise EOFError("mjj ends too early")
    Traceback (most recent call last):
    pipelines.errors.InputError: jets.npz: rows 0 to 9 cannot be read (mjj ends too early); damaged or truncated, or not
    what its name says
    """
    where = f"{path}: {what} cannot be read" if what else f"{path}: cannot be read"
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not isinstance(error, DAMAGE) and type(error).__module__.partition(".")[0] != "pyarrow":
            raise
        if isinstance(error, OSError) and error.errno in SYSTEM:
            raise InputError(f"{where} ({os.strerror(error.errno)})") from None
        if isinstance(error, MemoryError):
            raise InputError(f"{where}: it takes more memory than there is, or claims more than it holds") from None
        hint = "damaged or truncated, or not what its name says"
        raise InputError(f"{where} ({reason_of(error)}); {hint}") from None


def reason_of(error: BaseException) -> str:
    """Return the first line of an error, or its name where it says nothing; at most 200 characters.

    >>> reason_of(ValueError("bad magic.")), reason_of(KeyError())
    ('bad magic', 'KeyError')
    """
    lines = str(error).strip().splitlines()
    first = "".join(c if c.isprintable() else "?" for c in lines[0])[:200].rstrip(". ") if lines else ""
    return first or type(error).__name__
