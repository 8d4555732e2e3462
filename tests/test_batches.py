"""Batches: static shapes, honest passes, the same from memory and from disk, and blind to truth."""

import gc
import itertools

import h5py
import numpy as np
import pytest
import tensorflow as tf
from linear_model import Linear
from scipy.stats import spearmanr
from tensorflow.python.data.ops.iterator_ops import OwnedIterator

from pipelines import Events, InputError
from pipelines.events import batches
from pipelines.events import row_cache as rows_module
from pipelines.events.batches import Batches
from pipelines.events.layout import TRUTH
from pipelines.events.mixing import join, mix, write_spread
from pipelines.events.weighting import FlatMass
from zoo.keras import keras

SIZE, B = 1000, 64  # 15 whole batches and 40 events left over
COLUMNS = ["number", "pt_1"]
UNIT, POOL = batches.UNIT, batches.POOL  # before `small_units`


@pytest.fixture
def arrays():
    rng = np.random.default_rng(5)
    return {
        "features": np.stack([np.arange(SIZE), rng.normal(size=SIZE)], axis=1),
        "mass": np.sort(rng.uniform(2700, 7000, SIZE)),  # the order of the file is that of the mass: the worst one
        "weight": rng.uniform(0.5, 2, SIZE),
        "label": (np.arange(SIZE) > 900).astype(np.int8),
        "process": np.arange(SIZE) % 7,
    }


@pytest.fixture
def events(arrays, tmp_path):
    Events.from_arrays(columns=COLUMNS, **arrays).write(tmp_path / "events.h5")
    return Events.from_file(tmp_path / "events.h5")


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    """Units and pools that suit 1000 events: 32 units in pools of 8."""
    monkeypatch.setattr(batches, "UNIT", 32)
    monkeypatch.setattr(batches, "LEAST", 8)
    monkeypatch.setattr(batches, "POOL", 1)


IN_MEMORY, ON_DISK, FROM_FILE = {"memory": 2**30}, {"memory": 0, "cache": "/var/tmp"}, {"memory": 0, "cache": ""}
both = pytest.mark.parametrize("kept", [IN_MEMORY, ON_DISK, FROM_FILE], ids=["memory", "disk", "file"])


def passes(made, count, first=0):
    """The event numbers of so many passes, in order, (count, events of a pass)."""
    data = made.shuffled(first).take(count * made.steps).as_numpy_iterator()
    return np.concatenate([batch["features"][:, 0] for batch in data]).astype(int).reshape(count, -1)


# -- shapes and content -------------------------------------------------------------------------------------


@both
def test_shapes_are_static_so_that_xla_compiles_once(kept, events):
    made = Batches(events, COLUMNS, B, **kept)
    for data in (made.shuffled(), made.ordered()):
        spec = data.element_spec
        assert {name: tuple(s.shape) for name, s in spec.items()} == {"features": (B, 2), "mass": (B,), "weight": (B,)}
        assert {s.dtype.name for s in spec.values()} == {"float32"}
        assert next(iter(data))["features"].shape == (B, 2)


@both
def test_a_row_keeps_its_features_mass_and_weight_together(kept, events, arrays):
    for batch in Batches(events, ["pt_1", "number"], B, **kept).shuffled().take(20).as_numpy_iterator():
        rows = batch["features"][:, 1].astype(int)
        np.testing.assert_array_equal(batch["features"][:, 0], arrays["features"][rows, 1].astype(np.float32))
        np.testing.assert_array_equal(batch["mass"], arrays["mass"][rows].astype(np.float32))
        np.testing.assert_array_equal(batch["weight"], arrays["weight"][rows].astype(np.float32))


@both
def test_transform_is_applied_to_the_features_alone(kept, events, arrays):
    made = Batches(events, COLUMNS, B, **kept, transform=lambda x: 2 * x + 1)
    batch = next(made.ordered().as_numpy_iterator())
    np.testing.assert_allclose(batch["features"], 2 * arrays["features"][:B] + 1, rtol=1e-6)
    np.testing.assert_array_equal(batch["mass"], arrays["mass"][:B].astype(np.float32))


@both
def test_weighting_by_mass_multiplies_the_events_own_weights(kept, events, arrays):
    flat = FlatMass(events, bins=20)
    made = Batches(events, COLUMNS, B, **kept, weighting=flat)
    batch = next(made.ordered().as_numpy_iterator())
    expected = arrays["weight"].astype(np.float32)[:B] * flat(events.mass[:B])
    np.testing.assert_allclose(batch["weight"], expected, rtol=1e-6)
    assert np.ptp(expected / arrays["weight"][:B]) > 0


