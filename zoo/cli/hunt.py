"""`zoo hunt`: from events and a model to a significance."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from pipelines.errors import InputError
from zoo.cli.terminal import (
    JSON,
    SCHEDULER,
    SEED,
    Finite,
    progress,
    quiet_zoo,
    say,
    setting,
    stdout_to_stderr,
)
from zoo.printed import plain_table

SEARCH = "search.json"  # by which the folder of a search is known
TRAINING = [
    click.option("--train", "trained", is_flag=True, help="Train on these very data, without labels, then score them."),
    click.option("--folds", type=click.IntRange(min=2), help="Train K models; each scores what it has not seen."),
    click.option("--preset", help="Training: a named set of hyperparameters."),
    click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Training: set a hyperparameter."),
    click.option("--epochs", type=click.IntRange(min=1), help="Training: epochs of the main phase."),
    click.option("--xla/--no-xla", default=True, help="Training: compile the step with XLA."),
]
TAILS = click.option("--tails", type=click.Choice(["upper", "lower", "both"]),
                     help="Which end of the score; by default both for a score without direction, else upper.")  # fmt: skip
SCORE_KIND = click.option("--score-kind", help="Score kind; the model's default otherwise.")


def percentile_option(default: float):
    return click.option("--percentile", "percentiles", type=Finite(), multiple=True, default=[default], show_default=True,
                        help="Of the score: 99 selects one percent; may be repeated.")  # fmt: skip


WINDOWS = [
    click.option("--mass-range", type=Finite(), nargs=2, metavar="LOW HIGH",
                 help="Of the spectra, GeV; by default only events in the range of the run's training, else all."),
    click.option("--bins", type=int, default=40, show_default=True, help="Equal bins before merging."),
    click.option("--relative-error", type=Finite(), default=0.15, show_default=True,
                 help="Bins are merged until their error is below this share."),
    click.option("--no-merge", is_flag=True, help="Merge no bins."),
    click.option("--widths", type=int, nargs=2, default=(3, 8), show_default=True, metavar="MIN MAX",
                 help="Of the scan window, in bins."),
    click.option("--side-band", type=int, default=0, show_default=True, help="Bins at each end that only normalise."),
    click.option("--deficit", is_flag=True, help="Look for too few events."),
    click.option("--statistic", type=click.Choice(["poisson", "fisher"]), default="poisson", show_default=True,
                 help="BumpHunter's, or Fisher's exact test."),
    click.option("--null", type=click.Choice(["shuffled", "poisson"]), default="shuffled", show_default=True,
                 help="What pseudo-experiments are."),
]  # fmt: skip
BACKGROUNDS = ["spectrum", "auto", "auto-exp", "dijet3", "dijet4", "dijet5", "exp1", "exp2", "exp3", "power"]
CUT = click.option("--cut", type=click.Choice(["mass", "global"]), default="mass", show_default=True,
                   help="A threshold on the score that follows the mass, or one for all masses, the papers' own.")  # fmt: skip
CUTS = [percentile_option(99.0), CUT, *WINDOWS]
SEARCHING = [
    TAILS,
    SCORE_KIND,
    click.option("--background", type=click.Choice(BACKGROUNDS), default="spectrum", show_default=True,
                 help="The spectrum before the cut, or a function that is fitted to the selected one."),
    click.option("--toys", "pseudo_experiments", type=int, default=40_000, show_default=True, help="Pseudo-experiments."),
    click.option("--spectrum", "spectra", multiple=True, default=["mass"], show_default=True,
                 help="The events' mass, or a column in GeV as m_jjj; may be repeated."),
    click.option("--range", "ranges", type=(str, Finite(), Finite()), multiple=True, metavar="SPECTRUM LOW HIGH",
                 help="Of one spectrum, GeV; may be repeated."),
    click.option("--ignore-labels", is_flag=True, help="As if the file had no truth."),
    click.option("--ignore-weights", is_flag=True, help="Count all events alike in the spectra."),
]  # fmt: skip


def with_options(options):
    """Return a decorator that adds click options in their order."""

    def add(command):
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.command()
@click.argument("run", metavar="[RUN]", required=False)
@click.option("--data", required=True, multiple=True, help="Events file or sample; may be repeated.")
@click.option("--scores", type=click.Path(path_type=Path), metavar="FILE",
              help="Instead of RUN: scores that you have, one for each event of --data; HDF5 (dataset score), .npy, or text.")  # fmt: skip
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder for results and report.")
@with_options([*CUTS, *SEARCHING, *TRAINING])
@click.option("--resume", is_flag=True, help="Go on with what an interrupted search has trained, or begin.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that train folds.")
@SCHEDULER
@SEED
@JSON
def hunt(run, data, out, trained, settings, xla, mass_range, ranges, no_merge, as_json, **options):
    """Search for a bump in the mass of the most anomalous events.

    RUN is a run directory; with --train or --folds also the name of a model, which is trained on the data. Without RUN, the
    scores are those of --scores.
    """
    from pipelines.outputs import check_new

    check_new(out, unless=SEARCH if options["resume"] else None)  # before TensorFlow is imported
    trains = trained or options["folds"]
    if os.path.lexists(out):
        _say_finished(out, as_json)
        return
    by_name = {name: mass_range for name in options["spectra"] if mass_range}
    by_name |= {name: (low, high) for name, low, high in ranges}
    options["relative_error"] = None if no_merge else options["relative_error"]
    with contextlib.nullcontext() if trains else _keeping_nothing():
        zoo = quiet_zoo()
        with stdout_to_stderr(), contextlib.nullcontext() if trains else progress("scoring and hunting"):
            found = zoo.hunt(
                run, data, out, train=trained, hyperparameters=dict(map(setting, settings)), jit_compile=xla,
                mass_range=by_name, verbose=1 if sys.stderr.isatty() else 2,
                said=lambda text: click.echo(text, err=True), **options,
            )  # fmt: skip
    warnings = _warnings(found)
    below = "".join(f"\n\nWarning: {text}" for text in warnings)
    from pipelines.report.tables import limit_json

    said = {"out": str(out), **found.summary(), "limit": limit_json(found), "warnings": warnings}
    say(said, as_json, lambda: f"{table(found)}{below}\n\n{out}: report.html, search.json")


def _say_finished(out: Path, as_json: bool) -> None:
    """Tell of a search that an earlier process has finished; raises `InputError` if it was another command's."""
    from pipelines import provenance
    from pipelines.documents import read_json_document
    from pipelines.locks import remove
    from pipelines.outputs import hold, work_folder

    found: Any = read_json_document(out / SEARCH, dict[str, Any], advice="damaged; choose another output")
    command = (found.get("configuration") or {}).get("command")
    if command is None or _but_resume(command) != _but_resume(provenance.command()):
        raise InputError(f"{out}: exists already, made by `{command}`; choose another output")
    with hold(out, new=False):
        remove(work_folder(out))
    more = ("hunt", "ranges", "sculpting", "truth", "configuration")
    said = {"out": str(out), **{name: value for name, value in found.items() if name not in more}}
    say(said, as_json, lambda: f"{out}: finished before; report.html, search.json")


