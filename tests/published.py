"""Small made-up files in the layouts of published ones, for pages of the documentation that name these."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

import pipelines
from pipelines.simulation import simulate

PUBLISHED = "published"  # folder of downloads, in that of a page
MODELS = (
    "AE", "ALAD", "CNN_BVAE", "CNN_VAE", "Combined", "ConvVAE_and_Flows", "DAGMM", "DeepSVDD", "DeepSetVAE", "Flow", "KDE",
    "MethodsInLatentSpaceOfVAE", "VAE",
)  # fmt: skip
SIGNALS = (("stlp_st1000", "2b"), ("chacha_cha600_neut200", "2b"))
MC = (
    "mc_361106.Zee.2lep.root", "mc_361107.Zmumu.2lep.root", "mc_410000.ttbar_lep.2lep.root", "mc_301215.ZPrime2000_ee.2lep.root"
)  # fmt: skip


def write_published(text: str, folder: Path) -> None:
    """Write what a page names of published files."""
    for name, write in FILES.items():
        if name in text:
            write(folder / name)


def _dark_machines(path: Path) -> None:
    """Write 3,000 events of random objects, with enough energy for the cuts of the channels."""
    _lines(path, ["Zp2000_ll"] if path.name.startswith("signal") else ["ttbar", "njets"])


def _lines(path: Path, processes: list[str]) -> None:
    rng = np.random.default_rng(7)
    lines = []
    for number in range(3000):
        objects = []
        for name in ["m-", "e-", *rng.choice(["j", "b", "m+", "m-", "e+", "e-", "g"], 6, p=[0.5, 0.2, *[0.06] * 5])]:
            pt, eta = 60_000 + rng.exponential(200_000), rng.uniform(-2, 2)
            objects.append(f"{name},{pt * np.cosh(eta):.6g},{pt:.6g},{eta:.6g},{rng.uniform(-np.pi, np.pi):.6g}")
        head = f"{number};{rng.choice(processes)};1;{300_000 + rng.exponential(300_000):.6g};{rng.uniform(-np.pi, np.pi):.6g}"
        lines.append(";".join([head, *objects]))
    whole = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(whole.encode()) if path.suffix == ".gz" else whole.encode())


def _channel(path: Path) -> None:
    """Write converted events of channel 2b, with two of the challenge's signals as labels."""
    from pipelines.datasets import darkmachines

    raw = path.with_suffix(".csv")
    _lines(raw, ["ttbar", "njets", "stlp_st1000", "chacha_cha600_neut200"])
    darkmachines.convert(raw, path, channel="2b")


def _atlas(names: tuple[str, ...]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        from test_atlas import written

        from pipelines.datasets.atlas_samples import Sample

        for seed, name in enumerate(names):
            written(path.with_name(name), Sample.of(name).dsid, 4000, seed, "mini", 1000, lambda branches: None)

    return write


def _atlas_events(path: Path) -> None:
    from pipelines.datasets import atlas

    _atlas(MC)(path)
    atlas.convert([path.with_name(name) for name in MC], path)


def _lhco_features(path: Path) -> None:
    from test_lhco_features import events, mixed

    mixed(path, events(2000))


def _cathode(path: Path) -> None:
    from test_cathode_arrays import rows, saved

    values = rows(2000, seed=len(path.name))
    if path.name.startswith("outer"):  # masses in TeV, beside the window of the others
        values[:, 0] += np.where(values[:, 0] < 3.5, -0.4, 0.4)
    if path.name == "innerdata_extrasig.npy":  # signal alone, that of the events that judge too
        judging = rows(2000, seed=len("separated_test.npy"))
        values[:, 5] = 1
        values = np.concatenate([values, judging[judging[:, 5] == 1]])
    saved(path.parent, values, path.name)


def _arrays(path: Path) -> None:
    path.mkdir()
    for name in ("innerdata_train.npy", "innerdata_test.npy", "innerdata_extrasig.npy", "separated_test.npy"):
        _cathode(path / name)


def _labelled(path: Path) -> None:
    pipelines.open("lhco_sim_test").write(path)


def _raw(path: Path) -> None:
    simulate("lhco_2prong", path, events=60)


def _box(path: Path) -> None:
    from pipelines.datasets import download

    raw = path.with_suffix(".h5")
    simulate("lhco_blackbox", raw, events=60)
    download.adopt("lhco_bb1", raw, path.parent / PUBLISHED)
    download.adopt("lhco_bb1_key", raw.with_suffix(".masterkey"), path.parent / PUBLISHED)


def _features(path: Path) -> None:
    events = pipelines.open("lhco_sim_test")
    with h5py.File(path, "w") as file:
        file["features"], file["label"] = events.read("features"), events.label
        file.attrs["columns"] = list(events.columns)


def _challenge(path: Path) -> None:
    """Write the score files of a challenge with 13 models, in a folder `scores` too, and a summary of their improvements."""
    rng = np.random.default_rng(1)
    (path.parent / "scores").mkdir(exist_ok=True)
    summary = ["Model,MinTotalImprovement,MedianTotalImprovement,MaxTotalImprovement"]
    for name in MODELS:
        rows, best = ["Signal,Model,Chan,AUC,1e-2,1e-3,1e-4"], []
        for signal, channel in SIGNALS:
            e2, e3, e4 = np.sort(rng.uniform(0.05, 0.4, 3))[::-1].round(2)
            rows.append(f"{signal},{name}_1,{channel},0.9,{e2},{e3},{e4}")
            best.append(max(e2 / 1e-2**0.5, e3 / 1e-3**0.5, e4 / 1e-4**0.5))
        summary.append(f"{name}_1,{min(best)},{np.median(best)},{max(best)}")
        for file in (path.with_name(f"{name}.csv"), path.parent / "scores" / f"{name}.csv"):
            file.write_text("\n".join(rows) + "\n")
    path.write_text("\n".join(summary) + "\n")


FILES: dict[str, Callable[[Path], None]] = {
    "background_chan1.csv": _dark_machines,
    "background_chan1.csv.gz": _dark_machines,
    "background_chan1_7.79.csv.gz": _dark_machines,
    "background_chan2b_7.8.csv.gz": _dark_machines,
    "background.csv": _dark_machines,
    "signal.csv": _dark_machines,
    "chan2b.h5": _channel,
    "data_*.2lep.root": _atlas(("data_A.2lep.root", "data_B.2lep.root")),
    "mc_*.root": _atlas(MC),
    "sm.h5": _atlas_events,
    "events_anomalydetection_v2.features.h5": _lhco_features,
    "innerdata_train.npy": _cathode,
    "innerdata_test.npy": _cathode,
    "innerdata_extrasig.npy": _cathode,
    "outerdata_train.npy": _cathode,
    "separated_test.npy": _cathode,
    "lhco_cathode": _arrays,
    "rnd.h5": _labelled,
    "raw.h5": _raw,
    "lhco_bb1": _box,
    "sim_rnd_features.h5": _features,
    "DarkMachinesUnsupervisedChallenge_TotalImprovements.csv": _challenge,
}
