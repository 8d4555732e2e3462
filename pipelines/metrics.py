"""Figures of merit: how well scores separate signal, and how little a selection shapes the mass spectrum."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial.distance import jensenshannon

from pipelines.errors import InputError
from pipelines.events.events import Events

LEAST = 10  # background events that must pass for a best S/sqrt(B) to count
ARGOS_LEAST = 25  # background events that must pass for a cut to count in ARGOS
PERCENTILES = (50.0, 85.0, 95.0, 99.0)
BACKGROUND_EFFICIENCIES = (1e-1, 1e-2, 1e-3)
MASS_BINS = 40  # as the histogram of the bump hunt in GAN-AE sec. 4.3


Weights = tuple[np.ndarray, np.ndarray]  # of the background's events, and of the signal's


def auc(background: np.ndarray, signal: np.ndarray, weights: Weights | None = None) -> float:
    """Area under the ROC curve: the probability that a signal event scores above a background event.

    background, signal: scores, (Nb,) and (Ns,). weights: of both, some of them below 0 if need be. Returns a number in
    [0, 1]; 0.5 is chance. Never flipped. With weights it is sum_ij w_i w_j [s_j > b_i] / sum_ij w_i w_j, ties counting
    half, which is above 1 or below 0 where weights below 0 say so.

    >>> auc(np.array([0.0, 1.0]), np.array([2.0, 3.0]))
    1.0
    >>> auc(np.array([0.0, 2.5]), np.array([2.0, 3.0]), weights=(np.array([1.0, 3.0]), np.array([1.0, 1.0])))
    0.625
    """
    from sklearn.metrics import roc_auc_score

    _check_scores(background, signal)
    if weights is not None:
        (b, s), (all_b, all_s) = _by_score(background, signal, weights), map(_total, weights)
        return float(np.sum(s * (np.cumsum(b) - b / 2)) / (all_b * all_s))
    truth = np.r_[np.zeros(len(background)), np.ones(len(signal))]
    return float(roc_auc_score(truth, np.r_[background, signal]))


def _by_score(background: np.ndarray, signal: np.ndarray, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """The weights of background and of signal at every different score, rising."""
    place = np.unique(np.concatenate([background, signal]), return_inverse=True)[1]
    size, first = place.max() + 1, len(background)
    parts = zip((place[:first], place[first:]), weights)
    b, s = (np.bincount(at, np.asarray(weight, np.float64), size) for at, weight in parts)
    return b, s


def _total(weight: np.ndarray) -> float:
    total = float(np.sum(weight, dtype=np.float64))
    if not np.isfinite(total) or total <= 0:
        raise InputError(f"weights add up to {total:g}, expected more than 0; ignore the weights, or leave events out")
    return total


def weighted_quantile(values: np.ndarray, share: float, weight: np.ndarray) -> float:
    """Return the smallest value that at most a share 1 - `share` of the weight is above.

    >>> weighted_quantile(np.array([1.0, 2.0, 3.0]), 0.5, np.array([1.0, 1.0, 8.0]))
    3.0
    """
    order = np.argsort(values, kind="stable")
    below = np.cumsum(np.asarray(weight, np.float64)[order]) / _total(weight)
    return float(values[order][min(int(np.argmax(below >= share - 1e-12)), len(values) - 1)])


def signal_efficiency(
    background: np.ndarray, signal: np.ndarray, background_efficiency: float, weights: Weights | None = None
) -> float:
    """Share of signal above the score that a share `background_efficiency` of the background passes.

    Shares are of events, or with `weights`, of background and signal, of their weight.

    >>> signal_efficiency(np.arange(100.0), np.array([10.0, 95.0, 99.5, 200.0]), 0.1)
    0.75
    """
    _check_scores(background, signal)
    if weights is not None:
        threshold = weighted_quantile(background, 1.0 - background_efficiency, weights[0])
        return float(np.sum(weights[1][signal > threshold], dtype=np.float64) / _total(weights[1]))
    return float(np.mean(signal > np.quantile(background, 1.0 - background_efficiency)))


def significance_improvement(
    background: np.ndarray, signal: np.ndarray, least: int = LEAST, weights: Weights | None = None
) -> dict[str, float]:
    """The largest eps_S / sqrt(eps_B) over all thresholds: what a cut on the score does for S / sqrt(B).

    Only thresholds that at least `least` background events pass count: fewer say little about eps_B. With `weights`, of
    background and signal, these are effective events, (sum w)^2 / sum w^2.

    background, signal: scores, (Nb,) and (Ns,). Returns `improvement`, its statistical `error` (binomial, of the numbers
    of events that pass), and the `background_efficiency` and `signal_efficiency` where it is.

    >>> found = significance_improvement(np.arange(1000.0), np.full(50, 900.5))
    >>> round(found["improvement"], 2), round(found["background_efficiency"], 3)
    (3.18, 0.099)
    """
    _check_scores(background, signal)
    if len(background) < least:
        raise InputError(f"{len(background)} background events; expected at least {least}")
    (b, passing_b), (s, passing_s) = _efficiencies(background, signal, weights)
    enough = (passing_b >= least - 1e-9) & (b > 0)
    if not enough.any():
        raise InputError(f"no threshold is passed by {least} effective background events; ignore the weights")
    b, s, passing_b, passing_s = (one[enough] for one in (b, s, passing_b, passing_s))
    best = int(np.argmax(s / np.sqrt(b)))
    b, s = b[best], s[best]
    relative = np.sqrt(max(0.0, 1 - s) / max(passing_s[best], 1.0) + max(0.0, 1 - b) / (4 * passing_b[best]))
    return {
        "improvement": float(s / np.sqrt(b)),
        "error": float(s / np.sqrt(b) * relative),
        "background_efficiency": float(b),
        "signal_efficiency": float(s),
    }


def argos(
    template: np.ndarray, region: np.ndarray, least: int = ARGOS_LEAST, weights: Weights | None = None
) -> dict[str, float]:
    """The largest ARGOS over all cuts on the score: how sensitive a detector is, measured without labels.

    ARGOS = eps_SR / sqrt(eps_BT) - sqrt(eps_BT), with the shares of the signal region and of the background template that
    pass (Hein et al. 2025, arXiv:2511.14832). If the template is background as in the region and a share f of the region is
    signal, it is f (eps_S - eps_B) / sqrt(eps_B): it grows with the significance improvement. A score that knows nothing
    has 0 at every cut, with a standard deviation of sqrt((1 - eps) (1/N_SR + 1/N_BT)).

    Only cuts that at least `least` events of the template pass count. With `weights`, of template and region, shares are
    of the weight, and these are effective events, (sum w)^2 / sum w^2. The cut that all pass has 0, so that the
    result is never below.

    template, region: scores, (Nb,) and (Nr,). Returns `argos`, its statistical `error` (binomial) at that cut, and there
    `template_efficiency` and `region_efficiency`. Raises `InputError` if too few events of the template are there.

    >>> found = argos(np.arange(1000.0), np.r_[np.arange(1000.0), np.full(100, 949.5)])
    >>> round(found["argos"], 3), found["template_efficiency"]
    (0.386, 0.05)
    """
    _check_scores(template, region)
    if len(template) < least:
        raise InputError(f"{len(template)} events of background; expected at least {least}")
    (b, passing_b), (r, passing_r) = _efficiencies(template, region, weights)
    enough = (passing_b >= least - 1e-9) & (b > 0)
    if not enough.any():
        raise InputError(f"no cut is passed by {least} effective events of background; ignore the weights")
    b, r, passing_b, passing_r = (one[enough] for one in (b, r, passing_b, passing_r))
    found = r / np.sqrt(b) - np.sqrt(b)
    best = int(np.argmax(found))
    b, r = b[best], r[best]
    of_region = r**2 * max(0.0, 1 - r) / max(passing_r[best], 1.0) / b
    of_template = (r / b + 1) ** 2 / 4 * b * max(0.0, 1 - b) / passing_b[best]
    return {
        "argos": float(found[best]),
        "error": float(np.sqrt(of_region + of_template)),
        "template_efficiency": float(b),
        "region_efficiency": float(r),
    }


def _efficiencies(
    background: np.ndarray, signal: np.ndarray, weights: Weights | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Shares at or above every different score, and the effective events there: of background, and of signal."""
    weights = weights or (np.ones(len(background)), np.ones(len(signal)))
    sums = _by_score(background, signal, weights)
    first, second = (np.square(weight, dtype=np.float64) for weight in weights)
    squares = _by_score(background, signal, (first, second))
    found = []
    for one, square, weight in zip(sums, squares, weights):
        above, squared = np.cumsum(one[::-1])[::-1], np.cumsum(square[::-1])[::-1]
        effective = np.divide(above**2, squared, out=np.zeros_like(above), where=squared > 0)
        found.append((above / _total(weight), effective))
    return found


