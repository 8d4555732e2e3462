"""Events to `tf.data`: static batches, shuffled by a seed, from memory where they fit and from disk where not.

A batch is a dict of tensors: `features` (B, F), `mass` (B,) in GeV, `weight` (B,). Labels are never read here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from pipelines.errors import InputError
from pipelines.events import BLOCK, Events

MEMORY = 4 * 2**30  # bytes of features that are held in memory; more are streamed from disk
STREAM_BLOCK = 8192  # events read together when streaming: a chunk of the file
POOL = 64  # blocks shuffled together: 100 MB of 47 columns. Many small ones mix a file sorted by mass better than few

Transform = Callable[[np.ndarray], tf.Tensor]
Weighting = Callable[[np.ndarray], np.ndarray]


class Batches:
    """Batches of a set of events, in an order that depends only on the seed and the number of the pass.

    Args:
        events: the events; their labels are not read.
        columns: the features, in the order wanted.
        batch_size: B, static; the events left over after whole batches are another ones at each pass.
        transform: applied to features (n, F) in physical units, e.g. a model's scaler.
        weighting: event weights from masses (n,) in GeV, multiplied with the events' own.
        seed: fixes the order.
        memory: bytes of features up to which all events are held in memory, by default `MEMORY`.

    Raises `InputError` if there are fewer events than one batch.

    Example:
        >>> events = Events.from_arrays(np.zeros((10, 2)), np.full(10, 3000.0), ["pt_1", "pt_2"])
        >>> batches = Batches(events, ["pt_1"], batch_size=4)
        >>> batches.steps, next(iter(batches.shuffled()))["features"].shape
        (2, TensorShape([4, 1]))
    """

    def __init__(
        self,
        events: Events,
        columns: Sequence[str],
        batch_size: int,
        *,
        transform: Transform | None = None,
        weighting: Weighting | None = None,
        seed: int = 0,
        memory: int | None = None,
    ):
        if len(events) < batch_size:
            raise InputError(
                f"{events.name}: {len(events)} events are fewer than one batch of {batch_size}; lower batch_size"
            )
        self.events, self.columns, self.batch_size, self.seed = events, list(columns), batch_size, seed
        self.steps = len(events) // batch_size
        self._transform, self._weighting = transform, weighting
        self.in_memory = len(events) * len(self.columns) * 4 <= (MEMORY if memory is None else memory)
        if self.in_memory:
            with tf.device("CPU"):  # where tf.data gathers batches from them, also when there is a GPU
                self._arrays = {k: tf.constant(v) for k, v in self._all().items()}

    def shuffled(self, first_pass: int = 0) -> tf.data.Dataset:
        """Return passes `first_pass`, `first_pass + 1`, ... without end, each in another order."""
        passes = tf.data.Dataset.counter(first_pass)
        data = passes.flat_map(self._one_pass) if self.in_memory else self._streamed(first_pass)
        return data.prefetch(8)

    def ordered(self) -> tf.data.Dataset:
        """Return the batches once, in the order of the events; an incomplete last batch is left out."""
        if self.in_memory:
            rows = tf.data.Dataset.range(self.steps).map(
                lambda i: tf.range(self.batch_size) + tf.cast(i, tf.int32) * self.batch_size
            )
            return rows.map(self._gather).prefetch(8)
        streamed = self._from(
            lambda: _rebatch(self._blocks(range(0, self.events.rows_in_store, BLOCK)), self.batch_size)
        )
        return streamed.apply(tf.data.experimental.assert_cardinality(self.steps))  # Keras asks how many there are

    def _one_pass(self, number):
        seed = tf.stack([tf.constant(self.seed, tf.int64), number])
        order = tf.random.experimental.stateless_shuffle(tf.range(len(self.events)), seed=seed)
        rows = tf.reshape(order[: self.steps * self.batch_size], (self.steps, self.batch_size))
        return tf.data.Dataset.from_tensor_slices(rows).map(self._gather)

    def _gather(self, rows):
        return {name: tf.gather(values, rows) for name, values in self._arrays.items()}

    def _all(self) -> dict[str, np.ndarray]:
        size, row = len(self.events), 0
        arrays = {"features": np.empty((size, len(self.columns)), np.float32)}
        arrays |= {name: np.empty(size, np.float32) for name in ("mass", "weight")}
        for block in self._blocks(range(0, self.events.rows_in_store, BLOCK)):
            stop = row + len(block["mass"])
            for name, values in block.items():
                arrays[name][row:stop] = values
            row = stop
        return arrays

    def _streamed(self, first_pass: int) -> tf.data.Dataset:
        def generate() -> Iterator[dict[str, np.ndarray]]:
            number = first_pass
            while True:
                yield from self._one_streamed_pass(np.random.default_rng([self.seed, number]))
                number += 1

        return self._from(generate)

    def _one_streamed_pass(self, rng: np.random.Generator) -> Iterator[dict[str, np.ndarray]]:
        """Visit the blocks of the file in random order and shuffle the events of every `POOL` blocks together."""
        starts = rng.permutation(np.arange(0, self.events.rows_in_store, STREAM_BLOCK))
        pools = (starts[i : i + POOL] for i in range(0, len(starts), POOL))

        def mixed():
            for pool in pools:
                blocks = list(self._blocks(pool, STREAM_BLOCK))
                joined = {k: np.concatenate([b[k] for b in blocks]) for k in blocks[0]} if blocks else {}
                order = rng.permutation(len(joined["mass"])) if blocks else []
                yield {k: v[order] for k, v in joined.items()}

        yield from _rebatch(mixed(), self.batch_size)

    def _blocks(self, starts: Sequence[int], size: int = BLOCK) -> Iterator[dict[str, np.ndarray]]:
        for block in self.events.blocks("features", "mass", "weight", columns=self.columns, starts=starts, size=size):
            if self._transform is not None:
                block["features"] = np.asarray(self._transform(block["features"]), np.float32)
            if self._weighting is not None:
                block["weight"] = block["weight"] * self._weighting(block["mass"])
            yield block

    def _from(self, generate: Callable[[], Iterator[dict[str, np.ndarray]]]) -> tf.data.Dataset:
        shapes = {
            "features": (self.batch_size, len(self.columns)),
            "mass": (self.batch_size,),
            "weight": (self.batch_size,),
        }
        signature = {k: tf.TensorSpec(v, tf.float32) for k, v in shapes.items()}
        return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(8)


def _rebatch(blocks: Iterator[dict[str, np.ndarray]], size: int) -> Iterator[dict[str, np.ndarray]]:
    """Cut blocks of any length into batches of `size`; what is left at the end is dropped."""
    rest: dict[str, np.ndarray] = {}
    for block in blocks:
        if not block:
            continue
        rest = {k: np.concatenate([rest[k], v]) for k, v in block.items()} if rest else block
        whole = len(rest["mass"]) // size * size
        for start in range(0, whole, size):
            yield {k: v[start : start + size] for k, v in rest.items()}
        rest = {k: v[whole:] for k, v in rest.items()}
