"""Upper limits on signal events: pyhf's own, the formulas of counting, and what hunts write of them."""

import json
import re

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm, poisson

import pipelines
from pipelines import Events, InputError
from pipelines.bumphunt.batched_fit import SpectrumFitter
from pipelines.bumphunt.fit_functions import FUNCTIONS
from pipelines.bumphunt.limits import BANDS, limit_of, limit_of_cut, said, upper_limit
from pipelines.bumphunt.spectrum_hunt import bumphunt
from pipelines.bumphunt.spurious_signal import gaussian_shape
from pipelines.bumphunt.write import write
from pipelines.report import tables
from pipelines.report.spectrum_report import limit_json
from pipelines.report.tables import in_interval


def test_of_a_known_background_it_is_the_asymptotic_formula():
    """mu_up+N = sigma (Phi^-1(1 - alpha Phi(N)) + N), Cowan et al. eq. 89 with the CLs of its section 5, sigma of Asimov data."""
    observed, expected = upper_limit(10_000, 10_000.0, 10.0)
    sigma = np.sqrt(10_000 + 10.0**2)
    for n, limit in zip((-2, -1, 0, 1, 2), expected):
        assert limit == pytest.approx(sigma * (norm.isf(0.05 * norm.cdf(n)) + n), rel=0.02)
    assert observed == pytest.approx(expected[2], rel=1e-3)


def test_it_is_near_exact_cls_of_counts_and_grows_with_the_error():
    n, b = 12, 10.0
    exact = brentq(lambda s: poisson.cdf(n, s + b) / poisson.cdf(n, b) - 0.05, 0.1, 60)
    observed, expected = upper_limit(n, b, 0.01)
    assert observed == pytest.approx(exact, rel=0.15)
    assert upper_limit(n, b, 3.0)[0] > observed and upper_limit(n, b, 3.0)[1][2] > expected[2]
    assert list(expected) == sorted(expected)


@pytest.mark.parametrize(
    "events, background, error", [pytest.param(160, 100.0, 5.0, marks=pytest.mark.slow), (3, 6.0, 2.0)]
)
def test_it_is_pyhfs_own_root_of_cls(events, background, error):
    import pyhf
    from pyhf.infer.intervals.upper_limits import toms748_scan

    model = pyhf.simplemodels.uncorrelated_background([1.0], [background], [error])
    bounds = [(0, 400), (1e-10, 10)]
    limits = toms748_scan([events, *model.config.auxdata], model, 0.5, 200, level=0.05, rtol=4e-3, par_bounds=bounds)
    observed, expected = upper_limit(events, background, error)
    assert [observed, *expected] == pytest.approx([float(limits[0]), *map(float, limits[1])], rel=0.01)


def test_an_excess_has_a_larger_observed_limit_and_no_events_a_finite_one():
    observed, expected = upper_limit(130, 100.0, 5.0)
    assert observed > expected[4] > upper_limit(100, 100.0, 5.0)[0]
    assert 1 < upper_limit(0, 0.0, 0.0)[0] < 4
    with pytest.raises(InputError, match=r"limit: -1 events, background 3 \+- 1, expected numbers of at least 0"):
        upper_limit(-1, 3.0, 1.0)


@pytest.mark.parametrize(("events", "background", "error"), [(1541, 37.9, 5.9), (5000, 100.0, 10.0), (130, 100.0, 5.0)])
def test_far_above_the_background_it_is_the_gaussian_limit_of_what_was_counted(events, background, error):
    """CLs is CLs+b there, so the limit is n - b + 1.645 standard deviations of s + b - n at the limit."""
    found, _ = upper_limit(events, background, error)
    gaussian = brentq(lambda s: (s + background - events) / np.sqrt(s + background + error**2) - norm.isf(0.05), 1, 9e4)
    assert found == pytest.approx(gaussian, abs=0.2 * np.sqrt(events))


def test_weights_and_what_the_cut_takes_scale_it():
    plain, scaled = limit_of(12, 10.0, 1.0, (1, 2)), limit_of(48, 40.0, 4.0, (1, 2), unit=4.0, absorbed=0.2)
    assert scaled.observed == pytest.approx(plain.observed * 4 / 0.8)
    assert list(scaled.expected) == list(BANDS) and "at 95 % CL (CLs)" in said(scaled)


