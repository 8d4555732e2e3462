"""What has to be known of events before training is gathered in one pass, and is what separate passes gave."""

from collections import Counter

import numpy as np
import pytest
from linear_model import registered

import pipelines
import tuning
import zoo
from pipelines import Events, InputError, provenance
from pipelines.events.layout import TRUTH
from pipelines.events.mixing import join
from pipelines.events.statistics import MassesOf, gather, masses_of
from pipelines.events.weighting import FlatMass, MeanOne
from zoo import run
from zoo.conformance import example_events
from zoo.keras import keras
from zoo.layers.scalers import Scaling, make

EVENTS = 1200


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weighted events with features, and events made up of particles, both on disk."""
    folder, kinds = tmp_path_factory.mktemp("events"), {}
    jets = pipelines.open("lhco_sim_train").sample(EVENTS, seed=1)
    weight = np.random.default_rng(0).uniform(0.5, 2, EVENTS).astype(np.float32)
    kinds["jets"] = Events.from_arrays(jets.read("features"), jets.mass, jets.columns, weight=weight)
    kinds["particles"] = example_events(True, EVENTS, 0)
    for name, events in kinds.items():
        events.write(folder / f"{name}.h5")
    return {name: folder / f"{name}.h5" for name in kinds}


@pytest.fixture
def reads(monkeypatch):
    """How often every dataset of the events was read in whole, as a number of passes."""
    rows, stored = Counter(), Events._stored

    def counted(self, source, field, start, stop):
        if self.path is not None and field in self.fields:
            rows[field] += (stop - start) / len(source[field])
        return stored(self, source, field, start, stop)

    monkeypatch.setattr(Events, "_stored", counted)
    return rows


class FirstStep(Exception):
    pass


@pytest.fixture
def untrained(monkeypatch):
    """Trainings end where the first step would be."""

    def stop(*args, **options):
        raise FirstStep

    monkeypatch.setattr(keras.Model, "fit", stop)


QUICK = {"batch_size": 256}
WINDOW = {"window": (3300, 3700), "units": (8,), "folds": 2}


@pytest.mark.parametrize(
    "model, data, options",
    [
        ("gan_ae", "jets", {"ae_units": 8, "d_units": (8,)}),
        ("vae", "jets", {"units": (8,)}),
        ("ae", "jets", {"encoder_units": (4,), "columns": ("pt_*", "tau21_*", "mass_*")}),
        ("cwola", "jets", WINDOW),
        ("gcn_vae", "particles", {"multiplicities": True, "high_level_features": True, "columns": ("MET",)}),
    ],
)
def test_events_are_read_twice_before_the_first_step(model, data, options, files, reads, untrained, tmp_path):
    """Once for all that has to be known, once for the batches, which are scaled."""
    events = pipelines.open(files[data])
    with pytest.raises(FirstStep):
        run.train(zoo.get(model, **QUICK, **options), events, tmp_path / "run", verbose=0)
    assert {field: round(passes, 6) for field, passes in reads.items()} == dict.fromkeys(
        sorted(set(events.fields) - set(TRUTH)), 2
    )


def test_a_search_reads_the_events_as_often_whatever_the_number_of_its_trials(files, reads, tmp_path):
    found = []
    with registered():
        for trials in (2, 4):
            reads.clear()
            tuning.search("linear", pipelines.open(files["jets"]), out=tmp_path / f"{trials}", trials=trials, max_epochs=1,
                          algorithm="random", objective="val_loss", jit_compile=False)  # fmt: skip
            found.append(dict(reads))
    assert found[0] == found[1]
    # the checksum, a first look, both samples into memory for the trials and the best, and its checksum
    assert found[0]["features"] <= 5


def test_a_statistic_is_gathered_once_and_forgotten_by_plain_events(files, reads):
    events = pipelines.open(files["jets"])
    for _ in range(2):
        gather(events, MassesOf(events))
    assert reads["mass"] == 2
    remembering = events.remembering()
    first, again = (gather(remembering, MassesOf(events))[0] for _ in range(2))
    assert reads["mass"] == 3
    assert first is again and remembering.remembering() is remembering and events.remembered is None


def test_statistics_of_one_pass_are_those_of_several(files):
    events = pipelines.open(files["jets"])
    names = [("pt_1", "mass_1"), ("mass_heavy", "pt_2")]  # stored and derived, in other orders than in the file
    scalers = [make(kind) for kind in ("minmax", "standard", "quantile")]
    for scaler in scalers:
        scaler.build((None, 2))
    wanted = [Scaling(scaler, 0, columns=columns) for scaler in scalers for columns in names]
    together = gather(events, *wanted, provenance.Checksum(events))
    for statistic, found in zip(wanted, together):
        alone = Scaling(scalers[0], 0) if statistic is None else statistic
        direct = make({"MinMax": "minmax", "Standard": "standard", "Quantile": "quantile"}[alone.key[1]])
        direct.build((None, 2))
        direct.adapt([events.read("features", alone.columns)])
        for value, expected in zip(found, direct.variables):
            np.testing.assert_allclose(value, expected.numpy(), rtol=1e-6)
    assert together[-1] == provenance.checksum(events)


def test_masses_follow_a_selection(files, reads):
    events = pipelines.open(files["jets"]).remembering()
    masses_of(events)
    part = events.sample(100, seed=3)
    found = masses_of(part)
    assert reads["mass"] == 1
    np.testing.assert_array_equal(found.mass, part.mass)
    np.testing.assert_array_equal(found.weight, part.weight)
    assert provenance.checksum(part) != provenance.checksum(events)


def test_weightings_are_the_same_of_remembered_masses(files):
    events = pipelines.open(files["jets"])
    for weighting in (MeanOne, FlatMass):
        one, other = weighting(events), weighting(events.remembering())
        np.testing.assert_array_equal(one(events.mass), other(events.mass))
    product = MeanOne(events)(events.mass) * events.weight
    assert product.mean(dtype=np.float64) == pytest.approx(1, rel=1e-6)


def test_events_that_a_process_is_sent_remember_for_themselves(files):
    import pickle

    events = pipelines.open(files["jets"]).remembering()
    masses_of(events)
    sent = pickle.loads(pickle.dumps(events))
    assert sent.remembered == {} and provenance.checksum(sent) == provenance.checksum(events)


def test_a_column_that_is_not_used_may_have_any_value_until_a_run_has_its_checksum(tmp_path):
    features = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    features[7, 2] = np.nan
    events = Events.from_arrays(features, np.linspace(3000, 4000, 300), ["pt_1", "mass_1", "odd"])
    model = zoo.get("pca", columns=("pt_1", "mass_1"), latent_dim=1, batch_size=100)
    model.adapt(events)
    with pytest.raises(InputError, match="odd"):
        run.train(model, events, tmp_path / "run", verbose=0)


def test_events_of_several_sources_can_be_held_in_memory(files):
    events = pipelines.open(files["jets"])
    joined = join([events.sample(100), events.sample(50, seed=1)])
    held = joined.in_memory()
    assert provenance.checksum(held) == provenance.checksum(joined) and held.files == ()
