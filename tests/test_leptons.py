"""Derived quantities of two leptons: against four-vectors of another package, closed forms and brute force."""

import itertools

import mt2
import numpy as np
import pytest
import vector
from scipy.optimize import minimize

from pipelines.features.leptons import (
    ELECTRON_MASS,
    MUON_MASS,
    cos_theta_star,
    delta_phi,
    delta_r,
    invariant_mass,
    stransverse_mass,
    transverse_mass,
)


@pytest.fixture(scope="module")
def pairs():
    """500 pairs of muons as four-vectors: p_T from 7 to some 100 GeV, |eta| < 2.5."""
    rng = np.random.default_rng(5)
    pt, eta = 7 + rng.exponential(40, (2, 500)), rng.uniform(-2.5, 2.5, (2, 500))
    phi = rng.uniform(-np.pi, np.pi, (2, 500))
    return [vector.array({"pt": pt[i], "eta": eta[i], "phi": phi[i], "mass": np.full(500, MUON_MASS)}) for i in (0, 1)]


# -- angles and masses -----------------------------------------------------------------------------------


def test_angles_are_those_of_four_vectors(pairs):
    a, b = pairs
    np.testing.assert_allclose(delta_phi(a.phi, b.phi), a.deltaphi(b), atol=1e-12)
    np.testing.assert_allclose(delta_r(a.eta, a.phi, b.eta, b.phi), a.deltaR(b), rtol=1e-12)


def test_angle_is_wrapped_for_any_turns():
    angle = np.linspace(-3.1, 3.1, 63)
    for turns in (-2, -1, 0, 1, 3):
        np.testing.assert_allclose(delta_phi(angle + 2 * np.pi * turns, 0.0), angle, atol=1e-12)
    assert abs(delta_phi(np.pi, -np.pi)) < 1e-12
    assert abs(delta_phi(np.pi, 0.0)) == pytest.approx(np.pi)


def test_invariant_mass_is_that_of_the_sum_of_four_vectors(pairs):
    a, b = pairs
    found = invariant_mass(a.pt, a.eta, a.phi, a.E, b.pt, b.eta, b.phi, b.E)
    np.testing.assert_allclose(found, (a + b).mass, rtol=1e-9)


def test_invariant_mass_of_massless_objects_has_its_closed_form(pairs):
    a, b = pairs
    found = invariant_mass(a.pt, a.eta, a.phi, a.pt * np.cosh(a.eta), b.pt, b.eta, b.phi, b.pt * np.cosh(b.eta))
    expected = np.sqrt(2 * a.pt * b.pt * (np.cosh(a.eta - b.eta) - np.cos(a.phi - b.phi)))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_invariant_mass_of_rounded_energies_is_zero_not_nan():
    pt, eta = np.float32(1234.5), np.float32(2.1)
    energy = np.float32(pt * np.cosh(eta)) * np.float32(0.999999)
    assert invariant_mass(pt, eta, 0.3, energy, pt, eta, 0.3, energy) == 0


def test_single_precision_input_is_computed_in_double(pairs):
    a, b = pairs
    numbers = [np.asarray(x, np.float32) for x in (a.pt, a.eta, a.phi, a.E, b.pt, b.eta, b.phi, b.E)]
    assert invariant_mass(*numbers).dtype == np.float64
    np.testing.assert_array_equal(invariant_mass(*numbers), invariant_mass(*(x.astype(float) for x in numbers)))


def test_transverse_mass_is_that_of_the_transverse_four_vectors(pairs):
    a, b = pairs
    flat = [vector.array({"pt": v.pt, "eta": np.zeros(500), "phi": v.phi, "mass": np.zeros(500)}) for v in (a, b)]
    np.testing.assert_allclose(transverse_mass(a.pt, a.phi, b.pt, b.phi), (flat[0] + flat[1]).mass, rtol=1e-6)


def test_transverse_mass_is_exact_for_small_angles():
    assert transverse_mass(40.0, 0.0, 90.0, 1e-9) == pytest.approx(60e-9, rel=1e-6)


# -- stransverse mass ------------------------------------------------------------------------------------


