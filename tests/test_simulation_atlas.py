"""ATLAS-like samples: branches, weights and physics, by plain uproot. 20 s on one core."""

import numpy as np
import pytest

pytest.importorskip("pythia8mc")
uproot = pytest.importorskip("uproot")
import awkward as ak  # noqa: E402

from pipelines.errors import InputError  # noqa: E402
from pipelines.simulation import atlas, objects, processes, pythia, simulate  # noqa: E402

# As the release has them (C++ types of its tree), for what the paper's 33 features and weights are made of.
RELEASED = {
    **dict.fromkeys(("runNumber", "eventNumber", "channelNumber"), "int32_t"),
    **dict.fromkeys(("mcWeight", "XSection", "SumWeights", "met_et", "met_phi"), "float"),
    **{f"scaleFactor_{name}": "float" for name in ("PILEUP", "ELE", "MUON", "PHOTON", "TAU", "BTAG", "LepTRIGGER")},
    **dict.fromkeys(("trigE", "trigM"), "bool"),
    **{f"lep_{name}": "float[]" for name in ("pt", "eta", "phi", "E", "z0", "ptcone30", "etcone20")},
    **dict.fromkeys(("lep_trackd0pvunbiased", "lep_tracksigd0pvunbiased"), "float[]"),
    **{f"lep_{name}": "bool[]" for name in ("isTightID", "trigMatched", "truthMatched")},
    "lep_type": "uint32_t[]",
    "lep_charge": "int32_t[]",
    "jet_trueflav": "int32_t[]",
    "jet_truthMatched": "bool[]",
    **{f"jet_{name}": "float[]" for name in ("pt", "eta", "phi", "E", "jvt", "MV2c10")},
    **{f"photon_{name}": "float[]" for name in ("pt", "eta", "phi", "E", "ptcone30", "etcone20")},
    **dict.fromkeys(("lep_n", "jet_n", "photon_n"), "int32_t"),  # uint32_t there: ROOT's counters are signed
}


def mini(path):
    with uproot.open(path) as file:
        return file["mini"].arrays()


def m_ll(tree):
    """Invariant mass of the two leading leptons, GeV."""
    px, py, pz = (
        tree["lep_pt"][:, :2] * function(tree[name][:, :2])
        for function, name in ((np.cos, "lep_phi"), (np.sin, "lep_phi"), (np.sinh, "lep_eta"))
    )
    total = [ak.sum(values, axis=1).to_numpy() / 1000 for values in (tree["lep_E"][:, :2], px, py, pz)]
    return np.sqrt(total[0] ** 2 - total[1] ** 2 - total[2] ** 2 - total[3] ** 2)


@pytest.fixture(scope="module")
def electrons(tmp_path_factory):
    """Drell-Yan to electrons: file and outcome."""
    out = tmp_path_factory.mktemp("atlas") / "zee"
    outcome = simulate("atlas_background", out, events=300, process="Zee")
    return out / "mc_361106.Zee.2lep.root", outcome


@pytest.fixture(scope="module")
def tops(tmp_path_factory):
    out = tmp_path_factory.mktemp("atlas") / "tops"
    simulate("atlas_background", out, events=60, process="ttbar_lep")
    return out / "mc_410000.ttbar_lep.2lep.root"


@pytest.fixture(scope="module")
def signals(tmp_path_factory):
    out = tmp_path_factory.mktemp("atlas") / "signals"
    simulate("atlas_signal", out, events=120, decay="all")
    return out


def test_branches_have_the_names_and_types_of_the_release(electrons):
    with uproot.open(electrons[0]) as file:
        assert file["mini"].num_entries == 300
        types = file["mini"].typenames()
    assert {name: types.get(name) for name in RELEASED} == RELEASED


