"""Text of results, for a terminal and for a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence


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


def with_interval(quantiles: Sequence[float]) -> str:
    """Return a number with its interval: `quantiles` are its lower end, the number, and its upper end.

    >>> with_interval([1.0, 2.0, 3.5])
    '2.0 (1.0 to 3.5)'
    """
    low, middle, high = quantiles
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"
