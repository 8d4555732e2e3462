"""Variational auto-encoders of sets of particles: all that `conv_vae` and `gcn_vae` have in common.

P. Jawahar, T. Aarrestad, M. Pierini, K. A. Wozniak, J. Ngadiuba, J. Duarte & S. Tsan, "Improving variational autoencoders
for new physics detection at the LHC with normalizing flows", Front. Big Data 5 (2022) 803685, arXiv:2110.08508. Equation
and section numbers are that paper's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from pipelines.datasets.darkmachines import SLOTS, TRUNCATED_SLOTS
from pipelines.errors import InputError
from pipelines.events.weighting import MeanOne
from zoo.base import COUNT, COUNT_OR_ZERO, FLAG, NOT_NEGATIVE, POSITIVE, AnomalyModel, Limit, Phase
from zoo.keras import keras
from zoo.layers import scalers
from zoo.layers.dense import plus, product
from zoo.layers.latent import FLOW, Latent
from zoo.losses import chamfer, mean_squared_error

MOMENTUM = ("E", "pt", "eta", "phi")
TYPES = len(SLOTS)  # of objects, 1 to this, in the column "type"
# latent scores end here: a variance beyond float32 would make them infinite, and with them the mean over members
HIGHEST = 1e30
HIGH_LEVEL = ("MET", "HT")  # m_eff, their sum, is the mass of these events, which no model is shown
PAPER = {"batch_size": 32, "learning_rate": 1e-4}
PRESETS = {
    "darkmachines": PAPER,
    "truncated": {**PAPER, "truncated": True, "multiplicities": True},
    "high_level_features": {**PAPER, "high_level_features": True},
    "householder": {**PAPER, "flow": "householder", "num_flows": 6},
}


@dataclasses.dataclass
class Event:
    """Events as a network sees them: particles (B, P, C), zero in empty slots, which are real (B, P), their graph, if the
    network has one, and what else is known of an event (B, E)."""

    particles: tf.Tensor
    mask: tf.Tensor
    graph: tf.Tensor | None
    beside: tf.Tensor


class Dense(keras.layers.Layer):
    """x W + b for rows (..., B, F); with members (`lead`) weights have a leading axis."""

    def __init__(self, width: int, lead: tuple[int, ...] = (), **kwargs):
        super().__init__(**kwargs)
        self.width, self.lead = width, tuple(lead)

    def build(self, shape):
        self.kernel = self.add_weight("kernel", (*self.lead, shape[-1], self.width))
        self.bias = self.add_weight("bias", (*self.lead, self.width), initializer="zeros")
        super().build(shape)

    def call(self, x):
        return plus(product(x, self.kernel), self.bias)


class SetVAE(AnomalyModel):
    """What a VAE of particles is but for its network: inputs, latent space, loss, scores.

    A subclass makes `self.encoder`, called with an `Event` and giving (..., B, H), and `self.decoder`, called with
    (..., B, *decoder.start) and the `Event` and giving particles (..., B, P, C), in `networks`.
    """

    takes = "objects"
    figures = ("errors", "roc", "scan")  # particles are no observables
    presets = PRESETS
    score_kinds = ("chamfer", "kl", "radius")
    undirected = ("kl", "radius")
    stochastic = True
    dials = ("beta", "learning_rate", "high_level_weight")
    limits = {
        **dict.fromkeys(("latent_dim", "epochs", "batch_size", "num_flows"), COUNT),
        **dict.fromkeys(("slots", "seed"), COUNT_OR_ZERO),
        **dict.fromkeys(("truncated", "multiplicities", "high_level_features"), FLAG),
        "beta": Limit(0, 1),
        "learning_rate": POSITIVE,
        "high_level_weight": NOT_NEGATIVE,
        "flow": FLOW,
        "scaling": Limit(choices=("standard", "minmax", "maxabs")),
    }

    def __init__(self, hyperparameters: Mapping[str, object]):
        chosen, wanted = hyperparameters["columns"], hyperparameters["high_level_features"]
        if wanted is True and not chosen:
            raise InputError(f"high_level_features=True needs columns, such as {', '.join(HIGH_LEVEL)}")
        if wanted is False and isinstance(chosen, (list, tuple)) and tuple(chosen) not in ((), HIGH_LEVEL):
            raise InputError(
                f"columns={list(chosen)}: taken with high_level_features=True only; set it, or leave them out"
            )
        super().__init__({**hyperparameters, "columns": chosen if wanted else ()})
        self.particle_scaler = scalers.make(self.hyperparameter("scaling"))
        self.count_scaler = scalers.make("standard")

    @classmethod
    def check(cls, hyperparameters):
        super().check(hyperparameters)
        names = hyperparameters.get("particle_features", MOMENTUM)
        if not isinstance(names, (list, tuple)) or not names or len(set(names)) < len(names):
            raise InputError(
                f"particle_features={names!r} is not possible; expected names of object columns, each once"
            )

    # -- meeting the data ------------------------------------------------------------------------

    def fit_scaling(self, events, inputs):
        """Fit the scaling of real particles, in one pass, and of multiplicities and high-level features, if any, in others."""
        super().fit_scaling(events, inputs)
        names = self.hyperparameter("particle_features")
        fields = columns_of(names, inputs.object_columns, "particle_features")
        self.particle_scaler.build((None, len(fields)))
        blocks = events.blocks("objects", "mask")
        self.particle_scaler.adapt(block["objects"][block["mask"]][:, fields] for block in blocks)
        if self.hyperparameter("multiplicities"):
            kind = type_column(inputs.slots, inputs.object_columns)
            self.count_scaler.build((None, TYPES))
            self.count_scaler.adapt(
                count_types(block["objects"][..., kind]).numpy() for block in events.blocks("objects")
            )

    def make(self, width):
        hp, lead, columns = self.hyperparameter, self.lead, self.inputs.object_columns
        self.fields = columns_of(hp("particle_features"), columns, "particle_features")
        self.places = truncation(self.inputs.slots) if hp("truncated") else tuple(range(self.inputs.slots))
        self.kind = type_column(self.inputs.slots, columns) if hp("multiplicities") else None
        for scaler, size in ((self.particle_scaler, len(self.fields)), (self.count_scaler, TYPES)):
            if not scaler.built:
                scaler.build((None, size))
        self.encoder, self.decoder = self.networks(len(self.places), len(self.fields))
        hidden = self.encoder.size + width + (TYPES if hp("multiplicities") else 0)
        self.to_latent = Dense(2 * hp("latent_dim"), lead)
        self.to_latent.build((None, hidden))
        self.from_latent = Dense(int(np.prod(self.decoder.start)) + width, lead)
        self.from_latent.build((None, hp("latent_dim")))
        self.latent = Latent(hp("latent_dim"), hp("flow"), hp("num_flows"), members=self.members)
        self.latent.build((None, hidden))
        parts = (self.encoder, self.to_latent, self.latent, self.from_latent, self.decoder)
        self.network = [weight for part in parts for weight in part.trainable_variables]
        self.adam = self.descent(keras.optimizers.Adam, self.network)
        self.measure("loss", "chamfer", "kl", *(["high_level"] if width else []))

    def networks(self, slots: int, width: int):
        """Return encoder and decoder of particles (P, C); `encoder.size` and `decoder.start` say what is between them."""
        raise NotImplementedError

    def graph(self, objects: tf.Tensor, mask: tf.Tensor) -> tf.Tensor | None:
        """Return the graph that the networks use, from objects in physical units; None if they use none."""
        return None

    @property
    def optimizers(self):
        return (self.adam,)

    def prepare(self):
        self.set_rate(self.adam, "learning_rate")

    def recipe(self):
        return (Phase("vae", self.hyperparameter("epochs")),)

    def weighting(self, events):
        return MeanOne(events)

    # -- training --------------------------------------------------------------------------------

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch):
        with tf.GradientTape() as tape:
            terms = self._terms(batch, self.seeds * 1_000_003 + self.clock)
            loss = tf.reduce_sum(terms["loss"])  # over members
        self.adam.apply_gradients(zip(tape.gradient(loss, self.network), self.network))
        self.clock.assign_add(1)
        return self.record(**terms)

    @tf.autograph.experimental.do_not_convert
    def test_step(self, batch):
        return self.record(**self._terms(batch, self.seeds))  # the same random numbers at every epoch (and batch)

    def _terms(self, batch, seeds):
        """Loss (eq. 1 and, of high-level features, section 4.3) and its terms, () or (K,) each."""
        event, weight, beta = self.event(batch["objects"], batch.get("features")), batch["weight"], self.value("beta")
        mean, log_var, h = self.encode(event)
        z, kl = self.latent.draw(mean, log_var, h, seeds)
        particles, high_level = self.decode(z, event)
        terms = {"chamfer": chamfer(event.particles, particles, event.mask, event.mask), "kl": kl}
        if self.inputs.columns:
            terms["high_level"] = mean_squared_error(batch["features"], high_level)
        terms = {name: tf.reduce_mean(weight * term, -1) for name, term in terms.items()}
        loss = (1.0 - beta) * terms["chamfer"] + beta * terms["kl"]
        if self.inputs.columns:
            loss += self.value("high_level_weight") * terms["high_level"]
        return {"loss": loss, **terms}

    def event(self, objects: tf.Tensor, features: tf.Tensor | None) -> Event:
        """Return events from objects (B, P, C) in physical units and features (B, F) in the network's."""
        beside = [] if features is None else [features]
        if self.kind is not None:  # of all slots, before the list is cut
            beside.append(self.count_scaler(count_types(objects[..., self.kind])))
        objects = tf.gather(objects, self.places, axis=1) if len(self.places) < self.inputs.slots else objects
        mask = tf.reduce_any(objects != 0.0, -1)
        x = tf.stack([objects[..., field] for field in self.fields], -1)
        x = tf.where(mask[..., None], self.particle_scaler(x), 0.0)
        return Event(
            x, mask, self.graph(objects, mask), tf.concat(beside, -1) if beside else tf.zeros((tf.shape(x)[0], 0))
        )

    def encode(self, event: Event) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return mean and log variance (..., B, latent_dim), and the hidden layer before them (..., B, H)."""
        h = self.encoder(event)
        if event.beside.shape[-1]:
            beside = tf.broadcast_to(event.beside, (*tf.unstack(tf.shape(h)[:-1]), event.beside.shape[-1]))
            h = tf.concat([h, beside], -1)
        mean, log_var = tf.split(self.to_latent(h), 2, axis=-1)
        return mean, log_var, h

    def decode(self, z: tf.Tensor, event: Event) -> tuple[tf.Tensor, tf.Tensor]:
        """Return particles (..., B, P, C) and high-level features (..., B, F), in the network's units."""
        width = len(self.inputs.columns)
        h = self.from_latent(z)
        start, high_level = tf.split(h, [h.shape[-1] - width, width], axis=-1)
        start = tf.reshape(start, (*self.lead, -1, *self.decoder.start))
        return self.decoder(start, event), high_level

    # -- use -------------------------------------------------------------------------------------

    def infer(self, objects, features=None):
        features = None if features is None else self.scaler(features)
        event = self.event(objects, features)
        mean, log_var, h = self.encode(event)
        z, _ = self.latent.forward(h, mean)
        particles, high_level = self.decode(z, event)
        found = {
            "chamfer": chamfer(event.particles, particles, event.mask, event.mask),
            "kl": tf.minimum(self.latent.divergence(mean, log_var, h), HIGHEST),
            "radius": tf.minimum(tf.reduce_sum(tf.square(mean) * tf.exp(-log_var), -1), HIGHEST),
            "reconstructed": tf.where(event.mask[..., None], self.particle_scaler.inverse(particles), 0.0),
            "latent": z,
            "latent_log_var": log_var,
        }
        found |= {} if self.latent.flow is None else {"latent_mean": mean}
        return found | ({} if features is None else {"reconstructed_features": self.scaler.inverse(high_level)})


