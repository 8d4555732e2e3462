"""Members: a group of models trained at once is the same models trained alone, and each keeps its own best epoch."""

import csv
import dataclasses
import functools
import json
import types

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import kstest

import pipelines.plots
import zoo
import zoo.base
from pipelines import Events, InputError
from pipelines.events.batches import Batches
from zoo import layers, registry, run
from zoo.base import (
    COUNT,
    COUNT_OR_ZERO,
    POSITIVE,
    AnomalyModel,
    EarlyStopping,
    EventHyperparameters,
    Limit,
    Phase,
    Task,
    hyperparameter,
)
from zoo.conformance.subject import eagerly
from zoo.ensemble import BestEpoch, MemberMean, before, leading
from zoo.keras import keras

COLUMNS = ("pt_1", "mass_1", "tau21_1", "pt_2", "mass_2", "tau21_2")
MEMBERS, SEED = 3, 5
# Whatever a model has of these is made small; a model without them is trained as it is.
SMALL = {
    "columns": COLUMNS,
    "batch_size": 100,
    "cycles": 2,
    "epochs": 3,
    "d_epochs": 1,
    "ae_epochs": 1,
    "pretraining_epochs": 1,
    "ae_units": 8,
    "d_units": (8,),
    "encoder_units": (5, 2),
    "units": (8, 8),
    "latent_dim": 2,
    "decoder_epochs": 2,
}

QUIET = {"verbose": 0, "jit_compile": False}

# models of objects and of spectra, those that need a window, and those without gradient steps have tests of their members of
# their own (test_sets, test_ddp, test_windows, test_cathode, test_r_anode, test_baselines)
OTHERS = {"cwola", "cathode", "lacathode", "anode", "r_anode", "idealised", "pca", "knn", "isolation_forest"}
NAMES = [name for name in zoo.names() if registry.model_class(name).takes == "features" and name not in OTHERS]
every_model = pytest.mark.parametrize("name", NAMES)


def quick(first):
    """Every model, all but one of them only where slow tests are run."""
    return [name if name == first else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


def small(name, members=MEMBERS, **more):
    own = zoo.describe(name)["hyperparameters"]
    return zoo.get(name, members=members, **{k: v for k, v in {**SMALL, "seed": SEED, **more}.items() if k in own})


@pytest.fixture(scope="module")
def events(train_events):
    features = train_events.read("features", COLUMNS)[:650]
    weight = np.random.default_rng(0).uniform(0.5, 1.5, len(features))
    return Events.from_arrays(features, train_events.mass[:650], COLUMNS, weight=weight)


def found(model, events):
    """All that a training leaves: its variables by name, scores of each kind per member, and its histories."""
    state = {name: variable.numpy() for name, variable in run.state_of(model).items()}
    scores = {kind: model.score(events, kind, per_member=True) for kind in model.score_kinds}
    return types.SimpleNamespace(state=state, scores=scores, rows=run.history_rows(model.histories))


@pytest.fixture(scope="module")
def group(events, tmp_path_factory):
    """A run of three members of every model: its folder, the model (for others to train on), and what it was then."""
    kept = {}

    def give(name):
        if name not in kept:
            model, out = small(name), tmp_path_factory.mktemp(name) / "run"
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(pipelines.plots, "plot_history", lambda rows, path: None)
                run.train(model, events, out, validation=events.sample(200), **QUIET)
            kept[name] = types.SimpleNamespace(out=out, model=model, then=found(model, events))
        return kept[name]

    return give


@pytest.fixture(scope="module")
def loaded(group):
    """The run of three members of every model, loaded once: nobody changes it."""
    return functools.cache(lambda name: zoo.load(group(name).out))


@pytest.fixture(scope="module")
def alone(events):
    """Train a plain model of the seed of one member on the batches that the group saw."""
    kept = {}

    def give(name, member, **dials):
        model = kept.setdefault(name, small(name, members=1))
        model.adapt(events)
        model.reset(seed=SEED + member, **{**usual(name), **dials})
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(zoo.base, "Batches", lambda *a, **options: Batches(*a, **{**options, "seed": SEED}))
            model.fit(events, events.sample(200), **QUIET)
        return found(model, events)

    return give


def assert_close(one, other, what=""):
    """To 1e-4 of the size of what is compared, which is what float32 leaves of sums in another order."""
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max(), err_msg=what)


def assert_member_is(together, member, plain):
    assert set(together.state) == set(plain.state)
    for name, value in plain.state.items():
        if name.startswith("direction/"):  # which members agree on
            continue
        whole = together.state[name]
        assert whole.shape in (value.shape, (MEMBERS, *value.shape)), name
        assert_close(whole if whole.shape == value.shape else whole[member], value, name)
    for kind, score in plain.scores.items():
        if kind == "aligned":
            continue
        assert score.shape == (1, together.scores[kind].shape[1])
        assert_close(together.scores[kind][member], score[0], kind)


# -- a group is its members ---------------------------------------------------------------------------


@every_model
@pytest.mark.parametrize("member", range(MEMBERS))
def test_a_member_is_the_plain_model_of_its_seed_on_the_same_batches(name, member, group, alone):
    plain, together = alone(name, member), group(name).then
    assert_member_is(together, member, plain)
    own = [row for row in read(group(name).out / "members.csv") if int(row["member"]) == member]
    assert [(row["phase"], int(row["epoch"])) for row in own] == [(row["phase"], row["epoch"]) for row in plain.rows]
    for row, expected in zip(own, plain.rows):
        for term in set(expected) - {"phase", "epoch"}:
            np.testing.assert_allclose(float(row[term]), expected[term], rtol=2e-4, err_msg=f"{expected} {term}")


