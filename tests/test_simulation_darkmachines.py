"""Dark Machines-like samples: their lines, channels, weights and physics. 40 s on one core."""

import gzip
import math
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("pythia8mc")

from pipelines.errors import InputError
from pipelines.simulation import KINDS, darkmachines, objects, processes, pythia, simulate

FIELDS = {"j": 2.8, "b": 2.5, "e-": 2.5, "e+": 2.5, "m-": 2.7, "m+": 2.7, "g": 2.37}  # the largest |eta|
LEAST = {"j": 20, "b": 20, "e-": 15, "e+": 15, "m-": 15, "m+": 15, "g": 20}  # GeV


def parse(path):
    """The events of a file as the challenge describes it: dicts, in GeV."""
    events = []
    for line in path.read_text().splitlines():
        number, process, weight, met, phi, *found = line.split(";")
        seen = []
        for text in found:
            name, *values = text.split(",")
            energy, pt, eta, azimuth = map(float, values)
            seen.append((name, energy / 1000, pt / 1000, eta, azimuth))
        head = {"id": int(number), "process": process, "weight": float(weight)}
        events.append({**head, "met": float(met) / 1000, "phi": float(phi), "objects": seen})
    return events


def ht(event):
    return sum(pt for name, _, pt, _, _ in event["objects"] if name in "jb")


def leptons(event):
    return [found for found in event["objects"] if found[0][0] in "em"]


def sample(tmp_path_factory, kind, **options):
    out = tmp_path_factory.mktemp("darkmachines") / "events.csv"
    outcome = simulate(kind, out, **options)
    assert outcome.events == options["events"]
    return out, outcome


@pytest.fixture(scope="module")
def gluinos(tmp_path_factory):
    return sample(tmp_path_factory, "darkmachines_signal", events=60, channel="1")


@pytest.fixture(scope="module")
def tops(tmp_path_factory):
    return sample(tmp_path_factory, "darkmachines_background", events=40, channel="2b", process="ttbar")


@pytest.fixture(scope="module")
def dileptons(tmp_path_factory):
    options = {"process": "zprime_ll", "m_zprime": 1000, "channel": "none"}
    return sample(tmp_path_factory, "darkmachines_signal", events=150, **options)


# -- lines ---------------------------------------------------------------------------------------------------


def test_lines_hold_objects_of_the_challenge_in_its_units_and_order(gluinos, tops):
    kinds = Counter()
    for path, _ in (gluinos, tops):
        events = parse(path)
        assert [event["id"] for event in events] == list(range(len(events)))
        for event in events:
            names = [name for name, *_ in event["objects"]]
            kinds.update(names)
            assert names == sorted(names, key=lambda name: "jbemg".index(name[0]) or 1)
            for name, energy, pt, eta, phi in event["objects"]:
                assert pt > LEAST[name] * (1 - 1e-5) and abs(eta) < FIELDS[name] * (1 + 1e-5)
                assert abs(phi) <= math.pi + 1e-5 and energy > pt * math.cosh(eta) * (1 - 1e-4)
            jets = [found[2] for found in event["objects"] if found[0] in "jb"]
            assert jets == sorted(jets, reverse=True)
            assert event["weight"] > 0 and abs(event["phi"]) <= math.pi + 1e-5
    assert set(kinds) >= {"j", "b", "e-", "e+", "m-", "m+"}


def test_channel_1_holds_for_every_line(gluinos):
    for event in parse(gluinos[0]):
        assert ht(event) >= 600 * (1 - 1e-5) and event["met"] >= 200 * (1 - 1e-5)
        assert event["met"] / ht(event) >= 0.2 * (1 - 1e-5)
        jets = [pt for name, _, pt, _, _ in event["objects"] if name in "jb"]
        assert sum(pt > 50 * (1 - 1e-5) for pt in jets) >= 4 and max(jets) > 200 * (1 - 1e-5)


def test_channel_2b_holds_for_every_line(tops):
    for event in parse(tops[0]):
        assert event["met"] >= 50 * (1 - 1e-5) and ht(event) >= 50 * (1 - 1e-5)
        assert len(leptons(event)) >= 2


