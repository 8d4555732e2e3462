"""Scores of events by a model, or by the models of several folds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from scipy.stats import rankdata

from pipelines.arguments import argument
from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.events.layout import some_of


class Model(Protocol):
    """What can be searched with: anything that scores events, higher is more anomalous.

    If it has `loaded_from`, a mapping as `zoo.run.origin` gives, that goes into the configuration as `run`: so a search
    knows whether labels chose the model's hyperparameters.
    """

    def score(self, events: Events) -> np.ndarray:
        """Return the score of every event, (N,)."""
        ...


def scores_of(model: Any, events: Events, kind: str | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return scores (N,), and their standard deviation over the members of a model that has several.

    Raises `InputError` if the model cannot score, or a score is not finite.
    """
    if not callable(getattr(model, "score", None)):
        raise InputError(f"model {type(model).__name__} has no score(events); with folds, give a function that trains")
    options = {} if kind is None else {"kind": kind}
    if getattr(model, "members", 1) > 1:
        each = np.asarray(model.score(events, per_member=True, **options), np.float64)
        scores, spread = each.mean(axis=0), each.std(axis=0)
    else:
        scores, spread = np.asarray(model.score(events, **options), np.float64), None
    if scores.shape != (len(events),):
        raise InputError(f"model gives scores of shape {scores.shape}, expected ({len(events)},), one an event")
    if not np.isfinite(scores).all():
        advice = "; leave these events out" if are_few_bad(scores) else ""
        raise InputError(bad_scores(scores) + advice)
    return scores, spread


def bad_scores(scores: np.ndarray) -> str:
    """Return a text on scores (N,) that are not finite: their rows, or that the training diverged if most are.

    >>> bad_scores(np.array([1.0, np.nan, 2.0, 3.0, np.inf]))
    '2 of 5 scores are NaN or infinite, rows 1, 4 (from 0): the values of these events are far off'
    """
    rows = np.flatnonzero(~np.isfinite(scores))
    found = f"{len(rows)} of {len(scores)} scores are NaN or infinite"
    if not are_few_bad(scores):
        return f"{found}; has the training diverged? train with a lower learning_rate"
    which = "row" if len(rows) == 1 else "rows"
    return (
        f"{found}, {which} {some_of([*map(str, rows.tolist())], 10)} (from 0): the values of these events are far off"
    )


def are_few_bad(scores: np.ndarray) -> bool:
    """Tell whether most of scores (N,) are numbers: then the events that have none are to blame, not the model."""
    return 2 * np.count_nonzero(~np.isfinite(scores)) < len(scores)


def fold_of(events: int, folds: int, seed: int = 0) -> np.ndarray:
    """Return the fold of every event (N,), drawn at random, sizes as equal as can be.

    >>> np.bincount(fold_of(10, 3)).tolist()
    [4, 3, 3]
    """
    if not isinstance(folds, (int, np.integer)) or not 2 <= folds <= events:
        raise InputError(f"folds {folds} of {events} events, expected at least 2, and an event in each")
    return np.random.default_rng([seed, 1]).permutation(np.arange(events) % folds)


def scores_by_fold(
    train: Callable[[int, Events], Model], events: Events, fold: np.ndarray, kind: str | None = None
) -> np.ndarray:
    """Return the rank of every event within its fold, scored by a model trained on the other folds; see `ranks_within`.

    Training sees no labels. Raises `InputError` where all scores of a fold are equal. If `train` has a `beforehand`, it is first given
    what all folds train on, by their numbers: it may train several at once.
    """
    ranks, numbers = np.empty(len(events)), range(int(fold.max()) + 1)
    if hasattr(train, "beforehand"):
        train.beforehand({k: events.take(fold != k).without_labels() for k in numbers})
    usual: dict[object, int] = {}
    for k in numbers:
        mine = fold == k
        model = trained(train, k, events.take(~mine))
        usual[next(iter(getattr(model, "score_kinds", ())), None)] = k
        if kind is None and len(usual) > 1:  # a fold that an earlier version trained
            said = ", ".join(f"{name!r} of fold {fold}" for name, fold in usual.items())
            raise InputError(f"folds differ in their usual score: {said}; name one by {argument('score_kind')}")
        scores, _ = scores_of(model, events.take(mine), kind)
        if len(scores) > 1 and not np.ptp(scores):  # ranks would tell the folds apart, and nothing else
            raise InputError(f"score: all {len(scores):,} events of fold {k} have the same score, {scores[0]:g}")
        ranks[mine] = ranks_within(scores, k, len(numbers))
    return ranks


def ranks_within(scores: np.ndarray, fold: int, folds: int) -> np.ndarray:
    """Return the ranks (r - (k + 1/2) / K) / n in (0, 1) of the scores (n,) of fold k of K; equal scores share their mean rank.

    The shift by the fold, less than one rank, keeps events of different folds from sharing a rank: they would be ties that the
    scores do not have.

    >>> ranks_within(np.array([0.3, 0.1]), 0, 2).tolist(), ranks_within(np.array([7.0, 5.0]), 1, 2).tolist()
    ([0.875, 0.375], [0.625, 0.125])
    """
    ranks: np.ndarray = (rankdata(scores) - (fold + 0.5) / folds) / len(scores)
    return ranks


def trained(train: Callable[[int, Events], Model], fold: int, events: Events) -> Model:
    """Return the model that a function trains on events, whose labels it does not get."""
    is_model = not isinstance(train, type) and callable(getattr(train, "score", None))
    if is_model or not callable(train):  # a Keras model is both
        raise InputError("folds need a function (fold, events) that returns a trained model, not a trained model")
    return train(fold, events.without_labels())


def natural_tails(model: object, kind: str | None = None) -> str:
    """Return which tails of a score to look at: "both" of a kind that the model calls undirected, else "upper".

    >>> class Latent:
    ...     score_kinds, undirected = ("kl", "error"), ("kl",)
    >>> natural_tails(Latent), natural_tails(Latent, "error"), natural_tails(object())
    ('both', 'upper', 'upper')
    """
    kind = kind or next(iter(getattr(model, "score_kinds", ())), None)
    return "both" if kind in getattr(model, "undirected", ()) else "upper"


def check_kind(model: object, kind: str | None) -> None:
    """Raise `InputError` for a score kind that a model, or what trains it, says that it does not have."""
    kinds = getattr(model, "score_kinds", ())
    if kind is not None and kinds and kind not in kinds:
        raise InputError(f"score kind {kind!r} is not known; {name_of(model)} has {', '.join(kinds)}")


def name_of(model: object) -> str:
    """Return the name of a model, or of what trains it."""
    return getattr(model, "zoo_name", getattr(model, "__name__", type(model).__name__))
