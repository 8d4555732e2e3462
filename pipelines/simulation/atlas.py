"""ATLAS-like samples: two-lepton events in the layout of the 13 TeV Open Data, tree `mini` of ROOT files, in MeV.

A sample is a folder with a file for each process, named as in the release, because readers know a process by the
name of its file (`mc_<DSID>.<name>.2lep.root`; ATL-OREACH-PUB-2020-001). Events have at least two electrons or muons above 25 GeV.

The physics is leading order with parton showers: Pythia 8 at 13 TeV without multiple parton interactions, and the
detector of `pipelines.simulation.objects`. An event stands for
luminosity * `XSection` * `mcWeight` / `SumWeights` events, all scale factors being 1.

Branches are those of the release for events, leptons, jets and photons; not those for taus, large-R jets and
systematic uncertainties. What follows from a formula of its own here is `jet_MV2c10`
(`pipelines.simulation.objects.mv2c10`), `lep_isTightID` (`TIGHT`) and the triggers (`TRIGGER`). As in the release,
`lep_tracksigd0pvunbiased` is the uncertainty of d0, not its significance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipelines.errors import Unfinished
from pipelines.jobs.chunks import Outcome, in_chunks
from pipelines.outputs import new_directory
from pipelines.simulation import objects, processes, pythia
from pipelines.simulation.kinds import Kind, Option, Request
from pipelines.simulation.processes import ENERGY, Process

ACCEPTANCE = objects.Acceptance(
    jet=(20.0, 2.5),
    electron=(10.0, 2.47),
    muon=(10.0, 2.5),
    photon=(25.0, 2.37),
    cone=0.2,
    track_cone=0.3,
    isolation=(np.inf, np.inf, 0.2),
)
"""Leptons are not isolated here: `lep_ptcone30` and `lep_etcone20` are for the analysis to cut on."""

LEPTON_PT = 25.0
"""At least two leptons are above, GeV."""

TIGHT = {11: 0.88, 13: 0.97}
"""Probability that an identified electron or muon is tight."""

TRIGGER = {11: (26.0, 0.95), 13: (26.0, 0.80)}
"""Above which pt (GeV), and how probably, an electron or muon fires the single-lepton trigger."""

RUN = 284500
"""`runNumber` of the release's simulated events."""

SLOTS = {"lep": 8, "jet": 24, "photon": 4}
"""Objects of an event that are kept, the hardest; more do not occur in practice."""

_COMMON = (ENERGY, "PartonLevel:MPI = off")
_DRELL_YAN = ("WeakSingleBoson:ffbar2gmZ = on", "PhaseSpace:mHatMin = 60.", "23:onMode = off")
_LEPTONIC_W = ("24:onMode = off", "24:onIfAny = 11 13 15")
_HADRONIC_W = ("24:onMode = off", "24:onIfAny = 1 2 3 4 5")
_LEPTONIC_Z = ("23:onMode = off", "23:onIfAny = 11 13 15")
_LEPTONIC_TAU = ("15:onMode = off", "15:onIfAny = 11 13")

LEPTONIC_TAU = 0.1782 + 0.1739
"""Branching ratio of a tau to an electron or muon (Particle Data Group)."""


class Sample(NamedTuple):
    """A file of the release: its dataset number and the process in it."""

    dsid: int
    process: Process

    @property
    def file(self) -> str:
        """Its name."""
        return f"mc_{self.dsid}.{self.process.name}.2lep.root"


def _sample(dsid: int, name: str, visible: float, *settings: str, branching: float = 1.0) -> Sample:
    return Sample(dsid, Process(name, (*_COMMON, *settings), visible, branching=branching))


