"""The command line `tune`: a search, and `tune results | plot | compare | best | space` of what there is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from pipelines.errors import InputError
from tuning.table import best_is_written, brief, table
from zoo import declarations
from zoo.cli.reading import DATA_HELP, reads_data
from zoo.cli.terminal import (
    JSON,
    MASS_RANGE,
    SCHEDULER,
    SEED,
    Commands,
    quiet_zoo,
    say,
    setting,
    stdout_to_stderr,
)

EXPORTED = "saved_model.pb"  # by which a SavedModel is known
SAMPLE = "lhco_sim_train"
ALGORITHMS = ("hyperband", "random", "bayesian", "grid")
UNITS = {"d": 86400, "h": 3600, "m": 60, "min": 60, "s": 1, "": 1}


class Duration(click.ParamType):
    """A time such as 2h, 90m, 1h30m or 45s, in seconds."""

    name = "time"

    def convert(self, value, param, ctx):
        parts = re.findall(r"(\d+(?:\.\d*)?|\.\d+)\s*(d|h|min|m|s|)", value) if isinstance(value, str) else []
        seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
        if "".join(number + unit for number, unit in parts) != str(value).replace(" ", "") or not 0 < seconds < 1e9:
            raise InputError(f"{param.opts[0]} {value}: expected a time, such as 2h, 90m or 1h30m")
        return seconds


class Tune(Commands):
    """The search itself, a command with options of its own, and the commands below it."""

    def resolve_command(self, context, arguments):
        if self.get_command(context, arguments[0]) is None:
            known = ", ".join(self.list_commands(context))
            raise InputError(
                f"no command {arguments[0]!r}; expected one of {known}, or a search, as in `tune --model vae`"
            )
        return super().resolve_command(context, arguments)


SET = click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Fix a hyperparameter; may be repeated."
)
SPACE = click.option(
    "--space", type=click.Path(path_type=Path), help="YAML file that narrows, widens or replaces the space."
)
PRESET = click.option("--preset", help="Preset for the hyperparameters that are not searched.")
XLA = click.option("--xla/--no-xla", default=True, help="Compile training steps with XLA.")
TRIALS_XLA = click.option(
    "--xla/--no-xla",
    default=None,
    help="Compile the training steps of trials with XLA; by default on a GPU, and of models whose trials it pays for.",
)


def _models(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return what a shell completes to the name of a model."""
    from zoo import declarations

    return declarations.completed(incomplete)


SEARCH = click.argument("search", type=click.Path(path_type=Path), metavar="DIR")


