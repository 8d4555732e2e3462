"""Dark Machines events: simulated LHC collisions as text, one a line, of 26 Standard Model and 19 new processes.

A line of the published files (T. Aarrestad et al., SciPost Phys. 12 (2022) 043, arXiv 2105.14027, section 2.2; doi
10.5281/zenodo.3685861, .3961917 and .4443151, the last without truth) is

    event ID; process ID; event weight; MET; METphi; obj1, E1, pt1, eta1, phi1; obj2, E2, pt2, eta2, phi2; ...

with MET, E and pt in MeV and an object one of j, b, m+, m-, e+, e-, g (mu+ and mu- are taken for m+ and m-). A line may
end with a semicolon; there may be spaces around every field. The weights add up to the events of a process in 10 fb-1
(equation 2.6); the challenge itself did not use them (its footnote 7).

What becomes of it, beside `weight` and the truth `process` and `label`:

- `objects` (N, 39, 5): E, pt, eta, phi (GeV, rad) and the type, 1 to 7 in the order above, 0 in an empty slot, where all
  is 0. Slots 0-14 are for jets, then four each for the other types, each by falling pt. That is the matrix of P. Jawahar
  et al., Front. Big Data 5 (2022) 803685, arXiv 2110.08508, section 2; its truncated form (section 4.1) has the four
  leading jets and three of each other type, 22 slots. Objects for which there is no slot are left out, and counted.
- `features` (N, 52), `COLUMNS`: MET; METphi; HT, the scalar sum of the pt of all jets and b jets (equation 2.1);
  meff = HT + MET (Jawahar et al., section 4.3); how many objects there are of each type, with those without a slot;
  m_jj of the two leading jets or b jets; E, pt, eta and the angle dphi to the missing momentum of the leading jets, b
  jets, leptons (l, of any flavour and charge) and photon, 0 where there is none.
- `mass`: meff.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipelines.datasets.darkmachines_events import (
    CHANNELS,
    COLUMNS,
    JETS,
    LEADING,
    LEPTONS,
    OBJECT_COLUMNS,
    OBJECT_UNITS,
    PHOTONS,
    SLOTS,
    TRUNCATED_SLOTS,
    UNITS,
    check_countable,
    features_of,
    select_channel,
    truncate,
    truncated_places,
)
from pipelines.datasets.darkmachines_files import (
    LOOKED_AT,
    Piece,
    is_gzip,
    lines_of,
    opening_of,
    pieces,
    sound_lines,
)
from pipelines.datasets.darkmachines_lines import EXAMPLE, read_block, read_line
from pipelines.datasets.darkmachines_truth import BACKGROUNDS, SIGNALS, is_signal, truth_numbers
from pipelines.errors import InputError
from pipelines.events.layout import source_files
from pipelines.jobs import chunks

__all__ = [
    "BACKGROUNDS", "CHANNELS", "COLUMNS", "EXAMPLE", "JETS", "LEADING", "LEPTONS", "OBJECT_COLUMNS", "OBJECT_UNITS", "PHOTONS",
    "SIGNALS", "SLOTS", "TRUNCATED_SLOTS", "UNITS", "check_countable", "convert", "describe", "is_signal", "recognises",
    "select_channel", "truncated_places",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What a chunk of events depends on beside the text."""

    channel: str | None = None
    truncated: bool = False
    skip: bool = False
    unit: str = "MeV"
    blind: bool = False
    signal: tuple[str, ...] = ()
    background: tuple[str, ...] = ()


# -- what a file is -------------------------------------------------------------------------------------------


def recognises(path: str | os.PathLike[str]) -> bool:
    """Tell whether the first line of a file, or of what it holds compressed by gzip, is a Dark Machines event.

    A line with objects among the first 100 will do as well: the first may be broken, or what a program printed.

    >>> recognises("surely-not-there.csv")
    False
    """
    try:
        opening = opening_of(path)
    except InputError:
        return False
    for number, line in enumerate(itertools.islice(lines_of(opening), LOOKED_AT)):
        try:
            _, _, objects = read_line(line)
        except ValueError:
            continue
        if objects or number == 0:  # numbers between semicolons may be any table's
            return True
    return False


