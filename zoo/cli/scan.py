"""`zoo scan`: how significant the bumps of thousands of histograms are."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.errors import InputError
from zoo.cli.terminal import JSON, SEED, Finite, progress, quiet_zoo, say


class Calibration(click.ParamType):
    """How many pseudo-experiments each spectrum has, or "table"."""

    name = "N|table"

    def convert(self, value, param, ctx):
        if value == "table" or (isinstance(value, int) and value >= 0):
            return value
        if str(value).isdecimal():
            return int(value)
        raise InputError(f"--calibrate {value}: expected a number of pseudo-experiments, 0 for none, or the word table")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--model", "run", required=True, type=click.Path(path_type=Path), help="Run of a model of spectra, as ddp."
)
@click.option("--out", type=click.Path(path_type=Path), help="New HDF5 file for all that is found, bin by bin.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="New folder for figures of the 10 most significant spectra.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print a CSV row for each spectrum on stdout and nothing else.")
@click.option(
    "--width",
    "widths",
    type=Finite(),
    multiple=True,
    default=[1.0, 2.0, 3.0],
    show_default=True,
    help="Standard deviation of the bump, in bins; may be repeated: the most significant is taken.",
)
@click.option(
    "--calibrate",
    type=Calibration(),
    default=200,
    show_default=True,
    help="For global p-values: so many background-only pseudo-experiments of each spectrum, 0 for none; or `table`, one "
    "table for all spectra, made once of background-only spectra that the generator of the training draws.",
)
@click.option(
    "--table",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --calibrate table: of so many spectra, 10,000 by default.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --calibrate table: where the table is, or is kept; by default in the run directory.",
)
@click.option(
    "--select", multiple=True, metavar="PATTERN", help="Only histograms of such names, as 'SR*/m_*'; may be repeated."
)
@click.option(
    "--mass-range", "--range", type=Finite(), nargs=2, metavar="LOW HIGH", help="Only bins within, in the file's unit."
)
@click.option("--skip-bad", is_flag=True, help="Say on stderr which histograms cannot be used, and scan the others.")
@click.option(
    "--xla/--no-xla",
    "jit_compile",
    default=None,
    help="Compile programs with XLA first; by default where there are so many spectra that this saves time.",
)
@SEED
@JSON
def scan(file, run, out, plot, as_csv, as_json, **options):
    """Search for bumps in thousands of histograms. FILE is HDF5 with counts and edges, or ROOT with TH1s.

    For each spectrum the largest significance over bins and widths, where it is, and the global p-value: about how often
    background alone has one as large; and the same of the most significant of all.
    """
    from pipelines.outputs import check_new

    if as_csv and as_json:
        raise InputError("--csv and --json are both for stdout; give one of them")
    for path in filter(None, (out, plot)):
        check_new(path)
    told = {"said": lambda text: click.echo(text, err=True), "progress": progress}
    found = quiet_zoo().scan(file, run, out, plot, **told, **options)
    say(found.to_dict(), as_json, found.to_csv if as_csv else lambda: str(found))
