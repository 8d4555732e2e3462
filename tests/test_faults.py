"""What nobody has foreseen is one line, and a stream that nobody reads ends no command."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import tuning.cli
import zoo.cli.data
import zoo.cli.main

LINE = "data convert x.csv o.h5 --mass mjj"
ZOO = [sys.executable, "-m", "zoo"]


@pytest.fixture
def broken(monkeypatch, tmp_path):
    """A program with a fault, told while it reads a file."""
    (tmp_path / "x.csv").write_text("mjj,x\n3000,1\n")

    def fail(*given, **options):
        raise KeyError("validator")

    monkeypatch.setattr("pipelines.datasets.convert", fail)
    monkeypatch.setattr("tuning.results.load_results", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_unforeseen_exception_is_one_line_with_a_file_of_its_traceback(broken):
    done = CliRunner().invoke(zoo.cli.main.main, LINE.split(), prog_name="zoo")
    (line,) = done.stderr.splitlines()
    assert done.exit_code == 70 and done.stdout == ""
    assert line.startswith("Error: zoo data convert: KeyError: 'validator'") and "a fault of the program" in line
    written = Path(re.search(r"the traceback is in (\S+);", line)[1])
    text = written.read_text()
    assert "Traceback (most recent call last)" in text and "KeyError: 'validator'" in text and "numpy: " in text
    assert written.parent == broken / "temporary" and written.stat().st_mode & 0o777 == 0o600


def test_the_line_names_the_file_that_was_opened_last(broken, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr("pipelines.datasets.table.check_new", lambda *_: {}["none"])
    line = f"data convert {broken}/x.csv {broken}/o.h5 --mass mjj"
    done = CliRunner().invoke(zoo.cli.main.main, line.split())
    assert done.exit_code == 70 and f"KeyError: 'none', after {broken}/x.csv was opened" in done.stderr


def test_tune_has_the_same_line(broken):
    done = CliRunner().invoke(tuning.cli.main, ["results", "s"], prog_name="tune")
    assert done.exit_code == 70 and done.stderr.startswith("Error: tune results: KeyError: 'validator'")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("how", ["option", "variable"])
def test_the_traceback_is_shown_if_asked_for(how, broken, monkeypatch):
    words = LINE.split()
    if how == "variable":
        monkeypatch.setenv("ZOO_TRACEBACK", "1")
    else:
        words = ["--traceback", *words]
    done = CliRunner().invoke(zoo.cli.main.main, words)
    lines = done.stderr.splitlines()
    assert done.exit_code == 70 and lines[0] == "Traceback (most recent call last):" and lines[-1].startswith("Error: ")
    assert "--traceback" not in CliRunner().invoke(zoo.cli.main.main, ["--help"]).output


def test_a_traceback_that_cannot_be_written_is_told(broken):
    (broken / "temporary").rmdir()
    done = CliRunner().invoke(tuning.cli.main, ["results", "s"])
    assert done.exit_code == 70 and "the traceback is in no file (No such file or directory)" in done.stderr


def test_a_message_with_a_hostile_value_is_cut_in_its_middle():
    from pipelines import InputError

    text = str(InputError(f"space.yaml: alpha is {'x' * 100_000}, expected a number"))
    assert len(text) < 2000 and text.startswith("space.yaml: alpha is xxx") and text.endswith("xxx, expected a number")


def test_the_command_can_be_called_by_its_old_name():
    from zoo.cli import main

    with pytest.warns(DeprecationWarning, match="is a module now"), pytest.raises(SystemExit) as ended:
        main(["show", "nosuch"], prog_name="zoo")
    assert ended.value.code == 2


# -- streams ------------------------------------------------------------------------------------------------


def shell(line, cwd):
    return subprocess.run(["bash", "-c", line, "bash", *ZOO], cwd=cwd, capture_output=True, text=True)


@pytest.fixture
def table(tmp_path):
    (tmp_path / "a.csv").write_text("mjj,x\n" + "3000,1\n" * 20)
    return tmp_path


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-", "2> >(exit)", "> >(exit)"])
def test_a_command_without_streams_does_its_work(closed, table):
    done = shell(f'"$@" data convert a.csv o.h5 --mass mjj {closed}', table)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert sorted(os.listdir(table)) == ["a.csv", "o.h5"]
    import pipelines

    assert len(pipelines.open(table / "o.h5")) == 20


def test_output_that_nobody_reads_ends_nothing(table):
    done = shell('"$@" list | head -n 0; echo ${PIPESTATUS[0]}', table)
    assert done.stdout == "0\n" and done.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is always full is Linux's /dev/full")
def test_results_that_do_not_arrive_are_an_error(table):
    done = shell('"$@" list > /dev/full', table)
    assert done.returncode == 2 and done.stderr == "Error: stdout: No space left on device\n"


# -- two commands at once -----------------------------------------------------------------------------------

HOLDER = (
    "import sys; from pipelines import locks\nwith locks.held(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
)


def test_a_training_that_another_process_is_at_is_not_called_interrupted(tmp_path):
    from pipelines import InputError
    from zoo.run import Checkpoint

    (tmp_path / ".run.checkpoint").mkdir()
    (tmp_path / ".run.checkpoint" / "progress.json").write_text("{}")
    line = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"another process \({other.pid} on .*\) is writing it"):
            Checkpoint.refuse(tmp_path / "run")
        other.stdin.close()
    with pytest.raises(InputError, match=r"an interrupted training is kept in .*; add resume=True"):
        Checkpoint.refuse(tmp_path / "run")
