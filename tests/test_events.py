"""Events: what is written is read back, lazily, selected exactly, and refused in one line when it is wrong."""

import json
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

import pipelines
from pipelines import Events, EventsWriter, InputError
from pipelines.datasets import catalog
from pipelines.datasets.find import find
from pipelines.events.events import BLOCK
from pipelines.events.layout import as_text, match_columns

COLUMNS = ("pt_1", "mass_1", "pt_2")
SIZE = 500


@pytest.fixture
def arrays():
    rng = np.random.default_rng(1)
    return {
        "features": rng.normal(size=(SIZE, 3)).astype(np.float32),
        "mass": rng.uniform(2700, 7000, SIZE).astype(np.float32),
        "weight": rng.uniform(0.5, 2, SIZE).astype(np.float32),
        "label": rng.choice(np.array([0, 0, 0, 1, 2], np.int8), SIZE),
    }


@pytest.fixture
def about():
    return {
        "units": ("GeV", "GeV", "GeV"),
        "mass_column": "mass_1",
        "dataset": "lhco",
        "label_names": {0: "background", 1: "two-prong", 2: "three-prong"},
        "source": "Pythia 8, Z' → XY",
        "license": "CC0 1.0",
        "citation": "nobody",
    }


@pytest.fixture
def path(tmp_path, arrays, about):
    with EventsWriter(tmp_path / "events.h5", COLUMNS, **about) as writer:
        writer.append(**arrays)
    return tmp_path / "events.h5"


@pytest.fixture
def poisoned(monkeypatch):
    """Make the named datasets unreadable, in files."""

    def poison(*names):
        read = h5py.Dataset.__getitem__

        def refuse(self, *arguments, **options):
            assert self.name.strip("/") not in names, f"{self.name} was read"
            return read(self, *arguments, **options)

        monkeypatch.setattr(h5py.Dataset, "__getitem__", refuse)

    return poison


def says(error, *words):
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message, message


def same(events, arrays, rows=slice(None)):
    for field, values in arrays.items():
        np.testing.assert_array_equal(events.read(field), values[rows])


# -- round trip ---------------------------------------------------------------------------------------------


def test_file_gives_back_what_was_written(path, arrays, about):
    events = Events.from_file(path)
    same(events, arrays)
    assert len(events) == SIZE and events.seams == (0, SIZE) and events.columns == COLUMNS
    assert {name: getattr(events.about, name) for name in about} == about
    assert {name: events.read(name).dtype for name in arrays} == {
        "features": np.float32,
        "mass": np.float32,
        "weight": np.float32,
        "label": np.int8,
    }


@pytest.mark.parametrize("sizes", [[SIZE], [1, 299, 200], [0, SIZE, 0]])
def test_blocks_of_any_size_make_the_same_file(sizes, tmp_path, arrays):
    with EventsWriter(tmp_path / "events.h5", COLUMNS) as writer:
        start = 0
        for size in sizes:
            writer.append(**{k: v[start : start + size] for k, v in arrays.items()})
            start += size
    same(Events.from_file(tmp_path / "events.h5"), arrays)


def test_rewritten_selection_is_the_selection(path, arrays, about, tmp_path):
    kept = Events.from_file(path).select(mass_range=(3000, 5000), label=1)
    kept.write(tmp_path / "kept.h5")
    rows = (arrays["mass"] >= 3000) & (arrays["mass"] < 5000) & (arrays["label"] == 1)
    again = Events.from_file(tmp_path / "kept.h5")
    assert 0 < len(again) < SIZE
    same(again, arrays, rows)
    assert again.about.source == about["source"] and again.about.label_names == about["label_names"]


def test_no_events_are_written_and_read_back(tmp_path):
    with EventsWriter(tmp_path / "none.h5", COLUMNS):
        pass
    events = Events.from_file(tmp_path / "none.h5")
    assert len(events) == 0 and events.read("features").shape == (0, 3) and events.mass.shape == (0,)
    with pytest.raises(InputError) as error:
        events.select(mass_range=(2700, 5000))
    says(error, tmp_path / "none.h5", "there are no events")


