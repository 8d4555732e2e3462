"""Figures of merit against each other: which of them finds the better detector, of the same trials.

    python benchmarks/objectives.py --data rnd.h5 --model vae --window 3300 3700 --s-over-b 0.05 --trials 24 --seeds 3

For every seed, which also draws the signal, a search at random trains `--trials` detectors to `--max-epochs` on background and a
little signal in the window, without labels. Every objective then takes its best of these same trials, as `tune --objective`
would. So the objectives differ, and nothing else. `argos` compares the window with the side bands, `argos, template` with other
background of the same window. `auc:LABEL` looks at the truth of the events that judge, and no search can have it.

A detector that was taken is judged by labels on events that no search has seen, in the window: AUC, and the largest SIC
= efficiency of the signal / sqrt(that of the background) over cuts that at least 100 events of the background pass. Of a score without
direction the better tail counts, for all alike. `rank correlation` is Spearman's, over the trials, of minus the objective with
SIC: 1 where the objective orders detectors as their sensitivity does. `any trial` is the mean over trials, `best trial` the best.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # beside this file is a tuning.py that is no package

import pipelines
import tuning
import zoo
from pipelines import metrics
from pipelines.outputs import write_json
from tuning.argos import SignalRegion, sensitivity
from tuning.objectives import Objective
from tuning.session import VALIDATION_SHARE
from zoo.cli.terminal import quiet_zoo, setting
from zoo.windows import Regions

DEFAULT = ("reconstruction+10*sculpting", "auc:1", "argos", "argos+sculpting")
SMALL = {"vae": {"flow": "none", "units": (32, 32), "optimizer": "adam", "batch_size": 500, "decoder_epochs": 0}}
TEMPLATE = "argos, template"
PASSING = 100  # events of the background, at the cut of the largest SIC
SHARES = (0.5, 0.2, 0.3)  # of the background: searched, template, what judges at the end


def parts(events, regions, signal, s_over_b, seed):
    """Events that are searched, with signal in them; a template of background; the background and signal that judge."""
    rng, label, inside = np.random.default_rng(seed), events.label, regions.inside(events.mass)
    background, there = rng.permutation(np.flatnonzero(label == 0)), rng.permutation(np.flatnonzero(label == signal))
    ends = np.cumsum([round(share * len(background)) for share in SHARES[:2]])
    searched, template, judges = np.split(background, ends)
    share = s_over_b * inside[searched].sum() / inside[there].sum()
    if share > 0.5:
        raise click.UsageError(f"--s-over-b {s_over_b} needs more than half of the {len(there)} events of signal")
    mixed, left = np.split(there, [round(share * len(there))])
    chosen = [np.r_[searched, mixed], template, judges[inside[judges]], left[inside[left]]]
    return [events.take(np.sort(one)) for one in chosen]


def better_tail(model, background, signal) -> dict[str, float]:
    """AUC and the largest SIC of a detector, of the tail whose SIC is larger where its score has no direction."""
    b, s = model.score(background), model.score(signal)
    tails = (1, -1) if model.score_kinds[0] in model.undirected else (1,)
    found = [
        {
            "auc": metrics.auc(tail * b, tail * s),
            "sic": metrics.significance_improvement(tail * b, tail * s, PASSING)["improvement"],
        }
        for tail in tails
    ]
    return max(found, key=lambda one: one["sic"])


def trained(model, hyperparameters, training, state):
    """The detector of a trial, from its weights."""
    made = zoo.get(model, **hyperparameters)
    made.adapt(training)
    zoo.run.load_state(made, state)
    made.score_others = made.score
    return made


def compared(model, events, objectives, window, signal, s_over_b, trials, max_epochs, fixed, seed):
    """One seed: every trial's figures of merit, and what its detector is worth."""
    regions = Regions.between(window)
    searched, template, background, judge = parts(events, regions, signal, s_over_b, seed)
    terms = list(dict.fromkeys(name for one in objectives for name in one.weights))
    asked = ",".join(name.removeprefix("1-").removeprefix("-") for name in terms)
    with tempfile.TemporaryDirectory() as folder:
        results = tuning.search(
            model, searched, trials=trials, max_epochs=max_epochs, algorithm="random", objective=f"pareto:{asked}",
            out=Path(folder) / "search", window=window, fixed={**fixed, "seed": seed}, seed=seed,
        )  # fmt: skip
        training, validation = searched.split(1.0 - VALIDATION_SHARE, seed)
        training, validation = training.without_labels(), validation.without_labels()
        region, rows = SignalRegion.of(model, window, (), template), []
        for trial in results.completed:
            made = trained(model, trial["hyperparameters"], training, results.out / "trials" / f"{trial['trial']}.h5")
            row = {one.text: sum(w * trial["metrics"][name] for name, w in one.weights.items()) for one in objectives}
            row[TEMPLATE] = sensitivity(made, validation, region)
            rows.append({**row, **better_tail(made, background, judge), "hyperparameters": trial["hyperparameters"]})
    inside = regions.inside(searched.mass)
    sizes = {"searched": len(searched), "window": int(inside.sum()), "judging": round(VALIDATION_SHARE * inside.sum())}
    sizes |= {"signal": int((searched.label[inside] == signal).sum()), "template": len(region.template)}
    return rows, {**sizes, "background": len(background), "signal that judges": len(judge)}


