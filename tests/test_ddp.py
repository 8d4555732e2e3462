"""The network of the Data Directed Paradigm: its target, its spectra, what it does with any histogram, and `zoo scan`."""

import csv
import io
import json

import boost_histogram
import h5py
import numpy as np
import pytest
import tensorflow as tf
import uproot
from click.testing import CliRunner
from scipy.optimize import minimize_scalar
from scipy.stats import norm

import pipelines
import zoo
import zoo.cli.main
from pipelines import InputError, histograms
from pipelines.histograms import Histograms
from pipelines.plots import read_numbers, scanned
from pipelines.simulation.spectra import FAMILIES, Generator, ideal_significance
from zoo import run
from zoo.keras import keras
from zoo.models.ddp import scan as scanning

TINY = {"channels": 8, "dilations": (1, 2), "half_widths": (7, 28), "degrees": (2,), "steps": 10, "batch_size": 32,
        "bins": (30, 60), "learning_rate": 0.01, "epochs": 2, "seed": 3}  # fmt: skip
WORDS = [
    word for name, value in TINY.items() for word in ("--set", f"{name}={value!r}".replace(" ", "")) if name != "seed"
]
QUIET = {"verbose": 0, "jit_compile": False}


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A run directory, and what the command that made it said."""
    out = tmp_path_factory.mktemp("ddp") / "run"
    words = ["train", "ddp", "--out", str(out), "--epochs", "2", "--seed", "3", "--no-xla", "--json", *WORDS]
    done = CliRunner().invoke(zoo.cli.main.main, words)
    assert done.exit_code == 0, done.output
    return out, json.loads(done.stdout)


@pytest.fixture(scope="module")
def trained(training):
    return training[0]


@pytest.fixture(scope="module")
def model(trained):
    """The model of that run, whose programs all tests share: to build them takes nearly all the time."""
    return zoo.load(trained)


def eager(**options):
    """An untrained small model that builds no programs."""
    made = zoo.get("ddp", **{"channels": 4, "dilations": (1,), "half_widths": (7, 28), "seed": 1, **options})
    made.adapt()
    made.reader.plain = made.reader.compiled = lambda counts, edges, several, mask: (
        tf.stack([made.infer(counts, edges, one, mask)["significance"] for one in several]),
        made.reader.widest(counts, edges, mask),
    )
    made.reader.curve = made.reader.widest
    return made


@pytest.fixture(scope="module")
def spectra():
    return Generator(bins=(30, 60), seed=8).draw(20)


def falling(bins=40, at=None, events=0, scale=1000.0):
    """An exponential spectrum without fluctuations, rounded, with a narrow bump."""
    edges = np.linspace(1000, 3000, bins + 1)
    counts = np.rint(scale * np.exp(-3 * np.arange(bins) / bins))
    if at is not None:
        counts += np.rint(events * np.diff(norm.cdf(np.arange(bins + 1), at + 0.5, 1.5)))
    return Histograms.from_arrays(counts, edges)


# The target


def by_scipy(n, b, edges, centre, sigma, reach=4.0):
    """The significance by minimising -2 ln L numerically, bounded where the expectation becomes negative."""
    near = (edges[1:] > centre - reach * sigma) & (edges[:-1] < centre + reach * sigma)
    n, b, g = n[near], b[near], np.diff(norm.cdf(edges, centre, sigma))[near]
    low, high = -(b / g).min(), 3 * (10 + 10 * abs(n.sum() - b.sum()) + 5 * np.sqrt(n.sum() + 1))

    def minus_two_log(s):
        with np.errstate(divide="ignore", invalid="ignore"):
            return -2 * (np.where(n > 0, n * np.log1p(np.maximum(s * g / b, -1.0)), 0.0).sum() - s * g.sum())

    best = minimize_scalar(minus_two_log, bounds=(low, high), method="bounded", options={"xatol": 1e-8})
    return np.sign(best.x) * np.sqrt(max(0.0, -best.fun))


def test_the_target_is_the_likelihood_ratio_that_scipy_finds(spectra):
    found, h, rng = spectra.ideal(), spectra.histograms, np.random.default_rng(0)
    for row in range(len(spectra)):
        own = h.bins[row]
        for i in rng.integers(0, own, 6):
            expected = by_scipy(h.counts[row, :own], spectra.background[row, :own], h.edges[row, : own + 1],
                                h.centres[row, i], spectra.resolution[row, i])  # fmt: skip
            assert found[row, i] == pytest.approx(expected, abs=1e-4)


def test_of_one_bin_the_target_has_a_closed_form():
    background, counts = np.full((1, 30), 20.0), np.full((1, 30), 20.0)
    counts[0, [5, 15, 25]] = 45, 3, 0
    z = ideal_significance(counts, background, np.arange(31.0)[None], np.full((1, 30), 0.05), np.array([30]))[0]
    assert z[5] == pytest.approx(np.sqrt(2 * (45 * np.log(45 / 20) - 25)), abs=1e-6)
    assert z[15] == pytest.approx(-np.sqrt(2 * (3 * np.log(3 / 20) + 17)), abs=1e-6)
    assert z[25] == pytest.approx(-np.sqrt(2 * 20), abs=1e-6) and z[10] == pytest.approx(0, abs=1e-4)


def test_without_signal_the_target_is_a_standard_normal_number_at_every_bin():
    spectra = Generator(bins=(40, 40), yields=(1e4, 1e5), decades=(0.5, 1.5), signal_share=0.0).draw(300)
    z = spectra.ideal()
    assert abs(z.mean()) < 0.03 and z.std() == pytest.approx(1, abs=0.03)


def test_signals_have_the_strength_that_was_drawn():
    generator = Generator(strengths=(6, 6), signal_share=1.0, yields=(1e3, 1e5), signal_widths=(1, 1), seed=2)
    spectra = generator.draw(400)
    at = np.argmax(spectra.histograms.edges[:, 1:] > spectra.place[:, None], axis=1)
    z = spectra.ideal()[np.arange(400), at]
    assert z.mean() == pytest.approx(6, abs=0.25) and z.std() == pytest.approx(1, abs=0.15)


# The spectra


def test_spectra_depend_on_the_seed_and_their_number_alone():
    one, again, next_, other = (Generator(seed=s).draw(10, n) for s, n in ((1, 0), (1, 0), (1, 1), (2, 0)))
    np.testing.assert_array_equal(one.histograms.counts, again.histograms.counts)
    for different in (next_, other):
        assert (one.histograms.counts != different.histograms.counts).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_falls_by_the_decades_drawn_in_every_binning(family):
    spectra = Generator(families=(family,), decades=(1, 3), yields=(100, 1e5), seed=4).draw(60)
    h = spectra.histograms
    for row, own in enumerate(h.bins):
        density = spectra.background[row, :own] / h.bin_widths[row, :own]
        assert (np.diff(density) < 0).all() and (spectra.background[row, :own] > 0).all()
        assert 0.9 < np.log10(density[0] / density[-1]) + 3 / own < 3.2
        assert 100 <= spectra.background[row].max() * (1 + 1e-9) <= 1e5 * (1 + 1e-6)
    assert not spectra.background[~h.mask].any() and 30 <= h.bins.min() < h.bins.max() <= 120


def test_binnings_widths_and_shares_are_as_asked_for():
    uniform = Generator(binnings=("uniform",), signal_share=0.0).draw(30)
    widths = uniform.histograms.bin_widths
    np.testing.assert_allclose(widths, np.broadcast_to(widths[:, :1], widths.shape), rtol=1e-9)
    assert not uniform.signal.any()
    growing = Generator(binnings=("growing",), signal_share=1.0, widths=(1.0, 2.0)).draw(30)
    assert (np.diff(growing.histograms.bin_widths, axis=1) > 0).all() and (growing.signal > 0).all()
    in_bins = growing.resolution / growing.histograms.bin_widths
    assert in_bins.min() > 0.999 and in_bins.max() < 2.001


def test_spectra_with_a_turn_on_rise_first():
    spectra = Generator(turn_on=1.0, signal_share=0.0, decades=(1, 2), seed=1).draw(50)
    assert (spectra.background.argmax(1) > 0).mean() > 0.5
    assert (Generator(signal_share=0.0, binnings=("uniform",), seed=1).draw(50).background.argmax(1) == 0).all()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"families": ("dijet9",)}, "families=.*expected some of dijet3"),
        ({"families": ()}, "families=.*expected some of"),
        ({"bins": (5, 50)}, "bins=.*two whole numbers >= 10"),
        ({"bins": (60, 50)}, "bins=.*low and high"),
        ({"bins": 60}, "bins=.60,.*two whole numbers >= 10, low and high"),
        ({"bins": (30.5, 60)}, "bins="),
        ({"decades": 3}, "decades=.3,.*two numbers >= 0 and <= 30, low and high"),
        ({"decades": (1, 400)}, "decades="),
        ({"yields": (100, 1e300)}, "yields=.*<= 1e.12"),
        ({"widths": (1, 2, 3)}, r"widths=\(1, 2, 3\).*two numbers"),
        ({"families": 5}, "families=5.*expected"),
        ({"seed": -1}, "seed=-1.*whole number >= 0"),
        ({"yields": (0, 10)}, "yields="),
        ({"widths": (0.1, 2)}, "widths=.*>= 0.3"),
        ({"strengths": (1, float("inf"))}, "strengths="),
        ({"signal_share": 1.5}, "signal_share=1.5.*<= 1"),
        ({"signal_shapes": ("square",)}, "signal_shapes="),
        ({"channels": 0}, "channels=0"),
        ({"half_widths": (14, 7)}, "half_widths=.*rising"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"chanels": 8}, "did you mean 'channels'"),
    ],
)
def test_hyperparameters_out_of_range_are_named(options, reason):
    with pytest.raises(InputError, match=reason):
        zoo.get("ddp", **options)


# The network


def test_training_needs_no_data_makes_the_loss_fall_and_watches_other_spectra(training):
    out, said = training
    with open(out / "history.csv") as file:
        history = list(csv.DictReader(file))
    assert float(history[-1]["loss"]) < 0.8 * float(history[0]["loss"])
    assert {"val_loss", "val_error", "val_peak_bias"} <= set(history[0])
    assert said["spectra"] == 2 * 10 * 32 and np.isfinite(said["last_epoch"]["val_loss"])
    config = run.read_config(out)
    assert config["takes"] == "spectrum" and config["data"]["generator"]["bins"] == [30, 60]


def test_a_bump_is_found_where_it_is_and_grows_with_its_events(model):
    none, some, many = (model.significance(falling(at=20, events=n))[0] for n in (0, 150, 600))
    assert abs(some.argmax() - 20) <= 1 and some.max() > none[15:26].max() + 1 and many.max() > some.max() + 0.7
    assert model.significance(falling(at=20, events=60_000))[0].max() > 2 * many.max()  # far beyond the training


def test_a_second_training_starts_with_the_learning_rate_again():
    made = eager(steps=2, batch_size=4, bins=(10, 20), half_widths=(7,), degrees=(2,), epochs=1)
    keras.Model.compile(made, optimizer=made.optimizers[0], jit_compile=False, run_eagerly=True)
    changes = []
    for _ in range(2):
        before = [w.numpy() for w in made.network.trainable_variables]
        made.fit(**QUIET)
        after = made.network.trainable_variables
        changes.append(max(np.abs(a.numpy() - b).max() for a, b in zip(after, before)))
        assert int(made.trainer.clock) == 2 and float(made.optimizers[0].learning_rate) == pytest.approx(
            0.001
        )  # half way down
    assert min(changes) > 1e-4
    with pytest.raises(InputError, match="epochs is 0, expected at least 1"):  # which is not the default number
        made.fit(epochs=0, **QUIET)


def test_weights_can_be_reset_before_training():
    made, fresh = zoo.get("ddp", channels=4), zoo.get("ddp", channels=4, seed=3)
    made.reset(3)
    fresh.adapt()
    assert made.hp.seed == 3
    for one, other in zip(made.network.trainable_variables, fresh.network.trainable_variables):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_training_that_is_resumed_gives_what_one_training_gives_and_another_seed_another(model, spectra, tmp_path):
    class Stop(zoo.keras.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    other = zoo.get("ddp", **TINY)
    other.fit(**QUIET)  # in Python what the command made
    np.testing.assert_array_equal(other.significance(spectra), model.significance(spectra))
    other.reset(seed=3)
    other.fit(callbacks=[Stop()], **QUIET)
    run.save_state(other, tmp_path / "state.h5")
    other.reset(seed=4)
    other.fit(epochs=1, **QUIET)
    assert np.nanmax(np.abs(other.significance(spectra) - model.significance(spectra))) > 0.01
    other.reset(seed=3)
    run.load_state(other, tmp_path / "state.h5")
    other.fit(initial_epoch=1, **QUIET)
    np.testing.assert_array_equal(other.significance(spectra), model.significance(spectra))


def test_what_is_beyond_the_own_bins_has_no_influence(model, spectra):
    h = spectra.histograms
    found = model.significance(spectra)
    assert (np.isfinite(found) == h.mask).all()
    for row in (0, 7):
        alone = h.take([row])
        own = alone.bins[0]
        one = model.significance(alone, width=spectra.resolution[[row], :own])
        np.testing.assert_allclose(one[0], found[row, :own], atol=2e-4)
    inputs = [h.counts.copy(), h.edges, spectra.resolution.copy(), h.mask]
    first = model.infer(*(tf.constant(a, tf.float64 if a is h.edges else tf.float32) for a in inputs))["significance"]
    inputs[0][~h.mask], inputs[2][~h.mask] = 1e4, 50.0
    second = model.infer(*(tf.constant(a, tf.float64 if a is h.edges else tf.float32) for a in inputs))["significance"]
    np.testing.assert_allclose(first[h.mask], second[h.mask], atol=1e-4)


def test_a_spectrum_that_is_moved_has_its_significances_moved(model):
    h = falling(40, at=20, events=200)
    edges = np.linspace(500, 3500, 61)  # the same bins, and 10 more at both ends that are not its own
    shifted = np.zeros((1, 60)), np.zeros((1, 60))
    shifted[0][:, 10:50], shifted[1][:, 10:50] = h.counts, 1
    arrays = tf.constant(shifted[0], tf.float32), tf.constant(edges[None]), tf.fill((1, 60), 75.0)
    found = model.infer(*arrays, tf.constant(shifted[1], tf.float32))["significance"][0, 10:50]
    np.testing.assert_allclose(found, model.significance(h, width=1.5)[0], atol=2e-3)


def test_the_unit_of_the_mass_does_not_matter(model):
    h = falling(40, at=20, events=200)
    in_tev = Histograms(h.counts, h.edges / 1000, h.bins, h.names)
    np.testing.assert_allclose(model.significance(in_tev), model.significance(h), atol=1e-4)


@pytest.mark.parametrize("bins", [10, 33, 200])
def test_histograms_of_any_length_are_taken(model, bins):
    assert np.isfinite(model.significance(falling(bins))).all()


def test_hard_spectra_give_numbers(model):
    edges = np.linspace(-50, 50, 41)  # also a mass of zero or less
    lone, steep, huge = np.zeros(40), np.r_[1e6, np.zeros(39)], np.full(40, 1e9)
    lone[1] = 1
    found = model.significance(np.stack([lone, steep, huge, np.eye(40)[0]]), edges)
    assert np.isfinite(found).all() and np.abs(found[2]).max() < 1


def threshold(events):
    return np.where(np.arange(60) < 20, 0, np.rint(events * np.exp(-np.arange(60) / 10)))


@pytest.mark.parametrize(
    "counts", [threshold(1e6), threshold(1e8), np.rint(100 * np.exp(-np.arange(60) / 20)) + 1e7 * np.eye(60)[20]]
)
def test_thresholds_and_narrow_peaks_of_many_events_give_numbers(counts):
    edges = np.linspace(100, 1000, 61)[None]  # not from_arrays, which refuses thresholds
    h = Histograms(counts[None], edges, np.array([60]), ("m",))
    assert np.isfinite(eager(half_widths=(7, 14, 28, 56)).significance(h)).all()


def test_a_spectrum_that_no_curve_goes_through_is_refused_by_name():
    h = Histograms.joined([falling(60), Histograms.from_arrays([1] + [0] * 28 + [1e14] + [0] * 30, np.arange(61.0),
                                                               names=["spike"])])  # fmt: skip
    with pytest.raises(InputError, match="histogram spike: no smooth curve goes through it; give a range without"):
        eager(half_widths=(7, 14, 28, 56)).scan(h, (1.5,))


def test_a_threshold_is_refused_and_a_falling_end_is_not():
    counts = falling(40).counts[0]
    with pytest.raises(
        InputError, match=r"histogram 0 begins with empty bins.*let the histogram begin where events do"
    ):
        Histograms.from_arrays(np.r_[0, 0, counts], np.arange(43.0))
    assert Histograms.from_arrays(np.r_[0, counts, np.zeros(20)], np.arange(62.0)).bins.tolist() == [61]


def test_config_run_directory_and_reset_keep_the_model(model, trained):
    assert type(model)(**model.get_config()).get_config() == model.get_config()
    loaded = zoo.load(trained)
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in loaded.get_config().items()}.items() >= TINY.items()
    weights = [w.numpy() for w in loaded.network.trainable_variables]
    loaded.reset()
    fresh = zoo.get("ddp", **TINY)
    fresh.adapt()
    for reset, new, old in zip(loaded.network.trainable_variables, fresh.network.trainable_variables, weights):
        np.testing.assert_array_equal(reset, new)
        assert reset.shape.rank < 2 or (reset.numpy() != old).any()


@pytest.mark.slow
def test_export_gives_the_same_significances_with_tensorflow_alone(model, spectra, tmp_path):
    model.export(tmp_path / "served")
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    h = spectra.histograms
    arrays = {"counts": h.counts, "resolution": spectra.resolution, "mask": h.mask}
    found = served(edges=tf.constant(h.edges), **{k: tf.constant(v, tf.float32) for k, v in arrays.items()})
    np.testing.assert_allclose(
        found["significance"].numpy()[h.mask], model.significance(spectra)[h.mask], rtol=1e-4, atol=1e-3
    )
    model.export(tmp_path / "keras", format="keras")  # of any number of bins, with edges in float64
    loaded = zoo.keras.keras.models.load_model(tmp_path / "keras")
    again = loaded({"edges": tf.constant(h.edges), **{k: tf.constant(v, tf.float32) for k, v in arrays.items()}})
    np.testing.assert_allclose(
        again["significance"].numpy()[h.mask], found["significance"].numpy()[h.mask], rtol=1e-5, atol=1e-5
    )


def test_search_space_gives_hyperparameters_that_the_model_takes():
    from tuning.kerastuner import keras_tuner

    hp = keras_tuner.HyperParameters()
    model = type(zoo.get("ddp"))
    zoo.get("ddp", **model.search_space(hp))
    for seed in range(5):
        drawn = hp.copy()
        drawn.values = {one.name: one.random_sample(seed + i) for i, one in enumerate(hp.space)}
        zoo.get("ddp", **model.search_space(drawn))
    for preset in zoo.describe("ddp")["presets"]:
        zoo.get("ddp", preset)


def test_what_is_no_spectrum_is_refused_with_its_reason(model):
    with pytest.raises(InputError, match="takes histograms, not events"):
        model.score(pipelines.open("lhco_sim_test"))
    with pytest.raises(InputError, match="spectra that it generates, not on events"):
        model.fit(pipelines.open("lhco_sim_test"), **QUIET)
    with pytest.raises(InputError, match="widths of 9 to 9 bins are outside"):
        model.significance(falling(), width=9)
    with pytest.raises(InputError, match=r"width has shape \(3,\)"):
        model.significance(falling(), width=np.ones(3))
    with pytest.raises(InputError, match="has not been trained"):
        zoo.get("ddp").significance(falling())
    with pytest.raises(InputError, match="score kind 'mse'"):
        model.score(falling(), "mse")


def test_the_generator_alone_names_what_is_not_possible():
    for options in ({"seed": -1}, {"seed": 1.5}, {"turn_on": "a"}, {"bins": (True, 50)}, {"widths": "12"}):
        with pytest.raises(InputError, match=f"{next(iter(options))}=.* is not possible"):
            Generator(**options)


def test_the_signal_is_what_is_expected_within_the_range():
    wide = Generator(bins=(30, 30), widths=(4, 4), signal_share=1.0, yields=(1e8, 1e8), strengths=(300, 300), seed=1)
    spectra = wide.draw(200)
    more = spectra.histograms.counts.sum(1) - spectra.background.sum(1)
    off = (more - spectra.signal) / np.sqrt(spectra.histograms.counts.sum(1))
    assert abs(off.mean()) < 0.3 and off.std() == pytest.approx(1, abs=0.2)
    assert (spectra.place < spectra.histograms.edges[:, 0] + spectra.width).any()  # some are cut off by the range


def test_a_scan_without_widths_is_refused():
    with pytest.raises(InputError, match="widths is empty"):
        eager().scan(falling(), widths=())


def test_a_scan_takes_the_largest_over_bins_and_widths(model):
    spectra = Histograms.joined([falling(40, at=20, events=300), falling(60)])
    found = model.scan(spectra, (1.0, 2.0))
    each = np.stack([model.significance(spectra, width=w) for w in (1.0, 2.0)])
    np.testing.assert_array_equal(found.significance, np.nanmax(each, axis=(0, 2)))
    assert found.bin[0] == np.nanargmax(each.max(0)[0]) and found.mass[0] == spectra.centres[0, found.bin[0]]
    assert found.width[0] == found.width_in_bins[0] * 50 and found.global_p_value is None


def test_several_widths_at_once_are_each_alone(model, spectra):
    """Curves are made once for all widths, spectra of other lengths are beside them: nothing but rounding changes."""
    h = spectra.histograms
    together = model.significances(h, (1.0, 2.0, 3.5))
    for found, width in zip(together, (1.0, 2.0, 3.5)):
        for row in (0, 5, 11):
            own = h.bins[row]
            arrays = h.counts[row, :own], h.edges[row, : own + 1], width * h.bin_widths[row, :own], np.ones(own)
            counts, edges, resolution, mask = (tf.constant(a[None]) for a in arrays)
            arrays = (tf.cast(a, tf.float32) for a in (counts, resolution, mask))
            counts, resolution, mask = arrays
            alone = model.network(counts, edges, resolution, mask)[0][0]
            np.testing.assert_allclose(found[row, :own], alone, atol=1e-3)


def test_pseudo_experiments_of_many_spectra_at_a_time_are_those_of_each(model, monkeypatch):
    h = Generator(bins=(30, 60), seed=5, yields=(50, 500)).draw(5).histograms
    told = []
    found = model.scan(h, (1.0, 2.0), pseudo_experiments=12, seed=4, progress=lambda *done: told.append(done))
    assert told == [(5, 5)]
    for row in range(5):
        curve = model.background(h.take([row]))[0]
        counts = np.random.default_rng([4, row]).poisson(
            np.nan_to_num(model.background(h)[row]), (12, h.counts.shape[1])
        )
        thrown = Histograms(counts[:, : len(curve)] * 1.0, *(np.repeat(a, 12, 0) for a in (h.take([row]).edges, h.bins[[row]])),
                            ("",) * 12)  # fmt: skip
        largest = np.nanmax([model.significance(thrown, width=width) for width in (1.0, 2.0)], axis=(0, 2))
        assert found.global_p_value[row] == ((largest >= found.significance[row] - 1e-4).sum() + 1) / 13
    monkeypatch.setattr("zoo.models.ddp.scan.TOGETHER", 24)  # two spectra in a call
    again = model.scan(h, (1.0, 2.0), pseudo_experiments=12, seed=4, progress=lambda *done: told.append(done))
    np.testing.assert_array_equal(again.global_p_value, found.global_p_value)
    assert told[1:] == [(2, 5), (4, 5), (5, 5)]


def test_a_program_is_compiled_only_where_many_spectra_are_to_be_looked_at(monkeypatch):
    """And one of a fixed size: what is missing of it repeats the first, or goes without if it is most."""
    made, asked = eager(half_widths=(7,), degrees=(2,)), []
    for name in ("plain", "compiled"):
        program = getattr(made.reader, name)
        monkeypatch.setattr(made.reader, name, lambda *a, n=name, p=program: asked.append((n, a[0].shape[0])) or p(*a))
    monkeypatch.setattr("zoo.models.ddp.reader.WORTH", 6)
    monkeypatch.setattr("zoo.models.ddp.reader.BATCH", 4)
    several = Histograms.joined([falling(20 + i) for i in range(5)])
    plain = made.significance(several)
    assert asked == [("plain", 4), ("plain", 1)]
    asked.clear()
    compiled = made.significances(several, (1.5,), planned=6)[0]
    assert asked == [("compiled", 4), ("plain", 1)]
    np.testing.assert_allclose(compiled, plain, atol=1e-4)
    asked.clear()
    (
        made.significance(several, jit_compile=True),
        made.scan(several.take([0, 1, 2]), (1.5,), pseudo_experiments=1, jit_compile=False),
    )
    assert [name for name, _ in asked] == ["compiled", "plain", "plain", "plain"]
    asked.clear()
    made.scan(several.take([0, 1, 2]), (1.5,), pseudo_experiments=1)  # six in all
    assert asked == [("compiled", 4)] * 2  # observed, and pseudo-experiments


def test_steep_spectra_are_not_a_matter_of_rounding():
    """Beside 10^5 events the curve of a tail is what it is for another order of the same sums."""
    from zoo.models.ddp.curves import smooth

    counts = np.random.default_rng(1).poisson(3e5 * np.exp(-0.35 * np.arange(60))).astype("float32")[None]
    there, back = (
        [curve.numpy() for curve in smooth(tf.constant(one), tf.ones((1, 60)), tf.ones((1, 60)), (7, 14, 28, 56))]
        for one in (counts, counts[:, ::-1].copy())
    )
    for one, other in zip(there, back):
        np.testing.assert_allclose(one, other[:, ::-1], rtol=1e-5, atol=1e-7)


def test_global_p_values_are_shares_of_background_only_spectra(model):
    spectra = Histograms.joined([falling(40, at=20, events=1000), falling(40)])
    one, again = (model.scan(spectra, (1.5,), pseudo_experiments=30, seed=s) for s in (1, 1))
    np.testing.assert_array_equal(one.global_p_value, again.global_p_value)
    assert one.global_p_value[0] == 1 / 31 and one.global_p_value_is_bound[0]
    assert one.global_p_value[1] > 0.3 and not one.global_p_value_is_bound[1]  # no fluctuation at all: nothing is there


# Tables of background alone


@pytest.fixture(scope="module")
def table(model):
    return model.table((1.0, 2.0), 300, seed=5)


def test_a_table_is_the_largest_significances_of_background_alone(model, table):
    drawn = Generator(bins=(30, 60), signal_share=0.0, seed=5).draw(300, 2**41).histograms
    np.testing.assert_allclose(table.significance, np.sort(model.scan(drawn, (1.0, 2.0)).significance), atol=1e-4)
    assert len(table) == 300 and table.seed == 5 and table.widths == (1.0, 2.0)


def test_p_values_of_a_table_are_uniform_for_background_alone(model, table):
    """Each is a share of the table: k of 200 others up to p have a binomial distribution about 200 p, the table's own
    fluctuations, of 300, beside it.
    """
    others = Generator(bins=(30, 60), signal_share=0.0, seed=9).draw(200).histograms
    found = model.scan(others, (1.0, 2.0), table=table)
    for level in (0.1, 0.3, 0.5):
        error = np.sqrt(level * (1 - level) * (1 / 200 + 1 / 300))
        assert abs((found.global_p_value <= level).mean() - level) < 3.5 * error
    assert found.pseudo_experiments == 300 and found.global_p_value.min() >= 1 / 301


def test_a_bump_beyond_the_table_has_a_bound(model, table):
    found = model.scan(falling(40, at=20, events=60_000), (1.0, 2.0), table=table)
    assert found.global_p_value[0] == 1 / 301 and found.global_p_value_is_bound[0]


def test_a_kept_table_comes_back_and_that_of_another_network_or_widths_is_refused(model, table, tmp_path, monkeypatch):
    path = tmp_path / "table.h5"
    table.write(path)
    monkeypatch.setattr(model, "significances", None)  # nothing is looked at again
    again = scanning.kept_table(model, path, (1.0, 2.0), 300, seed=5)
    np.testing.assert_array_equal(again.significance, table.significance)
    for widths, n, seed, reason in (
        ((1.0, 3.0), 300, 5, "is of widths 1, 2, expected 1, 3"),
        ((1.0, 2.0), 400, 5, "is of 300 spectra of seed 5, expected 400 of seed 5"),
        ((1.0, 2.0), 300, 6, "is of 300 spectra of seed 5, expected 300 of seed 6"),
    ):
        with pytest.raises(InputError, match=f"table.h5: the table {reason}"):
            scanning.kept_table(model, path, widths, n, seed=seed)
    with pytest.raises(InputError, match="another network or training"):
        eager().scan(falling(), (1.0, 2.0), table=table)
    with pytest.raises(InputError, match="pseudo_experiments=10 and a table are two ways"):
        model.scan(falling(), (1.0, 2.0), table=table, pseudo_experiments=10)
    histograms.write(falling(), tmp_path / "spectra.h5")
    with pytest.raises(InputError, match=r"spectra.h5: no table of background-only spectra"):
        scanning.Table.read(tmp_path / "spectra.h5")
    with pytest.raises(InputError, match="n=0 background-only spectra"):
        model.table((1.0,), 0)


def test_another_weight_or_generator_is_another_network(model):
    made, other = eager(), eager(decades=(1.0, 2.0))
    before = scanning.digest(made)
    assert len({before, scanning.digest(other), scanning.digest(model)}) == 3
    made.network.exit[1].assign_add(tf.ones_like(made.network.exit[1]) * 1e-6)
    assert scanning.digest(made) != before


def test_the_p_value_of_a_file_is_that_of_its_smallest(model, table):
    h = Histograms.joined([falling(40, at=20, events=60_000), falling(40), falling(50)])
    found = model.scan(h, (1.0, 2.0), table=table)
    p, is_bound = found.file_p_value()
    assert p == pytest.approx(1 - (1 - 1 / 301) ** 3) and is_bound
    enough = scanning.needed(0.05, 1000)
    assert 1 - (1 - 1 / (enough + 1)) ** 1000 <= 0.05 < 1 - (1 - 1 / enough) ** 1000


# The polynomials


def test_polynomials_of_several_degrees_at_once_are_each_alone(spectra):
    """And each is where Poisson's likelihood has its maximum: its residuals have no share of the basis."""
    from zoo.models.ddp.curves import fit

    h = spectra.histograms
    arrays = [tf.constant(a, tf.float32) for a in (h.counts, h.bin_widths / h.bin_widths[:, :1], h.mask)]
    place, start = tf.constant(h.centres), arrays[0] + 1.0
    together = fit(*arrays, place, start, (2, 3))
    for k, degree in enumerate((2, 3)):
        alone = fit(*arrays, place, start, (degree,))
        np.testing.assert_allclose(together.curves[k], alone.curves[0], rtol=1e-6)
        for row, other in zip(alone.factor, together.factor):
            for one, two in zip(row, other):
                np.testing.assert_allclose(one[:, 0], two[:, k], rtol=1e-9, atol=1e-9)
    many = h.counts.sum(1) > 1000
    off = np.einsum("nb,nbp->np", (h.counts - together.curves[1].numpy()) * h.mask, together.basis)[many]
    assert np.median(np.abs(off) / np.sqrt(h.counts.sum(1))[many][:, None]) < 1e-2


