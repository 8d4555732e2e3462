"""Events to `tf.data`: static batches, shuffled by a seed, the same ones wherever the events are kept.

A batch is a dict of tensors: `features` (B, F) and, if asked for, `objects` (B, P, C) and `mask` (B, P); `mass` (B,)
in GeV, `weight` (B,). Labels are never read here.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from pipelines.errors import InputError
from pipelines.events.events import BLOCK, Events
from pipelines.events.layout import CHUNK
from pipelines.events.row_cache import InMemory, Packing, Piece, Transform, Weighting, keep, pieces_of

UNIT = CHUNK  # events that stay neighbours on disk, read together
POOL = 2**26  # bytes of rows shuffled together. Many small units mix a file sorted by mass better than few large ones
LEAST = 16  # units that are shuffled together at least
SHORT = 256  # steps for which rows are handed to TensorFlow at a time at most, of several passes if one has fewer

# TensorFlow looks into functions for what it has to rewrite, which takes as long as to trace them: there is nothing
_as_written = tf.autograph.experimental.do_not_convert


class Batches:
    """Batches of a set of events, in an order that depends only on the seed and the number of the pass.

    In a pass the units of `UNIT` neighbouring events are assigned at random to pools, as large as `POOL`, whose events are
    shuffled together: all events, up to some 300,000 of 47 columns. Every pool gets one unit of each run of neighbours,
    so that it has events of every part of the file.

    Args:
        events: the events; their labels are not read.
        columns: the features, in the order wanted.
        batch_size: B; the events left over after whole batches are other ones at each pass.
        objects: give `objects` and `mask` too.
        transform: applied to features (n, F) in physical units, e.g. a model's scaler.
        weighting: event weights from masses (n,) in GeV, multiplied with the events' own.
        seed: fixes the order.
        memory, cache: bytes of memory and the folder that may hold the events, as in `pipelines.events.row_cache.keep`.
        shard: (k, n), the k-th of n workers that train together: of every pass it gets its share of the units, and
            as many batches as the others.
        readers: threads that read; the order does not depend on them.
        static: whether TensorFlow is told B, which XLA wants. Without, a traced program takes batches of any size.

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
        objects: bool = False,
        transform: Transform | None = None,
        weighting: Weighting | None = None,
        seed: int = 0,
        memory: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        shard: tuple[int, int] = (0, 1),
        readers: int = 2,
        static: bool = True,
    ):
        worker, workers = shard
        if not 0 <= worker < workers:
            raise InputError(f"shard {shard}: expected (k, n) with 0 <= k < n")
        self.events, self.batch_size, self.seed = events, batch_size, seed
        self._told_size = batch_size if static else None
        self._units, self._shard, self._readers = pieces_of(events, UNIT), shard, readers
        self.steps = self._fewest(workers) // batch_size
        check_enough(events, batch_size, self.steps)
        slots, numbers = events.shape_of("objects") if objects else (0, 0)
        packing = Packing(len(columns), (slots, numbers))
        self.packing = packing
        self._pool = max(LEAST, POOL // (4 * packing.width * UNIT))
        self._rows = keep(events, columns, packing, transform, weighting, memory=memory, cache=cache)
        # Passes of a single pool have the same rows, in other orders: a short one costs less together with others.
        self._alone = workers == 1 and len(self._units) <= self._pool
        self._most_together = max(1, SHORT // self.steps)
        self.error: Exception | None = None  # what went wrong while reading: TensorFlow tells it as a long text

    @property
    def kept(self) -> str:
        """Where the events are: "InMemory", "OnDisk", or "FromFile", read anew at every pass."""
        return type(self._rows).__name__

    def shuffled(self, first_pass: int = 0) -> tf.data.Dataset:
        """Return passes `first_pass`, `first_pass + 1`, ... without end, each in another order."""

        def pools() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            number, together = first_pass, 1
            while self._alone:  # more and more at a time: a short training does not wait for what it never takes
                yield self._passes_of_one_pool(range(number, number + together))
                number, together = number + together, min(2 * together, self._most_together)
            for number in itertools.count(first_pass):
                yield from self._one_pass(np.random.default_rng([self.seed, number]))

        data = self._dataset(pools).flat_map(_as_written(self._cut))
        return _to_device(data.prefetch(8).with_options(_untuned()))

    def ordered(self, drop_remainder: bool = True) -> tf.data.Dataset:
        """Return the batches once, in the order of the events; the last, incomplete one only if not dropped."""
        if drop_remainder and self._is_small:
            return self._ordered_at_hand()

        def pools() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            size = max(1, BLOCK // self.batch_size) * self.batch_size
            for start in range(0, len(self.events), size):
                rows = self._read([(start, min(start + size, len(self.events)))])
                yield rows, np.zeros((0, self.batch_size), np.int32)

        data = self._dataset(pools).flat_map(
            _as_written(lambda rows, _: tf.data.Dataset.from_tensor_slices(rows).batch(self.batch_size, drop_remainder))
        )
        data = data.map(_as_written(self.packing.unpack))
        count = len(self.events) // self.batch_size if drop_remainder else -(-len(self.events) // self.batch_size)
        data = data.apply(tf.data.experimental.assert_cardinality(count))  # Keras asks how many there are
        return data.prefetch(8).with_options(_untuned())

    @property
    def _is_small(self) -> bool:
        return isinstance(self._rows, InMemory) and 4 * self.packing.width * len(self.events) <= POOL

    def _ordered_at_hand(self) -> tf.data.Dataset:
        """As `ordered`, from tensors in memory: validation starts again every epoch, in a millisecond."""
        count = len(self.events) // self.batch_size
        batches = self.packing.unpack(self._read([(0, count * self.batch_size)]))
        shaped = {name: values.reshape(count, self.batch_size, *values.shape[1:]) for name, values in batches.items()}
        with tf.device("CPU"):
            data = tf.data.Dataset.from_tensor_slices(shaped)
            if self._told_size is None:
                data = data.map(_as_written(_of_any_size))
            return data.with_options(_untuned())

    def _fewest(self, workers: int) -> int:
        """Return how many events a worker gets at least in any pass, whichever units it draws."""
        sizes = sorted(sum(last - first for first, last in unit) for unit in self._units)
        return sum(sizes[: len(sizes) // workers])

    def _one_pass(self, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows (n, width) of a pool of units, and which of them make its batches, (steps, B)."""
        worker, workers = self._shard
        units = deal(np.arange(len(self._units)), workers, rng)[worker]
        pools = deal(units, -(-len(units) // self._pool), rng)
        rest, left = np.empty((0, self.packing.width), np.float32), self.steps
        with ThreadPoolExecutor(self._readers) as readers:
            waiting = self._ask(readers, pools[0])
            for following in [*pools[1:], None]:
                parts = [rest, *(part.result() for part in waiting)]
                waiting = [] if following is None else self._ask(readers, following)
                rows = np.concatenate(parts)
                order = np.concatenate([np.arange(len(rest)), len(rest) + rng.permutation(len(rows) - len(rest))])
                steps = min(len(rows) // self.batch_size, left)
                left -= steps
                if steps:
                    yield rows, order[: steps * self.batch_size].reshape(steps, -1).astype(np.int32)
                rest = rows[order[steps * self.batch_size :]]

    def _passes_of_one_pool(self, passes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return all rows (n, width), read once, and which of them make the batches of some passes, (passes steps, B)."""
        with ThreadPoolExecutor(self._readers) as readers:
            rows = np.concatenate([part.result() for part in self._ask(readers, np.arange(len(self._units)))])
        orders = [
            np.random.default_rng([self.seed, number]).permutation(len(rows))[: self.steps * self.batch_size]
            for number in passes
        ]
        return rows, np.concatenate(orders).reshape(-1, self.batch_size).astype(np.int32)

    def _ask(self, readers: ThreadPoolExecutor, units: np.ndarray) -> list[Future[np.ndarray]]:
        pieces = [piece for unit in units for piece in self._units[unit]]
        each = -(-len(pieces) // self._readers)
        return [readers.submit(self._read, pieces[i : i + each]) for i in range(0, len(pieces), each)]

    def _read(self, pieces: Sequence[Piece]) -> np.ndarray:
        try:
            return self._rows.read(pieces)
        except Exception as error:
            self.error = error
            raise

    def _dataset(self, pools: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]) -> tf.data.Dataset:
        signature = (
            tf.TensorSpec((None, self.packing.width), tf.float32),
            tf.TensorSpec((None, self._told_size), tf.int32),
        )
        with tf.device("CPU"):
            return tf.data.Dataset.from_generator(pools, output_signature=signature).prefetch(1)

    def _cut(self, rows: tf.Tensor, order: tf.Tensor) -> tf.data.Dataset:
        batches = tf.data.Dataset.from_tensor_slices(order)
        return batches.map(lambda chosen: self.packing.unpack(tf.gather(rows, chosen)))


def deal(units: np.ndarray, hands: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Deal units to so many hands, one of every run of `hands` neighbours to each, in random order.

    >>> [hand.tolist() for hand in deal(np.arange(6), 2, np.random.default_rng(0))]
    [[0, 2, 4], [1, 3, 5]]
    """
    rounds = -(-len(units) // hands)
    hand = rng.permuted(np.tile(np.arange(hands), (rounds, 1)), axis=1).ravel()[: len(units)]
    return [units[hand == number] for number in range(hands)]


def check_enough(events: Events, batch_size: int, steps: int | None = None) -> None:
    """Raise `InputError` if there are fewer events than one batch (or no `steps` for each worker)."""
    if not (len(events) // batch_size if steps is None else steps):
        share = " for all workers" if steps == 0 and len(events) >= batch_size else ""
        raise InputError(
            f"{events.name}: {len(events)} events{share} are fewer than one batch of {batch_size}; lower batch_size"
        )


def _untuned() -> tf.data.Options:
    """Switch off TensorFlow's tuner and optimizer: there is nothing for them, and they delay every start and end."""
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    return options


def _of_any_size(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Return a batch whose first axis TensorFlow is not told."""
    shapes = {name: (None, *values.shape[1:]) for name, values in batch.items()}
    return {name: tf.raw_ops.PlaceholderWithDefault(input=batch[name], shape=shape) for name, shape in shapes.items()}


def _to_device(data: tf.data.Dataset) -> tf.data.Dataset:
    """Have batches copied to the GPU before they are asked for, if there is one."""
    devices = tf.config.list_logical_devices("GPU")
    return data.apply(tf.data.experimental.prefetch_to_device(devices[0].name, 2)) if devices else data
