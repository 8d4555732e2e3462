"""The figure of what each input contributes to a score."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.plots.page import page
from pipelines.plots.record import plain, target

SHOWN = 20  # inputs at most, the largest


def plot_contributions(found: Mapping[str, Any], path: str | os.PathLike[str]) -> dict[str, object]:
    """Draw the mean contributions of inputs to a score, the largest first, beside those of other events.

    Args:
        found: `names`, and by name `mean`, `error` and `others` (or None), as `pipelines.bumphunt.result.Contributions` has them;
            `events`, `kind`, `method`.

    Returns:
        `found`, and `shown`, the names that are drawn: the 20 of largest mean at most.

    Example:
        >>> import tempfile
        >>> found = {"names": ["m", "pt"], "mean": [0.1, 0.5], "error": [0.1, 0.1], "others": None, "events": 9,
        ...          "kind": "mse", "method": "residuals"}
        >>> plot_contributions(found, tempfile.mkdtemp() + "/why.png")["shown"]
        ['pt', 'm']
    """
    mean = np.array(found["mean"], float)
    order = np.argsort(-np.abs(mean), kind="stable")[:SHOWN]
    names = [found["names"][i] for i in order]
    places = np.arange(len(order))[::-1]
    numbers: dict[str, object] = plain({**found, "shown": names})
    with page(target(path), numbers, (10, 2.5 + 0.42 * len(order))) as figure:
        axes = figure.subplots()
        error = np.array(found["error"], float)[order]
        axes.barh(
            places,
            mean[order],
            xerr=error,
            height=0.55,
            color="C0",
            ecolor="0.3",
            label=f"{found['events']} selected events",
        )
        if found["others"] is not None:
            axes.plot(np.array(found["others"], float)[order], places, "o", color="C1", label="other events")
        axes.axvline(0, color="0.6", lw=1)
        axes.set(yticks=places, yticklabels=names, xlabel=f"mean contribution to {found['kind']} ({found['method']})")
        axes.minorticks_off()
        axes.legend()
    return numbers
