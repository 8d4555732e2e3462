"""Detector: what every model of the zoo has, whatever data it learns from."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import tensorflow as tf

from pipelines.errors import InputError
from zoo import legacy
from zoo.ensemble import MemberMean, RuntimeValues, leading, memberwise, parts_of
from zoo.hyperparameters import Hyperparameters, Limit
from zoo.keras import keras
from zoo.keras.refusals import KerasHabits
from zoo.layers.dense import glorot_uniform
from zoo.training import LONGEST_EXECUTION, Phase, Task, Terms, Trainer


class Detector(legacy.DeprecatedNames, KerasHabits, keras.Model):
    """A Keras model with declared hyperparameters, a training recipe, and scores.

    Models of events are subclasses of `zoo.AnomalyModel`, which says what they state; `zoo.models.ddp` has the one model
    of spectra. `data_kind` says which of the two a model is.

    A training step lowers a term of `losses` by the weights of a task (see `zoo.training.Task`). The `trainer` knows
    which task it is; it owns everything that has to do with training and that Keras need not know of.
    """

    Hyperparameters: ClassVar[Any] = Hyperparameters  # a subclass of it
    hp: Any

    zoo_name: ClassVar[str] = ""
    data_kind: ClassVar[str] = ""  # "events" or "spectra": what a model learns from and scores
    takes: ClassVar[str] = ""
    figures: ClassVar[tuple[str, ...]] = ()  # see `zoo.evaluation.figures.draw`
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    score_kinds: tuple[str, ...] = ()  # the first is the default; a model may have fewer, before it is trained
    # score kinds whose direction the method does not give: look at both tails
    undirected: ClassVar[tuple[str, ...]] = ()
    # groups of `own_state` that files of earlier versions lack: they are zeros then
    newer_state: ClassVar[tuple[str, ...]] = ()
    # False of a classifier, which says nothing of events that are unlike all that it was trained on
    outliers_score_high: ClassVar[bool] = True
    yardstick: ClassVar[str] = ""  # text for every run and report of a model that uses the truth
    stochastic: ClassVar[bool] = False  # whether validation draws random numbers
    seedless: ClassVar[bool] = False  # whether nothing is drawn at random, so that the seed changes no score
    validated_by: ClassVar[str] = "loss"  # the term of training that `val_loss` has the meaning of
    # whether validation is compiled too: of a small network it takes longer to compile than to run, epoch after epoch
    validated_by_xla: ClassVar[bool] = False
    # whether losses take batches whose size TensorFlow is not told, so that one traced step does for all sizes
    any_batch_size: ClassVar[bool] = False
    # whether a search on a CPU has XLA compile its trials, or from how many training events on: of short trials of many
    # architectures that takes longer than it saves
    searched_by_xla: ClassVar[bool | int] = True
    # whether the learning rate falls over the hyperparameter `epochs`: a search makes that the epochs of its longest trials
    learning_rate_falls: ClassVar[bool] = False
    longest_execution: ClassVar[int] = LONGEST_EXECUTION  # steps between two calls of a callback, at most

    # which follow from the declared hyperparameters
    limits: ClassVar[Mapping[str, Limit]] = {}
    runtime_hyperparameters: ClassVar[tuple[str, ...]] = ()
    shared: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        legacy.declare_by_signature(cls)
        declared = cls.Hyperparameters
        if not dataclasses.is_dataclass(declared) or "__dataclass_params__" not in vars(declared):
            raise TypeError(
                f"{cls.__qualname__}.Hyperparameters is no dataclass; write "
                f"@dataclasses.dataclass(frozen=True, kw_only=True) above it"
            )
        cls.limits, cls.runtime_hyperparameters = declared.limits(), declared.runtime()
        cls.shared, cls.dials = declared.shared(), cls.runtime_hyperparameters
        cls.__doc__ = _with_table(vars(cls).get("__doc__"), declared)

    def __init__(self, given: Mapping[str, object] | None = None, /, **hyperparameters: object):
        super().__init__()
        hyperparameters = legacy.from_locals(given) if given is not None else hyperparameters
        self.hp = self.Hyperparameters.of(hyperparameters, self.zoo_name or type(self).__name__)
        self.members: int = getattr(self.hp, "members", 1)
        self.member_shape = leading(self.members)
        self.runtime = RuntimeValues(self.hp, self.members)
        self.trainer = Trainer(self)
        self.means: dict[str, MemberMean] = {}

    # -- hyperparameters -------------------------------------------------------------------------

    @classmethod
    def check(cls, hyperparameters: Mapping[str, object]) -> None:
        """Raise `InputError` naming the first of some hyperparameters that is not possible."""
        cls.Hyperparameters.of(hyperparameters, cls.zoo_name or cls.__name__)

    def hyperparameter(self, name: str):
        """Return the value of one hyperparameter by its name; `model.hp.NAME` where the name is known."""
        return getattr(self.hp, name)

    def get_config(self) -> dict[str, object]:
        """Return the hyperparameters; `type(model)(**model.get_config())` is the same model, untrained."""
        return self.hp.as_dict()

    @classmethod
    def from_config(cls, config):
        """Return an untrained model with these hyperparameters."""
        return cls(**config)

    @classmethod
    def search_space(cls, hp) -> dict[str, object]:
        """Return hyperparameters drawn from the KerasTuner object `hp`."""
        raise NotImplementedError(f"{cls.__name__} has no search space")

    @classmethod
    def search_space_of(cls, features: int, fixed: Mapping[str, object]) -> Mapping[str, object]:
        """Return what is different of the search space here, as in a file for `tune --space`.

        Args:
            features: how many the events have. fixed: the hyperparameters that are not searched.
        """
        return {}

    @property
    def seeds(self) -> tf.Tensor:
        """The seed of every member, () or (K,)."""
        seed = self.trainer.seed
        return seed + tf.range(self.members, dtype=tf.int64) if self.member_shape else tf.convert_to_tensor(seed)

    # -- the kind of data ------------------------------------------------------------------------

    @classmethod
    def require(cls, data_kind: str, where: object) -> None:
        """Raise `InputError` naming `where`, a run or a model, unless this model scores "events", or "spectra"."""
        if data_kind != cls.data_kind:
            raise InputError(f"{where}: {cls.zoo_name} takes {cls.data_kind}, not {data_kind}")

    def training_data(self, events, validation: float = 0.0, seed: int = 0) -> tuple:
        """Return what to train on, and what to validate with or None; `events` may be None."""
        raise NotImplementedError

    def check_enough(self, data) -> None:
        """Raise `InputError` if there is not enough to train on."""

    def survey(self, data, checksum: bool = False):
        """Return the data as they are trained on; events remember what one pass over them found."""
        return data

    def provenance(self, data) -> dict[str, object]:
        """Return what identifies the training data in the configuration of a run."""
        raise NotImplementedError

    def amount_trained(self, data) -> tuple[int, str]:
        """Return how many, and what, the model was trained on, as (1500, "events")."""
        raise NotImplementedError

    def build_from_config(self) -> None:
        """Create all variables from the hyperparameters of a trained model, which name what it takes."""
        raise NotImplementedError

    def serving_text(self) -> str:
        """Return what the exported `serving_default` takes and gives, for people."""
        raise NotImplementedError

    # -- what a model states ---------------------------------------------------------------------

    def recipe(self) -> tuple[Phase, ...]:
        """Return the phases of training, in order: by default one of the hyperparameter `epochs`."""
        return (Phase("training", self.hp.epochs),)

    def tasks(self) -> dict[str, Task]:
        """Return what training steps do, by name: by default Adam lowers the "loss" by all weights."""
        if type(self).losses is Detector.losses:
            return {}  # the model has a `train_step` of its own
        optimizer = self.make_optimizer(keras.optimizers.Adam, self.trainable_variables)
        return {"training": Task(self.losses, optimizer, self.trainable_variables)}

    def losses(self, batch: Mapping[str, tf.Tensor], seed: tf.Tensor, training: bool) -> Terms:
        """Return the terms of the loss of a batch, "loss" among them, in the network's units.

        Args:
            batch: `features` (B, F), or `objects` (B, P, C) and `mask` (B, P); `mass` (B,), `weight` (B,).
            seed: of the random numbers of this step, () or (K,).
            training: False while validating.

        Returns:
            Terms, each per member, () or (K,), or per member and event, (B,) or (K, B).
        """
        raise NotImplementedError

    def validation_losses(self, batch: Mapping[str, tf.Tensor], seed: tf.Tensor) -> Terms:
        """Return the terms that validation records: by default those of all tasks of the main phase."""
        terms: Terms = {}
        for task in self.trainer.main_tasks:
            terms |= task.losses(batch, seed, False)
        return terms

    def prepare(self) -> None:
        """Do what fresh weights and new runtime hyperparameters ask for; learning rates are set already."""

    def on_state_loaded(self) -> None:
        """Do what has to be done after all variables were read from a file."""

    def on_phase_begin(self, phase: Phase) -> None:
        """Do what has to be done before a phase is trained from its first epoch."""
        self.call_renamed("begin", phase)

    def on_phase_end(self, phase: Phase, data) -> None:
        """Do what has to be done with the training data after a phase."""
        self.call_renamed("learned", phase, data)

    def weighting(self, data):
        """Return a function from masses to weights of events that multiply their own, or None."""
        return

    def batches(self, data, weighting, smaller: bool = False, **room):
        """Return a `zoo.training.BatchSource` of data; with `smaller`, of what is for validation."""
        raise NotImplementedError

    # -- weights ---------------------------------------------------------------------------------

    @property
    def has_met_data(self) -> bool:
        """Whether it is known what the model takes, and its weights are there."""
        return self.built

    def make_optimizer(
        self, optimizer: type[keras.optimizers.Optimizer], weights, learning_rate: str = "learning_rate", **options
    ) -> keras.optimizers.Optimizer:
        """Return an optimizer of these weights.

        Args:
            optimizer: a Keras class.
            weights: variables that it will change.
            learning_rate: name of the hyperparameter that is its learning rate; each member may have its own.
            options: of the class.
        """
        share = tf.Variable(tf.ones(self.member_shape), trainable=False)
        made = memberwise(optimizer)(1.0, shares=(share, self.trainer.active), **options)
        made.build(list(weights))
        self.trainer.add_rate(made, share, learning_rate)
        return made

    @property
    def optimizers(self) -> tuple[keras.optimizers.Optimizer, ...]:
        """The optimizers of all tasks; Keras' learning-rate callbacks act on the first."""
        each = (one for task in self.trainer.tasks.values() for one in parts_of(task.optimizer))
        return tuple({id(one): one for one in each}.values())

    def reset(self, seed: int | None = None, **runtime: float | Sequence[float]) -> None:
        """Start over: fresh weights from `seed`, optimizers at rest, runtime hyperparameters set. Compiles nothing anew.

        Raises `InputError` for a name that is no runtime hyperparameter of this model, or a value out of range.
        """
        if unknown := sorted(set(runtime) - set(self.runtime_hyperparameters)):
            raise InputError(
                f"{unknown[0]!r} is no runtime hyperparameter of {type(self).__name__}; these are "
                f"{', '.join(self.runtime_hyperparameters) or 'none'}"
            )
        self.hp = self.hp.replaced(**runtime, **({} if seed is None else {"seed": seed}))
        self.runtime.assign(self.hp)
        self.reinitialize(self.trainable_variables, self.optimizers)
        self.trainer.restart()
        self.prepare()

    def reinitialize(self, weights: Sequence[tf.Variable], optimizers: Sequence[keras.optimizers.Optimizer]) -> None:
        """Give trainable weights their initial values of this seed, and bring optimizers to rest."""
        place = {id(weight): index for index, weight in enumerate(self.trainable_variables)}
        special = [layer for layer in self.submodules if hasattr(layer, "initial")]
        owner = {id(weight): layer for layer in special for weight in layer.trainable_weights}
        for weight in weights:
            shape, layer = tuple(weight.shape[len(self.member_shape) :]), owner.get(id(weight))
            seeds = [(self.hp.seed + member, place[id(weight)]) for member in range(self.members)]
            values = [self.initial(shape, seed) if layer is None else layer.initial(weight, seed) for seed in seeds]
            weight.assign(tf.stack(values) if self.member_shape else values[0])
        for optimizer in optimizers:
            rate = optimizer.learning_rate
            for variable in optimizer.variables:
                if variable is not rate:  # by the operation itself: a search starts hundreds of models over
                    zeros = tf.zeros(variable.shape, variable.dtype)
                    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=zeros)

    def initial(self, shape: tuple[int, ...], seed: tuple[int, int]) -> tf.Tensor:
        """Return the initial value of a trainable weight of one member: Glorot uniform for kernels, zeros for biases.

        A layer whose weights start otherwise has a method `initial(weight, seed)` of its own, such as
        `zoo.layers.flows.FlowLayer.initial`.
        """
        return glorot_uniform(shape, seed) if len(shape) >= 2 else tf.zeros(shape)

    def state(self) -> dict[str, tf.Variable]:
        """Return every variable that a checkpoint keeps, by a name that depends on the model's structure only."""
        if self.has_met_data:  # it has no others later, and a search asks for them at every epoch
            return self.trainer.remembered("state", self._state)
        return self._state()

    def _state(self) -> dict[str, tf.Variable]:
        groups = {**self.own_state(), **self.trainer.state()}
        return {f"{group}/{i:03d}": variable for group, members in groups.items() for i, variable in enumerate(members)}

    def own_state(self) -> dict[str, Sequence[tf.Variable]]:
        """Return the variables of the model itself by their purpose, without those of metrics."""
        passing = {id(variable) for metric in self.metrics for variable in metric.variables}
        fixed = [variable for variable in self.non_trainable_variables if id(variable) not in passing]
        return {"trainable": self.trainable_variables, "fixed": fixed}

    def release(self) -> None:
        """Drop compiled programs and events, which frees the memory of a model that is no longer needed."""
        self.train_function = self.test_function = self.predict_function = self.train_tf_function = None
        self.trainer.release()

    # -- steps -----------------------------------------------------------------------------------

    def create_metrics(self, *names: str) -> None:
        """Say which terms of the losses are recorded while training and validating; others are not."""
        self.means = {name: MemberMean(name, self.members) for name in names}

    def update_metrics(self, **terms: tf.Tensor) -> Terms:
        """Record terms, per member or per member and event; returns the means over members, which Keras shows."""
        for name, value in terms.items():
            if name in self.means:
                self.means[name].update_state(value)
        return {name: mean.result() for name, mean in self.means.items() if name in terms or not terms}

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch):
        """Do one step of the task whose turn it is; returns the terms to show."""
        tasks, seed = self.trainer.present_tasks, self.trainer.step_seeds()
        if len(tasks) == 1:
            shown = self._learn(tasks[0], batch, seed)
        else:
            steps = [functools.partial(self._learn_quietly, task, batch, seed) for task in tasks]
            tf.switch_case(self.trainer.turn(), steps)
            shown = self.update_metrics()
        self.trainer.clock.assign_add(1)
        return shown

    def _learn(self, task: Task, batch, seed) -> Terms:
        """Change the weights of a task by the gradient of its loss, summed over members, and record its terms."""
        with tf.GradientTape() as tape:
            terms = task.losses(batch, seed, True)
            loss = terms[task.minimise]
            per_event = loss.shape.rank > len(self.member_shape)
            total = tf.reduce_sum(tf.reduce_mean(loss, -1) if per_event else loss)
        task.optimizer.apply_gradients(zip(tape.gradient(total, task.weights), task.weights))
        return self.update_metrics(**terms)

    def _learn_quietly(self, task: Task, batch, seed) -> None:
        self._learn(task, batch, seed)

    @tf.autograph.experimental.do_not_convert
    def test_step(self, batch):
        """Record the terms of a batch, with the same random numbers at every epoch and batch."""
        return self.update_metrics(**self.validation_losses(batch, self.seeds))

    def make_train_function(self, force: bool = False):
        """Return Keras' function of many training steps, that of the program which is trained now."""
        return self.trainer.train_function(lambda: self._loop("train_step", self.jit_compile, count=True))

    def make_test_function(self, force: bool = False):
        """Return Keras' function of many validation steps, by XLA only if the model asks for it (`validated_by_xla`)."""
        if self.test_function is None or force:
            made: Any = self._loop("test_step", self.jit_compile and self.validated_by_xla)
            self.test_function = made
        return self.test_function

    def _loop(self, name: str, jit_compile: bool, count: bool = False) -> Callable:
        """Return a function of as many steps as an execution has.

        The step is a function of its own, as Keras traces whatever else is in such a loop twice.
        """
        step = functools.partial(getattr(type(self), name), self)
        step = tf.function(step, autograph=False, jit_compile=jit_compile or None)

        def run(iterator):
            for _ in tf.range(self._steps_per_execution):
                logs = step(next(iterator))
                if count:
                    self._train_counter.assign_add(1)
            return logs

        # Of every batch size its own: shapes are static. TensorFlow counts what is traced again by a function's code, over all
        # models, and warns after five; a partial is counted by itself.
        return tf.function(functools.partial(run))

    def _validate_and_get_metrics_result(self, logs):
        return logs  # what the last step returned: Keras would work out every metric again, at every epoch

    # -- training, as the trainer does it ----------------------------------------------------------

    @property
    def main_phase(self) -> int:
        """The place in the recipe of the phase that callbacks, checkpoints and the tuner count."""
        return self.trainer.main_phase

    @property
    def epochs(self) -> int:
        """Keras epochs of the main phase."""
        return self.recipe()[self.main_phase].epochs

    @property
    def histories(self) -> dict[str, keras.callbacks.History]:
        """Keras' history of every phase of the last training, by its name."""
        return self.trainer.histories

    @property
    def member_rows(self) -> list[dict[str, object]]:
        """What each of several members did in every epoch of the last training."""
        return self.trainer.member_rows

    @member_rows.setter
    def member_rows(self, rows) -> None:
        self.trainer.member_rows = list(rows)

    @property
    def best(self) -> dict:
        """The best epochs of the phases where one is sought, by the phases' names."""
        return self.trainer.best

    def best_epochs(self) -> dict[str, dict[str, object]]:
        """Return for every phase with a best epoch its term, and each member's epoch (from 0; None: none) and value."""
        return self.trainer.best_epochs()

    def serving(self, cuts=None):
        """Return what is exported of this model (`zoo.serving.Serving`); raises `InputError` if it is not trained."""
        raise NotImplementedError


def _with_table(text: str | None, declared: type[Hyperparameters]) -> str | None:
    """Put the table of hyperparameters into a docstring, before what it says of errors and examples."""
    if text is None or "\n    Args:" in text:
        return text
    indented = "\n".join(f"    {line}".rstrip() for line in declared.table().splitlines())
    for heading in ("\n    Raises", "\n    Example:"):
        if heading in text:
            before, _, after = text.partition(heading)
            return f"{before.rstrip()}\n\n{indented}\n{heading}{after}"
    return f"{text.rstrip()}\n\n{indented}\n    "
