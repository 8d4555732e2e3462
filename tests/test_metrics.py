"""Figures of merit against closed forms, scikit-learn and scipy, and against what chance alone gives."""

import json

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from pipelines import Events, InputError
from pipelines.metrics import (
    above_floor,
    auc,
    evaluate,
    js_distance,
    js_floor,
    sculpting,
    signal_efficiency,
    significance_improvement,
)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def mass(rng):
    return (2700 + rng.exponential(600, 20_000)).astype(np.float32)


def test_height_above_the_floor_is_in_its_standard_deviations_and_none_where_it_has_none():
    assert above_floor(0.5, 0.25, 0.125) == 2 and above_floor(0.25, 0.5, 0.125) == -2
    assert above_floor(0.5, 0.25, 0.0) is above_floor(0.25, 0.25, 0.0) is None
    assert js_floor(np.full(100, 3.0), 10, np.array([2.0, 4.0])) == (0, 0)  # one bin: all selections are alike


# -- AUC and efficiencies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("separation", [-1.0, 0.0, 0.5, 2.0])
def test_auc_of_two_gaussians_is_the_closed_form(separation, rng):
    """P(signal > background) = Phi(d / sqrt 2) for unit Gaussians d apart."""
    background, signal = rng.normal(size=40_000), rng.normal(separation, size=40_000)
    assert auc(background, signal) == pytest.approx(norm.cdf(separation / np.sqrt(2)), abs=0.008)


def test_auc_counts_ties_half_as_scikit_learn_does(rng):
    background, signal = rng.integers(0, 5, 300), rng.integers(1, 6, 200)
    pairs = signal[:, None] - background[None, :]
    assert auc(background, signal) == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))
    truth = np.r_[np.zeros(300), np.ones(200)]
    assert auc(background, signal) == pytest.approx(roc_auc_score(truth, np.r_[background, signal]))


def test_auc_of_an_inverted_score_is_not_flipped(rng):
    background, signal = rng.normal(size=1000), rng.normal(1, size=1000)
    assert auc(-background, -signal) == pytest.approx(1 - auc(background, signal)) and auc(-background, -signal) < 0.5


@pytest.mark.parametrize("eps", [0.1, 0.01, 0.001])
def test_signal_efficiency_is_on_the_roc_curve(eps, rng):
    background, signal = rng.normal(size=50_000), rng.normal(1.5, size=50_000)
    fpr, tpr, _ = roc_curve(
        np.r_[np.zeros(50_000), np.ones(50_000)], np.r_[background, signal], drop_intermediate=False
    )
    assert signal_efficiency(background, signal, eps) == pytest.approx(np.interp(eps, fpr, tpr), abs=1e-3)
    assert signal_efficiency(background, signal, eps) == pytest.approx(norm.sf(norm.isf(eps) - 1.5), abs=0.02)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_score_that_is_not_finite_is_counted_and_refused(bad, rng, mass):
    score = rng.normal(size=len(mass))
    score[[4, 9]] = bad
    events = Events.from_arrays(np.zeros((len(mass), 1)), mass, ["x"], label=np.arange(len(mass)) % 2)
    for judge in (
        lambda: auc(score, score + 1),
        lambda: auc(score + 1, score),
        lambda: signal_efficiency(score, score, 0.1),
        lambda: sculpting(score, mass),
        lambda: evaluate(score, events),
        lambda: evaluate(score, events.without_labels()),
    ):
        with pytest.raises(InputError) as error:
            judge()
        assert "scores are NaN or infinite" in str(error.value) and "\n" not in str(error.value)


def test_no_scores_at_all_are_refused():
    for judge in (lambda: auc(np.zeros(0), np.ones(3)), lambda: auc(np.ones(3), np.zeros(0))):
        with pytest.raises(InputError, match="no scores"):
            judge()


# -- shape of the mass spectrum ------------------------------------------------------------------------------


def test_js_distance_is_scipys_and_the_formula(rng, mass):
    edges = np.linspace(2700, 7000, 30)
    selected = rng.random(len(mass)) < (mass / 8000)
    p, q = np.histogram(mass, edges)[0], np.histogram(mass[selected], edges)[0]
    found = js_distance(mass, selected, edges)
    assert found == pytest.approx(jensenshannon(p, q, base=2))

    def entropy(x):
        x = x[x > 0] / x.sum()
        return -np.sum(x * np.log2(x))

    p, q = p / p.sum(), q / q.sum()
    assert found**2 == pytest.approx(entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2)


def test_js_distance_is_zero_for_all_events_and_near_one_for_a_rare_bin(mass):
    edges = np.linspace(2700, 10_000, 41)
    assert js_distance(mass, np.ones(len(mass), bool), edges) == 0
    far = np.r_[mass, 9999.0]
    assert 0.95 < js_distance(far, far > 9900, edges) <= 1


