"""The figure of scores such as reconstruction errors: histograms with logarithmic axes, and ratios below."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.errors import InputError
from pipelines.plots.arrays import TAILS, named, of_events
from pipelines.plots.page import legend, look, page, shown
from pipelines.plots.record import plain, target

COMMON = {"data": ("black", "-"), "background": ("C0", "-")}
RATIOS = {"ratio": "content", "ratio_error_low": "error_low", "ratio_error_high": "error_high"}
OUTSIDE = {"not_positive": "≤ 0", "below": "below", "above": "above"}  # events in no bin, and how the figure says it


def plot_errors(
    samples: Mapping[str, np.ndarray],
    path: str | os.PathLike[str],
    *,
    weights: Mapping[str, np.ndarray] | None = None,
    bins: int | Sequence[float] = 60,
    xlabel: str = "reconstruction error",
    normalise: bool = False,
) -> dict[str, object]:
    """Draw histograms of scores, both axes logarithmic, and below the ratio of each sample to the first.

    `data` is drawn as points, `background` filled, everything else as lines. Errors are statistical: the central
    68 % interval of a Poisson mean (Garwood 1936) for counts, sqrt(sum w^2) for samples with weights. Error bars in
    the ratio are those of the sample alone, the band around 1 is that of the reference. A triangle at the upper edge
    is a bin where the ratio is off scale, or a sample has events and the reference none. A bin whose weights sum to 0
    or less has no place on a logarithmic axis; it is in the numbers.

    Args:
        samples: scores (N,) by name; the first is the reference.
        weights: event weights (N,) by name; samples not named have none.
        bins: number of bins of equal width in log(score), from the smallest 0.1 % quantile of the positive scores of
            a sample to the largest score; or their edges, > 0 and increasing.
        normalise: divide each sample by its sum of weights.

    Returns:
        `edges`, `reference`, and by sample `events`, `sum_of_weights`, per bin `content`, `error_low`, `error_high`
        (lengths of the bars), `ratio`, `ratio_error_low`, `ratio_error_high` (None where the reference has nothing),
        and the numbers of events that are not in a bin: `not_positive`, `below`, `above`. The figure says them too.

    Example:
        >>> import tempfile
        >>> scores = {"background": np.array([1.0, 2.0, 9.0]), "signal": np.array([0.0, 8.0])}
        >>> numbers = plot_errors(scores, tempfile.mkdtemp() + "/errors.png", bins=[0.5, 5.0, 50.0])
        >>> numbers["samples"]["signal"]["ratio"], numbers["samples"]["signal"]["not_positive"]
        ([0.0, 1.0], 1)
    """
    path = target(path)
    samples = {name: of_events(name, score) for name, score in named("samples", samples).items()}
    weights = _weights(weights or {}, samples)
    edges = _log_edges(samples, bins) if isinstance(bins, (int, np.integer)) else _edges(bins)
    found = {name: _histogram(score, weights.get(name), edges, normalise) for name, score in samples.items()}
    reference = next(iter(samples))
    total = found[reference]["content"]
    for sample in found.values():
        sample |= {key: _ratio(sample[of], total) for key, of in RATIOS.items()}
    arrays = {"xlabel": xlabel, "normalise": normalise, "edges": edges, "reference": reference, "samples": found}
    numbers = plain(arrays)
    # data and background are compared to percents, signals over orders of magnitude: not on one axis
    groups = [[n for n in samples if n != reference and (n in COMMON) == common] for common in (True, False)]
    groups = [group for group in groups if group]
    heights = [3] + [1] * len(groups)
    with page(path, numbers, (9.5, 7.5 + 2.2 * len(groups))) as figure:
        upper, *lower = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
        figure.get_layout_engine().set(hspace=0.0, h_pad=0.03)
        _draw_histograms(upper, found, edges, normalise)
        for axis, group in zip(lower, groups):
            _draw_ratios(axis, found, edges, reference, group)
        figure.axes[-1].set_xlabel(shown(xlabel))
        legend(figure, [upper], [shown(name) for name in samples])
    return numbers


def _ratio(values: np.ndarray, total: np.ndarray) -> np.ndarray:
    return np.divide(values, total, out=np.full(len(total), np.nan), where=total > 0)


def _weights(weights: Mapping[str, np.ndarray], samples: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    unknown = set(weights) - set(samples)
    if unknown:
        raise InputError(f"weights: {sorted(unknown)} are no samples, expected some of {[*samples]}")
    return {name: of_events(f"weights of {name}", w, like=samples[name]) for name, w in weights.items()}


def _edges(bins: Sequence[float]) -> np.ndarray:
    edges = np.asarray(bins, np.float64)
    increase = edges.ndim == 1 and len(edges) > 1 and np.all(np.diff(edges, prepend=0) > 0)
    if not increase or not np.isfinite(edges[-1]):
        raise InputError(f"bins: {edges.tolist()}, expected edges above 0 that increase")
    return edges


def _log_edges(samples: Mapping[str, np.ndarray], bins: int) -> np.ndarray:
    if bins < 1:
        raise InputError(f"bins: {bins}, expected at least one")
    positive = [score[score > 0] for score in samples.values() if np.any(score > 0)]
    if not positive:
        raise InputError(f"samples {[*samples]}: no score is above 0, expected some for a logarithmic axis")
    low = min(np.quantile(score, 0.001, method="lower") for score in positive)
    high = max(score.max() for score in positive)
    return np.geomspace(low, high, bins + 1) if low < high else np.geomspace(low / 2, high * 2, bins + 1)


def _histogram(score: np.ndarray, weight: np.ndarray | None, edges: np.ndarray, normalise: bool) -> dict[str, Any]:
    content = np.histogram(score, edges, weights=weight)[0].astype(np.float64)
    if weight is None:
        low, high = poisson_errors(content)
    else:
        low = high = np.sqrt(np.histogram(score, edges, weights=weight**2)[0])
    total = len(score) if weight is None else weight.sum()
    if normalise and not total > 0:
        raise InputError(f"weights: their sum is {total:g}, expected it above 0 to normalise")
    scale = 1 / total if normalise else 1.0
    return {
        "events": len(score),
        "sum_of_weights": float(total),
        "content": content * scale,
        "error_low": low * scale,
        "error_high": high * scale,
        "not_positive": int(np.count_nonzero(score <= 0)),
        "below": int(np.count_nonzero((score > 0) & (score < edges[0]))),
        "above": int(np.count_nonzero(score > edges[-1])),
    }


def poisson_errors(count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of the error bars of counts: the central 68 % interval of their mean (Garwood 1936)."""
    from scipy.stats import chi2

    low, high = TAILS
    below = np.where(count > 0, chi2.ppf(low, 2 * np.maximum(count, 1)) / 2, 0.0)
    return count - below, chi2.ppf(high, 2 * (count + 1)) / 2 - count


