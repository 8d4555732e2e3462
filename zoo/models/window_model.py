"""What models of a window in mass share, whatever they learn there: which events they train on, and how they meet them."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.events.statistics import masses_of
from zoo.base import AnomalyModel
from zoo.layers.scalers import Scaling
from zoo.windows import Regions


class WindowModel(AnomalyModel):
    """A model of a window's events, which a subclass chooses by `selects(mass)`.

    Its hyperparameters are those of `zoo.windows.WindowHyperparameters` at least. Batches have features in physical units,
    by which the fold of an event is known.
    """

    reconstructs = False
    figures = ("roc",)
    outliers_score_high = False
    scaled_batches = False
    has_template: ClassVar[bool] = False
    scores_unseen: ClassVar[bool] = False  # whether no part of it has seen an event that it scores, of the training too
    density_beside: ClassVar[bool] = (
        False  # whether the score itself is a density that was trained on the events it scores
    )

    @property
    def regions(self) -> Regions:
        """The window and its side bands; raises `InputError` if there is no window."""
        hp: Any = self.hp
        return Regions.of(hp, self.zoo_name or type(self).__name__)

    def selects(self, mass: np.ndarray) -> np.ndarray:
        """Tell by their masses (N,) in GeV which events are trained on."""
        raise NotImplementedError

    def selected(self, events: Events) -> Events:
        """Return those of the events that are trained on."""
        return events.take(self.selects(masses_of(events).mass))

    def sample(self, events: Events) -> Events:
        """Return all that is trained on: by default the `selected` events."""
        return self.selected(events)

    def template(self, size: int, seed: int = 0) -> Events:
        """Return events (size,) of background in the window, as the model has learnt it.

        Raises `InputError` for a model that has learnt no density (`has_template` is False).
        """
        raise InputError(
            f"{self.zoo_name} has no template of the background; models that have one are cathode, lacathode, anode and r_anode"
        )

    def amount_trained(self, events):
        return len(self.sample(events)), "events"

    def scalings(self, inputs):
        """Return what fits the scaling of features to those events that are trained on."""
        super().scalings(inputs)

        def features(block):
            return block["features"][self.selects(block["mass"])]

        what, fields = ("features", type(self).selects, self.regions), ("features", "mass")
        return [Scaling(self.scaler, self.hp.seed, what, fields, inputs.columns, features)]

    def batches(self, data, weighting, smaller=False, **room):
        return super().batches(self.sample(data), weighting, smaller, **room)


class SidebandModel(WindowModel):
    """A model of a window that learns from side bands too."""

    def check_enough(self, events):
        super().check_enough(events)
        self.regions.check(events)

    def adapt(self, events):
        self.check_enough(events)
        super().adapt(events)

    def selects(self, mass):
        return self.regions.inside(mass) | self.regions.beside(mass)
