"""Networks written plainly in Keras (`plain_keras.py`), searched by Optuna's Hyperband: for benchmarks/tuning.py.

    pip install optuna

Optuna is no requirement of the zoo. A trial builds its network, calls `fit` epoch by epoch, and is pruned by `HyperbandPruner`.
It takes configurations that are given, or `TPESampler` proposes them from the same space. All events count alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from benchmarks.plain_keras import Samples, built, judged
from zoo.keras import keras


def suggested(trial, space):
    """A KerasTuner object whose values Optuna suggests, in the order of the space."""
    drawn = space.copy()
    drawn.values = {}
    for one in space.space:
        if not drawn.is_active(one):
            continue
        kind = type(one).__name__
        if kind in ("Choice", "Boolean"):
            value = trial.suggest_categorical(one.name, list(one.values))
        elif kind in ("Int", "Float"):
            suggest, log = getattr(trial, f"suggest_{kind.lower()}"), one.sampling == "log"
            step = {} if log or one.step is None else {"step": one.step}
            value = suggest(one.name, one.min_value, one.max_value, log=log, **step)
        else:
            value = one.value
        drawn.values[one.name] = value
    return drawn


def search(
    model: str, training, validation, space, trials: int, max_epochs: int, factor: int, objective: str, seed: int,
    seconds: float | None, ended: Callable[[float, int], None], given: Sequence[Mapping[str, object]] = (),
) -> None:  # fmt: skip
    """Run Optuna's Hyperband; `ended(value, epochs)` is told of every trial.

    Args:
        training, validation: events without labels. space: `tuning.space.Space`.
        trials: how many at most. seconds: after which nothing is begun, or None.
        given: hyperparameters of the first trials; the others are proposed.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samples, hps = Samples.of(model, training, validation, space.fixed), space.hyperparameters()

    def run(trial) -> float:
        values = given[trial.number] if trial.number < len(given) else space.draw(suggested(trial, hps))
        keras.utils.set_random_seed(seed + trial.number)
        plain, value = built(model, values, samples), float("inf")
        for done in range(1, max_epochs + 1):
            history = plain.fit(done - 1, done)
            value = judged(objective, plain, samples, history)
            trial.report(value if np.isfinite(value) else 1e9, done)
            if trial.should_prune():
                ended(value, done)
                raise optuna.TrialPruned
        ended(value, max_epochs)
        return value if np.isfinite(value) else 1e9

    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=max_epochs, reduction_factor=factor),
    )
    study.optimize(run, n_trials=trials, timeout=seconds, catch=(tf.errors.OpError,))
