"""Scans of many spectra by a network: the most significant bump of each, and its global p-value.

**Global p-values.** Around a smooth curve through a spectrum Poisson numbers are thrown and scanned as the spectrum is. If
the largest significance of k of n of these is as large, the global p-value is (k + 1) / (n + 1) (Phipson and Smyth 2010,
doi 10.2202/1544-6115.1585): the trials factor of bins and widths is in it, and so is whatever bias the network has for
spectra of this shape and these numbers of events.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from pipelines.errors import InputError
from pipelines.histograms import Histograms


@dataclasses.dataclass(frozen=True)
class Scanned:
    """The most significant bump of each of N spectra.

    Attributes:
        significance: (N,) the largest over bins and widths: local. bin: its place. mass: the middle of that bin.
        width: of the Gaussian, in the unit of the mass. width_in_bins: the one of those asked for.
        per_bin: (N, B), the largest over widths at every bin, NaN beyond a spectrum's own bins.
        global_p_value: (N,) (k + 1) / (toys + 1), k the number of a spectrum's pseudo-experiments whose largest
            significance is as large; None without. global_p_value_is_bound: (N,) none was: the p-value is below that.
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

    Raises `InputError` for no widths, and as `model.significance` does.
    """
    widths = tuple(widths)
    if not widths:
        raise InputError("widths is empty, expected one standard deviation at least, in bins, such as 1.5")
    per_width = [model.significance(histograms, width=width) for width in widths]
    best = np.where(histograms.mask, np.max(per_width, axis=0), -np.inf)
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
        p_value, bound = (exceeding + 1) / (toys + 1), exceeding == 0
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
    try:
        counts = rng.poisson(curve, (toys, len(curve))).astype(float)
    except ValueError:  # 10^19 or more are expected, far beyond what is in the spectrum
        raise InputError(
            f"histogram {histogram.names[0]}: no smooth curve goes through it; give a range without empty stretches"
        ) from None
    edges, bins = np.repeat(histogram.edges, toys, 0), np.repeat(histogram.bins, toys)
    return Histograms(counts, edges, bins, histogram.names * toys)
