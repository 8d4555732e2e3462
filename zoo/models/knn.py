"""Nearest neighbours: how far an event is from the nearest of those that the model remembers.

S. Ramaswamy, R. Rastogi, K. Shim, "Efficient algorithms for mining outliers from large data sets", SIGMOD 2000; F. Angiulli,
C. Pizzuti, "Fast outlier detection in high dimensional spaces", PKDD 2002, for the mean over neighbours.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from pipelines.errors import InputError
from zoo.base import COUNT, hyperparameter
from zoo.models.closed_form import ClosedForm, SampleHyperparameters
from zoo.registry import register

ROWS = 1024  # events whose distances are worked out at a time: of 10,000 references they take 40 MB
FAR = np.float32(1e30)  # the squared distance of a place that no event fills


@register("knn")
class NearestNeighbours(ClosedForm):
    """Nearest neighbours: events far from all that the model remembers are anomalous (Angiulli and Pizzuti 2002).

    The score of a scaled event x is the mean of its Euclidean distances from the k = `neighbours` nearest reference events,

        distance(x) = 1/k sum_{j <= k} |x - r_(j)|

    The references are `sample` events of the training, drawn at random. An event that is one of them has itself as its
    nearest neighbour: score other events than those, as by `zoo hunt --folds`. Event weights play no part. The cost of a
    score grows with `sample` times the number of features.

    Raises `InputError` naming a hyperparameter out of range.

    Example:
        >>> import pipelines, zoo
        >>> model, events = zoo.get("knn", sample=500), pipelines.open("lhco_sim_train").sample(2000)
        >>> history = model.fit(events, verbose=0, jit_compile=False)
        >>> model.score(events).shape
        (2000,)
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(SampleHyperparameters):
        neighbours: int = hyperparameter(5, "nearest reference events whose distances are averaged", COUNT)
        sample: int = hyperparameter(10_000)

        def check(self) -> None:
            super().check()
            if self.neighbours > self.sample:
                raise InputError(
                    f"neighbours={self.neighbours} is not possible; expected at most sample={self.sample}, the reference "
                    f"events"
                )

    hp: Hyperparameters

    score_kinds = ("distance",)

    def make(self, width):
        self.references = self.learnt_weight("references", (self.hp.sample, width))
        self.absent = self.learnt_weight("absent", (self.hp.sample,))

    def check_enough(self, events):
        super().check_enough(events)
        if len(events) < self.hp.neighbours:
            raise InputError(f"{events.name}: {len(events)} events, expected at least neighbours={self.hp.neighbours}")

    def learn(self, x, weight, seed):
        references = np.zeros((self.hp.sample, x.shape[1]), np.float32)
        references[: len(x)] = x
        return {"references": references, "absent": np.where(np.arange(self.hp.sample) < len(x), np.float32(0), FAR)}

    def scores(self, x):
        squares = tf.reduce_sum(tf.square(self.references), -1) + self.absent
        products = tf.matmul(x, self.references, transpose_b=True)
        squared = tf.reduce_sum(tf.square(x), -1, keepdims=True) + tf.expand_dims(squares, -2) - 2.0 * products
        nearest = tf.math.top_k(-squared, self.hp.neighbours).indices
        # anew of those few: a small distance is lost in the difference of large squares
        chosen = tf.gather(self.references, nearest, batch_dims=len(self.member_shape))
        return tf.reduce_mean(tf.sqrt(tf.reduce_sum(tf.square(tf.expand_dims(x, -2) - chosen), -1)), -1)

    def infer(self, features):
        x = self.scaler(features)
        size, members = tf.shape(x)[0], self.member_shape
        room = (ROWS - size % ROWS) % ROWS  # of numbers below 0 ONNX has another remainder
        blocks = tf.reshape(tf.pad(x, [[0, room], [0, 0]]), (-1, ROWS, x.shape[-1]))
        found = tf.map_fn(self.scores, blocks)  # (n, ROWS) or (n, K, ROWS)
        found = tf.reshape(tf.transpose(found, (1, 0, 2)) if members else found, (*members, -1))
        return {"distance": found[:, :size] if members else found[:size]}  # tf2onnx does not know an ellipsis here

    @classmethod
    def search_space(cls, hp):
        return {
            "neighbours": hp.Int("neighbours", 1, 100, sampling="log"),
            "sample": hp.Choice("sample", [1_000, 3_000, 10_000]),
            "scaling": hp.Choice("scaling", ["standard", "minmax", "quantile"]),
        }
