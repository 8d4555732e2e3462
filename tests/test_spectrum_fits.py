"""Backgrounds fitted to spectra, and bump hunts in spectra alone: numbers of minimisers, experiments and closed forms."""

from pathlib import Path

import numpy as np
import pytest
import uproot
from scipy import stats
from scipy.integrate import quad
from scipy.stats import kstest, poisson

import zoo
from pipelines.bumphunt.background_fit import FittedBackground, GivenBackground, SlidingWindow
from pipelines.bumphunt.batched_fit import SpectrumFitter, deviance
from pipelines.bumphunt.bump_scan import bump_scan
from pipelines.bumphunt.fit_functions import FUNCTIONS, functions_of
from pipelines.bumphunt.fitted_scan import every_window, log_tail, scan, significance_of_log
from pipelines.bumphunt.spectrum_hunt import bumphunt
from pipelines.bumphunt.spurious_signal import gaussian_shape, spurious_signal
from pipelines.errors import InputError
from pipelines.spectrum_files import read

ATLAS = Path(__file__).parent / "data" / "atlas_139fb_dijet.csv"
EDGES = np.linspace(1000, 5000, 41)
TRUTH = np.array([-4.0, 9.0, -4.0])  # ln p0, p1, p2 of dijet3


@pytest.fixture(scope="module")
def atlas():
    return read(ATLAS)


@pytest.fixture(scope="module")
def background():
    """Events expected in 40 bins of a dijet3 background."""
    return SpectrumFitter(EDGES, FUNCTIONS["dijet3"]).expected(TRUTH[:, None])[:, 0]


# -- the fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_expected_events_of_a_bin_are_the_integral_of_the_function(name):
    function = FUNCTIONS[name]
    parameters = np.array([2.0, 3.0, -4.0, 0.3, 0.05])[: function.parameters]
    edges = [1000, 1400, 2000, 2100, 3000, 3600, 4400]
    expected = SpectrumFitter(edges, function).expected(parameters[:, None])[:, 0]

    def integral(low, high):
        return quad(lambda m: np.exp(function.log_density(np.array(m / 13_000), parameters)), low, high, epsrel=1e-12)[
            0
        ]

    assert expected[2] == pytest.approx(integral(2000, 2100), rel=1e-9)
    assert expected[1] == pytest.approx(
        integral(1400, 2000), rel=1e-5
    )  # far wider than any bin of a published spectrum


@pytest.mark.parametrize("name", ["dijet3", "dijet4", "exp2", "power"])
def test_minimum_is_that_of_iminuit(name, background):
    iminuit = pytest.importorskip("iminuit")
    counts = np.random.default_rng(2).poisson(background).astype(float)
    fitter = SpectrumFitter(EDGES, FUNCTIONS[name])
    found = fitter.fit(counts)

    def value(parameters):
        return deviance(counts, fitter.expected(np.asarray(parameters)[:, None])[:, 0]).sum()

    start = found.parameters[:, 0] + 0.3 * np.sqrt(np.diag(fitter.covariance(found.parameters[:, 0])))
    minuit = iminuit.Minuit(value, start)
    minuit.strategy, minuit.tol = 2, 1e-6
    for _ in range(5):
        minuit.migrad(ncall=20_000)
    assert found.converged.all()
    assert found.deviance[0] <= minuit.fval + 1e-5
    assert found.deviance[0] == pytest.approx(minuit.fval, abs=2e-3)
    errors = np.sqrt(np.diag(fitter.covariance(found.parameters[:, 0])))
    assert np.allclose(found.parameters[:, 0], minuit.values, atol=0.1 * errors)


def test_errors_are_the_spread_of_refitted_spectra(background):
    fitter = SpectrumFitter(EDGES, FUNCTIONS["dijet3"])
    toys = np.random.default_rng(3).poisson(background[:, None], (40, 2000)).astype(float)
    spread = fitter.fit(toys).parameters.std(axis=1)
    assert spread == pytest.approx(np.sqrt(np.diag(fitter.covariance(TRUTH))), rel=0.06)


