"""Raw LHC Olympics files: what is read, what is refused and how, and what becomes of them."""

import h5py
import numpy as np
import pytest

from pipelines import Events, InputError
from pipelines.datasets import lhco
from pipelines.datasets.catalog import FOLDER
from pipelines.features.images import ImageOptions
from pipelines.features.jets import COLUMNS, UNITS, JetOptions, cluster_events, find_jets

REAL, SIMULATED = FOLDER / "lhco_rnd_real.h5", FOLDER / "lhco_sim_test.h5"


@pytest.fixture(scope="module")
def table():
    """The first 40 rows of the real file, as published: 2100 columns and the label."""
    with h5py.File(REAL) as file:
        return file["df/block0_values"][:40]


@pytest.fixture
def write_raw(tmp_path):
    def write(rows, name="raw.h5", dataset="df/block0_values"):
        with h5py.File(tmp_path / name, "w") as file:
            file[dataset] = rows
        return tmp_path / name

    return write


@pytest.fixture
def write_key(tmp_path):
    def write(text, name="events.masterkey"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    return write


def read_all(*arguments, **options):
    blocks = list(zip(*lhco.read_raw(*arguments, **options), strict=True))
    return [np.concatenate(part) for part in blocks]


# -- reading ------------------------------------------------------------------------------------------------


def test_published_file_is_blosc_compressed_and_still_read():
    with h5py.File(REAL) as file:
        assert file["df/block0_values"].id.get_create_plist().get_filter(0)[0] == 32001
    pt, eta, phi, counts, label = read_all(REAL)
    assert counts.shape == label.shape == (1000,)
    assert counts.sum() == len(pt) == len(eta) == len(phi)
    assert (np.bincount(label) == [907, 93]).all()


def test_hadrons_are_the_rows_of_the_file_without_padding(table):
    pt, eta, phi, counts, label = next(lhco.read_raw(REAL, block=40))
    start = 0
    for row, count in zip(table, counts, strict=True):
        event = row[:2100].reshape(700, 3)
        np.testing.assert_array_equal(np.stack([pt, eta, phi], axis=1)[start : start + count], event[:count])
        assert (event[:count, 0] > 0).all() and not event[count:].any()
        start += count
    np.testing.assert_array_equal(label, table[:, 2100])


@pytest.mark.parametrize("block", [1, 7, 39, 40, 1000])
def test_blocks_give_every_event_once_in_order(block, table, write_raw):
    path = write_raw(table)
    blocks = list(lhco.read_raw(path, block=block))
    assert [len(b[3]) for b in blocks] == [min(block, 40 - start) for start in range(0, 40, block)]
    for whole, parts in zip(next(lhco.read_raw(path)), zip(*blocks, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_black_box_without_key_has_no_labels(table, write_raw):
    *_, label = next(lhco.read_raw(write_raw(table[:, :2100])))
    assert label is None


@pytest.mark.parametrize("line", ["{:d}\n", "{:.1f}\n", "{:.18e}\r\n"])
def test_master_key_gives_the_labels_of_a_black_box(line, table, write_raw, write_key):
    truth = np.arange(40) % 3 == 0
    key = write_key("".join(line.format(int(t)) for t in truth))
    *_, label = read_all(write_raw(table[:, :2100]), key, block=15)
    np.testing.assert_array_equal(label, truth)
    assert label.dtype == np.int8


def test_key_without_a_final_newline_is_complete(table, write_raw, write_key):
    *_, label = next(lhco.read_raw(write_raw(table[:2, :2100]), write_key("0\n1")))
    assert label.tolist() == [0, 1]


def test_event_without_hadrons_keeps_its_place(table, write_raw):
    rows = table[:3].copy()
    rows[1, :2100] = 0
    pt, _, _, counts, _ = next(lhco.read_raw(write_raw(rows)))
    assert counts[1] == 0 and counts.sum() == len(pt)


def test_raw_files_are_told_from_others(table, write_raw, tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not HDF5")
    assert lhco.recognises(REAL)
    assert lhco.recognises(write_raw(table[:, :2100], "unlabelled.h5"))
    for other in (
        SIMULATED,
        text,
        tmp_path,
        tmp_path / "missing.h5",
        write_raw(table[:, :2000], "narrow.h5"),
    ):
        assert not lhco.recognises(other)


# -- refusing -----------------------------------------------------------------------------------------------


def assert_one_line_naming(error, path, *words):
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    for word in words:
        assert word in message, message


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError) as error:
        lhco.read_raw(tmp_path / "absent.h5")
    assert_one_line_naming(error, tmp_path / "absent.h5", "no such file")


def test_text_file_is_not_hdf5(write_key):
    path = write_key("1\n2\n3\n", "events.h5")
    with pytest.raises(InputError) as error:
        lhco.read_raw(path)
    assert_one_line_naming(error, path, "not an HDF5 file")


def test_features_file_is_not_a_raw_file():
    with pytest.raises(InputError) as error:
        lhco.read_raw(SIMULATED)
    assert_one_line_naming(error, SIMULATED, "df/block0_values", "features", "expected")


@pytest.mark.parametrize("columns", [47, 2099, 2102])
def test_wrong_number_of_columns_is_named_with_the_right_ones(columns, write_raw):
    path = write_raw(np.zeros((2, columns)))
    with pytest.raises(InputError) as error:
        lhco.read_raw(path)
    assert_one_line_naming(error, path, str(columns), "2100", "2101")


@pytest.mark.parametrize("lines", [39, 41])
def test_key_of_another_file_has_another_number_of_lines(lines, table, write_raw, write_key):
    key = write_key("0\n" * lines)
    with pytest.raises(InputError) as error:
        lhco.read_raw(write_raw(table[:, :2100]), key)
    assert_one_line_naming(error, key, f"{lines} lines", "expected 40")


@pytest.mark.parametrize("value", ["-1", "128", "0.5", "signal", "nan", "inf", ""])
def test_key_value_that_is_no_label_names_its_line(value, table, write_raw, write_key):
    key = write_key("0\n1\n" + value + "\n0\n")
    with pytest.raises(InputError) as error:
        lhco.read_raw(write_raw(table[:4, :2100]), key)
    assert_one_line_naming(error, key, "line 3", repr(value), "expected 0")


def test_key_of_the_third_black_box_has_two_signals(table, write_raw, write_key):
    *_, label = next(lhco.read_raw(write_raw(table[:4, :2100]), write_key("0.0\n2.0\n1.0\n0.0\n")))
    assert label.tolist() == [0, 2, 1, 0]


def test_key_that_is_missing_or_binary_is_named(table, write_raw, write_key, tmp_path):
    path = write_raw(table[:, :2100])
    for key, reason in (
        (tmp_path / "absent", "No such file"),
        (write_key(b"\xff\xfe0\n"), "not a text file"),
    ):
        with pytest.raises(InputError) as error:
            lhco.read_raw(path, key)
        assert_one_line_naming(error, key, reason)


def test_key_for_a_file_with_labels_is_refused(table, write_raw, write_key):
    path = write_raw(table)
    with pytest.raises(InputError) as error:
        lhco.read_raw(path, write_key("0\n" * 40))
    assert_one_line_naming(error, path, "label column", "leave the key")


@pytest.mark.parametrize("quantity, value", [(0, np.nan), (0, np.inf), (0, -3.0), (1, np.nan), (2, np.inf)])
def test_impossible_momentum_names_the_row_of_the_file(quantity, value, table, write_raw):
    rows = table.copy()
    rows[23, 3 * 5 + quantity] = value
    path = write_raw(rows)
    with pytest.raises(InputError) as error:
        list(lhco.read_raw(path, block=10))
    assert_one_line_naming(error, path, "row 23", f"{value:g}")


@pytest.mark.parametrize("value", [-1, 0.5, np.nan, 128])
def test_label_that_is_no_label_names_its_row(value, table, write_raw):
    rows = table.copy()
    rows[31, 2100] = value
    path = write_raw(rows)
    with pytest.raises(InputError) as error:
        list(lhco.read_raw(path, block=10))
    assert_one_line_naming(error, path, "row 31", f"{value:g}")


def test_truncated_download_is_refused(tmp_path):
    path = tmp_path / "partial.h5"
    path.write_bytes(REAL.read_bytes()[:500_000])
    with pytest.raises(InputError) as error:
        list(lhco.read_raw(path))
    assert_one_line_naming(error, path)


def test_damaged_rows_are_named(tmp_path, table):
    path = tmp_path / "damaged.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("df/block0_values", data=table, chunks=(7, 2101), fletcher32=True)
        place = file["df/block0_values"].id.get_chunk_info(3).byte_offset
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(b"damaged")
    with pytest.raises(InputError) as error:
        list(lhco.read_raw(path, block=10))
    assert_one_line_naming(error, path, "rows 20 to 29", "download")


def test_empty_blocks_are_refused():
    with pytest.raises(InputError, match="block is 0, expected at least 1"):
        lhco.read_raw(REAL, block=0)


# -- clustering to events -----------------------------------------------------------------------------------


def test_events_hold_the_jet_variables_the_dijet_mass_and_the_labels(table, write_raw, tmp_path):
    raw, out = write_raw(table), tmp_path / "events.h5"
    assert lhco.convert([raw], out, block=16, license="CC BY 4.0", citation="LHC Olympics").events == 40
    events = Events.from_file(out)
    *hadrons, label = next(lhco.read_raw(raw))
    expected = cluster_events(*hadrons)
    np.testing.assert_array_equal(events.read("features"), expected)
    np.testing.assert_array_equal(events.mass, expected[:, COLUMNS.index("mj1j2")])
    np.testing.assert_array_equal(events.label, label)
    assert (events.columns, events.about.units) == (COLUMNS, UNITS)
    assert events.about.mass_column == "mj1j2" and events.about.dataset == "lhco"
    assert events.about.label_names == {0: "background", 1: "signal", 2: "signal 2"}
    assert "raw.h5" in events.about.source and (events.about.license, events.about.citation) == (
        "CC BY 4.0",
        "LHC Olympics",
    )


def test_events_of_a_black_box_have_labels_only_with_its_key(table, write_raw, write_key, tmp_path):
    raw, truth = write_raw(table[:6, :2100]), [0, 1, 0, 0, 1, 1]
    lhco.convert([raw], tmp_path / "blind.h5")
    assert not Events.from_file(tmp_path / "blind.h5").has_labels
    lhco.convert([raw], tmp_path / "open.h5", key=write_key("".join(f"{t}\n" for t in truth)), block=4)
    assert Events.from_file(tmp_path / "open.h5").label.tolist() == truth


def test_clustering_reports_its_progress(table, write_raw, tmp_path):
    seen = []
    lhco.convert([write_raw(table)], tmp_path / "events.h5", block=15, progress=lambda *step: seen.append(step))
    assert seen == [(15, 40), (30, 40), (40, 40)]


def test_jet_options_reach_the_clustering(table, write_raw, tmp_path):
    raw = write_raw(table)
    lhco.convert([raw], tmp_path / "narrow.h5", jets=JetOptions(radius=0.4))
    lhco.convert([raw], tmp_path / "wide.h5")
    narrow, wide = (Events.from_file(tmp_path / f"{name}.h5").read("features", ["nc_1"]) for name in ("narrow", "wide"))
    assert narrow.mean() < wide.mean()


def test_labels_of_several_signals_keep_their_names(table, write_raw, tmp_path):
    rows = table[:3].copy()
    rows[:, 2100] = [0, 1, 2]
    names = {0: "background", 1: "two-prong", 2: "three-prong"}
    lhco.convert([write_raw(rows)], tmp_path / "events.h5", label_names=names)
    events = Events.from_file(tmp_path / "events.h5")
    assert events.label.tolist() == [0, 1, 2] and events.about.label_names == names


def test_failed_clustering_leaves_nothing_behind(table, write_raw, tmp_path):
    rows = table.copy()
    rows[33, 0] = np.nan
    raw = write_raw(rows)
    with pytest.raises(InputError, match="row 33"):
        lhco.convert([raw], tmp_path / "events.h5", block=10)
    assert list(tmp_path.iterdir()) == [raw]


def test_wrong_options_are_found_before_any_work(table, write_raw, tmp_path):
    raw, seen = write_raw(table), []
    for options, words in (({"block": 0}, "block is 0"), ({"mass": "mj1j3"}, "'mj1j3'.*mj1j2")):
        with pytest.raises(InputError, match=words):
            lhco.convert([raw], tmp_path / "events.h5", progress=lambda *step: seen.append(step), **options)
    assert not seen and list(tmp_path.iterdir()) == [raw]


def test_three_jets_by_mass_with_images_and_the_mass_asked_for(table, write_raw, tmp_path):
    raw, options, images = write_raw(table), JetOptions(njets=3, order="mass"), ImageOptions(pixels=7)
    done = lhco.convert([raw], tmp_path / "e.h5", jets=options, images=images, mass="mj1j2", block=15)
    *hadrons, _ = next(lhco.read_raw(raw))
    expected, events = find_jets(*hadrons, options, images), Events.from_file(tmp_path / "e.h5")
    np.testing.assert_array_equal(events.read("features"), expected.features)
    np.testing.assert_array_equal(events.read("images"), expected.images)
    np.testing.assert_array_equal(events.mass, expected.features[:, events.columns.index("mj1j2")])
    assert done.counts == {"events with fewer than 3 jets": expected.incomplete}
    lhco.convert([raw], tmp_path / "default.h5", jets=options)
    assert Events.from_file(tmp_path / "default.h5").about.mass_column == "mj1j2j3"


def test_several_files_are_one_whoever_does_the_work(table, write_raw, tmp_path):
    import distributed

    raws = [write_raw(table[:25]), write_raw(table[25:], "more.h5")]
    # threads that are reached by TCP: two processes would first import for seconds
    options = {"dashboard_address": ":0", "memory_limit": 0, "processes": False, "protocol": "tcp://"}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster:
        lhco.convert(raws, tmp_path / "two.h5", block=10, scheduler=cluster.scheduler_address)
    lhco.convert([write_raw(table, "all.h5")], tmp_path / "one.h5")
    two, one = (Events.from_file(tmp_path / f"{name}.h5") for name in ("two", "one"))
    for field in ("features", "mass", "label"):
        np.testing.assert_array_equal(two.read(field), one.read(field))
    blind = write_raw(table[:, :2100], "blind.h5")
    with pytest.raises(InputError, match=r"blind.h5: no labels, which .*raw.h5 has"):
        lhco.convert([raws[0], blind], tmp_path / "x.h5")


def test_existing_output_is_kept(table, write_raw, tmp_path):
    out = tmp_path / "events.h5"
    out.write_text("precious")
    with pytest.raises(InputError, match="exists"):
        lhco.convert([write_raw(table)], out)
    assert out.read_text() == "precious"


def write_frame(path, table, dtype, key="df", label_first=False):
    """Write raw events as pandas does whose label is of another type than the hadrons: two blocks, in either order."""
    blocks = [(np.arange(2100), table[:, :2100]), (np.array([2100]), table[:, 2100:].astype(dtype))]
    with h5py.File(path, "w") as file:
        group = file.create_group(key)
        group.attrs.update(pandas_type="frame", nblocks=2)
        group["axis0"], group["axis1"] = np.arange(2101), np.arange(len(table))
        for i, (items, values) in enumerate(blocks[::-1] if label_first else blocks):
            group[f"block{i}_items"], group[f"block{i}_values"] = items, values
    return path


@pytest.mark.parametrize("label_first", [False, True])
@pytest.mark.parametrize(("dtype", "key"), [("i8", "df"), ("u1", "events"), ("f4", "data/raw")])
def test_a_label_in_a_block_of_its_own_is_still_the_truth(dtype, key, label_first, table, tmp_path):
    path = write_frame(tmp_path / "raw.h5", table, dtype, key, label_first)
    *hadrons, labels = read_all(path)
    expected = next(lhco.read_raw(REAL, block=len(table)))
    assert lhco.recognises(path) and lhco.describe(path)["events"] == len(table)
    assert all(np.array_equal(found, right) for found, right in zip(hadrons, expected))
    np.testing.assert_array_equal(labels, table[:, 2100])
    assert 0 < np.count_nonzero(labels) < len(labels)


def test_a_block_that_nothing_names_is_not_left_out_without_a_word(table, write_raw):
    path = write_raw(table[:5, :2100])
    with h5py.File(path, "a") as file:
        file["df/block1_values"] = table[:5, 2100:]
    with pytest.raises(InputError, match="block1_values beside df/block0_values has no items"):
        read_all(path)
