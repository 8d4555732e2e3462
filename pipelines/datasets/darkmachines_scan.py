"""Ordinary lines of Dark Machines files to numbers, compiled by Numba: import this only where lines are read.

What is not ordinary is left to `darkmachines_lines.read_line`, which is the definition of a line and which this agrees
with, bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

NEWLINE, RETURN, SPACE, PLUS, COMMA, MINUS, POINT, ZERO, NINE, SEMICOLON = b"\n\r +,-.09;"
J, B, M, E, G, U, SMALL_E, LARGE_E, LAST_PRINTABLE = b"jbmegueE~"
LONGEST_NAME = 64

POWERS = 10.0 ** np.arange(23)  # all exact in float64
LARGEST = (2**53 - 10) // 10  # a digit more and the number still fits float64's 53 bits


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` when it is first called, and keep the result on disk where there is a place for it."""
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written to
        return numba.njit(function)


@compiled
def skip(data: Any, at: int) -> Any:
    """Return the first place from `at` on that is no space; there always is one, the end of the last line."""
    while data[at] == SPACE:
        at += 1
    return at


@compiled
def ends(data: Any, at: int) -> Any:
    """Tell whether a line ends at `at`."""
    return data[at] == NEWLINE or (data[at] == RETURN and data[at + 1] == NEWLINE)


@compiled
def read_number(data: Any, at: int) -> Any:
    """Return the float64 nearest to the decimal number at `at`, where it ends, and whether it could be told here.

    w 10^e is one exact integer times or over one exact power of ten, rounded once, if w < 2^53 and |e| <= 22
    (W. D. Clinger, How to read floating point numbers accurately, PLDI 1990). A number of more digits is left at the
    next one, which nothing that calls this takes for its end.
    """
    at = skip(data, at)
    negative = data[at] == MINUS
    at += negative
    w, digits, e, after_point = 0, 0, 0, 0
    while w <= LARGEST:
        byte = data[at]
        if ZERO <= byte <= NINE:
            w = 10 * w + (byte - ZERO)
            digits += 1
            e -= after_point
        elif byte == POINT and not after_point:
            after_point = 1
        else:
            break
        at += 1
    known = digits > 0
    if data[at] == SMALL_E or data[at] == LARGE_E:
        power, at, known = read_exponent(data, at + 1)
        e += power
    if not known or digits == 0 or abs(e) > 22:
        return 0.0, at, False
    value = w * POWERS[e] if e >= 0 else w / POWERS[-e]
    return -value if negative else value, skip(data, at), True


@compiled
def read_exponent(data: Any, at: int) -> Any:
    """Return the whole number of one to three digits at `at`, where it ends, and whether there is one."""
    negative = data[at] == MINUS
    at += negative or data[at] == PLUS
    value, first = 0, at
    while ZERO <= data[at] <= NINE and at < first + 3:
        value = 10 * value + (data[at] - ZERO)
        at += 1
    return -value if negative else value, at, at > first


@compiled
def read_type(data: Any, at: int) -> Any:
    """Return the type code 1 to 7 of j, b, m+, m-, e+, e-, g (also mu+, mu-) at `at`, otherwise 0, and where it ends."""
    at = skip(data, at)
    byte = data[at]
    code = 1 if byte == J else 2 if byte == B else 7 if byte == G else 0
    if byte in (M, E):
        at += 2 if byte == M and data[at + 1] == U else 1
        code = 3 if data[at] == PLUS else 4 if data[at] == MINUS else 0
        code += 2 if byte == E and code else 0
    return code, skip(data, at + 1) if code else at


@compiled
def read_name(data: Any, at: int, name: Any) -> Any:
    """Put start and stop of the process ID at `at` into `name`; return where the next field starts, or -1."""
    start = stop = at = skip(data, at)
    while data[at] != SEMICOLON:
        if not SPACE <= data[at] <= LAST_PRINTABLE or data[at] == COMMA:
            return -1
        at += 1
        stop = at if data[at - 1] != SPACE else stop
    if not 1 <= stop - start <= LONGEST_NAME:
        return -1
    name[0], name[1] = start, stop
    return at + 1


