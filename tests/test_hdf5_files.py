"""HDF5 files of others: what is outside of them, or nowhere, is no event."""

import h5py
import numpy as np
import pytest

from pipelines import InputError
from pipelines.events.files import regular_file
from pipelines.events.hdf5_files import open_hdf5

X = np.arange(12.0).reshape(6, 2)


@pytest.fixture
def parts(tmp_path):
    """Two files with a half of the rows each."""
    for number in (1, 2):
        with h5py.File(tmp_path / f"part{number}.h5", "w") as file:
            file["x"] = X[3 * (number - 1) : 3 * number]
    return tmp_path


def write_virtual(path, *sources, rows=6):
    with h5py.File(path, "w") as file:
        layout, start = h5py.VirtualLayout((rows, 2), "f8"), 0
        for source in sources:
            layout[start : start + source.shape[0]] = source
            start += source.shape[0]
        file.create_virtual_dataset("x", layout)
    return path


def source(number, rows=3):
    return h5py.VirtualSource(f"part{number}.h5", "x", (rows, 2))


def test_a_dataset_put_together_from_other_files_is_read_if_all_are_there(parts):
    with open_hdf5(write_virtual(parts / "all.h5", source(1), source(2))) as file:
        np.testing.assert_array_equal(file["x"][:], X)
    with open_hdf5(write_virtual(parts / "some.h5", source(2)[1:], rows=2)) as file:
        np.testing.assert_array_equal(file["x"][:], X[4:])


def test_a_dataset_put_together_from_a_missing_file_is_refused(parts):
    path = write_virtual(parts / "all.h5", source(1), source(2))
    (parts / "part2.h5").rename(parts / "moved.h5")
    with pytest.raises(InputError, match=r"all.h5: '/x' is put together .* one is not there: .*part2.h5: no such file"):
        open_hdf5(path)


def test_a_dataset_put_together_from_shorter_files_is_refused(parts):
    with pytest.raises(
        InputError, match=r"'part1.h5', dataset 'x' has shape \(3, 2\), which does not hold the 8 values"
    ):
        open_hdf5(write_virtual(parts / "all.h5", source(1, rows=4)))
    with pytest.raises(InputError, match=r"has shape \(3, 2\), which does not hold the 2 values"):
        open_hdf5(write_virtual(parts / "row.h5", source(1, rows=4)[3:], rows=1))
    with pytest.raises(InputError, match="that hold 6 of its 12 values"):
        open_hdf5(write_virtual(parts / "half.h5", source(1)))


def test_data_in_another_file_are_never_read(tmp_path):
    (tmp_path / "secret.txt").write_text("x" * 96)
    with h5py.File(tmp_path / "storage.h5", "w") as file:
        file.create_dataset("x", (6, 2), "f8", external=[(str(tmp_path / "secret.txt"), 0, 96)])
    with h5py.File(tmp_path / "target.h5", "w") as file:
        file["x"] = X
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["deep/x"] = h5py.ExternalLink("target.h5", "x")
    with pytest.raises(InputError, match=r"storage.h5: the data of '/x' are in another file"):
        open_hdf5(tmp_path / "storage.h5")
    with pytest.raises(InputError, match=r"link.h5: 'x' is a link to another file .*target.h5"):
        open_hdf5(tmp_path / "link.h5")


def test_a_group_that_contains_itself_is_refused(tmp_path):
    with h5py.File(tmp_path / "circle.h5", "w") as file:
        file["a/b/c"] = file.create_group("top")
        file["a/b/c/again"] = file["a"]
    with pytest.raises(InputError, match=r"circle.h5: group .* contains itself"):
        open_hdf5(tmp_path / "circle.h5")


def test_a_file_whose_name_is_not_utf8_is_refused_in_letters_that_print(tmp_path):
    with pytest.raises(InputError) as error:
        regular_file(tmp_path / "\udcff.h5", "an HDF5 file")
    assert r"\xff.h5: its name is not UTF-8" in str(error.value).encode().decode()
