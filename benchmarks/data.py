"""How fast published files become events, on one core and on all, and training from a file larger than memory.

    python benchmarks/data.py [--events 24000] [--size 8] [--limit 2] [--skip streaming]

Runs, one after the other, and prints their tables: jets against a plain loop (benchmarks/jets.py), jets on 1, 2, 4, ...
processes, Dark Machines lines against pandas (darkmachines.py), ROOT against plain uproot (atlas.py), tables against the
libraries that read them (tables.py), and training from disk (streaming.py). Compare within a table only.

For the table of processes the embedded published events are repeated to `--events`. *chunks* is the time in which the chunks
are done, from the first to the last: what the processes share. *all* has also their start, some seconds, and the joining of
the chunks into one file.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
from rich.console import Console
from rich.table import Table

from pipelines.datasets import lhco
from pipelines.datasets.find import find
from pipelines.jobs.executors import cores

HERE = Path(__file__).parent
OTHERS = ("jets", "darkmachines", "atlas", "tables", "streaming")


def main() -> None:
    """Read the command line, run everything, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=24_000, help="raw events for the table of processes")
    parser.add_argument("--size", type=float, default=8, help="GB of the training file")
    parser.add_argument("--limit", type=float, default=2, help="GB that training may use")
    parser.add_argument("--skip", choices=[*OTHERS, "processes"], action="append", default=[])
    given = parser.parse_args()
    options = {"jets": [find("lhco_rnd_real")], "streaming": ["--size", given.size, "--limit", given.limit]}
    for name in OTHERS:
        if name == "darkmachines" and "processes" not in given.skip:
            processes(given.events)
        if name not in given.skip:
            command = [sys.executable, HERE / f"{name}.py", *options.get(name, [])]
            subprocess.run([str(word) for word in command], check=True)


def processes(events: int) -> None:
    """Cluster raw events with 1, 2, 4, ... processes and print how much faster it gets."""
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n < cores()] + [cores()]
    table = Table(
        "processes", "events/s, chunks", "speed-up", "events/s, all", title=f"Jets of {events:,} published events"
    )
    with tempfile.TemporaryDirectory() as folder:
        raw = repeated(Path(folder) / "raw.h5", events)
        base = None
        for count in counts:
            chunks, everything = timed(raw, Path(folder) / f"{count}.h5", count)
            base = base or chunks
            table.add_row(str(count), f"{chunks:,.0f}", f"{chunks / base:.2f}", f"{everything:,.0f}")
    Console(width=100, highlight=False).print(table)


def timed(raw: Path, out: Path, count: int) -> tuple[float, float]:
    """Return events per second of the chunks after the first, and of the whole."""
    seen: list[tuple[float, int]] = []
    os.environ["OMP_NUM_THREADS"] = "1"
    start = time.perf_counter()
    options = {"block": 1000, "workers": count}
    done = lhco.convert(raw, out, progress=lambda events, total: seen.append((time.perf_counter(), events)), **options)
    # every process compiles, or loads what was compiled, with its first chunk
    (first, before), (last, after) = seen[count - 1], seen[-1]
    return (after - before) / (last - first), done.events / (time.perf_counter() - start)


def repeated(path: Path, events: int) -> Path:
    """Write the embedded published events again and again, up to `events`."""
    with h5py.File(find("lhco_rnd_real")) as source, h5py.File(path, "w") as file:
        rows = source[lhco.TABLE][:]
        table = file.create_dataset(lhco.TABLE, (events, rows.shape[1]), rows.dtype, chunks=(100, rows.shape[1]))
        for start in range(0, events, len(rows)):
            table[start : start + len(rows)] = rows[: events - start]
    return path


if __name__ == "__main__":
    main()
