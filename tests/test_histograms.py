"""Histograms: what is read is what was written, and what is no spectrum of events is refused with its reason."""

import boost_histogram
import h5py
import hist
import numpy as np
import pytest
import uproot

from pipelines import InputError, histograms
from pipelines.histograms import Histograms, from_hist

EDGES = np.linspace(1000, 3000, 21)
COUNTS = np.arange(20)[::-1]


def filled(bins=20, weight=None, storage=None, **axis):
    masses = 1000 + np.random.default_rng(bins).exponential(500, 400)
    made = boost_histogram.Histogram(
        boost_histogram.axis.Regular(bins, 1000, 3000, **axis), storage=storage or boost_histogram.storage.Double()
    )
    made.fill(masses, weight=weight)
    return made, np.histogram(masses, np.linspace(1000, 3000, bins + 1))[0]


@pytest.fixture
def written(tmp_path):
    """Write datasets to an HDF5 file and return its path."""

    def write(**datasets):
        with h5py.File(tmp_path / "spectra.h5", "w") as file:
            for name, values in datasets.items():
                file[name] = values
        return tmp_path / "spectra.h5"

    return write


# Reading


def test_hdf5_of_one_binning_is_read_as_it_is(written):
    found = histograms.read(written(counts=np.stack([COUNTS, COUNTS + 1]), edges=EDGES))
    np.testing.assert_array_equal(found.counts, [COUNTS, COUNTS + 1])
    np.testing.assert_array_equal(found.edges, [EDGES, EDGES])
    assert found.bins.tolist() == [20, 20] and found.names == ("0", "1")


def test_hdf5_of_several_lengths_comes_back_as_it_was_written(tmp_path):
    parts = [Histograms.from_arrays(np.ones(n), np.arange(n + 1.0), names=[f"of {n}"]) for n in (12, 30, 10)]
    joined = Histograms.joined(parts)
    histograms.write(joined, tmp_path / "spectra.h5")
    found = histograms.read(tmp_path / "spectra.h5")
    for name in ("counts", "edges", "bins"):
        np.testing.assert_array_equal(getattr(found, name), getattr(joined, name))
    assert found.names == ("of 12", "of 30", "of 10") and found.mask.sum(1).tolist() == [12, 30, 10]
    assert (found.bin_widths > 0).all() and not found.counts[~found.mask].any()


def test_every_th1_of_a_root_file_is_read_also_in_folders(tmp_path):
    (first, counts), (second, more) = filled(20), filled(35)
    with uproot.recreate(tmp_path / "spectra.root") as file:
        file["m_jj"] = first
        file["leptons/m_ll"] = second
        file["n"] = np.histogram2d([1.0], [1.0])  # not a spectrum: a TH2
    found = histograms.read(tmp_path / "spectra.root")
    assert dict(zip(found.names, found.bins.tolist())) == {"m_jj": 20, "leptons/m_ll": 35}
    by_name = dict(zip(found.names, found.counts))
    np.testing.assert_array_equal(by_name["m_jj"][:20], counts)
    np.testing.assert_array_equal(by_name["leptons/m_ll"], more)
    np.testing.assert_allclose(found.edges[found.names.index("m_jj"), :21], EDGES)


def test_only_the_newest_cycle_of_a_root_histogram_is_read(tmp_path):
    old, new = filled(20)[0], filled(35)[0]
    with uproot.recreate(tmp_path / "spectra.root") as file:
        file["m"] = old
        file["m"] = new
    found = histograms.read(tmp_path / "spectra.root")
    assert found.names == ("m",) and found.bins.tolist() == [35]


def test_hist_and_boost_histogram_objects_are_taken_without_their_overflow():
    made = hist.Hist(hist.axis.Variable([0, 1, 3, 6, 10, 15, 21, 28, 36, 45, 55]))
    made.fill([0.5, 2.0, 2.5, 50.0, 99.0, -1.0])
    found = from_hist([made, filled(20)[0]], names=["a", "b"])
    assert found.counts[0, :10].tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 0, 1] and found.bins.tolist() == [10, 20]
    np.testing.assert_array_equal(found.counts[1], filled(20)[1])


def test_some_of_the_histograms_can_be_taken():
    parts = [Histograms.from_arrays(np.full(n, n), np.arange(n + 1.0), names=[str(n)]) for n in (12, 30, 10)]
    found = Histograms.joined(parts).take([2, 0])
    assert found.names == ("10", "12") and found.counts.shape == (2, 12) and found.counts.sum() == 10 * 10 + 12 * 12


