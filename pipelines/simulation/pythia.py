"""The engine of the simulation: Pythia 8 events as NumPy arrays, in blocks that know nothing of each other.

A sample is cut into blocks of at most `BLOCK` accepted events. Each block has a Pythia of its own, whose seed follows
from the sample's seed and the block's number. Its detector's random numbers follow from that. So a sample depends on
its settings, its seed and its size alone, not on who made which block; and a smaller sample is the beginning of a
larger one.

Pythia 8.3: C. Bierlich et al., SciPost Phys. Codebases 8 (2022), arXiv 2203.11601.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipelines.errors import InputError

BLOCK = 500
"""Accepted events in a block: starting Pythia takes 0.3 s, generating them some seconds."""

BATCH = 50
"""Events Pythia is asked for at once; a part of the result, because the detector's random numbers follow batches."""

PATIENCE = 5_000
"""Events that are generated in vain before a block is given up: the selection then takes less than about 1 in 1,000."""

_SEEDS = 899_999_963  # the largest prime below 900,000,000, where Pythia's seeds end

Arrays = dict[str, np.ndarray]
Reconstruct = Callable[["Record", np.random.Generator], Arrays]


class Record(NamedTuple):
    """Particles of some events, one after the other: arrays (M,), and `counts` (N,) that says how many each has.

    `id` is the PDG code, `status` Pythia's (> 0: final); `charge` in units of e; momenta in GeV; `mother1` to
    `daughter2` are places in the complete record of the event, as Pythia counts them; `x`, `y`, `z` is where a
    particle was produced, mm; `visible` is False for neutrinos and the like.
    """

    counts: np.ndarray
    id: np.ndarray
    status: np.ndarray
    mother1: np.ndarray
    mother2: np.ndarray
    daughter1: np.ndarray
    daughter2: np.ndarray
    px: np.ndarray
    py: np.ndarray
    pz: np.ndarray
    energy: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    charge: np.ndarray
    visible: np.ndarray

    @property
    def event(self) -> np.ndarray:
        """Which event (0 to N - 1) each particle belongs to, (M,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @property
    def pt(self) -> np.ndarray:
        """Transverse momenta, GeV, (M,)."""
        return np.hypot(self.px, self.py)

    @property
    def eta(self) -> np.ndarray:
        """Pseudorapidities, (M,); infinite along the beam."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.arcsinh(self.pz / self.pt)

    @property
    def phi(self) -> np.ndarray:
        """Azimuths in (-pi, pi], (M,)."""
        return np.arctan2(self.py, self.px)

    def take(self, chosen: np.ndarray) -> Record:
        """Keep the particles of a mask (M,); events may become empty but stay."""
        counts = np.bincount(self.event[chosen], minlength=len(self.counts))
        return Record(counts, *(quantity[chosen] for quantity in self[1:]))


def final_state(record: Record) -> Record:
    """Return the particles that reach a detector or leave it unseen: those that neither decayed nor branched."""
    return record.take(record.status > 0)


def block_seed(stream: str, seed: int, block: int) -> int:
    """Return Pythia's seed, 1 to 899,999,963, for a block of a stream of random numbers.

    start + block * stride modulo a prime, with start and stride a hash of the stream's name and the user's seed:
    no two blocks of a stream share a seed, and those of different streams no more often than by chance.

    >>> seeds = {block_seed("lhco_qcd", 7, block) for block in range(10_000)}
    >>> len(seeds), min(seeds) >= 1, max(seeds) < 900_000_000
    (10000, True, True)
    """
    digest = hashlib.sha256(f"{stream} {seed}".encode()).digest()
    start, stride = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:16], "big")
    return 1 + (start + block * (1 + stride % (_SEEDS - 1))) % _SEEDS


def version() -> str:
    """Return the version of Pythia, as its Python package counts; raises `InputError` if it is not installed."""
    _import()
    return importlib.metadata.version("pythia8mc")


def generator(settings: Sequence[str], seed: int) -> Any:
    """Return a Pythia that is ready for `read_batch`.

    Args:
        settings: lines as `HardQCD:all = on`, in Pythia's own words.
        seed: 1 to 900,000,000, as of `block_seed`.

    Raises:
        InputError: Pythia is not installed, refuses a setting (which is named), or cannot start with them.

    Example:
        >>> pythia = generator(["HardQCD:all = on", "PhaseSpace:pTHatMin = 1000"], seed=1)
        >>> read_batch(pythia, 3).counts.shape
        (3,)
    """
    with _captured_stdout() as said:
        pythia = _import().Pythia("", False)  # no banner
        for line in ("Print:quiet = on", "Random:setSeed = on", f"Random:seed = {seed}", *settings):
            # A value out of range is not refused: Pythia says so, keeps the old one and goes on.
            if not pythia.readString(line, False) or said():
                raise InputError(f"Pythia refuses the setting {line!r}{_because(said())}; see its manual for its name")
        if not pythia.init():
            raise InputError(f"Pythia cannot start with {', '.join(settings)}{_because(said())}")
    return pythia


