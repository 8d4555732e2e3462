"""The command line: `zoo list | show | train | score | evaluate | export | data ...`."""

from __future__ import annotations

import ast
import contextlib
import errno
import json
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # one clear line on stderr, not TensorFlow's greetings

import click

from pipelines.errors import InputError

MASS_RANGE = click.option(
    "--mass-range", type=float, nargs=2, metavar="LOW HIGH", help="Use events with LOW <= mass < HIGH, GeV."
)
SEED = click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Fixes everything random."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else.")


class OneLine:
    """What answers bad input with one line on stderr and exit code 2, and Ctrl-C with a line and exit code 130."""

    def invoke(self, context):
        try:
            return super().invoke(context)
        except InputError as error:
            _refuse(context, str(error))
        except OSError as error:  # a full disk, a name too long, a folder that vanished
            if error.errno == errno.EPIPE:
                raise
            _refuse(context, f"{error.filename}: {error.strerror}" if error.filename else str(error))
        except KeyboardInterrupt:
            command = getattr(self, "commands", {}).get(context.invoked_subcommand, self)
            resumable = any(parameter.name == "resume" for parameter in command.params)
            advice = " What is finished is kept; the same command with --resume goes on." if resumable else ""
            click.echo(f"\nInterrupted.{advice}", err=True)
            context.exit(130)


def _refuse(context: click.Context, message: str) -> None:
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    context.exit(2)


class Command(OneLine, click.Command):
    """A command that stands alone."""


class Commands(OneLine, click.Group):
    """A group of commands."""


def setting(text: str) -> tuple[str, object]:
    """Read NAME=VALUE, the value a Python literal, words with commas, or a word; raises `InputError` if no "=".

    >>> setting("d_units=300,200,100"), setting("scaling=quantile"), setting("columns=pt_*,mass_1")
    (('d_units', (300, 200, 100)), ('scaling', 'quantile'), ('columns', ('pt_*', 'mass_1')))
    """
    name, found, value = text.partition("=")
    if not found or not name:
        raise InputError(f"--set {text}: expected NAME=VALUE, as in --set epsilon=6")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError):
        words = tuple(word.strip() for word in value.split(",") if word.strip())
        return name, words if "," in value else value


def say(value: object, as_json: bool, text) -> None:
    """Print `value` as JSON, or what `text()` gives."""
    click.echo(json.dumps(value, indent=2, allow_nan=False) if as_json else text())


def open_events(data, mass_range):
    """Open the events of a file or sample, within a mass range if one is given."""
    import pipelines

    events = pipelines.open(data)
    return events.select(mass_range=mass_range) if mass_range else events


@contextlib.contextmanager
def stdout_to_stderr():
    """Send what libraries print to stderr: stdout is for results."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def quiet_zoo():
    """Import the zoo without the greetings that TensorFlow's libraries print before they can be told not to."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            import zoo.keras
        except ImportError as error:  # its message says what to do
            raise InputError(str(error)) from None
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    warnings.formatwarning = lambda message, *_, **__: f"Warning: {message}\n"
    return zoo


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hep-anomaly-zoo")
def main():
    """A zoo of Keras anomaly detectors for the LHC: train, score, evaluate, export."""


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
        lines += [f"  {k} = {_short(v)}" for k, v in about["hyperparameters"].items()]
        lines += ["", "Presets:"] + [f"  {k}: {_settings(v) or 'the defaults'}" for k, v in about["presets"].items()]
        return "\n".join(lines + ["", f"Scores: {', '.join(about['score_kinds'])}"])

    say(about, as_json, text)


