"""Fronts, their order, knees and volumes, against brute force and closed forms."""

import itertools

import numpy as np
import pytest

from pipelines import InputError
from tuning import pareto


def random_values(seed, n=40, k=3, levels=6):
    """Values with many ties, which is where sorting goes wrong."""
    return np.random.default_rng(seed).integers(0, levels, (n, k)).astype(float)


def beats(a, b):
    return all(x <= y for x, y in zip(a, b)) and any(x < y for x, y in zip(a, b))


def fronts_by_loops(values):
    left, found = list(range(len(values))), []
    while left:
        front = [i for i in left if not any(beats(values[j], values[i]) for j in left)]
        found.append(front)
        left = [i for i in left if i not in front]
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 2, 4])
def test_fronts_are_those_of_the_definition(seed, k):
    values = random_values(seed, k=k)
    assert [front.tolist() for front in pareto.fronts(values)] == fronts_by_loops(values)


def test_crowding_is_that_of_deb_by_loops():
    values = np.random.default_rng(1).normal(size=(12, 3))
    expected = np.zeros(12)
    for j in range(3):
        order = sorted(range(12), key=lambda i: values[i, j])
        expected[order[0]] = expected[order[-1]] = np.inf
        for before, i, after in zip(order, order[1:], order[2:]):
            expected[i] += (values[after, j] - values[before, j]) / (values[order[-1], j] - values[order[0], j])
    np.testing.assert_allclose(pareto.crowding(values), expected)


def test_a_figure_of_merit_that_is_always_the_same_gives_no_room():
    values = np.array([[0.0, 1.0, 7.0], [1.0, 0.0, 7.0], [0.5, 0.5, 7.0]])
    assert pareto.crowding(values).tolist() == [np.inf, np.inf, 2.0]
    assert pareto.crowding(np.ones((3, 2))).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("seed", range(3))
def test_the_order_is_every_trial_once_and_never_puts_a_beaten_one_first(seed):
    values = random_values(seed)
    order = pareto.order(values).tolist()
    assert sorted(order) == list(range(len(values)))
    assert not any(beats(values[b], values[a]) for a, b in itertools.combinations(order, 2))
    assert order == pareto.order(values).tolist()


def test_within_a_front_the_ends_come_first_and_then_what_has_room():
    values = np.array([[0.0, 10.0], [1.0, 8.9], [1.1, 8.8], [5.0, 4.0], [10.0, 0.0], [11.0, 11.0]])
    assert pareto.order(values).tolist() == [0, 4, 3, 2, 1, 5]


def test_the_knee_of_a_line_of_points_is_the_farthest_from_its_ends_whatever_the_units():
    x = np.linspace(0, 1, 41)
    values = np.c_[x, (1 - x**0.5) ** 2]
    distance = 1 - values.sum(1)  # from x + y = 1, times the root of 2
    assert pareto.knee(values) == np.argmax(distance)
    assert pareto.knee(values * [1e-6, 1e9] + [5, -3]) == np.argmax(distance)


def test_the_knee_of_a_sphere_in_three_dimensions_is_its_middle():
    rng = np.random.default_rng(0)
    points = np.abs(rng.normal(size=(200, 3)))
    points = np.r_[1 - points / np.linalg.norm(points, axis=1)[:, None], np.ones((1, 3)) * (1 - 3**-0.5), 1 - np.eye(3)]
    # the ball bulges towards 0: the middle of its octant is the farthest from the plane of its three tips
    assert pareto.knee(points) == 200


def test_a_front_that_bends_away_has_no_knee_and_gives_what_is_nearest_to_the_ideal():
    angle = np.linspace(0, np.pi / 2, 9)
    values = np.c_[np.cos(angle), np.sin(angle) * 0.99] ** 0.8  # from a corner to the other, around the far side
    front = pareto.fronts(values)[0]
    near = np.linalg.norm(pareto.normalised(values[front]), axis=1)
    assert pareto.knee(values) == front[np.argmin(near)]


def test_a_beaten_trial_is_never_the_knee_and_one_trial_is_its_own():
    for seed in range(20):
        values = random_values(seed, n=15)
        assert pareto.knee(values) in pareto.fronts(values)[0]
    assert pareto.knee(np.array([[3.0, 4.0]])) == 0
    assert pareto.knee(np.array([[3.0, 4.0], [3.0, 4.0], [9.0, 9.0]])) in (0, 1)


@pytest.mark.parametrize("k, n", [(1, 4), (2, 8), (3, 8), (4, 6)])
def test_the_hypervolume_is_that_of_inclusion_and_exclusion(k, n):
    rng = np.random.default_rng(k)
    values, reference = rng.random((n, k)), np.full(k, 0.9)
    inside = values[(values < reference).all(1)]
    expected = sum(
        (-1) ** (size + 1) * np.prod(reference - np.max(chosen, axis=0))
        for size in range(1, len(inside) + 1)
        for chosen in itertools.combinations(inside, size)
    )
    assert pareto.hypervolume(values, reference) == pytest.approx(expected, rel=1e-12)


def test_the_hypervolume_is_that_of_throwing_darts():
    values = np.random.default_rng(3).random((30, 3))
    darts = np.random.default_rng(4).random((100_000, 3))
    hit = (values[:, None] <= darts).all(-1).any(0).mean()
    assert abs(pareto.hypervolume(values, np.ones(3)) - hit) < 5 * np.sqrt(hit * (1 - hit) / len(darts))


def test_the_hypervolume_of_nothing_better_than_the_reference_is_zero():
    assert pareto.hypervolume(np.array([[1.0, 0.2]]), np.array([1.0, 1.0])) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_a_scalarised_trial_is_never_behind_one_that_it_beats(seed):
    values = random_values(seed)
    one = pareto.scalarise(values)
    for a, b in itertools.permutations(range(len(values)), 2):
        if beats(values[a], values[b]):
            assert one[a] < one[b]
    np.testing.assert_array_equal(one, pareto.scalarise(np.exp(values) * [1, 1e6, 1e-6]))  # ranks know no units


def test_scalarising_is_largest_rank_plus_a_twentieth_of_all():
    values = np.array([[0.0, 9.0], [1.0, 5.0], [5.0, 5.0], [7.0, 1.0]])  # ranks 0 1 2 3 and 3 1.5 1.5 0
    expected = [max(a, b) / 3 + 0.05 * (a + b) / 3 for a, b in ((0, 3), (1, 1.5), (2, 1.5), (3, 0))]
    np.testing.assert_allclose(pareto.scalarise(values), expected)


def test_nothing_and_one_are_no_special_cases():
    none = np.empty((0, 2))
    assert pareto.fronts(none) == [] and not len(pareto.order(none)) and not len(pareto.scalarise(none))
    assert pareto.hypervolume(none, np.ones(2)) == 0.0 and pareto.scalarise(np.ones((1, 2))).tolist() == [0.0]
    with pytest.raises(InputError, match="no trials"):
        pareto.knee(none)


@pytest.mark.parametrize("values", [[[1.0, np.nan]], [[np.inf, 1.0]], [1.0, 2.0], np.empty((3, 0))])
def test_what_is_no_table_of_numbers_is_refused(values):
    for function in (pareto.fronts, pareto.crowding, pareto.order, pareto.knee, pareto.scalarise):
        with pytest.raises(InputError, match=r"NaN or infinite|expected \(trials"):
            function(np.array(values))


def test_the_reference_must_have_a_number_for_each_figure():
    with pytest.raises(InputError, match=r"expected \(2,\)"):
        pareto.hypervolume(np.ones((1, 2)), np.ones(3))
