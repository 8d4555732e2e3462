"""The parametric detector: its formulas against particle guns, MET, isolation, overlaps and b tags. 3 s."""

import numpy as np
import pytest

from pipelines.simulation import objects
from pipelines.simulation.objects import Acceptance
from pipelines.simulation.pythia import Record

CHARGE = {11: -1, 13: -1, 22: 0, 211: 1, 130: 0, 12: 0, 521: 1, 411: 1}
MASS = {11: 0.000511, 13: 0.10566, 22: 0.0, 211: 0.13957, 130: 0.49761, 12: 0.0, 521: 5.279, 411: 1.870}


def gun(*particles, repeat=1):
    """Events of the same particles (code, pt, eta, phi[, changes]); `repeat` of them."""
    rows = [(*p, {}) if len(p) == 4 else p for p in particles]
    code, pt, eta, phi = (np.tile([row[i] for row in rows], repeat) for i in range(4))
    code = code.astype(np.int64)
    extra = {
        name: np.tile([row[4].get(name, default) for row in rows], repeat)
        for name, default in (("status", 1), ("x", 0.0), ("y", 0.0), ("z", 0.0))
    }
    sign = np.sign(code)
    charge = np.array([CHARGE[abs(c)] for c in code.tolist()]) * sign
    mass = np.array([MASS[abs(c)] for c in code.tolist()])
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    none = np.zeros(len(code), int)
    energy = np.sqrt(px**2 + py**2 + pz**2 + mass**2)
    visible = (np.abs(code) != 12).astype(bool)
    place = (extra["x"], extra["y"], extra["z"])
    counts = np.full(repeat, len(rows))
    return Record(counts, code, extra["status"], *[none] * 4, px, py, pz, energy, *place, charge, visible)


def see(record, acceptance=None, seed=1):
    return objects.reconstruct(record, np.random.default_rng(seed), acceptance or Acceptance())


@pytest.fixture
def perfect(monkeypatch):
    """A detector without resolution, and with full efficiency above the thresholds."""
    monkeypatch.setattr(objects, "JET_RESOLUTION", (0.0, 0.0, 0.0))
    monkeypatch.setattr(objects, "CALORIMETER_RESOLUTION", (0.0, 0.0))
    monkeypatch.setattr(objects, "MUON_RESOLUTION", ((2.7, 0.0, 0.0),))
    monkeypatch.setattr(objects, "SOFT_RESOLUTION", (0.0, 0.0))
    for name in ("ELECTRON", "MUON", "PHOTON"):
        full = objects.Efficiency(10.0, np.inf, (1.0, 1.0), (1.0, 1.0))
        monkeypatch.setattr(objects, f"{name}_EFFICIENCY", full)


def test_energy_of_electrons_and_photons_has_the_calorimeter_resolution():
    for code, kind in ((11, "electrons"), (22, "photons")):
        for pt, eta in ((45.0, 0.0), (200.0, 1.2)):
            energy = pt * np.cosh(eta)
            ratio = getattr(see(gun((code, pt, eta, 0.3), repeat=8000)), kind).energy / energy
            expected = np.sqrt(0.101**2 / energy + 0.007**2)
            assert ratio.mean() == pytest.approx(1, abs=5 * expected / np.sqrt(len(ratio)))
            assert ratio.std() == pytest.approx(expected, rel=5 / np.sqrt(2 * len(ratio)))


def test_pt_of_muons_has_the_resolution_of_their_region():
    for pt, eta, expected in (
        (50, 0.2, np.hypot(0.01, 0.005)),
        (1000, 1.0, 0.150748),
        (40, -2.0, np.hypot(0.025, 0.014)),
    ):
        muons = see(gun((13, pt, eta, 3.0), repeat=8000)).muons
        assert (muons.pt / pt).std() == pytest.approx(expected, rel=5 / np.sqrt(2 * len(muons.pt)))
        assert muons.eta == pytest.approx(eta)


def test_pt_of_jets_has_noise_stochastic_and_constant_term():
    for pt in (50.0, 100.0, 1000.0):
        jets = see(gun((211, pt, 0.7, -1.0), repeat=8000)).jets
        expected = np.sqrt(9 / pt**2 + 0.49 / pt + 0.0009)
        assert len(jets.pt) == 8000
        assert (jets.pt / pt).std() == pytest.approx(expected, rel=5 / np.sqrt(2 * 8000))


