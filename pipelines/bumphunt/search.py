"""The search: score events, select the most anomalous, hunt a bump in their mass, and keep all that was done.

    >>> import pipelines
    >>> events = pipelines.open("lhco_sim_test")
    >>> class Mass:  # any object with `score` is a model: here, how heavy the two jets are
    ...     def score(self, events):
    ...         return events.read("features", ["mass_1", "mass_2"]).sum(axis=1)
    >>> found = pipelines.search(Mass(), events, percentiles=90, mass_range=(2700, 5000), widths=(2, 4), toys=200)
    >>> found.hunt.best.selected_events
    466

What is hunted in what is in `pipelines.bumphunt.bump_hunt`; this module brings events, models and truth to it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from scipy.stats import rankdata

from pipelines import provenance
from pipelines.bumphunt.bump_hunt import BINS, PSEUDO_EXPERIMENTS, Bump, Hunt, check_options, hunt
from pipelines.bumphunt.selection import TAILS, check_events, equal_edges, percentiles_of, ranges_of
from pipelines.bumphunt.spectra import RELATIVE_ERROR, WIDTHS, bin_of
from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.metrics import PERCENTILES, sculpting
from pipelines.outputs import new_directory, new_disk, write_json

SHORT = {"m_jj": "mj1j2", "m_jjj": "mj1j2j3"}  # the usual names of the masses of two and of three jets


class Model(Protocol):
    """What can be searched with: anything that scores events, higher is more anomalous.

    If it has `loaded_from`, a mapping as `zoo.run.origin` gives, that goes into the configuration as `run`: so a search
    knows whether labels chose the model's hyperparameters.
    """

    def score(self, events: Events) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class Search:
    """What a search did and found.

    Attributes:
        hunt: a `Bump` for every selection, and the global p-value of all together.
        events: the N events hunted, those within the range of one spectrum at least, in the order of their file.
        rows: (N,), which of the events given they are.
        scores: (N,) float64, higher is more anomalous; with folds, ranks in (0, 1) within the fold.
        score_std: (N,), standard deviation over the members of the model; None of a single one, and with folds.
        fold: (N,), which model has scored an event, one that was trained on the other folds; None without folds.
        masses: by spectrum, (N,) in GeV. ranges: by spectrum, its ends in GeV.
        weight: (N,), or None if all events count alike.
        sculpting: by spectrum, tail and percentile: Jensen-Shannon `distance` between the spectra of all and of
            selected events, its statistical `floor` and `floor_std`, and the number of `events` selected. Weights do
            not count here.
        truth: per bump, what labels say of it (see `judged`); None if there are none, or they were to be ignored.
        configuration: model, options, seed, versions, data with checksum, command.
    """

    hunt: Hunt
    events: Events
    rows: np.ndarray
    scores: np.ndarray
    score_std: np.ndarray | None
    fold: np.ndarray | None
    masses: Mapping[str, np.ndarray]
    ranges: Mapping[str, tuple[float, float]]
    weight: np.ndarray | None
    sculpting: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
    truth: Sequence[Mapping[str, object]] | None
    configuration: Mapping[str, object]

    def selected(self, bump: Bump) -> np.ndarray:
        """Return which events the cut of a bump selects within the range of its spectrum, (N,) bool."""
        beyond = self.scores > bump.threshold if bump.tail == "upper" else self.scores < bump.threshold
        return beyond & self._within(bump, *self.ranges[bump.spectrum])

    def in_interval(self, bump: Bump) -> np.ndarray:
        """Return which events, selected or not, are in the interval of a bump, (N,) bool; none if it has none."""
        return self._within(bump, *bump.interval) if bump.interval else np.zeros(len(self.scores), bool)

    def _within(self, bump: Bump, low: float, high: float) -> np.ndarray:
        mass = self.masses[bump.spectrum]
        # as in a histogram, only the last bin has its upper edge
        return (mass >= low) & ((mass <= high) if high == bump.edges[-1] else (mass < high))

    def to_dict(self) -> dict[str, object]:
        """Return all numbers but those of single events and pseudo-experiments, ready for JSON."""
        return {
            **self.summary(),
            "hunt": self.hunt.to_dict(),
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
            "sculpting": self.sculpting,
            "truth": self.truth,
            "configuration": self.configuration,
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON text; NaN and infinities do not occur."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def summary(self) -> dict[str, object]:
        """Return the result in short: the best bump, the p-value with all trials, and each selection's numbers.

        `truth_used` says whether labels chose the model's hyperparameters (see `truth_in_tuning`).
        """
        names = ("spectrum", "percentile", "tail", "threshold", "selected_events", "local_p_value", "local_significance",
                 "fisher_p_value", "fisher_significance", "global_p_value", "global_p_value_is_bound",
                 "global_significance", "interval", "mass_estimate", "signal_estimate")  # fmt: skip
        each = [{name: getattr(bump, name) for name in names} for bump in self.hunt.bumps]
        best = each[self.hunt.bumps.index(self.hunt.best)]
        overall = ("global_p_value", "global_p_value_is_bound", "global_significance", "trials_factor")
        more = ("pseudo_experiments", "events")
        truth_used = truth_in_tuning(self.configuration) is not None
        return {
            **{name: best[name] for name in names if name not in overall},
            **{name: getattr(self.hunt, name) for name in (*overall, *more)},
            "truth_used": truth_used,
            "selections": each,
        }


def search(
    model: Model | Callable[[int, Events], Model],
    events: Events,
    *,
    percentiles: float | Sequence[float] = (99.0,),
    tails: str | None = None,
    toys: int = PSEUDO_EXPERIMENTS,
    spectra: str | Sequence[str] = ("mass",),
    mass_range: tuple[float, float] | Mapping[str, tuple[float, float]] | None = None,
    within: tuple[float, float] | None = None,
    bins: int = BINS,
    relative_error: float | None = RELATIVE_ERROR,
    widths: tuple[int, int] = WIDTHS,
    side_band: int = 0,
    deficit: bool = False,
    statistic: str = "poisson",
    null: str = "shuffled",
    score_kind: str | None = None,
    folds: int | None = None,
    ignore_labels: bool = False,
    ignore_weights: bool = False,
    seed: int = 0,
    about: Mapping[str, object] | None = None,
) -> Search:
    """Score events with a model and hunt a bump in the mass of those it finds most anomalous.

    Args:
        model: any object whose `score(events)` is (N,), higher more anomalous, of whatever it was trained on. With
            `folds`, a function of a fold's number and of events to train on, without labels, that returns such a model;
            it is called when all options have been checked, and that every selection leaves enough to hunt in.
        events: the data. Only those within the range of one spectrum at least are scored; labels, if there are some,
            only judge what was found.
        percentiles, bins, relative_error, widths, side_band, deficit, statistic, null: as for
            `pipelines.bumphunt.bump_hunt.hunt`. toys: its number of pseudo-experiments.
        tails: "upper", "lower" or "both"; by default both for a score that the model says has no direction (its
            `undirected` kinds), else the upper.
        spectra: "mass", that of the events file; or a feature in GeV, such as "mj1j2j3" (short "m_jjj").
        mass_range: GeV, of all spectra or by name; by default all masses.
        within: GeV, only events of this mass, that of the file, are searched: the range of the model's training. It is
            the range of that spectrum as well, where `mass_range` names no other.
        score_kind: of a model that has several; its default otherwise.
        folds: K > 1: events are divided at random into K parts, and each part is scored by a model that was trained on
            the others. Scores of different models are not comparable: each is replaced by its rank within its part,
            (r - 1/2) / n, so a percentile selects the same share of every part. 1: one model, trained on the very
            events that it scores, for which the global p-value is not guaranteed (see `pipelines.bumphunt.bump_hunt`).
        ignore_labels, ignore_weights: as if the file had none.
        seed: of the folds and the pseudo-experiments; NumPy's global state is not touched.
        about: goes into the configuration, over what is there by itself.

    Raises:
        InputError: as `hunt`, before anything is scored or trained but for what scores alone tell; an unknown spectrum
            or score kind; scores that are not finite; too few events for the folds.

    Example:
        See the top of this module.
    """
    percentiles, spectra = percentiles_of(percentiles), [spectra] if isinstance(spectra, str) else spectra
    tails = tails or natural_tails(model, score_kind)
    check_options(bins, relative_error, widths, side_band, toys, seed, tails, null, statistic)
    _check_kind(model, score_kind)
    events = events.without_labels() if ignore_labels and events.has_labels else events
    rows, masses, ranges, edges = _hunted(events, spectra, mass_range, within, bins)
    events = events if len(rows) == len(events) else events.take(rows)
    weight = None if ignore_weights or not events.has("weight") else events.weight
    options = {
        "percentiles": list(percentiles), "tails": tails, "bins": bins, "relative_error": relative_error,
        "widths": tuple(widths), "side_band": side_band, "deficit": deficit, "statistic": statistic, "null": null,
    }  # fmt: skip
    check_events(masses, edges, weight, percentiles, tails, relative_error, options)
    fold = fold_of(len(events), folds, seed) if folds is not None and folds != 1 else None
    if fold is not None:
        scores, spread = scores_by_fold(model, events, fold, score_kind), None
    else:
        scores, spread = scores_of(_trained(model, 0, events) if folds else model, events, score_kind)
    found = hunt(scores, masses, weight, mass_range=ranges, pseudo_experiments=toys, seed=seed, **options)
    shaped = {name: _sculpting(scores, masses[name], ranges[name], tails, percentiles, bins, seed) for name in masses}
    configuration = {
        "model": _name(model),
        "score_kind": score_kind or next(iter(getattr(model, "score_kinds", ())), None),
        "options": {**options, "widths": list(widths), "toys": toys, "spectra": list(spectra), "folds": folds,
                    "within": None if within is None else list(within), "ignore_labels": ignore_labels,
                    "ignore_weights": ignore_weights},
        "ranges": {name: list(ends) for name, ends in ranges.items()},
        "seed": seed,
        "data": provenance.data(events),
        "versions": provenance.versions(),
        "command": provenance.command(),
        **({"run": dict(loaded)} if (loaded := getattr(model, "loaded_from", None)) else {}),
        **(about or {}),
    }  # fmt: skip
    result = Search(found, events, rows, scores, spread, fold, masses, ranges, weight, shaped, None, configuration)
    if not events.has_labels:
        return result
    return dataclasses.replace(result, truth=[judged(result, bump) for bump in found.bumps])


# -- spectra ----------------------------------------------------------------------------------------


def masses_of(events: Events, spectra: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the masses (N,) in GeV of every spectrum asked for; raises `InputError` for an unknown one.

    >>> import pipelines
    >>> list(masses_of(pipelines.open("lhco_sim_test"), ["mass"]))
    ['mass']
    """
    if not spectra or len(set(spectra)) < len(spectra):
        raise InputError(f"spectra {', '.join(spectra) or 'none'}, expected one at least, and none twice")
    return {name: _mass_of(events, name) for name in spectra}


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


