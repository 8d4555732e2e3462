"""The challenge's six rankings of models by each figure of merit."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy.stats import rankdata

from pipelines.errors import InputError
from pipelines.leaderboard.table import FIGURES, Pair, Table, complete, cube

WAYS = ("mean", "median", "average_rank", "top", "top5", "minimum")  # to rank models


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Models by one figure of merit, in six ways: `values` of each way of `WAYS`, (models,); see `rankings`."""

    figure: str
    models: tuple[str, ...]
    values: dict[str, np.ndarray]
    left_out: dict[str, list[Pair]]

    def order(self, way: str) -> list[tuple[str, float]]:
        """Return models and values, the best first, equals by name; raises `InputError` for no such way."""
        if way not in self.values:
            raise InputError(f"ranking {way!r}, expected one of {', '.join(WAYS)}")
        sign = 1 if way == "average_rank" else -1
        return sorted(zip(self.models, self.values[way].tolist()), key=lambda item: (sign * item[1], item[0]))


def rankings(table: Table) -> dict[str, Ranking]:
    """Rank the models in the challenge's six ways for each figure of merit, arXiv 2105.14027 figs. 12 to 17.

    Over all pairs of signal and channel: the highest `mean`, `median` and `minimum` of the figure; the smallest
    `average_rank`, 1 the best; how often a model is the best (`top`) or among the best five (`top5`). Equal values share
    the mean of their ranks, and all are top if they are equal to the best (five).

    >>> names = [np.array(x) for x in (["a", "a", "b", "b"], ["X", "Y", "X", "Y"], ["1"] * 4)]
    >>> table = Table(*names, np.array([[0.9], [0.8], [0.5], [0.7]]) * np.ones(4), np.zeros((4, 4)))
    >>> rankings(table)["AUC"].order("mean")[0], rankings(table)["AUC"].order("top")
    (('Y', 0.75), [('X', 1), ('Y', 1)])
    """
    return {
        figure: Ranking(figure, tuple(rows), _six(np.array(list(rows.values()))), lack)
        for figure, (rows, lack) in by_figure(table).items()
    }


def by_figure(table: Table) -> dict[str, tuple[dict[str, np.ndarray], dict[str, list[Pair]]]]:
    """Return for each figure of merit the values of every model that has them all, and what others lack."""
    found = {}
    for figure, values in zip(FIGURES, np.moveaxis(cube(table, table.values), 2, 0)):
        models, pairs, lack = complete(table, np.isfinite(values))
        found[figure] = dict(zip(np.array(table.models)[models].tolist(), values[models][:, pairs])), lack
    return found


def check_top(top: int | None) -> None:
    """Raise `InputError` for a number of models to list that is below 1; None are all."""
    if top is not None and top < 1:
        raise InputError(f"top is {top}, expected at least 1 model")


def _six(values: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the six ways make of values (models, pairs)."""
    if not values.size:
        return {way: np.zeros(0) for way in WAYS}
    place = rankdata(-values, method="min", axis=0)
    return {
        "mean": np.array([math.fsum(row) for row in values]) / values.shape[1],  # whatever the order of the rows
        "median": np.median(values, axis=1),
        "average_rank": rankdata(-values, axis=0).mean(axis=1),
        "top": (place <= 1).sum(axis=1),
        "top5": (place <= 5).sum(axis=1),
        "minimum": values.min(axis=1),
    }
