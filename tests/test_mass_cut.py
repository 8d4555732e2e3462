"""A cut that follows the mass: no bump out of background, and a signal at its mass."""

import numpy as np
import pytest
from numpy.polynomial.legendre import legvander
from scipy.stats import kstest

import pipelines
from pipelines import Events, InputError
from pipelines.bumphunt.bump_hunt import bump_hunt
from pipelines.bumphunt.following_sculpting import following_sculpting
from pipelines.bumphunt.mass_cut import (
    MOST_ABSORBED,
    absorbed,
    bin_masses,
    degree_of,
    following_thresholds,
    refitted,
    scaled_mass,
)
from pipelines.bumphunt.options import BumpHuntOptions, SearchOptions
from pipelines.bumphunt.spectrum import histogram

RANGE = (2700.0, 5000.0)
HUNT = {"mass_range": RANGE, "pseudo_experiments": 400, "widths": (3, 6)}


def falling(rng, n):
    """Masses of an exponential spectrum within the range, by inversion."""
    low, high = RANGE
    return low - 500 * np.log(1 - rng.random(n) * (1 - np.exp((low - high) / 500)))


def knowing_the_mass(rng, mass):
    """A made-up score of background, whose mean and width change smoothly with the mass."""
    x = np.log(mass / 2700)
    return 8 * x - 12 * x**2 + rng.normal(size=len(mass)) * (1 + (mass - 2700) / 2000)


def pinball_loss(z, t, tau):
    """sum rho(z - t), rho(r) = r (tau - [r < 0]), which quantile regression minimises."""
    residual = z - t
    return residual @ (tau - (residual < 0))


@pytest.fixture(scope="module")
def background():
    rng = np.random.default_rng(1)
    mass = falling(rng, 40_000)
    return knowing_the_mass(rng, mass), mass


def test_the_same_share_is_selected_at_every_mass(background):
    score, mass = background
    x = scaled_mass(mass, RANGE)
    for tail, sign in (("upper", 1), ("lower", -1)):
        (t,) = following_thresholds(score, mass, None, RANGE, [(90.0, tail)], [3])
        selected = sign * score > sign * t.at(mass)
        assert selected.mean() == pytest.approx(0.1, abs=1e-3)
        for low, high in ((-1, -0.6), (-0.6, -0.2), (-0.2, 0.3)):
            part = selected[(x > low) & (x <= high)]
            assert part.mean() == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / len(part)))


def test_the_threshold_is_the_quantile_regression_of_the_least_pinball_loss(background):
    score, mass = background
    (t,) = following_thresholds(score, mass, None, RANGE, [(80.0, "upper")], [2])
    z = np.interp(score, t.scores, t.gaussian)
    basis = legvander(scaled_mass(mass, RANGE), len(t.coefficients) - 1)
    best = np.array(t.coefficients)
    least = pinball_loss(z, basis @ best, 0.8)
    for change in np.random.default_rng(0).normal(scale=0.03, size=(50, len(best))):
        assert pinball_loss(z, basis @ (best + change), 0.8) > least - 1e-4 * least


def test_weighted_events_are_as_so_many_events(background):
    score, mass = background[0][:5000], background[1][:5000]
    times = np.random.default_rng(2).integers(1, 4, len(score))
    (weighted,) = following_thresholds(score, mass, times.astype(float), RANGE, [(90.0, "upper")], [2])
    repeated = [np.repeat(values, times) for values in (score, mass)]
    (plain,) = following_thresholds(*repeated, None, RANGE, [(90.0, "upper")], [2])
    at = np.linspace(2750, 4500, 20)
    share = [(score > t.at(mass)) @ times / times.sum() for t in (weighted, plain)]
    assert share == pytest.approx([0.1, 0.1], abs=2e-3)
    assert weighted.at(at) == pytest.approx(plain.at(at), abs=0.25)


@pytest.mark.parametrize("widths, degree", [((2, 4), 4), ((3, 8), 3), ((3, 13), 2)])
def test_its_degree_is_the_largest_that_takes_away_at_most_half_of_an_excess(background, widths, degree):
    before = histogram(background[1], np.linspace(*RANGE, 41))
    assert degree_of(before, widths) == degree
    x, bins = bin_masses(before), 40
    windows = [
        slice(start, start + width)
        for width in range(widths[0], widths[1] + 1)
        for start in range(width, bins - 2 * width + 1)  # side bands of its own width
    ]
    assert max(absorbed(before.content, x, degree, window) for window in windows) <= MOST_ABSORBED
    if degree < 4:
        assert max(absorbed(before.content, x, degree + 1, window) for window in windows) > MOST_ABSORBED


