"""What Keras has and the models of the zoo do otherwise: each call, and each argument of `fit`, names what works."""

from __future__ import annotations

import difflib
import inspect
import numbers
import os
from collections.abc import Callable, Mapping
from typing import NoReturn

import tensorflow as tf

from pipelines.errors import InputError

# arguments of Keras' `fit`
INSTEAD = {
    "x": "the events are the first argument",
    "y": "there are no targets, models learn from the events alone",
    "batch_size": "it is a hyperparameter: zoo.get(name, batch_size=...)",
    "sample_weight": "weights belong to the events, as in Events.from_arrays(..., weight=...)",
    "class_weight": "weights belong to the events, as in Events.from_arrays(..., weight=...)",
    "steps_per_epoch": "an epoch is a pass through all events; events.sample(n) has fewer",
    "validation_steps": "all events of validation_data are looked at; events.sample(n) has fewer",
    "validation_batch_size": "it is that of the training",
    "validation_freq": "validation_data are looked at after every epoch; in callbacks you may do it more rarely",
    "shuffle": "events are shuffled anew in every pass, by the hyperparameter seed",
    **dict.fromkeys(
        ("workers", "use_multiprocessing", "max_queue_size"),
        "batches are read while the steps run; memory= says how much of the events is held",
    ),
}
JUDGED = "call zoo.evaluate(model, events), which judges with truth, or give fit validation_data for their losses"


def refuse_unknown(
    call: Callable[..., object], given: Mapping[str, object], instead: Mapping[str, str] = INSTEAD
) -> None:
    """Raise TypeError for arguments that a call does not have: what does the same as one of Keras, or what is near.

    >>> refuse_unknown(open, {"modes": "r"})
    Traceback (most recent call last):
    TypeError: open() has no argument 'modes'; did you mean mode?
    """
    for name in given:
        found = inspect.signature(call).parameters
        known = [one for one, what in found.items() if what.kind is not inspect.Parameter.VAR_KEYWORD]
        near = difflib.get_close_matches(name, known, 1)
        hint = instead.get(name) or (f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}")
        raise TypeError(f"{call.__name__}() has no argument {name!r}; {hint}")


def check_epochs(epochs: object, initial_epoch: object = 0) -> None:
    """Raise TypeError unless numbers of epochs are whole (or None for the model's own), `InputError` unless they can be."""
    if epochs is not None and (isinstance(epochs, bool) or not isinstance(epochs, numbers.Integral)):
        raise TypeError(f"epochs is {epochs!r}, expected a whole number, or None for the model's own")
    if epochs is not None and epochs < 1:
        raise InputError(f"epochs is {epochs}, expected at least 1")
    if isinstance(initial_epoch, bool) or not isinstance(initial_epoch, numbers.Integral):
        raise TypeError(f"initial_epoch is {initial_epoch!r}, expected a whole number")
    if initial_epoch < 0:
        raise InputError(f"initial_epoch is {initial_epoch}, expected at least 0")


def check_share(name: str, value: object) -> None:
    """Raise TypeError unless a share is a number, `InputError` unless it is at least 0 and below 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {value!r}, expected a number")
    if not 0 <= float(value) < 1:
        raise InputError(f"{name} is {value}, expected a share >= 0 and < 1")


def no_events(name: str, given: object) -> str:
    """Return what to say of an argument that is no `Events`."""
    return (
        f"{name} is {type(given).__name__}, expected Events: of a file or a sample pipelines.open(file), of a DataFrame or an "
        f"Arrow table pipelines.open(frame, mass='mjj'), of arrays pipelines.Events.from_arrays(features, mass, columns)"
    )


class KerasHabits:
    """Methods of `keras.Model` that do what Keras' would, or raise `InputError` with what to call."""

    def save_run(self, folder: str | os.PathLike) -> None:
        """Write a run directory, as `zoo train` does; `zoo.load(folder)` gives the trained model back.

        Raises `InputError` if the model is not trained, or if `folder` exists or cannot be written.
        """
        from zoo.run import save_run

        save_run(self, folder)

    def export(self, path: str | os.PathLike, **options) -> None:
        """Write a SavedModel that takes raw physical inputs and needs TensorFlow alone; options as of `zoo.export`."""
        from zoo.serving.saved_model import export

        known = inspect.signature(export).parameters
        refuse_unknown(export, {name: value for name, value in options.items() if name not in known})
        export(self, path, **options)

    def _refuse(self, what: str) -> NoReturn:
        raise InputError(
            f"{what} does not work for models of the zoo; call model.save_run(folder) and zoo.load(folder), or "
            f"model.export(folder) for a SavedModel that scores"
        )

    def save(self, *args, **options) -> NoReturn:
        """Raise `InputError` with what to call."""
        self._refuse("model.save")

    def save_weights(self, *args, **options) -> NoReturn:
        """Raise `InputError` with what to call."""
        self._refuse("model.save_weights")

    def load_weights(self, *args, **options) -> NoReturn:
        """Raise `InputError` with what to call."""
        self._refuse("model.load_weights")

    def get_compile_config(self) -> NoReturn:
        """Raise `InputError` with what to call: Keras asks for it when it saves."""
        self._refuse("keras.models.save_model")

    def __reduce__(self) -> NoReturn:
        self._refuse("pickle")

    def __deepcopy__(self, memo) -> NoReturn:
        self._refuse("copy.deepcopy")

    def __call__(self, *args, **options) -> NoReturn:
        """Raise `InputError` with what to call."""
        raise InputError("model(x) is not what these models are for; call model.score(events), or model.infer(x)")

    def compile(self, *args, **options) -> NoReturn:
        """Raise `InputError` with what to call."""
        raise InputError(
            "model.compile is not needed, fit does it: optimizer, learning rate and terms of the loss are hyperparameters, "
            "as in zoo.get(name, learning_rate=...); XLA is fit(jit_compile=...)"
        )

    def predict(self, *args, **options) -> NoReturn:
        """Raise `InputError` with what to call."""
        raise InputError("model.predict is not what these models are for; call model.score(events), or model.results")

    def predict_on_batch(self, *args, **options) -> NoReturn:
        """Raise `InputError` with what to call."""
        raise InputError("model.predict_on_batch is not what these models are for; call model.score(events)")

    def train_on_batch(self, *args, **options) -> NoReturn:
        """Raise `InputError` with what to call."""
        raise InputError(
            "model.train_on_batch: models of the zoo are trained by whole phases; call model.fit(events, callbacks=...)"
        )

    def evaluate(self, x=None, *args, **options):
        """Return Keras' losses of batches, as `fit` validates; raise `InputError` with what to call for other things."""
        if not isinstance(x, (tf.data.Dataset, tf.data.Iterator)) and "_use_cached_eval_dataset" not in options:
            raise InputError(f"model.evaluate is Keras' own, for batches; {JUDGED}")
        return super().evaluate(x, *args, **options)

    def test_on_batch(self, *args, **options) -> NoReturn:
        """Raise `InputError` with what to call."""
        raise InputError(f"model.test_on_batch is Keras' own, for batches; {JUDGED}")
