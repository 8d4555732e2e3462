"""Principal components: the part of an event that the leading components of ordinary events do not explain.

M.-L. Shyu et al., "A novel anomaly detection scheme based on principal component classifier", ICDM 2003, is the idea; the
score is the reconstruction error, that of a linear auto-encoder (P. Baldi, K. Hornik, Neural Networks 2 (1989) 53).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from pipelines.errors import InputError
from zoo.base import UNITS, hyperparameter
from zoo.losses import mean_squared_error
from zoo.models.closed_form import ClosedForm, SampleHyperparameters
from zoo.registry import register


@register("pca")
class PCA(ClosedForm):
    """Principal component analysis: what the leading components of ordinary events do not explain is anomalous.

    With mu the weighted mean of scaled events and V the `latent_dim` eigenvectors of largest eigenvalue of their weighted
    covariance, the score of an event x with F features is

        mse(x) = |x - x'|^2 / F,   x' = mu + V V^T (x - mu)

    which is the best that any linear auto-encoder can do (Baldi and Hornik 1989): what an auto-encoder gains on it, it
    gains by not being linear. There is nothing to train: it takes a second. With K > 1 members and more events than
    `sample`, each member has another sample.

    Raises `InputError` naming a hyperparameter out of range, or if there are no more features than `latent_dim`.

    Example:
        >>> import pipelines, zoo
        >>> model, events = zoo.get("pca", latent_dim=6), pipelines.open("lhco_sim_train").sample(2000)
        >>> history = model.fit(events, verbose=0, jit_compile=False)
        >>> model.score(events).shape
        (2000,)
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(SampleHyperparameters):
        latent_dim: int = hyperparameter(4, "components that are kept", UNITS)

    hp: Hyperparameters

    score_kinds = ("mse",)
    figures = ("errors", "observables", "roc", "scan")
    reconstructs = True

    def taken_from(self, events):
        """As `AnomalyModel.taken_from`; raises `InputError` too for as many components as there are features."""
        inputs = super().taken_from(events)
        width = len(inputs.columns)
        if self.hp.latent_dim >= width:
            raise InputError(
                f"latent_dim={self.hp.latent_dim} is not possible for {width} features, which that many components "
                f"explain in full; expected at most {width - 1}"
            )
        return inputs

    def make(self, width):
        self.mean = self.learnt_weight("mean", (width,))
        self.components = self.learnt_weight("components", (width, self.hp.latent_dim))

    def learn(self, x, weight, seed):
        x, weight = x.astype(np.float64), weight.astype(np.float64) / weight.sum(dtype=np.float64)
        mean = weight @ x
        covariance = (x - mean).T @ (weight[:, None] * (x - mean))
        leading = np.linalg.eigh(covariance)[1][:, ::-1][:, : self.hp.latent_dim]
        largest = np.take_along_axis(leading, np.abs(leading).argmax(axis=0)[None], axis=0)
        return {"mean": mean, "components": leading * np.sign(largest)}  # whose sign is not defined otherwise

    def encode(self, x: tf.Tensor) -> tf.Tensor:
        """Return the components (B, D) or (K, B, D) of scaled events (B, F)."""
        return (x - self.mean[..., None, :]) @ self.components

    def decode(self, z: tf.Tensor) -> tf.Tensor:
        """Return scaled events (B, F) or (K, B, F) of components."""
        return self.mean[..., None, :] + tf.matmul(z, self.components, transpose_b=True)

    def scores(self, x):
        return mean_squared_error(x, self.decode(self.encode(x)))

    def infer(self, features):
        x = self.scaler(features)
        z = self.encode(x)
        found = self.decode(z)
        return {"mse": mean_squared_error(x, found), "reconstructed": self.scaler.inverse(found), "latent": z}

    @classmethod
    def search_space(cls, hp):
        return {
            "latent_dim": hp.Int("latent_dim", 1, 4),
            "scaling": hp.Choice("scaling", ["standard", "minmax", "maxabs", "quantile"]),
            "sample": hp.Choice("sample", [1_000, 10_000, 100_000]),
        }
