"""Training: the phases of a model's recipe, the compiled programs that run them, and what is kept of their epochs."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import tensorflow as tf

from pipelines import memory as memory_limit
from pipelines.errors import InputError
from zoo.ensemble import BestEpoch, MemberHistory
from zoo.keras import keras
from zoo.keras.released_iterators import let_go_of_iterators

if TYPE_CHECKING:
    from zoo.detector import Detector

Terms = dict[str, tf.Tensor]
LONGEST_EXECUTION = 64  # steps between two calls of a callback, at most
SEED_STEP = 1_000_003  # seeds of the members are this far apart, so that no two draw the same numbers in a training


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Which epoch of a phase is the best one for each member, with the arguments of Keras' callback of this name.

    Attributes:
        monitor: the training term that epochs are compared by.
        mode: "min" or "max": which value is the best.
        min_delta: an epoch is better than another by more than this share of its value.
        patience: a member without a better epoch for so many stops learning; with None all go on to the end.
        restore_best_weights: whether the weights of the best epoch are what remains of the phase.
    """

    monitor: str
    mode: str = "min"
    min_delta: float = 0.0
    patience: int | None = None
    restore_best_weights: bool = False


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stage of a model's training recipe.

    Attributes:
        name: of the phase.
        epochs: Keras epochs.
        passes: through the events in an epoch, all for the task of the phase's name, or for the only one; or passes for
            each of several tasks in turn, by their names.
        main: whether callbacks, checkpoints and the tuner count this phase. If none is, it is the last.
        program: phases of one program share a compiled training step. Each program is traced once.
        early_stopping: which epoch is the best, if one is sought.
    """

    name: str
    epochs: int
    passes: int | Mapping[str, int] = 1
    main: bool = False
    program: str = ""
    early_stopping: EarlyStopping | None = None

    @property
    def passes_per_epoch(self) -> int:
        """Passes through the events in an epoch."""
        return self.passes if isinstance(self.passes, int) else sum(self.passes.values())


@dataclasses.dataclass(frozen=True)
class Task:
    """What one training step does: it lowers a term of `losses` by changing `weights`.

    Attributes:
        losses: a function of a batch, the seeds of the random numbers of this step, () or (K,), and whether it is training;
            it returns terms, each per member, () or (K,), or per member and event, (B,) or (K, B).
        optimizer: made by `Detector.make_optimizer`.
        weights: what is trained.
        minimise: name of the term whose mean over events is minimised.
    """

    losses: Callable[[Any, tf.Tensor, bool], Terms]
    optimizer: keras.optimizers.Optimizer
    weights: Sequence[tf.Variable]
    minimise: str = "loss"


class BatchSource(Protocol):
    """What makes a trainer's batches: `pipelines.events.batches.Batches`, or another of the same attributes."""

    steps: int
    error: Exception | None

    def shuffled(self, first_pass: int = 0) -> tf.data.Dataset: ...

    def ordered(self) -> tf.data.Dataset: ...


