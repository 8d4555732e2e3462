"""Simulated LHC Olympics samples: what they depend on, what is in them, and what is refused. A minute."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fastjet
import h5py
import numpy as np
import pytest

from pipelines import InputError
from pipelines.datasets import lhco as raw
from pipelines.datasets.catalog import FOLDER
from pipelines.errors import Unfinished
from pipelines.features.jets import COLUMNS, cluster_events
from pipelines.simulation import KINDS, hadrons, lhco, pythia, simulate

TABLE = "df/block0_values"
QCD = lhco.process({"pt_hat_min": 1000})


def table_of(path):
    with h5py.File(path) as file:
        return file[TABLE][:]


def attributes_of(path):
    """Every attribute of every object of a file, as bytes."""
    with h5py.File(path) as file:
        found = {}

        def visit(name, node):
            found.update({(name, key): value for key, value in node.attrs.items()})

        visit("/", file)
        file.visititems(visit)
        return found


def jets_of(path, key=None):
    """The 47 variables of a raw file, by name, and its labels."""
    pt, eta, phi, counts, label = next(raw.read_raw(path, key))
    return dict(zip(COLUMNS, cluster_events(pt, eta, phi, counts).T)), label


def heavy_and_light(variables):
    return np.sort([variables["mass_1"], variables["mass_2"]], axis=0)[::-1]


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(pythia, "BLOCK", 10)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Simulate a sample once, however many tests look at it."""
    made = {}

    def make(kind, **options):
        asked = (kind, *sorted(options.items()))
        if asked not in made:
            made[asked] = tmp_path_factory.mktemp(kind) / "sample.h5"
            simulate(kind, made[asked], **{"events": 60, "seed": 1, **options})
        return made[asked]

    return make


# -- the engine ----------------------------------------------------------------------------------------------


def test_blocks_of_a_sample_never_share_a_seed_and_other_samples_only_by_chance():
    streams = [(name, seed) for name in ("lhco_qcd", "lhco_2prong", "lhco_blackbox signal") for seed in (0, 1)]
    seeds = [{pythia.block_seed(name, seed, block) for block in range(5_000)} for name, seed in streams]
    assert [len(blocks) for blocks in seeds] == [5_000] * 6
    everything = set.union(*seeds)
    assert len(everything) >= 30_000 - 5  # 0.4 are expected to be shared
    assert min(everything) >= 1
    assert max(everything) <= 900_000_000


def test_modulus_of_seeds_is_prime_so_that_every_stride_reaches_all_of_them():
    divisors = np.arange(2, int(pythia._SEEDS**0.5) + 2)
    assert (pythia._SEEDS % divisors != 0).all()


def test_batch_holds_what_reading_particle_by_particle_gives():
    batch = pythia.read_batch(pythia.generator(QCD, seed=5), 3)
    one_by_one = pythia.generator(QCD, seed=5)
    rows = []
    for _ in range(3):
        one_by_one.next()
        for p in one_by_one.event:
            momentum, place = (p.px(), p.py(), p.pz(), p.e()), (p.xProd(), p.yProd(), p.zProd())
            family = (p.mother1(), p.mother2(), p.daughter1(), p.daughter2())
            rows.append((p.id(), p.status(), *family, *momentum, *place, p.charge(), p.isVisible()))
    assert batch.counts.sum() == len(rows)
    np.testing.assert_array_equal(np.stack(batch[1:], axis=1), rows)


def test_final_state_has_the_energy_of_the_beams():
    final = pythia.final_state(pythia.read_batch(pythia.generator(QCD, seed=6), 5))
    np.testing.assert_allclose(np.bincount(final.event, final.energy), 13_000, rtol=1e-6)


def test_refused_setting_is_named():
    with pytest.raises(InputError, match=r"refuses the setting 'HardQCD:al = on'"):
        pythia.generator(["HardQCD:al = on"], seed=1)


def test_value_that_pythia_would_silently_replace_is_refused():
    with pytest.raises(InputError, match=r"refuses the setting 'Beams:eCM = -5' \(.*out of range"):
        pythia.generator(["Beams:eCM = -5", "HardQCD:all = on"], seed=1)


def test_settings_without_a_process_cannot_start():
    with pytest.raises(InputError, match="Pythia cannot start with Beams:eCM = 13000"):
        pythia.generator(["Beams:eCM = 13000"], seed=1)


