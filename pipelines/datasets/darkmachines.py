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
import fnmatch
import gzip
import itertools
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipelines.datasets.darkmachines_lines import EXAMPLE, TYPES, Line, read_block, read_line, sound_line
from pipelines.errors import InputError
from pipelines.events.layout import source_files
from pipelines.jobs import chunks

SLOTS = (15, 4, 4, 4, 4, 4, 4)
TRUNCATED_SLOTS = (4, 3, 3, 3, 3, 3, 3)
OBJECT_COLUMNS = ("E", "pt", "eta", "phi", "type")
OBJECT_UNITS = ("GeV", "GeV", "", "rad", "")
JETS, LEPTONS, PHOTONS = (1, 2), (3, 4, 5, 6), (7,)

LEADING = {"j": ((1,), 4), "b": ((2,), 2), "l": (LEPTONS, 3), "g": (PHOTONS, 1)}  # types, how many
_MOMENTUM = {"E": "GeV", "pt": "GeV", "eta": "", "dphi": "rad"}
_UNITS = {
    "MET": "GeV",
    "METphi": "rad",
    "HT": "GeV",
    "meff": "GeV",
    **{f"n_{name.replace('m', 'mu')}": "" for name in TYPES},
    "m_jj": "GeV",
    **{
        f"{quantity}_{name}{place}": unit
        for name, (_, most) in LEADING.items()
        for place in range(1, most + 1)
        for quantity, unit in _MOMENTUM.items()
    },
}
COLUMNS, UNITS = tuple(_UNITS), tuple(_UNITS.values())

# Table 2 of the challenge's paper.
BACKGROUNDS = (
    *("njets", "w_jets", "gam_jets", "z_jets", "ttbar", "single_top", "single_topbar", "ww", "wtop", "wtopbar"),
    *("2gam", "Wgam", "zw", "Zgam", "zz", "single_higgs", "ttbarGam", "ttbarZ", "ttbarHiggs", "atop", "ttbarW"),
    *("atopbar", "ztop", "ztopbar", "4top", "ttbarWW"),
)
# Names in the challenge's table of results and of its files; SIGNALS[k - 1] has label k, whatever a file holds. The
# last is what its paper calls monoV_Zp2000.0_DM_1.0.
SIGNALS = (
    *("monojet_Zp2000.0_DM_50.0", "monoV_Zp2000.0_DM_1.0", "monotop_200_A", "pp23mt_50", "pp24mt_50"),
    *("stlp_st1000", "sqsq1_sq1400_neut800", "glgl1400_neutralino1100", "glgl1600_neutralino800"),
    *("gluino_1000.0_neutralino_1.0", "stop2b1000_neutralino300", "sqsq_sq1800_neut800"),
    *("chaneut_cha200_neut50", "chaneut_cha250_neut150", "chaneut_cha300_neut100", "chaneut_cha400_neut200"),
    *("chacha_cha300_neut140", "chacha_cha400_neut60", "chacha_cha600_neut200"),
    "monoV_Zp2000.0_DM_50.0",
)
LONGEST_LINE = 2**20
OPENING = 2**16
LOOKED_AT = 100  # lines of it


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


def recognises(path: str | os.PathLike) -> bool:
    """Tell whether the first line of a file, or of what it holds compressed by gzip, is a Dark Machines event.

    A line with objects among the first 100 will do as well: the first may be broken, or what a program printed.

    >>> recognises("surely-not-there.csv")
    False
    """
    try:
        opening = _opening(path)
    except InputError:
        return False
    for number, line in enumerate(itertools.islice(_lines(opening), LOOKED_AT)):
        try:
            _, _, objects = read_line(line)
        except ValueError:
            continue
        if objects or number == 0:  # numbers between semicolons may be any table's
            return True
    return False


def describe(path: str | os.PathLike) -> dict[str, object]:
    """Return what a file is, from its first 64 KiB; raises `InputError` if there is no event in them.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "background.csv"
    >>> _ = path.write_text(EXAMPLE + "\\n")
    >>> describe(path)["events"], describe(path)["processes"]
    ('about 1', 'ttbar, ...')
    """
    opening = _opening(path)
    events = _sound_lines(path, opening, "MeV", "GeV")
    length = len(opening) / max(1, opening.count(b"\n"))
    return {
        "file": str(path),
        "events": "not known before it is read" if _is_gzip(path) else f"about {os.path.getsize(path) / length:.0f}",
        "layout": "Dark Machines events as text, objects j, b, m+, m-, e+, e-, g",
        "processes": ", ".join([*dict.fromkeys(process for process, _, _ in events), "..."]),
        "labels": "in the process IDs",
        "next": "zoo data convert",
    }


# -- physics --------------------------------------------------------------------------------------------------


