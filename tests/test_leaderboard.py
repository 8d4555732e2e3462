"""The challenge's evaluation against hand-computed tables, plain loops and toys; no published file is needed."""

import errno
import json
import resource
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, norm

from pipelines import Events, InputError
from pipelines.leaderboard import (
    FIGURES,
    WAYS,
    Table,
    auc_error,
    compare,
    entries,
    impossible,
    improvements,
    judge,
    measure,
    plot,
    rankings,
    read,
    report,
    write,
)
from pipelines.outputs import Disk

HEADER = "Signal,Model,Chan,AUC,1e-2,1e-3,1e-4"
# stop is in two channels. By hand, eps_S / sqrt(eps_B) with 10, 31.6228 and 100 for the three columns:
#   A stop 1: 2, 3.16228, 1;  stop 3: 3, 1.58114, 4 -> 4;   A mono: 1, 0.316228, 0 -> 1
#   B stop 1: 5, 3.16228, 0;  stop 3: 0.5, 0, 0      -> 5;   B mono: 0.2, 0.0632456, 0.1 -> 0.2
ROWS = """stop,A,1,0.8,0.2,0.1,0.01
stop,A,3,0.9,0.3,0.05,0.04
mono,A,1,0.6,0.1,0.01,0.0
stop,B,1,0.9,0.5,0.1,0.0
stop,B,3,0.9,0.05,0.0,0.0
mono,B,1,0.5,0.02,0.002,0.001
"""
SUMMARY = "Model,MinTotalImprovement,MedianTotalImprovement,MaxTotalImprovement\n"


@pytest.fixture
def csv(tmp_path):
    def make(rows=ROWS, name="scores.csv", header=HEADER):
        path = tmp_path / name
        path.write_text(f"{header}\n{rows}")
        return path

    return make


@pytest.fixture
def table(csv):
    return read(csv())


# -- measuring -----------------------------------------------------------------------------------------------


def delong_by_loops(background, signal):
    """The 1988 formula with its double loop, nothing shared with the ranks of `auc_error`."""
    psi = np.array([[(s > b) + 0.5 * (s == b) for b in background] for s in signal])
    of_signal, of_background = psi.mean(axis=1), psi.mean(axis=0)
    return np.sqrt(np.var(of_signal, ddof=1) / len(signal) + np.var(of_background, ddof=1) / len(background))


@pytest.mark.parametrize(
    "draw", [lambda rng, n: rng.normal(size=n), lambda rng, n: rng.integers(0, 4, n).astype(float)]
)
def test_auc_error_is_that_of_delong_also_with_ties(draw):
    rng = np.random.default_rng(3)
    background, signal = draw(rng, 40), draw(rng, 25) + 0.5 * rng.integers(0, 3, 25)
    assert auc_error(background, signal) == pytest.approx(delong_by_loops(background, signal), rel=1e-12)


def test_values_are_those_of_two_gaussians():
    rng = np.random.default_rng(1)
    found = measure(rng.normal(size=400_000), rng.normal(2, size=100_000))
    expected = {"AUC": norm.cdf(2 / np.sqrt(2))} | {f: norm.sf(norm.isf(float(f)) - 2) for f in FIGURES[1:]}
    for figure in FIGURES:
        value, error = found[figure]
        assert abs(value - expected[figure]) < 4 * error and error < 0.03


@pytest.fixture(scope="module")
def toys():
    """200 experiments: values and errors, (200, 4), and truth (4,)."""
    rng = np.random.default_rng(5)
    found = np.array([list(measure(rng.normal(size=20_000), rng.normal(2, size=5_000)).values()) for _ in range(200)])
    truth = [norm.cdf(2 / np.sqrt(2)), *(norm.sf(norm.isf(float(figure)) - 2) for figure in FIGURES[1:])]
    return found[:, :, 0], found[:, :, 1], np.array(truth)


