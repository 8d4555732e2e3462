"""The contract of `AnomalyModel` as checks for any model: `zoo check`, `zoo.check`, and tests.

Each check is a claim about a model, and a function that raises `AssertionError` where it does not hold. The model is
trained a few times on some thousand events, made small by the hyperparameters of `SMALL` that it has.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from pipelines.errors import InputError
from zoo.base import AnomalyModel
from zoo.conformance.claims import CHECKS
from zoo.conformance.subject import Subject, example_events

__all__ = ["CHECKS", "Outcome", "Subject", "check", "example_events"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Whether a claim holds for a model; if not, the first lines of the reason."""

    claim: str
    holds: bool
    reason: str = ""


def check(
    model: str | type[AnomalyModel],
    hyperparameters: Mapping[str, object] | None = None,
    pattern: str = "*",
    progress: Callable[[Outcome], object] = lambda outcome: None,
) -> list[Outcome]:
    """Put a model through the contract of `AnomalyModel`; return which claims hold.

    Args:
        model: a registered name, or a subclass of `zoo.AnomalyModel`.
        hyperparameters: of the small model, over those of `SMALL` that it has.
        pattern: of the claims to check, for the shell, as "*seed*".
        progress: called with every outcome.

    Raises `InputError` for an unknown model, one of spectra, or a pattern that no claim matches.

    >>> [outcome.holds for outcome in check("deep_svdd", pattern="config*")]
    [True]
    """
    chosen = {text: one for text, one in CHECKS.items() if fnmatch.fnmatch(text, pattern)}
    if not chosen:
        raise InputError(f"no claim matches {pattern!r}; expected a pattern of {', '.join(CHECKS)}")
    subject, outcomes = Subject(model, hyperparameters), []
    for text, one in chosen.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                one(subject, Path(folder))
                outcomes.append(Outcome(text, True))
            except Exception as error:  # of the model's own code, which may raise anything
                outcomes.append(Outcome(text, False, _first_lines(error)))
        progress(outcomes[-1])
    return outcomes


def _first_lines(error: BaseException) -> str:
    text = " ".join(line.strip() for line in str(error).strip().splitlines()[:8] if line.strip())
    return f"{type(error).__name__}: {text}"[:400]