def test_settings_are_checked_without_a_stdout_too(fresh_python):
    code = """
        import os, sys
        from pipelines.simulation import pythia
        kept, sys.stdout = sys.stdout, None
        stdout = os.dup(1)
        os.close(1)
        try:
            pythia.generator(["Beams:eCM = -5"], seed=1)
        except pythia.InputError as error:
            os.dup2(stdout, 1)
            print(error, file=kept)
    """
    assert "out of range" in fresh_python("import textwrap; exec(textwrap.dedent('''" + code + "'''))")


def test_nothing_is_printed_on_stdout(tmp_path, capfd):
    simulate("lhco_2prong", tmp_path / "out.h5", events=5)
    assert capfd.readouterr().out == ""


def test_without_pythia_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pythia8mc", None)
    with pytest.raises(InputError, match=r"not installed; try pip install '\.\[sim\]'") as error:
        simulate("lhco_qcd", tmp_path / "out.h5", events=5)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_registry_needs_no_generator(fresh_python):
    code = """
        import sys
        from pipelines.simulation import KINDS
        print(sorted({"pythia8mc", "fastjet", "awkward", "tensorflow"} & set(sys.modules)), "lhco_qcd" in KINDS)
    """
    assert fresh_python("import textwrap; exec(textwrap.dedent('''" + code + "'''))") == "[] True\n"


# -- the detector --------------------------------------------------------------------------------------------


def gun(code, charge, pt, count=20_000, eta=0.0, visible=True):
    """Events of one particle each."""
    ones, none = np.ones(count), np.zeros(count, int)
    phi = np.linspace(-np.pi, np.pi, count)
    momentum = (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta) * ones, pt * np.cosh(eta) * ones)
    status, family = 1 + none, (none,) * 4
    return pythia.Record(
        1 + none, code + none, status, *family, *momentum, *(0 * ones,) * 3, charge * ones, np.full(count, visible)
    )


def shoot(*arguments, **options):
    return hadrons.measure(gun(*arguments, **options), np.random.default_rng(3))


PION, NEUTRON, GAMMA, MU, NEUTRINO = (211, 1.0), (2112, 0.0), (22, 0.0), (13, -1.0), (12, 0.0)


@pytest.mark.parametrize(
    ("particle", "pt", "sigma"),
    [
        (GAMMA, 100.0, np.hypot(0.007, 0.10 / 10)),
        (NEUTRON, 100.0, np.hypot(0.05, 0.60 / 10)),
        (MU, 100.0, np.hypot(0.01, 2e-4 * 100)),
        (MU, 1000.0, np.hypot(0.01, 0.2)),
    ],
)
def test_response_has_the_width_of_the_documented_formula(particle, pt, sigma):
    seen = shoot(*particle, pt)
    assert np.std(seen.pt) / pt == pytest.approx(sigma, rel=0.03)  # 1 / sqrt(2 n) is 0.5 %
    assert np.mean(seen.pt) == pytest.approx(pt, rel=4 * sigma / np.sqrt(len(seen.pt)))


def test_energy_resolution_improves_with_the_energy_not_the_transverse_momentum():
    seen = shoot(*NEUTRON, 25.0, eta=2.0)
    assert np.std(seen.pt) / 25 == pytest.approx(np.hypot(0.05, 0.60 / np.sqrt(25 * np.cosh(2.0))), rel=0.03)


def test_five_percent_of_muons_and_no_other_charged_particles_are_lost():
    assert shoot(*MU, 50.0).counts.mean() == pytest.approx(0.95, abs=0.006)
    assert shoot(*PION, 50.0).counts.mean() == 1
    assert shoot(11, -1.0, 50.0).counts.mean() == 1


def test_directions_of_tracks_are_exact_and_of_others_within_half_a_cell():
    track, neutral = shoot(*MU, 50.0, eta=1.2), shoot(*NEUTRON, 50.0, eta=1.2)
    assert (track.eta == np.float32(1.2)).all()
    assert np.abs(neutral.eta - 1.2).max() == pytest.approx(0.025, rel=0.01)
    assert np.std(neutral.eta) == pytest.approx(0.05 / np.sqrt(12), rel=0.03)
    assert np.abs(neutral.phi).max() <= np.float32(np.pi)


