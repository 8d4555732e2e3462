"""ARGOS: against its closed form, what it is compared with, that no label is read, and that a search keeps its region."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.optimize import minimize_scalar
from scipy.stats import norm

import tuning
import zoo
from pipelines import Events, InputError, metrics
from tuning.argos import SignalRegion, sensitivity
from tuning.cli import main
from tuning.objectives import Objective
from tuning.results import load_results
from zoo.run import read_config
from zoo.windows import Regions

pytestmark = pytest.mark.usefixtures("linear_without_figures")

WINDOW = (3300, 3700)
SHARE, AWAY = 0.05, 2.0  # of the signal in the window; and its mean score, in standard deviations of the background


def closed_form(cut):
    """ARGOS of a cut on a score N(0, 1) of background and N(AWAY, 1) of a share of signal: f (eps_S - eps_B) / sqrt(eps_B)."""
    return SHARE * (norm.sf(cut - AWAY) - norm.sf(cut)) / np.sqrt(norm.sf(cut))


def largest(lowest_efficiency):
    bounds = (-3, norm.isf(lowest_efficiency))
    return -minimize_scalar(lambda cut: -closed_form(cut), bounds=bounds, method="bounded").fun


def scores(size, signal, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=size) + AWAY * (rng.random(size) < signal)


class Told:
    """A model whose score is the first feature."""

    score_kinds, undirected, asked = ("told",), (), 0

    def score(self, events):
        self.asked += 1
        return events.read("features")[:, 0].astype(float)

    score_others = score

    def results(self, events, names):
        return {"told": self.score(events)}


def sample(size=6000, signal=SHARE, seed=0, **options):
    """Events with one feature, a score; signal in the window alone."""
    rng = np.random.default_rng(seed)
    mass = rng.uniform(2700, 4300, size)
    inside = (mass >= WINDOW[0]) & (mass < WINDOW[1])
    is_signal = inside & (rng.random(size) < signal)
    x = rng.normal(size=size) + AWAY * is_signal
    return Events.from_arrays(x[:, None], mass, ["x"], label=is_signal.astype("int8"), **options)


# -- the number ------------------------------------------------------------------------------------------------


def test_argos_of_two_normal_distributions_is_its_closed_form():
    size, least = 100_000, 1000
    found = metrics.argos(scores(size, 0.0, 1), scores(size, SHARE, 2), least)
    assert found["argos"] == pytest.approx(largest(least / size), abs=3 * found["error"])
    assert found["error"] < 0.1 * found["argos"]


def test_only_cuts_that_enough_background_passes_count():
    template, region = scores(20_000, 0.0, 3), np.r_[scores(20_000, 0.0, 4), [9.0] * 200]
    assert metrics.argos(template, region, least=1)["argos"] > metrics.argos(template, region)["argos"]
    found = metrics.argos(template, region)
    assert found["template_efficiency"] >= metrics.ARGOS_LEAST / len(template)
    with pytest.raises(InputError, match="24 events of background; expected at least 25"):
        metrics.argos(template[:24], region)


def test_the_error_is_the_spread_over_samples():
    """Of a score that has two values, so that there is one cut."""
    rng = np.random.default_rng(0)
    found = [metrics.argos(rng.random(3000) < 0.1, rng.random(1000) < 0.3) for _ in range(300)]
    assert {round(one["template_efficiency"], 1) for one in found} == {0.1}
    spread = np.std([one["argos"] for one in found])
    assert np.mean([one["error"] for one in found]) == pytest.approx(spread, rel=0.15)


def test_a_blind_score_has_the_stated_spread():
    shares = [[(scores(500, 0.0, 3 * k + i) > 1.0).mean() for i in range(2)] for k in range(300)]
    found = [r / np.sqrt(b) - np.sqrt(b) for r, b in shares]
    assert np.std(found) == pytest.approx(np.sqrt((1 - norm.sf(1.0)) * 2 / 500), rel=0.15)


def test_weights_are_shares_and_floors_are_effective_events():
    template, region = scores(500, 0.0, 5), scores(500, 0.3, 6)
    again = metrics.argos(
        np.repeat(template, 2), np.repeat(region, 3), weights=(np.full(1000, 0.5), np.full(1500, 1 / 3)), least=50
    )
    assert again["argos"] == pytest.approx(metrics.argos(template, region, least=25)["argos"])
    heavy = (np.where(template > 1, 2.0, 1.0), np.ones(500))
    assert metrics.argos(template, region, weights=heavy)["argos"] < metrics.argos(template, region)["argos"]


# -- of a model ------------------------------------------------------------------------------------------------


def region(template=None, sidebands=()):
    return SignalRegion(Regions.between(WINDOW, sidebands), template)


def test_the_window_is_compared_with_the_side_bands_or_with_the_template():
    events, template = sample(), sample(3000, 0.0, seed=7).without_labels()
    x, mass = events.read("features")[:, 0].astype(float), events.mass
    inside = (mass >= 3300) & (mass < 3700)
    beside = ~inside & (mass >= 3000) & (mass < 4000)
    assert sensitivity(Told(), events, region(sidebands=(3000, 4000))) == -metrics.argos(x[beside], x[inside])["argos"]
    assert sensitivity(Told(), events, region()) == -metrics.argos(x[~inside], x[inside])["argos"]
    known = template.read("features")[:, 0].astype(float)
    assert sensitivity(Told(), events, region(template)) == -metrics.argos(known, x[inside])["argos"]


def test_the_better_tail_counts_of_a_score_without_direction():
    events = sample(signal=0.3)
    turned = Events.from_arrays(-events.read("features"), events.mass, ["x"])
    both = Told()
    both.undirected = ("told",)
    assert sensitivity(both, turned, region()) == sensitivity(Told(), events, region())
    assert sensitivity(Told(), turned, region()) > 0.5 * sensitivity(Told(), events, region())


def test_weights_of_events_count():
    events = sample(signal=0.3)
    weight = np.where(events.label == 1, 0.0, 1.0).astype("f4")  # all signal has weight 0
    light = Events.from_arrays(events.read("features"), events.mass, ["x"], weight=weight)
    assert abs(sensitivity(Told(), light, region())) < 0.15 < abs(sensitivity(Told(), events, region()))


def test_signal_makes_the_objective_smaller_and_labels_are_never_read(monkeypatch):
    read, blocks = set(), Events.blocks
    monkeypatch.setattr(Events, "blocks", lambda self, *fields, **o: read.update(fields) or blocks(self, *fields, **o))
    template = SignalRegion.of(Told(), WINDOW, (), sample(3000, 0.5, seed=8)).template
    objective = Objective.parse("argos", region(template))
    with_signal, without = (objective(Told(), sample(signal=share), {})["objective"] for share in (0.3, 0.0))
    assert read and "label" not in read and not template.has_labels and not objective.uses_truth
    assert with_signal < without <= 0
    swapped = sample()
    swapped = Events.from_arrays(swapped.read("features"), swapped.mass, ["x"], label=1 - swapped.label)
    assert objective(Told(), swapped, {}) == objective(Told(), sample(), {})


def test_argos_is_a_term_of_sums_and_fronts():
    assert Objective.parse("reconstruction+10*argos").weights == {"reconstruction": 1.0, "-argos": 10.0}
    both = Objective.parse("pareto:reconstruction,argos")
    assert both.needs_region and list(both.weights) == ["reconstruction", "-argos"]
    assert not Objective.parse("sculpting").needs_region


# -- in a search -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged(train_events):
    return train_events.take(np.arange(600))


@pytest.fixture(scope="module")
def judges(train_events):
    return train_events.take(np.arange(600, 1500))


@pytest.fixture(scope="module")
def template(train_events, tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "background.h5"
    train_events.take(np.arange(700, 1500)).write(path)
    return Events.from_file(path)


def search(events, judges, out, **options):
    given = {"trials": 3, "max_epochs": 2, "factor": 2, "window": WINDOW, "objective": "argos", **options}
    return tuning.search("linear", events, validation=judges, out=out, jit_compile=False, **given)


@pytest.fixture(scope="module")
def found(judged, judges, template, tmp_path_factory):
    return search(judged, judges, tmp_path_factory.mktemp("found") / "out", template=template)


def test_a_search_by_argos_finds_what_its_best_run_measures(found, judges, template):
    assert found.complete and not found.truth_used and found.best["metrics"]["-argos"] == found.best["objective"] <= 0
    model = zoo.load(found.out / "best")
    model.score_others = model.score
    again = sensitivity(model, judges.without_labels(), SignalRegion.of(model, WINDOW, (), template))
    assert again == pytest.approx(found.best["objective"], abs=1e-6)


def test_the_region_is_part_of_the_search_and_of_its_best_run(found, template):
    asked = load_results(found.out).asked
    assert asked["window"] == list(WINDOW) and asked["sidebands"] is None
    assert asked["template"]["source"] == template.name and len(asked["template"]["sha256"]) == 64
    assert read_config(found.out / "best")["tuning"]["template"] == asked["template"]


def test_a_search_goes_on_with_its_region_wherever_the_template_lies_and_with_no_other(
    found, judged, judges, template, tmp_path
):
    template.write(tmp_path / "moved.h5")
    moved = Events.from_file(tmp_path / "moved.h5")
    assert search(judged, judges, found.out, resume=True, template=moved).trials == found.trials
    for other in (
        {"template": template.take(np.arange(700))},
        {"template": None},
        {"template": template, "window": (3200, 3700)},
    ):
        with pytest.raises(InputError, match=r"begun with (window|sidebands|template)="):
            search(judged, judges, found.out, resume=True, **other)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"window": ()}, "argos needs a signal region; give one in GeV, as window=.3300, 3700."),
        ({"window": (3700, 3300)}, "expected .low, high. in GeV"),
        ({"window": (9000, 9100)}, "outside of its masses"),
        ({"sidebands": (3400, 3900)}, "expected outer edges on both sides"),
        ({"objective": "reconstruction"}, "window is of the objective argos"),
        ({"objective": "reconstruction", "window": (), "template": True}, "template is of the objective argos"),
        ({"sidebands": (3000, 4000), "template": True}, "choose one of the two"),
        ({"template": True, "window": (4900, 5000)}, "events of background in the window 4900 to 5000"),
    ],
)
def test_regions_that_are_not_possible_are_refused_before_anything_is_written(
    options, message, judged, judges, template, tmp_path
):
    options = {**options, **({"template": template} if options.get("template") else {})}
    with pytest.raises(InputError, match=message):
        search(judged, judges, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_model_with_a_window_is_judged_in_its_own_and_given_the_one_of_the_search():
    model = zoo.get("cwola", window=WINDOW, sidebands=(3000, 4000))
    assert SignalRegion.of(model, (), (), None).regions == Regions(3300.0, 3700.0, 3000.0, 4000.0)
    assert SignalRegion.of(model, (3200, 3600), (), None).regions.low == 3200
    assert tuning.argos.windowed("cwola", {}, WINDOW, ()) == {"window": WINDOW}
    assert tuning.argos.windowed("cwola", {"window": (3000, 3100)}, WINDOW, ()) == {"window": (3000, 3100)}
    assert tuning.argos.windowed("vae", {"seed": 1}, WINDOW, (3000, 4000)) == {"seed": 1}


def test_the_command_is_the_call(judged, judges, template, found, tmp_path):
    judged.write(tmp_path / "data.h5")
    judges.write(tmp_path / "judges.h5")
    line = (
        f"--model linear --trials 3 --max-epochs 2 --factor 2 --objective argos --window 3300 3700 --no-xla --json "
        f"--template {template.name} --data {tmp_path / 'data.h5'} --validation {tmp_path / 'judges.h5'} --out {tmp_path / 'o'}"
    )
    done = CliRunner().invoke(main, line.split())
    assert done.exit_code == 0, done.stderr
    trials = json.loads(done.stdout)["trials"]
    assert [t["metrics"] for t in trials] == [t["metrics"] for t in found.trials]
    shown = CliRunner().invoke(main, ["results", str(tmp_path / "o")]).stdout
    assert "no labels used" in shown and "argos: 3300 to 3700 GeV against" in shown and template.name in shown