def js_distance(mass: np.ndarray, selected: np.ndarray, edges: np.ndarray) -> float:
    """Jensen-Shannon distance, base 2, between the mass spectra of all events and of selected ones, in [0, 1].

    sqrt(JSD), JSD = H((p+q)/2) - (H(p)+H(q))/2 for the binned, normalised spectra p and q (Menendez et al. 1997).
    GAN-AE's figure 5 calls it a divergence and figure 6 a distance; its square is the divergence.

    Args:
        mass: (N,) masses in GeV. selected: (N,) bool. edges: of the bins, GeV.

    >>> mass = np.array([1.0, 1.0, 3.0, 3.0])
    >>> round(js_distance(mass, mass < 2, np.array([0, 2, 4])), 3)
    0.558
    """
    return float(_distance(np.histogram(mass, edges)[0], np.histogram(mass[selected], edges)[0], edges))


def _distance(p: np.ndarray, q: np.ndarray, edges: Sequence[float] | np.ndarray) -> np.ndarray:
    """Distances of spectra q (..., B) from p (B,)."""
    if not p.sum() or not q.sum(axis=-1).all():
        raise InputError(f"no events within {edges[0]:g} to {edges[-1]:g} GeV; widen the mass range")
    return jensenshannon(np.broadcast_to(p, q.shape), q, base=2, axis=-1)


