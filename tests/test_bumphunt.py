"""Bump hunts: scans against pyBumpHunter, pseudo-experiments against shuffled events, p-values against chance."""

import dataclasses
import itertools
import json
import logging
import re

import numpy as np
import pytest
from scipy import stats

from pipelines import InputError
from pipelines.bumphunt.bump_hunt import bump_hunt
from pipelines.bumphunt.bump_scan import bump_scan
from pipelines.bumphunt.bumphunter import by_pybumphunter
from pipelines.bumphunt.pseudo_experiments import comparable, count_together, estimated, shuffled
from pipelines.bumphunt.spectrum import adaptive_edges, histogram

RANGE = (2700, 5000)


def background(events, seed=0):
    """Scores that know nothing of the mass."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=events), 2700 + rng.exponential(500, events)


def with_signal(background_events=40_000, signal=150, at=3600.0, separation=3.0, seed=0):
    rng = np.random.default_rng(seed + 1000)
    score, mass = background(background_events, seed)
    score = np.r_[score, rng.normal(separation, 1, signal)]
    return score, np.r_[mass, rng.normal(at, 60, signal)]


# The scan


def pybumphunter(histogram, reference, deficit, use_sideband, **options):
    from pyBumpHunter import BumpHunter1D

    hunter = BumpHunter1D(
        mode="deficit" if deficit else "excess",
        width_min=options["widths"][0],
        width_max=options["widths"][1],
        nworker=1,
        use_sideband=use_sideband,
        sideband_width=options["side_band"],
    )
    with np.errstate(divide="ignore"):  # the logarithm of a deficit's p-value of 0
        hunter.bump_scan(histogram, reference, is_hist=True, do_pseudo=False)
    return hunter


@pytest.mark.parametrize("deficit", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("options", [{"widths": (3, 8), "side_band": 0}, {"widths": (1, 5), "side_band": 3}])
@pytest.mark.parametrize("kind", ["poisson", "multinomial", "weighted", "empty ends"])
def test_scan_finds_pybumphunters_window_and_p_value(deficit, normalise, options, kind):
    """Multinomial histograms have equal totals, for which the scan uses a table of p-values."""
    rng = np.random.default_rng(3)
    reference = 3000 * np.exp(-np.arange(30) / 8)
    if kind == "empty ends":
        reference[[0, 1, 15, 29]] = 0
    if kind == "multinomial":
        histograms = rng.multinomial(4000, reference / reference.sum(), 300).T.astype(float)
    else:
        histograms = rng.poisson(np.tile(reference / 5, (60, 1)).T).astype(float)
    histograms[8:12, ::3] = np.rint(histograms[8:12, ::3] * 1.3)  # some of them with bumps
    histograms *= 0.7 if kind == "weighted" else 1
    reference = reference if normalise else reference / 5
    found = bump_scan(histograms, reference, deficit=deficit, normalise=normalise, **options)
    for i in range(0, histograms.shape[1], 5):
        theirs = pybumphunter(histograms[:, i], reference, deficit, normalise, **options)
        tolerance = {"rtol": 0, "atol": 1e-10} if deficit else {"rtol": 1e-10, "atol": 0}
        np.testing.assert_allclose(found.p_value[i], theirs.min_Pval_ar[0], **tolerance)
        if not (deficit and found.p_value[i] < 1e-10):
            assert (found.start[i], found.width[i]) == (theirs.min_loc_ar[0], theirs.min_width_ar[0])


@pytest.mark.parametrize("deficit", [False, True])
def test_every_window_agrees_with_pybumphunter_not_only_the_best(deficit):
    rng = np.random.default_rng(8)
    reference = np.linspace(900, 100, 20)
    histogram = rng.poisson(reference / 4).astype(float)
    theirs = pybumphunter(histogram, reference, deficit, True, widths=(2, 6), side_band=0)
    for width in range(2, 7):
        for start in range(20 - width + 1):
            # a scan of this one window: what is outside becomes one bin at either end
            cuts = [0, start, start + width, 20]
            n, r = ([values[a:b].sum() for a, b in itertools.pairwise(cuts)] for values in (histogram, reference))
            n, r = np.array(n), np.array(r)
            scale = (n.sum() - n[1]) / (r.sum() - r[1])
            tail = stats.poisson(scale * r[1])
            expected = tail.cdf(n[1]) if deficit else tail.sf(n[1] - 1)
            if (n[1] >= scale * r[1]) if deficit else (n[1] <= scale * r[1]):
                expected = 1.0
            np.testing.assert_allclose(theirs.res_ar[width - 2][start], expected, rtol=1e-9)
    smallest = min(p.min() for p in theirs.res_ar)
    np.testing.assert_allclose(
        bump_scan(histogram, reference, widths=(2, 6), deficit=deficit).p_value, smallest, rtol=1e-9
    )


def test_p_value_of_a_planted_window_is_the_poisson_tail():
    histogram = np.full(12, 25.0)
    histogram[4:7] = 50
    found = bump_scan(histogram, np.full(12, 25.0), widths=(1, 5))
    assert (found.start[0], found.width[0]) == (4, 3)
    assert found.p_value[0] == pytest.approx(stats.poisson.sf(149, 75), rel=1e-9)


def test_deep_deficit_keeps_its_digits():
    """1 - gammainc is 0 here; the window found must still be the deepest."""
    histogram = np.full(12, 400.0)
    histogram[[2, 3, 7, 8, 9]] = [150, 150, 20, 20, 20]
    found = bump_scan(histogram, np.full(12, 400.0), widths=(1, 4), deficit=True, normalise=False)
    assert (found.start[0], found.width[0]) == (7, 3)
    assert 0 < found.p_value[0] == pytest.approx(max(stats.poisson.cdf(60, 1200), 1e-300), rel=1e-6)


def test_scanning_many_gives_what_scanning_each_gives():
    rng = np.random.default_rng(1)
    reference = np.linspace(400, 40, 25)
    histograms = rng.multinomial(5000, reference / reference.sum(), 500).T
    together = bump_scan(histograms, reference)
    for i in range(0, 500, 50):
        alone = bump_scan(histograms[:, i], reference)
        assert [together.p_value[i], together.start[i], together.width[i]] == [
            alone.p_value[0],
            alone.start[0],
            alone.width[0],
        ]  # bit by bit: pseudo-experiments are compared with the observation by <=


@pytest.mark.parametrize("deficit", [False, True])
@pytest.mark.parametrize("share", [0.02, 0.5])
def test_fisher_scan_is_the_hypergeometric_tail_of_every_window(deficit, share):
    rng = np.random.default_rng(7)
    reference = rng.poisson(np.linspace(900, 60, 12))
    of, total = reference.sum(), int(share * reference.sum())
    histograms = rng.multivariate_hypergeometric(reference, total, 40).T
    if share < 0.1:
        histograms[:, 0] = np.r_[total - 30, 0, 0, 30, np.zeros(8)]  # far from all others
    found = bump_scan(histograms, reference, widths=(2, 4), side_band=1, deficit=deficit, statistic="fisher")
    for i in range(0, 40, 3):
        best = (1.0, 0, 2)
        for width in (2, 3, 4):
            for start in range(1, 12 - 1 - width + 1):
                n, r = (values[start : start + width].sum() for values in (histograms[:, i], reference))
                tail = stats.hypergeom(of, r, total)
                if (n < total * r / of) if deficit else (n > total * r / of):
                    best = min(best, (max(tail.cdf(n) if deficit else tail.sf(n - 1), 1e-300), start, width))
        assert found.p_value[i] == pytest.approx(best[0], rel=1e-7)
        assert (found.start[i], found.width[i]) == best[1:]


@pytest.mark.parametrize("histograms", [np.full((6, 2), 1.5), np.array([[1, 2]] * 6), np.full((6, 2), 50)])
def test_histograms_that_fishers_test_is_not_for_are_told(histograms):
    with pytest.raises(InputError, match="statistic 'fisher' needs whole numbers of events, the same number"):
        bump_scan(histograms, np.full(6, 20), widths=(1, 2), statistic="fisher")


def test_window_of_everything_is_no_bump():
    assert bump_scan(np.array([3.0, 9.0]), np.array([5.0, 5.0]), widths=(2, 2)).p_value == [1.0]


# Pseudo-experiments


def test_shuffled_events_keep_the_spectrum_and_the_selections():
    cells, slices = np.array([500, 300, 0, 41, 3]), np.array([20, 130])
    dealt = shuffled(cells, slices, 2000, np.random.default_rng(0))
    assert dealt.shape == (2, 5, 2000) and dealt.min() >= 0
    assert (dealt.sum(axis=1) == slices[:, None]).all()
    assert (dealt.sum(axis=0) <= cells[:, None]).all()
    everything = shuffled(cells, np.array([20, 130, 694]), 50, np.random.default_rng(0))
    assert (everything.sum(axis=0) == cells[:, None]).all()


def test_shuffled_numbers_are_distributed_as_shuffled_events():
    """Means, variances and correlations between slices and cells, against permutations of the single events."""
    rng = np.random.default_rng(2)
    cells, slices, n = np.array([40, 25, 10, 5]), np.array([12, 30]), 6000
    cell_of = np.repeat(np.arange(4), cells)
    events = np.empty((8, n))
    for i in range(n):
        order = rng.permutation(cell_of)
        events[:4, i], events[4:, i] = np.bincount(order[:12], minlength=4), np.bincount(order[12:42], minlength=4)
    numbers = shuffled(cells, slices, n, rng).reshape(8, n)
    for row, other in zip(numbers, events):
        assert stats.ks_2samp(row, other).pvalue > 0.001
    spread = np.std(events, axis=1)
    np.testing.assert_allclose(numbers.mean(axis=1), events.mean(axis=1), atol=5 * spread.max() * np.sqrt(2 / n))
    np.testing.assert_allclose(np.corrcoef(numbers), np.corrcoef(events), atol=0.07)


def test_a_cell_of_every_slice_is_hypergeometric():
    dealt = shuffled(np.array([90, 60, 50]), np.array([30, 70]), 20_000, np.random.default_rng(9))
    for row, size in zip(dealt, (30, 70)):
        values, found = np.unique(row[1], return_counts=True)
        expected = stats.hypergeom(200, 60, size).pmf(values) * 20_000
        many = expected > 20
        assert stats.chisquare(found[many], expected[many] * found[many].sum() / expected[many].sum()).pvalue > 0.01


@pytest.mark.parametrize("digits", [1, 9])  # with and without ties
def test_together_counts_as_the_definition_does(digits):
    rng = np.random.default_rng(6)
    for _ in range(20):
        everything = (rng.uniform(size=(3, 101)) ** [[1], [2], [4]]).round(digits)
        ranks = [min((everything[s] <= everything[s, i]).sum() for s in range(3)) for i in range(101)]
        assert count_together(everything[:, 1:], everything[:, 0]) == sum(rank <= ranks[0] for rank in ranks[1:])


@pytest.mark.parametrize("statistic", ["poisson", "fisher"])
def test_statistic_of_equal_histograms_is_equal_among_many_and_alone(statistic):
    rng = np.random.default_rng(5)
    reference = rng.poisson(np.linspace(900, 60, 12))
    histograms = rng.multivariate_hypergeometric(reference, 800, 300).T
    together = comparable(bump_scan(histograms, reference, widths=(2, 4), statistic=statistic))
    alone = [comparable(bump_scan(one, reference, widths=(2, 4), statistic=statistic))[0] for one in histograms.T]
    assert together.tolist() == alone


@pytest.mark.parametrize("statistic", ["poisson", "fisher"])
def test_global_p_value_of_two_bins_is_the_sum_over_all_tables(statistic):
    """30 and 20 events, 12 of them selected: the p-value is a sum of probabilities, ties included."""
    mass, score = np.repeat([1.0, 2.0], [30, 20]), np.zeros(50)
    score[:3] = score[30:39] = 1  # 3 and 9 selected where 7.2 and 4.8 are expected
    score += np.linspace(0, 0.1, 50)
    options = {"percentiles": [76], "bins": 2, "relative_error": None, "widths": (1, 1), "statistic": statistic}
    found = bump_hunt(score, mass, pseudo_experiments=20_000, **options)
    assert found.bumps[0].observed == (3, 9)
    number = stats.hypergeom(50, 20, 12)

    def smallest(k):
        """Of both windows, for k of 12 in the second bin"""
        if statistic == "fisher":
            return number.sf(k - 1) if k > 4.8 else number.cdf(k)
        n, outside, share = (k, 12 - k, 20 / 30) if k > 4.8 else (12 - k, k, 30 / 20)
        return stats.poisson.sf(n - 1, outside * share) if outside else 1.0

    exact = sum(number.pmf(k) for k in range(13) if smallest(k) <= smallest(9) * (1 + 1e-9))
    for p_value in (found.global_p_value, found.bumps[0].global_p_value):
        assert p_value == pytest.approx(exact, abs=4 * np.sqrt(exact / 20_000))
    assert number.pmf(9) > 6 * np.sqrt(exact / 20_000)  # or ties would not be seen


def test_global_p_value_is_that_of_shuffled_events():
    """Permutations of the single scores, hunted one by one with pyBumpHunter, give the same p-value."""
    score, mass = with_signal(3000, 25, seed=3)
    options = {"percentiles": [80, 90], "mass_range": RANGE, "bins": 16, "widths": (1, 4), "tails": "upper"}
    found = bump_hunt(score, mass, pseudo_experiments=5000, **options)
    inside = (mass >= RANGE[0]) & (mass <= RANGE[1])
    score, mass, rng = score[inside], mass[inside], np.random.default_rng(1)
    minima = np.empty((2, 400))
    for i in range(400):
        shuffled = rng.permutation(score)
        for j, bump in enumerate(found.bumps):
            histogram = np.histogram(mass[shuffled > bump.threshold], bump.edges)[0].astype(float)
            reference = np.histogram(mass, bump.edges)[0].astype(float)
            minima[j, i] = by_pybumphunter(histogram, reference, widths=(1, 4))[0]
    for smallest, bump in zip(minima, found.bumps):
        p = np.mean(smallest <= bump.local_p_value)
        assert p == pytest.approx(bump.global_p_value, abs=4 * np.sqrt(bump.global_p_value / 400))
        assert 0.01 < bump.global_p_value < 0.9  # or this test would say nothing
    p = count_together(minima, np.array([bump.local_p_value for bump in found.bumps])) / 400
    assert p == pytest.approx(found.global_p_value, abs=4 * np.sqrt(found.global_p_value / 400))


# The global p-value of background


def p_values(data_sets, events, pseudo_experiments, **options):
    found = []
    for i in range(data_sets):
        score, mass = background(events, seed=i + 10_000)
        result = bump_hunt(score, mass, mass_range=RANGE, pseudo_experiments=pseudo_experiments, seed=i, **options)
        found.append(result.global_p_value)
    return np.array(found)


@pytest.mark.parametrize(
    "options",
    [
        {"percentiles": [50]},
        {"percentiles": [50, 80], "tails": "both"},
        {"percentiles": [85], "deficit": True},
        {"percentiles": [70], "statistic": "fisher"},
    ],
)
def test_global_p_value_of_background_is_uniform(options):
    found = p_values(80, 5000, 150, bins=20, widths=(1, 5), **options)
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_poisson_pseudo_experiments_forget_that_the_reference_is_the_same_events():
    """Why scores are shuffled: at the 50th percentile half the variance is not there."""
    found = p_values(60, 5000, 200, bins=20, widths=(1, 5), percentiles=[50], null="poisson")
    assert stats.kstest(found, "uniform").pvalue < 1e-6 and found.mean() > 0.7


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"percentiles": [50]},
        {"percentiles": [85]},
        {"percentiles": [99], "widths": (1, 4)},
        {"percentiles": [50, 85, 95]},
        {"percentiles": [85, 95], "tails": "both"},
        {"percentiles": [85], "deficit": True},
        {"percentiles": [50, 95], "statistic": "fisher"},
    ],
)
def test_global_p_value_of_much_background_is_uniform(options):
    found = p_values(500, 20_000, 500, **options)
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_p_value_of_weighted_background_is_uniform():
    found = []
    for i in range(60):
        score, mass = background(4000, seed=i)
        weight = np.random.default_rng(i).choice([0.5, 1, 3], 4000)
        result = bump_hunt(
            score, mass, weight, percentiles=[60], bins=15, widths=(1, 4), pseudo_experiments=100, seed=i
        )
        found.append(result.global_p_value)
    assert stats.kstest(found, "uniform").pvalue > 0.01


# What is found


@pytest.mark.parametrize("at", [3300.0, 3800.0])
def test_injected_bump_is_found_where_it_is(at):
    score, mass = with_signal(signal=250, at=at)
    found = bump_hunt(score, mass, percentiles=[98], mass_range=RANGE, pseudo_experiments=2000)
    (bump,) = found.bumps
    low, high = bump.interval
    assert low < at < high and abs(bump.mass_estimate - at) < 40
    assert bump.local_significance > 5 and bump.fisher_significance > 5
    signal_selected = np.count_nonzero(score[-250:] > bump.threshold)
    assert bump.signal_estimate == pytest.approx(signal_selected, abs=3 * np.sqrt(signal_selected + 60))
    assert bump.selected_events == np.count_nonzero((score > bump.threshold) & (mass >= 2700) & (mass <= 5000))
    assert bump.selected_events == pytest.approx(0.02 * found.events, abs=1)


def test_mass_estimate_is_the_mean_of_the_excess_event_by_event():
    score, mass = with_signal()
    (bump,) = bump_hunt(score, mass, percentiles=[97], mass_range=RANGE, pseudo_experiments=10).bumps
    inside = (mass >= bump.interval[0]) & (mass < bump.interval[1])
    chosen, f = score > bump.threshold, bump.normalisation
    excess = np.count_nonzero(inside & chosen) - f * np.count_nonzero(inside)
    assert bump.signal_estimate == pytest.approx(excess)
    assert bump.mass_estimate == pytest.approx((mass[inside & chosen].sum() - f * mass[inside].sum()) / excess)


def test_numbers_are_pybumphunters():
    score, mass = with_signal()
    (bump,) = bump_hunt(score, mass, percentiles=[97], mass_range=RANGE, side_band=1, pseudo_experiments=100).bumps
    inside = (mass >= 2700) & (mass <= 5000)
    observed = np.histogram(mass[score > bump.threshold], bump.edges)[0].astype(float)
    before = np.histogram(mass[inside], bump.edges)[0].astype(float)
    theirs = pybumphunter(observed, before, False, True, widths=(3, 8), side_band=1)
    start, width = theirs.min_loc_ar[0], theirs.min_width_ar[0]
    assert bump.observed == tuple(observed)
    assert bump.interval == (bump.edges[start], bump.edges[start + width])
    assert bump.local_p_value == pytest.approx(theirs.min_Pval_ar[0], rel=1e-10)
    assert bump.signal_estimate == pytest.approx(theirs.signal_eval, rel=1e-10)
    assert bump.normalisation == pytest.approx(theirs.norm_scale, rel=1e-10)
    np.testing.assert_allclose(bump.reference, before * theirs.norm_scale, rtol=1e-10)
    assert bump.local_significance == pytest.approx(stats.norm.isf(theirs.min_Pval_ar[0]), rel=1e-8)


@pytest.mark.parametrize("deficit", [False, True])
def test_fisher_p_value_is_that_of_the_table_of_four(deficit):
    score, mass = background(3000, seed=5)
    options = {"percentiles": [70], "mass_range": RANGE, "bins": 15, "widths": (1, 3)}
    (bump,) = bump_hunt(score, mass, deficit=deficit, pseudo_experiments=10, **options).bumps
    chosen = score > bump.threshold
    inside = (mass >= 2700) & (mass <= 5000)
    window = (mass >= bump.interval[0]) & (mass < bump.interval[1])
    table = [[np.sum(inside & a & b) for b in (window, ~window)] for a in (chosen, ~chosen)]
    expected = stats.fisher_exact(table, alternative="less" if deficit else "greater").pvalue
    assert bump.fisher_p_value == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("deficit", [False, True])
def test_fisher_statistic_takes_the_window_of_smallest_fisher_p_value(deficit):
    score, mass = with_signal(20_000, 80)
    options = {"percentiles": [90, 97], "mass_range": RANGE, "bins": 20, "widths": (1, 4), "deficit": deficit}
    found = bump_hunt(score, mass, statistic="fisher", pseudo_experiments=100, **options)
    poisson = bump_hunt(score, mass, pseudo_experiments=100, **options)
    assert found.statistic == "fisher"
    for bump, other in zip(found.bumps, poisson.bumps):
        assert bump.fisher_p_value <= other.fisher_p_value * (1 + 1e-9)
        assert bump.local_p_value >= other.local_p_value * (1 - 1e-9)
        first, last = (bump.edges.index(edge) for edge in bump.interval)
        n, r = sum(bump.observed[first:last]), sum(bump.reference[first:last])
        tail = stats.poisson(r)
        assert bump.local_p_value == pytest.approx(tail.cdf(n) if deficit else tail.sf(n - 1), rel=1e-6)


def test_fisher_statistic_is_more_sensitive_where_side_bands_hold_few_events():
    """400 selected events: windows that leave few outside make the Poisson statistic of background tiny."""
    found = {"poisson": [], "fisher": []}
    for seed in range(8):
        score, mass = with_signal(40_000, 50, seed=seed)
        for statistic, values in found.items():
            options = {"percentiles": [99], "mass_range": RANGE, "pseudo_experiments": 1000}
            values.append(bump_hunt(score, mass, statistic=statistic, **options).global_significance)
    assert np.mean(found["fisher"]) > np.mean(found["poisson"]) + 0.3


def test_lower_tail_finds_what_scores_low_and_both_tails_pay_for_it():
    score, mass = with_signal(signal=60)
    options = {"percentiles": [98], "mass_range": RANGE, "pseudo_experiments": 4000}
    lower = bump_hunt(-score, mass, tails="lower", **options)
    upper = bump_hunt(score, mass, tails="upper", **options)
    assert dataclasses.replace(lower.bumps[0], tail="upper", threshold=-lower.bumps[0].threshold) == upper.bumps[0]
    both = bump_hunt(-score, mass, tails="both", **options)
    assert [bump.tail for bump in both.bumps] == ["upper", "lower"] and both.best.tail == "lower"
    assert 0.001 < both.best.global_p_value < 0.3
    assert both.trials_factor == pytest.approx(2, abs=0.3)
    assert both.global_p_value == pytest.approx(both.best.global_p_value * both.trials_factor)


def test_percentiles_next_to_each_other_cost_less_than_a_factor():
    """98 and 98.2 select nearly the same events; 50 and 98 hardly share any."""
    score, mass = with_signal(signal=60)
    options = {"mass_range": RANGE, "pseudo_experiments": 4000}
    near = bump_hunt(score, mass, percentiles=[98, 98.2], **options)
    far = bump_hunt(score, mass, percentiles=[98, 50], **options)
    assert 1 <= near.trials_factor < 1.7 < far.trials_factor <= 2.1


def test_three_jet_bump_is_found_beside_the_two_jet_spectrum():
    score, m_jjj = with_signal(signal=200)
    m_jj = 2700 + np.random.default_rng(4).exponential(500, len(score))
    masses = {"m_jj": m_jj, "m_jjj": m_jjj}
    found = bump_hunt(score, masses, percentiles=[98], mass_range={"m_jjj": RANGE}, bins=25, pseudo_experiments=300)
    assert [bump.spectrum for bump in found.bumps] == ["m_jj", "m_jjj"] and found.best.spectrum == "m_jjj"
    assert abs(found.best.mass_estimate - 3600) < 150 and found.bumps[0].global_p_value > 0.01
    assert found.events == len(score)  # those beyond 5000 GeV in m_jjj are still in m_jj
    assert found.bumps[1].selected_events < found.bumps[0].selected_events


def test_fisher_statistic_takes_several_spectra_if_all_events_are_in_each():
    score, mass = with_signal(5000, 50)
    masses = {"m_jj": mass, "m_jjj": 1.2 * mass + 50 * score}
    options = {"percentiles": [90], "bins": 12, "widths": (1, 3), "pseudo_experiments": 50, "statistic": "fisher"}
    assert len(bump_hunt(score, masses, **options).bumps) == 2
    with pytest.raises(InputError, match="one spectrum"):
        bump_hunt(score, masses, mass_range={"m_jjj": (3500, 6000)}, **options)


def test_spectra_of_the_same_masses_have_no_trials_factor():
    score, mass = with_signal(signal=60)
    found = bump_hunt(score, {"a": mass, "b": mass}, percentiles=[98], mass_range=RANGE, pseudo_experiments=1000)
    assert found.trials_factor == 1


def test_deficit_is_found_and_is_no_excess():
    score, mass = background(40_000)
    hole = (mass > 3300) & (mass < 3500)
    score[hole] = np.minimum(score[hole], 0)
    found = bump_hunt(score, mass, percentiles=[90], mass_range=RANGE, deficit=True, pseudo_experiments=500)
    (bump,) = found.bumps
    assert found.mode == "deficit" and bump.signal_estimate < 0
    assert bump.interval[0] < 3400 < bump.interval[1] and bump.local_significance > 8
    excess = bump_hunt(score, mass, percentiles=[90], mass_range=RANGE, pseudo_experiments=500).bumps[0]
    assert excess.local_significance < bump.local_significance


def test_selection_that_follows_the_spectrum_exactly_has_no_bump():
    mass = np.repeat(2700 + 57.5 * (np.arange(40) + 0.5), 200)
    score = np.tile(np.arange(200.0), 40)
    found = bump_hunt(score, mass, percentiles=[50], mass_range=RANGE, pseudo_experiments=50)
    (bump,) = found.bumps
    assert (bump.local_p_value, bump.global_p_value, bump.signal_estimate) == (1, 1, 0)
    assert bump.interval is None and bump.mass_estimate is None and bump.local_significance == 0
    assert json.loads(found.to_json())["bumps"][0]["interval"] is None


def test_p_value_beyond_all_pseudo_experiments_is_a_bound():
    score, mass = with_signal(signal=400)
    found = bump_hunt(score, mass, percentiles=[98], mass_range=RANGE, pseudo_experiments=500)
    assert found.global_p_value == 1 / 501 and found.global_p_value_is_bound
    assert found.global_significance == pytest.approx(stats.norm.isf(1 / 501))
    assert found.bumps[0].global_p_value_is_bound and found.trials_factor is None
    several = bump_hunt(score, mass, percentiles=[97, 98], tails="both", mass_range=RANGE, pseudo_experiments=500)
    assert several.global_p_value_is_bound and 1 / 501 <= several.global_p_value <= 5 / 501


@pytest.mark.parametrize("seed", range(4))
def test_p_value_is_the_share_of_the_statistics_that_are_as_extreme_where_many_are_equal(seed):
    rng = np.random.default_rng(seed)
    mass, score = rng.integers(0, 11, 60), rng.normal(size=60)
    options = {"mass_range": (0, 10), "bins": 5, "relative_error": 1.0, "widths": (1, 1), "pseudo_experiments": 200}
    bump = bump_hunt(score, mass, percentiles=60, seed=seed, **options).best
    equal = bump.pseudo_statistics == np.float64(bump.test_statistic)
    as_extreme = bump.pseudo_statistics >= np.float64(bump.test_statistic)
    assert equal.any() and bump.global_p_value == (np.count_nonzero(as_extreme) + 1) / 201


def test_p_value_counts_the_data_as_one_dealing_and_is_never_too_small():
    """Phipson and Smyth 2010: p <= a at most in a share a of data sets; k / n <= 1 / n in a share 2 / (n + 1)."""
    rng = np.random.default_rng(0)
    observed, thrown = rng.random((4000, 2)), rng.random((4000, 2, 9))
    counts = np.sum(thrown[:, 0] <= observed[:, :1], axis=1)
    together = [count_together(toys, one) for one, toys in zip(observed, thrown)]
    alone, both = (np.array([estimated(count, 9)[0] for count in each]) for each in (counts, together))
    assert np.mean(counts / 9 <= 1 / 9) == pytest.approx(0.2, abs=0.025)  # four standard deviations
    assert np.mean(alone <= 1 / 9) == pytest.approx(0.1, abs=0.019)
    assert np.mean(both <= 0.1) < 0.119 and np.mean(both <= 0.2) == pytest.approx(1 - 0.9**2, abs=0.025)
    assert [estimated(k, 9) for k in (0, 1, 9)] == [(0.1, True), (0.2, False), (1.0, False)]


def test_json_holds_every_number():
    score, mass = with_signal()
    found = bump_hunt(score, mass, percentiles=[95, 98], tails="both", mass_range=RANGE, pseudo_experiments=100)
    read = json.loads(found.to_json())
    assert [(bump["percentile"], bump["tail"]) for bump in read["bumps"]] == [
        (95, "upper"),
        (95, "lower"),
        (98, "upper"),
        (98, "lower"),
    ]
    assert read["global_p_value"] == found.global_p_value and read["pseudo_experiments"] == 100
    for bump, original in zip(read["bumps"], found.bumps):
        assert len(bump["edges"]) == len(bump["observed"]) + 1 == len(bump["reference"]) + 1
        for name in ("local_significance", "global_significance", "mass_estimate", "signal_estimate"):
            assert bump[name] == getattr(original, name)
        assert sum(bump["observed"]) == bump["selected_events"]


# Weights


def test_weights_of_one_change_nothing():
    score, mass = with_signal(10_000, 60)
    plain = bump_hunt(score, mass, percentiles=[95], pseudo_experiments=200)
    ones = bump_hunt(score, mass, np.ones(len(mass)), percentiles=[95], pseudo_experiments=200)
    assert ones.bumps[0] == plain.bumps[0]


def test_common_weight_scales_the_signal_and_not_its_significance():
    score, mass = with_signal(10_000, 60)
    ones = bump_hunt(score, mass, percentiles=[95], pseudo_experiments=200).bumps[0]
    halves = bump_hunt(score, mass, np.full(len(mass), 0.5), percentiles=[95], pseudo_experiments=200).bumps[0]
    assert halves.local_p_value == pytest.approx(ones.local_p_value, rel=1e-10)
    assert halves.fisher_p_value == ones.fisher_p_value
    assert halves.global_p_value == ones.global_p_value
    assert halves.signal_estimate == pytest.approx(ones.signal_estimate / 2)
    assert halves.normalisation == pytest.approx(ones.normalisation)
    assert halves.normalisation_error == pytest.approx(ones.normalisation_error)


@pytest.mark.parametrize("weight", [0.1, 1.0, 3.7])
def test_fishers_test_takes_events_of_one_weight(weight):
    score, mass = with_signal(10_000, 60)
    inside = (mass >= RANGE[0]) & (mass <= RANGE[1])
    options = {"percentiles": [95], "mass_range": RANGE, "statistic": "fisher", "pseudo_experiments": 100}
    one, other = (
        bump_hunt(score[inside], mass[inside], of, **options).best for of in (None, np.full(inside.sum(), weight))
    )
    assert (one.interval, one.fisher_p_value, one.test_statistic) == (
        other.interval,
        other.fisher_p_value,
        other.test_statistic,
    )
    assert one.global_p_value == other.global_p_value
    with pytest.raises(InputError, match="needs events of one weight"):
        bump_hunt(score[inside], mass[inside], 1.0 + np.arange(inside.sum()) % 2, **options)


def test_bins_are_those_of_the_share_of_the_weight_that_is_selected():
    """Heavy events have the high scores: a tenth of the weight is few events, and the error of a bin is that of 10 %."""
    score, mass = background(30_000)
    weight = np.where(score > 0, 4.0, 0.5)
    (bump,) = bump_hunt(score, mass, weight, percentiles=[90], mass_range=RANGE, pseudo_experiments=10).bumps
    chosen, inside = score > bump.threshold, (mass >= RANGE[0]) & (mass <= RANGE[1])
    share = weight[chosen & inside].sum() / weight[inside].sum()
    assert share == pytest.approx(0.1, abs=1e-3) and chosen[inside].mean() < 0.06
    assert bump.fisher_p_value is None and bump.fisher_significance is None
    before = histogram(mass, np.linspace(*RANGE, 41), weight)
    assert bump.edges == tuple(adaptive_edges(before * share))


def test_percentile_of_weighted_events_is_of_their_weight():
    score, mass = background(20_000)
    weight = np.where(score > 0, 3.0, 1.0)
    (bump,) = bump_hunt(score, mass, weight, percentiles=[75], pseudo_experiments=10).bumps
    assert weight[score > bump.threshold].sum() / weight.sum() == pytest.approx(0.25, abs=1e-3)


# Randomness


def test_same_seed_same_answer_and_another_seed_another():
    score, mass = with_signal(signal=60)
    options = {"percentiles": [95, 98], "mass_range": RANGE, "pseudo_experiments": 300}
    first = bump_hunt(score, mass, seed=5, **options).to_json()
    assert bump_hunt(score, mass, seed=np.random.default_rng(5), **options).to_json() == first
    assert bump_hunt(score, mass, seed=6, **options).to_json() != first


@pytest.mark.parametrize("bit_generator", [np.random.MT19937, np.random.PCG64])
def test_nobodys_random_state_is_touched(bit_generator):
    score, mass = with_signal(5000, 50)
    before = np.random.get_bit_generator()
    np.random.set_bit_generator(bit_generator(3))
    try:
        expected = np.random.get_state(legacy=False)
        bump_hunt(score, mass, percentiles=[90], pseudo_experiments=20)
        assert repr(np.random.get_state(legacy=False)) == repr(expected)
    finally:
        np.random.set_bit_generator(before)


def test_pybumphunter_is_heard_in_the_log_only(capsys, caplog):
    score, mass = with_signal(5000, 50)
    with caplog.at_level(logging.DEBUG, "pipelines.bumphunt.bumphunter"):
        bump_hunt(score, mass, percentiles=[90], pseudo_experiments=20)
    assert capsys.readouterr() == ("", "")
    assert "pyBumpHunter: SCAN" in caplog.messages


def test_random_state_is_restored_when_pybumphunter_fails(monkeypatch):
    import pyBumpHunter

    def fail(*args, **options):
        np.random.seed(1)
        raise ValueError("failed")

    monkeypatch.setattr(pyBumpHunter.BumpHunter1D, "bump_scan", fail)
    np.random.seed(4)
    expected = np.random.get_state()[1].copy()
    with pytest.raises(ValueError, match="failed"):
        by_pybumphunter(np.ones(5), np.ones(5), widths=(1, 2))
    np.testing.assert_array_equal(np.random.get_state()[1], expected)


# Bad input

EVENTS = 3000


@pytest.mark.parametrize(
    "options, message",
    [
        ({"percentiles": [0]}, "percentiles 0, expected different numbers between 0 and 100"),
        ({"percentiles": [90, 100]}, "percentiles 100, expected"),
        ({"percentiles": [float("nan")]}, "percentiles nan"),
        ({"percentiles": [90, 90]}, "percentiles 90, 90, expected different"),
        ({"percentiles": []}, "percentiles none, expected different numbers"),
        ({"percentiles": "99"}, r"percentiles \['99'\], expected different numbers"),
        ({"percentiles": ["a"]}, r"percentiles \['a'\], expected different numbers"),
        ({"widths": 5}, "widths 5, expected the narrowest and the widest window"),
        ({"widths": "38"}, "widths 38, expected the narrowest and the widest window"),
        ({"widths": (1, 3.5)}, "widths 3.5, expected a whole number"),
        ({"mass_range": 5}, "mass: range 5, expected its two ends in GeV"),
        ({"mass_range": ("low", "high")}, "expected its two ends in GeV"),
        ({"relative_error": "small"}, "relative_error small, expected a number above 0"),
        ({"seed": -1}, "seed -1, expected a whole number of at least 0"),
        ({"seed": "one"}, "seed one, expected a whole number"),
        ({"tails": ["upper"]}, r"tails \['upper'\], expected one of"),
        ({"tails": "middle"}, "tails 'middle', expected one of upper, lower, both"),
        ({"statistic": "chi2"}, "statistic 'chi2', expected one of poisson, fisher"),
        ({"statistic": "fisher", "null": "poisson"}, "statistic 'fisher' has the number of selected events given"),
        ({"null": "gaussian"}, "null 'gaussian', expected one of shuffled, poisson"),
        ({"widths": (0, 3)}, "widths 0, expected a whole number of at least 1"),
        ({"widths": (5, 3)}, "widths 3, expected a whole number of at least 5"),
        ({"widths": (1, 2, 3)}, "widths .*, expected the narrowest and the widest"),
        ({"bins": 1}, "bins 1, expected a whole number of at least 2"),
        ({"bins": 10.5}, "bins 10.5, expected a whole number"),
        ({"side_band": -1}, "side_band -1"),
        ({"side_band": 15}, "too few for a window of 3 and side bands"),
        ({"pseudo_experiments": 0}, "pseudo_experiments 0"),
        ({"relative_error": 0}, "relative_error 0, expected a number above 0"),
        ({"mass_range": (8000, 9000)}, "mass: no event within 8000 to 9000 GeV, masses are .* is the unit right"),
        ({"mass_range": (5000, 2700)}, "mass: range 5000 to 2700 GeV, expected the lower end first"),
        ({"mass_range": (2700, 3000, 5000)}, "expected its two ends"),
        ({"mass_range": (2700, float("inf"))}, "expected the lower end first"),
        ({"mass_range": {"m_jjj": RANGE}}, "mass_range names m_jjj, expected some of mass"),
        ({"percentiles": [99.5]}, "percentile 99.5, upper tail: 15 selected events in mass: all 15 events in one bin"),
        ({"percentiles": [98]}, "fill 1 bins, too few for a window of 3 and side bands"),
        ({"percentiles": [99], "relative_error": None}, "30 selected events in mass, fewer than 40 bins"),
    ],
)
def test_options_that_cannot_be_are_told(options, message):
    score, mass = background(EVENTS)
    options = {"percentiles": [80], "pseudo_experiments": 10} | options
    with pytest.raises(InputError, match=message) as told:
        bump_hunt(score, mass, **options)
    assert "\n" not in str(told.value)


def test_one_percentile_may_be_given_as_a_number():
    score, mass = background(EVENTS)
    assert bump_hunt(score, mass, percentiles=80, pseudo_experiments=10) == bump_hunt(
        score, mass, percentiles=[80], pseudo_experiments=10
    )


def test_percentile_that_leaves_too_few_events_is_refused_with_one_that_leaves_enough():
    """What is advised can be had: the easier percentile, and so many times as many events."""
    score, mass = background(EVENTS)
    with pytest.raises(InputError, match=r"percentile 98, .*; percentile .* leaves enough") as told:
        bump_hunt(score, mass, percentiles=[98], pseudo_experiments=10)
    easier, times = re.search(r"percentile ([\d.]+) leaves enough; (\d+) times", str(told.value)).groups()
    bump_hunt(score, mass, percentiles=[float(easier)], pseudo_experiments=10)
    bump_hunt(*background(int(times) * EVENTS), percentiles=[98], pseudo_experiments=10)


def test_what_cannot_be_hunted_in_is_told_before_the_scores_are_looked_at():
    """A constant score would be refused for itself; too few events are found first."""
    with pytest.raises(InputError, match="percentile 99, upper tail: 30 selected events"):
        bump_hunt(np.ones(EVENTS), MASS, percentiles=[99], pseudo_experiments=10)


def replaced(values, index, value):
    values = values.copy()
    values[index] = value
    return values


SCORE, MASS = background(EVENTS)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((replaced(SCORE, [3, 9], np.nan), MASS), "score: 2 of 3000 are NaN or infinite"),
        ((replaced(SCORE, 3, np.inf), MASS), "score: 1 of 3000 are NaN or infinite"),
        ((SCORE, replaced(MASS, 5, np.nan)), "mass: 1 of 3000 are NaN or infinite"),
        ((SCORE, {"m_jj": MASS, "m_jjj": MASS * np.nan}), "m_jjj: 3000 of 3000 are NaN or infinite"),
        ((SCORE, {}), "mass names no spectrum"),
        ((SCORE[:5], MASS), r"mass has shape \(3000,\), expected \(5,\)"),
        ((SCORE[:, None], MASS), r"score has shape \(3000, 1\), expected \(3000,\)"),
        ((SCORE[:0], MASS[:0]), "there are no events"),
        ((SCORE, MASS, replaced(np.ones(EVENTS), 7, -1)), "weight: -1 to 1, expected numbers >= 0"),
        ((SCORE, MASS, np.zeros(EVENTS)), "weight: 0 to 0"),
        ((SCORE, MASS, np.ones(4)), r"weight has shape \(4,\)"),
        ((SCORE, MASS, np.linspace(0, 1, EVENTS), "fisher"), "statistic 'fisher' needs events of one weight"),
        ((np.ones(EVENTS), MASS), r"no score is beyond 1, the cut of percentile 80 .* \(nearly\) constant"),
        ((SCORE, np.full(EVENTS, 3000.0)), "mass: range 3000 to 3000 GeV"),
    ],
)
def test_events_that_cannot_be_hunted_in_are_told(arguments, message):
    with pytest.raises(InputError, match=message) as told:
        statistic = "".join(arguments[3:]) or "poisson"
        bump_hunt(*arguments[:3], percentiles=[80], statistic=statistic, pseudo_experiments=10)
    assert "\n" not in str(told.value)


def test_selected_events_all_in_one_window_leave_no_side_band():
    score = np.where(np.abs(MASS - 3000) < 60, 5.0, 0.0) + np.linspace(0, 1, EVENTS)
    options = {"mass_range": RANGE, "relative_error": None, "pseudo_experiments": 10}
    with pytest.raises(InputError, match=r"are all in one window: its side bands are empty"):
        bump_hunt(score, MASS, percentiles=[95], **options)


def test_ties_at_the_cut_are_not_selected_and_their_number_is_told():
    score = np.round(SCORE)
    (bump,) = bump_hunt(score, MASS, percentiles=[60], widths=(1, 4), pseudo_experiments=10).bumps
    assert bump.threshold in (0, 1) and bump.selected_events == np.count_nonzero(score > bump.threshold)
