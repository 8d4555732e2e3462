"""Models as ONNX files, which onnxruntime runs without TensorFlow: `zoo.export(..., format="onnx")`.

Needs tf2onnx, onnx and onnxruntime (`pip install '.[onnx]'`). What is written is compared at once: onnxruntime
has to give the scores that the model gives.
"""

from __future__ import annotations

import json
import logging
import os
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.errors import InputError
from pipelines.outputs import check_new, new_file
from zoo.serving.artefact import PROPERTY
from zoo.serving.contents import Serving

OPSET = 18  # the latest that tf2onnx writes
TOLERANCE = 1e-4  # by how much a score of the example may differ, relatively
OTHERWISE = "export savedmodel"
WHY = {
    "Bitcast": "which fold of its classifiers scores an event follows from the bits of its features",
}


def write_onnx(serving: Serving, path: str | os.PathLike) -> dict[str, Any]:
    """Write an ONNX file, whole or not at all.

    Its inputs and outputs have the names of those of a SavedModel's `serving_default`; what it says of itself is the property
    `hep_anomaly_zoo` (`zoo.serving.artefact.read_about`).

    Raises `InputError` if the packages are missing, if the model does what ONNX has no operation for, or if `path` is no new
    file `*.onnx`.
    """
    path = check_new(path)
    if path.suffix != ".onnx":
        raise InputError(f"{path}: an ONNX file, expected a name that ends in .onnx")
    name = serving.about["model"]
    functions = {"serving_default": tf.function(serving.call, input_signature=serving.specs, autograph=False)}
    model = _converted(functions["serving_default"], serving.specs, name)
    about = {**serving.described("onnx", functions), "opset": OPSET}
    del about["signatures"]
    about["versions"] = {**about["versions"], **_versions()}
    model.metadata_props.add(key=PROPERTY, value=json.dumps(about))
    model.doc_string = f"{name}, by hep-anomaly-zoo {about['version']}"
    data = model.SerializeToString()
    _compare(data, functions["serving_default"], serving, name)
    with new_file(path) as part:
        part.write_bytes(data)
    return about


def _packages() -> tuple[Any, Any, Any]:
    try:
        import onnx
        import onnxruntime
        import tf2onnx
    except ImportError as error:
        raise InputError(f"{error.name} is not installed, which ONNX files need: pip install '.[onnx]'") from None
    return onnx, onnxruntime, tf2onnx


def _versions() -> dict[str, str]:
    return {one.__name__: one.__version__ for one in _packages()}


def _converted(function: Any, specs: Any, name: str) -> Any:
    """Return the ONNX model of a function; raises `InputError` naming the operations that ONNX has not."""
    onnx, _, tf2onnx = _packages()
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # what it has no operation for is told below
    try:
        model, _ = tf2onnx.convert.from_function(
            function, input_signature=specs, opset=OPSET, custom_op_handlers=_handlers()
        )
    except Exception as error:
        raise InputError(
            f"{name} cannot be written as ONNX ({' '.join(str(error).split())[:200]}); {OTHERWISE}"
        ) from None
    finally:
        logger.setLevel(level)
    known = {one.name for one in onnx.defs.get_all_schemas()}
    if unknown := sorted({node.op_type for node in _nodes(model.graph) if node.op_type not in known}):
        reasons = "".join(f": {WHY[one]}" for one in unknown if one in WHY)
        raise InputError(
            f"{name} cannot be written as ONNX, which has no operation for {', '.join(unknown)}{reasons}; {OTHERWISE}"
        )
    return model


def _nodes(graph: Any) -> Any:
    """Yield the nodes of a graph, and of those inside its nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _compare(data: bytes, function: Any, serving: Serving, name: str) -> None:
    """Raise `InputError` unless onnxruntime gives the scores that TensorFlow gives, of events near those of the training."""
    _, runtime, _ = _packages()
    given = serving.example
    expected = function(*map(tf.constant, given.values()))
    try:
        session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
        fed = {one.name: given[one.name] for one in session.get_inputs()}
        found = dict(zip([one.name for one in session.get_outputs()], session.run(None, fed)))
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{name} cannot be written as ONNX: onnxruntime refuses it ({text}); {OTHERWISE}") from None
    for score in serving.scores:
        if score in found and not np.allclose(found[score], expected[score], rtol=TOLERANCE, atol=1e-6):
            raise InputError(
                f"{name}: onnxruntime gives another {score} than TensorFlow, so nothing is written; export savedmodel"
            )


# -- operations of TensorFlow that tf2onnx does not know ------------------------------------------------------


def _handlers() -> dict[str, Any]:
    return {"LowerBound": (_bound, []), "UpperBound": (_bound, []), "BroadcastArgs": (_broadcast, [])}


def _bound(graph: Any, node: Any, name: str, args: object) -> None:
    """`searchsorted` of values (B, N) among knots (B, K): how many knots are below a value, or not above it."""
    is_below, (knots, values), place = "Less" if node.type == "LowerBound" else "LessOrEqual", node.input, _place(node)
    graph.remove_node(node.name)
    middle, last = (_constant(graph, [axis]) for axis in (1, 2))
    knots, values = graph.make_node("Unsqueeze", [knots, middle]), graph.make_node("Unsqueeze", [values, last])
    below = graph.make_node(is_below, [knots.output[0], values.output[0]])
    counted = graph.make_node("Cast", below.output, attr={"to": 6})  # int32
    graph.make_node("ReduceSum", [counted.output[0], last], attr={"keepdims": 0}, name=name, **place)


def _broadcast(graph: Any, node: Any, name: str, args: object) -> None:
    """The shape that two shapes of the same rank are broadcast to: the larger of each two sizes, none of which is 0."""
    ranks, inputs, place = [graph.get_shape(one) for one in node.input], list(node.input), _place(node)
    if ranks[0] is None or ranks[0] != ranks[1]:
        raise ValueError(f"shapes of ranks {ranks} are broadcast")
    graph.remove_node(node.name)
    graph.make_node("Max", inputs, name=name, **place)


def _place(node: Any) -> dict[str, Any]:
    """Return what takes the place of a node in a graph: its outputs with shapes and types, unknown once it is removed."""
    return {"outputs": list(node.output), "shapes": node.output_shapes, "dtypes": node.output_dtypes}


def _constant(graph: Any, values: list[int]) -> str:
    from tf2onnx import utils

    return graph.make_const(utils.make_name("axis"), np.array(values, np.int64)).output[0]
