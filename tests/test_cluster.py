"""Parallel work: the same results whoever does it, and one line when nobody can. Takes about 15 s."""

import gc
import os
import signal
import time
import warnings
from pathlib import Path

import pytest

from pipelines import InputError
from pipelines.cluster import AHEAD, Farm, cores, open_workers


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


def refuse(number):
    if number == 2:
        raise InputError(f"row {number} is broken")
    return square(number)


def fail(number):
    raise ZeroDivisionError("a bug")


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
    monkeypatch.setattr(distributed, "Client", lambda address, timeout: real(address, timeout=0.3))


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

    kind = distributed.Client
    impatient(monkeypatch)

    def alive():
        return sum(type(thing) is kind for thing in gc.get_objects())  # isinstance would ask dead weak proxies

    gc.collect()
    before = alive()
    gc.disable()
    try:
        with pytest.raises(InputError) as error, open_workers(scheduler="tcp://127.0.0.1:9"):
            pass
        assert alive() == before and error.value.__context__ is None
    finally:
        gc.enable()


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_are_refused(workers):
    with pytest.raises(InputError, match=f"workers is {workers}"), open_workers(workers):
        pass
