"""What the documents of a search hold: schemas for `pipelines.documents`, and reading a trial's record.

The files are described in `tuning.session` and `tuning.trial`. Names that are not here may be there too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from typing_extensions import NotRequired, TypedDict

from pipelines.documents import DataDescription, check_row, read_json_document, shown
from pipelines.errors import InputError

Count = Annotated[int, Field(ge=0, lt=2**31)]
Number = float | None  # None for what is not finite
WIDTH = 4  # digits of a trial's name at least, however many trials there are
Budget = Annotated[int, Field(ge=1, lt=2**31)]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[\w-]+$")]  # of a trial, part of a file's name


Rows = list[Annotated[dict[str, Any], AfterValidator(check_row)]]


class Record(TypedDict):
    """ID.json, a finished trial."""

    trial: Name
    status: Literal["COMPLETED", "FAILED"]
    objective: Number
    metrics: dict[str, Number]
    hyperparameters: dict[str, Any]
    epochs: Count
    initial_epoch: NotRequired[Count]
    message: NotRequired[str | None]
    bracket: NotRequired[Count]
    round: NotRequired[Count]
    place: NotRequired[Count]
    promoted_from: NotRequired[Name | None]
    seconds: NotRequired[Annotated[float, Field(ge=0)]]


class Planned(TypedDict):
    """ID.planned.json, a trial that was promoted."""

    values: dict[str, Any]
    place: Count
    round: Count


class History(TypedDict):
    """ID.history.json."""

    rows: Rows
    members: NotRequired[list[dict[str, Any]]]


class Partial(TypedDict):
    """ID.partial.json, a trial that was begun."""

    spec: dict[str, Any]
    epochs: Count
    state: Annotated[str, Field(pattern=r"^[\w-]+\.partial[01]\.h5$")]
    rows: Rows
    members: list[dict[str, Any]]
    seconds: Annotated[float, Field(ge=0)]
    times: NotRequired[dict[str, float]]


class Names(TypedDict):
    """How the trials of a search are named: digits at least, and how many in the order of their start."""

    width: Annotated[int, Field(ge=1, le=20)]
    in_order: Count


Interval = Annotated[list[float], Field(min_length=2, max_length=2)]


class Judges(TypedDict):
    """The events that judge trials."""

    source: str
    events: Count


class Template(TypedDict):
    """Events of background that a signal region is compared with."""

    source: str
    in_window: Count


class Extra(TypedDict, total=False):
    """What else the configuration of the best run says."""

    mass_range: Interval | None


class Parent(TypedDict):
    """Which values of which other name let a name be drawn."""

    name: str
    values: list[Any]


class Condition(TypedDict):
    """A condition, as KerasTuner writes it."""

    config: Parent


class SpaceConfig(TypedDict):
    """A name of a search space: a range, or its values."""

    name: str
    min_value: NotRequired[float]
    max_value: NotRequired[float]
    sampling: NotRequired[str | None]
    values: NotRequired[list[Any]]
    conditions: NotRequired[list[Condition] | None]


class SpaceEntry(TypedDict):
    """A name of a search space, as KerasTuner writes it."""

    class_name: str
    config: SpaceConfig


class Asked(TypedDict):
    """search.json."""

    model: str
    objective: str
    trials: Budget
    budgets: NotRequired[list[Budget]]
    names: NotRequired[Names]
    fixed: NotRequired[dict[str, Any]]
    max_epochs: NotRequired[Count]
    factor: NotRequired[Count]
    seed: NotRequired[Count]
    space: NotRequired[list[SpaceEntry]]
    data: NotRequired[DataDescription]
    validation: NotRequired[Judges | None]
    window: NotRequired[Interval | None]
    sidebands: NotRequired[Annotated[list[float | None], Field(min_length=2, max_length=2)] | None]
    template: NotRequired[Template | None]
    extra: NotRequired[Extra]
    algorithm: NotRequired[str]
    preset: NotRequired[str | None]
    command: NotRequired[str]
    versions: NotRequired[dict[str, str]]
    plan: NotRequired[list[str]]


class Table(TypedDict):
    """results.json."""

    exhausted: NotRequired[bool]
    budgets: NotRequired[list[Budget]]
    names: NotRequired[Names]


def numbered(name: str) -> tuple[int, str]:
    """Return what names of trials are sorted by: as numbers, though there may be more of them than their digits allow.

    >>> sorted(["10", "9", "100"], key=numbered), sorted(["0010", "0009"], key=numbered)
    (['9', '10', '100'], ['0009', '0010'])
    """
    return len(name), name


def read_record(path: Path, terms: Iterable[str] = (), needed: Iterable[str] = ()) -> dict[str, Any]:
    """Return a trial's record.

    Args:
        path: of the file. terms: of the objective, which a trial that has not failed needs as numbers.
        needed: names that must be there beside those that always are.

    Raises `InputError` if it is not one.
    """
    record: Any = read_json_document(path, Record)
    if missing := [name for name in needed if name not in record]:
        raise InputError(f"{path}: no {missing[0]} in it")
    if record["trial"] != path.name.partition(".")[0]:
        raise InputError(f"{path}: trial is {shown(record['trial'])}, expected the name of the file")
    if record["status"] == "COMPLETED":
        _check_merits(path, record, ["objective"])
        _check_merits(path, record["metrics"], ["objective", *terms])
    return dict(record)


def damaged(path: Path, error: InputError) -> str:
    """Return that a file is damaged, and why, from what refuses it."""
    return f"{path}: damaged ({str(error).removeprefix(f'{path}: ')})"


def _check_merits(path: Path, metrics: Mapping[str, Any], names: list[str]) -> None:
    for name in names:
        value = metrics.get(name)
        if value is None or not math.isfinite(value):
            raise InputError(f"{path}: {name} of a completed trial is {shown(value)}, expected a number")
