"""The command line `tune` and what it makes of a search's folder: tables, figures, a page, runs."""

import csv
import io
import json
import re
import shutil

import click
import linear_model
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from linear_model import Linear
from searched import law, write_search

import zoo
from pipelines import InputError, plots
from pipelines.plots import read_numbers
from tuning import figures, pareto
from tuning import importance as of_importance
from tuning.cli import Duration, main
from tuning.importance import importance
from tuning.results import best_so_far, load_results

SEARCH = (
    "--model linear --trials 3 --max-epochs 2 --factor 2 --no-xla --set units=2 --set members=2 --mass-range 2700 2900"
)


def tune(line):
    return CliRunner().invoke(main, line.split())


def tuned(line):
    done = tune(line)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def refused(line):
    done = tune(line)
    assert done.exit_code == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1, done.output
    return done.stderr


@pytest.fixture(scope="module", autouse=True)
def linear():
    with linear_model.registered() as patched:
        patched.setattr(plots, "plot_history", lambda rows, path: path.touch())
        patched.setattr(of_importance, "TREES", 15)
        yield Linear


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """What a real search of three trials wrote, and what it showed."""
    out = tmp_path_factory.mktemp("real") / "search"
    done = tune(f"{SEARCH} --objective pareto:reconstruction,stability --out {out}")
    assert done.exit_code == 0, done.output
    return out, done


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """30 made-up trials of 40, two of them failed, by a sum."""
    return write_search(tmp_path_factory.mktemp("written") / "s", asked=40, failed=(5, 9))


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    return write_search(tmp_path_factory.mktemp("front") / "s", objective="pareto:reconstruction,sculpting")


# -- a search ------------------------------------------------------------------------------------------------


def test_a_search_shows_its_plan_every_trial_with_the_knee_and_a_table(real):
    out, done = real
    assert "No --data given" in done.stderr and "Plan: 3 trials, 3 epochs" in done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("trial ")]
    assert [re.search(r"\((\d)/3\)", line)[1] for line in told] == ["1", "2", "3"]
    assert all("knee: trial" in line for line in told)
    assert [bool(re.search(r"epochs?/s|s/epoch", line)) for line in told] == [False, True, True]
    assert ["left" in line for line in told] == [False, True, False]  # of the first trial nothing is guessed
    assert "Pareto front of 3 trials (no labels used)" in done.stdout and f"Best: {out / 'best'}" in done.stdout


def test_a_search_that_is_there_is_not_begun_again_and_says_how_to_go_on(real):
    out, _ = real
    assert "a search exists already; go on with it by --resume" in refused(f"{SEARCH} --out {out}")


def test_the_best_of_a_pareto_search_is_the_knee_and_a_run(real):
    out, _ = real
    results = load_results(out)
    values = results.parsed.values([trial["metrics"] for trial in results.trials])
    assert results.best is results.trials[pareto.knee(values)]
    assert zoo.run.read_config(out / "best")["tuning"]["trial"] == results.best["trial"]
    assert zoo.load(out / "best").members == 2 and results.complete


def test_the_best_is_trained_anew_on_all_events_with_as_many_members_as_asked(real, tmp_path):
    out, _ = real
    line = f"best {out} --retrain --members 3 --data lhco_sim_train --mass-range 2700 2800 --no-xla --out {tmp_path / 'run'}"
    told = json.loads(tuned(f"{line} --export {tmp_path / 'served'} --json"))
    config = zoo.run.read_config(tmp_path / "run")
    best = load_results(out).best
    assert told["run"] == str(tmp_path / "run") and (tmp_path / "served" / "saved_model.pb").exists()
    assert config["hyperparameters"]["members"] == 3 and config["epochs"] == best["epochs"]
    assert config["hyperparameters"]["learning_rate"] == best["hyperparameters"]["learning_rate"]
    assert config["tuning"]["trial"] == best["trial"] and config["tuning"]["truth_used"] is False
    assert zoo.load(tmp_path / "run").score(np.ones((1, 6), "f4"), per_member=True).shape == (3, 1)


def test_few_architectures_are_tried_with_many_rates(tmp_path, linear):
    line = SEARCH.replace("--set units=2 ", "").replace("--trials 3", "--trials 6")
    tuned(f"{line} --algorithm random --max-epochs 1 --architectures 2 --out {tmp_path / 'out'}")
    tried = [trial["hyperparameters"] for trial in load_results(tmp_path / "out").trials]
    units, rates = (len({one[name] for one in tried}) for name in ("units", "learning_rate"))
    assert len(tried) == rates == 6 and units <= 2


