"""`zoo scan`: how significant the bumps of thousands of histograms are."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import click

from pipelines.errors import InputError
from zoo.terminal import JSON, SEED, Finite, progress, quiet_zoo, say

SHOWN = 10  # of the most significant spectra in the text


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--model", "run", required=True, type=click.Path(path_type=Path), help="Run of a model of spectra, as ddp."
)
@click.option("--out", type=click.Path(path_type=Path), help="New HDF5 file for all that is found, bin by bin.")
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
    "toys",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="Background-only pseudo-experiments of each spectrum, for its global p-value; 0 for none.",
)
@click.option(
    "--xla/--no-xla",
    default=None,
    help="Compile programs with XLA first; by default where there are so many spectra that this saves time.",
)
@SEED
@JSON
def scan(file, run, out, as_csv, widths, toys, xla, seed, as_json):
    """Look for bumps in all histograms of FILE: HDF5 with counts and edges, or ROOT with TH1s.

    For each spectrum the largest significance over bins and widths, where it is, and the global p-value: how often
    background alone, thrown around a smooth curve through this spectrum, has one as large.
    """
    quiet_zoo()
    import zoo
    from pipelines import histograms
    from pipelines.outputs import check_new

    if as_csv and as_json:
        raise InputError("--csv and --json are both for stdout; give one of them")
    if out:
        check_new(out)
    spectra = histograms.read(file)
    model = zoo.load(run)
    if model.takes != "spectrum":
        raise InputError(
            f"{run}: {model.zoo_name} takes events, not histograms; train one that does, as `zoo train ddp`"
        )
    with progress("scanning") as tell:
        found = model.scan(spectra, widths, toys=toys, seed=seed, jit_compile=xla, progress=tell)
    rows = _rows(spectra, found)
    about = {
        "model": model.zoo_name,
        "run": str(run),
        "file": str(file),
        "widths": list(widths),
        "toys": toys,
        "seed": seed,
    }
    if out:
        _write(out, spectra, found, about)
    text = _table if as_csv else lambda rows: _text(file, rows, toys, out)
    say({**about, "spectra": rows}, as_json, lambda: text(rows))


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
    import h5py

    from pipelines.outputs import new_disk

    with new_disk(out) as disk, h5py.File(disk, "w") as file:
        file["names"], file["bins"], file["edges"] = list(spectra.names), spectra.bins, spectra.edges
        file["significance"], file["local_significance"] = found.per_bin, found.significance
        for name in ("bin", "mass", "width", "width_in_bins"):
            file[name] = getattr(found, name)
        if found.toys:
            file["global_p_value"], file["global_p_value_is_bound"] = (
                found.global_p_value,
                found.global_p_value_is_bound,
            )
        file.attrs.update(about)


def _table(rows) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def _text(file, rows, toys, out) -> str:
    first = sorted(rows, key=lambda row: (row.get("global_p_value", 1.0), -row["local_significance"]))[:SHOWN]
    width = max(4, *(len(row["name"]) for row in first))
    lines = [f"{file}: {len(rows)} spectra; the most significant:", ""]
    lines += [f"{'name':{width}}  local    mass    width" + ("  global p" if toys else "")]
    for row in first:
        p = ""
        if toys:
            p = f"  {'< ' if row['global_p_value_is_bound'] else ''}{row['global_p_value']:.3g}"
        lines.append(
            f"{row['name']:{width}} {row['local_significance']:6.2f} {row['mass']:7.5g} {row['width']:8.3g}{p}"
        )
    if toys:
        below = sum(row["global_p_value"] <= 0.05 for row in rows)
        # these p-values are whole multiples of 1 / (toys + 1), all equally probable for background alone
        expected = len(rows) * ((toys + 1) // 20) / (toys + 1)
        lines += ["", f"{below} have a global p-value of 0.05 or less; background alone gives {expected:.3g}."]
    return "\n".join(lines + ([f"Written: {out}"] if out else []))
