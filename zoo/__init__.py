"""A zoo of Keras anomaly detectors for the LHC.

    >>> import zoo
    >>> "gan_ae" in zoo.names()
    True
    >>> model = zoo.get("gan_ae", preset="lhco2020")

Nothing heavy is imported until a model is asked for.
"""

from pipelines.moved import alias
from zoo.registry import describe, get, names, register

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
        }.items()
    }
)

__all__ = ["AnomalyModel", "bumphunt", "describe", "get", "load", "names", "register"]


def __getattr__(name):
    if name == "AnomalyModel":
        from zoo.base import AnomalyModel

        return AnomalyModel
    if name == "load":
        from zoo.run import load

        return load
    if name == "bumphunt":
        from pipelines.bumphunt.spectrum_hunt import bumphunt

        return bumphunt
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")
