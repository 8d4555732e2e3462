"""Dark Machines-like samples: Standard Model mixtures and signals of channels 1 and 2b, in the challenge's CSV.

A line, as `pipelines.datasets.darkmachines` reads it, momenta in MeV:

    event ID; process ID; event weight; MET; METphi; obj,E,pt,eta,phi; obj,E,pt,eta,phi; ...

with objects j, b, e-, e+, m-, m+, g: jets and b jets by falling pt, then electrons, muons, photons. There are no
spaces. Object and channel definitions are the challenge's (T. Aarrestad et al., SciPost Phys. 12 (2022) 043, arXiv
2105.14027): jets pt > 20 GeV, |eta| < 2.8; leptons pt > 15 GeV, |eta| < 2.7 (electrons: 2.5, where tracks end);
photons pt > 20 GeV, |eta| < 2.37.

The physics is leading order with parton showers, where the challenge has up to two more partons in the matrix
element: Pythia 8 at 13 TeV without multiple parton interactions, and the detector of `pipelines.simulation.objects`.
The weights add up, for each process, to the events that 10/fb would have in the channel at that order.
"""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import InputError
from pipelines.jobs.chunks import Outcome, in_chunks
from pipelines.outputs import Disk, new_disk
from pipelines.simulation import objects, processes, pythia
from pipelines.simulation.kinds import Kind, Option, Request
from pipelines.simulation.processes import ENERGY, SPECTRUM, Process

LUMINOSITY = 10_000.0
"""1/pb, as the challenge's data correspond to."""

ACCEPTANCE = objects.Acceptance(
    jet=(20.0, 2.8), electron=(15.0, 2.5), muon=(15.0, 2.7), photon=(20.0, 2.37), isolation=(0.12, 0.25, 0.12)
)

HEAVY = 1.0e5
"""Mass of what is decoupled from the gluino signal, GeV."""

GLUINO_WIDTH = 1.0
"""GeV: it decays before it could make a hadron, at its vertex."""

_TOGETHER = 1000  # lines that are written at once

_COMMON = (ENERGY, "PartonLevel:MPI = off")
_LEPTONIC_W = ("24:onMode = off", "24:onIfAny = 11 13 15")
_LEPTONIC_Z = ("23:onMode = off", "23:onIfAny = 11 13 15")
_LEPTONS_OR_NEUTRINOS_Z = ("23:onMode = off", "23:onIfAny = 11 12 13 14 15 16")
_INVISIBLE_Z = ("23:onMode = off", "23:onIfAny = 12 14 15 16")
_TOPS = ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on")
_W_AND_JET = ("WeakBosonAndParton:qqbar2Wg = on", "WeakBosonAndParton:qg2Wq = on")
_Z_AND_JET = ("WeakBosonAndParton:qqbar2gmZg = on", "WeakBosonAndParton:qg2gmZq = on", "PhaseSpace:mHatMin = 20.")
_WW, _ZW, _ZZ = (f"WeakDoubleBoson:ffbar2{pair} = on" for pair in ("WW", "ZW", "gmZgmZ"))


def _background(name: str, visible: float, *settings: str, above: float = 0.0) -> Process:
    """Return a process above some pT of the hard collision, GeV."""
    cut = (f"PhaseSpace:pTHatMin = {above:g}",) if above else ()
    return Process(name, (*_COMMON, *settings, *cut), visible)


