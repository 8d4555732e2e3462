"""A model that is quick to trace, for tests of what happens around a model."""

import contextlib
import dataclasses

import pytest
import tensorflow as tf

import zoo
from zoo import registry
from zoo.base import COUNT, POSITIVE, EventHyperparameters, Phase, hyperparameter


class Linear(zoo.AnomalyModel):
    """One matrix there and back, its optimizer with a memory, after a pre-training.

    That is all that a search can get wrong: weights, optimizer state, phases, a runtime hyperparameter and a shape.
    """

    score_kinds = ("distance",)

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(EventHyperparameters):
        columns: tuple = hyperparameter(("pt_*", "mass_*", "e_*"))
        units: int = hyperparameter(2, "columns of the matrix", COUNT)
        learning_rate: float = hyperparameter(0.01, "of Adam", POSITIVE, runtime=True)
        cycles: int = hyperparameter(3, "epochs", COUNT)
        batch_size: int = hyperparameter(128)

    def make(self, width):
        self.kernel = self.add_weight("kernel", (*self.member_shape, width, self.hp.units))

    def recipe(self):
        return Phase("pretraining", 1), Phase("main", self.hp.cycles)

    def distance(self, x):
        return tf.reduce_mean((x - self.there_and_back(x)) ** 2, axis=-1)

    def there_and_back(self, x):
        return tf.matmul(x @ self.kernel, self.kernel, transpose_b=True)

    def losses(self, batch, seed, training):
        return {"loss": tf.reduce_mean(self.distance(batch["features"]), -1)}

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
