"""Hyperband with an exact trial budget, able to survive being killed.

KerasTuner's Hyperband runs as many trials as `max_epochs` and `factor` imply (keras-tuner issues 212, 659,
901). Here their number is given, `plan` lays them out in brackets, and `BudgetedHyperband` follows the plan.
"""

import json
import os
import random
from dataclasses import dataclass
from itertools import cycle, pairwise
from numbers import Integral

from tuning.kerastuner import keras_tuner
from tuning.sampling import Draws

__all__ = ["Bracket", "BudgetedHyperband", "Round", "plan", "total_epochs"]


@dataclass(frozen=True)
class Round:
    """Trials of one bracket trained to the same epoch: `size` (>= 1) of them, to `epochs` (>= 1, cumulative).

    >>> Round(size=9, epochs=3)
    Round(size=9, epochs=3)
    """

    size: int
    epochs: int


@dataclass(frozen=True)
class Bracket:
    """One run of successive halving: bracket `number` s of Hyperband, and its rounds.

    >>> print(Bracket(1, (Round(6, 3), Round(2, 9))))
    bracket 1: 6 to epoch 3, best 2 to epoch 9
    """

    number: int
    rounds: tuple[Round, ...]

    @property
    def trials(self):
        """The number of trials, sum_i n_i: a promoted configuration is a new trial, as KerasTuner counts.

        >>> Bracket(1, (Round(6, 3), Round(2, 9))).trials
        8
        """
        return sum(each.size for each in self.rounds)

    @property
    def total_epochs(self):
        """The epochs trained, sum_i n_i (r_i - r_{i-1}): promoted trials continue from their weights.

        >>> Bracket(1, (Round(6, 3), Round(2, 9))).total_epochs
        30
        """
        steps = pairwise((Round(0, 0), *self.rounds))
        return sum(after.size * (after.epochs - before.epochs) for before, after in steps)

    def __str__(self):
        steps = ", best ".join(f"{each.size} to epoch {each.epochs}" for each in self.rounds)
        return f"bracket {self.number}: {steps}"


def _deepest_bracket(max_epochs, factor):
    """s_max = floor(log_eta R) (Li et al. 2018, Algorithm 1), in integers: floats give log_3(243) < 5."""
    number = 0
    while factor ** (number + 1) <= max_epochs:
        number += 1
    return number


