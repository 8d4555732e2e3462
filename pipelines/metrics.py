"""Figures of merit: how well scores separate signal, and how little a selection shapes the mass spectrum."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from scipy.spatial.distance import jensenshannon

from pipelines.errors import InputError
from pipelines.events.events import Events

LEAST = 10  # background events that must pass for a best S/sqrt(B) to count
PERCENTILES = (50.0, 85.0, 95.0, 99.0)
BACKGROUND_EFFICIENCIES = (1e-1, 1e-2, 1e-3)
MASS_BINS = 40  # as the histogram of the bump hunt in GAN-AE sec. 4.3


def auc(background: np.ndarray, signal: np.ndarray) -> float:
    """Area under the ROC curve: the probability that a signal event scores above a background event.

    background, signal: scores, (Nb,) and (Ns,). Returns a number in [0, 1]; 0.5 is chance. Never flipped.

    >>> auc(np.array([0.0, 1.0]), np.array([2.0, 3.0]))
    1.0
    """
    from sklearn.metrics import roc_auc_score

    _check_scores(background, signal)
    truth = np.r_[np.zeros(len(background)), np.ones(len(signal))]
    return float(roc_auc_score(truth, np.r_[background, signal]))


def signal_efficiency(background: np.ndarray, signal: np.ndarray, background_efficiency: float) -> float:
    """Share of signal above the score that a share `background_efficiency` of the background passes.

    >>> signal_efficiency(np.arange(100.0), np.array([10.0, 95.0, 99.5, 200.0]), 0.1)
    0.75
    """
    _check_scores(background, signal)
    return float(np.mean(signal > np.quantile(background, 1.0 - background_efficiency)))


def significance_improvement(background: np.ndarray, signal: np.ndarray, least: int = LEAST) -> dict[str, float]:
    """The largest eps_S / sqrt(eps_B) over all thresholds: what a cut on the score does for S / sqrt(B).

    Only thresholds that at least `least` background events pass count: fewer say little about eps_B.

    background, signal: scores, (Nb,) and (Ns,). Returns `improvement`, its statistical `error` (binomial, of the numbers
    of events that pass), and the `background_efficiency` and `signal_efficiency` where it is.

    >>> found = significance_improvement(np.arange(1000.0), np.full(50, 900.5))
    >>> round(found["improvement"], 2), round(found["background_efficiency"], 3)
    (3.18, 0.099)
    """
    _check_scores(background, signal)
    if len(background) < least:
        raise InputError(f"{len(background)} background events; expected at least {least}")
    background, signal = np.sort(background), np.sort(signal)
    thresholds = np.unique(np.concatenate([background, signal]))
    b = 1 - np.searchsorted(background, thresholds) / len(background)  # events at or above each
    s = 1 - np.searchsorted(signal, thresholds) / len(signal)
    enough = np.rint(b * len(background)) >= least
    b, s = b[enough], s[enough]
    best = int(np.argmax(s / np.sqrt(b)))
    b, s = b[best], s[best]
    relative = np.sqrt((1 - s) / max(s * len(signal), 1.0) + (1 - b) / (4 * b * len(background)))
    return {
        "improvement": float(s / np.sqrt(b)),
        "error": float(s / np.sqrt(b) * relative),
        "background_efficiency": float(b),
        "signal_efficiency": float(s),
    }


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


def _distance(p: np.ndarray, q: np.ndarray, edges: Sequence[float]) -> np.ndarray:
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
def _floor(content: tuple[int, ...], selected: int, edges: tuple[float, ...], seed: int, draws: int):
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


def sculpting(
    score: np.ndarray,
    mass: np.ndarray,
    percentiles: Sequence[float] = PERCENTILES,
    bins: int = MASS_BINS,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """How much cutting on the score shapes the mass spectrum, at percentiles of the score, with statistical floor.

    Args:
        score, mass: (N,), mass in GeV. percentiles: in (0, 100). bins: equal bins over the range of the masses.

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
        chosen = score > np.percentile(score, percentile)
        if not chosen.any():
            raise InputError(f"no score is above its {percentile:g}th percentile: the scores are (nearly) constant")
        floor, spread = js_floor(mass, int(chosen.sum()), edges, seed)
        found[f"{percentile:g}"] = {
            "distance": js_distance(mass, chosen, edges),
            "floor": floor,
            "floor_std": spread,
            "events": int(chosen.sum()),
        }
    return found


def evaluate(score: np.ndarray, events: Events, seed: int = 0) -> dict[str, object]:
    """Judge scores with truth: AUC and signal efficiencies per signal label, sculpting of the background.

    Without labels there are no AUCs, and the sculpting is that of all events. A signal efficiency asked for
    at a background efficiency that fewer than one background event would pass is None.

    Returns a dict ready for JSON: `auc` and `signal_efficiency` by label, `sculpting` by percentile, `events` by
    label, `label_names`. Raises `InputError` for scores that cannot be judged (see `sculpting`).
    """
    mass = events.mass
    if np.shape(score) != np.shape(mass):
        raise InputError(f"score has shape {np.shape(score)}, expected {np.shape(mass)}, one for each event")
    if not events.has_labels:
        return {"auc": {}, "signal_efficiency": {}, "sculpting": sculpting(score, mass, seed=seed), "events": {}}
    label = events.label
    background = score[label == 0]
    if not len(background):
        raise InputError(
            f"{events.name}: no event has label 0, expected background; labels are {sorted(set(label.tolist()))}"
        )
    signals = {int(k): score[label == k] for k in np.unique(label) if k > 0}
    return {
        "auc": {str(k): auc(background, signal) for k, signal in signals.items()},
        "signal_efficiency": {
            str(k): {
                f"{eps:g}": signal_efficiency(background, signal, eps) if eps * len(background) >= 1 else None
                for eps in BACKGROUND_EFFICIENCIES
            }
            for k, signal in signals.items()
        },
        "sculpting": sculpting(background, mass[label == 0], seed=seed),
        "events": {str(k): int(n) for k, n in zip(*np.unique(label, return_counts=True))},
        "label_names": {str(k): v for k, v in events.about.label_names.items()},
    }


def _check_scores(*scores: np.ndarray) -> None:
    for score in scores:
        bad = np.count_nonzero(~np.isfinite(score))
        if bad or not len(score):
            found = f"{bad} of {len(score)} scores are NaN or infinite" if bad else "there are no scores"
            raise InputError(
                f"{found}; expected finite ones: has the training diverged, or the selection kept nothing?"
            )
