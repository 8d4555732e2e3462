"""Two leptons and missing momentum: the derived quantities of dilepton analyses, for arrays of events.

All functions take numbers or arrays that broadcast against each other and compute in float64. Energies, momenta and
masses are in one unit, whichever it is (GeV in all files of this package); angles are in rad.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

ELECTRON_MASS = 0.51099895e-3
"""Mass of the electron, GeV (Particle Data Group, Prog. Theor. Exp. Phys. 2022, 083C01)."""

MUON_MASS = 0.1056583755
"""Mass of the muon, GeV (as above)."""


def delta_phi(phi_1: ArrayLike, phi_2: ArrayLike) -> np.ndarray:
    """Return the azimuthal angle from object 2 to object 1, phi_1 - phi_2 as an angle from -pi to pi.

    >>> float(delta_phi(3.0, -3.0).round(4))  # 6 - 2 pi
    -0.2832
    """
    return (np.subtract(phi_1, phi_2, dtype=np.float64) + np.pi) % (2 * np.pi) - np.pi


def delta_r(eta_1: ArrayLike, phi_1: ArrayLike, eta_2: ArrayLike, phi_2: ArrayLike) -> np.ndarray:
    """Return the distance of two objects in pseudorapidity and azimuth, >= 0.

    Delta R = sqrt((eta_1 - eta_2)^2 + (phi_1 - phi_2)^2), the second difference from -pi to pi.

    >>> float(delta_r(0.3, np.pi, 0.0, -np.pi + 0.4).round(4))
    0.5
    """
    return np.hypot(np.subtract(eta_1, eta_2, dtype=np.float64), delta_phi(phi_1, phi_2))


def invariant_mass(
    pt_1: ArrayLike,
    eta_1: ArrayLike,
    phi_1: ArrayLike,
    energy_1: ArrayLike,
    pt_2: ArrayLike,
    eta_2: ArrayLike,
    phi_2: ArrayLike,
    energy_2: ArrayLike,
) -> np.ndarray:
    """Return the invariant mass of two objects, >= 0.

    m^2 = (E_1 + E_2)^2 - |p_1 + p_2|^2 with p = p_T (cos phi, sin phi, sinh eta) (Particle Data Group, review
    "Kinematics"). Energies that are rounded below |p| could make m^2 negative: m is 0 then.

    >>> float(invariant_mass(45.6, 0.0, 0.0, 45.6, 45.6, 0.0, np.pi, 45.6).round(4))
    91.2
    """
    x_1, y_1, z_1 = _momentum(pt_1, eta_1, phi_1)
    x_2, y_2, z_2 = _momentum(pt_2, eta_2, phi_2)
    energy = np.add(energy_1, energy_2, dtype=np.float64)
    squared = energy**2 - (x_1 + x_2) ** 2 - (y_1 + y_2) ** 2 - (z_1 + z_2) ** 2
    return np.sqrt(np.maximum(squared, 0))


def transverse_mass(pt: ArrayLike, phi: ArrayLike, met: ArrayLike, met_phi: ArrayLike) -> np.ndarray:
    """Return the transverse mass of a massless object and the missing transverse momentum, >= 0.

    m_T^2 = 2 p_T E_T^miss (1 - cos(phi - phi_miss)) (J. Smith, W. van Neerven, J. Vermaseren, Phys. Rev. Lett. 50
    (1983) 1738); written with sin^2 of half the angle, which is exact for small ones.

    >>> float(transverse_mass(40.0, 0.0, 40.0, np.pi))
    80.0
    """
    product = np.multiply(pt, met, dtype=np.float64)
    return 2 * np.sqrt(product) * np.abs(np.sin(delta_phi(phi, met_phi) / 2))


def stransverse_mass(
    pt_1: ArrayLike,
    phi_1: ArrayLike,
    mass_1: ArrayLike,
    pt_2: ArrayLike,
    phi_2: ArrayLike,
    mass_2: ArrayLike,
    met: ArrayLike,
    met_phi: ArrayLike,
    invisible_mass: float = 0.0,
) -> np.ndarray:
    """Return the stransverse mass m_T2 of two visible objects and the missing transverse momentum.

    m_T2 = min over q_1 + q_2 = p_T^miss of max(m_T(p_1, q_1), m_T(p_2, q_2)): the largest lower bound on the mass of
    two equal parents, each of which decays to one of the visible objects and an invisible one (C. Lester, D. Summers,
    Phys. Lett. B 463 (1999) 99, hep-ph/9906349). Computed by the package `mt2`, which bisects as in C. Lester,
    B. Nachman, JHEP 03 (2015) 100, arXiv 1411.4312.

    Args:
        pt_1, phi_1, mass_1, pt_2, phi_2, mass_2: visible objects. Give leptons their masses: for visible objects that
            are both massless and parallel `mt2` 1.3.1 answers 0, for those with an electron's mass it is right to 1e-4.
        met, met_phi: missing transverse momentum, >= 0, and its azimuth.
        invisible_mass: assumed mass of both invisible objects, >= 0.

    Returns:
        Array of m_T2, at least the larger of the two sums of a visible mass and the invisible one.

    Raises:
        ArithmeticError: the package finds no value, as for momenta that are not finite.

    Example, two back-to-back leptons with nothing missing, and two side by side that recoil against what is:
        >>> m = ELECTRON_MASS
        >>> stransverse_mass([50, 50], 0.0, m, [50, 50], [np.pi, 0.0], m, [0, 100], np.pi).round(2).tolist()
        [0.0, 100.0]
    """
    import mt2

    visible = (mass_1, *_transverse(pt_1, phi_1), mass_2, *_transverse(pt_2, phi_2))
    with np.errstate(all="ignore"):  # it divides by zero on its way to the right answer for p_T^miss = 0
        found = np.asarray(mt2.mt2(*visible, *_transverse(met, met_phi), invisible_mass, invisible_mass))
    bad = ~(np.isfinite(found) & (found >= 0))
    if bad.any():
        raise ArithmeticError(
            f"no stransverse mass for {bad.sum()} of {found.size} events, the first one {bad.argmax()}"
        )
    return found


def cos_theta_star(eta_1: ArrayLike, eta_2: ArrayLike) -> np.ndarray:
    """Return |cos theta*_ll| of two massless leptons, from 0 to 1.

    |cos theta*_ll| = |tanh((eta_1 - eta_2) / 2)|: theta* is the angle between lepton and beam in the frame, boosted
    along the beam, in which the two pseudorapidities are equal and opposite (A. Barr, JHEP 02 (2006) 042,
    hep-ph/0511115). For leptons that are back to back in the transverse plane, with equal momenta there, it is the
    polar angle in their rest frame.

    >>> cos_theta_star([1.0, 0.3], [-1.0, 0.3]).round(4).tolist()
    [0.7616, 0.0]
    """
    return np.abs(np.tanh(np.subtract(eta_1, eta_2, dtype=np.float64) / 2))


def _transverse(pt: ArrayLike, phi: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    pt, phi = np.asarray(pt, np.float64), np.asarray(phi, np.float64)
    return pt * np.cos(phi), pt * np.sin(phi)


def _momentum(pt: ArrayLike, eta: ArrayLike, phi: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return *_transverse(pt, phi), np.asarray(pt, np.float64) * np.sinh(np.asarray(eta, np.float64))
