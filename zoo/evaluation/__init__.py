"""What a trained model is worth: `zoo.score`, `zoo.evaluate`, `zoo.explain` and `zoo.plot`."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.evaluation.scores import Evaluation, Scores, duplicates, evaluate, score

__all__ = ["Evaluation", "Scores", "duplicates", "evaluate", "score"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("zoo.evaluation.scores"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
