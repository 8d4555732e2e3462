"""Figures and the numbers behind them: right against independent computation, whole or not there, and without trace."""

import gc
import itertools
import json
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from pipelines import InputError, metrics, plots
from pipelines.plots import (
    plot_errors,
    plot_history,
    plot_observables,
    plot_peak,
    plot_roc,
    plot_scan,
    read_numbers,
)

ROWS = [
    {"phase": "first", "epoch": 0, "distance": 0.5},
    *({"phase": "main", "epoch": i, "loss": 1 / (i + 1), "val_loss": 1.5 / (i + 1), "disco": None} for i in range(4)),
]


# a figure that warns of a missing glyph, or of a contour that is nowhere, is not finished
pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.drawn]


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the pixels out: for tests of numbers, which are written all the same."""
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **options: file.write(b"no picture"))


def gaussian(n, seed=0, z=0.0, mass=3000.0):
    rng = np.random.default_rng(seed)
    return rng.normal(z, 1, n), rng.normal(mass, 200, n)


def draw_history(path):
    members = {"main": {"loss": np.random.default_rng(1).uniform(0, 1, (4, 3))}}
    return plot_history(ROWS, path, members=members)


def draw_peak(path):
    return plot_peak(np.array([[1.0, 1.0], [3.0, 2.0], [2.0, 4.0]]), path, best=[1, 1])


def draw_errors(path):
    rng = np.random.default_rng(2)
    samples = {n: rng.lognormal(m, 1, 300) for n, m in (("background", 0), ("data", 0), ("a/b.c", 1))}
    samples["a/b.c"][:2] = 0, -1
    return plot_errors(samples, path, weights={"background": rng.uniform(0.5, 1, 300)}, bins=20)


def draw_observables(path):
    x = np.random.default_rng(3).normal(size=(200, 2))
    return plot_observables(x, 0.9 * x, ["m [GeV]", "tau_2/tau_1"], np.arange(200) % 2, path, names={0: "QCD", 1: "Z'"})


def draw_roc(path):
    rng = np.random.default_rng(4)
    return plot_roc(rng.normal(size=(3, 400)), {"X/Y .": rng.normal(1, 1, (3, 300))}, path, both=True)


def draw_scan(path):
    z, mass = np.linspace(-3, 3, 20), np.linspace(2000, 4000, 25)
    maps = {"tau_2/tau_1": np.outer(mass, 1 + z**2), "m_j": np.outer(mass, np.exp(z)) / 10}
    return plot_scan(z, mass, maps, path, regions={"background": gaussian(500)}, truth={"m_j": (300.0, 50.0, 1e9)})


DRAW = [draw_history, draw_peak, draw_errors, draw_observables, draw_roc, draw_scan]


# -- what all figures have in common -------------------------------------------------------------------


@pytest.mark.parametrize("draw", DRAW)
def test_a_figure_comes_with_its_numbers_and_leaves_no_trace(draw, tmp_path):
    import matplotlib
    import matplotlib.pyplot as plt

    with matplotlib.rc_context({"font.size": 3.5, "axes.facecolor": "green", "figure.figsize": (1, 2)}):
        settings, numpy_errors, random = dict(matplotlib.rcParams), np.geterr(), np.random.get_state()[1].copy()
        numbers = draw(tmp_path / "figure.png")
        assert dict(matplotlib.rcParams) == settings
    assert np.geterr() == numpy_errors and np.array_equal(np.random.get_state()[1], random)
    assert plt.get_fignums() == []
    picture, beside = sorted(tmp_path.iterdir(), key=lambda path: path.suffix != ".png")
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.name == "figure.png"
    assert beside.name == ("figure.h5" if draw in (draw_roc, draw_scan) else "figure.json")
    np.testing.assert_equal(read_numbers(beside), numbers)
    assert keys(read_numbers(beside)) == keys(numbers)  # in their order


def keys(numbers):
    return [(k, keys(v)) for k, v in numbers.items()] if isinstance(numbers, dict) else None


def test_the_style_is_the_same_whatever_the_user_has_set(tmp_path):
    import matplotlib

    draw_peak(tmp_path / "a.png")
    with matplotlib.rc_context({"font.size": 3.5, "axes.facecolor": "green", "lines.linewidth": 9, "savefig.dpi": 30}):
        draw_peak(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_style_is_that_of_mplhep(tmp_path, monkeypatch):
    import mplhep
    from matplotlib.figure import Figure

    seen, savefig = {}, Figure.savefig

    def look(figure, *args, **kwargs):
        import matplotlib

        seen.update(
            {key: matplotlib.rcParams[key] for key in ("xtick.direction", "xaxis.labellocation", "font.sans-serif")}
        )
        return savefig(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", look)
    draw_peak(tmp_path / "a.png")
    assert seen == {key: mplhep.style.CMS[key] for key in seen} and seen["xtick.direction"] == "in"


def test_figures_do_not_pile_up_in_memory(tmp_path):
    from matplotlib.figure import Figure

    def alive():
        gc.collect()
        return sum(isinstance(thing, Figure) for thing in gc.get_objects())

    before = alive()
    for _ in range(3):
        draw_peak(tmp_path / "a.png")
    assert alive() == before


def test_importing_is_light(fresh_python):
    code = "import sys, pipelines.plots; print([m for m in ('matplotlib', 'mplhep', 'scipy', 'sklearn') if m in sys.modules])"
    assert fresh_python(code).strip() == "[]"


def test_inputs_are_left_as_they_are(tmp_path, undrawn):
    scores = {"background": np.array([3, 1, 2], np.float32), "signal": np.array([[5, 4, 3]], np.float32)[0]}
    kept = {name: score.copy() for name, score in scores.items()}
    plot_errors(scores, tmp_path / "a.png")
    plot_roc(scores["background"], {"s": scores["signal"]}, tmp_path / "b.png")
    np.testing.assert_equal(scores, kept)


@pytest.mark.parametrize("draw", [draw_peak, draw_roc])
def test_nothing_is_there_after_a_failure(draw, tmp_path, monkeypatch):
    import matplotlib
    from matplotlib.figure import Figure

    settings = dict(matplotlib.rcParams)

    def fail(*args, **kwargs):
        raise RuntimeError("no fonts")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr(Figure, "savefig", fail)
        draw(tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == [] and dict(matplotlib.rcParams) == settings


@pytest.mark.parametrize("draw, kind", [(draw_peak, "json"), (draw_roc, "h5")])
def test_a_figure_whose_numbers_cannot_be_written_is_not_there(draw, kind, tmp_path):
    (tmp_path / f"a.{kind}").mkdir()
    with pytest.raises(InputError, match=f"a.{kind}: cannot be written"):
        draw(tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == [f"a.{kind}"]


@pytest.mark.parametrize("draw", [draw_peak, draw_roc])
def test_an_older_figure_survives_a_failure_and_a_success_replaces_it(draw, tmp_path, monkeypatch, undrawn):
    numbers = draw(tmp_path / "a.png")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr(plots.record, "new_disks", lambda *a, **k: (_ for _ in ()).throw(RuntimeError("power cut")))
        draw(tmp_path / "a.png")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    np.testing.assert_equal(draw(tmp_path / "a.png"), numbers)


@pytest.mark.parametrize("name", ["figure", "figure.json", "figure.pdf", "figure.h5"])
def test_a_name_that_is_no_png_is_refused(name, tmp_path):
    with pytest.raises(InputError, match=f"{name}: expected a name that ends in .png"):
        plot_peak([1.0], tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name, text", [("no.json", None), ("no.h5", None), ("a.json", "{"), ("a.h5", "text"), ("a.json", "\udcff")]
)
def test_what_holds_no_numbers_is_refused_by_name(name, text, tmp_path):
    if text is not None:
        (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=f"{name}: .*expected the .json or .h5 file beside a figure"):
        read_numbers(tmp_path / name)


def test_any_name_can_be_drawn_and_is_in_the_legend(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    shown, savefig = [], Figure.savefig

    def look(figure, *args, **kwargs):
        shown.extend(text.get_text() for text in figure.legends[0].get_texts())
        savefig(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", look)
    names = ["$", "$x", "$\\nope{$", "a_b^c", "$Z'\\to XY$", "100 % {x}", "_hidden", "τ₂₁", "$ $"]
    numbers = plot_errors({name: [1.0, 2.0] for name in names}, tmp_path / "a.png", bins=3, xlabel="$\\nope$")
    assert list(numbers["samples"]) == names
    assert [text.replace("\\$", "$").strip() for text in shown] == names


def test_lines_differ_by_colour_or_dashes():
    assert len({plots.page.look(number) for number in range(40)}) == 40


def test_a_long_legend_stays_within_the_figure(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    boxes, savefig = [], Figure.savefig

    def look(figure, *args, **kwargs):
        savefig(figure, *args, **kwargs)
        legend = figure.legends[0].get_window_extent()
        boxes.append((legend.x0, legend.x1, figure.bbox.width, legend.y0, max(a.bbox.y1 for a in figure.axes)))

    monkeypatch.setattr(Figure, "savefig", look)
    names = [f"Graviton to dimuons, {i} TeV, with a name" for i in range(9)]
    plot_roc([1.0, 2.0], {name: [2.0, 3.0] for name in names}, tmp_path / "a.png")
    ((left, right, width, bottom, top),) = boxes
    assert left >= 0 and right <= width and bottom >= top  # beside nothing, and above every panel


# -- loss terms -----------------------------------------------------------------------------------------


def test_history_has_every_phase_and_term_with_its_validation(tmp_path, undrawn):
    numbers = plot_history(ROWS, tmp_path / "a.png")
    assert numbers == {
        "phases": {
            "first": {"epoch": [0], "terms": {"distance": {"training": [0.5]}}},
            "main": {
                "epoch": [0, 1, 2, 3],
                "terms": {"loss": {"training": [1, 1 / 2, 1 / 3, 1 / 4], "validation": [1.5, 0.75, 0.5, 0.375]}},
            },
        }
    }
    assert numbers == json.loads((tmp_path / "a.json").read_text())


def test_history_band_is_the_central_68_percent_of_the_members(tmp_path, undrawn):
    values = np.random.default_rng(0).normal(size=(4, 201))
    found = plot_history(ROWS, tmp_path / "a.png", members={"main": {"kl": values}})["phases"]["main"]["terms"]["kl"]
    inside = (values >= np.array(found["members"]["low"])[:, None]) & (
        values <= np.array(found["members"]["high"])[:, None]
    )
    assert inside.mean() == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.01)
    assert found["members"]["values"] == values.tolist() and "training" not in found


def test_history_of_members_alone_counts_epochs_from_zero(tmp_path, undrawn):
    numbers = plot_history([], tmp_path / "a.png", members={"main": {"kl": np.ones((3, 2))}})
    assert numbers["phases"]["main"]["epoch"] == [0, 1, 2]


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "text"])
def test_what_is_no_number_is_a_gap_in_the_history(value, tmp_path, undrawn):
    rows = [{"phase": "main", "epoch": i, "loss": v} for i, v in enumerate([1.0, value, 3.0])]
    assert plot_history(rows, tmp_path / "a.png")["phases"]["main"]["terms"]["loss"]["training"] == [1.0, None, 3.0]


def test_a_diverged_member_is_a_gap_too(tmp_path, undrawn):
    values = np.array([[1.0, 2.0], [np.nan, 3.0]])
    found = plot_history([], tmp_path / "a.png", members={"m": {"kl": values}})["phases"]["m"]["terms"]["kl"]["members"]
    assert found["values"] == [[1.0, 2.0], [None, 3.0]] and found["low"][1] is None


def test_a_history_without_epochs_is_drawn(tmp_path):
    assert plot_history([], tmp_path / "a.png") == {"phases": {}}
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize("values", [np.ones((3, 2)), np.ones(4), np.ones((4, 0))])
def test_members_of_another_length_are_refused(values, tmp_path):
    with pytest.raises(InputError, match=r"members of main: loss have shape .*expected \(4, K\)"):
        plot_history(ROWS, tmp_path / "a.png", members={"main": {"loss": values}})
    assert list(tmp_path.iterdir()) == []


# -- the peak ----------------------------------------------------------------------------------------------


def test_the_peak_is_that_of_each_member_and_the_first_of_equals(tmp_path, undrawn):
    values = np.array([[1, 9, 5], [4, 2, 5], [3, 1, 6]], float)
    numbers = plot_peak(values, tmp_path / "a.png")
    assert numbers["peak"] == [1, 0, 2] and numbers["peak_value"] == [4, 9, 6]
    assert numbers["peak_is_last"] == [False, False, True] and numbers["best"] is None
    assert plot_peak(np.ones(5), tmp_path / "b.png")["peak"] == [0]


@pytest.mark.parametrize("values, said", [([1.0, 2.0, 3.0], True), ([1.0, 3.0, 2.0], False), ([7.0], True)])
def test_a_training_that_ended_before_a_peak_is_said_in_the_figure(values, said, tmp_path, monkeypatch, undrawn):
    from matplotlib.axes import Axes

    titles, set_title = [], Axes.set_title
    monkeypatch.setattr(Axes, "set_title", lambda axis, text, **k: titles.append(text) or set_title(axis, text, **k))
    assert plot_peak(values, tmp_path / "a.png")["peak_is_last"] == [said]
    assert titles == (["largest at the last epoch, training ended before a peak"] if said else [])


def test_one_best_epoch_is_that_of_all_members(tmp_path, undrawn):
    assert plot_peak(np.ones((4, 3)), tmp_path / "a.png", best=2)["best"] == [2, 2, 2]


@pytest.mark.parametrize("best", [4, -1, [0, 1], 1.5, [[0, 0, 0]]])
def test_a_best_epoch_that_is_none_is_refused(best, tmp_path):
    with pytest.raises(InputError, match=r"best: .*expected 3 epochs from 0 to 3"):
        plot_peak(np.ones((4, 3)), tmp_path / "a.png", best=best)


def test_what_is_no_number_is_a_gap_beside_the_peak(tmp_path):
    found = plot_peak([[1.0, np.nan], [3.0, 2.0], [np.nan, 1.0]], tmp_path / "a.png")
    assert found["peak"] == [1, 1] and found["peak_value"] == [3.0, 2.0]


@pytest.mark.parametrize("values, message", [
    ([[1.0, np.nan], [2.0, np.inf]], "KL: no value of a member is a number"),
    ([], r"KL: shape \(0,\)"),
    (np.ones((2, 2, 2)), r"KL: shape \(2, 2, 2\)"),
])  # fmt: skip
def test_values_without_a_peak_are_refused_by_name(values, message, tmp_path):
    with pytest.raises(InputError, match=message):
        plot_peak(values, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


# -- reconstruction errors -------------------------------------------------------------------------------


def test_contents_errors_and_ratios_are_those_of_a_plain_loop(tmp_path, undrawn):
    rng = np.random.default_rng(5)
    samples = {"background": rng.lognormal(0, 1, 500), "signal": rng.lognormal(1, 1, 200)}
    weights = {"background": rng.uniform(-0.2, 2, 500)}
    numbers = plot_errors(samples, tmp_path / "a.png", weights=weights, bins=[0.1, 0.5, 1, 2, 8, 1e4])
    edges, found = numbers["edges"], numbers["samples"]
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = [w for x, w in zip(samples["background"], weights["background"]) if low <= x < high]
        counted = sum(low <= x < high for x in samples["signal"])
        assert found["background"]["content"][i] == pytest.approx(sum(inside))
        assert found["background"]["error_low"][i] == pytest.approx(math.sqrt(sum(w * w for w in inside)))
        assert found["background"]["error_high"][i] == found["background"]["error_low"][i]
        assert found["signal"]["content"][i] == counted
        if sum(inside) > 0:
            assert found["signal"]["ratio"][i] == pytest.approx(counted / sum(inside))
            assert found["signal"]["ratio_error_high"][i] == pytest.approx(
                found["signal"]["error_high"][i] / sum(inside)
            )
        else:
            assert found["signal"]["ratio"][i] is None
    assert found["background"]["sum_of_weights"] == pytest.approx(weights["background"].sum())


def test_bars_of_counts_are_the_poisson_intervals_of_the_tables(tmp_path, undrawn):
    # PDG, Statistics, one standard deviation: n = 0: 1.84; 1: 0.17 to 3.30; 4: 2.09 to 7.16
    numbers = plot_errors({"data": [1.5, 3, 3, 3, 3]}, tmp_path / "a.png", bins=[1, 2, 4, 8])
    found = numbers["samples"]["data"]
    content, low, high = (np.array(found[key]) for key in ("content", "error_low", "error_high"))
    np.testing.assert_allclose((content - low)[:2], [0.173, 2.086], atol=1e-3)
    np.testing.assert_allclose(content + high, [3.300, 7.163, 1.841], atol=1e-3)
    assert low[2] == 0


def test_every_event_is_in_a_bin_or_counted_beside_them(tmp_path, undrawn):
    rng = np.random.default_rng(6)
    samples = {"background": np.r_[rng.lognormal(0, 2, 5000), np.zeros(3), -1.0], "data": rng.lognormal(1, 3, 4000)}
    for bins in (25, [0.5, 1.0, 2.0]):
        for sample in plot_errors(samples, tmp_path / "a.png", bins=bins)["samples"].values():
            outside = sample["not_positive"] + sample["below"] + sample["above"]
            assert sum(sample["content"]) + outside == sample["events"]
            assert outside <= 0.0025 * sample["events"] or bins != 25
    found = plot_errors(samples, tmp_path / "a.png")["samples"]["background"]
    assert found["not_positive"] == 4 and found["above"] == 0


def test_events_without_a_bin_are_said_in_the_figure(tmp_path, monkeypatch, undrawn):
    from matplotlib.axes import Axes

    titles, set_title = [], Axes.set_title
    monkeypatch.setattr(Axes, "set_title", lambda axis, text, **k: titles.append(text) or set_title(axis, text, **k))
    plot_errors({"background": [0.0, 0.1, 1.5], "X": [-1.0, 0.0, 1.5, 9.0]}, tmp_path / "a.png", bins=[1, 2])
    assert titles == ["events not in a bin: background 1 ≤ 0, 1 below; X 2 ≤ 0, 1 above"]


def test_automatic_bins_are_equal_in_the_logarithm_and_hold_the_largest_score(tmp_path, undrawn):
    scores = np.random.default_rng(7).lognormal(0, 1, 100)
    edges = np.array(plot_errors({"background": scores}, tmp_path / "a.png", bins=7)["edges"])
    assert len(edges) == 8 and edges[0] == scores.min() and edges[-1] == scores.max()
    np.testing.assert_allclose(np.diff(np.log(edges)), np.log(edges[-1] / edges[0]) / 7)


def test_normalised_samples_sum_to_one_with_what_is_outside(tmp_path, undrawn):
    samples = {"background": [1.0, 2.0, 3.0, -1.0], "signal": [2.0, 3.0]}
    found = plot_errors(samples, tmp_path / "a.png", bins=[0.5, 10], normalise=True, weights={"signal": [2.0, 6.0]})
    assert found["samples"]["background"]["content"] == [0.75] and found["samples"]["signal"]["content"] == [1.0]
    assert found["samples"]["signal"]["ratio"] == [pytest.approx(4 / 3)]


@pytest.mark.parametrize("scores", [[3.0], [3.0] * 50, [1e-30, 1e30], np.float32([2, 2])])
def test_odd_scores_are_drawn(scores, tmp_path):
    numbers = plot_errors({"data": scores, "background": scores, "X": scores}, tmp_path / "a.png", bins=5)
    found = numbers["samples"]["X"]
    assert sum(found["content"]) == len(scores)
    assert {ratio for ratio in found["ratio"] if ratio is not None} == {1.0}


def test_samples_that_share_no_bin_are_drawn(tmp_path):
    found = plot_errors({"background": [1.0], "X": [100.0]}, tmp_path / "a.png", bins=[0.5, 5, 500])["samples"]["X"]
    assert found["ratio"] == [0.0, None]


@pytest.mark.parametrize("samples, options, message", [
    ({}, {}, "samples: .*expected at least one"),
    ({"": [1.0]}, {}, "samples: .*each with a name"),
    ({"data": [1.0], "X": []}, {}, "X: no events"),
    ({"data": [1.0, np.nan]}, {}, "data: 1 of 2 values are NaN or infinite"),
    ({"data": [1.0, np.inf]}, {}, "data: 1 of 2 values are NaN or infinite"),
    ({"data": [[1.0]]}, {}, r"data: shape \(1, 1\), expected \(N,\)"),
    ({"data": ["a"]}, {}, "data: list, expected an array of numbers"),
    ({"data": [0.0], "X": [-1.0]}, {}, "no score is above 0"),
    ({"data": [1.0]}, {"weights": {"X": [1.0]}}, r"weights: \['X'\] are no samples"),
    ({"data": [1.0]}, {"weights": {"data": [1.0, 2.0]}}, r"weights of data: shape \(2,\), expected \(1,\)"),
    ({"data": [1.0]}, {"weights": {"data": [np.nan]}}, "weights of data: 1 of 1 values"),
    ({"data": [1.0]}, {"weights": {"data": [0.0]}, "normalise": True}, "their sum is 0"),
    ({"data": [1.0]}, {"bins": 0}, "bins: 0, expected at least one"),
    ({"data": [1.0]}, {"bins": [0.0, 1.0]}, "expected edges above 0 that increase"),
    ({"data": [1.0]}, {"bins": [2.0, 1.0]}, "expected edges above 0 that increase"),
    ({"data": [1.0]}, {"bins": [1.0, np.nan]}, "expected edges above 0 that increase"),
])  # fmt: skip
def test_scores_that_cannot_be_drawn_are_refused_by_name(samples, options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        plot_errors(samples, tmp_path / "a.png", **options)
    assert list(tmp_path.iterdir()) == []


# -- observables ------------------------------------------------------------------------------------------


def test_pulls_and_histograms_are_those_of_a_plain_computation(tmp_path, undrawn):
    import statistics

    rng = np.random.default_rng(8)
    x, label = rng.gamma(3, 50, (301, 2)).astype("float32"), rng.integers(0, 3, 301)
    y = x * 0.7 + 10
    numbers = plot_observables(x, y, ["a", "b"], label, tmp_path / "a.png", names={2: "X", 0: "QCD"}, bins=15)
    for name, number in (("QCD", 0), ("X", 2)):
        assert numbers["events"][name] == np.count_nonzero(label == number)
        for i, column in enumerate("ab"):
            before, after = ([float(v) for v in values[label == number, i]] for values in (x, y))
            pull = (statistics.median(after) - statistics.median(before)) / statistics.pstdev(before)
            assert numbers["pulls"][name][column] == pytest.approx(pull)
            found = numbers["columns"][column]
            low, high = found["edges"][0], found["edges"][-1]
            for kind, values in (("input", before), ("reconstructed", after)):
                outside = sum(not low <= v <= high for v in values) / len(values)
                assert found["classes"][name][f"{kind}_outside"] == pytest.approx(outside)
                assert sum(found["classes"][name][kind]) + outside == pytest.approx(1)
    assert numbers["columns"]["a"]["edges"][-1] == pytest.approx(
        max(np.quantile(x[label == n, 0].astype(float), 0.995) for n in (0, 2))
    )


def test_a_perfect_reconstruction_has_no_pull_and_a_shift_by_one_std_has_one(tmp_path, undrawn):
    x = np.random.default_rng(9).normal(size=(1000, 2))
    numbers = plot_observables(
        x, x + [0, x[:, 1].std()], ["a", "b"], np.zeros(1000), tmp_path / "a.png", names={0: "c"}
    )
    assert numbers["pulls"]["c"] == {"a": 0.0, "b": pytest.approx(1.0)}


@pytest.mark.parametrize("events, value", [(1, 5.0), (7, 0.1), (3, 0.0)])
def test_a_column_without_spread_has_no_pull(events, value, tmp_path):
    x = np.full((events, 1), value)
    numbers = plot_observables(x, x + 1e9, ["m"], np.ones(events), tmp_path / "a.png", names={1: "X"})
    assert numbers["pulls"] == {"X": {"m": None}}
    assert numbers["columns"]["m"]["classes"]["X"]["reconstructed_outside"] == 1


def test_a_collapsed_reconstruction_does_not_flatten_the_inputs(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    limits, savefig = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *a, **k: limits.append(figure.axes[0].get_ylim()) or savefig(figure, *a, **k)
    )
    x = np.random.default_rng(0).normal(size=(2000, 1))
    found = plot_observables(x, 0 * x, ["m"], np.zeros(2000), tmp_path / "a.png", names={0: "QCD"})["columns"]["m"]
    assert max(found["classes"]["QCD"]["reconstructed"]) == 1
    assert limits[0][1] == pytest.approx(3 * max(found["classes"]["QCD"]["input"]))


def test_many_columns_are_drawn(tmp_path):
    x = np.random.default_rng(1).normal(size=(50, 14))
    numbers = plot_observables(
        x, x, [f"a_long_name_{i}" for i in range(14)], np.zeros(50), tmp_path / "a.png", names={0: "c"}
    )
    assert len(numbers["columns"]) == 14


@pytest.mark.parametrize("change, message", [
    ({"original": np.full((4, 2), np.nan)}, "input a of QCD: 2 of 2 values are NaN"),
    ({"reconstruction": np.full((4, 2), np.inf)}, "reconstructed a of QCD: 2 of 2 values are NaN or infinite"),
    ({"reconstruction": np.ones((4, 3))}, r"reconstruction: shape \(4, 3\), expected \(4, 2\)"),
    ({"original": np.ones(4)}, r"original: shape \(4,\)"),
    ({"label_of": np.zeros(3)}, r"original: shape \(4, 2\), expected \(3, 2\)"),
    ({"names": {7: "X"}}, "input a of X: no events"),
    ({"names": {}}, "expected at least one of each"),
    ({"names": {0: "X", 1: "X"}}, "all different"),
    ({"columns": ["a", "a"]}, "all different"),
])  # fmt: skip
def test_observables_that_do_not_fit_are_refused_by_name(change, message, tmp_path):
    given = {
        "original": np.ones((4, 2)),
        "reconstruction": np.ones((4, 2)),
        "columns": ["a", "b"],
        "label_of": np.array([0, 0, 1, 1]),
        "path": tmp_path / "a.png",
        "names": {0: "QCD", 1: "X"},
    }
    with pytest.raises(InputError, match=message):
        plot_observables(**(given | change))
    assert list(tmp_path.iterdir()) == []


# -- ROC curves --------------------------------------------------------------------------------------------


def plain_roc(background, signal):
    """(eps_B, eps_S, threshold) of every cut score >= threshold."""
    cuts = [np.inf, *sorted({*background, *signal}, reverse=True)]
    return [(np.mean(background >= cut), np.mean(signal >= cut), cut) for cut in cuts]


def tightest(roc, eps_s):
    return min(b for b, s, _ in roc if s >= eps_s - 1e-12)


def test_the_curve_is_that_of_scikit_learn_and_of_a_plain_loop(tmp_path, undrawn):
    rng = np.random.default_rng(10)
    background, signal = rng.normal(0, 1, 700).round(2), rng.normal(1, 1, 300).round(2)
    for direction, sign in (("score", 1), ("minus score", -1)):
        found = plot_roc(background, {"X": signal}, tmp_path / "a.png", both=True)["signals"]["X"][direction]
        truth, score = np.r_[np.zeros(700), np.ones(300)], sign * np.r_[background, signal]
        exact = set(zip(*(rate.round(12).tolist() for rate in roc_curve(truth, score, drop_intermediate=False)[:2])))
        drawn = list(zip(found["background_efficiency"].round(12), found["signal_efficiency"].round(12)))
        assert set(drawn) <= exact and drawn[0] == (0, 0) and drawn[-1] == (1, 1)
        assert found["auc"] == pytest.approx(roc_auc_score(truth, score))
        assert found["auc"] == metrics.auc(sign * background, sign * signal)
        plain = plain_roc(sign * background, sign * signal)
        assert {(round(b, 12), round(s, 12)) for b, s, _ in plain} == exact


@pytest.mark.parametrize("minimum", [1, 10, 100])
def test_the_best_working_point_is_the_best_of_all_with_enough_background(minimum, tmp_path, undrawn):
    rng = np.random.default_rng(11)
    background, signal = rng.normal(0, 1, 700), rng.normal(1.5, 1, 300)
    numbers = plot_roc(background, {"X": signal}, tmp_path / "a.png", minimum=minimum)
    best = numbers["signals"]["X"]["score"]["best"]
    allowed = [(s / b**0.5, b, s, cut) for b, s, cut in plain_roc(background, signal) if round(b * 700) >= minimum]
    gain, b, s, cut = max(allowed)
    assert best["gain"] == pytest.approx(gain) and best["threshold"] == cut
    assert best["background_efficiency"] == pytest.approx(b) and best["signal_efficiency"] == pytest.approx(s)
    assert best["background_events"] == np.count_nonzero(background >= best["threshold"]) >= minimum


def test_the_error_of_the_gain_is_its_spread_over_repeated_samples(tmp_path, undrawn):
    rng = np.random.default_rng(12)
    b, s, backgrounds, signals = 0.02, 0.4, 3000, 500
    gains = rng.binomial(signals, s, 20000) / signals / np.sqrt(rng.binomial(backgrounds, b, 20000) / backgrounds)
    # the same efficiencies as scores of 0 and 1: the only cut is the one at 1, or none
    background, signal = np.repeat([1.0, 0.0], [60, 2940]), np.repeat([1.0, 0.0], [200, 300])
    best = plot_roc(background, {"X": signal}, tmp_path / "a.png")["signals"]["X"]["score"]["best"]
    assert best["gain"] == pytest.approx(s / b**0.5)
    assert best["error"] == pytest.approx(gains.std(), rel=0.03)


def test_gain_of_shifted_gaussians_is_that_of_the_closed_form(tmp_path, undrawn):
    from scipy.stats import norm

    rng = np.random.default_rng(13)
    found = plot_roc(rng.normal(0, 1, 200_000), {"X": rng.normal(1.5, 1, 50_000)}, tmp_path / "a.png")["signals"]["X"]
    cut = np.linspace(-3, 4, 2001)
    expected = (norm.sf(cut - 1.5) / np.sqrt(norm.sf(cut)))[norm.sf(cut) > 1e-3].max()
    assert found["score"]["best"]["gain"] == pytest.approx(expected, rel=0.04)
    assert found["score"]["auc"] == pytest.approx(norm.cdf(1.5 / 2**0.5), abs=0.003)


def ensemble(seed=14, members=5):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, 200) + rng.normal(0, 0.5, (members, 200)), rng.normal(1, 1, 150) + rng.normal(
        0, 0.5, (members, 150)
    )


@pytest.mark.parametrize("direction, sign", [("score", 1), ("minus score", -1)])
def test_the_band_of_std_is_between_the_curves_of_mean_plus_and_minus_std(direction, sign, tmp_path, undrawn):
    pair = ensemble()
    numbers = plot_roc(pair[0], {"X": pair[1]}, tmp_path / "a.png", both=True)
    found = numbers["signals"]["X"][direction]
    curves = [plain_roc(*(sign * (score.mean(0) + up * score.std(0)) for score in pair)) for up in (1, -1)]
    edges = np.array([[tightest(curve, eps) for curve in curves] for eps in found["grid"]])
    np.testing.assert_allclose(found["low"], edges.min(1))
    np.testing.assert_allclose(found["high"], edges.max(1))
    assert numbers["band"] == "std" and found["low"][0] < found["high"][250]


def test_the_band_of_members_is_the_central_68_percent_of_their_curves(tmp_path, undrawn):
    pair = ensemble()
    numbers = plot_roc(pair[0], {"X": pair[1]}, tmp_path / "a.png", band="members")
    found = numbers["signals"]["X"]["score"]
    curves = [plain_roc(pair[0][k], pair[1][k]) for k in range(5)]
    edges = np.array([[tightest(curve, eps) for curve in curves] for eps in found["grid"]])
    low, high = np.quantile(edges, [0.158655, 0.841345], axis=1)
    np.testing.assert_allclose(found["low"], low, atol=1e-5)
    np.testing.assert_allclose(found["high"], high, atol=1e-5)
    np.testing.assert_allclose(found["members_auc"], [metrics.auc(pair[0][k], pair[1][k]) for k in range(5)])


def test_the_curve_of_an_ensemble_is_that_of_the_mean_and_its_std_may_be_given(tmp_path, undrawn):
    pair = ensemble()
    means, stds = ([op(score, axis=0) for score in pair] for op in (np.mean, np.std))
    one = plot_roc(pair[0], {"X": pair[1]}, tmp_path / "a.png")["signals"]["X"]["score"]
    std = {"background": stds[0], "X": stds[1]}
    two = plot_roc(means[0], {"X": means[1]}, tmp_path / "b.png", std=std)["signals"]["X"]["score"]
    for key in ("auc", "low", "high", "best", "signal_efficiency"):
        np.testing.assert_equal(one[key], two[key])
    assert len(one["members_auc"]) == 5 and len(two["members_auc"]) == 0


def test_no_direction_is_chosen_and_both_are_drawn_on_demand(tmp_path, undrawn):
    background, signal = np.arange(100.0), np.arange(30.0)
    found = plot_roc(background, {"X": signal}, tmp_path / "a.png")["signals"]["X"]
    assert set(found) == {"events", "score"} and found["score"]["auc"] < 0.2
    both = plot_roc(background, {"X": signal}, tmp_path / "a.png", both=True)["signals"]["X"]
    assert both["score"]["auc"] + both["minus score"]["auc"] == pytest.approx(1)
    np.testing.assert_equal(both["score"], found["score"])


def test_equal_scores_know_nothing(tmp_path, undrawn):
    found = plot_roc(np.ones(50), {"X": np.ones(20)}, tmp_path / "a.png", both=True)["signals"]["X"]
    for direction in ("score", "minus score"):
        assert found[direction]["auc"] == 0.5 and found[direction]["best"]["gain"] == 1
        assert found[direction]["best"]["error"] == 0


def test_too_little_background_has_no_working_point(tmp_path):
    numbers = plot_roc([1.0], {"X": [2.0]}, tmp_path / "a.png")
    found = numbers["signals"]["X"]["score"]
    assert found["auc"] == 1 and np.isnan(found["best"]["gain"]) and numbers["band"] == "none"


@pytest.mark.parametrize("change, message", [
    ({"background": []}, "background: no events"),
    ({"background": [np.nan, 1.0]}, "background: 1 of 2 values are NaN"),
    ({"background": np.ones((2, 2, 2))}, r"background: shape \(2, 2, 2\)"),
    ({"background": 3.0}, r"background: shape \(\)"),
    ({"background": np.ones((2, 3))}, "expected the same number for background and all signals"),
    ({"signals": {}}, "signals: .*at least one"),
    ({"signals": {"X": [np.inf]}}, "X: 1 of 1 values are NaN or infinite"),
    ({"signals": {"X": []}}, "X: no events"),
    ({"signals": {"background": [1.0]}}, "one is named 'background'"),
    ({"band": "both"}, "band: 'both', expected 'std' or 'members'"),
    ({"std": {"background": [0.1, 0.1]}}, r"std: of \['background'\], expected it of \['X', 'background'\]"),
    ({"std": {"background": [0.1], "X": [0.1]}}, r"std of background: shape \(1,\), expected \(2,\)"),
    ({"std": {"background": [0.1, np.nan], "X": [0.1]}}, "std of background: 1 of 2 values are NaN"),
    ({"std": {"background": [0.1, 0.1], "X": [0.1]}, "band": "members"}, "std: given with"),
])  # fmt: skip
def test_scores_without_a_roc_curve_are_refused_by_name(change, message, tmp_path):
    given = {"background": [1.0, 2.0], "signals": {"X": [2.0]}, "path": tmp_path / "a.png"}
    with pytest.raises(InputError, match=message):
        plot_roc(**(given | change))
    assert list(tmp_path.iterdir()) == []


# -- the scan ------------------------------------------------------------------------------------------------

Z, MASS = np.linspace(-4, 4, 30), np.linspace(2000, 4000, 40)
MAP = {"m_j": np.outer(MASS / 10, np.exp(Z / 4))}


@pytest.mark.parametrize("events", [300, 20_000])
def test_a_region_encloses_its_share_and_has_the_radius_of_the_closed_form(events, tmp_path, undrawn):
    z, mass = gaussian(events)
    found = plot_scan(Z, MASS, MAP, tmp_path / "a.png", regions={"QCD": (z, mass)})["regions"]["QCD"]
    for share in (0.68, 0.95):
        region = found[f"{100 * share:.0f}"]
        assert region["enclosed"] == pytest.approx(share, abs=1.01 / events)
        points = max(region["contours"].values(), key=len)
        assert np.mean(inside(points, z, mass)) == pytest.approx(share, abs=0.02 if events > 1000 else 0.06)
        # a 2D Gaussian holds 1 - exp(-r^2/2) within r standard deviations
        radii = np.hypot(points[:, 0], (points[:, 1] - 3000) / 200)
        expected = math.sqrt(-2 * math.log(1 - share))
        assert radii.mean() == pytest.approx(expected, rel=0.03 if events > 1000 else 0.12)
        assert radii.std() < (0.06 if events > 1000 else 0.2) * expected


def inside(polygon, x, y):
    from matplotlib.path import Path

    return Path(polygon).contains_points(np.column_stack([x, y]))


def test_fresh_events_fall_into_the_region_as_often(tmp_path, undrawn):
    found = plot_scan(Z, MASS, MAP, tmp_path / "a.png", regions={"QCD": gaussian(20_000)})["regions"]["QCD"]
    for share in ("68", "95"):
        points = max(found[share]["contours"].values(), key=len)
        assert np.mean(inside(points, *gaussian(20_000, seed=1))) == pytest.approx(int(share) / 100, abs=0.012)


def test_two_clumps_have_two_contours(tmp_path, undrawn):
    z, mass = np.hstack([gaussian(3000, 1, -6), gaussian(3000, 2, 6)])
    found = plot_scan(Z, MASS, MAP, tmp_path / "a.png", regions={"X": (z, mass)})["regions"]["X"]
    big = [line for line in found["68"]["contours"].values() if len(line) > 20]
    assert sorted(round(float(np.median(line[:, 0]))) for line in big) == [-6, 6]
    assert found["in_window"] == np.mean((abs(z) <= 4) & (mass >= 2000) & (mass <= 4000)) < 0.1


def test_the_density_integrates_to_one_and_outliers_do_not_widen_it():
    x, y = gaussian(5000)
    (xs, ys), density = plots.smooth_density(x, y)
    cell = (xs[1] - xs[0]) * (ys[1] - ys[0])
    assert density.sum() * cell == pytest.approx(1, abs=0.01)
    # a Gaussian smoothed by n^(-1/6) of its width
    h = 5000 ** (-1 / 6)
    assert density.max() == pytest.approx(1 / (2 * math.pi * 200 * (1 + h * h)), rel=0.1)
    _, far = plots.smooth_density(np.r_[x, 1e6], np.r_[y, 3000.0])
    assert far.max() == pytest.approx(density.max(), rel=0.05)


def test_the_scan_keeps_maps_grids_and_truth(tmp_path, undrawn):
    numbers = plot_scan(Z, MASS, MAP, tmp_path / "a.png", regions={}, truth={"m_j": (300, 20, 310)})
    np.testing.assert_equal(numbers["observables"], MAP)
    np.testing.assert_equal([numbers["z"], numbers["truth"]["m_j"]], [Z, np.array([300.0, 20.0, 310.0])])


def test_truth_lines_lie_where_the_decoder_gives_the_truth(tmp_path, monkeypatch, undrawn):
    from matplotlib.axes import Axes

    drawn, contour = [], Axes.contour
    monkeypatch.setattr(Axes, "contour", lambda axis, *a, **k: drawn.append(contour(axis, *a, **k)) or drawn[-1])
    plot_scan(Z, MASS, MAP, tmp_path / "a.png", regions={}, truth={"m_j": (300.0, 250.0, 310.0)})
    assert [float(c.levels[0]) for c in drawn] == [300.0, 550.0, 310.0]  # 50 is reached nowhere
    for lines in drawn:
        points = np.vstack([path.vertices for path in lines.get_paths()])
        np.testing.assert_allclose(points[:, 1] / 10 * np.exp(points[:, 0] / 4), lines.levels[0], rtol=0.01)


@pytest.mark.parametrize("change, message", [
    ({"z": Z[::-1]}, "z: 30 values, expected at least two that increase"),
    ({"mass": [3000.0]}, "mass: 1 values"),
    ({"mass": [3000.0, np.nan]}, "mass: 1 of 2 values are NaN"),
    ({"observables": {}}, "observables: .*at least one"),
    ({"observables": {"m_j": MAP["m_j"].T}}, r"m_j: shape \(30, 40\), expected \(40, 30\): masses x z"),
    ({"observables": {"m_j": MAP["m_j"] * np.nan}}, "m_j: 1200 of 1200 values are NaN"),
    ({"regions": {"X": ([], [])}}, "z of X: no events"),
    ({"regions": {"X": ([1.0], [3000.0])}}, "z of X: 1 events at 1, expected a spread"),
    ({"regions": {"X": ([1.0, 2.0], [3000.0, 3000.0])}}, "mass of X: 2 events at 3000, expected a spread"),
    ({"regions": {"X": ([1.0, 2.0], [3000.0])}}, r"mass of X: shape \(1,\), expected \(2,\)"),
    ({"regions": {"X": ([1.0, np.nan], [3000.0, 1.0])}}, "z of X: 1 of 2 values are NaN"),
    ({"regions": {"X": [1.0, 2.0, 3.0]}}, r"regions: \[3\] arrays, expected z and mass"),
    ({"truth": {"m": (1, 2, 3)}}, r"expected \(mean, std, median\) of some of \['m_j'\]"),
    ({"truth": {"m_j": (1, 2)}}, r"expected \(mean, std, median\)"),
    ({"truth": {"m_j": (1, 2, np.nan)}}, "truth of m_j: 1 of 3 values are NaN"),
])  # fmt: skip
def test_a_scan_that_does_not_fit_is_refused_by_name(change, message, tmp_path):
    given = {"z": Z, "mass": MASS, "observables": MAP, "path": tmp_path / "a.png", "regions": {"X": gaussian(50)}}
    with pytest.raises(InputError, match=message):
        plot_scan(**(given | change))
    assert list(tmp_path.iterdir()) == []
