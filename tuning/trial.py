"""One trial, in whatever process does it: trained, judged, and on disk before anybody hears of it.

A process keeps what trials have in common as long as it lives: the events, scaled and packed once for all models that
see them alike, and the compiled programs of the last architectures, which are started over for the next trial.

OUT/trials/ID.json           the finished trial; whoever does it again finds it done
OUT/trials/ID.h5             its weights and optimizer state, for a promoted trial to go on from
OUT/trials/ID.history.json   its epochs
OUT/trials/ID.partial.json   of a trial that has begun: the epochs done, and which of the two ID.partialN.h5 is their state
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import hashlib
import json
import math
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipelines.errors import InputError, WorkerFault
from pipelines.events.events import Events
from pipelines.jobs.executors import tell
from pipelines.outputs import write_json
from tuning.objectives import Objective
from zoo import registry, run
from zoo.keras import keras

KEPT_PROGRAMS = 16  # compiled architectures that are kept for trials to come; each takes some ten MB
KEPT_PIPELINES = 12  # scaled and packed events that are kept: training and validation, by scaling and batch size
HELD = 2**30  # bytes of events, of training and of validation each, that a worker has in memory at most
PROBE = 4096  # masses by which two weightings of events are told apart


@dataclasses.dataclass(frozen=True)
class Job:
    """What all trials of a search have in common. `token` names the process that gives them out."""

    token: str
    model: str
    objective: str
    jit_compile: bool
    out: str
    training: Events
    validation: Events


@dataclasses.dataclass(frozen=True)
class Spec:
    """One trial: its hyperparameters, the epochs it trains, and the trial whose weights it goes on from, if any."""

    trial: str
    hyperparameters: Mapping[str, object]
    initial_epoch: int
    epochs: int
    bracket: int = 0
    round: int = 0
    place: int = 0
    promoted_from: str | None = None

    @property
    def kept(self) -> dict[str, object]:
        """What is written down of it."""
        names = ("trial", "hyperparameters", "initial_epoch", "epochs", "bracket", "round", "place", "promoted_from")
        return {name: getattr(self, name) for name in names}


def architecture(model: str, hyperparameters: Mapping[str, object]) -> str:
    """Return what trials that share a compiled program have in common: all hyperparameters but the runtime ones.

    >>> one, other = ({"alpha": alpha, "latent_dim": 2} for alpha in (1.0, 2.0))
    >>> architecture("vae", one) == architecture("vae", other)
    True
    """
    runtime = registry.model_class(model).runtime_hyperparameters
    return json.dumps({k: v for k, v in hyperparameters.items() if k not in runtime}, sort_keys=True)


_bench: dict[str, Bench] = {}


def is_wanted(job: Job) -> bool:
    """Return whether the process that gave the trials still holds the search; another may have taken its place."""
    try:
        return (Path(job.out) / "lock").read_text() == job.token
    except OSError:
        return False


def do(job: Job, spec: Spec, until: float | None = None) -> dict[str, object]:
    """Do a trial here; returns its `record`, None if there was no time to finish it, and the programs that are `warm`.

    `until` is when it stops at the end of its epoch, `time.time()`: the same moment for whoever does it in the end.
    Whatever goes wrong in a trial is its record's message. Raises `InputError` if nothing can be written.
    """
    if job.token not in _bench:
        _bench.clear()
        _prepare_devices()
        _bench[job.token] = Bench(job)
    bench = _bench[job.token]
    record = bench.done(spec) or bench.run(spec, until)
    return {"record": record, "warm": list(bench.models)}


def _prepare_devices() -> None:
    """Let a GPU be shared, and take no more threads than the worker has; once TensorFlow is at work it is too late."""
    from distributed import get_worker

    try:
        threads = get_worker().state.nthreads
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except (ValueError, RuntimeError):  # no worker of Dask; or it has begun
        pass


class Bench:
    """What one process keeps for the trials of a search."""

    def __init__(self, job: Job):
        self.job, self.objective, self.trials = job, Objective.parse(job.objective), Path(job.out) / "trials"
        self.models: dict[str, object] = {}
        try:
            self.training, self.validation = map(held, (job.training, job.validation))
        except (InputError, OSError) as error:
            raise WorkerFault(first_line(error)) from None
        self.watched = self.validation.without_labels() if self.validation.has_labels else self.validation
        self.pipelines = Pipelines(self.training, self.watched)

    # -- one trial -----------------------------------------------------------------------------------

    def done(self, spec: Spec) -> dict[str, object] | None:
        """Return the record of a trial that was finished before, by a process that died then."""
        return read_json(self.file(spec.trial, "json"))

    def run(self, spec: Spec, until: float | None = None) -> dict[str, object] | None:
        """Train and judge a trial, from the last epoch that is on disk; None if it was stopped before its end."""
        started, diary = time.monotonic(), None
        begun = self._begun(spec)
        found: dict[str, float] = {}
        try:
            model, fresh = self.model(spec.hyperparameters)
            diary = Diary(self, model, spec, begun, until, fresh)
            found, rows = self._train(model, spec, begun, diary)
            if diary.stopped or not is_wanted(self.job):
                return None
            status, message = "COMPLETED", None
            if diary.diverged or not np.isfinite(found["objective"]):
                status, message = "FAILED", diary.diverged or f"the objective is not a number: {found}"
        except Unwritable as error:  # a full disk is not the trial's fault, and ends the search
            raise error.reason from None
        except Exception as error:
            diverged = diary is not None and diary.diverged
            status, message = "FAILED", diverged or f"{type(error).__name__}: {first_line(error)}"
            if isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError)):
                self.forget(0)
        if status == "COMPLETED":
            run.save_state(model, self.file(spec.trial, "h5"))
            write_json(self.file(spec.trial, "history.json"), {"rows": rows, "members": model.member_rows})
        times = diary.times() if diary is not None else {}
        record = {  # as JSON has it, whether it is read back or not
            "trial": spec.trial,
            "status": status,
            "objective": found.get("objective") if status == "COMPLETED" else None,
            "metrics": {k: v if np.isfinite(v) else None for k, v in found.items()},
            **{name: value for name, value in spec.kept.items() if name != "trial"},
            "seconds": round(begun["seconds"] + time.monotonic() - started, 3),
            **times,
            "message": message,
        }
        record = json.loads(json.dumps(record))
        write_json(self.file(spec.trial, "json"), record)
        for path in (self.file(spec.trial, end) for end in ("partial.json", "partial0.h5", "partial1.h5")):
            path.unlink(missing_ok=True)
        return record

    def _begun(self, spec: Spec) -> dict[str, object]:
        """Return what is on disk of a trial that was begun: epochs done, their state, rows and time."""
        path = self.file(spec.trial, "partial.json")
        kept = read_json(path)
        if kept is None and path.is_file():
            os.replace(path, f"{path}.damaged")
            told = f"{path}: damaged; set aside as {path.name}.damaged, and trial {spec.trial} is trained from its beginning"
            tell({"trial": spec.trial, "told": told})
        if kept and kept.get("spec") == json.loads(json.dumps(spec.kept)) and (self.trials / kept["state"]).is_file():
            return kept
        return {"epochs": spec.initial_epoch, "state": None, "rows": [], "members": [], "seconds": 0.0}

    def _train(self, model, spec: Spec, begun: Mapping, diary: Diary) -> tuple[dict[str, float], list[dict]]:
        state = begun["state"] or (spec.promoted_from and f"{spec.promoted_from}.h5")
        initial = begun["epochs"]
        if state:
            try:
                run.load_state(model, self.trials / state)
            except InputError as error:  # damaged: the epochs that made it are trained again, and give the same
                tell({"trial": spec.trial, "told": f"{error}; trial {spec.trial} is trained from its first epoch"})
                model.reset()
                begun = diary.begun = {**begun, "rows": [], "members": []}
                initial = 0
            else:
                model.member_rows = list(begun["members"])
        history = model.fit(
            self.training,
            self.watched,
            epochs=spec.epochs,
            initial_epoch=initial,
            callbacks=[diary],
            verbose=0,
            jit_compile=self.job.jit_compile,
            finish=False,
        )
        if diary.stopped:
            return {}, []
        rows = begun["rows"] + run.history_rows(model.histories)
        if spec.promoted_from and not history.epoch and not begun["rows"]:  # its members had stopped: it is what it was
            return read_json(self.file(spec.promoted_from, "json"))["metrics"], []
        main = model.recipe()[model.main_phase].name
        past = [row for row in begun["rows"] if row["phase"] == main]
        terms = {
            k: [_number(row.get(k)) for row in past] for row in past[:1] for k in row if k not in ("phase", "epoch")
        }
        whole = {name: terms.get(name, []) + values for name, values in history.history.items()} or terms
        return self.objective(model, self.validation, whole), rows

    # -- what is kept ----------------------------------------------------------------------------------

    def model(self, hyperparameters: Mapping[str, object]) -> tuple[object, bool]:
        """Return a model at its start, and whether it was built anew; if its architecture was used before, that one."""
        key = architecture(self.job.model, hyperparameters)
        runtime = registry.model_class(self.job.model).runtime_hyperparameters
        if key in self.models:
            model = self.models[key] = self.models.pop(key)  # the latest used last
            model.reset(**{k: v for k, v in hyperparameters.items() if k in runtime})
            return model, False
        self.forget(KEPT_PROGRAMS - 1)
        model = registry.get(self.job.model, **hyperparameters)
        model.adapt(self.training)
        self.pipelines.serve(model)
        self.models[key] = model
        return model, True

    def forget(self, left: int) -> None:
        """Keep only so many programs, those used last."""
        dropped = [self.models.pop(key) for key in list(self.models)[: max(0, len(self.models) - left)]]
        if dropped:
            for model in dropped:
                model.release()
            del dropped, model
            gc.collect()

    def file(self, trial: str, suffix: str) -> Path:
        """Return the path of one file of a trial."""
        return self.trials / f"{trial}.{suffix}"


def held(events: Events) -> Events:
    """Return events in memory if they are few enough to be: every trial reads them several times."""
    numbers = sum(math.prod(events.shape_of(field)) for field in ("features", "objects") if events.has(field))
    return events.in_memory() if 4 * numbers * len(events) <= HELD else events


class Pipelines:
    """The batches of training and validation events, made once for all models that see them alike.

    That is those with the same columns, batch size, seed, fitted scaling and weights of events.
    """

    def __init__(self, *events: Events):
        self._events = events
        self._masses = [each.take(np.arange(min(len(each), PROBE))).mass for each in events]
        self._made: dict[tuple, object] = {}

    def serve(self, model) -> None:
        """Let a model take its batches from here."""
        model.trainer.batch_provider = functools.partial(self._batches, model)

    def _batches(self, model, events: Events, weighting, smaller: bool = False, **room):
        place = next((i for i, each in enumerate(self._events) if each is events), None)
        make = functools.partial(model.batches, events, weighting, smaller, **room)
        if place is None:
            return make()
        weights = None if weighting is None else _digest([np.asarray(weighting(self._masses[place]))])
        fixed = (model.hyperparameter("batch_size"), model.hyperparameter("seed"), smaller, tuple(sorted(room.items())))
        seen = (model.resolved_columns, getattr(getattr(model, "inputs", None), "object_columns", ()))
        scaling = _digest([variable.numpy() for variable in model.scaler.variables])
        key = (place, type(model.scaler).__name__, scaling, weights, *fixed, *seen)
        if key not in self._made:
            while len(self._made) >= KEPT_PIPELINES:
                self._made.pop(next(iter(self._made)))
            batches = make()
            batches.ordered = functools.lru_cache(2)(batches.ordered)
            batches.shuffled = functools.lru_cache(16)(batches.shuffled)  # by the pass that it begins with
            self._made[key] = batches
        self._made[key] = self._made.pop(key)  # the latest used last
        return self._made[key]


class Diary(keras.callbacks.Callback):
    """Tells of a trial's epochs, keeps them on disk, measures where the time goes, and stops it when time is up."""

    _supports_tf_logs = True  # else Keras waits for numbers that nobody reads

    def __init__(self, bench: Bench, model, spec: Spec, begun: Mapping, until: float | None, fresh: bool):
        super().__init__()
        self.bench, self.spec, self.begun, self.until, self.fresh = bench, spec, begun, until, fresh
        self.of, self.stopped, self.rows = model, False, []
        self.started, self.steps, self.judging, self.before = time.monotonic(), [], 0.0, 0.0
        self.diverged: str | None = None

    def on_train_begin(self, logs=None):
        self.before = time.monotonic() - self.started if self.of.main_phase and not self.spec.initial_epoch else 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        logs = {name: _plain(value) for name, value in (logs or {}).items()}
        if not self.rows:
            self.rows = run.history_rows(self.of.histories)  # of the phases before this one
        self.rows.append({"phase": self.of.recipe()[self.of.main_phase].name, "epoch": epoch} | logs)
        tell({"trial": self.spec.trial, "epoch": epoch + 1, "logs": logs})
        if epoch + 1 >= self.spec.epochs:
            return  # the whole trial will be on disk in a moment
        try:
            self._keep(epoch + 1)
        except InputError as error:
            raise Unwritable(error) from None
        if self._is_over():
            self.stopped = self.model.stop_training = True

    def _keep(self, epochs: int) -> None:
        # two states in turn: partial.json, renamed into place last, always names one that is whole
        state = self.bench.file(self.spec.trial, f"partial{epochs % 2}.h5")
        run.save_state(self.of, state)
        kept = {
            "spec": self.spec.kept,
            "epochs": epochs,
            "state": state.name,
            "rows": self.begun["rows"] + self.rows,
            "members": self.of.member_rows,
            "seconds": self.begun["seconds"] + time.monotonic() - self.started,
            "times": self.times(),
        }
        write_json(self.bench.file(self.spec.trial, "partial.json"), kept)

    def _is_over(self) -> bool:
        return not is_wanted(self.bench.job) or (self.until is not None and time.time() >= self.until)

    def on_train_batch_begin(self, batch, logs=None):
        self._at = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(time.perf_counter() - self._at)
        loss = (logs or {}).get("loss")
        if loss is not None and not np.isfinite(loss):  # as Keras' TerminateOnNaN, which prints a line
            self.model.stop_training = True
            self.diverged = f"the training has diverged: the loss in epoch {self.epoch + 1} is not a number"

    def on_test_begin(self, logs=None):
        self._judged = time.perf_counter()

    def on_test_end(self, logs=None):
        self.judging += time.perf_counter() - self._judged

    def times(self) -> dict[str, object]:
        """Return the seconds of training, of validation, and of tracing and compiling, which the first step has."""
        building = 0.0
        if self.fresh and self.steps:  # a single step was all building, or nearly
            first, later = self.steps[0], self.steps[1:]
            building = first - (min(statistics.median(later), first) if later else 0.0)
        found = {"training": sum(self.steps) - building, "validating": self.judging, "compiling": building}
        if self.fresh:
            found["compiling"] += self.before  # the phases before, which are short, and their programs
        else:
            found["training"] += self.before
        past = self.begun.get("times", {})  # of the process that began it
        found = {f"{name}_seconds": value for name, value in found.items()}
        return {name: round(value + past.get(name, 0.0), 3) for name, value in found.items()}


class Unwritable(Exception):
    """A file of the search cannot be written."""

    def __init__(self, reason: InputError):
        super().__init__(str(reason))
        self.reason = reason


def read_json(path: Path) -> dict[str, object] | None:
    """Return what a file holds; None if it is not there or damaged."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says."""
    return next(iter(str(error).strip().splitlines()), "no message")


def _plain(value) -> float | None:
    value = float(value)
    return value if np.isfinite(value) else None


def _number(value) -> float:
    return float("nan") if value is None else value


def _digest(arrays: Sequence[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
