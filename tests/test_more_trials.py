"""A search that was begun with few trials goes on with more: what stays, what is equal to a longer search, what is refused."""

import json
import math
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import tuning
from pipelines import InputError
from pipelines.outputs import as_json, write_json
from tuning import algorithms, engine, session
from tuning.algorithms import end_trial, start_trials
from tuning.cli import main
from tuning.kerastuner import keras_tuner
from tuning.objectives import Objective
from tuning.results import load_results
from zoo.run import read_config

pytestmark = pytest.mark.usefixtures("linear_without_figures")


def told(job, spec, until=None):
    """Do a trial without training: what it finds follows from its learning rate and its epochs."""
    found = abs(math.log10(spec.hyperparameters["learning_rate"]) + 2.0) + 1.0 / spec.epochs
    metrics = dict.fromkeys([*Objective.parse(job.objective).weights, "objective"], found)
    record = {"trial": spec.trial, "status": "COMPLETED", "objective": found, "metrics": metrics, **spec.record}
    record = as_json({**record, "seconds": 0.1, "message": None})
    write_json(Path(job.out) / "trials" / f"{spec.trial}.json", record)
    return {"record": record, "warm": []}


@pytest.fixture(scope="module")
def events(train_events):
    return train_events.sample(600)


@pytest.fixture(scope="module")
def trained(events, tmp_path_factory):
    """Search with trials that train."""

    def run(**options):
        out = options.pop("out", None) or tmp_path_factory.mktemp("search") / "out"
        options = {"max_epochs": 4, "factor": 2, "fixed": {"units": 2}, **options}
        return tuning.search("linear", events, out=out, jit_compile=False, **options)

    return run


@pytest.fixture(scope="module")
def search(trained):
    """Search with trials that do not."""

    def run(**options):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(engine, "run_trial", told)
            patched.setattr(session._Session, "_write_best", lambda *_: None)
            return trained(**options)

    return run


def found(results):
    """What trials are and found, by name, without the time they took."""
    return {t["trial"]: {k: v for k, v in t.items() if not k.endswith("seconds")} for t in results.trials}


def files(out):
    return {path.name: path.read_bytes() for path in (out / "trials").iterdir()}


# -- searches --------------------------------------------------------------------------------------------------


def test_trials_that_train_are_the_same_in_a_search_that_goes_on(trained):
    few = trained(trials=2, algorithm="random", max_epochs=1)
    before = files(few.out)
    more = trained(trials=4, algorithm="random", max_epochs=1, resume=True, out=few.out)
    assert found(more) == found(trained(trials=4, algorithm="random", max_epochs=1))
    assert before.items() <= files(few.out).items()
    assert read_config(few.out / "best")["tuning"]["trial"] == more.best["trial"]


@pytest.mark.parametrize("algorithm", ["random", "grid"])
def test_three_trials_that_go_on_to_six_are_six_from_the_start(algorithm, search):
    few = search(trials=3, algorithm=algorithm, max_epochs=1)
    before = files(few.out)
    more = search(trials=6, algorithm=algorithm, max_epochs=1, resume=True, out=few.out)
    assert found(more) == found(search(trials=6, algorithm=algorithm, max_epochs=1))
    assert before.items() <= files(few.out).items() and more.complete and len(more.trials) == 6
    asked = load_results(few.out).asked
    assert (asked["trials"], asked["budgets"]) == (6, [3, 6])


@pytest.fixture(scope="module")
def grown(search):
    """Seven trials, which are a whole bracket of factor 2 and 4 epochs less one round, and then eleven."""
    few = search(trials=7)
    before = files(few.out), found(few)
    return before, search(trials=12, resume=True, out=few.out)


def test_hyperband_goes_on_with_other_brackets_and_changes_no_trial(grown):
    (before, trials), more = grown
    assert before.items() <= files(more.out).items() and trials.items() <= found(more).items()
    assert sorted(found(more)) == [f"{number:04d}" for number in range(12)] and more.complete


def test_hyperband_that_goes_on_after_a_whole_bracket_is_the_longer_search(grown, search):
    assert algorithms.plan(12, 4, 2)[0].trials == 7
    assert found(grown[1]) == found(search(trials=12))


