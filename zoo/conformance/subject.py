"""The model that is checked: how to make a small one, its events, a trained one, and helpers of the checks."""

from __future__ import annotations

import contextlib
import functools
import random
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf

import pipelines
from pipelines.datasets.darkmachines_events import OBJECT_COLUMNS, SLOTS
from pipelines.errors import InputError
from pipelines.events.events import Events
from zoo import registry, run
from zoo.base import AnomalyModel, ObjectHyperparameters
from zoo.models.gan_ae import COLUMNS
from zoo.models.set_vae import HIGH_LEVEL

# Whatever a model has of these is made small; a model without them is trained as it is.
SMALL = {
    "columns": COLUMNS,
    "batch_size": 256,
    "cycles": 2,
    "epochs": 2,
    "d_epochs": 2,
    "ae_epochs": 1,
    "pretraining_epochs": 1,
    "ae_units": 16,
    "d_units": (16, 8),
    "latent_dim": 4,
    "channels": (8, 4, 2),
    "decoder_epochs": 2,
    "window": (3300, 3700),
    "background": "lhco_sim_train",
    "sample": 500,
    "trees": 20,
    "subsample": 64,
    "folds": 2,
    "density_epochs": 1,
    "flow_width": 8,
    "num_flows": 2,
    "signal_flow_width": 8,
    "signal_num_flows": 1,
    "units": (8, 4),
}
# and what makes a model of objects take all that it can
OBJECTS = {"columns": HIGH_LEVEL, "high_level_features": True, "multiplicities": True}


def example_events(objects: bool, size: int, seed: int = 0, name: str = "lhco_sim_train") -> Events:
    """Return events with labels that mean nothing: features of an embedded sample, or objects, made-up particles.

    >>> example_events(True, 10).shape_of("objects")
    (39, 5)
    """
    if objects:
        return _particles(size, seed)
    events = pipelines.open(name).select(mass_range=(2700, 5000)).sample(size, seed=seed)
    features = events.read("features")
    return Events.from_arrays(features, events.mass, events.columns, label=(features[:, 0] > 1300).astype("int8"))


def _particles(size: int, seed: int) -> Events:
    """Events as Dark Machines has them: 39 slots by type, falling pt, some empty; MET and HT."""
    rng = np.random.default_rng(seed)
    objects = np.zeros((size, sum(SLOTS), len(OBJECT_COLUMNS)), np.float32)
    first = np.cumsum(SLOTS) - SLOTS
    for kind, (start, slots) in enumerate(zip(first, SLOTS), 1):
        found = np.minimum(rng.poisson(4.0, size) + 1 if kind == 1 else rng.poisson(0.5, size), slots)
        pt = 20 - np.sort(-rng.exponential(60.0, (size, slots)), axis=1)
        eta, phi = rng.normal(0, 1.2, pt.shape), rng.uniform(-np.pi, np.pi, pt.shape)
        block = np.stack([pt * np.cosh(eta), pt, eta, phi, np.full(pt.shape, kind)], axis=-1)
        objects[:, start : start + slots] = np.where((np.arange(slots) < found[:, None])[..., None], block, 0)
    met, ht = 50 + rng.exponential(100.0, size), objects[:, : SLOTS[0] + SLOTS[1], 1].sum(axis=1)
    features, label = np.stack([met, ht, rng.normal(size=size)], axis=1), (met > 200).astype("int8")
    about: dict[str, Any] = {"objects": objects, "object_columns": OBJECT_COLUMNS, "mass_column": "meff"}
    return Events.from_arrays(features, met + ht, ["MET", "HT", "noise"], label=label, **about)