@pytest.mark.parametrize("dilation", [1, 2, 16])
def test_the_gradient_of_a_dilated_convolution_is_that_of_the_product_it_is(dilation):
    from zoo.models.ddp.network import _beside

    rng = np.random.default_rng(1)
    x, kernel, bias = (tf.Variable(rng.normal(size=size), dtype=tf.float32) for size in ((3, 40, 5), (15, 4), (4,)))

    def product():
        padded = tf.pad(x, [[0, 0], [dilation, dilation], [0, 0]])
        return tf.concat([padded[:, :40], x, padded[:, 2 * dilation :]], -1) @ kernel + bias

    with tf.GradientTape(persistent=True) as tape:
        one, other = (tf.reduce_sum(tf.sin(y)) for y in (_beside(x, dilation, (kernel, bias)), product()))
    for a, b in zip(tape.gradient(one, [x, kernel, bias]), tape.gradient(other, [x, kernel, bias])):
        np.testing.assert_allclose(a, b, atol=1e-4)


# The figures


@pytest.mark.drawn
def test_figures_of_scans_have_their_numbers_beside(tmp_path):
    rng, has = np.random.default_rng(1), np.arange(200) < 100
    one, other = (rng.normal(2, 1, 200) ** 2 + 3 * has for _ in range(2))
    numbers = {
        "two": scanned.plot_two_scans(one, {"BumpHunter": other}, has, tmp_path / "two.png"),
        "roc": scanned.plot_found_bumps({"ddp": one, "BumpHunter": other}, has, tmp_path / "roc.png"),
        "off": scanned.plot_off(np.linspace(0, 12, 100), rng.normal(-1, 1, 100), tmp_path / "off.png"),
    }
    for name, expected in numbers.items():
        assert read_numbers(tmp_path / f"{name}.json") == expected
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert numbers["roc"]["ddp"]["auc"] == pytest.approx((one[has][:, None] > one[~has]).mean())
    assert numbers["off"]["bias"][0] == pytest.approx(np.mean(np.array(numbers["off"]["off"])[:17]))
    for bad in ({"has_bump": np.ones(200, bool)}, {"has_bump": has[:5]}):
        with pytest.raises(InputError, match=r"has_bump|ddp: shape"):
            scanned.plot_found_bumps({"ddp": one}, bad["has_bump"], tmp_path / "no.png")


