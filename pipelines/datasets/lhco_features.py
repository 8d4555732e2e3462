"""LHC Olympics 2020 high-level features: momenta, masses and N-subjettiness of two jets, in pandas' HDF5 files.

The published files (`events_anomalydetection_v2.features.h5` and others, doi 10.5281/zenodo.6466204) hold one
table in pandas' "fixed" layout, of columns `pxj1 pyj1 pzj1 mj1 tau1j1 tau2j1 tau3j1`, the same for `j2`, and, in
the mixed file only, `label`. Here they become the columns of those names of `pipelines.features.jets`, by its
formulas, so that a model finds them whichever way events were made. Two things are not the same as clustering the
hadrons anew: the N-subjettiness is the authors' own, whose axes are not documented. Where it is the sum of pt times
distance, in GeV, it is divided by the pt of the jet. The sum of its constituents' pt would be larger: by 0.3 % in the
median, and 4 % in 5 % of jets, of 1,000 events of the R&D data set.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from pipelines.errors import InputError
from pipelines.events.hdf5_files import open_hdf5, reading_hdf5
from pipelines.events.layout import as_text, check_finite, read_rows, source_files, typed
from pipelines.jobs.chunks import Outcome, write_events

_OF_JET = ("px", "py", "pz", "m", "tau1", "tau2", "tau3")
PUBLISHED_COLUMNS = tuple(f"{name}j{jet}" for jet in (1, 2) for name in _OF_JET)
"""Names of the 14 columns of a published file; `label` may follow."""

JET_VARIABLES = ("pt", "eta", "phi", "mass", "e", "tau1", "tau2", "tau3", "tau32", "tau21")
COLUMNS = (*(f"{name}_{jet}" for jet in (1, 2) for name in JET_VARIABLES), "mj1j2")
"""Names of the 21 columns that are made of them: a part of `pipelines.features.jets.COLUMNS`, in its order."""

_UNIT_OF = {"pt": "GeV", "mass": "GeV", "e": "GeV", "mj1j2": "GeV", "phi": "rad"}
UNITS = tuple(_UNIT_OF.get(name.split("_")[0], "") for name in COLUMNS)
LABEL_NAMES = {0: "background", 1: "signal"}

PROBE = 10_000  # rows that tell in what units a file is
MOST_ENERGY = 14_000.0  # GeV, of the LHC's collisions


class _Layout(NamedTuple):
    """Where the columns of a file are: rows, and the dataset and place in it of each column."""

    rows: int
    places: Mapping[str, tuple[str, int]]

    @property
    def has_label(self) -> bool:
        return "label" in self.places


def recognises(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is a table of high-level features (False for anything else, or no file).

    >>> from pipelines.datasets.find import find
    >>> recognises(find("lhco_rnd_real"))
    False
    """
    try:
        with reading_hdf5(path) as file:
            return any(name in _layout(file, path).places for name in PUBLISHED_COLUMNS)
    except InputError:
        return False


def describe(path: str | os.PathLike[str]) -> dict[str, object]:
    """Return what a file of high-level features is: events, labels, units; raises `InputError` as `read_chunk`."""
    with reading_hdf5(path) as file:
        layout = _checked_layout(file, path)
        sums = _tau_is_sum(file, layout, path)
    return {
        "file": str(path),
        "events": layout.rows,
        "layout": "LHC Olympics high-level features of two jets, in pandas' fixed layout",
        "tau": "sums in GeV, to be divided by the jet's pt" if sums else "normalised",
        "labels": "in the column label" if layout.has_label else "none",
        "next": "zoo data convert",
    }


def rows(path: str | os.PathLike[str]) -> int:
    """Return the number of events of a file of high-level features; raises `InputError` if it is none."""
    with reading_hdf5(path) as file:
        return _checked_layout(file, path).rows


