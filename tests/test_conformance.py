"""The contract of `AnomalyModel`, kept by every model in the register: a new model is tested here without a line."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import ks_2samp

import pipelines.outputs
import zoo
from pipelines import Events
from zoo import run
from zoo.models.gan_ae import COLUMNS

# Whatever a model has of these is made small; a model without them is trained as it is.
SMALL = {
    "columns": COLUMNS,
    "batch_size": 256,
    "cycles": 2,
    "epochs": 2,
    "d_epochs": 2,
    "ae_epochs": 1,
    "pretraining_epochs": 1,
    "ae_units": 16,
    "d_units": (16, 8),
    "latent_dim": 4,
    "decoder_epochs": 2,
}

pytestmark = pytest.mark.parametrize("name", zoo.names())


def small(name, **more):
    own = zoo.describe(name)["hyperparameters"]
    return zoo.get(name, **{k: v for k, v in {**SMALL, "seed": 3, **more}.items() if k in own})


@pytest.fixture(scope="module")
def trained(request, train_events):
    """Every model trained once, without XLA, which the tests of numbers do not need."""
    kept = {}

    def give(name):
        if name not in kept:
            model = small(name)
            model.fit(train_events, train_events.sample(300), verbose=0, jit_compile=False)
            kept[name] = model
        return kept[name]

    return give


def test_training_records_every_epoch_of_every_phase(name, trained):
    model = trained(name)
    assert list(model.histories) == [phase.name for phase in model.recipe() if phase.epochs]
    for history in model.histories.values():
        assert history.epoch == list(range(history.params["epochs"]))
        for key, values in history.history.items():
            assert len(values) == len(history.epoch) and np.isfinite(values).all(), key
    last = model.histories[model.recipe()[model.main_phase].name].history
    assert {key for key in last if key.startswith("val_")} == {f"val_{k}" for k in last if not k.startswith("val_")}


def test_validation_and_training_loss_agree_on_the_same_events(name, train_events):
    own = zoo.describe(name)["hyperparameters"]
    still = {k: 0.0 for k in ("dropout_rate",) if k in own} | {"learning_rate": 1e-12}
    batch = len(train_events)
    history = (
        small(name, batch_size=batch, **still)
        .fit(train_events, train_events, epochs=1, verbose=0, jit_compile=False)
        .history
    )
    rtol = 0.1 if type(small(name)).stochastic else 1e-3  # other random numbers
    np.testing.assert_allclose(history["val_loss"], history["loss"], rtol=rtol)


def test_training_is_bit_by_bit_the_same_from_memory_from_disk_and_from_the_file(name, train_events, tmp_path):
    train_events.write(tmp_path / "events.h5")
    events, found = pipelines.open(tmp_path / "events.h5"), []
    for room in ({"memory": 2**30}, {"memory": 0, "cache": tmp_path}, {"memory": 0, "cache": ""}):
        model = small(name)
        history = model.fit(events, events.sample(600), epochs=1, verbose=0, jit_compile=False, **room).history
        assert np.isfinite(history["val_loss"]).all()
        found.append((history, model.score(events)))
    for history, score in found[1:]:
        assert history == found[0][0]
        np.testing.assert_array_equal(score, found[0][1])


def test_no_variable_is_an_int32_that_a_gpu_program_could_not_reach(name, trained):
    model = trained(name)
    assert all(v.dtype != tf.int32 for v in (*model.variables, *run.state_of(model).values()))


def test_a_batch_can_be_scored(name, trained, test_events):
    features = test_events.read("features", trained(name).resolved_columns)
    np.testing.assert_array_equal(trained(name).score({"features": features}), trained(name).score(test_events))


def test_score_is_one_finite_number_per_event(name, trained, test_events):
    for kind in trained(name).score_kinds:
        score = trained(name).score(test_events, kind)
        assert score.shape == (len(test_events),) and score.dtype == np.float32 and np.isfinite(score).all()


def test_events_far_from_the_training_sample_score_elsewhere(name, trained, train_events):
    model = trained(name)
    features = train_events.read("features", model.resolved_columns)
    shifted = features + 5.0 * features.std(axis=0)
    for kind in model.score_kinds:
        near, far = model.score(features, kind), model.score(shifted, kind)
        if kind in model.undirected:  # the method does not say where they go, but they go somewhere
            assert ks_2samp(near, far).statistic > 0.1, kind
        else:
            assert np.median(far) > np.quantile(near, 0.95), kind


def test_same_seed_same_model_and_another_seed_another(name, trained, train_events):
    again, other = small(name), small(name, seed=4)
    for model in (again, other):
        model.fit(train_events, train_events.sample(300), verbose=0, jit_compile=False)
    score = trained(name).score(train_events)
    np.testing.assert_array_equal(again.score(train_events), score)
    assert np.abs(other.score(train_events) - score).max() > 1e-3 * score.std()


def test_reset_starts_over_exactly(name, train_events):
    model = small(name)
    model.fit(train_events, epochs=1, verbose=0, jit_compile=False)
    first = model.score(train_events)
    model.reset()
    model.fit(train_events, epochs=1, verbose=0, jit_compile=False)
    np.testing.assert_array_equal(model.score(train_events), first)


def test_xla_and_plain_training_agree(name, train_events):
    scores = []
    for jit_compile in (False, True):
        model = small(name)
        model.fit(train_events, epochs=1, verbose=0, jit_compile=jit_compile)
        scores.append(model.score(train_events))
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-3)


def test_training_step_is_traced_once_whatever_the_epochs_and_phases(name, train_events, monkeypatch):
    model, traces = small(name), []
    step = type(model).train_step
    monkeypatch.setattr(type(model), "train_step", lambda self, batch: traces.append(1) or step(self, batch))
    model.fit(train_events, verbose=0, jit_compile=False)
    once = len(traces)
    model.fit(train_events, epochs=5, initial_epoch=2, verbose=0, jit_compile=False)
    model.reset(**{dial: model.hyperparameter(dial) for dial in model.dials})
    model.fit(train_events, epochs=1, verbose=0, jit_compile=False)
    programs = {phase.program for phase in model.recipe()}
    assert (
        len(traces) == once <= 2 * len(programs)
    )  # Keras traces the loop over steps once more to learn what it returns


def test_config_round_trip(name, trained):
    config = trained(name).get_config()
    assert type(trained(name))(**config).get_config() == config


def test_run_directory_round_trip_keeps_the_scores(name, trained, test_events, train_events, tmp_path):
    model = trained(name)
    with pipelines.outputs.new_directory(tmp_path / "run") as folder:
        run.write(model, folder, run.configuration(model, train_events), [{"phase": "x", "epoch": 0, "loss": 1.0}])
    for kind in model.score_kinds:
        np.testing.assert_array_equal(
            zoo.load(tmp_path / "run").score(test_events, kind), model.score(test_events, kind)
        )


def test_training_goes_on_from_a_run_as_if_it_had_not_stopped(name, trained, train_events, tmp_path):
    half = small(name)
    half.fit(train_events, epochs=1, verbose=0, jit_compile=False)
    run.save_state(half, tmp_path / "state.h5")
    resumed = small(name)
    resumed.adapt(train_events)
    run.load_state(resumed, tmp_path / "state.h5")
    resumed.fit(train_events, epochs=2, initial_epoch=1, verbose=0, jit_compile=False)
    np.testing.assert_array_equal(resumed.score(train_events), trained(name).score(train_events))


def test_export_gives_the_same_scores_from_raw_features(name, trained, test_events, tmp_path):
    model = trained(name)
    model.export(tmp_path / "served")
    served = tf.saved_model.load(tmp_path / "served")
    columns = [c.decode() for c in served.signatures["columns"]()["columns"].numpy()]
    assert columns == list(model.resolved_columns)
    found = served.signatures["serving_default"](features=tf.constant(test_events.read("features", columns)))
    np.testing.assert_allclose(found["score"], model.score(test_events), rtol=1e-5, atol=1e-7)
    for kind in model.score_kinds:
        np.testing.assert_allclose(found[kind], model.score(test_events, kind), rtol=1e-5, atol=1e-7)


def test_score_looks_at_neither_mass_nor_label(name, trained, test_events):
    model = trained(name)
    features, columns = test_events.read("features"), test_events.columns
    altered = Events.from_arrays(features, test_events.mass[::-1], columns, label=3 - test_events.label)
    np.testing.assert_array_equal(model.score(altered), model.score(test_events))
    assert test_events.about.mass_column not in model.resolved_columns


def test_labels_never_train(name, trained, train_events):
    features, mass, columns = train_events.read("features"), train_events.mass, train_events.columns
    blind = Events.from_arrays(features, mass, columns)
    assert not blind.has_labels and train_events.has_labels
    model = small(name)
    model.fit(blind, blind.sample(300), verbose=0, jit_compile=False)
    np.testing.assert_array_equal(model.score(blind), trained(name).score(blind))


def test_reading_a_label_while_training_would_be_noticed(name, train_events, monkeypatch):
    read = []
    blocks = Events.blocks
    monkeypatch.setattr(Events, "blocks", lambda self, *fields, **o: read.extend(fields) or blocks(self, *fields, **o))
    small(name).fit(train_events, train_events.sample(300), epochs=1, verbose=0, jit_compile=False)
    assert "features" in read and "label" not in read


def test_columns_are_found_by_name_in_any_order(name, trained, test_events):
    order = np.random.default_rng(0).permutation(len(test_events.columns))
    shuffled = Events.from_arrays(
        test_events.read("features")[:, order], test_events.mass, [test_events.columns[i] for i in order]
    )
    np.testing.assert_array_equal(trained(name).score(shuffled), trained(name).score(test_events))


def test_missing_column_is_named(name, train_events, test_events):
    gone = small(name).hyperparameter("columns")[0]
    kept = [i for i, column in enumerate(train_events.columns) if column != gone]
    fewer = Events.from_arrays(
        train_events.read("features")[:, kept], train_events.mass, [train_events.columns[i] for i in kept]
    )
    with pytest.raises(pipelines.InputError, match=f"no column '{gone}'"):
        small(name).fit(fewer, verbose=0)


def test_bad_arrays_are_refused_with_their_reason(name, trained):
    width = len(trained(name).resolved_columns)
    with pytest.raises(pipelines.InputError, match=rf"\(7, {width + 1}\), expected \(N, {width}\)"):
        trained(name).score(np.zeros((7, width + 1)))
    with pytest.raises(pipelines.InputError, match="NaN or infinite values"):
        trained(name).score(np.full((7, width), np.nan))
    with pytest.raises(pipelines.InputError, match="no events"):
        trained(name).score(np.zeros((0, width)))
    with pytest.raises(pipelines.InputError, match="score kind 'nonsense'"):
        trained(name).score(np.zeros((7, width)), "nonsense")
    with pytest.raises(pipelines.InputError, match="fewer than one batch"):
        model = small(name)
        model.fit(Events.from_arrays(np.ones((7, width)), np.full(7, 3e3), trained(name).resolved_columns), verbose=0)


def test_untrained_model_says_so(name):
    with pytest.raises(pipelines.InputError, match="has not met any data"):
        small(name).score(np.zeros((7, 3)))


def test_search_space_gives_hyperparameters_that_the_model_takes(name):
    from tuning.kerastuner import keras_tuner

    model, hp = type(small(name)), keras_tuner.HyperParameters()
    zoo.get(name, **model.search_space(hp))
    assert len(hp.space) >= 3
    for seed in range(20):
        drawn = hp.copy()
        drawn.values = {one.name: one.random_sample(seed + i) for i, one in enumerate(hp.space)}
        zoo.get(name, **model.search_space(drawn))


def test_every_preset_and_default_can_be_built(name):
    about = zoo.describe(name)
    assert about["summary"] and about["score_kinds"]
    for preset in (None, *about["presets"]):
        model = zoo.get(name, preset)
        model.build_for([f"x{i}" for i in range(5)])
        assert model.score(np.zeros((3, 5))).shape == (3,)
