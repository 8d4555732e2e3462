"""Boosted trees as a layer: grown by scikit-learn, kept as arrays, evaluated by TensorFlow.

G. Ke et al., "LightGBM: a highly efficient gradient boosting decision tree", NeurIPS 2017, which scikit-learn's histogram
gradient boosting follows. T. Finke et al., "Tree-based algorithms for weakly supervised anomaly detection", Phys. Rev. D 109
(2024) 034033 (arXiv:2309.13111), use them as the classifier of weak supervision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.keras import keras

FEATURE, THRESHOLD, LEFT, RIGHT, VALUE = range(5)  # the numbers of a node


class BoostedTrees(keras.layers.Layer):
    """Groups of boosted trees, whose sums are logits: features (B, F) to (B,), each event by the group that it names.

    A node is five float32 numbers: feature, threshold, left and right child, value. An event goes left where its feature is
    at most the threshold. A leaf is its own child, and has the value that it adds; whole numbers this small are exact.

    Args:
        trees: of a group, at most. leaves: of a tree, at most.
        shape: of the groups, such as (members, folds).

    Example:
        >>> x = np.random.default_rng(0).normal(size=(500, 2)).astype("float32")
        >>> layer = BoostedTrees(10, 4, (1,))
        >>> layer.assign([grown(x, x[:, 0] > 0, np.ones(500), trees=10, leaves=4)])
        >>> logits = layer(x, tf.zeros(500, tf.int64)).numpy()
        >>> bool(((logits > 0) == (x[:, 0] > 0)).mean() > 0.95)
        True
    """

    def __init__(self, trees: int, leaves: int, shape: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.trees, self.most_nodes, self.groups = trees, 2 * leaves - 1, math.prod(shape)
        fixed = {"initializer": "zeros", "trainable": False}
        self.nodes = self.add_weight("nodes", (*shape, trees, self.most_nodes, 5), **fixed)
        self.base = self.add_weight("base", tuple(shape), **fixed)
        self.depth = self.add_weight("depth", (), dtype=tf.int64, **fixed)
        self.used = self.add_weight("used", (), dtype=tf.int64, **fixed)  # trees of the largest group
        self.built = True

    def assign(self, groups: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Take what `grown` gave for every group, in the order of a flattened shape."""
        padded = [np.zeros((self.trees, self.most_nodes, 5), np.float32) for _ in groups]
        for nodes, group in zip(padded, groups):
            trees, most = group["nodes"].shape[:2]
            nodes[:trees, :most] = group["nodes"]
        self.nodes.assign(np.reshape(np.stack(padded), self.nodes.shape))
        self.base.assign(np.reshape([group["base"] for group in groups], self.base.shape))
        self.depth.assign(max(int(group["depth"]) for group in groups))
        self.used.assign(max(len(group["nodes"]) for group in groups))

    def call(self, x: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
        """Return the logits (B,) of features (B, F) by groups (B,), int64 indices into the flattened shape."""
        x = tf.convert_to_tensor(x)
        nodes = tf.reshape(self.nodes, (-1, 5))
        first = group[:, None] * self.trees + tf.range(self.used)
        first = first * self.most_nodes  # (B, T): the roots

        def down(step: tf.Tensor, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            at = tf.gather(nodes, first + place)
            value = tf.gather(x, tf.cast(at[..., FEATURE], tf.int32), batch_dims=1)
            child = tf.where(value <= at[..., THRESHOLD], at[..., LEFT], at[..., RIGHT])
            return step + 1, tf.cast(child, tf.int64)

        start = (tf.zeros((), tf.int64), tf.zeros_like(first))
        _, leaf = tf.while_loop(lambda step, place: step < self.depth, down, start)
        return tf.gather(tf.reshape(self.base, (-1,)), group) + tf.reduce_sum(
            tf.gather(nodes, first + leaf)[..., VALUE], -1
        )


def grown(
    x: np.ndarray,
    first: np.ndarray,
    weight: np.ndarray,
    *,
    trees: int = 100,
    leaves: int = 31,
    learning_rate: float = 0.1,
    least: int = 20,
    held_out: float = 0.1,
    patience: int = 10,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Grow trees that tell the first class from the other, and return them as arrays for `BoostedTrees`.

    By scikit-learn's `HistGradientBoostingClassifier` in one thread, so that a seed gives the same trees everywhere.

    Args:
        x: (n, F) float32. first: (n,) bool. weight: (n,) >= 0.
        trees, leaves, least: at most so many trees, leaves of a tree; at least so many events in a leaf.
        learning_rate: by which every tree is shrunk.
        held_out: share of the events, drawn with the seed, by whose loss growing ends after `patience` trees without a
            better one; 0 grows all trees.

    Returns:
        nodes (T, N, 5) float32 of T trees, base and depth.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    early = {"early_stopping": held_out > 0, "validation_fraction": held_out or None, "n_iter_no_change": patience}
    made = HistGradientBoostingClassifier(
        max_iter=trees, max_leaf_nodes=leaves, learning_rate=learning_rate, min_samples_leaf=least, random_state=seed, **early
    )  # fmt: skip
    with threadpool_limits(1, "openmp"):
        made.fit(x, np.asarray(first, bool), sample_weight=weight)
    # scikit-learn has no public way to the trees of this classifier; a test holds these to its `decision_function`
    each = [one[0].nodes for one in made._predictors]
    nodes = np.zeros((len(each), max(map(len, each), default=1), 5), np.float32)
    for place, tree in enumerate(each):
        nodes[place, : len(tree)] = _rows(tree)
    depth = max([int(tree["depth"].max()) for tree in each], default=0)
    return {"nodes": nodes, "base": np.float32(np.ravel(made._baseline_prediction)[0]), "depth": np.int64(depth)}


def _rows(tree: np.ndarray) -> np.ndarray:
    """Return the nodes of a tree of scikit-learn as rows of five numbers."""
    leaf, here = tree["is_leaf"].astype(bool), np.arange(len(tree))
    threshold = tree["num_threshold"].astype(np.float32)
    above = threshold > tree["num_threshold"]  # x <= t of a float32 x means x <= the next float32 below t
    threshold[above] = np.nextafter(threshold[above], np.float32(-np.inf))
    columns = [
        np.where(leaf, 0, tree["feature_idx"]),
        np.where(leaf, 0.0, threshold),
        np.where(leaf, here, tree["left"]),
        np.where(leaf, here, tree["right"]),
        np.where(leaf, tree["value"], 0.0),
    ]
    rows: np.ndarray = np.stack(columns, axis=1).astype(np.float32)
    return rows
