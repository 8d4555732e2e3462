"""Parallel work: processes on this machine, a Dask cluster that is already there, or a batch system.

Long jobs are cut into tasks, each a plain function of plain arguments, and results come back as tasks finish. What
a task gives must not depend on who does it: then one process, four, or a batch farm give the same files. Where all
tasks are known beforehand, `map` does them; where what is next depends on what was found, `conduct` asks for it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
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
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from pipelines.errors import InputError, Unfinished, WorkersDied
from pipelines.jobs.batch_systems import Batch
from pipelines.jobs.tls import NO_PAGES, RunningScheduler, connect, new_security

__all__ = ["Batch", "Done", "Farm", "RunningScheduler", "Serial", "cores", "open_workers", "tell"]

log = logging.getLogger(__name__)

AHEAD = 2  # tasks at each worker: one in progress, the other waiting so that no worker does
MOST_DEATHS = 4  # of workers at one task, as Dask has it
POLL = 0.5  # seconds after which it is looked who has joined or gone
LONELY = 60.0  # seconds without any worker after which a message is sent
BACK = 600.0  # seconds for a worker of ours to be back after it died
NEVER = 1e8  # seconds
ANSWER = 120.0  # seconds for the scheduler to answer, after which it is lost
CLOSING = 60.0  # seconds for a cluster of ours to end
ALONE = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")

DIED = "every worker that tried it died, probably for want of memory"
LOST = "the connection to the Dask scheduler is lost; start it again and repeat the command"
GONE = "all workers are gone and do not come back (memory? time limit of the jobs?); repeat the command"

Task = tuple[Any, ...]


def cores() -> int:
    """Return how many processors this process may use.

    >>> cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0))


