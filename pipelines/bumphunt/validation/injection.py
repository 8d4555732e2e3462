"""Signal mixed into events, searched end to end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import log_ndtr

from pipelines.bumphunt.bump_hunt import Bump, BumpHunt
from pipelines.bumphunt.discovery_reach import (
    QUANTILES,
    TARGETS,
    GlobalSignificance,
    crossing,
    share_of,
    significances,
)
from pipelines.bumphunt.options import SearchOptions, with_changes
from pipelines.bumphunt.result import Search
from pipelines.bumphunt.scores import Model
from pipelines.bumphunt.search import search
from pipelines.bumphunt.spectrum_result import SpectrumHunt
from pipelines.bumphunt.truth import judged
from pipelines.bumphunt.validation.mixtures import contaminated, within
from pipelines.events.events import Events


def injected(
    model: Model | Callable[[int, Events], Model],
    background: Events,
    signal: Events,
    s_over_b: float,
    *,
    options: SearchOptions | None = None,
    seed: int = 0,
    **changed: Any,
) -> Search:
    """Mix signal into background and search, from events to significance; with `folds`, training included.

    Args:
        model, options, changed: as for `pipelines.search`; a model that is given trained has not seen this mixture.
        background, signal, s_over_b: as for `contaminated`, of events within the mass range, if there is one.
        seed: of the mixture and the search.

    Returns:
        The `Search`; `paper_numbers` are those that papers print of it.
    """
    options = with_changes(options or SearchOptions(), {**changed, "seed": seed})
    ranges = options.mass_range
    ends = ranges.get("mass") if isinstance(ranges, Mapping) else ranges
    background, signal = within(ends, background, signal)
    return search(model, contaminated(background, signal, s_over_b, seed), options)


def paper_numbers(result: Search) -> dict[str, Any]:
    """Return what papers print of a search in labelled events, for the selection of smallest global p-value, and for each.

    `percentile`, `tail`; `local` and `fisher` significance; `global` significance, with all trials, `global_is_bound`;
    `mass_estimate`; and with one signal `signal_events`, `s_over_b` before and after the cut, their ratio `gain`,
    `gain_interval` (in the interval), signal `efficiency` of the cut, `mass_bias` in GeV. None without truth.
    `selections` are the same of each selection, whose global significance is its own, and `believed` those of what may be
    believed (`believed_numbers`).
    """
    hunt = result.hunt
    each = [_numbers_of(result, i) for i in range(len(hunt.bumps))]
    best = each[hunt.bumps.index(hunt.best)] | _global(hunt)
    return best | {"selections": each, "believed": believed_numbers(result)}


def believed_numbers(result: Search) -> dict[str, Any] | None:
    """Return the same numbers of the hunt whose p-value may be believed, and its `cut` and `background`; None without one.

    That is the hunt that was asked for, one with a threshold that follows the mass where one threshold fails, or the one with
    a fitted background (see `Search.believed`).
    """
    quoted = result.summary()["believed"]
    assert isinstance(quoted, Mapping)
    if quoted["global_p_value"] is None:
        return None
    about = {"cut": quoted["cut"], "background": quoted["background"], "global": quoted["global_significance"],
             "global_p_value": quoted["global_p_value"], "global_is_bound": quoted["global_p_value_is_bound"]}  # fmt: skip
    fit, hunt = result.best_fit, result.believed
    if fit is not None:
        numbers, judged_by = _of_fit(result, fit), (fit.toys, fit.test_statistic)
    else:
        assert hunt is not None
        numbers, judged_by = _of_bump(result, hunt.best), (hunt.best.pseudo_statistics, hunt.best.test_statistic)
    selections = len(result.hunt.bumps)
    return numbers | about | {"global_extrapolated": _extrapolated(about, *judged_by, selections)}


def _extrapolated(about: Mapping[str, Any], pseudo_experiments: np.ndarray, statistic: float, selections: int) -> float:
    """The global significance; where it is a bound, that of the best selection, extrapolated, times their number."""
    if not about["global_is_bound"]:
        return float(about["global"])
    z = GlobalSignificance(pseudo_experiments).at([statistic])
    return max(float(about["global"]), float(significances(log_ndtr(-z) + np.log(selections))[0]))


def injection_curve(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is believed of searches at several S/B, against S/B, and where the median reaches 3 and 5 sigma.

    Args:
        rows: `ratio` and `believed` (`believed_numbers`) of each search.

    Returns:
        `curve`: for each ratio `searches`, the share `believed` of them, and over them `global` (extrapolated where it is a
        bound), `local`, `efficiency`, `gain` and `mass_bias` as [16 %, median, 84 %], None where nothing is known. A search of
        which nothing is believed has 0 sigma. `extrapolated` is the share of all whose `global` is; `reaches`, by target, the
        share of all with its interval of 68 %.
        `reach`: by target, the S/B at which the median global significance reaches it, or None.

    Example:
        >>> rows = [{"ratio": r, "believed": {"global_extrapolated": 1000 * r, "local": 4.0}} for r in (0.001, 0.004)]
        >>> found = injection_curve(rows)
        >>> round(found["reach"]["3"], 6), found["curve"][1]["reaches"]["3"][1], found["curve"][0]["efficiency"]
        (0.003, 1.0, None)
    """
    curve = []
    for ratio in sorted({row["ratio"] for row in rows}):
        mine = [row["believed"] for row in rows if row["ratio"] == ratio]
        there = [one for one in mine if one is not None]
        z = np.array([0.0 if one is None else one["global_extrapolated"] for one in mine])
        values = {name: [one[name] for one in there if one.get(name) is not None]
                  for name in ("local", "efficiency", "gain", "mass_bias")}  # fmt: skip
        curve.append(
            {"ratio": ratio, "searches": len(mine), "believed": len(there) / len(mine),
             "global": np.quantile(z, QUANTILES).tolist(),
             "extrapolated": sum(bool(one.get("global_is_bound")) for one in there) / len(mine),
             **{name: np.quantile(some, QUANTILES).tolist() if some else None for name, some in values.items()},
             "reaches": {f"{target:g}": share_of(z >= target) for target in TARGETS}}
        )  # fmt: skip
    x, y = [one["ratio"] for one in curve], [one["global"][1] for one in curve]
    return {"curve": curve, "reach": {f"{target:g}": crossing(x, y, target) for target in TARGETS}}


