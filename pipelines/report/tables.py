"""The tables of a search's report: every cell has the number it was made from, and `to_dict` gives both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.bumphunt.bump_hunt import DESCRIBES, Bump, BumpHunt, local_p_text, p_text, significance
from pipelines.bumphunt.limits import Limit, limit_of_cut
from pipelines.bumphunt.result import Search, z_text
from pipelines.bumphunt.spectrum_result import SpectrumHunt
from pipelines.metrics import above_floor
from pipelines.plots.selected import tiny
from pipelines.report.page import Page
from pipelines.report.text import Names, assumptions, labels, reference_p, unit_of

Show = Callable[[Any], str]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of numbers, and how each column says them.

    Attributes:
        columns: heading and a function from number to text, by key. rows: numbers by key; None is shown as a dash.
    """

    caption: str
    columns: Mapping[str, tuple[str, Show]]
    rows: Sequence[Mapping[str, object]]
    mark: str = ""

    def shown(self) -> list[list[str | None]]:
        """Return the cells as they are shown."""
        return [
            [None if row[key] is None else show(row[key]) for key, (_, show) in self.columns.items()]
            for row in self.rows
        ]

    def add_to(self, page: Page) -> None:
        """Put the table on a page."""
        page.table([heading for heading, _ in self.columns.values()], self.shown(), self.caption, mark=self.mark)

    def to_dict(self) -> dict[str, object]:
        """Return headings by key, rows of numbers, and the cells `shown`."""
        headings = {key: heading for key, (heading, _) in self.columns.items()}
        return {"columns": headings, "rows": [dict(row) for row in self.rows], "shown": self.shown()}


def whole(value: float) -> str:
    """
    >>> whole(12345.4), whole(-0.2)
    ('12,345', '0')
    """
    return f"{round(value):,}"


def count(value: float) -> str:
    """
    >>> count(6026.0), count(12.5)
    ('6,026', '12.5')
    """
    return whole(value) if value >= 100 or value == round(value) else f"{value:.3g}"


def gev(value: float) -> str:
    return f"{value:.0f}"


def digits(n: int) -> Show:
    """Return a function that says a number with n significant digits.

    >>> digits(2)(0.01234), digits(3)(1234567.0), digits(3)(2.0)
    ('0.012', '1,234,567', '2')
    """
    return lambda value: whole(value) if abs(value) >= 10**n else f"{value:.{n}g}"


def decimals(n: int) -> Show:
    return lambda value: f"{value:.{n}f}"


def percent(value: float) -> str:
    """
    >>> percent(0.1234), percent(0.00123)
    ('12.3 %', '0.123 %')
    """
    return f"{100 * value:.3g} %"


def span(value: Sequence[float]) -> str:
    return f"{value[0]:.0f} to {value[1]:.0f}"


def pm(value: Sequence[float]) -> str:
    """
    >>> pm((120.3, 4.96)), pm((0.0512, 0.0123))
    ('120.3 ± 5.0', '0.051 ± 0.012')
    """
    mean, error = value
    places = max(0, 1 - int(np.floor(np.log10(error)))) if error > 0 else 4
    return f"{mean:,.{places}f} ± {error:,.{places}f}"


def in_interval(search: Search, bump: Bump) -> dict[str, object]:
    """Return what is `observed` in the interval of a bump and what is `expected` there, with its error.

    The error is that of the events the reference is made of and of its normalisation, as in `plot_bump`.
    """
    if bump.interval is None:
        return {"observed": None, "expected": None}
    there = bump.window
    expected = float(np.array(bump.reference)[there].sum())
    of_events = expected * unit_of(search, bump.spectrum) * bump.normalisation
    of_scale = expected * bump.normalisation_error / bump.normalisation
    error = float(np.hypot(np.sqrt(of_events), of_scale))
    return {"observed": float(np.array(bump.observed)[there].sum()), "expected": (expected, error)}


