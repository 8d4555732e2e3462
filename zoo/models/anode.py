"""ANODE: the ratio of two densities, learnt in the window and beside it.

B. Nachman, D. Shih, "Anomaly detection with density estimation", Phys. Rev. D 101 (2020) 075042 (arXiv:2001.04990), called
the paper here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import tensorflow as tf

from zoo.base import COUNT, POSITIVE, Phase, Task, hyperparameter
from zoo.keras import keras
from zoo.layers.flows import AutoregressiveFlows
from zoo.layers.random import fold_of
from zoo.models.sideband_density import DensityHyperparameters, SidebandDensity
from zoo.models.window_classifier import COLUMNS, FOLDS
from zoo.registry import register
from zoo.training import EarlyStopping, Terms


@register("anode")
class ANODE(SidebandDensity):
    """The ratio of two densities: that of the window's events, and that of the side bands at the same mass (Nachman, Shih 2020).

    Both are masked autoregressive flows, conditioned on the mass, of v = (logit(x) - mean) / std. One learns the density of
    background in the side bands and is interpolated into the window, the other that of all events in the window. The score
    is the logarithm of eq. 2 of the paper,

        log_ratio(x, m) = ln p_window(v | m) - ln p_side_bands(v | m)

    The flow of the window is `folds` flows: one that was trained on an event never scores it. `nll` in the history is that
    of the side bands, `loss` that of the window, and `held_out` that of every event by the flow that has not seen it; the
    epoch of the smallest is kept.

    **The score takes the mass**: `score` takes events, or a dict with `features` and `mass`, and the exported SavedModel
    takes both.

    Raises `InputError` as `cwola` does, and in `score` for arrays without masses.

    Example:
        >>> import zoo
        >>> [phase.name for phase in zoo.get("anode", window=(3300, 3700)).recipe()]
        ['density', 'training']
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(DensityHyperparameters):
        columns: Sequence[str] = hyperparameter(COLUMNS)
        folds: int = hyperparameter(5, "flows of the window; each is trained without its share of the events", FOLDS)
        learning_rate: float = hyperparameter(1e-3, "of Adam, for the flows of the window", POSITIVE, runtime=True)
        epochs: int = hyperparameter(30, "passes through the events, for the flows of the window", COUNT)

    hp: Hyperparameters

    scores_by_mass = True
    density_beside = True
    score_kinds = ("log_ratio",)
    recorded: ClassVar[tuple[str, ...]] = ("nll", "loss", "held_out")  # terms of the losses in the history

    def make(self, width):
        self.make_density(width)
        self.inside = [self.flow_inside(width) for _ in range(self.hp.folds)]
        self.create_metrics(*self.recorded)

    def flow_inside(self, width: int) -> AutoregressiveFlows:
        """Return a flow of `width` features for the window."""
        return self.new_flow(width)

    def recipe(self):
        best = EarlyStopping("held_out", "min", restore_best_weights=True)
        training = Phase("training", self.hp.epochs, program="training", main=True, early_stopping=best)
        return self.density_phase(), training

    def tasks(self):
        weights = [weight for flow in self.inside for weight in flow.trainable_weights]
        optimizer = self.make_optimizer(keras.optimizers.Adam, weights)
        return {"density": self.density_task(), "training": Task(self.losses, optimizer, weights)}

    def log_prob_inside(self, features: tf.Tensor, mass: tf.Tensor) -> tf.Tensor:
        """Return ln p(v | m) by every flow of the window, (folds, B) or (K, folds, B)."""
        v = self.scaled(features)
        return tf.stack([self.log_prob_of(flow, v, mass) for flow in self.inside], axis=-2)

    def own(self, features: tf.Tensor) -> tf.Tensor:
        """Tell which flow has not seen which event, (folds, B)."""
        return fold_of(features, self.hp.folds) == tf.range(self.hp.folds)[:, None]

    def losses(self, batch, seed, training):
        return self.by_fold(batch, self.log_prob_inside(batch["features"], batch["mass"]))

    def by_fold(self, batch: Mapping[str, tf.Tensor], log_prob: tf.Tensor) -> Terms:
        """Return the mean of -ln p in the window, () or (K,): `loss` of events that a flow learns from, `held_out` of the others.

        Args:
            batch: of events, as `losses` takes it.
            log_prob: of every flow, (folds, B) or (K, folds, B).
        """
        weight = tf.where(self.regions.inside(batch["mass"]), batch["weight"], 0.0)
        own = tf.cast(self.own(batch["features"]), log_prob.dtype)

        def mean(share: tf.Tensor) -> tf.Tensor:
            summed = tf.reduce_sum(share * weight * log_prob, (-2, -1))
            return -tf.math.divide_no_nan(summed, tf.reduce_sum(share * weight))

        return {"loss": mean(1.0 - own), "held_out": mean(own)}

    def infer(self, features, mass):
        inside = self.log_prob_inside(features, mass)
        own = tf.reduce_sum(tf.where(self.own(features), inside, tf.zeros_like(inside)), -2)
        return {"log_ratio": own - self.log_prob(features, mass)}

    @classmethod
    def search_space(cls, hp):
        return {
            **cls.density_space(hp),
            "learning_rate": hp.Float("learning_rate", 1e-4, 3e-3, sampling="log"),
        }
