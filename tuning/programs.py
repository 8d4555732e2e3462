"""The programs of a worker: each is traced once, and does the trials of all networks that it can hold.

Trials share a program if they differ in runtime hyperparameters, in a scaling of the same formula, or of another that
training steps do not know, or in the sizes of their networks (see `zoo.padded_networks`). Unless XLA compiles it, that holds
for another batch size too.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuning.batch_cache import BatchCache
from zoo import registry, run
from zoo.keras.released_gradients import forget_gradients, traced_gradients
from zoo.layers.scalers import SCALERS
from zoo.padded_networks import Larger, size

KEPT_BYTES = 700 * 2**20  # of programs that are kept for trials to come
LEAST_BYTES = 4 * 2**20  # that a program takes
MOST_PROGRAMS = 64  # that are kept, where the system does not tell what memory they take
COMPILING = 6.0  # seconds that a program takes to trace and compile; not measured, so that every machine decides alike
PRODUCTS = 5e10  # multiplications and additions a second, of two threads
MOST_OWN = 16  # smaller networks that are kept, each a few MB: a promoted trial has that of the trial before it
POINTS = 200  # of a space, drawn at random, by which the sizes of its networks are found


def resident() -> int:
    """Return the bytes of memory that this process takes; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def give_back() -> None:
    """Give memory that is free back to the system, where its allocator can (glibc)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def sizes(model: str, points: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Return the sizes that hold the networks of all points, and their optimizers as a list, by hyperparameter."""
    kind: Any = registry.model_class(model)
    if kind.data_kind != "events":
        return {}
    found = kind.room(points)
    for name in kind.Hyperparameters.switchable() if found else ():
        values = sorted({str(point[name]) for point in points if name in point})
        found |= {name: values} if len(values) > 1 else {}
    return found


def program_of(model: str, hyperparameters: Mapping[str, object], larger: Mapping[str, object], xla: bool) -> str:
    """Return what trials that share a program have in common.

    Args:
        model: registered name. hyperparameters: of the trial.
        larger: sizes of the network that holds those of all trials; none if every size has its own program.
        xla: whether XLA compiles the program, of one batch size.

    >>> one, other = ({"alpha": alpha, "units": units} for alpha, units in ((1.0, (64, 64)), (2.0, (32,))))
    >>> program_of("vae", one, {"units": (64, 64)}, False) == program_of("vae", other, {"units": (64, 64)}, False)
    True
    >>> program_of("vae", one, {}, False) == program_of("vae", other, {}, False)
    False
    """
    kind: Any = registry.model_class(model)
    free = {*kind.runtime_hyperparameters, *larger, *([] if told_batch_size(model, xla) else ["batch_size"])}
    fixed = {name: value for name, value in hyperparameters.items() if name not in free}
    if fixed.get("scaling") in SCALERS:
        fixed["scaling"] = SCALERS[str(fixed["scaling"])].formula if getattr(kind, "step_knows_scaling", True) else None
    return json.dumps(fixed, sort_keys=True)


def told_batch_size(model: str, xla: bool) -> bool:
    """Return whether a model's programs need a fixed batch size: for XLA, or for its losses, as DisCo."""
    kind: Any = registry.model_class(model)
    return xla or not kind.any_batch_size


@dataclasses.dataclass(frozen=True)
class Trainee:
    """The model of a trial.

    Attributes:
        trained: the model that is trained; its program may be that of earlier trials.
        key: of its program.
        own: the model that the trial is about, whose state is kept: the same one, or one that `trained` holds.
        fresh: whether the program is traced by this trial.
        larger: what holds `own`, or None.
    """

    trained: Any
    own: Any
    key: str
    fresh: bool
    larger: Larger | None = None

    def save(self, path: Path) -> None:
        """Write the present state."""
        if self.larger is not None:
            self.larger.give(self.own)
        run.save_state(self.own, path)

    def load(self, path: Path) -> None:
        """Go on from a state; raises `InputError` if it is not one of this model."""
        run.load_state(self.own, path)
        if self.larger is not None:
            self.larger.hold(self.own)

    def restart(self) -> None:
        """Begin anew."""
        self.own.reset()
        if self.larger is not None:
            self.larger.hold(self.own)


