"""Old paths of modules, which warn and give the module that has taken their place; names that are imported when asked for."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any


class _Loader(importlib.abc.Loader):
    def __init__(self, old: str, new: str):
        self.old, self.new = old, new

    def create_module(self, spec: Any) -> Any:
        return None

    def exec_module(self, module: Any) -> None:
        warnings.warn(f"{self.old} is {self.new} now", DeprecationWarning, stacklevel=2)
        sys.modules[self.old] = importlib.import_module(self.new)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, moved: Mapping[str, str]):
        self.moved = dict(moved)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in self.moved:
            return None
        return importlib.util.spec_from_loader(name, _Loader(name, self.moved[name]))


def alias(moved: Mapping[str, str]) -> None:
    """Let modules be imported by their old paths (keys) too; each such import gives a `DeprecationWarning`.

    >>> alias({"old_metrics": "pipelines.metrics"})
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     import old_metrics
    >>> old_metrics.__name__
    'pipelines.metrics'
    """
    sys.meta_path.append(_Finder(moved))


def names_on_demand(module: str, where: Mapping[str, str]) -> Callable[[str], object]:
    """Return the `__getattr__` of a package that imports the modules (values) of its names (keys) when they are asked for.

    >>> names_on_demand("package", {"auc": "pipelines.metrics"})("auc").__name__
    'auc'
    """

    def find(name: str) -> object:
        if name not in where:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found: object = getattr(importlib.import_module(where[name]), name)
        return found

    return find


def moved_names(module: str, moved: Mapping[str, str]) -> Callable[[str], object]:
    """Return the `__getattr__` of a module whose names (keys) are elsewhere now, each with a `DeprecationWarning`.

    >>> find = moved_names("old", {"distance": "pipelines.metrics.js_distance"})
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     find("distance").__name__
    'js_distance'
    """

    def find(name: str) -> object:
        if name not in moved:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, new = moved[name].rpartition(".")
        warnings.warn(f"{module}.{name} is {moved[name]} now", DeprecationWarning, stacklevel=2)
        found: object = getattr(importlib.import_module(place), new)
        return found

    return find
