"""What models declare is known without TensorFlow, from a file that is never stale; and what the doctor finds."""

import json

import pytest
from click.testing import CliRunner

import zoo
import zoo.cli.main
from pipelines import InputError
from zoo import declarations, machine_check, registry


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """A process that has imported no model, whose cache is empty."""
    everything = json.loads(json.dumps({name: registry.describe(name) for name in registry.names()}))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(registry, "is_filled", lambda: False)
    monkeypatch.setattr(declarations, "_key", lambda: "a key")
    return everything


def test_declarations_are_kept_and_are_those_of_the_models(kept, monkeypatch):
    assert declarations.known() is None and declarations.declared() == kept
    monkeypatch.setattr(registry, "describe", None)  # from the file now
    assert declarations.declared() == kept == declarations.known()
    assert [one["name"] for one in declarations.find("gan*")] == ["gan_ae"]
    monkeypatch.setattr(declarations, "_key", lambda: "another key")
    assert declarations.known() is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": "a key"}', '{"key": "a key", "models": {"vae": 1}}'])
def test_a_damaged_file_is_made_anew(content, kept):
    declarations.declared()
    declarations._path().write_text(content)
    assert declarations.known() is None and declarations.declared() == kept == declarations.known()


def test_a_cache_that_cannot_be_written_is_none(kept, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert declarations.declared() == kept and declarations.known() is None


def test_the_key_changes_with_sources_and_is_none_with_other_packages(monkeypatch, tmp_path):
    def key():
        declarations._key.cache_clear()
        return declarations._key()

    monkeypatch.setattr(declarations, "ROOT", tmp_path)
    (tmp_path / "zoo" / "models").mkdir(parents=True)
    (tmp_path / "zoo" / "models" / "a.py").write_text("x = 1")
    first = key()
    assert first == key()
    (tmp_path / "zoo" / "models" / "a.py").write_text("x = 2")
    assert key() not in (first, None)
    monkeypatch.setattr(declarations.metadata, "entry_points", lambda group: ["my_model"])
    assert key() is None
    declarations._key.cache_clear()


def test_typos_are_told_as_by_the_models_themselves(kept):
    declarations.declared()
    for name, preset, hyperparameters in (("vea", None, {}), ("vae", "ada", {}), ("vae", None, {"latentdim": 1})):
        with pytest.raises(InputError) as early:
            declarations.check_names(name, preset, hyperparameters)
        with pytest.raises(InputError) as late:
            zoo.get(name, preset, **hyperparameters)
        assert str(early.value) == str(late.value)
    declarations.check_names("gan_ae", "lhco2020", ["alpha"])


def test_list_show_and_typos_need_no_tensorflow(fresh_python, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    declarations._key.cache_clear()
    declarations._keep(json.loads(json.dumps({name: registry.describe(name) for name in registry.names()})))
    code = """
import sys
from tuning.cli import main as tune
from zoo.cli.main import main
lines = ["list", "show vae", "train vea --out o", "train vae --set latentdim=1 --out o", "score no --data lhco_sim_test --out o"]
codes = []
for program, line in [*((main, line) for line in lines), (tune, "--model vea"), (tune, "--model vae --preset no")]:
    try:
        program(line.split())
    except SystemExit as error:
        codes.append(error.code)
print(codes, "tensorflow" in sys.modules)
"""
    assert fresh_python(code).splitlines()[-1] == "[0, 0, 2, 2, 2, 2, 2] False"


# -- the doctor ---------------------------------------------------------------------------------------------


def test_the_doctor_finds_this_machine_well(tmp_path):
    done = CliRunner().invoke(zoo.cli.main.main, ["doctor", "--json", "--folder", str(tmp_path)])
    found = json.loads(done.stdout)
    assert {one["name"]: one["state"] for one in found["findings"]}["XLA"] == "ok" and found["versions"]["numpy"]
    assert done.exit_code == 0 and found["ok"] and list(tmp_path.iterdir()) == []


def test_the_doctor_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(machine_check, "free_memory", lambda: 1e9)
    monkeypatch.setattr(machine_check, "_xla", lambda: 1 / 0)
    monkeypatch.setattr(machine_check.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10.0}))

    def no_locks(*given):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(machine_check.fcntl, "flock", no_locks)
    found = zoo.doctor(tmp_path)
    states = {one["name"]: (one["state"], one["advice"]) for one in found["findings"]}
    assert states["memory"][0] == "warning" and "--workers" in states["memory"][1]
    assert states["file locks"][0] == "warning" and states["disk of outputs"] == (
        "warning",
        "choose --out on another disk",
    )
    assert not found["ok"] and "ZeroDivisionError" in str(found) and list(tmp_path.iterdir()) == []
