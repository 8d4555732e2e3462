"""A parametric detector: the final state of simulated events becomes jets, b tags, leptons, photons and MET.

Particles are clustered as they are and objects are smeared afterwards, which is fast, and can be checked against
its formulas. These are, with pt and energy E in GeV:

| object | relative resolution | source |
|---|---|---|
| jet | sqrt((N/pt)^2 + S^2/pt + C^2) of pt, `JET_RESOLUTION` | form: ATLAS, arXiv 2007.02645 |
| electron, photon | sqrt(S^2/E + C^2) of E, `CALORIMETER_RESOLUTION` | ATLAS TDR, CERN-LHCC-99-14 |
| muon | sqrt(A^2 + (B pt)^2) of pt, `MUON_RESOLUTION` | ATLAS card of Delphes 3, arXiv 1307.6346 |

Efficiencies (`ELECTRON_EFFICIENCY` and so on) and b tags for one working point (`tag_probability`) are those of the
same Delphes card; the four working points of MV2c10 (`MV2C10`) are those of ATL-PHYS-PUB-2016-012.

What is not there: pile-up, tails beyond Gaussian, fake and charge-flipped leptons, hadronic taus other than as jets,
magnetic field, smearing of directions.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np

from pipelines.simulation.pythia import Record, final_state

REACH = 4.9
"""|eta| where the calorimeters end; what goes further is not seen."""

TRACKER = 2.5
"""|eta| where tracks end, and b tags with them."""

JET_RADIUS = 0.4
JET_SEED, JET_PT = 10.0, 20.0
"""Jets below the first before they are smeared, or below the second after, belong to the soft term (pt, GeV)."""

BARREL = 1.5
"""|eta| that parts the two rows of the tables of efficiencies."""

JET_RESOLUTION = (3.0, 0.70, 0.03)
"""Noise N (GeV), stochastic S (GeV^1/2), constant C."""

CALORIMETER_RESOLUTION = (0.101, 0.007)
"""Stochastic S (GeV^1/2), constant C."""

MUON_RESOLUTION = ((0.5, 0.010, 1.0e-4), (1.5, 0.015, 1.5e-4), (2.7, 0.025, 3.5e-4))
"""Up to which |eta|: constant A, and B (1/GeV)."""

SOFT_RESOLUTION = (5.0, 0.5)
"""Of each component of the soft term: a floor (GeV), and a factor of sqrt(its sum of pt), GeV^1/2, in quadrature."""


class Efficiency(NamedTuple):
    """Probability by pt and |eta|: 0 below `threshold` (GeV), then barrel and end cap below `knee` (GeV) and above."""

    threshold: float
    knee: float
    barrel: tuple[float, float]
    endcap: tuple[float, float]

    def __call__(self, pt: np.ndarray, eta: np.ndarray) -> np.ndarray:
        low = np.where(np.abs(eta) <= BARREL, self.barrel[0], self.endcap[0])
        high = np.where(np.abs(eta) <= BARREL, self.barrel[1], self.endcap[1])
        return np.where(pt <= self.threshold, 0.0, np.where(pt <= self.knee, low, high))


# Tracking times identification, as the card applies them one after the other.
ELECTRON_EFFICIENCY = Efficiency(10.0, 100.0, (0.95 * 0.95, 0.99 * 0.95), (0.83 * 0.85, 0.90 * 0.85))
MUON_EFFICIENCY = Efficiency(10.0, np.inf, (0.99 * 0.95, 0.99 * 0.95), (0.98 * 0.85, 0.98 * 0.85))
PHOTON_EFFICIENCY = Efficiency(10.0, np.inf, (0.95, 0.95), (0.85, 0.85))

DRESSING = 0.1
"""Photons this near (dR) to an electron are in its cluster."""

OVERLAP_SAME, OVERLAP_NEAR = 0.2, 0.4
"""A jet this near (dR) to an electron or photon that has more than half of its pt is that particle; what else has a
jet this near is a part of it."""

HADRON_MATCH, HADRON_PT = 0.3, 5.0
"""The flavour of a jet is that of the heaviest b or c hadron or tau of at least this pt (GeV) within this dR."""

TRACK_PT = 0.5
"""Particles below this pt, GeV, do not count for isolation."""

# Impact parameters: a (mm) and b (mm GeV) of sqrt(a^2 + (b/pt)^2).
D0_RESOLUTION = (0.010, 0.10)
Z0_RESOLUTION = (0.040, 0.15)

MV2C10 = (
    (0.9349, {5: 0.60, 4: 1 / 34, 15: 1 / 184, 0: 1 / 1538}),
    (0.8244273, {5: 0.70, 4: 1 / 12, 15: 1 / 55, 0: 1 / 381}),
    (0.6459, {5: 0.77, 4: 1 / 6, 15: 1 / 22, 0: 1 / 134}),
    (0.1758475, {5: 0.85, 4: 1 / 3.1, 15: 1 / 8.2, 0: 1 / 33}),
)
"""Working points of MV2c10: the cut, and the probability that a jet of a flavour is above it, averaged over pt."""

_REFERENCE_PT = 60.0  # where those averages are taken to hold; `tag_probability` gives the dependence on pt


@dataclasses.dataclass(frozen=True)
class Acceptance:
    """Which objects are kept: least pt (GeV) and largest |eta| of each, and how isolated electrons and muons must be.

    `isolation` is the largest energy flow in the cone of `cone` around a lepton or photon, as a fraction of its pt.
    """

    jet: tuple[float, float] = (20.0, 2.8)
    electron: tuple[float, float] = (15.0, 2.5)
    muon: tuple[float, float] = (15.0, 2.7)
    photon: tuple[float, float] = (20.0, 2.37)
    cone: float = 0.5
    track_cone: float = 0.3
    isolation: tuple[float, float, float] = (0.12, 0.25, 0.12)


class Objects(NamedTuple):
    """Objects of one kind of some events, one after the other, pt falling in each event: arrays (M,).

    `event` says whose; momenta in GeV; `flavour` of a jet is 5, 4, 15 (tau) or 0, of others their PDG code without
    sign; `tag` is a number in [0, 1) that a jet's b tag is decided with; `ptcone` and `etcone` are the transverse
    momentum of tracks, and of all that calorimeters see, around a lepton (GeV); `d0`, `sigma_d0`, `z0` in mm.
    """

    event: np.ndarray
    pt: np.ndarray
    eta: np.ndarray
    phi: np.ndarray
    energy: np.ndarray
    charge: np.ndarray
    flavour: np.ndarray
    tag: np.ndarray
    ptcone: np.ndarray
    etcone: np.ndarray
    d0: np.ndarray
    sigma_d0: np.ndarray
    z0: np.ndarray

    def take(self, chosen: np.ndarray) -> Objects:
        """Keep those of a mask or of places."""
        return Objects(*(quantity[chosen] for quantity in self))

    def scaled(self, factor: np.ndarray) -> Objects:
        """Return them with their momenta multiplied, directions unchanged."""
        return self._replace(pt=self.pt * factor, energy=self.energy * factor)

    def sorted(self) -> Objects:
        """Return them by event and falling pt."""
        return self.take(np.lexsort((-self.pt, self.event)))

    @property
    def px(self) -> np.ndarray:
        return self.pt * np.cos(self.phi)

    @property
    def py(self) -> np.ndarray:
        return self.pt * np.sin(self.phi)

    def count(self, events: int) -> np.ndarray:  # type: ignore[override]  # of a tuple, that nobody asks for
        """How many each event has, (N,)."""
        return np.bincount(self.event, minlength=events)

    def sum(self, quantity: np.ndarray, events: int) -> np.ndarray:
        """Sum of a quantity (M,) over the objects of each event, (N,)."""
        return _sum_by(self.event, quantity, events)


class Event(NamedTuple):
    """What the detector saw of N events: objects, and the missing transverse momentum, (N,) GeV and rad."""

    jets: Objects
    electrons: Objects
    muons: Objects
    photons: Objects
    met: np.ndarray
    met_phi: np.ndarray


def jet_resolution(pt: np.ndarray) -> np.ndarray:
    """Return sigma(pt)/pt of jets of pt (GeV).

    >>> round(float(jet_resolution(100.0)), 4)
    0.0819
    """
    noise, stochastic, constant = JET_RESOLUTION
    return np.sqrt((noise / pt) ** 2 + stochastic**2 / pt + constant**2)


def calorimeter_resolution(energy: np.ndarray) -> np.ndarray:
    """Return sigma(E)/E of electrons and photons of energy E (GeV).

    >>> round(float(calorimeter_resolution(45.0)), 4)
    0.0166
    """
    stochastic, constant = CALORIMETER_RESOLUTION
    return np.sqrt(stochastic**2 / energy + constant**2)


def muon_resolution(pt: np.ndarray, eta: np.ndarray) -> np.ndarray:
    """Return sigma(pt)/pt of muons of pt (GeV) at eta.

    >>> round(float(muon_resolution(1000.0, 0.0)), 4)
    0.1005
    """
    edges, constant, slope = np.transpose(MUON_RESOLUTION)
    place = np.minimum(np.searchsorted(edges, np.abs(eta)), len(edges) - 1)
    return np.hypot(constant[place], slope[place] * pt)


def tag_probability(pt: np.ndarray, flavour: np.ndarray) -> np.ndarray:
    """Return the probability that a jet is tagged as b, by pt (GeV) and flavour (5, 4, 15 or 0).

    b: 0.80 tanh(0.003 pt) 30/(1 + 0.086 pt); c: 0.20 tanh(0.02 pt)/(1 + 0.0034 pt); others: 0.002 + 7.3e-6 pt.
    Source: ATLAS card of Delphes 3, which the Dark Machines data were made with.

    >>> tag_probability(100.0, np.array([5, 4, 0])).round(3).tolist()
    [0.728, 0.144, 0.003]
    """
    bottom = 0.80 * np.tanh(0.003 * pt) * 30 / (1 + 0.086 * pt)
    charm = 0.20 * np.tanh(0.02 * pt) / (1 + 0.0034 * pt)
    return np.where(flavour == 5, bottom, np.where(flavour == 4, charm, 0.002 + 7.3e-6 * pt))


def mv2c10(pt: np.ndarray, flavour: np.ndarray, tag: np.ndarray) -> np.ndarray:
    """Return values of ATLAS' discriminant for jets of pt (GeV), flavour, and a uniform number `tag` in [0, 1).

    The values are made so that the cuts of `MV2C10` have its probabilities, which depend on pt as
    `tag_probability` does; between the cuts they are uniform. A jet has tag < probability where it is above the cut.

    >>> mv2c10(np.array([60.0, 60.0]), np.array([5, 5]), np.array([0.59, 0.61])) > 0.9349
    array([ True, False])
    """
    shape = tag_probability(pt, flavour) / tag_probability(np.array(_REFERENCE_PT), flavour)
    cuts, before = [1.0], [np.zeros_like(pt, float)]
    for cut, of_flavour in MV2C10:
        average = np.select([flavour == known for known in of_flavour], list(of_flavour.values()))
        cuts.append(cut)
        before.append(np.minimum(average * shape, 1.0))
    edges = np.stack([*before, np.ones_like(before[0])])  # rising probabilities against falling cuts
    value = np.full(np.shape(pt), -1.0)
    for place, (top, bottom) in enumerate(zip(cuts, [*cuts[1:], -1.0])):
        low, high = edges[place], np.maximum(edges[place + 1], edges[place])
        inside = (tag >= low) & (tag < high)
        fraction = np.divide(tag - low, high - low, out=np.zeros_like(value), where=inside)
        value = np.where(inside, top - fraction * (top - bottom), value)
    return value


def reconstruct(record: Record, rng: np.random.Generator, acceptance: Acceptance) -> Event:
    """Return what the detector sees of events.

    1. Anti-kt jets, R = 0.4, of all visible particles within `REACH` but muons; leptons and photons by efficiency.
    2. Momenta are smeared; electrons take photons within `DRESSING` with them.
    3. Isolation, then overlaps (`OVERLAP_SAME`, `OVERLAP_NEAR`).
    4. MET = -(sum of jets, leptons and photons as measured + soft term); the soft term is everything else the
       calorimeters see and muons below the threshold of identification, blurred by `SOFT_RESOLUTION`. A muon that
       is not identified for want of luck, or too far forward, is invisible; one inside a jet is not an object, but
       counts for MET.

    Args:
        record: complete records of N events.
        rng: random numbers; the result depends on their state and on the batch as a whole.
        acceptance: which objects are kept.

    Returns:
        `Event`: objects within the acceptance, and MET.
    """
    events = len(record.counts)
    final = final_state(record)
    final = final.take(final.visible & (np.hypot(final.px, final.py) > 0))
    muon = np.abs(final.id) == 13
    seen = final.take(~muon & (np.abs(final.eta) < REACH))
    jets = _jets(seen, record, rng)
    muons, kept_muons, faint = _muons(final.take(muon), seen, acceptance, rng)
    electrons = _electromagnetic(seen, 11, acceptance, rng)
    photons = _electromagnetic(seen, 22, acceptance, rng, electrons.true)

    jets, electrons, photons, kept_muons = _without_overlaps(jets, electrons, photons, kept_muons, events)
    visible = [electrons.measured, photons.measured, jets.measured, muons]
    hard = [electrons.true, photons.true, jets.true]
    px, py, total = (_sum_by(seen.event, quantity, events) for quantity in (seen.px, seen.py, seen.pt))
    soft = np.stack([px, py]) + np.stack([faint.sum(faint.px, events), faint.sum(faint.py, events)])
    soft -= np.stack([sum(o.sum(o.px, events) for o in hard), sum(o.sum(o.py, events) for o in hard)])
    activity = np.clip(total - sum(o.sum(o.pt, events) for o in hard), 0, None)
    soft += rng.standard_normal((2, events)) * np.hypot(SOFT_RESOLUTION[0], SOFT_RESOLUTION[1] * np.sqrt(activity))
    x = -(sum(o.sum(o.px, events) for o in visible) + soft[0])
    y = -(sum(o.sum(o.py, events) for o in visible) + soft[1])
    inside = (jets.measured.pt > acceptance.jet[0]) & (np.abs(jets.measured.eta) < acceptance.jet[1])
    kept = (jets.measured.take(inside), electrons.measured, kept_muons, photons.measured)
    return Event(*(*(o.sorted() for o in kept), np.hypot(x, y), np.arctan2(y, x)))


def pairs(first: np.ndarray, second: np.ndarray, events: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of all pairs of one object of each kind in the same event.

    Args:
        first: events of the objects of the first kind, (A,).
        second: those of the second kind, (B,), rising.
        events: how many events there are.

    Returns:
        Places in the first and in the second, both (P,).

    >>> pairs(np.array([0, 2]), np.array([0, 0, 1, 2]), 3)
    (array([0, 0, 1]), array([0, 1, 3]))
    """
    sizes = np.bincount(second, minlength=events)
    starts = np.cumsum(sizes) - sizes
    counts = sizes[first]
    left = np.repeat(np.arange(len(first)), counts)
    within = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
    return left, starts[first][left] + within


