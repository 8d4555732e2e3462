"""The figures of a search, each with the numbers behind it, and one page with them all that needs no other file."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import InputError
from pipelines.outputs import new_directory
from pipelines.plots.page import legend, look, page, shown
from pipelines.plots.record import plain
from tuning import pareto
from tuning.importance import importance
from tuning.page import to_html, value_text, write_hparams
from tuning.results import Results, best_so_far
from tuning.schemas import numbered

__all__ = [
    "draw", "draw_history", "draw_importance", "draw_learning", "draw_parallel", "draw_pareto", "write_hparams"
]  # fmt: skip

log = logging.getLogger(__name__)

AXES = 12  # hyperparameters in the parallel coordinates, the most important ones
CURVES = 40  # trials among the learning curves, the best ones


def draw(results: Results, out: str | os.PathLike, seed: int = 0) -> list[str]:
    """Draw every figure of a search into a new folder, each with its numbers, and `index.html` with them all.

    `history`, `pareto` (where there are two figures of merit), `parallel` (coordinates), `importance` and `learning`; see
    `tuning.page.CAPTIONS`. A figure that these trials do not allow is left out, with a warning on the terminal and on the page.

    Returns the names of the files. Raises `InputError` if there is no completed trial, or if `out` exists.
    """
    if not results.completed:
        raise InputError(f"{results.out}: none of {len(results.trials)} trials has completed, nothing to draw")
    figures = {"history": draw_history, "learning": draw_learning, "parallel": draw_parallel}
    figures |= {"pareto": draw_pareto} if len(results.parsed.weights) > 1 else {}
    missing = {}
    with new_directory(out) as part:
        important = []
        try:
            important = draw_importance(results, part / "importance.png", seed=seed)["of"]
        except InputError as error:
            missing["importance"] = str(error)
        for name, figure in figures.items():
            try:
                figure(results, part / f"{name}.png", **({"important": important} if name == "parallel" else {}))
            except InputError as error:
                missing[name] = str(error)
        for name, reason in missing.items():
            log.warning("no figure %r: %s", name, reason)
        (part / "index.html").write_text(to_html(results, part, missing), encoding="utf-8")
        return sorted(path.name for path in part.iterdir())


def _title(results: Results) -> str | None:
    return "truth used: labels judged these trials" if results.truth_used else None


# -- figures -------------------------------------------------------------------------------------------


def draw_history(results: Results, path: str | os.PathLike) -> dict[str, Any]:
    """Draw the objective of every trial in the order of their ids, and the best so far (see `best_so_far`).

    Returns `trial`, `objective`, `epochs`, `best_so_far` (of completed trials), and `failed`, ids. Of a Pareto objective
    the hypervolume is drawn alone: single trials have no number of that kind.
    """
    done = sorted(results.completed, key=lambda trial: numbered(trial["trial"]))
    failed = sorted((trial["trial"] for trial in results.trials if trial["status"] != "COMPLETED"), key=numbered)
    names = sorted((trial["trial"] for trial in results.trials), key=numbered)
    place = {name: i + 1 for i, name in enumerate(names)}
    numbers = plain(
        {
            "objective_is": results.objective,
            "truth_used": results.truth_used,
            "trial": [trial["trial"] for trial in done],
            "objective": [trial["objective"] for trial in done],
            "epochs": [trial["epochs"] for trial in done],
            "best_so_far": [best for _, best in best_so_far(results)],
            "failed": failed,
        }
    )
    with page(Path(path), numbers, (9.5, 6.5)) as figure:
        axis = figure.subplots()
        x = [place[name] for name in numbers["trial"]]
        if not results.parsed.pareto:
            _draw_trials(axis, x, numbers["objective"], numbers["epochs"])
        axis.step(x, numbers["best_so_far"], where="post", color="black", lw=1.8, label="so far")
        if failed:
            bottom = axis.get_ylim()[0]
            axis.plot([place[name] for name in failed], [bottom] * len(failed), "x", color="C2", ms=8, label="failed")
        _logarithmic(axis, numbers["best_so_far" if results.parsed.pareto else "objective"])
        quantity = "hypervolume of the front" if results.parsed.pareto else results.objective
        axis.set(xlabel="trial", ylabel=shown(quantity), title=_title(results))
        legend(figure, [axis])
    return numbers


def _draw_trials(axis, x, objective, epochs) -> None:
    for order, end in enumerate(sorted(set(epochs))):
        chosen = [i for i, e in enumerate(epochs) if e == end]
        points = [x[i] for i in chosen], [objective[i] for i in chosen]
        axis.plot(*points, "o", ms=5 + 2 * order, color=look(order)[0], label=f"to epoch {end}", alpha=0.8)


def draw_pareto(results: Results, path: str | os.PathLike) -> dict[str, Any]:
    """Draw figures of merit against each other in pairs, with the Pareto front and its knee.

    Returns `terms`, `trial`, `values` (n, k), `front` and `knee` (ids), and `hypervolume` of the front on axes on which all
    completed trials span [0, 1], with its `reference`, 1.1 each. Raises `InputError` for a single figure of merit.
    """
    done, terms = results.completed, list(results.parsed.weights)
    if len(terms) < 2:
        raise InputError(f"{results.objective}: one figure of merit, expected at least two for a front")
    values = results.parsed.values([trial["metrics"] for trial in done])
    front, knee = pareto.fronts(values)[0], pareto.knee(values)
    reference = np.full(len(terms), 1.1)
    names = [trial["trial"] for trial in done]
    numbers = plain(
        {
            "terms": terms,
            "truth_used": results.truth_used,
            "trial": names,
            "values": values,
            "front": [names[i] for i in front],
            "knee": names[knee],
            "hypervolume": pareto.hypervolume(pareto.normalised(values), reference),
            "reference": reference,
        }
    )
    pairs = list(itertools.combinations(range(len(terms)), 2))
    width = min(3, len(pairs))
    height = -(-len(pairs) // width)
    with page(Path(path), numbers, (1.5 + 5.5 * width, 1.5 + 5 * height)) as figure:
        axes = figure.subplots(height, width, squeeze=False).flat
        for (i, j), axis in zip(pairs, axes):  # which takes no axis more than it has pairs
            _draw_pair(axis, values, front, knee, i, j, two=len(terms) == 2)
            _logarithmic(axis, values[:, i], "x")
            _logarithmic(axis, values[:, j])
            axis.set(xlabel=shown(terms[i]), ylabel=shown(terms[j]), title=_title(results))
        for axis in itertools.islice(axes, 0, None):
            axis.set_axis_off()
        legend(figure, figure.axes)
    return numbers


def _draw_pair(axis, values, front, knee, i, j, two):
    axis.plot(values[:, i], values[:, j], "o", color="grey", alpha=0.45, ms=5, label="trials")
    by_i = front[np.argsort(values[front, i], kind="stable")]
    # with more than two figures of merit the front is no line in any of these planes
    line = "-" if two else ""
    axis.plot(
        values[by_i, i], values[by_i, j], f"o{line}", color="C0", ms=8, drawstyle="steps-post", label="Pareto front"
    )
    axis.plot(values[knee, i], values[knee, j], "*", color="C2", ms=20, label="knee", zorder=5)


def draw_importance(results: Results, path: str | os.PathLike, seed: int = 0) -> dict[str, Any]:
    """Draw how much each figure of merit depends on each hyperparameter (see `tuning.importance.importance`).

    Returns `figures`, by figure of merit what `importance` returns, and `of`, hyperparameters, the most important first.
    """
    targets = list(results.parsed.weights) if results.parsed.pareto else ["objective"]
    found = {target: importance(results, target, seed) for target in targets}
    names = list(dict.fromkeys(name for one in found.values() for name in one["importance"]))
    largest = {name: max(one["importance"][name]["mean"] for one in found.values()) for name in names}
    ordered = sorted(names, key=lambda name: -largest[name])
    numbers = plain({"figures": found, "of": ordered, "truth_used": results.truth_used})
    with page(Path(path), numbers, (4.5 + 4.5 * len(found), 2.2 + 0.45 * len(ordered))) as figure:
        axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for axis, (target, one) in zip(axes, found.items()):
            means = [one["importance"][name]["mean"] for name in ordered]
            stds = [one["importance"][name]["std"] for name in ordered]
            weak = one["r2"] < 0.2
            axis.barh(ordered, means, xerr=stds, color="lightgrey" if weak else "C0", ecolor="black")
            axis.axvline(0, color="grey", lw=1)
            axis.invert_yaxis() if axis is axes[0] else None
            axis.yaxis.minorticks_off()
            said = f"R² = {one['r2']:.2f} of unseen trials" + (": says little" if weak else "")
            axis.set(xlabel="fall of R²", title=f"{shown(target)}\n{said}")
    return numbers


def draw_parallel(results: Results, path: str | os.PathLike, important: Sequence[str] = ()) -> dict[str, Any]:
    """Draw a line for every completed trial through its hyperparameters and objective, or figures of merit.

    Of more than 12 hyperparameters that vary those are drawn that come first in `important`. Returns `axes`: by name
    `values`, `log`, and `labels` where they are words; `trial` and `objective`.
    """
    done = results.completed
    varied = results.varied()
    ranked = sorted(varied, key=lambda name: important.index(name) if name in important else len(varied))
    names = [name for name in varied if name in ranked[:AXES]]
    if not names:
        raise InputError(f"{results.out}: all trials have the same hyperparameters")
    axes = {name: _axis([trial["hyperparameters"].get(name) for trial in done]) for name in names}
    terms = list(results.parsed.weights) if results.parsed.pareto else ["objective"]
    axes |= {term: _axis([trial["metrics"][term] for trial in done]) for term in terms}
    objective = results.parsed.scores([trial["metrics"] for trial in done])
    numbers = plain(
        {"axes": axes, "trial": [t["trial"] for t in done], "objective": objective, "left_out": ranked[AXES:]}
    )
    with page(Path(path), numbers, (3 + 1.7 * len(axes), 7)) as figure:
        axis = figure.subplots()
        _draw_lines(axis, axes, np.argsort(np.argsort(objective)))
        axis.set_title(_title(results))
    return numbers


def _axis(values: Sequence[object]) -> dict[str, Any]:
    """Places in [0, 1] of values on an axis of their own, numbers where they are such, else words, or logarithms."""
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        x = np.array(values, float)
        log = bool(x.min() > 0 and x.max() > 20 * x.min())
        scaled = np.log10(x) if log else x
        low, high = scaled.min(), scaled.max()
        place = (scaled - low) / (high - low) if high > low else np.full(len(x), 0.5)
        return {"values": list(values), "log": log, "place": place, "labels": [f"{x.min():.4g}", f"{x.max():.4g}"]}
    texts = [value_text(value) for value in values]
    labels = sorted(set(texts))
    place = np.array([labels.index(text) for text in texts]) / max(1, len(labels) - 1)
    return {"values": texts, "log": False, "place": place, "labels": labels}


def _draw_lines(axis, axes: Mapping[str, Mapping], rank: np.ndarray) -> None:
    import matplotlib

    x, colours = np.arange(len(axes)), matplotlib.colormaps["viridis"]
    places = np.array([one["place"] for one in axes.values()])
    for trial in np.argsort(-rank):
        share = rank[trial] / max(1, len(rank) - 1)
        axis.plot(x, places[:, trial], color=colours(share), lw=2.5 if not rank[trial] else 1, alpha=0.9 - 0.6 * share)
    for at, one in zip(x, axes.values()):
        axis.axvline(at, color="black", lw=1)
        labels = one["labels"]
        if len(labels) > 8:
            labels = [labels[0], labels[-1]]
        for label, height in zip(labels, np.linspace(0, 1, len(labels)) if len(labels) > 1 else [0.5]):
            axis.text(at + 0.04, height, shown(label), va="center", fontsize=11, zorder=4, bbox={"fc": "white", "ec": "none", "pad": 1})  # fmt: skip
    ticks = [shown(f"{name}{' (log)' if one['log'] else ''}") for name, one in axes.items()]
    axis.set_xticks(x, ticks, rotation=30, ha="right")
    axis.xaxis.minorticks_off()
    axis.set_yticks([])
    axis.set(xlim=(-0.1, len(axes) - 0.4), ylim=(-0.05, 1.05))


def draw_learning(results: Results, path: str | os.PathLike) -> dict[str, Any]:
    """Draw the validation loss, or else the training loss, by epoch of the best trials.

    Returns `term`, `best`, its id, and `trials`: by id `epoch` and `values`. Raises `InputError` where no trial has kept its epochs.
    """
    best = results.best
    if best is None:
        raise InputError(f"{results.out}: no trial has completed, so none has a loss to draw")
    first = best["trial"]
    chosen = [best, *(trial for trial in results.completed if trial["trial"] != first)][:CURVES]
    rows = {trial["trial"]: results.history(trial) for trial in chosen}
    term = next((t for t in ("val_loss", "loss") if any(t in row for one in rows.values() for row in one)), None)
    if term is None:
        raise InputError(f"{results.out}: no trial has kept the losses of its epochs")
    curves = {}
    for name, one in rows.items():
        main = [row for row in one if row.get(term) is not None]
        if main:
            curves[name] = {"epoch": [int(row["epoch"]) + 1 for row in main], "values": [row[term] for row in main]}
    numbers = plain({"term": term, "trials": curves, "best": first})
    with page(Path(path), numbers, (9.5, 6.5)) as figure:
        axis = figure.subplots()
        for name, curve in reversed(curves.items()):
            style = {"color": "C2", "lw": 2.5, "label": f"best: trial {name}", "zorder": 3} if name == first else {"color": "grey", "lw": 1, "alpha": 0.6}  # fmt: skip
            axis.plot(curve["epoch"], curve["values"], marker="o", ms=4, **style)
        _logarithmic(axis, [v for curve in curves.values() for v in curve["values"]])
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set(xlabel="epoch", ylabel=shown(term), title=_title(results))
        legend(figure, [axis])
    return numbers


def _logarithmic(axis, values, which: str = "y") -> None:
    values = [value for value in values if value is not None]
    if values and min(values) > 0 and max(values) > 30 * min(values):
        axis.set_yscale("log") if which == "y" else axis.set_xscale("log")
