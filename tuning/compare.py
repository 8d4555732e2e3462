"""Searches side by side, in one page: how far each one came, after how many trials and how much time, and its best."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import InputError
from pipelines.outputs import new_directory
from pipelines.plots.page import legend, look, page, shown
from pipelines.plots.record import plain
from tuning.page import value_text
from tuning.results import Results, best_so_far, load_results


def compare(searches: Sequence[str | os.PathLike], out: str | os.PathLike) -> dict[str, object]:
    """Write a page that sets several searches side by side, `index.html` in a new folder, and its figure with numbers.

    Args:
        searches: folders of searches, finished or not; two at least.
        out: new folder.

    Returns:
        `searches`, what `side` returns of each; `files`, the names of what was written; `comparable`, whether all had the
        same objective and the same events. Searches of other objectives or events are drawn in figures of their own.

    Raises `InputError` for fewer than two searches, one twice, one without a completed trial, and if `out` exists.

    Example: `compare(["hyperband", "random"], "compared")["comparable"]`
    """
    folders = [Path(one) for one in searches]
    if len(folders) < 2 or len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("compare: expected two searches or more, and none twice")
    found = dict(zip(_names(folders), map(load_results, folders)))
    for results in found.values():
        if not results.completed:
            raise InputError(f"{results.out}: none of {len(results.trials)} trials has completed, nothing to compare")
    sides = {name: side(results) for name, results in found.items()}
    alike: dict[tuple[object, ...], list[str]] = {}
    for name, results in found.items():
        alike.setdefault((results.objective, *_events(results)), []).append(name)
    groups = list(alike.values())
    with new_directory(out) as part:
        for number, names in enumerate(groups, 1):
            draw_progress({name: found[name] for name in names}, part / f"progress_{number}.png")
        (part / "index.html").write_text(_to_html(found, sides, groups, part), encoding="utf-8")
        files = sorted(path.name for path in part.iterdir())
    return {"out": str(out), "searches": sides, "comparable": len(groups) == 1, "files": files}


def _events(results: Results) -> tuple[object, ...]:
    """Return what identifies the events that a search judged its trials by, where it is written down."""
    kept = [results.asked.get(name) for name in ("data", "validation")]
    return tuple(one.get("sha256") if isinstance(one, Mapping) else None for one in kept) + (results.mass_range,)


def _names(folders: Sequence[Path]) -> list[str]:
    """Return short names of folders: the last part, or the path where two would be the same."""
    last = [folder.resolve().name for folder in folders]
    return [name if last.count(name) == 1 else str(folder) for name, folder in zip(last, folders)]


def side(results: Results) -> dict[str, object]:
    """Return what stands beside other searches: what was asked for, how much was done, and the best trial."""
    best = results.best or {}
    return plain({
        "model": results.asked.get("model"), "objective": results.objective, "algorithm": results.asked.get("algorithm"),
        "trials": len(results.trials), "asked": results.asked.get("trials"),
        "failed": len(results.trials) - len(results.completed), "epochs": _epochs(results), "seconds": sum(_seconds(results)),
        "truth_used": results.truth_used, "best": best.get("trial"), "metrics": best.get("metrics"),
        "hyperparameters": best.get("hyperparameters"),
    })  # fmt: skip


def _epochs(results: Results) -> int:
    """Return how many epochs were trained: those of a promoted trial from where it went on."""
    trials: Sequence[Mapping[str, Any]] = results.trials
    return sum(trial["epochs"] - (trial.get("initial_epoch") or 0) for trial in trials)


def _seconds(results: Results) -> list[float]:
    """Return the time that each completed trial took, in the order of their ids."""
    done: list[Mapping[str, Any]] = sorted(results.completed, key=lambda trial: str(trial["trial"]))
    return [float(trial.get("seconds") or 0.0) for trial in done]


def draw_progress(searches: Mapping[str, Results], path: str | os.PathLike) -> dict[str, object]:
    """Draw the best so far of searches of one objective, against completed trials and against the time they took.

    Returns `objective`, and for each search `trial`, `best_so_far` and `seconds`, the time of all trials until then, added up.
    """
    first = next(iter(searches.values()))
    numbers = plain({
        "objective": first.objective,
        "quantity": "hypervolume of the front" if first.parsed.pareto else first.objective,
        "searches": {
            name: {"trial": [trial for trial, _ in best_so_far(one)], "best_so_far": [best for _, best in best_so_far(one)],
                   "seconds": np.cumsum(_seconds(one))}
            for name, one in searches.items()
        },
    })  # fmt: skip
    with page(Path(path), numbers, (13, 6.5)) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        for order, (name, one) in enumerate(numbers["searches"].items()):
            colour, dash = look(order)
            style = {"where": "post", "color": colour, "ls": dash, "lw": 2, "label": shown(name)}
            axes[0].step(range(1, len(one["best_so_far"]) + 1), one["best_so_far"], **style)
            axes[1].step(one["seconds"], one["best_so_far"], **style)
        axes[0].set(xlabel="completed trials", ylabel=shown(numbers["quantity"]))
        axes[1].set(xlabel="time of the trials [s]")
        legend(figure, list(axes))
    return numbers


def _to_html(
    found: Mapping[str, Results], sides: Mapping[str, Mapping], groups: Sequence[Sequence[str]], folder: Path
) -> str:
    from pipelines.report.page import Page

    made = Page(f"{len(found)} searches side by side", ", ".join(found))
    if told := [name for name, results in found.items() if results.truth_used]:
        made.warning(f"Truth used: labels judged the trials of {', '.join(told)}.")
    if len(groups) == 1:
        made.lead(
            f"All searches minimise {next(iter(found.values())).objective} of the same events: their values can be compared."
        )
    else:
        made.lead("The searches have different objectives or events: values of one say nothing of those of another.")
    heads = [
        "search",
        "model",
        "algorithm",
        "trials",
        "failed",
        "epochs",
        "time [s]",
        "objective",
        "best trial",
        "its value",
    ]
    rows = [
        [name, one["model"], one["algorithm"], one["trials"], one["failed"], one["epochs"], round(one["seconds"], 1),
         one["objective"], one["best"], (one["metrics"] or {}).get("objective")]
        for name, one in sides.items()
    ]  # fmt: skip
    made.section("What was done").table(heads, rows, "Times are those of the trials, added up over all workers.")
    made.section("Progress")
    for number, names in enumerate(groups, 1):
        caption = f"The best so far of {', '.join(names)}, by completed trials and by the time that they took."
        made.figure(folder / f"progress_{number}.png", caption)
    made.section("The best of each")
    names = list(dict.fromkeys(name for one in sides.values() for name in one["hyperparameters"] or {}))
    texts = [
        [name, *(value_text((one["hyperparameters"] or {}).get(name)) for one in sides.values())] for name in names
    ]
    differ = [row for row in texts if len(set(row[1:])) > 1]
    made.table(["hyperparameter", *sides], differ or texts, "Those that differ." if differ else "They are the same.")
    terms = list(dict.fromkeys(term for one in sides.values() for term in one["metrics"] or {}))
    rows = [[term, *((one["metrics"] or {}).get(term) for one in sides.values())] for term in terms]
    made.table(["figure of merit", *sides], rows, "Of the best trials.")
    return made.to_html()
