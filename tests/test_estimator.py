"""The zoo as scikit-learn has its outlier detectors: its own checks, its signs, tables of all kinds by name."""

import pickle

import awkward as ak
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

import zoo
from pipelines import InputError
from zoo import estimator
from zoo.tables import column_names

COLUMNS = ["mass_1", "mass_2", "tau21_1"]
SMALL_AE = {"encoder_units": (4, 2), "batch_size": 64, "epochs": 2, "jit_compile": False}


def expected_failures(one):
    rounded = estimator.CANNOT_HOLD_OF_NETWORKS if type(one).__name__ == "VaeEstimator" else {}
    return {**estimator.CANNOT_HOLD, **rounded}


QUICK = ("check_estimators_dtypes", "check_fit_score_takes_y", "check_n_features_in", "check_outliers_train",
         "check_no_attributes_set_in_init", "check_parameters_default_constructible", "check_get_params_invariance",
         "check_set_params", "check_estimators_nan_inf", "check_fit1d", "check_fit2d_predict1d")  # fmt: skip


SMALL = [
    zoo.as_estimator("pca", latent_dim=1),
    zoo.as_estimator("isolation_forest", trees=10),
    zoo.as_estimator("knn", neighbours=2, sample=1000),
    zoo.as_estimator("ae", encoder_units=(1,), epochs=2, jit_compile=False),
    zoo.as_estimator("vae", units=(4,), epochs=2, decoder_epochs=1, jit_compile=False),
    zoo.as_estimator("gan_ae", ae_units=4, latent_dim=1, d_units=(4,), cycles=1, d_epochs=1, ae_epochs=1, pretraining_epochs=1,
                     alpha=0.0, flat_mass=False, jit_compile=False),
]  # fmt: skip


@pytest.mark.slow
@parametrize_with_checks(SMALL, expected_failed_checks=expected_failures)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
def test_scores_of_a_vae_are_the_same_but_for_rounding_in_any_order_and_alone(x):
    detector = clone(SMALL[4]).fit(x)
    scores, order = detector.score_samples(x), np.random.default_rng(1).permutation(len(x))
    np.testing.assert_allclose(detector.score_samples(x[order]), scores[order], rtol=0, atol=2e-6)
    alone = np.concatenate([detector.score_samples(one[None]) for one in x[:20]])
    np.testing.assert_allclose(alone, scores[:20], rtol=0, atol=2e-6)


CHECKS = [
    pytest.param(one, check, id=check.func.__name__)
    for one, check in estimator_checks_generator(zoo.as_estimator("pca", latent_dim=1))
    if check.func.__name__ in QUICK
]


@pytest.mark.parametrize("estimator, check", CHECKS)
def test_scikit_learn_checks_that_are_quick(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32) * [100, 200, 0.3]


@pytest.fixture(scope="module")
def fitted(x):
    return zoo.as_estimator("pca", latent_dim=1, contamination=0.05).fit(pd.DataFrame(x, columns=COLUMNS))


def test_signs_are_those_of_an_isolation_forest(x, fitted):
    table = pd.DataFrame(x, columns=COLUMNS)
    forest = IsolationForest(contamination=0.05, random_state=0).fit(x)
    far = table.iloc[:1] + 1e4
    far["mass_1"] *= -1
    for detector, near, out in ((forest, x, far.to_numpy()), (fitted, table, far)):
        decision = detector.decision_function(near)
        np.testing.assert_allclose(decision, detector.score_samples(near) - detector.offset_)
        np.testing.assert_array_equal(detector.predict(near), np.where(decision < 0, -1, 1))
        assert (detector.predict(near) == -1).sum() == 20 and detector.predict(out) == [-1]
        assert detector.score_samples(out) < np.median(detector.score_samples(near))
    np.testing.assert_array_equal(fitted.score_samples(table), -fitted.model_.score(x).astype(float))


def tables(x, order):
    """The same numbers as tables of all kinds, columns in another order and one more."""
    columns = {COLUMNS[k]: x[:, k] for k in order} | {"more": np.full(len(x), 7.0)}
    yield pd.DataFrame(columns)
    yield pa.table(columns)
    yield ak.Array(columns)
    yield np.rec.fromarrays(list(columns.values()), names=list(columns))
    yield OnlyArrow(pa.table(columns))
    yield OnlyInterchange(pa.table(columns))


