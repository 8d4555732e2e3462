"""The search: score events, select the most anomalous, hunt a bump in their mass, and keep all that was done.

    >>> import pipelines
    >>> events = pipelines.open("lhco_sim_test")
    >>> class Mass:  # any object with `score` is a model: here, how heavy the two jets are
    ...     def score(self, events):
    ...         return events.read("features", ["mass_1", "mass_2"]).sum(axis=1)
    >>> options = {"mass_range": (2700, 5000), "widths": (2, 4), "pseudo_experiments": 200}
    >>> result = pipelines.search(Mass(), events, percentiles=90, **options)
    >>> result.hunt.best.selected_events
    467

What is hunted in what is in `pipelines.bumphunt.bump_hunt`; this module brings events, models and truth to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pipelines import provenance
from pipelines.bumphunt.bump_hunt import bump_hunt
from pipelines.bumphunt.fitted_selections import check_fitted, fitted_hunts
from pipelines.bumphunt.following_sculpting import following_sculpting
from pipelines.bumphunt.given_scores import GivenScores, as_scores
from pipelines.bumphunt.options import TAILS, Range, SearchOptions, with_changes
from pipelines.bumphunt.result import SHORT, Search
from pipelines.bumphunt.scores import (
    Model,
    check_kind,
    fold_of,
    name_of,
    natural_tails,
    scores_by_fold,
    scores_of,
    trained,
)
from pipelines.bumphunt.selection import check_events, equal_edges, ranges_of
from pipelines.bumphunt.spectrum import bin_of
from pipelines.bumphunt.truth import judged
from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.metrics import PERCENTILES, sculpting_where_possible
from pipelines.moved import moved_names

__getattr__ = moved_names(
    __name__,
    {
        "write": "pipelines.bumphunt.write.write",
        **{name: f"pipelines.bumphunt.result.{name}" for name in ("truth_in_tuning", "z_text")},
    },
)


def search(
    model: Model | Callable[[int, Events], Model] | np.ndarray | Sequence[float],
    events: Events,
    options: SearchOptions | None = None,
    *,
    about: Mapping[str, object] | None = None,
    **changed: Any,
) -> Search:
    """Score events with a model and hunt a bump in the mass of those it finds most anomalous.

    Args:
        model: any object whose `score(events)` is (N,), higher more anomalous, of whatever it was trained on. With
            `folds`, a function of a fold's number and of events to train on, without labels, that returns such a model;
            it is called when all options have been checked, and that every selection leaves enough to hunt in. Or
            scores that are there already, (N,) one for each event.
        events: the data. Only those within the range of one spectrum at least are scored; labels, if there are some,
            only judge what was found.
        options: the `SearchOptions`. changed: options by name, in place of those.
        about: goes into the configuration, over what is there by itself.

    Raises:
        InputError: as `bump_hunt`, before anything is scored or trained but for what scores alone tell; an unknown
            spectrum or score kind; scores that are not finite; too few events for the folds.

    Example:
        See the top of this module.
    """
    if not isinstance(events, Events):
        raise TypeError(
            f"events is {type(events).__name__}, expected Events, as of pipelines.open or Events.from_arrays"
        )
    options = with_changes(options or SearchOptions(), changed)
    options = dataclasses.replace(options, tails=options.tails or natural_tails(model, options.score_kind))
    check_kind(model, options.score_kind)
    given = as_scores(model)
    if isinstance(given, GivenScores):
        given.check(events)
    events = events.without_labels() if options.ignore_labels and events.has_labels else events
    rows, masses, ranges, edges = _events_to_search(events, options)
    events = events if len(rows) == len(events) else events.take(rows)
    weight = None if options.ignore_weights or not events.has("weight") else events.weight
    check_events(masses, edges, weight, options)
    check_fitted(weight, options)
    model = given.of(rows) if isinstance(given, GivenScores) else model
    scores, spread, fold = _scored(model, events, options)
    shaping = (scores, None if weight is None or not np.ptp(weight) else weight)
    result = Search(
        hunt=bump_hunt(scores, masses, weight, options.for_hunt(mass_range=ranges)),
        events=events,
        rows=rows,
        scores=scores,
        score_std=spread,
        fold=fold,
        masses=masses,
        ranges=ranges,
        weight=weight,
        sculpting={name: _sculpting(*shaping, mass, ranges[name], options) for name, mass in masses.items()},
        sculpting_following={
            name: _sculpting_following(*shaping, mass, ranges[name], options) for name, mass in masses.items()
        },
        truth=None,
        configuration=_configuration(model, events, ranges, options) | dict(about or {}),
    )
    if options.cut == "global" and result.believed is None:
        result = _with_cut_that_follows(result, weight, options)
    if options.background != "spectrum":
        result = dataclasses.replace(result, fits=fitted_hunts(result, options))
    if not events.has_labels:
        return result
    return dataclasses.replace(result, truth=[judged(result, bump) for bump in result.hunt.bumps])


def _with_cut_that_follows(result: Search, weight: np.ndarray | None, options: SearchOptions) -> Search:
    """Return a search with the hunt whose p-value may be believed beside the one that may not."""
    again = options.for_hunt(mass_range=result.ranges, cut="mass", null="shuffled")
    try:
        following = bump_hunt(result.scores, result.masses, weight, again)
    except InputError as error:
        return dataclasses.replace(result, following_refused=str(error))
    return dataclasses.replace(result, following=following)


def _scored(
    model: Any, events: Events, options: SearchOptions
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Return the score of every event, its standard deviation over members, and which fold's model gave it."""
    if options.folds is None or options.folds == 1:
        scorer = trained(model, 0, events) if options.folds else model
        return *scores_of(scorer, events, options.score_kind), None
    fold = fold_of(len(events), options.folds, options.seed)
    return scores_by_fold(model, events, fold, options.score_kind), None, fold


