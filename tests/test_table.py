"""Tables of features: what others left on disk becomes events, or is refused in one line that names it.

The whole file takes about 30 s, of which starting processes and files of some MB take half.
"""

import gzip
import json
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from pipelines import Events, InputError
from pipelines.datasets.table import convert, describe, recognises
from pipelines.datasets.tables import base, csv
from pipelines.events.events import BLOCK

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


def refused(source, tmp_path, *words, where=True, **options):
    out = tmp_path / "refused.h5"
    before = set(out.parent.glob("*"))
    with pytest.raises(InputError) as error:
        convert(source, out, **{"mass": "mj1j2"} | options)
    message = str(error.value)
    assert "\n" not in message and "\r" not in message
    for word in ((source,) if where else ()) + words:
        assert str(word) in message, message
    assert set(out.parent.glob("*")) == before


# -- converting ---------------------------------------------------------------------------------------------


def test_table_becomes_events_with_the_mass_among_the_features_only_if_it_is_named(write, features, label, tmp_path):
    weight = np.linspace(0.5, 1.5, SIZE)
    source = write({"license": "CC0 1.0", "note": "by hand"}, label=label, weight=weight)
    convert(source, tmp_path / "plain.h5", mass="mj1j2")
    assert Events.from_file(tmp_path / "plain.h5").columns == tuple(COLUMNS[:3])
    assert convert(source, tmp_path / "events.h5", mass="mj1j2", features=["*", "mj1j2"]).events == SIZE
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
        assert Events.from_file(tmp_path / f"events{number}.h5").columns == tuple(COLUMNS[:3])


def test_mass_range_keeps_the_events_that_select_would_keep(write, features, label, tmp_path):
    features[:5, 3] = [2699.99, 2700, 4999.9, 5000, 4999.99999]  # the last is 5000 in float32
    source = write(label=label)
    kept = convert(source, tmp_path / "kept.h5", mass="mj1j2", mass_range=(2700, 5000)).events
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
    outcome = convert(
        source, tmp_path / "kept.h5", mass="mj1j2", mass_range=(low, high), progress=lambda *c: calls.append(c)
    )
    kept = outcome.events
    assert outcome.counts == {"rows read": rows, "outside the mass range": rows - kept}
    assert calls == [(BLOCK, rows), (2 * BLOCK, rows), (rows, rows)]
    expected = big[(big[:, 1] >= low) & (big[:, 1] < high)]
    assert kept == len(expected)
    np.testing.assert_array_equal(Events.from_file(tmp_path / "kept.h5").read("features"), expected[:, :1])


# -- refusing -----------------------------------------------------------------------------------------------


def test_nan_is_named_by_column_count_and_rows(write, features, tmp_path):
    features[[3, 300], 2] = np.nan
    features[9, 0] = np.inf
    refused(write(), tmp_path, "'pt_1' 1", "'tau21_1' 2", "rows 0 to 399")


def test_nan_in_an_event_that_is_left_out_does_no_harm(write, features, tmp_path):
    features[7] = [np.nan, 0, 0, 2100]
    found = convert(write(), tmp_path / "events.h5", mass="mj1j2", mass_range=(2700, 5000))
    assert 0 < found.events < SIZE and "left out" not in " ".join(found.counts)


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
    refused(write(features=None, columns=None, y=np.zeros((2, 2, 2))), tmp_path, "no dataset 'features'", "'y'")


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


# -- other formats ------------------------------------------------------------------------------------------

NAMES = ["mjj", "tau21_1", "tau21_2", "njets", "label", "weight"]


def jets(rows=500, seed=4):
    """Columns as a study has them, exact in float32, so that every format must give the same bits."""
    rng = np.random.default_rng(seed)
    return {
        "mjj": rng.uniform(2000, 7000, rows).astype(np.float32),
        "tau21_1": rng.uniform(0, 1, rows).astype(np.float32),
        "tau21_2": rng.uniform(0, 1, rows).astype(np.float32),
        "njets": rng.integers(2, 9, rows),
        "label": rng.integers(0, 2, rows).astype(np.int8),
        "weight": rng.uniform(0.5, 2, rows).astype(np.float32),
    }


def as_text(columns, separator=",", end="\n"):
    """A plain loop: the shortest decimal that gives the number back."""
    lines = [separator.join(columns)]
    lines += [separator.join(str(value) for value in row) for row in zip(*columns.values())]
    return end.join(lines) + end


