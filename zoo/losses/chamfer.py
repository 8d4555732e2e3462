"""The Chamfer distance of two sets of particles."""

from __future__ import annotations

import tensorflow as tf

FAR = 1e30  # farther than any particle is


def chamfer(x: tf.Tensor, y: tf.Tensor, x_mask: tf.Tensor, y_mask: tf.Tensor) -> tf.Tensor:
    """L1 Chamfer distance of two sets of particles, the same in whatever order they come (Jawahar et al. 2021, eq. 2):

        L_C = sum_i min_j |x_i - y_j| + sum_j min_i |x_i - y_j|,    |x - y| = sum_c |x_c - y_c|

    over slots whose mask is True; the others take no part, whatever is in them. An event without any particle has 0.

    Compiled, nothing of shape (B, P, Q) is ever made: distances are accumulated feature by feature while the nearest is looked
    for, and the gradient needs no more than who is nearest.

    Args:
        x: (..., B, P, C); y: (..., B, Q, C). One of them may have members in front.
        x_mask: (B, P) bool; y_mask: (B, Q) bool. P and Q may differ.

    Returns:
        (..., B), in the units of x.

    >>> x, y = tf.constant([[[0.0], [3.0]]]), tf.constant([[[4.0], [9.0]]])
    >>> everything = tf.constant([[True, True]])
    >>> chamfer(x, y, everything, everything).numpy().tolist()
    [12.0]
    """
    lead = tf.shape(x[..., 0, 0] + y[..., 0, 0])  # by an operation that ONNX has: it has none for shapes alone
    x, y = (tf.broadcast_to(particles, tf.concat([lead, tf.shape(particles)[-2:]], 0)) for particles in (x, y))
    return _chamfer(x, y, x_mask, y_mask)


@tf.custom_gradient
def _chamfer(x: tf.Tensor, y: tf.Tensor, x_mask: tf.Tensor, y_mask: tf.Tensor):
    """The gradient is that of the pairs that are nearest, P + Q of P x Q; of equally near ones the first counts."""
    pairs = x_mask[:, :, None] & y_mask[:, None, :]
    distance = tf.add_n([tf.abs(x[..., :, None, c] - y[..., None, :, c]) for c in range(x.shape[-1])])
    distance = tf.where(pairs, distance, FAR)
    of_x, of_y = (tf.argmin(distance, axis, output_type=tf.int32) for axis in (-1, -2))  # who is nearest to whom
    some_x = (x_mask & tf.reduce_any(y_mask, 1, keepdims=True))[..., None]
    some_y = (y_mask & tf.reduce_any(x_mask, 1, keepdims=True))[..., None]
    batch = x.shape.rank - 2
    there = tf.where(some_x, x - tf.gather(y, of_x, batch_dims=batch), 0.0)
    back = tf.where(some_y, y - tf.gather(x, of_y, batch_dims=batch), 0.0)

    def gradient(upstream):
        there_sign, back_sign, upstream = tf.sign(there), tf.sign(back), upstream[..., None, None]
        by_x = there_sign - _received(back_sign, of_y, tf.shape(x))  # whole numbers, exact in whatever order
        by_y = back_sign - _received(there_sign, of_x, tf.shape(y))
        return upstream * by_x, upstream * by_y, None, None

    return tf.reduce_sum(tf.abs(there), (-2, -1)) + tf.reduce_sum(tf.abs(back), (-2, -1)), gradient


def _received(values: tf.Tensor, places: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Return an array of a shape (..., Q, C) whose slots have the sums of the values (..., P, C) that go to their places."""
    sets = tf.reduce_prod(shape[:-2])
    slots = tf.reshape(places, (sets, -1)) + tf.range(sets)[:, None] * shape[-2]
    values = tf.reshape(values, (-1, values.shape[-1]))
    return tf.reshape(tf.math.unsorted_segment_sum(values, tf.reshape(slots, [-1]), sets * shape[-2]), shape)
