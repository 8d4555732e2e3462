"""What a scan of windows did and found."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.bumphunt.bump_hunt import DESCRIBES
from pipelines.bumphunt.limits import Limit, limit_of, limit_of_cut
from pipelines.bumphunt.result import QUOTED, SIGNIFICANCES, truth_in_tuning
from pipelines.events.events import Events
from pipelines.window_scan.backgrounds import Selected
from pipelines.window_scan.options import OF_SHARES, WindowScanOptions


@dataclasses.dataclass(frozen=True)
class Scored:
    """What the model of a window says: the scores of all events (N,), and of its template (M,), or None."""

    score: np.ndarray
    template: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class WindowFound:
    """What one cut finds in one window.

    Attributes:
        window, side_bands: ends in GeV; the side bands' are the outer ones. percentile, threshold: of the cut.
        events, selected_events: in the window. expected, expected_error: of background among the latter.
        signal_estimate: selected minus expected. mass_estimate: mean mass of the excess, GeV; None without one.
        local_p_value, local_significance: of this window alone; the p-value is at least 1e-300, the significance also beyond.
        reference_p_value: chi2 probability of the selected spectrum beside the window; None where nothing describes it.
        truth: by label its name, its events in the window, and those selected; None without labels.
    """

    window: tuple[float, float]
    side_bands: tuple[float, float]
    percentile: float
    threshold: float
    events: int
    selected_events: int
    expected: float
    expected_error: float
    signal_estimate: float
    mass_estimate: float | None
    local_p_value: float
    local_significance: float
    reference_p_value: float | None
    truth: Mapping[str, Any] | None

    @property
    def describes(self) -> bool | None:
        """Whether what is expected describes the spectrum beside the window, with p of 0.01 or more; None: not known."""
        return None if self.reference_p_value is None else self.reference_p_value >= DESCRIBES


@dataclasses.dataclass(frozen=True)
class WindowScan:
    """What a scan of windows did and found.

    Attributes:
        windows: a `WindowFound` for every window and percentile.
        global_p_value, global_p_value_is_bound, global_significance: of the whole scan: how often background alone has a
            local p-value as small in any window, by pseudo-experiments (see `pipelines.window_scan.scan`).
        trials_factor: the global p-value over the smallest local one; None if the former is a bound.
        pseudo_experiments: how many. minima: (n,) the smallest local p-value of each.
        events: those within the mass range. scored: by window, what its model says of them. selections: by window and
            percentile, the events selected, and what is expected, in cells.
        options, configuration: what was done. said: of windows left out.
    """

    windows: tuple[WindowFound, ...]
    global_p_value: float
    global_p_value_is_bound: bool
    global_significance: float
    trials_factor: float | None
    pseudo_experiments: int
    minima: np.ndarray = dataclasses.field(repr=False)
    events: Events = dataclasses.field(repr=False)
    scored: tuple[Scored, ...] = dataclasses.field(repr=False)
    selections: tuple[Selected, ...] = dataclasses.field(repr=False)
    options: WindowScanOptions
    configuration: Mapping[str, Any]
    said: tuple[str, ...] = ()

    @property
    def best(self) -> WindowFound:
        """The window of smallest local p-value."""
        return min(self.windows, key=lambda one: (one.local_p_value, -one.local_significance))

    @property
    def believed(self) -> bool:
        """Whether the numbers may be quoted: not if what is expected fails to describe the spectrum beside the best window."""
        return self.best.describes is not False

    def limit(self) -> Limit | None:
        """Return the upper limit on signal events selected in the best window; None where nothing is believed."""
        if not self.believed:
            return None
        best = self.best
        selected, expected = float(best.selected_events), max(best.expected, 0.0)
        if self.options.background not in OF_SHARES:
            return limit_of(selected, expected, best.expected_error, best.window)
        share, error = expected / best.events, best.expected_error / best.events
        return limit_of_cut(selected, best.events, share, error, best.window)

    def summary(self) -> dict[str, object]:
        """Return the result in short, with the names that `pipelines.bumphunt.result.Search.summary` has, and all windows.

        Where nothing is believed, p-values and significances are None, but for those of `windows`.
        """
        best = self.best
        numbers = {name: getattr(self, name) for name in QUOTED}
        quoted = numbers if self.believed else dict.fromkeys(QUOTED)
        follows = self.options.background == "spectrum"
        found: dict[str, object] = {
            "spectrum": "mass",
            "tail": "upper",
            **{name: getattr(best, name) for name in ("percentile", "threshold", "selected_events", "local_p_value",
                                                      "local_significance", "mass_estimate", "signal_estimate",
                                                      "reference_p_value")},
            "interval": best.window,
            "expected": best.expected,
            "expected_error": best.expected_error,
            **numbers,
            "trials_factor": self.trials_factor,
            "pseudo_experiments": self.pseudo_experiments,
            "events": len(self.events),
            "believed": {"cut": ("mass" if follows else "global") if self.believed else None,
                         "background": self.options.background if self.believed else None, **quoted},
            "truth_used": truth_in_tuning(self.configuration) is not None,
            "windows": [dataclasses.asdict(one) for one in self.windows],
        }  # fmt: skip
        return found if self.believed else found | {name: None for name in SIGNIFICANCES if name in found}

    def to_dict(self) -> dict[str, object]:
        """Return all numbers but those of single events and pseudo-experiments, ready for JSON."""
        limit = self.limit()
        return {
            **self.summary(),
            "limit": None if limit is None else limit.to_dict(),
            "left_out": list(self.said),
            "configuration": self.configuration,
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON text; NaN and infinities do not occur."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)
