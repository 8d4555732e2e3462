"""What is inside a jet: kt subjets, N-subjettiness and energy rings, compiled by Numba.

FastJet finds the jets (`pipelines/features/jets.py`). Their 50 to 100 constituents are clustered again here, for each
radius, because FastJet spends more time on making its objects of so few particles than on clustering them. Same
distances, same rounding, same sequence: the tests hold every number against FastJet.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

AXES = 3
"""N-subjettiness is computed for up to as many axes."""

_LANES = 16  # particles looked at together, a few vectors of the processor; arrays are padded to whole ones


def _compiled(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
    if function is None:
        return functools.partial(_compiled, **options)
    options |= {"nogil": True, "error_model": "numpy"}
    # The compiled code is kept beside this file or in the user's cache folder. Where neither can be written to
    # (Numba says so by RuntimeError) every process compiles for itself, which takes some ten seconds.
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(**options)(function)


# Called for every step of every jet: passing a dozen arrays would take longer than the work.
_inlined = _compiled(forceinline=True)


@_compiled
def substructure(
    momenta: np.ndarray,
    pt: np.ndarray,
    eta: np.ndarray,
    phi: np.ndarray,
    size: np.ndarray,
    jet_eta: np.ndarray,
    jet_phi: np.ndarray,
    jet_energy: np.ndarray,
    radius: float,
    subjet_radius: float,
    dcut: float,
    min_subjet_pt: float,
    ring_edges: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the substructure of jets (J, 7 + rings) and the (eta, phi) of their two leading subjets (J, 2, 2).

    The columns are nisj, nesj, tau1, tau2, tau3, tau32, tau21 and the rings, with the formulas of
    `pipelines.features.jets.cluster_events`. A subjet that is not there is NaN.

    Args:
        momenta: (px, py, pz, E) of the constituents of all jets, one jet after the other, (M, 4), GeV.
        pt, eta, phi: the same constituents, (M,).
        size: constituents of each jet, (J,), at least 1, summing to M.
        jet_eta, jet_phi, jet_energy: the jets, (J,).
        radius, subjet_radius, dcut, min_subjet_pt: as in `pipelines.features.jets.JetOptions`.
        ring_edges: rising edges of the energy rings in units of the radius, (rings + 1,), from 0.

    Example:
        >>> hadrons = np.array([[300.0, 0.0, 0.0, 300.0], [0.0, 1.0, 0.0, 1.0]])  # at phi 0 and pi / 2
        >>> pt, eta, phi, one = hadrons[:, 3], np.zeros(2), np.array([0.0, np.pi / 2]), np.ones(1)
        >>> jet = np.array([2]), 0 * one, 0 * one, 301 * one
        >>> x, _ = substructure(hadrons, pt, eta, phi, *jet, 2.0, 1.0, 0.1, 0.0, np.array([0.0, 1.0]))
        >>> x[0, :2].tolist()
        [2.0, 2.0]
    """
    first_tau, first_ring = 2, 2 + AXES + 2
    variables = np.zeros((len(size), first_ring + len(ring_edges) - 1))
    leading = np.full((len(size), 2, 2), np.nan)
    start = 0
    for jet in range(len(size)):
        stop, row = start + size[jet], variables[jet]
        row[0], row[1], _, subjets = _kt(momenta[start:stop], subjet_radius, dcut, min_subjet_pt)
        _, _, axes, _ = _kt(momenta[start:stop], radius, dcut, 0.0)
        for k in range(2):
            if subjets[k, 3] > 0:
                leading[jet, k, 0], leading[jet, k, 1] = _direction(subjets[k])
        for number in range(1, AXES + 1):
            there = min(number, size[jet])
            row[first_tau + number - 1] = _tau(
                pt[start:stop], eta[start:stop], phi[start:stop], axes[there - 1, :there]
            )
        row[first_tau + AXES] = _ratio(row[first_tau + 2], row[first_tau + 1])
        row[first_tau + AXES + 1] = _ratio(row[first_tau + 1], row[first_tau])
        for i in range(start, stop):
            distance = math.hypot(_wrap(phi[i] - jet_phi[jet]), eta[i] - jet_eta[jet]) / radius
            ring = _ring(distance, ring_edges)
            if ring >= 0:
                row[first_ring + ring] += momenta[i, 3] / jet_energy[jet]
        start = stop
    return variables, leading


