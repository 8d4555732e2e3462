"""The search: its budget, its resumption, what fails in it and what it compiles, on a model that is quick to trace."""

import contextlib
import errno
import json
import os
import random
import re
import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from linear_model import Linear

import pipelines
import tuning
import zoo
from pipelines import Events, InputError, outputs, plots, provenance
from pipelines.events import batches
from tuning import algorithms, engine, figures, objectives, programs, session
from tuning import trial as worker
from tuning.engine import Engine
from tuning.hyperband import plan
from tuning.kerastuner import keras_tuner
from zoo import registry, run
from zoo.cli.main import main as zoo_command


@pytest.fixture(scope="module", autouse=True)
def linear():
    zoo.names()  # so that what is discovered stays after these tests
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(registry, "_models", dict(registry._models))
        patched.setattr(
            plots, "plot_history", lambda rows, path: path.touch()
        )  # a third of the time of a search this small
        yield registry.register("linear")(Linear)


@pytest.fixture(scope="module")
def events(train_events):
    return train_events.sample(600)


@pytest.fixture
def alone(monkeypatch):
    """Nothing that was compiled for other tests is used, and nothing is kept, as in a process of its own."""
    monkeypatch.setattr(worker.TrialRunner, "__init__", begin)
    monkeypatch.setattr(session, "forget_programs", worker.forget_programs)


begin = worker.TrialRunner.__init__


@pytest.fixture(scope="module", autouse=True)
def shared_programs():
    """Let searches of these tests share what they compile: what they share is started over for every trial anyway."""
    first = {}

    def begin_with_what_is_there(runner, job):
        begin(runner, job)
        data = (provenance.checksum(events) for events in (job.training, job.validation))
        there = first.setdefault((job.model, job.xla, json.dumps(job.larger), *data), runner)
        for name in ("training", "validation", "watched", "programs"):  # which know each other
            setattr(runner, name, getattr(there, name))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(worker.TrialRunner, "__init__", begin_with_what_is_there)
        patched.setattr(session, "forget_programs", lambda: None)
        yield


@pytest.fixture(scope="module")
def search(events, tmp_path_factory):
    """Search one architecture with few epochs and no XLA, by default in a new folder."""

    def run(model="linear", events=events, **options):
        out = options.pop("out", None) or tmp_path_factory.mktemp("search") / "out"
        options = {"trials": 4, "max_epochs": 4, "factor": 2, "fixed": {"units": 2}, **options}
        return tuning.search(model, events, out=out, jit_compile=False, **options)

    return run


@pytest.fixture(scope="module")
def unbroken(search):
    """The results of five trials that nothing interrupts."""
    return search(trials=5)


def judged(trials):
    """What trials found, without the time they took."""
    return [{k: v for k, v in trial.items() if not k.endswith("seconds")} for trial in trials]


def records(out):
    paths = (path for path in (out / "trials").glob("*.json") if path.stem.isdigit())
    return {path.name: path.read_bytes() for path in sorted(paths)}


class Ear(session.SearchListener):
    """Keeps what it is told."""

    def __init__(self):
        self.heard = []

    def told(self, text):
        self.heard.append(text)


class StopAfter(session.SearchListener):
    """Ctrl-C at the end of the n-th epoch of a search."""

    def __init__(self, epochs):
        self.left = epochs

    def epoch(self, trial, epoch, worker, logs):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


# -- the budget ------------------------------------------------------------------------------------


@pytest.mark.parametrize("trials", [1, 4, 7])
def test_exactly_as_many_trials_run_as_asked(trials, search):
    results = search(trials=trials)
    assert len(results.trials) == len(records(results.out)) == trials
    assert not results.exhausted
    laid_out = sorted(r.epochs for bracket in plan(trials, 4, 2) for r in bracket.rounds for _ in range(r.size))
    assert sorted(trial["epochs"] for trial in results.trials) == laid_out


@pytest.mark.slow
def test_two_hundred_trials_run(search):
    results = search(trials=200, max_epochs=9, factor=3)
    assert len(results.trials) == len(records(results.out)) == 200
    assert {trial["status"] for trial in results.trials} == {"COMPLETED"}
    assert max(trial["epochs"] for trial in results.trials) == 9


