"""What a search does before its first trial and after its last."""

import json

import pytest
import tensorflow as tf
from click.testing import CliRunner
from linear_model import Linear

import tuning
from pipelines import InputError
from tuning import session
from tuning.cli import main
from tuning.engine import Engine, owned
from tuning.results import Results
from zoo.base import Phase
from zoo.run import read_config

pytestmark = pytest.mark.usefixtures("linear_without_figures")

ASKED = {"trials": 2, "max_epochs": 1, "factor": 2, "fixed": {"units": 2}, "jit_compile": False}


@pytest.fixture
def events(train_events):
    return train_events.sample(600)


def ended():
    raise KeyboardInterrupt


@pytest.mark.parametrize("late", [0, 1])
def test_with_no_time_left_the_best_is_written_unless_it_has_phases_to_train(late, events, tmp_path, monkeypatch):
    told, listener, out = [], session.SearchListener(), tmp_path / "out"
    listener.told = told.append
    monkeypatch.setattr(Linear, "recipe", lambda self: (Phase("main", 1, main=True), Phase("late", late)))
    with monkeypatch.context() as patched:
        patched.setattr(Engine, "is_over", property(lambda self: len(self.records) == 2))
        results = tuning.search("linear", events, out=out, listener=listener, **ASKED)
    assert len(results.trials) == 2 and (out / "best").exists() != bool(late)
    assert [text for text in told if "The time is up" in text and "resume=True" in text] == told and len(told) == late
    done = CliRunner().invoke(main, ["best", str(out), "--export", str(tmp_path / "served")])
    assert ("the only trained run is its best" in done.stderr) == bool(late) == bool(done.exit_code)
    results = tuning.search("linear", events, out=out, resume=True, **ASKED)
    assert read_config(out / "best")["tuning"]["trial"] == results.best["trial"]


def test_a_folder_that_another_process_holds_is_not_touched(events, tmp_path):
    tuning.search("linear", events, out=tmp_path / "out", **{**ASKED, "trials": 1})
    damaged = (tmp_path / "out" / "search.json").read_text()[:50]
    (tmp_path / "out" / "search.json").write_text(damaged)
    with owned(tmp_path / "out"), pytest.raises(InputError, match="another process is at work"):
        tuning.search("linear", events, out=tmp_path / "out", resume=True, **{**ASKED, "trials": 1})
    assert (tmp_path / "out" / "search.json").read_text() == damaged
    with pytest.raises(json.JSONDecodeError):
        json.loads(damaged)


def test_gpus_are_shared_before_anything_is_on_them(events, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"{kind}:0"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda *given: seen.append(given))
    monkeypatch.setattr(session, "_Session", lambda *_: seen.append("session") or ended())
    with pytest.raises(KeyboardInterrupt):
        tuning.search("linear", events, out=tmp_path / "out", **ASKED)
    assert seen == [("GPU:0", True), "session"]


@pytest.mark.parametrize("wrong", [{"trial_timeout": 5.0}, {"trial_timeout": 0.0, "workers": 2}])
def test_a_limit_of_trials_is_refused_where_it_cannot_be_kept(wrong, events, tmp_path):
    with pytest.raises(InputError, match="trial_timeout is"):
        tuning.search("linear", events, out=tmp_path / "out", **ASKED, **wrong)
    assert not (tmp_path / "out").exists()


def test_a_trial_that_is_promoted_from_itself_is_damaged(tmp_path):
    trials = [{"trial": "0", "promoted_from": "1"}, {"trial": "1", "promoted_from": "0"}, {"trial": "2"}]
    results = Results(trials, "reconstruction", tmp_path)
    with pytest.raises(InputError, match=r"0\.json: damaged \(trial 0 is promoted from itself\)"):
        results.history(trials[0])
    assert results.history(trials[2]) == []