def js_floor(mass: np.ndarray, selected: int, edges: np.ndarray, seed: int = 0, draws: int = 50) -> tuple[float, float]:
    """Mean and standard deviation of `js_distance` for random selections of `selected` events.

    That is the distance which statistics alone makes: a selection that knows nothing of the mass has it too.
    """
    content, _ = np.histogram(mass, edges)
    return _floor((*content.tolist(), len(mass) - int(content.sum())), selected, tuple(edges), seed, draws)


@functools.lru_cache(64)  # trials of a search are all judged by the same events
def _floor(
    content: tuple[int, ...], selected: int, edges: tuple[float, ...], seed: int, draws: int
) -> tuple[float, float]:
    """`js_floor` of a spectrum, the last of whose numbers are the events outside."""
    # What falls into the bins when events are drawn without replacement; drawing events takes 500 times as long.
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(content, selected, draws)
    found = _distance(np.array(content[:-1]), drawn[:, :-1], edges)
    return float(np.mean(found)), float(np.std(found))


def above_floor(distance: float, floor: float, floor_std: float) -> float | None:
    """How many standard deviations a distance is above its floor, (distance - floor) / floor_std (see `js_floor`).

    None if random selections are all alike, floor_std = 0: then there is nothing to measure it by.

    >>> above_floor(0.2, 0.1, 0.05), above_floor(0.2, 0.1, 0.0)
    (2.0, None)
    """
    return float((distance - floor) / floor_std) if floor_std > 0 else None


def _weighted_distance(mass: np.ndarray, weight: np.ndarray, chosen: np.ndarray, edges: np.ndarray) -> float | None:
    """`js_distance` of weighted spectra; bins whose weights add up to less than 0 count as empty. None if all do."""
    p, q = (np.histogram(mass[which], edges, weights=weight[which])[0].clip(0) for which in (slice(None), chosen))
    return float(_distance(p, q, edges)) if p.any() and q.any() else None


