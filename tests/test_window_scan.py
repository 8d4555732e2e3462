"""A scan of windows: local p-values, the global one of all windows, and models that never score what they saw."""

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import kstest, poisson

import zoo
import zoo.cli.main
import zoo.hunting.window_scan
from pipelines import Events, InputError
from pipelines.window_scan.backgrounds import Cells, Ranked, local_p_value, log_p_value, select
from pipelines.window_scan.options import Window, WindowScanOptions, windows_of
from pipelines.window_scan.report import lead, row, warnings
from pipelines.window_scan.result import Scored
from pipelines.window_scan.scan import window_scan
from pipelines.window_scan.write import write

RANGE = (2500.0, 5000.0)
TREES = {"columns": ("*",), "classifier": "trees", "trees": 5, "leaves": 4, "folds": 2, "batch_size": 4096}
QUICK = {"scan": True, "hyperparameters": TREES, "jit_compile": False, "mass_range": RANGE, "percentiles": 95,
         "pseudo_experiments": 200, "window_width": 600, "window_step": 1.0}  # fmt: skip


def masses(size, rng):
    return np.sort(2500 + 2500 * rng.random(size) ** 2).astype(np.float32).astype(float)


def toy(size=6000, signal=0, seed=0):
    """Background of two features that do not depend on the mass; signal at 3500 GeV, elsewhere in them."""
    rng = np.random.default_rng(seed)
    mass = np.concatenate([masses(size, rng), rng.normal(3500, 60, signal)])
    x = rng.normal(size=(size + signal, 2))
    x[size:] = 0.3 * x[size:] + 2.5
    return Events.from_arrays(x, mass, ["a", "b"], label=(np.arange(len(mass)) >= size).astype("int8"), mass_column="m")


# -- windows ------------------------------------------------------------------------------------------


def test_windows_slide_with_room_for_side_bands_and_may_grow_with_the_mass():
    mass = masses(100_000, np.random.default_rng(0))
    found, said = windows_of(mass, WindowScanOptions(window_width=0.1, window_step=1.0, mass_range=RANGE))
    for window, after in itertools.pairwise(found):
        assert (window.high - window.low) / (window.high + window.low) * 2 == pytest.approx(0.1)
        assert after.low == pytest.approx(window.high, rel=1e-6)
    assert found[0].low == pytest.approx(2750) and found[-1].high * 1.1 < 5100 and not said
    near, _ = windows_of(mass, WindowScanOptions(window_width=200, side_band_width=300, mass_range=RANGE))
    assert all(one.low - one.outer_low == 300 or one.outer_low == 2500 for one in near)


def test_relative_windows_need_masses_above_zero():
    mass = masses(10_000, np.random.default_rng(0))
    for low in (0.0, -10.0):
        with pytest.raises(InputError, match="a relative window width needs masses above 0"):
            windows_of(mass, WindowScanOptions(mass_range=(low, 5000.0)))
    found, _ = windows_of(mass, WindowScanOptions(window_width=400, mass_range=(0.0, 5000.0)))
    assert found


def test_windows_with_too_few_events_are_left_out_and_told_or_refused():
    mass = np.concatenate([np.linspace(2500, 3500, 5000), [4900.0]])
    options = WindowScanOptions(window_width=200, mass_range=RANGE)
    found, said = windows_of(mass, options)
    assert found and max(one.high for one in found) < 3500
    assert any("is left out: " in text and "expected at least 100" in text for text in said)
    with pytest.raises(InputError, match=r"window 4000 to 4200 GeV: 0 events in it"):
        windows_of(mass, WindowScanOptions(windows=[(4000, 4200)], mass_range=RANGE))
    with pytest.raises(InputError, match="no window can be scanned"):
        windows_of(mass, WindowScanOptions(window_width=2000, mass_range=RANGE))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"window_width": 0}, "window_width 0, expected a number above 0"),
        ({"windows": [(3700, 3300)]}, "expected the lower end first"),
        ({"background": "nonsense"}, "expected one of spectrum, sidebands, template"),
        ({"percentiles": 20}, "expected at least 50"),
        ({"pseudo_experiments": 0}, "pseudo_experiments 0"),
    ],
)
def test_options_that_cannot_be_are_refused(given, words):
    with pytest.raises(InputError, match=words):
        WindowScanOptions(**given)


