"""Normalizing flows: log-determinants against autodiff, inverses, constraints, members, training, export."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from pipelines.errors import InputError
from zoo.keras import keras
from zoo.layers import flows

import tensorflow_probability as tfp  # isort: skip

tfb, tfd = tfp.bijectors, tfp.distributions

EXACT = [name for name, layer in flows.FLOWS.items() if layer.has_inverse]
# name, options, latent_dim: every flow at several sizes, the smallest and the paper's among them
SIZES = [
    *[("planar", {}, d) for d in (1, 2, 15)],
    ("planar", {"hidden": (8, 6)}, 3),
    *[("orthogonal", {"num_vectors": m, "basis": "polar"}, d) for m, d in ((1, 1), (2, 2))],
    pytest.param("orthogonal", {"num_vectors": 8, "basis": "polar"}, 15, marks=pytest.mark.slow),
    *[("orthogonal", {"num_vectors": m}, d) for m, d in ((3, 3), (3, 7), (8, 15))],
    *[("householder", {"num_vectors": n}, d) for n, d in ((1, 1), (3, 2), (8, 15))],
    *[("triangular", {}, d) for d in (1, 4, 15)],
    *[("iaf", {"width": w, "depth": n}, d) for w, n, d in ((4, 1, 1), (9, 3, 4), (40, 2, 15))],
    *[("convolutional", {"kernel_size": k}, d) for k, d in ((7, 1), (3, 2), (1, 4), (7, 15))],
]
SMALL = [
    ("planar", {}),
    ("orthogonal", {"num_vectors": 2, "basis": "polar"}),
    ("orthogonal", {"num_vectors": 2}),
    ("householder", {"num_vectors": 2}),
    ("triangular", {}),
    ("iaf", {"width": 6}),
    ("convolutional", {"kernel_size": 3}),
]
# what is not the default is compiled only where slow tests are run
COMPILED = [pytest.param(*small, marks=pytest.mark.slow) if "basis" in small[1] else small for small in SMALL]


def normal(*shape, seed=0, dtype="float64", scale=1.0):
    return tf.constant(np.random.default_rng(seed).normal(scale=scale, size=shape), dtype)


def trained(name, options, dim, num_flows=2, seed=0, scale=1.3, units=5, **more):
    """A layer with random weights, far from the identity."""
    layer = flows.make(name, num_flows, dim, **{"dtype": "float64", **more}, **options)
    layer.build((None, units))
    for i, weight in enumerate(layer.weights):
        fan_in = weight.shape[-2] if "kernel" in weight.name else 1
        weight.assign(normal(*weight.shape, seed=(seed, i), dtype=weight.dtype, scale=scale / fan_in**0.5))
    return layer


def jacobian(f, z):
    """`tape.batch_jacobian`, row by row, which compiles nothing and is several times as fast here."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        outputs = tf.unstack(f(z), axis=-1)
    return np.stack([tape.gradient(output, z) for output in outputs], -2)


# -- the maps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options", "dim"), SIZES)
def test_log_determinant_is_that_of_autodiff_and_its_sign_is_positive(name, options, dim):
    layer, h, z = trained(name, options, dim), normal(18, 5, seed=1), normal(18, dim, seed=2, scale=2)
    _, log_det = layer(h, z)
    sign, expected = np.linalg.slogdet(jacobian(lambda z: layer(h, z)[0], z))
    np.testing.assert_array_equal(sign, 1)
    np.testing.assert_allclose(log_det, expected, rtol=1e-9, atol=1e-9)
    assert np.abs(expected).max() > 0.01, "too near the identity to tell anything"


@pytest.mark.parametrize(("name", "options", "dim"), SIZES)
def test_the_tfp_bijector_is_the_layer(name, options, dim):
    layer, h, z = trained(name, options, dim), normal(6, 5, seed=1), normal(6, dim, seed=2)
    chain = layer.bijector(h)
    np.testing.assert_allclose(chain.forward(z), layer(h, z)[0], rtol=1e-12)
    np.testing.assert_allclose(chain.forward_log_det_jacobian(z), layer(h, z)[1], rtol=1e-12, atol=1e-14)
    assert chain.experimental_batch_shape() == ((1,) if name == "convolutional" else (6,))


