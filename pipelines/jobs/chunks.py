"""Events files made chunk by chunk: by many workers, and continued where a killed run stopped.

While `out` is being made, `out.parts` beside it holds the finished chunks, one small HDF5 file each, and `job.json`,
which says what is being made of what. The same command again takes these chunks as they are and does the others;
another command for the same `out` is refused. Input that cannot be used ends a job that has just begun, and its chunks.
When all are there they are joined, in order, into `out`, which appears whole, and `out.parts` goes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from pipelines.checksums import create, store
from pipelines.documents import parse_json_document, read_json_document
from pipelines.errors import InputError, Unfinished
from pipelines.events.hdf5_files import as_text, reading_hdf5
from pipelines.events.writer import EventsWriter
from pipelines.jobs.executors import Task, open_workers
from pipelines.locks import part_of, remove
from pipelines.outputs import check_new, hold, new_disk, write_json

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]
Counts = dict[str, int]


class Job(TypedDict):
    """What job.json holds."""

    sources: list[dict[str, Any]]
    options: dict[str, Any]


JOINING = "joining.json"  # in the folder, from when `out` is put together
Work = Callable[..., tuple[Arrays, Mapping[str, int]]]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a conversion did: events written, and what it counted on the way, such as lines left out.

    `columns` has, for tables, which columns are the features, the mass, the weight, the truth, and which were left out.
    """

    events: int
    counts: Mapping[str, int]
    columns: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict, repr=False)


def write_events(
    out: str | os.PathLike[str],
    work: Work,
    tasks: Iterable[Task],
    *,
    about: Mapping[str, Any] | Callable[[Mapping[str, int]], Mapping[str, object]],
    join: Callable[[Arrays], Arrays] | None = None,
    **job: Any,
) -> Outcome:
    """Make the events file `out` from the chunks that `work(*task)` gives for each task, in the order of the tasks.

    Args:
        out, work, tasks, job: as in `in_chunks`; a chunk has the datasets of `pipelines.events.layout`, or what `join`
            makes these of.
        about: attributes of the file (see `pipelines.events.layout.Description`), or how to tell them from the counts.
        join: applied to each chunk in this process, in order, before it goes into `out`.

    Raises:
        InputError: as `in_chunks`.

    Example:
        >>> import pathlib, tempfile
        >>> def ones(count):
        ...     return {"features": np.ones((count, 1)), "mass": np.full(count, 3000.0)}, {"chunks": 1}
        >>> out = pathlib.Path(tempfile.mkdtemp()) / "events.h5"
        >>> write_events(out, ones, [(2,), (3,)], about={"columns": ["x"]}, sources=[], options={})
        Outcome(events=5, counts={'chunks': 2})
    """

    def write(out: Path, chunks: Iterator[Arrays], counts: Mapping[str, int]) -> int:
        events = 0
        with EventsWriter(out, **(about(counts) if callable(about) else about)) as writer:
            for arrays in map(join, chunks) if join else chunks:
                if arrays:
                    writer.append(**arrays)
                    events += len(arrays["mass"])
            if not events:
                seen = ", ".join(f"{count} {what}" for what, count in counts.items())
                raise InputError(f"{out}: no events to write{f' ({seen})' if seen else ''}")
        return events

    return in_chunks(out, work, tasks, write, **job)


def in_chunks(
    out: str | os.PathLike[str],
    work: Work,
    tasks: Iterable[Task],
    write: Callable[[Path, Iterator[Arrays], Mapping[str, int]], int],
    *,
    sources: Sequence[str | os.PathLike[str]],
    options: Mapping[str, object],
    total: int | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[int, int | None], object] | None = None,
) -> Outcome:
    """Make `out` of any format: `work(*task)` gives the chunks, `write` puts them together.

    Args:
        out: file or folder to make.
        work: a function at the top level of a module, whose result depends on its arguments alone: arrays of one
            length by name, and counts of what it saw, which are summed.
        tasks: its arguments, read only as far as needed: a task may hold the text of its lines.
        write: called with `out`, all chunks in the order of the tasks, and the counts, when all tasks are done;
            makes `out` atomically and returns its number of events.
        sources: the files read; that they are the same is how a later run knows its own chunks.
        options: everything else the result depends on, as JSON can hold it.
        total: events expected, for `progress`.
        workers, scheduler: who does the work, as in `pipelines.jobs.executors.open_workers`.
        progress: called with (events done, `total`) after every chunk.

    Raises:
        InputError: `out` exists or cannot be written; its `.parts` belong to something else, or to a process that is
            still at work; no events; and whatever `work` raises.
    """
    out = Path(out)
    options = {**options, "version": metadata.version("hep-anomaly-zoo")}
    job = {"sources": [identity(path) for path in sources], "options": options}
    with hold_output(out), _parts(out, job) as parts:
        done = 0
        for size in parts.finish(work, tasks, workers, scheduler):
            done += size
            if progress is not None:
                progress(done, total)
        counts = parts.counts()
        log.info("%s: all chunks are there; putting them together", out)
        parts.begin_joining()
        return Outcome(write(out, parts.chunks(), counts), counts)


def check_output(out: str | os.PathLike[str]) -> Path:
    """Return `out` as `pipelines.outputs.check_new` does, before a job that makes it in chunks.

    If it is there, chunks that a process left which was killed after it had made it are removed.
    """
    out = Path(out)
    if out.name and os.path.lexists(out) and os.path.lexists(_folder(out)):
        with contextlib.suppress(InputError), hold_output(out):  # another process is at it, or it is there
            pass
    return check_new(out)