def test_file_without_weights_has_weights_of_one(tmp_path, arrays):
    with EventsWriter(tmp_path / "events.h5", COLUMNS) as writer:
        writer.append(features=arrays["features"], mass=arrays["mass"])
    events = Events.from_file(tmp_path / "events.h5")
    assert events.weight.tolist() == [1.0] * SIZE and not events.has_labels


def test_column_names_that_others_stored_as_bytes_are_read(path):
    with h5py.File(path, "r+") as file:
        file.attrs["columns"] = np.array([b"pt_1", b"mass_1", b"pt_2"])
        file.attrs["dataset"] = np.bytes_(b"lhco")
    assert Events.from_file(path).columns == COLUMNS and Events.from_file(path).about.dataset == "lhco"
    assert as_text(np.bytes_(b"pt")) == "pt"


def test_embedded_sample_opens_by_name():
    events = pipelines.open("lhco_sim_test")
    assert len(events) == 6000 and events.has_labels and len(events.columns) == 47
    assert np.bincount(events.label).tolist() == [4000, 1000, 1000]
    np.testing.assert_allclose(events.mass, events.read("features", ["mj1j2"])[:, 0])
    assert not pipelines.open("lhco_sim_train").has_labels
    assert all(find(name).is_file() for name in catalog.SAMPLES)


@pytest.mark.parametrize("name, hint", [("lhco_sim_tset", "'lhco_sim_test'"), ("nothing/like.h5", "lhco_rnd_real")])
def test_unknown_sample_names_the_nearest(name, hint):
    with pytest.raises(InputError) as error:
        pipelines.open(name)
    says(error, name, "no such file", hint)


# -- lazy ---------------------------------------------------------------------------------------------------


def test_opening_and_splitting_reads_no_dataset(path, poisoned):
    poisoned("features", "mass", "weight", "label")
    events = Events.from_file(path)
    first, second = events.split(0.3)
    drawn, rest = events.set_aside(100)
    assert [len(x) for x in (first, second, drawn, rest, events.sample(7))] == [150, 350, 100, 400, 7]
    assert repr(events) and events.without_labels().columns == COLUMNS
    with pytest.raises(InputError, match="was read"):
        events.read("mass")


def test_selecting_a_mass_range_reads_the_mass_alone(path, poisoned):
    poisoned("features", "weight", "label")
    assert len(Events.from_file(path).select(mass_range=(2700, 5000)))


def test_blocks_hold_the_asked_number_of_stored_rows(path, arrays):
    blocks = list(Events.from_file(path).blocks("features", "mass", size=64))
    assert [len(b["mass"]) for b in blocks] == [64] * 7 + [52] and BLOCK > 64
    np.testing.assert_array_equal(np.concatenate([b["features"] for b in blocks]), arrays["features"])


def test_chosen_rows_come_in_the_chosen_order_from_a_selection_too(path, arrays):
    kept = np.r_[3, 70:80, 200:400, 499]
    events = Events.from_file(path).take(kept)
    found = [b["mass"] for b in events.blocks("mass", size=64, rows=[(11, 211), (0, 2), (5, 5), (211, 212)])]
    np.testing.assert_array_equal(np.concatenate(found), arrays["mass"][np.r_[200:400, 3, 70, 499]])
    assert [len(b) for b in found] == [64, 64, 64, 8, 1, 1, 1]
    assert events.seams == (0, 212)


# -- selecting ----------------------------------------------------------------------------------------------


def test_mass_range_keeps_its_lower_edge_and_not_its_upper():
    events = Events.from_arrays(np.zeros((4, 1)), [2699.99, 2700, 4999.99, 5000], ["pt_1"])
    assert events.select(mass_range=(2700, 5000)).mass.tolist() == pytest.approx([2700, 4999.99])


def test_selections_of_selections_keep_the_rows_of_the_file(path, arrays):
    events = Events.from_file(path).select(mass_range=(3000, 6000)).select(label=0).sample(50, seed=3)
    rows = np.flatnonzero((arrays["mass"] >= 3000) & (arrays["mass"] < 6000) & (arrays["label"] == 0))
    rows = rows[np.sort(np.random.default_rng(3).permutation(len(rows))[:50])]
    same(events, arrays, rows)


