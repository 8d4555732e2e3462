"""VAE: a variational auto-encoder whose latent space is searched for bumps.

B. Bortolato, B. M. Dillon, J. F. Kamenik & A. Smolkovic, "Bump hunting in latent space", arXiv:2103.06595 (2021).
Equation and figure numbers are that paper's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from scipy.stats import rankdata

from pipelines.errors import InputError
from pipelines.events.statistics import masses_of
from zoo.base import (
    COUNT,
    COUNT_OR_ZERO,
    NOT_NEGATIVE,
    POSITIVE,
    UNITS,
    AnomalyModel,
    EarlyStopping,
    EventHyperparameters,
    Limit,
    Phase,
    Task,
    hyperparameter,
)
from zoo.ensemble import before
from zoo.keras import keras
from zoo.layers.dense import MLP
from zoo.layers.latent import FLOW, FLOWS_IN_A_ROW, Latent, search_flow
from zoo.layers.random import normal
from zoo.layers.rarity import Rarity
from zoo.losses import mean_squared_error
from zoo.registry import register

# m_j, tau_2/tau_1 and tau_3/tau_2 of the two jets, the heavier one first
COLUMNS = tuple(f"{variable}_{side}" for side in ("heavy", "light") for variable in ("mass", "tau21", "tau32"))

OPTIMIZERS = {"adadelta": keras.optimizers.Adadelta, "adam": keras.optimizers.Adam}
RATES = {"adadelta": (3e-4, 1e-1), "adam": (1e-4, 1e-2)}  # searched: those at which each of them learns
SETTLED = EarlyStopping("loss", patience=5, min_delta=1e-3)  # "approximate convergence" of the new decoder
REFERENCE = 100_000  # events that `median2` and `rarity` compare with, at most
SMEARING = 0.025  # of the mass, relative: a spread that events of one mass do not have


@register("vae")
class BumpHuntingVAE(AnomalyModel):
    """VAE with latent bump hunting (Bortolato et al. 2021): what lies far out in the latent space is anomalous.

    Step one trains encoder and decoder on (eq. 1), over batches of B events with F scaled features,

        1/B sum_i w_i [alpha mse_i + KL_i],    KL_i = 1/2 sum_l (z_il^2 + sigma_il^2 - 1 - log sigma_il^2)

    with z_i, sigma_i the encoder's mean and width, mse_i = 1/F sum_f (x_if - x'_if)^2 and x' decoded from a number drawn
    from N(z_i, sigma_i). What remains are the weights of the epoch whose KL is the **largest**: past it the latent space
    loses the events that matter. Event weights w_i have mean one.

    With a `flow` the number z0 drawn from N(z_i, sigma_i) goes through a normalizing flow. The encoder's last hidden
    layer gives its parameters, and the decoders get zK = f(z0); KL_i is then log q0(z0) - log |det df/dz0| - log p(zK),
    and for scores its mean over fixed numbers (see `zoo.layers.latent`). "The latent number" of an event is f(z_i).

    Step two freezes encoder and flow and trains a **new** decoder with Adam, until its error no longer falls. It learns
    from pairs of a latent number drawn as in step one and a mass drawn from N(m_jj, `mass_width` m_jj), in units of the
    standard deviation of the masses. It characterises the latent space (`generate`, `scan`); the score never sees the
    mass.

    Scores: `kl`; `mean2`, the sum of z_l^2; `median2`, the sum of (z_l - median z_l)^2; `log_var`, the sum of log
    sigma_l^2, with a flow plus 2 log |det| at z_i: log of the squared volume; `reconstruction`, the mean squared error
    of the decoder of step one; `rarity`, -log of the share of training events whose KL is as far out on the same side
    or on the other: large in **both** tails of KL, and growing beyond the outermost event of either as an exponential
    tail says. Which tail of a latent score the signal is in is not given by the method, and depends on where the bulk
    of the background lands: a search looks at both tails, or takes `rarity`.

    `aligned` is 1/2 + a_k (F_k - 1/2), with F_k the share of training events whose KL is smaller, and a_k a coefficient
    of member k (see `direction`). Its mean over members is, but for a factor, the first principal component of their ranks.
    It rises with the reconstruction error, and no label is in it. Runs of earlier versions do not have it.

    Raises `InputError` naming a hyperparameter out of range.

    Example:
        >>> import zoo
        >>> zoo.get("vae", members=20).get_config()["alpha"]
        5000.0
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(EventHyperparameters):
        columns: Sequence[str] = hyperparameter(
            COLUMNS, "names or patterns of the features, by default the paper's 6 (see `pipelines.events.derived`)"
        )
        scaling: str = hyperparameter("maxabs")
        latent_dim: int = hyperparameter(1, "dimensions of the latent space", UNITS)
        units: Sequence[int] = hyperparameter(
            (64, 64, 64),
            "widths of the encoder's hidden layers; the decoders have the same in reverse",
            UNITS,
            resizable=True,
        )
        flow: str | None = hyperparameter(
            None, "a normalizing flow behind the latent space (see `zoo.layers.flows`); None is the paper's", FLOW
        )
        num_flows: int = hyperparameter(6, "flows in a row, if there is a flow", FLOWS_IN_A_ROW, resizable=True)
        alpha: float = hyperparameter(5000.0, "weight of the reconstruction", POSITIVE, runtime=True)
        optimizer: str = hyperparameter(
            "adadelta",
            'of step one, "adadelta" (the paper) or "adam"',
            Limit(choices=tuple(OPTIMIZERS)),
            switchable=True,
        )
        learning_rate: float = hyperparameter(
            0.001,
            "of step one. Keras' default for Adadelta is 0.001, that of its inventor 1",
            POSITIVE,
            runtime=True,
        )
        epochs: int = hyperparameter(100, "of step one, at most: the best of them is what remains", COUNT)
        patience: int = hyperparameter(
            0, "stop a member that many epochs after its largest KL; 0 for never", COUNT_OR_ZERO
        )
        decoder_epochs: int = hyperparameter(50, "of step two, at most; 0 leaves it out", COUNT_OR_ZERO)
        decoder_learning_rate: float = hyperparameter(0.001, "of step two", POSITIVE, runtime=True)
        mass_width: float = hyperparameter(0.025, "relative width of the mass in step two", NOT_NEGATIVE, runtime=True)
        batch_size: int = hyperparameter(1000)

    hp: Hyperparameters

    presets = {
        "lhco2020": {"members": 20},
        "adam": {"optimizer": "adam", "learning_rate": 0.001},
    }
    score_kinds = ("aligned", "kl", "mean2", "median2", "log_var", "reconstruction", "rarity")
    undirected = ("aligned", "kl", "mean2", "median2", "log_var")
    newer_state = ("direction",)
    stochastic = True
    any_batch_size = True
    searched_by_xla = False
    step_knows_scaling = False

    def make(self, width):
        hp, members = self.hp, self.member_shape
        decoder = [*hp.units[::-1], width]
        self.encoder = MLP([*hp.units, 2 * hp.latent_dim], "selu", member_shape=members, inputs=width)
        self.decoder = MLP(decoder, "selu", member_shape=members, inputs=hp.latent_dim)
        self.mass_decoder = MLP(decoder, "selu", member_shape=members, inputs=hp.latent_dim + 1)
        self.latent = Latent(hp.latent_dim, hp.flow, hp.num_flows, members=self.members)
        self.latent.build((None, hp.units[-1]))
        self.mass_mean, self.mass_std = (tf.Variable(one, trainable=False) for one in (0.0, 1.0))
        self.latent_median = tf.Variable(tf.zeros((*members, hp.latent_dim)), trainable=False)
        self.rarity = Rarity(members)
        self.direction = tf.Variable(tf.zeros(members), trainable=False)  # zeros: not known
        self.create_metrics("loss", "reconstruction", "kl")

    def own_state(self):
        fixed = [self.mass_mean, self.mass_std, self.latent_median, self.rarity.knots, self.rarity.shares]
        return {**super().own_state(), "fixed": fixed, "direction": [self.direction]}

    def prepare(self):
        for learnt in (self.direction, self.latent_median, self.rarity.shares):
            learnt.assign(tf.zeros_like(learnt))
        self.on_state_loaded()

    def on_state_loaded(self):
        """Have those scores that are known: `median2` and `rarity` after step one, `aligned` of runs of this version."""
        unknown = set() if self.knows_latent_space else {"median2", "rarity"}
        unknown |= set() if self.direction.numpy().any() else {"aligned"}
        self.score_kinds = tuple(kind for kind in type(self).score_kinds if kind not in unknown)

    @property
    def knows_latent_space(self) -> bool:
        """Whether it has learnt how the training events lie in the latent space."""
        return bool(self.rarity.shares.numpy().any())

    def adapt(self, events):
        super().adapt(events)
        masses = masses_of(events)
        mean = masses.mass.mean(dtype=np.float64)
        std = (sum(((mass - mean) ** 2).sum() for mass, _ in masses.blocks()) / len(masses)) ** 0.5
        smear = SMEARING * abs(mean)
        self.mass_mean.assign(mean)
        self.mass_std.assign(std if std > 1e-4 * smear else smear or 1.0)  # of one mass, what step two makes of it

    # -- training ------------------------------------------------------------------------------------

    def recipe(self):
        peak = EarlyStopping("kl", mode="max", patience=self.hp.patience or None, restore_best_weights=True)
        return (
            Phase("vae", self.hp.epochs, main=True, early_stopping=peak),
            Phase("decoder", self.hp.decoder_epochs, program="decoder", early_stopping=SETTLED),
        )

    def tasks(self):
        parts = self.encoder, self.decoder, self.latent
        vae_weights = [weight for part in parts for weight in part.trainable_variables]
        decoder_weights = self.mass_decoder.trainable_variables
        optimizer = self.make_optimizer(OPTIMIZERS[self.hp.optimizer], vae_weights)
        adam = self.make_optimizer(keras.optimizers.Adam, decoder_weights, "decoder_learning_rate")
        return {
            "vae": Task(self.losses, optimizer, vae_weights),
            "decoder": Task(self.decoder_losses, adam, decoder_weights),
        }

    def losses(self, batch, seed, training):
        """Loss (eq. 1) and its two terms, () or (K,) each."""
        x, w = batch["features"], batch["weight"]
        z, divergence = self.latent.draw(*self.encode(x), seed)
        reconstruction = tf.reduce_mean(w * mean_squared_error(x, self.decoder(z)), -1)
        kl = tf.reduce_mean(w * divergence, -1)
        return {"loss": self.runtime.alpha * reconstruction + kl, "reconstruction": reconstruction, "kl": kl}

    def decoder_losses(self, batch, seed, training):
        """The error of the new decoder, of latent numbers and smeared masses, () or (K,)."""
        x, mass = batch["features"], batch["mass"]
        mass = mass * (1.0 + before(self.runtime.mass_width, 1) * normal(tf.shape(mass), seed, use=1))
        z, _ = self.latent.draw(*self.encode(x), seed)
        error = mean_squared_error(x, self.mass_decoder(self._with_mass(z, mass)))
        return {"loss": tf.reduce_mean(batch["weight"] * error, -1)}

    def encode(self, x):
        """Mean and log variance, (..., B, latent_dim) each, of scaled features (B, F), and what a flow is made from."""
        h = self.encoder.hidden(x)
        return *tf.split(self.encoder.output_of(h), 2, axis=-1), h

    def _with_mass(self, z, mass):
        """The new decoder's input (..., B, latent_dim + 1)."""
        scaled = ((mass - self.mass_mean) / self.mass_std)[..., None]
        return tf.concat([z, tf.broadcast_to(scaled, (*tf.unstack(tf.shape(z))[:-1], 1))], -1)

    def on_phase_begin(self, phase):
        if phase.name == "decoder":
            task = self.trainer.tasks["decoder"]
            self.reinitialize(task.weights, [task.optimizer])

    def on_phase_end(self, phase, events):
        """Learn how the training events lie in the latent space: what `median2`, `rarity` and `aligned` compare with."""
        if phase.name == "vae":
            some = events.sample(min(len(events), REFERENCE), seed=self.hp.seed)
            found = self.results(some, ["latent", "kl", "reconstruction"])
            self.latent_median.assign(np.median(found["latent"], axis=-2))
            self.rarity.adapt(found["kl"])
            self.direction.assign(direction(found["kl"], found["reconstruction"]))
            self.on_state_loaded()

    def fit_decoder(self, events, *, verbose=0, jit_compile: bool = True, memory=None, cache=None) -> None:
        """Train the new decoder alone, the second step of `fit`: the encoder and all scores stay as they are.

        After `fit(finish=False)` it is `finish`: what scores need to know of the events is learnt too.
        """
        if not self.hp.decoder_epochs:
            raise InputError("decoder_epochs=0 leaves no second step to train; give this model some")
        if not self.resolved_columns or (self.best["vae"].epoch.numpy() < 0).any():
            raise InputError("the encoder is not trained; fit this model first")
        start = "later" if self.knows_latent_space else "after"
        self.trainer.fit(events, start=start, verbose=verbose, jit_compile=jit_compile, memory=memory, cache=cache)

    # -- use -----------------------------------------------------------------------------------------

    def infer(self, features):
        x = self.scaler(features)
        mean, log_var, h = self.encode(x)
        z, log_det = self.latent.forward(h, mean)
        decoded, kl = self.decoder(z), self.latent.divergence(mean, log_var, h)
        return {
            "aligned": 0.5 + before(self.direction, 1) * (self.rarity.share_below(kl) - 0.5),
            "kl": kl,
            "mean2": tf.reduce_sum(tf.square(z), -1),
            "median2": tf.reduce_sum(tf.square(z - self.latent_median[..., None, :]), -1),
            "log_var": tf.reduce_sum(log_var, -1) + 2.0 * log_det,
            "reconstruction": mean_squared_error(x, decoded),
            "rarity": self.rarity(kl),
            "reconstructed": self.scaler.inverse(decoded),
            "latent": z,
            "latent_log_var": log_var,
            **({} if self.latent.flow is None else {"latent_mean": mean}),
        }

    def generate(self, z: np.ndarray, mass: np.ndarray) -> np.ndarray:
        """Return what the new decoder makes of points of the latent space.

        Args:
            z: (N, latent_dim), or (N,) of one dimension.
            mass: (N,) m_jj in GeV, not smeared.

        Returns:
            Features (N, F) in physical units, columns as `resolved_columns`; of several members (K, N, F).

        Raises `InputError` for other shapes, or if there is no new decoder (decoder_epochs=0, or not trained).
        """
        latent = self.hp.latent_dim
        z = np.asarray(z, np.float32)
        z, mass = z[:, None] if z.ndim == 1 else z, np.asarray(mass, np.float32)
        if z.ndim != 2 or z.shape[1] != latent or mass.shape != z.shape[:1]:
            raise InputError(f"z {z.shape} and mass {mass.shape}, expected (N, {latent}) and (N,)")
        return self._decode_with_mass(np.broadcast_to(z, (*self.member_shape, *z.shape)), mass)

    def _decode_with_mass(self, z, mass):
        if not self.resolved_columns or (self.best["decoder"].epoch.numpy() < 0).any():
            raise InputError("this model has no trained decoder of (z, m_jj); fit it with decoder_epochs > 0")
        return self.scaler.inverse(self.mass_decoder(self._with_mass(tf.constant(z), tf.constant(mass)))).numpy()

    def regenerate(self, events) -> np.ndarray:
        """Return what the new decoder makes of a drawn latent number and m_jj of each event, (N, F) or (K, N, F).

        The numbers are drawn by `seed`. Raises `InputError` as `generate`.
        """
        mean = "latent" if self.latent.flow is None else "latent_mean"
        found = self.results(events, [mean, "latent_log_var"])
        rng = np.random.default_rng(self.hp.seed)
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
        if self.hp.latent_dim != 1:
            raise InputError(f"a scan is over one latent dimension, this model has {self.hp.latent_dim}")
        if not 0 <= member < self.members:
            raise InputError(f"member={member} is not possible; expected 0 to {self.members - 1}")
        latent = self.results(events, ["latent"])["latent"]
        latent = (latent[member] if self.member_shape else latent)[:, 0]
        z, mass = (
            np.linspace(np.quantile(values, 0.001), np.quantile(values, 0.999), number)
            for values, number in zip((latent, events.mass), points)
        )
        both = [axis.ravel() for axis in np.meshgrid(z, mass)]
        made = self.generate(*both)
        made = (made[member] if self.member_shape else made).reshape(points[1], points[0], -1)
        columns = {name: made[..., i] for i, name in enumerate(self.resolved_columns)}
        return {"z": z, "mass": mass, "observables": columns}

    @classmethod
    def search_space(cls, hp):
        # few values for what changes shapes, each of which is compiled once; the weight and the rate are runtime hyperparameters
        found = {
            **search_flow(hp, FLOW.choices[1:]),
            "latent_dim": hp.Choice("latent_dim", [1, 2]),
            "units": (hp.Choice("width", [32, 64, 128]),) * hp.Int("depth", 2, 3),
            "scaling": hp.Choice("scaling", ["maxabs", "standard"]),
            "batch_size": hp.Choice("batch_size", [1000, 250]),
            "optimizer": hp.Choice("optimizer", list(OPTIMIZERS)),
            "alpha": hp.Float("alpha", 1e3, 1e4, sampling="log"),
        }
        for optimizer, (low, high) in RATES.items():
            with hp.conditional_scope("optimizer", [optimizer]):
                rate = hp.Float("learning_rate", low, high, sampling="log")
            found |= {} if rate is None else {"learning_rate": rate}
        return found