def read(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def usual(name):
    """The dials as they are if nobody sets them."""
    return {dial: getattr(small(name).hp, dial) for dial in small(name).runtime_hyperparameters}


def vectors(name):
    """Three values, allowed whatever its range, of every dial that members may have of their own."""
    own = {dial: value or 0.01 for dial, value in usual(name).items() if dial not in small(name).shared}
    return {dial: (0.5 * value, value, 0.75 * value) for dial, value in own.items()}


@every_model
def test_members_with_their_own_dials_are_plain_models_with_these(name, group, alone, events):
    model, each = group(name).model, vectors(name)
    assert each
    model.reset(**each)
    model.fit(events, events.sample(200), **QUIET)
    together = found(model, events)
    for member in range(MEMBERS):
        assert_member_is(together, member, alone(name, member, **{dial: v[member] for dial, v in each.items()}))


@every_model
def test_members_that_share_all_but_the_seed_differ(name, group):
    then = group(name).then
    for kind, scores in then.scores.items():
        assert (scores.std(axis=0) > 0).mean() > 0.9, kind
        for a, b in ((0, 1), (0, 2), (1, 2)):
            assert np.abs(scores[a] - scores[b]).max() > 1e-3 * scores.std(), kind


@every_model
def test_initial_weights_of_members_are_those_of_their_seeds_and_are_independent(name):
    together, others = small(name), [small(name, members=1, seed=SEED + member) for member in range(MEMBERS)]
    for model in (together, *others):
        model.build_for(COLUMNS)
    kernels = []
    for place, weight in enumerate(together.trainable_variables):
        for member, other in enumerate(others):
            np.testing.assert_array_equal(weight[member], other.trainable_variables[place])
        if np.ptp(weight):
            kernels.append(weight.numpy().reshape(MEMBERS, -1) / weight.numpy().std())
    kernels = np.concatenate(kernels, axis=1)
    correlation = np.corrcoef(kernels)[np.triu_indices(MEMBERS, 1)]
    assert np.abs(correlation).max() < 5 / np.sqrt(kernels.shape[1])


@every_model
def test_dials_may_be_vectors_without_tracing_anything_anew(name, group, events, monkeypatch):
    model, traces = group(name).model, []
    step = type(model).train_step
    monkeypatch.setattr(type(model), "train_step", lambda self, batch: traces.append(1) or step(self, batch))
    model.reset(**vectors(name))
    model.fit(events, epochs=1, **QUIET)
    assert not traces


@every_model
def test_vectors_of_dials_are_kept_in_the_configuration(name):
    each = {dial: list(values) for dial, values in vectors(name).items()}
    made = small(name, **each)
    for dial, values in each.items():
        np.testing.assert_allclose(made.runtime.variables[dial], values, rtol=1e-6)
        assert list(made.get_config()[dial]) == values
    again = zoo.get(name, **json.loads(json.dumps(made.get_config())))
    assert again.get_config() == made.get_config()


@every_model
def test_a_vector_of_another_length_than_members_is_refused_by_name(name):
    model = small(name)
    model.build_for(COLUMNS)
    for dial in model.runtime_hyperparameters:
        for length in (1, 2, 4):
            wrong = (getattr(model.hp, dial),) * length
            with pytest.raises(InputError, match=f"{dial}=.*expected one"):
                small(name, **{dial: wrong})
            with pytest.raises(InputError, match=f"{dial}=.*expected one"):
                model.reset(**{dial: wrong})


@every_model
def test_a_vector_for_a_plain_model_is_refused_by_name(name):
    model = small(name, members=1)
    model.build_for(COLUMNS)
    for dial in model.runtime_hyperparameters:
        for length in (1, 3):
            wrong = (getattr(model.hp, dial),) * length
            with pytest.raises(InputError, match=f"{dial}=.*expected"):
                small(name, members=1, **{dial: wrong})
            with pytest.raises(InputError, match=f"{dial}=.*expected"):
                model.reset(**{dial: wrong})


@every_model
def test_a_vector_with_one_value_out_of_range_is_refused_by_name(name):
    for dial in small(name).runtime_hyperparameters:
        with pytest.raises(InputError, match=f"{dial}=.*expected"):
            small(name, **{dial: (getattr(small(name).hp, dial),) * 2 + (-1.0,)})


def test_a_vector_for_what_all_members_share_is_refused_by_name():
    model = small("gan_ae")
    model.build_for(COLUMNS)
    assert model.shared
    for dial in model.shared:
        wrong = (1, 2, 3)
        with pytest.raises(InputError, match=f"{dial}=.*expected one for all members"):
            small("gan_ae", **{dial: wrong})
        with pytest.raises(InputError, match=f"{dial}=.*expected one for all members"):
            model.reset(**{dial: wrong})


@every_model
def test_what_is_no_dial_cannot_be_a_vector(name):
    for fixed in ("members", "batch_size", "seed", "scaling"):
        value = getattr(small(name).hp, fixed)
        with pytest.raises(InputError, match=f"{fixed}=.*expected"):
            small(name, **{fixed: [value] * 3})


@every_model
@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "many", None])
def test_a_number_of_members_that_cannot_be_is_refused(name, wrong):
    with pytest.raises(InputError, match=r"members=.*expected a whole number >= 1"):
        small(name, members=wrong)


