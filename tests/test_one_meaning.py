"""Nothing, truth values, weights and starting again mean the same wherever they are said."""

import gzip
import json
import types

import h5py
import numpy as np
import pandas
import pyarrow
import pytest
from click.testing import CliRunner
from linear_model import registered
from pyarrow import parquet

import pipelines
import tuning
import tuning.cli
import zoo
import zoo.cli.main
from pipelines import Events, InputError, metrics
from pipelines.datasets import convert
from tuning import objectives
from tuning.space import Space
from zoo.cli.reading import conversion
from zoo.comparison import cells, specification
from zoo.settings import parse_setting
from zoo.tables import read_columns

# -- nothing, and truth values ------------------------------------------------------------------------------


def of_draws(space, name):
    return {repr(getattr(zoo.get(space.model, **space.draw(space.hyperparameters())).hp, name))}


def in_benchmark(model, name, text, folder):
    """A YAML file whose line is the text; what the cell's model has."""
    path = folder / "b.yaml"
    path.write_text(
        "data: {toy: {background: lhco_sim_train, signal: lhco_sim_test}}\n"
        f"models: {{{model}: {{set: {{{name}: {text}}}}}}}\ns_over_b: [0]\nseeds: 1\n"
    )
    return {repr(getattr(cells.recipe(specification.read(path).cells[0]).model().hp, name))}


def in_space(model, name, text, folder):
    (folder / "s.yaml").write_text(f"{name}: {text}\n")
    return of_draws(Space(model, overrides=folder / "s.yaml"), name)


DOORS = {  # of a text
    "--set of zoo": lambda m, n, text, _: {repr(getattr(zoo.get(m, **dict([parse_setting(f"{n}={text}")])).hp, n))},
    "--set of tune": lambda m, n, text, _: of_draws(Space(m, dict([parse_setting(f"{n}={text}")])), n),
    "Python, a word": lambda m, n, text, _: {repr(getattr(zoo.get(m, **{n: text}).hp, n))},
    "tuning.search, a word": lambda m, n, text, _: of_draws(Space(m, {n: text}), n),
    "space in YAML": in_space,
    "space as a dict": lambda m, n, text, _: of_draws(Space(m, overrides={n: text}), n),
    "benchmark in YAML": in_benchmark,
}
MEANT = {
    None: ["none", "None", "null", "~"],
    True: ["true", "True", "yes", "on"],
    False: ["false", "False", "no", "off"],
}


@pytest.mark.parametrize("door", DOORS)
def test_words_for_nothing_and_truth_values_mean_the_same(door, tmp_path):
    for value, words in MEANT.items():
        model, name = ("vae", "flow") if value is None else ("gan_ae", "flat_mass")
        for word in words:
            assert DOORS[door](model, name, word, tmp_path) == {repr(value)}, (door, word)


def test_values_themselves_mean_what_their_words_mean():
    assert zoo.get("vae", flow=None).hp.flow is None and of_draws(Space("vae", {"flow": None}), "flow") == {"None"}
    for value in (True, False, 1, 0, np.True_, np.False_):
        assert zoo.get("gan_ae", flat_mass=value).hp.flat_mass is bool(value)


@pytest.mark.parametrize("word", MEANT[True] + MEANT[False] + ["1", "0"])
def test_options_of_conversions_know_the_same_truth_values(word):
    assert conversion([f"truncated={word}"])["truncated"] is (word in [*MEANT[True], "1"])


# -- truth values and missing numbers in tables -------------------------------------------------------------

FRAME = pandas.DataFrame(
    {
        "mjj": np.linspace(2000.0, 3000.0, 8),
        "x": np.arange(8.0),
        "passed": [True, False, True, True, False, False, True, False],
        "isSignal": [False, True, False, False, False, True, False, True],
        "weight": np.linspace(0.5, 2.0, 8),
    }
)


def write_h5(frame, path):
    with h5py.File(path, "w") as file:
        for name in frame:
            file[name] = frame[name].to_numpy()


def write_root(frame, path):
    import uproot

    with uproot.recreate(path) as file:
        file.mktree("events", {name: frame[name].dtype for name in frame})
        file["events"].extend({name: frame[name].to_numpy() for name in frame})


