"""Figures of merit: numbers that a tuner may minimise without ever seeing a label.

The GAN-AE authors tuned by hand on reconstruction error, mass sculpting and stability (their sec. 4.1); the first
two are here, in units that do not depend on the hyperparameters, so that trials can be compared.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping

import numpy as np

from pipelines.errors import InputError
from pipelines.events import Events
from pipelines.metrics import PERCENTILES, sculpting

ENOUGH = 100  # selected events without which a spectrum of 40 bins says nothing


def reconstruction(model, validation: Events, history: Mapping[str, list[float]]) -> float:
    """Mean over events (and members) of the RMS residual, every feature in units of its standard deviation.

    mean_i sqrt(1/F sum_f ((x_if - x'_if) / sigma_f)^2), in physical features that vary: the same measure whatever
    the model's input scaling is. 0 is perfect; predicting the mean of everything gives a little less than 1.
    """
    x = validation.read("features", model.resolved_columns).astype(np.float64)
    spread = x.std(axis=0)
    varies = spread > 1e-6 * np.abs(x).max(axis=0)
    residual = x - model.results(validation, ["reconstructed"])["reconstructed"]
    return float(np.mean(np.sqrt(np.mean((residual[..., varies] / spread[varies]) ** 2, axis=-1))))


def mass_sculpting(model, validation: Events, history: Mapping[str, list[float]]) -> float:
    """Jensen-Shannon distance of the mass spectrum after a cut on the score, above its statistical floor.

    The mean of distance - floor over those of the 50th, 85th, 95th and 99th percentiles that at least `ENOUGH` events
    pass, and at least 0; see `pipelines.metrics.sculpting`. The larger of both tails of a score without direction. For a score blind to the mass it scatters by 0.008 with
    1,000 validation events and by 0.002 with 40,000.
    """
    score, mass = model.score(validation), validation.mass
    tails = (1, -1) if model.score_kinds[0] in model.undirected else (1,)
    passed = {p: round(len(mass) * (1 - p / 100)) for p in PERCENTILES}
    percentiles = [p for p in PERCENTILES if passed[p] >= ENOUGH] or [PERCENTILES[0]]
    found = [sculpting(tail * score, mass, percentiles).values() for tail in tails]
    return max(0.0, *(float(np.mean([at["distance"] - at["floor"] for at in one])) for one in found))


def val_loss(model, validation: Events, history: Mapping[str, list[float]]) -> float:
    """The model's own loss on the validation events at the last epoch; comparable only at fixed loss weights."""
    return float(history["val_loss"][-1])


TERMS: dict[str, Callable[..., float]] = {
    "reconstruction": reconstruction,
    "sculpting": mass_sculpting,
    "val_loss": val_loss,
}


@dataclasses.dataclass(frozen=True)
class Objective:
    """A weighted sum of figures of merit, to be minimised, written like "reconstruction+10*sculpting".

    >>> Objective.parse("reconstruction+10*sculpting").weights
    {'reconstruction': 1.0, 'sculpting': 10.0}
    """

    text: str
    weights: Mapping[str, float]

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read an objective; raises `InputError` for an unknown term or a weight that is not a positive number."""
        weights: dict[str, float] = {}
        for term in text.replace(" ", "").split("+"):
            match = re.fullmatch(r"(?:(\d+\.?\d*|\.\d+)\*)?([a-z_]+)", term)
            if not match or match[2] not in TERMS or not 0 < float(match[1] or 1) < float("inf"):
                raise InputError(
                    f"objective {text!r}: {term!r} is not known; expected a sum of {', '.join(TERMS)}, "
                    f"each with a positive weight or none, as in 'reconstruction+10*sculpting'"
                )
            weights[match[2]] = weights.get(match[2], 0.0) + float(match[1] or 1.0)
        return cls(text, weights)

    def __call__(self, model, validation: Events, history: Mapping[str, list[float]]) -> dict[str, float]:
        """Return every term and their weighted sum, `objective`."""
        found = {name: TERMS[name](model, validation, history) for name in self.weights}
        return found | {"objective": sum(self.weights[name] * value for name, value in found.items())}
