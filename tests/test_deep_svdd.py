"""Deep SVDD: the distance and the loss against plain NumPy, the centre, and what follows from having no biases."""

import numpy as np
import pytest
import tensorflow as tf

import pipelines
import tuning
import zoo

SMALL = {"columns": ("mass_*", "tau21_*", "pt_1"), "units": (12, 6), "latent_dim": 3, "batch_size": 256, "seed": 5}


@pytest.fixture(scope="module")
def trained():
    events = pipelines.open("lhco_sim_train").select(mass_range=(2700, 5000)).sample(1500, seed=1)
    model = zoo.get("deep_svdd", **SMALL, weight_decay=0.01, learning_rate=0.01, epochs=3, members=2)
    model.fit(events, verbose=0, jit_compile=False)
    return model, events


def network(kernels, x):
    """phi by NumPy: products and max(h, 0.1 h), also after the last layer."""
    for kernel in kernels:
        x = np.maximum(x @ kernel, 0.1 * (x @ kernel)) if kernel is not kernels[-1] else x @ kernel
    return x


def scaled(model, events):
    x = events.read("features", model.resolved_columns).astype(np.float64)
    return x, model.scaler(tf.constant(x, tf.float32)).numpy().astype(np.float64)


def test_score_is_the_squared_distance_from_the_centre(trained):
    model, events = trained
    _, x = scaled(model, events)
    for member, score in enumerate(model.score(events, per_member=True)):
        phi = network([kernel[member].numpy() for kernel in model.network.kernels], x)
        expected = np.sum((phi - model.center[member].numpy()) ** 2, axis=1)
        np.testing.assert_allclose(score, expected, rtol=1e-4, atol=1e-7)


def test_loss_is_equation_4(trained):
    model, events = trained
    _, x = scaled(model, events)
    weight = np.random.default_rng(0).exponential(size=len(x))
    batch = {"features": tf.constant(x, tf.float32), "weight": tf.constant(weight, tf.float32)}
    found = model.losses(batch, None, True)
    for member in range(2):
        kernels = [kernel[member].numpy() for kernel in model.network.kernels]
        distance = np.sum((network(kernels, x) - model.center[member].numpy()) ** 2, axis=1)
        expected = np.mean(weight * distance)
        np.testing.assert_allclose(found["distance"][member], expected, rtol=1e-4)
        decay = sum((kernel**2).sum() for kernel in kernels)
        np.testing.assert_allclose(found["loss"][member], expected + 0.01 / 2 * decay, rtol=1e-4)


def test_centre_is_the_mean_of_the_untrained_network_and_never_near_zero(trained):
    model, events = trained
    fresh = zoo.get("deep_svdd", **SMALL)
    fresh.adapt(events)
    _, x = scaled(fresh, events)
    mean = network([kernel.numpy() for kernel in fresh.network.kernels], x).mean(axis=0)
    expected = np.where(np.abs(mean) < 0.1, np.copysign(0.1, mean), mean)
    np.testing.assert_allclose(model.center[0], expected, rtol=1e-4)  # of seed 5, as the first member is
    assert np.abs(model.center).min() >= 0.1


def test_training_brings_ordinary_events_nearer(trained):
    model, _ = trained
    distance = model.histories["training"].history["distance"]
    assert distance[-1] < 0.5 * distance[0]


def test_network_has_no_bias_so_that_zero_stays_zero(trained):
    model, _ = trained
    assert not model.network.biases
    np.testing.assert_array_equal(model.network(tf.zeros((1, len(model.resolved_columns)))), np.zeros((2, 1, 3)))


def test_default_objective_is_refused_before_the_first_trial_with_one_that_works(train_events, tmp_path):
    with pytest.raises(pipelines.InputError, match=r"deep_svdd does not reconstruct events.*objective='sculpting'"):
        tuning.search("deep_svdd", train_events, trials=2, out=tmp_path / "search")
    assert not (tmp_path / "search").exists()


def test_a_pattern_of_columns_never_means_the_mass(trained):
    _, events = trained
    model = zoo.get("deep_svdd", **{**SMALL, "columns": ("*",)})
    model.adapt(events)
    assert events.about.mass_column == "mj1j2" and "mj1j2" in events.columns
    assert set(model.resolved_columns) == set(events.columns) - {"mj1j2"}
