"""A search on disk: its numbers, scores and spectra, and its report."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from pipelines.bumphunt.bump_hunt import Bump
from pipelines.bumphunt.result import Search
from pipelines.bumphunt.spectrum_result import SpectrumHunt
from pipelines.checksums import create, store
from pipelines.outputs import new_directory, new_disk, write_json
from pipelines.report import write_report
from pipelines.report.tables import limit_json
from pipelines.report.text import warnings_of


def write(search: Search, out: str | os.PathLike[str], runs: Path | None = None) -> Path:
    """Write a search to a new folder, whole or not at all.

    search.json   every number but those of single events; what was done
    scores.h5     score, row and masses of every event hunted, and its fold
    spectra.h5    a group for every selection: spectra, tomography, test statistics of all pseudo-experiments; in `following`
                  those of a second hunt with thresholds that follow the mass, in `fits` those with a fitted background
    runs/         what was trained for it, copied from the folder `runs`
    report.html   all of it to read, with figures

    Raises `InputError` if `out` exists or cannot be written.
    """
    with new_directory(out) as part:
        write_json(
            part / "search.json", {**search.to_dict(), "limit": limit_json(search), "warnings": warnings_of(search)}
        )
        _write_scores(search, part / "scores.h5")
        _write_spectra(search, part / "spectra.h5")
        if runs is not None:
            # without the lock that a killed process left beside a run
            shutil.copytree(runs, part / "runs", ignore=shutil.ignore_patterns(".*"))
        write_report(part, search)
    return Path(out)


def _write_scores(search: Search, path: Path) -> None:

    with new_disk(path) as disk, create(disk) as file:
        store(file, "score", search.scores)
        store(file, "row", search.rows)
        for name, values in {"score_std": search.score_std, "fold": search.fold, "weight": search.weight}.items():
            if values is not None:
                store(file, name, values)
        for name, mass in search.masses.items():
            store(file, f"masses/{name}", mass)
        file.attrs["model"] = str(search.configuration["model"])


def _write_spectra(search: Search, path: Path) -> None:
    with new_disk(path) as disk, create(disk, track_order=True) as file:
        for bump in search.hunt.bumps:
            _write_bump(file, bump)
        for bump in () if search.following is None else search.following.bumps:
            _write_bump(file.require_group("following"), bump)
        for bump, fit in zip(search.hunt.bumps, search.fits):
            _write_fit(file.require_group("fits").create_group(_group_name(bump)), fit)


def _group_name(bump: Bump) -> str:
    return f"{bump.spectrum} {bump.percentile:g} {bump.tail}"


def _write_bump(parent: Any, bump: Bump) -> None:
    arrays = {name: name for name in ("edges", "before", "observed", "reference", "tomography")}
    group = parent.create_group(_group_name(bump))
    for name, attribute in {**arrays, "toys": "pseudo_statistics"}.items():
        store(group, name, getattr(bump, attribute))
    if bump.threshold_curve is not None:
        store(group, "threshold_mass", bump.threshold_curve.mass)
        store(group, "threshold_curve", bump.threshold_curve.threshold)
    group.attrs["columns of tomography"] = "low GeV, high GeV, p-value"
    for name in ("spectrum", "percentile", "tail", "threshold", "test_statistic", "normalisation"):
        group.attrs[name] = getattr(bump, name)


def _write_fit(group: Any, fit: SpectrumHunt) -> None:
    arrays = {"edges": fit.edges, "observed": fit.counts, "expected": fit.expected, "first_expected": fit.first_expected,
              "tomography": fit.tomography, "toys": fit.toys}  # fmt: skip
    for name, values in arrays.items():
        store(group, name, values)
    group.attrs["columns of tomography"] = "low GeV, high GeV, p-value"
    group.attrs["background"], group.attrs["test_statistic"] = fit.background.kind, fit.test_statistic
