"""Events of ATLAS Open Data: two good leptons, and the features and weights made of them; see `pipelines.datasets.atlas`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.datasets.atlas_files import (
    JETS,
    LEPTON_UNITS,
    LEPTONS,
    MET,
    Entries,
    check_values,
    needed_branches,
    read,
)
from pipelines.datasets.atlas_samples import Truth
from pipelines.errors import InputError
from pipelines.features import leptons
from pipelines.jobs.chunks import Arrays

LUMINOSITY = 10.064
"""Integrated luminosity of data_A to data_D together, fb^-1."""
ISOLATION = 0.15
WORKING_POINTS = {60: 0.9349, 70: 0.8244, 77: 0.6459, 85: 0.1758}
"""b-tagging efficiency in %, and the MV2c10 above which a jet is tagged (ATL-PHYS-PUB-2016-012)."""
_EVENT_UNITS = {"mll": "GeV", "mt2": "GeV", "met_et": "GeV", "met_phi": "rad"}
FEATURES = {
    "33": (
        *("njet20", "njet60", "nbjet60", "nbjet70", "nbjet77", "nbjet85"),
        *("isOS", "isSF", "mll", "mt2", "met_et", "met_phi"),
        *(f"lep{number}_{name}" for number in (1, 2) for name in LEPTON_UNITS),
        "costhstar",
    ),
    "13": (
        *("njet60", "nbjet85", "isOS", "isSF", "mt2", "met_et"),
        *("lep1_pt", "lep1_E", "lep1_ptcone30", "lep1_etcone20", "lep2_pt", "lep2_E", "costhstar"),
    ),
}
"""Names of the 33 features of table I without the significance of d0, and of the 13 of section IV.B.2."""
UNITS = _EVENT_UNITS | {f"lep{number}_{name}": unit for number in (1, 2) for name, unit in LEPTON_UNITS.items()}


class Recipe(NamedTuple):
    """What is made of every entry, the same for all files."""

    columns: tuple[str, ...]
    luminosity: float
    scale_factors: tuple[str, ...]


def events_of(path: str, start: int, stop: int, truth: Truth | None, recipe: Recipe) -> tuple[Arrays, dict[str, int]]:
    """Return the datasets of the events selected among entries start <= i < stop of a file, and how many."""
    entries = read(Path(path), start, stop, needed_branches(truth is not None, recipe.scale_factors))
    where = f"{path}, entries {start} to {stop - 1}"
    check_values(entries.values, truth, where)
    pair, selected = _two_good_leptons(entries)
    event = {name: entries.values[name][selected] for name in entries.values if name not in (*LEPTONS, *JETS)}
    columns = _columns(pair, _jet_counts(entries, selected), event, where)
    arrays = {
        "features": np.stack([columns[name] for name in recipe.columns], axis=1).astype(np.float32),
        "mass": columns["mll"].astype(np.float32),
    }
    if truth is not None:
        size = np.count_nonzero(selected)
        arrays["weight"] = _weight(event, recipe).astype(np.float32)
        arrays["label"] = np.full(size, truth.label, np.int8)
        arrays["process"] = np.full(size, truth.process, np.int16)
    return arrays, {"entries": stop - start, "with exactly two good leptons": int(np.count_nonzero(selected))}


def _two_good_leptons(read: Entries) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return arrays (m, 2) of two leptons, the one with the larger p_T first, and which entries (n,) have them."""
    values, size = read.values, len(read.leptons)
    event = np.repeat(np.arange(size), read.leptons)
    good = values["lep_etcone20"] / values["lep_pt"] < ISOLATION
    good &= values["lep_ptcone30"] / values["lep_pt"] < ISOLATION
    selected = np.bincount(event[good], minlength=size) == 2
    good &= selected[event]
    pair = {name: values[name][good].reshape(-1, 2) for name in LEPTONS}
    order = np.argsort(-pair["lep_pt"], axis=1, kind="stable")
    return {name: np.take_along_axis(both, order, axis=1) for name, both in pair.items()}, selected


def _jet_counts(read: Entries, selected: np.ndarray) -> dict[str, np.ndarray]:
    """Return the numbers (m,) of jets, and of those with b-tags, in the selected entries."""
    pt, tag = (read.values[name] for name in JETS)
    event = np.repeat(np.arange(len(read.jets)), read.jets)
    counted = {"njet20": pt > 20, "njet60": pt > 60}
    counted |= {f"nbjet{point}": (pt > 20) & (tag > cut) for point, cut in WORKING_POINTS.items()}
    return {name: np.bincount(event[jets], minlength=len(read.jets))[selected] for name, jets in counted.items()}


def _columns(
    pair: Mapping[str, np.ndarray], jets: Mapping[str, np.ndarray], event: Mapping[str, np.ndarray], where: str
) -> dict[str, np.ndarray]:
    """Return all 33 features (m,) from leptons (m, 2), numbers of jets (m,) and missing momentum (m,)."""
    flavour, charge = pair["lep_type"], pair["lep_charge"]
    columns = {**jets, **{name: event[name] for name in MET}}
    columns["isOS"] = charge[:, 0] * charge[:, 1] < 0
    columns["isSF"] = flavour[:, 0] == flavour[:, 1]
    for number in (0, 1):
        for name in LEPTON_UNITS:
            columns[f"lep{number + 1}_{name}"] = pair["lep_type" if name == "flav" else f"lep_{name}"][:, number]

    mass = np.where(flavour == 11, leptons.ELECTRON_MASS, leptons.MUON_MASS).T
    pt, eta, phi, energy = (pair[f"lep_{name}"].T for name in ("pt", "eta", "phi", "E"))
    columns["mll"] = leptons.invariant_mass(pt[0], eta[0], phi[0], energy[0], pt[1], eta[1], phi[1], energy[1])
    columns["costhstar"] = leptons.cos_theta_star(eta[0], eta[1])
    visible = (pt[0], phi[0], mass[0], pt[1], phi[1], mass[1])
    try:
        columns["mt2"] = leptons.stransverse_mass(*visible, event["met_et"], event["met_phi"])
    except ArithmeticError as error:
        raise InputError(f"{where}: {error} with two good leptons; leave that file out") from None
    return columns


def _weight(event: Mapping[str, np.ndarray], recipe: Recipe) -> np.ndarray:
    """Return the weights (m,) that simulated events have at the luminosity of the recipe."""
    cross_section = 1000 * event["XSection"]  # pb to fb
    weight = cross_section * recipe.luminosity * event["mcWeight"] / event["SumWeights"]
    for name in recipe.scale_factors:
        weight = weight * event[f"scaleFactor_{name}"]
    return weight
