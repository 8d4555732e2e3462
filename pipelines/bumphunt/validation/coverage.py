"""Global p-values of many background-only searches: are they uniform?"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import kstest

from pipelines.bumphunt.bump_hunt import bump_hunt
from pipelines.bumphunt.options import BumpHuntOptions, with_changes
from pipelines.errors import InputError


def coverage(
    score: np.ndarray,
    mass: np.ndarray,
    options: BumpHuntOptions | None = None,
    *,
    data_sets: int = 100,
    events: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    **changed: Any,
) -> dict[str, Any]:
    """Hunt in many background-only data sets: are their global p-values uniform, as p-values have to be?

    Every data set is a random part of the background. Where there is enough of it they share no event (`disjoint` says
    so). Else each is drawn anew from all of it, and p-values of data sets that share events are correlated: that voids the
    Kolmogorov-Smirnov test, by some unknown amount. With `shuffle` it does not: each data set gets a dealing of its own,
    whatever its events. If a score depends on the mass, p-values come out too small: this shows by how much.

    Args:
        score, mass: (N,) of background alone. data_sets: how many. events: of each; by default N // data_sets.
        shuffle: deal the scores anew to the events of each data set, which tests the statistics without the score.
        options, changed: of the bump hunt in each, as for `bump_hunt`; by default the 80th percentile, as each data set
            has few events, and 300 pseudo-experiments.

    Returns:
        `p_values`; `ks_statistic` and `ks_p_value` against the uniform distribution; `mean`; `below_0.05`, the share
        of p-values there, and its statistical error `below_0.05_error`; `events` and `disjoint`.

    Raises:
        InputError: for fewer events than there have to be, and as `bump_hunt`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> score, mass = rng.normal(size=20_000), 2700 + rng.exponential(500, 20_000)
        >>> options = {"pseudo_experiments": 50, "percentiles": 50, "mass_range": (2700, 5000)}
        >>> result = coverage(score, mass, data_sets=10, **options)
        >>> result["events"], result["disjoint"], result["ks_p_value"] > 0.01
        (2000, True, True)
    """
    options = with_changes(options or BumpHuntOptions(percentiles=80.0, pseudo_experiments=300), changed)
    score, mass = np.asarray(score), np.asarray(mass)
    if data_sets < 2:
        raise InputError(f"data_sets {data_sets}, expected at least 2")
    size = len(score) // data_sets if events is None else events
    if not 0 < size <= len(score):
        raise InputError(f"data sets of {size} events, expected 1 to {len(score)}, as many as there are")
    disjoint = size * data_sets <= len(score)
    order = np.random.default_rng([seed, 2]).permutation(len(score))
    p_values = []
    for i in range(data_sets):
        rng = np.random.default_rng([seed, 3, i])
        rows = order[i * size : (i + 1) * size] if disjoint else rng.choice(len(score), size, replace=False)
        one = rng.permutation(score[rows]) if shuffle else score[rows]
        try:
            result = bump_hunt(one, mass[rows], options=options, seed=rng)
        except InputError as error:
            raise InputError(f"data sets of {size} events: {error}") from None
        p_values.append(result.global_p_value)
    p = np.array(p_values)
    test, low = kstest(p, "uniform"), float(np.mean(p <= 0.05))
    return {
        "p_values": p.tolist(), "ks_statistic": float(test.statistic), "ks_p_value": float(test.pvalue),
        "mean": float(p.mean()), "below_0.05": low, "below_0.05_error": float(np.sqrt(0.05 * 0.95 / data_sets)),
        "data_sets": data_sets, "events": size, "disjoint": disjoint, "shuffled": shuffle,
        "pseudo_experiments": options.pseudo_experiments,
        "toys": options.pseudo_experiments,  # its name in files of older versions
    }  # fmt: skip
