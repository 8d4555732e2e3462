"""Names and habits of models written for earlier versions, kept for a while with a warning."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from zoo.ensemble import before
from zoo.hyperparameters import (
    EventHyperparameters,
    Hyperparameters,
    ObjectHyperparameters,
    hyperparameter,
)

NEXT = "the next version does not know it"


def warn(old: str, new: str, level: int = 3) -> None:
    """Warn that a name is deprecated, and say which is in its place."""
    warnings.warn(f"{old} is deprecated, and {NEXT}; use {new}", DeprecationWarning, stacklevel=level)


class DeprecatedNames:
    """The former names of methods and attributes of `AnomalyModel`."""

    @property
    def lead(self):
        """The shape before all others, () or (K,)."""
        warn("AnomalyModel.lead", "member_shape")
        return self.member_shape

    @property
    def clock(self):
        """Training steps done."""
        warn("AnomalyModel.clock", "trainer.clock")
        return self.trainer.clock

    @property
    def program(self):
        """The name of the program that is trained now."""
        warn("AnomalyModel.program", "trainer.program")
        return self.trainer.program

    @property
    def dial(self):
        """The variables of the runtime hyperparameters."""
        warn("AnomalyModel.dial", "runtime")
        return self.runtime.variables

    def value(self, name, axes=0):
        """Return a runtime hyperparameter with so many axes behind that of the members."""
        warn("AnomalyModel.value(name, axes)", "zoo.ensemble.before(model.runtime.NAME, axes)")
        return before(self.runtime.variables[name], axes)

    def descent(self, optimizer, variables, **options):
        """Return an optimizer of these variables; its rate is set by `set_rate`."""
        warn("AnomalyModel.descent", "make_optimizer")
        return self.make_optimizer(optimizer, variables, learning_rate="", **options)

    def set_rate(self, optimizer, name):
        """Have an optimizer's rate follow another hyperparameter."""
        warn("AnomalyModel.set_rate", "make_optimizer(..., learning_rate=name)")
        self.trainer.follow(optimizer, name)

    def measure(self, *names):
        """Say which terms are recorded."""
        warn("AnomalyModel.measure", "create_metrics")
        self.create_metrics(*names)

    def record(self, **terms):
        """Record terms."""
        warn("AnomalyModel.record", "update_metrics")
        return self.update_metrics(**terms)

    def begin_anew(self, weights, optimizers):
        """Give weights their initial values again."""
        warn("AnomalyModel.begin_anew", "reinitialize")
        self.reinitialize(weights, optimizers)

    def call_renamed(self, old, *arguments):
        """Call a hook by its former name where a model still has it."""
        hook = getattr(self, old, None)
        if hook is not None:
            warn(f"{type(self).__name__}.{old}", {"begin": "on_phase_begin", "learned": "on_phase_end"}[old], 4)
            hook(*arguments)


def from_locals(given: Mapping[str, object]) -> dict[str, object]:
    """Return the hyperparameters in a constructor's `locals()`, which models were once made from."""
    return {name: value for name, value in given.items() if name not in ("self", "__class__")}


def declare_by_signature(cls: Any) -> None:
    """Declare the hyperparameters of a model that has them as keywords of its constructor."""
    if "__init__" not in vars(cls) or "Hyperparameters" in vars(cls):
        return
    parameters = [p for p in inspect.signature(cls.__init__).parameters.values() if p.kind is p.KEYWORD_ONLY]
    if not parameters:
        return
    warn(f"{cls.__qualname__}.__init__ with hyperparameters as keywords", "a dataclass Hyperparameters in it", 4)
    base: Any = {"features": EventHyperparameters, "objects": ObjectHyperparameters}.get(cls.takes, Hyperparameters)
    known, limits, dials = base.declarations(), vars(cls).get("limits", {}), vars(cls).get("dials", ())
    fields = []
    for one in parameters:
        text = known[one.name].text if one.name in known else one.name.replace("_", " ")
        limit = limits.get(one.name, known[one.name].limit if one.name in known else None)
        field = hyperparameter(
            one.default, text, limit, runtime=one.name in dials, shared=one.name in vars(cls).get("shared", ())
        )
        fields.append((one.name, object, field))
    cls.Hyperparameters = dataclasses.make_dataclass(
        "Hyperparameters", fields, bases=(base,), frozen=True, kw_only=True
    )
