"""Which hyperparameters a figure of merit depends on, by a random forest of the trials."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.errors import InputError
from tuning.results import Results

TREES = 100  # of the forest behind importances


def importance(results: Results, target: str = "objective", seed: int = 0) -> dict[str, Any]:
    """Return how much a figure of merit depends on each hyperparameter, by a random forest of the trials.

    The forest (100 trees) predicts the figure from the hyperparameters that vary and from the epochs trained; the
    importance of one is how much the forest's R^2 falls when its values are shuffled (Breiman 2001). It is measured on
    trials that the forest has not seen, with the spread over 20 shuffles: 5-fold cross-validation, in which trials of
    one configuration, such as a trial and those promoted from it, stay together. `r2` is what the forest explains of
    unseen trials; where it is near 0 or below, the trials do not say what matters, and the importances mean nothing.

    Args:
        target: "objective" or one of the terms.

    Returns:
        `target`, `trials`, `r2`, and `importance`: by hyperparameter `mean` and `std`, the largest first. Raises
        `InputError` with fewer than 10 completed trials.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.metrics import r2_score
    from sklearn.model_selection import GroupKFold

    done = results.completed
    x, names, groups = design(results, done)
    y = np.array([trial["metrics"][target] for trial in done], float)
    if len(done) < 10 or len(set(groups)) < 5:
        raise InputError(f"{results.out}: {len(done)} completed trials, expected at least 10 for importances")
    rng, predicted = np.random.default_rng(seed), np.zeros(len(y))
    drops = {name: np.zeros((20, len(y))) for name in names}
    for training, unseen in GroupKFold(5).split(x, y, groups):
        forest = RandomForestRegressor(TREES, min_samples_leaf=2, random_state=seed, n_jobs=1)
        forest.fit(x[training], y[training])
        predicted[unseen] = forest.predict(x[unseen])
        shuffled = []
        for columns in names.values():
            for _ in range(20):
                changed = x[unseen].copy()
                changed[:, columns] = changed[rng.permutation(len(unseen))][:, columns]
                shuffled.append(changed)
        made = forest.predict(np.concatenate(shuffled)).reshape(len(names), 20, -1)
        for name, values in zip(names, made):
            drops[name][:, unseen] = values
    r2 = float(r2_score(y, predicted))
    losses = {name: [r2 - r2_score(y, one) for one in values] for name, values in drops.items()}
    found = {name: {"mean": float(np.mean(v)), "std": float(np.std(v))} for name, v in losses.items()}
    largest = sorted(found, key=lambda name: -found[name]["mean"])
    return {"target": target, "trials": len(done), "r2": r2, "importance": {name: found[name] for name in largest}}


def design(results: Results, trials: Sequence[Mapping]) -> tuple[np.ndarray, dict[str, list[int]], list[str]]:
    """Return the matrix (n, columns) of what varies, by name the columns that it has, and the configuration of each row.

    Numbers are one column, logarithms where they are positive and span more than a factor 10; words and lists of
    numbers have a column for each of their values.
    """
    varied = results.varied()
    columns: list[Any] = []
    names: dict[str, list[int]] = {}
    for name in [*varied, "epochs"]:
        values = [t["epochs"] if name == "epochs" else t["hyperparameters"].get(name) for t in trials]
        made = _columns(values)
        if len(made) and any(len(set(column)) > 1 for column in made):
            names[name] = list(range(len(columns), len(columns) + len(made)))
            columns += made
    groups = [json.dumps([t["hyperparameters"].get(name) for name in varied]) for t in trials]
    return np.array(columns, float).T.reshape(len(trials), -1), names, groups


def _columns(values: Sequence[object]) -> list[np.ndarray]:
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        column = np.array(values, float)
        return [np.log10(column) if len(column) and column.min() > 0 and column.max() > 10 * column.min() else column]
    texts = [json.dumps(value) for value in values]
    return [np.array([text == one for text in texts], float) for one in sorted(set(texts))]
