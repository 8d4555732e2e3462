"""What the report of a search says in words: names of its selections, the verdict, and the caveats."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.bumphunt.bump_hunt import DESCRIBES, Bump, BumpHunt, significance
from pipelines.bumphunt.result import SHORT, SURE, Search, truth_in_tuning, z_text
from pipelines.bumphunt.spectrum_result import SpectrumHunt
from pipelines.metrics import above_floor
from pipelines.plots.hunt import p_value_text
from pipelines.report.spectrum_report import EVIDENCE, WORTH_A_LOOK, goodness, heading
from pipelines.report.spectrum_report import verdict as spectrum_verdict

USUAL = {column: short for short, column in SHORT.items()}
ONE = ("none", "1", "at most 1")  # of them "is"
SEEN = 2.0  # standard deviations above its floor from which on sculpting is suspected


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


def lead(search: Search) -> str:
    """Say in one sentence what was found, with the one number that may be believed."""
    if search.best_fit is not None:
        return _lead_of_fit(search, search.best_fit)
    hunt = search.believed
    if hunt is None:
        return f"No number of this search can be believed: {_why_not(search)}."
    what = "bump" if hunt.mode == "excess" else "deficit"
    if hunt.best.interval is None:
        return f"Nothing was found: no window has {'an excess' if hunt.mode == 'excess' else 'a deficit'} of events."
    p = p_value_text(hunt.global_p_value, hunt.global_p_value_is_bound, hunt.pseudo_experiments)
    z = z_text(hunt.global_significance, hunt.global_p_value_is_bound)
    low, high = hunt.best.interval
    if hunt.global_significance < WORTH_A_LOOK and not hunt.global_p_value_is_bound:
        return _nothing(hunt.global_p_value, z, p, what, low, high)
    head = heading(hunt.global_significance, hunt.global_p_value_is_bound, what)
    return f"{head}: {z} sigma ({p}, global) for a {what} at {low:.0f} to {high:.0f} GeV."


def _nothing(p_value: float, z: str, said: str, what: str, low: float, high: float) -> str:
    """Say that a window is no more than background alone makes."""
    share = f"{100 * p_value:.0f} %"  # of 2 or more: below, it is worth a look
    return (
        f"No evidence of a {what}: of searches in background alone {share} find one as significant as that at {low:.0f} to "
        f"{high:.0f} GeV ({said}, global; {z} sigma)."
    )


def _lead_of_fit(search: Search, fit: SpectrumHunt) -> str:
    if not fit.believed:
        return f"No number of this search can be believed. {goodness(fit)}"
    what = "bump" if fit.mode == "excess" else "deficit"
    if fit.interval is None:
        return f"Nothing was found: no window has {'an excess' if fit.mode == 'excess' else 'a deficit'} of events."
    p = search.fit_global_p_value or 1.0
    z, bound = significance(p), fit.global_p_value_is_bound
    one = p_value_text(fit.global_p_value, bound, fit.pseudo_experiments)
    of = f"{one}, global" if len(search.fits) == 1 else f"{len(search.fits)} selections x {one}, global"
    low, high = fit.interval
    if z < WORTH_A_LOOK and not bound:
        with_fit = f"with the background {fit.background.kind} fitted to the selected spectrum"
        return f"{_nothing(p, z_text(z, bound), of.removesuffix(', global'), what, low, high)[:-1]}, {with_fit}."
    return (
        f"{heading(z, bound, what)}: {z_text(z, bound)} sigma ({of}) for a {what} at {low:.0f} to {high:.0f} GeV, with the "
        f"background {fit.background.kind} fitted to the selected spectrum."
    )


def _why_not(search: Search) -> str:
    hunt = search.following or search.hunt
    if hunt.best.reference_describes is False:
        return f"the reference does not describe the selected spectrum outside the bump ({reference_p(hunt.best)})"
    return "the cut on the score shapes the mass spectrum"


def in_figure(search: Search, bump: Bump) -> str:
    """Return the one number, for the figure of the reported bump; nothing for other bumps."""
    hunt = search.believed
    if hunt is None or bump is not hunt.best or search.fits:
        return ""
    p = p_value_text(hunt.global_p_value, hunt.global_p_value_is_bound, hunt.pseudo_experiments)
    return f"{z_text(hunt.global_significance, hunt.global_p_value_is_bound)} sigma, global\n{p}"


def fit_in_figure(search: Search) -> str:
    """Return the one number of a search with a fitted background, for its figure."""
    fit, p = search.best_fit, search.fit_global_p_value
    if fit is None or p is None:
        return ""
    bound = fit.global_p_value_is_bound
    sign = "<" if bound else "="
    return f"{z_text(significance(p), bound)} sigma, global\np {sign} {p:.3g}"


def reference_p(bump: Bump) -> str:
    p = bump.reference_p_value
    return "not known: too few bins" if p is None else "p < 1e-06" if p < 1e-6 else f"p = {p:.2g}"


def verdict(search: Search, names: Names, window: Mapping[str, Any]) -> str:
    """Say in one paragraph what was looked for and what was found; `window` is `tables.in_interval` of the best bump."""
    if search.best_fit is not None:
        return f"{_looked_for(search, names)} {spectrum_verdict(search.best_fit)}"
    return " ".join(filter(None, [_looked_for(search, names), _found(search, names, window), _meaning(search)]))


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


def _found(search: Search, names: Names, window: Mapping[str, Any]) -> str:
    hunt = search.believed or search.hunt
    best = hunt.best
    if best.interval is None:
        return f"No window has {'an excess' if hunt.mode == 'excess' else 'a deficit'} of events: nothing was found."
    expected, error = window["expected"]
    number = names.bumps[hunt.bumps.index(best)]
    where = f" ({number})" if len(hunt.bumps) > 1 else f" ({number}: {best.selected_events:,} events)"
    said = (
        f"The most significant window is {best.interval[0]:.0f} to {best.interval[1]:.0f} GeV{where}: "
        f"{window['observed']:,.0f} selected events where {expected:,.0f} ± {error:,.0f} are expected. {_one_sided(best)}"
    )
    if search.believed is None:
        return said.strip()
    p = p_value_text(hunt.global_p_value, hunt.global_p_value_is_bound, hunt.pseudo_experiments)
    return (
        f"{said}Of pseudo-experiments of background alone, {_as_extreme(hunt)} of {hunt.pseudo_experiments:,} "
        f"{'is' if _as_extreme(hunt) in ONE else 'are'} as extreme in any window"
        f"{'' if len(hunt.bumps) == 1 else ' of any selection'} ({p}, "
        f"{z_text(hunt.global_significance, hunt.global_p_value_is_bound)} sigma)."
    )


def _one_sided(bump: Bump) -> str:
    if bump.interval is None:
        return ""
    at_an_end = bump.interval[0] == bump.edges[0] or bump.interval[1] == bump.edges[-1]
    return "It reaches an end of the spectrum, so it has a side band on one side only. " if at_an_end else ""


def _as_extreme(hunt: BumpHunt) -> str:
    number = round(hunt.global_p_value * (hunt.pseudo_experiments + 1)) - 1  # the data themselves are one more
    if not hunt.global_p_value_is_bound:
        return f"{number:,}"
    return f"at most {number:,}" if number else "none"


# -- what can be believed ---------------------------------------------------------------------------


def beliefs(search: Search) -> list[tuple[str, bool]]:
    """Say what the numbers assume and whether that holds, in paragraphs; with each, whether to be alarmed."""
    fit = search.best_fit
    said = [_reference(search)] if fit is None else [(_of_fit(search, fit), not fit.believed)]
    if tuned := truth_in_tuning(search.configuration):
        said.append(
            (
                f"{tuned}. No search in data without labels could have this model, and no p-value here knows of it: a "
                "bump where the tuning had its signal is no evidence of one.",
                True,
            )
        )
    if (search.configuration.get("options") or {}).get("folds") == 1:
        said.append(
            (
                "The model was trained on the very events that it scores, so background events need not be exchangeable, and "
                "the global p-value is not guaranteed. Folds are (--folds).",
                True,
            )
        )
    best = (search.believed or search.hunt).best
    if best.threshold_curve is not None and best.interval is not None:
        much = best.absorbed > MUCH
        said.append(
            (
                f"The threshold follows the mass as a polynomial of degree {best.threshold_curve.degree} in log m. Of an excess "
                f"in this window it takes away {100 * best.absorbed:.0f} %: so much is missing in the number of signal "
                "events."
                + (
                    " That is much: a bump at the end of the spectrum, or this wide, looks like a slope."
                    if much
                    else ""
                ),
                False,
            )
        )
    return [*said, caveat(search)]


def warnings_of(search: Search) -> list[str]:
    """Return the warnings at the top of the report: which numbers are not valid, and why."""
    return [text.removeprefix("Caveat. ") for text, alarming in beliefs(search) if alarming]


def _of_fit(search: Search, fit: SpectrumHunt) -> str:
    """What a hunt with a fitted background assumes, and whether that holds."""
    several = (
        "" if len(search.fits) == 1 else f" The p-value is {len(search.fits)} times the smallest of the selections."
    )
    return (
        f"The p-value assumes that {fit.background.kind} describes background in the selected spectrum, which is smooth if the "
        f"cut makes no shape of its own. {goodness(fit)}{several} The hunt with the spectrum before the cut as the reference is "
        "below, for comparison."
    )


MUCH = 0.5  # of an excess that the threshold takes away


def _reference(search: Search) -> tuple[str, bool]:
    """Whether the reference describes the selected spectrum outside the bump, and what follows."""
    best = search.hunt.best
    cut = _assumed(search.hunt)
    if search.sculpted and best.reference_describes is not False:
        fails = f"A hunt at this cut assumes that {cut}. That fails, or there is a signal: the cut shapes the mass spectrum."
        return f"{fails} {_instead(search)}", True
    if best.reference_describes is None:
        return (
            f"The p-values assume that {cut}. Whether that holds cannot be told: there are too few bins outside the bump.",
            True,
        )
    if best.reference_describes:
        return (
            f"The p-values assume that {cut}. Outside the bump the reference describes the selected spectrum "
            f"({reference_p(best)}), as it should then.",
            False,
        )
    fails = (
        f"A hunt at this cut assumes that {cut}. That fails: outside the bump the reference does not describe the selected "
        f"spectrum ({reference_p(best)}). So its significances, local and global, say nothing, and are not shown."
    )
    return f"{fails} {_instead(search)}", True


ANOTHER = "Take another score, or a background that is fitted to the selected spectrum (--background auto)."


def _instead(search: Search) -> str:
    if search.following is not None and search.believed is None:
        return (
            f"The same hunt with a threshold that follows the mass assumes less: {_of_following(search.following)} So that "
            f"fails too. {ANOTHER}"
        )
    if search.following is not None:
        again = "So the number above is of the same hunt with a threshold that follows the mass, which assumes less: "
        return f"{again}{_of_following(search.following)}"
    if search.following_refused is not None:
        return f"A threshold that follows the mass was not possible: {search.following_refused}. {ANOTHER}"
    return f"The score changes faster with the mass than a threshold may follow. {ANOTHER}"


def _of_following(hunt: BumpHunt) -> str:
    described = hunt.best.reference_describes
    word = "does" if described else "does not" if described is False else "may or may not"
    return (
        f"that {_assumed(hunt)}. Outside its own bump the reference {word} describe the selected spectrum "
        f"({reference_p(hunt.best)})."
    )


def _assumed(hunt: BumpHunt) -> str:
    """What the p-values of a hunt assume of background."""
    if hunt.best.threshold_curve is None:
        return "the score of background does not depend on the mass"
    return "the score of background changes with the mass no faster than the threshold follows it"


def assumptions(search: Search, hunt: BumpHunt) -> dict[str, str]:
    """Return what the local, Fisher's and the global p-value of a hunt assume, and that of the reference."""
    thrown = {
        "shuffled": "with the selection shuffled among the events",
        "poisson": "of Poisson numbers around the reference, which makes p too large at loose cuts",
    }[hunt.null]
    fitted = "" if hunt.best.threshold_curve is None else ", and the threshold fitted to each to first order"
    return {
        "global": f"{hunt.pseudo_experiments:,} pseudo-experiments {thrown}{fitted}; over all windows and selections. It "
        f"assumes that {_assumed(hunt)}.",
        "local": "Poisson probability of this one window, chosen after the fact; the reference taken as exact.",
        "fisher": "Fisher's exact test of this one window, chosen after the fact; the errors of the reference are in it.",
        "reference": "chi2 of the selected spectrum outside the window, given the reference; it should not be below "
        f"{DESCRIBES:g}.",
    }


