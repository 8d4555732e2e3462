"""AE does what its report says, and what Keras would do."""

from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf

import zoo
from pipelines import Events, InputError
from pipelines.datasets.atlas import FEATURES
from zoo.keras import keras
from zoo.models.ae import COLUMNS

BATCH = 64
SMALL = {"encoder_units": (12, 8, 4), "batch_size": BATCH, "epochs": 3, "seed": 1}
FOUR = ("tanh", "leaky_relu", "linear", "relu", "leaky_relu", "linear")


@pytest.fixture(scope="module")
def events():
    """512 events with the 33 features: 5 hidden numbers, seen through a matrix, and noise."""
    rng = np.random.default_rng(5)
    features = rng.normal(size=(512, 5)) @ rng.normal(size=(5, 33)) + 0.3 * rng.normal(size=(512, 33))
    features = (30 + 10 * features).astype("float32")
    return Events.from_arrays(features, features[:, FEATURES["33"].index("mll")], FEATURES["33"], mass_column="mll")


def reweighted(events, weight):
    features = events.read("features")
    return Events.from_arrays(features, events.mass, events.columns, mass_column="mll", weight=weight)


def adapted(events, **more):
    model = zoo.get("ae", **SMALL | more)
    model.adapt(events)
    rng = np.random.default_rng(2)
    for bias in model.autoencoder.biases:
        bias.assign(rng.normal(size=bias.shape))
    return model


def a_batch(weights=None):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(BATCH, len(COLUMNS))).astype("float32")
    weights = rng.normal(0.8, 1.0, BATCH) if weights is None else weights
    return {"features": tf.constant(x), "weight": tf.constant(weights, tf.float32), "mass": tf.ones(BATCH)}


def in_keras(model):
    """The same network of Keras' own layers and regularisers, with the same weights."""
    hp, network = model.hyperparameter, model.autoencoder
    regulariser = {"l1": keras.regularizers.L1, "l2": keras.regularizers.L2}[hp("kernel_norm")]
    stack = keras.Sequential([keras.layers.InputLayer(network.kernels[0].shape[0])])
    for layer, (units, activation) in enumerate(zip((bias.shape[0] for bias in network.biases), model.activations)):
        penalties = {
            "kernel_regularizer": regulariser(hp("kernel_regularisation")),
            "activity_regularizer": keras.regularizers.L2(hp("activity_regularisation")),
        }
        dense = keras.layers.Dense(
            units,
            keras.layers.LeakyReLU(hp("negative_slope")) if activation == "leaky_relu" else activation,
            **(penalties if layer in model.penalised else {}),
        )
        stack.add(dense)
        dense.set_weights([network.kernels[layer].numpy(), network.biases[layer].numpy()])
    return stack


def gradient(model, batch, term="loss"):
    with tf.GradientTape() as tape:
        loss = model.losses(batch, model.seeds, True)[term]
    network = model.autoencoder
    return loss, tape.gradient(loss, [*network.kernels, *network.biases])


# -- the report --------------------------------------------------------------------------------------


def test_presets_are_the_networks_of_figures_7_13_17_and_21():
    figures = {
        "big33": (32, 15, 10, 2, 10, 16, 27, 32),
        "small33": (32, 24, 32),
        "big13": (13, 7, 6, 2, 6, 8, 11, 13),
        "standard33": (32, 19, 12, 1, 14, 17, 24, 32),
    }
    for preset, widths in figures.items():
        model = zoo.get("ae", preset)
        model.build_for(model.hp.columns)
        assert tuple(k.shape[0] for k in model.autoencoder.kernels) == widths[:-1]
        assert tuple(k.shape[1] for k in model.autoencoder.kernels) == widths[1:]
        assert len(model.autoencoder.layers) == len(widths) - 1


def test_presets_have_the_hyperparameters_that_the_report_lists():
    names = ("kernel_regularisation", "activity_regularisation", "negative_slope", "learning_rate", "scaling")
    listed = {
        "big33": (0.05, 0.5, 1.0, 0.0015, "minmax"),
        "big13": (0.5, 0.5, 0.1, 0.0015, "minmax"),
        "standard33": (0.01, 0.01, 0.01, 0.0015, "standard"),
    }
    for preset, values in listed.items():
        config = zoo.get("ae", preset).get_config()
        assert tuple(config[name] for name in names) == values
        assert config["batch_size"] == 8192
    small = zoo.get("ae", "small33").get_config()
    assert (small["kernel_regularisation"], small["activity_regularisation"]) == (0.05, 0.01)
    assert (small["learning_rate"], small["epochs"], small["scaling"]) == (0.9, 6, "minmax")
    assert [zoo.get("ae", p).epochs for p in ("big13", "standard33")] == [5, 15]
    assert "mll" not in COLUMNS and len(COLUMNS) == 32 and zoo.get("ae", "big13").hp.columns == FEATURES["13"]


