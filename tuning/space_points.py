"""Points of a search space: random ones, its corners, and which name makes which hyperparameter."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipelines.errors import InputError
from tuning.kerastuner import keras_tuner

MOST = 1_000_000  # of whole numbers that a space makes something of, such as as many layers
PROBES = 6  # random points of a space from which it is found out which name makes which hyperparameter


def sample(space: keras_tuner.HyperParameters, seed: int) -> keras_tuner.HyperParameters:
    """Return a copy of a space with random values for what is active, as KerasTuner's oracles draw them."""
    rng, drawn = random.Random(seed), space.copy()
    drawn.values = {}
    for one in space.space:
        if drawn.is_active(one):
            drawn.values[one.name] = one.random_sample(rng.getrandbits(30))
    return drawn


def settle(point: keras_tuner.HyperParameters, given: Mapping[str, Any]) -> keras_tuner.HyperParameters:
    """Give a space the given values where they are active, and the defaults of all else that is."""
    point.values, point.active_scopes, point.inactive_scopes = {}, [], []
    for one in point.space:
        if point.is_active(one):
            value = given.get(one.name, one.default)
            point.values[one.name] = value if is_possible(one, value) else one.default
    return point


def is_possible(one, value: object) -> bool:
    """Return whether a hyperparameter of KerasTuner may have a value."""
    return one.min_value <= value <= one.max_value if hasattr(one, "min_value") else value in one.values


def number_wanted(one, value: object) -> str | None:
    """Return what was expected in place of a value of a name whose own values are numbers, or None if it is one of them.

    A model knows the limits of its hyperparameters; of a name such as `depth`, which only a space has, its own values tell.
    """
    kind, own = type(one).__name__, [v for v in getattr(one, "values", ()) if v is not None]
    is_bool = isinstance(value, bool)
    if kind == "Boolean":
        return None if is_bool else "true or false"
    if not own or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in own):
        return None
    if kind == "Int" or (kind == "Choice" and all(isinstance(v, int) for v in own)):
        possible = isinstance(value, int) and not is_bool and abs(value) <= MOST
        return None if possible else f"a whole number of at most {MOST:,}"
    possible = isinstance(value, (int, float)) and not is_bool and math.isfinite(value)
    return None if possible else "a finite number"


def parents(space: keras_tuner.HyperParameters, one) -> dict[str, Any]:
    """Return the values of others that make a hyperparameter active, where they can have such values."""
    wanted = {condition.name: condition.values for condition in one.conditions}
    found: dict[str, Any] = {}
    for other in space.space:
        for value in wanted.get(other.name, ()):
            if is_possible(other, value):
                found = {other.name: value, **parents(space, other), **found}
                break
    return found


def complete(draw: Callable) -> keras_tuner.HyperParameters:
    """Return every hyperparameter that a function of `hp` may ask for, found by drawing until nothing new comes."""
    space = keras_tuner.HyperParameters()
    draw(space)
    for seed in range(1000):
        drawn = sample(space, seed)
        before = len(drawn.space)
        draw(drawn)
        for one in drawn.space[before:]:
            space._register(one)
        if len(drawn.space) == before and seed >= PROBES:
            return space
    raise InputError("this search space asks for new hyperparameters at every draw; expected a finite number")


@functools.lru_cache(maxsize=64)
def definitions(search_space: Callable) -> Mapping[str, Any]:
    """Return what a model's space says of every name."""
    return {one.name: one for one in reversed(complete(search_space).space)}  # of equal names the first


@functools.lru_cache(maxsize=64)
def repeated(search_space: Callable) -> Mapping[str, tuple[object, ...]]:
    """Return the names that a model asks for under several conditions, each with all that its space says of it."""
    found: dict[str, list[object]] = {}
    for one in complete(search_space).space:
        found.setdefault(one.name, []).append(one)
    return {name: tuple(each) for name, each in found.items() if len(each) > 1}


def conditional_name(name: str, conditions: Sequence) -> str:
    """Return what KerasTuner is told to call a name that is there under several conditions: it loses values of equal names.

    >>> plain_name("learning_rate[adam]")
    'learning_rate'
    """
    values = [str(value) for condition in conditions for value in condition.values]
    return f"{name}[{','.join(values)}]" if values else name


def plain_name(name: str) -> str:
    """Return the name that the model asks for, of one that KerasTuner has."""
    return name.partition("[")[0]


def can_be(conditions: Sequence, space: keras_tuner.HyperParameters) -> bool:
    """Return whether conditions can be met in a space at all, or all of their parents have other values."""
    by_name = {one.name: one for one in space.space}
    return all(
        condition.name not in by_name or any(is_possible(by_name[condition.name], v) for v in condition.values)
        for condition in conditions
    )


@functools.lru_cache(maxsize=64)
def feeds(search_space: Callable) -> Mapping[str, set[str]]:
    """Return for every name of a space the hyperparameters that depend on it, by changing one name at a time."""
    space = complete(search_space)
    point = space.copy()
    made_by: dict[str, set[str]] = {one.name: set() for one in space.space}
    for seed in range(PROBES):
        drawn = sample(space, seed).values
        for one in space.space:
            active = {**drawn, **parents(space, one)}
            made = [search_space(settle(point, active | {one.name: value})) for value in ends(one)]
            names = {name for each in made for name in each}
            made_by[one.name] |= {name for name in names if any(each.get(name) != made[0].get(name) for each in made)}
    return made_by


def ends(one) -> list[object]:
    """Return the values of a hyperparameter that its corners have."""
    if hasattr(one, "min_value"):
        return list(dict.fromkeys([one.min_value, one.prob_to_value(0.5), one.prob_to_value(1.0 - 1e-12)]))
    return list(one.values)
