"""When to stop a training whose loss goes on falling: what says so without labels, and what each of them is worth.

    python benchmarks/when_to_stop.py train gan_ae --data train.h5 --states states --epochs 16 --preset lhco2020
    python benchmarks/when_to_stop.py judge states --data train.h5 --test labelled.h5 --json stop.json

`train` keeps the model after every epoch, for as many seeds as there are `--members`. `judge` measures, at every epoch and of every
member, without labels:

- the reconstruction error of the training events, of `kl` its mean too;
- stability: the rank correlation of the scores of training events with those of the epoch before;
- agreement: the mean rank correlation of these scores with the other members;
- sculpting: Jensen-Shannon distance of the mass spectrum at a cut, 50th and 90th percentile, less its floor;
- ARGOS: of a window against its side bands, in events with a little signal in them (`--signals`), and in events without.

Each is a rule that chooses an epoch. The AUC at that epoch, which needs labels, stands beside the last epoch's, the best one's, and
that of the mean of the ranks over all epochs, which chooses none. Of scores without direction ARGOS and sculpting are the larger of
both tails.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata

import pipelines
import zoo
from pipelines.metrics import argos, auc, sculpting
from zoo import run
from zoo.cli.terminal import quiet_zoo
from zoo.keras import keras
from zoo.settings import parse_setting
from zoo.state import save_state

WINDOW = (3300.0, 3700.0)  # GeV, about the known mass of the signals: ARGOS is told where to look
RULES = {
    "smallest reconstruction error": ("reconstruction", min),
    "largest KL": ("kl", max),
    "largest stability": ("stability", max),
    "largest agreement of members": ("agreement", max),
    "least sculpting, 50th percentile": ("sculpting 50", min),
    "least sculpting, 90th percentile": ("sculpting 90", min),
    "largest ARGOS, signal in the data": ("argos", max),
    "largest ARGOS, background alone": ("argos background", max),
}


class States(keras.callbacks.Callback):
    """Writes the model's state after every so many epochs."""

    def __init__(self, folder: Path, every: int):
        super().__init__()
        self.folder, self.every = folder, every

    def on_epoch_end(self, epoch, logs=None):
        """Write the state of the epoch that has ended."""
        if (epoch + 1) % self.every == 0:
            save_state(self.model, self.folder / f"{epoch + 1:04d}.h5", whole=False)


@click.group()
def main() -> None:
    """Train and keep the state of every epoch; or judge the epochs that are kept."""
    quiet_zoo()


@main.command()
@click.argument("model")
@click.option("--data", required=True, help="Events to train on; labels are not read.")
@click.option(
    "--states", required=True, type=click.Path(path_type=Path), help="New folder: states, and the run of the last."
)
@click.option("--members", default=3, show_default=True, help="Trained as one program: that many seeds.")
@click.option("--epochs", required=True, type=int)
@click.option("--every", default=1, show_default=True, help="Epochs between two states.")
@click.option("--preset")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE")
def train(model, data, states, members, epochs, every, preset, settings) -> None:
    """Train, keep the state after every epoch, and the run."""
    made = zoo.get(model, preset, **{"members": members, **dict(map(parse_setting, settings))})
    states.mkdir(parents=True)
    made.fit(pipelines.open(data).without_labels(), epochs=epochs, callbacks=[States(states, every)], verbose=2)
    made.save_run(states / "run")


