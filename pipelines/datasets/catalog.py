"""Data sets by name: the samples that come with the package, and the published LHC Olympics files to download.

Where the facts of `PUBLISHED` come from, since no server was asked when this was written:

- Sizes and MD5 of the four `v2` and `Z_XY_qqq` files are those of Zenodo's record 6466204 (version 5) as a public
  copy of its file list has them; independent analyses publish the same MD5 of both feature files, and sums of other
  kinds that agree for the larger `v2` files.
- File names and records of all others are those that published analyses download from. Their sums and sizes are not
  known here: `None`, and a sum is recorded at the first download (see `pipelines.datasets.download`).
- Descriptions follow the records' own text and G. Kasieczka et al., Rep. Prog. Phys. 84 (2021) 124201, arXiv
  2101.08320. Black Box 2 has no signal, hence no key; the key of Black Box 3 has two kinds of signal, 1 and 2.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from pathlib import Path

from pipelines.errors import InputError
from pipelines.moved import moved_names

FOLDER = Path(__file__).parent.parent / "samples"


@dataclasses.dataclass(frozen=True)
class Sample:
    """An embedded sample: what it is, and whom its users credit."""

    about: str
    license: str
    citation: str


@dataclasses.dataclass(frozen=True)
class Published:
    """A published file: what it is, its address, its checksum, and its citation.

    `size` (bytes) and `checksum` ("md5:..." or "sha256:...") are None where none is known; `key` is the name of
    the master key that holds the truth, for files that do not.

    >>> PUBLISHED["lhco_bb1"].url
    'https://zenodo.org/records/4536624/files/events_LHCO2020_BlackBox1.h5?download=1'
    """

    file: str
    record: int
    about: str
    citation: str
    size: int | None = None
    checksum: str | None = None
    key: str = ""
    license: str = "CC BY 4.0"

    @property
    def page(self) -> str:
        """The page of the record, where a browser can fetch the file."""
        return f"https://zenodo.org/records/{self.record}"

    @property
    def url(self) -> str:
        """The address of the file itself."""
        return f"{self.page}/files/{self.file}?download=1"

    @property
    def doi(self) -> str:
        """The DOI of the record, which belongs to one version of it: its files never change."""
        return f"10.5281/zenodo.{self.record}"


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

_AUTHORS = "G. Kasieczka, B. Nachman, D. Shih"
_RND = f"{_AUTHORS}, R&D Dataset for LHC Olympics 2020 Anomaly Detection Challenge, doi 10.5281/zenodo."
_BOXES = f"{_AUTHORS}, Official Datasets for LHC Olympics 2020 Anomaly Detection Challenge, doi 10.5281/zenodo.4536624"

PUBLISHED = {
    "lhco_rnd": Published(
        "events_anomalydetection.h5",
        4536377,
        "R&D data set, first version: 1,000,000 QCD dijet and 100,000 two-prong W' -> XY events, raw hadrons, labels",
        _RND + "4536377",
    ),
    "lhco_rnd_v2": Published(
        "events_anomalydetection_v2.h5",
        6466204,
        "R&D data set: 1,000,000 QCD dijet and 100,000 two-prong W' -> XY events, raw hadrons, labels",
        _RND + "6466204",
        size=2_908_260_409,
        checksum="md5:629789d55813be3860781b084ae7f1de",
    ),
    "lhco_rnd_3prong": Published(
        "events_anomalydetection_Z_XY_qqq.h5",
        6466204,
        "R&D data set, signal only: 100,000 three-prong Z' -> XY, X, Y -> qqq events, raw hadrons",
        _RND + "6466204",
        size=235_488_994,
        checksum="md5:54e123a86143b668f9cb76905152a124",
    ),
    "lhco_rnd_v2_features": Published(
        "events_anomalydetection_v2.features.h5",
        6466204,
        "the events of lhco_rnd_v2 as momenta, masses and N-subjettiness of two jets, labels",
        _RND + "6466204",
        size=74_315_238,
        checksum="md5:271cf5e71fc756b2a8d2b32730689bdb",
    ),
    "lhco_rnd_3prong_features": Published(
        "events_anomalydetection_Z_XY_qqq.features.h5",
        6466204,
        "the events of lhco_rnd_3prong as momenta, masses and N-subjettiness of two jets; no labels: all signal",
        _RND + "6466204",
        size=5_176_081,
        checksum="md5:1e729f7dff225451182c28afaa4bb411",
    ),
    "lhco_background": Published(
        "events_LHCO2020_backgroundMC_Pythia.h5",
        4536624,
        "1,000,000 QCD dijet events, raw hadrons: the simulation that came with the black boxes, not their background",
        _BOXES,
    ),
    "lhco_bb1": Published(
        "events_LHCO2020_BlackBox1.h5", 4536624, "Black Box 1: 1,000,000 events", _BOXES, key="lhco_bb1_key"
    ),
    "lhco_bb2": Published("events_LHCO2020_BlackBox2.h5", 4536624, "Black Box 2: 1,000,000 events, no signal", _BOXES),
    "lhco_bb3": Published(
        "events_LHCO2020_BlackBox3.h5", 4536624, "Black Box 3: 1,000,000 events", _BOXES, key="lhco_bb3_key"
    ),
    "lhco_bb1_key": Published(
        "events_LHCO2020_BlackBox1.masterkey", 4536624, "truth of Black Box 1: 0 background, 1 signal", _BOXES
    ),
    "lhco_bb3_key": Published(
        "events_LHCO2020_BlackBox3.masterkey",
        4536624,
        "truth of Black Box 3: 0 background, 1 and 2 signal in two decay channels",
        _BOXES,
    ),
}


def published(name: str) -> Published:
    """Return a published file by its name; raises `InputError` naming the nearest names.

    >>> published("lhco_bb3").key
    'lhco_bb3_key'
    """
    if name in PUBLISHED:
        return PUBLISHED[name]
    if name in SAMPLES:
        raise InputError(f"{name}: comes with the package, there is nothing to download; use it by its name")
    near = difflib.get_close_matches(name, PUBLISHED, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(PUBLISHED)}"
    raise InputError(f"{name}: no published data set of that name; {hint}")


def credit(path_or_name: str | os.PathLike[str]) -> dict[str, str]:
    """Return `license` and `citation` of a data set of the catalog, given by its name; both empty for a path.

    >>> credit("lhco_bb1")["license"], credit("events.h5")["license"]
    ('CC BY 4.0', '')
    """
    entry = (SAMPLES | PUBLISHED).get(str(path_or_name))
    return {field: getattr(entry, field) if entry else "" for field in ("license", "citation")}


__getattr__ = moved_names(__name__, {"find": "pipelines.datasets.find.find"})
