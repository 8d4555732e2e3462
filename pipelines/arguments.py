"""How a message calls an argument: by its name in Python, and by its option when a command was called.

>>> argument("resume", True), argument("mass_range", (2700, 5000)), argument("out"), setting("members", 4)
('resume=True', 'mass_range=(2700, 5000)', 'out', 'members=4')
>>> with command_line():
...     argument("resume", True), argument("mass_range", (2700, 5000)), argument("out"), setting("members", 4)
('--resume', '--mass-range 2700 5000', '--out', '--set members=4')
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_by_command: ContextVar[bool] = ContextVar("by_command", default=False)
_NOTHING = object()
_OPTIONS = {
    "run": "RUN",
    "hyperparameters": "--set",
    "fixed": "--set",
    "windows": "--window",
    "conversion": "--convert",
    "pseudo_experiments": "--toys",
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


def setting(name: str, value: object) -> str:
    """Return how the user sets a hyperparameter."""
    return f"--set {name}={value}" if _by_command.get() else f"{name}={value!r}"
