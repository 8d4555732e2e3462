"""Input scalings: fitted once on physical units, kept inside the model, exported with it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import ClassVar, Protocol

import numpy as np
import tensorflow as tf

from pipelines.errors import InputError
from zoo.keras import keras


class Learner(Protocol):
    """What a scaling learns from events, block by block."""

    def add(self, values: np.ndarray) -> None:
        """Look at the next events (n, F)."""

    def result(self) -> Sequence[np.ndarray]:
        """Return the values of the scaler's variables; none if there were no events."""


class Scaler(keras.layers.Layer):
    """Maps features (B, F) in physical units to the network's units, and back with `inverse`."""

    formula: ClassVar[str]  # scalers of one formula differ by their variables only
    invertible: ClassVar[bool] = True  # whether `inverse` gives back every number

    def learner(self, seed: int = 0) -> Learner:
        """Return what learns this scaling in one pass over the events."""
        raise NotImplementedError

    def assign(self, values: Sequence[np.ndarray]) -> None:
        """Take what a `learner` of this class has learnt; raises `InputError` if it saw no events."""
        if not values:
            raise InputError("there are no events to fit the input scaling to; widen the selection")
        for variable, value in zip(self.variables, values, strict=True):
            variable.assign(value)

    def adapt(self, blocks: Iterable[np.ndarray], seed: int = 0) -> None:
        """Fit to blocks (n, F) of events, in one pass; raises `InputError` if there are no events."""
        learner = self.learner(seed)
        for block in blocks:
            learner.add(block)
        self.assign(learner.result())

    def inverse(self, scaled: tf.Tensor) -> tf.Tensor:
        """Return to physical units."""
        raise NotImplementedError

    def frozen(self) -> Scaler:
        """Return a scaler of its own that scales as this one does now."""
        other = type(self)(name=self.name)
        other.build((None, self.variables[0].shape[-1]))
        other.assign([variable.numpy() for variable in self.variables])
        return other


class _Affine(Scaler):
    """scaled = (x - shift) / scale, feature by feature; a constant feature has scale 1."""

    formula = "affine"

    def build(self, shape):
        self.shift = self.add_weight("shift", shape[-1:], initializer="zeros", trainable=False)
        self.scale = self.add_weight("scale", shape[-1:], initializer="ones", trainable=False)
        super().build(shape)

    def call(self, x):
        return (x - self.shift) / self.scale

    def inverse(self, scaled):
        return scaled * self.scale + self.shift