def limit(search: Search) -> Limit | None:
    """Return the upper limit on signal events in the window of the reported bump; None if no result is valid."""
    if search.best_fit is not None:
        return search.best_fit.limit() if search.best_fit.believed else None
    hunt = search.believed
    if hunt is None or hunt.best.interval is None or hunt.mode == "deficit":
        return None
    best, interval = hunt.best, hunt.best.interval
    selected, events = (float(np.array(counts)[best.window].sum()) for counts in (best.observed, best.before))
    return limit_of_cut(
        selected, events, best.normalisation, best.normalisation_error, interval,
        unit=unit_of(search, best.spectrum), absorbed=best.absorbed,
    )  # fmt: skip


def limit_json(search: Search) -> dict[str, object] | None:
    """Return `limit` for JSON."""
    found = limit(search)
    return None if found is None else found.to_dict()


def selections(search: Search, names: Names) -> Table:
    columns: dict[str, tuple[str, Show]] = {
        "spectrum": ("spectrum", str),
        "percentile": ("percentile", digits(6)),
        "tail": ("tail", str),
        "threshold": ("cut on the score", digits(4)),
        "selected_events": ("events selected", whole),
        "normalisation": ("normalisation of the reference", pm),
        "bins": ("bins", whole),
        "windows": ("windows scanned", whole),
    }
    rows = [
        {
            "spectrum": names.spectra[bump.spectrum],
            "percentile": bump.percentile,
            "tail": bump.tail,
            "threshold": bump.threshold,
            "selected_events": bump.selected_events,
            "normalisation": (bump.normalisation, bump.normalisation_error),
            "bins": len(bump.observed),
            "windows": len(bump.tomography),
        }
        for bump in (search.believed or search.hunt).bumps
    ]
    caption = (
        "What was selected. The normalisation is the share of events outside the interval that the cut keeps; it "
        "should be close to 100 minus the percentile, in percent. Worrying: fewer than about ten bins, for then the mass is "
        "hardly resolved, and a window leaves little outside."
    )
    return Table(caption, columns, rows)


def bumps(search: Search, names: Names) -> Table:
    """The bumps of the reported hunt; without significances if no result is valid."""
    hunt, believed = search.believed or search.hunt, search.believed is not None
    n = hunt.pseudo_experiments
    columns: dict[str, tuple[str, Show]] = {
        "selection": ("selection", str),
        "interval": ("interval [GeV]", span),
        "observed": ("observed in it", whole),
        "expected": ("expected", pm),
        "signal_estimate": ("observed minus expected", digits(3)),
        "mass_estimate": ("mass estimate [GeV]", gev),
        "local_significance": ("local sigma, Poisson", decimals(2)),
        "fisher_significance": ("local sigma, Fisher", decimals(2)),
        "global_p_value": (
            "global p",
            lambda value: p_text(value[0], value[1], n),
        ),
        "global_significance": ("global sigma", lambda value: z_text(*value)),
        "reference_p_value": ("p of the reference", digits(2)),
    }
    rows = [
        {
            "selection": names.bumps[i],
            "interval": bump.interval,
            **in_interval(search, bump),
            "signal_estimate": None if bump.interval is None else bump.signal_estimate,
            "mass_estimate": bump.mass_estimate,
            "local_significance": bump.local_significance if believed else None,
            "fisher_significance": bump.fisher_significance if believed else None,
            "global_p_value": (bump.global_p_value, bump.global_p_value_is_bound) if believed else None,
            "global_significance": (bump.global_significance, bump.global_p_value_is_bound) if believed else None,
            "reference_p_value": bump.reference_p_value,
        }
        for i, bump in enumerate(hunt.bumps)
    ]
    again = "A threshold that follows the mass was taken. " if search.following is hunt else ""
    caption = (
        f"{again}The most significant window of every selection; sigma is the significance in standard deviations. Local ones ignore that "
        "many windows were looked at; the Poisson one takes the reference as exact, that of Fisher's test does not. Global "
        "ones are of each selection alone. None of them means anything where the reference does not describe the spectrum outside "
        f"the interval, its p below {DESCRIBES:g}. Worrying: a local significance by Poisson much above that by Fisher, for "
        "then the reference is too uncertain; and intervals of different selections that have nothing in common."
    )
    return Table(caption, columns, rows)


