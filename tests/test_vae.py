"""The bump-hunting VAE does what its paper says: both steps, the epoch that is kept, the scores, what is generated."""

import json

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import kstest, rankdata
from sklearn import decomposition

import pipelines.plots
import zoo
import zoo.layers.latent as latent_space
import zoo.models.vae as vae
from pipelines import Events, InputError
from zoo import run
from zoo.conformance.subject import eagerly
from zoo.keras import keras
from zoo.layers import MLP
from zoo.layers.rarity import KNOTS, Rarity, distribution

COLUMNS = ("a", "b", "c", "d")
QUIET = {"verbose": 0, "jit_compile": False}
PEAKED = {"optimizer": "adam", "learning_rate": 0.01, "alpha": 100.0}  # whose KL has a peak after few epochs
RISING = {"optimizer": "adam", "learning_rate": 0.01, "alpha": 5000.0, "scaling": "maxabs"}  # and whose has not


def small(**more):
    options = {"columns": COLUMNS, "scaling": "standard", "units": (16, 16), "batch_size": 100, "epochs": 6}
    return zoo.get("vae", **{**options, "decoder_epochs": 3, **PEAKED, "seed": 1, **more})


@pytest.fixture(scope="module")
def events():
    """Made-up events whose four features come from two hidden numbers, with weights and labels."""
    rng = np.random.default_rng(0)
    t, u = rng.normal(size=800), rng.exponential(size=800)
    noise = rng.normal(size=(2, 800))
    features = [2 + t, 1 + 0.5 * t + 0.1 * noise[0], 5 + u, 3 + 0.3 * u * t + 0.2 * noise[1]]
    truth = {"weight": rng.uniform(0.5, 2.0, 800), "label": rng.integers(0, 2, 800)}
    return Events.from_arrays(np.stack(features, 1), 2000 + 4000 * rng.random(800), COLUMNS, **truth)


def like(events, **other):
    """The same events but for what is given."""
    given = {"features": events.read("features"), "mass": events.mass, "weight": events.weight} | other
    return Events.from_arrays(given.pop("features"), given.pop("mass"), COLUMNS, **given)


def values(variables):
    return [variable.numpy() for variable in variables]


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def of_step_one(model):
    """The weights that the first step trains."""
    return model.trainer.tasks["vae"].weights


@pytest.fixture(scope="module")
def trained(events):
    """One model and three members, each trained once; what their weights were after every epoch of step one."""
    kept = {}

    def give(members=1):
        if members not in kept:
            model, epochs = small(members=members), []
            keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: epochs.append(values(of_step_one(model))))
            model.fit(events, callbacks=[keep], **QUIET)
            kept[members] = model, epochs
        return kept[members]

    return give


@pytest.fixture(scope="module")
def again():
    """Train one compiled model from the start, on whatever events."""
    model = small()

    def give(events, *validation, learning_rate=PEAKED["learning_rate"], **options):
        model.adapt(events)
        model.reset(learning_rate=learning_rate)
        model.fit(events, *validation, **options, **QUIET)
        return model

    return give


@pytest.fixture
def adapted(events):
    """A model of one batch of all events, not trained, whose biases are not zero."""

    def give(**more):
        model, rng = small(batch_size=len(events), **more), np.random.default_rng(2)
        model.adapt(events)
        for weight in model.trainable_variables:
            if len(weight.shape) == 1 + len(model.member_shape):
                weight.assign(rng.normal(scale=0.3, size=weight.shape))
        model.trainer.enter(model.recipe()[0])
        return model, next(iter(model.batches(events, model.weighting(events)).shuffled()))

    return give


# -- what it is ------------------------------------------------------------------------------------------


def test_defaults_are_the_papers_and_presets_can_be_built():
    config = zoo.get("vae").get_config()
    jets = ("mass_heavy", "tau21_heavy", "tau32_heavy", "mass_light", "tau21_light", "tau32_light")
    paper = {"columns": jets, "scaling": "maxabs", "latent_dim": 1, "units": (64, 64, 64), "alpha": 5000.0}
    paper |= {"optimizer": "adadelta", "epochs": 100, "batch_size": 1000, "mass_width": 0.025}
    assert {name: config[name] for name in paper} == paper
    assert zoo.get("vae", preset="lhco2020").get_config() == {**config, "members": 20}
    for preset in ("lhco2020", "adam"):
        model = zoo.get("vae", preset=preset)
        model.build_for(jets)
        assert [v.shape[len(model.member_shape) :] for v in model.encoder.kernels] == [
            (6, 64),
            (64, 64),
            (64, 64),
            (64, 2),
        ]
        assert [v.shape[len(model.member_shape) :] for v in model.decoder.kernels] == [
            (1, 64),
            (64, 64),
            (64, 64),
            (64, 6),
        ]
        assert model.mass_decoder.kernels[0].shape[len(model.member_shape) :] == (2, 64)
        assert model.score(np.ones((3, 6))).shape == (3,)
    assert type(model.optimizers[0]).__name__ == "Adam"


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 0.0},
        {"latent_dim": 0},
        {"units": ()},
        {"units": (10, 0)},
        {"optimizer": "sgd"},
        {"learning_rate": 0.0},
        {"decoder_learning_rate": -1.0},
        {"epochs": 0},
        {"patience": -1},
        {"decoder_epochs": 1.5},
        {"mass_width": -0.1},
        {"batch_size": 0},
        {"scaling": "robust"},
        {"columns": ()},
        {"seed": -1},
    ],
)
def test_a_hyperparameter_out_of_range_is_named_with_what_was_expected(wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=f"{name}=.*expected"):
        zoo.get("vae", **wrong)


# -- the loss ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gaussians():
    rng = np.random.default_rng(3)
    return rng.normal(scale=2, size=(200, 3)).astype("f"), rng.normal(scale=1.5, size=(200, 3)).astype("f")


def test_kl_is_that_of_tensorflow_probability(gaussians):
    distributions = pytest.importorskip("tensorflow_probability").distributions
    mean, log_var = gaussians
    one = distributions.MultivariateNormalDiag(mean, np.exp(log_var / 2))
    expected = distributions.kl_divergence(one, distributions.MultivariateNormalDiag(np.zeros(3, "f"), np.ones(3, "f")))
    np.testing.assert_allclose(latent_space.gaussian_kl(mean, log_var), expected, rtol=1e-4, atol=1e-5)


def test_kl_is_its_integral(gaussians):
    for mean, log_var in zip(*(array[:20].astype(float) for array in gaussians)):
        total = 0.0
        for m, s in zip(mean, np.exp(log_var / 2)):  # independent dimensions add up
            z = np.linspace(m - 10 * s, m + 10 * s, 20_001)
            log_ratio = (-0.5 * ((z - m) / s) ** 2 - np.log(s)) + 0.5 * z**2
            density = np.exp(-0.5 * ((z - m) / s) ** 2) / (s * np.sqrt(2 * np.pi))
            total += np.trapezoid(density * log_ratio, z)
        np.testing.assert_allclose(
            latent_space.gaussian_kl(mean[None].astype("f"), log_var[None].astype("f"))[0], total, rtol=1e-4
        )


def test_kl_is_zero_for_the_prior_alone():
    assert float(latent_space.gaussian_kl(tf.zeros((1, 2)), tf.zeros((1, 2)))[0]) == 0
    assert (
        latent_space.gaussian_kl(tf.constant([[0.1], [0.0], [0.0]]), tf.constant([[0.0], [0.1], [-0.1]])).numpy() > 0
    ).all()


