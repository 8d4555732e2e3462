"""VAE: a variational auto-encoder whose latent space is searched for bumps.

B. Bortolato, B. M. Dillon, J. F. Kamenik & A. Smolkovic, "Bump hunting in latent space", arXiv:2103.06595 (2021).
Equation and figure numbers are that paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import tensorflow as tf

from pipelines.errors import InputError
from pipelines.events.weighting import MeanOne
from zoo.base import (
    COUNT,
    COUNT_OR_ZERO,
    NOT_NEGATIVE,
    POSITIVE,
    SCALING,
    AnomalyModel,
    Limit,
    Phase,
    Watch,
)
from zoo.keras import keras
from zoo.layers.dense import normal, plus, product, selu
from zoo.layers.latent import FLOW, Latent
from zoo.losses import mean_squared_error
from zoo.registry import register

# m_j, tau_2/tau_1 and tau_3/tau_2 of the two jets, the heavier one first
COLUMNS = tuple(f"{variable}_{side}" for side in ("heavy", "light") for variable in ("mass", "tau21", "tau32"))

OPTIMIZERS = {"adadelta": keras.optimizers.Adadelta, "adam": keras.optimizers.Adam}
SETTLED = Watch("loss", best="min", patience=5, tolerance=1e-3)  # "approximate convergence" of the new decoder
REFERENCE = 100_000  # events that `rarity` compares with, at most
STEPS = 512  # from the outermost of them to the median: a share grows by 2.3 % at most from knot to knot
KNOTS = 2 * STEPS + 3  # of their distribution, with one further out at either end


class Network(keras.layers.Layer):
    """Dense layers of the given widths: SELU on the hidden ones, linear output, biases everywhere."""

    def __init__(self, widths: Sequence[int], lead: tuple[int, ...], **kwargs):
        super().__init__(**kwargs)
        self.widths, self.lead = tuple(widths), tuple(lead)

    def build(self, shape):
        self.kernels = [self.add_weight(f"kernel{i}", self.lead + s) for i, s in enumerate(pairwise(self.widths))]
        self.biases = [self.add_weight(f"bias{i}", (*self.lead, n)) for i, n in enumerate(self.widths[1:])]
        super().build(shape)

    def hidden(self, x):
        """Return the last hidden layer."""
        for w, b in zip(self.kernels[:-1], self.biases[:-1]):
            x = selu(plus(product(x, w), b))
        return x

    def output_of(self, h):
        """Return the output of the last hidden layer h."""
        return plus(product(h, self.kernels[-1]), self.biases[-1])

    def call(self, x):
        return self.output_of(self.hidden(x))


@register("vae")
class BumpHuntingVAE(AnomalyModel):
    """VAE with latent bump hunting (Bortolato et al. 2021): what lies far out in the latent space is anomalous.

    Step one trains encoder and decoder on (eq. 1), over batches of B events with F scaled features,

        1/B sum_i w_i [alpha mse_i + KL_i],    KL_i = 1/2 sum_l (z_il^2 + sigma_il^2 - 1 - log sigma_il^2)

    with z_i, sigma_i the encoder's mean and width, mse_i = 1/F sum_f (x_if - x'_if)^2 and x' decoded from a number drawn
    from N(z_i, sigma_i). What remains are the weights of the epoch whose KL is the **largest**: past it the latent space
    loses the events that matter. Event weights w_i have mean one.

    With a `flow` the number z0 drawn from N(z_i, sigma_i) goes through a normalizing flow, whose parameters the encoder's
    last hidden layer gives, and the decoders get zK = f(z0); KL_i is then log q0(z0) - log |det df/dz0| - log p(zK), and
    for scores its mean over fixed numbers (see `zoo.layers.latent`). "The latent number" of an event is f(z_i).

    Step two freezes encoder and flow and trains a **new** decoder with Adam, until its error no longer falls, on pairs of
    a latent number drawn as in step one and a mass drawn from N(m_jj, `mass_width` m_jj), in units of the standard deviation
    of the masses. It characterises the latent space (`generate`, `scan`); the score never sees the mass.

    Scores: `kl`; `mean2`, the sum of z_l^2; `median2`, the sum of (z_l - median z_l)^2; `log_var`, the sum of log
    sigma_l^2, with a flow plus 2 log |det| at z_i: log of the squared volume; `reconstruction`, the mean squared error
    of the decoder of step one; `rarity`, -log of the share of training events whose KL is as far out on the same side
    or on the other: large in **both** tails of KL, and growing beyond the outermost event of either as an exponential
    tail says. Which tail of a latent score the signal is in is not given by the
    method, and depends on where the bulk of the background lands: a search looks at both tails, or takes `rarity`.

    Args:
        columns: names or patterns of the features; the paper's 6, see `pipelines.events.derived` for the jets' order.
        scaling: "maxabs" (the paper), "minmax", "standard" or "quantile".
        latent_dim: dimensions of the latent space.
        units: widths of the encoder's hidden layers; the decoders have the same in reverse.
        flow: "planar", "orthogonal", "householder", "triangular", "iaf", "convolutional" (see `zoo.layers.flows`), or None, the
            paper's.
        num_flows: flows in a row, if there is a flow.
        alpha: weight of the reconstruction, > 0.
        optimizer: of step one, "adadelta" (the paper) or "adam".
        learning_rate: of step one. Keras' default for Adadelta is 0.001, that of its inventor 1.
        epochs: of step one, at most: the best of them is what remains.
        patience: stop a member that many epochs after its largest KL; 0 for never.
        decoder_epochs: of step two, at most; 0 leaves it out.
        decoder_learning_rate: of step two.
        mass_width: relative width of the mass in step two.
        batch_size: events per step.
        members: independently seeded copies trained together; their mean score is the score.
        seed: fixes weights, random numbers, and the order of events. Members have the seeds that follow: for another
            group take one that is K away.

    Raises `InputError` naming a hyperparameter out of range.

    Example:
        >>> import zoo
        >>> zoo.get("vae", members=20).get_config()["alpha"]
        5000.0
    """

    presets = {
        "lhco2020": {"members": 20},
        "adam": {"optimizer": "adam", "learning_rate": 0.001},
    }
    score_kinds = ("kl", "mean2", "median2", "log_var", "reconstruction", "rarity")
    undirected = ("kl", "mean2", "median2", "log_var")
    stochastic = True
    dials = ("alpha", "learning_rate", "decoder_learning_rate", "mass_width")
    limits = {
        **dict.fromkeys(("latent_dim", "units", "num_flows", "epochs", "batch_size"), COUNT),
        **dict.fromkeys(("patience", "decoder_epochs", "seed"), COUNT_OR_ZERO),
        **dict.fromkeys(("alpha", "learning_rate", "decoder_learning_rate"), POSITIVE),
        "mass_width": NOT_NEGATIVE,
        "optimizer": Limit(choices=tuple(OPTIMIZERS)),
        "scaling": SCALING,
        "flow": FLOW,
    }

    def __init__(
        self,
        *,
        columns: Sequence[str] = COLUMNS,
        scaling: str = "maxabs",
        latent_dim: int = 1,
        units: Sequence[int] = (64, 64, 64),
        flow: str | None = None,
        num_flows: int = 6,
        alpha: float = 5000.0,
        optimizer: str = "adadelta",
        learning_rate: float = 0.001,
        epochs: int = 100,
        patience: int = 0,
        decoder_epochs: int = 50,
        decoder_learning_rate: float = 0.001,
        mass_width: float = 0.025,
        batch_size: int = 1000,
        members: int = 1,
        seed: int = 0,
    ):
        super().__init__(locals())

    def adapt(self, events):
        super().adapt(events)
        count, total, squares = 0, 0.0, 0.0
        for block in events.blocks("mass"):
            mass = block["mass"].astype(np.float64) - 3000.0  # near the middle, so that the squares lose nothing
            count, total, squares = count + len(mass), total + mass.sum(), squares + (mass**2).sum()
        mean = total / count
        self.mass_mean.assign(3000.0 + mean)
        std, smear = max(squares / count - mean**2, 0.0) ** 0.5, 0.025 * abs(3000.0 + mean)
        self.mass_std.assign(std if std > 1e-4 * smear else smear or 1.0)  # of one mass, what step two makes of it

    def make(self, width):
        hp, lead = self.hyperparameter, self.lead
        latent, hidden = hp("latent_dim"), tuple(hp("units"))
        self.encoder = Network((width, *hidden, 2 * latent), lead)
        self.decoder = Network((latent, *hidden[::-1], width), lead)
        self.mass_decoder = Network((latent + 1, *hidden[::-1], width), lead)
        for network in (self.encoder, self.decoder, self.mass_decoder):
            network.build((None, network.widths[0]))
        self.latent = Latent(latent, hp("flow"), hp("num_flows"), members=self.members)
        self.latent.build((None, hidden[-1]))
        self.mass_mean, self.mass_std = (tf.Variable(one, trainable=False) for one in (0.0, 1.0))
        self.latent_median = tf.Variable(tf.zeros((*lead, latent)), trainable=False)
        self.kl_knots = tf.Variable(tf.zeros((*lead, KNOTS)), trainable=False)
        self.kl_shares = tf.Variable(tf.zeros((2, KNOTS)), trainable=False)
        parts = self.encoder, self.decoder, self.latent
        self.vae_weights = [weight for part in parts for weight in part.trainable_variables]
        self.vae_optimizer = self.descent(OPTIMIZERS[hp("optimizer")], self.vae_weights)
        self.decoder_optimizer = self.descent(keras.optimizers.Adam, self.mass_decoder.trainable_variables)
        self.measure("loss", "reconstruction", "kl")

    @property
    def optimizers(self):
        return self.vae_optimizer, self.decoder_optimizer

    def prepare(self):
        self.set_rate(self.vae_optimizer, "learning_rate")
        self.set_rate(self.decoder_optimizer, "decoder_learning_rate")

    def recipe(self):
        hp = self.hyperparameter
        peak = Watch("kl", best="max", keep=True, patience=hp("patience") or None)
        return (
            Phase("vae", hp("epochs"), main=True, watch=peak),
            Phase("decoder", hp("decoder_epochs"), program="decoder", watch=SETTLED),
        )

    def weighting(self, events):
        return MeanOne(events)

    # -- training ------------------------------------------------------------------------------------

    def watched_weights(self, phase):
        return self.vae_weights if phase.name == "vae" else self.mass_decoder.trainable_variables

    def begin(self, phase):
        if phase.name == "decoder":
            self.begin_anew(self.mass_decoder.trainable_variables, [self.decoder_optimizer])

    def learned(self, phase, events):
        """Write down how the training events lie in the latent space: what `median2` and `rarity` compare with."""
        if phase.name == "vae":
            some = events.sample(min(len(events), REFERENCE), seed=self.hyperparameter("seed"))
            found = self.results(some, ["latent", "kl"])
            self.latent_median.assign(np.median(found["latent"], axis=-2))
            knots, shares = distribution(found["kl"])
            self.kl_knots.assign(knots)
            self.kl_shares.assign(shares)

    def fit_decoder(self, events, **options) -> None:
        """Train the new decoder alone, the second step of `fit` (see `AnomalyModel.finish`); the encoder stays as it is."""
        if not self.hyperparameter("decoder_epochs"):
            raise InputError("decoder_epochs=0 leaves no second step to train; give this model some")
        if not self.resolved_columns or (self.best["vae"].epoch.numpy() < 0).any():
            raise InputError("the encoder is not trained; fit this model first")
        self.finish(events, **options)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch):
        terms = self._train_decoder(batch) if self.program == "decoder" else self._train_vae(batch)
        self.clock.assign_add(1)
        return self.record(**terms)

    def _train_vae(self, batch):
        with tf.GradientTape() as tape:
            terms = self._terms(batch, self.seeds * 1_000_003 + self.clock)
            loss = tf.reduce_sum(terms["loss"])  # over members
        gradients = tape.gradient(loss, self.vae_weights)
        self.vae_optimizer.apply_gradients(zip(gradients, self.vae_weights))
        return terms

    def _train_decoder(self, batch):
        seeds, weights = self.seeds * 1_000_003 + self.clock, self.mass_decoder.trainable_variables
        x, mass = batch["features"], batch["mass"]
        mass = mass * (1.0 + self.value("mass_width", 1) * normal(tf.shape(mass), seeds, use=1))
        inputs = self._with_mass(self.latent.draw(*self._encode(x), seeds)[0], mass)
        with tf.GradientTape() as tape:
            losses = tf.reduce_mean(batch["weight"] * mean_squared_error(x, self.mass_decoder(inputs)), -1)
            loss = tf.reduce_sum(losses)
        self.decoder_optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        return {"loss": losses}

    @tf.autograph.experimental.do_not_convert
    def test_step(self, batch):
        return self.record(**self._terms(batch, self.seeds))  # the same random numbers at every epoch (and batch)

    def _terms(self, batch, seeds):
        """Loss and its two terms, () or (K,) each."""
        x, w = batch["features"], batch["weight"]
        z, divergence = self.latent.draw(*self._encode(x), seeds)
        reconstruction = tf.reduce_mean(w * mean_squared_error(x, self.decoder(z)), -1)
        kl = tf.reduce_mean(w * divergence, -1)
        return {"loss": self.value("alpha") * reconstruction + kl, "reconstruction": reconstruction, "kl": kl}

    def _encode(self, x):
        """Mean and log variance, (..., B, latent_dim) each, of scaled features (B, F), and what a flow is made from."""
        h = self.encoder.hidden(x)
        return *tf.split(self.encoder.output_of(h), 2, axis=-1), h

    def _with_mass(self, z, mass):
        """The new decoder's input (..., B, latent_dim + 1)."""
        scaled = ((mass - self.mass_mean) / self.mass_std)[..., None]
        return tf.concat([z, tf.broadcast_to(scaled, (*tf.unstack(tf.shape(z))[:-1], 1))], -1)

    # -- use -----------------------------------------------------------------------------------------

    def infer(self, features):
        x = self.scaler(features)
        mean, log_var, h = self._encode(x)
        z, log_det = self.latent.forward(h, mean)
        decoded, kl = self.decoder(z), self.latent.divergence(mean, log_var, h)
        return {
            "kl": kl,
            "mean2": tf.reduce_sum(tf.square(z), -1),
            "median2": tf.reduce_sum(tf.square(z - self.latent_median[..., None, :]), -1),
            "log_var": tf.reduce_sum(log_var, -1) + 2.0 * log_det,
            "reconstruction": mean_squared_error(x, decoded),
            "rarity": self._rarity(kl),
            "reconstructed": self.scaler.inverse(decoded),
            "latent": z,
            "latent_log_var": log_var,
            **({} if self.latent.flow is None else {"latent_mean": mean}),
        }

    def _rarity(self, kl):
        """-log(2 min(F, 1 - F)) with F the share of training events below: 0 at their median, rising outwards for ever."""
        # equal knots are events of one KL, which count as below and as above it
        sides = zip(tf.unstack(self.kl_shares), ("right", "left"))
        share = tf.minimum(*(self._log_share(kl, shares, side) for shares, side in sides))
        return tf.nn.relu(-share - np.float32(np.log(2.0)))

    def _log_share(self, kl, shares, side):
        """Interpolate log shares (KNOTS,) linearly in KL; the outermost steps go on as far as KL does."""
        after = tf.clip_by_value(tf.searchsorted(self.kl_knots, kl, side=side), 1, KNOTS - 1)
        low, high = (tf.gather(self.kl_knots, at, axis=-1, batch_dims=len(self.lead)) for at in (after - 1, after))
        start, end = tf.gather(shares, after - 1), tf.gather(shares, after)
        return start + (end - start) * tf.math.divide_no_nan(kl - low, high - low)

    def generate(self, z: np.ndarray, mass: np.ndarray) -> np.ndarray:
        """Return what the new decoder makes of points of the latent space.

        Args:
            z: (N, latent_dim), or (N,) of one dimension.
            mass: (N,) m_jj in GeV, not smeared.

        Returns:
            Features (N, F) in physical units, columns as `resolved_columns`; of several members (K, N, F).

        Raises `InputError` for other shapes, or if there is no new decoder (decoder_epochs=0, or not trained).
        """
        latent = self.hyperparameter("latent_dim")
        z = np.asarray(z, np.float32)
        z, mass = z[:, None] if z.ndim == 1 else z, np.asarray(mass, np.float32)
        if z.ndim != 2 or z.shape[1] != latent or mass.shape != z.shape[:1]:
            raise InputError(f"z {z.shape} and mass {mass.shape}, expected (N, {latent}) and (N,)")
        return self._decode_with_mass(np.broadcast_to(z, (*self.lead, *z.shape)), mass)

    def _decode_with_mass(self, z, mass):
        if not self.resolved_columns or (self.best["decoder"].epoch.numpy() < 0).any():
            raise InputError("this model has no trained decoder of (z, m_jj); fit it with decoder_epochs > 0")
        return self.scaler.inverse(self.mass_decoder(self._with_mass(tf.constant(z), tf.constant(mass)))).numpy()

    def regenerate(self, events) -> np.ndarray:
        """Return what the new decoder makes of events, (N, F) or (K, N, F): of a latent number drawn for each, and m_jj.

        The numbers are drawn by `seed`. Raises `InputError` as `generate`.
        """
        mean = "latent" if self.latent.flow is None else "latent_mean"
        found = self.results(events, [mean, "latent_log_var"])
        rng = np.random.default_rng(self.hyperparameter("seed"))
        drawn = rng.standard_normal(found[mean].shape, dtype=np.float32)
        z0 = found[mean] + np.exp(found["latent_log_var"] / 2) * drawn
        return self._decode_with_mass(z0 if self.latent.flow is None else self._flowed(events, z0), events.mass)

    def _flowed(self, events, z0):
        """Send a number of each event, (N, latent_dim) or (K, N, latent_dim), through the flow."""
        parts, done = [], 0
        for block in events.blocks("features", columns=self.resolved_columns):
            h = self.encoder.hidden(self.scaler(block["features"]))
            part = z0[..., done : done + len(block["features"]), :]
            parts.append(self.latent.forward(h, tf.constant(part))[0].numpy())
            done += part.shape[-2]
        return np.concatenate(parts, axis=-2)

    def scan(self, events, points: tuple[int, int] = (60, 60), member: int = 0) -> dict[str, object]:
        """Return the observables that the new decoder of one member generates all over (z, m_jj), as in figure 4.

        Args:
            events: whose range of z and of the mass is scanned, between their 0.1 % and 99.9 % quantiles.
            points: of z and of the mass.
            member: which, since each has a latent space of its own.

        Returns:
            `z` (Nz,), `mass` (Nm,) in GeV, and `observables`, by column (Nm, Nz) in physical units.

        Raises `InputError` for more than one latent dimension, and as `generate`.
        """
        if self.hyperparameter("latent_dim") != 1:
            raise InputError(f"a scan is over one latent dimension, this model has {self.hyperparameter('latent_dim')}")
        if not 0 <= member < self.members:
            raise InputError(f"member={member} is not possible; expected 0 to {self.members - 1}")
        latent = self.results(events, ["latent"])["latent"]
        latent = (latent[member] if self.lead else latent)[:, 0]
        z, mass = (
            np.linspace(*np.quantile(values, [0.001, 0.999]), number)
            for values, number in zip((latent, events.mass), points)
        )
        both = [axis.ravel() for axis in np.meshgrid(z, mass)]
        made = self.generate(*both)
        made = (made[member] if self.lead else made).reshape(points[1], points[0], -1)
        columns = {name: made[..., i] for i, name in enumerate(self.resolved_columns)}
        return {"z": z, "mass": mass, "observables": columns}

    @classmethod
    def search_space(cls, hp):
        # few values for what changes shapes, each of which is compiled once; the weight and the rate are dials. The rates are
        # those between the usual ones of both optimizers: of Adadelta the high ones learn, of Adam the low ones.
        flows = list(FLOW.choices[1:])
        flow = hp.Choice("flow", ["none", *flows])  # KerasTuner knows no None
        with hp.conditional_scope("flow", flows):
            num_flows = hp.Choice("num_flows", [2, 6])  # None if there is no flow, or one that is not searched
        return {
            **({} if flow == "none" else {"flow": flow}),
            **({"num_flows": num_flows} if num_flows else {}),
            "latent_dim": hp.Choice("latent_dim", [1, 2]),
            "units": (hp.Choice("width", [32, 64, 128]),) * hp.Int("depth", 2, 3),
            "scaling": hp.Choice("scaling", ["maxabs", "standard"]),
            "batch_size": hp.Choice("batch_size", [1000, 250]),
            "optimizer": hp.Choice("optimizer", list(OPTIMIZERS)),
            "alpha": hp.Float("alpha", 1e3, 1e4, sampling="log"),
            "learning_rate": hp.Float("learning_rate", 3e-4, 1e-1, sampling="log"),
        }


