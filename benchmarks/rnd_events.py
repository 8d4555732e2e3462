"""Real LHC Olympics R&D events of the signal region, as published with CATHODE: classifiers that are told the truth.

    python benchmarks/rnd_events.py lhco_cathode --seeds 10 --out rnd_events.json

The folder has `innerdata_train.npy`, `innerdata_test.npy`, `innerdata_extrasig.npy` and `separated_test.npy`
(https://github.com/HEPML-AnomalyDetection/CATHODE). Every classifier is the zoo's `idealised`, in its folds:

- `idealised`: the events of `innerdata_train` as they are, without labels, against the background of `innerdata_test`;
- `supervised`: the signal of `innerdata_extrasig` that is not in `separated_test` against the background of both inner files;
- `few`: the same with the 772 signal events of the inner files alone; `idealised` has 395 of them.

`separated_test` judges: its 20,000 signal events are in `innerdata_extrasig` too, and are left out there. Largest SIC is over cuts
that at least 25 or 100 of its background events pass. The last row of every kind judges the mean of the scores of all seeds: an ensemble. The JSON file is written anew after
every training.
"""

from __future__ import annotations

import resource
import tempfile
import warnings
from pathlib import Path

import click
import numpy as np
from weak_supervision import COLUMNS, judged

import pipelines
import zoo
from pipelines.outputs import write_json
from zoo.cli.terminal import setting

FILES = ("innerdata_train", "innerdata_test", "separated_test", "innerdata_extrasig")
KINDS, CLASSIFIERS = ("supervised", "few", "idealised"), ("network", "trees")
WINDOW = (3300.0, 3700.0)


def samples(folder, kind):
    """The events that are trained on, without labels, those of true background, and those that judge."""
    train, test, judge, more = (pipelines.open(str(Path(folder) / f"{name}.npy")) for name in FILES)
    if kind == "idealised":
        return train.without_labels(), [test.select(label=0)], judge
    signal, background = ([part.select(label=label) for part in (train, test)] for label in (1, 0))
    return together([apart_from(judge, more)] if kind == "supervised" else signal), background, judge


def apart_from(judge, events):
    """The events that are not among those that judge."""
    numbers = [np.column_stack([part.mass, part.read("features", COLUMNS)]) for part in (judge, events)]
    known = {row.tobytes() for row in numbers[0]}
    return events.take(np.array([row.tobytes() not in known for row in numbers[1]]))


def together(parts):
    """The events of all parts, without labels."""
    x, mass = (np.concatenate(each) for each in zip(*((part.read("features", COLUMNS), part.mass) for part in parts)))
    return pipelines.Events.from_arrays(x, mass, COLUMNS)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), default=KINDS)
@click.option("--classifier", "classifiers", multiple=True, type=click.Choice(CLASSIFIERS), default=CLASSIFIERS)
@click.option("--set", "settings", multiple=True, help="NAME=VALUE of the model.")
@click.option("--seeds", default=10, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(folder, kinds, classifiers, settings, seeds, out):
    """Train on the events of FOLDER for every seed and print AUC and SIC, means and spreads."""
    warnings.simplefilter("ignore")
    rows = []
    for kind in kinds:
        data, background, judge = samples(folder, kind)
        with tempfile.TemporaryDirectory() as scratch:
            truth = str(Path(scratch) / "background.h5")
            together(background).write(truth)
            for classifier in classifiers:
                scores = []
                for seed in range(seeds):
                    given = {"classifier": classifier, **dict(map(setting, settings))}
                    model = zoo.get(
                        "idealised", columns=COLUMNS, window=WINDOW, background=truth, seed=100 * seed, **given
                    )
                    start = resource.getrusage(resource.RUSAGE_SELF).ru_utime
                    model.fit(data, verbose=0)
                    spent = resource.getrusage(resource.RUSAGE_SELF).ru_utime - start
                    scores.append([model.score(judge.select(label=label)) for label in (0, 1)])
                    rows.append(
                        {"kind": kind, "by": classifier, "seed": seed, "cpu_seconds": spent, **judged(*scores[-1])}
                    )
                    show(rows[-1])
                    write_json(out, {"set": list(settings), "trained on": len(data), "rows": rows})
                of = [row for row in rows if (row["kind"], row["by"]) == (kind, classifier)]
                for name in list(of[0])[3:]:
                    values = [row[name] for row in of]
                    spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
                    click.echo(f"    {name}: {np.mean(values):.4g} +- {spread:.2g}")
                ensemble = [np.mean(each, axis=0) for each in zip(*scores)]
                rows.append({"kind": kind, "by": classifier, "seed": "all", **judged(*ensemble)})
                show(rows[-1])
                write_json(out, {"set": list(settings), "trained on": len(data), "rows": rows})


def show(row):
    """Print a row."""
    click.echo(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))


if __name__ == "__main__":
    main()
