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


def plot_reach(found: Mapping[str, object], path: str | os.PathLike[str]) -> dict[str, object]:
    """Draw significance and efficiency against the number of injected signal events, with their spread.

    Args:
        found: what `pipelines.bumphunt.discovery_reach.DiscoveryReach.to_dict` returns.

    Returns:
        `found`. Left, local and global significance, medians and 68 % bands; right, the share of spectra whose global
        significance is 3 and 5 sigma at least, with intervals of 68 %. Above, S/B within 1.4 standard deviations of the mass.
    """
    rows: Any = found["rows"]
    events = np.array([row["events"] for row in rows], float)
    with page(target(path), plain(found), (15, 7)) as figure:
        left, right = figure.subplots(1, 2)
        for name, colour in (("local", "C0"), ("global", "C1")):
            low, middle, high = np.array([row[name] for row in rows], float).T
            left.fill_between(events, low, high, color=colour, alpha=0.25, lw=0)
            left.plot(events, middle, color=colour, marker="o", label=f"{name}, median and 68 %")
        for sigma in rows[0]["efficiency"]:
            left.axhline(float(sigma), color="0.6", ls="--", lw=1)
        left.set(xlabel="injected signal events", ylabel="significance", ylim=(0, None))
        left.legend(loc="upper left")
        for colour, sigma in zip(("C2", "C3"), rows[0]["efficiency"]):
            low, middle, high = np.array([row["efficiency"][sigma] for row in rows], float).T
            right.fill_between(events, low, high, color=colour, alpha=0.25, lw=0)
            right.plot(events, middle, color=colour, marker="o", label=f"{sigma} sigma, global")
        right.set(xlabel="injected signal events", ylabel="share of spectra that reach", ylim=(0, 1.05))
        right.legend(loc="lower right")
        ratios = [row["s_over_b"] / row["events"] for row in rows if row["events"] and row["s_over_b"]]
        if ratios:
            for axes in (left, right):
                above = axes.secondary_xaxis(
                    "top", functions=(lambda n: 100 * n * ratios[0], lambda r: r / (100 * ratios[0]))
                )
                above.set_xlabel("S/B [%]")
    return dict(found)


def plot_injection_curve(found: Mapping[str, object], path: str | os.PathLike[str]) -> dict[str, object]:
    """Draw what is believed of searches in mixtures against S/B: global significance, and efficiency of the cut.

    Args:
        found: with the `curve` and the `reach` of `pipelines.bumphunt.validation.injection_curve`.

    Returns:
        These two. Bands are the central 68 % of the mixtures, lines their medians.
    """
    curve: Any = found["curve"]
    numbers = plain({"curve": curve, "reach": found["reach"]})
    ratios = 100 * np.array([one["ratio"] for one in curve], float)
    some = (
        "global significance, in part extrapolated"
        if any(one.get("extrapolated", False) for one in curve)
        else "global significance"
    )
    with page(target(path), numbers, (15, 7)) as figure:
        for axes, name, scale, label in zip(
            figure.subplots(1, 2), ("global", "efficiency"), (1, 100), (some, "signal efficiency [%]")
        ):
            known = [i for i, one in enumerate(curve) if one[name] is not None]
            if known:
                low, middle, high = scale * np.array([curve[i][name] for i in known], float).T
                axes.fill_between(ratios[known], low, high, color="C0", alpha=0.25, lw=0)
                axes.plot(ratios[known], middle, color="C0", marker="o", label="median and 68 %")
                axes.legend()
            axes.set(xlabel="injected S/B [%]", ylabel=label, ylim=(0, None))
    return numbers
