"""Scores of a trained run, and what they are worth: `zoo.score` and `zoo.evaluate`."""

from __future__ import annotations

import csv
import dataclasses
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import metrics
from pipelines.bumphunt.following_sculpting import following_sculpting
from pipelines.bumphunt.scores import are_few_bad, bad_scores
from pipelines.errors import InputError
from pipelines.events.events import Events
from zoo import registry
from zoo import run as runs
from zoo.opened_run import about_run, mass_range_of, open_for, trained_model
from zoo.printed import Printed, as_html

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Scores:
    """Anomaly scores of events by a trained model, higher is more anomalous.

    Attributes:
        per_member: (K, N), of each member. mass: (N,) GeV.
        model: its name. kind: of the score. run, data: where the model and the events are from.
    """

    per_member: np.ndarray
    mass: np.ndarray
    model: str
    kind: str
    run: str
    data: str

    @property
    def mean(self) -> np.ndarray:
        """The score of every event (N,): the mean over the members."""
        return self.per_member.mean(axis=0)

    @property
    def std(self) -> np.ndarray:
        """The standard deviation over the members (N,); zero of a single one."""
        return self.per_member.std(axis=0)

    @property
    def not_finite(self) -> np.ndarray:
        """Which events (N,) have a score that is NaN or infinite."""
        return ~np.isfinite(self.per_member).all(axis=0)

    def warning(self) -> str | None:
        """Say which rows have no finite score; None if all have one."""
        if not self.not_finite.any():
            return None
        return f"{self.data}: {bad_scores(np.where(self.not_finite, np.nan, 0.0))}"

    def write(self, path: str | os.PathLike) -> None:
        """Write `score` and `mass` (N,), and `score_std` of several members: a CSV where the name ends so, else HDF5 with attributes.

        Raises `InputError` if it exists or cannot be written.
        """
        from pipelines.checksums import create, store
        from pipelines.outputs import new_disk, new_file

        columns = {"score": self.mean, "mass": self.mass}
        columns |= {"score_std": self.std} if len(self.per_member) > 1 else {}
        if Path(path).suffix == ".csv":
            with new_file(path) as part, open(part, "w", newline="") as text:
                table = csv.writer(text)
                table.writerow(columns)
                table.writerows(zip(*(map(float, column) for column in columns.values())))
            return
        with new_disk(path) as disk, create(disk) as file:
            for name, column in columns.items():
                store(file, name, column)
            file.attrs.update(model=self.model, run=self.run, data=self.data, kind=self.kind)

    def __len__(self) -> int:
        return len(self.mass)

    def __str__(self) -> str:
        finite = self.mean[~self.not_finite]
        return (
            f"{len(self)} scores, median {np.median(finite):.4g}" if len(finite) else f"{len(self)} scores, none finite"
        )

    def _repr_html_(self) -> str:
        return as_html(str(self))


def score(run, events, kind: str | None = None, *, mass_range=None, **conversion: Any) -> Scores:
    """Score events with a trained run: higher is more anomalous.

    Args:
        run: a run directory, or a trained model.
        events: what `pipelines.open` takes. Files that have to be converted are so as those of the run's training, with
            its columns and its mass, unless `conversion` says otherwise, as `mass="mjj"`.
        kind: one of the model's `score_kinds`; its default otherwise.
        mass_range: score only events with low <= mass < high, GeV.

    Raises:
        InputError: as `zoo.load` and `pipelines.open`; for an unknown kind; if no event has a finite score, or none by one
            of the members: its training diverged. Single scores that are not finite stay as they are, see `Scores.warning`.

    Example:
        `zoo.score("run", "events.h5").write("scores.h5")`
    """
    model = trained_model(run)
    return _scored(model, open_for(run, events, mass_range, **conversion), kind, run)


def _scored(model, events: Events, kind: str | None, run) -> Scores:
    log.info("scoring %d events of %s by %s", len(events), events.name, model.zoo_name)
    each = np.asarray(model.score(events, kind, per_member=True))
    _refuse_diverged(each, model, run)
    where = str(run) if isinstance(run, (str, os.PathLike)) else str(about_run(run).get("folder", "in memory"))
    return Scores(each, events.mass, model.zoo_name, kind or model.score_kinds[0], where, events.name)


