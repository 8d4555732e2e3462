"""A search by several processes: the same trials and results as by one, whoever is killed. Takes about 30 s."""

import contextlib
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from linear_model import Linear

import pipelines
import tuning
import zoo
from pipelines import InputError
from pipelines.errors import WorkerFault, WorkersDied
from pipelines.jobs.executors import Done
from tuning import engine, session, trial
from zoo import registry

ASKED = {"trials": 5, "max_epochs": 4, "factor": 2, "fixed": {"units": 2}, "jit_compile": False}
FEW = {**ASKED, "trials": 2, "max_epochs": 1}
EVENTS = 600


def make_known(pause=0.0, log=None):
    """Let this process know the model, take its time for an epoch, and write down what it does."""
    zoo.names()
    if "linear" not in registry._models:
        registry.register("linear")(Linear)
    if log is None:
        return
    end, write = trial.TrialCheckpoint.on_epoch_end, trial.write_json

    def on_epoch_end(self, epoch, logs=None):
        note(log, f"epoch {self.spec.trial} {epoch}")
        time.sleep(pause)
        end(self, epoch, logs)

    def write_json(path, value):
        write(path, value)
        if Path(path).name.count(".") == 1:
            note(log, f"record {Path(path).stem}")

    trial.TrialCheckpoint.on_epoch_end, trial.write_json = on_epoch_end, write_json


def note(log, line):
    with open(log, "a") as file:
        file.write(line + "\n")


def run_known_model(job, spec, until=None):
    """What a worker does, which knows nothing of the tests' model yet."""
    if not hasattr(trial, "known"):
        make_known(float(os.environ.get("TEST_PAUSE", 0)), os.environ.get("TEST_LOG"))
        trial.known = True
    return trial.run_trial(job, spec, until)


@pytest.fixture(scope="module", autouse=True)
def linear():
    with pytest.MonkeyPatch.context() as patched:
        zoo.names()
        patched.setattr(registry, "_models", {**registry._models})
        registry.register("linear")(Linear)
        patched.setattr(engine, "run_trial", run_known_model)
        patched.setattr(trial, "known", True, raising=False)
        yield


@pytest.fixture(scope="module")
def events():
    return pipelines.open("lhco_sim_train").sample(EVENTS)


@pytest.fixture(scope="module")
def one(events, tmp_path_factory):
    """What one process finds."""
    return tuning.search("linear", events, out=tmp_path_factory.mktemp("one") / "out", **ASKED)


def found(results):
    """The set of what was tried and what came out; figures to 1e-5, since threads add in other orders."""
    rows = [(json.dumps(t["hyperparameters"], sort_keys=True), t["initial_epoch"], t["epochs"]) for t in results.trials]
    return dict(zip(rows, (t["objective"] for t in results.trials)))


class Killer(session.SearchListener):
    """Kills the worker that ends the first epoch of a trial of several."""

    def __init__(self):
        self.killed, self.workers, self.began = [], set(), Counter()

    def begun(self, trial, epochs, worker, bracket):
        self.workers.add(worker)
        self.began[trial] += 1

    def epoch(self, trial, epoch, worker, logs):
        if not self.killed and logs["loss"] is not None:
            self.killed.append(trial)
            os.kill(pid_of(worker), signal.SIGKILL)


def pid_of(address):
    import psutil

    port = int(address.rpartition(":")[2])
    for child in psutil.Process().children(recursive=True):
        if any(c.laddr.port == port and c.status == "LISTEN" for c in child.net_connections("tcp")):
            return child.pid
    raise LookupError(address)


@pytest.mark.slow
def test_two_workers_find_what_one_process_finds_though_one_is_killed(events, one, tmp_path):
    killer = Killer()
    results = tuning.search("linear", events, out=tmp_path / "two", workers=2, listener=killer, **ASKED)
    assert killer.killed and len(killer.workers) >= 2
    assert found(results).keys() == found(one).keys()
    assert found(results) == pytest.approx(found(one), rel=1e-5)
    assert results.complete and len(results.trials) == 5 and {t["status"] for t in results.trials} == {"COMPLETED"}


