"""The trained model behind a run directory or a model in memory, and events opened as those of its training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pipelines.datasets.opening import open_events
from pipelines.errors import InputError
from pipelines.events.events import Events
from zoo import run as runs


def trained_model(run: Any, data_kind: str = "events") -> Any:
    """Return the model of a run directory, or a trained model as it is.

    Raises `InputError` as `zoo.load`, and for a model of another kind of data ("events" or "spectra").
    """
    is_folder = isinstance(run, (str, os.PathLike))
    model = runs.load(run) if is_folder else run
    if not callable(getattr(model, "require", None)):
        raise InputError(f"{type(model).__name__} is no model of the zoo; expected a run directory, or a trained model")
    model.require(data_kind, run if is_folder else model.zoo_name)
    return model


def about_run(run: Any) -> Mapping[str, Any]:
    """Return what a run directory, or a model that was loaded from one, was trained with and on (see `zoo.run.origin`).

    >>> dict(about_run("gan_ae"))
    {}
    """
    if isinstance(run, (str, os.PathLike)):
        return runs.origin(run)
    return getattr(run, "loaded_from", None) or {}


def mass_range_of(run: Any) -> tuple[float, float] | None:
    """Return the range of masses that a run was trained on, GeV; None if it was trained on all events."""
    return about_run(run).get("mass_range")


def open_for(run: Any, events: Any, mass_range: tuple[float, float] | None = None, **conversion: Any) -> Events:
    """Open events as `pipelines.open`, converted with the options of the run's training if they need it."""
    return open_events(events, mass_range, defaults=about_run(run).get("conversion"), **conversion)
