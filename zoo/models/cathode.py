"""CATHODE: a density learnt in the side bands, sampled in the window, and a classifier of the data against the samples.

A. Hallin et al., "Classifying anomalies through outer density estimation", Phys. Rev. D 106 (2022) 055006
(arXiv:2109.00546), called the paper here.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from zoo.base import COUNT, POSITIVE, UNITS, Limit, Phase, Task, hyperparameter
from zoo.keras import keras
from zoo.layers.flows import AutoregressiveFlows
from zoo.layers.random import normal
from zoo.models.cwola import CWoLa
from zoo.registry import register

EDGE = 1e-4  # nearest to 0 and 1 that a scaled feature may be: its logit is 9.2 there
KNOTS = 101  # quantiles of the masses in the window
SAMPLES = 1_000  # which random numbers of a step are the samples': no dropout has as many


@register("cathode")
class CATHODE(CWoLa):
    """A classifier of a window's events against samples of a density learnt beside it (Hallin et al. 2021).

    Features, scaled to 0 to 1, become v = (logit(x) - mean) / std. A masked autoregressive flow f, conditioned on the mass,
    learns their density in the side bands by maximum likelihood,

        ln p(v | m) = ln N(f(v; m)) + ln |det df/dv|

    and is sampled in the window, v = f^-1(z; m) with z from N(0, 1) and m distributed as the masses there. The classifier,
    that of `cwola`, compares events of the window with samples, in place of events of the side bands: features may depend
    on the mass, if they do so smoothly. New samples are drawn at every step, as many as there are events in the side bands.

    The score `probability` is the output of the network that has not seen the event; `nll` in the history of the phase
    `density` is the mean of -ln p in the side bands, and `held_out` is that of `cwola`.

    Raises `InputError` as `cwola` does.

    Example:
        >>> import zoo
        >>> [phase.name for phase in zoo.get("cathode", window=(3300, 3700)).recipe()]
        ['density', 'training']
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(CWoLa.Hyperparameters):
        scaling: str = hyperparameter("minmax", "of the features, to 0 to 1", Limit(choices=("minmax", "quantile")))
        num_flows: int = hyperparameter(5, "flows in a row", COUNT)
        flow_width: int = hyperparameter(64, "units of the two hidden layers of a flow", UNITS)
        density_learning_rate: float = hyperparameter(1e-3, "of Adam, for the flow", POSITIVE, runtime=True)
        density_epochs: int = hyperparameter(30, "passes through the events, for the flow", COUNT)

    hp: Hyperparameters

    presets = {
        "hallin2021": {
            "units": (64, 64, 64), "batch_size": 256, "dropout_rate": 0.0, "epochs": 100, "members": 10, "num_flows": 15,
            "flow_width": 128, "density_learning_rate": 1e-4, "density_epochs": 100,
        }
    }  # fmt: skip
    stochastic = True
    recorded = ("nll", "loss", "held_out")

    def make(self, width):
        super().make(width)
        self.flow = AutoregressiveFlows(
            self.hp.num_flows, width, width=max(width, self.hp.flow_width), members=self.members, seed=self.hp.seed
        )
        self.flow.build((None, 1))
        fixed = {"trainable": False, "initializer": "zeros"}
        self.shift = self.add_weight("shift", (width,), **fixed)
        self.scale = self.add_weight("scale", (width,), trainable=False, initializer="ones")
        self.masses = self.add_weight("masses", (KNOTS,), **fixed)

    def recipe(self):
        return (
            Phase("density", self.hp.density_epochs, program="density"),
            Phase("training", self.hp.epochs, program="training", main=True),
        )

    def tasks(self):
        adam = keras.optimizers.Adam
        weights, networks = self.flow.trainable_weights, self.network.trainable_weights
        flow = self.make_optimizer(adam, weights, "density_learning_rate")
        return {
            "density": Task(self.density_losses, flow, weights, minimise="nll"),
            "training": Task(self.losses, self.make_optimizer(adam, networks), networks),
        }

    def on_phase_begin(self, phase):
        """Before training, find mean and spread of the scaled side-band features, and the masses in the window."""
        if phase.name != "density":
            return
        events, count, total, squares, masses = self.selected(self.trainer.data), 0, 0.0, 0.0, []
        for block in events.blocks("features", "mass", columns=self.resolved_columns):
            masses.append(block["mass"][self.regions.inside(block["mass"])])
            v = (
                self._logit(tf.constant(block["features"]))
                .numpy()[self.regions.beside(block["mass"])]
                .astype(np.float64)
            )
            count, total, squares = count + len(v), total + v.sum(0), squares + (v**2).sum(0)
        spread = np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0.0))
        self.shift.assign(total / count)
        self.scale.assign(np.where(spread > 0, spread, 1.0))
        self.masses.assign(np.quantile(np.concatenate(masses), np.linspace(0, 1, KNOTS)))

    def _logit(self, features: tf.Tensor) -> tf.Tensor:
        share = tf.clip_by_value(self.scaler(features), EDGE, 1.0 - EDGE)
        return tf.math.log(share) - tf.math.log1p(-share)

    def scaled(self, features):
        return (self._logit(features) - self.shift) / self.scale

    def condition(self, mass: tf.Tensor) -> tf.Tensor:
        """Return the flow's condition (..., B, 1) for masses (..., B) in GeV: asinh t, t = 0, +-1 at the window's centre and edges.

        More functions of the mass, such as t^2, fit the side bands no better and the window between them worse.
        """
        low, high = self.hp.window
        return tf.asinh((mass - (low + high) / 2) / ((high - low) / 2))[..., None]

    def log_prob(self, features: tf.Tensor, mass: tf.Tensor) -> tf.Tensor:
        """Return ln p(v | m), (B,) or (K, B), of features (B, F) in physical units at masses (B,) in GeV."""
        v = self.scaled(features)
        v = tf.broadcast_to(v, (*self.member_shape, *v.shape)) if self.member_shape and v.shape[0] else v
        z, log_det = self.flow(self.condition(mass), v)
        width = len(self.resolved_columns)
        return log_det - 0.5 * tf.reduce_sum(tf.square(z), -1) - 0.5 * width * np.log(2 * np.pi).astype(np.float32)

    def draw(self, size: int, seed: tf.Tensor) -> tf.Tensor:
        """Return samples (size, F) or (K, size, F) of the density in the window, in the networks' units."""
        width = len(self.resolved_columns)
        place = 0.5 * (1.0 + tf.math.erf(normal((size, 1), seed, SAMPLES)[..., 0] / np.sqrt(2).astype(np.float32)))
        place = tf.clip_by_value(place, 0.0, 1.0 - 1e-6) * (KNOTS - 1)
        left = tf.cast(place, tf.int32)
        knots = tf.convert_to_tensor(self.masses)
        low, high = tf.gather(knots, left), tf.gather(knots, left + 1)
        v = normal((size, width), seed, SAMPLES + 1)
        for flow in reversed(
            self.flow.bijectors(self.condition(low + (place - tf.cast(left, place.dtype)) * (high - low)))
        ):
            v = flow.inverse(v)
        return tf.stop_gradient(v)

    def density_losses(self, batch, seed, training):
        weight = tf.where(self.first(batch["mass"]), 0.0, batch["weight"])
        log_prob = self.log_prob(batch["features"], batch["mass"])
        return {"nll": -tf.math.divide_no_nan(tf.reduce_sum(weight * log_prob, -1), tf.reduce_sum(weight))}

    def losses(self, batch, seed, training):
        v = self.scaled(batch["features"])
        compared = tf.where(self.first(batch["mass"])[:, None], v, self.draw(v.shape[0], seed))
        if self.member_shape:  # whose samples differ
            compared = tf.repeat(compared[:, None], self.hp.folds, axis=1)
        return self.compared(batch, self.logits(compared, seed if training else None))

    @classmethod
    def search_space(cls, hp):
        space = cls.classifier_space(hp)
        return {
            **space,
            "scaling": hp.Choice("scaling", ["minmax", "quantile"]),
            "num_flows": hp.Int("num_flows", 2, 10),
            "flow_width": hp.Int("flow_width", 32, 128, sampling="log"),
            "density_learning_rate": hp.Float("density_learning_rate", 1e-4, 3e-3, sampling="log"),
        }
