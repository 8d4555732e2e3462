"""Where a trained model comes from: what a search has to know, and to say, of the run that it uses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from zoo.run import read_config

KEPT = ("hyperparameters", "data", "epochs", "tuning", "mass_range")


def origin(run: str | os.PathLike) -> Mapping[str, object]:
    """Return what a run directory says of itself: its `folder`, and what it was trained with and on.

    `tuning` is what `tune` wrote there: whether labels chose the hyperparameters (see
    `pipelines.bumphunt.result.truth_in_tuning`). Of the name of a model, which is no directory, nothing.
    A model that was loaded has it as `loaded_from`, where `pipelines.bumphunt.search` looks for it.

    >>> origin("gan_ae")
    mappingproxy({})
    """
    if not Path(run).is_dir():
        return MappingProxyType({})
    config = read_config(run)
    return MappingProxyType({"folder": str(run), **{name: config.get(name) for name in KEPT}})