def test_js_distance_without_events_in_the_range_is_refused(mass):
    for selected, edges in ((np.zeros(len(mass), bool), [2700, 5000]), (np.ones(len(mass), bool), [10, 20])):
        with pytest.raises(InputError, match="no events within"):
            js_distance(mass, selected, np.array(edges))


@pytest.mark.parametrize("count", [200, 10_000])
@pytest.mark.parametrize("edges", [np.linspace(2700, 9000, 41), np.linspace(3000, 4000, 11)])
def test_floor_is_the_distance_of_random_selections(count, edges, mass, rng):
    """Drawing events, as here, and drawing the contents of bins, as `js_floor` does, are the same lottery."""
    drawn = []
    for _ in range(200):
        chosen = np.zeros(len(mass), bool)
        chosen[rng.choice(len(mass), count, replace=False)] = True
        drawn.append(js_distance(mass, chosen, edges))
    floor, std = js_floor(mass, count, edges, seed=1, draws=200)
    assert floor == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / np.sqrt(100))
    assert std == pytest.approx(np.std(drawn), rel=0.3)
    assert np.mean(np.abs(np.array(drawn) - floor) < 4 * std) > 0.99
    assert js_floor(mass, count, edges, seed=1) == js_floor(mass, count, edges, seed=1)


def test_floor_falls_as_more_events_are_selected(mass):
    edges = np.linspace(2700, 9000, 41)
    floors = [js_floor(mass, count, edges)[0] for count in (100, 1000, 10_000, len(mass))]
    assert floors[0] > floors[1] > floors[2] > floors[3] == 0


def test_score_that_knows_nothing_of_the_mass_is_at_the_floor(mass, rng):
    for at in sculpting(rng.normal(size=len(mass)), mass).values():
        assert abs(at["distance"] - at["floor"]) < 4 * at["floor_std"]


def test_score_that_is_the_mass_sculpts(mass):
    found = sculpting(mass, mass)
    assert list(found) == ["50", "85", "95", "99"]
    assert [at["events"] for at in found.values()] == pytest.approx([10_000, 3000, 1000, 200], abs=2)
    for at in found.values():
        assert at["distance"] > 0.4 and at["distance"] > at["floor"] + 20 * at["floor_std"]
    assert found["99"]["distance"] > found["50"]["distance"]


def test_weak_sculpting_is_seen_above_the_floor(mass, rng):
    at = sculpting(rng.normal(size=len(mass)) + (mass - mass.mean()) / mass.std() / 4, mass)["85"]
    assert at["distance"] > at["floor"] + 5 * at["floor_std"]


@pytest.mark.parametrize("score", [np.zeros(20_000), np.r_[np.zeros(10), np.ones(19_990)]])
def test_constant_scores_are_refused(score, mass):
    with pytest.raises(InputError) as error:
        sculpting(score, mass)
    assert "(nearly) constant" in str(error.value)


# -- everything together ------------------------------------------------------------------------------------


@pytest.fixture
def judged(mass, rng):
    label = rng.choice(np.array([0] * 8 + [1, 2], np.int8), len(mass))
    names = {0: "background", 1: "two-prong", 2: "three-prong"}
    score = rng.normal(size=len(mass)) + np.array([0, 2, 1])[label]
    events = Events.from_arrays(np.zeros((len(mass), 1)), mass, ["x"], label=label, label_names=names)
    return score, events


def test_evaluation_is_json_with_exactly_these_keys(judged):
    found = evaluate(*judged)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found) == [
        "auc", "signal_efficiency", "improvement", "sculpting", "weights", "events", "label_names",
    ]  # fmt: skip
    assert list(found["auc"]) == list(found["signal_efficiency"]) == ["1", "2"]
    assert all(list(at) == ["0.1", "0.01", "0.001"] for at in found["signal_efficiency"].values())
    assert list(found["sculpting"]) == ["50", "85", "95", "99"]
    assert all(list(at) == ["distance", "floor", "floor_std", "events"] for at in found["sculpting"].values())
    assert list(found["events"]) == list(found["label_names"]) == ["0", "1", "2"]


def test_evaluation_judges_each_signal_against_the_background_alone(judged):
    score, events = judged
    label, found = events.label, evaluate(score, events)
    for k, separation in (("1", 2), ("2", 1)):
        truth, kept = label == int(k), (label == 0) | (label == int(k))
        assert found["auc"][k] == pytest.approx(roc_auc_score(truth[kept], score[kept]))
        assert found["auc"][k] == pytest.approx(norm.cdf(separation / np.sqrt(2)), abs=0.02)
        assert found["signal_efficiency"][k]["0.1"] == pytest.approx(norm.sf(norm.isf(0.1) - separation), abs=0.05)
    background = label == 0
    assert found["sculpting"] == sculpting(score[background], events.mass[background])
    assert found["events"] == {str(k): int((label == k).sum()) for k in range(3)}


