"""Why is an event anomalous? `zoo.explain`: what each input contributes to the scores of the most anomalous events."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.bumphunt.result import Contributions
from pipelines.errors import InputError
from pipelines.events.events import Events
from zoo.evaluation import attribution
from zoo.opened_run import mass_range_of, open_for, trained_model
from zoo.printed import as_html, plain_table

METHODS = ("auto", "residuals", "gradients", "permutation")
MOST = 1000  # events that are explained at most
POOL = 5000  # other events that values are drawn from at most
REPEATS = 8
SUFFIXES = (".csv", ".h5", ".json")


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What each input contributes to the scores of events.

    Attributes:
        names: (F,) of the inputs. contributions: (N, F), in units of the score.
        rows: (N,), which of the events given they are. scores: (N,). mass: (N,) GeV.
        others: (F,) mean contributions of as many of the other events; None without any.
        missing: (N,), by how much the contributions miss the difference of scores: of integrated gradients, else None.
        model, kind, method: of the score, and how it was explained. baseline: in words, what contributions are against.
        selected: in words, which events these are.
    """

    names: tuple[str, ...]
    contributions: np.ndarray
    rows: np.ndarray
    scores: np.ndarray
    mass: np.ndarray
    others: np.ndarray | None
    missing: np.ndarray | None
    model: str
    kind: str
    method: str
    baseline: str
    selected: str

    @property
    def mean(self) -> np.ndarray:
        """Mean contribution of every input over the events, (F,)."""
        return np.asarray(self.contributions.mean(axis=0))

    @property
    def error(self) -> np.ndarray:
        """Statistical error of the mean, (F,); 0 of a single event."""
        n = len(self.contributions)
        return np.asarray(self.contributions.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.zeros(len(self.names)))

    def averaged(self) -> Contributions:
        """Return the averages alone, as a search keeps them."""
        others = None if self.others is None else tuple(self.others.tolist())
        return Contributions(
            self.names, tuple(self.mean.tolist()), tuple(self.error.tolist()), others, len(self), self.kind, self.method,
            self.baseline, self.selected,
        )  # fmt: skip

    def to_dict(self) -> dict[str, object]:
        """Return everything, ready for JSON."""
        return {
            **self.averaged().to_dict(),
            "model": self.model,
            "largest_missing": None if self.missing is None else float(np.abs(self.missing).max()),
            "rows": self.rows.tolist(),
            "scores": self.scores.tolist(),
            "mass": self.mass.tolist(),
            "contributions": self.contributions.tolist(),
        }

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a new file: CSV or HDF5 with a row for each event, or JSON with everything.

        Raises `InputError` for another ending, and if it exists or cannot be written.
        """
        from pipelines.checksums import create, store
        from pipelines.outputs import check_new, new_disk, new_file, write_json

        path = Path(path)
        check_suffix(path)
        check_new(path)
        if path.suffix == ".json":
            write_json(path, self.to_dict(), replace=False)
        elif path.suffix == ".csv":
            with new_file(path) as part, open(part, "w", newline="") as file:
                table = csv.writer(file)
                table.writerow(["row", "mass", "score", *self.names])
                table.writerows(
                    [int(row), float(m), float(s), *map(float, each)]
                    for row, m, s, each in zip(self.rows, self.mass, self.scores, self.contributions)
                )
        else:
            with new_disk(path) as disk, create(disk) as file:
                for name in ("contributions", "rows", "scores", "mass"):
                    store(file, name, getattr(self, name))
                file.attrs.update(model=self.model, kind=self.kind, method=self.method, names=list(self.names))

    def plot(self, path: str | os.PathLike[str]) -> dict[str, object]:
        """Draw the mean contributions into a new PNG, and return the numbers."""
        from pipelines.plots.contributions import plot_contributions

        return plot_contributions(self.averaged().to_dict(), path)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        order = np.argsort(-np.abs(self.mean))
        rows = [
            [self.names[i], f"{self.mean[i]:.4g}", f"{self.error[i]:.2g}",
             "-" if self.others is None else f"{self.others[i]:.4g}"]
            for i in order
        ]  # fmt: skip
        head = (
            f"What contributes to {self.kind} of {self.model} in {len(self)} events ({self.selected}), by {self.method}"
        )
        return f"{head}, {self.baseline}:\n\n{plain_table(['input', 'mean', 'error', 'other events'], rows)}"

    def _repr_html_(self) -> str:
        return as_html(str(self))


def check_suffix(path: Path) -> None:
    """Raise `InputError` for a name that says no format.

    >>> check_suffix(Path("why.csv"))
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: the ending says the format, expected one of {', '.join(SUFFIXES)}")


