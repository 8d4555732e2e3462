"""Signal injected into a selection of a hunt, thousands of spectra at a time: how much of it would be found?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.polynomial.legendre import legvander
from numpy.typing import ArrayLike

from pipelines.bumphunt.bump_scan import bump_scan
from pipelines.bumphunt.discovery_reach import (
    REPEATS,
    DiscoveryReach,
    GlobalSignificance,
    check_signal,
    core_of,
    default_events,
    mass_estimates,
    reach_of,
    row_of,
)
from pipelines.bumphunt.mass_cut import bin_masses, degree_of, refitted
from pipelines.bumphunt.options import BumpHuntOptions
from pipelines.bumphunt.pseudo_experiments import shuffled
from pipelines.bumphunt.selection import equal_edges, expected, ranges_of
from pipelines.bumphunt.spectrum import histogram
from pipelines.bumphunt.spurious_signal import gaussian_shape
from pipelines.errors import InputError

PSEUDO_EXPERIMENTS = 10_000  # of background alone


class _Drawn:
    """Selected spectra of background and signal, drawn as a hunt deals them, and scanned."""

    def __init__(self, mass: np.ndarray, options: BumpHuntOptions, at: float, width: float, rng: np.random.Generator):
        percentile = options.several_percentiles[0]
        self.options, self.rng = options, rng
        edges = equal_edges("mass", mass, ranges_of({"mass": mass}, options.mass_range)["mass"], options.bins)
        self.before, self.share = histogram(mass, edges), 1 - percentile / 100
        self.total = int(self.before.content.sum())
        merged, _, self.widths = expected("mass", "upper", self.before, self.total, options, percentile)
        self.edges = merged.edges
        self.merge = (np.searchsorted(self.edges, (edges[1:] + edges[:-1]) / 2) - 1) == np.arange(len(merged.content))[
            :, None
        ]
        degree = degree_of(merged, self.widths) if options.cut == "mass" else 0
        self.basis = legvander(bin_masses(self.before), degree) if degree else None
        self.shape = gaussian_shape(edges, at, width)

    def selected(self, events: int) -> int:
        """How many events are selected if so many of signal are added."""
        return int(self.share * (self.total + events))

    def scanned(self, events: int, number: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Return log p-values (T,) of the best windows of so many spectra, their ends, and the mass estimates.

        All signal is selected. A threshold that follows the mass is fitted to each, to first order.
        """
        cells = self.before.content.astype(np.int64)
        signal = self.rng.multinomial(events, np.r_[self.shape, max(0.0, 1 - self.shape.sum())], number).T[:-1]
        wanted = self.selected(events) - events
        chosen = shuffled(cells, np.array([wanted]), number, self.rng)[0] + signal
        there = cells + np.rint(events * self.shape).astype(np.int64)
        if self.basis is not None:
            weights = np.ones(len(cells))
            chosen = refitted(chosen.astype(float), there, weights, self.basis, self.rng)
        contents, reference = self.merge @ chosen.astype(float), self.merge @ (cells + events * self.shape)
        best = bump_scan(contents, reference, widths=self.widths, side_band=self.options.side_band)
        bins = np.arange(len(reference))[:, None]
        inside = (bins >= best.start) & (bins < best.start + best.width)
        normalisation = np.where(inside, 0, contents).sum(axis=0) / (~inside * reference[:, None]).sum(axis=0)
        masses = mass_estimates(self.edges, contents - normalisation * reference[:, None], best.start, best.width)
        ends = self.edges[best.start], self.edges[best.start + best.width]
        return best.log_p_value, ends, masses


def selection_reach(
    mass: ArrayLike,
    options: BumpHuntOptions,
    *,
    at: float,
    width: float,
    events: Sequence[int] | None = None,
    repeats: int = REPEATS,
    seed: int = 0,
) -> DiscoveryReach:
    """Return how much selected signal a hunt finds in one selection.

    For every spectrum the selection is permuted among the events, as in the pseudo-experiments. Gaussian signal is
    added, all of which is selected. The score plays no part. It is `spectrum_injection` without its events: many
    spectra at a time.

    Args:
        mass: (N,) GeV, of data or background. options: of the hunt: one percentile, the Poisson statistic, an excess.
        at, width: mean and standard deviation of the signal's mass, GeV. events: numbers of selected signal events; by
            default nine of them, up to 12 standard deviations of the background selected.
        repeats: spectra of each. seed: of all that is drawn.

    Raises:
        InputError: for other options, a signal outside of the spectrum, numbers that fill the selection, and as `bump_hunt`.

    Example:
        >>> mass = 2700 + np.random.default_rng(0).exponential(500, 20_000)
        >>> options = BumpHuntOptions(percentiles=95, mass_range=(2700, 5000), pseudo_experiments=500)
        >>> found = selection_reach(mass, options, at=3500, width=80, repeats=100)
        >>> 20 < found.reach["global"]["3"]["events"] < 150
        True
    """
    if options.deficit or options.statistic != "poisson" or len(options.several_percentiles) > 1:
        raise InputError("the discovery reach is of one percentile, the Poisson statistic and an excess")
    if isinstance(options.mass_range, Mapping):
        raise InputError("the discovery reach is of one spectrum, with one mass range")
    mass = np.asarray(mass, np.float64)
    rng = np.random.default_rng([seed, 8])
    drawn = _Drawn(mass, options, at, width, rng)
    check_signal(at, width, events, repeats, (float(drawn.edges[0]), float(drawn.edges[-1])))
    background = core_of(drawn.before.edges, drawn.share * drawn.before.content, at, width)
    numbers = [n for n in default_events(background) if n < drawn.selected(n) / 2] if events is None else sorted(events)
    if max(numbers) >= drawn.selected(max(numbers)):
        raise InputError(f"{max(numbers)} signal events fill the selection of {drawn.selected(0)}; expected fewer")
    judged = GlobalSignificance(-drawn.scanned(0, options.pseudo_experiments)[0].round(6))
    rows = [row_of(n, background, *drawn.scanned(n, repeats), at, judged) for n in numbers]
    return DiscoveryReach(float(at), float(width), repeats, background, tuple(rows), reach_of(rows))
