"""Closure of a template: whether it predicts how many background events of the window pass cuts on the score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.window_scan.backgrounds import local_p_value, log_p_value

PERCENTILES = (50.0, 80.0, 90.0, 95.0, 99.0)


def template_closure(
    background: np.ndarray, template: np.ndarray, percentiles: Sequence[float] = PERCENTILES
) -> list[dict[str, float]]:
    """Return for every percentile of the template's scores what it predicts of background events of the window.

    Args:
        background: (N,) scores of true background in the window. template: (M,) scores of the template.

    Returns:
        By percentile `observed`, the background events beyond the threshold, `predicted` with its `error`, the `ratio` of
        both, `pull` = (observed - predicted) / sqrt(predicted (1 - share) + error^2), and the `local_p_value` that a scan
        would give this background.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> (one,) = template_closure(rng.normal(size=10_000), rng.normal(size=50_000), [95])
        >>> abs(one["pull"]) < 3, round(one["predicted"])
        (True, 500)
    """
    found, n, m = [], len(background), len(template)
    for percentile in percentiles:
        threshold = float(np.percentile(template, percentile, method="inverted_cdf"))
        share = float((template > threshold).mean())
        predicted, observed = n * share, float((background > threshold).sum())
        error = n * float(np.sqrt(max(share * (1 - share), 1 / m) / m))
        spread = float(np.sqrt(max(predicted * (1 - share), 1e-9) + error**2))
        found.append(
            {
                "percentile": float(percentile),
                "threshold": threshold,
                "observed": observed,
                "predicted": predicted,
                "error": error,
                "ratio": observed / max(predicted, 1e-9),
                "pull": (observed - predicted) / spread,
                "local_p_value": float(local_p_value(log_p_value(*np.array([[observed], [predicted], [error]])))[0]),
            }
        )
    return found
