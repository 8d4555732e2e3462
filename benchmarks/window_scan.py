"""Scans of windows in background alone: are their global p-values uniform?

    python benchmarks/window_scan.py --scans 100 --out coverage.json

Events are made up: two Gaussian features, and masses falling from 2500 to 5000 GeV. With `--slope` the mean of a feature moves
with the mass. For every window boosted trees learn the window against its side bands in folds, as `cwola` with
`classifier="trees"` does; scikit-learn alone does it here, in a tenth of the time. All else is the scan of `zoo hunt --scan`.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
from scipy.stats import kstest
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from pipelines import Events
from pipelines.outputs import write_json
from pipelines.window_scan.options import WindowScanOptions, windows_of
from pipelines.window_scan.result import Scored
from pipelines.window_scan.scan import window_scan

RANGE = (2500.0, 5000.0)


def background(size, slope, rng):
    """Features (N, 2) and masses (N,)."""
    mass = RANGE[0] + rng.exponential(600, 2 * size)
    mass = mass[mass < RANGE[1]][:size]
    x = rng.normal(size=(len(mass), 2))
    x[:, 0] += slope * (mass - 3500) / 1000
    return x, mass


def scores(x, first, folds, trees, rng):
    """The score of every event by trees that have not seen it."""
    fold, score = rng.permutation(np.arange(len(x)) % folds), np.empty(len(x))
    weight = np.where(first, 0.5 / first.mean(), 0.5 / (1 - first.mean()))
    for k in range(folds):
        seen = fold != k
        made = HistGradientBoostingClassifier(max_iter=trees, max_leaf_nodes=8, early_stopping=False)
        with threadpool_limits(
            1, "openmp"
        ):  # on a busy machine threads that wait for each other took ten times as long
            made.fit(x[seen], first[seen], sample_weight=weight[seen])
            score[~seen] = made.decision_function(x[~seen])
    return score


@click.command()
@click.option("--scans", default=100, show_default=True)
@click.option("--events", default=6000, show_default=True, help="Of each scan.")
@click.option("--slope", default=0.0, show_default=True, help="Of a feature's mean, standard deviations in 1000 GeV.")
@click.option("--folds", default=5, show_default=True)
@click.option("--trees", default=20, show_default=True)
@click.option("--background", "kind", default="spectrum", show_default=True)
@click.option("--percentile", default=90.0, show_default=True)
@click.option("--window-step", default=1.0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(scans, events, slope, folds, trees, kind, percentile, window_step, out):
    """Scan background SCANS times."""
    options = {"percentiles": percentile, "background": kind, "mass_range": RANGE, "pseudo_experiments": 500,
               "window_step": window_step}  # fmt: skip
    rows, start = [], time.perf_counter()
    for seed in range(scans):
        rng = np.random.default_rng([seed, 7])
        x, mass = background(events, slope, rng)
        data = Events.from_arrays(x, mass, ["a", "b"], mass_column="m")
        wanted = WindowScanOptions(**options, seed=seed)
        windows, _ = windows_of(data.mass.astype(float), wanted)
        scored = [Scored(scores(x, window.inside(mass), folds, trees, rng)) for window in windows]
        found = window_scan(windows, scored, data, wanted)
        rows.append({"global_p_value": found.global_p_value, "local_significance": found.best.local_significance,
                     "windows": len(windows)})  # fmt: skip
    p = np.array([row["global_p_value"] for row in rows])
    told = {"scans": scans, "windows": rows[0]["windows"], "mean": float(p.mean()), "below 0.05": float((p < 0.05).mean()),
            "below 0.01": float((p < 0.01).mean()), "ks_p_value": float(kstest(p, "uniform").pvalue),
            "seconds": time.perf_counter() - start}  # fmt: skip
    click.echo(", ".join(f"{name} {value:.3g}" for name, value in told.items()))
    write_json(out, {**options, "events": events, "slope": slope, "folds": folds, "trees": trees, **told, "rows": rows})


if __name__ == "__main__":
    main()