class Subject:
    """A model that is checked: how to make a small one, events for it, and one that was trained once.

    Args:
        model: a registered name, or a subclass of `zoo.AnomalyModel`.
        hyperparameters: over those of `SMALL`.

    Attributes:
        train, test: events, 1500 and 1000.
        traces: one entry for each time that the training step of the one model was traced.
    """

    def __init__(self, model: str | type[AnomalyModel], hyperparameters: Mapping[str, object] | None = None):
        kind: Any = registry.model_class(model) if isinstance(model, str) else model
        self.kind: Any = kind
        if kind.data_kind != "events":
            raise InputError(f"{model}: a model of {kind.data_kind}; the contract is that of models of events")
        self.given = dict(hyperparameters or {})
        self.train, self.test = (
            example_events(self.takes_objects, 1500, 1),
            example_events(self.takes_objects, 1000, 2, "lhco_sim_test"),
        )
        self.traces: list[int] = []

    @property
    def takes_objects(self) -> bool:
        """Whether the model takes objects, such as particles."""
        return issubclass(self.kind.Hyperparameters, ObjectHyperparameters)

    def make(self, **hyperparameters: object) -> AnomalyModel:
        """Return a small model, untrained, of seed 3 unless it is given."""
        own, objects = self.kind.Hyperparameters.defaults(), OBJECTS if self.takes_objects else {}
        small = {name: value for name, value in {**SMALL, **objects}.items() if name in own}
        return self.kind(**{**small, "seed": 3, **self.given, **hyperparameters})

    def has(self, hyperparameter: str) -> bool:
        """Tell whether the model has a hyperparameter of this name."""
        return hyperparameter in self.kind.Hyperparameters.defaults()

    @functools.cached_property
    def _one(self) -> tuple[AnomalyModel, dict[str, np.ndarray]]:
        """The one model with its state after training, a reset and a second training, which must not trace again."""
        model = self.make()
        with self.counting_traces():
            self.fit(model)
            model.reset(seed=model.hp.seed)
            self.fit(model)
        return model, {key: value.numpy() for key, value in run.state_of(model).items()}

    @contextlib.contextmanager
    def counting_traces(self) -> Iterator[None]:
        """Note every tracing of the training step in `traces`."""
        step = self.kind.train_step

        def counted(model, batch):
            self.traces.append(1)
            return step(model, batch)

        with mock.patch.object(self.kind, "train_step", counted):
            yield

    def fit(
        self, model: AnomalyModel, events: Events | None = None, validation: Events | None = None, **options
    ) -> None:
        """Train without XLA, which the checks of numbers do not need."""
        events, validation = events or self.train, validation or self.train.sample(300)
        model.fit(events, validation, verbose=0, **{"jit_compile": False, **options})

    def trained(self) -> AnomalyModel:
        """Return the one model as its first training left it, whatever another check did with it."""
        model, state = self._one
        for key, variable in run.state_of(model).items():
            variable.assign(state[key])
        return model

    def again(
        self, events: Events | None = None, validation: Events | None = None, seed: int = 3, **options
    ) -> AnomalyModel:
        """Return the one model, trained anew: tracing takes nearly all of a small training's time."""
        model, _ = self._one
        model.adapt(self.train)
        model.reset(seed=seed)
        self.fit(model, events, validation, **options)
        return model


# -- what the checks need ------------------------------------------------------------------------------------


def arrays(model: AnomalyModel, events: Events) -> dict[str, np.ndarray]:
    """Return what the model takes of events, as a batch has it."""
    return {name: events.read(name, model.resolved_columns) for name in model.inputs.shapes}


def made_again(events: Events, order: np.random.Generator | None = None, **changes: object) -> Events:
    """Return the same events in memory but for what is changed, with their columns in another order."""
    fields: dict = {name: events.read(name) for name in ("features", "objects", "label") if events.has(name)}
    columns, object_columns = events.columns, events.about.object_columns
    if order is not None:
        by = order.permutation(len(columns))
        fields["features"], columns = fields["features"][:, by], tuple(columns[i] for i in by)
        if "objects" in fields:
            by = order.permutation(len(object_columns))
            fields["objects"], object_columns = fields["objects"][..., by], tuple(object_columns[i] for i in by)
    fields = {"mass": events.mass, "columns": columns, "object_columns": object_columns, **fields, **changes}
    return Events.from_arrays(fields.pop("features"), fields.pop("mass"), fields.pop("columns"), **fields)


def same(found: object, expected: object, what: str) -> None:
    """Raise `AssertionError` unless two arrays are equal, bit by bit."""
    np.testing.assert_array_equal(found, expected, err_msg=what)


@contextlib.contextmanager
def refused(pattern: str) -> Iterator[None]:
    """Raise `AssertionError` unless what is done inside raises an `InputError` whose message matches the pattern."""
    try:
        yield
    except InputError as error:
        assert re.search(pattern, str(error)), f"the message {str(error)!r} does not say {pattern!r}"
    else:
        raise AssertionError(f"nothing was raised; expected an InputError that says {pattern!r}")


@contextlib.contextmanager
def eagerly() -> Iterator[None]:
    """Run without tracing, for checks that do few steps and do not look at the traced program."""
    tf.config.run_functions_eagerly(True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Even though the `tf.config"
            )  # it does not hold for tf.data, which is meant
            yield
    finally:
        tf.config.run_functions_eagerly(False)


class Draw:
    """Stands for KerasTuner's `HyperParameters`, of which it has what search spaces use: values drawn by a seed."""

    def __init__(self, seed: int):
        self._random, self.names = random.Random(seed), set[str]()

    def _drawn(self, name: str, value):
        self.names.add(name)
        return value

    def Int(self, name, min_value, max_value, step=None, **options):
        values = (
            range(min_value, max_value + 1, step or 1)
            if options.get("sampling") != "log"
            else range(min_value, max_value + 1)
        )
        return self._drawn(name, self._random.choice(values))

    def Float(self, name, min_value, max_value, **options):
        return self._drawn(name, self._random.uniform(min_value, max_value))

    def Choice(self, name, values, **options):
        return self._drawn(name, self._random.choice(list(values)))

    def Boolean(self, name, **options):
        return self._drawn(name, self._random.random() < 0.5)

    def Fixed(self, name, value, **options):
        return self._drawn(name, value)

    @contextlib.contextmanager
    def conditional_scope(self, parent, values):
        yield
