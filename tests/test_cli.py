"""The commands: what they print and write, for people and for programs."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from linear_model import registered

import pipelines
import tuning.cli
import zoo.cli.main
from pipelines import leaderboard, metrics

SMALL = "--no-xla --set ae_units=16 --set d_units=16,8 --set latent_dim=4 --set batch_size=256"
SHORT = f"{SMALL} --set cycles=2 --set d_epochs=1 --set ae_epochs=1 --set pretraining_epochs=1"
QUICK = "deep_svdd --no-xla --set units=16 --set batch_size=256 --set epochs=2"  # quick to trace
TUNE = f"--model gan_ae {SMALL} --set d_epochs=1 --set ae_epochs=1 --set pretraining_epochs=1 --set scaling=minmax"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    line = f"train {QUICK} --data lhco_sim_train --mass-range 2700 4000 --validation 0.2 --out {out}"
    done = CliRunner().invoke(zoo.cli.main.main, line.split())
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """Give a command line; return its exit code and what came out of the process's own stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(line):
        program, *arguments = line.split()
        capfd.readouterr()
        with pytest.raises(SystemExit) as done:
            {"zoo": zoo.cli.main.main, "tune": tuning.cli.main}[program](arguments, prog_name=program)
        out, err = capfd.readouterr()
        return done.value.code, out, err

    return run


@pytest.fixture
def output(command):
    """Give a command line that works; return its stdout."""

    def run(line):
        code, out, err = command(line)
        assert code == 0, err
        return out

    return run


# -- looking -----------------------------------------------------------------------------------------


def test_list_names_every_model_with_its_summary(output):
    lines = output("zoo list").splitlines()
    assert lines[-2:] == ["", f"Trained weights, taken as RUN: {', '.join(zoo.weights.names())}"]
    for line, name in zip(lines[:-2], zoo.names(), strict=True):
        assert re.fullmatch(rf"{name} +{re.escape(zoo.describe(name)['summary'])}", line)


def test_list_json_is_a_list_of_objects_with_names(output):
    assert [model["name"] for model in json.loads(output("zoo list --json"))] == zoo.names()
    assert [model["name"] for model in json.loads(output("zoo list gan* --json"))] == zoo.names("gan*")


def test_list_says_that_nothing_matches(command):
    assert command("zoo list qqqqq --json")[:2] == (0, "[]\n")
    assert "No model's name matches 'qqqqq'" in command("zoo list qqqqq")[2]


@pytest.mark.parametrize("name", zoo.names())
def test_show_tells_hyperparameters_presets_and_scores(name, output):
    about = json.loads(output(f"zoo show {name} --json"))
    assert about == json.loads(json.dumps(zoo.describe(name)))
    text = output(f"zoo show {name}")
    assert all(f"\n  {k} = " in text for k in about["hyperparameters"])
    assert all(f"\n  {k}: " in text for k in about["presets"])
    assert text.endswith(f"Scores: {', '.join(about['score_kinds'])}\n") and about["summary"] in text


@pytest.mark.parametrize("line", ["zoo", "zoo data", "zoo validate"])
def test_a_group_alone_prints_its_help(line, command):
    code, out, err = command(line)
    assert (code, err) == (0, "") and out.startswith("Usage: zoo") and "Commands:" in out


