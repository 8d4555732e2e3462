"""The folder and the page of a bump hunt in a spectrum: one figure, one sentence, one number, then all else."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pipelines import provenance
from pipelines.bumphunt import discovery_reach, spurious_signal
from pipelines.bumphunt.bump_hunt import local_p_text
from pipelines.bumphunt.limits import Limit
from pipelines.bumphunt.limits import said as limit_said
from pipelines.bumphunt.result import z_text
from pipelines.bumphunt.spectrum_hunt import BackgroundResult, SpectrumHunt
from pipelines.outputs import new_directory, write_json
from pipelines.plots.hunt import p_value_text, plot_test_statistic, plot_tomography
from pipelines.plots.spectrum_fit import plot_spectrum_fit
from pipelines.plots.validation import plot_reach
from pipelines.printed import with_interval
from pipelines.report.page import Cell, Page

EVIDENCE, OBSERVATION, WORTH_A_LOOK = 3.0, 5.0, 2.0  # sigma


def write(found: SpectrumHunt, folder: str | os.PathLike[str], *, xlabel: str = "mass [GeV]") -> Path:
    """Write a hunt into a new folder, and return it.

    report.html     all there is to read and to see, in one file
    bumphunt.json   every number, with versions and the command
    plots/          the figures as PNG, and beside each its numbers as JSON

    Raises `InputError` if the folder exists, or cannot be written to.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from pipelines.bumphunt.spectrum_hunt import bumphunt
        >>> found = bumphunt(np.full(12, 90), "exp1", edges=np.arange(100, 113), pseudo_experiments=50)
        >>> sorted(path.name for path in write(found, Path(tempfile.mkdtemp()) / "out").iterdir())
        ['bumphunt.json', 'plots', 'report.html']
    """
    folder = Path(folder)
    with new_directory(folder) as part:
        plots = part / "plots"
        plots.mkdir()
        _draw(found, plots, xlabel)
        numbers = {**found.to_dict(), "limit": limit_json(found), "sentence": verdict(found), "versions": provenance.versions(),
                   "command": provenance.command()}  # fmt: skip
        write_json(part / "bumphunt.json", numbers)
        (part / "report.html").write_text(_page(found, plots, numbers).to_html(), encoding="utf-8")
    return folder


def _draw(found: SpectrumHunt, plots: Path, xlabel: str) -> None:
    shown = found.refit or found.background
    plot_spectrum_fit(
        found.edges,
        found.counts,
        found.expected,
        plots / "spectrum.png",
        interval=found.interval,
        excluded=None if found.refit is None and found.background.excluded is None else shown.excluded,
        background=background_name(shown),
        said=_said_in_figure(found),
        xlabel=xlabel,
    )
    plot_tomography(found.tomography, plots / "tomography.png", xlabel=xlabel)
    about = (found.toys, found.test_statistic, found.global_p_value, found.global_p_value_is_bound)
    plot_test_statistic({"all windows": about}, plots / "pseudo_experiments.png")
    if found.reach is not None:
        plot_reach(found.reach.to_dict(), plots / "reach.png")


def _said_in_figure(found: SpectrumHunt) -> str:
    if not believed(found):
        return "the background does not\ndescribe the spectrum"
    p = p_value_text(found.global_p_value, found.global_p_value_is_bound, found.pseudo_experiments)
    return f"global {p}\n{z_text(found.global_significance, found.global_p_value_is_bound)} sigma"


def background_name(background: BackgroundResult) -> str:
    """Return what a background is called in a figure.

    >>> from pipelines.bumphunt.spectrum_hunt import bumphunt
    >>> background_name(bumphunt([90] * 12, "exp1", edges=range(100, 113), pseudo_experiments=20).background)
    'fit of exp1, $p_0\\\\ e^{p_1 x}$'
    """
    if not background.fitted:
        return f"background: {background.kind}"
    formula = {
        "exp1": r"$p_0\ e^{p_1 x}$",
        "power": "$p_0\\ x^{p_1}$",
        "dijet3": r"$p_0 (1-x)^{p_1} x^{p_2}$",
        "dijet4": r"$p_0 (1-x)^{p_1} x^{p_2 + p_3 \ln x}$",
        "dijet5": r"$p_0 (1-x)^{p_1} x^{p_2 + p_3 \ln x + p_4 \ln^2 x}$",
    }.get(background.kind, str(background.formula))
    sliding = f", in {background.sliding_window} bins that slide" if background.sliding_window else ""
    return f"fit of {background.kind}, {formula}{sliding}"


# -- words -----------------------------------------------------------------------------------------------


def verdict(found: SpectrumHunt) -> str:
    """Say in one paragraph what was found, what it means, and whether the background can be believed.

    >>> from pipelines.bumphunt.spectrum_hunt import bumphunt
    >>> verdict(bumphunt([90] * 12, "exp1", edges=range(100, 113), pseudo_experiments=20)).split(":")[0]
    'No window has an excess of events'
    """
    return " ".join(filter(None, [_result(found), goodness(found)]))


def _result(found: SpectrumHunt) -> str:
    what = "an excess" if found.mode == "excess" else "a deficit"
    if found.interval is None:
        return f"No window has {what} of events: nothing was found."
    low, high = found.interval
    p = p_value_text(found.global_p_value, found.global_p_value_is_bound, found.pseudo_experiments)
    z = z_text(found.global_significance, found.global_p_value_is_bound)
    trusted = believed(found)
    if not trusted:
        return (
            "The background does not describe the spectrum, and the p-value of a bump assumes that it does: no significance is told. "
            f"The most significant window is {low:g} to {high:g}, with {found.observed_events:,.0f} events where "
            f"{found.expected_events:,.1f} are expected."
        )
    what = "bump" if found.mode == "excess" else "deficit"
    head = heading(found.global_significance, found.global_p_value_is_bound, what)
    return (
        f"{head}: the most significant window is {low:g} to {high:g}, with {found.observed_events:,.0f} events where "
        f"{found.expected_events:,.1f} are expected. Of spectra of background alone, "
        f"{_share(found)} {'have' if found.global_p_value > 0 else 'has'} a window as extreme (global {p}, {z} sigma)."
    )


def heading(z: float, bound: bool, what: str) -> str:
    """Return what a significance says of a bump or a deficit, in a few words."""
    if z >= OBSERVATION:
        return f"A {what} that background alone does not make"
    if z >= EVIDENCE:
        return f"A {what} that background alone hardly ever makes"
    if bound:
        return f"A {what} that no pseudo-experiment has; more of them would tell how rare it is"
    return f"A {what} worth a look, and no evidence" if z >= WORTH_A_LOOK else f"No evidence of a {what}"


def _share(found: SpectrumHunt) -> str:
    share = 100 * found.global_p_value
    return f"less than {share:.2g} %" if found.global_p_value_is_bound else f"{share:.3g} %"


def believed(found: SpectrumHunt) -> bool:
    """Return whether the background describes the spectrum, or does without the window that was left out."""
    return found.believed


def believed_limit(found: SpectrumHunt) -> Limit | None:
    """Return the upper limit on signal events in the window; None where the background is not believed."""
    return found.limit() if believed(found) else None


def limit_json(found: SpectrumHunt) -> dict[str, object] | None:
    """Return `believed_limit` for JSON."""
    limit = believed_limit(found)
    return None if limit is None else limit.to_dict()


def goodness(found: SpectrumHunt) -> str:
    """Say how well the background describes the spectrum."""
    first = _fit_text(found.background, "the spectrum")
    if found.refit is None:
        return first
    if found.refit.describes:  # that it does not with the bump says nothing
        return _fit_text(found.refit, "the spectrum outside of the bump")
    return f"{first} {_fit_text(found.refit, 'it outside of the bump')}"


def _fit_text(background: BackgroundResult, what: str) -> str:
    does = "describes" if background.describes else "does not describe"
    degrees = background.degrees_of_freedom
    of = "" if degrees is None else f" for {degrees} degrees of freedom"
    sign = "< " if background.p_value_is_bound else ""
    failed = "" if background.converged else " The fit did not converge."
    return (
        f"The background {background.kind} {does} {what} (chi2 {background.chi2:.1f}{of}, p {sign}"
        f"{background.p_value:.2g}).{failed}"
    )


# -- the page --------------------------------------------------------------------------------------------


def _page(found: SpectrumHunt, plots: Path, numbers: dict[str, object]) -> Page:
    limit = believed_limit(found)
    page = Page("Bump hunt in a spectrum", f"{found.source}, events of {found.observed!r}")
    (page.lead if believed(found) else page.warning)(verdict(found))
    page.figure(
        plots / "spectrum.png",
        "Observed events (points), the background (line), and the most significant window (shaded). Below, the significance "
        "of every bin by itself, the signed root of its Poisson deviance. Worrying: the same sign over many bins.",
    )
    _results(page, found)
    if limit is not None:
        page.text(
            f"{limit_said(limit).replace(' GeV', '')} The window was chosen for its excess: it is a limit for a signal there only."
        )
    _backgrounds(page, found)
    if found.reach is not None:
        page.section("What would have been found of a signal")
        add_reach(page, found.reach, plots / "reach.png")
    page.section("Windows and pseudo-experiments")
    page.figure(
        plots / "tomography.png",
        f"All {found.windows:,} windows of {found.widths[0]} to {found.widths[1]} bins that were scanned, and the local "
        "significance of each.",
    )
    page.figure(
        plots / "pseudo_experiments.png",
        f"The test statistic, -ln of the smallest local p-value, of {found.pseudo_experiments:,} pseudo-experiments and of "
        "the data.",
    )
    page.section("What was done")
    page.details("The command", str(numbers["command"]))
    page.details("Versions", json.dumps(numbers["versions"], indent=2))
    page.details("All numbers", json.dumps(numbers, indent=1))
    return page


def _results(page: Page, found: SpectrumHunt) -> None:
    says = found.assumptions
    p = p_value_text(found.global_p_value, found.global_p_value_is_bound, found.pseudo_experiments).removeprefix("p ")
    z = z_text(found.global_significance, found.global_p_value_is_bound)
    untold = not believed(found)  # what these assume fails
    rows: list[list[Cell]] = [
        ["global p-value", None if untold else p.removeprefix("= "), None if untold else z, says["global_p_value"]],
        [
            "local p-value",
            None if untold else local_p_text(found.local_p_value),
            None if untold else z_text(found.local_significance),
            says["local_p_value"],
        ],
        ["background p-value", f"{found.background.p_value:.3g}", None, says["background_p_value"]],
    ]
    page.section("Results")
    page.table(["", "p-value", "sigma", "what it assumes"], rows, "Every p-value beside what it assumes.")
    window = "none" if found.interval is None else f"{found.interval[0]:g} to {found.interval[1]:g}"
    where = (
        "" if found.refit is None or found.refit.excluded is None else " in {:g} to {:g}".format(*found.refit.excluded)
    )
    values: list[list[Cell]] = [
        ["window", window],
        ["observed events", found.observed_events],
        ["expected events", found.expected_events],
        [f"signal estimate{where}", found.signal_estimate],
        [f"mass estimate{where}", found.mass_estimate],
        ["test statistic", found.test_statistic],
    ]
    if found.refit_local_significance is not None:
        values.append(["sigma, local, with the fit without the bump", found.refit_local_significance])
    page.table(["", "value"], values, "The most significant window.")


def _backgrounds(page: Page, found: SpectrumHunt) -> None:
    page.section("Background")
    page.text(goodness(found))
    if found.spurious is not None:
        page.text(spurious_text(found.spurious))
    for background in filter(None, (found.background, found.refit)):
        if background.formula is not None:
            where = (
                "of the whole spectrum"
                if background.excluded is None
                else "without {:g} to {:g}".format(*background.excluded)
            )
            page.text(f"Fit {where}: f = {background.formula}, x = m / sqrt(s), sqrt(s) = {found.sqrt_s:g}.")
        if background.parameters:
            rows: list[list[Cell]] = [
                [name, value, background.errors[name]] for name, value in background.parameters.items()
            ]
            page.table(["parameter", "value", "error"], rows, f"Parameters of {background.kind}.")


def add_reach(page: Page, reach: discovery_reach.DiscoveryReach, figure: Path) -> None:
    """Add what would have been found of an injected signal to a page: a sentence, the figure, and the rows."""
    page.text(" ".join(discovery_reach.said(reach, kind) for kind in ("global", "local")))
    page.figure(
        figure,
        f"Signal of mass {reach.mass:g} and standard deviation {reach.width:g} added to the background, {reach.repeats} "
        "spectra of each number of events, each hunted in as the data. Left: median significance and the central 68 %. Right: "
        "the share that reaches 3 and 5 sigma, with its statistical error.",
    )
    rows: list[list[Cell]] = [
        [row["events"], _percent(row["s_over_b"]), with_interval(row["local"]), with_interval(row["global"]),
         *(f"{100 * share:.0f} %" for _, share, _ in row["efficiency"].values()), f"{100 * row['in_window']:.0f} %",
         f"{100 * row['extrapolated']:.0f} %"]
        for row in reach.rows
    ]  # fmt: skip
    heads = ["events", "S/B", "local sigma", "global sigma", "reach 3 sigma", "reach 5 sigma", "window holds the mass",
             "extrapolated"]  # fmt: skip
    page.table(
        heads,
        rows,
        "Medians, and the central 68 % of the spectra in brackets. Global significances beyond the pseudo-experiments are extrapolated.",
    )


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.2g} %"


def spurious_text(found: spurious_signal.SpuriousSignals) -> str:
    """Return the spurious signal of a function, and what is asked of it.

    >>> one = spurious_signal.SpuriousSignal(3000, 100, 4.0, 20.0)
    >>> spurious_text(spurious_signal.SpuriousSignals("dijet3", "qcd", True, (one,), None)).split(". ")[-1]
    'ATLAS asked for less than 0.2 (arXiv:1207.7214).'
    """
    open_ = (
        ""
        if found.given
        else " The data cannot exclude such a background; one from simulation (--template) tells more."
    )
    return f"{spurious_signal.said(found)}{open_} ATLAS asked for less than 0.2 (arXiv:1207.7214)."


def table(found: SpectrumHunt) -> str:
    """Return a hunt as lines for a terminal."""
    p = p_value_text(found.global_p_value, found.global_p_value_is_bound, found.pseudo_experiments)
    z = z_text(found.global_significance, found.global_p_value_is_bound)
    mass = "-" if found.mass_estimate is None else f"{found.mass_estimate:.6g}"
    numbers = [
        f"global        {p}, {z} sigma ({found.pseudo_experiments:,} pseudo-experiments)",
        f"local         {found.local_significance:.1f} sigma, -ln p = {found.test_statistic:.3f}",
    ]
    lines = [
        verdict(found),
        "",
        *(numbers if believed(found) else []),
        f"window        {'none' if found.interval is None else '{:g} to {:g}'.format(*found.interval)} "
        f"({found.windows:,} windows of {found.widths[0]} to {found.widths[1]} bins)",
        f"mass, signal  {mass}, {found.signal_estimate:,.1f} events"
        + (
            ""
            if found.refit is None or found.refit.excluded is None
            else " in {:g} to {:g}".format(*found.refit.excluded)
        ),
    ]
    if found.spurious is not None:
        lines += ["", spurious_signal.said(found.spurious)]
    if found.reach is not None:
        lines += ["", discovery_reach.said(found.reach), discovery_reach.said(found.reach, "local")]
    return "\n".join(lines)
