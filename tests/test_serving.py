"""Exports in every format: equal to the model over events near and far, told of without TensorFlow, cuts inside."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

import pipelines
import zoo
import zoo.cli.main
from pipelines import Events, InputError
from zoo import conformance, registry
from zoo.conformance.subject import arrays
from zoo.keras import keras
from zoo.models.gan_ae import COLUMNS
from zoo.serving.artefact import PLACE, about_text, is_export, read_about
from zoo.serving.cut_values import cut_values

EXTREME = (0.0, 1e-3, 1.0, 10.0, 1e3, 1e6)  # times the largest value of every column
RANGE = (2700, 5000)


def near_and_far(model, events, number):
    """Arrays of `number` events: those given, again and again, and with a part whose values are far out."""
    found = {}
    for name, array in arrays(model, events).items():
        several = np.resize(array, (number, *array.shape[1:])).copy()
        largest = np.abs(array).max(axis=tuple(range(max(1, array.ndim - 1))))  # of each column; of masses, of all
        for k, factor in enumerate(EXTREME):
            several[k :: 10 * len(EXTREME)] = factor * largest * (-1) ** k
        found[name] = several
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory, train_events):
    """A run of a small model of several members, on disk."""
    out = tmp_path_factory.mktemp("serving") / "run"
    small = {"columns": COLUMNS, "encoder_units": (8, 4), "members": 2, "batch_size": 512, "scaling": "standard"}
    zoo.train(
        "ae", "lhco_sim_train", out, hyperparameters=small, epochs=1, mass_range=RANGE, jit_compile=False, verbose=0
    )
    return out


@pytest.fixture(scope="module")
def served(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "served"
    zoo.export(run, path, percentiles=[80, 90], events="lhco_sim_test")
    return path


# -- what an export says of itself ----------------------------------------------------------------------------


def test_show_tells_of_an_export_without_tensorflow(served, fresh_python):
    code = "import sys; from zoo.cli.main import main\ntry: main(['show', sys.argv[1]])\nexcept SystemExit: pass\n"
    told = fresh_python(code + "print('tensorflow' in sys.modules)", served)
    assert told.splitlines()[-1] == "False"
    assert told.startswith("SavedModel of ae, 2 members, hep-anomaly-zoo")
    for part in ("features (N, 42) float32", "mass_1 [GeV]", "percentile 90, upper tail", "Scaling: standard", "SHA-256 ",
                 "Licence: BSD-3-Clause", "Masses: 2700 to 5000 GeV"):  # fmt: skip
        assert part in told, part


def test_an_export_says_what_repeats_it(run, served):
    about, config = read_about(served), json.loads((run / "config.json").read_text())
    assert about["hyperparameters"] == config["hyperparameters"] and about["state_sha256"] == config["state_sha256"]
    assert about["data"]["sha256"] == config["data"]["sha256"] and "files" not in about["data"]
    assert about["inputs"]["features"]["columns"] == config["hyperparameters"]["columns"]
    model = zoo.load(run)
    np.testing.assert_allclose(about["scaling"]["scale"], model.scaler.scale.numpy())
    assert about["outputs"]["score_members"]["shape"] == [None, 2]
    inside = tf.saved_model.load(served).signatures["about"]()["about"].numpy()
    assert json.loads(inside) == {name: value for name, value in about.items() if name != "graph"}


def test_what_is_no_export_is_told(served, tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        read_about(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"expected a folder with saved_model\.pb"):
        read_about(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(InputError, match=r"without assets\.extra/zoo\.json: of another program"):
        read_about(tmp_path)
    (tmp_path / PLACE).parent.mkdir()
    about = json.loads((served / PLACE).read_text())
    for damage in ("{", json.dumps({**about, "members": "two"}), json.dumps({"model": "ae"})):
        (tmp_path / PLACE).write_text(damage)
        with pytest.raises(InputError, match=r"zoo\.json: .*; damaged; export again"):
            read_about(tmp_path)
    for bytes_ in (b"", b"\x00", b"no onnx", bytes([(14 << 3) | 2, 200, 1]), b"\xff" * 30):
        (tmp_path / "a.onnx").write_bytes(bytes_)
        with pytest.raises(InputError, match=r"a\.onnx: .*ONNX model"):
            read_about(tmp_path / "a.onnx")


# -- signatures -----------------------------------------------------------------------------------------------


def test_signatures_give_parts_of_the_same(run, served):
    model, signatures = zoo.load(run), tf.saved_model.load(served).signatures
    assert set(signatures) == {
        "serving_default", "score", "reconstruction", "latent", "columns", "about", "cuts", "selected"
    }  # fmt: skip
    x = tf.constant(near_and_far(model, pipelines.open("lhco_sim_test"), 200)["features"])
    everything = signatures["serving_default"](features=x)
    for name, expected in {"score": {"score", "score_std", "score_members", "mse"}, "reconstruction": {"reconstructed"},
                           "latent": {"latent"}}.items():  # fmt: skip
        found = signatures[name](features=x)
        assert set(found) == expected
        for key, value in found.items():
            np.testing.assert_array_equal(value, everything[key])


@pytest.mark.parametrize("cut", ["mass", "global"])
def test_cuts_inside_select_what_a_hunt_selects(cut, run, tmp_path):
    events = pipelines.open("lhco_sim_test").select(mass_range=RANGE)
    zoo.export(run, tmp_path / "served", percentiles=(80, 90), events=events, cut=cut, mass_range=RANGE)
    signatures = tf.saved_model.load(tmp_path / "served").signatures
    model = zoo.load(run)
    score = model.score(events)
    given = {"score": tf.constant(score)} | ({"mass": tf.constant(events.mass, tf.float64)} if cut == "mass" else {})
    selected = signatures["selected"](**given)["selected"].numpy()
    hunted = zoo.hunt(run, events, mass_range=RANGE, percentiles=(80, 90), cut=cut, pseudo_experiments=10)
    assert [bump.selected_events for bump in hunted.hunt.bumps] == selected.sum(axis=0).tolist()
    numbers = signatures["cuts"]()
    assert numbers["percentile"].numpy().tolist() == [80, 90] and numbers["tail"].numpy().tolist() == [b"upper"] * 2
    np.testing.assert_allclose(numbers["threshold"], [bump.threshold for bump in hunted.hunt.bumps])
    assert ("curve" in numbers) == (cut == "mass") == read_about(tmp_path / "served")["cuts"]["follows_mass"]


def test_cut_values_of_what_cannot_be_cut_are_refused(run, tmp_path):
    with pytest.raises(InputError, match="percentiles of events; give events too"):
        zoo.export(run, tmp_path / "served", percentiles=99)
    with pytest.raises(InputError, match="percentiles of events; give percentiles too"):
        zoo.export(run, tmp_path / "served", events="lhco_sim_test")
    with pytest.raises(InputError, match="expected different numbers between 0 and 100"):
        zoo.export(run, tmp_path / "served", percentiles=101, events="lhco_sim_test")
    with pytest.raises(InputError, match="no event within 1 to 2 GeV"):
        cut_values(zoo.load(run), pipelines.open("lhco_sim_test"), 99, mass_range=(1, 2))
    events = pipelines.open("lhco_sim_test")
    weight = np.where(np.arange(len(events)) % 100, 1.0, -1.0)
    weighted = Events.from_arrays(events.read("features"), events.mass, events.columns, weight=weight)
    for cut in ("mass", "global"):
        with pytest.raises(InputError, match=r"weight: -1 to 1, expected numbers >= 0.*ignore_weights=True"):
            zoo.export(run, tmp_path / "served", percentiles=90, events=weighted, cut=cut)
    alike = (cut_values(zoo.load(run), given, 90, ignore_weights=True) for given in (weighted, events))
    assert len({(one.cuts, one.curves) for one in alike}) == 1
    assert not list(tmp_path.iterdir())


# -- formats --------------------------------------------------------------------------------------------------


def test_keras_loads_and_predicts(run, tmp_path):
    """By itself, in an interpreter that knows nothing of this package: test_export."""
    zoo.export(run, tmp_path / "keras", format="keras")
    model = zoo.load(run)
    x = near_and_far(model, pipelines.open("lhco_sim_test"), 500)["features"]
    found = keras.models.load_model(tmp_path / "keras").predict({"features": x}, verbose=0)
    assert set(found) == set(read_about(tmp_path / "keras")["outputs"])
    np.testing.assert_allclose(found["score"], model.score(x), rtol=1e-6)
    assert about_text(read_about(tmp_path / "keras")).startswith("SavedModel in Keras' format of ae")
    assert is_export(tmp_path / "keras") and not is_export(run)


def onnx_session(path):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed; pip install -e '.[onnx]'")
    return runtime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_onnx_gives_the_scores_of_events_near_and_far(run, tmp_path):
    pytest.importorskip("tf2onnx", reason="tf2onnx is not installed; pip install -e '.[onnx]'")
    zoo.export(run, tmp_path / "model.onnx", format="onnx", percentiles=90, events="lhco_sim_test")
    model, session = zoo.load(run), onnx_session(tmp_path / "model.onnx")
    given = near_and_far(model, pipelines.open("lhco_sim_test"), 2000)
    found = dict(zip([one.name for one in session.get_outputs()], session.run(None, given)))
    np.testing.assert_allclose(found["score"], model.score(given), rtol=5e-6)
    about = read_about(tmp_path / "model.onnx")
    assert about["kind"] == "onnx" and set(about["outputs"]) == set(found) and about["cuts"]["values"]
    assert "onnx" in about["versions"] and is_export(tmp_path / "model.onnx")


def test_onnx_scores_by_distances_to_references(train_events, tmp_path):
    pytest.importorskip("tf2onnx", reason="tf2onnx is not installed; pip install -e '.[onnx]'")
    model = zoo.get("knn", columns=["mass_1", "mass_2", "tau21_1"], sample=300)
    model.fit(train_events, verbose=0, jit_compile=False)
    model.export(tmp_path / "model.onnx", format="onnx")
    x = train_events.read("features", model.resolved_columns)[:1100]  # more than are worked out at a time
    found = onnx_session(tmp_path / "model.onnx").run(["score"], {"features": x})[0]
    np.testing.assert_allclose(found, model.score(x), rtol=5e-6)


def test_onnx_without_its_packages_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(InputError, match=r"not installed.*pip install '\.\[onnx\]'"):
        zoo.export(run, tmp_path / "model.onnx", format="onnx")
    with pytest.raises(InputError, match=r"expected a name that ends in \.onnx"):
        zoo.export(run, tmp_path / "model", format="onnx")
    with pytest.raises(InputError, match="format 'pickle', expected one of savedmodel, keras, onnx"):
        zoo.export(run, tmp_path / "model", format="pickle")
    assert not list(tmp_path.iterdir())


def test_what_onnx_cannot_hold_is_told(train_events, tmp_path):
    pytest.importorskip("tf2onnx", reason="tf2onnx is not installed; pip install -e '.[onnx]'")
    model = zoo.get("cwola", window=(3300, 3700), columns=["mass_1", "mass_2"], batch_size=256)
    model.adapt(train_events)
    with pytest.raises(
        InputError, match="cwola cannot be written as ONNX, which has no operation for Bitcast: which fold"
    ):
        model.export(tmp_path / "model.onnx", format="onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_onnx_cannot_hold_a_model_of_spectra(tmp_path):
    pytest.importorskip("tf2onnx", reason="tf2onnx is not installed; pip install -e '.[onnx]'")
    with pytest.raises(InputError, match="ddp cannot be written as ONNX, which has no operation for Log1p"):
        zoo.export("ddp/spectra", tmp_path / "model.onnx", format="onnx")
    assert not list(tmp_path.iterdir())


def test_the_command_gives_what_the_call_gives(run, served, tmp_path):
    words = [
        "export",
        run,
        "--out",
        tmp_path / "served",
        "--percentile",
        80,
        "--percentile",
        90,
        "--data",
        "lhco_sim_test",
    ]
    done = CliRunner().invoke(zoo.cli.main.main, [*map(str, words), "--json"])
    assert done.exit_code == 0, done.output
    assert {name: value for name, value in json.loads(done.stdout).items() if name != "out"} == dict(read_about(served))


# -- folds ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    """A search by three folds, and what is exported of it."""
    out = tmp_path_factory.mktemp("folds")
    zoo.hunt("pca", "lhco_sim_test", out / "hunt", folds=3, mass_range=RANGE, pseudo_experiments=10, percentiles=90,
             jit_compile=False, hyperparameters={"columns": COLUMNS, "latent_dim": 2})  # fmt: skip
    zoo.export(out / "hunt", out / "served", percentiles=90, events="lhco_sim_test")
    return out


def test_folds_are_exported_as_the_mean_of_their_ranks(folded):
    events = pipelines.open("lhco_sim_test")
    with h5py.File(folded / "hunt/scores.h5") as file:
        row, fold, rank = file["row"][:], file["fold"][:], file["score"][:]
    searched = events.take(row)
    models = [zoo.load(folded / "hunt/runs" / f"fold-{k}") for k in range(3)]
    x = searched.read("features", models[0].resolved_columns)
    found = tf.saved_model.load(folded / "served").signatures["score"](features=tf.constant(x))
    each = found["score_folds"].numpy()
    np.testing.assert_allclose(each[np.arange(len(fold)), fold], rank, rtol=1e-6)  # by the model that has not seen it
    np.testing.assert_allclose(found["score"], each.mean(axis=1), rtol=1e-6)
    for k, model in enumerate(models):  # of other events the share of the fold below
        score, own = model.score(searched), fold == k
        below = np.searchsorted(np.sort(score[own]), score[~own]) / own.sum()
        np.testing.assert_allclose(each[~own, k], below, atol=1.0 / own.sum())
    about = read_about(folded / "served")
    assert about["folds"]["number"] == 3 and about["cuts"]["values"][0]["percentile"] == 90
    assert about_text(about).startswith("SavedModel of pca, 3 folds")


def test_what_are_no_folds_is_told(folded, run, tmp_path):
    zoo.hunt(run, "lhco_sim_test", tmp_path / "hunt", mass_range=RANGE, pseudo_experiments=10, percentiles=90)
    with pytest.raises(InputError, match="hunt: a search that trained no folds; export the run directory"):
        zoo.export(tmp_path / "hunt", tmp_path / "served")
    shutil.copytree(folded / "hunt", tmp_path / "moved")
    text = (tmp_path / "moved/search.json").read_text()
    search = json.loads(text)
    search["configuration"]["data"]["sha256"] = "0" * 64
    (tmp_path / "moved/search.json").write_text(json.dumps(search))
    with pytest.raises(InputError, match="is not what was searched"):
        zoo.export(tmp_path / "moved", tmp_path / "served")
    search["configuration"]["data"]["files"] = [str(tmp_path / "gone.h5")]
    (tmp_path / "moved/search.json").write_text(json.dumps(search))
    with pytest.raises(InputError, match="cannot be read again"):
        zoo.export(tmp_path / "moved", tmp_path / "served")
    assert not (tmp_path / "served").exists()


# -- a program in C -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_a_program_in_c_gives_the_scores(run, served, tmp_path):
    there = Path(tf.__file__).parent
    libraries = ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2", f"-Wl,-rpath,{there}"]
    source = Path(__file__).parent.parent / "examples/serve.c"
    subprocess.run(["gcc", "-O2", "-Wall", "-Werror", source, "-o", tmp_path / "serve", f"-I{there / 'include'}",
                    f"-L{there}", *libraries], check=True)  # fmt: skip
    model, graph = zoo.load(run), read_about(served)["graph"]["score"]
    x = near_and_far(model, pipelines.open("lhco_sim_test"), 10_000)["features"]
    words = [str(served), graph["inputs"]["features"], graph["outputs"]["score"], "42", "1000"]
    done = subprocess.run([tmp_path / "serve", *words], input=x.tobytes(), capture_output=True, check=True)
    np.testing.assert_allclose(np.array(done.stdout.split(), np.float32), model.score(x), rtol=1e-6)
    wrong = subprocess.run([tmp_path / "serve", *words[:2], "nothing:0", "42"], input=x.tobytes(), capture_output=True)
    assert wrong.returncode == 2 and b"nothing:0: no such tensor" in wrong.stderr


# -- every model, 10,000 events -------------------------------------------------------------------------------

EVENTS = [name for name in zoo.names() if registry.model_class(name).data_kind == "events"]
ONNX = {"ae", "conv_vae", "deep_svdd", "gan_ae", "gcn_vae", "isolation_forest", "knn", "pca", "vae"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:idealised is told the true background")
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("name", EVENTS)
def test_every_model_over_ten_thousand_events(name, members, tmp_path):
    subject = conformance.Subject(name)
    model = subject.make(members=members)
    subject.fit(model)
    given = near_and_far(model, subject.test, 10_000)
    expected = model.score(given)
    model.export(tmp_path / "served")
    serve = tf.saved_model.load(tmp_path / "served").signatures["serving_default"]
    found = serve(**{key: tf.constant(value) for key, value in given.items()})["score"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    if name not in ONNX:
        with pytest.raises(InputError, match="cannot be written as ONNX, which has no operation for Bitcast"):
            model.export(tmp_path / "model.onnx", format="onnx")
        return
    model.export(tmp_path / "model.onnx", format="onnx")
    session = onnx_session(tmp_path / "model.onnx")
    share = 1e-7 if model.score_kinds[0] == "aligned" else 0  # of 1, beside which float32 rounds it
    np.testing.assert_allclose(session.run(["score"], given)[0], expected, rtol=2e-5, atol=share)
