"""AE: the stacked auto-encoder of a search for new physics in ATLAS Open Data.

S. Frette, "Deployment of unsupervised learning in a search for new physics with ATLAS Open Data", University of Oslo
(2022), called the report here. Where it is silent, this follows the code, notebooks and saved networks that its author
published with it (github.com/Gadangadang/FYS5555, Project3), called the release here.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from itertools import pairwise

import tensorflow as tf

from pipelines.arguments import setting
from pipelines.datasets.atlas import FEATURES
from pipelines.errors import InputError
from zoo.base import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    UNITS,
    AnomalyModel,
    EventHyperparameters,
    Limit,
    hyperparameter,
)
from zoo.layers.dense import MLP, leaky_relu, piecewise_linear
from zoo.losses import mean_squared_error
from zoo.registry import register

# Table I without what the report dropped, and without the mass that is searched for bumps
COLUMNS = tuple(name for name in FEATURES["33"] if name != "mll")

ACTIVATIONS = ("relu", "leaky_relu", "tanh", "linear")
KERNEL_NORMS = {"l1": tf.abs, "l2": tf.square}

# The space of the report's search (sec. III.B), and of the release where the report gives no values
PENALTIES = [0.5, 0.1, 0.05, 0.01]
SLOPES = [1.0, 0.5, 0.1, 0.05, 0.01]
LEARNING_RATES = [9e-2, 9.5e-2, 1e-3, 1.5e-3]
WIDTHS = ((1, 9), (10, 14), (15, 19), (20, len(COLUMNS) - 1))  # from the latent space outwards; they do not overlap


@register("ae")
class AE(AnomalyModel):
    """Stacked auto-encoder of the search in ATLAS Open Data (Frette 2022): what it reconstructs badly is anomalous.

    Training minimises, over batches of B events with F scaled features,

        1/B sum_i w_i mse_i + kernel_regularisation sum_l |W_l| + activity_regularisation 1/B sum_i sum_l |y_il|^2

    with mse_i = 1/F sum_f (x_if - x'_if)^2, the report's loss, and the anomaly score. |W_l| is the sum of the squares
    ("l2") or of the magnitudes ("l1") of a layer's kernel, y_il a layer's output after its activation, both of the
    `regularised` layers: what Keras' kernel and activity regularisers are. As in Keras, event weights enter the
    first term alone.

    The weights w_i are the events' own, scaled to mean one over the training sample. So the penalties mean the same at
    any luminosity (the release takes them as they are). Negative weights of simulated events stay negative: only so do
    they cancel what the generator has in excess, and is the expected loss that of data.

    Penalties as large as the report's are more than any reconstruction gains: the weights go to zero and the score
    becomes the distance from one constant event. The presets are the report's all the same; the defaults have none.

    Raises `InputError` naming a hyperparameter out of range, widths that do not shrink and grow, or another number of
    activations than of layers.

    Example:
        >>> import zoo
        >>> zoo.get("ae", preset="big33").get_config()["encoder_units"]
        (15, 10, 2)
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(EventHyperparameters):
        columns: Sequence[str] = hyperparameter(
            COLUMNS, "names or patterns of the features, by default the report's 33 without `mll`, which is the mass"
        )
        encoder_units: Sequence[int] = hyperparameter(
            (24, 18, 12, 6),
            "widths of the encoder's 1 to 4 layers, each smaller than the one before, the first smaller than the number of "
            "features; the last is the latent space",
            UNITS,
        )
        decoder_units: Sequence[int] = hyperparameter(
            (),
            "widths of the decoder's hidden layers, at most 3, each larger than the one before; none for the encoder's in "
            "reverse. The layer that gives the features back is not counted",
            UNITS,
        )
        activations: Sequence[str] = hyperparameter(
            (),
            f"of every layer from the first to the output, {', '.join(ACTIVATIONS)}; none for leaky_relu in hidden "
            f"layers and linear in the latent space and the output",
        )
        negative_slope: float = hyperparameter(
            0.3, "of leaky_relu (Keras' alpha); 1 makes it linear", Limit(0, 1), runtime=True
        )
        kernel_regularisation: float = hyperparameter(0.0, "see above", NOT_NEGATIVE, runtime=True)
        activity_regularisation: float = hyperparameter(0.0, "see above", NOT_NEGATIVE, runtime=True)
        kernel_norm: str = hyperparameter("l2", '"l2", or "l1" (the release)', Limit(choices=tuple(KERNEL_NORMS)))
        regularised: str = hyperparameter(
            "all",
            'which layers the penalties are for: "all", or "alternate" (the release), every second one going back '
            "from the last hidden layer",
            Limit(choices=("all", "alternate")),
        )
        learning_rate: float = hyperparameter(0.0015, "of Adam", POSITIVE, runtime=True)
        epochs: int = hyperparameter(15, "passes through the events", COUNT)
        batch_size: int = hyperparameter(8192)

        def check(self):
            super().check()
            _check_layers(self.encoder_units, self.decoder_units, self.activations)

        @property
        def hidden_units(self) -> tuple[int, ...]:
            """Widths of all layers between the features and their reconstruction."""
            encoder = tuple(self.encoder_units)
            return encoder + (tuple(self.decoder_units) or encoder[-2::-1])

    hp: Hyperparameters

    # The networks of figures 7, 13, 17 and 21, which the AUCs of the report are of. Its text lists an activation more
    # for the encoders: of a first layer that is in no figure, as in the release the second takes the features directly.
    presets = {
        "big33": {
            "scaling": "minmax",
            "encoder_units": (15, 10, 2),
            "decoder_units": (10, 16, 27),
            "activations": ("linear", "linear", "leaky_relu", "relu", "leaky_relu", "tanh", "linear"),
            "negative_slope": 1.0,
            "kernel_regularisation": 0.05,
            "activity_regularisation": 0.5,
            "kernel_norm": "l1",
            "regularised": "alternate",
            "learning_rate": 0.0015,
            "epochs": 5,  # of the release; the report gives none
        },
        "small33": {
            "scaling": "minmax",
            "encoder_units": (24,),
            "activations": ("tanh", "linear"),
            "kernel_regularisation": 0.05,
            "activity_regularisation": 0.01,
            "kernel_norm": "l1",
            "learning_rate": 0.9,  # so the report; a misprint, its list of values and the release have 0.09
            "epochs": 6,
        },
        "big13": {
            "columns": FEATURES["13"],
            "scaling": "minmax",
            "encoder_units": (7, 6, 2),
            "decoder_units": (6, 8, 11),
            "activations": ("linear", "leaky_relu", "linear", "leaky_relu", "tanh", "relu", "linear"),
            "negative_slope": 0.1,
            "kernel_regularisation": 0.5,
            "activity_regularisation": 0.5,
            "kernel_norm": "l1",
            "regularised": "alternate",
            "learning_rate": 0.0015,
            "epochs": 5,
        },
        "standard33": {
            "scaling": "standard",
            "encoder_units": (19, 12, 1),
            "decoder_units": (14, 17, 24),
            "activations": ("tanh", "tanh", "tanh", "leaky_relu", "leaky_relu", "tanh", "tanh"),
            "negative_slope": 0.01,
            "kernel_regularisation": 0.01,
            "activity_regularisation": 0.01,
            "kernel_norm": "l1",
            "regularised": "alternate",
            "learning_rate": 0.0015,
            "epochs": 15,
        },
    }
    score_kinds = ("mse",)
    any_batch_size = True
    searched_by_xla = False
    step_knows_scaling = False

    def taken_from(self, events):
        """As `AnomalyModel.taken_from`; raises `InputError` too unless all layers are narrower than the features."""
        inputs = super().taken_from(events)
        width = len(inputs.columns)
        for name, units in (("encoder_units", self.hp.encoder_units), ("decoder_units", self.hp.hidden_units)):
            if max(units) >= width:
                raise InputError(
                    f"{name}={tuple(getattr(self.hp, name))!r} is not possible with {width} features: its widest layer "
                    f"has {max(units)}, so that nothing is compressed there; expected at most {width - 1}, as by "
                    f"{setting('encoder_units', max(1, width // 2))}"
                )
        return inputs

    def make(self, width):
        hp, widths = self.hp, (*self.hp.hidden_units, width)
        self.bottleneck = len(hp.encoder_units) - 1
        linear = (self.bottleneck, len(widths) - 1)
        usual = ("linear" if layer in linear else "leaky_relu" for layer in range(len(widths)))
        self.activations = tuple(hp.activations or usual)
        each = [self._leaky_relu if name == "leaky_relu" else name for name in self.activations]
        self.autoencoder = MLP(widths, each, member_shape=self.member_shape, inputs=width)
        every = range(len(widths))
        self.penalised = list(every) if hp.regularised == "all" else list(every[-2::-2])
        self.held: Held | None = None
        self.create_metrics("loss", "reconstruction", "kernel_penalty", "activity_penalty")

    def _leaky_relu(self, h):
        return leaky_relu(h, self.runtime.negative_slope)

    def losses(self, batch, seed, training):
        """The loss and what it is the sum of, () or (K,) each."""
        x = batch["features"]
        outputs = self.autoencoder.outputs(x)
        kernels, activities = self._penalties(outputs)
        terms = {
            "reconstruction": tf.reduce_mean(batch["weight"] * mean_squared_error(x, outputs[-1]), -1),
            "kernel_penalty": self.runtime.kernel_regularisation * tf.add_n(kernels),
            "activity_penalty": self.runtime.activity_regularisation * tf.add_n(activities),
        }
        return {"loss": tf.add_n(list(terms.values())), **terms}

    def _penalties(self, outputs):
        """Return |W_l| and the mean of |y_il|^2 of the regularised layers, () or (K,) each."""
        if (held := self.held) is None:
            layers, size, of = self.penalised, KERNEL_NORMS[self.hp.kernel_norm], lambda layer, penalty: penalty
        else:
            layers, size, of = range(len(outputs)), held.norm, held.if_penalised
        kernels = [of(layer, tf.reduce_sum(size(self.autoencoder.kernels[layer]), (-2, -1))) for layer in layers]
        squares = [tf.reduce_sum(tf.square(outputs[layer]), -1) for layer in layers]
        return kernels, [of(layer, tf.reduce_mean(one, -1)) for layer, one in zip(layers, squares)]

    def hold(self, smaller: AE) -> None:
        """Do what a smaller auto-encoder does, whatever its activations and penalties are (`zoo.padded_networks`)."""
        places = self.autoencoder.places(smaller.autoencoder)
        if places is None:
            raise ValueError("more or wider layers than there are here")
        if self.held is None:
            self.held = Held(len(self.autoencoder.layers))
            for place, layer in enumerate(self.autoencoder.layers):
                layer.activation = functools.partial(self._held_activation, self.held, place)
        self.held.assign(places, smaller)

    def _held_activation(self, held, place, h):
        return held.activation(place, h, self.runtime.negative_slope)

    @classmethod
    def room(cls, points):
        """As `AnomalyModel.room`: one network, about as wide everywhere as the widest layer, holds all of them."""
        hidden = [units for point in points if (units := _hidden_units_of(cls, point))]
        if not hidden:
            return {}
        layers, widest = max(map(len, hidden)), max(map(max, hidden))
        encoder = tuple(range(widest + layers // 2, widest - 1, -1))  # each narrower than the one before it
        others = {"activations": (), "kernel_norm": "l2", "regularised": "all"}  # see `hold`
        return {"encoder_units": encoder, "decoder_units": encoder[-2::-1], **others}

    # -- use -----------------------------------------------------------------------------------------

    def infer(self, features):
        x = self.scaler(features)
        outputs = self.autoencoder.outputs(x)
        return {
            "mse": mean_squared_error(x, outputs[-1]),
            "reconstructed": self.scaler.inverse(outputs[-1]),
            # of another auto-encoder that is held it has no fixed place, and no fixed width
            **({"latent": outputs[self.bottleneck]} if self.held is None else {}),
        }

    @classmethod
    def search_space_of(cls, features, fixed):
        """Return what is different of the search space with so many features: no layer is as wide as they are many.

        >>> AE.search_space_of(12, {})
        {'latent_alone': {'max': 11}, 'layers': {'max': 2}, 'encoder_1': {'max': 11}, 'decoder_1': {'max': 11}}
        """
        most = features - 1
        outer = sum(low <= most for low, _ in WIDTHS) - 1  # place of the widest layer that there can be
        if outer < 0:
            return {}
        found = {"latent_alone": _up_to(1, most)}
        if outer < len(WIDTHS) - 1:
            found["layers"] = _up_to(1, outer + 1)
        if outer:
            found |= dict.fromkeys((f"encoder_{outer}", f"decoder_{outer}"), _up_to(WIDTHS[outer][0], most))
        elif most < WIDTHS[0][1]:
            found["latent"] = _up_to(1, most)
        return found

    @classmethod
    def search_space(cls, hp):
        # With four layers the report's space, with one that of its small network; the scalings are the report's two, and
        # its penalties' norm that of the release or Keras' usual one. Trials of two scalings have losses in two units:
        # compare them by `reconstruction`, which has its own, not by val_loss.
        layers = hp.Int("layers", 1, len(WIDTHS), default=len(WIDTHS))
        with hp.conditional_scope("layers", [1]):
            alone = hp.Int("latent_alone", 1, WIDTHS[-1][1])
        with hp.conditional_scope("layers", [2, 3, 4]):
            latent = hp.Int("latent", *WIDTHS[0])
        encoder, decoder = [(latent or alone, _activation(hp, "latent"))], []
        for place, limits in enumerate(WIDTHS[1:], 1):
            with hp.conditional_scope("layers", list(range(place + 1, len(WIDTHS) + 1))):
                encoder.insert(0, (hp.Int(f"encoder_{place}", *limits), _activation(hp, f"encoder_{place}")))
                decoder.append((hp.Int(f"decoder_{place}", *limits), _activation(hp, f"decoder_{place}")))
        encoder, decoder = encoder[-layers:], decoder[: layers - 1]  # those of other numbers of layers are None
        output = _activation(hp, "output")
        return {
            "encoder_units": tuple(units for units, _ in encoder),
            "decoder_units": tuple(units for units, _ in decoder),
            "activations": (*(activation for _, activation in encoder + decoder), output),
            "negative_slope": hp.Choice("negative_slope", SLOPES),
            "kernel_regularisation": hp.Choice("kernel_regularisation", PENALTIES),
            "activity_regularisation": hp.Choice("activity_regularisation", PENALTIES),
            "kernel_norm": hp.Choice("kernel_norm", ["l1", "l2"]),
            "regularised": "alternate" if layers > 1 else "all",
            "learning_rate": hp.Choice("learning_rate", LEARNING_RATES),
            "scaling": hp.Choice("scaling", ["standard", "minmax"]),
            "batch_size": hp.Choice("batch_size", [8192, 2048]),
        }


class Held:
    """What an auto-encoder is that a larger one holds: variables, so that one program does for all.

    Args:
        layers: of the larger one.
    """

    def __init__(self, layers: int):
        self._activations = tf.Variable([0] * layers, trainable=False, dtype=tf.int64)  # places in `ACTIVATIONS`
        self._penalised = tf.Variable([False] * layers, trainable=False)
        self._norm = tf.Variable(0, trainable=False, dtype=tf.int64)  # place in `KERNEL_NORMS`

    def assign(self, places: Sequence[int], smaller: AE) -> None:
        """Take what a smaller one has, whose layers are at some places of the larger one."""
        activations, penalised = (read.numpy() for read in (self._activations, self._penalised))
        for place, activation in zip(places, smaller.activations, strict=True):
            activations[place] = ACTIVATIONS.index(activation)
        penalised[:] = [place in {places[layer] for layer in smaller.penalised} for place in range(len(penalised))]
        self._activations.assign(activations)
        self._penalised.assign(penalised)
        self._norm.assign(list(KERNEL_NORMS).index(smaller.hp.kernel_norm))

    def activation(self, place: int, h: tf.Tensor, negative_slope: tf.Tensor) -> tf.Tensor:
        """Return h (..., B, H) after the activation of a place."""
        which = self._activations[place]
        slopes = {
            "relu": tf.zeros_like(negative_slope),
            "leaky_relu": negative_slope,
            "linear": tf.ones_like(negative_slope),
        }
        slope = tf.add_n([tf.where(_is(which, name), one, tf.zeros_like(one)) for name, one in slopes.items()])
        straight = piecewise_linear(h, slope, at_zero=~_is(which, "relu"))
        return tf.where(_is(which, "tanh"), tf.tanh(h), straight)

    def norm(self, kernel: tf.Tensor) -> tf.Tensor:
        """Return the squares of a kernel, or its magnitudes."""
        each = tf.stack([size(kernel) for size in KERNEL_NORMS.values()])
        return each[self._norm]

    def if_penalised(self, place: int, penalty: tf.Tensor) -> tf.Tensor:
        """Return the penalty of a layer that is regularised, else zeros."""
        return tf.where(self._penalised[place], penalty, tf.zeros_like(penalty))


def _is(which: tf.Tensor, activation: str) -> tf.Tensor:
    return which == ACTIVATIONS.index(activation)


def _hidden_units_of(kind: type[AE], point: Mapping[str, object]) -> tuple[int, ...]:
    """Return the widths of a point of a search space; none where it has none, or none that are possible."""
    try:
        return kind.Hyperparameters.of(point).hidden_units if "encoder_units" in point else ()
    except InputError:  # that trial fails with this reason
        return ()


def _up_to(low: int, high: int) -> int | dict[str, int]:
    """Return what narrows a range of widths to end at `high`."""
    return low if high <= low else {"max": high}


def _activation(hp, layer: str) -> str:
    return hp.Choice(f"{layer}_activation", list(ACTIVATIONS))


def _check_layers(encoder, decoder, activations) -> None:
    """Raise `InputError` unless 1 to 4 widths shrink to the latent space and 1 to 4 grow again, with one activation each."""
    for name, value in (("encoder_units", encoder), ("decoder_units", decoder), ("activations", activations)):
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{name}={value!r} is not possible; expected a list")
    if decoder:
        UNITS.check("decoder_units", decoder)
    for name, units, most in (("encoder_units", encoder, len(WIDTHS)), ("decoder_units", decoder, len(WIDTHS) - 1)):
        if len(units) > most:
            counted = "the last of them the latent space" if name == "encoder_units" else "before the output"
            raise InputError(
                f"{name}={tuple(units)!r} is not possible: {len(units)} layers; expected at most {most}, {counted}"
            )
    if not all(wide > narrow for wide, narrow in pairwise(encoder)):
        raise InputError(
            f"encoder_units={tuple(encoder)!r} is not possible; expected each layer narrower than the one before it"
        )
    if not all(narrow < wide for narrow, wide in pairwise((encoder[-1], *decoder) if decoder else ())):
        raise InputError(
            f"decoder_units={tuple(decoder)!r} is not possible after a latent space of {encoder[-1]}; expected each "
            f"layer wider than the one before it"
        )
    layers = len(encoder) + (len(decoder) or len(encoder) - 1) + 1
    unknown = [one for one in activations if one not in ACTIVATIONS]
    if unknown or len(activations) not in (0, layers):
        raise InputError(
            f"activations={tuple(activations)!r} is not possible; expected {layers}, one for each layer, of "
            f"{', '.join(ACTIVATIONS)}"
        )