BACKGROUNDS = {
    "1": (
        _background("njets", 0.36, "HardQCD:all = on", above=500),
        _background("ttbar", 0.95, *_TOPS, above=100),
        _background("w_jets", 0.28, *_W_AND_JET, *_LEPTONIC_W, above=200),
        _background("z_jets", 0.093, *_Z_AND_JET, *_INVISIBLE_Z, "WeakZ0:gmZmode = 2", above=200),
        _background("ww", 0.0044, _WW, above=150),
        _background("zw", 0.0022, _ZW, above=150),
        _background("zz", 0.0008, _ZZ, "WeakZ0:gmZmode = 2", above=150),
    ),
    "2b": (
        _background("ttbar", 7.8, *_TOPS, *_LEPTONIC_W),
        _background("z_jets", 0.74, *_Z_AND_JET, *_LEPTONIC_Z, above=50),
        _background("ww", 0.14, _WW, *_LEPTONIC_W),
        _background("zw", 0.050, _ZW, *_LEPTONIC_Z),
        _background("zz", 0.018, _ZZ, *_LEPTONS_OR_NEUTRINOS_Z, "23:mMin = 20."),
    ),
}
"""Processes of each channel, named as the challenge does, with what of them passes (pb).

Where the channel needs hard recoil they start above a pT of the hard collision: below, little passes. Of top pairs in
channel 1 about a tenth is lost so, of QCD about half, which passes above 500 GeV at a rate of 6 in 10,000. Bosons
decay to what makes MET (channel 1: W to leptons, Z to neutrinos or taus) or leptons (2b); QCD and W are not in 2b,
where they would need a lepton from a hadron that is isolated.
"""


def passes(event: objects.Event, channel: str) -> np.ndarray:
    """Tell which events (N,) are in a channel: "1", "2b", or "none" for all of them.

    With HT the sum of pt of jets and b jets, and leptons electrons and muons above 15 GeV:

    - 1: HT >= 600 GeV, MET >= 200 GeV, MET/HT >= 0.2, at least four jets or b jets above 50 GeV, one above 200 GeV;
    - 2b: MET >= 50 GeV, HT >= 50 GeV, at least two leptons.

    Source: arXiv 2105.14027, section 2.1.
    """
    events = len(event.met)
    jets = event.jets
    ht = jets.sum(jets.pt, events)
    if channel == "1":
        jetty = (jets.take(jets.pt > 50).count(events) >= 4) & (jets.take(jets.pt > 200).count(events) >= 1)
        return (ht >= 600) & (event.met >= 200) & (event.met >= 0.2 * ht) & jetty
    if channel == "2b":
        leptons = event.electrons.count(events) + event.muons.count(events)
        return (event.met >= 50) & (ht >= 50) & (leptons >= 2)
    return np.ones(events, bool)


def gluino_spectrum(m_gluino: float, m_neutralino: float, top_share: float) -> str:
    """Return an SLHA text: gluino -> q qbar chi0_1 or t tbar chi0_1, everything else at 100 TeV.

    Args:
        m_gluino, m_neutralino: masses, GeV.
        top_share: branching ratio to t tbar chi0_1; the rest is even among d, u, s, c.

    Example:
        >>> [line for line in gluino_spectrum(1600, 800, 0.5).splitlines() if " 6 " in line]
        [' 0.5 3 1000022 6 -6']
    """
    squarks_and_sleptons = [base + code for base in (1_000_000, 2_000_000) for code in (*range(1, 7), 11, 13, 15)]
    others = [*squarks_and_sleptons, 1000012, 1000014, 1000016, 1000023, 1000024, 1000025, 1000035, 1000037]
    masses = {1000021: m_gluino, 1000022: m_neutralino} | dict.fromkeys(others, HEAVY)
    lines = ["BLOCK MODSEL", " 1 0", "BLOCK MASS", *(f" {code} {mass:.10g}" for code, mass in masses.items())]
    lines += [f"DECAY 1000021 {GLUINO_WIDTH:g}"]
    ratios = dict.fromkeys((1, 2, 3, 4), (1 - top_share) / 4) | {6: top_share}
    lines += [f" {ratio:.10g} 3 1000022 {quark} -{quark}" for quark, ratio in ratios.items() if ratio > 0]
    return "\n".join([*lines, "DECAY 1000022 0", ""])


