"""Trainings at several S/B, judged on other events: does a detector learn the signal away?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from pipelines import metrics
from pipelines.bumphunt.scores import Model, natural_tails, scores_of
from pipelines.bumphunt.validation.mixtures import check_ratios, contaminated
from pipelines.bumphunt.validation.sculpting import by_tail, sculpting_curve
from pipelines.errors import InputError
from pipelines.events.events import Events

RATIOS = (0.0, 0.0008, 0.0025, 0.005, 0.01)  # S/B of the black boxes


def contamination(
    train: Callable[[int, Events], Model],
    background: Events,
    signal: Events,
    test: Events,
    ratios: Sequence[float] = RATIOS,
    *,
    kind: str | None = None,
    seeds: int = 1,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Train at every S/B and judge on other events: does a detector learn the signal away? GAN-AE, figure 7.

    Args:
        train: a function of a number, which makes its seed, and of events without labels that returns a trained model.
            All ratios are trained with the same numbers, so that they differ by their signal alone.
        background, signal: to train on, see `contaminated`. test: labelled events, none of which is in these.
        ratios: S/B of the trainings. seeds: trainings of each, every one with other signal.

    Returns:
        For every ratio: `s_over_b`; `auc`, by tail and by the test events' label, mean over the seeds, and its standard
        deviation `auc_std` (ddof 1), None of one; and `runs`, of every seed `auc`, `improvement` (best S/sqrt(B)), and
        `sculpting` of the background, all by tail. The tail is the upper one, or both of a score that the model says has
        no direction: in the lower one small scores are the anomalous ones.

    Raises:
        InputError: before the first training, for an S/B that cannot be had, and a test that cannot judge.
    """
    if not test.has_labels or not (test.label == 0).any() or not (test.label > 0).any():
        raise InputError(f"{test.name}: labelled background and signal are needed to judge by")
    if seeds < 1:
        raise InputError(f"seeds {seeds}, expected at least 1")
    check_ratios(background, signal, ratios)
    rows = []
    for ratio in ratios:
        runs = []
        for k in range(seeds):
            model = train(k, contaminated(background, signal, ratio, seed + k).without_labels())
            runs.append(_judged_on(test, scores_of(model, test, kind)[0], natural_tails(model, kind), seed))
        spread = _over_runs(runs, partial(np.std, ddof=1)) if seeds > 1 else None
        rows.append({"s_over_b": float(ratio), "auc": _over_runs(runs, np.mean), "auc_std": spread, "runs": runs})
    return rows


def _judged_on(test: Events, score: np.ndarray, tails: str, seed: int) -> dict[str, Any]:
    """AUC, improvement and sculpting of a score, by tail."""
    label = test.label
    result: dict[str, dict[str, dict[str, object]]] = {"auc": {}, "improvement": {}}
    background, signals = label == 0, {str(k): label == k for k in np.unique(label[label > 0])}
    for tail, signed in by_tail(score, tails).items():
        judges: dict[str, Callable[..., object]] = {
            "auc": metrics.auc, "improvement": metrics.significance_improvement,
        }  # fmt: skip
        for name, judge in judges.items():
            result[name][tail] = {k: judge(signed[background], signed[chosen]) for k, chosen in signals.items()}
    curve = sculpting_curve(score[background], test.mass[background], metrics.PERCENTILES, tails=tails, seed=seed)
    return {**result, "sculpting": curve}


def _over_runs(runs: Sequence[Mapping[str, Any]], function: Callable[..., Any]) -> dict[str, dict[str, float]]:
    """A function of the AUCs of all runs, by tail and label."""
    return {
        tail: {k: float(function([run["auc"][tail][k] for run in runs])) for k in by_label}
        for tail, by_label in runs[0]["auc"].items()
    }