def _configuration(
    model: object, events: Events, ranges: Mapping[str, Range], options: SearchOptions
) -> dict[str, object]:
    loaded = getattr(model, "loaded_from", None)
    return {
        "model": name_of(model),
        "score_kind": options.score_kind or next(iter(getattr(model, "score_kinds", ())), None),
        "options": {**options.to_dict(), "toys": options.pseudo_experiments},  # its name in files of older versions
        "ranges": {name: list(ends) for name, ends in ranges.items()},
        "seed": options.seed,
        "data": provenance.data(events),
        "versions": provenance.versions(),
        "command": provenance.command(),
        **({"run": dict(loaded)} if loaded else {}),
    }


def masses_of(events: Events, spectra: str | Sequence[str]) -> dict[str, np.ndarray]:
    """Return the masses (N,) in GeV of every spectrum asked for; raises `InputError` for an unknown one.

    >>> import pipelines
    >>> list(masses_of(pipelines.open("lhco_sim_test"), ["mass"]))
    ['mass']
    """
    return {name: _mass_of(events, name) for name in ([spectra] if isinstance(spectra, str) else spectra)}


def _mass_of(events: Events, name: str) -> np.ndarray:
    column = name if name in events.columns else SHORT.get(name, name)
    if is_the_mass(events, name):
        return events.mass
    if column in events.columns:
        return events.read("features", [column])[:, 0]
    masses = [c for c, unit in zip(events.columns, events.about.units) if unit == "GeV" and c.startswith("m")]
    raise InputError(
        f"{events.name}: no spectrum {name!r}; expected mass, or a column such as "
        f"{', '.join(masses[-4:] or events.columns[:4])}"
    )


def is_the_mass(events: Events, name: str) -> bool:
    """Return whether a spectrum is the mass of the events file, by whatever name.

    >>> import pipelines
    >>> [is_the_mass(pipelines.open("lhco_sim_test"), name) for name in ("mass", "m_jj", "mj1j2", "m_jjj")]
    [True, True, True, False]
    """
    return name == "mass" or events.about.mass_column in (name, SHORT.get(name, name))


def _events_to_search(
    events: Events, options: SearchOptions
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Range], dict[str, np.ndarray]]:
    """Return which events to search, and by spectrum their masses, its range, and its edges before merging."""
    masses, rows = masses_of(events, options.spectra), np.arange(len(events))
    if not len(rows):
        raise InputError(f"{events.name}: there are no events")
    mass_range: Any = options.mass_range
    if options.within is not None:
        ends = ranges_of({"mass": events.mass}, options.within)["mass"]
        rows = np.flatnonzero(bin_of(events.mass, equal_edges("mass", events.mass, ends, 1)) < 1)
        masses = {name: mass[rows] for name, mass in masses.items()}
        named = mass_range if isinstance(mass_range, Mapping) else dict.fromkeys(masses, mass_range)
        mass_range = {name: ends for name in masses if is_the_mass(events, name)}
        mass_range |= {name: given for name, given in named.items() if given is not None}
    ranges = ranges_of(masses, mass_range)
    edges = {name: equal_edges(name, mass, ranges[name], options.bins) for name, mass in masses.items()}
    inside = np.any([bin_of(mass, edges[name]) < options.bins for name, mass in masses.items()], axis=0)
    return rows[inside], {name: mass[inside] for name, mass in masses.items()}, ranges, edges


def _sculpting(
    scores: np.ndarray, weight: np.ndarray | None, mass: np.ndarray, ends: Range, options: SearchOptions
) -> dict[str, dict[str, dict[str, float]]]:
    """Sculpting of one spectrum within its range, by tail and percentile: those asked for, and the usual ones."""
    within = (mass >= ends[0]) & (mass <= ends[1])
    scores, mass, weight = scores[within], mass[within], None if weight is None else weight[within]
    return {
        tail: sculpting_where_possible(
            scores if tail == "upper" else -scores, mass, _percentiles(options), options.bins, options.seed, weight
        )
        for tail in TAILS[options.tails or "upper"]
    }


def _percentiles(options: SearchOptions) -> list[float]:
    return sorted({*PERCENTILES, *options.several_percentiles})


def _sculpting_following(
    scores: np.ndarray, weight: np.ndarray | None, mass: np.ndarray, ends: Range, options: SearchOptions
) -> dict[str, dict[str, dict[str, float]]]:
    """What `_sculpting` returns, of thresholds that follow the mass."""
    return {
        tail: following_sculpting(
            scores, mass, _percentiles(options), tail=tail, ends=ends, bins=options.bins, seed=options.seed,
            weight=weight, options=options.for_hunt(statistic="poisson", null="shuffled"),
        )
        for tail in TAILS[options.tails or "upper"]
    }  # fmt: skip
