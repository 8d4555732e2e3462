"""`zoo benchmark`: every cell once, none lost, and a table that says what its cells say."""

import csv
import json
import logging
import shutil

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from linear_model import Linear, registered

import zoo
import zoo.cli.main
from pipelines import Events, InputError, leaderboard
from pipelines.plots import read_numbers
from pipelines.significance_improvement import FLOORS, GRID, sic
from zoo.comparison import benchmark as module
from zoo.comparison import summary
from zoo.comparison.cells import parts_of
from zoo.comparison.specification import read

COLUMNS = ("pt_1", "mass_1", "e_1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    rng = np.random.default_rng(0)
    mass = 2700 + 2300 * rng.beta(1, 4, 6000)
    Events.from_arrays(rng.normal(size=(6000, 3)), mass, COLUMNS).write(folder / "qcd.h5")
    label = np.repeat([1, 2], 300)
    signal = rng.normal(size=(600, 3)) + np.where(label == 1, 4, 1)[:, None]
    about = {"label": label, "label_names": {1: "far", 2: "near"}}
    Events.from_arrays(signal, rng.normal(3600, 60, 600), COLUMNS, **about).write(folder / "signal.h5")
    with registered():
        yield folder


def asked(**changed):
    data = {"toy": {"background": "qcd.h5", "signal": "signal.h5", "mass_range": [2700, 5000], "channel": "1"}}
    small = {"set": {"columns": list(COLUMNS)}, "epochs": 1}
    models = {"linear": small, "wide": {"model": "linear", **small, "set": {"columns": list(COLUMNS), "units": 3}}}
    return {"data": data, "models": models, "s_over_b": [0, 0.02], "seeds": 2} | changed


def written(folder, name="b.yaml", **changed):
    (folder / name).write_text(yaml.safe_dump(asked(**changed)))
    return folder / name


@pytest.fixture(scope="module")
def done(folder):
    hunt = {"percentiles": [80], "bins": 20, "widths": [1, 4], "pseudo_experiments": 30}
    return zoo.benchmark(written(folder, hunt=hunt), folder / "out")


def test_a_model_for_each_cell_is_no_retracing(folder, caplog):
    """TensorFlow counts what is traced over all models of a class, and warns after five."""
    data = {"toy": {"background": "qcd.h5", "signal": "signal.h5", "mass_range": [2700, 5000]}}
    models = {"linear": {"set": {"columns": list(COLUMNS), "batch_size": 1000}, "epochs": 1}}
    logging.getLogger("tensorflow").addHandler(caplog.handler)
    try:
        zoo.benchmark(written(folder, "many.yaml", data=data, models=models, s_over_b=[0], seeds=5), folder / "many")
    finally:
        logging.getLogger("tensorflow").removeHandler(caplog.handler)
    assert "retracing" not in caplog.text


def test_sic_is_the_count_of_events_above_each_cut():
    rng = np.random.default_rng(1)
    background, signal = rng.normal(size=4000), rng.normal(2, 1, 500)
    found = sic(background, signal)
    cut = np.sort(background)[-41]
    assert found["at"]["0.01"] == pytest.approx((signal > cut).mean() / 0.1)
    every = [
        ((signal > t).mean() / np.sqrt((background > t).mean()), (background > t).sum())
        for t in np.sort(background)[:-1]
    ]
    for least in FLOORS:
        assert found["largest"][str(least)] == pytest.approx(max(gain for gain, n in every if n >= least))
    assert len(found["curve"]) == len(GRID) and found["curve"][0] is None and found["curve"][-1] == pytest.approx(1)
    assert sic(np.zeros(50), np.ones(5))["at"]["0.01"] is None and sic(np.zeros(50), np.ones(5))["largest"]["25"] == 1
    ties = sic([0] * 970 + [1] * 30, np.full(20, 2.0))  # 10 of background may pass, and 30 are equal
    assert ties["at"] == {"0.01": None, "0.001": None} and ties["largest"]["25"] == pytest.approx(1 / np.sqrt(0.03))
    assert [value is None for value in ties["curve"]] == [share < 0.03 - 1e-9 for share in GRID]
    with pytest.raises(InputError, match="all finite"):
        sic([np.nan], [1.0])


def test_table_has_a_row_for_every_signal_and_the_mean_and_spread_of_its_cells(done, folder):
    assert len(done.cells) == 8 and not done.failed and len(list((folder / "out/cells").glob("*.json"))) == 8
    assert len(done.rows) == 8
    row = next(r for r in done.rows if (r["s_over_b"], r["model"], r["signal"]) == (0.02, "wide", "far"))
    each = [
        one["judged"]["distance"]["far"]["auc"]
        for cell, one in done.cells
        if (cell.model, cell.ratio) == ("wide", 0.02)
    ]
    assert row["auc"] == {"mean": pytest.approx(np.mean(each)), "std": pytest.approx(np.std(each, ddof=1))}
    assert row["auc"]["mean"] > 0.6 and row["seeds"] == 2 and len(row["global"]) == 3
    with open(folder / "out/table.csv", newline="") as file:
        kept = list(csv.DictReader(file))
    assert len(kept) == 8 and {float(one["auc_mean"]) for one in kept} == {one["auc"]["mean"] for one in done.rows}
    assert (folder / "out/table.md").read_text().startswith("| data | S/B | model |")
    assert "2 %" in str(done) and "largest SIC, >= 25" in str(done)
    results = json.loads((folder / "out/results.json").read_text())
    assert results["rows"] == json.loads(json.dumps(done.rows))


def test_a_mixture_has_what_the_ratio_says_and_is_not_what_judges(done, folder):
    cell, result = next((cell, one) for cell, one in done.cells if cell.ratio == 0.02)
    background, signal, other, shown = parts_of(cell.events)
    assert result["training_events"] == len(background) + result["signal_events"]
    assert result["signal_events"] == round(0.02 * len(background))
    for one, two in ((background, other), (signal, shown)):
        assert not set(map(tuple, one.read("features"))) & set(map(tuple, two.read("features")))
    judged = result["judged"]["distance"]
    assert judged["far"]["background"] == len(other) and judged["far"]["signal"] + judged["near"]["signal"] == len(
        shown
    )


def test_figures_have_the_curves_and_their_floor(folder, done, tmp_path):
    found = zoo.benchmark(written(folder, "drawn.yaml", s_over_b=[0.02]), tmp_path / "out")
    numbers = read_numbers(tmp_path / "out/sic_toy_0.02_far.json")
    curves = [one["judged"]["distance"]["far"]["curve"] for cell, one in found.cells if cell.model == "wide"]
    assert numbers["models"]["wide"]["median"][-1] == pytest.approx(np.median([curve[-1] for curve in curves]))
    assert numbers["floor"]["25"] == pytest.approx(25 / found.rows[0]["background_tested"])
    table = leaderboard.read(tmp_path / "out/challenge.csv")
    assert set(table.model) == {"linear", "wide"} and set(table.signal) == {"far", "near"}
    mean = np.mean([one["challenge"]["distance"]["far"]["AUC"] for cell, one in found.cells if cell.model == "wide"])
    assert table.values[(table.model == "wide") & (table.signal == "far")][0, 0] == pytest.approx(mean, abs=1e-5)


def test_finished_cells_are_not_lost_and_not_done_again(folder, tmp_path, monkeypatch):
    real, times = module.work, []
    one = {"models": {"linear": {"set": {"columns": list(COLUMNS)}, "epochs": 1}}}

    def work(cell):
        if len(times) == 1:
            raise KeyboardInterrupt
        times.append(cell)
        return real(cell)

    monkeypatch.setattr(module, "work", work)
    specification = written(folder, "again.yaml", **one)
    with pytest.raises(KeyboardInterrupt):
        zoo.benchmark(specification, tmp_path / "out")
    assert len(list((tmp_path / "out/cells").glob("*.json"))) == 1
    with pytest.raises(InputError, match="exists already"):
        zoo.benchmark(specification, tmp_path / "out")
    again = []
    monkeypatch.setattr(module, "work", lambda cell: again.append(cell) or real(cell))
    found = zoo.benchmark(specification, tmp_path / "out", resume=True)
    assert len(again) == 3 and not set(map(str, again)) & set(map(str, times)) and len(found.rows) == 4
    monkeypatch.setattr(module, "work", lambda cell: pytest.fail("done again"))
    assert zoo.benchmark(specification, tmp_path / "out", resume=True).rows == found.rows
    few = written(folder, "again.yaml", seeds=1, **one)  # other seeds stay, and are not in the table
    assert [row["seeds"] for row in zoo.benchmark(few, tmp_path / "out", resume=True).rows] == [1] * 4


def test_a_training_that_fails_is_told_and_the_others_go_on(folder, tmp_path):
    models = asked()["models"] | {"failing": {"model": "linear", "set": {"columns": ["nosuch"]}, "epochs": 1}}
    line = [
        "benchmark",
        written(folder, "f.yaml", models=models, seeds=1, s_over_b=[0]),
        "--out",
        tmp_path / "out",
        "--json",
    ]
    done = CliRunner().invoke(zoo.cli.main.main, [str(word) for word in line])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert len(found["rows"]) == 4 and "nosuch" in found["failed"][0]["message"]
    assert "failing, toy, S/B 0, seed 0: failed" in done.stderr


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"models": {"nosuch": {}}}, "model 'nosuch' is not known"),
        ({"models": {"linear": {"score_kind": "kl"}}}, "has no score_kind 'kl'"),
        ({"models": {"linear": {"epoch": 3}}}, "models.linear.epoch is 3"),
        ({"models": {}}, "models"),
        ({"s_over_b": [3]}, "asks for"),
        ({"s_over_b": [0.1, 0.1]}, "a number twice"),
        ({"seeds": 0}, "seeds"),
        ({"data": {"toy": {"background": "none.h5", "signal": "signal.h5"}}}, "none.h5"),
        ({"labels": True}, "labels is True"),
        ({"hunt": {"percentile": [99]}}, "hunt has no option 'percentile'"),
        ({"hunt": {"folds": 5}}, "hunt has no option 'folds'"),
        ({"hunt": {"percentiles": [0]}}, "hunt: "),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(folder, tmp_path, changed, says):
    done = CliRunner().invoke(
        zoo.cli.main.main, ["benchmark", str(written(folder, "wrong.yaml", **changed)), "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 2 and done.stderr.count("\n") == 1 and says in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()


def result_of(auc=0.5, hunt=None):
    by_signal = {"far": {"auc": auc, "at": {"0.01": None, "0.001": None}, "largest": {"25": None, "100": None},
                         "curve": [None] * len(GRID), "background": 10, "signal": 5}}  # fmt: skip
    figures = dict.fromkeys(leaderboard.FIGURES, auc)
    return {
        "judged": {"distance": by_signal},
        "challenge": {"distance": {"far": figures}},
        "seconds": 1.0,
        "hunt": hunt,
    }


def test_an_extrapolated_significance_is_told_with_what_is_known(folder, tmp_path):
    cells = read(asked(data={"toy": asked()["data"]["toy"]}, s_over_b=[0.02], seeds=2) | {"hunt": {}}).cells
    of_model = {"linear": (True, 7.0), "wide": (False, 2.5)}
    pairs = []
    for cell in cells:
        bound, z = of_model[cell.model]
        known = 3.29 if bound else z
        hunt = {"global": known, "global_is_bound": bound, "global_extrapolated": z, "efficiency": 0.1}
        pairs.append((cell, result_of(hunt=None if (cell.model, cell.seed) == ("linear", 1) else hunt)))
    one, other = table = summary.rows(pairs)
    assert one["extrapolated"] == 0.5 and one["bound"] == 3.29 and other["extrapolated"] == 0 and other["bound"] is None
    assert "3.5 (1.1 to 5.9); > 3.3 in 50 %" in summary.text(table) and "2.5 (2.5 to 2.5) " in summary.text(table)
    summary.write(table, pairs, tmp_path, {})
    assert read_numbers(tmp_path / "significance_toy.json")["linear"]["bound"] == [3.29]
    with open(tmp_path / "table.csv", newline="") as file:
        assert [row["bound"] for row in csv.DictReader(file)] == ["3.29", ""]


def test_data_sets_of_one_channel_are_not_averaged_in_the_table_of_the_challenge(tmp_path):
    toy = asked()["data"]["toy"]
    data = {"one": toy, "two": toy, "alone": toy | {"channel": "2a"}}
    cells = read(asked(data=data, s_over_b=[0.02], seeds=1)).cells
    auc = {"one": 0.6, "two": 0.8, "alone": 0.7}
    summary.write([], [(cell, result_of(auc[cell.data])) for cell in cells], tmp_path, {})
    table = leaderboard.read(tmp_path / "challenge.csv")
    found = dict(zip(table.model.tolist(), table.values[:, 0].tolist()))
    assert found == {"linear one": 0.6, "wide one": 0.6, "linear two": 0.8, "wide two": 0.8, "linear": 0.7, "wide": 0.7}


def test_a_true_background_is_beside_the_yaml_file_and_part_of_the_cell(folder, tmp_path):
    for name in ("qcd.h5", "signal.h5", "true.h5"):
        shutil.copy(folder / name.replace("true", "qcd"), tmp_path / name)
    given = {"window": [3300, 3700], "classifier": "trees", "background": "true.h5"}
    path = written(tmp_path, models={"idealised": {"set": given}}, seeds=1, s_over_b=[0.02])
    (cell,) = read(path).cells
    assert cell.training["set"]["background"] == str(tmp_path / "true.h5")
    module._check(read(path))
    before = module._place(cell, tmp_path)
    assert before == module._place(cell, tmp_path)
    shutil.copy(folder / "signal.h5", tmp_path / "true.h5")
    assert module._place(cell, tmp_path) != before
    with pytest.raises(InputError, match="have a label that is not 0"):
        module._check(read(path))
    (tmp_path / "true.h5").unlink()
    with pytest.raises(InputError, match=r"true\.h5"):
        module._check(read(path))


def test_a_file_is_given_once(folder):
    toy = asked()["data"]["toy"]
    for part, twice in (("background", ["qcd.h5", "./qcd.h5"]), ("signal", ["signal.h5", "signal.h5"])):
        with pytest.raises(InputError, match=f"{part} of toy has a file twice"):
            read(written(folder, "twice.yaml", data={"toy": toy | {part: twice}}))


def test_files_are_beside_the_yaml_file(folder):
    cells = read(written(folder)).cells
    assert cells[0].events["background"] == [str(folder / "qcd.h5")] and len(cells) == 8
    assert Linear.score_kinds == ("distance",)