def describe(path: str | os.PathLike[str]) -> dict[str, object]:
    """Return what a file is, from its first 64 KiB; raises `InputError` if there is no event in them.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "background.csv"
    >>> _ = path.write_text(EXAMPLE + "\\n")
    >>> describe(path)["events"], describe(path)["processes"]
    ('about 1', 'ttbar, ...')
    """
    opening = opening_of(path)
    events = sound_lines(path, opening, "MeV", "GeV")
    length = len(opening) / max(1, opening.count(b"\n"))
    return {
        "file": str(path),
        "events": "not known before it is read" if is_gzip(path) else f"about {os.path.getsize(path) / length:.0f}",
        "layout": "Dark Machines events as text, objects j, b, m+, m-, e+, e-, g",
        "processes": ", ".join([*dict.fromkeys(process for process, _, _ in events), "..."]),
        "labels": "in the process IDs",
        "next": "zoo data convert",
    }


# -- conversion ------------------------------------------------------------------------------------------


def convert(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    channel: str | None = None,
    truncated: bool = False,
    on_error: str = "stop",
    unit: str = "MeV",
    signal: str | Sequence[str] = (),
    background: str | Sequence[str] = (),
    blind: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[int, int | None], object] | None = None,
    block: int = 2**22,
    license: str = "",
    citation: str = "",
) -> chunks.Outcome:
    """Convert files of Dark Machines events, as text or compressed by gzip, into one events file.

    Args:
        sources: the files, in the order of the events.
        out: events file to make (see the top of this module), resumable as `pipelines.jobs.chunks` says.
        channel: keep only events of this channel, see `select_channel`.
        truncated: 22 slots for objects rather than 39.
        on_error: "stop" at a line that is no event, or "skip" such lines and count them.
        unit: of the energies in the files, "MeV" or "GeV".
        signal, background: shell patterns of processes, which go before the published lists (`is_signal`).
        blind: leave the truth out, such as for the challenge's secret data, which have none.
        workers, scheduler, progress: as in `pipelines.jobs.chunks.in_chunks`; the total is not known, so None.
        block: bytes of text in a chunk; the events do not depend on it.
        license, citation: of the files, to go with the events.

    Returns:
        Events written, and counts: "broken lines" left out, "objects without a slot", "events outside channel ...",
        "process ..." for the events of each.

    Raises:
        InputError: a source is missing, empty, truncated or something else; a line is no event, with its number;
            energies look like GeV (or MeV); an unknown process; an option out of range; and as `chunks.in_chunks`.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "background.csv").write_text(EXAMPLE + "\\n")
        >>> convert(folder / "background.csv", folder / "events.h5").counts["process ttbar"]
        1
    """
    paths = source_files(sources)
    patterns = {"signal": _patterns(signal), "background": _patterns(background)}
    _check_options(channel, on_error, unit, block)
    settings = _Settings(channel, truncated, on_error == "skip", unit, blind, **patterns)
    for path in paths:
        sound_lines(path, opening_of(path), unit)
    _compile()
    tasks = ((piece, settings) for path in paths for piece in pieces(Path(path).resolve(), block))
    truth = _Truth(settings, {"source": _origin(paths), "license": license, "citation": citation})
    options = dataclasses.asdict(settings) | {"block": block}
    job = {"workers": workers, "scheduler": scheduler, "progress": progress}
    return chunks.write_events(
        out, _chunk, tasks, about=truth.about, join=truth.join, sources=paths, options=options, **job
    )