def test_the_members_of_a_preset_may_have_their_own_dials():
    alpha = tuple(range(1000, 3000, 100))
    model = zoo.get("vae", preset="lhco2020", alpha=alpha)
    np.testing.assert_array_equal(model.runtime.variables["alpha"], alpha)


# -- scores of a group -------------------------------------------------------------------------------------


@every_model
def test_score_is_the_mean_over_members_and_score_std_their_standard_deviation(name, loaded, events):
    model = loaded(name)
    for kind in model.score_kinds:
        each = model.score(events, kind, per_member=True)
        assert each.shape == (MEMBERS, len(events)) and each.dtype == np.float32
        np.testing.assert_allclose(model.score(events, kind), each.astype(float).mean(0), rtol=1e-5, atol=1e-7)
        spread = model.score_std(events, kind)
        np.testing.assert_allclose(spread, each.astype(float).std(0), rtol=1e-3, atol=1e-4 * np.abs(each).max())
        assert spread.shape == (len(events),) and (spread > 0).any()
    features = events.read("features", model.resolved_columns)
    np.testing.assert_array_equal(model.score(features), model.score(events))
    np.testing.assert_array_equal(model.score({"features": features}, per_member=True), model.score(events, None, True))


@every_model
def test_a_plain_model_has_no_axis_of_members_anywhere(name, events):
    plain, together = small(name, members=1), small(name)
    assert zoo.describe(name)["hyperparameters"]["members"] == 1
    for model in (plain, together):
        model.adapt(events)
    states = [run.state_of(model) for model in (plain, together)]
    assert list(states[0]) == list(states[1])
    per_member = 0
    for key, one in states[0].items():
        one, many, kind = tuple(one.shape), tuple(states[1][key].shape), key.partition("/")[0]
        assert many in (one, (MEMBERS, *one)), key
        assert kind != "trainable" or many == (MEMBERS, *one), key
        assert kind not in ("scaler", "training") or many == one, key  # members share them
        per_member += many != one
    assert per_member >= len(plain.trainable_variables)
    assert plain.member_shape == () and plain.trainer.active.shape == ()
    assert all(v.shape == () for v in plain.runtime.variables.values())
    batch = next(iter(plain.batches(events, plain.weighting(events)).shuffled()))
    plain.trainer.enter(plain.recipe()[plain.main_phase])
    shown = plain.train_step(batch)
    assert all(value.shape == () for value in shown.values())
    assert all(m.members.shape == () for m in plain.metrics if isinstance(m, MemberMean))
    few = events.sample(7)
    with eagerly():
        one, many = (model.results(few, list(plain.infer(tf.zeros((1, 6))))) for model in (plain, together))
        for key, value in one.items():
            assert len(value) == 7 and many[key].shape == (MEMBERS, *value.shape), key
        assert plain.score(few).shape == (7,) and plain.score(few, per_member=True).shape == (1, 7)
        np.testing.assert_array_equal(plain.score(few, per_member=True)[0], plain.score(few))
        np.testing.assert_array_equal(plain.score_std(few), np.zeros(7))
    assert plain.member_rows == []


# -- runs, resuming, export ---------------------------------------------------------------------------------------


@every_model
def test_a_run_of_members_is_loaded_with_each_of_their_scores(name, group, loaded, events):
    model, then = loaded(name), group(name).then
    assert model.members == MEMBERS
    for kind, scores in then.scores.items():
        np.testing.assert_array_equal(model.score(events, kind, per_member=True), scores)


@every_model
def test_state_of_members_goes_to_a_file_and_back(name, group, loaded, events, tmp_path):
    saved, other = loaded(name), small(name, seed=77)
    run.save_state(saved, tmp_path / "state.h5")
    other.build_for(COLUMNS)
    run.load_state(other, tmp_path / "state.h5")
    for key, value in run.state_of(other).items():
        np.testing.assert_array_equal(value, group(name).then.state[key], err_msg=key)
    np.testing.assert_array_equal(other.score(events, per_member=True), saved.score(events, per_member=True))


@every_model
@pytest.mark.parametrize("members", [1, 2])
def test_the_state_of_another_number_of_members_is_refused(name, members, loaded, tmp_path):
    run.save_state(loaded(name), tmp_path / "state.h5")
    other = small(name, members=members)
    other.build_for(COLUMNS)
    before_it = [v.numpy() for v in run.state_of(other).values()]
    with pytest.raises(InputError, match="another model's state"):
        run.load_state(other, tmp_path / "state.h5")
    for kept, variable in zip(before_it, run.state_of(other).values()):
        np.testing.assert_array_equal(kept, variable)


@every_model
def test_members_csv_has_a_row_for_every_phase_epoch_and_member_whose_means_are_the_history(name, group):
    rows, history = read(group(name).out / "members.csv"), read(group(name).out / "history.csv")
    phases = [(phase.name, epoch) for phase in small(name).recipe() for epoch in range(phase.epochs)]
    assert [(row["phase"], int(row["epoch"])) for row in history] == phases
    places = [(row["phase"], int(row["epoch"]), int(row["member"])) for row in rows]
    assert places == [(phase, epoch, member) for phase, epoch in phases for member in range(MEMBERS)]
    assert set(rows[0]) == {*history[0], "member"} and any(term.startswith("val_") for term in history[0])
    for place, whole in enumerate(history):
        own = rows[MEMBERS * place : MEMBERS * (place + 1)]
        for term in set(whole) - {"phase", "epoch"}:
            values = [row[term] for row in own]
            assert [value == "" for value in values] == [whole[term] == ""] * MEMBERS, term
            if whole[term]:
                np.testing.assert_allclose(np.mean([float(v) for v in values]), float(whole[term]), rtol=1e-5)


