"""The contract of `AnomalyModel`, kept by every model in the register: a new model is tested here without a line."""

import numpy as np
import pytest
import tensorflow as tf
from plain_sets import PARTICLE, SLOTS, particles
from scipy.stats import ks_2samp
from zoo.sets import HIGH_LEVEL

import pipelines.outputs
import zoo
from pipelines import Events
from zoo import registry, run
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
    "channels": (8, 4, 2),
    "decoder_epochs": 2,
}
# and what makes a model of objects take all that it can
OBJECTS = {"columns": HIGH_LEVEL, "high_level_features": True, "multiplicities": True}

# a model of spectra keeps another contract
pytestmark = pytest.mark.parametrize("name", [n for n in zoo.names() if registry.model_class(n).data_kind == "events"])


def small(name, **more):
    own, objects = zoo.describe(name)["hyperparameters"], OBJECTS if takes_objects(name) else {}
    return zoo.get(name, **{k: v for k, v in {**SMALL, **objects, "seed": 3, **more}.items() if k in own})


def takes_objects(name):
    return registry.model_class(name).takes == "objects"


@pytest.fixture
def train_events(train_events, name):
    """Events such as the model takes: with jets' variables, or with particles."""
    return particles(1500, seed=1) if takes_objects(name) else train_events


@pytest.fixture
def test_events(test_events, name):
    return particles(1000, seed=2) if takes_objects(name) else test_events


@pytest.fixture(scope="module")
def kept():
    """The one model of every name that these tests train, the state that its training left, and its traces."""
    return {}


@pytest.fixture
def one(kept, name, train_events):
    """Give that model, trained once without XLA, in whatever state: tracing takes nearly all of a training's time."""
    if name not in kept:
        model, traces = small(name), []
        step = type(model).train_step
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(type(model), "train_step", lambda self, batch: traces.append(1) or step(self, batch))
            model.fit(train_events, train_events.sample(300), verbose=0, jit_compile=False)
            model.reset(seed=3)
            model.fit(train_events, train_events.sample(300), verbose=0, jit_compile=False)
        kept[name] = model, {key: value.numpy() for key, value in run.state_of(model).items()}, traces
    return kept[name]


@pytest.fixture
def trained(one):
    """Give the model as its training left it, whatever another test did with it."""

    def give(name):
        model, state, _ = one
        for key, variable in run.state_of(model).items():
            variable.assign(state[key])
        return model

    return give


@pytest.fixture
def again(one, train_events):
    """Train the same model anew: that `reset` forgets everything is a test below."""

    def train(events=None, validation=None, seed=3, **options):
        model, *_ = one
        model.adapt(train_events)
        model.reset(seed=seed)
        validation = train_events.sample(300) if validation is None else validation
        model.fit(train_events if events is None else events, validation, verbose=0, jit_compile=False, **options)
        return model

    return train