def _signal(options: Mapping[str, Any]) -> Process:
    if options["process"] == "gluino":
        return _gluino(options["m_gluino"], options["m_neutralino"], options["top_share"])
    decays = {"zprime_ll": "11 13 15", "zprime_tt": "6"}[options["process"]]
    mass = options["m_zprime"]
    return Process(f"Zp{mass:g}_{options['process'][-2:]}", (*_COMMON, *processes.zprime(mass, decays)))


def _gluino(m_gluino: float, m_neutralino: float, top_share: float) -> Process:
    quarks = 2 * 173.5 if top_share else 10.0  # what a decay has to make beside the neutralino
    if m_neutralino > m_gluino - quarks:
        raise InputError(
            f"m_neutralino is {m_neutralino:g} GeV, expected at most {m_gluino - quarks:g} GeV for gluinos of "
            f"{m_gluino:g} GeV{' that may decay to top quarks; try top_share=0' if top_share else ''}"
        )
    settings = (
        "SUSY:gg2gluinogluino = on",
        "SUSY:qqbar2gluinogluino = on",
        f"SLHA:file = {SPECTRUM}",
        "SLHA:verbose = 0",
    )
    name = f"glgl{m_gluino:g}_neutralino{m_neutralino:g}"
    return Process(name, (*_COMMON, *settings), spectrum=gluino_spectrum(m_gluino, m_neutralino, top_share))


# -- generating ----------------------------------------------------------------------------------------------


def simulate_block(
    place: int, process: Process, channel: str, seed: int, events: int
) -> tuple[pythia.Arrays, dict[str, int]]:
    """Return a block of lines, from MET on, that are in the channel, and the `place` of their process."""

    def reconstruct(record: pythia.Record, rng: np.random.Generator) -> pythia.Arrays:
        event = objects.reconstruct(record, rng, ACCEPTANCE)
        chosen = np.flatnonzero(passes(event, channel))
        return {"line": np.array(_lines(event, chosen, rng), "S")}

    arrays, counts = processes.generate(process, seed, events, reconstruct)
    return {"place": np.full(events, place), **arrays}, counts


