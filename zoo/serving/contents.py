"""What of a trained model is exported, whatever the format: functions, the variables they need, and what it says of itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines import provenance
from pipelines.errors import InputError
from zoo.serving.cut_values import CutValues

EVENTS = 16  # of the example
FORMAT = 1  # of what an export says of itself
GROUPS = {"reconstruction": "reconstructed", "latent": "latent"}  # a signature, and how the names of its outputs begin

Arrays = Callable[..., Mapping[str, tf.Tensor]]


@dataclasses.dataclass(frozen=True)
class Serving:
    """What is exported of a model.

    Attributes:
        specs: of the arrays that `call` takes, with their names. call: from arrays to results by name.
        scores: names among the results that are scores.
        state: the variables behind `call`. about: what the export says of itself. more: other functions by their names.
        example: arrays by name that are near what the model was trained on, to compare formats with.
    """

    specs: Sequence[tf.TensorSpec]
    call: Arrays
    scores: Sequence[str]
    state: Sequence[tf.Variable]
    about: Mapping[str, Any]
    more: Mapping[str, Any]
    example: Mapping[str, np.ndarray]

    def functions(self) -> dict[str, Any]:
        """Return the compiled functions of all signatures: `serving_default` with all results, and each group of them."""
        serve = tf.function(self.call, input_signature=self.specs, autograph=False)
        outputs = serve.get_concrete_function().structured_outputs
        groups = {"score": [name for name in outputs if name in self.scores]}
        for group, start in GROUPS.items():
            groups[group] = [name for name in outputs if name.startswith(start)]
        only = {name: self._only(serve, chosen) for name, chosen in groups.items() if chosen}
        return {"serving_default": serve, **only, **self.more}

    def _only(self, serve: Any, chosen: Sequence[str]) -> Any:
        @tf.function(input_signature=self.specs, autograph=False)
        def some(*arrays):
            found = serve(*arrays)
            return {name: found[name] for name in chosen}

        return some

    def described(self, kind: str, functions: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the export says of itself, with the shapes of its inputs and outputs; None is the number of events."""
        outputs = functions["serving_default"].get_concrete_function().structured_outputs
        about = {**self.about, "kind": kind}
        about["inputs"] = {one.name: _spec(one) | self.about["inputs"].get(one.name, {}) for one in self.specs}
        about["outputs"] = {name: _spec(one) for name, one in outputs.items()}
        about["signatures"] = {
            name: list(function.get_concrete_function().structured_outputs) for name, function in functions.items()
        } | {"about": ["about"]}
        return about


def _spec(one: Any) -> dict[str, Any]:
    return {"shape": one.shape.as_list(), "dtype": one.dtype.name}


def serving_of(model: Any, cuts: CutValues | None = None) -> Serving:
    """Return what is exported of a trained model of events; raises `InputError` if it has not met any data."""
    if not model.has_met_data:
        raise InputError("the model has not met any data; fit it, or load a trained run with zoo.load")
    names = {"columns": model.inputs.columns}
    names |= {"object_columns": model.inputs.object_columns} if model.inputs.object_columns else {}

    unknown = set(type(model).score_kinds) - set(model.score_kinds)  # what an older run does not know

    def call(*arrays):
        found = {name: one for name, one in model.infer(*arrays).items() if name not in unknown}
        return {"score": found[model.score_kinds[0]], **found} if model.members == 1 else of_members(model, found)

    @tf.function(input_signature=[], autograph=False)
    def columns():
        return {name: tf.constant(values, tf.string, (len(values),)) for name, values in names.items()}

    more = {"columns": columns, **({} if cuts is None else cuts.signatures())}
    state = [*model.variables, *model.scaler.variables, *model.runtime.variables.values()]
    about = described(model, {} if cuts is None else {"cuts": cuts.to_dict()})
    scores = ("score", "score_std", "score_members", *model.score_kinds)
    state = list({id(one): one for one in state}.values())
    return Serving(model.inputs.specs, call, scores, state, about, more, _example(model))


