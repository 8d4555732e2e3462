"""Graphs of the particles of an event, and layers that pass messages along their edges.

A graph of B events with P slots each is a matrix (B, P, P) of ones and zeros, an `adjacency`. Every particle is a neighbour
of its own; empty slots have no neighbours and are nobody's.
"""

from __future__ import annotations

import math

import tensorflow as tf

from zoo.keras import keras
from zoo.layers.dense import product

FAR = 1e30  # squared distance, farther than anything is


def complete(mask: tf.Tensor) -> tf.Tensor:
    """Return the adjacency (B, P, P) of graphs whose particles are all neighbours of each other; mask (B, P) bool.

    >>> complete(tf.constant([[True, True, False]]))[0].numpy().tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    real = tf.cast(mask, tf.float32)
    return real[:, :, None] * real[:, None, :]


def nearest(eta: tf.Tensor, phi: tf.Tensor, mask: tf.Tensor, neighbours: int) -> tf.Tensor:
    """Return the adjacency (B, P, P) of particles and their nearest neighbours in dR.

    dR^2 = deta^2 + dphi^2 with dphi in [-pi, pi]. Two particles are neighbours if one is among the nearest of the other:
    the graph is undirected. Those at the same distance as the last one are neighbours too.

    Args:
        eta, phi: (B, P), phi in rad, of any range.
        mask: (B, P) bool.
        neighbours: how many, >= 1, beside the particle itself; particles with fewer others have them all.

    >>> eta, phi = tf.zeros((1, 3)), tf.constant([[3.1, -3.1, 0.5]])
    >>> nearest(eta, phi, tf.fill((1, 3), True), neighbours=1)[0].numpy().tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]
    """
    apart = _difference(phi)
    apart = tf.abs(apart - 2 * math.pi * tf.round(apart / (2 * math.pi)))
    distance = tf.square(_difference(eta)) + tf.square(apart)
    alone = tf.eye(tf.shape(mask)[1], dtype=tf.bool)[None]
    pairs = mask[:, :, None] & mask[:, None, :]
    distance = tf.where(pairs, tf.where(alone, -1.0, distance), FAR)  # nobody is nearer than oneself
    limit = tf.fill(tf.shape(distance[..., :1]), -1.0)
    for _ in range(neighbours):  # few passes over all pairs, where a sort of every row costs more
        limit = tf.reduce_min(tf.where(distance > limit, distance, FAR), -1, keepdims=True)
    near = (distance <= limit) & pairs
    return tf.cast(near | tf.linalg.matrix_transpose(near), tf.float32)


def _difference(values):
    return values[:, :, None] - values[:, None, :]


def normalised(adjacency: tf.Tensor) -> tf.Tensor:
    """Return D^-1/2 (A + I) D^-1/2 (Kipf & Welling 2017, eq. 2), D being the row sums of A + I: what a GCN multiplies with.

    A has every particle as its own neighbour already, so its weight is twice that of another. That is what keeps a complete
    graph alive: of N particles it gives (J + I) / (N + 1), J being all ones. A without them would give J / N, and every
    particle the same value from the first layer on. Rows of empty slots are zero.

    >>> print(normalised(complete(tf.constant([[True, True]])))[0].numpy().round(3))
    [[0.667 0.333]
     [0.333 0.667]]
    """
    real = tf.linalg.diag_part(adjacency)
    degree = tf.reduce_sum(adjacency, -1) + real
    root = tf.where(degree > 0, tf.math.rsqrt(tf.maximum(degree, 1.0)), 0.0)
    return (adjacency + tf.linalg.diag(real)) * root[:, :, None] * root[:, None, :]


class GraphLayer(keras.layers.Layer):
    """Particles (..., B, P, F) and their graph to particles (..., B, P, channels), zero in empty slots.

    Called with x, zero in empty slots, what `graph` makes of the adjacency, and mask (B, P). With members (`member_shape`) weights
    and particles have a leading axis.
    """

    def __init__(self, channels: int, activation: str | None, member_shape: tuple[int, ...] = (), **kwargs):
        super().__init__(**kwargs)
        self.channels, self.activation, self.member_shape = (
            channels,
            keras.activations.get(activation),
            tuple(member_shape),
        )

    @staticmethod
    def graph(mask: tf.Tensor, adjacency: tf.Tensor | None):
        """Return what the layers of a network are called with, made once for all of them; None is a complete graph."""
        return complete(mask) if adjacency is None else adjacency

    def rows(self, x, kernel):
        """x @ kernel for particles (..., B, P, F)."""
        flat = product(tf.reshape(x, (*x.shape[:-3], -1, x.shape[-1])), kernel)
        return tf.reshape(flat, (*flat.shape[:-2], -1, x.shape[-2], flat.shape[-1]))

    def finish(self, x, mask):
        return self.activation(x) * tf.cast(mask, x.dtype)[..., None]


class GraphConvolution(GraphLayer):
    """GCN (Kipf & Welling 2017, eq. 2): activation(D^-1/2 (A + I) D^-1/2 X W + b), by Spektral's `GCNConv`.

    Two cases it does not have are written here, with the same result. On complete graphs of N particles the matrix
    product is a sum, (x_i + sum_j x_j) / (N + 1), so that no matrix is made; and members have a kernel (K, F, channels).
    """

    @staticmethod
    def graph(mask, adjacency):
        return None if adjacency is None else normalised(adjacency)

    def build(self, shape):
        if self.member_shape:
            self.kernel = self.add_weight("kernel", (*self.member_shape, shape[-1], self.channels))
            self.bias = self.add_weight("bias", (*self.member_shape, self.channels), initializer="zeros")
        else:
            from spektral.layers import GCNConv  # here, as Spektral takes seconds to import

            self.layer = GCNConv(self.channels)
            self.layer.build([shape, (*shape[:-1], shape[-2])])
            self.kernel, self.bias = self.layer.kernel, self.layer.bias
        super().build(shape)

    def call(self, x, graph, mask):
        if graph is None and x.shape[-1] < self.channels:
            x = self.rows(_spread(x, mask), self.kernel) + _over_particles(self.bias)
        elif graph is None:
            x = _spread(self.rows(x, self.kernel), mask) + _over_particles(self.bias)
        elif self.member_shape:
            x = graph @ self.rows(x, self.kernel) + _over_particles(self.bias)
        else:
            x = self.layer([x, graph])
        return self.finish(x, mask)


def _spread(x, mask):
    """normalised(complete(mask)) @ x, of x that is zero in empty slots; what it has there is left to `finish`."""
    number = tf.reduce_sum(tf.cast(mask, x.dtype), -1)[:, None, None]
    return (x + tf.reduce_sum(x, -2, keepdims=True)) / (number + 1.0)


class GraphAttention(GraphLayer):
    """GAT of one head (Velickovic et al. 2018, eqs. 3 and 4): activation(sum_j alpha_ij W x_j + b).

    alpha_ij = softmax_j leaky_relu(a . W x_i + a' . W x_j) over the neighbours j of i, with a slope of 0.2.
    """

    def build(self, shape):
        self.kernel = self.add_weight("kernel", (*self.member_shape, shape[-1], self.channels))
        self.attention = self.add_weight("attention", (*self.member_shape, self.channels, 2))
        self.bias = self.add_weight("bias", (*self.member_shape, self.channels), initializer="zeros")
        super().build(shape)

    def call(self, x, graph, mask):
        h = self.rows(x, self.kernel)
        own, other = tf.unstack(self.rows(h, self.attention), axis=-1)
        weight = tf.nn.leaky_relu(own[..., :, None] + other[..., None, :], 0.2)
        alpha = tf.nn.softmax(tf.where(graph > 0, weight, -FAR), -1)
        return self.finish(alpha @ h + _over_particles(self.bias), mask)


class EdgeConvolution(GraphLayer):
    """EdgeConv (Wang et al. 2019, eqs. 7 and 8): max_j activation(U x_i + V (x_j - x_i) + b) over the neighbours j of i.

    As activations rise, that is activation((U - V) x_i + b + max_j V x_j): nothing has to be made for every pair but a
    maximum.
    """

    def build(self, shape):
        for name in ("kernel_own", "kernel_other"):
            setattr(self, name, self.add_weight(name, (*self.member_shape, shape[-1], self.channels)))
        self.bias = self.add_weight("bias", (*self.member_shape, self.channels), initializer="zeros")
        super().build(shape)

    def call(self, x, graph, mask):
        other = self.rows(x, self.kernel_other)
        far = tf.where(graph > 0, 0.0, -FAR)
        largest = tf.reduce_max(other[..., None, :, :] + far[..., None], -2)
        own = self.rows(x, self.kernel_own) - other + _over_particles(self.bias)
        return self.finish(tf.where(mask[..., None], own + largest, 0.0), mask)


def _over_particles(bias):
    """A bias (H,), or of members (K, H), to add to (..., B, P, H)."""
    return bias if bias.shape.rank == 1 else bias[:, None, None, :]


LAYERS = {"gcn": GraphConvolution, "gat": GraphAttention, "edge": EdgeConvolution}
