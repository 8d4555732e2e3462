"""Models that are served without this package: `zoo.export`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipelines.arguments import argument
from pipelines.errors import InputError, Unfinished
from pipelines.outputs import check_new, new_directory, write_json
from zoo.keras import keras
from zoo.opened_run import mass_range_of, open_for
from zoo.run import load
from zoo.serving.artefact import PLACE, read_about
from zoo.serving.contents import Serving, about_function
from zoo.serving.cut_values import cut_values

FORMATS = ("savedmodel", "keras", "onnx")


def export(
    model: Any,
    path: str | os.PathLike,
    *,
    format: str = "savedmodel",
    percentiles: float | Sequence[float] | None = None,
    events: Any = None,
    cut: str = "mass",
    mass_range: tuple[float, float] | None = None,
    ignore_weights: bool = False,
) -> Mapping[str, Any]:
    """Write a trained model, or that of a run directory, so that it is served without this package.

    Args:
        model: a run directory, a trained model, or the folder of a search by folds (`zoo hunt --folds`), whose models are
            exported as one (`zoo.serving.served_folds`).
        path: new folder, or of "onnx" a new file `*.onnx`.
        format: "savedmodel" needs TensorFlow alone; "keras" is that too, and `tf_keras.models.load_model` reads it; "onnx"
            needs onnxruntime alone, and to be written the packages of `.[onnx]`.
        percentiles: of the score, whose cut values the export carries: 99 selects one percent.
        events: what `pipelines.open` takes, by which the cut values are; needed with `percentiles`.
        cut: "mass", a threshold that follows the mass, as `zoo hunt` has it, or "global", one for all masses.
        mass_range: GeV, of these events; by default that of the run's training.
        ignore_weights: count all of them alike; otherwise cut values are by their weights, if they have some.

    Returns what the export says of itself (`zoo.serving.artefact.read_about`). It takes raw physical inputs. Signatures of a SavedModel:

    - `serving_default(features=(N, F) float32)`, or of a model that takes objects `serving_default(objects=(N, P, C),
      features=(N, F))`, the latter if it takes features beside them: `score` (N,), the model's default kind; and
      everything else that the model infers: its score kinds, `reconstructed` in physical units, `latent`. Of K members
      scores are the mean, with their standard deviation as `score_std` and each one's as `score_members` (N, K); what is
      not a score is (N, K, ...);
    - `score`, `reconstruction` and `latent`, the same with a part of the results, where the model has them;
    - `columns()`: `columns`, the names of the F features in their order, and `object_columns`, those of the C numbers of
      an object, if it takes objects;
    - `cuts()` and `selected(score=(N,))`, with `mass=(N,)` float64 in GeV of thresholds that follow it, if there are
      `percentiles`: the numbers, and (N, P) bool, which events are beyond each;
    - `about()`: `about`, the same as a JSON text.

    Raises `InputError` if the model has not met any data, if `path` exists or cannot be written, for what ONNX cannot hold,
    and for `percentiles` without events.

    Example: `zoo.export("run", "served")`, and then, in a Python that has TensorFlow and not this package:
        `served = tf.saved_model.load(path).signatures["serving_default"]`
        `score = served(features=tf.constant(x))["score"]`
    """
    if format not in FORMATS:
        raise InputError(f"format {format!r}, expected one of {', '.join(FORMATS)}")
    if (percentiles is None) != (events is None):
        missing = argument("events" if events is None else "percentiles")
        raise InputError(f"{path}: cut values are those of percentiles of events; give {missing} too")
    check_new(path)
    loaded = _loaded(model) if isinstance(model, (str, os.PathLike)) else model
    cuts = None
    if percentiles is not None:
        loaded.require("events", path)
        events = open_for(loaded, events)
        within = mass_range or mass_range_of(loaded)
        within = within and (within[0], within[1])
        cuts = cut_values(loaded, events, percentiles, cut=cut, mass_range=within, ignore_weights=ignore_weights)
    return write(loaded.serving(cuts), path, format)


def _loaded(folder: str | os.PathLike) -> Any:
    from zoo.serving.served_folds import SEARCH, load_folds

    return load_folds(folder) if (Path(folder) / SEARCH).is_file() else load(folder)


def write(serving: Serving, path: str | os.PathLike, format: str = "savedmodel") -> Mapping[str, Any]:
    """Write what is served, whole or not at all; raises `InputError` if `path` exists or cannot be written."""
    if format == "onnx":
        from zoo.serving.onnx_model import write_onnx

        return write_onnx(serving, path)
    functions = serving.functions()
    about = serving.described(format, functions)
    functions["about"] = about_function(about)
    served: Any = _Served(autocast=False) if format == "keras" else tf.Module()
    served.state = list(serving.state)
    served.functions = functions
    with new_directory(path) as part:
        try:
            if format == "keras":
                served.names = [one.name for one in serving.specs]
                served._set_save_spec(
                    {one.name: one for one in serving.specs}
                )  # any number of bins, not that of the example
                served({one.name: tf.constant(serving.example[one.name], one.dtype) for one in serving.specs})
                served.save(str(part), save_format="tf", include_optimizer=False, signatures=functions)
            else:
                tf.saved_model.save(served, str(part), signatures=functions)
        except tf.errors.OpError as error:  # of the disk
            reason = str(error.message).partition(" [Op:")[0].rpartition("; ")[2]
            raise Unfinished(
                f"{path}: cannot be written ({reason}); free some space there or choose another output"
            ) from None
        (part / PLACE).parent.mkdir()
        about |= {"graph": _graph(part)}
        write_json(part / PLACE, about)
    return about


class _Served(keras.Model):
    """What `tf_keras.models.load_model` gives back: from a dictionary of the inputs to one of all results."""

    def call(self, inputs):
        return self.functions["serving_default"](*(inputs[name] for name in self.names))


def _graph(folder: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Return the names of tensors behind the signatures, by which programs in C call them."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    signatures = saved.meta_graphs[0].signature_def
    return {
        name: {
            "inputs": {key: one.name for key, one in signatures[name].inputs.items()},
            "outputs": {key: one.name for key, one in signatures[name].outputs.items()},
        }
        for name in sorted(signatures)
        if not name.startswith("__")
    }


def export_again(run: str | os.PathLike, path: str | os.PathLike) -> None:
    """Write the model of a run directory as `export` does, unless `path` is a SavedModel of that run already.

    For a command that was killed after it had exported. Raises `InputError` as `export`.
    """
    model = load(run)
    if not (os.path.isdir(path) and _state_of_export(path) == model.loaded_from["state_sha256"] is not None):
        export(model, path)


def _state_of_export(path: str | os.PathLike) -> object:
    try:
        return read_about(path)["state_sha256"]
    except InputError:
        return None