BACKGROUNDS = (
    _sample(361106, "Zee", 374, *_DRELL_YAN, "23:onIfAny = 11"),
    _sample(361107, "Zmumu", 450, *_DRELL_YAN, "23:onIfAny = 13"),
    _sample(361108, "Ztautau", 3.2, *_DRELL_YAN, "23:onIfAny = 15", *_LEPTONIC_TAU, branching=LEPTONIC_TAU**2),
    _sample(410000, "ttbar_lep", 10.6, "Top:gg2ttbar = on", "Top:qqbar2ttbar = on", *_LEPTONIC_W),
    _sample(363492, "llvv", 0.96, "WeakDoubleBoson:ffbar2WW = on", *_LEPTONIC_W),
    _sample(363491, "lllv", 0.25, "WeakDoubleBoson:ffbar2ZW = on", *_LEPTONIC_W, *_LEPTONIC_Z),
    _sample(363358, "WqqZll", 0.39, "WeakDoubleBoson:ffbar2ZW = on", *_HADRONIC_W, *_LEPTONIC_Z),
    _sample(363490, "llll", 0.056, "WeakDoubleBoson:ffbar2gmZgmZ = on", "23:mMin = 20.", *_LEPTONIC_Z),
)
"""Drell-Yan above 60 GeV, top pairs and pairs of bosons, with what passes the selection (pb)."""

_RELEASED: Any = {("ee", mass): 301215 + step for step, mass in enumerate((2000, 3000, 4000, 5000))} | {
    ("mumu", mass): 301220 + step for step, mass in enumerate((2000, 3000, 4000, 5000))
}
_PRIVATE = {"ee": 900_011, "mumu": 900_013}
"""`channelNumber` of Z' of masses that the release does not have."""


def zprime(mass: float, decay: str) -> Sample:
    """Return the sample of a Z' of some mass (GeV) with the couplings of the Z, to "ee" or "mumu".

    >>> zprime(2000, "ee").file
    'mc_301215.ZPrime2000_ee.2lep.root'
    """
    dsid = _RELEASED.get((decay, mass), _PRIVATE[decay])
    return _sample(dsid, f"ZPrime{mass:g}_{decay}", 1.0, *processes.zprime(mass, "11" if decay == "ee" else "13"))


# -- generating ----------------------------------------------------------------------------------------------


def simulate_block(place: int, process: Process, seed: int, events: int) -> tuple[pythia.Arrays, dict[str, int]]:
    """Return a block of selected events of a process: branches in MeV, objects in `SLOTS`, and its `place`."""
    arrays, counts = processes.generate(process, seed, events, _selected)
    return {"place": np.full(events, place), **arrays}, counts


def _selected(record: pythia.Record, rng: np.random.Generator) -> pythia.Arrays:
    event = objects.reconstruct(record, rng, ACCEPTANCE)
    leptons = objects.Objects(*map(np.concatenate, zip(event.electrons, event.muons))).sorted()
    events = len(event.met)
    chosen = leptons.take(leptons.pt > LEPTON_PT).count(events) >= 2
    branches = {"met_et": 1000 * event.met, "met_phi": event.met_phi}
    branches |= _leptons(leptons, events, rng) | _jets(event.jets, events) | _photons(event.photons, events)
    return {name: values[chosen] for name, values in branches.items()}


def _momenta(kind: str, found: objects.Objects) -> pythia.Arrays:
    return {
        f"{kind}_pt": 1000 * found.pt,
        f"{kind}_eta": found.eta,
        f"{kind}_phi": found.phi,
        f"{kind}_E": 1000 * found.energy,
    }


def _cones(kind: str, found: objects.Objects) -> pythia.Arrays:
    return {f"{kind}_ptcone30": 1000 * found.ptcone, f"{kind}_etcone20": 1000 * found.etcone}


