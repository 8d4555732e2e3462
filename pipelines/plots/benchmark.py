"""The figures of a benchmark: significance improvement against background efficiency, and significance against S/B."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.plots.page import page
from pipelines.plots.record import plain, target
from pipelines.significance_improvement import FLOORS, GRID

QUANTILES = (16, 50, 84)


def plot_sic(found: Mapping[str, Mapping[str, Any]], path: str | os.PathLike[str]) -> dict[str, object]:
    """Draw SIC curves of models, the median over seeds and the central 68 %.

    Args:
        found: by model `curves`, one for each seed, at the shares of `pipelines.significance_improvement.GRID`, None where too few
            events pass; and the number of `background` events.

    Returns:
        `background_efficiency`; by model `low`, `median`, `high`, None where a seed has no number; and `floor`, the shares at which
        25 and 100 background events pass.
    """
    bands = {}
    for name, one in found.items():
        curves = np.array(one["curves"], float)  # None is NaN
        known = np.isfinite(curves).all(axis=0)
        band = np.full((3, len(GRID)), np.nan)
        band[:, known] = np.percentile(curves[:, known], QUANTILES, axis=0)
        bands[name] = {
            key: [None if np.isnan(v) else float(v) for v in row] for key, row in zip(("low", "median", "high"), band)
        }
    events = min(int(one["background"]) for one in found.values())
    floor = {str(least): least / events for least in FLOORS}
    about = {"background_efficiency": list(GRID), "models": bands, "floor": floor}
    numbers: dict[str, object] = plain(about)
    x = np.array(GRID)
    with page(target(path), numbers, (10, 7.5)) as figure:
        axes = figure.subplots()
        for i, (name, one) in enumerate(bands.items()):
            low, middle, high = (np.array(one[key], float) for key in ("low", "median", "high"))
            axes.fill_between(x, low, high, color=f"C{i}", alpha=0.2, lw=0)
            axes.plot(x, middle, color=f"C{i}", label=name)
        axes.plot(x, np.sqrt(x), color="0.5", ls=":", label="by chance")
        for (least, share), style in zip(floor.items(), ("--", "-.")):
            axes.axvline(share, color="0.5", ls=style, lw=1, label=f"{least} background events")
        axes.set(xscale="log", xlim=(0.5 * floor[str(FLOORS[0])], 1), ylim=(0, None), xlabel="background efficiency",
                 ylabel=r"$\epsilon_S / \sqrt{\epsilon_B}$")  # fmt: skip
        axes.legend()
    return numbers


def plot_significances(found: Mapping[str, Mapping[str, Any]], path: str | os.PathLike[str]) -> dict[str, object]:
    """Draw the global significance of hunts against the S/B of their mixtures, the median over seeds and the central 68 %.

    Args:
        found: by model `s_over_b`; and at each `global`, [16 %, median, 84 %], the share `extrapolated` of its hunts, and the
            `bound` above which these are known to be, or None.

    Returns:
        `found`.
    """
    numbers: dict[str, object] = plain(dict(found))
    with page(target(path), numbers, (10, 7.5)) as figure:
        axes = figure.subplots()
        for i, (name, one) in enumerate(found.items()):
            order = np.argsort(one["s_over_b"])
            x = 100 * np.array(one["s_over_b"], float)[order]
            low, middle, high = np.array(one["global"], float)[order].T
            axes.fill_between(x, low, high, color=f"C{i}", alpha=0.2, lw=0)
            axes.plot(x, middle, color=f"C{i}", marker="o", label=name)
        for sigma in (3, 5):
            axes.axhline(sigma, color="0.6", ls="--", lw=1)
        bound = min((z for one in found.values() for z in one.get("bound", ()) if z is not None), default=None)
        beyond = "" if bound is None else f", extrapolated beyond {bound:.1f}"
        axes.set(xlabel="S/B [%]", ylabel=f"global significance{beyond}", ylim=(0, None))
        axes.legend()
    return numbers
