"""The two leading jets of an event and their substructure: hadrons -> 45 variables, momenta and m_jj.

The variables are those of Table 1 of the GAN-AE paper (Vaslin, Barra and Donini, Eur. Phys. J. C 83 (2023)
1008), with tau_32 where it prints tau_31.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import awkward as ak
import fastjet
import numpy as np

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

_RINGS = tuple(f"eRing{i}" for i in range(len(RING_EDGES) - 1))
JET_VARIABLES = (
    *("pt", "eta", "phi", "mass", "e", "nc", "nisj", "nesj"),
    *("tau1", "tau2", "tau3", "tau32", "tau21"),
    *_RINGS,
)
"""Names of the 23 variables of one jet, in the order of the columns."""

COLUMNS = (*(f"{name}_{jet}" for jet in (1, 2) for name in JET_VARIABLES), "mj1j2")
"""Names of the 47 columns: the variables of the leading jet, of the second jet, and their invariant mass."""

_UNIT_OF = {"pt": "GeV", "mass": "GeV", "e": "GeV", "mj1j2": "GeV", "phi": "rad"}
UNITS = tuple(_UNIT_OF.get(name.split("_")[0], "") for name in COLUMNS)
"""Units of the 47 columns; counts, ratios, eta and tau_N have none."""

# FastJet keeps every event of a batch in memory; larger batches gain nothing, smaller ones pay for Awkward.
_BATCH = 1000


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


def cluster_events(
    pt: np.ndarray,
    eta: np.ndarray,
    phi: np.ndarray,
    counts: np.ndarray,
    *,
    radius: float = 1.0,
    subjet_radius: float = 0.2,
    dcut: float = 0.1,
    min_pt: float = 20.0,
) -> np.ndarray:
    """Cluster massless hadrons into anti-kt jets and compute the 47 `COLUMNS` of the two leading ones.

    With dR^2 = d(eta)^2 + d(phi)^2 wrapped in phi, and sums over the constituents of a jet:

    - `pt eta phi mass e`: the jet, E scheme; `nc`: its constituents;
    - `nisj`: inclusive kt jets of radius `subjet_radius` among them; `nesj`: the exclusive ones at `dcut`;
    - `tauN` = sum(pt min_a dR_a) / sum(pt) over the N axes of exclusive kt of the jet's radius (Thaler and
      Van Tilburg, arXiv 1011.2268, without its 1/R0); `tau21`, `tau32` their ratios;
    - `eRing0..9`: the share of the jet's energy at dR/radius between two `RING_EDGES`;
    - `mj1j2`: invariant mass of the two jets.

    Source: Table 1 of Eur. Phys. J. C 83 (2023) 1008; anti-kt: arXiv 0802.1189; kt: hep-ph/9305266.

    Args:
        pt: transverse momenta of all hadrons of all events, one event after the other, (M,), GeV, >= 0.
            Hadrons with pt 0 are padding and dropped.
        eta: their pseudorapidities, (M,).
        phi: their azimuths, (M,), rad, any period.
        counts: hadrons in each event, (N,), summing to M.
        radius: jet radius R, > 0.
        subjet_radius: radius of the inclusive subjets, > 0.
        dcut: scale of the exclusive subjets, GeV^2, >= 0: min(pt_i^2, pt_j^2) dR_ij^2 / subjet_radius^2.
        min_pt: jets below are no jets, GeV, >= 0.

    Returns:
        (N, 47) float32, computed in float64. A missing jet has all variables 0 and then `mj1j2` is the
        mass of the other one; tau_N of fewer than N constituents and ratios of a zero are 0. `phi` is in
        [-pi, pi]. The rings of a jet sum to 1 if all its constituents are within `radius` of its axis.

    Raises:
        ValueError: lengths that disagree, options out of range, or a pt that is negative or a momentum
            that is not finite (with the row of the event).

    Example:
        >>> x = cluster_events(pt=[100, 100], eta=[0, 0], phi=[0, 3.14159265], counts=[2])
        >>> dict(zip(COLUMNS, x[0].tolist()))["mj1j2"]
        200.0
    """
    _check_options(radius=radius, subjet_radius=subjet_radius, dcut=dcut, min_pt=min_pt)
    pt, eta, phi = (np.asarray(quantity, np.float64) for quantity in (pt, eta, phi))
    counts = _check_counts(counts, pt, eta, phi)
    hadrons = _four_momenta(pt, eta, phi, counts)
    event = np.repeat(np.arange(len(counts)), counts)
    real = pt > 0
    hadrons, counts = hadrons.take(real), np.bincount(event[real], minlength=len(counts))
    ends = np.cumsum(counts)
    out = np.zeros((len(counts), len(COLUMNS)), np.float32)
    _send_banner_to_stderr()
    for first in range(0, len(counts), _BATCH):
        rows = slice(first, first + _BATCH)
        batch = hadrons.take(slice(ends[first] - counts[first], ends[rows][-1]))
        out[rows] = _cluster_batch(batch, counts[rows], radius, subjet_radius, dcut, min_pt)
    return out


def _check_options(**options: float) -> None:
    for name, value in options.items():
        if not (np.isfinite(value) and (value > 0 if "radius" in name else value >= 0)):
            raise ValueError(f"{name} is {value}, expected a finite number {'> 0' if 'radius' in name else '>= 0'}")


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
    if not good.all():
        bad = np.flatnonzero(~good)[0]
        row = np.searchsorted(np.cumsum(counts), bad, side="right")
        raise ValueError(
            f"event row {row}: a hadron has pt {pt[bad]:g}, eta {eta[bad]:g}, phi {phi[bad]:g}, "
            f"expected finite numbers and pt >= 0"
        )
    return _Hadrons(pt, eta, phi, *momenta)


def _cluster_batch(hadrons: _Hadrons, counts: np.ndarray, radius, subjet_radius, dcut, min_pt) -> np.ndarray:
    """Return the (N, 47) variables of some events, float64."""
    event, rank, jet, picked, size = _leading_jets(_jagged(hadrons, counts), _algorithm("antikt", radius), min_pt)
    out = np.zeros((len(counts), len(COLUMNS)))
    if not len(event):
        return out
    pair = np.zeros((len(counts), 4))
    np.add.at(pair, event, jet)
    out[:, -1] = _mass(*pair.T)
    variables = _jet_variables(jet, hadrons.take(picked), size, radius, subjet_radius, dcut)
    column = rank[:, None] * len(JET_VARIABLES) + np.arange(len(JET_VARIABLES))
    out[event[:, None], column] = variables
    return out


def _jet_variables(
    jet: np.ndarray,
    constituents: _Hadrons,
    size: np.ndarray,
    radius: float,
    subjet_radius: float,
    dcut: float,
) -> np.ndarray:
    """Return the `JET_VARIABLES` of jets of four-momenta (J, 4) and `size` constituents, (J, 23)."""
    px, py, pz, energy = jet.T
    eta, phi = _direction(px, py, pz)
    owner = np.repeat(np.arange(len(jet)), size)
    distance = np.hypot(_wrap(constituents.phi - phi[owner]), constituents.eta - eta[owner])
    particles = _jagged(constituents, size)
    momentum = np.stack([np.hypot(px, py), eta, phi, _mass(px, py, pz, energy), energy, size], axis=1)
    subjets = _subjet_counts(particles, subjet_radius, dcut)
    tau = _subjettiness(particles, constituents, owner, size, radius)
    rings = _energy_rings(distance / radius, constituents.energy, owner, energy)
    return np.concatenate([momentum, subjets, tau, rings], axis=1)


def _jagged(hadrons: _Hadrons, counts: np.ndarray) -> ak.Array:
    record = ak.Array({"px": hadrons.px, "py": hadrons.py, "pz": hadrons.pz, "E": hadrons.energy})
    return ak.with_name(ak.unflatten(record, counts), "Momentum4D")


def _algorithm(name: str, radius: float) -> fastjet.JetDefinition:
    # FastJet's strategies give the same jets; for some 200 hadrons, or 60 constituents, these are 15 % faster
    # than what it picks by itself. Its tiles do not work for radii near pi.
    if name == "kt":
        algorithm, strategy = fastjet.kt_algorithm, fastjet.N2Plain
    else:
        algorithm, strategy = fastjet.antikt_algorithm, fastjet.N2Tiled if radius <= 1.5 else fastjet.N2Plain
    return fastjet.JetDefinition(algorithm, radius, fastjet.E_scheme, strategy, 1)


def _leading_jets(hadrons: ak.Array, algorithm: fastjet.JetDefinition, min_pt: float) -> tuple[np.ndarray, ...]:
    """Return event, rank, four-momentum, constituents and their number of the leading jets."""
    sequence = fastjet.ClusterSequence(hadrons, algorithm)
    jets, members = sequence.inclusive_jets(min_pt), sequence.constituent_index(min_pt)
    number = ak.num(jets).to_numpy()
    event = np.repeat(np.arange(len(number)), number)
    momentum = np.stack([ak.flatten(jets[name]).to_numpy() for name in ("px", "py", "pz", "E")], axis=1)
    order = np.lexsort((-np.hypot(momentum[:, 0], momentum[:, 1]), event))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(number) - number, number)
    order, rank = order[rank < 2], rank[rank < 2]
    sizes = ak.flatten(ak.num(members, axis=2)).to_numpy()
    size, start = sizes[order], (np.cumsum(sizes) - sizes)[order]
    # Ragged gather: position within its jet plus where that jet starts.
    within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    index = ak.flatten(members, axis=None).to_numpy()[np.repeat(start, size) + within]
    hadron_counts = ak.num(hadrons).to_numpy()
    first_hadron = (np.cumsum(hadron_counts) - hadron_counts)[event[order]]
    return event[order], rank, momentum[order], index + np.repeat(first_hadron, size), size


def _subjet_counts(constituents: ak.Array, subjet_radius: float, dcut: float) -> np.ndarray:
    sequence = fastjet.ClusterSequence(constituents, _algorithm("kt", subjet_radius))
    inclusive = ak.num(sequence.inclusive_jets(0.0)).to_numpy()
    return np.stack([inclusive, sequence.n_exclusive_jets(dcut).to_numpy()], axis=1)


def _subjettiness(
    particles: ak.Array, constituents: _Hadrons, owner: np.ndarray, size: np.ndarray, radius: float
) -> np.ndarray:
    """Return tau1, tau2, tau3, tau32, tau21 of each jet, (J, 5)."""
    sequence = fastjet.ClusterSequence(particles, _algorithm("kt", radius))
    first = np.cumsum(size) - size
    total = np.add.reduceat(constituents.pt, first)
    tau = []
    for number in (1, 2, 3):
        with _fastjet_warnings_off():
            axes = sequence.exclusive_jets_up_to(number)
        nearest = np.sqrt(_nearest_axis(axes, number, constituents, owner))
        value = np.add.reduceat(constituents.pt * nearest, first) / total
        # Constituents on their axes (always, if there are no more of them than axes) give 0 but for rounding,
        # and the ratio of two rounding errors would be any number.
        tau.append(np.where(value < 1e-12, 0.0, value))
    tau1, tau2, tau3 = tau
    return np.stack([tau1, tau2, tau3, _ratio(tau3, tau2), _ratio(tau2, tau1)], axis=1)


def _nearest_axis(axes: ak.Array, number: int, constituents: _Hadrons, owner: np.ndarray) -> np.ndarray:
    """Return the squared distance of each constituent to the nearest of its jet's at most `number` axes."""
    padded = ak.pad_none(axes, number, axis=1, clip=True)
    px, py, pz = (ak.to_numpy(ak.fill_none(padded[name], np.nan)) for name in ("px", "py", "pz"))
    nearest = np.full(len(owner), np.inf)
    for axis in range(number):
        eta, phi = _direction(px[:, axis], py[:, axis], pz[:, axis])
        distance = np.square(_wrap(constituents.phi - phi[owner])) + np.square(constituents.eta - eta[owner])
        nearest = np.fmin(nearest, distance)  # fmin: an axis the jet does not have is NaN
    return nearest


