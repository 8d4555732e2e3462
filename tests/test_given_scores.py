"""Hunting in scores that one already has: `zoo.hunt(scores=...)` and `zoo hunt --scores FILE`."""

import json

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import pipelines
import zoo
import zoo.cli.main
from pipelines import InputError
from pipelines.bumphunt.given_scores import GivenScores

EVENTS = pipelines.open("lhco_sim_test")
HEAVY = EVENTS.read("features", ["mass_1", "mass_2"]).sum(axis=1)
OPTIONS = {"mass_range": (2700, 5000), "percentiles": 80, "widths": (1, 4), "bins": 20, "pseudo_experiments": 50}


class Heavy:
    def score(self, events):
        return events.read("features", ["mass_1", "mass_2"]).sum(axis=1)


def test_given_scores_give_what_a_model_with_these_scores_gives():
    by_model = pipelines.search(Heavy(), EVENTS, **OPTIONS)
    for scores in (HEAVY, list(HEAVY)):
        found = zoo.hunt(scores=scores, events=EVENTS, **OPTIONS)
        assert found.hunt.to_dict() == by_model.hunt.to_dict()
        np.testing.assert_array_equal(found.scores, by_model.scores)
    assert 0 < len(found.scores) < len(HEAVY)  # of the events within the range only
    assert found.configuration["model"] == "given scores"


@pytest.mark.parametrize("ending", ["npy", "csv", "txt", "h5"])
def test_command_reads_scores_of_every_kind_of_file(tmp_path, ending):
    path = tmp_path / f"scores.{ending}"
    if ending == "npy":
        np.save(path, HEAVY)
    elif ending == "h5":
        with h5py.File(path, "w") as file:
            file["score"] = HEAVY
    else:
        path.write_text("score\n" * (ending == "csv") + "\n".join(map(repr, HEAVY.tolist())) + "\n")
    np.testing.assert_array_equal(GivenScores.from_file(path).scores, HEAVY)
    if ending != "csv":
        return
    line = f"hunt --scores {path} --data lhco_sim_test --out {tmp_path}/out --percentile 80 --toys 50 --bins 20 --json"
    line += " --mass-range 2700 5000 --widths 1 4"
    done = CliRunner().invoke(zoo.cli.main.main, line.split())
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    in_python = pipelines.search(HEAVY, EVENTS, **OPTIONS).summary()
    assert {name: printed[name] for name in in_python} == json.loads(json.dumps(in_python))
    assert set(printed) - set(in_python) == {"out", "limit", "warnings"}
    assert json.loads((tmp_path / "out/search.json").read_text())["configuration"]["model"] == str(path)


@pytest.mark.parametrize(
    "scores, message",
    [
        (HEAVY[:-1], f"{len(HEAVY) - 1} scores for {len(HEAVY)} events"),
        (np.where(np.arange(len(HEAVY)) % 7, HEAVY, np.nan), "scores are NaN or infinite"),
        (np.stack([HEAVY, HEAVY]), "expected .N,., one score for each event"),
        (["a"] * len(HEAVY), "no array of numbers"),
        ("nosuch.csv", "nosuch.csv: no such file"),
    ],
)
def test_scores_that_cannot_be_are_refused(scores, message):
    with pytest.raises(InputError, match=message):
        zoo.hunt(scores=scores, events=EVENTS, **OPTIONS)


def test_damaged_files_of_scores_are_named(tmp_path):
    (tmp_path / "words.csv").write_text("score\n0.5\nhigh\n")
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY no")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["mass"] = [1.0]
    for name, message in {"words.csv": "high", "bad.npy": "no NumPy array", "other.h5": "no dataset 'score'"}.items():
        with pytest.raises(InputError, match=message) as error:
            GivenScores.from_file(tmp_path / name)
        assert name in str(error.value)


@pytest.mark.parametrize(
    "more, message",
    [
        ({"run": "vae"}, "run: .* with scores"),
        ({"train": True}, "train: .* with scores"),
        ({"score_kind": "kl"}, "score_kind: .* with scores"),
    ],
)
def test_scores_and_a_model_are_two_answers(more, message):
    with pytest.raises(InputError, match=message):
        zoo.hunt(scores=HEAVY, events=EVENTS, **more)


def test_nothing_to_score_with_is_said():
    with pytest.raises(InputError, match="give run, a run directory, or scores"):
        zoo.hunt(events=EVENTS)
    with pytest.raises(TypeError, match="needs events"):
        zoo.hunt("run")


def test_what_a_killed_training_left_beside_a_run_is_not_copied_into_a_search(tmp_path, monkeypatch):
    from pipelines.bumphunt import write as writing

    monkeypatch.setattr(writing, "write_report", lambda folder, search: None)
    runs = tmp_path / ".h.search"
    (runs / "fold-0").mkdir(parents=True)
    (runs / ".fold-0.lock").touch()
    found = zoo.hunt(scores=HEAVY, events=EVENTS, **OPTIONS)
    writing.write(found, tmp_path / "h", runs)
    assert [path.name for path in (tmp_path / "h" / "runs").iterdir()] == ["fold-0"]


def test_terminal_and_json_warn_of_a_score_that_shapes_the_mass_as_the_report_does(tmp_path):
    rng = np.random.default_rng(0)
    line = [
        "--data",
        "lhco_sim_test",
        "--percentile",
        "80",
        "--toys",
        "50",
        "--bins",
        "20",
        "--mass-range",
        "2700",
        "5000",
        "--widths",
        "1",
        "4",
        "--cut",
        "global",
    ]
    said = {}
    for name, scores in {
        "mass": EVENTS.mass + 800 * rng.normal(size=len(HEAVY)),
        "chance": rng.random(len(HEAVY)),
    }.items():
        np.save(tmp_path / f"{name}.npy", scores)
        for form in ("text", "--json"):
            words = ["hunt", "--scores", tmp_path / f"{name}.npy", "--out", tmp_path / f"{name}{form}", *line]
            words = [str(word) for word in words] + ["--json"] * (form == "--json")
            done = CliRunner().invoke(zoo.cli.main.main, words)
            assert done.exit_code == 0, done.output
            said[name, form] = done.stdout
        assert (tmp_path / f"{name}text/report.html").exists()
    warnings = json.loads(said["mass", "--json"])["warnings"]
    assert len(warnings) == 2 and "assumes that the score of background does not depend on the mass" in warnings[0]
    assert "more than statistics can explain" in warnings[1]
    assert all(f"Warning: {warning}" in said["mass", "text"] for warning in warnings)
    assert json.loads(said["mass", "--json"])["believed"]["cut"] == "mass"
    assert "more than statistics can explain" in (tmp_path / "masstext/report.html").read_text()
    assert json.loads(said["chance", "--json"])["warnings"] == [] and "Warning" not in said["chance", "text"]