def _of_fit(result: Search, fit: SpectrumHunt) -> dict[str, Any]:
    bump = result.hunt.bumps[next(i for i, one in enumerate(result.fits) if one is fit)]
    numbers = _of_bump(result, bump)
    true = _signal_in(result, bump).get("mass")
    bias = None if fit.mass_estimate is None or true is None else fit.mass_estimate - true
    return numbers | {
        "local": fit.local_significance, "fisher": None, "mass_estimate": fit.mass_estimate, "interval": fit.interval,
        "mass_bias": bias, "gain_interval": None,
    }  # fmt: skip


def _global(judged: BumpHunt | Bump) -> dict[str, Any]:
    return {"global": judged.global_significance, "global_p_value": judged.global_p_value,
            "global_is_bound": judged.global_p_value_is_bound}  # fmt: skip


def _numbers_of(result: Search, selection: int) -> dict[str, Any]:
    return _of_bump(result, result.hunt.bumps[selection])


def _signal_in(result: Search, bump: Bump) -> dict[str, Any]:
    """What truth says of the one signal in a bump; nothing without truth, or of several signals."""
    truth: Any = {} if result.truth is None else judged(result, bump)["signals"]
    return next(iter(truth.values())) if len(truth) == 1 else {}


def _of_bump(result: Search, bump: Bump) -> dict[str, Any]:
    one, nothing = _signal_in(result, bump), dict.fromkeys(("before", "selected"))
    ratio = one.get("s_over_b", nothing)
    return {
        "spectrum": bump.spectrum, "percentile": bump.percentile, "tail": bump.tail,
        "selected_events": bump.selected_events, "local": bump.local_significance, "fisher": bump.fisher_significance,
        **_global(bump), "mass_estimate": bump.mass_estimate, "interval": bump.interval,
        "signal_events": one.get("before"), "s_over_b": ratio["before"], "s_over_b_selected": ratio["selected"],
        **{name: one.get(name) for name in ("gain", "gain_interval", "efficiency", "mass_bias")},
    }  # fmt: skip
