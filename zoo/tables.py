"""Tables of other packages in memory, whose columns go by their names: pandas, polars, Arrow, awkward, arrays of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.errors import InputError
from pipelines.events.files import mixes_truth

NO_NUMBERS = {"c": "complex", "M": "dates", "m": "times", "U": "text", "S": "text"}  # by the kind of a NumPy type


def column_names(table: object) -> list[str] | None:
    """Return the names of the columns of a table, None for other things.

    A table is a DataFrame of pandas or polars, an Arrow table, an awkward array of records, a NumPy array of records, or
    whatever gives itself to Arrow (`__arrow_c_stream__`, `__dataframe__`).

    >>> column_names(np.zeros(2, [("MET", "f4"), ("HT", "f4")])), column_names(np.zeros((2, 2)))
    (['MET', 'HT'], None)
    """
    if isinstance(table, np.ndarray):
        return None if table.dtype.names is None else list(table.dtype.names)
    if isinstance(table, Mapping):
        return None
    names = getattr(table, "column_names", None)  # of Arrow
    for other in ("columns", "fields"):  # of DataFrames, of awkward
        names = getattr(table, other, None) if names is None else names
    if names is not None and not callable(names) and hasattr(table, "__getitem__"):
        return list(names) or None
    converted = _through_arrow(table)
    return None if converted is None else list(converted.column_names)


def read_columns(table: Any, columns: Sequence[str], found: Sequence[str], what: str = "the frame") -> np.ndarray:
    """Return columns of a table by their names, (N, F) float32; it may have others.

    Args:
        table: as of `column_names`, which gave `found`. columns: that are wanted, in this order. what: it is, for messages.

    Raises `InputError` for a column that is missing, there twice, or no numbers.

    >>> table = np.array([(1.0, 2.0)], [("HT", "f4"), ("MET", "f4")])
    >>> read_columns(table, ["MET", "HT"], ["HT", "MET"])
    array([[2., 1.]], dtype=float32)
    """
    if missing := [name for name in columns if name not in found]:
        from pipelines.events.layout import some_of

        raise InputError(
            f"{what} has no column {', '.join(map(repr, missing[:10]))}; it has {some_of([*map(str, found)], 20)}"
        )
    if twice := [name for name in columns if list(found).count(name) > 1]:
        raise InputError(f"{what} has several columns {twice[0]!r}, expected one of each name")
    table = table if hasattr(table, "__getitem__") else _through_arrow(table)
    try:
        arrays = [np.asarray(table[name]) for name in columns]
        for name, array in zip(columns, arrays):
            if array.ndim != 1:
                raise TypeError(f"column {name!r} is no list of single numbers")
            if kind := NO_NUMBERS.get(array.dtype.kind):
                raise TypeError(f"column {name!r} is {kind}")
            if array.dtype.kind == "O" and any(isinstance(value, (str, bytes)) for value in array):
                raise TypeError(f"column {name!r} is text")  # which float32 would read
            if array.dtype.kind == "O" and mixes_truth(array):
                raise TypeError(f"column {name!r} has numbers and truth values")
        return np.stack([array.astype(np.float32) for array in arrays], axis=1)
    except (TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise InputError(f"the columns of {what} are no numbers ({text}); expected one number an event") from None


def _through_arrow(table: object) -> Any:
    """Return what Arrow makes of a table that gives itself to it, or None."""
    if hasattr(table, "__arrow_c_stream__"):
        import pyarrow

        return pyarrow.table(table)
    if hasattr(table, "__dataframe__"):
        from pyarrow import interchange

        return interchange.from_dataframe(table)
    return None
