"""Dense layers and stacks of them, for one member or many; activations; seeded initial weights."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from zoo.ensemble import before
from zoo.keras import keras

Activation = str | Callable[[tf.Tensor], tf.Tensor] | None


def glorot_uniform(shape: tuple[int, ...], seed: tuple[int, int]) -> tf.Tensor:
    """Initial kernel: uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16), a function of `seed` only.

    >>> tuple(glorot_uniform((42, 84), seed=(0, 1)).shape)
    (42, 84)
    """
    limit = math.sqrt(6.0 / (shape[-2] + shape[-1]))
    return tf.random.stateless_uniform(shape, seed, -limit, limit)


def plus(x: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """x + bias for (..., B, H) and (H,) or, of members, (K, H).

    A plain bias stays one-dimensional: TensorFlow's optimiser of exported graphs fuses it into the product, and refuses any
    other when the graph is run.

    >>> plus(tf.zeros((3, 5, 4)), tf.ones((3, 4))).shape
    TensorShape([3, 5, 4])
    """
    return x + (bias if bias.shape.rank == 1 else bias[..., None, :])


def leaky_relu(x: tf.Tensor, slope: tf.Tensor | float) -> tf.Tensor:
    """max(x, slope x), with a slope in [0, 1] that may be a variable; or (K,), one for each member of x (K, B, H).

    >>> leaky_relu(tf.constant([-1.0, 2.0]), 0.5).numpy().tolist()
    [-0.5, 2.0]
    """
    return tf.maximum(x, before(tf.convert_to_tensor(slope, x.dtype), 2) * x)


def piecewise_linear(x: tf.Tensor, slope: tf.Tensor, at_zero: tf.Tensor) -> tf.Tensor:
    """x for x > 0, else slope x, whose derivative at zero is 1 if `at_zero`, else the slope.

    With slopes 0, s and 1 it is relu, leaky_relu and linear, in a program that does not know which of them it is.

    >>> piecewise_linear(tf.constant([-1.0, 2.0]), tf.constant(0.5), tf.constant(True)).numpy().tolist()
    [-0.5, 2.0]
    """
    return tf.where((x > 0.0) | ((x == 0.0) & at_zero), x, before(slope, 2) * x)


LAMBDA, LAMBDA_ALPHA = 1.0507009873554805, 1.0507009873554805 * 1.6732632423543772


@tf.custom_gradient
def selu(x: tf.Tensor) -> tf.Tensor:
    """lambda x for x > 0, else lambda alpha (exp(x) - 1) (Klambauer et al. 2017, eq. 2), faster than `tf.nn.selu`.

    That takes expm1, whose relative accuracy near zero is worth nothing in a sum of float32. The slope is worked out from
    the value, lambda or value + lambda alpha, so that nothing else of the way forwards is kept.

    >>> print(selu(tf.constant([-1.0, 1.0])).numpy().round(4))
    [-1.1113  1.0507]
    """
    value = LAMBDA * tf.maximum(x, 0.0) + LAMBDA_ALPHA * (tf.exp(tf.minimum(x, 0.0)) - 1.0)

    def gradient(upstream):
        return upstream * tf.where(value > 0, LAMBDA, value + LAMBDA_ALPHA)

    return value, gradient


NARROW = 8  # columns up to which a sum of outer products is faster than a matrix product


@tf.custom_gradient
def product(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """x @ kernel for (..., B, F) and (..., F, H), forwards and backwards without matrix products over few columns.

    XLA on a CPU runs a product that sums over one to eight columns, as at the latent space of an auto-encoder, on one
    core. It is slower than the products of its hidden layers; a sum of outer products it fuses with what is around it.

    >>> product(tf.ones((5, 2)), tf.ones((3, 2, 4))).shape
    TensorShape([3, 5, 4])
    """

    def gradient(upstream):
        towards_x = _contract(upstream, tf.linalg.matrix_transpose(kernel))
        shared = list(range(towards_x.shape.rank - x.shape.rank))  # members see the same batch
        return tf.reduce_sum(towards_x, shared) if shared else towards_x, _towards_kernel(x, upstream)

    return _contract(x, kernel), gradient


def _towards_kernel(x, upstream):
    width = upstream.shape[-1]
    if x.shape.rank == 2 or width is None or width > NARROW:
        return tf.matmul(x, upstream, transpose_a=True)
    # of members, a product with two to eight columns costs as much as with 64; one with a single column, a third or less
    rows = [tf.matmul(column, x, transpose_a=True) for column in tf.split(upstream, width, axis=-1)]
    return tf.linalg.matrix_transpose(tf.concat(rows, -2))


def _contract(x, kernel):
    width = kernel.shape[-2]
    if width is None or width > NARROW:  # none: it is that of a smaller network (see `Dense.cut`)
        return x @ kernel
    columns, rows = tf.split(x, width, axis=-1), tf.split(kernel, width, axis=-2)
    return tf.add_n([column * row for column, row in zip(columns, rows)])


ACTIVATIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "linear": lambda x: x,
    "relu": tf.nn.relu,
    "selu": selu,
    "tanh": tf.tanh,
}


def activation_of(activation: Activation) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function for an activation: one of `ACTIVATIONS`, another that Keras knows by name, or a function.

    >>> activation_of(None)(2.0)
    2.0
    """
    name = activation or "linear"
    return ACTIVATIONS[name] if isinstance(name, str) and name in ACTIVATIONS else keras.activations.get(name)


