"""The one door to parallel work: processes on this machine, or a Dask cluster that is already there.

Long jobs are cut into tasks, each a plain function of plain arguments, and results come back as tasks finish. What
a task gives must not depend on who does it: then one process, four, or a batch farm give the same files.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipelines.errors import InputError, Unfinished

AHEAD = 3  # tasks handed out for each worker: one in progress, the others waiting so that no worker does

Task = tuple[Any, ...]


def cores() -> int:
    """Return how many processors this process may use.

    >>> cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0))


class Serial:
    """Does the work here and now, in this process."""

    count = 1

    def map(self, function: Callable, tasks: Iterable[tuple[int, Task]]) -> Iterator[tuple[int, Any]]:
        """Yield (number, function(*task)) for every (number, task)."""
        for number, task in tasks:
            yield number, function(*task)


class Farm:
    """Hands tasks to the workers of a Dask cluster."""

    def __init__(self, client):
        self._client = client
        self._started = self.count

    @property
    def count(self) -> int:
        """Workers there are now; others may join."""
        return max(1, len(self._client.scheduler_info(n_workers=-1)["workers"]))

    def map(self, function: Callable, tasks: Iterable[tuple[int, Task]]) -> Iterator[tuple[int, Any]]:
        """Yield (number, function(*task)) as tasks finish; `tasks` is read only as far ahead as workers need.

        What a task raises is raised here. A worker that dies gives its task to another one.
        Raises `Unfinished` if workers die of the same task again and again.
        """
        from distributed import CancelledError, KilledWorker, as_completed
        from distributed.comm import CommClosedError

        waiting, numbers = iter(tasks), {}
        results = as_completed()

        def hand_out(count: int) -> None:
            for number, task in itertools.islice(waiting, max(0, count)):
                future = self._client.submit(function, *task, pure=False)
                numbers[future.key] = number
                results.add(future)

        try:
            hand_out(AHEAD * self.count)
            for future in results:
                number = numbers.pop(future.key)
                try:
                    result = future.result()
                except KilledWorker:
                    self._settle()
                    raise Unfinished(
                        f"task {number}: every worker that tried it died, probably for want of memory; "
                        f"use fewer workers, or smaller blocks"
                    ) from None
                except (CancelledError, CommClosedError):
                    raise Unfinished(
                        "the connection to the Dask scheduler is lost; start it again and repeat the command"
                    ) from None
                future.release()
                hand_out(AHEAD * self.count - len(numbers))
                yield number, result
        finally:
            results.clear()  # what is under way when a task has failed is not wanted any more

    def _settle(self) -> None:
        """Wait for workers that are being restarted: closing them just then makes Dask print a stack trace."""
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):  # of which Python 3.10 makes two
            self._client.wait_for_workers(self._started, timeout=10)


@contextlib.contextmanager
def open_workers(workers: int = 1, scheduler: str | None = None) -> Iterator[Serial | Farm]:
    """Give something whose `map` does tasks: this process, `workers` processes of one thread, or a Dask cluster.

    Args:
        workers: processes on this machine, >= 1; 1 is this process.
        scheduler: address of a running Dask scheduler, such as tcp://node7:8786, instead.

    Raises:
        InputError: `workers` < 1, or no scheduler answers at that address within 10 s.

    Example:
        >>> with open_workers() as workers:
        ...     sorted(workers.map(divmod, enumerate([(7, 2), (9, 4)])))
        [(0, (3, 1)), (1, (2, 1))]
    """
    if workers < 1:
        raise InputError(f"workers is {workers}, expected at least 1")
    if scheduler is None and workers == 1:
        yield Serial()
        return
    with _quiet(), _client(workers, scheduler) as client:
        yield Farm(client)


@contextlib.contextmanager
def _client(workers: int, scheduler: str | None):
    import distributed

    if scheduler is not None:
        try:
            client = distributed.Client(scheduler, timeout=10)
        except (OSError, ValueError) as error:
            reason = str(error) or "no answer"
        else:
            with client:
                yield client
            return
        # Away with the client that failed, here: Python would end it in any thread, also in that of the next client
        # while that starts, and both would wait for each other forever (distributed 2026.8).
        gc.collect()
        raise Unfinished(
            f"scheduler {scheduler}: {reason}; expected the address of a running Dask scheduler, as tcp://host:8786"
        )
    options = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "silence_logs": logging.CRITICAL}
    # No dashboard, and its server on any free port of this machine alone: a second farm would warn of port 8787.
    # No memory limit: Dask would stop a worker that maps a large file.
    server = {"dashboard_address": "127.0.0.1:0"}
    with _deaf_children():
        local = distributed.LocalCluster(**options, dashboard_address=None, scheduler_kwargs=server, memory_limit=0)
    with local, distributed.Client(local) as client:
        yield client


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """Let processes started meanwhile ignore Ctrl-C, which a terminal sends to all: this one ends them in good order."""
    if threading.current_thread() is not threading.main_thread():  # the only one that may, and that hears it
        yield
        return
    # For the two seconds of the start nobody hears it. (A blocked signal would wait, but Python's resource tracker
    # unblocks it in the children.)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's own log off the terminal: what users need to know reaches them as an error of their task."""
    import distributed  # which sets up its loggers

    logger = logging.getLogger(distributed.__name__)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
