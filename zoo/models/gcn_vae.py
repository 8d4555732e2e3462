"""GCN-VAE: a variational auto-encoder of the graph of an event's particles.

P. Jawahar et al., Front. Big Data 5 (2022) 803685, arXiv:2110.08508, section 4.2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import pairwise

import tensorflow as tf

from zoo.base import UNITS, Limit, hyperparameter
from zoo.keras import keras
from zoo.layers import graphs
from zoo.layers.latent import search_flow
from zoo.models.set_vae import FLOWS, MOMENTUM, SetVAE, columns_of, search_rest
from zoo.registry import register

NEIGHBOURS = Limit(1, 1024, whole=True)


class GraphNetwork(keras.layers.Layer):
    """Graph layers of the given widths, ReLU between them, the last one linear."""

    def __init__(self, kind: str, widths: Sequence[int], member_shape: tuple[int, ...], **kwargs):
        super().__init__(**kwargs)
        activations = ["relu"] * (len(widths) - 2) + [None]
        self.widths = tuple(widths)
        self.layers = [graphs.LAYERS[kind](n, how, member_shape) for n, how in zip(widths[1:], activations)]

    def build(self, shape):
        for layer, (width, _) in zip(self.layers, pairwise(self.widths)):
            layer.build((*shape[:-1], width))
        super().build(shape)

    def call(self, x, event):
        for layer in self.layers:
            x = layer.call(x, event.graph, event.mask)
        return x


class Encoder(GraphNetwork):
    """From particles to (..., B, size), what the last layer has of every slot."""

    def build(self, shape):
        self.size = shape[-2] * self.widths[-1]
        super().build(shape)

    def call(self, event):
        x = super().call(event.particles, event)
        return tf.reshape(x, (*x.shape[:-3], -1, self.size))


class Decoder(GraphNetwork):
    """From (..., B, *start) to particles."""

    def build(self, shape):
        self.start = tuple(shape[1:])
        super().build(shape)

    def call(self, x, event):
        return super().call(tf.where(event.mask[..., None], x, 0.0), event)


@register("gcn_vae")
class GraphVAE(SetVAE):
    """GCN-VAE (Jawahar et al. 2021): a VAE of an event's particles as a graph, scored by their Chamfer distance to what it makes.

    Particles x_i of an event, scaled, are encoded into mean mu and width sigma of `latent_dim` numbers; what is decoded from
    a number drawn from N(mu, sigma) is y_j, one particle for each that there was. Trained is, by Adam (eq. 1 and 2),

        (1 - beta) L_C + beta KL,    L_C = sum_i min_j |x_i - y_j| + sum_j min_i |x_i - y_j|,    |x - y| = sum_c |x_c - y_c|

    as a mean over events with their own weights, scaled to mean one: the challenge used none, and events without weights count
    alike. Empty slots take no part in it.

    The encoder is three graph convolutions, 5-32-16-2, whose outputs of all slots go to a dense layer; the decoder is its
    mirror image, on the same graph. Padded slots are no part of it.

    Scores: `chamfer`, L_C of what is decoded from mu (the default); `kl`, that of the event; `radius`, sum (mu/sigma)^2
    (eq. 4). Which tail of the last two a signal is in the method does not say.

    Raises `InputError` naming a hyperparameter out of range.

    Example:
        >>> import zoo
        >>> zoo.get("gcn_vae", "householder").get_config()["graph_layer"]
        'gcn'
    """

    validated_by_xla = True

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(SetVAE.Hyperparameters):
        particle_features: Sequence[str] = hyperparameter((*MOMENTUM, "type"))
        adjacency: str = hyperparameter(
            "complete",
            '"complete", all particles are neighbours (the paper), or "knn", the nearest in dR',
            Limit(choices=("complete", "knn")),
        )
        neighbours: int = hyperparameter(4, 'how many, with "knn"', NEIGHBOURS)
        graph_layer: str = hyperparameter(
            "gcn",
            '"gcn" (the paper; Spektral\'s `GCNConv`), "gat" or "edge" (see `zoo.layers.graphs`)',
            Limit(choices=tuple(graphs.LAYERS)),
        )
        units: Sequence[int] = hyperparameter(
            (32, 16, 2), "features of a particle after every layer of the encoder", UNITS
        )

    hp: Hyperparameters

    def networks(self, slots, width):
        if self.hp.adjacency == "knn":
            self.angles = columns_of(("eta", "phi"), self.inputs.object_columns, "adjacency='knn'")
        kind, units = self.hp.graph_layer, tuple(self.hp.units)
        encoder = Encoder(kind, (width, *units), self.member_shape)
        encoder.build((None, slots, width))
        decoder = Decoder(kind, (*units[::-1], width), self.member_shape)
        decoder.build((None, slots, units[-1]))
        return encoder, decoder

    def graph(self, objects, mask):
        adjacency = None
        if self.hp.adjacency == "knn":
            eta, phi = (objects[..., angle] for angle in self.angles)
            adjacency = graphs.nearest(eta, phi, mask, self.hp.neighbours)
        return graphs.LAYERS[self.hp.graph_layer].graph(mask, adjacency)

    @classmethod
    def search_space(cls, hp):
        # what changes shapes has few values, each of which is compiled once
        networks = {"paper": (32, 16, 2), "wide": (64, 32, 4)}
        flow = search_flow(hp, FLOWS)
        adjacency = hp.Choice("adjacency", ["complete", "knn"])
        with hp.conditional_scope("adjacency", ["knn"]):
            neighbours = hp.Choice("neighbours", [4, 8])
        return {
            **flow,
            "adjacency": adjacency,
            **({"neighbours": neighbours} if adjacency == "knn" else {}),
            "graph_layer": hp.Choice("graph_layer", ["gcn", "gat", "edge"]),
            "units": networks[hp.Choice("network", list(networks))],
            "latent_dim": hp.Choice("latent_dim", [8, 15]),
            "scaling": hp.Choice("scaling", ["standard", "minmax"]),
            "batch_size": hp.Choice("batch_size", [256, 64, 1024]),
            **search_rest(hp),
        }
