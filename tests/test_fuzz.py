"""Whatever a file holds, reading it works or is refused in one line: no trace, no hang, no memory, nothing left behind."""

import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import fuzz
import hostile
import linear_model
import pytest
import yaml
from searched import write_search

import zoo
from pipelines import InputError
from pipelines import leaderboard as board
from pipelines.bumphunt.given_scores import GivenScores
from pipelines.datasets.opening import open_events
from pipelines.datasets.records import records_of
from pipelines.datasets.transfer import State
from pipelines.documents import read_json_document
from pipelines.events.files import reason_of
from pipelines.jobs.batch_systems import Batch
from pipelines.jobs.chunks import _same_job
from pipelines.spectrum_files import read as read_spectrum
from tuning.page import to_html
from tuning.results import load_results
from tuning.schemas import Partial, Planned
from tuning.space import Space
from tuning.table import table
from zoo import run
from zoo.cli.hunt import _say_finished
from zoo.declarations import Kept
from zoo.serving.artefact import about_text, read_about
from zoo.state import read_state

FEW, MANY = 20, int(os.environ.get("ZOO_FUZZ", "2000"))  # mutations of each
LONGEST = 10.0  # seconds
COUNTS = [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.slow)]


def try_all(read, path, contents):
    """Read a file with each of some contents; returns how many were read and how many refused."""
    kept, found = path.read_bytes(), {"read": 0, "refused": 0}
    before = sorted(map(str, path.parent.rglob("*")))
    for content in contents:
        path.write_bytes(content)
        try:
            started = time.monotonic()
            found[fuzz.outcome(read, path)] += 1
            assert time.monotonic() - started < LONGEST
        except BaseException as error:
            shown = content if len(content) < 500 else content[:500] + b"..."
            raise AssertionError(f"{type(error).__name__}: {reason_of(error)} of {shown!r}") from error
        finally:
            path.write_bytes(kept)
    assert sorted(map(str, path.parent.rglob("*"))) == before
    return found


@pytest.fixture(scope="module")
def trained(train_events, tmp_path_factory):
    """A run of the linear model, beside a checkpoint of it, and the events."""
    with linear_model.registered():
        events, folder = train_events.sample(400), tmp_path_factory.mktemp("trained")
        model = zoo.get("linear", cycles=2)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(run.shutil, "rmtree", lambda *_, **__: None)
            run.train(model, events, folder / "run", verbose=0, jit_compile=False)
        yield folder, model, events


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = write_search(tmp_path_factory.mktemp("searched") / "s", trials=6, failed=(2,))
    told = json.loads((folder / "search.json").read_text())
    (folder / "search.json").write_text(json.dumps({**told, **TOLD}))
    return folder


TOLD = {  # what a search says of itself beside what it needs
    "preset": None, "fixed": {"units": [64, 64]}, "algorithm": "hyperband", "plan": ["12 to epoch 3, best 4 to epoch 9"],
    "command": "tune --model vae", "versions": {"numpy": "2.4"}, "extra": {"mass_range": [2700.0, 5000.0]},
    "data": {"source": "good.h5", "files": ["/nowhere/good.h5"], "events": 600, "sha256": "ab" * 32},
    "validation": {"source": "judges.h5", "events": 300, "sha256": "ab" * 32, "also_trained_on": 0},
    "window": [3300.0, 3700.0], "sidebands": [2700.0, None], "template": {"source": "b.h5", "in_window": 40},
    "space": [{"class_name": "Float", "config": {"name": "alpha", "min_value": 1.0, "max_value": 100.0, "sampling": "log",
               "conditions": [{"class_name": "Parent", "config": {"name": "scaling", "values": ["maxabs"]}}]}},
              {"class_name": "Choice", "config": {"name": "scaling", "values": ["maxabs", "standard"], "conditions": []}}],
}  # fmt: skip


