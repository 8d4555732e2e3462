"""Set detectors on Dark Machines events of one channel: models, flows and beta compared as in the challenge.

    zoo data convert background.csv.gz signal_a.csv.gz signal_b.csv.gz chan2b.h5 --channel 2b
    python benchmarks/challenge.py --events chan2b.h5 --channel 2b --out challenge_2b.json --table challenge_2b.csv

Half of the background trains, without labels; the other half and all signals judge. Every training is a group of
members, which differ in their seeds only; a member's figures of merit are its own, their spread is over members. Scores
that the method gives no direction are judged in both. The JSON is written anew after every training, and a training that
is in it, with the same hyperparameters, is not done again; the CSV has the challenge's columns and errors, one model for
every training in the JSON and every score, for `zoo leaderboard`.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import click
import numpy as np

import pipelines
import zoo
from pipelines import leaderboard
from pipelines.outputs import write_json
from zoo.layers.flows import FLOWS

FEWER = {"iaf": 4, "convolutional": 4}  # flows in a row, where the paper has not 6 (section 5)


def configurations(names):
    """Model name and hyperparameters of every line of the table."""
    every = {
        "conv_vae": ("conv_vae", {}),
        "gcn_vae": ("gcn_vae", {}),
        "gcn_vae complete": ("gcn_vae", {"adjacency": "complete"}),
        "gcn_vae knn": ("gcn_vae", {"adjacency": "knn"}),
        **{f"gcn_vae {flow}": ("gcn_vae", {"flow": flow, "num_flows": FEWER.get(flow, 6)}) for flow in FLOWS},
    }
    chosen = names.split(",") if names else [name for name in every if name not in ("gcn_vae complete", "gcn_vae knn")]
    if unknown := [name for name in chosen if name not in every]:
        raise click.BadParameter(f"--models {unknown[0]!r} is not known; expected some of {', '.join(every)}")
    return {name: every[name] for name in chosen}


def train(name, settings, training, **options):
    """A trained group and how long that took."""
    model = zoo.get(name, **settings, **options)
    started = time.monotonic()
    history = model.fit(training, verbose=0)
    last = {term: float(values[-1]) for term, values in history.history.items()}
    return model, {"seconds": round(time.monotonic() - started, 1), "last_epoch": last}


def plain(values):
    """Nested lists for JSON, None for what these events are too few to measure."""
    return np.where(np.isnan(values), None, values).tolist()


def judge(model, judged, channel):
    """For every score and direction: of the members' mean score, and of each member (K, signals, 4), the challenge's numbers."""
    found = {}
    for kind in model.score_kinds:
        each = model.score(judged, kind, per_member=True)
        for name, sign in {kind: 1, f"minus {kind}": -1}.items() if kind in model.undirected else [(kind, 1)]:
            group, *members = (
                leaderboard.judge(sign * one, judged, model=name, channel=channel) for one in (each.mean(0), *each)
            )
            found[name] = {
                "signals": group.signal.tolist(),
                "group": plain(group.values),
                "error": plain(group.errors),
                "members": plain(np.array([table.values for table in members])),
            }
    return found


def rows(results, channel):
    """All of the JSON's results as a table for the leaderboard."""
    parts = []
    for key, one in results.items():
        for kind, of in one["scores"].items():
            names = (of["signals"], [f"{key} {kind}"] * len(of["signals"]), [channel] * len(of["signals"]))
            parts.append((*names, np.array(of["group"], float), np.array(of["error"], float)))
    return leaderboard.Table(*map(np.concatenate, zip(*parts)))


def line(name, one):
    """Median over signals of each figure of merit: of the group, and mean and spread of the members' medians."""
    cells = []
    for kind, of in one["scores"].items():
        group = np.median(np.array(of["group"], float), axis=0)
        members = np.median(np.array(of["members"], float), axis=1)
        cells += [
            f"{kind:13}"
            + "  ".join(
                f"{point} {value:.3f} ({mean:.3f} +- {spread:.3f})"
                for point, value, mean, spread in zip(leaderboard.FIGURES, group, members.mean(0), members.std(0))
                if np.isfinite(value)
            )
        ]
    return f"{name} ({one['seconds']:.0f} s)\n    " + "\n    ".join(cells)


@click.command()
@click.option("--events", "path", required=True, help="Events of one channel with labels: background and signals.")
@click.option("--channel", required=True, help="Its name, as 2b.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="JSON of every number.")
@click.option("--table", type=click.Path(path_type=Path), help="CSV of every training and score, for zoo leaderboard.")
@click.option("--models", help="Only these lines, separated by commas; all models and flows otherwise.")
@click.option("--betas", default="1,0.5,1e-6", show_default=True)
@click.option("--members", default=3, show_default=True)
@click.option("--epochs", default=30, show_default=True)
@click.option("--batch-size", default=256, show_default=True)
@click.option("--learning-rate", default=1e-3, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(path, channel, out, table, models, betas, members, epochs, batch_size, learning_rate, seed):
    """Train, judge, print."""
    events = pipelines.open(path)
    background = np.random.default_rng(seed).permutation(np.flatnonzero(events.label == 0))
    half = len(background) // 2
    training = events.take(np.sort(background[:half]))
    judged = events.take(np.sort(np.concatenate([background[half:], np.flatnonzero(events.label > 0)])))
    options = {"members": members, "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate,
               "seed": seed}  # fmt: skip
    asked = {"events": str(path), "channel": channel, **options}
    kept = json.loads(out.read_text()) if out.exists() else {"asked": asked, "results": {}}
    if kept["asked"] != asked:
        raise click.ClickException(f"{out} holds results of {kept['asked']}, asked for {asked}; give another --out")
    results = kept["results"]
    for name, (model_name, settings) in configurations(models).items():
        for beta in betas.split(","):
            key, settings = f"{name} beta {float(beta):g}", settings | {"beta": float(beta)}
            if results.get(key, {}).get("settings") != settings:
                model, one = train(model_name, settings, training.without_labels(), **options)
                results[key] = {"settings": settings, **one, "scores": judge(model, judged, channel)}
                write_json(out, {"asked": asked, "cores": os.cpu_count(), "results": results})
            click.echo(line(key, results[key]))
    if table:
        table.unlink(missing_ok=True)  # that of an earlier call; all of it is in the JSON
        leaderboard.write(rows(results, channel), table, errors=True)


if __name__ == "__main__":
    main()
