"""Single-event latency and batch throughput of exported models: this package, SavedModel, Keras, ONNX, TensorFlow's C API.

    python benchmarks/serving.py [--models all] [--models ae,vae,gan_ae] [--members 1]
    python benchmarks/serving.py --precision

Every row is the same small-trained network (weights do not change the time) in another format, called with raw physical
inputs: features, particles of made-up events for `conv_vae` and `gcn_vae`, the mass too for `lacathode`, and for `ddp` spectra of 60 bins
instead of events. `idealised` and those of a window are as `tools/cost.py` has them. C is measured for models of features alone. Rows take turns in one run, so compare ratios of one run only. Latency is that of a call with one event,
throughput that of a call with `--batch`; both of the fastest call, since other work on the machine only adds. All use one thread if `--threads 1`, the default, as a trigger
farm or a batch job gives. With `--precision` no times are measured, but how far scores of TensorFlow and of onnxruntime are
from each other, and from the same graph worked out in float64, for events whose features are multiplied. ONNX needs the extra `onnx`, C needs gcc; rows of what is missing are left out, with a line.
"""

from __future__ import annotations

import pipelines  # it says how TensorFlow works, before that is imported

# isort: split

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import tensorflow as tf

import zoo
from pipelines import InputError
from zoo.models.gan_ae import COLUMNS
from zoo.serving.artefact import read_about

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "examples" / "serve.c"
sys.path.append(str(ROOT / "tools"))
import cost

BINS = 60
Inputs = dict[str, np.ndarray]


def trained(name: str, members: int):
    """A model with its weights, trained as little as can be."""
    given = {"columns": COLUMNS, "batch_size": 500, "members": members}
    if name in ("conv_vae", "gcn_vae") or "window" in zoo.describe(name)["hyperparameters"]:
        given = {"members": members}
    defaults = zoo.describe(name)["hyperparameters"]
    model = cost.made(name, **{key: value for key, value in given.items() if key in defaults})
    events, _ = cost.events_of(name)
    model.fit(*([] if events is None else [events.sample(2000)]), epochs=1, verbose=0, jit_compile=False)
    return model


def inputs_of(name: str, model, size: int) -> Inputs:
    """What an exported model takes, of so many events, or of spectra."""
    if name == "ddp":
        counts = np.random.default_rng(0).poisson(1000 * np.exp(-np.arange(BINS) / 12), (size, BINS))
        edges = np.tile(np.linspace(1000.0, 4000.0, BINS + 1), (size, 1))
        shape = np.ones((size, BINS), np.float32)
        return {"counts": counts.astype(np.float32), "edges": edges, "resolution": 75 * shape, "mask": shape}
    events, found = cost.events_of(name)[0], {}
    for spec in model.serving().specs:
        values = events.mass if spec.name == "mass" else events.read(spec.name, *names_of(model, spec.name))
        found[spec.name] = np.resize(values, (size, *values.shape[1:])).astype(spec.dtype.as_numpy_dtype)
    return found


def names_of(model, what: str) -> list:
    """The columns that are read."""
    return [list(model.resolved_columns)] if what == "features" else []


def callables(name: str, model, folder: Path, threads: int) -> Iterator[tuple[str, Callable[[Inputs], object]]]:
    """Names of formats, and what scores inputs in each."""
    alone = {"features"} == {one.name for one in model.serving().specs}
    result = "significance" if name == "ddp" else "score"
    if name == "ddp":
        yield "zoo, significance", lambda x: model.significance(x["counts"], x["edges"], width=1.5)
    else:
        yield "zoo, model.score", lambda x: model.score(x["features"] if alone else x)
    model.export(folder / "saved")
    signatures = tf.saved_model.load(folder / "saved").signatures
    served = signatures["score" if "score" in signatures else "serving_default"]

    def tensors(x: Inputs) -> dict[str, tf.Tensor]:
        return {key: tf.constant(value) for key, value in x.items()}

    yield "SavedModel", lambda x: served(**tensors(x))[result].numpy()
    model.export(folder / "keras", format="keras")
    from zoo.keras import keras

    loaded = keras.models.load_model(folder / "keras")
    yield "Keras, model(x)", lambda x: loaded(tensors(x))[result].numpy()
    if name != "ddp":  # whose edges are float64, which `predict` makes float32
        yield "Keras, predict", lambda x: loaded.predict(x, batch_size=len(next(iter(x.values()))), verbose=0)[result]
    try:
        model.export(folder / "model.onnx", format="onnx")
        import onnxruntime
    except (InputError, ImportError) as error:
        click.echo(f"no ONNX: {error}", err=True)
        return
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    taken = {one.name for one in session.get_inputs()}
    yield "ONNX", lambda x: session.run([result], {key: value for key, value in x.items() if key in taken})[0]


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


def fastest(score: Callable, x: Inputs, seconds: float) -> float:
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
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):  # `idealised` has its background there
        for name in names:
            model, folder = trained(name, members), Path(scratch) / name
            folder.mkdir()
            x = events.read("features", model.resolved_columns)[:JUDGED]
            for factor in FACTORS:
                found = differences(model, (factor * x).astype(np.float32), folder)
                cells = ("not finite" if np.isinf(value) else f"{value:.1e}" for value in found)
                print(f"| `{name}` | {factor:g} | {' | '.join(cells)} |")


@click.command()
@click.option("--models", default="ae,vae,gan_ae,pca,deep_svdd,isolation_forest,knn", show_default=True, help="Or all.")
@click.option("--members", default=1, show_default=True)
@click.option("--batch", default=10_000, show_default=True, help="Events in a batch, for throughput.")
@click.option("--seconds", default=1.0, show_default=True, help="Of each measurement.")
@click.option("--threads", default=1, show_default=True)
@click.option("--precision", is_flag=True, help="Compare scores instead of times.")
def main(models, members, batch, seconds, threads, precision):
    """Measure and print the table."""
    models = ",".join(zoo.names()) if models == "all" else models
    if precision:
        compare_precision(models.split(","), members)
        return
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    print(
        f"{os.cpu_count()} cores, {threads} threads, {members} members, batches of {batch}; ratios are to model.score"
    )
    print(f"{'model':17} {'format':17} {'one event [us]':>15} {'ratio':>7} {'events/s':>12} {'ratio':>7}")
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):  # `idealised` has its background there
        for name in models.split(","):
            model, folder = trained(name, members), Path(scratch) / name
            folder.mkdir()
            x, rows = inputs_of(name, model, batch), {}
            one = {key: values[:1] for key, values in x.items()}
            for form, score in callables(name, model, folder, threads):
                rows[form] = fastest(score, one, seconds), fastest(score, x, seconds)
            if set(x) == {"features"} and (alone := in_c(folder, x["features"][:50], 1, 40, threads)) is not None:
                rows["C"] = alone, in_c(folder, x["features"], batch, 5, threads)
            first = next(iter(rows.values()))
            for form, (latency, whole) in rows.items():
                ratios = first[0] / latency, first[1] / whole
                print(
                    f"{name:17} {form:17} {1e6 * latency:15.0f} {ratios[0]:7.1f} {batch / whole:12,.0f} {ratios[1]:7.1f}"
                )


if __name__ == "__main__":
    main()
