"""CATHODE: a conditional density against autodiff and a closed form, and what is learnt from which events."""

import numpy as np
import pytest
import tensorflow as tf

import zoo
from pipelines import Events, InputError
from pipelines.metrics import auc
from zoo.layers.random import fold_of
from zoo.windows import Regions

WINDOW = (3300, 3700)
SMALL = {
    "window": WINDOW, "columns": ("*",), "units": (16,), "batch_size": 256, "folds": 2, "num_flows": 2, "flow_width": 16,
    "learning_rate": 0.01, "density_learning_rate": 0.01, "dropout_rate": 0.0, "epochs": 3, "density_epochs": 12,
}  # fmt: skip
SLOPE = 0.5  # of the first feature's mean, in its standard deviations, from the centre of the window to its edge


def toy(size=6000, signal=0.0, seed=0):
    """Two correlated features whose means move with the mass; signal at a place of its own, in the window."""
    rng = np.random.default_rng(seed)
    mass, label = rng.uniform(2800, 4200, size), np.zeros(size, "int8")
    x = rng.normal(size=(size, 2)) @ [[1.0, 0.6], [0.0, 0.8]]
    x[:, 0] += SLOPE * (mass - 3500) / 200
    there = rng.random(size) < signal
    mass[there], label[there] = rng.uniform(*WINDOW, there.sum()), 1
    x[there] = 0.3 * x[there] + [0.0, 3.0]
    return Events.from_arrays(x, mass, ["a", "b"], label=label, mass_column="m")


@pytest.fixture(scope="module")
def trained():
    model = zoo.get("cathode", **SMALL, seed=1)
    model.fit(toy(signal=0.02), verbose=0, jit_compile=False)
    return model


def test_log_density_is_that_of_autodiff(trained):
    events = toy(7, seed=3)
    v, mass = trained.scaled(tf.constant(events.read("features"))), tf.constant(events.mass)
    with tf.GradientTape() as tape:
        tape.watch(v)
        z, log_det = trained.flow(trained.condition(mass), v)
    jacobian = tape.batch_jacobian(z, v)
    np.testing.assert_allclose(log_det, tf.math.log(tf.linalg.det(jacobian)), rtol=1e-4, atol=1e-5)
    expected = log_det - tf.reduce_sum(z**2, -1) / 2 - np.log(2 * np.pi)
    np.testing.assert_allclose(trained.log_prob(tf.constant(events.read("features")), mass), expected, rtol=1e-4)


def test_inverse_gives_events_back_at_their_masses(trained):
    events = toy(50, seed=4)
    v = back = trained.scaled(tf.constant(events.read("features")))
    condition = trained.condition(tf.constant(events.mass))
    z, _ = trained.flow(condition, v)
    back = z
    for flow in reversed(trained.flow.bijectors(condition)):
        back = flow.inverse(back)
    np.testing.assert_allclose(back, v, atol=1e-3)
    other = trained.flow(condition + 1.0, v)[0]
    assert np.abs(other - z).max() > 0.1  # the mass says something


