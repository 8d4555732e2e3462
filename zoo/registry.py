"""The zoo's register: name -> model class, filled by the `register` decorator and by installed third parties."""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable
from functools import cache
from importlib import metadata

import numpy as np

from pipelines.errors import InputError

ENTRY_POINTS = "hep_anomaly_zoo.models"

_models: dict[str, type] = {}


def register(name: str) -> Callable[[type], type]:
    """Register an `AnomalyModel` under a name: `@zoo.register("my_model")` above its class.

    Raises `InputError` if the name is taken by another class.
    """

    def add(model: type) -> type:
        if name in _models and _models[name] is not model:
            raise InputError(
                f"model {name!r} is registered already, by {_models[name].__module__}; choose another name"
            )
        _models[name] = model
        model.zoo_name = name
        return model

    return add


@cache
def _discover() -> None:
    models = importlib.import_module("zoo.models")
    for module in pkgutil.iter_modules(models.__path__):
        importlib.import_module(f"{models.__name__}.{module.name}")
    for point in metadata.entry_points(group=ENTRY_POINTS):
        try:
            _plug_in(point)
        except (Exception, SystemExit) as error:  # whatever is wrong with it, the other models are there
            origin = f" of {point.dist.name}" if point.dist else ""
            warnings.warn(
                f"model plug-in {point.name!r} ({point.value}{origin}) is left out: {type(error).__name__}: {error}",
                stacklevel=1,
            )


def _plug_in(point: metadata.EntryPoint) -> None:
    """Register what an entry point names: a model class, or a module that registers its own."""
    found = point.load()
    if inspect.ismodule(found):
        return
    base = importlib.import_module("zoo.base").AnomalyModel
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


def model_class(name: str) -> type:
    """Return the class behind a name; raises `InputError` listing the near names."""
    if name not in names():
        raise InputError(f"model {name!r} is not known; {_near(name, names())}")
    return _models[name]


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
        raise InputError(f"preset {preset!r} of {name!r} is not known; {_near(preset, model.presets)}")
    valid = defaults(model)
    for key in hyperparameters:
        if key not in valid:
            raise InputError(f"hyperparameter {key!r} of {name!r} is not known; {_near(key, valid)}")
    chosen = dict(model.presets.get(preset, {})) | hyperparameters
    several = model.dials if chosen.get("members", 1) != 1 else ()  # each member may have its own
    given = {
        key: _each(value)
        if key in several and isinstance(value, (list, tuple, np.ndarray))
        else _shaped(key, value, valid[key])
        for key, value in hyperparameters.items()
    }
    return model(**dict(model.presets.get(preset, {})) | given)


def _each(values) -> tuple:
    """Return a value for each member: a list, tuple or array of them."""
    return tuple(values.tolist() if isinstance(values, np.ndarray) else values)


def _shaped(name: str, value: object, default: object) -> object:
    """Return a value in the shape of the default, a sequence or not; raises `InputError` if that cannot be."""
    if not isinstance(default, (list, tuple)):
        if isinstance(value, (list, tuple, dict, set)):
            raise InputError(f"{name}={value!r} is not possible; expected one value, such as {default!r}")
        return value.item() if isinstance(value, np.generic) else value
    value = value.tolist() if isinstance(value, np.ndarray) else value
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if default and any(isinstance(v, str) != isinstance(default[0], str) for v in values):
        raise InputError(f"{name}={value!r} is not possible; expected values such as {default[0]!r}")
    return values


def defaults(model: type) -> dict[str, object]:
    """Return a model's hyperparameters with their default values."""
    parameters = inspect.signature(model.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.name != "self"}


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
        "dials": list(model.dials),
    }


def _near(wrong: str, valid) -> str:
    near = difflib.get_close_matches(wrong, list(valid), n=3)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"expected one of {', '.join(valid)}"
