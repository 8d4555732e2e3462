"""Batches that are made once for all models that see the events alike."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence

import numpy as np

from pipelines.events.events import Events

MAX_BATCH_SETS = 12  # scaled and packed events that are kept: training and validation, by scaling and batch size


MAX_BYTES_IN_MEMORY = 2**30  # bytes of events, of training and of validation each, that a worker has in memory at most


PROBE = 4096  # masses at which two weightings of events are compared


def load_into_memory(events: Events) -> Events:
    """Return events in memory if they are few enough to be: every trial reads them several times."""
    numbers = sum(math.prod(events.shape_of(field)) for field in ("features", "objects") if events.has(field))
    return events.in_memory() if 4 * numbers * len(events) <= MAX_BYTES_IN_MEMORY else events


class BatchCache:
    """The batches of training and validation events, made once for all models that see them alike.

    That is those with the same columns, batch size, seed, fitted scaling, weights and regions of events. `static` is whether
    TensorFlow is told the batch size.
    """

    def __init__(self, *events: Events, static: bool = True):
        self._events, self._static = events, static
        self._masses = [each.take(np.arange(min(len(each), PROBE))).mass for each in events]
        self._made: dict[tuple, object] = {}

    def serve(self, model) -> None:
        """Let a model take its batches from here."""
        model.trainer.batch_provider = functools.partial(self._batches, model)

    def _batches(self, model, events: Events, weighting, smaller: bool = False, **room):
        place = next((i for i, each in enumerate(self._events) if each is events), None)
        make = functools.partial(model.batches, events, weighting, smaller, static=self._static, **room)
        if place is None:
            return make()
        weights = None if weighting is None else _digest([np.asarray(weighting(self._masses[place]))])
        fixed = (model.hp.batch_size, model.hp.seed, smaller, tuple(sorted(room.items())))
        seen = (model.resolved_columns, getattr(getattr(model, "inputs", None), "object_columns", ()))
        scaling = _digest([variable.numpy() for variable in model.scaler.variables])
        region = tuple(tuple(getattr(model.hp, name, ())) for name in ("window", "sidebands"))  # of a model of a window
        key = (place, type(model.scaler).__name__, scaling, weights, region, *fixed, *seen)
        if key not in self._made:
            if getattr(model, "scaled_batches", False):  # the model's own is another's once it does another trial
                make = functools.partial(make, transform=model.scaler.frozen())
            while len(self._made) >= MAX_BATCH_SETS:
                self._made.pop(next(iter(self._made)))
            batches = make()
            batches.ordered = functools.lru_cache(2)(batches.ordered)
            batches.shuffled = functools.lru_cache(16)(batches.shuffled)  # by the pass that it begins with
            self._made[key] = batches
        self._made[key] = self._made.pop(key)  # the latest used last
        return self._made[key]


def _digest(arrays: Sequence[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
