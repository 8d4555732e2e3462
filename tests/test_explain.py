"""What inputs contribute to scores: completeness, known attributions, files, and the report of a hunt."""

import csv
import json

import h5py
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from linear_model import Linear, registered

import pipelines
import zoo
import zoo.cli.main
from pipelines import Events, InputError
from pipelines.plots import read_numbers
from zoo.conformance import example_events

WEIGHTS = np.array([2.0, -1.0, 0.0])


class Plane(Linear):
    """A score that is linear in two of three features, and one that is not."""

    score_kinds = ("plane", "bowl")
    reconstructs = False

    def infer(self, features):
        return {
            "plane": tf.linalg.matvec(features, tf.constant(WEIGHTS, tf.float32)),
            "bowl": features[:, 0] ** 3 + features[:, 1],
        }


@pytest.fixture(scope="module")
def events():
    rng = np.random.default_rng(0)
    return Events.from_arrays(rng.normal(size=(600, 3)), rng.uniform(2700, 5000, 600), ("x", "y", "z"))


@pytest.fixture(scope="module")
def plane(events):
    model = Plane(columns=("x", "y", "z"))
    model.adapt(events)
    return model


def test_integrated_gradients_of_a_linear_score_are_its_terms(plane, events):
    found = zoo.explain(plane, events, "plane", method="gradients", percentile=90)
    x = events.read("features").astype(float)
    rest = np.setdiff1d(np.arange(600), found.rows)
    assert found.contributions == pytest.approx(WEIGHTS * (x[found.rows] - np.median(x[rest], axis=0)), abs=1e-4)
    score = x @ WEIGHTS
    assert len(found) == 60 and found.scores == pytest.approx(score[found.rows], abs=1e-4)
    assert found.scores.min() > np.delete(score, found.rows).max() - 1e-4


def test_integrated_gradients_are_complete_for_a_score_that_bends(plane, events):
    found = zoo.explain(plane, events, "bowl", method="gradients", rows=[3, 5, 8])
    assert found.rows.tolist() == [3, 5, 8] and np.abs(found.missing).max() < 1e-3
    assert (found.contributions[:, 2] == 0).all() and np.abs(found.contributions[:, 0]).max() > 0


@pytest.mark.parametrize("method", ["gradients", "permutation"])
def test_rows_are_explained_in_the_order_in_which_they_are_asked_for(plane, events, method):
    x, mass = events.read("features").astype(float), events.mass
    found, ordered = (zoo.explain(plane, events, rows=rows, method=method) for rows in ([8, 3, 5], [3, 5, 8]))
    assert found.rows.tolist() == [8, 3, 5] and found.mass.tolist() == mass[[8, 3, 5]].tolist()
    assert found.scores == pytest.approx(x[[8, 3, 5]] @ WEIGHTS, abs=1e-4)
    if method == "gradients":
        assert found.contributions == pytest.approx(ordered.contributions[[2, 0, 1]], abs=1e-5)
    few = zoo.explain(plane, events, rows=[8, 3, 5, 2], most=3, method=method)
    assert few.scores == pytest.approx(x[few.rows] @ WEIGHTS, abs=1e-4)


class Steep(Plane):
    """A score that is infinite in far-off events."""

    def infer(self, features):
        return {"plane": tf.exp(features[:, 0]) + features[:, 1], "bowl": features[:, 2]}


@pytest.mark.parametrize("method", ["gradients", "permutation"])
def test_events_without_a_finite_score_are_nothing_to_compare_with(events, tmp_path, method):
    model, x = Steep(columns=("x", "y", "z")), events.read("features")
    model.adapt(events)
    x[:300:2] = 1e20
    far_off = Events.from_arrays(x, events.mass, ("x", "y", "z"))
    found = zoo.explain(model, far_off, method=method, percentile=90)
    assert np.isfinite(found.contributions).all() and np.isfinite(found.others).all()
    found.write(tmp_path / "why.json")
    assert zoo.explain(model, far_off, method=method, rows=[1]).rows.tolist() == [1]
    with pytest.raises(InputError, match="row 4: its score is NaN or infinite"):
        zoo.explain(model, far_off, method=method, rows=[1, 4])


def test_permutation_of_a_feature_that_is_not_used_is_nothing(plane, events):
    found = zoo.explain(plane, events, percentile=90, repeats=200)
    assert found.method == "permutation" and (found.contributions[:, 2] == 0).all()
    x = events.read("features").astype(float)
    rest = np.setdiff1d(np.arange(600), found.rows)
    expected = WEIGHTS * (x[found.rows] - x[rest].mean(axis=0))
    assert found.contributions == pytest.approx(expected, abs=1.0) and found.mean == pytest.approx(
        expected.mean(axis=0), abs=0.05
    )
    lower = zoo.explain(plane, events, percentile=90, tail="lower")
    assert lower.mean[0] < 0 < found.mean[0]


