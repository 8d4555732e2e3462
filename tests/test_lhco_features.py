"""Published high-level features become our columns, by the formulas of the jets we cluster ourselves."""

import math

import h5py
import hdf5plugin
import numpy as np
import pytest

from pipelines.datasets import lhco, lhco_features
from pipelines.datasets.find import find
from pipelines.datasets.lhco_features import COLUMNS, PUBLISHED_COLUMNS, read_chunk
from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.features import jets


def text(value):
    """A string as PyTables stores it: of fixed length, marked as UTF-8."""
    return np.array(value.encode(), h5py.string_dtype("utf-8", len(value))) if value else h5py.Empty("S1")


def pandas_fixed(path, blocks, group="df", blosc=True):
    """Write a data frame as pandas 0.15 to 3.1 does with PyTables: blocks are (names, values (N, F))."""
    filters = dict(hdf5plugin.Blosc(cname="blosclz", clevel=5, shuffle=1)) if blosc else {}
    array = {"CLASS": text("CARRAY"), "VERSION": text("1.1"), "TITLE": text(""), "transposed": np.uint8(1)}

    def store(frame, key, values, chunks=None, **attributes):
        data = frame.create_dataset(key, data=values, chunks=chunks or values.shape, **filters)
        data.attrs.update(array | attributes)

    rows = len(blocks[0][1])
    with h5py.File(path, "w") as file:
        file.attrs.update(CLASS=text("GROUP"), PYTABLES_FORMAT_VERSION=text("2.1"), TITLE=text(""), VERSION=text("1.0"))
        frame = file.create_group(group)
        frame.attrs.update(CLASS=text("GROUP"), pandas_type=text("frame"), pandas_version=text("0.15.2"))
        frame.attrs.update(ndim=2, nblocks=len(blocks), encoding=text("UTF-8"), errors=text("strict"))
        names = np.array([name for names, _ in blocks for name in names], "S")
        store(frame, "axis0", names, kind=text("string"), name=text("N."))
        store(frame, "axis1", np.arange(rows), kind=text("integer"), name=text("N."))
        for key in ("axis0", "axis1", *(f"block{i}_items" for i in range(len(blocks)))):
            frame.attrs[f"{key}_variety"] = text("regular")
        for i, (items, values) in enumerate(blocks):
            store(frame, f"block{i}_items", np.array(items, "S"), kind=text("string"), name=text("N."))
            store(frame, f"block{i}_values", values, chunks=(min(7, rows), values.shape[1]))
    return path


def events(size=100, seed=0):
    """Two massive jets back to back, (N, 14), with N-subjettiness as sums in GeV."""
    rng = np.random.default_rng(seed)
    pt, phi = rng.uniform(1200, 2000, size), rng.uniform(-math.pi, math.pi, size)
    parts = []
    for scale, turn in ((1.0, 0.0), (0.9, math.pi)):
        tau = np.sort(rng.uniform(1, 300, (size, 3)), axis=1)[:, ::-1]
        pz, m = rng.normal(0, 800, size), rng.uniform(10, 600, size)
        parts += [scale * pt * np.cos(phi + turn), scale * pt * np.sin(phi + turn), pz, m, *tau.T]
    return np.stack(parts, axis=1)


def mixed(path, values=None, label=None, **options):
    """The layout of the published mixed file: 15 columns of one type."""
    values = events() if values is None else values
    label = np.arange(len(values)) % 2 if label is None else label
    return pandas_fixed(path, [((*PUBLISHED_COLUMNS, "label"), np.c_[values, label])], **options)


@pytest.fixture
def source(tmp_path):
    return mixed(tmp_path / "events_anomalydetection_v2.features.h5")


def column(arrays, name):
    return arrays["features"][:, COLUMNS.index(name)]


def set_to(name, value, rows=slice(7, 8)):
    values = events()
    values[rows, PUBLISHED_COLUMNS.index(name)] = value
    return values


# -- formulas -----------------------------------------------------------------------------------------------


