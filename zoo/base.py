"""AnomalyModel: the one contract that every model of the zoo keeps."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import os
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import tensorflow as tf

from pipelines import provenance
from pipelines.errors import InputError
from pipelines.events.batches import Batches, check_enough
from pipelines.events.events import Events
from zoo.ensemble import BestEpoch, MemberHistory, MemberMean, before, leading, memberwise
from zoo.inputs import TAKES, Inputs, resolve
from zoo.keras import keras
from zoo.layers import dense as layers
from zoo.layers import scalers


@dataclasses.dataclass(frozen=True)
class Watch:
    """What the epochs of a phase are compared by, member by member.

    `quantity` is a training term whose largest ("max") or smallest ("min") epoch is the best; one is better than another
    by more than the share `tolerance` of it. With `keep` the weights of that epoch are what remains of the phase. A member
    without a better epoch for `patience` epochs stops learning; with None all go on to the end.
    """

    quantity: str
    best: str = "min"
    keep: bool = False
    patience: int | None = None
    tolerance: float = 0.0


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stage of a model's training recipe: `epochs` Keras epochs of `passes` passes through the events each.

    The `main` phase, if none is so called the last, is the one that callbacks, checkpoints and the tuner count.
    Phases of one `program` share a compiled training step, which looks at `model.phase`; each program is traced once, with
    its name as `model.program`.
    """

    name: str
    epochs: int
    passes: int = 1
    main: bool = False
    program: str = ""
    watch: Watch | None = None