def distance(eta_1: np.ndarray, phi_1: np.ndarray, eta_2: np.ndarray, phi_2: np.ndarray) -> np.ndarray:
    """Return dR = sqrt(d(eta)^2 + d(phi)^2), phi wrapped.

    >>> round(float(distance(0.0, 3.1, 0.0, -3.1)), 4)
    0.0832
    """
    return np.hypot(eta_1 - eta_2, np.remainder(phi_1 - phi_2 + np.pi, 2 * np.pi) - np.pi)


class _Measured(NamedTuple):
    """The same objects as they are and as they are measured."""

    true: Objects
    measured: Objects

    def take(self, chosen: np.ndarray) -> _Measured:
        return _Measured(self.true.take(chosen), self.measured.take(chosen))


def _objects(
    event: np.ndarray, pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, energy: np.ndarray, **details: np.ndarray
) -> Objects:
    zero = np.zeros(len(pt))
    known = dict.fromkeys(Objects._fields[5:], zero) | details
    return Objects(event, pt, eta, phi, energy, **known)


def _of(record: Record, chosen: np.ndarray) -> Objects:
    """Return particles of a record as objects, with their impact parameters."""
    part = record.take(chosen)
    # Of a straight line: charged particles bend too little within some mm to matter.
    along = part.x * np.cos(part.phi) + part.y * np.sin(part.phi)
    return _objects(
        *(part.event, part.pt, part.eta, part.phi, part.energy),
        charge=part.charge,
        flavour=np.abs(part.id),
        d0=part.y * np.cos(part.phi) - part.x * np.sin(part.phi),
        z0=part.z - along * np.sinh(part.eta),
    )


