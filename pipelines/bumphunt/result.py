"""What a search did and found: `Search`, and how its numbers are said."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.bumphunt.bump_hunt import Bump, BumpHunt, p_text, significance
from pipelines.bumphunt.spectrum_result import SpectrumHunt
from pipelines.events.events import Events
from pipelines.metrics import above_floor
from pipelines.printed import as_html, plain_table

SURE = 3.0  # standard deviations above its floor from which on sculpting is there
SHORT = {"m_jj": "mj1j2", "m_jjj": "mj1j2j3"}  # the usual names of the masses of two and of three jets


@dataclasses.dataclass(frozen=True)
class Contributions:
    """What each input contributes to the score of selected events, on average (see `zoo.explain`).

    Attributes:
        names: of the inputs. mean, error: over the selected events, in units of the score. others: of other events, or None.
        events: how many. kind, method: of the score, and how it was explained. baseline, selected: in words, against what, and
            which events.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    error: tuple[float, ...]
    others: tuple[float, ...] | None
    events: int
    kind: str
    method: str
    baseline: str
    selected: str

    def to_dict(self) -> dict[str, object]:
        """Return everything, ready for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()
        }


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
            selected events, its statistical `floor` and `floor_std`, and the number of `events` selected, of one
            threshold for all masses. Weighted events count by weight.
        sculpting_following: the same of thresholds that follow the mass, of the percentiles for which there are such.
        truth: per bump, what labels say of it (see `pipelines.bumphunt.truth`); None if there are none, or they were to be ignored.
        configuration: model, options, seed, versions, data with checksum, command.
        fits: for every bump the hunt in its selected spectrum with a fitted background, if that was asked for.
        explained: what each input contributes to the scores of the selected events, if that was asked for.
        following: the same hunt with cuts that follow the mass, made where one threshold was asked for and cannot be
            believed. following_refused: why there is none, if that was impossible.
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
    sculpting_following: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
    truth: Sequence[Mapping[str, Any]] | None
    configuration: Mapping[str, Any]
    following: BumpHunt | None = None
    following_refused: str | None = None
    fits: tuple[SpectrumHunt, ...] = ()
    explained: Contributions | None = None

    @property
    def best_fit(self) -> SpectrumHunt | None:
        """The hunt with a fitted background of smallest global p-value, of equal ones smallest local one; None without."""
        return min(self.fits, key=lambda fit: (fit.global_p_value, -fit.test_statistic), default=None)

    @property
    def fit_global_p_value(self) -> float | None:
        """The global p-value of all hunts with a fitted background: the smallest times their number (Bonferroni), at most 1."""
        return None if self.best_fit is None else min(1.0, len(self.fits) * self.best_fit.global_p_value)

    @property
    def believed(self) -> BumpHunt | None:
        """The hunt whose p-value may be quoted: this one, or with cuts that follow the mass; None if its reference fails.

        A reference fails that does not describe the selected spectrum outside the interval of the best bump
        (`Bump.reference_describes`); one of which that is not known does not. One threshold for all masses fails as well if
        it shapes the spectrum (`sculpted`).
        """
        if self.hunt.best.reference_describes is not False and not self.sculpted:
            return self.hunt
        if self.following is not None and self.following.best.reference_describes is not False:
            return self.following
        return None

    @property
    def sculpted(self) -> bool:
        """Whether one threshold for all masses, that of the best bump, shapes the spectrum more than statistics explain.

        That is by more than 3 standard deviations above the floor; False for a threshold that follows the mass.
        """
        best = self.hunt.best
        one = self.sculpting.get(best.spectrum, {}).get(best.tail, {}).get(f"{best.percentile:g}")
        if best.threshold_curve is not None or one is None:
            return False
        above = above_floor(one["distance"], one["floor"], one["floor_std"])
        return above is not None and above > SURE

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
            "fits": [fit.to_dict() for fit in self.fits],
            "following": None if self.following is None else self.following.to_dict(),
            "following_refused": self.following_refused,
            "explained": None if self.explained is None else self.explained.to_dict(),
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
            "sculpting": self.sculpting,
            "sculpting_following": self.sculpting_following,
            "truth": self.truth,
            "configuration": self.configuration,
        }

    def __str__(self) -> str:
        """The bumps of the hunt that may be believed, else of this one, in a table, and the p-value of all together.

        With a fitted background a table of its hunts besides, and their p-value.
        """
        fit, quoted = self.best_fit, self._quoted()
        hunt = self.believed or self.hunt
        n = hunt.pseudo_experiments if fit is None else fit.pseudo_experiments
        by = "" if fit is None else f", with the background {fit.background.kind} fitted to the selected spectrum"
        said = "No p-value may be quoted: the reference does not describe the selected spectrum, or the cut shapes it."
        if quoted["global_p_value"] is not None:
            p, bound, z = (quoted[name] for name in QUOTED)
            said = f"Global p-value {p_text(p, bound, n)}, {z_text(z, bound)} sigma, of {n:,} pseudo-experiments{by}."
        elif fit is not None:
            said = "No p-value may be quoted: the fitted background does not describe the selected spectrum."
        fits = [] if fit is None else ["With a fitted background:", plain_table(*fit_table(self)), ""]
        return "\n".join([f"{hunt.events:,} events", "", plain_table(*selection_table(self)), "", *fits, said])

    def _repr_html_(self) -> str:
        return as_html(str(self))

    def to_json(self) -> str:
        """Return `to_dict` as JSON text; NaN and infinities do not occur."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def summary(self) -> dict[str, object]:
        """Return the result in short: the best bump, the p-value with all trials, and each selection's numbers.

        The bump and the p-value are those that may be believed: of this hunt, of that with a threshold that follows the mass, or
        of that with a fitted background. Where none may be, p-values and significances are None. `selections` are those of this
        hunt, whatever may be believed of it.
        `believed` has the p-value and significance that may be quoted, and the cut that they are of; its values are None
        where the reference describes no selected spectrum (see `Search.believed`). `truth_used` says whether labels chose the model's hyperparameters (see `truth_in_tuning`).
        """
        names = ("spectrum", "percentile", "tail", "threshold", "selected_events", "local_p_value", "local_significance",
                 "fisher_p_value", "fisher_significance", "global_p_value", "global_p_value_is_bound",
                 "global_significance", "interval", "mass_estimate", "signal_estimate", "absorbed",
                 "reference_p_value")  # fmt: skip
        each = [{name: getattr(bump, name) for name in names} for bump in self.hunt.bumps]
        told = self.believed or self.hunt
        best = {name: getattr(told.best, name) for name in names} | self._of_fit()
        overall = (*QUOTED, "trials_factor", "pseudo_experiments", "events")
        truth_used, believed = truth_in_tuning(self.configuration) is not None, self._quoted()
        valid = self.believed is not None if self.best_fit is None else self.best_fit.believed
        return {
            **{name: best[name] for name in names if name not in overall},
            **{name: best[name] if self.fits and name in best else getattr(told, name) for name in overall},
            **({} if valid else dict.fromkeys(SIGNIFICANCES)),
            "believed": believed,
            "truth_used": truth_used,
            "selections": each,
        }

    def _of_fit(self) -> dict[str, object]:
        """What a hunt with a fitted background says of its bump instead of the hunt without; nothing where there is none."""
        fit = self.best_fit
        if fit is None:
            return {}
        bump = self.hunt.bumps[next(i for i, one in enumerate(self.fits) if one is fit)]
        same = ("spectrum", "percentile", "tail", "threshold", "selected_events")
        p, bound = self.fit_global_p_value or 1.0, fit.global_p_value_is_bound
        return {
            **{name: getattr(bump, name) for name in same},
            **{name: getattr(fit, name) for name in ("local_p_value", "local_significance", "interval", "mass_estimate",
                                                     "signal_estimate", "pseudo_experiments")},
            "fisher_p_value": None, "fisher_significance": None, "absorbed": 0.0,
            "reference_p_value": fit.judged.p_value, **dict(zip(QUOTED, (p, bound, significance(p)))),
            "trials_factor": None if bound else p / fit.global_p_value,
        }  # fmt: skip

    def _quoted(self) -> dict[str, Any]:
        if self.best_fit is not None:
            return self._quoted_of_fit(self.best_fit)
        hunt, names = self.believed, QUOTED
        cut = "mass" if hunt is not None and hunt.best.threshold_curve is not None else "global"
        return {
            "cut": None if hunt is None else cut,
            "background": None if hunt is None else "spectrum",
            **{name: getattr(hunt, name, None) for name in names},
        }

    def _quoted_of_fit(self, fit: SpectrumHunt) -> dict[str, Any]:
        if not fit.believed:
            return dict.fromkeys(("cut", "background", *QUOTED))
        cut, p = self.configuration["options"]["cut"], self.fit_global_p_value
        numbers = (p, fit.global_p_value_is_bound, significance(1.0 if p is None else p))
        return {"cut": cut, "background": fit.background.kind, **dict(zip(QUOTED, numbers))}


