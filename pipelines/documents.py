"""Documents that users and other programs write, JSON and YAML: read within limits, and checked against a schema.

Every reader refuses a document before much is allocated: by its size, its nesting, its numbers and its types. A schema
is a type that pydantic understands, such as a `TypedDict`. Whatever is wrong is one `InputError` that names the file.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from pipelines.errors import InputError, note_read

MAX_JSON_BYTES = 16 * 2**20
MAX_YAML_BYTES = 128 * 2**10  # files that people write; PyYAML reads some 100 kB in a second
MAX_DEPTH = 32  # of lists and mappings in each other
MAX_INTEGER = 2**63  # larger ones fit into no array
MAX_SHOWN = 60  # characters of a value that an error shows


class DataDescription(TypedDict, total=False):
    """What documents say of the events that something was made of, if they say it (see `pipelines.provenance`)."""

    source: str
    files: list[str]
    events: int
    sha256: str | None


NO_TEXT = re.compile("[\\0\ud800-\udfff]")


def read_json_document(
    path: str | os.PathLike[str], schema: Any = None, *, advice: str = "", max_bytes: int = MAX_JSON_BYTES
) -> Any:
    """Return what a JSON file holds.

    Args:
        path: a regular file.
        schema: a type that pydantic checks the document against, strictly: "1" is no number. None for any.
        advice: what to try, added to each error.
        max_bytes: of the file.

    Raises `InputError` if it cannot be read, is no JSON, is nested more than 32 deep, has numbers that are infinite or
    beyond 64 bits, or does not fit to the schema.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "trial.json"
    >>> _ = path.write_text('{"trial": "07", "epochs": 3}')
    >>> read_json_document(path, dict[str, object])["epochs"]
    3
    """
    return parse_json_document(read_text(path, max_bytes, advice), str(path), schema, advice=advice)


def parse_json_document(text: str, source: str, schema: object = None, *, advice: str = "") -> object:
    """Return what a text of JSON holds, as `read_json_document` does; `source` names it in errors.

    >>> parse_json_document("[1, NaN]", "run/config.json")
    Traceback (most recent call last):
    ...
    pipelines.errors.InputError: run/config.json: NaN is no JSON
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        for _ in _walk(value):
            pass
    except RecursionError:
        raise _refusal(source, f"nested more than {MAX_DEPTH} deep", advice) from None
    except ValueError as error:
        raise _refusal(source, _one_line(error), advice) from None
    return check_document(value, source, schema, advice=advice)


def read_yaml_document(
    path: str | os.PathLike[str], schema: Any = None, *, advice: str = "", max_bytes: int = MAX_YAML_BYTES
) -> object:
    """Return what a YAML file holds: text, numbers, truth values, nothing, lists and mappings with names.

    Numbers such as 1e-4 are numbers, as in YAML 1.2. Arguments and errors are as of `read_json_document`; anchors, tags
    of other types, dates and names that are there twice are refused too, with their line.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "space.yaml"
    >>> _ = path.write_text("learning_rate: {min: 1e-4, max: 1e-2}")
    >>> read_yaml_document(path)
    {'learning_rate': {'min': 0.0001, 'max': 0.01}}
    """
    return parse_yaml_document(read_text(path, max_bytes, advice), str(path), schema, advice=advice)


def parse_yaml_document(text: str, source: str, schema: object = None, *, advice: str = "") -> object:
    """Return what a text of YAML holds, as `read_yaml_document` does; `source` names it in errors."""
    import yaml

    try:
        _check_events(yaml.parse(text, yaml.SafeLoader))
        value = yaml.load(text, _loader())
        for _ in _walk(value):
            pass
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise _refusal(f"{source}:{line}" if line else source, f"no YAML ({error.problem})", advice, "") from None
    except yaml.YAMLError as error:
        raise _refusal(source, f"no YAML ({_one_line(error)})", advice) from None
    except RecursionError:
        raise _refusal(source, f"nested more than {MAX_DEPTH} deep", advice) from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:  # of PyYAML's constructors
        raise _refusal(source, f"no YAML ({_one_line(error)})", advice) from None
    return check_document(value, source, schema, advice=advice)


def check_document(value: object, source: str, schema: object, *, advice: str = "") -> object:
    """Return a value that fits to a schema; raises `InputError` naming the first field that does not.

    >>> check_document({"epochs": "3"}, "trial.json", dict[str, int])
    Traceback (most recent call last):
    ...
    pipelines.errors.InputError: trial.json: epochs is '3', input should be a valid integer
    """
    if schema is None:
        return value
    from pydantic import ValidationError

    try:
        _adapter(schema).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("str", "function-")))
        where = re.sub(r"\.(dict|list|tuple|int|float|bool|none)\[.*?\]", "", where)
        message = first["msg"][:1].lower() + first["msg"][1:]
        if first["type"] == "missing":
            raise _refusal(source, f"no {where} in it", advice) from None
        raise _refusal(source, f"{where or 'the document'} is {shown(first['input'])}, {message}", advice) from None
    return value


