"""The search: from events to a significance. Selections, folds, truth, files, the command, and bad input."""

import json
import re
import shlex
import shutil
from pathlib import Path
from types import MappingProxyType

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from linear_model import Linear, registered
from scipy.stats import kstest, poisson, rankdata

import pipelines
import zoo.cli.main
from pipelines import Events, InputError, provenance
from pipelines.bumphunt.bump_hunt import bump_hunt, p_text
from pipelines.bumphunt.result import truth_in_tuning, z_text
from pipelines.bumphunt.scores import fold_of, natural_tails
from pipelines.bumphunt.search import search
from pipelines.bumphunt.write import write
from zoo.run import origin

RANGE = (2700, 5000)
OPTIONS = {"percentiles": [90], "mass_range": RANGE, "bins": 20, "widths": (1, 4), "pseudo_experiments": 100}


def made_events(background=6000, signal=120, *, labels=True, weight=None, seed=0):
    """Background, and a signal at 3600 GeV that has a large x; a three-jet mass that is 1.1 times the two-jet mass."""
    rng = np.random.default_rng(seed)
    mass = np.r_[2500 + rng.exponential(600, background), rng.normal(3600, 60, signal)]
    x = np.r_[rng.normal(size=background), rng.normal(3, 1, signal)]
    features = np.stack([x, rng.normal(size=len(x)), mass, 1.1 * mass], axis=1)
    label = np.r_[np.zeros(background), np.ones(signal)]
    about = {"units": ("", "", "GeV", "GeV"), "mass_column": "mj1j2"}
    about |= {"label": label, "label_names": {0: "background", 1: "a signal"}} if labels else {}
    return Events.from_arrays(features, mass, ("x", "y", "mj1j2", "mj1j2j3"), weight=weight, **about)


class Column:
    """A model whose score is a column, in one of two directions."""

    score_kinds = ("plus", "minus")

    def __init__(self, column="x"):
        self.column = column

    def score(self, events, kind="plus"):
        return events.read("features", [self.column])[:, 0] * (1 if kind == "plus" else -1)


class Members(Column):
    members = 3

    def score(self, events, kind="plus", per_member=False):
        each = super().score(events, kind) + np.array([[-1.0], [0.0], [4.0]])
        return each if per_member else each.mean(axis=0)


EVENTS = made_events()