def test_samples_are_the_background_of_the_window_which_the_flow_has_not_seen(trained):
    samples, mass = (one.numpy() for one in trained.draw(4000, tf.constant(5, tf.int64)))
    events = toy(60_000, seed=6)
    inside = events.take(Regions(*WINDOW).inside(events.mass))
    assert Regions(*WINDOW).inside(mass).all() and abs(mass.mean() - inside.mass.mean()) < 15
    v = trained.scaled(tf.constant(inside.read("features"))).numpy()
    np.testing.assert_allclose(samples.mean(axis=0), v.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(samples.std(axis=0), v.std(axis=0), rtol=0.15)
    assert abs(np.corrcoef(samples.T)[0, 1] - np.corrcoef(v.T)[0, 1]) < 0.12


def test_density_learns_from_side_bands_alone_and_the_classifier_compares_with_samples(trained):
    events = toy(500, seed=7)
    inside = Regions(*WINDOW).inside(events.mass)
    seed = tf.constant(1, tf.int64)

    def gradients(which, losses, name, weights):
        x, mass = events.read("features")[which], events.mass[which]
        batch = {"features": tf.constant(x), "mass": tf.constant(mass), "weight": tf.ones(len(x))}
        with tf.GradientTape() as tape:
            loss = losses(batch, seed, True)[name]
        return [0.0 if one is None else np.abs(one).max() for one in tape.gradient(loss, weights)]

    flow, network = trained.flow.trainable_weights, trained.network.kernels
    assert max(gradients(inside, trained.density_losses, "nll", flow)) == 0
    assert max(gradients(~inside, trained.density_losses, "nll", flow)) > 0
    assert (
        max(gradients(~inside, trained.losses, "loss", flow))
        == 0
        < max(gradients(~inside, trained.losses, "loss", network))
    )
    x = tf.constant(events.read("features")[~inside])
    batch = {"mass": tf.constant(events.mass[~inside]), "weight": tf.ones(len(x))}
    # what events beside the window look like is nothing to the classifier, but for their folds
    assert trained.losses({**batch, "features": x}, seed, False)["loss"] > 0
    drawn = [trained.logits(trained.draw(len(x), seed)[0]) for _ in range(2)]
    np.testing.assert_array_equal(*drawn)


def test_signal_is_found_where_features_depend_on_the_mass(trained):
    test = toy(8000, signal=0.3, seed=8)
    test = test.take(Regions(*WINDOW).inside(test.mass))
    score = trained.score(test)
    assert auc(score[test.label == 0], score[test.label == 1]) > 0.9


def test_members_have_densities_and_samples_of_their_own():
    model = zoo.get("cathode", **SMALL, members=2)
    model.adapt(toy(2000))
    samples = model.draw(100, tf.constant([3, 4], tf.int64))[0].numpy()
    assert samples.shape == (2, 100, 2) and np.abs(samples[0] - samples[1]).min(axis=0).max() > 0
    assert model.log_prob(tf.zeros((5, 2)), tf.fill([5], 3500.0)).shape == (2, 5)


def test_scalings_without_bounds_are_refused():
    with pytest.raises(InputError, match="scaling='standard' is not possible; expected one of 'minmax', 'quantile'"):
        zoo.get("cathode", scaling="standard")


# -- the template ---------------------------------------------------------------------------------------


def test_template_is_background_of_the_window_in_physical_units(trained):
    template, again = trained.template(5000, seed=1), trained.template(5000, seed=1)
    other = trained.template(5000, seed=2)
    events = toy(60_000, seed=6)
    inside = events.take(Regions(*WINDOW).inside(events.mass))
    assert len(template) == 5000 and template.columns == trained.resolved_columns
    assert Regions(*WINDOW).inside(template.mass).all() and not template.has_labels
    x, y = template.read("features"), inside.read("features")
    np.testing.assert_allclose(x.mean(axis=0), y.mean(axis=0), atol=0.15)
    np.testing.assert_array_equal(x, again.read("features"))
    assert (x != other.read("features")).any(axis=1).all()


def test_template_predicts_how_many_background_events_pass_a_cut(trained):
    """Closure, of a toy whose background is known: the share of samples and of background beyond a threshold."""
    events = toy(60_000, seed=6)
    score = trained.score(events.take(Regions(*WINDOW).inside(events.mass)))
    sampled = trained.score(trained.template(20_000))
    for percentile in (50, 80, 90):
        threshold = np.percentile(sampled, percentile)
        expected = 1 - percentile / 100
        assert abs((score > threshold).mean() / expected - 1) < 0.25, percentile


def test_closure_of_the_template_is_measured_on_background_of_the_window(trained):
    events = toy(20_000, signal=0.2, seed=6)
    found = zoo.validate.template(trained, events, percentiles=[50, 90], template_events=20_000)
    inside = Regions(*WINDOW).inside(events.mass) & (events.label == 0)
    assert found["events"] == inside.sum() and found["uses_labels"] == "to leave out signal"
    score = trained.score(events.take(inside))
    for one in found["cuts"]:
        assert one["observed"] == (score > one["threshold"]).sum()
        share = 1 - one["percentile"] / 100
        assert one["predicted"] == pytest.approx(share * inside.sum(), rel=0.01)
        assert one["ratio"] == pytest.approx(one["observed"] / one["predicted"])
        spread = np.sqrt(one["predicted"] * (1 - share) + one["error"] ** 2)
        assert one["pull"] == pytest.approx((one["observed"] - one["predicted"]) / spread, rel=1e-3)
    untrained = zoo.get("vae")
    with pytest.raises(InputError, match="vae has no template"):
        zoo.validate.template(untrained, events)


def test_models_without_a_density_have_no_template():
    with pytest.raises(InputError, match="cwola has no template of the background"):
        zoo.get("cwola", window=WINDOW).template(10)


def test_averaged_weights_are_what_remains_of_the_density(trained):
    for average, weight in zip(trained.averages, trained.flow.trainable_weights):
        np.testing.assert_array_equal(average, weight)


def weighted(weight, events):
    return Events.from_arrays(events.read("features"), events.mass, ["a", "b"], weight=weight, mass_column="m")


def prepared(events):
    """What is known of side bands and window before the density is learnt."""
    model = zoo.get("cathode", **SMALL, seed=1)
    model.adapt(events)
    model.trainer.data = events
    model.on_phase_begin(model.recipe()[0])
    return {name: getattr(model, name).numpy() for name in ("shift", "scale", "masses")}


def test_what_is_known_of_side_bands_and_window_is_by_weight():
    """A weight of 3 is as an event that is there three times."""
    events = toy(1500)
    weight = np.where(events.mass > 3500, 3, 1)
    x, mass = (np.repeat(values, weight, axis=0) for values in (events.read("features"), events.mass))
    one, plain = prepared(weighted(weight, events)), prepared(events)
    other = prepared(Events.from_arrays(x, mass, ["a", "b"], mass_column="m"))
    for name in ("shift", "scale"):
        np.testing.assert_allclose(one[name], other[name], atol=1e-4)
        assert np.abs(one[name] - plain[name]).max() > 0.01
    np.testing.assert_allclose(one["masses"], other["masses"], atol=5.0)
    assert np.abs(one["masses"] - plain["masses"]).max() > 50
    assert prepared(weighted(np.full(1500, 2.0), events))["masses"].tolist() == plain["masses"].tolist()


def test_weights_below_zero_are_refused_of_a_density():
    events = toy(1500)
    negative = weighted(np.where(np.arange(len(events)) % 50, 1.0, -1.0), events)
    for name in ("cathode", "lacathode", "anode"):
        given = {
            key: value
            for key, value in SMALL.items()
            if key in zoo.registry.model_class(name).Hyperparameters.defaults()
        }
        with pytest.raises(InputError, match="weight -1; a density cannot be learnt"):
            zoo.get(name, **given).fit(negative, verbose=0, jit_compile=False)


def test_averages_of_a_second_training_begin_anew():
    model = zoo.get("cathode", **{**SMALL, "density_epochs": 2, "epochs": 1, "density_learning_rate": 1e-12}, seed=1)
    model.fit(toy(1500), verbose=0, jit_compile=False)
    once = [weight.numpy() for weight in model.flow.trainable_weights]
    model.fit(toy(1500), verbose=0, jit_compile=False)
    for before, weight in zip(once, model.flow.trainable_weights):
        np.testing.assert_allclose(weight, before, rtol=1e-4, atol=1e-6)


# -- the latent space, and the ratio of densities ---------------------------------------------------------


@pytest.fixture(scope="module")
def latent():
    model = zoo.get("lacathode", **SMALL, seed=1)
    model.fit(toy(signal=0.02), verbose=0, jit_compile=False)
    return model


def test_lacathode_finds_signal_and_its_cut_selects_the_same_share_at_all_masses(latent):
    test = toy(8000, signal=0.3, seed=8)
    inside = test.take(Regions(*WINDOW).inside(test.mass))
    score = latent.score(inside)
    assert auc(score[inside.label == 0], score[inside.label == 1]) > 0.9
    events = toy(40_000, seed=9)
    score = latent.score(events)
    selected = score > np.percentile(score, 90)
    shares = [selected[(events.mass >= m) & (events.mass < m + 200)].mean() for m in range(2800, 4200, 200)]
    assert min(shares) > 0.06 and max(shares) < 0.15  # the first feature's mean moves by 3.5 standard deviations


def test_a_score_that_takes_the_mass_is_given_it_by_events_and_arrays(latent, tmp_path):
    events = toy(200, seed=10)
    x, mass = events.read("features"), events.mass
    expected = latent.score(events)
    np.testing.assert_array_equal(latent.score({"features": x, "mass": mass}), expected)
    with pytest.raises(InputError, match="takes the mass of an event, and an array of features has none"):
        latent.score(x)
    with pytest.raises(InputError, match="no array 'mass' to score"):
        latent.score({"features": x})
    latent.export(tmp_path / "served")
    served = tf.saved_model.load(tmp_path / "served").signatures["serving_default"]
    np.testing.assert_allclose(served(features=tf.constant(x), mass=tf.constant(mass))["score"], expected, rtol=1e-5)
    assert "mass (N,)" in latent.serving_text()
    why = zoo.explain(latent, events, percentile=90, repeats=1)
    assert why.names == tuple(latent.resolved_columns) and np.isfinite(why.contributions).all()
    with pytest.raises(InputError, match="the score takes the mass of an event too; take permutation"):
        zoo.explain(latent, events, percentile=90, method="gradients")


def test_anode_is_the_ratio_of_two_densities_of_which_none_has_seen_the_event():
    model = zoo.get("anode", **{k: v for k, v in SMALL.items() if k not in ("units", "dropout_rate")}, seed=1)
    model.fit(toy(signal=0.05), verbose=0, jit_compile=False)
    events = toy(3000, signal=0.3, seed=8)
    events = events.take(Regions(*WINDOW).inside(events.mass))
    x, mass = tf.constant(events.read("features")), tf.constant(events.mass)
    score, inside = model.score(events), model.log_prob_inside(x, mass).numpy()
    own = inside[fold_of(x, 2).numpy(), np.arange(len(events))]
    np.testing.assert_allclose(score, own - model.log_prob(x, mass).numpy(), rtol=1e-4, atol=1e-4)
    assert auc(score[events.label == 0], score[events.label == 1]) > 0.8
    batch = {"features": x, "mass": mass, "weight": tf.ones(len(events))}
    with tf.GradientTape(persistent=True) as tape:
        losses = model.losses(batch, tf.constant(1, tf.int64), True)
        first = model.losses({**batch, "weight": tf.cast(fold_of(x, 2) == 0, tf.float32)}, None, True)["loss"]
    assert float(losses["held_out"]) > float(losses["loss"]) - 0.5
    moved = [
        max(float(tf.reduce_max(tf.abs(g))) for g in tape.gradient(first, flow.trainable_weights) if g is not None)
        for flow in model.inside
    ]
    assert moved[0] == 0 < moved[1]  # flow 0 does not learn from events of fold 0
