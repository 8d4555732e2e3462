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

TOGETHER = 4096  # pseudo-experiments that are looked at in one call
TIE = 1e-4  # sigma: by so much two programs may differ on the same spectrum, which then counts as one as large


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
    jit_compile: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Scanned:
    """Return the most significant bump of every spectrum, over bins and widths.

    Args:
        model: with `significances` and `background`, as `ddp`. histograms: N of them.
        widths: standard deviations of the Gaussian, in bins.
        toys: pseudo-experiments of each spectrum; 0 for no global p-values. seed: of these.
        jit_compile: whether XLA compiles programs first; by default where that saves time.
        progress: is told (done, all) spectra.

    Raises `InputError` for no widths, and as `model.significance` does.
    """
    widths = tuple(widths)
    if not widths:
        raise InputError("widths is empty, expected one standard deviation at least, in bins, such as 1.5")
    options = {"jit_compile": jit_compile, "planned": len(histograms) * (toys + 1)}
    per_width = model.significances(histograms, widths, **options)
    best = np.where(histograms.mask, per_width.max(axis=0), -np.inf)
    bin_, rows = best.argmax(1), np.arange(len(histograms))
    largest = best[rows, bin_]
    chosen = np.asarray(widths, float)[per_width[:, rows, bin_].argmax(axis=0)]
    p_value = bound = None
    if toys:
        exceeding = _exceeding(model, histograms, widths, largest, toys, seed, progress, options)
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


def _exceeding(model, histograms, widths, largest, toys, seed, progress, options) -> np.ndarray:
    """How many of each spectrum's pseudo-experiments (N,) have a largest significance that is as large as its own."""
    curves, found = np.nan_to_num(model.background(histograms)), np.empty(len(histograms), int)
    order, together = np.argsort(histograms.bins, kind="stable"), max(1, TOGETHER // toys)
    for start in range(0, len(order), together):
        rows = order[start : start + together]
        counts = [_thrown(curves[i], toys, np.random.default_rng([seed, i]), histograms.names[i]) for i in rows]
        thrown = histograms.take(np.repeat(rows, toys))
        thrown = dataclasses.replace(thrown, counts=np.concatenate(counts)[:, : thrown.counts.shape[1]])
        maxima = np.nanmax(model.significances(thrown, widths, **options), axis=(0, 2)).reshape(-1, toys)
        found[rows] = (maxima >= largest[rows, None] - TIE).sum(1)
        if progress is not None:
            progress(start + len(rows), len(order))
    return found


def _thrown(curve: np.ndarray, toys: int, rng: np.random.Generator, name: str) -> np.ndarray:
    try:
        return rng.poisson(curve, (toys, len(curve))).astype(float)
    except ValueError:  # 10^19 or more are expected, far beyond what is in the spectrum
        raise InputError(
            f"histogram {name}: no smooth curve goes through it; give a range without empty stretches"
        ) from None
