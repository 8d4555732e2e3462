"""ATLAS Open Data: what is selected and computed, event by event in plain Python too, and what is refused and how."""

import math
import tracemalloc

import awkward as ak
import mt2
import numpy as np
import pytest
import uproot

from pipelines import Events, InputError
from pipelines.datasets import atlas, atlas_samples
from pipelines.datasets.atlas_samples import Sample

ZEE, ZMUMU, TTBAR = "mc_361106.Zee.2lep.root", "mc_361107.Zmumu.2lep.root", "mc_410000.ttbar_lep.2lep.root"
ZPRIME, SLEPTON = "mc_301215.ZPrime2000_ee.2lep.root", "mc_392916.SlepSlep_direct_100p0_1p0_2L8.2lep.root"
DATA = "data_A.2lep.root"


def made(size, dsid=0, seed=0):
    """Return the branches of `size` made entries, types and units as in the release; data if `dsid` is 0."""
    rng = np.random.default_rng([seed, dsid])
    counts, jets = rng.integers(1, 5, size), rng.integers(0, 6, size)

    def several(of, values, dtype="f4"):
        return ak.unflatten(np.asarray(values, dtype), of)

    total, total_jets = counts.sum(), jets.sum()
    pt, eta = 7000 + rng.exponential(40_000, total), rng.uniform(-2.5, 2.5, total)
    branches = {
        "lep_type": several(counts, rng.choice([11, 13], total), "u4"),
        "lep_charge": several(counts, rng.choice([-1, 1], total), "i4"),
        "lep_pt": several(counts, pt),
        "lep_eta": several(counts, eta),
        "lep_phi": several(counts, rng.uniform(-np.pi, np.pi, total)),
        "lep_E": several(counts, np.hypot(pt * np.cosh(eta), 105.66)),
        "lep_ptcone30": several(counts, pt * rng.exponential(0.05, total) * rng.integers(0, 2, total)),
        "lep_etcone20": several(counts, pt * rng.normal(0.02, 0.08, total)),
        "lep_trackd0pvunbiased": several(counts, rng.normal(0, 0.05, total)),
        "lep_isTightID": several(counts, rng.random(total) < 0.7, "bool"),
        "lep_z0": several(counts, rng.normal(0, 0.3, total)),
        "jet_pt": several(jets, 20_000 + rng.exponential(30_000, total_jets)),
        "jet_MV2c10": several(jets, rng.uniform(-1, 1, total_jets)),
        "met_et": np.float32(rng.exponential(40_000, size)),
        "met_phi": np.float32(rng.uniform(-np.pi, np.pi, size)),
        "eventNumber": np.arange(size, dtype="i4"),
        "trigE": rng.random(size) < 0.5,
    }
    if dsid:
        for name in ("PILEUP", "ELE", "MUON", "LepTRIGGER", "BTAG"):
            branches[f"scaleFactor_{name}"] = np.float32(rng.uniform(0.8, 1.1, size))
        branches |= {
            "channelNumber": np.full(size, dsid, "i4"),
            "mcWeight": np.float32(rng.choice([-1, 1], size, p=[0.2, 0.8]) * rng.uniform(10, 20, size)),
            "XSection": np.full(size, 1901.2, "f4"),
            "SumWeights": np.full(size, 1.5e8, "f4"),
        }
    return branches


def type_of(values):
    return ak.type(values).content if isinstance(values, ak.Array) else np.dtype((values.dtype, values.shape[1:]))


def as_objects(branches):
    """Return the branches with those of leptons and of jets together, which is quicker to write, where they can be."""
    for prefix in ("lep_", "jet_"):
        parts = {key[4:]: v for key, v in branches.items() if key.startswith(prefix) and isinstance(v, ak.Array)}
        if len({tuple(ak.num(values)) for values in parts.values()}) == 1:
            rest = {key: values for key, values in branches.items() if key[4:] not in parts or key[:4] != prefix}
            branches = rest | {prefix[:3]: ak.zip(parts)}
    return branches


