"""Files of ATLAS Open Data: the branches of the tree `mini`, read and checked; see `pipelines.datasets.atlas`."""

from __future__ import annotations

import contextlib
import difflib
import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipelines.datasets.atlas_samples import Sample, Truth
from pipelines.datasets.tables.root import check_root, root_file
from pipelines.errors import InputError

TREE = "mini"
MEV = 1e-3  # GeV
LEPTON_UNITS = {
    "flav": "",
    "pt": "GeV",
    "eta": "",
    "phi": "rad",
    "E": "GeV",
    "ptcone30": "GeV",
    "etcone20": "GeV",
    "trackd0pvunbiased": "mm",
    "isTightID": "",
    "z0": "mm",
}
_ENERGIES = ("lep_pt", "lep_E", "lep_ptcone30", "lep_etcone20", "jet_pt", "met_et")
LEPTONS = ("lep_type", "lep_charge", *(f"lep_{name}" for name in LEPTON_UNITS if name != "flav"))
JETS = ("jet_pt", "jet_MV2c10")
MET = ("met_et", "met_phi")
_WEIGHT = ("channelNumber", "mcWeight", "XSection", "SumWeights")
SCALE_FACTORS = ("PILEUP", "ELE", "MUON", "LepTRIGGER")
"""Corrections of the simulation that ATLAS' own examples with two leptons apply."""
_AT_START = 1000  # entries of each file whose units are checked before any work


def needed_branches(simulated: bool, scale_factors: Sequence[str] = SCALE_FACTORS) -> tuple[str, ...]:
    """Return the branches of `mini` that are read, of simulation also those of the weight.

    >>> len(needed_branches(simulated=False)), "mcWeight" in needed_branches(simulated=True)
    (15, True)
    """
    weight = (*_WEIGHT, *(f"scaleFactor_{name}" for name in scale_factors)) if simulated else ()
    return (*LEPTONS, *JETS, *MET, *weight)


@contextlib.contextmanager
def tree_of(path: Path) -> Iterator[Any]:
    """Open a file and give its tree `mini`; raises `InputError` if it has none, or is truncated or no ROOT file."""
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: is {'a folder' if path.is_dir() else 'no file'}, expected a ROOT file")
    check_root(path, "one of ATLAS Open Data")
    with root_file(path) as file:
        found = file.classnames(cycle=False)
        if found.get(TREE) != "TTree":
            there = ", ".join(found) or "nothing"
            raise InputError(f"{path}: no tree {TREE!r}, found {there}; expected a file of ATLAS Open Data of 2020")
        yield file[TREE]


def branch_problem(tree: Any, names: Sequence[str]) -> str | None:
    """Say which branches are missing or of another type than in the release, or None."""
    import uproot

    there = tree.keys(recursive=False)
    missing = [name for name in names if name not in there]
    if missing:
        near = {name: difflib.get_close_matches(name, there, n=1, cutoff=0.8) for name in missing}
        found = ", ".join(f"{name!r}" + (f" (near: {near[name][0]!r})" if near[name] else "") for name in missing)
        return f"tree {TREE!r} has no branch {found}"
    for name in names:
        form, several = tree[name].interpretation, name in (*LEPTONS, *JETS)
        content = form.content if isinstance(form, uproot.AsJagged) else form
        number = isinstance(content, uproot.AsDtype) and content.to_dtype.kind in "fiub"
        if not number or content.to_dtype.shape or isinstance(form, uproot.AsJagged) != several:
            kind = "numbers for each of an event's objects" if several else "one number for each event"
            return f"branch {name!r} is {tree[name].typename}, expected {kind}"
    return None


def checked_entries(sample: Sample, scale_factors: Sequence[str]) -> int:
    """Return how many entries a file has; raises `InputError` if it has not what is needed, or other units."""
    path, names = sample.path, needed_branches(sample.simulated, scale_factors)
    with tree_of(path) as tree:
        problem = branch_problem(tree, names)
        if problem:
            raise InputError(f"{path}: {problem}; expected a file of ATLAS Open Data of 2020")
        entries = tree.num_entries
        start = tree.arrays(("lep_pt", "lep_eta", "lep_E", "jet_pt", "met_et"), entry_stop=_AT_START, how=dict)
    _check_units(path, start)
    return entries


