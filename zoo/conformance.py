"""The contract of `AnomalyModel`, as checks that any model can be put through: by `zoo check`, by `zoo.check`, by tests.

Each check is a claim about a model, and a function that raises `AssertionError` where it does not hold. The model is
trained a few times on some thousand events, made small by the hyperparameters of `SMALL` that it has.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import functools
import random
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf

import pipelines
from pipelines.datasets.darkmachines import OBJECT_COLUMNS, SLOTS
from pipelines.errors import InputError
from pipelines.events.events import Events
from zoo import registry, run
from zoo.base import AnomalyModel, ObjectHyperparameters
from zoo.models.gan_ae import COLUMNS
from zoo.models.set_vae import HIGH_LEVEL

# Whatever a model has of these is made small; a model without them is trained as it is.
SMALL = {
    "columns": COLUMNS,
    "batch_size": 256,
    "cycles": 2,
    "epochs": 2,
    "d_epochs": 2,
    "ae_epochs": 1,
    "pretraining_epochs": 1,
    "ae_units": 16,
    "d_units": (16, 8),
    "latent_dim": 4,
    "channels": (8, 4, 2),
    "decoder_epochs": 2,
}
# and what makes a model of objects take all that it can
OBJECTS = {"columns": HIGH_LEVEL, "high_level_features": True, "multiplicities": True}


def example_events(objects: bool, size: int, seed: int = 0, name: str = "lhco_sim_train") -> Events:
    """Return events with labels that mean nothing: features of an embedded sample, or objects, made-up particles.

    >>> example_events(True, 10).shape_of("objects")
    (39, 5)
    """
    if objects:
        return _particles(size, seed)
    events = pipelines.open(name).select(mass_range=(2700, 5000)).sample(size, seed=seed)
    features = events.read("features")
    return Events.from_arrays(features, events.mass, events.columns, label=(features[:, 0] > 1300).astype("int8"))


def _particles(size: int, seed: int) -> Events:
    """Events as Dark Machines has them: 39 slots by type, falling pt, some empty; MET and HT."""
    rng = np.random.default_rng(seed)
    objects = np.zeros((size, sum(SLOTS), len(OBJECT_COLUMNS)), np.float32)
    first = np.cumsum(SLOTS) - SLOTS
    for kind, (start, slots) in enumerate(zip(first, SLOTS), 1):
        found = np.minimum(rng.poisson(4.0, size) + 1 if kind == 1 else rng.poisson(0.5, size), slots)
        pt = 20 - np.sort(-rng.exponential(60.0, (size, slots)), axis=1)
        eta, phi = rng.normal(0, 1.2, pt.shape), rng.uniform(-np.pi, np.pi, pt.shape)
        block = np.stack([pt * np.cosh(eta), pt, eta, phi, np.full(pt.shape, kind)], axis=-1)
        objects[:, start : start + slots] = np.where((np.arange(slots) < found[:, None])[..., None], block, 0)
    met, ht = 50 + rng.exponential(100.0, size), objects[:, : SLOTS[0] + SLOTS[1], 1].sum(axis=1)
    features, label = np.stack([met, ht, rng.normal(size=size)], axis=1), (met > 200).astype("int8")
    about: dict[str, Any] = {"objects": objects, "object_columns": OBJECT_COLUMNS, "mass_column": "meff"}
    return Events.from_arrays(features, met + ht, ["MET", "HT", "noise"], label=label, **about)


class Subject:
    """A model that is checked: how to make a small one, events for it, and one that was trained once.

    Args:
        model: a registered name, or a subclass of `zoo.AnomalyModel`.
        hyperparameters: over those of `SMALL`.

    Attributes:
        train, test: events, 1500 and 1000.
        traces: one entry for each time that the training step of the one model was traced.
    """

    def __init__(self, model: str | type[AnomalyModel], hyperparameters: Mapping[str, object] | None = None):
        kind: Any = registry.model_class(model) if isinstance(model, str) else model
        self.kind: Any = kind
        if kind.data_kind != "events":
            raise InputError(f"{model}: a model of {kind.data_kind}; the contract is that of models of events")
        self.given = dict(hyperparameters or {})
        self.train, self.test = (
            example_events(self.takes_objects, 1500, 1),
            example_events(self.takes_objects, 1000, 2, "lhco_sim_test"),
        )
        self.traces: list[int] = []

    @property
    def takes_objects(self) -> bool:
        """Whether the model takes objects, such as particles."""
        return issubclass(self.kind.Hyperparameters, ObjectHyperparameters)

    def make(self, **hyperparameters: object) -> AnomalyModel:
        """Return a small model, untrained, of seed 3 unless it is given."""
        own, objects = self.kind.Hyperparameters.defaults(), OBJECTS if self.takes_objects else {}
        small = {name: value for name, value in {**SMALL, **objects}.items() if name in own}
        return self.kind(**{**small, "seed": 3, **self.given, **hyperparameters})

    def has(self, hyperparameter: str) -> bool:
        """Tell whether the model has a hyperparameter of this name."""
        return hyperparameter in self.kind.Hyperparameters.defaults()

    @functools.cached_property
    def _one(self) -> tuple[AnomalyModel, dict[str, np.ndarray]]:
        """The one model, trained and, to see that this traces nothing anew, reset and trained again; and its state then."""
        model = self.make()
        with self.counting_traces():
            self.fit(model)
            model.reset(seed=model.hp.seed)
            self.fit(model)
        return model, {key: value.numpy() for key, value in run.state_of(model).items()}

    @contextlib.contextmanager
    def counting_traces(self) -> Iterator[None]:
        """Note every tracing of the training step in `traces`."""
        step = self.kind.train_step

        def counted(model, batch):
            self.traces.append(1)
            return step(model, batch)

        with mock.patch.object(self.kind, "train_step", counted):
            yield

    def fit(
        self, model: AnomalyModel, events: Events | None = None, validation: Events | None = None, **options
    ) -> None:
        """Train without XLA, which the checks of numbers do not need."""
        events, validation = events or self.train, validation or self.train.sample(300)
        model.fit(events, validation, verbose=0, **{"jit_compile": False, **options})

    def trained(self) -> AnomalyModel:
        """Return the one model as its first training left it, whatever another check did with it."""
        model, state = self._one
        for key, variable in run.state_of(model).items():
            variable.assign(state[key])
        return model

    def again(
        self, events: Events | None = None, validation: Events | None = None, seed: int = 3, **options
    ) -> AnomalyModel:
        """Return the one model, trained anew: tracing takes nearly all of a small training's time."""
        model, _ = self._one
        model.adapt(self.train)
        model.reset(seed=seed)
        self.fit(model, events, validation, **options)
        return model