@pytest.fixture(scope="module")
def unchanged():
    """The bytes of the files that several tests write, by what they are made of: Uproot takes most of their time."""
    return {}


@pytest.fixture
def write(tmp_path, unchanged):
    """Write a file of the release: `write(name, size, change=function of the branches)`."""

    def writer(name, size=300, *, change=None, seed=0, tree="mini", piece=100):
        made_of = Sample.of(name).dsid, size, seed, tree, piece
        if change is not None or made_of not in unchanged:
            written(tmp_path / name, *made_of, change or (lambda branches: None))
            if change is None:
                unchanged[made_of] = (tmp_path / name).read_bytes()
        else:
            (tmp_path / name).write_bytes(unchanged[made_of])
        return tmp_path / name

    return writer


def written(path, dsid, size, seed, tree, piece, change):
    branches = made(size, dsid, seed)
    change(branches)
    branches = as_objects(branches)
    with uproot.recreate(path) as file:
        file.mktree(tree, {key: type_of(values) for key, values in branches.items()})
        for start in range(0, size, piece):  # several baskets, as files that are read in pieces have
            file[tree].extend({key: values[start : start + piece] for key, values in branches.items()})


def plain_event(e, i, names, luminosity=10.064, factors=("PILEUP", "ELE", "MUON", "LepTRIGGER")):
    """Return features and weight of entry i, or None: one event at a time, by the definitions."""
    good = []
    for j in range(len(e["lep_pt"][i])):
        pt = float(e["lep_pt"][i][j])
        if float(e["lep_etcone20"][i][j]) / pt < 0.15 and float(e["lep_ptcone30"][i][j]) / pt < 0.15:
            good.append(j)
    if len(good) != 2:
        return None
    good.sort(key=lambda j: -float(e["lep_pt"][i][j]))
    row = {"met_et": float(e["met_et"][i]) / 1000, "met_phi": float(e["met_phi"][i])}
    momenta = []
    for k, j in enumerate(good, 1):
        lep = {key[4:]: values[i][j] for key, values in e.items() if key.startswith("lep_")}
        row[f"lep{k}_flav"], row[f"lep{k}_isTightID"] = float(lep["type"]), float(lep["isTightID"])
        for name in ("pt", "E", "ptcone30", "etcone20"):
            row[f"lep{k}_{name}"] = float(lep[name]) / 1000
        for name in ("eta", "phi", "trackd0pvunbiased", "z0"):
            row[f"lep{k}_{name}"] = float(lep[name])
        pt, eta, phi = row[f"lep{k}_pt"], row[f"lep{k}_eta"], row[f"lep{k}_phi"]
        momenta.append((row[f"lep{k}_E"], pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta)))
    charges = [int(e["lep_charge"][i][j]) for j in good]
    row["isOS"] = float(charges[0] != charges[1])
    row["isSF"] = float(row["lep1_flav"] == row["lep2_flav"])
    energy, x, y, z = (sum(p[axis] for p in momenta) for axis in range(4))
    row["mll"] = math.sqrt(max(0, energy**2 - x**2 - y**2 - z**2))
    masses = [0.000510999 if row[f"lep{k}_flav"] == 11 else 0.10565838 for k in (1, 2)]
    missing = row["met_et"] * math.cos(row["met_phi"]), row["met_et"] * math.sin(row["met_phi"])
    visible = (masses[0], *momenta[0][1:3], masses[1], *momenta[1][1:3])
    row["mt2"] = float(mt2.mt2(*visible, *missing, 0, 0))
    row["costhstar"] = abs(math.cos(2 * math.atan(math.exp((row["lep1_eta"] - row["lep2_eta"]) / 2))))
    jets = list(zip(map(float, e["jet_pt"][i]), map(float, e["jet_MV2c10"][i]), strict=True))
    row["njet20"], row["njet60"] = sum(pt > 20_000 for pt, _ in jets), sum(pt > 60_000 for pt, _ in jets)
    for efficiency, cut in ((60, 0.9349), (70, 0.8244), (77, 0.6459), (85, 0.1758)):
        row[f"nbjet{efficiency}"] = sum(pt > 20_000 and tag > cut for pt, tag in jets)
    weight = 1.0
    if "mcWeight" in e:
        weight = luminosity * 1000 * float(e["XSection"][i]) * float(e["mcWeight"][i]) / float(e["SumWeights"][i])
        for name in factors:
            weight *= float(e[f"scaleFactor_{name}"][i])
    return [row[name] for name in names], row["mll"], weight