@pytest.fixture(scope="module", autouse=True)
def brief():
    """Reports, which take ten seconds each, and limits are left to their own tests and to a slow one here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.bumphunt.write.write_report", lambda folder, search: (folder / "report.html").touch())
        patch.setattr("pipelines.bumphunt.limits.upper_limit", lambda n, b, error: (b, (b / 4, b / 2, b, 2 * b, 4 * b)))
        yield patch


# What is done


def test_search_is_a_hunt_in_the_models_scores():
    found = search(Column(), EVENTS, **OPTIONS)
    options = {name: value for name, value in OPTIONS.items() if name != "pseudo_experiments"}
    score = EVENTS.read("features", ["x"])[:, 0]
    expected = bump_hunt(score, EVENTS.mass, pseudo_experiments=100, cut="mass", **options)
    assert found.hunt == expected and found.hunt.best.local_significance > 4
    assert abs(found.hunt.best.mass_estimate - 3600) < 60


def test_only_events_within_a_range_are_scored_and_rows_say_which():
    found = search(Column(), EVENTS, **OPTIONS)
    inside = (EVENTS.mass >= 2700) & (EVENTS.mass <= 5000)
    assert found.rows.tolist() == np.flatnonzero(inside).tolist()
    assert len(found.events) == len(found.scores) == inside.sum() == found.hunt.events
    np.testing.assert_array_equal(found.scores, EVENTS.read("features", ["x"])[inside, 0])


def test_selected_events_and_those_in_the_interval_are_the_bumps_numbers():
    found = search(Column(), EVENTS, **OPTIONS | {"tails": "both", "percentiles": [80, 90]})
    for bump in found.hunt.bumps:
        chosen = found.selected(bump)
        assert chosen.sum() == bump.selected_events == sum(bump.observed)
        first, last = (bump.edges.index(edge) for edge in bump.interval)
        assert (chosen & found.in_interval(bump)).sum() == sum(bump.observed[first:last])
        assert found.in_interval(bump).sum() == sum(bump.before[first:last])


def test_two_and_three_jet_spectra_are_hunted_together():
    found = search(Column(), EVENTS, **OPTIONS | {"spectra": ("mass", "m_jjj"), "mass_range": None})
    assert [bump.spectrum for bump in found.hunt.bumps] == ["mass", "m_jjj"]
    assert found.hunt.bumps[1].mass_estimate == pytest.approx(1.1 * 3600, abs=80)
    assert found.ranges["m_jjj"] == pytest.approx((1.1 * EVENTS.mass.min(), 1.1 * EVENTS.mass.max()))


def test_range_of_the_training_restricts_the_events_and_is_the_range_of_their_mass_alone():
    found = search(Column(), EVENTS, **OPTIONS | {"spectra": ("m_jj", "m_jjj"), "mass_range": None, "within": RANGE})
    inside = (EVENTS.mass >= RANGE[0]) & (EVENTS.mass <= RANGE[1])
    assert found.rows.tolist() == np.flatnonzero(inside).tolist()
    assert found.ranges["m_jj"] == RANGE
    assert found.ranges["m_jjj"] == pytest.approx((1.1 * EVENTS.mass[inside].min(), 1.1 * EVENTS.mass[inside].max()))
    named = {"m_jjj": (3100, 5400)}
    found = search(Column(), EVENTS, **OPTIONS | {"spectra": ("mass", "m_jjj"), "mass_range": named, "within": RANGE})
    assert (
        found.ranges == {"mass": RANGE, "m_jjj": (3100, 5400)}
        and found.rows.tolist() == np.flatnonzero(inside).tolist()
    )
    assert found.configuration["options"]["within"] == list(RANGE)


def test_each_spectrum_may_have_its_range():
    ranges = {"mass": RANGE, "mj1j2j3": (3000, 5500)}
    found = search(Column(), EVENTS, **OPTIONS | {"spectra": ("mass", "mj1j2j3"), "mass_range": ranges})
    assert found.ranges == ranges
    assert [(bump.edges[0], bump.edges[-1]) for bump in found.hunt.bumps] == [RANGE, (3000, 5500)]


def test_members_are_averaged_and_their_spread_is_kept():
    plain, found = search(Column(), EVENTS, **OPTIONS), search(Members(), EVENTS, **OPTIONS)
    np.testing.assert_allclose(found.scores, plain.scores + 1)
    np.testing.assert_allclose(found.score_std, np.std([-1, 0, 4]))
    assert plain.score_std is None


def test_score_kind_is_the_one_asked_for():
    found = search(Column(), EVENTS, **OPTIONS | {"score_kind": "minus", "tails": "lower"})
    assert found.hunt.best.interval == search(Column(), EVENTS, **OPTIONS).hunt.best.interval


def test_kinds_without_direction_are_looked_at_from_both_ends():
    class Undirected(Column):
        undirected = ("minus",)

    assert natural_tails(Undirected()) == "upper" and natural_tails(Undirected(), "minus") == "both"
    found = search(Undirected(), EVENTS, **OPTIONS | {"score_kind": "minus"})
    assert [bump.tail for bump in found.hunt.bumps] == ["upper", "lower"]
    one = search(Undirected(), EVENTS, **OPTIONS | {"score_kind": "minus", "tails": "lower"})
    assert [bump.tail for bump in one.hunt.bumps] == ["lower"]


def test_weights_count_unless_they_are_to_be_ignored():
    weight = np.where(np.arange(6120) % 2, 0.5, 2.0)
    weighted = made_events(weight=weight)
    plain = search(Column(), EVENTS, **OPTIONS)
    assert search(Column(), weighted, **OPTIONS, ignore_weights=True).hunt == plain.hunt
    found = search(Column(), weighted, **OPTIONS)
    assert sum(found.hunt.best.before) == pytest.approx(found.weight.sum()) and found.hunt.best.unit > 1


def test_bump_carries_every_window_and_every_pseudo_experiment():
    (bump,) = search(Column(), EVENTS, **OPTIONS).hunt.bumps
    best = min(bump.tomography, key=lambda window: window[2])
    assert best[:2] == bump.interval and best[2] == pytest.approx(bump.local_p_value)
    widths = range(1, 5)
    assert len(bump.tomography) == sum(len(bump.observed) - width + 1 for width in widths)
    for low, high, p_value in bump.tomography[::7]:
        first, last = bump.edges.index(low), bump.edges.index(high)
        n, total = (sum(bump.observed[first:last]), sum(bump.observed))
        inside, all_of_them = sum(bump.before[first:last]), sum(bump.before)
        expected = (total - n) * inside / (all_of_them - inside)
        assert p_value == pytest.approx(poisson.sf(n - 1, expected) if n > expected else 1.0, rel=1e-9)
    assert bump.test_statistic == pytest.approx(-np.log(bump.local_p_value), abs=1e-5)
    assert (
        len(bump.pseudo_statistics) == 100
        and bump.global_p_value == (np.sum(bump.pseudo_statistics >= bump.test_statistic) + 1) / 101
    )


# Folds


class Trained(Column):
    def __init__(self, fold, events):
        super().__init__()
        self.fold, self.trained_on = fold, events

    def score(self, events):
        mine, seen = ({row.tobytes() for row in some.read("features")} for some in (events, self.trained_on))
        assert len(mine) == len(events) and not mine & seen
        return (
            super().score(events).astype(float) * (1 + self.fold) + 100 * self.fold
        )  # scores of folds are not comparable


def test_every_event_is_scored_by_a_model_that_has_not_seen_it():
    models = []

    def train(fold, events):
        assert not events.has_labels
        models.append(Trained(fold, events))
        return models[-1]

    found = search(train, EVENTS, **OPTIONS, folds=3)
    assert [model.fold for model in models] == [0, 1, 2]
    for k, model in enumerate(models):
        assert len(model.trained_on) == (found.fold != k).sum()
        np.testing.assert_array_equal(model.trained_on.mass, found.events.mass[found.fold != k])


def test_scores_of_folds_are_ranks_within_the_fold():
    found = search(Trained, EVENTS, **OPTIONS, folds=3, cut="global")
    x = found.events.read("features", ["x"])[:, 0]
    for k in range(3):
        mine = found.fold == k
        np.testing.assert_allclose(found.scores[mine], (rankdata(x[mine]) - (k + 0.5) / 3) / mine.sum())
        assert found.selected(found.hunt.best)[mine].mean() == pytest.approx(0.1, abs=1e-3)
    assert found.hunt.best.local_significance > 4


def test_many_folds_make_no_ties_of_scores_that_have_none():
    scores = search(Trained, EVENTS, **OPTIONS, folds=12, cut="mass").scores  # which refuses ties at the cut
    assert len(np.unique(scores)) == len(scores) and 0 < scores.min() < scores.max() < 1
    counted = np.bincount(np.floor(scores * 10).astype(int), minlength=10)
    assert np.ptp(counted) <= 12 and len(scores) > 4000  # as uniform as ranks


def test_folds_that_differ_in_their_usual_score_are_not_mixed():
    def train(fold, events):
        model = Column()
        model.score_kinds = Column.score_kinds if fold else ("minus",)
        return model

    with pytest.raises(InputError, match="'minus' of fold 0, 'plus' of fold 1; name one by score_kind"):
        search(train, EVENTS, **OPTIONS, folds=3)
    assert search(train, EVENTS, **OPTIONS, folds=3, score_kind="minus").scores.max() < 1


def test_global_p_values_of_background_are_uniform_with_folds():
    """Models of other folds differ in scale and offset; ranks within the fold make no bump of it."""
    options = OPTIONS | {"percentiles": [80], "mass_range": None}
    p_values = [
        search(Trained, made_events(2000, 0, labels=False, seed=i), **options, folds=3, seed=i).hunt.global_p_value
        for i in range(50)
    ]
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_what_trains_may_train_all_folds_beforehand():
    given = {}

    class AtOnce:
        def beforehand(self, parts):
            given.update({fold: (len(events), events.has_labels) for fold, events in parts.items()})

        def __call__(self, fold, events):
            assert given[fold] == (len(events), False)
            return Trained(fold, events)

    found = search(AtOnce(), EVENTS, **OPTIONS, folds=3)
    assert sorted(given) == [0, 1, 2]
    np.testing.assert_array_equal(found.scores, search(Trained, EVENTS, **OPTIONS, folds=3).scores)


@pytest.mark.slow
def test_folds_trained_by_two_processes_are_those_trained_by_one(tmp_path):
    line = (
        f"hunt vae --folds 2 --epochs 1 --no-xla --set decoder_epochs=0 --data lhco_sim_test {LINE} --out {tmp_path}/"
    )
    for name, more in (("one", ""), ("two", "--workers 2")):
        done = CliRunner().invoke(zoo.cli.main.main, [*shlex.split(line + name), *more.split()])
        assert done.exit_code == 0, done.output
    one, two = (h5py.File(tmp_path / name / "scores.h5")["score"][()] for name in ("one", "two"))
    np.testing.assert_allclose(one, two, atol=2e-3)  # ranks; threads round otherwise


def test_sculpting_of_a_weighted_search_is_that_of_the_weighted_spectra():
    """Events of small weight alone depend on the mass: the spectrum that is hunted in is not shaped by them."""
    from pipelines.metrics import sculpting
    from pipelines.report.tables import done
    from pipelines.report.text import names_of

    rng = np.random.default_rng(3)
    light = rng.random(20_000) < 0.5
    mass = 2700 + rng.exponential(500, 20_000)
    mass, light = mass[mass < 5000], light[mass < 5000]
    score = rng.normal(size=len(mass)) + light * (mass - 3500) / 200
    weight = np.where(light, 1e-4, 1.0)
    events = Events.from_arrays(score[:, None], mass, ("x",), weight=weight)
    options = {"percentiles": 80, "pseudo_experiments": 20, "bins": 20, "widths": (1, 4), "cut": "global"}
    x = events.read("features")[:, 0].astype(float)
    found, plain = (search(x, events, **options, ignore_weights=ignored) for ignored in (False, True))
    assert plain.sculpted and not found.sculpted
    rows = [{row["what"]: row["value"] for row in done(one, names_of(one)).rows} for one in (found, plain)]
    assert [row["weights"] for row in rows] == ["used", "ignored"]
    assert found.sculpting["mass"]["upper"]["80"] == sculpting(x, events.mass, [80], 20, weight=events.weight)["80"]
    one = found.sculpting_following["mass"]["upper"]["80"]
    assert one["distance"] < one["floor"] + 3 * one["floor_std"]


def test_events_of_one_weight_are_sculpted_as_events_without():
    same, none = (search(Column(), made_events(weight=weight), **OPTIONS) for weight in (np.full(6120, 0.5), None))
    assert same.sculpting == none.sculpting and same.sculpting_following == none.sculpting_following


def test_folds_are_drawn_by_the_seed_and_equal_in_size():
    assert np.bincount(fold_of(1001, 4)).tolist() == [251, 250, 250, 250]
    assert (fold_of(1001, 4, seed=1) != fold_of(1001, 4, seed=2)).mean() > 0.6
    np.testing.assert_array_equal(fold_of(1001, 4, seed=1), fold_of(1001, 4, seed=1))


def test_one_fold_is_a_model_trained_on_the_very_events_it_scores():
    trained_on = []

    def train(fold, events):
        trained_on.append(events)
        return Column()

    found = search(train, EVENTS, **OPTIONS, folds=1)
    np.testing.assert_array_equal(trained_on[0].mass, found.events.mass)
    assert not trained_on[0].has_labels and found.fold is None
    assert found.hunt == search(Column(), EVENTS, **OPTIONS).hunt


def test_nothing_is_trained_for_options_that_cannot_be():
    def train(fold, events):
        raise AssertionError("trained")

    train.score_kinds = ("plus",)
    weighted = made_events(weight=np.linspace(0.5, 2, 6120))
    for wrong, message in (
        ({"percentiles": [100]}, "percentiles 100"),
        ({"mass_range": (9000, 9900)}, "no event within"),
        ({"within": (9000, 9900)}, "mass: no event within 9000 to 9900 GeV"),
        ({"spectra": ("m_x",)}, "no spectrum"),
        ({"pseudo_experiments": 0}, "pseudo_experiments 0"),
        ({"relative_error": -1}, "relative_error -1, expected a number above 0"),
        ({"score_kind": "kl"}, "score kind 'kl' is not known; train has plus"),
        ({"statistic": "fisher", "null": "poisson"}, "statistic 'fisher' has the number"),
        (
            {"statistic": "fisher", "spectra": ("mass", "m_jjj")},
            "'fisher' needs events of one weight, all within the range",
        ),
        ({"percentiles": [50, 99.5]}, "percentile 99.5, upper tail: 21 selected .*; percentile 97 leaves enough"),
        ({"side_band": 9}, "too few for a window of 1 and side bands"),
        ({"relative_error": None, "bins": 500}, "429 selected events in mass, fewer than 500 bins"),
        ({"seed": -1}, "seed -1, expected a whole number of at least 0"),
        ({"folds": 2.5}, "folds 2.5"),
        ({"events": weighted, "statistic": "fisher"}, "needs events of one weight, .* their weights differ"),
        ({"events": made_events(weight=np.r_[-1.0, np.ones(6119)])}, "weight: -1 to 1, expected numbers >= 0"),
    ):
        options = {"events": EVENTS, "folds": 2, **OPTIONS} | wrong
        with pytest.raises(InputError, match=message):
            search(train, **options)


def test_search_is_a_call_of_the_package():
    assert pipelines.search is search and "search" in pipelines.__all__
    assert (
        pipelines.search(Column(), EVENTS, **OPTIONS | {"percentiles": 90}).hunt
        == search(Column(), EVENTS, **OPTIONS).hunt
    )
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        pipelines.serch  # noqa: B018


# Truth


def test_labels_that_are_ignored_change_nothing_and_are_nowhere():
    blind = made_events(labels=False)
    ignored = search(Column(), EVENTS, **OPTIONS, ignore_labels=True)
    without, judged = search(Column(), blind, **OPTIONS), search(Column(), EVENTS, **OPTIONS)
    same = [json.loads(found.to_json()) for found in (ignored, without, judged)]
    for one in same:
        one["configuration"]["options"].pop("ignore_labels")
    assert same[0] == same[1]  # data's checksum included: truth is not in it
    assert ignored.truth is without.truth is None and not ignored.events.has_labels
    assert judged.hunt == ignored.hunt and judged.truth is not None


def test_truth_is_counted_event_by_event():
    found = search(Column(), EVENTS, **OPTIONS, cut="global")
    (bump,), (truth,) = found.hunt.bumps, found.truth
    x, mass, label = EVENTS.read("features", ["x"])[:, 0], EVENTS.mass, EVENTS.label
    inside = (mass >= 2700) & (mass <= 5000)
    cut = inside & (x > bump.threshold)
    window = cut & (mass >= bump.interval[0]) & (mass < bump.interval[1])
    signal = truth["signals"]["1"]
    for name, kept in {"before": inside, "selected": cut, "interval": window}.items():
        assert truth["background"][name] == (kept & (label == 0)).sum()
        assert signal[name] == (kept & (label == 1)).sum()
    s_over_b = (inside & (label == 1)).sum() / (inside & (label == 0)).sum()
    selected = (cut & (label == 1)).sum() / (cut & (label == 0)).sum()
    assert signal["gain"] == pytest.approx(selected / s_over_b) and signal["gain_interval"] > signal["gain"] > 4
    assert signal["efficiency"] == pytest.approx((cut & (label == 1)).sum() / 120)
    assert signal["mass_bias"] == pytest.approx(bump.mass_estimate - np.median(mass[label == 1]), abs=0.01)
    assert signal["name"] == "a signal"


def test_background_alone_has_no_signals_and_no_ratio():
    found = search(Column(), made_events(signal=0), **OPTIONS)
    assert found.truth[0]["signals"] == {} and found.truth[0]["background"]["before"] == found.hunt.events


def test_sculpting_has_a_floor_at_the_percentiles_asked_for_and_the_usual_ones():
    options = OPTIONS | {"percentiles": [90, 80], "tails": "both"}
    found = search(Column(), EVENTS, **options)
    assert list(found.sculpting) == ["mass"] and list(found.sculpting["mass"]) == ["upper", "lower"]
    for by_percentile in found.sculpting["mass"].values():
        assert list(by_percentile) == ["50", "80", "85", "90", "95", "99"]
        one = by_percentile["50"]
        assert abs(one["distance"] - one["floor"]) < 6 * one["floor_std"] and one["floor"] > 0


# Randomness


def test_same_seed_same_json_and_another_another():
    def one(seed):
        return search(Trained, EVENTS, **OPTIONS | {"percentiles": [80, 90]}, folds=2, seed=seed).to_json()

    assert one(4) == one(4) != one(5)


def test_nobodys_random_state_is_touched():
    np.random.seed(11)
    before = np.random.get_state(legacy=False)
    search(Trained, EVENTS, **OPTIONS, folds=2)
    assert repr(np.random.get_state(legacy=False)) == repr(before)


# Files and words


def test_folder_holds_every_number(tmp_path):
    found = search(Members(), EVENTS, **OPTIONS | {"percentiles": [80, 90], "spectra": ("mass", "m_jjj")})
    from pipelines.report.text import warnings_of

    out = write(found, tmp_path / "out")
    read = json.loads((out / "search.json").read_text())
    assert read.pop("limit")["window"] == list(found.hunt.best.interval)
    assert read.pop("warnings") == warnings_of(found)
    assert read == json.loads(found.to_json())
    assert (
        read["configuration"]["data"]["events"] == len(found.events)
        and len(read["configuration"]["data"]["sha256"]) == 64
    )
    assert (
        read["configuration"]["options"]["toys"] == 100 and read["configuration"]["versions"]["numpy"] == np.__version__
    )
    with h5py.File(out / "scores.h5") as file:
        for name, values in {"score": found.scores, "row": found.rows, "score_std": found.score_std}.items():
            np.testing.assert_array_equal(file[name], values)
        np.testing.assert_array_equal(file["masses/m_jjj"], found.masses["m_jjj"])
    with h5py.File(out / "spectra.h5") as file:
        assert list(file) == ["mass 80 upper", "mass 90 upper", "m_jjj 80 upper", "m_jjj 90 upper"]
        for group, bump in zip(file.values(), found.hunt.bumps):
            np.testing.assert_array_equal(group["observed"], bump.observed)
            np.testing.assert_array_equal(group["toys"], bump.pseudo_statistics)
            np.testing.assert_array_equal(group["tomography"], bump.tomography)
            assert group.attrs["test_statistic"] == bump.test_statistic
            as_extreme = np.count_nonzero(group["toys"][()] >= group.attrs["test_statistic"])
            assert (as_extreme + 1) / (len(group["toys"]) + 1) == pytest.approx(bump.global_p_value)


def test_folder_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    def fail(*given):
        raise OSError("no figure")

    monkeypatch.setattr("pipelines.bumphunt.write.write_report", fail)
    with pytest.raises(OSError, match="no figure"):
        write(search(Column(), EVENTS, **OPTIONS), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_summary_has_the_best_selection_and_the_p_value_with_all_trials():
    found = search(Column(), EVENTS, **OPTIONS | {"percentiles": [50, 90], "tails": "both"})
    summary = found.summary()
    best = found.hunt.best
    assert len(summary["selections"]) == 4 and summary["percentile"] == best.percentile
    for name in ("local_significance", "mass_estimate", "interval", "signal_estimate", "selected_events"):
        assert summary[name] == getattr(best, name)
    for name in ("global_p_value", "global_significance", "trials_factor"):
        assert summary[name] == getattr(found.hunt, name)


def test_bounds_are_said_to_be_bounds():
    assert p_text(1 / 40_001, True, 40_000) == "< 1/40,001" and p_text(0.5, False, 10) == "0.5"
    assert z_text(4.0556, True) == "> 4.0" and z_text(1.26) == "1.3"


# Bad input


@pytest.mark.parametrize(
    "options, message",
    [
        ({"percentiles": [0]}, "percentiles 0, expected different numbers between 0 and 100"),
        ({"percentiles": [100]}, "percentiles 100, expected"),
        ({"percentiles": [90, 90]}, "percentiles 90, 90, expected different"),
        ({"pseudo_experiments": 0}, "pseudo_experiments 0, expected a whole number of at least 1"),
        ({"spectra": ("m_xx",)}, "no spectrum 'm_xx'; expected mass, or a column such as mj1j2, mj1j2j3"),
        ({"spectra": ("mass", "mass")}, "spectra mass, mass, expected one at least, and none twice"),
        ({"spectra": ()}, "spectra none"),
        ({"mass_range": (8000, 9000)}, "mass: no event within 8000 to 9000 GeV, masses are .*; is the unit right"),
        ({"mass_range": {"m_jjj": RANGE}}, "mass_range names m_jjj, expected some of mass"),
        ({"percentiles": [99.9]}, "percentile 99.9, upper tail: 4 selected events in mass: all 4 events in one bin"),
        ({"percentiles": [99.9], "relative_error": None}, "4 selected events in mass, fewer than 20 bins"),
        ({"side_band": 9}, "too few for a window of 1 and side bands"),
        ({"folds": 2}, "folds need a function"),
        ({"tails": "middle"}, "tails 'middle', expected one of upper, lower, both"),
    ],
)
def test_options_that_cannot_be_are_told_in_one_line(options, message):
    with pytest.raises(InputError, match=message) as told:
        search(Column(), EVENTS, **OPTIONS | options)
    assert "\n" not in str(told.value)


class Broken:
    def __init__(self, change):
        self.change = change

    def score(self, events):
        return self.change(np.arange(len(events), dtype=float))


@pytest.mark.parametrize(
    "change, message",
    [
        (np.ones_like, r"score: [\d,]+ of [\d,]+ events have the same score, 1, at the cut of percentile 90"),
        (
            lambda s: np.where(s < 7, np.nan, s),
            r"7 of .* scores are NaN or infinite, rows 0, 1, .* leave these events out",
        ),
        (
            lambda s: np.where(s < 0.9 * len(s), np.nan, s),
            r"\d+ of .* scores are NaN or infinite; has the training diverged",
        ),
        (lambda s: np.where(s < 2, np.inf, s), "2 of .* scores are NaN or infinite"),
        (lambda s: s[:5], r"scores of shape \(5,\), expected \(\d+,\)"),
        (lambda s: s[:, None], r"scores of shape \(\d+, 1\)"),
    ],
)
@pytest.mark.parametrize("folds", [None, 2])
def test_scores_that_cannot_be_hunted_in_are_told(change, message, folds):
    model = Broken(change)
    with pytest.raises(InputError) as told:
        search((lambda fold, events: model) if folds else model, EVENTS, **OPTIONS, folds=folds)
    if folds and change is np.ones_like:
        message = r"score: all [\d,]+ events of fold 0 have the same score, 1$"
    assert told.match(message) and "\n" not in str(told.value)


def test_folds_of_too_few_events_are_told():
    with pytest.raises(InputError, match="folds 7000 of 4292 events"):
        search(Trained, EVENTS, **OPTIONS, folds=7000)
    with pytest.raises(InputError, match=r"model str has no score\(events\)"):
        search("gan_ae", EVENTS, **OPTIONS)


# The command


LINE = "--mass-range 2700 5000 --percentile 80 --bins 20 --widths 1 4 --toys 50"


@pytest.fixture(scope="module")
def linear():
    with registered():
        yield Linear


@pytest.fixture(scope="module")
def zoo_run(linear):
    """Run a command; return its exit code, its stdout and its stderr."""

    def run(line):
        done = CliRunner().invoke(zoo.cli.main.main, [str(word) for word in line.split()])
        return done.exit_code, done.stdout, done.stderr

    return run


@pytest.fixture(scope="module")
def folder(zoo_run, tmp_path_factory):
    """A search by a model trained on the data; it holds the run that other tests load."""
    out = tmp_path_factory.mktemp("search") / "out"
    line = f"hunt linear --train --epochs 1 --no-xla --data lhco_sim_test --out {out} {LINE} --percentile 90 --json"
    code, text, errors = zoo_run(line)
    assert code == 0, errors
    return out, json.loads(text)


def test_command_trains_on_the_data_and_prints_one_json(folder):
    out, found = folder
    assert [one["percentile"] for one in found["selections"]] == [80, 90] and found["out"] == str(out)
    needed = {"local_significance", "global_significance", "global_p_value", "mass_estimate", "interval",
              "signal_estimate", "selected_events"}  # fmt: skip
    assert needed <= set(found) and all(needed <= set(one) for one in found["selections"])
    assert {path.name for path in out.iterdir()} >= {"search.json", "scores.h5", "spectra.h5", "report.html", "runs"}
    about = json.loads((out / "search.json").read_text())["configuration"]
    assert about["model"] == "linear" and about["training"]["epochs"] == 1
    run = json.loads((out / "runs" / "fold-0" / "config.json").read_text())
    assert run["data"]["sha256"] == about["data"]["sha256"]  # trained on the very events that are hunted
    assert not (out.parent / ".out.search").exists()


def test_run_that_is_loaded_scores_as_the_model_did_when_it_was_trained(folder, zoo_run, tmp_path):
    out, found = folder
    code, text, errors = zoo_run(
        f"hunt {out}/runs/fold-0 --data lhco_sim_test --out {tmp_path}/again {LINE} --percentile 90"
    )
    assert code == 0, errors
    again = json.loads((tmp_path / "again" / "search.json").read_text())
    assert again["selections"] == found["selections"]
    assert again["configuration"]["run"]["hyperparameters"]["units"] == 2
    for word in (
        "percentile",
        "local Z",
        "Fisher Z",
        "global Z",
        "Global p-value of 2 selections together",
        "report.html",
    ):
        assert word in text


def test_command_takes_the_range_of_the_training_for_the_events_and_their_mass_only(folder, zoo_run, tmp_path):
    run, data = tmp_path / "run", tmp_path / "events.h5"
    shutil.copytree(folder[0] / "runs" / "fold-0", run)
    config = json.loads((run / "config.json").read_text())
    del config["sha256"]  # it is of what was written
    (run / "config.json").write_text(json.dumps(config | {"mass_range": RANGE}))
    test = pipelines.open("lhco_sim_test")
    features = np.c_[test.read("features"), 1.3 * test.mass]
    columns = (*test.columns, "mj1j2j3")
    Events.from_arrays(features, test.mass, columns, mass_column="mj1j2").write(data)
    line = f"hunt {run} --data {data} --percentile 80 --bins 20 --widths 1 4 --toys 20 --spectrum mass --spectrum m_jjj"
    code, _, errors = zoo_run(f"{line} --out {tmp_path}/a")
    assert code == 0, errors
    code, _, errors = zoo_run(f"{line} --out {tmp_path}/b --range mass 2000 6000")
    assert code == 0, errors
    inside = test.mass[(test.mass >= 2700) & (test.mass <= 5000)]
    of_a, of_b = (json.loads((tmp_path / name / "search.json").read_text())["ranges"] for name in "ab")
    assert of_a["mass"] == [2700, 5000] and of_b["mass"] == [2000, 6000]
    assert of_a["m_jjj"] == pytest.approx([1.3 * inside.min(), 1.3 * inside.max()], rel=1e-6)
    with h5py.File(tmp_path / "a" / "scores.h5") as file:
        np.testing.assert_array_equal(test.mass[file["row"][()]], inside)
        assert len(file["score"]) == len(inside)


@pytest.mark.parametrize("again", ["", "--train --epochs 1 --no-xla"])
def test_hyperparameters_that_labels_chose_are_said_loudly(folder, zoo_run, tmp_path, again):
    run = tmp_path / "run"
    shutil.copytree(folder[0] / "runs" / "fold-0", run)
    config = json.loads((run / "config.json").read_text())
    config["tuning"] = {"trial": "3", "objective": 0.21, "search": "auc:two-prong", "truth_used": True}
    del config["sha256"]  # it is of what was written
    (run / "config.json").write_text(json.dumps(config))
    code, text, errors = zoo_run(f"hunt {run} {again} --data lhco_sim_test --ignore-labels --out {tmp_path}/out {LINE}")
    assert code == 0, errors
    assert "TRUTH USED: labels chose this model's hyperparameters (tune --objective auc:two-prong)" in text
    found = json.loads((tmp_path / "out" / "search.json").read_text())
    assert found["configuration"]["run"]["tuning"] == config["tuning"] and found["truth_used"] is True
    if again:
        trained = json.loads((tmp_path / "out" / "runs" / "fold-0" / "config.json").read_text())
        assert trained["tuning"] == config["tuning"]


def test_what_a_model_was_loaded_from_is_known_to_a_search_in_python():
    model = Column()
    assert "run" not in search(model, EVENTS, **OPTIONS).configuration
    model.loaded_from = MappingProxyType({"folder": "a", "tuning": {"truth_used": True, "objective": "auc:Z'"}})
    found = search(model, EVENTS, **OPTIONS)
    assert (
        found.summary()["truth_used"] is True and json.loads(found.to_json())["configuration"]["run"]["folder"] == "a"
    )
    assert truth_in_tuning(found.configuration).endswith("(tune --objective auc:Z')")
    told = search(model, EVENTS, **OPTIONS, about={"run": {"folder": "b"}})  # what is said goes over what is known
    assert told.configuration["run"] == {"folder": "b"} and told.summary()["truth_used"] is False


def test_origin_is_what_a_run_says_of_itself(folder, zoo_run):
    found = origin(folder[0] / "runs" / "fold-0")
    assert found["folder"].endswith("fold-0") and found["epochs"] == 1 and found["tuning"] is None
    assert found["hyperparameters"]["units"] == 2 and not origin("linear")
    with pytest.raises(InputError, match=r"no config\.json in it"):
        origin(folder[0])


def test_hyperparameters_that_no_label_chose_are_not_suspected(folder):
    assert folder[1]["truth_used"] is False
    for tuning in ({}, None, {"truth_used": False, "objective": "reconstruction"}):
        assert truth_in_tuning({"run": {"tuning": tuning}}) is None
    told = truth_in_tuning({"run": {"tuning": {"truth_used": True, "search": "runs/a", "objective": "auc:Z'"}}})
    assert told == "TRUTH USED: labels chose this model's hyperparameters (tune --objective auc:Z')"


def test_interrupted_search_that_trains_nothing_has_nothing_to_resume(folder, zoo_run, tmp_path, monkeypatch):
    def interrupted(*given, **options):
        raise KeyboardInterrupt

    for what in ("zoo.run.load", "zoo.hunting.bump_hunt.search"):
        with monkeypatch.context() as patch:
            patch.setattr(what, interrupted)
            code, _, errors = zoo_run(f"hunt {folder[0]}/runs/fold-0 --data lhco_sim_test --out {tmp_path}/out {LINE}")
        assert code == 130 and "Interrupted" in errors and "--resume" not in errors and not list(tmp_path.iterdir())


def test_command_that_is_kept_can_be_given_to_a_shell(monkeypatch):
    given = ["hunt", "my run", "--set", "units=[4, 2]", "--out", "a'b"]
    for program, name in (
        ("bin/zoo", "zoo"),
        ("zoo/__main__.py", "zoo"),
        ("tuning/__main__.py", "tune"),
        ("my.py", "my.py"),
    ):
        monkeypatch.setattr("sys.argv", [f"/opt/{program}", *given])
        assert shlex.split(provenance.command()) == [name, *given]


def test_interrupted_folds_go_on_and_give_what_an_uninterrupted_search_gives(zoo_run, tmp_path, monkeypatch):
    from zoo import run

    line = f"hunt linear --folds 2 --epochs 1 --no-xla --data lhco_sim_test {LINE} --out {tmp_path}/"
    assert zoo_run(line + "whole")[0] == 0
    trained, train = [], run.train

    def interrupted(model, events, out, **options):
        if out.name == "fold-1":
            raise KeyboardInterrupt
        trained.append(out.name)
        return train(model, events, out, **options)

    monkeypatch.setattr(run, "train", interrupted)
    code, _, errors = zoo_run(line + "cut")
    assert code == 130 and "Interrupted" in errors and not (tmp_path / "cut").exists()
    code, _, errors = zoo_run(line + "cut")
    assert code == 2 and "an interrupted search is kept in" in errors and "--resume" in errors
    monkeypatch.setattr(
        run, "train", lambda model, events, out, **o: trained.append(out.name) or train(model, events, out, **o)
    )
    code, _, errors = zoo_run(line + "cut --resume --set units=3")
    assert code == 2 and "is of another training: units was 2, is 3" in errors
    code, told, errors = zoo_run(line + "cut --resume --json")
    assert code == 0, errors
    assert trained == ["fold-0", "fold-1"] and "fold-0: trained before" in errors
    (tmp_path / ".cut.search").mkdir()  # of a process that was killed when its search was written
    code, text, errors = zoo_run(line + "cut --resume")
    assert code == 0 and "finished before" in text and not (tmp_path / ".cut.search").exists(), errors
    again = json.loads(zoo_run(line + "cut --resume --json")[1])
    assert again == json.loads(told) and again["warnings"] and again["global_p_value"] is not None
    with monkeypatch.context() as other:
        other.setattr("sys.argv", ["zoo", "hunt", "another"])
        code, _, errors = zoo_run(line + "cut --resume")
    assert code == 2 and "exists already, made by" in errors
    whole, cut = (json.loads((tmp_path / name / "search.json").read_text()) for name in ("whole", "cut"))
    assert whole["hunt"] == cut["hunt"]
    seeds = [
        json.loads((tmp_path / f"cut/runs/fold-{k}/config.json").read_text())["hyperparameters"]["seed"] for k in (0, 1)
    ]
    assert seeds == [0, 1]


@pytest.mark.parametrize(
    "line, message",
    [
        ("linear", "linear is a model, not a run directory; add --train or --folds"),
        ("nosuch --train", "model 'nosuch' is not known"),
        ("nosuch", "nosuch: no such folder, expected a run directory"),
        ("linear --train --folds 2", "give one"),
        ("RUN --epochs 2", "--epochs: .* is trained already; add --train or --folds"),
        ("RUN --set units=2", "--set: .* is trained already"),
        ("RUN --train --preset fast", "is a run directory, whose hyperparameters are taken; use --set"),
        ("RUN --percentile 100", "percentiles 100, expected"),
        ("RUN --toys 0", "pseudo_experiments 0"),
        ("RUN --spectrum m_jjj", "no spectrum 'm_jjj'; expected mass, or a column such as mass_1, mass_2, mj1j2"),
        ("RUN --mass-range 9000 9900", "mass: no event within 9000 to 9900 GeV"),
        ("RUN --range m_jjj 1 2", "mass_range names m_jjj"),
        ("RUN --score-kind kl", "score kind 'kl' is not known"),
        ("RUN --percentile 99.9", "selected events in mass: all .* in one bin"),
        ("RUN --mass-range 2700 nan", "expected a finite number"),
    ],
)
def test_command_refuses_in_one_line(folder, zoo_run, tmp_path, line, message):
    line = line.replace("RUN", str(folder[0] / "runs" / "fold-0"))
    code, text, errors = zoo_run(f"hunt --data lhco_sim_test --out {tmp_path}/out {line}")
    assert code == 2 and text == "" and errors.startswith("Error: ") and errors.count("\n") == 1
    assert re.search(message, errors), errors
    assert not list(tmp_path.iterdir())


def test_model_of_spectra_is_sent_elsewhere(linear, zoo_run, tmp_path, monkeypatch):
    from zoo.models.ddp.model import DDP

    monkeypatch.setattr(linear, "data_kind", "spectra")
    monkeypatch.setattr(linear, "require", classmethod(DDP.require.__func__))
    code, _, errors = zoo_run(f"hunt linear --train --data lhco_sim_test --out {tmp_path}/out")
    assert code == 2 and "linear reads spectra, not events; use `zoo scan`" in errors and not list(tmp_path.iterdir())


def test_command_refuses_a_folder_that_exists_and_events_of_other_columns(folder, zoo_run, tmp_path):
    run = folder[0] / "runs" / "fold-0"
    code, _, errors = zoo_run(f"hunt {run} --data lhco_sim_test --out {folder[0]}")
    assert code == 2 and "exists already" in errors
    EVENTS.write(tmp_path / "other.h5")
    code, _, errors = zoo_run(f"hunt {run} --data {tmp_path}/other.h5 --out {tmp_path}/out {LINE}")
    assert code == 2 and "no column" in errors and errors.count("\n") == 1 and not (tmp_path / "out").exists()


def test_command_without_labels_gives_what_it_gives_with_labels_ignored(folder, zoo_run, tmp_path):
    run = folder[0] / "runs" / "fold-0"
    pipelines.open("lhco_sim_test").without_labels().write(tmp_path / "blind.h5")
    assert zoo_run(f"hunt {run} --data lhco_sim_test --ignore-labels --out {tmp_path}/a {LINE}")[0] == 0
    assert zoo_run(f"hunt {run} --data {tmp_path}/blind.h5 --out {tmp_path}/b {LINE}")[0] == 0
    a, b = (json.loads((tmp_path / name / "search.json").read_text()) for name in "ab")
    assert a["hunt"] == b["hunt"] and a["sculpting"] == b["sculpting"] and a["truth"] is b["truth"] is None
    assert a["configuration"]["data"]["sha256"] == b["configuration"]["data"]["sha256"]
    with h5py.File(tmp_path / "a/scores.h5") as one, h5py.File(tmp_path / "b/scores.h5") as other:
        np.testing.assert_array_equal(one["score"], other["score"])


def test_every_option_and_every_command_is_in_the_manual():
    manual = (Path(__file__).parent.parent / "docs" / "hunt.md").read_text()
    options = [
        name for parameter in zoo.cli.main.main.commands["hunt"].params for name in parameter.opts if name[:2] == "--"
    ]
    assert len(options) > 20 and [name for name in options if name not in manual and name != "--xla"] == []
    for name in zoo.cli.main.main.commands["validate"].commands:
        assert f"zoo validate {name} " in manual


@pytest.mark.slow
def test_folder_has_a_report_of_the_search(folder, zoo_run, tmp_path, brief):
    brief.undo()
    line = f"hunt {folder[0]}/runs/fold-0 --data lhco_sim_test --out {tmp_path}/out {LINE}"
    assert zoo_run(line)[0] == 0
    assert "<html" in (tmp_path / "out" / "report.html").read_text()


def test_a_run_that_is_loaded_in_python_says_that_labels_chose_it(folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(folder[0] / "runs" / "fold-0", run)
    config = json.loads((run / "config.json").read_text())
    config["tuning"] = {"objective": "auc:two-prong", "truth_used": True}
    del config["sha256"]  # it is of what was written
    (run / "config.json").write_text(json.dumps(config))
    events = pipelines.open("lhco_sim_test")
    for path, used in ((run, True), (folder[0] / "runs" / "fold-0", False)):
        found = search(zoo.load(path), events, percentiles=[80], mass_range=RANGE, widths=(1, 4), pseudo_experiments=20)
        assert found.summary()["truth_used"] is used
        assert found.configuration["run"] == json.loads(json.dumps(dict(origin(path))))