def read_chunk(
    path: str | os.PathLike[str], start: int = 0, stop: int | None = None, label: int | None = None
) -> dict[str, np.ndarray]:
    """Return the events start <= i < stop as `features` (n, 21) of `COLUMNS`, `mass` (n,) and `label` (n,).

    With E = sqrt(px^2 + py^2 + pz^2 + m^2): pt = sqrt(px^2 + py^2), eta = asinh(pz / pt), phi = atan2(py, px),
    tau_ij = tau_i / tau_j, and m_jj is the mass of both jets together. Jet 1 is the one of larger pt. What is not
    defined is 0: all of a jet that is not there, and ratios of tau_N = 0.

    Args:
        path: file of high-level features.
        start, stop: rows; all if left out.
        label: truth, 0 to 127, of the events of a file that has no labels.

    Returns:
        float64 in GeV, rad; label int8, absent if neither file nor argument has it.

    Raises:
        InputError: no such file, damaged, or of another layout; columns missing, named; values that are NaN,
            infinite or impossible, or look as if they were in MeV or TeV; a wrong label, or two.
    """
    return _chunk(path, start, stop, label)[0]


def convert(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    label: int | None = None,
    chunk: int = 100_000,
    label_names: Mapping[int, str] | None = None,
    license: str = "",
    citation: str = "",
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[int, int | None], object] | None = None,
) -> Outcome:
    """Make one events file of files of high-level features, one after the other.

    Args:
        sources: the file, or several.
        out: events file to make; it appears only when all events are in it.
        label: truth of the events of those sources that have no labels, 0 to 127.
        chunk: events a worker reads at a time; 100,000 take 40 MB.
        label_names: what the labels mean.
        license, citation: of the sources, to go with the events.
        workers, scheduler, progress: as in `pipelines.jobs.chunks.in_chunks`.

    Returns:
        Number of events, and in how many the jets were not in the order of their pt.

    Raises:
        InputError: as `read_chunk`; some sources have labels and others none; `out` exists or cannot be written.
    """
    files = [str(source) for source in source_files(sources)]
    if chunk < 1:
        raise InputError(f"chunk is {chunk}, expected at least 1 event")
    layouts = [_survey(source) for source in files]
    labels = _labels_to_give(files, layouts, label)
    tasks = [
        (source, start, min(start + chunk, layout.rows), given)
        for source, layout, given in zip(files, layouts, labels)
        for start in range(0, layout.rows, chunk)
    ]
    truth = layouts[0].has_label or labels[0] is not None
    names = LABEL_NAMES if label in (None, *LABEL_NAMES) else LABEL_NAMES | {label: f"signal {label}"}
    about = {
        "columns": COLUMNS,
        "units": UNITS,
        "mass_column": COLUMNS[-1],
        "dataset": "lhco",
        "label_names": (label_names or names) if truth else {},
        "source": "high-level features of " + ", ".join(Path(source).name for source in files),
        "license": license,
        "citation": citation,
    }
    return write_events(
        out,
        _chunk,
        tasks,
        about=about,
        sources=files,
        options={"reader": "lhco_features", "label": label, "chunk": chunk},
        total=sum(layout.rows for layout in layouts),
        workers=workers,
        scheduler=scheduler,
        progress=progress,
    )


# -- one chunk ------------------------------------------------------------------------------------------------


