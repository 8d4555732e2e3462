"""A table of scores: a row for each signal, model and channel of events, its parts, and the models side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from pipelines.errors import InputError

WORKING_POINTS = (1e-2, 1e-3, 1e-4)
FIGURES = ("AUC", "1e-2", "1e-3", "1e-4")  # of merit, as the columns are called

Pair = tuple[str, str]  # a signal in a channel


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of a challenge: `signal`, `model` and `channel`, (N,) str; `values` and `errors`, (N, 4) as `FIGURES`.

    NaN is a value that was not measured, or an error that is not known.

    >>> table = Table(*(np.array([x]) for x in ("stop", "VAE", "1")), np.full((1, 4), 0.5), np.full((1, 4), np.nan))
    >>> len(table), table.models, table.pairs
    (1, ('VAE',), (('stop', '1'),))
    """

    signal: np.ndarray
    model: np.ndarray
    channel: np.ndarray
    values: np.ndarray
    errors: np.ndarray

    def __len__(self) -> int:
        return len(self.signal)

    @property
    def models(self) -> tuple[str, ...]:
        """The models, in order of their first rows."""
        return tuple(dict.fromkeys(self.model.tolist()))

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The signals in their channels, in order of their first rows."""
        return tuple(dict.fromkeys(zip(self.signal.tolist(), self.channel.tolist())))

    def select(
        self,
        *,
        models: Iterable[str] | None = None,
        signals: Iterable[str] | None = None,
        channels: Iterable[str] | None = None,
    ) -> Table:
        """Return the rows of these models, signals and channels; raises `InputError` for a name that is in no row."""
        kept = np.ones(len(self), bool)
        for what, column, wanted in (
            ("model", self.model, models),
            ("signal", self.signal, signals),
            ("channel", self.channel, channels),
        ):
            if wanted is not None:
                kept &= np.isin(column, known(what, column, wanted))
        if not kept.any():
            raise InputError("no row has these models, signals and channels together; ask for fewer things at once")
        return Table(*(getattr(self, field.name)[kept] for field in dataclasses.fields(self)))


def known(what: str, column: np.ndarray, wanted: Iterable[str]) -> list[str]:
    """Return the names that are wanted; raises `InputError` for one that is not in the column."""
    wanted = list(wanted)
    there = dict.fromkeys(column.tolist())
    for name in wanted:
        if name not in there:
            some = ", ".join(list(there)[:5]) + (", ..." if len(there) > 5 else "")
            raise InputError(f"{what} {name!r}: in no row of the table; there are {some}")
    return wanted


def cube(table: Table, numbers: np.ndarray) -> np.ndarray:
    """Return (N, 4) numbers of rows as (models, pairs, 4), NaN where there is no row."""
    model = {name: i for i, name in enumerate(table.models)}
    pair = {name: i for i, name in enumerate(table.pairs)}
    rows = [model[name] for name in table.model.tolist()]
    columns = [pair[name] for name in zip(table.signal.tolist(), table.channel.tolist())]
    found = np.full((len(model), len(pair), len(FIGURES)), np.nan)
    found[rows, columns] = numbers
    return found


def complete(table: Table, there: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, list[Pair]]]:
    """Return the models and pairs to compare, and what others lack, from where (models, pairs) there is a value.

    Only models with the same signals can be compared: an easy signal left out would raise a mean. A pair that no
    model has a value for, such as 1e-4 in a channel with too little background, is not asked of any.
    """
    pairs = np.asarray(there.any(axis=0))
    models = np.asarray(there[:, pairs].all(axis=1) & pairs.any())
    lack = {
        table.models[m]: [pair for pair, asked, has in zip(table.pairs, pairs, there[m]) if asked and not has]
        for m in np.flatnonzero(~models)
    }
    return models, pairs, lack
