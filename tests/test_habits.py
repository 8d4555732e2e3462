"""What a shell expects of a command: completion and versions."""

import os
import subprocess
import sys
from importlib import metadata

import pytest

START = "import sys; sys.argv[0] = '{0}'; from {1} import main; main(prog_name='{0}')"
COMMANDS = {"zoo": "zoo.cli.main", "tune": "tuning.cli"}


def run(command, *words, **environment):
    code = START.format(command, COMMANDS[command])
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True,
                          env={**os.environ, **environment})  # fmt: skip


@pytest.mark.parametrize("command, words, expected", [
    ("zoo", "zoo exp", {"explain", "export"}), ("zoo", "zoo export --for", {"--format"}), ("tune", "tune comp", {"compare"}),
    ("zoo", "zoo export --format ", {"savedmodel", "keras", "onnx"}),
])  # fmt: skip
def test_shells_complete_commands_and_options(command, words, expected):
    parts = words.split(" ")
    asked = {f"_{command.upper()}_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(parts) - 1)}
    done = run(command, **asked)
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == expected, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(command, shell):
    done = run(command, **{f"_{command.upper()}_COMPLETE": f"{shell}_source"})
    if shell == "bash" and "Couldn't detect Bash version" in done.stderr:
        pytest.skip("bash is not installed")
    assert f"_{command.upper()}_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_its_version(command):
    assert run(command, "--version").stdout.split()[-1] == metadata.version("hep-anomaly-zoo")
