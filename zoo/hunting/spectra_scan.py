"""Bumps in all histograms of a file, by a trained model of spectra: `zoo.scan`."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.arguments import argument
from pipelines.errors import InputError
from zoo import weights
from zoo.opened_run import trained_model
from zoo.printed import as_html

SHOWN = 10  # of the most significant spectra in the text
TABLE = 10_000  # background-only spectra: enough for 3.7 sigma

Progress = Callable[[str], contextlib.AbstractContextManager[Any]]


@dataclasses.dataclass(frozen=True)
class Scan:
    """What a model found in the spectra of a file.

    Attributes:
        spectra: those that were scanned. found: what `model.scan` returned, per spectrum and per bin.
        about: model, run, file, widths, calibration, seed; and the p-value of the whole file, if there is one.
        left_out: name and reason of each histogram that could not be used.
        written: files and folders that were written.
    """

    spectra: Any
    found: Any
    about: Mapping[str, Any]
    left_out: Sequence[Mapping[str, str]] = ()
    written: Sequence[Path] = ()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One spectrum a row, as JSON and CSV have it."""
        return _rows(self.spectra, self.found)

    def to_dict(self) -> dict[str, Any]:
        """Return the result ready for JSON."""
        return {**self.about, "left_out": list(self.left_out), "spectra": self.rows}

    def to_csv(self) -> str:
        """Return a CSV table with a row for each spectrum."""
        return _csv(self.rows)

    def write(self, path: str | os.PathLike) -> None:
        """Write one HDF5 dataset for each quantity, bin by bin; raises `InputError` if the file exists."""
        _write(path, self.spectra, self.found, self.about)

    def plot(self, folder: str | os.PathLike) -> None:
        """Draw the most significant spectra into a new folder; raises `InputError` if it exists."""
        _draw(folder, self.spectra, self.found, self.rows)

    def __str__(self) -> str:
        return _text(self.rows, self.about, len(self.left_out), self.written)

    def _repr_html_(self) -> str:
        return as_html(str(self))


def _silent(text: str) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext()


def scan(
    file: str | os.PathLike,
    run: Any,
    out: str | os.PathLike | None = None,
    plot: str | os.PathLike | None = None,
    *,
    widths: Sequence[float] = (1.0, 2.0, 3.0),
    calibrate: int | str = 200,
    table: int | None = None,
    calibration: str | os.PathLike | None = None,
    select: Sequence[str] = (),
    mass_range: tuple[float, float] | None = None,
    skip_bad: bool = False,
    seed: int = 0,
    jit_compile: bool | None = None,
    said: Callable[[str], object] | None = None,
    progress: Progress = _silent,
) -> Scan:
    """Look for bumps in all histograms of a file with a trained model of spectra, such as `ddp`.

    Args:
        file: HDF5 with counts and edges, or ROOT with TH1s (see `pipelines.histograms.read`).
        run: a run directory, or a trained model; then `calibrate="table"` needs `calibration`.
        out: new HDF5 file for all that is found, bin by bin. plot: new folder for figures.
        widths: standard deviations of the bump, in bins; the most significant is taken.
        calibrate: background-only pseudo-experiments of each spectrum, 0 for none; or "table", one table for all spectra.
        table: of how many spectra that table is, 10,000 by default. calibration: its file; by default in the run.
        select: only histograms whose name matches one of these patterns. mass_range: only bins within.
        skip_bad: leave out histograms that cannot be used; `said` is called with each. Otherwise the first of them is refused.
        seed: of the pseudo-experiments. jit_compile: compile with XLA; by default where that saves time.
        progress: a function of a text that returns a context manager; its value is called with (done, total).

    Raises `InputError` for a model of events, options that do not go together, and as `pipelines.histograms.read`.

    Example:
        `print(zoo.scan("spectra.root", "run", calibrate=1000))`
    """
    from pipelines import histograms
    from pipelines.outputs import check_new

    if calibrate != "table" and (table or calibration):
        given = argument("table" if table else "calibration")
        raise InputError(f"{given} is for {argument('calibrate', 'table')}; add that")
    for path in (out, plot):
        if path is not None:
            check_new(path)
    bad = Bad(said)
    spectra = histograms.read(file, skip=bad if skip_bad else None, select=select, mass_range=mass_range)
    model = trained_model(run, "spectra")
    options: dict[str, Any] = {"seed": seed, "jit_compile": jit_compile}
    if calibrate == "table":
        options["table"] = _table_of(model, run, calibration, widths, table or TABLE, progress, **options)
    else:
        options["pseudo_experiments"] = calibrate
    with progress("scanning") as tell:
        spectra, found = _scanned(model, spectra, widths, bad if skip_bad else None, progress=tell, **options)
    about = {
        "model": model.zoo_name,
        "run": str(run) if isinstance(run, (str, os.PathLike)) else "in memory",
        "file": str(file),
        "widths": list(widths),
        "calibration": "table" if calibrate == "table" else "toys" if calibrate else "none",
        "toys": found.pseudo_experiments,
        "seed": seed,
    }
    if found.pseudo_experiments:
        about["file_p_value"], about["file_p_value_is_bound"] = found.file_p_value()
    result = Scan(spectra, found, about, bad, [Path(path) for path in (out, plot) if path])
    if out:
        result.write(out)
    if plot:
        result.plot(plot)
    return result


class Bad(list):
    """The names of histograms that cannot be used, with the reasons."""

    def __init__(self, said: Callable[[str], object] | None = None):
        super().__init__()
        self._said = said

    def __call__(self, name: str, reason: str) -> None:
        self.append({"name": name, "reason": reason})
        if self._said:
            self._said(f"Left out: histogram {name} {reason}")


def _scanned(model, spectra, widths, bad, **options):
    """Return the spectra that could be scanned, and the result; `bad` collects those that no curve fits."""
    from zoo.models.ddp.reader import NoCurve

    while True:
        try:
            return spectra, model.scan(spectra, widths, **options)
        except NoCurve as error:
            if bad is None or len(error.rows) == len(spectra):
                raise
            for row in error.rows:
                bad(spectra.names[row], "has no smooth curve through it: empty stretches, or 1e13 events in a bin")
            spectra = spectra.take(sorted(set(range(len(spectra))) - set(error.rows.tolist())))


def _table_of(model, run, path, widths, n, progress, *, seed, **options):
    """The table of a file, made first if there is none."""
    from zoo.models.ddp.scan import kept_table, place_of_table

    if path is None:
        if not isinstance(run, (str, os.PathLike)):
            raise InputError("calibration: a model in memory has no run directory for its table; name a file")
        if weights.is_shipped(run):
            raise InputError(
                f"{argument('calibration')}: {run} comes with the package, where no table is kept; name a file"
            )
        path = place_of_table(run, model, widths, n, seed)
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
        if found.pseudo_experiments:
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
    if found.pseudo_experiments:
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
            p = (
                f", global p {_p(row['global_p_value'], row['global_p_value_is_bound'])}"
                if found.pseudo_experiments
                else ""
            )
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
    return "\n".join(lines + [f"Written: {path}" for path in written])


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
        way = argument("table", enough)
        if about["calibration"] != "table":
            way = f"{argument('calibrate', 'table')} {way}"
        lines.append(
            f"With {toys} background-only spectra one alone cannot stand out among {several}: p 0.05 for the file takes "
            f"{enough:,}, as by {way}."
        )
    return lines