@click.group(cls=Tune, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hep-anomaly-zoo")
@click.option("--model", shell_complete=_models, help="The model to tune (see `zoo list`).")
@click.option("--trials", type=int, default=20, show_default=True, help="How many trials, exactly.")
@click.option("--data", multiple=True, help=f"{DATA_HELP} The embedded sample {SAMPLE} otherwise.")
@click.option(
    "--validation", multiple=True, metavar="FILE", help="Events that judge trials; a fifth of --data otherwise."
)
@reads_data("data", "validation", without=["label"])
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the search; tune-MODEL otherwise.")
@click.option(
    "--objective", help="What to minimise: as reconstruction+10*sculpting, argos, or pareto:reconstruction,sculpting."
)
@click.option(
    "--window",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="Signal region, GeV, of --objective argos, and of models that have one.",
)
@click.option(
    "--sidebands",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="Outer edges of its side bands, GeV; all events outside of the window otherwise.",
)
@click.option("--template", metavar="FILE", help="Events file of background for argos, instead of side bands.")
@click.option(
    "--algorithm", type=click.Choice(ALGORITHMS), default="hyperband", show_default=True, help="What chooses trials."
)
@click.option("--max-epochs", type=int, default=9, show_default=True, help="Epochs of the longest trials.")
@click.option("--factor", type=int, default=3, show_default=True, help="One trial in FACTOR is promoted.")
@click.option(
    "--architectures",
    type=click.IntRange(min=0),
    default=0,
    help="Draw no more than so many architectures, each with many settings of the rest: less to compile.",
)
@click.option("--time-limit", type=Duration(), help="Begin no more trials after this time, such as 2h or 90m.")
@click.option(
    "--trial-timeout", type=Duration(), help="Take a trial that hangs from its worker process after this time."
)
@PRESET
@SET
@SPACE
@click.option("--export", "export_to", type=click.Path(path_type=Path), help="Export the best as a SavedModel there.")
@click.option(
    "--tensorboard",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="New folder for TensorBoard: losses and figures of merit of every trial, while the search runs.",
)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes on this machine.")
@SCHEDULER
@MASS_RANGE
@SEED
@click.option("--resume", is_flag=True, help="Go on with an interrupted search, or begin.")
@TRIALS_XLA
@JSON
@click.pass_context
def main(context, **options):
    """Tune a model's hyperparameters, without labels, in exactly as many trials as asked.

    `tune --model vae --trials 200` searches; the commands below look at searches that are there, finished or not.
    """
    if context.invoked_subcommand:
        for name in options:
            if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
                option = next(p.opts[0] for p in context.command.params if p.name == name)
                raise InputError(
                    f"{option} is of a search; give the options of {context.invoked_subcommand} after its name"
                )
        return
    if not options["model"]:
        raise InputError("no --model; give one of `zoo list`, as in `tune --model vae --trials 200`")
    _search(**options)


def _search(
    model, data, validation, out, objective, window, sidebands, template, space, settings, preset, export_to, mass_range,
    as_json, xla, conversion, converting, **options,
):  # fmt: skip
    from pipelines.outputs import check_apart, check_new
    from tuning.results import check_out
    from tuning.spacefile import load_space

    fixed, out = dict(map(setting, settings)), out or Path(f"tune-{model}")
    declarations.check_names(model, preset)
    check_out(out, options["resume"])
    if export_to and check_new(export_to, unless=EXPORTED if options["resume"] else None).resolve() == out.resolve():
        raise InputError(f"{export_to}: given for --export and --out; name two folders")
    given_space = None if space is None else load_space(space)  # told before TensorFlow is imported
    if options["tensorboard"]:
        check_apart(options["tensorboard"], out, "--tensorboard")
        if not (options["resume"] and options["tensorboard"].is_dir()):
            check_new(options["tensorboard"])
    quiet_zoo()
    import tensorflow as tf

    from pipelines.datasets.opening import open_events
    from tuning import session
    from tuning.argos import windowed
    from tuning.display import display
    from tuning.objectives import Objective
    from tuning.results import load_results
    from tuning.space import Space
    from zoo.serving.saved_model import export_again

    tf.get_logger().setLevel("ERROR")  # architectures differ, so each is traced: TensorFlow warns of every one
    session.share_gpus()
    window, sidebands = window or (), sidebands or ()
    fixed = windowed(model, fixed, window, sidebands)
    Space(model, fixed, preset, space).check()  # here, where its file has a name
    objective = Objective.parse(objective or session.DEFAULT_OBJECTIVE)
    notices = (
        [] if data else [f"No --data given: tuning on the embedded sample {SAMPLE} (simulated, 20,000 QCD dijets)."]
    )
    events, judges = _opened(out, data, validation, mass_range, conversion, converting)
    background = open_events([template], mass_range) if template else None
    with stdout_to_stderr(), display(objective, notices) as listener:
        session.search(
            model,
            events,
            validation=judges,
            out=out,
            objective=objective.text,
            window=window,
            sidebands=sidebands,
            template=background,
            fixed=fixed,
            preset=preset,
            space=given_space,
            jit_compile=xla,
            extra={"mass_range": mass_range},
            listener=listener,
            **options,
        )
    results = load_results(out)
    if export_to and not best_is_written(results):
        raise InputError(f"{export_to}: not exported, the best is not trained to its end yet; repeat with --resume")
    if export_to:
        export_again(out / "best", export_to)
    say(results.to_json(), as_json, lambda: table(results))


def _opened(out: Path, data, validation, mass_range, conversion, converting):
    """Open what trains and what judges, None without; tables are converted to files beside `out`, which stay."""
    from pipelines.datasets.opening import needs_conversion, open_events

    if conversion and not data:
        raise InputError("--mass, --tree, --weight, --convert: there is nothing to convert; give --data")
    converting.kept = True
    found = []
    for files, name in ((list(data) or [SAMPLE], "events"), (list(validation), "validation")):
        given = conversion if files and needs_conversion(files) else {}
        kept = out.with_name(f"{out.name}.{name}.h5")
        found.append(open_events(files, mass_range, kept=kept, **given, **converting.told) if files else None)
    return found


# -- what there is --------------------------------------------------------------------------------------


@main.command("results")
@SEARCH
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Trials to list.")
@click.option("--csv", "as_csv", is_flag=True, help="Print all trials as CSV.")
@JSON
def results_(search, top, as_csv, as_json):
    """Show what a search in DIR has found, finished or not."""
    quiet_zoo()
    from tuning.results import load_results

    if as_csv and as_json:
        raise InputError("--csv and --json: choose one")
    found = load_results(search)
    if as_csv:
        click.echo(found.to_csv(), nl=False)
        return
    say(found.to_json(), as_json, lambda: table(found, top))


@main.command()
@SEARCH
@click.option(
    "--out", type=click.Path(path_type=Path), help="New folder for figures and index.html; DIR/plots otherwise."
)
@click.option("--tensorboard", type=click.Path(path_type=Path), help="New folder for TensorBoard's HParams page.")
@SEED
@JSON
def plot(search, out, tensorboard, seed, as_json):
    """Draw a search in DIR. Figures are history, Pareto front, parallel coordinates, importances and learning curves.

    Every figure comes with its numbers; index.html is one page with them all that needs no other file.
    """
    quiet_zoo()
    from pipelines.outputs import check_new
    from tuning import figures
    from tuning.results import load_results

    found, out = load_results(search), out or search / "plots"
    for path in filter(None, (out, tensorboard)):
        check_new(path)
    told = {"out": str(out), "files": figures.draw(found, out, seed), "truth_used": found.truth_used}
    if tensorboard:
        told |= {"tensorboard": str(tensorboard), "runs": figures.write_hparams(found, tensorboard)}
    board = f"\n{tensorboard}: look at it with `tensorboard --logdir {tensorboard}`" if tensorboard else ""
    drawn = [Path(name).stem for name in told["files"] if name.endswith(".png")]
    say(told, as_json, lambda: f"{out / 'index.html'}: one page with {', '.join(drawn)}{board}")


@main.command()
@click.argument("searches", type=click.Path(path_type=Path), metavar="DIR DIR...", nargs=-1, required=True)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="New folder for index.html and its figures."
)
@JSON
def compare(searches, out, as_json):
    """Set several searches side by side in one page. Told are how far each came, at what cost, and its best."""
    quiet_zoo()
    from pipelines.outputs import check_new
    from tuning.compare import compare as compare_searches

    check_new(out)
    told = compare_searches(searches, out)
    say(told, as_json, lambda: f"{out / 'index.html'}: {', '.join(told['searches'])} side by side")


