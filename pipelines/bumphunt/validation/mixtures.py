"""Signal mixed into background at a given S/B."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.events.mixing import mix


def contaminated(background: Events, signal: Events, s_over_b: float, seed: int = 0) -> Events:
    """Return all of the background with signal in it, S/B of their numbers; labels 0 and 1, to judge by.

    Of one seed, the signal of a small ratio is part of that of a larger one. Raises `InputError` for a ratio below 0,
    or more signal than there is.

    >>> import pipelines
    >>> test = pipelines.open("lhco_sim_test")
    >>> mixed = contaminated(test.select(label=0), test.select(label=1), 0.0025)
    >>> np.bincount(mixed.label).tolist()
    [4000, 10]
    """
    background = background.select(label=0) if background.has_labels else background
    signal = signal_of(signal)
    wanted = signal_events(background, signal, s_over_b)
    if not wanted:
        return background
    chosen = signal.take(np.random.default_rng([seed, 4]).permutation(len(signal))[:wanted])
    return mix(background, chosen, wanted / len(background) * (1 - 1e-9))  # a hair less: int() rounds down in `mix`


def check_ratios(
    background: Events, signal: Events, ratios: Sequence[float], mass_range: tuple[float, float] | None = None
) -> None:
    """Raise `InputError` if one of several S/B cannot be had, so that none is found so after hours of training.

    As `contaminated` of events within the mass range, GeV, if there is one.

    >>> import pipelines
    >>> test = pipelines.open("lhco_sim_test")
    >>> check_ratios(test.select(label=0), test.select(label=1), [0, 0.01])
    """
    if not len(ratios):
        raise InputError("no S/B, expected one at least, such as 0.0025")
    background, signal = within(mass_range, background, signal)
    background, signal = background.select(label=0) if background.has_labels else background, signal_of(signal)
    for ratio in ratios:
        signal_events(background, signal, ratio)


def within(ends: tuple[float, float] | None, *parts: Events) -> tuple[Events, ...]:
    """Return the events of every part within a range of the mass, GeV, if there is one."""
    return parts if ends is None else tuple(part.select(mass_range=(ends[0], ends[1])) for part in parts)


def signal_of(events: Events) -> Events:
    """Return the signal among labelled events, or all of those without labels."""
    if not events.has_labels:
        return events
    if not (is_signal := events.label > 0).any():
        raise InputError(f"{events.name}: no signal among its {len(events)} events, all have label 0")
    return events if is_signal.all() else events.take(is_signal)


def signal_events(background: Events, signal: Events, s_over_b: float) -> int:
    """Return how many signal events make an S/B; raises `InputError` if there are not so many."""
    if not (np.isfinite(s_over_b) and s_over_b >= 0):
        raise InputError(f"S/B {s_over_b}, expected a number >= 0, such as 0.0025")
    wanted = round(s_over_b * len(background))
    if wanted > len(signal):
        raise InputError(
            f"{signal.name}: S/B {s_over_b:g} of {len(background)} events asks for {wanted}, it has {len(signal)}"
        )
    if s_over_b > 0 and not wanted:
        raise InputError(
            f"S/B {s_over_b:g} of {len(background)} background events is no signal event; give more background"
        )
    return wanted
