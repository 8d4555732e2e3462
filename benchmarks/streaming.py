"""Training from a file larger than the memory allowed, against training from memory; and memory against file size.

    python benchmarks/streaming.py [--limit 2] [--size 8] [--steps 600] [--only training|memory] [--json FILE]

GAN-AE, preset "lhco2020", batch 2048. Files are made by repeating the compressed chunks of the embedded training sample,
so that reading them costs what reading events costs. Every row is a process of its own, put into a control group that
may use `--limit` GB where the machine lets us make one (cgroup v1, as root); what it used at most is shown in any case.

- *memory*: a part of the file that fits into memory, held there (`InMemory`);
- *first pass*: the whole file, larger than memory: read, decompressed and scaled, and kept in a cache on disk (`OnDisk`);
- *later passes*: the same process, from that cache;
- *no cache*: read, decompressed and scaled at every pass (`FromFile`).

Events per second are those of `--steps` steps, half of them of the discriminator's and auto-encoder's turns as in a
cycle of the paper, medians over rounds; the ratio is to *memory* of the same round of processes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
from rich.console import Console
from rich.table import Table

import pipelines
from pipelines.events import CHUNK

BATCH = 2048
SIZES = (0.5, 1, 2, 4)


def main() -> None:
    """Read the command line, run every row in a process of its own, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=2, help="GB a process may use")
    parser.add_argument("--size", type=float, default=8, help="GB of float32 in the training file")
    parser.add_argument("--steps", type=int, default=600, help="steps of a timed round")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds of each row")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where files and caches go")
    parser.add_argument("--only", choices=["training", "memory"])
    parser.add_argument("--json", type=Path, help="also write every number to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(child(**json.loads(given.child))))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        found = measure(given, Path(folder))
    show(given, found)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


def measure(given: argparse.Namespace, folder: Path) -> dict[str, list[dict]]:
    """Return the rows of both tables."""
    found: dict[str, list[dict]] = {"training": [], "memory": []}
    common = {"steps": given.steps, "rounds": given.rounds, "limit": given.limit, "cache": str(folder)}
    if given.only != "memory":
        path = make_file(folder / "large.h5", given.size)
        held = int(0.25 * given.limit * 1e9)
        for name, options in {
            "memory": {"memory": held, "events": held // 4 // 50},
            "cache": {"memory": 0, "whole_pass": True},
            "no cache": {"memory": 0, "cache": ""},
        }.items():
            found["training"] += run(name=name, path=str(path), **common | options)
        path.unlink()
    if given.only != "training":
        for size in SIZES:
            path = make_file(folder / f"{size}.h5", size)
            found["memory"] += run(name=f"{size:g} GB", path=str(path), **common | {"memory": 0, "rounds": 1})
            path.unlink()
    return found


def make_file(path: Path, gigabytes: float) -> Path:
    """Write an events file of so many GB of features by repeating compressed chunks, and return its path."""
    sample = pipelines.open("lhco_sim_train")
    rows = len(sample) // CHUNK * CHUNK
    sample.take(range(rows)).write(path)
    with h5py.File(path, "r+") as file:
        copies = round(gigabytes * 1e9 / (4 * file["features"].shape[1] * rows))
        for name in ("features", "mass"):
            data = file[name]
            chunks = [data.id.read_direct_chunk((row, 0)[: data.ndim]) for row in range(0, rows, CHUNK)]
            data.resize(copies * rows, axis=0)
            for row in range(rows, copies * rows, CHUNK):
                filters, raw = chunks[row // CHUNK % len(chunks)]
                data.id.write_direct_chunk((row, 0)[: data.ndim], raw, filters)
    return path


def run(**options) -> list[dict]:
    """Run a row in a process of its own."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, "--child", json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        return [
            {"name": options["name"], "failed": (done.stderr.strip() or f"killed ({done.returncode})").splitlines()[-1]}
        ]
    return json.loads(done.stdout.splitlines()[-1])


def child(name, path, steps, rounds, limit, memory, cache, events=None, whole_pass=False) -> list[dict]:
    """Train in this process, and return what was measured."""
    limited = join_group(limit)
    import zoo
    from zoo.keras import keras

    given = pipelines.open(path)
    given = given if events is None else given.take(range(min(events, len(given))))
    start = time.perf_counter()
    model = zoo.get("gan_ae", preset="lhco2020", batch_size=BATCH)
    model.adapt(given)
    batches = model.batches(given, model.weighting(given), memory=memory, cache=cache)
    ready = time.perf_counter() - start
    model.steps_per_pass.assign(max(1, steps // 12))  # so that a round has the turns of a cycle
    model.compile(optimizer=model.optimizers[0], jit_compile=True, steps_per_execution=min(steps, 64))
    model.phase.assign(len(model.recipe()) - 1)
    seconds: list[float] = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            seconds.append(time.perf_counter() - self.began)

    first = -(-batches.steps // steps) if whole_pass else 0
    turns = 1 + max(first, 0) + rounds  # the first one compiles
    keras.Model.fit(model, batches.shuffled(), epochs=turns, steps_per_epoch=steps, verbose=0, callbacks=[Clock()])
    about = {
        "kept": batches.kept,
        "events": len(given),
        "setup_s": ready,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "limited": limited,
    }
    rate = [steps * BATCH / s for s in seconds]
    if not whole_pass:
        return [{"name": name, "events_per_s": rate[1:], **about}]
    early, late = rate[1 : first - 1] or rate[1:2], rate[-rounds:]
    return [
        {"name": "first pass", "events_per_s": early, **about},
        {"name": "later passes", "events_per_s": late, **about},
    ]


def join_group(limit: float) -> bool:
    """Put this process into a new control group of so many GB, page cache included; tell whether that was possible."""
    group = Path("/sys/fs/cgroup/memory") / f"streaming-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(int(limit * 1e9)))
        (group / "cgroup.procs").write_text(str(os.getpid()))
        return True
    except OSError:
        return False


def show(given: argparse.Namespace, found: dict[str, list[dict]]) -> None:
    """Print the tables."""
    console = Console(width=120, highlight=False)
    cores = len(os.sched_getaffinity(0))
    if found["training"]:
        base = statistics.median(found["training"][0]["events_per_s"])
        title = f"GAN-AE from a file of {given.size:g} GB, {given.limit:g} GB allowed, {cores} cores"
        table = Table("", "kept", "events", "set-up, s", "events/s", "ratio", "peak memory, MB", "limited", title=title)
        for row in found["training"]:
            if "failed" in row:
                table.add_row(row["name"], row["failed"])
                continue
            rate = statistics.median(row["events_per_s"])
            numbers = f"{row['events']:,}", f"{row['setup_s']:.0f}", f"{rate:,.0f}", f"{rate / base:.2f}"
            limited = "yes" if row["limited"] else "no"
            table.add_row(row["name"], row["kept"], *numbers, f"{row['peak_mb']:,.0f}", limited)
        console.print(table)
    if found["memory"]:
        table = Table("file", "events", "peak memory, MB", title=f"Peak memory, {cores} cores")
        for row in found["memory"]:
            table.add_row(row["name"], f"{row.get('events', 0):,}", row.get("failed") or f"{row['peak_mb']:,.0f}")
        console.print(table)


if __name__ == "__main__":
    main()
