"""ARGOS as a figure of merit: how much more of a signal region passes a cut on the score than of background.

No label is read: what passes in the region is compared with what passes in side bands, or in a template of background.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np

from pipelines import metrics, provenance
from pipelines.arguments import argument
from pipelines.errors import InputError
from pipelines.events.events import Events
from tuning.batch_cache import load_into_memory
from zoo import registry
from zoo.windows import FEWEST, Regions


@dataclasses.dataclass(frozen=True)
class SignalRegion:
    """The signal region that a detector is judged in, and what it is compared with.

    Args:
        regions: the window, and the side bands that it is compared with where there is no template.
        template: events of background in the window, without labels; None takes the side bands.
        described: what `search.json` says of the template.
    """

    regions: Regions
    template: Events | None = None
    described: Mapping[str, object] | None = None

    @classmethod
    def of(cls, model, window: Sequence[float], sidebands: Sequence[float], template: Events | None) -> SignalRegion:
        """Return the region that is given, or else that of a model that has one.

        Args:
            model: of the zoo; its own `window` and `sidebands` are taken where none are given.
            window, sidebands: (low, high) in GeV, or empty; sidebands may be one width. template: events of background, of which the window's are taken.

        Raises `InputError` for a region that is not possible, for none, for side bands beside a template, or for a
        template of too few events in the window.
        """
        if len(sidebands) and template is not None:
            raise InputError("sidebands and a template of background are given; choose one of the two")
        own = getattr(model, "hp", None)
        window, sidebands = window or getattr(own, "window", ()), sidebands or getattr(own, "sidebands", ())
        if not window:
            raise InputError(
                f"objective argos needs a signal region; give one in GeV, as {argument('window', (3300, 3700))}"
            )
        regions = Regions.between(window, () if template is not None else sidebands)
        if template is None:
            return cls(regions)
        inside = template.take(regions.inside(template.mass)).without_labels()
        if len(inside) < FEWEST:
            raise InputError(
                f"{template.name}: {len(inside)} events of background in the window {regions.low:g} to {regions.high:g} "
                f"GeV, expected at least {FEWEST}"
            )
        described = {
            "source": template.name,
            "events": len(template),
            "in_window": len(inside),
            "sha256": provenance.checksum(template),
        }
        return cls(regions, inside, described)

    def check(self, events: Events) -> None:
        """Raise `InputError` unless events that judge are enough in the window and, without a template, on both sides."""
        self.regions.check(events, sidebands=self.template is None)

    def loaded(self) -> SignalRegion:
        """Return the same with its template in memory, if that is small: every trial reads it."""
        template = None if self.template is None else load_into_memory(self.template)
        return dataclasses.replace(self, template=template)

    @property
    def description(self) -> dict[str, object]:
        """What `search.json` says of it, in GeV: a side band without an outer edge has None."""
        low, high = self.regions.outer_low, self.regions.outer_high
        outer = [edge if np.isfinite(edge) else None for edge in (low, high)]
        sidebands = None if self.template is not None else outer
        window = [self.regions.low, self.regions.high]
        return {"window": window, "sidebands": sidebands, "template": self.described}


def sensitivity(model, events: Events, region: SignalRegion) -> float:
    """Minus the largest ARGOS over cuts on the model's first score (see `pipelines.metrics.argos`).

    Of the events those in the window are compared with those in the side bands, or with the template, whichever the
    region has; by weight, if they have weights. Only cuts that `pipelines.metrics.ARGOS_LEAST` events of background pass
    count. The better of both tails of a score without direction.
    """
    score, mass, weight = model.score(events), events.mass, events.weight
    inside = region.regions.inside(mass)
    if region.template is None:
        beside = region.regions.beside(mass)
        known, of_known = score[beside], weight[beside]
    else:
        known, of_known = model.score_others(region.template), region.template.weight
    weighted = events.has("weight") or (region.template is not None and region.template.has("weight"))
    weights = (of_known, weight[inside]) if weighted else None
    tails = (1, -1) if model.score_kinds[0] in model.undirected else (1,)
    return -max(metrics.argos(tail * known, tail * score[inside], weights=weights)["argos"] for tail in tails)


def windowed(
    model: str, fixed: Mapping[str, object], window: Sequence[float], sidebands: Sequence[float]
) -> dict[str, object]:
    """Return fixed hyperparameters with those of the region that a model has itself, unless they are fixed already."""
    has = registry.defaults(registry.model_class(model))
    given = {"window": window, "sidebands": sidebands}
    own = {name: tuple(edges) for name, edges in given.items() if len(edges) and name in has and name not in fixed}
    return {**fixed, **own}


def chosen_region(
    needed: bool, model, searched: Container[str], window: Sequence[float], sidebands: Sequence[float], template
) -> SignalRegion | None:
    """Return the signal region of an objective, or None if it needs none.

    Args:
        needed: whether it needs one. model: as trials have it. searched: names of what is searched.
        window, sidebands, template: as they were given (see `SignalRegion.of`).

    Raises `InputError` as `SignalRegion.of`; if the model's own window is searched and no other is given; and for what is
    given and not needed.
    """
    if needed:
        if not len(window) and "window" in searched:
            raise InputError(
                "objective argos compares trials in one signal region, and window is searched; give one, as "
                f"{argument('window', (3300, 3700))}"
            )
        if template is None and not len(sidebands) and "sidebands" in searched:
            raise InputError(
                "objective argos compares trials in one signal region, and sidebands is searched; give some, as "
                f"{argument('sidebands', (2900, 4100))}"
            )
        return SignalRegion.of(model, window, sidebands, template)
    given = {"window": window, "sidebands": sidebands}
    idle = [name for name, edges in given.items() if len(edges) and not hasattr(model.hp, name)]
    if idle := [*idle, *(["template"] if template is not None else [])]:
        raise InputError(
            f"{argument(idle[0])} is of the objective argos, or of a model that has such a region itself; give "
            f"{argument('objective', 'argos')}, or leave it out"
        )
    return None


def described_region(region: SignalRegion | None) -> dict[str, Any]:
    """Return what `search.json` says of a signal region, or of none."""
    return dict.fromkeys(("window", "sidebands", "template")) if region is None else region.description
