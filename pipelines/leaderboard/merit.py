"""What scores are worth: the figures of merit of one model with their errors, as rows of a table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from scipy.stats import rankdata

from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.leaderboard.table import FIGURES, WORKING_POINTS, Table


def measure(background: np.ndarray, signal: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return each figure of merit of `FIGURES` with its standard error, from the scores of Nb and Ns events.

    AUC: error by DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837 (`auc_error`).
    eps_S at a background efficiency eps_B (Hsieh and Turnbull, Ann. Statist. 24 (1996) 25):

        var(eps_S) = eps_S (1 - eps_S) / Ns + (d eps_S / d eps_B)^2 eps_B (1 - eps_B) / Nb

    The first term is the count of the signal. It is taken as the variance of its posterior for Jeffreys' prior, so
    that 0 of 100 is not 0 +- 0. The second is the threshold, which finite background puts in the wrong place: half
    of what eps_S changes over eps_B +- sqrt(eps_B (1 - eps_B) / Nb). It holds to 10 % where some 10 background events
    pass; of fewer it is rough, and the value itself is biased.

    Args:
        background, signal: scores (Nb,) and (Ns,), higher = more anomalous. Weights are not used.

    Returns:
        For each figure: value and error; NaN and NaN where fewer than one background event would pass.

    Raises `InputError` for fewer than two events of either, or scores that are not finite.

    >>> found = measure(np.arange(1000.0), np.array([5.0, 995.0, 2000.0, 2000.0]))
    >>> {figure: (round(value, 3), round(error, 3)) for figure, (value, error) in found.items()}
    {'AUC': (0.75, 0.248), '1e-2': (0.75, 0.187), '1e-3': (0.5, 0.204), '1e-4': (nan, nan)}
    """
    from pipelines.metrics import auc, signal_efficiency  # they bring scikit-learn, which tables do without

    background, signal = np.asarray(background, float), np.asarray(signal, float)
    found = {"AUC": (auc(background, signal), auc_error(background, signal))}
    for figure, eps_b in zip(FIGURES[1:], WORKING_POINTS):
        if eps_b * len(background) < 1:
            found[figure] = (np.nan, np.nan)
            continue
        eps_s = signal_efficiency(background, signal, eps_b)
        error = np.hypot(_count_error(eps_s, len(signal)), _threshold_error(background, signal, eps_b))
        found[figure] = (eps_s, float(error))
    return found


def auc_error(background: np.ndarray, signal: np.ndarray) -> float:
    """Standard error of the AUC: sqrt(var(V_S) / Ns + var(V_B) / Nb), DeLong et al., Biometrics 44 (1988) 837.

    V_S is, for each signal event, the share of background below it, ties counted half; V_B likewise. By ranks, as
    Sun and Xu, IEEE Signal Process. Lett. 21 (2014) 1389. It is 0 for scores that do not overlap.

    background, signal: scores (Nb,) and (Ns,). Raises `InputError` for fewer than two of either.

    >>> round(auc_error(np.array([0.0, 1.0, 2.0]), np.array([1.5, 3.0, 4.0])), 4)
    0.1571
    """
    if min(len(background), len(signal)) < 2:
        raise InputError(
            f"{len(background)} background and {len(signal)} signal scores, expected at least 2 of each for an error"
        )
    together = rankdata(np.r_[signal, background])
    of_signal = (together[: len(signal)] - rankdata(signal)) / len(background)
    of_background = (together[len(signal) :] - rankdata(background)) / len(signal)
    return float(np.sqrt(of_signal.var(ddof=1) / len(signal) + of_background.var(ddof=1) / len(background)))


def _count_error(efficiency: float, events: int) -> float:
    """Standard deviation of Beta(k + 1/2, n - k + 1/2), the posterior of k of n for Jeffreys' prior."""
    mean = (efficiency * events + 0.5) / (events + 1)
    return np.sqrt(mean * (1 - mean) / (events + 2))


def _threshold_error(background: np.ndarray, signal: np.ndarray, eps_b: float) -> float:
    from pipelines.metrics import signal_efficiency

    shift = np.sqrt(eps_b * (1 - eps_b) / len(background))
    looser, tighter = (signal_efficiency(background, signal, x) for x in (min(eps_b + shift, 1), max(eps_b - shift, 0)))
    return (looser - tighter) / 2


def entries(model: str, channel: str, background: np.ndarray, signals: Mapping[str, np.ndarray]) -> Table:
    """Return the rows of one model in one channel: scores of the background, and of each signal by its name.

    Raises `InputError` as `measure`, and for a model, a channel or a signal without a name.

    >>> rng = np.random.default_rng(0)
    >>> table = entries("mine", "2b", rng.normal(size=10_000), {"stop": rng.normal(2, size=500)})
    >>> round(float(table.values[0, 0]), 2), round(float(table.errors[0, 0]), 3)
    (0.91, 0.006)
    """
    if not signals:
        raise InputError(f"{model}, channel {channel}: no signal, expected scores of at least one")
    for what, name in (("model", model), ("channel", channel), *(("signal", name) for name in signals)):
        _check_name(what, name)
    found = [list(measure(background, scores).values()) for scores in signals.values()]
    names = np.array(list(signals))
    values, errors = np.moveaxis(np.array(found), -1, 0)
    return Table(names, np.full(len(names), model), np.full(len(names), channel), values, errors)


def _check_name(what: str, name: str) -> None:
    if name != name.strip() or not name.isprintable() or not name:
        raise InputError(f"{what} {name!r}: expected a name, without blanks at its ends or control characters")


def judge(score: np.ndarray, events: Events, *, model: str, channel: str) -> Table:
    """Return the rows of one model for labelled events of one channel: every signal against all background.

    A signal is a process where the events know processes, as converted challenge files do, otherwise a label.
    Weights are not used, as nowhere in the challenge; a warning says if they differ within the background.

    Args:
        score: (N,), higher = more anomalous. events: N events with labels, 0 background.
        model, channel: what the rows are to say.

    Raises `InputError` as `measure`, and for events without labels, without background or without signal.

    >>> from pipelines import Events
    >>> label = np.array([0, 0, 0, 0, 1, 1])
    >>> events = Events.from_arrays(np.ones((6, 1)), np.ones(6), ["x"], label=label, label_names={1: "stop"})
    >>> table = judge(np.arange(6.0), events, model="mine", channel="1")
    >>> table.pairs, float(table.values[0, 0])
    ((('stop', '1'),), 1.0)
    """
    if np.shape(score) != (len(events),):
        raise InputError(f"{events.name}: scores of shape {np.shape(score)}, expected ({len(events)},), one an event")
    if not events.has_labels:
        raise InputError(f"{events.name}: has no labels; only events whose truth is known can be judged")
    score, label = np.asarray(score), events.label
    if not (label == 0).any() or not (label > 0).any():
        missing = "signal (label above 0)" if (label == 0).any() else "background (label 0)"
        raise InputError(f"{events.name}: no {missing}; expected both; convert background and signals into one file")
    weight = events.weight[label == 0]
    if weight.min() != weight.max():
        warnings.warn(f"{events.name}: weights differ within the background and are not used", stacklevel=2)
    number, names = label, events.about.label_names
    if events.has("process"):
        number, names = events.read("process"), events.about.process_names or names
    signals = {names.get(int(k), str(k)): score[(number == k) & (label > 0)] for k in np.unique(number[label > 0])}
    return entries(model, channel, score[label == 0], signals)
