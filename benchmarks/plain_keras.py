"""The networks of `vae`, `ae`, `gan_ae` and `gcn_vae` written plainly in Keras: for benchmarks/tuning.py.

They are what a user of KerasTuner or Optuna writes: `compile`, `fit`, and a `train_step` where the loss needs one. They have
the architectures, losses, batch sizes and optimizers of the zoo's, and learn from as many events. Flows and graphs are the
zoo's Keras layers. As in the zoo, events that do not fill a batch are left out, so that XLA compiles one size. `vae` has no
second decoder: fix `decoder_epochs=0` for the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.keras import keras

OPTIMIZERS = {"adadelta": keras.optimizers.Adadelta, "adam": keras.optimizers.Adam}
AT_ONCE = 4096  # events that are judged at a time


@dataclasses.dataclass(frozen=True)
class Samples:
    """Events that train and that judge, as arrays, and a model of the zoo that says what they are."""

    training: Any
    validation: Any
    like: Any

    @classmethod
    def of(cls, model: str, training, validation, fixed: Mapping[str, object]) -> Samples:
        """Read events as a model takes them."""
        import zoo

        like = zoo.get(model, **{name: value for name, value in fixed.items() if name in ("columns", "seed")})
        like.adapt(training)
        return cls(training, validation, like)

    def features(self) -> tuple[np.ndarray, np.ndarray]:
        """Features of the events that train, and that judge, in physical units."""
        parts = (part.read("features", self.like.resolved_columns) for part in (self.training, self.validation))
        first, second = (part.astype(np.float64) for part in parts)
        return first, second


@dataclasses.dataclass(frozen=True)
class Plain:
    """A network at its start.

    Attributes:
        network: has all weights.
        fit: trains epochs from the first to the last; gives Keras' history, or nothing.
        predict: gives of the events that judge what the network reconstructs in physical units, and the score.
    """

    network: keras.Model
    fit: Callable[[int, int], Mapping[str, list[float]]]
    predict: Callable[[], dict[str, np.ndarray]]


def scaler_of(how: str):
    """Return scikit-learn's scaling of a name of ours."""
    from sklearn import preprocessing

    return {
        "standard": preprocessing.StandardScaler,
        "minmax": preprocessing.MinMaxScaler,
        "maxabs": preprocessing.MaxAbsScaler,
        "quantile": preprocessing.QuantileTransformer,
    }[how]()


def scaled(hp, samples: Samples):
    """Scaled features of whole batches, those that judge, and the scaling."""
    x, known = samples.features()
    scaler = scaler_of(hp.scaling).fit(x)
    x, known = (scaler.transform(each).astype(np.float32) for each in (x, known))
    return x[: len(x) // hp.batch_size * hp.batch_size], known, scaler


def keras_fit(network, x, known, size, callbacks=()):
    """Return what `fit` of a `Plain` is where Keras' does it all."""

    def fit(first: int, last: int) -> Mapping[str, list[float]]:
        done = network.fit(*x, batch_size=size, epochs=last, initial_epoch=first, validation_data=known,
                           validation_batch_size=AT_ONCE, verbose=0)  # fmt: skip
        return done.history

    return fit


class WithLoss(keras.Model):
    """A model with a loss of its own, as Keras' guide writes one."""

    def __init__(self):
        super().__init__()
        self.tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.tracker]

    def loss_of(self, x) -> tf.Tensor:
        """Return the mean loss of a batch."""
        raise NotImplementedError

    def train_step(self, data):
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.loss_of(x)
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}

    def test_step(self, data):
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        self.tracker.update_state(self.loss_of(x))
        return {"loss": self.tracker.result()}


def any_seed() -> tf.Tensor:
    """Return a seed for layers that take one."""
    return tf.random.uniform((), maxval=2**31 - 1, dtype=tf.int64)


