"""`zoo export`: a trained run as what others serve."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli.hunt import CUT
from zoo.cli.terminal import JSON, Finite, quiet_zoo, say, stdout_to_stderr


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder; of ONNX a new file *.onnx.")
@click.option("--format", "format_", type=click.Choice(["savedmodel", "keras", "onnx"]), default="savedmodel", show_default=True,
              help="What needs TensorFlow alone, tf_keras alone, or onnxruntime alone.")  # fmt: skip
@click.option("--percentile", "percentiles", type=Finite(), multiple=True,
              help="Put the cut value on the score inside, 99 of what selects one percent; may be repeated.")  # fmt: skip
@click.option("--data", multiple=True, help="Events file or sample by which the cut values are; may be repeated.")
@CUT
@click.option("--mass-range", type=Finite(), nargs=2, metavar="LOW HIGH",
              help="Of these events, GeV; by default that of the run's training.")  # fmt: skip
@click.option("--ignore-weights", is_flag=True, help="Count all of these events alike.")
@JSON
def export(run, out, format_, percentiles, data, cut, mass_range, ignore_weights, as_json):
    """Export a trained RUN, with what is needed to serve it. `zoo show OUT` tells what is in it."""
    from pipelines.outputs import check_new
    from zoo.serving.artefact import KINDS

    check_new(out)  # before TensorFlow is imported
    zoo = quiet_zoo()
    with stdout_to_stderr():
        about = zoo.export(
            run, out, format=format_, percentiles=percentiles or None, events=list(data) or None, cut=cut,
            mass_range=mass_range, ignore_weights=ignore_weights,
        )  # fmt: skip
    say({"out": str(out), **about}, as_json, lambda: f"{out}: {KINDS[about['kind']]}; serving_default {about['takes']}")