def select_channel(channel: str, objects: np.ndarray, met: np.ndarray, ht: np.ndarray) -> np.ndarray:
    """Tell which events are in a channel of the challenge (arXiv 2105.14027, section 2.1, equations 2.2 to 2.5).

    - 1: HT >= 600 GeV, MET >= 200 GeV, MET/HT >= 0.2; at least four jets or b jets with pt > 50 GeV, one of them with
      pt > 200 GeV.
    - 2a: MET >= 50 GeV; at least three electrons or muons with pt > 15 GeV.
    - 2b: MET >= 50 GeV, HT >= 50 GeV; at least two electrons or muons with pt > 15 GeV.
    - 3: HT >= 600 GeV, MET > 100 GeV.

    Jawahar et al. quote these without the jets of channel 1 and with MET >= 100 GeV in channel 3; the published files of
    both papers are the same.

    Args:
        channel: "1", "2a", "2b" or "3".
        objects: (N, 39, 5), as in an events file that is not truncated.
        met, ht: (N,), GeV.

    Returns:
        (N,) bool.

    Raises:
        InputError: there is no such channel, or the objects are of another shape.

    >>> select_channel("3", np.zeros((2, 39, 5)), met=np.array([100.0, 150.0]), ht=np.array([700.0, 700.0]))
    array([False,  True])
    """
    if channel not in CHANNELS:
        raise InputError(f"channel {channel!r}, expected one of {', '.join(CHANNELS)}")
    if objects.shape[1:] != (sum(SLOTS), len(OBJECT_COLUMNS)):
        raise InputError(
            f"objects of shape {objects.shape}, expected (N, {sum(SLOTS)}, {len(OBJECT_COLUMNS)}): "
            f"which channel an event is in cannot be told from truncated ones"
        )
    return CHANNELS[channel](objects, met, ht)


def _channel_1(objects: np.ndarray, met: np.ndarray, ht: np.ndarray) -> np.ndarray:
    jets = _of_types(objects, JETS)
    with np.errstate(divide="ignore", invalid="ignore"):  # no jets, and then not in the channel
        energetic = (ht >= 600) & (met >= 200) & (met / ht >= 0.2)
    return energetic & (_above(jets, 50) >= 4) & (_above(jets, 200) >= 1)


def _channel_2a(objects: np.ndarray, met: np.ndarray, ht: np.ndarray) -> np.ndarray:
    return (met >= 50) & (_above(_of_types(objects, LEPTONS), 15) >= 3)


def _channel_2b(objects: np.ndarray, met: np.ndarray, ht: np.ndarray) -> np.ndarray:
    return (met >= 50) & (ht >= 50) & (_above(_of_types(objects, LEPTONS), 15) >= 2)


def _channel_3(objects: np.ndarray, met: np.ndarray, ht: np.ndarray) -> np.ndarray:
    return (ht >= 600) & (met > 100)


CHANNELS = {"1": _channel_1, "2a": _channel_2a, "2b": _channel_2b, "3": _channel_3}


def _above(objects: np.ndarray, pt: float) -> np.ndarray:
    return (objects[..., 1] > pt).sum(axis=1)


def _of_types(objects: np.ndarray, types: tuple[int, ...]) -> np.ndarray:
    """Return the slots (N, P', 5) of some neighbouring types, of objects (N, 39, 5)."""
    last = np.cumsum(SLOTS)
    return objects[:, last[types[0] - 1] - SLOTS[types[0] - 1] : last[types[-1] - 1]]


def _leading(objects: np.ndarray, types: tuple[int, ...], most: int) -> np.ndarray:
    """Return the `most` objects (N, most, 5) of highest pt of some types, equal pt in the order of the slots."""
    candidates = np.concatenate([_of_types(objects, (kind,))[:, :most] for kind in types], axis=1)
    if len(types) > 1:
        order = np.argsort(-candidates[..., 1], axis=1, kind="stable")[:, :most]
        candidates = candidates[np.arange(len(objects))[:, None], order]
    return candidates


def _dijet_mass(objects: np.ndarray) -> np.ndarray:
    """Return m_jj (N,): m^2 = (E1 + E2)^2 - |p1 + p2|^2 of the two leading jets or b jets, 0 if there is only one."""
    jets = _leading(objects, JETS, 2)
    energy, pt, eta, phi, _ = np.moveaxis(jets, -1, 0)
    momentum = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]).sum(axis=-1)
    square = energy.sum(axis=-1) ** 2 - (momentum**2).sum(axis=0)
    return np.where((pt > 0).all(axis=1), np.sqrt(np.maximum(square, 0)), 0)