@pytest.mark.parametrize(("name", "options", "dim"), [size for size in SIZES if size[0] in EXACT])
def test_inverse_and_its_log_determinant_are_exact(name, options, dim):
    layer, h, z = trained(name, options, dim, scale=0.8), normal(6, 5, seed=1), normal(6, dim, seed=2)
    zk, log_det = layer(h, z)
    chain = layer.bijector(h)  # a new one: TFP's would remember z
    np.testing.assert_allclose(chain.inverse(zk), z, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(chain.inverse_log_det_jacobian(zk), -log_det.numpy(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("name", "options"), [small for small in SMALL if small[0] not in EXACT])
def test_flow_without_closed_inverse_says_so_and_what_to_do(name, options):
    layer, z = trained(name, options, 3), normal(6, 3)
    for what in ("inverse", "inverse_log_det_jacobian"):
        with pytest.raises(InputError, match=rf"'{name}\d' has no inverse in closed form; .*iaf, convolutional"):
            getattr(layer.bijector(normal(6, 5)), what)(z)


@pytest.mark.parametrize(("name", "options"), [small for small in SMALL if small[0] in EXACT])
def test_density_after_the_flow_integrates_to_one(name, options):
    chain = trained(name, options, 2, scale=0.8).bijector(normal(1, 5))
    density = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(2, tf.float64)), chain)
    axis = np.linspace(-30, 30, 601)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    assert abs(np.exp(density.log_prob(grid)).sum() * 0.1**2 - 1) < 1e-3


def test_planar_is_its_formula_with_u_moved_along_w_until_invertible():
    w, u, b, z = normal(9, 4), normal(9, 4, seed=1, scale=3), normal(9, seed=2), normal(9, 4, seed=3)
    flow = flows.Planar(w, u, b)
    moved = (flow.u_hat - u).numpy()
    np.testing.assert_allclose(moved, (moved * w).numpy().sum(-1)[:, None] * w / (w**2).numpy().sum(-1)[:, None])
    assert ((flow.u_hat * w).numpy().sum(-1) > -1).all() and ((u * w).numpy().sum(-1) < -1).any()
    for i in range(9):
        expected = z[i] + flow.u_hat[i] * np.tanh(np.dot(w[i], z[i]) + b[i])
        np.testing.assert_allclose(flow.forward(z)[i], expected)


def test_planar_without_u_is_the_identity_also_where_w_is_zero():
    z, zero = normal(3, 4), tf.zeros((3, 4), tf.float64)
    for w in (normal(3, 4), 1e-200 * normal(3, 4), zero):
        np.testing.assert_array_equal(flows.Planar(w, zero, normal(3)).forward(z), z)
    with tf.GradientTape() as tape:
        tape.watch(zero)
        zk, log_det = flows.Planar(zero, zero, normal(3)).forward_with_log_det(z)
    assert np.isfinite(tape.gradient([zk, log_det], zero)).all()


@pytest.mark.parametrize("kind", ["orthogonal", "gram_schmidt", "householder", "triangular", "reversed"])
def test_sylvester_is_its_formula_written_out(kind):
    d, m = 5, 3 if kind in ("orthogonal", "gram_schmidt") else 5
    triangles, diagonal, b, z = normal(m, m), normal(m, seed=1), normal(m, seed=2), normal(1, d, seed=3)
    columns, vectors = normal(d, m, seed=4).numpy(), normal(4, d, seed=5).numpy()
    if kind == "orthogonal":
        left, _, right = np.linalg.svd(columns, full_matrices=False)
        q, flow = left @ right, flows.OrthogonalSylvester(tf.constant(columns), triangles, diagonal, b, basis="polar")
    elif kind == "gram_schmidt":
        q, r = np.linalg.qr(columns)
        q *= np.sign(np.diag(r))
        flow = flows.OrthogonalSylvester(tf.constant(columns), triangles, diagonal, b)
    elif kind == "householder":
        q = np.linalg.multi_dot([np.eye(d) - 2 * np.outer(v, v) / (v @ v) for v in vectors])
        flow = flows.HouseholderSylvester(tf.constant(vectors), triangles, diagonal, b)
    else:
        q, turn = (np.eye(d)[::-1],) * 2 if kind == "reversed" else (np.eye(d),) * 2
        flow = flows.TriangularSylvester(triangles, diagonal, b, reverse=kind == "reversed")
        triangles, diagonal, b = turn @ triangles.numpy() @ turn, turn @ diagonal.numpy(), turn @ b.numpy()
    limit = 1 - flows.MARGIN
    r = np.triu(triangles, 1) + np.diag(limit * np.tanh(np.diag(triangles)))
    r_tilde = np.tril(triangles, -1).T + np.diag(limit * np.tanh(diagonal))
    expected = z[0] + q @ r @ np.tanh(r_tilde @ q.T @ z[0].numpy() + np.asarray(b))
    np.testing.assert_allclose(flow.forward(z)[0], expected, rtol=1e-10)