def plainly(branches, names, **options):
    rows = [plain_event(branches, i, names, **options) for i in range(len(branches["met_et"]))]
    features, mass, weight = zip(*(row for row in rows if row is not None), strict=True)
    return np.array(features), np.array(mass), np.array(weight)


def assert_same(found, expected, columns):
    """Compare features one by one."""
    assert found.shape == expected.shape
    for i, name in enumerate(columns):
        atol = 5e-3 if name == "mt2" else 0  # where m_T2 is some MeV, rounding moves it by as much
        np.testing.assert_allclose(found[:, i], expected[:, i], rtol=2e-6, atol=atol, err_msg=name)


def contents(path):
    events = Events.from_file(path)
    fields = [
        name for name in ("features", "mass", "weight", "label", "process") if events.has_labels or name[0] in "fm"
    ]
    return {name: events.read(name) for name in fields}


# -- what is selected and computed -----------------------------------------------------------------------


@pytest.mark.parametrize("features", ["33", "13"])
def test_simulation_is_that_of_a_plain_loop_over_events(features, write, tmp_path):
    path = write(TTBAR, 600)
    outcome = atlas.convert([path], tmp_path / "events.h5", features=features, step=250)
    events = Events.from_file(tmp_path / "events.h5")
    assert events.columns == atlas.FEATURES[features]
    expected, mass, weight = plainly(made(600, 410000), events.columns)
    assert len(events) == len(mass) == outcome.events > 100
    assert outcome.counts == {"entries": 600, "with exactly two good leptons": len(mass)}
    assert_same(events.read("features"), expected, events.columns)
    np.testing.assert_allclose(events.mass, mass, rtol=1e-6)
    np.testing.assert_allclose(events.weight, weight, rtol=1e-6)
    assert (events.weight < 0).any() and not events.label.any()


def test_data_have_weight_one_and_no_truth(write, tmp_path):
    path = write(DATA)
    atlas.convert([path], tmp_path / "events.h5")
    events = Events.from_file(tmp_path / "events.h5")
    expected, mass, _ = plainly(made(300), events.columns)
    assert_same(events.read("features"), expected, events.columns)
    np.testing.assert_allclose(events.mass, mass, rtol=1e-6)
    assert not events.has_labels and (events.weight == 1).all()
    assert "process" not in events.about.process_names and not events.about.label_names


def test_columns_have_the_names_and_units_of_the_paper(write, tmp_path):
    assert [len(names) for names in atlas.FEATURES.values()] == [33, 13]
    assert set(atlas.FEATURES["13"]) < set(atlas.FEATURES["33"])
    assert not [name for name in atlas.FEATURES["33"] if "sigd0" in name]
    atlas.convert([write(DATA)], tmp_path / "events.h5")
    about = Events.from_file(tmp_path / "events.h5").about
    units = dict(zip(about.columns, about.units, strict=True))
    assert about.mass_column == "mll" and about.dataset == "atlas"
    assert {units[name] for name in ("mll", "mt2", "met_et", "lep1_pt", "lep2_E", "lep1_etcone20")} == {"GeV"}
    assert units["lep2_phi"] == units["met_phi"] == "rad" and units["lep1_z0"] == "mm"
    assert units["njet20"] == units["costhstar"] == units["lep1_eta"] == ""


