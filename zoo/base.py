"""AnomalyModel: the one contract that every model of events keeps."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from pipelines import provenance
from pipelines.arguments import argument
from pipelines.errors import InputError
from pipelines.events.batches import Batches, check_enough
from pipelines.events.events import Events
from pipelines.events.layout import check_magnitudes
from pipelines.events.statistics import MassesOf, Statistic, gather
from pipelines.events.weighting import MeanOne
from zoo import legacy
from zoo.detector import Detector
from zoo.hyperparameters import (
    BATCH,
    COUNT,
    COUNT_OR_ZERO,
    FLAG,
    FRACTION,
    MEMBERS,
    NOT_NEGATIVE,
    POSITIVE,
    SCALING,
    SEED,
    UNITS,
    EventHyperparameters,
    Hyperparameters,
    Limit,
    ObjectHyperparameters,
    hyperparameter,
)
from zoo.inputs import TAKES, Inputs, resolve
from zoo.keras import keras
from zoo.keras.refusals import check_epochs, check_share, no_events, refuse_unknown
from zoo.layers import scalers
from zoo.layers.scalers import Scaling
from zoo.training import EarlyStopping, Phase, Task, Trainer

if TYPE_CHECKING:
    from zoo.serving.contents import Serving
    from zoo.serving.cut_values import CutValues

__all__ = [
    "BATCH",
    "COUNT",
    "COUNT_OR_ZERO",
    "FLAG",
    "FRACTION",
    "MEMBERS",
    "NOT_NEGATIVE",
    "POSITIVE",
    "SCALING",
    "SEED",
    "UNITS",
    "AnomalyModel",
    "Detector",
    "EarlyStopping",
    "EventHyperparameters",
    "Hyperparameters",
    "Limit",
    "ObjectHyperparameters",
    "Phase",
    "Task",
    "Trainer",
    "Watch",
    "hyperparameter",
]


class AnomalyModel(Detector):
    """A detector that learns what ordinary events look like and gives every event an anomaly score.

    A model is one file in `zoo/models`: a subclass of this, registered with `zoo.register`, that states

    - `Hyperparameters`: a frozen dataclass in the class, a subclass of `EventHyperparameters`, with a default, a text and
      limits for each (see `zoo.hyperparameters`). `self.hp` has the values. Those declared as `runtime` change no shape;
      a compiled step reads them as `self.runtime.NAME`, () or (K,), and each member may have its own but for `shared` ones;
    - `presets`, and `score_kinds` (the first is the default);
    - `make(width)`: creates the layers for `width` features, and says what is recorded by `create_metrics`;
    - `losses(batch, seed, training)`: the terms of the loss, in the network's units. That is all for a model that Adam trains
      by one phase of `epochs` passes. Others state `tasks()`, which losses train which weights, and `recipe()`, the phases;
    - `infer(features)`, or `infer(objects, features=None)`: from physical units to a dict with every score kind, and
      `reconstructed` and `latent` if the model has them. A model without the former says `reconstructs = False`;
    - `search_space(hp)`: its KerasTuner space.

    A model whose score needs the mass of an event says `scores_by_mass = True`; its `infer` gets the mass (B,) in GeV as the
    last argument, and so does its SavedModel. No other score sees the mass.

    Where they are needed: `weighting(events)`; `on_phase_begin(phase)` and `on_phase_end(phase, events)`; `prepare()`, what
    fresh weights ask for; `initial(shape, seed)`, where kernels and biases are not all there is.

    `takes` is "features", the default, or "objects": particles (B, P, C), and features beside them if there are `columns`.
    Then `Hyperparameters` is a subclass of `ObjectHyperparameters`, and `self.inputs` says in `make` what was found.

    With `members` K > 1 all weights have a leading axis of K, `member_shape`, and so has what is computed from them.
    Layers and losses look at their last axes only (see `zoo.ensemble`). A member of seed s is what a plain model of
    that seed is, but for what members agree on, as `aligned` of `vae`. The members of a group have the seeds s, s + 1, ...,
    and the order of events of the first. `score` is their mean.

    Everything outside the model is in physical units: the input scaling is fitted by `adapt` and lives in the
    model. No label is ever read, and the mass is used for training weights, decorrelation and windows only, but of a model
    that says otherwise (`scores_by_mass`). Event weights have mean
    one in training, whatever constant they are multiplied with.

    Example:
        >>> import pipelines, zoo
        >>> model = zoo.get("deep_svdd", units=(16,), latent_dim=4, batch_size=1024, epochs=1)
        >>> events = pipelines.open("lhco_sim_train").sample(3000)
        >>> history = model.fit(events, verbose=0, jit_compile=False)
        >>> model.score(pipelines.open("lhco_sim_test")).shape
        (6000,)
    """

    Hyperparameters: ClassVar[Any] = EventHyperparameters
    hp: EventHyperparameters

    data_kind: ClassVar[str] = "events"
    takes: ClassVar[str] = "features"
    figures: ClassVar[tuple[str, ...]] = ("errors", "observables", "roc", "scan")
    reconstructs: ClassVar[bool] = True  # whether `infer` gives "reconstructed"
    scores_by_mass: ClassVar[bool] = False  # whether `infer` takes the mass (B,) in GeV too, as its last argument
    scaled_batches: ClassVar[bool] = True  # whether `losses` gets scaled features; else in physical units
    step_knows_scaling: ClassVar[bool] = True  # whether a step may scale anything; else all scalings share programs

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if "step_knows_scaling" not in vars(cls) and {"losses", "tasks", "train_step"} & set(vars(cls)):
            cls.step_knows_scaling = True  # what a parent says of its own losses does not hold for others

    def __init__(self, given: Mapping[str, object] | None = None, /, **hyperparameters: object):
        super().__init__(given, **hyperparameters)
        missing = [name for name in (*TAKES[self.takes], "scaling", "batch_size") if not hasattr(self.hp, name)]
        if missing:
            raise InputError(f"{type(self).__name__} has no hyperparameter {missing[0]!r}; every model needs it")
        self.inputs = Inputs()  # nothing, before it meets the data
        self.scaler = scalers.make(self.hp.scaling)

    def get_config(self) -> dict[str, object]:
        """Return the hyperparameters; `type(model)(**model.get_config())` is the same model, untrained."""
        met = {name: getattr(self.inputs, name) for name in TAKES[self.takes]} if self.has_met_data else {}
        return super().get_config() | met

    @property
    def resolved_columns(self) -> tuple[str, ...]:
        """Names of the features, in their order; none before the model has met the data, or if it takes none."""
        return self.inputs.columns

    # -- the kind of data ------------------------------------------------------------------------

    @classmethod
    def require(cls, data_kind: str, where: object) -> None:
        """Raise `InputError` naming `where`, a run or a model, unless this model scores "events", or "spectra"."""
        if data_kind != cls.data_kind:
            raise InputError(
                f"{where}: {cls.zoo_name} takes events, not histograms; train one that does, as `zoo train ddp`"
            )

    def training_data(self, events: Events | None, validation: float = 0.0, seed: int = 0) -> tuple:
        """Return the events to train on, and a share `validation` of them to validate with, or None.

        Raises `InputError` if there are no events.
        """
        if events is None:
            raise InputError(
                f"{self.zoo_name} is trained on events: give {argument('data')}, an events file or a sample's name"
            )
        return events.split(1.0 - validation, seed) if validation else (events, None)

    def check_enough(self, events: Events) -> None:
        """Raise `InputError` if there are fewer events than one batch."""
        check_enough(events, self.hp.batch_size)

    def provenance(self, events: Events) -> dict[str, object]:
        """Return what identifies the training data in the configuration of a run: source, size, checksum; and units."""
        units = dict(zip(events.columns, events.about.units))
        units |= dict(zip(events.about.object_columns, events.about.object_units))
        kept = {name: units[name] for name in self._taken() if units.get(name)}
        return {**provenance.data(events), **({"units": kept} if kept else {})}

    def _taken(self) -> tuple[str, ...]:
        return (*self.inputs.columns, *self.inputs.object_columns)

    def amount_trained(self, events: Events) -> tuple[int, str]:
        """Return how many, and what, the model was trained on, as (1500, "events")."""
        return len(events), "events"

    def build_from_config(self) -> None:
        """Create all variables from the hyperparameters of a trained model, which name what it takes."""
        self.build_for(**{name: getattr(self.hp, name) for name in TAKES[self.takes]})

    def serving_text(self) -> str:
        """Return what the exported `serving_default` takes and gives, for people."""
        shapes = self.inputs.shapes.items()
        arrays = (f"{name} (N, {', '.join(map(str, shape))})" if shape else f"{name} (N,)" for name, shape in shapes)
        return f"takes {' and '.join(arrays)} in physical units and gives score"

    # -- meeting the data ------------------------------------------------------------------------

    def taken_from(self, events: Events) -> Inputs:
        """Return what the model takes of events, by the hyperparameters that name it; raises `InputError` as `adapt`."""
        wanted = {name: getattr(self.hp, name) for name in TAKES[self.takes]}
        try:
            return resolve(events, **wanted)
        except InputError as error:
            usual = self.hp.defaults()["columns"]
            if wanted["columns"] != usual or usual in ((), ("*",)):
                raise
            raise InputError(
                f"{error}; these are the columns that {self.zoo_name} takes by default: choose among yours, as by "
                f"--set 'columns=*', or columns=['*'] in Python"
            ) from None

    def check_data(self, events: Events) -> None:
        """Raise `InputError` if a look at the names and the first block of events shows that they cannot be trained on."""
        columns = self.taken_from(events).columns
        if columns:
            check = _NotTheMass(events, columns)
            for block in itertools.islice(events.blocks(*check.fields, columns=columns), 1):
                check.add(block)

    def survey(self, events: Events, checksum: bool = False) -> Events:
        """Read the events once, and return them with all that training needs to know of them.

        That is the scaling, unless it is fitted already, masses and weights, and with `checksum` that of the run.

        Raises `InputError` as `adapt`.
        """
        events = events.remembering()
        wanted: list[Statistic] = []
        if not self.has_met_data:
            inputs = self.taken_from(events)
            wanted += [MassesOf(events), *self.scalings(inputs), *_checks(events, inputs)]
        wanted += [provenance.Checksum(events)] if checksum else []
        gather(events, *wanted)
        return events

    def adapt(self, events: Events) -> None:
        """Resolve the columns by name, fit the input scaling, and create the weights.

        Raises `InputError` naming a missing column, or a column with NaN or infinite values.
        """
        inputs = self.taken_from(events)
        scalings = self.scalings(inputs)
        for scaling, values in zip(scalings, gather(events, *scalings, *_checks(events, inputs))):
            scaling.assign(values)
        self.build_for(inputs.columns, inputs.object_columns, inputs.slots)

    def scalings(self, inputs: Inputs) -> list[Scaling]:
        """Return the statistics that fit the model's scalings: of features, and of objects if the model takes them."""
        if not inputs.columns:
            return []
        if not self.scaler.built:
            self.scaler.build((None, len(inputs.columns)))
        return [Scaling(self.scaler, self.hp.seed, columns=inputs.columns)]

    def scale_as(self, other: AnomalyModel) -> None:
        """Take the fitted scalings of another model of this kind; programs of scores are traced anew for another formula.

        Those of training steps are not: of another formula they are right only if `step_knows_scaling` is False.
        """
        for name in [name for name, value in vars(self).items() if isinstance(value, scalers.Scaler)]:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine.formula != theirs.formula:
                known = self.trainer.remembered(f"{name}s", dict)  # by formula: programs of scores know them
                known[mine.formula] = mine
                mine = known.get(theirs.formula) or theirs.frozen()
                setattr(self, name, mine)
                self.trainer.forget("state")
            if theirs.variables:
                mine.assign([variable.numpy() for variable in theirs.variables])

    def build_for(self, columns: Sequence[str], object_columns: Sequence[str] = (), slots: int = 0) -> None:
        """Create all variables for these columns and objects, without looking at any event."""
        if self.has_met_data:
            return
        self.inputs = Inputs(tuple(columns), tuple(object_columns), slots, self.scores_by_mass)
        if not self.scaler.built:
            self.scaler.build((None, len(columns)))
        self.make(len(columns))
        if not self.means:
            self.create_metrics("loss")
        if any(map(_waits_for_input, self.submodules)):
            self.infer(*self.inputs.zeros(1))
        self.trainer.build()
        self.reset()
        self.built = True

    def make(self, width: int) -> None:
        """Create the layers for `width` features."""
        raise NotImplementedError

    def own_state(self) -> dict[str, Sequence[tf.Variable]]:
        """Return the variables of the model itself by their purpose, without those of metrics."""
        scaler = {id(variable) for variable in self.scaler.variables}
        groups = super().own_state()
        fixed = [variable for variable in groups["fixed"] if id(variable) not in scaler]
        return {**groups, "fixed": fixed, "scaler": self.scaler.variables}

    # -- training --------------------------------------------------------------------------------

    def fit(
        self,
        events: Events | None = None,
        validation: Events | None = None,
        *,
        validation_data: Events | None = None,
        validation_split: float = 0.0,
        epochs: int | None = None,
        initial_epoch: int = 0,
        callbacks: keras.callbacks.Callback | Sequence[keras.callbacks.Callback] | None = (),
        verbose: int | str = "auto",
        jit_compile: bool = True,
        memory: int | None = None,
        cache: str | os.PathLike | None = None,
        finish: bool = True,
        **others: object,
    ) -> keras.callbacks.History:
        """Run the paper's whole recipe on events, without labels.

        Args:
            events: what to train on; labels, if there are any, are not read.
            validation, validation_data: other events, whose losses are recorded as `val_...` after every epoch; the second
                is Keras' name. validation_split: or a share of the events for it, drawn by the seed, that is not trained on.
            epochs: Keras epochs of the main phase, by default the model's own number.
            initial_epoch: epoch of the main phase to go on from with the present weights; earlier phases are done. From a
                training with `finish=False`, or from a checkpoint of it, that gives what one training would give; later
                phases that have run in between shift the random numbers.
            callbacks: Keras callbacks, called in the main phase. verbose: Keras' progress bar: 0, 1, 2 or "auto".
            jit_compile: compile the training step with XLA.
            memory, cache: bytes of memory, and the folder, that may hold the events while training (see
                `pipelines.events.row_cache.keep`). The result does not depend on them.
            finish: train the phases after the main one too, and write down what the scores need to know of the training
                events; `finish()` does both later.

        Returns:
            The Keras history of the main phase; those of the others are in `model.histories`, by name. What each of
            several members did is in `model.member_rows`.

        Raises `InputError` for missing or non-finite columns, for fewer events than one batch, and for a callback that
        is not of Keras 2; TypeError for what are no events, for epochs that are no whole number, and for other arguments.
        """
        refuse_unknown(self.fit, others)
        if (validation is not None) + (validation_data is not None) + bool(validation_split) > 1:
            raise InputError("validation, validation_data, validation_split: names of the same; give one")
        validation = validation if validation_data is None else validation_data
        for name, given in {"events": events, **({} if validation is None else {"validation": validation})}.items():
            if not isinstance(given, Events):
                raise TypeError(no_events(name, given))
        check_epochs(epochs, initial_epoch)
        check_share("validation_split", validation_split)
        if validation_split:
            events, validation = self.training_data(events, validation_split, self.hp.seed)
        return self.trainer.fit(events, validation, epochs=epochs, initial_epoch=initial_epoch, callbacks=callbacks,
                                verbose=verbose, jit_compile=jit_compile, memory=memory, cache=cache, finish=finish)  # fmt: skip

    def finish(self, events: Events, *, verbose=0, jit_compile: bool = True, memory=None, cache=None) -> None:
        """Do the rest of `fit(finish=False)`: the later phases, and what scores need to know of the events."""
        self.trainer.fit(events, start="after", verbose=verbose, jit_compile=jit_compile, memory=memory, cache=cache)

    def weighting(self, events: Events):
        """Return a function from masses to factors of the event weights; by default one that makes their mean one."""
        return MeanOne(events)

    def batches(self, data: Events, weighting, smaller: bool = False, **room) -> Batches:
        """Return scaled batches of events; with `smaller`, of fewer events than `batch_size` where there are fewer."""
        size = self.hp.batch_size
        if smaller and len(data):  # as few left over as can be: these events are the same at every epoch
            size = len(data) // -(-len(data) // size)
        self.inputs.check_layout(data)
        objects = bool(self.inputs.object_columns)
        transform = self.scaler if self.scaled_batches else None
        options = {"objects": objects, "transform": transform, "weighting": weighting, "seed": self.hp.seed, **room}
        return Batches(data, self.resolved_columns, size, **options)

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
        return {name: np.concatenate(part, axis=len(self.member_shape)) for name, part in parts.items()}

    def score(
        self,
        events: Events | np.ndarray | Mapping[str, np.ndarray],
        kind: str | None = None,
        per_member: bool = False,
    ) -> np.ndarray:
        """Return anomaly scores (N,), higher = more anomalous; of several members the mean of theirs.

        Args:
            events: `Events`; or, in physical units, an array (N, F) with columns as `resolved_columns`, of a model that
                takes objects (N, P, C) with columns as `inputs.object_columns`; or a batch, a dict of such arrays; or a
                table (`zoo.tables`: pandas, polars, Arrow, awkward), whose columns go by their names and may be more.
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
        found = found if self.member_shape else found[None]
        return found if per_member else found.mean(axis=0) if self.member_shape else found[0]

    def score_std(self, events, kind: str | None = None) -> np.ndarray:
        """Return the standard deviation over members of each event's score (N,), as `score`; zero for one member."""
        return self.score(events, kind, per_member=True).std(axis=0)

    @property
    def _compiled_infer(self):
        def compiled():
            # traced here, once: TensorFlow counts what calls trace over all models of a class, and warns after five
            return tf.function(self.infer, input_signature=self.inputs.specs, autograph=False).get_concrete_function()

        return self.trainer.remembered(f"infer, {self.scaler.formula}", compiled)

    # -- searching -------------------------------------------------------------------------------

    @classmethod
    def room(cls, points: Sequence[Mapping[str, object]]) -> dict[str, object]:
        """Return hyperparameters of a network that can hold those of all points (see `zoo.padded_networks`).

        By default the largest of each that is `resizable`. A search makes a network of them for all its trials, so
        whatever is named here needs no program of its own.
        """
        from zoo.padded_networks import room

        return room(cls.Hyperparameters.resizable(), points)

    # -- leaving ---------------------------------------------------------------------------------

    def serving(self, cuts: CutValues | None = None) -> Serving:
        """Return what is exported of this model, with cut values if there are some; raises `InputError` if untrained."""
        from zoo.serving.contents import serving_of

        return serving_of(self, cuts)


