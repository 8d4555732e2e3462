"""Lets go of gradients that TensorFlow registers while a step is traced, and keeps until the process ends.

`tf.custom_gradient` and functions inside functions register a closure for every time that they are traced. It has tensors, and
so the whole graph: without this a search keeps every graph that it ever traced.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tensorflow.python.framework import ops

TRACED = (
    "CustomGradient-",
    "PartitionedCall-",
    "StatefulPartitionedCall-",
)  # and a number: no operation has such a name


def _registry() -> dict[str, Any]:
    return getattr(getattr(ops, "gradient_registry", None), "_registry", {})


def traced_gradients() -> set[str]:
    """Return the names of gradients that were registered while something was traced; none if TensorFlow has no such."""
    return {name for name in list(_registry()) if name.startswith(TRACED)}


def forget_gradients(names: Iterable[str]) -> None:
    """Let go of gradients of graphs that nobody differentiates any more."""
    registry = _registry()
    for name in names:
        registry.pop(name, None)
