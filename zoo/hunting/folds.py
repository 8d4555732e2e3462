"""Models trained for a search on the data themselves, without labels: one run directory each, resumable."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines import provenance
from pipelines.arguments import argument
from pipelines.errors import InputError, Unfinished
from pipelines.events.events import Events
from pipelines.jobs.executors import Batch, open_workers
from zoo import registry, run


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What to train: a registered model's name, hyperparameters over its defaults, epochs of the main phase.

    Fold k has the seed of the recipe plus k times the number of members, so that no two models share one.
    """

    name: str
    preset: str | None
    hyperparameters: Mapping[str, object]
    epochs: int | None = None

    def model(self, fold: int = 0):
        """Return a new model for a fold; raises `InputError` as `zoo.get`."""
        first = registry.get(self.name, self.preset, **self.hyperparameters)
        seed = first.hp.seed + fold * first.members
        return registry.get(self.name, self.preset, **{**self.hyperparameters, "seed": seed}) if fold else first

    @property
    def score_kinds(self) -> tuple[str, ...]:
        return registry.model_class(self.name).score_kinds

    @property
    def undirected(self) -> tuple[str, ...]:
        return registry.model_class(self.name).undirected


def train_fold(recipe: Recipe, fold: int, events: Events, out: Path, options: Mapping[str, Any], keep: bool = True):
    """Train the model of a fold into a run directory, resuming it if it was interrupted; returns it if `keep`."""
    model, interrupted = recipe.model(fold), (run.Checkpoint.place(out) / "progress.json").is_file()
    run.train(model, events, out, epochs=recipe.epochs, resume=interrupted, **options)
    return model if keep else None


class Trainer:
    """Trains the models of a search, each into a run directory of a folder that outlives an interruption.

    Call it with the number of a fold and events without labels; it returns the trained model. With `resume`, what is
    finished is loaded, if it is the same training, and what was interrupted goes on. `beforehand` trains several at
    once, where there are workers for it (see `pipelines.jobs.executors.open_workers`).

    Raises:
        InputError: if something is finished in `folder` and `resume` is not asked for; for a training that was another
            one; and as `zoo.run.train`.
    """

    def __init__(self, recipe: Recipe, folder: Path, *, resume: bool = False, said: Callable[[str], object] = print,
                 workers: int = 1, scheduler: str | Batch | None = None, **options: object):  # fmt: skip
        self.recipe, self.folder, self.resume, self._said, self._options = recipe, folder, resume, said, options
        self._workers, self._scheduler, self._made = workers, scheduler, False
        if not resume and self.holds_something(folder):
            raise InputError(f"an interrupted search is kept in {folder}; add {argument('resume', True)}, or remove it")

    @staticmethod
    def holds_something(folder: Path, what: str = "fold") -> bool:
        """Whether a model of a folder, or an epoch of one, is finished."""
        return any(any(folder.glob(name)) for name in (f"{what}-*/config.json", f".{what}-*.checkpoint/progress.json"))

    @property
    def zoo_name(self) -> str:
        return self.recipe.name

    @property
    def score_kinds(self) -> tuple[str, ...]:
        return self.recipe.score_kinds

    @property
    def undirected(self) -> tuple[str, ...]:
        return self.recipe.undirected

    def __call__(self, fold: int, events: Events):
        out = self._out(fold)
        if out.is_dir():
            self._said(f"{out.name}: trained before")
            return self._finished(self.recipe.model(fold), events, out)
        self._said(f"{out.name}: {self.recipe.name} on {len(events)} events")
        with self._begun():
            return train_fold(self.recipe, fold, events, out, self._options)

    def _out(self, fold: int) -> Path:
        return self.folder / f"fold-{fold}"

    @contextlib.contextmanager
    def _begun(self):
        if self._made and not self.folder.is_dir():
            raise Unfinished(f"{self.folder}: vanished while it was written to; start again")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._made = True
        try:
            yield
        except InputError:
            self.forget_if_empty()
            raise

    def beforehand(self, parts: Mapping[int, Events]) -> None:
        """Train the folds that are not there yet on several workers; each is loaded when it is called for."""
        if self._workers == 1 and self._scheduler is None:
            return
        quiet = {**self._options, "verbose": 0}
        tasks = [
            (fold, (self.recipe, fold, events, self._out(fold).resolve(), quiet, False))
            for fold, events in parts.items()
            if not self._out(fold).is_dir()
        ]
        with self._begun(), open_workers(self._workers, self._scheduler) as pool:
            for fold, _ in pool.map(train_fold, tasks):
                self._said(f"{self._out(fold).name}: {self.recipe.name} on {len(parts[fold])} events")

    def forget_if_empty(self) -> None:
        """Leave no folder behind in which nothing is."""
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def done(self) -> None:
        """Remove the folder: what is in it has been copied."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _finished(self, model, events: Events, out: Path):
        """Load a finished run if it is of this model and these events."""
        kept = run.read_config(out)
        events = model.survey(events, checksum=True)
        model.adapt(events)
        wanted = {
            "model": model.zoo_name,
            "epochs": self.recipe.epochs or model.epochs,
            "data": provenance.checksum(events),
            **json.loads(json.dumps(model.get_config())),
        }
        there = {"model": kept["model"], "epochs": kept.get("epochs"), "data": (kept.get("data") or {}).get("sha256")}
        there |= json.loads(json.dumps(model.Hyperparameters.defaults())) | kept["hyperparameters"]
        if other := [k for k in wanted if wanted[k] != there.get(k)]:
            raise InputError(
                f"{out} is of another training: {other[0]} was {there.get(other[0])}, is {wanted[other[0]]}; "
                f"give the same, or remove {self.folder}"
            )
        return run.load(out)