def _refuse_diverged(each: np.ndarray, model, run) -> None:
    """Raise `InputError` if most scores of a member, or of all members, are not finite: the training diverged."""
    finite = np.isfinite(each)
    dead = np.flatnonzero(2 * finite.sum(axis=1) <= each.shape[1])
    together = np.where(finite.all(axis=0), 0.0, np.nan)
    if not len(dead) and (are_few_bad(together) or not each.shape[1]):
        return
    bad = int(np.sum(~finite.all(axis=0)))
    whose = f" (of members {', '.join(map(str, dead))})" if len(each) > 1 and len(dead) else ""
    where = f"{run}: " if isinstance(run, (str, os.PathLike)) else ""
    raise InputError(
        f"{where}{bad} of {each.shape[1]} scores are NaN or infinite{whose}; see history.csv of the run whether its training "
        f"diverged, and train with a lower learning_rate"
    )


class Evaluation(Printed):
    """What a run's scores are worth by truth, as numbers by name; `print` shows them in words.

    `scores` are those that were judged, `events` their events.
    """

    scores: Scores
    events: Events
    warning: str | None = None  # which events have no finite score, and are left out

    def write_table(self, path: str | os.PathLike, channel: str, name: str | None = None, errors: bool = False) -> None:
        """Write the rows of this run for `zoo leaderboard`; a score without direction is two models, one of each.

        Raises `InputError` if there are no labels, or `path` exists. Events count alike in the leaderboard.
        """
        from pipelines import leaderboard as board

        score, name = self.scores.mean, name or Path(self.scores.run).resolve().name
        tables = [board.judge(score, self.events, model=name, channel=channel)]
        if "minus" in self:
            tables.append(board.judge(-score, self.events, model=f"{name} -{self['kind']}", channel=channel))
        columns = (
            [getattr(one, column) for one in tables] for column in ("signal", "model", "channel", "values", "errors")
        )
        board.write(board.Table(*map(np.concatenate, columns)), path, errors=errors)


def evaluate(
    run, events, kind: str | None = None, *, mass_range=None, ignore_weights: bool = False, seed: int = 0,
    **conversion: Any,
) -> Evaluation:  # fmt: skip
    """Judge a trained run with truth: AUC, signal efficiencies, best S/sqrt(B), sculpting of the mass spectrum.

    Args:
        run, events, kind, conversion: as for `score`.
        mass_range: GeV; by default that of the events of the run's training.
        ignore_weights: count all events alike. Otherwise they count by their weights, also by those below 0.
        seed: of the random selections that sculpting is compared with.

    Returns:
        The numbers of `pipelines.metrics.evaluate`, `sculpting_following`, the sculpting of cuts that follow the mass (see
        `pipelines.bumphunt.following_sculpting`), `kind`, `members`, and with several of these the mean and standard
        deviation (ddof 1) of their AUCs as `auc_members`. Of a score without direction `minus` has the same of its negative.
        Events without a finite score are left out; `left_out` counts them.

    Raises `InputError` as `score` and `pipelines.metrics.evaluate`.

    Example:
        `print(zoo.evaluate("run", "labelled.h5"))`
    """
    model = trained_model(run)
    events = open_for(run, events, mass_range or mass_range_of(run), **conversion)
    scores = _scored(model, events, kind, run)
    bad, each = scores.not_finite, scores.per_member
    judged = events.take(~bad) if bad.any() else events
    each = each[:, ~bad] if bad.any() else each
    numbers = {"kind": scores.kind, "members": len(each), **_judged(each, judged, seed, ignore_weights)}
    if bad.any():
        numbers["left_out"] = int(bad.sum())
    if scores.kind in model.undirected:
        numbers["minus"] = {"kind": f"minus {scores.kind}"} | _judged(-each, judged, seed, ignore_weights)
    found = Evaluation(numbers, _in_words(numbers))
    found.warning = scores.warning()
    found.scores, found.events = dataclasses.replace(scores, per_member=each, mass=judged.mass), judged
    return found


