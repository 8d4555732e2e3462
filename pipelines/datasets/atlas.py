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
import difflib
import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.datasets.atlas_samples import KINDS, Patterns, Sample, Truth, category, of_one_kind, truths
from pipelines.datasets.tables.root import trees_of
from pipelines.errors import InputError
from pipelines.events.layout import source_files
from pipelines.features import leptons
from pipelines.jobs.chunks import Arrays, Outcome, write_events

TREE = "mini"
LUMINOSITY = 10.064
"""Integrated luminosity of data_A to data_D together, fb^-1."""
MEV = 1e-3  # GeV
ISOLATION = 0.15
WORKING_POINTS = {60: 0.9349, 70: 0.8244, 77: 0.6459, 85: 0.1758}
"""b-tagging efficiency in %, and the MV2c10 above which a jet is tagged (ATL-PHYS-PUB-2016-012)."""

_LEPTON_UNITS = {
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
_EVENT_UNITS = {"mll": "GeV", "mt2": "GeV", "met_et": "GeV", "met_phi": "rad"}
FEATURES = {
    "33": (
        *("njet20", "njet60", "nbjet60", "nbjet70", "nbjet77", "nbjet85"),
        *("isOS", "isSF", "mll", "mt2", "met_et", "met_phi"),
        *(f"lep{number}_{name}" for number in (1, 2) for name in _LEPTON_UNITS),
        "costhstar",
    ),
    "13": (
        *("njet60", "nbjet85", "isOS", "isSF", "mt2", "met_et"),
        *("lep1_pt", "lep1_E", "lep1_ptcone30", "lep1_etcone20", "lep2_pt", "lep2_E", "costhstar"),
    ),
}
"""Names of the 33 features of table I without the significance of d0, and of the 13 of section IV.B.2."""
UNITS = _EVENT_UNITS | {f"lep{number}_{name}": unit for number in (1, 2) for name, unit in _LEPTON_UNITS.items()}

_ENERGIES = ("lep_pt", "lep_E", "lep_ptcone30", "lep_etcone20", "jet_pt", "met_et")
_LEPTONS = ("lep_type", "lep_charge", *(f"lep_{name}" for name in _LEPTON_UNITS if name != "flav"))
_JETS = ("jet_pt", "jet_MV2c10")
_MET = ("met_et", "met_phi")
_WEIGHT = ("channelNumber", "mcWeight", "XSection", "SumWeights")
SCALE_FACTORS = ("PILEUP", "ELE", "MUON", "LepTRIGGER")
"""Corrections of the simulation that ATLAS' own examples with two leptons apply."""

_AT_START = 1000  # entries of each file whose units are checked before any work


class _Recipe(NamedTuple):
    """What is made of every entry, the same for all files."""

    columns: tuple[str, ...]
    luminosity: float
    scale_factors: tuple[str, ...]


# -- what there is ---------------------------------------------------------------------------------------


def recognises(path: str | os.PathLike) -> bool:
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


def describe(path: str | os.PathLike) -> dict[str, object]:
    """Return what a file of the release holds: entries, sample and category, branches that are missing if any.

    Raises `InputError` if it cannot be read, has no tree `mini`, or a name that tells no sample.
    """
    sample = Sample.of(path)
    with _reading(sample.path), _tree(sample.path) as tree:
        entries, problem = tree.num_entries, _branch_problem(tree, needed_branches(sample.simulated))
    return {
        "file": str(path),
        "events": entries,
        "layout": f"ATLAS Open Data, 13 TeV, tree {TREE!r}: entries before any selection, MeV",
        "sample": sample.title,
        "category": category(sample),
        "problem": problem or "none",
        "next": "zoo data convert",
    }


def needed_branches(simulated: bool, scale_factors: Sequence[str] = SCALE_FACTORS) -> tuple[str, ...]:
    """Return the branches of `mini` that are read, of simulation also those of the weight.

    >>> len(needed_branches(simulated=False)), "mcWeight" in needed_branches(simulated=True)
    (15, True)
    """
    weight = (*_WEIGHT, *(f"scaleFactor_{name}" for name in scale_factors)) if simulated else ()
    return (*_LEPTONS, *_JETS, *_MET, *weight)


# -- conversion ------------------------------------------------------------------------------------------


def convert(
    sources: Sequence[str | os.PathLike],
    out: str | os.PathLike,
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
    truth, names = truths(samples, signal, background) if samples[0].simulated else ([None] * len(samples), {})
    recipe = _Recipe(FEATURES[features], luminosity, tuple(scale_factors))
    entries = [_checked_entries(sample, recipe) for sample in samples]
    tasks = (
        (str(sample.path), start, min(start + step, size), known, recipe)
        for sample, size, known in zip(samples, entries, truth, strict=True)
        for start in range(0, size, step)
    )
    return write_events(
        out,
        _events,
        tasks,
        about=_about(samples, truth, names, recipe),
        sources=[sample.path for sample in samples],
        options={**recipe._asdict(), "truth": truth, "label_names": names, "step": step},
        workers=workers,
        scheduler=scheduler,
        progress=progress,
    )


def _about(
    samples: Sequence[Sample], truth: Sequence[Truth | None], names: Mapping[int, str], recipe: _Recipe
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


# -- files -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever uproot trips over into an error that names the file."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # there is no class of errors for damaged files: the parser fails where it happens to
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: damaged, cannot be read ({reason}); fetch it again") from None


@contextlib.contextmanager
def _tree(path: Path):
    """Open a file and give its tree `mini`; raises `InputError` if it has none, or is truncated or no ROOT file."""
    _check_root(path)
    import uproot

    with uproot.open(path, array_cache=None) as file:
        found = file.classnames(cycle=False)
        if found.get(TREE) != "TTree":
            there = ", ".join(found) or "nothing"
            raise InputError(f"{path}: no tree {TREE!r}, found {there}; expected a file of ATLAS Open Data of 2020")
        yield file[TREE]


def _check_root(path: Path) -> None:
    """Raise `InputError` unless a file starts as a ROOT file and is as long as its header says."""
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: is {'a folder' if path.is_dir() else 'no file'}, expected a ROOT file")
    try:
        with open(path, "rb") as file:
            head = file.read(20)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror})") from None
    if head[:4] != b"root":
        raise InputError(f"{path}: not a ROOT file, it starts with {head[:8]!r}; expected one of ATLAS Open Data")
    wide = int.from_bytes(head[4:8], "big") >= 1_000_000  # of ROOT's format: then lengths have 8 bytes
    expected = int.from_bytes(head[12 : 20 if wide else 16], "big")
    size = path.stat().st_size
    if len(head) < 20 or size < expected:
        raise InputError(f"{path}: truncated, {size} bytes of {expected}; fetch it again")


def _branch_problem(tree, names: Sequence[str]) -> str | None:
    """Say which branches are missing or of another type than in the release, or None."""
    import uproot

    there = tree.keys(recursive=False)
    missing = [name for name in names if name not in there]
    if missing:
        near = {name: difflib.get_close_matches(name, there, n=1, cutoff=0.8) for name in missing}
        found = ", ".join(f"{name!r}" + (f" (near: {near[name][0]!r})" if near[name] else "") for name in missing)
        return f"tree {TREE!r} has no branch {found}"
    for name in names:
        form, several = tree[name].interpretation, name in (*_LEPTONS, *_JETS)
        content = form.content if isinstance(form, uproot.AsJagged) else form
        number = isinstance(content, uproot.AsDtype) and content.to_dtype.kind in "fiub"
        if not number or content.to_dtype.shape or isinstance(form, uproot.AsJagged) != several:
            kind = "numbers for each of an event's objects" if several else "one number for each event"
            return f"branch {name!r} is {tree[name].typename}, expected {kind}"
    return None


def _checked_entries(sample: Sample, recipe: _Recipe) -> int:
    """Return how many entries a file has; raises `InputError` if it has not what is needed, or other units."""
    path, names = sample.path, needed_branches(sample.simulated, recipe.scale_factors)
    with _reading(path), _tree(path) as tree:
        problem = _branch_problem(tree, names)
        if problem:
            raise InputError(f"{path}: {problem}; expected a file of ATLAS Open Data of 2020")
        entries = tree.num_entries
        start = tree.arrays(("lep_pt", "lep_eta", "lep_E", "jet_pt", "met_et"), entry_stop=_AT_START, how=dict)
    _check_units(path, start)
    return entries


def _check_units(path: Path, start) -> None:
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


# -- events ----------------------------------------------------------------------------------------------


class _Entries(NamedTuple):
    """Branches of n entries in float64: (n,), or flat for leptons and jets, whose numbers in each entry are (n,)."""

    values: dict[str, np.ndarray]
    leptons: np.ndarray
    jets: np.ndarray


def _events(path: str, start: int, stop: int, truth: Truth | None, recipe: _Recipe) -> tuple[Arrays, dict[str, int]]:
    """Return the datasets of the events selected among entries start <= i < stop of a file, and how many."""
    read = _read(Path(path), start, stop, needed_branches(truth is not None, recipe.scale_factors))
    where = f"{path}, entries {start} to {stop - 1}"
    _check_values(read.values, truth, where)
    pair, selected = _two_good_leptons(read)
    event = {name: read.values[name][selected] for name in read.values if name not in (*_LEPTONS, *_JETS)}
    columns = _columns(pair, _jet_counts(read, selected), event, where)
    arrays = {
        "features": np.stack([columns[name] for name in recipe.columns], axis=1).astype(np.float32),
        "mass": columns["mll"].astype(np.float32),
    }
    if truth is not None:
        size = np.count_nonzero(selected)
        arrays["weight"] = _weight(event, recipe).astype(np.float32)
        arrays["label"] = np.full(size, truth.label, np.int8)
        arrays["process"] = np.full(size, truth.process, np.int16)
    return arrays, {"entries": stop - start, "with exactly two good leptons": np.count_nonzero(selected)}


def _read(path: Path, start: int, stop: int, names: Sequence[str]) -> _Entries:
    """Read branches; raises `InputError` if the file is damaged, or leptons or jets differ in number among them."""
    import awkward as ak

    with _reading(path), _tree(path) as tree:
        read = tree.arrays(names, entry_start=start, entry_stop=stop, how=dict)
        values = {name: np.asarray(ak.flatten(read[name], axis=None), np.float64) for name in names}
        counts = {name: ak.to_numpy(ak.num(read[name])) for name in (*_LEPTONS, *_JETS)}
    gc.collect()  # a tree refers to itself: those of earlier steps would pile up until Python happens to look
    _check_aligned(values, counts, stop - start, f"{path}, entries {start} to {stop - 1}")
    values = {name: numbers * MEV if name in _ENERGIES else numbers for name, numbers in values.items()}
    return _Entries(values, counts[_LEPTONS[0]], counts[_JETS[0]])


def _check_aligned(values: Mapping[str, np.ndarray], counts: Mapping[str, np.ndarray], size: int, where: str) -> None:
    """Raise `InputError` unless every branch has one number for each entry, or for each of its leptons or jets."""
    for name, numbers in values.items():
        first = next((objects[0] for objects in (_LEPTONS, _JETS) if name in objects), None)
        if first is None:
            good = len(numbers) == size
        else:
            good = len(counts[name]) == size and np.array_equal(counts[name], counts[first])
        if not good:
            expected = first or "there are entries"
            raise InputError(f"{where}: {name} has not as many numbers as {expected}; damaged, fetch it again")


def _check_values(values: Mapping[str, np.ndarray], truth: Truth | None, where: str) -> None:
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


def _two_good_leptons(read: _Entries) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return arrays (m, 2) of two leptons, the one with the larger p_T first, and which entries (n,) have them."""
    values, size = read.values, len(read.leptons)
    event = np.repeat(np.arange(size), read.leptons)
    good = values["lep_etcone20"] / values["lep_pt"] < ISOLATION
    good &= values["lep_ptcone30"] / values["lep_pt"] < ISOLATION
    selected = np.bincount(event[good], minlength=size) == 2
    good &= selected[event]
    pair = {name: values[name][good].reshape(-1, 2) for name in _LEPTONS}
    order = np.argsort(-pair["lep_pt"], axis=1, kind="stable")
    return {name: np.take_along_axis(both, order, axis=1) for name, both in pair.items()}, selected


def _jet_counts(read: _Entries, selected: np.ndarray) -> dict[str, np.ndarray]:
    """Return the numbers (m,) of jets, and of those with b-tags, in the selected entries."""
    pt, tag = (read.values[name] for name in _JETS)
    event = np.repeat(np.arange(len(read.jets)), read.jets)
    counted = {"njet20": pt > 20, "njet60": pt > 60}
    counted |= {f"nbjet{point}": (pt > 20) & (tag > cut) for point, cut in WORKING_POINTS.items()}
    return {name: np.bincount(event[jets], minlength=len(read.jets))[selected] for name, jets in counted.items()}


def _columns(
    pair: Mapping[str, np.ndarray], jets: Mapping[str, np.ndarray], event: Mapping[str, np.ndarray], where: str
) -> dict[str, np.ndarray]:
    """Return all 33 features (m,) from leptons (m, 2), numbers of jets (m,) and missing momentum (m,)."""
    flavour, charge = pair["lep_type"], pair["lep_charge"]
    columns = {**jets, **{name: event[name] for name in _MET}}
    columns["isOS"] = charge[:, 0] * charge[:, 1] < 0
    columns["isSF"] = flavour[:, 0] == flavour[:, 1]
    for number in (0, 1):
        for name in _LEPTON_UNITS:
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


def _weight(event: Mapping[str, np.ndarray], recipe: _Recipe) -> np.ndarray:
    """Return the weights (m,) that simulated events have at the luminosity of the recipe."""
    cross_section = 1000 * event["XSection"]  # pb to fb
    weight = cross_section * recipe.luminosity * event["mcWeight"] / event["SumWeights"]
    for name in recipe.scale_factors:
        weight = weight * event[f"scaleFactor_{name}"]
    return weight
