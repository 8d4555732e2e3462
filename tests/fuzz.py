"""Damage a file of events, a table, or a spectrum so many times, and read it each time in a child of a small process.

HDF5 may hang in what is damaged, so each reading has a process of its own. It is forked from one that has no TensorFlow:
copying the tables of its memory takes most of the time otherwise.
"""

import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import hostile
import numpy as np

import pipelines
from pipelines import Events, InputError
from pipelines.datasets import convert, is_events, recognise
from pipelines.events.files import reason_of
from pipelines.spectrum_files import read as read_spectrum

LONGEST, MOST = 10.0, 10**9  # CPU seconds, bytes
WAITS = 12 * LONGEST  # seconds of the clock, on a machine that has other work


def write_csv(path, columns):
    rows = "".join(",".join(map(repr, map(float, row))) + "\n" for row in zip(*columns.values()))
    path.write_text(f"{','.join(columns)}\n{rows}")


def write_zipped(path, columns):
    import gzip

    write_csv(path.with_suffix(".txt"), columns)
    path.write_bytes(gzip.compress(path.with_suffix(".txt").read_bytes()))


def write_events(path, columns):
    Events.from_arrays(np.column_stack([columns["x"], columns["y"]]), columns["mjj"], ["x", "y"]).write(path)


def write_parquet(path, columns):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)


def write_frame(path, columns):
    """Write what pandas writes: groups of blocks, with the names beside them."""
    import h5py

    with h5py.File(path, "w") as file:
        group = file.create_group("df")
        group.attrs["nblocks"] = 1
        group["axis0"] = group["block0_items"] = np.array(list(columns), "S")
        group["block0_values"] = np.column_stack(list(columns.values()))


def write_tree(path, columns):
    import uproot

    with uproot.recreate(path) as file:
        file.mktree("events", {name: values.dtype for name, values in columns.items()})
        file["events"].extend(columns)


def write_histogram(path, columns):
    import uproot

    with uproot.recreate(path) as file:
        file["mjj"] = np.histogram(columns["mjj"], 10, (2000, 3000))


def write_darkmachines(path, columns):
    lines = (
        f"{n};ttbar;1;{100 + m:.1f};0.5;j,{1e3 * m:.1f},200000,0.5,1.5;b,200000,100000,-0.5,0.1"
        for n, m in enumerate(columns["mjj"])
    )
    path.write_text("\n".join(lines) + "\n")


FORMATS = {
    "a.csv": write_csv,
    "a.csv.gz": write_zipped,
    "a.h5": write_events,
    "a.npy": lambda path, columns: np.save(path, np.column_stack(list(columns.values()))),
    "a.npz": lambda path, columns: np.savez(path, **columns),
    "a.parquet": write_parquet,
    "a.root": write_tree,
    "frame.h5": write_frame,
    "lines.csv": write_darkmachines,
    "spectrum.root": write_histogram,
}


def write(path):
    """Write the same few events in the format of a path, and nothing beside it."""
    rng = np.random.default_rng(0)
    columns = {"mjj": rng.uniform(2000, 3000, 50), "x": rng.normal(size=50), "y": rng.normal(size=50)}
    with tempfile.TemporaryDirectory() as folder:
        FORMATS[path.name](Path(folder) / path.name, columns)
        path.write_bytes((Path(folder) / path.name).read_bytes())


def open_or_convert(path):
    """Read a file as a command would."""
    if path.name == "spectrum.root":
        return read_spectrum(path).check_poisson()
    if is_events(path):
        return pipelines.open(path).read("features").sum()
    family = recognise(path)
    more = {"columns": ["mjj", "x", "y"]} if path.suffix == ".npy" else {}
    more |= {"mass": "mjj"} if family == "table" else {}
    return convert([path], path.parent / "made.h5", **more)


def outcome(read, path):
    """Return whether a file was read or refused; raises what is neither."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read(path)
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 3000, str(error)
            return "refused"
        return "read"


def in_child(read, path):
    """Return what became of reading a file in a child: "read", "refused", or what is neither; and the bytes it took."""
    reader, writer = os.pipe()
    if not (child := os.fork()):
        limit = int(LONGEST + time.process_time()) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))  # a loop is killed; what waits is, by the parent
        try:
            os.write(writer, outcome(read, path).encode())
        except BaseException as error:  # noqa: BLE001  told, and refused, by the parent
            os.write(writer, f"{type(error).__name__}: {reason_of(error)}"[:3000].encode())
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        os.write(writer, f"|{used}".encode())
        os._exit(0)
    os.close(writer)
    until = time.monotonic() + WAITS
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reader)
            return "hangs", 0
        time.sleep(0.001)
    with os.fdopen(reader, "rb") as file:
        what, _, used = file.read().decode("utf-8", "replace").rpartition("|")
    return what or f"died of signal {os.WTERMSIG(ended[1])}", 1024 * int(used or 0)


def fuzz(path, count):
    """Return how many readings of a damaged file ended how, the most memory one took, and what went wrong.

    Args:
        path: whose name is one of `FORMATS`, in a folder of its own. count: mutations.
    """
    write(path)
    open_or_convert(path)  # here too, so that no child imports what it takes
    rng, content, made = random.Random(path.name), path.read_bytes(), path.parent / "made.h5"
    made.unlink(missing_ok=True)
    said, base = in_child(open_or_convert, path)
    assert said == "read", said
    found, most, wrong = {}, 0, []
    for number in range(count):
        made.unlink(missing_ok=True)
        path.write_bytes(hostile.bytes_mutated(content, rng))
        what, used = in_child(open_or_convert, path)
        left = sorted({one.name for one in path.parent.iterdir()} - {path.name, made.name})
        if what not in ("read", "refused") or used - base > MOST or left:
            wrong.append([number, what, used - base, left])
            what = "neither"
        found[what], most = found.get(what, 0) + 1, max(most, used - base)
    return {"found": found, "memory": most, "wrong": wrong}


def main():
    """Do what is asked for as JSON on the command line: folder, names of `FORMATS`, count; print what `fuzz` returns of each."""
    asked = json.loads(sys.argv[1])
    told = {}
    for name in asked["names"]:
        (folder := Path(asked["folder"]) / name).mkdir()
        told[name] = fuzz(folder / name, asked["count"])
    print(json.dumps(told))


if __name__ == "__main__":
    main()
