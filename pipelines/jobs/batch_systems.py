"""Workers that are jobs of a batch system, by dask-jobqueue: Slurm or HTCondor, with what a site asks for in a YAML file.

    queue: long              # Slurm: partition
    account: atlas           # Slurm
    walltime: "12:00:00"     # Slurm; HTCondor: the longest run, in the submit file
    memory: 4GB              # of one job
    disk: 2GB                # of one job, HTCondor
    cores: 1                 # of one job: threads that TensorFlow may use; a job is one worker
    image: /cvmfs/site/zoo.sif          # container with this package, run by `apptainer exec`
    python: python3          # that starts the worker; this one otherwise
    directives: ["--qos=low"]           # Slurm: more #SBATCH lines; HTCondor: {name: value} lines
    prologue: ["source setup.sh"]       # shell lines before the worker
    logs: farm-logs          # folder of the jobs' output
    interface: eth0          # network that the jobs can reach this machine by
    shared: /home/me         # folder that the jobs can read: their keys lie in it (mode 0600); the present one otherwise

The jobs must see the same files as this process: data and outputs are on a file system that they share.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import gc
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.documents import read_yaml_document, shown
from pipelines.errors import InputError, Unfinished
from pipelines.jobs.tls import key_folder, security_in

SUBMIT = {"slurm": "sbatch", "htcondor": "condor_submit"}
SYSTEMS = tuple(SUBMIT)
DEFAULTS = {"memory": "4GB", "cores": 1, "walltime": "12:00:00", "disk": "2GB"}
ONLY = {"queue": "slurm", "account": "slurm", "disk": "htcondor"}
TEXTS = ("queue", "account", "walltime", "memory", "disk", "image", "python", "logs", "interface", "shared")
KNOWN = (*TEXTS, "cores", "directives", "prologue")


@dataclasses.dataclass(frozen=True)
class Batch:
    """So many jobs of a batch system, each a worker.

    Args:
        system: "slurm" or "htcondor".
        jobs: how many are submitted, >= 1.
        options: what the site asks for, as in this module's text.

    Raises:
        InputError: another system, jobs < 1, an option that is not known or not of this system.

    >>> Batch("slurm", 20, {"queue": "long", "walltime": "02:00:00"}).jobs
    20
    """

    system: str
    jobs: int
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    source: str = "cluster options"

    def __post_init__(self) -> None:
        if self.system not in SYSTEMS:
            raise InputError(f"cluster {self.system!r} is not known; expected {' or '.join(SYSTEMS)}")
        if not isinstance(self.jobs, int) or isinstance(self.jobs, bool) or self.jobs < 1:
            raise InputError(f"jobs is {self.jobs}, expected how many jobs of {self.system} to submit, at least 1")
        for name, value in self.options.items():
            self._check(name, value)

    def _check(self, name: str, value: object) -> None:
        if name not in KNOWN:
            near = ", ".join(difflib.get_close_matches(str(name), KNOWN, 3)) or ", ".join(KNOWN)
            raise InputError(f"{self.source}: {shown(name)} is not known; near: {near}")
        if ONLY.get(name, self.system) != self.system:
            raise InputError(f"{self.source}: {name} is an option of {ONLY[name]}, this is {self.system}")
        if name == "walltime" and (not isinstance(value, str) or not re.fullmatch(r"(\d+-)?\d+:\d{2}:\d{2}", value)):
            raise InputError(
                f'{self.source}: walltime is {shown(value)}, expected hours, minutes, seconds in quotes, "12:00:00"'
            )
        lines = isinstance(value, list) and all(isinstance(line, str) for line in value)
        if name == "directives" and self.system == "htcondor":
            if not isinstance(value, Mapping):
                raise InputError(
                    f"{self.source}: directives is {shown(value)}, expected names and values for {self.system}"
                )
        elif name in ("directives", "prologue") and not lines:
            raise InputError(f"{self.source}: {name} is {shown(value)}, expected a list of lines")
        if name == "cores" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise InputError(f"{self.source}: cores is {shown(value)}, expected a whole number, at least 1")
        if name in TEXTS and (not isinstance(value, str) or not value):
            raise InputError(f"{self.source}: {name} is {shown(value)}, expected a word")
        if name in ("memory", "disk") and not re.fullmatch(r"\d+(\.\d+)? ?([kMGT]i?)?B", str(value), re.IGNORECASE):
            raise InputError(f"{self.source}: {name} is {shown(value)}, expected a size, such as 4GB")

    @classmethod
    def read(cls, system: str, jobs: int, path: str | os.PathLike[str] | None = None) -> Batch:
        """Return the jobs that a YAML file describes; raises `InputError` where it cannot be read or understood."""
        if path is None:
            return cls(system, jobs)
        found = read_yaml_document(path, advice=f"expected lines of NAME: VALUE, with {', '.join(KNOWN)}")
        if not isinstance(found, dict):
            raise InputError(f"{path}: expected lines of NAME: VALUE, with {', '.join(KNOWN)}")
        return cls(system, jobs, found, str(path))

    def arguments(self) -> dict[str, object]:
        """Return what dask-jobqueue is given."""
        given: dict[str, Any] = {**DEFAULTS, **self.options}
        python = given.get("python") or ("python3" if "image" in given else sys.executable)
        if "image" in given:
            python = f"apptainer exec {given['image']} {python}"
        threads = [f"export {name}={given['cores']}" for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")]
        made = {
            "cores": given["cores"],
            "processes": 1,
            "memory": given["memory"],
            "python": python,
            "interface": given.get("interface"),
            "log_directory": given.get("logs"),
            "job_script_prologue": [
                *threads,
                "export TF_NUM_INTEROP_THREADS=1",
                "export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]'",  # no pages: they have no authentication
                *given.get("prologue", []),
            ],
            # one task at a time, however many cores; the batch system watches the memory, not Dask
            "worker_extra_args": ["--nthreads", "1", "--memory-limit", "0", "--no-dashboard"],
        }
        if self.system == "slurm":
            slurm = {name: given[name] for name in ("queue", "account", "walltime") if name in given}
            return made | slurm | {"job_extra_directives": list(given.get("directives", []))}
        seconds = {"MaxRuntime": str(_seconds(given["walltime"]))} if "walltime" in self.options else {}
        own = {f"+{name}": value for name, value in seconds.items()}  # which sites such as CERN's go by
        return made | {"disk": given["disk"], "job_extra_directives": own | dict(given.get("directives", {}))}

    def script(self) -> str:
        """Return the text of one job, as it would be submitted."""
        with self._keys() as keys, self._cluster(keys) as cluster:
            return str(cluster.job_script())

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        """Submit the jobs and give the cluster; workers join as the jobs start. It is the caller who closes it.

        Raises `Unfinished` if the system's command for submitting is not here, or refuses.
        """
        command = SUBMIT[self.system]
        if shutil.which(command) is None:
            raise Unfinished(f"{self.system}: there is no {command} here; run this where jobs are submitted from")
        with self._keys() as keys:
            yield self._submitted(keys, command)

    def _keys(self) -> contextlib.AbstractContextManager[Path]:
        return key_folder(str(self.options.get("shared") or os.getcwd()))

    def _cluster(self, keys: Path) -> Any:
        """Return dask-jobqueue's cluster, without jobs yet, whose jobs read their keys in a folder.

        Raises `InputError` if dask-jobqueue is not installed, or does not take the options.
        """
        try:
            import dask_jobqueue
        except ImportError:
            raise InputError(
                f"cluster {self.system} needs dask-jobqueue; install it by pip install '.[farm]'"
            ) from None
        kind = {"slurm": dask_jobqueue.SLURMCluster, "htcondor": dask_jobqueue.HTCondorCluster}[self.system]
        options = {"dashboard_address": "127.0.0.1:0", "dashboard": False}
        safe = {"protocol": "tls://", "security": security_in(keys)}
        try:
            return kind(**self.arguments(), **safe, scheduler_options=options)
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            raise InputError(f"{self.source}: {' '.join(str(error).split())}") from None

    def _submitted(self, keys: Path, command: str) -> Any:
        cluster, refused = self._cluster(keys), None
        with _heard("tornado.application", "asyncio") as reasons:  # where the stack of a refusal goes
            with contextlib.suppress(OSError, RuntimeError, ValueError, AssertionError):  # as it is heard
                cluster.scale(jobs=self.jobs)
                cluster.sync(cluster._correct_state)  # which waits until they are submitted
            if reasons:
                refused = " ".join(str(reasons[0]).split())
                with contextlib.suppress(Exception):  # it cannot close jobs that it could not submit
                    cluster.close(timeout=1)
                cluster = None
                gc.collect()
        if refused is not None:
            raise Unfinished(f"{self.system}: {command} refuses the jobs ({refused}); check the options")
        return cluster


@contextlib.contextmanager
def _heard(*names: str) -> Iterator[list[BaseException]]:
    """Collect the errors of loggers instead of showing them."""
    reasons: list[BaseException] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1] is not None:
                reasons.append(record.exc_info[1])

    loggers, ear = [logging.getLogger(name) for name in names], Ear()
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(ear)
        logger.propagate = False
    try:
        yield reasons
    finally:
        for logger, propagate in zip(loggers, before):
            logger.removeHandler(ear)
            logger.propagate = propagate


def _seconds(walltime: str) -> int:
    """Return the seconds of [days-]hours:minutes:seconds.

    >>> _seconds("1-02:00:30")
    93630
    """
    days, _, clock = walltime.rpartition("-")
    hours, minutes, seconds = map(int, clock.split(":"))
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
