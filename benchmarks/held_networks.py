"""What an epoch of a trial costs: alone, inside the largest network of the space, and as a member of K trials.

    python benchmarks/held_networks.py
    python benchmarks/held_networks.py --units 64,64 --members 4 --set flow=planar

CPU seconds of an epoch of `vae` with its validation, all threads together, per trial, without XLA, on the events that
`tune --model vae` trains and judges by. "Beside zeros" multiplies with the zeros around the smaller network, as XLA needs
it; "cut" multiplies the corner alone. Members have an alpha and a learning rate each, and one shape.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

LARGEST = (128, 128, 128)  # of the default space
EPOCHS = 4  # that are measured, after one that traces


def seconds(model, training, validation) -> float:
    """Return the CPU seconds of an epoch of a model that has met its data."""
    options = {"verbose": 0, "jit_compile": False, "finish": False}
    model.fit(training, validation, epochs=1, **options)
    started = time.process_time()
    model.fit(training, validation, epochs=EPOCHS, **options)
    found = (time.process_time() - started) / EPOCHS
    model.release()
    return found


def held(units, fixed, training, cuts):
    """Return the largest model, which holds one of some widths."""
    import zoo
    from zoo.padded_networks import Larger

    large, small = (zoo.get("vae", units=widths, **fixed) for widths in (LARGEST, units))
    for model in (large, small):
        model.adapt(training)
    holder = Larger(large, {"optimizer": ["adadelta", "adam"]}, cuts)
    holder.hold(small)
    return holder.model


def plain(units, fixed, training, members=1):
    """Return a model of its own, or of members with runtime hyperparameters of their own."""
    import numpy as np

    import zoo

    rng, each = np.random.default_rng(0), {}
    if members > 1:
        each = {"alpha": rng.uniform(1e3, 1e4, members), "learning_rate": rng.uniform(3e-4, 1e-2, members)}
    model = zoo.get("vae", units=units, members=members, **{**fixed, **each})
    model.adapt(training)
    return model


@click.command()
@click.option("--units", "widths", multiple=True, default=("32,32", "128,128,128"), show_default=True)
@click.option("--members", multiple=True, type=int, default=(4, 9), show_default=True)
@click.option("--set", "settings", multiple=True, help="NAME=VALUE; may be repeated.")
def main(widths, members, settings):
    """Print the table."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import pipelines
    from benchmarks.tuning import table
    from tuning.session import VALIDATION_SHARE
    from zoo.cli.terminal import setting

    parts = pipelines.open("lhco_sim_train").split(1.0 - VALIDATION_SHARE, 0)
    training, validation = (part.without_labels().in_memory() for part in parts)
    fixed = {"decoder_epochs": 0, "latent_dim": 2, "optimizer": "adam", "seed": 0, **dict(map(setting, settings))}
    rows = []
    for text in widths:
        units = tuple(map(int, text.split(",")))
        found = [seconds(plain(units, fixed, training), training, validation)]
        found += [seconds(held(units, fixed, training, cuts), training, validation) for cuts in (True, False)]
        found += [seconds(plain(units, fixed, training, k), training, validation) / k for k in members]
        rows.append([text, *(f"{one:.2f}" for one in found)])
    print(table(["units", "alone", "cut", "beside zeros", *(f"{k} members" for k in members)], rows))


if __name__ == "__main__":
    main()