def test_efficiency_at_less_than_one_background_event_is_none(rng):
    label = np.r_[np.zeros(100), np.ones(50)]
    events = Events.from_arrays(np.zeros((150, 1)), rng.uniform(3000, 4000, 150), ["x"], label=label)
    at = evaluate(rng.normal(size=150), events)["signal_efficiency"]["1"]
    assert at["0.001"] is None and at["0.1"] is not None and at["0.01"] is not None


def test_without_labels_all_events_are_looked_at_for_sculpting(judged):
    score, events = judged
    found = evaluate(score, events.without_labels())
    assert found["auc"] == found["signal_efficiency"] == found["events"] == {}
    assert found["sculpting"] == sculpting(score, events.mass)


def test_signal_without_background_is_refused(rng, mass):
    events = Events.from_arrays(np.zeros((len(mass), 1)), mass, ["x"], label=np.ones(len(mass)))
    with pytest.raises(InputError, match=r"no event has label 0.*\[1\]"):
        evaluate(rng.normal(size=len(mass)), events)


@pytest.mark.parametrize("shape", [(19_999,), (20_000, 1)])
def test_scores_of_other_events_are_refused(shape, judged):
    for events in (judged[1], judged[1].without_labels()):
        with pytest.raises(InputError, match=r"expected \(20000,\), one for each event"):
            evaluate(np.zeros(shape), events)


# -- weights -------------------------------------------------------------------------------------------------


@pytest.fixture
def weighted(rng):
    """Scores and whole weights of background and signal."""
    background, signal = rng.normal(size=400), rng.normal(1, size=300)
    return background, signal, (rng.integers(1, 4, 400), rng.integers(1, 4, 300))


def test_weighted_auc_is_scikit_learns(weighted):
    background, signal, weights = weighted
    truth, scores = np.r_[np.zeros(400), np.ones(300)], np.r_[background, signal]
    expected = roc_auc_score(truth, scores, sample_weight=np.concatenate(weights))
    assert auc(background, signal, weights) == pytest.approx(expected)


def test_weight_two_is_the_same_event_twice(weighted):
    background, signal, weights = weighted
    repeated = np.repeat(background, weights[0]), np.repeat(signal, weights[1])
    assert auc(background, signal, weights) == pytest.approx(auc(*repeated))
    alike = tuple(np.full(len(scores), 7.0) for scores in repeated)
    assert signal_efficiency(*repeated, 0.1, alike) == pytest.approx(signal_efficiency(*repeated, 0.1), abs=0.01)
    assert significance_improvement(*repeated, weights=alike) == pytest.approx(significance_improvement(*repeated))


def test_weights_below_zero_take_events_away(weighted):
    """Events that are there once with weight 1 and once with weight -1 are not there."""
    background, signal, weights = weighted
    extra = np.linspace(-3, 3, 50)
    more = np.r_[background, extra, extra], signal
    signed = np.r_[weights[0], np.ones(50), -np.ones(50)], weights[1]
    assert auc(*more, signed) == pytest.approx(auc(background, signal, weights))


def test_weights_that_add_up_to_nothing_are_refused(weighted):
    background, signal, weights = weighted
    with pytest.raises(InputError, match=r"weights add up to -.*ignore the weights"):
        auc(background, signal, (-weights[0], weights[1]))


def test_weighted_sculpting_is_seen_where_the_weights_are(mass, rng):
    """A score that is random is at its floor, also for weights of both signs; one that is the mass is far above."""
    weight = np.where(rng.random(len(mass)) < 0.2, -1.0, 3.0)
    for at in sculpting(rng.normal(size=len(mass)), mass, [50, 85], weight=weight).values():
        assert abs(at["distance"] - at["floor"]) < 4 * at["floor_std"]
    assert sculpting(mass, mass, [85], weight=weight)["85"]["distance"] > 0.5


def test_evaluation_says_whether_events_count_by_weight(weighted):
    background, signal, weights = weighted
    scores, label = np.r_[background, signal], np.repeat([0, 1], [400, 300])
    given = {"features": np.zeros((700, 1)), "mass": 3000 + 10 * np.arange(700.0), "columns": ["x"], "label": label}
    events = Events.from_arrays(**given, weight=np.concatenate(weights))
    found = evaluate(scores, events)
    assert found["weights"] == "used" and found["auc"]["1"] == pytest.approx(auc(background, signal, weights))
    plain = evaluate(scores, events, ignore_weights=True)
    assert plain["weights"] == "ignored" and plain["auc"]["1"] == auc(background, signal)
    assert evaluate(scores, Events.from_arrays(**given))["weights"] == "none"
