"""GAN-AE on a simulated R&D sample: several seeds, with and without the two mitigations of mass sculpting.

    python benchmarks/gan_ae_rnd.py --train train.h5 --test test.h5 --out gan_ae_rnd.json

Labels are looked at here, to judge, and nowhere before. Every number of the tables in docs/results/gan_ae.md is in the JSON
file, which is written anew after every training, so that an interrupted benchmark keeps what it has.
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import click
import numpy as np

import pipelines
import zoo
from pipelines import metrics
from pipelines.outputs import write_json
from zoo.keras import keras

VARIANTS = {"with": {}, "without": {"alpha": 0.0, "flat_mass": False}}


class Scores(keras.callbacks.Callback):
    """Keeps the scores of the test events after every `every` cycles."""

    def __init__(self, events, every):
        super().__init__()
        self.events, self.every, self.kept = events, every, {}

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every == 0:
            self.kept[epoch + 1] = self.model.score(self.events)


def judge(score, events):
    """AUCs, signal efficiencies and sculpting, as `zoo evaluate`."""
    found = metrics.evaluate(score, events)
    return {k: found[k] for k in ("auc", "signal_efficiency", "sculpting")}


def spread(values):
    """Mean and standard deviation over seeds, as text."""
    values = np.asarray(values, float)
    return f"{values.mean():.3f} +- {values.std(ddof=1):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def table(runs, which):
    """One line per quantity, one column per variant, at the cycle (or average) `which`."""
    lines = []
    quantities = [("AUC " + label, ("auc", label)) for label in ("1", "2")]
    quantities += [(f"distance at {p:g}", ("sculpting", f"{p:g}", "distance")) for p in metrics.PERCENTILES]
    quantities += [(f"   floor at {p:g}", ("sculpting", f"{p:g}", "floor")) for p in metrics.PERCENTILES]
    for title, path in quantities:
        cells = []
        for variant in VARIANTS:
            found = [run["judged"][which] for run in runs if run["variant"] == variant]
            for key in path:
                found = [f[key] for f in found]
            cells.append(spread(found) if found else "-")
        lines.append(f"{title:18}" + "".join(f"{cell:>20}" for cell in cells))
    header = f"{which:18}" + "".join(f"{variant + ' mitigation':>20}" for variant in VARIANTS)
    return "\n".join([header, *lines])


@click.command()
@click.option("--train", "train_file", required=True, help="Background events without labels.")
@click.option("--test", "test_file", required=True, help="Events with labels.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON file.")
@click.option("--preset", default="lhco2020", show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--cycles", default=40, show_default=True)
@click.option("--every", default=5, show_default=True, help="Judge after every so many cycles.")
@click.option("--set", "settings", multiple=True, help="NAME=VALUE, for all trainings.")
def main(train_file, test_file, out, preset, seeds, cycles, every, settings):
    """Train, judge, print the tables."""
    from zoo.cli.main import setting

    train, test = pipelines.open(train_file), pipelines.open(test_file)
    runs, last = [], {variant: [] for variant in VARIANTS}
    for seed, variant in itertools.product(range(seeds), VARIANTS):
        options = {"seed": seed, "cycles": cycles, **VARIANTS[variant], **dict(map(setting, settings))}
        model, scores, started = zoo.get("gan_ae", preset, **options), Scores(test, every), time.monotonic()
        model.fit(train, callbacks=[scores], verbose=0)
        judged = {f"cycle {cycle}": judge(score, test) for cycle, score in scores.kept.items()}
        judged["average"] = judge(np.mean(list(scores.kept.values()), axis=0), test)
        seconds = time.monotonic() - started
        runs.append({"variant": variant, "seed": seed, "seconds": seconds, "judged": judged})
        last[variant].append(scores.kept[max(scores.kept)])
        ensembles = {v: judge(np.mean(kept, axis=0), test) for v, kept in last.items() if kept}
        asked = {"preset": preset, "cycles": cycles, "settings": settings}
        write_json(out, {"asked": asked, "cores": os.cpu_count(), "runs": runs, "ensembles": ensembles})
        click.echo(f"seed {seed}, {variant} mitigation: {seconds:.0f} s", err=True)
    for which in runs[0]["judged"]:
        click.echo(table(runs, which) + "\n")
    ensembles = [{"variant": variant, "judged": {"mean of seeds": found}} for variant, found in ensembles.items()]
    click.echo(table(ensembles, "mean of seeds"))


if __name__ == "__main__":
    main()
