"""Variational auto-encoders of sets of particles: all that `conv_vae` and `gcn_vae` have in common.

P. Jawahar, T. Aarrestad, M. Pierini, K. A. Wozniak, J. Ngadiuba, J. Duarte & S. Tsan, "Improving variational autoencoders
for new physics detection at the LHC with normalizing flows", Front. Big Data 5 (2022) 803685, arXiv:2110.08508. Equation
and section numbers are that paper's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pipelines.datasets.darkmachines_events import SLOTS, check_countable, truncated_places
from pipelines.errors import InputError
from zoo.base import (
    COUNT,
    FLAG,
    NOT_NEGATIVE,
    POSITIVE,
    UNITS,
    AnomalyModel,
    Limit,
    ObjectHyperparameters,
    Phase,
    Task,
    hyperparameter,
)
from zoo.keras import keras
from zoo.layers import scalers
from zoo.layers.dense import Dense
from zoo.layers.latent import FLOW, FLOWS_IN_A_ROW, Latent
from zoo.layers.scalers import Scaling
from zoo.losses import chamfer, mean_squared_error

MOMENTUM = ("E", "pt", "eta", "phi")
FLOWS = ("planar", "householder", "iaf")  # one of each kind, to search
TYPES = len(SLOTS)  # of objects, 1 to this, in the column "type"
# latent scores end here: a variance beyond float32 would make them infinite, and with them the mean over members
HIGHEST = 1e30
HIGH_LEVEL = ("MET", "HT")  # m_eff, their sum, is the mass of these events, which no model is shown
PAPER: dict[str, object] = {"batch_size": 32, "learning_rate": 1e-4}
PRESETS: dict[str, dict[str, object]] = {
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


class SetVAE(AnomalyModel):
    """What a VAE of particles is but for its network: inputs, latent space, loss, scores.

    A subclass makes `self.encoder`, called with an `Event` and giving (..., B, H), and `self.decoder`, called with
    (..., B, *decoder.start) and the `Event` and giving particles (..., B, P, C), in `networks`.
    """

    takes = "objects"
    figures = ("errors", "roc", "scan")  # particles are no observables
    presets = PRESETS
    score_kinds = ("chamfer", "kl", "radius")
    searched_by_xla = 10_000  # docs/results.md, Tuner
    undirected = ("kl", "radius")
    stochastic = True

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(ObjectHyperparameters):
        columns: Sequence[str] = hyperparameter(HIGH_LEVEL, "the high-level features, with `high_level_features`")
        scaling: str = hyperparameter(
            "standard",
            'of particles, by those that are there, and of columns: "standard" (the paper), "minmax" or "maxabs"',
            Limit(choices=("standard", "minmax", "maxabs")),
        )
        particle_features: Sequence[str] = hyperparameter(
            MOMENTUM, "which object columns a particle has in the network and in the Chamfer distance"
        )
        truncated: bool = hyperparameter(
            False,
            "keep the four leading jets and three of each other type, of the 39 slots of Dark Machines events",
            FLAG,
        )
        multiplicities: bool = hyperparameter(
            False,
            "give the encoder the number of objects of each type too: those in the 39 slots, before the list is cut",
            FLAG,
        )
        high_level_features: bool = hyperparameter(False, "give it `columns` too, and reconstruct them", FLAG)
        high_level_weight: float = hyperparameter(
            1.0, "weight of their mean squared error in the loss", NOT_NEGATIVE, runtime=True
        )
        latent_dim: int = hyperparameter(15, "dimensions of the latent space", UNITS)
        flow: str | None = hyperparameter(
            None, "a normalizing flow behind the latent space (see `zoo.layers.flows`), None for none", FLOW
        )
        num_flows: int = hyperparameter(
            6, 'flows in a row. The paper has 6, and 4 of "iaf" and "convolutional"', FLOWS_IN_A_ROW, resizable=True
        )
        beta: float = hyperparameter(
            0.5, "weight of KL; 1 - beta is that of the Chamfer distance", Limit(0, 1), runtime=True
        )
        learning_rate: float = hyperparameter(0.001, "of Adam", POSITIVE, runtime=True)
        epochs: int = hyperparameter(30, "passes through the events", COUNT)
        batch_size: int = hyperparameter(256)

        def check(self):
            super().check()
            if self.high_level_features and not self.columns:
                raise InputError(f"high_level_features=True needs columns, such as {', '.join(HIGH_LEVEL)}")
            if not self.high_level_features and tuple(self.columns) not in ((), HIGH_LEVEL):
                raise InputError(
                    f"columns={list(self.columns)}: taken with high_level_features=True only; set it, or leave them out"
                )
            names = self.particle_features
            if not isinstance(names, (list, tuple)) or not names or len(set(names)) < len(names):
                raise InputError(
                    f"particle_features={names!r} is not possible; expected names of object columns, each once"
                )

    hp: Hyperparameters

    def __init__(self, given=None, /, **hyperparameters):
        super().__init__(given, **hyperparameters)
        if not self.hp.high_level_features:
            self.hp = self.hp.replaced(columns=())
        self.particle_scaler = scalers.make(self.hp.scaling)
        self.count_scaler = scalers.make("standard")

    # -- meeting the data ------------------------------------------------------------------------

    def taken_from(self, events):
        """As `AnomalyModel.taken_from`; raises `InputError` too for objects without what the hyperparameters ask for."""
        inputs = super().taken_from(events)
        columns_of(self.hp.particle_features, inputs.object_columns, "particle_features")
        if self.hp.truncated:
            truncated_places(inputs.slots)
        if self.hp.multiplicities:
            type_column(inputs.slots, inputs.object_columns)
        return inputs

    def scalings(self, inputs):
        """Return what fits the scaling of features, of real particles, and of multiplicities if they are taken."""
        found, seed = super().scalings(inputs), self.hp.seed
        fields = columns_of(self.hp.particle_features, inputs.object_columns, "particle_features")
        self._build_scaler(self.particle_scaler, len(fields))
        found.append(Scaling(
            self.particle_scaler, seed, ("particles", tuple(fields)), ("objects", "mask"),
            values=lambda block: block["objects"][block["mask"]][:, fields],
        ))  # fmt: skip
        if self.hp.multiplicities:
            kind = type_column(inputs.slots, inputs.object_columns)
            self._build_scaler(self.count_scaler, TYPES)
            found.append(Scaling(
                self.count_scaler, seed, ("multiplicities", kind), ("objects",),
                values=lambda block: count_types(block["objects"][..., kind]).numpy(),
            ))  # fmt: skip
        return found

    @staticmethod
    def _build_scaler(scaler, width: int) -> None:
        if not scaler.built:
            scaler.build((None, width))

    def make(self, width):
        hp, members, columns = self.hp, self.member_shape, self.inputs.object_columns
        self.fields = columns_of(hp.particle_features, columns, "particle_features")
        self.places = truncated_places(self.inputs.slots) if hp.truncated else tuple(range(self.inputs.slots))
        self.kind = type_column(self.inputs.slots, columns) if hp.multiplicities else None
        self._build_scaler(self.particle_scaler, len(self.fields))
        self._build_scaler(self.count_scaler, TYPES)
        self.encoder, self.decoder = self.networks(len(self.places), len(self.fields))
        hidden = self.encoder.size + width + (TYPES if hp.multiplicities else 0)
        start = int(np.prod(self.decoder.start))
        self.to_latent = Dense(2 * hp.latent_dim, member_shape=members, inputs=hidden)
        self.from_latent = Dense(start + width, member_shape=members, inputs=hp.latent_dim)
        self.latent = Latent(hp.latent_dim, hp.flow, hp.num_flows, members=self.members)
        self.latent.build((None, hidden))
        self.create_metrics("loss", "chamfer", "kl", *(["high_level"] if width else []))

    def networks(self, slots: int, width: int):
        """Return encoder and decoder of particles (P, C); `encoder.size` and `decoder.start` say what is between them."""
        raise NotImplementedError

    def graph(self, objects: tf.Tensor, mask: tf.Tensor) -> tf.Tensor | None:
        """Return the graph that the networks use, from objects in physical units; None if they use none."""
        return None

    def recipe(self):
        return (Phase("vae", self.hp.epochs),)

    # -- training --------------------------------------------------------------------------------

    def tasks(self):
        # in this order saved runs have the optimizer's state
        parts = (self.encoder, self.to_latent, self.latent, self.from_latent, self.decoder)
        weights = [weight for part in parts for weight in part.trainable_variables]
        return {"vae": Task(self.losses, self.make_optimizer(keras.optimizers.Adam, weights), weights)}

    def losses(self, batch, seed, training):
        """Loss (eq. 1 and, of high-level features, section 4.3) and its terms, () or (K,) each."""
        event, weight, beta = self.event(batch["objects"], batch.get("features")), batch["weight"], self.runtime.beta
        mean, log_var, h = self.encode(event)
        z, kl = self.latent.draw(mean, log_var, h, seed)
        particles, high_level = self.decode(z, event)
        terms = {"chamfer": chamfer(event.particles, particles, event.mask, event.mask), "kl": kl}
        if self.inputs.columns:
            terms["high_level"] = mean_squared_error(batch["features"], high_level)
        terms = {name: tf.reduce_mean(weight * term, -1) for name, term in terms.items()}
        loss = (1.0 - beta) * terms["chamfer"] + beta * terms["kl"]
        if self.inputs.columns:
            loss += self.runtime.high_level_weight * terms["high_level"]
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
        start = tf.reshape(start, (*self.member_shape, -1, *self.decoder.start))
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


def search_rest(hp) -> dict[str, object]:
    """Return beta, below 1 where nothing is reconstructed, and the learning rate, drawn from the KerasTuner object `hp`."""
    return {
        "beta": hp.Float("beta", 1e-3, 0.9, sampling="log"),
        "learning_rate": hp.Float("learning_rate", 1e-4, 1e-2, sampling="log"),
    }


def columns_of(names: Sequence[str], columns: Sequence[str], why: str) -> list[int]:
    """Return the places of names among object columns; raises `InputError`, naming `why`, for a missing one.

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
    check_countable(slots)
    return columns_of(("type",), columns, "multiplicities")[0]


def count_types(kind: tf.Tensor) -> tf.Tensor:
    """Return how many objects of each type 1 to 7 there are, (B, 7), from types (B, P).

    >>> count_types(tf.constant([[1.0, 1.0, 2.0, 0.0]])).numpy().tolist()
    [[2.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    return tf.reduce_sum(tf.cast(kind[..., None] == tf.range(1.0, TYPES + 1.0), tf.float32), 1)
