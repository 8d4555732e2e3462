"""Input scalings: fitted once on physical units, kept inside the model, exported with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np
import tensorflow as tf

from pipelines.errors import InputError
from zoo.keras import keras


class Scaler(keras.layers.Layer):
    """Maps features (B, F) in physical units to the network's units, and back with `inverse`."""

    formula: ClassVar[str]  # scalers of one formula differ by their variables only

    def adapt(self, blocks: Iterable[np.ndarray], seed: int = 0) -> None:
        """Fit to blocks (n, F) of events, in one pass; raises `InputError` if there are no events."""
        raise NotImplementedError

    def inverse(self, scaled: tf.Tensor) -> tf.Tensor:
        """Return to physical units."""
        raise NotImplementedError


class _Affine(Scaler):
    """scaled = (x - shift) / scale, feature by feature; a constant feature has scale 1."""

    formula = "affine"

    def build(self, shape):
        self.shift = self.add_weight("shift", shape[-1:], initializer="zeros", trainable=False)
        self.scale = self.add_weight("scale", shape[-1:], initializer="ones", trainable=False)
        super().build(shape)

    def _assign(self, shift: np.ndarray, scale: np.ndarray) -> None:
        self.shift.assign(shift)
        self.scale.assign(np.where(scale > 0, scale, 1.0))

    def call(self, x):
        return (x - self.shift) / self.scale

    def inverse(self, scaled):
        return scaled * self.scale + self.shift


class MinMax(_Affine):
    """Scales every feature to [0, 1] on the events it was fitted to: (x - min) / (max - min)."""

    def adapt(self, blocks, seed=0):
        low, high = np.inf, -np.inf
        for block in _some(blocks):
            low, high = np.minimum(low, block.min(0)), np.maximum(high, block.max(0))
        self._assign(low, high - low)


class Standard(_Affine):
    """Scales every feature to mean 0 and standard deviation 1: (x - mean) / std."""

    def adapt(self, blocks, seed=0):
        count, mean, squares = 0, 0.0, 0.0
        for block in _some(blocks):  # Chan, Golub & LeVeque 1979: exact merging of means and sums of squares
            block = block.astype(np.float64)
            size, centre = len(block), block.mean(0)
            shift = centre - mean
            squares = squares + ((block - centre) ** 2).sum(0) + shift**2 * (count * size / (count + size))
            count, mean = count + size, mean + shift * (size / (count + size))
        self._assign(mean, np.sqrt(squares / count))


class MaxAbs(_Affine):
    """Divides every feature by its largest magnitude: x / max |x|, in [-1, 1], with zero left at zero."""

    def adapt(self, blocks, seed=0):
        largest = 0.0
        for block in _some(blocks):
            largest = np.maximum(largest, np.abs(block).max(0))
        self._assign(np.zeros_like(largest), largest)


class Quantile(Scaler):
    """Maps every feature to a uniform distribution in [0, 1] by its empirical distribution function.

    Linear interpolation between `knots` quantiles, the two-sided average where values repeat, except that the
    smallest value is 0 and the largest 1: what scikit-learn's QuantileTransformer does. Fitted to at most `sample` events, drawn with the seed.
    """

    formula = "quantile"
    knots, sample = 256, 200_000

    def build(self, shape):
        self.quantiles = self.add_weight("quantiles", (self.knots, shape[-1]), initializer="zeros", trainable=False)
        super().build(shape)

    def adapt(self, blocks, seed=0):
        rng, kept, keys = np.random.default_rng(seed), None, None
        for block in _some(blocks):  # keep the rows with the smallest random keys: a uniform sample in one pass
            key = rng.random(len(block))
            kept = block if kept is None else np.concatenate([kept, block])
            keys = key if keys is None else np.concatenate([keys, key])
            if len(keys) > self.sample:
                smallest = np.argpartition(keys, self.sample)[: self.sample]
                kept, keys = kept[smallest], keys[smallest]
        self.quantiles.assign(np.quantile(kept, np.linspace(0, 1, self.knots), axis=0))

    def call(self, x):
        knots, x = tf.transpose(self.quantiles), tf.transpose(tf.convert_to_tensor(x))
        up = self._interpolate(knots, x)
        down = self._interpolate(-tf.reverse(knots, [1]), -x)
        middle = tf.where(x >= knots[:, -1:], 1.0, (up + 1.0 - down) / 2.0)
        return tf.transpose(tf.where(x <= knots[:, :1], 0.0, middle))

    def _interpolate(self, knots, x):
        right = tf.clip_by_value(tf.searchsorted(knots, x, side="right"), 1, self.knots - 1)
        low, high = tf.gather(knots, right - 1, batch_dims=1), tf.gather(knots, right, batch_dims=1)
        step = tf.math.divide_no_nan(tf.clip_by_value(x, low, high) - low, high - low)
        step = tf.where(high > low, step, tf.cast(x >= high, x.dtype))
        return (tf.cast(right - 1, x.dtype) + step) / (self.knots - 1)

    def inverse(self, scaled):
        place = tf.clip_by_value(tf.transpose(scaled), 0.0, 1.0) * (self.knots - 1)
        left = tf.clip_by_value(tf.cast(tf.floor(place), tf.int32), 0, self.knots - 2)
        knots, step = tf.transpose(self.quantiles), place - tf.cast(left, place.dtype)
        low, high = tf.gather(knots, left, batch_dims=1), tf.gather(knots, left + 1, batch_dims=1)
        return tf.transpose(low + step * (high - low))


def _some(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the blocks that have events; raises `InputError` if none has."""
    found = False
    for block in blocks:
        if len(block):
            found = True
            yield block
    if not found:
        raise InputError("there are no events to fit the input scaling to; widen the selection")


SCALERS = {"minmax": MinMax, "standard": Standard, "maxabs": MaxAbs, "quantile": Quantile}


def make(name: str) -> Scaler:
    """Return a new scaler: "minmax", "standard", "maxabs" or "quantile"; raises `InputError` for another name."""
    if name not in SCALERS:
        raise InputError(f"scaling={name!r} is not known; expected one of {', '.join(SCALERS)}")
    return SCALERS[name](name="scaler")
