"""Scans of many spectra by a network: the most significant bump of each, and its global p-value.

**Global p-values.** Around a smooth curve through a spectrum Poisson numbers are thrown and scanned as the spectrum is. The
global p-value is the share of these whose largest significance is as large: the trials factor of bins and widths is in it,
and so is whatever bias the network has for spectra of this shape and these numbers of events.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from pipelines.histograms import Histograms


@dataclasses.dataclass(frozen=True)
class Scanned:
    """The most significant bump of each of N spectra.

    Attributes:
        significance: (N,) the largest over bins and widths: local. bin: its place. mass: the middle of that bin.
        width: of the Gaussian, in the unit of the mass. width_in_bins: the one of those asked for.
        per_bin: (N, B), the largest over widths at every bin, NaN beyond a spectrum's own bins.
        global_p_value: (N,) share of a spectrum's pseudo-experiments whose largest significance is as large; None
            without. global_p_value_is_bound: (N,) none was: the p-value is below the number given, 1 / toys.
        toys: pseudo-experiments of each spectrum.
    """

    significance: np.ndarray
    bin: np.ndarray
    mass: np.ndarray
    width: np.ndarray
    width_in_bins: np.ndarray
    per_bin: np.ndarray
    global_p_value: np.ndarray | None
    global_p_value_is_bound: np.ndarray | None
    toys: int


def scan(
    model,
    histograms: Histograms,
    widths: Sequence[float] = (1.0, 2.0, 3.0),
    *,
    toys: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Scanned:
    """Return the most significant bump of every spectrum, over bins and widths.

    Args:
        model: with `significance` and `background`, as `ddp`. histograms: N of them.
        widths: standard deviations of the Gaussian, in bins.
        toys: pseudo-experiments of each spectrum; 0 for no global p-values. seed: of these.
        progress: is told (done, all) spectra.

    Raises `InputError` as `model.significance` does.
    """
    per_width = [model.significance(histograms, width=width) for width in widths]
    best = np.nan_to_num(np.max(per_width, axis=0), nan=-np.inf)
    bin_, rows = best.argmax(1), np.arange(len(histograms))
    largest = best[rows, bin_]
    chosen = np.asarray(widths, float)[np.argmax([one[rows, bin_] for one in per_width], axis=0)]
    p_value = bound = None
    if toys:
        exceeding = np.empty(len(histograms), int)
        for i in rows:
            thrown = _toys(model, histograms.take([i]), toys, np.random.default_rng([seed, i]))
            maxima = np.max([np.nanmax(model.significance(thrown, width=width), 1) for width in widths], axis=0)
            exceeding[i] = (maxima >= largest[i]).sum()
            if progress is not None:
                progress(i + 1, len(rows))
        p_value, bound = np.maximum(exceeding, 1) / toys, exceeding == 0
    return Scanned(
        significance=largest,
        bin=bin_,
        mass=histograms.centres[rows, bin_],
        width=chosen * histograms.bin_widths[rows, bin_],
        width_in_bins=chosen,
        per_bin=np.where(histograms.mask, best, np.nan),
        global_p_value=p_value,
        global_p_value_is_bound=bound,
        toys=toys,
    )


def _toys(model, histogram: Histograms, toys: int, rng: np.random.Generator) -> Histograms:
    curve = np.nan_to_num(model.background(histogram)[0])
    counts = rng.poisson(curve, (toys, len(curve))).astype(float)
    edges, bins = np.repeat(histogram.edges, toys, 0), np.repeat(histogram.bins, toys)
    return Histograms(counts, edges, bins, histogram.names * toys)
