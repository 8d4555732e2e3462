"""HDF5 files of others: opened where there are no locks too, and refused where their data are elsewhere or nowhere.

An HDF5 file can name other files as the place of its data (external links, external storage, virtual datasets). It can
also claim rows that were never written, for which the library gives a fill value. Neither is an event.
"""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import h5py

# Registers the Zstandard filter of events files, and the Blosc filter of the published LHC Olympics files.
import hdf5plugin  # noqa: F401
import numpy as np

from pipelines.errors import InputError
from pipelines.events.files import DAMAGE, SYSTEM, reading, reason_of, regular_file

SIGNATURE = b"\x89HDF\r\n\x1a\n"
LOCKING = "HDF5_USE_FILE_LOCKING"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
MOST_OBJECTS = 70_000  # groups and datasets: a table with a dataset for each of 65,536 columns, and some
MOST_CHUNK = 2**30  # bytes that HDF5 takes at once to read a single row
_sound: dict[tuple[object, ...], None] = {}  # files that were looked through, by what identifies them


def open_hdf5(path: str | os.PathLike[str]) -> h5py.File:
    """Open an HDF5 file for reading; it needs no lock where the file system has none.

    Raises `InputError` if it is missing, not a regular file, not HDF5, damaged, open in a program that writes to it, or
    if parts of it are outside of it, or groups within themselves.
    """
    path = regular_file(path, "an HDF5 file")
    found = os.stat(path)
    identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    if identity not in _sound:
        _check_heaps(path)
    file = _opened(path)
    try:
        if identity not in _sound:
            with reading(path):
                texts = _check_links(file, path)
            if texts and found.st_size > 2 * LOOKED_THROUGH:
                _check_heaps(path, whole=True)
            if len(_sound) >= 1000:
                _sound.clear()
            _sound[identity] = None
    except BaseException:
        file.close()
        raise
    return file


@contextlib.contextmanager
def reading_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open an HDF5 file as `open_hdf5`; what the library says of damage while the block reads is an `InputError` too."""
    with open_hdf5(path) as file, reading(path):
        yield file


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except (OSError, RuntimeError, ValueError) as error:
        first = error
    if _errno(first) in NO_LOCKS:  # nothing is written to the file, so nothing has to be locked
        try:
            return h5py.File(path, "r", locking=False)
        except (OSError, RuntimeError, ValueError) as error:
            first = error
    raise InputError(f"{path}: {_cause(path, first)}") from None


def _errno(error: Exception) -> int | None:
    found = re.search(r"errno = (\d+)", str(error))
    return int(found[1]) if found else getattr(error, "errno", None)


def _cause(path: Path, error: Exception) -> str:
    """Say why a file cannot be opened."""
    code, text = _errno(error), str(error)
    if "lock file" in text and code in NO_LOCKS:
        return (
            f"cannot be opened, since its file system has no locks ({os.strerror(code or 0)}) and the variable {LOCKING} "
            f"is set; set {LOCKING}=FALSE"
        )
    if "lock file" in text or code in (errno.EAGAIN, errno.EWOULDBLOCK):
        return (
            "another program has it open to write to it; wait until that is closed, or read it all the same with the "
            f"variable {LOCKING}=FALSE"
        )
    if "already open for" in text:
        return (
            "another program has it open to write to it, or was killed while it did; wait for it, or mend the file with "
            "`h5clear -s`"
        )
    if code in SYSTEM:
        return f"cannot be opened ({os.strerror(code)})"
    if not _has_signature(path):
        return f"not an HDF5 file ({reason_of(error)})"
    return f"damaged or truncated ({reason_of(error)})"


def _has_signature(path: Path) -> bool:
    """Tell whether a file has the first bytes of HDF5, which may follow a block of the user's own."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            for place in (0, *(512 * 2**k for k in range(40) if 512 * 2**k < size)):
                file.seek(place)
                if file.read(len(SIGNATURE)) == SIGNATURE:
                    return True
    except OSError:
        pass
    return False


# -- texts ----------------------------------------------------------------------------------------------------

HEAP = b"GCOL\x01\0\0\0"  # signature and version of a collection of texts
HEAP_HEAD = struct.Struct("<8sQ")  # signature, version, size
TEXT_HEAD = struct.Struct("<HHIQ")  # number of the text, references, nothing, size
MOST_TEXTS = 2**16  # in a collection, which numbers them by two bytes
LOOKED_THROUGH = 2**26  # bytes at the beginning and at the end of a file, where programs write texts of attributes


