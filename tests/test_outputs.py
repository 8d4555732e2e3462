"""Outputs appear whole or not at all, and say so in one line when they cannot."""

import contextlib
import errno
import json
import os
import subprocess
import sys

import h5py
import pytest

from pipelines import locks
from pipelines.errors import InputError
from pipelines.jobs.chunks import check_output
from pipelines.outputs import check_new, clean_folder, hold, new_directory, new_disk, new_file, new_files, write_json

IMPORTS = "import os, sys; from pipelines import outputs; from pipelines.outputs import *\n"


def in_another_process(code, *arguments):
    return subprocess.run([sys.executable, "-c", IMPORTS + code, *arguments], capture_output=True, text=True)


def says(error, *words):
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message, message


def test_file_appears_under_its_name_only_at_the_end(tmp_path):
    path = tmp_path / "new" / "folder" / "scores.txt"
    with new_file(path) as part:
        part.write_text("0.5")
        assert not path.exists() and part.parent == path.parent
    assert path.read_text() == "0.5" and os.listdir(path.parent) == ["scores.txt"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_neither_file_nor_part(failure, tmp_path):
    with pytest.raises(failure), new_file(tmp_path / "scores.txt") as part:
        part.write_text("half")
        raise failure
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_failure_leaves_no_folder(failure, tmp_path):
    with pytest.raises(failure), new_directory(tmp_path / "run") as part:
        (part / "deep").mkdir()
        (part / "deep" / "history.csv").write_text("epoch")
        raise failure
    assert os.listdir(tmp_path) == []


def test_folder_appears_with_everything_in_it(tmp_path):
    with new_directory(tmp_path / "run") as part:
        (part / "config.json").write_text("{}")
        assert not (tmp_path / "run").exists()
    assert os.listdir(tmp_path) == ["run"] and os.listdir(tmp_path / "run") == ["config.json"]


@pytest.mark.parametrize("make", [new_file, new_directory, new_disk])
def test_existing_output_is_refused_and_kept(make, tmp_path):
    path = tmp_path / "result"
    path.write_text("months of work")
    with pytest.raises(InputError) as error, make(path):
        pass
    says(error, path, "exists already")
    assert path.read_text() == "months of work" and os.listdir(tmp_path) == ["result"]


def test_link_that_leads_nowhere_is_not_replaced(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "unmounted" / "scores.txt")
    with pytest.raises(InputError) as error:
        check_new(link)
    says(error, link, "exists already")


@pytest.mark.parametrize("path", ["", ".", "..", "/", "../"])
@pytest.mark.parametrize(
    "make", [new_file, new_directory, new_disk, check_new, check_output, locks.part_of, locks.lock_of]
)
def test_a_folder_without_a_name_is_no_output(make, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if make in (locks.part_of, locks.lock_of) and path != "/":
        assert make(path).is_absolute()
        return
    with pytest.raises(InputError, match="exists already"), contextlib.ExitStack() as stack:
        made = make(path)
        if hasattr(made, "__enter__"):
            stack.enter_context(made)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("make", [new_file, new_directory])
def test_output_made_by_someone_else_meanwhile_is_kept(make, tmp_path):
    path = tmp_path / "result"
    with pytest.raises(InputError) as error, make(path) as part:
        part.write_text("mine") if make is new_file else None
        path.write_text("theirs")
    says(error, path, "exists already")
    assert path.read_text() == "theirs" and os.listdir(tmp_path) == ["result"]


@pytest.mark.parametrize("make", [new_file, new_directory, new_disk])
def test_path_below_a_regular_file_is_refused(make, tmp_path):
    (tmp_path / "notes.txt").write_text("not a folder")
    path = tmp_path / "notes.txt" / "deeper" / "scores.h5"
    with pytest.raises(InputError) as error, make(path):
        pass
    says(error, path, tmp_path / "notes.txt", "is a file, expected a folder")


@pytest.mark.skipif(
    not os.path.isdir("/proc/self"), reason="a folder that root cannot write to either is Linux's /proc"
)
@pytest.mark.parametrize("path", ["/proc/scores.h5", "/proc/new/folder/scores.h5"])
@pytest.mark.parametrize("make", [new_directory, new_disk])
def test_folder_that_nobody_can_write_to_is_refused(make, path):
    with pytest.raises(InputError) as error, make(path):
        pass
    says(error, path, "cannot be written" if os.geteuid() == 0 else "not writable")


def test_name_too_long_for_the_file_system_is_refused(tmp_path):
    path = tmp_path / ("x" * 250)  # the name would fit, the part's does not
    with pytest.raises(InputError) as error, new_disk(path):
        pass
    says(error, path, "cannot be written")


def test_json_replaces_atomically_and_survives_what_json_cannot_say(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"auc": 0.5})
    write_json(path, {"auc": 0.9})
    assert json.loads(path.read_text()) == {"auc": 0.9}
    with pytest.raises(ValueError):
        write_json(path, {"auc": float("nan")})
    assert json.loads(path.read_text()) == {"auc": 0.9} and os.listdir(tmp_path) == ["metrics.json"]


def test_json_in_the_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "metrics.json").mkdir()
    with pytest.raises(InputError) as error:
        write_json(tmp_path / "metrics.json", {})
    says(error, tmp_path / "metrics.json", "cannot be written")
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_disk_gives_the_file_that_hdf5_would_write_itself(tmp_path):
    values = list(range(100_000))
    for name, output in (("plain.h5", None), ("disk.h5", new_disk(tmp_path / "disk.h5"))):
        if output is None:
            with h5py.File(tmp_path / name, "w") as file:
                file.create_dataset("x", data=values, compression="gzip")
        else:
            with output as disk, h5py.File(disk, "w") as file:
                file.create_dataset("x", data=values, compression="gzip")
    with h5py.File(tmp_path / "disk.h5") as found, h5py.File(tmp_path / "plain.h5") as expected:
        assert (found["x"][:] == expected["x"][:]).all()
    assert (tmp_path / "disk.h5").stat().st_size == (tmp_path / "plain.h5").stat().st_size


