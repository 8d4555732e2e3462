"""The documentation: every command and every line of code in it is right, what is generated is not stale, pages name what there is."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import snippets
from snippets import (
    ROOT,
    blocks,
    check_command,
    check_meaning,
    check_pasted,
    check_python,
    commands,
    inline,
    is_file,
    pages,
)

import pipelines
import tuning
import zoo
from zoo import registry

sys.path.append(str(ROOT / "tools"))
import architectures
import cards

PAGES = pages()
QUICK = ("zoo list", "zoo show", "zoo data list", "zoo data kinds")  # run as they are by `make test`


def test_blocks_are_found_with_their_language_and_reason():
    text = """Text.

    zoo list  # the models
    zoo train pca \\
        --out run

<!-- not run: no batch system -->

```bash
tune --model vae
```

    1/B sum_i w_i

```python
import zoo
```"""
    found = [(one.language, one.line, one.reason) for one in snippets._blocks("page", text)]
    assert found == [("shell", 3, None), ("shell", 10, "no batch system"), ("text", 13, None), ("python", 16, None)]


def test_commands_are_taken_out_of_a_block():
    text = (
        "A=1 zoo list  # all\nfor m in 1 2; do\n    zoo show x$m && zoo list\ndone\nzoo score a \\\n  --out 'b c' > d\n"
    )
    assert commands(text) == [
        ["zoo", "list"], ["zoo", "show", "x1"], ["zoo", "list"], ["zoo", "score", "a", "--out", "b c"]
    ]  # fmt: skip


@pytest.mark.parametrize("line", [
    "zoo trian pca --out run", "zoo train pca --otu run", "zoo train pca --out run --set latentdim=3",
    "zoo train vae --preset no --out run", "zoo train pca --out run --set latent_dim=0", "tune --model vae --trials many",
    "python benchmarks/none.py", "python benchmarks/ddp.py --nothing", "make nothing", "pip install '.[nothing]'", "zoo data lisst",
    "somethingelse",
])  # fmt: skip
def test_a_wrong_command_is_found(line):
    with pytest.raises(Exception):  # noqa: B017  (of click, the zoo, or an assertion)
        check_meaning(check_command(commands(line)[0]))


@pytest.mark.parametrize("code", [
    "import zoo\nzoo.trian('pca')", "import zoo\nzoo.train('pca', 'data.h5', 'run', epoch=3)", "from zoo.base import Nothing",
    "import pipelines\npipelines.open()(", "import pipelines.metrics\npipelines.metrics.nothing(1)",
])  # fmt: skip
def test_wrong_code_is_found(code):
    with pytest.raises((AssertionError, SyntaxError)):
        check_python(code)


def test_code_that_a_prompt_does_not_take_is_found():
    check_pasted("with open('x') as file:\n    text = file.read()\n\nprint(text)")
    with pytest.raises(SyntaxError):
        check_pasted("with open('x') as file:\n    text = file.read()\nprint(text)")


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_code_of_a_page_are_right(page):
    wrong = []
    for block in blocks(page):
        try:
            if block.language == "shell":
                for words in commands(block.text):
                    check_meaning(check_command(words))
            elif block.language == "python":
                check_python(block.text)
                if not block.reason and not is_file(block):
                    check_pasted(block.text)
        except Exception as error:
            wrong.append(f"{block}: {type(error).__name__}: {error}")
    for line, text in inline(page):
        try:
            check_command(re.sub(r"\|\S+|\.\.\.", "", text).split(), inline=True)
        except Exception as error:
            wrong.append(f"{page}:{line}: `{text}`: {error}")
    assert not wrong, "\n".join(wrong)


def test_quick_commands_run(tmp_path, monkeypatch):
    from run_page import _command

    monkeypatch.chdir(tmp_path)
    lines = {
        tuple(words) for page in PAGES for block in blocks(page) if block.language == "shell" and not block.reason
        for words in commands(block.text) if " ".join(words).startswith(QUICK) and set(words) & {*registry.names(), "list", "kinds"}
    }  # fmt: skip
    assert len(lines) > 5
    for words in lines:
        assert _command(list(words)), words


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(not b.reason and b.language in ("shell", "python") for b in blocks(page))]
)
def test_a_page_runs(page, tmp_path):
    from standins import prepare

    is_tutorial = page.startswith("docs/tutorials/")
    if is_tutorial:  # begins with nothing, in a clone
        (tmp_path / "tests").symlink_to(ROOT / "tests")
    else:
        prepare(page, tmp_path)
    words = [sys.executable, str(ROOT / "tests/run_page.py"), page, *([] if is_tutorial else ["--short"])]
    threads = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")  # of tests beside each other; a reader has none such
    environment = {name: value for name, value in os.environ.items() if name not in threads} | {
        "TF_CPP_MIN_LOG_LEVEL": "3"
    }
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-6000:]


# -- what is generated --------------------------------------------------------------------------------------


def test_generated_parts_of_the_models_pages_are_those_of_the_models():
    for path, name in cards.pages().items():
        text = path.read_text(encoding="utf-8")
        assert cards.filled(text, name) == text, f"{path} is stale; run `python tools/cards.py`"
        assert "<!-- cost" in text and (name is None or "<!-- hyperparameters" in text), path
        assert name in (None, "idealised") or "<!-- weights" in text, path


def test_figures_of_architectures_are_those_of_the_models():
    for name in registry.names():
        path = architectures.FOLDER / f"{name}.svg"
        made = architectures.drawn(name, json.loads(json.dumps(zoo.describe(name)["hyperparameters"])))
        assert path.read_text(encoding="utf-8") == made, f"{path} is stale; run `python tools/architectures.py`"


@pytest.mark.parametrize("name", registry.names())
def test_a_card_has_all_that_a_card_has(name):
    text = (ROOT / "docs" / "models" / f"{name}.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert {"Hyperparameters", "Results", "Cost", "Limits", "Citation"} <= set(headings), headings
    assert f"(../figures/architecture/{name}.svg)" in text and "    " in text


# -- pages name what there is -------------------------------------------------------------------------------


def test_variables_are_all_explained():
    from pipelines.datasets import atlas_events, darkmachines_events
    from pipelines.features import jets

    text = (ROOT / "docs" / "variables.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`([^`]+)`", text))
    names |= {f"eRing{i}" for i in range(10)} | {name.replace("lep1", "lep2") for name in names}
    stems = {name.removesuffix("1") for name in names if re.fullmatch(r"(E|pt|eta|dphi)_[jblg]1", name)}
    stems |= {f"{q}_{o}" for q in ("E", "pt", "eta", "dphi") for o in "jblg"} if "dphi_j" in stems else set()
    for columns in (jets.columns(jets.JetOptions(njets=3)), darkmachines_events.COLUMNS, atlas_events.FEATURES["33"]):
        missing = {
            c
            for c in columns
            if c not in names and re.sub(r"_[123]$", "", c) not in names and c.rstrip("1234") not in stems
        }
        assert not missing


@pytest.mark.parametrize("page, package", [("zoo", zoo), ("pipelines", pipelines), ("tuning", tuning)])
def test_the_api_page_has_every_public_name(page, package):
    text = (ROOT / "docs" / "api" / f"{page}.md").read_text() + (ROOT / "docs" / "api" / "model.md").read_text()
    public = getattr(package, "__all__", ["search", "load_results"])
    assert {name for name in public if f"{page}.{name}" not in text} <= {"validate"}


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text()
    docs = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    notebooks = {f"notebooks/{path.stem}.md" for path in (ROOT / "examples" / "notebooks").glob("*.ipynb")}
    assert {page for page in docs | notebooks if f" {page}\n" not in text} == set()


# -- notebooks ----------------------------------------------------------------------------------------------

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_its_code_is_right(path):
    assert path.stat().st_size < 300_000
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert any(
        "image/png" in output.get("data", {}) for cell in notebook["cells"] for output in cell.get("outputs", ())
    )
    check_python("\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"))


@pytest.mark.slow
@pytest.mark.drawn
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert not any(output.output_type == "error" for cell in notebook.cells for output in cell.get("outputs", ()))


def test_the_site_takes_nothing_from_elsewhere():
    text = (ROOT / "mkdocs.yml").read_text()
    assert "font: false" in text and not re.search(r"extra_javascript|https?://(?!www\.w3\.org)", text)


def test_tutorials_name_each_other():
    index = Path(ROOT / "docs/tutorials/index.md").read_text()
    assert {path.name for path in (ROOT / "docs/tutorials").glob("*.md")} - {"index.md"} == set(
        re.findall(r"\((\w+\.md)\)", index)
    )
