"""The report of a scan of windows: the verdict, the windows, what was assumed and done, and what truth says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.bumphunt.bump_hunt import local_p_text, p_text
from pipelines.bumphunt.limits import said as limit_said
from pipelines.bumphunt.result import truth_in_tuning, z_text
from pipelines.plots.record import plain
from pipelines.plots.window_scan import plot_window_scan
from pipelines.report.page import Page
from pipelines.window_scan.options import is_dealt
from pipelines.window_scan.result import WindowFound, WindowScan

BACKGROUND = {
    "spectrum": "all events of the window times the share that a threshold which follows the mass selects; the threshold is "
    "fitted in the side bands alone",
    "sidebands": "all events of the window times the share selected by one threshold, a straight line in log m through the "
    "side bands",
    "template": "all events of the window times the share of the model's own template that passes",
}
DEALT = (
    "In every pseudo-experiment the selections of all windows are shuffled among the masses, together, and the background is "
    "estimated again. This assumes that the rank of a background event's score among those of its mass does not depend on the "
    "mass. Trainings are not repeated."
)
THROWN = (
    "Pseudo-experiments are Poisson numbers around what is expected, for every window by itself, and the background is "
    "estimated again. Where windows overlap fewer of them are independent, so that the global p-value is rather too large. "
    "Trainings are not repeated."
)
FAILS = (
    "The expected background does not describe the selected spectrum beside the best window (p {:.2g}): no significance is "
    "quoted."
)


def background_text(found: WindowScan) -> str:
    """Return in words what is expected in a window."""
    kind = found.options.background
    return BACKGROUND.get(kind, f"the function {kind}, fitted to the selected spectrum beside the window")


def lead(found: WindowScan) -> str:
    """Return the verdict in a sentence."""
    best, bound = found.best, found.global_p_value_is_bound
    if not found.believed:
        return FAILS.format(best.reference_p_value or 0.0)
    windows, cuts = (len({getattr(one, name) for one in found.windows}) for name in ("window", "percentile"))
    at = f" at {cuts} percentiles" if cuts > 1 else ""
    p = p_text(found.global_p_value, bound, found.pseudo_experiments)
    z = z_text(found.global_significance, bound)
    return (
        f"Global significance {z} sigma (p {p}) of {windows} window{'s' * (windows > 1)}{at}; the most significant is {best.window[0]:.0f} to "
        f"{best.window[1]:.0f} GeV, {best.selected_events} events selected where {best.expected:.1f} +- "
        f"{best.expected_error:.1f} are expected, local {best.local_significance:.1f} sigma."
    )


SEEN = (
    "The density of the side bands was trained on the events there, also where it scores them; what that does to the expected "
    "number is in no error. Compare with --background template."
)


def warnings(found: WindowScan) -> list[str]:
    """Return what makes the numbers doubtful, each in a sentence."""
    said = [] if found.believed else [FAILS.format(found.best.reference_p_value or 0.0)]
    bad = [one for one in found.windows if one.describes is False and one is not found.best]
    if bad:
        several = len(found.options.several_percentiles) > 1
        names = [
            f"{one.window[0]:.0f} to {one.window[1]:.0f} GeV" + f" at percentile {one.percentile:g}" * several
            for one in bad[:5]
        ]
        said.append(
            f"The expected background does not describe the spectrum beside the window in {len(bad)} other "
            f"{'selections' if several else 'windows'} ({', '.join(names)}{', ...' if len(bad) > 5 else ''})."
        )
    told = truth_in_tuning(found.configuration)
    return [
        *said,
        *([SEEN] if found.configuration.get("density_trained_beside") else []),
        *([told] if told else []),
        *found.said,
    ]


def row(one: WindowFound) -> list[Any]:
    """Return the numbers of a window for a table; no significance where what is expected does not describe the spectrum."""
    significance = (local_p_text(one.local_p_value), f"{one.local_significance:.1f}")
    return [
        f"{one.window[0]:.0f} to {one.window[1]:.0f}", one.percentile, one.events, one.selected_events,
        f"{one.expected:.1f} \N{PLUS-MINUS SIGN} {one.expected_error:.1f}", f"{one.signal_estimate:.1f}",
        None if one.mass_estimate is None else f"{one.mass_estimate:.0f}",
        *((None, None) if one.describes is False else significance), None if one.reference_p_value is None else f"{one.reference_p_value:.2g}",
    ]  # fmt: skip


HEADS = ("window [GeV]", "percentile", "events", "selected", "expected", "signal", "mass [GeV]", "local p", "local Z",
         "side bands' p")  # fmt: skip


def tell(found: WindowScan, plots: Path) -> tuple[Page, dict[str, object]]:
    """Draw the figure of a scan into the folder `plots`; return the page, and every number that is on it."""
    about, windows = found.configuration, found.windows
    page = Page("Scan of windows", f"{about.get('model')} on {(about.get('data') or {}).get('source', 'events')}")
    (page.lead if found.believed else page.warning)(lead(found))
    for text in warnings(found)[0 if found.believed else 1 :]:
        page.warning(text)
    numbers = plot_window_scan(
        [one.window[0] for one in windows], [one.window[1] for one in windows], [one.local_p_value for one in windows],
        [one.selected_events for one in windows], [one.expected for one in windows],
        [one.expected_error for one in windows], plots / "windows.png", percentile=[one.percentile for one in windows],
        said=f"global {z_text(found.global_significance, found.global_p_value_is_bound)} sigma" if found.believed else "",
    )  # fmt: skip
    page.figure(
        plots / "windows.png",
        "Local p-value of every window. Below, selected over expected events; the band is the error of the background.",
    )
    page.section("All windows")
    page.table(HEADS, [row(one) for one in windows], "What is selected in every window, and expected of background.")
    limit = found.limit()
    if limit is not None:
        page.text(
            f"{limit_said(limit)} These are selected events. The window was chosen for its excess, so the limit is one for a "
            "signal of this mass only."
        )
    page.section("What was assumed")
    page.text(f"Every window has models of its own, trained without labels. Expected is {background_text(found)}.")
    page.text(
        "The local p-value is the probability of as many events or more, the background known to its error "
        "(Z_Bi of arXiv:physics/0702156)."
    )
    page.text(DEALT if is_dealt(found.options) else THROWN)
    if any(one.truth for one in windows):
        _truth(page, found)
    _done(page, found)
    result = {**found.to_dict(), "figures": {"windows.png": numbers}}
    return page, plain(result)


def _truth(page: Page, found: WindowScan) -> None:
    page.section("What the labels say", mark="truth")
    page.text("Nothing above does: neither the selection nor a p-value has seen them.")
    rows = [
        [f"{one.window[0]:.0f} to {one.window[1]:.0f}", one.percentile, kind["name"], kind["events"], kind["selected"]]
        for one in found.windows
        for kind in (one.truth or {}).values()
    ]
    heads = ["window [GeV]", "percentile", "label", "in the window", "selected"]
    page.table(heads, rows, "Events of every label, by truth.", mark="truth")


def _done(page: Page, found: WindowScan) -> None:
    about = found.configuration
    page.section("What was done")
    page.details("The command that repeats it", str(about.get("command", "not known")))
    versions = "\n".join(f"{name} {version}" for name, version in (about.get("versions") or {}).items())
    page.details("Versions", versions or "not known")
    page.details("Data, files and full configuration", json.dumps(plain(dict(about)), indent=2))
