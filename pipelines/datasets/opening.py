"""Open any events by one function: events files, samples by name, published files, tables, and frames in memory."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.documents import read_json_document
from pipelines.errors import InputError, Unfinished
from pipelines.events.events import Events
from pipelines.events.files import mixes_truth

if TYPE_CHECKING:
    from pipelines.jobs.chunks import Outcome

Source = str | os.PathLike[str]
Progress = Callable[[int, int | None], object]
Defaults = Callable[[str, Sequence[str]], Mapping[str, object]]  # of a family, and of the columns of a table

MADE = "events.h5"
_converted: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


def open_events(
    data: Events | Source | object | Sequence[Events | Source],
    mass_range: tuple[float, float] | None = None,
    *,
    kept: Source | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    said: Callable[[str], object] | None = None,
    defaults: Defaults | None = None,
    **options: object,
) -> Events:
    """Open events of any kind as one, whatever they are in.

    Args:
        data: `Events`; an events file; the name of an embedded sample or of a published file; a published file or a table
            (CSV, Parquet, NumPy, HDF5, ROOT), which is converted first; a pandas DataFrame or an Arrow table; or a
            sequence of files and names, one after the other.
        mass_range: keep low <= mass < high, GeV.
        kept: the events file that conversion makes. It is used again if it was made of the same files with the same
            options. By default a temporary file, which is removed when the process ends.
        workers, progress: processes that convert, and a function that is called with (done, total), as in `pipelines.datasets.convert`.
        said: a function that is called with one line on what was converted, and which columns are what.
        defaults: a function that returns options of the conversion, where there is one, of a family and the columns of a
            table; `options` go before them.
        options: of `zoo data convert`, for what has to be converted, such as `mass="mjj"`.

    Raises:
        InputError: a file that is missing or not known, options for events that need no conversion, a file that is named
            twice, or as `pipelines.datasets.convert`.

    Example:
        >>> import pyarrow
        >>> table = pyarrow.table({"mjj": [3100.0, 2950.0], "tau21_1": [0.4, 0.7]})
        >>> open_events(table, mass="mjj", features=["tau*"]).columns
        ('tau21_1',)
    """
    events = _open_all(data, kept, workers, progress, said, options, defaults)
    return events.select(mass_range=mass_range) if mass_range else events


ABOUT = (
    "kept",
    "workers",
    "progress",
    "said",
    "defaults",
)  # arguments of `open_events` that are no options of a conversion


def open_each(groups: Sequence[object], mass_range: tuple[float, float] | None = None, **options: Any) -> list[Events]:
    """Open several samples, each as `open_events`; options of a conversion are for those that need one.

    Raises `InputError` as `open_events`, and if there are such options and none needs a conversion.

    >>> [len(events) for events in open_each(["lhco_sim_test", ["lhco_sim_test"]], (2700, 5000))]
    [4661, 4661]
    """
    needed = [needs_conversion(data) for data in groups]
    own = {name: value for name, value in options.items() if name not in ABOUT}
    if own and not any(needed):
        raise InputError(f"{next(iter(own))}: there is nothing to convert, all of the data are events already")
    about: dict[str, Any] = {name: value for name, value in options.items() if name in ABOUT}
    each: list[dict[str, Any]] = [{**own, **about} if needs else about for needs in needed]
    return [open_events(data, mass_range, **given) for data, given in zip(groups, each)]


def _open_all(
    data: Any,
    kept: Source | None,
    workers: int,
    progress: Progress | None,
    said: Callable[[str], object] | None,
    options: Mapping[str, Any],
    defaults: Defaults | None,
) -> Events:
    from pipelines.events.mixing import join

    if isinstance(data, Events):
        if options:
            raise InputError(f"{next(iter(options))}: there is nothing to convert, {data.name} are events already")
        return data
    if _is_frame(data):
        return _of_frame(data, defaults, options)
    sources: list[Any] = [data] if isinstance(data, (str, os.PathLike)) else list(_sequence(data))
    if sources and all(isinstance(one, Events) for one in sources):
        events: Events = sources[0] if len(sources) == 1 else join(sources)
        return events
    parts = [Events.from_file(path) for path in events_files(sources, kept, workers, progress, said, options, defaults)]
    if any(parts[0].path == Path(folder.name) / MADE for folder in _converted):  # which is gone when the process ends
        parts[0] = parts[0].renamed(" + ".join(str(one) for one in sources if needs_conversion(one)))
    return parts[0] if len(parts) == 1 else join(parts)


def _sequence(data: object) -> Sequence[Source]:
    if not isinstance(data, (list, tuple)) or not all(isinstance(one, (str, os.PathLike, Events)) for one in data):
        raise TypeError(
            f"data is {type(data).__name__}, expected Events, a file, a sample's name, a DataFrame, an Arrow table, or a "
            f"list of files; of arrays make pipelines.Events.from_arrays(features, mass, columns)"
        )
    return data


def needs_conversion(data: object) -> bool:
    """Tell whether `open_events` has to convert something of these data; raises `InputError` for a file that is not there.

    >>> needs_conversion("lhco_sim_test"), needs_conversion(["lhco_sim_test", "lhco_rnd_real"])
    (False, True)
    """
    from pipelines import datasets
    from pipelines.datasets.find import find

    if isinstance(data, Events) or _is_frame(data):
        return not isinstance(data, Events)
    sources = [data] if isinstance(data, (str, os.PathLike)) else _sequence(data)
    return any(not isinstance(one, Events) and not datasets.is_events(find(one)) for one in sources)


def events_files(
    sources: Sequence[Source],
    kept: Source | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    said: Callable[[str], object] | None = None,
    options: Mapping[str, object] | None = None,
    defaults: Defaults | None = None,
) -> list[Path]:
    """Return the events files behind files and names, after converting those that are none (see `open_events`).

    >>> events_files(["lhco_sim_test"])[0].name
    'lhco_sim_test.h5'
    """
    from pipelines import datasets
    from pipelines.datasets.find import find
    from pipelines.events.layout import source_files

    given: dict[str, Any] = dict(options or {})
    paths = source_files([find(source) for source in sources])
    others = [source for source, path in zip(sources, paths) if not datasets.is_events(path)]
    if not others:
        if given:
            raise InputError(f"{next(iter(given))}: there is nothing to convert, {paths[0]} is an events file")
        return paths
    given = with_defaults(others[0], given, defaults)
    if kept is None:
        _converted.append(tempfile.TemporaryDirectory(prefix="hep-anomaly-zoo-"))
        made = Path(_converted[-1].name) / MADE
        done = convert_files(others, made, workers=workers, progress=progress, **given)
        _tell(said, "read", done, others)
    else:
        made = Path(kept)
        _convert_once(others, made, workers, progress, said, given)
    return [made, *(path for path in paths if datasets.is_events(path))]


def _convert_once(
    sources: Sequence[Source],
    made: Path,
    workers: int,
    progress: Progress | None,
    said: Callable[[str], object] | None,
    options: Mapping[str, Any],
) -> None:
    """Convert files to `made`, with a JSON file of its sources beside it; if both are there for these sources, use them."""
    from pipelines.datasets.find import find
    from pipelines.jobs.chunks import check_output, identity
    from pipelines.outputs import hold, write_json

    note = made.with_suffix(".json")  # before the events, so that these are never there without it
    origin = {
        "sources": [identity(find(source)) for source in sources],
        "convert": sorted(f"{name}={value}" for name, value in options.items()),
    }
    if os.path.lexists(made):
        with contextlib.suppress(InputError):  # it exists; what a killed process left beside it goes
            check_output(made)
        if not note.exists() or read_json_document(note, dict[str, Any], advice=f"remove it and {made}") != origin:
            raise InputError(f"{made}: exists already, of other files or options; remove it, or choose another output")
        return
    with hold(made, new=False):
        write_json(note, origin)
        try:
            done = convert_files(sources, made, workers=workers, progress=progress, **options)
        except InputError as error:
            if not isinstance(error, Unfinished):
                note.unlink()
            raise
    _tell(said, str(made), done, sources)


def _tell(said: Callable[[str], object] | None, made: str, done: Outcome, sources: Sequence[Source]) -> None:
    """Say what was converted, and which columns are what."""
    if said:
        said(f"{made}: {done.events} events of {', '.join(map(str, sources))}{roles(done)}")


def roles(done: Outcome) -> str:
    """Say of an `Outcome` which columns of a table are what, and which were left out, a line each.

    >>> from pipelines.jobs.chunks import Outcome
    >>> roles(Outcome(2, {}, {"features": ("x", "y"), "mass": ("mjj",), "weight": ()}))
    '\\n  features: x, y\\n  mass: mjj'
    """
    from pipelines.events.layout import some_of

    return "".join(f"\n  {what}: {some_of(names, 40)}" for what, names in done.columns.items() if names)


def with_defaults(source: Source, options: Mapping[str, object], defaults: Defaults | None) -> dict[str, Any]:
    """Return the options of a conversion, with the defaults that the family of a file has a place for.

    A column of truth or of weights that a table does not have is none of its defaults.
    """
    from pipelines import datasets
    from pipelines.datasets.find import find

    if defaults is None:
        return dict(options)
    path = find(source)
    name = str(options.get("format") or datasets.recognise(path))
    columns = _columns(path, options) if name == "table" else ()
    own = datasets.options_of(name)
    kept = {option: value for option, value in defaults(name, columns).items() if option in own}
    for option in ("label", "weight"):
        if name == "table" and kept.get(option) not in (None, *columns):
            del kept[option]
    return {**kept, **options}


def _columns(path: Path, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the columns of a table; none of one whose columns cannot be told, which conversion tells why."""
    from pipelines.datasets.table import column_names

    with contextlib.suppress(InputError):
        return column_names(path, options.get("columns"), options.get("tree"))
    return ()


