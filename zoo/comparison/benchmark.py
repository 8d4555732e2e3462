"""Models x data x S/B x seeds: every cell is trained once and kept, and the table is made of all of them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from pipelines import provenance
from pipelines.checksums import digest
from pipelines.documents import read_json_document
from pipelines.errors import InputError
from pipelines.jobs.chunks import identity
from pipelines.jobs.executors import open_workers
from pipelines.outputs import check_new, hold, write_json
from zoo.comparison import summary
from zoo.comparison.cells import parts_of, recipe, work
from zoo.comparison.specification import FILES, Cell, Specification, read
from zoo.printed import as_html

SPECIFICATION = "benchmark.json"  # by which the folder of a benchmark is known


class Kept(TypedDict):
    """cells/DIGEST.json, a finished cell."""

    cell: dict[str, Any]
    result: dict[str, Any]
    versions: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What a benchmark found.

    Attributes:
        rows: of the table, see `zoo.comparison.summary.rows`. cells: (cell, result) of every training.
        failed: cell and message of those that failed. folder: where all is written.
    """

    rows: Sequence[Mapping[str, Any]]
    cells: Sequence[tuple[Cell, Mapping[str, Any]]]
    failed: Sequence[tuple[Cell, str]]
    folder: Path

    def to_dict(self) -> dict[str, object]:
        """Return the table and what failed, ready for JSON."""
        failed = [{**cell.to_dict(), "message": message} for cell, message in self.failed]
        return {"folder": str(self.folder), "rows": list(self.rows), "cells": len(self.cells), "failed": failed}

    def __str__(self) -> str:
        lines = [summary.text(self.rows)]
        lines += [f"Failed: {_said(cell)}: {message}" for cell, message in self.failed]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return as_html(str(self))


def benchmark(
    specification: str | os.PathLike[str] | Mapping[str, Any],
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    workers: int = 1,
    scheduler: Any = None,
    said: Callable[[str], object] | None = None,
) -> Benchmark:
    """Train every model on every mixture of a benchmark, judge them on other events, and write one table.

    Args:
        specification: a YAML file, or the same as a dict (see `zoo.comparison.specification`).
        out: folder, in which is written: `cells/`, one JSON file for each training, as soon as it is finished;
            `table.csv`, `table.md` and `results.json`; `sic_*.png`, significance improvement with median and 68 % band and its
            floor; `significance_*.png`, if hunts were asked for; `challenge.csv`, of data with a channel.
        resume: go on with what is in `out`, or begin. Cells that the file no longer asks for stay, and are not in the table.
        workers, scheduler: who trains (see `pipelines.jobs.executors.open_workers`). said: is told of every cell.

    Raises:
        InputError: before anything is trained, for a file that cannot be, models that cannot be made, events that cannot be
            opened, S/B that ask for more signal than there is; if `out` is there, without `resume`.

    A training that fails by an `InputError` is in `failed`, and is tried again by the next `resume`.

    Example:
        `print(zoo.benchmark("benchmark.yaml", "compared"))`
    """
    wanted, out = read(specification), Path(out)
    if not (resume and _is_begun(out)):
        check_new(out, unless=SPECIFICATION if resume else None)
    _check(wanted)
    tell = said or (lambda text: None)
    out.mkdir(parents=True, exist_ok=True)
    with hold(out / SPECIFICATION, new=False):
        write_json(out / SPECIFICATION, {"document": wanted.document, "command": provenance.command()})
        (out / "cells").mkdir(exist_ok=True)
        results = dict(_kept(wanted.cells, out))
        missing = [(i, (cell,)) for i, cell in enumerate(wanted.cells) if i not in results]
        if results:
            tell(f"{len(results)} of {len(wanted.cells)} cells are finished")
        if missing:
            with open_workers(workers, scheduler) as pool:
                for i, result in pool.map(work, missing):
                    results[i] = result
                    _keep(wanted.cells[i], result, out)
                    tell(f"{len(results)} of {len(wanted.cells)}: {_said(wanted.cells[i])}{_in_short(result)}")
        cells = [(cell, results[i]) for i, cell in enumerate(wanted.cells)]
        found = Benchmark(
            summary.rows([pair for pair in cells if "failed" not in pair[1]]), cells,
            [(cell, result["failed"]) for cell, result in cells if "failed" in result], out,
        )  # fmt: skip
        summary.write(found.rows, [pair for pair in cells if "failed" not in pair[1]], out, found.to_dict())
    return found


