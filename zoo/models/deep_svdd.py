"""Deep SVDD: one-class classification by the distance from a centre.

L. Ruff et al., "Deep One-Class Classification", ICML 2018 (PMLR 80, 4393), called the paper here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from zoo.base import COUNT, NOT_NEGATIVE, POSITIVE, UNITS, AnomalyModel, EventHyperparameters, hyperparameter
from zoo.layers.dense import MLP, leaky_relu
from zoo.registry import register

SLOPE = 0.1  # of the leaky ReLU (sec. 4.2 of the paper)
SMALLEST = 0.1  # |c| in every dimension: a network without biases reaches zero by forgetting its input


@register("deep_svdd")
class DeepSVDD(AnomalyModel):
    """Deep support vector data description: events far from the centre of ordinary ones are anomalous (Ruff et al. 2018).

    A network phi without biases maps every event to a point. Training minimises, over batches of B events,

        1/B sum_i w_i |phi(x_i) - c|^2 + weight_decay/2 sum_l |W_l|^2

    which is eq. 4 of the paper. The centre c is the mean of phi over the training events, by the untrained network; a
    coordinate of it nearer to 0 than 0.1 is moved to 0.1, with its sign. The score is |phi(x) - c|^2 (eq. 5).

    The network has no biases and no bounded activation: with either, phi could be c for every event (propositions 2, 3).

    Raises `InputError` naming a hyperparameter out of range.

    Example:
        >>> import zoo
        >>> zoo.get("deep_svdd", latent_dim=4).get_config()["units"]
        (64, 32)
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(EventHyperparameters):
        units: Sequence[int] = hyperparameter((64, 32), "widths of the hidden layers", UNITS, resizable=True)
        latent_dim: int = hyperparameter(8, "dimensions of the points phi(x)", UNITS)
        weight_decay: float = hyperparameter(1e-6, "see above", NOT_NEGATIVE, runtime=True)
        learning_rate: float = hyperparameter(1e-3, "of Adam", POSITIVE, runtime=True)
        epochs: int = hyperparameter(20, "passes through the events", COUNT)

    hp: Hyperparameters

    presets = {
        "ruff2018": {"units": (128, 64), "latent_dim": 32, "learning_rate": 1e-4, "epochs": 150, "batch_size": 200}
    }
    score_kinds = ("distance",)
    figures = ("roc",)
    reconstructs = False
    any_batch_size = True
    searched_by_xla = False
    step_knows_scaling = False

    def make(self, width):
        widths = (*self.hp.units, self.hp.latent_dim)
        self.network = MLP(widths, _activation, member_shape=self.member_shape, use_bias=False, inputs=width)
        self.center = self.add_weight("center", (*self.member_shape, self.hp.latent_dim), trainable=False)
        self.create_metrics("loss", "distance")

    def on_phase_begin(self, phase):
        """Put the centre where the untrained network has the training events on average."""
        c = self.results(self.trainer.data, ["latent"])["latent"].mean(axis=-2)
        self.center.assign(np.where(np.abs(c) < SMALLEST, np.copysign(SMALLEST, c), c))

    def losses(self, batch, seed, training):
        decay = tf.add_n([tf.reduce_sum(tf.square(kernel), (-2, -1)) for kernel in self.network.kernels])
        distance = tf.reduce_mean(batch["weight"] * self.distance(self.network(batch["features"])), -1)
        return {"loss": distance + self.runtime.weight_decay / 2 * decay, "distance": distance}

    def distance(self, point):
        """Return |point - c|^2, (B,) or (K, B), of points (B, D) or (K, B, D)."""
        return tf.reduce_sum(tf.square(point - self.center[..., None, :]), -1)

    def infer(self, features):
        point = self.network(self.scaler(features))
        return {"distance": self.distance(point), "latent": point}

    @classmethod
    def search_space(cls, hp):
        first = hp.Int("units_0", 16, 128, sampling="log")
        return {
            "units": (first, max(first // 2, 1)),
            "latent_dim": hp.Int("latent_dim", 1, 32, sampling="log"),
            "weight_decay": hp.Float("weight_decay", 1e-7, 1e-3, sampling="log"),
            "learning_rate": hp.Float("learning_rate", 1e-4, 1e-2, sampling="log"),
            "scaling": hp.Choice("scaling", ["standard", "minmax", "quantile"]),
        }


def _activation(x):
    return leaky_relu(x, SLOPE)
