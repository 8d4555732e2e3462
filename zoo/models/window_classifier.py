"""What the weakly supervised classifiers share: the events of a window against others, in folds, without labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import tensorflow as tf

from pipelines.events.events import Events
from pipelines.events.statistics import masses_of
from zoo.base import COUNT, FRACTION, NOT_NEGATIVE, POSITIVE, UNITS, AnomalyModel, Limit, hyperparameter
from zoo.layers.dense import MLP, glorot_uniform, leaky_relu
from zoo.layers.random import Dropout, fold_of
from zoo.layers.scalers import Scaling
from zoo.training import Terms
from zoo.windows import ClassBalance, Regions, WindowHyperparameters

ACTIVATION = Limit(choices=("relu", "leaky_relu", "elu", "selu", "swish"))
COLUMNS = ("mass_light", "mass_difference", "tau21_light", "tau21_heavy")
"""The features of the LHC Olympics benchmark: masses of two jets and their N-subjettiness, whatever the jets' order."""
FOLDS = Limit(2, 100, whole=True)
FOLD_STEP = 7_368_787  # seeds of the folds' dropout are this far apart


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierHyperparameters(WindowHyperparameters):
    """What every classifier of a window has."""

    columns: Sequence[str] = hyperparameter(COLUMNS)
    folds: int = hyperparameter(5, "classifiers of a member; each is trained without its share of the events", FOLDS)
    units: Sequence[int] = hyperparameter((64, 64, 64), "widths of the hidden layers", UNITS)
    activation: str = hyperparameter("relu", "of the hidden layers", ACTIVATION)
    dropout_rate: float = hyperparameter(0.1, "of the hidden layers", FRACTION, runtime=True)
    weight_decay: float = hyperparameter(0.0, "times |W|^2 / 2 of all kernels", NOT_NEGATIVE, runtime=True)
    learning_rate: float = hyperparameter(1e-3, "of Adam", POSITIVE, runtime=True)
    epochs: int = hyperparameter(30, "passes through the events", COUNT)