def p_values(search: Search) -> Table:
    """Every p-value beside what it assumes: of the reported hunt, and of the one that was asked for."""
    columns: dict[str, tuple[str, Show]] = {
        "what": ("", str),
        "p_value": ("p-value", str),
        "significance": ("sigma", str),
        "assumes": ("what it is, and what it assumes", str),
        "holds": ("does that hold?", str),
    }
    caption = (
        "Every p-value of the best selection beside what it assumes. A significance whose assumption fails is not told."
    )
    of_fit = [] if search.best_fit is None else _p_values_of_fit(search, search.best_fit)
    hunts = [search.hunt] if search.following is None else [search.following, search.hunt]
    rows = of_fit + [row for hunt in hunts for row in _p_values(search, hunt)]
    return Table(caption, columns, rows)


def _p_values_of_fit(search: Search, fit: SpectrumHunt) -> list[dict[str, object]]:
    says, p, bound = fit.assumptions, search.fit_global_p_value or 1.0, fit.global_p_value_is_bound
    holds = "yes, as far as can be seen" if fit.believed else "no"
    many = "" if len(search.fits) == 1 else f" Times {len(search.fits)}, the number of selections."
    rows = [
        (
            "global",
            f"{'< ' if bound else ''}{p:.3g}",
            z_text(significance(p), bound),
            says["global_p_value"] + many,
            holds,
        ),
        ("local", local_p_text(fit.local_p_value), z_text(fit.local_significance), says["local_p_value"], holds),
        ("background", f"{fit.judged.p_value:.3g}", "-", says["background_p_value"], "-"),
    ]
    if not fit.believed:
        rows[:2] = [(what, "-", "-", assumes, held) for what, _, _, assumes, held in rows[:2]]
    kind = fit.background.kind
    keys = ("what", "p_value", "significance", "assumes", "holds")
    return [dict(zip(keys, (f"{row[0]} (fit of {kind})", *row[1:]))) for row in rows]


def fits(search: Search, names: Names) -> Table:
    """The hunts with a fitted background, of every selection."""
    columns: dict[str, tuple[str, Show]] = {
        "selection": ("selection", str),
        "background": ("background", str),
        "background_p_value": ("p of the background", digits(2)),
        "interval": ("interval [GeV]", span),
        "observed": ("observed in it", whole),
        "expected": ("expected", digits(4)),
        "signal_estimate": ("signal estimate", digits(3)),
        "mass_estimate": ("mass estimate [GeV]", gev),
        "local_significance": ("local sigma", decimals(2)),
        "global_p_value": ("global p", lambda value: p_text(*value)),
        "global_significance": ("global sigma", lambda value: z_text(*value)),
    }
    rows = []
    for name, fit in zip(names.bumps, search.fits):
        told, bound = fit.believed, fit.global_p_value_is_bound
        rows.append(
            {
                "selection": name,
                "background": fit.background.kind,
                "background_p_value": fit.judged.p_value,
                "interval": fit.interval,
                "observed": fit.observed_events,
                "expected": fit.expected_events,
                "signal_estimate": fit.signal_estimate,
                "mass_estimate": fit.mass_estimate,
                "local_significance": fit.local_significance if told else None,
                "global_p_value": (fit.global_p_value, bound, fit.pseudo_experiments) if told else None,
                "global_significance": (fit.global_significance, bound) if told else None,
            }
        )
    caption = (
        "Every selected spectrum with a fitted background, each p-value of that selection alone. Significances are not shown "
        "where the background does not describe the spectrum, neither with the bump nor without it."
    )
    return Table(caption, columns, rows)


