"""The report of a leaderboard: the whole table, its agreement with a published summary, and impossible rows."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from pipelines.leaderboard.files import read_summary
from pipelines.leaderboard.improvement import Improvements, improvements
from pipelines.leaderboard.ranking import WAYS, check_top, rankings
from pipelines.leaderboard.table import FIGURES, WORKING_POINTS, Table
from pipelines.plots.record import plain

ROUNDING = 0.005  # many entries were published with two decimals


def report(table: Table, top: int | None = None) -> dict[str, object]:
    """Return all that a leaderboard says, ready for JSON.

    Args:
        table: as read. top: how many models to list in each of the 24 rankings; all by default.

    Returns:
        `rows`, `models` and `pairs` counted; `improvement`: models by falling median, each with `minimum`, `median`,
        `maximum`, and by signal the value, its error, channel and working point; `rankings` by figure and way;
        `left_out`: models and what they lack; `impossible`: rows, see `impossible`.

    Raises `InputError` as `improvements`, and for a `top` below 1.
    """
    check_top(top)
    gains, ranked, wrong = improvements(table), rankings(table), impossible(table)
    rows = zip(table.signal[wrong], table.model[wrong], table.channel[wrong], *table.values[wrong].T)
    found = {
        "rows": len(table),
        "models": len(table.models),
        "pairs": len(table.pairs),
        "improvement": [_improvement(gains, m) for m in gains.order()],
        "rankings": {
            figure: {way: [{"model": m, "value": v} for m, v in ranking.order(way)[:top]] for way in WAYS}
            for figure, ranking in ranked.items()
        },
        "left_out": {
            "improvement": gains.left_out,
            **{figure: ranking.left_out for figure, ranking in ranked.items()},
        },
        "impossible": [dict(zip(("signal", "model", "channel", *FIGURES), row)) for row in rows],
    }
    return plain(found)


def _improvement(gains: Improvements, m: int) -> dict[str, object]:
    rows = zip(gains.signals, gains.best[m], gains.error[m], gains.channel[m], gains.working_point[m])
    return {
        "model": gains.models[m],
        "minimum": gains.minimum[m],
        "median": gains.median[m],
        "maximum": gains.maximum[m],
        "signals": {signal: dict(zip(("value", "error", "channel", "working_point"), row)) for signal, *row in rows},
    }


def compare(found: Improvements, path: str | os.PathLike[str], tolerance: float = 1e-9) -> dict[str, object]:
    """Compare total improvements with a published summary of them, such as the challenge's own.

    Args:
        found: as computed here. path: CSV with the columns `Model` and `SUMMARY`. tolerance: relative.

    Returns:
        A dict ready for JSON: how many `models` the summary has and how many `agree` in all three numbers, the
        `largest_difference` of all, relative; those that `differ`, with both sets of numbers; models that are
        `only_published`, and `only_here`.

    Raises `InputError` as `read`, and for a model that the summary has twice.
    """
    theirs = read_summary(path)
    ours = dict(zip(found.models, np.column_stack([found.minimum, found.median, found.maximum]).tolist()))
    both = [model for model in theirs if model in ours]
    difference = {model: _difference(ours[model], theirs[model]) for model in both}
    differ = [model for model in both if not difference[model] <= tolerance]
    return {
        "file": str(path),
        "models": len(theirs),
        "agree": len(both) - len(differ),
        "tolerance": tolerance,
        "largest_difference": max((d for d in difference.values() if np.isfinite(d)), default=None),
        "differ": {model: {"here": ours[model], "published": plain(theirs[model])} for model in differ},
        "only_published": [model for model in theirs if model not in ours],
        "only_here": [model for model in ours if model not in theirs],
    }


def _difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the largest relative difference of pairs of numbers."""
    a, b = np.array(ours), np.array(theirs)
    return float(np.max(np.abs(a - b) / np.maximum(np.maximum(a, b), np.finfo(float).tiny)))


def impossible(table: Table) -> np.ndarray:
    """Tell which rows, (N,) bool, no score can have: their AUC and efficiencies are not of one ROC curve.

    A curve never falls, so efficiencies e_1 <= e_2 <= e_3 at x = 1e-4, 1e-3, 1e-2 put its area between
    sum_i e_i (x_(i+1) - x_i) and sum_i e_(i+1) (x_(i+1) - x_i), with e_0 = x_0 = 0 and e_4 = x_4 = 1. Area and
    efficiencies may each be `ROUNDING` off. Rows with an empty field are not judged by what they lack.

    >>> where = [np.array([x, x]) for x in ("stop", "VAE", "1")]
    >>> impossible(Table(*where, np.array([[0.6, 0.5, 0.3, 0.1], [0.3, 0.5, 0.3, 0.1]]), np.zeros((2, 4)))).tolist()
    [False, True]
    """
    area, efficiency = table.values[:, 0], table.values[:, :0:-1]  # from the tightest working point on
    width = np.diff([0.0, *WORKING_POINTS[::-1], 1.0])
    lowest = np.clip(efficiency - ROUNDING, 0, 1) @ width[1:]
    highest = np.clip(efficiency + ROUNDING, 0, 1) @ width[:-1] + width[-1]
    falls = (np.diff(efficiency, axis=1) < 0).any(axis=1)
    return falls | (area + ROUNDING < lowest) | (area - ROUNDING > highest)
