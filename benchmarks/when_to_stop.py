"""When to stop a training whose loss goes on falling: what says so without labels, and what that is worth.

    python benchmarks/when_to_stop.py train gan_ae --data train.h5 --states states --members 3 --epochs 16 --preset lhco2020
"""

from __future__ import annotations

import json
from pathlib import Path

import click

import pipelines
import zoo
from zoo.cli.terminal import quiet_zoo
from zoo.keras import keras
from zoo.settings import parse_setting
from zoo.state import save_state


class States(keras.callbacks.Callback):
    """Writes the model's state after every epoch, or every so many."""

    def __init__(self, folder: Path, every: int):
        super().__init__()
        self.folder, self.every = folder, every

    def on_epoch_end(self, epoch, logs=None):
        """Write the state of the epoch that has ended."""
        if (epoch + 1) % self.every == 0:
            save_state(self.model, self.folder / f"{epoch + 1:04d}.h5", whole=False)


@click.group()
def main() -> None:
    """Train and keep the state of every epoch; or judge the epochs that are kept."""
    quiet_zoo()


@main.command()
@click.argument("model")
@click.option("--data", required=True, help="Events to train on; labels are not read.")
@click.option("--states", required=True, type=click.Path(path_type=Path), help="New folder of the states.")
@click.option("--members", default=3, show_default=True, help="Trained as one program: that many seeds.")
@click.option("--epochs", required=True, type=int)
@click.option("--every", default=1, show_default=True, help="Epochs between two states.")
@click.option("--preset")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE")
def train(model, data, states, members, epochs, every, preset, settings) -> None:
    """Train, and keep the state after every epoch."""
    made = zoo.get(model, preset, **{"members": members, **dict(map(parse_setting, settings))})
    states.mkdir(parents=True)
    made.fit(pipelines.open(data).without_labels(), epochs=epochs, callbacks=[States(states, every)], verbose=2)
    made.save_run(states / "run")
    config = {"model": model, "hyperparameters": made.get_config(), "rows": made.member_rows}
    (states / "training.json").write_text(json.dumps(config, default=list))


if __name__ == "__main__":
    main()
