"""Flows as bijectors of TensorFlow Probability: functions of tensors, invertible whatever their parameters are."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from pipelines.errors import InputError
from zoo.keras import keras  # noqa: F401  (before TFP: it decides which Keras TFP finds)
from zoo.layers.flows.orthonormal import BASES, normalised, without_magnitude

import tensorflow_probability as tfp  # isort: skip

tfb = tfp.bijectors

# Jacobians' factors that must be positive stay above this, so that rounding cannot make them zero
MARGIN = 1e-3
LEAK = 0.01  # slope of the convolutional flow's leaky ReLU for negative arguments: that of the authors' code
BOUND = 5.0  # splines reach from its negative to it
EXACT = ("iaf", "convolutional")  # flows whose inverse is known
ORTHONORMAL_TOLERANCE = {tf.float32: 1e-5, tf.float64: 1e-11}


class Flow(tfb.Bijector):  # type: ignore[name-defined]
    """A map of vectors z (..., D) to vectors (..., D), invertible whatever its parameters.

    Subclasses say what `forward_with_log_det` is; TFP's `forward`, `forward_log_det_jacobian` and what is built on
    them (`tfp.bijectors.Chain`, `TransformedDistribution`) follow. Where there is no inverse in closed form,
    `inverse` raises `InputError`, except for a result of this very object's `forward`, which TFP remembers.
    """

    event_ndims: ClassVar[Mapping[str, int]] = {}  # of the parameters that may have the batch's axes in front

    def __init__(self, parameters: Mapping[str, object], dtype: tf.DType):
        given = {k: v for k, v in parameters.items() if k not in ("self", "__class__")}
        super().__init__(forward_min_event_ndims=1, dtype=dtype, parameters=given, name=given["name"])

    def forward_with_log_det(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return z' (..., D) and log |det dz'/dz| (...), both in one pass."""
        raise NotImplementedError

    @classmethod
    def _parameter_properties(cls, dtype):
        return {name: tfp.util.ParameterProperties(event_ndims=ndims) for name, ndims in cls.event_ndims.items()}

    def _forward(self, z):
        return self.forward_with_log_det(z)[0]

    def _forward_log_det_jacobian(self, z):
        return self.forward_with_log_det(z)[1]

    def _inverse(self, z):
        raise InputError(
            f"the flow {self.name!r} has no inverse in closed form; go forward, from z0 to zK, keeping z0, or take "
            f"a flow that has one: {', '.join(EXACT)}"
        )


class Planar(Flow):
    """z' = z + u^ tanh(w.z + b) (Rezende & Mohamed 2015, eq. 10), with log |det| = log(1 + w.u^ tanh'(w.z + b)).

    It is invertible if w.u^ > -1 (their appendix A.1). So u^ = u + (m(w.u) - w.u) w / |w|^2 with m(x) =
    log(a + (1 - a) e^x) and a = exp(MARGIN - 1): theirs is 1 / (1 + e) for a and passes through m(0) = -0.31, which
    makes u^ diverge for w -> 0; ours has m(0) = 0, and u = 0 is the identity.

    Args:
        w, u: (..., D); b: (...).

    >>> flow = Planar(tf.constant([1.0, 0.0]), tf.constant([0.0, 2.0]), tf.constant(0.0))
    >>> print(flow.forward(tf.constant([[100.0, 0.0]])).numpy().round(2))
    [[100.   2.]]
    """

    event_ndims = {"w": 1, "u": 1, "b": 0}

    def __init__(self, w: tf.Tensor, u: tf.Tensor, b: tf.Tensor, name: str = "planar"):
        super().__init__(dict(locals()), w.dtype)
        wu = tf.reduce_sum(w * u, -1)
        self.w, self.b, self.w_u_hat = w, b, _above_minus_one(wu)
        along_w = tf.math.divide_no_nan(self.w_u_hat - wu, tf.reduce_sum(w * w, -1))
        self.u_hat = u + along_w[..., None] * w

    def forward_with_log_det(self, z):
        h = tf.tanh(tf.reduce_sum(self.w * z, -1) + self.b)
        return z + self.u_hat * h[..., None], tf.math.log1p(self.w_u_hat * (1 - h * h))


