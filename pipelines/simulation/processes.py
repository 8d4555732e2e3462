"""Processes that make up a sample: their settings, cross-sections and shares, and the blocks of each.

A sample of several processes has for each of them whole blocks of its own. What an event stands for is
sigma * accepted / generated / events written, where sigma comes from Pythia (leading order).
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipelines.errors import InputError
from pipelines.simulation import pythia

ENERGY = "Beams:eCM = 13000."
"""As of the published samples, LHC run 2."""

SPECTRUM = "{spectrum}"
"""Stands in a setting for the path of a file with `Process.spectrum`."""

PATIENCE = 50_000
"""Events that are generated in vain before a block is given up: the rarest process passes once in about 2,000."""

# A cross-section is integrated over hard processes, without showers, until it is known this well, or given up.
_PRECISION, _STEP, _MOST = 0.01, 250, 20_000


class Process(NamedTuple):
    """A process: its name in files, Pythia's settings, and the text of an SLHA spectrum if it needs one.

    `visible` (pb) decides on the share of a mixture only: cross-section times efficiency, as it was once measured.
    `branching` is the ratio of decays that the settings force and that Pythia's cross-section does not know of:
    it knows those of tops, W, Z, Z' and gluinos, not those of taus.
    """

    name: str
    settings: tuple[str, ...]
    visible: float = 1.0
    spectrum: str = ""
    branching: float = 1.0


def zprime(mass: float, decays: str) -> tuple[str, ...]:
    """Return Pythia's settings of a Z' of some mass (GeV) that decays to particles of these codes.

    >>> zprime(2000.0, "11 13")[-1]
    '32:onIfAny = 11 13'
    """
    return (
        "NewGaugeBoson:ffbar2gmZZprime = on",
        "Zprime:gmZmode = 3",  # the Z' alone: interference belongs to the background
        f"32:m0 = {mass:.10g}",
        f"PhaseSpace:mHatMin = {0.5 * mass:.10g}",
        "32:onMode = off",
        f"32:onIfAny = {decays}",
    )


def shares(events: int, visible: Sequence[float]) -> list[int]:
    """Return how many of some events each process gets, in proportion to `visible`, by largest remainders.

    >>> shares(10, [2.0, 1.0, 1.0])
    [5, 3, 2]
    """
    ideal = events * np.asarray(visible, float) / np.sum(visible)
    counts = np.floor(ideal).astype(int)
    missing = events - counts.sum()
    counts[np.argsort(counts - ideal, kind="stable")[:missing]] += 1
    return counts.tolist()


def blocks(stream: str, seed: int, processes: Sequence[Process], counts: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """Yield (place of the process, its seed, events) of all blocks, process by process.

    Args:
        stream: name of the sample, for `pipelines.simulation.pythia.block_seed`.
        seed: the user's.
        processes, counts: the processes, and how many events of each are wanted.
    """
    for place, (process, count) in enumerate(zip(processes, counts)):
        for block, size in pythia.blocks(count):
            yield place, pythia.block_seed(f"{stream} {process.name}", seed, block), size


def generate(
    process: Process, seed: int, events: int, reconstruct: pythia.Reconstruct
) -> tuple[pythia.Arrays, dict[str, int]]:
    """Return a block of accepted events of a process, and how many were generated and accepted for it.

    Differs from `pipelines.simulation.pythia.generate` in that it counts what was accepted beyond `events`, without
    which the efficiency is biased, and in its `PATIENCE`.

    Raises:
        InputError: as `pipelines.simulation.pythia.generator`; `PATIENCE` events in a row are not accepted.
    """
    with _ready(process) as settings:
        engine = pythia.generator(settings, seed)
    batches: list[pythia.Arrays] = []
    accepted = number = last = 0
    while accepted < events:
        arrays = reconstruct(pythia.read_batch(engine), np.random.default_rng([seed, number]))
        number += 1
        size = len(next(iter(arrays.values())))
        if size:
            batches.append(arrays)
            accepted, last = accepted + size, number
        elif (number - last) * pythia.BATCH >= PATIENCE:
            raise InputError(
                f"{process.name}: none of {PATIENCE} generated events passes the selection; "
                f"choose another process, channel or mass"
            )
    joined = {name: np.concatenate([batch[name] for batch in batches])[:events] for name in batches[0]}
    generated = number * pythia.BATCH
    counts = {"generated": generated, f"{process.name} generated": generated, f"{process.name} accepted": accepted}
    return joined, counts


def efficiency(process: Process, counts: Mapping[str, int]) -> float:
    """Return accepted / generated of a process, from the counts of all its blocks.

    >>> efficiency(Process("ttbar", ()), {"ttbar generated": 200, "ttbar accepted": 50})
    0.25
    """
    return counts[f"{process.name} accepted"] / counts[f"{process.name} generated"]


@functools.lru_cache(maxsize=64)
def cross_section(process: Process) -> float:
    """Return the cross-section of a process in pb, with its cuts and its open decays, to about 1 %.

    A function of the process and of Pythia's version. Raises `InputError` as `pipelines.simulation.pythia.generator`.
    """
    with _ready(process) as settings:
        engine = pythia.generator([*settings, "PartonLevel:all = off", "HadronLevel:all = off"], seed=1)
    for _ in range(0, _MOST, _STEP):
        engine.nextBatch(_STEP)
        found = engine.infoPython()
        if found.sigmaErr() < _PRECISION * found.sigmaGen():
            break
    return found.sigmaGen() * process.branching * 1e9  # Pythia counts in mb


@contextlib.contextmanager
def _ready(process: Process) -> Iterator[list[str]]:
    """Give the settings with the path of the spectrum in them, in a file of its own while it is read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "spectrum.slha")
        path.write_text(process.spectrum)
        yield [line.replace(SPECTRUM, str(path)) for line in process.settings]


def shuffled(lines: list[Any], seed: int) -> list[Any]:
    """Return the items in an order that follows from the seed alone.

    >>> sorted(shuffled([1, 2, 3], seed=1))
    [1, 2, 3]
    """
    return [lines[place] for place in np.random.default_rng([seed, len(lines)]).permutation(len(lines))]