@every_model
def test_a_second_training_leaves_the_rows_of_no_other(name, group, events):
    model = group(name).model
    model.reset(**usual(name))
    for _ in range(2):
        model.fit(events, **QUIET)
        expected = [(row["phase"], row["epoch"]) for row in run.history_rows(model.histories)]
        rows = [(row["phase"], row["epoch"], row["member"]) for row in model.member_rows]
        assert rows == [(phase, epoch, member) for phase, epoch in expected for member in range(MEMBERS)]


@pytest.mark.parametrize("name", quick("vae"))
def test_an_export_has_the_mean_the_spread_and_every_member(name, loaded, events, tmp_path):
    model = loaded(name)
    model.export(tmp_path / "served")
    serve = tf.saved_model.load(tmp_path / "served").signatures["serving_default"]
    got = serve(features=tf.constant(events.read("features", model.resolved_columns)))
    close = {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(got["score"], model.score(events), **close)
    np.testing.assert_allclose(got["score_members"], model.score(events, per_member=True).T, **close)
    assert got["score_members"].shape == (len(events), MEMBERS)
    np.testing.assert_allclose(got["score_std"], model.score_std(events), rtol=1e-3, atol=1e-5)
    for kind in model.score_kinds:
        np.testing.assert_allclose(got[kind], model.score(events, kind), **close)
    for key in set(got) - {"score", "score_std", "score_members", *model.score_kinds}:
        own = np.moveaxis(model.results(events, [key])[key], 0, 1)
        np.testing.assert_allclose(got[key], own, rtol=1e-3, atol=1e-3, err_msg=key)


@pytest.mark.parametrize("name", quick("deep_svdd"))
def test_members_that_were_interrupted_end_as_those_that_were_not(name, group, events, tmp_path, monkeypatch):
    whole, model, options = group(name), small(name), {"validation": events.sample(200), **QUIET}
    whole.model.reset(**usual(name))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, epoch=0)
        run.train(whole.model, events, tmp_path / "run", **options)
    run.train(model, events, tmp_path / "run", resume=True, **options)
    for key, value in run.state_of(model).items():
        np.testing.assert_array_equal(value, whole.then.state[key], err_msg=key)
    for table in ("members.csv", "history.csv"):
        assert read(tmp_path / "run" / table) == read(whole.out / table)
    best = [json.loads((out / "metrics.json").read_text()).get("best_epoch") for out in (tmp_path / "run", whole.out)]
    assert best[0] == best[1] and (best[0] is None) == (not model.best)


def stop_after(monkeypatch, epoch):
    """Interrupt trainings just after the checkpoint of an epoch."""
    keep = run.Checkpoint.on_epoch_end

    def stop(self, this, logs=None):
        keep(self, this, logs)
        if this == epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(run.Checkpoint, "on_epoch_end", stop)


@pytest.mark.parametrize("name", quick("deep_svdd"))
def test_members_compiled_by_xla_are_those_that_are_not(name, group, events):
    model = small(name)
    model.fit(events, events.sample(200), verbose=0, jit_compile=True)
    compiled, then = found(model, events), group(name).then
    for kind, scores in then.scores.items():
        np.testing.assert_allclose(compiled.scores[kind], scores, rtol=1e-2, atol=1e-3 * np.abs(scores).max())


# -- what members are made of -------------------------------------------------------------------------------


def test_random_numbers_of_several_seeds_are_those_of_each():
    seeds = [3, 4, 1_000_003, 2**31 + 5]
    together = layers.normal((50, 7), tf.constant(seeds, tf.int64), use=2)
    assert together.shape == (4, 50, 7)
    for own, seed in zip(together, seeds):  # but for the last bit, of a logarithm of several numbers at once
        alone = layers.normal((50, 7), tf.constant(seed, tf.int64), use=2)
        np.testing.assert_allclose(own, alone, rtol=1e-5, atol=1e-6)


def test_dropout_of_several_seeds_and_rates_is_that_of_each():
    x = tf.random.stateless_normal((4, 50, 7), (1, 2))
    seeds, rates = [3, 4, 1_000_003, 2**31 + 5], [0.0, 0.1, 0.5, 0.9]
    together = layers.dropout(x, tf.constant(rates), tf.constant(seeds, tf.int64), use=1)
    shared = layers.dropout(x, 0.3, tf.constant(seeds, tf.int64), use=1)
    for member, (seed, rate) in enumerate(zip(seeds, rates)):
        seed = tf.constant(seed, tf.int64)
        np.testing.assert_array_equal(together[member], layers.dropout(x[member], rate, seed, use=1))
        np.testing.assert_array_equal(shared[member], layers.dropout(x[member], 0.3, seed, use=1))


@pytest.mark.parametrize("what", ["masks", "normal numbers"])
def test_random_numbers_of_members_steps_and_uses_are_independent(what):
    # as models draw them: seeds of members, steps that follow each other, and the uses of one step
    draws = []
    for use in (0, 1, 2):
        for step in (0, 1, 2):
            seeds = tf.constant([seed * 1_000_003 + step for seed in range(4)], tf.int64)
            drawn = layers.normal((200, 100), seeds, use)
            if what == "masks":
                drawn = layers.dropout(tf.ones((4, 200, 100)), 0.5, seeds, use)
            draws += list(drawn.numpy().reshape(4, -1))
    correlation = np.corrcoef(draws)[np.triu_indices(len(draws), 1)]
    squares = np.corrcoef(np.square(draws))[np.triu_indices(len(draws), 1)]
    for found_ones in (correlation, squares):
        assert np.abs(found_ones).max() < 5 / np.sqrt(20_000)
        assert abs(found_ones.std() * np.sqrt(20_000) - 1) < 0.15


