"""How much a cut that follows the mass shapes the mass spectrum: the sculpting that is left after the remedy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from pipelines.bumphunt.options import BumpHuntOptions, Range
from pipelines.bumphunt.selection import cuts_of, equal_edges
from pipelines.errors import InputError
from pipelines.metrics import MASS_BINS, PERCENTILES, sculpting_of


def following_sculpting(
    score: np.ndarray,
    mass: np.ndarray,
    percentiles: Sequence[float] = PERCENTILES,
    *,
    tail: str = "upper",
    ends: Range | None = None,
    bins: int = MASS_BINS,
    seed: int = 0,
    weight: np.ndarray | None = None,
    options: BumpHuntOptions | None = None,
) -> dict[str, dict[str, float]]:
    """Return what `pipelines.metrics.sculpting` does, of thresholds t(m) as a hunt with `cut="mass"` makes them.

    Args:
        score, mass, weight: (N,), mass in GeV, weights >= 0. percentiles, tail: of the cuts. ends: of the spectrum, by
            default of all masses, GeV. bins: equal bins over the range of the masses. seed: of the floor.
        options: of the hunt, whose windows bound the degree of t(m).

    Percentiles for which there is no t(m) are left out: too few events for a window with side bands, scores that are
    equal at the cut, or weights below 0.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mass = 2700 + rng.exponential(500, 40_000)
        >>> score = mass / 1000 + rng.normal(size=40_000)
        >>> found = following_sculpting(score, mass, [90.0], ends=(2700, 5000))["90"]
        >>> found["distance"] < found["floor"] + 3 * found["floor_std"]
        True
    """
    if weight is not None and weight.min() < 0:
        return {}
    low, high = ends or (float(mass.min()), float(mass.max()))
    within = (mass >= low) & (mass <= high)
    score, mass, weight = score[within], mass[within], None if weight is None else weight[within]
    options = dataclasses.replace(options or BumpHuntOptions(), cut="mass", null="shuffled", tails=tail)
    edges = np.histogram_bin_edges(mass, bins)
    found = {}
    for percentile in percentiles:
        one = dataclasses.replace(options, percentiles=(percentile,))
        try:
            (cut,) = cuts_of("mass", score, mass, equal_edges("mass", mass, (low, high), one.bins), weight, one)
            where = f"beyond the cut of percentile {percentile:g}"
            found[f"{percentile:g}"] = sculpting_of(cut.chosen, mass, edges, seed, weight, where)
        except InputError:
            continue
    return found