@pytest.fixture
def eagerly():
    """Do without tracing, where every step is done a few times only and nothing is asked of the traced program."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def arrays(model, events):
    """What the model takes of events, as a batch has it."""
    return {name: events.read(name, model.resolved_columns) for name in model.inputs.shapes}


def made_again(events, order=None, **changes):
    """The same events in memory but for what is changed, with their columns in another order."""
    fields = {name: events.read(name) for name in ("features", "objects", "label") if events.has(name)}
    columns, object_columns = events.columns, events.about.object_columns
    if order is not None:
        by = order.permutation(len(columns))
        fields["features"], columns = fields["features"][:, by], [columns[i] for i in by]
        if "objects" in fields:
            by = order.permutation(len(object_columns))
            fields["objects"], object_columns = fields["objects"][..., by], [object_columns[i] for i in by]
    fields = {"mass": events.mass, "columns": columns, "object_columns": object_columns, **fields, **changes}
    return Events.from_arrays(fields.pop("features"), fields.pop("mass"), fields.pop("columns"), **fields)


def test_training_records_every_epoch_of_every_phase(name, trained):
    model = trained(name)
    assert list(model.histories) == [phase.name for phase in model.recipe() if phase.epochs]
    for history in model.histories.values():
        assert history.epoch == list(range(history.params["epochs"]))
        for key, values in history.history.items():
            assert len(values) == len(history.epoch) and np.isfinite(values).all(), key
    last = model.histories[model.recipe()[model.main_phase].name].history
    assert {key for key in last if key.startswith("val_")} == {f"val_{k}" for k in last if not k.startswith("val_")}


def test_validation_and_training_loss_agree_on_the_same_events(name, train_events, eagerly):
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


def test_training_is_bit_by_bit_the_same_from_memory_from_disk_and_from_the_file(name, again, train_events, tmp_path):
    train_events.write(tmp_path / "events.h5")
    events, found = pipelines.open(tmp_path / "events.h5"), []
    for room in ({"memory": 2**30}, {"memory": 0, "cache": tmp_path}, {"memory": 0, "cache": ""}):
        model = again(events, events.sample(300), epochs=1, **room)
        history = model.histories[model.recipe()[model.main_phase].name].history
        assert np.isfinite(history["val_loss"]).all()
        found.append((history, model.score(events)))
    for history, score in found[1:]:
        assert history == found[0][0]
        np.testing.assert_array_equal(score, found[0][1])


def test_no_variable_is_an_int32_that_a_gpu_program_could_not_reach(name, trained):
    model = trained(name)
    assert all(v.dtype != tf.int32 for v in (*model.variables, *run.state_of(model).values()))


def test_a_batch_can_be_scored(name, trained, test_events):
    model = trained(name)
    np.testing.assert_array_equal(model.score(arrays(model, test_events)), model.score(test_events))


def test_score_is_one_finite_number_per_event(name, trained, test_events):
    for kind in trained(name).score_kinds:
        score = trained(name).score(test_events, kind)
        assert score.shape == (len(test_events),) and score.dtype == np.float32 and np.isfinite(score).all()


def test_events_far_from_the_training_sample_score_elsewhere(name, trained, train_events):
    model = trained(name)
    given = arrays(model, train_events)
    shifted = {name: moved(array) for name, array in given.items()}
    for kind in model.score_kinds:
        near, far = model.score(given, kind), model.score(shifted, kind)
        if kind in model.undirected:  # the method does not say where they go, but they go somewhere
            assert ks_2samp(near, far).statistic > 0.1, kind
        else:
            assert np.median(far) > np.quantile(near, 0.95), kind


def moved(array):
    """All values, but for those of empty slots, five standard deviations away."""
    there = (array != 0).any(axis=-1) | (array.ndim == 2)
    return np.where(there[..., None], array + 5.0 * array[there].std(axis=0), 0.0)


def test_reset_starts_over_exactly_and_the_same_seed_gives_the_same_model(name, again, train_events):
    score = again().score(train_events)
    other = again(seed=4).score(train_events)
    assert np.abs(other - score).max() > 1e-3 * score.std()
    np.testing.assert_array_equal(again().score(train_events), score)


def test_two_models_of_one_seed_are_the_same_whatever_was_trained_before(name, train_events, eagerly):
    scores = []
    for seed in (3, 4, 3):
        model = small(name, seed=seed, batch_size=len(train_events))
        model.fit(train_events, epochs=1, verbose=0)
        scores.append(model.score(train_events))
    np.testing.assert_array_equal(scores[0], scores[2])
    assert np.abs(scores[0] - scores[1]).max() > 1e-3 * scores[0].std()


def test_xla_and_plain_training_agree(name, again, train_events):
    model = small(name)
    model.fit(train_events, epochs=1, verbose=0, jit_compile=True)
    np.testing.assert_allclose(again(epochs=1).score(train_events), model.score(train_events), rtol=1e-3)


def test_training_step_is_traced_once_whatever_the_epochs_and_phases(name, one, train_events):
    model, _, traces = one
    step = type(model).train_step
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(model), "train_step", lambda self, batch: traces.append(1) or step(self, batch))
        model.fit(train_events, epochs=5, initial_epoch=2, verbose=0, jit_compile=False)
        model.reset(**{dial: model.hyperparameter(dial) for dial in model.dials})
        model.fit(train_events, epochs=1, verbose=0, jit_compile=False)
    assert len(traces) == len({phase.program for phase in model.recipe()})


def test_config_round_trip(name, trained):
    config = trained(name).get_config()
    assert type(trained(name))(**config).get_config() == config


def test_run_directory_round_trip_keeps_the_scores(name, trained, test_events, train_events, tmp_path):
    model = trained(name)
    with pipelines.outputs.new_directory(tmp_path / "run") as folder:
        run.write(model, folder, run.configuration(model, train_events), [{"phase": "x", "epoch": 0, "loss": 1.0}])
    loaded = zoo.load(tmp_path / "run")
    for kind in model.score_kinds:
        np.testing.assert_array_equal(loaded.score(test_events, kind), model.score(test_events, kind))


def test_training_goes_on_from_a_run_as_if_it_had_not_stopped(name, again, trained, train_events, tmp_path):
    model = again(epochs=1)
    run.save_state(model, tmp_path / "state.h5")
    again(epochs=1, seed=4)  # nothing of it is left but its programs
    model.reset(seed=3)
    run.load_state(model, tmp_path / "state.h5")
    model.fit(train_events, epochs=2, initial_epoch=1, verbose=0, jit_compile=False)
    np.testing.assert_array_equal(model.score(train_events), trained(name).score(train_events))


def test_export_gives_the_same_scores_from_raw_features(name, trained, test_events, tmp_path):
    model = trained(name)
    model.export(tmp_path / "served")
    served = tf.saved_model.load(tmp_path / "served")
    columns = {key: [c.decode() for c in names.numpy()] for key, names in served.signatures["columns"]().items()}
    assert columns["columns"] == list(model.resolved_columns)
    assert columns.get("object_columns", []) == list(model.inputs.object_columns)
    given = {key: tf.constant(array) for key, array in arrays(model, test_events).items()}
    found = served.signatures["serving_default"](**given)
    np.testing.assert_allclose(found["score"], model.score(test_events), rtol=1e-5, atol=1e-7)
    for kind in model.score_kinds:
        np.testing.assert_allclose(found[kind], model.score(test_events, kind), rtol=1e-5, atol=1e-7)


def test_score_looks_at_neither_mass_nor_label(name, trained, test_events):
    model = trained(name)
    altered = made_again(test_events, mass=test_events.mass[::-1], label=3 - test_events.label)
    np.testing.assert_array_equal(model.score(altered), model.score(test_events))
    assert test_events.about.mass_column not in model.resolved_columns


def test_labels_never_train(name, again, trained, train_events):
    blind = made_again(train_events, label=None)
    assert not blind.has_labels and train_events.has_labels
    model = again(blind, blind.sample(300))
    np.testing.assert_array_equal(model.score(blind), trained(name).score(blind))


def test_reading_a_label_while_training_would_be_noticed(name, again, train_events, monkeypatch):
    read = []
    blocks = Events.blocks
    monkeypatch.setattr(Events, "blocks", lambda self, *fields, **o: read.extend(fields) or blocks(self, *fields, **o))
    again(epochs=1)
    assert "features" in read and "label" not in read


def test_columns_are_found_by_name_in_any_order(name, trained, test_events):
    shuffled = made_again(test_events, np.random.default_rng(0))
    assert shuffled.columns != test_events.columns
    np.testing.assert_array_equal(trained(name).score(shuffled), trained(name).score(test_events))


def test_missing_column_is_named(name, train_events, test_events):
    gone = small(name).hp.columns[0]
    kept = [i for i, column in enumerate(train_events.columns) if column != gone]
    columns = [train_events.columns[i] for i in kept]
    fewer = made_again(train_events, features=train_events.read("features")[:, kept], columns=columns)
    with pytest.raises(pipelines.InputError, match=f"no column '{gone}'"):
        small(name).fit(fewer, verbose=0)


def test_bad_arrays_are_refused_with_their_reason(name, trained, train_events):
    model = trained(name)
    good = {key: np.ones((7, *shape), np.float32) for key, shape in model.inputs.shapes.items()}
    for key, (*lengths, width) in model.inputs.shapes.items():
        before = "".join(f"{n}, " for n in (7, *lengths))
        text = rf"{key} have shape \({before}{width + 1}\), expected \(N, {before[3:]}{width}\)"
        with pytest.raises(pipelines.InputError, match=text):
            model.score({**good, key: np.zeros((7, *lengths, width + 1))})
        with pytest.raises(pipelines.InputError, match="NaN or infinite values"):
            model.score({**good, key: np.full((7, *lengths, width), np.nan)})
        with pytest.raises(pipelines.InputError, match=f"no array '{key}'"):
            model.score({other: array for other, array in good.items() if other != key})
    with pytest.raises(pipelines.InputError, match="no events"):
        model.score({key: array[:0] for key, array in good.items()})
    with pytest.raises(pipelines.InputError, match="score kind 'nonsense'"):
        model.score(good, "nonsense")
    with pytest.raises(pipelines.InputError, match="fewer than one batch"):
        small(name).fit(train_events.take(np.arange(7)), verbose=0)


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


def test_every_preset_and_default_can_be_built(name, eagerly):
    about = zoo.describe(name)
    assert about["summary"] and about["score_kinds"]
    for preset in (None, *about["presets"]):
        model = zoo.get(name, preset)
        if takes_objects(name):
            model.build_for(model.hp.columns, PARTICLE, sum(SLOTS))
        else:
            model.build_for([f"x{i}" for i in range(5)])
        zeros = {key: np.zeros((3, *shape)) for key, shape in model.inputs.shapes.items()}
        assert model.score(zeros).shape == (3,)
