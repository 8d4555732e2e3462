"""Smooth curves through spectra of counts, as TensorFlow programs: what `ddp` sees deviations from.

Both are fits by Poisson's likelihood, of ln of the density (events by bin width), by Newton's method: `smooth` of a
parabola around every bin, on a scale that is given, `fit` of one polynomial for the whole spectrum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

STEP = 2.0  # ln of the density changes by this at most in an iteration: far from the counts Newton's steps are too long
RIDGE = (0.1, 0.3, 0.3)  # events that hold value, slope and curvature where there are none
ITERATIONS = 4  # of `fit`
HOLD = 0.01  # events that hold its coefficients
FAR = 1e30  # events that hold the coefficients that a lower degree has not
SHARE = 1e-9  # of the information does so, too: what float64 loses where few bins have nearly all events
Triangle = list[list[tf.Tensor]]


def smooth(counts: tf.Tensor, bin_widths: tf.Tensor, mask: tf.Tensor, half_widths: Sequence[int]) -> list[tf.Tensor]:
    """Return curves (N, B) of events expected, one for each half width: ln of the density is locally a parabola.

    Each is the local likelihood fit (Tibshirani & Hastie 1987) with weights (1 - (k / (h + 1))^2)^2 of bins up to h
    away, by two of Newton's steps from the next narrower; the first starts from a local mean. In float64: in a tail that
    begins beside 10^5 events, float32 would make it a matter of rounding.

    Args:
        counts, bin_widths, mask: (N, B); bin widths in any unit, mask 1 for own bins and 0 beyond.
        half_widths: h, in bins, rising.

    >>> counts = 1e5 * tf.exp(-0.1 * tf.range(60.0))[None]
    >>> curve = smooth(counts, tf.ones((1, 60)), tf.ones((1, 60)), (7,))[0]
    >>> bool(tf.reduce_max(tf.abs(curve / counts - 1)) < 1e-2)
    True
    """
    counts, bin_widths, mask = (tf.cast(a, tf.float64) for a in (counts, bin_widths, mask))
    size = tf.shape(counts)[1]
    place = tf.cast(tf.range(size), tf.float64)
    distance = place[:, None] - place[None, :]  # of the bin that is seen from the bin that looks
    near = tf.cast(tf.abs(distance) <= half_widths[0] / 2, tf.float64)
    log = tf.math.log((counts @ near + 0.5) / ((bin_widths * mask) @ near + 1e-6))
    middle = tf.reduce_sum(log * mask, 1, keepdims=True) / tf.reduce_sum(mask, 1, keepdims=True)
    log, bin_widths = (log - middle) * mask, bin_widths * tf.exp(middle)
    curves = []
    for half_width in half_widths:
        u = distance / (half_width + 1)
        weight = tf.square(tf.maximum(1 - tf.square(u), 0.0))
        moments = tf.concat([weight * u**p for p in range(5)], 1)
        for _ in range(2):
            m = tf.exp(log) * bin_widths * mask
            log += _local_step(log, m, counts * mask - m, moments, size) * mask
        curves.append(tf.cast(tf.exp(log) * bin_widths * mask, tf.float32))
    return curves


def _local_step(log, m, excess, moments, size):
    """Change of ln m at every bin by the local weighted least squares fit of ln m + (n - m) / m with weights m."""
    s0, s1, s2, s3, s4 = tf.split(m @ moments, 5, 1)
    t0, t1, t2 = tf.split((m * log + excess) @ moments[:, : 3 * size], 3, 1)
    t0, t1, t2 = t0 - log * s0, t1 - log * s1, t2 - log * s2
    a0, a2, a4 = s0 + RIDGE[0], s2 + RIDGE[1], s4 + RIDGE[2]
    c0, c1, c2 = a2 * a4 - s3 * s3, s3 * s2 - s1 * a4, s1 * s3 - a2 * s2  # cofactors of the first row
    return tf.clip_by_value((c0 * t0 + c1 * t1 + c2 * t2) / (a0 * c0 + s1 * c1 + s2 * c2), -STEP, STEP)


class Fit(NamedTuple):
    """Polynomials of D degrees, each fitted to the whole of N spectra.

    Attributes:
        curves: (N, B), of each degree. basis: (N, B, P), Chebyshev polynomials up to the highest degree.
        factor: Cholesky's of the information, P (P + 1) / 2 tensors (N, D).
    """

    curves: list[tf.Tensor]
    basis: tf.Tensor
    factor: Triangle


def fit(
    counts: tf.Tensor,
    bin_widths: tf.Tensor,
    mask: tf.Tensor,
    place: tf.Tensor,
    start: tf.Tensor,
    degrees: Sequence[int],
) -> Fit:
    """Return the curves whose ln of the density is a polynomial of the place, fitted to the whole spectrum.

    Four of Newton's steps, in float64, in Chebyshev polynomials of the place, -1 to 1 over the own bins. Of these
    2 T_i T_j = T_(i+j) + T_|i-j|, so that the information is sums of moments of T up to twice the degree.

    Args:
        counts, bin_widths, mask: (N, B), as for `smooth`. place: (N, B) float64, rising.
        start: (N, B), a curve to start from. degrees: of the polynomials.

    >>> x = tf.linspace(-1.0, 1.0, 50)[None]
    >>> counts, ones = 1e4 * tf.exp(-3 * x + x**2), tf.ones((1, 50))
    >>> found = fit(counts, ones, ones, tf.cast(x, tf.float64), counts + 50, degrees=(2,))
    >>> bool(tf.reduce_max(tf.abs(found.curves[0] / counts - 1)) < 1e-3), found.basis.shape[-1], len(found.factor)
    (True, 3, 3)
    """
    counts, bin_widths, mask, start = (tf.cast(a, tf.float64)[:, :, None] for a in (counts, bin_widths, mask, start))
    size = max(degrees) + 1
    basis = _chebyshev(place, mask[:, :, 0], 2 * size - 2)
    low = basis[:, :, :size]
    held = np.eye(size)[:, :, None] * [[FAR * (i > degree) for degree in degrees] for i in range(size)]  # (P, P, D)
    offset = tf.math.log(bin_widths)
    weight = (start + 0.01) * mask
    target = weight * (tf.math.log(start + 0.001) - offset)
    log = low @ _solved(_information(_moments(basis, weight), held), _moments(low, target))  # (N, B, D) from here on
    seen = _moments(low, counts * mask)

    def step(log):
        moments = _moments(basis, tf.exp(log + offset) * mask)
        change = low @ _solved(_information(moments, held), seen - moments[:, :size])
        largest = tf.reduce_max(tf.abs(change), 1, keepdims=True)
        return [log + change * tf.minimum(tf.ones_like(largest), STEP / (largest + 1e-9))]

    # a loop in the program, which would be four times as long to compile without
    (log,) = tf.while_loop(lambda log: True, step, [log], maximum_iterations=ITERATIONS)
    m = tf.exp(tf.clip_by_value(log + offset, -30.0, 30.0)) * mask
    curves = tf.unstack(tf.cast(m, tf.float32), len(degrees), axis=-1)
    return Fit(curves, tf.cast(low, tf.float32), _information(_moments(basis, m), held))


def absorbed(projected: tf.Tensor, fit: Fit, squares: tf.Tensor) -> tf.Tensor:
    """Return the share (N, B, D) of a signal at every bin that the fit of a curve takes for background.

    That of its information: g^T Phi (Phi^T m Phi)^-1 Phi^T g / sum_j g_j^2 / m_j, g the template and Phi the basis.

    Args:
        projected: (N, B, P), g^T Phi. squares: (N, B, D), the sum in the denominator.
    """
    factor = [[tf.cast(entry, tf.float32)[:, None] for entry in row] for row in fit.factor]  # (N, 1, D)
    y = _forward(factor, [one[:, :, None] for one in tf.unstack(projected, axis=-1)])
    return tf.minimum(tf.add_n([tf.square(one) for one in y]) / squares, 0.98)


def _chebyshev(place, mask, degree: int):
    low, high = lowest(place, mask), highest(place, mask)
    x = tf.where(mask > 0, 2 * (place - low) / (high - low) - 1, 0.0)
    basis = [tf.ones_like(x), x]
    for _ in range(degree - 1):
        basis.append(2 * x * basis[-1] - basis[-2])
    return tf.stack(basis, -1) * mask[:, :, None]


def lowest(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Return the least (N, 1) of values (N, B) where the mask is above 0.

    >>> float(lowest(tf.constant([[3.0, 2.0, 1.0]]), tf.constant([[1.0, 1.0, 0.0]]))[0, 0])
    2.0
    """
    return tf.reduce_min(tf.where(mask > 0, values, values.dtype.max), 1, keepdims=True)