def _jets(seen: Record, record: Record, rng: np.random.Generator) -> _Measured:
    true = _cluster(seen)
    true = true._replace(flavour=_flavour(true, record), tag=rng.random(len(true.pt)))
    factor = 1 + jet_resolution(true.pt) * rng.standard_normal(len(true.pt))
    jets = _Measured(true, true.scaled(np.clip(factor, 0.05, None)))
    return jets.take(jets.measured.pt > JET_PT)


def _cluster(seen: Record) -> Objects:
    import awkward as ak
    import fastjet

    _prepare()
    particles = ak.zip({"px": seen.px, "py": seen.py, "pz": seen.pz, "E": seen.energy}, with_name="Momentum4D")
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, JET_RADIUS)
    jets = fastjet.ClusterSequence(ak.unflatten(particles, seen.counts), definition).inclusive_jets(JET_SEED)
    event = np.repeat(np.arange(len(jets)), ak.num(jets).to_numpy())
    px, py, pz, energy = (ak.flatten(jets[name]).to_numpy() for name in ("px", "py", "pz", "E"))
    pt = np.hypot(px, py)
    return _objects(event, pt, np.arcsinh(pz / pt), np.arctan2(py, px), energy)


@functools.cache
def _prepare() -> None:
    from pipelines.features import jets

    jets.send_banner_to_stderr()


