"""Trained weights that come with the package, by names such as `vae/lhco_sim`, wherever a run directory is taken.

Each is a small run directory below this folder. `python benchmarks/weights.py` trains them all on simulation, and says by which
commands; `docs/weights.md` has their results. They hold no state of the optimizer: they score, and training begins anew.
"""

from __future__ import annotations

import difflib
import fnmatch
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import NotRequired, TypedDict

from pipelines.errors import InputError

FOLDER = Path(__file__).resolve().parent
RESULTS = "results.json"


class Results(TypedDict):
    """What `results.json` of shipped weights holds: what they are, and what they reach."""

    about: str
    data: str
    command: str
    auc: NotRequired[dict[str, float]]
    recovered: NotRequired[dict[str, float]]


def names(pattern: str = "*") -> list[str]:
    """Return the names of all weights that come with the package and match a shell pattern, sorted.

    >>> "vae/lhco_sim" in names("vae/*")
    True
    """
    found = (config.parent.relative_to(FOLDER).as_posix() for config in FOLDER.glob("*/*/config.json"))
    return sorted(fnmatch.filter(found, pattern))


def find(run: str | os.PathLike[str]) -> Path:
    """Return the folder of a run: what is there by that path, or else the weights of that name; otherwise the path as it is.

    >>> find("vae/lhco_sim").name, str(find("runs/mine"))
    ('lhco_sim', 'runs/mine')
    """
    path = Path(run)
    return FOLDER / path if not os.path.lexists(path) and is_shipped(path) else path


def is_shipped(run: str | os.PathLike[str]) -> bool:
    """Tell whether a name is one of weights that come with the package, and no folder here takes its place.

    >>> is_shipped("vae/lhco_sim"), is_shipped("vae")
    (True, False)
    """
    path = Path(run)
    is_name = len(path.parts) == 2 and not path.is_absolute() and ".." not in path.parts
    return is_name and not os.path.lexists(path) and (FOLDER / path / "config.json").is_file()


def advice(run: str | os.PathLike[str]) -> str:
    """Return what an error says of a name that looks like one of weights: those that there are; nothing of other paths.

    >>> advice("pca/lhco"), advice("runs/of/mine")
    ('; the trained weights of pca are pca/lhco_sim', '')
    """
    path = Path(run)
    model = path.parts[0] if path.parts and not path.is_absolute() else ""
    known = {name.partition("/")[0] for name in names()}
    if len(path.parts) != 2 or os.path.lexists(model) or not difflib.get_close_matches(model, known, 1):
        return ""
    own = [name for name in names() if name.startswith(f"{model}/")]
    return f"; the trained weights of {model} are {', '.join(own)}" if own else f"; there are {', '.join(names())}"


def results(name: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Return what shipped weights are and reach, as `docs/weights.md` tells; raises `InputError` for a name that is not known.

    Example:
        `results("vae/lhco_sim")["auc"]`
    """
    from pipelines.documents import read_json_document

    name = Path(name).as_posix()
    if name not in names():
        raise InputError(
            f"{name}: no trained weights of that name{advice(name) or '; there are ' + ', '.join(names())}"
        )
    found: Any = read_json_document(FOLDER / name / RESULTS, Results, advice="damaged; install the package again")
    return found


def text(name: str | os.PathLike[str]) -> str:
    """Return the same for people."""
    found = results(name)
    lines = [f"{name}: {found['about']}", f"Trained on: {found['data']}", f"By: {found['command']}"]
    for quantity, what in (("auc", "AUC"), ("recovered", "Recovered")):
        lines += [f"{what} {of}: {value:.3f}" for of, value in found.get(quantity, {}).items()]
    return "\n".join(lines)