def write_frame(path, columns):
    """What pandas 2 writes with to_hdf(format="fixed"), checked against the published LHC Olympics features."""
    floats = [name for name in columns if columns[name].dtype.kind == "f"]
    with h5py.File(path, "w") as file:
        group = file.create_group("df")
        group.attrs.update({"pandas_type": np.bytes_(b"frame"), "nblocks": 2, "ndim": 2})
        group["axis0"] = np.array(list(columns), "S")
        group["axis1"] = np.arange(len(columns["mjj"]))
        for number, names in enumerate([floats, [name for name in columns if name not in floats]]):
            group[f"block{number}_items"] = np.array(names, "S")
            group[f"block{number}_values"] = np.stack([columns[name].astype(float) for name in names], axis=1)


def records(columns):
    found = np.empty(len(columns["mjj"]), [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        found[name] = values
    return found


def write_one_each(path, columns, group=""):
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[f"{group}/{name}"] = values


def write_npz_matrix(path, columns, order="C", **options):
    names = [name for name in columns if name not in ("label", "weight")]
    matrix = np.stack([columns[name] for name in names], axis=1).astype(np.float32)
    others = {name: columns[name] for name in ("label", "weight")}
    np.savez(path, x=np.asarray(matrix, order=order), cols=np.array(names), **others)


WRITERS = {
    "comma.csv": lambda path, c: path.write_text(as_text(c)),
    "tabs.tsv": lambda path, c: path.write_text(as_text(c, "\t")),
    "semicolons.csv": lambda path, c: path.write_text(as_text(c, ";")),
    "windows.csv": lambda path, c: path.write_bytes(b"\xef\xbb\xbf" + as_text(c, end="\r\n").encode()),
    "no_last_newline.csv": lambda path, c: path.write_text(as_text(c).rstrip("\n")),
    "blank_lines.csv": lambda path, c: path.write_text(as_text(c, end="\n\n")),
    "quoted.csv": lambda path, c: path.write_text('"' + as_text(c).replace("\n", '"\n', 1).replace(",", '","', 5)),
    "savetxt.txt": lambda path, c: path.write_text("# " + as_text(c)),
    "zipped.csv.gz": lambda path, c: path.write_bytes(gzip.compress(as_text(c).encode())),
    "whole.parquet": lambda path, c: parquet.write_table(pyarrow.table(c), path),
    "small_groups.parquet": lambda path, c: parquet.write_table(pyarrow.table(c), path, row_group_size=37),
    "records.npy": lambda path, c: np.save(path, records(c)),
    "each.npz": lambda path, c: np.savez(path, **c),
    "each_compressed.npz": lambda path, c: np.savez_compressed(path, **c),
    "records.npz": lambda path, c: np.savez(path, events=records(c)),
    "matrix.npz": lambda path, c: write_npz_matrix(path, c),
    "fortran.npz": lambda path, c: write_npz_matrix(path, c, order="F"),
    "each.h5": lambda path, c: write_one_each(path, c),
    "each_in_group.hdf5": lambda path, c: write_one_each(path, c, "/events/nominal"),
    "frame.h5": write_frame,
    "records.h5": lambda path, c: h5py.File(path, "w").create_dataset("events", data=records(c)).file.close(),
}


@pytest.fixture(params=["one piece", "many pieces"])
def pieces(request, monkeypatch):
    """Read in one piece, and in many."""
    if request.param == "many pieces":
        monkeypatch.setattr(base, "BLOCK", 64)
        monkeypatch.setattr(csv, "TEXT_BLOCK", 2000)


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_events(name, pieces, tmp_path):
    columns = jets()
    WRITERS[name](tmp_path / name, columns)
    found = convert(tmp_path / name, tmp_path / "events.h5", mass="mjj", features=["njets", "tau*"])
    events = Events.from_file(tmp_path / "events.h5")
    assert found.events == len(events) == 500 and found.counts["rows read"] == 500
    assert events.columns == ("njets", "tau21_1", "tau21_2") and events.about.mass_column == "mjj"
    for i, column in enumerate(events.columns):
        np.testing.assert_array_equal(events.read("features")[:, i], columns[column].astype(np.float32))
    for field, column in [("mass", "mjj"), ("label", "label"), ("weight", "weight")]:
        np.testing.assert_array_equal(events.read(field), columns[column])
    assert events.about.label_names == {0: "background", 1: "signal 1"}
    assert found.counts["of label 1"] == columns["label"].sum()
    assert recognises(tmp_path / name)
    about = describe(tmp_path / name)
    assert about["rows"] == 500 and set(about["columns"]) | set(about["others"]) == set(NAMES)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("ending", ["npy", "csv", "h5"])
def test_names_are_given_for_a_table_that_has_none(ending, order, pieces, tmp_path):
    matrix = np.asarray(np.random.default_rng(1).uniform(0, 5000, (300, 3)).astype(np.float32), order=order)
    path = tmp_path / f"table.{ending}"
    if ending == "npy":
        np.save(path, matrix)
    elif ending == "csv":
        np.savetxt(path, matrix, delimiter=",", fmt="%.9g")
    else:
        with h5py.File(path, "w") as file:
            file["data"] = matrix
    convert(path, tmp_path / "events.h5", mass="c", features=["b", "a"], columns=["a", "b", "c"])
    events = Events.from_file(tmp_path / "events.h5")
    np.testing.assert_array_equal(events.read("features"), matrix[:, [1, 0]])
    np.testing.assert_array_equal(events.mass, matrix[:, 2])
    refused(path, tmp_path / "x", "columns", mass="c")
    refused(path, tmp_path / "x", "3", mass="c", columns=["a", "c"])


def test_several_files_of_several_formats_are_one_sample(tmp_path):
    parts = [jets(100, seed) for seed in range(4)]
    parts[2] = dict(reversed(parts[2].items()))  # the order of columns in a file does not matter
    names = ["comma.csv", "records.npy", "each.npz", "small_groups.parquet"]
    for name, columns in zip(names, parts):
        WRITERS[name](tmp_path / name, columns)
    convert([tmp_path / name for name in names], tmp_path / "events.h5", mass="mjj", features=["tau*"])
    events = Events.from_file(tmp_path / "events.h5")
    for i, column in enumerate(["tau21_1", "tau21_2"]):
        np.testing.assert_array_equal(events.read("features")[:, i], np.concatenate([c[column] for c in parts]))
    np.testing.assert_array_equal(events.label, np.concatenate([c["label"] for c in parts]))
    assert events.about.source == "; ".join(names)


def test_files_that_differ_are_not_one_sample(tmp_path):
    first, second = jets(10), jets(10)
    WRITERS["comma.csv"](tmp_path / "a.csv", first)
    for drop, word in [
        ("tau21_2", "'tau21_2' only in one"),
        ("label", "'label' only in one"),
        ("mjj", "no column 'mjj'"),
    ]:
        path = tmp_path / f"without_{drop}.csv"
        WRITERS["comma.csv"](path, {name: values for name, values in second.items() if name != drop})
        for sources in ([tmp_path / "a.csv", path], [path, tmp_path / "a.csv"]):
            with pytest.raises(InputError, match=word):
                convert(sources, tmp_path / "out.h5", mass="mjj")
    with pytest.raises(InputError, match="given more than once"):
        convert([tmp_path / "a.csv", tmp_path / "a.csv"], tmp_path / "out.h5", mass="mjj")


def test_label_and_weight_are_never_features(tmp_path):
    WRITERS["comma.csv"](tmp_path / "t.csv", jets(20))
    convert(tmp_path / "t.csv", tmp_path / "a.h5", mass="mjj")
    assert Events.from_file(tmp_path / "a.h5").columns == ("tau21_1", "tau21_2", "njets")
    convert(tmp_path / "t.csv", tmp_path / "b.h5", mass="mjj", label="njets")  # and "label" is no feature for that
    assert Events.from_file(tmp_path / "b.h5").columns == ("tau21_1", "tau21_2")
    refused(tmp_path / "t.csv", tmp_path / "x", "'label'", "never a feature", mass="mjj", features=["label"])
    refused(tmp_path / "t.csv", tmp_path / "x", "three different", mass="mjj", label="mjj")


def test_two_workers_write_the_same_file_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "TEXT_BLOCK", 10_000)
    WRITERS["comma.csv"](tmp_path / "t.csv", jets(1000))
    outcomes = [convert(tmp_path / "t.csv", tmp_path / f"{n}.h5", mass="mjj", workers=n) for n in (1, 2)]
    assert outcomes[0] == outcomes[1] and outcomes[0].events == 1000
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()


def test_progress_ends_at_all_rows_also_where_pieces_are_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "BLOCK", 100)
    WRITERS["small_groups.parquet"](tmp_path / "t.parquet", jets(500))
    calls = []
    convert(
        tmp_path / "t.parquet",
        tmp_path / "e.h5",
        mass="mjj",
        mass_range=(2000, 3000),
        progress=lambda *c: calls.append(c),
    )
    assert calls == [(n, 500) for n in (74, 148, 222, 296, 370, 444, 500)]


