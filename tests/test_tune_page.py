"""What a search says of itself: what was done, the objective, and whether the best reconstructs anything; fitted spaces."""

import json
import re

import pytest
from conftest import PIXEL
from searched import write_search

from pipelines import InputError
from tuning import algorithms
from tuning.page import to_html
from tuning.results import load_results
from tuning.space import Space
from tuning.table import table
from zoo.models.vae import RATES

ABOUT = {
    "preset": None, "fixed": {"units": [64, 64]}, "algorithm": "hyperband", "plan": ["12 to epoch 3, best 4 to epoch 9"],
    "command": "tune --model vae --seed 3", "versions": {"numpy": "2.4"}, "extra": {"mass_range": [2700.0, 5000.0]},
    "data": {"source": "good.h5", "files": ["/nowhere/good.h5"], "events": 600, "sha256": "ab" * 32}, "validation": None,
    "space": [{"class_name": "Float", "config": {"name": "alpha", "min_value": 1.0, "max_value": 100.0, "sampling": "log",
               "conditions": [{"class_name": "Parent", "config": {"name": "scaling", "values": ["maxabs"]}}]}},
              {"class_name": "Choice", "config": {"name": "scaling", "values": ["maxabs", "standard"], "conditions": []}}],
}  # fmt: skip


def search(folder, law=None, **options):
    out = write_search(folder / "s", 9, **({"law": law} if law else {}), **options)
    told = json.loads((out / "search.json").read_text())
    (out / "search.json").write_text(json.dumps({**told, **ABOUT}))
    return load_results(out)


def test_the_page_has_the_objective_and_says_what_was_done(tmp_path):
    found = search(tmp_path)
    html = to_html(found, tmp_path, {})
    heads = [part.split("<")[0] for part in html.split('<th scope="col" class="number">')[1:6]]
    assert heads[:4] == ["trial", "epochs", "objective", "reconstruction"]
    assert f"{found.best['objective']:.4g}" in html and html.index("Best trials") < html.index("What was done")
    for said in ("600 events of good.h5 (SHA-256 abababababab)", "2700 to 5000 GeV", "12 to epoch 3, best 4 to epoch 9",
                 "units=64-64", "batch_size=500", "1 to 100, log", "scaling is maxabs", "tune --model vae --seed 3", "numpy 2.4"):  # fmt: skip
        assert said in html, said


def test_the_page_of_a_front_has_no_objective_of_single_trials(tmp_path):
    html = to_html(search(tmp_path, objective="pareto:reconstruction,sculpting"), tmp_path, {})
    assert ">objective<" not in html and "(knee)" in html


def test_the_page_can_be_read_on_a_phone(tmp_path):
    """What is wider than the screen is scrolled by itself, and figures are not shrunk until their words are lost."""
    (tmp_path / "history.png").write_bytes(PIXEL)
    html = to_html(search(tmp_path), tmp_path, {})
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    wide = [part.split(">")[0] for part in re.findall(r"<div[^>]*>\s*<(?:table|img)", html)]
    assert len(wide) == html.count("<table") + html.count("<img") > 3
    assert all('class="scroll"' in one and 'tabindex="0"' in one for one in wide)
    phone = html.split("@media screen and (max-width: 34rem)")[1].split("@media")[0]
    assert ".scroll img { max-width: 40rem; }" in phone and ".scroll { overflow-x: auto; }" in html


@pytest.mark.parametrize("least, told", [(0.5, False), (0.97, True)])
def test_a_best_trial_that_reconstructs_next_to_nothing_is_told(least, told, tmp_path):
    found = search(tmp_path, law=lambda values, epochs: {"reconstruction": least, "sculpting": 0.0})
    assert bool(found.caveats()) is told and ("warnings" in found.to_json()) is told
    for text in (table(found), to_html(found, tmp_path, {})):
        assert ("reconstructs next to nothing: 0.970, where 1 is the mean of everything" in text) is told


def test_the_events_of_a_search_that_are_gone_are_told(tmp_path):
    with pytest.raises(
        InputError,
        match=r"its events cannot be opened: /nowhere/good\.h5: no such file.*give the events to train on, data",
    ):
        search(tmp_path).events()
    with pytest.raises(InputError, match="it is not known in which files its events are"):
        load_results(write_search(tmp_path / "old")).events()