class WindowClassifier(AnomalyModel):
    """A classifier of a window's events against others, which a subclass chooses; see `zoo.models.cwola`.

    A subclass states `selects(mass)`, which events are trained on, `sample(events)`, these and what they are compared
    with, and `first(mass)`, which of the sample are of the first class, by their masses: that is all that a batch says of it.

    Every member is `folds` networks. The fold of an event is a hash of its features (`zoo.layers.random.fold_of`), so it
    is the same while training and while scoring, in a file, in an array and in a SavedModel. Network k is trained on all
    events but those of fold k, and scores those of fold k alone.
    """

    Hyperparameters = ClassifierHyperparameters
    hp: ClassifierHyperparameters

    score_kinds = ("probability",)
    figures = ("roc",)
    reconstructs = False
    recorded: ClassVar[tuple[str, ...]] = ("loss", "held_out")  # terms of the losses in the history
    outliers_score_high = False
    scaled_batches = False  # the fold of an event is known by its features in physical units

    @property
    def regions(self) -> Regions:
        """The window and its side bands; raises `InputError` if there is no window."""
        return Regions.of(self.hp, self.zoo_name or type(self).__name__)

    def selects(self, mass: np.ndarray) -> np.ndarray:
        """Tell by their masses (N,) in GeV which events are trained on."""
        raise NotImplementedError

    def selected(self, events: Events) -> Events:
        """Return those of the events that are trained on."""
        return events.take(self.selects(masses_of(events).mass))

    def sample(self, events: Events) -> Events:
        """Return all that is trained on, of both classes: by default the `selected` events."""
        return self.selected(events)

    def first(self, mass):
        """Tell by their masses, an array or a tensor, which events of `sample` are of the first class."""
        return self.regions.inside(mass)

    def amount_trained(self, events):
        return len(self.sample(events)), "events"

    def scalings(self, inputs):
        """Return what fits the scaling of features to those events that are trained on."""
        super().scalings(inputs)

        def features(block):
            return block["features"][self.selects(block["mass"])]

        what, fields = ("features", type(self).selects, self.regions), ("features", "mass")
        return [Scaling(self.scaler, self.hp.seed, what, fields, inputs.columns, features)]

    def make(self, width):
        shape = (*self.member_shape, self.hp.folds)
        self.network = MLP((*self.hp.units, 1), _ACTIVATIONS[self.hp.activation], member_shape=shape, inputs=width)
        self.create_metrics(*self.recorded)

    def initial(self, shape, seed):
        return glorot_uniform(shape, seed) if len(shape) > 2 else tf.zeros(shape)  # biases have an axis of folds too

    def weighting(self, events):
        return ClassBalance(self.sample(events), self.first)

    def batches(self, data, weighting, smaller=False, **room):
        return super().batches(self.sample(data), weighting, smaller, **room)

    def losses(self, batch, seed, training):
        return self.compared(batch, self.logits(self.scaled(batch["features"]), seed if training else None))

    def compared(self, batch, z: tf.Tensor) -> Terms:
        """Return the losses of a batch with the networks' logits z, (folds, B) or (K, folds, B)."""
        first = tf.cast(self.first(batch["mass"]), z.dtype)
        entropy = batch["weight"] * (tf.nn.softplus(z) - first * z)
        own, folds = tf.cast(self.own(batch["features"]), z.dtype), self.hp.folds
        loss = tf.reduce_mean((1.0 - own) * entropy, (-2, -1)) * (folds / (folds - 1))
        decay = tf.add_n([tf.reduce_sum(tf.square(kernel), (-3, -2, -1)) for kernel in self.network.kernels])
        held_out = tf.reduce_mean(tf.reduce_sum(own * entropy, -2), -1)
        return {"loss": loss + self.runtime.weight_decay / (2 * folds) * decay, "held_out": held_out}

    def dropout(self, seed: tf.Tensor) -> Dropout:
        """Return the dropout of a step, with masks of its own for every network."""
        rate = tf.convert_to_tensor(self.runtime.dropout_rate)
        folds = FOLD_STEP * tf.range(self.hp.folds, dtype=seed.dtype)
        return Dropout(rate[..., None] if rate.shape.rank else rate, seed[..., None] + folds)

    def scaled(self, features: tf.Tensor) -> tf.Tensor:
        """Return what the networks take of features (B, F) in physical units."""
        return self.scaler(features)

    def logits(self, x: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        """Return the logits of every network for scaled events (B, F), (folds, B) or (K, folds, B); with dropout if `seed` is given."""
        return tf.squeeze(self.network(x, tf.identity if seed is None else self.dropout(seed)), -1)

    def own(self, features: tf.Tensor) -> tf.Tensor:
        """Tell which network has not seen which event, (folds, B)."""
        return fold_of(features, self.hp.folds) == tf.range(self.hp.folds)[:, None]

    def infer(self, features):
        z = self.logits(self.scaled(features))
        return {"probability": tf.sigmoid(tf.reduce_sum(tf.where(self.own(features), z, tf.zeros_like(z)), -2))}

    @classmethod
    def search_space(cls, hp):
        return {**cls.classifier_space(hp), "scaling": hp.Choice("scaling", ["standard", "minmax", "quantile"])}

    @classmethod
    def classifier_space(cls, hp):
        """Return hyperparameters of the networks drawn from the KerasTuner object `hp`."""
        width, layers = hp.Int("width", 16, 128, sampling="log"), hp.Int("layers", 1, 4)
        return {
            "units": (width,) * layers,
            "activation": hp.Choice("activation", ["relu", "elu", "swish"]),
            "dropout_rate": hp.Float("dropout_rate", 0.0, 0.3),
            "weight_decay": hp.Float("weight_decay", 1e-7, 1e-3, sampling="log"),
            "learning_rate": hp.Float("learning_rate", 1e-4, 1e-2, sampling="log"),
        }


def _leaky_relu(x):
    return leaky_relu(x, 0.1)


_ACTIVATIONS = {name: name for name in ACTIVATION.choices} | {"leaky_relu": _leaky_relu}
