"""Bad input: one clear line on stderr, exit code 2, nothing written."""

import h5py
import linear_model
import numpy as np
import pytest

import pipelines
from pipelines import Events
from tuning.cli import main as tune_main
from zoo.cli.main import main as zoo_main

TRAIN = "train gan_ae --data {good} --out out"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Events files with something wrong, by what it is."""
    folder = tmp_path_factory.mktemp("files")
    good = pipelines.open("lhco_sim_test").sample(300)
    features, mass, columns = good.read("features"), good.mass, good.columns
    good.write(folder / "good.h5")

    def write(name, **datasets):
        with h5py.File(folder / name, "w") as file:
            for key, value in datasets.items():
                file[key] = value
            file.attrs["columns"], file.attrs["schema_version"] = list(columns), 1

    def writing_without_checks(name, **arrays):
        write(name, **{"features": features, "mass": mass, **arrays})

    for name, column, value in (("nan.h5", "tau21_1", np.nan), ("inf.h5", "pt_2", np.inf)):
        wrong = features.copy()
        wrong[[3, 5], columns.index(column)] = value
        writing_without_checks(name, features=wrong)
    writing_without_checks("nan_mass.h5", mass=np.where(np.arange(300) == 7, np.nan, mass))
    writing_without_checks("narrow.h5", features=features[:, :-1])
    writing_without_checks("short_mass.h5", mass=mass[:-1])
    write("no_mass.h5", features=features)
    write("nothing.h5")
    Events.from_arrays(features[:, 1:], mass, columns[1:]).write(folder / "missing_column.h5")
    Events.from_arrays(features[:0], mass[:0], columns).write(folder / "empty.h5")
    (folder / "text.h5").write_text("features,mass\n1,2\n")
    (folder / "truncated.h5").write_bytes((folder / "good.h5").read_bytes()[:5000])
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run, untrained, which takes the same to load."""
    import zoo
    from zoo import run

    model, events = zoo.get("gan_ae", ae_units=16, d_units=(8,)), pipelines.open("lhco_sim_test")
    model.adapt(events)
    folder = tmp_path_factory.mktemp("run")
    (folder / "run").mkdir()
    run.write(model, folder / "run", run.configuration(model, events), [])
    return folder / "run"