@pytest.mark.parametrize("package, name", [("zoo", "zoo"), ("tuning", "tune")])
def test_python_runs_the_package_as_the_command(package, name, tmp_path):
    done = subprocess.run([sys.executable, "-m", package, "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith(f"{name}, version")


@pytest.mark.parametrize("line", ["zoo", "zoo data", "zoo validate", "tune --help"])
def test_no_line_of_the_list_of_commands_is_cut_short(line, output):
    commands = output(line).partition("Commands:")[2]
    assert commands and "..." not in commands


@pytest.mark.parametrize("line", ["zoo --help", "zoo train -h", "zoo data --help", "tune --help"])
def test_help_is_there_for_every_level(line, output):
    program = line.rpartition(" ")[0]
    assert output(line).startswith(f"Usage: {program} ")


# -- training, scoring, judging --------------------------------------------------------------------------


def test_train_json_is_one_document_and_progress_goes_to_stderr(command):
    code, out, err = command(f"zoo train {QUICK} --data lhco_sim_test --out run --json")
    result = json.loads(out)
    assert code == 0 and result["run"] == "run" and result["events"] == 6000
    assert np.isfinite(result["last_epoch"]["loss"]) and result["last_epoch"]["epoch"] == 1
    assert "Epoch 2/2" in err


def test_score_writes_what_the_loaded_model_scores(trained, output, tmp_path):
    assert "scores.h5: 6000 scores, median " in output(f"zoo score {trained} --data lhco_sim_test --out scores.h5")
    events = pipelines.open("lhco_sim_test")
    with h5py.File(tmp_path / "scores.h5") as file:
        np.testing.assert_array_equal(file["score"][:], zoo.load(trained).score(events))
        np.testing.assert_array_equal(file["mass"][:], events.mass)
        assert file.attrs["model"] == "deep_svdd" and file.attrs["kind"] == "distance"


def test_evaluate_json_has_what_was_promised_for_every_label(trained, output):
    found = json.loads(output(f"zoo evaluate {trained} --data lhco_sim_test --json"))
    assert set(found["auc"]) == set(found["signal_efficiency"]) == {"1", "2"}
    for efficiencies in found["signal_efficiency"].values():
        assert list(efficiencies) == ["0.1", "0.01", "0.001"]
    assert list(found["sculpting"]) == ["50", "85", "95", "99"]
    for at in found["sculpting"].values():
        assert 0 < at["floor"] < 1 and 0 < at["distance"] < 1 and at["floor_std"] > 0
    assert found["label_names"]["1"] == "two-prong"


def test_evaluate_looks_where_the_run_was_trained_unless_told_otherwise(trained, output):
    model = zoo.load(trained)
    for option, mass_range in (("", (2700, 4000)), ("--mass-range 3000 5000", (3000, 5000))):
        events = pipelines.open("lhco_sim_test").select(mass_range=mass_range)
        expected = json.loads(json.dumps(metrics.evaluate(model.score(events), events)))
        found = json.loads(output(f"zoo evaluate {trained} --data lhco_sim_test --json {option}"))
        assert {key: found[key] for key in expected} == expected
        best = metrics.significance_improvement(*(model.score(events.select(label=k)) for k in (0, 1)))
        assert found["improvement"]["1"] == pytest.approx(best) and found["members"] == 1


def test_evaluate_in_words_names_the_signals_and_the_floor(trained, output):
    text = output(f"zoo evaluate {trained} --data lhco_sim_test")
    assert re.search(r"two-prong: AUC 0\.\d{3}; signal efficiency .* background efficiency", text)
    assert re.search(r"99th percentile +0\.\d{3} +\(0\.\d{3} \+- 0\.\d{3}\)", text)


def test_evaluate_without_labels_still_judges_the_sculpting(trained, output):
    found = json.loads(output(f"zoo evaluate {trained} --data lhco_sim_train --json"))
    assert found["auc"] == {} and len(found["sculpting"]) == 4


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """A group of three small VAEs, trained for two epochs."""
    out = tmp_path_factory.mktemp("group") / "run"
    line = f"train vae --data lhco_sim_train --no-xla --epochs 2 --out {out} --set members=3 --set units=8,8"
    done = CliRunner().invoke(zoo.cli.main.main, f"{line} --set decoder_epochs=2".split())
    assert done.exit_code == 0, done.output
    return out, done.stdout


def test_training_a_vae_says_where_the_largest_kl_was(group):
    out, text = group
    best = json.loads((out / "metrics.json").read_text())["best_epoch"]["vae"]["epoch"]
    assert re.search(rf"kl was largest at epochs {min(best) + 1} to {max(best) + 1} of 3 members", text)


def test_scores_of_a_group_come_with_their_spread(group, output, tmp_path):
    output(f"zoo score {group[0]} --data lhco_sim_test --out scores.h5")
    each = zoo.load(group[0]).score(pipelines.open("lhco_sim_test"), per_member=True)
    with h5py.File(tmp_path / "scores.h5") as file:
        np.testing.assert_allclose(file["score"][()], each.mean(0), rtol=1e-5)
        np.testing.assert_allclose(file["score_std"][()], each.std(0), rtol=1e-3, atol=1e-5)


def test_evaluate_of_a_score_without_direction_names_both_and_the_members(group, output):
    text = output(f"zoo evaluate {group[0]} --data lhco_sim_test")
    assert re.search(r"two-prong: AUC 0\.\d{3} \(members 0\.\d{3} \+- 0\.\d{3}\)", text)
    assert "By aligned:" in text and "By minus aligned:" in text and "looks at both of its tails" in text
    found = json.loads(output(f"zoo evaluate {group[0]} --data lhco_sim_test --json"))
    assert found["minus"]["auc"]["1"] == pytest.approx(1 - found["auc"]["1"], abs=1e-6)
    assert found["minus"]["sculpting"] != found["sculpting"] and found["minus"]["kind"] == "minus aligned"
    found = json.loads(output(f"zoo evaluate {group[0]} --data lhco_sim_test --kind rarity --json"))
    assert "minus" not in found and found["members"] == 3
    test = pipelines.open("lhco_sim_test")
    each = zoo.load(group[0]).score(test, "rarity", per_member=True)
    areas = [metrics.auc(one[test.label == 0], one[test.label == 1]) for one in each]
    said = {"mean": np.mean(areas), "std": np.std(areas, ddof=1)}  # as over the seeds of a benchmark
    assert found["auc_members"]["1"] == pytest.approx(said, rel=1e-4)


def test_evaluate_writes_rows_that_the_leaderboard_reads(trained, group, output, command, tmp_path):
    found = json.loads(output(f"zoo evaluate {trained} --data lhco_sim_test --table a.csv --errors --channel 1 --json"))
    output(f"zoo evaluate {group[0]} --data lhco_sim_test --table b.csv --errors --channel 1 --name VAE")
    rows = leaderboard.read([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert rows.models == ("run", "VAE", "VAE -aligned") and rows.pairs == (("two-prong", "1"), ("three-prong", "1"))
    assert rows.values[0, 0] == pytest.approx(found["auc"]["1"]) and (rows.errors[:, 0] > 0).all()
    np.testing.assert_allclose(rows.values[2:4, 0], 1 - rows.values[4:6, 0], atol=1e-6)  # the other direction
    for options in ("--table c.csv", "--channel 1", "--name VAE"):
        code, out, err = command(f"zoo evaluate {trained} --data lhco_sim_test {options}")
        assert code == 2 and out == "" and "add the one that is missing" in err and err.count("\n") == 1
    code, _, err = command(f"zoo evaluate {trained} --data lhco_sim_train --table c.csv --channel 1")
    assert code == 2 and "no labels" in err and not (tmp_path / "c.csv").exists()


@pytest.mark.slow
def test_plot_draws_the_figures_of_a_run(group, output, tmp_path):
    text = output(f"zoo plot {group[0]} --data lhco_sim_test --out figures")
    for name in ("errors", "history", "observables", "peak", "roc", "scan"):
        assert f"{name}.png" in text and (tmp_path / "figures" / f"{name}.png").exists()


SCORES = "Signal,Model,Chan,AUC,1e-2,1e-3,1e-4\n"


def test_leaderboard_compares_the_models_of_its_files(output, tmp_path):
    (tmp_path / "a.csv").write_text(SCORES + "glgl,VAE,1,0.7,0.1,0.02,0.001\nstop,VAE,1,0.8,0.3,0.1,0.05\n")
    (tmp_path / "b.csv").write_text(SCORES + "glgl,Flow,1,0.9,0.5,0.2,0.01\nstop,Flow,1,0.6,0.05,0.01,0.001\n")
    found = json.loads(output("zoo leaderboard a.csv b.csv --json"))
    best = {row["model"]: (row["minimum"], row["maximum"]) for row in found["improvement"]}
    assert best["Flow"] == pytest.approx((0.05 / 0.1, 0.2 / 1e-3**0.5))
    assert best["VAE"] == pytest.approx((0.1 / 0.1, 0.05 / 1e-4**0.5))
    text = output("zoo leaderboard a.csv b.csv --plot board.png --out all.csv")
    assert "2 models" in text and (tmp_path / "board.png").exists() and (tmp_path / "board.json").exists()
    assert (tmp_path / "all.csv").read_text().startswith(SCORES.strip())


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("zoo plot {run} --data lhco_sim_test --out new --kind nonsense", "score kind 'nonsense'"),
        ("zoo plot nowhere --out new", "expected a run directory"),
        ("zoo plot {run} --data nothing.h5 --out new", "nothing.h5"),
        ("zoo leaderboard nothing.csv", "nothing.csv"),
        ("zoo leaderboard {run}/config.json", "config.json"),
        ("zoo evaluate {run} --data lhco_sim_test --kind nonsense", "score kind 'nonsense'"),
        ("zoo train vae --data lhco_sim_train --out new --set members=0", "members=0"),
        ("zoo train vae --data lhco_sim_train --out new --set members=2 --set alpha=[1,[2]]", "alpha"),
        ("zoo train vae --data lhco_sim_train --out new --set seed=99999999999999999999", "seed"),
        ("zoo train vae --data lhco_sim_train --out new --set alpha=1,2", "alpha"),
        ("zoo train vae --data lhco_sim_train --out new --set members=3 --set alpha=1,2", "alpha"),
        ("zoo train vae --data lhco_sim_train --out new --set columns=tau9_heavy", "tau9_heavy"),
    ],
)
def test_wrong_judging_and_grouping_end_in_one_line(line, reason, group, command, tmp_path):
    code, out, err = command(line.format(run=group[0]))
    assert code == 2 and out == "" and err.count("\n") == 1 and reason in err, err
    assert not (tmp_path / "new").exists()


def test_export_gives_the_scores_that_score_gives(trained, output, tmp_path):
    assert "serving_default" in output(f"zoo export {trained} --out served")
    events = pipelines.open("lhco_sim_test")
    model = zoo.load(trained)
    served = tf.saved_model.load(tmp_path / "served").signatures["serving_default"]
    found = served(features=tf.constant(events.read("features", model.resolved_columns)))
    np.testing.assert_allclose(found["score"], model.score(events), rtol=1e-6)


def test_a_diverged_training_is_said_and_its_scores_are_refused(command, output):
    code, out, err = command(f"zoo train {QUICK} --data lhco_sim_test --out run --json --set learning_rate=1e30")
    assert code == 0 and None in json.loads(out)["last_epoch"].values()
    assert "Warning: the last losses are not numbers" in err
    for line in ("zoo score run --out s.h5 --data lhco_sim_test", "zoo evaluate run --data lhco_sim_test --json"):
        code, out, err = command(line)
        assert (code, out) == (2, "") and "the training diverged" in err and len(err.splitlines()) == 1


# -- data ------------------------------------------------------------------------------------------------


def test_info_says_what_an_events_file_holds(output):
    found = json.loads(output("zoo data info lhco_sim_test --json"))
    assert found["events"] == 6000 and len(found["columns"]) == 47 and found["mass"]["column"] == "mj1j2"
    assert found["labels"] == {"0 background": 4000, "1 two-prong": 1000, "2 three-prong": 1000}
    assert "events: 6000" in output("zoo data info lhco_sim_test")


def test_info_of_raw_hadrons_says_what_to_do_with_them(output):
    assert json.loads(output("zoo data info lhco_rnd_real --json"))["events"] == 1000
    assert "zoo data cluster" in output("zoo data info lhco_rnd_real")


def test_raw_hadrons_are_clustered_and_told_in_one_line(output, tmp_path):
    assert output("zoo data cluster lhco_rnd_real events.h5") == "events.h5: 1000 events\n"
    assert len(pipelines.open(tmp_path / "events.h5")) == 1000


def test_a_table_is_converted_with_the_mass_that_is_named(output, tmp_path):
    with h5py.File(tmp_path / "table.h5", "w") as file:
        file["features"] = np.array([[1.0, 3000.0], [2.0, 6000.0], [3.0, 3500.0]])
        file["features"].attrs["columns"] = ["pt_1", "mjj"]
    told = output("zoo data convert table.h5 out.h5 --mass mjj --mass-range 2700 5000").splitlines()
    assert told[:3] == ["out.h5: 2 events", "  3 rows read", "  1 outside the mass range"]
    assert told[3:] == ["  features: pt_1", "  mass: mjj"]
    assert pipelines.open(tmp_path / "out.h5").mass.tolist() == [3000.0, 3500.0]


def test_split_draws_a_training_sample_without_labels_and_keeps_the_rest(output, tmp_path):
    output("zoo data split lhco_sim_test train.h5 rest.h5 --events 1500 --label 0 --seed 3")
    first, rest = pipelines.open(tmp_path / "train.h5"), pipelines.open(tmp_path / "rest.h5")
    assert len(first) == 1500 and not first.has_labels
    assert np.bincount(rest.label).tolist() == [2500, 1000, 1000]
    whole = np.sort(np.r_[first.mass, rest.mass])
    np.testing.assert_array_equal(whole, np.sort(pipelines.open("lhco_sim_test").mass))


# -- tuning ------------------------------------------------------------------------------------------------


def test_tune_in_words_shows_the_plan_every_trial_and_a_table(command, tmp_path):
    line = "tune --trials 3 --max-epochs 2 --factor 2 --model linear --set units=2 --no-xla --out search"
    with registered():  # a model that is quick to trace
        code, out, err = command(f"{line} --mass-range 2700 3200")
    assert code == 0, err
    assert "No --data given: tuning on the embedded sample lhco_sim_train" in err
    assert "Plan: 3 trials" in err and "(3/3)" in err
    assert "Best of 3 trials by reconstruction+10*sculpting (no labels used)" in out
    assert "Best: search/best" in out and (tmp_path / "search" / "best" / "config.json").exists()
    assert max(map(len, out.splitlines())) <= 120


TUNE_COMMAND = f"--trials 2 --max-epochs 2 --factor 2 {TUNE} --data lhco_sim_test --out search"


@pytest.mark.parametrize(
    "line, how",
    [
        (f"zoo train gan_ae --data lhco_sim_test --out run {SHORT}", " with --resume"),
        (f"tune --out search --data lhco_sim_test {TUNE}", " with --resume"),
        ("zoo data cluster lhco_rnd_real events.h5", ""),
        ("zoo score {run} --data lhco_sim_test --out scores.h5", None),
    ],
)
def test_ctrl_c_says_how_to_go_on_where_one_can(line, how, command, trained, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo.AnomalyModel, "fit", interrupted)
    monkeypatch.setattr(zoo.AnomalyModel, "score", interrupted)
    monkeypatch.setattr("pipelines.datasets.lhco._cluster", interrupted)
    code, out, err = command(line.format(run=trained))
    advice = "" if how is None else f" What is finished is kept; the same command{how} goes on."
    assert (code, out, err.splitlines()[-1]) == (130, "", f"Interrupted.{advice}")


@pytest.mark.slow
def test_tune_is_interrupted_and_resumed_by_hand(tmp_path):
    """Ctrl-C in a terminal: exit code 130 and how to go on; then one JSON document, an export, no trial lost."""
    code = [sys.executable, "-c", "from tuning.cli import main; main()", *TUNE_COMMAND.split(), "--export", "served"]
    terminal, child_end = pty.openpty()
    process = subprocess.Popen(code, cwd=tmp_path, stdout=child_end, stderr=child_end, start_new_session=True)
    os.close(child_end)
    shown = _read(terminal, until=b"trial 0000, bracket 0 ")  # it is traced, which takes seconds
    assert b"trial 0000, bracket 0 " in shown, shown.decode()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    shown += _read(terminal)
    assert process.wait(60) == 130, shown.decode()
    assert b"Interrupted. What is finished is kept; the same command with --resume goes on." in shown
    assert b"Traceback" not in shown
    done = subprocess.run([*code, "--resume", "--json"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["trials"]) == 2 and found["best"] == found["trials"][0]
    assert (tmp_path / "served" / "saved_model.pb").exists()


def _read(terminal, until=None):
    """Return what a terminal shows, to the end, or until it has shown some text."""
    shown = b""
    while until is None or until not in shown:
        try:
            more = os.read(terminal, 65536)
        except OSError:  # Linux tells the end of a terminal so
            return shown
        if not more:
            return shown
        shown += more
    return shown


class _Broken:
    """A model whose scores of some rows are not finite."""

    takes, members, zoo_name, score_kinds = "features", 1, "broken", ("loss",)
    data_kind = "events"

    def __init__(self, rows):
        self.rows = rows

    def require(self, data_kind, where):
        assert data_kind == self.data_kind

    def score(self, events, kind=None, per_member=False):
        found = np.arange(len(events), dtype=np.float32)
        found[self.rows] = np.nan
        return found[None]


def test_scores_of_single_events_far_off_are_told_and_the_others_written(command, monkeypatch):
    monkeypatch.setattr("zoo.cli.main.check_run", lambda run: None)
    monkeypatch.setattr("zoo.run.load", lambda run: _Broken([5, 7]))
    code, _, err = command("zoo score run --data lhco_sim_test --out scores.h5")
    assert code == 0 and "2 of 6000 scores are NaN or infinite, rows 5, 7 (from 0)" in err and "training" not in err
    with h5py.File("scores.h5") as file:
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(file["score"][:])), [5, 7])


def test_a_model_without_scores_is_blamed_itself(command, monkeypatch):
    monkeypatch.setattr("zoo.cli.main.check_run", lambda run: None)
    monkeypatch.setattr("zoo.run.load", lambda run: _Broken(slice(0, 5000)))
    code, _, err = command("zoo score run --data lhco_sim_test --out scores.h5")
    assert code == 2 and "training diverged" in err and not os.path.exists("scores.h5")
