"""Signal mixed into events, searched end to end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipelines.bumphunt.bump_hunt import Bump, BumpHunt
from pipelines.bumphunt.options import SearchOptions, with_changes
from pipelines.bumphunt.result import Search
from pipelines.bumphunt.scores import Model
from pipelines.bumphunt.search import search
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
    `selections` are the same of each selection, whose global significance is its own.
    """
    hunt = result.hunt
    each = [_numbers_of(result, i) for i in range(len(hunt.bumps))]
    return each[hunt.bumps.index(hunt.best)] | _global(hunt) | {"selections": each}


def _global(judged: BumpHunt | Bump) -> dict[str, Any]:
    return {"global": judged.global_significance, "global_p_value": judged.global_p_value,
            "global_is_bound": judged.global_p_value_is_bound}  # fmt: skip


def _numbers_of(result: Search, selection: int) -> dict[str, Any]:
    bump, nothing = result.hunt.bumps[selection], dict.fromkeys(("before", "selected"))
    truth: Any = {} if result.truth is None else result.truth[selection]["signals"]
    one: dict[str, Any] = next(iter(truth.values())) if len(truth) == 1 else {}
    ratio = one.get("s_over_b", nothing)
    return {
        "spectrum": bump.spectrum, "percentile": bump.percentile, "tail": bump.tail,
        "selected_events": bump.selected_events, "local": bump.local_significance, "fisher": bump.fisher_significance,
        **_global(bump), "mass_estimate": bump.mass_estimate, "interval": bump.interval,
        "signal_events": one.get("before"), "s_over_b": ratio["before"], "s_over_b_selected": ratio["selected"],
        **{name: one.get(name) for name in ("gain", "gain_interval", "efficiency", "mass_bias")},
    }  # fmt: skip
