"""How fast GAN-AE trains, against ordinary Keras and against its own matrix products, and where the time goes.

    python benchmarks/gan_ae.py [--data FILE] [--events 100000] [--batch 2048] [--cycles 3] [--json FILE]

A cycle is 7 discriminator and 5 auto-encoder passes through the events, preset "lhco2020". All rows of one run take
turns, cycle by cycle, so that whatever else the machine does hits all alike: compare within a run, never across runs.
"""

from __future__ import annotations

import pipelines  # it says how TensorFlow works, before that is imported

# isort: split

import argparse
import contextlib
import datetime
import functools
import io
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

import zoo
from pipelines import Events
from zoo.keras import keras
from zoo.losses import distance_correlation, rms_distance
from zoo.models import gan_ae

PRESET = "lhco2020"
DISCO_SIZES = (2048, 8192, 16384)
# B x B arrays held at once: growth of resident memory in a fresh process at B = 8192, over 4 B^2
MATRICES = {"definition": 3.2, "definition without XLA": 5.3}
DEFINITION_MEMORY = 2e9  # bytes; DisCo's definition is not tried beyond
DISCO_CALLS = 7


def main() -> None:
    """Read the command line, run everything, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="events file with the 42 columns of GAN-AE (default: made events)")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=2048, help="events per step")
    parser.add_argument("--cycles", type=int, default=3, help="timed cycles of each row, after one to warm up")
    parser.add_argument("--json", type=Path, help="also write every number to this file")
    given = parser.parse_args()
    if not 1 <= given.batch <= given.events or given.cycles < 1:
        parser.error("expected 1 <= --batch <= --events and --cycles >= 1")

    console = Console(width=120, highlight=False)
    events = made_events(given.events) if given.data is None else read_events(given.data, given.events)
    about = conditions(len(events), given)
    console.print("  ".join(f"{name}: {value}" for name, value in about.items()))

    rows = implementations(events, given.batch)
    with console.status("") as status:
        take_turns(rows, given.cycles, status.update)
        status.update("DisCo alone")
        disco = time_disco()
    operations = MatrixProducts(given.batch).operations(len(events) // given.batch)
    for table in (speed_table(rows, operations), breakdown_table(rows), disco_table(disco)):
        console.print(table)
    if given.json:
        times = {name: {"first": row.first, "cycles": row.seconds} for name, row in rows.items()}
        numbers = {"conditions": about, "seconds": times, "breakdown": breakdown(rows), "disco": disco}
        given.json.write_text(json.dumps(numbers, indent=1))


def conditions(events: int, given: argparse.Namespace) -> dict[str, object]:
    """Return what the numbers depend on, for the header."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    return {
        "date": datetime.date.today().isoformat(),
        "cores": f"{allowed} of {os.cpu_count()}",
        "machine": processor(),
        "TensorFlow": f"{tf.__version__}, XLA on {device}",
        "events": f"{events} ({given.data or 'made'})",
        "batch": given.batch,
        "cycles": given.cycles,
    }


