"""Networks inside larger ones train as they would alone."""

import dataclasses
import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

import zoo
from tuning.batch_cache import BatchCache
from tuning.engine import Apart
from tuning.listener import SearchListener
from tuning.programs import Programs, program_of, sizes
from tuning.space import Space
from tuning.space_points import sample
from tuning.trial import Job
from zoo import padded_networks
from zoo.keras import keras
from zoo.keras.released_gradients import forget_gradients, traced_gradients
from zoo.layers.dense import product, selu
from zoo.padded_networks import Larger

OTHER = {"vae": {"optimizer": "adam"}}  # what was trained before
QUIET = {"verbose": 0, "jit_compile": False, "finish": False}

AE = {"columns": ("pt_*", "mass_*", "tau*"), "kernel_regularisation": 0.01, "activity_regularisation": 0.02}
CASES = [
    # a flow whose parameters every event has; a layer and two flows that are passed by; one optimizer of two
    ("vae", {"flow": "planar", "latent_dim": 2, "members": 2}, {"units": (12, 12, 8), "num_flows": 3},
     {"units": (6, 4), "num_flows": 1}),
    # flows that are costly, of one dimension and of two
    ("vae", {"flow": "iaf", "latent_dim": 1}, {"units": (9, 9), "num_flows": 3}, {"units": (9, 6), "num_flows": 2}),
    ("vae", {"flow": "iaf", "latent_dim": 2}, {"units": (9, 9), "num_flows": 3}, {"units": (6, 4), "num_flows": 1}),
    # dropout, whose masks depend on the width, and tied weights; the discriminator passes a layer by
    ("gan_ae", {"cycles": 1, "d_epochs": 1, "ae_epochs": 1, "pretraining_epochs": 0},
     {"ae_units": 16, "latent_dim": 5, "d_units": (8, 6, 6)}, {"ae_units": 9, "latent_dim": 3, "d_units": (5, 4)}),
    ("deep_svdd", {"columns": ("pt_*", "mass_*", "tau*")}, {"units": (12, 8)}, {"units": (7, 3)}),
    # four layers are passed by; all activations; penalties of some layers, by the other norm
    ("ae", {**AE, "members": 2, "negative_slope": 0.1},
     {"encoder_units": (13, 12, 11, 10), "decoder_units": (11, 12, 13)},
     {"encoder_units": (8, 3), "decoder_units": (10,), "activations": ("tanh", "relu", "linear", "leaky_relu"),
      "kernel_norm": "l1", "regularised": "alternate"}),
    # one hidden layer
    ("ae", AE, {"encoder_units": (13, 12), "activations": ("tanh",) * 4}, {"encoder_units": (11,), "activations": ("relu", "tanh")}),
]  # fmt: skip
# with the corners alone, or beside zeros as XLA wants it
WHICH = dict.fromkeys((3, 4, 5, 6), (True, False))
KINDS = [
    pytest.param(*case, cuts, id=f"{case[0]}-{place}-{'cut' if cuts else 'beside zeros'}")
    for place, case in enumerate(CASES)
    for cuts in WHICH.get(place, (True,))
]


def built(name, events, **hyperparameters):
    model = zoo.get(name, batch_size=200, **hyperparameters)
    model.adapt(events)
    return model


@pytest.mark.parametrize("name, common, large, small, cuts", KINDS)
def test_a_network_in_a_larger_one_trains_as_it_would_alone(name, common, large, small, cuts, train_events):
    events = train_events.sample(600).in_memory()
    alone, held = (built(name, events, **common, **small) for _ in range(2))
    switched = {"optimizer": ["adadelta", "adam"]} if name == "vae" else {}
    holder = Larger(built(name, events, **common, **large), switched, cuts)
    assert holder.fits(held)
    # what another network leaves behind does not matter
    holder.hold(built(name, events, **{**common, **large, **OTHER.get(name, {}), "seed": 3}))
    holder.model.fit(events, epochs=1, **QUIET)
    holder.hold(held)
    for model in (holder.model, alone):
        model.fit(events, events.sample(200), epochs=2, **QUIET)
    phase = alone.recipe()[alone.main_phase].name
    for term, values in alone.histories[phase].history.items():
        np.testing.assert_allclose(holder.model.histories[phase].history[term], values, rtol=1e-3, err_msg=term)
    holder.give(held)
    theirs, mine = held.state(), alone.state()
    assert list(theirs) == list(mine)
    for key, value in mine.items():
        scale = 1e-3 + np.abs(value.numpy()).max(initial=0)
        np.testing.assert_allclose(theirs[key].numpy() / scale, value.numpy() / scale, atol=2e-3, err_msg=key)
    np.testing.assert_allclose(held.score(events), holder.model.score(events), rtol=1e-4)


