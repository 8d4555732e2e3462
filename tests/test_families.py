"""From a published file to a scored run in one command, for every family of files."""

import http.server
import json
import os
import threading

import h5py
import numpy as np
import pytest
import test_cathode_arrays
import test_lhco_features
from click.testing import CliRunner

import pipelines
from pipelines.datasets import FORMATS, convert, options_of, recognise
from pipelines.datasets.find import find
from pipelines.errors import InputError
from pipelines.provenance import checksum
from pipelines.simulation import simulate
from zoo.cli.main import main

MODEL = "deep_svdd"  # which is quick to trace
SMALL = "--set batch_size=32 --set units=8 --set latent_dim=4 --set epochs=1 --no-xla"
PRESELECTION = {"lhco": "--mass-range 2000 8000", "lhco_features": "--set columns=mass_*,tau*"}
PRESELECTION |= {"darkmachines": "--convert channel=2b --set columns=MET,n_*,pt_*"}
PRESELECTION |= {"atlas": "--set columns=*,!mll", "table": "--convert mass=mjj --set columns=tau*"}
PRESELECTION |= {"cathode": "--set columns=*"}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file of every family, in its published layout."""
    folder = tmp_path_factory.mktemp("published")
    files = {"lhco": find("lhco_rnd_real")}
    files["lhco_features"] = test_lhco_features.mixed(folder / "v2.features.h5", test_lhco_features.events(200))
    files["darkmachines"] = folder / "background_chan2b.csv.gz"
    simulate("darkmachines_background", files["darkmachines"], events=80, channel="2b", process="ttbar")
    simulate("atlas_background", folder / "atlas", events=80, process="Zee")
    (files["atlas"],) = (folder / "atlas").glob("*.root")
    files["cathode"] = folder / "innerdata.npy"
    np.save(files["cathode"], test_cathode_arrays.rows(90))
    files["table"] = folder / "jets.csv"
    rng = np.random.default_rng(1)
    lines = (f"{m:.1f},{a:.4f},{b:.4f}" for m, a, b in zip(rng.uniform(3000, 4000, 90), *rng.uniform(0, 1, (2, 90))))
    files["table"].write_text("\n".join(["mjj,tau21_1,tau21_2", *lines, ""]))
    return files


def run(line, code=0):
    done = CliRunner().invoke(main, [str(word) for word in line])
    assert done.exit_code == code, done.output
    return done


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(one, marks=pytest.mark.slow) if one in ("lhco_features", "cathode", "table") else one
        for one in FORMATS
    ],
)
def test_a_published_file_becomes_a_scored_run_in_one_command(family, published, tmp_path):
    out = tmp_path / "run"
    line = ["train", MODEL, "--data", published[family], "--out", out, "--score", "--workers", 1, "--json"]
    run([*line, *SMALL.split(), *PRESELECTION[family].split()])
    events = pipelines.open(tmp_path / "run.events.h5")
    with h5py.File(out / "scores.h5") as file:
        score, mass = file["score"][:], file["mass"][:]
    assert len(score) == len(mass) > 32 and np.isfinite(score).all() and np.ptp(score) > 0
    assert set(mass) <= set(events.mass)
    config = json.loads((out / "config.json").read_text())
    assert config["data"]["files"] == [str(tmp_path / "run.events.h5")]
    assert events.about.dataset and recognise(published[family]) == family


def test_info_tells_of_every_family(published):
    for family, path in published.items():
        found = json.loads(run(["data", "info", path, "--json"]).stdout)
        assert found and all(isinstance(key, str) for key in found), family


def test_families_do_not_mix_and_options_of_others_are_refused(published, tmp_path):
    out = tmp_path / "out.h5"
    for paths, options, words in (
        ([published["lhco"], published["table"]], {}, "different kinds"),
        ([published["lhco"]], {"channel": "1"}, "option channel: lhco files have"),
        ([published["table"]], {}, r"needs mass \(one of its columns"),
        ([], {}, "no files"),
        ([tmp_path / "none.csv"], {}, "no such file"),
        ([tmp_path], {}, "is a folder"),
    ):
        with pytest.raises(InputError, match=words):
            convert(paths, out, **options)
    with pytest.raises(InputError, match="did you mean 'atlas'"):
        convert([published["atlas"]], out, format="atlsa")
    (tmp_path / "words.doc").write_text("nothing of the kind")
    with pytest.raises(InputError, match="layout not recognised; expected one of"):
        convert([tmp_path / "words.doc"], out)
    assert not out.exists() and "channel" in options_of("darkmachines")


def test_a_kill_between_the_events_and_their_note_loses_nothing(published, tmp_path, monkeypatch):
    from pipelines.datasets import opening

    made, told = tmp_path / "run.events.h5", []
    given = {"mass": "mjj", "workers": 1, "said": told.append}

    def killed(*sources, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(opening, "convert_files", killed)  # before there are events
        opening.open_events(published["table"], kept=made, **given)
    assert os.listdir(tmp_path) == ["run.events.json"] and not told
    events = opening.open_events(published["table"], kept=made, **given)
    again = opening.open_events(published["table"], kept=made, **given)
    assert len(told) == 1 and len(again) == len(events)  # the note is there before the events are
    made.unlink()
    with pytest.raises(InputError, match="no column 'nope'"):
        opening.open_events(published["table"], kept=made, workers=1, mass="nope")
    assert os.listdir(tmp_path) == []


def test_a_second_training_does_not_take_the_first_ones_events_silently(published, tmp_path):
    (tmp_path / "run.events.h5").write_text("something")
    line = ["train", MODEL, "--data", published["table"], "--convert", "mass=mjj", "--out", tmp_path / "run"]
    assert "exists already, of other files or options" in run(line, 2).stderr
    (tmp_path / "run.events.h5").unlink()
    assert (
        "no column 'nope'" in run([*line, *SMALL.split(), "--set", "columns=nope"], 2).stderr
    )  # converted, then refused
    run([*line, *SMALL.split(), "--set", "columns=tau*"])  # the same files and options: used as they are
    again = ["train", MODEL, "--data", published["table"], "--out", tmp_path / "run2", "--convert", "mass=mjj"]
    (tmp_path / "run.events.h5").rename(tmp_path / "run2.events.h5")
    (tmp_path / "run.events.json").rename(tmp_path / "run2.events.json")
    assert "of other files or options" in run([*again, "--convert", "features=tau*"], 2).stderr
    line = ["train", MODEL, "--data", "lhco_sim_test", "--convert", "mass=mjj", "--out", tmp_path / "run3"]
    assert "nothing to convert" in run(line, 2).stderr


@pytest.mark.parametrize(
    "words, told",
    [
        (["channel=9"], "'9' is not one of"),
        (["mass"], "expected NAME=VALUE"),
        (["workers=2"], "NAME is one of format"),
        (["out=1"], "NAME is one of format"),
        (["truncated=maybe"], "truncated=true or truncated=false"),
        (["mass_range=5"], "expected 2 values"),
        (["mass_range=a,b"], "expected a finite number"),
        (["luminosity=abc"], "'abc' is not a valid float"),
        (["mass=3"], "no column '3'"),
        (["mass=mjj", "label=1"], "no column '1'"),
        (["mass=mjj", "units=5"], "expected NAME=VALUE"),
        (["mass=mjj", "channel=1"], "option channel"),
        (["mass=mjj", "format=7"], "format '7' is not known"),
    ],
)
def test_wrong_conversions_are_told_in_one_line(words, told, published, tmp_path):
    line = ["train", MODEL, "--data", published["table"], "--out", tmp_path / "run", "--workers", 1]
    done = run([*line, *(part for word in words for part in ("--convert", word))], 2)
    assert told in done.stderr and len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("*.h5"))


def test_truth_in_a_table_is_no_feature_whatever_is_named_the_label(tmp_path):
    lines = ["mjj,tau1,label,is_signal,process,weight,w2", *(f"{3000 + i},{i / 9},0,{i % 2},3,1,2" for i in range(9))]
    (tmp_path / "t.csv").write_text("\n".join([*lines, ""]))
    convert([tmp_path / "t.csv"], tmp_path / "t.h5", mass="mjj", label="is_signal", weight="w2", features=["*", "!mjj"])
    events = pipelines.open(tmp_path / "t.h5")
    assert events.columns == ("tau1",) and events.label.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    with pytest.raises(InputError, match="truth or a weight by its name, never a feature"):
        convert([tmp_path / "t.csv"], tmp_path / "u.h5", mass="mjj", features=["label"])


@pytest.mark.parametrize("line", ["data cluster {f} {f} o.h5", "train gan_ae --data {f} --data {f} --out o"])
def test_a_file_given_twice_is_refused(line, tmp_path, published):
    words = [word.format(f=published["lhco"]).replace("o.h5", str(tmp_path / "o.h5")) for word in line.split()]
    assert "given more than once" in run(words, 2).stderr


def test_duplicates_between_training_and_test_are_counted(published, tmp_path):
    train, test, out = tmp_path / "train.h5", tmp_path / "test.h5", tmp_path / "run"
    sample = pipelines.open("lhco_sim_test")
    sample.take(range(300)).without_labels().write(train)
    sample.take(np.r_[250:400, 4000:4100]).write(test)
    run(["train", MODEL, "--data", train, "--out", out, *SMALL.split()])
    assert f"Warning: 50 of 250 events are also in {train}" in run(["evaluate", out, "--data", test]).stderr
    assert "50 of 250 events" in run(["data", "overlap", train, test]).stdout
    assert "Warning" not in run(["evaluate", out, "--data", "lhco_sim_train"]).stderr


def test_mix_writes_the_ratio_and_the_labels(tmp_path):
    line = ["data", "mix", tmp_path / "mixed.h5", "--background", "lhco_sim_train", "--signal", "lhco_sim_test"]
    told = run([*line, "--s-over-b", 0.01, "--seed", 3]).stdout
    mixed = pipelines.open(tmp_path / "mixed.h5")
    assert np.bincount((mixed.label > 0).astype(int)).tolist() == [20000, 200] and "20200 events" in told
    assert "S/B" in run([*line[:2], tmp_path / "x.h5", *line[3:], "--s-over-b", 0], 2).stderr


def test_what_can_be_fetched_and_simulated_is_listed():
    names = {entry["name"]: entry["state"] for entry in json.loads(run(["data", "list", "--json"]).stdout)}
    assert names["lhco_sim_train"] == "embedded" and {"lhco_rnd", "lhco_bb3_key"} <= set(names)
    kinds = {kind["kind"]: kind for kind in json.loads(run(["data", "kinds", "--json"]).stdout)}
    assert kinds["lhco_2prong"]["options"]["m_zprime"] == {"default": 3500.0, "about": "mass of the Z'", "unit": "GeV"}
    assert "m_zprime=3500.0" in run(["data", "kinds"]).stdout


def test_simulation_from_the_command_line_is_refused_in_one_line(tmp_path):
    out = tmp_path / "x.h5"
    for words, told in (
        (["lhco_2prong", out, "--events", 5, "--set", "m_x=-1"], "m_x is -1"),
        (["lhco_2pron", out, "--events", 5], "did you mean 'lhco_2prong'"),
    ):
        done = run(["data", "simulate", *words, "--workers", 1], 2)
        assert told in done.stderr and len(done.stderr.splitlines()) == 1
    assert not out.exists()


@pytest.fixture
def address():
    """A server on this machine that has one file, a master key."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "8")
            self.end_headers()
            self.wfile.write(b"0.0\n1.0\n")

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/key"
    server.shutdown()
    server.server_close()


