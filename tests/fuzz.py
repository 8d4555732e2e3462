"""Damage a file of events, a table, or a spectrum so many times, and read it each time in a child of a small process.

HDF5 may hang in what is damaged, so children read. They are forked from a process that has no TensorFlow: copying the
tables of its memory takes most of the time otherwise.
"""

import json
import os
import random
import resource
import select
import signal
import sys
import tempfile
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
PER_CHILD = 50


def write_csv(path, columns):
    rows = "".join(",".join(map(repr, map(float, row))) + "\n" for row in zip(*columns.values()))
    path.write_text(f"{','.join(columns)}\n{rows}")


def write_zipped(path, columns):
    import gzip

    write_csv(path.with_suffix(".txt"), columns)
    path.write_bytes(gzip.compress(path.with_suffix(".txt").read_bytes(), mtime=0))


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


def one_by_one(read, path, contents, told):
    """Read a file with each of some contents, and write to a pipe what became of it: "read", "refused", or what is neither."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # which ends a process wherever it is
    said = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
    os.dup2(said.fileno(), 2)
    made = path.parent / "made.h5"
    for content in contents:
        made.unlink(missing_ok=True)
        path.write_bytes(content)
        signal.setitimer(signal.ITIMER_PROF, LONGEST)
        try:
            what = outcome(read, path)
        except BaseException as error:  # noqa: BLE001  told, and refused, by the parent
            what = f"{type(error).__name__}: {reason_of(error)}"[:1000]
        if b"Traceback" in (printed := os.pread(said.fileno(), 2000, 0)):
            what = f"prints {printed.decode('utf-8', 'replace')}"
        os.truncate(said.fileno(), 0)
        os.lseek(said.fileno(), 0, os.SEEK_SET)
        left = sorted({one.name for one in path.parent.iterdir()} - {path.name, made.name})
        os.write(told, json.dumps([what, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, left]).encode() + b"\n")


def in_children(read, path, contents):
    """Yield what became of reading a file with each of some contents, the bytes it took, and the files left beside it.

    A child reads one after the other; where it dies or hangs, that is told, and another goes on with the next.
    """
    at = 0
    while at < len(contents):
        reader, writer = os.pipe()
        if not (child := os.fork()):
            try:
                one_by_one(read, path, contents[at : at + PER_CHILD], writer)
            finally:
                os._exit(0)
        os.close(writer)
        lines, until = b"", at + PER_CHILD
        while select.select([reader], [], [], WAITS)[0] and (more := os.read(reader, 2**16)):
            *whole, lines = (lines + more).split(b"\n")
            for line in whole:
                what, used, left = json.loads(line)
                at += 1
                yield what, 1024 * used, left
        os.kill(child, signal.SIGKILL)
        ended = os.WTERMSIG(os.waitpid(child, 0)[1])
        os.close(reader)
        if at < min(until, len(contents)):
            at += 1
            yield ("hangs" if ended in (signal.SIGKILL, signal.SIGPROF) else f"dies of signal {ended}"), 0, []


def fuzz(path, count):
    """Return how many readings of a damaged file ended how, the most memory one took, and what went wrong.

    Of what went wrong the damaged bytes are kept beside the file; their path and the first 64 in hexadecimal are told.

    Args:
        path: whose name is one of `FORMATS`, in a folder of its own. count: mutations.
    """
    write(path)
    open_or_convert(path)  # here too, so that no child imports what it takes
    rng, content = random.Random(path.name), path.read_bytes()
    contents = [content] + [hostile.bytes_mutated(content, rng) for _ in range(count)]
    (what, base, left), *others = in_children(open_or_convert, path, contents)
    assert (what, left) == ("read", []), (what, left)
    found, most, wrong = {}, 0, []
    for number, (what, used, left) in enumerate(others):
        if what not in ("read", "refused") or used - base > MOST or left:
            (kept := path.with_name(f"{number}-{path.name}")).write_bytes(contents[number + 1])
            wrong.append([number, what, used - base, left, str(kept), contents[number + 1][:64].hex()])
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