Check = Callable[[Subject, Path], None]
CHECKS: dict[str, Check] = {}


def claim(check: Check) -> Check:
    """Register a check under the claim that its name makes."""
    CHECKS[check.__name__.replace("_", " ")] = check
    return check


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Whether a claim holds for a model, and if not why: the first lines of what was found."""

    claim: str
    holds: bool
    reason: str = ""


def check(
    model: str | type[AnomalyModel],
    hyperparameters: Mapping[str, object] | None = None,
    pattern: str = "*",
    progress: Callable[[Outcome], object] = lambda outcome: None,
) -> list[Outcome]:
    """Put a model through the contract of `AnomalyModel`; return which claims hold.

    Args:
        model: a registered name, or a subclass of `zoo.AnomalyModel`.
        hyperparameters: of the small model, over those of `SMALL` that it has.
        pattern: of the claims to check, for the shell, as "*seed*".
        progress: called with every outcome.

    Raises `InputError` for an unknown model, one of spectra, or a pattern that no claim matches.

    >>> [outcome.holds for outcome in check("deep_svdd", pattern="config*")]
    [True]
    """
    chosen = {text: one for text, one in CHECKS.items() if fnmatch.fnmatch(text, pattern)}
    if not chosen:
        raise InputError(f"no claim matches {pattern!r}; expected a pattern of {', '.join(CHECKS)}")
    subject, outcomes = Subject(model, hyperparameters), []
    for text, one in chosen.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                one(subject, Path(folder))
                outcomes.append(Outcome(text, True))
            except Exception as error:  # of the model's own code, which may raise anything
                outcomes.append(Outcome(text, False, _first_lines(error)))
        progress(outcomes[-1])
    return outcomes


def _first_lines(error: BaseException) -> str:
    text = " ".join(line.strip() for line in str(error).strip().splitlines()[:8] if line.strip())
    return f"{type(error).__name__}: {text}"[:400]


# -- what the checks need ------------------------------------------------------------------------------------


def arrays(model: AnomalyModel, events: Events) -> dict[str, np.ndarray]:
    """Return what the model takes of events, as a batch has it."""
    return {name: events.read(name, model.resolved_columns) for name in model.inputs.shapes}


def made_again(events: Events, order: np.random.Generator | None = None, **changes: object) -> Events:
    """Return the same events in memory but for what is changed, with their columns in another order."""
    fields: dict = {name: events.read(name) for name in ("features", "objects", "label") if events.has(name)}
    columns, object_columns = events.columns, events.about.object_columns
    if order is not None:
        by = order.permutation(len(columns))
        fields["features"], columns = fields["features"][:, by], tuple(columns[i] for i in by)
        if "objects" in fields:
            by = order.permutation(len(object_columns))
            fields["objects"], object_columns = fields["objects"][..., by], tuple(object_columns[i] for i in by)
    fields = {"mass": events.mass, "columns": columns, "object_columns": object_columns, **fields, **changes}
    return Events.from_arrays(fields.pop("features"), fields.pop("mass"), fields.pop("columns"), **fields)


def same(found: object, expected: object, what: str) -> None:
    """Raise `AssertionError` unless two arrays are equal, bit by bit."""
    np.testing.assert_array_equal(found, expected, err_msg=what)


@contextlib.contextmanager
def refused(pattern: str) -> Iterator[None]:
    """Raise `AssertionError` unless what is done inside raises an `InputError` whose message matches the pattern."""
    try:
        yield
    except InputError as error:
        assert re.search(pattern, str(error)), f"the message {str(error)!r} does not say {pattern!r}"
    else:
        raise AssertionError(f"nothing was raised; expected an InputError that says {pattern!r}")


@contextlib.contextmanager
def eagerly() -> Iterator[None]:
    """Do without tracing, where every step is done a few times only and nothing is asked of the traced program."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


