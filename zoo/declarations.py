"""What the models declare, without TensorFlow: names, hyperparameters and presets, kept in a file of the user's cache.

To import all models takes seconds of TensorFlow, and what they declare changes with their sources only. The file says which
sources and versions it was made of; with others it is made anew. Where models of other packages are installed, whose
sources are not known here, nothing is kept.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from pipelines.errors import InputError
from zoo import registry
from zoo.hyperparameters import near

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("pipelines", "zoo")
PACKAGES = ("hep-anomaly-zoo", "tensorflow", "tf-keras", "tensorflow-probability", "spektral", "keras-tuner", "numpy")

Declared = Mapping[str, Mapping[str, Any]]  # what `zoo.describe` returns, ready for JSON, by name


class Kept(TypedDict):
    """What the file holds."""

    key: str
    models: dict[str, dict[str, Any]]


def declared() -> Declared:
    """Return what every registered model declares (see `zoo.describe`), ready for JSON, by its name.

    >>> declared()["gan_ae"]["score_kinds"]
    ['distance']
    """
    found = known()
    if found is None:
        found = json.loads(json.dumps({name: registry.describe(name) for name in registry.names()}))
        _keep(found)
    return found


def known() -> Declared | None:
    """Return the same if it can be had without TensorFlow, else None."""
    if registry.is_filled():  # then models may be registered that are in no file
        return None
    return _kept()


def may_be_model(name: str) -> bool:
    """Tell whether a model may have a name, without TensorFlow; where that is not known, a word is a name.

    >>> may_be_model("vae"), may_be_model("runs/vae")
    (True, False)
    """
    if registry.is_filled():
        return name in registry.names()
    models = known()
    return name.isidentifier() if models is None else name in models


def completed(incomplete: str) -> list[str]:
    """Return the names of models that begin so, for a shell that completes; none where that would take TensorFlow."""
    return sorted(name for name in known() or () if name.startswith(incomplete))


def find(pattern: str = "*") -> list[Mapping[str, Any]]:
    """Return what the models declare whose name matches a shell pattern, sorted.

    >>> [model["name"] for model in find("gan*")]
    ['gan_ae']
    """
    models = declared()
    return [models[name] for name in sorted(fnmatch.filter(models, pattern))]


def find_one(name: str) -> Mapping[str, Any]:
    """Return what one model declares; raises `InputError` as `zoo.get` for a name that is not known."""
    models = declared()
    _check_name(name, models)
    return models[name]


def check_names(name: str, preset: str | None = None, hyperparameters: Iterable[str] | None = None) -> None:
    """Raise `InputError` as `zoo.get` for a name that is not known, before TensorFlow is imported where that is possible.

    Args:
        name: of a model. preset: of it. hyperparameters: names of these; None to look at none.
    """
    models = known()
    if models is None:
        return
    _check_name(name, models)
    presets, valid = models[name]["presets"], models[name]["hyperparameters"]
    if preset is not None and preset not in presets:
        raise InputError(registry.no_preset(preset, name, presets))
    for one in hyperparameters or ():
        if one not in valid:
            raise InputError(f"hyperparameter {one!r} of {name!r} is not known; {near(one, valid)}")


def _check_name(name: str, models: Declared) -> None:
    if name not in models:
        raise InputError(registry.no_model(name, models))


# -- the file -----------------------------------------------------------------------------------------------


def _path() -> Path:
    import pooch

    return Path(pooch.os_cache("hep-anomaly-zoo")) / "models.json"


def _kept() -> Declared | None:
    from pipelines.documents import read_json_document

    with contextlib.suppress(InputError, OSError):
        found: Any = read_json_document(_path(), Kept)
        if found["key"] == _key():
            return found["models"]
    return None


def _keep(models: Declared) -> None:
    """Write the file, if there can be one."""
    from pipelines.outputs import write_json

    if (key := _key()) is None:
        return
    with contextlib.suppress(InputError, OSError):
        _path().parent.mkdir(parents=True, exist_ok=True)
        write_json(_path(), {"key": key, "models": models})


@cache
def _key() -> str | None:
    """Return what declarations depend on: the sources, and versions; None where there are models of other packages."""
    if list(metadata.entry_points(group=registry.ENTRY_POINTS)):
        return None
    digest = hashlib.sha256(f"{ROOT} {platform.python_version()}".encode())
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            digest.update(f"{package} {metadata.version(package)}".encode())
    for path in sorted(path for source in SOURCES for path in (ROOT / source).rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT)} {path.stat().st_size}".encode() + path.read_bytes())
    return digest.hexdigest()