# The commands


@pytest.fixture
def command(tmp_path, monkeypatch, model, trained):
    monkeypatch.chdir(tmp_path)
    load = zoo.run.load  # that of the run comes with its programs
    monkeypatch.setattr(zoo.run, "load", lambda path: model if str(path) == str(trained) else load(path))

    def call(*words):
        return CliRunner().invoke(zoo.cli.main.main, [str(word) for word in words])

    return call


def refused(done, reason):
    lines = done.stderr.splitlines()
    assert done.exit_code == 2 and len(lines) == 1 and lines[0].startswith("Error: "), done.output
    assert reason in lines[0]


def test_scan_reads_root_and_hdf5_alike_and_writes_what_it_finds(command, trained, tmp_path):
    made = boost_histogram.Histogram(boost_histogram.axis.Regular(40, 1000, 3000))
    made[...] = falling(40, at=20, events=400).counts[0]
    with uproot.recreate(tmp_path / "spectra.root") as file:
        file["region/m_jj"] = made
    histograms.write(falling(40, at=20, events=400), tmp_path / "spectra.h5")
    options = ["--model", trained, "--calibrate", 20, "--json"]
    root, hdf5 = (
        json.loads(command("scan", f"spectra.{e}", *options, "--out", f"{e}.found.h5").stdout) for e in ("root", "h5")
    )
    (row,), (other,) = root["spectra"], hdf5["spectra"]
    assert row["name"] == "region/m_jj" and {**row, "name": "0"} == other
    assert row["local_significance"] > 3 and abs(row["bin"] - 20) <= 1 and abs(row["mass"] - 2025) < 60
    assert row["global_p_value_is_bound"] and row["global_significance"] == pytest.approx(norm.isf(1 / 21))
    with h5py.File("h5.found.h5") as file:
        assert file["significance"].shape == (1, 40) and file["local_significance"][0] == row["local_significance"]
        assert file["global_p_value"][0] == row["global_p_value"] and file.attrs["model"] == "ddp"