def test_what_does_not_fit_is_told(train_events):
    events = train_events.sample(300)
    holder = Larger(built("deep_svdd", events, columns=("pt_*", "mass_*"), units=(8, 4)))
    for units in ((9, 4), (8, 5), (4, 4, 4), (8,)):
        fits = units == (8,)
        assert holder.fits(built("deep_svdd", events, columns=("pt_*", "mass_*"), units=units)) is False or fits
    assert not holder.fits(built("deep_svdd", events, columns=("pt_*", "mass_*"), units=(4, 4), latent_dim=30))


def test_the_room_holds_every_point_of_the_space():
    points = [{"units": (64, 32, 16)}, {"units": (48,)}, {"units": (16, 128)}, {"units": None}]
    room = padded_networks.room(["units", "other"], points)
    assert room == {"units": (64, 128, 128)}
    from zoo.layers.dense import MLP

    for point in points[:-1]:
        for order in (1, -1):
            network, one = (MLP([*widths[::order], 2]) for widths in (room["units"], point["units"]))
            assert network.places(one) is not None


def test_sizes_scalings_and_batch_sizes_of_the_default_space_share_programs():
    space = Space("vae")
    points = [space.draw(sample(space.hyperparameters(), seed)) for seed in range(300)]
    room = sizes("vae", points)
    assert room == {"units": (128, 128, 128), "num_flows": 6, "optimizer": ["adadelta", "adam"]}
    assert len({program_of("vae", point, {}, True) for point in points}) > 200
    assert len({program_of("vae", point, room, False) for point in points}) == 14  # 7 flows, 2 latent sizes


def test_the_space_of_ae_is_one_program():
    space = Space("ae")
    points = [space.draw(sample(space.hyperparameters(), seed)) for seed in range(200)]
    columns = [f"x{i}" for i in range(32)]
    room = sizes("ae", points)
    assert len({program_of("ae", point, room, False) for point in points}) == 1
    assert len({program_of("ae", point, room, True) for point in points}) == 2  # batch sizes
    models = [zoo.get("ae", **point) for point in [{**points[0], **room}, *points[:40]]]
    for model in models:
        model.build_for(columns)
    holder = Larger(models[0])
    assert all(holder.fits(model) for model in models[1:])
    impossible = {**points[0], "encoder_units": (4, 8)}  # that trial fails, and no other
    assert sizes("ae", [*points, impossible]) == room and sizes("ae", [impossible]) == {}


@pytest.mark.parametrize(
    "name, number, draws", [("gan_ae", 4, 100), pytest.param("conv_vae", 48, 600, marks=pytest.mark.slow)]
)
def test_the_documentation_counts_the_programs_of_a_space(name, number, draws):
    space = Space(name)
    points = [space.draw(sample(space.hyperparameters(), seed)) for seed in range(draws)]
    room = sizes(name, points)
    assert len({program_of(name, point, room, True) for point in points}) == number


def test_disco_has_a_program_for_each_batch_size():
    points = [{"batch_size": size, "scaling": scaling} for size in (1024, 2048) for scaling in ("minmax", "quantile")]
    assert len({program_of("gan_ae", point, {}, False) for point in points}) == 2


def test_a_formula_of_scaling_that_a_step_knows_has_a_program_of_its_own():
    points = [{"scaling": scaling} for scaling in ("minmax", "standard", "quantile")]
    assert len({program_of("cathode", point, {}, False) for point in points}) == 2