def test_a_trial_that_kills_its_workers_fails_with_its_reason_unless_it_comes_further(events, tmp_path):
    """By an engine whose workers are told to have died."""
    asked = session._Asked("linear", None, {"units": 2, "seed": 0}, "random", 2, 3, 3, 0, "reconstruction", 0)
    begun = session._Session(asked, None, events, tmp_path / "out", False, {}, session.SearchListener())
    begun.start()
    job = trial.Job("token", "linear", "reconstruction", False, str(tmp_path / "out"), begun.training, begun.validation)
    at_work = engine.Engine(begun.oracle, begun.space.draw, job, session.SearchListener())
    at_work.restore()
    at_work._job = job

    def die():
        name, _ = at_work._pick("worker")
        at_work._take(Done(name, error=WorkersDied(f"task {name}: every worker that tried it died"), worker="worker"))
        return name

    spec = at_work.waiting["0000"]
    kept = {"spec": json.loads(json.dumps(spec.record)), "epochs": 1, "state": "0000.partial1.h5", "rows": []}
    kept |= {"members": [], "seconds": 1.0}
    (tmp_path / "out" / "trials" / "0000.partial.json").write_text(json.dumps(kept))
    assert die() == "0000" and "0000" in at_work.waiting  # an epoch was done: once more
    assert die() == "0000" and at_work.records["0000"]["status"] == "FAILED"
    assert at_work.records["0000"]["message"] == "every worker that tried it died"
    assert die() == "0001" and len(at_work.records) == 2 and not at_work.waiting


class Pool:
    """Two workers, of which some cannot read the events."""

    def __init__(self, *blind):
        self.blind = blind

    def share(self, value):
        return value

    def conduct(self, function, pick, heard, over, limit):
        while picked := [(worker, task) for worker in ("first", "second") if (task := pick(worker))]:
            for worker, (key, arguments) in picked:
                fault = WorkerFault("events.h5: no such file") if worker in self.blind else None
                yield Done(key, None if fault else function(*arguments), fault, worker)


def test_a_worker_that_cannot_read_the_events_gets_no_more_trials_and_the_other_does_them(
    events, tmp_path, monkeypatch
):
    told, listener = [], session.SearchListener()
    listener.told = told.append
    monkeypatch.setattr(engine, "open_workers", lambda *_: contextlib.nullcontext(Pool("first")))
    results = tuning.search("linear", events, out=tmp_path / "out", workers=2, listener=listener, **FEW)
    assert [t["status"] for t in results.trials] == ["COMPLETED"] * 2
    assert told == ["first gets no more trials: events.h5: no such file"]


def test_a_search_whose_workers_all_cannot_read_the_events_ends_with_the_reason_and_can_go_on(
    events, tmp_path, monkeypatch
):
    with monkeypatch.context() as patched:
        patched.setattr(engine, "open_workers", lambda *_: contextlib.nullcontext(Pool("first", "second")))
        with pytest.raises(InputError, match=r"^events.h5: no such file; no worker can do a trial"):
            tuning.search("linear", events, out=tmp_path / "out", workers=2, **FEW)
    assert not list((tmp_path / "out" / "trials").glob("*.json"))
    assert tuning.search("linear", events, out=tmp_path / "out", resume=True, **FEW).complete


@pytest.mark.slow
def test_four_workers_find_what_one_process_finds(events, one, tmp_path):
    results = tuning.search("linear", events, out=tmp_path / "four", workers=4, **ASKED)
    assert found(results).keys() == found(one).keys() and found(results) == pytest.approx(found(one), rel=1e-5)


def test_a_search_without_workers_keeps_to_its_time_and_goes_on_later(events, tmp_path):
    import distributed

    options = {"dashboard_address": ":0", "memory_limit": 0, "processes": False, "protocol": "tcp://"}
    with distributed.LocalCluster(n_workers=0, **options) as empty:
        results = tuning.search(
            "linear", events, out=tmp_path / "out", scheduler=empty.scheduler_address, time_limit=0.5, **ASKED
        )
    assert not results.trials and not results.complete and not results.exhausted
    assert session.load_results(tmp_path / "out").to_json() == results.to_json()


def test_a_trial_that_is_done_when_its_time_is_over_stops_at_the_end_of_its_epoch(events, tmp_path):
    """Whoever gets it: the moment is the same for the second worker as for the first."""
    (tmp_path / "trials").mkdir()
    (tmp_path / "lock").write_text("token")
    job = trial.Job("token", "linear", "reconstruction", False, str(tmp_path), *events.split(0.8))
    spec = trial.Spec("0", {"units": 2}, 0, 3)
    assert trial.run_trial(job, spec, time.time() - 1)["record"] is None
    assert json.loads((tmp_path / "trials" / "0.partial.json").read_text())["epochs"] == 1
    assert trial.run_trial(job, spec, time.time() + 3600)["record"]["epochs"] == 3