@pytest.fixture
def refused(files, trained, tmp_path, monkeypatch, capfd):
    """Give a command line; return the one line that refuses it, having looked that nothing was written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "a_file").write_text("mine")

    def tree():
        return {str(path): path.stat().st_mtime_ns for path in (*tmp_path.rglob("*"), *files.rglob("*"))}

    def give(line):
        program, *arguments = line.format(good=files / "good.h5", files=files, run=trained).split()
        before = tree()
        capfd.readouterr()
        with pytest.raises(SystemExit) as done:
            {"zoo": zoo_main, "tune": tune_main}[program](arguments, prog_name=program)
        out, err = capfd.readouterr()
        assert (done.value.code, out) == (2, ""), err
        assert tree() == before
        *usage, last = err.splitlines()
        assert last.startswith("Error: ")
        assert not usage or usage[0].startswith("Usage: "), err
        return last

    return give


NO_EVENTS_FILE = {
    "none.h5": "none.h5: no such file",
    "lhco_sim_tets": "did you mean the sample 'lhco_sim_test'?",
    "there": "is a folder, expected",
    "{files}/text.h5": "not an HDF5 file",
    "{files}/truncated.h5": "damaged or truncated",
    "{files}/nothing.h5": "no dataset 'features' and 'mass'",
    "{files}/no_mass.h5": "no dataset 'mass'",
    "{files}/narrow.h5": "features has shape (300, 46), expected (300, 47) as in 'columns'",
    "{files}/short_mass.h5": "mass has shape (299,), expected (300,)",
}


TAKES_EVENTS = {
    "train": "zoo train gan_ae --out out --data",
    "score": "zoo score {run} --out out.h5 --data",
    "evaluate": "zoo evaluate {run} --data",
    "tune": "tune --model gan_ae --trials 1 --out out --data",
}


@pytest.mark.parametrize(
    "command, data",
    [(c, data) for c in TAKES_EVENTS for data in NO_EVENTS_FILE],  # but published files, which are converted first
)
def test_what_is_no_events_file(command, data, refused):
    assert NO_EVENTS_FILE[data] in refused(f"{TAKES_EVENTS[command]} {data}")


@pytest.mark.parametrize("data", NO_EVENTS_FILE)
def test_what_cannot_be_looked_at(data, refused):
    assert NO_EVENTS_FILE[data] in refused(f"zoo data info {data}")


@pytest.mark.parametrize(
    "command, message",
    {
        "zoo train gan_ae --set batch_size=64 --out out --data {files}/nan.h5": "(column, count): 'tau21_1' 2",
        "zoo train gan_ae --set batch_size=64 --out out --data {files}/inf.h5": "(column, count): 'pt_2' 2",
        "zoo train gan_ae --set batch_size=64 --out out --data {files}/nan_mass.h5": "(column, count): 'mass' 1",
        "zoo train gan_ae --set batch_size=64 --out out --data {files}/missing_column.h5": "no column 'pt_1'",
        "zoo train gan_ae --out out --data {good}": "300 events are fewer than one batch of 2048; lower batch_size",
        "zoo train gan_ae --out out --data {files}/empty.h5": "0 events",
        "zoo train gan_ae --out out --data {good} --mass-range 1 2": "none of 300 events has mass in [1, 2) GeV",
        "zoo train gan_ae --out out --data {good} --mass-range 5000 2700": "mass range 5000 to 2700 GeV is empty",
        "zoo score {run} --out out.h5 --data {files}/nan.h5": "(column, count): 'tau21_1' 2",
        "zoo score {run} --out out.h5 --data {files}/missing_column.h5": "no column 'pt_1'",
        "zoo score {run} --out out.h5 --data {files}/empty.h5": "no events to score",
        "zoo score {run} --out out.h5 --data {good} --kind likelihood": "score kind 'likelihood' is not known",
        "zoo evaluate {run} --data {files}/inf.h5": "(column, count): 'pt_2' 2",
        "zoo evaluate {run} --data {good} --mass-range 1 2": "none of 300 events",
        "tune --model gan_ae --trials 1 --out out --data {files}/nan.h5 --set batch_size=64": "'tau21_1' 2",
        "tune --model gan_ae --trials 1 --out out --data {good}": "batch_size=1024 is searched, and 240 events train",
        "tune --model gan_ae --trials 1 --out out --data {files}/missing_column.h5 --set batch_size=64": "'pt_1'",
        "tune --model gan_ae --trials 1 --out out --data {files}/empty.h5": "0 events",
        "zoo data info {files}/nan_mass.h5": "(column, count): 'mass' 1",
        "zoo data convert {good} out.h5 --mass mjj": "no column 'mjj' for the mass",
        "zoo data convert {good} out.h5 --mass mj1j2 --mass-range 1 2": "none of 300 events",
        "zoo data convert none.h5 out.h5 --mass mj1j2": "none.h5: no such file",
        "zoo data convert {files}/nan.h5 out.h5 --mass mj1j2": "'tau21_1' 2",
        "zoo data convert lhco_sim_test.h5 out.h5 --mass mj1j2": "no such file",
        "zoo data cluster {good} out.h5": "no dataset 'df/block0_values'",
        "zoo data cluster none.h5 out.h5": "none.h5: no such file",
        "zoo data split {good} a.h5 b.h5 --events 301": "301 events asked for, it has 300",
        "zoo data split {good} a.h5 b.h5 --events 300": "300 events asked for",
        "zoo data split {good} a.h5 b.h5 --events 5 --label 9": "5 events of label 9 asked for, it has 0",
        "zoo data split {good} a.h5 a.h5 --events 5": "given for both parts",
    }.items(),
)
def test_events_that_cannot_be_used(command, message, refused):
    assert message in refused(command)


@pytest.mark.parametrize(
    "command, message",
    {
        "zoo show gan_ea": "did you mean 'gan_ae'",
        "zoo train qqqqq --data {good} --out out": "model 'qqqqq' is not known; expected one of",
        "tune --model gan_ea --out out": "did you mean 'gan_ae'",
        f"zoo {TRAIN} --preset lhco2021": "did you mean 'lhco2020'?",
        f"zoo {TRAIN} --set epsilom=1": "did you mean 'epsilon'?",
        f"zoo {TRAIN} --set epsilon=-1": "epsilon=-1 is not possible; expected a number >= 0",
        f"zoo {TRAIN} --set epsilon=abc": "epsilon='abc' is not possible; expected a number >= 0",
        f"zoo {TRAIN} --set epsilon=": "epsilon='' is not possible",
        f"zoo {TRAIN} --set batch_size=1.5": "batch_size=1.5 is not possible; expected a whole number >= 1",
        f"zoo {TRAIN} --set latent_dim=3,4": "latent_dim=(3, 4) is not possible; expected one value",
        f"zoo {TRAIN} --set epsilon": "--set epsilon: expected NAME=VALUE",
        f"zoo {TRAIN} --set =5": "--set =5: expected NAME=VALUE",
        f"zoo {TRAIN} --set columns=qqq,pt_1 --set batch_size=64": "no column 'qqq'",
        f"zoo {TRAIN} --validation 1": "--validation 1 is not possible",
        f"zoo {TRAIN} --validation nan": "--validation nan is not possible",
        f"zoo {TRAIN} --epochs 0": "'--epochs': 0 is not in the range",
        f"zoo {TRAIN} --seed -1": "'--seed': -1 is not in the range",
        f"zoo {TRAIN} --seed 9999999999": "'--seed': 9999999999 is not in the range",
        f"zoo {TRAIN} --seed one": "'one' is not a valid integer range",
        f"zoo {TRAIN} --resume --set epsilon=-1": "epsilon=-1 is not possible",
        "zoo train gan_ae --out out": "give --data",
        "zoo train gan_ae --data {good}": "Missing option '--out'",
        "zoo train --data {good} --out out": "Missing argument 'NAME'",
        "zoo trian gan_ae": "No such command 'trian'",
        "tune --out out": "no --model; give one",
        "tune --model gan_ae --trials 0 --out out --data {good}": "trials = 0: must be an integer, at least 1",
        "tune --model gan_ae --trials -4 --out out --data {good}": "trials = -4: must be an integer, at least 1",
        "tune --model gan_ae --trials many --out out": "'many' is not a valid integer",
        "tune --model gan_ae --max-epochs 0 --out out --data {good}": "max_epochs = 0",
        "tune --model gan_ae --factor 1 --out out --data {good}": "factor = 1",
        "tune --model gan_ae --out out --data {good} --objective auc": "objective 'auc'",
        "tune --model gan_ae --out out --data {good} --set epsilon=abc": "epsilon='abc' is not possible",
        "tune --model gan_ae --out out --data {good} --set d_width=100": "'d_width' is no hyperparameter of gan_ae",
        "tune --model gan_ae --out out --data {good} --preset lhco2021": "did you mean 'lhco2020'?",
        "tune --model gan_ae --out a_file --data {good} --resume": "a_file: exists already",
        "tune --model gan_ae --out out --export out --data {good}": "given for --export and --out",
        "zoo score there --data {good} --out out.h5": "there: no config.json in it",
        "zoo evaluate none --data {good}": "none: no such folder, expected a run directory",
        "zoo export a_file --out out": "expected a run directory",
    }.items(),
)
def test_options_that_cannot_be(command, message, refused):
    assert message in refused(command)


# The hunt, with a model that is quick to load


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A folder with a run of a quick model, one whose scores are NaN, events that are all alike, and a histogram."""
    import zoo
    from zoo import run

    with linear_model.registered():
        folder, events = tmp_path_factory.mktemp("quick"), pipelines.open("lhco_sim_test")
        for name, factor in {"run": 1.0, "nan": np.nan}.items():
            model = zoo.get("linear")
            model.adapt(events)
            model.fit(events, epochs=1, verbose=0, jit_compile=False)
            model.kernel.assign(np.full(model.kernel.shape, factor) * model.kernel)
            (folder / name).mkdir()
            run.write(model, folder / name, run.configuration(model, events), [])
        alike = np.repeat(events.read("features")[:1], len(events), axis=0)
        Events.from_arrays(alike, events.mass, events.columns).write(folder / "alike.h5")
        with h5py.File(folder / "histogram.h5", "w") as file:
            file["counts"], file["edges"] = np.full(20, 100.0), np.linspace(2700, 5000, 21)
        yield folder


