"""Autoregressive splines: log-determinants against autodiff, the formula written out, inverses, members, XLA."""

import numpy as np
import pytest
import tensorflow as tf

import zoo
from pipelines.errors import InputError
from zoo.layers.flows import AutoregressiveSpline, SplineFlows
from zoo.layers.flows.bijectors import BOUND, MARGIN

SIZES = [({"bins": 2, "width": 4}, 1), ({"bins": 4, "width": 9}, 3), ({"bins": 8, "width": 12}, 4)]


def normal(*shape, seed=0, scale=1.0):
    return tf.constant(np.random.default_rng(seed).normal(scale=scale, size=shape))


def trained(options, dim, scale=0.8, seed=0, num_flows=2, **more):
    """A layer with random weights, far from the identity."""
    layer = SplineFlows(num_flows, dim, **options, **{"dtype": "float64", **more})
    layer.build((None, 1))
    for i, weight in enumerate(layer.weights):
        fan_in = weight.shape[-2] if "kernel" in weight.name else 1
        weight.assign(normal(*weight.shape, seed=(seed, i), scale=scale / fan_in**0.5))
    return layer


@pytest.mark.parametrize(("options", "dim"), SIZES)
def test_log_determinant_is_that_of_autodiff_and_the_inverse_is_exact(options, dim):
    layer, h, z = trained(options, dim), normal(40, 1, seed=1), normal(40, dim, seed=2, scale=3)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        outputs = tf.unstack(layer(h, z)[0], axis=-1)
    jacobian = np.stack([tape.gradient(output, z) for output in outputs], -2)
    sign, expected = np.linalg.slogdet(jacobian)
    found, log_det = layer(h, z)
    np.testing.assert_array_equal(sign, 1)
    np.testing.assert_allclose(log_det, expected, rtol=1e-7, atol=1e-7)
    assert np.abs(expected).max() > 0.5, "too near the identity to tell anything"
    chain = layer.bijector(h)  # a new one: TFP's would remember z
    np.testing.assert_allclose(chain.inverse(found), z, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(chain.inverse_log_det_jacobian(found), -log_det.numpy(), rtol=1e-6, atol=1e-6)


def test_it_is_the_formula_of_durkan_written_out():
    bins, out = 3, normal(1, 10, seed=3)[0]
    flow = AutoregressiveSpline(
        [tf.zeros((1, 2), tf.float64), tf.zeros((2, 10), tf.float64)], [tf.zeros(2, tf.float64), out]
    )
    mu, sigma, *rest = out.numpy()
    sigma, slopes = (
        MARGIN + (1 - MARGIN) * np.log1p(np.exp(x) * (np.e - 1)) for x in (sigma, np.array(rest[2 * bins :]))
    )
    knots = []
    for each in (rest[:bins], rest[bins : 2 * bins]):
        share = np.exp(each) / np.sum(np.exp(each))
        knots.append(-BOUND + np.cumsum([0, *(MARGIN + (2 * BOUND - bins * MARGIN) * share)]))
    (x_at, y_at), d = knots, [1, *slopes, 1]
    z = np.linspace(-9, 9, 37)[:, None]
    expected = []
    for x in (mu + sigma * z)[:, 0]:
        if not -BOUND < x < BOUND:
            expected.append(x)
            continue
        k = np.searchsorted(x_at, x) - 1
        width, height = x_at[k + 1] - x_at[k], y_at[k + 1] - y_at[k]
        xi, s = (x - x_at[k]) / width, height / width
        below = s + (d[k + 1] + d[k] - 2 * s) * xi * (1 - xi)
        expected.append(y_at[k] + height * (s * xi**2 + d[k] * xi * (1 - xi)) / below)  # eq. 4 of arXiv:1906.04032
    np.testing.assert_allclose(flow.forward(tf.constant(z))[:, 0], expected, rtol=1e-9)


def test_member_of_a_group_is_what_it_would_be_alone_and_starts_near_the_identity():
    h, z = tf.ones((20, 1)), tf.cast(normal(20, 4, scale=2), tf.float32)
    group = SplineFlows(3, 4, width=16, members=2, seed=5)
    found, log_det = group(tf.stack([h, h]), tf.stack([z, z]))
    for member in range(2):
        alone, alone_det = SplineFlows(3, 4, width=16, seed=5 + member)(h, z)
        np.testing.assert_allclose(found[member], alone, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(log_det[member], alone_det, rtol=1e-4, atol=1e-5)
        assert 0 < np.abs(alone - z).max() < 1.0


def test_compiled_by_xla_it_is_what_it_is_eagerly_with_its_gradients():
    layer, h, z = trained({"bins": 3, "width": 4}, 2, num_flows=1), normal(8, 1, seed=1), normal(8, 2, seed=2, scale=3)

    def loss(z):
        found, log_det = layer(h, z)
        return tf.reduce_mean(found**2) - tf.reduce_mean(log_det)

    def gradients(z):
        with tf.GradientTape() as tape:
            value = loss(z)
        return [value, *tape.gradient(value, layer.trainable_weights)]

    for fast, slow in zip(tf.function(gradients, jit_compile=True)(z), gradients(z)):
        np.testing.assert_allclose(fast, slow, rtol=1e-7, atol=1e-9)


def test_layer_is_made_again_from_its_config_and_refuses_a_spline_of_one_bin():
    layer = SplineFlows(2, 3, width=9, bins=5)
    assert SplineFlows.from_config(layer.get_config()).get_config() == layer.get_config()
    with pytest.raises(InputError, match=r"bins=1 .*>= 2"):
        SplineFlows(2, 3, bins=1)


def test_density_of_the_side_bands_is_the_flow_that_is_chosen():
    def flow(**given):
        return zoo.get("cathode", window=(3300, 3700), **given).new_flow(3)

    assert [flow().kind, flow(flow="affine").kind, flow(flow="spline", bins=5).kind] == ["iaf", "iaf", "spline"]
    assert flow(flow="spline", bins=5).bins == 5
    with pytest.raises(InputError, match=r"flow='planar'.*affine.*spline"):
        zoo.get("cathode", window=(3300, 3700), flow="planar")