@both
def test_events_without_weights_weigh_one(kept, arrays):
    events = Events.from_arrays(arrays["features"], arrays["mass"], COLUMNS)
    batch = next(Batches(events, COLUMNS, B, **kept).shuffled().as_numpy_iterator())
    assert batch["weight"].tolist() == [1.0] * B


@both
def test_labels_are_never_read_by_batches(kept, events, monkeypatch):
    monkeypatch.setattr(Events, "label", property(lambda self: pytest.fail("labels were asked for")))
    stored = Events._stored

    def watch(self, source, field, start, stop):
        assert field not in TRUTH, "truth was read"
        return stored(self, source, field, start, stop)

    monkeypatch.setattr(Events, "_stored", watch)
    with pytest.raises(AssertionError):
        next(events.blocks("label"))
    made = Batches(events, COLUMNS, B, **kept, weighting=FlatMass(events))
    for data in (made.shuffled().take(2 * made.steps), made.ordered()):
        assert all(sorted(batch) == ["features", "mass", "weight"] for batch in data.as_numpy_iterator())


@both
def test_labels_do_not_change_a_batch(kept, events, arrays):
    blind = Events.from_arrays(columns=COLUMNS, **{k: v for k, v in arrays.items() if k not in TRUTH})
    one, other = (Batches(e, COLUMNS, B, **kept).shuffled().as_numpy_iterator() for e in (events, blind))
    for batch, twin in itertools.islice(zip(one, other), 20):
        assert all((batch[name] == twin[name]).all() for name in batch)


@both
def test_fewer_events_than_a_batch_are_refused(kept, events):
    with pytest.raises(InputError) as error:
        Batches(events.sample(63), COLUMNS, B, **kept)
    assert all(word in str(error.value) for word in (events.name, "63 events", "batch of 64", "lower batch_size"))
    made = Batches(events.sample(64), COLUMNS, B, **kept)
    assert made.steps == 1 and sorted(passes(made, 1)[0]) == sorted(events.sample(64).read("features")[:, 0])


# -- passes -------------------------------------------------------------------------------------------------


@both
def test_pass_visits_every_event_at_most_once_and_leaves_out_less_than_a_batch(kept, events):
    made = Batches(events, COLUMNS, B, **kept)
    assert made.steps == SIZE // B
    left_out = []
    for seen in passes(made, 4):
        assert len(seen) == len(set(seen)) == made.steps * B and set(seen) <= set(range(SIZE))
        left_out.append(frozenset(range(SIZE)) - set(seen))
    assert len(set(left_out)) == 4  # other ones at each pass


@both
def test_pass_of_whole_batches_visits_every_event_exactly_once(kept, events):
    for seen in passes(Batches(events, COLUMNS, 50, **kept), 2):
        assert sorted(seen) == list(range(SIZE))


@both
def test_seed_and_pass_number_determine_the_order(kept, events):
    one, again, other = (passes(Batches(events, COLUMNS, B, seed=seed, **kept), 3) for seed in (3, 3, 4))
    assert (one == again).all()
    orders = [*map(tuple, one), *map(tuple, other)]
    assert len(set(orders)) == 6


@both
def test_training_resumed_at_a_pass_sees_the_events_it_would_have_seen(kept, events):
    made = Batches(events, COLUMNS, B, **kept)
    assert (passes(made, 2, first=3) == passes(made, 5)[3:]).all()


@both
def test_ordered_is_the_order_of_the_events_once(kept, events):
    made = Batches(events, COLUMNS, B, **kept)
    for _ in range(2):
        found = np.concatenate([b["features"][:, 0] for b in made.ordered().as_numpy_iterator()])
        assert found.tolist() == list(range(made.steps * B))


@both
def test_selected_events_are_visited_and_no_others(kept, events):
    rows = np.r_[5:40, 100, 300:900:2, 999]
    chosen = events.take(rows)
    made = Batches(chosen, COLUMNS, 16, **kept)
    kept = made.steps * 16
    for seen in passes(made, 2):
        assert len(seen) == len(set(seen)) == kept and set(seen) <= set(rows)
    found = np.concatenate([b["features"][:, 0] for b in made.ordered().as_numpy_iterator()])
    assert found.tolist() == rows[:kept].tolist()


# -- larger than memory -------------------------------------------------------------------------------------


