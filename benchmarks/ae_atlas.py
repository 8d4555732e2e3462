"""AE on two-lepton events: every preset, with its penalties and without, with standard and with min-max scaling.

    python benchmarks/ae_atlas.py --background sm.h5 --signal ttbar=ttbar.h5 --signal zp200=zp200.h5 --out ae_atlas.json

Trainings are on 80 % of the background, without labels. The other 20 % and all signal events judge: AUC of the mean of
the members, and mean and standard deviation of theirs. Beside them stand the same AUCs of two scores that no network of
the zoo is needed for: the distance from the background's mean event in scaled features, which is what an auto-encoder
comes to that gives one event back whatever it is given, and boosted trees trained with the labels, which say how much
there is to be found.

The JSON file is written anew after every training, so that an interrupted benchmark keeps what it has. Event weights
enter the training, as AE has it, and no AUC.
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import click
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict

import pipelines
import zoo
from pipelines import InputError, metrics
from pipelines.outputs import write_json
from zoo.cli.terminal import setting
from zoo.models.ae import COLUMNS

PRESETS = ("standard33", "big33", "small33", "big13", "defaults")
SCALINGS = ("standard", "minmax")
PENALTIES = {"preset's": {}, "none": {"kernel_regularisation": 0.0, "activity_regularisation": 0.0}}
CONSTANT = 1e-3  # a reconstruction that varies by less than this share of the features is one event


def read(background, signals):
    """80 % of the background without labels, the other 20 %, and every signal by its name."""
    background = pipelines.open(background)
    if background.has_labels and background.label.any():
        raise InputError(f"{background.name}: has events of labels other than 0, expected background alone")
    train, test = background.split(0.8)
    events = {}
    for name, found, path in (text.partition("=") for text in signals):
        if not found or not name or name in events or name == "all":
            raise InputError(f"--signal {name}{found}{path}: expected NAME=FILE, every name once, and none 'all'")
        events[name] = pipelines.open(path)
        if events[name].has_labels and len(np.unique(events[name].label)) > 1:
            raise InputError(f"{path}: has events of several labels, expected one signal")
    return train.without_labels(), test, events


def areas(background, signals):
    """AUCs of scores (K, N) by signal, and of all signals together: of the mean over K, and each."""
    signals = {**signals, "all": np.concatenate(list(signals.values()), axis=1)}
    return {
        name: {
            "auc": metrics.auc(background.mean(0), signal.mean(0)),
            "members": [metrics.auc(*pair) for pair in zip(background, signal)],
        }
        for name, signal in signals.items()
    }


def make(preset, scaling, penalties, **options):
    """The untrained model of a preset, of the constructor's own hyperparameters for "defaults"."""
    options = {"scaling": scaling, **PENALTIES[penalties], **options}
    return zoo.get("ae", None if preset == "defaults" else preset, **options)


def varies(reconstructed, features):
    """Standard deviation of the reconstruction in units of the feature's, mean over features: (K,) of (K, N, F)."""
    width = features.std(0)
    return (reconstructed.std(1)[:, width > 0] / width[width > 0]).mean(1)


def from_mean(model, train, events):
    """Squared distances (N,) from the mean training event in the model's scaled features: a network switched off."""
    mean = model.scaler(train.read("features", model.resolved_columns)).numpy().mean(0)
    scaled = model.scaler(events.read("features", model.resolved_columns)).numpy()
    return np.square(scaled - mean).mean(1)


