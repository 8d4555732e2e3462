"""Results that print as a short table, in a terminal and in a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence


class Printed(dict):
    """Numbers by name, ready for JSON, which `print` shows as text for people.

    >>> found = Printed({"auc": 0.8}, "AUC 0.8")
    >>> print(found), found["auc"]
    AUC 0.8
    (None, 0.8)
    """

    def __init__(self, numbers, text: str):
        super().__init__(numbers)
        self.text = text

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return as_html(self.text)


def as_html(text: str) -> str:
    """Return text for a notebook, its columns aligned as in a terminal.

    >>> as_html("p < 0.1")
    '<pre>p &lt; 0.1</pre>'
    """
    return f"<pre>{html.escape(text)}</pre>"


def plain_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return columns of text, aligned to the right.

    >>> print(plain_table(["name", "Z"], [["a", "1.5"]]))
    name    Z
       a  1.5
    """
    widths = [max(map(len, column)) for column in zip(heads, *rows)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in [heads, *rows])


def number(value: float | None, form: str) -> str:
    """Return a number in a format, "-" for None.

    >>> number(0.25, ".1%"), number(None, ".1%")
    ('25.0%', '-')
    """
    return "-" if value is None else format(value, form)
