"""GAN-AE does what its paper says."""

import types

import numpy as np
import pytest
import tensorflow as tf

import zoo
from pipelines import Events, InputError
from zoo.keras import keras
from zoo.losses import distance_correlation
from zoo.models.gan_ae import COLUMNS

BATCH = 128
NETWORKS = ("autoencoder", "discriminator")


def small(**more):
    options = {"ae_units": 16, "d_units": (16, 8), "latent_dim": 4, "batch_size": BATCH, "seed": 1} | more
    return zoo.get("gan_ae", **options)


@pytest.fixture
def adapted(train_events):
    def give(**more):
        model = small(**more)
        model.adapt(train_events)
        batch = next(iter(model.batches(train_events, model.weighting(train_events)).shuffled()))
        return model, batch

    return give


def values(variables):
    return [v.numpy() for v in variables]


def changed(before, after):
    return any(np.abs(a - b).max() > 0 for a, b in zip(before, after))


def test_preset_start_is_table_2_and_lhco2020_the_optimised_set():
    start, tuned = (zoo.get("gan_ae", preset=p).get_config() for p in ("start", "lhco2020"))
    table_2 = {"latent_dim": 14, "ae_units": 84, "d_units": (150, 100, 50), "epsilon": 5.0, "alpha": 50.0}
    table_2 |= {"dropout_rate": 0.2, "cycles": 100, "ae_epochs": 5, "d_epochs": 7}
    assert {k: start[k] for k in table_2} == table_2 and start["pretraining_epochs"] > 0
    table_2 |= {"d_units": (300, 200, 100, 50), "epsilon": 6.0, "alpha": 65.0}
    assert {k: tuned[k] for k in table_2} == table_2


def test_inputs_are_the_42_variables_without_mjj_phi_and_constituent_counts():
    assert len(set(COLUMNS)) == 42
    assert not {"mj1j2", "phi_1", "phi_2", "nc_1", "nc_2"} & set(COLUMNS)


