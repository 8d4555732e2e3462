"""A search for TensorBoard while it runs: `tune --tensorboard FOLDER`; of one that has run, `tune plot --tensorboard`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipelines.outputs import check_new
from tuning.listener import Plan, SearchListener
from tuning.objectives import Objective
from tuning.page import write_metrics, write_trial


class TensorBoard(SearchListener):
    """Passes on what a search tells, and writes it for TensorBoard: losses of every epoch, and hyperparameters with what they gave.

    Every trial is a run of its name: scalars `epoch/TERM` as it trains, and when it ends its objective and the terms of that.

    Args:
        folder: new, or with `resume` that of the same search before.
        listener: is told everything too. objective: of the search, by which what labels judged is marked "TRUTH USED".

    Raises `InputError` if the folder exists, or cannot be written.

    Example:
        `tuning.search("vae", events, trials=20, out="search", tensorboard="board")`, and `tensorboard --logdir board`
    """

    def __init__(
        self, folder: str | os.PathLike[str], listener: SearchListener | None = None, resume: bool = False,
        objective: Objective | None = None,
    ):  # fmt: skip
        self.folder = Path(folder) if resume and Path(folder).is_dir() else check_new(folder)
        self.listener, self._objective = listener or SearchListener(), objective
        self._writers: dict[str, Any] = {}

    def planned(self, plan: Plan) -> None:
        self.listener.planned(plan)

    def begun(self, trial: str, epochs: range, worker: str, bracket: int = 0) -> None:
        self.listener.begun(trial, epochs, worker, bracket)

    def epoch(self, trial: str, epoch: int, worker: str, logs: Mapping[str, float | None]) -> None:
        with self._writer(trial).as_default():
            for name, value in logs.items():
                if value is not None:
                    tf.summary.scalar(f"epoch/{name}", value, step=epoch)
        self._writer(trial).flush()
        self.listener.epoch(trial, epoch, worker, logs)

    def ended(self, record: Mapping[str, Any], finished: int) -> None:
        writer = self._writer(record["trial"])
        with writer.as_default():
            if record["status"] == "COMPLETED":
                write_trial(record)
        writer.close()
        del self._writers[record["trial"]]
        self.listener.ended(record, finished)

    def told(self, text: str) -> None:
        self.listener.told(text)

    def _writer(self, trial: str) -> Any:
        if trial not in self._writers:
            if self._objective is not None:
                write_metrics(self.folder, ["objective", *self._objective.weights], self._objective.uses_truth)
                self._objective = None
            self._writers[trial] = tf.summary.create_file_writer(str(self.folder / trial))
        return self._writers[trial]
