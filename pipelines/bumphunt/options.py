"""What a bump hunt and a search are asked for: options that are checked once, when they are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from pipelines.arguments import argument
from pipelines.bumphunt.bump_scan import STATISTICS, WIDTHS
from pipelines.bumphunt.fit_functions import FAMILIES, FUNCTIONS
from pipelines.bumphunt.spectrum import RELATIVE_ERROR
from pipelines.errors import InputError

BINS = 40  # before merging, GAN-AE sec. 4.3
PSEUDO_EXPERIMENTS = 40_000  # GAN-AE sec. 4.3
MOST = {"bins": 100_000, "pseudo_experiments": 10**8}
NULLS = ("shuffled", "poisson")
CUTS = ("global", "mass")
TAILS = {"upper": ("upper",), "lower": ("lower",), "both": ("upper", "lower")}

Range = tuple[float, float]
O = TypeVar("O", bound="BumpHuntOptions")  # noqa: E741


@dataclasses.dataclass(frozen=True)
class BumpHuntOptions:
    """How events are selected, in which windows a bump is looked for, and by how many pseudo-experiments it is judged.

    Attributes:
        percentiles: of the score, in (0, 100), one or several, among events within the mass range: 99 selects one
            percent. With weights, of the sum of weights. An event at the cut is not selected.
        tails: "upper", "lower" (99 is then the lowest percent), or "both", with its trials factor. None: what suits
            the model, and "upper" where there is only a score.
        cut: "global", one threshold on the score for all masses, as in the papers; or "mass", a threshold that follows
            the mass and selects the same share of events at every mass (see `pipelines.bumphunt.mass_cut`).
        mass_range: GeV, of one spectrum or by name; by default all masses.
        bins: equal bins over the range. relative_error: bins are merged from the high end until the error of the
            number expected in each, of the selected, is below this (GAN-AE sec. 4.3); None merges nothing.
        widths: narrowest and widest window in (merged) bins; one bin at least is left outside.
        side_band: bins at each end that normalise only. All other bins outside a window always do as well.
        deficit: look for too few events.
        statistic: whose smallest value over windows is compared with pseudo-experiments: "poisson", pyBumpHunter's, or
            "fisher" (see `pipelines.bumphunt.bump_hunt`).
        pseudo_experiments: how many.
        null: "shuffled", the scores shuffled among the events; "poisson", for comparison, Poisson numbers around the
            reference as pyBumpHunter throws them, which forgets that the reference fluctuates.
        seed: of the pseudo-experiments; NumPy's global state is never touched.

    Raises:
        InputError: for an option that cannot be, whatever the events are.

    Example:
        >>> BumpHuntOptions(percentiles=95, widths=[2, 4]).percentiles
        (95.0,)
    """

    percentiles: float | Sequence[float] = (99.0,)
    tails: str | None = None
    cut: str = "global"
    mass_range: Range | Mapping[str, Range] | None = None
    bins: int = BINS
    relative_error: float | None = RELATIVE_ERROR
    widths: tuple[int, int] = WIDTHS
    side_band: int = 0
    deficit: bool = False
    statistic: str = "poisson"
    pseudo_experiments: int = PSEUDO_EXPERIMENTS
    null: str = "shuffled"
    seed: int | np.random.Generator = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "percentiles", percentiles_of(self.percentiles))
        for name, choice, allowed in (
            ("tails", self.tails or "upper", TAILS), ("null", self.null, NULLS), ("cut", self.cut, CUTS),
            ("statistic", self.statistic, STATISTICS),
        ):  # fmt: skip
            if not isinstance(choice, str) or choice not in allowed:
                raise InputError(f"{name} {choice!r}, expected one of {', '.join(allowed)}")
        if self.statistic == "fisher" and self.null != "shuffled":
            raise InputError(
                f"statistic 'fisher' has the number of selected events given, and null {self.null!r} changes it; take "
                f"'shuffled'"
            )
        if self.cut == "mass" and self.null != "shuffled":
            raise InputError(
                f"cut 'mass' is fitted to the scores of every pseudo-experiment, and null {self.null!r} has none; take "
                f"{argument('cut', 'global')}, or {argument('null', 'shuffled')}"
            )
        is_number = isinstance(self.relative_error, (int, float, np.number))
        if self.relative_error is not None and not (is_number and self.relative_error > 0):
            raise InputError(
                f"relative_error {self.relative_error}, expected a number above 0, such as {RELATIVE_ERROR:g}, or None"
            )
        narrowest, _ = numbers("widths", self.widths, 2, "the narrowest and the widest window, in bins")
        whole: list[tuple[str, object, float]] = [("bins", self.bins, 2), ("side_band", self.side_band, 0)]
        whole += [("pseudo_experiments", self.pseudo_experiments, 1)]
        whole += [("widths", self.widths[0], 1), ("widths", self.widths[1], narrowest)]
        whole += [] if isinstance(self.seed, np.random.Generator) else [("seed", self.seed, 0)]
        for name, value, least in whole:
            if not isinstance(value, (int, np.integer)) or value < least:
                raise InputError(f"{name} {value}, expected a whole number of at least {least:g}")
            if value > MOST.get(name, value):
                raise InputError(f"{name} {value}, expected at most {MOST[name]:,}; more would not fit into memory")
        object.__setattr__(self, "widths", (int(self.widths[0]), int(self.widths[1])))

    @property
    def cuts(self) -> tuple[tuple[float, str], ...]:
        """Percentile and tail of every selection of one spectrum."""
        percentiles = (self.percentiles,) if isinstance(self.percentiles, (int, float)) else self.percentiles
        return tuple((float(p), tail) for p in percentiles for tail in TAILS[self.tails or "upper"])

    @property
    def several_percentiles(self) -> tuple[float, ...]:
        """`percentiles`, always as a tuple."""
        return tuple(dict.fromkeys(percentile for percentile, _ in self.cuts))

    def to_dict(self) -> dict[str, object]:
        """Return the options but ranges and seed, ready for JSON."""
        left_out = ("mass_range", "seed")
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in left_out}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


@dataclasses.dataclass(frozen=True)
class SearchOptions(BumpHuntOptions):
    """`BumpHuntOptions`, and what `pipelines.search` does before the hunt: which events, spectra and scores.

    Attributes:
        cut: by default "mass": a threshold that follows the mass; "global" is the papers' own.
        background: "spectrum", that before the cut, normalised outside the window; or a function that is fitted to the
            selected spectrum: "auto", "dijet3", "dijet4", "dijet5" and those of `pipelines.bumphunt.fit_functions`.
        tails: by default both for a score that the model says has no direction (its `undirected` kinds), else the upper.
        spectra: "mass", that of the events file; or a feature in GeV, such as "mj1j2j3" (short "m_jjj").
        within: GeV, only events of this mass, that of the file, are searched: the range of the model's training. It is
            the range of that spectrum as well, where `mass_range` names no other.
        score_kind: of a model that has several; its default otherwise.
        folds: K > 1: events are divided at random into K parts, and each part is scored by a model that was trained on
            the others. Scores of different models are not comparable: each is replaced by its rank within its part,
            (r - (k + 1/2) / K) / n in part k, so a percentile selects the same share of every part. 1: one model, trained on the very
            events that it scores, for which the global p-value is not guaranteed (see `pipelines.bumphunt.bump_hunt`).
        ignore_labels: as if the file had none. ignore_weights: count all events alike in the spectra; a training keeps the weights.
        seed: of the folds too.

    Example:
        >>> SearchOptions(spectra="m_jjj", folds=5).spectra
        ('m_jjj',)
    """

    cut: str = "mass"
    background: str = "spectrum"
    spectra: str | Sequence[str] = ("mass",)
    within: Range | None = None
    score_kind: str | None = None
    folds: int | None = None
    ignore_labels: bool = False
    ignore_weights: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        backgrounds = ("spectrum", *FAMILIES, *FUNCTIONS)
        if self.background not in backgrounds:
            raise InputError(f"background {self.background!r}, expected one of {', '.join(backgrounds)}")
        if isinstance(self.seed, np.random.Generator):
            raise InputError(
                "seed is a generator of random numbers, expected a whole number, which can be written down"
            )
        spectra = (self.spectra,) if isinstance(self.spectra, str) else tuple(self.spectra)
        if not spectra or len(set(spectra)) < len(spectra):
            raise InputError(f"spectra {', '.join(spectra) or 'none'}, expected one at least, and none twice")
        object.__setattr__(self, "spectra", spectra)

    def for_hunt(self, **changed: Any) -> BumpHuntOptions:
        """Return the options of the bump hunt alone, with changes."""
        names = [field.name for field in dataclasses.fields(BumpHuntOptions)]
        return BumpHuntOptions(**{name: getattr(self, name) for name in names} | changed)


def with_changes(options: O, changed: Mapping[str, Any]) -> O:
    """Return options with some changed by their names; the old name `toys` of `pseudo_experiments` warns.

    Raises `TypeError` for a name that is none.

    >>> with_changes(BumpHuntOptions(), {"bins": 20}).bins
    20
    """
    if "toys" in changed:
        import warnings

        warnings.warn("toys is pseudo_experiments now", DeprecationWarning, stacklevel=3)
        changed = {("pseudo_experiments" if name == "toys" else name): value for name, value in changed.items()}
    unknown = set(changed) - {field.name for field in dataclasses.fields(options)}
    if unknown:
        raise TypeError(f"no option {', '.join(sorted(unknown))}; {type(options).__name__} lists them")
    return dataclasses.replace(options, **changed)


def numbers(name: str, given: object, count: int | None = None, expected: str = "numbers") -> list[float]:
    """Return numbers as floats; raises `InputError` if they are something else, or not `count` of them.

    >>> numbers("widths", (3, 8), 2)
    [3.0, 8.0]
    """
    values: list[Any] = list(given) if np.iterable(given) and not isinstance(given, str) else [None]
    if not all(isinstance(value, (int, float, np.number)) for value in values) or count not in (None, len(values)):
        raise InputError(f"{name} {given}, expected {expected}")
    return list(map(float, values))


def percentiles_of(percentiles: float | Sequence[float]) -> tuple[float, ...]:
    """Return percentiles, of which one may be given as a number; raises `InputError` if they cannot be.

    >>> percentiles_of(99), percentiles_of([95, 99])
    ((99.0,), (95.0, 99.0))
    """
    expected = "different numbers between 0 and 100, such as 99"
    found = numbers("percentiles", [percentiles] if np.ndim(percentiles) == 0 else percentiles, expected=expected)
    bad = [percentile for percentile in found if not 0 < percentile < 100]
    if bad or not found or len(set(found)) < len(found):
        raise InputError(f"percentiles {', '.join(f'{p:g}' for p in bad or found) or 'none'}, expected {expected}")
    return tuple(found)
