"""How fast tables become events, by format, against reading the same columns with the library alone.

    python benchmarks/tables.py [--events 500000] [--columns 40] [--workers 1] [--repeats 3] [--json FILE]

A table of random float32 columns is written in every format, then converted, the formats taking turns so that what
else the machine does hits all alike: compare within a run, never across runs. "library" reads the columns into memory
and does nothing with them, which nothing that converts them can do without; "write" makes the same events file from
arrays in memory, which is mostly gzip.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow
from pyarrow import csv, parquet
from rich.console import Console
from rich.table import Table

from pipelines.datasets.table import convert
from pipelines.events.events import BLOCK, EventsWriter

Columns = dict[str, np.ndarray]


def main() -> None:
    """Read the command line, write the tables, time everything, print the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--columns", type=int, default=40)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds; medians are shown")
    parser.add_argument("--json", type=Path, help="file for every number")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        times = measure(Path(folder), make(options.events, options.columns), options)
    report(times, options)
    if options.json:
        options.json.write_text(json.dumps({"options": vars(options) | {"json": None}, "seconds": times}, indent=2))


def make(events: int, columns: int) -> Columns:
    """Return columns of numbers with the seven digits that float32 has, as real ones do."""
    rng = np.random.default_rng(1)
    names = ["mjj"] + [f"x{i}" for i in range(1, columns)]
    return {name: rng.uniform(1000, 7000, events).astype(np.float32) for name in names}


def write_csv(path: Path, columns: Columns) -> None:
    """Write text by Arrow, gzipped if the name says so."""
    with gzip.open(path, "wb", 1) if path.suffix == ".gz" else open(path, "wb") as file:
        csv.write_csv(pyarrow.table(columns), file)


def write_hdf5(path: Path, columns: Columns) -> None:
    """Write `features` and their names."""
    with h5py.File(path, "w") as file:
        file["features"] = np.stack(list(columns.values()), axis=1)
        file.attrs["columns"] = list(columns)


def write_npz(path: Path, columns: Columns) -> None:
    """Write one array a column."""
    np.savez(path, **columns)


def write_npy(path: Path, columns: Columns) -> None:
    """Write records."""
    records = np.empty(len(columns["mjj"]), [(name, np.float32) for name in columns])
    for name, values in columns.items():
        records[name] = values
    np.save(path, records)


def read_hdf5(path: Path) -> np.ndarray:
    """Read `features` whole."""
    with h5py.File(path) as file:
        return file["features"][:]


FORMATS: dict[str, tuple[Callable[[Path, Columns], None], Callable[[Path], object]]] = {
    "table.csv": (write_csv, lambda path: csv.read_csv(path, csv.ReadOptions(use_threads=False))),
    "table.csv.gz": (write_csv, lambda path: csv.read_csv(path, csv.ReadOptions(use_threads=False))),
    "table.parquet": (
        lambda path, columns: parquet.write_table(pyarrow.table(columns), path, row_group_size=BLOCK),
        lambda path: parquet.read_table(path, use_threads=False),
    ),
    "table.npy": (write_npy, lambda path: np.load(path)),
    "table.npz": (write_npz, lambda path: dict(np.load(path))),
    "table.h5": (write_hdf5, read_hdf5),
}


def measure(folder: Path, columns: Columns, options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Return seconds of every round, by format, for the library alone and for the conversion."""
    for name, (write, _) in FORMATS.items():
        write(folder / name, columns)
    sizes = {name: os.path.getsize(folder / name) / 1e6 for name in FORMATS}
    times: dict[str, dict[str, list[float]]] = {
        name: {"megabytes": [sizes[name]], "library": [], "convert": []} for name in FORMATS
    }
    times["write"] = {"convert": []}
    for _ in range(options.repeats):
        for name, (_, read) in FORMATS.items():
            times[name]["library"].append(seconds(lambda read=read, name=name: read(folder / name)))
            times[name]["convert"].append(seconds(lambda name=name: converted(folder, name, options)))
        times["write"]["convert"].append(seconds(lambda: write_alone(folder / "out" / "events.h5", columns)))
        shutil.rmtree(folder / "out")
    return times


def converted(folder: Path, name: str, options: argparse.Namespace) -> None:
    """Convert a table to events with all columns."""
    out = folder / "out" / f"{name}.events.h5"
    found = convert(folder / name, out, mass="mjj", workers=options.workers)
    assert found.events == options.events


def write_alone(path: Path, columns: Columns) -> None:
    """Write the events file from memory."""
    features = np.stack(list(columns.values()), axis=1)
    with EventsWriter(path, columns=list(columns)) as writer:
        for start in range(0, len(features), BLOCK):
            block = features[start : start + BLOCK]
            writer.append(features=block, mass=block[:, 0])


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def report(times: dict[str, dict[str, list[float]]], options: argparse.Namespace) -> None:
    """Print medians."""
    title = f"{options.events:,} events, {options.columns} columns, {options.workers} worker(s)"
    table = Table("", "MB", "library, s", "convert, s", "events/s", title=title)
    for name, found in times.items():
        convert_s = statistics.median(found["convert"])
        library = f"{statistics.median(found['library']):.2f}" if "library" in found else ""
        size = f"{found['megabytes'][0]:.0f}" if "megabytes" in found else ""
        table.add_row(name, size, library, f"{convert_s:.2f}", f"{options.events / convert_s:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
