"""Validation: sculpting, coverage, injected signal, contamination, stability, and the yardstick that sees labels."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from linear_model import Linear, registered
from scipy import stats

import pipelines
import zoo.cli.main
from pipelines import Events, InputError
from pipelines.bumphunt.bumphunter import inject_by_pybumphunter
from pipelines.bumphunt.search import search
from pipelines.bumphunt.validation import (
    check_ratios,
    contaminated,
    contamination,
    coverage,
    injected,
    needed_yield,
    paper_numbers,
    pybumphunter_injection,
    sculpting_curve,
    spectrum_injection,
    stability,
    supervised,
)
from pipelines.metrics import js_distance
from pipelines.plots import read_numbers
from pipelines.plots.validation import plot_coverage, plot_injection
from zoo import run
from zoo.cli.validate import paper_table

RANGE = (2700, 5000)
HUNT = {"percentiles": [80], "mass_range": RANGE, "bins": 20, "widths": (1, 4)}


def background(events, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=events), 2700 + rng.exponential(500, events)


def sample(events, *, signal=False, seed=0, labels=True):
    rng = np.random.default_rng(seed)
    mass = rng.normal(3600, 60, events) if signal else 2700 + rng.exponential(500, events)
    features = rng.normal(3.0 if signal else 0.0, 1, (events, 2))
    label = np.full(events, int(signal)) if labels else None
    return Events.from_arrays(features, mass, ("x", "y"), label=label)


class Distance:
    """A model: how far an event is from the mean of what it was trained on."""

    def __init__(self, mean=(0.0, 0.0)):
        self.mean = np.asarray(mean)

    def score(self, events):
        return np.square(events.read("features") - self.mean).sum(axis=1)


def train(fold, events):
    return Distance(events.read("features").mean(axis=0))


BACKGROUND, SIGNAL = sample(8000), sample(400, signal=True, seed=1)


# Background


def test_sculpting_of_a_score_that_knows_no_mass_is_its_floor():
    score, mass = background(20_000)
    found = sculpting_curve(score, mass)["upper"]
    pulls = np.array([one["pull"] for one in found.values()])
    assert np.abs(pulls).max() < 4 and "99.5" in found
    edges = np.histogram_bin_edges(mass, 40)
    assert found["90"]["distance"] == pytest.approx(js_distance(mass, score > np.percentile(score, 90), edges))


def test_sculpting_of_a_score_that_follows_the_mass_is_far_above_its_floor():
    score, mass = background(20_000)
    found = sculpting_curve(score + mass / 1000, mass)["upper"]
    assert min(one["pull"] for one in found.values()) > 5
    assert found["99"]["distance"] > found["50"]["distance"]


def test_sculpting_of_the_lower_tail_is_that_of_the_turned_score():
    """This score follows the mass where it is small only, as a KL divergence may."""
    score, mass = background(20_000)
    score = np.where(score < -1, score - mass / 1000, score)
    found = sculpting_curve(score, mass, tails="both", seed=3)
    assert found["lower"] == sculpting_curve(-score, mass, seed=3)["upper"]
    assert found["lower"]["95"]["pull"] > 5 and abs(found["upper"]["95"]["pull"]) < 4
    with pytest.raises(InputError, match="tails 'all', expected one of upper, lower, both"):
        sculpting_curve(score, mass, tails="all")


def test_percentiles_that_few_events_pass_are_left_out_of_the_curve():
    score, mass = background(300)
    assert list(sculpting_curve(score, mass, [50, 95, 99])["upper"]) == ["50", "95"]
    with pytest.raises(InputError, match="fewer than 10 of 300 events pass percentile 99"):
        sculpting_curve(score, mass, [99])


def test_global_p_values_of_background_cover_and_their_ks_statistic_is_scipys():
    score, mass = background(60_000)
    found = coverage(score, mass, data_sets=40, pseudo_experiments=100, **HUNT)
    assert found["disjoint"] and found["events"] == 1500 and len(found["p_values"]) == 40
    test = stats.kstest(found["p_values"], "uniform")
    assert (found["ks_statistic"], found["ks_p_value"]) == (test.statistic, test.pvalue)
    assert test.pvalue > 0.01 and found["below_0.05"] <= 0.05 + 4 * found["below_0.05_error"]


def test_scores_that_make_bumps_of_their_own_do_not_cover_until_they_are_shuffled():
    score, mass = background(40_000)
    score = score + 1.0 * (np.abs(mass - 3400) < 100)
    found = coverage(score, mass, data_sets=20, pseudo_experiments=100, **HUNT)
    assert found["ks_p_value"] < 1e-6 and found["mean"] < 0.1
    shuffled = coverage(score, mass, data_sets=20, pseudo_experiments=100, shuffle=True, **HUNT)
    assert shuffled["ks_p_value"] > 0.01


def test_more_data_sets_than_background_has_share_events_and_say_so():
    score, mass = background(3000)
    found = coverage(score, mass, data_sets=3, events=2000, pseudo_experiments=20, **HUNT)
    assert not found["disjoint"] and found["events"] == 2000 and len(set(found["p_values"])) > 1
    assert coverage(score, mass, data_sets=3, events=2000, pseudo_experiments=20, **HUNT) == found
    assert coverage(score, mass, data_sets=3, events=2000, pseudo_experiments=20, seed=1, **HUNT) != found


def test_default_sizes_of_coverage_can_be_hunted_in():
    score, mass = background(150_000)
    found = coverage(score, mass, pseudo_experiments=5, mass_range=RANGE)
    assert (found["data_sets"], found["events"], found["disjoint"]) == (100, 1500, True)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"data_sets": 1}, "data_sets 1, expected at least 2"),
        ({"events": 4000}, "data sets of 4000 events, expected 1 to 3000"),
        ({"data_sets": 4000}, "data sets of 0 events"),
        ({"data_sets": 2, "pseudo_experiments": 0}, "pseudo_experiments 0"),
        (
            {"data_sets": 30, "percentiles": 90},
            "data sets of 100 events: percentile 90, .* 10 times as many events would do",
        ),
    ],
)
def test_coverage_that_cannot_be_measured_is_told(options, message):
    score, mass = background(3000)
    with pytest.raises(InputError, match=message):
        coverage(score, mass, **HUNT | options)


# Signal


def test_significance_grows_with_the_injected_yield_and_the_mass_is_found():
    score, mass = background(20_000)
    rows = spectrum_injection(
        score, mass, at=3600, width=60, yields=[0, 60, 200], repeats=6, pseudo_experiments=100, **HUNT
    )
    local = [row["local"][1] for row in rows]
    assert local[0] < local[1] < local[2] and local[2] > 4
    assert rows[2]["found"] == 1 and abs(rows[2]["mass_bias"]) < 40 and rows[2]["global_is_bound"] == 1
    for row in rows:
        assert row["local"] == sorted(row["local"]) and row["global"] == sorted(row["global"])


def test_injected_yield_is_what_the_selection_has_more():
    """All of the yield is selected, since its score is the highest, and the cut moves up by as much."""
    from pipelines.bumphunt.bump_hunt import bump_hunt

    score, mass = background(5000)
    rng = np.random.default_rng([0, 0])
    scores = np.r_[rng.permutation(score), np.full(80, score.max() + 1)]
    masses = np.r_[mass, rng.normal(3600, 60, 80)]
    expected = bump_hunt(scores, masses, pseudo_experiments=50, seed=rng, **HUNT)
    (row,) = spectrum_injection(score, mass, at=3600, width=60, yields=[80], repeats=1, pseudo_experiments=50, **HUNT)
    assert row["local"] == [pytest.approx(expected.best.local_significance)] * 3
    assert row["mass_bias"] == pytest.approx(expected.best.mass_estimate - 3600)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"yields": []}, {"yields": [-1]}, {"repeats": 0}, {"at": np.nan}])
def test_injection_that_cannot_be_is_told(wrong):
    score, mass = background(3000)
    with pytest.raises(InputError, match="expected a width > 0"):
        spectrum_injection(score, mass, **{"at": 3600, "width": 60, "yields": [5], **HUNT} | wrong)


def test_yield_that_fills_the_selection_is_told_before_anything_is_thrown(monkeypatch):
    """Of 3000 events and 1000 of signal the 80th percentile selects 800: all would be signal."""
    score, mass = background(3000)
    there = np.count_nonzero((mass >= RANGE[0]) & (mass <= RANGE[1]))
    most = there // 4 - 1  # y < 0.2 (n + y)
    options = {"at": 3600, "width": 60, "repeats": 1, "pseudo_experiments": 10, **HUNT}
    assert len(spectrum_injection(score, mass, yields=[most - 30], **options)) == 1
    monkeypatch.setattr(
        sys.modules[spectrum_injection.__module__], "bump_hunt", lambda *given, **options: pytest.fail("has begun")
    )
    with pytest.raises(InputError, match=f"yield {most + 2}: percentile 80 selects .* no background is left") as told:
        spectrum_injection(score, mass, yields=[0, most + 2, 5], **options)
    assert "\n" not in str(told.value)


def test_pybumphunters_injection_needs_the_yield_that_ours_needs():
    """Both at 5 % of 40,000 events. Ours adds what is selected in place of background, so it needs a little less."""
    score, mass = background(40_000)
    options = HUNT | {"percentiles": [95], "at": 3600, "width": 60, "pseudo_experiments": 300}
    ours = spectrum_injection(score, mass, yields=[20, 40, 60], repeats=12, **options)
    theirs = pybumphunter_injection(score, mass, target=2.0, **options)
    for kind, target in (("local", 3.0), ("global", 1.5)):
        yields = [needed_yield(rows, kind, target) for rows in (ours, theirs)]
        assert yields[0] == pytest.approx(yields[1], rel=0.3)  # 12 data sets know the median to 0.36 sigma, a third
    for row in theirs:
        assert row["global"] == sorted(row["global"]) and row["local"] == sorted(row["local"])
        assert row["local"][1] >= row["global"][1]


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"percentiles": [90, 95]}, "has the Poisson statistic and one percentile"),
        ({"statistic": "fisher"}, "has the Poisson statistic"),
        ({"deficit": True}, "adds an excess"),
        ({"target": 0}, "target 0, signal of width 60 at 3600 GeV; expected"),
        ({"at": 90_000}, "signal of 0 within the spectrum"),
        ({"percentiles": 99.9}, "selected events in mass: all 3 events in one bin"),
    ],
)
def test_injection_that_pybumphunter_cannot_do_is_told(wrong, message):
    score, mass = background(4000)
    with pytest.raises(InputError, match=message):
        pybumphunter_injection(score, mass, **HUNT | {"at": 3600, "width": 60} | wrong)


def test_signal_that_no_window_can_tell_ends_pybumphunters_injection():
    """A signal of the background's own shape is normalised away by the side bands, however much there is."""
    with pytest.raises(InputError, match="300 events of signal, as many as of background, do not reach 3 sigma"):
        inject_by_pybumphunter(
            np.ones(10) / 10, np.full(10, 30.0), target=3, step=60, widths=(1, 3), pseudo_experiments=500, repeats=20
        )


