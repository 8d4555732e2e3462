"""Scans of windows in background alone: are their global p-values uniform? And what a scan costs.

    python benchmarks/window_scan.py --scans 40 --out coverage.json
    python benchmarks/window_scan.py --scans 40 --data rnd.h5 --events 20000 --columns benchmark --out coverage_rnd.json

Without `--data` events are made up: two Gaussian features that do not depend on the mass, masses falling from 2500 to 5000 GeV.
With it they are events of label 0, drawn anew for every scan, which share events if there are few. Every scan trains a model
for every window; trees are few and small, so that a scan takes seconds.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import click
import numpy as np
import tensorflow as tf
from scipy.stats import kstest

import pipelines
import zoo
from pipelines import Events
from pipelines.outputs import write_json
from zoo.cli.terminal import setting
from zoo.models.window_classifier import COLUMNS

RANGE = (2500.0, 5000.0)


def made_up(size, seed):
    """Background whose features do not depend on the mass."""
    rng = np.random.default_rng([seed, 7])
    mass = RANGE[0] + rng.exponential(600, 2 * size)
    mass = mass[mass < RANGE[1]][:size]
    return Events.from_arrays(rng.normal(size=(len(mass), 2)), mass, ["a", "b"], mass_column="m")


@click.command()
@click.argument("model", default="cwola")
@click.option("--scans", default=40, show_default=True)
@click.option("--events", default=10_000, show_default=True, help="Of each scan.")
@click.option("--data", help="Events whose label 0 is drawn from, instead of made-up ones.")
@click.option("--columns", type=click.Choice(["*", "benchmark"]), default="*", show_default=True)
@click.option("--background", default="spectrum", show_default=True)
@click.option("--percentile", default=95.0, show_default=True)
@click.option("--set", "settings", multiple=True, help="NAME=VALUE of the model.")
@click.option("--eager/--traced", default=True, help="Tracing takes longer than small trees do.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(model, scans, events, data, columns, background, percentile, settings, eager, out):
    """Scan background SCANS times with MODEL."""
    warnings.simplefilter("ignore")
    tf.config.run_functions_eagerly(eager)
    known = None
    if data:
        known = pipelines.open(data, RANGE)
        known = known.select(label=0) if known.has_labels else known
    own = {"columns": COLUMNS if columns == "benchmark" else ("*",), "classifier": "trees", "trees": 20, "leaves": 8,
           "batch_size": 4096, **dict(map(setting, settings))}  # fmt: skip
    own = {
        name: value for name, value in own.items() if name in zoo.registry.model_class(model).Hyperparameters.defaults()
    }
    rows = []
    for seed in range(scans):
        sample = made_up(events, seed) if known is None else known.sample(events, seed).without_labels()
        start = time.perf_counter()
        found = zoo.hunt(
            model, sample, scan=True, hyperparameters=own, percentiles=percentile, background=background, seed=seed,
            mass_range=RANGE, pseudo_experiments=2000, jit_compile=False,
        )  # fmt: skip
        rows.append({"global_p_value": found.global_p_value, "local_significance": found.best.local_significance,
                     "windows": len(found.windows), "seconds": time.perf_counter() - start})  # fmt: skip
        p = np.array([row["global_p_value"] for row in rows])
        told = {"scans": len(rows), "mean": p.mean(), "below 0.05": float((p < 0.05).mean()),
                "ks_p_value": float(kstest(p, "uniform").pvalue),
                "seconds a window": float(np.mean([row["seconds"] / row["windows"] for row in rows]))}  # fmt: skip
        click.echo(", ".join(f"{name} {value:.3g}" for name, value in told.items()))
        write_json(
            out,
            {"model": model, "hyperparameters": own, "background": background, "events": events, **told, "rows": rows},
        )


if __name__ == "__main__":
    main()
