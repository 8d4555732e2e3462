"""Models without gradient steps: against scikit-learn, on the same events."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

import pipelines
import zoo
from pipelines import Events, InputError

COLUMNS = ("mass_*", "tau21_*", "pt_1")
GIVEN = {"columns": COLUMNS, "batch_size": 256, "seed": 5}


@pytest.fixture(scope="module")
def events():
    found = pipelines.open("lhco_sim_train").select(mass_range=(2700, 5000)).sample(1500, seed=1)
    return found.in_memory()


def fitted(name, events, **given):
    model = zoo.get(name, **{**GIVEN, **given})
    model.fit(events, verbose=0, jit_compile=False)
    return model, StandardScaler().fit_transform(events.read("features", model.resolved_columns).astype(np.float64))


def test_pca_is_scikit_learns(events):
    model, x = fitted("pca", events, latent_dim=2)
    theirs = PCA(2, svd_solver="full").fit(x)
    residual = x - theirs.inverse_transform(theirs.transform(x))
    np.testing.assert_allclose(model.score(events), (residual**2).mean(axis=1), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(np.abs(model.components.numpy().T), np.abs(theirs.components_), atol=1e-3)


def test_pca_takes_event_weights_as_so_many_events(events):
    twice = np.random.default_rng(0).integers(1, 3, len(events))
    rows = np.repeat(np.arange(len(events)), twice)
    arrays = {"mass": events.mass, "columns": events.columns}
    weighted = Events.from_arrays(events.read("features"), weight=twice, **arrays)
    arrays["mass"] = events.mass[rows]
    repeated = Events.from_arrays(events.read("features")[rows], **arrays)
    found, expected = (zoo.get("pca", **GIVEN, latent_dim=2) for _ in range(2))
    expected.fit(repeated, verbose=0, jit_compile=False)
    found.adapt(repeated)  # the scaling of an event does not depend on its weight
    found.fit(weighted, verbose=0, jit_compile=False)
    np.testing.assert_allclose(found.components, expected.components, atol=1e-4)


def test_pca_refuses_as_many_components_as_features(events):
    with pytest.raises(InputError, match=r"latent_dim=5 is not possible for 5 features.*at most 4"):
        fitted("pca", events, latent_dim=5)


def test_nearest_neighbours_are_scikit_learns(events):
    model, x = fitted("knn", events, neighbours=4)
    others = pipelines.open("lhco_sim_test").sample(1200, seed=2)  # more than are worked out at a time
    there = others.read("features", model.resolved_columns).astype(np.float64)
    y = (there - model.scaler.shift.numpy()) / model.scaler.scale.numpy()
    distance, _ = NearestNeighbors(n_neighbors=4, algorithm="brute").fit(x).kneighbors(y)
    np.testing.assert_allclose(model.score(others), distance.mean(axis=1), rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(model.score(others.take(np.arange(7))), model.score(others)[:7], rtol=1e-5)


def test_nearest_neighbours_need_as_many_events(events):
    with pytest.raises(InputError, match="neighbours=20 is not possible; expected at most sample=10"):
        zoo.get("knn", neighbours=20, sample=10)
    with pytest.raises(InputError, match="300 events, expected at least neighbours=400"):
        zoo.get("knn", **GIVEN, neighbours=400).check_enough(events.take(np.arange(300)))


def test_isolation_forest_is_scikit_learns(events):
    model, _ = fitted("isolation_forest", events, trees=30, subsample=128)
    x = model.scaler(tf.constant(events.read("features", model.resolved_columns))).numpy()
    theirs = IsolationForest(n_estimators=30, max_samples=128, random_state=5).fit(x)
    np.testing.assert_allclose(model.score(events), -theirs.score_samples(x), rtol=1e-5)
    with pytest.raises(InputError, match="1500 events, expected at least subsample=2048"):
        zoo.get("isolation_forest", **GIVEN, subsample=2048).check_enough(events)
    with pytest.raises(InputError, match="subsample=256 is not possible; expected at most sample=100"):
        zoo.get("isolation_forest", **GIVEN, sample=100).check_enough(events)


@pytest.mark.parametrize(
    ("name", "more"), [("pca", {"latent_dim": 2}), ("knn", {}), ("isolation_forest", {"trees": 10, "subsample": 64})]
)
def test_members_have_samples_of_their_own_and_are_the_plain_models_of_their_seeds(name, more, events):
    group, _ = fitted(name, events, members=2, sample=400, **more)
    each = group.score(events, per_member=True)
    assert np.abs(each[0] - each[1]).max() > 1e-3
    for member in range(2):
        plain, _ = fitted(name, events, sample=400, **{**more, "seed": 5 + member})
        np.testing.assert_allclose(each[member], plain.score(events), rtol=1e-4, atol=1e-5)
