"""How much signal a bump hunt finds: significance and efficiency against the number of signal events that are injected.

Gaussian signal of several numbers of events is added to a background, many times each, and each of these spectra is hunted in
as the data are. The global p-value of each comes from the pseudo-experiments of background alone. Few of these are as
extreme as 5 sigma. Beyond the last of them p is extrapolated (Gross and Vitells 2010, arXiv:1005.1891):

    p(t) = exp(-t) + N exp(-z^2 / 2)

t is -ln of the smallest local p-value and z the significance of exp(-t). N is the number that gives the share of
pseudo-experiments beyond the `TAIL`-th largest. Rows say which part of the repetitions is extrapolated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr, ndtri_exp
from scipy.stats import binomtest

from pipelines.bumphunt.fit_functions import Array
from pipelines.errors import InputError

REPEATS = 400  # spectra of every number of signal events
TARGETS = (3.0, 5.0)  # sigma, of which the reach is told
QUANTILES = (0.16, 0.5, 0.84)
TAIL = 50  # pseudo-experiments beyond the point from which on global p-values are extrapolated
STEPS, FARTHEST = 9, 12.0  # numbers of signal events by default, up to so many standard deviations of the background
CORE = 1.4  # standard deviations of the signal's mass on each side within which S/B is told


@dataclasses.dataclass(frozen=True)
class DiscoveryReach:
    """What a bump hunt finds of a Gaussian signal, against its number of events.

    Attributes:
        mass, width: mean and standard deviation of the signal's mass. repeats: spectra of every number of events.
        background: events expected within 1.4 standard deviations of the mass, of which S/B is told.
        rows: for every number of `events`: `s_over_b`; `local` and `global` significance, each as [16 %, median, 84 %] of the
            repetitions; `extrapolated`, the share of the global ones that are; `mass_bias`, mass estimate minus mass, likewise,
            None where no window has an excess; `in_window`, the share whose window holds the mass; `efficiency`, by target the
            share whose global significance reaches it, with its interval of 68 % (Wilson): [low, share, high].
        reach: by kind of significance and target `events` and `s_over_b` at which the median reaches it, and `band`, the
            events at which the 84 % quantile and the 16 % quantile do. None where no row reaches it.
    """

    mass: float
    width: float
    repeats: int
    background: float
    rows: tuple[Mapping[str, Any], ...]
    reach: Mapping[str, Mapping[str, Any]]

    def to_dict(self) -> dict[str, object]:
        """Return everything, ready for JSON."""
        return dataclasses.asdict(self)


class GlobalSignificance:
    """Turns test statistics into global significances; see the top of this module.

    Args:
        pseudo_experiments: (n,) test statistics, -ln p, of background alone.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> ten_windows = -np.log(rng.random((100_000, 10)).min(axis=1))
        >>> of = GlobalSignificance(ten_windows[:10_000])
        >>> exact = -ndtri_exp(np.log(-np.expm1(10 * np.log1p(-np.exp(-14.0)))))
        >>> bool(abs(of.at([14.0])[0] - exact) < 0.15)
        True
    """

    def __init__(self, pseudo_experiments: ArrayLike):
        self._sorted = np.sort(np.asarray(pseudo_experiments, np.float64))
        n = len(self._sorted)
        if not n:
            raise InputError("0 pseudo-experiments, expected some, in which background alone is hunted")
        beyond = min(TAIL, max(1, n // 20))
        self.last = float(self._sorted[n - beyond])
        share = (beyond + 1) / (n + 1)
        z = float(significances(np.array([-self.last]))[0])
        self._log_number = np.log(max(share - np.exp(-self.last), 1e-12 * share)) + z**2 / 2

    def extrapolated(self, statistics: ArrayLike) -> NDArray[np.bool_]:
        """Return which statistics (T,) are beyond the last of the pseudo-experiments that are counted, bool."""
        return np.asarray(np.asarray(statistics) > self.last, bool)

    def at(self, statistics: ArrayLike) -> Array:
        """Return the global significance of test statistics (T,)."""
        t = np.asarray(statistics, np.float64)
        n = len(self._sorted)
        counted = n - np.searchsorted(self._sorted, t - 1e-9)
        log_p = np.log((counted + 1) / (n + 1))
        far = self.extrapolated(t)
        log_p[far] = np.minimum(
            np.logaddexp(-t[far], self._log_number - significances(-t[far]) ** 2 / 2), log_p[~far].min(initial=0.0)
        )
        return significances(log_p)


def significances(log_p: ArrayLike) -> Array:
    """Return the standard deviations (T,) of one-sided p-values given by their logarithms; 0 for p of a half or more.

    >>> significances(np.log([0.00135, 0.7])).round(2).tolist(), significances([-5000.0]).round(1).tolist()
    ([3.0, 0.0], [99.9])
    """
    return np.maximum(0.0, -ndtri_exp(np.asarray(log_p, np.float64)))


def default_events(background: float) -> tuple[int, ...]:
    """Return the numbers of signal events that are injected by default: up to 12 standard deviations of the background.

    >>> default_events(100.0)
    (0, 18, 36, 54, 72, 90, 108, 126, 144)
    """
    inside = 1 - 2 * float(np.exp(log_ndtr(-CORE)))
    most = FARTHEST * np.sqrt(background + 1) / inside
    return tuple(int(np.ceil(n)) for n in np.linspace(0, most, STEPS))


def check_signal(
    mass: float, width: float, events: Sequence[float] | None, repeats: int, ends: tuple[float, float]
) -> None:
    """Raise `InputError` for a signal that cannot be, or outside of the spectrum.

    >>> check_signal(3500, 100, None, 100, (2700, 5000))
    """
    if not (np.isfinite([mass, width]).all() and width > 0 and ends[0] <= mass <= ends[1]):
        raise InputError(
            f"injected signal of mass {mass:g} and width {width:g}, expected a mass within the spectrum, {ends[0]:g} to "
            f"{ends[1]:g}, and a width above 0"
        )
    if events is not None and (not len(events) or min(events) < 0 or not np.isfinite(events).all()):
        raise InputError(
            f"injected events {', '.join(f'{n:g}' for n in events) or 'none'}, expected numbers of at least 0"
        )
    if repeats < 2:
        raise InputError(f"{repeats} repeats of every number of injected events, expected at least 2")


def core_of(edges: Array, content: Array, mass: float, width: float) -> float:
    """Return the content of bins, spread evenly within each, that is within 1.4 standard deviations of a mass.

    >>> core_of(np.array([0.0, 10.0, 20.0]), np.array([100.0, 100.0]), 10, 1)
    28.0
    """
    low, high = mass - CORE * width, mass + CORE * width
    overlap = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None)
    return round(float(content @ (overlap / np.diff(edges))), 9)


def row_of(
    events: float,
    background: float,
    log_p: Array,
    ends: tuple[Array, Array],
    masses: Array,
    mass: float,
    judged: GlobalSignificance,
) -> dict[str, Any]:
    """Return the row of one number of events: `log_p` (T,) of the best windows, their `ends` and mass estimates (T,)."""
    statistics = np.maximum(0.0, -log_p).round(6)
    z = judged.at(statistics)
    found = log_p < 0
    inside = 1 - 2 * float(np.exp(log_ndtr(-CORE)))
    return {
        "events": float(events),
        "s_over_b": inside * events / background if background > 0 else None,
        "local": np.quantile(significances(log_p), QUANTILES).tolist(),
        "global": np.quantile(z, QUANTILES).tolist(),
        "extrapolated": float(judged.extrapolated(statistics).mean()),
        "mass_bias": (np.quantile(masses[found], QUANTILES) - mass).tolist() if found.any() else None,
        "in_window": float(np.mean(found & (ends[0] <= mass) & (mass < ends[1]))),
        "efficiency": {f"{target:g}": share_of(z >= target) for target in TARGETS},
    }


def share_of(reached: ArrayLike) -> list[float]:
    """Return the share of those that reach something, with its interval of 68 % (Wilson): [low, share, high].

    >>> share_of([True, False])[1]
    0.5
    """
    reached = np.asarray(reached, bool)
    count, n = int(np.count_nonzero(reached)), len(reached)
    interval = binomtest(count, n).proportion_ci(0.68, "wilson")
    return [float(interval.low), count / n, float(interval.high)]


def reach_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return by kind and target at how many events quantiles of the significance reach it, between rows linearly."""
    events = np.array([row["events"] for row in rows])
    found: dict[str, dict[str, Any]] = {}
    for kind in ("local", "global"):
        low, middle, high = np.array([row[kind] for row in rows]).T
        found[kind] = {}
        for target in TARGETS:
            needed = crossing(events, middle, target)
            per_event = next(
                (row["s_over_b"] / row["events"] for row in rows if row["events"] and row["s_over_b"]), None
            )
            s_over_b = None if needed is None or per_event is None else needed * per_event
            band = [crossing(events, quantile, target) for quantile in (high, low)]
            found[kind][f"{target:g}"] = {"events": needed, "s_over_b": s_over_b, "band": band}
    return found