# -- units --------------------------------------------------------------------------------------------------


def test_units_are_converted_to_gev_before_anything_else_is_decided(tmp_path):
    columns = {"mjj": np.array([3.0e6, 4.0e6, 8.0e6]), "pt_1": np.array([1500.0, 2000, 3000]), "e_1": [2.0, 2.5, 6.0]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    units = {"mjj": "MeV", "pt*": "GeV", "e_1": "TeV"}
    convert(tmp_path / "t.parquet", tmp_path / "e.h5", mass="mjj", mass_range=(2700, 5000), units=units)
    events = Events.from_file(tmp_path / "e.h5")
    assert events.mass.tolist() == [3000, 4000]
    assert events.read("features").tolist() == [[1500, 2000], [2000, 2500]]
    assert events.about.units == ("GeV", "GeV")


def test_units_that_a_table_declares_are_believed(write, features, tmp_path):
    features[:, 3] *= 1000
    source = write({"units": ["GeV", "rad", "", "MeV"]})
    convert(source, tmp_path / "e.h5", mass="mj1j2")
    np.testing.assert_array_equal(Events.from_file(tmp_path / "e.h5").mass, (features[:, 3] / 1000).astype(np.float32))


@pytest.mark.parametrize("name", ["pt_1", "mass_2", "e1", "m_j1", "MET", "energy", "mjj"])
def test_jet_of_a_million_gev_is_suspected_and_may_be_insisted_on(name, tmp_path):
    columns = {"mjj": np.full(5, 3000.0), "eta_1": np.full(5, 1e6)} | {name: np.full(5, 1e6)}
    np.savez(tmp_path / "t.npz", **columns)
    refused(tmp_path / "t.npz", tmp_path / "x", repr(name), "1e+06", f"{name}=MeV", f"{name}=GeV", mass="mjj")
    refused(tmp_path / "t.npz", tmp_path / "x", f"{name}=MeV", mass="mjj", mass_range=(2000, 7000), on_error="skip")
    assert convert(tmp_path / "t.npz", tmp_path / "e.h5", mass="mjj", units={name: "GeV"}).events == 5


def test_units_for_no_column_or_two_units_for_one_are_refused(tmp_path):
    WRITERS["each.npz"](tmp_path / "t.npz", jets(5))
    refused(
        tmp_path / "t.npz", tmp_path / "x", "'mj'", "did you mean 'mjj'", mass="mjj", units={"mj": "MeV"}, where=False
    )
    refused(
        tmp_path / "t.npz",
        tmp_path / "x",
        "both MeV and GeV",
        mass="mjj",
        units={"m*": "MeV", "mjj": "GeV"},
        where=False,
    )


# -- text that is broken ------------------------------------------------------------------------------------


def lines_of(rows):
    return as_text(jets(rows)).splitlines()


BREAKS = {
    "0.5,0.5": "has 2 values, expected 6",
    "1,2,3,4,0,1,7": "has 7 values, expected 6",
    "3000,0.1,abc,3,0,1": "column 'tau21_2': 'abc', expected a number",
    "3000,0.1,0.2,3,QCD,1": "column 'label': 'QCD', expected a number",
    "3000,1_0,0.2,3,0,1": "column 'tau21_1': '1_0'",
    "3000,1d5,0.2,3,0,1": "column 'tau21_1': '1d5'",
    '3000,"0.1,0.2,3,0,1': "quote",
    '3000,0.1,0.2,3,0,"1': "quote",
    "   ": "has 1 value, expected 6",
    "3000,0.1,\x00,3,0,1": "line 79",  # which Python 3.10 cannot split
    "3000,0.1,0.2,3\r,0,1": "line 79",
}


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
@pytest.mark.parametrize("line", BREAKS)
def test_broken_line_is_named_by_its_number_or_left_out(line, ending, pieces, tmp_path):
    lines = lines_of(150)
    whole = "\n".join(lines)
    lines.insert(77, line)
    lines.insert(20, "")  # blank lines are none, but count
    broken = "\n".join(lines)
    lines.insert(140, line)
    path = tmp_path / f"t{ending}"

    def put(text):
        path.write_bytes(gzip.compress(text.encode()) if ending == ".csv.gz" else text.encode())

    put(broken)
    refused(path, tmp_path / "x", "line 79", mass="mjj")
    refused(path, tmp_path / "y", BREAKS[line], mass="mjj")
    put("\n".join(lines))
    found = convert(path, tmp_path / "skipped.h5", mass="mjj", on_error="skip")
    assert found.events == 150 and found.counts["broken lines left out"] == 2 and found.counts["rows read"] == 152
    put(whole)
    convert(path, tmp_path / "whole.h5", mass="mjj")
    skipped, expected = (Events.from_file(tmp_path / f"{n}.h5") for n in ("skipped", "whole"))
    for field in ("features", "mass", "label", "weight"):
        np.testing.assert_array_equal(skipped.read(field), expected.read(field))


def test_broken_value_in_a_column_that_is_not_asked_for_does_no_harm(tmp_path):
    (tmp_path / "t.csv").write_text("mjj,name,x\n3000,QCD,1\n3100,,2\n")
    assert convert(tmp_path / "t.csv", tmp_path / "e.h5", mass="mjj", features=["x"]).events == 2
    refused(tmp_path / "t.csv", tmp_path / "y", "line 2, column 'name': 'QCD'", mass="mjj")


def test_empty_and_nan_cells_are_counted_per_column_or_their_events_left_out(pieces, tmp_path):
    lines = lines_of(30)
    for number, cells in [
        (5, ",0.1,0.2,3,0,1"),
        (6, "3000,nan,0.2,3,0,1"),
        (9, "3000,NA,inf,3,0,1"),
        (12, "3000,1,1,3,,1"),
    ]:
        lines[number] = cells
    (tmp_path / "t.csv").write_text("\n".join(lines))
    words = ["'mjj' 1", "'tau21_1' 2", "'tau21_2' 1", "'label' 1", "lines 2 to 31"]
    refused(tmp_path / "t.csv", tmp_path / "x", *words, mass="mjj")
    found = convert(tmp_path / "t.csv", tmp_path / "e.h5", mass="mjj", on_error="skip")
    assert found.events == 26 and found.counts["left out for NaN, infinite or empty values"] == 4
    assert found.counts["NaN, infinite or empty in tau21_1"] == 2
    good = [line for number, line in enumerate(lines) if number not in (0, 5, 6, 9, 12)]
    expected = np.array([[float(cell) for cell in line.split(",")] for line in good], np.float32)
    np.testing.assert_array_equal(Events.from_file(tmp_path / "e.h5").read("features"), expected[:, 1:4])


def test_nulls_of_parquet_are_counted_and_skipped_too(tmp_path):
    columns = {"mjj": [3000, None, 3200, 3300], "x": [1.0, 2.0, None, float("nan")], "flag": [True, None, False, True]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    refused(tmp_path / "t.parquet", tmp_path / "x", "'mjj' 1", "'x' 2", "'flag' 1", "rows 0 to 3", mass="mjj")
    found = convert(tmp_path / "t.parquet", tmp_path / "e.h5", mass="mjj", on_error="skip")
    assert found.events == 1
    assert Events.from_file(tmp_path / "e.h5").read("features").tolist() == [[1, 1]]


@pytest.mark.parametrize(
    "text, words",
    [
        (b"", ["is empty"]),
        (b"\n\n", ["empty"]),
        (b"mjj,x\n", ["header", "no events"]),
        (b"mjj,x\n\n\r\n", ["header", "no events"]),
        (b"mjj,x,mjj\n1,2,3\n", ["'mjj'", "more than once"]),
        (b"3000,0.1\n3100,0.2\n", ["number 3000", "columns", "2 values"]),
        (b"mjj x\n3000 1\n", ["blanks", "comma"]),
        (b"MJJ,x\n3000,1\n", ["no column 'mjj'", "did you mean 'MJJ'"]),
        (b"m_jj,x\n3000,1\n", ["no column 'mjj'", "did you mean 'm_jj'"]),
        (b",mjj,x\n0,3000,1\n", ["column 1 has no name", "index"]),
        ("mjj,größe\n3000,1\n".encode("latin-1"), ["UTF-8"]),
        ("mjj,x\n3000,1\n".encode("utf-16"), ["UTF-8"]),
        (b"mjj,x\r3000,1\r", ["line ends"]),
        (b"\x8f\x9bp4\x85\xc4\x00\xee\xf8C\xf7\xe4>\xbdj\0", ["line 1"]),
    ],
)
def test_text_that_is_no_table_is_told(text, words, tmp_path):
    (tmp_path / "t.csv").write_bytes(text)
    refused(tmp_path / "t.csv", tmp_path / "x", *words, mass="mjj")


def test_header_of_numbers_that_pandas_writes_is_not_taken_for_an_event(tmp_path):
    (tmp_path / "t.csv").write_text("0,1\n3000,0.5\n")
    refused(tmp_path / "t.csv", tmp_path / "x", "line 1 has names", mass="a", columns=["a", "b"])
    (tmp_path / "t.csv").write_text("mjj,x\n3000,0.5\n")
    refused(tmp_path / "t.csv", tmp_path / "x", "line 1 has names", mass="a", columns=["a", "b"])


def test_first_line_without_names_may_have_gaps(tmp_path):
    (tmp_path / "t.csv").write_text("3000,,QCD\n3100,0.5,QCD\n")
    refused(
        tmp_path / "t.csv", tmp_path / "x", "'b' 1", "lines 1 to 2", mass="a", features=["b"], columns=["a", "b", "c"]
    )


def test_cell_that_is_missing_is_not_blamed_for_one_that_is_broken(tmp_path):
    (tmp_path / "t.csv").write_text("mjj,a,b\n3000,NULL,x\n")
    refused(tmp_path / "t.csv", tmp_path / "x", "line 2, column 'b': 'x'", mass="mjj")


def test_quotes_that_reach_from_line_to_line_swallow_none_in_silence(tmp_path):
    (tmp_path / "t.csv").write_text('mjj,a,b\n2900,p,q\n3000,5","c\n3100,p,x"y"\n3200,p,q\n')
    refused(tmp_path / "t.csv", tmp_path / "x", "line 3 cannot be read", mass="mjj", features=["mjj"])
    found = convert(tmp_path / "t.csv", tmp_path / "e.h5", mass="mjj", features=["mjj"], on_error="skip")
    assert found.counts == {"rows read": 4, "broken lines left out": 2}
    assert Events.from_file(tmp_path / "e.h5").mass.tolist() == [2900, 3200]


def test_file_that_ends_within_a_quote_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text('mjj,x\n2900,1\n3000,"1')
    refused(tmp_path / "t.csv", tmp_path / "x", "line 3 has a quote", mass="mjj")


def test_decimal_comma_is_no_number(tmp_path):
    (tmp_path / "t.csv").write_text("mjj;x\n3000;0,5\n")
    refused(tmp_path / "t.csv", tmp_path / "x", "line 2, column 'x': '0,5'", mass="mjj")


def test_pattern_that_matches_nothing_is_named(tmp_path):
    WRITERS["comma.csv"](tmp_path / "t.csv", jets(5))
    refused(tmp_path / "t.csv", tmp_path / "x", "'tao*'", "tau21_1", mass="mjj", features=["mjj", "tao*"])
    refused(tmp_path / "t.csv", tmp_path / "x", "'tau2_1'", "did you mean 'tau21_", mass="mjj", features=["tau2_1"])
    refused(tmp_path / "t.csv", tmp_path / "x", "'lable'", "did you mean 'label'", mass="mjj", label="lable")


def test_line_without_end_is_refused_before_memory_is(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"mjj,x\n" + b"1," * 2**22)
    refused(tmp_path / "t.csv", tmp_path / "x", "line is longer", mass="mjj")


# -- files that are broken ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["zipped.csv.gz", "whole.parquet", "records.npy", "each.npz", "each_compressed.npz", "each.h5"]
)
@pytest.mark.parametrize("share", [0.03, 0.5, 0.97])
def test_truncated_file_is_refused(name, share, tmp_path):
    WRITERS[name](tmp_path / name, jets(5000))
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(share * len(data))])
    refused(tmp_path / name, tmp_path / "x", mass="mjj")
    assert not (tmp_path / "x.h5").exists()


