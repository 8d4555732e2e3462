"""TensorFlow without its greetings."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_QUIET = "3"  # a machine without a GPU is no error; what goes wrong is raised
_talkative = os.environ.setdefault(LEVEL, _QUIET) != _QUIET
_lock = threading.RLock()  # a process has one stderr: threads hush it one after the other


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Let libraries print no greetings while the block runs, which TensorFlow's do whatever its log level is."""
    with _lock:
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
    with contextlib.nullcontext() if _talkative or "tensorflow" in sys.modules else hushed():
        return importlib.import_module(name)
