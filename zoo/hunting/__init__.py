"""Searches by a model: in events (`zoo.hunt`), in windows of the mass one by one, in spectra (`zoo.scan`), and by folds."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.hunting.bump_hunt import InMemory, explained, hunt, recipe_of, search

__all__ = ["InMemory", "explained", "hunt", "recipe_of", "search"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("zoo.hunting.bump_hunt"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
