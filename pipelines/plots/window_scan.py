"""The figure of a scan of windows: the local p-value of every window against mass, and how many events are selected there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from pipelines.plots.page import legend, look, page, shown
from pipelines.plots.record import plain, target

SIGMAS = (1, 2, 3, 4, 5, 6, 7, 8)
FAR_SIGMAS = (5, 10, 15, 20, 25, 30, 35)  # where a p-value is beyond those


def plot_window_scan(
    low: ArrayLike,
    high: ArrayLike,
    local_p_value: ArrayLike,
    selected: ArrayLike,
    expected: ArrayLike,
    error: ArrayLike,
    path: str | os.PathLike[str],
    *,
    percentile: ArrayLike | None = None,
    title: str = "",
    said: str = "",
) -> dict[str, object]:
    """Draw the local p-value of every window against mass, and below selected over expected events.

    Args:
        low, high: (W,) ends of the windows, GeV. local_p_value: (W,) in (0, 1].
        selected: (W,) events. expected, error: (W,) of background, and its standard deviation.
        percentile: (W,) of the cuts; each has its colour. title: above the figure. said: of the result, in it.

    Returns:
        The arguments, and `ratio` and `ratio_error`, of selected over expected events.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/windows.png"
        >>> found = plot_window_scan([3000, 3400], [3400, 3800], [0.4, 0.001], [100, 140], [98, 100], [5, 5], path)
        >>> [round(ratio, 2) for ratio in found["ratio"]]
        [1.02, 1.4]
    """
    png, names = target(path), ("low", "high", "local_p_value", "selected", "expected", "error")
    given = (low, high, local_p_value, selected, expected, error)
    arrays: dict[str, Any] = {name: np.asarray(value, np.float64) for name, value in zip(names, given)}
    many = len(arrays["low"])
    arrays["percentile"] = np.zeros(many) if percentile is None else np.asarray(percentile, np.float64)
    b, n = np.maximum(arrays["expected"], 1e-9), arrays["selected"]
    arrays["ratio"], arrays["ratio_error"] = n / b, np.sqrt(np.maximum(n, 1.0)) / b
    numbers: dict[str, object] = plain(arrays)
    with page(png, numbers, (10, 8.6)) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
        figure.get_layout_engine().set(hspace=0.0, h_pad=0.03)
        for number, one in enumerate(np.unique(arrays["percentile"])):
            colour, _ = look(number)
            name = f"percentile {one:g}" if one else "windows"
            _draw(upper, lower, arrays, arrays["percentile"] == one, colour, name)
        smallest = max(float(arrays["local_p_value"].min()), 1e-300)
        _levels(upper, smallest)
        lower.axhline(1.0, color="0.4", lw=1)
        upper.set(ylabel="local p-value", yscale="log")
        lower.set(xlabel="mass [GeV]", ylabel="selected / expected", xlim=(arrays["low"].min(), arrays["high"].max()))
        if title:
            upper.set_title(shown(title))
        if said:
            upper.text(0.03, 0.05, shown(said), ha="left", va="bottom", transform=upper.transAxes, fontsize=14)
        legend(figure, [upper])
    return numbers


def _draw(upper: Any, lower: Any, found: dict[str, Any], which: np.ndarray, colour: str, name: str) -> None:
    low, high = found["low"][which], found["high"][which]
    p = np.maximum(found["local_p_value"][which], 1e-300)
    centre = (low + high) / 2
    upper.hlines(p, low, high, color=colour, lw=2.5, label=name)
    upper.plot(centre, p, color=colour, lw=1, marker="o", ms=5)
    band = found["error"][which] / np.maximum(found["expected"][which], 1e-9)
    lower.bar(centre, 2 * band, high - low, 1 - band, color=colour, alpha=0.15, lw=0)
    lower.errorbar(
        centre,
        found["ratio"][which],
        found["ratio_error"][which],
        (high - low) / 2,
        color=colour,
        fmt="o",
        ms=4,
        lw=1.3,
    )


def _levels(axis: Any, smallest: float) -> None:
    """Mark whole numbers of standard deviations, as far as the p-values go."""
    most = float(norm.isf(smallest))
    marked: Sequence[int] = [z for z in (SIGMAS if most < SIGMAS[-1] + 0.6 else FAR_SIGMAS) if z <= most + 1]
    for z in marked:
        axis.axhline(norm.sf(z), color="0.6", lw=0.9, ls=":")
        axis.text(0.995, norm.sf(z), rf"{z}$\sigma$", ha="right", va="bottom", fontsize=12, color="0.4",
                  transform=axis.get_yaxis_transform())  # fmt: skip
    axis.set_ylim(min(norm.sf(max([*marked, 1]) + 0.6), smallest / 10), 1.5)
