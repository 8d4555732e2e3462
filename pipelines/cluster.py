"""The one door to parallel work: processes on this machine, a Dask cluster that is already there, or a batch system.

Long jobs are cut into tasks, each a plain function of plain arguments, and results come back as tasks finish. What
a task gives must not depend on who does it: then one process, four, or a batch farm give the same files. Where all
tasks are known beforehand, `map` does them; where what is next depends on what was found, `conduct` asks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import itertools
import logging
import os
import queue
import signal
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipelines.batchfarm import Batch
from pipelines.errors import InputError, Unfinished, WorkersDied

__all__ = ["Batch", "Done", "Farm", "Serial", "cores", "open_workers", "tell"]

AHEAD = 3  # tasks handed out for each worker: one in progress, the others waiting so that no worker does
MOST_DEATHS = 4  # of workers at one task, as Dask has it
POLL = 0.5  # seconds after which it is looked whether workers have joined
LONELY = 60.0  # seconds without any worker after which it is told
FETCHING = 5.0  # seconds for a result to come from its worker, which may be gone with it; while it lives, again
ALONE = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")

DIED = "every worker that tried it died, probably for want of memory"
LOST = "the connection to the Dask scheduler is lost; start it again and repeat the command"

Task = tuple[Any, ...]


def cores() -> int:
    """Return how many processors this process may use.

    >>> cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0))


@dataclasses.dataclass(frozen=True)
class Done:
    """A task that has ended: the key that it was given with, what it gave or why it gave nothing, and who did it."""

    key: object
    value: object = None
    error: Exception | None = None
    worker: str = ""

    def result(self) -> Any:
        """Return what the task gave, or raise why it did not."""
        if self.error is not None:
            raise self.error
        return self.value


_here = threading.local()  # `say`: where the task that runs in this thread may send messages


def tell(message: object) -> None:
    """Send a message, as JSON can hold it, from a task of `conduct` to whoever `heard` there; else nobody hears it."""
    say = getattr(_here, "say", None)
    if say is not None:
        say(message)


@contextlib.contextmanager
def _saying(say: Callable[[object], object] | None) -> Iterator[None]:
    before = getattr(_here, "say", None)
    _here.say = say
    try:
        yield
    finally:
        _here.say = before


