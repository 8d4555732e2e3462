"""Whether global p-values of background are uniform when the score depends on the mass, with both cuts.

    python benchmarks/mass_cut.py [--searches 200] [--pseudo-experiments 199] [--json FILE]

Made-up background: a spectrum that falls exponentially from 2700 to 5000 GeV, and scores that depend on the mass in
several ways. Each row is so many searches, of new events each: the Kolmogorov-Smirnov p-value of their global p-values
against a uniform distribution, their mean, the share below 0.05, the median local significance, and the share of searches whose
reference does not describe the spectrum outside the bump (`reference_p_value` below 0.01), so that no number would be told.

What is left with `--cut mass` is the error of its pseudo-experiments, in which t(m) is fitted to first order. The last score
changes within a few windows, faster than t(m) may: the limit of the method.

With --scores the score is that of a trained model: an HDF5 file of `zoo score`, of background alone, which may be given for several
models. Each search is in events drawn with replacement from these, their masses smeared by 1 % and the ranks of their scores by
0.02 standard deviations of a Gaussian, so that no two are the same: independent data sets of one distribution, near that of
the events given. What these have by chance, of a tenth of the variance of one search if they are ten times as many, stays in: with
--size take searches of fewer events. --shuffled says what that sharing makes by itself: the scores are shuffled among the events, so
that they do not depend on the mass, and the same searches are made in so many populations like this. The share of these with a
smaller Kolmogorov-Smirnov p-value is the one to believe.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import kstest

from pipelines.bumphunt.bump_hunt import bump_hunt
from pipelines.bumphunt.mass_cut import gaussian_ranks
from pipelines.bumphunt.options import CUTS
from pipelines.errors import InputError

RANGE = (2700.0, 5000.0)
SIZES = ((10_000, 90.0), (40_000, 95.0))  # events, percentile


def smooth(mass: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A score whose mean and width change smoothly with the mass."""
    x = np.log(mass / RANGE[0])
    return 8 * x - 12 * x**2 + rng.normal(size=len(mass)) * (1 + (mass - RANGE[0]) / 2000)


