"""Models as SavedModels that need TensorFlow alone: `zoo.export`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from pipelines import provenance
from pipelines.errors import InputError, Unfinished
from pipelines.outputs import check_new, new_directory
from zoo.run import load


def export(model: Any, path: str | os.PathLike) -> None:
    """Write a trained model, or that of a run directory, as a SavedModel that holds scaling, score and columns.

    Signatures:

    - `serving_default(features=(N, F) float32)`, or of a model that takes objects `serving_default(objects=(N, P, C),
      features=(N, F))`, the latter if it takes features beside them: `score` (N,), the model's default kind; and
      everything else that the model infers: its score kinds, `reconstructed` in physical units, `latent`. Of K members
      scores are the mean, with their standard deviation as `score_std` and each one's as `score_members` (N, K); what is
      not a score is (N, K, ...);
    - `columns()`: `columns`, the names of the F features in their order, and `object_columns`, those of the C numbers of
      an object, if it takes objects;
    - `about()`: `about`, a JSON text with `model`, its name, `version`, that of hep-anomaly-zoo, `truth_used`, whether
      labels chose its hyperparameters (`tune --objective auc:LABEL`), and `state_sha256`, that of the run's state.

    Raises `InputError` if the model has not met any data, or if `path` exists or cannot be written.

    It takes raw physical inputs.

    Example: `zoo.export("run", "served")`, and then, in a Python that has TensorFlow and not this package:
        `served = tf.saved_model.load(path).signatures["serving_default"]`
        `score = served(features=tf.constant(x))["score"]`
    """
    if isinstance(model, (str, os.PathLike)):
        check_new(path)
        load(model).export(path)
        return
    if not model.has_met_data:
        raise InputError("the model has not met any data; fit it, or load a trained run with zoo.load")
    served = tf.Module()
    served.state = [*model.variables, *model.scaler.variables, *model.runtime.variables.values()]
    names = {"columns": model.inputs.columns}
    names |= {"object_columns": model.inputs.object_columns} if model.inputs.object_columns else {}

    @tf.function(input_signature=model.inputs.specs, autograph=False)
    def serve(*arrays):
        found = model.infer(*arrays)
        return {"score": found[model.score_kinds[0]], **found} if model.members == 1 else _of_members(model, found)

    @tf.function(input_signature=[])
    def columns():
        return {name: tf.constant(values, tf.string, (len(values),)) for name, values in names.items()}

    @tf.function(input_signature=[])
    def about():
        return {"about": tf.constant(json.dumps(described(model)))}

    served.serve, served.columns, served.about = serve, columns, about
    signatures = {"serving_default": serve, "columns": columns, "about": about}
    write(served, path, signatures)


def write(served: tf.Module, path: str | os.PathLike, signatures: Mapping[str, Any]) -> None:
    """Write a SavedModel, whole or not at all; raises `InputError` if `path` exists or cannot be written."""
    with new_directory(path) as part:
        try:
            tf.saved_model.save(served, str(part), signatures=signatures)
        except tf.errors.OpError as error:  # of the disk
            reason = str(error.message).partition(" [Op:")[0].rpartition("; ")[2]
            raise Unfinished(
                f"{path}: cannot be written ({reason}); free some space there or choose another output"
            ) from None


def described(model) -> dict[str, object]:
    """Return what an exported model says of itself.

    >>> from types import SimpleNamespace as Loaded
    >>> described(Loaded(zoo_name="vae", loaded_from={"tuning": {"truth_used": True}}))["truth_used"]
    True
    """
    tuning = (getattr(model, "loaded_from", None) or {}).get("tuning") or {}
    yardstick = getattr(model, "yardstick", "")
    version = provenance.versions(["hep-anomaly-zoo"])["hep-anomaly-zoo"]
    sha256 = (getattr(model, "loaded_from", None) or {}).get("state_sha256")
    truth_used = bool(tuning.get("truth_used") or yardstick)
    return {"model": model.zoo_name, "version": version, "truth_used": truth_used, "state_sha256": sha256}


def export_again(run: str | os.PathLike, path: str | os.PathLike) -> None:
    """Write the model of a run directory as `export` does, unless `path` is a SavedModel of that run already.

    For a command that was killed after it had exported. Raises `InputError` as `export`.
    """
    model = load(run)
    if not (os.path.isdir(path) and _state_of_export(path) == model.loaded_from["state_sha256"] is not None):
        model.export(path)


def _state_of_export(path: str | os.PathLike) -> object:
    try:
        about = tf.saved_model.load(os.fspath(path)).signatures["about"]()["about"]
        return json.loads(about.numpy()).get("state_sha256")
    except (OSError, KeyError, ValueError, AttributeError, tf.errors.OpError):
        return None


def _of_members(model, found):
    """What `infer` gives of K members, (K, N, ...), with the events first, and its scores as their means."""
    events_first = {name: tf.transpose(value, (1, 0, *range(2, value.shape.rank))) for name, value in found.items()}
    each = events_first[model.score_kinds[0]]
    means = {kind: tf.reduce_mean(events_first[kind], 1) for kind in model.score_kinds}
    ensemble = {"score": means[model.score_kinds[0]], "score_std": tf.math.reduce_std(each, 1), "score_members": each}
    return {**events_first, **means, **ensemble}
