"""Pseudo-experiments of a bump hunt: scores are shuffled among the events, and the results give p-values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.polynomial.legendre import legvander

from pipelines.bumphunt.fitted_scan import BestWindows
from pipelines.bumphunt.mass_cut import refitted, scaled_mass
from pipelines.bumphunt.selection import Selection
from pipelines.bumphunt.spectrum import bin_of

BLOCK = 2**22  # numbers of pseudo-experiments in memory at a time
WEIGHTS = 16  # distinct weights that are kept apart; more are grouped ...
RATIO = 1.5  # ... in classes whose largest weight is this times the smallest: 1.3 % of the variance is lost, at most


def pseudo_spectra(
    selections: Sequence[Selection],
    masses: Mapping[str, np.ndarray],
    edges: Mapping[str, np.ndarray],
    weight: np.ndarray | None,
    n: int,
    null: str,
    rng: np.random.Generator,
) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """Yield n pseudo-experiments in blocks: their columns, and for every selection its histograms (B, columns).

    Events of the same bins and weight are alike: they are one cell. Events that the same selections choose are one
    slice.
    """
    bins = {name: bin_of(mass, edges[name]) for name, mass in masses.items()}
    cell_of, cells, weights = cells_of(bins, weight)
    first = np.unique(cell_of, return_index=True)[1]
    example, slices = _slices_of(selections)
    choose = np.array([s.chosen[example] for s in selections])  # (selections, slices)
    slices, choose = slices[choose.any(axis=0)], choose[:, choose.any(axis=0)]
    bases = [_basis(s, bins[s.name][first], edges[s.name]) for s in selections]
    projections = [_projection(s, bins[s.name][first], edges[s.name], weights) for s in selections]
    block = max(1, BLOCK // (len(cells) * len(slices)))
    for start in range(0, n, block):
        columns = slice(start, min(start + block, n))
        draw = shuffled if null == "shuffled" else poisson_numbers
        drawn = draw(cells, slices, columns.stop - columns.start, rng)
        chosen = [drawn[mine].sum(axis=0).astype(np.float64) for mine in choose]
        if null == "shuffled":  # a threshold that follows the mass is fitted anew in each
            chosen = [
                numbers if basis is None else refitted(numbers, cells, weights, basis, rng)
                for numbers, basis in zip(chosen, bases)
            ]
        yield columns, [projection @ numbers for projection, numbers in zip(projections, chosen)]


def _slices_of(selections: Sequence[Selection]) -> tuple[np.ndarray, np.ndarray]:
    """Return an event of every slice, and how many each has: events of a slice are beyond the same cuts."""
    pattern = np.packbits(np.array([s.chosen for s in selections]), axis=0)
    _, example, slices = np.unique(pattern, axis=1, return_index=True, return_counts=True)
    return example, slices


def _basis(selection: Selection, bin_index: np.ndarray, edges: np.ndarray) -> np.ndarray | None:
    """Polynomials of t(m) at the cells' masses, (C, degree + 1), 0 outside the spectrum; None for a global cut."""
    if selection.curve is None:
        return None
    centres = (edges[1:] + edges[:-1]) / 2
    at_bins = legvander(scaled_mass(centres, (float(edges[0]), float(edges[-1]))), selection.curve.degree)
    basis: np.ndarray = np.concatenate([at_bins, np.zeros((1, at_bins.shape[1]))])[bin_index]
    return basis


def cells_of(bins: Mapping[str, np.ndarray], weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the cell of every event (N,), the number of events of every cell (C,), and their mean weight (C,)."""
    code = np.zeros(len(next(iter(bins.values()))), np.int64) if weight is None else _weight_class(weight)
    for bin_index in bins.values():
        code = code * (bin_index.max() + 1) + bin_index
    _, cell_of, cells = np.unique(code, return_inverse=True, return_counts=True)
    return cell_of, cells, np.bincount(cell_of, weight) / cells


def _weight_class(weight: np.ndarray) -> np.ndarray:
    distinct, index = np.unique(weight, return_inverse=True)
    if len(distinct) <= WEIGHTS:
        return index
    return np.unique(np.floor(np.log(np.maximum(weight, np.finfo(float).tiny)) / np.log(RATIO)), return_inverse=True)[1]


def _projection(selection: Selection, bin_index: np.ndarray, edges: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What an event of every cell, in bin `bin_index` (C,) of these edges, adds to the bins of a selection: (B, C)."""
    centres = np.r_[(edges[1:] + edges[:-1]) / 2, np.inf]  # last, what is outside
    merged = bin_of(centres, selection.before.edges)[bin_index]
    projection: np.ndarray = (merged == np.arange(len(selection.before.content))[:, None]) * weights
    return projection


def shuffled(cells: np.ndarray, slices: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Deal the events of cells (C,) to slices (S,) at random: numbers of events (S, C, n) with these sums.

    One multivariate hypergeometric number per slice, of what the slices before have left; cell by cell it is a
    hypergeometric number given those before.
    """
    left = np.repeat(cells[:, None], n, axis=1)
    numbers = np.empty((len(slices), *left.shape), np.int64)
    for drawn, size in zip(numbers, slices):
        others, wanted = left.sum(axis=0), np.full(n, size)
        for cell, there in enumerate(left):
            others -= there
            drawn[cell] = rng.hypergeometric(there, others, wanted)
            wanted -= drawn[cell]
        left -= drawn
    return numbers


def poisson_numbers(cells: np.ndarray, slices: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Poisson numbers (S, C, n) around the share of every slice (S,) in every cell (C,), as if that were known."""
    expected = slices[:, None, None] * (cells / cells.sum())[:, None]
    return rng.poisson(expected, (len(slices), len(cells), n))


def estimated(count: int, n: int) -> tuple[float, bool]:
    """The p-value when `count` of n pseudo-experiments are as extreme, and whether it is a bound.

    p = (count + 1) / (n + 1) (Phipson and Smyth 2010, doi 10.2202/1544-6115.1585): the data are one more dealing of the
    scores, as likely as those that were thrown. P(p <= a) <= a then, for every n; for count / n it is not.

    >>> estimated(3, 999), estimated(0, 999)
    ((0.004, False), (0.001, True))
    """
    return (count + 1) / (n + 1), count == 0


def count_together(minima: np.ndarray, observed: np.ndarray) -> int:
    """Count the pseudo-experiments whose smallest p-value over selections is as small as the observed one.

    minima (S, n): the statistic of S selections in n pseudo-experiments; observed (S,). The p-value of a selection is
    the rank of its statistic among all n and the observed one (Westfall and Young 1993). So selections compare as
    equals, however many windows they have. An observation beyond all pseudo-experiments has rank 1, and so have up to S
    of them, one a selection: their number is a bound then.
    """
    everything = np.concatenate([observed[:, None], minima], axis=1)
    ranks = np.array([np.searchsorted(np.sort(values), values, side="right") for values in everything]).min(axis=0)
    return int((ranks[1:] <= ranks[0]).sum())


def comparable(windows: BestWindows) -> np.ndarray:
    """log p-values (T,), rounded: what is equal must be so in whatever order it was summed."""
    logarithms: np.ndarray = windows.log_p_value.round(6)
    return logarithms
