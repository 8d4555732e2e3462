"""The command line: `zoo list | show | train | score | evaluate | plot | leaderboard | export | data ...`."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import click

from pipelines.errors import InputError
from zoo.cli.bumphunt import bumphunt
from zoo.cli.data import conversion, converted, data
from zoo.cli.evaluate import evaluate, leaderboard, plot, scores
from zoo.cli.hunt import hunt
from zoo.cli.scan import scan
from zoo.cli.terminal import (
    JSON,
    MASS_RANGE,
    SEED,
    WORKERS,
    Commands,
    open_events,
    quiet_zoo,
    say,
    setting,
    settings_text,
    short,
    stdout_to_stderr,
)
from zoo.cli.validate import validate


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hep-anomaly-zoo")
def main():
    """A zoo of Keras anomaly detectors for the LHC: train, score, evaluate, export."""


for command in (data, evaluate, leaderboard, plot, hunt, bumphunt, scan, validate):
    main.add_command(command)


@main.command("list")
@click.argument("pattern", default="*")
@JSON
def list_(pattern, as_json):
    """List the models whose name matches PATTERN."""
    zoo = quiet_zoo()
    found = [{k: zoo.describe(name)[k] for k in ("name", "summary")} for name in zoo.names(pattern)]
    if not found:
        click.echo(f"No model's name matches {pattern!r}; there are {', '.join(zoo.names())}.", err=True)
    width = max((len(m["name"]) for m in found), default=0) + 2
    say(found, as_json, lambda: "\n".join(f"{m['name']:{width}}{m['summary']}" for m in found))


@main.command()
@click.argument("name")
@JSON
def show(name, as_json):
    """Show a model: what it is, its hyperparameters and presets."""
    zoo = quiet_zoo()
    about = json.loads(json.dumps(zoo.describe(name)))

    def text():
        lines = [about["description"], "", "Hyperparameters:"]
        lines += [f"  {k} = {short(v)}" for k, v in about["hyperparameters"].items()]
        lines += ["", "Presets:"] + [
            f"  {k}: {settings_text(v) or 'the defaults'}" for k, v in about["presets"].items()
        ]
        return "\n".join(lines + ["", f"Scores: {', '.join(about['score_kinds'])}"])

    say(about, as_json, text)


@main.command()
@click.argument("name")
@click.option(
    "--data",
    multiple=True,
    help="Events file, a sample's name, or a published file; may be repeated. Models of spectra need none.",
)
@click.option(
    "--convert",
    "conversion",
    multiple=True,
    metavar="NAME=VALUE",
    help="Published files: an option of `zoo data convert`, as channel=2b.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New run directory.")
@click.option("--preset", help="A named set of hyperparameters (see `zoo show`).")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set a hyperparameter; may be repeated.")
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Epochs of the main phase; the model's own number otherwise."
)
@click.option("--validation", type=float, default=0.0, show_default=True, help="Share of the events held out to watch.")
@MASS_RANGE
@SEED
@click.option("--score", "scored", is_flag=True, help="Score these events too, into the run's scores.h5.")
@click.option(
    "--memory", type=float, metavar="GB", help="Events held in memory while training; more are read from disk."
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted training.")
@WORKERS
@click.option("--xla/--no-xla", default=True, help="Compile the training step with XLA.")
@JSON
def train(name, data, conversion, out, preset, settings, mass_range, seed, scored, workers, as_json, **options):
    """Train the model NAME on events, without labels, or on what it generates (ddp), and write a run directory.

    Published files are converted first, into OUT.events.h5, as `zoo data convert` does.
    """
    zoo = quiet_zoo()
    from pipelines.outputs import check_new
    from zoo import run

    check_new(out)
    validation, memory = options.pop("validation"), options.pop("memory")
    if not 0 <= validation < 1:
        raise InputError(f"--validation {validation:g} is not possible; expected a share >= 0 and < 1")
    if memory is not None and not 0 <= memory < math.inf:
        raise InputError(f"--memory {memory:g} is not possible; expected gigabytes >= 0")
    model = zoo.get(name, preset, **{"seed": seed, **dict(map(setting, settings))})
    (run.Checkpoint.check if options["resume"] else run.Checkpoint.refuse)(out)
    if model.takes == "spectrum":
        given = {"--data": data, "--convert": conversion, "--validation": validation, "--mass-range": mass_range}
        _refuse_events(name, given | {"--score": scored, "--memory": memory})
        files, events, held_out = [], model.generator, model.generator  # of which other spectra watch than train
    elif not data:
        raise InputError(f"{name} is trained on events: give --data, an events file or a sample's name")
    else:
        files = _events_files(data, out, conversion, workers)
        events, held_out = open_events(files, mass_range), None
    if validation:
        events, held_out = events.split(1.0 - validation, seed)
    with stdout_to_stderr():
        run.train(
            model,
            events,
            out,
            validation=held_out,
            epochs=options["epochs"],
            resume=options["resume"],
            extra={"mass_range": mass_range, "validation": validation},
            verbose=1 if sys.stderr.isatty() else 2,
            jit_compile=options["xla"],
            memory=None if memory is None else int(memory * 1e9),
        )
    if scored:
        everything = open_events(files, mass_range)
        _write_scores(out / "scores.h5", *scores(out, everything, None), everything, out, " + ".join(map(str, files)))
    written = json.loads((out / "metrics.json").read_text())
    last, best = written["last_epoch"], written.get("best_epoch", {})
    if None in last.values():
        click.echo("Warning: the last losses are not numbers: training diverged; lower learning_rate.", err=True)
    seen, what = (model.spectra_seen, "generated spectra") if model.takes == "spectrum" else (len(events), "events")
    result = {"run": str(out), what.split()[-1]: seen, "last_epoch": last}
    result |= {"scores": str(out / "scores.h5")} if scored else {}
    result |= {"best_epoch": best} if best else {}
    say(result, as_json, lambda: f"{out}: trained on {seen} {what}; " + _numbers(last) + _peaks(best, last))


def _refuse_events(name, given) -> None:
    for option, value in given.items():
        if value or (option == "--memory" and value is not None):
            raise InputError(f"{option} is for models of events: {name} is trained on spectra that it generates")


def _events_files(data, out, words, workers) -> list:
    """Return the events files behind what `--data` names, after converting published files among them.

    These become OUT.events.h5, and what that was made of is in OUT.events.json: the same again uses it as it is.
    """
    from pipelines import datasets
    from pipelines.datasets.catalog import find
    from pipelines.events.layout import source_files
    from pipelines.jobs.chunks import identity
    from pipelines.outputs import write_json

    options = conversion(words)
    paths = source_files([find(file) for file in data])
    published = [path for path in paths if not datasets.is_events(path)]
    if not published:
        if words:
            raise InputError(f"--convert {words[0]}: nothing to convert, {paths[0]} is an events file")
        return paths
    made, note = (out.with_name(f"{out.name}.events.{ending}") for ending in ("h5", "json"))
    origin = {"sources": [identity(path) for path in published], "convert": sorted(words)}
    if made.exists():
        if not note.exists() or json.loads(note.read_text()) != origin:
            raise InputError(f"{made}: exists already, of other files or options; remove it, or choose another --out")
    else:
        try:
            files = [file for file in data if find(file) in published]
            done = converted(files, made, options.pop("format_"), workers, None, options)
        except KeyboardInterrupt:
            click.echo("\nInterrupted. What is converted is kept; the same command goes on.", err=True)
            click.get_current_context().exit(130)
        write_json(note, origin)
        click.echo(f"{made}: {done.events} events of {', '.join(map(str, published))}", err=True)
    return [made, *(path for path in paths if path not in published)]


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="Events file, or an embedded sample's name.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New HDF5 file with the dataset `score`.")
@click.option("--kind", help="Score kind; the model's default otherwise.")
def score(run, data, out, kind):
    """Score every event of a file with a trained RUN: higher is more anomalous."""
    import numpy as np

    quiet_zoo()
    from pipelines.outputs import check_new

    check_new(out)
    events = open_events([data], None)
    model, each = scores(run, events, kind)
    _write_scores(out, model, each, events, run, data, kind)
    click.echo(f"{out}: {len(events)} scores, median {np.median(each.mean(axis=0)):.4g}")


def _write_scores(out, model, each, events, run, data, kind=None) -> None:

    from pipelines.checksums import create, store
    from pipelines.outputs import new_disk

    about = {"model": model.zoo_name, "run": str(run), "data": str(data), "kind": kind or model.score_kinds[0]}
    with new_disk(out) as disk, create(disk) as file:
        store(file, "score", each.mean(axis=0))
        store(file, "mass", events.mass)
        if len(each) > 1:
            store(file, "score_std", each.std(axis=0))
        file.attrs.update(about)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder for the SavedModel.")
def export(run, out):
    """Export a trained RUN as a SavedModel that needs TensorFlow alone."""
    zoo = quiet_zoo()
    from pipelines.outputs import check_new

    check_new(out)
    model = zoo.load(run)
    model.export(out)
    takes, gives = ("counts, edges, resolution and mask (N, ...)", "significance") if model.takes == "spectrum" else (
        " and ".join(f"{name} (N, {', '.join(map(str, shape))})" for name, shape in model.inputs.shapes.items()), "score"
    )  # fmt: skip
    click.echo(f"{out}: SavedModel; serving_default takes {takes} in physical units and gives {gives}")


def _peaks(best, last) -> str:
    """Say where the watched terms were largest, and which trainings ended before they were."""
    lines = []
    for phase, one in best.items():
        if one["best"] != "max":
            continue
        epochs = [epoch + 1 for epoch in one["epoch"] if epoch is not None]
        members, ended = len(one["epoch"]), last["epoch"] + 1
        if len(epochs) < members:
            lines.append(
                f"{phase}: {members - len(epochs)} of {members} never had a number as {one['quantity']}: diverged"
            )
        if not epochs:
            continue
        span = (
            f"epochs {min(epochs)} to {max(epochs)} of {len(epochs)} members" if members > 1 else f"epoch {epochs[0]}"
        )
        line = f"{phase}: {one['quantity']} was largest at {span}; those weights are kept"
        if first := epochs.count(1):
            line += f"; of {first} in the very first epoch, when nothing is learnt yet: train longer"
        if ended > 1 and (rising := epochs.count(ended)):
            line += f"; {rising} still rising at the last epoch: the peak was not reached, train longer"
        lines.append(line)
    return "".join(f"\n{line}" for line in lines)


def _numbers(values) -> str:
    return ", ".join(f"{k} {v:.4g}" for k, v in values.items() if isinstance(v, float))