class Programs:
    """The programs of one worker.

    Args:
        model: registered name.
        larger: sizes of the network that holds those of all trials.
        xla: whether XLA compiles them.
        adapt: fits a new model to the training events.
        batch_cache: serves models with batches.
    """

    def __init__(
        self, model: str, larger: Mapping[str, object], xla: bool, adapt: Callable[[Any], None], batch_cache: BatchCache
    ):
        self._model, self._larger, self._xla = model, dict(larger), xla
        self._adapt, self._batch_cache = adapt, batch_cache
        self.kept: dict[str, Any] = {}  # by program, a model or what holds others; the latest used last
        self._own: dict[str, Any] = {}  # by what makes it, a model that a larger one may hold; the latest used last
        self._traced: set[str] = set()
        self._gradients: dict[str, set[str]] = {}  # by program, what TensorFlow keeps of its tracing
        self._known = traced_gradients()
        self._limit = resident() + KEPT_BYTES

    def model(self, hyperparameters: Mapping[str, object], events: int = 0, epochs: int = 0) -> Trainee:
        """Return the model of a trial at its start.

        Args:
            hyperparameters: of the trial.
            events, epochs: that it trains with, by which it is decided whether a larger network is worth its time.
        """
        self._attribute_gradients()
        sizes = {name: value for name, value in self._larger.items() if name in hyperparameters}
        if sizes:
            own = self._own_model(hyperparameters)
            key = program_of(self._model, hyperparameters, self._larger, self._xla)
            holder = self.kept.get(key) or self._new_holder(own, sizes)
            if holder.fits(own) and self._is_worth(holder, own, events * epochs):
                fresh = key not in self._traced
                self._keep(key, holder)
                holder.hold(own)
                return Trainee(holder.model, own, key, fresh, holder)
            self._own.popitem()  # it may be what is trained
            return self._plain(own, hyperparameters)
        return self._plain(registry.get(self._model, **dict[str, Any](hyperparameters)), hyperparameters)

    def _own_model(self, hyperparameters: Mapping[str, object]) -> Any:
        """Return a model at its start that has met the data: to build one takes longer than some trials train."""
        kind: Any = registry.model_class(self._model)
        runtime = {name: hyperparameters[name] for name in kind.runtime_hyperparameters if name in hyperparameters}
        fixed = {name: value for name, value in hyperparameters.items() if name not in runtime}
        key = json.dumps([fixed, sorted(runtime)], sort_keys=True)
        found = self._own.pop(key, None)
        if found is None:
            found = registry.get(self._model, **dict[str, Any](hyperparameters))
            self._adapt(found)
        else:
            found.reset(**runtime)
        self._own[key] = found
        while len(self._own) > MOST_OWN:
            self._own.pop(next(iter(self._own)))
        return found

    def _plain(self, own: Any, hyperparameters: Mapping[str, object]) -> Trainee:
        key = program_of(self._model, hyperparameters, {}, self._xla)
        found = self.kept.get(key)
        if found is None:
            if not own.has_met_data:
                self._adapt(own)
            self._batch_cache.serve(own)
            found = own
        else:
            if own.hp.scaling != found.hp.scaling:
                self._adapt(own)
                found.scale_as(own)
            found.hp = own.hp
            found.reset()
        self._keep(key, found)
        return Trainee(found, found, key, key not in self._traced)

    def _new_holder(self, own: Any, sizes: Mapping[str, object]) -> Larger:
        switched: dict[str, Any] = {name: value for name, value in sizes.items() if isinstance(value, list)}
        sizes = {name: value for name, value in sizes.items() if name not in switched}
        model = registry.get(self._model, **{**own.hp.as_dict(), **sizes})
        model.build_for(own.inputs.columns, own.inputs.object_columns, own.inputs.slots)
        self._batch_cache.serve(model)
        return Larger(model, switched, cuts=not self._xla)

    def was_traced(self, trainee: Trainee) -> None:
        """Learn that a trial's program has done a step."""
        self._traced.add(trainee.key)

    def _is_worth(self, holder: Larger, own: Any, seen: int) -> bool:
        """Whether the products with zeros take less time than to compile a program for this network alone."""
        passes = own.recipe()[own.main_phase].passes_per_epoch
        return holder.cuts or 6 * (size(holder.model) - size(own)) * seen * passes / PRODUCTS < COMPILING

    def _keep(self, key: str, found: Any) -> None:
        """Keep a program, the latest used last, and as many of the others as there is memory for."""
        self.kept.pop(key, None)
        self.kept[key] = found
        self.forget(MOST_PROGRAMS)
        while len(self.kept) > 1 and (before := resident()) > self._limit:
            self.forget(len(self.kept) - 1)
            if resident() > before - LEAST_BYTES:
                break  # something else takes the memory

    def forget(self, left: int) -> None:
        """Keep only so many programs, those used last."""
        self._attribute_gradients()
        if not left:
            self._own.clear()
        names = list(self.kept)[: max(0, len(self.kept) - left)]
        for name in names:
            found = self.kept.pop(name)
            self._traced.discard(name)
            (found.model if isinstance(found, Larger) else found).release()
            forget_gradients(self._gradients.pop(name, ()))
        found = None  # or the last one would outlive the collection
        if names:
            gc.collect()
            give_back()

    def _attribute_gradients(self) -> None:
        """Learn that what was traced since the last time is of the program that was used last."""
        new = traced_gradients() - self._known
        if new and self.kept:
            self._gradients.setdefault(next(reversed(self.kept)), set()).update(new)
        self._known |= new
