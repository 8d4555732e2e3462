"""How fast ATLAS Open Data become events, against reading the same branches and against a loop over events.

    python benchmarks/atlas.py [FILE] [--entries 400000] [--rounds 3]

FILE is one of the release, such as mc_410000.ttbar_lep.2lep.root; without one, entries are made up, which are smaller
than real ones (no further branches) and compressed less well. All rows take turns, round by round, in one process and
one thread: compare within a run, never across runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import mt2
import numpy as np
import uproot

from pipelines.datasets import atlas
from pipelines.features.leptons import ELECTRON_MASS, MUON_MASS

LOOP = 20_000  # entries of the file that the loop over events gets, which is slow


@dataclasses.dataclass(frozen=True)
class Row:
    """One way to go through a file: entries it went through, and seconds in every round."""

    name: str
    entries: int
    seconds: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Entries per second, of the median round."""
        return self.entries / statistics.median(self.seconds)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, help="file of the release (default: entries made up)")
    parser.add_argument("--entries", type=int, default=400_000, help="how many to make up")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.entries < 1 or given.rounds < 1:
        parser.error("expected --entries >= 1 and --rounds >= 1")
    with tempfile.TemporaryDirectory() as folder:
        path = given.file or made_file(Path(folder), given.entries)
        rows = measure(path, given.rounds)
    print(f"{path.name}, {os.cpu_count()} cores, uproot {uproot.__version__}, median of {given.rounds} rounds")
    for row in rows:
        print(f"{row.name:<36} {row.rate / 1000:10,.1f} thousand entries / s  {row.rate / rows[0].rate:8.4f}")


