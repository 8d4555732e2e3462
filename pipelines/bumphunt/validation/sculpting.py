"""How much cuts on a score shape the mass spectrum of background."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines import metrics
from pipelines.bumphunt.following_sculpting import following_sculpting
from pipelines.bumphunt.options import TAILS
from pipelines.errors import InputError

CURVE = (*np.arange(5.0, 100.0, 5.0).tolist(), 97.0, 98.0, 99.0, 99.5)  # percentiles of a sculpting curve
LEAST = 10  # events that must be selected for a point of it


def sculpting_curve(
    score: np.ndarray,
    mass: np.ndarray,
    percentiles: Sequence[float] = CURVE,
    *,
    tails: str = "upper",
    bins: int = metrics.MASS_BINS,
    seed: int = 0,
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return how much cuts on the score shape the mass spectrum, by tail and percentile, beside statistics' share.

    As `pipelines.metrics.sculpting`, whose `distance`, `floor`, `floor_std` and `events` these are, and `pull`, by how
    many standard deviations of the floor the distance is above it (`pipelines.metrics.above_floor`). `tails` are those of a
    hunt. Percentiles that fewer than 10 events pass are left out; `InputError` if those are all. Give background alone:
    signal shapes the spectrum too, as it should.

    >>> rng = np.random.default_rng(0)
    >>> score, mass = rng.normal(size=5000), rng.exponential(500, 5000)
    >>> curve = sculpting_curve(score, mass, tails="both")
    >>> len(curve["upper"]), abs(curve["lower"]["90"]["pull"]) < 4
    (23, True)
    """
    return {
        tail: _curve(signed, mass, percentiles, bins, seed)
        for tail, signed in by_tail(np.asarray(score), tails).items()
    }


def _curve(
    score: np.ndarray, mass: np.ndarray, percentiles: Sequence[float], bins: int, seed: int
) -> dict[str, dict[str, float | None]]:
    kept = [p for p in percentiles if np.count_nonzero(score > np.percentile(score, p)) >= LEAST]
    if not kept:
        raise InputError(f"fewer than {LEAST} of {len(score)} events pass percentile {min(percentiles):g} of the score")
    measured = metrics.sculpting(score, mass, kept, bins, seed)
    return {name: with_pull(one) for name, one in measured.items()}


def following_curve(
    score: np.ndarray,
    mass: np.ndarray,
    percentiles: Sequence[float] = CURVE,
    *,
    tails: str = "upper",
    bins: int = metrics.MASS_BINS,
    seed: int = 0,
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return what `sculpting_curve` does, of cuts that follow the mass; percentiles that leave no window are left out.

    >>> rng = np.random.default_rng(0)
    >>> mass = rng.exponential(500, 20_000)
    >>> curve = following_curve(mass / 1000 + rng.normal(size=20_000), mass, [50.0, 80.0])
    >>> abs(curve["upper"]["80"]["pull"]) < 4
    True
    """
    score = np.asarray(score)
    found = {
        tail: following_sculpting(score, mass, percentiles, tail=tail, bins=bins, seed=seed)
        for tail in by_tail(score, tails)
    }
    return {tail: {name: with_pull(one) for name, one in measured.items()} for tail, measured in found.items()}


def with_pull(one: dict[str, float]) -> dict[str, float | None]:
    """Return numbers of `pipelines.metrics.sculpting` with the `pull` of the distance."""
    return {**one, "pull": metrics.above_floor(one["distance"], one["floor"], one["floor_std"])}


def by_tail(score: np.ndarray, tails: str) -> dict[str, np.ndarray]:
    """Return the score by tail, with the sign that makes what is selected the largest."""
    if tails not in TAILS:
        raise InputError(f"tails {tails!r}, expected one of {', '.join(TAILS)}")
    return {tail: score if tail == "upper" else -score for tail in TAILS[tails]}