def test_a_spectrum_is_fitted_alike_alone_and_among_a_thousand(background):
    toys = np.random.default_rng(4).poisson(background[:, None], (40, 1000)).astype(float)
    fit = FittedBackground(EDGES, "auto")
    together, alone = fit.fit(toys), fit.fit(toys[:, 517])
    assert together.converged.all()
    assert together.choice[517] == alone.choice[0]
    assert together.expected[:, 517] == pytest.approx(alone.expected[:, 0], rel=1e-6)


def test_deviance_of_the_true_function_follows_chi_square():
    many = SpectrumFitter(EDGES, FUNCTIONS["dijet3"]).expected(TRUTH[:, None] + np.array([[4.0], [0], [0]]))
    toys = np.random.default_rng(5).poisson(many, (40, 1000)).astype(float)
    found = FittedBackground(EDGES, "dijet3").fit(toys)
    assert kstest(found.deviance, "chi2", args=(37,)).pvalue > 0.01


def test_f_test_takes_the_parameter_that_is_needed_and_no_more():
    three = SpectrumFitter(EDGES, FUNCTIONS["dijet3"]).expected(TRUTH[:, None] + np.array([[5.0], [0], [0]]))
    four = SpectrumFitter(EDGES, FUNCTIONS["dijet4"]).expected(np.array([[14.0], [9.0], [-4.0], [0.5]]))
    rng = np.random.default_rng(6)
    fit = FittedBackground(EDGES, "auto")
    needless = fit.fit(rng.poisson(three, (40, 1000)).astype(float)).choice
    assert 0.02 < (needless > 0).mean() < 0.08  # the F-test is asked for 5 %
    assert (fit.fit(rng.poisson(four, (40, 200)).astype(float)).choice >= 1).all()


