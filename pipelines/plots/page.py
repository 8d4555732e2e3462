"""What all figures share: mplhep's style, colours and dashes, safe text, and the legend."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.plots import record

# mplhep's six, which are Petroff's (arXiv 2107.02270), and four more: all are told apart with any kind of colour vision, better
# than those of Okabe and Ito (tests/test_colours.py)
COLOURS = ("C0", "C1", "C2", "C3", "C4", "C5", "#962d4b", "#002d87", "#4bf096", "#ffb4ff")
DASHES = ("-", "--", "-.", ":")
WEIGHTS = {False: "none", True: "not used"}  # what a figure that cannot weight says of its events' weights
NOTES = {False: "", True: "The weights of these events are not used here: all events count alike."}
STYLE = {
    "font.size": 16,
    "font.family": ["sans-serif", "DejaVu Sans"],  # the second for signs that the style's font lacks
    "mathtext.fontset": "stixsans",  # that of the style has no root
    "axes.linewidth": 1.3,
    "xtick.major.size": 8,
    "xtick.minor.size": 4,
    "ytick.major.size": 8,
    "ytick.minor.size": 4,
    "legend.fontsize": 14,
    "axes.titlesize": 14,
    "axes.titlelocation": "left",
}


@contextlib.contextmanager
def page(
    path: Path,
    numbers: Mapping[str, object],
    size: tuple[float, float],
    kind: str = ".json",
    *,
    style: Mapping[str, object] = STYLE,
    dpi: int = 90,
    replace: bool = True,
    note: str = "",
) -> Iterator[Any]:
    """Give an empty figure in the style and, when the block ends well, write it and its numbers, both or neither.

    Args:
        size: in inches. kind: of the file of numbers, `.json` or `.h5`. style: what differs from mplhep's.
        replace: write over a figure that exists; otherwise `InputError`.
        note: a line of text below all panels.
    """
    import matplotlib.style
    import mplhep
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context([mplhep.style.CMS, dict(style)], after_reset=True):
        figure = Figure(size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        if note:
            figure.supxlabel(note, fontsize=11)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=dpi)
    record.write(path, drawn.getvalue(), numbers, kind, replace=replace)


def legend(figure: Any, axes: Any, first: Sequence[str] = (), columns: int = 3) -> None:
    """One legend above all panels, where it covers nothing, in as few columns as fit; `first` come in this order."""
    handles = dict.fromkeys(first)
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels()):
            handles[label] = handles.get(label) or handle
    handles = {label: handle for label, handle in handles.items() if handle}
    for ncols in range(min(columns, len(handles)), 0, -1):
        drawn = figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=ncols)
        if ncols == 1 or drawn.get_window_extent().width < 0.98 * figure.bbox.width:
            return
        drawn.remove()


def shown(text: str) -> str:
    """Text as matplotlib can draw it: where it is no valid formula, its dollar signs are dollar signs."""
    from matplotlib.mathtext import MathTextParser

    text = f" {text}" if text.startswith("_") else text  # else matplotlib leaves it out of legends
    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return text.replace("$", r"\$")
    return text


def look(number: int, line: int = 0, lines: int = 1) -> tuple[str, str]:
    """Colour of the sample of this number, and dashes of its `line` of `lines`, which tell apart equal colours."""
    again, colour = divmod(number, len(COLOURS))
    return COLOURS[colour], DASHES[(lines * again + line) % len(DASHES)]
