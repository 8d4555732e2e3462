"""Weak supervision: windows in mass, classifiers that never score what they saw, and a yardstick that says what it is."""

import json

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

import pipelines
import zoo
import zoo.cli.main
from pipelines import Events, InputError
from pipelines.bumphunt.result import truth_in_tuning
from pipelines.metrics import auc
from zoo import registry
from zoo.hunting.bump_hunt import search
from zoo.keras import keras
from zoo.layers.random import fold_of
from zoo.models.window_classifier import COLUMNS
from zoo.windows import ClassBalance, Regions

WINDOW = (3300, 3700)
SMALL = {"window": WINDOW, "columns": ("*",), "units": (16,), "batch_size": 128, "learning_rate": 0.01, "folds": 3}


def toy(size=3000, signal=0.0, seed=0, mass=None):
    """Background of two Gaussian features, whatever its mass; signal elsewhere in them, in the window alone."""
    rng = np.random.default_rng(seed)
    masses = 2700 + rng.exponential(700, size) if mass is None else rng.uniform(*mass, size)
    x, label = rng.normal(size=(size, 2)), np.zeros(size, "int8")
    there = rng.random(size) < signal
    masses[there], label[there] = rng.uniform(*WINDOW, there.sum()), 1
    x[there] = x[there] * 0.3 + 2.0
    return Events.from_arrays(x, masses, ["a", "b"], label=label, mass_column="m")


@pytest.fixture(scope="module")
def trained():
    model = zoo.get("cwola", **SMALL, members=2, epochs=4, seed=1)
    model.fit(toy(signal=0.1), verbose=0, jit_compile=False)
    return model


# -- windows ------------------------------------------------------------------------------------------


def test_edges_belong_to_the_region_above():
    regions = Regions(3300.0, 3700.0, 3000.0, 4000.0)
    mass = np.array([2999, 3000, 3299, 3300, 3699, 3700, 3999, 4000], np.float32)
    assert regions.inside(mass).tolist() == [False] * 3 + [True] * 2 + [False] * 3
    assert regions.beside(mass).tolist() == [False, True, True, False, False, True, True, False]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"window": (3700, 3300)}, r"window=\(3700, 3300\) is not possible; expected \(low, high\) in GeV"),
        ({"window": 3300}, r"window=\(3300,\) is not possible"),
        ({"window": "3300-3700"}, "window="),
        (
            {"window": WINDOW, "sidebands": (3400, 5000)},
            "expected outer edges on both sides of the window 3300 to 3700",
        ),
    ],
)
def test_windows_that_are_none_are_refused(given, words):
    with pytest.raises(InputError, match=words):
        zoo.get("cwola", **given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"window": ()}, r"cwola needs a signal region; give one in GeV, as window=\(3300, 3700\)"),
        ({"window": (9000, 9500)}, r"outside of its masses; the masses of its 1000 events go from 3000 to 4000 GeV"),
        ({"window": (2500, 3200)}, r": 0 events below the window, in 3000 to 2500 GeV, expected at least 100"),
        ({"window": (3300, 3310)}, r": \d+ events in the window 3300 to 3310 GeV, expected at least 100"),
        ({"sidebands": (3000, 3710)}, r": \d+ events above the window, in 3700 to 3710 GeV, expected at least 100"),
    ],
)
def test_windows_in_which_nothing_can_be_learnt_are_refused_with_what_is_there(given, words):
    events = toy(998, mass=(3001, 3999))
    ends = Events.from_arrays(
        np.zeros((2, 2)), [3000.0, 4000.0], ["a", "b"], mass_column="m", label=np.zeros(2, "int8")
    )
    events = pipelines.open([events, ends])
    with pytest.raises(InputError, match=words):
        zoo.get("cwola", **{**SMALL, **given}).fit(events, verbose=0)


def test_both_classes_have_half_of_the_weight():
    events = toy(1000)
    weight = np.random.default_rng(3).exponential(size=1000)
    weighted = Events.from_arrays(events.read("features"), events.mass, events.columns, weight=weight)
    inside = Regions(*WINDOW).inside
    found = weighted.weight * ClassBalance(weighted, inside)(weighted.mass)
    np.testing.assert_allclose(found[inside(weighted.mass)].sum(), 500, rtol=1e-4)
    np.testing.assert_allclose(found.mean(), 1, rtol=1e-4)


def test_only_events_of_window_and_side_bands_are_trained_on():
    model = zoo.get("cwola", **{**SMALL, "sidebands": (3000, 4000)})
    mass = model.sample(toy()).mass
    assert mass.min() >= 3000 and mass.max() < 4000 and len(mass) < 3000


