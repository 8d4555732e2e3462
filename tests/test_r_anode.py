"""R-ANODE: the likelihood of signal and background against a closed form, and what of it is learnt, fixed and found."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp
from scipy.stats import norm

import zoo
from pipelines import Events, InputError
from pipelines.metrics import auc
from zoo.layers.random import fold_of
from zoo.models.r_anode import MASS_BINS
from zoo.windows import Regions

WINDOW = (3300, 3700)
SMALL = {
    "window": WINDOW, "columns": ("*",), "batch_size": 256, "folds": 2, "flow": "affine", "num_flows": 2, "flow_width": 16, "signal_flow": "affine",
    "signal_num_flows": 1, "signal_flow_width": 8, "learning_rate": 0.01, "density_learning_rate": 0.01, "epochs": 8, "density_epochs": 8,
}  # fmt: skip
QUIET = {"verbose": 0, "jit_compile": False}
TRUE_SHARE = 0.1


def toy(size=6000, share=TRUE_SHARE, seed=0):
    """Two correlated features whose means move with the mass; in the window a share of signal at one place, near one mass."""
    rng = np.random.default_rng(seed)
    mass = rng.uniform(2800, 4200, size)
    x = rng.normal(size=(size, 2)) @ [[1.0, 0.6], [0.0, 0.8]]
    x[:, 0] += 0.5 * (mass - 3500) / 200
    inside = Regions(*WINDOW).inside(mass)
    signal = inside & (rng.random(size) < share)
    x[signal] = 0.3 * rng.normal(size=(signal.sum(), 2)) + [0.0, 3.0]
    mass[signal] = rng.normal(3500, 40, signal.sum()).clip(WINDOW[0], WINDOW[1] - 1)
    return Events.from_arrays(x, mass, ["a", "b"], label=signal.astype("int8"), mass_column="m")


def in_window(events):
    return events.take(Regions(*WINDOW).inside(events.mass))


def batch_of(events, weight=None):
    x, mass = tf.constant(events.read("features")), tf.constant(events.mass)
    return {"features": x, "mass": mass, "weight": tf.ones(len(events)) if weight is None else tf.constant(weight)}


@pytest.fixture(scope="module")
def trained():
    """A model after both phases, and the background's weights before the second."""
    model, before = zoo.get("r_anode", **SMALL, seed=1), []
    ended = model.on_phase_end

    def noted(phase, data):
        ended(phase, data)
        if phase.name == "density":
            before.extend(weight.numpy() for weight in model.flow.trainable_weights)

    model.on_phase_end = noted
    model.fit(toy(), **QUIET)
    return model, before


# -- the likelihood -----------------------------------------------------------------------------------


