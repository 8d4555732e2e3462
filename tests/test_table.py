"""Tables of features: what others left in HDF5 becomes events, or is refused in one line that names it."""

import json
import os

import h5py
import numpy as np
import pytest

from pipelines import Events, InputError
from pipelines.datasets.table import convert
from pipelines.events import BLOCK

COLUMNS = ["pt_1", "phi_1", "tau21_1", "mj1j2"]
SIZE = 400


@pytest.fixture
def features():
    rng = np.random.default_rng(2)
    found = rng.normal(size=(SIZE, 4))
    found[:, 3] = rng.uniform(2000, 8000, SIZE)
    return found


@pytest.fixture
def label():
    return np.random.default_rng(3).choice(np.array([0, 0, 1, 2], np.int8), SIZE)


@pytest.fixture
def write(tmp_path, features):
    def write(attributes=None, columns=COLUMNS, **datasets):
        with h5py.File(tmp_path / "table.h5", "w") as file:
            for name, values in ({"features": features} | datasets).items():
                if values is not None:
                    file[name] = values
            if columns is not None:
                file.attrs["columns"] = columns
            file.attrs.update(attributes or {})
        return tmp_path / "table.h5"

    return write


def refused(source, tmp_path, *words, **options):
    with pytest.raises(InputError) as error:
        convert(source, tmp_path / "events.h5", **{"mass": "mj1j2"} | options)
    message = str(error.value)
    assert "\n" not in message
    for word in (source, *words):
        assert str(word) in message, message
    assert sorted(os.listdir(tmp_path)) == (["table.h5"] if source.exists() else [])


# -- converting ---------------------------------------------------------------------------------------------


def test_table_becomes_events_with_the_mass_also_among_the_features(write, features, label, tmp_path):
    weight = np.linspace(0.5, 1.5, SIZE)
    source = write({"license": "CC0 1.0", "note": "by hand"}, label=label, weight=weight)
    assert convert(source, tmp_path / "events.h5", mass="mj1j2") == SIZE
    events = Events.from_file(tmp_path / "events.h5")
    np.testing.assert_array_equal(events.read("features"), features.astype(np.float32))
    np.testing.assert_array_equal(events.mass, features[:, 3].astype(np.float32))
    np.testing.assert_array_equal(events.label, label)
    np.testing.assert_array_equal(events.weight, weight.astype(np.float32))
    assert events.columns == tuple(COLUMNS) and events.about.units == ("GeV", "rad", "", "GeV")
    assert events.about.mass_column == "mj1j2"
    assert (events.about.license, events.about.source, events.about.dataset) == ("CC0 1.0", "by hand", "table")


def test_names_may_be_bytes_or_text_in_an_attribute_or_a_dataset(write, tmp_path):
    as_bytes = np.array([name.encode() for name in COLUMNS])
    for number, layout in enumerate(
        [{"columns": as_bytes}, {"columns": COLUMNS}, {"columns": None, "attributes": None}, {"columns": None}]
    ):
        source = write(**layout)
        with h5py.File(source, "r+") as file:
            if number == 2:
                file["features"].attrs["columns"] = as_bytes
            if number == 3:
                file["columns"] = as_bytes
        convert(source, tmp_path / f"events{number}.h5", mass="mj1j2")
        assert Events.from_file(tmp_path / f"events{number}.h5").columns == tuple(COLUMNS)


def test_mass_range_keeps_the_events_that_select_would_keep(write, features, label, tmp_path):
    features[:5, 3] = [2699.99, 2700, 4999.9, 5000, 4999.99999]  # the last is 5000 in float32
    source = write(label=label)
    kept = convert(source, tmp_path / "kept.h5", mass="mj1j2", mass_range=(2700, 5000))
    convert(source, tmp_path / "all.h5", mass="mj1j2")
    expected = Events.from_file(tmp_path / "all.h5").select(mass_range=(2700, 5000))
    events = Events.from_file(tmp_path / "kept.h5")
    assert kept == len(events) == len(expected) == len(events.select(mass_range=(2700, 5000)))
    for field in ("features", "mass", "label"):
        np.testing.assert_array_equal(events.read(field), expected.read(field))
    assert events.mass[:2].tolist() == pytest.approx([2700, 4999.9])


def test_labels_without_names_are_background_and_signals(write, label, tmp_path):
    convert(write(label=label), tmp_path / "events.h5", mass="mj1j2")
    about = Events.from_file(tmp_path / "events.h5").about
    assert about.label_names == {0: "background", 1: "signal 1", 2: "signal 2"}


@pytest.mark.parametrize("kind", [np.float64, np.int64, np.uint8])
def test_labels_of_any_number_type_are_kept(kind, write, label, tmp_path):
    names = {"0": "QCD", "1": "W'", "2": "Z'"}
    source = write({"label_names": json.dumps(names)}, label=label.astype(kind))
    convert(source, tmp_path / "events.h5", mass="mj1j2")
    events = Events.from_file(tmp_path / "events.h5")
    np.testing.assert_array_equal(events.label, label)
    assert events.about.label_names == {0: "QCD", 1: "W'", 2: "Z'"}