def _p_values(search: Search, hunt: BumpHunt) -> list[dict[str, object]]:
    best, says = hunt.best, assumptions(search, hunt)
    cut = "one threshold" if best.threshold_curve is None else "following the mass"
    sculpted = search.sculpted and hunt is search.hunt
    fails = best.reference_describes is False or sculpted
    holds = {None: "not known", True: "yes, as far as can be seen", False: "no"}[best.reference_describes]
    holds = "no, or there is a signal" if sculpted and best.reference_describes is not False else holds

    def z(value: float | None, bound: bool = False) -> str:
        return "-" if fails else z_text(value, bound)

    def p(value: float | None) -> str:
        return "-" if fails or value is None else local_p_text(value)

    whole_search = p_text(hunt.global_p_value, hunt.global_p_value_is_bound, hunt.pseudo_experiments)
    fisher = (
        []
        if best.fisher_p_value is None
        else [("local, Fisher", p(best.fisher_p_value), z(best.fisher_significance), "fisher")]
    )
    rows = [
        ("global", "-" if fails else whole_search, z(hunt.global_significance, hunt.global_p_value_is_bound), "global"),
        ("local, Poisson", p(best.local_p_value), z(best.local_significance), "local"),
        *fisher,
    ]
    told: list[dict[str, object]] = [
        {"what": f"{name} ({cut})", "p_value": value, "significance": sigma, "assumes": says[key], "holds": holds}
        for name, value, sigma, key in rows
    ]
    of_reference = "-" if best.reference_p_value is None else reference_p(best).removeprefix("p ").removeprefix("= ")
    told.append(
        {
            "what": f"reference ({cut})",
            "p_value": of_reference,
            "significance": "-",
            "assumes": says["reference"],
            "holds": "-",
        }
    )
    return told


def sculpting(search: Search, names: Names) -> Table:
    columns: dict[str, tuple[str, Show]] = {
        "spectrum": ("spectrum", str),
        "tail": ("tail", str),
        "percentile": ("percentile", digits(6)),
        "events": ("events selected", whole),
        "distance": ("distance", decimals(4)),
        "floor": ("floor", pm),
        "above_floor": ("above floor [standard deviations]", decimals(1)),
        "following": ("distance, following the mass", decimals(4)),
        "following_above_floor": ("above floor [standard deviations]", decimals(1)),
    }
    after = search.sculpting_following
    rows = [
        {
            "spectrum": names.spectra[spectrum],
            "tail": tail,
            "percentile": float(percentile),
            "events": one["events"],
            "distance": one["distance"],
            "floor": (one["floor"], one["floor_std"]),
            "above_floor": above_floor(one["distance"], one["floor"], one["floor_std"]),
            **_following(after.get(spectrum, {}).get(tail, {}).get(percentile)),
        }
        for spectrum, by_tail in search.sculpting.items()
        for tail, by_percentile in by_tail.items()
        for percentile, one in by_percentile.items()
    ]
    caption = (
        "Jensen-Shannon distance (base 2, between 0 and 1) of the spectrum of selected events to that of all, in equal bins, "
        "of one threshold for all masses; and the floor: mean and standard deviation of that distance for random selections "
        "of as many events. Beside it the same of a threshold that follows the mass, where there is one. Worrying: more than two "
        "standard deviations above the floor."
    )
    return Table(caption, columns, rows)


def _following(one: Mapping[str, float] | None) -> dict[str, float | None]:
    if one is None:
        return {"following": None, "following_above_floor": None}
    above = above_floor(one["distance"], one["floor"], one["floor_std"])
    return {"following": one["distance"], "following_above_floor": above}


def features(numbers: Mapping[str, Any], most: int = 12) -> Table:
    columns: dict[str, tuple[str, Show]] = {
        "feature": ("feature", str),
        "distance": ("KS distance", decimals(3)),
        "p_value": ("p-value", lambda value: tiny(value).removeprefix("= ")),
        "median_inside": ("median inside", digits(4)),
        "median_outside": ("median outside", digits(4)),
    }
    first = list(numbers["features"].items())[:most]
    rows = [{"feature": name, **{key: one[key] for key in list(columns)[1:]}} for name, one in first]
    caption = (
        f"The {len(rows)} of {len(numbers['features'])} features whose distributions inside and outside the interval "
        "differ most. P-values are of the test of Kolmogorov and Smirnov for each feature alone: with as many features, "
        "the smallest of them is expected to be about one over their number. Features that grow with the mass differ "
        "without any signal."
    )
    return Table(caption, columns, rows)


