"""A parametric detector that gives hadrons as the LHC Olympics have them: massless, (pt, eta, phi), one particle each.

What happens to a visible final-state particle, in this order (numbers are the constants below; a (+) b is the root
of a^2 + b^2):

1. It is inside |eta| < `MAX_ETA` and has pt > `MIN_PT`, or is lost.
2. A charged one leaves a track with probability `TRACKING_EFFICIENCY`. A muon without a track is lost; everything
   else without one is measured by the calorimeter, electrons and photons by its electromagnetic part.
3. Its pt is multiplied by 1 + sigma g, g standard normal, the factor kept within `RESPONSE_RANGE`, where sigma is

       tracks            TRACK_CONSTANT (+) TRACK_SLOPE pt
       electromagnetic   EM_CONSTANT (+) EM_STOCHASTIC / sqrt(E)
       hadronic          HADRONIC_CONSTANT (+) HADRONIC_STOCHASTIC / sqrt(E)

4. Without a track, eta and phi are known up to a calorimeter cell: they move by a uniform number within half of
   `EM_CELL` or `HADRONIC_CELL` to both sides.
5. It is above `TRACK_THRESHOLD` or `CALORIMETER_THRESHOLD`, or is lost.

Values are rounded to single precision, as the published ones are. There is no pile-up, no magnetic field and no
overlap of showers. The numbers are round ones, of the size of an LHC experiment's, and are not fitted to any.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipelines.simulation.pythia import Record, final_state

MAX_ETA = 2.5
MIN_PT = 0.4  # GeV, of a generated particle
TRACKING_EFFICIENCY = 0.95
TRACK_CONSTANT, TRACK_SLOPE = 0.01, 2e-4  # -, 1/GeV
EM_CONSTANT, EM_STOCHASTIC = 0.007, 0.10  # -, sqrt(GeV)
HADRONIC_CONSTANT, HADRONIC_STOCHASTIC = 0.05, 0.60  # -, sqrt(GeV)
RESPONSE_RANGE = (0.05, 3.0)
EM_CELL, HADRONIC_CELL = 0.02, 0.05  # in eta, and in phi (rad)
TRACK_THRESHOLD, CALORIMETER_THRESHOLD = 0.5, 1.0  # GeV, of a measured particle

JET_RADIUS = 1.0
JET_MIN_PT = 20.0  # GeV
TRIGGER_PT = 1200.0  # GeV, of the leading jet
TRIGGER_ETA = 2.5

_ELECTRON, _MUON, _PHOTON = 11, 13, 22  # PDG codes


class Hadrons(NamedTuple):
    """Measured particles of some events: arrays (M,), and `counts` (N,) that says how many each event has."""

    counts: np.ndarray
    pt: np.ndarray
    eta: np.ndarray
    phi: np.ndarray


def measure(record: Record, rng: np.random.Generator) -> Hadrons:
    """Return what the detector sees of some events, in the order of the record: pt (GeV), eta, phi in [-pi, pi]."""
    seen = final_state(record)
    seen = seen.take(seen.visible & (seen.pt > MIN_PT))  # pt first: particles along the beam have no eta
    seen = seen.take(np.abs(seen.eta) < MAX_ETA)
    species = np.abs(seen.id)
    track = (seen.charge != 0) & (rng.random(len(species)) < TRACKING_EFFICIENCY)
    em = ~track & np.isin(species, (_ELECTRON, _PHOTON))
    response = 1 + resolution(seen.pt, seen.eta, track, em) * rng.standard_normal(len(species))
    pt = seen.pt * np.clip(response, *RESPONSE_RANGE)
    cell = np.select([track, em], [0.0, EM_CELL], HADRONIC_CELL)
    eta, phi = (angle + cell * rng.uniform(-0.5, 0.5, len(species)) for angle in (seen.eta, seen.phi))
    found = (pt > np.where(track, TRACK_THRESHOLD, CALORIMETER_THRESHOLD)) & (track | (species != _MUON))
    counts = np.bincount(seen.event[found], minlength=len(record.counts))
    phi -= 2 * np.pi * np.rint(phi / (2 * np.pi))
    return Hadrons(counts, *(quantity[found].astype(np.float32) for quantity in (pt, eta, phi)))


def resolution(pt: np.ndarray, eta: np.ndarray, track: np.ndarray, em: np.ndarray) -> np.ndarray:
    """Return sigma(pt) / pt of particles of pt (GeV) and eta with a track, an electromagnetic shower, or neither.

    >>> sigma = resolution(np.full(3, 100.0), np.zeros(3), np.array([True, False, False]), np.array([False, True, False]))
    >>> sigma.round(4).tolist()
    [0.0224, 0.0122, 0.0781]
    """
    root = np.sqrt(pt * np.cosh(eta))  # of the energy
    return np.select(
        [track, em],
        [np.hypot(TRACK_CONSTANT, TRACK_SLOPE * pt), np.hypot(EM_CONSTANT, EM_STOCHASTIC / root)],
        np.hypot(HADRONIC_CONSTANT, HADRONIC_STOCHASTIC / root),
    )


def triggered(hadrons: Hadrons) -> np.ndarray:
    """Tell which events the trigger takes, (N,) bool.

    There are two anti-kt jets of radius `JET_RADIUS` above `JET_MIN_PT`, and the leading one has
    pt > `TRIGGER_PT` and |eta| < `TRIGGER_ETA`.
    """
    import awkward as ak
    import fastjet

    from pipelines.features.jets import send_banner_to_stderr

    send_banner_to_stderr()
    pt, eta, phi = (quantity.astype(np.float64) for quantity in hadrons[1:])
    momenta = {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pt * np.sinh(eta), "E": pt * np.cosh(eta)}
    particles = ak.with_name(ak.unflatten(ak.Array(momenta), hadrons.counts), "Momentum4D")
    sequence = fastjet.ClusterSequence(particles, fastjet.JetDefinition(fastjet.antikt_algorithm, JET_RADIUS))
    jets = sequence.inclusive_jets(JET_MIN_PT)
    jet_pt = np.hypot(jets.px, jets.py)
    leading = ak.argmax(jet_pt, axis=1, keepdims=True)
    central = np.abs(np.arcsinh(jets.pz / jet_pt)) < TRIGGER_ETA
    passes = (jet_pt > TRIGGER_PT) & central
    return ak.fill_none(ak.any(passes[leading], axis=1) & (ak.num(jets) >= 2), False).to_numpy()


def constants() -> dict[str, object]:
    """Return the numbers that make this detector, for the attributes of a sample.

    >>> constants()["TRACKING_EFFICIENCY"]
    0.95
    """
    return {name: value for name, value in globals().items() if name.isupper() and name[0] != "_"}
