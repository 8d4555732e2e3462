"""Conversions in chunks: whatever stops one, the same call again finishes it, and the file is the same.

Takes about 25 s, most of it Dask starting processes.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest

from pipelines import Events, InputError
from pipelines.errors import Unfinished
from pipelines.jobs import chunks
from pipelines.jobs.chunks import Outcome, in_chunks, write_events
from pipelines.jobs.executors import AHEAD

SIZE = 10  # events of a chunk
CHUNKS = 12
STOP = 6  # the chunk at which something happens


# -- a job, at the top level so that other processes can do it ------------------------------------------------


def note(folder, text):
    """Say what happened, in one write, which other processes cannot get between."""
    with open(Path(folder) / "log", "a") as file:
        file.write(f"{text}\n")


def executions(folder):
    """How often each chunk was begun, by its number."""
    return Counter(int(line) for line in (Path(folder) / "log").read_text().split())


def make(number):
    rng = np.random.default_rng(number)
    arrays = {
        "features": rng.normal(size=(SIZE, 2)),
        "mass": rng.uniform(2700, 5000, SIZE),
        "label": np.arange(SIZE) % 2,
    }
    return arrays, {"rows": SIZE, "odd chunks": number % 2}


def work(number, folder):
    note(folder, number)
    return make(number)


def work_until_stopped(number, folder):
    """Comes to chunk STOP and stays there, as long as the file "go" is not there."""
    note(folder, number)
    if number == STOP and not (Path(folder) / "go").exists():
        (Path(folder) / "reached").write_text(str(os.getpid()))
        time.sleep(60)
    return make(number)


def work_until_error(number, folder):
    note(folder, number)
    if number == STOP and not (Path(folder) / "go").exists():
        raise ZeroDivisionError("a bug")
    return make(number)


def work_until_bad_input(number, folder):
    note(folder, number)
    if number == STOP:
        raise InputError(f"{folder}: line 17 is broken")
    return make(number)


def work_in_odd_order(number, folder):
    time.sleep(0.05 * (number % 3 == 0))
    return make(number)


def nothing(number, folder):
    return {"features": np.empty((0, 2)), "mass": np.empty(0)}, {"lines": 7}


def run(folder, function=work, *, count=CHUNKS, sources=(), options=None, **more):
    folder = Path(folder)
    return write_events(
        folder / "events.h5",
        function,
        ((number, str(folder)) for number in range(count)),
        about={"columns": ["a", "b"], "mass_column": "m"},
        sources=sources,
        options={"size": SIZE} if options is None else options,
        **more,
    )


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The bytes of the file when nothing goes wrong, made without chunks.py."""
    from pipelines.events.events import EventsWriter

    path = tmp_path_factory.mktemp("expected") / "events.h5"
    with EventsWriter(path, columns=["a", "b"], mass_column="m") as writer:
        for number in range(CHUNKS):
            writer.append(**dict(sorted(make(number)[0].items())))  # HDF5 lists datasets by name
    return path.read_bytes()


@pytest.fixture(scope="module")
def scheduler():
    """The address of a Dask cluster of two processes."""
    import distributed

    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=0) as cluster:
        yield cluster.scheduler_address


def start(folder, **options):
    """Begin the job in another process, with its own process group, and wait until it is at chunk STOP."""
    # a shell's background jobs, CI among them, ignore Ctrl-C, and so do their children
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = hear + f"import test_chunks as t; t.run({str(folder)!r}, t.work_until_stopped, **{options!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, start_new_session=True, stderr=subprocess.PIPE
    )
    until((folder / "reached").exists, process)
    return process