def test_scan_prints_a_table_for_people_and_csv_for_programs(command, trained):
    histograms.write(Histograms.joined([falling(40), falling(50)]), "spectra.h5")
    text = command("scan", "spectra.h5", "--model", trained, "--calibrate", 25).stdout
    assert "2 spectra; the most significant:" in text
    assert f"background alone gives about {2 * 1 / 26:.3g}." in text  # 1 / 26 is the only possible p-value up to 0.05
    table = command("scan", "spectra.h5", "--model", trained, "--calibrate", 0, "--csv", "--width", 1.5).stdout
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["bins"] for row in rows] == ["40", "50"] and "global_p_value" not in rows[0]


def test_scan_draws_the_most_significant_spectra_first(command, trained, tmp_path):
    three = Histograms.joined([falling(40), falling(50), falling(40, at=20, events=400)])
    histograms.write(three, "spectra.h5")
    done = command("scan", "spectra.h5", "--model", trained, "--calibrate", 0, "--plot", "figures", "--json")
    rows = sorted(json.loads(done.stdout)["spectra"], key=lambda row: -row["local_significance"])
    found = sorted(path.name for path in (tmp_path / "figures").glob("*.png"))
    assert found == [f"{i:02d}_{row['name']}.png" for i, row in enumerate(rows, 1)]
    first = json.loads((tmp_path / "figures" / found[0]).with_suffix(".json").read_text())
    assert first["counts"] == three.counts[2][:40].tolist() and len(first["edges"]) == 41
    assert max(first["significance"]) == pytest.approx(rows[0]["local_significance"])
    assert first["interval"] == pytest.approx([rows[0]["mass"] - rows[0]["width"], rows[0]["mass"] + rows[0]["width"]])
    refused(command("scan", "spectra.h5", "--model", trained, "--plot", "figures"), "figures")


