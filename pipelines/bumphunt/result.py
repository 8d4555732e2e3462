"""What a search did and found: `Search`, and how its numbers are said."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.bumphunt.bump_hunt import Bump, BumpHunt
from pipelines.events.events import Events

SHORT = {"m_jj": "mj1j2", "m_jjj": "mj1j2j3"}  # the usual names of the masses of two and of three jets


@dataclasses.dataclass(frozen=True)
class Search:
    """What a search did and found.

    Attributes:
        hunt: a `Bump` for every selection, and the global p-value of all together.
        events: the N events hunted, those within the range of one spectrum at least, in the order of their file.
        rows: (N,), which of the events given they are.
        scores: (N,) float64, higher is more anomalous; with folds, ranks in (0, 1) within the fold.
        score_std: (N,), standard deviation over the members of the model; None of a single one, and with folds.
        fold: (N,), which model has scored an event, one that was trained on the other folds; None without folds.
        masses: by spectrum, (N,) in GeV. ranges: by spectrum, its ends in GeV.
        weight: (N,), or None if all events count alike.
        sculpting: by spectrum, tail and percentile: Jensen-Shannon `distance` between the spectra of all and of
            selected events, its statistical `floor` and `floor_std`, and the number of `events` selected. Weights do
            not count here.
        truth: per bump, what labels say of it (see `pipelines.bumphunt.truth`); None if there are none, or they were to be ignored.
        configuration: model, options, seed, versions, data with checksum, command.
    """

    hunt: BumpHunt
    events: Events
    rows: np.ndarray
    scores: np.ndarray
    score_std: np.ndarray | None
    fold: np.ndarray | None
    masses: Mapping[str, np.ndarray]
    ranges: Mapping[str, tuple[float, float]]
    weight: np.ndarray | None
    sculpting: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
    truth: Sequence[Mapping[str, object]] | None
    configuration: Mapping[str, Any]

    def selected(self, bump: Bump) -> np.ndarray:
        """Return which events the cut of a bump selects within the range of its spectrum, (N,) bool."""
        if bump.threshold_curve is not None:
            beyond = bump.threshold_curve.beyond(self.scores, self.masses[bump.spectrum], bump.tail)
        else:
            beyond = self.scores > bump.threshold if bump.tail == "upper" else self.scores < bump.threshold
        selected: np.ndarray = beyond & self.in_range(bump)
        return selected

    def in_interval(self, bump: Bump) -> np.ndarray:
        """Return which events, selected or not, are in the interval of a bump, (N,) bool; none if it has none."""
        return self._within(bump, *bump.interval) if bump.interval else np.zeros(len(self.scores), bool)

    def in_range(self, bump: Bump) -> np.ndarray:
        """Return which events are within the range of a bump's spectrum, (N,) bool."""
        return self._within(bump, *self.ranges[bump.spectrum])

    def _within(self, bump: Bump, low: float, high: float) -> np.ndarray:
        mass = self.masses[bump.spectrum]
        # as in a histogram, only the last bin has its upper edge
        return (mass >= low) & ((mass <= high) if high == bump.edges[-1] else (mass < high))

    def to_dict(self) -> dict[str, object]:
        """Return all numbers but those of single events and pseudo-experiments, ready for JSON."""
        return {
            **self.summary(),
            "hunt": self.hunt.to_dict(),
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
            "sculpting": self.sculpting,
            "truth": self.truth,
            "configuration": self.configuration,
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON text; NaN and infinities do not occur."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def summary(self) -> dict[str, object]:
        """Return the result in short: the best bump, the p-value with all trials, and each selection's numbers.

        `truth_used` says whether labels chose the model's hyperparameters (see `truth_in_tuning`).
        """
        names = ("spectrum", "percentile", "tail", "threshold", "selected_events", "local_p_value", "local_significance",
                 "fisher_p_value", "fisher_significance", "global_p_value", "global_p_value_is_bound",
                 "global_significance", "interval", "mass_estimate", "signal_estimate")  # fmt: skip
        each = [{name: getattr(bump, name) for name in names} for bump in self.hunt.bumps]
        best = each[self.hunt.bumps.index(self.hunt.best)]
        overall = ("global_p_value", "global_p_value_is_bound", "global_significance", "trials_factor")
        more = ("pseudo_experiments", "events")
        truth_used = truth_in_tuning(self.configuration) is not None
        return {
            **{name: best[name] for name in names if name not in overall},
            **{name: getattr(self.hunt, name) for name in (*overall, *more)},
            "truth_used": truth_used,
            "selections": each,
        }


def truth_in_tuning(configuration: Mapping[str, Any]) -> str | None:
    """Return what to say where labels chose the hyperparameters of the run that a search used; None if they did not.

    `configuration["run"]["tuning"]` is what `tune` wrote into the run's config.json. A model that is told the truth while
    it is trained says so there too, as `yardstick`, or in `configuration["training"]`.

    >>> truth_in_tuning({"run": {"tuning": {"truth_used": True, "objective": "auc:two-prong"}}})
    "TRUTH USED: labels chose this model's hyperparameters (tune --objective auc:two-prong)"
    """
    told = [(configuration.get(part) or {}).get("yardstick") for part in ("run", "training")]
    if yardstick := next(filter(None, told), None):
        return f"TRUTH USED: {yardstick}"
    tuning = (configuration.get("run") or {}).get("tuning") or {}
    if not tuning.get("truth_used"):
        return None
    given = [tuning.get(name) for name in ("objective", "search")]  # of `best` the first is the number it reached
    objective = next((f" (tune --objective {text})" for text in given if isinstance(text, str)), "")
    return f"TRUTH USED: labels chose this model's hyperparameters{objective}"


def z_text(z: float | None, bound: bool = False) -> str:
    """Return a significance as text; a lower bound is rounded down, and Fisher's of weighted events is none.

    >>> z_text(2.93), z_text(4.06, bound=True), z_text(None)
    ('2.9', '> 4.0', '-')
    """
    if z is None:
        return "-"
    return f"> {math.floor(z * 10) / 10:.1f}" if bound else f"{z:.1f}"