def test_exactly_two_good_leptons_means_the_others_do_not_count(write, tmp_path):
    def three_leptons(branches):
        size, three = len(branches["met_et"]), [3] * len(branches["met_et"])
        for name in list(branches):
            if name.startswith("lep_"):
                branches[name] = ak.unflatten(np.resize(ak.to_numpy(ak.flatten(branches[name])), 3 * size), three)
        bad = np.tile([0, 1, 0], size)  # the second of the three is not isolated
        pt = ak.to_numpy(ak.flatten(branches["lep_pt"]))
        branches["lep_ptcone30"] = ak.unflatten(np.float32(bad * pt), three)
        branches["lep_etcone20"] = ak.unflatten(np.float32(0 * pt), three)

    path = write(DATA, 50, change=three_leptons)
    assert atlas.convert([path], tmp_path / "events.h5").events == 50
    stored = uproot.open(path)["mini"]["lep_pt"].array()
    found = Events.from_file(tmp_path / "events.h5").read("features", ["lep1_pt", "lep2_pt"])
    expected = np.sort(ak.to_numpy(stored)[:, [0, 2]] / 1000, axis=1)[:, ::-1]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_isolation_is_required_of_tracks_and_of_calorimeter(write, tmp_path):
    def only_failing(name):
        def change(branches):
            good = ak.zeros_like(branches["lep_pt"])
            branches["lep_etcone20"] = branches["lep_ptcone30"] = good
            branches[name] = ak.values_astype(branches["lep_pt"] * 0.16, "float32")

        return change

    for name in ("lep_etcone20", "lep_ptcone30"):
        with pytest.raises(InputError, match=r"no events to write .*100 entries, 0 with exactly two good leptons"):
            atlas.convert([write(DATA, 100, change=only_failing(name))], tmp_path / f"{name}.h5")
        assert not (tmp_path / f"{name}.h5").exists()


def test_weights_follow_luminosity_and_scale_factors(write, tmp_path):
    path, branches = write(ZEE), made(300, 361106)
    factors = (*atlas.SCALE_FACTORS, "BTAG")
    atlas.convert([path], tmp_path / "more.h5", luminosity=36.1, scale_factors=factors)
    *_, expected = plainly(branches, ["mll"], luminosity=36.1, factors=factors)
    np.testing.assert_allclose(Events.from_file(tmp_path / "more.h5").weight, expected, rtol=1e-6)


def test_sum_of_weights_is_the_expected_number_of_events(write, tmp_path):
    # A sample whose every event is selected, all weights 1: sigma L events, however many were simulated.
    def unweighted(branches):
        size = len(branches["met_et"])
        for name in [name for name in branches if name.startswith("scaleFactor_")] + ["mcWeight"]:
            branches[name] = np.ones(size, "f4")
        branches["XSection"], branches["SumWeights"] = np.full(size, 2.5, "f4"), np.full(size, size, "f4")
        for name in list(branches):
            if name.startswith("lep_"):
                branches[name] = ak.from_regular(branches[name][:, [0, 0]])
        branches["lep_etcone20"] = branches["lep_ptcone30"] = ak.zeros_like(branches["lep_pt"])

    atlas.convert([write(ZEE, change=unweighted)], tmp_path / "events.h5")
    assert Events.from_file(tmp_path / "events.h5").weight.sum() == pytest.approx(2.5 * 10.064 * 1000, rel=1e-5)


# -- many files, any step, any number of workers ---------------------------------------------------------


@pytest.fixture
def several(write):
    return [write(name, size, seed=n) for n, (name, size) in enumerate([(TTBAR, 310), (ZPRIME, 120), (ZEE, 250)])]


def test_many_files_come_one_after_the_other_with_their_truth(several, tmp_path):
    atlas.convert(several, tmp_path / "events.h5")
    events = Events.from_file(tmp_path / "events.h5")
    assert events.about.label_names == {0: "background", 6: "Zprime_ee"}
    assert events.about.process_names == {0: "301215 ZPrime2000_ee", 1: "361106 Zee", 2: "410000 ttbar_lep"}
    start = 0
    for n, (dsid, size, process, label) in enumerate([(410000, 310, 2, 0), (301215, 120, 0, 6), (361106, 250, 1, 0)]):
        features, _, weight = plainly(made(size, dsid, seed=n), events.columns)
        stop = start + len(weight)
        assert_same(events.read("features")[start:stop], features, events.columns)
        np.testing.assert_allclose(events.weight[start:stop], weight, rtol=1e-6)
        assert (events.read("process")[start:stop] == process).all() and (events.label[start:stop] == label).all()
        start = stop
    assert start == len(events)


