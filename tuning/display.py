"""The progress of a search: on a terminal a line for every running trial, otherwise one for every ended trial.

On a terminal the last lines are written anew several times a second: the whole search, the best until now, and the
trials that run. Each is cut to the width of the terminal, so that nothing wraps and nothing moves when numbers change.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from tuning.objectives import Objective

RECENT = 50  # epochs that the throughput is of
BAR = 20  # characters
NOISE = re.compile(
    r"[IW]\d{4} |WARNING: All log messages before absl::"
)  # of TensorFlow, in processes that it starts in
END = "\0 the search has ended\n"  # tells the reader of others' lines that nothing more is to come


@contextlib.contextmanager
def display(objective: Objective, notices: Sequence[str] = ()) -> Iterator:
    """Give a `tuning.session.SearchListener` that shows a search on stderr; `notices` come before its plan."""
    from rich.console import Console
    from rich.live import Live

    with contextlib.ExitStack() as stack:
        stream, others = stack.enter_context(_own_stderr())
        console = Console(file=stream)
        shown = _listener()(objective, notices, console)
        if console.is_terminal:
            stack.enter_context(Live(shown, console=console, transient=True, refresh_per_second=5))
        stack.enter_context(_passing_on(others, shown.told))
        yield shown


def _listener():
    from tuning.engine import SearchListener  # which needs TensorFlow

    class Display(_Display, SearchListener):
        pass

    return Display


class _Display:
    """Keeps what is shown up to date: the whole search first, below it the best, and the trials that run."""

    def __init__(self, objective, notices, console):
        self.objective, self.notices, self.console = objective, notices, console
        self.plan = None
        self.records: list[Mapping[str, Any]] = []
        self.running: dict[str, _Running] = {}
        self.workers: dict[str, int] = {}  # by address, the numbers that they are called by
        self.pace, self.left = Pace(), Countdown()

    # -- events of the search -----------------------------------------------------------------------------

    def planned(self, plan):
        self.records = list(plan.done)
        for notice in self.notices:
            self.told(notice)
        if self.objective.uses_truth:
            self.told(self.objective.notice)
        workers = f" on {plan.workers} workers" if plan.workers > 1 else ""
        self.told(f"Plan: {plan.trials} trials, {plan.epochs} epochs{workers}")
        for bracket, count in Counter(map(str, plan.brackets)).items():
            self.told(f"  {bracket}" + (f" ({count} times)" if count > 1 else ""))
        if self.records:
            self.told(f"{len(self.records)} trial{'s are' if len(self.records) > 1 else ' is'} done already.")
        self.plan = plan

    def begun(self, trial, epochs, worker, bracket=0):
        number = self.workers.setdefault(worker, len(self.workers) + 1)
        self.running = {**self.running, trial: _Running(trial, bracket, number, epochs.start, epochs.stop)}

    def epoch(self, trial, epoch, worker, logs):
        self.pace.tick()
        if trial in self.running:
            running = self.running[trial]
            running.epoch = epoch
            found = next((logs[name] for name in ("val_loss", "loss") if logs.get(name) is not None), None)
            running.loss = running.loss if found is None else found

    def ended(self, record, finished):
        self.running = {name: one for name, one in self.running.items() if name != record["trial"]}
        self.records.append(record)
        self.left.set(self.plan.seconds_left(self.records, min(self.plan.workers, len(self.workers))))
        found = record["message"] or f"objective {record['objective']:.4f}"
        if not self.console.is_terminal:
            told = f"trial {record['trial']} ({finished}/{self.plan.trials}): bracket {record['bracket']}"
            notes = filter(None, (self._best(), self._note()))
            self.told(f"{told}, epoch {record['epochs']}, {found}; {', '.join(notes)}, {record['seconds']:.0f} s")
        elif record["status"] != "COMPLETED":
            self.told(f"trial {record['trial']} has failed: {found}")

    def told(self, text: str) -> None:
        # whole lines for files and pipes, whose readers look for words; on a terminal words stay whole
        self.console.print(text, highlight=False, markup=False, soft_wrap=not self.console.is_terminal)

    # -- what it shows -------------------------------------------------------------------------------

    def __rich_console__(self, console, options):
        """The lines at the end of the terminal, none of them longer than it is wide."""
        from rich.text import Text

        for line in self.lines(options.size.height):
            yield Text(line, no_wrap=True, overflow="ellipsis")

    def lines(self, height: int) -> list[str]:
        """Return what is shown now: as many lines as a terminal of this height can hold."""
        if self.plan is None:
            return []
        total, done = self.plan.trials, len(self.records)
        digits = len(str(total))
        head = f"trials {bar(done, total)} {done:{digits}d}/{total}  {self._note()}".rstrip()
        first = [head, self._best(whole=True)] if done < total else [head, f"{self._best(whole=True)}; writing it"]
        running = list(self.running.values())
        if not running and done < total:
            what = "waiting for workers" if self.plan.workers > 1 and not self.workers else "starting"
            return [*first, f"  {what}"]
        room = max(1, height - len(first) - 2)
        several = self.plan.workers > 1
        shown = [one.text(several) for one in running[:room]]
        return first + shown + ([f"  and {len(running) - room} more"] if len(running) > room else [])

    def _note(self) -> str:
        left = "" if self.plan is None or len(self.records) >= self.plan.trials else self.left.text()
        return ", ".join(filter(None, (self.pace.text(), left)))

    def _best(self, whole: bool = False) -> str:
        done = [record for record in self.records if record["status"] == "COMPLETED"]
        if not done:
            return "none completed yet"
        best = done[self.objective.best([record["metrics"] for record in done])]
        terms = ", ".join(f"{name} {best['metrics'][name]:.3g}" for name in self.objective.weights)
        if self.objective.pareto:
            return f"knee: trial {best['trial']} ({terms})"
        return f"best {best['objective']:.4f} (trial {best['trial']}" + (f": {terms})" if whole else ")")


class _Running:
    """A trial that runs: its bracket, where, its epoch, and its loss."""

    def __init__(self, trial: str, bracket: int, worker: int, epoch: int, last: int):
        self.trial, self.bracket, self.worker, self.epoch, self.last = trial, bracket, worker, epoch, last
        self.loss = None

    def text(self, several: bool) -> str:
        """Return its line; which worker it is on only if there are `several`."""
        where = f" on worker {self.worker:<2}" if several else ""
        loss = "" if self.loss is None else f", loss {self.loss:.4g}"
        return f"  trial {self.trial}, bracket {self.bracket}{where} {bar(self.epoch, self.last)} epoch {self.epoch}/{self.last}{loss}"


def bar(done: int, total: int) -> str:
    """Return a bar of characters that fills from the left.

    >>> bar(1, 2)
    '━━━━━━━━━━──────────'
    """
    full = BAR * done // max(1, total)
    return "━" * full + "─" * (BAR - full)


class Pace:
    """Epochs a second of all workers together, over the last 50; what comes before the first epoch does not count.

    >>> times = iter([7.0, 8.0, 10.0])
    >>> pace = Pace(now=lambda: next(times))
    >>> for _ in range(3):
    ...     pace.tick()
    >>> pace.text()
    '1.5 s/epoch'
    """

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self.now = now
        self._ticks: deque[float] = deque(maxlen=RECENT + 1)

    def tick(self) -> None:
        """An epoch has ended."""
        self._ticks.append(self.now())

    def text(self) -> str:
        """Return the pace, where there is one."""
        if len(self._ticks) < 2 or self._ticks[-1] <= self._ticks[0]:
            return ""
        rate = (len(self._ticks) - 1) / (self._ticks[-1] - self._ticks[0])
        return f"{rate:.1f} epochs/s" if rate >= 1 else f"{1 / rate:.1f} s/epoch"


class Countdown:
    """The time that is left, which passes between two estimates.

    >>> times = iter([0.0, 30.0])
    >>> left = Countdown(now=lambda: next(times))
    >>> left.set(90.0)
    >>> left.text()
    'about 1 min left'
    """

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self.now = now
        self._until: float | None = None

    def set(self, seconds: float | None) -> None:
        """It is so many seconds from now; None is not known."""
        self._until = None if seconds is None else self.now() + seconds

    def text(self) -> str:
        """Return it in words, or nothing where it is not known."""
        return "" if self._until is None else f"about {duration(max(1.0, self._until - self.now()))} left"


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(4), duration(90), duration(7500), duration(200000)
    ('4 s', '1 min 30 s', '2 h 5 min', '2 d 7 h')
    """
    seconds = round(seconds)
    for unit, name, size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= unit:
            rest = seconds % unit // size
            return f"{seconds // unit} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds} s"


