"""Simulated samples in the layouts of the published ones, made with Pythia 8 and a parametric detector.

Every kind of sample lives in one module of this package, which lists it in a tuple `KINDS`; they are collected here.

>>> from pipelines.simulation import KINDS
>>> KINDS["lhco_2prong"].resolve({"m_x": 300})["m_zprime"]
3500.0
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable

from pipelines.errors import InputError
from pipelines.jobs.chunks import Outcome, check_output
from pipelines.simulation.kinds import Kind, Option, Request, nearest

__all__ = ["KINDS", "Kind", "Option", "Request", "simulate"]


def _collect() -> dict[str, Kind]:
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    return {kind.name: kind for module in modules for kind in getattr(module, "KINDS", ())}


KINDS = _collect()
"""All kinds of samples by name."""


def simulate(
    kind: str,
    out: str | os.PathLike[str],
    *,
    events: int,
    seed: int = 0,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[int, int | None], object] | None = None,
    **options: float,
) -> Outcome:
    """Generate `events` events of a kind and write them to `out`.

    The sample depends on the kind, its options, the seed and the number of events, not on the workers; and, for
    all kinds that are not shuffled, it is the beginning of any longer one. A killed run goes on where it stopped
    when it is started again with the same arguments.

    Args:
        kind: name of one of `KINDS`.
        out: file to make, in the layout that the kind says.
        events: accepted events, >= 1.
        seed: >= 0.
        workers, scheduler: who does the work, as in `pipelines.jobs.executors.open_workers`.
        progress: called with (events done, events) after every block.
        options: those of the kind, such as masses in GeV.

    Returns:
        `Outcome`: events written, and counts, `generated` among them.

    Raises:
        InputError: unknown kind or option, a value out of range, Pythia not installed, nothing passes the
            selection; and as `pipelines.jobs.chunks.in_chunks`.

    Example:
        >>> import pathlib, tempfile
        >>> simulate("lhco_2prong", pathlib.Path(tempfile.mkdtemp()) / "signal.h5", events=10, m_x=300).events
        10
    """
    if kind not in KINDS:
        raise InputError(f"{kind}: no such kind of sample; {nearest(kind, list(KINDS))}")
    events = Option("events", "accepted events", 1, low=1).check(events)
    seed = Option("seed", "of all random numbers", 0, low=0).check(seed)
    workers = Option("workers", "processes", 1, low=1).check(workers)
    request = Request(kind, events, seed, KINDS[kind].resolve(options))
    return KINDS[kind].make(check_output(out), request, workers=workers, scheduler=scheduler, progress=progress)