@pytest.mark.parametrize("step", [5, *(pytest.param(n, marks=pytest.mark.slow) for n in (37, 130)), 10_000])
def test_step_changes_nothing(step, several, write, tmp_path):
    sources = [write(DATA, 25, seed=9)] if step == 5 else several
    atlas.convert(sources, tmp_path / "whole.h5", step=10**6)
    atlas.convert(sources, tmp_path / "parts.h5", step=step)
    whole, parts = (contents(tmp_path / name) for name in ("whole.h5", "parts.h5"))
    assert len(whole) == (2 if step == 5 else 5) and len(whole["mass"]) > 3
    for name, values in whole.items():
        np.testing.assert_array_equal(parts[name], values, err_msg=name)


@pytest.mark.slow
def test_two_workers_write_the_same_file(several, tmp_path):
    atlas.convert(several, tmp_path / "one.h5", step=90)
    atlas.convert(several, tmp_path / "two.h5", step=90, workers=2)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_progress_counts_the_events_selected(several, tmp_path):
    seen = []
    outcome = atlas.convert(several, tmp_path / "events.h5", step=100, progress=lambda *call: seen.append(call))
    assert seen[-1] == (outcome.events, None) and len(seen) == 4 + 2 + 3


@pytest.mark.slow
def test_memory_is_that_of_a_step_not_of_the_file(write, tmp_path):
    small, large = write(DATA, 2000, piece=1000), write("data_B.2lep.root", 9000, piece=1000)
    atlas.convert([large], tmp_path / "warm.h5")  # imports, caches

    def peak(path, step):
        tracemalloc.start()
        try:
            atlas.convert([path], tmp_path / f"{path.stem}_{step}.h5", step=step)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(large, 1000) < 1.2 * peak(small, 1000) < peak(large, 9000) / 2


# -- signals and backgrounds -----------------------------------------------------------------------------


def test_signals_of_the_paper_are_labels_1_to_12():
    samples = [f"mc_{numbers[0]}.sample.2lep.root" for numbers in atlas_samples.SIGNALS.values()]
    truth, names = atlas_samples.truths([Sample.of(name) for name in samples])
    assert [known.label for known in truth] == list(range(1, 13))
    assert names[1] == "SUSYSlepSlep" and names[12] == "dmV_Zll"


def test_no_sample_is_in_two_categories():
    tables = [*atlas_samples.SIGNALS.values(), *atlas_samples.BACKGROUNDS.values()]
    numbers = [number for table in tables for number in table]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize(
    ("signal", "labels"),
    [
        ([410000, "ZPrime*"], [1, 2, 0]),
        (["Z*"], [0, 1, 1]),
        ({"tops": ["ttbar*"], "Zs": "*Z*"}, [1, 2, 2]),
        ("ZPrime2000_ee", [0, 1, 0]),
    ],
)
def test_signals_are_chosen_by_name_or_number(signal, labels):
    samples = [Sample.of(name) for name in (TTBAR, ZPRIME, ZEE)]
    truth, names = atlas_samples.truths(samples, signal)
    assert [known.label for known in truth] == labels
    assert set(names) == set(labels)


def test_one_file_need_not_be_in_a_list(write, tmp_path):
    assert (
        atlas.convert(write(DATA), tmp_path / "path.h5").events
        == atlas.convert(str(tmp_path / DATA), tmp_path / "text.h5").events
    )