def _check_heaps(path: Path, whole: bool = False) -> None:
    """Raise `InputError` for texts among which HDF5 would look for ever, before it does.

    With `whole` all of a file is looked through, which takes about a second for 1 GB: where datasets hold texts.

    HDF5 goes from one text of a collection to the next by their sizes. Where a sector of a disk is lost, they are 0, and
    it stays where it is (HDF5 1.14.6; File Format Specification 3.0, "III.E. Global Heap").
    """
    size = os.path.getsize(path)
    places = {(0, size)} if whole or size <= 2 * LOOKED_THROUGH else {
        (0, LOOKED_THROUGH), ((size - LOOKED_THROUGH) // mmap.PAGESIZE * mmap.PAGESIZE, LOOKED_THROUGH)
    }  # fmt: skip
    if not size:
        return
    with reading(path), open(path, "rb") as file:
        for start, length in places:
            length = min(length, size - start)
            with mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ, offset=start) as content:
                at = content.find(HEAP)
                while at >= 0:
                    if not _can_be_read(content, at):
                        raise InputError(f"{path}: damaged or truncated (texts of no size); make it again")
                    at = content.find(HEAP, at + len(HEAP))


def _can_be_read(content: mmap.mmap, start: int) -> bool:
    """Return whether a collection of texts comes to an end."""
    if start + HEAP_HEAD.size > len(content):
        return True
    end = min(start + HEAP_HEAD.unpack_from(content, start)[1], len(content))
    at = start + HEAP_HEAD.size
    for _ in range(MOST_TEXTS):
        if at + TEXT_HEAD.size > end:
            break
        number, _, _, size = TEXT_HEAD.unpack_from(content, at)
        if number == 0 and size == 0:
            return False
        at += size if number == 0 else TEXT_HEAD.size + (size + 7) // 8 * 8
    return True


# -- where the data are ---------------------------------------------------------------------------------------


def _check_links(file: h5py.File, path: Path) -> bool:
    """Look through all groups; raise `InputError` for links out of the file, data outside of it, and circles.

    Returns whether a dataset holds texts, or other things of various lengths.
    """
    count, texts = 0, False
    above = [_address(file)]  # the groups that are being looked through, each within the one before
    finished, unfinished = set[int](), set(above)
    waiting = [_members(file, path)]
    while waiting:
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
            unfinished.discard(above[-1])
            finished.add(above.pop())
            continue
        count += 1
        if count > MOST_OBJECTS:
            raise InputError(f"{path}: has more than {MOST_OBJECTS} objects, expected a file of events or of a table")
        address = _address(found)
        if address in unfinished:
            raise InputError(f"{path}: group {_shown(found.name)} contains itself; damaged, or made to do harm")
        if address in finished:
            continue
        if isinstance(found, h5py.Group):
            above.append(address)
            unfinished.add(address)
            waiting.append(_members(found, path))
        else:
            finished.add(address)
            if isinstance(found, h5py.Dataset):
                _check_place(found, path)
                with contextlib.suppress(TypeError):  # of a type that NumPy does not have, which nobody reads
                    texts = texts or found.dtype.hasobject
    return texts


def _members(group: h5py.Group, path: Path) -> Iterator[h5py.HLObject]:
    """Yield what a group links to; raises `InputError` for a link out of the file."""
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise InputError(
                f"{path}: {_shown(name)} is a link to another file ({_shown(link.filename)}), which is not followed; "
                f"copy the data into this one"
            )
        if isinstance(link, h5py.HardLink):
            yield group[name]


def _address(found: h5py.HLObject) -> int:
    return int(h5py.h5o.get_info(found.id).addr)


def _shown(name: object) -> str:
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    return repr("".join(c if c.isprintable() else "?" for c in text)[:60])


def _check_place(data: h5py.Dataset, path: Path) -> None:
    if data.external:
        raise InputError(
            f"{path}: the data of {_shown(data.name)} are in another file ({_shown(data.external[0][0])}), which is not "
            f"read; copy them into this one"
        )
    if data.is_virtual:
        _check_sources(data, path)