def test_events_are_found_by_workers_in_another_folder(events, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    events.write("here.h5")
    sent = pickle.dumps(pipelines.open("here.h5").take([0, 2]))
    monkeypatch.chdir("elsewhere")
    assert pickle.loads(sent).mass.tolist() == events.mass[[0, 2]].tolist()


def test_a_second_process_on_the_same_search_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    with engine.owned(tmp_path / "out") as token:
        assert (tmp_path / "out" / "lock").read_text() == token
        with pytest.raises(InputError, match="another process is at work"), engine.owned(tmp_path / "out"):
            pass
    assert (tmp_path / "out" / "lock").read_text() == ""  # workers that are left over see that nobody waits for them


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"cluster": "slurm"}, {"jobs": 3}, {"cluster": "lsf", "jobs": 1}])
def test_workplaces_that_cannot_be_are_refused_before_anything_is_written(wrong, events, tmp_path):
    with pytest.raises(InputError):
        tuning.search("linear", events, out=tmp_path / "out", **{**ASKED, **wrong})
    assert not (tmp_path / "out").exists()


# -- kills ------------------------------------------------------------------------------------------------


def main(out, trials):
    """The user's process, of the kill test."""
    make_known()
    engine.run_trial = run_known_model
    trial.known = False
    del trial.known
    asked = {**ASKED, "trials": int(trials), "max_epochs": 9, "factor": 3}
    resume = Path(out, "search.json").exists()
    events = pipelines.open("lhco_sim_train").sample(EVENTS)
    tuning.search("linear", events, out=out, workers=3, resume=resume, **asked)


@pytest.mark.slow
def test_a_search_by_three_workers_survives_twenty_kills_anywhere(tmp_path):
    import psutil

    trials, out, log = 20, tmp_path / "out", tmp_path / "log"
    chance, kills, mains = random.Random(0), 0, 0
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "TEST_LOG": str(log), "TEST_PAUSE": "0.5"}
    command = [sys.executable, "-c", f"import test_workers; test_workers.main({str(out)!r}, {trials})"]

    def begin():
        return psutil.Process(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL).pid)

    def workers(process):
        return [p for p in process.children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]

    process = begin()
    while True:
        seen = log.read_text().count("epoch") if log.exists() else 0
        until = time.monotonic() + chance.uniform(0.0, 4.0)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            moved = log.exists() and log.read_text().count("epoch") > seen
            if kills < 20 and moved and time.monotonic() > until:  # so that the search comes further meanwhile
                break
            time.sleep(0.05)
        else:
            assert process.wait() == 0
            break
        kills += 1
        try:
            victims = workers(process)
            if kills % 4 == 0 or not victims:
                mains += 1
                process.kill()
                process.wait()
                process = begin()
            else:
                chance.choice(victims).kill()
        except psutil.NoSuchProcess:
            pass
    assert kills == 20 and mains >= 5
    results = session.load_results(out)
    assert results.complete and len(results.trials) == trials and not results.damaged
    assert {t["status"] for t in results.trials} == {"COMPLETED"}
    planned = Counter(r.epochs for b in tuning.hyperband.plan(trials, 9, 3) for r in b.rounds for _ in range(r.size))
    assert Counter(t["epochs"] for t in results.trials) == planned
    for each in results.trials:  # every epoch once in what it keeps, and none more than was asked for
        rows = json.loads((out / "trials" / f"{each['trial']}.history.json").read_text())["rows"]
        epochs = [row["epoch"] for row in rows if row["phase"] == "main"]
        assert epochs == list(range(each["initial_epoch"], each["epochs"]))
    written = Counter(log.read_text().split("\n"))
    assert all(count == 1 for line, count in written.items() if line.startswith("record"))
    again = sum(count - 1 for line, count in written.items() if line.startswith("epoch"))
    assert again <= kills + 2 * mains  # of a trial that was killed, the epoch in progress; a main process has three
    clean = tuning.search(
        "linear", pipelines.open("lhco_sim_train").sample(EVENTS), out=tmp_path / "clean",
        **{**ASKED, "trials": trials, "max_epochs": 9, "factor": 3},
    )  # fmt: skip
    assert found(results).keys() == found(clean).keys()
    assert found(results) == pytest.approx(found(clean), rel=1e-5)
