"""Injected signal and discovery reach, spurious signal, and what is believed of searches in mixtures."""

import itertools
import json

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import norm, poisson

import pipelines
import zoo
import zoo.cli.main
from pipelines import Events, InputError
from pipelines.bumphunt.batched_fit import SpectrumFitter
from pipelines.bumphunt.discovery_reach import GlobalSignificance, significances
from pipelines.bumphunt.fit_functions import FUNCTIONS, one_more
from pipelines.bumphunt.options import BumpHuntOptions
from pipelines.bumphunt.selection_reach import selection_reach
from pipelines.bumphunt.spectrum_hunt import bumphunt
from pipelines.bumphunt.validation import injection_curve, needed_yield, paper_numbers, spectrum_injection
from pipelines.bumphunt.write import write
from pipelines.plots import plot_injection_curve, plot_reach, read_numbers

EDGES = np.linspace(1000, 5000, 41)


def dijet(name, parameters):
    return SpectrumFitter(EDGES, FUNCTIONS[name]).expected(np.array(parameters)[:, None])[:, 0]


def test_significances_are_those_of_the_normal_distribution_far_out_too():
    z = np.array([0.5, 3.0, 5.0, 30.0])
    assert significances(norm.logsf(z)) == pytest.approx(z, rel=1e-9)
    assert significances(np.log([0.9]))[0] == 0


def test_global_significance_is_counted_then_extrapolated_to_what_many_more_pseudo_experiments_count():
    """Fitted and scanned: what 2,000 pseudo-experiments extrapolate is what 40,000 count."""
    mu = 3 * dijet("dijet3", [-4.0, 9.0, -4.0])
    few, many = (
        bumphunt(np.rint(mu), "exp1", edges=EDGES, mass_range=(1000, 2000), widths=(1, 3), pseudo_experiments=n, seed=n)
        for n in (2000, 40_000)
    )
    of = GlobalSignificance(few.toys)
    t = np.sort(many.toys)[-30]
    exact = norm.isf(30 / 40_000)
    assert of.extrapolated([t])[0] and of.at([t])[0] == pytest.approx(exact, abs=0.35)
    assert of.at([0.0])[0] == 0 and of.at([np.median(few.toys)])[0] == pytest.approx(0, abs=0.05)
    rising = of.at(np.linspace(0, 60, 200))
    assert (np.diff(rising) >= 0).all()


def test_reach_of_one_bin_with_a_known_background_is_that_of_poisson_numbers():
    """One window: the local significance of n events, and the global one is the same."""
    found = bumphunt(
        np.full(3, 100.0), np.full(3, 100.0), edges=[0, 1, 2, 3], widths=(1, 1), pseudo_experiments=50,
        inject=(1.5, 0.01), inject_events=[0, 60], repeats=400,
    )  # fmt: skip
    low, middle, _ = found.reach.rows[1]["local"]
    draws = poisson.ppf([0.16, 0.5], 160)
    assert [low, middle] == pytest.approx(norm.isf(poisson.sf(draws - 1, 100)), abs=0.25)
    assert found.reach.rows[1]["s_over_b"] == pytest.approx(60 * 0.8385 / found.reach.background, rel=1e-3)
    assert found.reach.background == pytest.approx(2.8, rel=1e-6)
    assert found.reach.rows[1]["in_window"] > 0.95


def test_reach_is_the_same_in_whatever_order_the_numbers_of_events_are_given():
    mu = dijet("dijet3", [-4.0, 9.0, -4.0])
    options = {"edges": EDGES, "widths": (2, 6), "pseudo_experiments": 200, "inject": (2500, 100), "repeats": 60}
    one, other = (
        bumphunt(np.rint(mu), "dijet3", inject_events=events, **options).reach
        for events in ([0, 150, 300, 600], [600, 150, 300, 0])
    )
    assert [row["events"] for row in other.rows] == [0, 150, 300, 600] and one.reach == other.reach
    assert 0 < one.reach["local"]["3"]["events"] < 600
    with_signal = [{"ratio": r, "believed": {"global_extrapolated": 1000 * r, "local": 4.0}} for r in (0.001, 0.004)]
    assert injection_curve(with_signal[::-1]) == injection_curve(with_signal)
    rows = [{"events": 20, "local": [1, 1.5, 2]}, {"events": 0, "local": [0, 0.5, 1]}]
    assert needed_yield(rows, "local", 1.0) == 10