@pytest.mark.parametrize("seed", [0, 1, 7_000_021])
def test_normal_numbers_are_standard_normal(seed):
    z = layers.normal((1000, 200), tf.constant(seed, tf.int64), use=0).numpy()
    assert kstest(z.ravel(), "norm").pvalue > 1e-3 and np.isfinite(z).all()
    assert np.abs(z).max() > 4 and np.abs(z).max() < 5.8
    for lag in (1, 2, 200, 201):
        assert abs(np.mean(z.ravel()[lag:] * z.ravel()[:-lag])) < 5 / np.sqrt(z.size), lag
    np.testing.assert_allclose([z.mean(), z.std(), (z**3).mean(), (z**4).mean()], [0, 1, 0, 3], atol=0.05)


def test_normal_numbers_take_shapes_that_are_known_only_when_it_runs():
    drawn = tf.function(lambda x: layers.normal(tf.shape(x)[-2:], tf.constant([1, 2]), use=0), reduce_retracing=True)
    for size in (3, 4):
        eager = layers.normal((size, 2), tf.constant([1, 2]), use=0)
        np.testing.assert_allclose(drawn(tf.zeros((9, size, 2))), eager, rtol=1e-5, atol=1e-6)


def test_a_mean_of_members_is_numpys_of_every_value_given():
    rng = np.random.default_rng(0)
    per_event, per_batch = rng.normal(size=(5, 3, 10)).astype("f"), rng.normal(size=(5, 3)).astype("f")
    for values, expected in ((per_event, per_event.mean((0, 2))), (per_batch, per_batch.mean(0))):
        together, one = MemberMean("m", 3), MemberMean("m")
        for batch in values:
            together.update_state(tf.constant(batch))
            one.update_state(tf.constant(batch[0]))
        np.testing.assert_allclose(together.members, expected, rtol=1e-5)
        np.testing.assert_allclose(together.result(), expected.mean(), rtol=1e-5)
        np.testing.assert_allclose([one.members, one.result()], expected[[0, 0]], rtol=1e-5)


def test_shapes_before_and_after_the_members():
    assert leading(1) == () and leading(2) == (2,)
    x = tf.ones((3, 4, 5))
    np.testing.assert_array_equal((x * before(tf.constant([1.0, 2.0, 3.0]), 2))[:, 0, 0], [1, 2, 3])
    assert before(tf.constant(2.5), 2).shape == ()


# -- the best epoch ----------------------------------------------------------------------------------------------


def by_hand(values, best="min", patience=None, tolerance=0.0):
    """The best epoch of one member, from 0, and after how many epochs it stopped learning: a plain loop."""
    chosen, limit = None, None
    for epoch, value in enumerate(values):
        if np.isfinite(value):
            gain = 0.0 if limit is None else value - limit if best == "max" else limit - value
            if limit is None or gain > tolerance * abs(limit):
                chosen, limit = epoch, value
        if patience is not None and epoch - (-1 if chosen is None else chosen) >= patience:
            return chosen, epoch + 1
    return chosen, len(values)


NAN = float("nan")
SEQUENCES = {
    "one peak": [1.0, 3.0, 2.0, 1.5, 1.0, 0.5],
    "rises to the end": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    "falls from the start": [6.0, 5.0, 4.0, 3.0, 2.0, 1.0],
    "constant": [2.0] * 6,
    "the first of equal ones": [1.0, 3.0, 2.0, 3.0, 1.0, 3.0],
    "not a number in between": [1.0, NAN, 3.0, NAN, 2.0, NAN],
    "not a number at first": [NAN, NAN, 2.0, 1.0, 3.0, 0.0],
    "infinite": [1.0, float("inf"), 2.0, -float("inf"), 3.0, 2.0],
    "negative": [-3.0, -1.0, -2.0, -1.0, -0.5, -4.0],
    "through zero": [0.0, -1.0, 1.0, 0.0, 2.0, -2.0],
    "in small steps": [1.0, 1.005, 1.012, 1.019, 1.021, 1.09],
    "late second peak": [3.0, 1.0, 1.0, 1.0, 5.0, 0.1],
}


def follow(sequences, best, patience, tolerance, keep=True):
    """Let `BestEpoch` see sequences (epochs, K), with weights that count the epochs that a member learned."""
    members = len(sequences[0])
    lead = leading(members)
    active, weight = tf.Variable(tf.ones(lead)), tf.Variable(tf.zeros((*lead, 2, 3)))
    rule = EarlyStopping("q", best, tolerance, patience, keep)
    judge = BestEpoch(rule, members, active, [weight])
    for epoch, values in enumerate(np.asarray(sequences, np.float32)):
        weight.assign_add(before(active, 2) * tf.ones_like(weight))
        judge.update(epoch, values if lead else values[0])
    return judge, active, weight


def epochs_learned(weight):
    values = weight.numpy().reshape(-1, 6)
    assert (np.ptp(values, axis=1) == 0).all()
    return values[:, 0].tolist()


