"""The oracle of a search: the protocol that the engine asks, and what all our oracles share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tuning.brackets import Bracket
from tuning.kerastuner import keras_tuner
from tuning.schemas import WIDTH

Order = Callable[[Sequence[str]], list[int]]  # from ids of trials to their places, best first


class Oracle(Protocol):
    """What decides which trial comes next, as `tuning.engine` uses it.

    `plan` lays out its trials, `trials` are those that were started, by id. `exhausted` says that the space has no
    other configuration. An oracle that `promotes` continues the best trials of a round to more epochs; with `order` it
    compares a round by this function instead of by its scores. The names of trials are numbers of
    at least `width` digits; the first `in_order` are named in the order in which they were started, as in searches of
    earlier versions. All others are named by their place in the plan.
    """

    width: int
    in_order: int
    plan: Sequence[Bracket]
    max_trials: int
    trials: Mapping[str, Any]
    promotes: bool
    order: Order | None

    @property
    def exhausted(self) -> bool:
        """Whether every configuration of the space was tried."""

    def create_trial(self, tuner_id: str) -> Any:
        """Return a KerasTuner trial; its status is "RUNNING" if it can be started now."""

    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int) -> Any:
        """Report the metrics of a trial."""

    def end_trial(self, trial: object) -> None:
        """Report the end of a trial."""

    def position_of(self, trial_id: str) -> tuple[int, int]:
        """Return the position of a trial in the plan: (index of its bracket, index of its round)."""

    def restore_trial(self, trial_id: str, values: Mapping[str, object], position: int, index: int) -> Any:
        """Add a promoted trial that an earlier process started; raises `ValueError` if the plan has no room for it."""


class InMemoryOracle:
    """A mixin for KerasTuner's oracles that writes nothing: a search is restored from the records of its trials."""

    promotes = False
    order: Order | None = None
    width = WIDTH
    in_order = 0

    @keras_tuner.synchronized
    def create_trial(self, tuner_id):
        """Return a trial as KerasTuner's oracles do, but named by its number alone, not by how many there will be."""
        if tuner_id in self.ongoing_trials or self._retry_queue:
            return super().create_trial(tuner_id)
        name, answer = f"{len(self.trials):0{self.width}d}", {"status": "STOPPED"}
        if not self.max_trials or len(self.trials) < self.max_trials:
            answer = self.populate_space(name)
            name = answer.get("name", name)
        hyperparameters = self.hyperparameters.copy()
        hyperparameters.values = answer.get("values") or {}
        make = keras_tuner.engine.trial.Trial
        trial = make(hyperparameters=hyperparameters, trial_id=name, status=answer["status"])
        if trial.status == "RUNNING":
            self._record_values(trial)
            self.ongoing_trials[tuner_id] = self.trials[name] = trial
            self.start_order.append(name)
            self._display.on_trial_begin(trial)
        return trial

    def save(self) -> None:
        """Write nothing."""

    def _save_trial(self, trial: object) -> None:
        """Write nothing."""