def test_histograms_are_chosen_by_their_names_in_both_kinds_of_file(tmp_path):
    parts = [
        Histograms.from_arrays(np.full(20, n), EDGES, names=[name])
        for n, name in enumerate(("SR/a", "SR/b", "CR/a"), 1)
    ]
    histograms.write(Histograms.joined(parts), tmp_path / "spectra.h5")
    with uproot.recreate(tmp_path / "spectra.root") as file:
        for part in parts:
            file[part.names[0]] = part.counts[0], EDGES
    for kind in ("h5", "root"):
        for patterns, names in (
            (["SR/*"], ("SR/a", "SR/b")),
            (["*a", "SR*"], ("SR/a", "SR/b", "CR/a")),
            (["CR/a"], ("CR/a",)),
        ):
            assert histograms.read(tmp_path / f"spectra.{kind}", select=patterns).names == names
        with pytest.raises(InputError, match=r"no histogram's name matches 'sr\*'; there are SR/a, SR/b, CR/a"):
            histograms.read(tmp_path / f"spectra.{kind}", select=["SR/*", "sr*"])


def test_bins_outside_a_range_are_not_looked_at(written):
    """Neither are their counts, which may be anything; a bin across an end is outside."""
    counts = np.r_[0, 0, 0, np.nan, np.arange(1, 15), -1, 0.5]
    path = written(counts=np.stack([counts, counts]), edges=np.stack([EDGES, EDGES + 50]))
    found = histograms.read(path, mass_range=(1400, 2800))
    assert found.bins.tolist() == [14, 13] and found.counts[1].tolist() == [*range(1, 14), 0]
    np.testing.assert_allclose(found.edges[:, 0], [1400, 1450])
    with pytest.raises(InputError, match="has 5 bins, expected at least 10"):
        histograms.read(path, mass_range=(1400, 1900))
    with pytest.raises(InputError, match="range 3 to 1 is not possible"):
        histograms.read(path, mass_range=(3, 1))


def test_the_good_ones_of_a_file_are_read_and_each_bad_one_is_told_with_its_reason(tmp_path, written):
    with uproot.recreate(tmp_path / "spectra.root") as file:
        file["good"], file["short"] = filled(20)[0], filled(5)[0]
        file["weighted"] = filled(20, weight=0.5, storage=boost_histogram.storage.Weight())[0]
        file["empty"] = np.zeros(20), EDGES
        file["threshold"] = np.r_[0, 0, COUNTS[2:]], EDGES
    told = {}
    assert histograms.read(tmp_path / "spectra.root", skip=told.__setitem__).names == ("good",)
    assert set(told) == {"short", "weighted", "empty", "threshold"} and told["short"].startswith("has 5 bins")
    assert told["weighted"].startswith("is of weighted events") and told["threshold"].startswith("begins with empty")
    with pytest.raises(InputError, match="--skip-bad"):
        histograms.read(tmp_path / "spectra.root", select=["good", "empty"])
    with pytest.raises(InputError, match="all 1 histograms are bad, the first is empty"):
        histograms.read(written(counts=np.zeros(20), edges=EDGES), skip=told.__setitem__)


# Bad input


def spoilt(at, value):
    counts = COUNTS.astype(float)
    counts[at] = value
    return counts


@pytest.mark.parametrize(
    ("counts", "edges", "reason"),
    [
        (spoilt(3, -1), EDGES, "histogram 0 has a negative count"),
        (spoilt(3, np.nan), EDGES, "histogram 0 has a count that is NaN or infinite"),
        (spoilt(3, np.inf), EDGES, "histogram 0 has a count that is NaN or infinite"),
        (spoilt(3, 2.5), EDGES, "counts that are not whole numbers: weighted events"),
        (np.zeros(20), EDGES, "histogram 0 is empty"),
        (COUNTS[:5], EDGES[:6], "has 5 bins, expected at least 10"),
        (COUNTS, EDGES[::-1], "edges that do not rise"),
        (COUNTS, np.r_[EDGES[:-1], EDGES[-2]], "edges that do not rise"),
        (COUNTS, np.r_[EDGES[:-1], np.nan], "an edge that is NaN or infinite"),
        (COUNTS, EDGES[:-1], r"edges have shape \(1, 20\), expected \(21,\)"),
        (np.zeros((0, 20)), EDGES, r"counts have shape \(0, 20\)"),
        (np.zeros((2, 2, 20)), EDGES, r"counts have shape \(2, 2, 20\)"),
        ([[1, 2], [3]], EDGES, "not real numbers of a regular array"),
        (["a"] * 20, EDGES, "not real numbers"),
        (["1"] * 20, EDGES, "not real numbers"),
        (COUNTS + 1j, EDGES, "not real numbers"),
        (spoilt(3, 1e15), EDGES, r"has a count of 1e\+15 or more"),
        (np.r_[0, 0, COUNTS[2:]], EDGES, "histogram 0 begins with empty bins.*begin where events do"),
    ],
)
def test_bad_arrays_are_refused_with_their_reason(counts, edges, reason):
    with pytest.raises(InputError, match=reason):
        Histograms.from_arrays(counts, edges)