@pytest.mark.parametrize("figure", ["AUC", "1e-2", "1e-3"])
def test_errors_are_the_spread_of_repeated_experiments(toys, figure):
    values, errors, truth = (x[..., FIGURES.index(figure)] for x in toys)
    assert values.std() == pytest.approx(np.sqrt(np.mean(errors**2)), rel=0.17)  # 3 sigma: 200 toys know it to 5 %
    assert 0.85 < np.std((values - truth) / errors) < 1.2


def test_counting_the_signal_alone_would_understate_the_error(toys):
    """At 1e-3 of 20,000 the threshold is set by 20 events: the binomial error of 5,000 is several times too small."""
    values, errors, truth = (x[..., FIGURES.index("1e-3")] for x in toys)
    binomial = np.sqrt(truth * (1 - truth) / 5_000)
    assert values.std() > 2 * binomial and errors.mean() > 2 * binomial


def test_error_agrees_with_a_bootstrap():
    rng = np.random.default_rng(11)
    background, signal = rng.normal(size=20_000), rng.normal(1.5, size=1_000)
    again = [
        [v for v, _ in measure(rng.choice(background, len(background)), rng.choice(signal, len(signal))).values()]
        for _ in range(100)
    ]
    spread = dict(zip(FIGURES, np.std(again, axis=0)))
    for figure in ("AUC", "1e-2"):
        assert measure(background, signal)[figure][1] == pytest.approx(spread[figure], rel=0.25)


def test_none_of_the_signal_is_not_known_to_be_zero():
    """With an infinitely precise threshold the error is that of Jeffreys' posterior, Beta(1/2, n + 1/2)."""
    value, error = measure(np.arange(10_000.0), np.full(50, -1.0))["1e-2"]
    assert value == 0 and error == pytest.approx(beta(0.5, 50.5).std())


def test_working_point_that_no_background_event_reaches_is_not_a_number():
    found = measure(np.arange(999.0), np.arange(1000.0))
    assert np.isfinite(found["1e-2"]).all() and np.isnan(found["1e-3"]).all() and np.isnan(found["1e-4"]).all()
    assert np.isfinite(measure(np.arange(1000.0), np.arange(1000.0))["1e-3"]).all()


@pytest.mark.parametrize(
    ("background", "signal", "message"),
    [
        ([0.0, 1.0], [1.0], "2 background and 1 signal scores, expected at least 2"),
        ([0.0, 1.0], [], "no scores"),
        ([0.0, np.nan], [0.0, 1.0], "1 of 2 scores are NaN or infinite"),
    ],
)
def test_too_few_or_broken_scores_are_refused(background, signal, message):
    with pytest.raises(InputError, match=message):
        measure(np.array(background), np.array(signal))


def labelled(**more):
    label = np.array([0] * 300 + [1] * 20 + [2] * 30)
    more.setdefault("label", label)
    return Events.from_arrays(np.zeros((350, 1)), np.ones(350), ["x"], **more), label


def test_every_process_is_judged_against_all_background():
    rng = np.random.default_rng(2)
    process = np.array([0] * 100 + [1] * 200 + [7] * 20 + [8] * 30)
    events, label = labelled(process=process, process_names={0: "ttbar", 1: "njets", 7: "stop", 8: "monojet"})
    score = rng.normal(size=350) + label
    found = judge(score, events, model="mine", channel="2b")
    assert found.pairs == (("stop", "2b"), ("monojet", "2b")) and found.models == ("mine",)
    assert found.values[1, 0] == measure(score[:300], score[320:])["AUC"][0]
    assert found.errors[0, 1] == measure(score[:300], score[300:320])["1e-2"][1]


def test_labels_name_the_signals_where_there_are_no_processes():
    events, label = labelled(label_names={1: "two-prong"})
    assert judge(label * 1.0, events, model="m", channel="1").signal.tolist() == ["two-prong", "2"]