def _first_size(number, max_epochs, factor):
    """n = ceil(B/R eta^s / (s + 1)) with B = (s_max + 1) R (Li et al. 2018, Algorithm 1)."""
    return -(-(_deepest_bracket(max_epochs, factor) + 1) * factor**number // (number + 1))


def _epochs(number, index, max_epochs, factor):
    """r_i = R eta^(i - s) (Li et al. 2018, Algorithm 1), rounded up to whole epochs."""
    return -(-max_epochs // factor ** (number - index))


def _sizes(first, number, factor):
    """n_i = floor(n eta^-i) for i = 0 ... s (Li et al. 2018, Algorithm 1), at least 1."""
    return [max(1, first // factor**i) for i in range(number + 1)]


def _bracket(number, sizes, max_epochs, factor):
    rounds = (Round(size, _epochs(number, i, max_epochs, factor)) for i, size in enumerate(sizes))
    return Bracket(number, tuple(rounds))


def _standard_bracket(number, max_epochs, factor):
    sizes = _sizes(_first_size(number, max_epochs, factor), number, factor)
    return _bracket(number, sizes, max_epochs, factor)


def _small_bracket(trials, number, max_epochs, factor):
    """The deepest bracket, s or below, whose rounds, of so few trials in all, at least halve each time."""
    fitting = [n for n in range(1, trials + 1) if sum(_sizes(n, number, factor)) <= trials]
    sizes = _sizes(max(fitting, default=1), number, factor)
    sizes[0] += trials - sum(sizes)  # Where one trial more or less costs the fewest epochs.
    if all(2 * after <= before for before, after in pairwise(sizes)):
        return _bracket(number, sizes, max_epochs, factor)
    return _small_bracket(trials, number - 1, max_epochs, factor)


def _require_integer(name, value, least):
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} = {value!r}: must be an integer, at least {least}")
    return int(value)


def plan(trials, max_epochs, factor=3):
    """Lay out exactly N trials in Hyperband brackets, the most aggressive first.

    A bracket s of Hyperband (Li et al. 2018, JMLR 18(185), Algorithm 1) starts n = ceil((s_max + 1) eta^s /
    (s + 1)) configurations; its round i trains the best floor(n eta^-i) of them to epoch R eta^(i - s). Here
    the paper's cycle s = s_max, ..., 0 is repeated while whole brackets fit into N; what remains is one
    bracket of smaller n, the deepest that still halves at every round. So every bracket takes a configuration
    to `max_epochs`. An N below the first bracket is that one small bracket: a short search gains most by
    looking at many configurations briefly.

    Args:
        trials: N, the number of trials, at least 1. A promoted configuration counts as a new trial.
        max_epochs: R, the epochs of a fully trained configuration, at least 1.
        factor: eta, at least 2: one configuration in eta is promoted.

    Returns:
        list of Bracket: the sizes of all rounds add up to N, and never grow within a bracket.

    Raises:
        ValueError: an argument is not an integer in its range.

    >>> for bracket in plan(20, max_epochs=9, factor=3):
    ...     print(bracket)
    bracket 2: 9 to epoch 1, best 3 to epoch 3, best 1 to epoch 9
    bracket 1: 5 to epoch 3, best 1 to epoch 9
    bracket 0: 1 to epoch 9
    """
    left = _require_integer("trials", trials, 1)
    max_epochs, factor = _require_integer("max_epochs", max_epochs, 1), _require_integer("factor", factor, 2)
    deepest = _deepest_bracket(max_epochs, factor)
    if deepest == 0:  # Nothing to halve: the cycle's one-trial brackets are one random search.
        return [_small_bracket(left, 0, max_epochs, factor)]
    brackets = []
    for number in cycle(range(deepest, -1, -1)):
        bracket = _standard_bracket(number, max_epochs, factor)
        if bracket.trials > left:
            bracket = _small_bracket(left, number, max_epochs, factor)
        brackets.append(bracket)
        left -= bracket.trials
        if not left:
            break
    return brackets


def total_epochs(brackets):
    """The epochs that a plan trains, the sum over its brackets (see `Bracket.total_epochs`).

    >>> total_epochs(plan(13, max_epochs=9, factor=3))
    21
    """
    return sum(bracket.total_epochs for bracket in brackets)


def _has_ended(trial):
    # In a shared oracle a worker sets COMPLETED on its trial before the oracle has scored it.
    return trial.status == "FAILED" or (trial.status == "COMPLETED" and trial.score is not None)


def _forget_result(trial):
    # KerasTuner keeps a partial run's metrics, averages them into the re-run's, and where the objective is
    # among them does not report the re-run at all.
    trial.metrics = type(trial.metrics)()
    trial.score, trial.best_step = None, 0


def _write(path, state):
    temporary = f"{path}.tmp"
    with open(temporary, "w") as file:
        json.dump(state, file)
    os.replace(temporary, path)


class BudgetedHyperband(Draws, keras_tuner.oracles.HyperbandOracle):
    """KerasTuner's Hyperband oracle, running exactly `max_trials` trials laid out by `plan`.

    A configuration is promoted as soon as it is certain to be among the best of its round (Li et al. 2018,
    Algorithm 1), ties broken by trial id; while a round waits for results, the brackets after it are begun.
    Which configurations are tried where follows from the seed and the results, not from which came first.
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
        max_consecutive_failed_trials: failures in a row that end the search; None, the default, for never.
        **kwargs: the other arguments of `keras_tuner.oracles.HyperbandOracle`, such as `hyperparameters`.

    Raises:
        ValueError: a number is out of its range, or a reloaded search was begun with another budget.

    >>> hp = keras_tuner.HyperParameters()
    >>> _ = hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
    >>> oracle = BudgetedHyperband("val_loss", max_trials=20, max_epochs=9, seed=0, hyperparameters=hp)
    >>> [bracket.trials for bracket in oracle.plan]
    [13, 6, 1]
    """

    def __init__(
        self,
        objective=None,
        max_trials=20,
        max_epochs=100,
        factor=3,
        seed=None,
        max_consecutive_failed_trials=None,
        **kwargs,
    ):
        self.plan = plan(max_trials, max_epochs, factor)
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
        self._drawn, self._given = [], set()  # fresh configurations, in the order of drawing; which are given out
        self._exhausted_at = None
        self.order = None
        self.verbose = 0

    @property
    def exhausted(self):
        """Whether every configuration of the search space has been tried, which may end the search early."""
        # New hyperparameters may appear while a model is built, and make the space larger again.
        return self._exhausted_at == len(self.hyperparameters.space) and len(self._given) == len(self._drawn)

    def populate_space(self, trial_id):
        """Give a trial its values: a promotion where one is certain, else a fresh configuration.

        Args:
            trial_id: string, the id of the trial to fill.

        Returns:
            dict with "status" ("RUNNING", "IDLE" or "STOPPED") and, if running, "values".
        """
        was_exhausted = self.exhausted
        for place, (bracket, book) in enumerate(zip(self.plan, self._brackets, strict=True)):
            # The last round first: its trials are the longest.
            for index in reversed(range(len(bracket.rounds))):
                values = self._next_values(place, book["rounds"], index)
                if values is not None:
                    book["rounds"][index].append({"past_id": values.get("tuner/trial_id"), "id": trial_id})
                    return {"status": "RUNNING", "values": values}
        if self.exhausted and not was_exhausted:
            return self.populate_space(trial_id)  # Rounds need not wait any more for trials that cannot come.
        return {"status": "IDLE" if self.ongoing_trials else "STOPPED"}

    def _next_values(self, place, rounds, index):
        bracket = self.plan[place]
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
            values, start = self._fresh_values(self._slot(place, index) + len(rounds[index])), 0
        if values is None:
            return None
        return {
            **values,
            "tuner/initial_epoch": start,
            "tuner/epochs": bracket.rounds[index].epochs,
            "tuner/bracket": bracket.number,
            "tuner/round": index,
        }

    def _candidates(self, rounds, index):
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

    def _origin(self, trial):
        """The id of the fresh trial behind a promoted one: it does not depend on which result came first."""
        while "tuner/trial_id" in trial.hyperparameters.values:
            trial = self.trials[trial.hyperparameters.values["tuner/trial_id"]]
        return trial.trial_id

    def _slot(self, place, index):
        """The number of the first trial of a round: first rounds count first, bracket by bracket, then the others."""
        sizes = [[each.size for each in bracket.rounds] for bracket in self.plan]
        if index == 0:
            return sum(each[0] for each in sizes[:place])
        return (
            sum(each[0] for each in sizes) + sum(sum(each[1:]) for each in sizes[:place]) + sum(sizes[place][1:index])
        )

    def _awaited(self, bracket, rounds, index):
        """The number of trials of the round that have not ended, started or not."""
        running = sum(not _has_ended(self.trials[entry["id"]]) for entry in rounds[index])
        to_start = bracket.rounds[index].size - len(rounds[index])
        if self.exhausted:  # Nothing fresh can start: only those promoted from the round before.
            before = self._awaited(bracket, rounds, index - 1) if index else 0
            to_start = min(to_start, len(self._candidates(rounds, index)) + before)
        return running + to_start

    def _fresh_values(self, number):
        """The configuration number n of the search, drawn in order: so who asks first does not matter.

        Of an exhausted space the first one that is left, and None if there is none.
        """
        if number in self._given:
            number = len(self._drawn)
        while len(self._drawn) <= number and (values := self._random_values()) is not None:
            self._drawn.append(values)
            self._tried_so_far.add(self._compute_values_hash(values))
        left = [n for n in range(len(self._drawn)) if n not in self._given]
        if not left:
            return None
        number = number if number in left else left[0]
        self._given.add(number)
        return dict(self._drawn[number])

    def _random_values(self):
        if self._exhausted_at == len(self.hyperparameters.space):
            return None
        values = super()._random_values()
        if values is None:
            self._exhausted_at = len(self.hyperparameters.space)
        return values

    # -- a search that goes on without the oracle's own files

    def place_of(self, trial_id):
        """Return where a trial is in the plan: (place of its bracket, round)."""
        for place, book in enumerate(self._brackets):
            for index, entries in enumerate(book["rounds"]):
                if any(entry["id"] == trial_id for entry in entries):
                    return place, index
        raise KeyError(trial_id)

    def adopt(self, trial_id, values, place, index):
        """Take up a trial that an earlier process gave out, as it did; to be ended, or run, as if given out now.

        Args:
            trial_id, values: as they were. place, index: as `place_of` said.

        Raises:
            ValueError: that round of the plan is full, or what the trial was promoted from is not there.
        """
        past = values.get("tuner/trial_id")
        entries = self._brackets[place]["rounds"][index]
        if len(entries) >= self.plan[place].rounds[index].size or (past is not None and past not in self.trials):
            raise ValueError(f"trial {trial_id} has no place in the plan")
        if past is None and self._fresh_values(self._slot(place, index) + len(entries)) is None:
            raise ValueError(f"trial {trial_id} is of another space")
        hyperparameters = self.hyperparameters.copy()
        hyperparameters.values = dict(values)
        trial = keras_tuner.engine.trial.Trial(hyperparameters=hyperparameters, trial_id=trial_id, status="RUNNING")
        entries.append({"past_id": past, "id": trial_id})
        self._record_values(trial)
        self.trials[trial_id] = self.ongoing_trials[f"adopted {trial_id}"] = trial
        self.start_order.append(trial_id)
        return trial

    def _retry(self, trial):
        # As upstream's, without its print.
        if trial.status != "INVALID":
            return False
        if self._run_times[trial.trial_id] > self.max_retries_per_trial:
            trial.status = "FAILED"
            return False
        _forget_result(trial)
        self._retry_queue.append(trial.trial_id)
        return True

    def save(self):
        """Write the state of the search; a kill leaves the old file or the new one, never half of one."""
        _write(self._get_oracle_fname(), self.get_state())

    def _save_trial(self, trial):
        _write(os.path.join(self._get_trial_dir(trial.trial_id), "trial.json"), trial.get_state())

    def reload(self):
        """Go on with a saved search: finished trials stay as they are, interrupted ones are run again.

        Raises:
            ValueError: the saved search has another budget.
        """
        if not os.path.exists(self._get_oracle_fname()):
            return  # Killed before its first state was written: nothing had been given out.
        super().reload()
        # A trial's file is written before the oracle's. Killed between the two, KerasTuner counts a trial
        # that was never given out, and runs again one that has ended.
        self.trials = {trial_id: self.trials[trial_id] for trial_id in self.start_order}
        for trial in self.trials.values():
            if _has_ended(trial) and trial.trial_id not in self.end_order:
                self.end_order.append(trial.trial_id)
                self.update_space(trial.hyperparameters)
                self._record_values(trial)
        self._retry_queue = [t for t in self._retry_queue if not _has_ended(self.trials[t])]
        for trial_id in self._retry_queue:
            _forget_result(self.trials[trial_id])

    def get_state(self):
        mine = {"max_trials": self.max_trials, "exhausted_at": self._exhausted_at}
        return {**super().get_state(), **mine, "drawn": self._drawn, "given": sorted(self._given)}

    def set_state(self, state):
        for name in ("max_trials", "max_epochs", "factor"):
            if state[name] != getattr(self, name):
                raise ValueError(
                    f"{self._get_oracle_fname()}: this search was begun with {name} = {state[name]}, and "
                    f"cannot go on with {getattr(self, name)}: give the same {name}, or another directory."
                )
        super().set_state(state)
        self._exhausted_at = state["exhausted_at"]
        self._drawn, self._given = state["drawn"], set(state["given"])