# -- p-values -----------------------------------------------------------------------------------------


def test_local_p_value_is_a_binomial_test_against_side_bands_and_poisson_without_error():
    """Z_Bi of Cousins, Linnemann and Tucker 2008, by SciPy's binomial distribution."""
    from scipy.stats import binom, norm

    n, off, tau = 140, 100, 1.2
    p = float(np.exp(log_p_value(np.array([n]), np.array([off / tau]), np.array([np.sqrt(off) / tau]))[0]))
    assert p == pytest.approx(binom.sf(n - 1, n + off, 1 / (1 + tau)), rel=1e-6)
    assert norm.isf(p) == pytest.approx(3.93, abs=0.005)
    few = np.array([3.0, 12.0, 0.0])
    found = np.exp(log_p_value(few, np.full(3, 5.0), np.zeros(3)))
    np.testing.assert_allclose(found, [poisson.sf(2, 5), poisson.sf(11, 5), 1.0], rtol=1e-4)
    assert (np.diff(log_p_value(np.full(3, 20.0), np.full(3, 10.0), np.array([0.0, 1.0, 4.0]))) > 0).all()


@pytest.mark.parametrize(
    ("n", "b", "error"), [(1000, 40.0, 4.0), (500, 10.0, 1.0), (1500, 100.0, 5.0), (1000, 40.0, 0.0)]
)
def test_local_p_value_too_small_for_a_number_keeps_its_logarithm(n, b, error):
    """By the sum of SciPy's logarithmic probabilities: of a binomial, or without an error of a Poisson number."""
    from scipy.special import logsumexp
    from scipy.stats import binom

    many = np.arange(n, n + 3000)
    if error:
        tau = b / error**2
        off = b * tau
        terms = binom.logpmf(many[many <= n + off], n + off, 1 / (1 + tau))
    else:
        terms = poisson.logpmf(many, b)
    found = float(log_p_value(np.array([n]), np.array([b]), np.array([error]))[0])
    assert found == pytest.approx(logsumexp(terms), abs=0.01) and found < np.log(1e-290)
    assert local_p_value(found) == max(1e-300, np.exp(found))


@pytest.mark.parametrize("background", ["spectrum", "sidebands", "dijet3"])
def test_expected_background_is_that_of_the_window_also_where_the_score_depends_on_the_mass(background):
    rng = np.random.default_rng(1)
    mass = np.sort(2500 + rng.exponential(600, 60_000))
    mass = mass[mass < RANGE[1]]
    slope = {"spectrum": 1.0, "sidebands": 0.1, "dijet3": 0.05}[background]
    score = rng.normal(size=len(mass)) + slope * (mass - 3500) / 1000
    window, options = Window(3300, 3700, *RANGE), WindowScanOptions(background=background, percentiles=95)
    one = select(window, 95, Ranked.of(score, None, 0), mass, Cells.between([window], mass, 40), options)
    assert one.error < 0.15 * one.expected
    assert abs(one.events - one.expected) < 3.5 * np.hypot(np.sqrt(one.events), one.error)
    assert one.describes > 0.001
    counts = np.repeat(one.counts[:, None], 2, axis=1)
    np.testing.assert_allclose(one.expect(counts)[0], one.expected, rtol=1e-6)


