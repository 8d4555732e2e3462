"""CATHODE: a density learnt in the side bands, sampled in the window, and a classifier of the data against the samples.

A. Hallin et al., "Classifying anomalies through outer density estimation", Phys. Rev. D 106 (2022) 055006
(arXiv:2109.00546), called the paper here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from zoo.base import POSITIVE, Task, hyperparameter
from zoo.keras import keras
from zoo.models.cwola import CWoLa
from zoo.models.sideband_density import DensityHyperparameters, SidebandDensity
from zoo.models.window_classifier import COLUMNS, CONSTANT
from zoo.registry import register


@register("cathode")
class CATHODE(SidebandDensity, CWoLa):
    """A classifier of a window's events against samples of a density learnt beside it (Hallin et al. 2021).

    Features, scaled to 0 to 1, become v = (logit(x) - mean) / std. A masked autoregressive flow f, conditioned on the mass,
    learns their density in the side bands by maximum likelihood,

        ln p(v | m) = ln N(f(v; m)) + ln |det df/dv|

    and is sampled in the window, v = f^-1(z; m) with z from N(0, 1) and m distributed as the masses there. The classifier,
    that of `cwola`, compares events of the window with samples, in place of events of the side bands: features may depend
    on the mass, if they do so smoothly. Networks get new samples at every step, as many as there are events in the side
    bands; trees get `oversampling` times as many as there are events in the window.

    The score `probability` is the output of the classifier that has not seen the event; `nll` in the history of the phase
    `density` is the mean of -ln p in the side bands, and `held_out` is that of `cwola`. `template(size)` draws samples.

    Raises `InputError` as `cwola` does.

    Example:
        >>> import zoo
        >>> [phase.name for phase in zoo.get("cathode", window=(3300, 3700)).recipe()]
        ['density', 'training']
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(DensityHyperparameters, CWoLa.Hyperparameters):
        columns: Sequence[str] = hyperparameter(COLUMNS)  # of two parents that differ, a dataclass takes the first's
        batch_size: int = hyperparameter(1024)
        oversampling: float = hyperparameter(
            4.0, "samples that trees are grown from, for an event in the window", POSITIVE
        )

    hp: Hyperparameters

    presets = {
        "hallin2021": {
            **CONSTANT, "units": (64, 64, 64), "batch_size": 256, "dropout_rate": 0.0, "epochs": 100, "members": 10, "num_flows": 15,
            "flow_width": 128, "density_learning_rate": 1e-4, "density_epochs": 100,
        }
    }  # fmt: skip
    stochastic = True
    recorded = ("nll", "loss", "held_out")

    def make(self, width):
        super().make(width)
        self.make_density(width)

    def recipe(self):
        return self.density_phase(), self.classifier_phase(program="training", main=True)

    def tasks(self):
        tasks = {"density": self.density_task()}
        if not self.has_trees:
            networks = self.network.trainable_weights
            tasks["training"] = Task(self.losses, self.make_optimizer(keras.optimizers.Adam, networks), networks)
        return tasks

    def compared_with(self, size: int, seed: tf.Tensor) -> tf.Tensor:
        """Return what the classifiers take of so many samples of background, (size, F) or (K, size, F)."""
        return self.draw(size, seed)[0]

    def losses(self, batch, seed, training):
        x = self.observed(batch["features"], batch["mass"])
        x = tf.where(self.first(batch["mass"])[:, None], x, self.compared_with(batch["mass"].shape[0], seed))
        return self.compared(batch, x, seed if training else None)

    def to_grow_from(self, member):
        events = 0
        for x, first, weight, fold in super().to_grow_from(member):
            yield x[first], first[first], weight[first], fold[first]
            events += int(first.sum())
        size = round(self.hp.oversampling * events)
        x = self.compared_with(size, self.seeds).numpy()
        x = x[member] if x.ndim > 2 else x
        yield x, np.zeros(size, bool), np.ones(size, np.float32), np.full(size, -1)  # no fold: all may see them

    @classmethod
    def search_space(cls, hp):
        return {**cls.classifier_space(hp), **cls.density_space(hp)}
