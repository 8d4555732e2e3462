"""The checkpoint of a running trial: its epochs and its state on disk, so that a killed trial goes on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import InputError
from pipelines.jobs.executors import tell
from pipelines.outputs import json_number, write_json
from tuning.programs import Trainee
from zoo import run
from zoo.keras import keras


class TrialCheckpoint(keras.callbacks.Callback):
    """Reports a trial's epochs, keeps them on disk, measures times, and stops the trial when time is up."""

    _supports_tf_logs = True  # else Keras waits for numbers that nobody reads

    def __init__(
        self, file: Callable[[str], Path], is_wanted: Callable[[], bool], trainee: Trainee, spec, begun: Mapping[str, Any],
        until: float | None,
    ):  # fmt: skip
        """Take the trial.

        Args:
            file: from a suffix to the path of one of the trial's files. is_wanted: whether the search still goes on.
            trainee, spec: what is trained. begun: what an earlier process left (see `TrialRunner`).
            until: `time.time()` after which it stops at the end of its epoch, or None.
        """
        super().__init__()
        self.file, self.is_wanted = file, is_wanted
        self.spec, self.begun, self.until = spec, begun, until
        self.trainee, self.of, self.fresh = trainee, trainee.trained, trainee.fresh
        self.stopped = False
        self.rows: list[dict[str, Any]] = []
        self.steps: list[float] = []
        self.started, self.judging, self.before = time.monotonic(), 0.0, 0.0
        self.diverged: str | None = None

    def on_train_begin(self, logs=None):
        self.before = time.monotonic() - self.started if self.of.main_phase and not self.spec.initial_epoch else 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        logs = {name: json_number(value) for name, value in (logs or {}).items()}
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
        state = self.file(f"partial{epochs % 2}.h5")
        self.trainee.save(state)
        kept = {
            "spec": self.spec.record,
            "epochs": epochs,
            "state": state.name,
            "rows": self.begun["rows"] + self.rows,
            "members": self.of.member_rows,
            "seconds": self.begun["seconds"] + time.monotonic() - self.started,
            "times": self.times(),
        }
        write_json(self.file("partial.json"), kept)

    def _is_over(self) -> bool:
        return not self.is_wanted() or (self.until is not None and time.time() >= self.until)

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

    def times(self) -> dict[str, Any]:
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
