"""What models share that learn the density of background in the side bands, conditional on the mass."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.events.statistics import masses_of
from zoo.base import COUNT, POSITIVE, UNITS, Limit, Phase, Task, hyperparameter
from zoo.keras import keras
from zoo.layers.flows import AutoregressiveFlows, SplineFlows
from zoo.layers.flows.layers import BINS
from zoo.layers.random import normal
from zoo.models.window_model import SidebandModel
from zoo.windows import FEWEST, SidebandHyperparameters

EDGE = 1e-4  # where the ends of a scaled feature, 0 and 1, are moved before the logit, which is 9.2 there
KNOTS = 101  # quantiles of the masses in the window
SAMPLES = 1_000  # which random numbers of a step are the samples': no dropout has as many
SPREAD = 0.3  # of masses, relative to the window's centre, which is of order 1 for the flow
RECENT = 8.0  # the averaged weights are those of about the last 1 / (RECENT + 1) of the steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class DensityHyperparameters(SidebandHyperparameters):
    """What every model has that learns a density in the side bands."""

    scaling: str = hyperparameter("minmax", "of the features, to 0 to 1", Limit(choices=("minmax", "quantile")))
    flow: str = hyperparameter(
        "affine", "autoregressive steps of the flow: affine, or splines", Limit(choices=("affine", "spline"))
    )
    bins: int = hyperparameter(8, "of a spline", BINS)
    num_flows: int = hyperparameter(5, "flows in a row", COUNT)
    flow_width: int = hyperparameter(64, "units of the two hidden layers of a flow", UNITS)
    density_learning_rate: float = hyperparameter(1e-3, "of Adam, for the flow", POSITIVE, runtime=True)
    density_epochs: int = hyperparameter(30, "passes through the events, for the flow", COUNT)


class SidebandDensity(SidebandModel):
    """A model with a flow of the features, conditional on the mass, that is trained in the side bands; see `zoo.models.cathode`.

    The phase `density` trains it. The weights of the last step jump about. What remains is their average over the
    latest steps, w_t' = w_{t-1}' + (RECENT + 1) / (t + RECENT) (w_t - w_{t-1}') (Shamir and Zhang 2013,
    arXiv:1212.1824, sec. 4); the authors of CATHODE average over the ten best epochs.

    Raises `InputError` for events with weights below 0: those of a batch may add up to nothing, and a density that is negative
    somewhere has no logarithm.
    """

    has_template = True
    scores_unseen = False  # the density has seen the side bands

    def check_enough(self, events):
        super().check_enough(events)
        lowest, inside, beside = 0.0, 0, 0
        for mass, weight in masses_of(events).blocks():
            lowest = min(lowest, weight[self.selects(mass)].min(initial=0.0))
            inside += np.count_nonzero(weight[self.regions.inside(mass)])
            beside += np.count_nonzero(weight[self.regions.beside(mass)])
        if lowest < 0:
            raise InputError(
                f"{events.name}: weight {lowest:g}; a density cannot be learnt of events with weights below 0, as some "
                f"generators give them: convert without weights"
            )
        for where, count in {"in the window": inside, "in its side bands": beside}.items():
            if count < FEWEST:
                raise InputError(
                    f"{events.name}: {count} events {where} have a weight other than 0, expected at least {FEWEST}; "
                    f"convert without weights, or move the window"
                )

    def make_density(self, width: int) -> None:
        """Create the flow of `width` features, and what is known of the side bands and the window."""
        self.flow = self.new_flow(width)
        fixed = {"trainable": False, "initializer": "zeros"}
        self.shift = self.add_weight("shift", (width,), **fixed)
        self.scale = self.add_weight("scale", (width,), trainable=False, initializer="ones")
        self.masses = self.add_weight("masses", (KNOTS,), **fixed)
        self.averages = [
            self.add_weight(f"average{i}", weight.shape, **fixed)
            for i, weight in enumerate(self.flow.trainable_weights)
        ]

    def new_flow(
        self, width: int, kind: str | None = None, num_flows: int | None = None, units: int | None = None
    ) -> AutoregressiveFlows:
        """Return a flow of `width` features that is told the mass.

        Args:
            width: features.
            kind: "affine" or "spline". num_flows: in a row. units: of the hidden layers. By default those of the density.
        """
        hp: Any = self.hp
        kind, num_flows, units = kind or hp.flow, num_flows or hp.num_flows, units or hp.flow_width
        options: dict[str, Any] = {"width": max(width, units), "members": self.members, "seed": hp.seed}
        if kind == "spline":
            flow = SplineFlows(num_flows, width, bins=hp.bins, **options)
        else:
            flow = AutoregressiveFlows(num_flows, width, **options)
        flow.build((None, 1))
        return flow

    def density_phase(self) -> Phase:
        """Return the phase that trains the flow."""
        hp: Any = self.hp
        return Phase("density", hp.density_epochs, program="density")

    def density_task(self) -> Task:
        """Return what trains the flow."""
        weights = self.flow.trainable_weights
        optimizer = self.make_optimizer(keras.optimizers.Adam, weights, "density_learning_rate")
        return Task(self.density_losses, optimizer, weights, minimise="nll")

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch):
        """Do one step; of the density, average its weights too."""
        if self.trainer.phase != "density":
            return super().train_step(batch)
        shown = super().train_step(batch)
        share = (RECENT + 1.0) / (tf.cast(self.trainer.steps_done(), tf.float32) + RECENT)
        for average, weight in zip(self.averages, self.flow.trainable_weights):
            average.assign_add(share * (weight - average))
        return shown

    def on_phase_begin(self, phase):
        """Take mean and spread of the scaled features beside the window, and the masses in it, by weight, before anything is learnt."""
        super().on_phase_begin(phase)
        if phase.name != "density":
            return
        for average in self.averages:  # what a reset model has of its last training would come back by rounding
            average.assign(tf.zeros_like(average))
        data: Any = self.trainer.data
        events, count, total, squares, masses, weights = self.selected(data), 0.0, 0.0, 0.0, [], []
        fields = ("features", "mass", *(("weight",) if events.has("weight") else ()))
        for block in events.blocks(*fields, columns=self.resolved_columns):
            weight = np.asarray(block.get("weight", np.ones(len(block["mass"]))), np.float64)
            inside, beside = self.regions.inside(block["mass"]), self.regions.beside(block["mass"])
            masses.append(block["mass"][inside])
            weights.append(weight[inside])
            v = self._logit(tf.constant(block["features"])).numpy()[beside].astype(np.float64)
            w = weight[beside, None]
            count, total, squares = count + w.sum(), total + (w * v).sum(0), squares + (w * v**2).sum(0)
        spread = np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0.0))
        self.shift.assign(total / count)
        self.scale.assign(np.where(spread > 0, spread, 1.0))
        self.masses.assign(_quantiles(np.concatenate(masses), np.concatenate(weights), np.linspace(0, 1, KNOTS)))

    def on_phase_end(self, phase, data):
        """Keep the averaged weights of the density."""
        super().on_phase_end(phase, data)
        if phase.name == "density":
            for average, weight in zip(self.averages, self.flow.trainable_weights):
                weight.assign(average)

    def _logit(self, features: tf.Tensor) -> tf.Tensor:
        share = EDGE + (1.0 - 2.0 * EDGE) * tf.clip_by_value(self.scaler(features), 0.0, 1.0)
        return tf.math.log(share) - tf.math.log1p(-share)

    def scaled(self, features: tf.Tensor) -> tf.Tensor:
        """Return v = (logit(x) - mean) / std of features (B, F) in physical units."""
        return (self._logit(features) - self.shift) / self.scale

    def physical(self, v: tf.Tensor) -> tf.Tensor:
        """Return features in physical units of v (B, F): the inverse of `scaled`."""
        return self.scaler.inverse((tf.sigmoid(v * self.scale + self.shift) - EDGE) / (1.0 - 2.0 * EDGE))

    def condition(self, mass: tf.Tensor) -> tf.Tensor:
        """Return what the flow is told of masses (..., B) in GeV, (..., B, 1): (m - c) / (SPREAD c), c the window's centre.

        That is linear in the mass, so the window takes no more of its range than of the masses'. The flow has no events there,
        and the wider the gap, the worse it is interpolated.
        """
        centre = (self.regions.low + self.regions.high) / 2
        return ((mass - centre) / (SPREAD * centre))[..., None]

    def latent(self, flow: AutoregressiveFlows, v: tf.Tensor, mass: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return z = f(v; m), (B, F) or (K, B, F), of v (B, F) at masses (B,) in GeV, and ln |det df/dv|."""
        if self.member_shape:
            v = tf.broadcast_to(v, tf.concat([self.member_shape, tf.shape(v)], 0))
        return flow(self.condition(mass), v)

    def log_prob_of(self, flow: AutoregressiveFlows, v: tf.Tensor, mass: tf.Tensor) -> tf.Tensor:
        """Return ln p(v | m) of a flow, (B,) or (K, B), of v (B, F) at masses (B,) in GeV."""
        z, log_det = self.latent(flow, v, mass)
        width = len(self.resolved_columns)
        return log_det - 0.5 * tf.reduce_sum(tf.square(z), -1) - 0.5 * width * np.log(2 * np.pi).astype(np.float32)

    def log_prob(self, features: tf.Tensor, mass: tf.Tensor) -> tf.Tensor:
        """Return ln p(v | m), (B,) or (K, B), of features (B, F) in physical units at masses (B,) in GeV."""
        return self.log_prob_of(self.flow, self.scaled(features), mass)

    def draw(self, size: int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return samples v (size, F) or (K, size, F) of the density in the window, and their masses in GeV."""
        width = len(self.resolved_columns)
        place = 0.5 * (1.0 + tf.math.erf(normal((size, 1), seed, SAMPLES)[..., 0] / np.sqrt(2).astype(np.float32)))
        place = tf.clip_by_value(place, 0.0, 1.0 - 1e-6) * (KNOTS - 1)
        left = tf.cast(place, tf.int32)
        knots = tf.convert_to_tensor(self.masses)
        low, high = tf.gather(knots, left), tf.gather(knots, left + 1)
        mass = low + (place - tf.cast(left, place.dtype)) * (high - low)
        v = normal((size, width), seed, SAMPLES + 1)
        for flow in reversed(self.flow.bijectors(self.condition(mass))):
            v = flow.inverse(v)
        return tf.stop_gradient(v), mass

    def template(self, size: int, seed: int = 0) -> Events:
        """Return events (size,) of background in the window, drawn from the density; of K members size / K from each.

        Example:
            `model.score(model.template(100_000))` are scores of background that nobody was trained on.
        """
        each = -(-size // self.members)
        # the seeds of training steps are at least those of the members; these are below 0
        seeds = -1 - tf.range(self.members, dtype=tf.int64) - self.members * tf.constant(seed, tf.int64)
        v, mass = self.draw(each, seeds if self.member_shape else seeds[0])
        features = self.physical(tf.reshape(v, (-1, v.shape[-1]))).numpy()
        masses = tf.reshape(mass, (-1,)).numpy()
        return Events.from_arrays(features[:size], masses[:size], self.resolved_columns)

    def density_losses(self, batch, seed, training):
        """Return the mean of -ln p over the events of a batch in the side bands, `nll`."""
        weight = tf.where(self.regions.inside(batch["mass"]), 0.0, batch["weight"])
        log_prob = self.log_prob(batch["features"], batch["mass"])
        return {"nll": -tf.math.divide_no_nan(tf.reduce_sum(weight * log_prob, -1), tf.reduce_sum(weight))}

    @classmethod
    def density_space(cls, hp) -> dict[str, object]:
        """Return hyperparameters of the density drawn from the KerasTuner object `hp`."""
        flow = hp.Choice("flow", ["affine", "spline"])
        with hp.conditional_scope("flow", ["spline"]):
            bins = hp.Int("bins", 4, 16, sampling="log")
        return {
            "flow": flow,
            **({} if bins is None else {"bins": bins}),
            "scaling": hp.Choice("scaling", ["minmax", "quantile"]),
            "num_flows": hp.Int("num_flows", 2, 10),
            "flow_width": hp.Int("flow_width", 32, 128, sampling="log"),
            "density_learning_rate": hp.Float("density_learning_rate", 1e-4, 3e-3, sampling="log"),
        }


def _quantiles(values: np.ndarray, weight: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return quantiles of values (N,) with weights (N,) >= 0: linear between the middles of the weights, which are 0 and 1 at the ends.

    >>> print(_quantiles(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 1.0]), np.array([0.0, 0.25, 1.0])))
    [1.  1.5 3. ]
    """
    if not np.ptp(weight):
        return np.asarray(np.quantile(values, shares))
    order = np.argsort(values, kind="stable")
    order = order[weight[order] > 0]
    middle = weight[order].cumsum() - weight[order] / 2
    return np.interp(shares, (middle - middle[0]) / (middle[-1] - middle[0]), values[order])
