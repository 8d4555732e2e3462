"""What the weakly supervised classifiers share: the events of a window against others, in folds, without labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from pipelines.arguments import setting
from pipelines.errors import InputError
from pipelines.events.statistics import masses_of
from zoo.base import COUNT, FRACTION, NOT_NEGATIVE, POSITIVE, UNITS, Limit, hyperparameter
from zoo.layers.dense import MLP, glorot_uniform, leaky_relu
from zoo.layers.random import Dropout, fold_of
from zoo.layers.trees import BoostedTrees, grown
from zoo.models.window_model import WindowModel
from zoo.training import Phase, Terms
from zoo.windows import ClassBalance, WindowHyperparameters

ACTIVATION = Limit(choices=("relu", "leaky_relu", "elu", "selu", "swish"))
COLUMNS = ("mass_light", "mass_difference", "tau21_light", "tau21_heavy")
"""The features of the LHC Olympics benchmark: masses of two jets and their N-subjettiness, whatever the jets' order."""
FOLDS = Limit(2, 100, whole=True)
CLASSIFIERS = Limit(choices=("network", "trees"))
SCHEDULES = Limit(choices=("cosine", "constant"))
CONSTANT = {
    "learning_rate": 1e-3,
    "learning_rate_schedule": "constant",
    "batch_size": 1024,
    "epochs": 30,
}  # for presets
LEAVES = Limit(2, 4096, whole=True)
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
    learning_rate: float = hyperparameter(4e-3, "of Adam, at the beginning", POSITIVE, runtime=True)
    learning_rate_schedule: str = hyperparameter(
        "cosine", "how the learning rate of networks falls: as half a cosine to 0, or not at all", SCHEDULES
    )
    batch_size: int = hyperparameter(512)
    epochs: int = hyperparameter(40, "passes through the events, of networks", COUNT)
    classifier: str = hyperparameter("network", "networks, or boosted trees", CLASSIFIERS)
    trees: int = hyperparameter(100, "boosted trees of a classifier at most, if it is one of trees", COUNT)
    leaves: int = hyperparameter(31, "leaves of a tree at most", LEAVES)
    tree_learning_rate: float = hyperparameter(0.1, "by which a tree is shrunk", POSITIVE)


