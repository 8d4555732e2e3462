"""Parallel work: the same results whoever does it, and one line when nobody can. Takes about 40 s."""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
import weakref
from pathlib import Path

import pytest

from pipelines import InputError
from pipelines.errors import Unfinished
from pipelines.jobs import executors as cluster
from pipelines.jobs import tls
from pipelines.jobs.batch_systems import KNOWN
from pipelines.jobs.executors import AHEAD, Batch, Farm, RunningScheduler, cores, open_workers, tell


def square(number):
    return number * number, os.getpid()


def slow_square(number):
    time.sleep(0.02 * (number % 4))
    return square(number)


def die_once(number, flag):
    if number == 3 and not Path(flag).exists():
        Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return square(number)


def die(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(number)


def die_all(number):
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(number):
    if number == 2:
        raise InputError(f"row {number} is broken")
    return square(number)


def fail(number):
    raise ZeroDivisionError("a bug")


def wait_too_long():
    raise TimeoutError("no answer")


def talk(number, more=0):
    tell({"number": number})
    if number == 3 and more:
        raise InputError("row 3 is broken")
    return square(number)


def lookup(table, name):
    return table[name], os.getpid()


@pytest.fixture(scope="module")
def farm():
    with open_workers(2) as workers:
        yield workers


def numbered(count, *more):
    return ((number, (number, *more)) for number in range(count))


def squares(results):
    return {number: value for number, (value, _) in results}


EXPECTED = {number: number * number for number in range(20)}


def test_cores_are_those_this_process_may_use():
    assert cores() == len(os.sched_getaffinity(0)) >= 1


def test_one_worker_is_this_process_and_starts_nothing():
    with open_workers(1) as workers:
        results = list(workers.map(square, numbered(20)))
    assert [number for number, _ in results] == list(range(20)) and squares(results) == EXPECTED
    assert {pid for _, (_, pid) in results} == {os.getpid()}


def test_one_worker_reads_a_task_when_the_one_before_is_done():
    given = []

    def tasks():
        for number in range(5):
            given.append(number)
            yield number, (number,)

    with open_workers(1) as workers:
        for number, _ in workers.map(square, tasks()):
            assert len(given) == number + 1


def test_two_workers_share_the_work_in_other_processes(farm):
    assert farm.count == 2
    results = list(farm.map(slow_square, numbered(20)))
    assert squares(results) == EXPECTED and len(results) == 20
    pids = {pid for _, (_, pid) in results}
    assert len(pids) == 2 and os.getpid() not in pids


def test_workers_are_given_few_tasks_ahead(farm):
    given, done = [], 0

    def tasks():
        for number in range(50):
            given.append(number)
            yield number, (number,)

    for done, _ in enumerate(farm.map(slow_square, tasks()), start=1):
        assert len(given) <= done + 2 * AHEAD
    assert done == 50


def grown(pool, function, heard=None, more=()):
    """Do tasks 0, 1 and 2 one after the other given out, and two more for every result that is even, up to 9."""
    waiting, asked, done = [0, 1, 2], [], {}

    def pick(worker):
        asked.append(worker)
        return (number := waiting.pop(0), (number, *more)) if waiting else None

    for each in pool.conduct(function, pick, heard):
        done[each.key] = each
        new = 3 + 2 * sum(key % 2 == 0 for key in done)
        waiting += [n for n in range(new - 2, new) if each.key % 2 == 0 and n < 10 and n not in done]
    return done, asked


@pytest.mark.parametrize("which", ["one", "two"])
def test_tasks_that_follow_from_results_are_done_by_whoever_is_free(which, request):
    heard = []
    with open_workers(1) as serial:
        pool = serial if which == "one" else request.getfixturevalue("farm")
        done, asked = grown(pool, talk, heard.append)
    assert {key: each.result()[0] for key, each in done.items()} == {n: n * n for n in done} and len(done) >= 5
    assert sorted(message["number"] for message in heard) == sorted(done)
    pids = {each.value[1] for each in done.values()}
    assert pids == {os.getpid()} if which == "one" else os.getpid() not in pids
    assert {each.worker for each in done.values()} <= set(asked)


@pytest.mark.parametrize("which", ["one", "two"])
def test_error_of_a_task_is_its_own_and_the_others_are_done(which, request):
    with open_workers(1) as serial:
        pool = serial if which == "one" else request.getfixturevalue("farm")
        done, _ = grown(pool, talk, more=(1,))
    assert isinstance(done[3].error, InputError) and str(done[3].error) == "row 3 is broken"
    assert all(each.error is None for key, each in done.items() if key != 3)


def test_what_is_told_where_nobody_listens_is_lost(capfd):
    assert talk(2)[0] == 4 and capfd.readouterr() == ("", "")


def test_large_values_are_shared_and_stay_so_when_their_worker_dies(farm, tmp_path):
    table = farm.share({"a": 1, "b": 2})
    names = ["a", "b", "a", "b"]

    def pick(worker):
        return (len(names), (table, names.pop())) if names else None

    assert sorted(each.result()[0] for each in farm.conduct(lookup, pick)) == [1, 1, 2, 2]
    list(farm.map(die_once, numbered(5, str(tmp_path / "killed"))))
    names += ["b"]
    assert [each.result()[0] for each in farm.conduct(lookup, pick)] == [2]


def test_task_that_kills_every_worker_is_an_error_of_its_own(farm, monkeypatch):
    monkeypatch.setattr(cluster, "MOST_DEATHS", 2)
    numbers = [1, 2]

    def pick(worker):
        return (number := numbers.pop(), (number,)) if numbers else None

    done = {each.key: each for each in farm.conduct(die, pick)}
    assert done[1].result()[0] == 1 and str(done[2].error).startswith("task 2: every worker that tried it died")


def test_worker_that_joins_late_is_given_work():
    import distributed

    options = {"dashboard_address": ":0", "memory_limit": 0, "processes": False, "protocol": "tcp://"}
    left, seen = list(range(100)), set()
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster:

        def pick(worker):
            seen.add(worker)
            return (number := left.pop(), (1 + 4 * number,)) if left and len(seen) < 2 else None

        with open_workers(scheduler=cluster.scheduler_address) as pool:
            for number, _ in enumerate(pool.conduct(slow_square, pick)):
                if number == 1:
                    cluster.scale(2)
    assert len(seen) == 2 and len(left) < 99


def test_without_workers_the_work_ends_when_its_time_is_over_and_somebody_is_told(monkeypatch):
    import distributed

    monkeypatch.setattr(cluster, "LONELY", 0.2)
    options = {"dashboard_address": ":0", "memory_limit": 0, "processes": False, "protocol": "tcp://"}
    heard = []
    with (
        distributed.LocalCluster(n_workers=0, **options) as empty,
        open_workers(scheduler=empty.scheduler_address) as pool,
    ):
        assert not list(pool.conduct(square, lambda worker: (1, (1,)), heard.append, lambda: bool(heard)))
    (message,) = heard
    assert message["told"].startswith(f"waiting for workers of {empty.scheduler_address}: none for 0 s")


def test_task_whose_worker_dies_is_given_up_when_the_time_is_over(farm, tmp_path):
    flag, numbers = tmp_path / "killed", [3]

    def pick(worker):
        return (number := numbers.pop(), (number, str(flag))) if numbers else None

    assert list(farm.conduct(die_once, pick, over=flag.exists)) == [] and flag.exists() and not numbers


def hang(number):
    if number == 3:
        time.sleep(600)
    return square(number)


def test_task_that_hangs_is_taken_from_its_worker_and_the_others_are_done(farm):
    numbers = list(range(6))

    def pick(worker):
        return (number := numbers.pop(), (number,)) if numbers else None

    done = {each.key: each for each in farm.conduct(hang, pick, limit=4.0)}
    assert str(done.pop(3).error) == "task 3: no end of it within 4 s"
    assert {key: each.result()[0] for key, each in done.items()} == {n: n * n for n in (0, 1, 2, 4, 5)}
    assert squares(farm.map(square, numbered(20))) == EXPECTED


def pid_of(farm, worker):
    return farm._client.run(os.getpid, workers=[worker])[worker]


def test_result_that_is_lost_with_its_worker_is_made_again(farm, monkeypatch):
    fetch, numbers, lost = Farm._fetched, [5], []

    def lose_first(self, future, key, worker):
        if not lost:
            lost.append(pid_of(farm, worker))
            os.kill(lost[0], signal.SIGKILL)
        return fetch(self, future, key, worker)

    monkeypatch.setattr(Farm, "_fetched", lose_first)
    (done,) = farm.conduct(square, lambda worker: (number := numbers.pop(), (number,)) if numbers else None)
    value, pid = done.result()
    assert value == 25 and lost and pid not in lost


def test_result_that_takes_its_time_is_asked_for_once(farm, monkeypatch):
    import distributed

    gather, asked = distributed.Client.gather, []

    async def late(*arguments, **options):
        asked.append(arguments)
        await asyncio.sleep(0.3)
        return await gather(*arguments, **options)

    monkeypatch.setattr(cluster, "POLL", 0.01)
    monkeypatch.setattr(distributed.Client, "gather", late)
    assert squares(farm.map(square, numbered(1))) == {0: 0} and len(asked) == 1


def test_workers_that_take_long_to_be_back_are_not_given_up():
    """As Dask does after 15 s, which pass on a machine with much to do; then nobody would ever work again."""
    import dask

    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1ms"}), open_workers(2) as farm:
        for pid in [pid_of(farm, worker) for worker in farm._workers()]:
            os.kill(pid, signal.SIGKILL)
        assert squares(farm.map(square, numbered(20))) == EXPECTED


@pytest.mark.slow
def test_when_no_worker_comes_back_the_work_ends_with_one_error(monkeypatch, capfd):
    monkeypatch.setattr(cluster, "BACK", 0.001)
    with open_workers(2) as farm:
        for work in (farm.conduct(die_all, lambda worker: (1, (1,))), farm.map(die_all, numbered(20))):
            with pytest.raises(Unfinished, match="all workers are gone") as error:
                list(work)
            assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_work_that_is_done_is_done_though_nobody_is_there_any_more():
    import distributed

    options = {"dashboard_address": ":0", "memory_limit": 0, "processes": False, "protocol": "tcp://"}
    found = []
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, **options) as there,
        open_workers(scheduler=there.scheduler_address) as pool,
    ):
        for number, _ in pool.map(square, numbered(3)):
            found.append(number)
            if len(found) == 3:
                there.scale(0)
                while pool._workers():
                    time.sleep(0.01)
    assert found == [0, 1, 2]