@dataclasses.dataclass(frozen=True)
class Done:
    """A task that has ended: its key, its value or error, and its worker."""

    key: Any
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
    """Send a JSON-serialisable message from a task of `conduct` to its function `heard`; it is lost elsewhere."""
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
        function: Callable[..., Any],
        pick: Callable[[str], tuple[object, Task] | None],
        heard: Callable[[Any], object] | None = None,
        over: Callable[[], bool] = lambda: False,
        limit: float | None = None,
    ) -> Generator[Done, None, None]:
        """Do what `pick(worker)` gives, (key, arguments of `function`) or None, until it gives nothing more.

        Args:
            function: what is done; what it tells by `tell` is handed to `heard`, in this thread.
            pick: asked whenever a worker has nothing to do, and after every result. It gets the name of the worker.
            over: whether nothing is to be begun any more, for a `Farm`, which has nobody to `pick` for while it has no
                workers. A task whose worker died is then given up, and never yielded.
            limit: seconds after which a `Farm` ends a worker with its task, which hangs; its `error` is `WorkersDied`.

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

    def map(self, function: Callable[..., Any], tasks: Iterable[tuple[int, Task]]) -> Iterator[tuple[int, Any]]:
        """Yield (number, function(*task)) for every (number, task)."""
        for number, task in tasks:
            yield number, function(*task)


class Farm:
    """Hands tasks to the workers of a Dask cluster, each task to one worker and no other.

    What is known of a task is looked up again and again, and never waited for without end: whether it is done, whether
    its worker is still there, and whether more workers can join if there are none.
    """

    def __init__(self, client: Any):
        self._client = client
        self._started = self.count

    @property
    def count(self) -> int:
        """Workers there are now; others may join."""
        return max(1, len(self._workers()))

    def map(self, function: Callable[..., Any], tasks: Iterable[tuple[int, Task]]) -> Iterator[tuple[int, Any]]:
        """Yield (number, function(*task)) as tasks finish; `tasks` is read only as far ahead as workers need.

        What a task raises is raised here. A worker that dies gives its tasks to others.
        Raises `WorkersDied` if `MOST_DEATHS` workers die of the same task, else `Unfinished` as `conduct` does.
        """
        waiting, given = iter(tasks), 0
        following: list[tuple[int, Task]] = []  # read already

        def pick(worker: str) -> tuple[int, Task] | None:
            nonlocal given
            task = following.pop() if following else next(waiting, None)
            given += task is not None
            return task

        def over() -> bool:  # all done, also where the last worker has left meanwhile
            if not given and not following:
                following.extend(itertools.islice(waiting, 1))
            return not given and not following

        with contextlib.closing(self._work(AHEAD, function, pick, None, over)) as results:
            for done in results:
                given -= 1
                if isinstance(done.error, WorkersDied):
                    self._settle()
                    raise WorkersDied(f"{done.error}; use fewer workers, or smaller blocks")
                key: Any = done.key
                yield key, done.result()

    def share(self, value: Any) -> Any:
        """As of `Serial`: the value travels once to every worker that needs it, and again if a worker is lost."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Dask's, of a large value in the graph: it is there once
            return self._client.submit(_same, value, key=f"shared-{uuid.uuid4().hex}")

    def conduct(
        self,
        function: Callable[..., Any],
        pick: Callable[[str], tuple[object, Task] | None],
        heard: Callable[[Any], object] | None = None,
        over: Callable[[], bool] = lambda: False,
        limit: float | None = None,
    ) -> Generator[Done, None, None]:
        """As of `Serial`, by all workers, also those that join later; the names of workers are their addresses.

        A task goes to the worker that `pick` was asked for; if that one dies, to another. Its `error` is `WorkersDied`
        if `MOST_DEATHS` workers die of it. After a minute without workers `heard` gets {"told": a sentence saying so}.
        Raises `Unfinished` if the scheduler is lost, or if all workers that this process started are, for `BACK` s.
        """
        return self._work(1, function, pick, heard, over, limit)

    def _work(
        self, ahead: int, function: Callable[..., Any], pick: Callable[..., Any], heard: Callable[..., Any] | None, over: Callable[..., Any],
        limit: float | None = None,
    ) -> Generator[Done, None, None]:  # fmt: skip
        """Keep `ahead` tasks at every worker; one each after a worker died, so that the task that killed it is known."""
        topic, stir = f"told-{uuid.uuid4().hex}", threading.Event()
        messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        under_way: dict[Any, tuple[object, Task, str]] = {}  # future: key, arguments, worker
        again: list[tuple[object, Task]] = []
        deaths: Counter[object] = Counter()
        given: dict[Any, float] = {}  # future: when
        lonely = _Lonely(heard, self._client.scheduler.address)

        def listen(event: tuple[Any, ...]) -> None:
            messages.put(event[-1])
            stir.set()

        self._client.subscribe_topic(topic, listen)
        try:
            while True:
                stir.clear()
                workers = self._workers()
                self._check_some_may_come(lonely.look(workers))
                ended = [one for one, (*_, worker) in under_way.items() if one.done() or worker not in workers]
                _pass_on(messages, heard)  # all that those that are done have told
                for future in ended:
                    yield from self._taken(future, *under_way.pop(future), again, deaths)
                given = {future: given[future] for future in under_way}
                for future in [one for one, at in given.items() if limit and time.monotonic() > at + limit]:
                    key, _, worker = under_way.pop(future)
                    self._end(worker)
                    future.cancel()
                    yield Done(key, error=WorkersDied(f"task {key}: no end of it within {limit:g} s"), worker=worker)
                if over():
                    again.clear()
                load = Counter(worker for *_, worker in under_way.values())
                for place, worker in itertools.product(range(1 if deaths else ahead), workers):
                    if load[worker] > place:
                        continue
                    task = again.pop(0) if again else pick(worker)
                    if task is None:
                        break
                    options = {"pure": False, "workers": [worker], "allow_other_workers": False}
                    future = self._client.submit(_speaking, topic, function, *task[1], **options)
                    under_way[future], given[future] = (*task, worker), time.monotonic()
                    future.add_done_callback(lambda _: stir.set())
                if not under_way and not again and (workers or over()):
                    return
                stir.wait(POLL)
        finally:
            with contextlib.suppress(Exception):  # of a scheduler that is gone
                for future in under_way:  # nobody waits for it any more
                    future.cancel()
                self._client.unsubscribe_topic(topic)

    def _taken(
        self, future: Any, key: object, arguments: Task, worker: str, again: list[Any], deaths: Counter[object]
    ) -> Generator[Done, None, None]:
        """Yield the result of a task that is done; a task whose worker is gone is queued again."""
        done = self._fetched(future, key, worker) if future.done() else None
        future.cancel()  # nobody waits for it any more
        if done is None and (died := deaths[key] + 1) < MOST_DEATHS:
            deaths[key] = died
            again.append((key, arguments))
            return
        del deaths[key]
        yield done or Done(key, error=WorkersDied(f"task {key}: {DIED}"), worker=worker)

    def _end(self, worker: str) -> None:
        """End a worker that hangs; its nanny or batch system may start it again."""
        options = {"wait_for_workers": False, "on_error": "return", "timeout": ANSWER, "stimulus_id": uuid.uuid4().hex}
        with contextlib.suppress(OSError, TimeoutError, asyncio.TimeoutError):  # it is looked up again in a moment
            self._client.sync(self._client.scheduler.restart_workers, workers=[worker], **options)

    def _workers(self) -> list[str]:
        """Return the workers that the scheduler knows now."""
        client = self._client
        if client.status in ("running", "connecting"):
            with contextlib.suppress(OSError, TimeoutError, asyncio.TimeoutError):  # of which Python 3.10 makes two
                return list(client.sync(client.scheduler.identity, n_workers=-1, callback_timeout=ANSWER)["workers"])
        raise Unfinished(LOST)

    def _check_some_may_come(self, lonely: float) -> None:
        """Raise `Unfinished` if nobody has been there for so many seconds, and nobody can come that is known of."""
        from distributed import LocalCluster, Status

        cluster = self._client.cluster
        if not lonely or cluster is None:  # who joins a cluster that is not ours is not ours to know
            return
        late = isinstance(cluster, LocalCluster) and lonely > BACK  # jobs may wait in their queue for days
        if late or all(one.status in (Status.closed, Status.failed) for one in list(cluster.workers.values())):
            raise Unfinished(GONE)

    def _fetched(self, future: Any, key: object, worker: str) -> Done | None:
        """Return what a task gave, however long that takes to come from its worker; None if that one is gone."""
        from distributed import CancelledError, KilledWorker
        from distributed.comm import CommClosedError

        async def gather() -> Any:
            return await self._client.gather(future, asynchronous=True)

        coming = asyncio.run_coroutine_threadsafe(gather(), self._client.loop.asyncio_loop)
        while not concurrent.futures.wait([coming], timeout=POLL).done:
            if worker not in self._workers():
                return None
        try:
            return Done(key, coming.result(), worker=worker)
        except KilledWorker:  # at what the task needs
            return Done(key, error=WorkersDied(f"task {key}: {DIED}"), worker=worker)
        except Exception as error:
            if future.status != "error" and isinstance(error, (CancelledError, CommClosedError)):  # not the task's own
                raise Unfinished(LOST) from None
            return Done(key, error=error, worker=worker)

    def _settle(self) -> None:
        """Wait for workers that are being restarted: closing them just then makes Dask print a stack trace."""
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):  # of which Python 3.10 makes two
            self._client.wait_for_workers(self._started, timeout=10)


