"""Lines of Dark Machines files, one by one or many at once. The format is that of `darkmachines`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

TYPES = ("j", "b", "m+", "m-", "e+", "e-", "g")  # their codes are 1 to 7

# What a line may hold, in GeV. The challenge keeps objects with pt > 15 GeV (section 2.1), and none can have more than
# sqrt(s)/2 = 6500 GeV: between 6.5 and 13,000 there is every pt of a file read in its own unit, and none of one read
# in the other, which are 1000 times too small (at most 6.5) or too large (more than 15,000).
_HEAD = {"event weight": (-1e30, 1e30), "MET": (0.0, 13_000.0), "METphi": (-6.2832, 6.2832)}
_OBJECT = {"E": (6.5, 13_000.0), "pt": (6.5, 13_000.0), "eta": (-10.0, 10.0), "phi": (-6.2832, 6.2832)}
_IN_GEV = {"MET", "E", "pt"}

EXAMPLE = "94;ttbar;1;112288;1.74766;b,331927,147558,-1.44969,-1.76399"

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_TYPE_CODES = {name: code for code, name in enumerate(TYPES, 1)} | {"mu+": 3, "mu-": 4}

Line = tuple[str, list[float], list[tuple[int, list[float]]]]


def read_line(line: str) -> Line:
    """Read one line: the definition of the format, which the fast reader of whole blocks agrees with.

    Returns:
        Process ID; weight, MET, METphi; (type code 1 to 7, [E, pt, eta, phi]) of every object, in the file's units.

    Raises:
        ValueError: saying what is wrong.

    >>> read_line("94;ttbar;1;112288;1.74766;b,331927,147558,-1.44969,-1.76399;")
    ('ttbar', [1.0, 112288.0, 1.74766], [(2, [331927.0, 147558.0, -1.44969, -1.76399])])
    """
    fields = [field.strip(" ") for field in line.rstrip("\r").split(";")]
    if len(fields) < 5:
        raise ValueError(f"{len(fields)} fields, expected event ID; process ID; event weight; MET; METphi; objects")
    if "," in fields[0]:
        raise ValueError(f"event ID {fields[0][:30]!r}, expected a number")
    process = fields[1]
    if not re.fullmatch(r"[ -+\--~]{1,64}", process):
        raise ValueError(f"process ID {process[:70]!r}, expected 1 to 64 printable characters without comma")
    head = [_number(name, field) for name, field in zip(_HEAD, fields[2:5])]
    objects = fields[5:]
    if objects and not objects[-1]:  # the line ends with a semicolon
        objects.pop()
    return process, head, [_object(place, field) for place, field in enumerate(objects, 1)]


def _object(place: int, field: str) -> tuple[int, list[float]]:
    name, *numbers = (part.strip(" ") for part in field.split(","))
    if name not in _TYPE_CODES:
        raise ValueError(f"object {place} is {name[:30]!r}, expected one of {', '.join(TYPES)}")
    if len(numbers) != 4:
        raise ValueError(f"object {place} ({name}) has {len(numbers)} numbers, expected E, pt, eta, phi")
    return _TYPE_CODES[name], [_number(f"{what} of object {place}", text) for what, text in zip(_OBJECT, numbers)]


def _number(what: str, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{what} is {text[:30]!r}, expected a finite number")
    return float(text)


def sound_line(line: str, unit: str) -> Line:
    """Read one line with energies in GeV; raises ValueError, also if a number cannot be what it should be."""
    process, head, objects = read_line(line)
    head = [_in_range(name, value, *_HEAD[name], unit) for name, value in zip(_HEAD, head)]
    objects = [
        (code, [_in_range(name, value, *_OBJECT[name], unit) for name, value in zip(_OBJECT, momentum)])
        for code, momentum in objects
    ]
    return process, head, objects


def _in_range(name: str, value: float, low: float, high: float, unit: str) -> float:
    if name not in _IN_GEV:
        if not low <= value <= high:
            raise ValueError(f"{name} {value:g}, expected {low:g} to {high:g}")
        return value
    value = value / 1000 if unit == "MeV" else value
    if not low <= value <= high:
        other = "GeV" if unit == "MeV" else "MeV"
        mistaken = 0 < value < low if unit == "MeV" else value > high
        hint = f"; is the file in {other} rather than {unit}? Then say so by unit {other}" if mistaken else ""
        raise ValueError(f"{name} {value:g} GeV, expected {low:g} to {high:g} GeV{hint}")
    return value


@dataclasses.dataclass(frozen=True)
class Block:
    """Events of some lines of text, energies in GeV.

    `process` (N,) bytes; `weight`, `met`, `met_phi` (N,) float64; `counts` (N,) objects of each event; `kinds` (K,)
    uint8 and `momenta` (K, 4) float64, the type codes and E, pt, eta, phi of all objects, event after event; `broken`
    (B,) numbers of the lines that are no events, from 0, and `reason`, what is wrong with the first of them.
    """

    process: np.ndarray
    weight: np.ndarray
    met: np.ndarray
    met_phi: np.ndarray
    counts: np.ndarray
    kinds: np.ndarray
    momenta: np.ndarray
    broken: np.ndarray
    reason: str = ""


def read_block(text: bytes, unit: str = "MeV") -> Block:
    """Read whole lines of text, in "MeV" or "GeV", at once.

    Ordinary lines are read by compiled code, others by `read_line`: every number is the float64 that Python makes of
    it, energies in MeV are divided by 1000. Lines with nothing in them are no events and not broken.

    >>> block = read_block(EXAMPLE.encode())
    >>> block.process, block.met, block.momenta
    (array([b'ttbar'], dtype='|S5'), array([112.288]),
     array([[331.927  , 147.558  ,  -1.44969,  -1.76399]]))
    """
    from pipelines.datasets import darkmachines_scan

    if text and not text.endswith(b"\n"):
        text += b"\n"
    data = np.frombuffer(text, np.uint8)
    places, names, heads, counts, kinds, momenta = darkmachines_scan.scan(data, text.count(b"\n"), text.count(b";"))
    _to_gev(heads, momenta, unit)
    unusual = (counts == -1) | ((counts >= 0) & _strange(heads, counts, momenta))
    process = _names(data, names)
    if unusual.any():
        lines = {i: text[slice(*places[i])].decode("latin-1") for i in np.flatnonzero(unusual)}
        return _with_unusual(lines, unit, process, heads, counts, kinds, momenta)
    events = counts >= 0
    return Block(process[events], *_columns(heads[events]), counts[events], kinds, momenta, np.empty(0, np.int64))


def _columns(heads: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    weight, met, met_phi = heads.T
    return weight, met, met_phi


def _to_gev(heads: np.ndarray, momenta: np.ndarray, unit: str) -> None:
    if unit == "MeV":
        heads[:, 1] /= 1000
        momenta[:, :2] /= 1000


def _strange(heads: np.ndarray, counts: np.ndarray, momenta: np.ndarray) -> np.ndarray:
    """Tell which lines (L,) have a number out of its range."""
    wrong_object = _outside(momenta, _OBJECT)
    line = np.repeat(np.arange(len(counts)), np.maximum(counts, 0))
    return _outside(heads, _HEAD) | (np.bincount(line[wrong_object], minlength=len(counts)) > 0)


def _outside(values: np.ndarray, ranges: Mapping[str, tuple[float, float]]) -> np.ndarray:
    low, high = np.array(list(ranges.values())).T
    return ((values < low) | (values > high)).any(axis=1)


def _names(data: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return data[start:stop] of every (start, stop) as an array of bytes."""
    length = places[:, 1] - places[:, 0]
    width = max(1, length.max(initial=0))
    place = np.arange(width)
    letters = data[np.minimum(places[:, :1] + place, len(data) - 1)] if len(places) else np.empty((0, width), np.uint8)
    return np.ascontiguousarray(np.where(place < length[:, None], letters, 0)).view(f"S{width}")[:, 0]


