"""Figures of merit and what is made of several, against other packages and by hand; labels only where they are asked for."""

import itertools

import numpy as np
import pytest
from linear_model import Linear
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

import tuning
import zoo
from pipelines import Events, InputError, plots
from tuning import objectives, pareto
from tuning.objectives import Objective
from tuning.results import load_results
from zoo import registry
from zoo.inputs import Inputs


class Told:
    """A model that scores and reconstructs what it is told to."""

    score_kinds, undirected = ("told",), ()

    def __init__(self, score=None, reconstruction=None, inputs=None, columns=()):
        self._score = None if score is None else np.asarray(score)
        self._reconstruction, self.resolved_columns = reconstruction, columns
        self.inputs = inputs or Inputs(tuple(columns))

    def score(self, events, per_member=False):
        each = np.atleast_2d(self._score)
        return each if per_member else each.mean(0)

    def results(self, events, names):
        return {"told": self._score, "reconstructed": self._reconstruction}


@pytest.fixture(scope="module")
def labelled():
    label = np.repeat([0, 1, 2], [600, 100, 50])
    x = np.random.default_rng(0).normal(size=(750, 2)) + label[:, None]
    return Events.from_arrays(
        x, np.full(750, 3e3), ["a", "b"], label=label, label_names={0: "QCD", 1: "two-prong", 2: "W'"}
    )


def stability(scores):
    return objectives.stability(Told(scores), None, {})


# -- stability -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [2, 3, 6])
def test_stability_is_the_root_of_one_minus_the_mean_spearman_correlation(members):
    rng = np.random.default_rng(members)
    scores = rng.normal(size=(members, 4000)) + 0.8 * rng.normal(size=4000)
    pairs = [spearmanr(scores[i], scores[j]).statistic for i, j in itertools.combinations(range(members), 2)]
    assert stability(scores) == pytest.approx(np.sqrt(1 - np.mean(pairs)), rel=1e-3)


def test_stability_is_zero_for_members_that_agree_in_all_but_units():
    score = np.random.default_rng(0).normal(size=500)
    assert stability(np.stack([score, np.exp(score), 7 * score - 3])) < 1e-12


def test_stability_is_one_for_members_that_have_nothing_in_common_and_root_two_for_opposite_ones():
    scores = np.random.default_rng(1).normal(size=(8, 20_000))
    assert abs(stability(scores) - 1.0) < 0.01
    assert abs(stability(np.stack([scores[0], -scores[0]])) - np.sqrt(2)) < 1e-3


def test_one_member_has_nothing_to_differ_from():
    with pytest.raises(InputError, match="there is 1; give each trial some, as by members=4"):
        stability(np.arange(10.0))
    with pytest.raises(InputError, match="members=4"):
        Objective.parse("stability").check(None, zoo.get("ae"))


# -- truth -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label, number", [("1", 1), ("two-prong", 1), ("W'", 2)])
def test_auc_is_one_minus_the_area_for_one_signal_against_background_never_turned_around(labelled, label, number):
    score = labelled.read("features")[:, 0].astype(float)
    chosen = np.isin(labelled.label, [0, number])
    expected = 1 - roc_auc_score(labelled.label[chosen] == number, score[chosen])
    objective = Objective.parse(f"auc:{label}")
    assert objective(Told(score), labelled, {})["objective"] == pytest.approx(expected)
    assert objective(Told(-score), labelled, {})[f"1-auc:{label}"] == pytest.approx(1 - expected)


@pytest.mark.parametrize("label", ["3", "0", "QCD", "three-prong"])
def test_labels_that_are_no_signal_there_are_refused_with_those_that_are(labelled, label):
    with pytest.raises(InputError, match=r"0 \(QCD\), 1 \(two-prong\), 2 \(W'\); expected a signal"):
        Objective.parse(f"auc:{label}").check(labelled, 1)


def test_auc_of_events_without_labels_is_refused_before_the_search(labelled):
    with pytest.raises(InputError, match="auc:1 needs labels"):
        Objective.parse("sculpting+auc:1").check(labelled.without_labels(), 1)
    Objective.parse("sculpting+auc:1").check(labelled, 1)
    with pytest.raises(InputError, match="expected a signal and 0"):
        Objective.parse("auc:1").check(labelled.select(label=1), 1)


def test_truth_is_announced_wherever_it_is_used_and_nowhere_else():
    for text in ("auc:1", "reconstruction+2*auc:two-prong", "pareto:sculpting,auc:1"):
        assert Objective.parse(text).uses_truth and Objective.parse(text).notice.startswith("TRUTH USED")
    assert not Objective.parse("reconstruction+stability").uses_truth


# -- reconstruction ----------------------------------------------------------------------------------------