@pytest.mark.parametrize("name", ["zipped.csv.gz", "each_compressed.npz", "whole.parquet"])
def test_damaged_file_is_refused(name, tmp_path):
    WRITERS[name](tmp_path / name, jets(5000))
    with open(tmp_path / name, "r+b") as file:
        file.seek(20_000)
        file.write(b"\xff" * 500)
    refused(tmp_path / name, tmp_path / "x", mass="mjj")


@pytest.mark.parametrize("ending", [".npy", ".npz", ".h5", ".parquet", ".csv", ".csv.gz"])
@pytest.mark.parametrize("content", [b"", b"not what its name says\0\xff" * 30])
def test_file_that_is_not_what_its_name_says_is_refused(ending, content, tmp_path):
    (tmp_path / f"t{ending}").write_bytes(content)
    refused(tmp_path / f"t{ending}", tmp_path / "x", mass="mjj")
    # Text is recognised unless it has a NUL, so that `convert` can say that it is empty.
    assert recognises(tmp_path / f"t{ending}") == ("csv" in ending and not content)


def test_unknown_ending_folder_and_absent_file_are_told(tmp_path):
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    refused(tmp_path / "t.xlsx", tmp_path / "x", ".xlsx", ".parquet", mass="mjj")
    (tmp_path / "t.csv").mkdir()
    refused(tmp_path / "t.csv", tmp_path / "x", "folder", mass="mjj")
    refused(tmp_path / "absent.npy", tmp_path / "x", "no such file", mass="mjj")


