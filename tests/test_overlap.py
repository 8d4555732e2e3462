"""Overlap of two samples, held against plain sets of tuples. Takes some seconds."""

import itertools

import numpy as np
import pytest

from pipelines import Events, InputError
from pipelines.events import overlap as module
from pipelines.events.overlap import overlap

COLUMNS = ("pt_1", "tau21_1", "mass_1")


def events(rows, columns=COLUMNS, **more):
    rows = np.asarray(rows, np.float32)
    return Events.from_arrays(rows[:, :-1], rows[:, -1], columns, **more)


def by_sets(first, second):
    """The definition: rows as tuples, in which -0.0 equals 0.0."""
    common = sorted(set(first.columns) & set(second.columns))

    def rows(sample):
        return [tuple(r) for r in np.column_stack([sample.read("features", common), sample.mass]).tolist()]

    known = set(rows(first))
    return sum(row in known for row in rows(second))


@pytest.fixture(params=[2**22, 12])
def block(request, monkeypatch):
    monkeypatch.setattr(module, "NUMBERS", request.param)


@pytest.mark.parametrize("sizes", [(300, 300), (300, 40), (40, 300), (1, 300), (300, 1)])
def test_overlap_is_that_of_plain_sets(sizes, block):
    rng = np.random.default_rng(sum(sizes))
    for _ in range(5):  # few values, so that many events are there twice, in each sample and in both
        first, second = (events(rng.integers(-1, 3, (size, 4)) * np.float32(0.1)) for size in sizes)
        assert overlap(first, second) == by_sets(first, second)


def test_real_events_overlap_as_they_were_drawn(test_events):
    first, rest = test_events.split(0.5, seed=1)
    assert overlap(first, rest) == by_sets(first, rest) == 0
    assert overlap(test_events, rest) == len(rest) and overlap(rest, test_events) == len(rest)
    assert overlap(test_events, test_events) == len(test_events)


def test_one_bit_makes_another_event():
    row = np.array([[500.0, 0.5, 80.0, 3000.0]], np.float32)
    for column in range(4):
        other = row.copy()
        other[0, column] = np.nextafter(other[0, column], np.float32(1e6))
        assert overlap(events(row), events(other)) == 0
    assert overlap(events(row), events(row)) == 1


def test_same_numbers_in_other_columns_are_another_event():
    numbers = [1.0, 2.0, 3.0, 4.0]
    samples = [events([row]) for row in itertools.permutations(numbers)]
    for first, second in itertools.product(samples, repeat=2):
        assert overlap(first, second) == (first is second)


def test_order_of_columns_and_columns_of_one_alone_do_not_matter():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 4)).astype(np.float32)
    turned = np.column_stack([rows[:, [2, 0, 1]], rng.normal(size=50), rows[:, 3]])
    second = events(turned[10:], ("mass_1", "pt_1", "tau21_1", "only_here"))
    assert overlap(events(rows), second) == overlap(second, events(rows)) == 40


def test_negative_zero_is_zero():
    assert overlap(events([[0.0, 1, 2, 3000]]), events([[-0.0, 1, 2, 3000]])) == 1
    assert overlap(events([[0.0, 1, 2, 3000]]), events([[1, 0.0, 2, 3000]])) == 0


def test_every_event_counts_that_is_repeated_in_the_second_sample():
    once, thrice = [[1, 2, 3, 3000]], [[1, 2, 3, 3000]] * 3
    assert overlap(events(once), events(thrice)) == 3 and overlap(events(thrice), events(once)) == 1


def test_labels_and_weights_are_not_compared():
    rows = [[1, 2, 3, 3000]]
    assert overlap(events(rows, label=[0], weight=[1.0]), events(rows, label=[1], weight=[2.0])) == 1


def objects(slots, particles, columns=("pt", "eta"), mass=3000):
    padded = np.zeros((1, slots, len(columns)), np.float32)
    padded[0, : len(particles)] = particles
    return Events.from_arrays(None, [mass], objects=padded, object_columns=columns)


def test_objects_are_compared_whatever_the_room_for_them():
    event = objects(3, [(500, 1), (300, 2)])
    assert overlap(event, objects(7, [(500, 1), (300, 2)])) == 1
    assert overlap(event, objects(7, [(1, 500), (2, 300)], ("eta", "pt"))) == 1
    assert overlap(event, objects(3, [(300, 2), (500, 1)])) == 0
    assert overlap(event, objects(3, [(500, 1), (300, 2), (20, 0)])) == 0
    assert overlap(event, objects(3, [(500, 1), (300, 2)], mass=3001)) == 0


def test_files_are_compared_as_memory_is(tmp_path):
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(1000, 4))
    events(rows[:600]).write(tmp_path / "a.h5")
    events(rows[400:]).write(tmp_path / "b.h5")
    assert overlap(Events.from_file(tmp_path / "a.h5"), Events.from_file(tmp_path / "b.h5")) == 200


def test_samples_of_another_kind_are_refused():
    with pytest.raises(InputError, match=r"no columns in common.*pt_1, tau21_1, mass_1"):
        overlap(events([[1, 2, 3, 4]]), events([[1, 2]], ["met"]))
    with pytest.raises(InputError, match="no columns in common"):
        overlap(events([[1, 2, 3, 4]]), objects(2, [(1, 2)]))


def test_hashes_of_a_million_like_events_are_all_different():
    """Near-equal numbers on a grid are what a poor hash fails on; 3e-8 collisions are expected."""
    grid = np.stack(np.meshgrid(*[np.arange(1, 101, dtype=np.float32)] * 3), axis=-1).reshape(-1, 3)
    sample = Events.from_arrays(grid[:, :2], grid[:, 2], ["a", "b"])
    hashes = np.concatenate(list(module._hashes(sample, ("a", "b"), ())))
    assert len(np.unique(hashes)) == len(grid) == 1_000_000
    ones = np.unpackbits(hashes.view(np.uint8)).mean()
    assert ones == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(64e6))