@pytest.mark.parametrize("fraction", [0.002, 0.2, 0.5, 0.998])
def test_split_is_disjoint_exhaustive_and_of_the_asked_size(fraction):
    events = Events.from_arrays(np.arange(SIZE)[:, None], np.full(SIZE, 3000.0), ["number"])
    first, second = (part.read("features")[:, 0] for part in events.split(fraction))
    assert len(first) == round(fraction * SIZE)
    assert sorted([*first, *second]) == list(range(SIZE))
    assert (np.diff(first) > 0).all() and (np.diff(second) > 0).all()


def test_split_depends_on_the_seed_alone(path):
    one, same_seed, other = (Events.from_file(path).split(0.5, seed)[0].mass for seed in (1, 1, 2))
    assert (one == same_seed).all() and not (one == other).all()


def test_split_is_random_in_mass():
    mass = np.linspace(2700, 7000, 10_000)
    first, second = Events.from_arrays(np.zeros((10_000, 1)), mass, ["pt_1"]).split(0.5)
    spread = mass.std() * np.sqrt(2 / 5000)
    assert abs(first.mass.mean() - second.mass.mean()) < 4 * spread


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 1.5, float("nan"), 0.0001])
def test_split_with_an_empty_part_is_refused(fraction, path):
    with pytest.raises(InputError) as error:
        Events.from_file(path).split(fraction)
    says(error, f"{fraction:g}", "0 < fraction < 1")


def test_set_aside_draws_pure_background_without_labels_and_leaves_the_rest(arrays):
    arrays["features"][:, 0] = np.arange(SIZE)
    events = Events.from_arrays(columns=COLUMNS, **arrays)
    background = int((arrays["label"] == 0).sum())
    training, rest = events.set_aside(background - 20, label=0, seed=4)
    assert not training.has_labels and rest.has_labels and np.bincount(rest.label)[0] == 20
    drawn, left = (part.read("features")[:, 0].astype(int) for part in (training, rest))
    assert sorted([*drawn, *left]) == list(range(SIZE)) and not arrays["label"][drawn].any()
    again, _ = events.set_aside(background - 20, label=0, seed=4)
    assert (again.mass == training.mass).all()
    assert not np.array_equal(events.set_aside(background - 20, label=0, seed=5)[0].mass, training.mass)


@pytest.mark.parametrize("events, label", [(0, None), (SIZE, None), (SIZE + 1, None), (SIZE, 0), (1, 7), (-1, None)])
def test_set_aside_of_more_than_there_is_says_how_many_there_are(events, label, path):
    with pytest.raises(InputError) as error:
        Events.from_file(path).set_aside(events, label=label)
    says(error, path, events, f"of {SIZE}")


def test_events_without_labels_do_not_give_them_away(path, arrays, tmp_path):
    for events in (Events.from_file(path), Events.from_arrays(columns=COLUMNS, **arrays)):
        blind = events.without_labels()
        assert not blind.has_labels and not blind.about.label_names
        for look in (lambda e: e.label, lambda e: e.select(label=1), lambda e: list(e.blocks("label"))):
            with pytest.raises(InputError) as error:
                look(blind)
            says(error, events.name, "no dataset 'label'")
        assert not blind.sample(10).has_labels and not blind.split(0.5)[0].has_labels
        assert events.has_labels and len(events.label) == SIZE
    blind.write(tmp_path / "blind.h5")
    with h5py.File(tmp_path / "blind.h5") as file:
        assert sorted(file) == ["features", "mass", "weight"] and file.attrs["label_names"] == "{}"


def test_nothing_left_says_what_there_is(path):
    events = Events.from_file(path)
    with pytest.raises(InputError) as error:
        events.select(mass_range=(100, 200), label=1)
    says(error, path, "[100, 200)", "label 1", f"{events.mass.min():g}", f"{events.mass.max():g}", "[0, 1, 2]")


