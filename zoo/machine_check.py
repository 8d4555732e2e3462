"""Can this machine do the work, and what to do where it cannot: `zoo.doctor`, which is what `zoo doctor` does."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from pipelines import provenance
from pipelines.events.row_cache import free_memory
from pipelines.jobs.executors import cores
from zoo.printed import Printed

MEMORY, DISK = 4e9, 5e9  # bytes: of the processes of a training, and of an events file with its copy
PYTHONS = ((3, 10), (3, 13))
STATES = {"ok": "ok   ", "warning": "LOOK ", "wrong": "WRONG"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was found of one thing: `state` is "ok", "warning" or "wrong", and `advice` says what to do."""

    name: str
    state: str
    found: str
    advice: str = ""


class Doctor(Printed):
    """What was found, as `findings` and `versions` by name, with `ok`; `print` shows it in lines."""


def doctor(folder: str | os.PathLike[str] = ".") -> Doctor:
    """Look at Python, packages, Keras, devices, XLA, memory, disks and file locks, and say what to do where one is wrong.

    Args:
        folder: where outputs are to be written; its disk and its locks are tried by a temporary file.

    Example:
        >>> found = doctor()
        >>> [one["name"] for one in found["findings"]][:3]
        ['Python', 'packages', 'processors']
    """
    looks: list[Callable[[], Finding]] = [
        _python, _packages, _processors, _memory, lambda: _disk("disk of outputs", Path(folder)),
        lambda: _disk("temporary files", Path(tempfile.gettempdir())), lambda: _locks(Path(folder)), _keras, _devices, _xla,
    ]  # fmt: skip
    findings = [_looked(look) for look in looks]
    versions = provenance.versions()
    lines = [f"{STATES[one.state]} {one.name}: {one.found}" + (f"\n      {one.advice}" if one.advice else "")
             for one in findings]  # fmt: skip
    lines += ["", ", ".join(f"{name} {version}" for name, version in versions.items())]
    ok = all(one.state != "wrong" for one in findings)
    numbers = {"ok": ok, "findings": [dataclasses.asdict(one) for one in findings], "versions": versions}
    return Doctor(numbers, "\n".join(lines))


def _looked(look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except Exception as error:  # noqa: BLE001  whatever it is, the rest is to be told
        name = getattr(look, "__name__", "_disk").lstrip("_")
        return Finding(name, "wrong", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _python() -> Finding:
    low, high = (".".join(map(str, version)) for version in PYTHONS)
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return Finding("Python", "wrong", found, f"use Python {low} to {high}")
    if platform.system() != "Linux":
        return Finding("Python", "warning", found, "the package is tested on Linux alone")
    return Finding("Python", "ok", found)


def _packages() -> Finding:
    missing = [name for name, version in provenance.versions().items() if version == "not installed"]
    if not missing:
        return Finding("packages", "ok", "all are installed")
    return Finding(
        "packages", "wrong", f"{', '.join(missing)} not installed", "install the package again: pip install ."
    )


def _processors() -> Finding:
    return Finding("processors", "ok", f"{cores()} for this process, of {os.cpu_count()} in the machine")


def _memory() -> Finding:
    free = free_memory()
    found = f"{free / 1e9:.1f} GB free for this process"
    if free < MEMORY:
        return Finding("memory", "warning", found, "large trainings may be killed: give --memory and fewer --workers")
    return Finding("memory", "ok", found)


def _disk(name: str, folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:.1f} GB free in {folder.resolve()}"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        return Finding(name, "wrong", f"{folder.resolve()}: cannot be written ({error.strerror})", _elsewhere(name))
    return Finding(name, "warning", found, _elsewhere(name)) if free < DISK else Finding(name, "ok", found)


def _elsewhere(name: str) -> str:
    return "set TMPDIR to a folder with room" if name == "temporary files" else "choose --out on another disk"


def _locks(folder: Path) -> Finding:
    import h5py

    with tempfile.NamedTemporaryFile(dir=folder, prefix=".zoo-doctor-", suffix=".h5") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return Finding(
                "file locks", "warning", f"{folder.resolve()} has none ({error.strerror})",
                "see that no two commands write the same output; events are read without locks",
            )  # fmt: skip
        fcntl.flock(file, fcntl.LOCK_UN)
        with h5py.File(file.name, "w") as made:
            made["x"] = [1.0]
    return Finding("file locks", "ok", f"work in {folder.resolve()}, HDF5 can be written")


def _keras() -> Finding:
    from zoo.keras import keras

    return Finding("Keras", "ok", f"{keras.__version__}, as {keras.__name__}")


def _devices() -> Finding:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
        return Finding("devices", "ok", f"{len(gpus)} GPU: {', '.join(map(str, names))}")
    driver = Path("/proc/driver/nvidia/version").exists()
    advice = "a GPU is there, and TensorFlow does not see it: pip install '.[gpu]'" if driver else ""
    return Finding("devices", "warning" if driver else "ok", "processors alone, no GPU", advice)


def _xla() -> Finding:
    import numpy as np
    import tensorflow as tf

    try:
        found = tf.function(lambda x: tf.reduce_sum(x * x), jit_compile=True)(tf.range(4.0))
    except (tf.errors.OpError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        return Finding("XLA", "warning", f"does not compile ({reason})", "train with --no-xla")
    if not np.isclose(found, 14.0):
        return Finding("XLA", "wrong", f"sums 0, 1, 4, 9 to {float(found):g}", "train with --no-xla")
    return Finding("XLA", "ok", "compiles")