def _with_unusual(
    lines: Mapping[Any, str],
    unit: str,
    process: np.ndarray,
    heads: np.ndarray,
    counts: np.ndarray,
    kinds: np.ndarray,
    momenta: np.ndarray,
) -> Block:
    """Read the lines that the compiled code skipped or found strange, and put them in place."""
    line_of = np.repeat(np.arange(len(counts)), np.maximum(counts, 0))
    usual = ~np.isin(line_of, list(lines))
    first = np.searchsorted(line_of[usual], np.arange(len(counts)))
    kinds, momenta = kinds[usual], momenta[usual]
    process = process.astype("S64")
    broken, reason, where, new = [], "", [], []
    for i, line in lines.items():
        try:
            name, heads[i], objects = sound_line(line, unit)
        except ValueError as error:
            counts[i] = -1
            broken.append(i)
            reason = reason or str(error)
            continue
        process[i], counts[i] = name.encode(), len(objects)
        where += [first[i]] * len(objects)
        new += objects
    if new:
        kinds = np.insert(kinds, where, [code for code, _ in new])
        momenta = np.insert(momenta, where, [momentum for _, momentum in new], axis=0)
    events = counts >= 0
    return Block(
        process[events], *_columns(heads[events]), counts[events], kinds, momenta, np.array(broken, np.int64), reason
    )