def direction(scores: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """Return the coefficients by which the centred ranks of members' scores are added, (K,), or () of one score (N,).

    They are those of the first principal component of the ranks: a member that orders events the other way round has a
    negative one, and a member that has little to do with the others a small one. The component rises with the
    reconstruction errors of the same members, (K, N): the sum of coefficient times rank correlation over members is not
    negative. The mean of their magnitudes is 1. A member with a value that is not finite has the coefficient 0.

    >>> rising, errors = np.array([1.0, 2.0, 4.0]), np.array([1.0, 5.0, 9.0])
    >>> float(direction(rising, errors)), direction(np.stack([-rising, rising]), np.stack([-errors, -errors])).round(3).tolist()
    (1.0, [1.0, -1.0])
    """
    ranks, errors = (_standard_ranks(np.atleast_2d(one)) for one in (scores, reconstruction))
    found = np.linalg.eigh(ranks @ ranks.T)[1][:, -1]
    found = np.where(ranks.any(axis=-1), found, 0.0)
    found = found if found @ (ranks * errors).sum(axis=1) >= 0 else -found
    found = found / (np.abs(found).mean() or 1.0)
    return found.reshape(np.shape(scores)[:-1]).astype(np.float32)


def _standard_ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks (K, N) of mean 0 and of length 1, or 0 of values that are all alike, or not all finite."""
    ranks = rankdata(np.where(np.isfinite(values).all(axis=-1, keepdims=True), values, 0.0), axis=-1)
    ranks -= ranks.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(ranks, axis=-1, keepdims=True)
    return ranks / np.where(length > 0, length, 1.0)
