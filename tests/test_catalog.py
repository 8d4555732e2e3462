"""Names of data sets: what they stand for, and what a wrong one is told."""

import re
import subprocess
import sys

import h5py
import pytest

from pipelines.datasets import catalog, download
from pipelines.datasets.catalog import PUBLISHED, SAMPLES, credit, published
from pipelines.datasets.find import find
from pipelines.errors import InputError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(download.VARIABLE, str(tmp_path / "data"))
    return tmp_path / "data"


def test_published_files_are_the_six_of_the_challenge_two_keys_and_the_features():
    assert {"lhco_rnd", "lhco_rnd_v2", "lhco_rnd_3prong", "lhco_background"} <= set(PUBLISHED)
    assert {f"lhco_bb{box}" for box in (1, 2, 3)} <= set(PUBLISHED)
    assert {name for name in PUBLISHED if name.endswith("_key")} == {"lhco_bb1_key", "lhco_bb3_key"}
    assert {name for name in PUBLISHED if name.endswith("_features")} == {
        "lhco_rnd_v2_features",
        "lhco_rnd_3prong_features",
    }
    assert not set(PUBLISHED) & set(SAMPLES)


@pytest.mark.parametrize("name", PUBLISHED)
def test_entries_are_complete(name):
    entry = PUBLISHED[name]
    assert entry.file.endswith((".h5", ".masterkey")) and entry.about and entry.license == "CC BY 4.0"
    assert entry.doi in entry.citation
    assert entry.url == f"https://zenodo.org/records/{entry.record}/files/{entry.file}?download=1"
    assert entry.checksum is None or re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", entry.checksum)
    assert (entry.size is None) == (entry.checksum is None)
    assert not entry.key or entry.key in PUBLISHED


def test_files_and_sums_are_all_different():
    for values in (
        [entry.file for entry in PUBLISHED.values()],
        [entry.checksum for entry in PUBLISHED.values() if entry.checksum],
        [entry.size for entry in PUBLISHED.values() if entry.size],
    ):
        assert len(set(values)) == len(values)


def test_boxes_with_signal_have_keys_and_the_empty_one_has_none():
    assert [PUBLISHED[f"lhco_bb{box}"].key for box in (1, 2, 3)] == ["lhco_bb1_key", "", "lhco_bb3_key"]
    for box in (1, 3):
        key = PUBLISHED[PUBLISHED[f"lhco_bb{box}"].key]
        assert key.file == PUBLISHED[f"lhco_bb{box}"].file.replace(".h5", ".masterkey")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_file_that_is_not_there_says_how_to_get_it(name, folder):
    with pytest.raises(InputError, match=rf"{name}: not downloaded yet .*; run `zoo data get {name}`") as error:
        find(name)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)
    assert not folder.exists()  # asking leaves nothing behind


def test_downloaded_file_is_found_by_its_name(tmp_path, folder):
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["x"] = [1.0]
    download.adopt("lhco_bb2", tmp_path / "file.h5")
    assert find("lhco_bb2") == folder / "events_LHCO2020_BlackBox2.h5"


def test_altered_file_is_not_found(tmp_path, folder):
    (tmp_path / "key").write_text("0.0\n1.0\n")
    path = download.adopt("lhco_bb1_key", tmp_path / "key")
    path.write_text("1.0\n1.0\n1.0\n")
    with pytest.raises(InputError, match="altered or damaged; remove it and run `zoo data get lhco_bb1_key`"):
        find("lhco_bb1_key")


def test_paths_are_themselves(tmp_path, monkeypatch):
    (tmp_path / "lhco_bb1").write_text("")
    monkeypatch.chdir(tmp_path)
    assert find("./lhco_bb1").samefile(tmp_path / "lhco_bb1")
    assert find(tmp_path / "lhco_bb1") == tmp_path / "lhco_bb1"
    with pytest.raises(InputError, match="not downloaded yet"):
        find("lhco_bb1")


@pytest.mark.parametrize(
    "name, hint",
    [
        ("lhco_sim_tset", "did you mean the sample 'lhco_sim_test'?"),
        ("lhco_bb11", "did you mean the published data set 'lhco_bb1'?"),
        ("nothing/like.h5", "embedded samples are lhco_sim_train"),
        ("x" * 300, "no such file"),
    ],
)
def test_wrong_names_are_helped(name, hint):
    with pytest.raises(InputError) as error:
        find(name)
    assert hint in str(error.value)


def test_only_published_names_are_published():
    assert published("lhco_rnd").record == 4536377
    for name, hint in (("lhco_rnd_real", "comes with the package"), ("lhco_rdn", "'lhco_rnd'"), ("?", "lhco_bb3_key")):
        with pytest.raises(InputError, match=hint):
            published(name)


def test_credit_goes_with_names_only():
    assert credit("lhco_rnd_real")["citation"] == SAMPLES["lhco_rnd_real"].citation
    assert "4536624" in credit("lhco_bb3")["citation"]
    assert credit(catalog.FOLDER / "lhco_rnd_real.h5") == {"license": "", "citation": ""}


def test_catalog_is_light_to_import():
    code = "import sys, pipelines.datasets.catalog; print(sorted({'pooch', 'requests'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
