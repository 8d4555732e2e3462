"""Losses of a training for TensorBoard, written while it runs: `zoo train --tensorboard FOLDER`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipelines.outputs import check_new
from zoo.keras import keras


class Scalars(keras.callbacks.Callback):
    """Writes the terms of every epoch as scalars `PHASE/TERM`, and the hyperparameters as a text.

    Args:
        folder: new, or with `resume` that of a training which was interrupted, whose epochs stay.
        trained: model of the zoo. It has to have met its data, so that its hyperparameters are whole.

    Raises `InputError` if the folder exists, or cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], trained: Any, resume: bool = False):
        super().__init__()
        self._path = Path(folder) if resume and Path(folder).is_dir() else check_new(folder)
        self._trained = trained
        self._writer: Any = None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Write the terms of an epoch of the main phase."""
        self._write(self._main, epoch, logs or {})

    def finish(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write those of the phases before and after it, of which Keras tells no callback; `rows` are those of the history."""
        for row in rows:
            if row["phase"] != self._main:
                terms = {name: value for name, value in row.items() if name not in ("phase", "epoch")}
                self._write(str(row["phase"]), int(row["epoch"]), terms)

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()

    @property
    def _main(self) -> str:
        return self._trained.recipe()[self._trained.main_phase].name

    def _write(self, phase: str, epoch: int, terms: Mapping[str, Any]) -> None:
        with self._open().as_default():
            for name, value in terms.items():
                if value is not None:
                    tf.summary.scalar(f"{phase}/{name}", float(value), step=epoch + 1)
        self._open().flush()

    def _open(self) -> Any:
        """Return the writer, made for the first number that there is: a training that fails before leaves no folder."""
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self._path))
            config = json.dumps(self._trained.get_config(), indent=1)
            with self._writer.as_default():
                tf.summary.text("hyperparameters", "\n".join(f"    {line}" for line in config.splitlines()), step=0)
        return self._writer