def test_background_can_be_what_the_user_says(write, tmp_path):
    atlas.convert([write(ZPRIME), write(SLEPTON)], tmp_path / "events.h5", background=["ZPrime*"])
    assert Events.from_file(tmp_path / "events.h5").about.label_names == {0: "background", 1: "SUSYSlepSlep"}


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ([ZEE, "mc_999999.New.2lep.root"], {}, "999999 New is neither signal nor background"),
        ([ZEE, ZPRIME], {"signal": ["Zee"]}, "301215 ZPrime2000_ee is neither signal nor background"),
        ([ZEE, ZPRIME], {"signal": ["Zee", "Z*"]}, "361106 Zee is Zee and Z\\*, expected one"),
        ([ZEE, ZPRIME], {"signal": ["ZP*"], "background": ["Z*"]}, r"301215 ZPrime2000_ee is ZP\* and background"),
        ([ZEE, ZPRIME], {"signal": ["ZPrim2000_ee"]}, "no such sample.*did you mean 'ZPrime2000_ee'"),
        ([ZEE], {"signal": ["301215"]}, "signal '301215': no such sample among the files; there are 361106 Zee"),
        ([ZEE, "mc_364114.Zee_PTV0_70_CVetoBVeto.2lep.root"], {}, "361106 and 364114 both simulate Z -> ee"),
        ([ZEE, "mc_361106.Zee.3lep.root"], {}, "2 files of the sample 361106 Zee"),
        ([DATA, ZEE], {}, r"data and simulation \(data_A, 361106 Zee\).*only='data' or only='simulation'"),
        ([ZEE], {"only": "data"}, "none of 1 files is data"),
        ([], {}, "no files given"),
        ([ZEE], {"only": "mc"}, "only is 'mc', expected 'data' or 'simulation'"),
        ([ZEE], {"features": "14"}, "features is '14', expected '33' or '13'"),
        ([ZEE], {"luminosity": 0.0}, "luminosity is 0, expected a positive number"),
        ([ZEE], {"luminosity": float("nan")}, "luminosity is nan"),
        ([ZEE], {"step": 0}, "step is 0"),
        (["Zee.root"], {}, "Zee.root: its name does not tell which sample"),
        ([ZEE], {"workers": 0}, "workers is 0"),
    ],
)
def test_samples_and_options_that_make_no_sense_are_refused(files, options, message, write, tmp_path):
    sources = [write(name, 50) if "." in name and name != "Zee.root" else tmp_path / name for name in files]
    if options.get("workers") == 0:
        options = {**options, "step": 20}  # for a single chunk nobody is called
    with pytest.raises(InputError, match=message):
        atlas.convert(sources, tmp_path / "events.h5", **options)
    assert not (tmp_path / "events.h5").exists()


def test_only_one_kind_of_a_mixed_list_is_converted_on_request(write, tmp_path):
    sources = [write(DATA), write(ZEE), write("data_B.2lep.root", seed=3)]
    assert atlas.convert(sources, tmp_path / "mc.h5", only="simulation").counts["entries"] == 300
    assert atlas.convert(sources, tmp_path / "data.h5", only="data").counts["entries"] == 600
    assert Events.from_file(tmp_path / "mc.h5").has_labels
    assert not Events.from_file(tmp_path / "data.h5").has_labels


# -- bad files -------------------------------------------------------------------------------------------


def refused(path, tmp_path, message, **options):
    with pytest.raises(InputError, match=message) as error:
        atlas.convert([path], tmp_path / "events.h5", **options)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "events.h5").exists()


def test_missing_branches_are_all_named_with_what_is_near(write, tmp_path):
    def rename(branches):
        branches["lep_ptcone20"] = branches.pop("lep_ptcone30")
        branches["SumOfWeights"] = branches.pop("SumWeights")
        del branches["jet_MV2c10"]

    path = write(ZEE, change=rename)
    message = (
        r"no branch 'lep_ptcone30' \(near: 'lep_ptcone20'\), 'jet_MV2c10'.*, 'SumWeights' \(near: 'SumOfWeights'\)"
    )
    refused(path, tmp_path, message)
    assert "lep_ptcone30" in atlas.describe(path)["problem"]