def _features(objects: np.ndarray, found: np.ndarray, met: np.ndarray, met_phi: np.ndarray, ht: np.ndarray):
    """Return `COLUMNS` (N, 52) of objects (N, 39, 5), how many of each type there are (N, 7), and MET, METphi, HT."""
    parts = [met, met_phi, ht, ht + met, *found.T, _dijet_mass(objects)]
    for types, most in LEADING.values():
        for leading in np.moveaxis(_leading(objects, types, most), 1, 0):
            energy, pt, eta, phi, kind = leading.T
            dphi = (phi - met_phi + np.pi) % (2 * np.pi) - np.pi
            parts += [energy, pt, eta, np.where(kind > 0, dphi, 0)]
    return np.stack(parts, axis=1)


def _truncate(objects: np.ndarray) -> np.ndarray:
    first = np.cumsum(SLOTS) - SLOTS
    return objects[:, np.concatenate([start + np.arange(kept) for start, kept in zip(first, TRUNCATED_SLOTS)])]


# -- truth ----------------------------------------------------------------------------------------------------


def is_signal(process: str, signal: Sequence[str] = (), background: Sequence[str] = ()) -> bool:
    """Tell whether a process is a signal: by the patterns given, otherwise by `SIGNALS` and `BACKGROUNDS`.

    Raises `InputError` for a process that is in none of them, or matches patterns of both kinds.

    >>> is_signal("stlp_st1000"), is_signal("4top"), is_signal("4top", signal=["4*"])
    (True, False, True)
    """
    as_signal, as_background = (any(fnmatch.fnmatchcase(process, p) for p in kind) for kind in (signal, background))
    if as_signal and as_background:
        raise InputError(f"process {process!r} matches a pattern for signals and one for backgrounds; change one")
    if as_signal or as_background:
        return as_signal
    if process not in SIGNALS and process not in BACKGROUNDS:
        raise InputError(
            f"process {process!r} is not one of the {len(BACKGROUNDS)} backgrounds and {len(SIGNALS)} signals known "
            f"here; say what it is by a pattern of signal or background, or leave truth out by blind"
        )
    return process in SIGNALS


def _truth_numbers(processes: Iterable[str], settings: _Settings) -> tuple[dict[str, int], dict[str, int]]:
    """Return the numbers of processes and their labels: those published first, the same in every file, then others."""
    here = sorted(processes)
    signals = [name for name in here if is_signal(name, settings.signal, settings.background)]
    process = {name: number for number, name in enumerate(dict.fromkeys((*BACKGROUNDS, *SIGNALS, *here)))}
    label = {name: number for number, name in enumerate(dict.fromkeys((*SIGNALS, *signals)), 1)}
    if max(label.values()) > 127:
        raise InputError(f"{len(signals)} signal processes, expected at most 127 of them; convert fewer files at once")
    return {name: process[name] for name in here}, {name: label[name] if name in signals else 0 for name in here}


# -- files to chunks ------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Piece:
    """Some whole lines of a file: bytes start to stop of it, or the text itself and the number of lines before."""

    path: str
    start: int = 0
    stop: int = 0
    text: bytes | None = None
    before: int = 0

    def read(self) -> bytes:
        if self.text is not None:
            return self.text
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return file.read(self.stop - self.start)

    def line(self, number: int) -> int:
        """Return the number in the file, from 1, of a line of the piece, from 0."""
        if self.text is not None:
            return self.before + number + 1
        with open(self.path, "rb") as file:
            blocks = iter(lambda: file.read(min(2**20, self.start - file.tell())), b"")
            return sum(block.count(b"\n") for block in blocks) + number + 1