def distribution(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return knots (..., KNOTS) of the distribution of values (..., N), and the log shares below and above, (2, KNOTS).

    Shares go in equal factors from 1/2 to 1/(2N), what is beyond the outermost of N values (Hazen 1914). The knot after
    it has a share e times smaller; it is as far out as the values are, on average, beyond the tenth from the end, or the
    last 0.1 %: the most likely exponential tail.

    >>> knots, shares = distribution(np.arange(1000.0))
    >>> float(knots[KNOTS // 2]), (np.exp(shares[:, KNOTS // 2])).round(6).tolist(), float(knots[1])
    (499.5, [0.5, 0.5], 0.0)
    """
    number = values.shape[-1]
    half = np.geomspace(0.5 / number, 0.5, STEPS + 1)
    inner = np.quantile(values.astype(float), [*half, *(1.0 - half[-2::-1])], axis=-1, method="hazen")
    knots = np.stack([inner[0] - _tail(-values), *inner, inner[-1] + _tail(values)], axis=-1)
    below = np.log([half[0] / np.e, *half, *(1.0 - half[-2::-1]), 1.0 - half[0] / np.e])
    return knots, np.stack([below, below[::-1]])


def _tail(values: np.ndarray) -> np.ndarray:
    """Return the scale (...) of an exponential tail of the largest of values (..., N); never so small that float32 loses it."""
    number = min(values.shape[-1], max(10, values.shape[-1] // 1000))
    last = np.sort(values.astype(float), axis=-1)[..., -number:]
    scale = (last - last[..., :1]).sum(axis=-1) / max(number - 1, 1)
    return np.maximum(scale, 1e-6 * (1.0 + np.abs(last[..., -1])))
