"""The structure that docs/architecture.md promises."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {"pipelines": {"zoo", "tuning"}, "zoo": {"tuning"}, "tuning": set()}


def imported(path):
    """Top-level packages that a file imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_go_one_way(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        assert not FORBIDDEN[package] & set(imported(path)), path


def test_only_the_doors_choose_a_keras():
    doors = {ROOT / "zoo/keras.py", ROOT / "tuning/kerastuner.py"}
    for package in FORBIDDEN:
        for path in set((ROOT / package).rglob("*.py")) - doors:
            assert not {"keras", "tf_keras", "keras_tuner"} & set(imported(path)), path
            assert "tf.keras" not in path.read_text(), path


def test_nothing_is_pickled():
    for package in FORBIDDEN:
        for path in (ROOT / package).rglob("*.py"):
            assert not {"pickle", "cloudpickle", "dill", "joblib"} & set(imported(path)), path
            assert "allow_pickle" not in path.read_text(), path


def test_importing_the_packages_is_light(fresh_python):
    code = "import sys, zoo, tuning, pipelines; print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    assert fresh_python(code).split() == ["False", "False"]


def test_embedded_samples_are_credited_and_small():
    samples = ROOT / "pipelines" / "samples"
    files = list(samples.glob("*.h5"))
    credit = (samples / "README.md").read_text()
    assert files and all(path.name in credit for path in files)
    assert sum(path.stat().st_size for path in files) < 12 * 2**20