@pytest.mark.parametrize("reverse", [False, True])
def test_iaf_and_its_inverse_are_those_of_tfp(reverse):
    sizes = [(4, 12), (12, 12), (12, 8)]
    kernels = [normal(*size, seed=i, scale=0.8) for i, size in enumerate(sizes)]
    biases = [normal(size[1], seed=9 + i) for i, size in enumerate(sizes)]
    flow = flows.InverseAutoregressive(kernels, biases, normal(6, 12, seed=20), reverse)

    def shift_and_log_scale(z):  # TFP's inverse is (z - shift) / scale
        z = tf.reverse(z, [-1]) if reverse else z
        mu, sigma = flow.shift_and_scale(z)
        found = -mu / sigma, -tf.math.log(sigma)
        return tuple(tf.reverse(x, [-1]) if reverse else x for x in found)

    tfp_flow, z = tfb.Invert(tfb.MaskedAutoregressiveFlow(shift_and_log_scale)), normal(6, 4, seed=21)
    turned = tf.reverse(z, [-1]) if reverse else z
    zk = tfp_flow.forward(turned)
    np.testing.assert_allclose(tf.reverse(zk, [-1]) if reverse else zk, flow.forward(z))
    np.testing.assert_allclose(tfp_flow.forward_log_det_jacobian(turned, 1), flow.forward_log_det_jacobian(z))
    again = tfb.Invert(tfb.MaskedAutoregressiveFlow(shift_and_log_scale)).inverse(tf.identity(zk))
    again = tf.reverse(again, [-1]) if reverse else again
    np.testing.assert_allclose(again, flow.copy(name="new").inverse(flow.forward(z)), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("width", "hidden"), [(1, [3]), (2, [2]), (5, [5, 9]), (15, [33, 20])])
@pytest.mark.parametrize("reverse", [False, True])
def test_made_connects_an_output_with_all_inputs_before_it_and_no_other(width, hidden, reverse):
    paths = np.linalg.multi_dot([np.eye(width), *flows.made_masks(width, hidden, reverse)])
    before = np.triu(np.ones((width, width)), 1)
    expected = before.T if reverse else before
    np.testing.assert_array_equal(paths > 0, np.tile(expected, 2) > 0)


@pytest.mark.parametrize("reverse", [False, True])
def test_convolution_is_a_plain_loop_over_its_taps(reverse):
    taps, dim, dilation = 3, 7, 2
    w, u, b, z = normal(taps), normal(dim, seed=1), normal(seed=2), normal(1, dim, seed=3)
    flow = flows.Convolutional(w, u, b, dilation, reverse)
    for i in range(dim):
        places = [i + (-1 if reverse else 1) * j * dilation for j in range(taps)]
        pre = float(b) + sum(float(w[j] * z[0, p]) for j, p in enumerate(places) if 0 <= p < dim)
        expected = z[0, i] + flow.u_hat[i] * (pre if pre > 0 else flows.LEAK * pre)
        np.testing.assert_allclose(flow.forward(z)[0, i], expected)


