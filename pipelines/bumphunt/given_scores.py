"""Scores that one already has, as a model that can be searched with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.events.files import is_number


class GivenScores:
    """Scores that are there already, as a model that `pipelines.search` takes.

    Args:
        scores: (N,) one for every event of the data, in their order; higher is more anomalous.
        name: what the report calls them.

    Raises `InputError` if they are no numbers, or not one an event.

    >>> GivenScores([0.5, 2.0]).of(np.array([1])).scores
    array([2.])
    """

    loaded_from = None

    def __init__(self, scores: Sequence[float] | np.ndarray, name: str = "given scores"):
        if np.ma.is_masked(scores):
            raise InputError(f"{name}: masked in part, expected one score for each event")
        try:
            self.scores = np.asarray(scores)
            if self.scores.dtype.kind not in "biuf":
                raise TypeError
            self.scores = self.scores.astype(np.float64)
        except (TypeError, ValueError):
            raise InputError(f"{name}: no array of numbers, expected one score for each event") from None
        if self.scores.ndim != 1:
            raise InputError(f"{name}: shape {self.scores.shape}, expected (N,), one score for each event")
        self.zoo_name = name

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> GivenScores:
        """Read the `score` that `zoo score` writes, HDF5 or CSV, or the numbers of a NumPy or text file, one an event."""
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path}: no such file, expected scores as `zoo score` writes them, or .npy, or .csv")
        if path.suffix == ".npy":
            return cls(_loaded(path), str(path))
        if path.suffix in (".h5", ".hdf5"):
            from pipelines.events.hdf5_files import check_stored, reading_hdf5

            with reading_hdf5(path) as file:
                if "score" not in file:
                    raise InputError(f"{path}: no dataset 'score', found {', '.join(sorted(file)) or 'nothing'}")
                if isinstance(file["score"], h5py.Dataset):
                    check_stored(file["score"], path)
                return cls(file["score"][()], str(path))
        try:
            lines = path.read_text().split("\n")
            start = 0 if is_number(lines[0]) else 1  # names of the columns
            lines, names = [line for line in lines[start:] if line.strip()], lines[0].split(",") if start else []
            if "score" in names:
                lines = [line.split(",")[names.index("score")] for line in lines]
            return cls([float(line) for line in lines], str(path))
        except (ValueError, IndexError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: {error}; expected one score in each line") from None

    def check(self, events: Events) -> GivenScores:
        """Return the scores; raises `InputError` unless there is one for each of the events."""
        if len(self.scores) != len(events):
            raise InputError(
                f"{self.zoo_name}: {len(self.scores)} scores for {len(events)} events of {events.name}, expected one for each, "
                f"in their order"
            )
        return self

    def of(self, rows: np.ndarray) -> GivenScores:
        """Return the scores of some rows."""
        return GivenScores(self.scores[rows], self.zoo_name)

    def score(self, events: Events) -> np.ndarray:
        """Return the scores, which are those of these events; raises `InputError` for NaN or infinite ones."""
        bad = np.count_nonzero(~np.isfinite(self.check(events).scores))
        if bad:
            raise InputError(f"{self.zoo_name}: {bad} of {len(events)} scores are NaN or infinite, expected numbers")
        return self.scores


def _loaded(path: Path) -> np.ndarray:
    try:
        return np.load(path)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: no NumPy array of numbers ({' '.join(str(error).split())})") from None


def as_scores(model: object) -> object:
    """Return a model as it is, and an array, a list or a column of scores as `GivenScores`.

    >>> as_scores([0.5, 2.0]).zoo_name
    'given scores'
    """
    if callable(model) or callable(getattr(model, "score", None)):
        return model
    is_array = isinstance(model, (list, tuple, np.ndarray)) or hasattr(model, "__array__")
    return GivenScores(model) if is_array else model  # type: ignore[arg-type]