def read_batch(pythia: Any, size: int = BATCH) -> Record:
    """Generate `size` events and return their complete records, system line (place 0) and partons included.

    One call of Pythia's `nextBatch`: it fills the arrays in C++, which costs nothing beside the events
    themselves, while reading particles in Python takes as long as half of an event.
    """
    import awkward as ak

    particles = pythia.nextBatch(size).prt
    counts = ak.num(particles).to_numpy()
    flat = ak.flatten(particles)
    momentum, vertex = flat.p, flat.vProd
    names = ("id", "status", "mother1", "mother2", "daughter1", "daughter2")
    return Record(
        *(
            counts,
            *(flat[name].to_numpy() for name in names),
            *(momentum[name].to_numpy() for name in ("px", "py", "pz", "e")),
            *(ak.fill_none(vertex[name], 0.0).to_numpy() for name in ("px", "py", "pz")),
            *_properties(pythia, flat["id"].to_numpy()),
        )
    )


def generate(
    settings: Sequence[str], seed: int, events: int, reconstruct: Reconstruct
) -> tuple[Arrays, dict[str, int]]:
    """Generate until `events` are accepted: the work of one block.

    Args:
        settings: as for `generator`.
        seed: of this block, from `block_seed`.
        events: accepted events wanted, >= 1.
        reconstruct: detector and selection: given the records of a batch and random numbers of its own, returns
            arrays by name of the events it accepts, all of one length.

    Returns:
        Those arrays, the first axis `events`; and counts: `generated` events, in whole batches.

    Raises:
        InputError: as `generator`; `PATIENCE` events in a row are generated and none is accepted.
    """
    pythia = generator(settings, seed)
    batches: list[Arrays] = []
    accepted = number = last = 0
    while accepted < events:
        chosen = reconstruct(read_batch(pythia), np.random.default_rng([seed, number]))
        number += 1
        size = len(next(iter(chosen.values())))
        if size:
            batches.append(chosen)
            accepted, last = accepted + size, number
        elif (number - last) * BATCH >= PATIENCE:
            raise InputError(
                f"none of {PATIENCE} generated events passes the selection, with {', '.join(settings)}; "
                f"choose masses for which more do"
            )
    joined = {name: np.concatenate([batch[name] for batch in batches])[:events] for name in batches[0]}
    return joined, {"generated": number * BATCH}


def blocks(events: int) -> Iterator[tuple[int, int]]:
    """Yield the number and size of the blocks of a sample.

    >>> list(blocks(1200))
    [(0, 500), (1, 500), (2, 200)]
    """
    for block, first in enumerate(range(0, events, BLOCK)):
        yield block, min(BLOCK, events - first)


def _import() -> Any:
    try:
        import pythia8mc
    except ImportError:
        raise InputError("the simulation needs Pythia 8, which is not installed; try pip install '.[sim]'") from None
    return pythia8mc


def _properties(pythia: Any, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return charge and visibility of particles, from Pythia's table."""
    kinds, place = np.unique(codes, return_inverse=True)
    table: Any = pythia.particleData
    charge = np.array([table.charge(int(kind)) for kind in kinds])
    visible = np.array([table.isVisible(int(kind)) for kind in kinds])
    return charge[place], visible[place]


def _because(said: str) -> str:
    line = " ".join(said.split())
    return f" ({line[:150]})" if line else ""


@contextlib.contextmanager
def _captured_stdout() -> Iterator[Callable[[], str]]:
    """Keep what C++ prints on stdout, where it would break machine-readable output; gives a way to read it."""
    if sys.stdout:
        sys.stdout.flush()
    with tempfile.TemporaryFile() as file:
        try:
            stdout = os.dup(1)
        except OSError:  # there is none
            stdout = None
        try:
            os.dup2(file.fileno(), 1)
            yield lambda: os.pread(file.fileno(), 4096, 0).decode(errors="replace")
        finally:
            if stdout is None:
                os.close(1)
            else:
                os.dup2(stdout, 1)
                os.close(stdout)