@pytest.mark.parametrize("features, layers, widest", [(12, 2, 11), (11, 2, 10), (17, 3, 16), (33, 4, 32), (40, 4, 39)])
def test_the_space_of_ae_follows_the_number_of_features(features, layers, widest):
    space = Space("ae").of_features(features)
    rows = {row["name"]: row for row in space.rows()}
    most = rows["layers"]["max"] if "max" in rows["layers"] else rows["layers"]["values"][0]
    outer = rows[f"encoder_{layers - 1}"]
    assert most == layers and outer.get("max", outer.get("values", [None])[0]) == widest
    space.check(draws=20)


def test_what_the_user_says_of_a_space_stays(tmp_path):
    (tmp_path / "space.yaml").write_text("layers: 1\nlatent_alone: {min: 2, max: 5}\n")
    searched = Space("ae", {"batch_size": 64}, None, tmp_path / "space.yaml").of_features(12).searched
    assert searched["latent_alone"].max_value == 5 and "batch_size" not in searched
    assert Space("vae").of_features(12) == Space("vae")


def test_the_range_of_learning_rates_follows_the_optimizer_that_is_fixed():
    ends = {}
    for optimizer in ("adam", "adadelta"):
        space = Space("vae", {"optimizer": optimizer}).of_features(6)
        rate = space.searched[f"learning_rate[{optimizer}]"]
        ends[optimizer] = (rate.min_value, rate.max_value, rate.sampling)
        assert [row["name"] for row in space.rows()].count("learning_rate") == 1  # the other's cannot be
    assert ends == {"adam": (1e-4, 1e-2, "log"), "adadelta": (3e-4, 1e-1, "log")}
    fixed = Space("vae", {"optimizer": "adam", "learning_rate": 0.1}).of_features(6)
    assert not any(name.startswith("learning_rate") for name in fixed.searched)
    assert fixed.draw(fixed.hyperparameters())["learning_rate"] == 0.1


@pytest.mark.parametrize("algorithm", ["hyperband", "random", "bayesian"])
def test_the_range_of_learning_rates_follows_the_optimizer_that_is_drawn(algorithm):
    space = Space("vae")
    oracle = algorithms.make(algorithm, space.hyperparameters(), 24, 3, 3, seed=2)
    seen = {"adam": [], "adadelta": []}
    for number in range(24):
        trial = oracle.create_trial(f"w{number}")
        drawn = space.draw(trial.hyperparameters)
        seen[drawn["optimizer"]].append(drawn["learning_rate"])
        trial.status = "COMPLETED"
        oracle.update_trial(trial.trial_id, {algorithms.OBJECTIVE.name: float(number)}, step=1)
        oracle.end_trial(trial)
    for optimizer, (low, high) in RATES.items():
        assert len(seen[optimizer]) > 3 and all(low <= rate <= high for rate in seen[optimizer])


def test_a_range_that_the_user_gives_is_for_all_optimizers_and_a_part_of_one_for_each():
    both = Space("vae", overrides={"learning_rate": {"min": 0.002, "max": 0.005}})
    rows = [row for row in both.rows() if row["name"] == "learning_rate"]
    assert [(row["min"], row["max"], row["sampling"]) for row in rows] == [(0.002, 0.005, "log")] * 2
    assert [row["when"] for row in rows] == [{"optimizer": ["adadelta"]}, {"optimizer": ["adam"]}]
    assert both.template().count("learning_rate: {") == 1 and "# learning_rate" not in both.template()
    part = Space("vae", overrides={"learning_rate": {"max": 0.005}})
    assert [row["min"] for row in part.rows() if row["name"] == "learning_rate"] == [3e-4, 1e-4]
    with pytest.raises(InputError, match=r"learning_rate is from 0\.05 to 0\.01; expected min < max"):
        Space("vae", overrides={"learning_rate": {"min": 0.05}})
    assert Space("vae").template().count("# learning_rate: {") == 2