# -- folds --------------------------------------------------------------------------------------------


def test_fold_depends_on_every_feature_and_on_nothing_else():
    x = toy().read("features")
    folds = fold_of(tf.constant(x), 5).numpy()
    order = np.random.default_rng(0).permutation(len(x))
    np.testing.assert_array_equal(fold_of(tf.constant(x[order]), 5), folds[order])
    compiled = tf.function(lambda x: fold_of(x, 5), jit_compile=True)(tf.constant(x))
    np.testing.assert_array_equal(compiled, folds)
    for column in range(2):
        other = x.copy()
        other[:, column] = np.nextafter(other[:, column], np.float32(np.inf))
        assert 0.7 < (fold_of(tf.constant(other), 5).numpy() != folds).mean() < 0.9  # of 5 folds, 4/5 by chance
    np.testing.assert_array_equal(fold_of(tf.constant([[0.0]]), 9), fold_of(tf.constant([[-0.0]]), 9))


def test_network_learns_nothing_from_events_of_its_fold(trained):
    events = trained.sample(toy(signal=0.1))
    x, mass = events.read("features"), events.mass
    for fold in range(3):
        its = fold_of(tf.constant(x), 3).numpy() == fold
        batch = {"features": tf.constant(x[its]), "mass": tf.constant(mass[its]), "weight": tf.ones(its.sum())}
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(trained.losses(batch, tf.constant([1, 2], tf.int64), True)["loss"])
        for gradient in tape.gradient(loss, trained.network.kernels):
            moved = np.abs(gradient.numpy()).max(axis=(0, 2, 3))
            assert moved[fold] == 0 and (np.delete(moved, fold) > 0).all()


def test_event_is_scored_by_the_network_that_has_not_seen_it(trained):
    events = toy(500, seed=7)
    folds, before = fold_of(tf.constant(events.read("features")), 3).numpy(), trained.score(events)
    bias, kept = trained.network.biases[-1], trained.network.biases[-1].numpy()
    for fold in range(3):
        bias[:, fold].assign(kept[:, fold] + 1.0)
        changed = trained.score(events) != before
        bias.assign(kept)
        np.testing.assert_array_equal(changed, folds == fold)


def test_score_is_the_mean_over_members_of_a_plain_networks_output(trained):
    events = toy(200, seed=8)
    x = events.read("features").astype(np.float64)
    scaled = (x - trained.scaler.shift.numpy()) / trained.scaler.scale.numpy()
    folds, expected = fold_of(tf.constant(x, tf.float32), 3).numpy(), np.zeros(200)
    for member in range(2):
        for i, (event, fold) in enumerate(zip(scaled, folds)):
            (w, v), (b, c) = (
                [a[member, fold].numpy() for a in each] for each in (trained.network.kernels, trained.network.biases)
            )
            z = np.maximum(event @ w + b, 0) @ v + c
            expected[i] += 0.5 / (1 + np.exp(-z[0]))
    np.testing.assert_allclose(trained.score(events), expected, rtol=1e-5)


# -- what is learnt -----------------------------------------------------------------------------------


def test_signal_of_the_window_is_found_without_labels(trained):
    events = toy(2000, signal=0.3, seed=5)
    score = trained.score(events)
    assert auc(score[events.label == 0], score[events.label == 1]) > 0.95
    history = trained.histories["training"].history
    assert history["held_out"][-1] < np.log(2)  # what knows nothing gives, of two classes of equal weight


@pytest.mark.parametrize("name", ["cwola", "cathode", "lacathode", "anode", "r_anode"])
def test_default_columns_are_those_of_the_benchmark_whatever_the_order_of_jets(name):
    events = pipelines.open("lhco_sim_train").select(mass_range=(2700, 5000))
    model = zoo.get(name, window=WINDOW)
    model.adapt(events)
    assert model.resolved_columns == COLUMNS


