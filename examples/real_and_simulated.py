"""Draw jet variables of the embedded real events beside the simulated ones, background and signal.

    python examples/real_and_simulated.py OUT.png

The real events are clustered first (a few seconds). A table says how far apart the distributions of each variable are:
the Kolmogorov-Smirnov distance between real and simulated background, and what two samples of these sizes differ by.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import mplhep
import numpy as np
from scipy.stats import ks_2samp, kstwobign

import pipelines
from pipelines.datasets import lhco
from pipelines.datasets.find import find
from pipelines.outputs import new_file

SHOWN = {
    "mj1j2": (2000, 6000, "$m_{jj}$ [GeV]"),
    "pt_1": (1000, 2500, "leading jet $p_T$ [GeV]"),
    "mass_1": (0, 800, "leading jet mass [GeV]"),
    "mass_2": (0, 800, "second jet mass [GeV]"),
    "tau21_1": (0, 1, r"leading jet $\tau_{21}$"),
    "tau32_1": (0, 1, r"leading jet $\tau_{32}$"),
    "nc_1": (0, 200, "leading jet constituents"),
    "nisj_1": (0, 30, "leading jet subjets"),
    "eRing0_1": (0, 1, "energy in the innermost ring"),
}


def main() -> None:
    """Read the command line, cluster, draw, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        lhco.convert(find("lhco_rnd_real"), Path(folder) / "real.h5")
        real = pipelines.open(Path(folder) / "real.h5")
        samples = {
            "real R&D background": (real.select(label=0), "k", "errorbar"),
            "simulated QCD": (pipelines.open("lhco_sim_test").select(label=0), "C0", "fill"),
            "real R&D signal": (real.select(label=1), "C3", "errorbar"),
            "simulated two-prong": (pipelines.open("lhco_sim_test").select(label=1), "C1", "step"),
        }
        draw(samples, out)
        table(samples["real R&D background"][0], samples["simulated QCD"][0])


def draw(samples, out: Path) -> None:
    """Draw normalised histograms of the variables shown."""
    with plt.style.context(mplhep.style.ROOT):
        figure, axes = plt.subplots(3, 3, figsize=(24, 20))
        for place, (column, (low, high, title)) in zip(axes.flat, SHOWN.items()):
            edges = np.linspace(low, high, 31)
            for label, (events, colour, kind) in samples.items():
                counts, _ = np.histogram(events.read("features", [column])[:, 0], edges)
                errors = {"yerr": np.sqrt(counts) / counts.sum()} if kind == "errorbar" else {}
                style = {"alpha": 0.4} if kind == "fill" else {}
                mplhep.histplot(
                    counts / counts.sum(), edges, ax=place, label=label, color=colour, histtype=kind, **errors, **style
                )
            place.set_xlabel(title)
            place.set_ylabel("share of events")
            place.set_ylim(bottom=0)
        axes[0, 0].legend(fontsize=18)
        figure.tight_layout()
        with new_file(out, replace=True) as part:
            figure.savefig(part, format="png", dpi=45)


def table(real, simulated) -> None:
    """Print the Kolmogorov-Smirnov distance of every variable."""
    n, m = len(real), len(simulated)
    chance = kstwobign.ppf(0.95) * np.sqrt((n + m) / (n * m))
    print(f"KS distance of {n} real and {m} simulated background events; 95 % of equal ones are below {chance:.3f}")
    found = {c: ks_2samp(real.read("features", [c])[:, 0], simulated.read("features", [c])[:, 0]) for c in real.columns}
    for column, result in sorted(found.items(), key=lambda item: -item[1].statistic):
        print(f"  {column:10} {result.statistic:.3f}")


if __name__ == "__main__":
    main()