QUOTED = ("global_p_value", "global_p_value_is_bound", "global_significance")
SIGNIFICANCES = (
    *QUOTED,
    "trials_factor",
    "local_p_value",
    "local_significance",
    "fisher_p_value",
    "fisher_significance",
)


def truth_in_tuning(configuration: Mapping[str, Any]) -> str | None:
    """Return the text for a search whose run has hyperparameters that labels chose; None if labels did not.

    `configuration["run"]["tuning"]` is what `tune` wrote into the run's config.json. A model that uses the truth in its
    training has a text `yardstick` there, or in `configuration["training"]`.

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


def selection_table(search: Search) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of a table with a row for every selection; what cannot be believed is "-"."""
    believed = search.believed
    hunt = believed or search.hunt
    several = len({bump.spectrum for bump in hunt.bumps}) > 1
    heads = ["spectrum"] * several + ["percentile", "tail", "selected", "interval [GeV]", "mass [GeV]", "excess",
                                      "local Z", "Fisher Z", "global Z", "global p"]  # fmt: skip
    rows = []
    for bump in hunt.bumps:
        interval = f"{bump.interval[0]:.0f} to {bump.interval[1]:.0f}" if bump.interval else "none"
        mass = f"{bump.mass_estimate:.0f}" if bump.interval else "-"
        bound = bump.global_p_value_is_bound
        significances = [f"{bump.local_significance:.1f}", z_text(bump.fisher_significance),
                         z_text(bump.global_significance, bound),
                         p_text(bump.global_p_value, bound, hunt.pseudo_experiments)]  # fmt: skip
        rows.append([bump.spectrum] * several + [f"{bump.percentile:g}", bump.tail, f"{bump.selected_events:,}", interval,
                    mass, f"{bump.signal_estimate:.1f}", *(significances if believed else ["-"] * 4)])  # fmt: skip
    return heads, rows