@_compiled
def _tau(pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, axes: np.ndarray) -> float:
    """Return sum(pt min_a dR_a) / sum(pt)."""
    nearest = np.full(len(pt), np.inf)
    for a in range(len(axes)):
        axis_eta, axis_phi = _direction(axes[a])
        for i in range(len(pt)):
            nearest[i] = min(nearest[i], _wrap(phi[i] - axis_phi) ** 2 + (eta[i] - axis_eta) ** 2)
    weighted, total = 0.0, 0.0
    for i in range(len(pt)):
        weighted += pt[i] * math.sqrt(nearest[i])
        total += pt[i]
    # Constituents on their axes (always, if there are no more of them than axes) give 0 but for rounding,
    # and the ratio of two rounding errors would be any number.
    return weighted / total if weighted / total >= 1e-12 else 0.0


@_compiled
def _ring(distance: float, edges: np.ndarray) -> int:
    """Return the ring at a distance in units of the jet radius, or -1 beyond the last.

    Rings are [low, high), the last one [low, 1]: a constituent exactly on an inner edge is in one ring. The
    script that made the simulated files closes both ends and counts it in two, and its rings then sum to
    more than 1.
    """
    ring = len(edges) - 2
    if distance > edges[-1]:
        return -1
    while distance < edges[ring]:
        ring -= 1
    return ring


@_compiled
def _kt(momenta: np.ndarray, radius: float, dcut: float, min_pt: float) -> tuple[int, int, np.ndarray, np.ndarray]:
    """Cluster particles (n, 4) by the kt algorithm (hep-ph/9305266), E scheme.

    Returns the inclusive jets from `min_pt` on and the exclusive jets at `dcut`. Further the momenta of what is left
    when 1, 2 and 3 jets are (3, 3, 4), and those of the two leading inclusive jets (2, 4), zeros if there are fewer.

    With the geometrically nearest neighbour of each particle (hep-ph/0512210) a step takes O(n).
    """
    n = len(momenta)
    particles = momenta.copy()
    vectors = _vectors(n)
    room = vectors * _LANES
    # Beyond the n particles: infinitely far away, and never the smallest.
    kt2, rapidity, phi = np.zeros(room), np.full(room, np.inf), np.zeros(room)
    near, d_near, d_min, distance = np.full(room, -1), np.zeros(room), np.full(room, np.inf), np.empty(room)
    bits, d_min_bits = distance.view(np.int64), d_min.view(np.int64)
    for i in range(n):
        kt2[i], rapidity[i], phi[i] = _place(particles[i])
    for i in range(n):
        _find_nearest(i, vectors, radius, kt2, rapidity, phi, near, d_near, d_min, distance, bits)
    inclusive, exclusive, axes, leading = 0, 0, np.zeros((AXES, AXES, 4)), np.zeros((2, 4))
    while n > 0:
        if n <= AXES:
            for i in range(n):
                _copy(particles[i], axes[n - 1, i])
        a = _smallest(d_min_bits, vectors)
        if exclusive == 0 and d_min[a] * (1 / radius**2) > dcut:
            exclusive = n
        b = near[a]
        if b < 0:  # nearest to the beam: a jet
            if kt2[a] >= min_pt**2:
                inclusive += 1
            _keep_leading(particles[a], leading)
        else:
            a, b = max(a, b), min(a, b)
            for k in range(4):
                particles[b, k] += particles[a, k]
            kt2[b], rapidity[b], phi[b] = _place(particles[b])
        n -= 1
        # The last particle moves to where a was.
        _copy(particles[n], particles[a])
        kt2[a], rapidity[a], phi[a] = kt2[n], rapidity[n], phi[n]
        near[a], d_near[a], d_min[a] = near[n], d_near[n], d_min[n]
        rapidity[n], near[n], d_near[n], d_min[n] = np.inf, -1, 0.0, np.inf
        vectors = _vectors(n)
        merged = b if b >= 0 else a
        for i in range(n):
            if (near[i] == a) | (near[i] == merged):
                _find_nearest(i, vectors, radius, kt2, rapidity, phi, near, d_near, d_min, distance, bits)
            elif near[i] == n:
                near[i] = a
        if b >= 0:
            _find_nearest(b, vectors, radius, kt2, rapidity, phi, near, d_near, d_min, distance, bits)
            for i in range(n):
                if distance[i] < d_near[i]:
                    near[i], d_near[i], d_min[i] = b, distance[i], distance[i] * min(kt2[i], kt2[b])
    return inclusive, exclusive, axes, leading


