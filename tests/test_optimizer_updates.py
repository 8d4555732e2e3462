"""Updates by one operation a weight are those that Keras writes out."""

import numpy as np
import pytest
import tensorflow as tf

from zoo.ensemble import memberwise
from zoo.keras import keras
from zoo.keras.optimizer_updates import UPDATES, update_of


def _weights():
    rng = np.random.default_rng(0)
    return [tf.Variable(rng.normal(size=shape).astype(np.float32)) for shape in ((5, 3), (3,))]


def _trained(optimizer, weights, steps=7):
    optimizer.build(weights)
    rng = np.random.default_rng(1)
    for _ in range(steps):
        gradients = [tf.constant(rng.normal(size=weight.shape).astype(np.float32)) for weight in weights]
        optimizer.apply_gradients(zip(gradients, weights))
    return [weight.numpy() for weight in weights], [np.asarray(one) for one in optimizer.variables]


@pytest.mark.parametrize("kind", UPDATES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_a_fused_update_is_that_of_keras(kind, graph):
    rate, share, active = 0.05, tf.Variable(0.5), tf.Variable(1.0)
    ours = memberwise(kind)(rate, shares=(share, active))
    assert update_of(ours, kind) is not None
    weights = _weights()
    if graph:
        ours.build(weights)
        step = tf.function(lambda *gradients: ours.apply_gradients(zip(gradients, weights)), autograph=False)
        rng = np.random.default_rng(1)
        for _ in range(7):
            step(*[tf.constant(rng.normal(size=weight.shape).astype(np.float32)) for weight in weights])
        found, state = [weight.numpy() for weight in weights], [np.asarray(one) for one in ours.variables]
    else:
        found, state = _trained(ours, weights)
    expected, kept = _trained(kind(rate * 0.5), _weights())
    # the operation takes 1 - beta_2 in float32, Keras in float64: 1e-3 of a relative error of 1.3e-5
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)
    for one, other in zip(state[2:], kept[2:], strict=True):  # after the count of steps and the learning rate
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-9)
    assert state[0] == kept[0] == 7


def test_members_of_their_own_rates_and_other_options_have_the_update_of_keras():
    per_member = memberwise(keras.optimizers.Adam)(0.1, shares=(tf.Variable([1.0, 2.0]), tf.Variable([1.0, 1.0])))
    weight = tf.Variable(tf.ones((2, 3)))
    per_member.build([weight])
    per_member.apply_gradients([(tf.ones((2, 3)), weight)])
    np.testing.assert_allclose(1 - weight.numpy(), [[0.1] * 3, [0.2] * 3], rtol=1e-5)
    clipped = memberwise(keras.optimizers.Adam)(0.1, shares=(tf.Variable(1.0),), clipnorm=1.0)
    assert update_of(clipped, keras.optimizers.Adam) is None
    assert update_of(clipped, keras.optimizers.SGD) is None


def test_a_stopped_member_keeps_its_weights():
    active = tf.Variable(0.0)
    for kind in UPDATES:
        weights = _weights()
        found, _ = _trained(memberwise(kind)(0.1, shares=(tf.Variable(1.0), active)), weights)
        for one, other in zip(found, _weights(), strict=True):
            np.testing.assert_array_equal(one, other.numpy())
