"""How fast Dark Machines lines are read on one core: the zoo, a plain loop over lines, and pandas.

    python benchmarks/darkmachines.py [FILE]

FILE is a file of the challenge, also compressed; by default lines like the challenge's are made, seven objects each.
All rows of a run take turns, so that a busy machine slows all of them; medians are shown. Rates are for a second of one
core's time; the wall's, which other users of the machine and the disk make longer, is shown beside it. What rows give:

- *plain loop*: Python lists of floats, split at ; and , line by line;
- *pandas*: one table with a column for every number. pandas wants one separator and the number of columns beforehand,
  so ; becomes , and separators are counted for the longest line;
- *pandas, split after*: a table of event numbers and texts of objects, which are then split at their commas;
- *zoo, numbers*: `read_block`, exact;
- *zoo, events*: from the file to slots, features and truth, which the others do not give;
- *zoo, file*: `convert`, with the compressed events file written.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.datasets import darkmachines, darkmachines_files
from pipelines.datasets.darkmachines_lines import TYPES, read_block

SIZE = 8 * 2**20  # bytes of a file that are read


def make_lines(events: int, seed: int = 0) -> bytes:
    """Make lines like the challenge's: six digits, 4 to 10 objects, a semicolon at the end."""
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(events):
        count = rng.integers(4, 11)
        names = rng.choice(TYPES, count, p=[0.6, 0.12, 0.05, 0.05, 0.05, 0.05, 0.08])
        pt, eta, phi = (
            20_000 * (1 + rng.exponential(2, count)),
            rng.uniform(-2.5, 2.5, count),
            rng.uniform(-3, 3, count),
        )
        numbers = zip(names, 1.01 * pt * np.cosh(eta), pt, eta, phi)
        objects = ";".join(f"{name},{e:.6g},{pt:.6g},{eta:.6g},{phi:.6g}" for name, e, pt, eta, phi in numbers)
        head = f"{number};z_jets;1;{rng.exponential(80_000):.6g};{rng.uniform(-3, 3):.6g}"
        lines.append(f"{head};{objects};\n")
    return "".join(lines).encode()


def plain_loop(text: bytes) -> np.ndarray:
    """Return all pt, as everything below does to be compared."""
    events = []
    for line in text.decode().splitlines():
        _, process, weight, met, met_phi, *objects = line.split(";")
        objects = [(name, *map(float, numbers)) for name, *numbers in (o.split(",") for o in objects if o)]
        events.append((process, float(weight), float(met), float(met_phi), objects))
    return np.array([pt for *_, objects in events for _, _, pt, _, _ in objects])


def pandas_table(text: bytes) -> np.ndarray:
    widest = max(line.count(b";") * 5 for line in text.splitlines())
    text = text.replace(b";", b",")
    options = {"header": None, "names": range(widest + 1), "engine": "c", "low_memory": False}
    table = pd.read_csv(io.BytesIO(text), **options)
    pt = table.iloc[:, 7::5].to_numpy(float)
    return pt[np.isfinite(pt)]


def pandas_split(text: bytes) -> np.ndarray:
    widest = max(line.count(b";") for line in text.splitlines())
    table = pd.read_csv(io.BytesIO(text), sep=";", header=None, names=range(widest + 1), engine="c", low_memory=False)
    objects = table.iloc[:, 5:].stack().dropna().str.split(",", expand=True)
    return objects.iloc[:, 1:].astype(float).to_numpy()[:, 1]


def zoo_numbers(text: bytes) -> np.ndarray:
    return 1000 * read_block(text).momenta[:, 1]


def zoo_events(text: bytes) -> np.ndarray:
    piece = darkmachines_files.Piece("benchmark", text=text)
    arrays, _ = darkmachines._chunk(piece, darkmachines._Settings(blind=True))
    return arrays["features"]


def zoo_file(text: bytes) -> int:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "events.csv"
        source.write_bytes(text)
        return darkmachines.convert(source, Path(folder) / "events.h5", blind=True).events


READERS: dict[str, Callable[[bytes], object]] = {
    "plain loop": plain_loop,
    "pandas": pandas_table,
    "pandas, split after": pandas_split,
    "zoo, numbers": zoo_numbers,
    "zoo, events": zoo_events,
    "zoo, file": zoo_file,
}


def measure(path: str | Path, rounds: int = 5) -> list[dict[str, object]]:
    """Return a row for every reader: what, seconds (of one core) and wall, medians, MB/s of text and events/s."""
    with gzip.open(path) if darkmachines._is_gzip(path) else open(path, "rb") as file:
        text = file.read(SIZE) + file.readline()
    pts = {name: reader(text) for name, reader in READERS.items()}  # which compiles, too
    for name in list(READERS)[:4]:  # the same work is compared
        np.testing.assert_allclose(pts[name], pts["plain loop"], rtol=1e-14, err_msg=name)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in READERS}
    for _ in range(rounds):
        for name, reader in READERS.items():
            start, wall = time.process_time(), time.perf_counter()
            reader(text)
            times[name].append((time.process_time() - start, time.perf_counter() - wall))
    rows = []
    for name, both in times.items():
        seconds, wall = (statistics.median(values) for values in zip(*both))
        rates = {"MB/s": len(text) / 1e6 / seconds, "events/s": text.count(b"\n") / seconds}
        rows.append({"what": name, "seconds": seconds, "wall": wall, **rates})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", help="a Dark Machines file; by default lines are made")
    parser.add_argument("--rounds", type=int, default=5, help="times that each is timed (5)")
    parser.add_argument("--json", type=Path, help="write every number there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(options.file or Path(folder) / "made.csv")
        if options.file is None:
            path.write_bytes(make_lines(30_000))
        rows = measure(path, options.rounds)
    for row in rows:
        rates = f"{row['MB/s']:8.1f} MB/s {row['events/s']:10.0f} events/s"
        print(f"{row['what']:20}{row['seconds']:9.3f} s {rates}   (wall {row['wall']:.3f} s)")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
