"""How a message calls an argument: by its name in Python, and by its option when a command was called.

>>> argument("resume", True), argument("mass_range", (2700, 5000)), argument("out"), setting("members", 4)
('resume=True', 'mass_range=(2700, 5000)', 'out', 'members=4')
>>> with command_line():
...     argument("resume", True), argument("mass_range", (2700, 5000)), argument("out"), setting("members", 4)
('--resume', '--mass-range 2700 5000', '--out', '--set members=4')
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from pipelines.errors import InputError

_by_command: ContextVar[bool] = ContextVar("by_command", default=False)
_NOTHING = object()
_OPTIONS = {
    "run": "RUN",
    "hyperparameters": "--set",
    "fixed": "--set",
    "windows": "--window",
    "conversion": "--convert",
    "pseudo_experiments": "--pseudo-experiments",
    "percentiles": "--percentile",
    "events": "--data",
}


@contextlib.contextmanager
def command_line() -> Iterator[None]:
    """Have messages name the options of a command while the block runs."""
    before = _by_command.set(True)
    try:
        yield
    finally:
        _by_command.reset(before)


def argument(name: str, value: object = _NOTHING) -> str:
    """Return what the user calls an argument, with a value if one is given."""
    if not _by_command.get():
        return name if value is _NOTHING else f"{name}={value:g}" if isinstance(value, float) else f"{name}={value!r}"
    option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
    if value is _NOTHING or value is True:
        return option
    words = value if isinstance(value, (list, tuple)) else (value,)
    return " ".join([option, *(f"{word:g}" if isinstance(word, float) else str(word) for word in words)])


def check_range(name: str, given: Any) -> tuple[float, float]:
    """Return a range of masses as two numbers; raises `InputError` unless it is one.

    >>> check_range("mass_range", [2700, 5000])
    (2700.0, 5000.0)
    """
    ends = tuple(given) if isinstance(given, (Sequence, np.ndarray)) and not isinstance(given, str) else ()
    if len(ends) != 2 or not all(isinstance(end, (int, float, np.number)) for end in ends):
        raise InputError(f"{argument(name)} is {given!r}, expected its lower and upper end, two numbers in GeV")
    low, high = map(float, ends)
    if not low < high:
        raise InputError(f"mass range {low:g} to {high:g} GeV is empty; give the lower edge first")
    return low, high


def check_path(name: str, given: Any) -> None:
    """Raise `TypeError` unless something is a path.

    >>> check_path("out", "run")
    """
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(f"{argument(name)} is {type(given).__name__}, expected a path")


def check_texts(name: str, given: Any, what: str = "names") -> tuple[str, ...]:
    """Return a list of texts as a tuple; raises `InputError` for a single one, whose letters would be taken for names.

    >>> check_texts("columns", ["pt_1", "pt_2"])
    ('pt_1', 'pt_2')
    """
    listed = isinstance(given, Iterable) and not isinstance(given, (str, bytes))
    found = tuple(given) if listed else ()
    if not listed or not all(isinstance(one, str) for one in found):
        raise InputError(f"{argument(name)} is {given!r}, expected a list of {what}")
    return tuple(map(str, found))  # plain ones of those of NumPy


def check_whole(name: str, given: Any, least: int = 0) -> int:
    """Return a whole number; raises `InputError` for anything else, or less than `least`.

    >>> check_whole("seed", np.int64(3))
    3
    """
    if isinstance(given, (bool, np.bool_)) or not isinstance(given, (int, np.integer)) or given < least:
        raise InputError(f"{argument(name)} is {given!r}, expected a whole number of at least {least}")
    return int(given)


def setting(name: str, value: object) -> str:
    """Return how the user sets a hyperparameter."""
    return f"--set {name}={value}" if _by_command.get() else f"{name}={value!r}"
