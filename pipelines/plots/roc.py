"""The figure of ROC curves: with the band of an ensemble, and the gain in significance at every cut."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.errors import InputError
from pipelines.plots.arrays import TAILS, finite, named, of_events
from pipelines.plots.page import NOTES, WEIGHTS, legend, look, page, shown
from pipelines.plots.record import target

MINIMUM = 10  # background events that must pass for a working point to count, as `pipelines.metrics.LEAST`
DIRECTIONS = {"score": 1.0, "minus score": -1.0}
BANDS = {"std": "mean ± std", "members": "members, 68 %"}


def plot_roc(
    background: np.ndarray,
    signals: Mapping[str, np.ndarray],
    path: str | os.PathLike[str],
    *,
    std: Mapping[str, np.ndarray] | None = None,
    band: str = "std",
    both: bool = False,
    minimum: int = MINIMUM,
    unweighted: bool = False,
) -> dict[str, object]:
    """Draw the ROC curve of each signal with the band of the ensemble, and the gain in S/sqrt(B), eps_S/sqrt(eps_B).

    An event passes a threshold if its score is not below it. For an ensemble the score is the mean over members.

    The band, at every eps_S: for `band="std"`, between the ROC curves of two other scores, mean + s and mean - s, with
    s the standard deviation (ddof 0) of this event's score over members, as figure 2 of the VAE with latent bump
    hunting (arXiv 2103.06595). For `band="members"`, from the 16th to the 84th percentile of eps_B of the members' own
    ROC curves. Neither is a confidence interval of the curve drawn, which may leave it: a mean of scores is often
    better than any of its members.

    The shaded region is where fewer than `minimum` background events pass: the gain is not looked for there. Its
    maximum is chosen with the truth from all thresholds, so it is what a search could reach at best.

    Args:
        background: scores (Nb,), or (K, Nb) of K members. signals: (Ns,), or (K, Ns), by name.
        std: for scores that are means already, s of the events of `background` and of each signal, by name.
        both: draw minus the score too, as a score of its own. No direction is ever chosen for its AUC.
        unweighted: the events have weights, which are ignored here; the figure and `weights` state it.

    Returns:
        `weights`, "none" or "not used"; `background_events`, `minimum`, `band` ("none" where there are no members), and `signals`: by name `events`,
        and by direction (`score`, `minus score`) `auc`; `signal_efficiency` and `background_efficiency`, points of the
        curve; `low`, `high`, the eps_B of the band at the eps_S of `grid`, `members_auc`; and the `best` working point:
        `gain` with its `error` (binomial, of the efficiencies alone), `threshold` on the score of that direction,
        `signal_efficiency`, `background_efficiency`, `background_events`; NaN if no threshold has enough events.

    Example:
        >>> import tempfile
        >>> scores = np.random.default_rng(1).normal(0, 1, 1000)
        >>> numbers = plot_roc(scores, {"Z'": scores + 1}, tempfile.mkdtemp() + "/roc.png")
        >>> print(numbers["signals"]["Z'"]["score"]["auc"].round(2))
        0.77
    """
    path = target(path)
    if band not in BANDS:
        raise InputError(f"band: {band!r}, expected 'std' or 'members'")
    scores = _scores(background, signals)
    spread = _spreads(scores, std, band)
    events, needed = scores["background"].shape[1], max(minimum, 1)
    directions = list(DIRECTIONS) if both else ["score"]
    curves = {
        name: {"events": np.int64(scores[name].shape[1])}
        | {direction: _curve(scores, name, DIRECTIONS[direction], spread, band, needed) for direction in directions}
        for name in signals
    }
    drawn = "none" if spread is None else band
    numbers = {"weights": WEIGHTS[unweighted], "background_events": np.int64(events), "minimum": np.int64(minimum)}
    numbers |= {"band": drawn, "signals": curves}
    with page(path, numbers, (9.5, 12), ".h5", note=NOTES[unweighted]) as figure:
        axes = figure.subplots(2, 1, sharex=True)
        figure.get_layout_engine().set(hspace=0.0, h_pad=0.03)
        for order, (name, found) in enumerate(curves.items()):
            for line, direction in enumerate(directions):
                how = look(order, line, len(DIRECTIONS))
                _draw_curve(axes[0], axes[1], found[direction], f"{name}, {direction}", how, events, needed)
        if spread is not None:
            axes[0].fill_between([], [], color="black", alpha=0.22, lw=0, label=f"band: {BANDS[band]}")
        gains = [found[direction]["best"]["gain"] for found in curves.values() for direction in directions]
        _draw_limits(axes[0], axes[1], events, needed, gains)
        legend(figure, axes[:1], columns=2)
    return numbers


def _scores(background: np.ndarray, signals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scores of the members, (K, N), of the background and of every signal by name; K is 1 without members."""
    if "background" in named("signals", signals):
        raise InputError("signals: one is named 'background', expected another name")
    scores = {name: _members(name, score) for name, score in {"background": background, **signals}.items()}
    found = {name: len(score) for name, score in scores.items()}
    if len(set(found.values())) > 1:
        raise InputError(f"scores: {found} members, expected the same number for background and all signals")
    return scores


