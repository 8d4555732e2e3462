"""One trial in a worker: it is trained, judged, and written to disk before its result is reported.

A process keeps what trials have in common as long as it lives: the events, scaled and packed once for all models that
see them alike; and the compiled programs of the last architectures, which are started over for the next trial.

OUT/trials/ID.json           the finished trial; a worker that gets it again reads it
OUT/trials/ID.h5             its weights and optimizer state, for a promoted trial to go on from
OUT/trials/ID.history.json   its epochs
OUT/trials/ID.partial.json   of a trial that has begun: the epochs done, and which of the two ID.partialN.h5 is their state
"""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.documents import read_json_document
from pipelines.errors import InputError, WorkerFault
from pipelines.events.events import Events
from pipelines.jobs.executors import tell
from pipelines.outputs import as_json, write_json
from tuning.argos import SignalRegion
from tuning.batch_cache import BatchCache, load_into_memory
from tuning.checkpoint import TrialCheckpoint, Unwritable
from tuning.objectives import Objective
from tuning.programs import Programs, Trainee, program_of, told_batch_size
from tuning.schemas import Partial, Record
from zoo import registry, run

PARTIAL = ("partial.json", "partial0.h5", "partial1.h5")


@dataclasses.dataclass(frozen=True)
class Job:
    """What all trials of a search have in common.

    Attributes:
        token: names the process that gives them out.
        model, objective, out: the model's name, what is minimised, the search's folder.
        jit_compile: whether XLA compiles training steps; None is where there is a GPU, or where the model says that it pays.
        training, validation: events.
        larger: sizes of the network that holds those of all trials (see `tuning.programs`).
        region: the signal region that trials are judged in, of an objective that needs one.
    """

    token: str
    model: str
    objective: str
    jit_compile: bool | None
    out: str
    training: Events
    validation: Events
    larger: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    region: SignalRegion | None = None

    @property
    def xla(self) -> bool:
        """Whether XLA compiles training steps in this process."""
        if self.jit_compile is not None:
            return self.jit_compile
        pays = registry.model_class(self.model).searched_by_xla
        pays = len(self.training) >= pays if isinstance(pays, int) and not isinstance(pays, bool) else pays
        return bool(pays or tf.config.list_physical_devices("GPU"))

    def program(self, hyperparameters: Mapping[str, Any]) -> str:
        """Return the name of the program that a trial of these hyperparameters takes."""
        return program_of(self.model, hyperparameters, self.larger, self.xla)


@dataclasses.dataclass(frozen=True)
class Spec:
    """One trial: its hyperparameters, the epochs it trains, and the trial whose weights it goes on from, if any."""

    trial: str
    hyperparameters: Mapping[str, Any]
    initial_epoch: int
    epochs: int
    bracket: int = 0
    round: int = 0
    position: int = 0
    promoted_from: str | None = None

    @property
    def record(self) -> dict[str, Any]:
        """Its part of the trial's record; files call its bracket's position in the plan `place`."""
        names = {field.name: field.name for field in dataclasses.fields(self)} | {"position": "place"}
        return {name: getattr(self, field) for field, name in names.items()}


_runners: dict[str, TrialRunner] = {}


def is_wanted(job: Job) -> bool:
    """Return whether the process that gave the trials still holds the search; another may have taken its place."""
    try:
        return (Path(job.out) / "lock").read_text() == job.token
    except OSError:
        return False


def run_trial(job: Job, spec: Spec, until: float | None = None) -> dict[str, Any]:
    """Do a trial here; returns its `record`, None if there was no time to finish it, and the programs that are `warm`.

    `until` is the `time.time()` after which it stops at the end of its epoch, in whichever worker it runs.
    Whatever goes wrong in a trial is its record's message. Raises `InputError` if nothing can be written.
    """
    runner = runner_of(job)
    record = runner.done(spec) or runner.run(spec, until)
    return {"record": record, "warm": list(runner.programs.kept)}


def runner_of(job: Job) -> TrialRunner:
    """Return what this process keeps for the trials of a search; raises `WorkerFault` if events cannot be read."""
    if job.token not in _runners:
        forget_runners()
        _prepare_devices()
        _runners[job.token] = TrialRunner(job)
    return _runners[job.token]


def forget_programs() -> None:
    """Let go of what trials in this process were trained by: a search that has ended needs it no more."""
    for runner in _runners.values():
        runner.programs.forget(0)


def forget_runners() -> None:
    """Let go of all that trials in this process had: the events of earlier searches."""
    _runners.clear()


def _prepare_devices() -> None:
    """Let a GPU be shared, and take no more threads than the worker has; without effect once TensorFlow has started."""
    from distributed import get_worker

    try:
        threads = get_worker().state.nthreads
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except (ValueError, RuntimeError):  # no worker of Dask; or it has begun
        pass


