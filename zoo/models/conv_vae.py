"""Conv-VAE: a variational auto-encoder of the matrix of an event's particles.

P. Jawahar et al., Front. Big Data 5 (2022) 803685, arXiv:2110.08508, section 4; T. Aarrestad et al., SciPost Phys. 12
(2022) 043, arXiv:2105.14027.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import product as pairs

import tensorflow as tf

from pipelines.errors import InputError
from zoo.base import UNITS, Limit, hyperparameter
from zoo.keras import keras
from zoo.layers.latent import search_flow
from zoo.models.set_vae import FLOWS, SetVAE, search_rest
from zoo.registry import register

SIDE = Limit(1, 1024, whole=True)  # of a kernel


class Convolution(keras.layers.Layer):
    """A convolution of images (..., B, P, C, channels) with stride 1, zero padding to "same", and a bias.

    It is a matrix product with shifted copies of the image, or shifted copies of a matrix product, whichever is narrower:
    so members are a batch of matrix products, and XLA on a CPU runs it and its gradient on all cores.
    """

    def __init__(
        self, channels: int, size: tuple[int, int], activation: str | None, member_shape: tuple[int, ...], **kwargs
    ):
        super().__init__(**kwargs)
        self.channels, self.size, self.member_shape = channels, tuple(size), tuple(member_shape)
        self.activation = keras.activations.get(activation)
        self.taps = list(pairs(range(size[0]), range(size[1])))

    def build(self, shape):
        self.kernel = self.add_weight("kernel", (*self.member_shape, len(self.taps) * shape[-1], self.channels))
        self.bias = self.add_weight("bias", (*self.member_shape, self.channels), initializer="zeros")
        super().build(shape)

    def call(self, x):
        if x.shape[-1] <= self.channels:
            x = self._rows(tf.concat([self._shifted(x, *tap) for tap in self.taps], -1), self.kernel)
        else:
            kernel = tf.reshape(self.kernel, (*self.member_shape, len(self.taps), x.shape[-1], self.channels))
            kernel = tf.concat(tf.unstack(kernel, axis=-3), -1)
            parts = tf.split(self._rows(x, kernel), len(self.taps), axis=-1)
            x = tf.add_n([self._shifted(part, *tap) for part, tap in zip(parts, self.taps)])
        return self.activation(x + (self.bias if not self.member_shape else self.bias[:, None, None, None, :]))

    def _shifted(self, x, *tap):
        """x[p + i - before, c + j - before] at every place (p, c), zero outside."""
        edges, pads = [slice(None)] * (x.shape.rank - 3), [(0, 0)] * (x.shape.rank - 3)
        for step, size, length in zip(tap, self.size, x.shape[-3:-1]):
            by = max(-length, min(length, step - (size - 1) // 2))
            edges.append(slice(max(by, 0), length + min(by, 0)))
            pads.append((max(-by, 0), max(by, 0)))
        place = (*edges, slice(None))
        return tf.pad(x[place], (*pads, (0, 0)))

    def _rows(self, x, kernel):
        flat = tf.reshape(x, (*x.shape[:-4], -1, x.shape[-1])) @ kernel
        return tf.reshape(flat, (*flat.shape[:-2], -1, *x.shape[-3:-1], flat.shape[-1]))


class Encoder(keras.layers.Layer):
    """From particles (B, P, C) to (..., B, size); empty slots are zero before and after every layer."""

    def __init__(
        self, channels: Sequence[int], sizes: Sequence[tuple[int, int]], member_shape: tuple[int, ...], **kwargs
    ):
        super().__init__(**kwargs)
        self.layers = [Convolution(n, size, "relu", member_shape) for n, size in zip(channels, sizes)]

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

    def __init__(
        self, channels: Sequence[int], sizes: Sequence[tuple[int, int]], member_shape: tuple[int, ...], **kwargs
    ):
        super().__init__(**kwargs)
        depths, activations = (*channels[-2::-1], 1), ["relu"] * (len(channels) - 1) + [None]
        self.first = channels[-1]
        self.layers = [Convolution(n, s, how, member_shape) for n, s, how in zip(depths, sizes[::-1], activations)]

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

    Raises `InputError` naming a hyperparameter out of range.

    Example:
        >>> import zoo
        >>> zoo.get("conv_vae", "householder").get_config()["channels"]
        (32, 16, 8)
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(SetVAE.Hyperparameters):
        channels: Sequence[int] = hyperparameter((32, 16, 8), "of the kernels of every layer of the encoder", UNITS)
        heights: Sequence[int] = hyperparameter((3, 5, 7), "slots that the kernels of every layer span", SIDE)
        widths: Sequence[int] = hyperparameter((4, 1, 1), "features that the kernels of every layer span", SIDE)

        def check(self):
            super().check()
            if len({len(self.channels), len(self.heights), len(self.widths)}) > 1:
                raise InputError(
                    "channels, heights and widths differ in length; expected one number of each for every layer"
                )

    hp: Hyperparameters

    def networks(self, slots, width):
        sizes = list(zip(self.hp.heights, self.hp.widths))
        encoder, decoder = (cls(self.hp.channels, sizes, self.member_shape) for cls in (Encoder, Decoder))
        for network in (encoder, decoder):
            network.build((None, slots, width))
        return encoder, decoder

    @classmethod
    def search_space(cls, hp):
        # what changes shapes has few values, each of which is compiled once
        networks = {"paper": (32, 16, 8), "small": (16, 8, 4)}
        flow = search_flow(hp, FLOWS)
        return {
            **flow,
            "channels": networks[hp.Choice("network", list(networks))],
            "scaling": hp.Choice("scaling", ["standard", "minmax"]),
            "batch_size": hp.Choice("batch_size", [256, 64, 1024]),
            "latent_dim": hp.Choice("latent_dim", [8, 15]),
            **search_rest(hp),
        }
