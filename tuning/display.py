"""What a search shows while it runs: on a terminal a line for every running trial, otherwise one for every ended one."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from tuning.objectives import Objective

RECENT = 200  # epochs that the throughput is of


@contextlib.contextmanager
def display(objective: Objective, notices: Sequence[str] = ()) -> Iterator:
    """Give a `tuning.session.Watcher` that shows a search on stderr; `notices` come before its plan."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bars:
        yield _watcher()(objective, notices, console, bars)


def _watcher():
    from tuning.engine import Watcher  # which needs TensorFlow

    class Display(_Display, Watcher):
        pass

    return Display


class _Display:
    """Keeps what is shown up to date: the whole search first, below it the trials that run."""

    def __init__(self, objective, notices, console, bars):
        self.objective, self.notices, self.console, self.bars = objective, notices, console, bars
        self.records: list[Mapping[str, object]] = []
        self.running: dict[str, int] = {}  # trial -> its line
        self.workers: set[str] = set()
        self.pace = Pace()

    def planned(self, plan):
        self.plan, self.records = plan, list(plan.done)
        for notice in self.notices:
            self.told(notice)
        if self.objective.uses_truth:
            self.told(self.objective.notice)
        workers = f" on {plan.workers} workers" if plan.workers > 1 else ""
        self.told(f"Plan: {plan.trials} trials, {plan.epochs} epochs{workers}")
        for bracket in plan.brackets:
            self.told(f"  {bracket}")
        if self.records:
            self.told(f"{len(self.records)} trials are done already.")
        self.total = self.bars.add_task("trials", total=plan.trials, completed=len(self.records), note="")

    def begun(self, trial, epochs, worker):
        self.workers.add(worker)
        where = f" on {worker}" if self.plan.workers > 1 else ""
        options = {"total": epochs.stop, "completed": epochs.start, "note": "epochs"}
        if trial in self.running:  # given to another worker
            self.bars.remove_task(self.running[trial])
        self.running[trial] = self.bars.add_task(f"  trial {trial}{where}", **options)

    def epoch(self, trial, epoch, worker, logs):
        self.pace.tick()
        loss = next((logs[name] for name in ("val_loss", "loss") if logs.get(name) is not None), None)
        if trial in self.running:
            note = "epochs" if loss is None else f"epochs, loss {loss:.4g}"
            self.bars.update(self.running[trial], completed=epoch, note=note)
        self.bars.update(self.total, note=self._note())

    def ended(self, record, finished):
        if record["trial"] in self.running:
            self.bars.remove_task(self.running.pop(record["trial"]))
        self.records.append(record)
        self.bars.update(self.total, completed=finished, note=self._note())
        if not self.console.is_terminal or record["status"] != "COMPLETED":
            found = record["message"] or f"objective {record['objective']:.4f}"
            told = f"trial {record['trial']} ({finished}/{self.plan.trials}): bracket {record['bracket']}"
            self.told(f"{told}, epoch {record['epochs']}, {found}; {self._note()}, {record['seconds']:.0f} s")

    def _note(self) -> str:
        left = self.plan.seconds_left(self.records, min(self.plan.workers, len(self.workers)))
        left = "" if left is None or len(self.records) >= self.plan.trials else f"about {duration(left)} left"
        return ", ".join(filter(None, (self._best(), self.pace.text(), left)))

    def _best(self) -> str:
        done = [record for record in self.records if record["status"] == "COMPLETED"]
        if not done:
            return "none completed yet"
        best = done[self.objective.best([record["metrics"] for record in done])]
        if not self.objective.pareto:
            return f"best {best['objective']:.4f} (trial {best['trial']})"
        knee = ", ".join(f"{name} {best['metrics'][name]:.3g}" for name in self.objective.weights)
        return f"knee: trial {best['trial']} ({knee})"

    def told(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


class Pace:
    """Epochs a second of all workers together, over the last 200.

    >>> times = iter([0.0, 1.0, 3.0])
    >>> pace = Pace(now=lambda: next(times))
    >>> pace.tick()
    >>> pace.tick()
    >>> pace.text()
    '1.5 s/epoch'
    """

    def __init__(self, now=time.monotonic):
        self.now = now
        self._ticks: deque[float] = deque([now()], maxlen=RECENT + 1)

    def tick(self) -> None:
        """An epoch has ended."""
        self._ticks.append(self.now())

    def text(self) -> str:
        """Return the pace, where there is one."""
        elapsed = self._ticks[-1] - self._ticks[0]
        if len(self._ticks) < 2 or elapsed <= 0:
            return ""
        rate = (len(self._ticks) - 1) / elapsed
        return f"{rate:.1f} epochs/s" if rate >= 1 else f"{1 / rate:.1f} s/epoch"


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