class Sylvester(Flow):
    """z' = z + Q R tanh(R~ Q^T z + b) (van den Berg et al. 2018, eqs. 9 and 13): planar flows of many hidden units.

    The columns of Q (D, M) are orthonormal, R and R~ (M, M) upper triangular, so that by Sylvester's identity

        log |det| = sum_i log(1 + r_ii r~_ii tanh'(R~ Q^T z + b)_i)

    It is invertible if r_ii r~_ii > -1 (theorem 2): both diagonals are (1 - MARGIN) tanh of what is given. Subclasses
    say what Q is.

    Args:
        triangles: (..., M, M) holds R, diagonal included, above and R~, transposed and without its diagonal, below.
        diagonal: (..., M) of R~; b: (..., M).
    """

    event_ndims = {"triangles": 2, "diagonal": 1, "b": 1}

    def __init__(self, triangles, diagonal, b, parameters):
        super().__init__(parameters, b.dtype)
        self.triangles, self.b = triangles, b
        self.r_diagonal = (1 - MARGIN) * tf.tanh(tf.linalg.diag_part(triangles))
        self.r_tilde_diagonal = (1 - MARGIN) * tf.tanh(diagonal)
        self.above = tf.constant(np.triu(np.ones((b.shape[-1],) * 2), 1), b.dtype)

    def project(self, z: tf.Tensor) -> tf.Tensor:
        """Return Q^T z (..., M)."""
        raise NotImplementedError

    def embed(self, y: tf.Tensor) -> tf.Tensor:
        """Return Q y (..., D)."""
        raise NotImplementedError

    def forward_with_log_det(self, z):
        y = self.project(z)
        r_tilde_y = tf.linalg.matvec(self.triangles * tf.transpose(self.above), y, transpose_a=True)
        h = tf.tanh(r_tilde_y + self.r_tilde_diagonal * y + self.b)
        r_h = tf.linalg.matvec(self.triangles * self.above, h) + self.r_diagonal * h
        factors = self.r_diagonal * self.r_tilde_diagonal * (1 - h * h)
        return z + self.embed(r_h), tf.reduce_sum(tf.math.log1p(factors), -1)


class OrthogonalSylvester(Sylvester):
    """Sylvester flow of M <= D orthonormal vectors (van den Berg et al. 2018, sec. 3.1), made from any M vectors.

    Where `vectors` are too nearly dependent to be made orthonormal to ORTHONORMAL_TOLERANCE, R is zero and the flow the
    identity. So the log-determinant is always exact.

    Args:
        vectors: (..., D, M).
        basis: "gram_schmidt", or "polar" (the paper's iteration, which costs ten times as much).
        triangles, diagonal, b: as for `Sylvester`.

    >>> eye, zero = tf.eye(3)[:, :2], tf.zeros(2)
    >>> flow = OrthogonalSylvester(vectors=eye, triangles=tf.eye(2), diagonal=zero, b=zero + 1)
    >>> print(flow.forward(tf.zeros((1, 3))).numpy().round(2))
    [[0.58 0.58 0.  ]]
    """

    event_ndims = {"vectors": 2, **Sylvester.event_ndims}

    def __init__(self, vectors, triangles, diagonal, b, basis: str = "gram_schmidt", name: str = "orthogonal"):
        super().__init__(triangles, diagonal, b, dict(locals()))
        self.q = BASES[basis](vectors)
        defect = tf.matmul(self.q, self.q, transpose_a=True) - tf.eye(self.q.shape[-1], dtype=self.q.dtype)
        orthonormal = tf.reduce_max(tf.abs(defect), (-2, -1)) < ORTHONORMAL_TOLERANCE[self.q.dtype]
        self.triangles = tf.where(orthonormal[..., None, None], self.triangles, tf.zeros_like(self.triangles))
        self.r_diagonal = tf.where(orthonormal[..., None], self.r_diagonal, tf.zeros_like(self.r_diagonal))

    def project(self, z):
        return tf.linalg.matvec(self.q, z, transpose_a=True)

    def embed(self, y):
        return tf.linalg.matvec(self.q, y)


class HouseholderSylvester(Sylvester):
    """Sylvester flow with M = D and Q = H_1 ... H_n (van den Berg et al. 2018, sec. 3.2), H = 1 - 2 v v^T / |v|^2.

    Args:
        vectors: (..., n, D), the v; those that are zero reflect nothing. The others as for `Sylvester`.

    >>> flow = HouseholderSylvester(tf.ones((1, 2)), tf.eye(2), diagonal=tf.zeros(2), b=tf.constant([0.0, 9.0]))
    >>> print(flow.forward(tf.zeros((1, 2))).numpy().round(2))
    [[-0.76  0.  ]]
    """

    event_ndims = {"vectors": 2, **Sylvester.event_ndims}

    def __init__(self, vectors, triangles, diagonal, b, name: str = "householder"):
        super().__init__(triangles, diagonal, b, dict(locals()))
        self.reflections = tf.unstack(normalised(without_magnitude(vectors, -1), -1), axis=-2)

    def project(self, z):
        for v in self.reflections:
            z -= 2 * v * tf.reduce_sum(v * z, -1, keepdims=True)
        return z

    def embed(self, y):
        for v in reversed(self.reflections):
            y -= 2 * v * tf.reduce_sum(v * y, -1, keepdims=True)
        return y