def look_at_search(path):
    found = load_results(path.parents[1] if path.parent.name == "trials" else path.parent)
    table(found, 10)
    to_html(found, found.out, {})
    with contextlib.suppress(InputError):
        found.events()
    found.to_json(), found.to_csv(), found.varied()
    for trial in found.trials:
        found.history(trial)
    return found.complete, found.mass_range


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["search.json", "trials/003.json", "trials/003.history.json", "results.json"])
def test_documents_of_a_search(name, count, searched, tmp_path):
    folder = shutil.copytree(searched, tmp_path / "s")
    path = folder / name
    if name == "results.json":
        path.write_text(json.dumps({"exhausted": True, "trials": []}))
    found = try_all(look_at_search, path, hostile.documents(path.read_text(), name, count))
    assert found["read"] if name.startswith(("trials/003.json", "results")) else found["refused"]


ABOUT = {
    "format": 1, "kind": "savedmodel", "model": "ae", "takes": "features", "version": "0.1.0", "truth_used": False,
    "state_sha256": "0" * 64, "inputs": {"features": {"shape": [None, 2], "dtype": "float32", "columns": ["pt_1", "pt_2"],
                                                      "units": {"pt_1": "GeV", "pt_2": "GeV"}}},
    "outputs": {"score": {"shape": [None], "dtype": "float32"}}, "signatures": {"score": ["score"]}, "members": 1,
    "score_kinds": ["mse"], "scaling": {"name": "minmax", "shift": [0.0, 0.0], "scale": [1.0, 2.0]}, "hyperparameters": {},
    "data": {"source": "qcd.h5", "events": 100, "sha256": "f" * 64}, "mass_range": [2700, 5000.0],
    "cuts": {"score_kind": "mse", "follows_mass": True, "mass": [2700.0, 5000.0], "data": {"source": "a.h5", "events": 9},
             "values": [{"percentile": 99.0, "tail": "upper", "threshold": 0.1, "curve": [0.1, 0.2]}]},
    "folds": {"number": 2, "state_sha256": [None, "0"]}, "versions": {"python": "3.11"}, "licence": "BSD-3-Clause",
}  # fmt: skip


@pytest.mark.parametrize("count", COUNTS)
def test_what_an_export_says_of_itself(count, tmp_path):
    (tmp_path / "served/assets.extra").mkdir(parents=True)
    (tmp_path / "served/saved_model.pb").touch()
    path = tmp_path / "served/assets.extra/zoo.json"
    path.write_text(json.dumps(ABOUT))
    found = try_all(
        lambda path: about_text(read_about(path.parents[1])), path, hostile.documents(path.read_text(), 4, count)
    )
    assert found["read"] and found["refused"]
    text = json.dumps(ABOUT).encode()
    rng = random.Random(5)
    entry = b"".join(
        bytes([0x0A + 8 * place]) + _varint(len(one)) + one for place, one in enumerate((b"hep_anomaly_zoo", text))
    )
    onnx = b"\x08\x08" + b"\x3a\x05graph" + b"\x72" + _varint(len(entry)) + entry  # version, graph, metadata_props
    (tmp_path / "a.onnx").write_bytes(onnx)
    assert about_text(read_about(tmp_path / "a.onnx")).startswith("SavedModel of ae")
    found = try_all(
        lambda path: about_text(read_about(path)),
        tmp_path / "a.onnx",
        [hostile.bytes_mutated(onnx, rng) for _ in range(count)],
    )
    assert found["refused"]


def _varint(number):
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


@pytest.mark.parametrize("count", COUNTS)
def test_configuration_of_a_run(count, trained, tmp_path):
    folder = shutil.copytree(trained[0] / "run", tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    del config["sha256"]  # or all would be refused for it
    (folder / "config.json").write_text(json.dumps(config))
    text = (folder / "config.json").read_text()
    found = try_all(lambda path: zoo.load(path.parent), folder / "config.json", hostile.documents(text, 1, count))
    assert found["read"] and found["refused"]
    text = (folder / "metrics.json").read_text()
    found = try_all(
        lambda path: run.check_whole(path.parent), folder / "metrics.json", hostile.documents(text, 2, count)
    )
    assert found["refused"]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["config.json", "progress.json"])
