"""Hyperband with an exact trial budget.

KerasTuner's Hyperband runs as many trials as `max_epochs` and `factor` imply (keras-tuner issues 212, 659, 901). Here
the number of trials is given, `tuning.brackets.plan` lays them out in brackets, and `BudgetedHyperband` follows the plan.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from tuning.brackets import Bracket, Round, extended, plan, total_epochs
from tuning.kerastuner import keras_tuner
from tuning.oracle import InMemoryOracle
from tuning.sampling import RandomSampler
from tuning.schemas import numbered

__all__ = ["Bracket", "BudgetedHyperband", "Round", "plan", "total_epochs"]


def _has_ended(trial) -> bool:
    # In a shared oracle a worker sets COMPLETED on its trial before the oracle has scored it.
    return trial.status == "FAILED" or (trial.status == "COMPLETED" and trial.score is not None)


class BudgetedHyperband(InMemoryOracle, RandomSampler, keras_tuner.oracles.HyperbandOracle):
    """KerasTuner's Hyperband oracle, running exactly `max_trials` trials laid out by `plan`.

    A configuration is promoted as soon as it is certain to be among the best of its round (Li et al. 2018,
    Algorithm 1), ties broken by trial id; while a round waits for results, the brackets after it are begun.
    Which configurations are tried where follows from the seed and the results, not from which came first.
    The order of fresh configurations follows from the seed alone: they fill the first rounds, bracket by bracket, so a
    search that goes on with more trials tries those that a longer one would have tried. A trial is named by its place in
    the plan: bracket by bracket, round by round.
    With `order`, a function from ids of trials to their places, best first, a round is compared as a whole.
    Failed trials and scores that are not a number are never promoted: a place that nobody is left to take
    goes to a fresh random configuration, trained from the start to that round's epoch: the budget is used.
    A worker is answered STOPPED once all trials are given out, even if others still run.

    Args:
        objective: as for every KerasTuner oracle.
        max_trials: N >= 1, the number of trials, never more; fewer only if the space is `exhausted`.
        max_epochs: R >= 1, the epochs of a fully trained configuration.
        factor: eta >= 2, one configuration in eta is promoted.
        seed: integer or None; the same seed (0 is one) gives the same configurations.
        before: numbers of trials that the search was asked for earlier, before it went on to `max_trials`.
        max_consecutive_failed_trials: failures in a row that end the search; None, the default, for never.
        **kwargs: the other arguments of `keras_tuner.oracles.HyperbandOracle`, such as `hyperparameters`.

    Raises:
        ValueError: a number is out of its range.

    >>> hp = keras_tuner.HyperParameters()
    >>> _ = hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
    >>> oracle = BudgetedHyperband("val_loss", max_trials=20, max_epochs=9, seed=0, hyperparameters=hp)
    >>> [bracket.trials for bracket in oracle.plan]
    [13, 6, 1]
    """

    promotes = True

    def __init__(
        self,
        objective: object = None,
        max_trials: int = 20,
        max_epochs: int = 100,
        factor: int = 3,
        seed: int | None = None,
        max_consecutive_failed_trials: int | None = None,
        before: Sequence[int] = (),
        **kwargs: object,
    ):
        self.plan = extended([*before, max_trials], max_epochs, factor)
        super().__init__(
            objective,
            max_epochs=int(max_epochs),
            factor=int(factor),
            seed=seed,
            max_consecutive_failed_trials=max_consecutive_failed_trials or max_trials + 1,
            **kwargs,
        )
        self.max_trials = int(max_trials)
        if seed is not None:
            self.seed = int(seed)  # KerasTuner: `seed or random`, which takes 0 for None.
        # KerasTuner samples with seed, seed + 1, ...: neighbouring seeds would try the same values again.
        self._seed_state = random.Random(self.seed).getrandbits(48)
        self._brackets = [
            {"bracket_num": bracket.number, "rounds": [[] for _ in bracket.rounds]} for bracket in self.plan
        ]
        self._drawn: list[dict[str, Any]] = []  # fresh configurations, in the order of drawing
        self._given: set[int] = set()  # which of them are given out
        self._substitutes: dict[int, dict[str, Any]] = {}  # by number, what took the places of trials that failed
        self._exhausted_at: int | None = None
        self.verbose = 0

    @property
    def exhausted(self) -> bool:
        """Whether every configuration of the search space has been tried, which may end the search early."""
        # New hyperparameters may appear while a model is built, and make the space larger again.
        return self._exhausted_at == len(self.hyperparameters.space) and len(self._given) == len(self._drawn)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Give a trial its values: a promotion where one is certain, else a fresh configuration.

        Args:
            trial_id: string, what KerasTuner would call it; its own name follows from its place in the plan.

        Returns:
            dict with "status" ("RUNNING", "IDLE" or "STOPPED") and, if running, "values" and "name".
        """
        was_exhausted = self.exhausted
        for position, (bracket, book) in enumerate(zip(self.plan, self._brackets, strict=True)):
            # The last round first: its trials are the longest.
            for index in reversed(range(len(bracket.rounds))):
                place = self._free_place(position, index)
                values = self._next_values(position, book["rounds"], index, place)
                if values is not None:
                    name = self._names(position, index)[place]
                    book["rounds"][index].append({"past_id": values.get("tuner/trial_id"), "id": name})
                    return {"status": "RUNNING", "values": values, "name": name}
        if self.exhausted and not was_exhausted:
            return self.populate_space(trial_id)  # Rounds need not wait any more for trials that cannot come.
        return {"status": "IDLE" if self.ongoing_trials else "STOPPED"}

    def _next_values(self, position: int, rounds: list[list[dict]], index: int, place: int) -> dict[str, Any] | None:
        bracket = self.plan[position]
        values: dict[str, Any] | None
        free = bracket.rounds[index].size - len(rounds[index])
        if not free:
            return None
        candidates = self._candidates(rounds, index)
        awaited = self._awaited(bracket, rounds, index - 1) if index else 0
        # Were all that are awaited better, it would still be promoted; an order of all may change with each.
        if candidates and awaited < (free if self.order is None else 1):
            values = {**candidates[0].hyperparameters.values, "tuner/trial_id": candidates[0].trial_id}
            start = bracket.rounds[index - 1].epochs
        elif candidates or awaited:
            return None
        else:
            number = self._number(position, index) + min(place, len(rounds[index]))
            values, start = self._substitute(number) if index else self._fresh_values(number), 0
        if values is None:
            return None
        return {
            **values,
            "tuner/initial_epoch": start,
            "tuner/epochs": bracket.rounds[index].epochs,
            "tuner/bracket": bracket.number,
            "tuner/round": index,
        }

    def _candidates(self, rounds: Sequence[list[dict]], index: int) -> list:
        """The trials that may be promoted into the round, best first."""
        if index == 0:
            return []
        promoted = {entry["past_id"] for entry in rounds[index]}
        trials = [self.trials[entry["id"]] for entry in rounds[index - 1]]
        # A score that is not a number has made its trial FAILED (Oracle.end_trial).
        scored = [trial for trial in trials if trial.status == "COMPLETED" and trial.score is not None]
        sign = -1 if self.objective.direction == "max" else 1
        scored.sort(key=lambda trial: (sign * trial.score if self.order is None else 0, self._origin(trial)))
        best = scored if self.order is None else [scored[i] for i in self.order([t.trial_id for t in scored])]
        return [trial for trial in best if trial.trial_id not in promoted]

    def _origin(self, trial) -> tuple[int, str]:
        """The place of the fresh trial behind a promoted one: it does not depend on which result came first."""
        while "tuner/trial_id" in trial.hyperparameters.values:
            trial = self.trials[trial.hyperparameters.values["tuner/trial_id"]]
        return numbered(trial.trial_id)

    def _number(self, position: int, index: int) -> int:
        """The number of the first configuration of a round: first rounds count for themselves, and so do all others."""
        sizes = [[each.size for each in bracket.rounds] for bracket in self.plan]
        if index == 0:
            return sum(each[0] for each in sizes[:position])
        return sum(sum(each[1:]) for each in sizes[:position]) + sum(sizes[position][1:index])

    def _names(self, position: int, index: int) -> list[str]:
        """The names of the trials of a round; in a search of an earlier version those of all of its first plan."""
        rounds = self.plan[position].rounds
        first = sum(bracket.trials for bracket in self.plan[:position]) + sum(each.size for each in rounds[:index])
        numbers = range(self.in_order) if first < self.in_order else range(first, first + rounds[index].size)
        return [f"{number:0{self.width}d}" for number in numbers]

    def _free_place(self, position: int, index: int) -> int:
        """The first place of a round, among its names, that no trial has; the number of names if there is none."""
        names = self._names(position, index)
        return next((place for place, name in enumerate(names) if name not in self.trials), len(names))

    def _awaited(self, bracket: Bracket, rounds: Sequence[list[dict]], index: int) -> int:
        """The number of trials of the round that have not ended, started or not."""
        running = sum(not _has_ended(self.trials[entry["id"]]) for entry in rounds[index])
        to_start = bracket.rounds[index].size - len(rounds[index])
        if self.exhausted:  # Nothing fresh can start: only those promoted from the round before.
            before = self._awaited(bracket, rounds, index - 1) if index else 0
            to_start = min(to_start, len(self._candidates(rounds, index)) + before)
        return running + to_start

    def _fresh_values(self, number: int) -> dict[str, Any] | None:
        """The configuration number n of the search, drawn in order: so who asks first does not matter.

        Of an exhausted space the first one that is left, and None if there is none.
        """
        if number in self._given:
            number = len(self._drawn)
        self._draw(number + 1)
        left = [n for n in range(len(self._drawn)) if n not in self._given]
        if not left:
            return None
        number = number if number in left else left[0]
        self._given.add(number)
        return dict(self._drawn[number])

    def _draw(self, count: int) -> None:
        """Draw so many configurations for first rounds in all, or those that the space has."""
        while len(self._drawn) < count and (values := self._random_values()) is not None:
            self._drawn.append(values)
            self._tried_so_far.add(self._compute_values_hash(values))

    def _substitute(self, number: int) -> dict[str, Any] | None:
        """The configuration number n of those that take the place of a promotion, since trials have failed.

        It follows from the seed and n: these are drawn apart from, and after, those of the first rounds, which they must not
        change. Of an exhausted space the first one that is left, and None if there is none.
        """
        self._draw(sum(bracket.rounds[0].size for bracket in self.plan))
        if number not in self._substitutes:
            kept = self._seed_state, self._number_drawn
            self._seed_state = random.Random(f"{self.seed} {number}").getrandbits(48)
            self._number_drawn = self._architectures + number % max(1, len(self._first))
            values = self._random_values()
            self._seed_state, self._number_drawn = kept
            if values is None:
                return self._fresh_values(len(self._drawn))
            self._tried_so_far.add(self._compute_values_hash(values))
            self._substitutes[number] = values
        return dict(self._substitutes[number])

    def _random_values(self) -> dict[str, Any] | None:
        if self._exhausted_at == len(self.hyperparameters.space):
            return None
        values = super()._random_values()
        if values is None:
            self._exhausted_at = len(self.hyperparameters.space)
        return values

    # -- a search that goes on from the records of its trials

    def position_of(self, trial_id: str) -> tuple[int, int]:
        """Return the position of a trial in the plan: (index of its bracket, index of its round)."""
        for position, book in enumerate(self._brackets):
            for index, entries in enumerate(book["rounds"]):
                if any(entry["id"] == trial_id for entry in entries):
                    return position, index
        raise KeyError(trial_id)

    def restore_trial(self, trial_id: str, values: Mapping[str, Any], position: int, index: int) -> object:
        """Add a trial that an earlier process started; it is then ended, or run, as if it had been started now.

        Args:
            trial_id, values: as they were. position, index: as `position_of` said.

        Raises:
            ValueError: that round of the plan is full, or what the trial was promoted from is not there.
        """
        past = values.get("tuner/trial_id")
        entries = self._brackets[position]["rounds"][index]
        if len(entries) >= self.plan[position].rounds[index].size or (past is not None and past not in self.trials):
            raise ValueError(f"trial {trial_id} has no room in the plan")
        if trial_id in self.trials or trial_id not in self._names(position, index):
            raise ValueError(f"trial {trial_id} has another place in the plan")
        hyperparameters = self.hyperparameters.copy()
        hyperparameters.values = dict(values)
        trial = keras_tuner.engine.trial.Trial(hyperparameters=hyperparameters, trial_id=trial_id, status="RUNNING")
        entries.append({"past_id": past, "id": trial_id})
        self._record_values(trial)
        self.trials[trial_id] = self.ongoing_trials[f"restored {trial_id}"] = trial
        self.start_order.append(trial_id)
        return trial
