"""Hyperband's brackets for an exact number of trials (Li et al. 2018, JMLR 18(185), Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral


@dataclass(frozen=True)
class Round:
    """Trials of one bracket trained to the same epoch: `size` (>= 1) of them, to `epochs` (>= 1, cumulative).

    >>> Round(size=9, epochs=3)
    Round(size=9, epochs=3)
    """

    size: int
    epochs: int


@dataclass(frozen=True)
class Bracket:
    """One run of successive halving: bracket `number` s of Hyperband, and its rounds.

    >>> print(Bracket(1, (Round(6, 3), Round(2, 9))))
    bracket 1: 6 to epoch 3, best 2 to epoch 9
    """

    number: int
    rounds: tuple[Round, ...]

    @property
    def trials(self):
        """The number of trials, sum_i n_i: a promoted configuration is a new trial, as KerasTuner counts.

        >>> Bracket(1, (Round(6, 3), Round(2, 9))).trials
        8
        """
        return sum(each.size for each in self.rounds)

    @property
    def total_epochs(self):
        """The epochs trained, sum_i n_i (r_i - r_{i-1}): promoted trials continue from their weights.

        >>> Bracket(1, (Round(6, 3), Round(2, 9))).total_epochs
        30
        """
        steps = pairwise((Round(0, 0), *self.rounds))
        return sum(after.size * (after.epochs - before.epochs) for before, after in steps)

    def __str__(self):
        steps = ", best ".join(f"{each.size} to epoch {each.epochs}" for each in self.rounds)
        return f"bracket {self.number}: {steps}"


def _deepest_bracket(max_epochs, factor):
    """s_max = floor(log_eta R) (Li et al. 2018, Algorithm 1), in integers: floats give log_3(243) < 5."""
    number = 0
    while factor ** (number + 1) <= max_epochs:
        number += 1
    return number


def _first_size(number, max_epochs, factor):
    """n = ceil(B/R eta^s / (s + 1)) with B = (s_max + 1) R (Li et al. 2018, Algorithm 1)."""
    return -(-(_deepest_bracket(max_epochs, factor) + 1) * factor**number // (number + 1))


def _epochs(number, index, max_epochs, factor):
    """r_i = R eta^(i - s) (Li et al. 2018, Algorithm 1), rounded up to whole epochs."""
    return -(-max_epochs // factor ** (number - index))


def _sizes(first, number, factor):
    """n_i = floor(n eta^-i) for i = 0 ... s (Li et al. 2018, Algorithm 1), at least 1."""
    return [max(1, first // factor**i) for i in range(number + 1)]


def _bracket(number, sizes, max_epochs, factor):
    rounds = (Round(size, _epochs(number, i, max_epochs, factor)) for i, size in enumerate(sizes))
    return Bracket(number, tuple(rounds))


def _standard_bracket(number, max_epochs, factor):
    sizes = _sizes(_first_size(number, max_epochs, factor), number, factor)
    return _bracket(number, sizes, max_epochs, factor)


def _small_bracket(trials, number, max_epochs, factor):
    """The deepest bracket, s or below, whose rounds, of so few trials in all, at least halve each time."""
    fitting = [n for n in range(1, trials + 1) if sum(_sizes(n, number, factor)) <= trials]
    sizes = _sizes(max(fitting, default=1), number, factor)
    sizes[0] += trials - sum(sizes)  # Where one trial more or less costs the fewest epochs.
    if all(2 * after <= before for before, after in pairwise(sizes)):
        return _bracket(number, sizes, max_epochs, factor)
    return _small_bracket(trials, number - 1, max_epochs, factor)


def _require_integer(name, value, least):
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} = {value!r}: must be an integer, at least {least}")
    return int(value)


def plan(trials, max_epochs, factor=3):
    """Lay out exactly N trials in Hyperband brackets, the most aggressive first.

    A bracket s of Hyperband (Li et al. 2018, JMLR 18(185), Algorithm 1) starts n = ceil((s_max + 1) eta^s /
    (s + 1)) configurations; its round i trains the best floor(n eta^-i) of them to epoch R eta^(i - s). Here
    the paper's cycle s = s_max, ..., 0 is repeated while whole brackets fit into N; what remains is one
    bracket of smaller n, the deepest that still halves at every round. So every bracket takes a configuration
    to `max_epochs`. An N below the first bracket is that one small bracket: a short search gains most by
    looking at many configurations briefly.

    Args:
        trials: N, the number of trials, at least 1. A promoted configuration counts as a new trial.
        max_epochs: R, the epochs of a fully trained configuration, at least 1.
        factor: eta, at least 2: one configuration in eta is promoted.

    Returns:
        list of Bracket: the sizes of all rounds add up to N, and never grow within a bracket.

    Raises:
        ValueError: an argument is not an integer in its range.

    >>> for bracket in plan(20, max_epochs=9, factor=3):
    ...     print(bracket)
    bracket 2: 9 to epoch 1, best 3 to epoch 3, best 1 to epoch 9
    bracket 1: 5 to epoch 3, best 1 to epoch 9
    bracket 0: 1 to epoch 9
    """
    return extended([trials], max_epochs, factor)


def extended(budgets, max_epochs, factor=3):
    """Lay out a search that was asked for N trials and went on with more: no bracket changes, others follow.

    The cycle of `plan` goes on where it was: a bracket that was cut short stays as it is, and comes again. So if all
    but the last of the budgets end with a whole bracket, the plan is that of a search which began with the last.

    Args:
        budgets: numbers of trials in all, each larger than the one before. max_epochs, factor: as of `plan`.

    Returns and raises as `plan`.

    >>> extended([13, 19], max_epochs=9) == plan(19, max_epochs=9)
    True
    >>> for bracket in extended([3, 6], max_epochs=9):
    ...     print(bracket)
    bracket 1: 2 to epoch 3, best 1 to epoch 9
    bracket 1: 2 to epoch 3, best 1 to epoch 9
    """
    budgets = [_require_integer("trials", trials, 1) for trials in budgets]
    if any(after <= before for before, after in pairwise(budgets)):
        raise ValueError(f"trials = {budgets}: must grow from each budget to the next")
    max_epochs, factor = _require_integer("max_epochs", max_epochs, 1), _require_integer("factor", factor, 2)
    deepest = _deepest_bracket(max_epochs, factor)
    if deepest == 0:  # Nothing to halve: the cycle's one-trial brackets are one random search.
        return [_small_bracket(budgets[-1], 0, max_epochs, factor)]
    brackets, number = [], deepest
    for before, trials in pairwise((0, *budgets)):
        left = trials - before
        while left:
            bracket = whole = _standard_bracket(number, max_epochs, factor)
            if whole.trials > left:
                bracket = _small_bracket(left, number, max_epochs, factor)
            brackets.append(bracket)
            left -= bracket.trials
            if bracket == whole:
                number = number - 1 if number else deepest
    return brackets


def total_epochs(brackets):
    """The epochs that a plan trains, the sum over its brackets (see `Bracket.total_epochs`).

    >>> total_epochs(plan(13, max_epochs=9, factor=3))
    21
    """
    return sum(bracket.total_epochs for bracket in brackets)