def composition(search: Search, names: Names, mark: str) -> Table:
    steps = {"before": "before the cut", "selected": "selected", "interval": "selected, in the interval"}
    columns: dict[str, tuple[str, Show]] = {"selection": ("selection", str), "signal": ("signal", str)}
    for key, where in steps.items():
        columns |= {f"s_{key}": (f"S {where}", count), f"b_{key}": (f"B {where}", count)}
    rows = [
        {
            "selection": names.bumps[i],
            "signal": signal["name"],
            **{f"s_{key}": signal[key] for key in steps},
            **{f"b_{key}": truth["background"][key] for key in steps},
        }
        for i, truth in enumerate(search.truth or ())
        for signal in truth["signals"].values()
    ]
    caption = "Signal S and background B by their true labels, before the cut on the score and after it."
    return Table(caption, columns, rows, mark)


def gains(search: Search, names: Names, mark: str) -> Table:
    columns: dict[str, tuple[str, Show]] = {
        "selection": ("selection", str),
        "signal": ("signal", str),
        "s_over_b": ("S/B before", percent),
        "s_over_b_selected": ("S/B selected", percent),
        "s_over_b_interval": ("S/B in the interval", percent),
        "gain": ("gain of the cut", digits(3)),
        "gain_interval": ("gain of cut and interval", digits(3)),
        "efficiency": ("signal efficiency", percent),
        "mass": ("true mass, median [GeV]", gev),
        "mass_bias": ("estimate minus true mass [GeV]", gev),
    }
    rows = [
        {
            "selection": names.bumps[i],
            "signal": signal["name"],
            "s_over_b": signal["s_over_b"]["before"],
            "s_over_b_selected": signal["s_over_b"]["selected"],
            "s_over_b_interval": signal["s_over_b"]["interval"],
            **{key: signal[key] for key in ("gain", "gain_interval", "efficiency", "mass", "mass_bias")},
        }
        for i, truth in enumerate(search.truth or ())
        for signal in truth["signals"].values()
    ]
    caption = (
        "What the cut does for each signal. A gain is S/B over S/B before; 1 is no gain. Worrying: a gain near or below 1 "
        "beside a significant bump, for then the bump is not this signal."
    )
    return Table(caption, columns, rows, mark)


def done(search: Search, names: Names) -> Table:
    about, hunt = search.configuration, search.hunt
    options, data = about.get("options", {}), about.get("data", {})
    rows = {
        "model": about.get("model"),
        "score": about.get("score_kind") or "the model's default",
        **({} if search.score_std is None else {"members": "several: the score is their mean"}),
        "data": data.get("source"),
        "events hunted": hunt.events,
        "SHA-256 of these events": data.get("sha256"),
        **{f"range of {names.spectra[name]} [GeV]": list(ends) for name, ends in search.ranges.items()},
        "percentiles of the score": options.get("percentiles"),
        "tails": options.get("tails"),
        "cut": {"mass": "follows the mass"}.get(str(options.get("cut")), "one threshold for all masses"),
        "background": options.get("background"),
        "looked for": hunt.mode,
        "bins before merging": options.get("bins"),
        "largest relative error of a merged bin": options.get("relative_error"),
        "widths of windows [bins]": options.get("widths"),
        "bins at each end that only normalise": options.get("side_band"),
        "statistic": hunt.statistic,
        "pseudo-experiments": hunt.pseudo_experiments,
        "kind of pseudo-experiments": hunt.null,
        "folds": options.get("folds") or "none: one model scored all events",
        "weights": "used" if search.weight is not None else "ignored" if search.events.has("weight") else "none",
        "labels": labels(search),
        "seed": about.get("seed"),
    }
    columns: dict[str, tuple[str, Show]] = {"what": ("what", str), "value": ("value", _fact)}
    caption = "What was done. The same command with the same data and versions gives the same numbers."
    return Table(caption, columns, [{"what": what, "value": value} for what, value in rows.items()])


def _fact(value: object) -> str:
    """
    >>> _fact([2700.0, 5000.0]), _fact(162303), _fact("both")
    ('2700, 5000', '162303', 'both')
    """
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_fact, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