@pytest.mark.parametrize(("percentile", "cut"), [(50, "global"), (80, "global"), (80, "mass")])
def test_signal_in_the_window_adds_nothing_to_the_background_of_its_limit(percentile, cut):
    """Labels know how many background events are selected in the window."""
    rng = np.random.default_rng(5)
    mass = np.concatenate([2700 + 2300 * rng.random(20_000) ** 1.5, rng.normal(3800, 40, 600)])
    events = Events.from_arrays(np.zeros((20_600, 1)), mass, ["x"])
    score = np.concatenate([rng.normal(size=20_000), np.full(600, 9.0) + rng.normal(size=600)])
    options = {"percentiles": [percentile], "cut": cut, "widths": (3, 6), "pseudo_experiments": 50}
    found = pipelines.search(score, events, mass_range=(2700, 5000), **options)
    bump = found.hunt.best
    limit, inside = tables.limit(found), found.in_interval(bump)
    true = (inside & found.selected(bump) & (np.arange(20_600) < 20_000)).sum() if cut == "global" else None
    signal = (inside[20_000:]).sum()
    assert signal > 450 and limit.observed > signal
    assert limit.observed < signal + 3.5 * np.hypot(np.sqrt(limit.events), limit.background_error) / (
        1 - limit.absorbed
    )
    if cut == "global":
        assert limit.background == pytest.approx(true, abs=3 * np.hypot(np.sqrt(true), limit.background_error))
    share = f"{limit.share:.2g}"
    assert "if the cut selects all of the signal" in said(limit) and f"none for e of at most {share}." in said(limit)


