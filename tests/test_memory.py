"""Where a process may use too little memory, it says so in one line, before a library ends it."""

import resource
import subprocess
import sys
import threading

import pytest
from click.testing import CliRunner

import zoo.cli.main
from pipelines import InputError, memory

MIB = memory.MIB


@pytest.mark.parametrize("option", ["v", "d"])
@pytest.mark.parametrize(
    ("words", "mebibytes", "what"),
    [("list", 60, "the commands need"), ("train ae --data lhco_sim_train --out run", 400, "a training needs")],
)
def test_too_low_a_limit_is_one_line_and_leaves_nothing(option, words, mebibytes, what, tmp_path):
    kind = {"v": resource.RLIMIT_AS, "d": resource.RLIMIT_DATA}[option]
    line = [sys.executable, "-m", "zoo", *words.split()]
    done = subprocess.run(
        line, capture_output=True, text=True, cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(kind, (mebibytes * MIB, mebibytes * MIB)),
    )  # fmt: skip
    (told,) = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == "" and list(tmp_path.iterdir()) == []
    assert told.startswith(
        f"Error: this process may use {mebibytes} MiB of memory (ulimit -{option} {1024 * mebibytes})"
    )
    assert what in told and "raise the limit" in told


@pytest.mark.parametrize(
    ("need", "given", "threads"),
    [
        (memory.COMMANDS, ("1", "2"), 1),
        (memory.COMMANDS, ("auto", "2"), 2),  # OpenBLAS obeys the second where the first is no number
        (memory.COMMANDS, ("", "0"), 3),
        (memory.MODELS, ("1", "1"), 3),
        (memory.TRAINING, ("1", "1"), 3),
    ],
)
def test_the_need_grows_with_the_cores(need, given, threads, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    for name, value in zip(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), given):
        monkeypatch.setenv(name, value)
    least = (need.addresses + threads * need.each_core) * MIB
    monkeypatch.setattr(memory, "limits", lambda: {"v": least})
    memory.check(need)
    monkeypatch.setattr(memory, "limits", lambda: {"v": least - 1})
    with pytest.raises(InputError, match=f"about {least // MIB:,} MiB on {threads} core"):
        memory.check(need)


def test_memory_that_runs_out_is_no_fault_of_the_program(monkeypatch, tmp_path):
    def fails(*_, **__):
        raise MemoryError

    monkeypatch.setattr("pipelines.datasets.convert", fails)
    monkeypatch.setattr(memory, "limits", lambda: {"v": 5000 * MIB})
    (tmp_path / "a.csv").write_text("mjj,x\n3000,1\n")
    words = ["data", "convert", str(tmp_path / "a.csv"), str(tmp_path / "o.h5"), "--mass", "mjj"]
    done = CliRunner().invoke(zoo.cli.main.main, words)
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1
    assert "memory ran out" in done.stderr and "5,000 MiB (ulimit -v)" in done.stderr


def test_threads_that_cannot_be_started_are_told(monkeypatch, tmp_path):
    """OpenBLAS then raises what Ctrl-C does."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    def fails(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("pipelines.datasets.convert", interrupted)
    (tmp_path / "a.csv").write_text("mjj,x\n3000,1\n")
    words = ["data", "convert", str(tmp_path / "a.csv"), str(tmp_path / "o.h5"), "--mass", "mjj"]
    assert CliRunner().invoke(zoo.cli.main.main, words).exit_code == 130
    monkeypatch.setattr(threading.Thread, "start", fails)
    done = CliRunner().invoke(zoo.cli.main.main, words)
    assert done.exit_code == 2 and "no thread can be started" in done.stderr and "ulimit -u" in done.stderr
