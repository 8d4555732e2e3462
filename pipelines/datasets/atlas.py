"""ATLAS Open Data, 13 TeV: the ROOT files of the release of 2020 to events with exactly two good leptons.

The release (ATLAS Collaboration, ATL-OREACH-PUB-2020-001) has 10 fb^-1 of collisions of 2016, `data_A.2lep.root` to
`data_D.2lep.root`, and simulated samples, `mc_361106.Zee.2lep.root` and so on, with the number (DSID) and the name of
the sample. Each file has a tree `mini`; energies are in MeV. ATLAS made it for education, not for publications.

Selection, features and signals (`pipelines.datasets.atlas_samples`) are those of S. Frette, "Deployment of unsupervised
learning in a search for new physics with ATLAS Open Data" (University of Oslo, 2022), section III and table I. Details:

- A good lepton has `lep_etcone20` / `lep_pt` < 0.15 and `lep_ptcone30` / `lep_pt` < 0.15. Of the two, `lep1` has the
  larger p_T. No requirement on triggers, charges, flavours or jets.
- Energies, momenta and masses are in GeV here, impact parameters in mm as in the files.
- `nbjet60` to `nbjet85` count jets with p_T > 20 GeV that MV2c10 tags at its working points of 60 to 85 % efficiency
  (ATL-PHYS-PUB-2016-012). Table I explains the first number as a p_T in GeV: all four are working points.
- `costhstar` is |cos theta*_ll| and `mt2` has massless invisible particles and leptons of their own masses, as in
  `pipelines.features.leptons`.
- `mll` is one of the 33 features because table I has it, and it is the mass of the events too. A model that should not
  see it takes the other columns.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipelines.datasets.atlas_events import FEATURES, ISOLATION, LUMINOSITY, UNITS, WORKING_POINTS, Recipe, events_of
from pipelines.datasets.atlas_files import (
    SCALE_FACTORS,
    TREE,
    branch_problem,
    checked_entries,
    needed_branches,
    tree_of,
)
from pipelines.datasets.atlas_samples import KINDS, Patterns, Sample, Truth, category, of_one_kind, truths
from pipelines.datasets.tables.root import trees_of
from pipelines.errors import InputError
from pipelines.events.layout import source_files
from pipelines.jobs.chunks import Outcome, write_events

__all__ = [
    "FEATURES", "ISOLATION", "LUMINOSITY", "SCALE_FACTORS", "TREE", "UNITS", "WORKING_POINTS", "Sample", "convert", "describe",
    "needed_branches", "recognises",
]  # fmt: skip


# -- what there is ---------------------------------------------------------------------------------------


def recognises(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is a ROOT file that has a name of the release, or its tree; others are tables.

    >>> recognises(__file__)
    False
    """
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"root":
                return False
    except OSError:
        return False
    try:
        Sample.of(path)
    except InputError:
        with contextlib.suppress(InputError):
            return TREE in trees_of(Path(path))
        return False
    return True


def describe(path: str | os.PathLike[str]) -> dict[str, object]:
    """Return what a file of the release holds: entries, sample and category, branches that are missing if any.

    Raises `InputError` if it cannot be read, has no tree `mini`, or a name that tells no sample.
    """
    sample = Sample.of(path)
    with tree_of(sample.path) as tree:
        entries, problem = tree.num_entries, branch_problem(tree, needed_branches(sample.simulated))
    return {
        "file": str(path),
        "events": entries,
        "layout": f"ATLAS Open Data, 13 TeV, tree {TREE!r}: entries before any selection, MeV",
        "sample": sample.title,
        "category": category(sample),
        "problem": problem or "none",
        "next": "zoo data convert",
    }


# -- conversion ------------------------------------------------------------------------------------------


