"""Events that are in two samples: what a model was trained on must not be what it is judged by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from pipelines.errors import InputError
from pipelines.events.events import Events

NUMBERS = 2**22  # read at a time: 16 MB
ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, as in Steele, Lea and Flood (2014)


def overlap(first: Events, second: Events) -> int:
    """Return how many events of `second` are also in `first`, with the same bits in all columns that both have.

    Compared are the mass, the features and the objects, by 64-bit hashes: of N and M events that all differ, N M / 2^64
    are expected to be taken for the same by chance, 5e-8 for a million each. Columns may come in any order, and objects
    in any number of empty slots. -0 is 0. One pass over each sample; the hashes of the smaller one stay in memory,
    8 bytes an event.

    Raises:
        InputError: the samples have neither features nor objects in common; NaN or infinite values; a damaged file.

    Example:
        >>> train = Events.from_arrays([[1.0], [2.0]], mass=[3000, 3100], columns=["pt_1"])
        >>> test = Events.from_arrays([[2.0], [2.0], [5.0]], mass=[3100, 3200, 3000], columns=["pt_1"])
        >>> overlap(train, test)
        1
    """
    features = _common(first.columns, second.columns)
    objects = _common(first.about.object_columns, second.about.object_columns)
    if not features and not objects:
        raise InputError(
            f"{second.name}: no columns in common with {first.name}, which has "
            f"{', '.join([*first.columns, *first.about.object_columns])}; are they of the same kind?"
        )
    known, asked = _hashes(first, features, objects), _hashes(second, features, objects)
    if len(first) <= len(second):
        there = _sorted(known, len(first))
        return sum(int(_found(hashes, there)[1].sum()) for hashes in asked)
    wanted, events = np.unique(_sorted(asked, len(second)), return_counts=True)
    seen = np.zeros(len(wanted), bool)
    for hashes in known:
        at, match = _found(hashes, wanted)
        seen[at[match]] = True
    return int(events[seen].sum())


def _common(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(set(first) & set(second)))


def _sorted(hashes: Iterator[np.ndarray], size: int) -> np.ndarray:
    found, done = np.empty(size, np.uint64), 0
    for block in hashes:
        found[done : done + len(block)] = block
        done += len(block)
    found.sort()
    return found


def _found(hashes: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each hash its place in the sorted `there`, and whether it is there."""
    if not len(there):
        return np.zeros(len(hashes), np.int64), np.zeros(len(hashes), bool)
    at = np.minimum(np.searchsorted(there, hashes), len(there) - 1)
    return at, there[at] == hashes


def _hashes(events: Events, features: Sequence[str], objects: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield the hashes (n,) uint64 of all events, block by block."""
    fields = ["mass"] + ["features"] * bool(features) + ["objects"] * bool(objects)
    wide = 1 + len(events.columns) + (math.prod(events.shape_of("objects")) if objects else 0)
    at = [events.about.object_columns.index(name) for name in objects]
    for block in events.blocks(*fields, columns=features or None, size=max(1, NUMBERS // wide)):
        total = np.zeros(len(block["mass"]), np.uint64)
        total += _term(block["mass"], 0)
        for number in range(len(features)):
            total += _term(block["features"][:, number], 1 + number)
        for slot in range(block["objects"].shape[1] if objects else 0):
            for number, column in enumerate(at):
                total += _term(block["objects"][:, slot, column], 1 + len(features) + slot * len(at) + number)
        yield total


def _term(values: np.ndarray, place: int) -> np.ndarray:
    """Return what a float32 adds to the hash at its place: 64 bits mixed of both, nothing for 0 as in empty slots."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    mixed = _mix(bits ^ _mix(np.array([place + 1], np.uint64) * ODD))
    mixed[values == 0] = 0
    return mixed


def _mix(word: np.ndarray) -> np.ndarray:
    """Spread every bit of 64 over all (the finaliser of SplitMix64; Steele, Lea and Flood, OOPSLA 2014)."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
