"""KerasTuner's own loop, for benchmarks/tuning.py: every trial builds its network, fits it, and writes its weights.

It does trials that are given, with their epochs and promotions, or those that `keras_tuner.oracles.HyperbandOracle` plans.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.plain_keras import Samples, built, judged
from tuning.kerastuner import keras_tuner
from zoo.keras import keras


class Given(keras_tuner.Oracle):
    """Gives out trials that are known."""

    def __init__(self, trials: Sequence[Mapping[str, object]], **options):
        super().__init__(max_trials=len(trials), **options)
        self.left = list(range(len(trials)))

    def populate_space(self, trial_id):
        """Return the place of the next trial, as KerasTuner asks for it."""
        if not self.left:
            return {"status": "STOPPED"}
        return {"status": "RUNNING", "values": {"place": self.left.pop(0)}}


def plain_trainer(model: str, objective: str, training, validation, fixed, xla: bool, seed: int) -> Callable:
    """Return what trains a network written plainly in Keras, from the weights in a file or its own, and judges it."""
    samples = Samples.of(model, training, validation, fixed)

    def train(hyperparameters, first: int, last: int, before: Path | None, state: Path) -> float:
        keras.utils.set_random_seed(seed)
        plain = built(model, hyperparameters, samples, xla)
        if before is not None:
            plain.network.load_weights(before.with_suffix("")).expect_partial()
        history = plain.fit(first, last)
        plain.network.save_weights(state.with_suffix(""), save_format="tf")
        return judged(objective, plain, samples, history)

    return train


def zoo_trainer(model: str, objective: str, training, validation, xla: bool) -> Callable:
    """Return what trains a model of the zoo by its `fit`, and judges it."""
    import zoo
    from tuning.objectives import Objective

    judge = Objective.parse(objective)

    def train(hyperparameters, first: int, last: int, before: Path | None, state: Path) -> float:
        made = zoo.get(model, **hyperparameters)
        made.adapt(training)
        if before is not None:
            zoo.run.load_state(made, before)
        history = made.fit(
            training, validation, epochs=last, initial_epoch=first, verbose=0, finish=False, jit_compile=xla
        )
        zoo.run.save_state(made, state)
        return judge(made, validation, history.history)["objective"]

    return train


def search(
    train: Callable, space, folder: Path, trials: int, max_epochs: int, factor: int, seed: int, seconds: float | None,
    ended: Callable[[float, int], None], given: Sequence[Mapping[str, object]] = (),
) -> None:  # fmt: skip
    """Run KerasTuner; `ended(value, epochs)` is told of every trial.

    Args:
        train: of `plain_trainer` or `zoo_trainer`. space: `tuning.space.Space`.
        trials: how many at most. seconds: after which nothing is begun, or None.
        given: trials, each with `trial`, `hyperparameters`, `initial_epoch`, `epochs` and `promoted_from`, in an order in
            which promoted ones come after those that they go on from. Without, KerasTuner's Hyperband plans them.
    """
    objective, started = keras_tuner.Objective("objective", "min"), time.perf_counter()
    common = {"max_consecutive_failed_trials": trials + 1}
    if given:
        places = keras_tuner.HyperParameters()
        places.Int("place", 0, len(given))
        oracle = Given(given[:trials], objective=objective, hyperparameters=places, **common)
    else:
        oracle = keras_tuner.oracles.HyperbandOracle(
            objective,
            max_epochs=max_epochs,
            factor=factor,
            hyperband_iterations=None,
            seed=seed + 1,  # KerasTuner takes 0 for none
            hyperparameters=space.hyperparameters(),
            **common,
        )
        oracle.max_trials = trials  # where it stops; what it plans does not depend on it

    class Stock(keras_tuner.Tuner):
        """A tuner as KerasTuner's guide says: build, fit, report; promoted trials load their weights and go on."""

        def run_trial(self, trial, **_):
            values = trial.hyperparameters.values
            if given:
                asked = given[values["place"]]
                name, hyperparameters = asked["trial"], asked["hyperparameters"]
                first, last, before = asked["initial_epoch"], asked["epochs"], asked["promoted_from"]
            else:
                name, hyperparameters = trial.trial_id, space.draw(trial.hyperparameters)
                first, last = values["tuner/initial_epoch"], values["tuner/epochs"]
                before = values.get("tuner/trial_id") if first else None
            states = folder / "states"
            states.mkdir(parents=True, exist_ok=True)
            value = train(hyperparameters, first, last, before and states / f"{before}.h5", states / f"{name}.h5")
            ended(value, last - first)
            if seconds is not None and time.perf_counter() - started >= seconds:
                oracle.max_trials = len(oracle.trials)
                if given:
                    oracle.left.clear()
            return {"objective": value}

    Stock(oracle=oracle, hypermodel=lambda _: None, directory=folder, project_name="stock").search(verbose=0)
