"""What pages of the documentation name and a reader has of his own, made small: files, runs, and names in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from snippets import ROOT

import pipelines
import zoo
from pipelines.events.mixing import mix

RANGE = (2700, 5000)
FEATURES = ["mass_1", "mass_2", "tau21_1", "tau21_2"]
EVENTS = ("events.h5", "train.h5", "sample.h5", "judges.h5", "other.h5")
QUICK = """latent_dim: 1
units: {fix: [32, 32]}
scaling: standard
flow: none
optimizer: adam
learning_rate: {min: 1e-4, max: 1e-2}
"""
CHALLENGE = "Signal,Model,Chan,AUC,1e-2,1e-3,1e-4\nstop,mine,1,0.87,0.21,0.10,0.05\nstop,yours,1,0.80,0.20,0.08,0.04\n"


def prepare(folder: Path) -> None:
    """Write what pages expect into a folder; folders of the repository are there by links."""
    for name in ("tests", "examples", "benchmarks", "pipelines", "docs"):
        (folder / name).symlink_to(ROOT / name)
    whole, test = pipelines.open("lhco_sim_train"), pipelines.open("lhco_sim_test", RANGE)
    train = whole.select(mass_range=RANGE).sample(4000, seed=1)
    for name in EVENTS:
        train.write(folder / name)
    _many(whole).write(folder / "data.h5")
    for name in ("labelled.h5", "test.h5"):
        test.sample(2000, seed=1).write(folder / name)
    for name in ("background.h5", "qcd.h5"):
        test.select(label=0).write(folder / name)
    for name in ("signal.h5", "zprime.h5"):
        test.select(label=1).write(folder / name)
    mix(test.select(label=0), test.select(label=1), 0.02).write(folder / "mixed.h5")
    _write_tables(folder, train, test)
    _write_spectra(folder)
    (folder / "quick.yaml").write_text(QUICK)
    (folder / "benchmark.yaml").symlink_to(ROOT / "examples" / "benchmark.yaml")
    for name in ("DAGMM.csv", "VAE.csv", "mine.csv"):
        (folder / name).write_text(CHALLENGE.replace("mine", name))
    zoo.train("pca", train, folder / "RUN", verbose=0, jit_compile=False)
    (folder / "run").symlink_to(folder / "RUN")


def _many(events: pipelines.Events) -> pipelines.Events:
    """Return 60,000 events, those of a sample again and again with masses that are a little different."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(events), 60_000)
    mass = events.mass[rows] * rng.normal(1, 0.02, len(rows))
    about = {"columns": events.columns, "mass_column": events.about.mass_column, "units": events.about.units}
    return pipelines.Events.from_arrays(events.read("features")[rows], mass, **about)


def _write_tables(folder: Path, train: pipelines.Events, test: pipelines.Events) -> None:
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    def table(events, **more):
        return pyarrow.table({**dict(zip(train.columns, events.read("features").T)), **more})

    for name in ("jets.parquet", "new.parquet", "other.parquet"):
        pyarrow.parquet.write_table(table(train, mjj=train.mass), folder / name)
    for name in ("jets.csv", "new.csv"):
        pyarrow.csv.write_csv(table(train, mjj=train.mass), folder / name)
    truth = {"truth": (test.label > 0).astype(np.int8), "w": np.ones(len(test), np.float32)}
    pyarrow.csv.write_csv(table(test, mjj=test.mass, **truth), folder / "mc.csv")
    scores = np.random.default_rng(0).normal(size=60_000)
    (folder / "scores.csv").write_text("\n".join(map(str, scores)) + "\n")


def _write_spectra(folder: Path) -> None:
    import h5py

    (folder / "spectrum.csv").write_bytes((ROOT / "tests/data/atlas_139fb_dijet.csv").read_bytes())
    counts = np.random.default_rng(0).poisson(1000 * np.exp(-np.arange(60) / 12), (5, 60))
    with h5py.File(folder / "spectra.h5", "w") as file:
        file["counts"], file["edges"] = counts, np.linspace(1000, 4000, 61)


def names() -> dict[str, object]:
    """Return names in Python that pages use and do not make."""
    import pandas

    train = pipelines.open("lhco_sim_train", RANGE).sample(2000, seed=2)
    x = train.read("features", FEATURES)
    return {"frame": pandas.DataFrame(x, columns=FEATURES).assign(mjj=train.mass), "x": x, "np": np, "events": train}
