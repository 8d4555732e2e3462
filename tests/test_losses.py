"""DisCo and its parts, against the definition, an independent package and finite differences."""

import math
import re

import numpy as np
import pytest
import tensorflow as tf
from scipy.spatial.distance import cdist

from zoo.losses import (
    chamfer,
    distance_correlation,
    distance_covariance,
    distance_variance,
    preceding_distance,
    prefix_sum,
    rms_distance,
)


@pytest.fixture(scope="module")
def dcor():
    """The independent package. Imported by the one process that needs it: when several import it at once for the first
    time, they write its compiled functions over each other and crash.
    """
    import dcor

    return dcor


def dependent_samples(size, seed=0):
    rng = np.random.default_rng(seed)
    mass = 2700 + rng.exponential(400, size)
    return mass, np.abs(rng.normal(size=size)) + 2e-4 * (mass - 3000) ** 2 / 400


def by_definition(a, b):
    """dCov^2, dVar^2(a), dVar^2(b) from doubly centred B x B matrices in float64."""

    def centred(x):
        d = np.abs(np.subtract.outer(x, x))
        return d - d.mean(0) - d.mean(1)[:, None] + d.mean()

    big_a, big_b = centred(a), centred(b)
    return (big_a * big_b).mean(), (big_a**2).mean(), (big_b**2).mean()


@pytest.mark.parametrize("size", [2, 3, 4, 7, 16, 17, 100, 1000, 2048])
def test_disco_is_its_definition(size):
    a, b = dependent_samples(size)
    cov, var_a, var_b = by_definition(a, b)
    found = distance_correlation(tf.constant(a, tf.float32), tf.constant(b, tf.float32))
    np.testing.assert_allclose(found, cov / np.sqrt(var_a * var_b), rtol=2e-4, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1000, 16_384])
def test_disco_agrees_with_an_independent_package(size, dcor):
    a, b = dependent_samples(size)
    found = distance_correlation(tf.constant(a, tf.float32), tf.constant(b, tf.float32))
    expected = dcor.distance_correlation_sqr(a, b, method="mergesort")
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("size", [5, 64, 501])
def test_disco_gradient_is_that_of_finite_differences_in_both_arguments(size, dcor):
    a, b = (x - x.mean() for x in dependent_samples(size, seed=3))
    a, b = a / a.std(), b / b.std()
    tensors = [tf.constant(x, tf.float64) for x in (a, b)]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = distance_correlation(*tensors)
    gradients = tape.gradient(value, tensors)
    step = 1e-6
    for which, gradient in enumerate(gradients):
        for i in np.linspace(0, size - 1, 5).astype(int):
            up, down = [x.copy() for x in (a, b)], [x.copy() for x in (a, b)]
            up[which][i] += step
            down[which][i] -= step
            slope = dcor.distance_correlation_sqr(*up) - dcor.distance_correlation_sqr(*down)
            np.testing.assert_allclose(gradient[i], slope / (2 * step), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("size", [7, 1000])
def test_disco_of_members_is_each_members_own_with_its_own_gradient(size):
    mass, _ = dependent_samples(size)
    scores = np.stack([dependent_samples(size, seed)[1] for seed in range(3)])
    mass, scores = tf.constant(mass, tf.float32), tf.constant(scores, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        together = distance_correlation(mass, scores)
    gradients = tape.gradient(together, scores)
    for member in range(3):
        alone = tf.constant(scores[member])
        with tf.GradientTape() as tape:
            tape.watch(alone)
            value = distance_correlation(mass, alone)
        np.testing.assert_allclose(together[member], value, rtol=1e-4, atol=1e-6)
        expected = tape.gradient(value, alone).numpy()
        np.testing.assert_allclose(gradients[member], expected, atol=1e-3 * np.abs(expected).max())


def test_disco_gradient_in_float32_at_the_size_of_a_batch():
    a, b = dependent_samples(2048)
    for kind, xla in ((tf.float32, True), (tf.float64, False)):
        mass, score = tf.constant(a, kind), tf.constant(b, kind)

        @tf.function(jit_compile=xla)
        def slope(mass=mass, score=score):
            with tf.GradientTape() as tape:
                tape.watch(score)
                value = distance_correlation(mass, score)
            return tape.gradient(value, score)

        if kind is tf.float32:
            single = slope().numpy()
    exact = slope().numpy()
    assert np.abs(single - exact).max() < 1e-5 * np.abs(exact).max()


def test_disco_does_not_depend_on_units_or_order():
    a, b = dependent_samples(300)
    value = distance_correlation(tf.constant(a, tf.float32), tf.constant(b, tf.float32))
    order = np.random.default_rng(1).permutation(300)
    other = distance_correlation(tf.constant(a[order] / 1000, tf.float32), tf.constant(5 - 7 * b[order], tf.float32))
    np.testing.assert_allclose(value, other, rtol=1e-4)


def test_disco_of_tied_values_is_its_definition():
    rng = np.random.default_rng(2)
    a, b = np.round(rng.normal(size=400), 1), np.round(rng.normal(size=400), 1)
    cov, var_a, var_b = by_definition(a, b)
    found = distance_correlation(tf.constant(a, tf.float32), tf.constant(b, tf.float32))
    np.testing.assert_allclose(found, cov / np.sqrt(var_a * var_b), rtol=1e-3, atol=1e-6)


def test_disco_of_a_constant_is_zero_with_zero_gradient():
    x, constant = tf.random.stateless_normal((50,), (0, 1)), tf.fill((50,), 3.0)
    with tf.GradientTape() as tape:
        tape.watch([x, constant])
        value = distance_correlation(x, constant)
    assert float(value) == 0.0
    for gradient in tape.gradient(value, [x, constant]):
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient, np.zeros(50))


def test_distance_variance_is_the_covariance_with_itself():
    b = tf.constant(dependent_samples(200)[1], tf.float64)
    values, gradients = [], []
    for measure in (lambda: distance_covariance(b, b), lambda: distance_variance(b)):
        with tf.GradientTape() as tape:
            tape.watch(b)
            value = measure()
        values.append(value)
        gradients.append(tape.gradient(value, b))
    np.testing.assert_allclose(values[0], values[1], rtol=1e-10)
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-8, atol=1e-12)


