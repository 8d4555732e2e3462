"""Configurations drawn at random: never one twice and, if wanted, of few architectures.

Compiling an architecture costs as much as training it for many epochs on a small sample. A search that is allowed
`architectures` = A of them draws A configurations freely; configuration n after those takes what changes a shape from
number n modulo A of the first, and draws everything else anew. So every architecture is tried with many settings of its
runtime hyperparameters, which tells more about it than one, and is compiled once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tuning.kerastuner import keras_tuner


class RandomSampler:
    """What KerasTuner's oracles that draw at random share; to be mixed in before them.

    KerasTuner gives up after 20 collisions, often with configurations left. After 20 (t + 1), t the number tried, one
    that is left was overlooked with probability (1 - 1/(t + 1))^(20 (t + 1)) < e^-20.
    """

    # of KerasTuner's oracle
    _tried_so_far: set[str]
    _duplicate: Callable[[Mapping[str, Any]], bool]
    _seed_state: int
    hyperparameters: keras_tuner.HyperParameters

    _architectures, _number_drawn = 0, 0
    _shapes: frozenset[str] = frozenset()
    _first: dict[int, Mapping[str, Any]] = {}

    def limit_architectures(self, architectures: int, shapes: Iterable[str]) -> None:
        """Draw no more than so many different values of the names in `shapes`; before anything is drawn."""
        self._architectures, self._shapes, self._first = architectures, frozenset(shapes), {}

    def _random_values(self) -> dict[str, Any] | None:
        for attempt in range(20 * (len(self._tried_so_far) + 1)):
            values = self._sample(self._number_drawn + attempt)
            if not self._duplicate(values):
                if self._number_drawn < self._architectures:
                    self._first[self._number_drawn] = {name: values[name] for name in self._shapes & set(values)}
                self._number_drawn += 1
                return values
        return None

    def _sample(self, number: int) -> dict[str, Any]:
        known = min(self._architectures, len(self._first))
        shape = self._first[number % known] if known and number >= self._architectures else {}
        drawn = keras_tuner.HyperParameters()
        for one in self.hyperparameters.space:
            drawn.merge([one])
            if drawn.is_active(one):
                value = one.random_sample(self._seed_state)
                self._seed_state += 1
                drawn.values[one.name] = shape.get(one.name, value)
        return drawn.values
