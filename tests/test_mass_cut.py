"""A cut that follows the mass: no bump out of background, and a signal at its mass."""

import numpy as np
import pytest
from numpy.polynomial.legendre import legvander
from scipy.stats import kstest

import pipelines
from pipelines import Events, InputError
from pipelines.bumphunt.bump_hunt import bump_hunt
from pipelines.bumphunt.mass_cut import (
    absorbed,
    following_thresholds,
    largest_degree,
    pinball_loss,
    refitted,
    scaled_mass,
)
from pipelines.bumphunt.options import BumpHuntOptions

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


@pytest.fixture(scope="module")
def background():
    rng = np.random.default_rng(1)
    mass = falling(rng, 40_000)
    return knowing_the_mass(rng, mass), mass


def test_the_same_share_is_selected_at_every_mass(background):
    score, mass = background
    x = scaled_mass(mass, RANGE)
    for tail, sign in (("upper", 1), ("lower", -1)):
        (t,) = following_thresholds(score, mass, None, RANGE, [(90.0, tail)], 3)
        selected = sign * score > sign * t.at(mass)
        assert selected.mean() == pytest.approx(0.1, abs=1e-3)
        for low, high in ((-1, -0.6), (-0.6, -0.2), (-0.2, 0.3)):
            part = selected[(x > low) & (x <= high)]
            assert part.mean() == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / len(part)))


def test_the_threshold_is_the_quantile_regression_of_the_least_pinball_loss(background):
    score, mass = background
    (t,) = following_thresholds(score, mass, None, RANGE, [(80.0, "upper")], 2)
    z = np.interp(score, t.scores, t.gaussian)
    basis = legvander(scaled_mass(mass, RANGE), len(t.coefficients) - 1)
    ones, best = np.ones(len(z)), np.array(t.coefficients)
    least = pinball_loss(z, basis @ best, 0.8, ones)
    for change in np.random.default_rng(0).normal(scale=0.03, size=(50, len(best))):
        assert pinball_loss(z, basis @ (best + change), 0.8, ones) > least - 1e-4 * least


def test_weighted_events_are_as_so_many_events(background):
    score, mass = background[0][:5000], background[1][:5000]
    times = np.random.default_rng(2).integers(1, 4, len(score))
    (weighted,) = following_thresholds(score, mass, times.astype(float), RANGE, [(90.0, "upper")], 2)
    repeated = [np.repeat(values, times) for values in (score, mass)]
    (plain,) = following_thresholds(*repeated, None, RANGE, [(90.0, "upper")], 2)
    at = np.linspace(2750, 4500, 20)
    share = [(score > t.at(mass)) @ times / times.sum() for t in (weighted, plain)]
    assert share == pytest.approx([0.1, 0.1], abs=2e-3)
    assert weighted.at(at) == pytest.approx(plain.at(at), abs=0.25)


def test_its_degree_is_bounded_by_the_windows_so_that_it_cannot_follow_a_bump():
    usual = BumpHuntOptions()
    assert largest_degree(RANGE, usual) == 3
    assert largest_degree(RANGE, BumpHuntOptions(widths=(3, 20))) == 1
    spectrum, x = np.exp(-np.linspace(0, 4.6, 40)), np.linspace(-1, 1, 40)
    shares = [absorbed(spectrum, x, largest_degree(RANGE, usual), slice(i, i + 4)) for i in range(4, 28)]
    assert max(shares) < 0.6 and np.mean(shares) < 0.3


def test_background_whose_score_knows_the_mass_has_no_bump_and_with_one_threshold_it_has(background):
    one_threshold = bump_hunt(*background, percentiles=[90], **HUNT)
    follows = bump_hunt(*background, percentiles=[90], cut="mass", **HUNT)
    assert one_threshold.best.local_significance > 8
    assert follows.best.local_significance < 3.5 and follows.global_p_value > 0.02
    assert follows.best.threshold_curve.degree in (2, 3, 4) and one_threshold.best.threshold_curve is None


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
    """Of scores that know the mass; with one threshold they are not, which is what the other is for."""
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
    assert len(curve["mass"]) == len(curve["threshold"]) and curve["degree"] <= 4
    assert found.hunt.to_json()


def test_a_cut_that_is_none_of_both_is_refused():
    with pytest.raises(InputError, match="cut 'none', expected one of global, mass"):
        BumpHuntOptions(cut="none")