@pytest.mark.parametrize("factor", [1.1, 10.0, 1e-4])
def test_a_background_known_up_to_a_factor_describes_as_well_whatever_the_factor(background, factor):
    """chi2 by Baker and Cousins' formula for the background scaled to the data, with a degree of freedom less."""
    counts = np.random.default_rng(9).poisson(background).astype(float)
    options = {"edges": EDGES, "normalise": True, "widths": (2, 8), "pseudo_experiments": 300}
    one, other = (bumphunt(counts, c * background, **options) for c in (1.0, factor))
    mu, n = background * (counts.sum() / background.sum()), counts
    chi2 = 2 * np.sum(mu - n + np.where(n > 0, n * np.log(np.maximum(n, 1) / mu), 0))
    assert other.background.chi2 == pytest.approx(chi2, rel=1e-6) and other.background.degrees_of_freedom == 39
    assert other.believed and other.background.p_value == pytest.approx(stats.chi2.sf(chi2, 39), abs=0.1)
    assert other.global_p_value == pytest.approx(one.global_p_value, abs=0.02)
    outside = np.delete(np.arange(40), other.window)
    scale = counts[outside].sum() / background[outside].sum()
    assert other.expected_events == pytest.approx(scale * background[other.window].sum(), rel=1e-9)
    limit, window = other.limit(), other.window
    says = other.assumptions["global_p_value"]
    assert "around the background 'given', scaled again to each;" in says and "exact but for a factor" in says
    flank = -(-(window.stop - window.start) // 4)
    outside = np.r_[: max(0, window.start - flank), window.stop + flank : 40]
    scale = counts[outside].sum() / background[outside].sum()
    assert limit.background == pytest.approx(scale * background[window].sum(), rel=1e-9)
    assert limit.background_error == pytest.approx(limit.background / np.sqrt(counts[outside].sum()), rel=0.15)


@pytest.mark.parametrize("normalise", [False, True])
def test_a_bump_over_a_background_that_is_given_is_believed_and_a_wrong_background_is_not(background, normalise):
    counts = np.random.default_rng(10).poisson(background + 400 * gaussian_shape(EDGES, 2500, 60)).astype(float)
    options = {"edges": EDGES, "normalise": normalise, "widths": (2, 8), "pseudo_experiments": 300}
    found = bumphunt(counts, background, **options)
    assert found.believed and not found.background.describes and found.local_significance > 8
    assert found.interval[0] < 2500 < found.interval[1] and found.mass_estimate == pytest.approx(2500, abs=30)
    assert found.signal_estimate == pytest.approx(400, abs=100)
    low, high = found.refit.excluded
    outside = (EDGES[1:] <= low) | (EDGES[:-1] >= high)
    n, mu = counts[outside], background[outside]
    mu = mu * n.sum() / mu.sum() if normalise else mu
    chi2 = 2 * np.sum(mu - n + np.where(n > 0, n * np.log(np.maximum(n, 1) / mu), 0))
    assert found.refit.chi2 == pytest.approx(chi2) and found.refit.degrees_of_freedom == outside.sum() - normalise
    wrong = bumphunt(counts, background * (1 + 0.3 * np.sin(EDGES[1:] / 100)), **options)
    assert not wrong.believed


def test_sliding_window_follows_what_the_function_cannot(background):
    wavy = 100 * background * (1 + 0.1 * np.sin(np.linspace(0, 6, 40)))
    whole = FittedBackground(EDGES, "dijet3").fit(wavy)
    sliding = SlidingWindow(EDGES, "dijet3", 12).fit(wavy)
    assert sliding.deviance[0] < 0.1 * whole.deviance[0]
    assert sliding.converged.all()


def test_sliding_window_without_a_window_is_that_of_the_nearest_other_bins(background):
    counts, window = np.random.default_rng(8).poisson(background).astype(float), slice(18, 22)
    found = SlidingWindow(EDGES, "dijet3", 12).excluding(window).fit(counts).expected[:, 0]
    used = np.zeros(40, bool)
    used[[*range(12, 18), *range(22, 28)]] = (
        True  # of the first bin that is left out: six to the left, six to the right
    )
    np.testing.assert_allclose(
        found[18], SpectrumFitter(EDGES, FUNCTIONS["dijet3"], used=used).fit(counts).expected[18, 0], rtol=1e-6
    )
    counts[window] += 1000
    again = SlidingWindow(EDGES, "dijet3", 12).excluding(window).fit(counts).expected[:, 0]
    np.testing.assert_allclose(again, found, rtol=1e-9)


def test_a_bump_does_not_pull_the_fit_that_leaves_it_out(background):
    bump = background + 500 * gaussian_shape(EDGES, 2500, 100)
    fit = FittedBackground(EDGES, "dijet3")
    window = slice(11, 19)
    assert np.abs(fit.excluding(window).fit(bump).expected[window, 0] / background[window] - 1).max() < 0.01
    assert np.abs(fit.fit(bump).expected[window, 0] / background[window] - 1).max() > 0.01


def test_signal_of_a_known_shape_is_fitted_without_bias(background):
    shape = gaussian_shape(EDGES, 2500, 100)
    toys = np.random.default_rng(7).poisson((background + 300 * shape)[:, None], (40, 1000)).astype(float)
    fitter = SpectrumFitter(EDGES, FUNCTIONS["dijet3"])
    found = fitter.fit(toys, signal=shape)
    signal = found.parameters[-1]
    assert signal.mean() == pytest.approx(300, abs=4 * signal.std() / np.sqrt(1000))
    truth = np.append(TRUTH, 300.0)
    assert signal.std() == pytest.approx(np.sqrt(fitter.covariance(truth, shape)[-1, -1]), rel=0.1)


def test_spurious_signal_is_that_of_a_function_that_is_too_stiff():
    template = SpectrumFitter(EDGES, FUNCTIONS["dijet4"]).expected(np.array([[12.0], [9.0], [-4.0], [0.6]]))[:, 0]
    stiff, right = (SpectrumFitter(EDGES, FUNCTIONS[name]) for name in ("dijet3", "dijet4"))
    masses, widths = [1800, 2500, 3500], [80, 110, 150]
    assert max(abs(one.events / one.error) for one in spurious_signal(stiff, template, masses, widths)) > 0.5
    assert max(abs(one.events / one.error) for one in spurious_signal(right, template, masses, widths)) < 0.01


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: FittedBackground([0, 1000, 2000, 3000, 4000], "dijet3"), "begins at 0"),
        (lambda: FittedBackground(np.linspace(1000, 14_000, 30), "dijet3"), "sqrt"),
        (lambda: FittedBackground([1000, 1100, 1200, 1300], "dijet3"), "3 bins to fit"),
        (lambda: FittedBackground(EDGES, "dijet6"), "no such function"),
        (lambda: SlidingWindow(EDGES, "dijet4", 4), "sliding window of 4 bins"),
        (lambda: SlidingWindow(EDGES, "auto", 20), "name one"),
        (lambda: GivenBackground([1.0, np.nan]), "NaN"),
        (lambda: FittedBackground(EDGES, "dijet3").fit(np.zeros(40)), "no event"),
        (lambda: FittedBackground(EDGES, "dijet3").fit(-np.ones(40)), "negative"),
        (lambda: FittedBackground(EDGES, "exp1", used=np.arange(40) >= 10).fit(np.arange(40) < 5), "no event"),
        (lambda: FittedBackground(EDGES, "exp1").excluding(slice(0, 10)).fit(np.arange(40) < 5), "no event"),
        (lambda: SlidingWindow(EDGES, "exp1", 9).excluding(slice(0, 10)).fit(np.arange(40) < 5), "no event"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_a_reason(make, says):
    with pytest.raises(InputError, match=says):
        make()


# -- the scan ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expected", [0.3, 3.0, 100.0])
@pytest.mark.parametrize("deficit", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
def test_scan_finds_the_window_of_a_search_among_all(expected, deficit, normalise):
    reference = np.full(30, expected)
    toys = np.random.default_rng(8).poisson(expected, (30, 500)).astype(float)
    options = {"widths": (1, 6), "deficit": deficit, "normalise": normalise}
    fast, full = scan(toys, reference, **options), bump_scan(toys, reference, **options)
    assert fast.log_p_value == pytest.approx(np.log(full.p_value), abs=1e-9)


def test_scan_has_an_expectation_for_each_spectrum():
    rng = np.random.default_rng(9)
    expected = rng.uniform(5, 50, (20, 30))
    toys = rng.poisson(expected).astype(float)
    together = scan(toys, expected, widths=(1, 5))
    for i in range(30):
        alone = bump_scan(toys[:, i], expected[:, i], widths=(1, 5), normalise=False)
        assert together.log_p_value[i] == pytest.approx(np.log(alone.p_value[0]), abs=1e-9)


def test_tails_are_poisson_probabilities_and_go_on_below_the_smallest_number():
    assert log_tail(9.0, 4.0) == pytest.approx(poisson.logsf(8, 4.0))
    assert log_tail(2.0, 4.0, deficit=True) == pytest.approx(poisson.logcdf(2, 4.0))
    far = log_tail(np.array([3000.0, 3001.0]), 200.0)
    assert far[0] == pytest.approx(poisson.logpmf(3000, 200) - np.log1p(-200 / 3001), rel=1e-6)
    assert far[1] < far[0] < np.log(1e-300)
    assert significance_of_log(float(np.log(2.866515719e-7))) == pytest.approx(5.0, abs=1e-6)


# -- hunts -------------------------------------------------------------------------------------------------


def test_atlas_dijet_spectrum_gives_the_published_window_and_p_value(atlas):
    """arXiv:1910.08447: no significant deviation, global p-value 0.89, window 1341 to 1416 GeV."""
    found = bumphunt(atlas, "fit", widths=(2, 45), pseudo_experiments=4000)
    assert found.interval == (1341, 1416)
    assert found.local_p_value == pytest.approx(0.0203, abs=5e-5)
    assert found.test_statistic == pytest.approx(3.897, abs=1e-3)
    assert found.global_p_value == pytest.approx(0.897, abs=0.015)
    assert not found.global_p_value_is_bound
    assert not found.background.fitted


def test_atlas_dijet_spectrum_with_our_own_fit_has_no_bump_either(atlas):
    found = bumphunt(atlas, "dijet5", widths=(2, 45), pseudo_experiments=300)
    assert found.background.chi2 == pytest.approx(118.48, abs=0.01)
    assert found.background.degrees_of_freedom == 86
    assert found.global_p_value > 0.1
    assert found.background.not_converged == 0
    assert found.refit is None


def test_global_p_values_of_background_are_uniform_though_it_is_fitted(background):
    rng = np.random.default_rng(10)
    counts = rng.poisson(background[:, None], (40, 60))
    p = [
        bumphunt(one, "dijet3", edges=EDGES, widths=(1, 6), pseudo_experiments=99, seed=i).global_p_value
        for i, one in enumerate(counts.T)
    ]
    assert kstest(p, "uniform").pvalue > 0.01


def test_a_bump_is_found_at_its_mass_with_its_events(background):
    rng = np.random.default_rng(11)
    counts = rng.poisson(10 * background + 1500 * gaussian_shape(EDGES, 2550, 80))
    found = zoo.bumphunt(counts, "dijet3", edges=EDGES, pseudo_experiments=300)
    assert found.global_p_value_is_bound and found.global_p_value == pytest.approx(1 / 301)
    assert found.mass_estimate == pytest.approx(2550, abs=40)
    assert found.refit is not None and found.refit.describes
    assert found.signal_estimate == pytest.approx(1500, abs=4 * np.sqrt(counts[found.window].sum()))
    assert 0 < found.local_p_value < 1e-9


def test_a_bump_beyond_all_floating_point_numbers_is_still_at_its_place(background):
    counts = np.rint(10 * background + 1e5 * gaussian_shape(EDGES, 2550, 80))
    found = bumphunt(counts, GivenBackground(10 * background).events, edges=EDGES, pseudo_experiments=20)
    assert found.local_p_value == 1e-300
    assert found.local_significance > 50
    assert found.mass_estimate == pytest.approx(2550, abs=5)


def test_same_seed_same_numbers_and_another_seed_others(background):
    counts = np.random.default_rng(12).poisson(background)
    one, again, other = (
        bumphunt(counts, "dijet3", edges=EDGES, pseudo_experiments=50, seed=seed) for seed in (1, 1, 2)
    )
    assert one.toys.tolist() == again.toys.tolist()
    assert one.toys.tolist() != other.toys.tolist()


def test_a_background_that_does_not_describe_the_spectrum_is_said(background):
    counts = np.random.default_rng(13).poisson(100 * background)
    found = bumphunt(counts, "power", edges=EDGES, pseudo_experiments=100)
    assert not found.background.describes
    assert found.background.p_value_is_bound


def test_excluded_range_is_not_fitted(background):
    counts = np.random.default_rng(14).poisson(100 * background + 3e4 * gaussian_shape(EDGES, 2550, 80))
    found = bumphunt(counts, "dijet3", edges=EDGES, exclude=(2200, 2900), pseudo_experiments=100)
    assert found.background.describes and found.background.excluded == (2200, 2900)
    assert found.interval is not None and 2200 <= found.interval[0] < found.interval[1] <= 2900


def test_normalised_background_forgets_its_scale(background):
    counts = np.random.default_rng(15).poisson(background)
    options = {"edges": EDGES, "normalise": True, "pseudo_experiments": 30, "widths": (1, 8)}
    one, other = (bumphunt(counts, factor * background, **options) for factor in (1, 7))
    assert one.local_p_value == pytest.approx(other.local_p_value, rel=1e-6)
    assert one.interval == other.interval


def test_every_window_is_looked_at():
    assert len(every_window(np.ones(60), np.ones(60), widths=(2, 6)).start) == 285


@pytest.mark.parametrize(
    "counts, background, options, says",
    [
        (np.ones(40) * 0.5, "dijet3", {}, "not a whole number"),
        (-np.ones(40), "dijet3", {}, "negative"),
        (np.full(40, np.nan), "dijet3", {}, "NaN"),
        (np.zeros(40), "dijet3", {}, "no event"),
        (np.r_[5.0, np.zeros(39)], "dijet3", {}, "5 events to fit"),
        (np.ones(40), "fit", {}, "no function, no column"),
        (np.ones(40), np.ones(39), {}, "shape"),
        (np.ones(40), np.zeros(40), {}, "nothing is expected|0 in the bin"),
        (np.ones(40), "dijet3", {"normalise": True}, "is fitted"),
        (np.ones(40), "dijet3", {"widths": (3, 41)}, "40 bins"),
        (np.ones(40), "dijet3", {"widths": (0, 4)}, "at least 1 bin"),
        (np.ones(40), "dijet3", {"mass_range": (6000, 7000)}, "no bin lies within"),
        (np.ones(40), "dijet3", {"mass_range": (1000, 1200)}, "bins to fit"),
        (np.ones(40), "dijet3", {"exclude": (10, 20)}, "no bin there"),
        (np.ones(40), "dijet3", {"sqrt_s": float("nan")}, "sqrt"),
        (np.ones(40), "dijet3", {"pseudo_experiments": 0}, "pseudo-experiments"),
        (np.ones(40), "dijet3", {"pseudo_experiments": 10**9}, "more would not fit into memory"),
        (np.ones(40), "dijet3", {"inject": (3000, 100), "repeats": 10**9}, "more would not fit into memory"),
        (np.full(40, 1e300), "dijet3", {}, "is 1e\\+15 or more"),
    ],
)
def test_spectra_and_options_that_cannot_be_are_refused(counts, background, options, says):
    with pytest.raises(InputError, match=says):
        bumphunt(counts, background, edges=EDGES, **options)


def test_a_constant_spectrum_has_no_bump():
    found = bumphunt(np.full(40, 90.0), "exp1", edges=EDGES, pseudo_experiments=20)
    assert found.global_p_value > 0.5


def test_all_functions_are_named():
    assert [one.name for one in functions_of("auto-exp")] == ["exp1", "exp2", "exp3"]


# -- one histogram of a file of several ---------------------------------------------------------------------


@pytest.fixture
def several(tmp_path, background):
    """A ROOT file with a spectrum that begins with empty bins, and what is none beside it."""
    counts = np.rint(background)
    with uproot.recreate(path := tmp_path / "several.root") as file:
        file["mjj[0]"] = counts, EDGES
        file["early"] = np.concatenate([np.zeros(5), counts]), np.concatenate([np.arange(500, 1000, 100), EDGES])
        file["cutflow"] = np.array([900.0, 400.0, 30.0]), np.arange(4.0)
    return path


def test_a_file_of_several_histograms_names_them_and_the_option(several):
    """Whatever else is wrong with one of them."""
    with pytest.raises(
        InputError, match=r"3 histograms, expected one; name it by column \(there are mjj\[0\], early, cutflow\)"
    ):
        read(several)
    with pytest.raises(InputError, match=r"2 histograms, expected one; name it by column \(there are early, cutflow\)"):
        read(several, "[!m]*")
    with pytest.raises(InputError, match="no histogram's name matches 'mj'; there are mjj"):
        read(several, "mj")
    with pytest.raises(InputError, match="a cutflow is no spectrum"):
        read(several, "cutflow")


def test_a_histogram_is_chosen_by_its_name_and_what_is_outside_of_a_range_is_not_looked_at(several, background):
    assert read(several, "mjj[0]").counts.tolist() == np.rint(background).tolist()
    with pytest.raises(InputError, match=r"begins with empty bins.*\(mass_range\)"):
        read(several, "early")
    found = read(several, "early", (1000, 5000))
    assert found.edges.tolist() == EDGES.tolist() and found.counts.tolist() == np.rint(background).tolist()
    with uproot.recreate(
        other := several.with_name("other.root")
    ) as file:  # the background has the range of the spectrum
        wide = np.arange(500, 1000, 100), np.arange(5100, 5400, 100)
        file["early"] = (
            np.concatenate([np.zeros(5), found.counts, np.zeros(3)]),
            np.concatenate([wide[0], EDGES, wide[1]]),
        )
    hunt = bumphunt(several, str(other), column="early", mass_range=(1000, 5000), normalise=True, pseudo_experiments=2)
    assert hunt.expected == pytest.approx(found.counts)
    hunt = bumphunt(several, "dijet3", column="early", mass_range=(1000, 5000), pseudo_experiments=2)
    assert hunt.edges.tolist() == EDGES.tolist()