def test_likelihood_of_two_gaussians_is_their_closed_form():
    model = zoo.get("r_anode", **SMALL | {"num_flows": 1}, signal_fraction=0.2, learn_fraction=False)
    events = toy(400, seed=3)
    model.adapt(toy())
    model.masses.assign(np.linspace(*WINDOW, 101))
    centres = [np.array([0.5, -1.0]), np.array([-0.3, 0.2]), np.array([1.5, 0.0])]
    for flow, centre in zip([*model.inside, model.flow], centres):  # each becomes z = v - centre
        for weight in flow.trainable_weights:
            weight.assign(tf.zeros_like(weight))
        flow.biases[0][-1].assign([*-centre, 0.0, 0.0])
    shares = np.random.default_rng(0).normal(size=(2, MASS_BINS)).astype("float32") / 10
    model.mass_shares.assign(shares)
    weight = np.random.default_rng(1).uniform(0.5, 1.5, 400).astype("float32")
    batch = batch_of(events, weight)
    v = model.scaled(batch["features"]).numpy().astype(float)
    signal = [norm.logpdf(v, centre).sum(-1) for centre in centres[:2]]
    background = norm.logpdf(v, centres[2]).sum(-1)
    bins = np.clip((events.mass - 3300) // (400 / MASS_BINS), 0, MASS_BINS - 1).astype(int)
    shares = 10.0 * shares
    mass = (shares - logsumexp(shares, axis=1, keepdims=True) + np.log(MASS_BINS))[:, bins]
    expected = np.logaddexp(np.log(0.2) + signal + mass, np.log(0.8) + background)
    np.testing.assert_allclose(model.log_prob_of_data(batch["features"], batch["mass"]), expected, rtol=1e-4, atol=1e-4)
    inside, own = Regions(*WINDOW).inside(events.mass), fold_of(batch["features"], 2).numpy() == np.arange(2)[:, None]
    losses = model.losses(batch, None, True)
    for name, which in (("loss", ~own), ("held_out", own)):
        share = np.where(inside, weight, 0) * which
        assert float(losses[name]) == pytest.approx(-(share * expected).sum() / share.sum(), rel=1e-4)
    assert float(losses["fraction"]) == pytest.approx(0.2)
    ratio = np.where(own, np.array(signal) - background, 0).sum(0)
    np.testing.assert_allclose(model.score(events), ratio, rtol=1e-4, atol=1e-4)


def test_density_of_masses_of_the_signal_has_area_one_where_background_is_flat(trained):
    model, _ = trained
    mass = np.sort(in_window(toy(200_000, share=0.0, seed=5)).mass)
    edges = model.masses.numpy()[:: 100 // MASS_BINS]
    ratio = np.exp(model.log_mass_ratio(tf.constant((edges[1:] + edges[:-1]) / 2)).numpy())
    np.testing.assert_allclose(ratio.mean(-1), 1.0, rtol=1e-5)  # each bin has the same share of background
    middle = abs((edges[1:] + edges[:-1]) / 2 - 3500) < 60
    assert (ratio[:, middle].mean(-1) > 1.5 * ratio[:, ~middle].mean(-1)).all()
    assert np.isfinite(model.log_mass_ratio(tf.constant([100.0, 3700.0, mass[-1]], tf.float32)).numpy()).all()


# -- what is learnt -----------------------------------------------------------------------------------


def test_background_is_fixed_while_the_signal_is_fitted(trained):
    model, before = trained
    assert before
    for kept, weight in zip(before, model.flow.trainable_weights):
        np.testing.assert_array_equal(kept, weight)
    batch = batch_of(in_window(toy(2000, seed=4)))
    with tf.GradientTape(persistent=True) as tape:
        losses = model.losses(batch, None, True)
        fold = tf.cast(fold_of(batch["features"], 2) == 0, tf.float32)
        first = model.losses({**batch, "weight": fold}, None, True)["loss"]
    assert all(one is None for one in tape.gradient(losses["loss"], model.flow.trainable_weights))
    moved = [
        max(float(tf.reduce_max(abs(one))) for one in tape.gradient(first, flow.biases[-1])) for flow in model.inside
    ]
    assert moved[0] == 0 < moved[1]  # flow 0 does not learn from events of fold 0
    shares = tape.gradient(first, model.fraction_moved)
    assert float(shares[0]) == 0 != float(shares[1])


def test_learnt_fraction_is_near_the_true_one_and_signal_is_found_without_labels(trained):
    model, _ = trained
    assert model.fraction().shape == (2,)
    assert (abs(model.fraction() - TRUE_SHARE) < 0.05).all()
    assert model.hp.signal_fraction == 0.01
    history = model.histories["training"].history
    assert history["fraction"][0] < history["fraction"][-1]
    events = in_window(toy(4000, seed=8))
    score = model.score(events)
    assert auc(score[events.label == 0], score[events.label == 1]) > 0.95


def test_given_fraction_stays_and_is_no_weight():
    model = zoo.get("r_anode", **SMALL | {"num_flows": 1}, signal_fraction=0.2, learn_fraction=False)
    model.adapt(toy(1000))
    task, batch = model.trainer.tasks["training"], batch_of(in_window(toy(1000)))
    with tf.GradientTape() as tape:
        loss = task.losses(batch, None, True)["loss"]
    task.optimizer.apply_gradients(zip(tape.gradient(loss, task.weights), task.weights))
    assert float(task.losses(batch, None, True)["loss"]) < float(loss)
    np.testing.assert_allclose(model.fraction(), [0.2, 0.2], rtol=1e-6)
    assert not any("fraction" in weight.name for weight in model.trainable_weights)


@pytest.mark.slow
def test_each_of_two_members_has_its_own_fraction():
    model = zoo.get("r_anode", **SMALL | {"epochs": 2}, members=2, signal_fraction=(0.02, 0.2), learn_fraction=False)
    model.fit(toy(3000), **QUIET)
    np.testing.assert_allclose(model.fraction(), [[0.02, 0.02], [0.2, 0.2]], rtol=1e-5)
    assert model.score(toy(50), per_member=True).shape == (2, 50)
    learnt = zoo.get("r_anode", **SMALL | {"epochs": 2}, members=2, signal_fraction=(0.02, 0.2))
    learnt.fit(toy(3000), **QUIET)
    assert learnt.fraction().shape == (2, 2) and (learnt.fraction() != model.fraction()).all()


@pytest.mark.parametrize("wrong", [0.0, 1.0, -0.1])
def test_fraction_that_is_no_share_is_refused(wrong):
    with pytest.raises(InputError, match=r"signal_fraction=.* expected a number > 0 and < 1"):
        zoo.get("r_anode", window=WINDOW, signal_fraction=wrong)


def test_run_on_disk_is_the_same_model(trained, tmp_path):
    model, _ = trained
    model.save_run(tmp_path / "run")
    again, events = zoo.load(tmp_path / "run"), toy(300, seed=9)
    np.testing.assert_allclose(again.score(events), model.score(events), rtol=1e-6)
    np.testing.assert_allclose(again.fraction(), model.fraction(), rtol=1e-6)
