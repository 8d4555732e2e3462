"""Scan windows in mass with a model that is trained for each, without labels: `zoo.hunt(..., scan=True)`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import provenance
from pipelines.arguments import argument
from pipelines.bumphunt.options import SearchOptions
from pipelines.bumphunt.scores import scores_of
from pipelines.checksums import digest, open_sealed, sealed
from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.jobs.executors import Batch, open_workers
from pipelines.outputs import as_json
from pipelines.window_scan.options import Window, WindowScanOptions, windows_of
from pipelines.window_scan.result import Scored, WindowScan
from pipelines.window_scan.scan import window_scan
from zoo import registry
from zoo.hunting.folds import Recipe, Trainer, train_fold

TEMPLATE = 200_000  # events of a model's template
SHARED = (
    "percentiles",
    "background",
    "pseudo_experiments",
    "score_kind",
    "ignore_labels",
    "ignore_weights",
    "bins",
    "seed",
)
"""Options that a search and a scan of windows have in common."""


def check_scannable(recipe: Recipe, options: WindowScanOptions) -> None:
    """Raise `InputError` for a model that has no window, or lacks the template that is asked for."""
    kind: Any = registry.model_class(recipe.name)
    if "window" not in kind.Hyperparameters.defaults():
        raise InputError(
            f"{argument('scan')} is for models of a window, such as cwola and cathode: {recipe.name} has none; hunt with it by "
            f"{argument('folds')}"
        )
    given = recipe.hyperparameters
    if given.get("sidebands", ()) not in ((), []) and not given.get("window"):  # else they are those of a run
        raise InputError(
            f"sidebands={given['sidebands']!r}: a scan has side bands for each of its windows; give their width, "
            f"as {argument('side_band_width', 0.1)}, or none for all events beside a window"
        )
    if options.background == "template" and not kind.has_template:
        raise InputError(
            f"background template: {recipe.name} has none; take a model that learns a density, as cathode, lacathode, "
            f"anode or r_anode, or another background"
        )
    if kind.density_beside and options.background != "template":
        raise InputError(
            f"background {options.background}: {recipe.name} scores the events beside a window by a density that was trained on "
            f"them, so they say nothing of what is expected in it; take background 'template'"
        )
    if options.score_kind is not None and options.score_kind not in kind.score_kinds:
        raise InputError(
            f"score kind {options.score_kind!r} is not known; {recipe.name} has {', '.join(kind.score_kinds)}"
        )


def options_of(given: Mapping[str, Any], scan: Mapping[str, Any], mass_range: Any, seed: int) -> WindowScanOptions:
    """Return the options of a scan, of those of a search and its own.

    Raises `InputError` for an option that a scan does not have, if it is not the default.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(SearchOptions)} | {"tails": None}
    for name, value in given.items():
        if name not in SHARED and _plain(value) not in (_plain(defaults.get(name)), ()):
            called = f"{name} None{' (--no-merge)' * (name == 'relative_error')}" if value is None else name
            raise InputError(
                f"{called}: is not an option of a scan of windows; leave it out, or leave out {argument('scan')}"
            )
    if isinstance(mass_range, Mapping):
        if set(mass_range) - {"mass"}:
            raise InputError(
                f"a scan of windows is one of the events' mass, and mass_range names {', '.join(mass_range)}"
            )
        mass_range = mass_range.get("mass")
    ends = None if mass_range is None else tuple(map(float, mass_range))
    shared = {name: value for name, value in given.items() if name in SHARED}
    return WindowScanOptions(**{**shared, **scan, "mass_range": ends, "seed": seed})


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def recipes_of(recipe: Recipe, windows: Sequence[Window], folds: int | None) -> list[Recipe]:
    """Return what to train for every window: seeds differ, and `folds` are the model's own."""
    first, made = recipe.model(), []
    defaults = type(first).Hyperparameters.defaults()
    for number, window in enumerate(windows):
        own: dict[str, object] = {"window": (window.low, window.high), "seed": first.hp.seed + number * first.members}
        if "sidebands" in defaults:
            own["sidebands"] = (window.outer_low, window.outer_high)
        if folds is not None:
            own["folds"] = folds
        made.append(dataclasses.replace(recipe, hyperparameters={**recipe.hyperparameters, **own}))
    return made


def scan(
    recipe: Recipe,
    events: Events,
    options: WindowScanOptions,
    *,
    folds: int | None = None,
    folder: Path | None = None,
    about: Mapping[str, object] | None = None,
    said: Callable[[str], object] = lambda text: None,
    **training: Any,
) -> WindowScan:
    """Train the model of every window, score all events with it, and say what is found.

    Args:
        recipe: what to train. events: the data. options: see `WindowScanOptions`.
        folds: of every model, by its own default otherwise.
        folder: keeps what is trained and scored; None trains in memory.
        about: goes into the configuration. said: is told what is done. training: of `Windows`, or `jit_compile` alone.
    """
    check_scannable(recipe, options)
    kind: Any = registry.model_class(recipe.name)
    if options.mass_range is not None:
        low, high = options.mass_range
        events = events.take((events.mass >= low) & (events.mass < high))
    if not len(events):
        raise InputError(f"{events.name}: no events to scan within the mass range")
    windows, left_out = windows_of(events.mass.astype(np.float64), options)
    for text in left_out:
        said(text)
    recipes = recipes_of(recipe, windows, folds)
    for one in recipes:
        one.model()  # are its hyperparameters possible?
    blind = events.without_labels() if events.has_labels else events
    trainer = Windows(recipes, folder, options, said=said, **training)
    configuration = {
        "model": recipe.name,
        "score_kind": options.score_kind or recipe.score_kinds[0],
        "density_trained_beside": kind.has_template and options.background != "template",
        "options": {**options.to_dict(), "scan": True, "folds": folds},
        "seed": options.seed,
        "data": provenance.data(events),
        "versions": provenance.versions(),
        "command": provenance.command(),
        **(about or {}),
    }
    return window_scan(
        windows, list(trainer.scored(blind)), events, options, configuration=configuration, said=left_out
    )


