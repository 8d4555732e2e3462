"""Figures of a training: the terms of the loss by epoch, and the epoch at which one of them is largest."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.errors import InputError
from pipelines.plots.arrays import TAILS
from pipelines.plots.page import legend, page, shown
from pipelines.plots.record import plain, target

KINDS = {"training": ("C0", "-"), "validation": ("C2", "--")}


def plot_history(
    rows: Sequence[Mapping[str, object]],
    path: str | os.PathLike[str],
    *,
    members: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> dict[str, object]:
    """Draw every term of the loss against the epoch: a panel per phase and term, training and validation together.

    A term that is positive throughout and spans more than a factor 30 gets a logarithmic axis.

    Args:
        rows: one per epoch, with `phase`, `epoch`, terms and their `val_` twins. What is no finite number is a gap.
        members: by phase and term, (epochs, K) for an ensemble of K: thin lines, and a band from their 16th to their
            84th percentile.

    Returns:
        `phases`: by phase, `epoch` and `terms`; by term, `training` and `validation`, and of members `values`,
        `low` and `high`. Raises `InputError` where members have another number of epochs than the rows.

    Example:
        >>> import tempfile
        >>> rows = [{"phase": "main", "epoch": i, "loss": 1 / (i + 1), "val_loss": None} for i in range(3)]
        >>> numbers = plot_history(rows, tempfile.mkdtemp() + "/history.png")
        >>> numbers["phases"]["main"]["terms"]["loss"]["training"]
        [1.0, 0.5, 0.3333333333333333]
    """
    path, members = target(path), members or {}
    phases = {
        phase: _phase(phase, [row for row in rows if row["phase"] == phase], members.get(phase, {}))
        for phase in dict.fromkeys([*(str(row["phase"]) for row in rows), *members])
    }
    numbers = plain({"phases": phases})
    panels = sum(len(phase["terms"]) for phase in phases.values())
    width = max(1, min(4, panels, round((1.4 * panels) ** 0.5)))
    height = max(1, -(-panels // width))
    with page(path, numbers, (5.2 * width, 4.2 * height)) as figure:
        axes = iter(figure.subplots(height, width, squeeze=False).flat)
        for name, phase in numbers["phases"].items():
            for term, values in phase["terms"].items():
                _draw_term(next(axes), phase["epoch"], values, f"{name}: {term}".replace("_", " "))
        for axis in axes:
            axis.set_axis_off()
        if not panels:
            figure.text(0.5, 0.5, "no epochs", ha="center", va="center")
        legend(figure, figure.axes, [*KINDS])
    return numbers


def _phase(phase: str, rows: Sequence[Mapping[str, Any]], members: Mapping[str, np.ndarray]) -> dict[str, Any]:
    recorded = dict.fromkeys(name.removeprefix("val_") for row in rows for name in row)
    epochs = [int(row["epoch"]) for row in rows]
    terms: dict[str, dict[str, object]] = {}
    for term in dict.fromkeys([*recorded, *members]):
        if term in ("phase", "epoch"):
            continue
        found = {kind: [_number(row.get(key)) for row in rows] for kind, key in zip(KINDS, (term, f"val_{term}"))}
        terms[term] = {kind: values for kind, values in found.items() if any(v is not None for v in values)}
        if term in members:
            values = np.asarray(members[term], np.float64)
            epochs = epochs or list(range(len(values)))
            terms[term]["members"] = _band(f"{phase}: {term}", values, len(epochs))
    return {"epoch": epochs, "terms": {term: values for term, values in terms.items() if values}}


def _number(value: object) -> float | None:
    number: Any = value
    return number if isinstance(value, (int, float, np.number)) and np.isfinite(number) else None


def _band(name: str, values: np.ndarray, epochs: int) -> dict[str, np.ndarray]:
    if values.ndim != 2 or len(values) != epochs or not values.size:
        raise InputError(
            f"members of {name} have shape {values.shape}, expected ({epochs}, K): one row for each epoch of this phase"
        )
    low, high = np.quantile(values, TAILS, axis=1)
    return {"values": values, "low": low, "high": high}


def _draw_term(axis: Any, epochs: Any, values: Any, title: Any) -> None:
    marker = "o" if len(epochs) < 30 else None
    every = []
    if "members" in values:
        band = {k: np.array(v, float) for k, v in values["members"].items()}  # None becomes NaN
        axis.plot(epochs, band["values"], color="C0", lw=0.6, alpha=0.5)
        axis.fill_between(epochs, band["low"], band["high"], color="C0", alpha=0.25, lw=0, label="members, 68 %")
        every.append(band["values"].ravel())
    for kind, (colour, dash) in KINDS.items():
        if kind in values:
            every.append(np.array(values[kind], float))
            axis.plot(epochs, every[-1], dash, color=colour, marker=marker, ms=4, label=kind)
    seen = np.concatenate(every)
    seen = seen[np.isfinite(seen)]
    if len(seen) and seen.min() > 0 and seen.max() > 30 * seen.min():
        axis.set_yscale("log")
    _count_epochs(axis, epochs)
    axis.set(title=shown(title), xlabel="epoch")


def _count_epochs(axis: Any, epochs: Any) -> None:
    axis.xaxis.get_major_locator().set_params(integer=True)
    if len(epochs) < 8:
        axis.xaxis.minorticks_off()
    if len(epochs) == 1:
        axis.set_xticks(epochs)


def plot_peak(
    values: np.ndarray,
    path: str | os.PathLike[str],
    *,
    best: int | Sequence[int] | None = None,
    label: str = "KL",
) -> dict[str, object]:
    """Draw a term of the loss against the epoch with the epoch at which it is largest marked, for every member.

    The VAE with latent bump hunting (arXiv 2103.06595) keeps the weights of the epoch of the largest KL. Where that
    is the last epoch, the training ended before a peak was seen; the figure states it.

    Args:
        values: (epochs,) or (epochs, K). Epochs count from 0. Of equal values the first is the peak.
        best: epoch whose weights are used, or K of them, if they were not taken from the peak.

    Returns:
        `label`, `values` (epochs, K), and by member `peak`, `peak_value`, `peak_is_last` and `best` (None if not
        given). Raises `InputError` for a `best` that is no epoch.

    Example:
        >>> import tempfile
        >>> numbers = plot_peak(np.array([1.0, 3.0, 2.0]), tempfile.mkdtemp() + "/kl.png")
        >>> numbers["peak"], numbers["peak_is_last"]
        ([1], [False])
    """
    path, values = target(path), np.asarray(values, np.float64)
    if values.ndim not in (1, 2) or not values.size:
        raise InputError(f"{label}: shape {values.shape}, expected (epochs,) or (epochs, members), not empty")
    values = values.reshape(len(values), -1)
    values = np.where(np.isfinite(values), values, np.nan)  # gaps
    if np.isnan(values).all(axis=0).any():
        raise InputError(f"{label}: no value of a member is a number; leave that member out")
    epochs = None if best is None else _epochs(best, *values.shape)
    peak = np.where(np.isnan(values), -np.inf, values).argmax(axis=0)
    last = peak == len(values) - 1
    arrays = {
        "label": label,
        "values": values,
        "peak": peak,
        "peak_value": np.nanmax(values, axis=0),
        "peak_is_last": last,
    }
    numbers = plain(arrays | {"best": epochs})
    with page(path, numbers, (9, 6.5)) as figure:
        axis = figure.subplots()
        _draw_peak(axis, values, peak, epochs, label)
        if last.any():
            who = "" if len(last) == 1 else f"{last.sum()} of {len(last)} members: "
            axis.set_title(f"{who}largest at the last epoch, training ended before a peak", color="C2")
        legend(figure, [axis])
    return numbers


def _epochs(best: int | Sequence[int], epochs: int, members: int) -> np.ndarray:
    each = np.broadcast_to(best, members) if np.ndim(best) == 0 else np.asarray(best)
    if each.shape != (members,) or each.dtype.kind not in "iu" or each.min() < 0 or each.max() >= epochs:
        raise InputError(f"best: {each.tolist()}, expected {members} epochs from 0 to {epochs - 1}")
    return each


def _draw_peak(axis: Any, values: Any, peak: Any, best: Any, label: Any) -> None:
    members = np.arange(values.shape[1])
    if len(members) > 1:
        axis.plot(values, color="C0", lw=0.7, alpha=0.6)
        axis.plot([], [], color="C0", lw=0.7, alpha=0.6, label="members")
        axis.plot(np.nanmean(values, axis=1), color="black", lw=2.2, label="mean")
    else:
        axis.plot(values, color="C0", lw=2.2, label=label)
    where = f"epoch {peak[0]}" if len(set(peak)) == 1 else f"epochs {peak.min()} to {peak.max()}"
    axis.plot(peak, values[peak, members], "o", color="C2", ms=7, label=f"peak, {where}")
    if best is not None:
        axis.plot(best, values[best, members], "D", mfc="none", mec="black", ms=11, label="weights used")
    _count_epochs(axis, range(len(values)))
    axis.set(xlabel="epoch", ylabel=shown(label))
    axis.margins(y=0.08)
