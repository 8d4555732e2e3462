"""Figures, in the field's style."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import mplhep


def plot_history(rows: Sequence[Mapping[str, object]], path: str | os.PathLike) -> None:
    """Draw every recorded quantity against the epoch of its last phase, training and validation together."""
    rows = [row for row in rows if rows and row["phase"] == rows[-1]["phase"]]
    names = [n for n in (rows[0] if rows else {}) if n not in ("phase", "epoch") and not n.startswith("val_")]
    with plt.style.context(mplhep.style.CMS):
        columns = min(3, max(1, len(names)))
        lines = max(1, -(-len(names) // columns))
        figure, axes = plt.subplots(lines, columns, figsize=(8 * columns, 6 * lines), squeeze=False)
        for axis, name in zip(axes.flat, names):
            for key, style in ((name, "-"), (f"val_{name}", "--")):
                points = [(row["epoch"], row[key]) for row in rows if row.get(key) is not None]
                if points:
                    axis.plot(*zip(*points), style, label="validation" if key != name else "training")
            axis.set_xlabel("epoch")
            axis.set_ylabel(name.replace("_", " "))
            if axis.lines:
                axis.legend()
        for axis in list(axes.flat)[len(names) :]:
            axis.set_visible(False)
        figure.tight_layout()
        figure.savefig(path, dpi=60)
        plt.close(figure)