def _leptons(leptons: objects.Objects, events: int, rng: np.random.Generator) -> pythia.Arrays:
    code = leptons.flavour
    threshold, probability = (np.choose(code == 13, pair) for pair in zip(TRIGGER[11], TRIGGER[13]))
    fired = (leptons.pt > threshold) & (rng.random(len(code)) < probability)
    tight = rng.random(len(code)) < np.choose(code == 13, (TIGHT[11], TIGHT[13]))
    values = _momenta("lep", leptons) | _cones("lep", leptons)
    values |= {"lep_charge": leptons.charge, "lep_type": code, "lep_z0": leptons.z0}
    values |= {"lep_trackd0pvunbiased": leptons.d0, "lep_tracksigd0pvunbiased": leptons.sigma_d0}
    values |= {"lep_isTightID": tight, "lep_trigMatched": fired, "lep_truthMatched": np.ones(len(code))}
    triggers = {
        name: np.bincount(leptons.event[fired & (code == flavour)], minlength=events) > 0
        for name, flavour in (("trigE", 11), ("trigM", 13))
    }
    return triggers | _slots("lep", leptons, values, events)


def _jets(jets: objects.Objects, events: int) -> pythia.Arrays:
    ones = np.ones(len(jets.pt))  # without pile-up every jet is a true one
    values = _momenta("jet", jets) | {"jet_jvt": ones, "jet_truthMatched": ones, "jet_trueflav": jets.flavour}
    return _slots("jet", jets, values | {"jet_MV2c10": objects.mv2c10(jets.pt, jets.flavour, jets.tag)}, events)


def _photons(photons: objects.Objects, events: int) -> pythia.Arrays:
    ones = np.ones(len(photons.pt))
    values = _momenta("photon", photons) | _cones("photon", photons)
    return _slots("photon", photons, values | {"photon_isTightID": ones, "photon_truthMatched": ones}, events)


