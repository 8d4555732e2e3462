"""Which windows are scanned, what is selected in them, and what their background is: options that are checked once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.arguments import argument
from pipelines.bumphunt.fit_functions import FAMILIES, FUNCTIONS
from pipelines.bumphunt.options import MOST, Range, numbers, percentiles_of
from pipelines.errors import InputError

FEWEST = 100  # events in a window and in each side band
OF_SHARES = (
    "spectrum",
    "sidebands",
    "template",
)  # the share that a cut selects of background, of all events of the window
BACKGROUNDS = (*OF_SHARES, *FAMILIES, *FUNCTIONS)
LOOSEST = 50.0  # percentile: the p-values take selected events as a small share of all


@dataclasses.dataclass(frozen=True)
class WindowScanOptions:
    """How windows slide over the masses, which events are selected in each, and how many are expected there.

    Attributes:
        window_width: of a window: below 1 the share of its centre that it is wide, else GeV.
        window_step: distance of the centres of neighbouring windows, in widths.
        side_band_width: of each side band, as `window_width`; None takes all events beside the window.
        margin: least room beside the first window, in widths of one at the lowest mass, and beside the last, in its own.
        windows: (low, high) in GeV instead of sliding ones.
        percentiles: of the score of background, one or several: 99 selects one percent.
        background: expected in a window. "spectrum": all events there times the share that a threshold which follows the
            mass selects, fitted in the side bands alone. "sidebands": one threshold, and a straight line in log m through
            the share selected in the side bands. "template": one threshold, and the share of the model's own template that
            passes it. Or a function, fitted to the selected spectrum beside the window: "auto", "dijet3", and those of
            `pipelines.bumphunt.fit_functions`.
        mass_range: GeV, only events of this mass are used; by default all.
        bins: equal bins over the range, for what is fitted.
        pseudo_experiments: how many. seed: of these.
        score_kind: of a model that has several. ignore_labels: as if the file had none.
        ignore_weights: count all events alike in the spectra; the trainings keep the weights.

    Raises:
        InputError: for an option that cannot be, whatever the events are.

    Example:
        >>> WindowScanOptions(window_width=400, percentiles=99).percentiles
        (99.0,)
    """

    window_width: float = 0.12
    window_step: float = 0.5
    side_band_width: float | None = None
    margin: float = 1.0
    windows: Sequence[Range] = ()
    percentiles: float | Sequence[float] = (99.0,)
    background: str = "spectrum"
    mass_range: Range | None = None
    bins: int = 40
    pseudo_experiments: int = 40_000
    score_kind: str | None = None
    ignore_labels: bool = False
    ignore_weights: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "percentiles", percentiles_of(self.percentiles))
        if min(self.several_percentiles) < LOOSEST:
            raise InputError(
                f"percentiles {min(self.several_percentiles):g}, expected at least {LOOSEST:g} in a scan of windows"
            )
        if self.background not in BACKGROUNDS:
            raise InputError(f"background {self.background!r}, expected one of {', '.join(BACKGROUNDS)}")
        ends = {"window_width": self.window_width, "window_step": self.window_step, "margin": self.margin}
        ends |= {} if self.side_band_width is None else {"side_band_width": self.side_band_width}
        for name, value in ends.items():
            if not isinstance(value, (int, float, np.number)) or not 0 < value < np.inf:
                raise InputError(f"{name} {value}, expected a number above 0")
        for name, least in {"bins": 10, "pseudo_experiments": 1, "seed": 0}.items():
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or not least <= value <= MOST.get(name, value):
                raise InputError(f"{name} {value}, expected a whole number of at least {least}")
        given = tuple(
            (low, high) for low, high in (numbers("window", one, 2, "(low, high) in GeV") for one in self.windows)
        )
        for low, high in given:
            if not 0 <= low < high:
                raise InputError(f"window {low:g} to {high:g} GeV, expected the lower end first")
        object.__setattr__(self, "windows", given)

    @property
    def several_percentiles(self) -> tuple[float, ...]:
        """`percentiles`, always as a tuple."""
        return percentiles_of(self.percentiles)

    def to_dict(self) -> dict[str, Any]:
        """Return the options but the seed, ready for JSON."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "seed"}
        found["windows"] = [list(one) for one in self.windows]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def is_dealt(options: WindowScanOptions) -> bool:
    """Tell whether pseudo-experiments deal the selections anew: not where every window has side bands of its own."""
    return options.background == "spectrum" and options.side_band_width is None