@pytest.mark.parametrize("mass_range", [(5000, 2700), (3000, 3000), (float("nan"), 5000)])
def test_empty_mass_range_is_refused(mass_range, path):
    with pytest.raises(InputError) as error:
        Events.from_file(path).select(mass_range=mass_range)
    says(error, "mass range", "lower edge first")


@pytest.mark.parametrize("events", [0, SIZE + 1])
def test_sample_of_more_than_there_is_is_refused(events, path):
    with pytest.raises(InputError) as error:
        Events.from_file(path).sample(events)
    says(error, path, events, SIZE)


@pytest.mark.parametrize("rows", [[SIZE], [-1], [2**31], [2**32 + 5], np.ones(SIZE + 1, bool), np.ones(3, bool)])
def test_rows_that_are_not_there_are_refused(rows, path):
    with pytest.raises(InputError) as error:
        Events.from_file(path).take(rows)
    says(error, path, "expected")


def test_taking_no_rows_leaves_no_events(path):
    assert len(Events.from_file(path).take([])) == 0


# -- columns ------------------------------------------------------------------------------------------------


def test_columns_come_in_the_order_asked_for(path, arrays):
    found = Events.from_file(path).read("features", ["pt_2", "pt_1"])
    np.testing.assert_array_equal(found, arrays["features"][:, [2, 0]])


def test_patterns_keep_their_order_then_that_of_the_data():
    available = ["tau1_1", "pt_1", "tau2_1", "pt_2", "m[jj]"]
    assert match_columns(["pt_*", "tau?_1"], available) == ("pt_1", "pt_2", "tau1_1", "tau2_1")
    assert match_columns(["pt_2", "*"], available) == ("pt_2", "tau1_1", "pt_1", "tau2_1", "m[jj]")
    with pytest.raises(InputError) as error:
        match_columns(["pt_1", "TAU*", "eta"], available, "events.h5")
    says(error, "events.h5", "'TAU*', 'eta'", "tau1_1, pt_1")


def test_missing_column_is_named_with_those_there_are(path):
    with pytest.raises(InputError) as error:
        Events.from_file(path).read("features", ["pt_1", "eta_1"])
    says(error, path, "'eta_1'", "pt_1, mass_1, pt_2")


# -- values that cannot be used ------------------------------------------------------------------------------


def test_nan_and_infinity_are_named_by_column_and_count(path):
    with h5py.File(path, "r+") as file:
        file["features"][[3, 7, 400], 1] = [np.nan, np.inf, -np.inf]
        file["features"][5, 2] = np.nan
    events = Events.from_file(path)
    with pytest.raises(InputError) as error:
        events.read("features")
    says(error, path, "'mass_1' 3", "'pt_2' 1")
    assert "'pt_1'" not in str(error.value)
    with pytest.raises(InputError) as error:
        events.read("features", ["pt_2", "pt_1"])
    says(error, "'pt_2' 1")
    assert events.read("features", ["pt_1"]).shape == (SIZE, 1)


def test_nan_outside_the_selection_does_no_harm(path):
    with h5py.File(path, "r+") as file:
        file["features"][3, 1] = np.nan
    assert Events.from_file(path).take(np.arange(4, SIZE)).read("features").shape == (SIZE - 4, 3)


@pytest.mark.parametrize("field", ["mass", "weight"])
def test_nan_mass_and_weight_are_named(field, path):
    with h5py.File(path, "r+") as file:
        file[field][[1, 2]] = np.nan
    with pytest.raises(InputError) as error:
        Events.from_file(path).read(field)
    says(error, path, f"'{field}' 2")


def test_number_beyond_float32_is_infinite_and_named():
    with pytest.raises(InputError) as error:
        Events.from_arrays([[1e39], [1.0]], [3000, 3000], ["pt_1"]).read("features")
    says(error, "'pt_1' 1")