def _weighted_floor(
    mass: np.ndarray, weight: np.ndarray, selected: int, edges: np.ndarray, seed: int, draws: int = 50
) -> tuple[float, float] | None:
    """As `js_floor`, of weighted events, whose random selections have to be drawn one by one.

    Selections in which the weights of every bin cancel have no distance, and are left out; None if all are such.
    """
    rng, bins = np.random.default_rng(seed), len(edges) - 1
    place = np.where(mass == edges[-1], bins, np.searchsorted(edges, mass, side="right"))  # 0 and bins + 1 are outside

    def spectrum(some: np.ndarray | slice) -> np.ndarray:
        return np.bincount(place[some], weight[some], bins + 2)[1:-1].clip(0)

    p = spectrum(slice(None))
    drawn = (spectrum(rng.permutation(len(mass))[:selected]) for _ in range(draws))
    left = [float(_distance(p, q, edges)) for q in drawn if p.any() and q.any()]
    return (float(np.mean(left)), float(np.std(left))) if left else None


def sculpting(
    score: np.ndarray,
    mass: np.ndarray,
    percentiles: Sequence[float] = PERCENTILES,
    bins: int = MASS_BINS,
    seed: int = 0,
    weight: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:
    """How much cutting on the score shapes the mass spectrum, at percentiles of the score, with statistical floor.

    Args:
        score, mass: (N,), mass in GeV. percentiles: in (0, 100). bins: equal bins over the range of the masses.
        weight: (N,), of percentiles and spectra; bins whose weights add up to less than 0 count as empty.

    Returns:
        For every percentile: `distance` (see `js_distance`), `floor` and `floor_std` (see `js_floor`), `events`.

    Raises `InputError` for scores that are not finite, too few, or so alike that none is above a percentile.
    """
    if np.shape(score) != np.shape(mass):
        raise InputError(f"score has shape {np.shape(score)}, expected {np.shape(mass)}, one for each event")
    _check_scores(score)
    edges = np.histogram_bin_edges(mass, bins)
    found = {}
    for percentile in percentiles:
        chosen = score > (
            np.percentile(score, percentile) if weight is None else weighted_quantile(score, percentile / 100, weight)
        )
        if not chosen.any():
            raise InputError(f"no score is above its {percentile:g}th percentile: the scores are (nearly) constant")
        found[f"{percentile:g}"] = sculpting_of(
            chosen, mass, edges, seed, weight, f"above the {percentile:g}th percentile of the score"
        )
    return found


def sculpting_where_possible(
    score: np.ndarray,
    mass: np.ndarray,
    percentiles: Sequence[float],
    bins: int,
    seed: int,
    weight: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:
    """Return what `sculpting` does, without the percentiles above which there is no event, or none with a weight.

    >>> list(sculpting_where_possible(np.array([0.0, 1.0, 1.0, 1.0]), np.arange(4.0), [10, 90], 2, 0))
    ['10']
    """
    found: dict[str, dict[str, float]] = {}
    for percentile in percentiles:
        try:
            found |= sculpting(score, mass, [percentile], bins, seed, weight)
        except InputError:
            continue
    return found


def sculpting_of(
    chosen: np.ndarray, mass: np.ndarray, edges: np.ndarray, seed: int, weight: np.ndarray | None, where: str
) -> dict[str, float]:
    """How much a selection, (N,) bool, shapes the mass spectrum: what `sculpting` returns of one percentile.

    >>> mass = np.arange(1000.0)
    >>> found = sculpting_of(mass % 2 > 0, mass, np.linspace(0, 1000, 11), 0, None, "")
    >>> found["events"], found["distance"] < found["floor"]
    (500, True)
    """
    events = int(chosen.sum())
    if weight is None:
        distance, (floor, spread) = js_distance(mass, chosen, edges), js_floor(mass, events, edges, seed)
    else:
        measured = _weighted_distance(mass, weight, chosen, edges)
        at_random = _weighted_floor(mass, weight, events, edges, seed)
        if measured is None or at_random is None:
            raise InputError(
                f"the weights of the {events} events {where} add up to nothing in every bin of the mass; take a lower "
                f"percentile, or ignore the weights"
            )
        distance, (floor, spread) = measured, at_random
    return {"distance": distance, "floor": floor, "floor_std": spread, "events": events}


def weights_of(events: Events, ignore: bool = False) -> tuple[np.ndarray | None, str]:
    """Return weights (N,) float64, None where all events count alike, and what to say of them.

    That is "none" without weights or if all are the same, "ignored" if so asked, or "used".

    >>> weights_of(Events.from_arrays(np.zeros((2, 1)), [3e3, 3e3], ["x"], weight=[1, -1]))
    (array([ 1., -1.]), 'used')
    """
    weight = events.weight.astype(np.float64) if events.has("weight") else None
    if weight is None or not len(weight) or not np.ptp(weight):
        return None, "none"
    return (None, "ignored") if ignore else (weight, "used")


def warn_unweighted(*samples: Events) -> None:
    """Warn of events whose weights a study does not count by.

    >>> warn_unweighted(Events.from_arrays(np.zeros((2, 1)), [3e3, 3e3], ["x"]))
    """
    for events in samples:
        if weights_of(events)[0] is not None:
            warnings.warn(f"{events.name}: these events have weights, and each is counted once here", stacklevel=3)


def evaluate(score: np.ndarray, events: Events, seed: int = 0, ignore_weights: bool = False) -> dict[str, object]:
    """Judge scores with truth: AUC and signal efficiencies per signal label, sculpting of the background.

    Events count by their weights, also by those below 0, unless `ignore_weights`. Without labels there are no AUCs, and
    the sculpting is that of all events. A signal efficiency asked for at a background efficiency that fewer than one
    background event would pass is None.

    Returns a dict ready for JSON: `auc`, `signal_efficiency` and `improvement` (the best S/sqrt(B), see
    `significance_improvement`) by label, `sculpting` by percentile, `weights` (see `weights_of`), `events` by label,
    `label_names`. Raises `InputError` for scores that cannot be judged (see `sculpting`).
    """
    mass = events.mass
    if np.shape(score) != np.shape(mass):
        raise InputError(f"score has shape {np.shape(score)}, expected {np.shape(mass)}, one for each event")
    weight, said = weights_of(events, ignore_weights)
    if not events.has_labels:
        shaped = sculpting(score, mass, seed=seed, weight=weight)
        return {"auc": {}, "signal_efficiency": {}, "sculpting": shaped, "weights": said, "events": {}}
    label = events.label
    background = label == 0
    if not background.any():
        raise InputError(
            f"{events.name}: no event has label 0, expected background; labels are {sorted(set(label.tolist()))}"
        )
    return {
        **_by_label(score, label, weight),
        "sculpting": sculpting(
            score[background], mass[background], seed=seed, weight=None if weight is None else weight[background]
        ),
        "weights": said,
        "events": {str(k): int(n) for k, n in zip(*np.unique(label, return_counts=True))},
        "label_names": {str(k): v for k, v in events.about.label_names.items()},
    }


def _by_label(score: np.ndarray, label: np.ndarray, weight: np.ndarray | None) -> dict[str, dict[str, Any]]:
    """AUC, signal efficiencies and best S/sqrt(B) of every signal."""
    found: dict[str, dict[str, Any]] = {"auc": {}, "signal_efficiency": {}, "improvement": {}}
    chosen = label == 0
    background = score[chosen]
    for k in np.unique(label[label > 0]).tolist():
        signal = score[label == k]
        both = None if weight is None else (weight[chosen], weight[label == k])
        found["auc"][str(k)] = auc(background, signal, both)
        found["signal_efficiency"][str(k)] = {
            f"{eps:g}": signal_efficiency(background, signal, eps, both) if eps * len(background) >= 1 else None
            for eps in BACKGROUND_EFFICIENCIES
        }
        if len(background) >= LEAST:
            found["improvement"][str(k)] = significance_improvement(background, signal, weights=both)
    return found


def _check_scores(*scores: np.ndarray) -> None:
    for score in scores:
        bad = np.count_nonzero(~np.isfinite(score))
        if bad or not len(score):
            found = f"{bad} of {len(score)} scores are NaN or infinite" if bad else "there are no scores"
            raise InputError(
                f"{found}; expected finite ones: has the training diverged, or the selection kept nothing?"
            )
