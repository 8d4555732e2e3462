"""The progress of a search: the plan before its first trial, and the events that a listener gets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tuning.brackets import Bracket, total_epochs


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan of a search: its brackets, its workers, and the records of finished trials.

    `program` gives of hyperparameters what trials that share a compiled program have in common.
    """

    brackets: Sequence[Bracket]
    workers: int
    done: Sequence[Mapping[str, Any]] = ()
    program: Callable[[Mapping[str, Any]], object] = str

    @property
    def trials(self) -> int:
        """The number of trials."""
        return sum(bracket.trials for bracket in self.brackets)

    @property
    def epochs(self) -> int:
        """The number of epochs that they train, all together."""
        return total_epochs(self.brackets)

    def seconds_left(self, records: Sequence[Mapping[str, Any]], workers: int = 0) -> float | None:
        """Return how long the rest takes at the pace of these trials, or None before every worker has done one and more.

        (a T + b E + c p T) / workers for T trials with E epochs that are left: an epoch takes b and a trial a more, as
        those did whose program was there; c is what it took to build one, which every worker does for its first trial;
        p, the share of trials to come that need a new one, is that of programs among these trials that were used once
        (Good, Biometrika 40 (1953) 237).
        """
        workers = max(1, workers or self.workers)
        if len(records) <= workers:
            return None
        programs = [self.program(record["hyperparameters"]) for record in records]
        new = [place < workers or key not in programs[:place] for place, key in enumerate(programs)]
        usual = [record for record, first in zip(records, new) if not first] or records
        epoch = sum(map(_within, usual)) / max(1, sum(map(_trained, usual)))
        rest = [record["seconds"] - _within(record) - record.get("compiling_seconds", 0.0) for record in usual]
        trial = sum(rest) / len(rest)
        built = [r["seconds"] - trial - epoch * _trained(r) for r, first in zip(records, new) if first]
        again = sum(programs.count(key) == 1 for key in programs) / len(programs)
        build = max(0.0, sum(built) / len(built)) * again
        trials, epochs = self.trials - len(records), max(0, self.epochs - sum(map(_trained, records)))
        return ((trial + build) * trials + epoch * epochs) / workers


def _trained(record: Mapping[str, Any]) -> int:
    return record["epochs"] - record["initial_epoch"]


def _within(record: Mapping[str, Any]) -> float:
    """Seconds that a trial spent in its epochs."""
    return record.get("training_seconds", 0.0) + record.get("validating_seconds", 0.0)


class SearchListener:
    """Is told how a search goes, in the user's process; a display inherits from it."""

    def planned(self, plan: Plan) -> None:
        """The plan is made, and nothing has begun."""

    def begun(self, trial: str, epochs: range, worker: str, bracket: int = 0) -> None:
        """A trial of a bracket, by its number s, is given to a worker, to train these epochs."""

    def epoch(self, trial: str, epoch: int, worker: str, logs: Mapping[str, float | None]) -> None:
        """So many epochs of it are done."""

    def ended(self, record: Mapping[str, Any], finished: int) -> None:
        """It has ended, and so many trials have."""

    def told(self, text: str) -> None:
        """Something the user should know, such as a damaged file."""
