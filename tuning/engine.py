"""The engine of a search: an oracle decides, workers do trials, and the files on disk suffice to resume.

The oracle is in the process that the user started. Trials that can be begun wait here; an idle worker is
given one, if possible one whose program it has traced. A trial that was promoted, and so depends on results, is
written down before it is begun; everything else follows from the seed. So a search is taken up again from the records
of its trials alone: there is no other state that could be damaged.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.arguments import argument
from pipelines.documents import read_json_document
from pipelines.errors import InputError, Unfinished, WorkerFault, WorkersDied
from pipelines.jobs.executors import Done, open_workers
from pipelines.outputs import as_json, write_json
from tuning import algorithms
from tuning.listener import SearchListener
from tuning.objectives import Objective
from tuning.oracle import Oracle
from tuning.schemas import Partial, Planned, numbered, read_record
from tuning.trial import PARTIAL, Job, Spec, is_wanted, run_trial
from zoo.keras.released_gradients import others_trace

WINDOW = 256  # trials, in the order of the plan, among which one is chosen for a worker
NEEDED = ("initial_epoch", "message")  # of a record that an oracle takes up, beside what each has


class Apart(SearchListener):
    """Tells another listener, whose traced functions keep their gradients when the programs of trials are let go of."""

    def __init__(self, listener: SearchListener):
        self._listener = listener

    def planned(self, plan):
        with others_trace():
            self._listener.planned(plan)

    def begun(self, trial, epochs, worker, bracket=0):
        with others_trace():
            self._listener.begun(trial, epochs, worker, bracket)

    def epoch(self, trial, epoch, worker, logs):
        with others_trace():
            self._listener.epoch(trial, epoch, worker, logs)

    def ended(self, record, finished):
        with others_trace():
            self._listener.ended(record, finished)

    def told(self, text):
        with others_trace():
            self._listener.told(text)


class Engine:
    """A search under way.

    Args:
        oracle: of `tuning.algorithms` (see `tuning.oracle.Oracle`). draw: from a trial's values to the model's hyperparameters.
        job: what trials have in common. objective: compares trials.
        listener: is notified. deadline: `time.monotonic()` after which nothing is begun, or None.
        limit: seconds after which a trial is taken from its worker, or None.
    """

    def __init__(
        self, oracle: Oracle, draw: Callable, job: Job, listener: SearchListener, deadline: float | None = None,
        limit: float | None = None,
    ):  # fmt: skip
        self.oracle, self.draw, self.job, self.listener, self.deadline = oracle, draw, job, listener, deadline
        self.limit = limit
        self.objective, self.trials = Objective.parse(job.objective), Path(job.out) / "trials"
        self.records: dict[str, Mapping[str, Any]] = {}
        self.waiting: dict[str, Spec] = {}
        self._begun: dict[str, Spec] = {}
        self.under_way: dict[str, str] = {}  # who has it
        self.programs: dict[str, str] = {}  # by trial, what it is trained by
        self.warm: dict[str, list[str]] = {}  # by worker, the programs that it has traced
        self.faulty: dict[str, str] = {}  # by worker, why it can do none
        self.deaths: dict[str, int] = {}  # by trial, epochs that were done when its workers died last
        if self.objective.pareto and oracle.promotes:
            oracle.order = lambda trials: self.objective.order([self.records[trial]["metrics"] for trial in trials])

    # -- taking up what is there -------------------------------------------------------------------------

    def restore(self) -> None:
        """Give the oracle the trials that are on disk, finished or promoted, as earlier processes gave them out."""
        read = functools.partial(read_record, terms=self.objective.weights, needed=NEEDED)
        kept = {path.stem: found for path in self._files() if (found := self._read(path, read)) is not None}
        first = list(algorithms.start_trials(self.oracle))
        for trial in first:
            self._add(trial)
        self._restore_promoted(kept)
        while new := [name for name in self.waiting if name in kept]:
            for name in sorted(new, key=numbered):
                self._check_same(self.waiting[name], kept[name])
                self._end(kept[name])
                for end in PARTIAL:  # of a process that was killed before it removed them
                    (self.trials / f"{name}.{end}").unlink(missing_ok=True)
            self.fill()

    def _files(self) -> list[Path]:
        return sorted(path for path in self.trials.glob("*.json") if path.name.count(".") == 1)

    def _restore_promoted(self, kept: dict[str, dict[str, Any]]) -> None:
        """Take up promoted trials, whose place in the plan depends on what came first."""
        if not self.oracle.promotes:
            return
        for path in sorted(self.trials.glob("*.planned.json"), key=lambda path: numbered(path.name.split(".")[0])):
            name, planned = path.name.split(".")[0], self._read(path, _read_planned)
            if planned is None:
                continue
            try:
                trial = self.oracle.restore_trial(name, planned["values"], planned["place"], planned["round"])
            except (ValueError, IndexError, KeyError, TypeError, AttributeError):
                self._set_aside(path, "it does not fit to the other trials")
                continue
            self._add(trial, write=False)
        for later in sorted(self.trials.glob("*.json")):  # their promotion is lost: they are given out anew
            if later.name.split(".")[0] not in self.waiting:
                self._set_aside(later, "of a trial whose promotion is not there")
                kept.pop(later.stem, None)

    def _check_same(self, spec: Spec, record: Mapping[str, Any]) -> None:
        same = as_json(spec.record)
        if different := [name for name in ("hyperparameters", "epochs") if record[name] != same[name]]:
            raise InputError(
                f"{self.trials / spec.trial}.json: {different[0]} {record[different[0]]}, expected {same[different[0]]}: "
                f"of another search; give another {argument('out')}"
            )

    def _read(self, path: Path, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any] | None:
        """Return what a file holds, or None; one that is damaged is set aside."""
        if not os.path.lexists(path):
            return None
        try:
            return read(path)
        except InputError as error:
            self._set_aside(path, str(error).removeprefix(f"{path}: "))
            return None

    def _set_aside(self, path: Path, reason: str) -> None:
        os.replace(path, f"{path}.damaged")
        self.listener.told(f"{path}: damaged ({reason}); set aside as {path.name}.damaged, what it held is done again")

    # -- running -----------------------------------------------------------------------------------------

    def run(self, workers: int = 1, scheduler=None) -> None:
        """Do all trials, or those that the time allows.

        Raises `InputError` where nothing can be written, where the folder is not this process's any more, or with the
        first one's reason where no worker can read the events.
        """
        self.fill()
        if not self.waiting:
            return
        with open_workers(workers, scheduler) as pool:
            self._job = pool.share(self.job)
            conducted = pool.conduct(run_trial, self._pick, self._hear, self._has_ended, self.limit)
            with contextlib.closing(conducted) as results:
                for done in results:
                    self._take(done)
        self.waiting |= self._begun  # given up, since their workers died and the time is up
        self._begun, self.under_way = {}, {}
        if self.faulty and not self._has_ended():
            reason = next(iter(self.faulty.values()))
            raise Unfinished(
                f"{reason}; no worker can do a trial: see that all can read it, then {argument('resume', True)} goes on"
            )

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def _has_ended(self) -> bool:
        """Whether nothing is to be begun any more: also when the last worker has left after the last trial."""
        return self.is_over or not (self.waiting or self._begun)

    def fill(self) -> None:
        """Let the oracle give out what can be begun now."""
        if self.objective.pareto and not self.oracle.promotes:
            done = [trial for trial in self.oracle.trials.values() if trial.status == "COMPLETED"]
            found = self.objective.scores([self.records[trial.trial_id]["metrics"] for trial in done])
            for trial, score in zip(done, found):
                trial.score = score
        for trial in algorithms.start_trials(self.oracle):
            self._add(trial)

    def _add(self, trial, write: bool = True) -> None:
        values = trial.hyperparameters.values
        position, index = self.oracle.position_of(trial.trial_id)
        spec = Spec(
            trial.trial_id,
            self.draw(trial.hyperparameters),
            values.get("tuner/initial_epoch", 0),
            values.get("tuner/epochs", self.oracle.plan[0].rounds[0].epochs),
            self.oracle.plan[position].number,
            index,
            position,
            values.get("tuner/trial_id"),
        )
        if write and index:
            kept = {"values": dict(values), "place": position, "round": index}
            write_json(self.trials / f"{trial.trial_id}.planned.json", kept)
        self.waiting[trial.trial_id] = spec
        self.programs[trial.trial_id] = self.job.program(spec.hyperparameters)

    def _pick(self, worker: str):
        """Return the trial to begin on a worker, as `pipelines.jobs.executors` wants it; None if there is none now."""
        if self.is_over or not self.waiting or worker in self.faulty:
            return None
        first = sorted(self.waiting.values(), key=lambda spec: (spec.position, -spec.round, numbered(spec.trial)))[
            :WINDOW
        ]
        own, others = self.warm.get(worker, []), {key for kept in self.warm.values() for key in kept}

        def cost(spec: Spec) -> int:
            key = self.programs[spec.trial]
            return 0 if key in own else 2 if key in others else 1

        spec = min(first, key=cost)  # of equal ones the first in the plan
        del self.waiting[spec.trial]
        self.under_way[spec.trial] = worker
        key = self.programs[spec.trial]
        self.warm[worker] = [*(one for one in own if one != key), key]  # until it says itself
        self._begun[spec.trial] = spec
        self.listener.begun(spec.trial, range(spec.initial_epoch, spec.epochs), worker, spec.bracket)
        # wall-clock time: the worker that repeats a trial has no more time than the first one
        until = None if self.deadline is None else time.time() + self.deadline - time.monotonic()
        return spec.trial, (self._job, spec, until)

    def _hear(self, message: Mapping[str, Any]) -> None:
        if "told" in message:
            self.listener.told(message["told"])
        elif message["trial"] in self.under_way:
            self.listener.epoch(message["trial"], message["epoch"], self.under_way[message["trial"]], message["logs"])

    def _take(self, done: Done) -> None:
        """Learn what became of a trial; raises `Unfinished` if nothing more can be written, or by this process."""
        spec, worker = self._begun.pop(done.key), done.worker
        del self.under_way[done.key]
        if isinstance(done.error, WorkersDied):
            self._died(spec, done.error)
            return
        if isinstance(done.error, WorkerFault):
            # it would take, and fail, one trial after the other, faster than the others do them
            self.waiting[spec.trial], self.faulty[worker] = spec, str(done.error)
            self.warm.pop(worker, None)
            self.listener.told(f"{worker} gets no more trials: {done.error}")
            return
        found = done.result()
        self.warm[worker] = found["warm"]
        self.waiting[spec.trial] = spec
        if found["record"] is not None:
            self._end(found["record"])
            self.listener.ended(found["record"], len(self.records))
            self.fill()
        elif not is_wanted(self.job):  # nobody will ever finish it
            lock = self.trials.parent / "lock"
            raise Unfinished(f"{lock}: removed, or taken by another process; {argument('resume', True)} goes on")

    def _died(self, spec: Spec, error: Exception) -> None:
        """Give a trial that killed its workers out again if it came further than before; else it has failed."""
        kept = self._read(self.trials / f"{spec.trial}.partial.json", _read_partial)
        epochs = kept["epochs"] if kept else spec.initial_epoch
        self.waiting[spec.trial] = spec
        if epochs > self.deaths.get(spec.trial, spec.initial_epoch):
            self.deaths[spec.trial] = epochs
            return
        message = str(error).partition(": ")[2]
        record = {
            "trial": spec.trial,
            "status": "FAILED",
            "objective": None,
            "metrics": {},
            **spec.record,
            "seconds": 0.0,
        }
        record = as_json({**record, "message": message})
        write_json(self.trials / f"{spec.trial}.json", record)
        self._end(record)
        self.listener.ended(record, len(self.records))
        self.fill()

    def _end(self, record: Mapping[str, Any]) -> None:
        name = record["trial"]
        del self.waiting[name]
        self.records[name] = record
        objective = record["objective"] if record["status"] == "COMPLETED" else None
        algorithms.end_trial(self.oracle, self.oracle.trials[name], objective, record["epochs"], record["message"])


def _read_planned(path: Path) -> dict[str, Any]:
    found: Any = read_json_document(path, Planned)
    return dict(found)


def _read_partial(path: Path) -> dict[str, Any]:
    found: Any = read_json_document(path, Partial)
    return dict(found)


@contextlib.contextmanager
def owned(out: Path) -> Iterator[str]:
    """Hold a search's folder, so that no second process works on it; gives the token that workers know it by.

    Raises `InputError` if another process holds it.
    """
    token = uuid.uuid4().hex
    path = out / "lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        reason = "it is a symbolic link, which is not followed" if error.errno == errno.ELOOP else error.strerror
        raise InputError(f"{path}: cannot be written ({reason}); choose another {argument('out')}") from None
    try:
        with contextlib.suppress(OSError):  # some file systems of batch farms have no locks
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"{out}: another process is at work on this search; wait for it") from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, token.encode(), 0)
        os.fsync(lock)  # else workers on other machines may read, and obey, the last one's
        yield token
    finally:
        with contextlib.suppress(OSError):
            if path.read_text() == token:  # workers that are still at it stop at the end of their epoch
                os.ftruncate(lock, 0)
        os.close(lock)
