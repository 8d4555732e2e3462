"""What signal among the training events does to a detector: AUC against S/B, as in GAN-AE's figure 7.

    python benchmarks/contamination.py gan_ae --events rnd.h5 --out contamination_gan_ae.json \\
        --preset lhco2020 --set cycles=20 --mass-range 2700 5000 --background 20000

For every S/B a model with several members is trained, without labels, on the same number of background events and as much
signal (label 1) as the ratio says; it is judged on background that no training has seen and on all signal but that of the
training. The JSON file is written anew after every training.
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
from pipelines.events.mixing import join
from pipelines.outputs import write_json
from zoo.cli.terminal import setting


def table(results):
    """One line per S/B."""
    lines = []
    for ratio, one in results.items():
        cells = [f"{kind} {m['auc']:.3f} (members {m['members'][0]:.3f} +- {m['members'][1]:.3f}), x {m['improvement']:.2f}"
                 for kind, m in one["scores"].items()]  # fmt: skip
        lines.append(f"S/B {float(ratio):>6.2%}: " + "; ".join(cells))
    return "\n".join(lines)


@click.command()
@click.argument("name")
@click.option("--events", "path", required=True, help="Events with label 0 for background and 1 for the signal.")
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--ratios", default="0,0.001,0.005,0.01,0.02,0.03", show_default=True)
@click.option("--background", default=40_000, show_default=True, help="Background events of a training.")
@click.option("--members", default=5, show_default=True)
@click.option("--preset")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE")
@click.option("--mass-range", type=float, nargs=2)
@click.option("--seed", default=0, show_default=True)
def main(name, path, out, ratios, background, members, preset, settings, mass_range, seed):
    """Train the model NAME at every S/B, judge, and print the table."""
    events = pipelines.open(path)
    events = events.select(mass_range=mass_range) if mass_range else events
    training, held_out = events.select(label=0).set_aside(background, seed=seed)
    signal = events.select(label=1)
    order = np.random.default_rng(seed).permutation(len(signal))
    asked = {"model": name, "events": str(path), "background": background, "members": members, "preset": preset,
             "settings": list(settings), "mass_range": list(mass_range or ()), "seed": seed}  # fmt: skip
    kept = json.loads(out.read_text()) if out.exists() else {"asked": asked, "results": {}}
    if kept["asked"] != asked:
        raise click.ClickException(f"{out} holds results of {kept['asked']}, asked for {asked}; give another --out")
    results = kept["results"]
    for ratio in ratios.split(","):
        if ratio in results:
            continue
        count = round(float(ratio) * background)
        mixture = join([training, signal.take(order[:count])]) if count else training
        rest = signal.take(order[count:])
        model = zoo.get(name, preset, members=members, seed=seed, **dict(map(setting, settings)))
        started = time.monotonic()
        model.fit(mixture.without_labels(), verbose=0)
        one = {"background": background, "signal": count, "seconds": round(time.monotonic() - started, 1), "scores": {}}
        for kind in model.score_kinds:
            b, s = (model.score(sample, kind, per_member=True) for sample in (held_out, rest))
            for sign in (1, -1) if kind in model.undirected else (1,):
                areas = [metrics.auc(sign * x, sign * y) for x, y in zip(b, s)]
                one["scores"][kind if sign > 0 else f"-{kind}"] = {
                    "auc": metrics.auc(sign * b.mean(0), sign * s.mean(0)),
                    "members": [float(np.mean(areas)), float(np.std(areas))],
                    **metrics.significance_improvement(sign * b.mean(0), sign * s.mean(0)),
                }
        results[ratio] = one
        write_json(out, {"asked": asked, "cores": os.cpu_count(), "results": results})
        click.echo(table({ratio: one}))
    click.echo("\n" + table(results))


if __name__ == "__main__":
    main()
