"""What a search shows: on a terminal lines that are written anew and leave nothing behind, else a line for every trial."""

import errno
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import textwrap

import pytest
from rich.console import Console

from tuning.display import BAR, Countdown, Pace, _Display, bar, duration
from tuning.hyperband import Bracket, Round, plan
from tuning.listener import Plan
from tuning.objectives import Objective


def display(objective="reconstruction", terminal=True, notices=(), workers=1, done=(), brackets=None):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=160, color_system=None)
    shown = _Display(Objective.parse(objective), list(notices), console)
    shown.planned(Plan(brackets or plan(13, 9, 3), workers, list(done)))
    return shown


def record(trial, objective=None, **about):
    metrics = {} if objective is None else {"reconstruction": objective, "objective": objective}
    return {"trial": trial, "status": "FAILED" if objective is None else "COMPLETED", "objective": objective,
            "metrics": metrics, "hyperparameters": {}, "bracket": 2, "initial_epoch": 0, "epochs": 1, "seconds": 10.0,
            "message": "MemoryError: none" if objective is None else None, **about}  # fmt: skip


def told(shown):
    return shown.console.file.getvalue()


# -- on a terminal -----------------------------------------------------------------------------------------


def test_every_trial_that_runs_has_a_line_below_the_whole_search_and_the_best():
    shown = display("reconstruction+auc:1", workers=2)
    assert "TRUTH USED" in told(shown) and "bracket 2: 9 to epoch 1" in told(shown)
    assert shown.lines(24)[-1] == "  waiting for workers"
    shown.begun("00", range(1), "tcp://127.0.0.1:40111", 2)
    shown.begun("01", range(1, 3), "tcp://127.0.0.1:40222", 1)
    shown.epoch("01", 2, "tcp://127.0.0.1:40222", {"loss": 3.0, "val_loss": 2.5})
    total, best, first, second = shown.lines(24)
    assert total == f"trials {bar(0, 13)}  0/13" and best == "none completed yet"
    assert first == f"  trial 00, bracket 2 on worker 1  {bar(0, 1)} epoch 0/1"
    assert second == f"  trial 01, bracket 1 on worker 2  {bar(2, 3)} epoch 2/3, loss 2.5"


def test_brackets_that_are_alike_are_one_line_of_the_plan():
    shown = display(brackets=plan(60, 3, 3))
    lines = told(shown).splitlines()
    assert lines[0].startswith("Plan: 60 trials") and len(lines) < 6
    assert "  bracket 1: 3 to epoch 1, best 1 to epoch 3 (10 times)" in lines


def test_the_line_of_a_trial_goes_when_it_ends_and_is_not_doubled_when_another_worker_gets_it():
    shown = display(workers=2)
    shown.begun("00", range(1), "one"), shown.begun("00", range(1), "two")
    assert [line for line in shown.lines(24) if "trial 00" in line] == [
        f"  trial 00, bracket 0 on worker 2  {bar(0, 1)} epoch 0/1"
    ]
    shown.ended(record("00", 0.5), 1)
    assert shown.lines(24)[1:] == ["best 0.5000 (trial 00: reconstruction 0.5)", "  starting"]
    assert "trial 00" not in told(shown)  # those that ended well need no line of their own


def test_a_trial_that_failed_says_why_and_is_never_the_best():
    shown = display()
    shown.ended(record("00", 0.5), 1), shown.ended(record("01"), 2)
    assert "trial 01 has failed: MemoryError: none" in told(shown)
    assert shown.lines(24)[1] == "best 0.5000 (trial 00: reconstruction 0.5)"


def test_the_best_of_several_figures_of_merit_is_the_knee_with_all_of_them():
    shown = display("pareto:reconstruction,sculpting")
    shown.ended(record("00", 0.5, metrics={"reconstruction": 0.5, "sculpting": 0.03, "objective": 0.5}), 1)
    assert shown.lines(24)[1] == "knee: trial 00 (reconstruction 0.5, sculpting 0.03)"


def test_no_more_lines_are_shown_than_a_terminal_has():
    shown = display(workers=40, brackets=plan(100, 9, 3))
    for number in range(40):
        shown.begun(f"{number:02d}", range(1), f"tcp://{number}")
    lines = shown.lines(12)
    assert len(lines) <= 12 and lines[-1] == "  and 32 more" and sum("on worker" in line for line in lines) == 8