class TriangularSylvester(Sylvester):
    """Sylvester flow with M = D and Q the identity or, if `reverse`, the reversal (van den Berg et al. 2018, sec. 3.3).

    Upper triangular matrices between two reversals are lower triangular ones: with `reverse`, R is what is below the
    diagonal of `triangles` and R~ what is above, and no z is turned round.

    >>> flow = TriangularSylvester(tf.eye(2), diagonal=tf.zeros(2), b=tf.constant([0.0, 9.0]))
    >>> print(flow.forward(tf.zeros((1, 2))).numpy().round(2))
    [[0.   0.76]]
    """

    def __init__(self, triangles, diagonal, b, reverse: bool = False, name: str = "triangular"):
        super().__init__(triangles, diagonal, b, dict(locals()))
        if reverse:
            self.above = tf.transpose(self.above)

    def project(self, z):
        return z

    def embed(self, y):
        return y


class Autoregressive(Flow):
    """z'_i = f(z_i; p_i), increasing in z_i, with p_i of z_1 ... z_{i-1} by one MADE (Germain et al. 2015).

    A MADE is masked dense layers with ELU. Subclasses say how many parameters p_i there are, and what f is.

    Args:
        kernels: of (..., D, W), (..., W, W) any number of times, (..., W, P D); members may lead, events may not.
        biases: (..., W) for all but the last, which is (..., P D).
        context: (..., B, W), added after the first layer; or nothing.
        reverse: take z from the last to the first instead.
        outputs: P.

    z has shape (..., B, D). The inverse takes D passes through the MADE.
    """

    event_ndims = {"context": 1}

    def __init__(self, kernels, biases, context, reverse, outputs, parameters):
        super().__init__(parameters, kernels[0].dtype)
        masks = made_masks(kernels[0].shape[-2], [k.shape[-1] for k in kernels[:-1]], reverse, outputs)
        self.kernels = [kernel * tf.constant(mask, kernel.dtype) for kernel, mask in zip(kernels, masks)]
        self.biases, self.reverse = list(biases), reverse
        self.context = 0.0 if context is None else context

    def made(self, z: tf.Tensor) -> tf.Tensor:
        """Return what the MADE says of z, (..., B, P D): the first parameter of all dimensions, then the second, ..."""
        h = tf.nn.elu(z @ self.kernels[0] + self.biases[0][..., None, :]) + self.context
        for kernel, bias in zip(self.kernels[1:-1], self.biases[1:-1]):
            h = tf.nn.elu(h @ kernel + bias[..., None, :])
        return h @ self.kernels[-1] + self.biases[-1][..., None, :]

    def undone(self, found: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        """Return f^-1(z; p), with p of what is `found` so far."""
        raise NotImplementedError

    def _inverse(self, z):
        found = tf.zeros_like(z)
        width = z.shape[-1]
        for i in reversed(range(width)) if self.reverse else range(width):
            # exact for this i, whose predecessors have been found
            found = tf.where(np.arange(width) == i, self.undone(found, z), found)
        return found


class InverseAutoregressive(Autoregressive):
    """z'_i = mu_i + sigma_i z_i with mu and sigma of z_1 ... z_{i-1} (Kingma et al. 2016), so log |det| = sum log sigma.

    sigma is softplus, 1 for an output of zero and at least MARGIN: Kingma et al. advise a sigmoid, which can only
    shrink and is no identity.

    Args:
        kernels, biases, context, reverse: as for `Autoregressive`, with P = 2.
        used: whether it is one of the flows that are in use, a boolean scalar; None is that it is.

    >>> kernels, biases = [tf.ones((2, 2)), tf.ones((2, 4))], [tf.zeros(2), tf.zeros(4)]
    >>> flow = InverseAutoregressive(kernels, biases)
    >>> print(flow.forward(tf.constant([[1.0, 0.0]])).numpy().round(2))
    [[1. 1.]]
    """

    def __init__(
        self,
        kernels: Sequence[tf.Tensor],
        biases: Sequence[tf.Tensor],
        context: tf.Tensor | None = None,
        reverse: bool = False,
        used: tf.Tensor | None = None,
        name: str = "iaf",
    ):
        super().__init__(kernels, biases, context, reverse, 2, dict(locals()))
        # of one dimension no unit sees z: what the MADE gives is worked out once, however many z are sent through
        self.fixed = None if self.kernels[0].shape[-2] > 1 else self._made_without_z(used)

    def shift_and_scale(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return mu and sigma (..., B, D)."""
        if self.fixed is None:
            return self._made(z)
        mu, sigma = self.fixed
        return mu + tf.zeros_like(z), sigma + tf.zeros_like(z)

    def _made_without_z(self, used):
        made = functools.partial(self._made, tf.zeros_like(self.biases[0][..., None, :1]))
        if used is None:
            return made()
        nothing = tf.zeros_like(self.context[..., :1])
        return tf.cond(used, made, lambda: (nothing, tf.ones_like(nothing)))

    def _made(self, z):
        mu, s = tf.split(self.made(z), 2, -1)
        return mu, positive(s)

    def forward_with_log_det(self, z):
        mu, sigma = self.shift_and_scale(z)
        return mu + sigma * z, tf.reduce_sum(tf.math.log(sigma), -1)

    def undone(self, found, z):
        mu, sigma = self.shift_and_scale(found)
        return (z - mu) / sigma


class AutoregressiveSpline(Autoregressive):
    """z'_i = s_i(mu_i + sigma_i z_i), s_i a monotonic rational-quadratic spline from -BOUND to BOUND (Durkan et al. 2019).

    mu, sigma and the spline are of z_1 ... z_{i-1}. Outside of its bounds s is the identity. Its K bins have widths and
    heights of at least MARGIN (a softmax), and slopes of at least MARGIN at the K - 1 knots between them (a softplus); at
    the ends the slope is 1. For an output of zero all is the identity. The affine part moves what is beyond the bounds into
    them.

    Args:
        kernels, biases, context, reverse: as for `Autoregressive`, with P = 3 K + 1.

    >>> kernels, biases = [tf.ones((2, 2)), tf.zeros((2, 14))], [tf.zeros(2), tf.zeros(14)]
    >>> flow = AutoregressiveSpline(kernels, biases)
    >>> print(flow.forward(tf.constant([[1.0, -7.0]])).numpy().round(2))
    [[ 1. -7.]]
    """

    def __init__(
        self,
        kernels: Sequence[tf.Tensor],
        biases: Sequence[tf.Tensor],
        context: tf.Tensor | None = None,
        reverse: bool = False,
        name: str = "spline",
    ):
        self.bins = (kernels[-1].shape[-1] // kernels[0].shape[-2] - 1) // 3
        super().__init__(kernels, biases, context, reverse, 3 * self.bins + 1, dict(locals()))

    def parts(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """Return mu and sigma (..., B, D), and s."""
        width, bins = z.shape[-1], self.bins
        said = self.made(z)
        said = tf.reshape(said, tf.concat([tf.shape(said)[:-1], (3 * bins + 1, width)], 0))
        mu, s, widths, heights, slopes = tf.split(tf.linalg.matrix_transpose(said), (1, 1, bins, bins, bins - 1), -1)

        def sizes(x):
            return MARGIN + (2 * BOUND - bins * MARGIN) * tf.nn.softmax(x, -1)

        spline = tfb.RationalQuadraticSpline(sizes(widths), sizes(heights), positive(slopes), range_min=-BOUND)
        return mu[..., 0], positive(s[..., 0]), spline

    def forward_with_log_det(self, z):
        mu, sigma, spline = self.parts(z)
        moved = mu + sigma * z
        log_det = tf.math.log(sigma) + spline.forward_log_det_jacobian(moved, event_ndims=0)
        return spline.forward(moved), tf.reduce_sum(log_det, -1)

    def undone(self, found, z):
        mu, sigma, spline = self.parts(found)
        return (spline.inverse(z) - mu) / sigma


class Convolutional(Flow):
    """z'_i = z_i + u^_i h(b + sum_j w_j z_{i + j dilation}) (Zheng, Yang & Carbonell 2018), z being 0 past its end.

    The Jacobian is triangular: log |det| = sum_i log(1 + w_0 u^_i h'). h is a leaky ReLU, so h' <= 1, and w_0 u^_i > -1
    makes every factor positive: w_0 u^_i = m(w_0 u_i), with the m of `Planar`. It is piecewise linear: the inverse
    is exact, one dimension after the other.

    Args:
        w: (..., taps), with (taps - 1) * dilation < D: what reaches past the end would never be trained.
        u: (..., D); b: (...).
        reverse: convolve towards the first instead of the last dimension.

    >>> flow = Convolutional(tf.constant([0.0, 1.0]), u=tf.constant([5.0, 5.0]), b=tf.constant(0.0))
    >>> print(flow.forward(tf.constant([[0.0, 1.0]])).numpy().round(2))
    [[3.16 1.  ]]
    """

    event_ndims = {"w": 1, "u": 1, "b": 0}

    def __init__(self, w, u, b, dilation: int = 1, reverse: bool = False, name: str = "convolutional"):
        super().__init__(dict(locals()), w.dtype)
        taps, width = w.shape[-1], u.shape[-1]
        if (taps - 1) * dilation >= width:
            raise InputError(
                f"dilation={dilation!r} with {taps} taps reaches past the {width} dimensions; "
                f"expected (taps - 1) * dilation < {width}"
            )
        step = -dilation if reverse else dilation
        shifts = np.stack([np.eye(width, k=-j * step) for j in range(taps)], -1)  # tap j of i sees i + j step
        self.w, self.b, self.reverse, self.shifts = w, b, reverse, tf.constant(shifts, w.dtype)
        self.w0_u_hat = _above_minus_one(w[..., :1] * u)
        self.u_hat = u * _above_minus_one_over(w[..., :1] * u)

    def forward_with_log_det(self, z):
        pre = self._convolved(z) + self.b[..., None]
        return z + self.u_hat * _leaky(pre), tf.reduce_sum(tf.math.log1p(self.w0_u_hat * _leaky_slope(pre)), -1)

    def _convolved(self, z, first=0):
        """The convolution by the taps from `first` on."""
        return tf.reduce_sum(self.w[..., None, first:] * tf.tensordot(z, self.shifts[..., first:], 1), -1)

    def _inverse(self, z):
        found = tf.zeros_like(z)
        width = z.shape[-1]
        for i in range(width) if self.reverse else reversed(range(width)):
            pre = self.w[..., :1] * z + self._convolved(found, first=1) + self.b[..., None]
            pre /= 1 + self.w0_u_hat * _leaky_slope(pre)  # `pre` of z' is that of z, stretched, with the same sign
            found = tf.where(np.arange(width) == i, z - self.u_hat * _leaky(pre), found)
        return found


def made_masks(width: int, hidden: Sequence[int], reverse: bool = False, outputs: int = 2) -> list[np.ndarray]:
    """Return the masks of a MADE from z (width) over hidden layers to `outputs` per dimension (Germain et al. 2015).

    Input i has degree i = 1 ... width, hidden unit k degree k mod width; a hidden unit sees what has no larger degree,
    an output what has a smaller one. Hidden units of degree 0 see the context alone.

    >>> [mask.tolist() for mask in made_masks(2, [2])]
    [[[0.0, 1.0], [0.0, 0.0]], [[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]]]
    """
    degrees = np.arange(width, 0, -1) if reverse else np.arange(1, width + 1)
    layers = [degrees, *(np.arange(units) % width for units in hidden)]
    masks = [(before[:, None] <= after[None]) for before, after in pairwise(layers)]
    return [mask.astype(float) for mask in (*masks, layers[-1][:, None] < np.tile(degrees, outputs)[None])]


def positive(x: tf.Tensor) -> tf.Tensor:
    """Return numbers above MARGIN, softplus of x moved so that it is 1 at 0."""
    return MARGIN + (1 - MARGIN) * tf.nn.softplus(x + math.log(math.e - 1))


def _above_minus_one(x):
    """m(x) = log(a + (1 - a) e^x), a = exp(MARGIN - 1): monotonic, m(0) = 0, m > MARGIN - 1, m ~ x for large x."""
    a = math.exp(MARGIN - 1)
    low, high = tf.minimum(x, 0), tf.maximum(x, 0)  # exact near 0, no overflow, gradients right on both sides
    negative = tf.math.log1p((1 - a) * tf.math.expm1(low))
    return tf.where(x > 0, high + tf.math.log1p(a * tf.math.expm1(-high)), negative)


def _above_minus_one_over(x):
    """m(x) / x, at 0 its limit 1 - a."""
    zero, one = tf.equal(x, 0), tf.ones_like(x)
    return tf.where(zero, (1 - math.exp(MARGIN - 1)) * one, _above_minus_one(x) / tf.where(zero, one, x))


def _leaky(x):
    return tf.maximum(x, LEAK * x)


def _leaky_slope(x):
    return tf.where(x > 0, tf.ones_like(x), LEAK * tf.ones_like(x))
