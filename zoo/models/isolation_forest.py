"""Isolation forest: events that few random cuts separate from all others.

F. T. Liu, K. M. Ting, Z.-H. Zhou, "Isolation forest", ICDM 2008, 413, called the paper here. The trees are grown by
scikit-learn; what is kept of them are arrays.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import tensorflow as tf

from pipelines.errors import InputError
from zoo.base import COUNT, Limit, hyperparameter
from zoo.models.closed_form import ClosedForm, SampleHyperparameters
from zoo.registry import register

SUBSAMPLE = Limit(2, 2**16, whole=True)


def mean_path(events: np.ndarray | float) -> np.ndarray:
    """Return c(n) = 2 H(n - 1) - 2 (n - 1) / n, the mean length of an unsuccessful search in a tree of n (eq. 1 of the paper).

    H(i) is ln i + 0.5772..., as in the paper; c(2) = 1 and c(1) = 0.

    >>> mean_path(np.array([1, 2, 256])).round(3).tolist()
    [0.0, 1.0, 10.245]
    """
    n = np.asarray(events, np.float64)
    some = np.maximum(n, 3)
    return np.where(n > 2, 2 * (np.log(some - 1) + np.euler_gamma) - 2 * (some - 1) / some, (n == 2).astype(float))


@register("isolation_forest")
class IsolationForest(ClosedForm):
    """Isolation forest: events that few random cuts separate from all others are anomalous (Liu, Ting, Zhou 2008).

    Each of `trees` trees cuts `subsample` events at random, a random feature at a random value. It ends where every
    event is alone, or at a depth of log2 of their number. With h(x) the number of cuts to the leaf of x, and c(n) more
    for the n events in it, the score is eq. 2 of the paper,

        isolation(x) = 2^(- mean_trees h(x) / c(subsample))

    between 0 and 1; about 0.5 where nothing is unusual. Event weights play no part.

    Raises `InputError` naming a hyperparameter out of range.

    Example:
        >>> import pipelines, zoo
        >>> model, events = zoo.get("isolation_forest", trees=20), pipelines.open("lhco_sim_train").sample(2000)
        >>> history = model.fit(events, verbose=0, jit_compile=False)
        >>> bool((model.score(events) < 1).all())
        True
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(SampleHyperparameters):
        trees: int = hyperparameter(100, "trees of the forest", COUNT)
        subsample: int = hyperparameter(256, "events that a tree is grown of", SUBSAMPLE)

    hp: Hyperparameters

    presets = {"liu2008": {"trees": 100, "subsample": 256}}
    score_kinds = ("isolation",)

    def make(self, width):
        shape = (self.hp.trees * self.most_nodes,)
        self.feature, self.left, self.right = (
            self.learnt_weight(name, shape, "int64") for name in ("feature", "left", "right")
        )
        self.threshold, self.path = (self.learnt_weight(name, shape) for name in ("threshold", "path"))

    @property
    def most_nodes(self) -> int:
        """How many nodes a tree has at most."""
        return 2 * self.hp.subsample - 1

    @property
    def depth(self) -> int:
        """How many cuts lead to a leaf at most."""
        return math.ceil(math.log2(self.hp.subsample))

    def check_enough(self, events):
        super().check_enough(events)
        if len(events) < self.hp.subsample:
            raise InputError(f"{events.name}: {len(events)} events, expected at least subsample={self.hp.subsample}")
        if self.hp.sample < self.hp.subsample:
            raise InputError(
                f"subsample={self.hp.subsample} is not possible; expected at most sample={self.hp.sample}, the events that "
                f"trees are grown of"
            )

    def learn(self, x, weight, seed):
        from sklearn.ensemble import IsolationForest as Forest

        subsample = min(self.hp.subsample, len(x))  # as scikit-learn takes it of fewer events, with a warning
        grown = Forest(n_estimators=self.hp.trees, max_samples=subsample, random_state=seed).fit(x)
        trees = [self._arrays(tree.tree_, index) for index, tree in enumerate(grown.estimators_)]
        return {name: np.concatenate([tree[name] for tree in trees]) for name in trees[0]}

    def _arrays(self, tree, index: int) -> dict[str, np.ndarray]:
        """Return the nodes of a tree, padded to `most_nodes`: a leaf is its own child."""
        here, is_leaf = np.arange(tree.node_count), tree.children_left < 0
        cuts = np.zeros(tree.node_count)
        for node in here[~is_leaf]:  # parents come before their children
            cuts[[tree.children_left[node], tree.children_right[node]]] = cuts[node] + 1
        threshold = tree.threshold.astype(np.float32)
        above = threshold > tree.threshold  # x <= t of a float32 x means x <= the next float32 below t
        threshold[above] = np.nextafter(threshold[above], np.float32(-np.inf))
        nodes = {
            "feature": np.where(is_leaf, 0, tree.feature),
            "left": np.where(is_leaf, here, tree.children_left) + index * self.most_nodes,
            "right": np.where(is_leaf, here, tree.children_right) + index * self.most_nodes,
            "threshold": threshold,
            "path": cuts + mean_path(tree.n_node_samples),
        }
        return {name: np.pad(values, (0, self.most_nodes - tree.node_count)) for name, values in nodes.items()}

    def scores(self, x):
        names = ("feature", "left", "right", "threshold", "path")
        forests = [[getattr(self, name)[member] for name in names] for member in range(self.members)]
        forests = forests if self.member_shape else [[getattr(self, name) for name in names]]
        lengths = tf.stack([self._mean_length(x, *forest) for forest in forests])
        lengths = tf.cast(lengths if self.member_shape else lengths[0], tf.float64)
        # in float64: the last bit of a float32 power depends on the place of an event among those scored with it
        return tf.cast(tf.pow(tf.constant(2.0, tf.float64), -lengths / mean_path(self.hp.subsample)), tf.float32)

    def _mean_length(self, x, feature, left, right, threshold, path):
        """Return the mean over trees of the cuts to the leaf of scaled events (B, F), (B,)."""
        roots = tf.range(self.hp.trees, dtype=tf.int64) * self.most_nodes
        node = tf.tile(roots[None, :], (tf.shape(x)[0], 1))
        for _ in range(self.depth):
            value = tf.gather(x, tf.gather(feature, node), batch_dims=1)
            node = tf.where(value <= tf.gather(threshold, node), tf.gather(left, node), tf.gather(right, node))
        return tf.reduce_mean(tf.gather(path, node), -1)

    def infer(self, features):
        return {"isolation": self.scores(self.scaler(features))}

    @classmethod
    def search_space(cls, hp):
        return {
            "trees": hp.Int("trees", 20, 200, sampling="log"),
            "subsample": hp.Choice("subsample", [64, 256, 1024]),
            "scaling": hp.Choice("scaling", ["standard", "quantile"]),
        }