@pytest.mark.parametrize("at, width", [(3300.0, 460.0), (3900.0, 460.0), (3500.0, 172.5)])
def test_a_bump_of_the_scanned_widths_stays_but_for_the_share_that_is_told(background, at, width):
    """Signal beyond all thresholds, spread over a window: what the fit takes away of it, and the shift of t(m)."""
    score, mass = background
    rng = np.random.default_rng(8)
    signal = rng.uniform(at, at + width, 400)
    degree = degree_of(histogram(mass, np.linspace(*RANGE, 41)), (3, 8))
    assert degree == 3
    (without,) = following_thresholds(score, mass, None, RANGE, [(90.0, "upper")], [degree])
    both = np.r_[score, np.full(400, score.max() + 1)], np.r_[mass, signal]
    (t,) = following_thresholds(*both, None, RANGE, [(90.0, "upper")], [degree])
    inside = (mass >= at) & (mass < at + width)
    edges = np.r_[np.linspace(RANGE[0], at, 21)[:-1], at, np.linspace(at + width, RANGE[1], 21)]
    fine = histogram(mass, edges)
    told = absorbed(fine.content, bin_masses(fine), degree, slice(20, 21))
    assert 0.1 < told <= MOST_ABSORBED
    before, after = (np.count_nonzero(inside & (score > one.at(mass))) for one in (without, t))
    outside = [np.count_nonzero(~inside & (score > one.at(mass))) for one in (without, t)]
    scale = inside.sum() / (~inside).sum()  # of the side bands
    lost = (before - after) - (outside[0] - outside[1]) * scale
    # of the 400 that are selected a tenth would be by chance
    assert lost / (0.9 * 400) == pytest.approx(told, abs=0.12)


def test_background_whose_score_knows_the_mass_has_no_bump_and_with_one_threshold_it_has(background):
    one_threshold = bump_hunt(*background, percentiles=[90], **HUNT)
    follows = bump_hunt(*background, percentiles=[90], cut="mass", **HUNT)
    assert one_threshold.best.local_significance > 8
    assert one_threshold.best.reference_p_value < 1e-6 < 0.01 < follows.best.reference_p_value
    assert one_threshold.best.absorbed == 0 < follows.best.absorbed < 1
    assert follows.best.local_significance < 3.5 and follows.global_p_value > 0.02
    assert follows.best.threshold_curve.degree == 4 and one_threshold.best.threshold_curve is None


def test_a_signal_is_found_at_its_mass(background):
    rng = np.random.default_rng(3)
    mass = np.r_[background[1], rng.normal(3823, 60, 300)]
    score = np.r_[background[0], background[0].max() - rng.exponential(2.5, 300)]
    found = bump_hunt(score, mass, percentiles=[95], cut="mass", **HUNT)
    assert found.global_p_value_is_bound
    assert found.best.mass_estimate == pytest.approx(3823, abs=60)
    assert found.best.interval[0] < 3823 < found.best.interval[1]


@pytest.mark.parametrize("cut", ["global", "mass"])
def test_global_p_values_of_background_are_uniform(cut):
    """Of scores that know the mass; with one threshold they are not, which is what the other is for.

    benchmarks/mass_cut.py has 200 searches, and more scores.
    """
    rng, p_values = np.random.default_rng(4), []
    for seed in range(60):
        mass = falling(rng, 4000)
        score = knowing_the_mass(rng, mass)
        options = {"percentiles": [85], "pseudo_experiments": 99, "seed": seed, "mass_range": RANGE, "widths": (2, 4)}
        p_values.append(bump_hunt(score, mass, cut=cut, bins=20, **options).global_p_value)
    fits = kstest(p_values, "uniform").pvalue
    assert fits > 1e-3 if cut == "mass" else fits < 1e-6


def test_a_refit_takes_what_a_polynomial_can_describe_and_keeps_the_number():
    rng = np.random.default_rng(5)
    cells = rng.integers(50, 500, 30)
    basis = np.concatenate([legvander(np.linspace(-1, 1, 29), 2), np.zeros((1, 3))])
    selected = rng.binomial(cells[:, None], 0.2 + 0.1 * np.linspace(-1, 1, 30)[:, None], (30, 200)).astype(float)
    after = refitted(selected, cells, np.ones(30), basis, rng)
    assert (after[:-1].sum(axis=0) == selected[:-1].sum(axis=0)).all() and (after[-1] == selected[-1]).all()
    assert (after >= 0).all() and (after <= cells[:, None]).all() and (after == np.rint(after)).all()
    share = (after[:-1] / cells[:-1, None]).mean(axis=1)
    assert np.abs(np.polyfit(np.linspace(-1, 1, 29), share, 1)[0]) < 0.01


