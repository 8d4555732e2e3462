"""What a trained model is worth: `zoo.score`, `zoo.evaluate`, `zoo.explain` and `zoo.plot`."""

from typing import TYPE_CHECKING

from pipelines.moved import names_on_demand

if TYPE_CHECKING:
    from zoo.evaluation.scores import Evaluation, Scores, duplicates, evaluate, score

__all__ = ["Evaluation", "Scores", "duplicates", "evaluate", "score"]

__getattr__ = names_on_demand(__name__, dict.fromkeys(__all__, "zoo.evaluation.scores"))
