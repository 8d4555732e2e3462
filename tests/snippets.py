"""Commands and code of README and docs: where they are, and whether they are right as far as can be seen without running them.

A block is fenced, or indented by four spaces. One that cannot be run says so by a comment before it, with the reason:

    <!-- not run: needs a batch system -->

The same with `page not run` at the top of a page holds for all of its blocks. All are checked nevertheless: commands against the
options, models and hyperparameters that there are, Python against the names and arguments that there are.
"""

from __future__ import annotations

import ast
import codeop
import dataclasses
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent
PROGRAMS = {"zoo": ("zoo.cli.main", "main"), "tune": ("tuning.cli", "main")}
OTHERS = {  # programs that pages name besides
    "make", "python", "python3", "pip", "for", "do", "done", "rm", "mkdir", "tensorboard", "eval", "cc", "gcc", ".", "cat", "export",
    "git", "ls", "cd", "echo", "head", "python3.12", "source",
}  # fmt: skip
SHORT = {  # benchmarks that are run, and the options that make them short
    "direction": (),
    "rnd_events": ("--seeds", "1"),
    "serving": ("--models", "ae", "--seconds", "0.01", "--batch", "100"),
    "weak_supervision": ("--seeds", "1", "--set", "epochs=1"),
}
ELSEWHERE = {  # what lines of shell need that the tests have not, whatever page they are on; a block with a loop is one line
    rf"^ *python3? benchmarks/(?!({'|'.join(SHORT)})\.py)|^ *for [\s\S]* benchmarks/": "benchmarks take minutes to hours",
    r"--cluster |--scheduler ": "needs a batch system, or a cluster that is there",
    r"^ *pip install torch": "PyTorch is no requirement, and what compares with it takes minutes",
    r"^ *make |^ *pip install|-m venv|^ *eval ": "the tests run in what this makes",
}
STUDIES = "studies of minutes to hours on samples that are not in the package"
NOT_RUN = {  # pages
    "docs/results.md": STUDIES,
    **{f"docs/results/{path.name}": STUDIES for path in (ROOT / "docs/results").glob("*.md")},
}
_MARK = re.compile(r"^\s*<!-- not run: (.+?) -->\s*$")
_PAGE = re.compile(r"<!-- page not run: (.+?) -->", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of code: its page, first line, language and text; and why it is not run, if it is not."""

    page: str
    line: int
    language: str
    text: str
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Return the pages with commands and code, relative to the root."""
    found = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "benchmarks/README.md",
        ROOT / "pipelines/samples/README.md",
    ]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page in their order."""
    return list(_blocks(page, (ROOT / page).read_text(encoding="utf-8")))


def _blocks(page: str, text: str) -> Iterator[Block]:
    whole = _PAGE.search(text)
    lines, at, reason = text.split("\n"), 0, None
    while at < len(lines):
        line = lines[at]
        if mark := _MARK.match(line):
            reason = mark[1]
            at += 1
            continue
        start = at
        if fence := re.match(r"\s*```+\s*([\w+-]*)", line):
            indent = len(line) - len(line.lstrip())
            while (at := at + 1) < len(lines) and not re.match(r"\s*```+\s*$", lines[at]):
                pass
            inside = [one[indent:] for one in lines[start + 1 : at]]
            at += 1
            yield _block(page, start + 2, fence[1], "\n".join(inside), reason or (whole and whole[1]))
            reason = None
        elif line.startswith("    ") and (start == 0 or not lines[start - 1].strip()):
            while at < len(lines) and (lines[at].startswith("    ") or not lines[at].strip()):
                at += 1
            inside = "\n".join(lines[start:at]).rstrip()
            indent = len(line) - len(line.lstrip())
            dedented = "\n".join(
                one[min(indent, 8) :] if one[:indent].strip() == "" else one.lstrip() for one in inside.split("\n")
            )
            yield _block(page, start + 1, "", dedented, reason or (whole and whole[1]))
            reason = None
        else:
            if line.strip() and not line.lstrip().startswith("<!--"):
                reason = None
            at += 1


def _block(page: str, line: int, language: str, text: str, reason: str | None) -> Block:
    return Block(
        page,
        line,
        {"bash": "shell", "sh": "shell", "pycon": "text"}.get(language, language) or _guessed(text),
        text,
        reason or NOT_RUN.get(page),
    )


def _guessed(text: str) -> str:
    """Return the language of an indented block: shell, python or text."""
    first = next((line.strip() for line in text.split("\n") if line.strip() and not line.strip().startswith("#")), "")
    word = first.split(" ")[0]
    if word in PROGRAMS or (word in OTHERS and not first.startswith("for x in")):
        return "shell"
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return "text"
    does = any(
        isinstance(node, (ast.Import, ast.ImportFrom))
        or (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
        for node in ast.walk(tree)
    )
    return "python" if does else "text"


def is_file(block: Block) -> str | None:
    """Return the name of the file that a block is, by its first line, such as `# site.yaml`."""
    first = re.match(r"# ([\w.]+\.\w+)\n", block.text)
    return first[1] if first else None


# -- shell --------------------------------------------------------------------------------------------------


_TOKENS = re.compile(
    r"""(?P<comment>(?<!\S)\#[^\n]*) | (?P<sign>[;|&]+|\n) | (?P<other>[()<>]+) | (?P<space>[^\S\n]+)
    | (?P<word>(?: [^\s;|&()<>'"\\] | \\. | '[^']*' | "(?:[^"\\]|\\.)*" )+)""",
    re.VERBOSE | re.DOTALL,
)


class Word(str):
    """A word of a command; a `bare` one had no quotes, so a shell puts the names of files where it has * or ?."""

    __slots__ = ("bare",)

    def __new__(cls, text: str, bare: bool) -> Word:
        word = super().__new__(cls, text)
        word.bare = bare
        return word


def needs_shell(text: str) -> bool:
    """Return whether a block has a loop, a pipe or a variable: it is run, or not run, as a whole."""
    return bool(re.search(r"[|$]|^ *for ", re.sub(r"'[^']*'|#.*", "", text), re.MULTILINE))


def elsewhere(text: str) -> str | None:
    """Return why a line of shell is not run by the tests, if it is not.

    >>> elsewhere("python benchmarks/serving.py")
    >>> elsewhere("python benchmarks/tuning.py")
    'benchmarks take minutes to hours'
    """
    return next((why for what, why in ELSEWHERE.items() if re.search(what, text, re.MULTILINE)), None)


def check_pasted(code: str) -> None:
    """Raise `SyntaxError` for code that Python's prompt does not take line by line, as a statement right below an indented block.

    >>> check_pasted("for x in 1, 2:\\n    print(x)\\nprint(3)")
    Traceback (most recent call last):
    SyntaxError: invalid syntax
    """
    compiler, waiting = codeop.CommandCompiler(), ""
    for line in [*code.split("\n"), ""]:
        waiting += line
        waiting = waiting + "\n" if compiler(waiting, symbol="single") is None else ""


def not_run(page: str) -> list[tuple[int, str, str]]:
    """Return what of a page the tests do not run: the line of its block, the command or the code's first line, and why."""
    found = []
    for block in blocks(page):
        if block.language == "shell" and not block.reason and not needs_shell(block.text):
            lines = [" ".join(words) for words in commands(block.text)]
            found += [(block.line, line, why) for line in lines if (why := elsewhere(line))]
        elif block.language in ("shell", "python"):
            why = block.reason or (elsewhere(block.text) if block.language == "shell" else None)
            found += [(block.line, block.text.strip().split("\n")[0], why)] if why else []
    return found


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield the kind and the text of every token of a block of shell; raises `AssertionError` where a quote is left open."""
    at, text = 0, re.sub(r"\\\n\s*", " ", text)
    while at < len(text):
        found = _TOKENS.match(text, at)
        assert found, f"a quote without its other, or a backslash at the end: {text[at:][:60]!r}"
        yield str(found.lastgroup), found[0]
        at = found.end()


def commands(text: str, redirected: bool = False) -> list[list[str]]:
    """Return the commands of a block of shell as lists of words; a variable of a loop has its first value.

    With `redirected` the words have `>` and the file behind it too.
    """
    values, found, words = {}, [], []
    for kind, token in [*_tokens(text), ("sign", ";")]:
        if kind == "sign":
            found.append(words)
            words = []
        elif kind == "other":
            words.append(token)
        elif kind == "word":
            words.append(Word(shlex.split(token)[0], not re.search(r"['\"\\]", token)))
    result = []
    for words in found:
        while words and (words[0] in ("do", "then") or re.fullmatch(r"[A-Z_]+=\S*", words[0])):
            words = words[1:]
        if words[:1] == ["for"] and len(words) > 3:
            values[words[1]] = words[3]
            continue
        if words and words[0] not in ("done", "fi"):
            plain = [
                Word(re.sub(r"\$\{?(\w+)\}?", lambda m: values.get(m[1], m[0]), word), getattr(word, "bare", False))
                for word in words
            ]
            result.append(plain if redirected else _without_redirection(plain))
    return result


def _without_redirection(words: list[str]) -> list[str]:
    at = next((i for i, word in enumerate(words) if word in (">", ">>", "<")), len(words))
    return words[:at]


def check_command(words: list[str], inline: bool = False) -> click.Context | None:
    """Raise `AssertionError` or a `click` error if a command line is not right; return what `click` read of it.

    An `inline` one, in the middle of a sentence, need not be complete: its command and the names of its options are looked at.
    """
    program = words[0]
    if program in ("python", "python3"):
        return _check_python(words[1:])
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert all(word in targets for word in words[1:] if not word.startswith("-") and "=" not in word), words
        return None
    if program == "pip":
        extras = re.findall(r"\[(\w+)\]", " ".join(words))
        assert all(re.search(rf"^{extra} =", (ROOT / "setup.cfg").read_text(), re.MULTILINE) for extra in extras), words
        return None
    if program not in PROGRAMS:
        assert program in OTHERS, f"{program!r} is no program that is known; say so in tests/snippets.py"
        return None
    module, name = PROGRAMS[program]
    command, arguments, context = getattr(importlib.import_module(module), name), words[1:], None
    if program == "tune" and (not arguments or arguments[0].startswith("-")):
        context = click.Context(command, info_name=program)
        return _parsed(command, context, arguments, inline)
    context = click.Context(command, info_name=program)
    while isinstance(command, click.Group):
        if not arguments or arguments[0].startswith("-"):
            assert all(word in ("-h", "--help", "--version", "--traceback") for word in arguments), words
            return None
        found = command.get_command(context, arguments[0])
        assert found is not None, f"`{' '.join(words)}`: there is no command {arguments[0]!r}"
        command, arguments = found, arguments[1:]
        context = click.Context(command, info_name=command.name, parent=context)
    return _parsed(command, context, arguments, inline)


def _parsed(command: click.Command, context: click.Context, arguments: list[str], inline: bool) -> click.Context | None:
    if inline:
        options = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"-h", "--help"}
        wrong = [word for word in arguments if word.startswith("--") and word.partition("=")[0] not in options]
        assert not wrong, f"{command.name} has no option {wrong[0]}"
        return None
    click.Command.parse_args(command, context, [word.strip("[]") for word in arguments])
    return context


def _check_python(words: list[str]) -> None:
    """Look at `python FILE options`, `python -m MODULE` and `python -c CODE`."""
    if words[0] == "-c":
        check_python(words[1])
        return
    if words[0] == "-m":
        assert words[1] in ("venv", "pip", "zoo", "pytest", "mkdocs", "http.server"), words
        return
    path = ROOT / words[0]
    assert path.is_file(), f"there is no file {words[0]}"
    text = path.read_text(encoding="utf-8") + "".join(
        (ROOT / "zoo" / "cli" / name).read_text(encoding="utf-8") for name in ("terminal.py", "hunt.py")
    )
    for option in (word for word in words if word.startswith("--")):
        assert f'"{option}"' in text or f'"{option}/' in text, f"{words[0]} has no option {option}"


def check_meaning(context: click.Context | None) -> None:
    """Raise `InputError` for models, presets and hyperparameters of a command that are not there, or values that cannot be."""
    from zoo import registry
    from zoo.settings import parse_setting

    if context is None:
        return
    command, given = context.info_name, context.params
    name = given.get("name") if command == "train" else given.get("model") if command in ("tune", "space") else None
    if command == "hunt" and given.get("run") and str(given["run"]) in registry.names():
        name = str(given["run"])
    if name is None or (name not in registry.names() and name.islower() and name.startswith("my_")):
        return  # `my_model` is the reader's own
    model = registry.model_class(name)
    preset = given.get("preset")
    assert preset is None or preset in model.presets, f"{name} has no preset {preset}"
    values = dict(map(parse_setting, given.get("settings", ())))
    if command in ("tune", "space"):  # names of the space may be set too
        from tuning.space import Space

        Space(name, values, preset)
        values = {key: value for key, value in values.items() if key in model.Hyperparameters.defaults()}
    model.Hyperparameters.of({**({} if preset is None else model.presets[preset]), **values}, name)


# -- Python -------------------------------------------------------------------------------------------------


def check_python(text: str) -> None:
    """Raise `SyntaxError` or `AssertionError` if a block names what the packages do not have, or arguments that calls do not take."""
    tree = ast.parse(text)
    known: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                if one.name.partition(".")[0] in ("zoo", "pipelines", "tuning"):
                    module = importlib.import_module(one.name)
                    known[one.asname or one.name.partition(".")[0]] = (
                        module if one.asname else importlib.import_module(one.name.partition(".")[0])
                    )
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in (
            "zoo",
            "pipelines",
            "tuning",
        ):
            for one in node.names:
                known[one.asname or one.name] = _attribute(importlib.import_module(node.module), one.name, node.module)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            _resolved(node, known)
        if isinstance(node, ast.Call) and (call := _resolved(node.func, known)) is not None:
            _check_arguments(node, call)


def _attribute(owner: object, name: str, where: str) -> object:
    if inspect.ismodule(owner) and not hasattr(owner, name):
        try:
            return importlib.import_module(f"{owner.__name__}.{name}")
        except ModuleNotFoundError:
            raise AssertionError(f"{where} has no {name}") from None
    assert hasattr(owner, name), f"{where} has no {name}"
    return getattr(owner, name)


def _resolved(node: ast.expr, known: dict[str, object]) -> object | None:
    """Return what `zoo.get` and so on are; None for what is no name of a package."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _resolved(node.value, known)
        if owner is not None and (inspect.ismodule(owner) or inspect.isclass(owner)):
            return _attribute(owner, node.attr, ast.unparse(node.value))
    return None


def _check_arguments(node: ast.Call, call: object) -> None:
    if any(isinstance(one, ast.Starred) for one in node.args) or any(one.arg is None for one in node.keywords):
        return
    try:
        signature = inspect.signature(call)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return
    try:
        signature.bind_partial(*node.args, **{one.arg: one for one in node.keywords if one.arg})
    except TypeError as error:
        raise AssertionError(f"{ast.unparse(node)}: {error}") from None


# -- the middle of sentences --------------------------------------------------------------------------------


def inline(page: str) -> list[tuple[int, str]]:
    """Return the commands in the middle of sentences, `zoo ...` and `tune ...`, with their lines."""
    text = (ROOT / page).read_text(encoding="utf-8")
    kept = re.sub(
        r"^```.*?^```$|^    .*?$", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.DOTALL | re.MULTILINE
    )
    return [
        (kept.count("\n", 0, found.start()) + 1, " ".join(found[1].split()))
        for found in re.finditer(r"`((?:zoo|tune)(?: |\n)[^`]+)`", kept)
    ]