def _slots(kind: str, found: objects.Objects, values: pythia.Arrays, events: int) -> pythia.Arrays:
    """Return each value in (N, `SLOTS`) and the number of objects `<kind>_n` (N,)."""
    counts = found.count(events)
    rank = np.arange(len(found.event)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = rank < SLOTS[kind]
    out = {f"{kind}_n": np.minimum(counts, SLOTS[kind])}
    for name, flat in values.items():
        out[name] = np.zeros((events, SLOTS[kind]), np.float64)
        out[name][found.event[kept], rank[kept]] = flat[kept]
    return out


# -- writing -------------------------------------------------------------------------------------------------

_INTEGERS = {"lep_charge": "int32", "lep_type": "uint32", "jet_trueflav": "int32"}
_FLAGS = ("isTightID", "trigMatched", "truthMatched")
_SCALE_FACTORS = ("PILEUP", "ELE", "MUON", "PHOTON", "TAU", "BTAG", "LepTRIGGER", "PhotonTRIGGER")


def _make(out: Path, request: Request, *, workers: int, scheduler: Any, progress: Any) -> Outcome:
    """Write the sample of a request: `pipelines.simulation.kinds.Kind.make`."""
    samples, counts = _samples(request)

    def write(out: Path, chunks: Iterator[pythia.Arrays], seen: Mapping[str, int]) -> int:
        with new_directory(out) as part:
            return sum(
                _write_file(part / samples[place].file, samples[place], counts[place], own, seen)
                for place, own in groupby(chunks, key=lambda arrays: int(arrays["place"][0]))
            )

    blocks = processes.blocks(request.kind, request.seed, [sample.process for sample in samples], counts)
    tasks = [(place, samples[place].process, seed, size) for place, seed, size in blocks]
    job: dict[str, Any] = {"sources": [], "options": request.identity(), "total": request.events}
    job |= {"workers": workers, "scheduler": scheduler, "progress": progress}
    return in_chunks(out, simulate_block, tasks, write, **job)


def _samples(request: Request) -> tuple[list[Sample], list[int]]:
    """Return the samples that have events, and how many."""
    options = request.options
    if request.kind == "atlas_signal":
        decays = ("ee", "mumu") if options["decay"] == "all" else (options["decay"],)
        samples = [zprime(options["m_zprime"], decay) for decay in decays]
    elif options["process"] != "all":
        samples = [sample for sample in BACKGROUNDS if sample.process.name == options["process"]]
    else:
        samples = list(BACKGROUNDS)
    by_cross_section = options.get("mixture") == "cross-section"
    counts = processes.shares(request.events, [s.process.visible if by_cross_section else 1.0 for s in samples])
    there = [(sample, count) for sample, count in zip(samples, counts) if count]
    return [sample for sample, _ in there], [count for _, count in there]


def _write_file(
    path: Path, sample: Sample, events: int, chunks: Iterator[pythia.Arrays], seen: Mapping[str, int]
) -> int:
    """Write one file into the folder that is being made."""
    import uproot

    constants = {
        "runNumber": np.int32(RUN),
        "channelNumber": np.int32(sample.dsid),
        "mcWeight": np.float32(1),
        "XSection": np.float32(processes.cross_section(sample.process)),
        # Of as many generated events as have given these: more were accepted than were asked for.
        "SumWeights": np.float32(events / processes.efficiency(sample.process, seen)),
        **{f"scaleFactor_{name}": np.float32(1) for name in _SCALE_FACTORS},
    }
    try:
        with uproot.recreate(path) as file:
            return _fill(file, constants, chunks)
    except OSError as error:
        raise Unfinished(
            f"{path.name}: cannot be written ({error.strerror}); free some space or choose another output"
        ) from None


def _fill(file: Any, constants: Mapping[str, np.generic], chunks: Iterator[pythia.Arrays]) -> int:
    tree, written = None, 0
    for arrays in chunks:
        size = len(arrays["place"])
        branches: dict[str, Any] = {name: np.full(size, value) for name, value in constants.items()}
        branches["eventNumber"] = np.arange(written, written + size, dtype=np.int32)
        branches |= _branches(arrays)
        if tree is None:
            types = {name: _type(values) for name, values in branches.items()}
            tree = file.mktree("mini", types, counter_name=lambda name: f"{name.split('_')[0]}_n")
        tree.extend(branches)
        written += size
    return written


def _branches(arrays: Mapping[str, np.ndarray]) -> dict[str, object]:
    """Return the branches of a block in their types, lists of objects without empty slots."""
    import awkward as ak

    branches: dict[str, object] = {}
    for name, values in arrays.items():
        if values.ndim == 2:
            counts = np.asarray(arrays[f"{name.split('_')[0]}_n"])
            flat = values[np.arange(values.shape[1]) < counts[:, None]]
            kind = "bool" if name.endswith(_FLAGS) else _INTEGERS.get(name, "float32")
            branches[name] = ak.unflatten(flat.astype(kind), counts)
        elif name.startswith("met"):
            branches[name] = values.astype(np.float32)
        elif name.startswith("trig"):
            branches[name] = values.astype(bool)
    return branches


def _type(values: Any) -> object:
    if isinstance(values, np.ndarray):
        return values.dtype
    return f"var * {str(values.type).split('* ')[-1]}"


_NAMES = tuple(sample.process.name for sample in BACKGROUNDS)
_LAYOUT = "folder of ROOT files of ATLAS Open Data, tree mini, one a process"

KINDS = (
    Kind(
        "atlas_background",
        "two-lepton Drell-Yan, top pairs and pairs of bosons",
        _LAYOUT,
        _make,
        (
            Option("process", "all of them, or one", "all", choices=("all", *_NAMES)),
            Option(
                "mixture",
                "how many events of each: the same, or by cross-section",
                "equal",
                choices=("equal", "cross-section"),
            ),
        ),
    ),
    Kind(
        "atlas_signal",
        "Z' to two electrons or muons",
        _LAYOUT,
        _make,
        (
            Option("m_zprime", "mass of the Z'", 2000.0, low=200, high=5000, unit="GeV"),
            Option("decay", "of the Z'", "ee", choices=("ee", "mumu", "all")),
        ),
    ),
)