def test_large_table_is_selected_across_blocks_and_progress_counts_the_rows_read(write, tmp_path):
    rows = 2 * BLOCK + 100
    big = np.stack([np.arange(rows), np.linspace(2000, 8000, rows)], axis=1).astype(np.float32)
    calls, low, high = [], 4000, 6000  # the last third of one block, the first of the next
    source = write(columns=["number", "mj1j2"], features=big)
    kept = convert(
        source, tmp_path / "kept.h5", mass="mj1j2", mass_range=(low, high), progress=lambda *c: calls.append(c)
    )
    assert calls == [(BLOCK, rows), (2 * BLOCK, rows), (rows, rows)]
    expected = big[(big[:, 1] >= low) & (big[:, 1] < high)]
    assert kept == len(expected)
    np.testing.assert_array_equal(Events.from_file(tmp_path / "kept.h5").read("features"), expected)


# -- refusing -----------------------------------------------------------------------------------------------


def test_nan_is_named_by_column_count_and_rows(write, features, tmp_path):
    features[[3, 300], 2] = np.nan
    features[9, 0] = np.inf
    refused(write(), tmp_path, "'pt_1' 1", "'tau21_1' 2", "rows 0 to 399")


def test_nan_in_an_event_that_is_left_out_does_no_harm(write, features, tmp_path):
    features[7] = [np.nan, 0, 0, 2100]
    assert convert(write(), tmp_path / "events.h5", mass="mj1j2", mass_range=(2700, 5000))


def test_nan_mass_is_not_dropped_in_silence(write, features, tmp_path):
    features[[5, 6], 3] = np.nan
    refused(write(), tmp_path, "'mj1j2' 2", mass_range=(2700, 5000))


def test_number_beyond_float32_is_refused_before_it_is_written(write, features, tmp_path):
    features[0, 0] = 1e39
    refused(write(), tmp_path, "'pt_1' 1")


def test_nan_weight_is_refused(write, tmp_path):
    refused(write(weight=np.r_[np.nan, np.ones(SIZE - 1)]), tmp_path, "'weight' 1")


@pytest.mark.parametrize("value", [256, -1, 0.5])
def test_label_that_int8_would_change_is_refused(value, write, tmp_path):
    refused(write(label=np.r_[np.zeros(SIZE - 1), value]), tmp_path, f"label {value:g}", "127")


def test_missing_mass_column_is_named_with_those_there_are(write, tmp_path):
    refused(write(), tmp_path, "'m_jj'", "pt_1, phi_1, tau21_1, mj1j2", mass="m_jj")


def test_missing_file_dataset_and_names_are_told(write, tmp_path):
    refused(tmp_path / "absent.h5", tmp_path, "no such file")
    refused(write(columns=None), tmp_path, "'columns'")
    refused(write(features=None, x=[1, 2]), tmp_path, "no dataset 'features'", "['x']")


@pytest.mark.parametrize(
    "datasets, words",
    [
        ({"features": np.zeros((5, 3))}, ("(5, 3)", "(N, 4)")),
        ({"features": np.zeros(5)}, ("(5,)", "(N, 4)")),
        ({"features": np.full((5, 4), b"x")}, ("features", "numbers")),
        ({"label": np.zeros(SIZE - 1)}, ("label", "(399,)", "(400,)")),
        ({"label": np.zeros((SIZE, 1))}, ("label", "(400, 1)", "(400,)")),
        ({"weight": np.zeros(3)}, ("weight", "(3,)", "(400,)")),
    ],
)
def test_wrong_shapes_are_told(datasets, words, write, tmp_path):
    refused(write(**datasets), tmp_path, *words)


def test_column_that_is_there_twice_is_refused(write, tmp_path):
    refused(write(columns=["pt_1", "mj1j2", "tau21_1", "mj1j2"]), tmp_path, "'mj1j2'", "more than once")


def test_nothing_left_and_nothing_there_are_told(write, tmp_path):
    refused(write(), tmp_path, "none of 400", "[100, 200)", mass_range=(100, 200))
    refused(write(features=np.zeros((0, 4))), tmp_path, "none of 0")


def test_mass_range_the_wrong_way_round_is_told(write, tmp_path):
    with pytest.raises(InputError, match="lower edge first"):
        convert(write(), tmp_path / "events.h5", mass="mj1j2", mass_range=(5000, 2700))


def test_damaged_table_is_told_and_leaves_nothing(write, tmp_path):
    source = write()
    with h5py.File(source, "r+") as file:
        del file["features"]
        data = file.create_dataset("features", data=np.zeros((SIZE, 4)), chunks=(100, 4), compression="gzip")
        chunk = data.id.get_chunk_info(2)
    with open(source, "r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)
    refused(source, tmp_path, "cannot be read", "damaged")


def test_table_is_not_converted_onto_itself(write, features):
    source = write()
    with pytest.raises(InputError, match="exists already"):
        convert(source, source, mass="mj1j2")
    with h5py.File(source) as file:
        np.testing.assert_array_equal(file["features"][:], features)
