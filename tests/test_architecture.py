"""The structure that docs/architecture.md promises."""

import ast
import importlib
import re
import sys
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


def modules():
    """Every module of the three packages by its dotted name."""
    for package in FORBIDDEN:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports_of(path, known):
    """The modules among `known` that a file imports, at its top or inside a function, but not for type checking only."""
    skipped = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped.update(ast.walk(node))
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                if submodule in known:
                    yield submodule
                elif node.module in known:
                    yield node.module


def circles(graph):
    """Return the groups of modules that import each other, directly or not: strongly connected components."""
    reached = {}
    for start in graph:
        seen, waiting = set(), [start]
        while waiting:
            for module in graph[waiting.pop()] - seen:
                seen.add(module)
                waiting.append(module)
        reached[start] = seen
    groups = {frozenset(b for b in reached[a] if a in reached[b]) for a in graph if a in reached[a]}
    return {tuple(sorted(group)) for group in groups}


def test_a_circle_of_imports_is_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert circles(graph) == {("b", "c")}


def test_no_module_imports_itself_in_a_circle():
    known = dict(modules())
    graph = {name: set(imports_of(path, known)) for name, path in known.items()}
    assert not circles(graph)


def compared_with_takes(source):
    """Lines of a source that compare what `takes` says, as `model.takes == "spectrum"`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            for side in ast.walk(node):
                if (isinstance(side, ast.Attribute) and side.attr == "takes") or (
                    isinstance(side, ast.Name) and side.id == "takes"
                ):
                    yield node.lineno
        elif isinstance(node, ast.Match) and "takes" in ast.dump(node.subject):
            yield node.lineno


def test_comparisons_with_takes_are_found():
    found = compared_with_takes('if model.takes != "spectrum": pass\nTAKES[model.takes]\nok = kind in (takes, 1)')
    assert list(found) == [1, 3]


def test_only_models_know_what_kind_of_data_they_take():
    for package in FORBIDDEN:
        for path in (ROOT / package).rglob("*.py"):
            if ROOT / "zoo/models" not in path.parents:
                assert not list(compared_with_takes(path.read_text())), path


def test_the_page_names_every_module_and_none_that_is_gone():
    """By its path, or by its folder with a slash behind."""
    page = (ROOT / "docs/architecture.md").read_text()
    named = set(re.findall(r"`((?:pipelines|zoo|tuning)/(?:\w+/)*(?:\w+\.py)?)`", page))
    paths = [path.relative_to(ROOT) for package in FORBIDDEN for path in (ROOT / package).rglob("*.py")]
    modules = [path for path in paths if not path.name.startswith("__")]
    assert [str(path) for path in modules if not named & {path.as_posix(), f"{path.parent.as_posix()}/"}] == []
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_old_paths_of_modules_lead_to_modules():
    for package in FORBIDDEN:
        importlib.import_module(package)
    moved = {old: new for one in sys.meta_path for old, new in getattr(one, "moved", {}).items()}
    known = dict(modules())
    assert moved["zoo.saved_model"] == "zoo.serving.saved_model"
    assert {old: new for old, new in moved.items() if old in known or new not in known} == {}


def test_names_of_a_package_are_there_when_they_are_asked_for(fresh_python):
    code = (
        "import sys, zoo.evaluation, zoo.hunting, zoo.serving; print('numpy' in sys.modules); "
        "found = [hasattr(one, name) for one in (zoo.evaluation, zoo.hunting, zoo.serving) for name in one.__all__]; "
        "print(all(found), hasattr(zoo.hunting, 'nothing'))"
    )
    assert fresh_python(code).split() == ["False", "True", "False"]


def test_only_the_doors_choose_a_keras():
    doors = {ROOT / "zoo/keras/__init__.py", ROOT / "tuning/kerastuner.py"}
    for package in FORBIDDEN:
        for path in set((ROOT / package).rglob("*.py")) - doors:
            assert not {"keras", "tf_keras", "keras_tuner"} & set(imported(path)), path
            assert "tf.keras" not in path.read_text(), path


def test_nothing_is_pickled():
    for package in FORBIDDEN:
        for path in (ROOT / package).rglob("*.py"):
            assert not {"pickle", "cloudpickle", "dill", "joblib"} & set(imported(path)), path
            assert "allow_pickle" not in path.read_text(), path


def missing(path):
    """Names that a file takes from the three packages, and that are not there."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module.partition(".")[0] in FORBIDDEN:
            there = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(there, alias.name):
                    try:
                        importlib.import_module(f"{node.module}.{alias.name}")
                    except ModuleNotFoundError:
                        yield f"{node.module}.{alias.name}"


def test_what_benchmarks_import_is_there(tmp_path):
    """No other test runs them: one had not started since a function moved."""
    (tmp_path / "old.py").write_text("from zoo.cli.terminal import quiet_zoo, open_events")
    assert list(missing(tmp_path / "old.py")) == ["zoo.cli.terminal.open_events"]
    files = list((ROOT / "benchmarks").glob("*.py"))
    assert files and {path.name: names for path in files if (names := list(missing(path)))} == {}


def test_importing_the_packages_is_light(fresh_python):
    code = (
        "import sys, zoo, tuning, pipelines; print(*(name in sys.modules for name in ('tensorflow', 'keras', 'numpy')))"
    )
    assert fresh_python(code).split() == ["False", "False", "False"]


def test_embedded_samples_are_credited_and_small():
    samples = ROOT / "pipelines" / "samples"
    files = list(samples.glob("*.h5"))
    credit = (samples / "README.md").read_text()
    assert files and all(path.name in credit for path in files)
    assert sum(path.stat().st_size for path in files) < 12 * 2**20