@main.command()
@SEARCH
@click.option("--trial", help="Another trial than the best, by its id.")
@click.option("--export", "export_to", type=click.Path(path_type=Path), help="New folder for a SavedModel.")
@click.option(
    "--retrain",
    is_flag=True,
    help="Train it anew, on all events of the search or --data, into the run directory --out.",
)
@click.option("--members", type=click.IntRange(min=1), help="With --retrain: copies of other seeds, trained together.")
@click.option("--epochs", type=click.IntRange(min=1), help="With --retrain: another number than the trial had.")
@click.option(
    "--data",
    multiple=True,
    help=f"With --retrain: {DATA_HELP[0].lower()}{DATA_HELP[1:]} Those of the search otherwise.",
)
@reads_data("data", without=["label"])
@click.option("--out", type=click.Path(path_type=Path), help="With --retrain: new run directory.")
@MASS_RANGE
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="With --retrain: another seed than the search had.")
@click.option("--resume", is_flag=True, help="With --retrain: go on with an interrupted training, or begin.")
@XLA
@JSON
def best(
    search, trial, export_to, retrain, data, out, mass_range, as_json, xla, conversion, converting, **options
):  # fmt: skip
    """Show, export or retrain the best trial of a search in DIR. Retrained, it learns from all events."""
    quiet_zoo()
    from pipelines.outputs import check_new
    from tuning.results import load_results, retrained
    from zoo.serving.saved_model import export_again

    found = load_results(search)
    chosen = found.trial(trial) if trial else found.best
    if chosen is None:
        raise InputError(f"{search}: none of {len(found.trials)} trials has completed")
    if export_to:
        check_new(export_to, unless=EXPORTED if options["resume"] else None)
    if not retrain:
        _only_with_retrain(data=data, out=out, mass_range=mass_range, convert=conversion, **options)
        run = search / "best"
        if export_to and (not best_is_written(found) or (trial and chosen is not found.best)):
            raise InputError(f"{search}: the only trained run is its best, at the end of the search; add --retrain")
    else:
        if out is None:
            raise InputError("--retrain needs --out, a new run directory")
        check_new(out, unless="config.json" if options["resume"] else None)
        events = _to_retrain(found, out, data, mass_range, conversion, converting)
        run = _retrain(retrained, found, chosen, events, out, mass_range, xla, **options)
    if export_to:
        export_again(run, export_to)
    told = {"trial": chosen, "truth_used": found.truth_used, "objective": found.objective}
    told |= {"run": str(run)} if run.exists() else {}
    told |= {"export": str(export_to)} if export_to else {}
    say(told, as_json, lambda: _told(found, chosen, told))