def _judged(each: np.ndarray, events: Events, seed: int, ignore_weights: bool) -> dict[str, object]:
    """What `metrics.evaluate` says of the mean of scores (K, N), and how the members' AUCs spread."""
    score, (weight, _) = each.mean(axis=0), metrics.weights_of(events, ignore_weights)
    found = metrics.evaluate(score, events, seed, ignore_weights)
    judged = events.label == 0 if events.has_labels else np.ones(len(score), bool)
    found["sculpting_following"] = following_sculpting(
        score[judged], events.mass[judged], seed=seed, weight=None if weight is None else weight[judged]
    )
    if len(each) > 1 and found["auc"]:
        found["auc_members"] = _of_members(each, events, ignore_weights)
    return found


def _of_members(each: np.ndarray, events: Events, ignore_weights: bool) -> dict[str, dict[str, float]]:
    """Mean and standard deviation (ddof 1, as over seeds of a benchmark) over members of each signal's AUC."""
    label, (weight, _), found = events.label, metrics.weights_of(events, ignore_weights), {}
    for k in np.unique(label[label > 0]).tolist():
        both = None if weight is None else (weight[label == 0], weight[label == k])
        areas = [metrics.auc(one[label == 0], one[label == k], both) for one in each]
        found[str(k)] = {"mean": float(np.mean(areas)), "std": float(np.std(areas, ddof=1))}
    return found


def duplicates(run, events: Events) -> tuple[int, Sequence[str]]:
    """Return how many of these events the run was trained on, and its files; 0 if the files are gone or changed.

    Also 0 of a model whose folds score only what they have not seen.
    """
    from pipelines.events.overlap import overlap

    model: Any = registry.model_class(runs.read_config(run)["model"]) if isinstance(run, (str, os.PathLike)) else run
    if getattr(model, "scores_unseen", False):
        return 0, ()
    files = (about_run(run).get("data") or {}).get("files", [])
    try:
        return (overlap(open_for(run, files), events) if files else 0), files
    except InputError:  # moved, changed or of another kind since: then nothing can be said
        return 0, files


WEIGHTS = {"used": "Events count by their weights.", "ignored": "The events' weights were ignored.", "none": ""}


def _in_words(found) -> str:
    lines = [f"By {found['kind']}:"] if "minus" in found else []
    lines += _lines(found)
    if "minus" in found:
        said = f"The method gives {found['kind']} no direction: without truth a search looks at both of its tails."
        lines += ["", said, f"By {found['minus']['kind']}:", *_lines(found["minus"])]
    return "\n".join([*lines, *filter(None, [WEIGHTS[found["weights"]]])])


def _lines(found) -> list[str]:
    names = found.get("label_names", {})
    lines = []
    for label, area in found["auc"].items():
        efficiencies = ", ".join(
            f"{e:.3g} at {eps}" if e is not None else f"too few events at {eps}"
            for eps, e in found["signal_efficiency"][label].items()
        )
        members = found.get("auc_members", {}).get(label)
        band = f" (members {members['mean']:.3f} +- {members['std']:.3f})" if members else ""
        lines += [
            f"{names.get(label, label)}: AUC {area:.3f}{band}; signal efficiency {efficiencies} background efficiency"
        ]
        if gain := found["improvement"].get(label):
            lines += [f"    S/sqrt(B) x {gain['improvement']:.2f} +- {gain['error']:.2f}"]
    whose = "the background's mass spectrum" if found["auc"] else "the mass spectrum of all events"
    lines += [
        f"Jensen-Shannon distance of {whose} (what statistics alone makes), of one threshold for all masses, and of"
    ]
    lines += ["one that follows the mass, as `zoo hunt` has it by default:"]
    for percentile, at in found["sculpting"].items():
        after = found["sculpting_following"].get(percentile)
        of = "too few events, ties or weights below 0" if after is None else _distance(after)
        lines += [f"  {percentile:>4}th percentile  {_distance(at)}   {of}"]
    return lines


def _distance(of) -> str:
    return f"{of['distance']:.3f}  ({of['floor']:.3f} +- {of['floor_std']:.3f})"
