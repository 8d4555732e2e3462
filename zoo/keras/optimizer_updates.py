"""Updates of optimizers as one operation a weight, where TensorFlow has one of Keras' formula.

Keras writes an update in a dozen operations. Of a small network that is most of what is traced, and most of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from zoo.keras import keras

Pairs = Sequence[tuple[tf.Tensor, tf.Variable]]
OPTIONS = ("weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema", "amsgrad", "adaptive_epsilon")


def adam(optimizer: Any, rate: tf.Tensor, pairs: Pairs) -> None:
    """Update weights as Adam does (Kingma & Ba 2015, algorithm 1, in the order of its section 2)."""
    steps = tf.cast(optimizer.iterations + 1, rate.dtype)
    beta_1, beta_2 = (tf.constant(beta, rate.dtype) for beta in (optimizer.beta_1, optimizer.beta_2))
    options = {
        "beta1_power": tf.pow(beta_1, steps),
        "beta2_power": tf.pow(beta_2, steps),
        "lr": rate,
        "beta1": beta_1,
        "beta2": beta_2,
        "epsilon": tf.constant(optimizer.epsilon, rate.dtype),
    }
    for gradient, weight in pairs:
        mean, square = _slots(optimizer, weight, "_momentums", "_velocities")
        tf.raw_ops.ResourceApplyAdam(var=weight.handle, m=mean, v=square, grad=gradient, **options)


def adadelta(optimizer: Any, rate: tf.Tensor, pairs: Pairs) -> None:
    """Update weights as Adadelta does (Zeiler 2012, algorithm 1), its step times the learning rate."""
    options = {"lr": rate, "rho": tf.constant(optimizer.rho, rate.dtype)}
    options["epsilon"] = tf.constant(optimizer.epsilon, rate.dtype)
    for gradient, weight in pairs:
        square, change = _slots(optimizer, weight, "_accumulated_grads", "_accumulated_delta_vars")
        tf.raw_ops.ResourceApplyAdadelta(var=weight.handle, accum=square, accum_update=change, grad=gradient, **options)


UPDATES: dict[type, Callable[[Any, tf.Tensor, Pairs], None]] = {
    keras.optimizers.Adam: adam,
    keras.optimizers.Adadelta: adadelta,
}


def update_of(optimizer: Any, kind: type) -> Callable[[Any, tf.Tensor, Pairs], None] | None:
    """Return what updates all weights of an optimizer of a Keras class; None where its options need Keras' own."""
    if tf.distribute.has_strategy() or any(getattr(optimizer, name, None) for name in OPTIONS):
        return None
    return UPDATES.get(kind)


def _slots(optimizer: Any, weight: tf.Variable, *names: str) -> list[tf.Tensor]:
    place = optimizer._index_dict[optimizer._var_key(weight)]
    return [getattr(optimizer, name)[place].handle for name in names]