def test_events_are_kept_where_there_is_room(events, tmp_path, monkeypatch):
    rows = SIZE * (2 + 2) * 4  # two features, mass and weight
    assert Batches(events, COLUMNS, B, memory=rows).kept == "InMemory"
    assert Batches(events, COLUMNS, B, memory=rows - 1, cache=tmp_path).kept == "OnDisk"
    assert Batches(events, COLUMNS, B, memory=0, cache="").kept == "FromFile"
    monkeypatch.setattr(rows_module, "free_memory", lambda: 1.9 * rows)
    assert Batches(events, COLUMNS, B, cache=tmp_path).kept == "OnDisk"
    monkeypatch.setattr(rows_module, "free_memory", lambda: 2 * rows)
    assert Batches(events, COLUMNS, B).kept == "InMemory"


@pytest.mark.parametrize("folder, reason", [("/no/such/folder", "No such file"), (".", "GB free")])
def test_a_disk_without_room_is_said_and_not_used(folder, reason, events, monkeypatch, caplog):
    monkeypatch.setattr(rows_module, "SPARE", 2**60)
    assert Batches(events, COLUMNS, B, memory=0, cache=folder).kept == "FromFile"
    assert reason in caplog.text


def test_cache_on_disk_has_no_name_and_is_read_once_from_the_file(events, tmp_path, monkeypatch):
    read, stored = [], Events._stored

    def watch(self, source, field, start, stop):
        read.extend(range(start, stop) if field == "mass" else ())
        return stored(self, source, field, start, stop)

    monkeypatch.setattr(Events, "_stored", watch)
    (tmp_path / "cache").mkdir()
    made = Batches(events, COLUMNS, 50, memory=0, cache=tmp_path / "cache")
    assert not read and not list((tmp_path / "cache").iterdir())
    first = passes(made, 3)
    assert sorted(read) == list(range(SIZE))
    assert (passes(made, 3) == first).all() and len(read) == SIZE


def test_reading_from_the_file_takes_a_pool_at_a_time(events, monkeypatch):
    read, stored = [], Events._stored

    def watch(self, source, field, start, stop):
        read.append(start)
        return stored(self, source, field, start, stop)

    monkeypatch.setattr(Events, "_stored", watch)
    made = Batches(events, COLUMNS, 200, **FROM_FILE)
    assert not read
    pools = made._one_pass(np.random.default_rng(0))
    next(pools)
    pools.close()
    assert len(set(read)) <= 16  # of 32 units: this pool, and the next one is being read


def test_passes_of_one_pool_are_read_together_and_in_the_order_of_each(events, monkeypatch):
    made = Batches(events.take(range(100)), COLUMNS, 50, seed=4, **IN_MEMORY)
    read, one_read = [], made._rows.read
    monkeypatch.setattr(made._rows, "read", lambda pieces: read.append(len(pieces)) or one_read(pieces))
    found = list(made.shuffled(3).take(2 * 20).as_numpy_iterator())
    assert len(read) < 2 * 10  # by two readers: 1, 2, 4, 8, 16 passes, and some before they are asked for
    for number in range(20):
        rows, order = next(made._one_pass(np.random.default_rng([4, 3 + number])))
        for batch, chosen in zip(found[2 * number :], order):
            np.testing.assert_array_equal(batch["features"], made.packing.unpack(rows[chosen])["features"])


@pytest.mark.parametrize("batch", [25, 64, 333])
def test_batches_are_bit_by_bit_the_same_from_memory_from_disk_and_from_the_file(batch, events):
    chosen = events.select(mass_range=(3000, 6000))
    weighting = FlatMass(events, bins=20)
    made = [Batches(chosen, COLUMNS, batch, weighting=weighting, **kept) for kept in (IN_MEMORY, ON_DISK, FROM_FILE)]
    assert [m.kept for m in made] == ["InMemory", "OnDisk", "FromFile"]
    for one, *others in zip(*(m.shuffled(1).take(3 * m.steps).as_numpy_iterator() for m in made)):
        assert all((one[name] == other[name]).all() for other in others for name in one)


@pytest.mark.parametrize("readers", [1, 3])
def test_order_does_not_depend_on_the_number_of_readers(readers, events):
    expected = passes(Batches(events, COLUMNS, B, **FROM_FILE), 2)
    assert (passes(Batches(events, COLUMNS, B, readers=readers, **FROM_FILE), 2) == expected).all()


