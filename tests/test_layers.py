"""Dropout by hashing and seeded initial weights."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from zoo import layers
from zoo.layers import dropout, glorot_uniform


def mask(seed=1, use=0, rate=0.5, shape=(2048, 300)):
    return dropout(tf.ones(shape), rate, tf.constant(seed), use).numpy() > 0


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.2, 0.5, 0.9])
def test_share_of_zeros_is_the_rate_and_the_mean_is_kept(rate):
    y = dropout(tf.ones((2048, 300)), rate, tf.constant(7), 3).numpy()
    events = y.size
    assert abs((y == 0).mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / events) + 1e-9
    np.testing.assert_allclose(y[y > 0], 1 / (1 - rate), rtol=1e-6)


@pytest.mark.parametrize("other", [{"seed": 2}, {"use": 1}, {"use": 8}, {"seed": 2**31 - 1}])
def test_masks_of_other_steps_and_other_layers_are_independent(other):
    a, b = mask(), mask(**other)
    correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
    assert abs(correlation) < 5 / np.sqrt(a.size)


def test_elements_of_one_mask_are_independent():
    m = mask().astype(float) - 0.5
    for lag in (1, 2, 7, 16, 300, 301, 2048):
        flat = m.ravel()
        assert abs(np.mean(flat[lag:] * flat[:-lag])) < 5 * 0.25 / np.sqrt(flat.size), lag
    for axis in (0, 1):
        shares = m.mean(axis=axis)
        assert abs(shares.std() * np.sqrt(m.shape[axis]) / 0.5 - 1) < 0.15


def test_joint_frequencies_of_neighbouring_bits_are_flat():
    m = mask().ravel().astype(int)
    words = m[0::4] * 8 + m[1::4] * 4 + m[2::4] * 2 + m[3::4]
    counts = np.bincount(words, minlength=16)
    expected = len(words) / 16
    assert ((counts - expected) ** 2 / expected).sum() < 45  # 99.99 % of chi2 with 15 degrees of freedom


def test_mask_is_reproducible_with_and_without_xla():
    compiled = tf.function(lambda s: dropout(tf.ones((64, 32)), 0.3, s, 5), jit_compile=True)
    np.testing.assert_array_equal(compiled(tf.constant(9)), dropout(tf.ones((64, 32)), 0.3, tf.constant(9), 5))


def test_gradient_passes_where_the_mask_is_open():
    x = tf.ones((50, 20))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = dropout(x, 0.25, tf.constant(3), 0)
    np.testing.assert_array_equal(tape.gradient(y, x), y)


def test_initial_weights_depend_on_the_seed_only_and_have_glorot_width():
    kernel = glorot_uniform((300, 200), (5, 0)).numpy()
    np.testing.assert_array_equal(kernel, glorot_uniform((300, 200), (5, 0)))
    assert np.abs(kernel - glorot_uniform((300, 200), (5, 1))).max() > 0.1 * kernel.std()
    assert abs(kernel.std() / np.sqrt(2 / 500) - 1) < 0.02 and np.abs(kernel).max() <= np.sqrt(6 / 500)


@pytest.mark.parametrize("lead", [(), (3,)])
@pytest.mark.parametrize("widths", [(1, 64), (6, 64), (64, 2), (64, 64), (9, 5), (8, 8)])
def test_product_is_the_matrix_product_with_its_gradients(widths, lead):
    rng = np.random.default_rng(0)
    columns, units = widths
    shared = tf.constant(rng.normal(size=(50, columns)), tf.float64)
    own = tf.constant(rng.normal(size=(*lead, 50, columns)), tf.float64)
    kernel = tf.constant(rng.normal(size=(*lead, columns, units)), tf.float64)
    factor = tf.constant(rng.normal(size=(*lead, 50, units)), tf.float64)
    for x in (shared, own):
        found = []
        for times in (layers.product, tf.matmul):
            with tf.GradientTape() as tape:
                tape.watch([x, kernel])
                y = times(x, kernel)
                total = tf.reduce_sum(factor * y)
            found.append([y, *tape.gradient(total, [x, kernel])])
        for one, other in zip(*found):
            assert one.shape == other.shape
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_selu_is_tensorflows():
    x = tf.linspace(-20.0, 20.0, 4001)
    np.testing.assert_allclose(layers.selu(x), tf.nn.selu(x), rtol=1e-5, atol=3e-7)


def test_the_slope_of_selu_is_that_of_tensorflows():
    x, slopes = tf.linspace(-20.0, 20.0, 4000), []
    for function in (layers.selu, tf.nn.selu):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(x * function(x))
        slopes.append(tape.gradient(total, x))
    np.testing.assert_allclose(*slopes, rtol=1e-5, atol=1e-5)


def test_normal_numbers_are_standard_normal_and_independent():
    z = layers.normal((400_000,), tf.constant(5), use=0).numpy().astype(np.float64)
    assert scipy.stats.kstest(z, "norm").pvalue > 1e-3
    assert abs((z**4).mean() - 3) < 6 * np.sqrt(96 / len(z))
    other_use, other_seed = (layers.normal((400_000,), tf.constant(s), use=u).numpy() for s, u in ((5, 1), (6, 0)))
    for other in (other_use, other_seed, np.roll(z, 1)):
        assert abs(np.corrcoef(z, other)[0, 1]) < 5 / np.sqrt(len(z))
        assert abs(np.corrcoef(z**2, other**2)[0, 1]) < 5 / np.sqrt(len(z))


@pytest.mark.parametrize("lead", [(), (3,)])
def test_plus_adds_each_members_own_bias(lead):
    x, bias = np.random.default_rng(0).normal(size=(*lead, 5, 4)), np.random.default_rng(1).normal(size=(*lead, 4))
    found = layers.plus(tf.constant(x), tf.constant(bias))
    np.testing.assert_array_equal(found, x + (bias[:, None] if lead else bias))
