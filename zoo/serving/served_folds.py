"""The models of a search by folds as one model that scores any events, for `zoo.export`.

In the search each event has the rank of its score among those of its fold, scored by the one model that has not seen it. Other
events are scored by all models: each score becomes the share of that model's own fold that is below it. The score of an
event is the mean of these shares over the folds, in (0, 1). Events of the search itself were trained on by all models
but one; their scores are those that the search wrote.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
import tensorflow as tf
from pydantic import Field
from typing_extensions import Required, TypedDict

from pipelines import provenance
from pipelines.bumphunt.scores import ranks_within
from pipelines.checksums import digest
from pipelines.datasets.opening import open_events
from pipelines.documents import DataDescription, check_document, read_json_document
from pipelines.errors import InputError
from pipelines.events.events import Events
from zoo.run import load
from zoo.serving.contents import Serving, described, without_places
from zoo.serving.cut_values import CutValues

SEARCH = "search.json"
KNOTS, TAIL = 4096, 512  # of a distribution of scores, and of these at either end, where every event counts


class Folds:
    """The trained models of a search by folds.

    Attributes:
        models: one for each fold. tables: of each, scores and the share of its fold below them, (2, M).
        score_kind: what the search scored with. loaded_from: masses and data of the search, as a model has them of its run.
    """

    def __init__(self, models: Sequence[Any], tables: Sequence[np.ndarray], score_kind: str, about: Mapping[str, Any]):
        self.models, self.tables, self.score_kind = list(models), [np.asarray(table) for table in tables], score_kind
        self.loaded_from = about
        self.zoo_name, self.undirected = models[0].zoo_name, models[0].undirected
        self.score_kinds = (score_kind,)

    def require(self, data_kind: str, where: object) -> None:
        """Raise `InputError` as the models do."""
        self.models[0].require(data_kind, where)

    def call(self, *arrays: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return `score` (N,), the mean over folds, and `score_folds` (N, folds)."""
        each = []
        for model, (scores, shares) in zip(self.models, self.tables):
            found = model.infer(*arrays)[self.score_kind]
            each.append(_share(found if model.members == 1 else tf.reduce_mean(found, 0), scores, shares))
        folds = tf.stack(each, axis=1)
        return {"score": tf.reduce_mean(folds, 1), "score_folds": folds}

    def score(self, events: Events) -> np.ndarray:
        """Return the scores (N,) of events."""
        compiled = tf.function(self.call, input_signature=self.models[0].inputs.specs, autograph=False)
        blocks = self.models[0].inputs.blocks(events)
        return np.concatenate([compiled(*map(tf.constant, block))["score"].numpy() for block in blocks])

    def serving(self, cuts: CutValues | None = None) -> Serving:
        """Return what is exported."""
        one = self.models[0].serving(cuts)
        states = [(model.loaded_from or {}).get("state_sha256") for model in self.models]
        about = {
            **described(self.models[0], {"cuts": cuts.to_dict()} if cuts else {}),
            "score_kinds": [self.score_kind],
            "state_sha256": digest({"folds": states}),
            "data": without_places(self.loaded_from["data"]),
            "mass_range": self.loaded_from["mass_range"],
            "folds": {"number": len(self.models), "state_sha256": states},
        }
        state = [variable for model in self.models for variable in model.serving().state]
        return Serving(one.specs, self.call, ("score", "score_folds"), state, about, one.more, one.example)


class Options(TypedDict, total=False):
    """Of a search, what is needed here."""

    folds: int | None


class Configuration(TypedDict, total=False):
    """Of a search, what is needed here of how it was made."""

    data: Required[DataDescription]
    options: Options | None
    score_kind: str | None
    ranges: dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]] | None


def load_folds(folder: str | os.PathLike[str]) -> Folds:
    """Return the models of the folder of a search by folds, `zoo hunt --folds`.

    Its data are read again where the search had them, for the distributions of the scores.

    Raises `InputError` if the search had no folds, or if its data are gone or changed.
    """
    folder = Path(folder)
    search: Any = read_json_document(folder / SEARCH, dict[str, Any], advice="damaged")
    configuration = search.get("configuration")
    check_document(configuration, f"{folder / SEARCH}: configuration", Configuration)
    number = (configuration.get("options") or {}).get("folds")
    runs = [folder / "runs" / f"fold-{k}" for k in range(number or 0)]
    if len(runs) < 2 or not all(run.is_dir() for run in runs):
        raise InputError(f"{folder}: a search that trained no folds; export the run directory that it was given")
    models = [load(run) for run in runs]
    kind = configuration.get("score_kind") or models[0].score_kinds[0]
    events, fold = _events_of(folder, configuration, models[0])
    own = [model.score(events.take(np.flatnonzero(fold == k)), kind) for k, model in enumerate(models)]
    tables = [_table(score, k, len(models)) for k, score in enumerate(own)]
    ranges = configuration.get("ranges") or {}
    about = {"mass_range": ranges.get("mass"), "data": configuration["data"], "folder": str(folder)}
    return Folds(models, tables, kind, about)


def _events_of(folder: Path, configuration: Mapping[str, Any], model: Any) -> tuple[Events, np.ndarray]:
    """Return the events of a search, as they were, and their folds."""
    data = configuration["data"]
    try:
        with h5py.File(folder / "scores.h5", "r") as file:
            row, fold = file["row"][:], file["fold"][:]
        files = data.get("files") or [data["source"]]
        events = open_events(files, None, defaults=(model.loaded_from or {}).get("conversion")).take(row)
    except (OSError, KeyError, IndexError, InputError) as error:
        text = " ".join(str(error).split())
        raise InputError(
            f"{folder}: the events of this search cannot be read again ({text}); put them where they were"
        ) from None
    if provenance.checksum(events) != data.get("sha256"):
        raise InputError(
            f"{folder}: {data.get('source', 'the data')} is not what was searched (another SHA-256); put it where it was"
        )
    return events, fold


def _table(score: np.ndarray, fold: int, folds: int) -> np.ndarray:
    """Return scores in rising order and the share below each, as `ranks_within`, (2, M): all of them, or `KNOTS` at most.

    >>> _table(np.array([3.0, 1.0, 1.0, 2.0]), 0, 2).tolist()
    [[1.0, 2.0, 3.0], [0.3125, 0.6875, 0.9375]]
    """
    values, first = np.unique(score, return_index=True)
    shares = ranks_within(score, fold, folds)[first]
    if len(values) > KNOTS:
        inner = np.linspace(TAIL, len(values) - 1 - TAIL, KNOTS - 2 * TAIL).round().astype(int)
        kept = np.unique(np.r_[:TAIL, inner, len(values) - TAIL : len(values)])
        values, shares = values[kept], shares[kept]
    return np.stack([values.astype(np.float64), shares])


def _share(score: tf.Tensor, at: np.ndarray, shares: np.ndarray) -> tf.Tensor:
    """Return the share below scores (N,): linear between the knots, constant outside of them."""
    if len(at) == 1:
        return tf.fill(tf.shape(score), tf.constant(shares[0], tf.float32))
    knots, values, x = tf.constant(at), tf.constant(shares), tf.cast(score, tf.float64)
    x = tf.clip_by_value(x, knots[0], knots[-1])
    after = tf.clip_by_value(tf.searchsorted(knots, x, side="right"), 1, len(at) - 1)
    low, high = tf.gather(knots, after - 1), tf.gather(knots, after)
    part = (x - low) / (high - low)
    return tf.cast(tf.gather(values, after - 1) * (1.0 - part) + tf.gather(values, after) * part, tf.float32)