def test_lists_agree_with_their_counts_and_fall_in_pt(tops):
    tree = mini(tops)
    for kind, most in (("lep", 8), ("jet", 24), ("photon", 4)):
        branches = [name for name in tree.fields if name.startswith(f"{kind}_") and name != f"{kind}_n"]
        assert all(ak.all(ak.num(tree[name]) == tree[f"{kind}_n"]) for name in branches)
        assert ak.max(tree[f"{kind}_n"]) <= most
        pt = tree[f"{kind}_pt"]
        assert ak.all(pt[:, 1:] <= pt[:, :-1])
    assert ak.all(tree["lep_E"] > tree["lep_pt"] * np.cosh(tree["lep_eta"]) * (1 - 1e-5))
    assert (np.asarray(tree["eventNumber"]) == np.arange(60)).all()


def test_selection_holds_for_every_event(electrons, tops, signals):
    for path in (electrons[0], tops, *signals.iterdir()):
        tree = mini(path)
        assert ak.all(ak.sum(tree["lep_pt"] > 25_000, axis=1) >= 2)
        assert ak.all(tree["jet_pt"] > 20_000 * (1 - 1e-6)) and ak.all(abs(tree["jet_eta"]) < 2.5)
        electron = tree["lep_type"] == 11
        assert ak.all(electron | (tree["lep_type"] == 13))
        assert ak.all(abs(tree["lep_eta"][electron]) < 2.47) and ak.all(abs(tree["lep_charge"]) == 1)
        fired = {
            name: ak.any(tree["lep_trigMatched"] & (tree["lep_type"] == code), axis=1)
            for name, code in (("trigE", 11), ("trigM", 13))
        }
        assert all(ak.all(tree[name] == flag) for name, flag in fired.items())


def test_z_peaks_at_91_gev_with_the_calorimeter_resolution(electrons):
    mass = m_ll(mini(electrons[0]))
    peak = mass[np.abs(mass - 91.2) < 10]
    assert len(peak) > 200
    assert np.median(peak) == pytest.approx(91.0, abs=0.8)
    assert 2.0 < peak.std() < 3.8  # width of the Z and 1.7 % of each energy: 1.9 and Breit-Wigner tails


def test_zprime_peaks_at_its_mass(signals):
    tree = mini(signals / "mc_301215.ZPrime2000_ee.2lep.root")
    assert np.median(m_ll(tree)) == pytest.approx(2000, rel=0.03)
    assert set(ak.flatten(tree["lep_type"]).tolist()) == {11}


def test_folder_has_a_file_for_each_process_as_the_release_names_them(signals):
    names = sorted(path.name for path in signals.iterdir())
    assert names == ["mc_301215.ZPrime2000_ee.2lep.root", "mc_301220.ZPrime2000_mumu.2lep.root"]
    for name in names:
        tree = mini(signals / name)
        assert len(tree) == 60 and set(tree["channelNumber"].tolist()) == {int(name[3:9])}


def test_tops_have_b_jets_that_mv2c10_finds(tops, electrons):
    tree = mini(tops)
    bottom = tree["jet_MV2c10"][(tree["jet_trueflav"] == 5) & (tree["jet_pt"] > 30_000)]
    assert 0.9 < ak.num(bottom).to_numpy().mean() < 1.9
    assert ak.mean(bottom > 0.645925) == pytest.approx(0.77, abs=0.15)
    assert ak.mean(mini(electrons[0])["jet_MV2c10"] > 0.645925) < 0.15
    assert np.median(tree["met_et"]) > 2 * np.median(mini(electrons[0])["met_et"])


def test_drell_yan_leptons_are_isolated_and_prompt(electrons):
    tree = mini(electrons[0])
    lepton = tree[ak.num(tree["lep_pt"]) >= 2]
    good = (lepton["lep_ptcone30"] / lepton["lep_pt"] < 0.15) & (lepton["lep_etcone20"] / lepton["lep_pt"] < 0.15)
    assert ak.mean(good) > 0.85
    significance = ak.flatten(abs(tree["lep_trackd0pvunbiased"]) / tree["lep_tracksigd0pvunbiased"]).to_numpy()
    assert np.mean(significance < 3) > 0.97