def test_alternate_penalises_the_layers_that_the_release_does():
    for preset, layers in {"big33": {1, 3, 5}, "small33": {0, 1}, "big13": {1, 3, 5}, "standard33": {1, 3, 5}}.items():
        model = zoo.get("ae", preset)
        model.build_for(model.hp.columns)
        assert set(model.penalised) == layers
    searched = zoo.get("ae", encoder_units=(24, 16, 12, 6), regularised="alternate")
    searched.build_for(COLUMNS)
    assert set(searched.penalised) == {0, 2, 4, 6}


def test_decoder_mirrors_the_encoder_unless_it_is_given():
    assert zoo.get("ae", encoder_units=(20, 9, 3)).hp.hidden_units == (20, 9, 3, 9, 20)
    assert zoo.get("ae", encoder_units=(3,)).hp.hidden_units == (3,)
    assert zoo.get("ae", encoder_units=(20, 9, 3), decoder_units=(5,)).hp.hidden_units == (20, 9, 3, 5)


def test_activations_are_leaky_relu_and_linear_in_latent_space_and_output():
    model = zoo.get("ae", encoder_units=(20, 9, 3))
    model.build_for(COLUMNS)
    leaky = ("leaky_relu", "leaky_relu")
    assert model.activations == (*leaky, "linear", *leaky, "linear")


@pytest.mark.parametrize(
    "wrong",
    [
        {"encoder_units": ()},
        {"encoder_units": (8, 8, 4)},
        {"encoder_units": (8, 12, 4)},
        {"encoder_units": (8, 0)},
        {"encoder_units": (8, 2.5)},
        {"encoder_units": (7, 6, 5, 4, 3)},
        {"encoder_units": (8, 2), "decoder_units": (3, 4, 5, 6)},
        {"encoder_units": (8, 4), "decoder_units": (4,)},
        {"encoder_units": (8, 4), "decoder_units": (9, 7)},
        {"encoder_units": (8, 4), "decoder_units": (6, "wide")},
        {"activations": ("tanh",)},
        {"activations": ("tanh",) * 9},
        {"encoder_units": (4,), "activations": ("tanh", "selu")},
        {"negative_slope": 1.1},
        {"negative_slope": -0.1},
        {"kernel_regularisation": -1.0},
        {"activity_regularisation": float("nan")},
        {"kernel_norm": "l3"},
        {"regularised": "some"},
        {"learning_rate": 0.0},
        {"epochs": 0},
        {"scaling": "robust"},
        {"columns": ()},
    ],
)
def test_wrong_hyperparameter_is_named_with_what_was_expected(wrong):
    name = list(wrong)[-1]
    with pytest.raises(InputError, match=f"{name}=.* is not possible.*; expected"):
        zoo.get("ae", **wrong)


def test_one_width_stands_for_a_list_of_one():
    assert (
        zoo.get("ae", encoder_units=24).hp.encoder_units
        == type(zoo.get("ae"))(encoder_units=24).hp.encoder_units
        == (24,)
    )


@pytest.mark.parametrize(
    ("name", "units"),
    [("encoder_units", (5,)), ("encoder_units", (100, 3)), ("encoder_units", (5, 3)), ("decoder_units", (4, 5))],
)
def test_a_layer_as_wide_as_the_features_is_refused(name, units, events):
    columns = ("lep1_pt", "lep1_eta", "lep1_phi", "lep2_eta", "met_et")
    with pytest.raises(InputError, match=rf"{name}=\({units[0]},.* with 5 features: .* has {max(units)}, .* at most 4"):
        zoo.get("ae", columns=columns, **{"encoder_units": (3,), name: units}).adapt(events)


# -- the loss ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel_norm", ["l1", "l2"])
@pytest.mark.parametrize("regularised", ["all", "alternate"])
@pytest.mark.parametrize("activations", [(), FOUR])
def test_loss_and_its_gradient_are_those_of_keras(events, kernel_norm, regularised, activations):
    penalties = {"kernel_regularisation": 0.03, "activity_regularisation": 0.2, "negative_slope": 0.1}
    options = {"kernel_norm": kernel_norm, "regularised": regularised, "activations": activations}
    model, batch = adapted(events, **penalties, **options), a_batch()
    stack = in_keras(model)
    x, weight = batch["features"], batch["weight"]
    with tf.GradientTape() as tape:
        mse = keras.losses.MeanSquaredError()(x, stack(x, training=True), sample_weight=weight)
        expected = mse + tf.add_n(stack.losses)
    assert len(stack.losses) == 2 * len(model.penalised) and float(expected) > 2 * abs(float(mse))
    loss, found = gradient(model, batch)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    weights = [layer.kernel for layer in stack.layers] + [layer.bias for layer in stack.layers]
    for ours, theirs in zip(found, tape.gradient(expected, weights), strict=True):
        assert np.abs(theirs).max() > 0
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_history_has_every_term_and_they_add_up_to_the_loss(events):
    model = zoo.get("ae", **SMALL | {"epochs": 2}, kernel_regularisation=0.01, activity_regularisation=0.01)
    history = model.fit(events, events, verbose=0, jit_compile=False).history
    terms = ("reconstruction", "kernel_penalty", "activity_penalty")
    for prefix in ("", "val_"):
        assert all(min(history[prefix + term]) > 0 for term in terms)
        total = np.sum([history[prefix + term] for term in terms], axis=0)
        np.testing.assert_allclose(total, history[f"{prefix}loss"], rtol=1e-5)


