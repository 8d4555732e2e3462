"""Conv-VAE: a variational auto-encoder of the matrix of an event's particles.

P. Jawahar et al., Front. Big Data 5 (2022) 803685, arXiv:2110.08508, section 4; T. Aarrestad et al., SciPost Phys. 12
(2022) 043, arXiv:2105.14027.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as pairs

import tensorflow as tf

from pipelines.errors import InputError
from zoo.base import COUNT
from zoo.keras import keras
from zoo.registry import register
from zoo.sets import HIGH_LEVEL, MOMENTUM, SetVAE


class Convolution(keras.layers.Layer):
    """A convolution of images (..., B, P, C, channels) with stride 1, zero padding to "same", and a bias.

    It is a matrix product with shifted copies of the image, or shifted copies of a matrix product, whichever is narrower:
    so members are a batch of matrix products, and XLA on a CPU runs it and its gradient on all cores.
    """

    def __init__(self, channels: int, size: tuple[int, int], activation: str | None, lead: tuple[int, ...], **kwargs):
        super().__init__(**kwargs)
        self.channels, self.size, self.lead = channels, tuple(size), tuple(lead)
        self.activation = keras.activations.get(activation)
        self.taps = list(pairs(range(size[0]), range(size[1])))

    def build(self, shape):
        self.kernel = self.add_weight("kernel", (*self.lead, len(self.taps) * shape[-1], self.channels))
        self.bias = self.add_weight("bias", (*self.lead, self.channels), initializer="zeros")
        super().build(shape)

    def call(self, x):
        if x.shape[-1] <= self.channels:
            x = self._rows(tf.concat([self._shifted(x, *tap) for tap in self.taps], -1), self.kernel)
        else:
            kernel = tf.reshape(self.kernel, (*self.lead, len(self.taps), x.shape[-1], self.channels))
            kernel = tf.concat(tf.unstack(kernel, axis=-3), -1)
            parts = tf.split(self._rows(x, kernel), len(self.taps), axis=-1)
            x = tf.add_n([self._shifted(part, *tap) for part, tap in zip(parts, self.taps)])
        return self.activation(x + (self.bias if not self.lead else self.bias[:, None, None, None, :]))

    def _shifted(self, x, *tap):
        """x[p + i - before, c + j - before] at every place (p, c), zero outside."""
        edges, pads = [slice(None)] * (x.shape.rank - 3), [(0, 0)] * (x.shape.rank - 3)
        for step, size, length in zip(tap, self.size, x.shape[-3:-1]):
            by = step - (size - 1) // 2
            edges.append(slice(max(by, 0), length + min(by, 0)))
            pads.append((max(-by, 0), max(by, 0)))
        return tf.pad(x[(*edges, slice(None))], (*pads, (0, 0)))

    def _rows(self, x, kernel):
        flat = tf.reshape(x, (*x.shape[:-4], -1, x.shape[-1])) @ kernel
        return tf.reshape(flat, (*flat.shape[:-2], -1, *x.shape[-3:-1], flat.shape[-1]))


class Encoder(keras.layers.Layer):
    """From particles (B, P, C) to (..., B, size); empty slots are zero before and after every layer."""

    def __init__(self, channels: Sequence[int], sizes: Sequence[tuple[int, int]], lead: tuple[int, ...], **kwargs):
        super().__init__(**kwargs)
        self.layers = [Convolution(n, size, "relu", lead) for n, size in zip(channels, sizes)]

    def build(self, shape):
        self.size = shape[-2] * shape[-1] * self.layers[-1].channels
        for layer, depth in zip(self.layers, (1, *(layer.channels for layer in self.layers))):
            layer.build((*shape, depth))
        super().build(shape)

    def call(self, event):
        x, real = event.particles[..., None], tf.cast(event.mask, tf.float32)[..., None, None]
        for layer in self.layers:
            x = layer.call(x) * real
        return tf.reshape(x, (*x.shape[:-4], -1, self.size))


class Decoder(keras.layers.Layer):
    """From (..., B, *start) to particles (..., B, P, C): the encoder's layers from last to first, the last one linear."""

    def __init__(self, channels: Sequence[int], sizes: Sequence[tuple[int, int]], lead: tuple[int, ...], **kwargs):
        super().__init__(**kwargs)
        depths, activations = (*channels[-2::-1], 1), ["relu"] * (len(channels) - 1) + [None]
        self.first = channels[-1]
        self.layers = [Convolution(n, s, how, lead) for n, s, how in zip(depths, sizes[::-1], activations)]

    def build(self, shape):
        self.start = (*shape[1:], self.first)
        for layer, depth in zip(self.layers, (self.first, *(layer.channels for layer in self.layers))):
            layer.build((*shape, depth))
        super().build(shape)

    def call(self, x, event):
        x = tf.nn.relu(x)
        for layer in self.layers:
            x = layer.call(x)
        return x[..., 0]