def _flavour(jets: Objects, record: Record) -> np.ndarray:
    """Return 5, 4, 15 or 0: the first of these with a hadron or tau near."""
    code = np.abs(record.id)
    quarks = np.stack([code // 1000 % 10, code // 100 % 10])
    hadron = (code > 100) & (code // 10 % 10 > 0) & (np.abs(record.eta) < REACH) & (record.pt > HADRON_PT)
    flavour = np.zeros(len(jets.pt), int)
    tau = (code == 15) & (record.pt > HADRON_PT)
    for number, chosen in ((15, tau), (4, hadron & (quarks == 4).any(0)), (5, hadron & (quarks == 5).any(0))):
        source = record.take(chosen)
        left, right = pairs(jets.event, source.event, len(record.counts))
        near = distance(jets.eta[left], jets.phi[left], source.eta[right], source.phi[right]) < HADRON_MATCH
        flavour[left[near]] = number
    return flavour


def _muons(
    final: Record, seen: Record, acceptance: Acceptance, rng: np.random.Generator
) -> tuple[Objects, Objects, Objects]:
    """Return all muons measured, those of them within the acceptance, and the ones too soft to be identified."""
    low = final.pt <= MUON_EFFICIENCY.threshold
    reach = np.abs(final.eta) < acceptance.muon[1]
    lucky = rng.random(len(low)) < MUON_EFFICIENCY(final.pt, final.eta)
    noise = rng.standard_normal((4, len(low)))
    faint, true = _of(final, low & reach), _of(final, lucky & reach)
    noise = noise[:, lucky & reach]
    smeared = true.scaled(np.clip(1 + muon_resolution(true.pt, true.eta) * noise[0], 0.05, None))
    smeared = _isolation(_tracked(smeared, noise[1:]), seen, acceptance, None)
    passed = (smeared.pt > acceptance.muon[0]) & (smeared.etcone < acceptance.isolation[1] * smeared.pt)
    return smeared, smeared.take(passed), faint


def _electromagnetic(
    seen: Record, code: int, acceptance: Acceptance, rng: np.random.Generator, electrons: Objects | None = None
) -> _Measured:
    """Return identified, isolated electrons (11), or photons (22) that are not near these electrons."""
    least, largest = acceptance.electron if code == 11 else acceptance.photon
    efficiency = ELECTRON_EFFICIENCY if code == 11 else PHOTON_EFFICIENCY
    candidate = (np.abs(seen.id) == code) & (np.abs(seen.eta) < largest) & (seen.pt > efficiency.threshold)
    lucky = rng.random(len(candidate)) < efficiency(seen.pt, seen.eta)
    noise = rng.standard_normal((4, len(candidate)))[:, candidate & lucky]
    true = _of(seen, candidate & lucky)
    if code == 11:
        true = _dressed(true, seen)
    factor = np.clip(1 + calorimeter_resolution(true.energy) * noise[0], 0.05, None)
    smeared = _isolation(_tracked(true.scaled(factor), noise[1:]), seen, acceptance, code)
    share = acceptance.isolation[0 if code == 11 else 2]
    passed = (smeared.pt > least) & (smeared.etcone < share * smeared.pt)
    if electrons is not None:
        left, right = pairs(true.event, electrons.event, len(seen.counts))
        near = distance(true.eta[left], true.phi[left], electrons.eta[right], electrons.phi[right]) < DRESSING
        passed[left[near]] = False
    return _Measured(true.take(passed), smeared.take(passed))


def _dressed(electrons: Objects, seen: Record) -> Objects:
    """Add the photons near each electron to it: momenta along its direction, so that none is counted twice."""
    photons = seen.take(seen.id == 22)
    left, right = pairs(electrons.event, photons.event, len(seen.counts))
    near = distance(electrons.eta[left], electrons.phi[left], photons.eta[right], photons.phi[right]) < DRESSING
    extra = _sum_by(left[near], photons.pt[right[near]], len(electrons.pt))
    return electrons.scaled(1 + extra / electrons.pt)


def _tracked(leptons: Objects, noise: np.ndarray) -> Objects:
    """Smear impact parameters with normal numbers (3, M)."""
    sigma_d0, sigma_z0 = (np.hypot(a, b / leptons.pt) for a, b in (D0_RESOLUTION, Z0_RESOLUTION))
    d0, z0 = leptons.d0 + sigma_d0 * noise[0], leptons.z0 + sigma_z0 * noise[1]
    return leptons._replace(d0=d0, z0=z0, sigma_d0=sigma_d0)


def _isolation(leptons: Objects, seen: Record, acceptance: Acceptance, code: int | None) -> Objects:
    """Fill `ptcone` and `etcone`, without the lepton itself and the photons that dress it."""
    near_enough = seen.take(seen.pt > TRACK_PT)
    left, right = pairs(leptons.event, near_enough.event, len(seen.counts))
    far = distance(leptons.eta[left], leptons.phi[left], near_enough.eta[right], near_enough.phi[right])
    kind = np.abs(near_enough.id[right])
    own = (far < 1e-9) if code is not None else np.zeros(len(far), bool)
    own |= (kind == 22) & (far < DRESSING) & (code == 11)
    pt = near_enough.pt[right]
    tracks = (near_enough.charge[right] != 0) & (np.abs(near_enough.eta[right]) < TRACKER)

    def cone(chosen: np.ndarray) -> np.ndarray:
        return _sum_by(left[chosen], pt[chosen], len(leptons.pt))

    ptcone = cone(~own & tracks & (far < acceptance.track_cone))
    return leptons._replace(ptcone=ptcone, etcone=cone(~own & (far < acceptance.cone)))


def _without_overlaps(
    jets: _Measured, electrons: _Measured, photons: _Measured, muons: Objects, events: int
) -> tuple[Any, ...]:
    """Drop jets that are an electron or photon, then leptons and photons that are part of a jet."""
    is_jet = np.ones(len(jets.true.pt), bool)
    for source in (electrons.true, photons.true):
        left, right = pairs(source.event, jets.true.event, events)
        far = distance(source.eta[left], source.phi[left], jets.true.eta[right], jets.true.phi[right])
        same = (far < OVERLAP_SAME) & (source.pt[left] > 0.5 * jets.true.pt[right])
        is_jet[right[same]] = False
    jets = jets.take(is_jet)

    def alone(objects: Objects) -> np.ndarray:
        left, right = pairs(objects.event, jets.true.event, events)
        far = distance(objects.eta[left], objects.phi[left], jets.true.eta[right], jets.true.phi[right])
        kept = np.ones(len(objects.pt), bool)
        kept[left[far < OVERLAP_NEAR]] = False
        return kept

    return jets, electrons.take(alone(electrons.true)), photons.take(alone(photons.true)), muons.take(alone(muons))


def _sum_by(place: np.ndarray, quantity: np.ndarray, size: int) -> np.ndarray:
    # Without the conversion the sums of nothing would be integers.
    return np.bincount(place, weights=quantity, minlength=size).astype(float)