def columns_of(names: Sequence[str], columns: Sequence[str], why: str) -> list[int]:
    """Return where names are among the columns of objects; raises `InputError` for one that is not, saying what needs it.

    >>> columns_of(("pt", "phi"), ("E", "pt", "eta", "phi"), "particle_features")
    [1, 3]
    """
    if missing := [name for name in names if name not in columns]:
        raise InputError(f"{why}: objects have no column {missing[0]!r}; they have {', '.join(columns)}")
    return [list(columns).index(name) for name in names]


def type_column(slots: int, columns: Sequence[str]) -> int:
    """Return which object column multiplicities are counted by.

    Raises `InputError` if there is none, or if so many slots are those of a list that has been cut.

    >>> type_column(39, ("E", "pt", "eta", "phi", "type"))
    4
    """
    if slots == sum(TRUNCATED_SLOTS):
        raise InputError(
            f"multiplicities=True: objects have {slots} slots, a list that has been cut, of which no more than "
            f"{max(TRUNCATED_SLOTS)} of a type can be counted; expected the {sum(SLOTS)} of Dark Machines events: convert "
            f"without `truncated`, and let the model cut the list by truncated=True"
        )
    return columns_of(("type",), columns, "multiplicities")[0]


def truncation(slots: int) -> tuple[int, ...]:
    """Return which of so many slots the truncated list has: the four leading jets, three of each other type (section 4.1).

    Raises `InputError` if these are not the slots of Dark Machines events.

    >>> truncation(39)[:7]
    (0, 1, 2, 3, 15, 16, 17)
    """
    if slots == sum(TRUNCATED_SLOTS):
        return tuple(range(slots))
    if slots != sum(SLOTS):
        raise InputError(
            f"truncated=True: objects have {slots} slots, expected the {sum(SLOTS)} of Dark Machines events"
        )
    first = np.cumsum(SLOTS) - SLOTS
    return tuple(int(start) + i for start, kept in zip(first, TRUNCATED_SLOTS) for i in range(kept))


def count_types(kind: tf.Tensor) -> tf.Tensor:
    """Return how many objects of each type 1 to 7 there are, (B, 7), from types (B, P).

    >>> count_types(tf.constant([[1.0, 1.0, 2.0, 0.0]])).numpy().tolist()
    [[2.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    return tf.reduce_sum(tf.cast(kind[..., None] == tf.range(1.0, TYPES + 1.0), tf.float32), 1)
