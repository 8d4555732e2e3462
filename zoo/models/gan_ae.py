"""GAN-AE: an auto-encoder trained against a discriminator, with its score decorrelated from the mass.

Vaslin, Barra & Donini, "GAN-AE: an anomaly detection algorithm for New Physics search in LHC data",
Eur. Phys. J. C 83 (2023) 1008, doi 10.1140/epjc/s10052-023-12169-4. Equation numbers are that paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import tensorflow as tf

from pipelines.events.weighting import FlatMass
from zoo.base import COUNT, COUNT_OR_ZERO, FLAG, FRACTION, NOT_NEGATIVE, POSITIVE, SCALING, AnomalyModel, Limit, Phase
from zoo.keras import keras
from zoo.layers.dense import dropout, leaky_relu, plus
from zoo.losses import distance_correlation, rms_distance
from zoo.registry import register

# Table 1 without phi, the constituent counts (absent from the authors' own list) and m_jj: 21 variables of each jet
VARIABLES = (
    *("pt", "eta", "mass", "e", "nisj", "nesj", "tau1", "tau2", "tau3", "tau32", "tau21"),
    *(f"eRing{ring}" for ring in range(10)),
)
COLUMNS = tuple(f"{variable}_{jet}" for jet in (1, 2) for variable in VARIABLES)

D_SHAPES = {"start": (150, 100, 50), "lhco2020": (300, 200, 100, 50)}  # Table 2, and the optimised one
CYCLES = 2  # place in the recipe


class Autoencoder(keras.layers.Layer):
    """x -> hidden -> z -> hidden -> x, with LeakyReLU on the hidden layers, linear latent and output (sec. 2).

    `decoder` is "tied": the decoder's kernels are the encoder's transposed (eq. 4), so gradients reach both uses;
    or "frozen": the transposed *initial* encoder kernels, never trained, which is what the authors' released code
    does. Biases are free in both.
    """

    def __init__(self, hidden: int, latent: int, decoder: str, lead: tuple[int, ...], **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.latent, self.decoder, self.lead = hidden, latent, decoder, tuple(lead)

    def build(self, shape):
        width = shape[-1]
        shapes = [(width, self.hidden), (self.hidden, self.latent)]
        self.kernels = [self.add_weight(f"kernel{i}", self.lead + s) for i, s in enumerate(shapes)]
        sizes = [self.hidden, self.latent, self.hidden, width]
        self.biases = [self.add_weight(f"bias{i}", (*self.lead, s)) for i, s in enumerate(sizes)]
        self.frozen = [self.add_weight(f"frozen{i}", k.shape, trainable=False) for i, k in enumerate(self.kernels)]
        super().build(shape)

    def freeze(self) -> None:
        """Remember the present kernels as the frozen decoder's."""
        for frozen, kernel in zip(self.frozen, self.kernels):
            frozen.assign(kernel)

    def encode(self, x, slope, drop=lambda h, use: h):
        """Latent (B, latent_dim) of scaled features (B, F)."""
        h = drop(leaky_relu(plus(x @ self.kernels[0], self.biases[0]), slope), 0)
        return plus(h @ self.kernels[1], self.biases[1])

    def decode(self, z, slope, drop=lambda h, use: h):
        """Scaled features (B, F) of a latent."""
        first, second = self.kernels if self.decoder == "tied" else self.frozen
        h = drop(leaky_relu(plus(tf.matmul(z, second, transpose_b=True), self.biases[2]), slope), 1)
        return plus(tf.matmul(h, first, transpose_b=True), self.biases[3])

    def call(self, x, slope, drop=lambda h, use: h):
        return self.decode(self.encode(x, slope, drop), slope, drop)


