"""The zoo's register: name -> model class, filled by the `register` decorator and by installed third parties."""

from __future__ import annotations

import contextlib
import fnmatch
import importlib
import inspect
import logging
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import metadata
from typing import Any, TypeVar

from pipelines.errors import InputError
from pipelines.quiet import imported
from zoo.hyperparameters import near

log = logging.getLogger(__name__)

ENTRY_POINTS = "hep_anomaly_zoo.models"

Model = TypeVar("Model", bound=type)

_models: dict[str, Any] = {}


def register(name: str) -> Callable[[Model], Model]:
    """Register a model under a name: `@zoo.register("my_model")` above its class.

    The same class of the same file takes the place of the one before it, as when a cell of a notebook is run again.
    Raises `InputError` if the name is taken by another class.
    """

    def add(model: Model) -> Model:
        there = _models.get(name)
        if there is not None and there is not model and _origin(there) != _origin(model):
            raise InputError(f"model {name!r} is registered already, by {there.__module__}; choose another name")
        _models[name] = model
        _models[name].zoo_name = name
        return model

    return add


@contextlib.contextmanager
def registered(model: Any) -> Iterator[None]:
    """Register a class under its own name while the block runs."""
    before, name = model.zoo_name, model.zoo_name or model.__name__
    if name in names():
        yield
        return
    _models[name], model.zoo_name = model, name
    try:
        yield
    finally:
        del _models[name]
        model.zoo_name = before


def _origin(model: type) -> tuple[str, str]:
    """Return the module and the name of a class, which stay the same when its file or cell is run again."""
    return model.__module__, model.__qualname__


@cache
def _discover() -> None:
    models = imported("zoo.models")
    imported("tensorflow")
    for module in pkgutil.iter_modules(models.__path__):
        importlib.import_module(f"{models.__name__}.{module.name}")
    for point in metadata.entry_points(group=ENTRY_POINTS):
        try:
            _plug_in(point)
        except (Exception, SystemExit) as error:  # whatever is wrong with it, the other models are there
            origin = f" of {point.dist.name}" if point.dist else ""
            log.warning(
                "model plug-in %r (%s%s) is left out: %s: %s",
                point.name, point.value, origin, type(error).__name__, error,
            )  # fmt: skip


def _plug_in(point: metadata.EntryPoint) -> None:
    """Register what an entry point names: a model class, or a module that registers its own."""
    found = point.load()
    if inspect.ismodule(found):
        return
    base = importlib.import_module("zoo.detector").Detector
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise InputError(f"it is {found!r}, expected a subclass of zoo.AnomalyModel, or a module that registers some")
    if "zoo_name" not in vars(found):  # its own name: a subclass of a registered model inherits that one's
        register(point.name)(found)


def names(pattern: str = "*") -> list[str]:
    """Return the names of the registered models that match a shell pattern, sorted.

    >>> names("gan*")
    ['gan_ae']
    """
    _discover()
    return sorted(fnmatch.filter(_models, pattern))


def model_class(name: str) -> Any:
    """Return the class behind a name; raises `InputError` listing the near names."""
    if not isinstance(name, str):
        raise TypeError(f"name is {type(name).__name__}, expected the name of a model, as 'gan_ae'")
    if name not in names():
        raise InputError(no_model(name, names()))
    return _models[name]


def is_filled() -> bool:
    """Tell whether models have been imported already."""
    return bool(_models)


def no_model(name: str, valid: Iterable[str]) -> str:
    """Return what is said of a name that no model has."""
    joins = "; a class of another package joins by the entry points hep_anomaly_zoo.models" if "." in name else ""
    return f"model {name!r} is not known; {near(name, valid)}{joins}"


def no_preset(preset: str, name: str, valid: Iterable[str]) -> str:
    """Return what is said of a preset that a model does not have."""
    return f"preset {preset!r} of {name!r} is not known; {near(preset, valid)}"


def get(name: str, preset: str | None = None, **hyperparameters: object):
    """Return a new, untrained model.

    Args:
        name: a registered name (see `names`).
        preset: a named set of hyperparameters of that model (see `describe`).
        hyperparameters: override the preset's and the model's own.

    Raises `InputError` for an unknown name, preset or hyperparameter, naming the near ones, and for a
    value out of range.

    >>> get("gan_ae", preset="lhco2020", epsilon=7.0).get_config()["alpha"]
    65.0
    """
    model = model_class(name)
    if preset is not None and preset not in model.presets:
        raise InputError(no_preset(str(preset), name, model.presets))
    return model(**{**model.presets.get(preset, {}), **hyperparameters})


def defaults(model: Any) -> dict[str, object]:
    """Return a model's hyperparameters with their default values."""
    return model.Hyperparameters.defaults()


def describe(name: str) -> dict[str, object]:
    """Return what a model is: name, summary, its docstring, hyperparameters with defaults, presets, score kinds.

    >>> describe("gan_ae")["score_kinds"]
    ['distance']
    """
    model = model_class(name)
    text = inspect.getdoc(model) or ""
    return {
        "name": name,
        "summary": text.partition("\n")[0],
        "description": text,
        "hyperparameters": defaults(model),
        "presets": {key: dict(value) for key, value in model.presets.items()},
        "score_kinds": list(model.score_kinds),
        "dials": list(model.runtime_hyperparameters),
        "runtime_hyperparameters": list(model.runtime_hyperparameters),
    }
