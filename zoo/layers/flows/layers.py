"""Stacks of flows as Keras layers, which own the weights of the flows and of the dense layers that give parameters."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import tensorflow as tf

from pipelines.errors import InputError
from zoo import legacy
from zoo.hyperparameters import COUNT, UNITS, Limit
from zoo.keras import keras
from zoo.layers.dense import glorot_uniform
from zoo.layers.flows.bijectors import (
    AutoregressiveSpline,
    Convolutional,
    Flow,
    HouseholderSylvester,
    InverseAutoregressive,
    OrthogonalSylvester,
    Planar,
    TriangularSylvester,
    tfb,
)
from zoo.layers.flows.orthonormal import BASES

Step = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]  # from z to where it is sent, and log |det|

# Where the encoder's part of amortised parameters starts, relative to Glorot: small, so that flows start near identity
GAIN = 0.1
BINS = Limit(2, 1024, whole=True)
VECTORS = 8  # of orthogonal and Householder flows in the authors' setting


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

    kind = ""  # as in `FLOWS`
    has_inverse = False
    costly = False  # whether one flow takes longer than to ask whether it is there

    def __init__(self, num_flows: int, latent_dim: int, *, members: int = 1, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        for name, value in {"num_flows": num_flows, "latent_dim": latent_dim, "members": members}.items():
            COUNT.check(name, value)
        self.num_flows, self.latent_dim, self.members, self.seed = num_flows, latent_dim, members, seed
        self.flows_in_use: tf.Variable | None = None  # by a smaller stack that this one holds
        self._steps: dict[str, Callable] = {}
        self.cuts = (
            False  # whether flows that a smaller stack does not have are left out, and not worked out for nothing
        )

    def get_config(self):
        names = ("num_flows", "latent_dim", "members", "seed")
        return super().get_config() | {name: getattr(self, name) for name in names}

    def parameters(self, h: tf.Tensor) -> list[dict[str, Any]]:
        """Return the tensors that each bijector is made of, in the order in which they act."""
        raise NotImplementedError

    def variant(self, place: int) -> dict[str, Any]:
        """Return what else the bijector of a place is made of, which is the same for many."""
        return {}

    def name_of(self, place: int) -> str:
        """Return the name of the bijector of a place."""
        return f"{self.kind}{place}"

    def make_bijector(self, name: str, **parameters: Any) -> Flow:
        """Return one bijector of its `parameters` and `variant`."""
        raise NotImplementedError

    def bijectors(self, h: tf.Tensor) -> list[Flow]:
        """Return the bijectors in the order in which they act."""
        return [
            self.make_bijector(self.name_of(place), **parameters, **self.variant(place), **self._of_smaller(place))
            for place, parameters in enumerate(self.parameters(h))
        ]

    def bijector(self, h: tf.Tensor) -> tfb.Bijector:
        """Return all flows as one TFP bijector, for the encoder's outputs h."""
        return tfb.Chain(self.bijectors(h)[::-1])  # TFP's chains act from last to first

    def call(self, h, z0):
        if z0.shape[-1] != self.latent_dim:
            raise InputError(
                f"z0 has shape {tuple(z0.shape)}, expected {self.latent_dim} (latent_dim) numbers an event"
            )
        of_its_own = type(self).bijectors is not FlowLayer.bijectors
        if of_its_own or not self.cuts or tf.executing_eagerly():
            return self.through(self.bijectors(h), z0)
        # traced once for all that differ in their parameters alone: a search traces many programs
        each = [functools.partial(self._step(place), one) for place, one in enumerate(self.parameters(h))]
        return self._one_after_the_other(each, z0)

    def through(self, bijectors: Sequence[Flow], z0: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return zK and the sum of log |det| of z0 sent through bijectors, one after the other."""
        return self._one_after_the_other([flow.forward_with_log_det for flow in bijectors], z0)

    def _one_after_the_other(self, steps: Sequence[Step], z0: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        z, log_det, each = z0, tf.zeros_like(z0[..., 0]), len(steps) // self.num_flows
        for place, step in enumerate(steps):
            used = self._is_in_use(place // each)
            if used is None:
                z, more = step(z)
            elif self.cuts and self.costly:
                z, more = tf.cond(used, functools.partial(step, z), functools.partial(_passed_by, z))
            else:
                there, more = step(z)
                z, more = tf.where(used, there, z), tf.where(used, more, tf.zeros_like(more))
            log_det += more
        return z, log_det

    def _step(self, place: int) -> Callable[[dict[str, Any], tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
        """Return a traced function from the parameters of the bijector of a place, and z, to where z is sent."""
        variant = self.variant(place)
        key = repr(sorted(variant.items()))
        if key not in self._steps:

            def step(parameters, z):
                return self.make_bijector(self.kind, **parameters, **variant).forward_with_log_det(z)

            self._steps[key] = tf.function(step, autograph=False, experimental_attributes={"_noinline": True})
        return self._steps[key]

    def _is_in_use(self, flow: int) -> tf.Tensor | None:
        """Return whether the stack that is held has a flow, counted from 0; None if it surely has."""
        return None if self.flows_in_use is None or not flow else flow < self.flows_in_use

    def _of_smaller(self, place: int) -> dict[str, Any]:
        """Return what a bijector is told of the smaller stack that is held."""
        return {}

    def hold(self, smaller: FlowLayer) -> None:
        """Do what a stack of fewer flows does: its flows are the first of these (`zoo.padded_networks`)."""
        if self.flows_in_use is None:
            self.flows_in_use = tf.Variable(self.num_flows, trainable=False, dtype=tf.int64)
        self.flows_in_use.assign(smaller.num_flows)

    def add(self, name: str, *shape: int) -> tf.Variable:
        """Create a weight, for every member."""
        place = len(self.weights)
        starts = [self.start(name, shape, (self.seed + member, place)) for member in range(self.members)]
        start = tf.stack(starts) if self.members > 1 else starts[0]
        return self.add_weight(name, start.shape, initializer=lambda shape, dtype, **_: tf.cast(start, dtype))

    def initial(self, weight: tf.Variable, seed: tuple[int, int]) -> tf.Tensor:
        """Return the value with which one member's part of this layer's `weight` starts, a function of `seed` only.

        It is what `AnomalyModel.reinitialize` asks for: near the identity, which zero biases are not.
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
            UNITS.check("hidden", hidden)
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

    def parameters(self, h: tf.Tensor) -> list[dict[str, Any]]:
        """Return for every flow its parameters, each (..., B, *shape of the parameter)."""
        *hidden, (kernel, bias) = zip(self.kernels, self.biases)
        for w, b in hidden:
            h = tf.nn.elu(h @ w + b[..., None, :])
        numbers = h @ kernel + bias[..., None, :]
        leading, parts = tf.shape(numbers)[:-1], self.parts()
        sizes = [math.prod(shape) for shape, _ in parts.values()]
        each = iter(tf.split(numbers, sizes * self.num_flows, axis=-1))
        return [
            {name: tf.reshape(next(each), tf.concat([leading, shape], 0)) for name, (shape, _) in parts.items()}
            for _ in range(self.num_flows)
        ]

    def amortised(self, h: tf.Tensor) -> list[dict[str, tf.Tensor]]:
        """Return `parameters(h)`, by its former name; deprecated."""
        legacy.warn("AmortisedFlows.amortised", "parameters")
        return self.parameters(h)


class PlanarFlows(AmortisedFlows):
    """Planar flows, amortised (Rezende & Mohamed 2015); see `Planar`, `AmortisedFlows` and `FlowLayer`."""

    kind = "planar"

    def parts(self):
        vector = (self.latent_dim,)
        return {"w": (vector, "normal"), "u": (vector, "zeros"), "b": ((), "zeros")}

    def make_bijector(self, name, **parameters):
        return Planar(**parameters, name=name)


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

    kind = "orthogonal"

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

    def make_bijector(self, name, **parameters):
        return OrthogonalSylvester(**parameters, basis=self.basis, name=name)


class HouseholderFlows(SylvesterFlows):
    """Householder Sylvester flows; see `HouseholderSylvester`, `AmortisedFlows` and `FlowLayer`.

    Args:
        num_vectors: reflections n >= 1 in each flow; by default the paper's 8, or `latent_dim` where that is less, as
            `latent_dim` reflections make every orthogonal matrix.
    """

    kind = "householder"

    def __init__(self, num_flows, latent_dim, *, num_vectors: int | None = None, **kwargs):
        super().__init__(num_flows, latent_dim, **kwargs)
        num_vectors = min(VECTORS, latent_dim) if num_vectors is None else num_vectors
        COUNT.check("num_vectors", num_vectors)
        self.num_vectors = num_vectors

    def get_config(self):
        return super().get_config() | {"num_vectors": self.num_vectors}

    def parts(self):
        return {"vectors": ((self.num_vectors, self.latent_dim), "normal"), **super().parts()}

    def make_bijector(self, name, **parameters):
        return HouseholderSylvester(**parameters, name=name)


class TriangularFlows(SylvesterFlows):
    """Triangular Sylvester flows, every second one reversed; see `TriangularSylvester` and `FlowLayer`."""

    kind = "triangular"

    def variant(self, place):
        return {"reverse": place % 2 == 1}

    def make_bijector(self, name, **parameters):
        return TriangularSylvester(**parameters, name=name)


class AutoregressiveFlows(FlowLayer):
    """Inverse autoregressive flows, every second one reversed; see `InverseAutoregressive` and `FlowLayer`.

    The kernels are the same for all events; a linear layer of h gives the context (B, width), shared by the flows.

    Args:
        width: units of each hidden layer of a MADE, at least `latent_dim`.
        depth: hidden layers of a MADE, >= 1; the authors have two.
    """

    kind = "iaf"
    has_inverse = True
    costly = True
    outputs = 2  # of a MADE, for one dimension

    def __init__(self, num_flows, latent_dim, *, width: int = 330, depth: int = 2, **kwargs):
        super().__init__(num_flows, latent_dim, **kwargs)
        UNITS.check("width", width)
        COUNT.check("depth", depth)
        if width < latent_dim:
            raise InputError(f"width={width!r} is not possible; expected at least one unit a dimension, {latent_dim}")
        self.width, self.depth = width, depth

    def get_config(self):
        return super().get_config() | {"width": self.width, "depth": self.depth}

    def build(self, shape):
        self.context_kernel = self.add("context_kernel", shape[-1], self.width)
        self.context_bias = self.add("context_bias", self.width)
        widths = [self.latent_dim, *[self.width] * self.depth, self.outputs * self.latent_dim]
        names = [*(f"hidden{i}" for i in range(self.depth)), "last"]
        pairs = list(pairwise(widths))
        flows = range(self.num_flows)
        self.kernels = [[self.add(f"{n}_kernel_of_flow{k}", *p) for n, p in zip(names, pairs)] for k in flows]
        self.biases = [[self.add(f"{n}_bias_of_flow{k}", p[1]) for n, p in zip(names, pairs)] for k in flows]
        super().build(shape)

    def parameters(self, h):
        context = h @ self.context_kernel + self.context_bias[..., None, :]
        return [
            {
                "kernels": list(map(tf.convert_to_tensor, kernels)),
                "biases": list(map(tf.convert_to_tensor, biases)),
                "context": context,
            }
            for kernels, biases in zip(self.kernels, self.biases)
        ]

    def variant(self, place):
        return {"reverse": place % 2 == 1}

    def make_bijector(self, name, **parameters):
        return InverseAutoregressive(**parameters, name=name)

    def _of_smaller(self, place):
        return {"used": self._is_in_use(place)} if self.cuts else {}


class SplineFlows(AutoregressiveFlows):
    """Autoregressive rational-quadratic splines, every second one reversed; see `AutoregressiveSpline` and `FlowLayer`.

    They are no choice of `make`: they are for densities, and costly where there are many events.

    Args:
        bins: of a spline, >= 2. The others are those of `AutoregressiveFlows`.
    """

    kind = "spline"

    def __init__(self, num_flows, latent_dim, *, bins: int = 8, **kwargs):
        super().__init__(num_flows, latent_dim, **kwargs)
        BINS.check("bins", bins)
        self.bins, self.outputs = bins, 3 * bins + 1

    def get_config(self):
        return super().get_config() | {"bins": self.bins}

    def make_bijector(self, name, **parameters):
        return AutoregressiveSpline(**parameters, name=name)

    def _of_smaller(self, place):
        return {}


class ConvolutionalFlows(FlowLayer):
    """Convolutional flows, every second one reversed; see `Convolutional` and `FlowLayer`. h is not used.

    As in the authors' code one flow is a block of convolutions with dilations 1, 2, 4, ... below `latent_dim`, and its
    parameters are the same for all events. A convolution has `kernel_size` taps, or fewer where they would reach past
    the `latent_dim` dimensions.

    Args:
        kernel_size: taps of a convolution, >= 1.
    """

    kind = "convolutional"
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

    def parameters(self, h):
        each = zip(self.taps, self.scales, self.shifts)
        return [{"w": w[..., None, :], "u": u[..., None, :], "b": tf.convert_to_tensor(b)} for w, u, b in each]

    def variant(self, place):
        flow, dilation = divmod(place, len(self.dilations))
        return {"dilation": self.dilations[dilation], "reverse": flow % 2 == 1}

    def name_of(self, place):
        return f"{self.kind}{place // len(self.dilations)}_{self.variant(place)['dilation']}"

    def make_bijector(self, name, **parameters):
        return Convolutional(**parameters, name=name)


def _passed_by(z):
    return tf.identity(z), tf.zeros_like(z[..., 0])


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
