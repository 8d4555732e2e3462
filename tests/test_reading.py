"""Every command and call that takes events takes tables and published files as well, as those of the run's training."""

import json

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import uproot
from click.testing import CliRunner
from linear_model import registered

import pipelines
import tuning.cli
import zoo
import zoo.cli.main
from pipelines import InputError
from tuning.results import load_results, retrained

HUNT = ["--percentile", 80, "--toys", 20, "--bins", 10, "--widths", 1, 2, "--mass-range", 2000, 3000, "--no-merge"]


def run_command(*words, program=zoo.cli.main.main):
    return CliRunner().invoke(program, [str(word) for word in words])


def output(*words, **options):
    done = run_command(*words, **options)
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def columns():
    rng = np.random.default_rng(0)
    found = {name: rng.normal(size=400) for name in ("pt_1", "pt_2", "mass_1", "mass_2", "free")}
    found |= {"mjj": rng.uniform(2000, 3000, 400), "truth": (np.arange(400) % 4 == 0).astype(int)}
    return found | {"w": rng.uniform(0.5, 1.5, 400)}


@pytest.fixture(scope="module")
def tables(columns, tmp_path_factory):
    """The same events as CSV, Parquet, ROOT and an events file; the tables have a column that the model does not need."""
    folder = tmp_path_factory.mktemp("tables")
    text = [",".join(columns), *(",".join(map(repr, row)) for row in zip(*(map(float, v) for v in columns.values())))]
    (folder / "a.csv").write_text("\n".join(text) + "\n")
    useless = np.full(400, np.nan)
    pyarrow.parquet.write_table(pyarrow.table({**columns, "useless": useless}), folder / "a.parquet")
    with uproot.recreate(folder / "a.root") as file:
        given = {name: values for name, values in columns.items() if name != "truth"}
        for name, branches in (("events", given), ("others", {"x": useless})):
            file.mktree(name, {branch: values.dtype for branch, values in branches.items()}).extend(branches)
    wanted = ["pt_1", "pt_2", "mass_1", "mass_2"]
    pipelines.open(folder / "a.csv", mass="mjj", label="truth", weight="w", features=wanted).write(folder / "a.h5")
    return folder


@pytest.fixture(scope="module")
def runs(tables):
    """A run of a table, and one of an events file."""
    with registered():
        options = {"epochs": 1, "jit_compile": False, "verbose": 0}
        conversion = {"mass": "mjj", "label": "truth", "weight": "w", "features": ["pt_*", "mass_?"]}
        more = {"hyperparameters": {"columns": ["*"]}, **options}
        zoo.train("linear", tables / "a.csv", tables / "of_table", conversion=conversion, **more)
        columns = ["pt_1", "pt_2", "mass_heavy"]
        zoo.train("linear", tables / "a.h5", tables / "of_file", hyperparameters={"columns": columns}, **options)
        yield tables


@pytest.mark.parametrize("run", ["of_table", "of_file"])
@pytest.mark.parametrize("name, more", [("a.csv", {}), ("a.parquet", {}), ("a.root", {"tree": "events"})])
def test_a_table_is_scored_with_the_columns_and_the_mass_of_the_run(run, name, more, runs):
    expected = zoo.score(runs / run, runs / "a.h5")
    found = zoo.score(runs / run, runs / name, **more)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-5)
    assert found.data == str(runs / name) and found.mass.tolist() == expected.mass.tolist()
    loaded = zoo.load(runs / run)
    np.testing.assert_array_equal(zoo.score(loaded, runs / name, **more).mean, found.mean)


def test_a_frame_and_a_model_in_memory_take_the_mass_of_the_training(runs, columns):
    model = zoo.get("linear", columns=["*"])
    model.fit(pipelines.open(runs / "a.h5"), epochs=1, verbose=0, jit_compile=False)
    frame = pyarrow.table(columns)
    np.testing.assert_allclose(zoo.score(model, frame).mean, zoo.score(model, runs / "a.h5").mean, rtol=1e-5)


def test_what_the_run_names_and_the_table_lacks_is_told_or_not_needed(runs, columns, tmp_path):
    data = {name: values for name, values in columns.items() if name not in ("truth", "w")}
    pyarrow.parquet.write_table(pyarrow.table(data), tmp_path / "data.parquet")  # collisions have no truth
    assert len(zoo.score(runs / "of_table", tmp_path / "data.parquet")) == 400
    del data["pt_2"]
    pyarrow.parquet.write_table(pyarrow.table(data), tmp_path / "less.parquet")
    with pytest.raises(InputError, match="no column 'pt_2' for the features"):
        zoo.score(runs / "of_table", tmp_path / "less.parquet")
    with pytest.raises(InputError, match="no column 'm' for the mass; it has"):
        zoo.score(runs / "of_table", runs / "a.csv", mass="m")