def test_scheduler_that_is_lost_or_silent_while_nobody_works_is_told(tmp_path, monkeypatch):
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    where = tmp_path / "where.json"
    scheduler = subprocess.Popen(
        [*command, "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(where)], stderr=subprocess.DEVNULL
    )
    try:
        while not where.exists():
            assert scheduler.poll() is None
            time.sleep(0.05)
        with open_workers(scheduler=json.loads(where.read_text())["address"]) as pool:
            monkeypatch.setattr(cluster, "ANSWER", 0.5)
            work = pool.conduct(square, lambda worker: (1, (1,)), over=lambda: scheduler.send_signal(signal.SIGSTOP))
            with pytest.raises(Unfinished, match="connection to the Dask scheduler is lost"):
                next(work)
            scheduler.kill()
            with pytest.raises(Unfinished, match="connection to the Dask scheduler is lost"):
                print(pool.count)
    finally:
        scheduler.kill()
        scheduler.wait()


def test_task_that_waited_too_long_for_something_has_failed(farm):
    numbers = [1]
    (done,) = farm.conduct(wait_too_long, lambda worker: (numbers.pop(), ()) if numbers else None)
    assert isinstance(done.error, TimeoutError) and str(done.error) == "no answer"


def test_no_tasks_are_no_results(farm):
    assert list(farm.map(square, [])) == []


def test_error_of_a_task_is_raised_as_it_is_and_the_workers_go_on(farm):
    with pytest.raises(InputError, match=r"^row 2 is broken$"):
        list(farm.map(refuse, numbered(20)))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(farm.map(fail, numbered(20)))
    assert squares(farm.map(square, numbered(20))) == EXPECTED


def test_results_that_nobody_waits_for_are_given_up(farm):
    for number, _ in farm.map(slow_square, numbered(1000)):
        if number >= 2:
            break
    assert squares(farm.map(square, numbered(20))) == EXPECTED


def test_task_of_a_worker_that_was_killed_is_done_by_another(farm, tmp_path, capfd):
    results = farm.map(die_once, numbered(20, str(tmp_path / "killed")))
    assert squares(results) == EXPECTED and (tmp_path / "killed").exists()
    assert capfd.readouterr().err == ""  # Dask tells it to nobody


@pytest.mark.slow
def test_task_that_kills_every_worker_is_one_error(farm, capfd):
    with pytest.raises(InputError) as error:
        list(farm.map(die, numbered(4)))
    assert str(error.value).startswith("task 2: every worker that tried it died") and "\n" not in str(error.value)
    assert squares(farm.map(square, numbered(20))) == EXPECTED
    assert capfd.readouterr().err == ""


def test_cluster_that_is_there_already_is_used_and_left_running():
    import distributed

    options = {"dashboard_address": ":0", "memory_limit": 0, "processes": False, "protocol": "tcp://"}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster:
        address = cluster.scheduler_address
        for _ in range(2):
            with open_workers(scheduler=address) as workers:
                assert isinstance(workers, Farm) and workers.count == 2
                assert squares(workers.map(square, numbered(20))) == EXPECTED


def test_two_farms_at_once_do_not_disturb_each_other(farm):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Dask's default port is taken by then
        with open_workers(2) as other:
            results = [squares(workers.map(square, numbered(20))) for workers in (farm, other)]
    assert results == [EXPECTED, EXPECTED]


def impatient(monkeypatch):
    import distributed

    real = distributed.Client
    monkeypatch.setattr(
        distributed, "Client", lambda address, timeout, **options: real(address, timeout=0.3, **options)
    )


def test_scheduler_that_does_not_answer_is_told(monkeypatch):
    impatient(monkeypatch)
    with pytest.raises(InputError) as error, open_workers(scheduler="tcp://127.0.0.1:9"):
        pass
    assert "scheduler tcp://127.0.0.1:9" in str(error.value) and "tcp://host:8786" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:9", "tcp://127.0.0.1", ""])
def test_address_that_is_none_is_told(address, monkeypatch):
    impatient(monkeypatch)
    with pytest.raises(InputError, match="address of a running Dask scheduler"), open_workers(scheduler=address):
        pass


def test_client_that_failed_is_gone_before_the_next_one_starts(monkeypatch):
    """Else Python ends it at any time, and Dask waits for itself forever."""
    import distributed

    kind, begun = distributed.Client, []

    class Noted(kind):
        def __init__(self, address, timeout, **options):
            begun.append(weakref.ref(self))
            super().__init__(address, timeout=0.3, **options)

    monkeypatch.setattr(distributed, "Client", Noted)
    gc.disable()
    try:
        with pytest.raises(InputError) as error, open_workers(scheduler="tcp://127.0.0.1:9"):
            pass
        assert begun and not any(client() for client in begun) and error.value.__context__ is None
    finally:
        gc.enable()


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_are_refused(workers):
    with pytest.raises(InputError, match=f"workers is {workers}"), open_workers(workers):
        pass


# -- who may give work --------------------------------------------------------------------------------------


def touch(path):
    Path(path).touch()


@pytest.mark.parametrize("stranger", ["without keys", "with keys of their own"])
def test_other_users_of_the_machine_cannot_run_anything_in_our_workers(farm, stranger, tmp_path):
    import distributed

    for address in (farm._client.scheduler.address, farm._workers()[0]):
        security = distributed.security.Security.temporary() if stranger != "without keys" else None
        where = address if security else address.replace("tls://", "tcp://")
        with (
            pytest.raises((OSError, RuntimeError)),
            distributed.Client(where, security=security, timeout=1) as client,
        ):
            client.submit(touch, tmp_path / "owned").result(timeout=5)
    assert not (tmp_path / "owned").exists()
    assert squares(farm.map(square, numbered(20))) == EXPECTED  # and nothing was disturbed


def test_our_cluster_speaks_tls_on_this_machine_alone_and_has_no_pages(farm):
    assert farm._client.scheduler.address.startswith("tls://127.0.0.1:")
    assert all(worker.startswith("tls://127.0.0.1:") for worker in farm._workers())
    pages = farm._client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.http_server.port)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{pages}/info/main/workers.html", timeout=5)