@register("conv_vae")
class ConvVAE(SetVAE):
    """Conv-VAE (Jawahar et al. 2021): a VAE of an event's particles as an image, scored by their Chamfer distance to what it makes.

    Particles x_i of an event, scaled, are encoded into mean mu and width sigma of `latent_dim` numbers; what is decoded from
    a number drawn from N(mu, sigma) is y_j, one particle for each that there was. Trained is, by Adam (eq. 1 and 2),

        (1 - beta) L_C + beta KL,    L_C = sum_i min_j |x_i - y_j| + sum_j min_i |x_i - y_j|,    |x - y| = sum_c |x_c - y_c|

    as a mean over events with their own weights, scaled to mean one: the challenge used none, and events without weights count
    alike. Empty slots take no part in it.

    The encoder is three convolutions of the matrix of particles, 32 kernels of 3 x 4, 16 of 5 x 1 and 8 of 7 x 1, with stride 1
    and zero padding, and a dense layer; the decoder is its mirror image.

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
        channels, heights, widths: of the kernels of every layer of the encoder.
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
        >>> zoo.get("conv_vae", "householder").get_config()["channels"]
        (32, 16, 8)
    """

    limits = {**SetVAE.limits, "channels": COUNT, "heights": COUNT, "widths": COUNT}

    def __init__(
        self,
        *,
        columns: Sequence[str] = HIGH_LEVEL,
        object_columns: Sequence[str] = (),
        slots: int = 0,
        scaling: str = "standard",
        particle_features: Sequence[str] = MOMENTUM,
        truncated: bool = False,
        multiplicities: bool = False,
        high_level_features: bool = False,
        high_level_weight: float = 1.0,
        channels: Sequence[int] = (32, 16, 8),
        heights: Sequence[int] = (3, 5, 7),
        widths: Sequence[int] = (4, 1, 1),
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

    @classmethod
    def check(cls, hyperparameters):
        super().check(hyperparameters)
        shapes = {len(hyperparameters[name]) for name in ("channels", "heights", "widths") if name in hyperparameters}
        if len(shapes) > 1:
            raise InputError(
                "channels, heights and widths differ in length; expected one number of each for every layer"
            )

    def networks(self, slots, width):
        hp = self.hyperparameter
        sizes = list(zip(hp("heights"), hp("widths")))
        both = (cls(hp("channels"), sizes, self.lead) for cls in (Encoder, Decoder))
        encoder, decoder = both
        for network in (encoder, decoder):
            network.build((None, slots, width))
        return encoder, decoder

    @classmethod
    def search_space(cls, hp):
        # what changes shapes has few values, each of which is compiled once; beta and the rate are dials. beta stays below 1,
        # where nothing is reconstructed
        networks = {"paper": (32, 16, 8), "small": (16, 8, 4)}
        flows = ["planar", "householder", "iaf"]  # one of each kind
        flow = hp.Choice("flow", ["none", *flows])  # KerasTuner knows no None
        with hp.conditional_scope("flow", flows):
            num_flows = hp.Choice("num_flows", [2, 6])  # None if there is no flow, or one that is not searched
        return {
            **({} if flow == "none" else {"flow": flow}),
            **({"num_flows": num_flows} if num_flows else {}),
            "channels": networks[hp.Choice("network", list(networks))],
            "scaling": hp.Choice("scaling", ["standard", "minmax"]),
            "batch_size": hp.Choice("batch_size", [256, 64, 1024]),
            "latent_dim": hp.Choice("latent_dim", [8, 15]),
            "beta": hp.Float("beta", 1e-3, 0.9, sampling="log"),
            "learning_rate": hp.Float("learning_rate", 1e-4, 1e-2, sampling="log"),
        }