def brute_force(m_1, p_1, m_2, p_2, missing, invisible):
    """Minimise over the splitting of the missing momentum by a general minimiser, from several starts."""

    def m_t(mass, p, q):
        energies = np.sqrt(mass**2 + p @ p) * np.sqrt(invisible**2 + q @ q)
        return np.sqrt(max(0.0, mass**2 + invisible**2 + 2 * (energies - p @ q)))

    def larger(q):
        return max(m_t(m_1, p_1, q), m_t(m_2, p_2, missing - q))

    starts = (missing / 2, 0.9 * missing, 0.1 * missing, p_1, missing - p_2, np.zeros(2))
    options = {"xatol": 1e-9, "fatol": 1e-9, "maxiter": 5000}
    return min(minimize(larger, start, method="Nelder-Mead", options=options).fun for start in starts)


@pytest.mark.parametrize("invisible", [0.0, 50.0])
def test_stransverse_mass_is_the_minimum_over_all_splittings(pairs, invisible):
    a, b = (v[:12] for v in pairs)
    rng = np.random.default_rng(6)
    met, met_phi = rng.exponential(60, 12), rng.uniform(-np.pi, np.pi, 12)
    found = stransverse_mass(a.pt, a.phi, MUON_MASS, b.pt, b.phi, MUON_MASS, met, met_phi, invisible)
    for i in range(12):
        p_1, p_2 = (np.array([v.px[i], v.py[i]]) for v in (a, b))
        missing = met[i] * np.array([np.cos(met_phi[i]), np.sin(met_phi[i])])
        expected = brute_force(MUON_MASS, p_1, MUON_MASS, p_2, missing, invisible)
        assert found[i] == pytest.approx(expected, abs=1e-5)


def test_stransverse_mass_has_the_value_that_its_package_publishes():
    pt_1, phi_1 = np.hypot(410, 20), np.arctan2(20, 410)
    pt_2, phi_2 = np.hypot(-210, -300), np.arctan2(-300, -210)
    met, met_phi = np.hypot(-200, 280), np.arctan2(280, -200)
    found = stransverse_mass(pt_1, phi_1, 100, pt_2, phi_2, 150, met, met_phi, 100)
    assert found == pytest.approx(412.627668458)


@pytest.mark.parametrize("invisible", [0.0, 30.0])
def test_stransverse_mass_of_a_pair_that_recoils_against_nothing_else_has_its_closed_form(pairs, invisible):
    # C. Lester, JHEP 05 (2011) 076, with A = E_T1 E_T2 + p_T1 . p_T2 and chi the invisible mass:
    # m_T2^2 = chi^2 + A + sqrt((1 + 4 chi^2 / (2 A - m_1^2 - m_2^2)) (A^2 - m_1^2 m_2^2))
    a, b = pairs
    missing_x, missing_y = -a.px - b.px, -a.py - b.py
    mass = MUON_MASS
    met, met_phi = np.hypot(missing_x, missing_y), np.arctan2(missing_y, missing_x)
    found = stransverse_mass(a.pt, a.phi, mass, b.pt, b.phi, mass, met, met_phi, invisible)
    product = np.sqrt((mass**2 + a.pt**2) * (mass**2 + b.pt**2)) + a.px * b.px + a.py * b.py
    root = np.sqrt((1 + 4 * invisible**2 / (2 * product - 2 * mass**2)) * (product**2 - mass**4))
    np.testing.assert_allclose(found, np.sqrt(invisible**2 + product + root), rtol=1e-5)


def test_missing_momentum_between_the_leptons_gives_no_stransverse_mass(pairs):
    a, b = pairs
    missing_x, missing_y = 0.3 * a.px + 2 * b.px, 0.3 * a.py + 2 * b.py  # both invisible objects along a lepton
    met, met_phi = np.hypot(missing_x, missing_y), np.arctan2(missing_y, missing_x)
    found = stransverse_mass(a.pt, a.phi, ELECTRON_MASS, b.pt, b.phi, ELECTRON_MASS, met, met_phi)
    assert (found >= ELECTRON_MASS * (1 - 1e-9)).all() and found.max() < 0.01


