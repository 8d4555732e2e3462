"""`zoo bumphunt`: a bump hunt in a spectrum, without a model and without events."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.errors import InputError
from zoo.cli.terminal import JSON, SEED, Command, Finite, progress, say, stdout_to_stderr


@click.command(cls=Command)
@click.argument("spectrum", type=click.Path(path_type=Path))
@click.option("--background", default="auto", show_default=True, metavar="COLUMN|FUNCTION|FILE",
              help="auto (F-test among dijet3, dijet4, dijet5), auto-exp, one of dijet3 to 5, exp1 to 3, power; or a column "
                   "of the spectrum, or a file.")  # fmt: skip
@click.option("--column", help="Of the observed events, or the histogram's name; by default the first after the edges.")
@click.option("--widths", type=int, nargs=2, metavar="MIN MAX",
              help="Of the scan window, in bins; by default 2 to half of the bins.")  # fmt: skip
@click.option("--pseudo-experiments", "--toys", "toys", type=click.IntRange(min=1), default=10_000, show_default=True,
              help="Fitted and scanned as the data are.")  # fmt: skip
@click.option(
    "--mass-range", type=Finite(), nargs=2, metavar="LOW HIGH", help="Only bins within, in the unit of the edges."
)
@click.option("--sqrt-s", type=Finite(), default=13_000.0, show_default=True,
              help="Collision energy in the unit of the edges: the functions are of x = m / sqrt(s).")  # fmt: skip
@click.option(
    "--sliding-window", type=click.IntRange(min=2), metavar="BINS", help="Fit in a window that slides (SWiFt)."
)
@click.option("--exclude", type=Finite(), nargs=2, metavar="LOW HIGH", help="Leave this range out of the fit.")
@click.option(
    "--normalise",
    is_flag=True,
    help="Scale a given background to the events: of all bins, and for a window of those outside.",
)
@click.option("--deficit", is_flag=True, help="Look for too few events.")
@click.option("--template", metavar="COLUMN|FILE",
              help="Background on which the spurious signal of the fitted function is measured, as from simulation.")  # fmt: skip
@click.option("--inject", type=Finite(), nargs=2, metavar="MASS WIDTH",
              help="A Gaussian signal: how many events of it would be found at 3 and 5 sigma, and how often?")  # fmt: skip
@click.option("--inject-events", type=click.FloatRange(min=0), multiple=True, metavar="N",
              help="Of the injected signal; may be repeated. By default up to 12 sigma of the background.")  # fmt: skip
@click.option(
    "--repeats", type=click.IntRange(min=2), default=400, show_default=True, help="Spectra of each --inject-events."
)
@SEED
@click.option("--xlabel", default="mass [GeV]", show_default=True, help="Of the figures.")
@click.option("--out", type=click.Path(path_type=Path), help="New folder for report.html, bumphunt.json and figures.")
@JSON
def bumphunt(spectrum, background, toys, out, xlabel, as_json, **options):
    """Search for a bump in a histogram alone. SPECTRUM is CSV, HEPData CSV or YAML, ROOT, HDF5 or hist.

    No model and no events are needed. The background is fitted, or given; a fit is repeated in every pseudo-experiment.
    """
    from pipelines.bumphunt.spectrum_hunt import bumphunt as hunt
    from pipelines.outputs import check_new
    from pipelines.report.spectrum_report import limit_json, table, verdict, write

    if out is not None:
        check_new(out)
    if spectrum.is_dir():
        raise InputError(f"{spectrum}: a folder, expected the file of a spectrum; a trained run is for `zoo hunt`")
    with stdout_to_stderr(), progress("fitting and scanning pseudo-experiments"):
        found = hunt(spectrum, background, pseudo_experiments=toys, **options)
        if out is not None:
            write(found, out, xlabel=xlabel)
    where = "" if out is None else f"\n\n{out}: report.html, bumphunt.json"
    summary = {"sentence": verdict(found), **found.to_dict(), "limit": limit_json(found)} | (
        {} if out is None else {"out": str(out)}
    )
    say(summary, as_json, lambda: f"{table(found)}{where}")