def convert(
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    features: str = "33",
    luminosity: float = LUMINOSITY,
    signal: Patterns | None = None,
    background: Sequence[str] | None = None,
    only: str | None = None,
    scale_factors: Sequence[str] = SCALE_FACTORS,
    step: int = 100_000,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[int, int | None], object] | None = None,
) -> Outcome:
    """Make an events file of all entries with exactly two good leptons; data and simulation each by themselves.

    Simulated events have the weight with which they are expected in data of the given luminosity,

        w = sigma L mcWeight prod(scaleFactor) / SumWeights,

    sigma (branch `XSection`, pb) with its k-factor and filter efficiency and `SumWeights` being those of the whole
    sample (ATL-OREACH-PUB-2020-001 and its analysis code); it may be negative. Data have weight 1 and no truth.

    Args:
        sources: files of the release, one of each sample.
        out: events file to make.
        features: "33" or "13", the columns of `FEATURES`.
        luminosity: L, fb^-1, > 0.
        signal: names or numbers (DSID) of samples, as shell patterns: label 1 for what the first pattern matches, 2
            for the second, ...; or lists of patterns by the name of the signal. Default: the 12 of the paper.
        background: patterns of samples with label 0. Default: the Standard Model samples that are not `signal`.
        only: "data" or "simulation" leaves out the files of the other kind.
        scale_factors: branches `scaleFactor_...` that go into the weight. "BTAG" corrects the number of b-tagged jets.
        step: entries in memory at a time, for each worker; 100,000 take about 0.1 GB.
        workers, scheduler, progress: as in `pipelines.jobs.chunks.in_chunks`; how many entries will be selected is not
            known before, so `progress` has no total.

    Returns:
        Outcome: events written; and counted, `entries` and those `with exactly two good leptons`.

    Raises:
        InputError: for an option out of range; a file that is missing, damaged, truncated or no ROOT file, or has no
            tree `mini`; branches that are missing (all are named) or of another type; energies that are not in MeV;
            values that are not finite; data and simulation together; a sample that comes twice, is neither signal nor
            background, or is not the one that its name says; no event selected; and as `pipelines.jobs.chunks.in_chunks`.

    Example:
        >>> convert(["data_A.2lep.root", "mc_361106.Zee.2lep.root"], "events.h5")
        Traceback (most recent call last):
        ...
        pipelines.errors.InputError: data and simulation (data_A, 361106 Zee) in one call: ...
    """
    _check_options(features, luminosity, only, step)
    sources = source_files(sources)
    samples = of_one_kind([Sample.of(path) for path in sources], only)
    truth: Sequence[Truth | None] = [None] * len(samples)
    names: dict[int, str] = {}
    if samples[0].simulated:
        truth, names = truths(samples, signal, background)
    recipe = Recipe(FEATURES[features], luminosity, tuple(scale_factors))
    entries = [checked_entries(sample, recipe.scale_factors) for sample in samples]
    tasks = (
        (str(sample.path), start, min(start + step, size), known, recipe)
        for sample, size, known in zip(samples, entries, truth, strict=True)
        for start in range(0, size, step)
    )
    return write_events(
        out,
        events_of,
        tasks,
        about=_about(samples, truth, names, recipe),
        sources=[sample.path for sample in samples],
        options={**recipe._asdict(), "truth": truth, "label_names": names, "step": step},
        workers=workers,
        scheduler=scheduler,
        progress=progress,
    )


def _about(
    samples: Sequence[Sample], truth: Sequence[Truth | None], names: Mapping[int, str], recipe: Recipe
) -> dict[str, object]:
    """Return what the events file says about itself."""
    processes = {known.process: sample.title for sample, known in zip(samples, truth, strict=True) if known}
    what = (
        f"simulation scaled to {recipe.luminosity:g} fb^-1"
        if processes
        else f"data, {', '.join(sample.name for sample in samples)}"
    )
    return {
        "columns": recipe.columns,
        "units": tuple(UNITS.get(name, "") for name in recipe.columns),
        "mass_column": "mll",
        "dataset": "atlas",
        "label_names": names,
        "process_names": processes,
        "source": f"ATLAS Open Data, 13 TeV, release of 2020: {what}",
        "citation": "ATLAS Collaboration, Review of the 13 TeV ATLAS Open Data release, ATL-OREACH-PUB-2020-001",
    }


def _check_options(features: str, luminosity: float, only: str | None, step: int) -> None:
    if features not in FEATURES:
        raise InputError(f"features is {features!r}, expected {' or '.join(map(repr, FEATURES))}")
    if not 0 < luminosity < np.inf:
        raise InputError(
            f"luminosity is {luminosity:g}, expected a positive number of fb^-1; {LUMINOSITY} are all data"
        )
    if only not in (None, *KINDS.values()):
        raise InputError(f"only is {only!r}, expected 'data' or 'simulation'")
    if step < 1:
        raise InputError(f"step is {step}, expected at least 1 entry")
