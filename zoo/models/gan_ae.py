"""GAN-AE: an auto-encoder trained against a discriminator, with its score decorrelated from the mass.

Vaslin, Barra & Donini, "GAN-AE: an anomaly detection algorithm for New Physics search in LHC data",
Eur. Phys. J. C 83 (2023) 1008, doi 10.1140/epjc/s10052-023-12169-4. Equation numbers are that paper's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from pipelines.events.weighting import FlatMass
from zoo.base import (
    COUNT,
    COUNT_OR_ZERO,
    FLAG,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    UNITS,
    AnomalyModel,
    EventHyperparameters,
    Limit,
    Phase,
    Task,
    hyperparameter,
)
from zoo.ensemble import before
from zoo.keras import keras
from zoo.layers.dense import MLP, MirroredMLP, leaky_relu
from zoo.layers.random import Dropout
from zoo.losses import distance_correlation, rms_distance
from zoo.registry import register

# Table 1 without phi, the constituent counts (absent from the authors' own list) and m_jj: 21 variables of each jet
VARIABLES = (
    *("pt", "eta", "mass", "e", "nisj", "nesj", "tau1", "tau2", "tau3", "tau32", "tau21"),
    *(f"eRing{ring}" for ring in range(10)),
)
COLUMNS = tuple(f"{variable}_{jet}" for jet in (1, 2) for variable in VARIABLES)

D_SHAPES = {"start": (150, 100, 50), "lhco2020": (300, 200, 100, 50)}  # Table 2, and the optimised one


class Autoencoder(keras.layers.Layer):
    """x -> hidden -> z -> hidden -> x, with an activation on the hidden layers, linear latent and output (sec. 2).

    `decoder` is "tied": the decoder's kernels are the encoder's transposed (eq. 4), so gradients reach both uses;
    or "frozen": the transposed *initial* encoder kernels, never trained, which is what the authors' released code
    does. Biases are free in both.
    """

    def __init__(self, inputs: int, hidden: int, latent: int, decoder: str, activation, member_shape, **kwargs):
        super().__init__(**kwargs)
        self.encoder = MLP([hidden, latent], activation, member_shape=member_shape, inputs=inputs)
        self.decoder = MirroredMLP(self.encoder, activation, frozen=decoder == "frozen")

    def call(self, x, drop=tf.identity):
        return self.decoder(self.encoder(x, drop), drop)


@register("gan_ae")
class GANAE(AnomalyModel):
    """GAN-AE (Vaslin, Barra & Donini 2023): auto-encoder against discriminator, decorrelated from m_jj.

    Training alternates, `cycles` times, `d_epochs` passes that teach the discriminator D to tell events x from
    their reconstructions x' (eq. 1) and `ae_epochs` passes that minimise, for the auto-encoder (eq. 5),

        mean_i w_i [bc(D(x'_i), 1) + epsilon dist(x_i, x'_i)] + alpha DisCo(dist, m_jj)^disco_power

    with dist the root mean squared difference over scaled features (eq. 2), w_i weights of mean one that flatten
    the m_jj spectrum, and DisCo without weights. The paper writes a sum over the batch where this takes the mean:
    only so are its alpha = 50-65 and epsilon = 5-6 of one size. One Keras epoch is one cycle. The score is `dist`.

    Raises `InputError` naming a hyperparameter out of range.

    Example:
        >>> import zoo
        >>> zoo.get("gan_ae", preset="lhco2020").get_config()["epsilon"]
        6.0
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(EventHyperparameters):
        columns: Sequence[str] = hyperparameter(COLUMNS, "names or patterns of the features, by default the paper's 42")
        scaling: str = hyperparameter("minmax")
        latent_dim: int = hyperparameter(14, "size of the latent space", UNITS, resizable=True)
        ae_units: int = hyperparameter(84, "size of the hidden layers of the auto-encoder", UNITS, resizable=True)
        d_units: Sequence[int] = hyperparameter(
            D_SHAPES["start"], "sizes of the hidden layers of the discriminator", UNITS
        )
        decoder: str = hyperparameter(
            "tied", '"tied" (the paper) or "frozen" (the authors\' code)', Limit(choices=("tied", "frozen"))
        )
        epsilon: float = hyperparameter(5.0, "weight of the reconstruction", NOT_NEGATIVE, runtime=True)
        alpha: float = hyperparameter(
            50.0, "weight of DisCo; 0 leaves the score correlated, and records how much", NOT_NEGATIVE, runtime=True
        )
        disco_power: float = hyperparameter(1.0, "exponent of DisCo", POSITIVE, runtime=True)
        flat_mass: bool = hyperparameter(True, "weight events so that the m_jj spectrum is flat", FLAG)
        mass_bins: int = hyperparameter(500, "bins of the histogram that `flat_mass` takes", COUNT)
        dropout_rate: float = hyperparameter(0.2, "of every hidden layer", FRACTION, runtime=True)
        negative_slope: float = hyperparameter(
            0.3, "of LeakyReLU; 0.3 is Keras' default, the paper gives none", FRACTION, runtime=True
        )
        learning_rate: float = hyperparameter(2e-4, "of Adam, for both networks", POSITIVE, runtime=True)
        beta_1: float = hyperparameter(0.5, "of Adam, for both networks", FRACTION)
        cycles: int = hyperparameter(100, "how often the two networks take turns", COUNT)
        d_epochs: int = hyperparameter(
            7, "passes of a cycle that teach the discriminator", COUNT, runtime=True, shared=True
        )
        ae_epochs: int = hyperparameter(
            5, "passes of a cycle that teach the auto-encoder", COUNT, runtime=True, shared=True
        )
        pretraining_epochs: int = hyperparameter(
            5, "passes in which the auto-encoder alone learns to reconstruct, before the first cycle", COUNT_OR_ZERO
        )
        d_pretraining_epochs: int = hyperparameter(
            0, "passes in which the discriminator alone learns, after that", COUNT_OR_ZERO
        )
        batch_size: int = hyperparameter(2048)

    hp: Hyperparameters

    presets = {
        "start": {},
        "lhco2020": {"d_units": D_SHAPES["lhco2020"], "epsilon": 6.0, "alpha": 65.0},
    }
    score_kinds = ("distance",)
    step_knows_scaling = False

    def make(self, width):
        hp, members = self.hp, self.member_shape
        self.autoencoder = Autoencoder(width, hp.ae_units, hp.latent_dim, hp.decoder, self._leaky_relu, members)
        self.discriminator = MLP([*hp.d_units, 1], self._leaky_relu, member_shape=members, inputs=width)
        self.create_metrics("loss", "distance", "adversarial", "disco", "discriminator_loss", "discriminator_accuracy")

    def _leaky_relu(self, h):
        return leaky_relu(h, self.runtime.negative_slope)

    def prepare(self):
        self.autoencoder.decoder.freeze()

    def recipe(self):
        hp = self.hp
        return (
            Phase("pretraining", hp.pretraining_epochs),
            Phase("discriminator", hp.d_pretraining_epochs),
            Phase("cycles", hp.cycles, passes={"discriminator": hp.d_epochs, "autoencoder": hp.ae_epochs}),
        )

    def tasks(self):
        ae_weights, d_weights = (network.trainable_variables for network in (self.autoencoder, self.discriminator))
        ae_adam = self.make_optimizer(keras.optimizers.Adam, ae_weights, beta_1=self.hp.beta_1)
        d_adam = self.make_optimizer(keras.optimizers.Adam, d_weights, beta_1=self.hp.beta_1)
        return {
            "pretraining": Task(self.reconstruction_losses, ae_adam, ae_weights, minimise="weighted_distance"),
            "discriminator": Task(self.discriminator_losses, d_adam, d_weights, minimise="discriminator_loss"),
            "autoencoder": Task(self.losses, ae_adam, ae_weights),
        }

    def weighting(self, events):
        return FlatMass(events, self.hp.mass_bins) if self.hp.flat_mass else super().weighting(events)

    # -- losses ----------------------------------------------------------------------------------------

    def reconstruction_losses(self, batch, seed, training):
        """The distance alone, as the pre-training minimises it."""
        distance = rms_distance(batch["features"], self.autoencoder(batch["features"], self._drop(seed, training)))
        return {"weighted_distance": batch["weight"] * distance, "distance": distance}

    def discriminator_losses(self, batch, seed, training):
        """Binary cross-entropy of "this is an original event" (eq. 1), of events and their reconstructions."""
        x = batch["features"]
        reconstruction = self.autoencoder(x)
        both = tf.concat([tf.broadcast_to(x, tf.shape(reconstruction)), reconstruction], -2)
        original = tf.range(2 * tf.shape(x)[0]) < tf.shape(x)[0]
        logit = self.discriminate(both, self._drop(seed, training, first_use=8))
        return {
            "discriminator_loss": tf.nn.softplus(tf.where(original, -logit, logit)),
            "discriminator_accuracy": tf.cast((logit > 0) == original, tf.float32),
        }

    def losses(self, batch, seed, training):
        """The terms of eq. 5; DisCo is measured also where alpha is 0."""
        reconstruction = self.autoencoder(batch["features"], self._drop(seed, training))
        distance = rms_distance(batch["features"], reconstruction)
        logit = self.discriminate(reconstruction, self._drop(seed, training, first_use=8))
        adversarial = tf.nn.softplus(-logit)
        disco = distance_correlation(batch["mass"], distance)
        per_event = adversarial + before(self.runtime.epsilon, 1) * distance
        penalty = self.runtime.alpha * tf.pow(tf.maximum(disco, 1e-12), self.runtime.disco_power)
        loss = tf.reduce_mean(batch["weight"] * per_event, -1) + penalty
        return {"loss": loss, "distance": distance, "adversarial": adversarial, "disco": disco}

    def discriminate(self, x, drop=tf.identity):
        """Return the logit (..., B) of "this is an original event" for scaled features (..., B, F)."""
        return tf.squeeze(self.discriminator(x, drop), -1)

    def _drop(self, seed, training, first_use=0):
        return Dropout(self.runtime.dropout_rate, seed, first_use) if training else tf.identity

    # -- use -----------------------------------------------------------------------------------------

    def infer(self, features):
        x = self.scaler(features)
        latent = self.autoencoder.encoder(x)
        reconstruction = self.autoencoder.decoder(latent)
        return {
            "distance": rms_distance(x, reconstruction),
            "reconstructed": self.scaler.inverse(reconstruction),
            "latent": latent,
        }

    @classmethod
    def search_space(cls, hp):
        # Around Table 2 and its optimised values. Few shapes, each of which is compiled once, and many runtime ones: loss
        # weights, rates, slopes and the schedule of the two networks cost no compilation.
        return {
            "scaling": hp.Choice("scaling", ["minmax", "quantile"]),
            "latent_dim": hp.Choice("latent_dim", [8, 14, 20]),
            "ae_units": hp.Choice("ae_units", [42, 84]),
            "d_units": D_SHAPES[hp.Choice("d_shape", list(D_SHAPES))],
            "batch_size": hp.Choice("batch_size", [1024, 2048]),
            "epsilon": hp.Float("epsilon", 1.0, 20.0, sampling="log"),
            "alpha": hp.Float("alpha", 10.0, 200.0, sampling="log"),
            "disco_power": hp.Choice("disco_power", [1.0, 2.0]),
            "dropout_rate": hp.Float("dropout_rate", 0.0, 0.4, step=0.05),
            "negative_slope": hp.Float("negative_slope", 0.05, 0.4, step=0.05),
            "learning_rate": hp.Float("learning_rate", 5e-5, 2e-3, sampling="log"),
            "d_epochs": hp.Int("d_epochs", 1, 10),
            "ae_epochs": hp.Int("ae_epochs", 1, 10),
        }
