"""Results that print as a short table, in a terminal and in a notebook."""

from __future__ import annotations

from pipelines.printed import as_html, plain_table

__all__ = ["Printed", "as_html", "number", "plain_table"]


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


def number(value: float | None, form: str) -> str:
    """Return a number in a format, "-" for None.

    >>> number(0.25, ".1%"), number(None, ".1%")
    ('25.0%', '-')
    """
    return "-" if value is None else format(value, form)
