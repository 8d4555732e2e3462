"""CATHODE's published arrays become events in GeV, and nothing else is taken for one."""

import numpy as np
import pytest

import pipelines
from pipelines.datasets import convert, recognise
from pipelines.datasets.cathode import COLUMNS, recognises


def rows(events=200, seed=0):
    rng = np.random.default_rng(seed)
    masses = [rng.uniform(3.3, 3.7, events), rng.exponential(0.1, events), rng.exponential(0.2, events)]
    return np.stack([*masses, *rng.uniform(0, 1, (2, events)), rng.integers(0, 2, events)], axis=1)


def saved(folder, values, name="innerdata_train.npy"):
    np.save(folder / name, values)
    return folder / name


def test_masses_become_gev_and_truth_the_label(tmp_path):
    values = rows()
    values[0, 1] = -2e-8  # as in the published file
    path = saved(tmp_path, values)
    assert recognise(path) == "cathode"
    outcome = convert([path], tmp_path / "events.h5")
    events = pipelines.open(tmp_path / "events.h5")
    assert outcome.counts == {f"of label {k}": int((values[:, 5] == k).sum()) for k in (0, 1)}
    assert events.columns == COLUMNS and events.about.label_names == {0: "background", 1: "signal"}
    np.testing.assert_allclose(events.mass, 1000 * values[:, 0], rtol=1e-6)
    expected = np.c_[1000 * np.maximum(values[:, 1:3], 0), values[:, 3:5]]
    np.testing.assert_allclose(events.read("features"), expected, rtol=1e-6)
    np.testing.assert_array_equal(events.label, values[:, 5])


def test_several_arrays_come_one_after_the_other(tmp_path):
    paths = [saved(tmp_path, rows(50, seed), f"{seed}.npy") for seed in (1, 2)]
    assert convert(paths, tmp_path / "events.h5").events == 100
    mass = pipelines.open(tmp_path / "events.h5").mass
    np.testing.assert_allclose(mass, 1000 * np.concatenate([rows(50, seed)[:, 0] for seed in (1, 2)]), rtol=1e-6)


def test_benchmark_columns_are_the_derived_ones_of_other_files():
    others = pipelines.open("lhco_sim_test").read("features", COLUMNS)
    assert others.shape[1] == 4 and (others >= 0).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v[:, :5],
        lambda v: np.c_[1000 * v[:, :3], v[:, 3:]],
        lambda v: np.c_[v[:, :5], v[:, 5] + 0.5],
        lambda v: v[:0],
        lambda v: np.where(np.arange(6) == 3, 7.0, v),
    ],
    ids=["five columns", "GeV", "label no number of a class", "empty", "tau21 of 7"],
)
def test_other_arrays_are_not_taken_for_one(change, tmp_path):
    assert not recognises(saved(tmp_path, change(rows())))


def test_impossible_values_are_named_with_their_row(tmp_path):
    values = rows(2000)
    values[1500, 0] = 3500.0  # GeV, after the rows by which the file is recognised
    path = saved(tmp_path, values)
    with pytest.raises(pipelines.InputError, match=r"m_jj is 3500 in row 1500 .*expected 0 to 14; is it in GeV"):
        convert([path], tmp_path / "events.h5")
    values[1500, 0] = np.nan
    with pytest.raises(pipelines.InputError, match="'mass'"):
        convert([saved(tmp_path, values)], tmp_path / "events.h5")
    assert not (tmp_path / "events.h5").exists()