class Bomb:
    """Makes a file when it is read back: what an attacker would put into an array of objects."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("layout", ["npy", "records.npy", "npz", "names.npz"])
def test_python_objects_are_never_read(layout, tmp_path):
    bomb = np.array([Bomb(tmp_path / "bang")], object)
    path = tmp_path / f"t.{layout}"
    if layout == "npy":
        np.save(path, bomb.reshape(1, 1))
    elif layout == "records.npy":
        records = np.zeros(1, [("mjj", float), ("x", object)])
        records["x"] = bomb
        np.save(path, records)
    elif layout == "npz":
        np.savez(path, mjj=np.ones(1), x=bomb)
    else:
        np.savez(path, x=np.ones((1, 1)), columns=bomb)
    refused(path, tmp_path / "x", "Python objects", mass="mjj", **({"columns": ["mjj"]} if layout == "npy" else {}))
    assert not (tmp_path / "bang").exists()
    pickle.loads(pickle.dumps(Bomb(tmp_path / "bang")))
    assert (tmp_path / "bang").exists()  # which is what would have happened


def test_text_columns_of_a_dataframe_cannot_be_chosen_and_are_never_read(tmp_path):
    columns = jets(20)
    write_frame(tmp_path / "t.h5", columns)
    with h5py.File(tmp_path / "t.h5", "r+") as file:
        del file["df/axis0"]
        file["df/axis0"] = np.array([*columns, "name"], "S")
        file["df"].attrs["nblocks"] = 3
        file["df/block2_items"] = np.array([b"name"])
        kind = h5py.vlen_dtype(np.uint8)
        data = file["df"].create_dataset("block2_values", (1,), dtype=kind)
        data[0] = np.frombuffer(pickle.dumps(Bomb(tmp_path / "bang")), np.uint8)
    assert convert(tmp_path / "t.h5", tmp_path / "e.h5", mass="mjj", features=["tau*"]).events == 20
    refused(tmp_path / "t.h5", tmp_path / "x", "'name'", "expected numbers", mass="mjj")
    assert not (tmp_path / "bang").exists()


def test_table_that_lacks_names_is_recognised_so_that_they_can_be_given(tmp_path):
    (tmp_path / "t.csv").write_text("3000,0.5\n")
    np.save(tmp_path / "t.npy", np.ones((2, 2)))
    assert recognises(tmp_path / "t.csv") and recognises(tmp_path / "t.npy")
    assert not recognises(tmp_path / "t.xlsx") and not recognises(tmp_path)


def test_raw_hadrons_are_sent_to_clustering(tmp_path):
    from pipelines.datasets.find import find

    refused(find("lhco_rnd_real"), tmp_path / "x", "zoo data cluster", mass="0")


@pytest.mark.parametrize(
    "columns, word",
    [
        ({"mjj": [1.0], "x": ["a"]}, "string"),
        ({"mjj": [1.0], "x": [[1.0, 2.0]]}, "list"),
        ({"mjj": [1.0], "x": [{"y": 1}]}, "struct"),
    ],
)
def test_parquet_column_that_holds_no_number_is_named(columns, word, tmp_path):
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    refused(tmp_path / "t.parquet", tmp_path / "x", "'x'", word, "expected numbers", mass="mjj")


def test_parquet_column_that_is_there_twice_is_refused(tmp_path):
    table = pyarrow.Table.from_arrays([pyarrow.array([1.0])] * 3, names=["mjj", "x", "mjj"])
    parquet.write_table(table, tmp_path / "t.parquet")
    refused(tmp_path / "t.parquet", tmp_path / "x", "'mjj'", "more than once", mass="mjj")


def test_number_of_a_row_that_pandas_adds_is_no_feature(tmp_path):
    import pandas

    pandas.DataFrame(jets(20), index=np.arange(100, 120)[::-1]).to_parquet(tmp_path / "t.parquet")
    assert any("__index" in name for name in parquet.read_schema(tmp_path / "t.parquet").names)
    convert(tmp_path / "t.parquet", tmp_path / "e.h5", mass="mjj")
    assert Events.from_file(tmp_path / "e.h5").columns == ("tau21_1", "tau21_2", "njets")


def test_events_become_a_table_again_unless_they_have_objects(tmp_path):
    about = {"columns": ["mass", "mjj"], "mass_column": "mjj"}
    values = np.array([[80.0, 3000.0], [90.0, 3100.0]])
    Events.from_arrays(values, values[:, 1], **about).write(tmp_path / "a.h5")
    assert convert(tmp_path / "a.h5", tmp_path / "b.h5", mass="mass").events == 2  # the column, not the dataset
    assert Events.from_file(tmp_path / "b.h5").mass.tolist() == [80, 90]
    with h5py.File(tmp_path / "o.h5", "w") as file:
        file["mass"], file["objects"] = [3000.0], np.ones((1, 2, 1))
        file.attrs.update({"schema_version": 1, "columns": [], "object_columns": ["pt"]})
    refused(tmp_path / "o.h5", tmp_path / "x", "events file already", mass="mass")


def test_dataframe_in_the_table_layout_is_told(tmp_path):
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["df/table"] = np.zeros(3, [("index", int), ("values_block_0", float, (2,))])
        file["df"].attrs["pandas_type"] = np.bytes_(b"frame_table")
    refused(tmp_path / "t.h5", tmp_path / "x", "'table' layout", "format='fixed'", mass="mjj")


def test_columns_of_different_lengths_are_refused(tmp_path):
    np.savez(tmp_path / "t.npz", mjj=np.ones(5), x=np.ones(4))
    refused(tmp_path / "t.npz", tmp_path / "x", "different lengths", "'x' (4,)", mass="mjj")


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".npz"])  # an .npy file is mapped, which costs nothing
def test_memory_does_not_grow_with_the_file(ending, tmp_path):
    names = [f"x{i}" for i in range(12)]
    for name, rows in [("small", 100_000), ("large", 600_000)]:
        path = tmp_path / f"{name}{ending}"
        if ending == ".npz":
            np.savez(path, x=np.full((rows, 12), 3000.0, order="F"), columns=names)
        else:
            text = (",".join(names) + "\n" + (",".join(["3000.123"] * 12) + "\n") * rows).encode()
            path.write_bytes(gzip.compress(text, 1) if ending == ".csv.gz" else text)
    code = (
        "import re, sys; from pipelines.datasets import table\n"
        "def peak(name):\n"
        f"    table.convert(name + '{ending}', name + '.h5', mass='x0', features=['x1', 'x2'])\n"
        "    return int(re.search('VmHWM:\\\\s+(\\\\d+)', open('/proc/self/status').read())[1])\n"
        "print(-peak('small') + peak('large'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < 30e6, "the files are larger by 50 MB"