def _check_sources(data: h5py.Dataset, path: Path) -> None:
    """Raise `InputError` unless the files behind a virtual dataset hold all of it: HDF5 would fill what is missing."""
    what = f"{path}: {_shown(data.name)} is put together from other files"
    sources = data.virtual_sources()
    if len(sources) > 10_000:
        raise InputError(f"{what}, {len(sources)} of them, expected at most 10,000; write them as one")
    covered = 0
    for source in sources:
        name = f"{_shown(source.file_name)}, dataset {_shown(source.dset_name)}"
        if "%" in source.file_name:
            raise InputError(f"{what} by a pattern ({name}); write them as one file")
        try:
            covered += source.vspace.get_select_npoints()
            where = path if source.file_name == "." else path.parent / source.file_name
            if where == path:
                _check_source(data.file, source, name)
            else:
                with _opened(regular_file(where, "an HDF5 file")) as other:
                    _check_source(other, source, name)
        except InputError as error:
            raise InputError(f"{what}, and one is not there: {error}") from None
        except DAMAGE as error:
            raise InputError(f"{what}, and {name} cannot be read ({reason_of(error)})") from None
    if covered != data.size:
        raise InputError(f"{what} that hold {covered} of its {data.size} values; write it as one file")


def _check_source(file: h5py.File, source: h5py.VDSmap, name: str) -> None:
    found = file.get(source.dset_name)
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"no {name}")
    chosen, taken = source.src_space, source.vspace.get_select_npoints()
    if chosen.get_select_type() == h5py.h5s.SEL_ALL:  # HDF5 does not write down of what shape "all" is
        fits = found.size == taken
    else:  # the shape that it gives is the corner of what is chosen
        _, last = chosen.get_select_bounds()
        fits = len(last) == found.ndim and all(end < length for end, length in zip(last, found.shape))
    if not fits:
        raise InputError(f"{name} has shape {found.shape}, which does not hold the {taken} values that are taken of it")
    if found.external or found.is_virtual:
        raise InputError(f"{name} has its own data in other files")
    check_stored(found, Path(file.filename))


def check_stored(data: h5py.Dataset, path: str | os.PathLike[str]) -> None:
    """Raise `InputError` if values of a dataset were never written: HDF5 gives a fill value for them.

    That finds files that claim 2^40 events and hold none, before anything is read or allocated.
    """
    if not data.shape or not data.size or data.is_virtual:
        return
    with reading(path, f"dataset {_shown(data.name)}"):
        width = data.dtype.itemsize
        if data.chunks is not None:
            size = math.prod(data.chunks) * width
            if size > MOST_CHUNK:
                raise InputError(
                    f"{path}: {_shown(data.name)} has chunks of {size:,} bytes, expected at most {MOST_CHUNK:,}; write it "
                    f"with smaller ones"
                )
            wanted = math.prod(-(-rows // each) for rows, each in zip(data.shape, data.chunks))
            there = data.id.get_num_chunks()
            missing = there < wanted
        else:
            wanted, there = math.prod(data.shape) * width, data.id.get_storage_size()
            place = data.id.get_offset()
            ends = 0 if place is None else place + there
            missing = there < wanted or ends > os.path.getsize(path)
        if missing:
            raise InputError(
                f"{path}: {_shown(data.name)} claims shape {data.shape}, but most or some of it was never written; was "
                f"the program that made it killed? Make the file again"
            )


def read_rows(data: np.ndarray | h5py.Dataset, start: int, stop: int, where: str) -> np.ndarray:
    """Return rows start <= i < stop; raises `InputError` if the file is damaged there, or a filter is missing."""
    try:
        return np.asarray(data[start:stop])
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno in SYSTEM:
            raise InputError(
                f"{where}: rows {start} to {stop - 1} cannot be read ({os.strerror(error.errno)})"
            ) from None
        if "filter" in str(error) and ("registered" in str(error) or "not available" in str(error)):
            raise InputError(
                f"{where}: compressed by a filter that is not installed ({reason_of(error)}); write it with gzip"
            ) from None
        raise InputError(
            f"{where}: rows {start} to {stop - 1} cannot be read ({reason_of(error)}); damaged or truncated"
        ) from None


def as_text(value: object) -> str:
    """Return a string of HDF5, which has them as bytes or as text.

    >>> as_text(b"pt_1"), as_text("pt_1")
    ('pt_1', 'pt_1')
    """
    return value.decode() if isinstance(value, bytes) else str(value)
