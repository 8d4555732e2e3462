"""Figures of scans of many spectra: one spectrum, two ways to look for bumps, ROC curves, and errors."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.errors import InputError
from pipelines.plots.arrays import finite, increasing
from pipelines.plots.hunt import INTERVAL
from pipelines.plots.page import legend, look, page, shown
from pipelines.plots.record import plain, target

LEAST_FALSE = 3e-3  # of background-only spectra that pass: below it a thousand spectra say nothing


def plot_two_scans(
    one: np.ndarray,
    others: Mapping[str, np.ndarray],
    has_bump: np.ndarray,
    path: str | os.PathLike[str],
    *,
    name: str = "ddp",
) -> dict[str, object]:
    """Draw the largest significance of one scan against those of others, spectra with and without a bump apart.

    Args:
        one: (N,), of `name`. others: (N,) each, by name: a panel for each. has_bump: (N,), the truth.

    Returns:
        What is drawn: `has_bump`, and by name (N,) values, as lists.
    """
    has = np.asarray(has_bump, bool)
    values = {key: _of(key, score, has) for key, score in {name: one, **others}.items()}
    numbers = plain({"has_bump": has, "significance": values})
    with page(target(path), numbers, (6.5 * len(others) + 0.5, 7.2)) as figure:
        panels = figure.subplots(1, len(others), sharey=True, squeeze=False)[0]
        top = 1.05 * max(score.max() for score in values.values())
        for axes, key in zip(panels, others):
            for which, colour, label in ((has, "C1", "with a bump"), (~has, "C0", "background alone")):
                axes.scatter(values[key][which], values[name][which], s=9, alpha=0.5, lw=0, color=colour, label=label)
            axes.plot([0, top], [0, top], ":", color="grey", lw=1.5)
            axes.set(xlabel=shown(key), xlim=(0, top), ylim=(0, top))
        panels[0].set_ylabel(f"largest significance, {name}")
        legend(figure, panels[:1])
    return numbers


def plot_found_bumps(
    ways: Mapping[str, np.ndarray], has_bump: np.ndarray, path: str | os.PathLike[str]
) -> dict[str, object]:
    """Draw ROC curves: the share of bumps found against that of background-only spectra taken for one.

    Args:
        ways: largest significance of every spectrum (N,), by name. has_bump: (N,), the truth.

    Returns:
        By name `auc`, and `false` and `found`, the points of the curve.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    has, curves = np.asarray(has_bump, bool), {}
    if not has.any() or has.all():
        raise InputError("has_bump: all spectra are alike, expected some with a bump and some without")
    for name, score in ways.items():
        score = _of(name, score, has)
        false, found, _ = roc_curve(has, score, drop_intermediate=False)
        curves[name] = {"auc": roc_auc_score(has, score), "false": false, "found": found}
    numbers = plain(curves)
    with page(target(path), numbers, (9, 7.5)) as figure:
        axes = figure.subplots()
        for order, (name, curve) in enumerate(curves.items()):
            colour, dash = look(order)
            label = shown(f"{name}: AUC {curve['auc']:.3f}")
            axes.plot(curve["false"], curve["found"], dash, color=colour, lw=2, drawstyle="steps-post", label=label)
        diagonal = np.geomspace(LEAST_FALSE, 1, 100)
        axes.plot(diagonal, diagonal, ":", color="grey", lw=1.5, label="chance")
        axes.set(xscale="log", xlim=(LEAST_FALSE, 1), ylim=(0, 1), ylabel="bumps found",
                 xlabel="background-only spectra taken for a bump")  # fmt: skip
        legend(figure, [axes], columns=2)
    return numbers