def _energy_rings(distance: np.ndarray, energy: np.ndarray, owner: np.ndarray, jet_energy: np.ndarray) -> np.ndarray:
    """Return the ten ring shares of each jet, (J, 10); `distance` in units of the jet radius.

    Rings are [low, high), the last one [low, 1]: a constituent exactly on an inner edge is in one ring. The
    script that made the simulated files closes both ends and counts it in two, and its rings then sum to
    more than 1.
    """
    rings = len(RING_EDGES) - 1
    ring = np.searchsorted(RING_EDGES, distance, side="right") - 1
    ring[distance == RING_EDGES[-1]] = rings - 1
    summed = np.bincount(owner * (rings + 1) + ring, weights=energy, minlength=len(jet_energy) * (rings + 1))
    return summed.reshape(-1, rings + 1)[:, :rings] / jet_energy[:, None]


def _direction(px: np.ndarray, py: np.ndarray, pz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.arcsinh(pz / np.hypot(px, py)), np.arctan2(py, px)


def _mass(px: np.ndarray, py: np.ndarray, pz: np.ndarray, energy: np.ndarray) -> np.ndarray:
    # E^2 - pz^2 as a product, as FastJet does: it loses fewer digits for forward jets.
    m2 = (energy + pz) * (energy - pz) - (px**2 + py**2)
    return np.sqrt(np.maximum(m2, 0.0))  # rounding can take a massless jet below zero


def _wrap(dphi: np.ndarray) -> np.ndarray:
    return dphi - 2 * np.pi * np.rint(dphi / (2 * np.pi))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


@contextlib.contextmanager
def _fastjet_warnings_off() -> Iterator[None]:
    # fastjet 3.5 (_multievent.py) warns that exclusive jets need kt, for kt too: it compares a JetDefinition
    # with algorithm numbers. It also replaces warnings.formatwarning for the whole process.
    formatwarning = warnings.formatwarning
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="dcut and exclusive jets")
            yield
    finally:
        warnings.formatwarning = formatwarning


@functools.cache
def _send_banner_to_stderr() -> None:
    # FastJet prints its citation on the C-level stdout at the first clustering, where it would break
    # machine-readable output. Its licence terms ask programs not to silence it (ClusterSequence.hh), so it
    # moves to stderr: the first clustering happens here.
    sys.stdout.flush()
    try:
        stdout = os.dup(1)
    except OSError:  # no stdout to protect
        return
    try:
        os.dup2(2, 1)
        particle = fastjet.PseudoJet(1.0, 0.0, 0.0, 1.0)
        fastjet.ClusterSequence([particle], _algorithm("kt", 1.0))
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