@pytest.mark.parametrize("basis", flows.BASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bases_are_orthonormal_to_the_documented_tolerance_down_to_the_documented_condition(basis, dtype):
    rng = np.random.default_rng(0)
    for d, m in ((1, 1), (4, 4), (15, 8)):
        for smallest in (1, 0.1, 2e-4):
            left, right = (np.linalg.qr(rng.normal(size=(50, n, m)))[0] for n in (d, m))
            singular = np.geomspace(1, smallest, m) if m > 1 else np.ones(1)
            vectors = 1e5 * left @ (singular[:, None] * right.transpose(0, 2, 1)) / np.sqrt(m)
            q = flows.BASES[basis](tf.constant(vectors, dtype)).numpy()
            defect = np.abs(q.transpose(0, 2, 1).astype(float) @ q - np.eye(m)).max()
            assert defect < flows.ORTHONORMAL_TOLERANCE[tf.as_dtype(dtype)], (d, m, smallest)


# -- whatever the parameters -------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options"), SMALL)
@pytest.mark.parametrize("scale", [0.0, 1e-30, 30.0, 1e3, 1e6])
def test_extreme_parameters_keep_every_factor_of_the_determinant_positive(name, options, scale):
    for seed in range(3):
        layer = trained(name, options, 4, num_flows=1, scale=scale, seed=seed, dtype="float32")
        h, z = normal(64, 5, seed=1, dtype="float32"), normal(64, 4, seed=2, dtype="float32", scale=3)
        with tf.GradientTape() as tape:
            zk, log_det = layer(h, z)
            loss = tf.reduce_sum(log_det)
        gradients = [g for g in tape.gradient(loss, layer.trainable_variables) if g is not None]
        assert np.isfinite(zk).all() and all(np.isfinite(g).all() for g in gradients)
        factors = 8 if name == "convolutional" else 4
        assert (log_det.numpy() >= factors * np.log(0.9 * flows.MARGIN)).all()


@pytest.mark.parametrize(
    ("name", "options"), [(n, o | {"num_vectors": 1} if "num_vectors" in o else o) for n, o in SMALL]
)
def test_in_one_dimension_every_flow_increases_everywhere(name, options):
    z = np.linspace(-5, 5, 2001)[:, None]
    for seed, scale in itertools.product(range(3), (1.0, 10.0, 100.0)):
        layer = trained(name, options, 1, num_flows=1, scale=scale, seed=seed)
        zk = layer(tf.repeat(normal(1, 5, seed=1), len(z), 0), tf.constant(z))[0].numpy()[:, 0]
        assert (np.diff(zk) > 0).all()


@pytest.mark.parametrize("basis", flows.BASES)
def test_vectors_that_cannot_be_made_orthonormal_leave_the_event_unchanged(basis):
    vectors = normal(3, 4, 2).numpy()
    vectors[1, :, 1] = vectors[1, :, 0] = 0
    flow = flows.OrthogonalSylvester(tf.constant(vectors), normal(3, 2, 2), normal(3, 2), normal(3, 2), basis)
    z = normal(3, 4, seed=7)
    zk, log_det = flow.forward_with_log_det(z)
    np.testing.assert_array_equal((zk.numpy() == z.numpy()).all(-1), [False, True, False])
    np.testing.assert_array_equal(log_det.numpy() == 0, [False, True, False])


# -- the layers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options"), SMALL)
def test_member_of_a_group_is_what_it_would_be_alone(name, options):
    group = trained(name, options, 4, members=3)
    h, z = normal(3, 6, 5, seed=1), normal(3, 6, 4, seed=2)
    zk, log_det = group(h, z)
    assert zk.shape == (3, 6, 4) and log_det.shape == (3, 6)
    for k in range(3):
        alone = trained(name, options, 4)
        for weight, stacked in zip(alone.weights, group.weights):
            weight.assign(stacked[k])
        expected = alone(h[k], z[k])
        np.testing.assert_allclose(zk[k], expected[0], rtol=1e-12)
        np.testing.assert_allclose(log_det[k], expected[1], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("name", "options"), SMALL)
def test_members_start_differently_and_initial_gives_the_start_again(name, options):
    group = flows.make(name, 2, 4, members=2, seed=5, **options)
    group.build((2, None, 5))
    random = [w for w in group.weights if not np.isin(w, (0, 1)).all()]
    assert random and all(np.any(w[0] != w[1]) for w in random)
    again = flows.make(name, 2, 4, members=2, seed=5, **options)
    again.build((2, None, 5))
    for i, (a, b) in enumerate(zip(group.weights, again.weights)):
        np.testing.assert_array_equal(a, b)
        for member in range(2):
            np.testing.assert_array_equal(a[member], group.initial(a, (5 + member, i)))
        assert np.array_equal(a[0], a[1]) == np.isin(a, (0, 1)).all()
    alone = flows.make(name, 2, 4, seed=6, **options)
    alone.build((None, 5))
    for a, b in zip(group.weights, alone.weights):
        np.testing.assert_array_equal(a[1], b)


@pytest.mark.parametrize("name", flows.FLOWS)
def test_flows_of_the_papers_size_start_near_the_identity(name):
    layer = flows.make(name, 4 if name in ("iaf", "convolutional") else 6, 15)
    h, z = normal(200, 64, dtype="float32"), normal(200, 15, seed=1, dtype="float32")
    zk, log_det = layer(h, z)
    assert np.std(zk - z) < 0.15 and np.std(log_det) < 0.3 and abs(np.mean(log_det)) < 0.15


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), SMALL)
def test_dtype_is_kept_and_single_agrees_with_double(name, options, dtype):
    layer = trained(name, options, 4, dtype=dtype)
    double = trained(name, options, 4)
    h, z = normal(6, 5, seed=1), normal(6, 4, seed=2)
    zk, log_det = layer(tf.cast(h, dtype), tf.cast(z, dtype))
    assert zk.dtype == log_det.dtype == dtype and {w.dtype for w in layer.weights} == {tf.as_dtype(dtype)}
    for found, expected in zip((zk, log_det), double(h, z)):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(("name", "options"), COMPILED)