@pytest.mark.parametrize("best", ["max", "min"])
@pytest.mark.parametrize("tolerance", [0.0, 0.01])
@pytest.mark.parametrize("patience", [None, 1, 2, 3])
def test_the_best_epoch_of_each_member_is_that_of_a_plain_loop(best, patience, tolerance):
    named = list(SEQUENCES.values())
    rng = np.random.default_rng(1)
    random = rng.choice([-1.0, -0.5, 0.0, 0.5, 0.995, 1.0, 1.005, NAN], size=(40, 6)).tolist()
    together = named + [sequence for sequence in random if np.isfinite(sequence).any()]
    judge, _, weight = follow(np.transpose(together), best, patience, tolerance)
    expected = [by_hand(sequence, best, patience, tolerance) for sequence in together]
    assert judge.epoch.numpy().tolist() == [-1 if epoch is None else epoch for epoch, _ in expected]
    assert epochs_learned(weight) == [learned for _, learned in expected]
    for sequence, (epoch, _), value in zip(together, expected, judge.value.numpy()):
        assert epoch is None or value == np.float32(sequence[epoch])


@pytest.mark.parametrize("best", ["max", "min"])
@pytest.mark.parametrize("patience", [None, 2])
@pytest.mark.parametrize("sequence", SEQUENCES.values(), ids=SEQUENCES)
def test_the_best_epoch_of_a_plain_model_is_that_of_a_plain_loop(best, patience, sequence):
    judge, _, weight = follow(np.transpose([sequence]), best, patience, 0.0)
    epoch, learned = by_hand(sequence, best, patience)
    assert judge.epoch.shape == () and int(judge.epoch) == (-1 if epoch is None else epoch)
    assert epochs_learned(weight) == [learned]
    judge.settle()
    assert epochs_learned(weight) == [learned if epoch is None else epoch + 1]
    judge.unsettle()
    assert epochs_learned(weight) == [learned]


def test_a_member_that_has_stopped_stays_stopped_whatever_chance_gives_it():
    # without learning, its quantity still varies from epoch to epoch: other events are left over, other numbers drawn
    judge, active, weight = follow([[1.0, 1.0], [2.0, 0.9], [2.0, 0.8], [0.5, 0.7], [0.4, 0.6]], "min", 2, 0.0)
    assert active.numpy().tolist() == [0.0, 1.0]
    assert judge.epoch.numpy().tolist() == [0, 4] and epochs_learned(weight) == [3.0, 5.0]
    judge.settle()
    assert epochs_learned(weight) == [1.0, 5.0]


def test_settling_puts_the_best_weights_and_unsettling_the_last_ones_back():
    judge, _, weight = follow(np.transpose([SEQUENCES["one peak"], SEQUENCES["rises to the end"]]), "max", None, 0.0)
    assert epochs_learned(weight) == [6.0, 6.0]
    for _ in range(2):  # a second time changes nothing
        judge.settle()
        assert epochs_learned(weight) == [2.0, 6.0] and int(judge.settled) == 1
    for _ in range(2):
        judge.unsettle()
        assert epochs_learned(weight) == [6.0, 6.0] and int(judge.settled) == 0
    judge.update(6, np.array([9.0, 1.0], np.float32))
    judge.settle()
    assert judge.epoch.numpy().tolist() == [6, 5] and epochs_learned(weight) == [6.0, 6.0]


def test_a_member_that_never_had_a_number_does_not_cost_the_others_their_best_epoch():
    judge, _, weight = follow(np.transpose([SEQUENCES["one peak"], [NAN] * 6]), "max", None, 0.0)
    judge.settle()
    assert epochs_learned(weight) == [2.0, 6.0]
    judge.unsettle()
    assert epochs_learned(weight) == [6.0, 6.0]


def test_without_keeping_weights_settling_moves_nothing():
    judge, _, weight = follow(np.transpose([SEQUENCES["one peak"]] * 2), "max", None, 0.0, keep=False)
    judge.settle()
    assert judge.epoch.numpy().tolist() == [1, 1] and epochs_learned(weight) == [6.0, 6.0]
    assert sum(int(tf.size(v)) for v in judge.variables) == 5  # and no copy of them is held


def test_forgetting_is_complete():
    judge, _, _ = follow(np.transpose([SEQUENCES["one peak"]] * 2), "max", 2, 0.0)
    judge.settle()
    judge.reset()
    fresh = BestEpoch(judge.rule, 2, tf.Variable(tf.ones(2)), [tf.Variable(tf.zeros((2, 2, 3)))])
    for one, other in zip(judge.variables, fresh.variables):
        np.testing.assert_array_equal(one, other)


# -- the best epoch, in a training ---------------------------------------------------------------------------


