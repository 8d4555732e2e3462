"""Total improvements: what each model's best cut for a signal does for its significance."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from pipelines.errors import InputError
from pipelines.leaderboard.table import WORKING_POINTS, Pair, Table, complete, cube


@dataclasses.dataclass(frozen=True)
class Improvements:
    """Total improvements: `best` and its `error`, (models, signals), and where: `channel`, `working_point`.

    `left_out` are models that cannot be compared, with the pairs of signal and channel that they lack.
    """

    models: tuple[str, ...]
    signals: tuple[str, ...]
    best: np.ndarray
    error: np.ndarray
    channel: np.ndarray
    working_point: np.ndarray
    left_out: dict[str, list[Pair]]

    @property
    def minimum(self) -> np.ndarray:
        """The smallest over signals, (models,)."""
        return self.best.min(axis=1)

    @property
    def median(self) -> np.ndarray:
        """The median over signals, (models,)."""
        return np.median(self.best, axis=1)

    @property
    def maximum(self) -> np.ndarray:
        """The largest over signals, (models,)."""
        return self.best.max(axis=1)

    def order(self) -> np.ndarray:
        """Return the places of the models by falling median, equals by the maximum, then by name."""
        return np.lexsort((np.array(self.models), -self.maximum, -self.median))


def improvements(table: Table) -> Improvements:
    """Total improvement of each model for each signal: the largest eps_S / sqrt(eps_B), arXiv 2105.14027 figs. 18 to 21.

    The maximum is over the three working points and over all channels that the signal is in. It is what a cut there
    would multiply S / sqrt(B) by. The largest of several measured numbers is biased upwards by their errors.

    Raises `InputError` if no model has a value for every signal in every channel of the table.

    >>> where = [np.array(x) for x in (["stop", "stop"], ["VAE", "VAE"], ["1", "3"])]
    >>> found = improvements(Table(*where, np.array([[0.8, 0.3, 0.1, 0.01], [0.9, 0.2, 0.1, 0.05]]), np.zeros((2, 4))))
    >>> found.best.round(6).tolist(), found.channel.tolist(), found.working_point.tolist()
    ([[5.0]], [['3']], [[0.0001]])
    """
    points = np.array(WORKING_POINTS)
    gain, error = (cube(table, numbers)[:, :, 1:] / np.sqrt(points) for numbers in (table.values, table.errors))
    models, pairs, lack = complete(table, np.isfinite(gain).any(axis=2))
    if not models.any():
        raise InputError(_nobody(table, lack))
    gain, error = gain[models][:, pairs], error[models][:, pairs]
    rows, where = np.arange(len(gain)), np.array(table.pairs)[pairs]
    signals = tuple(dict.fromkeys(where[:, 0].tolist()))
    found = []
    for signal in signals:
        mine = where[:, 0] == signal
        options = gain[:, mine].reshape(len(gain), -1)  # channel by channel, the working points of each
        channel, point = np.unravel_index(np.nanargmax(options, axis=1), (mine.sum(), len(points)))
        best, spread = (x[:, mine][rows, channel, point] for x in (gain, error))
        found.append((best, spread, where[mine, 1][channel], points[point]))
    best, error, channel, point = (np.stack(column, axis=1) for column in zip(*found))
    return Improvements(tuple(np.array(table.models)[models].tolist()), signals, best, error, channel, point, lack)


def _nobody(table: Table, lack: Mapping[str, Sequence[Pair]]) -> str:
    model, pairs = min(lack.items(), key=lambda item: len(item[1]), default=("", ()))
    if not pairs:
        return "the table has no signal efficiency at all; expected numbers in the columns 1e-2, 1e-3 or 1e-4"
    return (
        f"no model has all {len(table.pairs)} pairs of signal and channel; {model} comes nearest and lacks {len(pairs)}, "
        f"such as {' in channel '.join(pairs[0])}; compare fewer channels, signals or files"
    )
