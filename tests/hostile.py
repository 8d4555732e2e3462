"""What disks, editors and people do to files: seeded mutations of documents and of bytes."""

import copy
import json
import random

import yaml

DEEP = "[" * 100_000
VALUES = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**64), 10**400, 0.5, -1e308, 1e-320, float("nan"), float("inf"), "", " ",
    "x" * 10_000, "\0", "\ud800", "../../etc/passwd", "nan", "1", "{}", "é" * 300, [], {}, [[]], [None], {"": {}}, [1, "a"],
    {"a": [{"b": [{}]}]}, list(range(1000)), {str(k): k for k in range(300)},
]  # fmt: skip
TEXTS = ["NaN", "Infinity", "-1e999", "9" * 5000, DEEP, '{"a":' * 10_000, "\0", "\ufeff", "null", "&a [*a]", "!!int abc",
         "2001-99-99", "? [a]\n: 1\n", "<<: {}", "\t", "'", '"', "\\u0000", "\\ud800"]  # fmt: skip


def places(value, at=()):
    """Yield where something is in a document."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*at, key))


def mutated(value, rng):
    """Return a document of which one place is missing, is something else, or is there with another name."""
    value = copy.deepcopy(value)
    *way, last = rng.choice([at for at in places(value) if at] or [(None,)])
    if last is None:
        return rng.choice(VALUES)
    parent = value
    for key in way:
        parent = parent[key]
    what = rng.randrange(10)
    if what == 0:
        del parent[last]
    elif what == 1 and isinstance(parent, dict):
        parent[f"{last}x"] = parent.pop(last)
    else:
        parent[last] = copy.deepcopy(rng.choice(VALUES))
    return value if rng.randrange(50) else rng.choice(VALUES)


def bytes_mutated(content, rng):
    """Return a content in which bits, or a piece, are lost, are there twice, or are something else."""
    start = rng.randrange(len(content) + 1)
    end = min(len(content), start + rng.choice([1, 1, 2, 8, 64, 512, 4096]))
    what = rng.randrange(7)
    if what == 0 and start < len(content):
        return content[:start] + bytes([content[start] ^ (1 << rng.randrange(8))]) + content[start + 1 :]
    if what == 1:
        return content[:start]
    if what == 2:
        return content[:start] + bytes(end - start) + content[end:]
    if what == 3:
        return content[:start] + rng.randbytes(end - start) + content[end:]
    if what == 4:
        return content[:start] + content[end:]
    if what == 5:
        return content[:end] + content[start:]
    return content[:start] + rng.choice(TEXTS).encode("utf-8", "surrogatepass") + content[start:]


def documents(text, seed, count, kind="json"):
    """Yield so many mutated documents as bytes: half by their places, half by their bytes."""
    rng = random.Random(seed)
    value = json.loads(text) if kind == "json" else yaml.safe_load(text)
    for number in range(count):
        if number % 2:
            yield bytes_mutated(text.encode(), rng)
            continue
        found = mutated(value, rng)
        try:
            written = json.dumps(found) if kind == "json" else yaml.safe_dump(found)
        except (yaml.YAMLError, UnicodeEncodeError):
            written = json.dumps(found)
        yield written.encode("utf-8", "surrogatepass")
