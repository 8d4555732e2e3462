"""Batches of generated spectra, as a trainer takes them."""

from __future__ import annotations

import tensorflow as tf

from pipelines.simulation.spectra import Generator

HELD_OUT = 2**40  # the first number of the draws that watch the training
FLOATS = dict.fromkeys(("counts", "resolution", "mask", "ideal"), tf.float32)
KINDS = {"edges": tf.float64, **FLOATS}


class SpectrumBatches:
    """Batches of spectra that a generator draws: each depends on the generator's seed and its number alone.

    Args:
        generator: what draws them.
        size: spectra in a batch.
        steps: batches in an epoch, or in all for validation.
    """

    error: Exception | None = None

    def __init__(self, generator: Generator, size: int, steps: int):
        self.generator, self.size, self.steps = generator, size, steps

    def shuffled(self, first_pass: int = 0) -> tf.data.Dataset:
        """Return batches without end, from those of an epoch on."""
        return self._from(first_pass * self.steps)

    def ordered(self) -> tf.data.Dataset:
        """Return the batches that watch a training, which no training draws."""
        return self._from(HELD_OUT).take(self.steps).cache()

    @tf.autograph.experimental.do_not_convert
    def _from(self, first: int) -> tf.data.Dataset:
        longest = self.generator.bins[1]

        def draw(number):
            drawn = self.generator.draw(self.size, int(number))
            h = drawn.histograms
            arrays = (h.edges, h.counts, drawn.resolution, h.mask, drawn.ideal())
            return [array.astype(kind.as_numpy_dtype) for array, kind in zip(arrays, KINDS.values())]

        def batch(number):
            arrays = tf.numpy_function(draw, [number], list(KINDS.values()))
            shapes = {name: (self.size, longest + (name == "edges")) for name in KINDS}
            return {name: tf.ensure_shape(array, shapes[name]) for array, name in zip(arrays, KINDS)}

        return tf.data.Dataset.counter(first).map(batch, num_parallel_calls=2, deterministic=True).prefetch(4)
