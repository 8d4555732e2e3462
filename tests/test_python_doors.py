"""In Python: what Keras has works or names the call that does, values are spelled as on the command line, results print."""

import copy
import pickle

import h5py
import hist
import numpy as np
import pyarrow
import pytest
import uproot
from linear_model import registered

import pipelines
import zoo
from pipelines import Events, InputError, histograms
from pipelines.events import hdf5_files
from pipelines.events.hdf5_files import open_hdf5
from zoo.keras import keras


@pytest.fixture(scope="module")
def events(train_events):
    return train_events.sample(300)


@pytest.fixture(scope="module")
def model(events):
    with registered():
        model = zoo.get("linear")
        model.fit(events, epochs=1, verbose=0, jit_compile=False)
        yield model


@pytest.mark.parametrize("call, told", [
    (lambda model, events: model.save("x.keras"), r"model\.save_run\(folder\)"),
    (lambda model, events: model.save_weights("x.h5"), r"model\.save_run\(folder\)"),
    (lambda model, events: pickle.dumps(model), r"model\.save_run\(folder\)"),
    (lambda model, events: copy.deepcopy(model), r"model\.save_run\(folder\)"),
    (lambda model, events: model(events), r"model\.score\(events\)"),
    (lambda model, events: model(np.zeros((2, 3))), r"model\.score\(events\)"),
    (lambda model, events: model.predict(events), r"model\.score\(events\)"),
    (lambda model, events: model.evaluate(events), r"zoo\.evaluate\(model, events\)"),
    (lambda model, events: model.compile("adam", loss="mse"), r"zoo\.get\(name, learning_rate=\.\.\.\)"),
    (lambda model, events: model.train_on_batch(np.zeros((2, 3))), r"model\.fit\(events"),
    (lambda model, events: model.test_on_batch(np.zeros((2, 3))), r"zoo\.evaluate\(model, events\)"),
    (lambda model, events: model.predict_on_batch(np.zeros((2, 3))), r"model\.score\(events\)"),
    (lambda model, events: keras.models.save_model(model, "never.keras"), r"model\.save_run\(folder\)"),
])  # fmt: skip
def test_what_keras_has_names_the_call_that_works(call, told, model, events):
    with pytest.raises(InputError, match=told) as error:
        call(model, events)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("given", [np.zeros((4, 2)), pyarrow.table({"x": [1.0]}), [1, 2], "lhco_sim_train", None])
def test_fit_takes_events_and_says_how_to_make_them(given, model):
    with pytest.raises(TypeError, match=r"expected Events: .*pipelines\.open.*Events\.from_arrays"):
        model.fit(given)


def test_fit_takes_validation_data_and_whole_epochs(model, events):
    history = model.fit(events, validation_data=events, epochs=1, verbose=0, jit_compile=False).history
    assert history["val_loss"]
    with pytest.raises(InputError, match="names of the same"):
        model.fit(events, events, validation_data=events)
    with pytest.raises(TypeError, match="epochs is '3'"):
        model.fit(events, epochs="3")
    with pytest.raises(InputError, match="epochs is 0, expected at least 1"):
        model.fit(events, epochs=0)
    with pytest.raises(TypeError, match="name is int"):
        zoo.get(3)
    with pytest.raises(TypeError, match="initial_epoch is '1'"):
        model.fit(events, initial_epoch="1")
    with pytest.raises(InputError, match="initial_epoch is -1"):
        model.fit(events, initial_epoch=-1)


def test_fit_splits_off_what_validates(events):
    """By the seed: as events that are split by hand."""
    with registered():
        split, by_hand = zoo.get("linear"), zoo.get("linear")
        training, others = events.split(0.8, 0)
        given = {"epochs": 1, "verbose": 0, "jit_compile": False}
        found = split.fit(events, validation_split=0.2, **given).history
        assert found == by_hand.fit(training, validation_data=others, **given).history and found["val_loss"]
        with pytest.raises(InputError, match="validation_split: names of the same; give one"):
            split.fit(events, others, validation_split=0.2)
        with pytest.raises(InputError, match=r"validation_split is 1\.0, expected a share >= 0 and < 1"):
            split.fit(events, validation_split=1.0)
        with pytest.raises(TypeError, match=r"validation_split is '0\.2', expected a number"):
            split.fit(events, validation_split="0.2")


@pytest.mark.parametrize("name, told", [
    ("batch_size", r"zoo\.get\(name, batch_size=\.\.\.\)"),
    ("y", "no targets"),
    ("sample_weight", r"Events\.from_arrays\(\.\.\., weight=\.\.\.\)"),
    ("class_weight", "weights belong to the events"),
    ("steps_per_epoch", r"events\.sample\(n\)"),
    ("validation_freq", "after every epoch"),
    ("shuffle", "shuffled anew in every pass"),
    ("epoch", r"did you mean epochs\?"),
    ("nonsense", "it has events, validation"),
])  # fmt: skip
def test_an_argument_of_keras_that_is_not_there_says_what_does_the_same(name, told, model, events):
    with pytest.raises(TypeError, match=rf"fit\(\) has no argument '{name}'; .*{told}"):
        model.fit(events, **{name: 1})
    with pytest.raises(TypeError, match=rf"fit\(\) has no argument '{name}'; "):
        zoo.get("ddp").fit(**{name: 1})