def linear(mass: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A score whose mean rises with the mass, as that of an auto-encoder whose events grow with it."""
    return 3 * np.log(mass / RANGE[0]) + rng.gamma(2, size=len(mass))


def blind(mass: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A score that does not depend on the mass."""
    return rng.normal(size=len(mass))


def fast(mass: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A score that changes within a few windows."""
    return 3 * np.cos((mass - 3300) / 600) + rng.normal(size=len(mass))


class OfModel:
    """Background of a trained model: masses and scores of a file, drawn anew for every search."""

    def __init__(self, path: str):
        with h5py.File(path) as file:
            mass, score = file["mass"][()].astype(float), file["score"][()].astype(float)
        inside = (mass >= RANGE[0]) & (mass < RANGE[1])
        self.mass, self.z = mass[inside], gaussian_ranks(score[inside])
        self.__name__ = f"{path} ({np.count_nonzero(inside):,} events)"

    def draw(self, events: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return masses and scores of a new data set."""
        rows = rng.integers(len(self.mass), size=events)
        mass = self.mass[rows] * (1 + 0.01 * rng.normal(size=events))
        low, high = RANGE
        mass = np.where(
            mass < low, 2 * low - mass, np.where(mass > high, 2 * high - mass, mass)
        )  # reflected at the ends
        return mass, self.z[rows] + 0.02 * rng.normal(size=events)

    def shuffled(self, seed: int) -> OfModel:
        """Return the same with its scores shuffled among the masses."""
        other = copy.copy(self)
        other.z = np.random.default_rng([12, seed]).permutation(self.z)
        return other


SCORES: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...] = (smooth, linear, blind, fast)


def main() -> None:
    """Read the command line, search, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--pseudo-experiments", type=int, default=199)
    parser.add_argument("--scores", action="append", default=[], help="scores and masses of background, of a model")
    parser.add_argument("--lower", action="store_true", help="select the lower tail of the scores")
    parser.add_argument(
        "--size", action="append", nargs=2, type=float, metavar=("EVENTS", "PERCENTILE"),
        help="of a search; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--shuffled", type=int, default=0, help="populations of the first --scores with shuffled scores"
    )
    parser.add_argument("--cut", choices=CUTS, help="only this one")
    parser.add_argument("--json", type=Path, help="file for every number")
    options = parser.parse_args()
    rows = [
        {"score": score.__name__, "events": events, "percentile": percentile, "cut": cut}
        | searched(score, events, percentile, cut, options)
        for score in ([OfModel(path) for path in options.scores] or SCORES)
        for events, percentile in [(int(n), q) for n, q in options.size or SIZES]
        for cut in ([options.cut] if options.cut else CUTS)
    ]
    table = Table(
        "score", "events", "percentile", "cut", "KS p", "mean", "p < 0.05", "median local sigma", "reference fails"
    )
    for row in rows:
        table.add_row(
            row["score"], f"{row['events']:,}", f"{row['percentile']:g}", row["cut"], f"{row['ks_p_value']:.2g}",
            f"{row['mean']:.2f}", f"{row['below_0.05']:.3f}", f"{row['median_local']:.1f}", f"{row['reference_fails']:.3f}",
        )  # fmt: skip
    Console(width=120).print(table)
    if options.shuffled:
        rows += shuffled(OfModel(options.scores[0]), rows, options)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


def shuffled(population: OfModel, rows: list[dict], options: argparse.Namespace) -> list[dict[str, object]]:
    """Make the searches of every size and cut in populations that do not depend on the mass; print where the rows lie among them."""
    found = []
    for events, percentile, cut in dict.fromkeys((row["events"], row["percentile"], row["cut"]) for row in rows):
        here = [
            searched(population.shuffled(k), events, percentile, cut, options, seed=1000 + k)
            for k in range(options.shuffled)
        ]
        small = np.array([row["ks_p_value"] for row in here])
        means = np.array([row["mean"] for row in here])
        print(
            f"{events:,} events, {percentile:g}, {cut}: {options.shuffled} shuffled populations: KS p below 0.05 in {np.mean(small < 0.05):.2f} of "
            f"them, smallest {small.min():.1g}; mean p {means.mean():.3f} +- {means.std(ddof=1):.3f}"
        )
        for row in rows:
            if (row["events"], row["percentile"], row["cut"]) == (events, percentile, cut):
                row["share_shuffled_smaller"] = float((1 + np.sum(small <= row["ks_p_value"])) / (1 + len(small)))
                print(
                    f"  {row['score']}: KS p {row['ks_p_value']:.2g}: p {row['share_shuffled_smaller']:.3f} among them"
                )
        found += [{"score": "shuffled", "events": events, "percentile": percentile, "cut": cut, **row} for row in here]
    return found


def searched(score, events: int, percentile: float, cut: str, options: argparse.Namespace, seed: int = 11) -> dict:
    """Return what the searches of one row found, of this seed; `refused` counts those whose selected events leave no side band."""
    p_values, local, fails, refused = [], [], [], 0
    for i in range(options.searches):
        rng = np.random.default_rng([seed, i])
        low, high = RANGE
        if isinstance(score, OfModel):
            mass, scores = score.draw(events, rng)
        else:
            mass = low - 500 * np.log(1 - rng.random(events) * (1 - np.exp((low - high) / 500)))
            scores = score(mass, rng)
        try:
            found = bump_hunt(
                -scores if options.lower else scores, mass, percentiles=percentile, cut=cut, mass_range=RANGE, seed=i,
                pseudo_experiments=options.pseudo_experiments,
            )  # fmt: skip
        except InputError:
            refused += 1
            continue
        p_values.append(found.global_p_value)
        local.append(found.best.local_significance)
        fails.append(found.best.reference_describes is False)
    return {
        "ks_p_value": float(kstest(p_values, "uniform").pvalue), "mean": float(np.mean(p_values)),
        "below_0.05": float(np.mean(np.array(p_values) <= 0.05)), "median_local": float(np.median(local)),
        "reference_fails": float(np.mean(fails)), "refused": refused, "p_values": p_values,
    }  # fmt: skip


if __name__ == "__main__":
    main()
