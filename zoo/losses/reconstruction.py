"""Distances between features and what a model makes of them."""

from __future__ import annotations

import tensorflow as tf


def rms_distance(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Root mean squared difference over features, GAN-AE's `dist`: sqrt(1/N sum_i (x_i - y_i)^2) (its eq. 2).

    x, y: (B, F), or with members (K, B, F). Returns (B,) or (K, B).

    >>> rms_distance(tf.zeros((1, 4)), tf.fill((1, 4), 2.0)).numpy().tolist()
    [2.0]
    """
    # the floor keeps the gradient of a perfect reconstruction finite
    return tf.sqrt(tf.maximum(tf.reduce_mean(tf.square(x - y), axis=-1), 1e-12))


def mean_squared_error(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Mean squared difference over features, 1/F sum_f (x_f - y_f)^2; shapes as `rms_distance`.

    >>> mean_squared_error(tf.zeros((1, 4)), tf.fill((1, 4), 2.0)).numpy().tolist()
    [4.0]
    """
    return tf.reduce_mean(tf.square(x - y), axis=-1)