class PlainVAE(WithLoss):
    """A VAE, with a flow behind its latent space or without."""

    def __init__(self, hp, width: int):
        super().__init__()
        from zoo.layers.latent import Latent

        dense = keras.layers.Dense
        self.hidden = keras.Sequential([dense(units, "selu") for units in hp.units])
        self.to_latent = dense(2 * hp.latent_dim)
        self.decoder = keras.Sequential([*(dense(units, "selu") for units in hp.units[::-1]), dense(width)])
        self.latent = None if hp.flow is None else Latent(hp.latent_dim, hp.flow, hp.num_flows)
        if self.latent is not None:
            self.latent.build((None, hp.units[-1]))
        self.alpha = hp.alpha

    def encoded(self, x):
        """Mean, log variance, and the hidden layer before them."""
        h = self.hidden(x)
        return *tf.split(self.to_latent(h), 2, -1), h

    def loss_of(self, x):
        mean, log_var, h = self.encoded(x)
        if self.latent is not None:
            z, kl = self.latent.draw(mean, log_var, h, any_seed())
        else:
            z = mean + tf.exp(log_var / 2) * tf.random.normal(tf.shape(mean))
            kl = 0.5 * tf.reduce_sum(tf.square(mean) + tf.exp(log_var) - 1.0 - log_var, -1)
        return tf.reduce_mean(self.alpha * tf.reduce_mean(tf.square(x - self.decoder(z)), -1) + kl)

    def call(self, x):
        mean, log_var, h = self.encoded(x)
        if self.latent is None:
            kl = 0.5 * tf.reduce_sum(tf.square(mean) + tf.exp(log_var) - 1.0 - log_var, -1)
            return {"reconstructed": self.decoder(mean), "kl": kl}
        z, _ = self.latent.forward(h, mean)
        return {"reconstructed": self.decoder(z), "kl": self.latent.divergence(mean, log_var, h)}


def vae(hp, samples: Samples, xla: bool) -> Plain:
    """The VAE."""
    x, known, scaler = scaled(hp, samples)
    network = PlainVAE(hp, x.shape[1])
    network.compile(OPTIMIZERS[hp.optimizer](hp.learning_rate), jit_compile=xla)
    network(x[:2])

    def predict():
        found = network.predict(known, batch_size=AT_ONCE, verbose=0)
        return {**found, "reconstructed": scaler.inverse_transform(found["reconstructed"])}

    return Plain(network, keras_fit(network, (x,), (known,), hp.batch_size), predict)


def ae(hp, samples: Samples, xla: bool) -> Plain:
    """The auto-encoder."""
    x, known, scaler = scaled(hp, samples)
    norm, l2 = {"l1": keras.regularizers.L1, "l2": keras.regularizers.L2}[hp.kernel_norm], keras.regularizers.L2
    widths = [*hp.hidden_units, x.shape[1]]
    usual = [
        "linear" if i in (len(hp.encoder_units) - 1, len(widths) - 1) else "leaky_relu" for i in range(len(widths))
    ]
    penalised = range(len(widths)) if hp.regularised == "all" else range(len(widths))[-2::-2]
    network = keras.Sequential([keras.Input(x.shape[1:])])
    for layer, (units, name) in enumerate(zip(widths, hp.activations or usual)):
        activation = keras.layers.LeakyReLU(hp.negative_slope) if name == "leaky_relu" else name
        penalties = {
            "kernel_regularizer": norm(hp.kernel_regularisation),
            "activity_regularizer": l2(hp.activity_regularisation),
        }
        network.add(keras.layers.Dense(units, activation, **(penalties if layer in penalised else {})))
    network.compile(keras.optimizers.Adam(hp.learning_rate), "mse", jit_compile=xla)

    def predict():
        found = network.predict(known, batch_size=AT_ONCE, verbose=0)
        return {"reconstructed": scaler.inverse_transform(found), "mse": np.mean(np.square(known - found), -1)}

    return Plain(network, keras_fit(network, (x, x), (known, known), hp.batch_size), predict)


class Both(keras.Model):
    """The two networks of GAN-AE, to keep their weights together."""

    def __init__(self, autoencoder, discriminator):
        super().__init__()
        self.autoencoder, self.discriminator = autoencoder, discriminator

    def call(self, x):
        return self.discriminator(self.autoencoder(x))


def gan_ae(hp, samples: Samples, xla: bool) -> Plain:
    """GAN-AE, with one pass of pretraining; it has no loss of its own that is one number."""
    from benchmarks.gan_ae import TextbookKeras

    x, known, scaler = scaled(hp, samples)
    told = _Told(hp, samples.training.mass[: len(x)])
    written = TextbookKeras(told, _Arrays(x, told.mass), jit_compile=xla)
    network = Both(written.autoencoder, written.discriminator)
    network(x[:2])

    def fit(first: int, last: int) -> Mapping[str, list[float]]:
        with contextlib.redirect_stdout(io.StringIO()):
            if not first:
                written.autoencoder.compile(keras.optimizers.Adam(hp.learning_rate), "mse", jit_compile=xla)
                written.autoencoder.fit(x, x, batch_size=hp.batch_size, verbose=0)
            for _ in range(first, last):
                written.cycle()
        return {}

    def predict():
        found = written.autoencoder.predict(known, batch_size=AT_ONCE, verbose=0)
        return {
            "reconstructed": scaler.inverse_transform(found),
            "distance": np.sqrt(np.mean(np.square(known - found), -1)),
        }

    return Plain(network, fit, predict)