@pytest.mark.parametrize("ratio", [0.0, 1 / 8000, 0.0008, 0.0025, 0.005, 0.01, 0.0333, 0.05])
def test_contaminated_background_has_all_of_it_and_the_signal_that_the_ratio_says(ratio):
    mixed = contaminated(BACKGROUND, SIGNAL, ratio)
    assert np.bincount(mixed.label, minlength=2).tolist() == [8000, round(8000 * ratio)]


def test_signal_of_a_small_ratio_is_part_of_that_of_a_larger_one():
    small, large = (contaminated(BACKGROUND, SIGNAL, ratio, seed=3).select(label=1).mass for ratio in (0.005, 0.02))
    assert set(small) < set(large)


@pytest.mark.parametrize(
    "ratio, message",
    [(-0.1, "S/B -0.1, expected a number >= 0"), (np.nan, "S/B nan"), (0.5, "asks for 4000, it has 400"),
     (1e-6, "is no signal event; give more background")],
)  # fmt: skip
def test_ratios_that_cannot_be_are_told(ratio, message):
    with pytest.raises(InputError, match=message):
        contaminated(BACKGROUND, SIGNAL, ratio)
    with pytest.raises(InputError, match="no signal among its 8000 events"):
        contaminated(BACKGROUND, BACKGROUND, 0.01)