def test_a_space_file_reaches_the_trials(tmp_path, linear):
    (tmp_path / "space.yaml").write_text("replace: true\nlearning_rate: {min: 0.5, max: 0.6}\nunits: 3\n")
    line = SEARCH.replace("--set units=2 ", "").replace("--trials 3", "--trials 1")
    tuned(f"{line} --space {tmp_path / 'space.yaml'} --out {tmp_path / 'out'} --algorithm random")
    (trial,) = load_results(tmp_path / "out").trials
    assert 0.5 <= trial["hyperparameters"]["learning_rate"] <= 0.6 and trial["hyperparameters"]["units"] == 3


@pytest.mark.parametrize(
    "line, message",
    [
        ("--trials 5", "no --model"),
        ("--model linera", "'linera' is not known"),
        ("--trials 5 results somewhere", "--trials is of a search; give the options of results after its name"),
        ("--model linear --set units=0", "units=0"),
        ("--model linear --set unit=1", "near: units"),
        ("--model linear --space none.yaml", "none.yaml: No such file"),
        ("--model linear --objective auc:1", "auc:1 needs labels"),
        ("--model linear --objective stability", "stability compares members"),
        ("--model linear --objective pareto:stability", "at least two figures"),
        ("--model linear --time-limit soon", "--time-limit soon: expected a time, such as 2h"),
        ("--model linear --trial-timeout 2h", "trial_timeout is 7200, and 1 worker is this process"),
        ("--model linear --mass-range low high", "expected a finite number"),
        ("--model linear --jobs 3", "--jobs belongs to --cluster"),
        ("results nowhere", "no such folder, expected the folder of a search"),
        ("plot nowhere", "no such folder"),
        ("best nowhere", "no such folder"),
        ("space linera", "'linera' is not known"),
        ("linear", "no command 'linear'; expected one of best, compare, plot, results, space, or a search"),
        ("--model linear --trials ten", "'ten' is not a valid integer; see `main --help`"),
        ("--model linear --algorithm annealing", "'annealing' is not one of 'hyperband', 'random', 'bayesian', 'grid'"),
        ("--model linear --nonsense", "No such option '--nonsense'"),
        ("--model linear --validation nowhere.h5", "nowhere.h5: no such file"),
        ("results", "Missing argument 'DIR'; see `main results --help`"),
        ("results here there", "unexpected extra argument (there)"),
        ("best here --members none", "'none' is not a valid integer"),
        ("space linear --yaml --json", "choose one"),
    ],
)
def test_wrong_lines_are_refused_in_one_line_before_anything_is_written(line, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(line)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text, seconds",
    [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("1.5h", 5400), ("30", 30), ("1d", 86400)],
)
def test_times_are_read_as_people_write_them(text, seconds):
    option = click.Option(["--time-limit"])
    assert Duration().convert(text, option, None) == seconds


