"""Several figures of merit at once: which trials are beaten by no other, and which of these to take.

All values are (n, k): n trials, k figures of merit, each of which is to be small. What a search needs of this is

    order(values)      indices of the trials, best first: what Hyperband promotes by, within a round, and how results
                       are listed (`Objective.order` calls it with the records of trials)
    scalarise(values)  one number a trial, small is good: for oracles that need a number, such as Bayesian search.
                       It is made of ranks, so it changes as trials are added: give an oracle the numbers of all
                       trials anew, not those of the time when each ended (`Objective.scores`)
    knee(values)       the trial to take

Sources: Deb, Pratap, Agarwal & Meyarivan, IEEE Trans. Evol. Comput. 6 (2002) 182 (sorting, crowding); Das, Structural
Optimization 18 (1999) 107 (knee); Steuer & Choo, Math. Programming 26 (1983) 326, and Knowles, IEEE Trans. Evol.
Comput. 10 (2006) 50 (augmented Chebyshev); While, Bradstreet & Barone, IEEE Trans. Evol. Comput. 16 (2012) 86
(hypervolume).
"""

from __future__ import annotations

import numpy as np

from pipelines.errors import InputError

AUGMENTATION = 0.05  # rho of the augmented Chebyshev function, as in Knowles 2006


def fronts(values: np.ndarray) -> list[np.ndarray]:
    """Return the fronts of trials, the first beaten by none, the next by trials of the first only, and so on.

    A trial is beaten (dominated) by one that is nowhere worse and somewhere better (Deb et al. 2002, sec. III.A).
    Equal trials do not beat each other. Raises `InputError` for values that are not finite, or no (n, k).

    >>> [front.tolist() for front in fronts(np.array([[1, 4], [2, 2], [4, 1], [3, 3], [5, 5]]))]
    [[0, 1, 2], [3], [4]]
    """
    values = _checked(values)
    no_worse = np.all(values[:, None] <= values, axis=-1)
    beats = np.asarray(no_worse & np.any(values[:, None] < values, axis=-1))
    left, found = np.arange(len(values)), []
    while len(left):
        best = ~beats[np.ix_(left, left)].any(0)
        found.append(left[best])
        left = left[~best]
    return found