def dense(x, kernels, biases):
    """SELU on all but the last layer, in float64."""
    for place, (kernel, bias) in enumerate(zip(kernels, biases)):
        x = x @ np.asarray(kernel, float) + np.asarray(bias, float)
        if place < len(kernels) - 1:
            x = 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
    return x


def by_hand(model, batch, noise):
    """Loss, reconstruction and KL of a batch as the paper writes them."""
    x, w, latent = batch["features"].numpy(), batch["weight"].numpy(), model.hp.latent_dim
    encoded = dense(x, model.encoder.kernels, model.encoder.biases)
    mean, log_var = encoded[:, :latent], encoded[:, latent:]
    decoded = dense(mean + np.exp(log_var / 2) * noise, model.decoder.kernels, model.decoder.biases)
    kl = np.mean(w * 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var).sum(1))
    mse = np.mean(w * ((x - decoded) ** 2).mean(1))
    return model.hp.alpha * mse + kl, mse, kl


@pytest.mark.parametrize("latent", [1, 2])
def test_loss_is_alpha_times_the_error_plus_kl_written_out(adapted, monkeypatch, latent):
    model, batch = adapted(latent_dim=latent, alpha=37.0)
    noise = np.random.default_rng(4).normal(size=(len(batch["mass"]), latent)).astype("f")
    monkeypatch.setattr(latent_space, "normal", lambda shape, seed, use: tf.reshape(tf.constant(noise), shape))
    expected = by_hand(model, batch, noise)
    found = model.train_step(batch)  # which measures before it moves the weights
    assert batch["weight"].numpy().std() > 0.1
    for term, value in zip(("loss", "reconstruction", "kl"), expected):
        np.testing.assert_allclose(found[term], value, rtol=1e-4, err_msg=term)


@pytest.mark.parametrize("optimizer", ["adam", "adadelta"])
def test_steps_are_those_of_keras_own_layers_and_optimizer(adapted, monkeypatch, optimizer):
    rate = {"adam": 0.01, "adadelta": 1.0}[optimizer]
    model, batch = adapted(optimizer=optimizer, learning_rate=rate, alpha=10.0)
    noise = np.random.default_rng(4).normal(size=(len(batch["mass"]), 1)).astype("f")
    monkeypatch.setattr(latent_space, "normal", lambda shape, seed, use: tf.reshape(tf.constant(noise), shape))
    layers = {}
    for name in ("encoder", "decoder"):
        network, copy = getattr(model, name), keras.Sequential(name=name)
        for place, (kernel, bias) in enumerate(zip(network.kernels, network.biases)):
            last = place == len(network.kernels) - 1
            copy.add(keras.layers.Dense(kernel.shape[1], activation=None if last else "selu"))
            copy.build((None, network.kernels[0].shape[0]))
            copy.layers[-1].set_weights([kernel.numpy(), bias.numpy()])
        layers[name] = copy
    other = {"adam": keras.optimizers.Adam, "adadelta": keras.optimizers.Adadelta}[optimizer](rate)
    weights = layers["encoder"].trainable_variables + layers["decoder"].trainable_variables
    start = values(of_step_one(model))
    for _ in range(3):
        model.train_step(batch)
        with tf.GradientTape() as tape:
            mean, log_var = tf.split(layers["encoder"](batch["features"]), 2, axis=1)
            decoded = layers["decoder"](mean + tf.exp(log_var / 2) * noise)
            error = tf.reduce_mean((batch["features"] - decoded) ** 2, axis=1)
            kl = 0.5 * tf.reduce_sum(mean**2 + tf.exp(log_var) - 1 - log_var, axis=1)
            loss = tf.reduce_mean(batch["weight"] * (10.0 * error + kl))
        other.apply_gradients(zip(tape.gradient(loss, weights), weights))
    for name, copy in layers.items():
        network = getattr(model, name)
        for kernel, bias, layer in zip(network.kernels, network.biases, copy.layers, strict=True):
            np.testing.assert_allclose(kernel, layer.kernel, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(bias, layer.bias, rtol=1e-3, atol=1e-5)
    assert all(np.abs(a - b).max() > 1e-4 for a, b in zip(values(of_step_one(model)), start))


def test_the_latent_number_is_drawn_anew_at_every_step_with_the_encoders_mean_and_width(adapted):
    model, batch = adapted(latent_dim=2)
    x = tf.repeat(batch["features"][:1], 20_000, axis=0)
    mean, log_var, h = model.encode(x)
    drawn = [model.latent.draw(mean, log_var, h, model.seeds * 1_000_003 + step)[0].numpy() for step in (0, 1)]
    for one in drawn:
        for place in range(2):
            width = np.exp(float(log_var[0, place]) / 2)
            assert kstest(one[:, place], "norm", (float(mean[0, place]), width)).pvalue > 1e-3
    together = np.concatenate(drawn, axis=1)
    assert np.abs(np.corrcoef(together.T)[np.triu_indices(4, 1)]).max() < 5 / np.sqrt(20_000)


def test_event_weights_have_mean_one_so_that_their_scale_means_nothing(trained, again, events):
    model, _ = trained()
    scaled = again(like(events, weight=4.0 * events.weight))  # a power of two, exact in float32
    assert_same(values(scaled.trainable_variables), values(model.trainable_variables))
    np.testing.assert_allclose(model.weighting(events)(events.mass) * events.weight.mean(), 1.0, rtol=1e-5)


def test_event_weights_matter_and_labels_do_not(trained, again, events):
    model, _ = trained()
    blind = like(events)
    assert events.has_labels and not blind.has_labels
    assert_same(values(again(blind).trainable_variables), values(model.trainable_variables))
    flat = again(like(events, weight=np.ones(len(events)))).score(events)
    assert np.abs(flat - model.score(events)).max() > 1e-2


# -- the epoch that remains ----------------------------------------------------------------------------------


def test_what_remains_are_the_weights_of_the_epoch_of_largest_kl(trained):
    model, epochs = trained()
    kl = model.histories["vae"].history["kl"]
    best = int(np.argmax(kl))
    assert 0 < best < len(kl) - 1 == 5  # a peak within the training, or this would test nothing
    assert_same(values(of_step_one(model)), epochs[best])
    assert model.best_epochs()["vae"] == {
        "quantity": "kl",
        "best": "max",
        "epoch": [best],
        "value": [pytest.approx(kl[best], rel=1e-6)],
    }


def test_each_member_keeps_the_epoch_of_its_own_largest_kl(trained):
    model, epochs = trained(members=3)
    kl = np.array([row["kl"] for row in model.member_rows if row["phase"] == "vae"]).reshape(6, 3)
    best = kl.argmax(axis=0)
    assert len(set(best)) > 1 and model.best_epochs()["vae"]["epoch"] == best.tolist()
    for member, epoch in enumerate(best):
        assert_same([w[member] for w in values(of_step_one(model))], [w[member] for w in epochs[epoch]])


@pytest.mark.parametrize("options", [PEAKED, RISING], ids=["a peak", "no peak before the end"])
def test_a_run_says_which_epoch_it_is_of_and_whether_training_ended_before_a_peak(options, events, tmp_path):
    model, epochs, save = small(**options, decoder_epochs=0), [], run.Checkpoint.on_epoch_end
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            run.Checkpoint, "on_epoch_end", lambda *a: (epochs.append(values(of_step_one(model))), save(*a))[1]
        )
        with eagerly():  # so few steps cost less than to trace one
            history = run.train(model, events, tmp_path / "run", **QUIET).history
    assert list(model.histories) == ["vae"]  # no second step where there are no epochs for it
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())["best_epoch"]["vae"]
    best = int(np.argmax(history["kl"]))
    assert told["quantity"] == "kl" and told["best"] == "max" and told["epoch"] == [best]
    assert (best == 5) == (options is RISING)
    loaded = zoo.load(tmp_path / "run")
    assert_same(values(of_step_one(loaded)), epochs[best])
    np.testing.assert_array_equal(loaded.score(events), model.score(events))


