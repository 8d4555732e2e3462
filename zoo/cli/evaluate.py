"""`zoo evaluate | plot | leaderboard`: what trained models are worth."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.errors import InputError
from zoo.cli.reading import DATA_HELP, reads_data
from zoo.cli.terminal import JSON, MASS_RANGE, SEED, check_run, quiet_zoo, say


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", required=True, multiple=True, help=f"With labels: {DATA_HELP[0].lower()}{DATA_HELP[1:]}")
@reads_data("data")
@click.option("--score-kind", "--kind", "kind", help="Score kind; the model's default otherwise.")
@click.option(
    "--table",
    type=click.Path(path_type=Path),
    help="New CSV with the run's rows for `zoo leaderboard`; needs --channel.",
)
@click.option("--channel", help="Channel of these events in that table, as 2b.")
@click.option("--name", help="Model's name in that table; the folder's otherwise.")
@click.option("--errors", is_flag=True, help="Add standard errors to that table, in columns after the challenge's.")
@click.option("--ignore-weights", is_flag=True, help="Count all events alike.")
@MASS_RANGE
@SEED
@JSON
def evaluate(
    run, data, kind, table, channel, name, errors, ignore_weights, mass_range, seed, as_json, conversion, converting
):
    """Judge a trained RUN with truth. Prints AUC, signal efficiencies and mass sculpting.

    Events outside the mass range of the run's training are left out, unless --mass-range says otherwise.
    """
    from pipelines.outputs import check_new

    if bool(table) != bool(channel) or ((name or errors) and not table):
        raise InputError(
            "--table, --channel: expected both, or none of them and no --name or --errors; add the one that is missing"
        )
    if table:
        check_new(table)
    check_run(run)
    zoo = quiet_zoo()
    from zoo.evaluation.scores import duplicates

    found = zoo.evaluate(
        run, list(data), kind, mass_range=mass_range, ignore_weights=ignore_weights, seed=seed, **conversion, **converting.told
    )  # fmt: skip
    again, files = duplicates(run, found.events)
    if again:
        click.echo(
            f"Warning: {again} of {len(found.events)} events are also in {' + '.join(files)}, which the run was trained "
            f"on: they say nothing about new data",
            err=True,
        )
    warn(found.warning)
    if table:
        found.write_table(table, channel, name, errors)
    say(found, as_json, lambda: str(found))


def warn(message: str | None) -> None:
    """Say something on stderr that the user should know, if there is something."""
    if message:
        click.echo(f"Warning: {message}", err=True)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--data",
    multiple=True,
    help=f"{DATA_HELP} Those without labels are drawn as data, as points. "
    "Without --data and --sample only the training is drawn.",
)
@reads_data("data", "samples", told=True)
@click.option(
    "--sample",
    "samples",
    multiple=True,
    metavar="NAME=FILE",
    help="Events to draw as a class of this name, such as background=mc.h5, whatever their labels; may be repeated.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder for PNGs and their numbers.")
@click.option("--score-kind", "--kind", "kind", help="Score kind of the ROC curve; the model's default otherwise.")
@MASS_RANGE
@SEED
@JSON
def plot(run, data, samples, out, kind, mass_range, seed, as_json, conversion):
    """Draw the figures of a trained RUN. These are its losses, and its results for the events of --data and --sample.

    Ratios are to the background, if there is one.
    """
    from pipelines.outputs import check_new

    check_new(out)
    named = {}
    for text in samples:
        name, found, file = text.partition("=")
        if not (name and file) or name in named:
            problem = "comes twice" if name in named else "has no NAME or no FILE"
            raise InputError(f"--sample {text}: {problem}; expected names that differ, as in --sample background=mc.h5")
        named[name] = file
    check_run(run)
    zoo = quiet_zoo()
    files = zoo.plot(
        run, out, list(data) or None, samples=named, kind=kind, mass_range=mass_range, seed=seed, conversion=conversion
    )  # fmt: skip
    found = {"out": str(out), "files": files}
    say(found, as_json, lambda: f"{out}: " + ", ".join(file for file in found["files"] if file.endswith(".png")))


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILES...")
@click.option("--channel", "channels", multiple=True, help="Only this channel, as 2b; may be repeated.")
@click.option("--signal", "signals", multiple=True, help="Only this signal; may be repeated.")
@click.option("--model", "models", multiple=True, help="Only this model; may be repeated.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Models to list in each ranking.")
@click.option(
    "--way",
    type=click.Choice(["mean", "median", "average_rank", "top", "top5", "minimum"]),
    default="mean",
    show_default=True,
    help="Ranking that chooses the models of the figure.",
)
@click.option(
    "--plot",
    "figure",
    type=click.Path(path_type=Path),
    help="New PNG of box-and-whisker plots; its numbers go to a JSON beside it.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="New CSV with all rows that were read, in the challenge's columns.",
)
@click.option("--errors", is_flag=True, help="Add standard errors to that CSV, in columns after the challenge's.")
@click.option(
    "--against", type=click.Path(path_type=Path), help="Published summary of total improvements to compare with."
)
@JSON
def leaderboard(files, channels, signals, models, top, way, figure, out, errors, against, as_json):
    """Compare models by the Dark Machines challenge's evaluation.

    FILES are tables of scores in its CSV columns Signal, Model, Chan, AUC, 1e-2, 1e-3 and 1e-4, with or without columns of
    errors.
    """
    from pipelines import leaderboard as board
    from pipelines.outputs import check_new

    if errors and not out:
        raise InputError("--errors: belongs to the CSV of --out; add it")
    for path in filter(None, (out, figure)):
        check_new(path)
    table = board.read(files).select(models=models or None, signals=signals or None, channels=channels or None)
    found = board.report(table, top)
    if against:
        found["against"] = board.compare(board.improvements(table), against)
    if figure:
        board.plot(table, figure, way=way, top=top)
    if out:
        board.write(table, out, errors=errors)
    say(found, as_json, lambda: _leaderboard(found, top))


def _leaderboard(found, top):
    lines = [f"{found['models']} models, {found['pairs']} pairs of signal and channel, {found['rows']} rows", ""]
    width = max(len(row["model"]) for row in found["improvement"])
    lines += [f"{'total improvement':{width}}  minimum   median  maximum"]
    lines += [
        f"{r['model']:{width}} {r['minimum']:8.3f} {r['median']:8.3f} {r['maximum']:8.3f}"
        for r in found["improvement"][:top]
    ]
    for figure, ways in found["rankings"].items():
        lines += ["", figure]
        lines += [
            f"  {way:13}" + ", ".join(f"{r['model']} {r['value']:.4g}" for r in rows) for way, rows in ways.items()
        ]
    if found["left_out"]["improvement"]:
        lines += ["", f"Left out, for signals they lack: {', '.join(found['left_out']['improvement'])}"]
    if found["impossible"]:
        lines += ["", f"{len(found['impossible'])} rows are of no ROC curve (see --json)"]
    if "against" in found:
        a = found["against"]
        lines += [
            "",
            f"{a['agree']} of {a['models']} models agree with {a['file']}; {len(a['differ'])} differ, {len(a['only_published'])} are only there, {len(a['only_here'])} only here",
        ]
    return "\n".join(lines)
