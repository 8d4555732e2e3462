"""KerasTuner's oracles by the names of the command line, each giving exactly as many trials as asked.

    hyperband   successive halving in brackets (`tuning.hyperband`); the default
    random      configurations drawn at random, all trained to the last epoch
    bayesian    a Gaussian process proposes what to try next, `GENERATION` at a time
    grid        all combinations in order, a range without a step at 10 points of it

What is tried follows from the seed and from results, never from which trial came back first: so one worker and many do
the same search. An oracle keeps nothing on disk: a resumed search restores it from the records of its trials.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from pipelines.errors import InputError
from tuning.brackets import Bracket, Round, plan
from tuning.hyperband import BudgetedHyperband
from tuning.kerastuner import keras_tuner
from tuning.oracle import InMemoryOracle, Oracle
from tuning.sampling import RandomSampler

GENERATION = 8  # proposals of the Gaussian process that are made together, of what all before them have answer
OBJECTIVE = keras_tuner.Objective("objective", "min")


class _Counted(InMemoryOracle, RandomSampler):
    """What the oracles without brackets share: the plan of one round, and the number of trials."""

    exhausted = False
    max_trials: int  # of KerasTuner's oracle

    def prepare(self, max_epochs: int, seed: int) -> None:
        self.plan = [Bracket(0, (Round(self.max_trials, max_epochs),))]
        # KerasTuner draws with seed, seed + 1, ...: neighbouring seeds would try the same values again.
        self._seed_state = random.Random(seed).getrandbits(48)
        self.verbose = 0

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        answer = super().populate_space(trial_id)  # type: ignore[misc]  # of the oracle that this is mixed into
        if answer["status"] == "STOPPED":
            self.exhausted = True
        return answer

    def position_of(self, trial_id: str) -> tuple[int, int]:
        """Return the position of a trial in the plan, which has one round."""
        return 0, 0

    def restore_trial(self, trial_id: str, values, position: int, index: int):
        """Raise `ValueError`: the plan promotes nothing."""
        raise ValueError(f"trial {trial_id} was promoted, and this search promotes none")


class Random(_Counted, keras_tuner.oracles.RandomSearchOracle):
    """KerasTuner's random search."""


class Grid(_Counted, keras_tuner.oracles.GridSearchOracle):
    """KerasTuner's grid search, which need not wait for a trial to know the next combination."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        answer = super().populate_space(trial_id)
        # KerasTuner does so when a trial ends, since there may be hyperparameters that it has not seen; here it has all.
        if answer["status"] == "RUNNING" and trial_id not in self._populate_next:
            self._populate_next.append(trial_id)
        if answer["status"] == "IDLE":
            self.exhausted = True
        return answer


class Bayesian(_Counted, keras_tuner.oracles.BayesianOptimizationOracle):
    """KerasTuner's Gaussian process, asked for whole generations, and never for what was tried."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        before = list(self.trials.values())[: len(self.trials) // GENERATION * GENERATION]
        if any(trial.status == "RUNNING" for trial in before):
            return {"status": "IDLE"}
        answer = super().populate_space(trial_id)
        if answer["status"] == "RUNNING" and self._duplicate(answer["values"]):
            values = self._random_values()
            self.exhausted = values is None
            return {"status": "STOPPED"} if values is None else {"status": "RUNNING", "values": values}
        return answer


KINDS = {"random": Random, "bayesian": Bayesian, "grid": Grid}
ALGORITHMS = ("hyperband", *KINDS)


def make(
    algorithm: str,
    space: keras_tuner.HyperParameters,
    trials: int,
    max_epochs: int,
    factor: int,
    seed: int,
    architectures: int = 0,
    shapes: Iterable[str] = (),
    before: Sequence[int] = (),
) -> Oracle:
    """Return the oracle of an algorithm over a space; raises `InputError` for what it cannot search.

    `before` are the numbers of trials that the search was asked for earlier: more trials change nothing that was tried then.
    With `architectures` > 0 the names in `shapes` have no more than so many different values together (`tuning.sampling`).

    >>> space = keras_tuner.HyperParameters()
    >>> _ = space.Int("width", 1, 3)
    >>> grid = make("grid", space, trials=5, max_epochs=2, factor=3, seed=0)
    >>> [trial.hyperparameters["width"] for trial in start_trials(grid)], grid.exhausted
    ([1, 2, 3], True)
    """
    if algorithm not in ALGORITHMS:
        raise InputError(f"algorithm {algorithm!r} is not known; expected one of {', '.join(ALGORITHMS)}")
    searched = [one for one in space.space if not isinstance(one, keras_tuner.engine.hyperparameters.Fixed)]
    if algorithm == "bayesian" and not searched:
        raise InputError("algorithm bayesian has nothing to search: every hyperparameter is fixed; free one")
    if architectures < 0:
        raise InputError(f"architectures is {architectures}, expected 1 or more, or 0 for as many as are drawn")
    if architectures and algorithm not in ("hyperband", "random"):
        raise InputError(f"architectures={architectures} limits what is drawn at random, which {algorithm} does not do")
    common = {"max_trials": trials, "hyperparameters": space, "max_consecutive_failed_trials": None}
    try:
        if algorithm == "hyperband":
            oracle: Any = BudgetedHyperband(
                OBJECTIVE, max_epochs=max_epochs, factor=factor, seed=seed, before=before, **common
            )
        else:
            plan(trials, max_epochs, factor)  # which says what is wrong with them
            common["max_consecutive_failed_trials"] = trials + 1
            # never 0: KerasTuner would take another one each time
            oracle = KINDS[algorithm](objective=OBJECTIVE, seed=random.Random(seed).getrandbits(30) | 1, **common)
            oracle.prepare(max_epochs, seed)
    except ValueError as error:
        raise InputError(str(error)) from None
    if architectures:
        oracle.limit_architectures(architectures, shapes)
    return oracle


def start_trials(oracle: Oracle) -> Iterator:
    """Yield the trials that can be begun now, without what runs, until nothing more can."""
    while (trial := oracle.create_trial(f"trial {len(oracle.trials)}")).status == "RUNNING":
        yield trial


def end_trial(oracle: Oracle, trial, objective: float | None, epochs: int, message: str | None = None) -> None:
    """Tell an oracle what a trial answer; None is a failure."""
    if objective is not None and np.isfinite(objective):
        oracle.update_trial(trial.trial_id, {"objective": objective}, step=epochs)
        trial.status = "COMPLETED"
    else:
        trial.status = "FAILED"
    trial.message = message
    oracle.end_trial(trial)