@pytest.mark.parametrize("width", [20, 40, 80])
def test_no_line_is_wider_than_the_terminal(width):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    shown = _Display(Objective.parse("pareto:reconstruction,sculpting,stability"), [], console)
    shown.planned(Plan(plan(13, 9, 3), 2))
    metrics = {"reconstruction": 1 / 3, "sculpting": 1 / 3, "stability": 1 / 3, "objective": 1.0}
    shown.ended(record("00", 1.0, metrics=metrics), 1)
    shown.begun("01", range(9), "one"), shown.epoch("01", 3, "one", {"loss": 12345.678})
    with console.capture() as captured:
        console.print(shown)
    lines = captured.get().splitlines()
    assert len(lines) == 3 and max(map(len, lines)) <= width


def test_a_search_that_goes_on_counts_what_is_done():
    done = [record(str(number), 2.0 - number) for number in range(2)]
    shown = display(done=done, notices=["A notice."])
    assert "A notice." in told(shown) and "2 trials are done already." in told(shown)
    assert shown.lines(24)[0].startswith(f"trials {bar(2, 13)}  2/13") and "best 1.0000 (trial 1" in shown.lines(24)[1]


def test_at_the_end_nothing_is_left_and_what_is_done_is_said():
    shown = display(brackets=[Bracket(0, (Round(3, 1),))])
    for number in range(3):
        shown.ended(record(str(number), 1.0), number + 1)
    total, best = shown.lines(24)
    assert total == f"trials {'━' * BAR} 3/3" and best.endswith("; writing it")


# -- elsewhere ---------------------------------------------------------------------------------------------


def test_without_a_terminal_every_trial_has_a_line_of_one_line():
    shown = display(terminal=False)
    shown.ended(record("00", 0.5), 1), shown.ended(record("01"), 2)
    first, second = told(shown).splitlines()[-2:]
    assert first.startswith("trial 00 (1/13): bracket 2, epoch 1, objective 0.5000; best 0.5000 (trial 00)")
    assert second.startswith("trial 01 (2/13)") and "MemoryError: none" in second


# -- times -------------------------------------------------------------------------------------------------


def test_the_pace_is_of_the_last_epochs_and_not_of_what_came_before_the_first():
    times = iter([100.0, *(100.0 + 0.5 * tick for tick in range(1, 10))])
    pace = Pace(now=lambda: next(times))
    assert pace.text() == ""
    pace.tick()
    assert pace.text() == ""  # a hundred seconds of building are no epoch
    for _ in range(9):
        pace.tick()
    assert pace.text() == "2.0 epochs/s"


def test_time_left_passes_between_two_trials_and_never_comes_to_nothing():
    now = [0.0]
    left = Countdown(now=lambda: now[0])
    assert left.text() == ""
    left.set(100.0)
    assert left.text() == "about 1 min 40 s left"
    now[0] = 70.0
    assert left.text() == "about 30 s left"
    now[0] = 170.0
    assert left.text() == "about 1 s left"


@pytest.mark.parametrize("seconds, words", [(0, "0 s"), (59.6, "1 min"), (3600, "1 h"), (86399, "23 h 59 min")])
def test_times_are_told_in_two_words(seconds, words):
    assert duration(seconds) == words


def finished(trial, program, seconds, epochs=1, training=0.0, building=0.0):
    return {"trial": str(trial), "hyperparameters": {"width": program}, "initial_epoch": 0, "epochs": epochs,
            "seconds": seconds, "training_seconds": training, "compiling_seconds": building}  # fmt: skip


def plan_of(trials, epochs=1, workers=1):
    return Plan([Bracket(0, (Round(trials, epochs),))], workers, (), lambda hyperparameters: hyperparameters["width"])


def test_time_left_is_not_guessed_from_the_first_trial_of_a_worker():
    first = finished(0, 32, 20.0)
    assert plan_of(10).seconds_left([]) is plan_of(10).seconds_left([first]) is None
    assert plan_of(10, workers=2).seconds_left([first, first]) is None
    assert plan_of(10).seconds_left([first, finished(1, 32, 1.0)]) == pytest.approx(8 * 1.0)  # building is over


def test_time_left_counts_epochs_and_what_a_trial_costs_besides():
    done = [finished(0, 32, 20.0), *(finished(n, 32, 1.0 + 2.0 * 3, epochs=3, training=2.0 * 3) for n in (1, 2))]
    found = Plan([Bracket(0, (Round(3, 3), Round(2, 10)))], 2, (), lambda hp: hp["width"]).seconds_left(done, workers=1)
    assert found == pytest.approx(2 * 1.0 + 2.0 * (9 + 2 * 7 - 7))  # two trials, and their epochs at 2 s