def test_reconstruction_is_the_tied_network_written_out(adapted, test_events):
    model, _ = adapted()
    encoder, decoder = model.autoencoder.encoder, model.autoencoder.decoder
    biases = [*encoder.biases, *decoder.biases]
    for bias in biases:
        bias.assign(np.random.default_rng(0).normal(size=bias.shape))
    (w1, w2), (b1, b2, b3, b4) = values(encoder.kernels), values(biases)
    features = test_events.read("features", COLUMNS)[:50]
    x = model.scaler(features).numpy()

    def leaky(h):
        return np.where(h > 0, h, 0.3 * h)

    z = leaky(x @ w1 + b1) @ w2 + b2
    y = leaky(z @ w2.T + b3) @ w1.T + b4
    found = model.infer(tf.constant(features))
    np.testing.assert_allclose(found["latent"], z, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["distance"], np.sqrt(((x - y) ** 2).mean(1)), rtol=1e-4)
    np.testing.assert_allclose(model.scaler(found["reconstructed"]), y, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kernel", [0, 1])
def test_gradient_of_a_tied_kernel_reaches_both_of_its_uses(adapted, kernel):
    model, batch = adapted()
    ae, x, slope = model.autoencoder, batch["features"], 0.3
    kernels, biases = ae.encoder.kernels, ae.decoder.biases
    copies = [tf.identity(k) for k in kernels]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(copies)
        tied = tf.reduce_sum(ae(x) ** 2)
        z = ae.encoder(x)
        h = tf.maximum(g := z @ tf.transpose(copies[1]) + biases[0], slope * g)
        decoder_only = tf.reduce_sum((h @ tf.transpose(copies[0]) + biases[1]) ** 2)
    both = tape.gradient(tied, kernels[kernel])
    encoder, decoder = tape.gradient(decoder_only, kernels[kernel]), tape.gradient(decoder_only, copies[kernel])
    assert np.abs(encoder).max() > 0 and np.abs(decoder).max() > 0
    np.testing.assert_allclose(both, encoder + decoder, rtol=1e-3, atol=1e-3)


def test_frozen_decoder_keeps_the_initial_kernels_and_trains_its_biases(train_events):
    model = small(decoder="frozen", cycles=1, d_epochs=1, ae_epochs=1)
    model.adapt(train_events)
    encoder, decoder = model.autoencoder.encoder, model.autoencoder.decoder
    initial = values(encoder.kernels)
    model.fit(train_events, verbose=0, jit_compile=False)
    for frozen, kernel, before in zip(decoder.initial_kernels, encoder.kernels, initial):
        np.testing.assert_array_equal(frozen, before)
        assert np.abs(kernel - before).max() > 1e-3
    assert all(np.abs(bias).max() > 0 for bias in [*encoder.biases, *decoder.biases])


def test_loss_is_equation_5(adapted):
    model, batch = adapted(epsilon=3.0, alpha=7.0, dropout_rate=0.0)
    terms = model.losses(batch, model.seeds, training=False)
    x, reconstruction = batch["features"].numpy(), model.autoencoder(batch["features"])
    probability = tf.sigmoid(model.discriminate(reconstruction)).numpy()
    distance = np.sqrt(((x - reconstruction.numpy()) ** 2).mean(1))
    disco = float(distance_correlation(batch["mass"], tf.constant(distance)))
    expected = np.mean(batch["weight"] * (-np.log(probability) + 3.0 * distance)) + 7.0 * disco
    np.testing.assert_allclose(terms["loss"], expected, rtol=1e-4)


def test_weights_flatten_the_mass_spectrum_and_do_not_enter_disco(adapted, train_events):
    model, batch = adapted()
    weights = model.weighting(train_events)(train_events.mass)
    assert abs(weights.mean() - 1) < 1e-5 and weights.std() > 0.5
    flat = adapted(flat_mass=False)[1]
    np.testing.assert_array_equal(flat["weight"], np.ones(BATCH))
    doubled = batch | {"weight": 2 * batch["weight"]}
    terms, twice = (model.losses(one, model.seeds, training=False) for one in (batch, doubled))
    assert float(twice["disco"]) == float(terms["disco"])
    penalty = model.hp.alpha * float(terms["disco"])
    np.testing.assert_allclose(float(twice["loss"]) - penalty, 2 * (float(terms["loss"]) - penalty), rtol=1e-4)


def test_turns_alternate_and_each_trains_its_own_network(adapted, train_events):
    model, batch = adapted(d_epochs=2, ae_epochs=1, pretraining_epochs=0, cycles=1)
    turns = []

    class Watched(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            for _ in range(4):  # with one step in a pass
                before = {n: values(getattr(model, n).trainable_variables) for n in NETWORKS}
                model.train_step(batch)
                turns.append(
                    [n for n, w in before.items() if changed(w, values(getattr(model, n).trainable_variables))]
                )
            self.model.stop_training = True

    model.fit(train_events.take(np.arange(BATCH)), callbacks=[Watched()], verbose=0, jit_compile=False)
    assert turns == [["discriminator"], ["discriminator"], ["autoencoder"], ["discriminator"]]


@pytest.fixture(scope="module")
def trained(train_events):
    """A model trained in all phases: which networks each changed, and its histories. Tests train it anew, traced as it is."""
    model = small(cycles=3, d_epochs=1, ae_epochs=1, pretraining_epochs=2, d_pretraining_epochs=2)
    model.adapt(train_events)
    weights, seen = {n: values(getattr(model, n).trainable_variables) for n in NETWORKS}, {}

    def ended(phase, events):
        after = {n: values(getattr(model, n).trainable_variables) for n in NETWORKS}
        seen[phase.name] = {n for n in NETWORKS if changed(weights[n], after[n])}
        weights.update(after)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(model), "on_phase_end", lambda model, phase, events: ended(phase, events))
        model.fit(train_events, verbose=0, jit_compile=False)
    histories = {name: history.history for name, history in model.histories.items()}
    return types.SimpleNamespace(model=model, seen=seen, histories=histories)


def test_pretraining_leaves_the_discriminator_alone_and_the_other_way_round(trained):
    changes = {"pretraining": {"autoencoder"}, "discriminator": {"discriminator"}, "cycles": set(NETWORKS)}
    assert trained.seen == changes


def test_history_has_every_term_per_cycle(trained):
    history = trained.histories["cycles"]
    terms = {"loss", "distance", "adversarial", "disco", "discriminator_loss", "discriminator_accuracy"}
    assert set(history) == terms and all(len(v) == 3 and np.isfinite(v).all() for v in history.values())


def test_earlier_phases_record_only_what_they_measure(trained):
    assert set(trained.histories["pretraining"]) == {"distance"}
    assert set(trained.histories["discriminator"]) == {"discriminator_loss", "discriminator_accuracy"}


def test_alpha_decorrelates_the_score_from_the_mass_and_disco_is_recorded_without_it(trained, train_events):
    found, model = [], trained.model
    for alpha in (0.0, 200.0):
        model.reset(alpha=alpha, ae_epochs=5, learning_rate=2e-3)
        history = model.fit(train_events, epochs=5, verbose=0, jit_compile=False).history
        assert history["disco"][0] > 0
        score = model.score(train_events)
        found.append(float(distance_correlation(tf.constant(train_events.mass), tf.constant(score))))
    assert found[1] < 0.5 * found[0]


def test_mass_is_no_input_and_a_pattern_never_means_it(train_events):
    events = _with_mass_column(train_events)
    with pytest.raises(InputError, match="mj1j2"):
        small(columns=["pt_1", "mj1j2"]).fit(events, verbose=0)
    model = small(columns=["*"])
    model.adapt(events)
    assert "mj1j2" in events.columns and set(model.resolved_columns) == set(events.columns) - {"mj1j2"}


def _with_mass_column(events):
    return Events.from_arrays(events.read("features"), events.mass, events.columns, mass_column="mj1j2")


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": -1.0},
        {"alpha": "much"},
        {"dropout_rate": 1.0},
        {"latent_dim": 0},
        {"batch_size": 1.5},
        {"d_units": ()},
        {"d_units": (10, 0)},
        {"learning_rate": 0.0},
        {"decoder": "loose"},
        {"scaling": "magic"},
        {"flat_mass": "perhaps"},
        {"seed": -1},
        {"columns": ()},
    ],
)
def test_hyperparameter_out_of_range_is_named_with_what_was_expected(wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=f"{name}=.*expected"):
        zoo.get("gan_ae", **wrong)