def processor() -> str:
    """Return the name of the processor, where the system tells it."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return platform.machine()


# -- events -------------------------------------------------------------------------------------------


def made_events(size: int) -> Events:
    """Return Gaussian features and falling masses: no operation of GAN-AE takes longer for some values than others."""
    rng = np.random.default_rng(0)
    low, high, slope = 2700.0, 5000.0, 350.0  # GeV; the slope is about that of the LHC Olympics background
    fraction = rng.random(size) * -np.expm1((low - high) / slope)
    mass = low - slope * np.log1p(-fraction)
    return Events.from_arrays(rng.normal(size=(size, len(gan_ae.COLUMNS))), mass, gan_ae.COLUMNS)


def read_events(path: str, size: int) -> Events:
    """Return `size` events of a file, or all if it has fewer, held in memory and without labels."""
    events = pipelines.open(path)
    events = events.sample(min(size, len(events)))
    return Events.from_arrays(events.read("features"), events.mass, events.columns, weight=events.weight)


# -- the rows, and taking turns -----------------------------------------------------------------------


class Row:
    """One way of spending a cycle: `cycle()` does it and returns the seconds it took."""

    def __init__(self, cycle: Callable[[], float]):
        self.cycle, self.first, self.seconds = cycle, 0.0, []

    @property
    def median(self) -> float:
        """Seconds per cycle; the first, which compiles, not counted."""
        return statistics.median(self.seconds)


def implementations(events: Events, batch: int) -> dict[str, Row]:
    """Return all rows by name; "bare" ones call the compiled training function without Keras' `fit` around it."""
    xla, plain = ZooCycles(events, batch), ZooCycles(events, batch, jit_compile=False)
    undropped, correlated = ZooCycles(events, batch), ZooCycles(events, batch)
    products, textbook = MatrixProducts(batch), TextbookKeras(xla.model, events)
    steps = len(events) // batch
    return {
        "zoo": Row(xla.by_fit),
        "zoo without XLA": Row(plain.by_fit),
        "textbook Keras": Row(textbook.cycle),
        "matrix products": Row(functools.partial(products.cycle, steps)),
        "bare": Row(xla.bare),
        "bare, no dropout": Row(functools.partial(without_dropout, undropped.bare)),
        "bare, no DisCo": Row(functools.partial(without_disco, correlated.bare)),
        "batches": Row(xla.batches_alone),
    }


def take_turns(rows: dict[str, Row], cycles: int, say: Callable[[str], None]) -> None:
    """Warm up every row with one cycle, then time `cycles` rounds in which each row has one."""
    for name, row in rows.items():
        say(f"compiling: {name}")
        row.first = row.cycle()
    for number in range(cycles):
        for name, row in rows.items():
            say(f"cycle {number + 1} of {cycles}: {name}")
            row.seconds.append(row.cycle())


# -- this implementation ------------------------------------------------------------------------------