def fit_table(search: Search) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of a table of the hunts with a fitted background; what cannot be believed is "-"."""
    heads = ["percentile", "tail", "background", "its p", "interval [GeV]", "excess", "local Z", "global Z", "global p"]
    rows = []
    for bump, fit in zip(search.hunt.bumps, search.fits):
        interval = f"{fit.interval[0]:.0f} to {fit.interval[1]:.0f}" if fit.interval else "none"
        bound = fit.global_p_value_is_bound
        numbers = [f"{fit.local_significance:.1f}", z_text(fit.global_significance, bound),
                   p_text(fit.global_p_value, bound, fit.pseudo_experiments)]  # fmt: skip
        rows.append([f"{bump.percentile:g}", bump.tail, fit.background.kind, f"{fit.judged.p_value:.2g}", interval,
                     f"{fit.signal_estimate:.1f}", *(numbers if fit.believed else ["-"] * 3)])  # fmt: skip
    return heads, rows


def z_text(z: float | None, bound: bool = False) -> str:
    """Return a significance as text; a lower bound is rounded down, and there is none of Fisher's test that was not made.

    >>> z_text(2.93), z_text(4.06, bound=True), z_text(None)
    ('2.9', '> 4.0', '-')
    """
    if z is None:
        return "-"
    return f"> {math.floor(z * 10) / 10:.1f}" if bound else f"{z:.1f}"