class Serial:
    """Does the work here and now, in this process."""

    count = 1

    def share(self, value: Any) -> Any:
        """Return what to give to tasks in place of a large value that many of them take."""
        return value

    def conduct(
        self,
        function: Callable,
        pick: Callable[[str], tuple[object, Task] | None],
        heard: Callable[[object], object] | None = None,
        over: Callable[[], bool] = lambda: False,
    ) -> Iterator[Done]:
        """Do what `pick(worker)` gives, (key, arguments of `function`) or None, until it gives nothing more.

        Args:
            function: what is done; what it tells by `tell` is handed to `heard`, in this thread.
            pick: asked whenever a worker has nothing to do, and after every result. It gets the name of the worker.
            over: whether nothing is to be begun any more, for a `Farm`, which has nobody to `pick` for while it has no
                workers. A task whose worker died is then given up, and never yielded.

        Yields every task as it ends; what it raised is in its `error`.
        """
        while (task := pick("this process")) is not None:
            key, arguments = task
            try:
                with _saying(heard):
                    done = Done(key, function(*arguments), worker="this process")
            except Exception as error:
                done = Done(key, error=error, worker="this process")
            yield done

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
        Raises `WorkersDied` if workers die of the same task again and again.
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
                    raise WorkersDied(f"task {number}: {DIED}; use fewer workers, or smaller blocks") from None
                except (CancelledError, CommClosedError):
                    raise Unfinished(LOST) from None
                future.release()
                hand_out(AHEAD * self.count - len(numbers))
                yield number, result
        finally:
            results.clear()  # what is under way when a task has failed is not wanted any more

    def share(self, value: Any) -> Any:
        """As of `Serial`: the value travels once to every worker that needs it, and again if a worker is lost."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Dask's, of a large value in the graph: it is there once
            return self._client.submit(_same, value, key=f"shared-{uuid.uuid4().hex}")

    def conduct(
        self,
        function: Callable,
        pick: Callable[[str], tuple[object, Task] | None],
        heard: Callable[[object], object] | None = None,
        over: Callable[[], bool] = lambda: False,
    ) -> Iterator[Done]:
        """As of `Serial`, by all workers, also those that join later; the names of workers are their addresses.

        A task goes to the worker that `pick` was asked for; if that one dies, to another. Its `error` is `WorkersDied` if
        `MOST_DEATHS` workers die of it. After a minute without workers `heard` gets {"told": a sentence that says so}.
        Raises `Unfinished` if the scheduler is lost.
        """
        topic, inbox = f"told-{uuid.uuid4().hex}", queue.SimpleQueue()
        under_way: dict = {}  # future: key, arguments, worker
        again: list[tuple[object, Task]] = []
        deaths: Counter = Counter()
        lonely = _Lonely(heard)
        self._client.subscribe_topic(topic, lambda event: inbox.put(event[-1]))
        try:
            while True:
                workers = self._workers()
                lonely.look(workers)
                for key, arguments, worker in _orphans(under_way, workers):
                    deaths[key] += 1
                    if deaths[key] >= MOST_DEATHS:
                        yield Done(key, error=WorkersDied(f"task {key}: {DIED}"), worker=worker)
                    else:
                        again.append((key, arguments))
                if over():
                    again.clear()
                busy = {worker for _, _, worker in under_way.values()}
                for worker in (idle := [worker for worker in workers if worker not in busy]):
                    task = again.pop(0) if again else pick(worker)
                    if task is None:
                        break
                    # To this one and no other: of tasks that may move, Dask forgets those whose workers all die.
                    options = {"pure": False, "workers": [worker], "allow_other_workers": False}
                    future = self._client.submit(_speaking, topic, function, *task[1], **options)
                    under_way[future] = *task, worker
                    future.add_done_callback(inbox.put)
                if not under_way and (idle or over()):
                    return
                yield from self._arrived(inbox, under_way, heard)
        finally:
            for future in under_way:  # nobody waits for it any more
                future.cancel()
            with contextlib.suppress(Exception):  # of a scheduler that is gone
                self._client.unsubscribe_topic(topic)

    def _workers(self) -> list[str]:
        try:
            return list(self._client.scheduler_info(n_workers=-1)["workers"])
        except OSError:
            raise Unfinished(LOST) from None

    def _arrived(self, inbox: queue.SimpleQueue, under_way: dict, heard: Callable | None) -> Iterator[Done]:
        """Wait a moment for results and messages; yield the results."""
        from distributed import CancelledError, Future
        from distributed.comm import CommClosedError

        late: list[Future] = []
        with contextlib.suppress(queue.Empty):
            thing = inbox.get(timeout=POLL)
            while True:
                if not isinstance(thing, Future):
                    if heard is not None:
                        heard(thing)
                elif thing in under_way:  # not given up
                    key, _, worker = under_way[thing]
                    try:
                        done = Done(key, thing.result(timeout=FETCHING), worker=worker)
                    except (CancelledError, CommClosedError):
                        raise Unfinished(LOST) from None
                    except Exception as error:
                        done = _failed(thing, key, error, worker)
                    if done is None:  # lost with its worker, or on its way
                        late.append(thing)
                    else:
                        del under_way[thing]
                        thing.release()
                        yield done
                thing = inbox.get_nowait()
        workers = self._workers() if late else []
        for future in late:
            if under_way[future][-1] in workers:
                future.add_done_callback(inbox.put)  # look again, after the others
            else:
                future.cancel()  # done or not: it is not there any more

    def _settle(self) -> None:
        """Wait for workers that are being restarted: closing them just then makes Dask print a stack trace."""
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):  # of which Python 3.10 makes two
            self._client.wait_for_workers(self._started, timeout=10)


class _Lonely:
    """Tells when there have been no workers for a while, once until the next one joins."""

    def __init__(self, heard: Callable[[object], object] | None):
        self.heard, self.since = heard, time.monotonic()

    def look(self, workers: list[str]) -> None:
        if workers:
            self.since = time.monotonic()
        elif self.heard is not None and time.monotonic() - self.since >= LONELY:
            self.since = float("inf")
            self.heard({"told": f"there have been no workers for {LONELY:.0f} s; work goes on as soon as one joins"})


def _failed(future, key: object, error: Exception, worker: str) -> Done | None:
    """Return a task that has failed, or None where it is only its result that did not come in time."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return Done(key, error=WorkersDied(f"task {key}: {DIED}"), worker=worker)
    late = isinstance(error, (TimeoutError, asyncio.TimeoutError))  # of which Python 3.10 makes two
    return None if late and future.status != "error" else Done(key, error=error, worker=worker)


def _orphans(under_way: dict, workers: list[str]) -> list[tuple[object, Task, str]]:
    """Take out of what is under way the tasks whose worker is gone."""
    gone = [future for future, (_, _, worker) in under_way.items() if worker not in workers]
    lost = [future for future in gone if not future.done() or future.cancelled()]
    found = [under_way.pop(future) for future in lost]
    for future in lost:
        future.cancel()
    return found


def _same(value: Any) -> Any:
    return value


def _speaking(topic: str, function: Callable, *arguments: Any) -> Any:
    """Do a task on a worker; what it tells goes to the process that gave it."""
    from distributed import get_worker

    worker = get_worker()
    with _saying(lambda message: worker.log_event(topic, message)):
        return function(*arguments)


@contextlib.contextmanager
def open_workers(workers: int = 1, scheduler: str | Batch | None = None) -> Iterator[Serial | Farm]:
    """Give something that does tasks: this process, `workers` processes of one thread, a Dask cluster, a batch system.

    Args:
        workers: processes on this machine, >= 1; 1 is this process.
        scheduler: address of a running Dask scheduler, such as tcp://node7:8786, or jobs of a batch system, instead.

    Raises:
        InputError: `workers` < 1, no scheduler answers at that address within 10 s, or jobs cannot be submitted.

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
def _client(workers: int, scheduler: str | Batch | None):
    import distributed

    if isinstance(scheduler, Batch):
        with _deaf_children():
            farm = scheduler.open()
        with farm, distributed.Client(farm) as client:
            yield client
        return
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
        local = distributed.LocalCluster(
            **options, dashboard_address=None, scheduler_kwargs=server, memory_limit=0, env=ALONE
        )
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
