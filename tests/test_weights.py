"""Trained weights that come with the package: they open, score as they did, and are taken wherever a run is."""

import itertools
import json
import shlex
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import pipelines
import zoo
from pipelines import InputError
from pipelines.outputs import as_json
from zoo import weights
from zoo.cli.main import main
from zoo.settings import parse_setting

SCORES = json.loads((Path(__file__).parent / "data" / "weights.json").read_text())
MAIN = "pca/lhco_sim"


def output(*words):
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 0, done.stderr
    return done.stdout


def failure(*words):
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1, done.output
    return done.stderr


@pytest.mark.parametrize("name", weights.names())
def test_weights_of_older_versions_give_their_scores(name):
    kept = {key: np.array(value, np.float32) for key, value in SCORES[name].items()}
    expected, model = kept.pop("score"), zoo.load(name)
    found = model.score(kept["counts"], edges=kept["edges"]) if "counts" in kept else model.score(kept)
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    assert model.zoo_name == name.partition("/")[0] and model.loaded_from["folder"] == name


def test_there_are_weights_of_every_model_but_the_yardstick():
    own = {"ae", "anode", "cathode", "conv_vae", "cwola", "ddp", "deep_svdd", "gan_ae", "gcn_vae", "isolation_forest", "knn",
           "lacathode", "pca", "r_anode", "vae"}  # fmt: skip
    assert own <= {name.partition("/")[0] for name in weights.names()} <= {*zoo.names()} - {"idealised"}
    assert set(SCORES) == set(weights.names())


def test_weights_are_small_and_say_nothing_of_the_machine_they_are_from():
    sizes = {}
    for name in weights.names():
        files = [path for path in (weights.FOLDER / name).rglob("*") if path.is_file()]
        sizes[name] = sum(path.stat().st_size for path in files)
        config = json.loads((weights.FOLDER / name / "config.json").read_text())
        assert config["command"].startswith(f"zoo train {config['model']} ")
        assert not any(str(path).startswith("/") for path in (config["data"].get("files") or []))
        assert "/tmp" not in json.dumps(config) and not (config.get("tuning") or {}).get("truth_used")
    assert max(sizes.values()) < 1_000_000 and sum(sizes.values()) < 4_000_000


def test_a_name_stands_where_a_run_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    events = pipelines.open("lhco_sim_test")
    output("score", MAIN, "--data", "lhco_sim_test", "--out", "scores.h5")
    assert len(zoo.score(MAIN, events)) == len(events)
    area = json.loads(output("evaluate", MAIN, "--data", "lhco_sim_test", "--json"))["auc"]
    assert list(area.values()) == pytest.approx(list(weights.results(MAIN)["auc"].values()), abs=1e-6)
    output("export", MAIN, "--out", "served")
    assert "SavedModel of pca" in output("show", "served")
    output("hunt", MAIN, "--data", "lhco_sim_test", "--percentile", 90, "--toys", 20, "--out", "search")
    assert json.loads(Path("search/search.json").read_text())["configuration"]["run"]["folder"] == MAIN
    assert zoo.explain(MAIN, events, most=20)


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(weights.FOLDER / "pca/lhco_sim", "pca/lhco_sim")
    assert weights.find(MAIN) == Path(MAIN) and not weights.is_shipped(MAIN)
    Path("pca/lhco_sim/config.json").unlink()
    with pytest.raises(InputError, match=r"no config\.json in it"):
        zoo.load(MAIN)
    assert "no config.json in it" in failure("score", MAIN, "--data", "lhco_sim_test", "--out", "scores.h5")


def test_an_error_names_those_that_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no such folder.*; the trained weights of pca are pca/lhco_sim"):
        zoo.load("pca/lhco")
    assert "the trained weights of pca are pca/lhco_sim" in failure(
        "score", "pca/lhco", "--data", "lhco_sim_test", "--out", "o"
    )
    assert "; there are ae/lhco_sim, " in failure("score", "pcb/lhco_sim", "--data", "lhco_sim_test", "--out", "o")
    assert "the trained weights of pca are pca/lhco_sim" in failure("show", "pca/lhco")
    for run in ("runs/of/mine", "runs/mine"):
        assert "lhco_sim, " not in failure("score", run, "--data", "lhco_sim_test", "--out", "o")
    assert weights.results(Path("./pca/lhco_sim/")) == weights.results(MAIN)


def test_commands_list_them_and_say_what_they_are():
    assert output("list").splitlines()[-1] == f"Trained weights, taken as RUN: {', '.join(weights.names())}"
    assert [one["weights"] for one in json.loads(output("list", "pca", "--json"))] == [[MAIN]]
    told = output("show", MAIN)
    assert "zoo train pca --data lhco_sim_train" in told and "AUC two-prong" in told
    assert json.loads(output("show", MAIN, "--json")) == weights.results(MAIN)


def test_a_search_is_trained_again_with_their_hyperparameters(tmp_path):
    found = zoo.hunt(MAIN, "lhco_sim_test", folds=2, mass_range=(2700, 5000), percentiles=90, pseudo_experiments=20,
                     jit_compile=False)  # fmt: skip
    assert found.configuration["training"]["hyperparameters"]["latent_dim"] == 2


def test_figures_of_their_training_can_be_drawn(tmp_path):
    assert "history.png" in zoo.plot("vae/lhco_sim", tmp_path / "figures")


def test_the_package_data_names_every_file():
    patterns = "*/*/*.json", "*/*/*.csv", "*/*/model/*.h5"
    named = {path for pattern in patterns for path in weights.FOLDER.glob(pattern)}
    assert named == {
        path for path in weights.FOLDER.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    }


def test_a_table_of_calibration_is_not_kept_in_the_package(tmp_path):
    with h5py.File(tmp_path / "spectra.h5", "w") as file:
        file["counts"] = np.round(1000 * np.exp(-np.arange(40) / 8.0))[None]
        file["edges"] = np.linspace(1000, 3000, 41)
    with pytest.raises(InputError, match="ddp/spectra comes with the package, where no table is kept; name a file"):
        zoo.scan(tmp_path / "spectra.h5", "ddp/spectra", calibrate="table")


@pytest.mark.parametrize("name", weights.names())
def test_weights_are_those_of_the_printed_command_with_todays_defaults(name):
    words = shlex.split(weights.results(name)["command"])
    model = words[words.index("train") + 1]
    options = list(itertools.pairwise(words))
    given = dict(parse_setting(text) for option, text in options if option == "--set")
    preset = next((text for option, text in options if option == "--preset"), None)
    kind = zoo.registry.model_class(model)
    expected = as_json({**kind.Hyperparameters.defaults(), **(kind.presets[preset] if preset else {}), **given})
    found = json.loads((weights.FOLDER / name / "config.json").read_text())["hyperparameters"]
    resolved = {"columns", "window", "sidebands", "object_columns", "slots", "particles"}  # by the data, or by --window
    assert {key: found[key] for key in expected if key not in resolved} == {
        key: value for key, value in expected.items() if key not in resolved
    }
