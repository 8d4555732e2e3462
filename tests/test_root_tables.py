"""TTrees as tables: branches of one number, elements of lists by their index, and what is no tree of that kind."""

import awkward as ak
import numpy as np
import pytest
import uproot

from pipelines import Events, InputError
from pipelines.datasets.table import convert, describe, recognises

N = 50


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A tree as NanoAOD has them, with 0 to 3 jets an event, and another."""
    rng = np.random.default_rng(1)
    jets = rng.integers(0, 4, N)
    pt = ak.unflatten(rng.uniform(20, 200, jets.sum()), jets)
    path = tmp_path_factory.mktemp("root") / "nano.root"
    with uproot.recreate(path) as file:
        branches = {
            "mjj": rng.uniform(1000, 2000, N),
            "met": rng.exponential(50, N).astype("f4"),
            "genWeight": rng.choice([-1.0, 1.0], N, p=[0.1, 0.9]),
            "isSignal": rng.integers(0, 2, N),
            "event": np.arange(N),
            "Jet_pt": pt,
            "Jet_eta": ak.unflatten(rng.normal(size=jets.sum()), jets),
        }
        file.mktree("Events", {name: ak.type(ak.Array(values)).content for name, values in branches.items()})
        file["Events"].extend(branches)
        file.mktree("Runs", {"run": "i8"})
        file["Runs"].extend({"run": np.arange(3)})
    return path


def branch(path, name):
    with uproot.open(path) as file:
        return file["Events"][name].array()


def test_numbers_and_elements_of_lists_are_those_of_uproot(path, tmp_path):
    features = ["met", "Jet_*[0]", "Jet_pt[2]"]
    done = convert(path, tmp_path / "e.h5", mass="mjj", weight="genWeight", tree="Events", features=features, fill=0.0)
    events = Events.from_file(tmp_path / "e.h5")
    assert events.columns == ("met", "Jet_pt[0]", "Jet_eta[0]", "Jet_pt[2]") and done.events == N
    pt = branch(path, "Jet_pt")
    for column, at in (("Jet_pt[0]", 0), ("Jet_pt[2]", 2)):
        expected = [one[at] if len(one) > at else 0.0 for one in pt.to_list()]
        np.testing.assert_allclose(events.read("features", [column])[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(events.mass, branch(path, "mjj"), rtol=1e-6)
    np.testing.assert_array_equal(events.weight, branch(path, "genWeight"))


def test_a_pattern_takes_no_truth_weight_or_event_number_and_all_is_told(path, tmp_path):
    done = convert(path, tmp_path / "e.h5", mass="mjj", tree="Events")
    told = done.columns
    assert told["mass"] == ("mjj",) and "met" in told["features"]
    assert not {"isSignal", "genWeight", "event"} & set(told["features"])
    assert {"isSignal (truth by its name)", "event (bookkeeping by its name)"} <= set(told["left out"])


def test_an_element_that_some_events_lack_is_missing_unless_it_is_filled(path, tmp_path):
    with pytest.raises(InputError, match=r"empty values.*'Jet_pt\[2\]'"):
        convert(path, tmp_path / "e.h5", mass="mjj", tree="Events", features=["Jet_pt[2]"])
    done = convert(path, tmp_path / "e.h5", mass="mjj", tree="Events", features=["Jet_pt[2]"], on_error="skip")
    assert done.events == int(ak.sum(ak.num(branch(path, "Jet_pt")) > 2))


def test_several_trees_want_a_name(path, tmp_path):
    with pytest.raises(InputError, match=r"several trees; name one as tree, of Events \(50\), Runs \(3\)"):
        convert(path, tmp_path / "e.h5", mass="mjj")
    with pytest.raises(InputError, match="no tree 'Nothing'; it has Events, Runs"):
        convert(path, tmp_path / "e.h5", mass="mjj", tree="Nothing")
    assert recognises(path) and describe(path)["trees"] == {"Events": 50, "Runs": 3}


def test_a_truncated_file_and_one_of_text_are_told(path, tmp_path):
    (tmp_path / "cut.root").write_bytes(path.read_bytes()[:-200])
    (tmp_path / "text.root").write_text("no ROOT file at all, but text\n")
    for name, reason in (("cut.root", "truncated"), ("text.root", "not a ROOT file")):
        with pytest.raises(InputError, match=reason):
            convert(tmp_path / name, tmp_path / "e.h5", mass="mjj", tree="Events")


@pytest.mark.parametrize("name", ["Jet_pt", "Jet_pt*", "Jet_*"])
def test_a_list_that_is_asked_for_as_a_column_is_told_with_one_of_its_elements(name, path, tmp_path):
    with pytest.raises(InputError, match=r"no column 'Jet_.*' for the features; it is a list .*, as 'Jet_pt\[0\]'"):
        convert(path, tmp_path / "e.h5", mass="mjj", tree="Events", features=[name])
    with pytest.raises(InputError, match=r"for the mass; it is a list .*, as 'Jet_pt\[0\]'"):
        convert(path, tmp_path / "e.h5", mass=name, tree="Events", features=["met"])


def test_a_wrong_name_is_near_an_element_of_a_list(path, tmp_path):
    with pytest.raises(InputError, match=r"did you mean .*'Jet_pt\[0\]'"):
        convert(path, tmp_path / "e.h5", mass="mjj", tree="Events", features=["jet_pt"])
