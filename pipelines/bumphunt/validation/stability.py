"""How far members of a model, or models of several seeds, agree."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from pipelines.bumphunt.bump_hunt import bump_hunt
from pipelines.bumphunt.options import BumpHuntOptions, with_changes
from pipelines.bumphunt.validation.sculpting import by_tail
from pipelines.errors import InputError


def stability(
    scores: np.ndarray,
    mass: np.ndarray,
    options: BumpHuntOptions | None = None,
    **changed: Any,
) -> dict[str, Any]:
    """Compare what members of a group, or models of several seeds, say of the same events.

    Args:
        scores: (K, N), higher is more anomalous. mass: (N,) GeV.
        options, changed: of the bump hunt, as for `bump_hunt`.

    Returns:
        `rank_correlation`, Spearman's, mean and smallest over pairs; `rank_spread`, the standard deviation over models
        of an event's rank in [0, 1], the root of its mean variance (0.29 if they had nothing in common, however many); by tail and percentile
        `overlap`, the share of events that two models select both among those that one of them does, mean over pairs;
        `local` and
        `global` significance of every model, their `local_mean`, `local_std` (ddof 1), `global_mean`, `global_std`, and
        `intervals`; `together`, the significances of the mean score.

    Raises:
        InputError: for fewer than two models, and as `bump_hunt`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mass, common = 2700 + rng.exponential(500, 20_000), rng.normal(size=20_000)
        >>> scores = common + 0.1 * rng.normal(size=(3, 20_000))
        >>> result = stability(scores, mass, percentiles=95, mass_range=(2700, 5000), pseudo_experiments=50)
        >>> result["rank_correlation"]["mean"] > 0.98, len(result["local"])
        (True, 3)
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or len(scores) < 2:
        raise InputError(f"scores have shape {scores.shape}, expected (K, N) of at least two models")
    if not np.isfinite(scores).all():
        raise InputError(
            f"{np.count_nonzero(~np.isfinite(scores).all(axis=1))} of {len(scores)} models give NaN or infinite scores"
        )
    ranks = rankdata(scores, axis=1) / scores.shape[1]
    pairs = np.triu_indices(len(scores), 1)
    correlation = np.corrcoef(ranks)[pairs]
    options = with_changes(options or BumpHuntOptions(), changed)
    results = [bump_hunt(one, mass, options=options) for one in scores]
    mean = bump_hunt(scores.mean(axis=0), mass, options=options)
    local = [result.best.local_significance for result in results]
    overall = [result.global_significance for result in results]
    return {
        "rank_correlation": {"mean": float(correlation.mean()), "min": float(correlation.min())},
        "rank_spread": float(np.sqrt(ranks.var(axis=0, ddof=1).mean())),
        "overlap": {
            tail: {f"{p:g}": _overlap(signed, p, pairs) for p in options.several_percentiles}
            for tail, signed in by_tail(scores, options.tails or "upper").items()
        },
        "local": local, "local_mean": float(np.mean(local)), "local_std": float(np.std(local, ddof=1)),
        "global": overall, "global_mean": float(np.mean(overall)), "global_std": float(np.std(overall, ddof=1)),
        "intervals": [one.best.interval for one in results],
        "together": {"local": mean.best.local_significance, "global": mean.global_significance},
    }  # fmt: skip


def _overlap(scores: np.ndarray, percentile: float, pairs: Any) -> float:
    chosen = scores > np.percentile(scores, percentile, axis=1, keepdims=True)
    shares = [(chosen[i] & chosen[j]).sum() / max(1, (chosen[i] | chosen[j]).sum()) for i, j in zip(*pairs)]
    return float(np.mean(shares))
