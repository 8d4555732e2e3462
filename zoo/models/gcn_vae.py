"""GCN-VAE: a variational auto-encoder of the graph of an event's particles.

P. Jawahar et al., Front. Big Data 5 (2022) 803685, arXiv:2110.08508, section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import tensorflow as tf

from zoo.base import COUNT, Limit
from zoo.keras import keras
from zoo.layers import graphs
from zoo.registry import register
from zoo.sets import HIGH_LEVEL, MOMENTUM, SetVAE, columns_of


class GraphNetwork(keras.layers.Layer):
    """Graph layers of the given widths, ReLU between them, the last one linear."""

    def __init__(self, kind: str, widths: Sequence[int], lead: tuple[int, ...], **kwargs):
        super().__init__(**kwargs)
        activations = ["relu"] * (len(widths) - 2) + [None]
        self.widths = tuple(widths)
        self.layers = [graphs.LAYERS[kind](n, how, lead) for n, how in zip(widths[1:], activations)]

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

    Args:
        columns: the high-level features, if there are any.
        object_columns, slots: what the objects of the events are; by default as they are found.
        scaling: "standard" (the paper), "minmax" or "maxabs", of particles by those that are there, and of columns.
        particle_features: which object columns a particle has in the network and in the Chamfer distance.
        truncated: keep the four leading jets and three of each other type, of the 39 slots of Dark Machines events.
        multiplicities: give the number of objects of each type to the encoder, as a second input: those in the 39 slots,
            before the list is cut.
        high_level_features: give it `columns` too, and reconstruct them.
        high_level_weight: of their mean squared error in the loss, >= 0.
        adjacency: "complete", all particles are neighbours (the paper), or "knn", the nearest in dR.
        neighbours: how many, with "knn".
        graph_layer: "gcn" (the paper; Spektral's `GCNConv`), "gat" or "edge" (see `zoo.layers.graphs`).
        units: features of a particle after every layer of the encoder.
        latent_dim: dimensions of the latent space.
        flow, num_flows: a normalizing flow behind it (see `zoo.layers.flows`), None for none, and how many in a row. The paper has
            6, and 4 of "iaf" and "convolutional".
        beta: weight of KL in [0, 1]; 1 - beta is that of the Chamfer distance.
        learning_rate: of Adam.
        epochs: passes through the events.
        batch_size: events per step.
        members: independently seeded copies trained together; their mean score is the score.
        seed: fixes weights, random numbers, and the order of events.

    Raises `InputError` naming a hyperparameter out of range.

    Example:
        >>> import zoo
        >>> zoo.get("gcn_vae", "householder").get_config()["graph_layer"]
        'gcn'
    """

    validated_by_xla = True
    limits = {
        **SetVAE.limits,
        "units": COUNT,
        "neighbours": COUNT,
        "adjacency": Limit(choices=("complete", "knn")),
        "graph_layer": Limit(choices=tuple(graphs.LAYERS)),
    }

    def __init__(
        self,
        *,
        columns: Sequence[str] = HIGH_LEVEL,
        object_columns: Sequence[str] = (),
        slots: int = 0,
        scaling: str = "standard",
        particle_features: Sequence[str] = (*MOMENTUM, "type"),
        truncated: bool = False,
        multiplicities: bool = False,
        high_level_features: bool = False,
        high_level_weight: float = 1.0,
        adjacency: str = "complete",
        neighbours: int = 4,
        graph_layer: str = "gcn",
        units: Sequence[int] = (32, 16, 2),
        latent_dim: int = 15,
        flow: str | None = None,
        num_flows: int = 6,
        beta: float = 0.5,
        learning_rate: float = 0.001,
        epochs: int = 30,
        batch_size: int = 256,
        members: int = 1,
        seed: int = 0,
    ):
        super().__init__(locals())

    def networks(self, slots, width):
        if self.hyperparameter("adjacency") == "knn":
            self.angles = columns_of(("eta", "phi"), self.inputs.object_columns, "adjacency='knn'")
        kind, units = self.hyperparameter("graph_layer"), tuple(self.hyperparameter("units"))
        encoder = Encoder(kind, (width, *units), self.lead)
        encoder.build((None, slots, width))
        decoder = Decoder(kind, (*units[::-1], width), self.lead)
        decoder.build((None, slots, units[-1]))
        return encoder, decoder

    def graph(self, objects, mask):
        adjacency = None
        if self.hyperparameter("adjacency") == "knn":
            eta, phi = (objects[..., angle] for angle in self.angles)
            adjacency = graphs.nearest(eta, phi, mask, self.hyperparameter("neighbours"))
        return graphs.LAYERS[self.hyperparameter("graph_layer")].graph(mask, adjacency)

    @classmethod
    def search_space(cls, hp):
        # what changes shapes has few values, each of which is compiled once; beta and the rate are dials. beta stays below 1,
        # where nothing is reconstructed
        networks = {"paper": (32, 16, 2), "wide": (64, 32, 4)}
        flows = ["planar", "householder", "iaf"]  # one of each kind
        flow = hp.Choice("flow", ["none", *flows])  # KerasTuner knows no None
        with hp.conditional_scope("flow", flows):
            num_flows = hp.Choice("num_flows", [2, 6])  # None if there is no flow, or one that is not searched
        adjacency = hp.Choice("adjacency", ["complete", "knn"])
        with hp.conditional_scope("adjacency", ["knn"]):
            neighbours = hp.Choice("neighbours", [4, 8])
        return {
            **({} if flow == "none" else {"flow": flow}),
            **({"num_flows": num_flows} if num_flows else {}),
            "adjacency": adjacency,
            **({"neighbours": neighbours} if adjacency == "knn" else {}),
            "graph_layer": hp.Choice("graph_layer", ["gcn", "gat", "edge"]),
            "units": networks[hp.Choice("network", list(networks))],
            "latent_dim": hp.Choice("latent_dim", [8, 15]),
            "scaling": hp.Choice("scaling", ["standard", "minmax"]),
            "batch_size": hp.Choice("batch_size", [256, 64, 1024]),
            "beta": hp.Float("beta", 1e-3, 0.9, sampling="log"),
            "learning_rate": hp.Float("learning_rate", 1e-4, 1e-2, sampling="log"),
        }
