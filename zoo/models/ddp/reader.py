"""The network of DDP applied to histograms: which program looks at which spectra, and what comes out."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from pipelines.arguments import setting
from pipelines.errors import InputError
from pipelines.histograms import Histograms
from zoo.models.ddp.network import SIGNATURE, Network, arrays_of

BLOCK = 2**22  # numbers of an (N, B, B) array in memory at a time
BATCH = 128  # spectra that are looked at together
LENGTH = 32  # XLA: lengths are rounded up to multiples, so that there are few programs to compile
WORTH = 20_000  # spectra that make up for compiling a program: some 20 s, against 1 ms of each without


class NoCurve(InputError):
    """Spectra that no smooth curve goes through, by their places `rows` among those that were to be looked at."""

    def __init__(self, message: str, rows: np.ndarray):
        super().__init__(message)
        self.rows = rows


class Reader:
    """What reads histograms by a network, in three programs that are traced when they are first used.

    Attributes:
        plain, compiled: from counts (N, B), edges (N, B + 1), resolutions (W, N, B) and mask (N, B) to significances
            (W, N, B) and the widest curve (N, B); the second is compiled by XLA for each length B.
        curve: from counts, edges and mask to the widest curve alone.
    """

    def __init__(self, network: Network):
        self.network = network
        several = [*SIGNATURE[:2], tf.TensorSpec((None, None, None), tf.float32, name="resolutions"), SIGNATURE[3]]
        self.plain = tf.function(self.of_widths, autograph=False, input_signature=several)
        self.compiled = tf.function(self.of_widths, autograph=False, jit_compile=True)
        self.curve = tf.function(self.widest, autograph=False, input_signature=[SIGNATURE[i] for i in (0, 1, 3)])

    def of_widths(self, counts, edges, resolutions, mask):
        """Return significances (W, N, B) of W resolutions (W, N, B), for all of which the curves are made once."""
        seen = self.network.see(counts, edges, mask)
        return tf.map_fn(lambda resolution: self.network.look(seen, resolution), resolutions), seen.curves[-1]

    def widest(self, counts, edges, mask):
        """Return the widest curve (N, B), a smooth estimate of the background."""
        return self.network.see(counts, edges, mask).curves[-1]

    def read(self, histograms: Histograms, resolutions: np.ndarray, jit_compile: bool | None = None, planned: int = 0):
        """Return significances (W, N, B) and the widest curve (N, B), spectra of similar lengths together.

        Args:
            histograms: N of them. resolutions: (W, N, B), in the unit of the edges; with W = 0 only curves are made.
            jit_compile: whether XLA compiles a program for each length; None is where so many spectra, or so many
                `planned` ones of which these are a part, save more time than that takes.

        Raises `NoCurve` for spectra that no smooth curve goes through.
        """
        found = np.full((len(resolutions) + 1, *histograms.counts.shape), np.nan, np.float32)
        lengths = -(-histograms.bins // LENGTH) * LENGTH
        several = np.unique(lengths)
        if jit_compile is None:
            jit_compile = max(planned, len(histograms)) >= WORTH * len(several)
        for length in several:
            rows = np.flatnonzero(lengths == length)
            rows = rows[np.argsort(histograms.bins[rows], kind="stable")]
            size = max(1, min(BATCH, BLOCK // int(length) ** 2))
            for start in range(0, len(rows), size):
                block = rows[start : start + size]
                if jit_compile and len(block) >= size // 2:  # rows that are missing repeat the first
                    padded = np.concatenate([block, np.full(size - len(block), block[0])])
                    part = self._of_block(self.compiled, histograms, resolutions, padded, int(length))
                else:
                    longest = int(histograms.bins[block].max())
                    part = self._of_block(self.plain, histograms, resolutions, block, longest)
                kept = min(part.shape[2], found.shape[2])
                found[:, block, :kept] = part[:, : len(block), :kept]
        wrong = np.flatnonzero((histograms.mask & ~np.isfinite(found).all(0)).any(1))
        if len(wrong):
            raise NoCurve(
                f"histogram {histograms.names[wrong[0]]}: no smooth curve goes through it; give a range without empty "
                f"stretches, and fewer than 1e13 events in a bin",
                wrong,
            )
        found = np.where(histograms.mask, found, np.nan)
        return found[:-1], found[-1]

    def _of_block(self, program, histograms: Histograms, resolutions: np.ndarray, rows: np.ndarray, length: int):
        """What a program says of some spectra, (W + 1, N, length): significances, then the widest curve."""
        arrays = arrays_of(histograms, resolutions, rows, length)
        if not len(resolutions):
            return self.curve(arrays[0], arrays[1], arrays[3]).numpy()[None]
        significances, curve = program(*arrays)
        return np.concatenate([significances.numpy(), curve.numpy()[None]])


def resolution_of(histograms: Histograms, width, possible: tuple[float, float]) -> np.ndarray:
    """Return the width at every bin (N, B), in the unit of the edges.

    Args:
        width: a number, in bins; or in the unit of the edges at every bin, (B,) or (N, B).
        possible: narrowest and widest, in bins, that a model was trained on.

    Raises `InputError` for another shape, and for a width outside of `possible`.
    """
    low, high = possible
    width = np.asarray(width, float)
    if width.ndim and width.shape not in (histograms.counts.shape, histograms.counts.shape[1:]):
        raise InputError(
            f"width has shape {width.shape}, expected one number, in bins, or {histograms.counts.shape}, in the unit "
            f"of the edges"
        )
    resolution = np.broadcast_to(width if width.ndim else width * histograms.bin_widths, histograms.counts.shape)
    in_bins = (resolution / histograms.bin_widths)[histograms.mask]
    if not (in_bins.min() >= low * (1 - 1e-6) and in_bins.max() <= high * (1 + 1e-6)):
        raise InputError(
            f"widths of {in_bins.min():.3g} to {in_bins.max():.3g} bins are outside the {low:g} to {high:g} that "
            f"this model was trained on; take other widths or bins, or train with {setting('widths', 'LOW,HIGH')}"
        )
    return resolution
