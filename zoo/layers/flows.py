"""Normalizing flows for the latent space of a VAE: invertible maps z' = f(z) whose log-determinant is cheap.

A flow turns the Gaussian that the encoder gives, log q(z0), into a richer density (Rezende & Mohamed 2015, eq. 6),

    log q(zK) = log q(z0) - sum_k log |det df_k/dz|

Two kinds of classes are here. *Bijectors* (`Planar`, ..., subclasses of `tfp.bijectors.Bijector`) are functions of
tensors: whatever parameters they are given, short of overflow, the map is invertible. *Layers* (`PlanarFlows`, ...,
made by `make`) are stacks of bijectors, and own all weights, fixed ones and those of the dense layers that give
parameters per event ("amortised"), as ordinary Keras weights: TFP keeps variables where Keras does not look.

| name          | parameters                              | inverse                 | paper's setting (Jawahar et al. 2021)  |
|---------------|-----------------------------------------|-------------------------|----------------------------------------|
| planar        | amortised                               | not in closed form      | 6 flows                                |
| orthogonal    | amortised                               | not in closed form      | 6 flows, 8 vectors                     |
| householder   | amortised                               | not in closed form      | 6 flows, 8 vectors                     |
| triangular    | amortised                               | not in closed form      | 6 flows                                |
| iaf           | fixed, and a context from the encoder   | exact, one dim at a time| 4 flows, width 330                     |
| convolutional | fixed                                   | exact, one dim at a time| 4 flows, kernel 7, dilated             |

Shapes: batches have any number of leading axes; K members of a group have one in front of the batch's.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np
import tensorflow as tf

from pipelines.errors import InputError
from zoo.base import COUNT, Limit
from zoo.keras import keras  # before TFP: it decides which Keras TFP finds
from zoo.layers.dense import glorot_uniform

import tensorflow_probability as tfp  # isort: skip

tfb = tfp.bijectors

# Jacobians' factors that must be positive stay above this, so that rounding cannot make them zero
MARGIN = 1e-3
# Where the encoder's part of amortised parameters starts, relative to Glorot: small, so that flows start near identity
GAIN = 0.1
VECTORS = 8  # of orthogonal and Householder flows in the authors' setting
LEAK = 0.01  # slope of the convolutional flow's leaky ReLU for negative arguments: that of the authors' code

# `polar` converges where the smallest singular value is at least this part of the Frobenius norm
SMALLEST_SINGULAR_VALUE = 1e-4
ORTHONORMAL_TOLERANCE = {tf.float32: 1e-5, tf.float64: 1e-11}


# -- bijectors ---------------------------------------------------------------------------------------


class Flow(tfb.Bijector):
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
        exact = ", ".join(name for name, layer in FLOWS.items() if layer.has_inverse)
        raise InputError(
            f"the flow {self.name!r} has no inverse in closed form; go forward, from z0 to zK, keeping z0, or take "
            f"a flow that has one: {exact}"
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

    Where `vectors` are so nearly dependent that they cannot be made orthonormal to ORTHONORMAL_TOLERANCE, R is zero and
    the flow the identity, so that the log-determinant is always exact.

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
        self.reflections = tf.unstack(_normalised(_without_magnitude(vectors, -1), -1), axis=-2)

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


class InverseAutoregressive(Flow):
    """z'_i = mu_i + sigma_i z_i with mu and sigma of z_1 ... z_{i-1} (Kingma et al. 2016), so log |det| = sum log sigma.

    Both are outputs of one MADE (Germain et al. 2015), masked dense layers with ELU. sigma is softplus, 1 for an output
    of zero and at least MARGIN: Kingma et al. advise a sigmoid, which can only shrink and is no identity.

    Args:
        kernels: of (..., D, W), (..., W, W) any number of times, (..., W, 2 D); members may lead, events may not.
        biases: (..., W) for all but the last, which is (..., 2 D).
        context: (..., B, W), added after the first layer; or nothing.
        reverse: take z from the last to the first instead.

    z has shape (..., B, D). The inverse takes D passes through the MADE.

    >>> kernels, biases = [tf.ones((2, 2)), tf.ones((2, 4))], [tf.zeros(2), tf.zeros(4)]
    >>> flow = InverseAutoregressive(kernels, biases)
    >>> print(flow.forward(tf.constant([[1.0, 0.0]])).numpy().round(2))
    [[1. 1.]]
    """

    event_ndims = {"context": 1}

    def __init__(
        self,
        kernels: Sequence[tf.Tensor],
        biases: Sequence[tf.Tensor],
        context: tf.Tensor | None = None,
        reverse: bool = False,
        name: str = "iaf",
    ):
        super().__init__(dict(locals()), kernels[0].dtype)
        masks = made_masks(kernels[0].shape[-2], [k.shape[-1] for k in kernels[:-1]], reverse)
        self.kernels = [kernel * tf.constant(mask, kernel.dtype) for kernel, mask in zip(kernels, masks)]
        self.biases, self.reverse = list(biases), reverse
        self.context = 0.0 if context is None else context

    def shift_and_scale(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return mu and sigma (..., B, D)."""
        h = tf.nn.elu(z @ self.kernels[0] + self.biases[0][..., None, :]) + self.context
        for kernel, bias in zip(self.kernels[1:-1], self.biases[1:-1]):
            h = tf.nn.elu(h @ kernel + bias[..., None, :])
        mu, s = tf.split(h @ self.kernels[-1] + self.biases[-1][..., None, :], 2, -1)
        return mu, MARGIN + (1 - MARGIN) * tf.nn.softplus(s + math.log(math.e - 1))

    def forward_with_log_det(self, z):
        mu, sigma = self.shift_and_scale(z)
        return mu + sigma * z, tf.reduce_sum(tf.math.log(sigma), -1)

    def _inverse(self, z):
        found = tf.zeros_like(z)
        width = z.shape[-1]
        for i in reversed(range(width)) if self.reverse else range(width):
            mu, sigma = self.shift_and_scale(found)  # exact for this i, whose predecessors have been found
            found = tf.where(np.arange(width) == i, (z - mu) / sigma, found)
        return found


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

    q = _normalised(_without_magnitude(vectors, (-2, -1)), (-2, -1))
    return _loop(step, q, scales.shape[0])