@main.command()
@click.argument("name")
@click.option("--data", required=True, help="Events file, or an embedded sample's name.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New run directory.")
@click.option("--preset", help="A named set of hyperparameters (see `zoo show`).")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set a hyperparameter; may be repeated.")
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Epochs of the last phase; the model's own number otherwise."
)
@click.option("--validation", type=float, default=0.0, show_default=True, help="Share of the events held out to watch.")
@MASS_RANGE
@SEED
@click.option("--resume", is_flag=True, help="Go on with an interrupted training.")
@click.option("--xla/--no-xla", default=True, help="Compile the training step with XLA.")
@JSON
def train(name, data, out, preset, settings, epochs, validation, mass_range, seed, resume, xla, as_json):
    """Train the model NAME on events, without labels, and write a run directory."""
    zoo = quiet_zoo()
    from pipelines.outputs import check_new
    from zoo import run

    check_new(out)
    if not 0 <= validation < 1:
        raise InputError(f"--validation {validation:g} is not possible; expected a share >= 0 and < 1")
    model = zoo.get(name, preset, **{"seed": seed, **dict(map(setting, settings))})
    events = open_events(data, mass_range)
    held_out = None
    if validation:
        events, held_out = events.split(1.0 - validation, seed)
    with stdout_to_stderr():
        run.train(
            model,
            events,
            out,
            validation=held_out,
            epochs=epochs,
            resume=resume,
            extra={"mass_range": mass_range, "validation": validation},
            verbose=1 if sys.stderr.isatty() else 2,
            jit_compile=xla,
        )
    last = json.loads((out / "metrics.json").read_text())["last_epoch"]
    if None in last.values():
        click.echo("Warning: the last losses are not numbers: training diverged; lower learning_rate.", err=True)
    result = {"run": str(out), "events": len(events), "last_epoch": last}
    say(result, as_json, lambda: f"{out}: trained on {len(events)} events; " + _numbers(last))


def scores(run, events, kind):
    """Return the model of a run and its scores of events; raises `InputError` if any is not a number."""
    import numpy as np

    import zoo

    model = zoo.load(run)
    found = model.score(events, kind)
    bad = int(np.sum(~np.isfinite(found)))
    if bad:
        raise InputError(
            f"{run}: {bad} of {len(found)} scores are NaN or infinite; "
            f"see {run}/history.csv whether its training diverged, and train with a lower learning_rate"
        )
    return model, found


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="Events file, or an embedded sample's name.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New HDF5 file with the dataset `score`.")
@click.option("--kind", help="Score kind; the model's default otherwise.")
def score(run, data, out, kind):
    """Score every event of a file with a trained RUN: higher is more anomalous."""
    import h5py
    import numpy as np

    quiet_zoo()
    from pipelines.outputs import check_new, new_disk

    check_new(out)
    events = open_events(data, None)
    model, found = scores(run, events, kind)
    with new_disk(out) as disk, h5py.File(disk, "w") as file:
        file["score"], file["mass"] = found, events.mass
        file.attrs.update(
            {"model": model.zoo_name, "run": str(run), "data": str(data), "kind": kind or model.score_kinds[0]}
        )
    click.echo(f"{out}: {len(found)} scores, median {np.median(found):.4g}")


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="Events file with labels, or an embedded sample's name.")
@click.option("--kind", help="Score kind; the model's default otherwise.")
@MASS_RANGE
@SEED
@JSON
def evaluate(run, data, kind, mass_range, seed, as_json):
    """Judge a trained RUN with truth: AUC, signal efficiencies, mass sculpting.

    Events outside the mass range of the run's training are left out, unless --mass-range says otherwise.
    """
    quiet_zoo()
    from pipelines import metrics
    from zoo.run import read_config

    trained_in = read_config(run).get("mass_range")
    events = open_events(data, mass_range or trained_in)
    found = metrics.evaluate(scores(run, events, kind)[1], events, seed)
    say(found, as_json, lambda: _evaluation(found))


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder for the SavedModel.")
def export(run, out):
    """Export a trained RUN as a SavedModel that needs TensorFlow alone."""
    zoo = quiet_zoo()
    from pipelines.outputs import check_new

    check_new(out)
    zoo.load(run).export(out)
    click.echo(f"{out}: SavedModel; serving_default takes features (N, F) in physical units and gives score")


@main.group(cls=Commands)
def data():
    """Events: look at them, convert tables, cluster raw hadrons."""


@data.command()
@click.argument("source")
@JSON
def info(source, as_json):
    """Say what an events file (or embedded sample) holds."""
    import pipelines
    from pipelines.datasets import lhco
    from pipelines.datasets.catalog import find

    path = find(source)
    if lhco.is_raw(path):
        about = lhco.describe(path)
        say(about, as_json, lambda: "\n".join(f"{k}: {v}" for k, v in about.items()))
        return
    events = pipelines.open(path)
    mass = events.mass
    low, high = (float(mass.min()), float(mass.max())) if len(mass) else (None, None)
    about = {
        "file": events.name,
        "events": len(events),
        "columns": list(events.columns),
        "mass": {"column": events.about.mass_column, "min": low, "max": high},
        "labels": _label_counts(events),
        "dataset": events.about.dataset,
        "source": events.about.source,
        "license": events.about.license,
        "citation": events.about.citation,
    }
    say(about, as_json, lambda: "\n".join(f"{k}: {_short(v)}" for k, v in about.items()))


