"""TensorFlow without its greetings."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_theirs = LEVEL in os.environ
os.environ.setdefault(LEVEL, "3")  # a machine without a GPU is no error; what goes wrong is raised


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Let libraries print no greetings while the block runs, which TensorFlow's do whatever its log level is."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # stderr is closed: nothing can be printed there
        yield
        return
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def imported(name: str) -> Any:
    """Import a module that may take TensorFlow, without what that prints; where `TF_CPP_MIN_LOG_LEVEL` was set, with it.

    >>> imported("math").pi > 3
    True
    """
    with contextlib.nullcontext() if _theirs or "tensorflow" in sys.modules else hushed():
        return importlib.import_module(name)