def crowding(values: np.ndarray) -> np.ndarray:
    """Return how much room each trial of one front has, (n,); of the ends of every figure of merit, infinite.

    The sum over figures of merit of the distance between both neighbours, in units of the front's extent (Deb et al.
    2002, sec. III.B).

    >>> crowding(np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0]])).tolist()
    [inf, 2.0, inf]
    """
    values = _checked(values)
    room = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        extent = column[order[-1]] - column[order[0]]
        if not extent:
            continue
        room[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / extent
        room[order[[0, -1]]] = np.inf
    return room


def order(values: np.ndarray) -> np.ndarray:
    """Return the indices of the trials, best first: by front, then those with more room, then as they come.

    >>> order(np.array([[5, 5], [1, 4], [4, 1], [2, 2]])).tolist()
    [1, 2, 3, 0]
    """
    values = _checked(values)
    by_room = [front[np.argsort(-crowding(values[front]), kind="stable")] for front in fronts(values)]
    return np.concatenate(by_room) if by_room else np.arange(0)


def knee(values: np.ndarray) -> int:
    """Return the trial of the first front beyond which a little of one figure of merit costs much of another.

    On axes on which the first front spans [0, 1], the point with the largest distance from the plane through the
    extremes, the best trials of each figure of merit, towards the ideal point 0 (Das 1999); of k = 2 that is a line. If the
    extremes span no plane, it is taken to be sum_j x_j = 1. Where no trial lies nearer to the ideal than that plane, the
    front has no knee, and the trial nearest to the ideal is returned.

    >>> knee(np.array([[0.0, 1.0], [0.1, 0.2], [0.5, 0.15], [1.0, 0.0], [1.0, 1.0]]))
    1
    """
    values = _checked(values)
    if not len(values):
        raise InputError("no trials, expected at least one")
    front = fronts(values)[0]
    x = normalised(values[front])
    near = np.linalg.norm(x, axis=1)
    bulge = _towards_ideal(x)
    if bulge.max() <= 1e-9:
        return int(front[np.argmin(near)])
    return int(front[np.lexsort((near, -np.round(bulge, 12)))[0]])


def normalised(values: np.ndarray) -> np.ndarray:
    """Return values on axes from 0, the least, to 1, the largest; 0 where all are equal."""
    low, high = values.min(0), values.max(0)
    return (values - low) / np.where(high > low, high - low, 1.0)


def _towards_ideal(x: np.ndarray) -> np.ndarray:
    """Distances (n,) of points on normalised axes from the plane through their extremes, positive towards 0."""
    extremes = x[[min(range(len(x)), key=lambda i: (x[i, j], x[i].sum())) for j in range(x.shape[1])]]
    try:
        normal = np.linalg.solve(extremes, np.ones(x.shape[1]))  # normal . e_j = 1 of all extremes
    except np.linalg.LinAlgError:
        normal = np.ones(x.shape[1])
    if not (np.isfinite(normal).all() and normal.min() >= 0 and np.linalg.cond(extremes) < 1e9):
        normal = np.ones(x.shape[1])  # a plane that leans away from the ideal measures nothing
    return (1.0 - x @ normal) / np.linalg.norm(normal)


def scalarise(values: np.ndarray, augmentation: float = AUGMENTATION) -> np.ndarray:
    """Return one number a trial, (n,), small is good: an augmented Chebyshev function of the ranks of its terms.

    s_i = max_j u_ij + rho sum_j u_ij, with u_ij in [0, 1] the rank of trial i by figure of merit j, equal values sharing
    theirs (Steuer & Choo 1983). Ranks, since the figures have no common unit; the sum keeps a trial that is beaten from
    having the number of one that beats it.

    >>> scalarise(np.array([[1.0, 30.0], [2.0, 10.0], [3.0, 20.0]])).round(3).tolist()
    [1.05, 0.525, 1.075]
    """
    from scipy.stats import rankdata

    values = _checked(values)
    if len(values) < 2:
        return np.zeros(len(values))
    ranks = (rankdata(values, axis=0) - 1.0) / (len(values) - 1)
    return ranks.max(1) + augmentation * ranks.sum(1)


def hypervolume(values: np.ndarray, reference: np.ndarray) -> float:
    """Return the volume that trials beat: of all that is worse than one of them and better than `reference`, (k,).

    Exact, by the exclusive contributions of one trial after another (While et al. 2012). Trials that are not better than
    the reference in everything add nothing.

    >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([3.0, 3.0]))
    3.0
    """
    values, reference = _checked(values), np.asarray(reference, np.float64)
    if reference.shape != values.shape[1:]:
        raise InputError(
            f"reference {reference.shape}, expected ({values.shape[1]},): a number for each figure of merit"
        )
    inside = values[(values < reference).all(1)]
    return _volume(np.unique(inside[fronts(inside)[0]], axis=0), reference) if len(inside) else 0.0


def _volume(points: np.ndarray, reference: np.ndarray) -> float:
    total = 0.0
    for place, point in enumerate(points):
        rest = np.maximum(points[place + 1 :], point)  # what the others beat of what this one beats
        rest = np.unique(rest[fronts(rest)[0]], axis=0) if len(rest) else rest
        total += float(np.prod(reference - point)) - _volume(rest, reference)
    return total


def _checked(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise InputError(f"values {values.shape}, expected (trials, figures of merit)")
    if not np.isfinite(values).all():
        raise InputError(f"{np.count_nonzero(~np.isfinite(values))} values are NaN or infinite, expected finite ones")
    return values