def test_documents_of_a_checkpoint(name, count, trained, tmp_path):
    folder, model, events = trained
    shutil.copytree(folder / ".run.checkpoint", tmp_path / ".run.checkpoint")
    path = tmp_path / ".run.checkpoint" / name

    def restore(_):
        checkpoint = run.Checkpoint(tmp_path / "run", model, events, {"epochs": 2})
        return checkpoint.restore()

    assert restore(path) == 2
    found = try_all(restore, path, hostile.documents(path.read_text(), name, count))
    assert found["refused"]


SPACE = {"latent_dim": {"min": 1, "max": 4}, "units": {"values": [[64, 64], [32, 32, 32]]}, "flow": ["none", "planar"],
         "alpha": {"min": 1.0, "max": 100.0, "sampling": "log"}, "optimizer": "adam"}  # fmt: skip
SITE = {"queue": "long", "walltime": "12:00:00", "memory": "4GB", "cores": 1, "directives": ["--qos=low"],
        "prologue": ["source setup.sh"], "python": "python3"}  # fmt: skip


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", ["space", "site"])
def test_yaml(kind, count, tmp_path):
    path = tmp_path / f"{kind}.yaml"
    path.write_text(yaml.safe_dump({"space": SPACE, "site": SITE}[kind]))

    def read(path):
        if kind == "site":
            return Batch.read("slurm", 1, path).arguments()
        return Space("vae", {}, None, path).check(draws=3)

    read(path)
    found = try_all(read, path, hostile.documents(path.read_text(), kind, count, "yaml"))
    assert found["refused"]


@pytest.mark.parametrize("count", COUNTS)
def test_notes_of_conversions_and_downloads(count, tmp_path):
    (tmp_path / "o.parts").mkdir()
    job = {"sources": [{"path": "/a.csv", "size": 3, "modified": 4}], "options": {"mass": "mjj", "version": "1"}}
    path = tmp_path / "o.parts" / "job.json"
    path.write_text(json.dumps(job))
    found = try_all(lambda path: _same_job(path.parent, job), path, hostile.documents(path.read_text(), 3, count))
    assert found["refused"]
    path = tmp_path / "checksums.json"
    path.write_text(json.dumps({"a.h5": {"sha256": "0" * 64, "size": 3, "mtime_ns": 4}}))
    found = try_all(lambda path: records_of(path.parent), path, hostile.documents(path.read_text(), 4, count))
    assert found["refused"]


RECORDS = {
    "planned": (Planned, {"values": {"learning_rate": 0.01, "tuner/epochs": 3}, "place": 1, "round": 1}),
    "partial": (Partial, {"spec": {"trial": "003"}, "epochs": 1, "state": "003.partial0.h5", "members": [], "seconds": 1.5,
                          "rows": [{"phase": "main", "epoch": 0, "loss": 1.0}], "times": {"fit": 1.0}}),
    "download": (State, {"url": "https://zenodo.org/a.h5", "validator": "abc", "total": 3}),
    "declarations": (Kept, {"key": "0", "models": {"ae": {"name": "ae", "hyperparameters": {"seed": 0}}}}),
}  # fmt: skip


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", RECORDS)
def test_documents_by_their_schema(name, count, tmp_path):
    schema, document = RECORDS[name]
    path = tmp_path / "record.json"
    path.write_text(json.dumps(document))
    read_json_document(path, schema)
    found = try_all(lambda path: read_json_document(path, schema), path,
                    hostile.documents(path.read_text(), name, count))  # fmt: skip
    assert found["refused"]