@pytest.mark.parametrize("background", ["spectrum", "sidebands", "template"])
def test_events_beyond_the_side_bands_do_not_count(background):
    """The share selected is of the events of a cell: those of other masses are in none."""
    rng = np.random.default_rng(11)
    mass = np.sort(2700 + rng.exponential(500, 100_000))
    windows = [Window(3400, 3700, 3100, 4000), Window(3500, 3800, 3200, 4100)]
    assert mass[0] < 3100 and mass[-1] > 4100
    cells = Cells.between(windows, mass, 40)
    assert cells.events.sum() == np.count_nonzero((mass >= 3100) & (mass < 4100))
    assert np.array_equal(cells.of >= 0, (mass >= 3100) & (mass < 4100))
    score = rng.normal(size=len(mass))
    ranked = Ranked.of(score, rng.normal(size=50_000) if background == "template" else None, 0)
    options = WindowScanOptions(background=background, side_band_width=300)
    for window in windows:
        one = select(window, 95, ranked, mass, cells, options)
        assert one.expected == pytest.approx(0.05 * window.inside(mass).sum(), abs=4 * one.error)
        assert one.describes is None or one.describes > 1e-3


@pytest.mark.parametrize("background", ["spectrum", "sidebands"])
@pytest.mark.parametrize("percentile", [50, 80])
def test_check_of_the_side_bands_is_calibrated_however_loose_the_cut(percentile, background):
    window, options = Window(3300, 3700, *RANGE), WindowScanOptions(background=background)
    p_values = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        mass = masses(10_000, rng)
        ranked = Ranked.of(rng.normal(size=len(mass)), None, seed)
        p_values.append(select(window, percentile, ranked, mass, Cells.between([window], mass, 40), options).describes)
    assert kstest(p_values, "uniform").pvalue > 0.01 and 0.4 < np.mean(p_values) < 0.6


def test_error_of_the_estimate_is_that_of_the_difference_from_what_is_selected():
    window, pulls = Window(3300, 3700, *RANGE), []
    options = WindowScanOptions(percentiles=90)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        mass = masses(5000, rng)
        ranked = Ranked.of(rng.normal(size=5000), None, 0)
        one = select(window, 90, ranked, mass, Cells.between([window], mass, 40), options)
        pulls.append((one.events - one.expected) / np.sqrt(0.9 * (one.expected + one.error**2)))
    assert 0.8 < np.std(pulls) < 1.2 and abs(np.mean(pulls)) < 0.35


def test_template_predicts_the_number_with_its_own_error():
    rng = np.random.default_rng(2)
    mass, window = masses(20_000, rng), Window(3300, 3700, *RANGE)
    options = WindowScanOptions(background="template", percentiles=90)
    template = rng.normal(size=5000)
    ranked = Ranked.of(rng.normal(size=20_000), template, 0)
    one = select(window, 90, ranked, mass, Cells.between([window], mass, 40), options)
    events = window.inside(mass).sum()
    assert one.expected == pytest.approx(0.1 * events, rel=0.01)
    assert one.error == pytest.approx(events * np.sqrt(0.09 / 5000), rel=0.02)
    assert one.describes is None


def test_equal_scores_are_cut_through_at_random():
    rng = np.random.default_rng(6)
    mass = masses(20_000, rng)
    ranked = Ranked.of(rng.integers(0, 3, 20_000).astype(float), None, 0)
    window = Window(3300, 3700, *RANGE)
    for background in ("spectrum", "sidebands"):
        options = WindowScanOptions(background=background)
        one = select(window, 90, ranked, mass, Cells.between([window], mass, 40), options)
        beside = one.chosen[window.beside(mass)]
        assert beside.mean() == pytest.approx(0.1, abs=0.002) and one.threshold == 2.0
        assert abs(one.events - one.expected) < 4 * np.sqrt(one.expected + one.error**2)


def scan_of(scores, events, windows, **options):
    return window_scan(windows, [Scored(one) for one in scores], events, WindowScanOptions(mass_range=RANGE, **options))


def test_global_p_values_of_background_are_uniform_with_correlated_overlapping_windows():
    """The trials factor: windows that overlap and share a part of their score."""
    p_values, locals_ = [], []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        mass = masses(4000, rng)
        events = Events.from_arrays(np.zeros((4000, 1)), mass, ["a"], mass_column="m")
        options = {"percentiles": 90, "window_width": 0.12, "pseudo_experiments": 200, "seed": seed}
        windows, _ = windows_of(mass, WindowScanOptions(mass_range=RANGE, **options))
        common = rng.normal(size=4000)
        found = scan_of([common + rng.normal(size=4000) for _ in windows], events, windows, **options)
        p_values.append(found.global_p_value)
        locals_.append(found.best.local_p_value)
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert np.median(locals_) < 0.2 and kstest(locals_, "uniform").pvalue < 1e-6  # a local p-value is no global one