def test_hints_are_of_the_model_at_hand(model, events):
    with pytest.raises(TypeError, match=r"fit\(\) has no argument 'x'; the events are the first argument"):
        model.fit(x=events)
    with pytest.raises(TypeError, match=r"fit\(\) has no argument 'x'; spectra are drawn by a Generator"):
        zoo.get("ddp").fit(x=events)
    with pytest.raises(TypeError, match=r"fit\(\) has no argument 'others'"):
        model.fit(events, others=1)


def test_export_names_an_argument_that_is_not_there(model, tmp_path):
    with pytest.raises(TypeError, match=r"export\(\) has no argument 'formats'; did you mean format\?"):
        model.export(tmp_path / "e", formats="onnx")


@pytest.mark.parametrize("several", [False, True])
def test_callbacks_may_be_one_or_none_too(several, model, events):
    seen = []
    one = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    model.fit(events, epochs=2, callbacks=[one] if several else one, verbose=0, jit_compile=False)
    model.fit(events, epochs=1, callbacks=None, verbose=0, jit_compile=False)
    assert seen == [0, 1]


@pytest.mark.parametrize("word", ["none", "None", "null", "~", None])
def test_nothing_has_one_meaning_in_python_too(word):
    assert zoo.get("vae", flow=word).hp.flow is None
    with pytest.raises(InputError, match="flow='nothing' is not possible"):
        zoo.get("vae", flow="nothing")


@pytest.mark.parametrize(
    "values", [np.ones((3, 2)) + 1j, np.full((3, 2), np.datetime64("2026-01-01")), [["a", "b"]] * 3]
)
def test_arrays_that_are_no_real_numbers_are_refused(values):
    with pytest.raises(InputError, match=r"features are of type .*, expected real numbers"):
        Events.from_arrays(values, np.ones(3), ["x", "y"])


@pytest.mark.parametrize("value", [3e38, 1e-40])
def test_features_that_float32_cannot_square_are_told_before_the_first_step(value):
    features = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    features[:, 1] = value
    with (
        registered(),
        pytest.raises(InputError, match=r"column 'tau21_1' has .* as its largest value, expected 1e-30 to 1e"),
    ):
        zoo.get("linear", columns=["*"]).fit(Events.from_arrays(features, np.ones(200), ["pt_1", "tau21_1"]), verbose=0)


def test_a_search_prints_as_a_short_table(model):
    events = pipelines.open("lhco_sim_test")
    options = {"mass_range": (2700, 5000), "widths": (2, 4), "pseudo_experiments": 50, "percentiles": 90}
    found = pipelines.search(events.mass % 7, events, **options)
    lines = str(found).splitlines()
    assert lines[0] == "4,661 events" and "percentile" in lines[2] and lines[3].split()[0] == "90"
    assert lines[-1].startswith(("Global p-value", "No p-value")) and found._repr_html_().startswith("<pre>4,661")


def test_progress_bars_say_of_which_phase_they_are(events, capsys):
    model = zoo.get("vae", units=(4,), batch_size=150, decoder_epochs=1, optimizer="adam")
    model.fit(events, epochs=1, verbose=2, jit_compile=False)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Phase")]
    assert told == ["Phase 1 of 2: vae", "Phase 2 of 2: decoder"]


# -- histograms and HDF5 ------------------------------------------------------------------------------------


def test_a_cutflow_without_names_of_bins_is_no_spectrum(tmp_path):
    counts = [2000, 1800, 1600, 900, 300, 90, 20, 5]
    with uproot.recreate(tmp_path / "a.root") as file:
        file["sr1"] = (np.array(counts, float), np.arange(9.0))
        file["CutFlow_mu"] = (np.arange(40.0), np.linspace(200, 1200, 41))
        file["m_jj"] = hist.Hist(hist.axis.Regular(40, 200, 1200)).fill(np.linspace(210, 1100, 500))
    left = {}
    found = histograms.read(tmp_path / "a.root", skip=lambda name, why: left.update({name: why}))
    assert found.names == ("m_jj",) and "never rise" in left["sr1"] and "by its name" in left["CutFlow_mu"]


def test_texts_in_the_middle_of_a_large_file_are_looked_through(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_files, "LOOKED_THROUGH", 4096)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["before"] = np.zeros(20_000)
        file["names"] = [f"name {k}" for k in range(30)]
        file["after"] = np.zeros(20_000)
    content = bytearray((tmp_path / "a.h5").read_bytes())
    start = content.find(b"GCOL")
    assert 8192 < start < len(content) - 8192
    content[start + 64 : start + 512] = bytes(448)
    (tmp_path / "lost.h5").write_bytes(content)
    open_hdf5(tmp_path / "a.h5").close()
    with pytest.raises(InputError, match=r"lost\.h5: damaged or truncated \(texts of no size\)"):
        open_hdf5(tmp_path / "lost.h5")