@pytest.mark.parametrize("count", COUNTS)
def test_the_note_of_a_converted_file(count, tmp_path):
    (tmp_path / "a.csv").write_text("mjj,x\n3000,1\n3100,2\n")
    options = {"kept": tmp_path / "o.events.h5", "mass": "mjj"}
    open_events(tmp_path / "a.csv", **options)
    path = tmp_path / "o.events.json"

    def again(_):
        return open_events(tmp_path / "a.csv", **options).mass.sum()

    found = try_all(again, path, hostile.documents(path.read_text(), 6, count))
    assert found["refused"] > found["read"]


@pytest.mark.parametrize("count", COUNTS)
def test_the_result_of_a_search_that_has_ended(count, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.provenance.command", lambda: "zoo hunt run --out h")
    (tmp_path / "h").mkdir()
    path = tmp_path / "h" / "search.json"
    path.write_text(json.dumps({"believed": {"cut": "mass"}, "configuration": {"command": "zoo hunt run --out h"}}))

    def told(path):
        with contextlib.redirect_stdout(io.StringIO()):
            return _say_finished(path.parent, as_json=False)

    told(path)
    assert try_all(told, path, hostile.documents(path.read_text(), 7, count))["refused"]


YAML = {"independent_variables": [{"header": {"name": "m", "units": "GeV"}, "values": [
            {"low": 100, "high": 120}, {"low": 120, "high": 150}, {"low": 150, "high": 200}]}],
        "dependent_variables": [{"header": {"name": "events"}, "values": [{"value": 10}, {"value": 4}, {"value": 2}]}]}  # fmt: skip
TABLES = {
    "spectrum.csv": ("low,high,observed,fit\n10,20,5,4.5\n20,40,3,3.1\n", read_spectrum),
    "spectrum.yaml": (yaml.safe_dump(YAML), read_spectrum),
    "board.csv": ("Signal,Model,Chan,AUC,1e-2,1e-3,1e-4\nstop,mine,1,0.87,0.21,0.10,0.05\n", board.read),
    "scores.csv": ("score\n1.5\n2.5\n0.25\n", GivenScores.from_file),
    "history.csv": (
        "phase,epoch,loss\ntraining,0,1.5\ntraining,1,1.25\n",
        lambda path: run._read_history(path, "training"),
    ),
}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", TABLES)
def test_small_tables(name, count, tmp_path):
    text, read = TABLES[name]
    path, rng = tmp_path / name, random.Random(name)
    path.write_text(text)
    read(path)
    contents = (
        hostile.documents(text, name, count, "yaml")
        if name.endswith("yaml")
        else (hostile.bytes_mutated(text.encode(), rng) for _ in range(count))
    )
    found = try_all(read, path, contents)
    assert found["refused"] and sum(found.values()) == count


# -- events and tables: in processes of their own, since HDF5 may hang in what is damaged ---------------------


def damaged(names, count, folder):
    """Return what became of readings of damaged files, by the names of their formats."""
    asked = {"folder": str(folder), "names": names, "count": count}
    done = subprocess.run([sys.executable, fuzz.__file__, json.dumps(asked)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_few_damaged_files_of_each_format(tmp_path):
    for name, told in damaged(list(fuzz.FORMATS), FEW // 3, tmp_path).items():
        assert told["found"].get("refused") and told["wrong"] == [], (name, told)


@pytest.mark.slow
@pytest.mark.timeout(300 + MANY)
@pytest.mark.parametrize("name", fuzz.FORMATS)
def test_damaged_files(name, tmp_path):
    told = damaged([name], MANY, tmp_path)[name]
    assert told["found"].get("refused") and told["wrong"] == [], told


@pytest.mark.parametrize("count", COUNTS)
def test_state_of_a_model(count, trained, tmp_path):
    path = Path(shutil.copy(trained[0] / "run" / "model" / "state.h5", tmp_path))
    content, rng = path.read_bytes(), random.Random(5)
    read_state(path)
    contents = [hostile.bytes_mutated(content, rng) for _ in range(count if count > FEW else FEW // 3)]
    for changed, (what, *_) in zip(contents, fuzz.in_children(read_state, path, contents), strict=True):
        assert what == "refused" or (what == "read" and changed == content), what
