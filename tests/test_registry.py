"""The register: what is found by name, what is refused and with which advice, and models of third parties."""

import json
import sys

import pytest
from click.testing import CliRunner

import zoo
import zoo.cli.main
from pipelines import InputError
from zoo import registry


@pytest.fixture
def empty_place(monkeypatch):
    """A register in which a test may put what it likes."""
    zoo.names()
    monkeypatch.setattr(registry, "_models", dict(registry._models))


def test_an_unknown_model_is_answered_with_the_near_names():
    with pytest.raises(InputError, match="model 'gan_ea' is not known; did you mean 'gan_ae'"):
        zoo.get("gan_ea")


def test_a_name_that_is_near_nothing_is_answered_with_all_names():
    with pytest.raises(InputError, match="expected one of " + ", ".join(zoo.names())):
        zoo.get("qqqqq")


def test_an_unknown_preset_is_answered_with_the_presets():
    with pytest.raises(InputError, match="preset 'lhco2021' of 'gan_ae' is not known; did you mean 'lhco2020'"):
        zoo.get("gan_ae", preset="lhco2021")
    with pytest.raises(InputError, match="expected one of start, lhco2020"):
        zoo.get("gan_ae", preset="qqqqq")


def test_an_unknown_hyperparameter_is_answered_with_the_near_ones():
    with pytest.raises(InputError, match="hyperparameter 'epsilom' of 'gan_ae' is not known; did you mean 'epsilon'"):
        zoo.get("gan_ae", epsilom=5.0)


def test_a_hyperparameter_that_is_near_nothing_is_answered_with_all_valid_ones():
    with pytest.raises(InputError) as refused:
        zoo.get("gan_ae", qqqqq=5.0)
    assert all(name in str(refused.value) for name in zoo.describe("gan_ae")["hyperparameters"])


def test_what_is_given_goes_before_the_preset_and_the_preset_before_the_defaults():
    config = zoo.get("gan_ae", preset="lhco2020", epsilon=7.0).get_config()
    assert (config["epsilon"], config["alpha"], config["latent_dim"]) == (7.0, 65.0, 14)


@pytest.mark.parametrize(
    "name, value",
    [("epsilon", -1), ("epsilon", "abc"), ("batch_size", 1.5), ("batch_size", 0), ("dropout_rate", 1.0)]
    + [("scaling", "none"), ("flat_mass", "maybe"), ("latent_dim", (3, 4)), ("epsilon", {"a": 1}), ("d_units", ())]
    + [("columns", 5), ("d_units", "abc"), ("d_units", (100, "abc")), ("learning_rate", True), ("seed", -1)],
)
def test_a_value_that_cannot_be_is_refused_by_name_with_what_could(name, value):
    with pytest.raises(InputError, match=f"^{name}=.*is not possible; expected "):
        zoo.get("gan_ae", **{name: value})


@pytest.mark.parametrize("name, value, kept", [("d_units", 16, (16,)), ("columns", "pt_*", ("pt_*",))])
def test_one_value_stands_for_a_sequence_of_one(name, value, kept):
    assert zoo.get("gan_ae", **{name: value}).hyperparameter(name) == kept


def test_names_match_shell_patterns():
    assert "gan_ae" in zoo.names() and zoo.names() == sorted(zoo.names())
    assert zoo.names("gan*") == [name for name in zoo.names() if name.startswith("gan")]
    assert zoo.names("qqqqq*") == []


def test_a_taken_name_is_refused_to_another_class_but_not_to_its_own(empty_place):
    model = type(zoo.get("gan_ae"))
    assert zoo.register("gan_ae")(model) is model
    with pytest.raises(InputError, match=r"'gan_ae' is registered already, by zoo\.models\.gan_ae"):
        zoo.register("gan_ae")(type("Other", (model,), {}))
    assert registry.model_class("gan_ae") is model


def test_a_cell_of_a_notebook_that_is_run_again_replaces_its_model(empty_place):
    cell = "@zoo.register('mine')\nclass Mine(kind):\n    pass\n"
    names = {"zoo": zoo, "kind": type(zoo.get("gan_ae")), "__name__": "__main__"}
    for _ in range(2):
        exec(cell, names)
        assert registry.model_class("mine") is names["Mine"]


def test_importing_the_zoo_imports_nothing_heavy(fresh_python):
    assert fresh_python("import zoo, sys; print(sorted({'tensorflow', 'tf_keras'} & set(sys.modules)))") == "[]\n"


PLUG_IN = """
import zoo
from zoo.models.gan_ae import GANAE

class Plain(GANAE):
    "A model that its entry point names."

@zoo.register("theirs_decorated")
class Decorated(GANAE):
    "A model that its decorator names."

class Taken(GANAE):
    "A model whose name is another's."

def function(): ...
"""

ENTRY_POINTS = """
[hep_anomaly_zoo.models]
theirs = their_models:Plain
other_name = their_models:Decorated
a_module = their_module
gan_ae = their_models:Taken
no_model = their_models:function
not_there = their_models:Missing
broken = their_broken
leaving = their_leaving
"""


@pytest.fixture
def third_party(tmp_path):
    """A folder that holds an installed distribution with models, good and bad."""
    about = tmp_path / "their_zoo-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-zoo\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "their_models.py").write_text(PLUG_IN)
    (tmp_path / "their_module.py").write_text(
        'import zoo\nfrom zoo.models.gan_ae import GANAE\n@zoo.register("theirs_in_module")\nclass One(GANAE):\n    "One."\n'
    )
    (tmp_path / "their_broken.py").write_text("import a_package_that_is_not_there\n")
    (tmp_path / "their_leaving.py").write_text("raise SystemExit(3)\n")
    yield tmp_path
    for name in ("their_models", "their_module", "their_broken", "their_leaving"):
        sys.modules.pop(name, None)


def test_models_of_third_parties_join_and_broken_ones_are_named_and_left_out(third_party, monkeypatch, caplog):
    own = zoo.names()
    monkeypatch.syspath_prepend(third_party)
    monkeypatch.setattr(registry, "_models", dict(registry._models))
    registry._discover.cache_clear()  # as in a Python in which nobody asked for a model yet
    done = CliRunner().invoke(zoo.cli.main.main, ["list", "--json"])
    assert done.exit_code == 0, done.output
    warned = [one.getMessage() for one in caplog.records if "plug-in" in one.getMessage()]
    modules = {name: registry.model_class(name).__module__ for name in zoo.names()}
    theirs = {"theirs": "their_models", "theirs_decorated": "their_models", "theirs_in_module": "their_module"}
    assert modules == {**{name: modules[name] for name in own}, **theirs}
    assert modules["gan_ae"] == "zoo.models.gan_ae"
    assert [model["name"] for model in json.loads(done.stdout)] == sorted(modules)
    for name, reason in {
        "gan_ae": "registered already",
        "no_model": "expected a subclass of zoo.AnomalyModel",
        "not_there": "Missing",
        "broken": "a_package_that_is_not_there",
        "leaving": "SystemExit",
    }.items():
        (message,) = [w for w in warned if f"plug-in '{name}' (their_" in w]
        assert reason in message and "of their-zoo" in message
    assert len(warned) == 5