def test_branches_of_weights_are_not_asked_of_data(write, tmp_path):
    refused(write(ZEE, change=lambda b: b.pop("scaleFactor_ELE")), tmp_path, "no branch 'scaleFactor_ELE'")
    assert "mcWeight" not in made(10)
    assert atlas.convert([write(DATA)], tmp_path / "data.h5").events


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("lep_eta", lambda b: b["met_et"], "'lep_eta' is float, expected numbers for each of an event's objects"),
        ("met_et", lambda b: b["lep_pt"], r"'met_et' is float\[\], expected one number for each event"),
        ("met_phi", lambda b: np.zeros((300, 2), "f4"), r"'met_phi' is float\[2\], expected one number"),
    ],
)
def test_branch_of_another_type_is_named(name, values, message, write, tmp_path):
    refused(write(DATA, change=lambda b: b.update({name: values(b)})), tmp_path, message)


def test_branch_of_text_is_no_branch_of_numbers(tmp_path):
    branches = made(50)
    del branches["met_phi"]
    with uproot.recreate(tmp_path / DATA) as file:
        file.mktree("mini", {key: type_of(values) for key, values in branches.items()} | {"met_phi": "string"})
        file["mini"].extend(branches | {"met_phi": ak.Array(["up"] * 50)})
    refused(tmp_path / DATA, tmp_path, "branch 'met_phi' is .*, expected one number for each event")


def set_first(name, value):
    """Return a change that gives the first number of a branch another value."""

    def change(branches):
        values = branches[name]
        if isinstance(values, ak.Array):
            flat, counts = np.array(ak.flatten(values)), ak.num(values)
            flat[0] = value
            branches[name] = ak.unflatten(flat, counts)
        else:
            branches[name] = np.array(values)
            branches[name][0] = value

    return change


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lep_pt", np.nan, "entries 0 to 99: lep_pt is NaN or infinite 1 times"),
        ("lep_etcone20", np.nan, "lep_etcone20 is NaN"),
        ("jet_pt", np.inf, "jet_pt is NaN or infinite"),
        ("met_phi", -np.inf, "met_phi is NaN or infinite"),
        ("mcWeight", np.nan, "mcWeight is NaN"),
        ("scaleFactor_PILEUP", np.nan, "scaleFactor_PILEUP is NaN"),
        ("lep_pt", -5e4, "lep_pt -50, expected a positive number"),
        ("lep_type", 15, "lep_type 15, expected 11 for electrons or 13 for muons"),
        ("XSection", 0, "XSection 0, expected a positive number"),
        ("SumWeights", -3, "SumWeights -3, expected a positive number"),
        ("channelNumber", 361107, "channelNumber 361107, its name says 361106"),
    ],
)
def test_values_that_cannot_be_are_named(name, value, message, write, tmp_path):
    refused(write(ZEE, change=set_first(name, value)), tmp_path, message, step=100)


@pytest.mark.parametrize("name", ["lep_phi", "lep_E", "lep_pt", "jet_MV2c10"])
@pytest.mark.parametrize("change", [lambda values: values[::-1], lambda values: values[:, 1:]], ids=["moved", "fewer"])
def test_objects_that_are_not_aligned_are_refused(name, change, write, tmp_path):
    def unalign(branches):
        branches[name] = change(branches[name])

    first = "jet_pt" if name == "jet_MV2c10" else "lep_type"
    refused(write(DATA, change=unalign), tmp_path, f"{name} has not as many numbers as {first}")


@pytest.mark.parametrize("name", ["lep_pt", "jet_pt", "met_et"])
def test_gev_in_place_of_mev_is_suspected(name, write, tmp_path):
    def to_gev(branches):
        branches[name] = branches[name] / np.float32(1000)

    refused(write(DATA, change=to_gev), tmp_path, f"{name} has a median of .*, expected MeV.*in GeV")


def test_energy_in_another_unit_than_momentum_is_suspected(write, tmp_path):
    path = write(DATA, change=lambda b: b.update(lep_E=b["lep_E"] / np.float32(1000)))
    refused(path, tmp_path, "lep_E is 0.001 times the momentum.*units mixed")


