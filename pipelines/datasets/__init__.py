"""One file per dataset family: published layout in, the project's events out.

A family is a module with `recognises(path)`, `describe(path)` and `convert(sources, out, *, workers, scheduler,
progress, **options)`, named in `FORMATS`. A file belongs to the first family that recognises it.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pipelines.arguments import argument
from pipelines.errors import InputError
from pipelines.events.hdf5_files import open_hdf5, reading_hdf5

if TYPE_CHECKING:
    from pipelines.jobs.chunks import Outcome

FORMATS = {
    "lhco": "LHC Olympics raw hadrons (HDF5)",
    "lhco_features": "LHC Olympics high-level features (HDF5)",
    "darkmachines": "Dark Machines challenge events (CSV, CSV.gz)",
    "atlas": "ATLAS Open Data, 13 TeV, tree mini (ROOT)",
    "cathode": "CATHODE's arrays of LHC Olympics events (NumPy)",
    "table": "any table with a mass column (CSV, Parquet, NumPy, HDF5, ROOT)",
}
COMMON = {"sources", "out", "workers", "scheduler", "progress"}


def recognise(path: str | os.PathLike[str]) -> str:
    """Return the family that a file belongs to; raises `InputError` if there is no such file, or no family reads it.

    >>> from pipelines.datasets.find import find
    >>> recognise(find("lhco_rnd_real"))
    'lhco'
    """
    path = Path(path)
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: is {'a folder' if path.is_dir() else 'no file'}, expected a file of events")
    if path.suffix in (".h5", ".hdf5"):  # says what is wrong with one that is damaged, or is something else
        open_hdf5(path).close()
    for name in FORMATS:
        if family(name).recognises(path):
            return name
    known = "; ".join(FORMATS.values())
    raise InputError(f"{path}: layout not recognised; expected one of: {known}")


def is_events(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is one of the project's own events files, or says that it is.

    Raises `InputError` for an HDF5 file in which damage hides the answer.

    >>> from pipelines.datasets.find import find
    >>> is_events(find("lhco_sim_test")), is_events(find("lhco_rnd_real"))
    (True, False)
    """
    try:
        open_hdf5(path).close()
    except InputError:  # no HDF5 file, or one that cannot be opened: its reader gives a better message
        return False
    with reading_hdf5(path) as file:
        return "schema_version" in file.attrs and "columns" in file.attrs


def family(name: str) -> ModuleType:
    """Return the module of a family; raises `InputError` for another name."""
    if name not in FORMATS:
        near = difflib.get_close_matches(name, FORMATS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(FORMATS)}"
        raise InputError(f"format {name!r} is not known; {hint}")
    return importlib.import_module(f"pipelines.datasets.{name}")


def convert(
    sources: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], *, format: str | None = None, **options: Any
) -> Outcome:
    """Convert published files to an events file, and return its `pipelines.jobs.chunks.Outcome`.

    Args:
        sources: one or more files of one family.
        out: events file to make.
        format: the family; by default the one that recognises the files.
        options: `workers`, `scheduler`, `progress`, and those of the family's own `convert`.

    Raises:
        InputError: files of different families, or of none; an option that the family does not have; and all that
            the family's `convert` raises.
    """
    if not sources:
        raise InputError("no files to convert; give at least one")
    found = {str(path): format or recognise(path) for path in sources}
    if len(set(found.values())) > 1:
        seen = ", ".join(f"{path} ({name})" for path, name in found.items())
        raise InputError(f"files of different kinds in one call: {seen}; convert each kind by itself")
    name = next(iter(found.values()))
    own = options_of(name)
    wrong = sorted(set(options) - set(own) - COMMON)
    if wrong:
        raise InputError(f"option {', '.join(wrong)}: {name} files have {', '.join(own)} only")
    required = [option for option, default in own.items() if default is inspect.Parameter.empty]
    if missing := [option for option in required if option not in options]:
        needed = f"needs {', '.join(map(argument, missing))}{_columns_of(name, sources[0])}"
        raise InputError(f"{sources[0]}: read as {FORMATS[name]}, which {needed}")
    return family(name).convert(sources, out, **options)


def _columns_of(name: str, path: str | os.PathLike[str]) -> str:
    """Return which columns a table has, for a message; nothing for other files, or where the columns cannot be told."""
    from pipelines.events.layout import some_of

    if name == "table":
        with contextlib.suppress(InputError):
            return f" (one of its columns {some_of(family(name).column_names(Path(path)), 20)})"
    return ""


def options_of(name: str) -> dict[str, object]:
    """Return the options that a family's `convert` has beside the common ones, with their defaults.

    >>> options_of("table")["mass"]
    <class 'inspect._empty'>
    """
    parameters = inspect.signature(family(name).convert).parameters
    return {option: p.default for option, p in parameters.items() if option not in COMMON}
