"""The claims of the contract, each a function that raises `AssertionError` where it does not hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import tensorflow as tf

import pipelines
from pipelines.datasets.darkmachines_events import OBJECT_COLUMNS, SLOTS
from pipelines.events.events import Events
from zoo import registry, run
from zoo.conformance.subject import Draw, Subject, arrays, eagerly, made_again, refused, same

Check = Callable[[Subject, Path], None]
CHECKS: dict[str, Check] = {}


def claim(check: Check) -> Check:
    """Register a check under the claim that its name makes."""
    CHECKS[check.__name__.replace("_", " ")] = check
    return check


@claim
def training_records_every_epoch_of_every_phase(subject: Subject, folder: Path) -> None:
    model = subject.trained()
    assert list(model.histories) == [phase.name for phase in model.recipe() if phase.epochs]
    for history in model.histories.values():
        assert history.epoch == list(range(history.params["epochs"]))
        for key, values in history.history.items():
            assert len(values) == len(history.epoch) and np.isfinite(values).all(), key
    last = model.histories[model.recipe()[model.main_phase].name].history
    assert {key for key in last if key.startswith("val_")} == {f"val_{k}" for k in last if not k.startswith("val_")}


@claim
def validation_and_training_loss_agree_on_the_same_events(subject: Subject, folder: Path) -> None:
    still = {name: 0.0 for name in ("dropout_rate",) if subject.has(name)}
    still |= {name: 1e-12 for name in ("learning_rate",) if subject.has(name)}
    asked = subject.make(**still)
    asked.adapt(subject.train)
    all_events, _ = asked.amount_trained(subject.train)  # a model may leave out some, or bring its own
    model = subject.make(batch_size=all_events, **still)
    with eagerly():
        history = model.fit(subject.train, subject.train, epochs=1, verbose=0, jit_compile=False).history
    rtol = 0.1 if subject.kind.stochastic else 1e-3  # other random numbers
    np.testing.assert_allclose(history["val_loss"], history[subject.kind.validated_by], rtol=rtol)


@claim
def training_is_bit_by_bit_the_same_from_memory_from_disk_and_from_the_file(subject: Subject, folder: Path) -> None:
    subject.train.write(folder / "events.h5")
    events, found = pipelines.open(folder / "events.h5"), []
    for room in ({"memory": 2**30}, {"memory": 0, "cache": folder}, {"memory": 0, "cache": ""}):
        model = subject.again(events, events.sample(300), epochs=1, **room)
        history = model.histories[model.recipe()[model.main_phase].name].history
        assert np.isfinite(history["val_loss"]).all()
        found.append((history, model.score(events)))
    for history, score in found[1:]:
        assert history == found[0][0]
        same(score, found[0][1], "scores")


@claim
def a_constant_factor_on_all_event_weights_changes_nothing(subject: Subject, folder: Path) -> None:
    weight, scores = np.random.default_rng(5).exponential(size=len(subject.train)), []
    for factor in (1.0, 1024.0):  # a power of two: every product is rounded alike
        events = made_again(subject.train, weight=factor * weight)
        scores.append(subject.again(events, events.sample(300), epochs=1).score(subject.test))
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-3, atol=1e-6 * np.abs(scores[0]).max())


@claim
def no_variable_is_an_int32_that_a_gpu_program_could_not_reach(subject: Subject, folder: Path) -> None:
    model = subject.trained()
    assert all(v.dtype != tf.int32 for v in (*model.variables, *run.state_of(model).values()))


@claim
def a_batch_can_be_scored(subject: Subject, folder: Path) -> None:
    model = subject.trained()
    same(model.score(arrays(model, subject.test)), model.score(subject.test), "scores of a batch, and of events")


@claim
def score_is_one_finite_number_per_event(subject: Subject, folder: Path) -> None:
    model = subject.trained()
    assert model.score_kinds, "score_kinds is empty; name at least one"
    for kind in model.score_kinds:
        score = model.score(subject.test, kind)
        assert score.shape == (len(subject.test),) and score.dtype == np.float32, (
            f"{kind}: {score.shape} of {score.dtype}"
        )
        assert np.isfinite(score).all(), f"{kind}: NaN or infinite"


@claim
def what_the_model_infers_is_what_it_says(subject: Subject, folder: Path) -> None:
    model = subject.trained()
    found = model.infer(*model.inputs.zeros(3))
    missing = [kind for kind in model.score_kinds if kind not in found]
    assert not missing, f"infer gives no {missing[0]!r}, which is in score_kinds"
    given = "reconstructed" in found
    assert given == model.reconstructs, f"reconstructs is {model.reconstructs}, and infer gives {', '.join(found)}"


@claim
def events_far_from_the_training_sample_score_elsewhere(subject: Subject, folder: Path) -> None:
    from scipy.stats import ks_2samp

    model = subject.trained()
    given = arrays(model, subject.train)
    shifted = {name: array if name == "mass" else _moved(array) for name, array in given.items()}
    for kind in model.score_kinds:
        near, far = model.score(given, kind), model.score(shifted, kind)
        # the method does not say where they go, but they go somewhere
        if kind in model.undirected or not model.outliers_score_high:
            assert ks_2samp(near, far).statistic > 0.1, kind
        else:
            assert np.median(far) > np.quantile(near, 0.95), kind


def _moved(array: np.ndarray) -> np.ndarray:
    """Return all values, but for those of empty slots, five standard deviations away."""
    there = (array != 0).any(axis=-1) | (array.ndim == 2)
    return np.where(there[..., None], array + 5.0 * array[there].std(axis=0), 0.0)


@claim
def reset_starts_over_exactly(subject: Subject, folder: Path) -> None:
    score = subject.again().score(subject.train)
    _depends_on_the_seed(subject, score, subject.again(seed=4).score(subject.train))
    same(subject.again().score(subject.train), score, "scores after two resets to one seed")


@claim
def two_models_of_one_seed_are_the_same_whatever_was_trained_before(subject: Subject, folder: Path) -> None:
    # a window needs some in it, and of no more than `sample` none would be drawn
    several = subject.has("window") or subject.has("sample")
    few, scores = subject.train.sample(1000 if several else 300), []
    for seed in (3, 4, 3):
        model = subject.make(seed=seed, batch_size=len(few))
        with eagerly():
            model.fit(few, epochs=1, verbose=0)
            scores.append(model.score(few))
    same(scores[0], scores[2], "scores of two models of one seed")
    _depends_on_the_seed(subject, scores[0], scores[1])


def _depends_on_the_seed(subject: Subject, score: np.ndarray, other: np.ndarray) -> None:
    """Raise `AssertionError` where scores of two seeds are the same, or, of a model that draws nothing, are not."""
    differ = np.abs(other - score).max() > 1e-3 * score.std()
    if subject.kind.seedless:
        assert not differ, "seedless is True, and another seed gives other scores"
    else:
        more = f"; a `sample` is drawn only of more events, here of {len(score)}" if subject.has("sample") else ""
        told = "another seed gives the same scores; expected others, unless the model says `seedless = True`"
        assert differ, told + more


@claim
def xla_and_plain_training_agree(subject: Subject, folder: Path) -> None:
    model = subject.make()
    model.fit(subject.train, epochs=1, verbose=0, jit_compile=True)
    score = subject.again(epochs=1).score(subject.train)
    np.testing.assert_allclose(score, model.score(subject.train), rtol=1e-3, atol=1e-4 * score.std())


@claim
def training_step_is_traced_once_whatever_the_epochs_and_phases(subject: Subject, folder: Path) -> None:
    model = subject.trained()
    with subject.counting_traces():
        subject.fit(model, epochs=5, initial_epoch=2)
        model.reset(**{name: getattr(model.hp, name) for name in model.runtime_hyperparameters})
        subject.fit(model, epochs=1)
    assert len(subject.traces) == len({phase.program for phase in model.recipe()}), f"{len(subject.traces)} traces"


@claim
def config_round_trip(subject: Subject, folder: Path) -> None:
    model = subject.make()
    config = model.get_config()
    assert subject.kind(**config).get_config() == config


@claim
def a_saved_run_has_the_same_scores(subject: Subject, folder: Path) -> None:
    model = subject.trained()
    with registry.registered(subject.kind):
        model.save_run(folder / "run")
        loaded = run.load(folder / "run")
    for kind in model.score_kinds:
        same(loaded.score(subject.test, kind), model.score(subject.test, kind), kind)


@claim
def training_goes_on_from_a_state_as_if_it_had_not_stopped(subject: Subject, folder: Path) -> None:
    model = subject.again(epochs=1)
    run.save_state(model, folder / "state.h5")
    subject.again(epochs=1, seed=4)  # nothing of it is left but its programs
    model.reset(seed=3)
    run.load_state(model, folder / "state.h5")
    subject.fit(model, epochs=model.epochs, initial_epoch=1)
    same(
        model.score(subject.train), subject.trained().score(subject.train), "scores of one training, and of two halves"
    )


@claim
def export_gives_the_same_scores_from_raw_features(subject: Subject, folder: Path) -> None:
    model = subject.trained()
    model.export(folder / "served")
    served = tf.saved_model.load(folder / "served")
    columns = {key: [c.decode() for c in names.numpy()] for key, names in served.signatures["columns"]().items()}
    assert columns["columns"] == list(model.resolved_columns)
    assert columns.get("object_columns", []) == list(model.inputs.object_columns)
    given = {key: tf.constant(array) for key, array in arrays(model, subject.test).items()}
    found = served.signatures["serving_default"](**given)
    np.testing.assert_allclose(found["score"], model.score(subject.test), rtol=1e-5, atol=1e-7)
    for kind in model.score_kinds:
        np.testing.assert_allclose(found[kind], model.score(subject.test, kind), rtol=1e-5, atol=1e-7)


@claim
def score_looks_at_neither_mass_nor_label(subject: Subject, folder: Path) -> None:
    model, events = subject.trained(), subject.test
    same(model.score(made_again(events, label=3 - events.label)), model.score(events), "scores with other labels")
    changed = model.score(made_again(events, mass=events.mass[::-1]))
    if model.scores_by_mass:
        assert (changed != model.score(events)).any(), (
            "scores_by_mass is True, and the score does not change with the mass"
        )
    else:
        same(changed, model.score(events), "scores with other masses")
    assert events.about.mass_column not in model.resolved_columns


@claim
def labels_never_train(subject: Subject, folder: Path) -> None:
    blind = made_again(subject.train, label=None)
    assert not blind.has_labels and subject.train.has_labels
    score = subject.again(blind, blind.sample(300)).score(blind)
    same(score, subject.trained().score(blind), "scores of trainings with and without labels")


@claim
def no_label_is_read_while_training(subject: Subject, folder: Path) -> None:
    read: list[str] = []
    blocks = Events.blocks

    def noted(events, *fields, **options):
        read.extend(fields)
        return blocks(events, *fields, **options)

    with mock.patch.object(Events, "blocks", noted):
        subject.again(epochs=1)
    assert set(read) & {"features", "objects"} and "label" not in read


@claim
def columns_are_found_by_name_in_any_order(subject: Subject, folder: Path) -> None:
    shuffled = made_again(subject.test, np.random.default_rng(0))
    assert shuffled.columns != subject.test.columns
    model = subject.trained()
    same(model.score(shuffled), model.score(subject.test), "scores of events with their columns in another order")


@claim
def missing_column_is_named(subject: Subject, folder: Path) -> None:
    events, gone = subject.train, subject.trained().resolved_columns[0]
    kept = [i for i, column in enumerate(events.columns) if column != gone]
    columns = [events.columns[i] for i in kept]
    fewer = made_again(events, features=events.read("features")[:, kept], columns=columns)
    with refused(f"no column '{re.escape(gone)}'"):
        subject.make(columns=subject.trained().resolved_columns).fit(fewer, verbose=0)


@claim
def bad_arrays_are_refused_with_their_reason(subject: Subject, folder: Path) -> None:
    model = subject.trained()
    good = {key: np.ones((7, *shape), np.float32) for key, shape in model.inputs.shapes.items()}
    for key, shape in model.inputs.shapes.items():
        if not shape:  # the mass
            with refused("takes the mass of an event"):
                model.score(good["features"])
            with refused(rf"{key} have shape \(7, 2\), expected \(N,\)"):
                model.score({**good, key: np.zeros((7, 2))})
            continue
        *lengths, width = shape
        before = "".join(f"{n}, " for n in (7, *lengths))
        with refused(rf"{key} have shape \({before}{width + 1}\), expected \(N, {before[3:]}{width}\)"):
            model.score({**good, key: np.zeros((7, *lengths, width + 1))})
        with refused("NaN or infinite values"):
            model.score({**good, key: np.full((7, *lengths, width), np.nan)})
        with refused(f"no array '{key}'"):
            model.score({other: array for other, array in good.items() if other != key})
    with refused("no events"):
        model.score({key: array[:0] for key, array in good.items()})
    with refused("score kind 'nonsense'"):
        model.score(good, "nonsense")
    with refused("fewer than one batch"):
        subject.make().fit(subject.train.take(np.arange(7)), verbose=0)


@claim
def untrained_model_says_so(subject: Subject, folder: Path) -> None:
    with refused("has not met any data"):
        subject.make().score(np.zeros((7, 3)))


@claim
def search_space_gives_hyperparameters_that_the_model_takes(subject: Subject, folder: Path) -> None:
    for seed in range(20):
        hp = Draw(seed)
        subject.kind(**subject.kind.search_space(hp))
        assert len(hp.names) >= 2, "fewer than two hyperparameters are searched"


@claim
def every_preset_and_the_defaults_can_be_built(subject: Subject, folder: Path) -> None:
    assert (subject.kind.__doc__ or "").strip(), "no docstring, which `zoo show` prints"
    window = {"window": (3300, 3700)} if subject.has("window") else {}
    with eagerly():
        for preset in ({}, *subject.kind.presets.values()):
            model = subject.kind(**window, **preset)
            if subject.takes_objects:
                model.build_for(model.hp.columns, OBJECT_COLUMNS, sum(SLOTS))
            else:
                model.build_for([f"x{i}" for i in range(5)])
            zeros = {key: np.zeros((3, *shape)) for key, shape in model.inputs.shapes.items()}
            assert model.score(zeros).shape == (3,)
