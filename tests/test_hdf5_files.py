"""HDF5 files of others: what is outside of them, or nowhere, is no event."""

import json

import h5py
import numpy as np
import pytest

from pipelines import Events, InputError
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


LOST = """
import os, sys, time
import numpy as np
import pipelines
from pipelines.datasets import is_events, recognise
from pipelines.errors import InputError

path, step = sys.argv[1], int(sys.argv[2])
good, kept = open(path, "rb").read(), pipelines.open(path)
features, mass, columns = kept.read("features"), kept.mass, kept.columns

def outcome(lost):
    try:
        if not is_events(lost):
            recognise(lost)
        events = pipelines.open(lost)
        same = np.array_equal(events.read("features"), features) and np.array_equal(events.mass, mass)
        return 0 if same and events.columns == columns else 1
    except InputError as error:
        return 2 if "\\n" not in str(error) else 3
    except BaseException:
        return 4

found = [0] * 6
for place in range(0, len(good), step):
    with open("lost.h5", "wb") as file:
        file.write(good[:place] + bytes(min(step, len(good) - place)) + good[place + step:])
    if not (child := os.fork()):
        os._exit(outcome("lost.h5"))
    until = time.monotonic() + 10
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < until:
        time.sleep(0.001)
    if ended[0]:
        found[os.waitstatus_to_exitcode(ended[1])] += 1
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        found[5] += 1
print(found)
"""


@pytest.mark.parametrize("step", [512, pytest.param(64, marks=pytest.mark.slow)])
def test_a_lost_sector_of_an_events_file_is_told_and_hangs_nothing(step, tmp_path, fresh_python):
    rng = np.random.default_rng(0)
    columns = [f"x{i}" for i in range(20)]
    events = Events.from_arrays(
        rng.normal(size=(200, 20)),
        rng.uniform(2000, 3000, 200),
        columns,
        label_names={0: "background"},
        source="x" * 300,
    )
    events.write(tmp_path / "events.h5")
    same, other, refused, lines, traces, hangs = json.loads(fresh_python(LOST, tmp_path / "events.h5", step))
    assert other == lines == traces == hangs == 0 and refused > 20 and same + refused > 20, (same, refused)


def test_texts_among_which_hdf5_would_look_for_ever_are_damage(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["columns"] = [f"column {i}" for i in range(30)]
    content = bytearray((tmp_path / "a.h5").read_bytes())
    start = content.find(b"GCOL")
    content[start + 64 : start + 512] = bytes(448)
    (tmp_path / "lost.h5").write_bytes(content)
    open_hdf5(tmp_path / "a.h5").close()
    with pytest.raises(InputError, match=r"lost.h5: damaged or truncated \(texts of no size\)"):
        open_hdf5(tmp_path / "lost.h5")