def _hunted(events: Events, spectra: Sequence[str], mass_range, within, bins: int):
    """Return which events to search, and by spectrum their masses, its range, and its edges before merging."""
    masses, rows = masses_of(events, spectra), np.arange(len(events))
    if not len(rows):
        raise InputError(f"{events.name}: there are no events")
    if within is not None:
        ends = ranges_of({"mass": events.mass}, within)["mass"]
        rows = np.flatnonzero(bin_of(events.mass, equal_edges("mass", events.mass, ends, 1)) < 1)
        masses = {name: mass[rows] for name, mass in masses.items()}
        named = mass_range if isinstance(mass_range, Mapping) else dict.fromkeys(masses, mass_range)
        mass_range = {name: ends for name in masses if is_the_mass(events, name)}
        mass_range |= {name: given for name, given in named.items() if given is not None}
    ranges = ranges_of(masses, mass_range)
    edges = {name: equal_edges(name, mass, ranges[name], bins) for name, mass in masses.items()}
    inside = np.any([bin_of(mass, edges[name]) < bins for name, mass in masses.items()], axis=0)
    return rows[inside], {name: mass[inside] for name, mass in masses.items()}, ranges, edges


# -- scores -----------------------------------------------------------------------------------------


def scores_of(model: Model, events: Events, kind: str | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return scores (N,), and their standard deviation over the members of a model that has several.

    Raises `InputError` if the model cannot score, or a score is not finite.
    """
    if not callable(getattr(model, "score", None)):
        raise InputError(f"model {type(model).__name__} has no score(events); with folds, give a function that trains")
    options = {} if kind is None else {"kind": kind}
    if getattr(model, "members", 1) > 1:
        each = np.asarray(model.score(events, per_member=True, **options), np.float64)
        scores, spread = each.mean(axis=0), each.std(axis=0)
    else:
        scores, spread = np.asarray(model.score(events, **options), np.float64), None
    if scores.shape != (len(events),):
        raise InputError(f"model gives scores of shape {scores.shape}, expected ({len(events)},), one an event")
    if bad := np.count_nonzero(~np.isfinite(scores)):
        raise InputError(
            f"{bad} of {len(scores)} scores are NaN or infinite; has the training diverged? train with a lower learning_rate"
        )
    return scores, spread


def fold_of(events: int, folds: int, seed: int = 0) -> np.ndarray:
    """Return the fold of every event (N,), drawn at random, sizes as equal as can be.

    >>> np.bincount(fold_of(10, 3)).tolist()
    [4, 3, 3]
    """
    if not isinstance(folds, (int, np.integer)) or not 2 <= folds <= events:
        raise InputError(f"folds {folds} of {events} events, expected at least 2, and an event in each")
    return np.random.default_rng([seed, 1]).permutation(np.arange(events) % folds)


def scores_by_fold(train: Callable[[int, Events], Model], events: Events, fold: np.ndarray, kind=None) -> np.ndarray:
    """Return the rank (r - 1/2) / n of every event within its fold, scored by a model trained on the other folds.

    Equal scores share the mean of their ranks. Training sees no labels. If `train` has a `beforehand`, it is first given
    what all folds train on, by their numbers: it may train several at once.
    """
    ranks, numbers = np.empty(len(events)), range(int(fold.max()) + 1)
    if hasattr(train, "beforehand"):
        train.beforehand({k: events.take(fold != k).without_labels() for k in numbers})
    for k in numbers:
        mine = fold == k
        scores, _ = scores_of(_trained(train, k, events.take(~mine)), events.take(mine), kind)
        ranks[mine] = (rankdata(scores) - 0.5) / len(scores)
    return ranks


def _trained(train: Callable[[int, Events], Model], fold: int, events: Events) -> Model:
    is_model = not isinstance(train, type) and callable(getattr(train, "score", None))
    if is_model or not callable(train):  # a Keras model is both
        raise InputError("folds need a function (fold, events) that returns a trained model, not a trained model")
    return train(fold, events.without_labels())


def natural_tails(model: Model | type | Callable, kind: str | None = None) -> str:
    """Return which tails of a score to look at: "both" of a kind that the model calls undirected, else "upper".

    >>> class Latent:
    ...     score_kinds, undirected = ("kl", "error"), ("kl",)
    >>> natural_tails(Latent), natural_tails(Latent, "error"), natural_tails(object())
    ('both', 'upper', 'upper')
    """
    kind = kind or next(iter(getattr(model, "score_kinds", ())), None)
    return "both" if kind in getattr(model, "undirected", ()) else "upper"


def _check_kind(model: Model | Callable, kind: str | None) -> None:
    """Raise `InputError` for a score kind that a model, or what trains it, says that it does not have."""
    kinds = getattr(model, "score_kinds", ())
    if kind is not None and kinds and kind not in kinds:
        raise InputError(f"score kind {kind!r} is not known; {_name(model)} has {', '.join(kinds)}")


def _name(model: Model | Callable) -> str:
    return getattr(model, "zoo_name", getattr(model, "__name__", type(model).__name__))


# -- what it says of itself -------------------------------------------------------------------------


def _sculpting(scores, mass, ends, tails: str, percentiles, bins: int, seed: int) -> dict:
    """Sculpting of one spectrum within its range, by tail and percentile: those asked for, and the usual ones."""
    within = (mass >= ends[0]) & (mass <= ends[1])
    scores, mass = scores[within], mass[within]
    found = {}
    for tail in TAILS[tails]:
        signed = scores if tail == "upper" else -scores
        possible = [
            p for p in sorted({*PERCENTILES, *map(float, percentiles)}) if (signed > np.percentile(signed, p)).any()
        ]
        found[tail] = sculpting(signed, mass, possible, bins, seed)
    return found


def judged(search: Search, bump: Bump) -> dict[str, object]:
    """Say with truth what a bump is: uses labels, 0 for background, k > 0 for signal k.

    Returns a dict ready for JSON: `background`, the numbers before, selected, and selected in the interval; and for
    each signal, by its label: the same numbers, its `name`, `efficiency` of the cut, `s_over_b` before, selected and in
    the interval, `gain` = S/B selected over before, `gain_interval`, `mass`, the median of the signal's masses, and
    `mass_bias` = mass estimate minus that, GeV. What cannot be told is None. Weighted events count by weight.
    """
    label, names = search.events.label, search.events.about.label_names
    mass, weight = search.masses[bump.spectrum], np.ones(len(label)) if search.weight is None else search.weight
    before = search._within(bump, *search.ranges[bump.spectrum])
    selected = search.selected(bump)
    steps = {"before": before, "selected": selected, "interval": selected & search.in_interval(bump)}

    def numbers(wanted) -> dict[str, float]:
        return {name: float(weight[kept & wanted].sum()) for name, kept in steps.items()}

    background = numbers(label == 0)
    signals = {}
    for k in np.unique(label[label > 0]).tolist():
        one = numbers(label == k)
        ratio = {name: _over(one[name], background[name]) for name in steps}
        at = float(np.median(mass[before & (label == k)])) if one["before"] else None
        found_at = bump.mass_estimate
        signals[str(k)] = {
            "name": names.get(k, f"signal {k}"),
            **one,
            "efficiency": _over(one["selected"], one["before"]),
            "s_over_b": ratio,
            "gain": _over(ratio["selected"], ratio["before"]),
            "gain_interval": _over(ratio["interval"], ratio["before"]),
            "mass": at,
            "mass_bias": None if at is None or found_at is None else found_at - at,
        }
    return {"background": background, "signals": signals}


def _over(a: float | None, b: float | None) -> float | None:
    return None if a is None or not b else a / b


# -- on disk ----------------------------------------------------------------------------------------


def write(search: Search, out: str | os.PathLike, runs: Path | None = None) -> Path:
    """Write a search to a new folder, whole or not at all.

    search.json   every number but those of single events; what was done
    scores.h5     score, row and masses of every event hunted, and its fold
    spectra.h5    a group for every selection: spectra, tomography, test statistics of all pseudo-experiments
    runs/         what was trained for it, copied from the folder `runs`
    report.html   all of it to read, with figures

    Raises `InputError` if `out` exists or cannot be written.
    """
    from pipelines.report import write_report

    with new_directory(out) as part:
        write_json(part / "search.json", search.to_dict())
        _write_scores(search, part / "scores.h5")
        _write_spectra(search, part / "spectra.h5")
        if runs is not None:
            shutil.copytree(runs, part / "runs")
        write_report(part, search)
    return Path(out)


def _write_scores(search: Search, path: Path) -> None:
    import h5py

    with new_disk(path) as disk, h5py.File(disk, "w") as file:
        file["score"], file["row"] = search.scores, search.rows
        for name, values in {"score_std": search.score_std, "fold": search.fold, "weight": search.weight}.items():
            if values is not None:
                file[name] = values
        for name, mass in search.masses.items():
            file[f"masses/{name}"] = mass
        file.attrs["model"] = str(search.configuration["model"])


def _write_spectra(search: Search, path: Path) -> None:
    import h5py

    arrays = ("edges", "before", "observed", "reference", "tomography", "toys")
    with new_disk(path) as disk, h5py.File(disk, "w", track_order=True) as file:
        for bump in search.hunt.bumps:
            group = file.create_group(f"{bump.spectrum} {bump.percentile:g} {bump.tail}")
            for name in arrays:
                group[name] = np.asarray(getattr(bump, name))
            group.attrs["columns of tomography"] = "low GeV, high GeV, p-value"
            for name in ("spectrum", "percentile", "tail", "threshold", "test_statistic", "normalisation"):
                group.attrs[name] = getattr(bump, name)


# -- in words ---------------------------------------------------------------------------------------


def truth_in_tuning(configuration: Mapping[str, object]) -> str | None:
    """Return what to say where labels chose the hyperparameters of the run that a search used; None if they did not.

    `configuration["run"]["tuning"]` is what `tune` wrote into the run's config.json.

    >>> truth_in_tuning({"run": {"tuning": {"truth_used": True, "objective": "auc:two-prong"}}})
    "TRUTH USED: labels chose this model's hyperparameters (tune --objective auc:two-prong)"
    """
    tuning = (configuration.get("run") or {}).get("tuning") or {}
    if not tuning.get("truth_used"):
        return None
    given = [tuning.get(name) for name in ("objective", "search")]  # of `best` the first is the number it reached
    objective = next((f" (tune --objective {text})" for text in given if isinstance(text, str)), "")
    return f"TRUTH USED: labels chose this model's hyperparameters{objective}"


def z_text(z: float | None, bound: bool = False) -> str:
    """Return a significance as text; a lower bound is rounded down, and Fisher's of weighted events is none.

    >>> z_text(2.93), z_text(4.06, bound=True), z_text(None)
    ('2.9', '> 4.0', '-')
    """
    if z is None:
        return "-"
    return f"> {math.floor(z * 10) / 10:.1f}" if bound else f"{z:.1f}"
