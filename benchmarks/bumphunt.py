"""How fast pseudo-experiments of a bump hunt are, whether global p-values are uniform on background, what is found.

    python benchmarks/bumphunt.py [--events 100000] [--pseudo-experiments 40000] [--repeats 3]
                                  [--coverage 0] [--power 0] [--json FILE]

A falling dijet-like spectrum of background is cut at the 50th and the 99th percentile of a score that knows nothing of
the mass. On the same histograms, with the same windows: pyBumpHunter as it is, with 1 and with 4 threads, throwing and
scanning Poisson pseudo-experiments; `scan` on those same numbers thrown by NumPy, which is what pyBumpHunter does; and
`hunt`, which shuffles scores, and whose time includes everything from selection to result. All but pyBumpHunter's 4
threads run on one core. The ways take turns: compare within a run.

With --coverage N, the global p-values of N background-only data sets (20,000 events, 300 pseudo-experiments each)
are compared with a uniform distribution, for both kinds of pseudo-experiments.

With --power N, a narrow signal of known place is added to 60,000 events of background, N times, and the median global
significance is shown for both statistics. The tables of `pipelines.bumphunt.bump_hunt`:

    python benchmarks/bumphunt.py --repeats 0 --coverage 300 --power 40 --json FILE
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pyBumpHunter import BumpHunter1D
from rich.console import Console
from rich.table import Table
from scipy.stats import kstest

from pipelines.bumphunt.bump_hunt import bump_hunt
from pipelines.bumphunt.bump_scan import STATISTICS, WIDTHS, bump_scan
from pipelines.bumphunt.options import NULLS
from pipelines.bumphunt.spectrum import histogram

RANGE = (2700.0, 5000.0)
PERCENTILES = (50, 99)
COVERAGE = {
    "50": {"percentiles": [50]},
    "85": {"percentiles": [85]},
    "95": {"percentiles": [95]},
    "99, widths 1 to 4": {"percentiles": [99], "widths": (1, 4)},
    "50, 85, 95": {"percentiles": [50, 85, 95]},
    "85, 95, both tails": {"percentiles": [85, 95], "tails": "both"},
    "85, deficit": {"percentiles": [85], "deficit": True},
    "50, 95, Fisher's test": {"percentiles": [50, 95], "statistic": "fisher"},
}
POWER = ((50, 300), (95, 120), (99, 60))  # percentile, signal events
PLACES = (3200, 3800)  # GeV


def main() -> None:
    """Read the command line, time everything, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--pseudo-experiments", type=int, default=40_000)
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds; medians are shown; 0: none")
    parser.add_argument("--coverage", type=int, default=0, help="background-only data sets; 0: none")
    parser.add_argument("--power", type=int, default=0, help="data sets with signal; 0: none")
    parser.add_argument("--json", type=Path, help="file for every number")
    options = parser.parse_args()
    seconds = speed(options) if options.repeats else {}
    numbers = {"seconds": seconds, "coverage": coverage(options.coverage), "power": power(options.power)}
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2))