class WindowClassifier(WindowModel):
    """A classifier of a window's events against others, which a subclass chooses; see `zoo.models.cwola`.

    A subclass states `selects(mass)`, which events are trained on, and `sample(events)`, these and what they are
    compared with. By its masses `first(mass)` says which of the sample are of the first class: that is all that a batch
    says of it.

    Every member is `folds` networks. The fold of an event is a hash of its features (`zoo.layers.random.fold_of`). So
    it is the same while training and while scoring, in a file, in an array and in a SavedModel. Network k is trained on
    all events but those of fold k, and scores those of fold k alone.

    Instead of networks there may be boosted trees (`classifier="trees"`), grown in one go before an epoch that
    records their loss; a tenth of the events says when to end. They divide the events in the same way.
    """

    Hyperparameters = ClassifierHyperparameters
    hp: ClassifierHyperparameters

    score_kinds = ("probability",)
    learning_rate_falls = True
    scores_unseen = True
    recorded: ClassVar[tuple[str, ...]] = ("loss", "held_out")  # terms of the losses in the history

    def first(self, mass):
        """Tell by their masses, an array or a tensor, which events of `sample` are of the first class."""
        return self.regions.inside(mass)

    @property
    def has_trees(self) -> bool:
        """Whether the classifiers are boosted trees."""
        return self.hp.classifier == "trees"

    def make(self, width):
        shape = (*self.member_shape, self.hp.folds)
        if self.has_trees:
            self.forest = BoostedTrees(self.hp.trees, self.hp.leaves, shape)
            self.create_metrics(*self.recorded)
            return
        self.network = MLP((*self.hp.units, 1), _ACTIVATIONS[self.hp.activation], member_shape=shape, inputs=width)
        self.create_metrics(*self.recorded)

    def initial(self, shape, seed):
        return glorot_uniform(shape, seed) if len(shape) > 2 else tf.zeros(shape)  # biases have an axis of folds too

    def recipe(self):
        return (self.classifier_phase(),)

    def classifier_phase(self, **options: Any) -> Phase:
        """Return the phase that trains the classifiers: epochs of networks, or one of trees."""
        return Phase("training", 1 if self.has_trees else self.hp.epochs, **options)

    def tasks(self):
        return {} if self.has_trees else super().tasks()

    def on_phase_begin(self, phase):
        """Grow the trees, if there are any, before the epoch that records their loss."""
        if self.has_trees and phase.name == "training":
            self.grow()

    def grow(self) -> None:
        """Grow the trees of all members and folds."""
        groups = []
        for member in range(self.members):
            x, first, weight, fold = (np.concatenate(each) for each in zip(*self.to_grow_from(member)))
            for own in range(self.hp.folds):
                seen, seed = fold != own, (self.hp.seed + member) * self.hp.folds + own
                groups.append(self._grown(x[seen], first[seen], weight[seen], seed % 2**31))
        self.forest.assign(groups)

    def _grown(self, x: np.ndarray, first: np.ndarray, weight: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Return trees that tell the classes apart, whose weights have the same total."""
        weight = weight * (len(weight) / 2 / np.bincount(first, weight))[first.astype(int)]
        hp = self.hp
        return grown(x, first, weight, trees=hp.trees, leaves=hp.leaves, learning_rate=hp.tree_learning_rate, seed=seed)

    def to_grow_from(self, member: int) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield what the classifiers of a member take of the events, which are of the first class, their weights and folds."""
        data: Any = self.trainer.data
        events = self.sample(data)
        for block in events.blocks("features", "mass", "weight", columns=self.resolved_columns):
            features, mass = tf.constant(block["features"]), block["mass"]
            taken = self.observed(features, tf.constant(mass)).numpy()
            taken = taken[member] if taken.ndim > 2 else taken
            yield taken, np.asarray(self.first(mass)), block["weight"], fold_of(features, self.hp.folds).numpy()

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch):
        """Do one step, with the learning rate of its schedule; of trees, which are grown already, record their loss."""
        if self.trainer.phase != "training":
            return super().train_step(batch)
        if not self.has_trees:
            if self.hp.learning_rate_schedule == "cosine":
                optimizer = self.trainer.tasks["training"].optimizer
                optimizer.learning_rate = self.present_learning_rate()
            return super().train_step(batch)
        seed = self.trainer.step_seeds()
        self.trainer.clock.assign_add(1)
        return self.update_metrics(**self.losses(batch, seed, True))

    def present_learning_rate(self) -> tf.Tensor:
        """Return the learning rate of this step, r (1 + cos(pi t)) / 2, of the first member; t goes from 0 to 1 in all epochs.

        All epochs are those of the hyperparameter, or more where `fit` is asked for more. Fewer end before the rate is 0, so
        a training that is continued up to that number goes on as if it had not stopped; beyond it the rate rises once more.
        """
        share = self.trainer.share_done(self.hp.epochs)
        rate = tf.reshape(self.runtime.learning_rate, (-1,))[0]  # by which the shares of other members are given
        return rate * 0.5 * (1.0 + tf.cos(np.float32(np.pi) * share))

    def make_train_function(self, force=False):
        """Return Keras' function of many training steps; of trees not by XLA, which wants to know how many there are."""
        if not self.has_trees or self.trainer.phase != "training":
            return super().make_train_function(force)
        return self.trainer.train_function(lambda: self._loop("train_step", False, count=True))

    def validation_losses(self, batch, seed):
        return self.losses(batch, seed, False) if self.has_trees else super().validation_losses(batch, seed)

    def weighting(self, events):
        sample = self.sample(events)
        if self.has_trees and (lowest := min(weight.min() for _, weight in masses_of(sample).blocks())) < 0:
            raise InputError(
                f"{events.name}: weight {lowest:g}; trees cannot be grown with weights below 0, as some generators give them: "
                f"take {setting('classifier', 'network')}, or convert without weights"
            )
        return ClassBalance(sample, self.first)

    def losses(self, batch, seed, training):
        return self.compared(batch, self.observed(batch["features"], batch["mass"]), seed if training else None)

    def compared(self, batch, x: tf.Tensor, seed: tf.Tensor | None) -> Terms:
        """Return the losses of a batch of which the classifiers take x, (B, F) or (K, B, F); with dropout if `seed` is given."""
        if self.has_trees:
            return self._loss_of_trees(batch, x)
        z = self.logits(x, seed)
        first = tf.cast(self.first(batch["mass"]), z.dtype)
        entropy = batch["weight"] * (tf.nn.softplus(z) - first * z)
        own, folds = tf.cast(self.own(batch["features"]), z.dtype), self.hp.folds
        loss = tf.reduce_mean((1.0 - own) * entropy, (-2, -1)) * (folds / (folds - 1))
        decay = tf.add_n([tf.reduce_sum(tf.square(kernel), (-3, -2, -1)) for kernel in self.network.kernels])
        held_out = tf.reduce_mean(tf.reduce_sum(own * entropy, -2), -1)
        return {"loss": loss + self.runtime.weight_decay / (2 * folds) * decay, "held_out": held_out}

    def _loss_of_trees(self, batch, x: tf.Tensor) -> Terms:
        """Return the loss of every event by the trees that have not seen it."""
        z = self.own_logits(x, batch["features"])
        entropy = batch["weight"] * (tf.nn.softplus(z) - tf.cast(self.first(batch["mass"]), z.dtype) * z)
        loss = tf.reduce_mean(entropy, -1)
        return {"loss": loss, "held_out": loss}

    def dropout(self, seed: tf.Tensor) -> Dropout:
        """Return the dropout of a step, with masks of its own for every network."""
        rate = tf.convert_to_tensor(self.runtime.dropout_rate)
        folds = FOLD_STEP * tf.range(self.hp.folds, dtype=seed.dtype)
        return Dropout(rate[..., None] if rate.shape.rank else rate, seed[..., None] + folds)

    def scaled(self, features: tf.Tensor) -> tf.Tensor:
        """Return features (B, F) in physical units as the networks have them."""
        return self.scaler(features)

    def observed(self, features: tf.Tensor, mass: tf.Tensor | None) -> tf.Tensor:
        """Return what the classifiers take of events, (B, F) or (K, B, F); the mass (B,) only of a model that scores by it."""
        return self.scaled(features)

    def logits(self, x: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        """Return what every network says of x (B, F), or (K, B, F), as (folds, B) or (K, folds, B); with dropout if `seed` is given."""
        if x.shape.rank > 2:  # members, whose events differ
            x = tf.repeat(x[:, None], self.hp.folds, axis=1)
        return tf.squeeze(self.network(x, tf.identity if seed is None else self.dropout(seed)), -1)

    def own_logits(self, x: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
        """Return what the classifier says that has not seen an event, (B,) or (K, B), of x and features in physical units."""
        if not self.has_trees:
            z = self.logits(x)
            return tf.reduce_sum(tf.where(self.own(features), z, tf.zeros_like(z)), -2)
        fold = tf.cast(fold_of(features, self.hp.folds), tf.int64)
        if not self.member_shape:
            return self.forest(x, fold)

        def of_member(k: tf.Tensor) -> tf.Tensor:
            return self.forest(x[k] if x.shape.rank > 2 else x, k * self.hp.folds + fold)

        return tf.map_fn(of_member, tf.range(self.members, dtype=tf.int64), fn_output_signature=tf.float32)

    def own(self, features: tf.Tensor) -> tf.Tensor:
        """Tell which network has not seen which event, (folds, B)."""
        return fold_of(features, self.hp.folds) == tf.range(self.hp.folds)[:, None]

    def infer(self, features, mass=None):
        return {"probability": tf.sigmoid(self.own_logits(self.observed(features, mass), features))}

    @classmethod
    def search_space(cls, hp):
        return {**cls.classifier_space(hp), "scaling": hp.Choice("scaling", ["standard", "minmax", "quantile"])}

    @classmethod
    def classifier_space(cls, hp):
        """Return hyperparameters of the networks drawn from the KerasTuner object `hp`."""
        classifier = hp.Choice("classifier", ["network", "trees"])
        with hp.conditional_scope("classifier", ["network"]):
            width, layers = hp.Int("width", 16, 128, sampling="log"), hp.Int("layers", 1, 4)
            network = {
                "activation": hp.Choice("activation", ["relu", "elu", "swish"]),
                "dropout_rate": hp.Float("dropout_rate", 0.0, 0.3),
                "weight_decay": hp.Float("weight_decay", 1e-7, 1e-3, sampling="log"),
                "learning_rate": hp.Float("learning_rate", 1e-4, 1e-2, sampling="log"),
            }
        with hp.conditional_scope("classifier", ["trees"]):
            trees = {
                "leaves": hp.Int("leaves", 4, 64, sampling="log"),
                "tree_learning_rate": hp.Float("tree_learning_rate", 0.01, 0.3, sampling="log"),
            }
        if classifier == "trees":
            return {"classifier": classifier, **{name: value for name, value in trees.items() if value is not None}}
        units = {"units": (width,) * layers} if width and layers else {}
        return {
            "classifier": classifier,
            **units,
            **{name: value for name, value in network.items() if value is not None},
        }


def _leaky_relu(x):
    return leaky_relu(x, 0.1)


_ACTIVATIONS = {name: name for name in ACTIVATION.choices} | {"leaky_relu": _leaky_relu}