def test_running_scheduler_that_speaks_tls_is_used_with_its_certificates(tmp_path):
    import distributed

    security = tls.security_in(tmp_path)
    options = {"dashboard_address": ":0", "memory_limit": 0, "processes": False, "protocol": "tls://"}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, security=security, **options) as there:
        files = {"ca_file": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
        files = {name: str(tmp_path / file) for name, file in files.items()}
        with open_workers(scheduler=RunningScheduler(there.scheduler_address, **files)) as pool:
            assert squares(pool.map(square, numbered(5))) == {n: n * n for n in range(5)}
        with (
            pytest.raises(InputError, match="no certificates; give --tls-ca-file") as error,
            open_workers(scheduler=there.scheduler_address),
        ):
            pass
        assert "\n" not in str(error.value)


def test_certificates_that_are_none_are_named(tmp_path):
    (tmp_path / "key.pem").write_text("not a key")
    with pytest.raises(InputError, match=r"--tls-cert .*gone.pem: No such file"):
        RunningScheduler("tls://127.0.0.1:1", cert=str(tmp_path / "gone.pem"))
    with pytest.raises(InputError, match=r"--tls-key .* is for a scheduler tls://HOST:PORT, this is tcp://"):
        RunningScheduler("tcp://127.0.0.1:1", key=str(tmp_path / "key.pem"))
    wrong = dict.fromkeys(("ca_file", "cert", "key"), str(tmp_path / "key.pem"))
    with (
        pytest.raises(InputError, match="the certificates cannot be used"),
        open_workers(scheduler=RunningScheduler("tls://127.0.0.1:1", **wrong)),
    ):
        pass


def test_keys_of_a_farm_are_private_and_go_with_it_also_when_it_was_killed(tmp_path):
    killed = tmp_path / f"{tls.FOLDER}abcd1234"
    killed.mkdir()
    (killed / "lock").touch()
    with tls.key_folder(tmp_path) as folder, tls.key_folder(tmp_path) as other:
        tls.security_in(folder)
        modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())}
        assert modes.pop(folder.name) == 0o700 and set(modes.values()) == {0o600} and "key.pem" in modes
        assert not killed.exists() and other.exists()
    assert list(tmp_path.iterdir()) == []


