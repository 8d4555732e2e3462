"""LHC Olympics-like samples: QCD dijets, Z' -> XY in two and three prongs, and black boxes.

Raw hadrons in the layout of the published files, as `pipelines.datasets.lhco` reads them. Physics as far as the
challenge describes it (G. Kasieczka et al., Rep. Prog. Phys. 84 (2021) 124201, arXiv 2101.08320): Pythia 8 at
13 TeV without multiple parton interactions, events whose leading R = 1 jet is above 1.2 TeV. The detector is
`pipelines.simulation.hadrons`, not Delphes.

- QCD: all hard 2 -> 2 processes with pTHat > `pt_hat_min`. Radiation lifts some events of lower pTHat over the
  trigger's threshold, which are missing: at 1 TeV about one in nine (`docs/simulation.md`).
- Z' -> XY: Z' of 2 % width made from a quark pair; X and Y, scalars of `WIDTH`, decay to q qbar (two prongs) or
  q qbar g (three), evenly in phase space, q one of d, u, s.
- Black box: QCD with another shower and hadronisation, and among it a hidden signal made in the same way.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipelines.errors import InputError
from pipelines.jobs import chunks
from pipelines.outputs import Disk, check_new, new_disk, new_disks
from pipelines.simulation import hadrons, pythia
from pipelines.simulation.kinds import Kind, Option, Request

HADRONS = 700
ENERGY = 13_000.0  # GeV
RELATIVE_WIDTH = 0.02  # of the Z', which is within 20 % of its mass
WIDTH = 1.0  # GeV, of X and Y, which are within 20 GeV of their masses
_ROWS = 50  # of the file that are compressed together, 0.8 MB

_ORIGIN = {"license": "CC0 1.0", "citation": "Simulated with Pythia 8 (arXiv 2203.11601) and a parametric detector"}

LABELS = {"lhco_qcd": (0, "background"), "lhco_2prong": (1, "two-prong"), "lhco_3prong": (2, "three-prong")}
_Z, _X, _Y = 4900023, 9000001, 9000002  # Pythia's Hidden Valley Z', and two codes that nothing else has
_QUARKS = (1, 2, 3)


def process(options: Mapping[str, Any], prongs: int = 0) -> list[str]:
    """Return Pythia's settings for QCD (`prongs` 0) or for Z' -> XY with decays to 2 or 3 partons.

    Args:
        options: `pt_hat_min`, or if there are prongs `m_zprime`, `m_x`, `m_y`, in GeV; `alpha_s` and `a_lund` of
            another tune, or neither.
        prongs: 0, 2 or 3.

    Example:
        >>> process({"pt_hat_min": 1000})[-2:]
        ['HardQCD:all = on', 'PhaseSpace:pTHatMin = 1000']
    """
    settings = [f"Beams:eCM = {ENERGY:.10g}", "PartonLevel:MPI = off"]
    if "alpha_s" in options:
        settings += [f"TimeShower:alphaSvalue = {options['alpha_s']:.10g}", f"StringZ:aLund = {options['a_lund']:.10g}"]
    if not prongs:
        return settings + ["HardQCD:all = on", f"PhaseSpace:pTHatMin = {options['pt_hat_min']:.10g}"]
    return settings + _zprime(options["m_zprime"], options["m_x"], options["m_y"], prongs)


def _zprime(m_zprime: float, m_x: float, m_y: float, prongs: int) -> list[str]:
    low = max(0.8 * m_zprime, m_x + m_y)
    settings = [
        "HiddenValley:ffbar2Zv = on",
        f"{_Z}:m0 = {m_zprime:.10g}",
        f"{_Z}:mWidth = {RELATIVE_WIDTH * m_zprime:.10g}",
        f"{_Z}:mMin = {low:.10g}",
        f"{_Z}:mMax = {1.2 * m_zprime:.10g}",
    ]
    for code, name, mass in ((_X, "X", m_x), (_Y, "Y", m_y)):
        settings += [f"{code}:all = {name} void 1 0 0 {mass:.10g} {WIDTH:.10g} {mass - 20:.10g} {mass + 20:.10g} 0"]
        settings += [f"{code}:isResonance = on"]
        for number, quark in enumerate(_QUARKS):
            channel = "addChannel" if number else "oneChannel"
            gluon = " 21" if prongs == 3 else ""
            settings += [f"{code}:{channel} = 1 {1 / len(_QUARKS):.6f} 100 {quark} -{quark}{gluon}"]
    # The quark channel makes the Z'; only decays to X Y are switched on.
    settings += [f"{_Z}:oneChannel = 1 0.02 102 1 -1", f"{_Z}:addChannel = 1 0.98 100 {_X} {_Y}"]
    return settings + [f"{_Z}:onMode = off", f"{_Z}:onIfAny = {_X}"]


# -- generating ----------------------------------------------------------------------------------------------


def reconstruct(record: pythia.Record, rng: np.random.Generator) -> pythia.Arrays:
    """Return the hadrons (n, 3 `HADRONS`) float32 of the events of a batch that the trigger takes, hardest first."""
    seen = hadrons.measure(record, rng)
    return {"hadrons": _padded(seen)[hadrons.triggered(seen)]}


def _padded(seen: hadrons.Hadrons) -> np.ndarray:
    """Return pt, eta, phi of the hardest `HADRONS` hadrons in rows (N, 3 `HADRONS`), by falling pt, then zeros."""
    counts = seen.counts
    event = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((-seen.pt, event))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = rank < HADRONS
    rows = np.zeros((len(counts), HADRONS, 3), np.float32)
    rows[event[kept], rank[kept]] = np.stack(seen[1:], axis=1)[order[kept]]
    return rows.reshape(len(counts), 3 * HADRONS)


def simulate_block(settings: list[str], seed: int, events: int) -> tuple[pythia.Arrays, dict[str, int]]:
    """Return the rows of one block and how many events were generated for them."""
    arrays, counts = pythia.generate(settings, seed, events, reconstruct)
    return {"hadrons": _without_padding(arrays["hadrons"])}, counts


def simulate_box_block(
    background: tuple[list[str], int], signal: tuple[list[str], int], truth: np.ndarray
) -> tuple[pythia.Arrays, dict[str, int]]:
    """Return the rows of one block of a black box, signal where `truth` is True; (settings, seed) of both."""
    rows = np.zeros((len(truth), 3 * HADRONS), np.float32)
    generated = 0
    for (settings, seed), chosen in ((background, ~truth), (signal, truth)):
        if chosen.any():
            arrays, counts = pythia.generate(settings, seed, int(chosen.sum()), reconstruct)
            rows[chosen] = arrays["hadrons"]
            generated += counts["generated"]
    return {"hadrons": _without_padding(rows)}, {"generated": generated}


def _without_padding(rows: np.ndarray) -> np.ndarray:
    """Drop the columns in which no event has a hadron, which makes chunks a third as large."""
    return rows[:, : 3 * np.count_nonzero(rows[:, ::3].any(axis=0))]


# -- writing -------------------------------------------------------------------------------------------------


def _write_table(
    disk: Disk,
    path: Path,
    blocks: Iterator[pythia.Arrays],
    events: int,
    about: Mapping[str, object],
    label: int | None = None,
) -> None:
    """Write the hadrons of all blocks as a raw file, with one label for all of them or with none.

    It is what pandas calls a frame in "fixed" HDF5, float64, so `pandas.read_hdf` reads it too; compressed by gzip,
    which every HDF5 library has.
    """
    with h5py.File(disk, "w") as file:
        table = _frame(file, events, 3 * HADRONS + (label is not None))
        first = 0
        for block in blocks:
            rows = np.zeros((len(block["hadrons"]), table.shape[1]))
            rows[:, : block["hadrons"].shape[1]] = block["hadrons"]
            if label is not None:
                rows[:, -1] = label
            table[first : first + len(rows)] = rows
            first += len(rows)
            disk.check(path)
        file.attrs.update(about)


def _frame(file: h5py.File, events: int, width: int) -> h5py.Dataset:
    """Make the datasets and attributes by which pandas knows a frame, and return the one of its values."""
    group = file.create_group("df")
    _note(file, CLASS="GROUP", VERSION="1.0", PYTABLES_FORMAT_VERSION="2.1")
    _note(group, CLASS="GROUP", VERSION="1.0", pandas_type="frame", pandas_version="0.15.2")
    _note(group, encoding="UTF-8", errors="strict", nblocks=1, ndim=2)
    stored = {"compression": "gzip", "shuffle": True}
    for name, length in (("axis0", width), ("axis1", events), ("block0_items", width)):
        index = group.create_dataset(name, data=np.arange(length), **stored)
        # "N." is how PyTables writes that an index has no name.
        _note(index, CLASS="CARRAY", VERSION="1.1", kind="integer", name="N.", transposed=np.uint8(1))
        _note(group, **{f"{name}_variety": "regular"})
    rows = (min(_ROWS, events), width)
    table = group.create_dataset("block0_values", (events, width), np.float64, chunks=rows, **stored)
    _note(table, CLASS="CARRAY", VERSION="1.1", transposed=np.uint8(1))
    return table


def _note(node: h5py.Group | h5py.Dataset, **attributes: str | int) -> None:
    """Set attributes as PyTables does, which knows strings of a fixed length, as UTF-8, only."""
    for name, value in {"TITLE": h5py.Empty("S1"), **attributes}.items():
        if isinstance(value, str):
            value = np.array(value.encode(), h5py.string_dtype("utf-8", len(value)))
        node.attrs[name] = value


# -- kinds ---------------------------------------------------------------------------------------------------


def make(out: Path, request: Request, *, prongs: int = 0, **job: Any) -> chunks.Outcome:
    """Make a raw file of one process with its label in the last column, as `Kind.make`."""
    if prongs:
        _check_masses(request.options)
    label, name = LABELS[request.kind]
    settings = process(request.options, prongs)
    tasks = (
        (settings, pythia.block_seed(request.kind, request.seed, block), size)
        for block, size in pythia.blocks(request.events)
    )
    identity = request.identity()
    about = {
        **identity,
        **_ORIGIN,
        "settings": settings,
        "detector": _detector(),
        "label_names": json.dumps({label: name}),
    }

    def write(out: Path, blocks: Iterator[pythia.Arrays], counts: Mapping[str, int]) -> int:
        with new_disk(out) as disk:
            _write_table(disk, out, blocks, request.events, {**about, **counts}, label)
        return request.events

    return chunks.in_chunks(
        out, simulate_block, tasks, write, sources=[], options=identity, total=request.events, **job
    )


def make_box(out: Path, request: Request, **job: Any) -> chunks.Outcome:
    """Make a raw file without truth, its master key, and beside it what was hidden (`.truth.json`), as `Kind.make`.

    Which events are signal is drawn for the sample as a whole: their number is exact.
    Raises `InputError` if one of the files is there already.
    """
    options, events = request.options, request.events
    _check_masses(options)
    key, secret = _beside(out)
    hidden = round(options["signal_fraction"] * events)
    luck = np.random.default_rng(pythia.block_seed(f"{request.kind} truth", request.seed, 0))
    truth = luck.permutation(np.arange(events) < hidden)
    settings = {"background": process(options), "signal": process(options, options["prongs"])}
    identity = request.identity()

    def write(out: Path, blocks: Iterator[pythia.Arrays], counts: Mapping[str, int]) -> int:
        # Nothing in the box tells of its signal, the seed included: with that one could make it again.
        about = {"kind": request.kind, "pythia8mc": identity["pythia8mc"], "detector": _detector(), **_ORIGIN}
        told = {**identity, "signal_events": hidden, **settings, **counts}
        with new_disks(out, key, secret) as (box, of_key, of_secret):
            _write_table(box, out, blocks, events, about)
            of_key.write("".join(f"{float(is_signal)}\n" for is_signal in truth).encode())
            of_secret.write((json.dumps(told, indent=2, allow_nan=False) + "\n").encode())
        return events

    tasks = (
        (*_of_block(request, settings, block), truth[block * pythia.BLOCK :][:size])
        for block, size in pythia.blocks(events)
    )
    return chunks.in_chunks(out, simulate_box_block, tasks, write, sources=[], options=identity, total=events, **job)


def _of_block(request: Request, settings: Mapping[str, list[str]], block: int) -> Iterator[tuple[list[str], int]]:
    """Give settings and seed of the background and of the signal of a block."""
    return (
        (lines, pythia.block_seed(f"{request.kind} {part}", request.seed, block)) for part, lines in settings.items()
    )


def _beside(out: Path) -> tuple[Path, Path]:
    """Return the paths of the master key and of the truth of a black box, where nothing is yet."""
    paths = out.with_suffix(".masterkey"), out.with_suffix(".truth.json")
    if out in paths:
        raise InputError(f"{out}: the black box itself cannot have the name of its key; choose another, as box.h5")
    for path in paths:
        check_new(path)
    return paths


def _detector() -> str:
    return json.dumps(hadrons.constants())


def _check_masses(options: Mapping[str, Any]) -> None:
    m_zprime, m_x, m_y = (options[name] for name in ("m_zprime", "m_x", "m_y"))
    if m_x + m_y >= m_zprime:
        raise InputError(
            f"m_x {m_x:g} and m_y {m_y:g} GeV: a Z' of m_zprime {m_zprime:g} GeV cannot decay to both; "
            f"choose masses whose sum is below it"
        )


MASSES = (
    Option("m_zprime", "mass of the Z'", 3500.0, low=2000, high=8000, unit="GeV"),
    Option("m_x", "mass of X", 500.0, low=30, high=4000, unit="GeV"),
    Option("m_y", "mass of Y", 100.0, low=30, high=4000, unit="GeV"),
)
PT_HAT = Option("pt_hat_min", "least pTHat of QCD", 1000.0, low=400, high=3000, unit="GeV")
BOX = (
    PT_HAT,
    dataclasses.replace(MASSES[0], default=3823.0),
    dataclasses.replace(MASSES[1], default=732.0),
    dataclasses.replace(MASSES[2], default=378.0),
    Option("prongs", "partons that X and Y decay to", 2, choices=(2, 3)),
    Option("signal_fraction", "share of the events that is signal", 0.01, low=0, high=1),
    Option("alpha_s", "alpha_s(M_Z) of the parton shower; Pythia's is 0.1365", 0.118, low=0.06, high=0.25),
    Option("a_lund", "a of the Lund fragmentation function; Pythia's is 0.68", 0.4, low=0, high=2),
)
_RAW = "raw LHC Olympics hadrons, label in the last column"
KINDS = (
    Kind("lhco_qcd", "QCD dijets", _RAW, make, (PT_HAT,)),
    Kind("lhco_2prong", "Z' -> XY, X and Y -> q qbar", _RAW, functools.partial(make, prongs=2), MASSES),
    Kind("lhco_3prong", "Z' -> XY, X and Y -> q qbar g", _RAW, functools.partial(make, prongs=3), MASSES),
    Kind(
        "lhco_blackbox",
        "QCD dijets of another tune with a hidden Z' -> XY signal",
        "raw LHC Olympics hadrons without labels; OUT's .masterkey and .truth.json beside it",
        make_box,
        BOX,
    ),
)
