"""Batches: static shapes, honest passes, the same from memory and from disk, and blind to truth."""

import itertools

import h5py
import numpy as np
import pytest
from scipy.stats import spearmanr

from pipelines import Events, InputError, batches
from pipelines.batches import Batches
from pipelines.selection import FlatMass

SIZE, B = 1000, 64  # 15 whole batches and 40 events left over
COLUMNS = ["number", "pt_1"]
STREAM_BLOCK = batches.STREAM_BLOCK  # before `small_blocks`


@pytest.fixture
def arrays():
    rng = np.random.default_rng(5)
    return {
        "features": np.stack([np.arange(SIZE), rng.normal(size=SIZE)], axis=1),
        "mass": np.sort(rng.uniform(2700, 7000, SIZE)),  # the order of the file is that of the mass: the worst one
        "weight": rng.uniform(0.5, 2, SIZE),
        "label": (np.arange(SIZE) > 900).astype(np.int8),
    }


@pytest.fixture
def events(arrays, tmp_path):
    Events.from_arrays(columns=COLUMNS, **arrays).write(tmp_path / "events.h5")
    return Events.from_file(tmp_path / "events.h5")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks and pools that suit 1000 events: 32 blocks in pools of 8."""
    monkeypatch.setattr(batches, "STREAM_BLOCK", 32)
    monkeypatch.setattr(batches, "POOL", 8)


both = pytest.mark.parametrize("memory", [batches.MEMORY, 0], ids=["in memory", "streamed"])


def passes(made, count, first=0):
    """The event numbers of so many passes, in order, (count, events of a pass)."""
    data = made.shuffled(first).take(count * made.steps).as_numpy_iterator()
    return np.concatenate([batch["features"][:, 0] for batch in data]).astype(int).reshape(count, -1)


# -- shapes and content -------------------------------------------------------------------------------------


@both
def test_shapes_are_static_so_that_xla_compiles_once(memory, events):
    made = Batches(events, COLUMNS, B, memory=memory)
    assert made.in_memory == bool(memory)
    for data in (made.shuffled(), made.ordered()):
        spec = data.element_spec
        assert {name: tuple(s.shape) for name, s in spec.items()} == {"features": (B, 2), "mass": (B,), "weight": (B,)}
        assert {s.dtype.name for s in spec.values()} == {"float32"}
        assert next(iter(data))["features"].shape == (B, 2)


@both
def test_a_row_keeps_its_features_mass_and_weight_together(memory, events, arrays):
    for batch in Batches(events, ["pt_1", "number"], B, memory=memory).shuffled().take(20).as_numpy_iterator():
        rows = batch["features"][:, 1].astype(int)
        np.testing.assert_array_equal(batch["features"][:, 0], arrays["features"][rows, 1].astype(np.float32))
        np.testing.assert_array_equal(batch["mass"], arrays["mass"][rows].astype(np.float32))
        np.testing.assert_array_equal(batch["weight"], arrays["weight"][rows].astype(np.float32))


@both
def test_transform_is_applied_to_the_features_alone(memory, events, arrays):
    made = Batches(events, COLUMNS, B, memory=memory, transform=lambda x: 2 * x + 1)
    batch = next(made.ordered().as_numpy_iterator())
    np.testing.assert_allclose(batch["features"], 2 * arrays["features"][:B] + 1, rtol=1e-6)
    np.testing.assert_array_equal(batch["mass"], arrays["mass"][:B].astype(np.float32))


@both
def test_weighting_by_mass_multiplies_the_events_own_weights(memory, events, arrays):
    flat = FlatMass(events, bins=20)
    made = Batches(events, COLUMNS, B, memory=memory, weighting=flat)
    batch = next(made.ordered().as_numpy_iterator())
    expected = arrays["weight"].astype(np.float32)[:B] * flat(events.mass[:B])
    np.testing.assert_allclose(batch["weight"], expected, rtol=1e-6)
    assert np.ptp(expected / arrays["weight"][:B]) > 0


@both
def test_events_without_weights_weigh_one(memory, arrays):
    events = Events.from_arrays(arrays["features"], arrays["mass"], COLUMNS)
    batch = next(Batches(events, COLUMNS, B, memory=memory).shuffled().as_numpy_iterator())
    assert batch["weight"].tolist() == [1.0] * B


@both
def test_labels_are_never_read_by_batches(memory, events, monkeypatch):
    monkeypatch.setattr(Events, "label", property(lambda self: pytest.fail("labels were asked for")))
    stored = Events._stored

    def watch(self, source, field, start, stop):
        assert field != "label", "labels were read"
        return stored(self, source, field, start, stop)

    monkeypatch.setattr(Events, "_stored", watch)
    with pytest.raises(AssertionError):
        next(events.blocks("label"))
    made = Batches(events, COLUMNS, B, memory=memory, weighting=FlatMass(events))
    for data in (made.shuffled().take(2 * made.steps), made.ordered()):
        assert all(sorted(batch) == ["features", "mass", "weight"] for batch in data.as_numpy_iterator())


@both
def test_labels_do_not_change_a_batch(memory, events, arrays):
    blind = Events.from_arrays(columns=COLUMNS, **{k: v for k, v in arrays.items() if k != "label"})
    one, other = (Batches(e, COLUMNS, B, memory=memory).shuffled().as_numpy_iterator() for e in (events, blind))
    for batch, twin in itertools.islice(zip(one, other), 20):
        assert all((batch[name] == twin[name]).all() for name in batch)


@both
def test_fewer_events_than_a_batch_are_refused(memory, events):
    with pytest.raises(InputError) as error:
        Batches(events.sample(63), COLUMNS, B, memory=memory)
    assert all(word in str(error.value) for word in (events.name, "63 events", "batch of 64", "lower batch_size"))
    made = Batches(events.sample(64), COLUMNS, B, memory=memory)
    assert made.steps == 1 and sorted(passes(made, 1)[0]) == sorted(events.sample(64).read("features")[:, 0])


# -- passes -------------------------------------------------------------------------------------------------


@both
def test_pass_visits_every_event_at_most_once_and_leaves_out_less_than_a_batch(memory, events):
    made = Batches(events, COLUMNS, B, memory=memory)
    assert made.steps == SIZE // B
    left_out = []
    for seen in passes(made, 4):
        assert len(seen) == len(set(seen)) == made.steps * B and set(seen) <= set(range(SIZE))
        left_out.append(frozenset(range(SIZE)) - set(seen))
    assert len(set(left_out)) == 4  # other ones at each pass


@both
def test_pass_of_whole_batches_visits_every_event_exactly_once(memory, events):
    for seen in passes(Batches(events, COLUMNS, 50, memory=memory), 2):
        assert sorted(seen) == list(range(SIZE))


@both
def test_seed_and_pass_number_determine_the_order(memory, events):
    one, again, other = (passes(Batches(events, COLUMNS, B, seed=seed, memory=memory), 3) for seed in (3, 3, 4))
    assert (one == again).all()
    orders = [*map(tuple, one), *map(tuple, other)]
    assert len(set(orders)) == 6


@both
def test_training_resumed_at_a_pass_sees_the_events_it_would_have_seen(memory, events):
    made = Batches(events, COLUMNS, B, memory=memory)
    assert (passes(made, 2, first=3) == passes(made, 5)[3:]).all()


@both
def test_ordered_is_the_order_of_the_events_once(memory, events):
    made = Batches(events, COLUMNS, B, memory=memory)
    for _ in range(2):
        found = np.concatenate([b["features"][:, 0] for b in made.ordered().as_numpy_iterator()])
        assert found.tolist() == list(range(made.steps * B))


@both
def test_selected_events_are_visited_and_no_others(memory, events):
    rows = np.r_[5:40, 100, 300:900:2, 999]
    chosen = events.take(rows)
    made = Batches(chosen, COLUMNS, 16, memory=memory)
    kept = made.steps * 16
    for seen in passes(made, 2):
        assert len(seen) == len(set(seen)) == kept and set(seen) <= set(rows)
    found = np.concatenate([b["features"][:, 0] for b in made.ordered().as_numpy_iterator()])
    assert found.tolist() == rows[:kept].tolist()


# -- larger than memory -------------------------------------------------------------------------------------


def test_memory_is_counted_in_bytes_of_features(events):
    bytes_of_features = SIZE * 2 * 4
    assert Batches(events, COLUMNS, B, memory=bytes_of_features).in_memory
    assert not Batches(events, COLUMNS, B, memory=bytes_of_features - 1).in_memory


def test_streaming_reads_nothing_until_it_is_asked_and_then_a_pool_at_a_time(events, monkeypatch):
    read, stored = [], Events._stored

    def watch(self, source, field, start, stop):
        read.append(start)
        return stored(self, source, field, start, stop)

    monkeypatch.setattr(Events, "_stored", watch)
    made = Batches(events, COLUMNS, 200, memory=0)
    assert not read
    next(made._one_streamed_pass(np.random.default_rng(0)))
    assert len(set(read)) == 8  # of 32 blocks


def test_streamed_and_in_memory_pass_see_the_same_events(events):
    chosen = events.select(mass_range=(3000, 6000))
    chosen = chosen.sample(len(chosen) // 25 * 25)
    streamed, kept = (Batches(chosen, COLUMNS, 25, memory=memory) for memory in (0, batches.MEMORY))
    assert sorted(passes(streamed, 2)[1]) == sorted(passes(kept, 2)[1]) == sorted(chosen.read("features")[:, 0])


@both
def test_order_of_the_file_and_of_the_pass_are_uncorrelated(memory, arrays):
    """In the mean of many passes: blocks stay within a pool, so that a streamed pass alone fluctuates more."""
    made = Batches(Events.from_arrays(columns=COLUMNS, **arrays), COLUMNS, 50, memory=memory)
    seen = passes(made, 40)
    correlation = [spearmanr(np.arange(SIZE), order).statistic for order in seen]
    assert abs(np.mean(correlation)) < 4 / np.sqrt(32 * 40)
    assert np.std(correlation) < 3 / np.sqrt(32)
    places = seen.argsort(axis=1)  # where each event came, pass by pass
    assert abs(places.mean(axis=0) - SIZE / 2).max() < 5 * SIZE / np.sqrt(12 * 40)


def test_events_of_a_block_are_spread_over_their_pool(events):
    place = np.argsort(passes(Batches(events, COLUMNS, 50, memory=0), 1)[0])  # where each event came
    for start in range(0, 992, 32):
        block = place[start : start + 32]
        assert np.ptp(block) > 128 and block.std() == pytest.approx(8 * 32 / np.sqrt(12), rel=0.35)
        assert np.mean(np.abs(np.diff(block)) == 1) < 0.2


def test_streamed_batch_of_a_sorted_file_mixes_the_whole_range_of_masses(monkeypatch):
    """A pool of random blocks stands for the file: a batch's mean mass fluctuates as its blocks do, no more."""
    monkeypatch.setattr(batches, "POOL", 64)
    size, mass = 16_384, np.linspace(0, 1, 16_384)  # 512 blocks, 8 pools
    made = Batches(Events.from_arrays(np.zeros((size, 1)), mass, ["x"]), ["x"], 256, memory=0)
    means = [b["mass"].mean() for b in made.shuffled().take(made.steps).as_numpy_iterator()]
    assert np.std(means) < 1.5 * np.sqrt(1 / 12 / 64 + 1 / 12 / 256)


def test_streamed_blocks_are_chunks_of_the_file(tmp_path):
    """A block that cuts through chunks would decompress each of them more than once."""
    Events.from_arrays(np.zeros((20_000, 1)), np.zeros(20_000), ["x"]).write(tmp_path / "big.h5")
    with h5py.File(tmp_path / "big.h5") as file:
        assert STREAM_BLOCK % file["features"].chunks[0] == 0