def _members(name: str, score: np.ndarray) -> np.ndarray:
    score = finite(name, score)
    if score.ndim not in (1, 2):
        raise InputError(f"{name}: shape {score.shape}, expected (N,), or (K, N) for K members")
    return np.atleast_2d(score)


def _spreads(scores: Any, std: Any, band: Any) -> dict[str, np.ndarray] | None:
    """Standard deviation of each event's score over members, or None where there is no band to draw."""
    members = len(scores["background"])
    if std is None:
        return {name: score.std(axis=0) for name, score in scores.items()} if members > 1 else None
    if members > 1 or band == "members":
        raise InputError("std: given with scores of every member or band='members', expected one or the other")
    if set(std) != set(scores):
        raise InputError(f"std: of {sorted(std)}, expected it of {sorted(scores)}")
    return {name: of_events(f"std of {name}", std[name], like=scores[name][0]) for name in scores}


def _curve(scores: Any, name: Any, sign: Any, spread: Any, band: Any, needed: Any) -> dict[str, object]:
    from pipelines.metrics import auc

    pair = [sign * scores["background"], sign * scores[name]]
    mean = [score.mean(axis=0) for score in pair]
    eps_b, eps_s, threshold = _roc(*mean)
    grid = np.linspace(0, 1, 501)[1:]
    best = _best(eps_b, eps_s, threshold, len(mean[0]), len(mean[1]), needed)
    # Some points of the exact curve, not interpolations: those nearest to a grid of eps_S, the ends, and the best one.
    kept = np.unique(np.r_[0, _at(eps_s, grid), np.flatnonzero(threshold == best["threshold"]), len(eps_s) - 1])
    found = {
        "auc": np.float64(auc(*mean)),
        "signal_efficiency": eps_s[kept],
        "background_efficiency": eps_b[kept],
        "best": best,
    }
    if spread is None:
        return found
    members = list(zip(*pair))
    errors = [spread["background"], spread[name]]
    others = members if band == "members" else [[m + up * s for m, s in zip(mean, errors)] for up in (1, -1)]
    low, high = _band(others, grid, TAILS if band == "members" else (0, 1))
    aucs = [auc(*member) for member in members] if len(members) > 1 else []
    return found | {"grid": grid, "low": low, "high": high, "members_auc": np.array(aucs, np.float64)}


