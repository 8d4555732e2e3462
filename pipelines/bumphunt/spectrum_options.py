"""Options of a bump hunt in a spectrum alone."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from numpy.typing import ArrayLike

from pipelines.arguments import argument
from pipelines.bumphunt.discovery_reach import REPEATS, check_signal
from pipelines.bumphunt.fit_functions import SQRT_S
from pipelines.bumphunt.options import MOST
from pipelines.errors import InputError

PSEUDO_EXPERIMENTS = 10_000


@dataclasses.dataclass(frozen=True)
class SpectrumOptions:
    """Options of a bump hunt in a spectrum.

    Attributes:
        background: `auto` (an F-test among dijet3, dijet4, dijet5), `auto-exp`, a function of
            `pipelines.bumphunt.fit_functions`, a column of the spectrum, a file, or an array (B,).
        column: of the observed events. mass_range: bins within, in the unit of the edges.
        sqrt_s: collision energy in the unit of the edges.
        sliding_window: bins of the window of a sliding fit; None fits the whole range.
        exclude: (low, high), left out of the fit from the beginning.
        widths: narrowest and widest window in bins; 2 to half of the bins by default.
        pseudo_experiments: how many. seed: of these.
        deficit: look for too few events. normalise: scale a given background to the events of the spectrum, and in a window to those outside.
        template: background on which the spurious signal of a fitted function is measured: a column, a file, or an array (B,).
            By default the function with one parameter more, fitted to the data.
        inject: mass and standard deviation of a signal, in the unit of the edges, whose discovery reach is worked out.
            inject_events: its numbers of events. repeats: spectra of each.
    """

    background: str | os.PathLike[str] | ArrayLike = "auto"
    column: str | None = None
    mass_range: tuple[float, float] | None = None
    sqrt_s: float = SQRT_S
    sliding_window: int | None = None
    exclude: tuple[float, float] | None = None
    widths: tuple[int, int] | None = None
    pseudo_experiments: int = PSEUDO_EXPERIMENTS
    seed: int = 0
    deficit: bool = False
    normalise: bool = False
    template: str | os.PathLike[str] | ArrayLike | None = None
    inject: tuple[float, float] | None = None
    inject_events: Sequence[float] | None = None
    repeats: int = REPEATS

    def check(self) -> None:
        """Raise `InputError` for options that cannot be."""
        if not (isinstance(self.pseudo_experiments, int) and self.pseudo_experiments >= 1):
            raise InputError(f"{self.pseudo_experiments} pseudo-experiments, expected a whole number above 0")
        for name, value in (("pseudo_experiments", self.pseudo_experiments), ("repeats", self.repeats)):
            if value > MOST["pseudo_experiments"]:
                raise InputError(
                    f"{argument(name, value)}, expected at most {MOST['pseudo_experiments']:,}; more would not fit into memory"
                )
        if self.widths is not None and not 1 <= self.widths[0] <= self.widths[1]:
            raise InputError(
                f"widths {self.widths[0]} to {self.widths[1]} bins, expected the narrowest window first, at least 1 bin"
            )
        if self.exclude is not None and not self.exclude[0] < self.exclude[1]:
            raise InputError(f"exclude {self.exclude[0]:g} to {self.exclude[1]:g}, expected the low end first")

    def check_injection(self, ends: tuple[float, float]) -> None:
        """Raise `InputError` for an injected signal that cannot be in a spectrum from one end to the other."""
        if self.inject is None:
            if self.inject_events:
                raise InputError(
                    f"numbers of injected events without a signal; give its mass and width ({argument('inject')})"
                )
            return
        if self.deficit:
            raise InputError(
                f"a signal is injected, and a deficit is looked for; leave out {argument('inject')} or {argument('deficit')}"
            )
        check_signal(*self.inject, self.inject_events or None, self.repeats, ends)

    def widths_in(self, bins: int) -> tuple[int, int]:
        """Return the widths of the windows in a spectrum of so many bins; raises `InputError` if they do not fit."""
        if self.widths is None:
            return min(2, bins), max(2, bins // 2) if bins > 1 else 1
        if self.widths[1] > bins:
            raise InputError(f"widths {self.widths[0]} to {self.widths[1]} bins, but the spectrum has {bins} bins")
        return self.widths