# -- what else writes to stderr ------------------------------------------------------------------------


@contextlib.contextmanager
def _own_stderr() -> Iterator[tuple[IO[str], int | None]]:
    """Give a stream to the real stderr, and a pipe with all else that this process writes to stderr meanwhile.

    Workers inherit stderr, and TensorFlow writes to it past Python: in the middle of lines that are written anew, it would
    leave parts of them behind.
    """
    try:
        is_process_stderr = sys.stderr.fileno() == 2
    except (AttributeError, OSError, ValueError):  # a test's, or a notebook's
        is_process_stderr = False
    if not is_process_stderr:
        yield sys.stderr, None
        return
    sys.stderr.flush()
    kept, (reading, writing) = os.dup(2), os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    with open(kept, "w", encoding=sys.stderr.encoding, errors="replace", buffering=1) as stream:
        try:
            yield stream, reading
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)


@contextlib.contextmanager
def _passing_on(reading: int | None, told: Callable[[str], None]) -> Iterator[None]:
    """Tell meanwhile what comes out of a pipe, line by line, but for what TensorFlow merely notes at its start."""
    if reading is None:
        yield
        return

    def pass_on():
        with open(reading, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line == END:
                    return
                if not NOISE.match(line) and line.strip():
                    told(line.rstrip())

    reader = threading.Thread(target=pass_on, daemon=True)
    reader.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.write(2, END.encode())  # processes that are still ending may hold the pipe open
        reader.join()
