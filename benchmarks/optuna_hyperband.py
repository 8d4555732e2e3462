"""The networks of `vae`, `ae` and `gan_ae` written plainly in Keras, and searched by Optuna's Hyperband: for benchmarks/tuning.py.

    pip install optuna

Optuna is no requirement of the zoo. A trial draws from the same space, builds its network, calls `fit` epoch by epoch, and is
pruned by `HyperbandPruner`; `TPESampler` proposes. `vae` has no flow here: fix `--set flow=none` for all. All events count alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace

import numpy as np
import tensorflow as tf

from zoo import registry
from zoo.keras import keras

OBJECTIVES = {
    "vae": ("reconstruction", "val_loss"),
    "ae": ("reconstruction", "val_loss"),
    "gan_ae": ("reconstruction",),
}
OPTIMIZERS = {"adadelta": keras.optimizers.Adadelta, "adam": keras.optimizers.Adam}


class Scaler:
    """Scaling to the unit interval or to unit spread, learnt from events (N, F)."""

    def __init__(self, x: np.ndarray, how: str):
        shifts = {"standard": x.mean(0), "minmax": x.min(0), "maxabs": np.zeros(x.shape[1])}
        sizes = {"standard": x.std(0), "minmax": np.ptp(x, 0), "maxabs": np.abs(x).max(0)}
        if how not in shifts:
            raise ValueError(f"scaling {how} is not written plainly; fix one of {', '.join(shifts)}")
        self.shift, self.size = shifts[how], np.where(sizes[how] > 0, sizes[how], 1.0)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return ((x - self.shift) / self.size).astype(np.float32)

    def inverse(self, x: np.ndarray) -> np.ndarray:
        return x * self.size + self.shift


class PlainVAE(keras.Model):
    """A VAE as the Keras guide writes one."""

    def __init__(self, hp, width: int):
        super().__init__()
        dense = keras.layers.Dense
        hidden = [dense(units, "selu") for units in hp.units]
        self.encoder = keras.Sequential([*hidden, dense(2 * hp.latent_dim)])
        self.decoder = keras.Sequential([*(dense(units, "selu") for units in hp.units[::-1]), dense(width)])
        self.alpha = hp.alpha

    def call(self, x, training=None):
        return self.decoder(tf.split(self.encoder(x), 2, -1)[0])

    def _loss(self, x):
        mean, log_var = tf.split(self.encoder(x), 2, -1)
        z = mean + tf.exp(log_var / 2) * tf.random.normal(tf.shape(mean))
        kl = 0.5 * tf.reduce_sum(tf.square(mean) + tf.exp(log_var) - 1.0 - log_var, -1)
        return tf.reduce_mean(self.alpha * tf.reduce_mean(tf.square(x - self.decoder(z)), -1) + kl)

    def train_step(self, x):
        with tf.GradientTape() as tape:
            loss = self._loss(x)
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        return {"loss": loss}

    def test_step(self, x):
        return {"loss": self._loss(x)}


def vae(hp, x, mass):
    """An epoch of the VAE, how it reconstructs, and its loss."""
    if hp.flow is not None:
        raise ValueError("vae has no flow here; give --set flow=none")
    model = PlainVAE(hp, x.shape[1])
    model.compile(OPTIMIZERS[hp.optimizer](hp.learning_rate))
    return lambda: model.fit(x, batch_size=hp.batch_size, verbose=0), model, model


def ae(hp, x, mass):
    """An epoch of the auto-encoder, how it reconstructs, and its loss."""
    norm, l2 = {"l1": keras.regularizers.L1, "l2": keras.regularizers.L2}[hp.kernel_norm], keras.regularizers.L2
    widths = [*hp.hidden_units, x.shape[1]]
    usual = [
        "linear" if i in (len(hp.encoder_units) - 1, len(widths) - 1) else "leaky_relu" for i in range(len(widths))
    ]
    penalised = range(len(widths)) if hp.regularised == "all" else range(len(widths))[-2::-2]
    model = keras.Sequential()
    for layer, (units, name) in enumerate(zip(widths, hp.activations or usual)):
        activation = keras.layers.LeakyReLU(hp.negative_slope) if name == "leaky_relu" else name
        penalties = {
            "kernel_regularizer": norm(hp.kernel_regularisation),
            "activity_regularizer": l2(hp.activity_regularisation),
        }
        model.add(keras.layers.Dense(units, activation, **(penalties if layer in penalised else {})))
    model.compile(keras.optimizers.Adam(hp.learning_rate), "mse")
    return lambda: model.fit(x, x, batch_size=hp.batch_size, verbose=0), model, model


def gan_ae(hp, x, mass):
    """A cycle of GAN-AE, how it reconstructs; it has no loss of its own that is one number."""
    from benchmarks.gan_ae import TextbookKeras

    told = SimpleNamespace(
        hyperparameter=lambda name: getattr(hp, name),
        scaler=lambda x: x,
        resolved_columns=None,
        weighting=lambda events: lambda mass: np.ones(len(mass), np.float32),
    )
    written = TextbookKeras(told, Arrays(x, mass))
    return written.cycle, written.autoencoder, None


class Arrays:
    """Features and masses, as `TextbookKeras` takes events."""

    def __init__(self, x: np.ndarray, mass: np.ndarray):
        self._x, self.mass = x, mass

    def __len__(self) -> int:
        return len(self._x)

    def read(self, field, columns=None):
        return self._x


BUILDERS: Mapping[str, Callable] = {"vae": vae, "ae": ae, "gan_ae": gan_ae}


def suggested(trial, space):
    """A KerasTuner object whose values Optuna suggests, in the order of the space."""
    drawn = space.copy()
    drawn.values = {}
    for one in space.space:
        if not drawn.is_active(one):
            continue
        kind = type(one).__name__
        if kind in ("Choice", "Boolean"):
            value = trial.suggest_categorical(one.name, list(one.values))
        elif kind in ("Int", "Float"):
            suggest, log = getattr(trial, f"suggest_{kind.lower()}"), one.sampling == "log"
            step = {} if log or one.step is None else {"step": one.step}
            value = suggest(one.name, one.min_value, one.max_value, log=log, **step)
        else:
            value = one.value
        drawn.values[one.name] = value
    return drawn


def why_not(model: str, objective: str, fixed: Mapping[str, object]) -> str | None:
    """Return why there is no row of Optuna for this, or None."""
    import importlib.util

    if importlib.util.find_spec("optuna") is None:
        return "Optuna is not installed: pip install optuna"
    if objective not in OBJECTIVES.get(model, ()):
        return f"{model} judged by {objective} is not written plainly in Keras; there are {OBJECTIVES}"
    if model == "vae" and fixed.get("flow", "") not in (None, "none"):
        return "the VAE that is written plainly has no flow: give --set flow=none"
    return None


def columns_of(model: str, events):
    """The columns that a model takes, in its order."""
    import zoo

    made = zoo.get(model)
    made.adapt(events)
    return made.resolved_columns


def search(model, training, validation, space, trials, max_epochs, factor, objective, seed, seconds, ended):
    """Run Optuna's Hyperband; `ended(value, epochs)` is told of every trial.

    Args:
        training, validation: events without labels. space: `tuning.space.Space`.
        trials: how many at most. seconds: after which nothing is begun, or None.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    columns, kind, hps = columns_of(model, training), registry.model_class(model), space.hyperparameters()
    x, known = (part.read("features", columns).astype(np.float64) for part in (training, validation))
    mass, spread = training.mass, known.std(0)
    varies = spread > 1e-6 * np.abs(known).max(0)

    def run(trial) -> float:
        hp, value = kind.Hyperparameters(**space.draw(suggested(trial, hps))), float("inf")
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed + trial.number)
        scaler = Scaler(x, hp.scaling)
        epoch, network, judged = BUILDERS[model](hp, scaler(x), mass)
        scaled = scaler(known)
        for done in range(1, max_epochs + 1):
            epoch()
            if objective == "val_loss":
                told = judged.evaluate(
                    *((scaled,) if model == "vae" else (scaled, scaled)), 4096, verbose=0, return_dict=True
                )
                value = told["loss"]
            else:
                off = known - scaler.inverse(network.predict(scaled, batch_size=4096, verbose=0))
                value = float(np.mean(np.sqrt(np.mean((off[:, varies] / spread[varies]) ** 2, -1))))
            trial.report(value if np.isfinite(value) else 1e9, done)
            if trial.should_prune():
                ended(value, done)
                raise optuna.TrialPruned
        ended(value, max_epochs)
        return value

    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=max_epochs, reduction_factor=factor),
    )
    started = time.perf_counter()
    study.optimize(run, n_trials=trials, timeout=seconds, catch=(tf.errors.OpError,))
    return time.perf_counter() - started