def test_score_is_the_mean_squared_error_over_scaled_features(events):
    model = adapted(events, activations=FOUR, negative_slope=0.1)
    features = events.read("features", model.resolved_columns)
    x = (features - features.mean(0)) / features.std(0)
    np.testing.assert_allclose(model.score(events), ((x - in_keras(model)(x)) ** 2).numpy().mean(1), rtol=1e-3)
    found = model.results(events, ["reconstructed", "latent"])
    assert found["latent"].shape == (512, 4)
    residual = (features - found["reconstructed"]) / features.std(0)
    np.testing.assert_allclose((residual**2).mean(1), model.score(events), rtol=1e-3)


# -- event weights -----------------------------------------------------------------------------------


def test_weights_have_mean_one_in_training_whatever_their_unit(events):
    weight = np.random.default_rng(0).normal(1.0, 0.5, 512).astype("float32")
    assert (weight < 0).any()
    model = zoo.get("ae", **SMALL | {"batch_size": 512})
    model.adapt(events)
    for scale in (1.0, 1e-6):
        scaled = reweighted(events, np.float32(scale) * weight)
        (batch,) = model.batches(scaled, model.weighting(scaled)).ordered()
        np.testing.assert_allclose(batch["weight"], weight / weight.mean(), rtol=1e-4)


def test_weights_do_enter_training(events):
    scores = []
    for weight in (np.ones(512), np.linspace(0.01, 2, 512)):
        model = zoo.get("ae", **SMALL | {"epochs": 1})
        model.fit(reweighted(events, weight.astype("float32")), verbose=0, jit_compile=False)
        scores.append(model.score(events))
    assert np.abs(scores[1] - scores[0]).max() > 1e-3 * scores[0].std()