def convert(
    sources: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike,
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
        _sound_lines(path, _opening(path), unit)
    _compile()
    tasks = ((piece, settings) for path in paths for piece in _pieces(Path(path).resolve(), block))
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
        self._process, self._label = _truth_numbers(processes, self._settings)
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


def _chunk(piece: _Piece, settings: _Settings) -> tuple[chunks.Arrays, dict[str, int]]:
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
    features = _features(objects, found, events.met[kept], events.met_phi[kept], ht[kept])
    objects = _truncate(objects) if settings.truncated else objects
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


def _count_processes(processes: np.ndarray, piece: _Piece, settings: _Settings) -> dict[str, int]:
    """Count the events of each process; raises `InputError` at once for one that is not known."""
    counts = {name.decode(): int(count) for name, count in zip(*np.unique(processes, return_counts=True))}
    for name in counts:
        try:
            is_signal(name, settings.signal, settings.background)
        except InputError as error:
            raise InputError(f"{piece.path}: {error}") from None
    return {f"process {name}": count for name, count in counts.items()}


def _pieces(path: Path, block: int) -> Iterator[_Piece]:
    """Cut a file into pieces of whole lines, each of at least `block` bytes but the last."""
    if _is_gzip(path):
        yield from _pieces_of_gzip(path, block)
        return
    size, start = path.stat().st_size, 0
    with open(path, "rb") as file:
        while start < size:
            file.seek(min(start + block, size))
            _check_length(file.readline(LONGEST_LINE), path)
            yield _Piece(str(path), start, file.tell())
            start = file.tell()


def _pieces_of_gzip(path: Path, block: int) -> Iterator[_Piece]:
    """Decompress a file as far as pieces of it are wanted; raises `InputError` where it is damaged."""
    before = 0
    with gzip.open(path, "rb") as file:
        while True:
            try:
                text = file.read(block)
                rest = file.readline(LONGEST_LINE) if text else b""
            except (EOFError, OSError, zlib.error) as error:
                what = "ends too early" if isinstance(error, EOFError) else f"is damaged ({error})"
                raise InputError(f"{path}: {what}, somewhere after line {before}; is the download complete?") from None
            if not text:
                return
            _check_length(rest, path)
            yield _Piece(str(path), text=text + rest, before=before)
            before += (text + rest).count(b"\n")


def _check_length(line: bytes, path: Path) -> None:
    if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
        raise InputError(f"{path}: a line of more than {LONGEST_LINE} bytes, expected Dark Machines events as text")


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


def _origin(paths: Sequence[str | os.PathLike]) -> str:
    names = [Path(path).name for path in paths]
    return "converted from " + ", ".join(names[:5]) + (f" and {len(names) - 5} others" if len(names) > 5 else "")


def _is_gzip(path: str | os.PathLike) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _opening(path: str | os.PathLike) -> bytes:
    """Return the first 64 KiB of text; raises `InputError` if there is nothing to read."""
    path = Path(path)
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: is {'a folder' if path.is_dir() else 'no file'}, expected Dark Machines events")
    try:
        with gzip.open(path, "rb") if _is_gzip(path) else open(path, "rb") as file:
            opening = file.read(OPENING)
    except PermissionError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror})") from None
    except (EOFError, OSError, zlib.error) as error:
        what = "ends too early" if isinstance(error, EOFError) else f"is damaged ({error})"
        raise InputError(f"{path}: {what}; is the download complete?") from None
    if not opening.strip():
        raise InputError(f"{path}: is empty, expected Dark Machines events, one a line")
    return opening


def _lines(opening: bytes) -> Iterator[str]:
    """Yield the lines of the opening that are there in full and have something in them."""
    lines = opening.decode("latin-1").split("\n")
    if len(opening) == OPENING and len(lines) > 1:
        lines.pop()
    return (line for line in lines if line.strip(" \r"))


def _sound_lines(path: str | os.PathLike, opening: bytes, *units: str) -> list[Line]:
    """Return the events of a file's opening; raises `InputError`, for its first line, if no line is one."""
    for kind, place, magic in (
        ("a tar archive; unpack it", 257, b"ustar"),
        ("a zip archive; unpack it", 0, b"PK\x03\x04"),
    ):
        if opening[place : place + len(magic)] == magic:
            raise InputError(f"{path}: is {kind}, then convert the .csv files in it")
    found, reasons = [], []
    for line, unit in itertools.product(itertools.islice(_lines(opening), LOOKED_AT), units):
        try:
            found.append(sound_line(line, unit))
        except ValueError as error:
            reasons.append(f"line {line[:40]!r}: {error}")
    if not found:
        raise InputError(f"{path}: {reasons[0]}; expected Dark Machines events such as {EXAMPLE}")
    return found


def truncated_places(slots: int) -> tuple[int, ...]:
    """Return which of so many slots the truncated list has: the four leading jets, three of each other type.

    Raises `InputError` if these are not the slots of Dark Machines events.

    >>> truncated_places(39)[:7]
    (0, 1, 2, 3, 15, 16, 17)
    """
    if slots == sum(TRUNCATED_SLOTS):
        return tuple(range(slots))
    if slots != sum(SLOTS):
        raise InputError(
            f"truncated=True: objects have {slots} slots, expected the {sum(SLOTS)} of Dark Machines events"
        )
    first = np.cumsum(SLOTS) - SLOTS
    return tuple(int(start) + i for start, kept in zip(first, TRUNCATED_SLOTS) for i in range(kept))


def check_countable(slots: int) -> None:
    """Raise `InputError` if so many slots are those of a truncated list, in which not all objects can be counted."""
    if slots == sum(TRUNCATED_SLOTS):
        raise InputError(
            f"multiplicities=True: objects have {slots} slots, a list that has been cut, of which no more than "
            f"{max(TRUNCATED_SLOTS)} of a type can be counted; expected the {sum(SLOTS)} of Dark Machines events: convert "
            f"without `truncated`, and let the model cut the list by truncated=True"
        )