@pytest.mark.parametrize(
    ("shot", "seen"),
    [
        (((*PION, 50.0), {"eta": 2.51}), False),
        (((*PION, 50.0), {"eta": 2.49}), True),
        (((*PION, 0.39), {}), False),
        (((*GAMMA, 0.5), {}), False),
        (((*NEUTRINO, 500.0), {"visible": False}), False),
    ],
)
def test_acceptance(shot, seen):
    assert shoot(*shot[0], **shot[1]).counts.any() == seen


def test_particles_along_the_beam_do_no_harm():
    assert not shoot(*PION, 0.0).counts.any()


def test_trigger_agrees_with_fastjet_event_by_event():
    generator = pythia.generator(QCD, seed=8)
    seen = hadrons.measure(pythia.read_batch(generator), np.random.default_rng(0))
    expected, first = [], 0
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, 1.0)
    for count in seen.counts:
        particles = []
        for pt, eta, phi in np.stack(seen[1:], axis=1)[first : first + count].astype(float):
            particle = fastjet.PseudoJet()
            particle.reset_momentum_PtYPhiM(pt, eta, phi, 0.0)
            particles.append(particle)
        first += count
        jets = fastjet.sorted_by_pt(fastjet.ClusterSequence(particles, definition).inclusive_jets(20.0))
        expected.append(len(jets) > 1 and jets[0].pt() > 1200 and abs(jets[0].eta()) < 2.5)
    assert 10 < sum(expected) < 40
    assert hadrons.triggered(seen).tolist() == expected


def test_trigger_takes_no_empty_events_and_none_with_one_jet():
    lonely = hadrons.Hadrons(np.array([0, 1]), *(np.array([value], np.float32) for value in (2000, 0, 0)))
    assert hadrons.triggered(lonely).tolist() == [False, False]


# -- the samples ---------------------------------------------------------------------------------------------


def test_sample_depends_on_seed_and_not_on_workers(tmp_path, small_blocks):
    for name, workers, seed in (("one", 1, 3), ("two", 2, 3), ("again", 1, 3), ("other", 1, 4)):
        simulate("lhco_2prong", tmp_path / f"{name}.h5", events=15, workers=workers, seed=seed)
    one, two, again, other = (table_of(tmp_path / f"{name}.h5") for name in ("one", "two", "again", "other"))
    assert (one == two).all()
    assert (one == again).all()
    assert not (one[:, 0] == other[:, 0]).any()
    assert len(np.unique(one[:, 0])) == 15  # blocks do not repeat each other


def test_black_box_and_its_key_depend_on_seed_and_not_on_workers(tmp_path, small_blocks):
    for name, workers, seed in (("one", 1, 3), ("two", 2, 3), ("other", 1, 4)):
        simulate("lhco_blackbox", tmp_path / f"{name}.h5", events=15, workers=workers, seed=seed, signal_fraction=0.4)
    one, two, other = (table_of(tmp_path / f"{name}.h5") for name in ("one", "two", "other"))
    assert (one == two).all()
    assert not (one[:, 0] == other[:, 0]).any()
    keys = [(tmp_path / f"{name}.masterkey").read_text() for name in ("one", "two", "other")]
    assert keys[0] == keys[1] != keys[2]


def test_smaller_sample_is_the_beginning_of_a_larger_one(tmp_path, small_blocks):
    for events in (13, 27):
        simulate("lhco_2prong", tmp_path / f"{events}.h5", events=events)
    assert (table_of(tmp_path / "13.h5") == table_of(tmp_path / "27.h5")[:13]).all()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")
