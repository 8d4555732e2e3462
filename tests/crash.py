"""Kill a command before its N-th change of the file system, for every N, or at random moments, and start it again.

A process that has everything imported forks one child for each run, since imports take most of the time. Changes are
counted by Python's audit events, which come before what they tell of.
"""

import contextlib
import functools
import importlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
LIMIT = 240.0  # seconds for a run


def count_changes(folder, kill_before):
    """Let this process die before its N-th change below a folder, if N is not 0; return a function that tells how many."""
    seen = [0]

    def is_below(path):
        try:
            return os.path.abspath(os.fsdecode(path)).startswith(folder + os.sep)
        except TypeError:  # a file that is open already
            return True

    def hook(event, arguments):
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int) or not flags & WRITES or not is_below(path):
                return
        elif event not in CHANGES or not is_below(arguments[0]):
            return
        seen[0] += 1
        if seen[0] == kill_before:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return lambda: seen[0]


def run(program, words, folder, kill_before=0, kill_after=LIMIT):
    """Run a command in a child; return its exit code, or -9, what it said, and how many changes it made.

    It is killed before its change `kill_before` of the file system, if that is not 0, or after `kill_after` seconds. A
    command that takes longer than `LIMIT` "hangs".
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        os.chdir(folder)
        said, code = io.StringIO(), 0
        sys.argv = [Path(sys.argv[0]).name, *words]
        changes = count_changes(os.path.abspath(folder), kill_before)
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            try:
                program(words)
            except SystemExit as error:
                code = error.code or 0
            except BaseException as error:
                code = f"{type(error).__name__}: {error}"
        os.write(writer, json.dumps([code, said.getvalue()[-2000:], changes()]).encode())
        os._exit(0)
    os.close(writer)
    until = time.monotonic() + kill_after
    with os.fdopen(reader, "rb") as file:
        os.set_blocking(file.fileno(), False)
        told = b""
        while not os.waitpid(child, os.WNOHANG)[0]:
            if time.monotonic() > until:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return "hangs" if kill_after == LIMIT else -9, "", 0
            told += file.read() or b""
            time.sleep(0.005)
        told += file.read() or b""
    return json.loads(told) if told else (-9, "", kill_before)


def warm(program, words, folder):
    """Run a command in this process."""
    back = os.getcwd()
    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        program(words)
    os.chdir(back)


def listing(folder):
    """Return the names of all files and folders below a folder."""
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


def copied(given):
    """Return a copy of a folder."""
    folder = tempfile.mkdtemp()
    shutil.copytree(given, folder, dirs_exist_ok=True)
    return folder


def kill_at_random(program, words, given, rounds, kills, seed=0):
    """Return folders: where a search ran undisturbed, and where it was killed at random moments before it ran to its end.

    Args:
        program, words: of Click, which is to go on by the same words. given: a folder, copied for each of the `rounds`.
        rounds: searches. kills: of each, of which the n-th comes in the n-th part of the time that the search takes.
    """
    rng, whole = random.Random(seed), copied(given)
    started = time.monotonic()
    code, said, _ = run(program, words, whole)
    assert code == 0, (code, said)
    takes, killed = time.monotonic() - started, []
    for _ in range(rounds):
        folder, after, records = copied(given), [], []
        for place in range(kills):
            after.append(rng.uniform(place, place + 1) / kills * takes)
            run(program, words, folder, kill_after=after[-1])
            records.append(len([path for path in Path(folder).glob("*/trials/*.json") if path.stem.isdigit()]))
        code, said, _ = run(program, words, folder)
        assert code == 0, (code, said, after)
        killed.append({"folder": folder, "after": after, "records": records})
    return {"undisturbed": whole, "killed": killed}


def sweep(program, words, given, points=None, more=()):
    """Return what went wrong, and how many points there are, of a command in a copy of the folder `given`.

    Args:
        program: of Click. words: its arguments. points: at most so many, evenly spread; None for all.
        more: words that the second run has beside them, such as --resume.
    """
    fresh = functools.partial(copied, given)
    if words[0] == "data":  # which leaves nothing that a fork could not stand, and imports once for all
        warm(program, words, fresh())
    whole = fresh()
    code, said, count = run(program, words, whole)
    assert code == 0, (code, said)
    expected, wrong = listing(whole), []
    chosen = range(1, count + 1)
    if points and count > points:
        chosen = sorted({round(1 + k * (count - 1) / (points - 1)) for k in range(points)})
    for point in chosen:
        folder = fresh()
        code, said, _ = run(program, words, folder, point)
        if code != -9:
            wrong.append([point, f"not killed: {code} {said[-300:]}"])
            continue
        left = listing(folder)
        code, said, _ = run(program, [*words, *more], folder)
        done = code == 0 or (code == 2 and "exists already" in said)
        if not done or listing(folder) != expected:
            differs = sorted(set(listing(folder)) ^ set(expected))
            wrong.append([point, f"exit {code}: {said.strip()[-300:]!r}; other files {differs}; after the kill {left}"])
        shutil.rmtree(folder)
    shutil.rmtree(whole)
    return {"changes": count, "points": len(chosen), "wrong": wrong}


def main():
    """Do what is asked for as JSON on the command line: program, words, folder; and points, or rounds and kills."""
    asked = json.loads(sys.argv[1])
    with contextlib.ExitStack() as stack:
        if asked["words"][0] != "data":  # which needs no TensorFlow
            import linear_model
            import matplotlib.figure
            from conftest import PIXEL

            from tuning import session  # noqa: F401  else each child imports it

            matplotlib.figure.Figure.savefig = lambda figure, file, **options: file.write(PIXEL)
            stack.enter_context(linear_model.registered())
        program = importlib.import_module({"zoo": "zoo.cli.main", "tune": "tuning.cli"}[asked["program"]]).main
        if "kills" in asked:
            found = kill_at_random(program, asked["words"], asked["folder"], asked["rounds"], asked["kills"])
        else:
            found = sweep(program, asked["words"], asked["folder"], asked["points"], asked.get("more", ()))
        print(json.dumps(found))


if __name__ == "__main__":
    main()