def test_weights_that_differ_are_warned_of_since_they_are_not_used():
    events, label = labelled(weight=np.linspace(1, 2, 350))
    with pytest.warns(UserWarning, match="weights differ within the background and are not used"):
        judge(label * 1.0, events, model="m", channel="1")


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (lambda: labelled(label=None)[0], "has no labels"),
        (lambda: labelled(label=np.zeros(350, int))[0], "no signal"),
        (lambda: labelled(label=np.ones(350, int))[0], r"no background \(label 0\)"),
        (lambda: labelled()[0].take(np.arange(340)), r"scores of shape \(350,\), expected \(340,\)"),
    ],
)
def test_events_that_cannot_be_judged_say_why(events, message):
    with pytest.raises(InputError, match=message):
        judge(np.arange(350.0), events(), model="m", channel="1")


@pytest.mark.parametrize("bad", ["", " VAE", "a\nb"])
def test_name_that_a_csv_would_not_give_back_is_refused(bad):
    with pytest.raises(InputError, match="expected a name"):
        entries(bad, "1", np.arange(10.0), {"stop": np.arange(5.0)})


# -- the challenge's CSV -------------------------------------------------------------------------------------


def test_table_is_read_as_pandas_reads_it(csv):
    found, frame = read(csv()), pd.read_csv(csv(), dtype={"Chan": str})
    assert np.array_equal(found.values, frame[list(FIGURES)])
    for ours, column in ((found.signal, "Signal"), (found.model, "Model"), (found.channel, "Chan")):
        assert ours.tolist() == frame[column].tolist()
    assert np.isnan(found.errors).all()


def test_written_table_is_the_challenges_and_comes_back_to_the_last_digit(tmp_path):
    rng = np.random.default_rng(0)
    mine = entries('odd "name", yes', "2a", rng.normal(size=5_000), {"a": rng.normal(1, size=77), "b": np.ones(9)})
    write(mine, tmp_path / "plain.csv")
    write(mine, tmp_path / "full.csv", errors=True)
    plain, full = read(tmp_path / "plain.csv"), read(tmp_path / "full.csv")
    assert (tmp_path / "plain.csv").read_text().splitlines()[0] == HEADER
    for back in (plain, full):
        assert np.array_equal(back.values, mine.values, equal_nan=True) and back.pairs == mine.pairs
        assert back.models == mine.models
    assert np.isnan(mine.values[:, 3]).all()  # 5,000 events have no 1e-4
    assert np.array_equal(full.errors, mine.errors, equal_nan=True) and np.isnan(plain.errors).all()
    frame = pd.read_csv(tmp_path / "full.csv")  # as the challenge's programs do
    assert list(frame)[:7] == HEADER.split(",") and np.array_equal(frame["AUC"], mine.values[:, 0])


def test_existing_file_is_not_written_over(table, csv):
    before = csv().read_bytes()
    with pytest.raises(InputError, match="exists already"):
        write(table, csv())
    assert csv().read_bytes() == before


