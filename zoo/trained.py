"""What every use of a run shares: its model, the events to use it on, and the tails that suit its score."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipelines.errors import InputError
from pipelines.events.events import Events

Run = object  # a run directory, or a model that is trained


def trained_model(run, data_kind: str = "events"):
    """Return the trained model of a run directory, or the model itself if it is one.

    Raises `InputError` if it is neither, for a name of the zoo that is no run, and if the model reads another kind of data.
    """
    from zoo import registry
    from zoo.run import load

    if not isinstance(run, (str, os.PathLike)):
        if not callable(getattr(run, "score", None)):
            raise TypeError(f"run is {type(run).__name__}, expected a run directory or a trained model")
        model, where = run, getattr(run, "zoo_name", type(run).__name__)
    else:
        if not Path(run).exists() and str(run) in registry.names():
            raise InputError(f"{run} is a model, not a run directory; train it first, as `zoo train {run}` does")
        model, where = load(run), run
    if hasattr(model, "require"):
        model.require(data_kind, where)
    return model


def about_run(run) -> Mapping[str, object]:
    """Return what a run, or a model loaded from one, says of itself; nothing of another model (see `zoo.run.origin`)."""
    from zoo.run import origin

    if isinstance(run, (str, os.PathLike)):
        return origin(run)
    return getattr(run, "loaded_from", None) or {}


def mass_range_of(run) -> tuple[float, float] | None:
    """Return the mass range, in GeV, of the events that a run was trained on; None if it is not known."""
    return about_run(run).get("mass_range")


def conversion_of(run) -> dict[str, object]:
    """Return the options by which the training events of a run were converted, for other files of their kind."""
    return dict(about_run(run).get("conversion") or {})


def open_for(run, data, mass_range=None, **options: object) -> Events:
    """Open events for a run, files as `pipelines.open`; what has to be converted is so as the training events were.

    `options` of the conversion go before those of the run.
    """
    from pipelines.datasets.opening import open_events

    return open_events(data, mass_range, defaults=conversion_of(run), **options)


def natural_tails(model, kind: str | None = None) -> str:
    """Return which tails of a model's score to look at, "both" or "upper" (see `pipelines.bumphunt.search`)."""
    from pipelines.bumphunt import search

    return search.natural_tails(model, kind)
