"""A zoo of Keras anomaly detectors for the LHC.

    >>> import zoo
    >>> "gan_ae" in zoo.names()
    True
    >>> model = zoo.get("gan_ae", preset="lhco2020")

Nothing heavy is imported until a model is asked for.
"""

import os
import sys
from typing import Any

from pipelines.moved import alias
from pipelines.quiet import imported

# TensorFlow reads this when it is imported: without, it imports Keras 3 beside Keras 2, which takes longer than a second.
keras_chosen_here = "tensorflow" not in sys.modules and not os.environ.get("TF_USE_LEGACY_KERAS")
if keras_chosen_here:
    os.environ["TF_USE_LEGACY_KERAS"] = "1"

alias(
    {
        f"zoo.{old}": f"zoo.{new}"
        for old, new in {
            "flows": "layers.flows",
            "graphs": "layers.graphs",
            "latent": "layers.latent",
            "scalers": "layers.scalers",
            "members": "ensemble",
            "curves": "models.ddp.curves",
            "spectrum_network": "models.ddp.network",
            "scanning": "models.ddp.scan",
            "terminal": "cli.terminal",
            "sets": "models.set_vae",
            "origin": "run",
            "export": "serving.saved_model",
            "saved_model": "serving.saved_model",
            "onnx_model": "serving.onnx_model",
            "served_folds": "serving.served_folds",
            "cut_values": "serving.cut_values",
            "artefact": "serving.artefact",
            "keras_habits": "keras.refusals",
            "fused": "keras.optimizer_updates",
            "gradients": "keras.released_gradients",
            "iterators": "keras.released_iterators",
            "larger": "padded_networks",
            "machine": "machine_check",
            "scalars": "tensorboard",
            "trained": "opened_run",
            "folds": "hunting.folds",
            "window_scan": "hunting.window_scan",
            "spectra_scan": "hunting.spectra_scan",
            "explanation": "evaluation.explanation",
            "attribution": "evaluation.attribution",
            "figures": "evaluation.figures",
        }.items()
    }
)

_WHERE = {  # names whose modules take NumPy, SciPy or TensorFlow: imported when they are asked for
    "AnomalyModel": "zoo.base",
    "benchmark": "zoo.comparison.benchmark",
    **dict.fromkeys(("describe", "get", "names", "register"), "zoo.registry"),
    "as_estimator": "zoo.estimator",
    "check": "zoo.conformance",
    "bumphunt": "pipelines.bumphunt.spectrum_hunt",
    "doctor": "zoo.machine_check",
    "evaluate": "zoo.evaluation.scores",
    "explain": "zoo.evaluation.explanation",
    "export": "zoo.serving.saved_model",
    "hunt": "zoo.hunting.bump_hunt",
    "load": "zoo.run",
    "plot": "zoo.evaluation.figures",
    "scan": "zoo.hunting.spectra_scan",
    "score": "zoo.evaluation.scores",
    "train": "zoo.training_run",
}

__all__ = [
    "AnomalyModel",
    "as_estimator",
    "benchmark",
    "bumphunt",
    "check",
    "describe",
    "doctor",
    "evaluate",
    "explain",
    "export",
    "get",
    "hunt",
    "load",
    "names",
    "plot",
    "register",
    "scan",
    "score",
    "train",
    "validate",
    "weights",
]


def __getattr__(name: str) -> Any:
    if name in ("hyperparameters", "registry", "settings", "validate", "weights"):  # modules
        return imported(f"zoo.{name}")
    if name in _WHERE:
        return getattr(imported(_WHERE[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