class Dense(keras.layers.Layer):
    """activation(x W + b) for rows x (..., B, F), giving (..., B, `units`).

    With `member_shape` (K,) all weights have a leading axis of K. The input (B, F) is then shared by the members, or
    (K, B, F); the output is (K, B, `units`).

    Args:
        units: width of the output.
        activation: a name or a function; None is linear.
        member_shape: () for one model, (K,) for K members, as `AnomalyModel.member_shape`.
        use_bias: whether b is added.
        inputs: F; the weights are then created at once, else at the first call.

    >>> Dense(2, "relu", member_shape=(3,))(tf.ones((5, 4))).shape
    TensorShape([3, 5, 2])
    """

    def __init__(
        self,
        units: int,
        activation: Activation = None,
        member_shape: Sequence[int] = (),
        *,
        use_bias: bool = True,
        inputs: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units, self.activation = units, activation_of(activation)
        self.units_in_use: tf.Variable | None = None  # by a smaller layer that this one holds
        self.member_shape, self.use_bias = tuple(member_shape), use_bias
        if inputs is not None:
            self.build((None, inputs))

    def build(self, shape):
        self.kernel = self.add_weight("kernel", (*self.member_shape, shape[-1], self.units))
        if self.use_bias:
            self.bias = self.add_weight("bias", (*self.member_shape, self.units), initializer="zeros")
        super().build(shape)

    def call(self, x):
        h = product(x, self.kernel)
        return self.activation(plus(h, self.bias) if self.use_bias else h)

    def cut(self, x: tf.Tensor) -> tf.Tensor:
        """Return the output of the smaller layer that is held alone, (..., B, its units), for as many columns as x has."""
        bias, columns = self.bias if self.use_bias else None, tf.shape(x, tf.int64)[-1]
        kernel = self.kernel[..., :columns, : self.units_in_use]
        if x.shape[-1] is not None:
            kernel.set_shape((*kernel.shape[:-2], x.shape[-1], None))
        h = product(x, kernel)
        return self.activation(h if bias is None else plus(h, bias[..., : self.units_in_use]))

    def hold(self, smaller: Dense) -> None:
        """Act as a layer of fewer units: its weights fill a corner of this layer's, the rest is zero (`zoo.padded_networks`)."""
        if self.units_in_use is None:
            self.units_in_use = tf.Variable(self.units, trainable=False, dtype=tf.int64)
        self.units_in_use.assign(smaller.units)


class MLP(keras.layers.Layer):
    """A stack of dense layers of the given widths, of which the last is the output.

    Args:
        widths: units of every layer.
        activation: of the hidden layers; or a list with one for each layer, the last included.
        output_activation: of the last layer.
        member_shape, use_bias, inputs: as for `Dense`.

    Called with rows (..., B, F), and with a dropout (see `zoo.layers.random.Dropout`) for the hidden layers if wanted.

    >>> MLP([64, 64, 2], "selu", member_shape=(20,))(tf.ones((5, 6))).shape
    TensorShape([20, 5, 2])
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: Activation | Sequence[Activation] = "relu",
        output_activation: Activation = None,
        *,
        member_shape: Sequence[int] = (),
        use_bias: bool = True,
        inputs: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if isinstance(activation, (list, tuple)):
            each: list[Any] = list(activation)
        else:
            each = [activation] * (len(widths) - 1) + [output_activation]
        self.layers = [Dense(n, how, member_shape, use_bias=use_bias) for n, how in zip(widths, each, strict=True)]
        self.layers_in_use: tf.Variable | None = None  # by a smaller network that this one holds
        self.cuts = False  # whether its products are those of the smaller network, of sizes that XLA would have to know
        if inputs is not None:
            self.build((None, inputs))

    def build(self, shape):
        width = shape[-1]
        for layer in self.layers:
            layer.build((None, width))
            width = layer.units
        super().build(shape)

    @property
    def kernels(self) -> list[tf.Variable]:
        """The kernels of all layers, each (..., F, H)."""
        return [layer.kernel for layer in self.layers]

    @property
    def biases(self) -> list[tf.Variable]:
        """The biases of all layers, each (..., H); none without biases."""
        return [layer.bias for layer in self.layers if layer.use_bias]

    @property
    def trainable_weights(self) -> list[tf.Variable]:
        """All kernels, then all biases: the order in which saved runs have them."""
        return [*self.kernels, *self.biases] if self.built else []

    def hidden(self, x: tf.Tensor, drop: Callable[..., tf.Tensor] = tf.identity) -> tf.Tensor:
        """Return the last hidden layer (..., B, H)."""
        return self._whole([x, *self._each_hidden(x, drop)][-1])

    def _each_hidden(self, x: tf.Tensor, drop: Callable[..., tf.Tensor] = tf.identity) -> list[tf.Tensor]:
        """Return all hidden layers; of a smaller network that is held, one that it does not have is the one before."""
        found = []
        for place, layer in enumerate(self.layers[:-1]):
            x = self._hidden_at(place, layer, x, drop)
            found.append(x)
        return found

    def _hidden_at(self, place: int, layer: Dense, x: tf.Tensor, drop: Callable[..., tf.Tensor]) -> tf.Tensor:
        if self.layers_in_use is None:
            return drop(layer(x))
        used = self.layers_in_use[place]
        if not self.cuts:
            h = layer(x)
            h = h if drop is tf.identity else drop(h, layer.units_in_use, used)
            return tf.where(used, h, _fit(x, h)) if place else h
        passed = functools.partial(tf.identity, x)
        h = tf.cond(used, functools.partial(layer.cut, x), passed) if place else layer.cut(x)
        return h if drop is tf.identity else tf.where(used, drop(h, layer.units_in_use, used), h)

    def _whole(self, h: tf.Tensor) -> tf.Tensor:
        """Return the last hidden layer as wide as this network has it, of a smaller one beside zeros."""
        if not self.cuts or self.layers_in_use is None or len(self.layers) == 1:
            return h
        width = self.layers[-1].kernel.shape[-2]
        h = tf.pad(h, [*[(0, 0)] * (h.shape.rank - 1), (0, width - tf.shape(h)[-1])])
        return tf.ensure_shape(h, (*h.shape[:-1], width))

    def output_of(self, h: tf.Tensor) -> tf.Tensor:
        """Return the output for the last hidden layer h (..., B, H)."""
        return self.layers[-1](h)

    def outputs(self, x: tf.Tensor) -> list[tf.Tensor]:
        """Return the outputs of all layers, the last one's included.

        Those of a smaller network that is held have its widths where products are cut; a layer that it does not have
        gives the output of the one before.
        """
        hidden = self._each_hidden(x)
        return [*hidden, self.output_of(self._whole([x, *hidden][-1]))]

    def call(self, x, drop=tf.identity):
        return self.output_of(self.hidden(x, drop))

    def places(self, smaller: MLP) -> list[int] | None:
        """Return which layer of this one each layer of a smaller network is, or None if it does not fit.

        The first is the first, all others are counted from the last: what is between them is passed by.

        >>> MLP([8, 8, 8, 1]).places(MLP([4, 2, 1]))
        [0, 2, 3]
        """
        own, other = ([layer.units for layer in one.layers] for one in (self, smaller))
        passed = len(own) - len(other)
        if passed < 0 or (passed and len(other) < 2) or any(own[1 + i] < other[0] for i in range(passed)):
            return None
        places = [0, *range(1 + passed, len(own))]
        return places if all(own[place] >= units for place, units in zip(places, other)) else None

    def hold(self, smaller: MLP) -> None:
        """Do what a smaller network does, whose layers are some of this one's (see `places` and `Dense.hold`)."""
        places = self.places(smaller) or []
        if self.layers_in_use is None:
            self.layers_in_use = tf.Variable([True] * len(self.layers), trainable=False)
        self.layers_in_use.assign([place in places for place in range(len(self.layers))])


def _fit(x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Return x (..., B, F) with as many columns as `like`, by zeros behind or without the last."""
    more = like.shape[-1] - x.shape[-1]
    return tf.pad(x, [*[(0, 0)] * (x.shape.rank - 1), (0, more)]) if more > 0 else x[..., : like.shape[-1]]


class MirroredMLP(keras.layers.Layer):
    """An MLP from back to front: the transposed kernels of another, with biases of its own (tied weights).

    Args:
        mirrored: the MLP, built, whose kernels are used; gradients reach them through both.
        frozen: use the kernels as they were when `freeze` was last called, and train the biases alone.

    >>> encoder = MLP([8, 2], "relu", inputs=5)
    >>> MirroredMLP(encoder, "relu")(tf.ones((3, 2))).shape
    TensorShape([3, 5])
    """

    def __init__(self, mirrored: MLP, activation: Activation = "relu", *, frozen: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.activation, self.frozen = activation_of(activation), frozen
        # no attributes: Keras would count the weights as this layer's
        self._kernels, self._widths = lambda: mirrored.kernels, lambda: [one.units_in_use for one in mirrored.layers]
        kernels = mirrored.kernels
        shapes = [(*kernel.shape[:-2], kernel.shape[-2]) for kernel in reversed(kernels)]
        self.biases = [self.add_weight(f"bias{i}", shape, initializer="zeros") for i, shape in enumerate(shapes)]
        self.initial_kernels = [
            self.add_weight(f"frozen{i}", kernel.shape, trainable=False) for i, kernel in enumerate(kernels)
        ]
        self.built = True

    def freeze(self) -> None:
        """Remember the present kernels as those of a frozen decoder."""
        for frozen, kernel in zip(self.initial_kernels, self._kernels()):
            frozen.assign(kernel)

    def call(self, x, drop=tf.identity):
        kernels = self.initial_kernels if self.frozen else self._kernels()
        *hidden, (kernel, bias) = zip(reversed(list(kernels)), self.biases)
        for (w, b), width in zip(hidden, self._widths()[-2::-1]):
            x = self.activation(plus(product(x, tf.linalg.matrix_transpose(w)), b))
            x = drop(x) if width is None or drop is tf.identity else drop(x, width)
        return plus(product(x, tf.linalg.matrix_transpose(kernel)), bias)
