"""Orthonormal vectors from any vectors, differentiably."""

from __future__ import annotations

import math

import tensorflow as tf

# `polar` converges where the smallest singular value is at least this part of the Frobenius norm
SMALLEST_SINGULAR_VALUE = 1e-4
WRITTEN_OUT = 3  # steps up to which a loop takes longer to trace than its steps one after the other


def polar(vectors: tf.Tensor) -> tf.Tensor:
    """Return the orthonormal matrix (..., D, M) that is nearest to `vectors` (..., D, M), M <= D: the polar factor.

    Björck & Bowie's iteration (1971), Q <- Q (1 + (1 - Q^T Q) / 2), each step scaled as by Chen & Chow (2014). From
    Q = vectors / |vectors|_F, 14 steps converge to rounding where the smallest singular value is above 1e-4 |vectors|_F:
    |Q^T Q - 1| < 1e-5 in float32, 1e-11 in float64.

    >>> q = polar(tf.constant([[3.0, 1.0], [0.0, 1.0], [0.0, 0.0]]))
    >>> tf.matmul(q, q, transpose_a=True).numpy().round(5).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    scales = tf.constant(_scales(SMALLEST_SINGULAR_VALUE), vectors.dtype)

    def step(k, q):
        q *= scales[k]
        return k + 1, 1.5 * q - 0.5 * q @ tf.matmul(q, q, transpose_a=True)

    q = normalised(without_magnitude(vectors, (-2, -1)), (-2, -1))
    return _loop(step, q, scales.shape[0])


def gram_schmidt(vectors: tf.Tensor) -> tf.Tensor:
    """Return orthonormal columns (..., D, M) from `vectors` (..., D, M), M <= D: Gram & Schmidt's, each done twice.

    Done twice, it is orthonormal to rounding however nearly dependent the vectors are (Giraud et al. 2005): the
    tolerances of `polar`, at a tenth of its cost.

    >>> gram_schmidt(tf.constant([[3.0, 1.0], [0.0, 1.0], [0.0, 0.0]])).numpy().tolist()
    [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    """
    vectors = without_magnitude(vectors, (-2, -1))
    places = tf.eye(vectors.shape[-1], dtype=vectors.dtype)

    def step(k, q):
        v = tf.reduce_sum(vectors * places[k], -1)
        for _ in range(2):
            along = tf.reduce_sum(q * v[..., None], -2)
            v = normalised(v - tf.reduce_sum(q * along[..., None, :], -1), -1)
        return k + 1, q + v[..., None] * places[k]

    return _loop(step, tf.zeros_like(vectors), vectors.shape[-1])


BASES = {"polar": polar, "gram_schmidt": gram_schmidt}


def _loop(step, start, times):
    if times <= WRITTEN_OUT:
        found = start
        for k in range(times):
            _, found = step(k, found)
        return found
    # one compiled body instead of one a step; with the number of steps known, XLA can go back for the gradient
    return tf.while_loop(lambda k, _: k < times, step, (0, start), maximum_iterations=times)[1]


def _scales(low):
    """Chen & Chow's factors: each sends `low` and 1, the ends of the spectrum, to the same value, the new `low`."""
    scales = []
    while 1 - low > 1e-13:
        scales.append(math.sqrt(3 / (1 + low + low * low)))
        low = 0.5 * scales[-1] * low * (3 - (scales[-1] * low) ** 2)
    return scales


def without_magnitude(x, axis):
    """x over its largest element, for what does not depend on the length of x: its square neither under- nor overflows."""
    return tf.math.divide_no_nan(x, tf.stop_gradient(tf.reduce_max(tf.abs(x), axis, keepdims=True)))


def normalised(x, axis):
    """x over its norm, and 0 where that is 0, where also the gradient is 0 and not NaN."""
    square = tf.reduce_sum(x * x, axis, keepdims=True)
    zero = tf.equal(square, 0)
    return tf.where(zero, tf.zeros_like(x), x * tf.math.rsqrt(tf.where(zero, tf.ones_like(square), square)))
