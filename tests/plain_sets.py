"""Events made up of particles, and the formulas of `zoo.sets` and `zoo.layers.graphs` written as plain loops."""

import numpy as np

from pipelines import Events
from pipelines.datasets.darkmachines import OBJECT_COLUMNS as PARTICLE
from pipelines.datasets.darkmachines import SLOTS


def particles(size, seed=0):
    """Events as Dark Machines has them: 39 slots by type, falling pt, some empty; MET and HT; a label that means nothing."""
    rng = np.random.default_rng(seed)
    objects = np.zeros((size, sum(SLOTS), len(PARTICLE)), np.float32)
    first = np.cumsum(SLOTS) - SLOTS
    for kind, (start, slots) in enumerate(zip(first, SLOTS), 1):
        found = np.minimum(rng.poisson(4.0, size) + 1 if kind == 1 else rng.poisson(0.5, size), slots)
        pt = 20 - np.sort(-rng.exponential(60.0, (size, slots)), axis=1)
        eta, phi = rng.normal(0, 1.2, pt.shape), rng.uniform(-np.pi, np.pi, pt.shape)
        block = np.stack([pt * np.cosh(eta), pt, eta, phi, np.full(pt.shape, kind)], axis=-1)
        objects[:, start : start + slots] = np.where((np.arange(slots) < found[:, None])[..., None], block, 0)
    met, ht = 50 + rng.exponential(100.0, size), objects[:, : SLOTS[0] + SLOTS[1], 1].sum(axis=1)
    features, label = np.stack([met, ht, rng.normal(size=size)], axis=1), (met > 200).astype("int8")
    about = {"objects": objects, "object_columns": PARTICLE, "mass_column": "meff"}
    return Events.from_arrays(features, met + ht, ["MET", "HT", "noise"], label=label, **about)


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