def test_residuals_of_an_auto_encoder_sum_to_its_score():
    data = pipelines.open("lhco_sim_test").sample(800)
    for members in (1, 2):
        model = Linear(members=members, units=2)
        model.adapt(data)
        found = zoo.explain(model, data, percentile=95)
        assert found.method == "residuals" and found.contributions.sum(axis=1) == pytest.approx(found.scores, rel=1e-4)
        assert found.names == model.resolved_columns and (found.contributions >= 0).all()
    x = model.scaler(data.read("features", model.resolved_columns)[found.rows]).numpy()
    kernel = model.kernel.numpy()
    squares = np.mean([(x - x @ one @ one.T) ** 2 for one in kernel], axis=0) / x.shape[1]
    assert found.contributions == pytest.approx(squares, rel=1e-2, abs=1e-5)


def test_residuals_are_not_taken_of_a_scaling_without_inverse():
    data = pipelines.open("lhco_sim_test").sample(300)
    model = Linear(scaling="quantile", units=2)
    model.adapt(data)
    assert zoo.explain(model, data, percentile=95, repeats=1).method == "permutation"
    with pytest.raises(InputError, match="its scaling has no inverse, as 'quantile'"):
        zoo.explain(model, data, percentile=95, method="residuals")


def test_variables_of_particles_are_explained_and_empty_slots_stay_empty():
    from zoo.evaluation.attribution import _drawn

    values = np.zeros((4, 2, 3), np.float32)
    values[:, 0] = np.arange(12).reshape(4, 3) + 1
    drawn = _drawn(values, values, 1, np.random.default_rng(0))
    assert (drawn[:, 1] == 0).all() and set(drawn[:, 0]) <= set(values[:, 0, 1])
    sets = example_events(True, 60, 0)
    model = zoo.get("conv_vae", latent_dim=2, batch_size=30)
    model.adapt(sets)
    found = zoo.explain(model, sets, percentile=90, repeats=1)
    assert (
        found.method == "permutation" and found.names[: len(model.inputs.object_columns)] == model.inputs.object_columns
    )
    assert np.isfinite(found.contributions).all() and np.abs(found.contributions).max() > 0
    with pytest.raises(InputError, match="takes particles"):
        zoo.explain(model, sets, method="gradients", percentile=90)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"kind": "mse"}, "score kind 'mse' is not known"),
        ({"method": "shap"}, "method 'shap', expected one of"),
        ({"method": "residuals"}, "no sum over residuals"),
        ({"percentile": 100}, "percentile 100"),
        ({"rows": [600]}, "expected numbers from 0 to 599"),
        ({"repeats": 0}, "at least 1 of each"),
    ],
)
def test_what_cannot_be_explained_is_told(plane, events, options, says):
    with pytest.raises(InputError, match=says):
        zoo.explain(plane, events, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with registered():
        out = tmp_path_factory.mktemp("explain") / "run"
        zoo.train("linear", "lhco_sim_train", out, epochs=1, mass_range=(2700, 5000), jit_compile=False, verbose=0)
        yield out


def told(*words):
    done = CliRunner().invoke(zoo.cli.main.main, [str(word) for word in words])
    return done.exit_code, done.stdout, done.stderr


def test_command_writes_every_format_and_the_figure(run, tmp_path):
    line = ["explain", run, "--data", "lhco_sim_test", "--percentile", 98]
    code, text, errors = told(*line, "--out", tmp_path / "why.csv", "--plot", tmp_path / "why.png", "--json")
    assert code == 0, errors
    found = json.loads(text)
    with open(tmp_path / "why.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == found["rows"]
    assert float(rows[0]["pt_1"]) == pytest.approx(found["contributions"][0][found["names"].index("pt_1")])
    numbers = read_numbers(tmp_path / "why.json")  # of the figure
    assert numbers["mean"] == pytest.approx(found["mean"]) and numbers["shown"][0] in found["names"]
    assert told(*line, "--out", tmp_path / "why.h5")[0] == told(*line, "--out", tmp_path / "all.json")[0] == 0
    with h5py.File(tmp_path / "why.h5") as file:
        assert file["contributions"].shape == (len(rows), len(found["names"]))
    assert json.loads((tmp_path / "all.json").read_text())["method"] == "residuals"
    code, text, errors = told(*line, "--out", tmp_path / "why.txt")
    assert code == 2 and "expected one of .csv, .h5, .json" in errors and errors.count("\n") == 1


def test_a_hunt_explains_the_events_that_it_selects(run, tmp_path):
    options = {"percentiles": 80, "pseudo_experiments": 20, "bins": 20, "widths": (1, 4)}
    found = zoo.hunt(run, "lhco_sim_test", tmp_path / "out", explain=True, **options)
    kept = json.loads((tmp_path / "out" / "search.json").read_text())["explained"]
    assert kept["mean"] == list(found.explained.mean) and kept["method"] == "residuals"
    assert "Why these events are anomalous" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(InputError, match="explain: only a trained RUN"):
        zoo.hunt("linear", "lhco_sim_test", train=True, explain=True, **options)