@main.command()
@click.argument("states", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--data", required=True, help="The events of the training.")
@click.option("--test", required=True, help="Labelled events: their background judges, and their signals.")
@click.option("--kind", help="Kind of score; by default the model's first.")
@click.option("--background", default=20_000, show_default=True, help="Background events that judge.")
@click.option("--signals", default=200, show_default=True, help="Signal events among them, for ARGOS.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="File for every number.")
def judge(states, data, test, kind, background, signals, out) -> None:
    """Measure every epoch, of one or more trainings, and print what each rule would have chosen."""
    training, test = pipelines.open(data).without_labels(), pipelines.open(test)
    label = test.label
    chosen = [np.flatnonzero(label == 0)[:background], *(np.flatnonzero(label == k)[:5000] for k in (1, 2))]
    events = test.take(np.concatenate(chosen))
    found = [measured(folder, training, events, kind, signals) for folder in states]
    members = [one for of_folder in found for one in of_folder]
    epochs = [row["epoch"] for row in members[0]["epochs"]]
    names = [name for name in members[0]["epochs"][0] if name != "epoch"]
    table = Table("epoch", *names, title="mean over members")
    for at, epoch in enumerate(epochs):
        table.add_row(str(epoch), *(f"{mean_of(members, at, name):.3f}" for name in names))
    rules = ruled(members, of_folders=found)
    summary = Table(
        "rule", "epoch", "AUC two-prong", "AUC three-prong", title=f"{len(members)} members, mean +- standard deviation"
    )
    for name, rows in rules.items():
        where = "" if "epoch" not in rows[0] else f"{min(r['epoch'] for r in rows)} to {max(r['epoch'] for r in rows)}"
        summary.add_row(name, where, *(spread([row["auc"][k] for row in rows]) for k in (0, 1)))
    for one in (table, summary):
        Console(width=170).print(one)
    if out:
        out.write_text(json.dumps({"members": members, "rules": rules}, default=float, indent=1))


def measured(folder: Path, training, events, kind: str | None, signals: int) -> list[dict[str, object]]:
    """Return, of every member of a training, what was measured at each epoch, and the ranks of the last one and of their mean."""
    model = zoo.load(folder / "run")
    label, mass = events.label, events.mass
    few = training.sample(10_000, seed=0)
    taken = np.flatnonzero(
        (label == 0) | (np.cumsum(label == 1) <= signals) & (label == 1)
    )  # data with a little signal
    alone = np.flatnonzero(label == 0)
    members: list[dict[str, object]] = [{"epochs": []} for _ in range(model.members)]
    before, last, total = None, None, 0.0
    for state in sorted(folder.glob("[0-9]*.h5")):
        run.load_state(model, state)
        if hasattr(model, "direction"):  # what its scores need to know of the training events
            model.on_phase_end(model.recipe()[0], training)
        name = kind or model.score_kinds[0]
        scores = model.score(events, name, per_member=True)
        ranks = np.array([rankdata(one) / len(one) for one in scores])
        trained = [
            rankdata(one) for one in model.score(few, name, per_member=True)
        ]  # no signal that only judges among them
        between = np.atleast_2d(np.corrcoef(trained))
        error = next(one for one in ("distance", "reconstruction") if one in model.score_kinds)
        errors = model.score(few, error, per_member=True).mean(axis=1)
        kl = model.score(few, "kl", per_member=True).mean(axis=1) if "kl" in model.score_kinds else None
        tails = (1, -1) if name in model.undirected else (1,)
        for k, one in enumerate(ranks):
            row: dict[str, object] = {"epoch": int(state.stem), "reconstruction": errors[k]}
            row |= {} if kl is None else {"kl": kl[k]}
            row["stability"] = np.nan if before is None else np.corrcoef(trained[k], before[k])[0, 1]
            row["agreement"] = (between[k].sum() - 1) / max(len(ranks) - 1, 1)
            row |= {f"sculpting {p}": above_floor(one[taken], mass[taken], p, tails) for p in (50, 90)}
            row |= {
                text: max(window_argos(tail * one[rows], mass[rows]) for tail in tails)
                for text, rows in (("argos", taken), ("argos background", alone))
            }
            row |= {"AUC 1": auc(one[label == 0], one[label == 1]), "AUC 2": auc(one[label == 0], one[label == 2])}
            members[k]["epochs"].append(row)
        before, last, total = trained, ranks, total + ranks
    for k, one in enumerate(members):
        one["last"] = last[k]
        one["average"] = total[k]
        one["label"] = label
    return members


def above_floor(score: np.ndarray, mass: np.ndarray, percentile: float, tails) -> float:
    """Return the distance of spectra at a percentile less its floor, of the tail where it is larger."""
    found = [sculpting(tail * score, mass, [percentile])[f"{percentile:g}"] for tail in tails]
    return max(one["distance"] - one["floor"] for one in found)


def window_argos(score: np.ndarray, mass: np.ndarray) -> float:
    """Return the largest ARGOS of the window against everything beside it."""
    inside = (mass >= WINDOW[0]) & (mass < WINDOW[1])
    return argos(score[~inside], score[inside])["argos"]


def ruled(members, of_folders) -> Mapping[str, list[dict[str, object]]]:
    """Return the epoch of each rule and the AUCs there, of every member; then of the means of ranks, which choose none."""
    found: dict[str, list[dict[str, object]]] = {"the last epoch": [at(one, -1) for one in members]}
    for name, (quantity, best) in RULES.items():
        if quantity in members[0]["epochs"][0]:
            found[name] = [at(one, choice(one, quantity, best)) for one in members]
    areas = [[row["AUC 1"] + row["AUC 2"] for row in one["epochs"]] for one in members]
    found["the best epoch, by labels"] = [at(one, int(np.argmax(area))) for one, area in zip(members, areas)]
    found["mean of ranks over epochs"] = [{"auc": areas_of(one["average"], one["label"])} for one in members]
    for name, key in (("mean of members, last epoch", "last"), ("mean of members and epochs", "average")):
        found[name] = [
            {"auc": areas_of(np.mean([one[key] for one in group], axis=0), group[0]["label"])} for group in of_folders
        ]
    for one in members:
        for key in ("last", "average", "label"):
            del one[key]
    return found


def choice(member, quantity: str, best) -> int:
    """Return the place of the epoch at which a quantity is best."""
    values = [float(row[quantity]) for row in member["epochs"]]
    return int(np.nanargmin(values) if best is min else np.nanargmax(values))


def at(member, place: int) -> dict[str, object]:
    """Return epoch and AUCs of a member at a place in the list of epochs."""
    row = member["epochs"][place]
    return {"epoch": row["epoch"], "auc": [row["AUC 1"], row["AUC 2"]]}


def areas_of(score: np.ndarray, label: np.ndarray) -> list[float]:
    """Return the AUC of two-prong and of three-prong events."""
    return [auc(score[label == 0], score[label == k]) for k in (1, 2)]


def mean_of(members, place: int, name: str) -> float:
    """Return the mean over members of a quantity at a place in the list of epochs."""
    return float(np.mean([float(one["epochs"][place][name]) for one in members]))


def spread(values) -> str:
    """Return mean and standard deviation, as text."""
    return f"{np.mean(values):.3f} +- {np.std(values, ddof=1):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


if __name__ == "__main__":
    main()