@pytest.mark.parametrize("text", ["", "h", "-2h", "2 weeks", "0s", "2h!", "1e400s"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InputError, match="expected a time"):
        Duration().convert(text, click.Option(["--time-limit"]), None)


# -- results -------------------------------------------------------------------------------------------------


def test_results_of_an_unfinished_search_are_there_and_say_so(written):
    text = tuned(f"results {written} --top 3")
    assert "Best of 30 trials" in text and "Not finished: 30 of 40 trials; --resume goes on." in text
    found = json.loads(tuned(f"results {written} --json"))
    objectives = [t["objective"] for t in found["trials"] if t["status"] == "COMPLETED"]
    assert len(objectives) == 28 and objectives == sorted(objectives) and found["best"] == found["trials"][0]
    assert [t["status"] for t in found["trials"][-2:]] == ["FAILED", "FAILED"] and found["truth_used"] is False


def test_the_table_fits_a_narrow_terminal_and_cuts_no_number(written, monkeypatch):
    import tuning.table

    monkeypatch.setattr(tuning.table, "WIDTH", 80)
    lines = tuned(f"results {written} --top 28").splitlines()
    assert max(len(line) for line in lines if "failed" not in line) <= 80 and not any(
        line.endswith(" ") for line in lines
    )
    best = load_results(written).best
    assert any(f"learning_rate={best['hyperparameters']['learning_rate']:.3g}" in line for line in lines)
    assert "2 trials have failed; the first: trial 005, ResourceExhaustedError: out of memory" in lines


def test_csv_has_a_row_for_each_trial_with_its_terms_and_hyperparameters(written):
    rows = list(csv.DictReader(io.StringIO(tuned(f"results {written} --csv"))))
    assert len(rows) == 30 and rows[-1]["message"] == "ResourceExhaustedError: out of memory"
    for row in rows[:28]:
        given = {"learning_rate": float(row["hp.learning_rate"]), "alpha": float(row["hp.alpha"])}
        expected = law(given, int(row["epochs"]))
        assert (
            float(row["sculpting"]) == expected["sculpting"]
            and float(row["reconstruction"]) == expected["reconstruction"]
        )
    assert json.loads(rows[0]["hp.units"])[0] == 64 and rows[0]["truth_used"] == "False"


def test_a_damaged_record_is_left_out_and_named(written, tmp_path, caplog):
    shutil.copytree(written, tmp_path / "s")
    (tmp_path / "s" / "trials" / "003.json").write_text("{")
    (tmp_path / "s" / "trials" / "004.json").write_text("{}")
    results = load_results(tmp_path / "s")
    assert re.search(r"003.json: .*damaged.*left out", caplog.text)
    assert len(results.trials) == 28 and [path[-8:] for path in results.damaged] == ["003.json", "004.json"]


@pytest.mark.parametrize("text", ["{", "[]", '{"objective": 3}'])
def test_a_folder_with_a_damaged_search_is_refused(text, tmp_path):
    (tmp_path / "search.json").write_text(text)
    with pytest.raises(InputError, match=r"search.json: .*damaged"):
        load_results(tmp_path)


def test_the_history_of_a_promoted_trial_begins_with_that_of_its_origin(written):
    results = load_results(written)
    promoted = next(trial for trial in results.completed if trial["promoted_from"])
    assert [row["epoch"] for row in results.history(promoted)] == list(range(9))


def test_truth_is_in_every_output(tmp_path):
    by_truth = lambda hyperparameters, epochs: {"1-auc:two": hyperparameters["alpha"] / 1e4}  # noqa: E731
    out = write_search(tmp_path / "s", 12, "auc:two", law=by_truth)
    assert "TRUTH USED" in tuned(f"results {out}") and "TRUTH USED" in tuned(f"best {out}")
    assert (
        json.loads(tuned(f"results {out} --json"))["truth_used"] and tuned(f"results {out} --csv").count("True") == 12
    )
    assert json.loads(tuned(f"plot {out} --json"))["truth_used"]
    assert "TRUTH USED" in (out / "plots" / "index.html").read_text()
    assert read_numbers(out / "plots" / "history.json")["truth_used"]


# -- best ----------------------------------------------------------------------------------------------------


def test_best_shows_the_trial_asked_for(written):
    best = load_results(written).best
    assert tuned(f"best {written}").startswith(f"trial {best['trial']} (no labels used): reconstruction ")
    assert tuned(f"best {written} --trial 2").startswith("trial 002 ")


@pytest.mark.parametrize(
    "options, message",
    [
        ("--export served", "add --retrain"),
        ("--members 3", "--members is for training anew"),
        ("--data lhco_sim_train", "--data is for training anew"),
        ("--retrain --members 3", "--retrain needs --out"),
        ("--trial 77", "no trial '77'"),
    ],
)
def test_what_best_cannot_do_is_refused(options, message, written):
    assert message in refused(f"best {written} {options}")


# -- figures -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(front, tmp_path_factory):
    out = tmp_path_factory.mktemp("drawn")
    line = f"plot {front} --out {out / 'plots'} --tensorboard {out / 'board'} --json"
    return out, json.loads(tuned(line))


@pytest.mark.drawn
def test_plot_writes_every_figure_with_its_numbers_and_one_page(drawn):
    out, told = drawn
    names = {"history", "importance", "learning", "parallel", "pareto"}
    assert set(told["files"]) == {f"{name}.{end}" for name in names for end in ("png", "json")} | {"index.html"}
    html = (out / "plots" / "index.html").read_text()
    assert html.count("data:image/png;base64,") == 5 and "(knee)" in html
    assert not re.search(r'(src|href)="(?!data:|#|https://arxiv)', html)  # needs no other file


@pytest.mark.drawn
def test_the_numbers_of_the_front_are_those_of_the_trials(drawn, front):
    results, numbers = load_results(front), read_numbers(drawn[0] / "plots" / "pareto.json")
    assert numbers["knee"] == results.best["trial"] and set(numbers["front"]) == {t["trial"] for t in results.front}
    learning = read_numbers(drawn[0] / "plots" / "learning.json")
    assert learning["best"] == results.best["trial"] == next(iter(learning["trials"]))
    history = read_numbers(drawn[0] / "plots" / "history.json")
    assert history["best_so_far"] == sorted(history["best_so_far"])
    assert history["best_so_far"][-1] == pytest.approx(numbers["hypervolume"])


@pytest.mark.drawn
def test_tensorboard_gets_a_run_for_each_trial_with_hyperparameters_and_metrics(drawn, front):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    board, results = drawn[0] / "board", load_results(front)
    trial = results.best
    seen = EventAccumulator(str(board / trial["trial"])).Reload()
    data = plugin_data_pb2.HParamsPluginData.FromString(
        seen.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    )
    hyperparameters = data.session_start_info.hparams
    assert hyperparameters["alpha"].number_value == trial["hyperparameters"]["alpha"]
    assert hyperparameters["scaling"].string_value == trial["hyperparameters"]["scaling"]
    assert {"objective", "reconstruction", "sculpting"} <= set(seen.Tags()["tensors"]) and drawn[1]["runs"] == 30


def test_importances_find_what_the_law_says_and_their_forest_explains_it(written):
    found = importance(load_results(written), "reconstruction")
    assert next(iter(found["importance"])) == "learning_rate" and found["r2"] > 0.5
    assert all(abs(found["importance"][name]["mean"]) < 0.1 for name in ("scaling", "units"))
    assert next(iter(importance(load_results(written), "sculpting")["importance"])) == "alpha"


def test_importances_of_noise_are_seen_to_be_meaningless_by_their_r2(tmp_path):
    rng = np.random.default_rng(0)
    noise = lambda hyperparameters, epochs: {"reconstruction": float(rng.normal())}  # noqa: E731
    out = write_search(tmp_path / "s", 40, "reconstruction", law=noise)
    assert importance(load_results(out))["r2"] < 0.15


def test_few_trials_give_no_importances_and_the_page_says_why(tmp_path, caplog):
    out = write_search(tmp_path / "s", 6)
    files = figures.draw(load_results(out), tmp_path / "plots")
    assert re.search("no figure 'importance': .*at least 10", caplog.text)
    assert "importance.png" not in files
    assert "Not drawn" in (tmp_path / "plots" / "index.html").read_text()


def test_the_best_so_far_only_falls_and_ends_at_the_best(written):
    results = load_results(written)
    values = [value for _, value in best_so_far(results)]
    assert values == sorted(values, reverse=True) and values[-1] == results.best["objective"] and len(values) == 28


def test_a_search_without_a_completed_trial_cannot_be_drawn(tmp_path):
    out = write_search(tmp_path / "s", 3, failed=(0, 1, 2))
    assert "none of 3 trials has completed" in refused(f"plot {out}") and not (out / "plots").exists()
    assert "none of 3 trials has completed" in refused(f"best {out}")


# -- spaces --------------------------------------------------------------------------------------------------


def test_space_prints_the_table_of_a_model_as_set_and_files_leave_it(tmp_path):
    assert re.search(r"^d_shape +start, lhco2020 +d_units$", tuned("space gan_ae"), re.MULTILINE)
    assert "d_shape" not in tuned("space gan_ae --set d_units=300,200")
    (tmp_path / "space.yaml").write_text(tuned("space gan_ae --yaml"))
    assert yaml.safe_load((tmp_path / "space.yaml").read_text())["latent_dim"] == [8, 14, 20]
    rows = json.loads(tuned("space gan_ae --json"))
    assert json.loads(tuned(f"space gan_ae --space {tmp_path / 'space.yaml'} --json")) == rows
    assert {"name": "d_epochs", "min": 1, "max": 10, "kind": "int"}.items() <= rows[-2].items()