@data.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--mass", required=True, metavar="COLUMN", help="The column that is the mass spectrum, GeV.")
@MASS_RANGE
def convert(source, out, mass, mass_range):
    """Convert an HDF5 table with `features`, `columns` and maybe `label` to an events file."""
    from pipelines.datasets.table import convert
    from pipelines.outputs import check_new

    check_new(out)
    with _progress("converting") as progress:
        count = convert(source, out, mass=mass, mass_range=mass_range or None, progress=progress)
    click.echo(f"{out}: {count} events")


@data.command()
@click.argument("source")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("rest", type=click.Path(path_type=Path))
@click.option("--events", type=click.IntRange(min=1), required=True, help="Size of FIRST.")
@click.option("--label", type=int, help="Draw FIRST from one truth label only, such as 0, the background.")
@SEED
def split(source, first, rest, events, label, seed):
    """Draw a training sample without labels, FIRST, and write all other events to REST."""
    import pipelines
    from pipelines.outputs import check_new

    if check_new(first).resolve() == check_new(rest).resolve():
        raise InputError(f"{rest}: given for both parts; name two files")
    drawn, others = pipelines.open(source).set_aside(events, label=label, seed=seed)
    drawn.write(first)
    try:
        others.write(rest)
    except BaseException:  # both or none: one part alone is a study that judges by what it trained on
        first.unlink()
        raise
    click.echo(f"{first}: {len(drawn)} events\n{rest}: {len(others)} events")


@data.command()
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--key", type=click.Path(path_type=Path), help="Master key: one label per line, for files without labels."
)
def cluster(source, out, key):
    """Cluster raw LHC Olympics hadrons into jets: 47 variables per event."""
    from pipelines.datasets import lhco
    from pipelines.datasets.catalog import SAMPLES, find
    from pipelines.outputs import check_new

    check_new(out)
    credit = {k: getattr(SAMPLES[source], k) for k in ("license", "citation")} if source in SAMPLES else {}
    with _progress("clustering") as progress:
        count = lhco.cluster(find(source), out, key=key, progress=progress, **credit)
    click.echo(f"{out}: {count} events")


@contextlib.contextmanager
def _progress(what):
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _label_counts(events) -> dict[str, int]:
    import numpy as np

    if not events.has_labels:
        return {}
    names = events.about.label_names
    return {
        f"{k} {names.get(int(k), '')}".strip(): int(n) for k, n in zip(*np.unique(events.label, return_counts=True))
    }


def _short(value) -> str:
    if isinstance(value, dict):
        return _settings(value)
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    if len(text) < 100 or isinstance(value, str):
        return text
    return f"{text[:80].rpartition(',')[0]}, ... ({len(value)} in all)"


def _settings(values) -> str:
    return ", ".join(f"{k} {_short(v)}" if not isinstance(v, list) else f"{k} ({_short(v)})" for k, v in values.items())


def _numbers(values) -> str:
    return ", ".join(f"{k} {v:.4g}" for k, v in values.items() if isinstance(v, float))


def _evaluation(found) -> str:
    names = found.get("label_names", {})
    lines = []
    for label, area in found["auc"].items():
        efficiencies = ", ".join(
            f"{e:.3g} at {eps}" if e is not None else f"too few events at {eps}"
            for eps, e in found["signal_efficiency"][label].items()
        )
        lines += [f"{names.get(label, label)}: AUC {area:.3f}; signal efficiency {efficiencies} background efficiency"]
    lines += ["Jensen-Shannon distance of the background's mass spectrum (what statistics alone makes):"]
    for percentile, at in found["sculpting"].items():
        lines += [f"  {percentile:>4}th percentile  {at['distance']:.3f}  ({at['floor']:.3f} +- {at['floor_std']:.3f})"]
    return "\n".join(lines)
