"""`zoo scan`: how significant the bumps of thousands of histograms are."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import click

from pipelines.errors import InputError
from zoo.cli.terminal import JSON, SEED, Finite, progress, quiet_zoo, say

SHOWN = 10  # of the most significant spectra in the text
TABLE = 10_000  # background-only spectra: enough for 3.7 sigma


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
    help=f"New folder for figures of the {SHOWN} most significant spectra.",
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
    help=f"With --calibrate table: of so many spectra, {TABLE} by default.",
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
    "--range", "mass_range", type=Finite(), nargs=2, metavar="LOW HIGH", help="Only bins within, in the file's unit."
)
@click.option("--skip-bad", is_flag=True, help="Say on stderr which histograms cannot be used, and scan the others.")
@click.option(
    "--xla/--no-xla",
    default=None,
    help="Compile programs with XLA first; by default where there are so many spectra that this saves time.",
)
@SEED
@JSON
def scan(file, run, out, plot, as_csv, widths, calibrate, table, calibration, xla, seed, as_json, skip_bad, **which):
    """Look for bumps in all histograms of FILE: HDF5 with counts and edges, or ROOT with TH1s.

    For each spectrum the largest significance over bins and widths, where it is, and the global p-value: about how often
    background alone has one as large; and the same of the most significant of all.
    """
    quiet_zoo()
    import zoo
    from pipelines import histograms
    from pipelines.outputs import check_new

    if as_csv and as_json:
        raise InputError("--csv and --json are both for stdout; give one of them")
    if calibrate != "table" and (table or calibration):
        raise InputError(f"{'--table' if table else '--calibration'} is for --calibrate table; add that")
    for path in (out, plot):
        if path:
            check_new(path)
    bad = Bad()
    spectra = histograms.read(file, skip=bad if skip_bad else None, **which)
    model = zoo.load(run)
    if model.takes != "spectrum":
        raise InputError(
            f"{run}: {model.zoo_name} takes events, not histograms; train one that does, as `zoo train ddp`"
        )
    options = {"seed": seed, "jit_compile": xla}
    if calibrate == "table":
        options["table"] = _table_of(model, run, calibration, widths, table or TABLE, **options)
    else:
        options["toys"] = calibrate
    with progress("scanning") as tell:
        spectra, found = _scanned(model, spectra, widths, bad if skip_bad else None, progress=tell, **options)
    about = {
        "model": model.zoo_name,
        "run": str(run),
        "file": str(file),
        "widths": list(widths),
        "calibration": "table" if calibrate == "table" else "toys" if calibrate else "none",
        "toys": found.toys,
        "seed": seed,
    }
    if found.toys:
        about["file_p_value"], about["file_p_value_is_bound"] = found.file_p_value()
    if out:
        _write(out, spectra, found, about)
    rows = _rows(spectra, found)
    if plot:
        _draw(plot, spectra, found, rows)
    text = _csv(rows) if as_csv else _text(rows, about, len(bad), (out, plot))
    say({**about, "left_out": bad, "spectra": rows}, as_json, lambda: text)


class Bad(list):
    """Histograms that cannot be used, and the reason, as they are told."""

    def __call__(self, name: str, reason: str) -> None:
        self.append({"name": name, "reason": reason})
        click.echo(f"Left out: histogram {name} {reason}", err=True)


def _scanned(model, spectra, widths, bad, **options):
    """The spectra that could be scanned, and what was found; with `bad`, those that no curve goes through are told it."""
    from zoo.models.ddp.scan import NoCurve

    while True:
        try:
            return spectra, model.scan(spectra, widths, **options)
        except NoCurve as error:
            if bad is None or len(error.rows) == len(spectra):
                raise
            for row in error.rows:
                bad(spectra.names[row], "has no smooth curve through it: empty stretches, or 1e13 events in a bin")
            spectra = spectra.take(sorted(set(range(len(spectra))) - set(error.rows.tolist())))


def _table_of(model, run, path, widths, n, *, seed, **options):
    """The table of a file, made first if there is none."""
    from zoo.models.ddp.scan import kept_table, place_of_table

    path = path or place_of_table(run, model, widths, n, seed)
    with progress(f"background alone, kept in {path}") as tell:
        return kept_table(model, path, widths, n, seed=seed, progress=tell, **options)


def _rows(spectra, found) -> list[dict[str, object]]:
    """One spectrum a row, as JSON and CSV have it."""
    from scipy.stats import norm

    rows = []
    for i, name in enumerate(spectra.names):
        row = {
            "name": name,
            "bins": int(spectra.bins[i]),
            "events": float(spectra.counts[i].sum()),
            "local_significance": float(found.significance[i]),
            "bin": int(found.bin[i]),
            "mass": float(found.mass[i]),
            "width": float(found.width[i]),
            "width_in_bins": float(found.width_in_bins[i]),
        }
        if found.toys:
            p = float(found.global_p_value[i])
            row |= {"global_p_value": p, "global_p_value_is_bound": bool(found.global_p_value_is_bound[i])}
            row |= {"global_significance": max(0.0, float(norm.isf(p)))}
        rows.append(row)
    return rows


def _write(out, spectra, found, about) -> None:
    """Write one dataset for each quantity, spectra in the order of the file."""
    from pipelines.checksums import create, store
    from pipelines.outputs import new_disk

    quantities = {"bins": spectra.bins, "edges": spectra.edges}
    quantities |= {"significance": found.per_bin, "local_significance": found.significance}
    quantities |= {name: getattr(found, name) for name in ("bin", "mass", "width", "width_in_bins")}
    if found.toys:
        quantities |= {name: getattr(found, name) for name in ("global_p_value", "global_p_value_is_bound")}
    with new_disk(out) as disk, create(disk) as file:
        file["names"] = list(spectra.names)
        for name, values in quantities.items():
            store(file, name, values)
        file.attrs.update(about)


def _first(rows) -> list[int]:
    """The places of the most significant spectra."""
    order = sorted(range(len(rows)), key=lambda i: (rows[i].get("global_p_value", 1.0), -rows[i]["local_significance"]))
    return order[:SHOWN]


def _draw(folder, spectra, found, rows) -> None:
    """Write figures of the most significant spectra, in their order, and the numbers in them."""
    import re

    from pipelines.outputs import new_directory
    from pipelines.plots import plot_scanned

    with new_directory(folder) as part:
        for place, i in enumerate(_first(rows), 1):
            row, bins = rows[i], rows[i]["bins"]
            p = f", global p {_p(row['global_p_value'], row['global_p_value_is_bound'])}" if found.toys else ""
            plot_scanned(
                spectra.counts[i][:bins],
                spectra.edges[i][: bins + 1],
                found.per_bin[i][:bins],
                part / f"{place:02d}_{re.sub(r'[^A-Za-z0-9.-]+', '_', row['name'])}.png",
                mass=row["mass"],
                width=row["width"],
                title=f"{row['name']}: {row['local_significance']:.1f} sigma, local{p}",
            )


def _csv(rows) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def _text(rows, about, bad, written) -> str:
    first = [rows[i] for i in _first(rows)]
    width, toys = max(4, *(len(row["name"]) for row in first)), about["toys"]
    others = f" ({bad} left out)" if bad else ""
    lines = [f"{about['file']}: {len(rows)} spectra{others}; the most significant:", ""]
    lines += [f"{'name':{width}}  local    mass    width" + ("  global p" if toys else "")]
    for row in first:
        p = f"  {_p(row['global_p_value'], row['global_p_value_is_bound'])}" if toys else ""
        lines.append(
            f"{row['name']:{width}} {row['local_significance']:6.2f} {row['mass']:7.5g} {row['width']:8.3g}{p}"
        )
    if toys:
        lines += ["", *_of_file(rows, about)]
    return "\n".join(lines + [f"Written: {path}" for path in written if path])


def _p(value: float, is_bound: bool) -> str:
    return f"{'< ' if is_bound else ''}{value:.3g}"


def _of_file(rows, about) -> list[str]:
    """What the p-values of all spectra say together, and whether they could say that one stands out."""
    from zoo.models.ddp.scan import needed

    toys, several = about["toys"], len(rows)
    below = sum(row["global_p_value"] <= 0.05 for row in rows)
    # these p-values are whole multiples of 1 / (toys + 1), all equally probable for background alone
    expected = several * ((toys + 1) // 20) / (toys + 1)
    lines = [f"{below} have a global p-value of 0.05 or less; background alone gives about {expected:.3g}."]
    if several > 1:
        p = _p(about["file_p_value"], about["file_p_value_is_bound"])
        lines.append(f"The smallest of {several} p-values, if these are of different events: p {p} for the file.")
    enough = needed(0.05, several)
    if toys < enough:
        way = f"--table {enough}" if about["calibration"] == "table" else f"--calibrate table --table {enough}"
        lines.append(
            f"With {toys} background-only spectra one alone cannot stand out among {several}: p 0.05 for the file takes "
            f"{enough:,}, as by {way}."
        )
    return lines