class ZooCycles:
    """The zoo's GAN-AE at work on `events`, one cycle at a time."""

    def __init__(self, events: Events, batch: int, jit_compile: bool = True):
        self.events, self.jit_compile, self.cycles_done = events, jit_compile, 0
        self.model = zoo.get("gan_ae", preset=PRESET, batch_size=batch, pretraining_epochs=0)
        self.model.adapt(events)
        self.steps = sum(self._passes()) * (len(events) // batch)

    def _passes(self) -> tuple[int, int]:
        return self.model.hp.d_epochs, self.model.hp.ae_epochs

    def by_fit(self) -> float:
        """Train as users do, with history and progress bar; what `fit` does once before the cycles is not timed."""
        watch = Stopwatch()
        epochs = {"initial_epoch": self.cycles_done, "epochs": self.cycles_done + 1}
        with unseen_terminal():
            self.model.fit(self.events, **epochs, callbacks=[watch], verbose=1, jit_compile=self.jit_compile)
        self.cycles_done += 1
        return watch.seconds

    def bare(self) -> float:
        """Call the training function that Keras compiled, as often as `fit` does, and nothing else."""
        if self.model.train_function is None:
            self.by_fit()
        at_once = int(self.model.steps_per_execution)
        iterator = self._batches
        start = time.perf_counter()
        for done in range(0, self.steps, at_once):
            self.model.steps_per_execution = min(at_once, self.steps - done)
            logs = self.model.train_function(iterator)
        float(logs["loss"])  # a GPU is done only when a number is asked for
        seconds = time.perf_counter() - start
        self.model.steps_per_execution = at_once
        return seconds

    def batches_alone(self) -> float:
        """Draw the batches of a cycle and do nothing with them."""
        iterator = self._batches
        start = time.perf_counter()
        draw(iterator, self.steps)
        return time.perf_counter() - start

    @functools.cached_property
    def _batches(self):
        return iter(self.model.batches(self.events, self.model.weighting(self.events)).shuffled())


class Stopwatch(keras.callbacks.Callback):
    """Seconds from the start of an epoch until all callbacks are through with its end."""

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_train_end(self, logs=None):
        self.seconds = time.perf_counter() - self._start


@contextlib.contextmanager
def unseen_terminal() -> Iterator[None]:
    """Send standard output nowhere, as a terminal: Keras draws a moving progress bar only on a terminal."""
    with open(os.devnull, "wb") as nowhere, io.TextIOWrapper(nowhere) as stream:
        stream.isatty = lambda: True
        with contextlib.redirect_stdout(stream):
            yield


def without_dropout(cycle: Callable[[], float]) -> float:
    """Run a cycle whose training step is traced with dropout replaced by the identity."""
    with mock.patch.object(gan_ae, "dropout", lambda x, rate, seed, use: x):
        return cycle()


def without_disco(cycle: Callable[[], float]) -> float:
    """Run a cycle whose training step is traced with DisCo replaced by a mean, which costs nothing."""
    with mock.patch.object(gan_ae, "distance_correlation", lambda mass, score: tf.reduce_mean(score)):
        return cycle()


@tf.function
def draw(iterator, steps):
    """Take `steps` batches from an iterator inside TensorFlow, as Keras' training function does."""
    for _ in tf.range(steps):
        next(iterator)


# -- the paper in ordinary Keras ----------------------------------------------------------------------


class TextbookKeras:
    """GAN-AE as one would write it first: functional models, `D.fit`, `GAN.fit`, DisCo by its definition.

    Same sizes, hyperparameters, scaled features and weights as `model`, whose leftover events it leaves out too.
    The discriminator's batches hold `batch_size` events and as many reconstructions, so the steps are equally many.
    """

    def __init__(self, model: gan_ae.GANAE, events: Events, jit_compile: bool = False):
        self.hp = model.hyperparameter
        whole = len(events) // self.hp("batch_size") * self.hp("batch_size")
        self.x = np.asarray(model.scaler(events.read("features", columns=model.resolved_columns)))[:whole]
        self.mass = events.mass[:whole]
        self.weight = model.weighting(events)(self.mass)
        self.autoencoder = self._autoencoder(self.x.shape[1])
        self.discriminator = self._discriminator(self.x.shape[1])
        options = {"jit_compile": True} if jit_compile else {}
        self.discriminator.compile(self._adam(), loss="binary_crossentropy", metrics=["accuracy"], **options)
        self.gan = TextbookGAN(self.autoencoder, self.discriminator, self.hp("epsilon"), self.hp("alpha"))
        self.gan.compile(self._adam(), **options)

    def cycle(self) -> float:
        """Train the discriminator, then the auto-encoder."""
        size = self.hp("batch_size")
        start = time.perf_counter()
        with unseen_terminal():
            both = np.concatenate([self.x, self.autoencoder.predict(self.x, batch_size=size)])
            original = np.concatenate([np.ones(len(self.x)), np.zeros(len(self.x))])
            self.discriminator.fit(both, original, batch_size=2 * size, epochs=self.hp("d_epochs"))
            self.gan.fit(self.x, self.mass, sample_weight=self.weight, batch_size=size, epochs=self.hp("ae_epochs"))
        return time.perf_counter() - start

    def _adam(self):
        return keras.optimizers.Adam(self.hp("learning_rate"), beta_1=self.hp("beta_1"))

    def _hidden(self, h):
        return keras.layers.Dropout(self.hp("dropout_rate"))(keras.layers.LeakyReLU(self.hp("negative_slope"))(h))

    def _autoencoder(self, width):
        outer, inner = keras.layers.Dense(self.hp("ae_units")), keras.layers.Dense(self.hp("latent_dim"))
        x = keras.Input((width,))
        z = inner(self._hidden(outer(x)))
        return keras.Model(x, Transposed(outer)(self._hidden(Transposed(inner)(z))))

    def _discriminator(self, width):
        x = h = keras.Input((width,))
        for units in self.hp("d_units"):
            h = self._hidden(keras.layers.Dense(units)(h))
        return keras.Model(x, keras.layers.Dense(1, activation="sigmoid")(h))


class Transposed(keras.layers.Layer):
    """A dense layer whose kernel is another one's, transposed."""

    def __init__(self, dense: keras.layers.Dense):
        super().__init__()
        self.dense = dense

    def build(self, shape):
        self.bias = self.add_weight("bias", (self.dense.kernel.shape[0],), initializer="zeros")
        super().build(shape)

    def call(self, h):
        return tf.matmul(h, self.dense.kernel, transpose_b=True) + self.bias


class TextbookGAN(keras.Model):
    """The auto-encoder's turn: eq. 5 of the paper, the target being the mass."""

    def __init__(self, autoencoder: keras.Model, discriminator: keras.Model, epsilon: float, alpha: float):
        super().__init__()
        self.autoencoder, self.discriminator = autoencoder, discriminator
        self.epsilon, self.alpha = epsilon, alpha

    def train_step(self, data):
        x, mass, weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            reconstruction = self.autoencoder(x, training=True)
            fooled = self.discriminator(reconstruction, training=True)
            distance = rms_distance(x, reconstruction)
            per_event = keras.losses.binary_crossentropy(tf.ones_like(fooled), fooled) + self.epsilon * distance
            disco = disco_by_definition(mass, distance)
            loss = tf.reduce_mean(weight * per_event) + self.alpha * disco
        variables = self.autoencoder.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        return {"loss": loss, "distance": tf.reduce_mean(distance), "disco": disco}


def disco_by_definition(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Squared distance correlation of samples (B,) from its definition, with B x B matrices."""

    def centred(x):
        d = tf.abs(x[:, None] - x[None, :])
        return d - tf.reduce_mean(d, 0) - tf.reduce_mean(d, 1, keepdims=True) + tf.reduce_mean(d)

    a, b = centred(a), centred(b)
    return tf.reduce_mean(a * b) / tf.sqrt(tf.reduce_mean(a * a) * tf.reduce_mean(b * b))


# -- the matrix products alone ------------------------------------------------------------------------


class MatrixProducts(tf.Module):
    """The products of GAN-AE's training and nothing else: the same networks without biases and activations.

    XLA keeps those that the wanted gradients need. Discriminator's turn: the auto-encoder forward on B rows; the
    discriminator on 2B rows, forward, kernel gradients, and input gradients of all layers but the first.
    Auto-encoder's turn, B rows: both forward, input gradients through the whole discriminator and all uses of
    the tied kernels but the first, kernel gradients of their four uses.
    """

    def __init__(self, batch: int):
        self.hp = zoo.get("gan_ae", preset=PRESET).hyperparameter
        self.batch, width = batch, len(gan_ae.COLUMNS)
        self.ae_sizes = list(pairwise([width, self.hp("ae_units"), self.hp("latent_dim")]))
        self.d_sizes = list(pairwise([width, *self.hp("d_units"), 1]))
        glorot = keras.initializers.GlorotUniform
        self.ae = [tf.Variable(glorot(seed)(size)) for seed, size in enumerate(self.ae_sizes)]
        self.d = [tf.Variable(glorot(seed)(size)) for seed, size in enumerate(self.d_sizes)]
        self.x = tf.Variable(tf.random.stateless_normal((batch, width), (0, 0)))

    def cycle(self, steps: int) -> float:
        """Do the products of a cycle with `steps` steps in a pass."""
        start = time.perf_counter()
        self._repeat_discriminator(tf.constant(self.hp("d_epochs") * steps)).numpy()
        self._repeat_autoencoder(tf.constant(self.hp("ae_epochs") * steps)).numpy()
        return time.perf_counter() - start

    def operations(self, steps: int) -> float:
        """Floating-point operations of a cycle, two for each multiplication with addition."""
        ae, d = 2 * sum(i * j for i, j in self.ae_sizes), sum(i * j for i, j in self.d_sizes)
        (width, ae_units), (_, d_units) = self.ae_sizes[0], self.d_sizes[0]
        d_turn = ae + 2 * (3 * d - width * d_units)
        ae_turn = 3 * ae - width * ae_units + 2 * d
        return 2.0 * self.batch * steps * (self.hp("d_epochs") * d_turn + self.hp("ae_epochs") * ae_turn)

    @tf.function
    def _repeat_discriminator(self, steps):
        gradients = [tf.zeros_like(kernel) for kernel in self.d]
        for _ in tf.range(steps):
            gradients = self._discriminator_step()
        return gradients[0]

    @tf.function
    def _repeat_autoencoder(self, steps):
        gradients = [tf.zeros_like(kernel) for kernel in self.ae]
        for _ in tf.range(steps):
            gradients = self._autoencoder_step()
        return gradients[0]

    @tf.function(jit_compile=True)
    def _discriminator_step(self):
        both = tf.concat([self.x, self._reconstruct(self.x)], 0)
        with tf.GradientTape() as tape:
            logit = functools.reduce(tf.matmul, self.d, both)
        return tape.gradient(logit, self.d, output_gradients=logit)

    @tf.function(jit_compile=True)
    def _autoencoder_step(self):
        with tf.GradientTape() as tape:
            logit = functools.reduce(tf.matmul, self.d, self._reconstruct(self.x))
        return tape.gradient(logit, self.ae, output_gradients=logit)

    def _reconstruct(self, x):
        latent = functools.reduce(tf.matmul, self.ae, x)
        return functools.reduce(lambda h, kernel: tf.matmul(h, kernel, transpose_b=True), reversed(self.ae), latent)


# -- DisCo alone --------------------------------------------------------------------------------------


DISCO_WAYS = {
    "ours": (distance_correlation, True),
    "definition": (disco_by_definition, True),
    "definition without XLA": (disco_by_definition, False),
}


def time_disco() -> list[dict[str, object]]:
    """Time DisCo and its gradient, ours and by definition, for several batch sizes; the ways take turns."""
    found = []
    for size in DISCO_SIZES:
        a, b = tf.random.stateless_normal((2, size), (0, 1))
        ways = [way for way in DISCO_WAYS if estimated_bytes(size, way) <= DEFINITION_MEMORY]
        calls = {way: functools.partial(value_and_gradient(*DISCO_WAYS[way]), a, b) for way in ways}
        values = {way: float(call()[0]) for way, call in calls.items()}
        seconds = {way: [] for way in ways}
        for _ in range(DISCO_CALLS):
            for way, call in calls.items():
                start = time.perf_counter()
                float(call()[0])
                seconds[way].append(time.perf_counter() - start)
        for way in ways:
            numbers = {"value": values[way], "seconds": statistics.median(seconds[way])}
            found.append({"batch": size, "way": way, "bytes": estimated_bytes(size, way)} | numbers)
    return found


def value_and_gradient(correlation, jit_compile):
    """Return a compiled function of (a, b) that gives the correlation and its gradient in b."""

    @tf.function(jit_compile=jit_compile)
    def both(a, b):
        with tf.GradientTape() as tape:
            tape.watch(b)
            value = correlation(a, b)
        return value, tape.gradient(value, b)

    return both


def estimated_bytes(size: int, way: str) -> float:
    """Return the memory that DisCo with its gradient takes at its peak; of ours, the largest array that XLA may make."""
    return 4.0 * size**1.5 if way == "ours" else 4.0 * MATRICES[way] * size**2


# -- tables -------------------------------------------------------------------------------------------


def speed_table(rows: dict[str, Row], operations: float) -> Table:
    """Return seconds per cycle of each implementation, and the ratio to the matrix products."""
    titles = {
        "zoo": "zoo, model.fit with history and progress bar",
        "zoo without XLA": "the same, jit_compile=False",
        "textbook Keras": "textbook Keras: D.fit, GAN.fit, B x B DisCo",
        "matrix products": "matrix products alone, XLA",
    }
    products = rows["matrix products"].median
    rate = (
        f"The matrix products of a cycle are {operations / 1e9:.0f} GFLOP, done at {operations / 1e9 / products:.0f}/s."
    )
    table = Table(title="Seconds per cycle, median", title_justify="left", caption=rate, caption_justify="left")
    table.add_column("implementation")
    for name in ("s / cycle", "least - most", "x products", "compiling, s"):
        table.add_column(name, justify="right")
    for name, title in titles.items():
        row = rows[name]
        spread = f"{min(row.seconds):.2f} - {max(row.seconds):.2f}"
        numbers = (f"{row.median:.2f}", spread, f"{row.median / products:.2f}", f"{row.first - row.median:.1f}")
        table.add_row(title, *numbers)
    return table


def breakdown(rows: dict[str, Row]) -> dict[str, float]:
    """Return seconds per cycle of each part of the zoo's `fit`; the parts add up to the first entry.

    Differences are taken within each round, where both rows met the same machine, before the median.
    """
    difference = lambda a, b: statistics.median(np.subtract(rows[a].seconds, rows[b].seconds))  # noqa: E731
    parts = {
        "matrix products": rows["matrix products"].median,
        "dropout: random bits and masks": difference("bare", "bare, no dropout"),
        "DisCo": difference("bare", "bare, no DisCo"),
        "input pipeline": rows["batches"].median,
        "Keras: callbacks, progress bar, logs": difference("zoo", "bare"),
    }
    total = rows["zoo"].median
    rest = {"the rest: element-wise operations, losses, metrics, Adam": total - sum(parts.values())}
    return {"zoo, model.fit": total} | parts | rest


def breakdown_table(rows: dict[str, Row]) -> Table:
    """Return where the time of the zoo's `fit` goes."""
    how = (
        "By subtraction: dropout = identity in its place; DisCo = a mean in its place; Keras = fit less a bare loop over the same "
        "compiled training function (which keeps the metrics' sums). Batches are timed alone, though in training they "
        "are made while the network computes: an upper bound, which lowers the rest."
    )
    table = Table(title="Where the time goes", title_justify="left", caption=how, caption_justify="left")
    table.add_column("part")
    table.add_column("s / cycle", justify="right")
    table.add_column("share", justify="right")
    (total_name, total), *parts = breakdown(rows).items()
    for name, seconds in parts:
        table.add_row(name, f"{seconds:.2f}", f"{seconds / total:.0%}")
    table.add_section()
    table.add_row(total_name, f"{total:.2f}", "100%")
    return table


def disco_table(found: list[dict[str, object]]) -> Table:
    """Return time and memory of DisCo with its gradient: a line for each batch size."""
    title = f"DisCo and its gradient: ms, median of {DISCO_CALLS} calls (MB at the peak, estimated)"
    skipped = f"The definition is not tried where it would take more than {DEFINITION_MEMORY / 1e9:g} GB."
    table = Table(title=title, title_justify="left", caption=skipped, caption_justify="left")
    for name in ("batch", *DISCO_WAYS):
        table.add_column(name, justify="right")
    cells = {(row["batch"], row["way"]): row for row in found}
    for size in DISCO_SIZES:
        table.add_row(str(size), *(disco_cell(cells.get((size, way))) for way in DISCO_WAYS))
    return table


def disco_cell(row: dict[str, object] | None) -> str:
    """Return milliseconds and megabytes, or a dash for what was not tried."""
    return "-" if row is None else f"{1e3 * row['seconds']:.2f} ({row['bytes'] / 1e6:.1f})"


if __name__ == "__main__":
    main()