def test_full_disk_leaves_no_file_and_is_named(table, tmp_path):
    many = Table(
        *(
            np.tile(x, (5_000,) + (1,) * (x.ndim - 1))
            for x in (table.signal, table.model, table.channel, table.values, table.errors)
        )
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"new\.csv: cannot be written"):
            write(many, tmp_path / "new.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.glob("*new*")) == [] and list(tmp_path.glob(".*")) == []


def test_columns_may_come_in_any_order_among_others_and_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "excel.csv"
    path.write_text(
        "\ufeff,1e-4, AUC ,Model,Chan,1e-3,1e-2,Signal,note\r\n0,.01,.8,VAE,2b,.1,.2,stop,hello\r\n\r\n",
        encoding="utf-8",
    )
    found = read(path)
    assert found.values.tolist() == [[0.8, 0.2, 0.1, 0.01]] and found.pairs == (("stop", "2b"),)


def test_same_row_twice_counts_once(csv):
    assert len(read([csv(), csv(ROWS.splitlines()[0] + "\n", "again.csv")])) == 6


def test_row_that_comes_again_with_its_errors_keeps_them(csv):
    more = csv(
        "stop,A,1,0.8,0.2,0.1,0.01,0.05,0.02,0.01,0.004\n",
        "e.csv",
        f"{HEADER},AUC_error,1e-2_error,1e-3_error,1e-4_error",
    )
    for files in ([csv(), more], [more, csv()]):
        found = read(files)
        row = (found.model == "A") & (found.signal == "stop") & (found.channel == "1")
        assert len(found) == 6 and found.errors[row].tolist() == [[0.05, 0.02, 0.01, 0.004]]


@pytest.mark.parametrize("change", [("0.8,0.2", "0.8,0.21"), ("0.8,0.2", "0.8,"), ("0.8,0.2", "0.81,0.2")])
def test_same_row_with_other_numbers_names_both_files_and_lines(csv, change):
    first = ROWS.splitlines()[0]
    with pytest.raises(InputError, match=r"b\.csv, line 2: stop, A, 1 has .* in .*a\.csv, line 2"):
        read([csv(first + "\n", "a.csv"), csv(first.replace(*change) + "\n", "b.csv")])


def test_empty_row_of_figures_does_not_stand_for_any_other(csv):
    """Nothing measured first and numbers later is a difference as well, the other way round as this way."""
    lines = ["stop,A,1,,,,\n", "stop,A,1,0.8,0.2,0.1,0.01\n"]
    for order in (lines, lines[::-1]):
        with pytest.raises(InputError, match="remove one of them"):
            read(csv("".join(order)))


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ("", HEADER, "has a header but no rows"),
        ("stop,A,1,0.8,0.2,0.1\n", "Signal,Model,Chan,AUC,1e-2,1e-3", "no column 1e-4, found 'Signal, Model"),
        ("stop;A\n", HEADER.replace(",", ";"), "no column Signal, Model"),
        ("A,1,2,3\n", SUMMARY.strip(), "that is a summary of scores; leave it out"),
        ("stop,A,1,0.8,0.2,0.1,0.01,1\n", HEADER + ",AUC", "column AUC is there 2 times"),
        ("stop,A,1,0.8,0.2,0.1\n", HEADER, "line 2: 6 fields, expected 7"),
        (
            ROWS + "stop,C,1,0.8,21,0.1,0.01\n",
            HEADER,
            "line 8: 1e-2 is '21', expected a number from 0 to 1; is that per cent",
        ),
        ("stop,C,1,0.8,-0.1,0.1,0.01\n", HEADER, "line 2: 1e-2 is '-0.1', expected a number from 0 to 1"),
        ("stop,C,1,1.0001,0.1,0.1,0.01\n", HEADER, "AUC is '1.0001'"),
        ("stop,C,1,0.8,0.1,0.1,inf\n", HEADER, "1e-4 is 'inf'"),
        ("stop,C,1,0.8,0.1,x,0.1\n", HEADER, "1e-3 is 'x'"),
        ("stop,C,1,0.8,0.1,0_1,0.1\n", HEADER, "1e-3 is '0_1'"),
        ("stop,,1,0.8,0.1,0.1,0.1\n", HEADER, "line 2: Model is '', expected a name"),
        ('stop,"A\nB",1,0.8,0.1,0.1,0.1\n', HEADER, r"Model is 'A\\nB'"),
        ('stop,"A,1,0.8,0.1,0.1,0.1\n', HEADER, "expected CSV with the columns Signal"),
        ("stop,A,1,0.8,0.1,0.1,0.1,-1\n", HEADER + ",AUC_error", "AUC_error is '-1', expected a number, 0 or more"),
    ],
)
def test_table_that_is_not_one_says_file_and_reason(csv, rows, header, message):
    with pytest.raises(InputError, match=rf"bad\.csv.*{message}") as error:
        read(csv(rows, "bad.csv", header))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its first line is empty"),
        (b"\x89HDF\r\n\x1a\n\xff\xfe" + bytes(range(256)), "not text"),
        (b"<!DOCTYPE html>\n<html></html>\n", "is it a table of scores"),
        (b"x" * 200_000, "field larger than field limit"),
        (bytes(1000), "bad.csv"),
    ],
)
def test_file_of_another_kind_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read(path)
    assert "bad.csv" in str(error.value) and len(str(error.value)) < 400


