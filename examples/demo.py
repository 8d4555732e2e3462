"""What `make demo` found, each in a line.

    python examples/demo.py FOLDER            # FOLDER has what the commands of `make demo` have written
    python examples/demo.py FOLDER --window   # the most significant window of the search with a signal, GeV

Numbers are read from the files of the commands; whether something was found follows from them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pipelines.bumphunt.bump_hunt import p_text
from pipelines.bumphunt.result import z_text

MASS = 3500.0  # GeV, of the resonance in lhco_sim_test (examples/make_samples.py)
FOUND = 3.0  # sigma, global


def search_of(folder: Path) -> dict[str, Any]:
    """What a search wrote."""
    found: dict[str, Any] = json.loads((folder / "search.json").read_text())
    return found


def judged(file: Path) -> tuple[float, float]:
    """AUC of the two-prong signal, and the largest S/sqrt(B) over cuts relative to no cut, as `zoo evaluate --json` told."""
    found = json.loads(file.read_text())
    return found["auc"]["1"], found["improvement"]["1"]["improvement"]


def searched(found: dict[str, Any], what: str) -> str:
    """One line on a search."""
    believed = found["believed"]
    if believed["cut"] is None:
        return f"{what}: no significance can be quoted (the background beside the window is not described)."
    z, is_bound = believed["global_significance"], believed["global_p_value_is_bound"]
    p = p_text(believed["global_p_value"], is_bound, found["pseudo_experiments"])
    low, high = found["interval"]
    says = f"global significance {z_text(z, is_bound)} sigma (p {p})"
    if z < FOUND:
        return f"{what}: nothing found; {says}, in the window {low:.0f} to {high:.0f} GeV."
    off = abs(found["mass_estimate"] / MASS - 1)
    return (
        f"{what}: a bump at {found['mass_estimate']:.0f} GeV in the window {low:.0f} to {high:.0f} GeV, {off:.1%} from the true "
        f"{MASS:.0f} GeV; {found['selected_events']} events selected where {found['expected']:.0f} are expected, local "
        f"{found['local_significance']:.1f} sigma, {says}."
    )


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--window", action="store_true")
    given = parser.parse_args()
    there = search_of(given.folder / "hunt")
    if given.window:
        print("{:.0f} {:.0f}".format(*there["interval"]))
        return
    tuned, preset = (judged(given.folder / f"{name}.json") for name in ("tuned", "preset"))
    better = "better" if tuned[1] > preset[1] else "not better"
    print()
    print(searched(there, "With 240 signal events among 24,000"))
    print(f"    its figure: {given.folder / 'hunt/plots/windows.png'}; its report: {given.folder / 'hunt/report.html'}")
    print(searched(search_of(given.folder / "hunt_background"), "Without signal"))
    print(
        f"Tuned without labels, then judged by them: S/sqrt(B) x {tuned[1]:.2f}, AUC {tuned[0]:.3f}; untuned, the preset "
        f"collins2019 (made for far more events): x {preset[1]:.2f}, AUC {preset[0]:.3f}. The tuned one is {better}."
    )


if __name__ == "__main__":
    main()
