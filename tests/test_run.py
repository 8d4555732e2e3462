"""Runs on disk: what is in them, how a training that stopped goes on, and what is not taken for a run."""

import contextlib
import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from linear_model import Linear

import zoo
from pipelines import Events, InputError, provenance
from pipelines.checksums import open_sealed
from zoo import registry, run
from zoo.cli.main import main
from zoo.conformance.subject import eagerly

SMALL = {"units": 3, "cycles": 3, "batch_size": 256}


@pytest.fixture(scope="module", autouse=True)
def linear():
    zoo.names()  # so that what is discovered stays after these tests
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(registry, "_models", dict(registry._models))
        yield registry.register("linear")(Linear)


def train(events, out, resume=False, extra=None, validation=None, epochs=None, **hyperparameters):
    model = zoo.get("linear", **{**SMALL, **hyperparameters})
    options = {"validation": validation, "epochs": epochs, "resume": resume, "extra": extra}
    with eagerly():  # so few steps cost less than to trace one
        run.train(model, events, out, **options, verbose=0, jit_compile=False)


@pytest.fixture(scope="module")
def events(train_events):
    return train_events.sample(600)


@pytest.fixture(scope="module")
def trained(events, tmp_path_factory):
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(events, out, extra={"mass_range": [2700.0, 5000.0]}, validation=events)
    return out


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of that run to damage."""
    return shutil.copytree(trained, tmp_path / "copy")


# -- what is in a run --------------------------------------------------------------------------------


def test_a_run_holds_what_it_says_and_nothing_that_runs_code(trained):
    found = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    assert found == {
        "config.json",
        "history.csv",
        "metrics.json",
        "model/state.h5",
        "plots/history.json",
        "plots/history.png",
    }
    assert (trained / "plots" / "history.png").read_bytes().startswith(b"\x89PNG")
    assert not [path for path in trained.parent.iterdir() if path != trained]


def test_the_configuration_is_all_that_repeats_the_training(trained, events):
    config = json.loads((trained / "config.json").read_text())
    assert config["model"] == "linear" and config["mass_range"] == [2700.0, 5000.0] and config["epochs"] == 3
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in config["hyperparameters"].items()}.items() >= {
        **SMALL,
        "seed": 0,
    }.items()
    assert len(config["hyperparameters"]["columns"]) == 6
    assert config["data"] == {"source": events.name, "files": [], "events": 600, "sha256": provenance.checksum(events)}
    assert {"tensorflow", "python", "numpy", "hep-anomaly-zoo"} <= set(config["versions"])


def test_the_history_has_a_row_for_every_epoch_of_every_phase(trained):
    rows = list(csv.DictReader((trained / "history.csv").read_text().splitlines()))
    assert [(row["phase"], row["epoch"]) for row in rows] == [
        ("pretraining", "0"),
        *(("main", str(epoch)) for epoch in range(3)),
    ]
    last = json.loads((trained / "metrics.json").read_text())["last_epoch"]
    assert float(rows[-1]["val_loss"]) == last["val_loss"] and float(rows[-1]["loss"]) == last["loss"]


def test_the_checksum_is_of_what_the_events_are_not_of_where(events, tmp_path):
    events.write(tmp_path / "events.h5")
    assert provenance.checksum(Events.from_file(tmp_path / "events.h5")) == provenance.checksum(events)
    assert provenance.checksum(events.sample(599)) != provenance.checksum(events)


def test_a_run_appears_whole_or_not_at_all(events, tmp_path, monkeypatch):
    import pipelines.plots

    def fail(rows, path):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(pipelines.plots, "plot_history", fail)
    with pytest.raises(RuntimeError):
        train(events, tmp_path / "run", cycles=1)
    assert [path.name for path in tmp_path.iterdir()] == [".run.checkpoint"]
    monkeypatch.undo()
    train(events, tmp_path / "run", cycles=1, resume=True)  # nothing but the writing is left to do
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert len(list(csv.DictReader((tmp_path / "run" / "history.csv").read_text().splitlines()))) == 2


# -- what older versions wrote ---------------------------------------------------------------------------


def rewritten(path, **change):
    """Change a configuration, and take away its checksum, as versions before there were any had it."""
    config = json.loads((path / "config.json").read_text()) | change
    (path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "sha256"}))


@contextlib.contextmanager
def old_state(path):
    """Give the state of a run as versions before there were checksums wrote it, open for changes."""
    state = path / "model" / "state.h5"
    with open_sealed(state)[0] as file:
        content = {name: file[name][()] for name in file if name != "belongs"}
    state.unlink()
    with h5py.File(state, "w") as file:
        file.update(content)
        yield file


def test_a_run_of_an_older_version_opens(copy):
    before = zoo.load(copy).get_weights()
    config = json.loads((copy / "config.json").read_text())
    for name in ("sha256", "state_sha256"):
        del config[name]
    (copy / "config.json").write_text(json.dumps(config))
    with old_state(copy):
        pass
    for old, new in zip(before, zoo.load(copy).get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


# -- checksums -------------------------------------------------------------------------------------------


def test_every_lost_sector_of_a_state_is_noticed(copy):
    state = copy / "model" / "state.h5"
    whole = state.read_bytes()
    for start in range(0, len(whole), 512):
        lost = whole[:start] + bytes(len(whole[start : start + 512])) + whole[start + 512 :]
        if lost != whole:
            state.write_bytes(lost)
            with pytest.raises(InputError, match=r"state\.h5: .*damaged"):
                run.read_state(state)


def test_parts_of_two_runs_do_not_fit_together(copy, events):
    other = zoo.get("linear", **SMALL)
    other.adapt(events)
    run.save_state(other, copy / "model" / "state.h5")  # whole, of the same columns and scaling, with other weights
    with pytest.raises(InputError, match=r"state\.h5: not the state that the run was written with"):
        zoo.load(copy)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"epochs": 77}, "not as it was written"),
        ({"takes": "objects"}, "not as it was written"),
        ({"takes": "all"}, "takes is 'all', expected one of"),
        ({"epochs": "3"}, "epochs is '3'"),
        ({"command": 5}, "command is 5"),
        ({"data": []}, r"data is \[\]"),
    ],
)
def test_a_configuration_that_was_changed_is_refused(change, message, copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(InputError, match=rf"config\.json: {message}"):
        zoo.load(copy)


def test_scaling_takes_and_columns_of_a_run_are_those_of_its_state(copy):
    config = json.loads((copy / "config.json").read_text())
    columns = config["hyperparameters"]["columns"]
    for change, message in (
        ({"scaling": "maxabs"}, "is of scaling .*, expected 'maxabs'"),
        ({"columns": columns[::-1]}, "is of columns"),
        ({"columns": [columns[0], columns[0]]}, "is there more than once"),
    ):
        rewritten(copy, hyperparameters=config["hyperparameters"] | change)
        with pytest.raises(InputError, match=message):
            zoo.load(copy)
    rewritten(copy, hyperparameters=config["hyperparameters"], takes="objects")
    with pytest.raises(InputError, match="takes is 'objects', expected 'features' of linear"):
        zoo.load(copy)


def test_weights_that_are_not_numbers_are_refused(copy):
    with old_state(copy) as file:
        file["float32"][:] = np.nan
    with pytest.raises(InputError, match="NaN or infinite: the training diverged"):
        zoo.load(copy)


# -- what is no run ---------------------------------------------------------------------------------------


def test_what_is_no_run_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path, found in ((tmp_path / "none", "no such folder"), (tmp_path, "no config.json"), (tmp_path / "file", "no")):
        with pytest.raises(InputError, match=f"{path}: {found}.*expected a run directory"):
            zoo.load(path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "5", '{"model": "gan_ae"}', '{"model": "gan_ae", "hyperparameters": 5}']
    + ['{"model": 5, "hyperparameters": {"columns": ["a"]}}', '{"model": "gan_ae", "hyperparameters": {"columns": 5}}'],
)
def test_a_damaged_configuration_is_named(text, copy):
    (copy / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json: .*damaged; train again"):
        zoo.load(copy)


def test_a_configuration_that_is_not_text_is_damaged(copy):
    (copy / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"config\.json: no text .*damaged"):
        zoo.load(copy)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model": "their_model"}, "model 'their_model' is not known"),
        ({"hyperparameters": {"columns": ["pt_1"], "gamma": 1}}, "hyperparameter 'gamma' of 'linear' is not known"),
        ({"hyperparameters": {"columns": ["pt_1"], "units": -1}}, "units=-1 is not possible"),
    ],
)
def test_a_configuration_that_this_zoo_cannot_follow_is_named(change, message, copy):
    rewritten(copy, **change)
    with pytest.raises(InputError, match=rf"config\.json: {message}"):
        zoo.load(copy)


@pytest.mark.parametrize("other", [{"units": 4}, {"columns": ("pt_*",)}, {"scaling": "quantile"}])
def test_the_state_of_another_model_is_refused(other, copy, events):
    model = zoo.get("linear", **{**SMALL, **other})
    model.adapt(events)
    run.save_state(model, copy / "model" / "state.h5")
    with pytest.raises(InputError, match=r"state\.h5: .*another model's state"):
        zoo.load(copy)


def test_more_variables_than_the_model_has_are_another_models_state(copy):
    with old_state(copy) as file:
        layout = json.loads(file["layout"].asstr()[()])
        del file["layout"]
        file["layout"] = json.dumps({**layout, "trainable/999": ["float32"]})
        values = np.append(file["float32"][()], np.float32(1.0))
        del file["float32"]
        file["float32"] = values
    with pytest.raises(InputError, match="trainable/999 has no place in linear: another model's state"):
        zoo.load(copy)


@pytest.mark.parametrize("damage", [{"layout": "{"}, {"layout": "[]"}, {"float32": [1.0]}, {"float32": None}])
def test_a_state_that_holds_something_else_is_named(damage, copy):
    with old_state(copy) as file:
        for name, value in damage.items():
            del file[name]
            if value is not None:
                file[name] = value
    with pytest.raises(InputError, match=r"state\.h5: .*not the state of a model, or damaged.*; train again"):
        zoo.load(copy)


def test_a_missing_or_truncated_state_is_named(copy):
    state = copy / "model" / "state.h5"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"state\.h5: damaged .* or truncated"):
        zoo.load(copy)
    state.unlink()
    with pytest.raises(InputError, match=r"state\.h5: no such file"):
        zoo.load(copy)


# -- a training that stopped ---------------------------------------------------------------------------------


@pytest.fixture
def stop_after(monkeypatch):
    """Ctrl-C once an epoch's checkpoint is `when` ("before" or "after") written."""

    def stop(epochs, when="after"):
        write = run.write_json

        def writing(path, value):
            stopping = path.name == "progress.json" and value["epochs"] == epochs
            if not (stopping and when == "before"):
                write(path, value)
            if stopping:
                monkeypatch.setattr(run, "write_json", write)
                raise KeyboardInterrupt

        monkeypatch.setattr(run, "write_json", writing)

    return stop