def crossing(events: ArrayLike, values: ArrayLike, target: float) -> float | None:
    """Return where values that rise with the events reach a target first, linear in between; None if they do not.

    >>> crossing([0, 20], [0.5, 1.5], 1.0), crossing([20, 0], [1.5, 0.5], 1.0), crossing([0, 20], [0.5, 1.5], 2.0)
    (10.0, 10.0, None)
    """
    order = np.argsort(events, kind="stable")
    events, values = np.asarray(events, np.float64)[order], np.asarray(values, np.float64)[order]
    there = np.flatnonzero(values >= target)
    if not len(there):
        return None
    i = int(there[0])
    if i == 0:
        return float(events[0])
    share = (target - values[i - 1]) / (values[i] - values[i - 1])
    return float(events[i - 1] + share * (events[i] - events[i - 1]))


def mass_estimates(edges: Array, excess: Array, start: ArrayLike, width: ArrayLike) -> Array:
    """Return the mean mass of the excess (B, T) in a window of each spectrum, kept within the window, (T,)."""
    centres = (edges[1:] + edges[:-1]) / 2
    first, last = np.asarray(start), np.asarray(start) + np.asarray(width)
    columns = np.arange(excess.shape[1])
    sums = []
    for values in (excess, excess * centres[:, None]):
        below = np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(axis=0)])
        sums.append(below[last, columns] - below[first, columns])
    total, moment = sums
    mean = np.divide(moment, total, out=(edges[first] + edges[last]) / 2, where=total != 0)
    return np.clip(mean, edges[first], edges[last])


def said(reach: DiscoveryReach, kind: str = "global") -> str:
    """Return the reach as a sentence; see `reach_said`."""
    return reach_said(reach.to_dict(), kind)


def reach_said(reach: Mapping[str, Any], kind: str = "global") -> str:
    """Return what `DiscoveryReach.to_dict` gives as a sentence.

    >>> one = {"events": 20.0, "s_over_b": 0.1, "band": [10.0, None]}
    >>> none = {"events": None, "s_over_b": None, "band": [None, None]}
    >>> reach_said({"mass": 3500, "width": 100, "reach": {"global": {"3": one, "5": none}}})
    'Signal at 3500, width 100: median of 3 sigma (global) at 20 events, S/B 10 %; of 5 sigma at none of those injected.'
    """
    parts: list[str] = []
    for target, one in reach["reach"][kind].items():
        where = f"{one['events']:,.0f} events" if one["events"] is not None else "none of those injected"
        ratio = "" if one["s_over_b"] is None else f", S/B {100 * one['s_over_b']:.3g} %"
        parts.append(f"of {target} sigma{'' if parts else f' ({kind})'} at {where}{ratio}")
    return f"Signal at {reach['mass']:g}, width {reach['width']:g}: median {'; '.join(parts)}."