@pytest.mark.parametrize(
    ("code", "kind", "pt", "eta", "expected"),
    [
        (11, "electrons", 50, 0.5, 0.95 * 0.95),
        (11, "electrons", 150, 0.5, 0.99 * 0.95),
        (-11, "electrons", 50, -2.0, 0.83 * 0.85),
        (13, "muons", 50, 1.4, 0.99 * 0.95),
        (-13, "muons", 50, 2.6, 0.98 * 0.85),
        (22, "photons", 50, 0.0, 0.95),
        (22, "photons", 50, 2.0, 0.85),
        (13, "muons", 50, 2.8, 0.0),
        (11, "electrons", 9, 0.0, 0.0),
        (22, "photons", 50, 2.4, 0.0),
    ],
)
def test_efficiency_is_that_of_the_region(code, kind, pt, eta, expected):
    found = getattr(see(gun((code, pt, eta, 1.0), repeat=5000)), kind)
    error = np.sqrt(expected * (1 - expected) / 5000)
    assert len(found.pt) / 5000 == pytest.approx(expected, abs=4.5 * error + 1e-12)
    assert (found.charge == -np.sign(code)).all() or code == 22


def test_met_balances_all_visible_momentum(perfect):
    rng = np.random.default_rng(5)
    for _ in range(40):
        codes = rng.choice([211, -211, 130, 22, 11, -11, 12], 40)
        particles = [(c, rng.exponential(20), rng.uniform(-4.5, 4.5), rng.uniform(-np.pi, np.pi)) for c in codes]
        particles += [(13, 60.0, 0.5, 1.0), (-13, 4.0, 1.0, 2.0)]  # one identified, one in the soft term
        record = gun(*particles)
        event = see(record)
        seen = record.visible
        assert event.met[0] * np.cos(event.met_phi[0]) == pytest.approx(-record.px[seen].sum(), abs=1e-9)
        assert event.met[0] * np.sin(event.met_phi[0]) == pytest.approx(-record.py[seen].sum(), abs=1e-9)


def test_neutrino_is_met_and_forward_particles_are_lost(perfect):
    event = see(gun((211, 100, 0, 0), (12, 100, 1, np.pi)))
    assert event.met[0] == pytest.approx(100) and abs(event.met_phi[0]) == pytest.approx(np.pi)
    assert see(gun((211, 100, 0, 0), (211, 100, 5.0, np.pi))).met[0] == pytest.approx(100)


def test_soft_term_blurs_met():
    """130 GeV of soft particles all around: floor 5 GeV, 0.5 sqrt(130) in quadrature, each component."""
    soft = [(211, 5.0, eta, phi) for phi in np.arange(13) * 2 * np.pi / 13 for eta in (-1.0, 1.0)]
    event = see(gun(*soft, repeat=6000))
    x = event.met * np.cos(event.met_phi)
    assert x.std() == pytest.approx(np.hypot(5, 0.5 * np.sqrt(130)), rel=0.05)
    assert len(event.jets.pt) == 0


def test_lost_muon_is_met_and_muon_in_jet_is_not():
    event = see(gun((13, 100, 0, 0), (211, 100, 0, np.pi), repeat=3000))
    lost = np.bincount(event.muons.event, minlength=3000) == 0
    assert 0.03 < lost.mean() < 0.09
    assert np.median(event.met[lost]) > 80 and np.median(event.met[~lost]) < 20
    inside = see(gun((13, 50, 0, 0.1), (211, 100, 0, 0), (211, 150, 0, np.pi), repeat=2000))
    assert len(inside.muons.pt) == 0
    assert np.median(inside.met) < 25


def test_energy_around_a_lepton_rejects_it(perfect):
    for code, kind, limit in ((11, "electrons", 0.12), (13, "muons", 0.25), (22, "photons", 0.12)):
        for share, expected in ((limit - 0.01, 1), (limit + 0.01, 0)):
            event = see(gun((code, 50, 0, np.pi - 0.05), (130, 50 * share, 0.1, -np.pi + 0.35)))
            assert len(getattr(event, kind).pt) == expected, (kind, share)
        outside = see(gun((code, 50, 0, 0.0), (130, 30, 0, 0.55)))
        assert len(getattr(outside, kind).pt) == 1


def test_cones_hold_tracks_and_all_energy(perfect):
    loose = Acceptance(cone=0.2, track_cone=0.3, isolation=(np.inf, np.inf, np.inf))
    event = see(gun((13, 50, 0, 0), (211, 3, 0.25, 0), (130, 4, 0.15, 0), (211, 2, 0.1, 0), (211, 0.4, 0, 0.1)), loose)
    assert event.muons.ptcone == pytest.approx(5) and event.muons.etcone == pytest.approx(6)


def test_electron_is_not_a_jet_too_and_jet_with_electron_stays(perfect):
    event = see(gun((11, 50, 0, 0), (211, 40, 0, 2)))
    assert event.jets.pt == pytest.approx(40) and event.electrons.pt == pytest.approx(50)
    loose = Acceptance(isolation=(np.inf, np.inf, np.inf))
    event = see(gun((11, 20, 0, 0), (211, 60, 0.1, 0)), loose)
    assert len(event.electrons.pt) == 0
    assert event.jets.pt == pytest.approx(80, rel=1e-3)


