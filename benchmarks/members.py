"""K members in one compiled program against K separate Keras fits: seconds per epoch, in turns, in one run.

    python benchmarks/members.py

The same VAE (6-64-64-64-1 and back, SELU, Adadelta, batches of 1000) on the same number of events, three times over: by
this package with K members; and by a textbook Keras model with a custom `train_step`, K fits one after the other:
compiled with XLA and running 64 steps at a time, as this package does; with XLA; and plain. Programs are compiled and warm
before anything is measured, and the K fits share one, which is kinder than what K models would cost. What counts is the
ratio within a round, since other work on the machine comes and goes.
"""

from __future__ import annotations

import pipelines  # noqa: F401  it says how TensorFlow works, before that is imported

# isort: split

import os
import time

import click
import numpy as np
import tensorflow as tf

import zoo
from pipelines import Events
from zoo.keras import keras
from zoo.models.vae import COLUMNS

WIDTHS = (64, 64, 64)


class TextbookVAE(keras.Model):
    """The VAE as it is written in a tutorial."""

    def __init__(self, width, alpha=5000.0):
        super().__init__()
        self.alpha = alpha
        hidden = [keras.layers.Dense(n, activation="selu") for n in WIDTHS]
        self.encoder = keras.Sequential([*hidden, keras.layers.Dense(2)])
        hidden = [keras.layers.Dense(n, activation="selu") for n in WIDTHS[::-1]]
        self.decoder = keras.Sequential([*hidden, keras.layers.Dense(width)])

    def train_step(self, x):
        with tf.GradientTape() as tape:
            mean, log_var = tf.split(self.encoder(x), 2, axis=-1)
            z = mean + tf.exp(log_var / 2.0) * tf.random.normal(tf.shape(mean))
            error = tf.reduce_mean(tf.square(x - self.decoder(z)))
            kl = tf.reduce_mean(0.5 * tf.reduce_sum(mean**2 + tf.exp(log_var) - 1.0 - log_var, axis=-1))
            loss = self.alpha * error + kl
        self.optimizer.minimize(loss, self.trainable_variables, tape)
        return {"loss": loss, "kl": kl}


class Epochs(keras.callbacks.Callback):
    """The time from the end of one epoch to that of the next: without building a data set or a function."""

    def on_epoch_end(self, epoch, logs=None):
        self.ends = [*getattr(self, "ends", []), time.perf_counter()]

    @property
    def seconds(self):
        return np.diff(self.ends).tolist()


PLAIN = {"K Keras fits, XLA, 64 steps": (True, 64), "K Keras fits, XLA": (True, 1), "K Keras fits": (False, 1)}


def textbook(x, batch, jit_compile, steps, seed):
    """A textbook model, built, compiled and warm."""
    keras.utils.set_random_seed(seed)
    model = TextbookVAE(x.shape[1])
    model.compile(keras.optimizers.Adadelta(0.001), jit_compile=jit_compile, steps_per_execution=steps)
    model.fit(x[: 2 * batch], batch_size=batch, verbose=0)
    return model


@click.command()
@click.option("--events", "number", default=180_000, show_default=True)
@click.option("--members", "counts", default="1,5,20", show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--epochs", default=2, show_default=True, help="Measured in each round, after one that is not.")
def main(number, counts, rounds, epochs):
    """Measure and print the table."""
    counts = list(map(int, counts.split(",")))
    x = np.abs(np.random.default_rng(0).normal(size=(number, len(COLUMNS)))).astype(np.float32)
    events = Events.from_arrays(x, np.full(number, 3000.0), COLUMNS)
    groups = {k: zoo.get("vae", members=k, decoder_epochs=0, epochs=1) for k in counts}
    for model in groups.values():
        model.fit(events.sample(2000), verbose=0)
        model.fit(events, verbose=0)
    plain = {name: textbook(x, 1000, *how, seed=0) for name, how in PLAIN.items()}
    found = {}
    for turn in range(rounds):
        for k in counts:
            watch = Epochs()
            groups[k].fit(events, epochs=epochs + 1, callbacks=[watch], verbose=0)
            found.setdefault(("zoo", k), []).append(np.mean(watch.seconds))
            for name, model in plain.items():
                watches = [Epochs() for _ in range(k)]
                for watch in watches:
                    model.fit(x, batch_size=1000, epochs=epochs + 1, callbacks=[watch], verbose=0)
                found.setdefault((name, k), []).append(sum(np.mean(watch.seconds) for watch in watches))
        click.echo(f"round {turn + 1} of {rounds}", err=True)
    print(f"{number} events, batches of 1000, {os.cpu_count()} cores, {rounds} rounds of {epochs} epochs; s/epoch")
    print(f"{'members':>8} {'zoo':>8}" + "".join(f"{name:>28} {'ratio':>18}" for name in PLAIN))
    for k in counts:
        mine = np.array(found["zoo", k])
        line = f"{k:>8} {np.median(mine):>8.2f}"
        for name in PLAIN:
            theirs = np.array(found[name, k])
            ratio = theirs / mine
            text = f"{np.median(ratio):.2f} ({ratio.min():.2f}-{ratio.max():.2f})"
            line += f"{np.median(theirs):>28.2f} {text:>18}"
        print(line)


if __name__ == "__main__":
    main()
