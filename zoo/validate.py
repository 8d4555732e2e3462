"""Is a search to be believed? The studies of `zoo validate` as functions: `zoo.validate.coverage("run", "mc.h5")`.

Each opens events, loads or trains the model, and returns the numbers of `pipelines.bumphunt.validation` as a dict ready for
JSON. `uses_labels` says what labels were used for, and `truth_used` whether they chose hyperparameters of a run.

Options that are not named are those of a search (see `pipelines.search`). Masses are limited to the range of the run's
training, unless `mass_range` says otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.arguments import argument
from pipelines.bumphunt import validation
from pipelines.bumphunt.result import truth_in_tuning
from pipelines.bumphunt.scores import natural_tails, scores_of
from pipelines.datasets.opening import open_events
from pipelines.errors import InputError
from pipelines.events.events import Events
from zoo.hunting import InMemory, recipe_of
from zoo.trained import about_run, mass_range_of, open_for, trained_model

Range = tuple[float, float]
Found = dict[str, Any]
RATIOS = (0, 0.0008, 0.0025, 0.005, 0.01)  # S/B within the mass range
PSEUDO_EXPERIMENTS = 1000  # of each hunt: a study has many


def sculpting(
    run: Any, data: Any, *, ignore_labels: bool = False, score_kind: str | None = None, tails: str | None = None,
    mass_range: Range | None = None, seed: int = 0,
) -> Found:  # fmt: skip
    """Return how much cuts on the score shape the background's mass spectrum, by tail and percentile.

    `curve` is of one threshold for all masses, `following` of thresholds that follow the mass, as a hunt has them by default.

    Args:
        run: a run directory, or a trained model. data: what `pipelines.open` takes; of labelled events the background.
        ignore_labels: take all events. score_kind, tails: by default the model's first kind, and the tails that suit it.
        mass_range: GeV. seed: of the selections by chance that are compared with.

    Example:
        `zoo.validate.sculpting("run", "mc.h5")["curve"]["upper"]["99"]["distance"]`
    """
    score, events, natural, labels = _background(run, data, ignore_labels, score_kind, mass_range)
    curve = validation.sculpting_curve(score, events.mass, tails=tails or natural, seed=seed)
    following = validation.following_curve(score, events.mass, tails=tails or natural, seed=seed)
    return _told({"curve": curve, "following": following, "events": len(events), "uses_labels": labels}, run)


def coverage(
    run: Any, data: Any, *, ignore_labels: bool = False, score_kind: str | None = None, tails: str | None = None,
    data_sets: int = 100, events: int | None = None, shuffle: bool = False, percentiles: Any = 80.0,
    mass_range: Range | None = None, cut: str = "mass", pseudo_experiments: int = PSEUDO_EXPERIMENTS, seed: int = 0,
    **options: Any,
) -> Found:  # fmt: skip
    """Return the global p-values of searches in many background-only data sets, and whether they are uniform.

    Args:
        run, data, ignore_labels, score_kind, tails, mass_range: as for `sculpting`.
        data_sets: how many. events: of each; by default they share all there are.
        shuffle: deal the scores anew, which tests the statistics without the score.
        percentiles, cut, pseudo_experiments, seed, options: of each search.

    Example:
        `zoo.validate.coverage("run", "mc.h5", data_sets=100)["ks_p_value"]`
    """
    score, background, natural, labels = _background(run, data, ignore_labels, score_kind, mass_range)
    found = validation.coverage(
        score, background.mass, data_sets=data_sets, events=events, shuffle=shuffle, seed=seed, tails=tails or natural,
        percentiles=percentiles, mass_range=mass_range or mass_range_of(run), cut=cut, pseudo_experiments=pseudo_experiments,
        **options,
    )  # fmt: skip
    return _told({**found, "uses_labels": labels}, run)


def spectrum(
    run: Any, data: Any, *, at: float, width: float, yields: Sequence[int] = (0, 10, 20, 40, 80), repeats: int = 20,
    target: float = 2.0, pybumphunter: bool = False, ignore_labels: bool = False, score_kind: str | None = None,
    mass_range: Range | None = None, cut: str = "mass", pseudo_experiments: int = PSEUDO_EXPERIMENTS, seed: int = 0,
    **options: Any,
) -> Found:  # fmt: skip
    """Return what significance how many signal events in the selected spectrum have.

    Args:
        run, data, ignore_labels, score_kind, mass_range: as for `sculpting`.
        at, width: mean and standard deviation of the signal's mass, GeV.
        yields: selected signal events. repeats: data sets of each. target: the significance whose yield is reported.
        pybumphunter: beside it pyBumpHunter's own signal_inject.
        cut, pseudo_experiments, seed, options: of each search.

    Example:
        `zoo.validate.spectrum("run", "mc.h5", at=3500, width=100)["needed"]["injected"]["global"]`
    """
    score, background, _, labels = _background(run, data, ignore_labels, score_kind, mass_range)
    signal = {"at": at, "width": width, "seed": seed, "mass_range": mass_range or mass_range_of(run),
              "cut": cut, "pseudo_experiments": pseudo_experiments, **options}  # fmt: skip
    ways: Found = {}
    if pybumphunter:  # first, as it is quick to refuse
        ways["pybumphunter"] = validation.pybumphunter_injection(score, background.mass, target=target, **signal)
    ways = {
        "injected": validation.spectrum_injection(score, background.mass, yields=yields, repeats=repeats, **signal),
        **ways,
    }
    needed = {way: {kind: validation.needed_yield(found, kind, target) for kind in ("local", "global")}
              for way, found in ways.items()}  # fmt: skip
    found = {"at": at, "width": width, "repeats": repeats, **ways, "target": target, "needed": needed}
    return _told({**found, "uses_labels": labels}, run)


def injection(
    run: Any, background: Any, signal: Any, ratios: Sequence[float] = RATIOS, *, train: bool = False,
    folds: int | None = None, preset: str | None = None, hyperparameters: Mapping[str, object] | None = None,
    epochs: int | None = None, jit_compile: bool = True, mass_range: Range | None = None,
    pseudo_experiments: int = PSEUDO_EXPERIMENTS, seed: int = 0, said: Callable[[str], object] | None = None,
    **options: Any,
) -> Found:  # fmt: skip
    """Mix signal into background at every S/B, search end to end, and return what truth says of it.

    Args:
        run: a run directory, a trained model, or with `train` or `folds` the name of a model that is trained on each
            mixture (see `zoo.hunt`, also for preset, hyperparameters, epochs, jit_compile).
        background, signal: events; of labelled ones the background and the signal.
        ratios: S/B within the mass range.
        mass_range, pseudo_experiments, seed, options: of each search. said: a function that is called with one line for each step.

    Example:
        `zoo.validate.injection("vae", "qcd.h5", "signal.h5", [0, 0.01], train=True)["injected"]`
    """
    if train and folds:
        raise InputError(f"{argument('train')} and {argument('folds')}: give one")
    background, signal = open_events(background), open_events(signal)
    model: Any = None if train or folds else trained_model(run)
    if model is None:
        recipe = recipe_of(run, seed, preset=preset, hyperparameters=hyperparameters, epochs=epochs)
        model = InMemory(recipe, jit_compile, said)
    within = mass_range or mass_range_of(run)
    validation.check_ratios(background, signal, ratios, within)
    rows = []
    for ratio in ratios:
        found = validation.injected(
            model, background, signal, ratio, folds=folds or (1 if train else None), seed=seed, mass_range=within,
            pseudo_experiments=pseudo_experiments, **options,
        )  # fmt: skip
        rows.append({"ratio": ratio, **validation.paper_numbers(found)})
        if said:
            said(f"S/B {ratio:g} done")
    return _told({"model": str(run), "injected": rows, "uses_labels": "to judge only"}, run)


def contamination(
    model: str | os.PathLike, background: Any, signal: Any, test: Any, ratios: Sequence[float] = RATIOS, *,
    seeds: int = 1, preset: str | None = None, hyperparameters: Mapping[str, object] | None = None,
    epochs: int | None = None, jit_compile: bool = True, score_kind: str | None = None,
    mass_range: Range | None = None, seed: int = 0, said: Callable[[str], object] | None = None,
) -> Found:  # fmt: skip
    """Train a model at every S/B, judge it on other events, and return how well it still finds the signal.

    Args:
        model: name of a model, or a run directory whose training is repeated.
        background, signal, ratios: as for `injection`. test: labelled events, none of them in the others.
        seeds: trainings of every S/B. preset, hyperparameters, epochs, jit_compile: of the trainings.
        score_kind, mass_range, seed, said: as for `injection`.

    Example:
        `zoo.validate.contamination("ae", "qcd.h5", "signal.h5", "test.h5")["trained"]`
    """
    recipe = recipe_of(model, seed, preset=preset, hyperparameters=hyperparameters, epochs=epochs)
    within = mass_range or mass_range_of(model)
    qcd, bumps, judged = (open_events(events, within) for events in (background, signal, test))
    rows = validation.contamination(
        InMemory(recipe, jit_compile, said), qcd, bumps, judged, ratios, kind=score_kind, seeds=seeds, seed=seed
    )
    names = {str(k): name for k, name in judged.about.label_names.items()}
    found = {"model": str(model), "trained": rows, "label_names": names, "uses_labels": "to judge only"}
    return _told(found, model)


def stability(
    runs: Sequence[Any], data: Any, *, score_kind: str | None = None, tails: str | None = None,
    mass_range: Range | None = None, cut: str = "mass", pseudo_experiments: int = PSEUDO_EXPERIMENTS, seed: int = 0,
    **options: Any,
) -> Found:  # fmt: skip
    """Return how alike what members of runs, or runs of several seeds, say of the same events.

    Args:
        runs: run directories, or trained models. data: events.
        score_kind, tails, mass_range: as for `sculpting`. cut, pseudo_experiments, seed, options: of each search.

    Example:
        `zoo.validate.stability(["run0", "run1"], "data.h5")["rank_correlation"]["mean"]`
    """
    runs = [runs] if isinstance(runs, (str, os.PathLike)) or not isinstance(runs, Sequence) else list(runs)
    within = mass_range or mass_range_of(runs[0])
    events, models = open_for(runs[0], data, within), [trained_model(run) for run in runs]
    scores = np.concatenate([model.score(events, score_kind, per_member=True) for model in models])
    found = validation.stability(
        scores, events.mass, seed=seed, tails=tails or natural_tails(models[-1], score_kind), mass_range=within,
        cut=cut, pseudo_experiments=pseudo_experiments, **options,
    )  # fmt: skip
    return _told(found, *runs)


def supervised(
    data: Any, columns: Sequence[str] = ("*",), *, folds: int = 5, mass_range: Range | None = None, seed: int = 0
) -> Found:
    """Return what boosted trees with labels reach, cross-validated: a yardstick of what could be had at most.

    Args:
        data: labelled events. columns: features, names or patterns. folds: of the cross-validation. mass_range: GeV.

    Example:
        `zoo.validate.supervised("labelled.h5")["auc"]`
    """
    events = open_events(data, mass_range)
    _, found = validation.supervised(events, columns, folds=folds, seed=seed)
    return {**found, "label_names": {str(k): name for k, name in events.about.label_names.items()}}


def notices(*runs: Any) -> list[str]:
    """Return for each run whose hyperparameters labels chose what has to be said of it."""
    told = {str(run): truth_in_tuning({"run": about_run(run)}) for run in runs}
    return [f"{run}: {notice}" for run, notice in told.items() if notice]


def _told(found: Found, *runs: Any) -> Found:
    return {**found, "truth_used": bool(notices(*runs))}


def _background(
    run: Any, data: Any, ignore_labels: bool, kind: str | None, mass_range: Range | None
) -> tuple[np.ndarray, Events, str, str | bool]:
    """Return scores of the background, the events, the tails that suit the score, and what labels were used for."""
    events = open_for(run, data, mass_range or mass_range_of(run))
    labels = "to leave out signal" if events.has_labels and not ignore_labels else False
    events = events.select(label=0) if labels else events
    model = trained_model(run)
    return scores_of(model, events, kind)[0], events, natural_tails(model, kind), labels