def test_get_downloads_by_name_and_says_when_it_cannot(address, tmp_path):
    told = run(["data", "get", "lhco_bb1_key", "--url", address, "--folder", tmp_path]).stdout
    assert (tmp_path / "events_LHCO2020_BlackBox1.masterkey").read_text() == "0.0\n1.0\n" and str(tmp_path) in told
    run(
        [
            "data",
            "get",
            "lhco_bb3_key",
            "--from",
            tmp_path / "events_LHCO2020_BlackBox1.masterkey",
            "--folder",
            tmp_path,
        ]
    )
    assert (tmp_path / "events_LHCO2020_BlackBox3.masterkey").is_file()
    done = run(["data", "get", "lhco_bx1"], 2)
    assert "did you mean 'lhco_bb1'" in done.stderr


def test_numbers_that_are_none_and_options_that_are_taken_are_told_in_one_line(tmp_path):
    train = ["train", MODEL, "--data", "lhco_sim_test", "--out", tmp_path / "run"]
    simulation = ["data", "simulate", "lhco_qcd", tmp_path / "x.h5", "--events", 5]
    for line, told in (
        ([*train, "--memory", "inf"], "--memory inf is not possible"),
        ([*train, "--mass-range", 3000, "inf"], "--mass-range inf: expected a finite number"),
        ([*simulation, "--set", "workers=3"], "use --workers"),
    ):
        done = run(line, 2)
        assert told in done.stderr and len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name, value", [("schema_version", "one"), ("columns", 5), ("units", ["GeV"]), ("columns", h5py.Empty("f4"))]
)
def test_damaged_attributes_are_named(name, value, tmp_path):
    pipelines.open("lhco_sim_test").take(range(5)).write(tmp_path / "e.h5")
    with h5py.File(tmp_path / "e.h5", "r+") as file:
        file.attrs[name] = value
    with pytest.raises(InputError, match=name):
        pipelines.open(tmp_path / "e.h5")


def test_the_checksum_of_events_sees_weights_and_names_but_no_truth():
    values, mass = np.arange(6.0).reshape(3, 2), np.array([1.0, 2.0, 3.0])
    made = [
        checksum(pipelines.Events.from_arrays(values, mass, columns, **more))
        for columns, more in (
            (["a", "b"], {}),
            (["a", "b"], {"label": [0, 1, 0]}),
            (["a", "c"], {}),
            (["a", "b"], {"weight": [1, 1, 2]}),
        )
    ]
    assert made[0] == made[1] and len(set(made)) == 3
