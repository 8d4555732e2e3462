"""Trained models for others: SavedModels, Keras' format and ONNX, the cut values inside, and what an export says of itself.

Nothing is imported before it is asked for: `zoo.serving.artefact` reads an export without TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.serving.contents import Serving, about_function, described, licence, of_members, serving_of, without_places

__all__ = ["Serving", "about_function", "described", "licence", "of_members", "serving_of", "without_places"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("zoo.serving.contents"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