class AnomalyModel(keras.Model):
    """A detector that learns what ordinary events look like and gives every event an anomaly score.

    A model is one file in `zoo/models`: a subclass of this, registered with `zoo.register`, that states

    - its hyperparameters, as keywords of the constructor in the paper's own symbols, among them `columns`, `scaling`,
      `batch_size`, `members` and `seed`, handed on by `super().__init__(locals())`. `get_config` returns them.
      Those named in `dials` live in variables: changing them changes no shape and compiles nothing anew, and but for
      the `shared` ones every member may have its own;
    - `limits`, the values they may take, `presets`, `score_kinds` (the first is the default);
    - `make(width)`: create the layers for `width` features, the `optimizers` (by `descent`; the first of them is the
      one that Keras' learning-rate callbacks act on) and the terms that it records (by `measure`); `prepare()`: what
      new weights and dials ask for; `initial(shape, seed)`, where kernels and biases are not all there is;
    - `recipe()`: the phases of training, `begin(phase)` and `learned(phase, events)`: what is done before and after one,
      and `weighting(events)`;
      `train_step(batch)` and `test_step(batch)` in the network's units, which look at `self.phase` or `self.program` to
      know where they are, so that a change of phase never retraces. A training step ends with
      `self.clock.assign_add(1)`;
    - `takes`: "features", the default, or "objects": particles (B, P, C), and features beside them if there are `columns`.
      Then `object_columns` and `slots` are hyperparameters too, and `self.inputs` says in `make` what was found;
    - `infer(features)`, or `infer(objects, features=None)`: from physical units to a dict with every score kind, and `reconstructed`
      and `latent` if the model has them;
    - `search_space(hp)`: its KerasTuner space.

    With `members` K > 1 all weights have a leading axis of K, so has what is computed from them, and layers and losses
    look at their last axes only (see `zoo.ensemble`). A member of seed s is what a plain model of that seed is; the
    members of a group have the seeds s, s + 1, ..., and the order of events of the first. `score` is their mean.

    Everything outside the model is in physical units: the input scaling is fitted by `adapt` and lives in the
    model. No label is ever read, and the mass is used for training weights and decorrelation only.

    Example:
        >>> import pipelines, zoo
        >>> model = zoo.get("gan_ae", ae_units=16, d_units=(16,), batch_size=1024, cycles=1, pretraining_epochs=1)
        >>> history = model.fit(pipelines.open("lhco_sim_train"), verbose=0)
        >>> model.score(pipelines.open("lhco_sim_test")).shape
        (6000,)
    """

    data_kind: ClassVar[str] = "events"  # or "spectra": what a model learns from and scores
    takes: ClassVar[str] = "features"
    figures: ClassVar[tuple[str, ...]] = ("errors", "observables", "roc", "scan")  # see `zoo.figures.draw`
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    score_kinds: ClassVar[tuple[str, ...]] = ()
    dials: ClassVar[tuple[str, ...]] = ()
    shared: ClassVar[tuple[str, ...]] = ()
    # score kinds whose direction the method does not give: look at both tails
    undirected: ClassVar[tuple[str, ...]] = ()
    stochastic: ClassVar[bool] = False  # whether validation draws random numbers
    # whether validation is compiled too: of a small network it takes longer to compile than to run, epoch after epoch
    validated_by_xla: ClassVar[bool] = False
    limits: ClassVar[Mapping[str, Limit]] = {}

    def __init__(self, hyperparameters: Mapping[str, object]):
        """Take the constructor's `locals()`: what is written there are the hyperparameters, and nothing else is."""
        super().__init__()
        given = {k: v for k, v in hyperparameters.items() if k not in ("self", "__class__")}
        needed = (*TAKES[self.takes], "scaling", "batch_size", "members", "seed")
        missing = [name for name in needed if name not in given]
        if missing:
            raise InputError(f"{type(self).__name__} has no hyperparameter {missing[0]!r}; every model needs it")
        self.check(given)
        self._hyperparameters = tuple(given.items())  # pairs: Keras would wrap a dict and track it
        self.members: int = given["members"]
        self.lead = leading(self.members)
        self.member_rows: list[dict[str, object]] = []
        object.__setattr__(self, "histories", {})  # past Keras, which would track the dict as part of the model
        self.inputs = Inputs()  # nothing, before it meets the data
        self.scaler = scalers.make(given["scaling"])
        self.dial = {name: tf.Variable(self._dialled(name), trainable=False, name=name) for name in self.dials}
        self.active = tf.Variable(tf.ones(self.lead), trainable=False, name="active")  # 0: this member has stopped
        self.best: dict[str, BestEpoch] = {}
        self.means: dict[str, MemberMean] = {}
        self.program = ""
        self.phase = _counter("phase", 0)
        self.clock = _counter("clock", 0)  # training steps done: seeds the dropout
        self.seed = _counter("seed", given["seed"])
        self.main_epochs = _counter("main_epochs", 0)  # what the main phase was trained for
        self.phase_start = _counter("phase_start", 0)  # clock at the start of the phase
        self.steps_per_pass = _counter("steps_per_pass", 1)

    # -- hyperparameters -------------------------------------------------------------------------

    @classmethod
    def check(cls, hyperparameters: Mapping[str, object]) -> None:
        """Raise `InputError` naming the first hyperparameter that is outside its `limits`."""
        for name in TAKES[cls.takes][:2]:
            names, may_be_empty = hyperparameters.get(name, ("*",)), cls.takes == "objects"
            if not isinstance(names, (list, tuple)) or not (names or may_be_empty) or not all(map(_is_text, names)):
                raise InputError(f"{name}={names!r} is not possible; expected a list of names or patterns")
        COUNT.check("members", hyperparameters.get("members", 1))
        Limit(0, 2**31 - 1, whole=True).check("seed", hyperparameters.get("seed", 0))
        for name, limit in cls.limits.items():
            if name in hyperparameters:
                limit.check(name, hyperparameters[name])
        for name in cls.dials:
            value, members = hyperparameters.get(name), hyperparameters.get("members", 1)
            if isinstance(value, (list, tuple)) and (name in cls.shared or members == 1 or len(value) != members):
                each = f"one value, or {members}, one for each member" if members > 1 else "one value"
                expected = "one for all members" if name in cls.shared and members > 1 else each
                raise InputError(f"{name}={value!r} is not possible; expected {expected}")

    def hyperparameter(self, name: str):
        """Return the value of one hyperparameter."""
        return dict(self._hyperparameters)[name]

    def get_config(self) -> dict[str, object]:
        """Return the hyperparameters; `type(model)(**model.get_config())` is the same model, untrained."""
        met = {name: getattr(self.inputs, name) for name in TAKES[self.takes]} if self.has_met_data else {}
        return dict(self._hyperparameters) | met

    @classmethod
    def from_config(cls, config):
        """Return an untrained model with these hyperparameters."""
        return cls(**config)

    @classmethod
    def search_space(cls, hp) -> dict[str, object]:
        """Return hyperparameters drawn from the KerasTuner object `hp`."""
        raise NotImplementedError

    def _dialled(self, name: str) -> np.ndarray:
        """The value of a dial as its variable holds it: of every member, () or (K,), or of all."""
        value = np.asarray(self.hyperparameter(name), np.float32)
        return value if name in self.shared else np.broadcast_to(value, self.lead)

    def value(self, name: str, axes: int = 0) -> tf.Tensor:
        """Return a dial with so many axes behind that of the members, to multiply with (B,), (B, F) and so on."""
        return before(self.dial[name], axes)

    @property
    def resolved_columns(self) -> tuple[str, ...]:
        """Names of the features, in their order; none before the model has met the data, or if it takes none."""
        return self.inputs.columns

    @property
    def has_met_data(self) -> bool:
        """Whether it is known what the model takes, and its weights are there."""
        return self.built

    @property
    def seeds(self) -> tf.Tensor:
        """The seed of every member, () or (K,)."""
        return self.seed + tf.range(self.members, dtype=tf.int64) if self.lead else tf.convert_to_tensor(self.seed)

    @property
    def main_phase(self) -> int:
        """The place in the recipe of the phase that callbacks, checkpoints and the tuner count."""
        phases = self.recipe()
        return next((place for place, phase in enumerate(phases) if phase.main), len(phases) - 1)

    @property
    def epochs(self) -> int:
        """Keras epochs of the main phase."""
        return self.recipe()[self.main_phase].epochs

    def reset(self, seed: int | None = None, **dials: float | Sequence[float]) -> None:
        """Start over: fresh weights from `seed`, optimizers at rest, dials set. Compiles nothing anew.

        Raises `InputError` for a name that is not a dial of this model, or a value out of range.
        """
        unknown = sorted(set(dials) - set(self.dials))
        if unknown:
            raise InputError(
                f"{unknown[0]!r} is not a dial of {type(self).__name__}; dials are {', '.join(self.dials)}"
            )
        self.check({**dials, "members": self.members})
        config = dict(self._hyperparameters) | dials | ({} if seed is None else {"seed": seed})
        self._hyperparameters = tuple(config.items())
        for name, variable in self.dial.items():
            variable.assign(self._dialled(name))
        self.seed.assign(config["seed"])
        self.clock.assign(0)
        self.member_rows = []
        self.begin_anew(self.trainable_variables, self.optimizers)
        for best in self.best.values():
            best.reset()
        self.active.assign(tf.ones(self.lead))
        self.prepare()

    def begin_anew(self, weights: Sequence[tf.Variable], optimizers: Sequence[keras.optimizers.Optimizer]) -> None:
        """Give trainable weights their initial values of this seed, and bring optimizers to rest."""
        place = {id(weight): index for index, weight in enumerate(self.trainable_variables)}
        special = [layer for layer in self.submodules if hasattr(layer, "initial")]
        owner = {id(weight): layer for layer in special for weight in layer.trainable_weights}
        for weight in weights:
            shape, layer = tuple(weight.shape[len(self.lead) :]), owner.get(id(weight))
            seeds = [(self.hyperparameter("seed") + member, place[id(weight)]) for member in range(self.members)]
            values = [self.initial(shape, seed) if layer is None else layer.initial(weight, seed) for seed in seeds]
            weight.assign(tf.stack(values) if self.lead else values[0])
        for optimizer in optimizers:
            rate = optimizer.learning_rate
            for variable in optimizer.variables:
                if variable is not rate:  # by the operation itself: a search starts hundreds of models over
                    zeros = tf.zeros(variable.shape, variable.dtype)
                    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=zeros)

    def initial(self, shape: tuple[int, ...], seed: tuple[int, int]) -> tf.Tensor:
        """Return the initial value of a trainable weight of one member: Glorot uniform for kernels, zeros for biases.

        A layer whose weights start otherwise says so by a method `initial(weight, seed)` of its own, such as
        `zoo.layers.flows.FlowLayer.initial`.
        """
        return layers.glorot_uniform(shape, seed) if len(shape) >= 2 else tf.zeros(shape)

    def descent(self, optimizer: type[keras.optimizers.Optimizer], variables, **options) -> keras.optimizers.Optimizer:
        """Return an optimizer of these variables whose rate `set_rate` sets, one for each member if need be."""
        share = tf.Variable(tf.ones(self.lead), trainable=False)
        made = memberwise(optimizer)(1.0, shares=(share, self.active), **options)
        made.share = share
        made.build(variables)
        return made

    def set_rate(self, optimizer: keras.optimizers.Optimizer, name: str) -> None:
        """Give an optimizer the learning rate that a hyperparameter has: one number, or one for each member."""
        rates = np.broadcast_to(np.asarray(self.hyperparameter(name), np.float32), self.lead)
        optimizer.learning_rate = rates.flat[0]
        optimizer.share.assign(rates / rates.flat[0])

    def measure(self, *names: str) -> None:
        """Say which terms are recorded while training and validating."""
        self.means = {name: MemberMean(name, self.members) for name in names}

    def record(self, **terms: tf.Tensor) -> dict[str, tf.Tensor]:
        """Add terms, per member or per member and event; returns what Keras is to show, the means over members."""
        for name, value in terms.items():
            self.means[name].update_state(value)
        return {name: self.means[name].result() for name in terms or self.means}

    @property
    def optimizers(self) -> tuple[keras.optimizers.Optimizer, ...]:
        """The optimizers that training uses."""
        return ()

    def prepare(self) -> None:
        """Do what fresh weights and new dials ask for, such as setting learning rates."""

    # -- the kind of data ------------------------------------------------------------------------

    @classmethod
    def require(cls, data_kind: str, where: object) -> None:
        """Raise `InputError` naming `where`, a run or a model, unless this model scores "events", or "spectra"."""
        if data_kind != cls.data_kind:
            raise InputError(
                f"{where}: {cls.zoo_name} takes events, not histograms; train one that does, as `zoo train ddp`"
            )

    def training_data(self, events: Events | None, validation: float = 0.0, seed: int = 0) -> tuple:
        """Return what to train on, and what to validate with or None: a share `validation` of the events.

        Raises `InputError` if there are no events.
        """
        if events is None:
            raise InputError(f"{self.zoo_name} is trained on events: give --data, an events file or a sample's name")
        return events.split(1.0 - validation, seed) if validation else (events, None)

    def check_enough(self, events: Events) -> None:
        """Raise `InputError` if there are fewer events than one batch."""
        check_enough(events, self.hyperparameter("batch_size"))

    def provenance(self, events: Events) -> dict[str, object]:
        """Return what identifies the training data in the configuration of a run: source, size, checksum."""
        return provenance.data(events)

    def amount_trained(self, events: Events) -> tuple[int, str]:
        """Return how many, and what, the model was trained on, as (1500, "events")."""
        return len(events), "events"

    def build_from_config(self) -> None:
        """Create all variables from the hyperparameters of a trained model, which name what it takes."""
        self.build_for(**{name: self.hyperparameter(name) for name in TAKES[self.takes]})

    def serving_text(self) -> str:
        """Return what the exported `serving_default` takes and gives, for people."""
        arrays = (f"{name} (N, {', '.join(map(str, shape))})" for name, shape in self.inputs.shapes.items())
        return f"takes {' and '.join(arrays)} in physical units and gives score"

    # -- meeting the data ------------------------------------------------------------------------

    def adapt(self, events: Events) -> None:
        """Resolve the columns by name, fit the input scaling, and create the weights.

        Raises `InputError` naming a missing column, or a column with NaN or infinite values.
        """
        inputs = resolve(events, **{name: self.hyperparameter(name) for name in TAKES[self.takes]})
        self.fit_scaling(events, inputs)
        self.build_for(**dataclasses.asdict(inputs))

    def fit_scaling(self, events: Events, inputs: Inputs) -> None:
        """Fit the scaling of features, in one pass; models that take objects fit theirs too."""
        if inputs.columns:
            self._refuse_the_mass(events, inputs.columns)
            if not self.scaler.built:
                self.scaler.build((None, len(inputs.columns)))
            blocks = (block["features"] for block in events.blocks("features", columns=inputs.columns))
            self.scaler.adapt(blocks, seed=self.hyperparameter("seed"))

    def _refuse_the_mass(self, events: Events, columns: Sequence[str]) -> None:
        if events.about.mass_column in columns:
            raise InputError(
                f"columns include {events.about.mass_column!r}, the mass that is searched for bumps: a score that "
                f"sees it shapes its spectrum; leave it out"
            )
        first = next(iter(events.blocks("features", "mass", columns=columns)), None)
        copies = [] if first is None else np.flatnonzero((first["features"] == first["mass"][:, None]).all(axis=0))
        if len(copies):
            raise InputError(f"column {columns[copies[0]]!r} is the mass that is searched for bumps; leave it out")

    def build_for(self, columns: Sequence[str], object_columns: Sequence[str] = (), slots: int = 0) -> None:
        """Create all variables for these columns and objects, without looking at any event."""
        if self.has_met_data:
            return
        self.inputs = Inputs(tuple(columns), tuple(object_columns), slots)
        if not self.scaler.built:
            self.scaler.build((None, len(columns)))
        self.make(len(columns))
        self.infer(*self.inputs.zeros(1))
        for phase in self.recipe():
            if phase.watch is not None:
                weights = list(self.watched_weights(phase))
                self.best[phase.name] = BestEpoch(phase.watch, self.members, self.active, weights)
        self.reset()
        self.built = True

    def make(self, width: int) -> None:
        """Create layers and optimizers for `width` features."""
        raise NotImplementedError

    def recipe(self) -> tuple[Phase, ...]:
        """Return the phases of training, in order."""
        raise NotImplementedError

    def watched_weights(self, phase: Phase) -> Sequence[tf.Variable]:
        """Return the weights whose values of the best epoch are kept of a phase: those that it trains."""
        return self.trainable_variables

    def begin(self, phase: Phase) -> None:
        """Do what has to be done before a phase is trained from its first epoch."""

    def learned(self, phase: Phase, events: Events) -> None:
        """Do what has to be done with the training events after a phase."""

    def weighting(self, events: Events):
        """Return a function from masses to training weights, or None to use the events' own weights."""
        return

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
        finish: bool = True,
    ) -> keras.callbacks.History:
        """Run the paper's whole recipe on events, without labels.

        Args:
            events: what to train on; labels, if there are any, are not read.
            validation: other events, whose losses are recorded as `val_...` after every epoch.
            epochs: Keras epochs of the main phase, by default the model's own number.
            initial_epoch: epoch of the main phase to go on from with the present weights; earlier phases are done. From a
                training with `finish=False`, or from a checkpoint of it, that gives what one training would give; later
                phases that have run in between shift the random numbers.
            callbacks: Keras callbacks, called in the main phase.
            verbose: Keras' progress bar: 0, 1, 2 or "auto".
            jit_compile: compile the training step with XLA.
            memory, cache: bytes of memory, and the folder, that may hold the events while training (see
                `pipelines.events.row_cache.keep`). The result does not depend on them.
            finish: train the phases after the main one too, and write down what the scores need to know of the training
                events; `finish()` does both later.

        Returns:
            The Keras history of the main phase; those of the others are in `model.histories`, by name. What each of
            several members did is in `model.member_rows`.

        Raises `InputError` for missing or non-finite columns and for fewer events than one batch.
        """
        return self._train(events, validation, "before", epochs, initial_epoch, callbacks, finish=finish, verbose=verbose,
                           jit_compile=jit_compile, memory=memory, cache=cache)  # fmt: skip

    def finish(self, events: Events, *, verbose=0, jit_compile: bool = True, memory=None, cache=None) -> None:
        """Do what `fit(finish=False)` has left: what scores need of the events, and the phases after the main one."""
        self._train(events, None, "after", verbose=verbose, jit_compile=jit_compile, memory=memory, cache=cache)

    def _train(self, events, validation, start, epochs=None, initial_epoch=0, callbacks=(), *, finish=True, verbose,
               jit_compile, memory, cache):  # fmt: skip
        if not self.has_met_data:
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
            object.__setattr__(self, "_programs", {})
        phases, main, passes_done, history = self.recipe(), self.main_phase, 0, None
        if start == "before":
            self.histories.clear()
            self.member_rows = self.member_rows if initial_epoch else []
        else:
            self.learned(phases[main], events)
        for place, phase in enumerate(phases):
            options = {"verbose": verbose}
            if place == main and start == "after":
                phase = dataclasses.replace(phase, epochs=int(self.main_epochs))
            elif place == main:
                phase = phase if epochs is None else dataclasses.replace(phase, epochs=epochs)
                self.main_epochs.assign(phase.epochs)
                for later in phases[main + 1 :]:  # what it learnt is of another network now
                    if later.watch is not None:
                        self.best[later.name].reset()
                options |= {"validation_data": held_out, "callbacks": callbacks, "initial_epoch": initial_epoch}
            done = start == "after" if place <= main else not finish
            done = done or not phase.epochs or (place < main and initial_epoch)
            if not done:
                found = self._fit_phase(place, phase, batches, passes_done, **options)
                history = found if place == main else history
                if place != main or finish:
                    self.learned(phase, events)
            passes_done += phase.epochs * phase.passes
        return history

    def _fit_phase(self, index, phase, batches, passes_done, *, initial_epoch=0, callbacks=(), **options):
        """Run a phase of the recipe; which events come when depends on the passes before it only."""
        passes_done += initial_epoch * phase.passes
        best = self.best.get(phase.name)
        self.active.assign(tf.ones(self.lead))
        if best is not None and initial_epoch:
            best.unsettle()
            best.release(initial_epoch - 1)
            if not self.active.numpy().any():  # it had ended
                phase = dataclasses.replace(phase, epochs=initial_epoch)
        elif best is not None:
            best.reset()
        if not initial_epoch:
            self.begin(phase)
        past = [row for row in self.member_rows if row["phase"] != phase.name or row["epoch"] < initial_epoch]
        self.member_rows = past
        self.program = phase.program
        self.train_function, step = self._programs.get(phase.program) or (None, self._traced_once("train_step"))
        object.__setattr__(self, "train_step", step)
        self.phase.assign(index)
        self.phase_start.assign(int(self.clock) - initial_epoch * phase.passes * batches.steps)
        try:
            self.histories[phase.name] = keras.Model.fit(
                self,
                batches.shuffled(passes_done),
                epochs=phase.epochs,
                initial_epoch=initial_epoch,
                steps_per_epoch=phase.passes * batches.steps,
                callbacks=[MemberHistory(self, phase.name, best), *callbacks],
                **options,
            )
        except tf.errors.OpError:
            if batches.error is None:
                raise
            raise batches.error from None  # what TensorFlow makes a long text of
        self._programs[phase.program] = self.train_function, step
        if best is not None:
            best.settle()
        history = self.histories[phase.name]
        for metric in self.metrics:  # what a phase never measures would stand there as zero
            if hasattr(metric, "count") and not float(metric.count):
                history.history.pop(metric.name, None)
        return history

    def make_test_function(self, force: bool = False):
        """Return Keras' function of many validation steps, by XLA only if the model asks for it (`validated_by_xla`)."""
        if self.test_function is None or force:
            step = self._traced_once("test_step", jit_compile=(self.jit_compile and self.validated_by_xla) or None)

            def validate(iterator):
                for _ in tf.range(self._steps_per_execution):
                    logs = step(next(iterator))
                return logs

            self.test_function = tf.function(validate)  # of every batch size its own: shapes are static
        return self.test_function

    def _validate_and_get_metrics_result(self, logs):
        return logs  # what the last step returned: Keras would work out every metric again, at every epoch

    def _traced_once(self, step: str, **options) -> tf.types.experimental.PolymorphicFunction:
        """Return a step as a function of its own: Keras traces whatever else is in its loops over steps twice."""
        return tf.function(functools.partial(getattr(type(self), step), self), autograph=False, **options)

    def best_epochs(self) -> dict[str, dict[str, object]]:
        """Return for every watched phase its quantity, and each member's best epoch (from 0; None: none) and value."""
        return {
            phase: {
                "quantity": best.watch.quantity,
                "best": best.watch.best,
                "epoch": [int(epoch) if epoch >= 0 else None for epoch in np.ravel(best.epoch)],
                "value": [float(v) if e >= 0 else None for v, e in zip(np.ravel(best.value), np.ravel(best.epoch))],
            }
            for phase, best in self.best.items()
        }

    def batches(self, events: Events, weighting, smaller: bool = False, **room) -> Batches:
        """Return scaled batches of events; with `smaller`, of fewer events than `batch_size` where there are fewer."""
        size, seed = self.hyperparameter("batch_size"), self.hyperparameter("seed")
        if smaller and len(events):  # as few left over as can be: these events are the same at every epoch
            size = len(events) // -(-len(events) // size)
        self.inputs.check_layout(events)
        objects = bool(self.inputs.object_columns)
        options = {"objects": objects, "transform": self.scaler, "weighting": weighting, "seed": seed, **room}
        return Batches(events, self.resolved_columns, size, **options)

    # -- scoring ---------------------------------------------------------------------------------

    def infer(self, *arrays: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return every score kind, what is `reconstructed`, and `latent`, of the arrays of `self.inputs` in physical units."""
        raise NotImplementedError

    def results(
        self, events: Events | np.ndarray | Mapping[str, np.ndarray], names: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Return the named results of `infer`, for events, an array or a batch as `score` takes them.

        Each has the events as its first axis, or with several members as its second.
        """
        if not self.has_met_data:
            raise InputError(
                f"{type(self).__name__} has not met any data; call fit, or load a trained run with zoo.load"
            )
        parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for arrays in self.inputs.blocks(events):
            found = self._compiled_infer(*map(tf.constant, arrays))
            for name in names:
                parts[name].append(found[name].numpy())
        return {name: np.concatenate(part, axis=len(self.lead)) for name, part in parts.items()}

    def score(
        self,
        events: Events | np.ndarray | Mapping[str, np.ndarray],
        kind: str | None = None,
        per_member: bool = False,
    ) -> np.ndarray:
        """Return anomaly scores (N,), higher = more anomalous; of several members the mean of theirs.

        Args:
            events: `Events`; or, in physical units, an array (N, F) with columns as `resolved_columns`, of a model that
                takes objects (N, P, C) with columns as `inputs.object_columns`; or a batch, a dict of such arrays.
            kind: one of `score_kinds`, by default the first.
            per_member: return each member's, (K, N), also if K = 1.

        Raises `InputError` for an unknown kind, a missing column, a wrong number of columns, or non-finite values.
        """
        kind = kind or self.score_kinds[0]
        if kind not in self.score_kinds:
            raise InputError(
                f"score kind {kind!r} is not known; {type(self).__name__} has {', '.join(self.score_kinds)}"
            )
        found = self.results(events, [kind])[kind]
        found = found if self.lead else found[None]
        return found if per_member else found.mean(axis=0) if self.lead else found[0]

    def score_std(self, events, kind: str | None = None) -> np.ndarray:
        """Return the standard deviation over members of each event's score (N,), as `score`; zero for one member."""
        return self.score(events, kind, per_member=True).std(axis=0)

    @property
    def _compiled_infer(self):
        if not hasattr(self, "_infer_function"):
            self._infer_function = tf.function(self.infer, input_signature=self.inputs.specs, autograph=False)
        return self._infer_function

    # -- leaving ---------------------------------------------------------------------------------

    def export(self, path: str | os.PathLike) -> None:
        """Write a SavedModel that takes raw physical features and needs TensorFlow alone (see `zoo.export`)."""
        from zoo.export import export

        export(self, path)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


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
