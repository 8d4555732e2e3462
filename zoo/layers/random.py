"""Random numbers and dropout from a hash of the place, the seed and the step, which cost nothing under XLA."""

from __future__ import annotations

import math

import tensorflow as tf

from zoo.ensemble import before


class Dropout:
    """The dropout of one forward pass: every call takes the next mask of the step.

    Args:
        rate: probability in [0, 1), a number, a scalar tensor, or (K,), one for each member.
        seed: of the step, () or (K,), as for `dropout`.
        first_use: which mask of the step is the first.

    >>> drop = Dropout(0.5, tf.constant(1))
    >>> first, second = drop(tf.ones((10, 10))), drop(tf.ones((10, 10)))
    >>> bool(tf.reduce_all(first == second))
    False
    """

    def __init__(self, rate: tf.Tensor | float, seed: tf.Tensor, first_use: int = 0):
        self.rate, self.seed = rate, seed
        self.use: int | tf.Tensor = first_use

    def __call__(self, x: tf.Tensor, width: tf.Tensor | None = None, used: tf.Tensor | None = None) -> tf.Tensor:
        """Return x (..., B, F) with elements set to zero by the next mask.

        Of a layer that holds a smaller one (`zoo.padded_networks`), `width` is how many columns that has, and `used` whether it
        has such a layer at all, a boolean scalar: if not, its mask is left for the next.
        """
        use = self.use
        self.use = use + (1 if used is None else tf.cast(used, tf.int32))
        return dropout(x, self.rate, self.seed, use, width)


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


def dropout(
    x: tf.Tensor, rate: tf.Tensor | float, seed: tf.Tensor, use: int | tf.Tensor, width: tf.Tensor | None = None
) -> tf.Tensor:
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
        width: W, an integer scalar: the first W columns get the mask of an x with W columns. By default F.

    >>> y = dropout(tf.ones((1000, 100)), rate=0.2, seed=tf.constant(1), use=0)
    >>> abs(float(tf.reduce_mean(y)) - 1) < 0.01
    True
    """
    rows, columns = tf.unstack(tf.shape(x)[-2:])
    if width is None:
        index = tf.reshape(tf.range(rows * columns), (rows, columns))
    else:
        index = tf.range(rows)[:, None] * tf.cast(width, tf.int32) + tf.range(columns)
    index = tf.cast(index, tf.uint32)
    rate = before(tf.convert_to_tensor(rate, x.dtype), 2)
    # 24 bits are what a float32 holds exactly, so the threshold is exact for any rate
    return tf.where(_uniform(index, seed, use) >= rate, x / (1.0 - rate), tf.zeros_like(x))


def fold_of(features: tf.Tensor, folds: int) -> tf.Tensor:
    """Return the fold of events (B,), int32, 0 <= fold < `folds`: a hash of all bits of their features (B, F) float32.

    Equal features have equal folds, wherever and whenever they are looked at; 0 and -0 are equal.

    >>> x = tf.random.stateless_normal((10_000, 4), seed=(1, 2))
    >>> [bool(abs(int(tf.reduce_sum(tf.cast(fold_of(x, 5) == k, tf.int32))) - 2000) < 200) for k in range(5)]
    [True, True, True, True, True]
    """
    features = tf.where(features == 0.0, tf.zeros_like(features), features)
    word = tf.zeros(tf.shape(features)[:1], tf.uint32)
    for column in tf.unstack(tf.bitcast(features, tf.uint32), axis=1):
        word = _mix(tf.bitwise.bitwise_xor(word, column) + _u32(0x9E3779B1))
    share = tf.cast(tf.bitwise.right_shift(word, _u32(8)), tf.float32) * 2.0**-24
    return tf.cast(share * folds, tf.int32)


def _uniform(index, seed, use):
    """Numbers k / 2^24, 0 <= k < 2^24, for every index and, if there are several seeds, each of them."""
    place = _u32(0x85EBCA77 * (use + 1)) if isinstance(use, int) else _u32(0x85EBCA77) * tf.cast(use + 1, tf.uint32)
    start = _mix(tf.cast(seed, tf.uint32) * _u32(0x9E3779B1) + place)
    word = _mix(index + before(start, index.shape.rank))
    return tf.cast(tf.bitwise.right_shift(word, _u32(8)), tf.float32) * 2.0**-24


def _u32(value: int) -> tf.Tensor:
    return tf.constant(value & 0xFFFFFFFF, tf.uint32)


def _mix(word: tf.Tensor) -> tf.Tensor:
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        word = tf.bitwise.bitwise_xor(word, tf.bitwise.right_shift(word, _u32(shift))) * _u32(factor)
    return tf.bitwise.bitwise_xor(word, tf.bitwise.right_shift(word, _u32(16)))
