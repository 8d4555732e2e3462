"""Members: K independently seeded copies of a model in one compiled program, by a leading axis of every weight.

With kernels (K, F, H) and biases (K, H) the products of K networks are one batched product. A model of one member has no
such axis at all: it is the plain model. Batches are shared, (B, F); what is computed from them is (K, B, ...). Losses
are reduced over their last axes to (K,), and their sum over members is what is differentiated: no member's gradient
knows of another.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from zoo.keras import keras
from zoo.keras.optimizer_updates import update_of


def leading(members: int) -> tuple[int, ...]:
    """Return the shape that comes before all others: () for one member, (K,) for K.

    >>> leading(1), leading(20)
    ((), (20,))
    """
    return () if members == 1 else (members,)


def before(value: tf.Tensor, axes: int) -> tf.Tensor:
    """Add axes to a value per member (K,), so that it multiplies with (K, ...); a scalar stays a scalar.

    >>> before(tf.zeros(20), 2).shape, before(tf.constant(1.0), 2).shape
    (TensorShape([20, 1, 1]), TensorShape([]))
    """
    return tf.reshape(value, (*value.shape, *[1] * axes)) if value.shape.rank else tf.convert_to_tensor(value)


class RuntimeValues:
    """Runtime hyperparameters as variables that a compiled program reads, () or (K,) each, by their names as attributes.

    Those that all members share are always ().
    """

    def __init__(self, hp, members: int):
        shared, lead = type(hp).shared(), leading(members)
        self.variables: dict[str, tf.Variable] = {}
        for name in type(hp).runtime():
            value = np.asarray(getattr(hp, name), np.float32)
            value = value if name in shared else np.broadcast_to(value, lead)
            self.variables[name] = tf.Variable(value, trainable=False, name=name)

    def __getattr__(self, name: str) -> tf.Variable:
        variables = self.__dict__.get("variables", {})
        if name not in variables:
            raise AttributeError(f"{name!r} is no runtime hyperparameter; there are {', '.join(variables)}")
        return variables[name]

    def assign(self, hp) -> None:
        """Take the values of other hyperparameters."""
        for name, variable in self.variables.items():
            variable.assign(np.broadcast_to(np.asarray(getattr(hp, name), np.float32), variable.shape))


class MemberMean(keras.metrics.Metric):
    """The mean over what it is given, member by member: `members` each, `result` their mean.

    >>> mean = MemberMean("loss", members=2)
    >>> _ = mean.update_state(tf.constant([[1.0, 3.0], [5.0, 7.0]]))
    >>> mean.members.numpy().tolist(), float(mean.result())
    ([2.0, 6.0], 4.0)
    """

    def __init__(self, name: str, members: int = 1):
        super().__init__(name)
        self._lead = leading(members)
        self.total = self.add_weight("total", self._lead, initializer="zeros")
        self.count = self.add_weight("count", (), initializer="zeros")

    def update_state(self, value, sample_weight=None):
        """Add a value per member, () or (K,), or per member and event, (B,) or (K, B)."""
        per_event = value.shape.rank > len(self._lead)
        self.total.assign_add(tf.reduce_sum(value, -1) if per_event else value)
        self.count.assign_add(tf.cast(tf.shape(value)[-1], tf.float32) if per_event else 1.0)

    def reset_state(self):
        for variable in self.variables:
            variable.assign(tf.zeros_like(variable))

    @property
    def members(self) -> tf.Tensor:
        """The mean of each member, () or (K,)."""
        return tf.math.divide_no_nan(self.total, self.count)

    def result(self):
        return tf.reduce_mean(self.members)


def memberwise(optimizer: type[keras.optimizers.Optimizer]) -> type[keras.optimizers.Optimizer]:
    """Return a Keras optimizer whose rate is multiplied by a variable `share`, () or (K,): one factor per member."""

    class Memberwise(optimizer):
        def __init__(self, learning_rate, shares: tuple[tf.Variable, ...], **options):
            self._shares, self._rate = shares, None
            super().__init__(learning_rate, **options)

        @property
        def learning_rate(self):
            return super().learning_rate if self._rate is None else self._rate

        @learning_rate.setter
        def learning_rate(self, rate):
            optimizer.learning_rate.fset(self, rate)

        def update_step(self, gradient, variable):
            rate = tf.cast(self.learning_rate, variable.dtype)
            for share in self._shares:
                rate = rate * before(share, variable.shape.rank - 1)
            self._rate = rate
            try:
                super().update_step(gradient, variable)
            finally:
                self._rate = None

        def apply_gradients(self, grads_and_vars, *args, **options):
            pairs = list(grads_and_vars)
            update = update_of(self, optimizer)
            plain = all(isinstance(one, tf.Tensor) for one, _ in pairs) and not any(s.shape.rank for s in self._shares)
            if update is None or not plain:
                return super().apply_gradients(pairs, *args, **options)
            update(self, tf.cast(self.learning_rate, tf.float32) * tf.reduce_prod(tf.stack(self._shares)), pairs)
            return self.iterations.assign_add(1)

        def slots(self, weight: tf.Variable) -> list[tf.Variable]:
            """Return what the optimizer remembers of a weight, such as its momenta."""
            place, count = self._index_dict[self._var_key(weight)], len(self._index_dict)
            kept = [vars(self)[name] for name in sorted(vars(self)) if name not in ("_variables", "_shares")]
            lists = [one for one in kept if isinstance(one, (list, tuple)) and len(one) == count]
            return [one[place] for one in lists if isinstance(one[place], tf.Variable)]

    Memberwise.__name__ = Memberwise.__qualname__ = optimizer.__name__
    return Memberwise


class OneOf:
    """Several optimizers of the same weights, of which one is active: one program serves them all.

    Args:
        parts: of different classes.
    """

    def __init__(self, parts: Sequence[keras.optimizers.Optimizer]):
        self.parts = tuple(parts)
        self.at_work = tf.Variable(0, dtype=tf.int64, trainable=False)

    def apply_gradients(self, gradients_and_weights) -> None:
        """Change the weights as the one at work does."""
        pairs = list(gradients_and_weights)

        def apply(part):
            part.apply_gradients(pairs)

        tf.switch_case(tf.cast(self.at_work, tf.int32), [functools.partial(apply, part) for part in self.parts])

    def take(self, like: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
        """Put to work, and return, the one of the same name; raises `StopIteration` if there is none."""
        place = next(i for i, part in enumerate(self.parts) if type(part).__name__ == type(like).__name__)
        self.at_work.assign(place)
        return self.parts[place]


def parts_of(optimizer) -> tuple[keras.optimizers.Optimizer, ...]:
    """Return the optimizers that one is made of: itself, or those of `OneOf`."""
    return optimizer.parts if isinstance(optimizer, OneOf) else (optimizer,)


class BestEpoch:
    """The best epoch of each member by a quantity of its training, and its weights of that epoch if they are kept.

    What it knows are variables, so that a checkpoint has them. While the phase is trained, the weights are those of the
    present epoch; `settle` exchanges them for the best ones, `unsettle` takes that back to go on.
    """

    def __init__(self, rule, members: int, active: tf.Variable, weights: list[tf.Variable]):
        self.rule, self._active = rule, active  # an `EarlyStopping`
        lead = leading(members)
        self.value = tf.Variable(tf.zeros(lead), trainable=False)
        self.epoch = tf.Variable(tf.zeros(lead, tf.int64), trainable=False)  # counted from 0; -1: none yet
        self.settled = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._weights = weights if rule.restore_best_weights else []
        self._kept = [tf.Variable(tf.zeros_like(weight), trainable=False) for weight in self._weights]
        self.reset()

    @property
    def variables(self) -> list[tf.Variable]:
        """All that a checkpoint has to keep."""
        return [self.value, self.epoch, self.settled, *self._kept]

    def kept(self, weight: tf.Variable) -> tf.Variable | None:
        """Return where the best value of a weight is, if it is kept."""
        return next((kept for one, kept in zip(self._weights, self._kept) if one is weight), None)

    def reset(self) -> None:
        """Forget every epoch."""
        for variable in self.variables:
            variable.assign(tf.zeros_like(variable))
        self.epoch.assign(tf.fill(self.epoch.shape, tf.constant(-1, tf.int64)))

    def update(self, epoch: int, value: np.ndarray) -> None:
        """Learn what the quantity was in an epoch, and who has stopped."""
        sign = 1.0 if self.rule.mode == "max" else -1.0
        value, best = np.asarray(value), self.value.numpy()
        with np.errstate(invalid="ignore"):
            better = sign * value > sign * best + self.rule.min_delta * np.abs(best)
        better = np.isfinite(value) & ((self.epoch.numpy() < 0) | better)
        better &= self._active.numpy() > 0  # without learning, chance still moves the quantity
        self.value.assign(np.where(better, value, best))
        self.epoch.assign(np.where(better, epoch, self.epoch.numpy()))
        if better.any():
            for kept, weight in zip(self._kept, self._weights):
                kept.assign(weight if better.all() else tf.where(_beside(better, weight), weight, kept))
        self.stop_members(epoch)

    def stop_members(self, epoch: int) -> None:
        """Stop the members that have not become better for `patience` epochs; the others learn."""
        waited = epoch - self.epoch.numpy()
        learns = np.ones_like(waited) if self.rule.patience is None else waited < self.rule.patience
        self._active.assign(learns.astype(np.float32))

    def settle(self) -> None:
        """Put the best weights in place of the last ones."""
        if not int(self.settled) and self._kept:
            self._exchange(1)

    def unsettle(self) -> None:
        """Put the last weights back."""
        if int(self.settled):
            self._exchange(0)

    def _exchange(self, settled: int) -> None:
        for kept, weight in zip(self._kept, self._weights):
            past = weight.numpy()
            found = _beside(self.epoch >= 0, weight)  # others keep what they have
            weight.assign(tf.where(found, kept, past))
            kept.assign(tf.where(found, past, kept))
        self.settled.assign(settled)


def _beside(of_members, weight: tf.Variable) -> tf.Tensor:
    """Give what is of every member as many axes as its weight has."""
    of_members = tf.convert_to_tensor(of_members)
    return before(of_members, weight.shape.rank - of_members.shape.rank)


class MemberHistory(keras.callbacks.Callback):
    """Writes down what each member's terms were at the end of every epoch of a phase."""

    def __init__(self, trainer, phase: str, best: BestEpoch | None):
        super().__init__()
        self._of, self._phase, self._best = trainer, phase, best

    def on_epoch_begin(self, epoch, logs=None):
        self._training = None

    def on_test_begin(self, logs=None):  # Keras forgets the training's terms after this
        self._training = self._present()

    def on_epoch_end(self, epoch, logs=None):
        terms, watched = (self._present(), {}) if self._training is None else (self._training, self._present())
        terms = dict(terms)
        if self._best is not None:
            self._best.update(epoch, terms[self._best.rule.monitor])
            if not self._of.active.numpy().any():
                self.model.stop_training = True
        terms |= {f"val_{name}": value for name, value in watched.items()}
        if self.model.members > 1:
            self._of.member_rows += [
                {"phase": self._phase, "epoch": epoch, "member": member}
                | {k: float(v[member]) if np.isfinite(v[member]) else None for k, v in terms.items()}
                for member in range(self.model.members)
            ]

    def _present(self) -> Mapping[str, np.ndarray]:
        means = [metric for metric in self.model.metrics if isinstance(metric, MemberMean) and float(metric.count)]
        return {metric.name: metric.members.numpy() for metric in means}