def test_several_spectra_tails_percentiles_and_weights_go_together(background):
    score, mass = (values[:20_000] for values in background)
    weight = np.random.default_rng(6).choice([0.5, 1.0, 2.0], len(score))
    found = bump_hunt(
        score, {"a": mass, "b": mass[::-1] * 1.02}, weight, percentiles=[80, 90], tails="both", cut="mass",
        pseudo_experiments=100, mass_range={"a": RANGE, "b": RANGE}, widths=(2, 4),
    )  # fmt: skip
    assert len(found.bumps) == 8 and all(bump.threshold_curve is not None for bump in found.bumps)
    assert found.global_p_value > 0.01


def test_a_search_says_which_events_its_curve_selects(background):
    score, mass = (values[:20_000] for values in background)
    events = Events.from_arrays(score[:, None].astype("f4"), mass, ["x"])

    class Model:
        def score(self, events):
            return events.read("features")[:, 0]

    found = pipelines.search(Model(), events, percentiles=[90], cut="mass", **HUNT)
    (bump,) = found.hunt.bumps
    assert found.selected(bump).sum() == bump.selected_events == pytest.approx(2000, abs=20)
    curve = found.hunt.to_dict()["bumps"][0]["threshold_curve"]
    assert len(curve["mass"]) == len(curve["threshold"]) and curve["degree"] in (3, 4)
    assert found.hunt.to_json()


def test_p_values_of_scores_that_know_nothing_of_the_mass_are_uniform_too():
    rng, p_values = np.random.default_rng(14), []
    for seed in range(60):
        mass = falling(rng, 4000)
        options = {"percentiles": [85], "pseudo_experiments": 99, "seed": seed, "mass_range": RANGE, "widths": (2, 4)}
        p_values.append(bump_hunt(rng.normal(size=4000), mass, cut="mass", bins=20, **options).global_p_value)
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_folds_whose_models_depend_on_the_mass_in_their_own_ways_make_no_bump():
    rng = np.random.default_rng(9)
    mass = falling(rng, 20_000)
    events = Events.from_arrays(rng.normal(size=(20_000, 1)).astype("f4"), mass, ["x"])

    class Model:
        def __init__(self, slope):
            self.slope = slope

        def score(self, events):
            return events.read("features")[:, 0] + self.slope * np.log(events.mass / 2700)

    found = {
        cut: pipelines.search(
            lambda fold, events: Model(4 * fold - 2), events, folds=3, percentiles=[90], cut=cut, **HUNT
        )
        for cut in ("global", "mass")
    }
    assert found["mass"].hunt.global_p_value > 0.02 > 0.005 > found["global"].hunt.global_p_value
    assert set(found["mass"].fold) == {0, 1, 2}


def test_scores_with_ties_at_the_cut_are_refused_and_ties_elsewhere_are_not(background):
    score, mass = background
    with pytest.raises(InputError, match=r"have the same score, .* at the cut of percentile 90 .*cut='global'"):
        bump_hunt(np.rint(score), mass, percentiles=[90], cut="mass", **HUNT)
    flat = np.maximum(np.random.default_rng(1).normal(size=len(mass)), 0.5)  # constant over most of the sample
    assert bump_hunt(flat, mass, percentiles=[90], cut="mass", **HUNT).best.selected_events == pytest.approx(
        4000, abs=40
    )
    assert bump_hunt(np.rint(score), mass, percentiles=[90], cut="global", **HUNT).bumps
    with pytest.raises(InputError, match="same score"):
        bump_hunt(flat, mass, percentiles=[60], cut="mass", **HUNT)


def test_it_is_the_default_of_searches_and_poisson_numbers_need_the_other(background):
    assert SearchOptions().cut == "mass" and BumpHuntOptions().cut == "global"
    with pytest.raises(InputError, match=r"null 'poisson' has none; take cut='global'"):
        SearchOptions(null="poisson")
    assert SearchOptions(null="poisson", cut="global").null == "poisson"


def test_sculpting_is_gone_after_the_cut_and_not_told_where_there_is_none(background):
    score, mass = (values[:20_000] for values in background)
    events = Events.from_arrays(score[:, None].astype("f4"), mass, ["x"])
    found = pipelines.search(score, events, percentiles=[90], **HUNT)
    before, after = (one["mass"]["upper"]["90"] for one in (found.sculpting, found.sculpting_following))
    assert before["distance"] > before["floor"] + 10 * before["floor_std"]
    assert after["distance"] < after["floor"] + 3 * after["floor_std"]
    assert found.to_dict()["sculpting_following"] == found.sculpting_following
    assert following_sculpting(np.rint(score), mass, [90.0], ends=RANGE) == {}
    assert following_sculpting(score, mass, [90.0], weight=-np.ones(len(mass))) == {}


def test_a_cut_that_is_none_of_both_is_refused():
    with pytest.raises(InputError, match="cut 'none', expected one of global, mass"):
        BumpHuntOptions(cut="none")
