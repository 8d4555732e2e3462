"""Signal added to the selected spectrum: what significance has how many events?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import norm

from pipelines.bumphunt.bump_hunt import BumpHunt, bump_hunt
from pipelines.bumphunt.bumphunter import inject_by_pybumphunter
from pipelines.bumphunt.discovery_reach import crossing
from pipelines.bumphunt.options import BumpHuntOptions, with_changes
from pipelines.bumphunt.selection import equal_edges, expected, ranges_of
from pipelines.bumphunt.spectrum import histogram
from pipelines.errors import InputError


def spectrum_injection(
    score: np.ndarray,
    mass: np.ndarray,
    options: BumpHuntOptions | None = None,
    *,
    at: float,
    width: float,
    yields: Sequence[int],
    repeats: int = 20,
    seed: int = 0,
    **changed: Any,
) -> list[dict[str, Any]]:
    """Add signal to the spectrum that is selected: what significance has how many events?

    The idea of pyBumpHunter's `signal_inject` (see `pybumphunter_injection`), in the statistics used here. For every
    repetition the scores are permuted among the events, so that no signal is among them. Gaussian masses are added with
    the highest score of all: the whole yield is selected. The model plays no part, so this is what the search could
    find at most.

    Args:
        score, mass: (N,), of data or of background. at, width: mean and standard deviation of the signal's mass, GeV.
        yields: numbers of selected signal events. repeats: data sets of each.
        options, changed: of the bump hunt, as for `bump_hunt`, by default with 1000 pseudo-experiments; one percentile
            and the upper tail are meant.

    Returns:
        For every yield, over the repetitions: `local` and `global` significance as [16 %, median, 84 %],
        `global_is_bound`, the share of them that are bounds, and `mass_bias`, median of mass estimate minus `at`, GeV.
        `found`, the share whose interval holds `at`.

    Raises:
        InputError: before any pseudo-experiment, for a width or yields that cannot be, and for a yield that fills the
            selection, so that no background is left in it; and as `bump_hunt`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> score, mass = rng.normal(size=20_000), 2700 + rng.exponential(500, 20_000)
        >>> options = {"percentiles": [95], "mass_range": (2700, 5000), "pseudo_experiments": 50}
        >>> weak, strong = spectrum_injection(score, mass, at=3500, width=80, yields=[0, 120], repeats=3, **options)
        >>> weak["local"][1] < strong["local"][1], strong["found"]
        (True, 1.0)
    """
    if not (width > 0 and np.isfinite([at, width]).all()) or not len(yields) or min(yields) < 0 or repeats < 1:
        raise InputError(
            f"signal of width {width:g} at {at:g} GeV, yields {list(yields)}, {repeats} repeats; expected a width > 0, "
            f"yields >= 0 and at least one of each"
        )
    options = with_changes(options or BumpHuntOptions(pseudo_experiments=1000), changed)
    score, mass = np.asarray(score, np.float64), np.asarray(mass, np.float64)
    _check_room(mass, yields, options)
    rows = []
    for events in sorted(yields):
        results = []
        for i in range(repeats):
            rng = np.random.default_rng([seed, i])  # the same background for every yield
            scores = np.r_[rng.permutation(score), np.full(events, score.max() + 1)]
            masses = np.r_[mass, rng.normal(at, width, events)]
            results.append(bump_hunt(scores, masses, options=options, seed=rng))
        rows.append({"events": int(events), **_of_many(results, at)})
    return rows


def _check_room(mass: np.ndarray, yields: Sequence[int], options: BumpHuntOptions) -> None:
    """Raise `InputError` if a yield, all of it within the range, is as many events as a cut selects, or more."""
    ranges = options.mass_range
    low, high = (ranges.get("mass") if isinstance(ranges, Mapping) else ranges) or (-np.inf, np.inf)
    there, most = np.count_nonzero((mass >= low) & (mass <= high)), max(yields)
    tightest = max(options.several_percentiles)
    selected = int((1 - tightest / 100) * (there + most))
    if there and most >= selected:
        raise InputError(
            f"yield {most}: percentile {tightest:g} selects {selected} of {there} events and these, so no background is "
            f"left beside the signal; expected fewer than {int(there * (100 - tightest) / tightest)} events, or a lower percentile"
        )


def _of_many(results: Sequence[BumpHunt], at: float) -> dict[str, Any]:
    bumps = [one.best for one in results]
    biases = [bump.mass_estimate - at for bump in bumps if bump.mass_estimate is not None]
    return {
        "local": np.quantile([bump.local_significance for bump in bumps], [0.16, 0.5, 0.84]).tolist(),
        "global": np.quantile([one.global_significance for one in results], [0.16, 0.5, 0.84]).tolist(),
        "global_is_bound": float(np.mean([one.global_p_value_is_bound for one in results])),
        "mass_bias": float(np.median(biases)) if biases else None,
        "found": float(np.mean([bump.interval is not None and bump.interval[0] <= at < bump.interval[1] for bump in bumps])),
    }  # fmt: skip


def pybumphunter_injection(
    score: np.ndarray,
    mass: np.ndarray,
    options: BumpHuntOptions | None = None,
    *,
    at: float,
    width: float,
    target: float = 2.0,
    seed: int = 0,
    **changed: Any,
) -> list[dict[str, Any]]:
    """Add signal to the spectrum that is selected, as `spectrum_injection` does, with pyBumpHunter's own `signal_inject`.

    The spectrum before the cut, scaled by the share selected and in the bins of a hunt, is the background; the signal is
    Gaussian.

    Args:
        score, mass, at, width: as for `spectrum_injection`. target: global significance at which it ends.
        options, changed: of the bump hunt, with one percentile; by default with 1000 pseudo-experiments.

    Returns:
        What `pipelines.bumphunt.bumphunter.inject_by_pybumphunter` does; `needed_yield` tells the yield.

    Raises:
        InputError: for several percentiles, Fisher's test, deficits, and as `bump_hunt`; for a signal outside the range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> score, mass = rng.normal(size=20_000), 2700 + rng.exponential(500, 20_000)
        >>> options = {"percentiles": 95, "mass_range": (2700, 5000), "pseudo_experiments": 200}
        >>> 20 < needed_yield(pybumphunter_injection(score, mass, at=3500, width=80, **options), "global", 2) < 200
        True
    """
    options = with_changes(options or BumpHuntOptions(pseudo_experiments=1000), {**changed, "seed": seed})
    percentiles = options.several_percentiles
    if options.deficit or options.statistic != "poisson" or len(percentiles) > 1:
        raise InputError(
            "pyBumpHunter's signal_inject has the Poisson statistic and one percentile, and adds an excess"
        )
    if not (target > 0 and width > 0 and np.isfinite([at, width, target]).all()):
        raise InputError(
            f"target {target:g}, signal of width {width:g} at {at:g} GeV; expected numbers, the first two above 0"
        )
    score, mass = np.asarray(score), np.asarray(mass, np.float64)
    edges = equal_edges("mass", mass, ranges_of({"mass": mass}, options.mass_range)["mass"], options.bins)
    before = histogram(mass, edges)
    _, selected, widths = expected("mass", "upper", before, before.content.sum(), options, *percentiles)
    signal = np.diff(norm.cdf(selected.edges, at, width))
    step = max(1.0, target * np.sqrt(selected.content @ (signal > 0.1 * signal.max())) / 8)
    return inject_by_pybumphunter(
        signal, selected.content, target=target, step=step, widths=widths, side_band=options.side_band,
        pseudo_experiments=options.pseudo_experiments, seed=seed,
    )  # fmt: skip


def needed_yield(rows: Sequence[Mapping[str, Any]], kind: str, target: float) -> float | None:
    """Return the events at which the median `local` or `global` significance of rows is a target, between rows linearly.

    None if it is in no row.

    >>> rows = [{"events": 0, "local": [0, 0.5, 1]}, {"events": 20, "local": [1, 1.5, 2]}]
    >>> needed_yield(rows, "local", 1.0), needed_yield(rows, "local", 2.0)
    (10.0, None)
    """
    return crossing([row["events"] for row in rows], [row[kind][1] for row in rows], target)
