"""Whenever a command is killed, the same line goes on or begins anew, and nothing is left over."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pipelines

FEW, POINTS = 24, 60  # at most, evenly spread
RUN = "train linear --data a.csv --convert mass=mjj --set columns=* --epochs 2 --no-xla --workers 1 --out run"
HUNT = (
    "--toys 20 --percentile 80 --bins 10 --widths 1 2 --tails upper --mass-range 2000 6000 --data lhco_sim_test --out h"
)
HUNT_TABLE = "--toys 20 --percentile 50 --bins 10 --widths 1 2 --tails upper --mass-range 2000 3000 --data a.csv --mass mjj --out h"
FAST = {
    "split": "zoo data split good.h5 first.h5 rest.h5 --events 100",
    "convert": "zoo data convert a.csv o.h5 --mass mjj --workers 1",
}
SLOW = {
    "cluster": "zoo data cluster lhco_rnd_real o.h5 --workers 1",
    "simulate": "zoo data simulate lhco_blackbox box.h5 --events 5 --workers 1",
    "train": f"zoo {RUN} --score --resume",
    "score": "zoo score there --data good.h5 --out o.h5",
    "plot": "zoo plot there --out figures",
    "export": "zoo export there --out served",
    "hunt": f"zoo hunt there {HUNT}",
    "folds": f"zoo hunt linear --folds 2 --epochs 1 --no-xla --resume {HUNT}",
    "folds of a table": f"zoo hunt linear --folds 2 --set columns=* --epochs 1 --no-xla --resume {HUNT_TABLE}",
    "hunt of a table": f"zoo hunt on_table {HUNT_TABLE}",
    "tune on a table": "tune --model linear --trials 2 --max-epochs 1 --data a.csv --mass mjj --set columns=* --set units=2 "
    "--no-xla --resume --workers 1 --out s",
    "tune": "tune --model linear --trials 3 --max-epochs 2 --factor 2 --data good.h5 --set units=2 --no-xla --resume --out s",
}
CASES = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A folder with events, a table, and a run of the model of the tests."""
    folder = tmp_path_factory.mktemp("given")
    pipelines.open("lhco_sim_train").sample(600).write(folder / "good.h5")
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.uniform(2000, 3000, 300), rng.normal(size=(300, 3))]).tolist()
    (folder / "a.csv").write_text("mjj,a,b,c\n" + "".join(",".join(map(repr, row)) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def given_run(given):
    import linear_model

    import zoo

    if not (given / "there").is_dir():
        with linear_model.registered():
            zoo.train("linear", given / "good.h5", given / "there", epochs=1, jit_compile=False, verbose=0)
            events = pipelines.open(given / "a.csv", mass="mjj")
            zoo.train(
                "linear",
                events,
                given / "on_table",
                epochs=1,
                hyperparameters={"columns": "*"},
                jit_compile=False,
                verbose=0,
            )
    return given


@pytest.mark.parametrize("name", CASES)
def test_a_command_that_is_killed_goes_on_or_begins_anew(name, given, request):
    program, *words = {**FAST, **SLOW}[name].split()
    if name == "simulate":
        pytest.importorskip("pythia8mc")
    if {"there", "on_table"} & set(words):
        request.getfixturevalue("given_run")
    asked = {"program": program, "words": words, "folder": str(given), "points": FEW if name in FAST else POINTS}
    line = [sys.executable, str(Path(__file__).with_name("crash.py")), json.dumps(asked)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["points"] > 5 and found["wrong"] == [], found