class Trainer:
    """Trains one model by the phases of its recipe, through Keras' `fit`.

    It is an object of its own, outside of what Keras tracks of a model: variables of the training, compiled programs,
    histories, best epochs.

    Attributes:
        batch_provider: makes batches of `(data, weighting, smaller, **room)`, by default the model's own `batches`. Set
            it to share batches between models, as the tuner does.
        histories: Keras' history of every phase, by its name.
        member_rows: what each of several members did in every epoch.
        best: the best epochs of the phases where one is sought.
        clock: training steps done, an int64 variable.
    """

    def __init__(self, model: Detector):
        self.model = model
        self.batch_provider: Callable[..., BatchSource] | None = None
        self.histories: dict[str, keras.callbacks.History] = {}
        self.member_rows: list[dict[str, object]] = []
        self.best: dict[str, BestEpoch] = {}
        self.tasks: dict[str, Task] = {}
        self.program, self.phase = "", ""
        self.data: object = None  # what was trained on last
        self.seed = _counter("seed", model.hp.seed)
        self.active = tf.Variable(tf.ones(model.member_shape), trainable=False, name="active")  # 0: has stopped
        self.clock = _counter("clock")
        self.main_epochs = _counter("main_epochs")  # what the main phase was trained for
        self._phase_start = _counter("phase_start")  # clock at the start of the phase
        self._steps_per_pass = _counter("steps_per_pass", 1)
        self._passes: dict[str, tf.Variable] = {}  # by program, the passes of each of its tasks in this phase
        self._rates: list[tuple[keras.optimizers.Optimizer, tf.Variable, str]] = []
        self._remembered: dict[str, Any] = {}
        self._programs: dict[str, Callable] = {}
        self._compiled_with: dict[str, object] | None = None

    # -- what is trained -------------------------------------------------------------------------

    def build(self) -> None:
        """Take the model's tasks and phases, once its weights are there."""
        self.tasks = dict(self.model.tasks())
        for phase in self.model.recipe():
            names = self._tasks_of(phase.program)
            self._passes[phase.program] = tf.Variable(tf.zeros(len(names), tf.int64), trainable=False)
            if phase.early_stopping is not None:
                weights = self._weights_of(phase)
                self.best[phase.name] = BestEpoch(phase.early_stopping, self.model.members, self.active, weights)

    def turns(self, phase: Phase) -> dict[str, int]:
        """Return the passes of each task in an epoch of a phase."""
        if not isinstance(phase.passes, int):
            return dict(phase.passes)
        name = phase.name if phase.name in self.tasks else next(iter(self.tasks), phase.name)
        return {name: phase.passes}

    def _tasks_of(self, program: str) -> list[str]:
        """Return the tasks of a program's phases, in the order of the recipe."""
        phases = [phase for phase in self.model.recipe() if phase.program == program]
        return list(dict.fromkeys(name for phase in phases for name in self.turns(phase)))

    def _weights_of(self, phase: Phase) -> list[tf.Variable]:
        """Return the weights that a phase trains."""
        if not self.tasks:
            return list(self.model.trainable_variables)
        return [weight for name in self.turns(phase) for weight in self.tasks[name].weights]

    @property
    def present_tasks(self) -> list[Task]:
        """The tasks of the program that is trained now."""
        return [self.tasks[name] for name in self._tasks_of(self.program)]

    def turn(self) -> tf.Tensor:
        """Return the index among `present_tasks` of the one that this step is for, an int32 scalar."""
        ends = tf.cumsum(self._passes[self.program])
        return tf.reduce_sum(tf.cast(self.passes_done() % ends[-1] >= ends, tf.int32))

    def steps_done(self) -> tf.Tensor:
        """Return how many steps the present phase has done, an int64 scalar."""
        return self.clock - self._phase_start

    def passes_done(self) -> tf.Tensor:
        """Return how many passes through the events the present phase has done, an int64 scalar."""
        return self.steps_done() // self._steps_per_pass

    def share_done(self, epochs: int) -> tf.Tensor:
        """Return how much of the main phase is done, 0 to 1, a float32 scalar: of `epochs`, or of more if it has more.

        For a main phase of one pass an epoch.
        """
        total = tf.maximum(tf.cast(epochs, tf.int64), tf.cast(self.main_epochs, tf.int64)) * self._steps_per_pass
        done = tf.cast(self.steps_done(), tf.float32) / tf.cast(total, tf.float32)
        return tf.clip_by_value(done, 0.0, 1.0)

    @property
    def main_phase(self) -> int:
        """The place in the recipe of the main phase."""
        phases = self.model.recipe()
        return next((place for place, phase in enumerate(phases) if phase.main), len(phases) - 1)

    @property
    def main_tasks(self) -> list[Task]:
        """The tasks of the main phase."""
        return [self.tasks[name] for name in self.turns(self.model.recipe()[self.main_phase])]

    def step_seeds(self) -> tf.Tensor:
        """Return the seeds of the random numbers of this training step, () or (K,)."""
        return self.model.seeds * SEED_STEP + self.clock

    # -- optimizers ------------------------------------------------------------------------------

    def add_rate(self, optimizer: keras.optimizers.Optimizer, share: tf.Variable, name: str) -> None:
        """Have an optimizer's learning rate follow a hyperparameter."""
        self._rates.append((optimizer, share, name))

    def follow(self, optimizer: keras.optimizers.Optimizer, name: str) -> None:
        """Have an optimizer's learning rate follow another hyperparameter from now on."""
        self._rates = [(one, share, name if one is optimizer else old) for one, share, old in self._rates]
        self.set_rates()

    def set_rates(self) -> None:
        """Give every optimizer the learning rate of its hyperparameter: one number, or one for each member."""
        for optimizer, share, name in self._rates:
            if not name:  # a model that was written for an earlier version sets it
                continue
            rates = np.broadcast_to(np.asarray(getattr(self.model.hp, name), np.float32), share.shape)
            optimizer.learning_rate = rates.flat[0]
            share.assign(rates / rates.flat[0])

    def restart(self) -> None:
        """Forget what was trained; compiled programs are kept."""
        self.seed.assign(self.model.hp.seed)
        self.clock.assign(0)
        self.member_rows = []
        for best in self.best.values():
            best.reset()
        self.active.assign(tf.ones(self.active.shape))
        self.set_rates()

    # -- training --------------------------------------------------------------------------------

    def fit(
        self,
        data,
        validation=None,
        *,
        start: str = "before",
        epochs: int | None = None,
        initial_epoch: int = 0,
        callbacks: object = (),
        finish: bool = True,
        verbose: int | str = "auto",
        jit_compile: bool = True,
        memory: int | None = None,
        cache: str | os.PathLike | None = None,
    ) -> keras.callbacks.History | None:
        """Run the recipe as `AnomalyModel.fit` says.

        `start="after"` does what comes after the epochs of the main phase alone, `start="later"` the phases after it alone.
        """
        memory_limit.check(memory_limit.TRAINING)
        model = self.model
        callbacks = _checked_callbacks(callbacks)
        data = self.data = model.survey(data)
        if not model.has_met_data:
            model.adapt(data)
        weighting, room = model.weighting(data), {"memory": memory, "cache": cache}
        batches = self.batches(data, weighting, **room)
        held_out = None if validation is None else self.batches(validation, weighting, smaller=True, **room).ordered()
        self._steps_per_pass.assign(batches.steps)
        self._compile(jit_compile, min(batches.steps, model.longest_execution))
        if start == "before":
            self.histories.clear()
            self.member_rows = self.member_rows if initial_epoch else []
        phases, main, passes_done, history = model.recipe(), self.main_phase, 0, None
        if start == "after":
            model.on_phase_end(phases[main], data)
        for place, phase in enumerate(phases):
            options: dict[str, object] = {"verbose": verbose}
            if place == main:
                phase = self._main_phase(phase, start, epochs)
                options |= {"validation_data": held_out, "callbacks": callbacks, "initial_epoch": initial_epoch}
                self._forget_best(phases[main + 1 :] if start == "before" else ())
            done = start != "before" if place <= main else not finish
            if not (done or not phase.epochs or (place < main and initial_epoch)):
                if verbose:
                    _tell_phase(phase, [one for one in phases if one.epochs])
                found = self._fit_phase(phase, batches, passes_done, **options)
                history = found if place == main else history
                if place != main or finish:
                    model.on_phase_end(phase, data)
            passes_done += phase.epochs * phase.passes_per_epoch
        return history

    def batches(self, data, weighting, **options) -> BatchSource:
        """Return batches of events, or of what else the model learns from."""
        return (self.batch_provider or self.model.batches)(data, weighting, **options)

    def _main_phase(self, phase: Phase, start: str, epochs: int | None) -> Phase:
        """The main phase with the number of epochs that is asked for; after it, with that of the training."""
        if start != "before":
            return dataclasses.replace(phase, epochs=int(self.main_epochs))
        phase = phase if epochs is None else dataclasses.replace(phase, epochs=epochs)
        self.main_epochs.assign(phase.epochs)
        return phase

    def _forget_best(self, phases: Sequence[Phase]) -> None:
        """Forget the best epochs of phases to come: what they learnt was of another network."""
        for phase in phases:
            if phase.early_stopping is not None:
                self.best[phase.name].reset()

    def _compile(self, jit_compile: bool, steps_per_execution: int) -> None:
        """Have Keras compile the model, unless it is compiled with these options already."""
        if self._compiled_with != {"jit_compile": jit_compile}:
            rates = {"optimizer": self.model.optimizers[0]} if self.model.optimizers else {}
            keras.Model.compile(self.model, **rates, jit_compile=jit_compile, steps_per_execution=steps_per_execution)
            self._programs.clear()
            self._compiled_with = {"jit_compile": jit_compile}

    def train_function(self, make: Callable[[], Callable]) -> Callable:
        """Return the compiled program of the present phase, made by `make` if it is not there yet."""
        if self.program not in self._programs:
            self._programs[self.program] = make()
        return self._programs[self.program]

    def _fit_phase(self, phase, batches, passes_done, *, initial_epoch=0, callbacks=(), **options):
        """Run a phase of the recipe; which events come when depends on the passes before it only."""
        passes_done += initial_epoch * phase.passes_per_epoch
        phase = self._resumed(phase, initial_epoch)
        if not initial_epoch:
            self.model.on_phase_begin(phase)
        self.member_rows = [
            row for row in self.member_rows if row["phase"] != phase.name or row["epoch"] < initial_epoch
        ]
        self.enter(phase, initial_epoch, batches.steps)
        best = self.best.get(phase.name)
        try:
            history = keras.Model.fit(
                self.model,
                batches.shuffled(passes_done),
                epochs=phase.epochs,
                initial_epoch=initial_epoch,
                steps_per_epoch=phase.passes_per_epoch * batches.steps,
                callbacks=[MemberHistory(self, phase.name, best), *callbacks],
                **options,
            )
        except BaseException as error:
            let_go_of_iterators(error)
            if batches.error is None or not isinstance(error, tf.errors.OpError):
                raise
            cause, batches.error = batches.error, None  # whose traceback has the batches: not a circle
            raise cause from None  # what TensorFlow makes a long text of
        finally:
            self.model._eval_data_handler = (
                None  # Keras keeps it of a training that failed, for the next one's validation
            )
        if best is not None:
            best.settle()
        for metric in self.model.metrics:  # what a phase never measures would stand there as zero
            if hasattr(metric, "count") and not float(metric.count):
                history.history.pop(metric.name, None)
        self.histories[phase.name] = history
        return history

    def enter(self, phase: Phase, initial_epoch: int = 0, steps: int = 1) -> None:
        """Have the next training step be one of a phase, whose passes have so many steps."""
        self.phase, self.program = phase.name, phase.program
        turns = self.turns(phase)
        self._passes[phase.program].assign([turns.get(name, 0) for name in self._tasks_of(phase.program)])
        self._phase_start.assign(int(self.clock) - initial_epoch * phase.passes_per_epoch * steps)

    def _resumed(self, phase: Phase, initial_epoch: int) -> Phase:
        """Reset the best epochs of a phase, or continue with them; a phase that had ended gets no more epochs."""
        best = self.best.get(phase.name)
        self.active.assign(tf.ones(self.active.shape))
        if best is None:
            return phase
        if not initial_epoch:
            best.reset()
            return phase
        best.unsettle()
        best.stop_members(initial_epoch - 1)
        return phase if self.active.numpy().any() else dataclasses.replace(phase, epochs=initial_epoch)

    # -- what is kept ----------------------------------------------------------------------------

    def remembered(self, what: str, make: Callable[[], Any]) -> Any:
        """Return what `make` gave when this was first asked for, outside of what Keras tracks."""
        if what not in self._remembered:
            self._remembered[what] = make()
        return self._remembered[what]

    def forget(self, what: str) -> None:
        """Have something `remembered` made anew."""
        self._remembered.pop(what, None)

    def best_epochs(self) -> dict[str, dict[str, object]]:
        """Return for every phase with a best epoch its term, and each member's epoch (from 0; None: none) and value."""
        return {
            phase: {
                "quantity": best.rule.monitor,
                "best": best.rule.mode,
                "epoch": [int(epoch) if epoch >= 0 else None for epoch in np.ravel(best.epoch)],
                "value": [float(v) if e >= 0 else None for v, e in zip(np.ravel(best.value), np.ravel(best.epoch))],
            }
            for phase, best in self.best.items()
        }

    def state(self) -> dict[str, Sequence[tf.Variable]]:
        """Return the variables of the training that a checkpoint needs, by what they are for."""
        return {
            "training": [self.clock, self.main_epochs],
            **{f"best_{phase}": best.variables for phase, best in self.best.items()},
            **{f"optimizer{i}": optimizer.variables for i, optimizer in enumerate(self.model.optimizers)},
        }

    def release(self) -> None:
        """Let go of compiled programs, histories, events and shared batches."""
        self.data = None
        for kept in (self._programs, self.histories, self._remembered):
            kept.clear()
        self._compiled_with, self.batch_provider = None, None