@pytest.mark.parametrize("label", [256, 300, -1, 0.5, np.nan])
def test_label_that_would_turn_into_another_is_refused(label, tmp_path):
    given = {"features": np.zeros((2, 1)), "mass": [3000, 3000], "label": np.array([0, label])}
    with pytest.raises(InputError) as error:
        Events.from_arrays(columns=["pt_1"], **given)
    says(error, f"label {label:g}", "127")
    with pytest.raises(InputError), EventsWriter(tmp_path / "events.h5", ["pt_1"]) as writer:
        writer.append(**given)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "given, words",
    [
        ({"mass": np.zeros(3)}, ("mass", "(3,)", "(2,)")),
        ({"mass": np.zeros((2, 1))}, ("mass", "(2, 1)", "(2,)")),
        ({"label": [0]}, ("label", "(1,)", "(2,)")),
        ({"features": np.zeros((2, 2))}, ("features", "(2, 2)", "(2, 1)")),
        ({"features": np.zeros(2)}, ("features", "(2,)", "(2, 1)")),
        ({"features": np.zeros((2, 2)), "columns": ["pt_1", "pt_1"]}, ("'pt_1'", "more than once")),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(given, words):
    with pytest.raises(InputError) as error:
        Events.from_arrays(**{"features": np.zeros((2, 1)), "mass": np.zeros(2), "columns": ["pt_1"]} | given)
    says(error, *words)


# -- files that cannot be used -------------------------------------------------------------------------------


def test_missing_file_folder_and_text_are_told_apart(tmp_path):
    (tmp_path / "text.h5").write_text("pt,eta,phi\n" * 1000)
    (tmp_path / "empty.h5").touch()
    for path, reason in (
        (tmp_path / "absent.h5", "no such file"),
        (tmp_path / ("x" * 300), "no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "text.h5", "not an HDF5 file"),
        (tmp_path / "empty.h5", "not an HDF5 file"),
    ):
        with pytest.raises(InputError) as error:
            Events.from_file(path)
        says(error, path, reason)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_file_is_told(share, path):
    size = path.stat().st_size
    os.truncate(path, int(size * share))
    with pytest.raises(InputError) as error:
        Events.from_file(path)
    says(error, path, "damaged or truncated")


def test_damaged_block_is_told_when_it_is_reached(path):
    with h5py.File(path) as file:
        chunk = file["features"].id.get_chunk_info(0)
    with open(path, "r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)
    events = Events.from_file(path)
    assert len(events.mass) == SIZE
    with pytest.raises(InputError) as error:
        events.read("features")
    says(error, path, "rows 0 to 499", "damaged")


@pytest.mark.parametrize("name", ["features", "mass"])
def test_missing_dataset_is_named_with_those_there_are(name, path):
    with h5py.File(path, "r+") as file:
        del file[name]
    with pytest.raises(InputError) as error:
        Events.from_file(path)
    says(error, path, f"no dataset '{name}'", "label", "zoo data convert")


@pytest.mark.parametrize("name", ["columns", "schema_version"])
def test_missing_attribute_is_told(name, path):
    with h5py.File(path, "r+") as file:
        del file.attrs[name]
    with pytest.raises(InputError) as error:
        Events.from_file(path)
    says(error, path, name, "expected an events file")


def test_newer_schema_asks_for_an_upgrade(path):
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 2
    with pytest.raises(InputError) as error:
        Events.from_file(path)
    says(error, path, "schema version 2", "up to 1", "upgrade")


@pytest.mark.parametrize(
    "dataset, value, words",
    [
        ("features", np.zeros((SIZE, 4), "f4"), (f"({SIZE}, 4)", f"({SIZE}, 3)")),
        ("features", np.zeros(SIZE, "f4"), (f"({SIZE},)", f"({SIZE}, F)")),
        ("features", np.full((SIZE, 3), b"x"), ("features", "numbers")),
        ("mass", np.zeros(SIZE - 1, "f4"), ("mass", f"({SIZE - 1},)", f"({SIZE},)")),
        ("label", np.zeros(3, "i1"), ("label", "(3,)", f"({SIZE},)")),
        ("weight", None, ("weight", "expected a dataset")),
    ],
)
def test_dataset_of_another_shape_is_told(dataset, value, words, path):
    with h5py.File(path, "r+") as file:
        del file[dataset]
        if value is None:
            file.create_group(dataset)
        else:
            file[dataset] = value
    with pytest.raises(InputError) as error:
        Events.from_file(path)
    says(error, path, *words)


@pytest.mark.parametrize("text", ["not json", "[1, 2]", '{"signal": "x"}'])
def test_label_names_that_are_not_json_are_told(text, path):
    with h5py.File(path, "r+") as file:
        file.attrs["label_names"] = text
    with pytest.raises(InputError) as error:
        Events.from_file(path)
    says(error, path, "label_names", json.dumps({"0": "background"}))


def test_column_that_is_there_twice_is_told(path):
    with h5py.File(path, "r+") as file:
        file.attrs["columns"] = ["pt_1", "pt_1", "pt_2"]
    with pytest.raises(InputError) as error:
        Events.from_file(path)
    says(error, path, "'pt_1'", "more than once")


# -- writing ------------------------------------------------------------------------------------------------


def test_file_appears_only_when_all_events_are_in_it(tmp_path, arrays):
    with EventsWriter(tmp_path / "events.h5", COLUMNS) as writer:
        writer.append(**arrays)
        assert not (tmp_path / "events.h5").exists()
    assert os.listdir(tmp_path) == ["events.h5"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_failure_while_writing_leaves_nothing(failure, tmp_path, arrays):
    with pytest.raises(failure), EventsWriter(tmp_path / "events.h5", COLUMNS) as writer:
        writer.append(**arrays)
        raise failure
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "change, words",
    [
        ({"mass": np.zeros(3)}, ("mass", "(3,)", "(500,)")),
        ({"features": np.zeros((SIZE, 2))}, ("features", "(500, 2)", "(500, 3)")),
        ({"label": None}, ("expected", "label")),
    ],
)
def test_blocks_that_do_not_fit_together_leave_nothing(change, words, tmp_path, arrays):
    with pytest.raises(InputError) as error, EventsWriter(tmp_path / "events.h5", COLUMNS) as writer:
        writer.append(**arrays)
        writer.append(**arrays | change)
    says(error, *words)
    assert os.listdir(tmp_path) == []


def test_existing_events_are_not_overwritten(path, arrays):
    with pytest.raises(InputError) as error:
        Events.from_file(path).write(path)
    says(error, path, "exists already")
    same(Events.from_file(path), arrays)


def test_output_in_a_place_that_is_none_is_refused(tmp_path, arrays):
    (tmp_path / "notes.txt").touch()
    events = Events.from_arrays(columns=COLUMNS, **arrays)
    with pytest.raises(InputError) as error:
        events.write(tmp_path / "notes.txt" / "events.h5")
    says(error, tmp_path / "notes.txt", "expected a folder")


@pytest.mark.skipif(
    not os.path.isdir("/proc/self"), reason="a folder that root cannot write to either is Linux's /proc"
)
def test_folder_that_cannot_be_written_to_is_refused(arrays):
    with pytest.raises(InputError) as error:
        Events.from_arrays(columns=COLUMNS, **arrays).write("/proc/events.h5")
    says(error, "/proc/events.h5", "writ")


ENDLESS = """
import sys, numpy as np
from pipelines.events.events import EventsWriter
rng = np.random.default_rng(0)
with EventsWriter(sys.argv[1], ["pt_1", "pt_2"]) as writer:
    while True:
        writer.append(features=rng.random((20_000, 2)), mass=rng.random(20_000))
        print("block", flush=True)
"""


def test_killed_writer_leaves_nothing_under_the_final_name(tmp_path):
    path = tmp_path / "events.h5"
    with subprocess.Popen([sys.executable, "-c", ENDLESS, path], stdout=subprocess.PIPE, text=True) as writer:
        for _ in range(3):
            assert writer.stdout.readline() == "block\n"
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
    assert not path.exists()
    assert set(os.listdir(tmp_path)) <= {".events.h5.lock", ".events.h5.part"}
    with EventsWriter(path, ["pt_1"]) as again:  # what the killed one left is in nobody's way
        again.append(features=[[1.0]], mass=[3000])
    assert len(Events.from_file(path)) == 1 and os.listdir(tmp_path) == ["events.h5"]


FULL = """
import resource, sys, numpy as np
from pipelines import EventsWriter, InputError
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
rng, blocks = np.random.default_rng(0), 0
try:
    with EventsWriter(sys.argv[1], ["pt_1", "pt_2"]) as writer:
        for _ in range(int(sys.argv[2])):
            writer.append(features=rng.random((10_000, 2)), mass=rng.random(10_000))
            blocks += 1
except InputError as error:
    print(error, blocks, sep="\\n")
"""


@pytest.mark.parametrize("blocks", [3, 1000])
def test_full_disk_is_told_at_once_in_one_line_and_leaves_nothing(blocks, tmp_path):
    """HDF5 writes the little data of 3 blocks only as it closes the file, and the rest of 1000 before."""
    path, start = tmp_path / "events.h5", time.monotonic()
    done = subprocess.run([sys.executable, "-c", FULL, path, str(blocks)], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    message, written = done.stdout.splitlines()
    assert message.startswith(f"{path}: cannot be written (File too large)")
    assert int(written) < 30 and time.monotonic() - start < 30
    assert os.listdir(tmp_path) == []


def test_events_of_objects_alone_are_written_and_read(tmp_path):
    objects = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    objects[1, 1] = 0
    events = Events.from_arrays(None, [1, 2, 3], objects=objects, object_columns=["E", "pt", "eta", "phi"])
    events.write(tmp_path / "objects.h5")
    again = Events.from_file(tmp_path / "objects.h5")
    np.testing.assert_array_equal(again.read("objects"), objects)
    assert again.read("mask").tolist() == [[True, True], [True, False], [True, True]]
    assert again.columns == () and again.about.object_columns == ("E", "pt", "eta", "phi")
    assert again.shape_of("objects") == (2, 4) and again.take([1]).read("mask").shape == (1, 2)
    with pytest.raises(InputError, match="no dataset 'features'"):
        again.read("features")


def test_a_selection_in_memory_is_the_same_events(tmp_path):
    rng = np.random.default_rng(0)
    whole = Events.from_arrays(
        rng.normal(size=(50, 2)), rng.uniform(2e3, 6e3, 50), ["a", "b"], label=rng.integers(0, 2, 50),
        weight=rng.uniform(size=50), label_names={0: "QCD", 1: "signal"},
    )  # fmt: skip
    whole.write(tmp_path / "events.h5")
    chosen = Events.from_file(tmp_path / "events.h5").select(mass_range=(2500, 4500)).take(np.arange(5, 20))
    held = chosen.in_memory()
    (tmp_path / "events.h5").unlink()
    assert (
        held.path is None
        and len(held) == 15
        and held.columns == whole.columns
        and held.about.label_names[1] == "signal"
    )
    rows = np.flatnonzero((whole.mass >= 2500) & (whole.mass < 4500))[5:20]
    for field in ("features", "mass", "weight", "label"):
        np.testing.assert_array_equal(held.read(field), whole.read(field)[rows])
    hidden = whole.without_labels().in_memory()
    assert not hidden.has_labels and len(whole.take(np.arange(0)).in_memory()) == 0


@pytest.mark.parametrize("name", ["features", "mass"])
def test_lost_blocks_of_the_numbers_are_noticed(name, path):
    with h5py.File(path, "r") as file:
        chunks = [file[name].id.get_chunk_info(i) for i in range(file[name].id.get_num_chunks())]
    whole = path.read_bytes()
    for chunk in chunks:
        for start in range(chunk.byte_offset, chunk.byte_offset + chunk.size - 64, 256):
            path.write_bytes(whole[:start] + bytes(64) + whole[start + 64 :])
            with pytest.raises(InputError, match=r"cannot be read .*damaged"):
                Events.from_file(path).read(name)


def test_attributes_that_were_changed_are_told(path):
    with h5py.File(path, "r+") as file:
        file.attrs["columns"] = [f"other_{name}" for name in file.attrs["columns"]]
    with pytest.raises(InputError, match="attributes are not as they were written"):
        Events.from_file(path)


def test_events_of_an_older_version_open(path):
    before = Events.from_file(path)
    with h5py.File(path, "r+") as file:
        del file.attrs["description_sha256"]
    assert Events.from_file(path).about == before.about