# -- batch systems ------------------------------------------------------------------------------------------


SITE = """
queue: long
account: atlas
walltime: "02:30:00"
memory: 3GB
image: /cvmfs/zoo.sif
directives: ["--qos=low"]
prologue: ["source setup.sh"]
logs: %s
"""


def test_jobs_of_slurm_are_what_the_file_says(tmp_path):
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "site.yaml").write_text(SITE % (tmp_path / "logs"))
    lines = Batch.read("slurm", 3, tmp_path / "site.yaml").script().splitlines()
    for line in ("-p long", "-A atlas", "-t 02:30:00", "--mem=3G", "-n 1", "--cpus-per-task=1", "--qos=low"):
        assert f"#SBATCH {line}" in lines
    assert lines.index("source setup.sh") < len(lines) - 1 and "export TF_NUM_INTRAOP_THREADS=1" in lines
    start = next(line for line in lines if "dask_worker" in line)
    assert start.startswith("apptainer exec /cvmfs/zoo.sif python3 -m distributed.cli.dask_worker tls://")
    assert "--nthreads 1 --memory-limit 0 --no-dashboard --protocol tls://" in start


def test_jobs_of_htcondor_are_what_the_file_says():
    pytest.importorskip("dask_jobqueue")
    options = {"walltime": "02:30:00", "memory": "3GB", "disk": "5GB", "directives": {"+AccountingGroup": '"group_u"'}}
    text = Batch("htcondor", 3, options).script()
    for line in ("+MaxRuntime = 9000", "MY.DaskWorkerMemory = 3000000000", "MY.DaskWorkerDisk = 5000000000",
                 '+AccountingGroup = "group_u"', "Queue"):  # fmt: skip
        assert line in text.splitlines()
    assert f"{sys.executable} -m distributed.cli.dask_worker" in text