@pytest.mark.parametrize("kept", ["larger", "plain"])
def test_trials_of_other_scalings_share_a_program_and_do_what_they_would_alone(kept, train_events):
    events = train_events.sample(600).in_memory()
    points = [
        {"scaling": scaling, "learning_rate": 1e-3}
        for scaling in ("minmax", "quantile", "standard", "minmax", "quantile")
    ]
    small = {"columns": ("pt_*", "mass_*", "tau*"), "units": (7, 3)}
    room = {"units": (8, 4)} if kept == "larger" else {}
    shared = Programs("deep_svdd", room, False, lambda model: model.adapt(events), BatchCache(events))
    found = set()
    for point in points:
        hyperparameters = {**small, "batch_size": 200, **point}
        trainee = shared.model(hyperparameters, len(events), 1)
        found.add(trainee.key)
        trainee.trained.fit(events, epochs=1, **QUIET)
        if trainee.larger is not None:
            trainee.larger.give(trainee.own)
        alone = built("deep_svdd", events, **small, **point)
        alone.fit(events, epochs=1, **QUIET)
        for name, variable in alone.state().items():
            np.testing.assert_allclose(trainee.own.state()[name], variable, rtol=1e-4, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(trainee.trained.score(events), alone.score(events), rtol=1e-3)
    assert len(found) == 1


def traced():
    """Trace a gradient of a function inside a function, with gradients of its own; return a weak reference to its graph."""
    step = tf.function(product, autograph=False)

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = step(selu(x), x)
        return tape.gradient(y, x)

    return weakref.ref(tf.function(gradient, autograph=False).get_concrete_function(tf.ones((3, 3))).graph)


def test_a_graph_is_let_go_of_with_the_gradients_that_were_registered_for_it():
    known = traced_gradients()
    graph = traced()
    gc.collect()
    assert graph() is not None  # TensorFlow keeps it
    forget_gradients(traced_gradients() - known)
    gc.collect()
    assert graph() is None and traced_gradients() == known


def test_a_model_of_spectra_has_no_larger_network():
    assert sizes("ddp", [{}]) == {}


def test_a_listener_that_traces_keeps_its_gradients():
    class Traces(SearchListener):
        def told(self, text):
            self.step = tf.function(lambda x: selu(x) * selu(2.0 * x), autograph=False)
            self.step(tf.ones(3))

    known, listener = traced_gradients(), Traces()
    Apart(listener).told("")
    assert traced_gradients() == known  # no program has them
    forget_gradients(traced_gradients() - known)
    x = tf.ones(3)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = listener.step(x)
    assert np.isfinite(tape.gradient(y, x)).all()


def test_a_model_that_was_built_before_starts_anew(train_events):
    events = train_events.sample(300)
    point = {"units": (6, 4), "latent_dim": 1, "alpha": 3.0, "batch_size": 100, "decoder_epochs": 0}
    cache = BatchCache(events, events, static=False)
    found = Programs("vae", {"units": (8, 8, 4)}, False, lambda model: model.adapt(events), cache)
    first = found.model(point).own
    start = {name: variable.numpy() for name, variable in first.state().items()}
    for variable in first.state().values():
        variable.assign(tf.ones_like(variable))
    again = found.model({**point, "alpha": 5.0}).own
    assert again is first and again.hp.alpha == 5.0
    trained = [name for name in start if name.startswith(("trainable/", "optimizer", "best_", "direction/"))]
    for name in trained:
        np.testing.assert_array_equal(again.state()[name].numpy(), start[name], err_msg=name)
    assert any(name.startswith("direction/") for name in trained) and again.score_kinds[0] == "kl"  # not known yet
    assert int(again.trainer.clock) == 0
    assert found.model({**point, "units": (8, 4)}).own is not first
    found.forget(0)


def test_batches_that_are_shared_keep_their_scaling(train_events):
    events = train_events.sample(600).in_memory()
    cache = BatchCache(events)
    first, other = (
        built("deep_svdd", events, columns=("pt_*", "mass_*"), scaling=how) for how in ("minmax", "standard")
    )
    cache.serve(first)
    batches = first.trainer.batches(events, None, memory=0, cache="")  # read and scaled anew at every pass
    before = next(iter(batches.shuffled()))["features"].numpy()
    first.scale_as(other)  # as for another trial
    again = next(iter(first.trainer.batches(events, None, memory=0, cache="").shuffled()))["features"].numpy()
    cached = next(iter(batches.shuffled(1)))["features"].numpy()
    assert before.min() >= 0.0 and cached.min() >= 0.0 and again.min() < 0.0


def test_a_training_that_fails_leaves_no_validation_events_behind(train_events):
    events = train_events.sample(600).in_memory()
    once, later = events.take(range(200)), events.take(range(200, 400))

    class Failing(keras.callbacks.Callback):
        def on_test_end(self, logs=None):
            raise RuntimeError("as a full disk would")

    failed, alone = (built("deep_svdd", events, columns=("pt_*", "mass_*")) for _ in range(2))
    with pytest.raises(RuntimeError, match="full disk"):
        failed.fit(events, once, epochs=1, callbacks=[Failing()], **QUIET)
    failed.reset()
    found = [model.fit(events, later, epochs=1, **QUIET).history["val_loss"] for model in (failed, alone)]
    assert found[0] == found[1]


def test_a_subclass_with_losses_of_its_own_shares_no_program_of_its_parents_word():
    vae = zoo.registry.model_class("vae")
    assert not vae.step_knows_scaling and not type("Same", (vae,), {}).step_knows_scaling
    assert type("Other", (vae,), {"losses": vae.losses}).step_knows_scaling


def test_batches_of_other_side_bands_are_others(train_events):
    events = train_events.in_memory()
    cache, found = BatchCache(events), []
    for width in (200, 900):
        model = zoo.get("anode", window=(3300, 3700), sidebands=width, batch_size=20, columns=("tau21_*",))
        model.scaler.build((None, 2))
        model.inputs = dataclasses.replace(model.inputs, columns=("tau21_1", "tau21_2"))
        cache.serve(model)
        found.append(model.trainer.batches(events, None).steps)
    assert found[0] < found[1]


@pytest.mark.parametrize(
    "model, events, compiled",
    [("vae", 20_000, False), ("gan_ae", 100, True), ("gcn_vae", 9999, False), ("gcn_vae", 10_000, True)],
)
def test_trials_are_compiled_where_it_pays(model, events, compiled, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert Job("", model, "reconstruction", None, "", range(events), ()).xla is compiled
    assert Job("", model, "reconstruction", not compiled, "", range(events), ()).xla is not compiled
