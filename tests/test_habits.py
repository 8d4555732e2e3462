"""What a shell expects of a command: completion and versions."""

import csv
import io
import logging
import os
import re
import subprocess
import sys
import time
import types
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

import zoo
from pipelines import InputError
from tuning.listener import SearchListener
from tuning.objectives import Objective
from tuning.tensorboard import TensorBoard
from zoo.cli import terminal
from zoo.cli.terminal import progress
from zoo.tensorboard import Scalars

ROOT = Path(__file__).resolve().parent.parent

START = "import sys; sys.argv[0] = '{0}'; from {1} import main; main(prog_name='{0}')"
COMMANDS = {"zoo": "zoo.cli.main", "tune": "tuning.cli"}


def run(command, *words, **environment):
    code = START.format(command, COMMANDS[command])
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True,
                          env={**os.environ, **environment})  # fmt: skip


@pytest.mark.parametrize("command, words, expected", [
    ("zoo", "zoo exp", {"explain", "export"}), ("zoo", "zoo export --for", {"--format"}), ("tune", "tune comp", {"compare"}),
    ("zoo", "zoo export --format ", {"savedmodel", "keras", "onnx"}),
    ("zoo", "zoo show vae", {"vae", "vae/lhco_sim"}), ("tune", "tune --model conv", {"conv_vae"}),
])  # fmt: skip
def test_shells_complete_commands_and_options(command, words, expected, tmp_path):
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    if "vae" in words or "conv" in words:  # names are completed once a command has looked at the models
        run("zoo", "list", **cache)
    parts = words.split(" ")
    asked = {f"_{command.upper()}_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(parts) - 1)}
    done = run(command, **asked, **cache)
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == expected, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(command, shell):
    done = run(command, **{f"_{command.upper()}_COMPLETE": f"{shell}_source"})
    if shell == "bash" and "Couldn't detect Bash version" in done.stderr:
        pytest.skip("bash is not installed")
    assert f"_{command.upper()}_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_its_version(command):
    assert run(command, "--version").stdout.split()[-1] == metadata.version("hep-anomaly-zoo")


class Terminal(io.StringIO):
    """A terminal that knows colours."""

    def isatty(self):
        return True


def coloured(text):
    return re.findall(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|9[0-7])[0-9;]*m", text)


@pytest.fixture(params=["", "1"], ids=["colours", "NO_COLOR"])
def no_color(request, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", request.param)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return request.param


def test_progress_has_no_colours_where_they_are_not_wanted(no_color, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress("converting") as advance:
        advance(1, 2)
        time.sleep(0.2)
    text = sys.stderr.getvalue()
    assert "converting" in text and bool(coloured(text)) == (not no_color)


def test_tables_and_the_display_of_a_search_have_no_colours(no_color, tmp_path, monkeypatch):
    from rich.console import Console
    from searched import write_search

    from tuning.display import _Display
    from tuning.listener import Plan
    from tuning.results import load_results
    from tuning.table import table

    results = load_results(write_search(tmp_path / "s", 6))
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    shown = _Display(results.parsed, ["a notice"], Console(file=stream, width=100))
    shown.planned(Plan([], 1))
    text = stream.getvalue() + table(results)
    assert "a notice" in text and "Best of 6 trials" in text and not coloured(text)


# -- what modules log -----------------------------------------------------------------------------------------


def shown_by(command, monkeypatch, level=None):
    """Return what a command of ours shows on stderr, and its exit code."""
    monkeypatch.setenv("ZOO_LOG", level or "")
    done = CliRunner().invoke(terminal.Command("one", callback=command), [], prog_name="one")
    return done.stderr, done.exit_code


@pytest.mark.parametrize("level, expected", [
    (None, "Warning: no locks\n"), ("error", ""), ("info", "Info: 3 chunks\nWarning: no locks\n"),
])  # fmt: skip
def test_commands_show_what_modules_log(level, expected, monkeypatch):
    def work():
        logging.getLogger("pipelines.jobs.chunks").info("%d chunks", 3)
        logging.getLogger("zoo.run").debug("nothing")
        logging.getLogger("pipelines.locks").warning("no locks")
        logging.getLogger("somebody.else").warning("not ours")

    assert shown_by(work, monkeypatch, level) == (expected, 0)
    for name in terminal.LOGGERS:
        logger = logging.getLogger(name)
        assert not [one for one in logger.handlers if isinstance(one, terminal.Messages)] and logger.level == 0


def test_a_level_that_there_is_not_is_one_line(monkeypatch):
    told, code = shown_by(lambda: None, monkeypatch, "loud")
    assert (
        code == 2 and told == "Error: ZOO_LOG=loud: no level of messages; expected one of debug, info, warning, error\n"
    )


def test_every_logger_has_the_name_of_its_module():
    for package in terminal.LOGGERS:
        for path in (ROOT / package).rglob("*.py"):
            for line in path.read_text().splitlines():
                assert not line.startswith("log = ") or line == "log = logging.getLogger(__name__)", path


# -- TensorBoard ----------------------------------------------------------------------------------------------


def scalars(folder):
    """Return the scalars of a folder of TensorBoard: values by step, by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder)).Reload()
    return {
        name: {one.step: float(np.ravel(tf.make_ndarray(one.tensor_proto))[0]) for one in found.Tensors(name)}
        for name in found.Tags()["tensors"]
        if name not in ("hyperparameters", "_hparams_/session_start_info") and not name.startswith("_hparams_")
    }


def test_a_training_is_written_for_tensorboard(train_events, tmp_path):
    given = {"columns": ["mass_1", "mass_2", "tau21_1"], "encoder_units": (2,), "batch_size": 500}
    options = {"hyperparameters": given, "epochs": 2, "verbose": 0, "jit_compile": False}
    zoo.train("ae", train_events, tmp_path / "run", tensorboard=tmp_path / "board", **options)
    with open(tmp_path / "run" / "history.csv") as file:
        history = list(csv.DictReader(file))
    found = scalars(tmp_path / "board")
    assert found["training/loss"] == pytest.approx({int(row["epoch"]) + 1: float(row["loss"]) for row in history})
    with pytest.raises(InputError, match="board: exists already"):
        zoo.train("ae", train_events, tmp_path / "other", tensorboard=tmp_path / "board", **options)
    assert not (tmp_path / "other").exists()
    for place in ("new", "new/board"):
        with pytest.raises(InputError, match="name two folders beside each other"):
            zoo.train("ae", train_events, tmp_path / "new", tensorboard=tmp_path / place, **options)
    assert not (tmp_path / "new").exists()


def test_phases_before_an_interruption_are_written_for_tensorboard_too(tmp_path):
    model = types.SimpleNamespace(
        main_phase=1, recipe=lambda: [types.SimpleNamespace(name=n) for n in ("density", "training")]
    )
    model.get_config = dict
    board = Scalars(tmp_path / "board", model)
    assert not (tmp_path / "board").exists()  # before there is a number
    board.on_epoch_end(0, {"loss": 1.0})
    rows = [{"phase": "density", "epoch": 0, "nll": 3.0}, {"phase": "training", "epoch": 0, "loss": 1.0}]
    board.finish(rows)
    board.close()
    assert scalars(tmp_path / "board") == {"density/nll": {1: 3.0}, "training/loss": {1: 1.0}}


def test_what_labels_judged_is_marked_for_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    board = TensorBoard(tmp_path / "board", objective=Objective.parse("auc:1"))
    board.epoch("0000", 1, "here", {"loss": 1.0})
    found = EventAccumulator(str(tmp_path / "board")).Reload().SummaryMetadata("_hparams_/experiment")
    experiment = plugin_data_pb2.HParamsPluginData.FromString(found.plugin_data.content).experiment
    assert [one.display_name for one in experiment.metric_infos] == ["objective (TRUTH USED)", "1-auc:1 (TRUTH USED)"]


def test_a_search_is_written_for_tensorboard_while_it_runs(tmp_path):
    told = []

    class Ear(SearchListener):
        def ended(self, record, finished):
            told.append((record["trial"], finished))

    board = TensorBoard(tmp_path / "board", Ear())
    record = {"trial": "0003", "status": "COMPLETED", "objective": 0.5, "metrics": {"reconstruction": 0.5, "stability": None},
              "hyperparameters": {"units": [64, 64], "alpha": 3.0}, "epochs": 2}  # fmt: skip
    for epoch, loss in ((1, 3.0), (2, 2.5)):
        board.epoch("0003", epoch, "here", {"loss": loss, "val_loss": None})
    assert scalars(tmp_path / "board" / "0003") == {"epoch/loss": {1: 3.0, 2: 2.5}}  # before the trial has ended
    board.ended(record, 1)
    assert scalars(tmp_path / "board" / "0003") == {
        "epoch/loss": {1: 3.0, 2: 2.5}, "objective": {2: 0.5}, "reconstruction": {2: 0.5}
    }  # fmt: skip
    assert told == [("0003", 1)]
    with pytest.raises(InputError, match="board: exists already"):
        TensorBoard(tmp_path / "board")
    TensorBoard(tmp_path / "board", resume=True)
