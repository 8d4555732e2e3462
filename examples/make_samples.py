"""Make the embedded simulated samples of `pipelines/samples`, or check that these are what this makes.

    python examples/make_samples.py FOLDER [--workers 4]
    python examples/make_samples.py FOLDER --check [--events 200]

`lhco_sim_train.h5`: 20,000 QCD dijets, no labels. `lhco_sim_test.h5`: 4,000 more of them, 1,000 two-prong and 1,000
three-prong events, labelled, in random order. It takes about 8 minutes of one core, and depends on nothing but the
versions of Pythia, FastJet and NumPy. With `--check`, the first events of each kind are made again and compared bit
by bit with those in FOLDER.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from pipelines.datasets.lhco import convert
from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.features.jets import COLUMNS, UNITS
from pipelines.simulation import simulate
from pipelines.simulation.pythia import version

SEED = 2020
TRAIN = 20_000
TEST = {"lhco_qcd": 4_000, "lhco_2prong": 1_000, "lhco_3prong": 1_000}
LABEL_NAMES = {0: "background", 1: "two-prong", 2: "three-prong"}


def variables(kind: str, events: int, workers: int = 1) -> np.ndarray:
    """Simulate and cluster events of a kind: the 47 `COLUMNS`, (events, 47) float32."""
    with tempfile.TemporaryDirectory() as folder:
        raw, clustered = Path(folder) / "raw.h5", Path(folder) / "events.h5"
        simulate(kind, raw, events=events, seed=SEED, workers=workers)
        convert([raw], clustered, label_names=LABEL_NAMES, workers=workers)
        return Events.from_file(clustered).read("features")


def test_rows() -> np.ndarray:
    """Where the events of the three kinds, one after the other, are in the test sample, which mixes them."""
    return np.argsort(np.random.default_rng(SEED).permutation(sum(TEST.values())))


def make(folder: Path, workers: int) -> None:
    about = {
        "columns": COLUMNS,
        "units": UNITS,
        "mass_column": COLUMNS[-1],
        "dataset": "lhco",
        "source": (
            f"examples/make_samples.py: Pythia {version()} with a parametric detector, LHC Olympics R&D-like: QCD "
            f"dijets, and Z'(3500) -> X(500) Y(100) with two- or three-pronged decays; anti-kt R=1.0, leading jet "
            f"pT > 1200 GeV"
        ),
        "license": "CC0 1.0",
        "citation": "Simulated for this project",
    }
    made = {kind: variables(kind, size + TRAIN * (kind == "lhco_qcd"), workers) for kind, size in TEST.items()}
    train, made["lhco_qcd"] = np.split(made["lhco_qcd"], [TRAIN])
    order = np.argsort(test_rows())
    test = np.concatenate(list(made.values()))[order]
    label = np.repeat(list(LABEL_NAMES), list(TEST.values()))[order]
    Events.from_arrays(train, train[:, -1], **about).write(folder / "lhco_sim_train.h5")
    Events.from_arrays(test, test[:, -1], label=label, label_names=LABEL_NAMES, **about).write(
        folder / "lhco_sim_test.h5"
    )


def check(folder: Path, events: int) -> None:
    """Make the first events of each kind again; raises `InputError` if one differs from those in `folder`."""
    train, test = (Events.from_file(folder / f"lhco_sim_{name}.h5").read("features") for name in ("train", "test"))
    unmixed = np.split(test[test_rows()], np.cumsum(list(TEST.values()))[:-1])
    expected = {**dict(zip(TEST, unmixed)), "lhco_qcd": train}
    for kind, there in expected.items():
        size = min(events, len(there))
        wrong = np.flatnonzero((variables(kind, size) != there[:size]).any(axis=1))
        if len(wrong):
            raise InputError(
                f"{folder}: {len(wrong)} of the first {size} events of {kind} are not what Pythia {version()} gives, "
                f"the first of them event {wrong[0]}; were they made by another version?"
            )
        print(f"{kind}: the first {size} events are the same, bit by bit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="where the samples are, or shall be")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--check", action="store_true", help="compare instead of making them")
    parser.add_argument("--events", type=int, default=200, help="how many of each kind to compare")
    given = parser.parse_args()
    try:
        check(given.folder, given.events) if given.check else make(given.folder, given.workers)
    except InputError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
