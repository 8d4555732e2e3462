"""Exported models: TensorFlow alone, in an interpreter that has never heard of this package, gives the same scores."""

import json
import resource
from importlib.metadata import version

import numpy as np
import pytest
import tensorflow as tf

import zoo
from pipelines import InputError

SMALL = {
    "ae_units": 16,
    "d_units": (16, 8),
    "latent_dim": 4,
    "batch_size": 256,
    "cycles": 1,
    "d_epochs": 1,
    "ae_epochs": 1,
    "pretraining_epochs": 1,
}


@pytest.fixture(scope="module")
def model(train_events):
    model = zoo.get("gan_ae", **SMALL, scaling="quantile")
    model.fit(train_events.sample(600), verbose=0, jit_compile=False)
    return model


@pytest.fixture(scope="module")
def served(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "served"
    model.export(path)
    return path


ALONE = """
import os, sys
os.environ.pop("TF_USE_LEGACY_KERAS", None)  # inherited from the tests' own interpreter

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("zoo", "pipelines", "tuning", "keras_tuner"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Nothing())
try:
    import zoo
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("this package is there")
import json
import numpy as np
import tensorflow as tf
signatures = tf.saved_model.load(sys.argv[1]).signatures
columns = [c.decode() for c in signatures["columns"]()["columns"].numpy()]
found = signatures["serving_default"](features=tf.constant(np.load(sys.argv[2])))
np.savez(sys.argv[3], **{name: value.numpy() for name, value in found.items()})
assert "tf_keras" not in sys.modules
import tf_keras
found = tf_keras.models.load_model(sys.argv[4]).predict({"features": np.load(sys.argv[2])}, verbose=0)
np.savez(sys.argv[5], **found)
print(json.dumps(columns))
"""


def test_tensorflow_alone_and_keras_alone_give_the_same_scores(model, served, test_events, tmp_path, fresh_python):
    features = test_events.read("features", model.resolved_columns)
    np.save(tmp_path / "features.npy", features)
    (tmp_path / "elsewhere").mkdir()
    model.export(tmp_path / "keras", format="keras")
    names = ("features.npy", "found.npz", "keras", "found_by_keras.npz")
    printed = fresh_python(
        ALONE, served, *(tmp_path / name for name in names), cwd=tmp_path / "elsewhere", isolated=True
    )
    assert json.loads(printed.splitlines()[-1]) == list(model.resolved_columns)
    with np.load(tmp_path / "found.npz") as found:
        assert set(found) == {"score", "distance", "reconstructed", "latent"}
        np.testing.assert_allclose(found["score"], model.score(test_events), rtol=1e-6)
        reconstruction = model.results(test_events, ["reconstructed"])["reconstructed"]
        np.testing.assert_allclose(found["reconstructed"], reconstruction, rtol=1e-5, atol=1e-4)
    with np.load(tmp_path / "found_by_keras.npz") as found:
        np.testing.assert_allclose(found["score"], model.score(test_events), rtol=1e-6)


def test_the_signature_takes_features_of_any_number_of_events_and_nothing_else(model, served):
    serve = tf.saved_model.load(served).signatures["serving_default"]
    _, inputs = serve.structured_input_signature
    assert {name: (spec.shape.as_list(), spec.dtype) for name, spec in inputs.items()} == {
        "features": ([None, 42], tf.float32)
    }
    for events in (1, 7):
        assert serve(features=tf.ones((events, 42)))["score"].shape == (events,)
    with pytest.raises((TypeError, ValueError, tf.errors.InvalidArgumentError)):
        serve(features=tf.ones((3, 41)))


def test_a_loaded_run_exports_what_it_scores(model, train_events, test_events, tmp_path):
    from zoo import run

    (tmp_path / "run").mkdir()
    run.write(model, tmp_path / "run", run.configuration(model, train_events), [])
    zoo.load(tmp_path / "run").export(tmp_path / "served")
    serve = tf.saved_model.load(tmp_path / "served").signatures["serving_default"]
    features = tf.constant(test_events.read("features", model.resolved_columns))
    np.testing.assert_allclose(serve(features=features)["score"], model.score(test_events), rtol=1e-6)


@pytest.mark.parametrize("tuning", [{}, {"tuning": {"trial": "3", "search": "auc:1", "truth_used": True}}])
def test_an_export_says_which_model_it_is_and_whether_labels_chose_it(tuning, model, train_events, tmp_path):
    from zoo import run

    (tmp_path / "run").mkdir()
    run.write(model, tmp_path / "run", run.configuration(model, train_events, **tuning), [])
    zoo.load(tmp_path / "run").export(tmp_path / "served")
    about = json.loads(tf.saved_model.load(tmp_path / "served").signatures["about"]()["about"].numpy())
    sha256 = run.read_config(tmp_path / "run")["state_sha256"]
    version_ = version("hep-anomaly-zoo")
    assert about.items() >= {
        "model": "gan_ae", "version": version_, "truth_used": bool(tuning), "state_sha256": sha256
    }.items()  # fmt: skip


def test_a_full_disk_is_one_line_and_leaves_nothing(model, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"served: cannot be written \(File too large\); free some space") as error:
            model.export(tmp_path / "served")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_an_export_of_the_same_run_is_known(train_events, tmp_path):
    from zoo import run
    from zoo.serving.saved_model import export_again

    model = zoo.get("gan_ae", **SMALL)
    model.adapt(train_events)
    model.build_from_config()
    for name in ("run", "other"):
        (tmp_path / name).mkdir()
        run.write(model, tmp_path / name, run.configuration(model, train_events), [])
        model.trainable_variables[0].assign_add(tf.ones_like(model.trainable_variables[0]))
    export_again(tmp_path / "run", tmp_path / "served")
    written = (tmp_path / "served" / "saved_model.pb").stat().st_mtime_ns
    export_again(tmp_path / "run", tmp_path / "served")
    assert (tmp_path / "served" / "saved_model.pb").stat().st_mtime_ns == written
    with pytest.raises(InputError, match="exists already"):
        export_again(tmp_path / "other", tmp_path / "served")


def test_a_model_without_data_is_not_exported(tmp_path):
    with pytest.raises(InputError, match="has not met any data"):
        zoo.get("gan_ae").export(tmp_path / "served")
    assert not list(tmp_path.iterdir())


def test_an_export_replaces_nothing_and_leaves_nothing_half_done(model, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="exists already"):
        model.export(tmp_path / "there")

    def fail(*arguments, **options):
        raise RuntimeError("stopped")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(RuntimeError):
        model.export(tmp_path / "served")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
