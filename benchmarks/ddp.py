"""Judge the network `ddp`: against the ideal likelihood ratio, against BumpHunter, and by the clock.

    python benchmarks/ddp.py [--run RUN] [--spectra 1000] [--toys 200] [--calibrated 200] [--seed 1] [--json FILE]

Without --run a network of the default settings is trained first. Spectra are drawn by the generator of its training, from
another seed: as many with a bump as without, all different in shape, length, binning and number of events.

- agreement: predicted minus ideal significance, at the bin where a bump was put, in bins of the ideal one, and of
  background alone. The ideal knows the true background, which nobody has who looks at data: the difference cannot vanish.
- ROC: how well the largest significance of a spectrum tells spectra with a bump from those without. BumpHunter scans
  with the true background as its reference ("generous"), and with a fitted one: a polynomial of the order given in the
  logarithm of the mass, for the logarithm of the density, by Poisson's likelihood (dijet functions are of this kind).
- false positives: share of background-only spectra with a global p-value up to 1, 5, 10 and 50 %.
- speed: spectra per second, on this machine as it is; one scan, and with as many pseudo-experiments as --toys.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score

import zoo
from pipelines.spectra import scan
from pipelines.spectra_generator import Generator, Spectra

STRENGTHS = (0, 2, 3, 4, 5, 6, 8, 12)
WINDOWS = (2, 8)  # of BumpHunter, in bins: the generator's bumps have a standard deviation of 0.8 to 4
ORDERS = (3, 4)


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
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file for every number")
    options = parser.parse_args()
    model = trained(options)
    generator = Generator(**{**vars(model.generator), "seed": options.seed + 10**6, "signal_share": 0.5})
    spectra = generator.draw(options.spectra)
    predicted, ideal = model.significance(spectra), np.where(spectra.histograms.mask, spectra.ideal(), np.nan)
    found = {
        "agreement": agreement(spectra, predicted, ideal),
        "roc": roc(spectra, predicted, ideal),
        "false_positives": false_positives(model, generator.background_only(), options),
        "speed": speed(model, spectra, options),
    }
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


def trained(options: argparse.Namespace):
    """Return the model to be judged."""
    if options.run:
        return zoo.load(options.run)
    model = zoo.get("ddp", seed=options.seed)
    start = time.process_time()
    model.fit(epochs=options.epochs, verbose=2)
    print(f"trained on {model.spectra_seen} spectra in {(time.process_time() - start) / 60:.1f} minutes of one core")
    return model


def agreement(spectra: Spectra, predicted: np.ndarray, ideal: np.ndarray) -> dict[str, dict[str, float]]:
    """Print and return bias and spread of predicted minus ideal significance."""
    rows, h = np.arange(len(spectra)), spectra.histograms
    at = np.argmax(h.edges[:, 1:] > spectra.place[:, None], axis=1)
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


def roc(spectra: Spectra, predicted: np.ndarray, ideal: np.ndarray) -> dict[str, dict[str, float]]:
    """Print and return how well each tells spectra with a bump from those without."""
    ways = {
        "ideal likelihood ratio": np.nanmax(ideal, 1),
        "ddp": np.nanmax(predicted, 1),
        "BumpHunter, true background": hunted(spectra, spectra.background),
    }
    for order in ORDERS:
        ways[f"BumpHunter, fit of order {order}"] = hunted(spectra, fitted(spectra, order))
    has = spectra.signal > 0
    table = Table("", "area under ROC", "found at 10 % false", "found at 1 % false")
    found = {}
    for name, score in ways.items():
        cuts = [np.quantile(score[~has], 1 - share) for share in (0.1, 0.01)]
        numbers = [roc_auc_score(has, score), *((score[has] > cut).mean() for cut in cuts)]
        found[name] = dict(zip(("auc", "at_0.1", "at_0.01"), map(float, numbers)))
        table.add_row(name, *(f"{number:.3f}" for number in numbers))
    Console().print(table)
    return found


def hunted(spectra: Spectra, reference: np.ndarray) -> np.ndarray:
    """-ln of the smallest p-value of BumpHunter's windows, (N,); the reference as it is, not normalised by side bands."""
    h = spectra.histograms
    p = [
        scan(h.counts[i, :bins], reference[i, :bins], widths=WINDOWS, normalise=False).p_value[0]
        for i, bins in enumerate(h.bins)
    ]
    return -np.log(p)


def fitted(spectra: Spectra, order: int) -> np.ndarray:
    """Backgrounds (N, B) fitted to each whole spectrum, its bump included."""
    h, found = spectra.histograms, np.zeros_like(spectra.background)
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


def false_positives(model, generator: Generator, options: argparse.Namespace) -> dict[str, float]:
    """Print and return how often background alone has a small global p-value."""
    spectra = generator.draw(options.calibrated, number=1)
    found = model.scan(spectra.histograms, toys=options.toys, seed=options.seed)
    table = Table("global p-value up to", "share of background-only spectra")
    shares = {}
    for level in (0.01, 0.05, 0.1, 0.5):
        below = found.global_p_value <= level
        shares[str(level)] = float(below.mean())
        # p-values are whole multiples of 1 / (toys + 1)
        expected = np.floor(level * (options.toys + 1) + 1e-9) / (options.toys + 1)
        error = np.sqrt(expected * (1 - expected) / len(below))
        table.add_row(f"{level:g}", f"{below.mean():.3f} (expected {expected:.4f} +- {error:.3f})")
    Console().print(table)
    return shares


def speed(model, spectra: Spectra, options: argparse.Namespace) -> dict[str, float]:
    """Print and return spectra per second."""
    h = spectra.histograms
    model.significance(h, width=1.5)  # compiled now
    few = h.take(slice(0, 5))
    model.scan(few, (1.5,), toys=options.toys)
    found = {
        "ddp, one width": len(h) / seconds(lambda: model.significance(h, width=1.5)),
        "ddp, three widths": len(h) / seconds(lambda: model.scan(h)),
        f"ddp, one width and {options.toys} toys": 5 / seconds(lambda: model.scan(few, (1.5,), toys=options.toys)),
        "pyBumpHunter": options.timed / seconds(lambda: pybumphunter(spectra, options.timed, 0)),
        f"pyBumpHunter and {options.toys} toys": 5 / seconds(lambda: pybumphunter(spectra, 5, options.toys)),
    }
    table = Table("", "spectra / s")
    for name, rate in found.items():
        table.add_row(name, f"{rate:,.1f}")
    Console().print(table)
    return found


def pybumphunter(spectra: Spectra, n: int, toys: int) -> None:
    """Scan n spectra with pyBumpHunter, the true background given."""
    from pyBumpHunter import BumpHunter1D

    h = spectra.histograms
    for i in range(n):
        bins = h.bins[i]
        hunter = BumpHunter1D(width_min=WINDOWS[0], width_max=WINDOWS[1], npe=max(toys, 1), nworker=1, seed=1)
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            hunter.bump_scan(h.counts[i, :bins], spectra.background[i, :bins], is_hist=True, do_pseudo=toys > 0)


def seconds(work) -> float:
    """Return how long something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