def _is_begun(out: Path) -> bool:
    """Whether a folder has nothing in it yet but what is hidden: the command was killed before it wrote anything."""
    return out.is_dir() and all(path.name.startswith(".") for path in out.iterdir())


def _said(cell: Cell) -> str:
    return f"{cell.model}, {cell.data}, S/B {cell.ratio:g}, seed {cell.seed}"


def _in_short(result: Mapping[str, Any]) -> str:
    return f": failed, {result['failed']}" if "failed" in result else f", {result['seconds']:.0f} s"


def _check(wanted: Specification) -> None:
    """Raise `InputError` for what cannot be done, before hours of training."""
    from pipelines.bumphunt.validation import signal_events
    from pipelines.metrics import warn_unweighted
    from zoo.models.idealised import Idealised

    _check_hunt(wanted)
    for cell in wanted.cells:
        if cell.seed == wanted.seeds[0] and cell.ratio == wanted.cells[0].ratio:
            model = recipe(cell).model()
            kind = cell.training.get("score_kind")
            if kind is not None and kind not in model.score_kinds:
                raise InputError(
                    f"{wanted.source}: {cell.model} has no score_kind {kind!r}; it has {', '.join(model.score_kinds)}"
                )
            if isinstance(model, Idealised):
                model.background()
    for data in wanted.document["data"].values():
        background, signal, *judging = parts_of(data)
        warn_unweighted(*judging)
        for ratio in wanted.document["s_over_b"]:
            signal_events(background, signal, ratio)


def _check_hunt(wanted: Specification) -> None:
    """Raise `InputError` for options of hunts that cannot be."""
    from pipelines.bumphunt.options import SearchOptions

    given = wanted.document.get("hunt") or {}
    known = {field.name for field in dataclasses.fields(SearchOptions)} - {"folds", "seed", "mass_range", "score_kind"}
    if unknown := [name for name in given if name not in known]:
        raise InputError(f"{wanted.source}: hunt has no option {unknown[0]!r} here; it has {', '.join(sorted(known))}")
    options: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    try:
        SearchOptions(**options)
    except (InputError, TypeError) as error:
        raise InputError(f"{wanted.source}: hunt: {error}") from None


def _place(cell: Cell, out: Path) -> Path:
    """The file of a cell: a digest of all that its result depends on, not of its names."""
    files = [file for name in ("background", "signal") for file in cell.events[name]]
    given = cell.training.get("set") or {}
    files += [given[name] for name in FILES if isinstance(given.get(name), str)]
    about = {
        **cell.to_dict(), "model": cell.training.get("model") or cell.model, "data": "",
        "files": [identity(file) for file in files if file and Path(file).exists()],
    }  # fmt: skip
    return out / "cells" / f"{digest(about)[:20]}.json"


def _kept(cells: Sequence[Cell], out: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the cells that are finished, by their places, but for those that failed."""
    for i, cell in enumerate(cells):
        path = _place(cell, out)
        if path.is_file():
            kept: Any = read_json_document(path, Kept, advice="damaged; remove it, and the cell is done again")
            if "failed" not in kept["result"]:
                yield i, kept["result"]


def _keep(cell: Cell, result: Mapping[str, Any], out: Path) -> None:
    write_json(_place(cell, out), {"cell": cell.to_dict(), "result": result, "versions": provenance.versions()})