class Scripted(AnomalyModel):
    """A model whose quantity is written down beforehand, and whose weights count the epochs that each member learned."""

    score_kinds = ("count",)
    script = np.zeros((1, 1))  # (epochs, K)

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(EventHyperparameters):
        epochs: int = hyperparameter(6, "of the first phase", COUNT)
        patience: int = hyperparameter(0, "epochs; 0 for never", COUNT_OR_ZERO)
        best: str = hyperparameter("max", "which value is the best", Limit(choices=("max", "min")))
        later_epochs: int = hyperparameter(0, "of the second phase", COUNT_OR_ZERO)
        learning_rate: float = hyperparameter(1.0, "of both", POSITIVE, runtime=True)
        batch_size: int = hyperparameter(50)

    def make(self, width):
        self.kernel = self.add_weight("kernel", (*self.member_shape, width, 2))
        self.later = self.add_weight("later", (*self.member_shape, 2))
        self.table = tf.constant(self.script, tf.float32)
        self.create_metrics("quantity", "later_quantity")

    def initial(self, shape, seed):
        return tf.zeros(shape)

    def recipe(self):
        hp = self.hp
        rule = EarlyStopping("quantity", mode=hp.best, restore_best_weights=True, patience=hp.patience or None)
        return Phase("scripted", hp.epochs, main=True, early_stopping=rule), Phase("later", hp.later_epochs)

    def tasks(self):
        sgd, other = (self.make_optimizer(keras.optimizers.SGD, one) for one in ([self.kernel], [self.later]))
        return {"scripted": Task(self.count, sgd, [self.kernel]), "later": Task(self.follow, other, [self.later])}

    def count(self, batch, seed, training):
        """A loss whose gradient makes the kernel grow by one in every epoch of 4 steps."""
        row = self.table[tf.minimum(self.trainer.passes_done(), len(self.table) - 1)]
        grown = -tf.reduce_sum(self.kernel, (-2, -1)) / 4.0
        return {"loss": grown, "quantity": row if self.member_shape else row[0]}

    def follow(self, batch, seed, training):
        """A loss whose gradient depends on how many steps there were before, as random numbers would."""
        grown = -tf.cast(self.trainer.clock, tf.float32) * tf.reduce_sum(self.later, -1)
        return {"loss": grown, "later_quantity": tf.reduce_mean(self.later, -1)}

    def infer(self, features):
        count = tf.reduce_mean(self.kernel, (-2, -1))[..., None] + 0.0 * tf.reduce_sum(features, -1)
        return {"count": count}


@pytest.fixture
def scripted(monkeypatch):
    zoo.names()  # so that what is discovered stays after these tests
    monkeypatch.setattr(pipelines.plots, "plot_history", lambda rows, path: None)
    monkeypatch.setattr(registry, "_models", dict(registry._models))
    registry.register("scripted")(Scripted)

    def make(*sequences, **options):
        monkeypatch.setattr(Scripted, "script", np.transpose(sequences))
        return zoo.get("scripted", members=len(sequences), epochs=len(sequences[0]), **options)

    with eagerly():  # so few steps cost less than to trace one
        yield make


@pytest.fixture(scope="module")
def few():
    return Events.from_arrays(np.random.default_rng(0).normal(size=(200, 3)), np.full(200, 3e3), ["a", "b", "c"])


def counted(model):
    return np.round(model.kernel.numpy().reshape(model.members, -1).mean(1), 3).tolist()


def test_what_remains_of_a_training_is_each_members_best_epoch(scripted, few):
    names = ("one peak", "rises to the end", "falls from the start", "late second peak", "not a number in between")
    model = scripted(*(SEQUENCES[name] for name in names))
    model.fit(few, **QUIET)
    assert model.best_epochs()["scripted"] == {
        "quantity": "quantity",
        "best": "max",
        "epoch": [1, 5, 0, 4, 2],
        "value": [3.0, 6.0, 6.0, 5.0, 3.0],
    }
    assert counted(model) == [2.0, 6.0, 1.0, 5.0, 3.0]
    np.testing.assert_allclose(model.score(few, per_member=True)[:, 0], counted(model), rtol=1e-5)


def test_patience_stops_one_member_whose_weights_move_no_more_while_the_others_do(scripted, few):
    seen = []
    model = scripted(SEQUENCES["one peak"], SEQUENCES["rises to the end"], patience=2)
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(counted(model)))
    history = model.fit(few, callbacks=[watch], **QUIET)
    assert seen == [[1, 1], [2, 2], [3, 3], [4, 4], [4, 5], [4, 6]]
    assert history.epoch == list(range(6)) and counted(model) == [2.0, 6.0]


def test_training_ends_when_the_last_member_has_stopped(scripted, few):
    model = scripted(SEQUENCES["falls from the start"], SEQUENCES["one peak"], patience=2)
    history = model.fit(few, **QUIET)
    assert history.epoch == [0, 1, 2, 3] and counted(model) == [1.0, 2.0]
    alone = scripted(SEQUENCES["falls from the start"], patience=2)
    assert alone.fit(few, **QUIET).epoch == [0, 1, 2] and counted(alone) == [1.0]


def test_a_stopped_member_does_not_start_again_in_a_training(scripted, few):
    model = scripted(SEQUENCES["late second peak"], SEQUENCES["rises to the end"], patience=2)
    model.fit(few, **QUIET)
    assert model.best_epochs()["scripted"]["epoch"] == [0, 5] and counted(model) == [1.0, 6.0]


def test_all_members_learn_in_the_phase_after_the_one_that_stopped_them(scripted, few):
    model = scripted(SEQUENCES["falls from the start"], SEQUENCES["rises to the end"], patience=1, later_epochs=1)
    model.fit(few, **QUIET)
    assert model.trainer.active.numpy().tolist() == [1.0, 1.0]


def test_training_goes_on_from_the_last_weights_not_from_the_best(scripted, few):
    whole = scripted(SEQUENCES["one peak"], SEQUENCES["late second peak"])
    whole.fit(few, **QUIET)
    parts = scripted(SEQUENCES["one peak"], SEQUENCES["late second peak"])
    parts.fit(few, epochs=3, **QUIET)
    assert counted(parts) == [2.0, 1.0]  # settled on the best so far
    parts.fit(few, epochs=6, initial_epoch=3, **QUIET)
    assert counted(parts) == counted(whole) == [2.0, 5.0]
    assert parts.best_epochs() == whole.best_epochs() and parts.member_rows == whole.member_rows
    parts.best["scripted"].unsettle()
    assert counted(parts) == [6.0, 6.0]