def test_a_search_writes_the_limit_of_the_bump_that_it_tells(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.bumphunt.write.write_report", lambda folder, search: None)
    rng = np.random.default_rng(1)
    mass = np.minimum(2700 + rng.exponential(500, 20_000), 5000)
    events = Events.from_arrays(rng.normal(size=(20_000, 1)), mass, ["x"])
    found = pipelines.search(
        events.read("features")[:, 0], events, percentiles=[90], widths=(2, 4), pseudo_experiments=50
    )
    write(found, tmp_path / "out")
    limit = json.loads((tmp_path / "out" / "search.json").read_text())["limit"]
    best, (low, high) = found.hunt.best, found.hunt.best.interval
    unselected = (found.masses["mass"] >= low) & (found.masses["mass"] < high) & ~found.selected(best)
    assert limit["events"] == in_interval(found, best)["observed"] and limit["share"] == best.normalisation
    assert limit["background"] == pytest.approx(unselected.sum() * best.normalisation / (1 - best.normalisation))
    assert limit["background_error"] > limit["background"] / np.sqrt(unselected.sum())
    assert limit["absorbed"] == best.absorbed and limit["window"] == list(best.interval)
    assert limit["expected"]["median"] > 0 and limit["confidence_level"] == 0.95


@pytest.mark.parametrize(("signal", "again"), [(60, False), (600, True)])
def test_the_background_of_a_limit_and_its_error_are_of_fits_that_do_not_see_the_bump(signal, again):
    """The error by the Fisher information of the fit without the bump; a fit to all bins has one of two thirds of it."""
    edges = np.linspace(2700, 5000, 41)
    truth = SpectrumFitter(edges, FUNCTIONS["dijet3"]).expected(np.array([[0.0], [9.0], [-4.0]]))[:, 0]
    truth *= 8000 / truth.sum()
    counts = np.rint(truth + signal * gaussian_shape(edges, 3500, 100))
    found = bumphunt(counts, "dijet3", edges=edges, widths=(8, 8), pseudo_experiments=300)
    assert (found.refit is not None) is again
    limit, used = found.limit(fits=2000), np.ones(40, bool)
    used[found.window.start - 2 : found.window.stop + 2] = False  # and a quarter of eight bins on each side
    used[slice(*np.searchsorted(edges, found.refit.excluded)) if again else found.window] = False
    fitter = SpectrumFitter(edges, FUNCTIONS["dijet3"], used=used)
    parameters = fitter.fit(counts).parameters[:, 0]
    change = fitter.jacobian(parameters)[found.window].sum(axis=0)
    assert limit.background_error == pytest.approx(np.sqrt(change @ fitter.covariance(parameters) @ change), rel=0.1)
    assert limit.background == pytest.approx(truth[found.window].sum(), abs=limit.background_error)
    assert limit.observed > signal


def test_a_small_background_that_is_given_has_a_limit():
    """Near exact CLs of counts with a known background."""
    edges = np.arange(11) * 100.0
    found = bumphunt([0, 0, 3, 0, 0, 0, 0, 0, 0, 0], [0.2] * 10, edges=edges, pseudo_experiments=1000)
    limit, b = found.limit(), 0.4
    assert found.believed and found.interval in ((100, 300), (200, 400)) and limit.background_error == 0
    exact = brentq(lambda s: poisson.cdf(3, s + b) / poisson.cdf(3, b) - 0.05, 0.1, 60)
    assert limit.observed == pytest.approx(exact, rel=0.25)
    empty = found.fit.fit(np.zeros(10))
    assert empty.deviance[0] == pytest.approx(2 * 2.0)  # twice what is expected, Baker and Cousins
    share = found.background.p_value
    assert share == pytest.approx(_share_of_chi2(found.background.chi2), abs=0.03)


def _share_of_chi2(observed):
    """How often ten numbers of mean 0.2 have such a chi2, by NumPy alone."""
    n = np.random.default_rng(1).poisson(0.2, (10, 100_000))
    return np.mean(
        2 * np.sum(0.2 - n + np.where(n > 0, n * np.log(np.maximum(n, 1) / 0.2), 0), axis=0) >= observed - 1e-9
    )


def test_a_window_that_leaves_too_few_bins_to_fit_has_no_limit():
    counts = np.random.default_rng(1).poisson(1000 * np.exp(-np.arange(10) / 3))
    counts[1:9] += 300
    found = bumphunt(counts, "exp2", edges=np.arange(100, 111), widths=(8, 8), pseudo_experiments=20)
    assert found.window is not None and found.limit() is None


def test_a_spectrum_has_a_limit_whose_background_error_is_that_of_the_fit():
    rng = np.random.default_rng(2)
    edges = np.arange(100, 131)
    mu = 1000 * np.exp(-np.arange(30) / 10)
    fitted = bumphunt(rng.poisson(mu), "exp1", edges=edges, widths=(2, 4), pseudo_experiments=50)
    given = bumphunt(rng.poisson(mu), mu, edges=edges, widths=(2, 4), pseudo_experiments=50)
    limit = fitted.limit()
    assert 0 < limit.background_error < np.sqrt(limit.background) and given.limit().background_error < 1e-9
    assert limit.events == fitted.observed_events and limit_json(fitted)["observed"] == limit.observed
    hole = bumphunt(rng.poisson(mu), "exp1", edges=edges, widths=(2, 4), pseudo_experiments=50, deficit=True)
    assert hole.limit() is None
    wrong = bumphunt(rng.poisson(1000 + 500 * np.sin(np.arange(30))), "exp1", edges=edges, pseudo_experiments=50)
    assert limit_json(wrong) is None  # the background does not describe it


@pytest.mark.parametrize(
    ("function", "seed", "known"),
    [("dijet5", 0, False), ("dijet5", 10, False), ("dijet5", 2, True), ("exp3", 2, True), ("exp3", 4, True)],
    ids=["few-events", "not-converged", "dijet5", "exp3", "few-runaways"],
)
def test_a_fit_that_knows_nothing_of_the_window_gives_no_limit_or_one_of_the_usual_fits(function, seed, known):
    """Extrapolated fits of steep spectra: some run away, which neither stops the hunt nor sets the error."""
    edges, rng = np.linspace(1000, 4000, 31), np.random.default_rng(seed)
    counts = rng.poisson(60 * np.exp(-np.arange(30) / 4))
    counts[:8] += rng.poisson(30, 8)
    limit = bumphunt(counts, function, edges=edges, widths=(8, 8), pseudo_experiments=20).limit()
    assert (limit is not None) is known
    if known:
        assert limit.background_error < limit.background and limit.observed < limit.events


def test_without_events_beside_the_window_there_is_no_limit():
    edges, counts = np.linspace(1000, 4000, 31), np.zeros(30)
    counts[10:14] = 20
    counts[[3, 20, 25]] = 1
    found = bumphunt(counts, "exp1", edges=edges, widths=(4, 4), pseudo_experiments=20)
    assert found.interval == (2000, 2400) and found.limit() is None


@pytest.mark.parametrize(
    ("counts", "background", "interval"),
    [
        ([0] * 3 + [10, 30, 12] + [0] * 6, [0] * 3 + [2, 5, 2] + [0] * 6, (3, 6)),
        ([50] + [0] * 9, [3] + [0] * 9, (0, 2)),
    ],
)
def test_a_bump_where_all_of_a_given_background_is(counts, background, interval):
    edges = np.arange(len(counts) + 1.0)
    found = bumphunt(counts, background, edges=edges, pseudo_experiments=200)
    assert found.interval == interval and found.refit is None and found.limit() is None


@pytest.mark.parametrize(
    ("events", "background", "error"), [(5, 1e6, 1e7), (1000, 10, 1e5), (20, 1e5, 3e5), (1e6, 10, 1)]
)
def test_numbers_that_allow_no_limit(events, background, error):
    with pytest.raises(
        InputError, match=re.escape(f"limit: {events:g} events, background {background:g} +- {error:g}")
    ):
        upper_limit(events, background, error)
    assert limit_of(events, background, error, (1, 2)) is None
    assert limit_of_cut(1000, 1100, 0.5, 1.0, (1, 2)) is None  # 100 +- 400


@pytest.mark.parametrize(("width", "flank"), [(2, 1), (4, 1), (6, 2), (8, 2), (10, 3)])
def test_a_flank_is_a_quarter_of_the_window_rounded_up(width, flank, monkeypatch):
    unseen = []
    monkeypatch.setattr(
        "pipelines.bumphunt.spectrum_result.enough", lambda fit, counts, window: unseen.append(window) or False
    )
    counts = np.random.default_rng(1).poisson(1000 * np.exp(-np.arange(40) / 10))
    counts[15 : 15 + width] += 30
    edges = np.arange(100, 141)
    found = bumphunt(counts, "exp1", edges=edges, widths=(width, width), pseudo_experiments=1)
    found.limit()
    assert unseen == [slice(found.window.start - flank, found.window.stop + flank)]
    few = bumphunt(counts, "exp1", edges=edges, widths=(width, width), pseudo_experiments=1, exclude=(130, 140))
    few.limit()
    of_30 = min(flank, max(0, (15 - width) // 2))
    assert unseen[1] == slice(few.window.start - of_30, few.window.stop + of_30)