def test_scan_by_a_table_makes_it_once_and_keeps_it(command, trained, tmp_path, monkeypatch, model):
    histograms.write(Histograms.joined([falling(40, at=20, events=60_000), falling(50)]), "spectra.h5")
    words = ["scan", "spectra.h5", "--model", trained, "--calibrate", "table", "--table", 60, "--width", 1.5]
    kept = ["--calibration", "table.h5", "--json"]
    first = json.loads(command(*words, *kept).stdout)
    assert first["calibration"] == "table" and first["toys"] == 60
    assert first["spectra"][0]["global_p_value"] == 1 / 61 and first["spectra"][0]["global_p_value_is_bound"]
    assert first["file_p_value"] == pytest.approx(1 - (60 / 61) ** 2) and first["file_p_value_is_bound"]
    monkeypatch.setattr("zoo.models.ddp.scan.make_table", None)
    assert json.loads(command(*words, *kept).stdout) == first
    refused(command(*words[:-1], 2.0, *kept), "table.h5: the table is of widths 1.5, expected 2; make one of these")
    refused(command(*words[:4], "--table", 60), "--table is for --calibrate table")
    refused(command(*words[:4], "--calibrate", "tables"), "expected a number of pseudo-experiments")


def test_a_table_is_kept_in_the_run_directory_by_default(command, trained):
    histograms.write(falling(40), "spectra.h5")
    text = command(
        "scan", "spectra.h5", "--model", trained, "--calibrate", "table", "--table", 30, "--width", 1.5
    ).stdout
    assert "1 spectra; the most significant:" in text and len(list((trained / "calibration").glob("*.h5"))) == 1