def test_time_left_counts_programs_that_are_still_to_be_built():
    always = [finished(n, n, 5.0, training=1.0, building=4.0) for n in range(4)]  # every trial another program
    assert plan_of(10).seconds_left(always) == pytest.approx(6 * 5.0)
    half = [finished(n, width, 5.0 if new else 1.0, training=1.0, building=4.0 if new else 0.0)
            for n, (width, new) in enumerate([(1, True), (1, False), (2, True), (3, True)])]  # fmt: skip
    assert plan_of(8).seconds_left(half) == pytest.approx(4 * (1.0 + 4.0 * 2 / 4))  # two of four were used once


# -- in a terminal -----------------------------------------------------------------------------------------

SCRIPT = """
    import os, sys, time
    from types import SimpleNamespace
    from tuning import display as module
    from tuning.objectives import Objective
    module._listener = lambda: module._Display  # the other one needs TensorFlow, for its name only
    plan = SimpleNamespace(trials=3, epochs=3, workers=1, brackets=["bracket 0: 3 to epoch 1"], done=[],
                           seconds_left=lambda records, workers: 60.0)
    record = {"status": "COMPLETED", "objective": 0.5, "metrics": {"reconstruction": 0.5, "objective": 0.5},
              "hyperparameters": {}, "bracket": 0, "initial_epoch": 0, "epochs": 1, "seconds": 1.0, "message": None}
    try:
        with module.display(Objective.parse("reconstruction")) as shown:
            shown.planned(plan)
            shown.begun("0", range(0, 1), "here")
            time.sleep(0.5)
            os.write(2, b"I0000 00:00:1 noise of TensorFlow\\nWARNING: All log messages before absl::Init\\n")
            os.system("echo said by another process >&2")
            shown.ended({**record, "trial": "0"}, 1)
            shown.begun("1", range(0, 1), "here")
            time.sleep(0.5)
            if sys.argv[1] == "stop":
                raise KeyboardInterrupt
            shown.ended({**record, "trial": "1", "status": "FAILED", "message": "no memory"}, 2)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
    print("after", file=sys.stderr)
"""


def run(argument, columns=80):
    """Run the script in a pseudo-terminal; return all that it wrote there, escape sequences and all."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), argument]
    options = {"stdin": side, "stdout": side, "stderr": side, "env": {**os.environ, "TERM": "xterm"}}
    with subprocess.Popen(command, **options) as process:
        os.close(side)
        written = b""
        while True:
            try:
                part = os.read(main, 65536)
            except OSError as error:  # Linux says so when the last writer is gone
                assert error.errno == errno.EIO
                break
            if not part:
                break
            written += part
    os.close(main)
    assert process.returncode == 0
    return written.decode()


def screen(written, columns=80):
    """Return the lines that a terminal shows at last: the few sequences that are used here, and nothing else."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]", written):
        if token == "\r":
            column = 0
        elif token == "\n":
            row += 1
        elif token.startswith("\x1b["):
            number, kind = token[2:-1], token[-1]
            if kind == "A":
                row -= int(number or 1)
            elif kind == "K":
                lines[row] = "" if number == "2" else lines[row][:column]
            else:
                assert kind in "mhl", token  # colours, and whether the cursor is seen
        else:
            if column == columns:
                row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
            lines[row] = f"{lines[row]:<{column}}"[:column] + token + lines[row][column + 1 :]
            column += 1
        lines += [""] * (row + 1 - len(lines))
    return [line.rstrip() for line in lines if line.strip()]


@pytest.mark.parametrize("argument", ["go", "stop"])
def test_in_a_terminal_nothing_is_left_behind_of_the_lines_that_were_written_anew(argument):
    written = run(argument)
    assert "best 0.5000" in written and "noise" not in written and "absl" not in written
    shown = screen(written)
    expected = ["Plan: 3 trials, 3 epochs", "  bracket 0: 3 to epoch 1", "said by another process"]
    expected += ["Interrupted."] if argument == "stop" else ["trial 1 has failed: no memory"]
    assert shown == [*expected, "after"] and written.rstrip().endswith("after")
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")  # the cursor is back
    assert written.count("trial 0, bracket 0 ") > 1  # it was written anew