def test_file_without_the_tree_says_what_it_has(write, tmp_path):
    refused(
        write(DATA, tree="analysis"), tmp_path, "no tree 'mini', found analysis; expected a file of ATLAS Open Data"
    )
    with uproot.recreate(tmp_path / "data_B.2lep.root") as file:
        file["mini"] = np.histogram([1.0, 2.0])
    refused(tmp_path / "data_B.2lep.root", tmp_path, "no tree 'mini', found mini")
    with uproot.recreate(tmp_path / "data_C.2lep.root"):
        pass
    refused(tmp_path / "data_C.2lep.root", tmp_path, "no tree 'mini', found nothing")


def test_truncated_file_is_refused_wherever_it_ends(write, tmp_path):
    raw = write(DATA).read_bytes()
    for size in (5, 19, 100, 1000, len(raw) // 2, len(raw) - 1):
        (tmp_path / "data_B.2lep.root").write_bytes(raw[:size])
        refused(tmp_path / "data_B.2lep.root", tmp_path, f"truncated, {size} bytes of")


@pytest.mark.parametrize("tries", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_overwritten_bytes_never_end_in_a_stack_trace(tries, write, tmp_path):
    raw, rng = write(ZEE, 100).read_bytes(), np.random.default_rng(3)
    broken, refusals = tmp_path / TTBAR.replace("410000", "361106"), 0
    for number in range(tries):
        damaged = bytearray(raw)
        place = rng.integers(64, len(raw) - 64)
        damaged[place : place + 64] = rng.bytes(64)
        broken.write_bytes(damaged)
        try:
            atlas.convert([broken], tmp_path / f"{number}.h5")
        except InputError as error:
            refusals += 1
            assert str(broken) in str(error) and "\n" not in str(error)
            assert not (tmp_path / f"{number}.h5").exists()
    assert refusals > 0.3 * tries  # the rest hit branches that are not read, or what ROOT keeps twice


@pytest.mark.parametrize(
    ("text", "message"),
    [(b"", "not a ROOT file"), (b"\x89HDF\r\n\x1a\n" + bytes(100), "not a ROOT file"), (b"root", "truncated")],
)
def test_what_is_no_root_file_is_refused(text, message, tmp_path):
    (tmp_path / DATA).write_bytes(text)
    refused(tmp_path / DATA, tmp_path, message)
    assert atlas.recognises(tmp_path / DATA) == text.startswith(b"root")


def test_missing_file_and_folder_are_named(tmp_path):
    refused(tmp_path / DATA, tmp_path, "no such file")
    (tmp_path / ZEE).mkdir()
    refused(tmp_path / ZEE, tmp_path, "is a folder, expected a ROOT file")
    assert not atlas.recognises(tmp_path / ZEE) and not atlas.recognises(tmp_path / DATA)


def test_tree_without_entries_has_no_events(write, tmp_path):
    with pytest.raises(InputError, match="no events to write"):
        atlas.convert([write(DATA, 0)], tmp_path / "events.h5")


# -- describing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sample", "category"),
    [
        (DATA, "data_A", "data"),
        (ZEE, "361106 Zee", "background: Zjetsincl"),
        (SLEPTON, "392916 SlepSlep_direct_100p0_1p0_2L8", "signal: SUSYSlepSlep"),
        ("mc_900013.ZPrime2500_mumu.2lep.root", "900013 ZPrime2500_mumu", "signal: Zprime_mumu"),
        ("mc_999999.New.2lep.root", "999999 New", "simulation of an unknown kind"),
    ],
)
def test_description_says_what_a_file_is(name, sample, category, write):
    path = write(name, 70)
    found = atlas.describe(path)
    assert atlas.recognises(path)
    assert (found["events"], found["sample"], found["problem"]) == (70, sample, "none")
    assert found["category"].startswith(category)


def test_description_of_a_file_without_the_tree_is_refused(write):
    with pytest.raises(InputError, match="no tree 'mini'"):
        atlas.describe(write(DATA, tree="nominal"))