@_inlined
def _vectors(n: int) -> int:
    return (n + _LANES - 1) // _LANES


@_inlined
def _place(momentum: np.ndarray) -> tuple[float, float, float]:
    """Return pt^2, rapidity and phi in [0, 2 pi) of (px, py, pz, E), rounded as FastJet rounds."""
    px, py, pz, energy = momentum[0], momentum[1], momentum[2], momentum[3]
    kt2 = px * px + py * py
    phi = math.atan2(py, px) if kt2 > 0 else 0.0
    if phi < 0.0:
        phi += 2 * math.pi
    if phi >= 2 * math.pi:
        phi -= 2 * math.pi
    mt2 = kt2 + max(0.0, (energy + pz) * (energy - pz) - kt2)
    forward = energy + abs(pz)
    rapidity = 0.5 * math.log(mt2 / (forward * forward)) if mt2 > 0 else -1e5 - abs(pz)
    return kt2, -rapidity if pz > 0 else rapidity, phi


@_inlined
def _find_nearest(
    i: int,
    vectors: Any,
    radius: float,
    kt2: Any,
    rapidity: Any,
    phi: Any,
    near: Any,
    d_near: Any,
    d_min: Any,
    distance: Any,
    bits: Any,
) -> None:
    """Set the nearest neighbour of particle i within the radius, -1 for the beam, its dR^2 and d_ij radius^2."""
    here, angle = rapidity[i], phi[i]
    for j in range(vectors * _LANES):
        dphi = abs(phi[j] - angle)
        dphi = min(dphi, 2 * math.pi - dphi)
        drapidity = rapidity[j] - here
        distance[j] = dphi * dphi + drapidity * drapidity
    distance[i] = np.inf
    j = _smallest(bits, vectors)
    if distance[j] < radius * radius:
        near[i], d_near[i] = j, distance[j]
        d_min[i] = d_near[i] * min(kt2[i], kt2[j])
    else:
        near[i], d_near[i] = -1, radius * radius
        d_min[i] = d_near[i] * kt2[i]


@_inlined
def _smallest(bits: np.ndarray, vectors: int) -> int:
    """Return where the smallest of the values >= 0 is, the first of equal ones."""
    # Not-negative floats are ordered as their bits are, and a minimum of integers is one instruction for a
    # whole vector, where that of floats would have to mind NaN.
    smallest = bits[0]
    for j in range(vectors * _LANES):
        smallest = min(smallest, bits[j])
    j = 0
    while bits[j] != smallest:
        j += 1
    return j


@_compiled
def _keep_leading(momentum: np.ndarray, leading: np.ndarray) -> None:
    pt2 = momentum[0] ** 2 + momentum[1] ** 2
    if pt2 > leading[0, 0] ** 2 + leading[0, 1] ** 2:
        _copy(leading[0], leading[1])
        _copy(momentum, leading[0])
    elif pt2 > leading[1, 0] ** 2 + leading[1, 1] ** 2:
        _copy(momentum, leading[1])


@_compiled
def _copy(momentum: np.ndarray, to: np.ndarray) -> None:
    # `to[:] = momentum` would do the same, and take five seconds to compile.
    for k in range(4):
        to[k] = momentum[k]


@_compiled
def _direction(momentum: np.ndarray) -> tuple[float, float]:
    """Return eta and phi; those of a momentum along the beam, and so without eta, are not numbers."""
    px, py, pz = momentum[0], momentum[1], momentum[2]
    return math.asinh(pz / math.hypot(px, py)), math.atan2(py, px)


@_compiled
def _wrap(dphi: float) -> float:
    return dphi - 2 * math.pi * np.rint(dphi / (2 * math.pi))


@_compiled
def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else 0.0