def measure(path: str | os.PathLike, rounds: int = 3) -> list[Row]:
    """Return the rows: reading alone, conversion with all 33 features, and the loop over some of the entries."""
    path = Path(path)
    ways: dict[str, Callable[[], int]] = {
        "uproot, the same branches": lambda: read(path),
        "atlas.convert, 33 features": lambda: convert(path),
        "loop over events, 33 features": lambda: loop(path),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    entries = {name: way() for name, way in ways.items()}  # to warm up: imports, and the file in the system's cache
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return [Row(name, entries[name], tuple(seconds[name])) for name in ways]


def branches(path: Path) -> tuple[str, ...]:
    """Return what a conversion reads of a file."""
    return atlas.needed_branches(atlas.Sample.of(path).simulated)


def read(path: Path) -> int:
    """Read with uproot and do nothing with it."""
    with uproot.open(path, array_cache=None) as file:
        steps = file[atlas.TREE].iterate(branches(path), step_size=100_000)
        return sum(len(step) for step in steps)


def convert(path: Path) -> int:
    """Make an events file of all that is selected."""
    with tempfile.TemporaryDirectory() as folder:
        return atlas.convert([path], Path(folder) / "events.h5").counts["entries"]


def loop(path: Path) -> int:
    """Select and compute in plain Python, one event at a time, and keep the rows in memory."""
    with uproot.open(path, array_cache=None) as file:
        entries = file[atlas.TREE].arrays(branches(path), entry_stop=LOOP).to_list()
    rows = [row for row in map(features, entries) if row is not None]
    return len(entries) if rows else 0


def features(entry: dict) -> list[float] | None:
    """Return the 33 features and the weight of one event, or None if it has not exactly two good leptons."""
    leptons = [
        {name[4:]: entry[name][i] for name in entry if name.startswith("lep_")} for i in range(len(entry["lep_pt"]))
    ]
    good = [lepton for lepton in leptons if max(lepton["etcone20"], lepton["ptcone30"]) / lepton["pt"] < 0.15]
    if len(good) != 2:
        return None
    good.sort(key=lambda lepton: -lepton["pt"])
    jets = [(pt / 1000, tag) for pt, tag in zip(entry["jet_pt"], entry["jet_MV2c10"], strict=True)]
    row = [sum(pt > cut for pt, _ in jets) for cut in (20, 60)]
    row += [sum(pt > 20 and tag > cut for pt, tag in jets) for cut in atlas.WORKING_POINTS.values()]
    row += [good[0]["charge"] != good[1]["charge"], good[0]["type"] == good[1]["type"]]
    momenta = [four_momentum(lepton) for lepton in good]
    energy, x, y, z = map(sum, zip(*momenta, strict=True))
    met, met_phi = entry["met_et"] / 1000, entry["met_phi"]
    masses = [ELECTRON_MASS if lepton["type"] == 11 else MUON_MASS for lepton in good]
    visible = (masses[0], *momenta[0][1:3], masses[1], *momenta[1][1:3])
    row += [math.sqrt(max(0, energy**2 - x**2 - y**2 - z**2))]
    row += [mt2.mt2(*visible, met * math.cos(met_phi), met * math.sin(met_phi), 0, 0), met, met_phi]
    for lepton in good:
        row += [lepton["type"], lepton["pt"] / 1000, lepton["eta"], lepton["phi"], lepton["E"] / 1000]
        row += [lepton["ptcone30"] / 1000, lepton["etcone20"] / 1000]
        row += [lepton["trackd0pvunbiased"], lepton["isTightID"], lepton["z0"]]
    row += [abs(math.tanh((good[0]["eta"] - good[1]["eta"]) / 2))]
    if "mcWeight" in entry:
        weight = atlas.LUMINOSITY * 1000 * entry["XSection"] * entry["mcWeight"] / entry["SumWeights"]
        row += [weight * math.prod(entry[f"scaleFactor_{name}"] for name in atlas.SCALE_FACTORS)]
    return row


def four_momentum(lepton: dict) -> tuple[float, float, float, float]:
    """Return E, p_x, p_y, p_z in GeV."""
    pt = lepton["pt"] / 1000
    return lepton["E"] / 1000, pt * math.cos(lepton["phi"]), pt * math.sin(lepton["phi"]), pt * math.sinh(lepton["eta"])


def made_file(folder: Path, size: int) -> Path:
    """Write a file as of the release with two or three leptons and some jets an entry, of no physics."""
    rng = np.random.default_rng(0)
    counts, jets = rng.integers(2, 4, size), rng.integers(0, 6, size)
    total = counts.sum()
    pt, eta = 7000 + rng.exponential(40_000, total), rng.uniform(-2.5, 2.5, total)
    lep = {
        "type": rng.choice([11, 13], total).astype("u4"),
        "charge": rng.choice([-1, 1], total).astype("i4"),
        "isTightID": rng.random(total) < 0.7,
        "ptcone30": pt * rng.exponential(0.05, total) * rng.integers(0, 2, total),
        "etcone20": pt * rng.normal(0.02, 0.08, total),
        "pt": pt,
        "eta": eta,
        "phi": rng.uniform(-np.pi, np.pi, total),
        "E": pt * np.cosh(eta),
        **{name: rng.normal(0, 0.1, total) for name in ("trackd0pvunbiased", "z0")},
    }
    jet = {"pt": 20_000 + rng.exponential(30_000, jets.sum()), "MV2c10": rng.uniform(-1, 1, jets.sum())}
    tree = {f"scaleFactor_{name}": rng.uniform(0.8, 1.1, size) for name in atlas.SCALE_FACTORS}
    tree |= {"mcWeight": rng.uniform(10, 20, size), "met_et": rng.exponential(40_000, size)}
    tree |= {
        "met_phi": rng.uniform(-np.pi, np.pi, size),
        "XSection": np.full(size, 452.7),
        "SumWeights": np.full(size, 5e7),
    }
    tree = {name: single(values) for name, values in tree.items()} | {"channelNumber": np.full(size, 410000, "i4")}
    for name, objects, of in (("lep", lep, counts), ("jet", jet, jets)):
        tree[name] = ak.zip({key: ak.unflatten(single(values), of) for key, values in objects.items()})
    path = folder / "mc_410000.ttbar_lep.2lep.root"
    with uproot.recreate(path) as file:
        types = {name: ak.type(v).content if isinstance(v, ak.Array) else v.dtype for name, v in tree.items()}
        file.mktree(atlas.TREE, types)
        for start in range(0, size, 10_000):
            file[atlas.TREE].extend({name: values[start : start + 10_000] for name, values in tree.items()})
    return path


def single(values: np.ndarray) -> np.ndarray:
    """Return floats in single precision, as the release has them, and everything else as it is."""
    return values.astype(np.float32) if values.dtype == np.float64 else values


if __name__ == "__main__":
    main()