def test_a_file_that_breaks_during_training_is_told_by_its_name(events, tmp_path):
    made = Batches(events, COLUMNS, B, **FROM_FILE)
    (tmp_path / "events.h5").write_bytes(b"nothing")
    with pytest.raises(tf.errors.OpError):
        next(iter(made.shuffled()))
    assert isinstance(made.error, InputError) and "events.h5" in str(made.error)


class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise KeyboardInterrupt


def test_no_iterator_is_left_to_the_garbage_collector(events, tmp_path):
    """Whoever drops it waits for threads that read, and they may wait for a lock of the thread that collects garbage."""
    model = Linear(columns=COLUMNS, batch_size=B, cycles=2, units=1)
    given = {"verbose": 0, "jit_compile": False, **FROM_FILE}
    gc.collect()
    gc.disable()
    try:
        before = len(iterators())
        model.fit(events, events.sample(100), **given)
        assert len(iterators()) == before
        with pytest.raises(KeyboardInterrupt) as stopped:
            model.fit(events, events.sample(100), callbacks=[Stop()], **given)
        assert len(iterators()) == before and stopped
        model.on_phase_begin = lambda phase: (tmp_path / "events.h5").write_bytes(b"nothing")
        with pytest.raises(InputError, match=r"events\.h5") as told:
            model.fit(events, **given)
        assert len(iterators()) == before and told
    finally:
        gc.enable()


def iterators():
    return [one for one in gc.get_objects() if isinstance(one, OwnedIterator)]


def test_last_batch_is_smaller_only_if_asked(events):
    for kept in (IN_MEMORY, FROM_FILE):
        made = Batches(events, COLUMNS, B, **kept)
        found = list(made.ordered(drop_remainder=False).as_numpy_iterator())
        assert len(found) == 16 and len(found[-1]["mass"]) == SIZE - 15 * B
        assert np.concatenate([b["features"][:, 0] for b in found]).tolist() == list(range(SIZE))


# -- several workers, several sources, objects --------------------------------------------------------------


@both
def test_workers_share_a_pass_without_overlap(kept, events):
    made = [Batches(events, COLUMNS, 16, shard=(k, 3), **kept) for k in range(3)]
    assert len({m.steps for m in made}) == 1
    for seen in zip(*(passes(m, 3) for m in made)):
        together = np.concatenate(seen)
        assert len(set(together)) == len(together) >= 0.9 * (SIZE - 3 * 32)
    assert set(np.concatenate([passes(m, 8) for m in made], axis=None)) == set(range(SIZE))


def test_a_share_that_does_not_exist_or_is_too_small_is_refused(events):
    with pytest.raises(InputError, match="shard"):
        Batches(events, COLUMNS, B, shard=(2, 2))
    with pytest.raises(InputError, match="for all workers"):
        Batches(events, COLUMNS, 600, shard=(0, 2))