def train_one(model, train, test, signals):
    """What became of a training: AUCs, what is left of the variance, how much the reconstruction varies."""
    started = time.monotonic()
    history = model.fit(train, verbose=0)
    seconds, members, epochs = time.monotonic() - started, max(model.members, 1), len(history.epoch)
    rows = model.member_rows or [
        {"epoch": epoch, "reconstruction": value} for epoch, value in enumerate(history.history["reconstruction"])
    ]
    term = np.array([row["reconstruction"] for row in rows]).reshape(epochs, members)
    of_background = model.score(test, per_member=True)
    reconstructed = model.results(test, ["reconstructed"])["reconstructed"].reshape(members, len(test), -1)
    return {
        "epochs": epochs,
        "seconds": round(seconds, 1),
        "reconstruction": term[-1].tolist(),
        "reconstruction_halfway": term[(epochs - 1) // 2].tolist(),
        "left": (of_background.mean(1) / from_mean(model, train, test).mean()).tolist(),
        "spread": varies(reconstructed, test.read("features", model.resolved_columns)).tolist(),
        "auc": areas(of_background, {k: model.score(events, per_member=True) for k, events in signals.items()}),
    }


def without_network(model, train, test, signals):
    """AUCs of the distance from the mean event."""
    scores = {name: from_mean(model, train, events)[None] for name, events in signals.items()}
    return {"auc": areas(from_mean(model, train, test)[None], scores)}


def with_labels(test, signals):
    """AUCs of boosted trees for every signal by itself, two-fold, on the background that judges."""
    x = test.read("features", COLUMNS)
    folds = StratifiedKFold(2, shuffle=True, random_state=0)  # files have their processes one after the other
    found = {}
    for name, events in signals.items():
        both = np.concatenate([x, events.read("features", COLUMNS)])
        truth = np.arange(len(both)) >= len(x)
        trees = HistGradientBoostingClassifier(class_weight="balanced", random_state=0)
        score = cross_val_predict(trees, both, truth, cv=folds, method="predict_proba")[:, 1]
        found[name] = {"auc": metrics.auc(score[~truth], score[truth])}
    return {"auc": found}


def network(one):
    """Reconstruction term, what it leaves of the variance, how much it varies, and how many members give one event."""
    if "left" not in one:
        return ["-"] * 4
    constant = f"{sum(spread < CONSTANT for spread in one['spread'])} of {len(one['spread'])}"
    return [*(f"{np.mean(one[name]):.4f}" for name in ("reconstruction", "left", "spread")), constant]


def ensemble(one, name):
    """AUC of the mean of the members."""
    return f"{one['auc'][name]['auc']:.3f}" if name in one["auc"] else "-"


def members(one, name):
    """Mean and standard deviation of the AUCs of the members."""
    found = one["auc"].get(name, {}).get("members", ())
    return f"{np.mean(found):.3f}+-{np.std(found, ddof=1):.3f}" if len(found) > 1 else "-"


def lines(results, heads, cells):
    """A line for each training and each score without a network."""
    width = max(map(len, results)) + 2
    table = {" " * width: heads} | {title.ljust(width): cells(one) for title, one in results.items()}
    return "\n".join(title + "".join(f"{cell:>15}" for cell in found) for title, found in table.items())


def tables(results):
    """What the networks do, and the AUCs: of the mean of the members, and mean and standard deviation of theirs."""
    signals = list(dict.fromkeys(name for one in results.values() for name in one["auc"]))
    parts = {"Networks": lines(results, ["term", "left", "spread", "one event"], network)}
    for title, cell in {"AUC of the mean of the members": ensemble, "AUCs of the members": members}.items():
        parts[title] = lines(results, signals, lambda one, cell=cell: [cell(one, name) for name in signals])
    return "\n\n".join(f"{title}\n{part}" for title, part in parts.items())


@click.command()
@click.option("--background", required=True, help="Events file of Standard Model events alone.")
@click.option("--signal", "signals", multiple=True, required=True, metavar="NAME=FILE", help="Events file of a signal.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON file.")
@click.option("--presets", default=",".join(PRESETS), show_default=True, help="'defaults': the constructor's own.")
@click.option("--members", default=5, show_default=True)
@click.option("--epochs", default=30, show_default=True)
@click.option("--batch-size", default=256, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="For all trainings.")
def main(background, signals, out, presets, settings, **options):
    """Train, judge, print the tables."""
    train, test, events = read(background, signals)
    sizes = {"train": len(train), "test": len(test), **{name: len(found) for name, found in events.items()}}
    options |= dict(map(setting, settings))
    asked = {"background": background, "signals": signals, **options}
    results = {}

    def note(title, found):
        results[title] = found
        write_json(out, {"asked": asked, "events": sizes, "cores": os.cpu_count(), "results": results})
        click.echo(f"{title}: {found.get('seconds', 0):.0f} s", err=True)

    note("with labels: boosted trees", with_labels(test, events))
    for preset, scaling, penalties in itertools.product(presets.split(","), SCALINGS, PENALTIES):
        model = make(preset, scaling, penalties, **options)
        if preset == "defaults" and penalties != "none":
            continue  # they have none
        found = train_one(model, train, test, events)
        mean_event = f"mean event, {len(model.resolved_columns)} features, {scaling}"
        if mean_event not in results:
            note(mean_event, without_network(model, train, test, events))
        note(f"{preset}, {scaling}, penalties: {penalties}", found)
    click.echo(tables(results))


if __name__ == "__main__":
    main()
