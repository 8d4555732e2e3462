"""What a result was made of: a checksum of the data, versions of packages, the command."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from pipelines.events.events import Events
from pipelines.events.statistics import gather

PACKAGES = (
    "hep-anomaly-zoo", "tensorflow", "tf-keras", "tensorflow-probability", "spektral", "keras-tuner", "numpy", "scipy",
    "scikit-learn", "h5py", "fastjet", "pyBumpHunter",
)  # fmt: skip


def checksum(events: Events) -> str:
    """Return the SHA-256 of what a model may see of a selection of events, whatever file they are in.

    Truth is not in it: a file with labels and one without have the same.

    >>> events = Events.from_arrays(np.ones((2, 1)), [3000.0, 3100.0], ["pt_1"])
    >>> labelled = Events.from_arrays(np.ones((2, 1)), [3000.0, 3100.0], ["pt_1"], label=[0, 1])
    >>> checksum(events) == checksum(labelled), len(checksum(events))
    (True, 64)
    """
    found: str = gather(events, Checksum(events))[0]
    return found


class Checksum:
    """The statistic whose result is `checksum`; see `pipelines.events.statistics`."""

    key = "sha256"
    columns = None

    def __init__(self, events: Events):
        self.fields = [*(name for name in ("features", "objects", "mass") if events.has(name)), "weight"]
        self._names = json.dumps([events.columns, events.about.object_columns]).encode()
        self._digests = {name: hashlib.sha256() for name in self.fields}

    def add(self, block: Mapping[str, np.ndarray]) -> None:
        """Digest a block of events."""
        for name, digest in self._digests.items():
            digest.update(np.ascontiguousarray(block[name]).tobytes())

    def result(self) -> str:
        """Return the SHA-256 of all datasets and names."""
        return hashlib.sha256(self._names + b"".join(one.digest() for one in self._digests.values())).hexdigest()


def data(events: Events) -> dict[str, object]:
    """Return where events come from, how many they are, their `checksum`, and the name of their mass if it has one.

    >>> data(Events.from_arrays(np.ones((2, 1)), [3000.0, 3100.0], ["pt_1"]))["events"]
    2
    """
    files = list(map(str, events.files))
    mass = {"mass_column": events.about.mass_column} if events.about.mass_column else {}
    return {"source": events.name, "files": files, "events": len(events), "sha256": checksum(events), **mass}


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of packages.

    >>> list(versions(["numpy", "no-such-package"]).values())[1:] == [np.__version__, "not installed"]
    True
    """
    return {"python": platform.python_version()} | {name: _version(name) for name in packages}


def command() -> str:
    """Return the command line of this process, quoted so that a shell takes it as it was."""
    program = Path(sys.argv[0])
    name = {"zoo": "zoo", "tuning": "tune"}.get(program.parent.name) if program.name == "__main__.py" else None
    return shlex.join([name or program.name, *sys.argv[1:]])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