def gram_schmidt(vectors: tf.Tensor) -> tf.Tensor:
    """Return orthonormal columns (..., D, M) from `vectors` (..., D, M), M <= D: Gram & Schmidt's, each done twice.

    Done twice, it is orthonormal to rounding however nearly dependent the vectors are (Giraud et al. 2005): the
    tolerances of `polar`, at a tenth of its cost.

    >>> gram_schmidt(tf.constant([[3.0, 1.0], [0.0, 1.0], [0.0, 0.0]])).numpy().tolist()
    [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    """
    vectors = _without_magnitude(vectors, (-2, -1))
    places = tf.eye(vectors.shape[-1], dtype=vectors.dtype)

    def step(k, q):
        v = tf.reduce_sum(vectors * places[k], -1)
        for _ in range(2):
            along = tf.reduce_sum(q * v[..., None], -2)
            v = _normalised(v - tf.reduce_sum(q * along[..., None, :], -1), -1)
        return k + 1, q + v[..., None] * places[k]

    return _loop(step, tf.zeros_like(vectors), vectors.shape[-1])


BASES = {"polar": polar, "gram_schmidt": gram_schmidt}


def _loop(step, start, times):
    # one compiled body instead of one a step; with the number of steps known, XLA can go back for the gradient
    return tf.while_loop(lambda k, _: k < times, step, (0, start), maximum_iterations=times)[1]


def _scales(low):
    """Chen & Chow's factors: each sends `low` and 1, the ends of the spectrum, to the same value, the new `low`."""
    scales = []
    while 1 - low > 1e-13:
        scales.append(math.sqrt(3 / (1 + low + low * low)))
        low = 0.5 * scales[-1] * low * (3 - (scales[-1] * low) ** 2)
    return scales


def _without_magnitude(x, axis):
    """x over its largest element, for what does not depend on the length of x: its square neither under- nor overflows."""
    return tf.math.divide_no_nan(x, tf.stop_gradient(tf.reduce_max(tf.abs(x), axis, keepdims=True)))


def _normalised(x, axis):
    """x over its norm, and 0 where that is 0, where also the gradient is 0 and not NaN."""
    square = tf.reduce_sum(x * x, axis, keepdims=True)
    zero = tf.equal(square, 0)
    return tf.where(zero, tf.zeros_like(x), x * tf.math.rsqrt(tf.where(zero, tf.ones_like(square), square)))


