"""Losses of a training for TensorBoard, written while it runs: `zoo train --tensorboard FOLDER`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipelines.outputs import check_new
from zoo.keras import keras


class Scalars(keras.callbacks.Callback):
    """Writes the terms of every epoch as scalars `PHASE/TERM`, and the hyperparameters as a text.

    Args:
        folder: new, or with `resume` that of a training which was interrupted, whose epochs stay.
        model: of the zoo. It has to have met its data, so that its hyperparameters are whole.

    Raises `InputError` if the folder exists, or cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], trained: Any, resume: bool = False):
        super().__init__()
        path = Path(folder) if resume and Path(folder).is_dir() else check_new(folder)
        self._trained, self._writer = trained, tf.summary.create_file_writer(str(path))
        self._told: set[str] = set()
        config = json.dumps(trained.get_config(), indent=1)
        with self._writer.as_default():
            tf.summary.text("hyperparameters", "\n".join(f"    {line}" for line in config.splitlines()), step=0)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Write the terms of an epoch of the main phase."""
        phase = self._trained.recipe()[self._trained.main_phase].name
        self._told.add(phase)
        self._write(phase, epoch, logs or {})

    def finish(self) -> None:
        """Write those of the phases before and after it, of which Keras tells no callback."""
        for phase, history in self._trained.histories.items():
            for i, epoch in enumerate(history.epoch if phase not in self._told else ()):
                self._write(phase, epoch, {name: values[i] for name, values in history.history.items()})
        self._writer.close()

    def _write(self, phase: str, epoch: int, terms: Mapping[str, Any]) -> None:
        with self._writer.as_default():
            for name, value in terms.items():
                tf.summary.scalar(f"{phase}/{name}", float(value), step=epoch + 1)
        self._writer.flush()