def test_missing_file_and_folder_are_refused_by_name(tmp_path):
    for path, message in ((tmp_path / "none.csv", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InputError, match=message):
            read(path)
    with pytest.raises(InputError, match="no files given"):
        read([])


# -- total improvement ---------------------------------------------------------------------------------------


def test_total_improvement_is_the_best_over_working_points_and_channels(table):
    found = improvements(table)
    assert found.models == ("A", "B") and found.signals == ("stop", "mono")
    assert found.best == pytest.approx(np.array([[4.0, 1.0], [5.0, 0.2]]))
    assert found.channel.tolist() == [["3", "1"], ["1", "1"]]
    assert found.working_point.tolist() == [[1e-4, 1e-2], [1e-2, 1e-2]]
    assert (found.minimum, found.median, found.maximum) == (
        pytest.approx([1.0, 0.2]),
        pytest.approx([2.5, 2.6]),
        pytest.approx([4.0, 5.0]),
    )
    assert found.left_out == {}


def test_order_of_rows_does_not_matter(table):
    rows = np.random.default_rng(4).permutation(len(table))
    shuffled = Table(*(x[rows] for x in (table.signal, table.model, table.channel, table.values, table.errors)))
    ours, theirs = improvements(table), improvements(shuffled)
    for model in ours.models:
        a, b = ours.models.index(model), theirs.models.index(model)
        columns = [theirs.signals.index(signal) for signal in ours.signals]
        assert np.array_equal(ours.best[a], theirs.best[b][columns])
    for figure, ranking in rankings(table).items():
        for way in WAYS:
            assert ranking.order(way) == rankings(shuffled)[figure].order(way)


def test_error_is_that_of_the_efficiency_chosen():
    values = np.array([[0.8, 0.2, 0.1, 0.01], [0.9, 0.3, 0.02, 0.04]])
    errors = np.array([[0.1, 0.01, 0.02, 0.003], [0.1, 0.02, 0.01, 0.005]])
    found = improvements(Table(*(np.array(x) for x in (["s", "s"], ["A", "A"], ["1", "3"])), values, errors))
    assert found.error == pytest.approx(np.array([[0.5]])) and found.channel.tolist() == [["3"]]


def test_model_without_a_channel_is_left_out_and_named(csv):
    found = improvements(read([csv(), csv("stop,C,1,0.99,1,1,1\nmono,C,1,0.99,1,1,1\n", "c.csv")]))
    assert found.models == ("A", "B") and found.left_out == {"C": [("stop", "3")]}


def test_working_point_that_was_not_measured_is_passed_over(csv):
    """B's best for stop was 1e-2 of channel 1, A's 1e-4 of channel 3: without it 1e-3 of channel 1 is next."""
    rows = ROWS.replace("0.3,0.05,0.04", "0.3,0.05,")
    assert improvements(read(csv(rows))).best[0, 0] == pytest.approx(0.1 / np.sqrt(1e-3))


def test_pair_that_nobody_could_measure_is_asked_of_nobody(csv):
    rows = "".join(",".join([*line.split(",")[:6], ""]) + "\n" for line in ROWS.splitlines())
    found = read(csv(rows))
    assert rankings(found)["1e-4"].models == () and rankings(found)["1e-3"].models == ("A", "B")
    assert improvements(found).left_out == {}


def test_no_model_with_all_channels_is_an_error_that_says_what_is_nearest(csv):
    rows = "".join(line + "\n" for line in ROWS.splitlines() if not line.startswith(("stop,B,3", "mono,A")))
    with pytest.raises(
        InputError, match=r"no model has all 3 pairs .* A comes nearest and lacks 1, such as mono in channel 1"
    ):
        improvements(read(csv(rows)))


def test_table_without_efficiencies_has_no_improvement_but_ranks_by_auc(csv):
    found = read(csv("stop,A,1,0.8,,,\nstop,B,1,0.9,,,\n"))
    with pytest.raises(InputError, match="no signal efficiency at all"):
        improvements(found)
    assert rankings(found)["AUC"].order("mean") == [("B", 0.9), ("A", 0.8)]


# -- rankings ------------------------------------------------------------------------------------------------


def test_six_rankings_by_hand(table):
    """AUC of A: 0.8 0.9 0.6, of B: 0.9 0.9 0.5; they tie once."""
    auc = rankings(table)["AUC"].values
    assert auc["mean"] == pytest.approx([2.3 / 3, 2.3 / 3])
    assert auc["median"].tolist() == [0.8, 0.9] and auc["minimum"].tolist() == [0.6, 0.5]
    assert auc["average_rank"] == pytest.approx([(2 + 1.5 + 1) / 3, (1 + 1.5 + 2) / 3])
    assert auc["top"].tolist() == [2, 2] and auc["top5"].tolist() == [3, 3]
    loose = rankings(table)["1e-2"]
    assert loose.order("mean") == [("A", pytest.approx(0.2)), ("B", pytest.approx(0.19))]
    assert loose.order("top") == [("A", 2), ("B", 1)]
    assert loose.order("average_rank") == [("A", pytest.approx(4 / 3)), ("B", pytest.approx(5 / 3))]


def test_rankings_agree_with_pandas_on_many_models_with_ties():
    rng = np.random.default_rng(8)
    names = [(f"s{s % 5}", f"m{m:02}", str(s // 5)) for m in range(30) for s in range(10)]
    values = np.round(rng.uniform(size=(300, 4)), 1)  # one decimal: ties in plenty
    found = rankings(Table(*map(np.array, zip(*names)), values, np.full((300, 4), np.nan)))
    frame = pd.DataFrame(names, columns=["signal", "model", "channel"])
    for i, figure in enumerate(FIGURES):
        wide = frame.assign(v=values[:, i]).pivot(index="model", columns=["signal", "channel"], values="v")
        place = wide.rank(ascending=False, method="min")
        expected = {
            "mean": wide.mean(axis=1),
            "median": wide.median(axis=1),
            "minimum": wide.min(axis=1),
            "average_rank": wide.rank(ascending=False).mean(axis=1),
            "top": (place == 1).sum(axis=1),
            "top5": (place <= 5).sum(axis=1),
        }
        assert set(expected) == set(WAYS)
        for way in WAYS:
            assert dict(zip(found[figure].models, found[figure].values[way])) == pytest.approx(expected[way].to_dict())


def test_a_signal_in_two_channels_counts_twice_in_a_ranking(table):
    assert sum(rankings(table)["1e-2"].values["top"]) == len(table.pairs) == 3


def test_unknown_way_names_those_there_are(table):
    with pytest.raises(InputError, match="ranking 'best', expected one of mean, median"):
        rankings(table)["AUC"].order("best")


# -- rows that cannot be -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0.5, 0.01, 0.001, 0.0001], False),
        ([0.5, 1.0, 0.08, 0.02], True),  # all signal at 1e-2 makes an area of 0.99 at least
        ([1.0, 0.02, 0.01, 0.0], True),  # at most 0.01 * 0.02 + 0.99
        ([0.995, 0.02, 0.01, 0.0], False),
        ([0.489, 0.5, 0.3, 0.1], False),  # 0.4978 at least, but two decimals were published
        ([0.487, 0.5, 0.3, 0.1], True),
        ([0.8, 0.1, 0.2, 0.0], True),  # falls
        ([0.1, 0.9, np.nan, 0.0], False),
        ([np.nan, 0.9, 0.95, 0.0], True),
    ],
)
def test_area_and_efficiencies_must_be_of_one_curve(row, expected):
    found = impossible(Table(*(np.array([x]) for x in "sm1"), np.array([row]), np.full((1, 4), np.nan)))
    assert found.tolist() == [expected]


def test_no_measured_row_is_impossible():
    rng = np.random.default_rng(6)
    signals = {str(d): rng.normal(d, abs(d) + 0.1, size=300) for d in np.linspace(-3, 5, 17)}
    assert not impossible(entries("m", "1", rng.normal(size=10_000), signals)).any()


# -- comparing with a summary, the report, parts of a table --------------------------------------------------


def test_comparison_counts_those_that_agree_and_shows_those_that_differ(table, csv, tmp_path):
    path = tmp_path / "summary.csv"
    path.write_text(SUMMARY + "A,1.0,2.5,4.0\nB,0.2,2.6,5.001\nZ,1,1,1\n")
    found = compare(improvements(table), path)
    assert (found["models"], found["agree"]) == (3, 1)
    assert found["differ"] == {"B": {"here": pytest.approx([0.2, 2.6, 5.0]), "published": [0.2, 2.6, 5.001]}}
    assert found["largest_difference"] == pytest.approx(0.001 / 5.001)
    assert found["only_published"] == ["Z"] and found["only_here"] == []
    assert compare(improvements(table), path, tolerance=1e-3)["agree"] == 2


def test_summary_with_an_empty_number_does_not_agree(table, tmp_path):
    path = tmp_path / "summary.csv"
    path.write_text(SUMMARY + "A,,2.5,4.0\n")
    found = compare(improvements(table), path)
    assert found["agree"] == 0 and found["differ"]["A"]["published"] == [None, 2.5, 4.0] and found["only_here"] == ["B"]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SUMMARY + "A,1,1,1\nA,1,1,1\n", "line 3: model A is there for the second time"),
        (HEADER + "\n", "no column Min"),
    ],
)
def test_summary_that_is_not_one_is_refused(table, tmp_path, text, message):
    path = tmp_path / "summary.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"summary\.csv.*{message}"):
        compare(improvements(table), path)