def together(search: Search) -> str:
    """Say the p-value of all selections together."""
    hunt = search.believed
    if hunt is None:
        return "No p-value and no significance is shown: what they assume fails."
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
    hunt = search.believed
    if hunt is None or hunt.best.interval is None:
        return ""
    if hunt.global_p_value_is_bound and hunt.global_significance < EVIDENCE:
        often = f"less than one such search in {1 / hunt.global_p_value:,.0f}"
        return f"Background alone does this in {often}; more pseudo-experiments would tell how rarely."
    if hunt.global_significance < WORTH_A_LOOK:
        return "Background alone does this often: there is no evidence of anything else."
    if hunt.global_significance < EVIDENCE:
        often = f"about one such search in {1 / hunt.global_p_value:,.0f}"
        return f"Background alone does this in {often}: worth a look, and no evidence."
    return (
        "If what is assumed below holds, a fluctuation of background does this very rarely. That is no discovery: it asks "
        "for what else could make it, for other models and seeds, and for other data."
    )


def caveat(search: Search) -> tuple[str, bool]:
    """Say whether the cut of the best bump sculpts the spectrum and what that means, and whether to be alarmed."""
    best = search.hunt.best
    follows = best.threshold_curve is not None
    measured = search.sculpting_following if follows else search.sculpting
    one = measured.get(best.spectrum, {}).get(best.tail, {}).get(f"{best.percentile:g}")
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
    before = _one_threshold(search, best) if follows else ""
    if above <= SEEN:
        return (
            f"Caveat. The cut on the score does not visibly shape the mass spectrum ({said}){before}: the distance between "
            "the spectra before and after is one that random selections have too. Shapes smaller than the floor cannot be "
            "seen, and would be taken for a bump.",
            False,
        )
    more = "somewhat more than random selections usually do" if above <= SURE else "more than statistics can explain"
    differ = f"Caveat. Spectra before and after the cut on the score differ by {more} ({said}){before}."
    if follows:
        return (
            f"{differ} Either the score changes with the mass faster than the threshold may follow, or there is a signal, "
            "which makes them differ too. A sample of background alone tells which.",
            above > SURE or best.reference_describes is not True,
        )
    if search.believed is not None and search.believed is search.following:
        return (
            f"{differ} So either the score depends on the mass, or there is a signal. The number above is of a threshold that "
            "follows the mass, and not of this cut.",
            True,
        )
    return (
        f"{differ} Either the score depends on the mass, and then the cut makes bumps of its own which no p-value here can "
        "tell from a signal: look at the share selected as a function of the mass, or take a threshold that follows the "
        "mass (--cut mass). Or there is a signal, which makes them differ too. A sample of background alone tells which.",
        True,
    )


