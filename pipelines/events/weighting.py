"""Event weights and selections that depend on the mass spectrum."""

from __future__ import annotations

import warnings

import numpy as np

from pipelines.arguments import argument, setting
from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.events.statistics import masses_of


class MeanOne:
    """Weights w(m) = N / sum of the events' own weights: multiplied with these, they have mean one.

    Negative weights, as some generators give them, stay negative: only so do they cancel what is in excess. Raises
    `InputError` if the weights add up to nothing.

    >>> events = Events.from_arrays(np.zeros((2, 1)), [3000.0, 3100.0], ["pt_1"], weight=[1.0, 3.0])
    >>> MeanOne(events)(np.zeros(2)).tolist()
    [0.5, 0.5]
    """

    def __init__(self, events: Events):
        total = (
            len(events) if not events.has("weight") else sum(weight.sum() for _, weight in masses_of(events).blocks())
        )
        if not total > 0:
            raise InputError(f"{events.name}: the weights of its events add up to {total:g}, expected more than 0")
        self.weight = np.float32(len(events) / total)

    def __call__(self, mass: np.ndarray) -> np.ndarray:
        """Return the weight for each of the masses (N,)."""
        return np.full(len(mass), self.weight)


class FlatMass:
    """Weights that make the mass spectrum flat: w(m) = number of events / (filled bins * content of m's bin).

    Multiplied with the events' own weights they have mean one, whatever constant these were multiplied with. GAN-AE sec. 3 weights its training events this way, from a
    histogram of 500 bins over the training range. In a long tail few events carry most of the weight: cut it off
    (GAN-AE trains on 2700 to 5000 GeV). A warning says so where the effective number of events, (sum w)^2 / sum w^2,
    is under a tenth of their number. Raises `InputError` for weights below 0, or if all are 0.

    Args:
        events: whose spectrum is flattened (with their own weights, if they have some).
        bins: number of equal bins between the smallest and the largest mass.

    Example:
        >>> masses = np.array([2700.0, 2710.0, 2720.0, 5000.0])
        >>> events = Events.from_arrays(np.zeros((4, 1)), masses, ["pt_1"])
        >>> print(FlatMass(events, bins=2)(masses).round(3))
        [0.667 0.667 0.667 2.   ]
    """

    def __init__(self, events: Events, bins: int = 500):
        masses = masses_of(events)
        ends = np.array([masses.mass.min(), masses.mass.max()], np.float64)
        self.edges = np.histogram_bin_edges(ends, bins)
        content, squares = np.zeros(bins), np.zeros(bins)
        for mass, weight in masses.blocks():
            mass = mass.astype(np.float64)
            content += np.histogram(mass, self.edges, weights=weight)[0]
            squares += np.histogram(mass, self.edges, weights=weight**2)[0]
            if weight.min() < 0:
                raise InputError(
                    f"{events.name}: weight {weight.min():g}; a spectrum with weights below 0, as some generators give "
                    f"them, is not flattened: train without ({setting('flat_mass', False)}), or convert without weights"
                )
        if not content.sum() > 0:
            raise InputError(f"{events.name}: all weights are 0; nothing is left to train on")
        filled = content > 0
        share = len(events) / filled.sum()
        centres = (self.edges[1:] + self.edges[:-1]) / 2
        # other events than these may fall where these have none: they weigh as the nearest of these do
        nearest = np.abs(centres[:, None] - centres[filled][None, :]).argmin(axis=1)
        self.weights = (share / content[filled])[nearest]
        effective = (content @ self.weights) ** 2 / (squares @ np.square(self.weights))
        if effective < 0.1 * len(events):
            warnings.warn(
                f"weights that flatten the mass spectrum leave {effective:.0f} effective of {len(events)} events; "
                f"cut off its tail, as with {argument('mass_range', (2700, 5000))}",
                stacklevel=2,
            )

    def __call__(self, mass: np.ndarray) -> np.ndarray:
        """Return the weights of masses (N,) in GeV, float32; masses where there was no event take the nearest bin."""
        bin_of = np.searchsorted(self.edges, mass, side="right") - 1
        return self.weights[np.clip(bin_of, 0, len(self.weights) - 1)].astype(np.float32)
