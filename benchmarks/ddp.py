"""Judge the network `ddp`: against the ideal likelihood ratio, against BumpHunter, and by the clock.

    python benchmarks/ddp.py [--run RUN] [--spectra 1000] [--toys 200] [--calibrated 200] [--reach 3] [--seed 1]
                             [--figures DIR] [--json FILE]

Without --run a network of the default settings is trained first. Spectra are drawn by the generator of its training, from
another seed: as many with a bump as without, all different in shape, length, binning and number of events.

- agreement: predicted minus ideal significance, at the bin where a bump was put, in bins of the ideal one, and of
  background alone. The ideal knows the true background, which nobody has who looks at data: the difference cannot vanish.
- ROC: how well the largest significance of a spectrum tells spectra with a bump from those without. BumpHunter scans
  with the true background as its reference ("generous"), and with a fitted one: a polynomial of the order given in the
  logarithm of the mass, for the logarithm of the density, by Poisson's likelihood (dijet functions are of this kind).
- BumpHunter: the largest significance of `ddp` beside the local one of BumpHunter's best window, spectrum by spectrum:
  correlations, with bumps and without. The JSON file has all points (`scatter`), ROC curves (`curve`), and areas;
  --figures draws them, and predicted minus ideal significance, each with its numbers beside.
- false positives: share of background-only spectra with a global p-value (k + 1) / (n + 1) up to 1, 5, 10 and 50 %, by
  pseudo-experiments of each spectrum (n = --toys), and by a table made once: n is as many background-only spectra of the
  generator as the reach below needs. The second holds on average over such spectra, so it is also shown for few and many
  events, and for few and many bins.
- speed: spectra per second, on this machine as it is.
  Per scan: local significances only. BumpHunter needs a background for that: given to it, or fitted.
  Per significance: a global one of --reach sigma. p = 1 / (n + 1) takes n pseudo-experiments (740 for 3 sigma): of every
  spectrum, for pyBumpHunter and for `ddp` calibrated in the same way; of the table, once for all spectra, since the trained
  network, unlike a scan with a background of its own, gives numbers that mean the same in all of them, as far as the false
  positives show.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import math
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize
from scipy.stats import norm, pearsonr, spearmanr
from sklearn.metrics import roc_auc_score, roc_curve

import zoo
from pipelines.bumphunt.bump_scan import bump_scan
from pipelines.histograms import Histograms
from pipelines.plots.scanned import plot_found_bumps, plot_off, plot_two_scans
from pipelines.simulation.spectra import Generator, Spectra
from zoo.models.ddp.scan import Table as Calibration
from zoo.models.ddp.scan import needed

STRENGTHS = (0, 2, 3, 4, 5, 6, 8, 12)
WINDOWS = (2, 8)  # of BumpHunter, in bins: the generator's bumps have a standard deviation of 0.8 to 4
ORDERS = (3, 4)
SHOWN = ("BumpHunter, true background", "BumpHunter, fit of order 4")  # beside `ddp`, in a figure
LEVELS = (0.01, 0.05, 0.1, 0.5)
FEW = 3  # spectra that ways with pseudo-experiments of each are timed on


def main() -> None:
    """Read the command line, judge, print tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, help="a trained run; without, one is trained")
    parser.add_argument("--epochs", type=int, help="of that training")
    parser.add_argument("--spectra", type=int, default=1000)
    parser.add_argument("--toys", type=int, default=200, help="pseudo-experiments of each calibrated spectrum")
    parser.add_argument(
        "--calibrated", type=int, default=200, help="background-only spectra whose p-values are checked"
    )
    parser.add_argument("--timed", type=int, default=50, help="spectra that pyBumpHunter is timed on")
    parser.add_argument(
        "--reach", type=float, default=3.0, help="sigma that a global significance has to be able to say"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--figures", type=Path, help="folder for figures")
    parser.add_argument("--json", type=Path, help="file for every number")
    options = parser.parse_args()
    model = trained(options)
    if options.figures:
        options.figures.mkdir(parents=True, exist_ok=True)
    generator = Generator(**{**vars(model.generator), "seed": options.seed + 10**6, "signal_share": 0.5})
    spectra = generator.draw(options.spectra)
    first = seconds(lambda: model.scan(spectra.histograms))  # before any program has been built
    predicted, ideal = model.significance(spectra), np.where(spectra.histograms.mask, spectra.ideal(), np.nan)
    ways = scores(spectra, predicted, ideal)
    table = model.table(n=needed(norm.sf(options.reach)), seed=options.seed)
    if options.figures:
        draw(spectra, predicted, ideal, ways, options.figures)
    found = {
        "agreement": agreement(spectra, predicted, ideal),
        "roc": roc(spectra, ways),
        "bumphunter": beside_bumphunter(spectra, ways),
        "scatter": {
            "has_bump": (spectra.signal > 0).tolist(),
            **{name: score.tolist() for name, score in ways.items()},
        },
        "false_positives": false_positives(model, generator.background_only(), table, options),
        "speed": speed(model, spectra, first, table, options),
    }
    if options.json:
        options.json.write_text(json.dumps(found, indent=2, allow_nan=False))


def trained(options: argparse.Namespace):
    """Return the model to be judged."""
    if options.run:
        return zoo.load(options.run)
    model = zoo.get("ddp", seed=options.seed)
    start = time.process_time()
    model.fit(epochs=options.epochs, verbose=2)
    print(f"trained on {model.spectra_seen} spectra in {(time.process_time() - start) / 60:.1f} minutes of one core")
    return model


def at_bump(spectra: Spectra) -> np.ndarray:
    """The bin (N,) in which a bump was put."""
    return np.argmax(spectra.histograms.edges[:, 1:] > spectra.place[:, None], axis=1)


def draw(spectra: Spectra, predicted, ideal, ways: dict[str, np.ndarray], folder: Path) -> None:
    """Draw what two scans say, ROC curves, and predicted minus ideal significance."""
    has, at = spectra.signal > 0, (np.arange(len(spectra)), at_bump(spectra))
    hunters = {name: score for name, score in ways.items() if name in SHOWN}
    plot_two_scans(ways["ddp"], hunters, has, folder / "ddp_and_bumphunter.png")
    plot_found_bumps(ways, has, folder / "ddp_roc.png")
    plot_off(ideal[at][has], (predicted - ideal)[at][has], folder / "ddp_off.png")


def agreement(spectra: Spectra, predicted: np.ndarray, ideal: np.ndarray) -> dict[str, dict[str, float]]:
    """Print and return bias and spread of predicted minus ideal significance."""
    rows, at = np.arange(len(spectra)), at_bump(spectra)
    has = spectra.signal > 0
    table = Table("ideal significance", "spectra", "bias at the bump", "spread", "bias of the largest", "spread")
    found = {}
    off = (predicted - ideal)[rows, at]
    largest = np.nanmax(predicted, 1) - np.nanmax(ideal, 1)
    for low, high in itertools.pairwise(STRENGTHS):
        chosen = has & (ideal[rows, at] >= low) & (ideal[rows, at] < high)
        if chosen.sum() > 1:
            numbers = [off[chosen].mean(), off[chosen].std(), largest[chosen].mean(), largest[chosen].std()]
            found[f"{low} to {high}"] = dict(
                zip(("bias", "spread", "largest_bias", "largest_spread"), map(float, numbers))
            )
            table.add_row(f"{low} to {high}", str(chosen.sum()), *(f"{number:+.2f}" for number in numbers))
    without = (predicted - ideal)[~has]
    numbers = [np.nanmean(without), np.nanstd(without), largest[~has].mean(), largest[~has].std()]
    found["background"] = dict(zip(("bias", "spread", "largest_bias", "largest_spread"), map(float, numbers)))
    table.add_row("background, all bins", str((~has).sum()), *(f"{number:+.2f}" for number in numbers))
    Console().print(table)
    return found


def scores(spectra: Spectra, predicted: np.ndarray, ideal: np.ndarray) -> dict[str, np.ndarray]:
    """Return the largest local significance of every spectrum (N,), by every way to look for bumps."""
    h = spectra.histograms
    fits = {f"BumpHunter, fit of order {order}": hunted(h, fitted(h, order)) for order in ORDERS}
    return {
        "ideal likelihood ratio": np.nanmax(ideal, 1),
        "ddp": np.nanmax(predicted, 1),
        "BumpHunter, true background": hunted(h, spectra.background),
        **fits,
    }


def roc(spectra: Spectra, ways: dict[str, np.ndarray]) -> dict[str, dict[str, object]]:
    """Print and return how well each tells spectra with a bump from those without."""
    has = spectra.signal > 0
    table = Table("", "area under ROC", "found at 10 % false", "found at 1 % false")
    found = {}
    for name, score in ways.items():
        cuts = [np.quantile(score[~has], 1 - share) for share in (0.1, 0.01)]
        numbers = [roc_auc_score(has, score), *((score[has] > cut).mean() for cut in cuts)]
        found[name] = dict(zip(("auc", "at_0.1", "at_0.01"), map(float, numbers)))
        found[name]["curve"] = [points.tolist() for points in roc_curve(has, score)[:2]]  # false, then true positives
        table.add_row(name, *(f"{number:.3f}" for number in numbers))
    Console().print(table)
    return found


def beside_bumphunter(spectra: Spectra, ways: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Print and return the correlation of what `ddp` and BumpHunter say of the same spectra."""
    has, found = spectra.signal > 0, {}
    table = Table("ddp and", "spectra", "correlation", "of ranks", "mean difference", "spread")
    for name in [name for name in ways if name.startswith("BumpHunter")]:
        for which, chosen in (("with a bump", has), ("without", ~has), ("all", has | True)):
            one, other = ways["ddp"][chosen], ways[name][chosen]
            numbers = [pearsonr(one, other)[0], spearmanr(one, other)[0], (one - other).mean(), (one - other).std()]
            names = ("correlation", "rank_correlation", "mean_difference", "spread")
            found[f"{name}, {which}"] = dict(zip(names, map(float, numbers)))
            table.add_row(name, which, *(f"{number:.2f}" for number in numbers))
    Console().print(table)
    return found


def hunted(h: Histograms, reference: np.ndarray) -> np.ndarray:
    """The local significance of BumpHunter's best window, (N,); the reference as it is, not normalised by side bands."""
    p = [
        bump_scan(h.counts[i, :bins], reference[i, :bins], widths=WINDOWS, normalise=False).p_value[0]
        for i, bins in enumerate(h.bins)
    ]
    return np.maximum(norm.isf(p), 0.0)  # p is 1 where nothing is above the reference


def fitted(h: Histograms, order: int) -> np.ndarray:
    """Backgrounds (N, B) fitted to each whole spectrum, its bump included."""
    found = np.zeros_like(h.counts)
    for i, bins in enumerate(h.bins):
        x = np.log(h.centres[i, :bins])
        x = 2 * (x - x[0]) / (x[-1] - x[0]) - 1
        basis, n, width = np.polynomial.chebyshev.chebvander(x, order), h.counts[i, :bins], h.bin_widths[i, :bins]

        def loss(p, basis=basis, n=n, width=width):
            log = np.minimum(basis @ p, 40.0)
            expected = width * np.exp(log)
            return (expected - n * log).sum(), basis.T @ (expected - n)

        start = np.linalg.lstsq(basis * np.sqrt(n + 0.1)[:, None], np.sqrt(n + 0.1) * np.log((n + 0.1) / width), None)[
            0
        ]
        scale = max(1.0, n.sum())
        best = minimize(lambda p, f=loss, s=scale: tuple(v / s for v in f(p)), start, jac=True, method="BFGS",
                        options={"gtol": 1e-9})  # fmt: skip
        found[i, :bins] = width * np.exp(np.minimum(basis @ best.x, 40.0))
    return found


def false_positives(model, generator: Generator, table: Calibration, options: argparse.Namespace) -> dict[str, object]:
    """Print and return how often background alone has a small global p-value."""
    h = generator.draw(options.calibrated, number=1).histograms
    found = model.scan(h, pseudo_experiments=options.toys, seed=options.seed)
    p, _ = table.p_values(found.significance)
    many, long = h.counts.sum(1) > np.median(h.counts.sum(1)), h.bins > np.median(h.bins)
    ways = {
        f"{options.toys} toys of each": (found.global_p_value, options.toys),
        f"table of {len(table)}": (p, len(table)),
        "table, few events": (p[~many], len(table)), "table, many events": (p[many], len(table)),
        "table, few bins": (p[~long], len(table)), "table, many bins": (p[long], len(table)),
    }  # fmt: skip
    printed, shares = Table("global p-value up to", *map(str, LEVELS), "spectra"), {}
    for name, (values, n) in ways.items():
        row = shares[name] = {"spectra": len(values), "share": {}, "expected": {}, "error": {}}
        for level in LEVELS:
            expected = math.floor(level * (n + 1) + 1e-9) / (n + 1)  # p-values are whole multiples of 1 / (n + 1)
            row["share"][str(level)] = float((values <= level).mean())
            row["expected"][str(level)] = expected
            row["error"][str(level)] = math.sqrt(expected * (1 - expected) / len(values))
        cells = [
            f"{row['share'][str(one)]:.3f} ({row['expected'][str(one)]:.3f} +- {row['error'][str(one)]:.3f})"
            for one in LEVELS
        ]
        printed.add_row(name, *cells, str(len(values)))
    Console().print(printed)
    return shares


def speed(model, spectra: Spectra, first: float, table: Calibration, options: argparse.Namespace) -> dict[str, object]:
    """Print and return spectra per second, and what is needed once."""
    h, n = spectra.histograms, len(table)
    few, timed = h.take(slice(0, FEW)), h.take(slice(0, options.timed))
    building = seconds(lambda: model.scan(h, jit_compile=True)) + seconds(
        lambda: model.significance(h, jit_compile=True)
    )
    by_fit = len(timed) / seconds(lambda: pybumphunter(timed, fitted(timed, ORDERS[-1]), 0))
    per_scan = {
        "ddp, one width": len(h) / seconds(lambda: model.significance(h, width=1.5, jit_compile=True)),
        "ddp, three widths": len(h) / seconds(lambda: model.scan(h, jit_compile=True)),
        "ddp, three widths, not compiled": len(h) / seconds(lambda: model.scan(h, jit_compile=False)),
        "ddp, three widths, first call of a process": len(h) / first,
        "pyBumpHunter, background given": len(timed) / seconds(lambda: pybumphunter(timed, spectra.background, 0)),
        "pyBumpHunter, background fitted": by_fit,
    }
    per_significance = {
        f"pyBumpHunter, {n} toys of each": FEW / seconds(lambda: pybumphunter(few, spectra.background, n)),
        f"ddp, three widths, {n} toys of each": FEW
        / seconds(lambda: model.scan(few, pseudo_experiments=n, jit_compile=True)),
        f"ddp, three widths, table of {n}": len(h) / seconds(lambda: model.scan(h, table=table, jit_compile=True)),
    }
    once = {"programs compiled": building, f"table of {n}": n / per_scan["ddp, three widths"]}
    reference = {"per scan": "pyBumpHunter, background given", "per significance": f"pyBumpHunter, {n} toys of each"}
    found = {"per scan": per_scan, "per significance": per_significance, "once, seconds": once}
    for what, name in reference.items():
        printed = Table(
            f"{what}" + (f" of {options.reach:g} sigma" if "sig" in what else ""), "spectra / s", "times the reference"
        )
        for way, rate in found[what].items():
            printed.add_row(way, f"{rate:,.1f}", f"{rate / found[what][name]:,.1f}" if way != name else "reference")
        Console().print(printed)
    Console().print("once: " + ", ".join(f"{name} {value:.1f} s" for name, value in once.items()))
    return found


def pybumphunter(h: Histograms, reference: np.ndarray, toys: int) -> None:
    """Scan spectra with pyBumpHunter, against a background of each."""
    from pyBumpHunter import BumpHunter1D

    for i, bins in enumerate(h.bins):
        hunter = BumpHunter1D(width_min=WINDOWS[0], width_max=WINDOWS[1], npe=max(toys, 1), nworker=1, seed=1)
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            hunter.bump_scan(h.counts[i, :bins], reference[i, :bins], is_hist=True, do_pseudo=toys > 0)


def seconds(work) -> float:
    """Return how long something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
