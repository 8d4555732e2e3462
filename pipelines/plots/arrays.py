"""What the figures ask of the arrays they are given, and the quantiles of one standard deviation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from pipelines.errors import InputError

ONE_SIGMA = 0.6826894921370859  # probability within one standard deviation
TAILS = ((1 - ONE_SIGMA) / 2, (1 + ONE_SIGMA) / 2)  # the 16th and the 84th percentile


Given = TypeVar("Given")


def named(what: str, values: Mapping[str, Given]) -> Mapping[str, Given]:
    """Return the arrays; raises `InputError` if there are none, or one has no name."""
    if not values or not all(isinstance(name, str) and name for name in values):
        raise InputError(f"{what}: {list(values)}, expected at least one, each with a name")
    return values


def finite(name: str, values: np.ndarray) -> np.ndarray:
    """Return an array of any shape as float64; raises `InputError` if it is empty or has NaN or infinite values."""
    values = _numbers(name, values)
    if not values.size:
        raise InputError(f"{name}: no events, expected at least one; leave it out")
    bad = np.count_nonzero(~np.isfinite(values))
    if bad:
        raise InputError(f"{name}: {bad} of {values.size} values are NaN or infinite, expected finite ones")
    return values


def of_events(name: str, values: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
    """Return (N,) values as `finite` does; raises `InputError` for another shape, or another N than that of `like`."""
    values = _numbers(name, values)
    if values.ndim != 1 or (like is not None and values.shape != like.shape):
        expected = "(N,)" if like is None else f"{like.shape}"
        raise InputError(f"{name}: shape {values.shape}, expected {expected}, one number for each event")
    return finite(name, values)


def increasing(name: str, values: np.ndarray) -> np.ndarray:
    """Return (N,) values as `of_events` does; raises `InputError` unless each is larger than the one before."""
    values = of_events(name, values)
    if len(values) < 2 or np.any(np.diff(values) <= 0):
        raise InputError(f"{name}: {len(values)} values, expected at least two that increase")
    return values


def _numbers(name: str, values: np.ndarray) -> np.ndarray:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name}: {type(values).__name__}, expected an array of numbers") from None
