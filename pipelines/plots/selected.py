"""Figures of the events that a search selects: scores, features inside and outside the interval, and, with truth, what
they are."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.errors import InputError
from pipelines.plots.arrays import finite, increasing, named, of_events
from pipelines.plots.hunt import INTERVAL, bin_contents, per_width
from pipelines.plots.page import DASHES, legend, look, page, shown
from pipelines.plots.record import plain, target

SIDES = ("inside", "outside")
CENTRAL = (0.0005, 0.9995)  # shares of the scores between which most is to be seen
TRUTH = "TRUTH USED"  # what every figure says that was drawn with labels


def plot_scores(
    samples: Mapping[str, np.ndarray],
    thresholds: Mapping[str, float],
    path: str | os.PathLike[str],
    *,
    xlabel: str = "anomaly score",
    normalise: bool = False,
    bins: int = 80,
    mark: str = "",
) -> dict[str, object]:
    """Draw the distribution of scores, with the thresholds of the selections.

    Args:
        samples: scores (N,) by name. thresholds: by name. normalise: divide each sample by its number of events.
        bins: of equal width, from the smallest to the largest score; where the central 99.9 % of a sample and the
            thresholds take less than a tenth of that, over these. The figure says how many events are not in a bin.
        mark: a warning in the corner.

    Returns:
        `edges`, `thresholds`, and by sample `events`, `content`, and the numbers `below` and `above` the bins.

    Example:
        >>> import tempfile
        >>> scores = {"data": np.linspace(0, 1, 101)}
        >>> numbers = plot_scores(scores, {"99 %": 0.99}, tempfile.mkdtemp() + "/scores.png", bins=10)
        >>> sum(numbers["samples"]["data"]["content"])
        101.0
    """
    path = target(path)
    samples = {name: of_events(name, score) for name, score in named("samples", samples).items()}
    edges = _score_edges([*samples.values()], [*thresholds.values()], bins)
    found: dict[str, Any] = {}
    for name, score in samples.items():
        content = np.histogram(score, edges)[0] / (len(score) if normalise else 1)
        outside = {"below": np.count_nonzero(score < edges[0]), "above": np.count_nonzero(score > edges[-1])}
        found[name] = {"events": len(score), "content": content, **{side: int(n) for side, n in outside.items()}}
    about = {"xlabel": xlabel, "normalise": normalise, "edges": edges, "thresholds": dict(thresholds)}
    numbers = plain(about | {"samples": found})
    with page(path, numbers, (10, 6.6)) as figure:
        axis = figure.subplots()
        for order, (name, one) in enumerate(found.items()):
            colour, dash = look(order)
            drawn = {"ls": dash} if order else {"fill": True, "alpha": 0.4}
            axis.stairs(one["content"], edges, color=colour, lw=2, label=shown(name), **drawn)
        positive = np.concatenate([one["content"][one["content"] > 0] for one in found.values()])
        axis.set(yscale="log", ylim=(0.5 * positive.min(), 4 * positive.max()), xlim=edges[[0, -1]])
        for order, (name, value) in enumerate(thresholds.items()):
            axis.axvline(value, color="black", lw=1.6, ls=DASHES[order % 4], label=shown(f"cut, {name}"))
        axis.set(xlabel=shown(xlabel), ylabel="share of events / bin" if normalise else "events / bin")
        missing = [
            f"{name} {one[side]} {side}" for name, one in found.items() for side in ("below", "above") if one[side]
        ]
        axis.set_title(shown("not in a bin: " + ", ".join(missing)) if missing else "", fontsize=11)
        _mark(axis, mark)
        legend(figure, [axis])
    return numbers


def _score_edges(samples: Sequence[np.ndarray], thresholds: Sequence[float], bins: int) -> np.ndarray:
    low, high = min(score.min() for score in samples), max(score.max() for score in samples)
    central = [value for score in samples for value in np.quantile(score, CENTRAL, method="nearest")] + [*thresholds]
    if 0 < np.ptp(central) < 0.1 * (high - low):
        margin = 0.05 * np.ptp(central)
        low, high = max(low, min(central) - margin), min(high, max(central) + margin)
    if not low < high:
        raise InputError(f"scores: all are {low:g}, expected different ones")
    return np.linspace(low, high, bins + 1)


def _mark(axis: Any, mark: str) -> None:
    axis.set_title(shown(mark), loc="right", color="C2", fontweight="bold")


def plot_features(
    inside: np.ndarray,
    outside: np.ndarray,
    columns: Sequence[str],
    path: str | os.PathLike[str],
    *,
    number: int = 12,
    bins: int = 20,
) -> dict[str, object]:
    """Draw features of selected events inside and outside the interval, those first that differ most, with ratios.

    What differs most is what has the largest distance D of Kolmogorov and Smirnov between the two samples; p is its
    two-sided p-value for samples of one distribution, asymptotic. Events are not weighted.

    Args:
        inside: (Ni, F), outside: (No, F), in physical units. columns: F names.
        number: of features that are drawn, at most. bins: of equal width, between the smallest 0.5 % and the largest
            99.5 % quantile of either sample; of whole numbers so many at most, each with as many of them. Events beyond
            are in no bin, but in D.

    Returns:
        `events` inside and outside, and `features` in the order of their D, all of them: by name `distance`,
        `p_value`, `median_inside`, `median_outside`; those drawn have `edges`, `inside` and `outside` (shares of
        events per bin), `ratio` and `ratio_error` too (None where nothing is outside).

    Raises:
        InputError: for names that are not all different, or arrays of other shapes.

    Example:
        >>> import tempfile
        >>> rng = np.random.default_rng(1)
        >>> inside, outside = rng.normal(size=(50, 2)) + [0, 1], rng.normal(size=(500, 2))
        >>> numbers = plot_features(inside, outside, ["m_1", "m_2"], tempfile.mkdtemp() + "/features.png")
        >>> list(numbers["features"])
        ['m_2', 'm_1']
    """
    from scipy.stats import ks_2samp

    path, columns = target(path), list(columns)
    samples = dict(zip(SIDES, (finite(side, x) for side, x in zip(SIDES, (inside, outside)))))
    for side, x in samples.items():
        if x.ndim != 2 or x.shape[1] != len(columns) or len(set(columns)) < len(columns):
            raise InputError(f"{side}: shape {x.shape}, expected (N, {len(columns)}), a column for each of {columns}")
    found: dict[str, dict[str, Any]] = {}
    for column, x, y in zip(columns, *(sample.T for sample in samples.values())):
        test = ks_2samp(x, y, method="asymp")
        medians = {f"median_{side}": float(np.median(values)) for side, values in zip(SIDES, (x, y))}
        found[column] = {"distance": float(test.statistic), "p_value": float(test.pvalue), **medians}
    found = dict(sorted(found.items(), key=lambda item: -item[1]["distance"]))
    drawn = list(found)[:number]
    for column in drawn:
        at = columns.index(column)
        inner, outer = (sample[:, at] for sample in samples.values())
        found[column] |= _compared(inner, outer, bins)
    numbers = plain({"events": {side: len(x) for side, x in samples.items()}, "features": found})
    width = min(3, len(drawn))
    height = -(-len(drawn) // width)
    with page(path, numbers, (max(4.6 * width, 8), 4.3 * height + 0.6)) as figure:
        figure.get_layout_engine().set(hspace=0.0, h_pad=0.03)
        grid = figure.add_gridspec(height, width)
        for i, column in enumerate(drawn):
            cell = grid[i // width, i % width].subgridspec(2, 1, height_ratios=[2.2, 1], hspace=0)
            _draw_feature(figure, cell, column, found[column])
        legend(figure, figure.axes[:1])
    return numbers


def tiny(p_value: float) -> str:
    """
    >>> tiny(0.0123), tiny(1e-40)
    ('= 0.01', '< 1e-16')
    """
    return f"= {p_value:.1g}" if p_value > 1e-16 else "< 1e-16"


def _compared(x: np.ndarray, y: np.ndarray, bins: int) -> dict[str, np.ndarray]:
    low, high = (side(np.quantile(values, q) for values in (x, y)) for side, q in ((min, 0.005), (max, 0.995)))
    if not low < high:
        low, high = low - 0.5 * max(abs(low), 1), high + 0.5 * max(abs(high), 1)
    edges = np.linspace(low, high, bins + 1)
    if all((values == np.round(values)).all() for values in (x, y)):  # counts: as many of them in every bin
        step = max(1, math.ceil((np.round(high) - np.round(low) + 1) / bins))
        edges = np.arange(np.round(low), np.round(high) + step + 1, step) - 0.5
    n, m = (np.histogram(values, edges)[0] for values in (x, y))
    p, q = n / len(x), m / len(y)
    ratio = np.divide(p, q, out=np.full(len(p), np.nan), where=q > 0)
    relative = np.sqrt(1 / np.maximum(n, 1) + 1 / np.maximum(m, 1))
    return {"edges": edges, "inside": p, "outside": q, "ratio": ratio, "ratio_error": ratio * relative}


def _draw_feature(figure: Any, cell: Any, column: Any, one: Any) -> None:
    upper = figure.add_subplot(cell[0])
    lower = figure.add_subplot(cell[1], sharex=upper)
    edges = one["edges"]
    upper.stairs(one["outside"], edges, color="C0", fill=True, alpha=0.4, label="selected, outside the interval")
    upper.stairs(one["inside"], edges, color="C2", lw=2, label="selected, inside the interval")
    upper.set_title(f"D = {one['distance']:.2f}, p {tiny(one['p_value'])}", fontsize=12)
    upper.set(ylabel="share / bin", ylim=(0, 1.15 * max(one["inside"].max(), one["outside"].max(), 1e-9)))
    upper.tick_params(labelbottom=False)
    centres = (edges[1:] + edges[:-1]) / 2
    lower.axhline(1, color="grey", lw=1)
    lower.errorbar(centres, one["ratio"], one["ratio_error"], fmt="o", ms=3.5, lw=1, color="C2")
    lower.set(xlim=edges[[0, -1]], ylim=(0, 2.5), ylabel="ratio", xlabel=shown(column))
    beyond = centres[one["ratio"] > 2.5]
    lower.plot(beyond, np.full(len(beyond), 0.9), "^", color="C2", ms=5, transform=lower.get_xaxis_transform())
    lower.xaxis.get_major_locator().set_params(nbins=4)


def plot_working_points(
    background: np.ndarray,
    signals: Mapping[str, np.ndarray],
    cuts: Mapping[str, tuple[str, float]],
    path: str | os.PathLike[str],
    *,
    mark: str = TRUTH,
) -> dict[str, object]:
    """Draw the ROC curve of each signal, in each tail that is cut on, with the cuts of the selections marked.

    Args:
        background: scores (Nb,). signals: scores (Ns,) by name. cuts: tail ("upper" or "lower") and threshold by name;
            beyond the threshold is selected.

    Returns:
        `background_events`, and by signal `events`, and by tail `auc` (of minus the score for the lower one),
        `signal_efficiency`, `background_efficiency` (points of the curve), and `cuts`: by name these two.

    Example:
        >>> import tempfile
        >>> path, score = tempfile.mkdtemp() + "/roc.png", np.arange(100.0)
        >>> numbers = plot_working_points(score, {"Z'": score + 50}, {"90 %": ("upper", 89)}, path)
        >>> numbers["signals"]["Z'"]["upper"]["cuts"]["90 %"]["signal_efficiency"]
        0.6
    """
    path, background = target(path), of_events("background", background)
    tails = list(dict.fromkeys(tail for tail, _ in cuts.values())) or ["upper"]
    if set(tails) - {"upper", "lower"}:
        raise InputError(f"cuts: tails {', '.join(tails)}, expected upper or lower")
    found = {}
    for name, score in named("signals", signals).items():
        score = of_events(name, score)
        its = {tail: {n: value for n, (t, value) in cuts.items() if t == tail} for tail in tails}
        found[name] = {"events": len(score)} | {tail: _roc(background, score, tail, its[tail]) for tail in tails}
    numbers = plain({"background_events": len(background), "signals": found})
    with page(path, numbers, (9, 7)) as figure:
        axis, shapes = figure.subplots(), dict(zip(cuts, "*osD^vP" * (1 + len(cuts) // 7)))
        for order, (name, by_tail) in enumerate(found.items()):
            for line, tail in enumerate(tails):
                _draw_roc(
                    axis,
                    name if tails == ["upper"] else f"{name}, {tail} tail",
                    by_tail[tail],
                    look(order, line, len(tails)),
                    shapes,
                )
        eps, top = np.linspace(1e-3, 1, 400), max([100, *(max(line.get_ydata(), default=0) for line in axis.lines)])
        axis.plot(eps, 1 / eps, ":", color="grey", lw=1.5, label="chance")
        for name, shape in shapes.items():
            axis.plot([], [], shape, color="white", mec="black", ms=11, label=shown(f"cut, {name}"))
        axis.set(yscale="log", ylim=(1, 3 * top), xlim=(0, 1))
        axis.set(xlabel="$\\epsilon_S$", ylabel="1 / $\\epsilon_B$")
        _mark(axis, mark)
        legend(figure, [axis], columns=2)
    return numbers


def _roc(background: np.ndarray, signal: np.ndarray, tail: str, cuts: Mapping[str, float]) -> dict[str, object]:
    from pipelines.metrics import auc

    sign = 1.0 if tail == "upper" else -1.0
    samples = {"signal_efficiency": np.sort(sign * signal), "background_efficiency": np.sort(sign * background)}

    def passing(threshold: Any, side: Any) -> Any:
        return {name: 1 - np.searchsorted(score, threshold, side) / len(score) for name, score in samples.items()}

    thresholds = np.quantile(sign * signal, np.linspace(1, 0, 501), method="inverted_cdf")
    at = {name: passing(sign * value, "right") for name, value in cuts.items()}
    return {"auc": auc(sign * background, sign * signal), **passing(thresholds, "left"), "cuts": at}


def _draw_roc(axis: Any, name: Any, one: Any, how: Any, shapes: Any) -> None:
    (colour, dash), there = how, one["background_efficiency"] > 0
    s, b = one["signal_efficiency"][there], one["background_efficiency"][there]
    axis.plot(s, 1 / b, dash, color=colour, lw=2, label=shown(f"{name}: AUC {one['auc']:.3f}"))
    for cut, point in one["cuts"].items():
        if point["background_efficiency"] > 0:
            at = point["signal_efficiency"], 1 / point["background_efficiency"]
            axis.plot(*at, shapes[cut], color=colour, mec="black", ms=11, zorder=30, clip_on=False)


def plot_composition(
    edges: np.ndarray,
    contents: Mapping[str, np.ndarray],
    path: str | os.PathLike[str],
    *,
    reference: np.ndarray | None = None,
    interval: tuple[float, float] | None = None,
    xlabel: str = "mass [GeV]",
    mark: str = TRUTH,
) -> dict[str, object]:
    """Draw the selected spectrum as a stack of what its events truly are, with the interval shaded.

    Args:
        edges: (B + 1,) GeV. contents: (B,) selected events by class, from the bottom. reference: (B,), normalised.

    Returns:
        All arguments but the path and the mark.

    Example:
        >>> import tempfile
        >>> stack = {"background": np.array([20.0, 10.0]), "Z'": np.array([0.0, 5.0])}
        >>> numbers = plot_composition([3000, 3100, 3200], stack, tempfile.mkdtemp() + "/truth.png")
        >>> numbers["contents"]["Z'"]
        [0.0, 5.0]
    """
    path, edges = target(path), increasing("edges", edges)
    stack = dict(zip(named("contents", contents), bin_contents(edges, **contents)))
    about = {"edges": edges, "contents": stack, "reference": reference, "interval": interval, "xlabel": xlabel}
    density, label = per_width(edges)
    numbers = plain(about)
    with page(path, numbers, (10, 6.6)) as figure:
        axis, below = figure.subplots(), np.zeros(len(edges) - 1)
        for order, (name, content) in enumerate(stack.items()):
            top, colour = below + content * density, look(order)[0]
            said = shown(f"{name}: {content.sum():,.0f} events")
            axis.stairs(top, edges, baseline=below, fill=True, color=colour, alpha=0.55, label=said)
            if content.any():
                axis.stairs(top, edges, color=colour, lw=1.2)
            below = top
        if reference is not None:
            axis.stairs(np.asarray(reference) * density, edges, color="black", lw=2, label="reference, normalised")
        if interval is not None:
            axis.axvspan(*interval, label="interval", **INTERVAL)
        axis.set(xlim=edges[[0, -1]], ylim=(0, 1.2 * max(below.max(), 1e-9)), xlabel=shown(xlabel), ylabel=label)
        _mark(axis, mark)
        legend(figure, [axis])
    return numbers
