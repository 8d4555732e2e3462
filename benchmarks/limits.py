"""Limits on signal events with a fitted background: how often is what was injected below them?

    python benchmarks/limits.py --signal 150 --signal 300

Spectra are made up: 8,000 background events of dijet3 in 40 bins from 2700 to 5000 GeV, and a Gaussian signal. The limit is that
of a window in the middle of which the signal is, with dijet3 fitted; with --bump that of the most significant window. The
true number is that expected of the signal in the window. A limit at 95 % CL is at least the true number in 95 % of the spectra.
"""

from __future__ import annotations

import dataclasses

import click
import numpy as np

from pipelines.bumphunt.batched_fit import SpectrumFitter
from pipelines.bumphunt.fit_functions import FUNCTIONS
from pipelines.bumphunt.spectrum_hunt import bumphunt
from pipelines.bumphunt.spurious_signal import gaussian_shape

EDGES, EVENTS = np.linspace(2700, 5000, 41), 8_000
PARAMETERS = np.array([[0.0], [9.0], [-4.0]])
FIRST = 10  # bin of the window, if it is not that of the bump


def limits(signal, width, bins, toys, bump):
    """Limit and true number of every spectrum, (toys, 2)."""
    background = SpectrumFitter(EDGES, FUNCTIONS["dijet3"]).expected(PARAMETERS)[:, 0]
    background *= EVENTS / background.sum()
    ends = float(EDGES[FIRST]), float(EDGES[FIRST + bins])
    added, found = signal * gaussian_shape(EDGES, sum(ends) / 2, width), []
    for seed in range(toys):
        counts = np.random.default_rng([seed, signal, bins]).poisson(background + added)
        hunt = bumphunt(
            counts, "dijet3", edges=EDGES, widths=(bins, bins), pseudo_experiments=100 if bump else 1, seed=seed
        )
        hunt = hunt if bump else dataclasses.replace(hunt, interval=ends, refit=None)
        limit = hunt.limit()
        if limit is not None:
            found.append((limit.observed, added[hunt.window].sum()))
    return np.reshape(found, (-1, 2))


@click.command()
@click.option("--toys", default=200, show_default=True, help="Spectra in every row.")
@click.option("--signal", "signals", multiple=True, type=int, default=(150,), show_default=True, help="Events.")
@click.option("--width", default=180.0, show_default=True, help="Standard deviation of the signal, GeV.")
@click.option("--bins", default=8, show_default=True, help="Of the window.")
@click.option("--bump", is_flag=True, help="The most significant window, not that of the signal.")
def main(toys, signals, width, bins, bump):
    for signal in signals:
        limit, true = limits(signal, width, bins, toys, bump).T
        if not len(limit):
            print(f"{bins} bins, {signal} events of width {width:g}: no spectrum of {toys} has a limit", flush=True)
            continue
        print(f"{bins} bins, {signal} events of width {width:g}: {np.count_nonzero(limit >= true)} of {len(limit)} limits "
              f"are above the true number; median limit {np.median(limit):.0f}, true {np.median(true):.0f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
