"""What the models without gradient steps share: they learn from a sample of the events at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from zoo.base import COUNT, AnomalyModel, EventHyperparameters, Phase, hyperparameter


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleHyperparameters(EventHyperparameters):
    """What a model has that learns from a sample of the events."""

    sample: int = hyperparameter(
        100_000, "events that are learnt from; of more, so many are drawn at random with the seed", COUNT
    )


class ClosedForm(AnomalyModel):
    """A model that learns from a sample of the events at once, before a single epoch that records its mean score.

    A subclass creates in `make` its variables by `learnt_weight`, and states `learn(x, weight, seed)`, their values, and
    `scores(x)`, of events in scaled units. Each of several members learns by its own seed, and draws its own sample.
    """

    Hyperparameters = SampleHyperparameters
    hp: SampleHyperparameters

    figures: ClassVar[tuple[str, ...]] = ("roc",)
    reconstructs = False

    def learn(self, x: np.ndarray, weight: np.ndarray, seed: int) -> Mapping[str, np.ndarray]:
        """Return what is learnt from scaled events x (n, F) float32 and their weights (n,), by names of `learnt_weight`."""
        raise NotImplementedError

    def scores(self, x: tf.Tensor) -> tf.Tensor:
        """Return the first score of scaled events (B, F), (B,) or (K, B)."""
        raise NotImplementedError

    def learnt_weight(self, name: str, shape: tuple[int, ...], dtype: str = "float32") -> tf.Variable:
        """Create a variable that `learn` gives a value, with an axis of members where there are several."""
        return self.add_weight(name, (*self.member_shape, *shape), dtype=dtype, initializer="zeros", trainable=False)

    def recipe(self):
        return (Phase("training", 1),)

    def tasks(self):
        return {}

    def on_phase_begin(self, phase):
        """Learn from the events."""
        learnt = [self.learn(*self._sample(seed), seed) for seed in range(self.hp.seed, self.hp.seed + self.members)]
        for name in learnt[0]:
            values = [one[name] for one in learnt]
            getattr(self, name).assign(np.stack(values) if self.member_shape else values[0])

    def _sample(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return scaled features (n, F) and weights (n,) of the events that a member learns from."""
        events: Any = self.trainer.data
        if len(events) > self.hp.sample:
            events = events.sample(self.hp.sample, seed)
        blocks = list(events.blocks("features", "weight", columns=self.resolved_columns))
        scaled = [self.scaler(tf.constant(block["features"])).numpy() for block in blocks]
        return np.concatenate(scaled), np.concatenate([block["weight"] for block in blocks])

    def losses(self, batch, seed, training):
        return {"loss": batch["weight"] * self.scores(batch["features"])}

    def validation_losses(self, batch, seed):
        return self.losses(batch, seed, False)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch):
        """Record the scores of a batch; what is learnt is there already."""
        self.trainer.clock.assign_add(1)
        return self.update_metrics(**self.losses(batch, None, True))
