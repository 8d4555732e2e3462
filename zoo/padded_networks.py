"""A network inside a larger one, so that networks of many sizes share one program.

The weights of the smaller network are in the corners of the larger one's, beside zeros. An activation that is zero at zero
then gives zeros for the units that are not there, and their weights have gradients of zero: what remains is the smaller
network, step by step, but for rounding. Where XLA does not have to know all sizes, hidden layers are multiplied as the
smaller ones that they hold (`Dense.cut`). Hidden layers and flows that are not there are passed by (`MLP.hold`,
`FlowLayer.hold`); random numbers are those of the smaller network's widths (`Dropout`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.ensemble import OneOf, parts_of
from zoo.layers.dense import MLP
from zoo.state import read_variable

Pair = tuple[tf.Variable, tf.Variable]
Hyper = Mapping[str, object]


def room(names: Sequence[str], points: Sequence[Hyper]) -> dict[str, object]:
    """Return the sizes of a network that can hold the networks of all points, by resizable hyperparameters.

    Of several widths the first are the first, the others are counted from the last, as in `zoo.layers.dense.MLP.places`,
    and the same from back to front.

    >>> room(["units", "latent_dim"], [{"units": (64, 32), "latent_dim": 2}, {"units": (16, 48, 16), "latent_dim": 1}])
    {'units': (64, 64, 32), 'latent_dim': 2}
    """
    found: dict[str, object] = {}
    for name in names:
        values: list[Any] = [point[name] for point in points if point.get(name) is not None]
        if values:
            found[name] = max(values) if isinstance(values[0], int) else _in_both_orders(values)
    return found


def _in_both_orders(values: Sequence[Sequence[int]]) -> tuple[int, ...]:
    back = _widths([widths[::-1] for widths in values])[::-1]  # of decoders, which have the widths in reverse
    return tuple(map(max, _widths(values), back))


def _widths(values: Sequence[Sequence[int]]) -> tuple[int, ...]:
    longest = max(map(len, values))
    found = [0] * longest
    for widths in values:
        passed = longest - len(widths)
        for place, width in zip([0, *range(1 + passed, longest)], widths):
            found[place] = max(found[place], width)
        for place in range(1, 1 + passed):
            found[place] = max(found[place], widths[0])
    return tuple(found)


def size(model: Any) -> int:
    """Return how many trainable numbers a built model has."""
    return sum(math.prod(weight.shape) for weight in model.trainable_variables)


class Larger:
    """A built model that does what a smaller one of its kind would.

    Args:
        model: built, and never traced before.
        switched: by the names of switchable hyperparameters, the values that a smaller model may have.
        cuts: multiply with the corners alone, and not with the zeros beside them; not for what XLA compiles.

    >>> import zoo
    >>> kind = {"columns": ["a", "b"], "latent_dim": 1}
    >>> large, small = (zoo.get("vae", units=units, **kind) for units in ((16, 16, 16), (8, 4)))
    >>> for one in (large, small):
    ...     one.build_for(["a", "b"])
    >>> held = Larger(large)
    >>> held.hold(small)
    >>> x = tf.constant([[1.0, 2.0]])
    >>> bool(tf.reduce_all(abs(large.infer(x)["kl"] - small.infer(x)["kl"]) < 1e-5))
    True
    """

    def __init__(self, model: Any, switched: Mapping[str, Sequence[object]] | None = None, cuts: bool = False):
        self.model, self.cuts = model, cuts
        self._latest: tuple[Any, list[Pair]] | None = None
        for layer in model.submodules:
            if hasattr(layer, "cuts"):
                layer.cuts = cuts
        for name, values in (switched or {}).items():
            self._take_optimizers(name, values)
        lead = len(model.member_shape)
        # kernels of what is not there are zero; biases are what they start from, at which a flow's gradients are finite
        self._spare = {
            id(weight): np.zeros(weight.shape) if weight.shape.rank - lead > 1 else weight.numpy()
            for weight in model.trainable_variables
        }
        self._hold_sizes(model)

    def _take_optimizers(self, name: str, values: Sequence[object]) -> None:
        """Give every task the optimizers that it has by any of some values of a hyperparameter."""
        model = self.model
        each = []
        for value in values:
            model.hp = model.hp.replaced(**{name: value})
            each.append(model.tasks())
        for key, task in each[0].items():
            found = {type(one).__name__: one for tasks in reversed(each) for one in parts_of(tasks[key].optimizer)}
            optimizer = OneOf(list(found.values())) if len(found) > 1 else task.optimizer
            model.trainer.tasks[key] = dataclasses.replace(task, optimizer=optimizer)
        model.trainer.set_rates()

    def fits(self, smaller: Any) -> bool:
        """Return whether a built model of the same kind can be held."""
        try:
            pairs = self._pairs(smaller)
        except (KeyError, ValueError, StopIteration):
            return False
        room_of = all(
            len(one.shape) == len(other.shape) and all(a <= b for a, b in zip(one.shape, other.shape))
            for one, other in pairs
        )
        found = {id(one) for one, _ in pairs}
        return room_of and all(id(variable) in found for variable in smaller.state().values())

    def hold(self, smaller: Any) -> None:
        """Take the hyperparameters and the whole state of a smaller model, which is trained from now on."""
        model, pairs = self.model, self._pairs(smaller)
        self._hold_sizes(smaller)
        model.hp = smaller.hp
        model.runtime.assign(model.hp)
        model.trainer.restart()
        taken = {id(other): (other, one) for one, other in pairs}
        of_training = [variable for group in model.trainer.state().values() for variable in group]
        for variable in (*model.trainable_variables, *of_training):
            taken.setdefault(id(variable), (variable, None))
        for variable, one in taken.values():
            spare = self._spare.get(id(variable), 0)
            value = np.array(np.broadcast_to(spare, variable.shape), variable.dtype.as_numpy_dtype)
            if one is not None:
                value[_corner(one)] = read_variable(one)
            _write(variable, value)

    def give(self, smaller: Any) -> None:
        """Bring the state of the smaller model that is held to that model."""
        for one, other in self._pairs(smaller):
            _write(one, read_variable(other)[_corner(one)])
        smaller.member_rows = self.model.member_rows

    def _pairs(self, smaller: Any) -> list[Pair]:
        """Return each variable of a smaller model's state with the one of this model that holds it.

        Those of the latest model are remembered: a search asks for them at every epoch. Its optimizers are at work.
        Raises `ValueError` or `KeyError` if there is no such for some.
        """
        if self._latest is None or self._latest[0] is not smaller:
            self._latest = None  # until there are others: which optimizer is at work changes on the way
            self._latest = smaller, self._found_pairs(smaller)
        return self._latest[1]

    def _found_pairs(self, smaller: Any) -> list[Pair]:
        self.model.scale_as(smaller)
        pairs = list(_variables(smaller, self.model, set()))
        place = {id(one): other for one, other in pairs}
        mine, theirs = self.model.trainer, smaller.trainer
        pairs += [(theirs.clock, mine.clock), (theirs.main_epochs, mine.main_epochs)]
        for phase, best in theirs.best.items():
            pairs += [(getattr(best, name), getattr(mine.best[phase], name)) for name in ("value", "epoch", "settled")]
            kept = [(best.kept(w), mine.best[phase].kept(place[id(w)])) for w in smaller.trainable_variables]
            pairs += [(one, other) for one, other in kept if one is not None]
        done = set()
        for name, task in theirs.tasks.items():
            if id(task.optimizer) in done:
                continue
            done.add(id(task.optimizer))
            one, other = task.optimizer, mine.tasks[name].optimizer
            other = other.take(one) if isinstance(other, OneOf) else other
            pairs += [(one.iterations, other.iterations), (one.learning_rate, other.learning_rate)]
            for weight in task.weights:
                pairs += zip(one.slots(weight), other.slots(place[id(weight)]), strict=True)
        return pairs

    def _hold_sizes(self, smaller: Any) -> None:
        for one, other in _layers(smaller, self.model, set()):
            if hasattr(other, "hold"):
                other.hold(one)


def _variables(one: Any, other: Any, seen: set[int]) -> Iterator[Pair]:
    for mine, theirs in _matching(one, other, seen):
        if isinstance(mine, tf.Variable):
            yield mine, theirs


def _layers(one: Any, other: Any, seen: set[int]) -> Iterator[tuple[Any, Any]]:
    for mine, theirs in _matching(one, other, seen):
        if isinstance(mine, tf.Module):
            yield mine, theirs


def _matching(one: Any, other: Any, seen: set[int]) -> Iterator[tuple[Any, Any]]:
    """Yield what is in two models in the same place: variables and layers, found by their attributes."""
    if id(one) in seen:
        return
    seen.add(id(one))
    if isinstance(one, (tf.Variable, tf.Module)):
        yield one, other
    if isinstance(one, tf.Variable):
        return
    if isinstance(one, MLP):
        places = other.places(one)
        if places is None:
            raise ValueError(f"layers {[layer.units for layer in one.layers]} do not fit")
        yield from _each(zip(one.layers, (other.layers[place] for place in places)), seen)
    elif isinstance(one, tf.Module):
        names = [name for name in vars(one) if not name.startswith("_") and name != "means"]
        yield from _each(((getattr(one, name), getattr(other, name)) for name in sorted(names)), seen)
    elif isinstance(one, Mapping):
        yield from _each(((one[key], other[key]) for key in one), seen)
    elif isinstance(one, (list, tuple)):
        if len(one) > len(other):
            raise ValueError(f"{len(one)} parts do not fit into {len(other)}")
        yield from _each(zip(one, other), seen)


def _each(pairs: Any, seen: set[int]) -> Iterator[tuple[Any, Any]]:
    for mine, theirs in pairs:
        if isinstance(mine, (tf.Variable, tf.Module, Mapping, list, tuple)):
            yield from _matching(mine, theirs, seen)


def _corner(variable: tf.Variable) -> tuple[slice, ...]:
    return tuple(slice(0, length) for length in variable.shape)


def _write(variable: tf.Variable, value: np.ndarray) -> None:
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=tf.constant(value, variable.dtype))