def _only_with_retrain(**options) -> None:
    for name, value in options.items():
        if value:
            raise InputError(f"--{name.replace('_', '-')} is for training anew; add --retrain")


def _to_retrain(found, out, data, mass_range, conversion, converting):
    """Open the events to train on: those of the search, unless others are given."""
    if data:
        return _opened(out, data, (), mass_range or found.mass_range, conversion, converting)[0]
    if mass_range or conversion:
        raise InputError(
            "--mass-range and options of a conversion are for other events than those of the search; add --data"
        )
    events = found.events()
    click.echo(f"Training on the {len(events)} events of the search, {events.name}.", err=True)
    return events


def _retrain(retrained, found, chosen, events, out, mass_range, xla, **options):
    verbose = 1 if sys.stderr.isatty() else 2
    extra = {"mass_range": mass_range or found.mass_range}
    with stdout_to_stderr():
        retrained(found, chosen, events, out, jit_compile=xla, verbose=verbose, extra=extra, **options)
    return out


def _told(found, chosen, told) -> str:
    merits = {k: v for k, v in chosen["metrics"].items() if v is not None}
    terms = ", ".join(f"{k} {v:.4g}" for k, v in merits.items() if k != "objective")
    lines = [f"trial {chosen['trial']} ({found.parsed.notice}): {terms or chosen['status'].lower()}"]
    lines += [f"  objective = {merits['objective']:.4g}"] if "objective" in merits else []
    lines += [f"  epochs = {chosen['epochs']}"]
    lines += [f"  {name} = {brief(value)}" for name, value in chosen["hyperparameters"].items()]
    lines += [f"run: {told['run']} (zoo score, zoo evaluate and zoo export take it)"] if "run" in told else []
    lines += [f"SavedModel: {told['export']}"] if "export" in told else []
    return "\n".join(lines)


@main.command("space")
@click.argument("model", shell_complete=_models)
@PRESET
@SET
@SPACE
@click.option("--yaml", "as_yaml", is_flag=True, help="Print it as a file for --space, to begin with.")
@JSON
def space_(model, preset, settings, space, as_yaml, as_json):
    """Show the search space of MODEL, as --set and --space leave it."""
    quiet_zoo()
    from tuning.space import Space

    if as_yaml and as_json:
        raise InputError("--yaml and --json: choose one")
    found = Space(model, dict(map(setting, settings)), preset, space)
    found.check()
    if as_yaml:
        click.echo(found.template(), nl=False)
        return
    say(found.rows(), as_json, found.table)