def test_a_small_space_is_exhausted_and_says_so(search, linear, monkeypatch):
    monkeypatch.setattr(linear, "search_space", lambda hp: {"units": hp.Choice("units", [1, 2])})
    results = search(trials=9, max_epochs=1, fixed=None)
    assert results.exhausted and len(results.trials) == 2


@pytest.mark.parametrize("wrong", [{"trials": 0}, {"trials": -3}, {"max_epochs": 0}, {"factor": 1}])
def test_impossible_budgets_are_refused_by_name_and_nothing_is_written(wrong, search, tmp_path):
    with pytest.raises(InputError, match=next(iter(wrong))):
        search(**wrong)
    assert not list(tmp_path.iterdir())


ONE_ROUND = {"max_epochs": 1, "objective": "val_loss"}


@pytest.mark.parametrize(
    "algorithm, trials",
    [
        ("random", 4),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in (("grid", 10), ("bayesian", 12))),
    ],  # the grid has no more
)
def test_every_algorithm_runs_exactly_as_many_trials_and_goes_on_after_an_interruption(
    algorithm, trials, search, tmp_path
):
    asked = {"algorithm": algorithm, "trials": trials, **ONE_ROUND}
    results = search(**asked)
    assert len(results.trials) == trials and {trial["epochs"] for trial in results.trials} == {1}
    assert len({trial["hyperparameters"]["learning_rate"] for trial in results.trials}) == trials
    with pytest.raises(KeyboardInterrupt):
        search(**asked, out=tmp_path / "broken", listener=StopAfter(3))
    assert judged(search(**asked, out=tmp_path / "broken", resume=True).trials) == judged(results.trials)


def test_grid_is_every_combination_once(search, linear, monkeypatch):
    space = lambda hp: {"units": hp.Choice("units", [1, 2]), "cycles": hp.Choice("cycles", [3, 4])}  # noqa: E731
    monkeypatch.setattr(linear, "search_space", space)
    results = search(algorithm="grid", trials=9, fixed=None, **ONE_ROUND)
    tried = sorted((t["hyperparameters"]["units"], t["hyperparameters"]["cycles"]) for t in results.trials)
    assert tried == [(1, 3), (1, 4), (2, 3), (2, 4)] and results.exhausted and results.complete


@pytest.mark.slow
def test_proposals_of_the_gaussian_process_go_where_results_are_good():
    space = keras_tuner.HyperParameters()
    space.Float("x", 0.0, 1.0)
    oracle = algorithms.make("bayesian", space, 16, 1, 3, seed=0)
    while trials := list(algorithms.start_trials(oracle)):
        for trial in reversed(trials):
            algorithms.end_trial(oracle, trial, (trial.hyperparameters["x"] - 0.3) ** 2, 1)
    tried = [trial.hyperparameters["x"] for trial in oracle.trials.values()]
    first, later = (np.median(np.abs(np.array(each) - 0.3)) for each in (tried[:8], tried[8:]))
    assert len(tried) == 16 and later < 0.1 < first


@pytest.mark.parametrize("algorithm", ["hyperband", "random", "grid", pytest.param("bayesian", marks=pytest.mark.slow)])
def test_what_is_tried_does_not_depend_on_what_came_first(algorithm):
    def tried(order):
        space = keras_tuner.HyperParameters()
        space.Float("x", 0.0, 1.0)
        space.Choice("k", [1, 2, 3])
        oracle, chance, found, under_way = (
            algorithms.make(algorithm, space, count, 9, 3, seed=1),
            random.Random(order),
            [],
            [],
        )
        while new := list(algorithms.start_trials(oracle)) + under_way:
            under_way = new
            trial = under_way.pop(chance.randrange(len(under_way)) if order else 0)
            values = {k: v for k, v in trial.hyperparameters.values.items() if k != "tuner/trial_id"}
            score = values["x"] * values["k"] if values["x"] > 0.2 else None  # and some fail
            algorithms.end_trial(oracle, trial, score, values.get("tuner/epochs", 9))
            found.append(json.dumps(values, sort_keys=True))
        return sorted(found)

    count = 16 if algorithm == "bayesian" else 30  # KerasTuner takes a second for a proposal
    one = tried(0)
    assert one == tried(1) and len(one) == count


