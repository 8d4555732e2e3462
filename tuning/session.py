"""The search: KerasTuner's oracle decides, trials run, every finished one is on disk.

OUT/search.json        what was asked: model, data, budget, seed, objective
OUT/oracle/            the oracle's state
OUT/trials/ID.json     one finished trial: hyperparameters, figures of merit, status
OUT/trials/ID.h5       its weights and optimizer state, for a promoted trial to go on from
OUT/results.json       the table
OUT/best/              the best trial as a run directory, for every `zoo` command
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipelines.batches import check_enough
from pipelines.errors import InputError
from pipelines.events import Events
from pipelines.outputs import check_new, new_directory, write_json
from tuning.hyperband import BudgetedHyperband
from tuning.kerastuner import keras_tuner
from tuning.objectives import Objective
from zoo import registry, run
from zoo.keras import keras

DEFAULT_OBJECTIVE = "reconstruction+10*sculpting"
VALIDATION_SHARE = 0.2
KEPT_PROGRAMS = 8  # compiled architectures that are kept for trials to come


@dataclasses.dataclass(frozen=True)
class Results:
    """What a search found: every trial, best first, and where it is on disk."""

    trials: Sequence[Mapping[str, object]]
    objective: str
    out: Path
    exhausted: bool = False

    @property
    def best(self) -> Mapping[str, object] | None:
        """The completed trial with the smallest objective, or None."""
        return next((trial for trial in self.trials if trial["status"] == "COMPLETED"), None)

    def to_json(self) -> dict[str, object]:
        """Return what `tune --json` prints."""
        return {
            "objective": self.objective,
            "trials": [dict(trial) for trial in self.trials],
            "best": dict(self.best) if self.best else None,
            "exhausted": self.exhausted,
        }


class Watcher:
    """Is told how a search goes; a display inherits from it."""

    def planned(self, oracle: BudgetedHyperband) -> None:
        """The plan is made."""

    def begun(self, trial, epochs: range) -> None:
        """A trial begins and will train these epochs."""

    def epoch(self, trial, epoch: int) -> None:
        """An epoch of it has ended."""

    def ended(self, record: Mapping[str, object], finished: int) -> None:
        """It has ended."""


def search(
    model: str,
    events: Events,
    *,
    trials: int,
    out: str | os.PathLike,
    max_epochs: int = 9,
    factor: int = 3,
    objective: str = DEFAULT_OBJECTIVE,
    fixed: Mapping[str, object] | None = None,
    preset: str | None = None,
    seed: int = 0,
    resume: bool = False,
    jit_compile: bool = True,
    extra: Mapping[str, object] | None = None,
    watcher: Watcher | None = None,
) -> Results:
    """Search the hyperparameters of a model with Hyperband, in exactly `trials` trials, without labels.

    Four fifths of the events train, one fifth judges (drawn with the seed). A trial is one set of
    hyperparameters trained to a number of epochs; one that is promoted to more epochs goes on from its weights
    and optimizer state, and is a trial of its own, as KerasTuner counts.

    Args:
        model: registered name.
        events: the events; labels, if there are any, are not read.
        trials: how many, 1 or more; fewer run only if the space has fewer (`Results.exhausted` then says so).
        out: new folder; with `resume`, that of an interrupted search.
        max_epochs, factor: of Hyperband (Li et al. 2018): epochs of the longest trials, and the share promoted.
        objective: what is minimised (see `tuning.objectives`).
        fixed: hyperparameters that are not searched. preset: the values of those that neither are.
        seed: fixes configurations, split, weights and the order of events.
        jit_compile: compile training steps with XLA.
        extra: goes into the configuration of the best run.
        watcher: is told how it goes.

    Raises `InputError` for all bad input, before anything is written; and if every trial failed, with the
    first one's reason.

    Example:
        `tuning.search("gan_ae", pipelines.open("lhco_sim_train"), trials=10, out="my_search").best`
    """
    asked = _Asked(model, preset, dict(fixed or {}), trials, max_epochs, factor, objective, seed)
    out = Path(out)
    if resume:
        _check_begun(out)
    else:
        check_new(out)
    session = _Session(asked, events, out, jit_compile, extra or {}, watcher or Watcher())
    oracle = session.resume() if resume else session.start()
    session.watcher.planned(oracle)
    while (trial := oracle.create_trial("search")).status == "RUNNING":
        session.run(oracle, trial)
    return session.finish(oracle)


def _check_begun(out: Path) -> None:
    if not (out / "search.json").is_file():
        raise InputError(f"nothing to resume: no {out / 'search.json'}; start without --resume")


@dataclasses.dataclass(frozen=True)
class _Asked:
    model: str
    preset: str | None
    fixed: Mapping[str, object]
    trials: int
    max_epochs: int
    factor: int
    objective: str
    seed: int

    def oracle(self, folder: Path) -> BudgetedHyperband:
        try:
            oracle = BudgetedHyperband(
                keras_tuner.Objective("objective", "min"),
                max_trials=self.trials,
                max_epochs=self.max_epochs,
                factor=self.factor,
                seed=self.seed,
                hyperparameters=self.space(),
            )
        except ValueError as error:
            raise InputError(str(error)) from None
        oracle._set_project_dir(str(folder), "oracle")
        return oracle

    def space(self) -> keras_tuner.HyperParameters:
        space = keras_tuner.HyperParameters()
        for name, value in self.fixed.items():
            if isinstance(value, (bool, int, float, str)):  # registered first, so that it is not sampled
                space.Fixed(name, value)
        registry.model_class(self.model).search_space(space)
        return space

    def hyperparameters(self, trial) -> dict[str, object]:
        drawn = registry.model_class(self.model).search_space(trial.hyperparameters)
        preset = registry.model_class(self.model).presets.get(self.preset, {})
        return {"seed": self.seed, **preset, **drawn, **self.fixed}


class _Session:
    """One process's share of a search: the events, the compiled models, and the folder."""

    def __init__(self, asked: _Asked, events: Events, out: Path, jit_compile: bool, extra: Mapping, watcher: Watcher):
        self.asked, self.out, self.jit_compile, self.extra, self.watcher = asked, out, jit_compile, extra, watcher
        self.objective = Objective.parse(asked.objective)
        plain = registry.get(asked.model, asked.preset, **{"seed": asked.seed, **asked.fixed})
        self.oracle = asked.oracle(out)
        self.description = self._description(events)
        self.training, self.validation = events.split(1.0 - VALIDATION_SHARE, asked.seed)
        check_enough(self.training, plain.hyperparameter("batch_size"))
        plain.adapt(self.training)
        self.models: dict[str, object] = {}

    def start(self) -> BudgetedHyperband:
        with new_directory(self.out) as part:
            (part / "trials").mkdir()
            write_json(part / "search.json", self.description)
        return self.oracle

    def resume(self) -> BudgetedHyperband:
        path = self.out / "search.json"
        try:
            kept = json.loads(path.read_text())
            kept["data"].pop("source")  # the same events may lie elsewhere now
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise InputError(f"{path}: damaged ({type(error).__name__}: {error}); give another --out") from None
        asked = {**self.description, "data": {k: v for k, v in self.description["data"].items() if k != "source"}}
        for key, value in asked.items():
            if kept.get(key) != value:
                raise InputError(
                    f"{self.out}: begun with {key}={kept.get(key)}, cannot go on with {value}; "
                    f"give the same, or another --out"
                )
        try:
            self.oracle.reload()
        except (ValueError, KeyError, RuntimeError) as error:
            raise InputError(f"{self.out / 'oracle'}: damaged ({_first_line(error)}); give another --out") from None
        return self.oracle

    def _description(self, events: Events) -> dict[str, object]:
        data = {"source": events.name, "events": len(events), "sha256": run.checksum(events)}
        return json.loads(json.dumps({**dataclasses.asdict(self.asked), "data": data}))

    def run(self, oracle: BudgetedHyperband, trial) -> None:
        """Train and judge one trial; whatever goes wrong in it is recorded and does not stop the search."""
        path = self._file(trial.trial_id, "json")
        if path.exists():  # killed after its record was written and before the oracle heard of it
            record = json.loads(path.read_text())
        else:
            record = self._record(trial)
            write_json(path, record)
        if record["status"] == "COMPLETED":
            oracle.update_trial(trial.trial_id, {"objective": record["objective"]}, step=record["epochs"])
        trial.status, trial.message = record["status"], record["message"]
        oracle.end_trial(trial)
        self.watcher.ended(record, len(oracle.end_order))

    def _record(self, trial) -> dict[str, object]:
        values = trial.hyperparameters.values
        epochs = range(values["tuner/initial_epoch"], values["tuner/epochs"])
        self.watcher.begun(trial, epochs)
        started, found = time.monotonic(), {}
        try:
            model, found, rows = self._train(trial, epochs)
            status, message = "COMPLETED", None
            if not np.isfinite(found["objective"]):
                status, message = "FAILED", f"the objective is not a number: {found}"
        except Exception as error:
            status, message = "FAILED", f"{type(error).__name__}: {_first_line(error)}"
            if isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError)):
                self.models.clear()
        if status == "COMPLETED":  # not above: a full disk is not the trial's fault, and ends the search
            run.save_state(model, self._file(trial.trial_id, "h5"))
            members = model.member_rows
            write_json(self._file(trial.trial_id, "history.json"), {"rows": rows, "members": members})
        return {
            "trial": trial.trial_id,
            "status": status,
            "objective": found.get("objective") if status == "COMPLETED" else None,
            "metrics": {k: v if np.isfinite(v) else None for k, v in found.items()},
            "hyperparameters": json.loads(json.dumps(self.asked.hyperparameters(trial))),
            "initial_epoch": epochs.start,
            "epochs": epochs.stop,
            "bracket": values["tuner/bracket"],
            "round": values["tuner/round"],
            "promoted_from": values.get("tuner/trial_id"),
            "seconds": round(time.monotonic() - started, 3),
            "message": message,
        }

    def _train(self, trial, epochs: range) -> tuple[object, dict[str, float], list[dict[str, object]]]:
        model = self._model(self.asked.hyperparameters(trial))
        past = trial.hyperparameters.values.get("tuner/trial_id")
        if past:
            run.load_state(model, self._file(past, "h5"))
        tell = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: self.watcher.epoch(trial, epoch + 1))
        history = model.fit(
            self.training,
            self.validation,
            epochs=epochs.stop,
            initial_epoch=epochs.start,
            callbacks=[tell, keras.callbacks.TerminateOnNaN()],
            verbose=0,
            jit_compile=self.jit_compile,
            finish=False,
        )
        if past and not history.epoch:  # all its members had stopped: it is what it was
            return model, self._of(past)["metrics"], []
        return model, self.objective(model, self.validation, history.history), run.history_rows(model.histories)

    def _history(self, record: Mapping[str, object], which: str) -> list[dict[str, object]]:
        """Return the epochs, `rows` or those of `members`, of a trial and of those that it was promoted from."""
        past = record["promoted_from"]
        before = self._history(self._of(past), which) if past else []
        return before + json.loads(self._file(record["trial"], "history.json").read_text())[which]

    def _of(self, trial_id: str) -> dict[str, object]:
        return json.loads(self._file(trial_id, "json").read_text())

    def _model(self, hyperparameters: Mapping[str, object]):
        """Return a fresh model; of an architecture that was compiled before, that one, started over."""
        kind = registry.model_class(self.asked.model)
        dials = {k: v for k, v in hyperparameters.items() if k in kind.dials}
        key = json.dumps({k: v for k, v in hyperparameters.items() if k not in kind.dials}, sort_keys=True)
        if key in self.models:
            model = self.models[key] = self.models.pop(key)  # the latest used last
            model.reset(**dials)
            return model
        while len(self.models) >= KEPT_PROGRAMS:
            self.models.pop(next(iter(self.models)))
        model = registry.get(self.asked.model, **hyperparameters)
        model.adapt(self.training)
        self.models[key] = model
        return model

    def _file(self, trial_id: str, suffix: str) -> Path:
        return self.out / "trials" / f"{trial_id}.{suffix}"

    def finish(self, oracle: BudgetedHyperband) -> Results:
        """Write the table and the best run."""
        records = [json.loads(self._file(trial_id, "json").read_text()) for trial_id in oracle.end_order]
        order = sorted(records, key=lambda r: (r["objective"] is None, r["objective"] or 0.0, r["trial"]))
        results = Results(order, self.asked.objective, self.out, exhausted=oracle.exhausted)
        write_json(self.out / "results.json", results.to_json())
        if results.best is None:
            raise InputError(f"all {len(records)} trials failed; the first: {records[0]['message']}")
        if not (self.out / "best").exists():
            self._write_best(results.best)
        return results

    def _write_best(self, best: Mapping[str, object]) -> None:
        model = self._model(best["hyperparameters"])
        run.load_state(model, self._file(best["trial"], "h5"))
        extra = {
            **self.extra,
            "epochs": best["epochs"],
            "validation": VALIDATION_SHARE,
            "tuning": {"trial": best["trial"], "objective": best["objective"]},
        }
        rows, model.member_rows = self._history(best, "rows"), self._history(best, "members")
        model.histories.clear()
        model.finish(self.training, jit_compile=self.jit_compile)
        rows += run.history_rows(model.histories)
        with new_directory(self.out / "best") as part:
            run.write(model, part, run.configuration(model, self.training, **extra), rows, **best["metrics"])


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "no message")


def load_results(out: str | os.PathLike) -> Results:
    """Return the results of a finished search; raises `InputError` if there are none."""
    path = Path(out) / "results.json"
    if not path.is_file():
        raise InputError(f"{out}: no results.json, expected the folder of a finished search")
    kept = json.loads(path.read_text())
    return Results(kept["trials"], kept["objective"], Path(out), kept["exhausted"])
