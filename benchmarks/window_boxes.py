"""Black boxes with a scan over windows: a model is trained for every window, without labels, and what is found has a global p-value.

    python benchmarks/window_boxes.py cwola --background qcd.h5 --signal z3823.h5 --signal z3000.h5 --empty 20 --out boxes.json \\
        --set classifier=trees

Every signal is mixed into all of the background at each S/B of the mass range. `--empty N` divides the background into N boxes that
share no event, and scans each of them as it is. Labels choose what is mixed, and are ignored by the scan. The JSON file is written anew
after every box; the same command goes on.
"""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path

import click
import numpy as np
from scipy.stats import kstest

import pipelines
import zoo
from pipelines.bumphunt.validation.mixtures import contaminated
from pipelines.outputs import write_json
from zoo.cli.terminal import quiet_zoo, setting


def found_in(model, events, mass_range, options):
    """What a scan of a box finds, in short."""
    start = time.perf_counter()
    found = zoo.hunt(model, events, scan=True, mass_range=mass_range, ignore_labels=True, **options)
    best = found.best
    return {
        "events": len(found.events), "windows": len(found.windows), "global": found.global_significance,
        "global_p_value": found.global_p_value, "is_bound": found.global_p_value_is_bound, "believed": found.believed,
        "local": best.local_significance, "window": best.window, "mass": best.mass_estimate,
        "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip


@click.command()
@click.argument("model")
@click.option("--background", multiple=True, required=True, help="Events; of labelled ones the background.")
@click.option("--signal", "signals", multiple=True, help="Labelled events of one signal; may be repeated.")
@click.option("--s-over-b", default="0,0.0008,0.0025", show_default=True)
@click.option("--empty", default=0, show_default=True, help="Boxes of background alone.")
@click.option("--mass-range", type=float, nargs=2, default=(2700, 5000), show_default=True, help="GeV.")
@click.option("--percentile", "percentiles", type=float, multiple=True, default=(99,), show_default=True)
@click.option("--scan-background", default="spectrum", show_default=True)
@click.option("--window-step", default=1.0, show_default=True)
@click.option("--set", "settings", multiple=True, help="NAME=VALUE of the model.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    model,
    background,
    signals,
    s_over_b,
    empty,
    mass_range,
    percentiles,
    scan_background,
    window_step,
    settings,
    seed,
    out,
):
    """Scan boxes with MODEL and print what is found."""
    quiet_zoo()
    warnings.simplefilter("ignore")
    qcd = pipelines.open(list(background))
    qcd = qcd.select(label=0) if qcd.has_labels else qcd
    qcd = qcd.select(mass_range=mass_range)
    options = {"percentiles": percentiles, "background": scan_background, "window_step": window_step, "seed": seed,
               "hyperparameters": dict(map(setting, settings))}  # fmt: skip
    asked = json.loads(
        json.dumps({"model": model, "background": background, "empty": empty, "mass_range": mass_range, **options})
    )
    kept = json.loads(out.read_text()) if out.exists() else {"asked": asked, "boxes": {}}
    if kept["asked"] != asked:
        raise click.ClickException(f"{out} holds boxes of {kept['asked']}, asked for {asked}; give another --out")
    for name, events in boxes(qcd, signals, list(map(float, s_over_b.split(","))), empty, mass_range, seed):
        if name not in kept["boxes"]:
            kept["boxes"][name] = found_in(model, events(), mass_range, options)
            write_json(out, kept)
        show(name, kept["boxes"][name])
    of_empty = [one for name, one in kept["boxes"].items() if name.startswith("empty box ")]
    if of_empty:
        p = [one["global_p_value"] for one in of_empty]
        click.echo(
            f"{len(p)} empty boxes: {sum(one['global'] > 2 for one in of_empty)} above 2 sigma, largest "
            f"{max(one['global'] for one in of_empty):.2f}; p-values of mean {np.mean(p):.2f}, KS p {kstest(p, 'uniform').pvalue:.2f}"
        )


def boxes(qcd, signals, ratios, empty, mass_range, seed):
    """Names of boxes, and what makes their events."""
    parts = np.array_split(np.random.default_rng(seed).permutation(len(qcd)), empty) if empty else []
    for number, rows in enumerate(parts):
        yield f"empty box {number}", lambda rows=rows: qcd.take(np.sort(rows))
    done = set()
    for path in signals:
        for ratio in ratios:
            name = f"{path} {ratio:g}" if ratio else "no signal"
            if name not in done:
                done.add(name)
                yield (
                    name,
                    lambda path=path, ratio=ratio: contaminated(
                        qcd, pipelines.open(path).select(mass_range=mass_range), ratio, seed
                    ),
                )


def show(name, one):
    """Print what is found in a box."""
    low, high = one["window"]
    click.echo(
        f"{name}: global {'> ' if one['is_bound'] else ''}{one['global']:.1f}, local {one['local']:.1f} in {low:.0f} to {high:.0f} GeV, "
        f"mass {one['mass'] or float('nan'):.0f}{'' if one['believed'] else ', not believed'}, {one['events']} events, "
        f"{one['windows']} windows, {one['seconds']:.0f} s"
    )


if __name__ == "__main__":
    main()