def test_reach_is_between_the_rows_where_the_median_passes_the_target():
    mu = dijet("dijet3", [-4.0, 9.0, -4.0])
    found = bumphunt(
        np.rint(mu), "dijet3", edges=EDGES, widths=(2, 6), pseudo_experiments=300, inject=(2500, 100), repeats=60
    )
    reach = found.reach
    for kind in ("local", "global"):
        medians = [row[kind][1] for row in reach.rows]
        for target, one in reach.reach[kind].items():
            i = next(k for k, z in enumerate(medians) if z >= float(target))
            assert reach.rows[i - 1]["events"] < one["events"] <= reach.rows[i]["events"]
            assert one["band"][0] <= one["events"]
    assert (
        reach.reach["global"]["5"]["events"]
        > reach.reach["global"]["3"]["events"]
        > reach.reach["local"]["3"]["events"]
    )
    low, share, high = reach.rows[-1]["efficiency"]["3"]
    assert low <= share <= high and share > 0.9 and reach.rows[0]["efficiency"]["5"][1] == 0
    assert abs(reach.rows[-1]["mass_bias"][1]) < 30


def test_reach_of_a_selection_is_that_of_hunts_in_single_events():
    rng = np.random.default_rng(0)
    mass, score = 2700 + rng.exponential(500, 20_000), rng.normal(size=20_000)
    for cut in ("global", "mass"):
        options = BumpHuntOptions(
            percentiles=90, mass_range=(2700, 5000), bins=20, widths=(1, 4), pseudo_experiments=3000, cut=cut
        )
        signal = {"at": 3600, "width": 60}
        fast = selection_reach(mass, options, events=[0, 120], repeats=300, **signal)
        slow = spectrum_injection(score, mass, options, yields=[0, 120], repeats=6, pseudo_experiments=40, **signal)
        for one, other in zip(fast.rows, slow):
            assert one["local"][1] == pytest.approx(other["local"][1], abs=1.0)  # 6 data sets know the median to 0.5
        assert fast.rows[1]["in_window"] > 0.95 and abs(fast.rows[1]["mass_bias"][1]) < 25


def test_spurious_signal_tells_a_function_that_is_too_stiff_and_one_that_is_right():
    template = dijet("dijet4", [0.0, 9.0, -4.0, 0.6])
    counts = np.random.default_rng(3).poisson(template)
    options = {"edges": EDGES, "widths": (2, 6), "pseudo_experiments": 30, "template": template}
    stiff, right = (bumphunt(counts, name, **options).spurious for name in ("dijet3", "dijet4"))
    assert abs(stiff.largest.ratio) > 10 and abs(right.largest.ratio) < 0.01
    assert stiff.given and stiff.function == "dijet3" and len(stiff.each) >= 30
    by_data = bumphunt(counts, "dijet4", **{**options, "template": None}).spurious
    assert not by_data.given and "one parameter more" in by_data.template
    assert bumphunt(counts, template, edges=EDGES, widths=(2, 6), pseudo_experiments=30).spurious is None


def test_one_parameter_more_is_the_next_function():
    x = np.linspace(0.1, 0.9, 5)
    for name, following in (("dijet3", "dijet4"), ("dijet4", "dijet5"), ("exp1", "exp2")):
        assert one_more(FUNCTIONS[name]).terms(x) == pytest.approx(FUNCTIONS[following].terms(x))


@pytest.mark.parametrize(
    "options, says",
    [
        ({"inject": (9000, 100)}, "mass within the spectrum, 1000 to 5000"),
        ({"inject": (2500, 0)}, "width above 0"),
        ({"inject": (2500, 100), "inject_events": [-1]}, "injected events -1"),
        ({"inject": (2500, 100), "repeats": 1}, "at least 2"),
        ({"inject": (2500, 100), "deficit": True}, "leave out inject or deficit"),
        ({"inject_events": [3]}, "without a signal"),
        ({"background": np.ones(40), "template": np.ones(40)}, "a template measures"),
        ({"template": np.ones(3)}, "shape"),
    ],
)
def test_injections_and_templates_that_cannot_be_are_refused(options, says):
    with pytest.raises(InputError, match=says):
        bumphunt(np.full(40, 90.0), edges=EDGES, pseudo_experiments=5, **{"background": "exp1", **options})


def test_command_writes_reach_and_spurious_signal(tmp_path):
    lines = ["low,high,observed", *(f"{a},{b},{round(1e4 * np.exp(-a / 500))}" for a, b in itertools.pairwise(EDGES))]
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    line = ["bumphunt", tmp_path / "s.csv", "--background", "exp1", "--mass-range", 1000, 3000, "--toys", 60, "--repeats", 20,
            "--inject", 2000, 100, "--inject-events", 0, "--inject-events", 200, "--out", tmp_path / "out"]  # fmt: skip
    done = CliRunner().invoke(zoo.cli.main.main, [str(word) for word in line])
    assert done.exit_code == 0, done.output
    assert (
        "Spurious signal: where exp1 with one parameter more" in done.stdout
        and "median of 3 sigma (global) at" in done.stdout
    )
    kept = json.loads((tmp_path / "out" / "bumphunt.json").read_text())
    assert [row["events"] for row in kept["reach"]["rows"]] == [0, 200]
    assert kept["spurious_signal"]["largest"]["error"] > 0
    assert read_numbers(tmp_path / "out/plots/reach.json")["rows"] == kept["reach"]["rows"]
    assert "What would have been found of a signal" in (tmp_path / "out" / "report.html").read_text()


