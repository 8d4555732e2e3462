"""The bump-hunting VAE on a simulated R&D sample: signal fractions, scores in both directions, Adadelta against Adam.

    python benchmarks/vae_rnd.py --events rnd.h5 --out vae_rnd.json

Every training is on all background and as much two-prong signal (label 1) as the ratio says, without labels. Labels are
looked at afterwards, to judge: all background against all two-prong signal, whether it was trained on or not, and against
the three-prong signal (label 2), which never is. The JSON file is written anew after every training, and every model is
kept as a run directory in a folder beside it.
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
from pipelines import metrics
from pipelines.events.mixing import mix
from pipelines.outputs import new_directory, write_json
from zoo import run
from zoo.cli.terminal import setting

PRESETS = {"adadelta": {}, "adam": {"optimizer": "adam"}}


def judge(model, background, signals):
    """Every score kind in both directions: AUC and best S/sqrt(B), of the mean of the members and of each of them."""
    found = {}
    for kind in model.score_kinds:
        of_background = model.score(background, kind, per_member=True)
        of_signals = {name: model.score(events, kind, per_member=True) for name, events in signals.items()}
        for sign, direction in ((1, kind), (-1, f"-{kind}")):
            for name, of_signal in of_signals.items():
                b, s = sign * of_background, sign * of_signal
                each = [metrics.significance_improvement(*pair)["improvement"] for pair in zip(b, s)]
                areas = [metrics.auc(*pair) for pair in zip(b, s)]
                found.setdefault(direction, {})[name] = {
                    "auc": metrics.auc(b.mean(0), s.mean(0)),
                    "auc_members": [float(np.mean(areas)), float(np.std(areas))],
                    **metrics.significance_improvement(b.mean(0), s.mean(0)),
                    "improvement_members": [float(np.mean(each)), float(np.std(each))],
                }
    return found


def pulls(model, events):
    """(median reconstructed - median) / std of every observable, by the decoder of step one and by the new one."""
    x = events.read("features", model.resolved_columns)
    made = {"before": model.results(events, ["reconstructed"])["reconstructed"], "after": model.regenerate(events)}
    each = {when: (np.median(y, axis=-2) - np.median(x, axis=0)) / x.std(axis=0) for when, y in made.items()}
    return {
        when: {c: [float(np.mean(v[..., i])), float(np.std(v[..., i]))] for i, c in enumerate(model.resolved_columns)}
        for when, v in each.items()
    }


def ripple(scan, name, centre=3500.0, width=300.0, range_=(2400.0, 6000.0)):
    """How far an observable leaves a smooth course in the mass around `centre`: the largest mean |residual| over z there,
    from cubic fits in the mass of what lies outside, over the standard deviation of the residuals outside."""
    mass, values = scan["mass"], scan["observables"][name]
    inside = np.abs(mass - centre) < width
    used = (mass > range_[0]) & (mass < range_[1])
    x = (mass - centre) / 1000.0
    residuals = np.stack([v - np.polyval(np.polyfit(x[used & ~inside], v[used & ~inside], 3), x) for v in values.T])
    return float(np.abs(residuals[:, inside]).mean(1).max() / residuals[:, used & ~inside].std())


def train(events, preset, settings, **options):
    model = zoo.get("vae", **options | PRESETS[preset] | settings)
    started = time.monotonic()
    history = model.fit(events, verbose=0)
    best = model.best_epochs()["vae"]
    peaks = [
        epoch + 1 for epoch in best["epoch"] if epoch is not None
    ]  # from 1, as `zoo train` says them; None: diverged
    largest = [value for value in best["value"] if value is not None]
    return model, {
        "members": model.members,
        "events": len(events),
        "epochs": len(history.epoch),
        "peak_epoch": [min(peaks), float(np.mean(peaks)), max(peaks)] if peaks else None,
        "peak_kl": [float(np.mean(largest)), float(np.std(largest))] if peaks else None,
        "kl": [float(value) for value in history.history["kl"]],
        "kl_members": [[row["kl"] for row in model.member_rows if row["phase"] == "vae" and row["member"] == k]
                       for k in range(model.members)] if model.members > 1 else None,
        "decoder_epochs": len(model.histories["decoder"].epoch) if "decoder" in model.histories else 0,
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip


def table(results):
    """The lines that docs/results/vae.md shows."""
    lines = []
    for key, one in results.items():
        peak = one["peak_epoch"]
        where = f"at epoch {peak[1]:.0f} ({peak[0]} to {peak[2]})" if peak else "at no epoch, all diverged:"
        lines.append(f"{key}: KL peak {where} of {one['epochs']}")
        for direction, judged in one.get("scores", {}).items():
            cells = [f"{name} AUC {v['auc']:.3f}, S/sqrt(B) x {v['improvement']:.2f} +- {v['error']:.2f} "
                     f"(members {v['improvement_members'][0]:.2f} +- {v['improvement_members'][1]:.2f})"
                     for name, v in judged.items()]  # fmt: skip
            lines.append(f"    {direction:>16}  " + ";  ".join(cells))
    return "\n".join(lines)


@click.command()
@click.option("--events", "path", required=True, help="Events with labels 0, 1 (two-prong) and 2 (three-prong).")
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--ratios", default="0.1,0.01,0.001,0", show_default=True, help="S/B of the trainings.")
@click.option("--presets", default="adadelta,adam", show_default=True)
@click.option("--members", default=20, show_default=True)
@click.option("--epochs", default=100, show_default=True)
@click.option(
    "--decoder-epochs",
    default=200,
    show_default=True,
    help="Of step two, at most: it ends when its loss no longer falls.",
)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Hyperparameter, for every preset.")
@click.option("--seed", default=0, show_default=True)
def main(path, out, ratios, presets, members, epochs, decoder_epochs, settings, seed):
    """Train, judge, and print the table."""
    events = pipelines.open(path)
    background = events.select(label=0)
    signals = {"two-prong": events.select(label=1), "three-prong": events.select(label=2)}
    options = {"members": members, "epochs": epochs, "decoder_epochs": decoder_epochs, "seed": seed}
    asked = {"events": str(path), **options, "settings": list(settings)}
    kept = json.loads(out.read_text()) if out.exists() else {"asked": asked, "results": {}}
    if kept["asked"] != asked:
        raise click.ClickException(f"{out} holds results of {kept['asked']}, asked for {asked}; give another --out")
    results = kept["results"]
    for preset in presets.split(","):
        for ratio in map(float, ratios.split(",")):
            key = f"{preset} S/B {ratio:g}"
            if key in results:
                continue
            mixture = background if not ratio else mix(background, signals["two-prong"], ratio, seed=seed)
            model, one = train(mixture.without_labels(), preset, dict(map(setting, settings)), **options)
            one["scores"] = judge(model, background, signals)
            one["pulls"] = {name: pulls(model, e.sample(min(len(e), 20_000))) for name, e in
                            {"background": background, "two-prong": signals["two-prong"]}.items()}  # fmt: skip
            scans = [model.scan(background, member=k) for k in range(min(model.members, 5))]
            one["ripple"] = {c: [ripple(scan, c) for scan in scans] for c in model.resolved_columns}
            np.savez_compressed(out.with_suffix(f".{preset}.{ratio:g}.npz"), z=scans[0]["z"], mass=scans[0]["mass"],
                                latent_background=model.results(background.sample(20_000), ["latent"])["latent"],
                                latent_signal=model.results(signals["two-prong"].sample(20_000), ["latent"])["latent"],
                                **scans[0]["observables"])  # fmt: skip
            folder = out.with_suffix("") / key.replace(" ", "_").replace("/", "over")  # for `zoo plot`
            folder.parent.mkdir(exist_ok=True)
            with new_directory(folder) as part:
                config = run.configuration(model, mixture, epochs=epochs, mass_range=None)
                run.write(model, part, config, run.history_rows(model.histories))
            results[key] = one
            write_json(out, {"asked": asked, "cores": os.cpu_count(), "results": results})
            click.echo(table({key: one}))
    click.echo("\n" + table(results))


if __name__ == "__main__":
    main()
