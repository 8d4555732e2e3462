"""The figures of a trained run: what its model learnt, and what it makes of events."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import plots
from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.outputs import check_new, new_directory
from zoo import run as runs
from zoo import weights
from zoo.opened_run import mass_range_of, open_each

log = logging.getLogger(__name__)

MOST = 100_000  # events of a class that are drawn, at most
ERRORS = ("reconstruction", "distance", "mse", "chamfer")  # score kinds that are reconstruction errors


def draw(
    run: str | Path,
    out: str | Path,
    events: Events | None = None,
    kind: str | None = None,
    seed: int = 0,
    samples: Mapping[str, Events] | None = None,
) -> list[str]:
    """Draw every figure that a run's model has into a new folder, each with the numbers behind it.

    Of the training: `history` (terms of the loss per epoch), `peak` (the watched quantity, with each member's best epoch).
    With events also: `errors` (reconstruction errors, log-log, with ratios; weighted if the events are), `observables`
    (input and reconstructed, with median pulls; of several members the first, since their mean is no event),
    `observables_with_mass` (the same by a second decoder that takes the mass), `roc` (of `kind`, if there are labels; both
    directions, if the method gives it none), `scan` (the latent space against the mass). All but `errors` count events
    alike, as the evaluation does; of weighted events the figure and the numbers mark it. Of each class at most 100,000
    events are drawn, chosen by `seed`. A figure that these events do not allow is left out, with a warning that says why.

    Classes are those of the labels of `events`, which without labels are all "data", drawn as points; and `samples`, by name,
    whose labels are not looked at. Ratios are to the background, if there is one.

    Returns the names of the files. Raises `InputError` if `run` is none or damaged, for an unknown `kind`, for events
    without its columns, for a sample that is called as another class, or if `out` exists.
    """
    run, model = Path(run), runs.load(run)
    given = [*([] if events is None else [events]), *(samples or {}).values()]
    if given:
        model.require("events", run)
    if kind is not None and kind not in model.score_kinds:
        raise InputError(f"score kind {kind!r} is not known; {type(model).__name__} has {', '.join(model.score_kinds)}")
    for one in given:
        next(model.inputs.blocks(one.take(np.arange(min(1, len(one))))))  # has it what the model takes?
    classes = _classes(events, samples or {}, seed)
    with new_directory(out) as part:
        _draw_training(weights.find(run), model, part)
        if classes:
            for name in model.figures:
                try:
                    OF_EVENTS[name](model, classes, part, kind)
                except InputError as error:
                    log.warning("%s: no figure %r: %s", given[0].name, name, error)
        return sorted(path.name for path in part.iterdir())


def plot(
    run: str | os.PathLike,
    out: str | os.PathLike,
    events: Any = None,
    *,
    samples: Mapping[str, Any] | None = None,
    kind: str | None = None,
    mass_range: tuple[float, float] | None = None,
    seed: int = 0,
    conversion: Mapping[str, Any] | None = None,
) -> list[str]:
    """Draw the figures of a run directory into a new folder: its training, and its results for events (see `draw`).

    Args:
        run: a run directory. out: the new folder.
        events: what `pipelines.open` takes, or None. samples: the same by the name of its class, whatever its labels.
        kind: score kind of the ROC curve; the model's default otherwise.
        mass_range: GeV; by default that of the events of the run's training.
        seed: chooses the events that are drawn where there are many.
        conversion: options of `zoo data convert` for data that need it, where the training's do not do.

    Returns the names of the files. Raises `InputError` as `draw` and `pipelines.open`.

    Example:
        `zoo.plot("run", "figures", "labelled.h5", samples={"background": "mc.h5"})`
    """
    check_new(out)
    within = mass_range or mass_range_of(run)
    given: dict[Any, Any] = {**({} if events is None else {None: events}), **(samples or {})}
    named = dict(zip(given, open_each(run, list(given.values()), within, **(conversion or {}))))
    return draw(Path(run), Path(out), named.pop(None, None), kind, seed, samples=named)


def _draw_training(run: Path, model, part: Path) -> None:
    rows, members = _table(run / "history.csv"), _table(run / "members.csv")
    each = _by_phase(run / "members.csv", members, model.members)
    plots.plot_history(rows, part / "history.png", members=each or None)
    for phase, best in model.best_epochs().items():
        if best["best"] != "max" or all(epoch is None for epoch in best["epoch"]):  # weights alone do not know it
            continue
        alone = [row.get(best["quantity"], np.nan) for row in rows if row["phase"] == phase]
        values = each.get(phase, {}).get(best["quantity"]) if model.members > 1 else np.array(alone)
        if values is None or not len(values):
            continue
        values = np.reshape(values, (len(values), -1))
        seen = np.isfinite(values).any(axis=0)  # others diverged at once
        if seen.any():
            epochs = [epoch for epoch, one in zip(best["epoch"], seen) if one]
            plots.plot_peak(values[:, seen], part / "peak.png", best=epochs, label=best["quantity"])


def _table(path: Path) -> list[dict[str, object]]:
    if not path.is_file():
        return []
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        return [{k: v if k == "phase" else float(v) for k, v in row.items() if v not in ("", None)} for row in rows]
    except (TypeError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: damaged ({error}), expected a table of numbers; train again") from None


def _by_phase(path: Path, rows, members: int) -> dict[str, dict[str, np.ndarray]]:
    """Phase -> term -> (epochs, K)."""
    found = {}
    for phase in dict.fromkeys(row.get("phase") for row in rows):
        its = [row for row in rows if row.get("phase") == phase]
        if len(its) % members:
            raise InputError(f"{path}: damaged ({len(its)} rows of {phase} for {members} members); train again")
        terms = dict.fromkeys(term for row in its for term in row if term not in ("phase", "epoch", "member"))
        found[phase] = {t: np.reshape([row.get(t, np.nan) for row in its], (-1, members)) for t in terms}
    return found


def _classes(events: Events | None, samples: Mapping[str, Events], seed: int) -> dict[str, Events]:
    """The events of each class by its name, background first, which is the reference; unlabelled events are one class."""
    if events is None:
        parts = {}
    elif not events.has_labels:
        parts = {"data": events}
    else:
        labels = sorted(set(events.label.tolist()))
        names = {k: events.about.label_names.get(k, f"signal {k}") if k else "background" for k in labels}
        if len(set(names.values())) < len(names):
            names = {k: f"{name} ({k})" if k else name for k, name in names.items()}
        parts = {names[k]: events.select(label=k) for k in labels}
    for name, sample in samples.items():
        if name in parts:
            where = "the data" if events is None else events.name
            raise InputError(f"sample {name!r} ({sample.name}): {where} has a class of that name; choose another")
        parts[name] = sample
    parts = {name: parts[name] for name in sorted(parts, key=lambda name: name != "background")}
    return {name: part.sample(min(len(part), MOST), seed=seed) for name, part in parts.items()}


def _signals(classes: Mapping[str, Events]) -> list[str]:
    """The classes that are neither background nor data, of which nobody knows what they are."""
    return [name for name in classes if name not in ("background", "data")]


def _draw_errors(model, classes: Mapping[str, Events], part: Path, kind: str | None) -> None:
    errors = next((one for one in ERRORS if one in model.score_kinds), None)
    if errors:
        samples = {name: model.score(events, errors) for name, events in classes.items()}
        weights = {name: events.weight for name, events in classes.items() if events.has("weight")}
        plots.plot_errors(samples, part / "errors.png", weights=weights, xlabel=errors, normalise=True)


def _draw_observables(model, classes: Mapping[str, Events], part: Path, kind: str | None) -> None:
    original = np.concatenate([events.read("features", model.resolved_columns) for events in classes.values()])
    label_of = np.repeat(np.arange(len(classes)), [len(events) for events in classes.values()])
    ways = {"observables": lambda events: model.results(events, ["reconstructed"])["reconstructed"]}
    if _decodes_mass(model):
        ways["observables_with_mass"] = model.regenerate
    for name, way in ways.items():
        made = [way(events) for events in classes.values()]
        first = np.concatenate([one[0] if model.member_shape else one for one in made])
        path, names = part / f"{name}.png", dict(enumerate(classes))
        plots.plot_observables(
            original, first, model.resolved_columns, label_of, path, names=names, unweighted=_weighted(classes)
        )


def _draw_roc(model, classes: Mapping[str, Events], part: Path, kind: str | None) -> None:
    """Draw ROC curves, if there is a background and a signal."""
    if "background" not in classes or not _signals(classes):
        return
    kind = kind or model.score_kinds[0]
    judged = {name: classes[name] for name in ("background", *_signals(classes))}
    scores = {name: model.score(events, kind, per_member=bool(model.member_shape)) for name, events in judged.items()}
    background = scores.pop("background")
    both = kind in model.undirected
    plots.plot_roc(background, scores, part / "roc.png", both=both, unweighted=_weighted(judged))


def _draw_scan(model, classes: Mapping[str, Events], part: Path, kind: str | None) -> None:
    """Draw the latent space against the mass, of a model whose decoder takes the mass and one latent number."""
    if not _decodes_mass(model) or model.hp.latent_dim != 1:
        return
    signals = _signals(classes)
    scan = model.scan(next(iter(classes.values())))
    latent = {name: model.results(events, ["latent"])["latent"] for name, events in classes.items()}
    regions = {n: ((z[0] if model.member_shape else z)[:, 0], classes[n].mass) for n, z in latent.items()}
    truth = None
    if signals and len(classes) > 1:
        x = classes[signals[0]].read("features", model.resolved_columns)
        stats = zip(x.mean(0), x.std(0), np.median(x, axis=0))
        truth = dict(zip(model.resolved_columns, (tuple(map(float, one)) for one in stats)))
    plots.plot_scan(
        scan["z"], scan["mass"], scan["observables"], part / "scan.png", regions=regions, truth=truth,
        unweighted=_weighted(classes),
    )  # fmt: skip


def _weighted(classes: Mapping[str, Events]) -> bool:
    """Whether it matters that a figure counts all events alike."""
    return any(events.has("weight") and np.ptp(events.weight) > 0 for events in classes.values())


def _decodes_mass(model) -> bool:
    return hasattr(model, "regenerate") and model.hp.decoder_epochs > 0


OF_EVENTS: dict[str, Callable[..., None]] = {  # by the names that a model has them under in `figures`
    "errors": _draw_errors,
    "observables": _draw_observables,
    "roc": _draw_roc,
    "scan": _draw_scan,
}
