"""The state of a model on disk: weights, input scaling, optimizer state, and what it belongs to, in one checked file.

The file begins with its own SHA-256 (see `pipelines.checksums`). It names the model, columns and scaling that it belongs to.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

from pipelines.checksums import file_sha256, open_sealed, sealed
from pipelines.documents import check_document, parse_json_document, shown
from pipelines.errors import InputError
from pipelines.outputs import as_json

FORMAT = 1  # of the file; a file of a later one is refused
MODEL = "model"  # the `part` of a file without the state of the training
BELONGS = ("columns", "object_columns", "scaling")  # hyperparameters that a state makes sense with alone


def state_of(model: Any) -> dict[str, tf.Variable]:
    """Return every variable that a model is made of, by a name that depends on its structure only."""
    return model.state()


def read_variable(variable: tf.Variable) -> np.ndarray:
    """Return `variable.numpy()` in a tenth of the time; a search reads a hundred variables at every epoch."""
    return tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype).numpy()


def belonging(model: Any) -> dict[str, object]:
    """Return what a state belongs to: the model's name, what it takes, and its columns and scaling."""
    config = model.get_config()  # with the columns that it has met, not the patterns of their names
    own = {name: as_json(config[name]) for name in BELONGS if name in config}
    return {"model": model.zoo_name, "takes": model.takes, **own}


@functools.cache
def _version() -> str:  # which takes longer to find out than a state to read
    return metadata.version("hep-anomaly-zoo")


def own_state_of(model: Any) -> dict[str, tf.Variable]:
    """Return the variables by which a model scores, by the names of `state_of`: without those of its training."""
    groups = {f"{group}/" for group in model.own_state()}
    return {name: variable for name, variable in state_of(model).items() if name.startswith(tuple(groups))}


def save_state(model: Any, path: str | os.PathLike[str], *, whole: bool = True) -> None:
    """Write weights, scaling and optimizer state to an HDF5 file, atomically, with a checksum.

    Without `whole` the state of the optimizer and of the training is left out: a third of the size, and a model that scores.

    It has one dataset for each type of number, and another, `layout`, that says as JSON in what order and of what shape
    the variables are in them: a dataset for each of a hundred variables would take ten times as long, at every epoch.
    """
    variables = state_of(model) if whole else own_state_of(model)
    state = {name: read_variable(variable) for name, variable in variables.items()}
    about = {"format": FORMAT, "version": _version(), **belonging(model)}
    about |= {} if whole else {"part": MODEL}
    kinds = {name: variable.dtype.name for name, variable in variables.items()}
    with sealed(path) as file:
        for kind in sorted(set(kinds.values())):
            file[kind] = np.concatenate([value.ravel() for name, value in state.items() if kinds[name] == kind])
        file["layout"] = json.dumps({name: [kinds[name], *value.shape] for name, value in state.items()})
        file["belongs"] = json.dumps(about)


def check_state(path: str | os.PathLike[str], sha256: str | None) -> None:
    """Raise `InputError` if a state is damaged, or its checksum is another. The checksum is None without a run, or for an old one."""
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file")
    if file_sha256(path) != (sha256 or file_sha256(path)):
        raise InputError(f"{path}: not the state that the run was written with (its SHA-256 is another); train again")


