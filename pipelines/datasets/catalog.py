"""The samples that come with the package."""

from __future__ import annotations

import dataclasses
import difflib
import os
from pathlib import Path

from pipelines.errors import InputError

FOLDER = Path(__file__).parent.parent / "samples"


@dataclasses.dataclass(frozen=True)
class Sample:
    """An embedded sample: what it is, and whom its users credit."""

    about: str
    license: str
    citation: str


SIMULATED = "Simulated for this project with Pythia 8.317 and a parametric detector"
SAMPLES = {
    "lhco_sim_train": Sample("20,000 simulated QCD dijet events, 47 variables, no labels", "CC0 1.0", SIMULATED),
    "lhco_sim_test": Sample(
        "4,000 simulated QCD dijets, 1,000 two-prong and 1,000 three-prong Z' events, 47 variables, labels",
        "CC0 1.0",
        SIMULATED,
    ),
    "lhco_rnd_real": Sample(
        "1,000 events of the LHC Olympics R&D data set, raw hadrons, labels",
        "CC BY 4.0",
        "G. Kasieczka, B. Nachman, D. Shih, R&D Dataset for LHC Olympics 2020, doi 10.5281/zenodo.6466204",
    ),
}


def find(path_or_name: str | os.PathLike) -> Path:
    """Return the file behind a path, or behind the name of an embedded sample.

    Raises `InputError` if there is neither, naming the nearest sample.

    >>> find("lhco_sim_test").name
    'lhco_sim_test.h5'
    """
    if str(path_or_name) in SAMPLES:
        return FOLDER / f"{path_or_name}.h5"
    path = Path(path_or_name)
    if not path.exists():
        near = difflib.get_close_matches(str(path_or_name), SAMPLES, n=1)
        hint = f"did you mean the sample {near[0]!r}?" if near else f"embedded samples are {', '.join(SAMPLES)}"
        raise InputError(f"{path}: no such file; {hint}")
    return path