def _one_threshold(search: Search, bump: Bump) -> str:
    """What the sculpting of one threshold for all masses would have been."""
    one = search.sculpting.get(bump.spectrum, {}).get(bump.tail, {}).get(f"{bump.percentile:g}")
    return "" if one is None else f"; that of one threshold for all masses would be {one['distance']:.4f}"


def listed(parts: Any) -> str:
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
selected events outside the window under study. It is right if the cut selects the same share of background at every mass: \
with one threshold, if the score of background does not depend on the mass; with a threshold that follows the mass, if the \
score changes no faster than that.

Local significance: how unlikely the number of events in one given window is, as standard deviations of a Gaussian, \
one-sided. Global significance: the same for the most extreme of all windows (and selections) that were looked at.

Pseudo-experiments: data as background alone would give. {null}

Test statistic: minus the logarithm of the smallest local p-value of all windows, as BumpHunter has it, arXiv:1101.0390."""

NULLS = {
    "shuffled": "Here the observed scores are shuffled among the observed masses, so that whatever relation there is "
    "between them is gone; a threshold that follows the mass is fitted again, to first order. If k of n of these are at least as extreme as the data, the p-value is (k + 1)/(n + 1): the "
    "data are one such dealing themselves. That is exact only if the scores of background events are exchangeable given "
    "their masses, which a model trained on these very events does not guarantee; folds do better.",
    "poisson": "Here every bin gets a Poisson number around the reference. That forgets that selected events are part "
    "of the reference, so p-values of loose cuts come out too large.",
}