class _Lonely:
    """Tells when there have been no workers for a while, once until the next one joins."""

    def __init__(self, heard: Callable[[Any], object] | None, address: str):
        self.heard, self.address, self.since, self.told = heard, address, time.monotonic(), False

    def look(self, workers: list[str]) -> float:
        """Return for how many seconds there have been none."""
        if workers:
            self.since, self.told = time.monotonic(), False
            return 0.0
        seconds = time.monotonic() - self.since
        if seconds >= LONELY and not self.told:
            self.told = True
            text = f"waiting for workers of {self.address}: none for {LONELY:.0f} s; work goes on as soon as one joins"
            if self.heard is None:
                log.warning(text)
            else:
                self.heard({"told": text})
        return seconds


def _pass_on(messages: queue.SimpleQueue[Any], heard: Callable[..., Any] | None) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            message = messages.get_nowait()
            if heard is not None:
                heard(message)


def _same(value: Any) -> Any:
    return value


def _speaking(topic: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Do a task on a worker; what it tells goes to the process that gave it."""
    from distributed import get_worker

    worker = get_worker()
    with _saying(lambda message: worker.log_event(topic, message)):
        return function(*arguments)


@contextlib.contextmanager
def open_workers(workers: int = 1, scheduler: str | RunningScheduler | Batch | None = None) -> Iterator[Serial | Farm]:
    """Give something that does tasks: this process, `workers` processes of one thread, a Dask cluster, a batch system.

    Args:
        workers: processes on this machine, >= 1; 1 is this process.
        scheduler: instead, a running Dask scheduler (its address, such as tcp://node7:8786, or a `RunningScheduler`
            with the certificates of a tls:// one), or jobs of a batch system.

    Every cluster that is started here has a key of its own (see `pipelines.jobs.tls`).

    Raises:
        InputError: `workers` < 1, no scheduler answers at that address within 10 s, certificates are missing, or jobs
            cannot be submitted.

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
def _client(workers: int, scheduler: str | RunningScheduler | Batch | None) -> Iterator[Any]:
    import dask
    import distributed

    if isinstance(scheduler, Batch):
        with contextlib.ExitStack() as keys:
            with _deaf_children(), dask.config.set(NO_PAGES):
                farm = keys.enter_context(scheduler.opened())
            with _ours(farm, BACK) as client:
                yield client
        return
    if scheduler is not None:
        try:
            client = distributed.Client(**connect(scheduler), timeout=10)
        except InputError:
            raise
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
            f"scheduler {getattr(scheduler, 'address', scheduler)}: {reason}; expected the address of a running Dask scheduler, as tcp://host:8786"
        )
    options: dict[str, Any] = {
        "n_workers": workers,
        "threads_per_worker": 1,
        "processes": True,
        "silence_logs": logging.CRITICAL,
    }
    # No dashboard, and its server on any free port of this machine alone: a second farm would warn of port 8787.
    # No memory limit: Dask would stop a worker that maps a large file.
    server = {"dashboard_address": "127.0.0.1:0", "dashboard": False}
    options |= {"protocol": "tls://", "security": new_security()}
    with _deaf_children(), dask.config.set(NO_PAGES):
        local = distributed.LocalCluster(
            **options, dashboard_address=None, scheduler_kwargs=server, memory_limit=0, env=ALONE
        )
    with _ours(local, NEVER) as client:
        yield client


@contextlib.contextmanager
def _ours(cluster: Any, back: float) -> Iterator[Any]:
    """Give a client of a cluster that is closed at the end, and that waits `back` seconds for a lost worker.

    By itself Dask gives up a worker that is not back 15 s after it died, without a word, and never starts it again.
    On a machine with much to do, or from a shared file system, it takes longer than that to start one.
    """
    import dask
    from distributed import Client

    try:
        with dask.config.set({"distributed.deploy.lost-worker-timeout": f"{back} s"}), Client(cluster) as client:
            yield client
    finally:
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):  # what is left ends with this process
            cluster.close(timeout=CLOSING)


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """Have processes that start meanwhile ignore Ctrl-C, which a terminal sends to all; this process ends them."""
    if (
        threading.current_thread() is not threading.main_thread()
    ):  # only the main thread can set handlers, and gets Ctrl-C
        yield
        return
    # During the two seconds of the start nothing handles it. (A blocked signal would wait, but Python's resource tracker
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

    loggers = [logging.getLogger(f"{distributed.__name__}{part}") for part in ("", ".client")]  # each with its level
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