class Windows:
    """Trains the models of windows, one run directory each, and keeps their scores: what is finished is never done again.

    `window-0`, `window-1`, ... in the folder are run directories, and `window-0.h5` the scores of all events by that model.

    Raises:
        InputError: if something is finished in `folder` and `resume` is not asked for; for scores of another training; and
            as `zoo.run.train`.
    """

    def __init__(
        self, recipes: Sequence[Recipe], folder: Path | None, options: WindowScanOptions, *, resume: bool = False,
        said: Callable[[str], object] = print, workers: int = 1, scheduler: str | Batch | None = None,
        **training: Any,
    ):  # fmt: skip
        self.recipes, self.folder, self.options, self._said, self._training = recipes, folder, options, said, training
        self._workers, self._scheduler = workers, scheduler
        if folder is not None and not resume and Trainer.holds_something(folder, "window"):
            raise InputError(f"an interrupted search is kept in {folder}; add {argument('resume', True)}, or remove it")

    def scored(self, events: Events) -> Iterator[Scored]:
        """Train what is not trained yet, side by side where there are workers, and yield the scores of every window."""
        size = TEMPLATE if self.options.background == "template" else 0
        kind, many = self.options.score_kind, len(self.recipes)
        if self.folder is None:
            for number, recipe in enumerate(self.recipes):
                self._said(f"window {number + 1} of {many}: {_where(recipe)}, {recipe.name} on {len(events)} events")
                model = recipe.model()
                model.fit(events, epochs=recipe.epochs, verbose=0, jit_compile=self._training.get("jit_compile", True))
                yield scored_by(model, events, kind, size)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        checksum = provenance.checksum(events)
        made_of = [_made_of(recipe, checksum, kind, size) for recipe in self.recipes]
        options = self._training if self._workers == 1 and self._scheduler is None else {**self._training, "verbose": 0}
        tasks = []
        for number, recipe in enumerate(self.recipes):
            out = self.folder.resolve() / f"window-{number}"
            if read_scores(out.with_suffix(".h5"), made_of[number]) is None:
                tasks.append((number, (recipe, events, out, made_of[number], kind, size, options)))
        for number in sorted(set(range(many)) - {number for number, _ in tasks}):
            self._said(f"window {number + 1} of {many}: {_where(self.recipes[number])}, trained before")
        try:
            with open_workers(self._workers, self._scheduler) as pool:
                for number, _ in pool.map(train_window, tasks):
                    self._said(f"window {number + 1} of {many}: {_where(self.recipes[number])} is trained")
        except InputError:
            if not any(self.folder.iterdir()):
                self.folder.rmdir()
            raise
        for number, made in enumerate(made_of):
            found = read_scores(self.folder / f"window-{number}.h5", made)
            if found is None:
                raise InputError(f"{self.folder / f'window-{number}.h5'}: vanished; start the same command again")
            yield found


def _where(recipe: Recipe) -> str:
    window: Any = recipe.hyperparameters["window"]
    return f"{window[0]:.0f} to {window[1]:.0f} GeV"


def _made_of(recipe: Recipe, checksum: str, kind: str | None, template: int) -> str:
    """Return the SHA-256 of all that the scores of a window depend on."""
    model = recipe.model()
    config = {"model": recipe.name, "hyperparameters": model.get_config(), "epochs": recipe.epochs or model.epochs,
              "data": checksum, "kind": kind, "template": template}  # fmt: skip
    known: Any = as_json(config)
    return digest(known)


def scored_by(model: Any, events: Events, kind: str | None, template: int) -> Scored:
    """Return what a trained model says of events, and of so many events of its template."""
    score, _ = scores_of(model, events, kind)
    return Scored(score, scores_of(model, model.template(template), kind)[0] if template else None)


def train_window(
    recipe: Recipe,
    events: Events,
    out: Path,
    made_of: str,
    kind: str | None,
    template: int,
    options: Mapping[str, object],
) -> None:
    """Train the model of a window into a run directory, going on where it was interrupted, and write its scores beside it."""
    from zoo import run

    if out.is_dir():  # of a scan that was killed before its scores were written; raises if it is another training's
        model: Any = recipe.model()
        quiet: dict[str, Any] = {**options, "verbose": 0}
        run.train(model, events, out, epochs=recipe.epochs, resume=True, **quiet)
    else:
        model = train_fold(recipe, 0, events, out, options)
    found = scored_by(model, events, kind, template)
    with sealed(out.with_suffix(".h5")) as file:
        file.attrs["made_of"] = made_of
        file["score"] = found.score
        if found.template is not None:
            file["template"] = found.template


def read_scores(path: Path, made_of: str) -> Scored | None:
    """Return the scores of a window; None if they are not there; raises `InputError` if they are of another training."""
    if not path.is_file():
        return None
    file, _ = open_sealed(path)
    with file:
        if file.attrs.get("made_of") != made_of:
            raise InputError(
                f"{path}: of another model, window or data than asked for; give the same, or remove {path.parent}"
            )
        template = file["template"][:] if "template" in file else None
        return Scored(file["score"][:], template)


def training_of(recipe: Recipe) -> dict[str, object]:
    """Return what the configuration of a scan says of its trainings."""
    model = recipe.model()
    return {"preset": recipe.preset, "epochs": recipe.epochs, "on": "these data, without labels, for every window",
            "hyperparameters": json.loads(json.dumps(model.get_config())),
            "yardstick": model.yardstick or None}  # fmt: skip