def explain(
    run: Any,
    events: Any,
    kind: str | None = None,
    *,
    method: str = "auto",
    percentile: float = 99.0,
    tail: str = "upper",
    rows: Sequence[int] | None = None,
    most: int = MOST,
    repeats: int = REPEATS,
    mass_range: tuple[float, float] | None = None,
    seed: int = 0,
    **conversion: Any,
) -> Explanation:
    """Say what each input contributes to the scores of the most anomalous events.

    Args:
        run: a run directory, or a trained model. events: what `pipelines.open` takes; labels are not looked at.
        kind: one of the model's `score_kinds`; its default otherwise.
        method: "residuals", the share of each feature in a reconstruction error; "gradients", integrated gradients from the
            median of the other events; "permutation", how much lower the score is with the input of another event (see
            `zoo.evaluation.attribution`). "auto" takes residuals where the score is one of them, else permutation.
        percentile, tail: of the score, which events are selected: beyond it, in the "upper" or "lower" tail.
        rows: explain these events instead, by their rows within the mass range, in the order given.
        most: events at most, by `seed` at random among those selected. repeats: draws of permutation.
        mass_range: GeV; by default that of the events of the run's training.

    Raises:
        InputError: as `zoo.score`; for a method that the score does not allow, and rows that are not there, or whose score
            is NaN or infinite.

    Example:
        `zoo.explain("run", "data.h5", percentile=95).write("why.csv")`
    """
    _check(method, percentile, tail, most, repeats)
    model = trained_model(run)
    data = open_for(run, events, mass_range or mass_range_of(run), **conversion)
    kind = kind or model.score_kinds[0]
    if rows is None:
        score = np.asarray(model.score(data, kind), np.float64)
        chosen = _beyond(score, percentile, tail)
        said = f"the {tail} {100 - percentile:g} %"
    else:
        chosen = np.asarray(rows, int)
        if not len(chosen) or chosen.min() < 0 or chosen.max() >= len(data):
            raise InputError(
                f"rows {', '.join(map(str, rows[:10])) or 'none'}, expected numbers from 0 to {len(data) - 1}"
            )
        said = "by row"
    return explain_events(model, data, chosen, kind, method=method, most=most, repeats=repeats, seed=seed, said=said)


def explain_events(
    model: Any,
    events: Events,
    chosen: np.ndarray,
    kind: str,
    *,
    method: str = "auto",
    most: int = MOST,
    repeats: int = REPEATS,
    seed: int = 0,
    said: str = "selected",
) -> Explanation:
    """Explain the scores of chosen rows of events by a trained model; see `explain`. Others that have no finite score are left out."""
    rng = np.random.default_rng([seed, 9])
    rest = np.setdiff1d(np.arange(len(events)), chosen)
    if len(chosen) > most:
        chosen = chosen[np.sort(rng.choice(len(chosen), most, replace=False))]
    pool = np.sort(rng.choice(rest, min(POOL, len(rest)), replace=False))
    if not len(pool):
        raise InputError(
            "all events are explained, so there are no others to compare with; select fewer, by a percentile or rows"
        )
    method = _method(model, kind, method)
    mine, others = _arrays(model, events, chosen), _arrays(model, events, pool)
    scores = np.asarray(model.score(mine, kind), np.float64)
    if bad := chosen[~np.isfinite(scores)].tolist():
        raise InputError(f"row {bad[0]}: its score is NaN or infinite, which nothing explains; its values are far off")
    finite = np.isfinite(model.score(others, kind))
    if not finite.any():
        raise InputError("no other event has a finite score to compare with; has the training diverged?")
    pool, others = pool[finite], {name: values[finite] for name, values in others.items()}
    some = np.sort(rng.choice(len(pool), min(most, len(pool)), replace=False))
    few = {name: values[some] for name, values in others.items()}
    missing, baseline = None, "in which they are all of it"
    if method == "residuals":
        found, of_others = (attribution.residuals(model, arrays, kind) for arrays in (mine, few))
    elif method == "gradients":
        middle = np.median(others["features"], axis=0) if "features" in others else np.empty(0)
        (found, missing), (of_others, _) = (
            attribution.integrated_gradients(model, arrays, kind, middle) for arrays in (mine, few)
        )
        baseline = "against the median of the other events"
    else:
        found, of_others = (
            attribution.permutation(model, arrays, kind, others, repeats, seed) for arrays in (mine, few)
        )
        baseline = "against values of other events"
    return Explanation(
        attribution.names_of(model), found, chosen, scores, events.mass[chosen],
        of_others.mean(axis=0), missing, model.zoo_name or type(model).__name__, kind, method, baseline, said,
    )  # fmt: skip


def _check(method: str, percentile: float, tail: str, most: int, repeats: int) -> None:
    for name, value, allowed in (("method", method, METHODS), ("tail", tail, ("upper", "lower"))):
        if value not in allowed:
            raise InputError(f"{name} {value!r}, expected one of {', '.join(allowed)}")
    if not 0 < percentile < 100:
        raise InputError(f"percentile {percentile}, expected a number between 0 and 100, such as 99")
    if most < 1 or repeats < 1:
        raise InputError(f"{most} events, {repeats} repeats; expected at least 1 of each")


def _method(model: Any, kind: str, method: str) -> str:
    if kind not in model.score_kinds:
        raise InputError(f"score kind {kind!r} is not known; {type(model).__name__} has {', '.join(model.score_kinds)}")
    if method == "auto":
        return "residuals" if attribution.has_residuals(model, kind) else "permutation"
    if method == "residuals" and not attribution.has_residuals(model, kind):
        raise InputError(
            f"method residuals: {kind} of {model.zoo_name} is no sum over residuals of features, or its "
            f"scaling has no inverse, as 'quantile'; take gradients or permutation"
        )
    return method


def _beyond(score: np.ndarray, percentile: float, tail: str) -> np.ndarray:
    finite = np.isfinite(score)
    signed = np.where(finite, score if tail == "upper" else -score, -np.inf)
    cut = np.percentile(signed[finite], percentile, method="inverted_cdf") if finite.any() else np.inf
    chosen = np.flatnonzero(signed > cut)
    if not len(chosen):
        raise InputError(
            f"no score is beyond percentile {percentile:g} in the {tail} tail: the scores are (nearly) constant"
        )
    return chosen


def _arrays(model: Any, events: Events, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return what a model takes of these events, in the order of the rows."""
    ascending, place = np.unique(rows, return_inverse=True)  # `take` keeps the order of the file
    blocks = list(model.inputs.blocks(events.take(ascending)))
    return {name: np.concatenate([block[i] for block in blocks])[place] for i, name in enumerate(model.inputs.shapes)}