@contextlib.contextmanager
def hold_output(out: str | os.PathLike[str]) -> Iterator[Path]:
    """Hold a file or folder that is to be made in chunks, as `pipelines.outputs.hold`.

    Chunks that a process left which was killed after it had made `out` are removed. Raises `InputError` as `hold`.
    """
    out = Path(out)
    folder = _folder(out)
    with hold(out, new=False):
        with contextlib.suppress(FileNotFoundError):  # there are none; or nothing was made of them yet
            if os.lstat(out).st_mtime_ns >= os.lstat(folder / JOINING).st_mtime_ns:
                _discard(folder, out)
        yield check_new(out)


class _Parts:
    """The finished chunks of a job, in a folder."""

    def __init__(self, folder: Path):
        self.folder, self.count = folder, 0

    def finish(self, work: Work, tasks: Iterable[Task], workers: int, scheduler: str | None) -> Iterator[int]:
        """Do the tasks whose chunks are not there; yield the number of events of every chunk, old and new."""
        old: list[int] = []
        waiting = self._not_done(tasks, old)
        first = list(itertools.islice(waiting, 2))
        alone = len(first) < 2 and scheduler is None  # for a single chunk nobody else is called
        with open_workers(1 if alone else workers, scheduler) as pool:
            for number, (arrays, counts) in pool.map(work, itertools.chain(first, waiting)):
                yield self._keep(number, arrays, counts)
                yield from old
                old.clear()
        yield from old

    def chunks(self) -> Iterator[Arrays]:
        """Yield the arrays of all chunks in their order."""
        for number in range(self.count):
            yield self._read(number)[0]

    def counts(self) -> dict[str, int]:
        """Return the sums of what the chunks counted."""
        total: Counter[str] = Counter()
        for number in range(self.count):
            total.update(self._read(number, ())[1])
        return dict(total)

    def _not_done(self, tasks: Iterable[Task], old: list[int]) -> Iterator[tuple[int, Task]]:
        for number, task in enumerate(tasks):
            self.count = number + 1
            try:
                old.append(self._size(number))
            except InputError:  # not there, or damaged: then it is done again
                yield number, task

    def begin_joining(self) -> None:
        """Note that all chunks are there: once `out` is, they are of no more use."""
        write_json(self.folder / JOINING, {"chunks": self.count})

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.h5"

    def _keep(self, number: int, arrays: Arrays, counts: Mapping[str, int]) -> int:
        with new_disk(self._path(number), replace=True) as disk, create(disk) as file:
            for name, values in arrays.items():
                store(file, name, values)
            file.attrs["counts"] = json.dumps({what: int(count) for what, count in counts.items()})
        return self._size(number)

    def _size(self, number: int) -> int:
        with reading_hdf5(self._path(number)) as file:
            if "counts" not in file.attrs:
                raise InputError(f"{self._path(number)}: no attribute counts; damaged")
            return max((len(file[name]) for name in file), default=0)

    def _read(self, number: int, names: Sequence[str] | None = None) -> tuple[Arrays, dict[str, int]]:
        with reading_hdf5(self._path(number)) as file:
            arrays = {name: file[name][:] for name in file if names is None or name in names}
            counts: Any = parse_json_document(as_text(file.attrs["counts"]), f"{self._path(number)}: counts", Counts)
            return arrays, counts


@contextlib.contextmanager
def _parts(out: Path, job: Mapping[str, object]) -> Iterator[_Parts]:
    """Give the folder of finished chunks of `job`, new or of a killed run; it is removed after success."""
    folder = _folder(out)
    try:
        folder.mkdir(exist_ok=True)
        begun = _same_job(folder, json.loads(json.dumps(job)))
    except OSError as error:
        raise Unfinished(f"{folder}: cannot be written ({error.strerror}); choose another output") from None
    try:
        yield _Parts(folder)
    except BaseException as error:
        # Bad input is found by the call that began the job; chunks of earlier calls are worth keeping.
        hopeless = begun and isinstance(error, InputError) and not isinstance(error, Unfinished)
        if hopeless or not any(folder.glob("[0-9]*.h5")):
            _discard(folder, out)
        raise
    _discard(folder, out)


def _folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.parts")


def _discard(folder: Path, out: Path) -> None:
    """Remove a folder of chunks: it is renamed first, so that the next run removes what a kill leaves."""
    with contextlib.suppress(OSError):
        os.rename(folder, part_of(out))
        remove(part_of(out))


def _same_job(folder: Path, job: Mapping[str, object]) -> bool:
    """Tell whether a job begins here; raises `InputError` if the chunks in the folder are another's."""
    path = folder / "job.json"
    if not path.exists():
        write_json(path, job)
        return True
    found: Any = read_json_document(path, Job, advice=f"damaged; remove {folder} and begin anew")
    before, now = ({**j["options"], "sources": j["sources"]} for j in (found, job))  # type: ignore[dict-item]
    if found != job:
        names = sorted(name for name in {**before, **now} if before.get(name) != now.get(name))
        raise InputError(
            f"{folder}: chunks of an unfinished run with other {', '.join(names)}; "
            f"give the same again to continue it, or remove that folder"
        )
    return False


def identity(path: str | os.PathLike[str]) -> dict[str, object]:
    """Return what tells a file from others, and from itself after a change: place, size and time."""
    found = os.stat(path)
    return {"path": str(Path(path).resolve()), "size": found.st_size, "modified": found.st_mtime_ns}