def test_gz_holds_the_same_lines_and_is_always_the_same_file(dileptons, tmp_path):
    options = {"events": 150, "channel": "none", "process": "zprime_ll", "m_zprime": 1000}
    for name in ("one.csv.gz", "two.csv.gz"):
        simulate("darkmachines_signal", tmp_path / name, **options)
        assert gzip.decompress((tmp_path / name).read_bytes()) == dileptons[0].read_bytes()
    assert (tmp_path / "one.csv.gz").read_bytes() == (tmp_path / "two.csv.gz").read_bytes()


# -- physics -------------------------------------------------------------------------------------------------


def test_zprime_peaks_at_its_mass(dileptons):
    masses = []
    for event in parse(dileptons[0]):
        for letter in "em":
            pair = [found for found in event["objects"] if found[0] in (f"{letter}-", f"{letter}+")]
            if len(pair) == 2:
                (_, _, pt_1, eta_1, phi_1), (_, _, pt_2, eta_2, phi_2) = pair
                masses.append(math.sqrt(2 * pt_1 * pt_2 * (math.cosh(eta_1 - eta_2) - math.cos(phi_1 - phi_2))))
    assert len(masses) > 40
    assert np.median(masses) == pytest.approx(1000, rel=0.03)


def test_gluinos_are_harder_than_tops_without_any_selection():
    def m_eff(record, rng):
        event = objects.reconstruct(record, rng, darkmachines.ACCEPTANCE)
        return {"m_eff": event.jets.sum(event.jets.pt, len(event.met)) + event.met}

    tops = next(process for process in darkmachines.BACKGROUNDS["2b"] if process.name == "ttbar")
    gluinos = darkmachines._gluino(1600.0, 800.0, 0.0)
    hard, soft = (processes.generate(process, 1, 100, m_eff)[0]["m_eff"] for process in (gluinos, tops))
    assert np.median(hard) > 1000 > 3 * np.median(soft)


def test_gluinos_to_tops_have_more_b_jets(gluinos, tmp_path):
    simulate("darkmachines_signal", tmp_path / "tops.csv", events=40, top_share=1.0)
    count = [
        np.mean([sum(found[0] == "b" for found in event["objects"]) for event in parse(path)])
        for path in (gluinos[0], tmp_path / "tops.csv")
    ]
    assert count[0] < 0.5 < 1.3 < count[1]


def test_lighter_gluinos_are_made_more_often():
    heavy, light = (processes.cross_section(darkmachines._gluino(m, 800.0, 0.0)) for m in (1600.0, 1000.0))
    assert 20 < light / heavy < 100  # 40 at NLO+NLL (C. Borschensky et al., arXiv 1407.5066)
    assert 0.002 < heavy < 0.010  # 0.0081 pb there; leading order is about half


# -- weights -------------------------------------------------------------------------------------------------


def test_weights_add_up_to_the_events_of_the_luminosity(gluinos, dileptons):
    for path, outcome in (gluinos, dileptons):
        name = parse(path)[0]["process"]
        process = {
            "glgl1600_neutralino800": darkmachines._gluino(1600.0, 800.0, 0.0),
            "Zp1000_ll": darkmachines._signal({"process": "zprime_ll", "m_zprime": 1000.0}),
        }[name]
        share = outcome.counts[f"{name} accepted"] / outcome.counts[f"{name} generated"]
        expected = 10_000 * processes.cross_section(process) * share
        assert sum(event["weight"] for event in parse(path)) == pytest.approx(expected, rel=1e-5)
    assert share == 1


def test_cross_section_is_that_of_the_showered_events():
    process = darkmachines.BACKGROUNDS["2b"][2]
    engine = pythia.generator(process.settings, seed=3)
    engine.nextBatch(800)
    assert processes.cross_section(process) == pytest.approx(engine.infoPython().sigmaGen() * 1e9, rel=0.1)