def same(first, second, events):
    np.testing.assert_array_equal(zoo.load(first).score(events), zoo.load(second).score(events))
    assert (first / "history.csv").read_bytes() == (second / "history.csv").read_bytes()
    kept = [
        {k: v for k, v in json.loads((r / "config.json").read_text()).items() if k not in ("command", "sha256")}
        for r in (first, second)
    ]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("epochs, when", [(1, "before"), (2, "before"), (3, "after")])
def test_an_interrupted_training_resumes_exactly(epochs, when, trained, events, stop_after, tmp_path):
    stop_after(epochs, when)
    options = {"extra": {"mass_range": [2700.0, 5000.0]}, "validation": events}
    with pytest.raises(KeyboardInterrupt):
        train(events, tmp_path / "run", **options)
    assert [path.name for path in tmp_path.iterdir()] == [".run.checkpoint"]
    (tmp_path / ".run.part").mkdir()  # what a kill leaves that came while the run was written
    train(events, tmp_path / "run", **options, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    same(tmp_path / "run", trained, events)


@pytest.fixture(scope="module")
def stopped(events, tmp_path_factory):
    """What is left of a training stopped after its first epoch."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patched:
        write = run.write_json
        after = {"progress.json": KeyboardInterrupt}

        def writing(path, value):
            write(path, value)
            if path.name in after:
                raise after[path.name]

        patched.setattr(run, "write_json", writing)
        with pytest.raises(KeyboardInterrupt):
            train(events, folder / "run")
    return folder


@pytest.mark.parametrize(
    "other, message",
    [
        ({"learning_rate": 0.02}, "learning_rate was 0.01, is 0.02"),
        ({"units": 4}, "units was 3, is 4"),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"epochs": 2}, "epochs was 3, is 2"),
    ],
)
def test_a_training_does_not_resume_as_another(other, message, stopped, events):
    kept = {path: path.read_bytes() for path in stopped.rglob("*.*") if path.is_file()}
    with pytest.raises(InputError, match=f"holds another training: {message}; give the same"):
        train(events, stopped / "run", **other, resume=True)
    assert {path: path.read_bytes() for path in stopped.rglob("*.*") if path.is_file()} == kept


def test_a_training_resumes_whose_version_did_not_know_a_hyperparameter(stopped, events, tmp_path):
    folder = shutil.copytree(stopped, tmp_path / "run")
    (path,) = folder.rglob("config.json")
    config = json.loads(path.read_text())
    assert config["hyperparameters"].pop("seed") == 0  # its default
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match="holds another training: units was 3, is 4; give the same"):
        train(events, folder / "run", units=4, resume=True)


def test_a_training_does_not_resume_on_other_events(stopped, events):
    with pytest.raises(InputError, match="holds another training: data was"):
        train(events.sample(599), stopped / "run", resume=True)


OF_TRAINED = {"extra": {"mass_range": [2700.0, 5000.0]}}


def test_to_resume_where_nothing_is_there_is_to_begin(trained, events, tmp_path):
    train(events, tmp_path / "run", **OF_TRAINED, validation=events, resume=True)
    same(tmp_path / "run", trained, events)


def test_to_resume_what_is_finished_loads_it_and_cleans_up(trained, events, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / ".run.checkpoint").mkdir()  # of a process that was killed when its run had its name
    content = {path: path.read_bytes() for path in sorted(trained.rglob("*.*")) if path.is_file()}
    model = zoo.get("linear", **SMALL)
    history = run.train(model, events, tmp_path / "run", validation=events, resume=True, verbose=0, jit_compile=False)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert list(content.values()) == [p.read_bytes() for p in sorted((tmp_path / "run").rglob("*.*")) if p.is_file()]
    np.testing.assert_array_equal(model.score(events), zoo.load(trained).score(events))
    with open(trained / "history.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["phase"] == "main"]
    assert history.epoch == [0, 1, 2] and history.history["loss"] == [float(row["loss"]) for row in rows]
    with pytest.raises(InputError, match="exists already, of another training: seed was 0, is 1"):
        train(events, tmp_path / "run", seed=1, resume=True)


def test_to_resume_a_training_that_was_to_score_adds_the_scores(events, tmp_path):
    given = {"hyperparameters": SMALL, "epochs": 1, "jit_compile": False, "verbose": 0, "score": True, "resume": True}
    found = zoo.train("linear", events, tmp_path / "run", **given)
    scores = found.scores.read_bytes()
    found.scores.unlink()  # of a process that was killed between its run and its scores
    again = zoo.train("linear", events, tmp_path / "run", **given)
    assert again.to_dict() == found.to_dict() and found.scores.read_bytes() == scores
    before = found.scores.stat().st_mtime_ns
    assert zoo.train("linear", events, tmp_path / "run", **given).scores.stat().st_mtime_ns == before


def test_damaged_documents_of_a_checkpoint_are_told(stopped, events, tmp_path):
    for name, text, told in (
        ("config.json", "{", r"config.json: .*; damaged; remove \S+ to begin anew"),
        ("progress.json", "[" * 100_000, "progress.json: nested more than 32 deep; damaged"),
        ("progress.json", '{"epochs": 1e999}', "progress.json: .*; damaged"),
        ("progress.json", "{}", "progress.json: no epochs in it; damaged"),
    ):
        folder = shutil.copytree(stopped / ".run.checkpoint", tmp_path / ".run.checkpoint", dirs_exist_ok=True)
        (folder / name).write_text(text)
        with pytest.raises(InputError, match=told):
            train(events, tmp_path / "run", resume=True)


def test_an_existing_run_is_refused_before_any_event_is_read(trained, monkeypatch, events, tmp_path):
    monkeypatch.setattr(Events, "blocks", lambda self, *fields, **options: pytest.fail("events were read"))
    (tmp_path / "notes").mkdir()
    for out, resume in ((trained, False), (tmp_path / "notes", False), (tmp_path / "notes", True)):
        with pytest.raises(InputError, match="exists already"):
            train(events, out, resume=resume)


def test_a_refused_training_leaves_nothing_behind(events, tmp_path):
    features, mass, columns = events.read("features"), events.mass, events.columns
    weight = np.ones(len(events), np.float32)
    weight[3] = np.nan
    with pytest.raises(InputError, match="'weight' 1"):
        train(Events.from_arrays(features, mass, columns, weight=weight), tmp_path / "run")
    with pytest.raises(InputError, match="200 events are fewer than one batch of 256"):
        train(events.sample(200), tmp_path / "below" / "run")
    with pytest.raises(InputError, match="0 events are fewer"):
        train(Events.from_arrays(features[:0], mass[:0], columns), tmp_path / "below" / "run")
    assert not list(tmp_path.iterdir())


# a model that is quick to trace
COMMAND = ["train", "deep_svdd", "--data", "lhco_sim_test"]
EPOCHS = 20
# the command in a process of its own that waits after its third epoch, on any machine, until a signal stops it
WAITING = """
import sys, time
from zoo import run
from zoo.cli.main import main

class Waiting(run.Checkpoint):
    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if epoch == 2:
            time.sleep(300)

run.Checkpoint = Waiting
main(sys.argv[1:])
"""
SETTINGS = {"units": 16, "batch_size": 256, "epochs": EPOCHS}
OPTIONS = ["--no-xla", *(option for k, v in SETTINGS.items() for option in ("--set", f"{k}={v}"))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that the command makes when nothing stops it, trained in this process."""
    out = tmp_path_factory.mktemp("command") / "run"
    done = CliRunner().invoke(main, [*COMMAND, "--out", str(out), *OPTIONS])
    assert done.exit_code == 0, done.output
    return out


@pytest.mark.parametrize("how", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL])
def test_a_stopped_command_resumes_to_the_scores_of_an_unbroken_one(how, whole, tmp_path, test_events, monkeypatch):
    command = [*COMMAND, "--out", "run", *OPTIONS]
    waiting = [sys.executable, "-c", WAITING, *command]
    process = subprocess.Popen(waiting, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    progress = tmp_path / ".run.checkpoint" / "progress.json"
    deadline = time.monotonic() + 240
    while not progress.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert progress.exists(), err
    assert not (tmp_path / "run").exists() and 0 < json.loads(progress.read_text())["epochs"] < EPOCHS
    if how == signal.SIGINT:
        assert process.returncode == 130 and out == ""
        assert err.splitlines()[-1].startswith("Interrupted.") and "--resume" in err.splitlines()[-1]
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, [*command, "--resume", "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["run"] == "run", done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    same(tmp_path / "run", whole, test_events)


def test_a_second_training_to_the_same_folder_is_refused(linear, events, tmp_path):
    out, seen = tmp_path / "run", []

    def second(phase):
        with pytest.raises(InputError, match="is writing it; wait for it"), ThreadPoolExecutor(1) as another:
            another.submit(train, events, out, seed=2).result()
        seen.append(phase.name)

    model = zoo.get("linear", seed=1)
    model.on_phase_begin = second
    run.train(model, events, out, epochs=1, verbose=0, jit_compile=False)
    assert seen and json.loads((out / "config.json").read_text())["hyperparameters"]["seed"] == 1


def test_documents_of_a_run_that_are_nested_without_end_are_damaged(copy):
    deep = "[" * 100_000
    (copy / "config.json").write_text(deep)
    with pytest.raises(InputError, match=r"config.json: nested more than 32 deep; damaged"):
        zoo.load(copy)
    with old_state(copy) as file:
        del file["layout"]
        file["layout"] = deep
    with pytest.raises(InputError, match=r"layout: nested more than 32 deep; not the state of a model, or damaged"):
        run.read_state(copy / "model" / "state.h5")
