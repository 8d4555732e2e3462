"""The figure of what a model makes of its input: distributions before and after, and by how much medians move."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.errors import InputError
from pipelines.plots.arrays import of_events
from pipelines.plots.page import NOTES, WEIGHTS, legend, look, page, shown
from pipelines.plots.record import plain, target

KINDS = ("input", "reconstructed")


def plot_observables(
    original: np.ndarray,
    reconstruction: np.ndarray,
    columns: Sequence[str],
    label_of: np.ndarray,
    path: str | os.PathLike[str],
    *,
    names: Mapping[int, str],
    bins: int = 40,
    unweighted: bool = False,
) -> dict[str, object]:
    """Draw the input (outline) and the reconstructed (filled) distribution of every observable, and the median pulls.

    pull = (median(reconstructed) - median(input)) / std(input), per class and observable: figure 3 of the VAE with
    latent bump hunting (arXiv 2103.06595). All events count alike. Histograms are normalised to the events of a class;
    a triangle is a reconstruction that goes on above the panel.

    Args:
        original, reconstruction: (N, F), in physical units. columns: F names.
        label_of: (N,) class of each event. names: the classes to draw, by their number in `label_of`.
        bins: of equal width, from the smallest 0.5 % to the largest 99.5 % quantile of a class's input.
        unweighted: the events have weights, which are ignored here; the figure and `weights` state it.

    Returns:
        `weights`, "none" or "not used"; `pulls` by class and column (None where the input has no spread), `events` by class, and by column `edges`,
        and by class `input` and `reconstructed` (share of events per bin), `input_outside` and
        `reconstructed_outside` (share of events in no bin), `input_median`, `reconstructed_median`, `input_std`.

    Example:
        >>> import tempfile
        >>> x = np.array([[1.0], [2.0], [3.0]])
        >>> numbers = plot_observables(x, x + 1, ["m"], np.zeros(3), tempfile.mkdtemp() + "/m.png", names={0: "QCD"})
        >>> round(numbers["pulls"]["QCD"]["m"], 3)
        1.225
    """
    path, columns = target(path), list(columns)
    classes = _classes(original, reconstruction, columns, np.asarray(label_of), names)
    of_column = {
        c: _observable([(n, x[:, i], y[:, i]) for n, (x, y) in classes.items()], bins) for i, c in enumerate(columns)
    }
    pulls = {name: {column: of_column[column]["classes"][name]["pull"] for column in columns} for name in classes}
    events = {name: len(x) for name, (x, _) in classes.items()}
    numbers = plain({"weights": WEIGHTS[unweighted], "pulls": pulls, "events": events, "columns": of_column})
    width = min(6 if len(columns) > 12 else 3, len(columns))
    height = -(-len(columns) // width)
    with page(path, numbers, (max(4.4 * width, 8), 3.6 * height + 4), note=NOTES[unweighted]) as figure:
        grid = figure.add_gridspec(height + 1, width, height_ratios=[1] * height + [1.05])
        for i, (column, found) in enumerate(of_column.items()):
            _draw_observable(figure.add_subplot(grid[i // width, i % width]), column, found)
        _draw_pulls(figure.add_subplot(grid[height, :]), pulls, columns)
        pairs = [shown(f"{name}, {kind}") for name in classes for kind in KINDS]
        legend(figure, figure.axes[:1], pairs, 4)
    return numbers


def _classes(
    original: Any, reconstruction: Any, columns: Any, label_of: Any, names: Any
) -> dict[str, list[np.ndarray]]:
    """Input and reconstruction of each class by its name, both (n, F)."""
    shape = (len(label_of), len(columns))
    original, reconstruction = np.asarray(original), np.asarray(reconstruction)
    for what, values in (("original", original), ("reconstruction", reconstruction)):
        if values.shape != shape:
            raise InputError(f"{what}: shape {values.shape}, expected {shape}: labels x columns")
    if len(set(columns)) < len(columns) or not columns or not len(names) or len(set(names.values())) < len(names):
        raise InputError(f"columns {columns}, names {dict(names)}: expected at least one of each, all different")
    return {
        name: [
            np.column_stack(
                [of_events(f"{kind} {c} of {name}", x) for c, x in zip(columns, values[label_of == label].T)]
            )
            for kind, values in zip(KINDS, (original, reconstruction))
        ]
        for label, name in names.items()
    }


def _observable(classes: Sequence[tuple[str, np.ndarray, np.ndarray]], bins: int) -> dict[str, Any]:
    low = min(np.quantile(x, 0.005) for _, x, _ in classes)
    high = max(np.quantile(x, 0.995) for _, x, _ in classes)
    if not low < high:
        low, high = low - 0.5 * max(abs(low), 1), high + 0.5 * max(abs(high), 1)
    edges, found = np.linspace(low, high, bins + 1), {}
    for name, x, y in classes:
        one: dict[str, Any] = {}
        for kind, values in zip(KINDS, (x, y)):
            one[kind] = np.histogram(values, edges)[0] / len(values)
            one[f"{kind}_outside"] = float(np.mean((values < low) | (values > high)))
            one[f"{kind}_median"] = float(np.median(values))
        one["input_std"] = float(np.std(x))
        # a constant's std is not always exactly 0: its mean is rounded
        spread = one["input_std"] if x.min() < x.max() else 0.0
        one["pull"] = (one["reconstructed_median"] - one["input_median"]) / spread if spread else None
        found[name] = one
    return {"edges": edges, "classes": found}


def _draw_observable(axis: Any, column: Any, found: Any) -> None:
    edges, classes = found["edges"], found["classes"]
    for order, (name, one) in enumerate(classes.items()):
        colour, dash = look(order)
        label = {kind: shown(f"{name}, {kind}") for kind in KINDS}
        axis.stairs(one["reconstructed"], edges, fill=True, color=colour, alpha=0.35, label=label["reconstructed"])
        axis.stairs(one["input"], edges, color=colour, ls=dash, lw=1.8, label=label["input"])
    # A reconstruction that collapses to one value would flatten all inputs: three times their height is enough.
    tallest = {kind: max(one[kind].max() for one in classes.values()) for kind in KINDS}
    top = min(1.1 * max(tallest.values()), 3 * tallest["input"])
    axis.set_ylim(0, top)
    centres = (edges[1:] + edges[:-1]) / 2
    for order, one in enumerate(classes.values()):
        cut = one["reconstructed"] > top
        axis.plot(centres[cut], np.full(cut.sum(), 0.96 * top), "^", color=look(order)[0], ms=6)
    axis.set(xlabel=shown(column), ylabel="share / bin")
    axis.xaxis.get_major_locator().set_params(nbins=5)


def _draw_pulls(axis: Any, pulls: Any, columns: Any) -> None:
    axis.axhline(0, color="grey", lw=1)
    for order, (name, pull) in enumerate(pulls.items()):
        at = np.arange(len(columns)) + 0.12 * (order - (len(pulls) - 1) / 2)
        values = np.array(list(pull.values()), float)  # None becomes NaN
        axis.plot(at, values, "osD^vP"[order % 6], color=look(order)[0], ms=8, label=shown(name))
    far = max([abs(p) for pull in pulls.values() for p in pull.values() if p is not None], default=0)
    axis.set_ylim(-1.25 * max(far, 0.08), 1.25 * max(far, 0.08))
    many = len(columns) > 8 or sum(map(len, columns)) > 70
    axis.set_xticks(np.arange(len(columns)), [shown(c) for c in columns], rotation=90 if many else 0)
    axis.xaxis.minorticks_off()
    axis.set_xlim(-0.5, len(columns) - 0.5)
    axis.set(ylabel="median pull", title="(median reconstructed - median input) / std input")