class _Draw:
    """Stands for KerasTuner's `HyperParameters`, of which it has what search spaces use: values drawn by a seed."""

    def __init__(self, seed: int):
        self._random, self.names = random.Random(seed), set[str]()

    def _drawn(self, name: str, value):
        self.names.add(name)
        return value

    def Int(self, name, min_value, max_value, step=None, **options):
        values = (
            range(min_value, max_value + 1, step or 1)
            if options.get("sampling") != "log"
            else range(min_value, max_value + 1)
        )
        return self._drawn(name, self._random.choice(values))

    def Float(self, name, min_value, max_value, **options):
        return self._drawn(name, self._random.uniform(min_value, max_value))

    def Choice(self, name, values, **options):
        return self._drawn(name, self._random.choice(list(values)))

    def Boolean(self, name, **options):
        return self._drawn(name, self._random.random() < 0.5)

    def Fixed(self, name, value, **options):
        return self._drawn(name, value)

    @contextlib.contextmanager
    def conditional_scope(self, parent, values):
        yield


# -- the contract --------------------------------------------------------------------------------------------


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
    model = subject.make(batch_size=len(subject.train), **still)
    with eagerly():
        history = model.fit(subject.train, subject.train, epochs=1, verbose=0, jit_compile=False).history
    rtol = 0.1 if subject.kind.stochastic else 1e-3  # other random numbers
    np.testing.assert_allclose(history["val_loss"], history["loss"], rtol=rtol)


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
    shifted = {name: _moved(array) for name, array in given.items()}
    for kind in model.score_kinds:
        near, far = model.score(given, kind), model.score(shifted, kind)
        if kind in model.undirected:  # the method does not say where they go, but they go somewhere
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
    other = subject.again(seed=4).score(subject.train)
    assert np.abs(other - score).max() > 1e-3 * score.std(), "another seed gives the same scores"
    same(subject.again().score(subject.train), score, "scores after two resets to one seed")


@claim
def two_models_of_one_seed_are_the_same_whatever_was_trained_before(subject: Subject, folder: Path) -> None:
    scores = []
    for seed in (3, 4, 3):
        model = subject.make(seed=seed, batch_size=len(subject.train))
        with eagerly():
            model.fit(subject.train, epochs=1, verbose=0)
            scores.append(model.score(subject.train))
    same(scores[0], scores[2], "scores of two models of one seed")
    assert np.abs(scores[0] - scores[1]).max() > 1e-3 * scores[0].std(), "another seed gives the same scores"


@claim
def xla_and_plain_training_agree(subject: Subject, folder: Path) -> None:
    model = subject.make()
    model.fit(subject.train, epochs=1, verbose=0, jit_compile=True)
    score = subject.again(epochs=1).score(subject.train)
    np.testing.assert_allclose(score, model.score(subject.train), rtol=1e-3)


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
    with contextlib.nullcontext() if model.zoo_name in registry.names() else _registered(subject.kind):
        model.save_run(folder / "run")
        loaded = run.load(folder / "run")
    for kind in model.score_kinds:
        same(loaded.score(subject.test, kind), model.score(subject.test, kind), kind)


@contextlib.contextmanager
def _registered(model: type[AnomalyModel]) -> Iterator[None]:
    """Have a class under its own name in the register while it is checked."""
    name = model.zoo_name or model.__name__
    with mock.patch.dict(registry._models, {name: model}), mock.patch.object(model, "zoo_name", name):
        yield


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
    altered = made_again(events, mass=events.mass[::-1], label=3 - events.label)
    same(model.score(altered), model.score(events), "scores with other masses and labels")
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
    for key, (*lengths, width) in model.inputs.shapes.items():
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
        hp = _Draw(seed)
        subject.kind(**subject.kind.search_space(hp))
        assert len(hp.names) >= 2, "fewer than two hyperparameters are searched"


@claim
def every_preset_and_the_defaults_can_be_built(subject: Subject, folder: Path) -> None:
    assert (subject.kind.__doc__ or "").strip(), "no docstring, which `zoo show` prints"
    with eagerly():
        for preset in ({}, *subject.kind.presets.values()):
            model = subject.kind(**preset)
            if subject.takes_objects:
                model.build_for(model.hp.columns, OBJECT_COLUMNS, sum(SLOTS))
            else:
                model.build_for([f"x{i}" for i in range(5)])
            zeros = {key: np.zeros((3, *shape)) for key, shape in model.inputs.shapes.items()}
            assert model.score(zeros).shape == (3,)
