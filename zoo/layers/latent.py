"""The latent space of a variational auto-encoder: a Gaussian for every event, and a normalizing flow behind it if wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from zoo.ensemble import leading
from zoo.hyperparameters import UNITS, Limit
from zoo.keras import keras
from zoo.layers.random import normal

# names of `zoo.layers.flows.FLOWS`, told here so that a model without a flow imports no TensorFlow Probability
FLOW = Limit(choices=(None, "planar", "orthogonal", "householder", "triangular", "iaf", "convolutional"))
FLOWS_IN_A_ROW = Limit(1, 256, whole=True)
PAIRS = 16  # of fixed numbers that `divergence` averages over, at least


class Latent(keras.layers.Layer):
    """q(z|x): z0 from N(mean, exp(log_var)), sent through a flow f whose parameters the encoder's h may give; zK = f(z0).

    The divergence of q(zK|x) from the prior p = N(0, 1) is (Rezende & Mohamed 2015, eq. 15)

        KL = E[log q0(z0) - log |det df/dz0| - log p(zK)]
           = E[1/2 sum_l (zK_l^2 - eps_l^2 - log_var_l) - log |det df/dz0|],    z0 = mean + exp(log_var / 2) eps

    Without a flow zK = z0 and it is known, 1/2 sum_l (mean_l^2 + exp(log_var_l) - 1 - log_var_l). With one, `draw` takes
    what is in the brackets for the number that it has drawn, `divergence` its mean over fixed numbers.

    Shapes: mean, log_var and z (..., B, D), h (..., B, H), divergences (..., B); K members of a group have an axis K in
    front, in the place of the dots.

    Args:
        latent_dim: D.
        flow: name of a flow (see `zoo.layers.flows`) or None.
        num_flows: flows in a row, >= 1.
        members: K.
        options: of the flow, as for `zoo.layers.flows.make`.

    Raises `InputError` naming an argument out of range.

    >>> latent = Latent(2, flow="householder", num_flows=3)
    >>> latent.build((None, 64))
    >>> mean, log_var, h = tf.zeros((5, 2)), tf.zeros((5, 2)), tf.ones((5, 64))
    >>> z, kl = latent.draw(mean, log_var, h, seeds=tf.constant(0))
    >>> z.shape, kl.shape, latent.divergence(mean, log_var, h).shape
    (TensorShape([5, 2]), TensorShape([5]), TensorShape([5]))
    """

    def __init__(self, latent_dim: int, flow: str | None = None, num_flows: int = 6, *, members: int = 1, **options):
        super().__init__()
        UNITS.check("latent_dim", latent_dim)
        FLOW.check("flow", flow)
        FLOWS_IN_A_ROW.check("num_flows", num_flows)
        self.member_shape, self.flow = leading(members), None
        if flow is not None:
            from zoo.layers import flows  # here, as TensorFlow Probability takes seconds to import

            self.flow = flows.make(flow, num_flows, latent_dim, members=members, **options)
            self.numbers = balanced_normal(latent_dim)

    def build(self, shape):
        """Create the flow's weights for h of this shape (..., H)."""
        if self.flow is not None:
            self.flow.build(shape)
        super().build(shape)

    def forward(self, h: tf.Tensor, z0: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return zK = f(z0) and log |det df/dz0| (..., B): without a flow z0 itself, and zeros."""
        return (z0, tf.zeros_like(z0[..., 0])) if self.flow is None else self.flow.call(h, z0)

    def draw(
        self, mean: tf.Tensor, log_var: tf.Tensor, h: tf.Tensor, seeds: tf.Tensor, use: int = 0
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return a number zK drawn for every event, and its KL: for training.

        Args:
            seeds, use: of the random numbers, as for `zoo.layers.random.normal`.
        """
        noise = normal(tf.shape(mean)[-2:], seeds, use)
        z0 = mean + tf.exp(log_var / 2.0) * noise
        if self.flow is None:
            return z0, gaussian_kl(mean, log_var)
        z, log_det = self.flow.call(h, z0)
        return z, _integrand(z, noise, log_var, log_det)

    def divergence(self, mean: tf.Tensor, log_var: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
        """Return the KL of every event, a function of the event alone: for scores.

        With a flow it is the mean over the same numbers eps, `balanced_normal`, for all events: exact for a flow that is
        affine, so also for one that does nothing. What is in the brackets at z0 = mean alone would not do for a score:
        without a flow it is 1/2 sum_l (mean_l^2 - log_var_l), with nothing that punishes a wide q, and below zero.
        """
        if self.flow is None:
            return gaussian_kl(mean, log_var)
        bijectors, width = self.flow.bijectors(h), tf.exp(log_var / 2.0)

        def add(total, noise):
            z, log_det = self.flow.through(bijectors, mean + width * noise)
            return total + _integrand(z, noise, log_var, log_det)

        # one number after the other, so that memory does not grow with how many there are
        total = tf.foldl(add, tf.constant(self.numbers, mean.dtype), tf.zeros_like(mean[..., 0]))
        return total / len(self.numbers)


def search_flow(hp, names: Sequence[str]) -> dict[str, object]:
    """Return `flow` and `num_flows` drawn from the KerasTuner object `hp`; nothing, which is no flow, among the choices."""
    flow = hp.Choice("flow", ["none", *names])  # KerasTuner knows no None
    with hp.conditional_scope("flow", list(names)):
        num_flows = hp.Choice("num_flows", [2, 6])  # None if there is no flow, or one that is not searched
    return ({} if flow == "none" else {"flow": flow}) | ({"num_flows": num_flows} if num_flows else {})


def gaussian_kl(mean: tf.Tensor, log_var: tf.Tensor) -> tf.Tensor:
    """Divergence of N(mean, exp(log_var)) from N(0, 1), summed over the last axis (Kingma & Welling 2014, appendix B).

    >>> float(gaussian_kl(tf.ones((1, 3)), tf.zeros((1, 3)))[0])
    1.5
    """
    return 0.5 * tf.reduce_sum(tf.square(mean) + tf.exp(log_var) - 1.0 - log_var, -1)


def balanced_normal(latent_dim: int) -> np.ndarray:
    """Return fixed numbers (2 pairs, D), as if from N(0, 1), whose mean is exactly 0 and whose covariance exactly 1.

    They are pairs of numbers of opposite sign, as many as `PAIRS` and at least 2 D, made by `zoo.layers.random.normal`
    from a seed that never changes. Orthonormal columns are made of them, so that every polynomial of second degree has
    its exact mean.

    >>> numbers = balanced_normal(15)
    >>> numbers.shape, bool(np.allclose(numbers.T @ numbers / len(numbers), np.eye(15), atol=1e-6))
    ((60, 15), True)
    """
    pairs = max(PAIRS, 2 * latent_dim)
    drawn = normal((pairs, latent_dim), tf.constant(0), use=0).numpy().astype(float)
    q, r = np.linalg.qr(drawn)
    half = np.sqrt(pairs) * q * np.sign(np.diag(r))
    return np.concatenate([half, -half]).astype(np.float32)


def _integrand(z, noise, log_var, log_det):
    """log q0(z0) - log |det| - log p(zK), of which KL is the mean."""
    return 0.5 * tf.reduce_sum(tf.square(z) - tf.square(noise) - log_var, -1) - log_det