class Discriminator(keras.layers.Layer):
    """Multilayer perceptron with LeakyReLU; gives the logit of "this is an original event" (sec. 2)."""

    def __init__(self, units: Sequence[int], lead: tuple[int, ...], **kwargs):
        super().__init__(**kwargs)
        self.units, self.lead = tuple(units), tuple(lead)

    def build(self, shape):
        widths = [shape[-1], *self.units, 1]
        self.kernels = [self.add_weight(f"kernel{i}", self.lead + s) for i, s in enumerate(pairwise(widths))]
        self.biases = [self.add_weight(f"bias{i}", (*self.lead, s)) for i, s in enumerate(widths[1:])]
        super().build(shape)

    def call(self, x, slope, drop=lambda h, use: h):
        *hidden, (kernel, bias) = zip(self.kernels, self.biases)
        for use, (w, b) in enumerate(hidden):
            x = drop(leaky_relu(plus(x @ w, b), slope), use)
        return tf.squeeze(plus(x @ kernel, bias), -1)


@register("gan_ae")
class GANAE(AnomalyModel):
    """GAN-AE (Vaslin, Barra & Donini 2023): auto-encoder against discriminator, decorrelated from m_jj.

    Training alternates, `cycles` times, `d_epochs` passes that teach the discriminator D to tell events x from
    their reconstructions x' (eq. 1) and `ae_epochs` passes that minimise, for the auto-encoder (eq. 5),

        mean_i w_i [bc(D(x'_i), 1) + epsilon dist(x_i, x'_i)] + alpha DisCo(dist, m_jj)^disco_power

    with dist the root mean squared difference over scaled features (eq. 2), w_i weights of mean one that flatten
    the m_jj spectrum, and DisCo without weights. The paper writes a sum over the batch where this takes the mean:
    only so are its alpha = 50-65 and epsilon = 5-6 of one size. One Keras epoch is one cycle. The score is `dist`.

    Args:
        columns: names or patterns of the features; the paper's 42.
        scaling: "minmax" (the paper), "quantile" or "standard".
        latent_dim, ae_units: sizes of the latent space and of the hidden layers of the auto-encoder.
        d_units: sizes of the discriminator's hidden layers.
        decoder: "tied" (the paper) or "frozen" (the authors' released code; see `Autoencoder`).
        epsilon: weight of the reconstruction term, >= 0.
        alpha: weight of DisCo, >= 0; 0 leaves the score correlated, and records how much.
        disco_power: exponent of DisCo, > 0.
        flat_mass: weight events so that the m_jj spectrum is flat, from a histogram of `mass_bins` bins.
        dropout_rate: of every hidden layer, in [0, 1).
        negative_slope: of LeakyReLU, in [0, 1); 0.3 is Keras' default, the paper gives none.
        learning_rate, beta_1: of Adam, for both networks.
        cycles, d_epochs, ae_epochs: see above.
        pretraining_epochs: passes in which the auto-encoder alone learns to reconstruct, before the first cycle.
        d_pretraining_epochs: passes in which the discriminator alone learns, after that.
        batch_size: events per step.
        members: independently seeded copies trained together; their mean distance is the score.
        seed: fixes weights, dropout, and the order of events.

    Raises `InputError` naming a hyperparameter out of range.

    Example:
        >>> import zoo
        >>> zoo.get("gan_ae", preset="lhco2020").get_config()["epsilon"]
        6.0
    """

    presets = {
        "start": {},
        "lhco2020": {"d_units": D_SHAPES["lhco2020"], "epsilon": 6.0, "alpha": 65.0},
    }
    score_kinds = ("distance",)
    dials = (
        *("epsilon", "alpha", "disco_power", "dropout_rate", "negative_slope", "learning_rate"),
        *("d_epochs", "ae_epochs"),
    )
    shared = ("d_epochs", "ae_epochs")  # whose turn it is, is so for all members
    limits = {
        **dict.fromkeys(("latent_dim", "ae_units", "d_units", "mass_bins"), COUNT),
        **dict.fromkeys(("cycles", "d_epochs", "ae_epochs", "batch_size"), COUNT),
        **dict.fromkeys(("pretraining_epochs", "d_pretraining_epochs", "seed"), COUNT_OR_ZERO),
        **dict.fromkeys(("epsilon", "alpha"), NOT_NEGATIVE),
        **dict.fromkeys(("disco_power", "learning_rate"), POSITIVE),
        **dict.fromkeys(("dropout_rate", "negative_slope", "beta_1"), FRACTION),
        "decoder": Limit(choices=("tied", "frozen")),
        "flat_mass": FLAG,
        "scaling": SCALING,
    }

    def __init__(
        self,
        *,
        columns: Sequence[str] = COLUMNS,
        scaling: str = "minmax",
        latent_dim: int = 14,
        ae_units: int = 84,
        d_units: Sequence[int] = D_SHAPES["start"],
        decoder: str = "tied",
        epsilon: float = 5.0,
        alpha: float = 50.0,
        disco_power: float = 1.0,
        flat_mass: bool = True,
        mass_bins: int = 500,
        dropout_rate: float = 0.2,
        negative_slope: float = 0.3,
        learning_rate: float = 2e-4,
        beta_1: float = 0.5,
        cycles: int = 100,
        d_epochs: int = 7,
        ae_epochs: int = 5,
        pretraining_epochs: int = 5,
        d_pretraining_epochs: int = 0,
        batch_size: int = 2048,
        members: int = 1,
        seed: int = 0,
    ):
        super().__init__(locals())

    def make(self, width):
        hp = self.hyperparameter
        self.autoencoder = Autoencoder(hp("ae_units"), hp("latent_dim"), hp("decoder"), self.lead)
        self.discriminator = Discriminator(hp("d_units"), self.lead)
        self.autoencoder.build((None, width))
        self.discriminator.build((None, width))
        adam, beta_1 = keras.optimizers.Adam, hp("beta_1")
        self.ae_optimizer = self.descent(adam, self.autoencoder.trainable_variables, beta_1=beta_1)
        self.d_optimizer = self.descent(adam, self.discriminator.trainable_variables, beta_1=beta_1)
        self.measure("loss", "distance", "adversarial", "disco", "discriminator_loss", "discriminator_accuracy")

    @property
    def optimizers(self):
        return self.ae_optimizer, self.d_optimizer

    def prepare(self):
        self.autoencoder.freeze()
        for optimizer in self.optimizers:
            self.set_rate(optimizer, "learning_rate")

    def recipe(self):
        hp = self.hyperparameter
        return (
            Phase("pretraining", hp("pretraining_epochs")),
            Phase("discriminator", hp("d_pretraining_epochs")),
            Phase("cycles", hp("cycles"), passes=hp("d_epochs") + hp("ae_epochs")),
        )

    def weighting(self, events):
        return FlatMass(events, self.hyperparameter("mass_bins")) if self.hyperparameter("flat_mass") else None

    # -- training: one step belongs to one of three turns -------------------------------------------

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch):
        turns = (self._pretrain, self._teach_discriminator, self._train_autoencoder)
        tf.switch_case(self._turn(), [lambda turn=turn: turn(batch) for turn in turns])
        self.clock.assign_add(1)
        return self.record()

    def _turn(self):
        """The recipe's phase, and within a cycle first the discriminator's turn, then the auto-encoder's."""
        d_epochs, ae_epochs = (tf.cast(self.dial[name], tf.int64) for name in ("d_epochs", "ae_epochs"))
        passes_done = (self.clock - self.phase_start) // self.steps_per_pass
        in_cycle = 1 + tf.cast(passes_done % (d_epochs + ae_epochs) >= d_epochs, tf.int64)
        return tf.cast(tf.where(self.phase == CYCLES, in_cycle, self.phase), tf.int32)

    def _pretrain(self, batch):
        x = batch["features"]
        with tf.GradientTape() as tape:
            distance = rms_distance(x, self.autoencoder(x, self.value("negative_slope", 2), self._drop(0)))
            loss = tf.reduce_sum(tf.reduce_mean(batch["weight"] * distance, -1))
        self._descend(self.ae_optimizer, tape, loss, self.autoencoder)
        self.record(distance=distance)

    def _teach_discriminator(self, batch):
        x = batch["features"]
        both, original = self._originals_and_reconstructions(x)
        with tf.GradientTape() as tape:
            logit = self.discriminator(both, self.value("negative_slope", 2), self._drop(8))
            loss = tf.nn.softplus(tf.where(original, -logit, logit))
            mean_loss = tf.reduce_sum(tf.reduce_mean(loss, -1))
        self._descend(self.d_optimizer, tape, mean_loss, self.discriminator)
        self.record(discriminator_loss=loss, discriminator_accuracy=tf.cast((logit > 0) == original, tf.float32))

    def _originals_and_reconstructions(self, x):
        """Events and what the auto-encoders make of them, one after the other, and which of them are events."""
        reconstruction = self.autoencoder(x, self.value("negative_slope", 2))
        both = tf.concat([tf.broadcast_to(x, tf.shape(reconstruction)), reconstruction], -2)
        return both, tf.range(2 * tf.shape(x)[0]) < tf.shape(x)[0]

    def _train_autoencoder(self, batch):
        x = batch["features"]
        with tf.GradientTape() as tape:
            reconstruction = self.autoencoder(x, self.value("negative_slope", 2), self._drop(0))
            terms = self._terms(batch, reconstruction, self._drop(8))
            loss = tf.reduce_sum(terms["loss"])  # over members
        self._descend(self.ae_optimizer, tape, loss, self.autoencoder)
        self.record(**terms)

    @tf.autograph.experimental.do_not_convert
    def test_step(self, batch):
        x = batch["features"]
        reconstruction = self.autoencoder(x, self.value("negative_slope", 2))
        terms = self._terms(batch, reconstruction, lambda h, use: h)
        both, original = self._originals_and_reconstructions(x)
        logit = self.discriminator(both, self.value("negative_slope", 2))
        loss = tf.nn.softplus(tf.where(original, -logit, logit))
        correct = tf.cast((logit > 0) == original, tf.float32)
        return self.record(**terms, discriminator_loss=loss, discriminator_accuracy=correct)

    def _terms(self, batch, reconstruction, drop):
        """The terms of eq. 5; DisCo is measured also where alpha is 0."""
        distance = rms_distance(batch["features"], reconstruction)
        adversarial = tf.nn.softplus(-self.discriminator(reconstruction, self.value("negative_slope", 2), drop))
        disco = distance_correlation(batch["mass"], distance)
        per_event = adversarial + self.value("epsilon", 1) * distance
        penalty = self.value("alpha") * tf.pow(tf.maximum(disco, 1e-12), self.value("disco_power"))
        loss = tf.reduce_mean(batch["weight"] * per_event, -1) + penalty
        return {"loss": loss, "distance": distance, "adversarial": adversarial, "disco": disco}

    def _drop(self, first_use):
        seed = self.seeds * 1_000_003 + self.clock
        return lambda h, use: dropout(h, self.value("dropout_rate"), seed, first_use + use)

    def _descend(self, optimizer, tape, loss, network):
        variables = network.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))

    # -- use -----------------------------------------------------------------------------------------

    def infer(self, features):
        x = self.scaler(features)
        latent = self.autoencoder.encode(x, self.value("negative_slope", 2))
        reconstruction = self.autoencoder.decode(latent, self.value("negative_slope", 2))
        return {
            "distance": rms_distance(x, reconstruction),
            "reconstructed": self.scaler.inverse(reconstruction),
            "latent": latent,
        }

    @classmethod
    def search_space(cls, hp):
        # Around Table 2 and its optimised values. Few shapes, each of which is compiled once, and many dials: loss
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