def _chunk(
    path: str | os.PathLike[str], start: int, stop: int | None, label: int | None
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Return the arrays of `read_chunk`, and in how many events the jets were not in the order of their pt."""
    with open_hdf5(path) as file:
        layout = _checked_layout(file, path)
        if label is not None and layout.has_label:
            raise InputError(f"{path}: has its own labels; leave the label {label} out")
        start, stop, _ = slice(start, stop).indices(layout.rows)
        where = f"{path}, rows {start} to {stop - 1}"
        columns = _read(file, layout, start, stop, path)
        sums = _tau_is_sum(file, layout, path)
    check_finite(np.stack(list(columns.values()), axis=1), list(columns), where)
    jets = [_jet(columns, jet, sums, path, start) for jet in (1, 2)]
    swapped = jets[1]["pt"] > jets[0]["pt"]
    first, second = (
        {name: np.where(swapped, jets[1 - i][name], jets[i][name]) for name in (*JET_VARIABLES, "px", "py", "pz")}
        for i in (0, 1)
    )
    mass = _mass(*(first[name] + second[name] for name in ("px", "py", "pz", "e")))
    features = np.stack([*(jet[name] for jet in (first, second) for name in JET_VARIABLES), mass], axis=1)
    arrays = {"features": features, "mass": mass}
    if layout.has_label:
        arrays["label"] = typed("label", columns["label"], where)
    elif label is not None:
        arrays["label"] = np.full(len(mass), typed("label", np.array(label), "label"))
    return arrays, {"events with jets not in order of pt": int(swapped.sum())}


def _jet(
    columns: Mapping[str, np.ndarray], jet: int, tau_is_sum: bool, path: str | os.PathLike[str], start: int
) -> dict[str, np.ndarray]:
    """Return the `JET_VARIABLES` of one jet of every event, and its px, py, pz."""
    px, py, pz, m, *tau = (columns[f"{name}j{jet}"] for name in _OF_JET)
    pt = np.hypot(px, py)
    energy = np.sqrt(px**2 + py**2 + pz**2 + m**2)
    _refuse(energy > MOST_ENERGY, energy, f"mj{jet}", path, start, "energy", "at most 14,000 GeV; is it in MeV?")
    # FastJet gives -sqrt(-m^2) where rounding, of single precision maybe, takes the m^2 of a light jet below zero.
    _refuse(m < -1e-3 * energy, m, f"mj{jet}", path, start, "mass", "0 or more, but for rounding")
    m = np.maximum(m, 0.0)
    _refuse((pt == 0) & (pz != 0), pz, f"pzj{jet}", path, start, "pz", "some pt: eta is infinite along the beam")
    there = pt > 0
    values = {"px": px, "py": py, "pz": pz, "pt": pt, "phi": np.arctan2(py, px), "mass": m}
    values["e"] = np.sqrt(px**2 + py**2 + pz**2 + m**2)
    values["eta"] = np.arcsinh(np.divide(pz, pt, out=np.zeros_like(pt), where=there))
    for number, sums in enumerate(tau, start=1):
        _refuse(sums < -1e-6, sums, f"tau{number}j{jet}", path, start, f"tau{number}", "0 or more")
        value = np.divide(sums, pt, out=np.zeros_like(pt), where=there) if tau_is_sum else sums
        values[f"tau{number}"] = np.where(value < 1e-12, 0.0, value)  # rounding, as in pipelines.features.jets
    values["tau32"] = _ratio(values["tau3"], values["tau2"])
    values["tau21"] = _ratio(values["tau2"], values["tau1"])
    return values


def _refuse(
    bad: np.ndarray, values: np.ndarray, column: str, path: str | os.PathLike[str], start: int, what: str, expected: str
) -> None:
    """Raise `InputError` with the first bad row, if there is any."""
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"{path}: row {start + row} has a jet of {what} {values[row]:g} (column {column}), expected {expected}"
        )


def _mass(px: np.ndarray, py: np.ndarray, pz: np.ndarray, energy: np.ndarray) -> np.ndarray:
    # As a product, as in pipelines.features.jets: it loses fewer digits for forward jets.
    return np.sqrt(np.maximum((energy + pz) * (energy - pz) - (px**2 + py**2), 0.0))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


# -- pandas' layout -------------------------------------------------------------------------------------------


def _layout(file: h5py.File, path: str | os.PathLike[str]) -> _Layout:
    """Find the columns of a data frame in the "fixed" layout.

    That is a group with datasets `axis0` (all column names), `axis1` (the index) and, for each type of number i,
    `block<i>_items` (names, (F,)) and `block<i>_values` (numbers, (N, F)).
    """
    frames = [group for group in file.values() if isinstance(group, h5py.Group) and "block0_values" in group]
    if len(frames) != 1:
        tables = [name for name, group in file.items() if isinstance(group, h5py.Group) and "table" in group]
        if tables:
            raise InputError(
                f"{path}: {tables[0]!r} is in pandas' 'table' layout, expected the 'fixed' one; "
                f"rewrite it with pandas: to_hdf(..., format='fixed')"
            )
        raise InputError(
            f"{path}: {len(frames)} data frames in pandas' 'fixed' layout, expected one; has {sorted(file)}"
        )
    places: dict[str, tuple[str, int]] = {}
    sizes: set[int] = set()
    for number in range(sum(name.endswith("_values") for name in frames[0])):
        items, values = (frames[0].get(f"block{number}_{part}") for part in ("items", "values"))
        if values is not None and "shape" in values.attrs:  # how an empty array is marked
            raise InputError(f"{path}: the data frame {frames[0].name} has no rows")
        if items is None or values is None or values.ndim != 2 or values.shape[1:] != items.shape:
            raise InputError(f"{path}: block{number} of {frames[0].name} has no values for its items; damaged?")
        sizes.add(len(values))
        places |= {as_text(name): (values.name, place) for place, name in enumerate(items[:].tolist())}
    if len(sizes) != 1:
        raise InputError(f"{path}: columns of {sorted(sizes)} rows, expected one length; damaged?")
    return _Layout(sizes.pop(), places)


def _checked_layout(file: h5py.File, path: str | os.PathLike[str]) -> _Layout:
    layout = _layout(file, path)
    missing = [name for name in PUBLISHED_COLUMNS if name not in layout.places]
    if missing:
        found = ", ".join(list(layout.places)[:20]) + (", ..." if len(layout.places) > 20 else "")
        hint = "; raw hadrons need `zoo data cluster`" if len(layout.places) > 2000 else ""
        raise InputError(f"{path}: no column {', '.join(missing)}; it has {found}{hint}")
    read = {
        name: file[place[0]].dtype for name, place in layout.places.items() if name in (*PUBLISHED_COLUMNS, "label")
    }
    wrong = [f"{name} ({kind})" for name, kind in read.items() if kind.kind not in "fiub"]
    if wrong:
        raise InputError(f"{path}: column {', '.join(wrong)}, expected numbers")
    return layout


def _read(
    file: h5py.File, layout: _Layout, start: int, stop: int, path: str | os.PathLike[str]
) -> dict[str, np.ndarray]:
    """Return the columns that are needed, of some rows, float64."""
    names = [*PUBLISHED_COLUMNS, *(["label"] if layout.has_label else [])]
    blocks = {layout.places[name][0] for name in names}
    values = {block: read_rows(file[block], start, stop, f"{path}: {block}") for block in blocks}
    return {name: values[layout.places[name][0]][:, layout.places[name][1]].astype(np.float64) for name in names}


def _tau_is_sum(file: h5py.File, layout: _Layout, path: str | os.PathLike[str]) -> bool:
    """Tell by the first rows whether tau_1 is a sum of pt times distance in GeV; raise `InputError` for TeV.

    Normalised, it is a mean distance in a jet of radius 1, hence not above 1 or so; as a sum it is that many times
    the pt. Of 1,000 events of the R&D data set the median is 0.07, or 92 GeV, the largest 0.6, the smallest 4 GeV.
    """
    columns = _read(file, layout, 0, min(PROBE, layout.rows), path)
    pt = np.concatenate([np.hypot(columns[f"pxj{jet}"], columns[f"pyj{jet}"]) for jet in (1, 2)])
    if pt.size and 0 < np.nanmax(pt) < 20:
        raise InputError(f"{path}: no jet of its first {len(pt) // 2} events has 20 GeV of pt; is it in TeV?")
    tau = np.concatenate([columns[f"tau1j{jet}"] for jet in (1, 2)])[pt > 0]
    return bool(tau.size and np.nanmedian(tau) > 2)


def _survey(source: str) -> _Layout:
    with reading_hdf5(source) as file:
        return _checked_layout(file, source)


def _labels_to_give(sources: Sequence[str], layouts: Sequence[_Layout], label: int | None) -> list[int | None]:
    """Return the label for the events of each source, None for those that have their own."""
    without = [source for source, layout in zip(sources, layouts) if not layout.has_label]
    if label is not None and not without:
        raise InputError(f"{sources[0]}: has its own labels; leave the label {label} out")
    if label is None and without and len(without) < len(sources):
        raise InputError(f"{without[0]}: has no labels, others have; say which label its events have, or leave it out")
    return [None if layout.has_label else label for layout in layouts]