def background(events: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and masses that know nothing of each other."""
    return rng.normal(size=events), RANGE[0] + rng.exponential(500, events)


def speed(options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Time every way at every percentile, and print pseudo-experiments per second."""
    score, mass = background(options.events, np.random.default_rng(1))
    found = {}
    for percentile in PERCENTILES:
        ways = make_ways(score, mass, percentile, options.pseudo_experiments)
        times = {name: [] for name in ways}
        for _ in range(options.repeats):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                times[name].append(time.perf_counter() - start)
        found[str(percentile)] = times
        report(percentile, times, options)
    return found


def make_ways(score, mass, percentile: int, n: int) -> dict[str, Callable[[], object]]:
    """The ways to throw and scan n pseudo-experiments of one selection, in the bins that `hunt` takes for it."""
    settings = {"percentiles": [percentile], "mass_range": RANGE}
    bump = bump_hunt(score, mass, pseudo_experiments=1, **settings).bumps[0]
    before = histogram(mass, bump.edges).content
    observed = np.array(bump.observed)
    # pyBumpHunter throws Poisson numbers around the reference as it is given: it must have the size of the data
    reference = before * observed.sum() / before.sum()

    def pybumphunter(threads: int) -> None:
        hunter = BumpHunter1D(
            width_min=WIDTHS[0], width_max=WIDTHS[1], npe=n, nworker=threads, use_sideband=True, seed=1
        )
        with contextlib.redirect_stdout(io.StringIO()):
            hunter.bump_scan(observed, reference, is_hist=True)

    def scan_poisson() -> None:
        rng = np.random.default_rng(1)
        bump_scan(rng.poisson(reference[:, None], (len(reference), n)), reference, widths=WIDTHS)

    return {
        "pyBumpHunter, 1 thread": lambda: pybumphunter(1),
        "pyBumpHunter, 4 threads": lambda: pybumphunter(4),
        "scan, the same pseudo-experiments": scan_poisson,
        "hunt, null='poisson'": lambda: bump_hunt(score, mass, null="poisson", pseudo_experiments=n, **settings),
        "hunt": lambda: bump_hunt(score, mass, pseudo_experiments=n, **settings),
        "hunt, statistic='fisher'": lambda: bump_hunt(
            score, mass, statistic="fisher", pseudo_experiments=n, **settings
        ),
        "hunt, 3 percentiles, both tails": lambda: bump_hunt(
            score, mass, pseudo_experiments=n, **settings | {"percentiles": [85, 95, percentile], "tails": "both"}
        ),
    }


def report(percentile: int, times: dict[str, list[float]], options: argparse.Namespace) -> None:
    title = f"{percentile}th percentile of {options.events:,} events, {options.pseudo_experiments:,} pseudo-experiments"
    table = Table("", "seconds", "pseudo-experiments / s", "against the first", title=title)
    first = statistics.median(next(iter(times.values())))
    for name, seconds in times.items():
        median = statistics.median(seconds)
        rate = f"{options.pseudo_experiments / median:,.0f}"
        table.add_row(name, f"{median:.2f}", rate, f"{first / median:.1f}")
    Console().print(table)


def coverage(data_sets: int) -> dict[str, dict[str, list[float]]]:
    """Return and print the global p-values of background-only data sets."""
    found = {name: {null: [] for null in NULLS} for name in COVERAGE if data_sets}
    for i in range(data_sets):
        rng = np.random.default_rng([7, i])
        score, mass = background(rng.poisson(20_000), rng)
        for name, by_null in found.items():
            for null, p_values in by_null.items():
                if null == "poisson" and "statistic" in COVERAGE[name]:
                    continue  # Fisher's test has its number of selected events given
                result = bump_hunt(
                    score, mass, mass_range=RANGE, null=null, pseudo_experiments=300, seed=i, **COVERAGE[name]
                )
                p_values.append(result.global_p_value)
    table = Table(
        "percentile", "null", "mean", "KS p-value", "p <= 0.05", title=f"{data_sets} background-only data sets"
    )
    for name, by_null in found.items():
        for null, p_values in by_null.items():
            if not p_values:
                continue
            p = np.array(p_values)
            numbers = p.mean(), kstest(p, "uniform").pvalue, np.mean(p <= 0.05)
            table.add_row(name, null, *(f"{number:.2g}" for number in numbers))
    if found:
        Console().print(table)
    return found


def power(data_sets: int) -> dict[str, dict[str, list[float]]]:
    """Return and print the global significances of data sets with signal, by both statistics."""
    title = f"median global significance of {data_sets} data sets"
    table = Table("percentile", "signal events", "at GeV", *STATISTICS, title=title)
    found = {}
    for percentile, signal in POWER if data_sets else ():
        for place in PLACES:
            values = {statistic: [] for statistic in STATISTICS}
            for i in range(data_sets):
                rng = np.random.default_rng([8, i])
                score, mass = background(60_000, rng)
                score, mass = np.r_[score, rng.normal(3, 1, signal)], np.r_[mass, rng.normal(place, 80, signal)]
                settings = {"percentiles": [percentile], "mass_range": RANGE, "pseudo_experiments": 5000, "seed": i}
                for statistic, significances in values.items():
                    significances.append(bump_hunt(score, mass, statistic=statistic, **settings).global_significance)
            found[f"{percentile} {place}"] = values
            medians = (f"{np.median(significances):.2f}" for significances in values.values())
            table.add_row(str(percentile), str(signal), str(place), *medians)
    if found:
        Console().print(table)
    return found


if __name__ == "__main__":
    main()
