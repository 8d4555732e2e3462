"""Limits on the memory of this process, `ulimit -v` and `ulimit -d`, told before a library meets them.

NumPy's OpenBLAS and TensorFlow end a process, or hang, where they get no memory. So the needs of both were measured, and what
is too little is refused before they are imported.
"""

from __future__ import annotations

import os
import resource
import threading
from typing import NamedTuple

from pipelines.errors import InputError

MIB = 2**20


class Need(NamedTuple):
    """What something takes, in MiB: addresses, those of them for data, and what each core adds, whose threads have stacks."""

    what: str
    addresses: int
    data: int
    each_core: int
    advice: str = ""


# what the smallest of their kind take on two cores: `zoo list`, `zoo score` and `zoo train ae`
COMMANDS = Need("the commands need", 150, 40, 40, ", or set OPENBLAS_NUM_THREADS=1")
MODELS = Need("a model needs", 2350, 560, 25)
TRAINING = Need("a training needs", 3550, 1130, 25)


def limits() -> dict[str, int]:
    """Return the limits that this process has, in bytes, by the options of `ulimit` that set them; {} without any."""
    kinds = {"v": resource.RLIMIT_AS, "d": resource.RLIMIT_DATA}
    found = {option: resource.getrlimit(kind)[0] for option, kind in kinds.items()}
    return {option: most for option, most in found.items() if most != resource.RLIM_INFINITY}


def hint() -> str:
    """Return what an error that may come of such a limit ends with: "" without a limit.

    >>> "" if limits() else hint()
    ''
    """
    told = " and ".join(f"{most / MIB:,.0f} MiB (ulimit -{option})" for option, most in limits().items())
    return f"; this process may use {told} of memory, which may be the reason: raise the limit" if told else ""


def check_threads() -> None:
    """Raise `InputError` where no thread can be started. OpenBLAS then raises what Ctrl-C does.

    >>> check_threads()
    """
    try:
        threading.Thread(target=int).start()
    except RuntimeError:
        raise InputError(
            "no thread can be started: raise the limit of processes (ulimit -u), or set OPENBLAS_NUM_THREADS=1"
        ) from None


def _asked_for() -> list[int]:
    """Return how many threads OpenBLAS is asked to start; the first counts."""
    asked = [os.environ.get(name, "") for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")]
    return [int(text) for text in asked if text.isdecimal() and int(text) > 0]


def check(need: Need) -> None:
    """Raise `InputError` where a limit is below a need.

    >>> check(COMMANDS)
    """
    for option, most in limits().items():
        threads = len(os.sched_getaffinity(0))
        if need is COMMANDS:
            threads = min([threads, 64, *_asked_for()[:1]])
        needed = need.each_core * threads + {"v": need.addresses, "d": need.data}[option]
        if most < needed * MIB:
            raise InputError(
                f"this process may use {most / MIB:,.0f} MiB of memory (ulimit -{option} {most // 1024}), and {need.what} "
                f"about {needed:,} MiB on {threads} core{'s' * (threads > 1)}: raise the limit, or ask the batch system for "
                f"more memory{need.advice}"
            )