def test_disco_stores_no_matrix_of_pairs():
    size = 2048

    @tf.function(jit_compile=True)
    def value_and_slope(a, b):
        with tf.GradientTape() as tape:
            tape.watch(b)
            value = distance_correlation(a, b)
        return value, tape.gradient(value, b)

    a, b = (tf.constant(x, tf.float32) for x in dependent_samples(size))
    program = value_and_slope.experimental_get_compiler_ir(a, b)(stage="optimized_hlo")
    computations = program.split("\n\n")
    # inside a fusion a shape is only computed, never stored: what is allocated stands outside of them
    stored = [c for c in computations if "ENTRY" in c or "fused" not in c.split("\n")[0]]
    assert f"f32[{size}]" in program and f"[{size},{size}]" not in "".join(stored)


def test_preceding_distance_is_the_sum_over_earlier_places():
    rng = np.random.default_rng(4)
    for size in (2, 9, 10, 130):
        x = rng.normal(size=size)
        rank = np.argsort(np.argsort(x)).astype(np.int32)
        expected = [np.abs(x[i] - x[:i]).sum() for i in range(size)]
        np.testing.assert_allclose(preceding_distance(tf.constant(x), tf.constant(rank)), expected, rtol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 10, 4096])
def test_prefix_sum_is_the_cumulative_sum(size):
    x = np.random.default_rng(5).normal(size=size)
    np.testing.assert_allclose(prefix_sum(tf.constant(x)), np.cumsum(x), rtol=1e-9, atol=1e-12)


def sets_of_particles(size, slots=(6, 9), seed=0):
    """Two sets of particles (B, P, 4) with masks, a few of them empty."""
    rng = np.random.default_rng(seed)
    x, y = (tf.constant(rng.normal(size=(size, n, 4)), tf.float32) for n in slots)
    masks = [tf.constant(rng.random((size, n)) < 0.6) for n in slots]
    return x, y, *masks


def plain_chamfer(x, y, x_mask, y_mask):
    """Equation 2 of arXiv:2110.08508, by SciPy's distances of the particles that are there."""
    found = []
    for one, other, real, there in zip(np.asarray(x), np.asarray(y), np.asarray(x_mask), np.asarray(y_mask)):
        distance = cdist(one[real], other[there], "cityblock")
        found.append(distance.min(1).sum() + distance.min(0).sum() if distance.size else 0.0)
    return np.array(found)


def test_chamfer_is_its_definition():
    given = sets_of_particles(50)
    np.testing.assert_allclose(chamfer(*given), plain_chamfer(*given), rtol=1e-5)


def test_chamfer_of_members_is_that_of_each():
    x, y, x_mask, y_mask = sets_of_particles(8)
    found = chamfer(x, tf.stack([y, 2 * y]), x_mask, y_mask)
    for each, scale in zip(found, (1, 2)):
        np.testing.assert_allclose(each, chamfer(x, scale * y, x_mask, y_mask), rtol=1e-6)