def check_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of a training's history that has its phase, its epoch, and terms that are numbers, or None.

    For schemas; raises `ValueError` for another.

    >>> check_row({"phase": "main", "epoch": 0, "loss": 0.5})["loss"]
    0.5
    """
    if not isinstance(row.get("phase"), str) or type(row.get("epoch")) is not int:
        raise ValueError("a row needs a phase, and an epoch that is a number")
    for name, value in row.items():
        if name != "phase" and not (value is None or isinstance(value, (int, float))):
            raise ValueError(f"{name} should be a number")
    return row


@functools.lru_cache(maxsize=64)
def _adapter(schema: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(schema)


def read_text(path: str | os.PathLike[str], max_bytes: int, advice: str = "") -> str:
    """Return the text of a regular file of at most `max_bytes`, UTF-8 without NUL; raises `InputError` otherwise."""
    path = Path(path)
    try:
        kind = os.stat(path)
        if not stat.S_ISREG(kind.st_mode):
            raise _refusal(path, "no regular file", advice)
        note_read(path)
        with open(path, "rb") as file:
            found = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        if isinstance(error, InputError):
            raise
        raise _refusal(path, getattr(error, "strerror", None) or _one_line(error), advice) from None
    if len(found) > max_bytes:
        size = f"{max_bytes / 2**20:g} MB" if max_bytes >= 2**20 else f"{max_bytes / 2**10:g} kB"
        raise _refusal(path, f"larger than {size}", advice)
    try:
        text = found.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refusal(path, f"no text (byte {error.start} is not UTF-8)", advice) from None
    if "\0" in text:
        raise _refusal(path, f"no text (character {text.index(chr(0))} is NUL)", advice)
    return text


def shown(value: object) -> str:
    """Return a value as an error shows it, cut to 60 characters without making a long text first.

    >>> shown([1] * 10**6)
    'a list of 1000000'
    """
    if isinstance(value, (list, tuple, Mapping)) and len(value) > 8:
        return f"a {'mapping' if isinstance(value, Mapping) else 'list'} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of very many digits"
    if isinstance(value, (list, tuple, Mapping)) and not _is_flat(value):
        return f"a {type(value).__name__}"
    text = repr(value[: MAX_SHOWN + 1] if isinstance(value, str) else value)
    return text if len(text) <= MAX_SHOWN + 2 else f"{text[:MAX_SHOWN]}..."


def _is_flat(value: object) -> bool:
    inner: Iterable[object] = value.values() if isinstance(value, Mapping) else value  # type: ignore[assignment]
    return not any(isinstance(one, (list, tuple, Mapping)) for one in inner)


def _walk(value: object) -> Iterator[object]:
    """Visit all of a document without recursion; raises `ValueError` where a limit or a type is not kept."""
    waiting: list[tuple[Any, int, str, Any]] = [(value, 1, "", None)]
    while waiting:
        one, depth, parent, key = waiting.pop()
        if isinstance(one, (dict, list)):
            if depth > MAX_DEPTH:
                raise ValueError(f"nested more than {MAX_DEPTH} deep")
            where, inner = _where(parent, key), one.items() if isinstance(one, dict) else enumerate(one)
            waiting += [(each, depth + 1, where, name) for name, each in inner]
            for name in one if isinstance(one, dict) else ():
                _check_name(name)
        elif not _is_possible(one):
            raise ValueError(f"{_where(parent, key) or 'the document'} is {shown(one)}, expected {_expected(one)}")
        yield one


def _where(parent: str, key: object) -> str:
    own = f"[{key}]" if isinstance(key, int) else "" if key is None else shown(key).strip("'")
    return f"{parent}.{own}" if parent and own and not own.startswith("[") else parent + own


def _is_possible(one: object) -> bool:
    if isinstance(one, bool) or one is None:
        return True
    if isinstance(one, str):
        return NO_TEXT.search(one) is None
    if isinstance(one, int):
        return -MAX_INTEGER <= one < MAX_INTEGER
    return isinstance(one, float) and math.isfinite(one)


def _expected(one: object) -> str:
    if isinstance(one, str):
        return "text without NUL and without half characters"
    if isinstance(one, int):
        return "a number within 64 bits"
    return "a finite number" if isinstance(one, float) else "text or a number; put it in quotes"


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not _is_possible(name):
        raise ValueError(f"the key {shown(name)} is no name")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _check_events(events: Iterator[Any]) -> None:
    """Refuse anchors, and lists and mappings that are too deep, before anything is made of a YAML document."""
    import yaml

    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            mark = event.start_mark
            raise yaml.MarkedYAMLError(problem="anchors are not taken; write it out", problem_mark=mark)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} deep", problem_mark=event.start_mark)


@functools.lru_cache(maxsize=1)
def _loader() -> type:
    """PyYAML's safe loader, which takes 1e-4 for the number that it is in YAML 1.2, and no key twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names: set[str] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise yaml.constructor.ConstructorError(None, None, "a key is no name", key.start_mark)
                if key.value in names:
                    problem = f"{shown(key.value)} is there twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                names.add(key.value)
            return super().construct_mapping(node, deep)

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep)
            except (ValueError, KeyError, TypeError, OverflowError) as error:  # of a date, !!int abc, 10,000 digits
                problem = f"{shown(node.value)}: {_one_line(error)}"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None

    number = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    return Loader


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if text.startswith("Exceeds the limit"):  # of Python, whose message is about Python
        return "a number of too many digits"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _refusal(source: object, what: str, advice: str, colon: str = ":") -> InputError:
    return InputError(f"{source}{colon} {what}" + (f"; {advice}" if advice else ""))