def test_columns_are_a_part_of_those_of_clustered_jets_with_their_units():
    places = [jets.COLUMNS.index(name) for name in COLUMNS]
    assert places == sorted(places)
    assert [jets.UNITS[place] for place in places] == list(lhco_features.UNITS)


def test_features_of_real_jets_are_what_clustering_them_gives(tmp_path):
    pt, eta, phi, counts, label = next(lhco.read_raw(find("lhco_rnd_real")))
    ours = jets.cluster_events(pt, eta, phi, counts).astype(np.float64)
    of = {name: ours[:, i] for i, name in enumerate(jets.COLUMNS)}
    values = []
    for jet in "12":
        pt_j, eta_j, phi_j = (of[f"{name}_{jet}"] for name in ("pt", "eta", "phi"))
        values += [pt_j * np.cos(phi_j), pt_j * np.sin(phi_j), pt_j * np.sinh(eta_j), of[f"mass_{jet}"]]
        values += [of[f"tau{n}_{jet}"] * pt_j for n in (1, 2, 3)]  # sums in GeV
    arrays = read_chunk(mixed(tmp_path / "f.h5", np.stack(values, axis=1), label))
    for name in COLUMNS:  # single precision is what they were rounded to
        np.testing.assert_allclose(column(arrays, name), of[name], rtol=1e-6, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(arrays["mass"], of["mj1j2"], rtol=1e-6)
    np.testing.assert_array_equal(arrays["label"], label)


def test_one_event_by_hand(tmp_path):
    row = [3.0e2, 4.0e2, 1.2e3, 100.0, 50.0, 20.0, 10.0, -300.0, -400.0, 0.0, 0.0, 5.0, 4.0, 1.0]
    arrays = read_chunk(mixed(tmp_path / "f.h5", np.array([row]), [1]))
    e1, e2 = math.sqrt(1300.0**2 + 100.0**2), 500.0
    expected = {"pt_1": 500.0, "phi_1": math.atan2(4, 3), "eta_1": math.asinh(2.4), "mass_1": 100.0, "e_1": e1}
    expected |= {"tau1_1": 0.1, "tau2_1": 0.04, "tau3_1": 0.02, "tau21_1": 0.4, "tau32_1": 0.5}
    expected |= {"pt_2": 500.0, "eta_2": 0.0, "mass_2": 0.0, "e_2": e2, "tau21_2": 0.8, "tau32_2": 0.25}
    expected |= {"mj1j2": math.sqrt((e1 + e2) ** 2 - 1200.0**2)}
    assert {name: pytest.approx(column(arrays, name)[0]) for name in expected} == expected
    assert arrays["features"].shape == (1, 21) and arrays["label"].dtype == np.int8


def test_jets_are_put_in_the_order_of_pt_and_counted(tmp_path):
    values = events()
    turned = values[:, [*range(7, 14), *range(7)]]
    both = np.where((np.arange(100) % 4 == 0)[:, None], turned, values)
    expected = read_chunk(mixed(tmp_path / "a.h5", values))
    arrays, counts = lhco_features._chunk(mixed(tmp_path / "b.h5", both), 0, None, None)
    np.testing.assert_array_equal(arrays["features"], expected["features"])
    assert counts == {"events with jets not in order of pt": 25}


def test_normalised_tau_is_left_as_it_is(tmp_path):
    values = events()
    for jet in (1, 2):
        columns = [PUBLISHED_COLUMNS.index(f"tau{n}j{jet}") for n in (1, 2, 3)]
        values[:, columns] /= 1000.0
    path = mixed(tmp_path / "f.h5", values)
    np.testing.assert_array_equal(column(read_chunk(path), "tau2_1"), values[:, 5])
    assert lhco_features.describe(path)["tau"] == "normalised"


def test_what_is_undefined_is_zero(tmp_path):
    values = events()
    values[0, 4:7] = 0  # a jet of one particle
    values[1, 6] = 0
    values[2, 5:7] = 0
    values[3, 7:14] = 0  # one jet only
    values[4] = 0
    arrays = read_chunk(mixed(tmp_path / "f.h5", values))
    assert np.isfinite(arrays["features"]).all()
    assert [column(arrays, f"tau{n}_1")[0] for n in (1, 2, 3, 32, 21)] == [0] * 5
    assert column(arrays, "tau32_1")[1] == 0 < column(arrays, "tau21_1")[1]
    assert column(arrays, "tau32_1")[2] == column(arrays, "tau21_1")[2] == 0
    assert arrays["features"][3, 10:20].tolist() == [0] * 10
    assert arrays["mass"][3] == pytest.approx(values[3, 3])  # of the one jet there is
    assert arrays["features"][4].tolist() == [0] * 21


def test_massless_jets_with_rounding_below_zero_have_no_mass(tmp_path):
    values = set_to("mj1", -0.3)
    energy = math.sqrt(sum(values[7, :3] ** 2))
    arrays = read_chunk(mixed(tmp_path / "f.h5", values))
    assert column(arrays, "mass_1")[7] == 0 and column(arrays, "e_1")[7] == pytest.approx(energy)


# -- layouts of pandas --------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["df", "features"])
@pytest.mark.parametrize("blosc", [True, False])
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_blocks_of_any_order_type_and_compression_are_read(tmp_path, group, blosc, kind):
    values, label = events(), np.arange(100) % 2
    whole = read_chunk(mixed(tmp_path / "whole.h5", values, label))
    order = np.random.default_rng(1).permutation(14)
    blocks = [
        (("label",), label[:, None].astype(np.int64)),
        ([PUBLISHED_COLUMNS[i] for i in order[:5]], values[:, order[:5]].astype(kind)),
        ([*(PUBLISHED_COLUMNS[i] for i in order[5:]), "other"], np.c_[values[:, order[5:]], label]),
    ]
    path = pandas_fixed(tmp_path / "blocks.h5", blocks, group, blosc)
    assert lhco_features.recognises(path) and lhco_features.rows(path) == 100
    arrays = read_chunk(path)
    np.testing.assert_allclose(arrays["features"], whole["features"], rtol=1e-6 if kind == np.float32 else 0, atol=1e-4)
    np.testing.assert_array_equal(arrays["label"], label)


def test_the_files_of_these_tests_are_what_pandas_reads_and_the_other_way_round(tmp_path):
    pytest.importorskip("tables", reason="pandas reads HDF5 by PyTables only")
    import pandas

    values, label = events(), np.arange(100) % 2
    frame = pandas.read_hdf(mixed(tmp_path / "ours.h5", values, label))
    assert list(frame.columns) == [*PUBLISHED_COLUMNS, "label"]
    np.testing.assert_array_equal(frame.to_numpy(), np.c_[values, label])
    frame.astype({"label": int}).to_hdf(tmp_path / "theirs.h5", key="df", complib="blosc", complevel=5)
    ours, theirs = read_chunk(tmp_path / "ours.h5"), read_chunk(tmp_path / "theirs.h5")
    np.testing.assert_array_equal(ours["features"], theirs["features"])
    np.testing.assert_array_equal(ours["label"], theirs["label"])
    frame.to_hdf(tmp_path / "table.h5", key="df", format="table")
    with pytest.raises(InputError, match="'df' is in pandas' 'table' layout"):
        read_chunk(tmp_path / "table.h5")
    frame[:0].to_hdf(tmp_path / "empty.h5", key="df")
    with pytest.raises(InputError, match="has no rows"):
        read_chunk(tmp_path / "empty.h5")


def test_slices_are_parts_of_the_whole(source):
    whole = read_chunk(source)
    for start, stop in ((0, 1), (13, 57), (99, 100), (90, 1000)):
        part = read_chunk(source, start, stop)
        for name in whole:
            np.testing.assert_array_equal(part[name], whole[name][start:stop])


def test_files_of_other_kinds_are_not_recognised(tmp_path):
    assert not lhco_features.recognises(find("lhco_rnd_real"))
    assert not lhco_features.recognises(find("lhco_sim_test"))
    assert not lhco_features.recognises(tmp_path / "none.h5")


def test_description_tells_events_labels_and_units(source, tmp_path):
    found = lhco_features.describe(source)
    assert found["events"] == 100 and found["labels"] == "in the column label" and "GeV" in found["tau"]
    blind = pandas_fixed(tmp_path / "f.h5", [(PUBLISHED_COLUMNS, events())])
    assert lhco_features.describe(blind)["labels"] == "none"


# -- bad files ----------------------------------------------------------------------------------------------


def refused(path, *parts, **options):
    with pytest.raises(InputError) as error:
        read_chunk(path, **options)
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    for part in parts:
        assert part in message, message


def test_missing_columns_are_named(tmp_path):
    keep = [i for i, name in enumerate(PUBLISHED_COLUMNS) if name not in ("tau3j1", "mj2")]
    path = pandas_fixed(tmp_path / "f.h5", [([PUBLISHED_COLUMNS[i] for i in keep], events()[:, keep])])
    assert lhco_features.recognises(path)
    refused(path, "no column tau3j1, mj2; it has pxj1, pyj1")


def test_raw_hadrons_are_sent_to_clustering():
    refused(find("lhco_rnd_real"), "no column pxj1", "zoo data cluster")


def test_columns_of_text_are_refused(tmp_path):
    blocks = [(PUBLISHED_COLUMNS[1:], events()[:, 1:]), (("pxj1",), np.full((100, 1), b"1.0"))]
    refused(pandas_fixed(tmp_path / "f.h5", blocks), "pxj1 (|S3), expected numbers")


def test_table_layout_is_named_with_what_to_do(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["df/table"] = np.zeros(3, [("index", "i8"), ("values_block_0", "f8", (15,))])
    refused(tmp_path / "f.h5", "'table' layout", "format='fixed'")


def test_other_hdf5_is_refused(tmp_path):
    refused(find("lhco_sim_test"), "0 data frames", "features")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["x"] = [1.0]
    refused(tmp_path / "f.h5", "expected one; has ['x']")


def test_damaged_frames_are_refused(tmp_path):
    path = mixed(tmp_path / "f.h5")
    with h5py.File(path, "a") as file:
        del file["df/block0_items"]
    refused(path, "block0 of /df has no values for its items")
    blocks = [(PUBLISHED_COLUMNS, events()), (("label",), np.zeros((99, 1)))]
    refused(pandas_fixed(tmp_path / "g.h5", blocks), "[99, 100] rows")


def test_truncated_file_is_refused(source):
    source.write_bytes(source.read_bytes()[:-3000])
    refused(source, "damaged or truncated")


def test_damaged_rows_are_named(source):
    with h5py.File(source) as file:
        offset = file["df/block0_values"].id.get_chunk_info(4).byte_offset
    content = bytearray(source.read_bytes())
    content[offset : offset + 64] = bytes(64)
    source.write_bytes(content)
    refused(source, "cannot be read", start=0, stop=100)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_names_column_and_count(tmp_path, value):
    refused(mixed(tmp_path / "f.h5", set_to("tau2j2", value, slice(7, 9))), "'tau2j2' 2", "rows 0 to 99")


@pytest.mark.parametrize(
    "name, value, found",
    [
        ("mj1", -200.0, "mass -200 (column mj1), expected 0 or more"),
        ("tau1j2", -1.0, "tau1 -1 (column tau1j2), expected 0 or more"),
        ("pxj2", 1e6, "expected at most 14,000 GeV; is it in MeV?"),
    ],
)
def test_impossible_values_name_the_row(tmp_path, name, value, found):
    path = mixed(tmp_path / "f.h5", set_to(name, value))
    refused(path, "row 7 has a jet of ", found)
    refused(path, "row 7 ", start=5, stop=20)
    assert len(read_chunk(path, 10, 20)["mass"]) == 10


def test_jet_along_the_beam_names_the_row(tmp_path):
    values = events()
    values[7, :2] = 0
    refused(mixed(tmp_path / "f.h5", values), "row 7", "pz", "along the beam")


@pytest.mark.parametrize("factor, unit", [(1e3, "MeV"), (1e-3, "TeV")])
def test_wrong_units_are_suspected(tmp_path, factor, unit):
    refused(mixed(tmp_path / "f.h5", events() * factor), f"is it in {unit}?")


@pytest.mark.parametrize("label", [0.5, -1, 128])
def test_labels_that_are_none_are_refused(tmp_path, label):
    refused(mixed(tmp_path / "f.h5", label=np.full(100, label)), f"label {label:g}, expected")


# -- events files -------------------------------------------------------------------------------------------


def test_conversion_gives_the_same_events_in_any_chunks(source, tmp_path):
    whole = read_chunk(source)
    steps = []
    for chunk in (100, 33):
        outcome = lhco_features.convert(
            source, tmp_path / f"{chunk}.h5", chunk=chunk, progress=lambda *at: steps.append(at), license="CC BY 4.0"
        )
        found = Events.from_file(tmp_path / f"{chunk}.h5")
        assert outcome.events == len(found) == 100
        assert found.columns == COLUMNS and found.about.mass_column == "mj1j2" and found.about.license == "CC BY 4.0"
        assert found.about.label_names == {0: "background", 1: "signal"}
        np.testing.assert_array_equal(found.read("features"), whole["features"].astype(np.float32))
        np.testing.assert_array_equal(found.mass, whole["mass"].astype(np.float32))
        np.testing.assert_array_equal(found.label, whole["label"])
    assert steps == [(100, 100), (33, 100), (66, 100), (99, 100), (100, 100)]


def test_conversion_joins_files_and_labels_those_that_have_none(source, tmp_path):
    signal = pandas_fixed(tmp_path / "three.features.h5", [(PUBLISHED_COLUMNS, events(50, seed=5))])
    outcome = lhco_features.convert([source, signal], tmp_path / "out.h5", label=2, chunk=40)
    found = Events.from_file(tmp_path / "out.h5")
    assert outcome.events == 150 and np.bincount(found.label).tolist() == [50, 50, 50]
    assert found.label[100:].tolist() == [2] * 50 and found.about.label_names[2] == "signal 2"
    assert "three.features.h5" in found.about.source


def test_conversion_without_labels_has_none(tmp_path):
    blind = pandas_fixed(tmp_path / "f.h5", [(PUBLISHED_COLUMNS, events())])
    lhco_features.convert(blind, tmp_path / "out.h5")
    found = Events.from_file(tmp_path / "out.h5")
    assert not found.has_labels and found.about.label_names == {}
    lhco_features.convert([blind], tmp_path / "signal.h5", label=1)
    assert set(Events.from_file(tmp_path / "signal.h5").label.tolist()) == {1}


def test_conversion_that_cannot_be_is_refused_before_any_work(source, tmp_path):
    blind = pandas_fixed(tmp_path / "f.h5", [(PUBLISHED_COLUMNS, events())])
    for sources, options, reason in (
        ([source, blind], {}, "f.h5: has no labels, others have"),
        ([source], {"label": 1}, "has its own labels"),
        ([blind], {"label": 300}, "label 300"),
        ([], {}, "no files given"),
        ([blind], {"chunk": 0}, "chunk is 0"),
        ([tmp_path / "none.h5"], {}, "none.h5: no such file"),
    ):
        with pytest.raises(InputError, match=reason):
            lhco_features.convert(sources, tmp_path / "out.h5", **options)
    refused(source, "has its own labels", label=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, "f.h5"]


def test_bad_row_leaves_no_output(tmp_path):
    path = mixed(tmp_path / "f.h5", set_to("mj1", -200.0, slice(77, 78)))
    with pytest.raises(InputError, match="row 77"):
        lhco_features.convert(path, tmp_path / "out.h5", chunk=200)
    assert not (tmp_path / "out.h5").exists()


def test_two_workers_give_the_same_file(source, tmp_path):
    lhco_features.convert(source, tmp_path / "one.h5", chunk=25)
    lhco_features.convert(source, tmp_path / "two.h5", chunk=25, workers=2)
    one, two = (Events.from_file(tmp_path / name) for name in ("one.h5", "two.h5"))
    np.testing.assert_array_equal(one.read("features"), two.read("features"))
    np.testing.assert_array_equal(one.label, two.label)
