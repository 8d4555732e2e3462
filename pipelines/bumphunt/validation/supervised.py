"""Boosted trees that see the labels: a yardstick of what could be had at most."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines import metrics
from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.events.layout import match_columns
from pipelines.jobs.executors import cores

THREADED = 100_000  # events from which on boosted trees are grown by several threads
MULTI_JET = re.compile(r"m_?(j\d*){2,}")  # m_jj, mjj, mj1j2, mj1j2j3: masses of several jets


def supervised(
    events: Events, columns: Sequence[str] = ("*",), *, folds: int = 5, seed: int = 0
) -> tuple[np.ndarray, dict[str, Any]]:
    """Train boosted trees on the labels, cross-validated: what could be had if one knew the signal. USES LABELS.

    scikit-learn's HistGradientBoostingClassifier, background against all signals, the yardstick of GAN-AE's figures.
    The default columns are all but the spectrum itself and the masses of several jets, which say where a signal is.

    Args:
        events: with labels. columns: features, names or patterns; whatever is named is taken, masses too.
        folds: of the cross-validation; every event is scored by trees that have not seen it.

    Returns:
        Scores (N,), logits, and `auc` by label of all events, `auc_folds` (each fold's), `columns`, `folds`,
        `uses_labels`: True.

    Raises:
        InputError: without labels, or with fewer background or signal events than folds; for an unknown column.

    Example:
        >>> import pipelines
        >>> test = pipelines.open("lhco_sim_test").sample(1000)
        >>> scores, result = supervised(test, ["mass_*", "tau21_*"], folds=3)
        >>> result["auc"]["1"] > 0.8, result["uses_labels"]
        (True, True)
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold
    from threadpoolctl import threadpool_limits

    if not events.has_labels:
        raise InputError(f"{events.name}: no labels, and a supervised yardstick is made of them")
    label = events.label
    least = min(np.count_nonzero(label == 0), np.count_nonzero(label > 0))
    if not 2 <= folds <= least:
        raise InputError(f"{events.name}: {folds} folds, expected 2 to {least}, the events of background or of signal")
    names: Sequence[str] = match_columns(columns, events.columns)
    if tuple(columns) == ("*",):
        names = [name for name in names if name != events.about.mass_column and not MULTI_JET.fullmatch(name)]
    features, scores = events.read("features", names), np.empty(len(label))
    by_fold = []
    threads = 1 if len(events) < THREADED else cores()  # of few events, threads would wait for each other only
    with threadpool_limits(threads, user_api="openmp"):
        for seen, held_out in StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, label):
            trees = HistGradientBoostingClassifier(random_state=seed).fit(features[seen], label[seen] > 0)
            scores[held_out] = trees.decision_function(features[held_out])
            by_fold.append(_auc_by_label(scores[held_out], label[held_out]))
    result = {"auc": _auc_by_label(scores, label), "auc_folds": by_fold, "columns": names, "folds": folds}
    return scores, result | {"uses_labels": True}


def _auc_by_label(scores: np.ndarray, label: np.ndarray) -> dict[str, float]:
    return {str(k): metrics.auc(scores[label == 0], scores[label == k]) for k in np.unique(label[label > 0])}