def test_reconstruction_of_objects_counts_in_spreads_of_every_slot_and_column():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3000, 3, 2)).astype("f4") * [[1, 100]] * [[[1], [5], [0]]]  # the last slot is always empty
    events = Events.from_arrays(None, np.full(3000, 3e3), (), objects=x, object_columns=("pt", "eta"))
    inputs = Inputs((), ("pt", "eta"), 3)
    off = x + 0.5 * x.std(0)
    found = objectives.reconstruction(Told(None, off, inputs), events, {})
    assert found == pytest.approx(0.5, rel=1e-3)
    assert objectives.reconstruction(Told(None, np.stack([off, x]), inputs), events, {}) == pytest.approx(
        0.25, rel=1e-3
    )


@pytest.mark.parametrize(
    "options, slots", [({}, 39), ({"truncated": True}, 22), ({"particle_features": ("pt", "type")}, 39)]
)
def test_reconstruction_of_particles_is_of_the_slots_and_columns_that_the_model_takes(options, slots):
    rng = np.random.default_rng(3)
    x = rng.normal(1.0, 1.0, size=(40, 39, 5)).astype("f4")
    columns = ("E", "pt", "eta", "phi", "type")
    events = Events.from_arrays(None, np.full(40, 3e3), (), objects=x, object_columns=columns)
    model = zoo.get("conv_vae", channels=(2,), heights=(3,), widths=(4,), latent_dim=2, **options)
    model.adapt(events)
    chosen = [columns.index(name) for name in options.get("particle_features", columns[:4])]
    taken = x[:, list(model.places)][..., chosen].reshape(40, -1).astype(float)
    off = model.results(events, ["reconstructed"])["reconstructed"].reshape(40, -1) - taken
    expected = np.sqrt(((off / taken.std(0)) ** 2).mean(1)).mean()
    assert len(model.places) == slots and objectives.reconstruction(model, events, {}) == pytest.approx(expected)


# -- several at once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["pareto:", "pareto:reconstruction", "pareto:reconstruction,reconstruction", "pareto:reconstruction,2*sculpting",
     "pareto:reconstruction,auc", "pareto:reconstruction+sculpting", "auc:", "2*auc", "stability*2"],
)  # fmt: skip
def test_objectives_that_cannot_be_read_are_refused(text):
    with pytest.raises(InputError, match="expected"):
        Objective.parse(text)


FOUND = [(1.0, 9.0), (2.0, 3.0), (9.0, 1.0), (9.0, 9.0), (3.0, 2.5)]
METRICS = [{"reconstruction": a, "sculpting": b, "objective": a + b} for a, b in FOUND]


def test_a_sum_orders_by_the_number_and_pareto_by_fronts_and_room():
    total, both = Objective.parse("reconstruction+sculpting"), Objective.parse("pareto:reconstruction,sculpting")
    assert total.order(METRICS) == [1, 4, 0, 2, 3] and total.best(METRICS) == 1
    assert total.scores(METRICS) == [10.0, 5.0, 10.0, 18.0, 5.5]
    assert both.order(METRICS) == pareto.order(np.array(FOUND)).tolist() and both.order(METRICS)[-1] == 3
    assert both.best(METRICS) == pareto.knee(np.array(FOUND)) == 1
    assert both.scores(METRICS) == pareto.scalarise(np.array(FOUND)).tolist()
    assert total.order([]) == both.order([]) == both.scores([]) == []


def test_a_pareto_objective_is_not_a_number_where_one_of_its_terms_is_none(labelled):
    both = Objective.parse("pareto:sculpting,val_loss")
    x = labelled.read("features")[:, 0].astype(float)
    spread = Events.from_arrays(np.c_[x, x], np.random.default_rng(0).uniform(2e3, 5e3, 750), ["a", "b"])
    found = both(Told(x), spread, {"val_loss": [3.0]})
    assert found["objective"] == pytest.approx(3.0 + 0.05 * (3.0 + found["sculpting"]))
    assert np.isnan(both(Told(x), spread, {"val_loss": [np.nan]})["objective"])


# -- in a search ---------------------------------------------------------------------------------------------


def test_a_search_by_truth_judges_with_labels_trains_without_and_says_so(train_events, tmp_path, monkeypatch):
    zoo.names()
    monkeypatch.setattr(registry, "_models", dict(registry._models))
    monkeypatch.setattr(plots, "plot_history", lambda rows, path: None)
    registry.register("linear")(Linear)
    trained = []
    batches = Linear.batches
    monkeypatch.setattr(
        Linear, "batches", lambda self, events, *a, **o: trained.append(events) or batches(self, events, *a, **o)
    )
    results = tuning.search(
        "linear", train_events.sample(500), trials=1, max_epochs=1, out=tmp_path / "out", objective="auc:1",
        fixed={"units": 2}, jit_compile=False,
    )  # fmt: skip
    assert results.truth_used and results.to_json()["truth_used"]
    assert 0 < results.best["metrics"]["1-auc:1"] < 1
    assert {len(events) for events in trained} == {400, 100} and not any(events.has_labels for events in trained)
    assert zoo.run.read_config(tmp_path / "out" / "best")["tuning"]["truth_used"]
    assert load_results(tmp_path / "out").to_csv().splitlines()[1].endswith(",True")