class OnlyArrow:
    """A table that is known by Arrow's protocol alone, as that of a package which this one has never heard of."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


class OnlyInterchange:
    """A table that is known by the DataFrame interchange protocol alone."""

    def __init__(self, table):
        self._table = table

    def __dataframe__(self, nan_as_null=False, allow_copy=True):
        return self._table.__dataframe__(allow_copy=allow_copy)


def test_columns_of_tables_go_by_their_names(x, fitted):
    expected = fitted.score_samples(pd.DataFrame(x, columns=COLUMNS))
    assert fitted.feature_names_in_.tolist() == COLUMNS == list(fitted.model_.resolved_columns)
    for table in tables(x, (2, 0, 1)):
        assert set(column_names(table)) == {*COLUMNS, "more"}
        np.testing.assert_array_equal(fitted.score_samples(table), expected)
        np.testing.assert_array_equal(fitted.model_.score(table), -expected.astype(np.float32))


def test_polars_tables_go_by_their_names(x, fitted):
    polars = pytest.importorskip("polars")
    table = polars.DataFrame({COLUMNS[k]: x[:, k] for k in (2, 0, 1)})
    expected = fitted.score_samples(pd.DataFrame(x, columns=COLUMNS))
    np.testing.assert_array_equal(fitted.score_samples(table), expected)
    np.testing.assert_array_equal(clone(fitted).fit(table.select(COLUMNS)).score_samples(table), expected)


@pytest.fixture(scope="module")
def plain_scores(x):
    return zoo.as_estimator("pca", latent_dim=1).fit(x).score_samples(x)


@pytest.mark.parametrize("kind", range(6))
def test_every_kind_of_table_is_learnt_from(kind, x, plain_scores):
    table = list(tables(x, (0, 1, 2)))[kind]
    found = zoo.as_estimator("pca", latent_dim=1, mass_column="more").fit(table)
    assert found.feature_names_in_.tolist() == COLUMNS
    np.testing.assert_array_equal(found.score_samples(table), plain_scores)


def test_masses_are_those_of_a_column_or_given(x):
    mass = np.linspace(3000, 4000, len(x))
    table = pd.DataFrame({**dict(zip(COLUMNS, x.T)), "m_jj": mass})
    given = {"window": (3300, 3700), "epochs": 1, "batch_size": 128, "jit_compile": False, "folds": 2}
    by_column = zoo.as_estimator("cwola", **given, mass_column="m_jj").fit(table)
    by_argument = zoo.as_estimator("cwola", **given).fit(table[COLUMNS], mass=mass)
    np.testing.assert_array_equal(by_column.score_samples(table), by_argument.score_samples(table))
    with pytest.raises(InputError, match="cwola needs a signal region"):
        zoo.as_estimator("cwola").fit(x)
    with pytest.raises(InputError, match="X is no table"):
        zoo.as_estimator("cwola", **given, mass_column="m_jj").fit(x)


def test_parameters_are_the_hyperparameters(x):
    detector = zoo.as_estimator("ae", **SMALL_AE, contamination=0.2)
    assert detector.get_params().items() >= {**SMALL_AE, "contamination": 0.2, "columns": ("*",)}.items()
    assert clone(detector).get_params() == detector.get_params()
    assert detector.set_params(batch_size=32).batch_size == 32
    assert zoo.as_estimator("gan_ae", "lhco2020").alpha == zoo.get("gan_ae", "lhco2020").hp.alpha
    with pytest.raises(InputError, match=r"'latent_dims' of 'pca' is not known; .*latent_dim"):
        zoo.as_estimator("pca", latent_dims=2)
    with pytest.raises(InputError, match="preset 'none' of 'pca' is not known"):
        zoo.as_estimator("pca", "none")
    with pytest.raises(InputError, match="gcn_vae takes objects"):
        zoo.as_estimator("gcn_vae")
    with pytest.raises(InputError, match="ddp reads spectra"):
        zoo.as_estimator("ddp")
    with pytest.raises(InputError, match=r"contamination=0.9, expected a number in \(0, 0.5\]"):
        zoo.as_estimator("pca", contamination=0.9).fit(x)


def test_untrained_estimators_go_to_other_processes(x):
    detector = pickle.loads(pickle.dumps(zoo.as_estimator("pca", latent_dim=1)))
    assert type(detector) is estimator.estimator_class("pca") and detector.latent_dim == 1
    with pytest.raises(InputError, match="pickle does not work for models of the zoo"):
        pickle.dumps(detector.fit(x))


def test_what_a_table_lacks_is_told(x, fitted):
    with pytest.raises(InputError, match="X has no column 'tau21_1'; it has mass_1, mass_2"):
        fitted.score_samples(pd.DataFrame(x[:, :2], columns=COLUMNS[:2]))
    with pytest.raises(InputError, match="the columns of X are no numbers"):
        fitted.score_samples(pd.DataFrame({name: ["a", "b"] for name in COLUMNS}))
    with pytest.raises(InputError, match="the columns of X are no numbers"):
        fitted.score_samples(ak.Array({name: [[1.0], [2.0, 3.0]] for name in COLUMNS}))


def test_a_model_that_scores_by_the_mass_is_refused_at_once():
    with pytest.raises(InputError, match="as_estimator: lacathode scores by the mass too"):
        zoo.as_estimator("lacathode", window=(3300, 3700))