def made_masks(width: int, hidden: Sequence[int], reverse: bool = False) -> list[np.ndarray]:
    """Return the masks of a MADE from z (width) over hidden layers to two outputs per dimension (Germain et al. 2015).

    Input i has degree i = 1 ... width, hidden unit k degree k mod width; a hidden unit sees what has no larger degree,
    an output what has a smaller one. Hidden units of degree 0 see the context alone.

    >>> [mask.tolist() for mask in made_masks(2, [2])]
    [[[0.0, 1.0], [0.0, 0.0]], [[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]]]
    """
    degrees = np.arange(width, 0, -1) if reverse else np.arange(1, width + 1)
    layers = [degrees, *(np.arange(units) % width for units in hidden)]
    masks = [(before[:, None] <= after[None]) for before, after in pairwise(layers)]
    return [mask.astype(float) for mask in (*masks, layers[-1][:, None] < np.tile(degrees, 2)[None])]


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


# -- layers ------------------------------------------------------------------------------------------


class FlowLayer(keras.layers.Layer):
    """`num_flows` flows in a row, with their weights: (h, z0) -> (zK, sum of log |det|).

    Calling it takes h (B, H), the encoder's last hidden output, and z0 (B, latent_dim), and returns zK of z0's shape
    and the log-determinant (B,). With `members` K > 1 everything has a leading axis K, weights included, and member k
    is what a layer of `seed` + k is alone. All weights are trainable weights of the layer; they start near the
    identity, from values that depend on `seed` alone.

    Args:
        num_flows: flows in a row, >= 1.
        latent_dim: D >= 1, of z.
        members: independent copies K >= 1.
        seed: of the initial weights.

    Raises `InputError` naming an argument out of range.
    """

    has_inverse = False

    def __init__(self, num_flows: int, latent_dim: int, *, members: int = 1, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        for name, value in {"num_flows": num_flows, "latent_dim": latent_dim, "members": members}.items():
            COUNT.check(name, value)
        self.num_flows, self.latent_dim, self.members, self.seed = num_flows, latent_dim, members, seed

    def get_config(self):
        names = ("num_flows", "latent_dim", "members", "seed")
        return super().get_config() | {name: getattr(self, name) for name in names}

    def bijectors(self, h: tf.Tensor) -> list[Flow]:
        """Return the bijectors in the order in which they act."""
        raise NotImplementedError

    def bijector(self, h: tf.Tensor) -> tfb.Bijector:
        """Return all flows as one TFP bijector, for the encoder's outputs h."""
        return tfb.Chain(self.bijectors(h)[::-1])  # TFP's chains act from last to first

    def call(self, h, z0):
        if z0.shape[-1] != self.latent_dim:
            raise InputError(
                f"z0 has shape {tuple(z0.shape)}, expected {self.latent_dim} (latent_dim) numbers an event"
            )
        return self.through(self.bijectors(h), z0)

    @staticmethod
    def through(bijectors: Sequence[Flow], z0: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return zK and the sum of log |det| of z0 sent through bijectors, one after the other."""
        z, log_det = z0, tf.zeros_like(z0[..., 0])
        for flow in bijectors:
            z, step = flow.forward_with_log_det(z)
            log_det += step
        return z, log_det

    def add(self, name: str, *shape: int) -> tf.Variable:
        """Create a weight, for every member."""
        place = len(self.weights)
        starts = [self.start(name, shape, (self.seed + member, place)) for member in range(self.members)]
        start = tf.stack(starts) if self.members > 1 else starts[0]
        return self.add_weight(name, start.shape, initializer=lambda shape, dtype, **_: tf.cast(start, dtype))

    def initial(self, weight: tf.Variable, seed: tuple[int, int]) -> tf.Tensor:
        """Return the value with which one member's part of this layer's `weight` starts, a function of `seed` only.

        It is what `AnomalyModel.begin_anew` asks for: near the identity, which zero biases are not.
        """
        name = weight.name.rpartition("/")[-1].partition(":")[0]
        shape = tuple(weight.shape)[1:] if self.members > 1 else tuple(weight.shape)
        return tf.cast(self.start(name, shape, seed), weight.dtype)

    def start(self, name: str, shape: tuple[int, ...], seed: tuple[int, int]) -> tf.Tensor:
        """Return the initial value of the weight called `name`, of one member."""
        if "kernel" in name:
            return glorot_uniform(shape, seed) * (GAIN if name.startswith("last") else 1)
        return tf.zeros(shape)


class AmortisedFlows(FlowLayer):
    """Flows with parameters that dense layers compute from h for every event, linearly unless `hidden` says more.

    Args:
        hidden: units of dense layers (ELU) between h and the linear one that gives the parameters.
    """

    def __init__(self, num_flows, latent_dim, *, hidden: Sequence[int] = (), **kwargs):
        super().__init__(num_flows, latent_dim, **kwargs)
        if hidden:
            COUNT.check("hidden", hidden)
        self.hidden = tuple(hidden)

    def get_config(self):
        return super().get_config() | {"hidden": self.hidden}

    def parts(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return the shape of every parameter of one flow, and how its bias starts (see `_bias`)."""
        raise NotImplementedError

    def build(self, shape):
        size = sum(math.prod(part) for part, _ in self.parts().values())
        widths = [shape[-1], *self.hidden, self.num_flows * size]
        names = [*(f"hidden{i}" for i in range(len(self.hidden))), "last"]
        self.kernels = [self.add(f"{name}_kernel", *pair) for name, pair in zip(names, pairwise(widths))]
        self.biases = [self.add(f"{name}_bias", width) for name, width in zip(names, widths[1:])]
        super().build(shape)

    def start(self, name, shape, seed):
        if name != "last_bias":
            return super().start(name, shape, seed)
        biases = []
        for index, (part, how) in enumerate(self.parts().values()):
            bias = _bias(how, (self.num_flows, *part), tf.random.experimental.stateless_fold_in(seed, index))
            biases.append(tf.reshape(bias, (self.num_flows, math.prod(part))))
        return tf.reshape(tf.concat(biases, -1), shape)

    def amortised(self, h: tf.Tensor) -> list[dict[str, tf.Tensor]]:
        """Return for every flow its parameters, each (..., B, *shape of the parameter)."""
        *hidden, (kernel, bias) = zip(self.kernels, self.biases)
        for w, b in hidden:
            h = tf.nn.elu(h @ w + b[..., None, :])
        numbers = h @ kernel + bias[..., None, :]
        leading = tf.shape(numbers)[:-1]
        flows, at = [], 0
        for _ in range(self.num_flows):
            flows.append({})
            for name, (part, _) in self.parts().items():
                size = math.prod(part)
                flows[-1][name] = tf.reshape(numbers[..., at : at + size], tf.concat([leading, part], 0))
                at += size
        return flows


class PlanarFlows(AmortisedFlows):
    """Planar flows, amortised (Rezende & Mohamed 2015); see `Planar`, `AmortisedFlows` and `FlowLayer`."""

    def parts(self):
        vector = (self.latent_dim,)
        return {"w": (vector, "normal"), "u": (vector, "zeros"), "b": ((), "zeros")}

    def bijectors(self, h):
        return [Planar(**parameters, name=f"planar{k}") for k, parameters in enumerate(self.amortised(h))]


class SylvesterFlows(AmortisedFlows):
    """Sylvester flows, amortised (van den Berg et al. 2018): R starts at 0, R~ at tanh(1) times the identity."""

    def units(self) -> int:
        """Return M, the hidden units of one flow."""
        return self.latent_dim

    def parts(self):
        m = self.units()
        return {"triangles": ((m, m), "zeros"), "diagonal": ((m,), "ones"), "b": ((m,), "zeros")}


class OrthogonalFlows(SylvesterFlows):
    """Orthogonal Sylvester flows; see `OrthogonalSylvester`, `AmortisedFlows` and `FlowLayer`.

    The paper makes vectors orthonormal by an iteration towards the nearest orthonormal matrix ("polar"). Gram & Schmidt's
    columns span the same space, are as orthonormal, and cost a tenth; the set of maps that a flow can be is the same, since
    both give every orthonormal matrix for some vectors. So they are the default. Of as many vectors as there are dimensions
    the last counts by its sign alone.

    Args:
        num_vectors: M, between 1 and `latent_dim`; by default the paper's 8, or `latent_dim` where that is less.
        basis: how they are made orthonormal, "gram_schmidt" or "polar" (the paper).
    """

    def __init__(self, num_flows, latent_dim, *, num_vectors: int | None = None, basis: str = "gram_schmidt", **kwargs):
        super().__init__(num_flows, latent_dim, **kwargs)
        num_vectors = min(VECTORS, latent_dim) if num_vectors is None else num_vectors
        COUNT.check("num_vectors", num_vectors)
        Limit(choices=tuple(BASES)).check("basis", basis)
        if num_vectors > latent_dim:
            raise InputError(
                f"num_vectors={num_vectors!r} is not possible; the flow 'orthogonal' has at most latent_dim={latent_dim} "
                f"vectors; try num_vectors={latent_dim}"
            )
        self.num_vectors, self.basis = num_vectors, basis

    def get_config(self):
        return super().get_config() | {"num_vectors": self.num_vectors, "basis": self.basis}

    def units(self):
        return self.num_vectors

    def parts(self):
        return {"vectors": ((self.latent_dim, self.num_vectors), "orthonormal"), **super().parts()}

    def bijectors(self, h):
        flows = enumerate(self.amortised(h))
        return [OrthogonalSylvester(**parts, basis=self.basis, name=f"orthogonal{k}") for k, parts in flows]


class HouseholderFlows(SylvesterFlows):
    """Householder Sylvester flows; see `HouseholderSylvester`, `AmortisedFlows` and `FlowLayer`.

    Args:
        num_vectors: reflections n >= 1 in each flow; by default the paper's 8, or `latent_dim` where that is less, as
            `latent_dim` reflections make every orthogonal matrix.
    """

    def __init__(self, num_flows, latent_dim, *, num_vectors: int | None = None, **kwargs):
        super().__init__(num_flows, latent_dim, **kwargs)
        num_vectors = min(VECTORS, latent_dim) if num_vectors is None else num_vectors
        COUNT.check("num_vectors", num_vectors)
        self.num_vectors = num_vectors

    def get_config(self):
        return super().get_config() | {"num_vectors": self.num_vectors}

    def parts(self):
        return {"vectors": ((self.num_vectors, self.latent_dim), "normal"), **super().parts()}

    def bijectors(self, h):
        return [HouseholderSylvester(**parts, name=f"householder{k}") for k, parts in enumerate(self.amortised(h))]


class TriangularFlows(SylvesterFlows):
    """Triangular Sylvester flows, every second one reversed; see `TriangularSylvester` and `FlowLayer`."""

    def bijectors(self, h):
        flows = enumerate(self.amortised(h))
        return [TriangularSylvester(**parts, reverse=k % 2 == 1, name=f"triangular{k}") for k, parts in flows]


class AutoregressiveFlows(FlowLayer):
    """Inverse autoregressive flows, every second one reversed; see `InverseAutoregressive` and `FlowLayer`.

    The kernels are the same for all events; a linear layer of h gives the context (B, width), shared by the flows.

    Args:
        width: units of each hidden layer of a MADE, at least `latent_dim`.
        depth: hidden layers of a MADE, >= 1; the authors have two.
    """

    has_inverse = True

    def __init__(self, num_flows, latent_dim, *, width: int = 330, depth: int = 2, **kwargs):
        super().__init__(num_flows, latent_dim, **kwargs)
        COUNT.check("width", width)
        COUNT.check("depth", depth)
        if width < latent_dim:
            raise InputError(f"width={width!r} is not possible; expected at least one unit a dimension, {latent_dim}")
        self.width, self.depth = width, depth

    def get_config(self):
        return super().get_config() | {"width": self.width, "depth": self.depth}

    def build(self, shape):
        self.context_kernel = self.add("context_kernel", shape[-1], self.width)
        self.context_bias = self.add("context_bias", self.width)
        widths = [self.latent_dim, *[self.width] * self.depth, 2 * self.latent_dim]
        names = [*(f"hidden{i}" for i in range(self.depth)), "last"]
        pairs = list(pairwise(widths))
        flows = range(self.num_flows)
        self.kernels = [[self.add(f"{n}_kernel_of_flow{k}", *p) for n, p in zip(names, pairs)] for k in flows]
        self.biases = [[self.add(f"{n}_bias_of_flow{k}", p[1]) for n, p in zip(names, pairs)] for k in flows]
        super().build(shape)

    def bijectors(self, h):
        context = h @ self.context_kernel + self.context_bias[..., None, :]
        flows = enumerate(zip(self.kernels, self.biases))
        return [
            InverseAutoregressive(
                [tf.convert_to_tensor(kernel) for kernel in kernels],
                [tf.convert_to_tensor(bias) for bias in biases],
                context,
                reverse=k % 2 == 1,
                name=f"iaf{k}",
            )
            for k, (kernels, biases) in flows
        ]


class ConvolutionalFlows(FlowLayer):
    """Convolutional flows, every second one reversed; see `Convolutional` and `FlowLayer`. h is not used.

    As in the authors' code one flow is a block of convolutions with dilations 1, 2, 4, ... below `latent_dim`, and its
    parameters are the same for all events. A convolution has `kernel_size` taps, or fewer where they would reach past
    the `latent_dim` dimensions.

    Args:
        kernel_size: taps of a convolution, >= 1.
    """

    has_inverse = True

    def __init__(self, num_flows, latent_dim, *, kernel_size: int = 7, **kwargs):
        super().__init__(num_flows, latent_dim, **kwargs)
        COUNT.check("kernel_size", kernel_size)
        self.kernel_size = kernel_size

    def get_config(self):
        return super().get_config() | {"kernel_size": self.kernel_size}

    @property
    def dilations(self) -> tuple[int, ...]:
        """The dilations of one block."""
        return tuple(2**i for i in range(max(1, math.ceil(math.log2(self.latent_dim)))))

    def build(self, shape):
        self.taps, self.scales, self.shifts = [], [], []
        for k in range(self.num_flows):
            for dilation in self.dilations:
                taps = min(self.kernel_size, (self.latent_dim - 1) // dilation + 1)
                self.taps.append(self.add(f"w_of_flow{k}_dilation{dilation}", taps))
                self.scales.append(self.add(f"u_of_flow{k}_dilation{dilation}", self.latent_dim))
                self.shifts.append(self.add(f"b_of_flow{k}_dilation{dilation}", 1))
        super().build(shape)

    def start(self, name, shape, seed):
        if not name.startswith("w"):
            return tf.zeros(shape)
        return tf.random.stateless_normal(shape, seed) / math.sqrt(shape[-1])

    def bijectors(self, h):
        blocks = [(k, dilation) for k in range(self.num_flows) for dilation in self.dilations]
        return [
            Convolutional(
                w[..., None, :], u[..., None, :], b, dilation, reverse=k % 2 == 1, name=f"convolutional{k}_{dilation}"
            )
            for (k, dilation), w, u, b in zip(blocks, self.taps, self.scales, self.shifts)
        ]


def _bias(how, shape, seed):
    """Initial biases of amortised parameters: what they are before the encoder has learned to change them."""
    if how in ("zeros", "ones"):
        return getattr(tf, how)(shape)
    normal = tf.random.stateless_normal(shape, seed)
    return tf.linalg.qr(normal).q if how == "orthonormal" else normal / math.sqrt(shape[-1])


FLOWS: Mapping[str, type[FlowLayer]] = {
    "planar": PlanarFlows,
    "orthogonal": OrthogonalFlows,
    "householder": HouseholderFlows,
    "triangular": TriangularFlows,
    "iaf": AutoregressiveFlows,
    "convolutional": ConvolutionalFlows,
}


def _options(name: str) -> set[str]:
    """Names of the keyword arguments of a flow's layer, its own and those it inherits."""
    classes = [cls for cls in FLOWS[name].__mro__ if issubclass(cls, FlowLayer)]
    parameters = [p for cls in classes for p in inspect.signature(cls).parameters.values()]
    return {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY} | {"dtype", "name"}


def make(name: str, num_flows: int, latent_dim: int, **options) -> FlowLayer:
    """Return the Keras layer of a stack of flows, by name.

    Args:
        name: one of `FLOWS`.
        num_flows: flows in a row, >= 1; the paper has 6, and 4 of "iaf" and "convolutional".
        latent_dim: dimensions of z, >= 1.
        options: of the flow: `hidden` (amortised flows), `num_vectors` ("orthogonal", "householder"),
            `basis` ("orthogonal"), `width` and
            `depth` ("iaf"), `kernel_size` ("convolutional"); of all flows: `members`, `seed`; of Keras: `dtype`, `name`.

    Raises `InputError` for an unknown name or option, and for a value out of range.

    >>> flow = make("householder", num_flows=6, latent_dim=15)
    >>> z, log_det = flow(tf.zeros((3, 64)), tf.ones((3, 15)))
    >>> z.shape, log_det.shape, len(flow.trainable_variables)
    (TensorShape([3, 15]), TensorShape([3]), 2)
    """
    if name not in FLOWS:
        raise InputError(f"flow {name!r} is not known; expected one of {', '.join(FLOWS)}")
    known = _options(name)
    for option in options:
        if option not in known:
            raise InputError(f"the flow {name!r} has no option {option!r}; it has {', '.join(sorted(known))}")
    return FLOWS[name](num_flows, latent_dim, **options)