@pytest.mark.parametrize(
    "options", [{}, {"side_band_width": 600}, {"background": "sidebands"}, {"percentiles": (90, 95)}]
)
def test_signal_in_one_window_is_found_there(options):
    rng = np.random.default_rng(3)
    mass = np.concatenate([masses(20_000, rng), rng.normal(3500, 60, 100)])
    label = (np.arange(20_100) >= 20_000).astype("int8")
    events = Events.from_arrays(np.zeros((20_100, 1)), mass, ["a"], label=label, mass_column="m")
    options = {"percentiles": 95, "window_width": 400, "pseudo_experiments": 300, **options}
    windows, _ = windows_of(events.mass.astype(float), WindowScanOptions(mass_range=RANGE, **options))
    scores = []
    for window in windows:
        score = rng.normal(size=20_100)
        score[20_000:] += 3.0 * window.inside(mass[20_000:])
        scores.append(score)
    found = scan_of(scores, events, windows, **options)
    best = found.best
    assert best.window[0] < 3500 < best.window[1] and abs(best.mass_estimate - 3500) < 60
    assert best.local_significance > 4 and found.global_p_value_is_bound and found.trials_factor is None
    assert best.truth["1"]["selected"] > 60 and best.truth["0"]["events"] > 1000
    summary = found.summary()
    assert summary["interval"] == best.window and summary["believed"]["global_p_value"] == found.global_p_value
    assert len(summary["windows"]) == len(windows) * len(found.options.several_percentiles)
    background, limit = best.truth["0"]["selected"], found.limit()
    assert limit.observed > best.truth["1"]["selected"] and limit.share == best.expected / best.events
    assert limit.background == pytest.approx(background, abs=3 * np.hypot(np.sqrt(background), limit.background_error))
    assert json.loads(found.to_json())["limit"]["window"] == list(best.window)


def test_a_bump_beyond_the_smallest_number_is_told_and_written(tmp_path):
    rng = np.random.default_rng(3)
    mass = np.concatenate([masses(20_000, rng), rng.normal(3500, 40, 1500)])
    events = Events.from_arrays(np.zeros((21_500, 1)), mass, ["a"], mass_column="m")
    score = rng.normal(size=21_500)
    score[20_000:] += 10.0
    options = {"percentiles": 99, "pseudo_experiments": 100}
    found = scan_of([score, score], events, [Window(*ends, *RANGE) for ends in ((3000, 3300), (3300, 3700))], **options)
    assert found.best.window == (3300, 3700) and found.best.local_p_value == 1e-300
    assert found.global_p_value_is_bound and 37.1 < found.best.local_significance < 1500
    write(found, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "search.json").read_text())["local_p_value"] == 1e-300
    assert "&lt; 1e\N{MINUS SIGN}300" in (tmp_path / "out" / "report.html").read_text()


def test_a_score_that_jumps_beside_the_window_is_not_believed():
    rng = np.random.default_rng(4)
    mass = masses(40_000, rng)
    events = Events.from_arrays(np.zeros((40_000, 1)), mass, ["a"], mass_column="m")
    score = rng.normal(size=40_000) + 3.0 * np.cos((mass - 3000) / 60)
    found = scan_of([score], events, [Window(3300, 3700, *RANGE)], percentiles=90, pseudo_experiments=50)
    assert not found.believed and found.limit() is None and found.summary()["believed"]["global_p_value"] is None
    summary = found.summary()
    assert all(summary[name] is None for name in summary if "p_value" in name and name != "reference_p_value")
    assert all(summary[name] is None for name in summary if "significance" in name or name == "trials_factor")
    assert summary["windows"][0]["local_p_value"] == found.best.local_p_value and row(found.best)[7:9] == [None, None]