def test_shares_are_in_proportion_and_add_up():
    assert processes.shares(7, [1, 1, 1]) == [3, 2, 2]
    counts = processes.shares(1000, [8.0, 1.0, 0.003])
    assert sum(counts) == 1000 and counts[0] == pytest.approx(889, abs=1) and counts[2] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("channel", "events"), [("1", 120), ("2b", 400)])
def test_mixture_by_cross_section_has_almost_equal_weights(channel, events, tmp_path):
    simulate("darkmachines_background", tmp_path / "mixture.csv", events=events, channel=channel, workers=4)
    events = parse(tmp_path / "mixture.csv")
    counts = Counter(event["process"] for event in events)
    weight = {event["process"]: event["weight"] for event in events}
    common = [weight[name] for name, count in counts.items() if count >= 20]
    assert len(common) >= 2 and max(common) < 2 * min(common)  # 20 events are known to a quarter


# -- jobs ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sample_does_not_depend_on_the_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(pythia, "BLOCK", 6)
    quick = tuple(process for process in darkmachines.BACKGROUNDS["2b"] if process.name in ("ttbar", "zz"))
    monkeypatch.setitem(darkmachines.BACKGROUNDS, "2b", quick)
    options = {"events": 20, "channel": "2b", "mixture": "equal", "seed": 5}
    one = simulate("darkmachines_background", tmp_path / "one.csv", workers=1, **options)
    two = simulate("darkmachines_background", tmp_path / "two.csv", workers=2, **options)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    assert one == two
    names = [event["process"] for event in parse(tmp_path / "one.csv")]
    assert Counter(names) == {"ttbar": 10, "zz": 10} and names != sorted(names)
    lines = [line.split(b";", 3)[-1] for line in (tmp_path / "one.csv").read_bytes().splitlines()]
    assert len(set(lines)) == 20  # no block repeats another one


def test_other_seeds_give_other_events(dileptons, tmp_path):
    options = {"process": "zprime_ll", "m_zprime": 1000, "channel": "none"}
    simulate("darkmachines_signal", tmp_path / "same.csv", events=20, **options)
    simulate("darkmachines_signal", tmp_path / "other.csv", events=20, seed=1, **options)
    same, other, first = (
        [(event["met"], event["objects"]) for event in parse(path)][:20]
        for path in (tmp_path / "same.csv", tmp_path / "other.csv", dileptons[0])
    )
    assert same == first
    assert not {met for met, _ in same} & {met for met, _ in other}


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        ("darkmachines_background", {"channel": "3"}, "channel is '3'"),
        ("darkmachines_background", {"process": "zz_jets"}, "process is 'zz_jets'"),
        ("darkmachines_background", {"channel": "2b", "process": "njets"}, "expected one of channel 2b: ttbar, z_jets"),
        ("darkmachines_signal", {"m_gluino": 100}, "m_gluino is 100"),
        ("darkmachines_signal", {"m_neutralino": 1595}, "expected at most 1590 GeV"),
        ("darkmachines_signal", {"m_neutralino": 1300, "top_share": 0.5}, "try top_share=0"),
        ("darkmachines_signal", {"top_share": 1.5}, "top_share is 1.5"),
        ("darkmachines_signal", {"m_zprime": "heavy"}, "m_zprime is heavy"),
    ],
)
def test_bad_options_are_named_before_anything_is_written(kind, options, named, tmp_path):
    with pytest.raises(InputError, match=named) as error:
        simulate(kind, tmp_path / "out.csv", events=5, **options)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_selection_that_nothing_passes_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 100)
    with pytest.raises(InputError, match="Zp400_ll: none of 100 generated events passes the selection"):
        simulate("darkmachines_signal", tmp_path / "out.csv", events=5, process="zprime_ll", m_zprime=400)
    assert not list(tmp_path.iterdir())


def test_every_process_of_every_channel_is_accepted_by_pythia():
    for mixture in darkmachines.BACKGROUNDS.values():
        for process in mixture:
            assert pythia.generator([*process.settings, "PartonLevel:all = off"], seed=1).next()
    assert {"darkmachines_background", "darkmachines_signal"} <= set(KINDS)
