"""What each model costs: `python tools/cost.py docs/models/cost.json` trains each for three epochs and scores.

Models of features have the 13,349 events of `lhco_sim_train` from 2700 to 5000 GeV, models of particles 2,000 made-up events of 39
slots, `ddp` its own spectra. Those of a window have it from 3300 to 3700 GeV. All with their defaults, but for `ae`, of all columns in batches of 256, and `cathode`, `lacathode`,
`anode` and `r_anode` with one epoch of their densities in the first. The seconds are of this machine, with what else it does.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import pipelines
import zoo

EPOCHS = 3


def events_of(name: str) -> tuple[pipelines.Events | None, str]:
    """Return the events that a model is trained on, and what they are."""
    if name == "ddp":
        return None, "generated spectra"
    if name in ("conv_vae", "gcn_vae"):
        rng = np.random.default_rng(0)
        objects = np.abs(rng.normal(100, 30, (2000, 39, 5)))
        objects[..., 2:4] = rng.normal(size=(2000, 39, 2))
        objects[..., 4] = np.repeat(np.arange(1, 8), (15, 4, 4, 4, 4, 4, 4))
        objects[rng.random((2000, 39)) < 0.7] = 0
        objects[:, 0] = [150, 120, 0.5, 1, 1]
        return pipelines.Events.from_arrays(
            None, rng.uniform(500, 3000, 2000), objects=objects, object_columns=["E", "pt", "eta", "phi", "type"]
        ), "2,000 made-up events of 39 slots"
    return pipelines.open("lhco_sim_train", (2700, 5000)), "13,349 events of the embedded sample"


def made(name: str, **given: Any) -> Any:
    """Return an untrained model with what it needs to be trained on these events; `idealised` finds its background in a file here."""
    defaults = zoo.describe(name)["hyperparameters"]
    given = {**({"batch_size": 256, "columns": ["*"]} if name == "ae" else {}), **given}
    if "window" in defaults:
        given["window"] = (3300, 3700)
    if "density_epochs" in defaults:
        given["density_epochs"] = 1
    if name == "idealised":
        given["background"] = "lhco_sim_test_background.h5"
        if not os.path.exists(given["background"]):
            pipelines.open("lhco_sim_test", (2700, 5000)).select(label=0).write(given["background"])
    return zoo.get(name, **given)


def measured(name: str) -> dict[str, Any]:
    """Return what one model costs: seconds, trained numbers, and MB of a run directory."""
    events, what = events_of(name)
    model, ends = made(name), [time.perf_counter()]

    from zoo.keras import keras

    class Clock(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            ends.append(time.perf_counter())

    closed = not any(key in zoo.describe(name)["hyperparameters"] for key in ("epochs", "cycles"))
    epochs = 1 if closed else EPOCHS
    data = [] if events is None else [events]
    model.fit(*data, epochs=epochs, verbose=0, callbacks=[Clock()])
    spans = np.diff(ends)
    epoch = float(np.median(spans[1:])) if len(spans) > 1 else float(spans[0])
    hp = zoo.describe(name)["hyperparameters"]
    number = 1 if closed else int(hp.get("cycles", hp.get("epochs", 1)))
    size = 1000
    if events is None:
        spectra = (
            np.random.default_rng(0).poisson(1000 * np.exp(-np.arange(60) / 12), (size, 60)),
            np.linspace(1000, 4000, 61),
        )
        model.significance(*spectra, width=1.5)
        start = time.perf_counter()
        model.significance(*spectra, width=1.5)
    else:
        some = events.sample(size)
        model.score(some)
        start = time.perf_counter()
        model.score(some)
    scoring = time.perf_counter() - start
    model.save_run("run")
    stored = sum(path.stat().st_size for path in Path("run").rglob("*") if path.is_file())
    return {
        "events": what,
        "parameters": int(sum(np.prod(one.shape) for one in model.trainable_weights)),
        "first": float(spans[0]), "epoch": epoch, "epochs": number,
        "total": float(spans[0] + (number - 1) * epoch), "score": 1000 * scoring, "size": stored / 1e6,
    }  # fmt: skip


def main(out: str, names: list[str]) -> None:
    """Measure models, or all of them, and write a file; what it has of others stays."""
    path = Path(out).resolve()
    known = json.loads(path.read_text(encoding="utf-8"))["models"] if path.exists() else {}
    for name in names or zoo.names():
        with tempfile.TemporaryDirectory() as folder:
            here = os.getcwd()
            os.chdir(folder)
            try:
                known[name] = measured(name)
            finally:
                os.chdir(here)
        sys.stderr.write(f"{name}: {known[name]}\n")
        path.write_text(json.dumps({"models": dict(sorted(known.items()))}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