def test_stransverse_mass_stays_below_the_mass_of_the_parents_and_reaches_it():
    rng, parent, size = np.random.default_rng(7), 200.0, 20_000
    visible, hidden = [], []
    for _ in range(2):  # parent -> massless lepton and massless invisible, isotropic, parents boosted at random
        cos, phi = rng.uniform(-1, 1, size), rng.uniform(-np.pi, np.pi, size)
        sin = np.sqrt(1 - cos**2)
        x, y, z = sin * np.cos(phi), sin * np.sin(phi), cos
        boost = [rng.uniform(-0.5, 0.5, size) for _ in range(3)]
        for sign, found in ((1, visible), (-1, hidden)):
            p = {"px": sign * x, "py": sign * y, "pz": sign * z, "E": np.ones(size)}
            rest = vector.array({name: parent / 2 * values for name, values in p.items()})
            found.append(rest.boost(vector.array(dict(zip("xyz", boost, strict=True)))))
    missing = hidden[0] + hidden[1]
    a, b = visible
    found = stransverse_mass(a.pt, a.phi, ELECTRON_MASS, b.pt, b.phi, ELECTRON_MASS, missing.pt, missing.phi)
    assert found.max() < parent * (1 + 1e-4)
    assert found.max() > 0.97 * parent


@pytest.mark.parametrize("turn", [0.0, 0.7, 2.9])
def test_parallel_leptons_do_not_lose_precision(turn):
    found = stransverse_mass(50, turn, ELECTRON_MASS, 50, turn, ELECTRON_MASS, 100, turn + np.pi)
    assert found == pytest.approx(100, rel=1e-4)  # m_T2^2 = 2 p_T1 p_T2 (1 + cos 0)


def test_events_of_one_call_are_those_of_single_calls(pairs):
    a, b = (v[:50] for v in pairs)
    met, met_phi = np.linspace(0, 200, 50), np.linspace(-3, 3, 50)
    found = stransverse_mass(a.pt, a.phi, MUON_MASS, b.pt, b.phi, ELECTRON_MASS, met, met_phi)
    for i, value in enumerate(found):
        missing = met[i] * np.cos(met_phi[i]), met[i] * np.sin(met_phi[i])
        with np.errstate(all="ignore"):
            single = mt2.mt2(MUON_MASS, a.px[i], a.py[i], ELECTRON_MASS, b.px[i], b.py[i], *missing, 0, 0)
        assert value == pytest.approx(single, rel=1e-9, abs=1e-6)


def test_stransverse_mass_without_a_value_is_an_error():
    with pytest.raises(ArithmeticError, match="1 of 2 events, the first one 1"):
        stransverse_mass([30, np.nan], 0, MUON_MASS, 30, 2, MUON_MASS, 20, 1)


# -- cos theta* ------------------------------------------------------------------------------------------


def test_cos_theta_star_is_the_polar_angle_in_the_frame_of_opposite_rapidities(pairs):
    for a, b in itertools.islice(zip(*pairs, strict=True), 50):
        a, b = (vector.obj(pt=v.pt, eta=v.eta, phi=v.phi, mass=0.0) for v in (a, b))
        beta = -np.tanh((a.eta + b.eta) / 2)
        there = [v.boostZ(beta=beta) for v in (a, b)]
        assert there[0].eta == pytest.approx(-there[1].eta, abs=1e-9)
        assert cos_theta_star(a.eta, b.eta) == pytest.approx(abs(there[0].costheta), abs=1e-9)


def test_cos_theta_star_of_a_balanced_pair_is_the_polar_angle_in_its_rest_frame():
    a, b = vector.obj(pt=40, eta=1.9, phi=0.4, mass=0), vector.obj(pt=40, eta=-0.2, phi=0.4 - np.pi, mass=0)
    rest = a.boostCM_of(a + b)
    assert cos_theta_star(a.eta, b.eta) == pytest.approx(abs(rest.costheta), abs=1e-9)


def test_cos_theta_star_ignores_boosts_along_the_beam_and_the_order():
    rng = np.random.default_rng(8)
    eta_1, eta_2, boost = rng.uniform(-2.5, 2.5, (3, 100))
    np.testing.assert_allclose(cos_theta_star(eta_1 + boost, eta_2 + boost), cos_theta_star(eta_1, eta_2))
    np.testing.assert_array_equal(cos_theta_star(eta_2, eta_1), cos_theta_star(eta_1, eta_2))
    assert cos_theta_star(0.3, 0.3) == 0 and cos_theta_star(2.5, -2.5) < 1


def test_masses_are_those_of_the_particle_data_group():
    ratio = MUON_MASS / ELECTRON_MASS
    assert ratio == pytest.approx(206.7682830, rel=1e-7)  # CODATA 2018