def _tell_phase(phase: Phase, all_phases: Sequence[Phase]) -> None:
    """Say above Keras' progress bars which phase they are of, if there are several."""
    if len(all_phases) > 1:
        place = [one.name for one in all_phases].index(phase.name) + 1
        sys.stdout.write(f"Phase {place} of {len(all_phases)}: {phase.name}\n")
        sys.stdout.flush()


def _checked_callbacks(given: object) -> list[Any]:
    """Return the callbacks that are given: one, several, or None.

    Raises `InputError` for what is no callback of Keras 2, which would fail far from its cause.
    """
    callbacks = [] if given is None else list(given) if isinstance(given, Iterable) else [given]
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.Callback):
            continue
        kind = type(callback)
        found = f"callbacks: {kind.__module__}.{kind.__qualname__}"
        if any(base.__module__.partition(".")[0] == "keras" for base in kind.__mro__):
            raise InputError(
                f"{found} is of Keras 3, and these models are of Keras 2; write `from zoo.keras import keras`, and take "
                f"`keras.callbacks.{kind.__name__}`"
            )
        raise InputError(
            f"{found} is no callback; expected an object of a subclass of `zoo.keras.keras.callbacks.Callback`"
        )
    return callbacks


def _counter(name: str, value: int = 0) -> tf.Variable:
    # int64: TensorFlow keeps int32 variables on the CPU, where a program compiled for the GPU cannot reach them
    return tf.Variable(value, dtype=tf.int64, trainable=False, name=name)
