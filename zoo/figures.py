"""The figures of a trained run: what its model learnt, and what it makes of events."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipelines import plots
from pipelines.errors import InputError
from pipelines.events import Events
from pipelines.outputs import new_directory
from zoo import run as runs

MOST = 100_000  # events of a class that are drawn, at most
ERRORS = ("reconstruction", "distance", "mse")  # score kinds that are reconstruction errors


def draw(
    run: str | Path, out: str | Path, events: Events | None = None, kind: str | None = None, seed: int = 0
) -> list[str]:
    """Draw every figure that a run's model has into a new folder, each with the numbers behind it.

    Of the training: `history` (terms of the loss per epoch), `peak` (the watched quantity, with each member's best epoch).
    With events also: `errors` (reconstruction errors, log-log, with ratios), `observables` (input and reconstructed, with
    median pulls), `roc` (of `kind`, if there are labels; both directions, if the method gives it none), `scan` (the latent
    space against the mass, if the model has a decoder of both). Of each class at most 100,000 events, drawn by `seed`.

    Returns the names of the files. Raises `InputError` if `run` is none, for events without its columns, or if `out` exists.
    """
    run, model = Path(run), runs.load(run)
    with new_directory(out) as part:
        _draw_training(run, model, part)
        if events is not None:
            classes = _classes(events, seed)
            _draw_events(model, classes, part, kind)
            if (
                hasattr(model, "scan")
                and model.hyperparameter("latent_dim") == 1
                and model.hyperparameter("decoder_epochs")
            ):
                _draw_scan(model, classes, part)
        return sorted(path.name for path in part.iterdir())


def _draw_training(run: Path, model, part: Path) -> None:
    rows, members = _table(run / "history.csv"), _table(run / "members.csv")
    plots.plot_history(rows, part / "history.png", members=_by_phase(members, model.members))
    for phase, best in model.best_epochs().items():
        terms = members or rows
        values = [row.get(best["quantity"], np.nan) for row in terms if row["phase"] == phase]
        if values and best["best"] == "max":
            values = np.array(values, float).reshape(-1, model.members)
            plots.plot_peak(values, part / "peak.png", best=best["epoch"], label=best["quantity"])


def _table(path: Path) -> list[dict[str, object]]:
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v if k == "phase" else float(v) for k, v in row.items() if v not in ("", None)} for row in rows]


def _by_phase(rows, members: int) -> Mapping[str, Mapping[str, np.ndarray]] | None:
    """Phase -> term -> (epochs, K)."""
    if not rows:
        return None
    found = {}
    for phase in dict.fromkeys(row["phase"] for row in rows):
        its = [row for row in rows if row["phase"] == phase]
        terms = dict.fromkeys(term for row in its for term in row if term not in ("phase", "epoch", "member"))
        found[phase] = {t: np.reshape([row.get(t, np.nan) for row in its], (-1, members)) for t in terms}
    return found


def _classes(events: Events, seed: int) -> dict[str, Events]:
    """The events of each class by its name, background first; of unlabelled events one class, the data."""
    if not events.has_labels:
        parts = {"data": events}
    else:
        names = events.about.label_names
        labels = sorted(set(events.label.tolist()))
        parts = {"background" if not k else names.get(k, f"signal {k}"): events.select(label=k) for k in labels}
    return {name: part.sample(min(len(part), MOST), seed=seed) for name, part in parts.items()}


def _draw_events(model, classes: Mapping[str, Events], part: Path, kind: str | None) -> None:
    errors = next((one for one in ERRORS if one in model.score_kinds), None)
    if errors:
        samples = {name: model.score(events, errors) for name, events in classes.items()}
        plots.plot_errors(samples, part / "errors.png", xlabel=errors, normalise=True)
        found = {name: model.results(events, ["reconstructed"])["reconstructed"] for name, events in classes.items()}
        original = [events.read("features", model.resolved_columns) for events in classes.values()]
        made = [one[0] if model.lead else one for one in found.values()]  # of members the first: their mean is no event
        label_of = np.repeat(np.arange(len(classes)), [len(one) for one in original])
        names = dict(enumerate(classes))
        plots.plot_observables(
            np.concatenate(original),
            np.concatenate(made),
            model.resolved_columns,
            label_of,
            part / "observables.png",
            names=names,
        )
    if "background" in classes and len(classes) > 1:
        kind = kind or model.score_kinds[0]
        scores = {name: model.score(events, kind, per_member=bool(model.lead)) for name, events in classes.items()}
        background = scores.pop("background")
        plots.plot_roc(background, scores, part / "roc.png", both=kind in model.undirected)


def _draw_scan(model, classes: Mapping[str, Events], part: Path) -> None:
    first, *signals = classes
    scan = model.scan(classes[first])
    latent = {name: model.results(events, ["latent"])["latent"] for name, events in classes.items()}
    regions = {n: ((z[0] if model.lead else z)[:, 0], classes[n].mass) for n, z in latent.items()}
    truth = None
    if signals:
        x = classes[signals[0]].read("features", model.resolved_columns)
        stats = zip(x.mean(0), x.std(0), np.median(x, axis=0))
        truth = dict(zip(model.resolved_columns, (tuple(map(float, one)) for one in stats)))
    plots.plot_scan(scan["z"], scan["mass"], scan["observables"], part / "scan.png", regions=regions, truth=truth)


def check_drawable(model, kind: str | None) -> None:
    """Raise `InputError` for a score kind that the model does not have, before anything is drawn."""
    if kind is not None and kind not in model.score_kinds:
        raise InputError(f"score kind {kind!r} is not known; {type(model).__name__} has {', '.join(model.score_kinds)}")
