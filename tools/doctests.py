"""For mkdocstrings: examples in docstrings, `>>> ...`, become blocks of code; Markdown would take them for quotations."""

from __future__ import annotations

import textwrap
from typing import Any

from griffe import Extension, Object


class Doctests(Extension):
    """Fences the doctests of every docstring that is read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None and ">>>" in obj.docstring.value:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """Return a docstring whose doctests are fenced; a heading `Example:` above them goes.

    >>> print(fenced("Adds.\\n\\nExample:\\n    >>> 1 + 1\\n    2"))
    Adds.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    made: list[str] = []
    for part in text.split("\n\n"):
        lines = part.split("\n")
        first = next((i for i, line in enumerate(lines) if line.lstrip().startswith(">>>")), None)
        if first is None:
            made.append(part)
            continue
        before = [line for line in lines[:first] if line.strip() not in ("Example:", "Examples:")]
        if before:
            made.append("\n".join(before))
        code = textwrap.dedent("\n".join(lines[first:]))
        made.append(f"```pycon\n{code}\n```")
    return "\n\n".join(made)
