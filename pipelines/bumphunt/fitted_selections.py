"""The selected spectra of a search hunted with a fitted background, instead of the spectrum before the cut."""

from __future__ import annotations

import numpy as np

from pipelines.arguments import argument
from pipelines.bumphunt.options import SearchOptions
from pipelines.bumphunt.result import Search
from pipelines.bumphunt.spectrum import histogram
from pipelines.bumphunt.spectrum_hunt import bumphunt
from pipelines.bumphunt.spectrum_options import PSEUDO_EXPERIMENTS
from pipelines.bumphunt.spectrum_result import SpectrumHunt
from pipelines.errors import InputError
from pipelines.spectrum_files import MassSpectrum


def check_fitted(weight: np.ndarray | None, options: SearchOptions) -> None:
    """Raise `InputError` for weighted events, whose sums are no Poisson numbers.

    >>> check_fitted(None, SearchOptions(background="dijet3"))
    """
    if options.background != "spectrum" and weight is not None and np.ptp(weight) > 0:
        raise InputError(
            f"background {options.background!r} is fitted to numbers of events, and these have weights; take background "
            f"'spectrum', or ignore the weights ({argument('ignore_weights', True)})"
        )


def fitted_hunts(search: Search, options: SearchOptions) -> tuple[SpectrumHunt, ...]:
    """Return for every bump of a search the hunt in its selected spectrum with the background that the options name.

    The spectra are in equal bins, not merged, and so are the widths of windows. There are at most 10,000 pseudo-experiments,
    in each of which the fit is repeated.

    Raises:
        InputError: as `pipelines.bumphunt.spectrum_hunt.bumphunt`, such as for too few events.
    """
    found = []
    for bump in search.hunt.bumps:
        edges = np.linspace(*search.ranges[bump.spectrum], options.bins + 1)
        counts = histogram(search.masses[bump.spectrum][search.selected(bump)], edges).content
        name = f"{bump.spectrum}, percentile {bump.percentile:g}, {bump.tail} tail"
        found.append(
            bumphunt(
                MassSpectrum(f"selected events in {name}", name, edges, counts, {}),
                options.background,
                widths=options.widths,
                pseudo_experiments=min(options.pseudo_experiments, PSEUDO_EXPERIMENTS),
                seed=options.seed,
                deficit=options.deficit,
            )
        )
    return tuple(found)
