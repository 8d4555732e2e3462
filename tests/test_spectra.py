"""Mass spectra, their bins, and the reference that side bands normalise."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from pipelines import InputError
from pipelines.bumphunt.bump_scan import bump_scan, tomography
from pipelines.bumphunt.spectrum import Spectrum, adaptive_edges, bin_of, histogram, side_band_reference

EDGES = np.linspace(2700, 5000, 41)


@pytest.fixture
def falling():
    rng = np.random.default_rng(0)
    return 2700 + rng.exponential(500, 20_000), rng.uniform(0.1, 3, 20_000)


def counts(*content):
    content = np.array(content, float)
    return Spectrum(np.arange(len(content) + 1.0), content, content)


def test_spectrum_is_numpys_histogram_of_weights_and_of_their_squares(falling):
    mass, weight = falling
    found = histogram(mass, EDGES, weight)
    np.testing.assert_allclose(found.content, np.histogram(mass, EDGES, weights=weight)[0], rtol=1e-12)
    np.testing.assert_allclose(found.variance, np.histogram(mass, EDGES, weights=weight**2)[0], rtol=1e-12)
    np.testing.assert_array_equal(histogram(mass, EDGES).content, np.histogram(mass, EDGES)[0])


def test_masses_on_edges_and_outside_fall_where_numpy_puts_them():
    mass = np.array([-1.0, 0.0, 1.0, 2.0, 2.5])
    assert bin_of(mass, np.array([0.0, 1.0, 2.0])).tolist() == [2, 0, 1, 1, 2]
    assert histogram(mass, np.array([0.0, 1.0, 2.0])).content.tolist() == [1, 2]


def test_float32_masses_at_the_upper_end_are_inside():
    mass = np.array([2700.1, 4999.9], np.float32)
    edges = np.linspace(mass.min(), mass.max(), 4)
    assert histogram(mass, edges).content.tolist() == [1, 0, 1]


def merged_by_loop(content, variance, edges, limit):
    """The definition with lists: groups from the high end, what is left joins the last one."""
    groups, group = [], []
    for i in range(len(content) - 1, -1, -1):
        group.append(i)
        total = sum(content[j] for j in group)
        if total > 0 and sum(variance[j] for j in group) ** 0.5 / total < limit:
            groups.append(group)
            group = []
    groups[-1] += group
    return [edges[min(group)] for group in reversed(groups)] + [edges[-1]]


@pytest.mark.parametrize("share", [1, 0.1, 0.01])
@pytest.mark.parametrize("weighted", [False, True])
def test_bins_are_merged_from_the_high_end_until_each_error_is_below_the_limit(falling, share, weighted):
    found = histogram(falling[0], EDGES, falling[1] if weighted else None) * share
    edges = adaptive_edges(found, 0.15)
    assert edges.tolist() == merged_by_loop(found.content, found.variance, EDGES, 0.15)
    merged = found.merged(edges)
    assert (merged.relative_error < 0.15).all() and merged.content.sum() == pytest.approx(found.content.sum())
    assert 1 < len(edges) < 41  # something was merged, not everything


def test_a_bin_of_45_events_passes_15_percent_and_one_of_44_does_not():
    assert len(adaptive_edges(counts(45, 45), 0.15)) == 3
    assert len(adaptive_edges(counts(45, 44), 0.15)) == 2


def test_what_is_left_at_a_turn_on_joins_its_neighbour_and_empty_bins_are_merged():
    assert adaptive_edges(counts(0, 10, 100, 60, 0, 40, 9)).tolist() == [0, 3, 5, 7]


@pytest.mark.parametrize("content", [(10, 10, 10), (0, 0), (0,)])
def test_too_few_events_for_one_bin_are_told(content):
    with pytest.raises(InputError, match=rf"all {sum(content)} events in one bin have a relative error above 0.15"):
        adaptive_edges(counts(*content))


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_relative_errors_that_are_none_are_told(limit):
    with pytest.raises(InputError, match="relative error"):
        adaptive_edges(counts(100, 100), limit)


def test_reference_agrees_with_the_selected_events_outside_the_window():
    before, selected = counts(400, 300, 200, 100), counts(50, 60, 20, 12)
    reference, factor, _ = side_band_reference(selected, before, slice(1, 2))
    assert factor == pytest.approx((50 + 20 + 12) / (400 + 200 + 100))
    assert reference.content[[0, 2, 3]].sum() == pytest.approx(82)
    assert reference.content[1] == pytest.approx(300 * factor)


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_error_of_the_normalisation_is_its_spread_over_random_selections(share, falling):
    rng = np.random.default_rng(4)
    before = histogram(falling[0], EDGES)
    factors, errors = [], []
    for _ in range(2000):
        chosen = rng.binomial(before.content.astype(int), share).astype(float)
        _, factor, error = side_band_reference(Spectrum(EDGES, chosen, chosen), before, slice(10, 15))
        factors.append(factor)
        errors.append(error)
    assert np.std(factors) == pytest.approx(np.mean(errors), rel=0.06)  # 2000 draws know it to 1.6 %
    assert np.mean(factors) == pytest.approx(share, rel=0.01)


def test_error_of_the_normalisation_counts_weights(falling):
    """Random halves of weighted events: sum w^2, not sum w, makes the spread."""
    mass, weight = falling
    rng, before, factors, errors = np.random.default_rng(5), histogram(mass, EDGES, weight), [], []
    for _ in range(800):
        chosen = rng.random(len(mass)) < 0.05
        found = side_band_reference(histogram(mass[chosen], EDGES, weight[chosen]), before, slice(10, 15))
        factors.append(found[1])
        errors.append(found[2])
    assert np.std(factors) == pytest.approx(np.mean(errors), rel=0.1)


def test_empty_side_bands_are_told():
    with pytest.raises(InputError, match=r"no selected event is outside 1 to 3 GeV: the side bands are empty"):
        side_band_reference(counts(0, 5, 5, 0), counts(9, 9, 9, 9), slice(1, 3))


@pytest.mark.parametrize("deficit", [False, True])
@pytest.mark.parametrize("statistic", ["poisson", "fisher"])
@pytest.mark.parametrize("side_band", [0, 2])
def test_tomography_has_every_window_once_and_the_smallest_is_the_scans(deficit, statistic, side_band):
    rng = np.random.default_rng(3)
    reference = rng.poisson(np.linspace(900, 100, 15))
    reference[[0, 14]] = 0
    histogram = rng.multivariate_hypergeometric(reference, 1500)
    options = {"widths": (2, 4), "side_band": side_band, "deficit": deficit, "statistic": statistic}
    found, best = tomography(histogram, reference, **options), bump_scan(histogram, reference, **options)
    first, last = 1 + side_band, 14 - side_band  # where the reference is filled
    windows = [(s, w) for w in (2, 3, 4) for s in range(first, last - w + 1)]
    assert list(zip(found.start, found.width)) == windows
    smallest = int(found.p_value.argmin())
    assert found.p_value[smallest] == best.p_value[0]
    assert (found.start[smallest], found.width[smallest]) == (best.start[0], best.width[0])
    for i in range(0, len(windows), 5):  # a scan that may look at this window only
        s, w = windows[i]
        n, r = histogram[s : s + w].sum(), reference[s : s + w].sum()
        total, of = histogram.sum(), reference.sum()
        if statistic == "fisher":
            tail = stats.hypergeom(of, r, total)
            there = n * of < total * r if deficit else n * of > total * r
        else:
            tail = stats.poisson((total - n) / (of - r) * r)
            there = n < tail.mean() if deficit else n > tail.mean()
        expected = (tail.cdf(n) if deficit else tail.sf(n - 1)) if there else 1.0
        assert found.p_value[i] == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("statistic", ["poisson", "fisher"])
def test_windows_too_significant_for_a_number_are_told_apart(statistic):
    """The bump is in five bins; every window of it has p below 1e-300, and SciPy knows the logarithms."""
    reference, histogram = np.full(40, 100_000), np.full(40, 10_000)
    histogram[18:23] += 10_000
    best = bump_scan(histogram, reference, widths=(3, 8), statistic=statistic)
    assert (best.start[0], best.width[0], best.p_value[0]) == (18, 5, 1e-300)
    n, inside, total, of = histogram[18:23].sum(), 500_000, histogram.sum(), reference.sum()
    if statistic == "fisher":
        expected = stats.hypergeom(of, inside, total).logsf(n - 1)
    else:
        expected = logsumexp(stats.poisson((total - n) / (of - inside) * inside).logpmf(np.arange(n, n + 5000)))
    assert best.log_p_value[0] == pytest.approx(expected, rel=1e-5)


def test_tomography_without_a_window_is_empty():
    assert len(tomography(np.ones(3), np.ones(3), widths=(5, 6)).p_value) == 0