def _example(model: Any) -> dict[str, np.ndarray]:
    """Return arrays of random events: features in the range of the scaling where it is known, objects near 1."""
    rng, scaling, found = np.random.default_rng(0), _scaling(model) or {}, {}
    for name, shape in model.inputs.shapes.items():
        values = rng.random((EVENTS, *shape))
        if name == "features" and "shift" in scaling:
            values = np.array(scaling["shift"]) + values * np.array(scaling["scale"])
        found[name] = values.astype(np.float32)
    return found


def of_members(model: Any, found: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Return what `infer` gives of K members, (K, N, ...), with the events first, and its scores as their means."""
    events_first = {name: tf.transpose(value, (1, 0, *range(2, value.shape.rank))) for name, value in found.items()}
    each = events_first[model.score_kinds[0]]
    means = {kind: tf.reduce_mean(events_first[kind], 1) for kind in model.score_kinds}
    ensemble = {"score": means[model.score_kinds[0]], "score_std": tf.math.reduce_std(each, 1), "score_members": each}
    return {**events_first, **means, **ensemble}


def about_function(about: Mapping[str, Any]) -> Any:
    """Return the function of the signature `about`: a JSON text of what the export says of itself."""
    text = json.dumps(about)

    @tf.function(input_signature=[], autograph=False)
    def function():
        return {"about": tf.constant(text)}

    return function


def described(model: Any, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what an exported model says of itself, but for the shapes of what it takes and gives."""
    loaded = getattr(model, "loaded_from", None) or {}
    tuning = loaded.get("tuning") or {}
    data = loaded.get("data") or _data_of(model)
    return {
        "format": FORMAT,
        "model": model.zoo_name,
        "takes": model.serving_text(),
        "version": metadata.version("hep-anomaly-zoo"),
        "truth_used": bool(tuning.get("truth_used") or getattr(model, "yardstick", "")),
        "state_sha256": loaded.get("state_sha256"),
        "inputs": _inputs(model, (data or {}).get("units") or {}),
        "members": model.members,
        "score_kinds": list(model.score_kinds),
        "scaling": _scaling(model),
        "hyperparameters": json.loads(json.dumps(model.get_config())),
        "data": data and without_places(data),
        "mass_range": loaded.get("mass_range"),
        "versions": provenance.versions(),
        "licence": licence(),
        **(more or {}),
    }


def without_places(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what identifies data, without the folders in which they were: an export goes to other people.

    >>> without_places({"source": "/home/me/qcd.h5", "files": ["/home/me/qcd.h5"], "events": 3, "sha256": "f0"})
    {'source': 'qcd.h5', 'events': 3, 'sha256': 'f0'}
    """
    kept = {
        name: without_places(value) if isinstance(value, Mapping) else value
        for name, value in data.items()
        if name not in ("files", "units")
    }
    return kept | ({"source": Path(str(data["source"])).name} if "source" in data else {})


def licence() -> str:
    """Return the licence of this package, by its SPDX name.

    >>> licence()
    'BSD-3-Clause'
    """
    about: Any = metadata.metadata("hep-anomaly-zoo")
    return str(about.get("License-Expression") or about.get("License"))


def _data_of(model: Any) -> dict[str, Any] | None:
    """Return what a model in memory was trained on, if it was."""
    data = getattr(model.trainer, "data", None)
    return None if data is None else dict(model.provenance(data))


def _inputs(model: Any, units: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    inputs, found = getattr(model, "inputs", None), {}
    for name, columns in (("features", "columns"), ("objects", "object_columns")):
        if of := list(getattr(inputs, columns, ())):
            found[name] = {"columns": of, "units": {column: units.get(column, "") for column in of}}
    return found


def _scaling(model: Any) -> dict[str, Any] | None:
    """Return the input scaling of features: its name, and of one that is affine, scaled = (x - shift) / scale, its numbers."""
    scaler = getattr(model, "scaler", None)
    if scaler is None:
        return None
    found: dict[str, Any] = {"name": model.hp.scaling}
    if scaler.formula == "affine" and scaler.built:
        found |= {name: getattr(scaler, name).numpy().tolist() for name in ("shift", "scale")}
    return found