def test_windows_are_counted_once_whatever_the_percentiles():
    rng = np.random.default_rng(7)
    mass = masses(20_000, rng)
    events = Events.from_arrays(np.zeros((20_000, 1)), mass, ["a"], mass_column="m")
    windows = [Window(3000, 3300, *RANGE), Window(3300, 3700, *RANGE)]
    scores = [rng.normal(size=20_000), rng.normal(size=20_000) + 3.0 * np.cos((mass - 3000) / 60)]
    found = scan_of(scores, events, windows, percentiles=(90, 95), pseudo_experiments=50)
    wrong = tuple(
        dataclasses.replace(one, reference_p_value=0.5 if one is found.best else 1e-9) for one in found.windows
    )
    found = dataclasses.replace(found, windows=wrong)
    assert "of 2 windows at 2 percentiles; the most" in lead(found)
    (text,) = warnings(found)
    assert "in 3 other selections (" in text and text.count(" GeV at percentile ") == 3
    alone = dataclasses.replace(found, windows=(found.best,))
    assert "of 1 window; the most" in lead(alone) and not warnings(alone)


def test_weights_are_refused_unless_they_are_ignored():
    rng = np.random.default_rng(5)
    mass = masses(5000, rng)
    events = Events.from_arrays(np.zeros((5000, 1)), mass, ["a"], weight=rng.random(5000), mass_column="m")
    windows = [Window(3300, 3700, *RANGE)]
    with pytest.raises(InputError, match="ignore_weights=True"):
        scan_of([rng.normal(size=5000)], events, windows, pseudo_experiments=10)
    assert scan_of([rng.normal(size=5000)], events, windows, pseudo_experiments=10, ignore_weights=True).windows


# -- models -------------------------------------------------------------------------------------------


def test_scan_trains_a_model_for_every_window_and_finds_the_signal_by_command_and_by_call(tmp_path):
    events = toy(signal=120)
    events.write(tmp_path / "events.h5")
    line = [
        "hunt",
        "cwola",
        "--scan",
        "--data",
        tmp_path / "events.h5",
        "--out",
        tmp_path / "out",
        "--no-xla",
        "--json",
    ]
    line += ["--mass-range", *RANGE, "--percentile", 95, "--toys", 200, "--window-width", 600, "--window-step", 1.0]
    line += [
        word
        for name, value in TREES.items()
        for word in ("--set", f"{name}={','.join(value) if name == 'columns' else value}")
    ]
    done = CliRunner().invoke(zoo.cli.main.main, [str(word) for word in line])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    again = CliRunner().invoke(zoo.cli.main.main, [*map(str, line), "--resume"])
    assert again.exit_code == 0 and json.loads(again.stdout) == said
    found = zoo.hunt("cwola", events, **QUICK)
    summary = json.loads(json.dumps(found.summary()))
    assert {name: said[name] for name in summary} == summary
    assert found.best.window[0] < 3500 < found.best.window[1] and found.best.local_significance > 3
    names = {"global_p_value", "global_significance", "local_significance", "interval", "mass_estimate", "limit", "warnings",
             "signal_estimate", "trials_factor", "truth_used", "windows"}  # fmt: skip
    assert names <= set(said) and not (tmp_path / ".out.search").exists()
    report = (tmp_path / "out/report.html").read_text()
    assert "What was assumed" in report and "What the labels say" in report
    assert json.loads((tmp_path / "out/report.json").read_text())["figures"]["windows.png"]["local_p_value"]
    runs = sorted(path.name for path in (tmp_path / "out/runs").iterdir() if path.is_dir())
    assert runs == [f"window-{k}" for k in range(len(said["windows"]))]
    with h5py.File(tmp_path / "out/scores.h5") as file:
        model = zoo.load(tmp_path / "out/runs/window-1")
        within = events.take((events.mass >= RANGE[0]) & (events.mass < RANGE[1]))
        np.testing.assert_allclose(file["window-1/score"][:], model.score(within), rtol=1e-6)
        assert tuple(file["window-1"].attrs["window"]) == tuple(model.hp.window)


