"""Figures of validation: global p-values of background alone, and significance against injected signal."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.plots.page import page
from pipelines.plots.record import plain, target

BINS = 10


def plot_coverage(found: Mapping[str, object], path: str | os.PathLike[str]) -> dict[str, object]:
    """Draw the global p-values of background-only data sets: histogram, and distribution against the uniform one.

    Args:
        found: what `pipelines.bumphunt.validation.coverage` returns.

    Returns:
        `found`, and of the histogram `counts` in tenths of [0, 1] and `band`, the central 95 % of a bin's count if
        p-values are uniform. The right panel has the band of the Kolmogorov-Smirnov test, 1.36 / sqrt(n), 95 %.
    """
    from scipy.stats import binom

    p = np.sort(np.asarray(found["p_values"], float))
    counts = np.histogram(p, BINS, (0, 1))[0]
    band = binom.interval(0.95, len(p), 1 / BINS)
    numbers = plain({**found, "counts": counts, "band": band})
    with page(target(path), numbers, (15, 7)) as figure:
        left, right = figure.subplots(1, 2)
        left.stairs(counts, np.linspace(0, 1, BINS + 1), color="C0", lw=2)
        left.axhspan(*band, color="0.85", zorder=0, label="95 % of a bin, if uniform")
        left.axhline(len(p) / BINS, color="0.4", ls="--")
        left.set(xlabel="global p-value", ylabel="data sets", xlim=(0, 1), ylim=(0, 1.35 * max(counts.max(), band[1])))
        left.legend()
        grid, width = np.linspace(0, 1, 101), 1.36 / np.sqrt(len(p))
        right.fill_between(grid, grid - width, grid + width, color="0.85", label="95 %, if uniform")
        right.step(np.r_[0, p, 1], np.r_[0, np.arange(1, len(p) + 1) / len(p), 1], where="post", color="C0", lw=2)
        right.plot([0, 1], [0, 1], color="0.4", ls="--")
        right.set(xlabel="global p-value", ylabel="share of data sets below", xlim=(0, 1), ylim=(0, 1))
        right.legend(loc="upper left")
        figure.suptitle(
            f"{len(p)} background-only searches: Kolmogorov-Smirnov {found['ks_statistic']:.3f}, p = {found['ks_p_value']:.2g}",
            fontsize=16,
        )
    return numbers


def plot_injection(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> dict[str, object]:
    """Draw local and global significance against the injected yield, medians and 68 % bands.

    Args:
        rows: what `pipelines.bumphunt.validation.spectrum_injection` returns.

    Returns:
        The numbers drawn: `events`, and `local` and `global`, [16 %, median, 84 %] for each. Where global significances
        are bounds, since no pseudo-experiment was as extreme, their markers point up.
    """
    events = [row["events"] for row in rows]
    numbers = plain({"events": events, **{k: [row[k] for row in rows] for k in ("local", "global", "global_is_bound")}})
    with page(target(path), numbers, (9, 7)) as figure:
        axes = figure.subplots()
        for name, colour in (("local", "C0"), ("global", "C1")):
            low, middle, high = np.array([row[name] for row in rows], float).T
            axes.fill_between(events, low, high, color=colour, alpha=0.25, lw=0)
            axes.plot(events, middle, color=colour, marker="o", label=name)
        bounds = [i for i, row in enumerate(rows) if row["global_is_bound"] >= 0.5]
        if bounds:
            axes.plot([events[i] for i in bounds], [rows[i]["global"][1] for i in bounds], "^", ms=14, color="C1",
                      label="at least")  # fmt: skip
        axes.set(xlabel="injected events, all selected", ylabel="significance", ylim=(0, None))
        axes.legend()
    return numbers
