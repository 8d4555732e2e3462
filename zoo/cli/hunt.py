"""`zoo hunt`: from events and a model to a significance."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click
from typing_extensions import NotRequired, TypedDict

from pipelines.errors import InputError
from zoo.cli.reading import DATA_HELP, reads_data
from zoo.cli.terminal import (
    JSON,
    SCHEDULER,
    SEED,
    Finite,
    check_run,
    progress,
    quiet_zoo,
    say,
    setting,
    stdout_to_stderr,
    with_options,
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
TAILS = click.option("--tails", "--tail", "tails", type=click.Choice(["upper", "lower", "both"]),
                     help="Which end of the score; by default both for a score without direction, else upper.")  # fmt: skip
SCORE_KIND = click.option("--score-kind", "--kind", "score_kind", help="Score kind; the model's default otherwise.")


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
BACKGROUNDS = [
    "spectrum",
    "sidebands",
    "template",
    "auto",
    "auto-exp",
    "dijet3",
    "dijet4",
    "dijet5",
    "exp1",
    "exp2",
    "exp3",
    "power",
]
CUT = click.option("--cut", type=click.Choice(["mass", "global"]), default="mass", show_default=True,
                   help="A threshold on the score that follows the mass, or one for all masses, the papers' own.")  # fmt: skip
CUTS = [percentile_option(99.0), CUT, *WINDOWS]
SEARCHING = [
    TAILS,
    SCORE_KIND,
    click.option("--background", type=click.Choice(BACKGROUNDS), default="spectrum", show_default=True,
                 help="The spectrum before the cut, or a function that is fitted to the selected one; with --scan also the "
                      "side bands, or the model's own template."),
    click.option("--pseudo-experiments", "--toys", "pseudo_experiments", type=int, default=40_000, show_default=True, help="Pseudo-experiments."),
    click.option("--spectrum", "spectra", multiple=True, default=["mass"], show_default=True,
                 help="The events' mass, or a column in GeV as m_jjj; may be repeated."),
    click.option("--range", "ranges", type=(str, Finite(), Finite()), multiple=True, metavar="SPECTRUM LOW HIGH",
                 help="Of one spectrum, GeV; may be repeated."),
    click.option("--ignore-labels", is_flag=True, help="As if the file had no truth."),
    click.option("--ignore-weights", is_flag=True, help="Count all events alike in the spectra; trainings keep the weights."),
]  # fmt: skip


SCAN = [
    click.option("--scan", is_flag=True, help="Slide a window over the masses; train MODEL, of a window, for each."),
    click.option("--window-width", type=Finite(), default=0.12, show_default=True,
                 help="Scan: below 1 a share of the window's centre, else GeV."),
    click.option("--window-step", type=Finite(), default=0.5, show_default=True,
                 help="Scan: distance of neighbouring windows, in widths."),
    click.option("--side-band-width", type=Finite(), help="Scan: of each side band, as --window-width; all events otherwise."),
    click.option("--window", "windows", type=(Finite(), Finite()), multiple=True, metavar="LOW HIGH",
                 help="Scan: this window, GeV, instead of sliding ones; may be repeated."),
]  # fmt: skip


@click.command()
@click.argument("run", metavar="[RUN]", required=False)
@click.option("--data", required=True, multiple=True, help=DATA_HELP)
@reads_data("data")
@click.option("--scores", type=click.Path(path_type=Path), metavar="FILE",
              help="Instead of RUN: scores that you have, one for each event of --data; HDF5 (dataset score), .npy, or text.")  # fmt: skip
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder for results and report.")
@with_options([*CUTS, *SEARCHING, *TRAINING, *SCAN])
@click.option("--explain", is_flag=True,
              help="Say in the report what each input contributes to the scores of the selected events; of a trained RUN.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with what an interrupted search has trained, or begin.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that train folds or windows."
)
@SCHEDULER
@SEED
@JSON
def hunt(
    run, data, out, trained, settings, xla, mass_range, ranges, no_merge, as_json, conversion, converting, **options
):
    """Search for a bump in the mass of the most anomalous events.

    RUN is a run directory; with --train, --folds or --scan also the name of a model, which is trained on the data. Without
    RUN, the scores are those of --scores. Published files and tables are converted first, into OUT.events.h5.
    """
    from pipelines.outputs import check_new

    check_new(out, unless=SEARCH if options["resume"] else None)  # before TensorFlow is imported
    trains = trained or options["folds"] or options["scan"]
    if os.path.lexists(out):
        _say_finished(out, as_json)
        return
    if run is not None and options["scores"] is None:
        check_run(run, options["preset"], [name for name, _ in map(setting, settings)] if trains else None)
    by_name = {name: mass_range for name in options["spectra"] if mass_range}
    by_name |= {name: (low, high) for name, low, high in ranges}
    options["relative_error"] = None if no_merge else options["relative_error"]
    with contextlib.nullcontext() if trains else _keeping_nothing():
        zoo = quiet_zoo()
        with stdout_to_stderr(), contextlib.nullcontext() if trains else progress("scoring and hunting"):
            found = zoo.hunt(
                run, data, out, train=trained, hyperparameters=dict(map(setting, settings)), jit_compile=xla,
                mass_range=by_name, verbose=1 if sys.stderr.isatty() else 2, said=converting.said,
                conversion={**conversion, "progress": converting.progress}, **options,
            )  # fmt: skip
    if options["scan"]:
        _say_scan(found, out, as_json)
        return
    from pipelines.report.tables import limit_json
    from pipelines.report.text import warnings_of

    warnings = warnings_of(found)
    below = "".join(f"\n\nWarning: {text}" for text in warnings)
    said = {"out": str(out), **found.summary(), "limit": limit_json(found), "warnings": warnings}
    say(said, as_json, lambda: f"{table(found)}{below}\n\n{out}: report.html, search.json")


def _say_scan(found, out: Path, as_json: bool) -> None:
    """Tell of a scan of windows."""
    from pipelines.window_scan import report

    warnings, limit = report.warnings(found), found.limit()
    rows = [["-" if cell is None else str(cell) for cell in report.row(one)] for one in found.windows]
    below = "".join(f"\n\nWarning: {text}" for text in warnings)
    said = {
        "out": str(out),
        **found.summary(),
        "limit": None if limit is None else limit.to_dict(),
        "warnings": warnings,
    }
    text = f"{len(found.events):,} events, {found.pseudo_experiments:,} pseudo-experiments\n\n"
    text += f"{plain_table(report.HEADS, rows)}\n\n{report.lead(found)}"
    say(said, as_json, lambda: f"{text}{below}\n\n{out}: report.html, search.json")


class Configuration(TypedDict):
    """What is read of the configuration in a search.json."""

    command: NotRequired[str | None]


NOT_SAID = ("hunt", "ranges", "sculpting", "sculpting_following", "truth", "configuration", "left_out", "fits", "following",
            "following_refused", "explained")  # fmt: skip


class Finished(TypedDict):
    """What is read of the search.json of a hunt that has ended; the rest is shown as it is."""

    configuration: NotRequired[Configuration | None]


def _say_finished(out: Path, as_json: bool) -> None:
    """Tell of a search that an earlier process has finished what that told; raises `InputError` if it was another command's."""
    from pipelines import provenance
    from pipelines.documents import read_json_document
    from pipelines.locks import remove
    from pipelines.outputs import hold, work_folder

    found: Any = read_json_document(out / SEARCH, Finished, advice="damaged; choose another output")
    command = (found.get("configuration") or {}).get("command")
    if command is None or _but_resume(command) != _but_resume(provenance.command()):
        raise InputError(f"{out}: exists already, made by `{command}`; choose another output")
    with hold(out, new=False):
        remove(work_folder(out))
    said = {"out": str(out), **{name: value for name, value in found.items() if name not in NOT_SAID}}
    said.setdefault("warnings", None)  # not known of a search of an earlier version
    say(said, as_json, lambda: f"{out}: finished before; report.html, search.json")


def _but_resume(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError:  # no command of a shell
        words = [command]
    return [word for word in words if word != "--resume"]


@contextlib.contextmanager
def _keeping_nothing():
    """Where nothing is trained, end on Ctrl-C without the advice to --resume."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("\nInterrupted. Nothing is kept; start the same command again.", err=True)
        click.get_current_context().exit(130)


def table(found) -> str:
    """Return what a search found as lines for a terminal."""
    from pipelines.bumphunt.bump_hunt import p_text
    from pipelines.bumphunt.result import fit_table, selection_table, truth_in_tuning, z_text
    from pipelines.report.text import lead

    believed, tuned = found.believed, truth_in_tuning(found.configuration)
    hunted = believed or found.hunt
    n = hunted.pseudo_experiments
    heads, rows = selection_table(found)
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
            *(["With the spectrum before the cut as the reference:"] if found.fits else []),
            plain_table(heads, rows),
            "",
            lead(found),
            *([said] if believed and not found.fits and len(rows) > 1 else []),
            *(["", "With a fitted background:", plain_table(*fit_table(found))] if found.fits else []),
            *(["", tuned] if tuned else []),
        ]
    )
