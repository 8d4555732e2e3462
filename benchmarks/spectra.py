"""Published spectra and real collisions hunted by `zoo.bumphunt`, beside what was published; and how fast the fits are.

    python benchmarks/spectra.py FOLDER [--toys 10000] [--json FILE]

FOLDER has, where they are there: spectra/atlas_139fb_dijet_ins1759712_table2.csv and spectra/cms_137fb_dijet_ins1764471.csv (HEPData),
pybumphunter/data.root (pyBumpHunter's example), dimuon/Zmumu_Run2011A_masses.csv and dimuon/peakdata6.csv (CMS Open Data, column M).

Each row: function of the background, the p-value of its chi2, that of the fit without the bump, window, mass estimate, local and global significance, the upper
limit, the spurious signal at the bump over its error, the median reach of 3 sigma (global) of a signal there, and seconds. Last,
1000 pseudo-experiments of the ATLAS spectrum, each refitted with five parameters and scanned.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pipelines.bumphunt.spectrum_hunt import SpectrumHunt, bumphunt
from pipelines.bumphunt.spectrum_reach import spectrum_reach

PUBLISHED = {
    "ATLAS 139/fb, ATLAS's fit": "1341 to 1416 GeV, global p 0.89 (arXiv:1910.08447)",
    "CMS 137/fb": "no significant excess (arXiv:1911.03947)",
    "pyBumpHunter's example": "5.33 to 6.67, local p 0.00017341, global p 0.0177",
    "Z to mu mu, CMS 2011": "91.19 GeV",
    "psi(2S) to mu mu, CMS 2011": "3.686 GeV",
}


def main() -> None:
    """Read the command line, hunt, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--toys", type=int, default=10_000)
    parser.add_argument("--json", type=Path, help="file for every number")
    options = parser.parse_args()
    table = Table(
        "spectrum",
        "background (p)",
        "p without the bump",
        "window",
        "mass",
        "local",
        "global p",
        "limit",
        "spurious",
        "3 sigma at",
        "s",
        "published",
    )
    kept = {}
    for name, (spectrum, background, more) in spectra(options.folder).items():
        started = time.perf_counter()
        found = bumphunt(spectrum, background, pseudo_experiments=options.toys, **more)
        seconds = time.perf_counter() - started
        kept[name] = {**found.to_dict(), "seconds": seconds, "reach": reached(found)}
        table.add_row(name, *row(found), f"{seconds:.1f}", PUBLISHED.get(name, ""))
    Console(width=190).print(table)
    atlas = options.folder / "spectra/atlas_139fb_dijet_ins1759712_table2.csv"
    if atlas.is_file():
        started = time.perf_counter()
        bumphunt(atlas, "dijet5", widths=(2, 45), pseudo_experiments=1000)
        kept["1000 refitted"] = time.perf_counter() - started
        print(
            f"1000 pseudo-experiments of ATLAS 139/fb, refitted with dijet5 and scanned: {kept['1000 refitted']:.1f} s"
        )
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1))


def spectra(folder: Path) -> dict[str, tuple]:
    """Return spectrum, background and options of each that is there."""
    atlas = folder / "spectra/atlas_139fb_dijet_ins1759712_table2.csv"
    cms = folder / "spectra/cms_137fb_dijet_ins1764471.csv"
    wide = {"widths": (2, 45)}
    found: dict[str, tuple] = {}
    if atlas.is_file():
        found |= {f"ATLAS 139/fb, {said}": (atlas, how, wide)
                  for said, how in (("ATLAS's fit", "fit"), ("dijet5", "dijet5"), ("auto", "auto"))}  # fmt: skip
    if cms.is_file():
        found["CMS 137/fb"] = (cms, "auto", {})
    if (example := folder / "pybumphunter/data.root").is_file():
        import uproot

        with uproot.open(example) as file:
            masses = {tree: next(iter(file[tree].arrays(library="np").values())) for tree in ("data", "bkg")}
        edges = np.linspace(0, 20, 61)
        counts, expected = (np.histogram(masses[tree], edges)[0] for tree in ("data", "bkg"))
        used = slice(0, 57)  # the last bins have no background
        found["pyBumpHunter's example"] = (counts[used], expected[used], {"edges": edges[:58], "widths": (2, 6)})
    for name, file, bins, how, more in (
        ("Z to mu mu, CMS 2011", "Zmumu_Run2011A_masses.csv", (60, 120, 60), "auto-exp", {"widths": (2, 20)}),
        ("psi(2S) to mu mu, CMS 2011", "peakdata6.csv", (3.4, 4.0, 40), "exp1", {"mass_range": (3.52, 3.88)}),
    ):
        if (path := folder / "dimuon" / file).is_file():
            with open(path, newline="") as lines:
                masses = np.array([float(one["M"]) for one in csv.DictReader(lines)])
            counts, edges = np.histogram(masses, np.linspace(bins[0], bins[1], bins[2] + 1))
            found[name] = (counts, how, {"edges": edges, **more})
    return found


def reached(found: SpectrumHunt) -> dict[str, object] | None:
    """Return the reach of a signal at the bump, as wide as its window."""
    if found.mass_estimate is None or found.interval is None:
        return None
    width = (found.interval[1] - found.interval[0]) / 2.8
    return spectrum_reach(found, found.mass_estimate, width, repeats=200).to_dict()


def row(found: SpectrumHunt) -> list[str]:
    """Return the cells of a hunt."""
    window = "none" if found.interval is None else "{:.5g} to {:.5g}".format(*found.interval)
    bound = "< " if found.global_p_value_is_bound else ""
    limit = found.limit() if found.believed else None
    at_bump = None if found.spurious is None else found.spurious.at_bump
    reach = reached(found)
    needed = None if reach is None else reach["reach"]["global"]["3"]["events"]
    return [
        f"{found.background.kind} ({found.background.p_value:.2g})",
        "" if found.refit is None else f"{found.refit.p_value:.2g}", window,
        "-" if found.mass_estimate is None else f"{found.mass_estimate:.5g}", f"{found.local_significance:.1f}",
        f"{bound}{found.global_p_value:.4g}", "-" if limit is None else f"{limit.observed:,.0f}",
        "-" if at_bump is None else f"{at_bump.ratio:+.2f}", "-" if needed is None else f"{needed:,.0f}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
