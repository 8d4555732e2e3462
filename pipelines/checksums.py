"""Checksums of what is written: HDF5's own for each dataset, SHA-256 for whole files that are read at once.

A file that `sealed` wrote begins with a block of 512 bytes, which HDF5 skips (its user block): a line with the SHA-256 of
all that follows. It is checked before HDF5 reads the file, which may hang in one that is damaged.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np

from pipelines.errors import InputError, note_read
from pipelines.outputs import Disk, new_disk

BLOCK = 512  # bytes, the least that HDF5 allows
HEAD = b"hep-anomaly-zoo sha256 "
SIGNATURE = b"\x89HDF\r\n\x1a\n"


def store(group: h5py.Group, name: str, values: object, **options: object) -> h5py.Dataset:
    """Write an array as a dataset with a checksum (HDF5's fletcher32), which HDF5 checks when it is read.

    What has no elements, or none that HDF5 can make chunks of, is written as it is.

    >>> with h5py.File.in_memory() as file:
    ...     store(file, "mass", np.ones(3)).fletcher32
    True
    """
    array = np.asarray(values)
    if array.dtype.kind in "OU" or not array.size:  # text has no length that is known beforehand
        group[name] = values
        return group[name]
    if not array.shape:
        array = array.reshape(1)
    return group.create_dataset(name, data=array, fletcher32=True, **options)


def create(disk: Disk, *, user_block: int = 0, cache: int = 2**20, track_order: bool = False) -> h5py.File:
    """Make an HDF5 file in a new `Disk` whose metadata have checksums, and the same bytes whenever it is made.

    `cache` is bytes of chunks that are kept in memory for each dataset.
    """
    access, made = h5py.h5p.create(h5py.h5p.FILE_ACCESS), h5py.h5p.create(h5py.h5p.FILE_CREATE)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, disk)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_cache(*access.get_cache()[:2], cache, 0.75)
    made.set_obj_track_times(False)
    made.set_userblock(user_block)
    if track_order:
        made.set_link_creation_order(h5py.h5p.CRT_ORDER_TRACKED | h5py.h5p.CRT_ORDER_INDEXED)
        made.set_attr_creation_order(h5py.h5p.CRT_ORDER_TRACKED | h5py.h5p.CRT_ORDER_INDEXED)
    return h5py.File(h5py.h5f.create(repr(disk).encode(), h5py.h5f.ACC_TRUNC, made, access))


def digest(value: Mapping[str, object]) -> str:
    """Return the SHA-256 of a document as JSON, whatever the order of its names and how it is indented.

    >>> digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@contextlib.contextmanager
def sealed(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Give an HDF5 file to write to that becomes `path`, with its SHA-256, when the block ends well.

    What was there is replaced. Raises `InputError` if it cannot be written.
    """
    with new_disk(path, replace=True) as disk:
        with create(disk, user_block=BLOCK) as file:
            yield file
        disk.seek(BLOCK)
        found = hashlib.sha256()
        while piece := disk.read(2**20):
            found.update(piece)
            if disk.error:
                break
        disk.seek(0)
        disk.write((HEAD + found.hexdigest().encode() + b"\n").ljust(BLOCK, b"\0"))


def open_sealed(path: str | os.PathLike[str]) -> tuple[h5py.File, str]:
    """Open a file that `sealed` wrote, after a look at its checksum; return it, and the SHA-256.

    A file from before there were checksums is opened as it is; its SHA-256 is that of the whole file.

    Raises:
        InputError: it is not there, is not HDF5, or is damaged.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: is {'a folder' if path.is_dir() else 'no file'}, expected an HDF5 file")
    note_read(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror})") from None
    found = _checked(path, content)
    try:
        return h5py.File(io.BytesIO(content), "r"), found
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: damaged or truncated ({str(error).splitlines()[0]})") from None


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 that `open_sealed` gives for a file, which is not opened; raises `InputError` if it is damaged.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "state.h5"
    >>> with sealed(path) as file:
    ...     file["weights"] = [0.5]
    >>> file_sha256(path) == open_sealed(path)[1]
    True
    """
    return _checked(Path(path), Path(path).read_bytes())


def _checked(path: Path, content: bytes) -> str:
    """Return the SHA-256 of a file's content; raises `InputError` if it is another than it says."""
    if content[: len(SIGNATURE)] == SIGNATURE:  # written before there were checksums
        return hashlib.sha256(content).hexdigest()
    found = hashlib.sha256(content[BLOCK:]).hexdigest()
    if content[:BLOCK].rstrip(b"\0") == HEAD + found.encode() + b"\n":
        return found
    if content[:BLOCK].startswith(HEAD) or content[BLOCK : BLOCK + len(SIGNATURE)] == SIGNATURE:
        raise InputError(
            f"{path}: damaged (its SHA-256 is another than it was when it was written) or truncated; make it again"
        )
    raise InputError(f"{path}: not an HDF5 file, or damaged")
