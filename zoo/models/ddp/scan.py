"""Scans of many spectra by a network: the most significant bump of each, and its global p-value.

**Global p-values.** If the largest significance of k of n background-only spectra is as large, the global p-value is
(k + 1) / (n + 1) (Phipson and Smyth 2010, doi 10.2202/1544-6115.1585): the trials factor of bins and widths is in it.
These n spectra are one of two things.

- *Pseudo-experiments* of each spectrum: Poisson numbers around a smooth curve through it. Whatever bias the network has for
  spectra of this shape and these numbers of events is in it, but a curve that was fitted to the data stands for the true
  background (a parametric bootstrap), and n of each are too many to look at for a small p-value.
- A *table*, made once: spectra that the generator of the training draws without signal. It costs nothing for a further
  spectrum, since the network gives numbers that mean the same in all of them. It holds on average over such spectra: one
  unlike them, or of a kind for which the network is biased, has another distribution.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.checksums import create, store
from pipelines.errors import InputError
from pipelines.events.layout import open_hdf5
from pipelines.histograms import Histograms
from pipelines.outputs import new_disk

TOGETHER = 4096  # pseudo-experiments that are looked at in one call
FIRST = 2**41  # the number of a table's first draw: no training comes so far
DRAWN = 1000  # spectra of a table that are drawn at a time
TIE = 1e-4  # sigma: by so much two programs may differ on the same spectrum, which then counts as one as large


@dataclasses.dataclass(frozen=True)
class Scanned:
    """The most significant bump of each of N spectra.

    Attributes:
        significance: (N,) the largest over bins and widths: local. bin: its place. mass: the middle of that bin.
        width: of the Gaussian, in the unit of the mass. width_in_bins: the one of those asked for.
        per_bin: (N, B), the largest over widths at every bin, NaN beyond a spectrum's own bins.
        global_p_value: (N,) (k + 1) / (n + 1), k the number of the n background-only spectra whose largest significance
            is as large; None without. global_p_value_is_bound: (N,) none was: the p-value is below that.
        pseudo_experiments: n, of each spectrum, or the number of spectra in the table.
    """

    significance: np.ndarray
    bin: np.ndarray
    mass: np.ndarray
    width: np.ndarray
    width_in_bins: np.ndarray
    per_bin: np.ndarray
    global_p_value: np.ndarray | None
    global_p_value_is_bound: np.ndarray | None
    pseudo_experiments: int

    @property
    def toys(self) -> int:
        """The old name of `pseudo_experiments`, deprecated."""
        warnings.warn("Scanned.toys is pseudo_experiments now", DeprecationWarning, stacklevel=2)
        return self.pseudo_experiments

    def file_p_value(self) -> tuple[float, bool]:
        """Return the global p-value of the most significant of all N spectra, and whether it is a bound.

        1 - (1 - p)^N, p the smallest (Sidak 1967, doi 10.1080/01621459.1967.10482935), for spectra of different events.
        """
        p_values: Any = self.global_p_value
        is_bound: Any = self.global_p_value_is_bound
        best = int(np.argmin(p_values))
        p = -math.expm1(len(p_values) * math.log1p(-min(p_values[best], 1 - 1e-16)))
        return p, bool(is_bound[best])


def needed(p_value: float, spectra: int = 1) -> int:
    """Return how many background-only spectra it takes that the least p-value of so many spectra can be as small.

    1 - (1 - 1 / (n + 1))^N <= p.

    >>> needed(0.00135), needed(0.05, spectra=1000)
    (740, 19496)
    """
    return math.ceil(-1 / math.expm1(math.log1p(-p_value) / spectra) - 1e-9) - 1


# -- tables of background alone --------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Table:
    """Largest significances of background-only spectra, by one network and the same widths: what p-values are read from.

    Attributes:
        significance: (n,) rising. widths: in bins. seed: of the spectra. network: SHA-256 of the model, see `digest`.

    Example:
        >>> table = Table(np.arange(1.0, 100.0), (1.0,), seed=0, network="")
        >>> p_value, is_bound = table.p_values(np.array([0.0, 99.0, 100.0]))
        >>> p_value.tolist(), is_bound.tolist()
        ([1.0, 0.02, 0.01], [False, False, True])
    """

    significance: np.ndarray
    widths: tuple[float, ...]
    seed: int
    network: str

    def __len__(self) -> int:
        return len(self.significance)

    def p_values(self, significance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return global p-values (N,), (k + 1) / (n + 1), k of n being as large; and which are bounds: no one is."""
        k = len(self) - np.searchsorted(self.significance, np.asarray(significance) - TIE)
        return (k + 1) / (len(self) + 1), k == 0

    def check(self, model, widths: Sequence[float], source: str = "table") -> None:
        """Raise `InputError` naming what of the table is not of this model and these widths."""
        if self.network != digest(model):
            raise InputError(f"{source} is of another network or training; make one with this model, in a new file")
        if self.widths != tuple(map(float, widths)):
            raise InputError(f"{source} is of widths {_list(self.widths)}, expected {_list(widths)}; make one of these")

    def write(self, path: str | os.PathLike) -> None:
        """Write it to an HDF5 file, whole or not at all, over what was there."""
        with new_disk(path, replace=True) as disk, create(disk) as file:
            store(file, "significance", self.significance)
            file.attrs.update(widths=self.widths, seed=self.seed, network=self.network)

    @classmethod
    def read(cls, path: str | os.PathLike) -> Table:
        """Return what `write` wrote; raises `InputError` for any other file."""
        with open_hdf5(path) as file:
            try:
                about = dict(file.attrs)
                values, widths = file["significance"][()], tuple(map(float, about["widths"]))
                found = cls(np.asarray(values, np.float32), widths, int(about["seed"]), str(about["network"]))
            except (KeyError, TypeError, ValueError, AttributeError, OSError):
                found = None
        if found is None or found.significance.ndim != 1 or not (np.diff(found.significance) >= 0).all():
            raise InputError(f"{path}: no table of background-only spectra; give another file, in which one is made")
        return found