def convert_files(
    sources: Sequence[Source],
    out: Source,
    *,
    format: str | None = None,
    workers: int = 1,
    scheduler: Any = None,
    progress: Progress | None = None,
    **options: Any,
) -> Outcome:
    """Convert files or published names to one events file, credited to those who made them; return the outcome.

    As `pipelines.datasets.convert`, whose options these are, with names of the catalog as sources.

    Raises `InputError` as `pipelines.datasets.convert`, and if `out` exists.
    """
    from pipelines import datasets
    from pipelines.datasets.catalog import credit
    from pipelines.datasets.find import find
    from pipelines.jobs.chunks import check_output

    check_output(out)
    paths = [find(source) for source in sources]
    name = format or datasets.recognise(paths[0])
    if "license" in datasets.options_of(name):
        options |= credit(sources[0])
    return datasets.convert(paths, out, format=name, workers=workers, scheduler=scheduler, progress=progress, **options)


# -- frames in memory -------------------------------------------------------------------------------


def _is_frame(data: object) -> bool:
    """Whether it is a pandas DataFrame or an Arrow table, neither of which is imported here."""
    return hasattr(data, "to_parquet") or (hasattr(data, "column_names") and hasattr(data, "to_batches"))


def _of_frame(frame: Any, defaults: Defaults | None, options: Mapping[str, Any]) -> Events:
    """The events of a frame, by the rules of a table of the same columns."""
    import pyarrow
    import pyarrow.parquet

    of_pandas = hasattr(frame, "to_parquet")
    for place, kind in enumerate(frame.dtypes if of_pandas else ()):
        if kind.kind == "O" and mixes_truth(frame.iloc[:, place]):  # Arrow would make 1 of True
            raise InputError(
                f"the frame: column {frame.columns[place]!r} has numbers and truth values, expected one kind"
            )
    try:
        table = pyarrow.Table.from_pandas(frame, preserve_index=False) if of_pandas else frame
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError, ValueError) as error:
        raise InputError(f"the frame cannot be read as columns of numbers: {' '.join(str(error).split())}") from None
    with tempfile.TemporaryDirectory(prefix="hep-anomaly-zoo-") as folder:
        path = Path(folder) / "frame.parquet"
        pyarrow.parquet.write_table(table, path)
        options = with_defaults(path, {**options, "format": "table"}, defaults)
        if "mass" not in options:
            raise InputError('a frame needs the column of its masses, as in pipelines.open(frame, mass="mjj")')
        try:
            convert_files([path], Path(folder) / "events.h5", **options)
        except InputError as error:
            raise InputError(str(error).replace(str(path), "the frame")) from None
        return Events.from_file(Path(folder) / "events.h5").in_memory()
