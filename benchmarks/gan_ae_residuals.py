"""Which features make GAN-AE's score, and which of their residuals separate: what limits the AUC.

    python benchmarks/gan_ae_residuals.py RUN --test test.h5

For every feature: its share of the background's mean squared residual, in scaled units, and the AUC of its squared
residual alone. Then the AUC of `dist`, and of the same distance with every residual divided by its background mean.
"""

from __future__ import annotations

import click
import numpy as np
from when_to_stop import areas_of

import pipelines
import zoo


@click.command()
@click.argument("run")
@click.option("--test", "test_file", required=True, help="Events with labels.")
@click.option("--events", default=40_000, show_default=True, help="How many of them, at random.")
def main(run, test_file, events):
    """Print the table."""
    model, test = zoo.load(run), pipelines.open(test_file)
    test = test.sample(min(events, len(test)))
    label, x = test.label, test.read("features", model.resolved_columns)
    reconstruction = model.results(test, ["reconstructed"])["reconstructed"]
    squared = (model.scaler(x).numpy() - model.scaler(reconstruction).numpy()) ** 2
    mean = squared[label == 0].mean(axis=0)
    share = mean / mean.sum()
    click.echo("feature      share  AUC 1  AUC 2")
    for i in np.argsort(-share):
        one, two = areas_of(squared[:, i], label)
        click.echo(f"{model.resolved_columns[i]:10} {share[i]:7.3f} {one:6.3f} {two:6.3f}")
    click.echo(f"ten largest shares together: {np.sort(share)[-10:].sum():.2f}")
    for name, score in (("dist", squared.mean(axis=1)), ("residuals by their mean", (squared / mean).mean(axis=1))):
        click.echo(f"{name}: AUC {areas_of(score, label)[0]:.3f} and {areas_of(score, label)[1]:.3f}")


if __name__ == "__main__":
    main()
