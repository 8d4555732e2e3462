"""The command line: `zoo list | show | train | score | evaluate | plot | leaderboard | export | check | data ...`."""

from __future__ import annotations

import contextlib
import json
import sys
import types
import warnings
from pathlib import Path

import click

from pipelines.errors import InputError
from zoo.cli.bumphunt import bumphunt
from zoo.cli.check import check
from zoo.cli.data import conversion, data, prepared
from zoo.cli.evaluate import evaluate, leaderboard, plot, warn
from zoo.cli.hunt import hunt
from zoo.cli.scan import scan
from zoo.cli.terminal import (
    JSON,
    MASS_RANGE,
    SEED,
    WORKERS,
    Commands,
    Finite,
    progress,
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


for command in (data, evaluate, leaderboard, plot, hunt, bumphunt, scan, validate, check):
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
    "words",
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
@click.option("--resume", is_flag=True, help="Go on with an interrupted training, or begin where there is none.")
@WORKERS
@click.option("--xla/--no-xla", "jit_compile", default=True, help="Compile the training step with XLA.")
@JSON
def train(name, data, words, out, settings, as_json, **options):
    """Train the model NAME on events, without labels, or on what it generates (ddp), and write a run directory.

    Published files are converted first, into OUT.events.h5, as `zoo data convert` does.
    """
    from pipelines.outputs import check_new

    check_new(out, unless="config.json" if options["resume"] else None)
    given, hyperparameters = _conversion(words, data), dict(map(setting, settings))
    zoo, converting = quiet_zoo(), Converting()
    with converting, stdout_to_stderr():
        found = zoo.train(
            name, list(data) or None, out, hyperparameters=hyperparameters, conversion=given,
            verbose=1 if sys.stderr.isatty() else 2, said=converting.said, progress=converting.progress, **options,
        )  # fmt: skip
    if found.diverged:
        click.echo("Warning: the last losses are not numbers: training diverged; lower learning_rate.", err=True)
    say(found.to_dict(), as_json, lambda: str(found))


def _conversion(words, data) -> dict[str, object]:
    """Return the options of a conversion that --convert gives, as `pipelines.datasets.convert` takes them."""
    if not words:
        return {}
    from pipelines import datasets
    from pipelines.datasets.find import find
    from pipelines.events.layout import source_files

    options = conversion(words)
    paths = [path for path in source_files([find(file) for file in data]) if not datasets.is_events(path)]
    if data and not paths:
        raise InputError(f"--convert {words[0]}: nothing to convert, {data[0]} is an events file")
    name = options.pop("format_", None) or (datasets.recognise(paths[0]) if paths else "")
    return {**prepared(name, options), **({"format": name} if name else {})}


class Converting(contextlib.ExitStack):
    """Shows how far a conversion is; after Ctrl-C it says that the same command goes on."""

    _advance = None

    def progress(self, done: int, total: int | None) -> None:
        if self._advance is None:
            self._advance = self.enter_context(progress("converting"))
        self._advance(done, total)

    def said(self, text: str) -> None:
        self.close()
        self._advance = None
        click.echo(text, err=True)

    def __exit__(self, kind, error, trace):
        converting = self._advance is not None
        super().__exit__(kind, error, trace)
        if converting and kind is KeyboardInterrupt:
            click.echo("\nInterrupted. What is converted is kept; the same command goes on.", err=True)
            click.get_current_context().exit(130)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="Events file, or an embedded sample's name.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New HDF5 file with the dataset `score`.")
@click.option("--kind", help="Score kind; the model's default otherwise.")
def score(run, data, out, kind):
    """Score every event of a file with a trained RUN: higher is more anomalous."""
    from pipelines.outputs import check_new

    check_new(out)
    found = quiet_zoo().score(run, data, kind)
    warn(found.warning())
    found.write(out)
    click.echo(f"{out}: {found}")


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder for the SavedModel.")
def export(run, out):
    """Export a trained RUN as a SavedModel that needs TensorFlow alone."""
    from pipelines.outputs import check_new

    check_new(out)
    zoo = quiet_zoo()
    model = zoo.load(run)
    model.export(out)
    click.echo(f"{out}: SavedModel; serving_default {model.serving_text()}")


class _Command(types.ModuleType):
    """This module, which can be called: `from zoo.cli import main` was the command when `zoo.cli` was one module."""

    def __call__(self, *args, **options):
        warnings.warn("zoo.cli.main is a module now; import main from it", DeprecationWarning, stacklevel=2)
        return main(*args, **options)


sys.modules[__name__].__class__ = _Command