def plot_off(
    ideal: np.ndarray, off: np.ndarray, path: str | os.PathLike[str], *, edges: Any = (0, 2, 3, 4, 5, 6, 8, 12)
) -> dict[str, object]:
    """Draw predicted minus ideal significance of bumps against the ideal one: each, and mean and spread in bins.

    Args:
        ideal, off: (N,) at the bin where a bump was put. edges: of the bins; those of fewer than two bumps are left out.

    Returns:
        `ideal` and `off`, and of the bins `low`, `high`, `bumps`, `bias`, the mean of `off`, and `spread`, its deviation.
    """
    ideal, off = finite("ideal", ideal), finite("off", off)
    rows = []
    for low, high in itertools.pairwise(edges):
        inside = off[(ideal >= low) & (ideal < high)]
        if len(inside) > 1:
            rows.append((low, high, len(inside), inside.mean(), inside.std()))
    if not rows:
        raise InputError(f"ideal: no two of {len(ideal)} bumps in a bin of {edges}, expected more bumps")
    low, high, bumps, bias, spread = map(np.array, zip(*rows))
    numbers = plain(
        {"ideal": ideal, "off": off, "low": low, "high": high, "bumps": bumps, "bias": bias, "spread": spread}
    )
    with page(target(path), numbers, (9, 6.5)) as figure:
        axes = figure.subplots()
        axes.scatter(ideal, off, s=9, alpha=0.4, lw=0, color="C0", label="bumps")
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        axes.errorbar(middle, bias, spread, half, fmt="o", color="C1", lw=2, ms=7, label="mean and spread")
        axes.axhline(0, color="grey", ls=":", lw=1.5)
        reach = 1.1 * np.quantile(np.abs(off), 0.995)
        axes.set(xlabel="ideal significance, true background", ylabel="predicted - ideal", xlim=(edges[0], edges[-1]),
                 ylim=(-reach, reach))  # fmt: skip
        legend(figure, [axes])
    return numbers


def plot_scanned(
    counts: np.ndarray,
    edges: np.ndarray,
    significance: np.ndarray,
    path: str | os.PathLike[str],
    *,
    mass: float,
    width: float,
    title: str = "",
    xlabel: str = "mass",
) -> dict[str, object]:
    """Draw a spectrum, and below it the significance that a network gives every bin.

    Args:
        counts, significance: (B,). edges: (B + 1,). mass, width: where the bump is, and its standard deviation; one
            standard deviation to both sides is shaded.

    Returns:
        What is drawn.

    Example:
        >>> import tempfile
        >>> numbers = plot_scanned([9, 4], [0, 1, 2], [0.3, -0.2], tempfile.mkdtemp() + "/scan.png", mass=0.5, width=0.2)
        >>> numbers["interval"]
        [0.3, 0.7]
    """
    edges = increasing("edges", edges)
    counts, significance = (finite(name, x) for name, x in (("counts", counts), ("significance", significance)))
    for name, values in (("counts", counts), ("significance", significance)):
        if values.shape != (len(edges) - 1,):
            raise InputError(f"{name}: shape {values.shape}, expected ({len(edges) - 1},), one number for each bin")
    interval = (mass - width, mass + width)
    numbers = plain({"edges": edges, "counts": counts, "significance": significance, "interval": interval})
    with page(target(path), numbers, (9, 7.5)) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1])
        upper.errorbar(
            0.5 * (edges[1:] + edges[:-1]), counts, np.sqrt(counts), fmt="o", ms=4, color="black", label="events"
        )
        upper.set(ylabel="events / bin", yscale="log" if counts.min() > 0 else "linear", title=shown(title))
        lower.stairs(significance, edges, color="C0", lw=2)
        lower.axhline(0, color="grey", ls=":", lw=1.5)
        lower.set(ylabel="significance", xlabel=shown(xlabel), xlim=(edges[0], edges[-1]))
        for axes in (upper, lower):
            axes.axvspan(*interval, label="bump" if axes is upper else None, **INTERVAL)
        legend(figure, [upper])
    return numbers


def _of(name: str, score: np.ndarray, has: np.ndarray) -> np.ndarray:
    score = finite(name, score)
    if score.shape != has.shape:
        raise InputError(f"{name}: shape {score.shape}, expected {has.shape}, one for each spectrum")
    return score