def test_scan_keeps_what_it_converts_beside_its_output(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    table = np.column_stack([rng.normal(size=(500, 2)), 2500 + 2400 * rng.random(500)])
    np.savetxt(tmp_path / "data.csv", table, delimiter=",", header="a,b,mjj", comments="")
    given, said = [], []

    def killed(recipe, data, *words, **options):
        given.append(data)
        raise InputError("killed")

    monkeypatch.setattr(zoo.hunting.window_scan, "scan", killed)
    for _ in range(2):
        with pytest.raises(InputError, match="killed"):
            zoo.hunt(
                "cwola", tmp_path / "data.csv", tmp_path / "out", conversion={"mass": "mjj"}, said=said.append, **QUICK
            )
    assert (tmp_path / "out.events.h5").is_file() and len(given[1]) == 500
    assert [str(tmp_path / "out.events.h5") in text for text in said].count(True) >= 1, said


@pytest.mark.slow
def test_killed_scan_goes_on_by_the_same_command_and_loses_no_window(tmp_path):
    toy(20_000).write(tmp_path / "events.h5")
    words = [
        "hunt",
        "cwola",
        "--scan",
        "--resume",
        "--data",
        tmp_path / "events.h5",
        "--out",
        tmp_path / "out",
        "--json",
    ]
    words += [
        "--no-xla",
        "--mass-range",
        *RANGE,
        "--percentile",
        95,
        "--toys",
        100,
        "--window-width",
        600,
        "--window-step",
        1.0,
    ]
    words += [
        word
        for name, value in TREES.items()
        for word in ("--set", f"{name}={','.join(value) if name == 'columns' else value}")
    ]
    words = [str(word) for word in words]
    with subprocess.Popen(
        [sys.executable, "-m", "zoo", *words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as one:
        first, deadline = tmp_path / ".out.search/window-0.h5", time.monotonic() + 120
        while not first.exists() and time.monotonic() < deadline and one.poll() is None:
            time.sleep(0.05)
        os.kill(one.pid, signal.SIGKILL)
    assert first.exists() and not (tmp_path / "out").exists()
    before = first.read_bytes(), first.stat().st_mtime_ns
    without = [word for word in words if word != "--resume"]
    refused = CliRunner().invoke(zoo.cli.main.main, without)
    assert refused.exit_code == 2 and "add --resume" in refused.stderr
    changed = CliRunner().invoke(zoo.cli.main.main, [*words, "--set", "trees=4"])
    assert changed.exit_code == 2 and "of another model, window or data" in changed.stderr
    assert (first.read_bytes(), first.stat().st_mtime_ns) == before
    done = CliRunner().invoke(zoo.cli.main.main, words)
    assert done.exit_code == 0, done.output
    assert "trained before" in done.stderr and (tmp_path / "out/report.html").exists()


def test_finished_windows_are_never_trained_again(tmp_path, monkeypatch):
    events, options = toy(5000), {**QUICK, "windows": [(3300, 3700), (3500, 4000)]}
    options = {name: value for name, value in options.items() if name not in ("window_width", "window_step")}
    train, trained = zoo.hunting.window_scan.train_window, []

    def dies(recipe, *arguments):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(recipe.hyperparameters["window"])
        train(recipe, *arguments)

    monkeypatch.setattr(zoo.hunting.window_scan, "train_window", dies)
    with pytest.raises(KeyboardInterrupt):
        zoo.hunt("cwola", events, tmp_path / "out", **options)
    kept = (tmp_path / ".out.search/window-0.h5").read_bytes()
    with pytest.raises(InputError, match="add resume=True"):
        zoo.hunt("cwola", events, tmp_path / "out", **options)
    with pytest.raises(InputError, match="of another model, window or data"):
        zoo.hunt("cwola", events, tmp_path / "out", **{**options, "seed": 3}, resume=True)
    assert (tmp_path / ".out.search/window-0.h5").read_bytes() == kept
    monkeypatch.setattr(
        zoo.hunting.window_scan, "train_window", lambda recipe, *rest: trained.append(recipe) or train(recipe, *rest)
    )
    said = []
    found = zoo.hunt("cwola", events, tmp_path / "out", **options, resume=True, said=said.append)
    assert len(trained) == 2 and any("window 1 of 2: 3300 to 3700 GeV, trained before" in text for text in said)
    assert [one.window for one in found.windows] == [(3300, 3700), (3500, 4000)] and (
        tmp_path / "out/report.html"
    ).exists()


@pytest.mark.slow
def test_windows_on_two_workers_are_those_of_one(tmp_path):
    events = toy()
    events.write(tmp_path / "events.h5")
    options = {**QUICK, "window_width": 600}
    one = zoo.hunt("cwola", tmp_path / "events.h5", tmp_path / "one", **options)
    two = zoo.hunt("cwola", tmp_path / "events.h5", tmp_path / "two", **options, workers=2)
    assert one.summary() == two.summary() and len(one.windows) >= 2


def test_a_window_that_was_trained_otherwise_is_refused_before_its_scores_are_written(tmp_path):
    from zoo.hunting.folds import Recipe

    hyperparameters = {**TREES, "window": (3300, 3700)}
    one, other = (Recipe("cwola", None, {**hyperparameters, "trees": trees}) for trees in (5, 6))
    zoo.hunting.window_scan.train_window(one, toy(), tmp_path / "window-0", "a", None, 0, {"jit_compile": False})
    (tmp_path / "window-0.h5").unlink()
    with pytest.raises(InputError, match="of another training"):
        zoo.hunting.window_scan.train_window(other, toy(), tmp_path / "window-0", "b", None, 0, {"jit_compile": False})
    zoo.hunting.window_scan.train_window(one, toy(), tmp_path / "window-0", "a", None, 0, {"jit_compile": False})
    assert zoo.hunting.window_scan.read_scores(tmp_path / "window-0.h5", "a").score.shape == (6000,)


def test_template_is_offered_by_models_that_have_one_and_for_a_window_that_is_given():
    given = {**TREES, "num_flows": 1, "flow_width": 8, "density_epochs": 3}
    options = {**QUICK, "hyperparameters": given, "windows": [(3300, 3700)], "background": "template"}
    options = {name: value for name, value in options.items() if name not in ("window_width", "window_step")}
    found = zoo.hunt("lacathode", toy(), **options)
    (one,) = found.windows
    assert one.expected == pytest.approx(0.05 * one.events, rel=0.2)
    assert abs(one.selected_events - one.expected) < 5 * np.sqrt(one.expected)
    with pytest.raises(InputError, match="background template: cwola has none"):
        zoo.hunt("cwola", toy(), **{**options, "hyperparameters": TREES})


@pytest.mark.parametrize(
    ("run", "given", "words"),
    [
        ("vae", {}, "scan is for models of a window, such as cwola and cathode: vae has none"),
        ("cwola", {"train": True}, "scan trains a model for every window"),
        (
            "cwola",
            {"relative_error": None},
            r"relative_error None \(--no-merge\): is not an option of a scan of windows",
        ),
        ("cwola", {"spectra": ("m_jjj",)}, "spectra: is not an option of a scan of windows"),
        ("cwola", {"workers": 2}, "give out, a new folder"),
        ("cwola", {"scan": False, "window_width": 300}, "window_width is of a scan of windows; add scan=True"),
        ("cwola", {"scan": False, "background": "template", "folds": 2}, "background template is of a scan"),
        ("cwola", {"explain": True}, "explain: of one model, and a scan has one for every window"),
        ("anode", {}, "background spectrum: anode scores the events beside a window by a density"),
        ("cwola", {"score_kind": "kl"}, "score kind 'kl' is not known; cwola has probability"),
    ],
)
def test_what_does_not_go_together_is_refused(run, given, words):
    options = {"scan": True, "jit_compile": False, **given}
    with pytest.raises(InputError, match=words):
        zoo.hunt(run, toy(500), **options)
