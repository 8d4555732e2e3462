"""The command line: `zoo list | show | train | score | evaluate | plot | leaderboard | export | check | doctor | data ...`."""

from __future__ import annotations

import fnmatch
import sys
import types
import warnings
from pathlib import Path

import click

from pipelines import memory
from zoo import declarations, weights
from zoo.cli.benchmark import benchmark
from zoo.cli.bumphunt import bumphunt
from zoo.cli.check import check
from zoo.cli.data import data
from zoo.cli.doctor import doctor
from zoo.cli.evaluate import evaluate, leaderboard, plot, warn
from zoo.cli.explain import explain
from zoo.cli.export import export
from zoo.cli.hunt import hunt
from zoo.cli.reading import DATA_HELP, reads_data
from zoo.cli.scan import scan
from zoo.cli.terminal import (
    JSON,
    MASS_RANGE,
    SEED,
    WORKERS,
    Commands,
    Finite,
    check_run,
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


COMMANDS = (
    benchmark,
    data,
    evaluate,
    explain,
    export,
    leaderboard,
    plot,
    hunt,
    bumphunt,
    scan,
    validate,
    check,
    doctor,
)
for command in COMMANDS:
    main.add_command(command)


def _declared() -> declarations.Declared:
    """Return what all models declare, without TensorFlow where that is possible."""
    if declarations.known() is None:
        quiet_zoo()
    return declarations.declared()


@main.command("list")
@click.argument("pattern", default="*")
@JSON
def list_(pattern, as_json):
    """List the models, and the trained weights of the package. With PATTERN only names that match it."""
    models = list(_declared().values())
    found = [
        {**{k: one[k] for k in ("name", "summary")}, "weights": weights.names(f"{one['name']}/*")}
        for one in models
        if fnmatch.fnmatch(one["name"], pattern)
    ]
    if not found:
        click.echo(f"No model's name matches {pattern!r}; there are {', '.join(m['name'] for m in models)}.", err=True)
    width = max((len(m["name"]) for m in found), default=0) + 2

    def text():
        lines = [f"{m['name']:{width}}{m['summary']}" for m in found]
        trained = [name for m in found for name in m["weights"]]
        return "\n".join([*lines, *(["", f"Trained weights, taken as RUN: {', '.join(trained)}"] if trained else [])])

    say(found, as_json, text)


def _names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return what a shell completes to the name of a model, or of trained weights where they are taken too."""
    trained = weights.names(f"{incomplete}*") if context.info_name == "show" else []
    return declarations.completed(incomplete) + trained


@main.command()
@click.argument("name", shell_complete=_names)
@JSON
def show(name, as_json):
    """Show a model or an exported one. Of a model NAME: what it is, its hyperparameters and presets. An exported one is a folder or a
    file *.onnx.

    Or trained weights, as vae/lhco_sim: what they are trained on, by which command, and what they reach.
    """
    from zoo.serving.artefact import about_text, is_export, read_about

    if is_export(name):
        exported = read_about(name)
        say(exported, as_json, lambda: about_text(exported))
        return
    if weights.is_shipped(name) or weights.advice(name):
        reached = weights.results(name)
        say(reached, as_json, lambda: weights.text(name))
        return
    _declared()
    about = declarations.find_one(name)

    def text():
        lines = [about["description"], "", "Hyperparameters:"]
        lines += [f"  {k} = {short(v)}" for k, v in about["hyperparameters"].items()]
        lines += ["", "Presets:"] + [
            f"  {k}: {settings_text(v) or 'the defaults'}" for k, v in about["presets"].items()
        ]
        return "\n".join(lines + ["", f"Scores: {', '.join(about['score_kinds'])}"])

    say(about, as_json, text)


@main.command()
@click.argument("name", shell_complete=_names)
@click.option(
    "--data",
    multiple=True,
    help="Events file, a sample's name, a published file or a table; may be repeated. Models of spectra need none.",
)
@reads_data("data", without=["label"])
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New run directory.")
@click.option("--preset", help="A named set of hyperparameters (see `zoo show`).")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set a hyperparameter; may be repeated.")
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Epochs of the main phase; the model's own number otherwise."
)
@click.option("--validation", type=float, default=0.0, show_default=True, help="Share of the events held out to watch.")
@MASS_RANGE
@click.option(
    "--window",
    type=Finite(),
    nargs=2,
    metavar="LOW HIGH",
    help="Signal region, GeV, of a model that needs one, such as cwola.",
)
@SEED
@click.option("--score", is_flag=True, help="Score these events too, into the run's scores.h5.")
@click.option(
    "--memory", type=float, metavar="GB", help="Events held in memory while training; more are read from disk."
)
@click.option(
    "--tensorboard",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="New folder for TensorBoard: the losses of every epoch, while it trains.",
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted training, or begin where there is none.")
@WORKERS
@click.option("--xla/--no-xla", "jit_compile", default=True, help="Compile the training step with XLA.")
@JSON
def train(name, data, out, settings, as_json, conversion, converting, **options):
    """Train a model on events, without labels. `ddp` learns from what it generates. Writes a run directory.

    Published files and tables are converted first, into OUT.events.h5, as `zoo data convert` does.
    """
    from pipelines.outputs import check_new

    check_new(out, unless="config.json" if options["resume"] else None)
    memory.check(memory.TRAINING)  # before what models declare is worked out, which may take TensorFlow
    hyperparameters, converting.kept = dict(map(setting, settings)), True
    declarations.check_names(name, options["preset"], hyperparameters)
    zoo = quiet_zoo()
    with stdout_to_stderr():
        found = zoo.train(
            name, list(data) or None, out, hyperparameters=hyperparameters, conversion=conversion,
            verbose=1 if sys.stderr.isatty() else 2, **converting.told, **options,
        )  # fmt: skip
    if found.diverged:
        click.echo("Warning: the last losses are not numbers: training diverged; lower learning_rate.", err=True)
    say(found.to_dict(), as_json, lambda: str(found))


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", required=True, multiple=True, help=DATA_HELP)
@reads_data("data", without=["label"])
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="New HDF5 file with the dataset `score`, or CSV by its ending.",
)
@click.option("--score-kind", "--kind", "kind", help="Score kind; the model's default otherwise.")
def score(run, data, out, kind, conversion, converting):
    """Score events with a trained RUN. A higher score is more anomalous.

    A table is read as that of the training: the run's columns, and its mass.
    """
    from pipelines.outputs import check_new

    check_new(out)
    check_run(run)
    found = quiet_zoo().score(run, list(data), kind, **conversion, **converting.told)
    warn(found.warning())
    found.write(out)
    click.echo(f"{out}: {found}")


class _Command(types.ModuleType):
    """This module, which can be called: `from zoo.cli import main` was the command when `zoo.cli` was one module."""

    def __call__(self, *args, **options):
        warnings.warn("zoo.cli.main is a module now; import main from it", DeprecationWarning, stacklevel=2)
        return main(*args, **options)


sys.modules[__name__].__class__ = _Command
