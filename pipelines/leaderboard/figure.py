"""The figure of a leaderboard: box-and-whisker plots of models, with their numbers beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import InputError
from pipelines.leaderboard.improvement import improvements
from pipelines.leaderboard.ranking import by_figure, check_top, rankings
from pipelines.leaderboard.table import Table, known
from pipelines.outputs import check_new
from pipelines.plots.page import page
from pipelines.plots.record import plain

PANELS = {
    "AUC": "AUC",
    "1e-2": r"$\epsilon_S$ at $\epsilon_B = 10^{-2}$",
    "1e-3": r"$\epsilon_S$ at $\epsilon_B = 10^{-3}$",
    "1e-4": r"$\epsilon_S$ at $\epsilon_B = 10^{-4}$",
    "improvement": r"total improvement $\epsilon_S \, \epsilon_B^{-1/2}$",
}


def plot(
    table: Table, path: str | os.PathLike[str], *, models: Sequence[str] | None = None, way: str = "mean", top: int = 5
) -> dict[str, object]:
    """Draw box-and-whisker plots of models, and write their numbers to a JSON file beside the PNG.

    As arXiv 2105.14027 figs. 10 to 17: a box over the inner half of all signals in all channels, a line at the
    median, whiskers to the last value within 1.5 boxes of the box, circles beyond. The last panel is of total
    improvements, of signals. Only models with all values are in a panel.

    Args:
        table: as read. path: of the PNG, new. models: which; by default the `top` of each figure, ranked by
            `way`, and of the total improvement, by its median; they are coloured in that panel.

    Returns:
        What the JSON holds: by panel and model, `mean`, `median`, `box`, `whiskers`, `outliers`, `values` counted.

    Raises `InputError` if `path` exists, does not end in .png or cannot be written, or there is no such model or way.
    """
    path = _check_png(path)
    check_top(top)
    ranked, gains = rankings(table), improvements(table)
    best = {figure: [model for model, _ in ranking.order(way)[:top]] for figure, ranking in ranked.items()}
    best["improvement"] = [gains.models[m] for m in gains.order()[:top]]
    names = list(dict.fromkeys(model for panel in best.values() for model in panel))
    names = known("model", table.model, models) if models is not None else names
    panels = {figure: rows for figure, (rows, _) in by_figure(table).items()}
    panels["improvement"] = dict(zip(gains.models, gains.best))
    boxes = {panel: _boxes(rows, names) for panel, rows in panels.items()}
    found = plain({panel: {model: _numbers(box) for model, box in rows.items()} for panel, rows in boxes.items()})
    with page(path, found, (30, 3 + 0.55 * len(names)), style={}, dpi=60, replace=False) as sheet:
        _draw(sheet, boxes, names, best if models is None else {})
    return found


def _check_png(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: expected a name that ends in .png")
    check_new(path.with_suffix(".json"))
    return check_new(path)


def _boxes(rows: Mapping[str, np.ndarray], names: Iterable[str]) -> dict[str, dict[str, Any]]:
    from matplotlib.cbook import boxplot_stats

    return {name: boxplot_stats(rows[name])[0] | {"values": len(rows[name])} for name in names if name in rows}


def _numbers(box: Mapping[str, Any]) -> dict[str, object]:
    return {
        "mean": box["mean"],
        "median": box["med"],
        "box": [box["q1"], box["q3"]],
        "whiskers": [box["whislo"], box["whishi"]],
        "outliers": sorted(box["fliers"]),
        "values": box["values"],
    }


def _draw(
    sheet: Any, boxes: Mapping[str, Mapping[str, Any]], names: Sequence[str], best: Mapping[str, Sequence[str]]
) -> None:
    axes = sheet.subplots(1, len(boxes), sharey=True)
    for axis, (panel, rows) in zip(axes, boxes.items()):
        places = [names.index(name) for name in rows]
        if rows:
            _bars(axis, list(rows.values()), places, [name in best.get(panel, rows) for name in rows])
        axis.set_xlabel(PANELS[panel], loc="center")
        axis.grid(axis="x", alpha=0.4)
        if panel == "improvement":
            axis.set_xscale("symlog", linthresh=1)
            axis.set_xlim(left=0)
            axis.axvline(1, color="black", linestyle="--", linewidth=1)
        else:
            axis.set_xlim(-0.03, 1.03)
    axes[0].set_yticks(range(len(names)), names, fontsize=16)
    axes[0].set_ylim(len(names) - 0.4, -0.6)  # the best on top
    axes[0].tick_params(axis="y", which="minor", left=False, right=False)


def _bars(axis: Any, boxes: Sequence[dict[str, Any]], places: Sequence[int], coloured: Sequence[bool]) -> None:
    """Draw boxes, coloured where the model is among the best of the panel, grey elsewhere."""
    parts = axis.bxp(
        boxes,
        positions=places,
        widths=0.6,
        orientation="horizontal",
        manage_ticks=False,
        patch_artist=True,
        medianprops={"color": "black", "linewidth": 2},
        flierprops={"marker": "o", "markersize": 5, "markerfacecolor": "none"},
    )
    for patch, is_best in zip(parts["boxes"], coloured):
        patch.set_facecolor("#5790fc" if is_best else "#d9d9d9")  # CMS's blue
