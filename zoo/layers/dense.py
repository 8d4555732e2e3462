"""Building blocks shared by models: seeded initial weights and dropout that costs nothing under XLA."""

from __future__ import annotations

import math

import tensorflow as tf

from zoo.ensemble import before


def glorot_uniform(shape: tuple[int, ...], seed: tuple[int, int]) -> tf.Tensor:
    """Initial kernel: uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16), a function of `seed` only.

    >>> tuple(glorot_uniform((42, 84), seed=(0, 1)).shape)
    (42, 84)
    """
    limit = math.sqrt(6.0 / (shape[-2] + shape[-1]))
    return tf.random.stateless_uniform(shape, seed, -limit, limit)


def plus(x: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """x + bias for (..., B, H) and (H,) or, of members, (K, H).

    A plain bias stays one-dimensional: TensorFlow's optimiser of exported graphs fuses it into the product, and refuses any
    other when the graph is run.

    >>> plus(tf.zeros((3, 5, 4)), tf.ones((3, 4))).shape
    TensorShape([3, 5, 4])
    """
    return x + (bias if bias.shape.rank == 1 else bias[..., None, :])


def leaky_relu(x: tf.Tensor, slope: tf.Tensor | float) -> tf.Tensor:
    """max(x, slope x), with a slope in [0, 1] that may be a variable.

    >>> leaky_relu(tf.constant([-1.0, 2.0]), 0.5).numpy().tolist()
    [-0.5, 2.0]
    """
    return tf.maximum(x, slope * x)


LAMBDA, LAMBDA_ALPHA = 1.0507009873554805, 1.0507009873554805 * 1.6732632423543772


@tf.custom_gradient
def selu(x: tf.Tensor) -> tf.Tensor:
    """lambda x for x > 0, else lambda alpha (exp(x) - 1) (Klambauer et al. 2017, eq. 2), faster than `tf.nn.selu`.

    That takes expm1, whose relative accuracy near zero is worth nothing in a sum of float32. The slope is worked out from
    the value, lambda or value + lambda alpha, so that nothing else of the way forwards is kept.

    >>> print(selu(tf.constant([-1.0, 1.0])).numpy().round(4))
    [-1.1113  1.0507]
    """
    value = LAMBDA * tf.maximum(x, 0.0) + LAMBDA_ALPHA * (tf.exp(tf.minimum(x, 0.0)) - 1.0)

    def gradient(upstream):
        return upstream * tf.where(value > 0, LAMBDA, value + LAMBDA_ALPHA)

    return value, gradient


NARROW = 8  # columns up to which a sum of outer products is faster than a matrix product


@tf.custom_gradient
def product(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """x @ kernel for (..., B, F) and (..., F, H), forwards and backwards without matrix products over few columns.

    XLA on a CPU runs a product that sums over one to eight columns, as at the latent space of an auto-encoder, on one
    core, and slower than the products of its hidden layers; a sum of outer products it fuses with what is around it.

    >>> product(tf.ones((5, 2)), tf.ones((3, 2, 4))).shape
    TensorShape([3, 5, 4])
    """

    def gradient(upstream):
        towards_x = _contract(upstream, tf.linalg.matrix_transpose(kernel))
        shared = list(range(towards_x.shape.rank - x.shape.rank))  # members see the same batch
        return tf.reduce_sum(towards_x, shared) if shared else towards_x, _towards_kernel(x, upstream)

    return _contract(x, kernel), gradient


def _towards_kernel(x, upstream):
    width = upstream.shape[-1]
    if x.shape.rank == 2 or width > NARROW:
        return tf.matmul(x, upstream, transpose_a=True)
    # of members, a product with two to eight columns costs as much as with 64; one with a single column, a third or less
    rows = [tf.matmul(column, x, transpose_a=True) for column in tf.split(upstream, width, axis=-1)]
    return tf.linalg.matrix_transpose(tf.concat(rows, -2))


def _contract(x, kernel):
    width = kernel.shape[-2]
    if width > NARROW:
        return x @ kernel
    columns, rows = tf.split(x, width, axis=-1), tf.split(kernel, width, axis=-2)
    return tf.add_n([column * row for column, row in zip(columns, rows)])


def normal(shape: tuple[int, ...], seed: tf.Tensor, use: int) -> tf.Tensor:
    """Standard normal numbers (..., *shape) from an integer hash of (element index, `seed`, `use`), by Box & Muller (1958).

    z = sqrt(-2 ln u) cos(2 pi v), with u of 24 bits, so |z| < 5.8. Fused by XLA into what takes them, as `dropout` is.

    Args:
        shape: of the numbers, static or with tensors in it.
        seed: integer scalar that changes at every step; or (K,), one for each member: its numbers are those of its seed.
        use: which numbers of the step these are; different uses are independent, as for `dropout`.

    >>> z = normal((100_000,), tf.constant(1), use=0)
    >>> abs(float(tf.reduce_mean(z))) < 0.01, abs(float(tf.math.reduce_std(z)) - 1) < 0.01
    (True, True)
    """
    index = tf.cast(tf.reshape(tf.range(tf.reduce_prod(shape)), shape), tf.uint32)
    u, v = (_uniform(index, seed, 2 * use + which) for which in (0, 1))
    return tf.sqrt(-2.0 * tf.math.log(u + 2.0**-24)) * tf.cos(2.0 * math.pi * v)


def dropout(x: tf.Tensor, rate: tf.Tensor | float, seed: tf.Tensor, use: int) -> tf.Tensor:
    """Inverted dropout: zero each element with probability `rate`, scale the others by 1 / (1 - rate).

    The mask is an integer hash of (element index, `seed`, `use`), so XLA fuses it with its neighbours instead
    of running a random generator.
    The mixing function is C. Wellons' `lowbias32` (public domain), a bijection of 32 bits of low bias.

    Args:
        x: (B, F) activations, or (K, B, F) of K members.
        rate: probability in [0, 1), a number or a scalar tensor; or (K,), one for each member.
        seed: integer scalar that changes at every step; or (K,), one for each member: its mask is that of its seed.
        use: which dropout of the network this is; different uses have independent masks (but for a few pairs
            of steps and uses in 10^4, whose masks share a shifted stretch).

    >>> y = dropout(tf.ones((1000, 100)), rate=0.2, seed=tf.constant(1), use=0)
    >>> abs(float(tf.reduce_mean(y)) - 1) < 0.01
    True
    """
    rows, width = tf.unstack(tf.shape(x)[-2:])
    index = tf.cast(tf.reshape(tf.range(rows * width), (rows, width)), tf.uint32)
    rate = before(tf.convert_to_tensor(rate, x.dtype), 2)
    # 24 bits are what a float32 holds exactly, so the threshold is exact for any rate
    return tf.where(_uniform(index, seed, use) >= rate, x / (1.0 - rate), tf.zeros_like(x))


def _uniform(index, seed, use):
    """Numbers k / 2^24, 0 <= k < 2^24, for every index and, if there are several seeds, each of them."""
    start = _mix(tf.cast(seed, tf.uint32) * _u32(0x9E3779B1) + _u32(0x85EBCA77 * (use + 1)))
    word = _mix(index + before(start, index.shape.rank))
    return tf.cast(tf.bitwise.right_shift(word, _u32(8)), tf.float32) * 2.0**-24


def _u32(value: int) -> tf.Tensor:
    return tf.constant(value & 0xFFFFFFFF, tf.uint32)


def _mix(word: tf.Tensor) -> tf.Tensor:
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        word = tf.bitwise.bitwise_xor(word, tf.bitwise.right_shift(word, _u32(shift))) * _u32(factor)
    return tf.bitwise.bitwise_xor(word, tf.bitwise.right_shift(word, _u32(16)))