HUNT = "zoo hunt {quick}/run --out out --data lhco_sim_test"
VALIDATE = "{quick}/run --data lhco_sim_test"


@pytest.mark.parametrize(
    "command, message",
    {
        f"{HUNT} --percentile 0": "percentiles 0, expected different numbers between 0 and 100",
        f"{HUNT} --percentile 100": "percentiles 100, expected",
        f"{HUNT} --percentile 99.9": "percentile 95 leaves enough",
        "zoo hunt {quick}/run --out out --data {quick}/alike.h5 --percentile 80": "the scores are (nearly) constant",
        f"{HUNT} --percentile 80 --mass-range 90000 99000": "mass: no event within 90000 to 99000 GeV",
        f"{HUNT} --percentile 80 --side-band 9": "too few for a window of 3 and side bands",
        f"{HUNT} --percentile 90 --no-merge --bins 1000": "fewer than 1000 bins",
        f"{HUNT} --percentile 80 --relative-error -1": "relative_error -1.0, expected a number above 0",
        f"{HUNT} --percentile 80 --statistic fisher --null poisson": "statistic 'fisher' has the number",
        f"{HUNT} --percentile 100 --ignore-labels": "percentiles 100, expected",
        "zoo hunt {quick}/nan --out out --data lhco_sim_test --percentile 80": "NaN or infinite: the training diverged",
        f"zoo validate sculpting {VALIDATE} --mass-range 90000 99000": "none of",
        "zoo validate sculpting {quick}/nan --data lhco_sim_test --ignore-labels": "NaN or infinite: the training diverged",
        f"zoo validate coverage {VALIDATE}": "data sets of 40 events: percentile 80, upper tail: 8 selected",
        f"zoo validate coverage {VALIDATE} --ignore-labels --percentile 0": "percentiles 0, expected",
        f"zoo validate spectrum {VALIDATE} --at 3600 --width 80 --percentile 100": "percentiles 100, expected",
        f"zoo validate spectrum {VALIDATE} --at 3600 --width 80 --pybumphunter --deficit": "adds an excess",
        f"zoo validate stability {VALIDATE}": "one training of one member has nothing to be compared with",
        "zoo scan {quick}/histogram.h5 --model {quick}/run --out out": "linear takes events, not histograms",
        "zoo scan {quick}/alike.h5 --model {quick}/run --out out": "alike.h5",
    }.items(),
)
def test_hunts_that_cannot_be(command, message, refused, quick):
    assert message in refused(command.replace("{quick}", str(quick)))


