"""DisCo: the distance correlation of two samples, without a matrix of pairs."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf


def distance_correlation(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """DisCo: the squared distance correlation of two samples, exact, in O(B^1.5) time and O(B) memory.

    dCor^2 = dCov^2(a, b) / sqrt(dCov^2(a, a) dCov^2(b, b)), with dCov^2 = 1/n^2 sum_ij A_ij B_ij and A, B the
    doubly centred distance matrices (Szekely, Rizzo & Bakirov 2007, definitions 2.4, 2.5; used as a loss by
    Kasieczka & Shih 2020, eq. 4). Zero for independent samples as n grows, one for b = a.

    Since A_ij is doubly centred, dCov^2 = 1/n^2 sum_ij A_ij |b_i - b_j| = 2/n^2 sum_i b_i G_i with
    G_i = sum_j A_ij sign(b_i - b_j), and 2/n^2 G is also its gradient: value and gradient are one
    computation, and the only pair sum in G that sorting does not solve is `preceding_distance`.

    Args:
        a, b: (B,) samples, any units (the measure does not depend on them); B static. Or one of them, or both, (K, B):
            a sample of each of K members.

    Returns:
        A scalar in [0, 1], or (K,), differentiable once in both arguments; zero, with zero gradient, if one is constant.

    >>> x = tf.linspace(0.0, 1.0, 64)
    >>> round(float(distance_correlation(x, 3 * x + 2)), 4)
    1.0
    """
    shape = tf.broadcast_static_shape(a.shape, b.shape)
    a, b = (tf.broadcast_to(_standardise(sample), shape) for sample in (a, b))
    variances = distance_variance(a) * distance_variance(b)
    positive = variances > 0.0
    ratio = distance_covariance(a, b) / tf.sqrt(tf.where(positive, variances, 1.0))
    return tf.where(positive, ratio, 0.0)


@tf.custom_gradient
def distance_covariance(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Squared distance covariance 1/n^2 sum_ij A_ij B_ij of two samples (..., B) (Szekely et al. 2007, def. 2.4).

    >>> round(float(distance_covariance(tf.constant([0.0, 1.0]), tf.constant([0.0, 1.0]))), 3)
    0.25
    """
    order_a, order_b = tf.argsort(a), tf.argsort(b)
    rank_a, rank_b = _invert(order_a), _invert(order_b)
    slope_b = _pick(_slope(_pick(a, order_b), _pick(rank_a, order_b)), rank_b)
    scale = 2.0 / a.shape[-1] ** 2

    def gradient(upstream):  # XLA drops the side whose gradient nobody asks for
        slope_a = _pick(_slope(_pick(b, order_a), _pick(rank_b, order_a)), rank_a)
        upstream = upstream[..., None] * scale
        return upstream * slope_a, upstream * slope_b

    return scale * tf.reduce_sum((b - _mean(b)) * slope_b, -1), gradient


@tf.custom_gradient
def distance_variance(b: tf.Tensor) -> tf.Tensor:
    """Squared distance variance dCov^2(b, b) of a sample (..., B): `distance_covariance` with one sort and no pair sum.

    >>> round(float(distance_variance(tf.constant([0.0, 1.0]))), 3)
    0.25
    """
    order = tf.argsort(b)
    centred = _pick(b, order) - _mean(b)
    mean_row = _summed_distance(centred) / b.shape[-1]
    slope = _pick(_signed_sum(b.shape[-1] * centred, mean_row), _invert(order))
    scale = 2.0 / b.shape[-1] ** 2
    variance = scale * tf.reduce_sum((b - _mean(b)) * slope, -1)
    return variance, lambda upstream: upstream[..., None] * 2.0 * scale * slope


def _slope(x, rank):
    """G_i = sum_j A_ij sign(i - j) of x (..., n) as it stands, given the rank of each value."""
    mean_row = _pick(_summed_distance(_pick(x, _invert(rank))), rank) / x.shape[-1]
    return _signed_sum(2.0 * preceding_distance(x, rank) - x.shape[-1] * mean_row, mean_row)


def _signed_sum(signed_distance, mean_row):
    """sum_j (|x_i - x_j| - m_i - m_j + mean(m)) sign(i - j), given its first part and the row means m."""
    running = prefix_sum(mean_row)
    signed_rows = 2.0 * running - mean_row - running[..., -1:]
    signed_ones = 2.0 * tf.cast(tf.range(mean_row.shape[-1]), mean_row.dtype) - (mean_row.shape[-1] - 1)
    return signed_distance - (mean_row - _mean(mean_row)) * signed_ones - signed_rows