def test_the_bad_one_of_many_is_named_and_the_others_are_counted():
    counts = np.tile(COUNTS, (5, 1)).astype(float)
    counts[2:4, 1] = -1
    with pytest.raises(InputError, match=r"histogram c \(and 1 others\) has a negative count"):
        Histograms.from_arrays(counts, EDGES, names="abcde")


def test_what_is_beyond_a_histograms_own_bins_does_not_matter():
    counts = np.array([[*range(12), np.nan, -3]])
    edges = np.r_[np.arange(13.0), 0, np.nan]
    found = Histograms.from_arrays(counts, edges, bins=[12])
    assert found.counts[0].tolist() == [*range(12), 0, 0] and (np.diff(found.edges) > 0).all()
    with pytest.raises(InputError, match="bins must be 1 whole numbers from 0 to 14"):
        Histograms.from_arrays(counts, edges, bins=[15])


def test_weighted_histograms_are_refused():
    weighted = filled(20, weight=2.0, storage=boost_histogram.storage.Weight())[0]
    with pytest.raises(InputError, match="histogram jets is of weighted events"):
        from_hist(weighted, names=["jets"])


def test_weighted_root_histograms_are_refused_by_name(tmp_path):
    with uproot.recreate(tmp_path / "spectra.root") as file:
        file["folder/m"] = filled(20, weight=0.5, storage=boost_histogram.storage.Weight())[0]
    with pytest.raises(InputError, match=r"spectra.root: histogram folder/m is of weighted events"):
        histograms.read(tmp_path / "spectra.root")


@pytest.mark.parametrize(
    ("thing", "reason"),
    [
        ([], "no histogram given"),
        (np.ones(20), "is a ndarray, expected a histogram"),
        ("spectrum", "is a str, expected a histogram"),
        (hist.Hist(hist.axis.Regular(20, 0, 1), hist.axis.Regular(20, 0, 1)), "has 2 axes, expected one"),
        (hist.Hist(hist.axis.StrCategory(["a"])), "has bins with names, expected bins of mass"),
        (hist.Hist(hist.axis.Regular(20, 0, 1), storage=hist.storage.Mean()), "averages something"),
        (hist.Hist(hist.axis.Regular(20, 0, 1)), "is empty"),
    ],
)
def test_objects_that_are_no_spectrum_are_refused(thing, reason):
    with pytest.raises(InputError, match=reason):
        from_hist(thing)


