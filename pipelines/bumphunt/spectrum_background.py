"""The spectrum and the background that a bump hunt is given: from files, columns, arrays, or by a fit."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from pipelines.arguments import argument
from pipelines.bumphunt.background_fit import Background, FittedBackground, GivenBackground, SlidingWindow
from pipelines.bumphunt.fit_functions import FAMILIES, FUNCTIONS, Array
from pipelines.bumphunt.spectrum_options import SpectrumOptions
from pipelines.errors import InputError
from pipelines.spectrum_files import MassSpectrum
from pipelines.spectrum_files import read as read_spectrum

EVENTS_PER_PARAMETER = 10  # at least, of a fit


def opened(
    spectrum: object, edges: ArrayLike | None, column: str | None, mass_range: tuple[float, float] | None
) -> MassSpectrum:
    """Return the bins within a range of a file, a `hist` object, or an array; raises `InputError` if it is no spectrum."""
    if isinstance(spectrum, (str, os.PathLike)):
        return read_spectrum(spectrum, column, mass_range)
    found = spectrum if isinstance(spectrum, MassSpectrum) else _of_object(spectrum, edges, mass_range)
    return found if mass_range is None else found.within(mass_range)


def _of_object(spectrum: object, edges: ArrayLike | None, mass_range: tuple[float, float] | None) -> MassSpectrum:
    if edges is None:
        from pipelines.histograms import from_hist

        one = from_hist(spectrum, mass_range=mass_range)
        if len(one) != 1:
            raise InputError(f"{len(one)} histograms, expected one")
        bins = int(one.bins[0])
        return MassSpectrum("histogram", "counts", one.edges[0, : bins + 1], one.counts[0, :bins], {})
    counts, borders = np.asarray(spectrum, np.float64), np.asarray(edges, np.float64)
    if counts.ndim != 1 or borders.shape != (len(counts) + 1,) or not (np.diff(borders) > 0).all():
        raise InputError(
            f"spectrum of shape {counts.shape} with edges of shape {borders.shape}, expected (B,) and (B + 1,), rising"
        )
    return MassSpectrum("spectrum", "counts", borders, counts, {})


def background_of(spectrum: MassSpectrum, options: SpectrumOptions) -> tuple[Background, str]:
    """Return the background that the options ask for, and what they call it."""
    asked = options.background
    if isinstance(asked, str) and asked in {*FAMILIES, *FUNCTIONS}:
        if options.normalise:
            raise InputError(f"normalise is for a background that is given; {asked} is fitted")
        return _fitted(spectrum, asked, options), asked
    if options.sliding_window is not None or options.exclude is not None:
        what = "sliding window" if options.sliding_window is not None else "excluded range"
        raise InputError(f"a {what} is for a fitted background, not for {_called(asked)}")
    events, name = given_events(spectrum, asked)
    unexpected = (events == 0) & (spectrum.counts > 0)
    if unexpected.any():
        bad = int(np.flatnonzero(unexpected)[0])
        raise InputError(
            f"background {name!r}: 0 in the bin {spectrum.edges[bad]:g} to {spectrum.edges[bad + 1]:g}, where "
            f"{spectrum.counts[bad]:g} events are observed; take another range ({argument('mass_range')}), or wider bins"
        )
    return GivenBackground(events, name, normalise=options.normalise), name


def _fitted(spectrum: MassSpectrum, kind: str, options: SpectrumOptions) -> Background:
    if options.sliding_window is not None:
        if options.exclude is not None:
            raise InputError("a sliding window with an excluded range is not offered; give one of both")
        return SlidingWindow(spectrum.edges, kind, options.sliding_window, sqrt_s=options.sqrt_s)
    used = np.ones(len(spectrum.counts), bool)
    if options.exclude is not None:
        low, high = options.exclude
        used = (spectrum.edges[1:] <= low) | (spectrum.edges[:-1] >= high)
        if used.all():
            raise InputError(
                f"exclude {low:g} to {high:g}: no bin there; the spectrum is from {spectrum.edges[0]:g} to "
                f"{spectrum.edges[-1]:g}"
            )
    background = FittedBackground(spectrum.edges, kind, sqrt_s=options.sqrt_s, used=used)
    events, least = spectrum.counts[used].sum(), EVENTS_PER_PARAMETER * background.functions[0].parameters
    if events < least:
        raise InputError(
            f"{spectrum.source}: {events:g} events to fit {background.functions[0].name} to, expected at least {least}; "
            f"give a background ({argument('background')}: a column or a file), or a function with fewer parameters"
        )
    return background


def enough(background: Background, counts: Array, window: slice) -> bool:
    """Whether without a window of bins more are left than parameters, a third of those fitted, and events.

    Of a given background something has to be expected in those that are left.
    """
    left = background.used.copy()
    left[window] = False
    most, something = 1, True
    if isinstance(background, GivenBackground):
        something = bool(background.events[left].any())
    elif isinstance(background, (FittedBackground, SlidingWindow)):
        functions = background.functions
        most = max(function.parameters for function in functions)
        most = background.bins - 1 if isinstance(background, SlidingWindow) else most
        something = bool(counts[left].sum() >= EVENTS_PER_PARAMETER * functions[0].parameters)
    return something and bool(left.sum() > max(most, background.used.sum() / 3))


def _called(asked: object) -> str:
    return repr(str(asked)) if isinstance(asked, (str, os.PathLike)) else "an array"


def given_events(spectrum: MassSpectrum, asked: object) -> tuple[Array, str]:
    """Return the events (B,) of a background that is a column, a file, or an array, and what it is called.

    Raises `InputError` for what is none of these, and for other bins.
    """
    if not isinstance(asked, (str, os.PathLike)):
        events = np.asarray(asked, np.float64)
        if events.shape != spectrum.counts.shape:
            raise InputError(
                f"background of shape {events.shape}, expected one number for each of the {len(spectrum.counts)} bins"
            )
        return events, "given"
    name = str(asked)
    if name in spectrum.columns:
        return spectrum.columns[name], name
    if os.path.isfile(name):
        return _of_file(spectrum, name), Path(name).name
    there = ", ".join([*spectrum.columns]) or "none"
    raise InputError(
        f"background {name!r}: no function, no column of {spectrum.source}, no file; functions are "
        f"{', '.join([*FAMILIES, *FUNCTIONS])}; columns {there}"
    )


def _of_file(spectrum: MassSpectrum, path: str) -> Array:
    near = 1e-6 * float(spectrum.edges[1] - spectrum.edges[0])
    other = read_spectrum(path, None, (float(spectrum.edges[0]) - near, float(spectrum.edges[-1]) + near))
    if len(other.edges) != len(spectrum.edges) or not np.allclose(other.edges, spectrum.edges, rtol=1e-6):
        raise InputError(f"{path}: its bins are not those of {spectrum.source}; give the background in the same bins")
    return other.counts