def test_commands_take_tables(runs, tmp_path):
    line = ["score", runs / "of_file", "--data", runs / "a.csv", "--out", tmp_path / "scores.h5"]
    done = output(*line)
    assert "mass: mjj" in done.stderr and "features: pt_1, pt_2, mass_1, mass_2" in done.stderr
    with h5py.File(tmp_path / "scores.h5") as file:
        np.testing.assert_allclose(file["score"], zoo.score(runs / "of_file", runs / "a.h5").mean, rtol=1e-5)
        assert file.attrs["data"] == str(runs / "a.csv")
    judged = ["evaluate", runs / "of_file", "--json"]
    table = json.loads(output(*judged, "--data", runs / "a.csv", "--label", "truth", "--weight", "w").stdout)
    file = json.loads(output(*judged, "--data", runs / "a.h5").stdout)
    assert table["auc"]["1"] == pytest.approx(file["auc"]["1"], abs=1e-6) and table["weights"] == "used"
    hunted = [["hunt", runs / "of_file", *HUNT, "--json", "--data", runs / name] for name in ("a.root", "a.h5")]
    hunted = [
        json.loads(output(*line, *more, "--out", tmp_path / f"h{k}").stdout)
        for k, (line, more) in enumerate(zip(hunted, (["--tree", "events", "--weight", "w"], ["--ignore-labels"])))
    ]
    assert hunted[0]["selected_events"] == hunted[1]["selected_events"] and (tmp_path / "h0.events.h5").exists()
    output("plot", runs / "of_file", "--sample", f"mc={runs / 'a.csv'}", "--mass", "mjj", "--out", tmp_path / "figures")
    output("validate", "sculpting", runs / "of_file", "--data", runs / "a.parquet")
    output("data", "split", runs / "a.csv", tmp_path / "1.h5", tmp_path / "2.h5", "--events", 100, "--mass", "mjj")
    found = json.loads(output("data", "overlap", runs / "a.h5", runs / "a.csv", "--mass", "mjj", "--json",
                              "--convert", "features=pt_*", "--convert", "features=mass_?").stdout)  # fmt: skip
    assert found == {"events": 400, "also_in_first": 400}


def test_a_search_takes_tables_and_its_best_is_retrained_on_them(runs, tmp_path):
    line = ["--model", "linear", "--trials", 1, "--max-epochs", 1, "--set", "units=2", "--set", "columns=*", "--no-xla"]
    line += ["--out", tmp_path / "s"]
    output(*line, "--data", runs / "a.parquet", "--mass", "mjj", "--convert", "features=pt_*", program=tuning.cli.main)
    assert (tmp_path / "s.events.h5").exists()
    best = ["best", tmp_path / "s", "--retrain", "--no-xla"]
    done = output(*best, "--out", tmp_path / "run", program=tuning.cli.main)
    assert "Training on the 400 events of the search" in done.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"]["events"] == 400 and config["data"]["mass_column"] == "mjj"
    (tmp_path / "s.events.h5").rename(tmp_path / "gone.h5")
    done = run_command(*best, "--out", tmp_path / "other", program=tuning.cli.main)
    assert done.exit_code == 2 and "its events cannot be opened" in done.stderr and "--data" in done.stderr
    pipelines.open(runs / "a.h5").write(tmp_path / "s.events.h5")
    with pytest.raises(InputError, match="other events than when"):
        retrained(load_results(tmp_path / "s"), load_results(tmp_path / "s").best, None, tmp_path / "other")


@pytest.mark.parametrize("words, told", [
    (["score", "{run}", "--data", "lhco_sim_test", "--mass", "mjj"], "mass=mjj: nothing to convert"),
    (["score", "{run}", "--data", "{a}.csv", "--convert", "nonsense=1"], "--convert nonsense=1: expected NAME=VALUE"),
    (["score", "{run}", "--data", "{a}.csv", "--mass", "a", "--convert", "mass=b"], "mass is given twice"),
    (["score", "{run}", "--data", "{a}.root"], "several trees"),
])  # fmt: skip
def test_wrong_options_of_a_conversion_are_told_in_one_line(words, told, runs, tmp_path):
    words = [word.format(run=runs / "of_table", a=runs / "a") for word in words]
    done = run_command(*words, "--out", tmp_path / "o.h5")
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1 and told in done.stderr, done.stderr
    assert not (tmp_path / "o.h5").exists()


def test_a_mass_range_is_given_once(tmp_path):
    (tmp_path / "a.csv").write_text("x,mjj\n1,3000\n")
    line = f"evaluate {tmp_path}/run --data {tmp_path}/a.csv --convert mass=mjj --convert mass_range=2700,5000"
    done = CliRunner().invoke(zoo.cli.main.main, line.split())
    assert done.exit_code == 2 and "give --mass-range LOW HIGH" in done.stderr and done.stderr.count("\n") == 1