def test_photons_near_an_electron_belong_to_it(perfect):
    event = see(gun((11, 40, 0, 0), (22, 25, 0.05, 0), (22, 30, 0, 0.8)))
    assert event.electrons.pt == pytest.approx(65)
    assert event.photons.pt == pytest.approx(30)
    assert event.met[0] == pytest.approx(abs(65 + 30 * np.exp(0.8j)), rel=1e-3)


def test_jets_form_across_the_seam_of_phi(perfect):
    event = see(gun((211, 30, 0, np.pi - 0.1), (211, 30, 0, -np.pi + 0.1)))
    assert len(event.jets.pt) == 1
    assert abs(event.jets.phi[0]) == pytest.approx(np.pi)


def test_objects_fall_in_pt_and_keep_to_the_acceptance():
    rng = np.random.default_rng(3)
    record = gun(*[(211, rng.uniform(5, 200), rng.uniform(-4, 4), rng.uniform(-3, 3)) for _ in range(20)], repeat=50)
    jets = see(record).jets
    assert (np.diff(jets.event) >= 0).all()
    assert (np.diff(jets.pt)[np.diff(jets.event) == 0] <= 0).all()
    assert jets.pt.min() > 20 and np.abs(jets.eta).max() < 2.8 and len(jets.pt) > 50


@pytest.mark.parametrize(("code", "flavour"), [(521, 5), (411, 4), (12, 0)])
def test_flavour_of_a_jet_is_of_the_hadron_in_it(code, flavour):
    hadron = (code, 60.0, 0.1, 0.1, {"status": -83})
    assert (see(gun((211, 60, 0, 0), hadron, repeat=20)).jets.flavour == flavour).all()
    far = (code, 60.0, 0.6, 0.0, {"status": -83})
    assert (see(gun((211, 60, 0, 0), far, repeat=20)).jets.flavour == 0).all()


def test_tag_numbers_give_the_probability_of_the_card():
    hadron = (521, 100.0, 0.0, 0.1, {"status": -83})
    jets = see(gun((211, 100, 0, 0), hadron, repeat=5000)).jets
    rate = (jets.tag < objects.tag_probability(np.full(5000, 100.0), jets.flavour)).mean()
    assert rate == pytest.approx(0.80 * np.tanh(0.3) * 30 / 9.6, abs=0.03)


def test_mv2c10_has_its_working_points():
    """60, 70, 77 and 85 % of b jets, and the rejections of ATL-PHYS-PUB-2016-012, at the reference pt."""
    tag = (np.arange(200_000) + 0.5) / 200_000
    published = {
        5: (0.60, 0.70, 0.77, 0.85),
        4: (1 / 34, 1 / 12, 1 / 6, 1 / 3.1),
        0: (1 / 1538, 1 / 381, 1 / 134, 1 / 33),
    }
    for flavour, rates in published.items():
        value = objects.mv2c10(np.full(len(tag), 60.0), np.full(len(tag), flavour), tag)
        assert value.min() >= -1 and value.max() <= 1
        for cut, rate in zip((0.934906, 0.8244273, 0.645925, 0.1758475), rates):
            assert (value > cut).mean() == pytest.approx(rate, abs=2e-4)


def test_impact_parameter_is_of_the_vertex_and_blurred():
    displaced = (13, 30.0, 0.0, np.pi / 2, {"x": 2.0, "y": 1.0, "z": 3.0})
    muons = see(gun(displaced, repeat=4000)).muons
    sigma = np.hypot(0.010, 0.10 / 30)
    assert muons.d0.mean() == pytest.approx(-2.0, abs=0.01) and muons.z0.mean() == pytest.approx(3.0, abs=0.01)
    assert muons.d0.std() == pytest.approx(sigma, rel=0.06)
    assert muons.sigma_d0 == pytest.approx(sigma, rel=0.01)


def test_pairs_are_those_of_two_loops():
    rng = np.random.default_rng(2)
    first, second = rng.integers(0, 6, 15), np.sort(rng.integers(0, 6, 20))
    loops = [(i, j) for i, a in enumerate(first) for j, b in enumerate(second) if a == b]
    assert list(zip(*(values.tolist() for values in objects.pairs(first, second, 6)))) == loops


def test_an_event_with_nothing_in_it_has_nothing():
    event = see(gun((12, 50.0, 0.0, 0.0), repeat=3))
    assert [len(kind.pt) for kind in event[:4]] == [0, 0, 0, 0]
    assert event.met.shape == (3,) and (event.met < 40).all()


def test_same_random_numbers_give_the_same_event():
    record = gun((211, 80, 0, 0), (11, 50, 1, 2), repeat=20)
    one, same, other = see(record, seed=4), see(record, seed=4), see(record, seed=5)
    assert (one.met == same.met).all() and (one.jets.pt == same.jets.pt).all()
    assert (one.met != other.met).all()