WRITING = {
    "train": "zoo train gan_ae --set batch_size=64 --data {good} --out",
    "score": "zoo score {run} --data {good} --out",
    "export": "zoo export {run} --out",
    "convert": "zoo data convert --mass mj1j2 {good}",
    "cluster": "zoo data cluster lhco_rnd_real",
    "split": "zoo data split --events 5 {good} rest.h5",
    "tune": "tune --model gan_ae --trials 1 --set batch_size=64 --data {good} --out",
    "tune --export": "tune --model gan_ae --trials 1 --set batch_size=64 --data {good} --out new --export",
}


@pytest.fixture
def work_forbidden(monkeypatch):
    """Reading events, let alone training or clustering, would be noticed: an output is refused first."""
    from pipelines.datasets import lhco

    def forbidden(*arguments, **options):
        pytest.fail("the output was not refused first")

    monkeypatch.setattr(Events, "blocks", forbidden)
    monkeypatch.setattr(lhco, "read_raw", forbidden)


@pytest.mark.parametrize("command", WRITING)
def test_an_output_that_exists_is_refused_before_any_work(command, refused, work_forbidden):
    assert "exists already" in refused(f"{WRITING[command]} there")


@pytest.mark.parametrize("command", WRITING)
def test_an_output_below_a_file_is_refused_before_any_work(command, refused, work_forbidden):
    assert "a_file is a file, expected a folder" in refused(f"{WRITING[command]} a_file/below/out")


@pytest.mark.parametrize("command", [name for name in WRITING if name not in ("cluster", "tune --export")])
def test_an_output_where_nobody_can_write_is_refused(command, refused):
    assert "/proc/" in refused(f"{WRITING[command]} /proc/out")


def test_a_name_too_long_for_the_disk_is_refused(refused):
    assert "File name too long" in refused(f"{WRITING['score']} {'x' * 300}")