def table(found, names) -> str:
    """Return the markdown table: mean over seeds, with each seed's SIC."""
    from scipy.stats import spearmanr

    lines = ["| objective | AUC | largest SIC | of each seed | rank correlation |", "|---|---|---|---|---|"]
    for name in names:
        taken = [min(rows, key=lambda row: row[name]) for rows in found]
        auc, sic = ([row[what] for row in taken] for what in ("auc", "sic"))
        ranks = [spearmanr([-row[name] for row in rows], [row["sic"] for row in rows]).statistic for rows in found]
        each = ", ".join(f"{value:.2f}" for value in sic)
        lines.append(
            f"| `{name}` | {statistics.fmean(auc):.3f} | {statistics.fmean(sic):.2f} | {each} | {np.nanmean(ranks):.2f} |"
        )
    for name, pick in (("any trial", np.mean), ("best trial", np.max)):
        auc, sic = ([pick([row[what] for row in rows]) for rows in found] for what in ("auc", "sic"))
        each = ", ".join(f"{value:.2f}" for value in sic)
        lines.append(f"| {name} | {np.mean(auc):.3f} | {np.mean(sic):.2f} | {each} | |")
    return "\n".join(lines)


@click.command()
@click.option("--data", multiple=True, required=True, help="Labelled events; may be repeated.")
@click.option("--model", default="vae", show_default=True)
@click.option("--objective", "texts", multiple=True, default=DEFAULT, show_default=True)
@click.option("--window", type=float, nargs=2, default=(3300.0, 3700.0), show_default=True, help="GeV.")
@click.option("--mass-range", type=float, nargs=2, help="GeV; all masses otherwise.")
@click.option("--signal", type=int, default=1, show_default=True, help="Label of the signal.")
@click.option("--s-over-b", default=0.05, show_default=True, help="In the window.")
@click.option("--events", default=0, help="Use so many events of background; all otherwise.")
@click.option("--trials", default=24, show_default=True)
@click.option("--max-epochs", default=6, show_default=True)
@click.option("--set", "settings", multiple=True, help="NAME=VALUE, fixed; may be repeated.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="Write all numbers there, after every seed.")
def main(
    data, model, texts, window, mass_range, signal, s_over_b, events, trials, max_epochs, settings, seeds, as_json
):
    """Compare objectives on the same trials."""
    quiet_zoo()
    warnings.simplefilter("ignore")
    objectives, opened = [Objective.parse(text) for text in texts], pipelines.open(list(data), mass_range or None)
    label = opened.label
    if events and events < (label == 0).sum():
        kept = np.random.default_rng(0).permutation(np.flatnonzero(label == 0))[:events]
        opened = opened.take(np.sort(np.r_[kept, np.flatnonzero(label == signal)]))
    opened = opened.in_memory()
    fixed, found = {**SMALL.get(model, {}), **dict(map(setting, settings))}, []
    for seed in range(seeds):
        start = time.perf_counter()
        rows, sizes = compared(model, opened, objectives, window, signal, s_over_b, trials, max_epochs, fixed, seed)
        found.append(rows)
        told = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        click.echo(f"seed {seed}: {len(rows)} trials, {time.perf_counter() - start:.0f} s; {told}", err=True)
        if as_json:
            write_json(as_json, {"model": model, "sizes": sizes, "rows": found})
    click.echo(table(found, [*texts, TEMPLATE]))


if __name__ == "__main__":
    main()
