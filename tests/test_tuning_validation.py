"""Trials judged by events of another file: what they train on, what they never see, what is refused."""

import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from linear_model import Linear

import tuning
import zoo
from pipelines import Events, InputError
from tuning import objectives, session
from tuning import trial as worker
from tuning.cli import main
from tuning.objectives import Objective
from tuning.results import load_results

pytestmark = pytest.mark.usefixtures("linear_without_figures")


@pytest.fixture(scope="module")
def train(train_events):
    return train_events.take(np.arange(400))


@pytest.fixture(scope="module")
def judges(train_events):
    """Other events, half of them called signal."""
    others = train_events.take(np.arange(400, 700))
    return Events.from_arrays(others.read("features"), others.mass, others.columns, label=np.arange(300) % 2)


def search(train, out, **options):
    options = {"trials": 2, "max_epochs": 2, "objective": "val_loss", "fixed": {"units": 2}, **options}
    return tuning.search("linear", train, out=out, algorithm="random", jit_compile=False, **options)


@pytest.fixture(scope="module")
def found(train, judges, tmp_path_factory):
    """A finished search judged by others, and the events that every `batches` got."""
    seen, batches = [], Linear.batches
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            Linear, "batches", lambda self, events, *a, **o: seen.append(events) or batches(self, events, *a, **o)
        )
        return search(train, tmp_path_factory.mktemp("judged") / "out", validation=judges, objective="auc:1"), seen


def described(train, validation, tmp_path, objective="reconstruction"):
    asked = session._Asked(model="linear", preset=None, fixed={"units": 2}, algorithm="random", trials=1, max_epochs=1, factor=2, architectures=0, objective=objective, seed=0)  # fmt: skip
    return session._Session(asked, None, train, tmp_path, False, {}, session.SearchListener(), validation).description


# -- who trains and who judges -----------------------------------------------------------------------------


def test_all_of_data_train_and_all_of_validation_judge(found):
    _, seen = found
    assert {len(events) for events in seen} == {400, 300}


def test_a_trial_is_what_training_on_data_and_judging_by_the_others_gives(found, train, judges):
    results, _ = found
    trial = results.trials[-1]
    model = zoo.get("linear", **trial["hyperparameters"])
    model.fit(train.without_labels(), epochs=trial["epochs"], verbose=0, jit_compile=False)
    score = model.score(judges)
    signal, background = score[judges.label == 1], score[judges.label == 0]
    pairs = (signal[:, None] > background).mean() + 0.5 * (signal[:, None] == background).mean()
    assert trial["metrics"]["1-auc:1"] == pytest.approx(1 - pairs, abs=1e-6)


def test_labels_of_validation_never_reach_a_model_even_where_the_objective_asks_for_them(found):
    results, seen = found
    assert results.truth_used and seen and not any(events.has_labels for events in seen)


def test_labels_of_validation_are_read_by_no_objective_that_does_not_ask(train, judges, tmp_path, monkeypatch):
    read, blocks = set(), Events.blocks
    monkeypatch.setattr(Events, "blocks", lambda self, *fields, **o: read.update(fields) or blocks(self, *fields, **o))
    assert judges.has_labels
    search(train, tmp_path / "out", validation=judges, trials=1, max_epochs=1, objective="reconstruction+sculpting")
    assert "features" in read and "label" not in read


def test_of_a_sum_only_the_term_that_asks_for_labels_gets_them(judges, monkeypatch):
    given = {}
    for name in ("reconstruction", "sculpting"):
        monkeypatch.setitem(objectives.TERMS, name, lambda m, events, h, name=name: given.update({name: events}) or 1.0)
    monkeypatch.setattr(objectives, "missed_area", lambda m, events, h, label: given.update({"auc": events}) or 0.5)
    objective = Objective.parse("reconstruction+sculpting+2*auc:1")
    assert objective(SimpleNamespace(), judges, {})["objective"] == 3.0
    assert {name: events.has_labels for name, events in given.items()} == {
        "reconstruction": False, "sculpting": False, "auc": True,
    }  # fmt: skip


def test_the_folder_and_the_best_run_say_who_judged(found):
    results, _ = found
    asked = load_results(results.out).asked["validation"]
    config = zoo.run.read_config(results.out / "best")
    assert asked["events"] == 300 and config["validation"] == asked and config["data"]["events"] == 400


def test_without_validation_a_fifth_is_held_out_as_before(train, tmp_path):
    asked = described(train, None, tmp_path)
    assert asked["validation"] is None and asked["data"]["events"] == 400


# -- going on ----------------------------------------------------------------------------------------------


