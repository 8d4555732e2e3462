"""What labels say of a bump that was found without them."""

from __future__ import annotations

import numpy as np

from pipelines.bumphunt.bump_hunt import Bump
from pipelines.bumphunt.result import Search


def judged(search: Search, bump: Bump) -> dict[str, object]:
    """Say with truth what a bump is: uses labels, 0 for background, k > 0 for signal k.

    Returns a dict ready for JSON: `background`, the numbers before, selected, and selected in the interval; and for
    each signal, by its label: the same numbers, its `name`, `efficiency` of the cut, `s_over_b` before, selected and in
    the interval, `gain` = S/B selected over before, `gain_interval`, `mass`, the median of the signal's masses, and
    `mass_bias` = mass estimate minus that, GeV. What cannot be told is None. Weighted events count by weight.
    """
    label, names = search.events.label, search.events.about.label_names
    mass, weight = search.masses[bump.spectrum], np.ones(len(label)) if search.weight is None else search.weight
    before = search.in_range(bump)
    selected = search.selected(bump)
    steps = {"before": before, "selected": selected, "interval": selected & search.in_interval(bump)}

    def numbers(wanted: np.ndarray) -> dict[str, float]:
        return {name: float(weight[kept & wanted].sum()) for name, kept in steps.items()}

    background = numbers(label == 0)
    signals = {}
    for k in np.unique(label[label > 0]).tolist():
        one = numbers(label == k)
        ratio = {name: _over(one[name], background[name]) for name in steps}
        at = float(np.median(mass[before & (label == k)])) if one["before"] else None
        estimate = bump.mass_estimate
        signals[str(k)] = {
            "name": names.get(k, f"signal {k}"),
            **one,
            "efficiency": _over(one["selected"], one["before"]),
            "s_over_b": ratio,
            "gain": _over(ratio["selected"], ratio["before"]),
            "gain_interval": _over(ratio["interval"], ratio["before"]),
            "mass": at,
            "mass_bias": None if at is None or estimate is None else estimate - at,
        }
    return {"background": background, "signals": signals}


def _over(a: float | None, b: float | None) -> float | None:
    return None if a is None or not b else a / b
