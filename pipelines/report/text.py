"""What the report of a search says in words: names of its selections, the verdict, and the caveats."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from pipelines.bumphunt.bump_hunt import Bump
from pipelines.bumphunt.result import SHORT, Search, truth_in_tuning, z_text
from pipelines.metrics import above_floor
from pipelines.plots.hunt import p_value_text

USUAL = {column: short for short, column in SHORT.items()}
ONE = ("none", "1", "at most 1")  # of them "is"
SEEN, SURE = 2.0, 3.0  # standard deviations above its floor from which on sculpting is suspected, and is there


@dataclasses.dataclass(frozen=True)
class Names:
    """Names of the spectra by what the search calls them, and of the selections in the order of the bumps."""

    spectra: Mapping[str, str]
    bumps: tuple[str, ...]
    cuts: tuple[str, ...]  # without the spectrum: those of several spectra are the same


def names_of(search: Search) -> Names:
    """Return how spectra and selections are called: only what tells them apart is said."""
    column = search.events.about.mass_column
    spectra = {
        name: USUAL.get(column, column) or name if name == "mass" else USUAL.get(name, name) for name in search.masses
    }
    if len(set(spectra.values())) < len(spectra):
        spectra = {name: name for name in search.masses}
    tails = {bump.tail for bump in search.hunt.bumps}
    cuts = tuple(
        f"percentile {bump.percentile:g}" + (f", {bump.tail} tail" if tails != {"upper"} else "")
        for bump in search.hunt.bumps
    )
    several = len(spectra) > 1
    bumps = tuple(f"{spectra[b.spectrum]}, {cut}" if several else cut for b, cut in zip(search.hunt.bumps, cuts))
    return Names(spectra, bumps, cuts)


def unit_of(search: Search, spectrum: str) -> float:
    """Return the weight of an equivalent unweighted event in a spectrum, sum w^2 / sum w; 1 without weights."""
    if search.weight is None:
        return 1.0
    low, high = search.ranges[spectrum]
    weight = search.weight[(search.masses[spectrum] >= low) & (search.masses[spectrum] <= high)].astype(np.float64)
    return float((weight**2).sum() / weight.sum())


def labels(search: Search) -> str:
    """Return what labels were used for, if anything."""
    judged, tuned = search.truth is not None, truth_in_tuning(search.configuration)
    if tuned:
        return f"{tuned}; {'used, to judge the result too' if judged else 'not used otherwise'}"
    return "used, to judge the result only" if judged else "not used"


# -- the verdict ------------------------------------------------------------------------------------


def verdict(search: Search, names: Names, window: Mapping[str, object]) -> str:
    """Say in one paragraph what was looked for and what was found; `window` is `tables.in_interval` of the best bump."""
    return " ".join([_looked_for(search, names), _found(search, names, window), _meaning(search)])


def _looked_for(search: Search, names: Names) -> str:
    hunt = search.hunt
    ranges = [f"{names.spectra[name]} from {low:.0f} to {high:.0f} GeV" for name, (low, high) in search.ranges.items()]
    what = "too many events" if hunt.mode == "excess" else "too few events"
    tails = {bump.tail for bump in hunt.bumps}
    ends = "largest" if tails == {"upper"} else "smallest" if tails == {"lower"} else "largest, or the smallest,"
    cuts = list(dict.fromkeys(f"{bump.percentile:g}" for bump in hunt.bumps))
    tuned = truth_in_tuning(search.configuration)
    return (
        f"This search looked for a narrow range with {what} in the spectrum of {listed(ranges)}, among those of "
        f"{hunt.events:,} events to which the model {search.configuration['model']} gives the {ends} anomaly scores "
        f"(percentile{'s' if len(cuts) > 1 else ''} {listed(cuts)}). The search itself looked at no label"
        f"{f'. {tuned}' if tuned else ''}."
    )


def _found(search: Search, names: Names, window: Mapping[str, object]) -> str:
    hunt, best = search.hunt, search.hunt.best
    if best.interval is None:
        return f"No window has {'an excess' if hunt.mode == 'excess' else 'a deficit'} of events: nothing was found."
    expected, error = window["expected"]
    number = names.bumps[hunt.bumps.index(best)]
    where = f" ({number})" if len(hunt.bumps) > 1 else f" ({number}: {best.selected_events:,} events)"
    trials = "windows" if len(hunt.bumps) == 1 else "windows and selections"
    said = p_value_text(hunt.global_p_value, hunt.global_p_value_is_bound, hunt.pseudo_experiments)
    return (
        f"The most significant window is {best.interval[0]:.0f} to {best.interval[1]:.0f} GeV{where}: "
        f"{window['observed']:,.0f} selected events where {expected:,.0f} ± {error:,.0f} are expected. "
        f"{_one_sided(best)}Its local significance is {best.local_significance:.1f} sigma. Since many {trials} were looked at, "
        f"what counts is the global one: {_as_extreme(search)} of {hunt.pseudo_experiments:,} pseudo-experiments of "
        f"background alone {'is' if _as_extreme(search) in ONE else 'are'} as extreme ({said}, "
        f"{z_text(hunt.global_significance, hunt.global_p_value_is_bound)} sigma)."
    )


def _one_sided(bump: Bump) -> str:
    at_an_end = bump.interval[0] == bump.edges[0] or bump.interval[1] == bump.edges[-1]
    return "It reaches an end of the spectrum, so it has a side band on one side only. " if at_an_end else ""


def _as_extreme(search: Search) -> str:
    hunt = search.hunt
    number = round(hunt.global_p_value * (hunt.pseudo_experiments + 1)) - 1  # the data themselves are one more
    if not hunt.global_p_value_is_bound:
        return f"{number:,}"
    return f"at most {number:,}" if number else "none"


def together(search: Search) -> str:
    """Say the p-value of all selections together."""
    hunt = search.hunt
    said = p_value_text(hunt.global_p_value, hunt.global_p_value_is_bound, hunt.pseudo_experiments)
    z = z_text(hunt.global_significance, hunt.global_p_value_is_bound)
    if len(hunt.bumps) == 1:
        return f"There is one selection, so its global p-value is that of the search: {said}, {z} sigma."
    factor = ""
    if hunt.trials_factor is not None:
        factor = f" That is {hunt.trials_factor:.2g} times the smallest in the table, the price of several selections."
    return (
        f"All {len(hunt.bumps)} selections together: {said}, {z} sigma. It was found from the same pseudo-experiments, "
        f"so that what selections have in common is taken into account.{factor}"
    )


def _meaning(search: Search) -> str:
    hunt = search.hunt
    if hunt.best.interval is None:
        return ""
    if hunt.global_p_value_is_bound and hunt.global_significance < 3:
        often = f"less than one such search in {1 / hunt.global_p_value:,.0f}"
        return f"Background alone does this in {often}; more pseudo-experiments would tell how rarely."
    if hunt.global_significance < 2:
        return "Background alone does this often: there is no evidence of anything else."
    if hunt.global_significance < 3:
        often = f"about one such search in {1 / hunt.global_p_value:,.0f}"
        return f"Background alone does this in {often}: worth a look, and no evidence."
    return (
        "If scores of background do not depend on the mass, a fluctuation of background does this very rarely. That is no "
        "discovery: it asks for what could make it (see the caveat), for other models and seeds, and for other data."
    )


def caveat(search: Search) -> tuple[str, bool]:
    """Say whether the cut of the best bump sculpts the spectrum and what that means, and whether to be alarmed."""
    best = search.hunt.best
    one = search.sculpting.get(best.spectrum, {}).get(best.tail, {}).get(f"{best.percentile:g}")
    if one is None:
        return (
            "Whether the cut on the score shapes the mass spectrum by itself is not known: it was not measured.",
            True,
        )
    above = above_floor(one["distance"], one["floor"], one["floor_std"])
    said = f"distance {one['distance']:.4f}, floor {one['floor']:.4f} ± {one['floor_std']:.4f}"
    if above is None:
        return (
            f"Caveat. Whether the cut on the score shapes the mass spectrum by itself cannot be told ({said}): random "
            "selections of as many events all have the same distance, so there is nothing to measure it by.",
            True,
        )
    if above <= SEEN:
        return (
            f"Caveat. The cut on the score does not visibly shape the mass spectrum ({said}): the distance between the "
            "spectra before and after is one that random selections have too. Shapes smaller than the floor cannot be "
            "seen, and would be taken for a bump.",
            False,
        )
    more = "somewhat more than random selections usually do" if above <= SURE else "more than statistics can explain"
    return (
        f"Caveat. Spectra before and after the cut on the score differ by {more} ({said}). Either the score depends "
        "on the mass, and then the cut makes bumps of its own which no p-value here can tell from a signal: look at the "
        "share selected as a function of the mass. Or there is a signal, which makes them differ too. A score that is "
        "decorrelated from the mass, or a sample of background alone, tells which.",
        True,
    )


def listed(parts) -> str:
    """
    >>> listed(["a", "b", "c"]), listed(["a"])
    ('a, b and c', 'a')
    """
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


TERMS = """\
Percentile: events are ordered by their anomaly score; percentile 99 of the upper tail selects the one percent with the \
largest scores, of the lower tail that with the smallest.

Reference: what is expected of background in the selected spectrum. It is the spectrum before the cut, scaled to the \
selected events outside the window under study. It is right if the score of background does not depend on the mass.

Local significance: how unlikely the number of events in one given window is, as standard deviations of a Gaussian, \
one-sided. Global significance: the same for the most extreme of all windows (and selections) that were looked at.

Pseudo-experiments: data as background alone would give. {null}

Test statistic: minus the logarithm of the smallest local p-value of all windows, as BumpHunter has it, arXiv:1101.0390."""

NULLS = {
    "shuffled": "Here the observed scores are dealt anew to the observed masses, so that whatever relation there is "
    "between them is gone. If k of n of these are at least as extreme as the data, the p-value is (k + 1)/(n + 1): the "
    "data are one such dealing themselves. That is exact only if the scores of background events are exchangeable given "
    "their masses, which a model trained on these very events does not guarantee; folds do better.",
    "poisson": "Here every bin gets a Poisson number around the reference. That forgets that selected events are part "
    "of the reference, so p-values of loose cuts come out too large.",
}
