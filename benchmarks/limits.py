"""Limits on signal events with a fitted background: how often is what was injected below them?

    python benchmarks/limits.py --toys 200

Spectra are made up: 8,000 background events of dijet3 in 40 bins from 2700 to 5000 GeV, and a Gaussian signal. In each the bump is
hunted with dijet3 fitted, in windows of some widths. The true number is that expected of the signal in the window that was found.
A limit at 95 % CL is at least the true number in 95 % of the spectra, or more.
"""

from __future__ import annotations

import click
import numpy as np

from pipelines.bumphunt.batched_fit import SpectrumFitter
from pipelines.bumphunt.fit_functions import FUNCTIONS
from pipelines.bumphunt.spectrum_hunt import bumphunt
from pipelines.bumphunt.spurious_signal import gaussian_shape

EDGES, EVENTS = np.linspace(2700, 5000, 41), 8_000
PARAMETERS = np.array([[0.0], [9.0], [-4.0]])


def covered(signal, width, mass, bins, toys, experiments):
    """Whether the limit covers, whether the fit was repeated, limit, and true number, of every spectrum: (toys, 4)."""
    background = SpectrumFitter(EDGES, FUNCTIONS["dijet3"]).expected(PARAMETERS)[:, 0]
    background *= EVENTS / background.sum()
    added = signal * gaussian_shape(EDGES, mass, width)
    found = []
    for seed in range(toys):
        counts = np.random.default_rng([seed, signal, bins]).poisson(background + added)
        hunt = bumphunt(counts, "dijet3", edges=EDGES, widths=(bins, bins), pseudo_experiments=experiments, seed=seed)
        limit = hunt.limit()
        if limit is not None:
            true = added[hunt.window].sum()
            found.append((limit.observed >= true, hunt.refit is not None, limit.observed, true))
    return np.array(found)


@click.command()
@click.option("--toys", default=200, show_default=True, help="Spectra in every row.")
@click.option("--signal", "signals", multiple=True, default=(0, 75, 150, 300), show_default=True, help="Events.")
@click.option("--at", "mass", default=3500.0, show_default=True, help="Mean of the signal, GeV.")
@click.option("--width", default=180.0, show_default=True, help="Its standard deviation.")
@click.option("--bins", multiple=True, default=(8,), show_default=True, help="Of the windows; may be repeated.")
@click.option("--experiments", default=300, show_default=True, help="Pseudo-experiments of each hunt.")
def main(toys, signals, mass, width, bins, experiments):
    for wide in bins:
        for signal in signals:
            found = covered(signal, width, mass, wide, toys, experiments)
            again = found[:, 1] > 0
            shares = [f"{found[which, 0].sum():.0f} of {which.sum()}" for which in (found[:, 1] >= 0, ~again, again)]
            print(f"{wide} bins, {signal} events: covers {shares[0]}; fitted once {shares[1]}, again {shares[2]}; "
                  f"median limit {np.median(found[:, 2]):.0f}, true {np.median(found[:, 3]):.0f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
