"""The leading jets of an event and their substructure: hadrons -> variables of two or three jets and their masses.

The variables are those of Table 1 of the GAN-AE paper (Vaslin, Barra and Donini, Eur. Phys. J. C 83 (2023)
1008), with tau_32 where it prints tau_31. FastJet finds the jets; what is in them is counted in
`pipelines/features/substructure.py` and drawn in `pipelines/features/images.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import sys
from collections.abc import Callable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipelines.features.images import ImageOptions, jet_images

if TYPE_CHECKING:
    import awkward as ak
    import fastjet

RING_EDGES = (
    0.0,
    0.01,
    0.01668101,
    0.02782559,
    0.04641589,
    0.07742637,
    0.12915497,
    0.21544347,
    0.35938137,
    0.59948425,
    1.0,
)
"""Edges of the ten energy rings, fractions of the jet radius; logarithmic above 0.01."""

MOST_RADIUS = 1000  # of FastJet

_RINGS = tuple(f"eRing{i}" for i in range(len(RING_EDGES) - 1))
JET_VARIABLES = (
    *("pt", "eta", "phi", "mass", "e", "nc", "nisj", "nesj"),
    *("tau1", "tau2", "tau3", "tau32", "tau21"),
    *_RINGS,
)
"""Names of the 23 variables of one jet, in the order of the columns."""

MAX_PT = 14_000.0
"""GeV; no jet and no hadron of the LHC has more, whose collisions have 14,000 GeV at the most."""

# FastJet keeps every event of a batch in memory; larger batches gain nothing, smaller ones pay for Awkward.
_BATCH = 1000


@dataclasses.dataclass(frozen=True)
class JetOptions:
    """What is a jet, which jets are taken, and at which scales they are looked into.

    The defaults are those of the GAN-AE paper. The thresholds on hadrons and subjets do nothing by default.

    Args:
        njets: jets taken, 2 or 3: the leading ones in pt.
        radius: R of the anti-kt jets, > 0 and <= 1000, FastJet's limit.
        subjet_radius: R of the kt subjets, > 0 and <= 1000.
        dcut: scale of the exclusive subjets, GeV^2, >= 0: min(pt_i^2, pt_j^2) dR_ij^2 / subjet_radius^2.
        min_pt: jets below are no jets, GeV, >= 0.
        min_subjet_pt: inclusive subjets below are not counted, GeV, >= 0.
        min_hadron_pt: hadrons below are dropped, GeV, >= 0.
        max_hadron_eta: hadrons beyond this |eta| are dropped, > 0.
        order: "pt" or "mass": the order of the jets that were taken, falling. It does not change which are
            taken. "mass" is the order of Bortolato et al. (arXiv 2103.06595).

    Raises:
        ValueError: an option is out of its range.

    Example:
        >>> JetOptions(njets=3, order="mass").radius
        1.0
        >>> JetOptions(radius=-1)
        Traceback (most recent call last):
        ValueError: radius is -1, expected a finite number > 0 and <= 1000
    """

    njets: int = 2
    radius: float = 1.0
    subjet_radius: float = 0.2
    dcut: float = 0.1
    min_pt: float = 20.0
    min_subjet_pt: float = 0.0
    min_hadron_pt: float = 0.0
    max_hadron_eta: float = np.inf
    order: str = "pt"

    def __post_init__(self) -> None:
        if not isinstance(self.njets, Integral) or self.njets not in (2, 3):
            raise ValueError(f"njets is {self.njets!r}, expected 2 or 3")
        if self.order not in ("pt", "mass"):
            raise ValueError(f"order is {self.order!r}, expected 'pt' or 'mass'")
        for name in ("radius", "subjet_radius"):
            expected = f"a finite number > 0 and <= {MOST_RADIUS}"
            _check(name, getattr(self, name), expected, lambda value: 0 < value <= MOST_RADIUS)
        for name in ("dcut", "min_pt", "min_subjet_pt", "min_hadron_pt"):
            _check(name, getattr(self, name), "a finite number >= 0", lambda value: 0 <= value < np.inf)
        _check("max_hadron_eta", self.max_hadron_eta, "a number > 0", lambda value: value > 0)


def _check(name: str, value: object, expected: str, allowed: Callable[[Any], bool]) -> None:
    if not isinstance(value, Real) or not allowed(value):
        raise ValueError(f"{name} is {value!r}, expected {expected}")


def columns(options: JetOptions | None = None) -> tuple[str, ...]:
    """Return the names of the columns: the variables of each jet, then the invariant masses of the jets.

    >>> len(columns()), columns()[-1]
    (47, 'mj1j2')
    >>> columns(JetOptions(njets=3))[69:]
    ('mj1j2', 'mj1j3', 'mj2j3', 'mj1j2j3')
    """
    njets = (options or JetOptions()).njets
    variables = (f"{name}_{jet}" for jet in range(1, njets + 1) for name in JET_VARIABLES)
    return *variables, *("m" + "".join(f"j{jet + 1}" for jet in group) for group in _groups(njets))


def units(options: JetOptions | None = None) -> tuple[str, ...]:
    """Return the units of the columns; counts, ratios, eta and tau_N have none.

    >>> dict(zip(columns(), units()))["mass_2"]
    'GeV'
    """
    of = {"pt": "GeV", "mass": "GeV", "e": "GeV", "phi": "rad"}
    return tuple("GeV" if name.startswith("mj") else of.get(name.split("_")[0], "") for name in columns(options))


def _groups(njets: int) -> list[tuple[int, ...]]:
    """Return which jets have an invariant mass together: all pairs, then all three."""
    return [group for size in range(2, njets + 1) for group in itertools.combinations(range(njets), size)]


COLUMNS = columns()
"""Names of the 47 columns: the variables of the leading jet, of the second jet, and their invariant mass."""

UNITS = units()
"""Units of the 47 columns."""


@dataclasses.dataclass(frozen=True)
class Jets:
    """What `find_jets` found in N events.

    `features` (N, F) float32, named by `columns(options)`; `found` (N,), how many of the `njets` jets an event
    has; `images` (N, njets, pixels, pixels) float32, or None if none were asked for.
    """

    options: JetOptions
    features: np.ndarray
    found: np.ndarray
    images: np.ndarray | None = None

    @property
    def incomplete(self) -> int:
        """How many events have fewer jets than were to be taken."""
        return int(np.count_nonzero(self.found < self.options.njets))


class _Hadrons(NamedTuple):
    """Massless particles, one array (M,) for each quantity, float64."""

    pt: np.ndarray
    eta: np.ndarray
    phi: np.ndarray
    px: np.ndarray
    py: np.ndarray
    pz: np.ndarray
    energy: np.ndarray

    def take(self, rows: np.ndarray | slice) -> _Hadrons:
        return _Hadrons(*(quantity[rows] for quantity in self))


class _Leading(NamedTuple):
    """The jets taken of some events: (J,) each, momenta (J, 4), and their constituents, one jet after the other."""

    event: np.ndarray
    rank: np.ndarray
    momentum: np.ndarray
    size: np.ndarray
    hadron: np.ndarray


def cluster_events(
    pt: np.ndarray,
    eta: np.ndarray,
    phi: np.ndarray,
    counts: np.ndarray,
    **options: Any,
) -> np.ndarray:
    """Cluster massless hadrons into anti-kt jets and compute the variables of the leading ones.

    With dR^2 = d(eta)^2 + d(phi)^2 wrapped in phi, and sums over the constituents of a jet:

    - `pt eta phi mass e`: the jet, E scheme; `nc`: its constituents;
    - `nisj`: inclusive kt jets of radius `subjet_radius` among them; `nesj`: the exclusive ones at `dcut`;
    - `tauN` = sum(pt min_a dR_a) / sum(pt) over the N axes of exclusive kt of the jet's radius (Thaler and
      Van Tilburg, arXiv 1011.2268, without its 1/R0); `tau21`, `tau32` their ratios;
    - `eRing0..9`: the share of the jet's energy at dR/radius between two `RING_EDGES`;
    - `mj1j2` and, of three jets, `mj1j3 mj2j3 mj1j2j3`: invariant masses of the jets.

    Source: Table 1 of Eur. Phys. J. C 83 (2023) 1008; anti-kt: arXiv 0802.1189; kt: hep-ph/9305266.

    Args:
        pt: transverse momenta of all hadrons of all events, one event after the other, (M,), GeV, >= 0.
            Hadrons with pt 0 are padding and dropped.
        eta: their pseudorapidities, (M,).
        phi: their azimuths, (M,), rad, any period.
        counts: hadrons in each event, (N,), summing to M.
        options: the fields of `JetOptions`, by name.

    Returns:
        (N, F) float32, computed in float64: the `COLUMNS` by default, `columns(options)` in general. A missing
        jet has all variables 0 and then the masses are those of the other ones; tau_N of fewer than N
        constituents and ratios of a zero are 0. `phi` is in [-pi, pi]. The rings of a jet sum to 1 if all its
        constituents are within `radius` of its axis. How events are cut into calls changes nothing.

    Raises:
        ValueError: lengths that disagree, options out of range, or (with the row of the event) a pt that is
            negative, a momentum that is not finite, or a hadron or jet of more than `MAX_PT`, which means MeV.

    Example:
        >>> x = cluster_events(pt=[100, 100], eta=[0, 0], phi=[0, 3.14159265], counts=[2])
        >>> dict(zip(COLUMNS, x[0].tolist()))["mj1j2"]
        200.0
    """
    return find_jets(pt, eta, phi, counts, JetOptions(**options)).features


def find_jets(
    pt: np.ndarray,
    eta: np.ndarray,
    phi: np.ndarray,
    counts: np.ndarray,
    options: JetOptions | None = None,
    images: ImageOptions | None = None,
) -> Jets:
    """Cluster as `cluster_events`, and return the variables, the number of jets and, if asked for, jet images.

    Args:
        pt, eta, phi, counts: hadrons, as for `cluster_events`.
        options: what jets are; default `JetOptions()`.
        images: how to draw them; None draws none. The subjets they are centred on and turned by are the
            inclusive kt jets of radius `subjet_radius`, leading in pt.

    Raises:
        ValueError: as `cluster_events`.

    Example:
        >>> jets = find_jets([100, 90], [0, 0], [0, 3], [2], images=ImageOptions(pixels=11))
        >>> jets.features.shape, jets.images.shape, jets.incomplete
        ((1, 47), (1, 2, 11, 11), 0)
    """
    options = options or JetOptions()
    pt, eta, phi = (np.asarray(quantity, np.float64) for quantity in (pt, eta, phi))
    counts = _check_counts(counts, pt, eta, phi)
    hadrons = _four_momenta(pt, eta, phi, counts)
    event = np.repeat(np.arange(len(counts)), counts)
    kept = (pt > 0) & (pt >= options.min_hadron_pt) & (np.abs(eta) <= options.max_hadron_eta)
    hadrons, counts = hadrons.take(kept), np.bincount(event[kept], minlength=len(counts))
    ends = np.cumsum(counts)
    features = np.zeros((len(counts), len(columns(options))), np.float32)
    found = np.zeros(len(counts), np.int64)
    drawn = None if images is None else np.zeros((len(counts), options.njets, *2 * [images.pixels]), np.float32)
    send_banner_to_stderr()
    for first in range(0, len(counts), _BATCH):
        rows = slice(first, first + _BATCH)
        batch = hadrons.take(slice(ends[first] - counts[first], ends[rows][-1]))
        jets = _leading_jets(_jagged(batch, counts[rows]), options)
        _check_pt(np.hypot(*jets.momentum.T[:2]), first + jets.event, "jet")
        found[rows] = np.bincount(jets.event, minlength=len(counts[rows]))
        features[rows, -len(_groups(options.njets)) :] = _masses(jets, len(counts[rows]), options.njets)
        if len(jets.event):
            constituents, place = batch.take(jets.hadron), (first + jets.event, jets.rank)
            variables, subjets = _jet_variables(jets, constituents, options)
            column = jets.rank[:, None] * len(JET_VARIABLES) + np.arange(len(JET_VARIABLES))
            features[place[0][:, None], column] = variables
            if images is not None:
                axis = np.stack(_direction(*jets.momentum.T[:3]), axis=1)
                assert drawn is not None
                drawn[place] = jet_images(*constituents[:3], jets.size, axis, subjets, images)
    return Jets(options, features, found, drawn)


def _check_counts(counts: np.ndarray, pt: np.ndarray, eta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    counts = np.asarray(counts)
    if counts.ndim != 1 or (counts < 0).any() or (counts != np.floor(counts)).any():
        raise ValueError(f"counts has shape {counts.shape}, expected (N,) whole numbers >= 0, one for each event")
    if not pt.shape == eta.shape == phi.shape == (counts.sum(),):
        raise ValueError(
            f"pt, eta, phi have shapes {pt.shape}, {eta.shape}, {phi.shape}, "
            f"expected ({int(counts.sum())},), the sum of counts, for each"
        )
    return counts.astype(np.int64)


def _four_momenta(pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, counts: np.ndarray) -> _Hadrons:
    with np.errstate(all="ignore"):
        momenta = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)
        good = (pt >= 0) & np.isfinite(momenta[3]) & np.isfinite(phi)
    row = np.repeat(np.arange(len(counts)), counts)
    if not good.all():
        bad = np.flatnonzero(~good)[0]
        raise ValueError(
            f"event row {row[bad]}: a hadron has pt {pt[bad]:g}, eta {eta[bad]:g}, phi {phi[bad]:g}, "
            f"expected finite numbers and pt >= 0"
        )
    _check_pt(pt, row, "hadron")
    return _Hadrons(pt, eta, phi, *momenta)


def _check_pt(pt: np.ndarray, row: np.ndarray, what: str) -> None:
    if (pt > MAX_PT).any():
        bad = np.argmax(pt > MAX_PT)
        raise ValueError(
            f"event row {row[bad]}: a {what} has a pt of {pt[bad]:g} GeV, more than the {MAX_PT:g} GeV of an LHC "
            f"collision; are the momenta in MeV? divide them by 1000"
        )


def _masses(jets: _Leading, events: int, njets: int) -> np.ndarray:
    """Return the invariant masses of the groups of jets, (N, groups)."""
    momentum = np.zeros((events, njets, 4))
    momentum[jets.event, jets.rank] = jets.momentum
    return np.stack([_mass(*momentum[:, group].sum(axis=1).T) for group in _groups(njets)], axis=1)


def _jet_variables(jets: _Leading, constituents: _Hadrons, options: JetOptions) -> tuple[np.ndarray, np.ndarray]:
    """Return the `JET_VARIABLES` of jets, (J, 23), and (eta, phi) of their two leading subjets, (J, 2, 2)."""
    from pipelines.features.substructure import substructure  # Numba takes half a second

    px, py, pz, energy = jets.momentum.T
    eta, phi = _direction(px, py, pz)
    momentum = np.stack([np.hypot(px, py), eta, phi, _mass(px, py, pz, energy), energy, jets.size], axis=1)
    inside, subjets = substructure(
        np.stack(constituents[3:], axis=1),
        *(constituents.pt, constituents.eta, constituents.phi),
        *(jets.size, eta, phi, energy.copy()),
        *(float(options.radius), float(options.subjet_radius), float(options.dcut), float(options.min_subjet_pt)),
        np.array(RING_EDGES),
    )
    return np.concatenate([momentum, inside], axis=1), subjets


def _jagged(hadrons: _Hadrons, counts: np.ndarray) -> ak.Array:
    import awkward as ak

    record = ak.Array({"px": hadrons.px, "py": hadrons.py, "pz": hadrons.pz, "E": hadrons.energy})
    return ak.with_name(ak.unflatten(record, counts), "Momentum4D")


def _antikt(radius: float) -> fastjet.JetDefinition:
    import fastjet

    # FastJet's strategies give the same jets; for some 200 hadrons this one is 15 % faster than what it picks by
    # itself. Its tiles do not work for radii near pi.
    strategy = fastjet.N2Tiled if radius <= 1.5 else fastjet.N2Plain
    return fastjet.JetDefinition(fastjet.antikt_algorithm, radius, fastjet.E_scheme, strategy, 1)


def _leading_jets(hadrons: ak.Array, options: JetOptions) -> _Leading:
    """Return the jets leading in pt in the order asked for."""
    import awkward as ak
    import fastjet

    sequence = fastjet.ClusterSequence(hadrons, _antikt(options.radius))
    jets, members = sequence.inclusive_jets(options.min_pt), sequence.constituent_index(options.min_pt)
    number = ak.num(jets).to_numpy()
    event = np.repeat(np.arange(len(number)), number)
    momentum = np.stack([ak.flatten(jets[name]).to_numpy() for name in ("px", "py", "pz", "E")], axis=1)
    taken = np.lexsort((-np.hypot(momentum[:, 0], momentum[:, 1]), event))
    taken = taken[_position(number) < options.njets]
    if options.order == "mass":
        taken = taken[np.lexsort((-_mass(*momentum[taken].T), event[taken]))]
    rank = _position(np.minimum(number, options.njets))
    sizes = ak.flatten(ak.num(members, axis=2)).to_numpy()
    size, start = sizes[taken], (np.cumsum(sizes) - sizes)[taken]
    index = ak.flatten(members, axis=None).to_numpy()[np.repeat(start, size) + _position(size)]
    hadron_counts = ak.num(hadrons).to_numpy()
    first_hadron = (np.cumsum(hadron_counts) - hadron_counts)[event[taken]]
    return _Leading(event[taken], rank, momentum[taken], size, index + np.repeat(first_hadron, size))


def _position(size: np.ndarray) -> np.ndarray:
    """Return 0 to size - 1 for each group, one group after the other."""
    return np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)


def _direction(px: np.ndarray, py: np.ndarray, pz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.arcsinh(pz / np.hypot(px, py)), np.arctan2(py, px)


def _mass(px: np.ndarray, py: np.ndarray, pz: np.ndarray, energy: np.ndarray) -> np.ndarray:
    # E^2 - pz^2 as a product, as FastJet does: it loses fewer digits for forward jets.
    m2 = (energy + pz) * (energy - pz) - (px**2 + py**2)
    return np.sqrt(np.maximum(m2, 0.0))  # rounding can take a massless jet below zero


@functools.cache
def send_banner_to_stderr() -> None:
    """Have FastJet print its citation now, and on stderr.

    It prints it on the C-level stdout at the first clustering, where it would break machine-readable output. Its
    licence terms ask programs not to silence it (ClusterSequence.hh).
    """
    import fastjet

    sys.stdout.flush()
    try:
        stdout = os.dup(1)
    except OSError:  # no stdout to protect
        return
    try:
        os.dup2(2, 1)
        particle = fastjet.PseudoJet(1.0, 0.0, 0.0, 1.0)
        fastjet.ClusterSequence([particle], _antikt(1.0))
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
