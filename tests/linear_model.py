"""A model that is quick to trace, for tests of what happens around a model."""

import contextlib

import pytest
import tensorflow as tf

import zoo
from zoo import registry
from zoo.base import COUNT, POSITIVE, Phase
from zoo.keras import keras


class Linear(zoo.AnomalyModel):
    """One matrix there and back, its optimizer with a memory, after a pre-training.

    That is all that a search can get wrong: weights, optimizer state, phases, a dial and a shape.
    """

    score_kinds = ("distance",)
    dials = ("learning_rate",)
    limits = {"units": COUNT, "learning_rate": POSITIVE}

    def __init__(
        self, *, columns=("pt_*", "mass_*", "e_*"), scaling="standard", units=2, learning_rate=0.01, cycles=3,
        batch_size=128, members=1, seed=0,
    ):  # fmt: skip
        super().__init__(locals())

    def make(self, width):
        self.kernel = self.add_weight("kernel", (*self.lead, width, self.hyperparameter("units")))
        self.optimizer_used = self.descent(keras.optimizers.Adam, [self.kernel])
        self.measure("loss")

    @property
    def optimizers(self):
        return (self.optimizer_used,)

    def prepare(self):
        self.set_rate(self.optimizer_used, "learning_rate")

    def recipe(self):
        return Phase("pretraining", 1), Phase("main", self.hyperparameter("cycles"))

    def distance(self, x):
        return tf.reduce_mean((x - self.there_and_back(x)) ** 2, axis=-1)

    def there_and_back(self, x):
        return tf.matmul(x @ self.kernel, self.kernel, transpose_b=True)

    def train_step(self, batch):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.distance(batch["features"]), -1)
            together = tf.reduce_sum(loss)
        self.optimizer_used.minimize(together, [self.kernel], tape)
        self.clock.assign_add(1)
        return self.record(loss=loss)

    def test_step(self, batch):
        return self.record(loss=tf.reduce_mean(self.distance(batch["features"]), -1))

    def infer(self, features):
        x = self.scaler(features)
        reconstruction = self.scaler.inverse(self.there_and_back(x))
        return {"distance": self.distance(x), "reconstructed": reconstruction}

    @classmethod
    def search_space(cls, hp):
        return {
            "units": hp.Choice("units", [1, 2, 3, 4, 5, 6]),
            "learning_rate": hp.Float("learning_rate", 1e-3, 1e-1, sampling="log"),
        }


@contextlib.contextmanager
def registered():
    """Have the model in the zoo as "linear" for a while; gives what patches other things for as long."""
    zoo.names()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(registry, "_models", dict(registry._models))
        registry.register("linear")(Linear)
        yield patched
