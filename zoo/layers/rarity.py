"""Rarity: how far out a value is among others, in both tails of their distribution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from zoo.keras import keras

STEPS = 512  # from the outermost value to the median: a share grows by 2.3 % at most from knot to knot
KNOTS = 2 * STEPS + 3  # of the distribution, with one further out at either end


class Rarity(keras.layers.Layer):
    """-log(2 min(F, 1 - F)), F the share of the values it has met that are below: 0 at their median, rising outwards for ever.

    With `member_shape` (K,) there is one distribution for each member, and values are (K, N).

    >>> rarity = Rarity()
    >>> rarity.adapt(np.arange(1000.0))
    >>> print(rarity(tf.constant([499.5, 10.0, 989.0])).numpy().round(1))
    [0.  3.9 3.9]
    """

    def __init__(self, member_shape: Sequence[int] = (), **kwargs):
        super().__init__(**kwargs)
        self.member_shape = tuple(member_shape)
        self.knots = tf.Variable(tf.zeros((*self.member_shape, KNOTS)), trainable=False)
        self.shares = tf.Variable(tf.zeros((2, KNOTS)), trainable=False)

    def adapt(self, values: np.ndarray) -> None:
        """Learn the distribution of values (N,) or (K, N)."""
        knots, shares = distribution(values)
        self.knots.assign(knots)
        self.shares.assign(shares)

    def call(self, values):
        # equal knots are values that are the same, which count as below and as above
        sides = zip(tf.unstack(self.shares), ("right", "left"))
        share = tf.minimum(*(self._log_share(values, shares, side) for shares, side in sides))
        return tf.nn.relu(-share - np.float32(np.log(2.0)))

    def share_below(self, values):
        """Return the share of the values it has met that are below, and half of those that are the same: 1/2 at their median.

        It rises with the value from 0 to 1, which float32 reaches a few tail lengths beyond the outermost value. Of a value
        that is not finite it is NaN: an event whose numbers overflow has no place among others.
        """
        sides = zip(tf.unstack(self.shares), ("right", "left"))
        below, above = (tf.exp(tf.minimum(self._log_share(values, shares, side), 0.0)) for shares, side in sides)
        return tf.where(tf.math.is_finite(values), 0.5 * (below + (1.0 - above)), np.float32(np.nan))

    def _log_share(self, values, shares, side):
        """Interpolate log shares (KNOTS,) linearly; the outermost steps go on as far as the values do."""
        after = tf.clip_by_value(tf.searchsorted(self.knots, values, side=side), 1, KNOTS - 1)
        batch = len(self.member_shape)
        low, high = (tf.gather(self.knots, at, axis=batch, batch_dims=batch) for at in (after - 1, after))
        start, end = tf.gather(shares, after - 1), tf.gather(shares, after)
        return start + (end - start) * tf.math.divide_no_nan(values - low, high - low)


def distribution(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return knots (..., KNOTS) of the distribution of values (..., N), and the log shares below and above, (2, KNOTS).

    Shares go in equal factors from 1/2 to 1/(2N), what is beyond the outermost of N values (Hazen 1914). The knot after
    it has a share e times smaller; it is as far out as the values are, on average, beyond the tenth from the end, or the
    last 0.1 %: the most likely exponential tail.

    >>> knots, shares = distribution(np.arange(1000.0))
    >>> float(knots[KNOTS // 2]), (np.exp(shares[:, KNOTS // 2])).round(6).tolist(), float(knots[1])
    (499.5, [0.5, 0.5], 0.0)
    """
    number = values.shape[-1]
    half = np.geomspace(0.5 / number, 0.5, STEPS + 1)
    inner = np.quantile(values.astype(float), [*half, *(1.0 - half[-2::-1])], axis=-1, method="hazen")
    knots = np.stack([inner[0] - _tail(-values), *inner, inner[-1] + _tail(values)], axis=-1)
    below = np.log([half[0] / np.e, *half, *(1.0 - half[-2::-1]), 1.0 - half[0] / np.e])
    return knots, np.stack([below, below[::-1]])


def _tail(values: np.ndarray) -> np.ndarray:
    """Return the scale (...) of an exponential tail of the largest of values (..., N); never so small that float32 loses it."""
    number = min(values.shape[-1], max(10, values.shape[-1] // 1000))
    last = np.sort(values.astype(float), axis=-1)[..., -number:]
    scale = (last - last[..., :1]).sum(axis=-1) / max(number - 1, 1)
    return np.maximum(scale, 1e-6 * (1.0 + np.abs(last[..., -1])))