@pytest.mark.parametrize("ratios, message", [([0, 0.01, 0.5], "asks for 4000"), ([0.01, -1], "S/B -1"), ([], "no S/B")])
def test_every_ratio_is_checked_before_the_first_training(ratios, message):
    test = pipelines.events.mixing.join([sample(100, seed=7), sample(50, signal=True, seed=8)])
    with pytest.raises(InputError, match=message):
        contamination(lambda i, events: pytest.fail("has trained"), BACKGROUND, SIGNAL, test, ratios)


def test_ratios_are_those_within_the_mass_range():
    check_ratios(BACKGROUND, SIGNAL, [0.0, 0.05])
    inside = SIGNAL.select(mass_range=(3590, 3610))
    with pytest.raises(InputError, match=f"it has {len(inside)}"):
        check_ratios(BACKGROUND, SIGNAL, [0.0, 3.0], (3590, 3610))


def test_bounds_in_the_table_of_papers_are_rounded_down():
    one = {"signal_events": 80.0, "percentile": 99.0, "tail": "upper", "local": 5.26, "fisher": 4.5, "global": 4.0556,
           "global_is_bound": True, "mass_bias": None, "efficiency": None, "gain": None}  # fmt: skip
    rows = [{"ratio": 0.01, **one, "selections": [one]}]
    rows += [{"ratio": 0.01, **one, "selections": [one | {"global_is_bound": False, "fisher": None}]}]
    heads, lines = paper_table(rows)
    assert [line[heads.index("global Z")] for line in lines] == ["> 4.0", "4.1"]
    assert [line[heads.index("Fisher Z")] for line in lines] == ["4.5", "-"] and "all together" not in heads


