"""How fast raw hadrons become jet variables, against a plain loop over events, and where the time goes.

    python benchmarks/jets.py FILE [--events 1000] [--rounds 5]

FILE is a raw LHC Olympics file. Times are of the processor, on one core, for one event. The plain loop is that of
`tests/plain_jets.py`: FastJet's own particles for each event, NumPy arrays for each jet. All rows of a round run one
after the other, and a ratio is taken within a round: other work on the machine then hits all alike.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from pipelines.datasets import lhco
from pipelines.features import jets
from pipelines.features.images import ImageOptions

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from plain_jets import plain_event

PLAIN = "plain loop"


class Row(NamedTuple):
    """Microseconds of processor time for one event, and how many times faster than the plain loop: one per round."""

    name: str
    microseconds: list[float]
    ratios: list[float]


def main() -> None:
    """Read the command line, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, help="raw LHC Olympics file")
    parser.add_argument("--events", type=int, default=1000, help="the first events of the file")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    if given.events < 1 or given.rounds < 1:
        parser.error("expected --events and --rounds of at least 1")
    rows = measure(given.file, given.events, given.rounds)
    title = f"{given.file.name}, {given.events} events, {given.rounds} rounds: median (least to most)"
    table = Table("", "µs per event", "times faster than the plain loop", title=title)
    for row in rows:
        table.add_row(row.name, spread(row.microseconds, 0), spread(row.ratios, 1))
    Console(width=100, highlight=False).print(table)


def measure(path: Path, events: int, rounds: int = 5) -> list[Row]:
    """Time the plain loop, the product, and the product's parts on the first events of a raw file."""
    *hadrons, _ = next(lhco.read_raw(path, block=events))
    events = len(hadrons[-1])
    jets.cluster_events(*hadrons)  # compiles, or loads what was compiled; FastJet prints its citation
    work = {PLAIN: functools.partial(plain, hadrons)} | product(hadrons, path, events)
    seconds = [{name: processor_time(action) for name, action in work.items()} for _ in range(rounds)]
    return [
        Row(name, [1e6 * turn[name] / events for turn in seconds], [turn[PLAIN] / turn[name] for turn in seconds])
        for name in work
    ]


def plain(hadrons: list[np.ndarray]) -> None:
    """Compute the variables one event at a time."""
    *momenta, counts = hadrons
    for event in np.split(np.stack(momenta, axis=1), np.cumsum(counts)[:-1]):
        plain_event(event)


def product(hadrons: list[np.ndarray], path: Path, events: int) -> dict[str, Callable[[], object]]:
    """Return what is timed of the product, by name."""
    options = jets.JetOptions()
    momenta = jets._four_momenta(*hadrons)
    jagged = jets._jagged(momenta, hadrons[-1])
    found = jets._leading_jets(jagged, options)
    constituents = momenta.take(found.hadron)
    return {
        "47 variables": functools.partial(jets.cluster_events, *hadrons),
        "three jets, by mass": functools.partial(jets.cluster_events, *hadrons, njets=3, order="mass"),
        "with images": functools.partial(jets.find_jets, *hadrons, images=ImageOptions()),
        "  anti-kt jets alone": functools.partial(jets._leading_jets, jagged, options),
        "  substructure alone": functools.partial(jets._jet_variables, found, constituents, options),
        "reading the file": lambda: next(lhco.read_raw(path, block=events)),
    }


def processor_time(action: Callable[[], object]) -> float:
    """Return the seconds of processor time that an action takes."""
    start = time.process_time()
    action()
    return time.process_time() - start


def spread(values: list[float], digits: int) -> str:
    """Return median and range as text."""
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, statistics.median, max))
    return f"{middle} ({low} to {high})"


if __name__ == "__main__":
    main()