def test_patience_counts_on_where_training_stopped(scripted, few):
    sequences = (SEQUENCES["one peak"], SEQUENCES["falls from the start"], SEQUENCES["rises to the end"])
    whole, parts = (scripted(*sequences, patience=2) for _ in range(2))
    whole.fit(few, **QUIET)
    parts.fit(few, epochs=3, **QUIET)  # the second member has just stopped
    parts.fit(few, initial_epoch=3, **QUIET)
    for model in (whole, parts):
        model.best["scripted"].unsettle()
        assert counted(model) == [4.0, 3.0, 6.0]


def test_a_training_from_the_start_forgets_the_best_of_the_one_before(scripted, few):
    model = scripted(SEQUENCES["one peak"], SEQUENCES["one peak"])
    model.fit(few, **QUIET)
    model.fit(few, epochs=1, **QUIET)
    assert model.best_epochs()["scripted"]["epoch"] == [0, 0]
    assert counted(model) == [3.0, 3.0]  # one more epoch than what remained of the first training


def test_reset_forgets_the_best_epoch_and_what_was_stopped(scripted, few):
    model = scripted(SEQUENCES["one peak"], SEQUENCES["rises to the end"], patience=2)
    model.fit(few, **QUIET)
    first = counted(model), model.best_epochs(), model.member_rows
    model.reset()
    assert counted(model) == [0.0, 0.0] and model.member_rows == []
    assert model.best_epochs()["scripted"]["epoch"] == [None, None]
    assert model.trainer.active.numpy().tolist() == [1.0, 1.0]
    model.fit(few, **QUIET)
    assert (counted(model), model.best_epochs(), model.member_rows) == first


def test_each_member_has_its_own_rate(scripted, few):
    model = scripted(*[SEQUENCES["rises to the end"]] * 3, learning_rate=(1.0, 0.5, 2.0))
    model.fit(few, **QUIET)
    assert counted(model) == [6.0, 3.0, 12.0]


def test_a_callback_that_changes_the_rate_changes_that_of_all_members(scripted, few):
    model = scripted(*[SEQUENCES["rises to the end"]] * 3, learning_rate=(1.0, 0.5, 2.0))
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch == 3 else rate)
    model.fit(few, callbacks=[halve], **QUIET)
    assert counted(model) == [4.5, 2.25, 9.0]


def test_a_run_says_which_epoch_each_member_is_of(scripted, few, tmp_path):
    model = scripted(SEQUENCES["one peak"], SEQUENCES["rises to the end"], later_epochs=1)
    run.train(model, few, tmp_path / "run", **QUIET)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["best_epoch"]["scripted"]["epoch"] == [1, 5]
    assert metrics["best_epoch"]["scripted"]["value"] == [3.0, 6.0]
    assert counted(zoo.load(tmp_path / "run")) == [2.0, 6.0]


@pytest.mark.parametrize("interrupted_after", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_an_interrupted_run_stops_members_and_keeps_weights_as_the_whole_one(
    scripted, few, tmp_path, monkeypatch, interrupted_after
):
    sequences = (SEQUENCES["one peak"], SEQUENCES["falls from the start"], SEQUENCES["rises to the end"])
    outs = tmp_path / "whole", tmp_path / "parts"
    run.train(scripted(*sequences, patience=2, later_epochs=2), few, outs[0], **QUIET)
    with monkeypatch.context() as patched:
        stop_after(patched, interrupted_after)
        with pytest.raises(KeyboardInterrupt):
            run.train(scripted(*sequences, patience=2, later_epochs=2), few, outs[1], **QUIET)
    run.train(scripted(*sequences, patience=2, later_epochs=2), few, outs[1], resume=True, **QUIET)
    assert_same_runs(*outs)


def test_a_run_interrupted_after_all_its_members_stopped_trains_no_epoch_more(scripted, few, tmp_path, monkeypatch):
    sequences, options = (SEQUENCES["falls from the start"], SEQUENCES["one peak"]), {"patience": 2, "later_epochs": 2}
    outs = tmp_path / "whole", tmp_path / "parts"
    run.train(scripted(*sequences, **options), few, outs[0], **QUIET)
    with monkeypatch.context() as patched:
        stop_after(patched, 3)
        with pytest.raises(KeyboardInterrupt):
            run.train(scripted(*sequences, **options), few, outs[1], **QUIET)
    run.train(scripted(*sequences, **options), few, outs[1], resume=True, **QUIET)
    assert_same_runs(*outs)


def assert_same_runs(one, other):
    for table in ("members.csv", "history.csv"):
        assert read(one / table) == read(other / table), table
    for key, value in run.state_of(zoo.load(one)).items():
        np.testing.assert_array_equal(value, run.state_of(zoo.load(other))[key], err_msg=key)


def test_a_member_that_diverges_costs_the_others_nothing(scripted, few, tmp_path):
    model = scripted(SEQUENCES["one peak"], [1.0, 2.0, NAN, NAN, NAN, NAN], [NAN] * 6)
    run.train(model, few, tmp_path / "run", **QUIET)
    rows = read(tmp_path / "run" / "members.csv")
    told = [[row["quantity"] for row in rows if row["member"] == member] for member in "012"]
    assert [float(value) for value in told[0]] == SEQUENCES["one peak"]
    assert told[1] == ["1.0", "2.0", "", "", "", ""] and told[2] == [""] * 6
    loaded = zoo.load(tmp_path / "run")
    assert loaded.best_epochs()["scripted"]["epoch"] == [1, 1, None] and counted(loaded) == [2.0, 2.0, 6.0]