def test_scan_says_how_many_spectra_it_takes_for_one_to_stand_out(command, trained):
    histograms.write(Histograms.joined([falling(40)] * 20), "spectra.h5")
    text = command("scan", "spectra.h5", "--model", trained, "--calibrate", 20, "--width", 1.5).stdout
    enough = scanning.needed(0.05, 20)
    assert "The smallest of 20 p-values" in text and f"takes {enough:,}" in text
    assert f"--calibrate table --table {enough}" in text


def test_scan_takes_chosen_histograms_within_a_range_and_says_which_are_bad(command, trained, tmp_path):
    filled = boost_histogram.Histogram(boost_histogram.axis.Regular(60, 0, 3000))
    filled[...] = np.r_[np.zeros(20), falling(40, at=20, events=400).counts[0]]
    with uproot.recreate(tmp_path / "spectra.root") as file:
        file["SR/m_jj"], file["SR/m_ll"], file["CR/m_jj"] = filled, filled * 0.5, filled
    words = ["scan", "spectra.root", "--model", trained, "--calibrate", 0, "--width", 1.5, "--json"]
    refused(command(*words, "--select", "SR/m_ll"), "histogram SR/m_ll has counts that are not whole numbers: weighted")
    refused(command(*words, "--select", "SR/*", "--range", 1000, 3000), "--skip-bad")
    refused(command(*words, "--select", "VR/*"), "no histogram's name matches 'VR/*'; there are SR/m_jj")
    done = command(*words, "--select", "SR/*", "--skip-bad", "--range", 1000, 3000)
    found = json.loads(done.stdout)
    assert [row["name"] for row in found["spectra"]] == ["SR/m_jj"] and found["spectra"][0]["bins"] == 40
    assert [one["name"] for one in found["left_out"]] == ["SR/m_ll"] and "weighted" in found["left_out"][0]["reason"]
    assert "Left out: histogram SR/m_ll has counts that are not whole" in done.stderr
    refused(command(*words, "--select", "CR/*"), "begins with empty bins")