@both
def test_little_signal_is_spread_evenly_over_a_pass(kept, tmp_path):
    """Two files, 40 to 1: each pool has its share of both, so that no stretch of the pass is without signal."""
    for name, size, value in (("b", 4000, 0), ("s", 100, 1)):
        Events.from_arrays(np.full((size, 1), value), np.zeros(size), ["x"]).write(tmp_path / f"{name}.h5")
    both = join([Events.from_file(tmp_path / f"{name}.h5") for name in "bs"])
    seen = passes(Batches(both, ["x"], 41, **kept), 1)[0]
    stretches = seen[: 4096 // 512 * 512].reshape(-1, 512).sum(axis=1)
    assert seen.sum() == 100 and 3 < stretches.min() <= stretches.max() < 25  # 12.5 +- 3.4 in a fair shuffle


def test_little_signal_is_spread_evenly_over_a_pass_of_a_written_mixture(tmp_path):
    background, signal = (Events.from_arrays(np.full((n, 1), v), np.zeros(n), ["x"]) for n, v in ((8000, 0), (80, 1)))
    mixed = mix(background, signal, 0.01)
    write_spread(mixed, tmp_path / "spread.h5", size=101)
    written = Events.from_file(tmp_path / "spread.h5")
    assert np.bincount(written.label).tolist() == [8000, 80] and sorted(written.mass) == sorted(mixed.mass)
    assert (written.read("features")[:, 0] == written.label).all()
    seen = passes(Batches(written, ["x"], 40, **FROM_FILE), 1)[0]
    stretches = seen[:8000].reshape(-1, 800).sum(axis=1)
    assert 1 <= stretches.min() <= stretches.max() < 20  # 8 +- 2.7 in a fair shuffle


@pytest.mark.parametrize("units, hands", [(7, 3), (12, 4), (5, 5), (3, 8), (40, 1)])
def test_units_are_dealt_like_cards(units, hands):
    rng = np.random.default_rng(1)
    for _ in range(20):
        dealt = batches.deal(np.arange(units), hands, rng)
        assert sorted(np.concatenate(dealt)) == list(range(units))
        assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
        for hand in dealt:  # one of each run of neighbours
            assert (np.unique(hand // hands, return_counts=True)[1] == 1).all()
    assert len({tuple(map(tuple, batches.deal(np.arange(12), 3, rng))) for _ in range(20)}) > 15


@both
def test_objects_come_with_their_mask(kept, tmp_path):
    rng = np.random.default_rng(2)
    objects = rng.normal(size=(SIZE, 5, 4)) * (np.arange(5) < rng.integers(0, 6, SIZE)[:, None])[..., None]
    about = {"object_columns": ["E", "pt", "eta", "phi"]}
    Events.from_arrays(np.arange(SIZE)[:, None], np.zeros(SIZE), ["n"], objects=objects, **about).write(
        tmp_path / "o.h5"
    )
    made = Batches(Events.from_file(tmp_path / "o.h5"), ["n"], B, objects=True, transform=lambda x: 2 * x, **kept)
    for batch in made.shuffled().take(20).as_numpy_iterator():
        rows = (batch["features"][:, 0] / 2).astype(int)
        np.testing.assert_array_equal(batch["objects"], objects[rows].astype(np.float32))
        np.testing.assert_array_equal(batch["mask"], (objects[rows] != 0).any(axis=-1))
        assert batch["mask"].dtype == bool and batch["objects"].shape == (B, 5, 4)
    alone = Batches(Events.from_file(tmp_path / "o.h5"), [], B, objects=True, **kept)
    assert sorted(alone.shuffled().element_spec) == ["mask", "mass", "objects", "weight"]


# -- how well it is mixed -----------------------------------------------------------------------------------


@both
def test_order_of_the_file_and_of_the_pass_are_uncorrelated(kept, arrays):
    """In the mean of many passes: blocks stay within a pool, so that a streamed pass alone fluctuates more."""
    made = Batches(Events.from_arrays(columns=COLUMNS, **arrays), COLUMNS, 50, **kept)
    seen = passes(made, 40)
    correlation = [spearmanr(np.arange(SIZE), order).statistic for order in seen]
    assert abs(np.mean(correlation)) < 4 / np.sqrt(32 * 40)
    assert np.std(correlation) < 3 / np.sqrt(32)
    places = seen.argsort(axis=1)  # where each event came, pass by pass
    assert abs(places.mean(axis=0) - SIZE / 2).max() < 5 * SIZE / np.sqrt(12 * 40)


def test_events_of_a_block_are_spread_over_their_pool(events):
    place = np.argsort(passes(Batches(events, COLUMNS, 50, **FROM_FILE), 1)[0])  # where each event came
    for start in range(0, 992, 32):
        block = place[start : start + 32]
        assert np.ptp(block) > 128 and block.std() == pytest.approx(8 * 32 / np.sqrt(12), rel=0.35)
        assert np.mean(np.abs(np.diff(block)) == 1) < 0.2


def test_streamed_batch_of_a_sorted_file_mixes_the_whole_range_of_masses(monkeypatch):
    """A pool of random blocks stands for the file: a batch's mean mass fluctuates as its blocks do, no more."""
    monkeypatch.setattr(batches, "LEAST", 64)
    size, mass = 16_384, np.linspace(0, 1, 16_384)  # 512 blocks, 8 pools
    made = Batches(Events.from_arrays(np.zeros((size, 1)), mass, ["x"]), ["x"], 256, **FROM_FILE)
    means = [b["mass"].mean() for b in made.shuffled().take(made.steps).as_numpy_iterator()]
    assert np.std(means) < 1.5 * np.sqrt(1 / 12 / 64 + 1 / 12 / 256)


def test_units_are_chunks_of_the_file_and_pools_hold_many(tmp_path):
    """A unit that cuts through chunks would decompress each of them more than once."""
    Events.from_arrays(np.zeros((20_000, 1)), np.zeros(20_000), ["x"]).write(tmp_path / "big.h5")
    with h5py.File(tmp_path / "big.h5") as file:
        assert UNIT % file["features"].chunks[0] == 0
    assert POOL // (UNIT * 4 * 49) > 100
