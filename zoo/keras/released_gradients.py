"""Lets go of gradients that TensorFlow registers while a step is traced, and keeps until the process ends.

`tf.custom_gradient` and functions inside functions register a closure for every time that they are traced. It has tensors, and
so the whole graph: without this a search keeps every graph that it ever traced.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from tensorflow.python.framework import ops

TRACED = (
    "CustomGradient-",
    "PartitionedCall-",
    "StatefulPartitionedCall-",
)  # and a number: no operation has such a name


def _registry() -> dict[str, Any]:
    return getattr(getattr(ops, "gradient_registry", None), "_registry", {})


_of_others: set[str] = set()  # names of what was traced in `others_trace`


def traced_gradients() -> set[str]:
    """Return the names of gradients that were registered while something was traced; none if TensorFlow has no such.

    Those of `others_trace` are not among them.
    """
    return {name for name in list(_registry()) if name.startswith(TRACED)} - _of_others


@contextlib.contextmanager
def others_trace() -> Iterator[None]:
    """Leave what is traced in this block to those who trace it: it is no program's, and stays."""
    known = traced_gradients()
    try:
        yield
    finally:
        _of_others.update(traced_gradients() - known)


def forget_gradients(names: Iterable[str]) -> None:
    """Let go of gradients of graphs that nobody differentiates any more."""
    registry = _registry()
    for name in names:
        registry.pop(name, None)