def test_patience_ends_step_one_so_many_epochs_after_the_peak(trained, events):
    kl = trained()[0].histories["vae"].history["kl"]
    best = int(np.argmax(kl[:3]))
    model = small(patience=2, decoder_epochs=0)
    history = model.fit(events, **QUIET)
    np.testing.assert_array_equal(history.history["kl"], kl[: best + 3])
    assert model.best_epochs()["vae"]["epoch"] == [best]


def test_validation_draws_the_same_numbers_at_every_epoch(again, events):
    model = again(events, events.sample(300), learning_rate=1e-12, epochs=3, finish=False)
    history = model.histories["vae"].history
    assert len(set(np.round(history["val_loss"], 3))) == 1 and len(set(np.round(history["loss"], 3))) == 3


# -- step two ---------------------------------------------------------------------------------------------------


def test_step_two_moves_neither_the_encoder_nor_the_decoder_of_step_one_by_a_bit(trained, again, events):
    model = again(events, finish=False)
    model.on_phase_end(model.recipe()[0], events)
    assert list(model.histories) == ["vae"]
    fixed, moving = values(of_step_one(model)), values(model.mass_decoder.trainable_variables)
    scores = {kind: model.score(events, kind) for kind in model.score_kinds}
    model.fit_decoder(events, jit_compile=False)
    assert list(model.histories) == ["vae", "decoder"]
    assert_same(values(of_step_one(model)), fixed)
    for kind, score in scores.items():
        np.testing.assert_array_equal(model.score(events, kind), score)
    assert all(np.abs(a - b).max() > 0 for a, b in zip(values(model.mass_decoder.trainable_variables), moving))
    loss = model.histories["decoder"].history["loss"]
    assert loss[-1] < loss[0]
    at_once, _ = trained()
    assert_same(values(at_once.trainable_variables), values(model.trainable_variables))


def test_the_decoder_of_step_two_is_a_new_one(trained):
    model, _ = trained()
    for old, new in zip(model.decoder.kernels[1:], model.mass_decoder.kernels[1:]):
        assert np.abs(np.corrcoef(old.numpy().ravel(), new.numpy().ravel())[0, 1]) < 0.5
    first, *others = ([tuple(k.shape) for k in one.kernels] for one in (model.mass_decoder, model.decoder))
    assert first[0] == (2, first[0][1]) and first[1:] == others[0][1:]


def test_a_second_step_two_starts_anew(again, events):
    model = again(events, epochs=1)
    first = model.histories["decoder"].history["loss"][0]
    model.fit_decoder(events, jit_compile=False)
    assert model.histories["decoder"].history["loss"][0] == pytest.approx(first, rel=0.05)  # other random numbers
    assert [row["epoch"] for row in run.history_rows(model.histories)] == [0, 0, 1, 2]


def test_step_two_alone_changes_no_score(again, events):
    model, others = again(events, epochs=1), events.take(np.arange(500))
    before = {kind: model.score(events, kind) for kind in model.score_kinds}
    model.fit_decoder(others, jit_compile=False)
    assert set(before) == set(type(model).score_kinds)
    for kind, score in before.items():
        np.testing.assert_array_equal(model.score(events, kind), score, err_msg=kind)


def test_step_two_ends_when_its_loss_no_longer_falls(events):
    model = small(epochs=1, decoder_epochs=200, decoder_learning_rate=0.02, mass_width=0.0)
    constant = np.tile(events.read("features")[:1], (len(events), 1))
    model.fit(events, finish=False, **QUIET)
    model.fit_decoder(like(events, features=constant), jit_compile=False)  # an easy problem: one event
    loss = model.histories["decoder"].history["loss"]
    best = model.best_epochs()["decoder"]["epoch"][0]
    assert 5 < len(loss) == best + 1 + vae.SETTLED.patience < 200
    assert min(loss) < 0.01 * loss[0]


def test_step_two_of_a_loaded_model_is_trained_like_that_of_the_model_itself(again, events, tmp_path):
    model, loaded = again(events, epochs=1), small()
    run.save_state(model, tmp_path / "state.h5")
    loaded.build_for(COLUMNS)
    run.load_state(loaded, tmp_path / "state.h5")
    fixed = values(of_step_one(model))
    for one in (loaded, model):
        one.fit_decoder(events, jit_compile=False)
    assert_same(values(of_step_one(loaded)), fixed)
    assert_same(values(loaded.mass_decoder.trainable_variables), values(model.mass_decoder.trainable_variables))


def test_no_step_two_without_epochs_for_it(events):
    model = small(decoder_epochs=0)
    model.adapt(events)
    with pytest.raises(InputError, match="decoder_epochs=0"):
        model.fit_decoder(events)
    with pytest.raises(InputError, match="decoder_epochs > 0"):
        model.generate([0.0], [3000.0])


def test_step_two_of_an_encoder_that_is_not_trained_is_refused(events):
    model = small()
    with pytest.raises(InputError, match="fit"):
        model.fit_decoder(events, jit_compile=False)
    model.adapt(events)
    with pytest.raises(InputError, match="fit"):
        model.fit_decoder(events, jit_compile=False)


def test_masses_are_standardised_as_by_scikit_learn(trained, events):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    model, _ = trained()
    scaler = preprocessing.StandardScaler().fit(events.mass[:, None].astype(float))
    np.testing.assert_allclose(model.mass_mean, scaler.mean_[0], rtol=1e-6)
    np.testing.assert_allclose(model.mass_std, scaler.scale_[0], rtol=1e-5)
    found = model._with_mass(tf.zeros((len(events), 1)), tf.constant(events.mass))
    np.testing.assert_allclose(found[:, 1], scaler.transform(events.mass[:, None])[:, 0], atol=1e-5)


def test_a_spectrum_of_one_mass_does_no_harm(again, events):
    model = again(like(events, mass=np.full(len(events), 3500.0)), epochs=1)
    assert float(model.mass_std) == pytest.approx(0.025 * 3500) and np.isfinite(model.generate([0.0], [3500.0])).all()