class _Told:
    """What `TextbookKeras` asks a model for."""

    resolved_columns = None

    def __init__(self, hp, mass: np.ndarray):
        self._hp, self.mass = hp, mass

    def hyperparameter(self, name: str):
        return getattr(self._hp, name)

    def scaler(self, x):
        return x

    def weighting(self, events):
        return lambda mass: np.ones(len(mass), np.float32)


class _Arrays:
    """Features and masses, as `TextbookKeras` takes events."""

    def __init__(self, x: np.ndarray, mass: np.ndarray):
        self._x, self.mass = x, mass

    def __len__(self) -> int:
        return len(self._x)

    def read(self, field, columns=None):
        return self._x


class PlainGraphs(WithLoss):
    """The VAE of particles: layers and losses are the zoo's, the step is not."""

    def __init__(self, zoos):
        super().__init__()
        self.parts = [zoos.encoder, zoos.to_latent, zoos.latent, zoos.from_latent, zoos.decoder]
        self._untracked = SimpleNamespace(losses=zoos.losses, infer=zoos.infer)

    def loss_of(self, x):
        return self._untracked.losses({**x, "weight": tf.ones_like(x["mass"])}, any_seed(), True)["loss"]

    def call(self, x):
        found = self._untracked.infer(x["objects"])
        return {name: found[name] for name in ("reconstructed", "chamfer")}


def gcn_vae(hp, samples: Samples, xla: bool) -> Plain:
    """The VAE of particles, without high-level features."""
    import zoo

    made = zoo.get("gcn_vae", **hp.as_dict())
    made.adapt(samples.training)
    network, parts = PlainGraphs(made), []
    for part in (samples.training, samples.validation):
        objects = np.concatenate([block[0] for block in made.inputs.blocks(part)]).astype(np.float32)
        parts.append({"objects": objects, "mass": np.asarray(part.mass, np.float32)})
    x, known = parts
    whole = len(x["mass"]) // hp.batch_size * hp.batch_size
    x = {name: values[:whole] for name, values in x.items()}
    network.compile(keras.optimizers.Adam(hp.learning_rate), jit_compile=xla)
    network({name: values[:2] for name, values in x.items()})

    def predict():
        return network.predict(known, batch_size=1000, verbose=0)

    return Plain(network, keras_fit(network, (x,), (known,), hp.batch_size), predict)


BUILDERS: Mapping[str, Callable[[Any, Samples, bool], Plain]] = {
    "vae": vae, "ae": ae, "gan_ae": gan_ae, "gcn_vae": gcn_vae
}  # fmt: skip


def built(model: str, hyperparameters: Mapping[str, object], samples: Samples, xla: bool = False) -> Plain:
    """Return the network of a trial, as a user builds it for every trial."""
    from zoo import registry

    keras.backend.clear_session()
    kind: Any = registry.model_class(model)
    return BUILDERS[model](kind.Hyperparameters.of(dict(hyperparameters), model), samples, xla)


class Judged:
    """A trained network as `tuning.objectives.Objective` takes a model."""

    def __init__(self, plain: Plain, samples: Samples):
        self._plain, self._like = plain, samples.like

    def __getattr__(self, name: str):
        return getattr(self._like, name)

    def results(self, events, names):
        """Return what the network makes of the events that judge."""
        return self._plain.predict()


def judged(objective: str, plain: Plain, samples: Samples, history: Mapping[str, list[float]]) -> float:
    """Return the objective of a trained network, infinite if it is no number."""
    from tuning.objectives import Objective

    with np.errstate(all="ignore"):
        try:
            found = Objective.parse(objective)(Judged(plain, samples), samples.validation, history)["objective"]
        except ValueError:  # nothing finite to make a spectrum of
            return float("inf")
    return found if np.isfinite(found) else float("inf")
