"""Events made up of particles, and the formulas of `zoo.sets` and `zoo.layers.graphs` written as plain loops."""

import numpy as np

from pipelines.datasets.darkmachines import OBJECT_COLUMNS
from zoo.conformance import example_events

PARTICLE = OBJECT_COLUMNS


def particles(size, seed=0):
    """Events as Dark Machines has them, with labels that mean nothing."""
    return example_events(True, size, seed)


def chamfer(x, y):
    """Eq. 2 of arXiv:2110.08508 for two lists of particles."""
    there = sum(min(sum(abs(a - b) for a, b in zip(p, q)) for q in y) for p in x)
    back = sum(min(sum(abs(a - b) for a, b in zip(p, q)) for p in x) for q in y)
    return there + back


def nearest(eta, phi, real, neighbours):
    """The adjacency of one event by loops: the nearest in dR of every particle, in both directions, and itself."""
    slots = len(eta)
    adjacency = np.zeros((slots, slots))
    for i in np.flatnonzero(real):
        adjacency[i, i] = 1
        others = [j for j in np.flatnonzero(real) if j != i]
        dphi = {j: (phi[i] - phi[j] + np.pi) % (2 * np.pi) - np.pi for j in others}
        for j in sorted(others, key=lambda j: (eta[i] - eta[j]) ** 2 + dphi[j] ** 2)[:neighbours]:
            adjacency[i, j] = adjacency[j, i] = 1
    return adjacency