def test_files_without_histograms_are_refused_with_what_is_in_them(written, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        histograms.read(tmp_path / "nothing.h5")
    with pytest.raises(InputError, match="no dataset 'counts', found edges"):
        histograms.read(written(edges=EDGES))
    (tmp_path / "text.h5").write_text("counts")
    with pytest.raises(InputError, match=r"text.h5: not an HDF5 file"):
        histograms.read(tmp_path / "text.h5")
    with uproot.recreate(tmp_path / "empty.root") as file:
        file["two"] = np.histogram2d([1.0], [1.0])
    with pytest.raises(InputError, match=r"empty.root: no histograms: expected TH1 objects, found TH2D"):
        histograms.read(tmp_path / "empty.root")


def test_hdf5_datasets_of_other_kinds_are_refused_with_the_file(written, tmp_path):
    whole = {"counts": COUNTS[None], "edges": EDGES}
    compound = np.zeros((1, 20), [("n", "f8"), ("error", "f8")])
    for changed, reason in (
        ({"names": np.array([b"\xff\xfe"])}, "spectra.h5: 'names' are not UTF-8 text"),
        ({"counts": COUNTS[None] + 0j}, "spectra.h5: counts are not real numbers"),
        ({"counts": compound}, "spectra.h5: counts are not real numbers"),
        ({"edges": h5py.Empty("f8")}, "spectra.h5: edges are not real numbers"),
        ({"bins": compound[0, :1]}, "spectra.h5: bins must be 1 whole numbers"),
    ):
        with pytest.raises(InputError, match=reason):
            histograms.read(written(**whole | changed))
    for group in ("names", "bins", "counts"):
        path = written(**{name: values for name, values in whole.items() if name != group})
        with h5py.File(path, "a") as file:
            file.create_group(group)
        with pytest.raises(InputError, match=f"spectra.h5: '{group}' is a group, expected a dataset"):
            histograms.read(path)


def test_damaged_chunks_are_one_line(tmp_path):
    path = tmp_path / "spectra.h5"
    with h5py.File(path, "w") as file:
        file["edges"] = EDGES
        counts = file.create_dataset("counts", data=np.tile(COUNTS, (50, 1)), chunks=(50, 20), compression="gzip")
        chunk = counts.id.get_chunk_info(0)
    with open(path, "r+b") as file:
        file.seek(chunk.byte_offset + 4)
        file.write(b"\x55" * (chunk.size - 8))
    with pytest.raises(InputError, match=r"spectra.h5: 'counts' cannot be read .*; is the file whole") as caught:
        histograms.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("compression", "magic"), [(uproot.ZLIB(4), b"ZL\x08"), (uproot.LZMA(4), b"XZ\x00"), (None, b"TH1D")]
)
def test_a_root_file_of_which_bytes_are_wrong_is_one_line_or_read(tmp_path, compression, magic):
    with uproot.recreate(tmp_path / "whole.root", compression=compression) as file:
        file["m"] = boost_histogram.Histogram(boost_histogram.axis.Regular(300, 0, 1)).fill(np.arange(300) / 300)
    whole, rng, failed = (tmp_path / "whole.root").read_bytes(), np.random.default_rng(0), 0
    first = whole.index(magic, whole.index(b"TH1D"))
    for at in first + rng.integers(0, 300, 40):
        torn = bytearray(whole)
        torn[at : at + 8] = rng.bytes(len(torn[at : at + 8]))
        (tmp_path / "torn.root").write_bytes(torn)
        try:
            histograms.read(tmp_path / "torn.root")
        except InputError as error:
            failed += 1
            assert "torn.root" in str(error) and "\n" not in str(error)
    assert failed > 3, failed


def test_a_damaged_root_file_is_one_clear_line(tmp_path):
    with uproot.recreate(tmp_path / "whole.root") as file:
        file["m"] = filled(20)[0]
    whole = (tmp_path / "whole.root").read_bytes()
    for length in (10, 150, 1000):
        (tmp_path / "torn.root").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"torn.root: cannot be read as ROOT"):
            histograms.read(tmp_path / "torn.root")


def test_a_sum_that_knows_no_variances_is_read_by_its_whole_counts():
    both = filled(20)[0] + filled(20)[0]
    unknown = boost_histogram.Histogram(both.axes[0], storage=boost_histogram.storage.Double())
    unknown.fill(both.axes[0].centers, weight=both.values())
    assert unknown.variances() is None
    np.testing.assert_array_equal(from_hist([both, unknown]).counts, 2 * from_hist([filled(20)[0]] * 2).counts)
    unknown.fill([unknown.axes[0].centers[0]], weight=0.5)
    with pytest.raises(InputError, match="counts that are not whole numbers: weighted events"):
        from_hist(unknown)


def test_a_cutflow_is_no_spectrum(tmp_path):
    import hist

    steps = [f"step {i}" for i in range(12)]
    cutflow = hist.Hist(hist.axis.StrCategory(steps)).fill(np.repeat(steps, np.arange(24, 0, -2)))
    numbers = hist.Hist(hist.axis.IntCategory(list(range(12)))).fill(np.arange(12))
    for axis in (cutflow, numbers):
        with pytest.raises(InputError, match="bins with names"):
            from_hist(axis)
    with uproot.recreate(tmp_path / "spectra.root") as file:
        file["m_jj"], file["cutflow"] = filled(20)[0], cutflow
    told = {}
    assert histograms.read(tmp_path / "spectra.root", skip=told.__setitem__).names == ("m_jj",)
    assert told["cutflow"].startswith("has bins with names")