@pytest.mark.parametrize(
    "text, said",
    [
        ("wall_time: 1", "'wall_time' is not known; near: walltime"),
        ("walltime: 3600", 'walltime is 3600, expected hours, minutes, seconds in quotes, "12:00:00"'),
        ("disk: 1GB", "disk is an option of htcondor, this is slurm"),
        ("directives: --qos=low", "expected a list of lines"),
        ("cores: 0", "cores is 0"),
        ("memory: 4", "memory is 4, expected a word"),
        ("memory: -4GB", "memory is '-4GB', expected a size, such as 4GB"),
        ("- queue", "expected lines of NAME: VALUE"),
        ("queue: [", "line 1 no YAML"),
        ("", "expected lines of NAME: VALUE"),
    ],
)
def test_file_of_a_site_that_is_wrong_is_named_with_what_is_wrong(text, said, tmp_path):
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(InputError) as error:
        Batch.read("slurm", 1, tmp_path / "site.yaml")
    assert said in str(error.value) and str(tmp_path / "site.yaml") in str(error.value) and "\n" not in str(error.value)


def test_every_option_of_a_site_is_described():
    from pipelines.jobs import batch_systems as batchfarm

    assert all(f"    {name}: " in batchfarm.__doc__ for name in KNOWN)


@pytest.mark.parametrize("system, jobs", [("lsf", 1), ("slurm", 0), ("slurm", True)])
def test_jobs_that_cannot_be_are_refused(system, jobs):
    with pytest.raises(InputError, match="expected"):
        Batch(system, jobs)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands that do what those of Slurm do, on this machine: also keep the script, which is removed at once."""
    pytest.importorskip("dask_jobqueue")
    commands = {
        "sbatch": f'#!/bin/bash\ncp "$1" {tmp_path}/$$.sh\nbash {tmp_path}/$$.sh > {tmp_path}/job.log 2>&1 &\necho $! > {tmp_path}/$$.pid\necho "Submitted batch job $!"\n',
        "scancel": "#!/bin/bash\nkill $1 2> /dev/null\n",
    }
    for name, text in commands.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_submitted_jobs_do_the_work(slurm, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where this module's functions are
    with open_workers(scheduler=Batch("slurm", 1)) as pool:
        results = list(pool.map(square, numbered(5)))
    assert squares(results) == {n: n * n for n in range(5)} and os.getpid() not in {pid for _, (_, pid) in results}
    assert len(list(slurm.glob("*.pid"))) == 1


def test_jobs_that_the_system_refuses_are_one_error(slurm, capfd):
    (slurm / "sbatch").write_text("#!/bin/bash\necho no such partition >&2\nexit 1\n")
    with (
        pytest.raises(InputError, match="slurm: sbatch refuses the jobs") as error,
        open_workers(scheduler=Batch("slurm", 1)),
    ):
        pass
    assert "no such partition" in str(error.value) and "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_no_batch_system_here_is_one_error(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(InputError, match="there is no condor_submit here"),
        open_workers(scheduler=Batch("htcondor", 2)),
    ):
        pass