def test_report_is_json_and_sorts_by_the_median(table):
    found = json.loads(json.dumps(report(table, top=1), allow_nan=False))
    assert [row["model"] for row in found["improvement"]] == ["B", "A"]
    assert found["improvement"][1]["signals"]["stop"] == {
        "value": 4.0,
        "error": None,
        "channel": "3",
        "working_point": 1e-4,
    }
    assert found["rankings"]["1e-2"]["mean"] == [{"model": "A", "value": pytest.approx(0.2)}]
    assert (found["rows"], found["models"], found["pairs"]) == (6, 2, 3)
    assert found["impossible"] == []
    with pytest.raises(InputError, match="top is 0"):
        report(table, top=0)


def test_report_names_the_rows_that_cannot_be(csv):
    found = report(read(csv(ROWS.replace("mono,B,1,0.5,0.02", "mono,B,1,0.5,0.98"))))["impossible"]
    row = {"signal": "mono", "model": "B", "channel": "1", "AUC": 0.5, "1e-2": 0.98, "1e-3": 0.002, "1e-4": 0.001}
    assert found == [row]


def test_parts_of_a_table(table):
    assert table.select(channels=["1"]).pairs == (("stop", "1"), ("mono", "1"))
    assert len(table.select(models=["B"], signals=["stop"])) == 2
    with pytest.raises(InputError, match=r"model 'VAE': in no row of the table; there are A, B"):
        table.select(models=["VAE"])
    with pytest.raises(InputError, match="no row has these"):
        table.select(signals=["mono"], channels=["3"])