def _check_units(path: Path, start: Mapping[str, Any]) -> None:
    """Raise `InputError` if energies at the start of a file look like GeV: leptons and jets have 7 GeV and more."""
    import awkward as ak

    flat = {name: np.asarray(ak.flatten(values, axis=None), np.float64) for name, values in start.items()}
    for name in ("lep_pt", "jet_pt", "met_et"):
        enough = len(flat[name]) >= (100 if name == "met_et" else 1)  # little may be missing in some events
        if enough and np.median(flat[name]) < 1000:  # False for NaN, which is told where it is, when it is read
            raise InputError(
                f"{path}: {name} has a median of {np.median(flat[name]):g}, expected MeV as in the release, thousands; "
                f"is it in GeV?"
            )
    if len({len(flat[name]) for name in ("lep_pt", "lep_eta", "lep_E")}) > 1:
        return  # which is told where it is, as well
    with np.errstate(all="ignore"):
        ratio = flat["lep_E"] / (flat["lep_pt"] * np.cosh(flat["lep_eta"]))
    ratio = ratio[np.isfinite(ratio)]
    if len(ratio) and not 0.9 < np.median(ratio) < 1.1:
        raise InputError(
            f"{path}: lep_E is {np.median(ratio):g} times the momentum that lep_pt and lep_eta give, expected 1; "
            f"are the units mixed?"
        )


class Entries(NamedTuple):
    """Branches of n entries in float64: (n,), or flat for leptons and jets, whose numbers in each entry are (n,)."""

    values: dict[str, np.ndarray]
    leptons: np.ndarray
    jets: np.ndarray


def read(path: Path, start: int, stop: int, names: Sequence[str]) -> Entries:
    """Read branches; raises `InputError` if the file is damaged, or leptons or jets differ in number among them."""
    import awkward as ak

    with tree_of(path) as tree:
        arrays = tree.arrays(names, entry_start=start, entry_stop=stop, how=dict)
        values = {name: np.asarray(ak.flatten(arrays[name], axis=None), np.float64) for name in names}
        counts = {name: ak.to_numpy(ak.num(arrays[name])) for name in (*LEPTONS, *JETS)}
    gc.collect()  # a tree refers to itself: those of earlier steps would pile up until Python happens to look
    _check_aligned(values, counts, stop - start, f"{path}, entries {start} to {stop - 1}")
    values = {name: numbers * MEV if name in _ENERGIES else numbers for name, numbers in values.items()}
    return Entries(values, counts[LEPTONS[0]], counts[JETS[0]])


def _check_aligned(values: Mapping[str, np.ndarray], counts: Mapping[str, np.ndarray], size: int, where: str) -> None:
    """Raise `InputError` unless every branch has one number for each entry, or for each of its leptons or jets."""
    for name, numbers in values.items():
        first = next((objects[0] for objects in (LEPTONS, JETS) if name in objects), None)
        if first is None:
            good = len(numbers) == size
        else:
            good = len(counts[name]) == size and np.array_equal(counts[name], counts[first])
        if not good:
            expected = first or "there are entries"
            raise InputError(f"{where}: {name} has not as many numbers as {expected}; damaged, fetch it again")


def check_values(values: Mapping[str, np.ndarray], truth: Truth | None, where: str) -> None:
    """Raise `InputError` for numbers that cannot be: not finite, no momentum, no lepton, of another sample, ..."""
    for name, found in values.items():
        bad = np.count_nonzero(~np.isfinite(found))
        if bad:
            raise InputError(f"{where}: {name} is NaN or infinite {bad} times; leave that file out")
    for name in ("lep_pt", "XSection", "SumWeights"):
        if name in values and not (values[name] > 0).all():
            raise InputError(f"{where}: {name} {values[name].min():g}, expected a positive number; leave that file out")
    odd = values["lep_type"][~np.isin(values["lep_type"], (11, 13))]
    if odd.size:
        raise InputError(f"{where}: lep_type {odd[0]:g}, expected 11 for electrons or 13 for muons")
    if truth is not None:
        odd = values["channelNumber"][values["channelNumber"] != truth.dsid]
        if odd.size:
            raise InputError(f"{where}: channelNumber {odd[0]:g}, its name says {truth.dsid}; has it been renamed?")