def test_killed_simulation_goes_on_where_it_stopped(tmp_path, monkeypatch, small_blocks):
    out, parts = tmp_path / "killed.h5", tmp_path / "killed.h5.parts"
    code = f"""
from pipelines.simulation import pythia, simulate
pythia.BLOCK = 10
simulate("lhco_3prong", {str(out)!r}, events=60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while len(list(parts.glob("0*.h5"))) < 2 and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    finished = len(list(parts.glob("0*.h5")))
    assert not out.exists()
    assert 2 <= finished < 6

    done = []
    work = lhco.simulate_block
    monkeypatch.setattr(lhco, "simulate_block", lambda *task: done.append(task) or work(*task))
    simulate("lhco_3prong", out, events=60)
    assert len(done) == 6 - finished
    assert not parts.exists()
    simulate("lhco_3prong", tmp_path / "whole.h5", events=60)
    assert (table_of(out) == table_of(tmp_path / "whole.h5")).all()


def test_rows_are_hadrons_by_falling_pt_then_zeros_then_the_label(make):
    for kind, label in (("lhco_qcd", 0), ("lhco_2prong", 1), ("lhco_3prong", 2)):
        table = table_of(make(kind))
        assert table.shape == (60, 2101)
        assert table.dtype == np.float64
        assert (table[:, -1] == label).all()
        pt, eta, phi = (table[:, quantity:2100:3] for quantity in range(3))
        assert (np.diff(pt) <= 0).all()
        assert (eta[pt == 0] == 0).all()
        assert (phi[pt == 0] == 0).all()
        assert np.abs(eta).max() < 2.55
        assert np.abs(phi).max() <= np.float32(np.pi)
        assert 50 < (pt > 0).sum(axis=1).mean() < 500
        assert (table == table.astype(np.float32)).all()  # as the published ones
        with h5py.File(make(kind)) as file:
            assert json.loads(file.attrs["label_names"]).keys() == {str(label)}


def test_only_the_hardest_700_hadrons_are_kept():
    counts = np.array([2, 900, 1])
    pt = np.random.default_rng(0).exponential(10, 903).astype(np.float32)
    rows = lhco._padded(hadrons.Hadrons(counts, pt, -pt, pt / 1000))
    assert rows.shape == (3, 2100)
    assert (rows[1, ::3] == np.sort(pt[2:902])[:-701:-1]).all()
    assert (rows[:, 1::3] == -rows[:, ::3]).all()
    assert (rows[2, 3:] == 0).all()


def test_every_event_passes_the_trigger(make):
    for kind in ("lhco_qcd", "lhco_3prong", "lhco_blackbox"):
        jets, _ = jets_of(make(kind))
        assert jets["pt_1"].min() > 1200
        assert np.abs(jets["eta_1"]).max() < 2.5
        assert jets["pt_2"].min() > 20


def test_file_has_the_datasets_and_attributes_of_the_published_one(make):
    ours, theirs = attributes_of(make("lhco_2prong")), attributes_of(FOLDER / "lhco_rnd_real.h5")
    assert len(theirs) > 30
    for (name, key), value in theirs.items():
        assert type(ours[name, key]) is type(value), (name, key)
        assert isinstance(value, h5py.Empty) or ours[name, key] == value, (name, key)


def test_file_needs_no_filter_that_plain_hdf5_lacks(make):
    with h5py.File(make("lhco_2prong")) as file:
        filters = file[TABLE].id.get_create_plist()
        assert {filters.get_filter(i)[0] for i in range(filters.get_nfilters())} == {1, 2}  # deflate, shuffle
        assert file[TABLE].id.get_storage_size() / 60 < 3_000


def test_sample_says_how_it_was_made(make):
    with h5py.File(make("lhco_2prong")) as file:
        about = dict(file.attrs)
    assert about["kind"] == "lhco_2prong"
    assert (about["seed"], about["events"]) == (1, 60)
    assert about["pythia8mc"] == pythia.version()
    assert (about["m_zprime"], about["m_x"], about["m_y"]) == (3500, 500, 100)
    assert "4900023:m0 = 3500" in about["settings"]
    assert json.loads(about["detector"])["TRIGGER_PT"] == 1200
    assert about["generated"] >= 60


# -- the physics ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m_zprime", [3000, 3500, 5000])
def test_dijet_mass_is_near_that_of_the_resonance(make, m_zprime):
    jets, _ = jets_of(make("lhco_2prong", m_zprime=m_zprime))
    assert np.median(jets["mj1j2"]) == pytest.approx(m_zprime, rel=0.04)


@pytest.mark.parametrize(
    ("kind", "m_x", "m_y"), [("lhco_2prong", 500, 100), ("lhco_2prong", 300, 200), ("lhco_3prong", 500, 100)]
)
def test_ungroomed_jet_masses_are_near_those_of_x_and_y(make, kind, m_x, m_y):
    heavy, light = heavy_and_light(jets_of(make(kind, m_x=m_x, m_y=m_y))[0])
    assert np.median(heavy) == pytest.approx(m_x, rel=0.08)
    assert np.median(light) == pytest.approx(m_y, rel=0.12)


def test_three_prongs_have_a_lower_tau32_and_two_prongs_a_lower_tau21_than_qcd(make):
    qcd, two, three = (jets_of(make(kind))[0] for kind in ("lhco_qcd", "lhco_2prong", "lhco_3prong"))
    assert np.median(three["tau32_1"]) < np.median(qcd["tau32_1"]) - 0.05
    assert np.median(two["tau21_1"]) < np.median(qcd["tau21_1"]) - 0.05


def test_only_the_options_mass_changes_the_signal(make):
    default, same = (make("lhco_2prong", **options) for options in ({}, {"m_zprime": 3500}))
    assert (table_of(default) == table_of(same)).all()


# -- black boxes ---------------------------------------------------------------------------------------------


def box_files(box):
    return box, box.with_suffix(".masterkey"), box.with_suffix(".truth.json")


@pytest.mark.parametrize(("fraction", "hidden"), [(0, 0), (0.5, 30), (0.124, 7)])
def test_black_box_hides_exactly_the_fraction_asked_for(make, fraction, hidden):
    box, key, truth = box_files(make("lhco_blackbox", signal_fraction=fraction))
    assert table_of(box).shape == (60, 2100)
    lines = key.read_text().splitlines()
    assert set(lines) <= {"0.0", "1.0"}
    assert (len(lines), lines.count("1.0")) == (60, hidden)
    assert json.loads(truth.read_text())["signal_events"] == hidden


def test_key_tells_signal_from_background(make):
    options = {"m_zprime": 5000, "m_x": 900, "m_y": 600, "signal_fraction": 0.5}
    box, key, _ = box_files(make("lhco_blackbox", **options))
    jets, label = jets_of(box, key)
    light = heavy_and_light(jets)[1]
    assert np.median(jets["mj1j2"][label == 1]) == pytest.approx(5000, rel=0.04)
    assert np.median(light[label == 1]) == pytest.approx(600, rel=0.1)
    assert np.median(light[label == 0]) < 200
    assert 0 < np.flatnonzero(label == 1).mean() < 59  # mixed
    assert (np.diff(label) != 0).sum() > 10


def test_nothing_in_the_box_tells_of_its_signal(make):
    options = {"m_zprime": 5000, "m_x": 900, "m_y": 600, "signal_fraction": 0.5}
    boxes = [make("lhco_blackbox", **given) for given in (options, {"signal_fraction": 0})]
    first, second = (attributes_of(box) for box in boxes)
    assert first.keys() == second.keys()
    assert all(isinstance(value, h5py.Empty) or value == second[name] for name, value in first.items())
    contents = boxes[0].read_bytes()
    for word in (b"m_zprime", b"m_x", b"prongs", b"signal", b"fraction", b"label", b"4900023", b"seed"):
        assert word not in contents
    with h5py.File(boxes[0]) as file:
        assert set(file) == {"df"}
        assert set(file["df"]) == {"axis0", "axis1", "block0_items", "block0_values"}


def test_truth_of_a_box_is_enough_to_make_it_again(make, tmp_path):
    box, key, truth = box_files(make("lhco_blackbox", signal_fraction=0.5))
    told = json.loads(truth.read_text())
    options = {option.name: told[option.name] for option in KINDS["lhco_blackbox"].options}
    simulate(told["kind"], tmp_path / "again.h5", events=told["events"], seed=told["seed"], **options)
    assert (table_of(tmp_path / "again.h5") == table_of(box)).all()
    assert (tmp_path / "again.masterkey").read_text() == key.read_text()


def test_background_of_a_box_is_of_another_tune(make):
    qcd, box = jets_of(make("lhco_qcd"))[0], jets_of(make("lhco_blackbox", signal_fraction=0))[0]
    assert np.median(box["nc_1"]) < np.median(qcd["nc_1"])  # a smaller alpha_s radiates less


def test_box_and_key_come_both_or_not_at_all(tmp_path, monkeypatch):
    box, key, truth = box_files(tmp_path / "box.h5")

    def full(*_):
        raise Unfinished("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(lhco, "_write_table", full)
        with pytest.raises(Unfinished, match="disk full"):
            simulate("lhco_blackbox", box, events=10)
    assert [path.name for path in tmp_path.iterdir()] == ["box.h5.parts"]
    simulate("lhco_blackbox", box, events=10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["box.h5", "box.masterkey", "box.truth.json"]
    assert len(key.read_text().splitlines()) == 10
    assert json.loads(truth.read_text())["events"] == 10


@pytest.mark.parametrize("name", ["box.masterkey", "box.truth.json"])
def test_key_that_is_there_is_not_overwritten(tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(InputError, match=f"{name}: exists already"):
        simulate("lhco_blackbox", tmp_path / "box.h5", events=5)
    assert (tmp_path / name).read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_box_cannot_have_the_name_of_its_key(tmp_path):
    with pytest.raises(InputError, match="cannot have the name of its key"):
        simulate("lhco_blackbox", tmp_path / "box.masterkey", events=5)


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("lhco_qdc", {}, "lhco_qdc: no such kind of sample; did you mean 'lhco_qcd'?"),
        ("nonsense", {}, "nonsense: no such kind of sample; there are .*lhco_qcd, lhco_2prong"),
        ("lhco_qcd", {"m_x": 100}, "m_x: lhco_qcd has no such option; there are pt_hat_min"),
        ("lhco_2prong", {"m_zprim": 3000}, "m_zprim: lhco_2prong has no such option; did you mean 'm_zprime'?"),
        ("lhco_2prong", {"m_x": -500}, "m_x is -500, expected a number from 30 to 4000 GeV"),
        ("lhco_2prong", {"m_x": float("nan")}, "m_x is nan, expected a number from 30 to 4000 GeV"),
        ("lhco_2prong", {"m_y": "heavy"}, "m_y is heavy, expected a number"),
        ("lhco_3prong", {"m_x": 3000, "m_y": 500}, "m_x 3000 and m_y 500 GeV: a Z' of m_zprime 3500 GeV cannot"),
        ("lhco_blackbox", {"signal_fraction": 1.5}, "signal_fraction is 1.5, expected a number from 0 to 1"),
        ("lhco_blackbox", {"prongs": 4}, "prongs is 4, expected 2 or 3"),
        ("lhco_blackbox", {"m_x": 3000, "m_y": 900}, "cannot decay to both"),
        ("lhco_qcd", {"events": 0}, "events is 0, expected a whole number of at least 1"),
        ("lhco_qcd", {"events": 2.5}, "events is 2.5, expected a whole number"),
        ("lhco_qcd", {"events": float("inf")}, "events is inf, expected a whole number"),
        ("lhco_qcd", {"seed": -1}, "seed is -1, expected a whole number of at least 0"),
        ("lhco_qcd", {"workers": 0}, "workers is 0, expected a whole number of at least 1"),
    ],
)
def test_bad_request_is_one_line_and_makes_nothing(tmp_path, kind, options, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")) as error:
        simulate(kind, tmp_path / "out.h5", **{"events": 5, **options})
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_options_may_be_text_as_a_command_line_has_it():
    resolved = KINDS["lhco_blackbox"].resolve({"m_x": "3e2", "prongs": "3"})
    assert (resolved["m_x"], resolved["prongs"], type(resolved["prongs"])) == (300.0, 3, int)


def test_file_that_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "out.h5").write_text("precious")
    with pytest.raises(InputError, match=r"out\.h5: exists already"):
        simulate("lhco_qcd", tmp_path / "out.h5", events=5)


def test_masses_with_which_nothing_triggers_are_told_instead_of_trying_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(pythia, "PATIENCE", 100)
    with pytest.raises(InputError, match=r"none of 100 generated events passes .* 4900023:m0 = 2000"):
        simulate("lhco_2prong", tmp_path / "out.h5", events=5, m_zprime=2000, m_x=1500)
    assert list(tmp_path.iterdir()) == []


def test_daughters_that_leave_the_resonance_no_room_to_spare_still_decay(tmp_path):
    simulate("lhco_2prong", tmp_path / "out.h5", events=5, m_zprime=8000, m_x=3900, m_y=3900)
    jets, _ = jets_of(tmp_path / "out.h5")
    assert len(jets["mj1j2"]) == 5


# -- the embedded samples ------------------------------------------------------------------------------------


def test_embedded_samples_are_what_their_script_makes(capsys):
    script = Path(__file__).parent.parent / "examples" / "make_samples.py"
    spec = importlib.util.spec_from_file_location("make_samples", script)
    make_samples = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_samples)
    make_samples.check(FOLDER, events=20)
    assert capsys.readouterr().out.count("the first 20 events are the same, bit by bit") == 3
