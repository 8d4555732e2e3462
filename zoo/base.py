"""AnomalyModel: the one contract that every model of the zoo keeps."""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import tensorflow as tf

from pipelines.batches import Batches
from pipelines.errors import InputError
from pipelines.events import Events
from pipelines.layout import match_columns
from zoo import layers, scalers
from zoo.keras import keras


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stage of a model's training recipe: `epochs` Keras epochs of `passes` passes through the events each."""

    name: str
    epochs: int
    passes: int = 1


class AnomalyModel(keras.Model):
    """A detector that learns what ordinary events look like and gives every event an anomaly score.

    A model is one file in `zoo/models`: a subclass of this, registered with `zoo.register`, that states

    - its hyperparameters, as keywords of the constructor in the paper's own symbols, among them `columns`,
      `scaling`, `batch_size` and `seed`, handed on by `super().__init__(locals())`. `get_config` returns them.
      Those named in `dials` live in variables: changing them changes no shape and compiles nothing anew;
    - `limits`, the values they may take, `presets`, `score_kinds` (the first is the default);
    - `make(width)`: create the layers for `width` features, and the `optimizers`, the first of which is the one
      that Keras' learning-rate callbacks act on; `prepare()`: what new weights and dials ask for; `initial(weight,
      seed)`, where kernels and biases are not all there is;
    - `recipe()`: the phases of training, and `weighting(events)`; `train_step(batch)` and `test_step(batch)` in the
      network's units, which look at `self.phase` to know where they are, so that a change of phase never retraces.
      A training step ends with `self.clock.assign_add(1)`;
    - `infer(features)`: from physical features (B, F) to a dict with every score kind, and `reconstruction`
      and `latent` if the model has them;
    - `search_space(hp)`: its KerasTuner space.

    Everything outside the model is in physical units: the input scaling is fitted by `adapt` and lives in the
    model. No label is ever read, and the mass is used for training weights and decorrelation only.

    Example:
        >>> import pipelines, zoo
        >>> model = zoo.get("gan_ae", ae_units=16, d_units=(16,), batch_size=1024, cycles=1, pretraining_epochs=1)
        >>> history = model.fit(pipelines.open("lhco_sim_train"), verbose=0)
        >>> model.score(pipelines.open("lhco_sim_test")).shape
        (6000,)
    """

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    score_kinds: ClassVar[tuple[str, ...]] = ()
    dials: ClassVar[tuple[str, ...]] = ()
    limits: ClassVar[Mapping[str, Limit]] = {}

    def __init__(self, hyperparameters: Mapping[str, object]):
        """Take the constructor's `locals()`: what is written there are the hyperparameters, and nothing else is."""
        super().__init__()
        given = {k: v for k, v in hyperparameters.items() if k not in ("self", "__class__")}
        missing = [name for name in ("columns", "scaling", "batch_size", "seed") if name not in given]
        if missing:
            raise InputError(f"{type(self).__name__} has no hyperparameter {missing[0]!r}; every model needs it")
        self.check(given)
        self._hyperparameters = tuple(given.items())  # pairs: Keras would wrap a dict and track it
        self.resolved_columns: tuple[str, ...] = ()
        self.scaler = scalers.make(given["scaling"])
        self.dial = {name: tf.Variable(float(given[name]), trainable=False, name=name) for name in self.dials}
        self.phase = _counter("phase", 0)
        self.clock = _counter("clock", 0)  # training steps done: seeds the dropout
        self.seed = _counter("seed", given["seed"])
        self.phase_start = _counter("phase_start", 0)  # clock at the start of the phase
        self.steps_per_pass = _counter("steps_per_pass", 1)

    # -- hyperparameters -------------------------------------------------------------------------

    @classmethod
    def check(cls, hyperparameters: Mapping[str, object]) -> None:
        """Raise `InputError` naming the first hyperparameter that is outside its `limits`."""
        columns = hyperparameters.get("columns", ("*",))
        if not isinstance(columns, (list, tuple)) or not columns or not all(isinstance(c, str) for c in columns):
            raise InputError(f"columns={columns!r} is not possible; expected a list of names or patterns")
        for name, limit in cls.limits.items():
            if name in hyperparameters:
                limit.check(name, hyperparameters[name])

    def hyperparameter(self, name: str):
        """Return the value of one hyperparameter."""
        return dict(self._hyperparameters)[name]

    def get_config(self) -> dict[str, object]:
        """Return the hyperparameters; `type(model)(**model.get_config())` is the same model, untrained."""
        return dict(self._hyperparameters) | ({"columns": self.resolved_columns} if self.resolved_columns else {})

    @classmethod
    def from_config(cls, config):
        """Return an untrained model with these hyperparameters."""
        return cls(**config)

    @classmethod
    def search_space(cls, hp) -> dict[str, object]:
        """Return hyperparameters drawn from the KerasTuner object `hp`."""
        raise NotImplementedError

    @property
    def epochs(self) -> int:
        """Keras epochs of the last phase, the one that callbacks, checkpoints and the tuner count."""
        return self.recipe()[-1].epochs

    def reset(self, seed: int | None = None, **dials: float) -> None:
        """Start over: fresh weights from `seed`, optimizers at rest, dials set. Compiles nothing anew.

        Raises `InputError` for a name that is not a dial of this model, or a value out of range.
        """
        unknown = sorted(set(dials) - set(self.dials))
        if unknown:
            raise InputError(
                f"{unknown[0]!r} is not a dial of {type(self).__name__}; dials are {', '.join(self.dials)}"
            )
        self.check(dials)
        config = dict(self._hyperparameters) | dials | ({} if seed is None else {"seed": seed})
        self._hyperparameters = tuple(config.items())
        for name, variable in self.dial.items():
            variable.assign(float(config[name]))
        self.seed.assign(config["seed"])
        self.clock.assign(0)
        for index, weight in enumerate(self.trainable_variables):
            weight.assign(self.initial(weight, (config["seed"], index)))
        for optimizer in self.optimizers:
            rate = optimizer.learning_rate
            for variable in optimizer.variables:
                if variable is not rate:
                    variable.assign(tf.zeros_like(variable))
        self.prepare()

    def initial(self, weight: tf.Variable, seed: tuple[int, int]) -> tf.Tensor:
        """Return the initial value of a trainable weight: Glorot uniform for kernels, zeros for biases."""
        return layers.glorot_uniform(weight.shape, seed) if weight.shape.rank >= 2 else tf.zeros_like(weight)

    @property
    def optimizers(self) -> tuple[keras.optimizers.Optimizer, ...]:
        """The optimizers that training uses."""
        return ()

    def prepare(self) -> None:
        """Do what fresh weights and new dials ask for, such as setting learning rates."""

    # -- meeting the data ------------------------------------------------------------------------

    def adapt(self, events: Events) -> None:
        """Resolve the columns by name, fit the input scaling in one pass, and create the weights.

        Raises `InputError` naming a missing column, or a column with NaN or infinite values.
        """
        columns = match_columns(self.hyperparameter("columns"), events.columns, events.name)
        if events.about.mass_column in columns:
            raise InputError(
                f"columns include {events.about.mass_column!r}, the mass that is searched for bumps: a score that "
                f"sees it shapes its spectrum; leave it out"
            )
        first = next(iter(events.blocks("features", "mass", columns=columns)), None)
        copies = [] if first is None else np.flatnonzero((first["features"] == first["mass"][:, None]).all(axis=0))
        if len(copies):
            raise InputError(f"column {columns[copies[0]]!r} is the mass that is searched for bumps; leave it out")
        if not self.scaler.built:
            self.scaler.build((None, len(columns)))
        blocks = (block["features"] for block in events.blocks("features", columns=columns))
        self.scaler.adapt(blocks, seed=self.hyperparameter("seed"))
        self.build_for(columns)

    def build_for(self, columns: Sequence[str]) -> None:
        """Create all variables for these columns, without looking at any event."""
        if self.resolved_columns:
            return
        self.resolved_columns = tuple(columns)
        if not self.scaler.built:
            self.scaler.build((None, len(columns)))
        self.make(len(columns))
        self.infer(tf.zeros((1, len(columns))))
        self.reset()
        self.built = True

    def make(self, width: int) -> None:
        """Create layers and optimizers for `width` features."""
        raise NotImplementedError

    def recipe(self) -> tuple[Phase, ...]:
        """Return the phases of training, in order."""
        raise NotImplementedError

    def weighting(self, events: Events):
        """Return a function from masses to training weights, or None to use the events' own weights."""
        return None

    # -- training --------------------------------------------------------------------------------

    def fit(
        self,
        events: Events,
        validation: Events | None = None,
        *,
        epochs: int | None = None,
        initial_epoch: int = 0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: int | str = "auto",
        jit_compile: bool = True,
        memory: int | None = None,
        cache: str | os.PathLike | None = None,
    ) -> keras.callbacks.History:
        """Run the paper's whole recipe on events, without labels.

        Args:
            events: what to train on; labels, if there are any, are not read.
            validation: other events, whose losses are recorded as `val_...` after every epoch.
            epochs: Keras epochs of the last phase, by default the model's own number.
            initial_epoch: epoch of the last phase to go on from with the present weights; earlier phases are done.
            callbacks: Keras callbacks, called in the last phase.
            verbose: Keras' progress bar: 0, 1, 2 or "auto".
            jit_compile: compile the training step with XLA.
            memory, cache: bytes of memory, and the folder, that may hold the events while training (see
                `pipelines.rows.keep`). The result does not depend on them.

        Returns:
            The Keras history of the last phase; those of earlier phases are in `model.histories`, by name.

        Raises `InputError` for missing or non-finite columns and for fewer events than one batch.
        """
        if not self.resolved_columns:
            self.adapt(events)
        weighting = self.weighting(events)
        room = {"memory": memory, "cache": cache}
        batches = self.batches(events, weighting, **room)
        watched = None if validation is None else self.batches(validation, weighting, smaller=True, **room)
        held_out = None if watched is None else watched.ordered()
        self.steps_per_pass.assign(batches.steps)
        if not self._is_compiled or self.jit_compile != jit_compile:
            rates = {"optimizer": self.optimizers[0]} if self.optimizers else {}
            self.compile(**rates, jit_compile=jit_compile, steps_per_execution=min(batches.steps, 64))
        *earlier, last = self.recipe()
        last = last if epochs is None else dataclasses.replace(last, epochs=epochs)
        object.__setattr__(self, "histories", {})  # past Keras, which would track the dict as part of the model
        passes_done = 0
        for index, phase in enumerate(earlier):
            if phase.epochs and not initial_epoch:
                self._fit_phase(index, phase, batches, passes_done, verbose=verbose)
            passes_done += phase.epochs * phase.passes
        options = {"validation_data": held_out, "callbacks": list(callbacks), "initial_epoch": initial_epoch}
        return self._fit_phase(len(earlier), last, batches, passes_done, verbose=verbose, **options)

    def _fit_phase(self, index, phase, batches, passes_done, *, initial_epoch=0, **options):
        """Run a phase of the recipe; which events come when depends on the passes before it only."""
        passes_done += initial_epoch * phase.passes
        self.phase.assign(index)
        self.phase_start.assign(int(self.clock) - initial_epoch * phase.passes * batches.steps)
        try:
            self.histories[phase.name] = keras.Model.fit(
                self,
                batches.shuffled(passes_done),
                epochs=phase.epochs,
                initial_epoch=initial_epoch,
                steps_per_epoch=phase.passes * batches.steps,
                **options,
            )
        except tf.errors.OpError:
            if batches.error is None:
                raise
            raise batches.error from None  # what TensorFlow makes a long text of
        history = self.histories[phase.name]
        for metric in self.metrics:  # what a phase never measures would stand there as zero
            if hasattr(metric, "count") and not float(metric.count):
                history.history.pop(metric.name, None)
        return history

    def batches(self, events: Events, weighting, smaller: bool = False, **room) -> Batches:
        """Return scaled batches of events; with `smaller`, of fewer events than `batch_size` where there are fewer."""
        size, seed = self.hyperparameter("batch_size"), self.hyperparameter("seed")
        if smaller and len(events):  # as few left over as can be: these events are the same at every epoch
            size = len(events) // -(-len(events) // size)
        options = {"transform": self.scaler, "weighting": weighting, "seed": seed, **room}
        return Batches(events, self.resolved_columns, size, **options)

    # -- scoring ---------------------------------------------------------------------------------

    def infer(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return every score kind, `reconstruction` and `latent` of features (B, F) in physical units."""
        raise NotImplementedError

    def results(self, events: Events | np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the named results of `infer` for events, or for an array (N, F) with columns as `resolved_columns`."""
        if not self.resolved_columns:
            raise InputError(
                f"{type(self).__name__} has not met any data; call fit, or load a trained run with zoo.load"
            )
        parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for features in self._feature_blocks(events):
            found = self._compiled_infer(features)
            for name in names:
                parts[name].append(found[name].numpy())
        return {name: np.concatenate(part) for name, part in parts.items()}

    def score(self, events: Events | np.ndarray | Mapping[str, np.ndarray], kind: str | None = None) -> np.ndarray:
        """Return anomaly scores (N,), higher = more anomalous.

        Args:
            events: `Events`; or an array (N, F) with columns as `resolved_columns`, in physical units; or a batch, a
                dict whose `features` are such an array.
            kind: one of `score_kinds`, by default the first.

        Raises `InputError` for an unknown kind, a missing column, a wrong number of columns, or non-finite values.
        """
        kind = kind or self.score_kinds[0]
        if kind not in self.score_kinds:
            raise InputError(
                f"score kind {kind!r} is not known; {type(self).__name__} has {', '.join(self.score_kinds)}"
            )
        return self.results(events, [kind])[kind]

    def _feature_blocks(self, events: Events | np.ndarray) -> Iterator[np.ndarray]:
        if isinstance(events, Mapping):
            events = events["features"]
        if not isinstance(events, Events):
            features = np.asarray(events, np.float32)
            if features.ndim != 2 or features.shape[1] != len(self.resolved_columns):
                raise InputError(f"features have shape {features.shape}, expected (N, {len(self.resolved_columns)})")
            events = Events.from_arrays(features, np.zeros(len(features)), self.resolved_columns)
        if not len(events):
            raise InputError(f"{events.name}: no events to score")
        for block in events.blocks("features", columns=self.resolved_columns):
            yield block["features"]

    @property
    def _compiled_infer(self):
        if not hasattr(self, "_infer_function"):
            spec = tf.TensorSpec((None, len(self.resolved_columns)), tf.float32)
            self._infer_function = tf.function(self.infer, input_signature=[spec])
        return self._infer_function

    # -- leaving ---------------------------------------------------------------------------------

    def export(self, path: str | os.PathLike) -> None:
        """Write a SavedModel that takes raw physical features and needs TensorFlow alone (see `zoo.export`)."""
        from zoo.export import export

        export(self, path)


def _counter(name: str, value: int) -> tf.Variable:
    # int64: TensorFlow keeps int32 variables on the CPU, where a program compiled for the GPU cannot reach them
    return tf.Variable(value, dtype=tf.int64, trainable=False, name=name)


@dataclasses.dataclass(frozen=True)
class Limit:
    """What values a hyperparameter may take: a range, or a set of choices.

    >>> Limit(0, 1, open_high=True).check("dropout_rate", 0.2)
    """

    low: float = 0
    high: float = float("inf")
    whole: bool = False
    open_low: bool = False
    open_high: bool = False
    choices: tuple[object, ...] = ()

    def check(self, name: str, value: object) -> None:
        """Raise `InputError` naming the hyperparameter, its value and what was expected, unless it is allowed."""
        if not (value in self.choices if self.choices else self._in_range(value)):
            raise InputError(f"{name}={value!r} is not possible; expected {self}")

    def _in_range(self, value: object) -> bool:
        values = value if isinstance(value, (list, tuple)) else [value]
        kind = numbers.Integral if self.whole else numbers.Real
        return bool(values) and all(
            isinstance(n, kind)
            and not isinstance(n, bool)
            and math.isfinite(n)
            and self.low <= n <= self.high
            and not (self.open_low and n == self.low)
            and not (self.open_high and n == self.high)
            for n in values
        )

    def __str__(self) -> str:
        if self.choices:
            return f"one of {', '.join(map(repr, self.choices))}"
        kind = "a whole number" if self.whole else "a number"
        low = f"{'>' if self.open_low else '>='} {self.low:g}"
        high = "" if self.high == float("inf") else f" and {'<' if self.open_high else '<='} {self.high:g}"
        return f"{kind} {low}{high}"


COUNT = Limit(1, whole=True)
COUNT_OR_ZERO = Limit(0, whole=True)
NOT_NEGATIVE = Limit(0)
POSITIVE = Limit(0, open_low=True)
FRACTION = Limit(0, 1, open_high=True)
FLAG = Limit(choices=(True, False))
SCALING = Limit(choices=tuple(scalers.SCALERS))
