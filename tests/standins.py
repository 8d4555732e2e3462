"""What pages of the documentation name and a reader has of his own, made small: files, runs, and names in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from published import write_published
from snippets import ROOT

import pipelines
import zoo
from pipelines.events.mixing import mix

RANGE = (2700, 5000)
FEATURES = ["mass_1", "mass_2", "tau21_1", "tau21_2"]
EVENTS = ("events.h5", "train.h5", "judges.h5", "other.h5")
QUICK = """latent_dim: 1
units: {fix: [32, 32]}
scaling: standard
flow: none
optimizer: adam
learning_rate: {min: 1e-4, max: 1e-2}
"""
CHALLENGE = "Signal,Model,Chan,AUC,1e-2,1e-3,1e-4\nstop,mine,1,0.87,0.21,0.10,0.05\nstop,yours,1,0.80,0.20,0.08,0.04\n"


def prepare(page: str, folder: Path) -> None:
    """Write what a page expects into a folder; folders of the repository are there by links, but docs, into which pages write."""
    for name in ("tests", "examples", "benchmarks", "pipelines"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "docs" / "figures").mkdir(parents=True)
    whole, test = pipelines.open("lhco_sim_train"), pipelines.open("lhco_sim_test", RANGE)
    train = whole.select(mass_range=RANGE).sample(4000, seed=1)
    particles = page in ("docs/models/conv_vae.md", "docs/models/gcn_vae.md")
    for name in EVENTS:
        if name == "events.h5" and particles:
            _particles().write(folder / name)
        elif name == "other.h5" and page == "docs/hunt.md":
            test.write(folder / name)  # its signal is split off there
        else:
            train.write(folder / name)
    for name in ("data.h5", "sample.h5"):
        _many(whole).write(folder / name)
    for name in ("labelled.h5", "test.h5"):
        test.sample(2000, seed=1).write(folder / name)
    for name in ("background.h5", "qcd.h5", "template.h5"):
        test.select(label=0).write(folder / name)
    for name in ("signal.h5", "zprime.h5", "two_prong.h5"):
        test.select(label=1).write(folder / name)
    mix(test.select(label=0), test.select(label=1), 0.02).write(folder / "mixed.h5")
    _write_tables(folder, train, test)
    _write_spectra(folder)
    _write_ntuple(folder, train)
    write_published((ROOT / page).read_text(encoding="utf-8"), folder)
    if page == "README.md":
        (folder / "scores.csv").write_text(CHALLENGE)
        zoo.train("ddp", None, folder / "ddp_run", preset="small", epochs=1, verbose=0, jit_compile=False)
    if page == "docs/export.md":
        zoo.hunt("pca", folder / "events.h5", folder / "search", folds=2, percentiles=[80], pseudo_experiments=20)
    (folder / "quick.yaml").write_text(QUICK)
    (folder / "benchmark.yaml").symlink_to(ROOT / "examples" / "benchmark.yaml")
    sample, columns = (folder / "chan2b.h5", "MET,n_*,pt_*") if page == "docs/leaderboard.md" else (train, None)
    hyperparameters = {} if columns is None else {"columns": tuple(columns.split(","))}
    zoo.train("pca", sample, folder / "RUN", hyperparameters=hyperparameters, verbose=0, jit_compile=False)
    (folder / "run").symlink_to(folder / "RUN")


def _many(events: pipelines.Events) -> pipelines.Events:
    """Return 60,000 events, those of a sample again and again, each a little different."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(events), 60_000)
    mass = events.mass[rows] * rng.normal(1, 0.02, len(rows))
    about = {"columns": events.columns, "mass_column": events.about.mass_column, "units": events.about.units}
    features = events.read("features")[rows] * rng.normal(1, 0.01, (len(rows), 1)).astype(np.float32)
    return pipelines.Events.from_arrays(features, mass, **about)


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


def _particles() -> pipelines.Events:
    """Return 300 made-up events with particles, as of the Dark Machines challenge."""
    rng = np.random.default_rng(0)
    objects = np.abs(rng.normal(100, 30, (300, 39, 5)))
    objects[..., 4] = np.repeat(np.arange(1, 8), (15, 4, 4, 4, 4, 4, 4))
    objects[rng.random((300, 39)) < 0.7] = 0
    objects[:, 0] = [150, 120, 0.5, 1, 1]
    met, ht = rng.exponential(200, 300), rng.exponential(800, 300)
    return pipelines.Events.from_arrays(
        np.stack([met, ht], axis=1), met + ht, ["MET", "HT"], objects=objects, weight=np.ones(300),
        object_columns=["E", "pt", "eta", "phi", "type"], mass_column="meff",
    )  # fmt: skip


def _write_spectra(folder: Path) -> None:
    import h5py
    import uproot

    (folder / "spectrum.csv").write_bytes((ROOT / "tests/data/atlas_139fb_dijet.csv").read_bytes())
    counts, edges = (
        np.random.default_rng(0).poisson(1000 * np.exp(-np.arange(60) / 12), (5, 60)),
        np.linspace(500, 3000, 61),
    )
    with h5py.File(folder / "spectra.h5", "w") as file:
        file["counts"], file["edges"] = counts, edges
    with uproot.recreate(folder / "spectra.root") as file:
        for number, one in enumerate(counts):
            file[f"SR{number}/m_jj"] = (one.astype(float), edges)
    with uproot.recreate(folder / "data.root") as file:
        file["h_mjj"] = (counts[0].astype(float), edges)
    rows = zip(edges[:-1], edges[1:], 1000 * np.exp(-np.arange(60) / 12))
    (folder / "qcd.csv").write_text("low,high,background\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows))


def _write_ntuple(folder: Path, train: pipelines.Events) -> None:
    """Write a ROOT file with a tree of the columns of events, and one with lists of jets."""
    import awkward as ak
    import uproot

    few = _many(train).sample(30_000)  # as many as a hunt at the 99th percentile asks for
    with uproot.recreate(
        folder / "ntuple.root"
    ) as file:  # trees by name: what is assigned is an RNTuple in newer Uproot
        pt = ak.Array([[500.0 + i % 7, 400.0] for i in range(len(few))])
        jets = {"Jet": ak.zip({"pt": pt, "eta": pt / 1000}), "mjj": few.mass, "genWeight": np.ones(len(few))}
        for name, tree in {
            "events": {**dict(zip(few.columns, few.read("features").T)), "m_jj": few.mass}, "Events": jets
        }.items():  # fmt: skip
            types = {key: ak.type(one).content if isinstance(one, ak.Array) else one.dtype for key, one in tree.items()}
            file.mktree(name, types)
            file[name].extend(tree)


def names() -> dict[str, object]:
    """Return names in Python that pages use and do not make."""
    import pandas

    import pipelines.metrics
    import tuning

    train = pipelines.open("lhco_sim_train", RANGE).sample(2000, seed=2)
    x = train.read("features", FEATURES)
    return {
        "frame": pandas.DataFrame(x, columns=FEATURES).assign(mjj=train.mass),
        "x": train.read("features", [name for name in train.columns if name != "mj1j2"]), "np": np, "events": train, "scores": np.random.default_rng(0).normal(size=60_000),
        "background": pipelines.open("lhco_sim_test", RANGE).select(label=0), "zoo": zoo, "pipelines": pipelines, "tuning": tuning,
    }  # fmt: skip