def test_learning_rate_falls_as_half_a_cosine_to_zero_at_the_end_of_all_epochs():
    model = zoo.get("cwola", **SMALL | {"epochs": 4}, members=2)
    rates: list[float] = []

    class Rates(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            rates.append(float(model.trainer.tasks["training"].optimizer.learning_rate))

    model.fit(toy(1000), epochs=3, callbacks=[Rates()], verbose=0, jit_compile=False)
    steps = int(model.trainer.clock) // 3
    shares = (np.arange(1, 4) * steps - 1) / (
        4 * steps
    )  # of the last step of each epoch, of the four that there are to be
    np.testing.assert_allclose(rates, 0.005 * (1 + np.cos(np.pi * shares)), rtol=1e-5)
    constant = zoo.get("cwola", **SMALL | {"epochs": 1}, learning_rate_schedule="constant")
    constant.fit(toy(1000), verbose=0, jit_compile=False)
    assert float(constant.trainer.tasks["training"].optimizer.learning_rate) == pytest.approx(0.01)


def test_dropout_of_networks_and_members_differs(trained):
    model = zoo.get("cwola", **SMALL, members=2, dropout_rate=0.5)
    x = model.dropout(tf.constant([1, 2], tf.int64))(tf.ones((2, 3, 50, 16))).numpy()
    masks = x.reshape(6, -1) > 0
    assert 0.4 < masks.mean() < 0.6
    assert all((a != b).mean() > 0.4 for i, a in enumerate(masks) for b in masks[:i])


# -- the yardstick ------------------------------------------------------------------------------------


@pytest.fixture
def background(tmp_path):
    toy(3000, seed=11).without_labels().write(tmp_path / "background.h5")
    return str(tmp_path / "background.h5")


def test_idealised_is_better_than_cwola_where_features_depend_on_the_mass(background):
    def depends(events):
        x = events.read("features") + np.array([1, 0]) * ((events.mass - 3300) / 400)[:, None]
        return Events.from_arrays(x, events.mass, events.columns, label=events.label, mass_column="m")

    depends(toy(4000, seed=11)).without_labels().write(background.replace("background", "depends"))
    events, found = depends(toy(4000, signal=0.03)), {}
    test = depends(toy(2000, signal=0.3, seed=5, mass=WINDOW))
    for name, more in (("cwola", {}), ("idealised", {"background": background.replace("background", "depends")})):
        model = zoo.get(name, **SMALL, **more, epochs=6)
        with pytest.warns(UserWarning, match="a yardstick, no search") if more else _nothing():
            model.fit(events, verbose=0, jit_compile=False)
        score = model.score(test)
        found[name] = auc(score[test.label == 0], score[test.label == 1])
    assert found["idealised"] > max(0.85, found["cwola"])


class _nothing:  # noqa: N801
    __enter__ = __exit__ = lambda *_: None


def test_no_other_model_takes_true_background():
    takes = [name for name in zoo.names() if "background" in registry.model_class(name).Hyperparameters.defaults()]
    tells = [name for name in zoo.names() if registry.model_class(name).yardstick]
    assert takes == tells == ["idealised"]


@pytest.mark.filterwarnings("ignore:idealised")
def test_idealised_compares_with_background_of_the_window_alone(background):
    model = zoo.get("idealised", **SMALL, background=background)
    events = toy(signal=0.1)
    model.adapt(events)
    sample = model.sample(events)
    first, inside = model.first(sample.mass), Regions(*WINDOW).inside
    assert first.sum() == inside(events.mass).sum() and (~first).sum() == inside(pipelines.open(background).mass).sum()
    assert inside(np.abs(sample.mass)).all() and not sample.has_labels
    assert model.provenance(events)["background"]["sha256"] != model.provenance(events)["sha256"]


@pytest.mark.filterwarnings("ignore:idealised")
def test_validation_of_idealised_is_by_networks_that_have_not_seen_an_event_and_both_classes_weigh_the_same(background):
    model = zoo.get("idealised", **{**SMALL, "batch_size": 512}, background=background)
    held_out = toy(600, signal=0.1, seed=3)
    found = model.fit(toy(signal=0.1), held_out, epochs=2, verbose=0, jit_compile=False).history["val_loss"][-1]
    inside = Regions(*WINDOW).inside
    data, known = (each.take(inside(each.mass)) for each in (held_out, pipelines.open(background)))
    expected = -0.5 * (np.log(model.score(data)).mean() + np.log1p(-model.score(known)).mean())
    assert found == pytest.approx(expected, rel=0.02)  # a few events are left over when batches are made


@pytest.mark.parametrize("classifier", ["trees", "network"])
def test_trees_are_not_grown_from_weights_below_0(classifier):
    events, weight = toy(1000), np.where(np.arange(1000) % 10, 1.0, -1.0)
    given = Events.from_arrays(events.read("features"), events.mass, events.columns, weight=weight, mass_column="m")
    model = zoo.get("cwola", **SMALL, classifier=classifier, trees=2)
    with pytest.raises(InputError, match="weight -1; trees cannot be grown") if classifier == "trees" else _nothing():
        model.fit(given, epochs=1, verbose=0, jit_compile=False)


def test_idealised_refuses_what_is_no_true_background(tmp_path):
    with pytest.raises(InputError, match="needs true background: give an events file"):
        zoo.get("idealised", **SMALL).fit(toy(), verbose=0)
    toy(signal=0.1).write(tmp_path / "mixed.h5")
    with pytest.raises(InputError, match=r"mixed.h5: \d+ of 3000 events have a label that is not 0"):
        zoo.get("idealised", **SMALL, background=str(tmp_path / "mixed.h5")).fit(toy(), verbose=0)
    toy(mass=(4000, 5000)).write(tmp_path / "beside.h5")
    with pytest.raises(InputError, match="0 events of background in the window 3300 to 3700 GeV"):
        zoo.get("idealised", **SMALL, background=str(tmp_path / "beside.h5")).fit(toy(), verbose=0)


def test_runs_and_searches_of_the_yardstick_say_what_it_is(background, tmp_path):
    events = toy(1500)
    with pytest.warns(UserWarning, match="a yardstick, no search"):
        zoo.train("idealised", events, tmp_path / "run", window=WINDOW, epochs=1, verbose=0, jit_compile=False,
                  hyperparameters={**SMALL, "background": background})  # fmt: skip
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["yardstick"] == "idealised is told the true background: a yardstick, no search"
    options = {"pseudo_experiments": 100, "percentiles": 50, "mass_range": (2700, 5000)}
    found = search(tmp_path / "run", zoo.load(tmp_path / "run"), events, **options)
    assert (
        truth_in_tuning(found.configuration) == f"TRUTH USED: {config['yardstick']}" and found.summary()["truth_used"]
    )


# -- the command line ---------------------------------------------------------------------------------


def run(*words):
    return CliRunner().invoke(zoo.cli.main.main, ["train", *map(str, words)])


def test_window_of_the_command_line_is_kept_with_the_run(tmp_path):
    toy(1500).write(tmp_path / "events.h5")
    line = ["--data", tmp_path / "events.h5", "--set", "columns=*", "--set", "units=8", "--epochs", 1, "--no-xla"]
    done = run("cwola", *line, "--window", 3300, 3700, "--out", tmp_path / "run", "--set", "batch_size=128")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "run/config.json").read_text())["hyperparameters"]["window"] == [3300.0, 3700.0]
    assert zoo.load(tmp_path / "run").hp.window == (3300.0, 3700.0)
    for words, said in (
        (["cwola", *line], "cwola needs a signal region; give one in GeV, as --window 3300 3700"),
        (["cwola", *line, "--window", 3700, 3300], "expected (low, high) in GeV"),
        (["cwola", *line, "--window", 80000, 90000], "is outside of its masses"),
        (["vae", *line, "--window", 3300, 3700], "--window is for models that need a signal region, such as cwola"),
    ):
        done = run(*words, "--out", tmp_path / "none")
        assert done.exit_code == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.output
    assert not (tmp_path / "none").exists()