def resumed(results, train, **options):
    return search(train, results.out, objective="auc:1", resume=True, **options)


def test_a_search_goes_on_with_the_same_judges_wherever_they_lie_now(found, train, judges, tmp_path):
    results, _ = found
    judges.write(tmp_path / "moved.h5")
    assert resumed(results, train, validation=Events.from_file(tmp_path / "moved.h5")).trials == results.trials


def test_a_search_does_not_go_on_with_other_judges_or_without_them(found, train, judges, tmp_path):
    results, _ = found
    with pytest.raises(InputError, match="begun with validation="):
        resumed(results, train, validation=judges.take(np.arange(299)))
    with pytest.raises(InputError, match="begun with validation="):
        resumed(results, train.without_labels(), validation=swapped(judges))
    labelled = Events.from_arrays(train.read("features"), train.mass, train.columns, label=np.arange(400) % 2)
    with pytest.raises(InputError, match=r"begun with .*cannot go on with"):
        resumed(results, labelled)


def swapped(events):
    return Events.from_arrays(events.read("features"), events.mass, events.columns, label=1 - events.label)


def test_labels_matter_to_the_search_only_where_they_judge(train, judges, tmp_path):
    one, other = (described(train, each, tmp_path) for each in (judges, swapped(judges)))
    assert one == other
    one, other = (described(train, each, tmp_path, "auc:1") for each in (judges, swapped(judges)))
    assert one["data"] == other["data"] and one["validation"] != other["validation"]


# -- what is refused or told -------------------------------------------------------------------------------


def test_judges_without_a_column_that_is_learnt_are_refused_by_name(train, judges, tmp_path):
    kept = [name for name in judges.columns if name != "mass_2"]
    poor = Events.from_arrays(judges.read("features", kept), judges.mass, kept)
    with pytest.raises(InputError, match=r"no column 'mass_2'"):
        search(train, tmp_path / "out", validation=poor)
    assert not (tmp_path / "out").exists()


def test_judges_may_have_their_columns_in_another_order(train, judges, tmp_path):
    turned = judges.columns[::-1]
    other = Events.from_arrays(judges.read("features", turned), judges.mass, turned)
    assert described(train, other, tmp_path)["validation"]["events"] == 300


def test_no_events_cannot_judge(train, judges, tmp_path):
    with pytest.raises(InputError, match="no events to judge trials by"):
        described(train, judges.take(np.arange(0)), tmp_path)


def test_truth_is_looked_for_in_the_judges_not_in_data(train, judges, tmp_path):
    labelled = Events.from_arrays(train.read("features"), train.mass, train.columns, label=np.arange(400) % 2)
    with pytest.raises(InputError, match="auc:1 needs labels"):
        described(labelled, judges.without_labels(), tmp_path, "auc:1")


def test_judges_that_train_too_are_counted_and_told(train, judges, tmp_path, monkeypatch):
    told = []
    listener = session.SearchListener()
    listener.told = told.append
    monkeypatch.setattr(time, "monotonic", iter(range(10**9)).__next__)  # the time is up before anything begins
    both = train.take(np.arange(50)).without_labels()
    search(train, tmp_path / "out", validation=both, listener=listener, time_limit=0.5)
    (line,) = [text for text in told if "also train" in text]
    assert line.startswith("50 of the 50 events that judge")
    assert json.loads((tmp_path / "out" / "search.json").read_text())["validation"]["also_trained_on"] == 50


def test_the_command_line_takes_a_file_that_judges(train, judges, tmp_path, monkeypatch):
    given = {}

    def stop():
        raise InputError("stopped here")

    monkeypatch.setattr(worker, "run_trial", None)  # nothing is to be trained
    monkeypatch.setattr(
        session, "search", lambda model, events, **options: given.update(options, events=events) or stop()
    )
    train.write(tmp_path / "train.h5"), judges.write(tmp_path / "judges.h5")
    line = (
        f"--model linear --data {tmp_path / 'train.h5'} --validation {tmp_path / 'judges.h5'} --out {tmp_path / 'out'}"
    )
    done = CliRunner().invoke(main, [*line.split(), "--mass-range", "2700", "3500"])
    assert done.exit_code == 2 and "stopped here" in done.output + done.stderr
    inside = (judges.mass >= 2700) & (judges.mass < 3500)
    assert len(given["validation"]) == inside.sum() < 300 and given["events"].mass.max() < 3500


def test_a_file_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["--model", "linear", "--validation", "nowhere.h5"])
    assert done.exit_code == 2 and "nowhere.h5" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
