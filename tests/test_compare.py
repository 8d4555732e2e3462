"""Searches side by side: the numbers are those of each search, and only one objective is drawn in one figure."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from searched import write_search

import tuning.cli
from pipelines import InputError
from tuning.compare import compare
from tuning.results import load_results


@pytest.fixture(scope="module")
def searches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searches")
    write_search(folder / "few", trials=8, objective="reconstruction", failed=(2,))
    write_search(folder / "many", trials=20, objective="reconstruction", seed=1)
    write_search(folder / "front", trials=8, objective="pareto:reconstruction,sculpting")
    return folder


def test_sides_have_the_numbers_of_their_searches(searches, tmp_path):
    found = compare([searches / "few", searches / "many"], tmp_path / "page")
    assert found["comparable"] and found["files"] == ["index.html", "progress_1.json", "progress_1.png"]
    drawn = json.loads((tmp_path / "page/progress_1.json").read_text())["searches"]
    for name in ("few", "many"):
        results, one = load_results(searches / name), found["searches"][name]
        objectives = [t["objective"] for t in sorted(results.completed, key=lambda t: t["trial"])]
        assert drawn[name]["best_so_far"] == np.minimum.accumulate(objectives).tolist()
        assert drawn[name]["seconds"][-1] == one["seconds"] == 1.5 * len(objectives)
        assert one["metrics"]["objective"] == min(objectives) and one["best"] == results.best["trial"]
    # promoted trials go on from epoch 3: 3 + 6 epochs are those of a trial and of the one promoted from it
    assert found["searches"]["few"]["failed"] == 1 and found["searches"]["few"]["epochs"] == 8 * 3 + 2 * 3
    html = (tmp_path / "page/index.html").read_text()
    assert (
        "All searches minimise reconstruction of the same events" in html
        and 'src="data:image/png' in html
        and "learning_rate" in html
    )


def test_other_objectives_have_a_figure_of_their_own(searches, tmp_path):
    found = compare([searches / "few", searches / "front"], tmp_path / "page")
    assert not found["comparable"] and "progress_2.png" in found["files"]
    assert "different objectives or events" in (tmp_path / "page/index.html").read_text()


def test_other_events_have_a_figure_of_their_own(searches, tmp_path):
    shutil.copytree(searches / "few", tmp_path / "other")
    asked = json.loads((tmp_path / "other/search.json").read_text())
    (tmp_path / "other/search.json").write_text(json.dumps({**asked, "data": {"sha256": "f" * 64}}))
    found = compare([searches / "few", tmp_path / "other"], tmp_path / "page")
    assert not found["comparable"] and "progress_2.png" in found["files"]


def test_the_command_says_where_the_page_is(searches, tmp_path):
    words = ["compare", str(searches / "few"), str(searches / "many"), "--out", str(tmp_path / "page"), "--json"]
    done = CliRunner().invoke(tuning.cli.main, words)
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)["searches"]) == {"few", "many"}


def test_what_cannot_be_compared_is_told(searches, tmp_path):
    with pytest.raises(InputError, match="expected two searches or more"):
        compare([searches / "few"], tmp_path / "page")
    with pytest.raises(InputError, match="and none twice"):
        compare([searches / "few", searches / "few"], tmp_path / "page")
    with pytest.raises(InputError, match="no such folder"):
        compare([searches / "few", tmp_path / "nothing"], tmp_path / "page")
    write_search(tmp_path / "failed", trials=2, objective="reconstruction", failed=(0, 1))
    with pytest.raises(InputError, match="none of 2 trials has completed"):
        compare([searches / "few", tmp_path / "failed"], tmp_path / "page")
    assert not (tmp_path / "page").exists()