FULL = """
import resource, sys
import h5py, numpy as np
from pipelines.errors import InputError
from pipelines.outputs import new_disk, write_json
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    if sys.argv[2] == "hdf5":
        with new_disk(sys.argv[1]) as disk, h5py.File(disk, "w") as file:
            file["x"] = np.random.default_rng(0).random(100_000)
            file["y"] = 1
    else:
        write_json(sys.argv[1], "x" * 100_000)
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["hdf5", "json"])
def test_full_disk_is_one_line_and_no_crash(kind, tmp_path):
    path = tmp_path / "output"
    done = subprocess.run([sys.executable, "-c", FULL, path, kind], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr  # HDF5 left to itself crashes at exit, with 139
    assert done.stdout.startswith(f"{path}: cannot be written (File too large); free some space")
    assert done.stderr == "" and os.listdir(tmp_path) == []


# -- who may write, and where --------------------------------------------------------------------------------


def test_second_process_that_writes_the_same_output_is_told_at_once(tmp_path):
    path = tmp_path / "o"
    with hold(path):
        done = in_another_process("hold(sys.argv[1]).__enter__()", path)
        assert (
            f"{path}: another process ({os.getpid()} on" in done.stderr and "is writing it; wait for it" in done.stderr
        )
        with new_directory(path) as part:  # this process holds it, and writes it
            (part / "config.json").write_text("{}")
    assert os.listdir(tmp_path) == ["o"]


def test_lock_ends_with_its_process_and_what_that_left_is_removed(tmp_path):
    path = tmp_path / "o"
    die = "new = new_directory(sys.argv[1]); part = new.__enter__(); (part / 'half').touch(); os.kill(os.getpid(), 9)"
    assert in_another_process(die, path).returncode == -9
    assert sorted(os.listdir(tmp_path)) == [".o.lock", ".o.part"]
    with new_file(path) as part:
        part.write_text("whole")
    assert os.listdir(tmp_path) == ["o"] and path.read_text() == "whole"


def test_forked_child_does_not_hold_what_its_parent_holds(tmp_path):
    with hold(tmp_path / "o"):
        child = os.fork()
        if not child:
            os._exit(0 if not locks._locks else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert in_another_process("hold(sys.argv[1]).__enter__()", tmp_path / "o").returncode == 1


def test_parts_of_other_outputs_are_left_alone(tmp_path):
    others = [".o.h5.part", ".o.hunt.12345678.part", ".o.1a2b3c4d.part", "o.parts"]
    for name in others:
        (tmp_path / name).write_text("half")
    with new_file(tmp_path / "o") as part:
        part.write_text("whole")
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "o"])


@pytest.mark.parametrize("where", [".o.lock", ".o.part"])
def test_nothing_is_written_through_a_link(where, tmp_path):
    (tmp_path / "thesis.txt").write_text("months of work")
    (tmp_path / where).symlink_to(tmp_path / "thesis.txt")
    try:
        with new_disk(tmp_path / "o") as disk:
            disk.write(b"events")
    except InputError as error:
        assert "symbolic link" in str(error) and where == ".o.lock"
    assert (tmp_path / "thesis.txt").read_text() == "months of work"


def test_lock_that_is_a_pipe_is_refused_and_nobody_waits(tmp_path):
    os.mkfifo(tmp_path / ".o.lock")
    with pytest.raises(InputError, match="is no file, expected a lock"), hold(tmp_path / "o"):
        pass


def test_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, caplog):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    (tmp_path / ".o.part").write_text("perhaps another command's")
    with new_file(tmp_path / "o") as part:
        part.write_text("whole")
    assert "this file system has no locks" in caplog.text
    assert sorted(os.listdir(tmp_path)) == [".o.part", "o"]


def test_folder_that_vanishes_is_not_made_anew(tmp_path):
    with pytest.raises(InputError, match="vanished"), new_directory(tmp_path / "run") as part:
        write_json(part / "config.json", {})
        os.rename(part, tmp_path / "elsewhere")
        with new_disk(part / "scores.h5"):
            pass
    (tmp_path / "kept").mkdir()
    with pytest.raises(InputError, match=r"its folder .* is not there"):
        write_json(tmp_path / "gone" / "progress.json", {})
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "kept"]


def test_nothing_is_left_of_folders_that_were_made_for_an_output_that_failed(tmp_path):
    with pytest.raises(ValueError), new_file(tmp_path / "new" / "folder" / "o"):
        raise ValueError
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("killed_at", [1, 2])
def test_files_that_belong_together_appear_all_or_none(killed_at, tmp_path):
    first, rest = tmp_path / "first", tmp_path / "rest"
    die = (
        "replace, n = os.replace, [0]\n"
        "def dying(a, b):\n"
        f"    n[0] += 1\n    n[0] == {killed_at} and os.kill(os.getpid(), 9)\n    replace(a, b)\n"
        "os.replace = dying\n"
        "with new_files(*sys.argv[1:]) as parts: [part.write_text('old') for part in parts]"
    )
    assert in_another_process(die, first, rest).returncode == -9
    assert first.exists() == (killed_at == 2) and not rest.exists()
    with new_files(first, rest) as parts:
        for part in parts:
            part.write_text("new")
    assert sorted(os.listdir(tmp_path)) == ["first", "rest"] and first.read_text() == rest.read_text() == "new"


def test_the_refusal_of_an_output_that_is_there_removes_what_a_kill_left_beside_it(tmp_path):
    first, rest = tmp_path / "first", tmp_path / "rest"
    die = (
        "outputs.locks._release = lambda *_: os.kill(os.getpid(), 9)\n"
        "with new_file(sys.argv[1]) as part: part.write_text('whole')"
    )
    assert in_another_process(die, first).returncode == -9
    assert sorted(os.listdir(tmp_path)) == [".first.lock", "first"]
    (tmp_path / ".first.part").write_text("half")
    with pytest.raises(InputError, match="exists already"):
        check_new(first)
    assert os.listdir(tmp_path) == ["first"] and first.read_text() == "whole"
    for name in (".rest.lock", ".rest.part", ".other"):
        (tmp_path / name).write_text("")
    with hold(rest):
        clean_folder(tmp_path)
        assert (tmp_path / ".rest.lock").exists()
    assert sorted(os.listdir(tmp_path)) == [".other", "first"]


def test_the_refusal_of_half_a_set_takes_it_away(tmp_path):
    first, rest = tmp_path / "first", tmp_path / "rest"
    die = (
        "replace, n = os.replace, [0]\n"
        "def dying(a, b):\n"
        "    n[0] += 1\n    n[0] == 2 and os.kill(os.getpid(), 9)\n    replace(a, b)\n"
        "os.replace = dying\n"
        "with new_files(*sys.argv[1:]) as parts: [part.write_text('old') for part in parts]"
    )
    assert in_another_process(die, first, rest).returncode == -9 and first.exists()
    assert check_new(first) == first and not first.exists()  # what a command asks before it works


def test_a_list_of_files_that_somebody_else_wrote_removes_nothing(tmp_path, monkeypatch):
    (tmp_path / "thesis.txt").write_text("months of work")
    found = os.lstat(tmp_path / "thesis.txt")
    identity = [found.st_ino, found.st_size, found.st_mtime_ns]
    told = [[str(tmp_path / "thesis.txt"), *identity], [str(tmp_path / "none"), 1, 2, 3]]
    (tmp_path / ".o.names").write_text(json.dumps(told))
    with monkeypatch.context() as patched:
        patched.setattr(os, "getuid", lambda: found.st_uid + 1)
        with hold(tmp_path / "o"):
            pass
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_files_that_have_all_their_names_stay_though_their_process_was_killed_then(tmp_path):
    first, rest = tmp_path / "first", tmp_path / "rest"
    die = (
        "outputs.Path.unlink = lambda self, **_: os.kill(os.getpid(), 9)\n"
        "with new_files(*sys.argv[1:]) as parts: [part.write_text('old') for part in parts]"
    )
    assert in_another_process(die, first, rest).returncode == -9 and first.exists() and rest.exists()
    with pytest.raises(InputError, match="exists already"), new_files(first, rest):
        pass
    assert sorted(os.listdir(tmp_path)) == ["first", "rest"] and rest.read_text() == "old"


@pytest.mark.parametrize("resume", [True, False])
def test_the_lock_that_a_kill_left_beside_a_search_is_removed(resume, tmp_path):
    from tuning.results import check_out

    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "search.json").write_text("{}")
    (tmp_path / ".s.lock").touch()
    with contextlib.nullcontext() if resume else pytest.raises(InputError, match="a search exists already"):
        check_out(tmp_path / "s", resume)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