def highest(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Return the largest (N, 1) of values (N, B) where the mask is above 0.

    >>> float(highest(tf.constant([[1.0, 2.0, 3.0]]), tf.constant([[1.0, 1.0, 0.0]]))[0, 0])
    2.0
    """
    return tf.reduce_max(tf.where(mask > 0, values, values.dtype.min), 1, keepdims=True)


def _moments(basis, weight):
    """Sums over bins (N, K, D) of basis (N, B, K) times weight (N, B, D)."""
    return tf.matmul(basis, weight, transpose_a=True)


def _solved(factor: Triangle, values):
    """x (N, P, D) of L L^T x = values, for each of N and D."""
    return tf.stack(solve(factor, tf.unstack(values, axis=1)), 1)


def _information(moments, held) -> Triangle:
    """Cholesky's factor of the sums of T_i T_j, from those of T, (N, K, D), and of what holds coefficients, (P, P, D)."""
    place = np.arange(len(held))
    total, apart = place[:, None] + place, np.abs(place[:, None] - place)
    matrix = 0.5 * (tf.gather(moments, total, axis=1) + tf.gather(moments, apart, axis=1))
    return cholesky(matrix + held)


def cholesky(matrix: tf.Tensor) -> Triangle:
    """Return the lower triangle L of L L^T = matrices (N, P, P, ...) + HOLD + SHARE of their diagonals, on the diagonal.

    Written out: for thousands of small matrices XLA fuses this, and calls a library for each with `tf.linalg`.

    >>> [[round(float(one[0]), 3) for one in row] for row in cholesky(tf.constant([[[4.0, 2.0], [2.0, 3.0]]]))]
    [[2.002], [0.999, 1.419]]
    """
    size = matrix.shape[1]
    lower: list[Any] = []
    for i in range(size):
        lower.append([])
        hold = HOLD + SHARE * matrix[:, i, i]
        for j in range(i + 1):
            rest = matrix[:, i, j] - sum(lower[i][k] * lower[j][k] for k in range(j))
            lower[i].append(tf.sqrt(tf.maximum(rest, 0.0) + hold) if i == j else rest / lower[j][j])
    return lower


def solve(lower: Triangle, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Return x of L L^T x = values, P tensors (N, ...).

    >>> [round(float(one[0]), 1) for one in solve([[tf.constant([2.0])]], [tf.constant([8.0])])]
    [2.0]
    """
    y, size = _forward(lower, values), len(lower)
    x = [y[0]] * size
    for i in reversed(range(size)):
        x[i] = (y[i] - sum(lower[k][i] * x[k] for k in range(i + 1, size))) / lower[i][i]
    return x


def _forward(lower: Triangle, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """y of L y = values, P tensors, of the shape of an entry of L or one that goes with it."""
    y: list[Any] = []
    for i, row in enumerate(lower):
        y.append((values[i] - sum(row[k] * y[k] for k in range(i))) / row[i])
    return y