def test_an_algorithm_that_is_not_known_is_refused(search, tmp_path):
    with pytest.raises(InputError, match="expected one of hyperband, random, bayesian, grid"):
        search(algorithm="annealing", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


real_time, real_monotonic = time.time, time.monotonic


class Clock:
    """Time that passes by an hour at the end of the n-th epoch."""

    def __init__(self, epochs):
        self.left, self.hours = epochs, 0

    def monotonic(self):
        return 3600.0 * self.hours + real_monotonic()

    def time(self):
        return 3600.0 * self.hours + real_time()

    def tick(self, *_):
        self.left -= 1
        self.hours += self.left == 0


@pytest.mark.parametrize("damaged", [False, True])
def test_a_time_limit_keeps_what_is_under_way_and_the_search_goes_on(damaged, search, unbroken, tmp_path, monkeypatch):
    clock = Clock(7)  # in the middle of a trial
    listener = session.SearchListener()
    listener.epoch = clock.tick
    with monkeypatch.context() as patched:
        patched.setattr(time, "monotonic", clock.monotonic)
        patched.setattr(time, "time", clock.time)
        results = search(trials=5, out=tmp_path / "slow", time_limit=1800, listener=listener)
    assert 0 < len(results.trials) < 5 and not results.complete and results.best
    (partial,) = (tmp_path / "slow" / "trials").glob("*.partial.json")
    finished = records(tmp_path / "slow")
    if damaged:
        partial.write_text(partial.read_text()[:60])
    told = Ear()
    results = search(trials=5, out=tmp_path / "slow", resume=True, listener=told)
    assert [f"{partial}: damaged; set aside" in text for text in told.heard] == [True] * damaged
    assert partial.with_name(f"{partial.name}.damaged").is_file() == damaged
    assert judged(results.trials) == judged(unbroken.trials) and results.complete
    assert {name: records(results.out)[name] for name in finished} == finished
    kept = json.loads((results.out / "best" / "config.json").read_text())["tuning"]
    assert kept["trial"] == results.best["trial"]


@pytest.mark.parametrize("limit", [0, -5, float("inf"), float("nan")])
def test_time_limits_that_are_none_are_refused(limit, search, tmp_path):
    with pytest.raises(InputError, match="expected seconds > 0"):
        search(time_limit=limit, out=tmp_path / "out")


def test_the_plan_is_told_before_anything_begins(search):
    told = Ear()
    told.planned = lambda plan: told.heard.append(
        (plan.trials, plan.epochs, plan.workers, [str(b) for b in plan.brackets])
    )
    told.begun = lambda name, epochs, *_: told.heard.append((name, epochs))
    search(trials=2, max_epochs=1, listener=told)
    assert told.heard[0] == (2, 2, 1, ["bracket 0: 2 to epoch 1"])
    assert told.heard[1:] == [("0000", range(1)), ("0001", range(1))]


# -- what is found -----------------------------------------------------------------------------------


def test_the_same_seed_finds_the_same_and_another_seed_tries_others(search):
    first, again, other = (search(trials=2, max_epochs=1, seed=seed, fixed=None) for seed in (0, 0, 1))
    assert judged(first.trials) == judged(again.trials)
    tried = [{trial["hyperparameters"]["learning_rate"] for trial in each.trials} for each in (first, other)]
    assert not tried[0] & tried[1]


def test_trials_are_listed_best_first_and_best_is_the_first(unbroken):
    results = unbroken
    found = [trial["objective"] for trial in results.trials]
    assert found == sorted(found) and results.best == results.trials[0]
    assert session.load_results(results.out).to_json() == results.to_json()
    grown = {"budgets": [5], "names": {"in_order": 0, "width": 4}}  # by which more trials may follow
    assert json.loads((results.out / "results.json").read_text()) == {**results.to_json(), **grown}


GAN_AE = {"ae_units": 16, "d_units": (16, 8), "latent_dim": 4, "scaling": "minmax", "d_epochs": 2, "ae_epochs": 1}


@pytest.mark.parametrize(
    "model, fixed",
    [("linear", {"units": 2}), pytest.param("gan_ae", {**GAN_AE, "batch_size": 128}, marks=pytest.mark.slow)],
)
def test_a_promoted_trial_is_what_training_straight_to_its_epoch_gives(model, fixed, search, events):
    results = search(model, trials=3, max_epochs=2, fixed=fixed)
    (promoted,) = [trial for trial in results.trials if trial["initial_epoch"]]
    assert (promoted["initial_epoch"], promoted["epochs"]) == (1, 2)
    before = next(trial for trial in results.trials if trial["trial"] == promoted["promoted_from"])
    assert before["hyperparameters"] == promoted["hyperparameters"] and before["epochs"] == 1
    training, validation = events.split(1.0 - session.VALIDATION_SHARE, 0)
    straight = zoo.get(model, **promoted["hyperparameters"])
    history = straight.fit(training, validation, epochs=2, verbose=0, jit_compile=False)
    found = session.Objective.parse(results.objective)(straight, validation, history.history)
    # of gan_ae float32 rounds otherwise in the program of a search: 1e-8 of the reconstruction was seen
    assert found == (promoted["metrics"] if model == "linear" else pytest.approx(promoted["metrics"], rel=1e-7))


def test_labels_are_never_read(search, events, monkeypatch):
    read = set()
    blocks = Events.blocks
    monkeypatch.setattr(Events, "blocks", lambda self, *fields, **o: read.update(fields) or blocks(self, *fields, **o))
    assert events.has_labels
    search(events=events, trials=2, max_epochs=2)
    assert "features" in read and "label" not in read


def test_fixed_hyperparameters_are_not_searched(search):
    fixed = {"units": 2, "batch_size": 100, "columns": ("pt_1", "pt_2", "mass_1")}
    results = search(fixed=fixed, trials=2, max_epochs=1)
    for trial in results.trials:
        assert {k: trial["hyperparameters"][k] for k in fixed} == {**fixed, "columns": ["pt_1", "pt_2", "mass_1"]}
    assert len({trial["hyperparameters"]["learning_rate"] for trial in results.trials}) > 1


def test_a_preset_gives_what_is_not_searched(search, linear, monkeypatch):
    monkeypatch.setattr(linear, "presets", {"coarse": {"batch_size": 300, "units": 6}})
    results = search(preset="coarse", fixed={"units": 3}, trials=1)
    assert {(t["hyperparameters"]["batch_size"], t["hyperparameters"]["units"]) for t in results.trials} == {(300, 3)}


def test_the_best_is_a_run_that_every_command_takes(unbroken, tmp_path):
    best = str(unbroken.out / "best")
    for arguments in (
        ["score", best, "--data", "lhco_sim_test", "--out", str(tmp_path / "scores.h5")],
        ["evaluate", best, "--data", "lhco_sim_test", "--json"],
        ["export", best, "--out", str(tmp_path / "served")],
    ):
        done = CliRunner().invoke(zoo_command, arguments)
        assert done.exit_code == 0, done.stderr
    with h5py.File(tmp_path / "scores.h5") as file:
        served = tf.saved_model.load(tmp_path / "served").signatures["serving_default"]
        x = pipelines.open("lhco_sim_test").read("features", zoo.load(best).resolved_columns)
        np.testing.assert_allclose(served(features=tf.constant(x))["score"], file["score"][:], rtol=1e-5)


# -- what goes wrong ------------------------------------------------------------------------------------


@pytest.fixture
def objective_of(monkeypatch):
    """Replace the term `reconstruction` by a function of how often it was called, in this process."""

    def replace(value):
        calls = []
        term = lambda model, validation, history: value(len(calls), calls.append(0))  # noqa: E731
        monkeypatch.setitem(objectives.TERMS, "reconstruction", term)

    return replace


def fail(error):
    raise error


def test_failed_trials_are_recorded_with_their_reason_and_the_others_go_on(search, objective_of):
    reasons = {
        0: ValueError("the first line\nand a second"),
        2: MemoryError(),
        3: tf.errors.ResourceExhaustedError(None, None, "out of memory"),
        4: ZeroDivisionError("division by zero"),
    }
    objective_of(lambda call, _: fail(reasons[call]) if call in reasons else np.nan if call == 1 else 1.0 + call)
    results = search(trials=9, max_epochs=2, objective="reconstruction")
    failed = {t["trial"]: t["message"] for t in results.trials if t["status"] == "FAILED"}
    reasons = sorted(failed.values())
    assert "ValueError: the first line" in reasons and "MemoryError: no message" in reasons
    assert "ResourceExhaustedError: out of memory" in reasons and "ZeroDivisionError: division by zero" in reasons
    assert any(reason.startswith("the objective is not a number") for reason in reasons)
    assert len(failed) == 5 and len(results.trials) == len(records(results.out)) == 9
    assert not {t["promoted_from"] for t in results.trials} & set(failed)
    assert results.best["status"] == "COMPLETED" and results.best["objective"] == 6.0
    assert all(trial["objective"] is None for trial in results.trials if trial["trial"] in failed)


def test_a_training_that_diverges_is_a_failed_trial(search):
    with pytest.raises(InputError, match="the first: the training has diverged: the loss in epoch 1 is not a number"):
        search(trials=1, fixed={"learning_rate": 1e30, "units": 2}, objective="val_loss")


def test_all_trials_failing_gives_the_first_reason_and_keeps_the_records(search, objective_of, tmp_path):
    objective_of(lambda call, _: fail(ValueError(f"reason {call}")))
    with pytest.raises(InputError, match="all 3 trials failed; the first: ValueError: reason 0"):
        search(trials=3, out=tmp_path / "failed", objective="reconstruction")
    assert len(records(tmp_path / "failed")) == 3 and not (tmp_path / "failed" / "best").exists()


def test_a_full_disk_ends_the_search_and_is_no_failed_trial(search, monkeypatch, tmp_path):
    def fill_up(model, path):
        raise outputs._refusal(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    with monkeypatch.context() as patched:
        patched.setattr(worker.run, "save_state", fill_up)
        with pytest.raises(InputError, match=r"h5: cannot be written \(No space left on device\); free some space"):
            search(out=tmp_path / "full", trials=1)
    assert not records(tmp_path / "full")
    assert search(out=tmp_path / "full", trials=1, resume=True).best["status"] == "COMPLETED"


@pytest.mark.parametrize("lock", [None, "another"])
def test_a_search_whose_folder_is_not_its_own_any_more_ends_and_can_go_on(lock, search, tmp_path):
    path, listener = tmp_path / "out" / "lock", session.SearchListener()
    listener.epoch = lambda *_: path.write_text(lock) if lock else path.unlink(missing_ok=True)
    with pytest.raises(InputError, match="lock: removed, or taken by another process; resume=True goes on"):
        search(out=tmp_path / "out", trials=1, listener=listener)
    assert not records(tmp_path / "out")
    assert search(out=tmp_path / "out", trials=1, resume=True).complete


@pytest.mark.parametrize(
    "text",
    ["", "auc", "reconstruction+", "2**sculpting", "-1*sculpting", "0*sculpting", "sculpting*10", "reconstruction-1"],
)
def test_objectives_that_cannot_be_read_are_refused_with_what_could(text):
    with pytest.raises(InputError, match="expected a sum of reconstruction, sculpting, val_loss"):
        objectives.Objective.parse(text)


class Told:
    """A model that scores and reconstructs what it is told to."""

    score_kinds, undirected = ("told",), ()

    def __init__(self, columns, score, reconstruction):
        self.resolved_columns, self._score, self._reconstruction = columns, score, reconstruction

    def score(self, events):
        return self._score

    def results(self, events, names):
        return {"reconstructed": self._reconstruction}


def test_sculpting_of_a_score_without_direction_is_that_of_its_worse_tail(train_events):
    told = Told(train_events.columns, train_events.mass.astype(float), None)
    upper = objectives.mass_sculpting(told, train_events, {})
    lower = objectives.mass_sculpting(Told(train_events.columns, -told._score, None), train_events, {})
    told.undirected = ("told",)
    assert upper != lower and objectives.mass_sculpting(told, train_events, {}) == max(upper, lower)


def test_a_score_blind_to_the_mass_has_no_sculpting(train_events):
    rng = np.random.default_rng(0)
    found = [
        objectives.mass_sculpting(Told((), rng.random(len(train_events)), None), train_events, {}) for _ in range(20)
    ]
    assert np.mean(found) < 0.03
    assert objectives.mass_sculpting(Told((), train_events.mass, None), train_events, {}) > 0.3


def test_reconstruction_is_measured_in_spreads_of_the_columns_that_vary():
    x = np.random.default_rng(1).normal(size=(5000, 3)) * [1, 100, 0] + [0, 5000, 0.1]
    events = Events.from_arrays(x, np.full(5000, 3e3), ["a", "b", "constant"])
    mean = np.broadcast_to(x.mean(0) + [0, 0, 0.003], x.shape)
    # of a two-dimensional Gaussian, the mean of the length over the root of 2: sqrt(pi) / 2
    found = objectives.reconstruction(Told(events.columns, None, mean), events, {})
    assert abs(found - np.sqrt(np.pi) / 2) < 0.02
    assert objectives.reconstruction(Told(events.columns, None, x), events, {}) < 1e-4
    members = Told(events.columns, None, np.stack([mean, x]))
    assert abs(objectives.reconstruction(members, events, {}) - found / 2) < 1e-4


def test_the_best_of_a_search_of_groups_keeps_every_members_history(search, tmp_path):
    results = search(trials=5, max_epochs=2, objective="val_loss", fixed={"members": 2, "units": 3}, out=tmp_path / "m")
    members = (tmp_path / "m" / "best" / "members.csv").read_text().splitlines()
    rows = (tmp_path / "m" / "best" / "history.csv").read_text().splitlines()
    assert len(members) - 1 == 2 * (len(rows) - 1)
    assert zoo.load(tmp_path / "m" / "best").members == 2 and results.best["status"] == "COMPLETED"


def test_an_objective_is_the_weighted_sum_of_its_terms():
    assert objectives.Objective.parse("reconstruction + 2.5*sculpting + .5*sculpting").weights == {
        "reconstruction": 1.0,
        "sculpting": 3.0,
    }


def test_the_reconstruction_term_counts_in_standard_deviations(train_events):
    model = zoo.get("linear")
    model.adapt(train_events)
    model.kernel.assign(tf.zeros_like(model.kernel))  # x' is then the mean of everything
    expected = np.mean(np.sqrt(np.mean(_standardised(train_events, model.resolved_columns) ** 2, axis=1)))
    assert objectives.reconstruction(model, train_events, {}) == pytest.approx(expected, rel=1e-4)


def _standardised(events, columns):
    x = events.read("features", columns).astype(float)
    return (x - x.mean(0)) / x.std(0)


# -- interruption -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_an_interrupted_search_resumes_to_what_an_unbroken_one_finds(epochs, search, unbroken, tmp_path, request):
    if epochs == 2:
        request.getfixturevalue("alone")
    with pytest.raises(KeyboardInterrupt):
        search(trials=5, out=tmp_path / "broken", listener=StopAfter(epochs))
    finished = records(tmp_path / "broken")
    results = search(trials=5, out=tmp_path / "broken", resume=True)
    assert {name: records(results.out)[name] for name in finished} == finished
    assert len(records(results.out)) == 5 and judged(results.trials) == judged(unbroken.trials)


def test_a_search_can_be_interrupted_again_and_again(search, tmp_path):
    for epochs, resume in ((1, False), (2, True)):
        with pytest.raises(KeyboardInterrupt):
            search(trials=5, out=tmp_path / "broken", listener=StopAfter(epochs), resume=resume)
    results = search(trials=5, out=tmp_path / "broken", resume=True)
    assert len(results.trials) == 5
    again = search(trials=5, out=tmp_path / "broken", resume=True)
    assert again.trials == results.trials  # finished: nothing is run


def test_a_kill_after_a_record_was_written_does_not_run_that_trial_again(search, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Engine, "_end", lambda self, record: fail(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            search(out=tmp_path / "broken")
    finished = records(tmp_path / "broken")
    assert len(finished) == 1
    results = search(out=tmp_path / "broken", resume=True)
    assert len(results.trials) == 4 and records(results.out)["0000.json"] == finished["0000.json"]


@pytest.mark.parametrize(
    "other",
    [{"trials": 4}, {"max_epochs": 5}, {"seed": 1}, {"objective": "reconstruction"}, {"fixed": {"units": 3}}],
    ids=lambda other: next(iter(other)),
)
def test_a_search_does_not_resume_as_another(other, search, unbroken):
    kept = records(unbroken.out)
    with pytest.raises(InputError, match=f"begun with ({next(iter(other))}=|5 trials, cannot go on with 4)"):
        search(**{"trials": 5, **other}, out=unbroken.out, resume=True)
    assert records(unbroken.out) == kept


def test_a_search_does_not_resume_on_other_events_but_on_the_same_elsewhere(search, events, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        search(trials=1, out=tmp_path / "broken", listener=StopAfter(1))
    with pytest.raises(InputError, match="begun with data="):
        search(trials=1, events=events.sample(500), out=tmp_path / "broken", resume=True)
    events.write(tmp_path / "moved.h5")
    results = search(trials=1, events=Events.from_file(tmp_path / "moved.h5"), out=tmp_path / "broken", resume=True)
    assert len(results.trials) == 1


def test_to_resume_where_nothing_is_there_is_to_begin_and_nothing_is_overwritten(search, unbroken, tmp_path):
    results = search(trials=5, out=tmp_path / "none", resume=True)
    assert judged(results.trials) == judged(unbroken.trials)
    (tmp_path / "there").mkdir()
    for resume in (False, True):
        with pytest.raises(InputError, match="exists already"):
            search(out=tmp_path / "there", resume=resume)
    assert not list((tmp_path / "there").iterdir())


@pytest.mark.parametrize("part", ["history.csv", "metrics.json", "model/state.h5"])
def test_a_best_run_of_which_a_part_is_missing_is_made_again(part, search, unbroken, tmp_path):
    shutil.copytree(unbroken.out, tmp_path / "broken")
    path = tmp_path / "broken" / "best" / part
    content, told = path.read_bytes(), Ear()
    path.unlink()
    search(trials=5, out=tmp_path / "broken", resume=True, listener=told)
    assert any(str(path) in text and "the best run is made again" in text for text in told.heard)
    run.check_whole(tmp_path / "broken" / "best")
    assert part == "metrics.json" or path.read_bytes() == content


@pytest.mark.parametrize("size", [0, 1, 60])
@pytest.mark.parametrize(
    "name", ["search.json", "trials/0000.json", "trials/0004.json", "trials/0004.planned.json", "results.json"]
)
def test_a_truncated_file_is_named_set_aside_and_made_anew(name, size, search, unbroken, tmp_path):
    shutil.copytree(unbroken.out, tmp_path / "broken")
    path, told = tmp_path / "broken" / name, Ear()
    path.write_text(path.read_text()[:size])
    results = search(trials=5, out=tmp_path / "broken", resume=True, listener=told)
    assert judged(results.trials) == judged(unbroken.trials)
    assert json.loads(path.read_text())
    assert name == "results.json" or any(str(path) in text and "set aside" in text for text in told.heard)
    assert name == "results.json" or Path(f"{path}.damaged").exists()


def test_weights_that_cannot_be_read_are_trained_again(search, unbroken, tmp_path):
    shutil.copytree(unbroken.out, tmp_path / "broken")
    trials = tmp_path / "broken" / "trials"
    last = next(t for t in unbroken.trials if t["promoted_from"])
    (trials / f"{last['promoted_from']}.h5").write_bytes(b"nothing")
    (trials / f"{last['trial']}.json").unlink()
    results = search(trials=5, out=tmp_path / "broken", resume=True)
    again = next(t for t in results.trials if t["trial"] == last["trial"])
    assert again["metrics"] == last["metrics"]


def test_damaged_weights_of_the_best_trial_are_named_and_trained_again(search, unbroken, tmp_path):
    shutil.copytree(unbroken.out, tmp_path / "broken")
    shutil.rmtree(tmp_path / "broken" / "best")
    name = unbroken.best["trial"]
    path = tmp_path / "broken" / "trials" / f"{name}.h5"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=rf"{name}.h5: .* {name}.json.damaged: resume=True trains it again"):
        search(trials=5, out=tmp_path / "broken", resume=True)
    results = search(trials=5, out=tmp_path / "broken", resume=True)
    assert judged(results.trials) == judged(unbroken.trials) and zoo.load(results.out / "best")


@pytest.mark.parametrize("text", ['{"exhausted": tr', "[]", ""])
def test_a_damaged_table_hides_no_trials(text, unbroken, tmp_path, caplog):
    shutil.copytree(unbroken.out, tmp_path / "broken")
    (tmp_path / "broken" / "results.json").write_text(text)
    results = session.load_results(tmp_path / "broken")
    assert re.search("results.json: .*damaged", caplog.text)
    assert results.trials == session.load_results(unbroken.out).trials and not results.exhausted


def test_a_search_by_the_truth_does_not_go_on_with_another_truth(events, tmp_path):
    def described(objective, **truth):
        arrays = {name: events.read(name) for name in ("features", "mass")}
        labelled = Events.from_arrays(**arrays, columns=events.columns, **truth)
        asked = session._Asked("linear", None, {"units": 2}, "random", 1, 1, 2, 0, objective, 0)
        return session._Session(asked, None, labelled, tmp_path, False, {}, session.SearchListener()).description[
            "data"
        ]

    label = np.arange(len(events)) % 2
    assert described("auc:1", label=label) == described("auc:1", label=label)
    assert described("auc:1", label=label) != described("auc:1", label=1 - label)
    assert described("reconstruction", label=label) == described("reconstruction")


def test_places_without_a_pair_of_figures_of_merit_stay_empty(monkeypatch, tmp_path):
    from matplotlib.figure import Figure

    terms, figure = ["reconstruction", "sculpting", "val_loss", "stability", "1-auc:1"], Figure()
    metrics = np.random.default_rng(0).random((12, 5))
    trials = [
        {"trial": str(i), "status": "COMPLETED", "metrics": dict(zip(terms, row))} for i, row in enumerate(metrics)
    ]
    found = session.Results(trials, "pareto:reconstruction,sculpting,val_loss,stability,auc:1", tmp_path)
    monkeypatch.setattr(figures, "page", lambda *_: contextlib.nullcontext(figure))
    figures.draw_pareto(found, tmp_path / "pareto.png")
    assert [axis.axison for axis in figure.axes] == [True] * 10 + [False] * 2


# -- what is built and compiled ------------------------------------------------------------------------------


@pytest.fixture
def counted(linear, monkeypatch, alone):
    """How often a model was built, and its training step traced."""
    counts = {"built": 0, "traced": 0}

    def count(name, method):
        def counting(self, *arguments):
            counts[name] += 1
            return method(self, *arguments)

        return counting

    monkeypatch.setattr(linear, "make", count("built", linear.make))
    monkeypatch.setattr(linear, "train_step", count("traced", linear.train_step))
    return counts


def test_trials_of_one_architecture_share_one_compiled_program(search, counted):
    search(trials=1)
    once = dict(counted)
    results = search(trials=7)
    assert len({trial["hyperparameters"]["learning_rate"] for trial in results.trials}) > 3
    assert counted == {name: 2 * n for name, n in once.items()}  # no more than the one trial had


def test_events_are_scaled_once_for_all_that_see_them_alike(search, alone, monkeypatch):
    kept = []
    monkeypatch.setattr(
        batches, "keep", lambda events, *a, keep=batches.keep, **o: kept.append(len(events)) or keep(events, *a, **o)
    )
    monkeypatch.setattr(session._Session, "_write_best", lambda *of: None)  # which trains it to its end, apart
    results = search(trials=3, max_epochs=1, fixed=None)
    assert len({trial["hyperparameters"]["units"] for trial in results.trials}) > 1
    assert sorted(kept) == [120, 480]


def test_only_so_many_programs_are_kept(events, tmp_path, monkeypatch, alone):
    kept = {}
    monkeypatch.setattr(programs, "resident", lambda: len(kept) * 2**30)
    monkeypatch.setattr(programs, "KEPT_BYTES", 4 * 2**30)
    runner = worker.TrialRunner(worker.Job("", "linear", "reconstruction", False, str(tmp_path), *events.split(0.8)))
    runner.programs.kept = kept
    for units in (1, 2, 3, 4, 1, 5):
        latest = runner.programs.model({"units": units})
    runner.programs.was_traced(latest)
    again = runner.programs.model({"units": 5})
    assert again.trained is latest.trained and latest.fresh and not again.fresh
    assert [json.loads(key)["units"] for key in kept] == [3, 4, 1, 5]  # the one longest unused went


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    precious = tmp_path / "thesis.txt"
    precious.write_text("years of work")
    (tmp_path / "lock").symlink_to(precious)
    with pytest.raises(InputError, match="is a symbolic link, which is not followed"), engine.owned(tmp_path):
        pass
    assert precious.read_text() == "years of work"
