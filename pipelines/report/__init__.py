"""Reports to read in a browser: `page` makes one HTML file that needs nothing else, `write_report` that of a search.

`tables`, `figures` and `text` are what the report of a search is made of.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import Unfinished
from pipelines.report.page import Page

if TYPE_CHECKING:
    from pipelines.bumphunt.result import Search

__all__ = ["Page", "write_report"]


def write_report(folder: str | os.PathLike[str], search: Search) -> Path:
    """Write the report of a search into a folder, over an older one, and return the path of `report.html`.

    report.html   all there is to read and to see, in one file
    report.json   every number that it shows: `result`, `tables` by name, `figures` by name, `configuration`
    plots/        the figures as PNG, and beside each its numbers as JSON

    Features are read of selected events only, at most 100,000 of them. What labels say is shown only if the search has
    `truth`, and every such figure and table is marked. The same search gives the same files, byte by byte.

    Raises `InputError` if the folder cannot be written to.

    Example:
        >>> import tempfile, pipelines
        >>> from pipelines import search
        >>> class Mass:
        ...     def score(self, events):
        ...         return events.read("features", ["mass_1", "mass_2"]).sum(axis=1)
        >>> found = search(Mass(), pipelines.open("lhco_sim_test"), percentiles=[90], widths=(2, 4), pseudo_experiments=200)
        >>> write_report(tempfile.mkdtemp(), found).name
        'report.html'
    """
    from pipelines.outputs import check_part, new_file, write_json
    from pipelines.report.search_report import tell

    folder = Path(folder)
    check_part(folder)
    try:
        (folder / "plots").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unfinished(f"{folder}: cannot be written ({error.strerror}); choose another output") from None
    page, numbers = tell(search, folder / "plots")
    write_json(folder / "report.json", numbers)
    html = folder / "report.html"
    with new_file(html, replace=True) as part:
        part.write_text(page.to_html(), encoding="utf-8")
    return html
