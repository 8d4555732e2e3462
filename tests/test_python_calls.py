"""Every command of `zoo` is one Python call: `dir(zoo)` shows them, and they find what the commands find."""

import ast
import json
import re
from pathlib import Path

import h5py
import numpy as np
import pandas
import pytest
from click.testing import CliRunner
from linear_model import Linear, registered

import pipelines
import zoo
import zoo.cli.main
from pipelines import Events, InputError, histograms
from pipelines.bumphunt.given_scores import GivenScores
from pipelines.datasets import convert
from pipelines.histograms import Histograms
from zoo.inputs import Inputs

RANGE = ["--mass-range", "2700", "5000"]
CALLS = ["bumphunt", "evaluate", "export", "hunt", "load", "plot", "scan", "score", "train", "validate"]


def output(*words):
    done = CliRunner().invoke(zoo.cli.main.main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_every_command_is_a_call_that_is_seen():
    commands = set(zoo.cli.main.main.commands) - {"list", "show", "data", "leaderboard"}
    assert commands <= set(dir(zoo)) and set(CALLS) <= set(zoo.__all__)
    for name in CALLS:
        assert getattr(zoo, name).__doc__, name


def test_commands_neither_train_nor_score_by_themselves():
    """A command parses, calls and prints: what takes models and events is imported by what it calls."""
    for path in (Path(zoo.cli.__file__).parent).glob("*.py"):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert not names & {"fit", "infer", "adapt"}, path


def options_in_messages(path):
    """Yield the lines of a module in which a message of bad input names an option of a command."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise) and node.exc is not None:
            texts = [
                one.value for one in ast.walk(node.exc) if isinstance(one, ast.Constant) and isinstance(one.value, str)
            ]
            said = re.sub("`[^`]*`", "", "".join(texts))  # whole lines for a terminal may be there
            if re.search(r"(?<![\w-])--[a-z]", said) and "in Python" not in said:
                yield node.lineno, said


def test_messages_call_arguments_as_the_user_gave_them():
    """Only the command lines write options; all else asks `pipelines.arguments` how an argument is called."""
    root = Path(zoo.__file__).parents[1]
    only_commands = {"zoo/settings.py", "pipelines/jobs/tls.py"}
    for package in ("pipelines", "zoo", "tuning"):
        for path in (root / package).rglob("*.py"):
            name = path.relative_to(root).as_posix()
            if not name.startswith(("zoo/cli/", "tuning/cli.py")) and name not in only_commands:
                assert not list(options_in_messages(path)), name


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with registered():
        out = tmp_path_factory.mktemp("calls") / "run"
        found = zoo.train(
            "linear", "lhco_sim_train", out, epochs=1, mass_range=(2700, 5000), seed=3, score=True, jit_compile=False,
            verbose=0,
        )  # fmt: skip
        yield found


def test_train_gives_what_the_command_gives(run, tmp_path):
    line = ["train", "linear", "--data", "lhco_sim_train", "--out", tmp_path / "run", *RANGE, "--seed", 3]
    printed = json.loads(output(*line, "--epochs", 1, "--score", "--no-xla", "--json"))
    assert printed["events"] == run.amount and printed["last_epoch"] == dict(run.last_epoch)
    ours, theirs = (json.loads((path / "config.json").read_text()) for path in (run.path, tmp_path / "run"))
    for name in ("model", "hyperparameters", "data", "epochs", "mass_range", "validation"):
        assert ours[name] == theirs[name]
    with h5py.File(run.scores) as one, h5py.File(tmp_path / "run/scores.h5") as other:
        np.testing.assert_array_equal(one["score"], other["score"])
    assert str(run).startswith(f"{run.path}: trained on {run.amount} events")


def test_score_of_a_run_and_of_its_model_are_those_of_the_command(run, tmp_path):
    for name in ("scores.h5", "scores.csv"):
        output("score", run.path, "--data", "lhco_sim_test", "--out", tmp_path / name)
    of_csv, of_h5 = (GivenScores.from_file(tmp_path / name) for name in ("scores.csv", "scores.h5"))
    np.testing.assert_allclose(of_csv.scores, of_h5.scores, rtol=1e-12)
    for trained in (run.path, str(run.path), zoo.load(run.path)):
        found = zoo.score(trained, "lhco_sim_test")
        with h5py.File(tmp_path / "scores.h5") as file:
            np.testing.assert_array_equal(file["score"], found.mean)
            assert file.attrs["kind"] == found.kind and len(found) == len(file["mass"])


def test_evaluate_takes_the_mass_range_of_the_run_as_the_command_does(run):
    printed = json.loads(output("evaluate", run.path, "--data", "lhco_sim_test", "--json"))
    found = zoo.evaluate(run.path, "lhco_sim_test")
    assert printed == json.loads(json.dumps(found)) and str(found) in output(
        "evaluate", run.path, "--data", "lhco_sim_test"
    )
    assert found.events.mass.min() >= 2700 and found.events.mass.max() < 5000


def test_hunt_takes_the_mass_range_of_the_run_as_the_command_does(run, tmp_path):
    line = ["hunt", run.path, "--data", "lhco_sim_test", "--out", tmp_path / "out", "--percentile", 80, "--toys", 50]
    printed = json.loads(output(*line, "--bins", 20, "--widths", 1, 4, "--json"))
    options = {"percentiles": 80, "pseudo_experiments": 50, "bins": 20, "widths": (1, 4)}
    for trained in (run.path, zoo.load(run.path)):
        found = zoo.hunt(trained, "lhco_sim_test", **options)
        summary = json.loads(json.dumps(found.summary()))
        assert {name: printed[name] for name in summary} == summary
        assert found.ranges["mass"] == (2700, 5000)


def test_training_for_a_hunt_in_memory_gives_what_the_command_writes(run, tmp_path):
    line = [
        "hunt",
        "linear",
        "--train",
        "--epochs",
        1,
        "--no-xla",
        "--data",
        "lhco_sim_test",
        "--out",
        tmp_path / "out",
    ]
    line += [*RANGE, "--percentile", 80, "--toys", 50, "--bins", 20, "--widths", 1, 4]
    printed = json.loads(output(*line, "--json"))
    found = zoo.hunt(
        "linear", "lhco_sim_test", train=True, epochs=1, jit_compile=False, mass_range=(2700, 5000), percentiles=80,
        pseudo_experiments=50, bins=20, widths=(1, 4),
    )  # fmt: skip
    assert printed["selected_events"] == found.hunt.best.selected_events
    assert printed["local_p_value"] == pytest.approx(found.hunt.best.local_p_value)


def test_validate_is_a_call_for_every_study(run):
    for name in zoo.cli.main.main.commands["validate"].commands:
        assert callable(getattr(zoo.validate, name)), name
    line = ["validate", "sculpting", run.path, "--data", "lhco_sim_test", "--json"]
    assert json.loads(output(*line)) == json.loads(json.dumps(zoo.validate.sculpting(run.path, "lhco_sim_test")))


def test_single_events_without_a_score_are_told_and_left_out(run, tmp_path, monkeypatch):
    real = Linear.score

    def score(self, events, kind=None, **options):
        found = np.array(real(self, events, kind, **options))
        found[..., [5, 7]] = np.nan
        return found

    monkeypatch.setattr(Linear, "score", score)
    done = CliRunner().invoke(
        zoo.cli.main.main, ["score", str(run.path), "--data", "lhco_sim_test", "--out", str(tmp_path / "scores.h5")]
    )
    assert done.exit_code == 0 and "rows 5, 7 (from 0)" in done.stderr
    with h5py.File(tmp_path / "scores.h5") as file:
        assert np.flatnonzero(np.isnan(file["score"][()])).tolist() == [5, 7]
    assert zoo.evaluate(run.path, "lhco_sim_test")["left_out"] == 2


def test_calls_name_what_is_wrong(run, tmp_path):
    with pytest.raises(InputError, match="exists already"):
        zoo.train("linear", "lhco_sim_train", run.path)
    histograms.write(Histograms.from_arrays(np.ones((1, 20)), np.arange(21)), tmp_path / "spectra.h5")
    with pytest.raises(InputError, match="takes events, not histograms"):
        zoo.scan(tmp_path / "spectra.h5", run.path)
    with pytest.raises(InputError, match="no such folder"):
        zoo.score(tmp_path / "nothing", "lhco_sim_test")
    with pytest.raises(InputError, match="is no model of the zoo"):
        zoo.score(object(), "lhco_sim_test")


def test_the_conversion_of_a_frame_is_given_as_to_a_training_too():
    events = pipelines.open("lhco_sim_train").sample(300)
    frame = pandas.DataFrame(events.read("features"), columns=list(events.columns)).assign(m=events.mass)
    one, other = (zoo.score("pca/lhco_sim", frame, **how) for how in ({"mass": "m"}, {"conversion": {"mass": "m"}}))
    np.testing.assert_array_equal(one.mean, other.mean)


# -- arguments of the wrong type ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few():
    return Events.from_arrays(np.ones((5, 2)), np.linspace(3000, 3100, 5), ["a", "b"])


MASKED = np.ma.array(np.ones((5, 2)), mask=np.eye(5, 2))
WRONG = {
    "sample of a share": (lambda e: e.sample(1.5), "events is 1.5, expected a whole number"),
    "sample of a text": (lambda e: e.sample("x"), "events is 'x', expected a whole number"),
    "seed": (lambda e: e.sample(2, seed="a"), "seed is 'a', expected a whole number"),
    "field": (lambda e: e.read(3), "field is 3, expected the name"),
    "columns as a text": (lambda e: e.read("features", "ab"), "columns is 'ab', expected a list"),
    "columns as numbers": (lambda e: e.read("features", [1]), r"columns is \[1\], expected a list"),
    "rows": (lambda e: e.take([[1]]), r"rows have shape \(1, 1\)"),
    "range of one number": (lambda e: e.select(mass_range=3000), "mass_range is 3000, expected its lower and upper end"),
    "range of texts": (lambda e: e.select(mass_range=("a", "b")), "mass_range is .* two numbers"),
    "range of a text": (lambda e: e.select(mass_range="ab"), "mass_range is 'ab'"),
    "names of a text": (lambda _: Events.from_arrays(np.ones((5, 2)), np.ones(5), "ab"), "columns is 'ab'"),
    "names of numbers": (lambda _: Events.from_arrays(np.ones((5, 2)), np.ones(5), [1, 2]), "columns is"),
    "no names": (lambda _: Events.from_arrays(np.ones((5, 2)), np.ones(5), None), "columns is None"),
    "masked features": (lambda _: Events.from_arrays(MASKED, np.ones(5), ["a", "b"]), "features are masked in part"),
    "masked scores": (lambda _: GivenScores(np.ma.array([1.0, 2.0], mask=[0, 1])), "masked in part"),
    "masked features to score": (lambda _: next(Inputs(("a", "b")).blocks(MASKED)), "features are masked in part"),
    "search in an array": (lambda _: pipelines.search(np.ones(5), np.ones((5, 2))), "events is ndarray"),
    "output": (lambda e: zoo.train("linear", e, 5), "out is int, expected a path"),
    "run": (lambda _: zoo.load(None), "run is NoneType, expected a path"),
    "hyperparameters": (lambda e: zoo.train("linear", e, "o", hyperparameters=[1]), "hyperparameters is list"),
    "preset": (lambda _: zoo.get("vae", preset=5), "preset '?5'?"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_an_argument_of_the_wrong_type_is_named(what, few, run):
    call, said = WRONG[what]
    with pytest.raises((TypeError, ValueError), match=said):
        call(few)


@pytest.mark.parametrize("options, said", [
    ({"mass": ["mjj"]}, r"mass is \['mjj'\], expected a name"), ({"mass": None}, "mass is None, expected a name"),
    ({"features": [3]}, r"features is \[3\], expected a list of names"), ({"units": ["GeV"]}, r"units is \['GeV'\], expected"),
    ({"mass_range": 3000}, "mass_range is 3000"), ({"mass_range": "ab"}, "mass_range is 'ab'"), ({"workers": "two"}, "workers is 'two'"),
    ({"workers": -1}, "workers is -1"), ({"label": 3}, "label is 3"), ({"columns": "ab"}, "columns is 'ab'"),
])  # fmt: skip
def test_an_option_of_a_table_of_the_wrong_type_is_named(options, said, tmp_path):
    (tmp_path / "a.csv").write_text("mjj,x\n3000,1\n3100,2\n")
    with pytest.raises(InputError, match=said):
        convert([tmp_path / "a.csv"], tmp_path / "e.h5", **{"mass": "mjj", **options})
    assert convert([tmp_path / "a.csv"], tmp_path / "f.h5", mass="mjj", features="x").columns["features"] == ("x",)