def test_event_of_negative_weight_cancels_one_of_positive_weight(events):
    model, batch = adapted(events), a_batch(np.ones(BATCH))
    half, x = BATCH // 2, batch["features"].numpy()
    copies = np.concatenate([x[:half], x[half : half + half // 2], x[half : half + half // 2]])
    weight = np.concatenate([np.ones(half), np.full(half // 2, 2.0), np.full(half // 2, -2.0)])
    cancelled = gradient(model, batch | {"features": copies, "weight": tf.constant(weight, tf.float32)})
    alone = gradient(model, batch | {"weight": tf.constant(np.arange(BATCH) < half, tf.float32)})
    np.testing.assert_allclose(cancelled[0], alone[0], rtol=1e-4)
    for with_pairs, without in zip(cancelled[1], alone[1], strict=True):
        np.testing.assert_allclose(with_pairs, without, rtol=1e-3, atol=1e-5)


def test_weights_are_for_the_reconstruction_alone(events):
    model, batch = adapted(events, kernel_regularisation=0.1, activity_regularisation=0.1), a_batch(np.ones(BATCH))
    once, twice = (model.losses(one, model.seeds, True) for one in (batch, batch | {"weight": 2 * batch["weight"]}))
    np.testing.assert_allclose(twice["reconstruction"], 2 * once["reconstruction"], rtol=1e-6)
    assert all(float(twice[f"{name}_penalty"]) == float(once[f"{name}_penalty"]) > 0 for name in ("kernel", "activity"))


def test_weights_that_add_up_to_nothing_are_refused(events):
    with pytest.raises(InputError, match="weights of its events add up to -512, expected more than 0"):
        zoo.get("ae", **SMALL).fit(reweighted(events, np.full(512, -1, "float32")), verbose=0)


# -- training ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(events):
    model = zoo.get("ae", **SMALL | {"encoder_units": (20, 5), "epochs": 60}, learning_rate=0.01)
    model.fit(events, verbose=0, jit_compile=False)
    return model


def spread(model, events):
    """Mean over features of the reconstruction's standard deviation, in units of the feature's."""
    features = events.read("features", COLUMNS)
    return (model.results(events, ["reconstructed"])["reconstructed"] / features.std(0)).std(0).mean()


def test_training_learns_to_reconstruct_what_five_numbers_make(trained, events):
    loss = trained.histories["training"].history["loss"]
    assert loss[0] > 0.5 and loss[-1] < 0.1 and spread(trained, events) > 0.9


def test_events_that_break_the_learned_relations_score_higher(trained, events):
    features, rng = events.read("features", COLUMNS), np.random.default_rng(0)
    broken = np.stack([rng.permutation(column) for column in features.T], axis=1)  # the same spectra, each alone
    assert np.median(trained.score(broken)) > np.quantile(trained.score(features), 0.99)


def test_penalties_as_large_as_the_report_has_leave_a_constant_reconstruction(events):
    penalties = {"kernel_regularisation": 0.5, "activity_regularisation": 0.5, "kernel_norm": "l1"}
    model = zoo.get("ae", **SMALL | {"epochs": 30}, learning_rate=0.02, **penalties)
    model.fit(events, verbose=0, jit_compile=False)
    assert spread(model, events) < 0.05


def test_dials_act_and_trace_nothing_anew(events, monkeypatch):
    model, traces = zoo.get("ae", **SMALL | {"epochs": 1}), []
    step = type(model).train_step
    monkeypatch.setattr(type(model), "train_step", lambda self, batch: traces.append(1) or step(self, batch))

    def trained(**dials):
        model.reset(**before | dials)
        model.fit(events, verbose=0, jit_compile=False)
        return model.score(events)

    dials = {"negative_slope": 0.9, "kernel_regularisation": 0.5, "activity_regularisation": 0.5, "learning_rate": 0.09}
    before = {name: getattr(model.hp, name) for name in dials}
    assert set(dials) == set(model.runtime_hyperparameters)
    model.fit(events, verbose=0, jit_compile=False)
    once, first = len(traces), model.score(events)
    for name, value in dials.items():
        assert np.abs(trained(**{name: value}) - first).max() > 1e-3 * first.std()
    np.testing.assert_array_equal(trained(), first)
    together = trained(**dials)
    assert len(traces) == once
    fresh = zoo.get("ae", **SMALL | {"epochs": 1} | dials)
    fresh.fit(events, verbose=0, jit_compile=False)
    np.testing.assert_allclose(together, fresh.score(events), rtol=1e-4)


# -- the search --------------------------------------------------------------------------------------


def test_search_space_is_the_reports():
    from tuning.kerastuner import keras_tuner

    hp = keras_tuner.HyperParameters()
    zoo.models.ae.AE.search_space(hp)
    space = {one.name: one for one in hp.space}
    assert sorted(space["learning_rate"].values) == [1e-3, 1.5e-3, 9e-2, 9.5e-2]
    for name in ("kernel_regularisation", "activity_regularisation"):
        assert sorted(space[name].values) == [0.01, 0.05, 0.1, 0.5]
    activations = [one for name, one in space.items() if name.endswith("activation")]
    assert len(activations) == 8 and all(
        set(one.values) == {"relu", "leaky_relu", "tanh", "linear"} for one in activations
    )
    assert (space["layers"].min_value, space["layers"].max_value) == (1, 4)
    # unlike for the rest, what is below was published with the report's code, not in its text
    widths = {"latent": (1, 9), "encoder_1": (10, 14), "encoder_2": (15, 19), "encoder_3": (20, 31)}
    widths |= {f"decoder_{n}": widths[f"encoder_{n}"] for n in (1, 2, 3)} | {"latent_alone": (1, 31)}
    assert {name: (space[name].min_value, space[name].max_value) for name in widths} == widths


def test_two_hundred_draws_are_all_auto_encoders_of_one_to_four_layers():
    from tuning.kerastuner import keras_tuner

    model, hp, seen = zoo.models.ae.AE, keras_tuner.HyperParameters(), set()
    model.search_space(hp)
    for seed in range(200):
        drawn = hp.copy()
        drawn.values, place = {}, 0
        for place, one in enumerate(hp.space):  # as KerasTuner's oracles do: only what is active gets a value
            if drawn.is_active(one):
                drawn.values[one.name] = one.random_sample(100 * seed + place)
        given = model.search_space(drawn)
        config = zoo.get("ae", **given).get_config()
        layers = drawn.values["layers"]
        assert len(config["encoder_units"]) == layers == len(config["decoder_units"]) + 1
        assert len(config["activations"]) == 2 * layers
        assert all(a > b for a, b in pairwise((32, *config["encoder_units"])))
        assert all(a < b for a, b in pairwise((config["encoder_units"][-1], *config["decoder_units"], 32)))
        assert set(drawn.values) <= {one.name for one in hp.space if drawn.is_active(one)}
        seen.add(layers)
    assert seen == {1, 2, 3, 4}