def _looks(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and dashes of every sample: fixed for data and background, by order for the others."""
    lines = [name for name in names if name not in COMMON]
    return COMMON | {name: look(1 + i) for i, name in enumerate(lines)}


def _draw_histograms(axis: Any, found: Any, edges: Any, normalise: Any) -> None:
    looks = _looks(list(found))
    positive = [sample["content"][sample["content"] > 0] for sample in found.values()]
    floor = 0.5 * min([content.min() for content in positive if len(content)], default=1)
    for order, (name, sample) in enumerate(found.items()):
        _draw_sample(axis, name, sample, edges, looks[name], order, ground=floor / 10)
    axis.set(xscale="log", yscale="log", ylabel="share of events / bin" if normalise else "events / bin")
    axis.set_xlim(edges[0], edges[-1])
    axis.set_ylim(bottom=floor)
    missing = {name: [f"{s[k]} {text}" for k, text in OUTSIDE.items() if s[k]] for name, s in found.items()}
    said = [f"{name} {', '.join(parts)}" for name, parts in missing.items() if parts]
    if said:
        lines = textwrap.wrap("events not in a bin: " + "; ".join(said), 95)
        axis.set_title("\n".join(map(shown, lines)), fontsize=11)


def _draw_sample(axis: Any, name: Any, sample: Any, edges: Any, how: Any, order: Any, ground: Any) -> None:
    (colour, dash), label = how, shown(name)
    centres, there = np.sqrt(edges[1:] * edges[:-1]), sample["content"] > 0
    content, bars = np.where(there, sample["content"], np.nan), np.array([sample["error_low"], sample["error_high"]])
    if name == "data":
        axis.errorbar(centres, content, bars, fmt="o", color=colour, ms=5, lw=1.3, zorder=50, label=label)
        return
    zorder = 1 if name == "background" else 20 + order
    drawn = {"fill": True, "alpha": 0.45} if name == "background" else {"ls": dash}
    steps = np.where(there, sample["content"], ground)  # below the axis, so that lines end on it as in any histogram
    axis.stairs(steps, edges, baseline=ground, color=colour, lw=1.8, label=label, zorder=zorder, **drawn)
    axis.errorbar(centres, content, bars, fmt="none", color=colour, lw=1, alpha=0.8, zorder=zorder)


def _draw_ratios(axis: Any, found: Any, edges: Any, reference: Any, names: Any) -> None:
    centres, looks, own = np.sqrt(edges[1:] * edges[:-1]), _looks(list(found)), found[reference]
    down, up = (1 + sign * np.nan_to_num(own[f"ratio_error_{k}"]) for k, sign in (("low", -1), ("high", 1)))
    axis.axhline(1, color="grey", lw=1)
    axis.stairs(up, edges, baseline=down, fill=True, color="grey", alpha=0.35)
    every = np.concatenate([found[name]["ratio"] for name in names])
    every = every[every > 0]
    bottom, top = 0.0, 2.0
    if not set(names) <= set(COMMON) and len(every) and max(every.max(), 1 / every.min()) > 4:
        bottom, top = every.min() / 2, every.max() * 2
        axis.set_yscale("log")
    axis.set_ylim(bottom, top)
    for name in names:
        sample, (colour, _) = found[name], looks[name]
        ratio = np.where(sample["ratio"] > 0, sample["ratio"], np.nan)
        bars = np.array([sample["ratio_error_low"], sample["ratio_error_high"]])
        axis.errorbar(centres, ratio, bars, fmt="o", ms=4, color=colour, lw=1.2)
        beyond = centres[(sample["content"] > 0) & ((own["content"] <= 0) | (sample["ratio"] >= top))]
        at = np.full(len(beyond), 0.93)
        axis.plot(beyond, at, "^", color=colour, ms=6, transform=axis.get_xaxis_transform())
    axis.set_ylabel("ratio to\n" + shown(reference), fontsize=14)
