"""Weak supervision: how well a detector finds a little signal in a window of mass, whatever it was trained on.

    python benchmarks/weak_supervision.py cwola --data rnd.h5 --window 3300 3700 --s-over-b 0.014 --out cwola.json
    python benchmarks/weak_supervision.py idealised --data inner.h5 --background more.h5 --window 3300 3700 --out ideal.json

The data are all events of label 0, and signal mixed in at a ratio S/B in the window; without `--s-over-b`, the events as they
are. A model is trained on them without labels, for every seed, which also draws the signal. The background that judges is
that of the data in the window, or of `--test`; the signal that judges is all there is in the window, also what was not mixed
in. A model that has no folds of its own (a baseline) has seen the background that judges it. Of a model with a template the
ratio of true background to what the template predicts is given, beyond its 95th percentile, and the AUC of boosted trees that
are trained to tell both apart, cross-validated: 0.5 for a perfect template.

Largest SIC = efficiency of the signal / sqrt(that of the background), over cuts that at least 25 or 100 events of the
background pass. The JSON file is written anew after every training.
"""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from pathlib import Path

import click
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict

import pipelines
import zoo
from pipelines import metrics
from pipelines.outputs import write_json
from pipelines.window_scan.closure import template_closure
from zoo.cli.terminal import setting
from zoo.windows import Regions

FLOORS = (25, 100)  # events of the background that pass
WORKING_POINTS = (1e-2, 1e-3)  # efficiencies of the background
COLUMNS = ("mass_light", "mass_difference", "tau21_light", "tau21_heavy")


def chosen_of(events, signal, regions, s_over_b, seed):
    """A mask of the events that are trained on: all of the background, and signal drawn at the ratio S/B in the window."""
    label, inside = events.label, regions.inside(events.mass)
    background, there = label == 0, np.flatnonzero(label == signal)
    share = s_over_b * (background & inside).sum() / inside[there].sum()
    drawn = np.random.default_rng(seed).permutation(there)[: round(share * len(there))]
    chosen = background.copy()
    chosen[drawn] = True
    return chosen


def mixed(events, signal, regions, s_over_b, seed):
    """The data that are trained on, and masks of the background and the signal that judge, of all events."""
    label, inside = events.label, regions.inside(events.mass)
    judges = (label == 0) & inside, (label == signal) & inside
    if s_over_b is None:
        return events.without_labels(), *judges
    return events.take(chosen_of(events, signal, regions, s_over_b, seed)).without_labels(), *judges


def judged(background, signal):
    """AUC, the largest SIC by the number of background events that pass at least, and SIC at working points."""
    threshold, signal = np.sort(background)[::-1], np.sort(signal)
    passing = np.arange(1, len(threshold) + 1)  # events at or above each threshold
    efficiency = 1.0 - np.searchsorted(signal, threshold, side="left") / len(signal)
    sic = efficiency / np.sqrt(passing / len(threshold))
    found = {"auc": metrics.auc(background, signal)}
    found |= {f"sic_{floor}": sic[passing >= floor].max() for floor in FLOORS}
    return found | {f"sic_at_{at:g}": sic[round(at * len(threshold)) - 1] for at in WORKING_POINTS}


def told_apart(model, background):
    """The AUC of boosted trees that tell true background from the model's template, of events they have not seen."""
    x = background.read("features", model.resolved_columns)
    return apart(x, model.template(len(x), seed=1).read("features"))


def apart(true, samples):
    """The AUC of boosted trees that tell true events (n, F) from samples, cross-validated."""
    x = np.concatenate([true, samples])
    truth = np.arange(len(x)) < len(true)
    trees = HistGradientBoostingClassifier(max_iter=60, early_stopping=False)
    score = cross_val_predict(
        trees, x, truth, cv=StratifiedKFold(3, shuffle=True, random_state=0), method="predict_proba"
    )
    return metrics.auc(score[~truth, 1], score[truth, 1])


def scores_of(model, background, signal, more, test, label):
    """Scores of the background and of the signal that judge."""
    if test is not None:
        background, signal = test.select(label=0), test.select(label=label)
    signals = [model.score(signal)] + ([] if more is None else [model.score(more)])
    return model.score(background), np.concatenate(signals)


@click.command()
@click.argument("model")
@click.option("--data", multiple=True, required=True, help="Labelled events; may be repeated.")
@click.option("--more-signal", help="Labelled events whose signal judges too.")
@click.option("--test", help="Labelled events that judge instead of the data.")
@click.option("--window", type=float, nargs=2, required=True, help="GeV.")
@click.option("--mass-range", type=float, nargs=2, help="GeV; all masses otherwise.")
@click.option("--s-over-b", type=float, help="In the window; the events as they are otherwise.")
@click.option("--signal", type=int, default=1, show_default=True, help="Label of the signal.")
@click.option("--background", help="Events whose label 0 is the true background of idealised.")
@click.option("--set", "settings", multiple=True, help="NAME=VALUE of the model.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(model, data, more_signal, test, window, mass_range, s_over_b, signal, background, settings, seeds, out):
    """Train MODEL for every seed and judge it by labels."""
    warnings.simplefilter("ignore")
    events = pipelines.open(list(data), mass_range or None)
    regions, rows = Regions(*window), []
    more = pipelines.open(more_signal).select(label=signal, mass_range=window) if more_signal else None
    test = pipelines.open(test).select(mass_range=window) if test else None
    kind = zoo.registry.model_class(model)
    own = {name: window for name in ("window",) if name in kind.Hyperparameters.defaults()}
    with tempfile.TemporaryDirectory() as folder:
        if background:
            pipelines.open(background).select(label=0).without_labels().write(Path(folder) / "background.h5")
            own["background"] = str(Path(folder) / "background.h5")
        for seed in range(seeds):
            given = {"columns": COLUMNS, **own, **dict(map(setting, settings))}
            found = zoo.get(model, **given, seed=100 * seed)
            train, is_background, is_signal = mixed(events, signal, regions, s_over_b, seed)
            start = time.perf_counter()
            found.fit(train, verbose=0)
            seconds = time.perf_counter() - start
            of_background, of_signal = scores_of(
                found, events.take(is_background), events.take(is_signal), more, test, signal
            )
            rows.append({"seed": seed, "seconds": seconds, **judged(of_background, of_signal)})
            if getattr(found, "has_template", False):
                closure = template_closure(of_background, found.score(found.template(100_000)), [95])
                rows[-1]["template_ratio_95"] = closure[0]["ratio"]
                rows[-1]["template_auc"] = told_apart(found, events.take(is_background))
            click.echo(", ".join(f"{k} {v:.4g}" for k, v in rows[-1].items()))
            write_json(out, {"model": model, "hyperparameters": found.get_config(), "cpus": os.cpu_count(), "rows": rows,
                             "trained on": len(train), "background": int(is_background.sum()),
                             "signal": len(of_signal)})  # fmt: skip
    for name in rows[0]:
        values = [row[name] for row in rows]
        click.echo(f"{name}: {np.mean(values):.4g} +- {np.std(values, ddof=1) if len(values) > 1 else 0:.2g}")


if __name__ == "__main__":
    main()
