"""A page of text, tables and figures in one HTML file that needs nothing else: no script, no other file, no network."""

from __future__ import annotations

import base64
import dataclasses
import functools
import numbers
import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import InputError

Cell = str | int | float | None
PNG = b"\x89PNG\r\n\x1a\n"
NOTHING = "\N{EN DASH}"  # a cell without a value
MINUS = "\N{MINUS SIGN}"
NUMBER = rf"[+{MINUS}-]?\d[\d,]*(\.\d+)?(e[+{MINUS}-]?\d+)?"
NUMERIC = re.compile(rf"[<>≥≤]?\s?{NUMBER}( ?(±|to|/) ?{NUMBER})*( ?%)?|{NOTHING}")
ARXIV = re.compile(r"arXiv[: ](\d{4}\.\d{4,5})")


@dataclasses.dataclass(frozen=True)
class _Block:
    """A piece of the page: `kind` names its macro in page.html, `content` is what that shows."""

    kind: str
    content: dict[str, object]


@dataclasses.dataclass
class _Section:
    heading: str
    mark: str
    blocks: list[_Block] = dataclasses.field(default_factory=list)


class Page:
    """A report under construction: what is added appears in this order; `to_html` gives the file.

    All text is plain text and escaped, whatever is in it; a blank line begins a new paragraph, and the number of a
    paper, `arXiv:1101.0390`, becomes a link to it. What is added before the first section stands above the table of
    contents. Methods return the page.

    Example:
        >>> page = Page("A search", "two words about it").lead("Nothing was found.").section("Numbers")
        >>> html = page.table(["cut", "events"], [["x < 3", 12345]], "What is left.").to_html()
        >>> "x &lt; 3" in html, "12,345" in html
        (True, True)
    """

    def __init__(self, title: str, subtitle: str = ""):
        self.title, self.subtitle = title, subtitle
        self._sections = [_Section("", "")]

    def section(self, heading: str, *, mark: str = "") -> Page:
        """Begin a section, listed in the table of contents; `mark` is a short warning label beside its heading."""
        self._sections.append(_Section(heading, mark))
        return self

    def subsection(self, heading: str) -> Page:
        """Put a smaller heading, which the table of contents does not list."""
        return self._add("subsection", heading=heading)

    def text(self, text: str) -> Page:
        """Add paragraphs."""
        return self._add("text", paragraphs=_paragraphs(text))

    def lead(self, text: str) -> Page:
        """Add paragraphs in larger print: what a reader in a hurry must see."""
        return self._add("lead", paragraphs=_paragraphs(text))

    def warning(self, text: str) -> Page:
        """Add paragraphs in a box that cannot be overlooked."""
        return self._add("warning", paragraphs=_paragraphs(text))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str, *, mark: str = "") -> Page:
        """Add a table; columns of numbers are aligned to the right.

        Args:
            columns: headings. rows: cells in that order; whole numbers get commas, other numbers four digits, None is
                a dash, text is shown as it is. caption: what it shows, above it. mark: as of a section.

        Raises:
            InputError: for a row of another length than `columns`.
        """
        for row in rows:
            if len(row) != len(columns):
                raise InputError(f"table {list(columns)}: a row of {len(row)} cells, expected {len(columns)}: {row}")
        cells = [[_cell(cell) for cell in row] for row in rows]
        right = [bool(cells) and all(NUMERIC.fullmatch(row[i]) for row in cells) for i in range(len(columns))]
        cells = [[c.replace("-", MINUS) if r else c for c, r in zip(row, right)] for row in cells]
        return self._add("table", columns=list(columns), rows=cells, right=right, caption=caption, mark=mark)

    def figure(self, png: bytes | str | os.PathLike[str], caption: str, *, alt: str = "", mark: str = "") -> Page:
        """Add a picture with its caption below.

        Args:
            png: the picture, or where it is. alt: its text for those who cannot see it; the first sentence of the
                caption if left out. mark: as of a section.

        Raises:
            InputError: if that is no PNG, or cannot be read.
        """
        data, name = (png, "picture") if isinstance(png, bytes) else (_read(png), str(png))
        if not data.startswith(PNG) or len(data) < 24:
            raise InputError(f"{name}: {len(data)} bytes that are no PNG, expected a picture in that format")
        width, height = struct.unpack(">II", data[16:24])
        return self._add(
            "figure",
            data=base64.b64encode(data).decode(),
            width=width,
            height=height,
            caption=caption,
            alt=alt or caption.split(". ", maxsplit=1)[0].rstrip(".") + ".",
            mark=mark,
        )

    def details(self, summary: str, preformatted: str) -> Page:
        """Add lines in fixed pitch that a click on `summary` unfolds; printed, they are unfolded."""
        return self._add("details", summary=summary, preformatted=preformatted)

    def to_html(self) -> str:
        """Return the whole file, to be written as UTF-8."""
        first, *sections = self._sections
        return _template().render(title=self.title, subtitle=self.subtitle, first=first, sections=sections)

    def _add(self, kind: str, **content: object) -> Page:
        self._sections[-1].blocks.append(_Block(kind, content))
        return self


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", text.strip())]


def _cell(cell: Cell) -> str:
    """What is shown of one cell.

    >>> [_cell(value) for value in (12345, 12345.6, 0.123456, 2.5e-7, True, "text")]
    ['12,345', '12,346', '0.1235', '2.5e-07', 'yes', 'text']
    >>> _cell(None) == _cell(float("nan")) == NOTHING
    True
    """
    if cell is None or cell != cell:
        return NOTHING
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, str):
        return cell
    whole = isinstance(cell, numbers.Integral) or 1e4 <= abs(cell) < 1e15
    return f"{cell:,.0f}" if whole else f"{cell:.4g}"


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), expected a PNG") from None


def _cited(text: str) -> Any:
    """Return text as escaped HTML in which numbers of papers are links."""
    from markupsafe import Markup, escape

    link = r'<a href="https://arxiv.org/abs/\1">\g<0></a>'
    return Markup(ARXIV.sub(link, str(escape(text))))


@functools.cache
def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipelines.report", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["cited"] = _cited
    return environment.get_template("page.html")
