"""Search for a bump with a run, or with models that are trained on the data: `zoo.hunt`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.arguments import argument
from pipelines.bumphunt.given_scores import GivenScores
from pipelines.bumphunt.result import Contributions, Search
from pipelines.bumphunt.search import is_the_mass
from pipelines.bumphunt.search import search as search_with
from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.outputs import hold, work_folder
from zoo import registry, weights
from zoo.hunting.folds import Recipe, Trainer
from zoo.opened_run import about_run, open_for, trained_model
from zoo.run import origin, read_config

Range = tuple[float, float]


def hunt(
    run: Any = None,
    events: Any = None,
    out: str | os.PathLike | None = None,
    *,
    scores: Any = None,
    train: bool = False,
    folds: int | None = None,
    preset: str | None = None,
    hyperparameters: Mapping[str, object] | None = None,
    epochs: int | None = None,
    jit_compile: bool = True,
    resume: bool = False,
    explain: bool = False,
    workers: int = 1,
    scheduler: Any = None,
    verbose: int | str = 0,
    said: Callable[[str], object] | None = None,
    conversion: Mapping[str, Any] | None = None,
    mass_range: Range | Mapping[str, Range] | None = None,
    seed: int = 0,
    scan: bool = False,
    window_width: float = 0.12,
    window_step: float = 0.5,
    side_band_width: float | None = None,
    windows: Sequence[Range] = (),
    **options: Any,
) -> Any:
    """Score events, select the most anomalous, and hunt a bump in their mass; with `out` write results and report.

    Args:
        run: a run directory, or a trained model. With `train` or `folds` a run directory or the name of a model, which is
            trained on the data. None with `scores`.
        events: what `pipelines.open` takes. Files that have to be converted are so as those of the run's training, with
            its columns and its mass, unless `conversion` says otherwise, as {"mass": "mjj"}.
        out: new folder for results, report, and what was trained. Without, nothing is written. What has to be converted
            goes into OUT.events.h5, which the same call uses again.
        scores: instead of `run`: (N,) one for each event, in their order, higher is more anomalous; or a file of them (see
            `pipelines.bumphunt.given_scores.GivenScores.from_file`).
        train: train one model on these very data, without labels, then score them.
        folds: train K models; each scores what it has not seen.
        preset, hyperparameters, epochs, jit_compile: of the training.
        explain: say what each input contributes to the scores of the events that the best bump selects (`zoo.explain`): in the
            report, and as `explained` of what is returned. Of a trained run only.
        resume: go on with an interrupted search, which `out` names, or begin where there is none.
        workers, scheduler: who trains the folds. verbose, said: Keras' progress bar; a function that is called with what is being trained.
        mass_range: GeV, of all spectra or by name. By default only events in the range of the run's training are
            searched, if there is one.
        seed: of the training, the folds and the pseudo-experiments.
        scan: slide a window over the masses and train a model of a window, such as cwola, for each, without labels. An event
            is never scored by a classifier that saw it; `folds` are the model's own. A `WindowScan` is returned.
        window_width, window_step, side_band_width, windows: of a scan, see `pipelines.window_scan.options`.
        options: as for `pipelines.search`, such as `percentiles`, `tails`, `spectra`, `background`; `cut`, by default "mass", a threshold
            that follows the mass (`pipelines.bumphunt.mass_cut`). "global" is the papers' own.

    Raises `InputError` for options that do not go together, and as `pipelines.search` and `zoo.train`.

    Example:
        >>> import pipelines
        >>> events = pipelines.open("lhco_sim_test")
        >>> heavy = events.read("features", ["mass_1", "mass_2"]).sum(axis=1)  # scores that one already has
        >>> options = {"mass_range": (2700, 5000), "widths": (2, 4), "pseudo_experiments": 200, "percentiles": 90}
        >>> hunt(scores=heavy, events=events, **options).hunt.best.selected_events
        467
    """
    if events is None:
        raise TypeError("hunt() needs events, in whose mass a bump is searched for")
    if train and folds:
        raise InputError(
            f"{argument('train')} and {argument('folds')}: one model that scores what it was trained on, or K that do not; "
            f"give one"
        )
    sliding = {"window_width": window_width, "window_step": window_step, "side_band_width": side_band_width,
               "windows": tuple(tuple(one) for one in windows)}  # fmt: skip
    _check_scan(scan, sliding, train, scores, options.get("background", "spectrum"))
    if scan and explain:
        raise InputError(f"{argument('explain')}: of one model, and a scan has one for every window; leave it out")
    if not folds and not scan and (workers > 1 or scheduler is not None):
        raise InputError(
            f"{argument('workers')} and {argument('scheduler')} train the models of several folds at once; add "
            f"{argument('folds')}"
        )
    with contextlib.nullcontext() if out is None else hold(out) as out:
        if scan:
            recipe = recipe_of(run, seed, preset=preset, hyperparameters=hyperparameters, epochs=epochs)
            return _scan(
                run, recipe, events, out, sliding, folds=folds, jit_compile=jit_compile, resume=resume, workers=workers,
                scheduler=scheduler, verbose=verbose, said=said, conversion=conversion, mass_range=mass_range, seed=seed,
                **options,
            )  # fmt: skip
        return _hunt(
            run, events, out, scores=scores, train=train, folds=folds, preset=preset, hyperparameters=hyperparameters,
            epochs=epochs, jit_compile=jit_compile, resume=resume, explain=explain, workers=workers, scheduler=scheduler, verbose=verbose,
            said=said, conversion=conversion, mass_range=mass_range, seed=seed, **options,
        )  # fmt: skip


def _hunt(
    run, events, out, *, scores, train, folds, preset, hyperparameters, epochs, jit_compile, resume, explain, workers,
    scheduler, verbose, said, conversion, mass_range, seed, **options,
) -> Search:  # fmt: skip
    if explain and (train or folds or scores is not None):
        raise InputError(
            f"{argument('explain')}: only a trained RUN can be explained; leave it out, or train first (zoo train)"
        )
    given = {"preset": preset, "hyperparameters": hyperparameters, "epochs": epochs, "resume": resume}
    if scores is not None:
        given = {"run": run, "train": train, "folds": folds, "score_kind": options.get("score_kind"), **given}
        model: Any = _given_scores(scores, [argument(name) for name, value in given.items() if value])
    elif train or folds:
        recipe = recipe_of(run, seed, preset=preset, hyperparameters=hyperparameters, epochs=epochs)
        model = _trainer(run, recipe, out, resume, said, verbose=verbose, jit_compile=jit_compile, workers=workers,
                         scheduler=scheduler)  # fmt: skip
    else:
        model = _trained_already(run, [argument(name) for name, value in given.items() if value])
    spectra = options.get("spectra", ())
    also = [spectra] if isinstance(spectra, str) else spectra
    data = open_for(run, events, also=also, kept=_kept_conversion(out), said=said, **(conversion or {}))
    found = search(run, model, data, mass_range=mass_range, folds=folds or (1 if train else None), seed=seed, **options)
    if explain:
        found = dataclasses.replace(found, explained=explained(model, found, options.get("score_kind"), seed))
    if out is not None:
        from pipelines.bumphunt.write import write

        write(found, out, model.folder if isinstance(model, Trainer) else None)
    if isinstance(model, Trainer):
        model.done()
    return found


def _kept_conversion(out: str | os.PathLike[str] | None) -> Path | None:
    """Return where events that have to be converted are kept, beside the folder `out`."""
    return None if out is None else Path(out).with_name(f"{Path(out).name}.events.h5")


def explained(model: Any, found: Search, kind: str | None, seed: int) -> Contributions:
    """Return what each input contributes, on average, to the scores of the events that the best bump of a search selects."""
    from zoo.evaluation.explanation import explain_events

    best = (found.believed or found.hunt).best
    said = f"percentile {best.percentile:g}, {best.tail} tail"
    chosen = np.flatnonzero(found.selected(best))
    return explain_events(model, found.events, chosen, kind or model.score_kinds[0], seed=seed, said=said).averaged()


OF_A_SCAN = {"window_width": 0.12, "window_step": 0.5, "side_band_width": None, "windows": ()}


def _check_scan(scan: bool, sliding: Mapping[str, object], train: bool, scores: Any, background: str) -> None:
    """Raise `InputError` for options that go with a scan of windows alone, or not with it."""
    if scan and (train or scores is not None):
        raise InputError(
            f"{argument('scan')} trains a model for every window: leave out {argument('train')} and {argument('scores')}"
        )
    changed = [name for name, value in sliding.items() if value != OF_A_SCAN[name]]
    if not scan and changed:
        raise InputError(f"{argument(changed[0])} is of a scan of windows; add {argument('scan', True)}")
    if not scan and background in ("template", "sidebands"):
        raise InputError(
            f"background {background} is of a scan of windows; add {argument('scan', True)}, with {argument('windows')} for one window"
        )


def _scan(
    run, recipe: Recipe, events, out, sliding, *, folds, jit_compile, resume, workers, scheduler, verbose, said, conversion,
    mass_range, seed, **options,
):  # fmt: skip
    from zoo.hunting import window_scan

    wanted = window_scan.options_of(options, sliding, mass_range, seed)
    window_scan.check_scannable(recipe, wanted)
    if out is None and (resume or workers != 1 or scheduler is not None):
        raise InputError("resume, workers, scheduler: they go by files; give out, a new folder")
    about: dict[str, object] = {"training": window_scan.training_of(recipe)}
    if loaded := dict(about_run(run)):
        about["run"] = loaded
        if wanted.mass_range is None and loaded.get("mass_range"):
            wanted = dataclasses.replace(wanted, mass_range=tuple(loaded["mass_range"]))
    training: dict[str, Any] = {"jit_compile": jit_compile}
    folder = None
    if out is not None:
        folder = work_folder(Path(out))
        training |= {"resume": resume, "workers": workers, "scheduler": scheduler, "verbose": verbose}
    data = open_for(run, events, kept=_kept_conversion(out), said=said, **(conversion or {}))
    found = window_scan.scan(
        recipe, data, wanted, folds=folds, folder=folder, about=about, said=said or _silent, **training
    )
    if folder is not None:
        from pipelines.window_scan.write import write

        write(found, out, folder)
        shutil.rmtree(folder, ignore_errors=True)
    return found


def search(
    run: Any, model: Any, events: Events, *, mass_range=None, folds: int | None = None, **options: Any
) -> Search:  # fmt: skip
    """Search with a run's model. The mass range is the run's by default; the configuration records it."""
    about: dict[str, object] = {}
    loaded = dict(about_run(run))
    if loaded:  # also of what is trained again with its hyperparameters
        about["run"] = loaded
    recipe = getattr(model, "recipe", None)
    if isinstance(recipe, Recipe):
        about["training"] = {"preset": recipe.preset, "epochs": recipe.epochs, "on": "these data, without labels",
                             "hyperparameters": recipe.model().get_config(),
                             "yardstick": recipe.model().yardstick or None}  # fmt: skip
    spectra = options.get("spectra", ("mass",))
    names = [spectra] if isinstance(spectra, str) else list(spectra)
    by_name = dict(mass_range) if isinstance(mass_range, Mapping) else {}
    if mass_range is not None and not isinstance(mass_range, Mapping):
        by_name = {name: tuple(mass_range) for name in names}
    given = any(is_the_mass(events, name) for name in by_name)  # over what the model was trained on
    within = None if given else loaded.get("mass_range")
    options.setdefault("within", within)
    return search_with(model, events, mass_range=by_name, folds=folds, about=about, **options)


def recipe_of(
    run: Any,
    seed: int = 0,
    *,
    preset: str | None = None,
    hyperparameters: Mapping[str, object] | None = None,
    epochs: int | None = None,
) -> Recipe:
    """Return what to train: a model by its name, or again as a run was.

    Raises `InputError` if there is no such model, and if what it scores are spectra.
    """
    if run is None:
        raise InputError("there is nothing to train: give the name of a model, or a run directory")
    given = dict(hyperparameters or {})
    if weights.find(run).is_dir():
        config: Mapping[str, Any] = read_config(run)
        if preset:
            raise InputError(
                f"{argument('preset', preset)}: {run} is a run directory, whose hyperparameters are taken; use "
                f"{argument('hyperparameters')}"
            )
        name, kept = config["model"], config["hyperparameters"]
        recipe = Recipe(name, None, {**kept, "seed": seed, **given}, epochs or config.get("epochs"))
    else:
        recipe = Recipe(str(run), preset, {"seed": seed, **given}, epochs)
    model: Any = registry.model_class(recipe.name)
    model.require("events", run)
    recipe.model()  # before anything is read: are its hyperparameters possible?
    return recipe


class InMemory:
    """Trains the models of a search in memory, as `pipelines.search` takes with `folds`."""

    def __init__(self, recipe: Recipe, jit_compile: bool = True, said: Callable[[str], object] | None = None):
        self.recipe, self.jit_compile, self._said = recipe, jit_compile, said or _silent
        self.score_kinds, self.undirected, self.zoo_name = recipe.score_kinds, recipe.undirected, recipe.name

    def __call__(self, fold: int, events: Events) -> Any:
        """Return a model of a fold, trained on events."""
        self._said(f"training {self.recipe.name} on {len(events)} events")
        model = self.recipe.model(fold)
        model.fit(events, epochs=self.recipe.epochs, verbose=0, jit_compile=self.jit_compile)
        return model


def _trainer(run: Any, recipe: Recipe, out, resume: bool, said, **options: Any) -> Trainer | InMemory:
    """Return what trains the models of a search: into run directories beside `out`, or in memory if there is none."""
    if out is None:
        if resume:
            raise InputError("resume: nothing is kept without out, so there is nothing to go on with")
        if options["workers"] != 1 or options["scheduler"] is not None:
            raise InputError("workers, scheduler: they hand over what they train by files; give out, a new folder")
        return InMemory(recipe, options["jit_compile"], said)
    tuning = origin(run).get("tuning")
    if tuning:  # what is trained with its hyperparameters says so as well
        options["extra"] = {"tuning": tuning}
    return Trainer(recipe, work_folder(Path(out)), resume=resume, said=said or _silent, **options)


def _silent(text: str) -> None:
    pass


def _given_scores(scores: Any, given: Sequence[str]) -> GivenScores:
    """Return the scores that are given instead of a model, by themselves or as a file."""
    if given:
        raise InputError(
            f"{given[0]}: there is nothing to load or to train with {argument('scores')}; leave one of them out"
        )
    return GivenScores.from_file(scores) if isinstance(scores, (str, os.PathLike)) else GivenScores(scores)


def _trained_already(run: Any, given: Sequence[str]) -> Any:
    """Return the model of a run."""
    ways = f"{argument('train')} or {argument('folds')}"
    if run is None:
        raise InputError(
            f"there is nothing to score the events: give {argument('run')}, a run directory, or {argument('scores')}"
        )
    if given:
        raise InputError(f"{given[0]}: {run} is trained already; add {ways} to train on the data")
    if isinstance(run, (str, os.PathLike)) and not Path(run).exists() and str(run) in registry.names():
        raise InputError(f"{run} is a model, not a run directory; add {ways} to train it on the data")
    return trained_model(run)