def test_chamfer_of_members_is_made_of_operations_that_onnx_has():
    x, y, x_mask, y_mask = sets_of_particles(8)
    graph = tf.function(chamfer).get_concrete_function(x, tf.stack([y, 2 * y]), x_mask, y_mask).graph
    assert "BroadcastArgs" not in {one.type for one in graph.get_operations()}


def test_chamfer_does_not_look_at_empty_slots_nor_at_the_order():
    x, y, x_mask, y_mask = sets_of_particles(8)
    expected = chamfer(x, y, x_mask, y_mask)
    for value in (0.0, np.nan, np.inf):
        filled = [tf.where(mask[..., None], array, value) for array, mask in ((x, x_mask), (y, y_mask))]
        np.testing.assert_array_equal(chamfer(*filled, x_mask, y_mask), expected)
    order = np.random.default_rng(1).permutation(x.shape[1])
    turned = chamfer(tf.gather(x, order, axis=1), y, tf.gather(x_mask, order, axis=1), y_mask)
    np.testing.assert_allclose(turned, expected, rtol=1e-6)


def test_chamfer_gradient_is_that_of_finite_differences_and_zero_in_empty_slots():
    x, y, x_mask, y_mask = sets_of_particles(5)
    with tf.GradientTape() as tape:
        tape.watch([x, y])
        distance = tf.reduce_sum(chamfer(x, y, x_mask, y_mask))
    found = tape.gradient(distance, [x, y])
    given = [np.array(x, np.float64), np.array(y, np.float64)]
    for which, mask in enumerate((x_mask, y_mask)):
        for place in np.ndindex(5, given[which].shape[1], 4):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [array.copy() for array in given]
                moved[which][place] += step
                ends.append(plain_chamfer(*moved, x_mask, y_mask).sum())
            expected = (ends[0] - ends[1]) / 2e-6
            np.testing.assert_allclose(found[which][place], expected, atol=1e-4)
            assert mask.numpy()[place[:2]] or found[which][place] == 0


def test_chamfer_of_members_has_the_gradients_of_each():
    x, y, x_mask, y_mask = sets_of_particles(5)
    both = tf.stack([y, 2.0 * y])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, both])
        together = tf.reduce_sum(chamfer(x, both, x_mask, y_mask))
        alone = [tf.reduce_sum(chamfer(x, each, x_mask, y_mask)) for each in tf.unstack(both)]
        apart = tf.add_n(alone)
    for given in (x, both):
        np.testing.assert_allclose(tape.gradient(together, given), tape.gradient(apart, given), rtol=1e-6)


@pytest.mark.parametrize(("size", "slots"), [(16, (11, 13)), pytest.param(2048, (39, 39), marks=pytest.mark.slow)])
def test_chamfer_and_its_gradients_never_make_an_array_of_pairs(size, slots):
    """Looked for in the compiled program, which is not run: every array that memory is taken for stands there."""

    @tf.function(jit_compile=True, autograph=False)
    def loss_and_gradients(x, y, x_mask, y_mask):
        with tf.GradientTape() as tape:
            tape.watch([x, y])
            loss = tf.reduce_sum(chamfer(x, y, x_mask, y_mask))
        return loss, tape.gradient(loss, [x, y])

    given = [tf.TensorSpec((size, n, 4)) for n in slots] + [tf.TensorSpec((size, n), tf.bool) for n in slots]
    program = loss_and_gradients.experimental_get_compiler_ir(*given)(stage="optimized_hlo")
    # what is inside a fusion is never stored
    outside = re.sub(r"%fused_computation[^{]*{.*?\n}", "", program, flags=re.DOTALL)
    shapes = [tuple(map(int, dims.split(","))) for dims in re.findall(r"\b[a-z]+[0-9]*\[([0-9,]+)\]", outside)]
    assert max(map(math.prod, shapes)) < size * slots[0] * slots[1], sorted(set(shapes))
    assert {(size, slots[0], 4), (size, slots[1], 4)} <= set(shapes)  # both gradients are there


def test_rms_distance_has_a_finite_gradient_at_a_perfect_reconstruction():
    x = tf.ones((2, 3))
    with tf.GradientTape() as tape:
        tape.watch(x)
        distance = tf.reduce_sum(rms_distance(x, tf.ones((2, 3))))
    np.testing.assert_array_equal(tape.gradient(distance, x), np.zeros((2, 3)))