@compiled
def read_head(data: Any, at: int, name: Any, head: Any) -> Any:
    """Put event ID; process ID; weight; MET; METphi into `name` and `head`; return where METphi ends, or -1."""
    while data[at] != SEMICOLON:  # of the event ID nothing is kept
        if data[at] == COMMA or data[at] == NEWLINE:
            return -1
        at += 1
    at = read_name(data, at + 1, name)
    for place in range(3):
        if at < 0:
            return -1
        head[place], at, known = read_number(data, at)
        if not known:
            return -1
        if place < 2:
            at = at + 1 if data[at] == SEMICOLON else -1
    return at


@compiled
def read_objects(data: Any, at: int, kinds: Any, momenta: Any) -> Any:
    """Read the objects of a line from the end of its head on; return how many and where the line ends, or -1."""
    count = 0
    while not ends(data, at):
        if data[at] != SEMICOLON:
            return -1, at
        at = skip(data, at + 1)
        if ends(data, at):  # a semicolon at the end
            break
        kinds[count], at = read_type(data, at)
        known = kinds[count] > 0
        for place in range(4):
            if not known or data[at] != COMMA:
                return -1, at
            momenta[count, place], at, known = read_number(data, at + 1)
        if not known:
            return -1, at
        count += 1
    return count, at


@compiled
def scan(data: Any, lines: Any, objects: Any) -> Any:
    """Read lines as they are in the challenge's files.

    Args:
        data: (M,) uint8, whole lines, the last one ended too.
        lines: how many.
        objects: at least as many objects as there are, such as the number of semicolons.

    Returns:
        Of every line: start and stop of its bytes, and of its process ID (L, 2), int64; weight, MET, METphi (L, 3),
        float64; objects (L,), int64, -1 for a line that is not ordinary, -2 for one with nothing in it.
        Of every object of the ordinary lines: type code (K,), uint8; E, pt, eta, phi (K, 4), float64.
    """
    places, names = np.zeros((lines, 2), np.int64), np.zeros((lines, 2), np.int64)
    heads, counts = np.zeros((lines, 3)), np.full(lines, -1)
    kinds, momenta = np.zeros(objects, np.uint8), np.zeros((objects, 4))
    start, done = 0, 0
    for line in range(lines):
        at = skip(data, start)
        if ends(data, at):
            counts[line] = -2
        else:
            after = read_head(data, at, names[line], heads[line])
            if after >= 0:
                counts[line], at = read_objects(data, after, kinds[done:], momenta[done:])
                done += max(0, counts[line])
        while data[at] != NEWLINE:
            at += 1
        places[line] = start, at
        start = at + 1
    return places, names, heads, counts, kinds[:done], momenta[:done]


@compiled
def fill_slots(counts: Any, kinds: Any, momenta: Any, slots: Any) -> Any:
    """Put objects into slots, grouped by type, by falling pt within a type, equal pt in the order of the file.

    Args:
        counts: objects of every event (N,), int64; kinds, momenta: of every object, as `scan` gives them.
        slots: slots of each type, int64.

    Returns:
        (N, P, 5) E, pt, eta, phi, type code, zeros where a slot is empty; and (N, types), int64, how many objects
        there are of each type, also where these are more than its slots.
    """
    first = np.cumsum(slots) - slots
    objects = np.zeros((len(counts), slots.sum(), 5))
    found = np.zeros((len(counts), len(slots)), np.int64)
    here = 0
    for event in range(len(counts)):
        for i in range(here, here + counts[event]):
            group = kinds[i] - 1
            mine = objects[event, first[group] : first[group] + slots[group]]
            place = found[event, group]
            found[event, group] += 1
            while place > 0 and (place > len(mine) or mine[place - 1, 1] < momenta[i, 1]):
                if place < len(mine):
                    mine[place] = mine[place - 1]
                place -= 1
            if place < len(mine):
                mine[place, :4] = momenta[i]
                mine[place, 4] = kinds[i]
        here += counts[event]
    return objects, found
