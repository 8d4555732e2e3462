"""R-ANODE: the density of the signal, fitted as what the density of background leaves over in the window.

R. Das, G. Kasieczka, D. Shih, "Residual ANODE" (arXiv:2312.11629), called the paper here.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from zoo.base import COUNT, FLAG, UNITS, Limit, Task, hyperparameter
from zoo.keras import keras
from zoo.models.anode import ANODE
from zoo.models.sideband_density import KNOTS
from zoo.registry import register

SHARE = Limit(0, 1, open_low=True, open_high=True)
MASS_BINS = 20  # of the signal's masses, in each of which background has the same share
PACE = 10.0  # times faster than weights of flows move w and the shares of masses: steps of Adam are of one size, and these start far off


@register("r_anode")
class RANODE(ANODE):
    """The ratio of signal to background, whose densities make up that of the window's events (Das, Kasieczka, Shih 2023).

    The flow p_bg of v = (logit(x) - mean) / std is learnt in the side bands, as that of `anode`, and is fixed then. In the
    window a second flow p_sig is fitted by the likelihood of all events there (the paper, sec. II),

        p(v, m) = w p_sig(v, m) + (1 - w) p_bg(v | m) p_bg(m)

    with w the `signal_fraction`, given or learnt. The score is the logarithm of the ratio

        log_ratio(v, m) = ln p_sig(v | m) - ln p_bg(v | m)

    p_bg(m) is that of all masses in the window, by weight. p_sig(v, m) = p_sig(v | m) p_sig(m): a conditional flow, and
    the shares of the signal in bins of the mass, in which background has equal shares. The paper has one flow of (v, m), and
    divides by p_sig(m) of its samples.

    There are `folds` flows of the signal, each with its own w: one that was trained on an event never scores it. `nll` in the
    history is that of the side bands. `loss` is the mean of -ln p(v, m) / p_bg(m) in the window, and `held_out` that of
    every event by the flow that has not seen it; the epoch of the smallest is kept. `fraction` is the mean of w.

    **The score takes the mass**: `score` takes events, or a dict with `features` and `mass`, and the exported SavedModel
    takes both.

    Raises `InputError` as `anode` does.

    Example:
        >>> import zoo
        >>> model = zoo.get("r_anode", window=(3300, 3700), signal_fraction=0.02, learn_fraction=False)
        >>> [phase.name for phase in model.recipe()], model.score_kinds
        (['density', 'training'], ('log_ratio',))
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(ANODE.Hyperparameters):
        flow: str = hyperparameter("spline")  # the signal's flow finds all that affine steps get wrong in background
        signal_flow: str = hyperparameter(
            "spline",
            "autoregressive steps of the signal's flow: affine, or splines",
            Limit(choices=("affine", "spline")),
        )
        signal_num_flows: int = hyperparameter(3, "flows in a row, of the signal", COUNT)
        signal_flow_width: int = hyperparameter(32, "units of the two hidden layers of a flow, of the signal", UNITS)
        signal_fraction: float = hyperparameter(
            0.01,
            "w, the signal's share of the events in the window; if it is learnt, where it starts",
            SHARE,
            runtime=True,
        )
        learn_fraction: bool = hyperparameter(True, "learn w, or keep the `signal_fraction`", FLAG)

    hp: Hyperparameters

    presets = {
        "das2023": {
            "flow": "affine", "num_flows": 15, "flow_width": 128, "density_learning_rate": 1e-4, "density_epochs": 200, "batch_size": 256,
            "signal_flow": "spline", "bins": 8, "signal_num_flows": 6, "signal_flow_width": 64, "learning_rate": 3e-4, "epochs": 300,
            "signal_fraction": 0.005,
        }
    }  # fmt: skip

    recorded = (*ANODE.recorded, "fraction")

    def make(self, width):
        super().make(width)
        shape = (*self.member_shape, self.hp.folds)
        self.mass_shares = self.add_weight("mass_shares", (*shape, MASS_BINS), initializer="zeros")
        if self.hp.learn_fraction:
            self.fraction_moved = self.add_weight("fraction_moved", shape, initializer="zeros")

    def flow_inside(self, width):
        hp = self.hp
        return self.new_flow(width, hp.signal_flow, hp.signal_num_flows, hp.signal_flow_width)

    def initial(self, shape, seed):
        return tf.zeros(shape)  # of all that is in no flow: w is what was given, and the signal has background's masses

    def tasks(self):
        weights = [weight for flow in self.inside for weight in flow.trainable_weights]
        weights += [self.mass_shares, *([self.fraction_moved] if self.hp.learn_fraction else [])]
        optimizer = self.make_optimizer(keras.optimizers.Adam, weights)
        return {"density": self.density_task(), "training": Task(self.losses, optimizer, weights)}

    def logit_fraction(self) -> tf.Tensor:
        """Return ln w / (1 - w) of every flow of the signal, (folds,) or (K, folds)."""
        given = tf.convert_to_tensor(self.runtime.signal_fraction)
        logit = (tf.math.log(given) - tf.math.log1p(-given))[..., None]
        moved = self.fraction_moved if self.hp.learn_fraction else tf.zeros((*self.member_shape, self.hp.folds))
        return logit + PACE * moved

    def fraction(self) -> np.ndarray:
        """Return w, the signal's share of the events in the window by every flow of the signal, (folds,) or (K, folds)."""
        return tf.sigmoid(self.logit_fraction()).numpy()

    def log_mass_ratio(self, mass: tf.Tensor) -> tf.Tensor:
        """Return ln p_sig(m) / p_bg(m) by every flow of the signal, (folds, B) or (K, folds, B), of masses (B,) in GeV."""
        edges = tf.convert_to_tensor(self.masses)[:: (KNOTS - 1) // MASS_BINS]
        place = tf.reduce_sum(tf.cast(mass[:, None] >= edges[1:-1], tf.int32), -1)
        return tf.gather(tf.nn.log_softmax(PACE * self.mass_shares, -1), place, axis=-1) + np.log(MASS_BINS)

    def log_prob_of_data(self, features: tf.Tensor, mass: tf.Tensor) -> tf.Tensor:
        """Return ln p(v, m) / p_bg(m) of events in the window by every flow of the signal, (folds, B) or (K, folds, B)."""
        signal = self.log_prob_inside(features, mass) + self.log_mass_ratio(mass)
        background = tf.stop_gradient(self.log_prob(features, mass))[..., None, :]
        logit = self.logit_fraction()[..., None]
        return tf.experimental.numpy.logaddexp(
            tf.math.log_sigmoid(logit) + signal, tf.math.log_sigmoid(-logit) + background
        )

    def losses(self, batch, seed, training):
        terms = self.by_fold(batch, self.log_prob_of_data(batch["features"], batch["mass"]))
        return {**terms, "fraction": tf.reduce_mean(tf.sigmoid(self.logit_fraction()), -1)}

    @classmethod
    def search_space(cls, hp):
        signal_flow = hp.Choice("signal_flow", ["affine", "spline"])
        return {
            **super().search_space(hp),
            "signal_flow": signal_flow,
            "signal_num_flows": hp.Int("signal_num_flows", 2, 8),
            "signal_flow_width": hp.Int("signal_flow_width", 16, 64, sampling="log"),
            "signal_fraction": hp.Float("signal_fraction", 1e-3, 0.1, sampling="log"),
        }