def _but_resume(command: str) -> list[str]:
    return [word for word in shlex.split(command) if word != "--resume"]


def _warnings(found) -> list[str]:
    """Return the warnings at the top of the report: which numbers are not valid, and why."""
    from pipelines.report.text import beliefs

    return [text.removeprefix("Caveat. ") for text, alarming in beliefs(found) if alarming]


@contextlib.contextmanager
def _keeping_nothing():
    """Where nothing is trained, end on Ctrl-C without the advice to --resume."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("\nInterrupted. Nothing is kept; start the same command again.", err=True)
        click.get_current_context().exit(130)


def _fits(found) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the hunts with a fitted background."""
    from pipelines.bumphunt.bump_hunt import p_text
    from pipelines.bumphunt.result import z_text

    heads = ["percentile", "tail", "background", "its p", "interval [GeV]", "signal", "local Z", "global Z", "global p"]
    rows = []
    for bump, fit in zip(found.hunt.bumps, found.fits):
        interval = f"{fit.interval[0]:.0f} to {fit.interval[1]:.0f}" if fit.interval else "none"
        bound = fit.global_p_value_is_bound
        numbers = [f"{fit.local_significance:.1f}", z_text(fit.global_significance, bound),
                   p_text(fit.global_p_value, bound, fit.pseudo_experiments)]  # fmt: skip
        rows.append([f"{bump.percentile:g}", bump.tail, fit.background.kind, f"{fit.background.p_value:.2g}", interval,
                     f"{fit.signal_estimate:.1f}", *(numbers if fit.believed else ["-"] * 3)])  # fmt: skip
    return heads, rows


def table(found) -> str:
    """Return what a search found as lines for a terminal."""
    from pipelines.bumphunt.bump_hunt import p_text
    from pipelines.bumphunt.result import truth_in_tuning, z_text
    from pipelines.report.text import lead

    believed, tuned = found.believed, truth_in_tuning(found.configuration)
    hunted = believed or found.hunt
    n = hunted.pseudo_experiments
    several = len({bump.spectrum for bump in hunted.bumps}) > 1
    heads = ["spectrum"] * several + ["percentile", "tail", "selected", "interval [GeV]", "mass [GeV]", "signal",
                                      "local Z", "Fisher Z", "global Z", "global p"]  # fmt: skip
    rows = []
    for bump in hunted.bumps:
        interval = f"{bump.interval[0]:.0f} to {bump.interval[1]:.0f}" if bump.interval else "none"
        mass = f"{bump.mass_estimate:.0f}" if bump.interval else "-"
        bound = bump.global_p_value_is_bound
        significances = [f"{bump.local_significance:.1f}", z_text(bump.fisher_significance),
                         z_text(bump.global_significance, bound), p_text(bump.global_p_value, bound, n)]  # fmt: skip
        row = [bump.spectrum] * several + [f"{bump.percentile:g}", bump.tail, f"{bump.selected_events:,}", interval, mass,
               f"{bump.signal_estimate:.1f}", *(significances if believed else ["-"] * 4)]  # fmt: skip
        rows.append(row)
    bound = hunted.global_p_value_is_bound
    trials = "" if hunted.trials_factor is None else f", trials factor {hunted.trials_factor:.2f}"
    of = f"{len(rows)} selections together" if len(rows) > 1 else "the selection"
    said = (
        f"Global p-value of {of} {p_text(hunted.global_p_value, bound, n)}, "
        f"{z_text(hunted.global_significance, bound)} sigma{trials}"
    )
    follows = hunted.best.threshold_curve is not None
    cut = "a threshold that follows the mass" if follows else "one threshold for all masses"
    return "\n".join(
        [
            f"{hunted.events:,} events, {n:,} pseudo-experiments, {hunted.mode}, {cut}",
            "",
            plain_table(heads, rows),
            "",
            lead(found),
            *([said] if believed and not found.fits else []),
            *(["", "With a fitted background:", plain_table(*_fits(found))] if found.fits else []),
            *(["", tuned] if tuned else []),
        ]
    )
