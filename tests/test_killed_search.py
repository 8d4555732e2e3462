"""A search that is killed wherever it is, and started again by the same line, finds what an undisturbed one finds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pipelines
from zoo.run import read_state

LINE = "--max-epochs 4 --factor 2 --data good.h5 --no-xla --resume --out s"
CASES = {
    "a program for every size": f"tune --model linear --trials 9 {LINE}",
    "one program for all sizes": f"tune --model vae --trials 5 --set flow=none --set batch_size=100 --set decoder_epochs=0 --set latent_dim=1 {LINE}",
}
ROUNDS = {"a program for every size": 3, "one program for all sizes": 2}


def found(folder):
    """What a search found: the records of its trials without the time they took, and their weights."""
    trials = Path(folder) / "s" / "trials"
    records, states = {}, {}
    for path in sorted(trials.glob("*.json")):
        if path.stem.isdigit():
            record = json.loads(path.read_text())
            records[path.stem] = {name: value for name, value in record.items() if not name.endswith("seconds")}
            states[path.stem] = read_state(path.with_suffix(".h5"))
    return records, states


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_search_killed_at_random_places_finds_what_an_undisturbed_one_finds(case, tmp_path):
    given, runs = tmp_path / "given", tmp_path / "runs"
    for folder in (given, runs):
        folder.mkdir()
    pipelines.open("lhco_sim_train").sample(600).write(given / "good.h5")
    program, *words = CASES[case].split()
    asked = {"program": program, "words": words, "folder": str(given), "kills": 3, "rounds": ROUNDS[case]}
    line = [sys.executable, str(Path(__file__).with_name("crash.py")), json.dumps(asked)]
    done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(runs)})
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    records, states = found(told["undisturbed"])
    assert len(records) == int(words[words.index("--trials") + 1])
    assert {record["status"] for record in records.values()} == {"COMPLETED"}
    cut = 0
    for one in told["killed"]:
        again, theirs = found(one["folder"])
        assert again == records, one
        for trial, state in states.items():
            assert all((theirs[trial][name] == value).all() for name, value in state.items()), (trial, one)
        cut += any(0 < left < len(records) for left in one["records"])
    assert cut, told  # else every kill came before the first trial or after the last
