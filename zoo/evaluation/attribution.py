"""What each input contributes to a score: residuals, integrated gradients, permutation.

All three take the arrays that a model takes of N events, and give numbers (N, F) in units of the score.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.errors import InputError

Arrays = Mapping[str, np.ndarray]
RESIDUAL_KINDS = ("mse", "distance", "reconstruction")  # score kinds that grow with the squares of the residuals
STEPS = 64  # of the path of integrated gradients
BLOCK = 4096  # events with their steps at a time


def names_of(model: Any) -> tuple[str, ...]:
    """Return the names of what contributes: the variables of the particles, and the features."""
    return (*model.inputs.object_columns, *model.inputs.columns)


def has_residuals(model: Any, kind: str) -> bool:
    """Return whether a score kind is one of the residuals of single features, which are known of scalings with an inverse."""
    features = model.reconstructs and not model.inputs.object_columns and model.scaler.invertible
    return bool(features and kind in RESIDUAL_KINDS)


def residuals(model: Any, arrays: Arrays, kind: str) -> np.ndarray:
    """Return the share of each feature in a reconstruction error.

        c_f = s r_f^2 / sum_g r_g^2,   r = x - x' in scaled units

    The sum over features is the score s; for a mean squared error c_f = r_f^2 / F exactly. Of several members the mean.
    """
    features = np.asarray(arrays["features"], np.float32)
    found = model.results({"features": features}, [kind, "reconstructed"])
    score, made = found[kind], found["reconstructed"]
    if not model.member_shape:
        score, made = score[None], made[None]
    x = model.scaler(tf.constant(features)).numpy()
    squares = np.stack([np.square(x - model.scaler(tf.constant(one)).numpy()) for one in made])
    total = squares.sum(axis=-1, keepdims=True)
    share = np.divide(squares, total, out=np.full_like(squares, 1 / squares.shape[-1]), where=total > 0)
    return np.asarray((share * score[..., None]).mean(axis=0), np.float64)


def integrated_gradients(
    model: Any, arrays: Arrays, kind: str, baseline: np.ndarray, steps: int = STEPS
) -> tuple[np.ndarray, np.ndarray]:
    """Return integrated gradients (N, F) from a baseline (F,), and what they miss of the score, (N,).

        c_f = (x_f - b_f) int_0^1 ds/dx_f (b + t (x - b)) dt

    (Sundararajan, Taly and Yan 2017, arXiv:1703.01365), by the midpoint rule. Completeness: the sum over features is
    s(x) - s(b); what is missing of it is the error of the rule, or of a score that jumps.

    Raises `InputError` for models that take particles, and for scores without gradients.
    """
    if model.inputs.object_columns:
        raise InputError(
            "method gradients: the model takes particles, whose number cannot change by steps; take permutation"
        )
    if model.inputs.mass:
        raise InputError("method gradients: the score takes the mass of an event too; take permutation")
    x = np.asarray(arrays["features"], np.float32)
    b = np.asarray(baseline, np.float32)
    fractions = ((np.arange(steps) + 0.5) / steps).astype(np.float32)
    per_event, found = max(1, BLOCK // steps), []
    for first in range(0, len(x), per_event):
        part = x[first : first + per_event]
        points = b + fractions[:, None, None] * (part - b)
        gradient = _gradient(model, tf.constant(points.reshape(-1, x.shape[1])), kind)
        found.append((part - b) * gradient.reshape(points.shape).mean(axis=0))
    contributions = np.concatenate(found).astype(np.float64)
    score = model.score({"features": np.concatenate([x, b[None]])}, kind).astype(np.float64)
    return contributions, score[:-1] - score[-1] - contributions.sum(axis=1)


def _gradient(model: Any, points: tf.Tensor, kind: str) -> np.ndarray:
    with tf.GradientTape() as tape:
        tape.watch(points)
        score = model.infer(points)[kind]
        total = tf.reduce_sum(tf.reduce_mean(score, 0) if model.member_shape else score)
    gradient = tape.gradient(total, points)
    if gradient is None:
        raise InputError(f"method gradients: the score {kind} has no gradient; take permutation")
    return np.asarray(gradient)


def permutation(model: Any, arrays: Arrays, kind: str, reference: Arrays, repeats: int, seed: int = 0) -> np.ndarray:
    """Return how much lower each score is, on average, if one input is that of another event.

        c_f = s(x) - mean over r of s(x with x_f of reference event r)

    An input that the score does not use contributes 0, but of classifiers in folds: there other features may mean another
    fold's network. A variable of particles is replaced in all particles of an event at once,
    each by that of a particle in the same slot of another event; slots that are empty stay so.

    Args:
        arrays: of the N events. reference: arrays of the events that values are drawn from. repeats: draws.
    """
    given = {name: np.asarray(values, np.float32) for name, values in arrays.items()}
    score = model.score(given, kind).astype(np.float64)
    found = []
    for name, values in (
        (name, given[name]) for name in given if given[name].ndim > 1
    ):  # the mass is no input of its own
        for column in range(values.shape[-1]):
            rng = np.random.default_rng([seed, column])
            lower = np.zeros(len(score))
            for _ in range(repeats):
                changed = values.copy()
                changed[..., column] = _drawn(values, np.asarray(reference[name], np.float32), column, rng)
                lower += score - model.score({**given, name: changed}, kind)
            found.append(lower / repeats)
    return np.stack(found, axis=1)


def _drawn(values: np.ndarray, reference: np.ndarray, column: int, rng: np.random.Generator) -> np.ndarray:
    """Values of one column of other events: (N,) of features, (N, P) of particles."""
    if values.ndim == 2:
        return np.asarray(reference[rng.integers(len(reference), size=len(values)), column])
    there, drawn = np.asarray(values.any(axis=-1)), values[..., column].copy()
    for slot in range(values.shape[1]):
        real = np.flatnonzero(reference[:, slot].any(axis=-1))
        mine = np.flatnonzero(there[:, slot])
        if len(real):
            drawn[mine, slot] = reference[real[rng.integers(len(real), size=len(mine))], slot, column]
    return drawn