def test_table_of_papers_has_a_row_for_every_selection():
    found = injected(Distance(), BACKGROUND, SIGNAL, 0.02, **HUNT | {"percentiles": [80, 95], "pseudo_experiments": 50})
    numbers = paper_numbers(found)
    assert [one["percentile"] for one in numbers["selections"]] == [80, 95]
    for one, bump, truth in zip(numbers["selections"], found.hunt.bumps, found.truth):
        assert one["efficiency"] == truth["signals"]["1"]["efficiency"] and one["fisher"] == bump.fisher_significance
        assert one["global_p_value"] == bump.global_p_value
    assert (
        numbers["global_p_value"] == found.hunt.global_p_value and numbers["percentile"] == found.hunt.best.percentile
    )
    heads, lines = paper_table([{"ratio": 0.02, **numbers}])
    assert [line[heads.index("percentile")] for line in lines] == ["80", "95"] and heads[-1] == "all together"
    assert len({line[-1] for line in lines}) == 1


@pytest.mark.parametrize("folds", [None, 1, 2])
def test_injected_signal_is_found_end_to_end_and_judged(folds):
    options = HUNT | {"percentiles": [95], "pseudo_experiments": 100}
    model = Distance() if folds is None else train
    found = injected(model, BACKGROUND, SIGNAL, 0.02, folds=folds, **options)
    one = paper_numbers(found)
    assert one["signal_events"] == round(0.02 * np.sum((BACKGROUND.mass >= 2700) & (BACKGROUND.mass < 5000)))
    assert one["local"] > 4 and abs(one["mass_bias"]) < 60 and one["efficiency"] > 0.6
    assert one["gain"] == pytest.approx(one["s_over_b_selected"] / one["s_over_b"]) and one["gain"] > 8
    assert one["global_is_bound"] and json.dumps(one)


def test_nothing_injected_is_the_background_alone():
    options = HUNT | {"pseudo_experiments": 100}
    found = injected(Distance(), BACKGROUND, SIGNAL, 0.0, **options)
    assert found.hunt == search(Distance(), BACKGROUND.select(mass_range=RANGE), **options).hunt
    assert paper_numbers(found)["efficiency"] is None and paper_numbers(found)["global_p_value"] > 0.01


def test_contamination_judges_models_of_every_ratio_on_other_events():
    test = pipelines.events.mixing.join([sample(3000, seed=7), sample(500, signal=True, seed=8)])
    seen = []

    def remembered(i, events):
        assert not events.has_labels
        seen.append((i, len(events)))
        return train(i, events)

    rows = contamination(remembered, BACKGROUND, SIGNAL, test, [0, 0.05])
    assert seen == [(0, 8000), (0, 8400)] and [row["s_over_b"] for row in rows] == [0, 0.05]  # of one seed
    clean, dirty = (row["auc"]["upper"]["1"] for row in rows)
    assert 0.9 < dirty < clean and rows[0]["auc_std"] is None  # the mean moves towards the signal
    scores = train(0, BACKGROUND).score(test)
    probability = stats.mannwhitneyu(scores[test.label == 1], scores[test.label == 0]).statistic / 3000 / 500
    assert clean == pytest.approx(probability)
    (one,) = rows[0]["runs"]
    assert one["improvement"]["upper"]["1"]["improvement"] > 1 and "99" in one["sculpting"]["upper"]
    with pytest.raises(InputError, match="labelled background and signal are needed"):
        contamination(train, BACKGROUND, SIGNAL, BACKGROUND)
    with pytest.raises(InputError, match="seeds 0, expected at least 1"):
        contamination(train, BACKGROUND, SIGNAL, test, seeds=0)