def test_weights_give_the_cross_section_of_what_was_selected(electrons):
    path, outcome = electrons
    tree = mini(path)
    weight = tree["XSection"] * tree["mcWeight"] / tree["SumWeights"]
    share = outcome.counts["Zee accepted"] / outcome.counts["Zee generated"]
    sample = next(sample for sample in atlas.BACKGROUNDS if sample.process.name == "Zee")
    assert ak.sum(weight) == pytest.approx(processes.cross_section(sample.process) * share, rel=1e-4)
    assert 1300 < tree["XSection"][0] < 2000  # 1950 pb in the release; leading order is less
    assert all(ak.all(tree[name] == 1) for name in tree.fields if name.startswith("scaleFactor"))


def test_ditau_cross_section_counts_the_leptonic_decays_alone():
    electron, tau = (next(s for s in atlas.BACKGROUNDS if s.process.name == name) for name in ("Zee", "Ztautau"))
    ratio = processes.cross_section(tau.process) / processes.cross_section(electron.process)
    assert ratio == pytest.approx(0.3521**2, rel=0.04)


@pytest.mark.slow
def test_sample_does_not_depend_on_the_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(pythia, "BLOCK", 15)
    one = simulate("atlas_signal", tmp_path / "one", events=60, decay="all", seed=3, workers=1)
    two = simulate("atlas_signal", tmp_path / "two", events=60, decay="all", seed=3, workers=2)
    assert one == two and one.events == 60
    for path in (tmp_path / "one").iterdir():
        here, there = mini(path), mini(tmp_path / "two" / path.name)
        assert here.fields == there.fields and ak.array_equal(here, there)
        assert len(set(here["met_et"].tolist())) == 30
    simulate("atlas_signal", tmp_path / "other", events=15, decay="ee", seed=4)
    first, other = (mini(tmp_path / name / "mc_301215.ZPrime2000_ee.2lep.root") for name in ("one", "other"))
    assert len(other) == 15 and not set(first["met_et"].tolist()) & set(other["met_et"].tolist())


def test_masses_that_the_release_lacks_have_numbers_of_their_own():
    files = [atlas.zprime(mass, "mumu").file for mass in (3000.0, 2500.0)]
    assert files == ["mc_301221.ZPrime3000_mumu.2lep.root", "mc_900013.ZPrime2500_mumu.2lep.root"]


def test_slots_hold_the_hardest_objects(monkeypatch):
    monkeypatch.setitem(atlas.SLOTS, "jet", 2)
    zero = np.zeros(4)
    pt = np.array([50.0, 40.0, 30.0, 60.0])
    jets = objects.Objects(np.array([0, 0, 0, 2]), pt, *[zero] * 11)
    found = atlas._slots("jet", jets, {"jet_pt": pt}, 3)
    assert found["jet_n"].tolist() == [2, 0, 1]
    assert found["jet_pt"].tolist() == [[50, 40], [0, 0], [60, 0]]


@pytest.mark.slow
def test_all_backgrounds_make_a_folder_of_eight_files(tmp_path):
    simulate("atlas_background", tmp_path / "all", events=160, workers=4)
    files = {path.name: mini(path) for path in (tmp_path / "all").iterdir()}
    assert len(files) == 8 and {len(tree) for tree in files.values()} == {20}
    assert all(tree["channelNumber"][0] == int(name[3:9]) for name, tree in files.items())


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        ("atlas_background", {"process": "Zbb"}, "process is 'Zbb'"),
        ("atlas_background", {"mixture": "flat"}, "mixture is 'flat'"),
        ("atlas_signal", {"m_zprime": 50}, "m_zprime is 50"),
        ("atlas_signal", {"decay": "tt"}, "decay is 'tt'"),
        ("atlas_signal", {"mass": 500}, "mass: atlas_signal has no such option"),
    ],
)
def test_bad_options_are_named_before_anything_is_written(kind, options, named, tmp_path):
    with pytest.raises(InputError, match=named) as error:
        simulate(kind, tmp_path / "out", events=5, **options)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_folder_that_exists_is_not_written_into(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="exists already"):
        simulate("atlas_signal", tmp_path / "there", events=5, decay="all")
    assert not list((tmp_path / "there").iterdir())