def test_the_longer_search_goes_on_after_a_kill_as_any_other(grown, search, tmp_path):
    shutil.copytree(grown[1].out, tmp_path / "out")
    for name in ("0005.json", "0010.json", "0011.json"):
        (tmp_path / "out" / "trials" / name).unlink()
    assert found(search(trials=12, resume=True, out=tmp_path / "out")) == found(grown[1])


def test_a_description_that_is_lost_knows_from_the_table_how_the_search_grew(search, tmp_path):
    few = search(trials=3)
    more = search(trials=5, resume=True, out=few.out)
    (few.out / "search.json").write_text("{")
    again = search(trials=5, resume=True, out=few.out)
    assert found(again) == found(more) and load_results(few.out).asked["budgets"] == [3, 5]


def test_fewer_trials_are_refused_in_one_line(search, events, tmp_path):
    few = search(trials=3, max_epochs=1, algorithm="random")
    with pytest.raises(InputError, match="begun with 3 trials, cannot go on with 2; give 3 or more"):
        search(trials=2, max_epochs=1, algorithm="random", resume=True, out=few.out)
    events.write(tmp_path / "events.h5")
    line = (
        f"--model linear --set units=2 --max-epochs 1 --factor 2 --algorithm random --trials 2 --resume --out {few.out}"
    )
    done = CliRunner().invoke(main, [*line.split(), "--data", str(tmp_path / "events.h5")])
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1, done.output
    assert "begun with 3 trials" in done.stderr


def test_a_folder_of_an_earlier_version_goes_on_with_its_own_names(grown, search, tmp_path):
    """Its trials were named in the order of their start, by as many digits as their number has."""
    (_, trials), _ = grown
    old = search(trials=7).out
    asked = json.loads((old / "search.json").read_text())
    del asked["budgets"], asked["names"]
    (old / "search.json").write_text(json.dumps(asked))
    for path in (old / "trials").iterdir():
        name, rest = path.name.split(".", 1)
        new = path.with_name(f"{name[-1]}.{rest}")
        path.rename(new)
        if rest.endswith("json"):
            text = new.read_text()
            for number in range(7):
                text = text.replace(f'"{number:04d}"', f'"{number}"')
            new.write_text(text)
    (old / "trials" / "6.json").unlink()
    again = search(trials=7, resume=True, out=old)
    assert [r["metrics"] for _, r in sorted(found(again).items())] == [r["metrics"] for _, r in sorted(trials.items())]
    more = search(trials=12, resume=True, out=old)
    assert sorted(found(more), key=int) == [str(number) for number in range(12)]
    assert load_results(old).asked["names"] == {"width": 1, "in_order": 7}


# -- the oracles alone -----------------------------------------------------------------------------------------


def space():
    hp = keras_tuner.HyperParameters()
    hp.Float("x", 0.0, 1.0)
    hp.Choice("y", ["a", "b", "c"])
    return hp


def tried(algorithm, *budgets, architectures=0):
    """The configurations of a search that was asked for these numbers of trials, by name, each begun by a new oracle."""
    done = {}
    for place, trials in enumerate(budgets):
        oracle = algorithms.make(algorithm, space(), trials, 2, 3, 5, architectures, ["y"], budgets[:place])
        while begun := list(start_trials(oracle)):
            for trial in begun:
                values = trial.hyperparameters.values
                assert done.setdefault(trial.trial_id, values) == values
                end_trial(oracle, trial, (values["x"] - 0.3) ** 2 + len(values["y"]), 2)
    return done


@pytest.mark.parametrize(
    "algorithm, budgets",
    [("random", (3, 11, 20)), ("grid", (3, 11, 20)), ("bayesian", (3, 9)), ("hyperband", (3, 11, 20))],
)
def test_more_trials_try_what_a_longer_search_tries(algorithm, budgets):
    assert tried(algorithm, *budgets) == tried(algorithm, budgets[-1])


@pytest.mark.parametrize("algorithm", ["random", "hyperband"])
def test_few_architectures_stay_the_same_ones(algorithm):
    longer = tried(algorithm, 3, 20, architectures=2)
    assert longer == tried(algorithm, 20, architectures=2) and len({one["y"] for one in longer.values()}) == 2