def test_traced_once_and_compiled_with_xla_it_is_what_it_is_eagerly(name, options):
    layer, traces = trained(name, options, 4), []

    def step(h, z):
        traces.append(1)
        with tf.GradientTape() as tape:
            tape.watch([h, z])
            zk, log_det = layer(h, z)
            loss = tf.reduce_mean(tf.reduce_sum(zk**2, -1) - log_det)
        return zk, log_det, *tape.gradient(loss, [h, z, *layer.trainable_variables], unconnected_gradients="zero")

    compiled = tf.function(step, jit_compile=True)
    for seed in range(3):
        h, z = normal(6, 5, seed=seed), normal(6, 4, seed=10 + seed)
        for found, expected in zip(compiled(h, z), step(h, z)):
            np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
    assert len(traces) == 1 + 3  # once by TensorFlow, three times by our own eager calls


@pytest.mark.parametrize(("name", "options"), COMPILED)
def test_saved_model_gives_the_same_for_any_number_of_events(name, options, tmp_path):
    module = tf.Module()
    module.flow = trained(name, options, 4, dtype="float32")
    specs = [tf.TensorSpec((None, n), tf.float32) for n in (5, 4)]
    module.call = tf.function(lambda h, z: module.flow(h, z), input_signature=specs)
    h, z = normal(9, 5, dtype="float32"), normal(9, 4, seed=1, dtype="float32")
    expected = module.call(h, z)
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for found, value in zip(loaded.call(h, z), expected):
        np.testing.assert_allclose(found, value, rtol=1e-6)
    assert loaded.call(h[:1], z[:1])[0].shape == (1, 4)


@pytest.mark.parametrize(("name", "options"), [*COMPILED, ("planar", {"hidden": (6,)})])
def test_every_parameter_is_a_keras_weight_and_changes_in_training(name, options):
    layer = flows.make(name, 3, 4, **options)
    h, z = normal(64, 5, dtype="float32"), normal(64, 4, seed=1, dtype="float32")
    inputs = keras.Input((5,)), keras.Input((4,))
    model = keras.Model(inputs, layer(*inputs))
    assert {id(w) for w in model.trainable_variables} == {id(w) for w in layer.weights}
    before = [w.numpy() for w in layer.weights]
    optimizer = keras.optimizers.Adam(1e-2)
    for _ in range(5):
        with tf.GradientTape() as tape:
            zk, log_det = model([h, z])
            loss = tf.reduce_mean(tf.reduce_sum((zk - 2 - h[:, :4]) ** 2, -1) - log_det)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    for weight, start in zip(layer.weights, before):
        changed = weight.numpy() != start
        if name == "iaf" and "_kernel_of_flow" in weight.name:  # what a MADE masks is no parameter
            masks = [flows.made_masks(4, [6, 6], reverse) for reverse in (False, True)]
            assert any(np.array_equal(changed, mask) for mask in (*masks[0], *masks[1])), weight.name
        else:
            assert changed.all(), weight.name