def test_a_spectrum_that_no_curve_goes_through_can_be_left_out(command, trained, monkeypatch, model):
    """Whatever makes the network's numbers no numbers: here that of the second one."""
    plain = model.reader.plain

    def spoilt(counts, edges, several, mask):
        found, curve = plain(counts, edges, several, mask)
        return tf.where((tf.reduce_sum(mask, 1) == 50)[None, :, None], np.nan, found), curve

    monkeypatch.setattr(model.reader, "plain", spoilt)
    histograms.write(Histograms.joined([falling(40), falling(50), falling(45)]), "spectra.h5")
    done = command("scan", "spectra.h5", "--model", trained, "--calibrate", 5, "--json", "--skip-bad")
    found = json.loads(done.stdout)
    assert [row["name"] for row in found["spectra"]] == ["0", "0"] and [row["bins"] for row in found["spectra"]] == [
        40,
        45,
    ]
    assert "no smooth curve" in found["left_out"][0]["reason"]


def test_bad_input_of_the_commands_is_one_line(command, trained, tmp_path):
    histograms.write(falling(), "spectra.h5")
    model = ["--model", trained]
    refused(command("scan", "nothing.h5", *model), "no such file")
    refused(command("scan", "spectra.h5", "--model", "nothing"), "no such folder")
    refused(command("scan", "spectra.h5", *model, "--out", "spectra.h5"), "exists already")
    refused(command("scan", "spectra.h5", *model, "--width", 50), "outside the 0.8 to 4")
    refused(command("scan", "spectra.h5", *model, "--csv", "--json"), "give one of them")
    refused(command("train", "ddp", "--data", "lhco_sim_train", "--out", "run"), "--data is for models of events")
    refused(command("train", "ddp", "--validation", "0.2", "--out", "run"), "--validation is for models of events")
    refused(command("train", "vae", "--out", "run"), "give --data")
    refused(command("score", trained, "--data", "lhco_sim_test", "--out", "s.h5"), "spectra, not events")
    assert {path.name for path in tmp_path.iterdir()} == {"spectra.h5"}


