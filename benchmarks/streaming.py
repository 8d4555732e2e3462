"""Training from a file larger than the memory allowed, against training from memory; and memory against file size.

    python benchmarks/streaming.py [--limit 2] [--size 8] [--steps 1800] [--rounds 3] [--only training|memory] [--json FILE]

GAN-AE, preset "lhco2020", batch 2048. Files are made by repeating the compressed chunks of the embedded training sample,
so that reading them costs what reading events costs. Every row is a process of its own, put into a control group that
may use `--limit` GB, page cache included, where the machine lets us make one (cgroup v1, as root); what it used at most
is shown in any case.

- *memory*: a part of the file that fits into memory, held there (`InMemory`);
- *first pass*: the whole file, larger than memory: read, decompressed and scaled, and kept in a cache on disk (`OnDisk`);
- *later passes*: the same process, from that cache;
- *no cache*: read, decompressed and scaled at every pass (`FromFile`).

Processes train in turns, one round of `--steps` steps each, with the discriminator's and auto-encoder's turns as in a cycle
of the paper, so that whatever else the machine does hits all alike. Shown are medians over rounds, the ratios to *memory*
within a round.
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
from pipelines.events.events import CHUNK

BATCH = 2048
SIZES = (0.5, 1, 2, 4)


def main() -> None:
    """Read the command line, run every row in a process of its own, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=2, help="GB a process may use")
    parser.add_argument("--size", type=float, default=8, help="GB of float32 in the training file")
    parser.add_argument(
        "--steps",
        type=int,
        default=1800,
        help="steps of a timed round: many pools of events, since one or two are read while others have their turn",
    )
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds of each row")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where files and caches go")
    parser.add_argument("--only", choices=["training", "memory"])
    parser.add_argument("--json", type=Path, help="also write every number to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(**json.loads(given.child))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        found = measure(given, Path(folder))
    show(given, found)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


def measure(given: argparse.Namespace, folder: Path) -> dict[str, list[dict]]:
    """Return the rows of both tables."""
    found: dict[str, list[dict]] = {"training": [], "memory": []}
    common = {"steps": given.steps, "limit": given.limit, "cache": str(folder)}
    if given.only != "memory":
        path = make_file(folder / "large.h5", given.size)
        held = int(0.25 * given.limit * 1e9)
        memory = Child(path=str(path), **common | {"memory": held, "events": held // 4 // 50})
        cached = Child(path=str(path), **common | {"memory": 0})
        plain = Child(path=str(path), **common | {"memory": 0, "cache": ""})
        rounds = [(memory.train(), cached.train(), plain.train()) for _ in range(given.rounds)]
        for _ in range(cached.about["rounds_of_a_pass"] - given.rounds):  # to the end of its first pass
            cached.train()
        later = [(memory.train(), cached.train()) for _ in range(given.rounds)]
        for name, child, pairs in (
            ("memory", memory, [(m, m) for m, *_ in rounds + later]),
            ("first pass", cached, [(m, c) for m, c, _ in rounds]),
            ("later passes", cached, later),
            ("no cache", plain, [(m, p) for m, _, p in rounds]),
        ):
            rates = {
                "events_per_s": [given.steps * BATCH / own for _, own in pairs],
                "ratio": [m / o for m, o in pairs],
            }
            found["training"].append({"name": name, **rates, "child": child})
        for child in (memory, cached, plain):
            child.stop()
        found["training"] = [row | row.pop("child").about for row in found["training"]]
        path.unlink()
    if given.only != "training":
        for size in SIZES:
            path = make_file(folder / f"{size}.h5", size)
            child = Child(path=str(path), **common | {"memory": 0})
            child.train()
            child.stop()
            found["memory"].append({"name": f"{size:g} GB", **child.about})
            path.unlink()
    return found


class Child:
    """A process that trains a round when it is told to; ready, with everything compiled, when this returns."""

    def __init__(self, **options):
        command = [sys.executable, __file__, "--child", json.dumps(options)]
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, text=True, env=environment, **pipes)
        self.about = self._answer()
        self.train()

    def train(self) -> float:
        """Return the seconds of a round."""
        return self._ask("train")["seconds"]

    def stop(self) -> None:
        """End the process and add to `about` what it used."""
        self.about |= self._ask("stop")
        self._process.wait()

    def _ask(self, what: str) -> dict:
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a training process died ({self._process.wait()}), perhaps for want of memory")
        return json.loads(line)


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


def child(path, steps, limit, memory, cache, events=None) -> None:
    """Train in this process, a round for every line on stdin, and answer each with a line."""
    answers, sys.stdout = sys.stdout, sys.stderr
    limited = join_group(limit)
    import zoo
    from zoo.keras import keras

    def answer(**values) -> None:
        print(json.dumps(values), file=answers, flush=True)

    given = pipelines.open(path)
    given = given if events is None else given.take(range(min(events, len(given))))
    start = time.perf_counter()
    model = zoo.get("gan_ae", preset="lhco2020", batch_size=BATCH)
    model.adapt(given)
    batches = model.batches(given, model.weighting(given), memory=memory, cache=cache)
    about = {"kept": batches.kept, "events": len(given), "setup_s": time.perf_counter() - start, "limited": limited}
    answer(**about, rounds_of_a_pass=-(-batches.steps // steps))
    model.compile(optimizer=model.optimizers[0], jit_compile=True, steps_per_execution=min(steps, 64))
    model.trainer.enter(model.recipe()[-1], steps=max(1, steps // 12))  # so that a round has the turns of a cycle

    class Rounds(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.go_on = sys.stdin.readline().strip() == "train"
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            seconds = time.perf_counter() - self.began
            if self.go_on:
                answer(seconds=seconds)
            self.model.stop_training = not self.go_on

    options = {"epochs": 1_000_000, "steps_per_epoch": steps, "verbose": 0, "callbacks": [Rounds()]}
    keras.Model.fit(model, batches.shuffled(), **options)
    answer(peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


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
        title = f"GAN-AE from a file of {given.size:g} GB, {given.limit:g} GB allowed, {cores} cores"
        table = Table("", "kept", "events", "set-up, s", "events/s", "ratio", "peak memory, MB", "limited", title=title)
        for row in found["training"]:
            rate, ratio = statistics.median(row["events_per_s"]), statistics.median(row["ratio"])
            spread = f" ({min(row['ratio']):.2f} to {max(row['ratio']):.2f})" if row["name"] != "memory" else ""
            numbers = f"{row['events']:,}", f"{row['setup_s']:.0f}", f"{rate:,.0f}", f"{ratio:.2f}{spread}"
            limited = "yes" if row["limited"] else "no"
            table.add_row(row["name"], row["kept"], *numbers, f"{row['peak_mb']:,.0f}", limited)
        console.print(table)
    if found["memory"]:
        table = Table("file", "events", "peak memory, MB", title=f"Peak memory, {cores} cores")
        for row in found["memory"]:
            table.add_row(row["name"], f"{row['events']:,}", f"{row['peak_mb']:,.0f}")
        console.print(table)


if __name__ == "__main__":
    main()