def _roc(background: np.ndarray, signal: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """eps_B, eps_S and threshold of every cut that selects different events, from tight to loose."""
    from sklearn.metrics import roc_curve

    truth = np.r_[np.zeros(len(background), np.int8), np.ones(len(signal), np.int8)]
    return roc_curve(truth, np.r_[background, signal], drop_intermediate=False)


def _at(eps_s: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where the tightest cuts are that keep at least these shares of the signal; 1e-12 for their rounding."""
    return np.searchsorted(eps_s, wanted - 1e-12, side="left")


def _band(pairs: Sequence[Sequence[np.ndarray]], grid: np.ndarray, quantiles: Sequence[float]) -> np.ndarray:
    """Quantiles of eps_B at the eps_S of the grid, over the ROC curves of pairs of background and signal."""
    curves = [_roc(*pair)[:2] for pair in pairs]
    return np.quantile([eps_b[_at(eps_s, grid)] for eps_b, eps_s in curves], quantiles, axis=0)


def _best(eps_b: Any, eps_s: Any, threshold: Any, backgrounds: Any, signals: Any, needed: Any) -> dict[str, np.ndarray]:
    allowed = np.flatnonzero(np.rint(eps_b * backgrounds) >= needed)
    names = ("gain", "error", "threshold", "signal_efficiency", "background_efficiency", "background_events")
    if not len(allowed):
        return dict.fromkeys(names, np.float64(np.nan))
    gains = eps_s[allowed] / np.sqrt(eps_b[allowed])
    at = allowed[np.argmax(gains)]
    s, b, gain = eps_s[at], eps_b[at], gains.max()
    relative = (1 - s) / (s * signals) + (1 - b) / (4 * b * backgrounds) if s > 0 else np.nan
    values = (gain, gain * np.sqrt(relative), threshold[at], s, b, np.rint(b * backgrounds))
    return {name: np.float64(value) for name, value in zip(names, values)}


def _draw_curve(upper: Any, lower: Any, curve: Any, name: Any, how: Any, events: Any, needed: Any) -> None:
    (colour, dash), best = how, curve["best"]
    s, b = curve["signal_efficiency"], curve["background_efficiency"]
    if best["gain"] > 1:  # 1 is to select nothing
        at = best["signal_efficiency"], best["gain"]
        side = "right" if at[0] > 0.9 else "center"
        lower.plot(*at, "*", color=colour, mec="black", ms=15, zorder=30)
        lower.annotate(f"{best['gain']:.2f}", at, (0, 10), textcoords="offset points", ha=side, fontsize=13)
    seen, enough = b > 0, np.rint(b * events) >= needed
    upper.plot(s[seen], 1 / b[seen], dash, color=colour, lw=2, label=shown(f"{name}: AUC {curve['auc']:.3f}"))
    lower.plot(s[enough], s[enough] / np.sqrt(b[enough]), dash, color=colour, lw=2)
    if "grid" in curve:
        grid, low, high = curve["grid"], curve["low"], curve["high"]
        shade = {"color": colour, "alpha": 0.22, "lw": 0}
        upper.fill_between(grid, *(1 / np.maximum(edge, 1 / events) for edge in (high, low)), **shade)
        # where enough events pass; where only its tight edge has too few, it ends at the shaded region
        lower.fill_between(grid, *(grid / np.sqrt(np.maximum(edge, needed / events)) for edge in (high, low)), **shade)


def _draw_limits(upper: Any, lower: Any, events: Any, needed: Any, gains: Any) -> None:
    """Chance, the region of too few events, and the axes."""
    top, limit, eps = max(10.0, 3.0 * events), events / needed, np.linspace(1e-3, 1, 400)
    shade = {"color": "grey", "alpha": 0.18, "lw": 0, "zorder": 0}
    upper.plot(eps, 1 / eps, ":", color="grey", lw=1.5, label="chance")
    lower.plot(eps, np.sqrt(eps), ":", color="grey", lw=1.5)
    upper.set(yscale="log", ylim=(1, top), xlim=(0, 1), ylabel="1 / $\\epsilon_B$")
    lower.set(ylim=(0, 1.25 * np.nanmax([1.2, *gains])))  # a gain is NaN where no cut has enough events
    lower.set(xlabel="$\\epsilon_S$", ylabel="$\\epsilon_S\\ /\\ \\sqrt{\\epsilon_B}$")
    upper.axhspan(limit, top, label=f"fewer than {needed} background events", **shade)
    least = eps * np.sqrt(limit) if limit >= 1 else 0 * eps  # eps_B < 1 / limit is a gain above this
    lower.fill_between(eps, least, lower.get_ylim()[1] + least, **shade)