def test_contamination_of_several_seeds_has_their_mean_and_spread():
    test = pipelines.events.mixing.join([sample(1000, seed=7), sample(300, signal=True, seed=8)])

    def of_seed(k, events):
        return Distance(events.read("features").mean(axis=0) + k)

    (row,) = contamination(of_seed, BACKGROUND, SIGNAL, test, [0.01], seeds=3)
    each = [one["auc"]["upper"]["1"] for one in row["runs"]]
    assert len(set(each)) == 3
    assert row["auc"]["upper"]["1"] == pytest.approx(np.mean(each))
    assert row["auc_std"]["upper"]["1"] == pytest.approx(np.std(each, ddof=1))


def test_contamination_judges_a_score_without_direction_in_both():
    class Undirected(Distance):
        score_kinds = undirected = ("distance",)

        def score(self, events, kind="distance"):
            return super().score(events)

    test = pipelines.events.mixing.join([sample(1000, seed=7), sample(300, signal=True, seed=8)])
    (row,) = contamination(lambda k, events: Undirected(), BACKGROUND, SIGNAL, test, [0])
    assert list(row["auc"]) == ["upper", "lower"] and list(row["runs"][0]["sculpting"]) == ["upper", "lower"]
    assert row["auc"]["lower"]["1"] == pytest.approx(1 - row["auc"]["upper"]["1"]) and row["auc"]["lower"]["1"] < 0.1


# Models and labels


def test_stability_of_equal_models_is_perfect_and_of_unrelated_ones_none():
    score, mass = background(20_000)
    same = stability(np.stack([score, 2 * score + 1]), mass, pseudo_experiments=50, **HUNT)
    assert same["rank_correlation"]["min"] == pytest.approx(1) and same["overlap"] == {"upper": {"80": 1.0}}
    assert same["rank_spread"] == pytest.approx(0) and same["local_std"] == 0
    other = np.random.default_rng(5).normal(size=(3, 20_000))
    found = stability(other, mass, pseudo_experiments=50, **HUNT)
    assert abs(found["rank_correlation"]["mean"]) < 0.02
    assert found["overlap"]["upper"]["80"] == pytest.approx(0.04 / 0.36, abs=0.01)  # p^2 / (2 p - p^2), p = 0.2
    assert found["rank_correlation"]["mean"] == pytest.approx(
        np.mean([stats.spearmanr(other[i], other[j]).statistic for i, j in ((0, 1), (0, 2), (1, 2))])
    )
    assert len(found["local"]) == 3 and found["local_std"] == pytest.approx(np.std(found["local"], ddof=1))


@pytest.mark.parametrize("models", [2, 3, 5])
def test_ranks_that_have_nothing_in_common_have_the_spread_of_a_uniform_number(models):
    rng = np.random.default_rng(2)
    scores, mass = rng.normal(size=(models, 20_000)), 2700 + rng.exponential(500, 20_000)
    found = stability(scores, mass, percentiles=95, mass_range=(2700, 5000), pseudo_experiments=20)
    assert found["rank_spread"] == pytest.approx(1 / np.sqrt(12), rel=0.01)


def test_stability_compares_what_the_tails_that_are_hunted_select():
    """These models agree about the small scores alone."""
    rng = np.random.default_rng(2)
    common, mass = background(20_000)
    scores = np.where(common < -0.8, common, np.abs(rng.normal(size=(2, 20_000))))
    overlap = stability(scores, mass, tails="both", pseudo_experiments=20, **HUNT)["overlap"]
    assert overlap["lower"] == {"80": 1.0} and overlap["upper"]["80"] < 0.3


