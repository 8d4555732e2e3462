"""`zoo explain`: why the most anomalous events are anomalous."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli.reading import DATA_HELP, reads_data
from zoo.cli.terminal import JSON, MASS_RANGE, SEED, Command, Finite, progress, quiet_zoo, say, stdout_to_stderr


@click.command(cls=Command)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", required=True, multiple=True, help=DATA_HELP)
@reads_data("data", without=["label"])
@click.option("--score-kind", "--kind", "kind", help="Score kind; the model's default otherwise.")
@click.option("--method", type=click.Choice(["auto", "residuals", "gradients", "permutation"]), default="auto", show_default=True,
              help="Shares of a reconstruction error, integrated gradients, or values of other events.")  # fmt: skip
@click.option(
    "--percentile", type=Finite(), default=99.0, show_default=True, help="Of the score: 99 explains one percent."
)
@click.option(
    "--tail",
    "--tails",
    "tail",
    type=click.Choice(["upper", "lower"]),
    default="upper",
    show_default=True,
    help="Which end of the score.",
)
@click.option(
    "--row", "rows", type=click.IntRange(min=0), multiple=True, help="Explain this event instead; may be repeated."
)
@click.option(
    "--most", type=click.IntRange(min=1), default=1000, show_default=True, help="Events that are explained at most."
)
@click.option("--repeats", type=click.IntRange(min=1), default=8, show_default=True, help="Draws of permutation.")
@MASS_RANGE
@click.option(
    "--out", type=click.Path(path_type=Path), help="New .csv, .h5 or .json with the contributions to each event."
)
@click.option("--plot", "figure", type=click.Path(path_type=Path), help="New PNG of the mean contributions.")
@SEED
@JSON
def explain(run, data, rows, out, figure, as_json, conversion, converting, **options):
    """Say what each input contributes to scores. Explained are the most anomalous events of a RUN."""
    from pipelines.outputs import check_new

    for path in filter(None, (out, figure)):
        check_new(path)
    zoo = quiet_zoo()
    from zoo.evaluation.explanation import check_suffix

    if out:
        check_suffix(out)
    with stdout_to_stderr(), progress("scoring and explaining"):
        found = zoo.explain(run, data, rows=rows or None, **conversion, **converting.told, **options)
    if figure:
        found.plot(figure)
    if out:
        found.write(out)
    say(found.to_dict(), as_json, lambda: str(found))