@dataclasses.dataclass(frozen=True)
class Window:
    """A signal region in GeV, low <= mass < high, and the outer edges of its side bands.

    >>> window = Window(3300.0, 3700.0, 2500.0, 5000.0)
    >>> window.inside(np.array([3299.0, 3300.0, 3700.0])).tolist()
    [False, True, False]
    """

    low: float
    high: float
    outer_low: float
    outer_high: float

    def inside(self, mass: np.ndarray) -> np.ndarray:
        """Tell which masses are in the window."""
        found: np.ndarray = (mass >= self.low) & (mass < self.high)
        return found

    def beside(self, mass: np.ndarray) -> np.ndarray:
        """Tell which masses are in a side band."""
        found: np.ndarray = (mass >= self.outer_low) & (mass < self.outer_high) & ~self.inside(mass)
        return found


def windows_of(mass: np.ndarray, options: WindowScanOptions) -> tuple[list[Window], list[str]]:
    """Return the windows to scan in masses (N,), and what is to be said of those left out.

    Sliding windows are left out where there are fewer than 100 events in them, or in one of their side bands.

    Raises:
        InputError: if none is left; and for a window that is given, and has too few events.

    Example:
        >>> mass = np.linspace(2500, 5000, 20_000, endpoint=False)
        >>> windows, _ = windows_of(mass, WindowScanOptions(window_width=500, window_step=1.0, mass_range=(2500, 5000)))
        >>> [(window.low, window.high) for window in windows]
        [(3000.0, 3500.0), (3500.0, 4000.0), (4000.0, 4500.0)]
    """
    low, high = options.mass_range or (float(mass.min()), float(np.nextafter(np.float64(mass.max()), np.inf)))
    pairs = list(options.windows) or _sliding(low, high, options)
    kept: list[Window] = []
    said: list[str] = []
    for pair in pairs:
        window = _with_side_bands(pair, (low, high), options)
        problem = _too_few(window, mass)
        if problem and options.windows:
            raise InputError(f"window {pair[0]:g} to {pair[1]:g} GeV: {problem}; move it, or widen the mass range")
        if problem:
            said.append(f"window {pair[0]:.0f} to {pair[1]:.0f} GeV is left out: {problem}")
        else:
            kept.append(window)
    if not kept:
        why = said[0] if said else f"none fits into {low:g} to {high:g} GeV"
        raise InputError(f"no window can be scanned: {why}; take narrower windows, or a wider mass range")
    return kept, said


def _size(width: float, centre: float) -> float:
    return width * centre if width < 1 else width


def _sliding(low: float, high: float, options: WindowScanOptions) -> list[Range]:
    """Return windows from the low end to the high one, each with room for side bands."""
    width = options.window_width
    found: list[Range] = []
    relative = width < 1
    if relative and low <= 0:
        raise InputError(
            f"masses from {low:g} GeV: a relative window width needs masses above 0; give {argument('mass_range')}, or a "
            f"width in GeV"
        )
    # a window that begins at `edge` has its centre at edge / (1 - w/2), or edge + w/2
    edge = low + options.margin * _size(width, low)
    while True:
        centre = edge / (1 - width / 2) if relative else edge + width / 2
        size = _size(width, centre)
        if centre + size / 2 + options.margin * size > high * (1 + 1e-9):
            return found
        found.append((float(centre - size / 2), float(centre + size / 2)))
        edge += options.window_step * size


def _with_side_bands(pair: Range, ends: Range, options: WindowScanOptions) -> Window:
    if options.side_band_width is None:
        return Window(*pair, *ends)
    size = _size(options.side_band_width, sum(pair) / 2)
    return Window(*pair, max(ends[0], pair[0] - size), min(ends[1], pair[1] + size))


def _too_few(window: Window, mass: np.ndarray) -> str | None:
    counts = {
        "in it": window.inside(mass),
        "below it": (mass >= window.outer_low) & (mass < window.low),
        "above it": (mass >= window.high) & (mass < window.outer_high),
    }
    few = [f"{int(which.sum())} events {where}" for where, which in counts.items() if which.sum() < FEWEST]
    return f"{few[0]}, expected at least {FEWEST}" if few else None