def _lines(event: objects.Event, chosen: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Return `MET;METphi;obj,E,pt,eta,phi;...` of the chosen events, in MeV."""
    jets = event.jets
    inside = np.abs(jets.eta) < objects.TRACKER
    tagged = inside & (jets.tag < objects.tag_probability(jets.pt, jets.flavour))
    text: list[list[str]] = [[] for _ in event.met]
    leptons = ((event.electrons, "e"), (event.muons, "m"))
    named = [(jets, np.where(tagged, "b", "j"))]
    named += [(kind, np.where(kind.charge > 0, f"{letter}+", f"{letter}-")) for kind, letter in leptons]
    named += [(event.photons, np.full(len(event.photons.pt), "g"))]
    for kind, names in named:
        numbers = (kind.event, names, 1000 * kind.energy, 1000 * kind.pt, kind.eta, kind.phi)
        for number, name, energy, pt, eta, phi in zip(*(values.tolist() for values in numbers)):
            text[number].append(f"{name},{energy:.6g},{pt:.6g},{eta:.6g},{phi:.6g}")
    return [
        ";".join([f"{1000 * event.met[number]:.6g}", f"{event.met_phi[number]:.6g}", *text[number]])
        for number in chosen
    ]


# -- writing -------------------------------------------------------------------------------------------------


def _make(out: Path, request: Request, *, workers: int, scheduler: Any, progress: Any) -> Outcome:
    """Write the sample of a request: `pipelines.simulation.kinds.Kind.make`."""
    options = request.options
    channel = str(options["channel"])
    chosen, counts = _mixture(request, channel)

    def write(out: Path, chunks: Iterator[pythia.Arrays], seen: Mapping[str, int]) -> int:
        heads = []
        for process, count in zip(chosen, counts):
            visible = processes.cross_section(process) * processes.efficiency(process, seen)
            heads.append(f"{process.name};{LUMINOSITY * visible / count:.6g}")
        return _write(out, chunks, heads, request.seed if len(chosen) > 1 else None)

    blocks = processes.blocks(f"{request.kind} {channel}", request.seed, chosen, counts)
    tasks = [(place, chosen[place], channel, seed, size) for place, seed, size in blocks]
    job: dict[str, Any] = {"sources": [], "options": request.identity(), "total": request.events}
    job |= {"workers": workers, "scheduler": scheduler, "progress": progress}
    return in_chunks(out, simulate_block, tasks, write, **job)


def _mixture(request: Request, channel: str) -> tuple[list[Process], list[int]]:
    """Return the processes that have events, and how many."""
    options = request.options
    if request.kind == "darkmachines_signal":
        return [_signal(options)], [request.events]
    available = BACKGROUNDS[channel]
    if options["process"] != "all":
        named = [process for process in available if process.name == options["process"]]
        if not named:
            names = ", ".join(process.name for process in available)
            raise InputError(f"process is {options['process']!r}, expected one of channel {channel}: {names}")
        return named, [request.events]
    visible = [process.visible if options["mixture"] == "cross-section" else 1.0 for process in available]
    counts = processes.shares(request.events, visible)
    there = [(process, count) for process, count in zip(available, counts) if count]
    return [process for process, _ in there], [count for _, count in there]


def _write(out: Path, chunks: Iterator[pythia.Arrays], heads: Sequence[str], seed: int | None) -> int:
    """Write all lines, shuffled by a seed; `heads` are process ID and weight of each process."""
    lines = [
        f"{heads[place]};{line.decode()}\n"
        for arrays in chunks
        for place, line in zip(arrays["place"].tolist(), arrays["line"].tolist())
    ]
    if seed is not None:
        lines = processes.shuffled(lines, seed)
    with new_disk(out) as disk, _compressed(disk, out) as file:
        for first in range(0, len(lines), _TOGETHER):
            numbered = enumerate(lines[first : first + _TOGETHER], first)
            file.write("".join(f"{number};{line}" for number, line in numbered).encode())
    return len(lines)


def _compressed(disk: Disk, out: Path) -> contextlib.AbstractContextManager[Any]:
    if not out.name.endswith(".gz"):
        return contextlib.nullcontext(disk)
    # Neither time nor name go into the header: the same sample is the same file.
    return gzip.GzipFile("", "wb", compresslevel=6, fileobj=disk, mtime=0)


_NAMES = tuple(dict.fromkeys(process.name for channel in BACKGROUNDS.values() for process in channel))
_LAYOUT = "Dark Machines CSV, gzip if the name ends in .gz"

KINDS = (
    Kind(
        "darkmachines_background",
        "Standard Model events of a channel: top pairs, W and Z with jets, pairs of bosons, QCD",
        _LAYOUT,
        _make,
        (
            Option("channel", "of the challenge", "1", choices=("1", "2b")),
            Option("process", "all of them, shuffled, or one", "all", choices=("all", *_NAMES)),
            Option(
                "mixture",
                "how many events of each: by cross-section, or the same",
                "cross-section",
                choices=("cross-section", "equal"),
            ),
        ),
    ),
    Kind(
        "darkmachines_signal",
        "pairs of gluinos that decay to quarks and a neutralino, or a Z' that decays to leptons or top quarks",
        _LAYOUT,
        _make,
        (
            Option("channel", "of the challenge, or none: no selection", "1", choices=("1", "2b", "none")),
            Option("process", "the signal", "gluino", choices=("gluino", "zprime_ll", "zprime_tt")),
            Option("m_gluino", "mass of the gluino", 1600.0, low=200, high=4000, unit="GeV"),
            Option("m_neutralino", "mass of the neutralino", 800.0, low=0, high=3900, unit="GeV"),
            Option("top_share", "branching ratio of the gluino to top quarks", 0.0, low=0, high=1),
            Option("m_zprime", "mass of the Z'", 2000.0, low=400, high=5000, unit="GeV"),
        ),
    ),
)