def load_state(model: Any, path: str | os.PathLike[str], *, sha256: str | None = None, finite: bool = False) -> None:
    """Read what `save_state` wrote into a built model; what a file of the model alone does not have stays as it is.

    Args:
        model, path: the model, and the file.
        sha256: what the run says that the file's checksum is; None is of no run, or of an old one.
        finite: whether weights that are NaN or infinite are refused.

    Raises `InputError` if it is another model's state, of other columns or scaling, not finite, or damaged.
    """
    found, about, digest = _opened(path)
    present = belonging(model)
    for name, value in present.items():
        if name in about and about[name] != value:
            what = f"{name} {shown(about[name])}, expected {shown(value)}"
            raise InputError(f"{path}: is of {what}: another model's state")
    state = own_state_of(model) if about.get("part") == MODEL else state_of(model)
    newer = tuple(f"{group}/" for group in model.newer_state)
    for name, variable in state.items():
        if newer and name.startswith(newer) and name not in found:
            found[name] = np.zeros(variable.shape, variable.dtype.as_numpy_dtype)
    for name, variable in state.items():
        if name not in found or found[name].shape != tuple(variable.shape):
            there = found[name].shape if name in found else "nothing"
            raise InputError(f"{path}: {name} is {there}, expected {tuple(variable.shape)}: another model's state")
        if finite and name.startswith("trainable/") and found[name].dtype.kind == "f":
            _check_finite(found[name], name, model.members, path)
    if more := sorted(set(found) - set(state)):
        raise InputError(f"{path}: {more[0]} has no place in {model.zoo_name}: another model's state")
    if sha256 is not None and digest != sha256:
        raise InputError(f"{path}: not the state that the run was written with (its SHA-256 is another); train again")
    for name, variable in state.items():
        tf.raw_ops.AssignVariableOp(resource=variable.handle, value=tf.constant(found[name], variable.dtype))
    model.on_state_loaded()


def _check_finite(values: np.ndarray, name: str, members: int, path: str | os.PathLike[str]) -> None:
    """Raise `InputError` if no member has finite weights; one of several that diverged does not end the others."""
    each = np.isfinite(values).reshape(max(1, members), -1).all(axis=1)
    if not each.any():
        raise InputError(
            f"{path}: {name} is NaN or infinite: the training diverged; train again at a lower learning_rate"
        )


def read_state(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the arrays that `save_state` wrote, by their names; raises `InputError` for anything else.

    Example:
        `read_state("run/model/state.h5")["trainable/000"]`
    """
    return _opened(path)[0]


def _opened(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], Mapping[str, Any], str]:
    """Return arrays by name, what they belong to (nothing in a file of an older version), and the file's SHA-256."""
    file, digest = open_sealed(path)
    with file:
        try:
            layout = _document(file, "layout", path, dict[str, list[str | int]])
            about = _document(file, "belongs", path, dict[str, Any]) if "belongs" in file else {}
            if isinstance(later := about.get("format", FORMAT), int) and later > FORMAT:
                raise InputError(f"{path}: a state of format {later}, this release reads up to {FORMAT}; upgrade")
            return _arrays(file, layout), about, digest
        except InputError:
            raise
        except (KeyError, ValueError, TypeError, AttributeError, OSError, RuntimeError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(f"{path}: not the state of a model, or damaged ({reason}); train again") from None


def _document(file: h5py.File, name: str, path: str | os.PathLike[str], schema: Any) -> Any:
    text = file[name].asstr()[()]
    advice = "not the state of a model, or damaged; train again"
    return check_document(
        parse_json_document(text, f"{path}: {name}", advice=advice), f"{path}: {name}", schema, advice=advice
    )


def _arrays(file: h5py.File, layout: Mapping[str, list[Any]]) -> dict[str, np.ndarray]:
    """Cut the dataset of each type of number into arrays; nothing is allocated that the file does not hold."""
    sizes: dict[str, int] = {}
    for kind, *shape in layout.values():
        if np.dtype(kind).kind not in "fiub" or any(not isinstance(n, int) or n < 0 for n in shape):
            raise ValueError(f"an array of {shown(kind)} and shape {shown(shape)}")
        sizes[kind] = sizes.get(kind, 0) + math.prod(shape)
    for kind, size in sizes.items():
        data = file[kind]
        if data.shape != (size,) or data.id.get_storage_size() < size * data.dtype.itemsize:
            raise ValueError(f"{kind} has shape {data.shape}, expected {(size,)}")
    values = {kind: file[kind][()] for kind in sizes}
    found, ends = {}, dict.fromkeys(sizes, 0)
    for name, (kind, *shape) in layout.items():
        start, ends[kind] = ends[kind], ends[kind] + math.prod(shape)
        found[name] = values[kind][start : ends[kind]].reshape(shape)
    return found
