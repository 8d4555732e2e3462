"""Signal injected into the background of a spectrum: each spectrum is fitted and scanned as the data are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.bumphunt.background_fit import poisson_spectra
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
from pipelines.bumphunt.fitted_scan import scan
from pipelines.bumphunt.spectrum_result import SpectrumHunt
from pipelines.bumphunt.spurious_signal import gaussian_shape
from pipelines.errors import InputError


def spectrum_reach(
    found: SpectrumHunt,
    mass: float,
    width: float,
    events: Sequence[float] | None = None,
    *,
    repeats: int = REPEATS,
    seed: int | None = None,
) -> DiscoveryReach:
    """Inject a Gaussian signal into the background of a hunt: how much of it would have been found?

    Spectra are Poisson numbers around the background that was expected, without the bump if that was left out of a second fit,
    and the signal. The background is fitted to each. Mass estimates are of this fit, which the signal pulls.

    Args:
        found: a hunt in a spectrum. mass, width: mean and standard deviation of the signal, in the unit of the edges.
        events: numbers of signal events. By default nine of them, from 0 to 12 standard deviations of the background
            within 1.4 standard deviations of the mass.
        repeats: spectra of each number. seed: by default that of the hunt.

    Raises:
        InputError: for a hunt for deficits, a signal outside of the spectrum, and numbers that cannot be.

    Example:
        >>> from pipelines.bumphunt.spectrum_hunt import bumphunt
        >>> counts = np.random.default_rng(1).poisson(1000 * np.exp(-np.arange(30) / 10))
        >>> found = bumphunt(counts, "exp1", edges=np.arange(100, 131), widths=(1, 5), pseudo_experiments=200)
        >>> reach = spectrum_reach(found, 115, 1, repeats=50)
        >>> 20 < reach.reach["local"]["3"]["events"] < 120
        True
    """
    edges = found.edges
    check_signal(mass, width, events, repeats, (float(edges[0]), float(edges[-1])))
    if found.mode == "deficit":
        raise InputError("a signal is injected, and the hunt looked for a deficit; hunt without it")
    background = core_of(edges, found.expected, mass, width)
    judged = GlobalSignificance(found.toys)
    shape = gaussian_shape(edges, mass, width)
    rng = np.random.default_rng([found.seed if seed is None else seed, 7])
    rows = []
    for number in default_events(background) if events is None else sorted(events):
        counts = poisson_spectra(found.fit, found.expected + number * shape, repeats, rng)
        expected = found.fit.fit(counts).expected
        best = scan(counts, expected, widths=found.widths, normalise=found.normalised)
        ends = edges[best.start], edges[best.start + best.width]
        masses = mass_estimates(edges, counts - expected, best.start, best.width)
        rows.append(row_of(number, background, best.log_p_value, ends, masses, mass, judged))
    return DiscoveryReach(float(mass), float(width), repeats, background, tuple(rows), reach_of(rows))
