"""From the scores of the models of all windows to p-values: local ones, and a global one that knows how many windows there are.

**The local p-value** of a window compares the events that its cut selects with what is expected of background there, known
to an error (`backgrounds.log_p_value`).

**The global p-value** is the share of pseudo-experiments whose smallest local p-value, of all windows and percentiles, is as
small as the smallest of the data. What is repeated in each is the count and the estimate of the background, not the
training. The model of a window has not seen the events that it scores. It is assumed that its scores know no more of
the fluctuations of these events than of others.

- "spectrum": which events are selected is dealt anew among the masses, all windows together: an event that the models of
  several windows select is selected by all of them in its new place too. So neighbouring windows are as correlated as they
  are. It assumes that the rank of a background event's score among those of its mass does not depend on the mass.
- other backgrounds, and windows with side bands of their own width: Poisson numbers around what is expected in every cell, or in the window, for every window by itself. Where
  windows overlap there are fewer independent ones, so the global p-value is too large rather than too small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipelines.arguments import argument
from pipelines.bumphunt.bump_hunt import significance
from pipelines.bumphunt.fitted_scan import significance_of_log
from pipelines.bumphunt.pseudo_experiments import estimated
from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.window_scan.backgrounds import Cells, Ranked, Selected, local_p_value, log_p_value, select
from pipelines.window_scan.options import Window, WindowScanOptions, is_dealt
from pipelines.window_scan.result import Scored, WindowFound, WindowScan

BLOCK = 2**23  # numbers of pseudo-experiments in memory at a time
MOST_FITS = 2_000  # pseudo-experiments in which a function is fitted
ROUNDED = 1e-6  # difference of logarithms of p-values that are taken as equal


def window_scan(
    windows: Sequence[Window],
    scored: Sequence[Scored],
    events: Events,
    options: WindowScanOptions,
    *,
    configuration: Mapping[str, object] | None = None,
    said: Sequence[str] = (),
) -> WindowScan:
    """Select events in every window, and say how likely background alone has so many.

    Args:
        windows: that were scanned. scored: the scores of every window's model, of all events.
        events: within the mass range; labels only judge what was found.
        configuration: what was done, for the record. said: of windows left out.

    Raises:
        InputError: for events whose weights differ, scores that are not finite or (nearly) constant, or a background that
            cannot be estimated.
    """
    mass = events.mass.astype(np.float64)
    if not options.ignore_weights and events.has("weight") and np.ptp(events.weight) > 0:
        raise InputError(
            f"a scan of windows counts events, and these have weights; ignore them with {argument('ignore_weights', True)}"
        )
    cells = Cells.between(list(windows), mass, options.bins)
    ranked = [Ranked.of(one.score, one.template, options.seed) for one in scored]
    selections = [
        select(window, percentile, one, mass, cells, options)
        for window, one in zip(windows, ranked)
        for percentile in options.several_percentiles
    ]
    label = events.label if events.has_labels and not options.ignore_labels else None
    logs = log_p_value(*np.array([(one.events, one.expected, one.error) for one in selections]).T)
    found = [_found(one, log_p, mass, label, events) for one, log_p in zip(selections, logs.tolist())]
    n = min(options.pseudo_experiments, MOST_FITS) if selections[0].fit is not None else options.pseudo_experiments
    minima = _smallest(selections, cells, n, options)
    p_value, bound = estimated(int((minima <= logs.min() + ROUNDED).sum()), n)
    return WindowScan(
        windows=tuple(found),
        global_p_value=p_value,
        global_p_value_is_bound=bound,
        global_significance=significance(p_value),
        trials_factor=None if bound else p_value / min(one.local_p_value for one in found),
        pseudo_experiments=n,
        minima=local_p_value(minima),
        events=events,
        scored=tuple(scored),
        selections=tuple(selections),
        options=options,
        configuration=dict(configuration or {}),
        said=tuple(said),
    )


def _found(one: Selected, log_p: float, mass: np.ndarray, label: np.ndarray | None, events: Events) -> WindowFound:
    """Return what one cut finds in its window."""
    inside = one.window.inside(mass)
    selected = inside & one.chosen
    n, excess = one.events, one.events - one.expected
    estimate = None
    if excess > 0:
        moment = mass[selected].sum() - one.expected * mass[inside].mean()
        estimate = float(np.clip(moment / excess, one.window.low, one.window.high))
    return WindowFound(
        window=(one.window.low, one.window.high),
        side_bands=(one.window.outer_low, one.window.outer_high),
        percentile=one.percentile,
        threshold=one.threshold,
        events=int(inside.sum()),
        selected_events=int(n),
        expected=one.expected,
        expected_error=one.error,
        signal_estimate=excess,
        mass_estimate=estimate,
        local_p_value=float(local_p_value(log_p)),
        local_significance=significance_of_log(log_p),
        reference_p_value=one.describes,
        truth=None if label is None else _judged(label, inside, selected, events),
    )


def _judged(label: np.ndarray, inside: np.ndarray, selected: np.ndarray, events: Events) -> dict[str, object]:
    """Return with labels how many of each there are in the window, and are selected there."""
    names = events.about.label_names
    return {
        str(k): {
            "name": names.get(k, "background" if k == 0 else f"signal {k}"),
            "events": int((inside & (label == k)).sum()),
            "selected": int((selected & (label == k)).sum()),
        }
        for k in np.unique(label).tolist()
    }


def _smallest(selections: Sequence[Selected], cells: Cells, n: int, options: WindowScanOptions) -> np.ndarray:
    """Return the logarithm of the smallest local p-value of n pseudo-experiments, (n,)."""
    rng = np.random.default_rng([options.seed, 3])
    dealt = is_dealt(options)
    picked = [np.flatnonzero(one.chosen) for one in selections]
    union = np.unique(np.concatenate(picked)) if dealt else np.empty(0, int)
    places = [np.searchsorted(union, one) for one in picked] if dealt else []
    many, home = len(cells.events), cells.of[cells.of >= 0]
    block = max(1, BLOCK // max(len(union), many, 1))
    smallest = np.zeros(n)
    for start in range(0, n, block):
        size = min(block, n - start)
        if dealt:
            new = [rng.choice(len(home), len(union), replace=False) for _ in range(size)]
            where = home[np.stack(new)]
        for index, one in enumerate(selections):
            counts = _counted(where[:, places[index]], many) if dealt else _thrown(one, size, many, rng)
            observed = counts[one.inside].sum(axis=0)
            log_p = log_p_value(observed, *one.expect(counts))
            smallest[start : start + size] = np.minimum(smallest[start : start + size], log_p)
    return smallest


def _counted(where: np.ndarray, cells: int) -> np.ndarray:
    """Return how often each cell is among those of T pseudo-experiments (T, M), as (C, T)."""
    size = len(where)
    flat = (where + cells * np.arange(size)[:, None]).ravel()
    return np.bincount(flat, minlength=cells * size).reshape(size, cells).T.astype(np.float64)


def _thrown(one: Selected, size: int, cells: int, rng: np.random.Generator) -> np.ndarray:
    """Return Poisson numbers around what is expected in every cell, (C, T), or in the window alone, with its error."""
    if one.shape is not None:
        return rng.poisson(np.maximum(one.shape, 0.0)[:, None], (cells, size)).astype(np.float64)
    counts = np.zeros((cells, size))
    truth = np.maximum(rng.normal(one.expected, one.error, size), 0.0)
    counts[np.flatnonzero(one.inside)[0]] = rng.poisson(truth)
    return counts