# -- what is believed ---------------------------------------------------------------------------------------


class First:
    """A model whose score is the first feature."""

    def score(self, events):
        return events.read("features", ["x"])[:, 0]


@pytest.fixture(scope="module")
def sculpted():
    """A search in signal and background whose score depends on the mass, with one threshold."""
    rng = np.random.default_rng(4)
    mass = np.r_[2700 + 2300 * rng.beta(1, 4, 20_000), rng.normal(3600, 50, 300)]
    x = np.r_[4 * np.log(mass[:20_000] / 2700) + rng.normal(size=20_000), rng.normal(3, 1, 300)]
    label = np.r_[np.zeros(20_000, int), np.ones(300, int)]
    events = Events.from_arrays(x[:, None], mass, ("x",), label=label)
    return pipelines.search(
        First(),
        events,
        percentiles=90,
        mass_range=(2700, 5000),
        bins=20,
        widths=(1, 4),
        cut="global",
        pseudo_experiments=200,
    )


def test_numbers_of_a_search_are_those_that_may_be_believed(sculpted):
    numbers = paper_numbers(sculpted)
    believed = numbers["believed"]
    assert sculpted.following is not None and believed["cut"] == "mass" and believed["background"] == "spectrum"
    best = sculpted.following.best
    assert believed["local"] == best.local_significance and believed["interval"] == best.interval
    assert abs(believed["mass_bias"]) < 100 < abs(numbers["mass_bias"])
    assert believed["global_is_bound"] and believed["global_extrapolated"] > believed["global"]
    chosen = sculpted.selected(best) & (sculpted.events.label == 1)
    assert believed["efficiency"] == pytest.approx(chosen.sum() / 300, abs=0.01)


def test_spectra_of_a_second_hunt_and_of_fits_are_written(sculpted, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.bumphunt.write.write_report", lambda folder, search: None)
    write(sculpted, tmp_path / "out")
    with h5py.File(tmp_path / "out" / "spectra.h5") as file:
        group = file["following"]["mass 90 upper"]
        assert group["observed"][()].tolist() == list(sculpted.following.best.observed)
        assert len(group["threshold_curve"]) == len(group["threshold_mass"])
        assert file["mass 90 upper"]["observed"][()].tolist() == list(sculpted.hunt.best.observed)
    rng = np.random.default_rng(5)
    events = Events.from_arrays(rng.normal(size=(4000, 1)), 2700 + 2300 * rng.beta(1, 4, 4000), ("x",))
    options = {"percentiles": 80, "mass_range": (2700, 5000), "bins": 20, "widths": (1, 4), "pseudo_experiments": 20}
    fitted = pipelines.search(First(), events, background="exp1", **options)
    write(fitted, tmp_path / "fitted")
    with h5py.File(tmp_path / "fitted" / "spectra.h5") as file:
        group = file["fits"]["mass 80 upper"]
        assert group["expected"][()] == pytest.approx(fitted.fits[0].expected) and len(group["toys"]) == 20
    kept = json.loads((tmp_path / "fitted" / "search.json").read_text())
    assert kept["fits"][0]["spurious_signal"]["function"] == "exp1"
    believed = paper_numbers(fitted)["believed"]
    assert believed is None or believed["background"] == "exp1"


def test_curve_counts_what_is_not_believed_as_nothing(tmp_path):
    one = {
        "global_extrapolated": 4.0,
        "global_is_bound": True,
        "local": 5.0,
        "efficiency": 0.2,
        "gain": 3.0,
        "mass_bias": 10.0,
    }
    rows = [{"ratio": 0.0, "believed": None}, {"ratio": 0.01, "believed": None}]
    rows += [{"ratio": 0.01, "believed": one}] * 3
    found = injection_curve(rows)
    none, some = found["curve"]
    assert none["global"] == [0, 0, 0] and none["believed"] == 0 and none["efficiency"] is None
    assert some["global"][1] == 4 and some["believed"] == 0.75 and some["reaches"]["3"][1] == 0.75
    assert found["reach"] == {"3": pytest.approx(0.0075), "5": None}
    assert none["extrapolated"] == 0 and some["extrapolated"] == 0.75
    assert plot_injection_curve(found, tmp_path / "c.png") == read_numbers(tmp_path / "c.json")


def test_reach_is_drawn_from_the_numbers_beside_it(tmp_path):
    options = BumpHuntOptions(percentiles=90, mass_range=(2700, 5000), bins=20, widths=(1, 4), pseudo_experiments=100)
    mass = 2700 + np.random.default_rng(0).exponential(500, 5000)
    found = selection_reach(mass, options, at=3500, width=60, repeats=10).to_dict()
    plot_reach(found, tmp_path / "reach.png")
    assert read_numbers(tmp_path / "reach.json")["reach"] == json.loads(json.dumps(found["reach"]))