def digest(model) -> str:
    """Return the SHA-256 of a model's weights and hyperparameters, those of its generator among them."""
    found = hashlib.sha256(json.dumps(model.get_config(), sort_keys=True).encode())
    for weight in model.own_state()["trainable"]:
        found.update(np.ascontiguousarray(weight.numpy(), "<f4").tobytes())
    return found.hexdigest()


def make_table(
    model,
    widths: Sequence[float] = (1.0, 2.0, 3.0),
    n: int = 10_000,
    *,
    seed: int = 0,
    jit_compile: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Table:
    """Return the table of n background-only spectra that the generator of the model's training draws.

    Args:
        model, widths, jit_compile, progress: as for `scan`. seed: of the spectra, none of which comes in any training.

    Raises `InputError` for n below 1, and as `scan`.
    """
    if n < 1:
        raise InputError(f"n={n} background-only spectra are not possible; expected 1 or more, such as 10000")
    generator, found = dataclasses.replace(model.generator.background_only(), seed=seed), []
    for start in range(0, n, DRAWN):
        drawn = generator.draw(min(DRAWN, n - start), FIRST + start // DRAWN).histograms
        found.append(_largest(model.significances(drawn, widths, jit_compile=jit_compile, planned=n)))
        if progress is not None:
            progress(start + len(drawn), n)
    return Table(np.sort(np.concatenate(found)), tuple(map(float, widths)), seed, digest(model))


def kept_table(model, path: str | os.PathLike, widths: Sequence[float], n: int, *, seed: int = 0, **options) -> Table:
    """Return the table of a file, which is made and written if there is no such file; options as for `make_table`.

    Raises `InputError` if the file is a table of another network, other widths, another seed or number of spectra.
    """
    if not os.path.lexists(path):
        table = make_table(model, widths, n, seed=seed, **options)
        Path(path).parent.mkdir(exist_ok=True)  # of a run, the first table makes its folder
        table.write(path)
        return table
    table = Table.read(path)
    table.check(model, widths, f"{path}: the table")
    if (len(table), table.seed) != (n, seed):
        raise InputError(
            f"{path}: the table is of {len(table)} spectra of seed {table.seed}, expected {n} of seed {seed}; give a new "
            f"file, or what it is of"
        )
    return table


def place_of_table(run: str | os.PathLike, model, widths: Sequence[float], n: int, seed: int) -> Path:
    """Return where in its run directory a model's table is kept: a name for every network, widths, number and seed."""
    about = json.dumps([digest(model), list(map(float, widths)), n, seed])
    return Path(run) / "calibration" / f"{hashlib.sha256(about.encode()).hexdigest()[:16]}.h5"


def _list(widths) -> str:
    return ", ".join(f"{width:g}" for width in widths)


def _largest(per_width: np.ndarray) -> np.ndarray:
    return np.nanmax(per_width, axis=(0, 2))


# -- scans -----------------------------------------------------------------------------------------------


def scan(
    model,
    histograms: Histograms,
    widths: Sequence[float] = (1.0, 2.0, 3.0),
    *,
    pseudo_experiments: int = 0,
    table: Table | None = None,
    seed: int = 0,
    jit_compile: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
    toys: int | None = None,
) -> Scanned:
    """Return the most significant bump of every spectrum, over bins and widths.

    Args:
        model: with `significances` and `background`, as `ddp`. histograms: N of them.
        widths: standard deviations of the Gaussian, in bins.
        pseudo_experiments: of each spectrum, for global p-values; 0 for none. seed: of these. toys: its old name,
            deprecated.
        table: take global p-values from this one instead, see `make_table`.
        jit_compile: whether XLA compiles programs first; by default where that saves time.
        progress: a function that is called with the numbers of spectra (done, all).

    Raises `InputError` for no widths, for pseudo-experiments and a table, for a table of another network or other widths, and as
    `model.significance` does.
    """
    if toys is not None:
        warnings.warn("toys is called pseudo_experiments now", DeprecationWarning, stacklevel=3)
        pseudo_experiments = toys
    widths = tuple(widths)
    if not widths:
        raise InputError("widths is empty, expected one standard deviation at least, in bins, such as 1.5")
    if table is not None:
        if pseudo_experiments:
            raise InputError(
                f"pseudo_experiments={pseudo_experiments} and a table are two ways to global p-values; give one"
            )
        table.check(model, widths)
    options = {"jit_compile": jit_compile, "planned": len(histograms) * (pseudo_experiments + 1)}
    per_width = model.significances(histograms, widths, **options)
    best = np.where(histograms.mask, per_width.max(axis=0), -np.inf)
    bin_, rows = best.argmax(1), np.arange(len(histograms))
    largest = best[rows, bin_]
    chosen = np.asarray(widths, float)[per_width[:, rows, bin_].argmax(axis=0)]
    p_value = bound = None
    if pseudo_experiments:
        exceeding = _exceeding(model, histograms, widths, largest, pseudo_experiments, seed, progress, options)
        p_value, bound = (exceeding + 1) / (pseudo_experiments + 1), exceeding == 0
    elif table is not None:
        p_value, bound = table.p_values(largest)
    return Scanned(
        significance=largest,
        bin=bin_,
        mass=histograms.centres[rows, bin_],
        width=chosen * histograms.bin_widths[rows, bin_],
        width_in_bins=chosen,
        per_bin=np.where(histograms.mask, best, np.nan),
        global_p_value=p_value,
        global_p_value_is_bound=bound,
        pseudo_experiments=pseudo_experiments if table is None else len(table),
    )


def _exceeding(model, histograms, widths, largest, pseudo_experiments, seed, progress, options) -> np.ndarray:
    """How many of each spectrum's pseudo-experiments (N,) have a largest significance that is as large as its own."""
    curves, found = np.nan_to_num(model.background(histograms)), np.empty(len(histograms), int)
    order, together = np.argsort(histograms.bins, kind="stable"), max(1, TOGETHER // pseudo_experiments)
    for start in range(0, len(order), together):
        rows = order[start : start + together]
        counts = [
            _thrown(curves[i], pseudo_experiments, np.random.default_rng([seed, i]), histograms.names[i]) for i in rows
        ]
        thrown = histograms.take(np.repeat(rows, pseudo_experiments))
        thrown = dataclasses.replace(thrown, counts=np.concatenate(counts)[:, : thrown.counts.shape[1]])
        maxima = _largest(model.significances(thrown, widths, **options)).reshape(-1, pseudo_experiments)
        found[rows] = (maxima >= largest[rows, None] - TIE).sum(1)
        if progress is not None:
            progress(start + len(rows), len(order))
    return found


def _thrown(curve: np.ndarray, pseudo_experiments: int, rng: np.random.Generator, name: str) -> np.ndarray:
    try:
        return rng.poisson(curve, (pseudo_experiments, len(curve))).astype(float)
    except ValueError:  # 10^19 or more are expected, far beyond what is in the spectrum
        raise InputError(
            f"histogram {name}: no smooth curve goes through it; give a range without empty stretches"
        ) from None
