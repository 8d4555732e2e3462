"""Trained models for others: SavedModels, Keras' format and ONNX, the cut values inside, and what an export says of itself.

Nothing is imported before it is asked for: `zoo.serving.artefact` reads an export without TensorFlow.
"""

from typing import TYPE_CHECKING

from pipelines.moved import names_on_demand

if TYPE_CHECKING:
    from zoo.serving.contents import Serving, about_function, described, licence, of_members, serving_of, without_places

__all__ = ["Serving", "about_function", "described", "licence", "of_members", "serving_of", "without_places"]

__getattr__ = names_on_demand(__name__, dict.fromkeys(__all__, "zoo.serving.contents"))
