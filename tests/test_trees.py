"""Boosted trees as classifiers of a window: the trees of scikit-learn as arrays, by folds, saved and exported."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.ensemble import HistGradientBoostingClassifier

import zoo
from pipelines import Events
from pipelines.metrics import auc
from zoo import conformance
from zoo.layers.random import fold_of
from zoo.layers.trees import BoostedTrees, grown

WINDOW = (3300, 3700)
SMALL = {
    "window": WINDOW, "columns": ("*",), "batch_size": 512, "folds": 3, "classifier": "trees", "trees": 20, "leaves": 8,
}  # fmt: skip


def toy(size=3000, signal=0.0, seed=0):
    """Background of two Gaussian features, whatever its mass; signal elsewhere in them, in the window alone."""
    rng = np.random.default_rng(seed)
    masses = 2700 + rng.exponential(700, size)
    x, label = rng.normal(size=(size, 2)), np.zeros(size, "int8")
    there = rng.random(size) < signal
    masses[there], label[there] = rng.uniform(*WINDOW, there.sum()), 1
    x[there] = x[there] * 0.3 + 2.0
    return Events.from_arrays(x, masses, ["a", "b"], label=label, mass_column="m")


@pytest.fixture(scope="module")
def trained():
    model = zoo.get("cwola", **SMALL, members=2, seed=1)
    model.fit(toy(signal=0.1), verbose=0, jit_compile=False)
    return model


def test_arrays_give_what_scikit_learn_gives():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3)).astype(np.float32).round(1)  # with many equal values, also at thresholds
    y, weight = x[:, 0] * x[:, 1] + rng.normal(size=4000) > 0, rng.exponential(size=4000)
    for held_out in (0.1, 0.0):
        found = grown(x, y, weight, trees=30, leaves=12, seed=5, held_out=held_out)
        theirs = HistGradientBoostingClassifier(
            max_iter=30, max_leaf_nodes=12, random_state=5, early_stopping=held_out > 0,
            validation_fraction=held_out or None,
        ).fit(x, y, sample_weight=weight)  # fmt: skip
        layer = BoostedTrees(30, 12, (2,))
        layer.assign([found, {**found, "base": found["base"] + 1}])
        group = rng.integers(0, 2, 4000)
        expected = theirs.decision_function(x) + group
        np.testing.assert_allclose(layer(x, tf.constant(group)), expected, rtol=1e-4, atol=1e-5)


def test_trees_find_signal_without_labels_and_an_event_is_scored_by_trees_that_have_not_seen_it(trained):
    events = toy(2000, signal=0.3, seed=5)
    score = trained.score(events)
    assert auc(score[events.label == 0], score[events.label == 1]) > 0.95
    folds = fold_of(tf.constant(events.read("features")), 3).numpy()
    kept = trained.forest.base.numpy()
    for fold in range(3):
        changed = kept.copy()
        changed[:, fold] += 1.0
        trained.forest.base.assign(changed)
        np.testing.assert_array_equal(trained.score(events) != score, folds == fold)
    trained.forest.base.assign(kept)


def test_trees_are_the_same_where_steps_are_compiled_by_xla(trained):
    model = zoo.get("cwola", **SMALL, members=2, seed=1)
    model.fit(toy(signal=0.1), verbose=0, jit_compile=True)
    np.testing.assert_array_equal(model.forest.nodes, trained.forest.nodes)


def test_trees_of_a_fold_do_not_depend_on_its_events():
    events, nodes = toy(1500, signal=0.1), []
    x = events.read("features")
    fold = fold_of(tf.constant(x), 3).numpy()
    for others in (1.0, 7.0):  # what the events of fold 1 count
        weight = np.where(fold == 1, others, 1.0)
        model = zoo.get("cwola", **SMALL, seed=2)
        model.fit(
            Events.from_arrays(x, events.mass, events.columns, weight=weight, mass_column="m"),
            verbose=0,
            jit_compile=False,
        )
        nodes.append(model.forest.nodes.numpy())
    same = [np.allclose(nodes[0][k, ..., 0], nodes[1][k, ..., 0]) for k in range(3)]
    assert same == [False, True, False]


FAST = ("a saved run has the same scores", "export gives the same scores from raw features")
SLOW = ("training records every epoch of every phase", "reset starts over exactly", "labels never train", "config round trip",
        "training goes on from a state as if it had not stopped")  # fmt: skip


@pytest.mark.parametrize("claim", [*FAST, *(pytest.param(claim, marks=pytest.mark.slow) for claim in SLOW)])
def test_cwola_with_trees_keeps_the_contract(claim, subject, tmp_path):
    conformance.CHECKS[claim](subject, tmp_path)


@pytest.fixture(scope="module")
def subject():
    return conformance.Subject("cwola", {"classifier": "trees", "leaves": 6, "trees": 10})


def test_trees_in_the_latent_space_and_against_samples():
    for name in ("cathode", "lacathode"):
        model = zoo.get(name, **SMALL, num_flows=1, flow_width=8, density_epochs=2, members=2)
        model.fit(toy(signal=0.1), verbose=0, jit_compile=False)
        events = toy(1000, signal=0.3, seed=5)
        score = model.score(events, per_member=True)
        assert auc(score.mean(axis=0)[events.label == 0], score.mean(axis=0)[events.label == 1]) > 0.8, name
        assert (score[0] != score[1]).any() and list(model.histories) == ["density", "training"]