def _waits_for_input(layer: Any) -> bool:
    """Whether a layer creates its weights when it is called first."""
    is_layer = isinstance(layer, keras.layers.Layer) and not isinstance(layer, (keras.Model, keras.metrics.Metric))
    return is_layer and not layer.built and type(layer).build is not keras.layers.Layer.build


def _checks(events: Events, inputs: Inputs) -> list[_NotTheMass | _Magnitudes]:
    return [_NotTheMass(events, inputs.columns), _Magnitudes(events, inputs.columns)] if inputs.columns else []


class _NotTheMass:
    """Raises `InputError` if a column is the mass that is searched for bumps, or a copy of it; a statistic of `gather`."""

    fields = ("features", "mass")

    def __init__(self, events: Events, columns: Sequence[str]):
        self.key, self.columns, self._looked = ("not the mass", tuple(columns)), tuple(columns), False
        if events.about.mass_column in columns:
            raise InputError(
                f"columns include {events.about.mass_column!r}, the mass that is searched for bumps: a score that "
                f"sees it shapes its spectrum; leave it out"
            )

    def add(self, block: Mapping[str, np.ndarray]) -> None:
        """Compare the columns of the first block with the masses."""
        if self._looked or not len(block["mass"]):
            return
        self._looked = True
        copies = np.flatnonzero((block["features"] == block["mass"][:, None]).all(axis=0))
        if len(copies):
            name = self.columns[copies[0]]
            raise InputError(
                f"column {name!r} is the mass that is searched for bumps: a score that sees it shapes its spectrum; "
                f"leave it out, as by columns=*,!{name}"
            )

    def result(self) -> None:
        """Return nothing: what is wrong was raised."""


class _Magnitudes:
    """Raises `InputError` at the end for a column with which float32 cannot calculate; a statistic of `gather`."""

    fields = ("features",)

    def __init__(self, events: Events, columns: Sequence[str]):
        self.key, self.columns, self._where = ("magnitudes", tuple(columns)), tuple(columns), events.name
        self._largest = np.zeros(len(columns))

    def add(self, block: Mapping[str, np.ndarray]) -> None:
        """Keep the largest magnitude of each column."""
        np.maximum(self._largest, np.abs(block["features"]).max(axis=0, initial=0), out=self._largest)

    def result(self) -> None:
        """Return nothing; raise what is wrong."""
        check_magnitudes(self._largest, self.columns, self._where)


def Watch(  # noqa: N802  (the name of the class that it was)
    quantity: str, best: str = "min", keep: bool = False, patience: int | None = None, tolerance: float = 0.0
) -> EarlyStopping:
    """Return `EarlyStopping` by its former name and words; deprecated."""
    legacy.warn("zoo.base.Watch", "EarlyStopping(monitor, mode, min_delta, patience, restore_best_weights)")
    return EarlyStopping(quantity, best, tolerance, patience, keep)
