"""The trained model behind a run directory or a model in memory, and events opened as those of its training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.datasets import opening
from pipelines.datasets.opening import Defaults, open_events
from pipelines.errors import InputError
from pipelines.events.column_kinds import TRUTH, WEIGHT, kind_of_column
from pipelines.events.derived import derivable, sources
from pipelines.events.events import Events
from pipelines.events.layout import some_of
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


def open_for(
    run: Any, events: Any, mass_range: tuple[float, float] | None = None, *, also: Sequence[str] = (), **conversion: Any
) -> Events:
    """Open events as `pipelines.open`; what has to be converted is so as the events of the run's training were.

    Args:
        run: a run directory, or a trained model. events: what `pipelines.open` takes.
        mass_range: keep low <= mass < high, GeV.
        also: columns that are wanted beside the model's own.
        conversion: options of `zoo data convert`, which go before those of the training, and `said` and `progress`; or a
            dict of them by this name, as `zoo.train` and `zoo.hunt` take it.
    """
    conversion = {**(conversion.pop("conversion", None) or {}), **conversion}
    return open_events(events, mass_range, defaults=conversion_defaults(run, also), **conversion)


def open_each(
    run: Any, groups: Sequence[Any], mass_range: tuple[float, float] | None = None, **conversion: Any
) -> list[Events]:
    """Open several samples as `open_for`, some of which may need no conversion; raises `InputError` if none needs it."""
    return opening.open_each(groups, mass_range, defaults=conversion_defaults(run), **conversion)


def conversion_defaults(run: Any, also: Sequence[str] = ()) -> Defaults:
    """Return what a run's training says of how others' events become its own: see `pipelines.datasets.opening`.

    Of a table these are the columns of the model, those of `also`, and the mass of the training. Other options are those of
    its own conversion, for files of the same family.
    """
    about = about_run(run)
    of_training = dict(about.get("conversion") or {})
    made = of_training.pop("format", None)
    met = getattr(getattr(run, "trainer", None), "data", None)  # what a model in memory was trained on
    mass = (about.get("data") or {}).get("mass_column") or (met.about.mass_column if isinstance(met, Events) else None)
    columns = (about.get("hyperparameters") or {}).get("columns") or getattr(run, "resolved_columns", None) or ()

    def defaults(family: str, there: Sequence[str]) -> Mapping[str, object]:
        own = of_training if made in (None, family) else {}
        if family != "table":
            return own
        wanted = [*columns, *(name for name in also if name != "mass")]
        possible = derivable(there)
        stored = dict.fromkeys(one for name in wanted for one in (sources(name) if name in possible else [name]))
        if barred := [name for name in stored if name in there and kind_of_column(name) in (TRUTH, WEIGHT)]:
            raise InputError(
                f"{run if isinstance(run, (str, os.PathLike)) else run.zoo_name}: trained on "
                f"{some_of(barred)}: truth or a weight by its name, and no feature of a table; train again without, or if it "
                f"is a variable of an event rename it in the table and train again"
            )
        features = {"features": tuple(stored)} if columns else {}
        return {**({"mass": mass} if mass else {}), **own, **features}

    return defaults
