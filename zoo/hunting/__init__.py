"""Searches by a model: in events (`zoo.hunt`), in windows of the mass one by one, in spectra (`zoo.scan`), and by folds."""

from typing import TYPE_CHECKING

from pipelines.moved import names_on_demand

if TYPE_CHECKING:
    from zoo.hunting.bump_hunt import InMemory, explained, hunt, recipe_of, search

__all__ = ["InMemory", "explained", "hunt", "recipe_of", "search"]

__getattr__ = names_on_demand(__name__, dict.fromkeys(__all__, "zoo.hunting.bump_hunt"))
