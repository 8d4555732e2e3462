"""The figure of a bump hunt in a spectrum: events, background and bump, and the significance of every bin."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.plots.arrays import increasing
from pipelines.plots.errors import poisson_errors
from pipelines.plots.hunt import INTERVAL, bin_contents
from pipelines.plots.page import legend, page, shown
from pipelines.plots.record import plain, target

Array = NDArray[np.float64]


def plot_spectrum_fit(
    edges: ArrayLike,
    observed: ArrayLike,
    expected: ArrayLike,
    path: str | os.PathLike[str],
    *,
    interval: tuple[float, float] | None = None,
    excluded: tuple[float, float] | None = None,
    background: str = "background",
    title: str = "",
    said: str = "",
    xlabel: str = "mass [GeV]",
    unit: str = "GeV",
) -> dict[str, object]:
    """Draw a spectrum with its background, and below the significance of every bin.

    The significance is the signed root of the Poisson deviance, sign(n - mu) sqrt(2 [n ln(n / mu) - n + mu]). Events are
    drawn per unit of mass. Bars are the 68 % intervals of Poisson numbers.

    Args:
        edges: (B + 1,). observed, expected: (B,) events.
        interval: the most significant window; None if there is none. excluded: range that was not fitted.
        background: what the line is called. title: above the figure. said: of the bump, in the figure.

    Returns:
        The arguments, `error_low`, `error_high` and `significance` of every bin. Raises `InputError` for arrays that do not
        fit.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/spectrum.png"
        >>> found = plot_spectrum_fit([0, 1, 2], [120, 80], [100, 100], path)
        >>> [round(value, 2) for value in found["significance"]]
        [1.94, -2.07]
    """
    from pipelines.bumphunt.batched_fit import bin_significance

    png, borders = target(path), increasing("edges", np.asarray(edges, np.float64))
    given = {"observed": np.asarray(observed, np.float64), "expected": np.asarray(expected, np.float64)}
    counts, line = bin_contents(borders, **given)
    low, high = poisson_errors(counts)
    arrays: dict[str, Any] = {
        "edges": borders,
        "observed": counts,
        "error_low": low,
        "error_high": high,
        "expected": line,
        "significance": bin_significance(counts, line),
        "interval": interval,
        "excluded": excluded,
        "background": background,
        "xlabel": xlabel,
    }
    numbers: dict[str, object] = plain(arrays)
    with page(png, numbers, (10, 8.6)) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        figure.get_layout_engine().set(hspace=0.0, h_pad=0.03)
        _draw_events(upper, arrays, unit)
        _draw_significance(lower, arrays)
        for axis in (upper, lower):
            label = "most significant window" if axis is upper else None
            if interval is not None:
                axis.axvspan(*interval, label=label, **INTERVAL)
                for end in interval:
                    axis.axvline(end, color="C2", lw=1.2)
        if title:
            upper.set_title(shown(title))
        if said:
            lines = "\n".join(shown(line) for line in said.splitlines())
            upper.text(0.97, 0.95, lines, ha="right", va="top", transform=upper.transAxes, fontsize=14)
        lower.set(xlabel=shown(xlabel), xlim=borders[[0, -1]])
        if borders[0] > 0 and borders[-1] > 6 * borders[0]:
            _logarithmic(lower)
        legend(figure, [upper])
    return numbers


def _draw_events(axis: Any, found: dict[str, Any], unit: str) -> None:
    edges, widths = found["edges"], np.diff(found["edges"])
    line, content = found["expected"] / widths, found["observed"] / widths
    bars = np.array([found["error_low"], found["error_high"]]) / widths
    there = found["observed"] > 0
    centres = (edges[1:] + edges[:-1]) / 2
    axis.stairs(line, edges, color="C0", lw=2, label=shown(str(found["background"])), baseline=None)
    if found["excluded"] is not None:
        low, high = found["excluded"]
        inside = (edges[:-1] >= low - 1e-9) & (edges[1:] <= high + 1e-9)
        if inside.any():
            first, last = np.flatnonzero(inside)[[0, -1]]
            axis.stairs(line[first : last + 1], edges[first : last + 2], color="C1", lw=3, ls="--", baseline=None,
                        label="not fitted here")  # fmt: skip
    drawn = {"fmt": "o", "color": "black", "ms": 4, "lw": 1.1, "zorder": 50, "label": "observed"}
    axis.errorbar(centres[there], content[there], bars[:, there], **drawn)
    positive = np.concatenate([content[there], line[line > 0]])
    if positive.max() > 30 * positive.min():
        lowest = min(content[there].min(), max(line[line > 0].min(), 1e-3 * content[there].min()))
        axis.set(yscale="log", ylim=(0.4 * lowest, 6 * positive.max()))
    else:
        axis.set_ylim(0, 1.25 * positive.max())
    axis.set_ylabel(f"events / {unit}")


def _draw_significance(axis: Any, found: dict[str, Any]) -> None:
    values = found["significance"]
    axis.stairs(values, found["edges"], fill=True, color="C0", alpha=0.55)
    axis.axhline(0, color="grey", lw=1)
    far = max(3.4, 1.15 * float(np.abs(values).max()))
    for line in (-2, 2):
        axis.axhline(line, color="grey", lw=0.8, ls=":")
    axis.set(ylim=(-far, far), ylabel="significance\nof the bin")


def _logarithmic(axis: Any) -> None:
    """A logarithmic mass axis whose ticks are plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