def test_a_flow_learns_what_a_gaussian_cannot():
    noise = normal(256, 2, dtype="float32")

    def fit(layer):  # free energy of a curved ridge (Rezende & Mohamed 2015, table 1, energy 2), walled in
        shift, scale = tf.Variable(tf.zeros(2)), tf.Variable(tf.ones(2))
        variables = [shift, scale, *(layer.trainable_variables if layer else ())]
        optimizer = keras.optimizers.Adam(2e-2)
        optimizer.build(variables)

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                z, log_det = shift + scale * noise, tf.reduce_sum(tf.math.log(tf.abs(scale)))
                if layer:
                    z, more = layer(tf.ones((256, 1)), z)
                    log_det += more
                energy = ((z[:, 1] - tf.sin(np.pi / 2 * z[:, 0])) / 0.4) ** 2 / 2 + (z[:, 0] / 4) ** 8
                value = tf.reduce_mean(energy - log_det)
            optimizer.apply_gradients(zip(tape.gradient(value, variables), variables))
            return value

        return float([step() for _ in range(300)][-1])

    layer = flows.make("householder", 3, 2, num_vectors=2)
    layer.build((None, 1))
    assert fit(layer) < fit(None) - 0.3


# -- bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("radial", 2, 3, {}), ["'radial'", "planar, orthogonal, householder, triangular, iaf, convolutional"]),
        (("planar", 0, 3, {}), ["num_flows=0", ">= 1"]),
        (("planar", 2.0, 3, {}), ["num_flows=2.0", "whole number"]),
        (("planar", True, 3, {}), ["num_flows=True"]),
        (("iaf", 2, 0, {}), ["latent_dim=0"]),
        (("iaf", 2, -1, {}), ["latent_dim=-1"]),
        (("planar", 2, "3", {}), ["latent_dim='3'"]),
        (("planar", 2, 3, {"members": 0}), ["members=0"]),
        (("planar", 2, 3, {"hidden": (5, 0)}), ["hidden=(5, 0)"]),
        (("planar", 2, 3, {"num_vectors": 2}), ["'planar'", "'num_vectors'", "hidden"]),
        (("orthogonal", 2, 3, {"num_vectors": 0}), ["num_vectors=0"]),
        (("orthogonal", 2, 3, {"num_vectors": 4}), ["num_vectors=4", "latent_dim=3", "try num_vectors=3"]),
        (("orthogonal", 2, 3, {"num_vectors": 2, "basis": "qr"}), ["basis='qr'", "polar", "gram_schmidt"]),
        (("householder", 2, 3, {"num_vectors": 0}), ["num_vectors=0"]),
        (("iaf", 2, 3, {"width": 2}), ["width=2", "3"]),
        (("iaf", 2, 3, {"depth": 0}), ["depth=0"]),
        (("convolutional", 2, 3, {"kernel_size": 0}), ["kernel_size=0"]),
    ],
)
def test_argument_out_of_range_is_named(arguments, words):
    *positional, options = arguments
    with pytest.raises(InputError) as error:
        flows.make(*positional, **options)
    message = str(error.value)
    assert "\n" not in message and [word for word in words if word not in message] == []


@pytest.mark.parametrize("name", ["orthogonal", "householder"])
def test_vectors_are_eight_or_as_many_as_there_are_dimensions(name):
    assert [flows.make(name, 1, d).num_vectors for d in (1, 3, 8, 15)] == [1, 3, 8, 8]
    assert flows.make("orthogonal", 1, 3).basis == "gram_schmidt"


def test_latent_of_another_width_is_refused():
    with pytest.raises(InputError, match=r"z0 has shape \(6, 4\), expected 3 \(latent_dim\)"):
        flows.make("planar", 2, 3)(tf.zeros((6, 5)), tf.zeros((6, 4)))


def test_taps_that_reach_past_the_end_are_refused():
    with pytest.raises(InputError, match="dilation=2 with 3 taps"):
        flows.Convolutional(tf.ones(3), tf.ones(4), tf.constant(0.0), dilation=2)


@pytest.mark.parametrize(("name", "options"), SMALL)
def test_layer_is_made_again_from_its_config(name, options):
    layer = flows.make(name, 3, 4, members=2, seed=7, **options)
    config = layer.get_config()
    assert type(layer).from_config(config).get_config() == config and options.items() <= config.items()