def until(true, process=None, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert process is None or process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def group_members(group):
    """The processes of a session that are alive, with their commands."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, _, _, session = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:4]
            if int(session) == group and state != "Z":
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
    return found


def finished(folder):
    return {int(path.stem) for path in (folder / "events.h5.parts").glob("[0-9]*.h5")}


# -- all goes well ------------------------------------------------------------------------------------------


def test_file_is_the_same_with_and_without_chunks_and_nothing_stays_beside_it(expected, tmp_path):
    assert run(tmp_path) == Outcome(CHUNKS * SIZE, {"rows": CHUNKS * SIZE, "odd chunks": CHUNKS // 2})
    assert (tmp_path / "events.h5").read_bytes() == expected
    assert sorted(os.listdir(tmp_path)) == ["events.h5", "log"]
    assert executions(tmp_path) == dict.fromkeys(range(CHUNKS), 1)


def test_two_workers_that_finish_in_another_order_make_the_same_file(expected, scheduler, tmp_path):
    outcome = run(tmp_path, work_in_odd_order, scheduler=scheduler)
    assert outcome == Outcome(CHUNKS * SIZE, {"rows": CHUNKS * SIZE, "odd chunks": CHUNKS // 2})
    assert (tmp_path / "events.h5").read_bytes() == expected


def test_progress_grows_to_all_events_also_in_a_run_that_goes_on(tmp_path):
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, work_until_error)
    (tmp_path / "go").touch()
    calls = []
    run(tmp_path, work_until_error, total=CHUNKS * SIZE, progress=lambda *call: calls.append(call))
    assert calls == [(n * SIZE, CHUNKS * SIZE) for n in range(1, CHUNKS + 1)]


@pytest.mark.parametrize("farm", [False, True])
def test_tasks_are_read_only_as_far_as_workers_need(farm, scheduler, tmp_path):
    given, ahead = [], []

    def tasks():
        for number in range(60):
            given.append(number)
            yield number, str(tmp_path)

    write_events(
        tmp_path / "events.h5",
        work,
        tasks(),
        about={"columns": ["a", "b"]},
        sources=[],
        options={},
        scheduler=scheduler if farm else None,
        progress=lambda done, total: ahead.append(len(given) - done // SIZE),
    )
    assert len(given) == 60 and max(ahead) <= (2 * AHEAD + 2 if farm else 2)


def test_blocks_can_be_changed_as_they_are_joined_and_attributes_told_from_counts(tmp_path):
    write_events(
        tmp_path / "events.h5",
        work,
        [(n, str(tmp_path)) for n in range(3)],
        about=lambda counts: {"columns": ["a", "b"], "source": f"{counts['rows']} rows"},
        join=lambda arrays: arrays | {"mass": arrays["mass"] + 1},
        sources=[],
        options={},
    )
    events = Events.from_file(tmp_path / "events.h5")
    mass = np.concatenate([make(n)[0]["mass"] + 1 for n in range(3)])
    np.testing.assert_array_equal(events.mass, mass.astype(np.float32))
    assert events.about.source == "30 rows"


def test_no_events_are_an_error_that_says_what_was_seen(tmp_path):
    with pytest.raises(InputError, match=r"no events to write \(21 lines\)"):
        run(tmp_path, nothing, count=3)
    with pytest.raises(InputError, match=r"no events to write$"):
        run(tmp_path, count=0)
    assert os.listdir(tmp_path) == []


def test_output_that_is_there_is_not_touched(tmp_path):
    (tmp_path / "events.h5").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        run(tmp_path)
    assert (tmp_path / "events.h5").read_text() == "mine" and os.listdir(tmp_path) == ["events.h5"]


# -- something happens --------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_run_is_continued_without_doing_anything_twice(workers, expected, scheduler, tmp_path):
    process = start(tmp_path, workers=workers)
    until(lambda: len(finished(tmp_path)) >= (STOP if workers == 1 else 3), process)
    process.kill()
    process.wait()
    until(lambda: not group_members(process.pid), seconds=10)  # its workers went with it
    there = finished(tmp_path)
    assert not (tmp_path / "events.h5").exists() and STOP not in there
    (tmp_path / "go").touch()
    outcome = run(tmp_path, work_until_stopped, scheduler=scheduler if workers > 1 else None)
    assert outcome == Outcome(CHUNKS * SIZE, {"rows": CHUNKS * SIZE, "odd chunks": CHUNKS // 2})
    assert (tmp_path / "events.h5").read_bytes() == expected
    times = executions(tmp_path)
    assert times[STOP] == 2 and all(times[number] == 1 for number in there)
    if workers == 1:
        assert there == set(range(STOP)) and sum(times.values()) == CHUNKS + 1


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_interrupt_leaves_chunks_to_go_on_from_and_no_processes(workers, expected, tmp_path):
    process = start(tmp_path, workers=workers)
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C in a terminal does
    process.wait(timeout=20)
    until(lambda: not group_members(process.pid), seconds=10)
    there = finished(tmp_path)
    assert process.returncode != 0 and there and not (tmp_path / "events.h5").exists()
    (tmp_path / "go").touch()
    run(tmp_path, work_until_stopped)
    assert (tmp_path / "events.h5").read_bytes() == expected
    assert all(executions(tmp_path)[number] == 1 for number in there)


@pytest.mark.parametrize("farm", [False, True])
def test_error_of_a_program_keeps_the_chunks(farm, expected, scheduler, tmp_path):
    where = {"scheduler": scheduler} if farm else {}
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run(tmp_path, work_until_error, **where)
    there = finished(tmp_path)
    assert there if farm else there == set(range(STOP))
    (tmp_path / "go").touch()
    run(tmp_path, work_until_error, **where)
    assert (tmp_path / "events.h5").read_bytes() == expected
    assert all(executions(tmp_path)[number] == 1 for number in there)


@pytest.mark.parametrize("farm", [False, True])
def test_bad_input_ends_the_job_with_its_own_message_and_leaves_nothing(farm, scheduler, tmp_path):
    with pytest.raises(InputError) as error:
        run(tmp_path, work_until_bad_input, **({"scheduler": scheduler} if farm else {}))
    assert str(error.value) == f"{tmp_path}: line 17 is broken"
    assert os.listdir(tmp_path) == ["log"]
    run(tmp_path, options={"on_error": "skip"})  # and another job may follow


def test_second_process_is_refused_and_does_not_disturb_the_first(expected, tmp_path):
    process = start(tmp_path)
    before = finished(tmp_path)
    for options in ({"size": SIZE}, {"other": 1}):
        with pytest.raises(InputError, match=r"another process \(\d+ on .*\) is writing it"):
            run(tmp_path, work_until_stopped, options=options)
    assert finished(tmp_path) == before
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (tmp_path / "go").touch()
    run(tmp_path, work_until_stopped)  # the lock of a process that is gone is none
    assert (tmp_path / "events.h5").read_bytes() == expected


def test_process_that_looked_before_the_first_finished_does_not_write_over_it(expected, tmp_path, monkeypatch):
    """The output appears between the look for it and the lock: the second must see it then."""
    from pipelines.jobs import chunks

    real = chunks.check_new

    def slow(path):
        found = real(path)
        monkeypatch.setattr(chunks, "check_new", real)
        run(tmp_path)
        return found

    monkeypatch.setattr(chunks, "check_new", slow)
    with pytest.raises(InputError, match="exists already"):
        run(tmp_path)
    assert (tmp_path / "events.h5").read_bytes() == expected


def unfinished(folder, **options):
    with pytest.raises(ZeroDivisionError):
        run(folder, work_until_error, **options)
    (folder / "go").touch()


@pytest.mark.parametrize(
    "options, names",
    [({"size": 11}, "size"), ({"size": SIZE, "more": 1}, "more"), ({}, "size"), ({"a": 1, "b": 2}, "a, b, size")],
)
def test_other_options_are_refused_by_name_and_the_chunks_stay(options, names, expected, tmp_path):
    unfinished(tmp_path)
    with pytest.raises(InputError, match=f"unfinished run with other {names};"):
        run(tmp_path, work_until_error, options=options)
    assert finished(tmp_path) == set(range(STOP))
    run(tmp_path, work_until_error)
    assert (tmp_path / "events.h5").read_bytes() == expected


@pytest.mark.parametrize("change", ["size", "time", "another file"])
def test_source_that_changed_is_refused(change, tmp_path):
    source = tmp_path / "source.csv"
    source.write_text("1,2\n")
    unfinished(tmp_path, sources=[source])
    if change == "size":
        before = source.stat()
        source.write_text("1,2,3\n")
        os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "time":
        os.utime(source, ns=(1, 1))
    else:
        source = tmp_path / "other.csv"
        source.write_text("1,2\n")
    with pytest.raises(InputError, match="unfinished run with other sources;"):
        run(tmp_path, work_until_error, sources=[source])


def test_source_may_be_named_in_another_way(tmp_path, monkeypatch):
    (tmp_path / "source.csv").write_text("1,2\n")
    unfinished(tmp_path, sources=[tmp_path / "source.csv"])
    monkeypatch.chdir(tmp_path)
    assert run(tmp_path, work_until_error, sources=["source.csv"]).events == CHUNKS * SIZE


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "gone", "no counts"])
def test_damaged_chunk_is_done_again(damage, expected, tmp_path):
    unfinished(tmp_path)
    part = tmp_path / "events.h5.parts" / "000002.h5"
    data = part.read_bytes()
    if damage == "gone":
        part.unlink()
    elif damage == "no counts":
        with h5py.File(part, "r+") as file:
            del file.attrs["counts"]
    else:
        part.write_bytes({"truncated": data[: len(data) // 2], "empty": b"", "garbage": b"\xff" * 500}[damage])
    outcome = run(tmp_path, work_until_error)
    assert (tmp_path / "events.h5").read_bytes() == expected and outcome.counts["rows"] == CHUNKS * SIZE
    assert executions(tmp_path)[2] == 2 and executions(tmp_path)[1] == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"options": {}}'])
def test_damaged_description_of_the_job_is_told(text, tmp_path):
    unfinished(tmp_path)
    (tmp_path / "events.h5.parts" / "job.json").write_text(text)
    with pytest.raises(InputError, match=r"events\.h5\.parts"):
        run(tmp_path, work_until_error)


def big(number, folder):
    note(folder, number)
    rng = np.random.default_rng(number)
    return {"features": rng.normal(size=(2000, 2)), "mass": rng.uniform(2700, 5000, 2000)}, {}


@pytest.mark.parametrize("limit", [10_000, 200_000])
def test_full_disk_is_told_and_what_was_done_is_used_when_there_is_room(limit, tmp_path):
    """A chunk has 50 kB, the file 230 kB: the first limit stops at a chunk, the second at the file."""
    code = (
        "import resource, signal, test_chunks as t\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "try:\n"
        f"    t.run({str(tmp_path)!r}, t.big)\n"
        "except t.InputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout and "free some space" in done.stdout
    assert done.stdout.count("\n") == 1 and not done.stderr
    assert not (tmp_path / "events.h5").exists()
    assert not list(tmp_path.rglob(".*.part"))
    there = finished(tmp_path)
    assert len(there) == (0 if limit == 10_000 else CHUNKS)
    assert run(tmp_path, big).events == CHUNKS * 2000
    assert all(executions(tmp_path)[number] == 1 for number in there)


def test_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "events.h5.parts").write_text("a file where the folder should be")
    with pytest.raises(InputError, match=r"events\.h5\.parts: cannot be written"):
        run(tmp_path)


def test_writer_that_fails_leaves_the_chunks(tmp_path):
    def fails(out, chunks, counts):
        next(chunks)
        raise OSError("no")

    job = {"sources": [], "options": {}}
    tasks = [(n, str(tmp_path)) for n in range(3)]
    with pytest.raises(OSError, match="no"):
        in_chunks(tmp_path / "events.h5", work, tasks, fails, **job)
    assert finished(tmp_path) == {0, 1, 2}
    found = in_chunks(tmp_path / "events.h5", work, tasks, lambda out, chunks, counts: len(list(chunks)), **job)
    assert found.events == 3 and executions(tmp_path) == {0: 1, 1: 1, 2: 1}


def test_file_system_without_locks_is_no_obstacle(expected, tmp_path, monkeypatch, caplog):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    run(tmp_path)
    assert "this file system has no locks" in caplog.text
    assert (tmp_path / "events.h5").read_bytes() == expected


def test_chunks_go_when_their_process_was_killed_after_it_had_made_the_file(tmp_path, monkeypatch):
    unfinished(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(chunks, "_discard", lambda *_: None)
        run(tmp_path, work_until_error)
    assert (tmp_path / "events.h5.parts").is_dir()
    with pytest.raises(InputError, match="exists already"):
        run(tmp_path, work_until_error)
    assert not (tmp_path / "events.h5.parts").exists()


def test_chunks_stay_when_another_file_has_taken_the_name(tmp_path):
    (tmp_path / "older.h5").touch()
    unfinished(tmp_path)
    os.rename(tmp_path / "older.h5", tmp_path / "events.h5")
    with pytest.raises(InputError, match="exists already"):
        run(tmp_path, work_until_error)
    assert finished(tmp_path)


def test_chunks_survive_a_scheduler_that_does_not_answer_and_input_that_breaks_later(tmp_path, monkeypatch):
    """Only a job that begins with unusable input is taken away; what earlier calls finished is worth more."""
    out, broken = tmp_path / "events.h5", []

    def work(number):
        if number == 2 and broken:
            raise broken[0]
        return {"features": np.full((5, 1), number), "mass": np.ones(5)}, {}

    def make(**more):
        tasks = [(n,) for n in range(4)]
        return write_events(out, work, tasks, about={"columns": ["x"]}, sources=[], options={}, **more)

    broken.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        make()
    kept = sorted(path.name for path in tmp_path.glob("events.h5.parts/*.h5"))
    assert kept == ["000000.h5", "000001.h5"]
    monkeypatch.setattr(chunks, "open_workers", mock.Mock(side_effect=Unfinished("scheduler tcp://x: no answer")))
    with pytest.raises(InputError, match="no answer"):
        make(scheduler="tcp://x")
    monkeypatch.undo()
    broken[:] = [InputError("a file that cannot be read for the moment")]
    with pytest.raises(InputError, match="for the moment"):
        make()
    assert sorted(path.name for path in tmp_path.glob("events.h5.parts/*.h5")) == kept
    broken.clear()
    assert make().events == 20 and not out.with_name("events.h5.parts").exists()
    (tmp_path / ".events.h5.part").write_text("what a kill -9 left")
    out.unlink()
    make()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.h5"]