# -- the figure ----------------------------------------------------------------------------------------------


@pytest.mark.drawn
def test_figure_has_its_numbers_beside_it(table, tmp_path):
    found = plot(table, tmp_path / "new" / "boxes.png")
    assert (tmp_path / "new" / "boxes.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "new" / "boxes.json").read_text()) == found
    box = found["AUC"]["A"]
    quarter, median, three = np.percentile([0.8, 0.9, 0.6], [25, 50, 75])
    assert box["median"] == median and box["box"] == pytest.approx([quarter, three]) and box["values"] == 3
    assert found["improvement"]["B"]["median"] == pytest.approx(2.6)


def test_whiskers_end_within_one_and_a_half_boxes_and_the_rest_are_outliers(tmp_path):
    values = np.array([0.50, 0.52, 0.54, 0.56, 0.58, 0.62, 0.99])  # quartiles 0.53, 0.60: up to 0.705
    names = [np.array([f"s{i}" for i in range(7)]), np.full(7, "A"), np.full(7, "1")]
    box = plot(Table(*names, np.tile(values[:, None], 4), np.full((7, 4), np.nan)), tmp_path / "b.png")["AUC"]["A"]
    assert box["whiskers"] == [0.5, 0.62] and box["outliers"] == [0.99]


def test_chosen_models_are_drawn_and_unknown_ones_refused(table, tmp_path):
    assert list(plot(table, tmp_path / "a.png", models=["B"])["AUC"]) == ["B"]
    with pytest.raises(InputError, match="model 'C': in no row"):
        plot(table, tmp_path / "c.png", models=["C"])
    assert not (tmp_path / "c.png").exists() and not (tmp_path / "c.json").exists()


def test_model_without_all_values_is_not_in_a_panel(csv, tmp_path):
    found = plot(read(csv(ROWS + "stop,C,1,0.9,0.9,0.9,0.9\n")), tmp_path / "a.png", models=["A", "C"])
    assert all(list(panel) == ["A"] for panel in found.values())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("boxes.pdf", {}, "expected a name that ends in .png"),
        ("there.png", {}, r"there\.png: exists already"),
        ("numbers.png", {}, r"numbers\.json: exists already"),
        ("boxes.png", {"way": "best"}, "ranking 'best'"),
        ("boxes.png", {"top": 0}, "top is 0"),
    ],
)
def test_figure_that_cannot_be_made_leaves_nothing(table, tmp_path, name, options, message):
    (tmp_path / "there.png").touch()
    (tmp_path / "numbers.json").touch()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=message):
        plot(table, tmp_path / name, **options)
    assert sorted(tmp_path.iterdir()) == before


def test_figure_whose_numbers_cannot_be_written_is_not_there(table, tmp_path, monkeypatch):
    def full(disk, data, write=Disk.write):
        if ".json" in str(disk.name):
            disk.error = OSError(errno.ENOSPC, "No space left on device")
        return write(disk, data)

    monkeypatch.setattr(Disk, "write", full)
    with pytest.raises(InputError, match=r"boxes\.json: cannot be written"):
        plot(table, tmp_path / "boxes.png")
    assert list(tmp_path.glob("*boxes*")) == []


@pytest.mark.drawn
def test_figure_is_the_same_whatever_the_user_has_set_and_leaves_that(table, tmp_path):
    import matplotlib

    plot(table, tmp_path / "a.png")
    with matplotlib.rc_context({"font.size": 3.5, "axes.facecolor": "green"}):
        settings = dict(matplotlib.rcParams)
        plot(table, tmp_path / "b.png")
        assert dict(matplotlib.rcParams) == settings
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_import_brings_no_heavy_library():
    heavy = "tensorflow pandas pyarrow sklearn matplotlib uproot distributed"
    code = f"import sys, pipelines.leaderboard; print([m for m in '{heavy}'.split() if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
