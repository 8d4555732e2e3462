"""Is a search to be believed? The studies of `zoo validate` as functions: `zoo.validate.coverage("run", "mc.h5")`.

Each opens events, loads or trains the model, and returns the numbers of `pipelines.bumphunt.validation` as a dict ready for
JSON. `uses_labels` says what labels were used for, and `truth_used` whether they chose hyperparameters of a run.

Options that are not named are those of a search (see `pipelines.search`). Masses are limited to the range of the run's
training, unless `mass_range` says otherwise. `conversion` has options of `zoo data convert`, for data that need it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.arguments import argument, setting
from pipelines.bumphunt import selection_reach, validation
from pipelines.bumphunt.options import BumpHuntOptions, with_changes
from pipelines.bumphunt.result import truth_in_tuning
from pipelines.bumphunt.scores import natural_tails, scores_of
from pipelines.datasets.opening import open_events
from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.metrics import warn_unweighted
from pipelines.window_scan.closure import template_closure
from zoo.hunting.bump_hunt import InMemory, recipe_of
from zoo.opened_run import about_run, mass_range_of, open_each, open_for, trained_model

Range = tuple[float, float]
Found = dict[str, Any]
RATIOS = (0, 0.0008, 0.0025, 0.005, 0.01)  # S/B within the mass range
PSEUDO_EXPERIMENTS = 1000  # of each hunt: a study has many
APART = 10_000  # between the seeds of trainings of several mixtures: none has a member or a fold of another


def sculpting(
    run: Any, data: Any, *, ignore_labels: bool = False, score_kind: str | None = None, tails: str | None = None,
    mass_range: Range | None = None, seed: int = 0, conversion: Mapping[str, Any] | None = None,
) -> Found:  # fmt: skip
    """Return how much cuts on the score shape the background's mass spectrum, by tail and percentile.

    `curve` is of one threshold for all masses, `following` of thresholds that follow the mass, as a hunt has them by default.

    Args:
        run: a run directory, or a trained model. data: what `pipelines.open` takes; of labelled events the background.
        ignore_labels: take all events. score_kind, tails: by default the model's first kind, and the tails that suit it.
        mass_range: GeV. seed: of the selections by chance that are compared with.
        conversion: options of `zoo data convert`, for data that need it, where those of the run's training do not do.

    Example:
        `zoo.validate.sculpting("run", "mc.h5")["curve"]["upper"]["99"]["distance"]`
    """
    score, events, natural, labels = _background(run, data, ignore_labels, score_kind, mass_range, conversion)
    curve = validation.sculpting_curve(score, events.mass, tails=tails or natural, seed=seed)
    following = validation.following_curve(score, events.mass, tails=tails or natural, seed=seed)
    return _told({"curve": curve, "following": following, "events": len(events), "uses_labels": labels}, run)


def coverage(
    run: Any, data: Any, *, ignore_labels: bool = False, score_kind: str | None = None, tails: str | None = None,
    data_sets: int = 100, events: int | None = None, shuffle: bool = False, percentiles: Any = 80.0,
    mass_range: Range | None = None, cut: str = "mass", pseudo_experiments: int = PSEUDO_EXPERIMENTS, seed: int = 0,
    conversion: Mapping[str, Any] | None = None, **options: Any,
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
    score, background, natural, labels = _background(run, data, ignore_labels, score_kind, mass_range, conversion)
    found = validation.coverage(
        score, background.mass, data_sets=data_sets, events=events, shuffle=shuffle, seed=seed, tails=tails or natural,
        percentiles=percentiles, mass_range=mass_range or mass_range_of(run), cut=cut, pseudo_experiments=pseudo_experiments,
        **options,
    )  # fmt: skip
    return _told({**found, "uses_labels": labels}, run)


def template(
    run: Any, data: Any, *, percentiles: Sequence[float] = (50.0, 80.0, 90.0, 95.0, 99.0), template_events: int = 200_000,
    ignore_labels: bool = False, score_kind: str | None = None, seed: int = 0,
    conversion: Mapping[str, Any] | None = None,
) -> Found:  # fmt: skip
    """Return whether the template of a model of a window predicts how many background events there pass cuts on the score.

    Args:
        run: a run directory, or a trained model, such as of `cathode`. data: what `pipelines.open` takes; of labelled events
            the background.
        percentiles: of the template's scores. template_events: drawn, by `seed`.
        ignore_labels, score_kind: as for `sculpting`.

    Raises `InputError` for a model without a template.

    Example:
        `zoo.validate.template("run", "mc.h5")["cuts"][0]["ratio"]`
    """
    model = trained_model(run)
    drawn = _template_of(model, template_events, seed)
    events = open_for(run, data, mass_range_of(run), **(conversion or {}))
    labels = "to leave out signal" if events.has_labels and not ignore_labels else False
    events = events.select(label=0) if labels else events
    inside = events.take(model.regions.inside(events.mass))
    if not len(inside):
        raise InputError(f"{events.name}: no event in the window {model.regions.low:g} to {model.regions.high:g} GeV")
    scores, sampled = (scores_of(model, one, score_kind)[0] for one in (inside, drawn))
    found = {"cuts": template_closure(scores, sampled, percentiles), "window": [model.regions.low, model.regions.high],
             "events": len(inside), "template_events": len(drawn), "uses_labels": labels}  # fmt: skip
    return _told(found, run)


def _template_of(model: Any, size: int, seed: int) -> Events:
    if not hasattr(model, "template"):
        raise InputError(
            f"{model.zoo_name} has no template of the background; models that have one: cathode, lacathode, anode, r_anode"
        )
    drawn: Events = model.template(size, seed)
    return drawn


def spectrum(
    run: Any, data: Any, *, at: float, width: float, yields: Sequence[int] = (0, 10, 20, 40, 80), repeats: int = 20,
    target: float = 2.0, pybumphunter: bool = False, ignore_labels: bool = False, score_kind: str | None = None,
    mass_range: Range | None = None, cut: str = "mass", pseudo_experiments: int = PSEUDO_EXPERIMENTS, seed: int = 0,
    conversion: Mapping[str, Any] | None = None, **options: Any,
) -> Found:  # fmt: skip
    """Return what significance how many signal events in the selected spectrum have.

    Args:
        run, data, ignore_labels, score_kind, mass_range: as for `sculpting`.
        at, width: mean and standard deviation of the signal's mass, GeV.
        yields: selected signal events. repeats: data sets of each. target: the significance whose yield is reported.
            `reach` has the events for 3 and 5 sigma, by percentile, of many more data sets (`pipelines.bumphunt.selection_reach`).
        pybumphunter: beside it pyBumpHunter's own signal_inject.
        cut, pseudo_experiments, seed, options: of each search.

    Example:
        `zoo.validate.spectrum("run", "mc.h5", at=3500, width=100)["needed"]["injected"]["global"]`
    """
    score, background, _, labels = _background(run, data, ignore_labels, score_kind, mass_range, conversion)
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
    defined = not options.get("deficit") and options.get("statistic", "poisson") == "poisson"
    defined = defined and options.get("null", "shuffled") == "shuffled"  # the null of `selection_reach`
    reach = _reach(background.mass, at, width, signal) if defined else {}
    found = {"at": at, "width": width, "repeats": repeats, **ways, "target": target, "needed": needed, "reach": reach}
    return _told({**found, "uses_labels": labels}, run)


def _reach(mass: np.ndarray, at: float, width: float, signal: Mapping[str, Any]) -> Found:
    """The discovery reach of every percentile."""
    options = {name: value for name, value in signal.items() if name not in ("at", "width", "seed")}
    more = max(signal["pseudo_experiments"], selection_reach.PSEUDO_EXPERIMENTS)
    asked = BumpHuntOptions(**{**options, "pseudo_experiments": more})
    return {
        f"{percentile:g}": selection_reach.selection_reach(
            mass, with_changes(asked, {"percentiles": percentile}), at=at, width=width, seed=signal["seed"]
        ).to_dict()
        for percentile in asked.several_percentiles
    }


def injection(
    run: Any, background: Any, signal: Any, ratios: Sequence[float] = RATIOS, *, train: bool = False,
    folds: int | None = None, preset: str | None = None, hyperparameters: Mapping[str, object] | None = None,
    epochs: int | None = None, jit_compile: bool = True, mass_range: Range | None = None,
    pseudo_experiments: int = PSEUDO_EXPERIMENTS, repeats: int = 1, seed: int = 0,
    said: Callable[[str], object] | None = None, conversion: Mapping[str, Any] | None = None, **options: Any,
) -> Found:  # fmt: skip
    """Mix signal into background at every S/B, search end to end, and return what truth says of it.

    `injected` has a row for every S/B and mixture. `curve` has for every S/B the median and the central 68 % over the mixtures of
    what is believed (`pipelines.bumphunt.validation.injection_curve`), and `reach` the S/B at which the median reaches 3 and 5 sigma.

    Args:
        run: a run directory, a trained model, or with `train` or `folds` the name of a model that is trained on each
            mixture (see `zoo.hunt`, also for preset, hyperparameters, epochs, jit_compile).
        background, signal: events; of labelled ones the background and the signal.
        ratios: S/B within the mass range. repeats: mixtures of each, with other signal events, trainings and
            pseudo-experiments; the background is the same.
        mass_range, pseudo_experiments, seed, options: of each search. said: a function that is called with one line for each step.

    Example:
        `zoo.validate.injection("vae", "qcd.h5", "signal.h5", [0, 0.01], train=True)["injected"]`
    """
    if train and folds:
        raise InputError(f"{argument('train')} and {argument('folds')}: give one")
    background, signal = open_each(run, (background, signal), **(conversion or {}))
    if repeats < 1:
        raise InputError(f"{repeats} mixtures of every S/B, expected at least 1")
    trained: Any = None if train or folds else trained_model(run)
    training = {"preset": preset, "hyperparameters": hyperparameters, "epochs": epochs}
    recipes = [] if trained else [recipe_of(run, seed + APART * i, **training) for i in range(repeats)]  # type: ignore[arg-type]
    within = mass_range or mass_range_of(run)
    validation.check_ratios(background, signal, ratios, within)
    rows = []
    for ratio, repeat in [(ratio, repeat) for ratio in ratios for repeat in range(repeats)]:
        model: Any = trained or InMemory(recipes[repeat], jit_compile, said)
        found = validation.injected(
            model, background, signal, ratio, folds=folds or (1 if train else None), seed=seed + repeat, mass_range=within,
            pseudo_experiments=pseudo_experiments, **options,
        )  # fmt: skip
        rows.append({"ratio": ratio, "repeat": repeat, **validation.paper_numbers(found)})
        if said:
            said(f"S/B {ratio:g}, mixture {repeat + 1} of {repeats} done")
    curve = validation.injection_curve(rows)
    return _told({"model": str(run), "injected": rows, **curve, "uses_labels": "to judge only"}, run)


def contamination(
    model: str | os.PathLike, background: Any, signal: Any, test: Any, ratios: Sequence[float] = RATIOS, *,
    seeds: int = 1, preset: str | None = None, hyperparameters: Mapping[str, object] | None = None,
    epochs: int | None = None, jit_compile: bool = True, score_kind: str | None = None,
    mass_range: Range | None = None, seed: int = 0, said: Callable[[str], object] | None = None,
    conversion: Mapping[str, Any] | None = None,
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
    qcd, bumps, judged = open_each(model, (background, signal, test), within, **(conversion or {}))
    rows = validation.contamination(
        InMemory(recipe, jit_compile, said), qcd, bumps, judged, ratios, kind=score_kind, seeds=seeds, seed=seed
    )
    names = {str(k): name for k, name in judged.about.label_names.items()}
    found = {"model": str(model), "trained": rows, "label_names": names, "uses_labels": "to judge only"}
    return _told(found, model)


def stability(
    runs: Sequence[Any], data: Any, *, score_kind: str | None = None, tails: str | None = None,
    mass_range: Range | None = None, cut: str = "mass", pseudo_experiments: int = PSEUDO_EXPERIMENTS, seed: int = 0,
    conversion: Mapping[str, Any] | None = None, **options: Any,
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
    models = [trained_model(run) for run in runs]
    if sum(model.members for model in models) < 2:
        raise InputError(
            f"{runs[0]}: one training of one member has nothing to be compared with; give runs of other seeds too, or a run "
            f"of several members, as of a training with {setting('members', 4)}"
        )
    events = open_for(runs[0], data, within, **(conversion or {}))
    scores = np.concatenate([model.score(events, score_kind, per_member=True) for model in models])
    found = validation.stability(
        scores, events.mass, seed=seed, tails=tails or natural_tails(models[-1], score_kind), mass_range=within,
        cut=cut, pseudo_experiments=pseudo_experiments, **options,
    )  # fmt: skip
    return _told(found, *runs)


def supervised(
    data: Any, columns: Sequence[str] = ("*",), *, folds: int = 5, mass_range: Range | None = None, seed: int = 0,
    conversion: Mapping[str, Any] | None = None,
) -> Found:  # fmt: skip
    """Return what boosted trees with labels reach, cross-validated: a yardstick of what could be had at most.

    Args:
        data: labelled events. columns: features, names or patterns. folds: of the cross-validation. mass_range: GeV.

    Example:
        `zoo.validate.supervised("labelled.h5")["auc"]`
    """
    events = open_events(data, mass_range, **(conversion or {}))
    warn_unweighted(events)
    _, found = validation.supervised(events, columns, folds=folds, seed=seed)
    return {**found, "label_names": {str(k): name for k, name in events.about.label_names.items()}}


def notices(*runs: Any) -> list[str]:
    """Return for each run whose hyperparameters labels chose what has to be said of it."""
    told = {str(run): truth_in_tuning({"run": about_run(run)}) for run in runs}
    return [f"{run}: {notice}" for run, notice in told.items() if notice]


def _told(found: Found, *runs: Any) -> Found:
    return {**found, "truth_used": bool(notices(*runs))}


def _background(
    run: Any, data: Any, ignore_labels: bool, kind: str | None, mass_range: Range | None,
    conversion: Mapping[str, Any] | None,
) -> tuple[np.ndarray, Events, str, str | bool]:  # fmt: skip
    """Return scores of the background, the events, the tails that suit the score, and what labels were used for."""
    events = open_for(run, data, mass_range or mass_range_of(run), **(conversion or {}))
    labels = "to leave out signal" if events.has_labels and not ignore_labels else False
    events = events.select(label=0) if labels else events
    warn_unweighted(events)
    model = trained_model(run)
    return scores_of(model, events, kind)[0], events, natural_tails(model, kind), labels