def test_a_rate_that_falls_does_so_over_the_longest_trials_of_a_search(tmp_path):
    import tuning

    given = {"classifier": "network", "folds": 2, "batch_size": 500, "columns": ("*",), "layers": 1, "width": 16}
    options = {"objective": "argos", "window": WINDOW, "trials": 3, "max_epochs": 2, "factor": 2, "jit_compile": False}
    found = tuning.search("cwola", toy(signal=0.1), out=tmp_path / "s", fixed=given, **options)
    assert {trial["hyperparameters"]["epochs"] for trial in found.trials} == {2}
    assert {trial["epochs"] for trial in found.trials} == {1, 2}
    space = {"epochs": {"min": 3, "max": 5}}
    found = tuning.search(
        "cwola", toy(signal=0.1), out=tmp_path / "t", fixed=given, space=space, **{**options, "trials": 1}
    )
    assert found.best["hyperparameters"]["epochs"] in (3, 4, 5)


@pytest.mark.parametrize(
    "given, edges",
    [
        ((), (-np.inf, np.inf)),
        (400, (2900, 4100)),
        ((0.1,), (2950, 4050)),
        ((3000, 4000), (3000, 4000)),
        (0.99, (0, 7165)),
    ],
)
def test_side_bands_have_outer_edges_or_a_width_in_gev_or_relative(given, edges):
    regions = zoo.get("cathode", window=WINDOW, sidebands=given).regions
    assert (regions.outer_low, regions.outer_high) == edges


@pytest.mark.parametrize("wrong", [0, -1, (3000, 3100), (3500, 3400), (1, 2, 3)])
def test_side_bands_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError, match="sidebands="):
        zoo.get("cathode", window=WINDOW, sidebands=wrong)