TABLES = {
    "a.csv": lambda frame, path: frame.to_csv(path, index=False),
    "lower.csv": lambda frame, path: path.write_text(frame.to_csv(index=False).replace("True", "true").replace("False", "false")),
    "zipped.csv.gz": lambda frame, path: path.write_bytes(gzip.compress(frame.to_csv(index=False).encode())),
    "a.parquet": lambda frame, path: frame.to_parquet(path),
    "a.npz": lambda frame, path: np.savez(path, **{name: frame[name].to_numpy() for name in frame}),
    "records.npy": lambda frame, path: np.save(path, frame.to_records(index=False)),
    "a.h5": write_h5,
    "a.root": write_root,
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_truth_values_and_weights_of_a_table_are_the_same_in_every_format(name, tmp_path):
    TABLES[name](FRAME, tmp_path / name)
    with pytest.warns(UserWarning, match="'passed' among the features holds only 0 and 1"):
        done = convert([tmp_path / name], tmp_path / "e.h5", mass="mjj", label="isSignal")
    events = Events.from_file(tmp_path / "e.h5")
    assert set(events.columns) == {"x", "passed"} and done.columns["weight"] == ("weight",)
    np.testing.assert_array_equal(events.read("features", ["x", "passed"]), FRAME[["x", "passed"]].to_numpy(np.float32))
    np.testing.assert_array_equal(events.label, FRAME["isSignal"].to_numpy(int))
    np.testing.assert_allclose(events.weight, FRAME["weight"], rtol=1e-6)


MIXED = ["1,True", "True,1", "True,True,1", "0,1,False", "1,0,true", '"1",True', "True,1.0,False", "1.5,True"]


@pytest.mark.filterwarnings("ignore:.*holds only 0 and 1:UserWarning")
@pytest.mark.parametrize("cells", MIXED)
def test_a_column_of_numbers_and_truth_values_is_refused_everywhere(cells, tmp_path):
    path, cells = tmp_path / "a.csv", cells.split(",")
    path.write_text("mjj,x\n" + "".join(f"{3000 + i},{cell}\n" for i, cell in enumerate(cells)))
    with pytest.raises(InputError, match=r"column 'x': '.*', expected (a number|true or false) as in its other lines"):
        convert([path], tmp_path / "e.h5", mass="mjj")
    assert convert([path], tmp_path / "e.h5", mass="mjj", on_error="skip").events == len(cells) - 1
    values = [json.loads(cell.strip('"').lower()) for cell in cells]
    frame = pandas.DataFrame({"mjj": 3000.0, "x": pandas.Series(values, dtype=object)})
    for read in (lambda: pipelines.open(frame, mass="mjj"), lambda: read_columns(frame, ["x"], list(frame))):
        with pytest.raises(InputError, match="'x' has numbers and truth values"):
            read()


def test_a_broken_line_that_is_no_text_prints_nothing(tmp_path, capfd):
    (tmp_path / "a.csv").write_bytes(b"mjj,x\n3000,1\n3\x9c\n3100,2\n")
    with pytest.raises(InputError, match="line 3 has 1 value, expected 2"):
        convert([tmp_path / "a.csv"], tmp_path / "e.h5", mass="mjj")
    assert convert([tmp_path / "a.csv"], tmp_path / "e.h5", mass="mjj", on_error="skip").events == 2
    assert capfd.readouterr() == ("", "")


def test_a_mark_of_byte_order_begins_a_file_and_no_other_line(tmp_path):
    bom, path = b"\xef\xbb\xbf", tmp_path / "a.csv"
    path.write_bytes(bom + b"mjj,x\n3000,1\n" + bom + b"3100,2\n3200,3\n")
    with pytest.raises(InputError, match="line 3 begins with a mark of byte order"):
        convert([path], tmp_path / "e.h5", mass="mjj")
    assert convert([path], tmp_path / "e.h5", mass="mjj", on_error="skip").events == 2
    path.write_bytes(bom + b"3000,1\n3100,2\n")
    assert convert([path], tmp_path / "f.h5", mass="mjj", columns=["mjj", "x"]).events == 2


def test_a_broken_truth_value_is_named_or_left_out(tmp_path):
    text = FRAME.to_csv(index=False).splitlines()
    text[3] = text[3].replace("True", "perhaps")
    (tmp_path / "a.csv").write_text("\n".join(text) + "\n")
    with pytest.raises(InputError, match="line 4, column 'passed': 'perhaps', expected true or false"):
        convert([tmp_path / "a.csv"], tmp_path / "e.h5", mass="mjj")
    with pytest.warns(UserWarning, match="only 0 and 1"):
        assert convert([tmp_path / "a.csv"], tmp_path / "e.h5", mass="mjj", on_error="skip").events == 7


@pytest.mark.parametrize("word", ["", "none", "None", "null", "~", "NaN", "NA"])
def test_nothing_in_a_cell_is_missing_as_it_is_in_parquet(word, tmp_path):
    (tmp_path / "a.csv").write_text(f"mjj,x\n3000,1\n3100,{word}\n")
    parquet.write_table(pyarrow.table({"mjj": [3000.0, 3100.0], "x": [1.0, None]}), tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        with pytest.raises(InputError, match=r"NaN, infinite or empty values \(column, count\): 'x' 1"):
            convert([tmp_path / name], tmp_path / "e.h5", mass="mjj")


# -- weights ------------------------------------------------------------------------------------------------


class Fixed:
    """A model whose score is the first feature, and that reconstructs a tenth of everything."""

    score_kinds, undirected, resolved_columns = ("first",), (), ["x", "y"]

    def score(self, events):
        return events.read("features")[:, 0].astype(np.float64)

    def results(self, events, names):
        return {"first": self.score(events), "reconstructed": events.read("features") / 10}


@pytest.fixture(scope="module")
def weighted():
    """Events with whole numbers as weights, and the same events each as often as its weight says."""
    rng = np.random.default_rng(0)
    x, mass = rng.normal(size=(4000, 2)), rng.exponential(500.0, 4000) + 2000
    label, weight = rng.integers(0, 2, 4000), rng.integers(1, 4, 4000)
    x[:, 0] += label + (mass > 2600)
    often = np.repeat(np.arange(4000), weight)
    made = [
        Events.from_arrays(x[rows], mass[rows], ["x", "y"], label=label[rows], weight=w)
        for rows, w in ((np.arange(4000), weight), (often, None))
    ]
    return types.SimpleNamespace(by_weight=made[0], by_number=made[1])


@pytest.mark.parametrize("term", ["auc:1", "reconstruction"])
def test_an_objective_counts_an_event_of_weight_two_as_two_events(term, weighted):
    one, other = (
        objectives.Objective.parse(term)(Fixed(), events, {})["objective"] for events in vars(weighted).values()
    )
    assert one == pytest.approx(other, rel=1e-6)
    events = weighted.by_weight
    plain = Events.from_arrays(events.read("features"), events.mass, ["x", "y"], label=events.label)
    assert objectives.Objective.parse(term)(Fixed(), plain, {})["objective"] != pytest.approx(one, rel=1e-4)


def test_tune_and_evaluate_judge_weighted_events_alike(weighted):
    judged = metrics.evaluate(Fixed().score(weighted.by_weight), weighted.by_weight)
    assert judged["weights"] == "used"
    tuned = objectives.Objective.parse("auc:1")(Fixed(), weighted.by_weight, {})["objective"]
    assert 1 - tuned == pytest.approx(judged["auc"]["1"])
    unlabelled = weighted.by_weight.without_labels()
    shaped = metrics.evaluate(Fixed().score(unlabelled), unlabelled)["sculpting"]
    above = [at["distance"] - at["floor"] for at in shaped.values() if at["events"] >= objectives.ENOUGH]
    assert objectives.mass_sculpting(Fixed(), unlabelled, {}) == pytest.approx(np.mean(above))


def test_weights_that_are_all_alike_change_nothing(weighted):
    events = weighted.by_number
    alike = Events.from_arrays(events.read("features"), events.mass, ["x", "y"], label=events.label,
                               weight=np.full(len(events), 7.0))  # fmt: skip
    objective = objectives.Objective.parse("reconstruction+sculpting+auc:1")
    assert objective(Fixed(), alike, {}) == objective(Fixed(), events, {})


def test_studies_that_count_every_event_once_say_so(weighted):
    with pytest.warns(UserWarning, match="have weights, and each is counted once here"):
        zoo.validate.supervised(weighted.by_weight.take(np.arange(300)), folds=2)


# -- starting again -----------------------------------------------------------------------------------------

HUNT = "--toys 20 --percentile 80 --bins 10 --widths 1 2 --tails upper --mass-range 2000 6000"
LINES = {
    "train": "zoo train linear --data good.h5 --epochs 1 --no-xla --out run",
    "hunt": f"zoo hunt linear --folds 2 --epochs 1 --no-xla --data lhco_sim_test {HUNT} --out h",
    "tune": "tune --model linear --trials 2 --max-epochs 1 --data good.h5 --set units=2 --no-xla --out s",
    "benchmark": "zoo benchmark b.yaml --out b",
}
BENCHMARK = {
    "data": {"toy": {"background": "good.h5", "signal": "signal.h5"}}, "models": {"pca": {}}, "s_over_b": [0], "seeds": 1
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_resume_begins_goes_on_and_ends_alike_in_every_command(name, train_events, test_events, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train_events.sample(400).write("good.h5")
    test_events.select(label=1).sample(100).write("signal.h5")
    (tmp_path / "b.yaml").write_text(json.dumps(BENCHMARK))
    program, *words = LINES[name].split()
    main = zoo.cli.main.main if program == "zoo" else tuning.cli.main

    def call(*more):
        return CliRunner().invoke(main, [*words, *more])

    def written():
        return {str(path): path.stat().st_mtime_ns for path in (tmp_path / words[-1]).rglob("*.h5")}

    with registered():
        begun = call("--resume")  # where nothing is
        assert begun.exit_code == 0, begun.output
        before = written()
        again = call("--resume")  # what has ended
        assert again.exit_code == 0 and written() == before, again.output
        refused = call()
        assert refused.exit_code == 2 and "exists already" in refused.stderr and len(refused.stderr.splitlines()) == 1
        assert written() == before
