"""One cell of a benchmark: signal mixed into background, a model trained on the mixture without labels, judged on other events."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.bumphunt import validation
from pipelines.datasets.opening import open_events
from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.significance_improvement import sic
from zoo.comparison.specification import PSEUDO_EXPERIMENTS, TEST_SHARE, Cell
from zoo.hunting.bump_hunt import recipe_of
from zoo.hunting.bump_hunt import search as search_with
from zoo.hunting.folds import Recipe

SPLIT_SEED = 0  # the events that judge are the same for all cells of a data set


def parts_of(data: Mapping[str, Any]) -> tuple[Events, Events, Events, Events]:
    """Return background and signal to be mixed, and background and signal to judge by, which share no event.

    Raises `InputError` as `pipelines.open`, and where there is no background or no signal.
    """
    ends = data.get("mass_range")
    within = None if ends is None else (float(ends[0]), float(ends[1]))
    background, signal = open_events(list(data["background"]), within), open_events(list(data["signal"]), within)
    background = background.select(label=0) if background.has_labels else background
    if not len(background):
        raise InputError(f"{background.name}: no background events within the mass range")
    signal = validation.signal_of(signal)
    share = 1 - data.get("test_share", TEST_SHARE)
    (background, other), (signal, shown) = background.split(share, SPLIT_SEED), signal.split(share, SPLIT_SEED)
    return background, signal, other, shown


def recipe(cell: Cell) -> Recipe:
    """Return what a cell trains; raises `InputError` if there is no such model, or it cannot be made."""
    given = cell.training
    return recipe_of(
        given.get("model") or cell.model, cell.seed, preset=given.get("preset"), hyperparameters=given.get("set"),
        epochs=given.get("epochs"),
    )  # fmt: skip


def work(cell: Cell) -> dict[str, Any]:
    """Train and judge; what fails by an `InputError` has `failed`, its message.

    Returns:
        `training_events`, `signal_events` in the mixture, `seconds` of the training; `judged`, by score (a kind, and minus it
        if the method gives it no direction) and signal the numbers of `pipelines.significance_improvement.sic`, and `auc`;
        `challenge`, figures of merit for the challenge's table where the data have a channel; `hunt`, what is believed of a
        hunt in the mixture (`pipelines.bumphunt.validation.believed_numbers`), where one was asked for; `yardstick`, what
        the model says if it is told the truth.
    """
    try:
        return _worked(cell)
    except InputError as error:
        return {"failed": str(error)}


def _worked(cell: Cell) -> dict[str, Any]:
    background, signal, other, shown = parts_of(cell.events)
    mixture, begun, chosen = (
        validation.contaminated(background, signal, cell.ratio, cell.seed),
        time.monotonic(),
        recipe(cell),
    )
    model = chosen.model()
    blind = mixture.without_labels() if mixture.has_labels else mixture
    model.fit(blind, epochs=chosen.epochs, verbose=0, jit_compile=False)
    seconds = time.monotonic() - begun
    kind = cell.training.get("score_kind") or model.score_kinds[0]
    found: dict[str, Any] = {
        "training_events": len(mixture), "signal_events": len(mixture) - len(background), "seconds": round(seconds, 2),
        "yardstick": model.yardstick or None, **judged(model, kind, other, shown, cell),
    }  # fmt: skip
    if cell.hunt is not None:
        options = {"pseudo_experiments": PSEUDO_EXPERIMENTS, "folds": None, **cell.hunt}
        ends = cell.events.get("mass_range")
        search = search_with(None, model, mixture, mass_range=ends, score_kind=kind, seed=cell.seed, **options)
        found["hunt"] = validation.believed_numbers(search)
    return found


def judged(model: Any, kind: str, background: Events, signal: Events, cell: Cell) -> dict[str, Any]:
    """Return what a score is worth in events that the model has not seen, in both directions if it has none."""
    b, s = (np.asarray(model.score(events, kind), np.float64) for events in (background, signal))
    labels = signal.label if signal.has_labels else np.ones(len(signal), int)
    names = {int(k): signal.about.label_names.get(int(k), f"signal {k}") for k in np.unique(labels)}
    signs = {kind: 1.0} | ({f"minus {kind}": -1.0} if kind in model.undirected else {})
    by_score: dict[str, Any] = {}
    challenge: dict[str, Any] = {}
    for name, sign in signs.items():
        each = {said: sign * s[labels == k] for k, said in names.items()}
        by_score[name] = {said: worth(sign * b, one) for said, one in each.items()}
        if cell.events.get("channel"):
            from pipelines.leaderboard.merit import measure
            from pipelines.outputs import json_number

            challenge[name] = {
                said: {figure: json_number(value) for figure, (value, _) in measure(sign * b, one).items()}
                for said, one in each.items()
            }
    return {"judged": by_score, "challenge": challenge}


def worth(background: np.ndarray, signal: np.ndarray) -> dict[str, Any]:
    """Return the AUC and the SIC of scores of background and signal.

    >>> worth(np.arange(100.0), np.array([200.0, 201.0]))["auc"]
    1.0
    """
    from pipelines.metrics import auc

    return {"auc": auc(background, signal), **sic(background, signal)}