@pytest.mark.parametrize("width", [0.025, 0.1, 0.0])
def test_the_new_decoder_gets_masses_smeared_by_their_relative_width_and_drawn_latents(adapted, monkeypatch, width):
    model, batch = adapted(mass_width=width)
    size, entered = 20_000, []
    batch = {key: tf.repeat(value, size // len(value), axis=0) for key, value in batch.items()}
    call = MLP.call
    monkeypatch.setattr(MLP, "call", lambda self, x, *drop: (entered.append((self, x)), call(self, x, *drop))[1])
    model.trainer.enter(model.recipe()[1])
    for _ in range(2):
        model.train_step(batch)
    inputs = [x.numpy() for network, x in entered if network is model.mass_decoder]
    assert len(inputs) == 2 and inputs[0].shape == (size, 2)
    mass, (mean, log_var, _) = batch["mass"].numpy(), model.encode(batch["features"])
    pulls = []
    for given in inputs:
        smeared = given[:, 1].astype(float) * float(model.mass_std) + float(model.mass_mean)
        relative = smeared / mass - 1
        if width:
            assert kstest(relative, "norm", (0, width)).pvalue > 1e-3
            np.testing.assert_allclose([relative.mean(), relative.std()], [0, width], atol=4 * width / np.sqrt(size))
        else:
            np.testing.assert_allclose(relative, 0, atol=1e-5)
        pulls.append((given[:, 0] - mean[:, 0]) / np.exp(log_var[:, 0] / 2))
        assert kstest(pulls[-1], "norm").pvalue > 1e-3
        if width:
            pulls.append(relative)
    correlation = np.corrcoef(pulls)[np.triu_indices(len(pulls), 1)]
    assert np.abs(correlation).max() < 5 / np.sqrt(size)  # of z with the mass, and of one step with the next


def test_neither_score_nor_step_one_ever_sees_the_mass(trained, again, events):
    model, _ = trained()
    other = again(like(events, mass=events.mass[::-1] * 0.7))
    assert_same(values(of_step_one(other)), values(of_step_one(model)))
    for kind in model.score_kinds:
        np.testing.assert_array_equal(other.score(events, kind), model.score(events, kind))
        np.testing.assert_array_equal(
            model.score(like(events, mass=np.full(len(events), 9e3)), kind), model.score(events, kind)
        )
    differ = zip(values(other.mass_decoder.kernels), values(model.mass_decoder.kernels))
    assert all(np.abs(a - b).max() > 1e-4 for a, b in differ)  # step two does


# -- what is generated ---------------------------------------------------------------------------------------


def curve(mass):
    return 50 + 100 * (mass / 4000) ** 2


@pytest.fixture(scope="module")
def generator():
    """A model whose latent number is its first feature, by an encoder written down, and whose others are known functions."""
    rng = np.random.default_rng(5)
    a, mass = rng.uniform(0.2, 1.0, 2000), rng.uniform(2500, 5500, 2000)
    features = np.stack([a, curve(mass), a * mass, rng.normal(10, 1, 2000)], axis=1)
    known = Events.from_arrays(features, mass, COLUMNS)
    options = {"scaling": "maxabs", "epochs": 1, "decoder_epochs": 60, "decoder_learning_rate": 0.005}
    model = small(**options, units=(32, 32), mass_width=0.01)
    model.fit(known, finish=False, **QUIET)
    for kernel, bias in zip(model.encoder.kernels, model.encoder.biases):
        value = np.zeros(kernel.shape)
        value[0, 0] = 1 / 1.0507009873554805  # so that SELU passes a positive number as it is
        kernel.assign(value)
        bias.assign(np.zeros(bias.shape))
    model.encoder.kernels[-1].assign(np.eye(32, 2) * [1.0, 0.0])
    model.encoder.biases[-1].assign([0.0, -8.0])  # a width of 0.018
    model.fit_decoder(known, jit_compile=False)
    return model, known


def test_a_decoder_of_known_functions_of_z_and_mass_generates_these(generator):
    model, known = generator
    z = model.results(known, ["latent"])["latent"][:, 0]
    a = known.read("features")[:, 0]
    np.testing.assert_allclose(z, a / a.max(), rtol=1e-4)  # it is what it was made to be
    points, mass = (axis.ravel() for axis in np.meshgrid(np.quantile(z, [0.2, 0.5, 0.8]), np.linspace(2800, 5200, 7)))
    truth = points * a.max()
    made = model.generate(points, mass)
    assert made.shape == (21, 4) and made.dtype == np.float32
    np.testing.assert_allclose(made[:, 0], truth, rtol=0.07)
    np.testing.assert_allclose(made[:, 1], curve(mass), rtol=0.05)
    np.testing.assert_allclose(made[:, 2], truth * mass, rtol=0.08)
    np.testing.assert_allclose(made[:, 3], 10.0, rtol=0.05)


def test_at_the_mean_latent_number_the_mass_alone_moves_what_depends_on_it(generator):
    model, known = generator
    z = model.results(known, ["latent"])["latent"][:, 0].mean()
    mass = np.linspace(2700, 5300, 20)
    made = model.generate(np.full(20, z), mass)
    np.testing.assert_allclose(made[:, 1], curve(mass), rtol=0.05)
    assert np.ptp(made[:, 0]) < 0.1 * made[:, 0].mean() and np.ptp(made[:, 3]) < 0.1 * 10


def test_a_scan_is_generated_at_every_point_of_latent_number_and_mass(generator):
    model, known = generator
    scan = model.scan(known, points=(5, 7))
    z = model.results(known, ["latent"])["latent"][:, 0]
    np.testing.assert_allclose(scan["z"][[0, -1]], np.quantile(z, [0.001, 0.999]), rtol=1e-5)
    np.testing.assert_allclose(scan["mass"][[0, -1]], np.quantile(known.mass, [0.001, 0.999]), rtol=1e-5)
    for name, number in (("z", 5), ("mass", 7)):
        np.testing.assert_allclose(np.diff(scan[name], 2), 0, atol=1e-3 * np.ptp(scan[name]))
        assert scan[name].shape == (number,)
    assert list(scan["observables"]) == list(COLUMNS)
    for place, name in enumerate(COLUMNS):
        found = scan["observables"][name]
        assert found.shape == (7, 5)
        for i, j in ((0, 0), (2, 4), (6, 1)):
            one = model.generate(scan["z"][[j]], scan["mass"][[i]])[0, place]
            np.testing.assert_allclose(found[i, j], one, rtol=1e-4)
    np.testing.assert_allclose(scan["observables"]["b"][1:-1].mean(1), curve(scan["mass"])[1:-1], rtol=0.05)
    assert (np.diff(scan["observables"]["a"], axis=1) > 0).all() and (
        np.diff(scan["observables"]["b"], axis=0) > 0
    ).all()
    assert model.scan(known)["observables"]["a"].shape == (60, 60)


def test_generated_members_are_each_its_own_and_so_are_scans(trained, events):
    model, _ = trained(members=3)
    z, mass = np.linspace(-1, 1, 5), np.linspace(2500, 5500, 5)
    made = model.generate(z, mass)
    assert made.shape == (3, 5, 4) and np.isfinite(made).all()
    for a, b in ((0, 1), (1, 2)):
        assert np.abs(made[a] - made[b]).max() > 1e-2
    latent = model.results(events, ["latent"])["latent"]
    for member in range(3):
        x = np.column_stack([z, (mass - float(model.mass_mean)) / float(model.mass_std)])
        kernels, biases = ([w[member] for w in ws] for ws in (model.mass_decoder.kernels, model.mass_decoder.biases))
        scale, shift = np.asarray(model.scaler.scale), np.asarray(model.scaler.shift)
        np.testing.assert_allclose(made[member], dense(x, kernels, biases) * scale + shift, rtol=1e-3, atol=1e-3)
        scan = model.scan(events, points=(3, 2), member=member)
        np.testing.assert_allclose(scan["z"][[0, -1]], np.quantile(latent[member], [0.001, 0.999]), rtol=1e-4)
        one = model.generate(scan["z"][:1], scan["mass"][:1])[member, 0]
        np.testing.assert_allclose([scan["observables"][c][0, 0] for c in COLUMNS], one, rtol=1e-4)


@pytest.mark.parametrize("member", [-1, 3, 20])
def test_a_scan_of_a_member_that_is_not_there_is_refused(trained, events, member):
    with pytest.raises(InputError, match=f"member={member} is not possible; expected 0 to 2"):
        trained(members=3)[0].scan(events, member=member)
    with pytest.raises(InputError, match=r"member=1 is not possible; expected 0 to 0"):
        trained()[0].scan(events, member=1)


@pytest.mark.parametrize(
    "z, mass, message",
    [
        (np.zeros(3), np.zeros(4), r"\(3, 1\) and mass \(4,\)"),
        (np.zeros((3, 2)), np.zeros(3), r"\(3, 2\)"),
        (np.zeros((3, 1)), np.zeros((3, 1)), r"mass \(3, 1\)"),
        (np.zeros((1, 3, 1)), np.zeros(3), r"\(1, 3, 1\)"),
        (0.0, 3000.0, r"z \(\)"),
        (np.zeros(3), 3000.0, r"mass \(\)"),
    ],
)
def test_points_of_other_shapes_are_refused_with_what_was_expected(trained, z, mass, message):
    with pytest.raises(InputError, match=rf"{message}.*expected \(N, 1\) and \(N,\)"):
        trained()[0].generate(z, mass)


def test_two_latent_dimensions_are_generated_but_not_scanned(events):
    model = small(latent_dim=2)
    model.adapt(events)
    model.best["decoder"].epoch.assign(0)  # as if it was trained
    assert model.generate(np.zeros((3, 2)), np.full(3, 3e3)).shape == (3, 4)
    assert model.results(events, ["latent"])["latent"].shape == (800, 2)
    with pytest.raises(InputError, match="one latent dimension, this model has 2"):
        model.scan(events)
    with pytest.raises(InputError, match=r"expected \(N, 2\) and \(N,\)"):
        model.generate(np.zeros(3), np.full(3, 3e3))


def test_nothing_is_generated_before_step_two(again, events):
    model = small()
    with pytest.raises(InputError, match=r"no .*decoder"):
        model.generate([0.0], [3000.0])
    model.adapt(events)
    with pytest.raises(InputError, match=r"no .*decoder"):
        model.generate([0.0], [3000.0])
    model = again(events, epochs=1, finish=False)
    with pytest.raises(InputError, match=r"no .*decoder"):
        model.scan(events)
    model.fit_decoder(events, jit_compile=False)
    assert model.generate([0.0], [3000.0]).shape == (1, 4)


def test_nothing_is_generated_by_the_decoder_of_another_encoder(again, events):
    model = again(events, epochs=1)
    assert model.generate([0.0], [3000.0]).shape == (1, 4)
    model.fit(events, epochs=1, finish=False, **QUIET)
    with pytest.raises(InputError, match=r"no .*decoder"):
        model.generate([0.0], [3000.0])
    model.reset()
    with pytest.raises(InputError, match=r"no .*decoder"):
        model.generate([0.0], [3000.0])


# -- scores --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [1, 3])
def test_scores_are_their_formulas(trained, events, members):
    model, _ = trained(members)
    names = ["latent", "latent_log_var", "reconstructed"]
    found = {name: value.astype(float) for name, value in model.results(events, names).items()}
    if members == 1:
        found = {name: value[None] for name, value in found.items()}
    mean, log_var = found["latent"], found["latent_log_var"]
    features, scale = events.read("features"), np.asarray(model.scaler.scale)
    kl = 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var).sum(-1)
    below = np.array([[(own <= value).mean() for value in own] for own in kl])  # of the events it was trained on
    above = np.array([[(own >= value).mean() for value in own] for own in kl])
    expected = {
        "kl": kl,
        "mean2": (mean**2).sum(-1),
        "median2": ((mean - np.median(mean, axis=1, keepdims=True)) ** 2).sum(-1),
        "log_var": log_var.sum(-1),
        "reconstruction": (((features - found["reconstructed"]) / scale) ** 2).mean(-1),
    }
    assert set(expected) | {"rarity", "aligned"} == set(model.score_kinds) and model.score_kinds[0] == "aligned"
    for kind, value in expected.items():
        got = model.score(events, kind, per_member=True)
        np.testing.assert_allclose(got, value, rtol=1e-3, atol=1e-4 * np.abs(value).max(), err_msg=kind)
    share = np.exp(-model.score(events, "rarity", per_member=True)) / 2
    beyond = np.minimum(below, above) - 0.5 / len(events)  # half of an event itself
    np.testing.assert_allclose(share, np.minimum(beyond, 0.5), atol=8e-3)
    rank = below - 0.5 / len(events)
    aligned = 0.5 + np.atleast_1d(model.direction)[:, None] * (rank - 0.5)
    np.testing.assert_allclose(model.score(events, "aligned", per_member=True), aligned, atol=8e-3)


def test_the_direction_is_the_first_component_of_the_ranks_and_rises_with_the_error():
    rng = np.random.default_rng(6)
    known, noise = rng.normal(size=2000), rng.normal(size=(5, 2000))
    scores = np.exp(
        np.array([1.0, -1.0, 1.0, 0.1, -1.0])[:, None] * known + 0.5 * noise
    )  # ranks do not mind the exponential
    errors = known + rng.normal(size=(5, 2000))
    errors[2] = -known  # one that is wrong is outvoted
    found = vae.direction(scores, errors)
    np.testing.assert_array_equal(np.sign(found[[0, 1, 2, 4]]), [1, -1, 1, -1])
    assert abs(found[3]) < 0.3 * np.abs(found).max() and np.abs(found).mean() == pytest.approx(1)
    first = decomposition.PCA(1).fit(rankdata(scores, axis=1).T).components_[0]
    np.testing.assert_allclose(np.abs(found), np.abs(first) / np.abs(first).mean(), rtol=1e-4)
    np.testing.assert_allclose(vae.direction(-scores, errors), -found, rtol=1e-4)
    assert vae.direction(scores[1], errors[1]) == -1 and vae.direction(np.ones((2, 9)), np.ones((2, 9))).shape == (2,)
    with_nan = vae.direction(np.where(np.arange(5)[:, None] == 3, np.nan, scores), errors)
    assert with_nan[3] == 0 and np.isfinite(with_nan).all()
    assert vae.direction(np.full(9, np.inf), np.arange(9.0)) == 0


def test_aligned_is_known_after_training_and_never_reads_a_label(trained, again, events):
    model, _ = trained()
    kept, blind = float(model.direction), again(like(events))
    assert events.has_labels and float(blind.direction) == kept != 0
    np.testing.assert_array_equal(blind.score(events, "aligned"), model.score(events, "aligned"))
    fresh = small()
    fresh.adapt(events)
    assert fresh.score_kinds == ("kl", "mean2", "log_var", "reconstruction")  # what needs no training events
    with pytest.raises(InputError, match="'aligned' is not known"):
        fresh.score(events, "aligned")


def test_a_run_of_an_earlier_version_keeps_its_scores(trained, events, tmp_path):
    model, _ = trained(members=3)
    model.save_run(tmp_path / "run")
    state, config = tmp_path / "run" / "model" / "state.h5", tmp_path / "run" / "config.json"
    with pytest.MonkeyPatch.context() as patched:  # one whose state has no direction
        older = {name: variable for name, variable in run.state_of(model).items() if "direction" not in name}
        patched.setattr(zoo.state, "state_of", lambda model: older)
        run.save_state(model, state)
    told = {k: v for k, v in json.loads(config.read_text()).items() if k not in ("sha256", "state_sha256")}
    config.write_text(json.dumps(told))
    loaded = zoo.load(tmp_path / "run")
    assert "direction/000" not in run.read_state(state) and loaded.score_kinds == model.score_kinds[1:]
    np.testing.assert_array_equal(loaded.score(events), model.score(events, "kl"))
    assert "aligned" not in loaded.serving().functions()["serving_default"].get_concrete_function().structured_outputs


def test_the_reconstruction_is_that_of_the_latent_mean_by_the_decoder_of_step_one(trained, events):
    model, _ = trained()
    x = model.scaler(events.read("features")).numpy()
    mean = dense(x, model.encoder.kernels, model.encoder.biases)[:, :1]
    decoded = dense(mean, model.decoder.kernels, model.decoder.biases)
    np.testing.assert_allclose(
        model.score(events, "reconstruction"), ((x - decoded) ** 2).mean(1), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("members", [1, 3])
def test_rarity_of_the_training_events_is_exponential(trained, events, members):
    for own in trained(members)[0].score(events, "rarity", per_member=True):
        for t in (0.0, 0.5, 1.0, 2.0, 3.0, 4.0):
            assert abs((own > t).mean() - np.exp(-t)) < 0.005, t
        assert own.min() >= 0


def test_rarity_is_large_in_both_tails_and_largest_outside_all_training_events(trained, events):
    model, _ = trained()
    kl, rarity = model.score(events, "kl"), model.score(events, "rarity")
    order = np.argsort(kl)
    assert rarity[order[:4]].min() > np.quantile(rarity, 0.98) and rarity[order[-4:]].min() > np.quantile(rarity, 0.98)
    assert rarity[order[395:405]].max() < 0.05
    assert (np.diff(rarity[order[:400]]) <= 1e-6).all() and (np.diff(rarity[order[400:]]) >= -1e-6).all()
    outside = model.rarity(tf.constant([kl.min() * 0.9, kl.max() * 1.1, kl.max() * 1e6]))
    assert (outside.numpy() >= rarity.max()).all() and np.isfinite(outside).all()


def test_the_share_below_counts_half_of_what_is_the_same_and_stays_a_share():
    layer = Rarity(())
    for values, at, expected in [
        (np.r_[np.zeros(200), np.ones(500), np.full(300, 2.0)], 1.0, 0.45),
        (np.r_[np.zeros(200), np.ones(700), np.full(100, 2.0)], 1.0, 0.55),
        (np.arange(1000.0), 499.5, 0.5),
        (np.arange(1000.0), 249.5, 0.25),
    ]:
        layer.adapt(values)
        assert float(layer.share_below(tf.constant([at], tf.float32))[0]) == pytest.approx(expected, abs=0.01)
        far = layer.share_below(tf.constant([-1e6, values.min(), values.max(), 1e6], tf.float32)).numpy()
        assert (np.diff(far) >= 0).all() and far[0] >= 0 and far[-1] <= 1
    assert np.isnan(layer.share_below(tf.constant([np.inf, -np.inf, np.nan], tf.float32))).all()


def test_rarity_is_the_same_for_every_monotone_change_of_what_it_is_of(trained, events):
    model, _ = trained()
    knots, kl = model.rarity.knots.numpy(), model.score(events, "kl")
    first = model.rarity(tf.constant(kl)).numpy()
    try:
        for change in (np.sqrt, lambda x: 3 * x + 1, np.log1p, lambda x: x**3):
            both = change(np.concatenate([np.maximum(knots, 0.0), kl]).astype(np.float64))
            ranks = np.unique(both, return_inverse=True)[1].astype("f")  # as float32 could merge neighbours
            model.rarity.knots.assign(ranks[:KNOTS])
            np.testing.assert_allclose(model.rarity(tf.constant(ranks[KNOTS:])), first, atol=3e-2)
        model.rarity.knots.assign(-knots[::-1])  # and the other way round, since both tails count alike
        np.testing.assert_allclose(model.rarity(tf.constant(-kl)), first, atol=1e-4)
    finally:
        model.rarity.knots.assign(knots)


def knowing(values, **options):
    """A model that has seen training events with these KL, (N,) or (K, N)."""
    model = small(**options)
    model.build_for(COLUMNS)
    knots, shares = distribution(values)
    model.rarity.knots.assign(knots)
    model.rarity.shares.assign(shares)
    return model


def test_rarity_of_events_that_are_all_alike_is_none():
    alike, *outside = knowing(np.full(50, 2.0)).rarity(tf.constant([2.0, 1.0, 3.0])).numpy()
    assert alike == 0 and np.isfinite(outside).all() and min(outside) > np.log(50)


def test_a_cut_on_rarity_lets_through_the_share_that_it_says_of_either_tail():
    """Of Gaussian numbers: at 1e-2 and 1e-3, half of what passes is in each tail, and no two in one are equally rare."""
    seen, other = np.random.default_rng(3).normal(size=(2, 100_000)).astype(np.float32)
    rarity = knowing(seen).rarity(tf.constant(other)).numpy()
    for share in (1e-2, 1e-3):
        passed, expected = rarity > -np.log(share), share / 2 * len(other)
        for tail in (other > 0, other < 0):  # both samples are finite
            assert abs((passed & tail).sum() - expected) < 3 * np.sqrt(2 * expected), share
        assert (rarity > np.quantile(rarity, 1 - share)).sum() == pytest.approx(share * len(other), abs=1)
    for tail in (other > 2.8, other < -2.8):
        assert (np.diff(rarity[tail][np.argsort(np.abs(other[tail]))]) > 0).all()


def test_rarity_goes_on_rising_beyond_all_training_events():
    seen = np.random.default_rng(4).exponential(2.0, (2, 20_000)).astype(np.float32)
    far = np.geomspace(25, 1e6, 200).astype(np.float32)
    alone = [knowing(one).rarity(tf.constant(far)).numpy() for one in seen]
    group = knowing(seen, members=2)
    np.testing.assert_array_equal(group.rarity(tf.constant([far, far])), alone)
    below = group.rarity(tf.constant([-far, -far])).numpy()
    assert (np.diff(alone) > 0).all() and (np.diff(below) > 0).all() and np.isfinite([alone, below]).all()
    for one in alone:  # the share beyond x is exp(-x / 2)
        assert one[0] == pytest.approx(25 / 2 - np.log(2), rel=0.2)


def test_a_loaded_run_compares_with_the_training_events_of_its_own(trained, events, tmp_path):
    model, _ = trained()
    run.save_state(model, tmp_path / "state.h5")
    other = small()
    other.build_for(COLUMNS)
    run.load_state(other, tmp_path / "state.h5")
    for kind in model.score_kinds:
        np.testing.assert_array_equal(other.score(events, kind), model.score(events, kind))
    np.testing.assert_array_equal(other.generate([0.1], [3e3]), model.generate([0.1], [3e3]))


def test_adadelta_lowers_the_loss_too(adapted):
    model, batch = adapted(optimizer="adadelta", learning_rate=1.0, alpha=50.0)
    loss, step = [], tf.function(model.train_step, autograph=False)
    for _ in range(40):
        model.reset_metrics()
        loss.append(float(step(batch)["loss"]))
    assert loss[-1] < 0.7 * loss[0]


def test_the_search_space_is_what_a_model_takes():
    from tuning.kerastuner import keras_tuner

    hp = keras_tuner.HyperParameters()
    model = zoo.get("vae", **vae.BumpHuntingVAE.search_space(hp))
    assert set(hp.values) >= {"latent_dim", "alpha", "learning_rate"} and model.hp.alpha >= 1e3


# -- with a flow ---------------------------------------------------------------------------------------------

# of each kind one that is quick: parameters from the encoder; fixed ones and a context
QUICK = ("householder", "iaf")
FLOWS = latent_space.FLOW.choices[1:]
every_flow = pytest.mark.parametrize(
    "flow", [flow if flow in QUICK else pytest.param(flow, marks=pytest.mark.slow) for flow in FLOWS]
)


@pytest.fixture(scope="module")
def few(events):
    """A batch of 64 events, for steps that are not compiled."""
    return Events.from_arrays(events.read("features")[:64], events.mass[:64], COLUMNS, weight=events.weight[:64])


@pytest.fixture(scope="module")
def flowing(few):
    """A plain model with a flow, or a group of two whose second it is, that has met a batch; and the batch."""
    kept = {}

    def give(flow, members=1, randomly=0.0):
        if (flow, members) not in kept:
            latent_dim = 9 if flow == "orthogonal" else 3  # of as many vectors as dimensions the last is the others'
            options = {"num_flows": 2, "latent_dim": latent_dim, "units": (8, 8), "batch_size": len(few), "alpha": 0.5}
            model = kept[flow, members] = small(flow=flow, members=members, seed=3 - members, **options)
            model.adapt(few)
            model.trainer.enter(model.recipe()[0])
        model, rng = kept[flow, members], np.random.default_rng(6)
        for weight in model.latent.trainable_variables if randomly else ():
            weight.assign(rng.normal(scale=randomly / np.sqrt(weight.shape[0]), size=weight.shape))
        return model, next(iter(model.batches(few, model.weighting(few)).shuffled()))

    return give


@every_flow
def test_every_weight_of_a_flow_is_trained_and_a_member_is_the_plain_model(flowing, flow):
    group, batch = flowing(flow, members=2)
    alone, _ = flowing(flow)
    own = {id(weight): weight.numpy() for weight in group.latent.flow.weights}
    assert own and set(own) <= {id(weight) for weight in group.trainable_variables}
    assert set(own) <= {id(weight) for weight in of_step_one(group)}
    assert_same(values(alone.trainable_variables), [value[1] for value in values(group.trainable_variables)])
    for _ in range(2):
        group.train_step(batch)
        alone.train_step(batch)
    for one, other in zip(values(of_step_one(alone)), values(of_step_one(group))):
        np.testing.assert_allclose(other[1], one, rtol=1e-3, atol=1e-4)
    for weight in group.latent.flow.weights:
        moved = weight.numpy() != own[id(weight)]
        masked = flow == "iaf" and "_kernel_of_flow" in weight.name  # what a MADE masks is no parameter
        assert (moved.any((1, 2)) if masked else moved).all(), weight.name


@every_flow
def test_loss_with_a_flow_has_its_log_determinant_and_the_decoder_gets_what_comes_out(flowing, flow, monkeypatch):
    model, batch = flowing(flow, randomly=1.0)
    noise = np.random.default_rng(4).normal(size=(64, model.hp.latent_dim)).astype("f")
    monkeypatch.setattr(latent_space, "normal", lambda shape, seed, use: tf.reshape(tf.constant(noise), shape))
    x, w = batch["features"].numpy(), batch["weight"].numpy()
    encoder = model.encoder
    h = dense(x, [*encoder.kernels[:-1], np.eye(8)], [*encoder.biases[:-1], np.zeros(8)])  # SELU on all but the last
    mean, log_var = np.split(dense(x, encoder.kernels, encoder.biases), 2, axis=1)
    z0 = tf.constant(mean + np.exp(log_var / 2) * noise, tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z0)
        outputs = tf.unstack(model.latent.flow(tf.constant(h, tf.float32), z0)[0], axis=-1)
    jacobian = np.stack([tape.gradient(one, z0) for one in outputs], -2)
    log_det = np.linalg.slogdet(jacobian.astype(float))[1]
    z = np.stack(outputs, -1).astype(float)
    log_q0 = -0.5 * (noise**2 + log_var + np.log(2 * np.pi)).sum(1)
    log_p = -0.5 * (z**2 + np.log(2 * np.pi)).sum(1)
    kl = np.mean(w * (log_q0 - log_det - log_p))
    mse = np.mean(w * ((x - dense(z, model.decoder.kernels, model.decoder.biases)) ** 2).mean(1))
    model.reset_metrics()
    found = model.train_step(batch)
    for term, value in {"loss": 0.5 * mse + kl, "reconstruction": mse, "kl": kl}.items():
        np.testing.assert_allclose(found[term], value, rtol=1e-3, atol=1e-3, err_msg=term)
    assert abs(np.mean(w * log_det)) > 2e-3 * (1 + abs(kl)), (
        "too near the identity to tell anything"
    )  # twice the tolerance


@every_flow
def test_kl_score_with_a_flow_is_the_mean_over_the_posterior(flowing, flow):
    model, batch = flowing(flow, randomly=1.0)
    found = [tensor[:20] for tensor in model.encode(batch["features"])]
    score, gaussian = model.latent.divergence(*found).numpy(), latent_space.gaussian_kl(*found[:2]).numpy()
    drawn = model.latent.draw(*(tf.repeat(tensor, 400, axis=0) for tensor in found), tf.constant(0))[1]
    drawn = drawn.numpy().reshape(20, 400)
    noise = drawn.std(axis=1).mean() / 400**0.5
    assert np.abs(score - drawn.mean(axis=1)).mean() < 0.1 * score.std() + 2 * noise
    assert np.abs(score - gaussian).mean() > 0.05 * gaussian.std(), "the flow does nothing"


def test_kl_score_of_a_flow_that_is_affine_is_exact():
    rng = np.random.default_rng(0)
    mean, log_var, h = (tf.constant(rng.normal(size=(50, width)), tf.float32) for width in (3, 3, 5))
    latent = latent_space.Latent(3, "planar", 2)
    latent.build((None, 5))
    for weight in latent.weights:
        weight.assign(tf.zeros_like(weight))  # u = 0: the identity
    np.testing.assert_array_equal(latent.forward(h, mean)[0], mean)
    expected = latent_space.gaussian_kl(mean, log_var)
    np.testing.assert_allclose(latent.divergence(mean, log_var, h), expected, rtol=1e-5, atol=1e-5)
    latent = latent_space.Latent(3, "iaf", 1, width=6)
    latent.build((None, 5))
    for weight in latent.weights:
        weight.assign(tf.zeros_like(weight))
    shift, raw = rng.normal(size=(2, 3))
    latent.flow.biases[0][-1].assign(np.concatenate([shift, raw]))
    sigma = 1e-3 + (1 - 1e-3) * np.log1p(np.exp(raw + np.log(np.e - 1)))
    moved = tf.constant(shift + sigma * mean, tf.float32), tf.constant(log_var + 2 * np.log(sigma), tf.float32)
    expected = latent_space.gaussian_kl(*moved)
    np.testing.assert_allclose(latent.divergence(mean, log_var, h), expected, rtol=1e-4, atol=1e-4)
    assert np.abs(expected - latent_space.gaussian_kl(mean, log_var)).max() > 0.1


def test_without_a_flow_the_latent_space_is_a_gaussian_to_the_bit():
    rng = np.random.default_rng(0)
    mean, log_var = (tf.constant(rng.normal(size=(50, 3)), tf.float32) for _ in range(2))
    latent = latent_space.Latent(3)
    latent.build((None, 5))
    z, kl = latent.draw(mean, log_var, None, tf.constant(3))
    noise = latent_space.normal((50, 3), tf.constant(3), use=0)
    np.testing.assert_array_equal(z, mean + tf.exp(log_var / 2.0) * noise)
    np.testing.assert_array_equal(kl, 0.5 * tf.reduce_sum(tf.square(mean) + tf.exp(log_var) - 1.0 - log_var, -1))
    np.testing.assert_array_equal(latent.divergence(mean, log_var, None), kl)
    assert latent.weights == [] and latent.forward(None, mean)[0] is mean


@pytest.mark.slow  # in the quick tests every flow is compiled by itself
def test_a_step_with_a_flow_compiled_by_xla_is_that_without(flowing):
    model, batch = flowing("iaf")
    traces, after = [], []

    def step(batch):
        traces.append(1)
        return model.train_step(batch)

    for run_step in (step, tf.function(step, jit_compile=True, autograph=False)):
        model.reset()
        for _ in range(2):
            run_step(batch)
        after.append(values(of_step_one(model)))
    assert len(traces) == 2 + 1  # of the steps that are not compiled, and of the one that is
    for one, other in zip(*after):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def flowing_run(events, tmp_path_factory):
    """A run of one latent dimension and a flow: the model, what is loaded of it, traces, weights as each step begins."""
    out, traces, fixed, step = tmp_path_factory.mktemp("flow") / "run", [], [], vae.BumpHuntingVAE.train_step
    model = small(flow="householder", num_flows=1, units=(8, 8), epochs=2, decoder_epochs=1)

    def begin(phase):
        fixed.append(values(of_step_one(model)))
        vae.BumpHuntingVAE.on_phase_begin(model, phase)

    def counted(self, batch):
        traces.append(1)
        return step(self, batch)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(vae.BumpHuntingVAE, "train_step", tf.autograph.experimental.do_not_convert(counted))
        patched.setattr(pipelines.plots, "plot_history", lambda rows, path: None)
        model.on_phase_begin = begin
        run.train(model, events, out, **QUIET)
        yield model, zoo.load(out), traces, fixed


def test_encoder_and_flow_are_frozen_in_step_two(flowing_run):
    model, _, _, fixed = flowing_run
    assert list(model.histories) == ["vae", "decoder"]
    assert_same(values(of_step_one(model)), fixed[1])
    flow = next(place for place, weight in enumerate(of_step_one(model)) if weight is model.latent.flow.weights[0])
    assert np.abs(fixed[0][flow] - fixed[1][flow]).max() > 0
    assert all(np.isfinite(list(rows.history.values())).all() for rows in model.histories.values())


def test_a_model_with_a_flow_is_loaded_and_exported_with_the_same_scores(flowing_run, events, tmp_path):
    model, loaded, *_ = flowing_run
    assert loaded.get_config()["flow"] == "householder"
    for kind in model.score_kinds:
        np.testing.assert_array_equal(loaded.score(events, kind), model.score(events, kind), err_msg=kind)
    some = events.read("features")[10:13]
    np.testing.assert_allclose(loaded.score(some), model.score(events)[10:13], rtol=1e-4)  # whatever is beside them
    loaded.export(tmp_path / "served")
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    found = served(features=tf.constant(events.read("features")))
    for kind in model.score_kinds:
        np.testing.assert_allclose(found[kind], model.score(events, kind), rtol=1e-4, atol=1e-5, err_msg=kind)


def test_what_is_generated_scanned_and_regenerated_takes_what_comes_out_of_the_flow(flowing_run, events):
    model = flowing_run[1]
    latent, mean, log_var = model.results(events, ["latent", "latent_mean", "latent_log_var"]).values()
    h = model.encoder.hidden(model.scaler(events.read("features")))
    zk, log_det = model.latent.forward(h, tf.constant(mean))
    np.testing.assert_allclose(latent, zk, rtol=1e-4, atol=1e-5)
    assert np.abs(latent - mean).max() > 1e-3
    np.testing.assert_allclose(model.score(events, "mean2"), latent[:, 0] ** 2, rtol=1e-4, atol=1e-6)
    volume = log_var[:, 0] + 2 * log_det
    np.testing.assert_allclose(model.score(events, "log_var"), volume, rtol=1e-4, atol=1e-4)
    scan = model.scan(events, points=(3, 2))
    np.testing.assert_allclose(scan["z"][[0, -1]], np.quantile(latent, [0.001, 0.999]), rtol=1e-4)
    made = model.regenerate(events)
    noise = np.random.default_rng(1).standard_normal(mean.shape, dtype=np.float32)
    drawn = model.latent.forward(h, tf.constant(mean + np.exp(log_var / 2) * noise))[0]
    np.testing.assert_allclose(made, model.generate(drawn, events.mass), rtol=1e-3, atol=1e-3)


def test_a_run_with_a_flow_that_was_interrupted_ends_as_the_one_that_was_not(flowing_run, events, tmp_path):
    model, _, traces, _ = flowing_run
    scores, before = {kind: model.score(events, kind) for kind in model.score_kinds}, len(traces)
    save = run.Checkpoint.on_epoch_end

    def stop(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    model.reset()
    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(run.Checkpoint, "on_epoch_end", stop)
        run.train(model, events, tmp_path / "again", **QUIET)
    model.reset()
    run.train(model, events, tmp_path / "again", resume=True, **QUIET)
    for kind, score in scores.items():
        np.testing.assert_array_equal(model.score(events, kind), score, err_msg=kind)
    assert len(traces) == before  # starting over traces nothing anew


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"flow": "radial"}, "flow='radial'.*'planar', .*'convolutional'"),
        ({"flow": True}, "flow=True"),
        ({"flow": "iaf", "num_flows": 0}, "num_flows=0.*>= 1"),
        ({"flow": "iaf", "num_flows": 1.5}, "num_flows=1.5.*whole number"),
    ],
)
def test_a_flow_that_cannot_be_is_refused_by_name(wrong, words):
    with pytest.raises(InputError, match=words):
        zoo.get("vae", **wrong)


def test_names_of_flows_are_those_that_there_are():
    from zoo.layers.flows import FLOWS

    assert latent_space.FLOW.choices == (None, *FLOWS)


def test_flows_are_searched_and_their_number_only_with_a_flow():
    from tuning.kerastuner import keras_tuner

    hp = keras_tuner.HyperParameters()
    space = vae.BumpHuntingVAE.search_space(hp)
    assert "num_flows" not in space and zoo.get("vae", **space).hp.flow is None
    hp = keras_tuner.HyperParameters()
    hp.values["flow"] = "planar"
    space = vae.BumpHuntingVAE.search_space(hp)
    assert space["flow"] == "planar" and space["num_flows"] in (2, 6)
    assert [c.name for one in hp.space if one.name == "num_flows" for c in one.conditions] == ["flow"]