def preceding_distance(x: tf.Tensor, rank: tf.Tensor) -> tf.Tensor:
    """T_i = sum_{j<i} |x_i - x_j| for every i, exactly, without a matrix of pairs.

    Positions are cut into about sqrt(n) blocks, and so are ranks. A pair in the same block of positions or
    in the same block of ranks is summed directly (2 n sqrt(n) terms); for all others the sign of x_i - x_j is
    known from the blocks, and a table of counts and sums per (position block, rank block) is enough.

    Args:
        x: (..., n) values. rank: (..., n) int32, the place of each value in ascending order. n static.

    >>> preceding_distance(tf.constant([1.0, 4.0, 2.0]), tf.constant([0, 2, 1])).numpy().tolist()
    [0.0, 3.0, 3.0]
    """
    n, lead = x.shape[-1], x.shape[:-1]
    side = math.isqrt(n - 1) + 1
    blocks = -(-n // side)
    filler = tf.broadcast_to(
        tf.range(n, blocks * side), (*lead, blocks * side - n)
    )  # later and larger than everything:
    rank = tf.concat([rank, filler], -1)  # never counted
    x = tf.concat([x, tf.zeros_like(filler, x.dtype)], -1)
    order = _invert(rank)

    by_place = tf.reshape(x, (*lead, blocks, side))
    earlier = tf.constant(np.tril(np.ones((side, side), np.float32), -1), x.dtype)
    same_place = tf.reduce_sum(tf.abs(by_place[..., :, None] - by_place[..., None, :]) * earlier, -1)

    by_rank = tf.reshape(_pick(x, order), (*lead, blocks, side))
    place = tf.reshape(order // side, (*lead, blocks, side))
    apart = place[..., None, :] < place[..., :, None]
    same_rank = tf.reduce_sum(tf.where(apart, tf.abs(by_rank[..., :, None] - by_rank[..., None, :]), 0.0), -1)

    in_block = tf.reshape(tf.one_hot(rank // side, blocks, dtype=x.dtype), (*lead, blocks, side, blocks))
    before = tf.constant(np.tril(np.ones((blocks, blocks), np.float32), -1), x.dtype)
    below = tf.constant(np.sign(np.subtract.outer(-np.arange(blocks), -np.arange(blocks))).astype(np.float32), x.dtype)
    count = before @ tf.reduce_sum(in_block, -2) @ below
    total = before @ tf.einsum("...ps,...psq->...pq", by_place, in_block) @ below
    elsewhere = by_place * tf.einsum("...pq,...psq->...ps", count, in_block)
    elsewhere -= tf.einsum("...pq,...psq->...ps", total, in_block)

    flat = (*lead, blocks * side)
    return (tf.reshape(same_place + elsewhere, flat) + _pick(tf.reshape(same_rank, flat), rank))[..., :n]


def prefix_sum(x: tf.Tensor) -> tf.Tensor:
    """Inclusive cumulative sum of (..., n) as two small products with triangular matrices; n static.

    >>> prefix_sum(tf.constant([1.0, 2.0, 3.0])).numpy().tolist()
    [1.0, 3.0, 6.0]
    """
    n, lead = x.shape[-1], x.shape[:-1]
    side = math.isqrt(n - 1) + 1
    blocks = -(-n // side)
    rows = tf.reshape(tf.pad(x, [[0, 0]] * len(lead) + [[0, blocks * side - n]]), (*lead, blocks, side))
    within = rows @ tf.constant(np.triu(np.ones((side, side), np.float32)), x.dtype)
    before = tf.constant(np.tril(np.ones((blocks, blocks), np.float32), -1), x.dtype)
    return tf.reshape(within + before @ within[..., -1:], (*lead, blocks * side))[..., :n]


def _summed_distance(x):
    """sum_j |x_i - x_j| for x in ascending order."""
    running = prefix_sum(x)
    index = tf.cast(tf.range(x.shape[-1]), x.dtype)
    return (2.0 * index - x.shape[-1] + 2.0) * x + running[..., -1:] - 2.0 * running


def _standardise(x):
    x = x - _mean(x)
    spread = tf.math.reduce_std(tf.stop_gradient(x), -1, keepdims=True)
    return x / tf.where(spread > 0.0, spread, 1.0)


def _mean(x):
    return tf.reduce_mean(x, -1, keepdims=True)


def _pick(x, places):
    """x at places, along the last axis of both."""
    return tf.gather(x, places, axis=-1, batch_dims=x.shape.rank - 1)


def _invert(order):
    count = order.shape.num_elements() // order.shape[-1]
    start = tf.reshape(tf.range(count) * order.shape[-1], (*order.shape[:-1], 1))  # of each member, in one long row
    place = tf.broadcast_to(tf.range(order.shape[-1]), order.shape)
    total = (order.shape.num_elements(),)
    return tf.reshape(tf.scatter_nd(tf.reshape(order + start, (-1, 1)), tf.reshape(place, (-1,)), total), order.shape)