class TrialRunner:
    """What one process keeps for the trials of a search."""

    def __init__(self, job: Job):
        self.job, self.trials = job, Path(job.out) / "trials"
        try:
            self.training, self.validation = map(load_into_memory, (job.training, job.validation))
            self.objective = Objective.parse(job.objective, job.region and job.region.loaded())
            self.training = self.training.remembering()  # each scaling is fitted once, not in every trial
        except (InputError, OSError) as error:
            raise WorkerFault(first_line(error)) from None
        self.watched = self.validation.without_labels() if self.validation.has_labels else self.validation
        cache = BatchCache(self.training, self.watched, static=told_batch_size(job.model, job.xla))
        self.programs = Programs(job.model, job.larger, job.xla, lambda model: model.adapt(self.training), cache)

    # -- one trial -----------------------------------------------------------------------------------

    def done(self, spec: Spec) -> dict[str, Any] | None:
        """Return the record of a trial that was finished before, by a process that died then."""
        return read_json(self.file(spec.trial, "json"), Record)

    def run(self, spec: Spec, until: float | None = None) -> dict[str, Any] | None:
        """Train and judge a trial from the last epoch on disk; None if it was stopped before its end."""
        started, checkpoint = time.monotonic(), None
        begun = self._begun(spec)
        found: dict[str, float] = {}
        try:
            epochs = spec.epochs - begun["epochs"]
            trainee = self.programs.model(spec.hyperparameters, len(self.training), epochs)
            file, wanted = functools.partial(self.file, spec.trial), functools.partial(is_wanted, self.job)
            checkpoint = TrialCheckpoint(file, wanted, trainee, spec, begun, until)
            found, rows = self._train(trainee, spec, begun, checkpoint)
            if checkpoint.stopped or not is_wanted(self.job):
                return None
            status, message = "COMPLETED", None
            if checkpoint.diverged or not np.isfinite(found["objective"]):
                status, message = "FAILED", checkpoint.diverged or f"the objective is not a number: {found}"
        except Unwritable as error:  # a full disk is not the trial's fault, and ends the search
            raise error.reason from None
        except Exception as error:
            diverged = checkpoint is not None and checkpoint.diverged
            status, message = "FAILED", diverged or f"{type(error).__name__}: {first_line(error)}"
            if isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError)):
                self.programs.forget(0)
        if status == "COMPLETED":
            trainee.save(self.file(spec.trial, "h5"))
            write_json(self.file(spec.trial, "history.json"), {"rows": rows, "members": trainee.trained.member_rows})
        times = checkpoint.times() if checkpoint is not None else {}
        if checkpoint is not None and checkpoint.steps and trainee.key in self.programs.kept:
            self.programs.was_traced(trainee)
        record = {  # as JSON has it, whether it is read back or not
            "trial": spec.trial,
            "status": status,
            "objective": found.get("objective") if status == "COMPLETED" else None,
            "metrics": {k: v if np.isfinite(v) else None for k, v in found.items()},
            **{name: value for name, value in spec.record.items() if name != "trial"},
            "seconds": round(begun["seconds"] + time.monotonic() - started, 3),
            **times,
            "message": message,
        }
        record = as_json(record)
        write_json(self.file(spec.trial, "json"), record)
        for path in (self.file(spec.trial, end) for end in PARTIAL):
            path.unlink(missing_ok=True)
        return record

    def _begun(self, spec: Spec) -> dict[str, Any]:
        """Return what is on disk of a trial that was begun: epochs done, their state, rows and time."""
        path = self.file(spec.trial, "partial.json")
        kept = read_json(path, Partial)
        if kept is None and path.is_file():
            os.replace(path, f"{path}.damaged")
            told = f"{path}: damaged; set aside as {path.name}.damaged, and trial {spec.trial} is trained from its beginning"
            tell({"trial": spec.trial, "told": told})
        if kept and kept.get("spec") == as_json(spec.record) and (self.trials / kept["state"]).is_file():
            return kept
        return {"epochs": spec.initial_epoch, "state": None, "rows": [], "members": [], "seconds": 0.0}

    def _train(
        self, trainee: Trainee, spec: Spec, begun: Mapping, checkpoint: TrialCheckpoint
    ) -> tuple[dict[str, float], list[dict]]:
        model = trainee.trained
        state = begun["state"] or (spec.promoted_from and f"{spec.promoted_from}.h5")
        initial = begun["epochs"]
        if state:
            try:
                trainee.load(self.trials / state)
            except InputError as error:  # damaged: the epochs that made it are trained again, and give the same
                tell({"trial": spec.trial, "told": f"{error}; trial {spec.trial} is trained from its first epoch"})
                trainee.restart()
                begun = checkpoint.begun = {**begun, "rows": [], "members": []}
                initial = 0
            else:
                model.member_rows = list(begun["members"])
        history = model.fit(
            self.training,
            self.watched,
            epochs=spec.epochs,
            initial_epoch=initial,
            callbacks=[checkpoint],
            verbose=0,
            jit_compile=self.job.xla,
            finish=False,
        )
        if checkpoint.stopped:
            return {}, []
        rows = begun["rows"] + run.history_rows(model.histories)
        if spec.promoted_from and not history.epoch and not begun["rows"]:  # its members had stopped: it is what it was
            return read_json_document(self.file(spec.promoted_from, "json"), Record)["metrics"], []
        main = model.recipe()[model.main_phase].name
        past = [row for row in begun["rows"] if row["phase"] == main]
        terms = {
            k: [_number(row.get(k)) for row in past] for row in past[:1] for k in row if k not in ("phase", "epoch")
        }
        whole = {name: terms.get(name, []) + values for name, values in history.history.items()} or terms
        return self.objective(model, self.validation, whole), rows

    # -- what is kept ----------------------------------------------------------------------------------

    def file(self, trial: str, suffix: str) -> Path:
        """Return the path of one file of a trial."""
        return self.trials / f"{trial}.{suffix}"


def read_json(path: Path, schema: object) -> Any:
    """Return what a file holds by a schema of `tuning.schemas`; None if it is not there or damaged."""
    try:
        return read_json_document(path, schema)
    except InputError:
        return None


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says."""
    return next(iter(str(error).strip().splitlines()), "no message")


def _number(value) -> float:
    return float("nan") if value is None else value
