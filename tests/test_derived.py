"""The jets of a pair told apart by mass while events are read: against plain NumPy, whatever the events are kept in."""

import subprocess
import sys

import numpy as np
import pytest

import pipelines
import zoo
from pipelines import Events, InputError
from pipelines.events.derived import SIDES, Reading, derivable, derive, sources
from pipelines.events.layout import match_columns
from pipelines.events.mixing import join

STORED = ("pt_1", "mass_1", "tau21_1", "met", "pt_2", "mass_2", "tau21_2")
PAIRED = ("pt", "mass", "tau21")


def jets(events=500, seed=0):
    """Made-up pairs of jets ordered by pt, as files are: of many, the second is the heavier one."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(1, 1000, (events, len(STORED))).astype("float32")
    at = {name: place for place, name in enumerate(STORED)}
    pt = np.sort(values[:, [at["pt_1"], at["pt_2"]]], axis=1)
    values[:, at["pt_1"]], values[:, at["pt_2"]] = pt[:, 1], pt[:, 0]
    return values


def made(values=None, columns=STORED, **more):
    values = jets() if values is None else values
    return Events.from_arrays(values, np.linspace(2000, 6000, len(values)), columns, **more)


def by_hand(values, variable, side, columns=STORED):
    """Event by event, a loop."""
    at = {name: place for place, name in enumerate(columns)}
    column = []
    for event in values:
        order = [1, 2] if event[at["mass_1"]] >= event[at["mass_2"]] else [2, 1]
        jet = order[0] if side == "heavy" else order[1]
        column.append(event[at[f"{variable}_{jet}"]])
    return np.array(column, np.float32)


# -- values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("variable", PAIRED)
def test_a_derived_column_is_that_of_the_heavier_or_lighter_jet_of_each_event(variable, side):
    values = jets()
    swapped = values[:, STORED.index("mass_2")] > values[:, STORED.index("mass_1")]
    assert 0.3 < swapped.mean() < 0.7
    found = made(values).read("features", [f"{variable}_{side}"])
    assert found.shape == (500, 1) and found.dtype == np.float32
    np.testing.assert_array_equal(found[:, 0], by_hand(values, variable, side))


def test_difference_of_masses_does_not_depend_on_the_order_of_jets():
    values = jets()
    swapped = values.copy()
    for variable in PAIRED:
        one, other = STORED.index(f"{variable}_1"), STORED.index(f"{variable}_2")
        swapped[:, [one, other]] = swapped[:, [other, one]]
    heavy, light = by_hand(values, "mass", "heavy"), by_hand(values, "mass", "light")
    for each in (values, swapped):
        np.testing.assert_array_equal(made(each).read("features", ["mass_difference"])[:, 0], heavy - light)


def test_heavy_and_light_masses_are_the_larger_and_the_smaller():
    values, masses = jets(), [STORED.index("mass_1"), STORED.index("mass_2")]
    found = made(values).read("features", ["mass_light", "mass_heavy"])
    np.testing.assert_array_equal(found, np.sort(values[:, masses], axis=1))


def test_nothing_depends_on_the_order_in_which_the_jets_are_stored():
    values = jets()
    wanted = [f"{variable}_{side}" for side in SIDES for variable in PAIRED]
    by_pt = made(values).read("features", wanted)
    light_first, heavy_first = values.copy(), values.copy()
    for variable in PAIRED:
        both = [STORED.index(f"{variable}_1"), STORED.index(f"{variable}_2")]
        heavy, light = by_hand(values, variable, "heavy"), by_hand(values, variable, "light")
        heavy_first[:, both], light_first[:, both] = np.stack([heavy, light], 1), np.stack([light, heavy], 1)
    np.testing.assert_array_equal(made(heavy_first).read("features", wanted), by_pt)
    np.testing.assert_array_equal(made(light_first).read("features", wanted), by_pt)


def test_of_two_equal_masses_the_first_jet_is_the_heavier_and_none_is_taken_twice():
    values = jets(6)
    for place in ("mass_1", "mass_2"):
        values[:, STORED.index(place)] = 80.0
    found = made(values).read("features", ["pt_heavy", "pt_light"])
    np.testing.assert_array_equal(found, values[:, [STORED.index("pt_1"), STORED.index("pt_2")]])


@pytest.mark.parametrize("mass_1, mass_2", [(0.0, 0.0), (-1.0, 0.0), (0.0, 1e-38), (3e38, 1.0), (1.0, 1.0000001)])
def test_extreme_masses_are_compared_as_they_are(mass_1, mass_2):
    values = np.array([[10.0, 20.0, mass_1, mass_2]], np.float32)
    heavy, light = (derive(f"pt_{side}", values)[0] for side in SIDES)
    assert (heavy, light) == ((20.0, 10.0) if np.float32(mass_2) > np.float32(mass_1) else (10.0, 20.0))


def test_sources_are_both_jets_and_both_masses():
    assert sources("tau21_heavy") == ("tau21_1", "tau21_2", "mass_1", "mass_2")
    assert sources("nested_name_light") == ("nested_name_1", "nested_name_2", "mass_1", "mass_2")


# -- which columns can be asked for ---------------------------------------------------------------------


def test_every_variable_of_both_jets_can_be_derived_and_no_other():
    names = [f"{variable}_{side}" for side in SIDES for variable in PAIRED]
    assert derivable(STORED) == (*names, "mass_difference")
    assert derivable(["mass_1", "mass_2", "tau21_1", "pt_2", "met"]) == (
        "mass_heavy",
        "mass_light",
        "mass_difference",
    )
    assert derivable(["mass_1", "pt_1", "pt_2"]) == derivable(["pt_1", "pt_2"]) == derivable([]) == ()


def test_a_pattern_that_matches_nothing_stored_matches_what_can_be_derived():
    assert match_columns(["*_heavy"], STORED) == ("pt_heavy", "mass_heavy", "tau21_heavy")
    assert match_columns(["tau21_light", "met", "mass_h*"], STORED) == ("tau21_light", "met", "mass_heavy")
    assert match_columns(["*_heavy", "*_light"], STORED)[3:] == ("pt_light", "mass_light", "tau21_light")


def test_patterns_that_match_stored_columns_do_not_mean_derived_ones():
    assert match_columns(["*"], STORED) == STORED
    assert match_columns(["mass_*"], STORED) == ("mass_1", "mass_2")
    assert match_columns(["*t*"], STORED) == ("pt_1", "tau21_1", "met", "pt_2", "tau21_2")
    assert made().columns == STORED


def test_patterns_take_derived_columns_away_too():
    assert match_columns(["*_heavy", "!pt_heavy"], STORED) == ("mass_heavy", "tau21_heavy")
    assert match_columns(["*_heavy", "*_light", "!*_light"], STORED) == ("pt_heavy", "mass_heavy", "tau21_heavy")
    assert match_columns(["*", "!*_light"], STORED) == STORED


def test_a_pattern_that_takes_away_does_so_whether_columns_are_stored_or_derived():
    assert match_columns(["*_heavy", "!tau*"], STORED) == ("pt_heavy", "mass_heavy")
    assert match_columns(["*_heavy", "met", "pt_1", "!pt*"], STORED) == ("mass_heavy", "tau21_heavy", "met")


def test_a_pattern_that_matches_neither_is_named():
    with pytest.raises(InputError, match=r"no column 'eta_heavy', '\*_middle'; it has pt_1, mass_1"):
        match_columns(["eta_heavy", "mass_heavy", "*_middle"], STORED)
    with pytest.raises(
        InputError, match="'!eta_heavy' leaves nothing out: no column is 'eta_heavy'; it has pt_1, mass_1"
    ):
        match_columns(["*", "!eta_heavy"], STORED)
    with pytest.raises(InputError, match="leave nothing"):
        match_columns(["*_heavy", "!*_heavy"], STORED)


@pytest.mark.parametrize("gone, lost", [("tau21_2", "tau21_heavy"), ("tau21_1", "tau21_heavy"), ("mass_2", "pt_heavy")])
def test_a_column_that_lacks_a_partner_is_named_with_what_there_is(gone, lost):
    kept = [place for place, name in enumerate(STORED) if name != gone]
    columns = [STORED[place] for place in kept]
    events = made(jets()[:, kept], columns)
    with pytest.raises(InputError, match=f"arrays in memory: no column '{lost}'; it has {', '.join(columns)}"):
        events.read("features", ["pt_1", lost])
    with pytest.raises(InputError, match=f"no column '{lost}'"):
        match_columns([lost], columns)


def test_all_that_is_missing_is_named_at_once():
    with pytest.raises(InputError, match="no column 'eta_heavy', 'phi_1'; it has"):
        made().read("features", ["eta_heavy", "pt_heavy", "phi_1"])
    assert Reading(["eta_heavy", "pt_1"], STORED).missing == ["eta_heavy"]


def test_a_stored_column_of_that_name_wins():
    values = np.column_stack([jets(), np.arange(500)])
    events = made(values, (*STORED, "mass_heavy"))
    np.testing.assert_array_equal(events.read("features", ["mass_heavy"])[:, 0], np.arange(500))
    assert "mass_heavy" not in derivable(events.columns) and "mass_light" in derivable(events.columns)
    assert match_columns(["*_heavy"], events.columns) == ("mass_heavy",)
    found = events.read("features", ["mass_heavy", "mass_light", "pt_heavy"])
    np.testing.assert_array_equal(found[:, 0], np.arange(500))
    np.testing.assert_array_equal(found[:, 2], by_hand(jets(), "pt", "heavy"))  # by the masses, not by that column


# -- reading -------------------------------------------------------------------------------------------------


def expected(values, columns):
    """Columns, stored or derived, by hand."""
    parts = [
        values[:, STORED.index(name)] if name in STORED else by_hand(values, *name.rsplit("_", 1)) for name in columns
    ]
    return np.stack(parts, axis=1)


ASKED = [
    ["mass_heavy"],
    ["tau21_light", "met", "mass_1", "pt_heavy", "mass_light"],
    ["mass_2", "mass_1"],
    ["mass_2", "mass_heavy", "mass_1"],
    ["pt_heavy", "pt_heavy"],
    list(reversed(STORED)),
]


@pytest.fixture
def kept(tmp_path, request):
    """The same events in memory, in a file, in several files as one."""
    values, events = jets(), made()
    if request.param == "memory":
        return values, events
    if request.param == "file":
        events.write(tmp_path / "events.h5")
        return values, pipelines.open(tmp_path / "events.h5")
    backwards = Events.from_arrays(values[200:, ::-1], made().mass[200:], STORED[::-1])  # other files, other orders
    made(values).take(np.arange(200)).write(tmp_path / "first.h5")
    backwards.write(tmp_path / "second.h5")
    return values, join([pipelines.open(tmp_path / "first.h5"), pipelines.open(tmp_path / "second.h5")])


everywhere = pytest.mark.parametrize("kept", ["memory", "file", "files"], indirect=True)


@everywhere
@pytest.mark.parametrize("columns", ASKED, ids=" ".join)
def test_stored_and_derived_columns_come_in_the_order_asked_for(kept, columns):
    values, events = kept
    np.testing.assert_array_equal(events.read("features", columns), expected(values, columns))


@everywhere
def test_selections_and_blocks_and_rows_give_the_same_events(kept):
    values, events = kept
    columns = ["tau21_light", "met", "mass_heavy"]
    whole = expected(values, columns)
    rows = np.random.default_rng(1).permutation(500)[:77]
    np.testing.assert_array_equal(events.take(rows).read("features", columns), whole[np.sort(rows)])
    heavy = whole[:, 2] > 500  # chosen by a derived column, as an analysis would
    np.testing.assert_array_equal(events.take(heavy).read("features", columns), whole[heavy])
    low = events.select(mass_range=(2500, 3000))
    inside = (events.mass >= 2500) & (events.mass < 3000)
    np.testing.assert_array_equal(low.read("features", columns), whole[inside])
    blocks = list(events.blocks("features", "mass", columns=columns, size=64))
    assert max(len(block["mass"]) for block in blocks) <= 64
    np.testing.assert_array_equal(np.concatenate([block["features"] for block in blocks]), whole)
    pieces = [(300, 310), (0, 5), (499, 500)]
    picked = [block["features"] for block in events.blocks("features", columns=columns, rows=pieces)]
    np.testing.assert_array_equal(np.concatenate(picked), np.concatenate([whole[a:b] for a, b in pieces]))


def test_no_events_have_no_values_of_as_many_columns():
    assert made().take(np.zeros(0, int)).read("features", ["mass_heavy", "met"]).shape == (0, 2)


def test_only_what_is_needed_is_taken_from_what_is_read():
    reading = Reading(["met", "pt_heavy", "pt_light"], STORED)
    assert reading.names == ("met", "pt_1", "pt_2", "mass_1", "mass_2")
    assert [STORED[place] for place in reading.take] == list(reading.names)
    values = jets()
    np.testing.assert_array_equal(reading(values[:, reading.take]), expected(values, ["met", "pt_heavy", "pt_light"]))
    plain = Reading(["mass_2", "met"], STORED)
    taken = values[:, plain.take]
    assert plain(taken) is taken  # nothing is copied where nothing is derived


def test_a_value_that_is_no_number_is_named_by_the_column_that_has_it():
    values = jets()
    for broken in ("tau21_2", "mass_1"):
        wrong = values.copy()
        wrong[[3, 9], STORED.index(broken)] = np.nan, np.inf
        with pytest.raises(InputError, match=rf"NaN or infinite values \(column, count\): '{broken}' 2;"):
            made(wrong).read("features", ["met", "tau21_heavy"])
        assert np.isfinite(made(wrong).read("features", ["met", "pt_1"])).all()  # what is not read is not looked at


def test_a_model_is_trained_and_scored_on_derived_columns_as_on_stored_ones():
    values, options = jets(), {"encoder_units": (2,), "batch_size": 100, "epochs": 2}
    columns = ["mass_heavy", "tau21_heavy", "mass_light", "tau21_light"]
    events, stored = made(values), made(expected(values, columns), columns)
    scores = []
    for sample in (events, stored):
        model = zoo.get("ae", columns=columns, **options)
        model.fit(sample, verbose=0, jit_compile=False)
        assert model.resolved_columns == tuple(columns)
        scores += [model.score(events), model.score(stored), model.score(expected(values, columns))]
    for score in scores[1:]:
        np.testing.assert_array_equal(score, scores[0])


def test_a_model_that_needs_a_missing_partner_names_it():
    kept = [place for place, name in enumerate(STORED) if name != "tau21_2"]
    events = made(jets()[:, kept], [STORED[place] for place in kept])
    with pytest.raises(InputError, match="no column 'tau21_heavy'"):
        zoo.get("ae", columns=["mass_heavy", "tau21_heavy"], encoder_units=(1,), batch_size=100).fit(events, verbose=0)


def test_the_embedded_events_have_the_inputs_of_the_bump_hunting_vae():
    events = pipelines.open("lhco_sim_test").sample(300)
    columns = match_columns(zoo.get("vae").get_config()["columns"], events.columns)
    assert columns == ("mass_heavy", "tau21_heavy", "tau32_heavy", "mass_light", "tau21_light", "tau32_light")
    raw = {name: events.read("features", [name])[:, 0] for name in events.columns}
    swapped = raw["mass_2"] > raw["mass_1"]
    assert 0.2 < swapped.mean() < 0.8
    found = events.read("features", columns)
    assert (found[:, 0] >= found[:, 3]).all()
    for place, column in enumerate(columns):
        variable, side = column.split("_")
        first, second = raw[f"{variable}_1"], raw[f"{variable}_2"]
        own = np.where(swapped, second, first) if side == "heavy" else np.where(swapped, first, second)
        np.testing.assert_array_equal(found[:, place], own)


def test_importing_it_brings_numpy_alone():
    code = "import sys, pipelines.events.derived; print([m for m in ('tensorflow', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