def _shift_and_scale(shift: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return shift, np.where(scale > 0, scale, 1.0)


class _Extremes:
    """The smallest and the largest value of every feature."""

    def __init__(self) -> None:
        self.low: np.ndarray | float = np.inf
        self.high: np.ndarray | float = -np.inf

    def add(self, values: np.ndarray) -> None:
        if len(values):
            self.low, self.high = np.minimum(self.low, values.min(0)), np.maximum(self.high, values.max(0))

    def ends(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return both, (F,) each; None if there were no events."""
        return (np.asarray(self.low), np.asarray(self.high)) if np.ndim(self.low) else None


class _Span(_Extremes):
    def result(self) -> Sequence[np.ndarray]:
        if (ends := self.ends()) is None:
            return ()
        low, high = ends
        return _shift_and_scale(low, high - low)


class _Magnitude(_Extremes):
    def result(self) -> Sequence[np.ndarray]:
        if (ends := self.ends()) is None:
            return ()
        largest = np.maximum(*map(np.abs, ends))
        return _shift_and_scale(np.zeros_like(largest), largest)


class _Moments:
    """Mean and sum of squares (Chan, Golub & LeVeque 1979: exact merging of those of blocks)."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, np.zeros(()), np.zeros(())

    def add(self, values: np.ndarray) -> None:
        if not len(values):
            return
        values = values.astype(np.float64)
        count, size, centre = self.count, len(values), values.mean(0)
        shift = centre - self.mean
        self.squares = self.squares + ((values - centre) ** 2).sum(0) + shift**2 * (count * size / (count + size))
        self.count, self.mean = count + size, self.mean + shift * (size / (count + size))

    def result(self) -> Sequence[np.ndarray]:
        return _shift_and_scale(self.mean, np.sqrt(self.squares / self.count)) if self.count else ()


class _Quantiles:
    """Quantiles of at most `sample` events: those with the smallest random keys, a uniform sample in one pass."""

    def __init__(self, knots: int, sample: int, seed: int):
        self._knots, self._sample, self._rng = knots, sample, np.random.default_rng(seed)
        self._kept = np.empty((0, 0), np.float32)
        self._keys = np.empty(0)

    def add(self, values: np.ndarray) -> None:
        if not len(values):
            return
        self._keys = np.concatenate([self._keys, self._rng.random(len(values))])
        self._kept = np.concatenate([self._kept, values]) if len(self._kept) else values
        if len(self._keys) > self._sample:
            smallest = np.argpartition(self._keys, self._sample)[: self._sample]
            self._kept, self._keys = self._kept[smallest], self._keys[smallest]

    def result(self) -> Sequence[np.ndarray]:
        if not len(self._keys):
            return ()
        return (np.quantile(self._kept, np.linspace(0, 1, self._knots), axis=0),)


class MinMax(_Affine):
    """Scales every feature to [0, 1] on the events it was fitted to: (x - min) / (max - min)."""

    def learner(self, seed=0):
        return _Span()


class Standard(_Affine):
    """Scales every feature to mean 0 and standard deviation 1: (x - mean) / std."""

    def learner(self, seed=0):
        return _Moments()


class MaxAbs(_Affine):
    """Divides every feature by its largest magnitude: x / max |x|, in [-1, 1], with zero left at zero."""

    def learner(self, seed=0):
        return _Magnitude()


class Quantile(Scaler):
    """Maps every feature to a uniform distribution in [0, 1] by its empirical distribution function.

    Linear interpolation between `knots` quantiles, the two-sided average where values repeat, except that the
    smallest value is 0 and the largest 1: what scikit-learn's QuantileTransformer does. Fitted to at most `sample` events, drawn with the seed.
    """

    formula = "quantile"
    invertible = False  # of values that repeat, and beyond the outermost
    knots, sample = 256, 200_000

    def build(self, shape):
        self.quantiles = self.add_weight("quantiles", (self.knots, shape[-1]), initializer="zeros", trainable=False)
        super().build(shape)

    def learner(self, seed=0):
        return _Quantiles(self.knots, self.sample, seed)

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


class Scaling:
    """The statistic that fits a scaler; see `pipelines.events.statistics`.

    Args:
        scaler: what is fitted; it must be built.
        seed: of the sample of a quantile transform.
        what: names what is scaled, and of which events, where it is not the features of all.
        fields: the datasets that are looked at.
        columns: the features, in the order of the scaler.
        values: numbers (n, F) of a block of events.
    """

    def __init__(
        self,
        scaler: Scaler,
        seed: int,
        what: Hashable = "features",
        fields: Sequence[str] = ("features",),
        columns: Sequence[str] = (),
        values: Callable[[Mapping[str, np.ndarray]], np.ndarray] = lambda block: block["features"],
    ):
        self.key = ("scaling", type(scaler).__name__, what, tuple(columns), seed)
        self.fields, self.columns = fields, tuple(columns)
        self.assign, self._learner, self._values = scaler.assign, scaler.learner(seed), values

    def add(self, block: Mapping[str, np.ndarray]) -> None:
        """Look at a block of events."""
        self._learner.add(self._values(block))

    def result(self) -> Sequence[np.ndarray]:
        """Return what `assign` takes."""
        return self._learner.result()


SCALERS = {"minmax": MinMax, "standard": Standard, "maxabs": MaxAbs, "quantile": Quantile}


def make(name: str) -> Scaler:
    """Return a new scaler: "minmax", "standard", "maxabs" or "quantile"; raises `InputError` for another name."""
    if name not in SCALERS:
        raise InputError(f"scaling={name!r} is not known; expected one of {', '.join(SCALERS)}")
    return SCALERS[name](name="scaler")
