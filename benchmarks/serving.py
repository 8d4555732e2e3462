"""Single-event latency and batch throughput of exported models: this package, SavedModel, Keras, ONNX, TensorFlow's C API.

    python benchmarks/serving.py [--models ae,vae,gan_ae] [--members 1]
    python benchmarks/serving.py --precision

Every row is the same small-trained network (weights do not change the time) in another format, called with raw physical
features. Rows take turns in one run, so compare ratios of one run only. Latency is that of a call with one event,
throughput that of a call with `--batch`; both of the fastest call, since other work on the machine only adds. All use one thread if `--threads 1`, the default, as a trigger
farm or a batch job gives. With `--precision` no times are measured, but how far scores of TensorFlow and of onnxruntime are
from each other, and from the same graph worked out in float64, for events whose features are multiplied. ONNX needs the extra `onnx`, C needs gcc; rows of what is missing are left out, with a line.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import tensorflow as tf

import pipelines
import zoo
from pipelines import InputError
from zoo.artefact import read_about
from zoo.models.gan_ae import COLUMNS

SOURCE = Path(__file__).parent.parent / "examples" / "serve.c"


def trained(name: str, members: int):
    """A model with its weights, trained as little as can be."""
    events = pipelines.open("lhco_sim_train").select(mass_range=(2700, 5000)).sample(2000)
    given = {"columns": COLUMNS, "batch_size": 500, "members": members}
    defaults = zoo.describe(name)["hyperparameters"]
    model = zoo.get(name, **{key: value for key, value in given.items() if key in defaults})
    model.fit(events, epochs=1, verbose=0, jit_compile=False)
    return model


def callables(model, folder: Path, threads: int) -> Iterator[tuple[str, Callable[[np.ndarray], object]]]:
    """Names of formats, and what scores an array of features in each."""
    yield "zoo, model.score", model.score
    model.export(folder / "saved")
    served = tf.saved_model.load(folder / "saved").signatures["score"]
    yield "SavedModel", lambda x: served(features=tf.constant(x))["score"].numpy()
    model.export(folder / "keras", format="keras")
    from zoo.keras import keras

    loaded = keras.models.load_model(folder / "keras")
    yield "Keras, model(x)", lambda x: loaded({"features": tf.constant(x)})["score"].numpy()
    yield "Keras, predict", lambda x: loaded.predict({"features": x}, batch_size=len(x), verbose=0)["score"]
    try:
        model.export(folder / "model.onnx", format="onnx")
        import onnxruntime
    except (InputError, ImportError) as error:
        click.echo(f"no ONNX: {error}", err=True)
        return
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    yield "ONNX", lambda x: session.run(["score"], {"features": x})[0]


def in_c(folder: Path, x: np.ndarray, batch: int, repeat: int, threads: int) -> float | None:
    """Seconds of the fastest call of a program in C."""
    if shutil.which("gcc") is None:
        click.echo("no C: gcc is not installed", err=True)
        return None
    there, program = Path(tf.__file__).parent, folder.parent / "serve"
    if not program.exists():
        libraries = ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2", f"-Wl,-rpath,{there}"]
        command = ["gcc", "-O2", SOURCE, "-o", program, f"-I{there / 'include'}", f"-L{there}", *libraries]
        subprocess.run(command, check=True)
    graph = read_about(folder / "saved")["graph"]["score"]
    words = [folder / "saved", graph["inputs"]["features"], graph["outputs"]["score"], x.shape[1], batch, repeat]
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": str(threads)}
    done = subprocess.run(
        [program, *map(str, words)], input=x.tobytes(), capture_output=True, check=True, env=environment
    )
    return float(done.stderr.split(b"\n")[-2].split()[0]) * 1e-6


def fastest(score: Callable, x: np.ndarray, seconds: float) -> float:
    """Seconds of the fastest call within a time, after one that is not counted: other work on the machine only adds."""
    score(x)
    found, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or not found:
        began = time.perf_counter()
        score(x)
        found.append(time.perf_counter() - began)
    return min(found)


FACTORS = (1.0, 10.0, 1e3, 1e6)  # of the features, for --precision
JUDGED = 400  # events


def in_float64(graph) -> None:
    """Change a graph of ONNX, and those inside its nodes, from float32 to float64."""
    from onnx import AttributeProto, TensorProto, numpy_helper

    def wide(tensor):
        return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name)

    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(wide(tensor))
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                in_float64(attribute.g)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
            if attribute.type == AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(wide(attribute.t))


def differences(model, x: np.ndarray, folder: Path) -> tuple[float, float, float]:
    """Largest relative differences of scores: onnxruntime to TensorFlow, and each of them to float64."""
    import onnx
    import onnxruntime
    from onnx.reference import ReferenceEvaluator

    if not (folder / "model.onnx").exists():
        model.export(folder / "model.onnx", format="onnx")
    graph = onnx.load(folder / "model.onnx")
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    in_float64(graph.graph)
    here, there = model.score(x), session.run(["score"], {"features": x})[0]
    exact = ReferenceEvaluator(graph).run(["score"], {"features": x.astype(np.float64)})[0]

    def largest(a, b):
        return float(np.max(np.abs(a - b) / np.abs(b))) if np.isfinite(a).all() and np.isfinite(b).all() else np.inf

    return largest(there, here), largest(here, exact), largest(there, exact)


def compare_precision(names: list[str], members: int) -> None:
    """Print the table of `--precision`."""
    events = pipelines.open("lhco_sim_test")
    print("| model | features times | onnxruntime to TensorFlow | TensorFlow to float64 | onnxruntime to float64 |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            model, folder = trained(name, members), Path(scratch) / name
            folder.mkdir()
            x = events.read("features", model.resolved_columns)[:JUDGED]
            for factor in FACTORS:
                found = differences(model, (factor * x).astype(np.float32), folder)
                cells = ("not finite" if np.isinf(value) else f"{value:.1e}" for value in found)
                print(f"| `{name}` | {factor:g} | {' | '.join(cells)} |")


@click.command()
@click.option("--models", default="ae,vae,gan_ae,pca,deep_svdd,isolation_forest,knn", show_default=True)
@click.option("--members", default=1, show_default=True)
@click.option("--batch", default=10_000, show_default=True, help="Events in a batch, for throughput.")
@click.option("--seconds", default=1.0, show_default=True, help="Of each measurement.")
@click.option("--threads", default=1, show_default=True)
@click.option("--precision", is_flag=True, help="Compare scores instead of times.")
def main(models, members, batch, seconds, threads, precision):
    """Measure and print the table."""
    if precision:
        compare_precision(models.split(","), members)
        return
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    events = pipelines.open("lhco_sim_train")
    print(
        f"{os.cpu_count()} cores, {threads} threads, {members} members, batches of {batch}; ratios are to model.score"
    )
    print(f"{'model':17} {'format':17} {'one event [us]':>15} {'ratio':>7} {'events/s':>12} {'ratio':>7}")
    with tempfile.TemporaryDirectory() as scratch:
        for name in models.split(","):
            model, folder = trained(name, members), Path(scratch) / name
            folder.mkdir()
            x = np.resize(events.read("features", model.resolved_columns), (batch, len(model.resolved_columns)))
            rows = {}
            for form, score in callables(model, folder, threads):
                rows[form] = fastest(score, x[:1], seconds), fastest(score, x, seconds)
            one = in_c(folder, x[:50], 1, 40, threads)
            if one is not None:
                rows["C"] = one, in_c(folder, x, batch, 5, threads)
            first = next(iter(rows.values()))
            for form, (latency, whole) in rows.items():
                ratios = first[0] / latency, first[1] / whole
                print(
                    f"{name:17} {form:17} {1e6 * latency:15.0f} {ratios[0]:7.1f} {batch / whole:12,.0f} {ratios[1]:7.1f}"
                )


if __name__ == "__main__":
    main()
