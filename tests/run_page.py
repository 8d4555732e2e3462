"""A process of its own: runs the blocks of a page in the present folder, in their order, as a reader would.

    python tests/run_page.py docs/tutorials/tune.md
    python tests/run_page.py --not-run               # the lines of all pages that are not run, each with its reason

Commands of the zoo are called in this process, which has imported TensorFlow once; what needs a shell has one. Long ones are made short:
see `shortened`. A block of text below a block of commands is what they print: its lines have to be there, but for the numbers.
"""

from __future__ import annotations

import ast
import contextlib
import glob
import importlib
import io
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).parent.parent))

from published import PUBLISHED
from snippets import OTHERS, PROGRAMS, ROOT, SHORT, blocks, commands, elsewhere, is_file, needs_shell, not_run, pages

EPOCHS = {"zoo train", "zoo hunt"}  # what has the option --epochs
SERVERS = {"tensorboard": "/data/runs"}  # where they list what they were given, as JSON
BATCHES = {"ae", "gan_ae", "conv_vae", "gcn_vae"}  # whose batches are larger than the files that stand in
FLAGS = {"zoo hunt": ("--train", "--folds", "--scan")}  # only with these


def shortened(words: list[str]) -> list[str]:
    """Return a command line that does less: two trials of one epoch, trainings of one epoch, few pseudo-experiments.

    >>> shortened(["tune", "--model", "vae", "--trials", "200"])
    ['tune', '--model', 'vae', '--trials', '2', '--max-epochs', '1']
    >>> shortened(["python", "benchmarks/rnd_events.py", "--seeds", "10"])[2:]
    ['--seeds', '10', '--seeds', '1']
    """
    words = list(words)
    if words[1:] and (script := re.match(r"benchmarks/(\w+)\.py$", words[1])):
        words += SHORT.get(script[1], ())
    for option, most in {
        "--trials": "2",
        "--toys": "200",
        "--pseudo-experiments": "200",
        "--repeats": "2",
        "--table": "100",
        "--calibrate": "20",
        "--events": "200" if words[:3] == ["zoo", "data", "simulate"] else str(10**9),
    }.items():
        if option in words[:-1] and words[words.index(option) + 1].isdigit():
            at = words.index(option) + 1
            words[at] = str(min(int(words[at]), int(most)))
    if words[:3] == ["zoo", "data", "split"] and "--events" in words:  # of files that stand in for larger ones
        import pipelines

        at = words.index("--events") + 1
        words[at] = str(min(int(words[at]), len(pipelines.open(words[3])) // 2))
    if words[0] == "tune" and "--model" in words and "--max-epochs" not in words:
        words += ["--max-epochs", "1"]
        words += [] if "--trials" in words else ["--trials", "2"]
    name = " ".join(words[:2])
    if name in EPOCHS and "--epochs" not in words and any(flag in words for flag in FLAGS.get(name, (words[0],))):
        words += ["--epochs", "1"]
    if name in ("zoo hunt", "zoo bumphunt") and not {"--toys", "--pseudo-experiments"} & set(words):
        words += ["--toys", "200"]
    if "--scan" in words and "--window" not in words:
        words += ["--window", "3300", "3700"]
    if name == "zoo train" and words[2] in BATCHES and not any(word.startswith("batch_size") for word in words):
        words += ["--set", "batch_size=100"]
    if "classifier=trees" in words:
        words += ["--set", "trees=5"]
    if {"cathode", "lacathode", "anode", "r_anode"} & set(words) and ("--out" in words):
        words += ["--set", "density_epochs=1"]
    return words


def run(page: str, short: bool) -> None:
    """Run a page; raises `SystemExit` saying which line failed."""
    names: dict[str, object] = {"__name__": "__main__"}
    if short:
        from standins import names as given

        names |= given()
        os.environ["HEP_ANOMALY_ZOO_DATA"] = PUBLISHED
    sys.path.insert(0, os.getcwd())  # for what a reader writes beside
    printed = ""
    for block in blocks(page):
        if block.reason:
            continue
        print(f"--- {block}", file=sys.stderr, flush=True)
        try:
            if file := is_file(block):
                Path(file).write_text(block.text)
            elif block.language == "shell":
                printed = "".join(_shell(block.text, short))
            elif block.language == "python":
                if short:
                    _remove(_written(block.text))
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    exec(compile(block.text, str(block), "exec"), names)
                printed = out.getvalue()
            elif block.language == "text" and not short:
                _compare(block.text, printed)
        except BaseException as error:
            traceback.print_exc()
            raise SystemExit(
                f"{block}: {type(error).__name__}: {error}\n{block.text}\nprinted:\n{printed[-3000:]}"
            ) from None


def _shell(text: str, short: bool) -> Iterator[str]:
    if needs_shell(text):
        if elsewhere(text):
            return
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        yield _completed(["bash", "-e", "-c", text], {**os.environ, "PATH": path})
        return
    for line in commands(text, redirected=True):
        if elsewhere(" ".join(line)):
            continue
        line = [file for word in line for file in ((word.bare and sorted(glob.glob(word))) or [word])]
        words, file = (line[:-2], line[-1]) if line[-2:-1] == [">"] else (line, None)
        if short:  # each block stands for itself, and names of outputs come again
            _remove_outputs(words)
        printed = _command(shortened(words) if short else words)
        if file is not None:
            Path(file).write_text(printed)
        yield printed


def _remove_outputs(words: list[str]) -> None:
    outputs = [
        path for option, path in itertools.pairwise(words) if option in ("--out", "--export", "--plot", "--tensorboard")
    ]
    outputs += [f"{path}.events.h5" for path in outputs]
    if words[:2] == ["zoo", "data"]:
        places = {
            "convert": slice(4, None),
            "cluster": slice(4, 5),
            "simulate": slice(4, 5),
            "split": slice(4, 6),
            "mix": slice(3, 4),
        }
        outputs += [
            word
            for word in words[places.get(words[2], slice(0, 0))]
            if re.search(r"\.h5$" if words[2] == "convert" else r"\.(h5|csv)$", word)
        ]
    if words[0] == "tune" and "--model" in words and "--out" not in words:
        outputs.append(f"tune-{words[words.index('--model') + 1]}")
    _remove([] if "--resume" in words else outputs)


def _remove(paths: list[str]) -> None:
    for path in paths:
        if os.path.islink(path) or os.path.isfile(path):
            os.remove(path)
        elif os.path.isdir(path):
            shutil.rmtree(path)


def _written(text: str) -> list[str]:
    """Return the paths that a block of Python writes: of `save_run`, `export` and `write`, `out=`, and the third of `zoo.hunt`.

    >>> _written("model.save_run('run'); zoo.hunt('run', 'data.h5', 'search'); zoo.export('run', 'served')")
    ['run', 'search', 'served']
    """
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name, of = node.func.attr, getattr(node.func.value, "id", None)
            place = {"save_run": 0, "export": 1 if of == "zoo" else 0, "write": 0, "hunt": 2, "train": 2}.get(name)
            given = [] if place is None else node.args[place : place + 1]
            given = [*given, *(one.value for one in node.keywords if one.arg == "out")]
            found += [one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return found


def _command(words: list[str]) -> str:
    if words[0] in ("python", "python3"):
        words = [sys.executable, *words[1:]]
        if words[1].startswith(("benchmarks/", "examples/", "tests/", "tools/")):
            words[1] = str(ROOT / words[1])
        return _completed(words, os.environ)
    if words[0] not in PROGRAMS:
        assert words[0] in OTHERS, words
        return (_served if words[0] in SERVERS else _completed)(words, os.environ)
    module, name = PROGRAMS[words[0]]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            getattr(importlib.import_module(module), name)(words[1:])
        except SystemExit as left:
            assert not left.code, f"`{' '.join(words)}` ended with {left.code}"
    return out.getvalue()


def _completed(words: list[str], environment) -> str:
    done = subprocess.run(words, text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, f"`{' '.join(words)[:200]}` ended with {done.returncode}: {done.stdout[-3000:]}"
    return done.stdout


def _served(words: list[str], environment) -> str:
    """Start a server that does not end, and end it as soon as it tells of what it was given."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / words[0]), *words[1:], "--port", str(port)]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, env=environment, stdout=said, stderr=said) as server,
    ):
        try:
            for _ in range(600):
                assert server.poll() is None, f"`{' '.join(words)}` ended with {server.returncode}"
                with contextlib.suppress(OSError), urlopen(f"http://localhost:{port}{SERVERS[words[0]]}") as answer:
                    if found := json.load(answer):
                        return "\n".join(found)
                time.sleep(0.2)
        finally:
            server.terminate()
    raise AssertionError(f"`{' '.join(words)}` told of nothing in two minutes")


def _skeleton(line: str) -> str:
    """Return a line without its numbers, bars and spaces."""
    return re.sub(r"[\s#]+", " ", re.sub(r"[-+<>~]*\s*\d[\d.,]*(e[-+]?\d+)?|\bnan\b", "#", line)).strip()


def _compare(expected: str, printed: str) -> None:
    """Raise `AssertionError` for a line that was not printed, whatever its numbers are."""
    there = {_skeleton(line) for line in printed.split("\n")}
    for line in expected.split("\n"):
        if line.strip() not in ("", "..."):
            assert _skeleton(line) in there, f"was not printed: {line!r}"


if __name__ == "__main__" and sys.argv[1:] == ["--not-run"]:
    for one in pages():
        for at, what, reason in not_run(one):
            print(f"{one}:{at}: {what}\n    {reason}")
elif __name__ == "__main__":
    run(sys.argv[1], short="--short" in sys.argv)