@pytest.mark.parametrize("scores", [np.ones(5), np.ones((1, 5))])
def test_stability_of_one_model_is_told(scores):
    with pytest.raises(InputError, match="expected \\(K, N\\) of at least two models"):
        stability(scores, np.ones(5))
    with pytest.raises(InputError, match="1 of 2 models give NaN"):
        stability(np.array([[1.0, 2.0], [np.nan, 1.0]]), np.ones(2))


def test_supervised_yardstick_scores_what_it_has_not_seen_and_says_that_it_saw_labels():
    test = pipelines.open("lhco_sim_test").sample(1500, seed=1)
    scores, found = supervised(test, ["mass_*", "tau21_*", "tau32_*"], folds=3)
    assert found["uses_labels"] is True and set(found["auc"]) == {"1", "2"} and len(found["auc_folds"]) == 3
    assert found["auc"]["1"] > 0.85
    noise = Events.from_arrays(np.random.default_rng(0).normal(size=(600, 3)), np.ones(600), ("a", "b", "c"),
                               label=np.arange(600) % 2)  # fmt: skip
    assert supervised(noise, folds=3)[1]["auc"]["1"] == pytest.approx(0.5, abs=0.1)  # in-sample it would be near 1
    assert len(scores) == 1500


def test_supervised_yardstick_leaves_out_the_masses_of_several_jets_unless_asked():
    columns = ("m_jj", "mjj", "mj1j2j3", "m_jjj", "mass_1", "mt2", "met")
    events = Events.from_arrays(np.random.default_rng(0).normal(size=(60, 7)), np.ones(60), columns,
                                label=np.arange(60) % 2)  # fmt: skip
    assert list(supervised(events, folds=2)[1]["columns"]) == ["mass_1", "mt2", "met"]
    assert list(supervised(events, ["m*j*"], folds=2)[1]["columns"]) == ["m_jj", "mjj", "mj1j2j3", "m_jjj"]


def test_supervised_yardstick_leaves_out_the_spectrum_unless_asked():
    test = pipelines.open("lhco_sim_test").sample(300, seed=1)
    assert "mj1j2" not in supervised(test, folds=2)[1]["columns"]
    with pytest.raises(InputError, match="no labels"):
        supervised(test.without_labels())
    with pytest.raises(InputError, match="400 folds, expected 2 to"):
        supervised(test, folds=400)


def test_nobodys_random_state_is_touched():
    np.random.seed(3)
    before = np.random.get_state(legacy=False)
    score, mass = background(3000)
    coverage(score, mass, data_sets=2, pseudo_experiments=10, **HUNT)
    injected(Distance(), BACKGROUND, SIGNAL, 0.01, pseudo_experiments=10, **HUNT)
    pybumphunter_injection(score, mass, at=3600, width=60, pseudo_experiments=50, **HUNT)
    supervised(pipelines.open("lhco_sim_test").sample(200), ["mass_1"], folds=2)
    assert repr(np.random.get_state(legacy=False)) == repr(before)


# Figures


@pytest.mark.drawn
def test_figures_write_the_numbers_that_they_show(tmp_path):
    score, mass = background(6000)
    found = coverage(score, mass, data_sets=6, pseudo_experiments=20, **HUNT)
    numbers = plot_coverage(found, tmp_path / "coverage.png")
    assert numbers == read_numbers(tmp_path / "coverage.json") and numbers["ks_statistic"] == found["ks_statistic"]
    assert sum(numbers["counts"]) == 6
    rows = spectrum_injection(score, mass, at=3600, width=60, yields=[0, 50], repeats=2, pseudo_experiments=20, **HUNT)
    numbers = plot_injection(rows, tmp_path / "injection.png")
    assert numbers["events"] == [0, 50] and (tmp_path / "injection.png").read_bytes()[:4] == b"\x89PNG"


# The commands

