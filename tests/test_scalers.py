"""Input scalings against scikit-learn's, in blocks, inside TensorFlow functions, and back."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, QuantileTransformer, StandardScaler

from pipelines import InputError
from zoo.layers import scalers

SIZE = 5000


@pytest.fixture
def x():
    """Columns as jets have them: momenta, angles, counts, a share that is mostly zero, and one that never moves."""
    rng = np.random.default_rng(11)
    columns = [
        rng.exponential(400, SIZE) + 1200,
        rng.uniform(-np.pi, np.pi, SIZE),
        rng.poisson(8, SIZE),
        np.where(rng.random(SIZE) < 0.7, 0, rng.random(SIZE)),  # many zeros, at the edge
        np.where(rng.random(SIZE) < 0.7, 0, rng.normal(size=SIZE)),  # many zeros, in the middle
        np.full(SIZE, 0.1),
        rng.normal(1e5, 1, SIZE),  # a large mean beside a small spread
        rng.choice([-1.0, 1.0], SIZE),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def fitted(name, blocks, seed=0):
    scaler = scalers.make(name)
    blocks = list(blocks)
    scaler.build((None, blocks[0].shape[-1]))
    scaler.adapt(iter(blocks), seed=seed)
    return scaler


def reference(name, x):
    made = {
        "maxabs": MaxAbsScaler(),
        "minmax": MinMaxScaler(),
        "standard": StandardScaler(),
        "quantile": QuantileTransformer(n_quantiles=scalers.Quantile.knots, subsample=None),
    }
    return made[name].fit(x.astype(np.float64))


every = pytest.mark.parametrize("name", list(scalers.SCALERS))
affine = pytest.mark.parametrize("name", ["minmax", "standard", "maxabs"])
# Of the column with mean 1e5 and spread 1, float32 keeps the last 0.008.
CLOSE = {"rtol": 1e-5, "atol": 5e-3}


@every
def test_scaled_values_are_scikit_learns(name, x):
    expected = reference(name, x).transform(x.astype(np.float64))
    np.testing.assert_allclose(fitted(name, [x])(x).numpy(), expected, **CLOSE)
    exact = [0, 1, 2, 3, 4, 5, 7]
    np.testing.assert_allclose(fitted(name, [x])(x).numpy()[:, exact], expected[:, exact], rtol=1e-4, atol=2e-5)


@every
def test_unseen_values_are_scaled_as_scikit_learn_does(name, x):
    fit, unseen = x[: SIZE // 2], x[SIZE // 2 :]
    expected = reference(name, fit).transform(unseen.astype(np.float64))
    np.testing.assert_allclose(fitted(name, [fit])(unseen).numpy(), expected, **CLOSE)


@every
def test_inverse_gives_physical_units_back(name, x):
    scaler = fitted(name, [x])
    back = scaler.inverse(scaler(x)).numpy()
    expected = reference(name, x)
    expected = expected.inverse_transform(expected.transform(x.astype(np.float64)))
    np.testing.assert_allclose(back, expected, rtol=1e-5, atol=2e-4 * x.std(0).max())
    if name != "quantile":
        np.testing.assert_allclose(back, x, rtol=1e-6, atol=1e-3)
    assert np.abs(back - x)[:, [2, 5, 7]].max() < 1e-3  # counts, constants and signs exactly


@affine
@pytest.mark.parametrize("size", [1, 7, 1000, SIZE])
def test_blocks_of_any_size_fit_as_one(name, size, x):
    parts = fitted(name, [x[i : i + size] for i in range(0, SIZE, size)])
    whole = fitted(name, [x])
    np.testing.assert_allclose(parts.shift.numpy(), whole.shift.numpy(), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(parts.scale.numpy(), whole.scale.numpy(), rtol=1e-6)


@pytest.mark.parametrize("size", [7, 1000])
def test_quantiles_in_blocks_are_those_of_all_events_while_the_sample_holds_them(size, x):
    parts = fitted("quantile", [x[i : i + size] for i in range(0, SIZE, size)])
    np.testing.assert_array_equal(parts.quantiles.numpy(), fitted("quantile", [x]).quantiles.numpy())


def test_quantiles_of_a_sample_are_those_of_the_whole_stream(monkeypatch):
    """Every event has the same chance, first block or last: a stream that drifts shows it."""
    monkeypatch.setattr(scalers.Quantile, "sample", 2000)
    stream = np.linspace(0, 1, 50_000, dtype=np.float32)[:, None]
    blocks = [stream[i : i + 700] for i in range(0, 50_000, 700)]
    one, again, other = (fitted("quantile", blocks, seed).quantiles.numpy()[:, 0] for seed in (0, 0, 1))
    assert np.abs(one - np.linspace(0, 1, len(one))).max() < 1.95 / np.sqrt(2000)  # Kolmogorov-Smirnov at 0.1 %
    assert (one == again).all() and not (one == other).all()


def test_minmax_spans_0_to_1_and_standard_has_mean_0_and_deviation_1(x):
    moving = [i for i in range(x.shape[1]) if i != 5]
    scaled = fitted("minmax", [x])(x).numpy()[:, moving]
    assert (scaled.min(0) == 0).all() and (scaled.max(0) == 1).all()
    scaled = fitted("standard", [x])(x).numpy().astype(np.float64)[:, moving]
    np.testing.assert_allclose(scaled.mean(0), 0, atol=5e-3)
    np.testing.assert_allclose(scaled.std(0), 1, rtol=1e-4)


def test_quantile_makes_a_continuous_feature_uniform(x):
    scaled = np.sort(fitted("quantile", [x])(x).numpy()[:, :2], axis=0)
    assert np.abs(scaled - np.linspace(0, 1, SIZE)[:, None]).max() < 0.01


def test_quantile_never_turns_two_values_round(x):
    order = np.argsort(x, axis=0)
    scaled = np.take_along_axis(fitted("quantile", [x])(x).numpy(), order, axis=0)
    assert (np.diff(scaled, axis=0) >= 0).all() and (np.diff(fitted("quantile", [x]).quantiles, axis=0) >= 0).all()


def test_repeated_value_is_the_middle_of_its_rank_except_at_the_edges():
    """0 twice as often as 1 and as 2: the smallest is 0, the largest 1, 1 the middle of 50 % to 75 %."""
    x = np.repeat([0.0, 1.0, 2.0], [4000, 2000, 2000])[:, None].astype(np.float32)
    found = fitted("quantile", [x])(np.array([[0.0], [1.0], [2.0]], np.float32)).numpy()[:, 0]
    np.testing.assert_allclose(found, [0, 0.625, 1], atol=1 / 255)


@every
def test_constant_feature_stays_finite_for_other_values(name, x):
    constant = np.full((1000, 1), 0.1, np.float32)
    scaler = fitted(name, [constant[:300], constant[300:]])
    moved = scaler(np.array([[0.1], [0.1001], [0.2], [-5.0]], np.float32)).numpy()[:, 0]
    if name == "maxabs":  # is divided by itself
        np.testing.assert_allclose(moved, [1, 1.001, 2, -50], rtol=1e-5)
    else:
        assert moved[0] == 0 and np.abs(moved).max() <= 5.2
    assert scaler.inverse(scaler(constant)).numpy() == pytest.approx(0.1)


@pytest.mark.parametrize("value", [0.1, 1e-30, 1e30, 12345.678])
def test_constant_feature_of_any_size_has_scale_one(value):
    constant = np.full((4321, 1), value, np.float32)
    for name in ("minmax", "standard"):
        assert fitted(name, [constant[:1000], constant[1000:]]).scale.numpy().tolist() == [1.0]


def test_values_outside_the_fitted_range_are_held_by_quantile_and_go_on_for_the_affine_ones(x):
    outside = np.stack([x.min(0) - 100, x.max(0) + 100])
    found = fitted("quantile", [x])(outside).numpy()
    assert (found == [[0], [1]]).all()
    for name in ("minmax", "standard", "maxabs"):
        expected = reference(name, x).transform(outside.astype(np.float64))
        np.testing.assert_allclose(fitted(name, [x])(outside).numpy(), expected, rtol=1e-4)


@every
@pytest.mark.parametrize("jit_compile", [False, True])
def test_scaling_works_inside_a_tensorflow_function_for_any_number_of_events(name, jit_compile, x):
    scaler = fitted(name, [x])

    @tf.function(input_signature=[tf.TensorSpec((None, x.shape[1]), tf.float32)], jit_compile=jit_compile)
    def there_and_back(values):
        scaled = scaler(values)
        return scaled, scaler.inverse(scaled)

    for count in (1, 100):
        scaled, back = there_and_back(x[:count])
        np.testing.assert_allclose(scaled, scaler(x[:count]), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(back, scaler.inverse(scaler(x[:count])), rtol=1e-5, atol=1e-3)


@every
def test_scaling_is_not_trained(name, x):
    scaler = fitted(name, [x])
    assert not scaler.trainable_weights and scaler.non_trainable_weights


@every
def test_no_events_to_fit_to_are_refused(name):
    for blocks in ([], [np.zeros((0, 3), np.float32)]):
        scaler = scalers.make(name)
        scaler.build((None, 3))
        with pytest.raises(InputError, match="no events to fit"):
            scaler.adapt(blocks)


def test_unknown_scaling_names_the_known_ones():
    with pytest.raises(InputError, match=r"scaling='robust'.*minmax, standard, maxabs, quantile"):
        scalers.make("robust")