def test_settings_that_are_not_possible_are_one_line(command):
    for setting in ("bins=60", "decades=3", "widths=1,2,3", "seed=-1"):
        refused(command("train", "ddp", "--out", "run", "--set", setting), f"{setting.partition('=')[0]}=")


def test_a_spectrum_that_no_curve_goes_through_is_one_line_in_every_format(command, monkeypatch, model, trained):
    histograms.write(falling(), "spectra.h5")
    monkeypatch.setattr(model.reader, "plain", lambda counts, edges, several, mask: (several * np.nan, counts))
    for option in ((), ("--csv",), ("--json",), ("--out", "found.h5")):
        refused(command("scan", "spectra.h5", "--model", trained, *option), "histogram 0: no smooth curve goes")


@pytest.mark.slow
def test_xla_and_plain_programs_agree(model, spectra):
    compiled = zoo.get("ddp", **TINY)
    compiled.fit(verbose=0)
    np.testing.assert_allclose(
        compiled.significance(spectra), model.significance(spectra), rtol=0.02, atol=0.02, equal_nan=True
    )
    many = Generator(bins=(40, 40), seed=8).draw(100)
    found, plain = (model.significance(many, jit_compile=way) for way in (True, False))
    assert (found != plain).any()  # these are two programs
    np.testing.assert_allclose(found, plain, atol=2e-4)


def test_toys_are_called_pseudo_experiments_now():
    made, one = eager(), falling(30)
    with pytest.warns(DeprecationWarning, match="toys is called pseudo_experiments now"):
        found = made.scan(one, (1.5,), toys=3)
    assert found.pseudo_experiments == 3
    with pytest.warns(DeprecationWarning, match="pseudo_experiments"):
        assert found.toys == 3
