"""The idealised anomaly detector: events of a window against true background of the same window. A yardstick, no search.

A. Hallin et al., "Classifying anomalies through outer density estimation", Phys. Rev. D 106 (2022) 055006
(arXiv:2109.00546), called the paper here.
"""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np

import pipelines
from pipelines import provenance
from pipelines.arguments import setting
from pipelines.errors import InputError
from pipelines.events.events import Events
from zoo.base import hyperparameter
from zoo.models.window_classifier import CONSTANT, ClassifierHyperparameters, WindowClassifier
from zoo.registry import register
from zoo.windows import FEWEST


@register("idealised")
class Idealised(WindowClassifier):
    """A yardstick: a classifier of a window's events against true background of the same window (Hallin et al. 2021).

    **It is told the true background, so it is no search.** It is the limit of what CWoLa, CATHODE and similar models
    can reach with the same events and network: they have to guess the background, this model is given it. Every run and
    every report of it says so.

    The networks and their loss are those of `cwola`, with y_i = 1 for the events of the window and y_i = 0 for those of
    `background` in the same window. The latter must be other events, and of background alone. Only this model reads
    such a file. Labels of the events that it is trained on are never read.

    Raises `InputError` naming a hyperparameter out of range; in training if there is no window or no `background`, if
    `background` has events of another label than 0, or if one of both has too few events in the window.

    Example:
        >>> import zoo
        >>> zoo.get("idealised", window=(3300, 3700), background="background.h5").hp.folds
        5
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(ClassifierHyperparameters):
        background: str = hyperparameter("", "events file, or sample, of true background alone")

    hp: Hyperparameters

    presets = {
        "hallin2021": {
            **CONSTANT,
            "units": (64, 64, 64),
            "batch_size": 128,
            "dropout_rate": 0.0,
            "epochs": 100,
            "members": 10,
        }
    }
    validated_by = "held_out"
    yardstick = "idealised is told the true background: a yardstick, no search"

    def check_enough(self, events):
        if len(events) < FEWEST:  # a batch has events of the background too
            super().check_enough(events)
        self.regions.check(events, sidebands=False)
        self.background()

    def adapt(self, events):
        self.check_enough(events)
        warnings.warn(self.yardstick, stacklevel=2)
        super().adapt(events)

    def background(self) -> Events:
        """Return the true background in the window; raises `InputError` if it is not there, or is not background alone."""
        if not self.hp.background:
            raise InputError(
                f"idealised needs true background: give an events file of background alone, as "
                f"{setting('background', 'qcd.h5')}"
            )
        known = pipelines.open(self.hp.background)
        if known.has_labels and (signal := int((known.label != 0).sum())):
            raise InputError(
                f"{known.name}: {signal} of {len(known)} events have a label that is not 0, expected background alone"
            )
        inside = known.take(self.regions.inside(known.mass))
        if len(inside) < FEWEST:
            low, high = self.hp.window
            raise InputError(
                f"{known.name}: {len(inside)} events of background in the window {low:g} to {high:g} GeV, expected at "
                f"least {FEWEST}"
            )
        return inside

    def selects(self, mass):
        return self.regions.inside(mass)

    def sample(self, events):
        """Return the events of the window and the true background together; the masses of the latter have a minus sign."""
        parts, columns = (self.selected(events), self.background()), self.resolved_columns
        features = [part.read("features", columns) for part in parts]
        masses = [sign * part.mass for sign, part in zip((1, -1), parts)]
        weights = [part.weight for part in parts]
        return Events.from_arrays(*map(np.concatenate, (features, masses)), columns, weight=np.concatenate(weights))

    def batches(self, data, weighting, smaller=False, **room):
        """Return batches; those of validation have all of the background too, and weights of equal totals of their own."""
        return super().batches(data, self.weighting(data) if smaller else weighting, smaller, **room)

    def validation_losses(self, batch, seed):
        """Return the cross entropy by the networks that have not seen an event: of the background every fold has."""
        found = super().validation_losses(batch, seed)
        return found | {"loss": found["held_out"]}

    def first(self, mass):
        return mass > 0  # a batch has no other place that says where an event is from

    def provenance(self, events):
        return {**super().provenance(events), "background": provenance.data(pipelines.open(self.hp.background))}