CUTS = "--percentile 80 --bins 20 --widths 1 4"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a model that is quick to trace, and files of background and of signal."""
    with registered():
        folder = tmp_path_factory.mktemp("validate")
        events = pipelines.open("lhco_sim_test")
        events.select(label=0).write(folder / "background.h5")
        events.select(label=1).write(folder / "signal.h5")
        quiet = {"epochs": 1, "jit_compile": False, "verbose": 0, "extra": {"mass_range": RANGE}}
        run.train(Linear(), events.select(mass_range=RANGE).without_labels(), folder / "run", **quiet)
        yield folder


def told(folder, line):
    words = line.replace("RUN", f"{folder}/run").replace("FOLDER", str(folder)).split()
    done = CliRunner().invoke(zoo.cli.main.main, ["validate", *words])
    return done.exit_code, done.stdout, done.stderr


def numbers_of(folder, line):
    code, text, errors = told(folder, line + " --json")
    assert code == 0, errors
    return json.loads(text)


def test_command_sculpting_is_that_of_the_background_in_the_range_of_the_training(trained):
    found = numbers_of(trained, "sculpting RUN --data lhco_sim_test")
    events = pipelines.open("lhco_sim_test").select(mass_range=RANGE, label=0)
    assert found["events"] == len(events)
    scores = zoo.load(trained / "run").score(events).astype(float)
    assert found["curve"] == sculpting_curve(scores, events.mass) and found["uses_labels"] == "to leave out signal"


def test_command_sculpting_takes_tails_and_all_events_and_draws_them(trained, tmp_path):
    line = f"sculpting RUN --data lhco_sim_test --tails both --ignore-labels --plot {tmp_path}/s.png"
    found = numbers_of(trained, line)
    events = pipelines.open("lhco_sim_test").select(mass_range=RANGE)
    assert found["events"] == len(events) and found["uses_labels"] is False
    assert list(found["curve"]) == ["upper", "lower"]
    drawn = read_numbers(tmp_path / "s.json")["series"]
    assert drawn["lower tail"]["distance"] == [one["distance"] for one in found["curve"]["lower"].values()]
    for ignored, told_so in (("", True), ("--ignore-labels", False)):
        text = told(trained, f"sculpting RUN --data lhco_sim_test {ignored}")[1]
        assert ("Labels were used to leave out signal; --ignore-labels takes all events." in text) is told_so


def test_command_coverage_writes_numbers_and_a_figure(trained, tmp_path):
    line = f"coverage RUN --data FOLDER/background.h5 --data-sets 4 --toys 20 {CUTS} --percentile 70"
    code, text, errors = told(trained, f"{line} --out {tmp_path}/c.json --plot {tmp_path}/c.png")
    assert code == 0 and "ks statistic" in text, errors
    found = json.loads((tmp_path / "c.json").read_text())
    assert len(found["p_values"]) == 4 and (tmp_path / "c.png").exists()
    code, _, errors = told(trained, f"{line} --out {tmp_path}/c.json")
    assert code == 2 and "exists already" in errors


def test_command_spectrum_shows_a_row_for_every_yield(trained):
    found = numbers_of(
        trained,
        f"spectrum RUN --data FOLDER/background.h5 --at 3600 --width 80 --yield 0 --yield 90 --repeats 2 --toys 20 {CUTS}",
    )
    assert [row["events"] for row in found["injected"]] == [0, 90]
    assert found["injected"][1]["local"][1] > found["injected"][0]["local"][1]
    reach = found["reach"]["80"]
    assert reach["reach"]["local"]["3"]["events"] < reach["reach"]["global"]["3"]["events"] and reach["repeats"] == 400


def test_command_spectrum_has_pybumphunters_injection_beside_its_own(trained):
    line = f"spectrum RUN --data FOLDER/background.h5 --at 3600 --width 80 --yield 0 --yield 90 --repeats 2 {CUTS}"
    found = numbers_of(trained, f"{line} --toys 100 --pybumphunter --target 1.5")
    assert found["target"] == 1.5 and found["pybumphunter"][-1]["global"][1] >= 1.5
    assert found["needed"]["pybumphunter"]["local"] == needed_yield(found["pybumphunter"], "local", 1.5)
    code, text, _ = told(trained, f"{line} --toys 20 --pybumphunter --target 1")
    assert code == 0 and "events for 1 sigma, pyBumpHunter's signal_inject: local" in text


@pytest.mark.parametrize("how", ["RUN", "linear --train --epochs 1 --no-xla"])
def test_command_injection_judges_every_ratio(trained, how):
    mixture = "--background FOLDER/background.h5 --signal FOLDER/signal.h5 --s-over-b 0 --s-over-b 0.05"
    found = numbers_of(trained, f"injection {how} {mixture} --mass-range 2700 5000 --toys 20 {CUTS} --percentile 70")
    assert [row["ratio"] for row in found["injected"]] == [0, 0.05]
    assert [one["percentile"] for one in found["injected"][1]["selections"]] == [80, 70]
    assert found["injected"][0]["signal_events"] is None and found["injected"][1]["signal_events"] > 100
    assert [one["ratio"] for one in found["curve"]] == [0, 0.05] and set(found["reach"]) == {"3", "5"}
    code, text, _ = told(trained, f"injection RUN {mixture} --toys 20 {CUTS}")
    assert code == 0 and "S/B gain" in text and "5.00%" in text and "believed at S/B" in text


def test_command_contamination_and_stability_and_supervised(trained):
    mixture = "--background FOLDER/background.h5 --signal FOLDER/signal.h5 --s-over-b 0 --s-over-b 0.05"
    found = numbers_of(trained, f"contamination linear {mixture} --test lhco_sim_test --epochs 1 --no-xla")
    assert [set(row["auc"]["upper"]) for row in found["trained"]] == [{"1", "2"}] * 2
    found = numbers_of(trained, f"stability RUN RUN --data lhco_sim_test --toys 20 {CUTS}")
    assert found["rank_correlation"]["min"] == pytest.approx(1) and len(found["global"]) == 2
    code, text, _ = told(trained, "supervised --data lhco_sim_test --column mass_* --folds 2")
    assert code == 0 and "labels used" in text and "two-prong" in text


@pytest.mark.parametrize(
    "line, message",
    [
        ("sculpting FOLDER/none --data lhco_sim_test", "no such folder, expected a run directory"),
        ("coverage RUN --data FOLDER/background.h5 --data-sets 1", "data_sets 1, expected at least 2"),
        (
            "injection RUN --background FOLDER/background.h5 --signal FOLDER/signal.h5 --s-over-b 3",
            "S/B 3 of .* asks for",
        ),
        (
            "injection linear --train --background FOLDER/background.h5 --signal FOLDER/signal.h5 --s-over-b 0 --s-over-b 3",
            "S/B 3 of .* asks for",
        ),
        ("injection RUN --background FOLDER/signal.h5 --signal FOLDER/signal.h5", "none of .* has label 0"),
        ("stability RUN --data lhco_sim_test", "one training of one member has nothing to be compared with"),
        ("template RUN --data lhco_sim_test", "has no template of the background"),
        ("supervised --data lhco_sim_train", "no labels"),
        (
            "contamination nosuch --background lhco_sim_train --signal lhco_sim_test --test lhco_sim_test",
            "model 'nosuch' is not known",
        ),
    ],
)
def test_commands_refuse_in_one_line(trained, line, message):
    code, text, errors = told(trained, line)
    assert code == 2 and text == "" and errors.startswith("Error: ") and errors.count("\n") == 1
    assert re.search(message, errors), errors


def test_commands_say_of_which_runs_labels_chose_the_hyperparameters(trained, tmp_path):
    shutil.copytree(trained / "run", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["tuning"] = {"objective": "auc:two-prong", "truth_used": True}
    del config["sha256"]  # it is of what was written
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    shutil.copy(trained / "background.h5", tmp_path), shutil.copy(trained / "signal.h5", tmp_path)
    mixture = "--background FOLDER/background.h5 --signal FOLDER/signal.h5 --s-over-b 0.05"
    for line in (
        "sculpting RUN --data FOLDER/background.h5",
        f"coverage RUN --data FOLDER/background.h5 --data-sets 2 --toys 5 {CUTS}",
        f"spectrum RUN --data FOLDER/background.h5 --at 3600 --width 80 --yield 0 --repeats 1 --toys 5 {CUTS}",
        f"injection RUN {mixture} --toys 5 {CUTS}",
        f"stability {trained}/run RUN --data lhco_sim_test --toys 5 {CUTS}",
    ):
        code, text, errors = told(tmp_path, line)
        assert code == 0, errors
        assert text.endswith(f"\n\n{tmp_path}/run: TRUTH USED: labels chose this model's hyperparameters "
                             "(tune --objective auc:two-prong)\n")  # fmt: skip
        assert text.count("TRUTH USED") == 1 and numbers_of(tmp_path, line)["truth_used"] is True
        other = line.replace("RUN", f"{trained}/run")
        assert numbers_of(tmp_path, other)["truth_used"] is False and "TRUTH" not in told(tmp_path, other)[1]