class _Truth:
    """Turns process IDs into numbers, once all of them are known, and describes the file."""

    def __init__(self, settings: _Settings, credit: Mapping[str, str]):
        self._settings, self._credit = settings, credit

    def about(self, counts: Mapping[str, int]) -> dict[str, object]:
        processes = [what.removeprefix("process ") for what in counts if what.startswith("process ")]
        self._process, self._label = truth_numbers(processes, self._settings.signal, self._settings.background)
        labels = {label: name for name, label in self._label.items() if label}
        truth = {} if self._settings.blind else {"label_names": {0: "background"} | labels}
        return {
            **truth,
            **self._credit,
            "process_names": {number: name for name, number in self._process.items()},
            "columns": COLUMNS,
            "units": UNITS,
            "object_columns": OBJECT_COLUMNS,
            "object_units": OBJECT_UNITS,
            "mass_column": "meff",
            "dataset": "darkmachines",
        }

    def join(self, arrays: chunks.Arrays) -> chunks.Arrays:
        if "process" not in arrays:
            return arrays
        names, inverse = np.unique(arrays["process"], return_inverse=True)
        process, label = (
            np.array([numbers[name.decode()] for name in names], np.int16)[inverse]
            for numbers in (self._process, self._label)
        )
        return arrays | {"process": process, "label": label}


def _compile() -> None:
    """Compile what reads lines, or find that it is: then workers need not, each for itself, for seconds."""
    from pipelines.datasets.darkmachines_scan import fill_slots

    nothing = read_block(b"")
    fill_slots(nothing.counts, nothing.kinds, nothing.momenta, np.array(SLOTS))


def _chunk(piece: Piece, settings: _Settings) -> tuple[chunks.Arrays, dict[str, int]]:
    """Make the arrays of a piece of a file, with process IDs as bytes, and count what happened to its lines."""
    from pipelines.datasets.darkmachines_scan import fill_slots

    events = read_block(piece.read(), settings.unit)
    if len(events.broken) and not settings.skip:
        raise InputError(f"{piece.path}: line {piece.line(events.broken[0])}: {events.reason}")
    event_of = np.repeat(np.arange(len(events.counts)), events.counts)
    jets = events.kinds <= max(JETS)
    ht = np.bincount(event_of[jets], weights=events.momenta[jets, 1], minlength=len(events.counts))
    objects, found = fill_slots(events.counts, events.kinds, events.momenta, np.array(SLOTS))
    kept = slice(None) if settings.channel is None else select_channel(settings.channel, objects, events.met, ht)
    objects, found = objects[kept], found[kept]
    features = features_of(objects, found, events.met[kept], events.met_phi[kept], ht[kept])
    objects = truncate(objects) if settings.truncated else objects
    arrays = {
        "features": features.astype(np.float32),
        "objects": objects.astype(np.float32),
        "mass": features[:, COLUMNS.index("meff")].astype(np.float32),
        "weight": events.weight[kept].astype(np.float32),
    }
    counts = {
        "broken lines": len(events.broken),
        "objects without a slot": int(found.sum() - (objects[..., -1] > 0).sum()),
    }
    if settings.channel is not None:
        counts[f"events outside channel {settings.channel}"] = len(ht) - len(features)
    if not settings.blind:
        arrays["process"] = events.process[kept]
        counts |= _count_processes(events.process[kept], piece, settings)
    return arrays, counts


def _count_processes(processes: np.ndarray, piece: Piece, settings: _Settings) -> dict[str, int]:
    """Count the events of each process; raises `InputError` at once for one that is not known."""
    counts = {name.decode(): int(count) for name, count in zip(*np.unique(processes, return_counts=True))}
    for name in counts:
        try:
            is_signal(name, settings.signal, settings.background)
        except InputError as error:
            raise InputError(f"{piece.path}: {error}") from None
    return {f"process {name}": count for name, count in counts.items()}


# -- checks ---------------------------------------------------------------------------------------------------


def _check_options(channel: str | None, on_error: str, unit: str, block: int) -> None:
    if channel is not None and channel not in CHANNELS:
        raise InputError(f"channel {channel!r}, expected one of {', '.join(CHANNELS)}")
    for name, value, allowed in (("on_error", on_error, ("stop", "skip")), ("unit", unit, ("MeV", "GeV"))):
        if value not in allowed:
            raise InputError(f"{name} is {value!r}, expected {' or '.join(allowed)}")
    if block < 1:
        raise InputError(f"block is {block}, expected at least 1 byte")


def _patterns(patterns: str | Sequence[str]) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def _origin(paths: Sequence[str | os.PathLike[str]]) -> str:
    names = [Path(path).name for path in paths]
    return "converted from " + ", ".join(names[:5]) + (f" and {len(names) - 5} others" if len(names) > 5 else "")
