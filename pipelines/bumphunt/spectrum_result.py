"""What a bump hunt in a spectrum alone finds, and what its p-values assume."""

from __future__ import annotations

import dataclasses
import functools
import json

import numpy as np
from scipy.stats import norm

from pipelines.bumphunt.background_fit import Background, FittedBackground, poisson_spectra
from pipelines.bumphunt.discovery_reach import DiscoveryReach
from pipelines.bumphunt.fit_functions import FAMILIES, Array
from pipelines.bumphunt.limits import Limit, limit_of
from pipelines.bumphunt.spectrum_background import enough
from pipelines.bumphunt.spurious_signal import CORE, SpuriousSignals, of_spectrum

QUARTER = 4  # a window's width over this, rounded up: bins on each side that the fit for a limit does not see either


@dataclasses.dataclass(frozen=True)
class BackgroundResult:
    """The background of one spectrum, and how well it describes it.

    Attributes:
        kind: function that was fitted, "given", or a column. asked: what was asked for, such as `auto`.
        fitted: whether it was. formula: of the function. parameters: by name. errors: their standard deviations, None
            where not known. sliding_window: its bins, or None.
        excluded: range that was not fitted, or None.
        chi2: Poisson deviance of Baker and Cousins (1984) in the fitted bins. degrees_of_freedom: None for a sliding
            window.
        p_value: share of pseudo-experiments, fitted alike, of as large a chi2. p_value_is_bound: none was as large.
        describes: whether the p-value is above 0.01, that of the chi2 distribution too where no pseudo-experiment was as
            large. converged: whether the fit did.
        not_converged: share of the pseudo-experiments whose fit did not.
    """

    kind: str
    asked: str
    fitted: bool
    formula: str | None
    parameters: dict[str, float]
    errors: dict[str, float | None]
    sliding_window: int | None
    excluded: tuple[float, float] | None
    chi2: float
    degrees_of_freedom: int | None
    p_value: float
    p_value_is_bound: bool
    describes: bool
    converged: bool
    not_converged: float


@dataclasses.dataclass(frozen=True)
class SpectrumHunt:
    """What a bump hunt in a spectrum found.

    Attributes:
        source, observed: of the spectrum. mode: excess or deficit.
        local_p_value: of the window, the background taken as exact; at least 1e-300. local_significance: also beyond.
        global_p_value, global_p_value_is_bound, global_significance: over all windows, the fit included.
        test_statistic: -ln of the smallest local p-value.
        interval: edges of the window, None if no window has an excess.
        mass_estimate: mean mass of the excess, from the centres of the bins. signal_estimate: observed minus expected.
            Both in the window; with a `refit` in the range that it leaves out, which may be wider.
        observed_events, expected_events: in the window.
        background: of the whole spectrum. refit: of the fit without the bump, if the global p-value asked for it:
            estimates, `expected_events` and `expected` are then of this one.
        refit_local_significance: of the window with that background, without trials factor; else None.
        windows, widths: how many were scanned, and the bins of the narrowest and widest.
        pseudo_experiments, seed: of the global p-value. normalised: whether a given background is scaled: to all bins for pseudo-experiments
            and chi2, to the bins outside for each window.
        template: (B,) events of the background that the spurious signal is measured on, and what it is; None if none was given.
        reach: what would have been found of an injected signal; None if none was asked for.
        edges (B + 1,), counts, expected (B,): the spectrum; `expected` is of the last fit. first_expected (B,): of the fit
            to all bins, which the p-values are of.
        tomography: (W, 3), ends and local p-value of every window.
        toys: test statistic of every pseudo-experiment, (n,).
    """

    source: str
    observed: str
    mode: str
    local_p_value: float
    local_significance: float
    global_p_value: float
    global_p_value_is_bound: bool
    global_significance: float
    test_statistic: float
    interval: tuple[float, float] | None
    mass_estimate: float | None
    signal_estimate: float
    observed_events: float
    expected_events: float
    background: BackgroundResult
    refit: BackgroundResult | None
    refit_local_significance: float | None
    windows: int
    widths: tuple[int, int]
    pseudo_experiments: int
    seed: int
    sqrt_s: float
    normalised: bool
    edges: Array = dataclasses.field(repr=False, compare=False)
    counts: Array = dataclasses.field(repr=False, compare=False)
    expected: Array = dataclasses.field(repr=False, compare=False)
    first_expected: Array = dataclasses.field(repr=False, compare=False)
    tomography: Array = dataclasses.field(repr=False, compare=False)
    toys: Array = dataclasses.field(repr=False, compare=False)
    fit: Background = dataclasses.field(repr=False, compare=False)
    template: tuple[Array, str] | None = dataclasses.field(repr=False, compare=False)
    reach: DiscoveryReach | None = None

    @property
    def window(self) -> slice | None:
        """Bins of the most significant window."""
        if self.interval is None:
            return None
        first, last = np.searchsorted(self.edges, self.interval)
        return slice(int(first), int(last))

    @property
    def judged(self) -> BackgroundResult:
        """The background that is believed or not: of the fit without the bump, if there is one."""
        return self.refit or self.background

    @property
    def believed(self) -> bool:
        """Whether the background describes the spectrum, or does without the window that was left out."""
        return self.judged.describes and self.judged.converged

    @functools.cached_property
    def spurious(self) -> SpuriousSignals | None:
        """The spurious signal of the function that was fitted (see `pipelines.bumphunt.spurious_signal`).

        None for a background that is given, for a sliding window, and where there are too few bins.
        """
        if not isinstance(self.fit, FittedBackground):
            return None
        choice = [function.name for function in self.fit.functions].index(self.background.kind)
        window, bump = self.window, None
        if self.mass_estimate is not None and window is not None:
            bump = self.mass_estimate, float(self.edges[window.stop] - self.edges[window.start]) / CORE
        template, name = (None, "") if self.template is None else self.template
        return of_spectrum(
            self.fit, choice, self.counts, widths=self.widths, template=template, name=name, bump=bump,
            excluded=None if self.refit is None else self.refit.excluded,
        )  # fmt: skip

    def limit(self, fits: int = 200) -> Limit | None:
        """Return the upper limit on signal events in the window; None without one, and for a deficit.

        The background is that of a fit without the window and its flanks, and without what a `refit` leaves out: a fit to all
        bins takes a part of the signal. A flank is a quarter of the window, rounded up to whole bins, or less, so that half
        of the fitted bins are left. Its error is half of the central 68 % of such fits to so many Poisson spectra around it;
        0 of a background that is given, unless it is scaled to the events outside.

        There is no limit either where too few bins or events are left (`spectrum_background.enough`), the fit does not
        converge, or its error is larger than the background and than one event.

        Example:
            >>> import numpy as np
            >>> from pipelines.bumphunt.spectrum_hunt import bumphunt
            >>> counts = np.random.default_rng(1).poisson(1000 * np.exp(-np.arange(30) / 10))
            >>> limit = bumphunt(counts, "exp1", edges=np.arange(100, 131), pseudo_experiments=50).limit()
            >>> 10 < limit.expected["median"] < 200, limit.background_error > 0
            (True, True)
        """
        window = self.window
        if window is None or self.mode == "deficit":
            return None
        ends = float(self.edges[window.start]), float(self.edges[window.stop])
        width, bins = window.stop - window.start, int(self.fit.used.sum())
        flank = min(-(-width // QUARTER), max(0, (bins // 2 - width) // 2))
        left_out = ends if self.refit is None or self.refit.excluded is None else self.refit.excluded
        first, last = np.searchsorted(self.edges, left_out).tolist()
        unseen = slice(max(0, min(first, window.start - flank)), max(last, window.stop + flank))
        if not enough(self.fit, self.counts, unseen):
            return None
        blind = self.fit.excluding(unseen)
        fit = blind.fit(self.counts)
        if not fit.converged[0]:
            return None
        expected = fit.expected[:, 0]
        spectra = poisson_spectra(blind, np.where(blind.used, expected, 0), fits, np.random.default_rng(self.seed))
        low, high = np.quantile(blind.fit(spectra).expected[window].sum(axis=0), norm.cdf([-1, 1]), method="nearest")
        error = float(high - low) / 2
        if not np.isfinite([expected[window].sum(), error]).all():
            return None
        return limit_of(float(self.counts[window].sum()), float(expected[window].sum()), error, ends)

    @property
    def assumptions(self) -> dict[str, str]:
        """What each p-value assumes, in words."""
        return assumptions(self)

    def to_dict(self) -> dict[str, object]:
        """Return everything but single pseudo-experiments and windows, for JSON."""
        arrays = {"edges", "counts", "expected", "first_expected", "tomography", "toys", "fit"}
        left_out = arrays | {"background", "refit", "template", "reach"}
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in left_out}
        return {
            **found,
            "believed": self.believed,
            "background": dataclasses.asdict(self.background),
            "refit": None if self.refit is None else dataclasses.asdict(self.refit),
            "spurious_signal": None if self.spurious is None else self.spurious.to_dict(),
            "reach": None if self.reach is None else self.reach.to_dict(),
            "assumptions": self.assumptions,
            "spectrum": {
                "edges": self.edges.tolist(),
                "observed": self.counts.tolist(),
                "expected": self.expected.tolist(),
            },
        }

    def to_json(self) -> str:
        """Return what `to_dict` gives as JSON text; NaN and infinities do not occur."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)


def assumptions(found: SpectrumHunt) -> dict[str, str]:
    """Say what each p-value of a hunt assumes."""
    if found.background.fitted:
        window = found.background.sliding_window
        where = "" if window is None else f" in a sliding window of {window} bins"
        known = f"{found.background.kind}{where}, fitted again to each"
        if found.background.asked in FAMILIES:
            known = (
                f"one of {', '.join(FAMILIES[found.background.asked])} by an F-test, chosen and fitted again in each"
            )
        holds = "that the function describes the background"
    else:
        known, holds = f"the background {found.background.kind!r}", "that this background is exact"
        if found.normalised:
            known = f"{known}, scaled again to each"
            holds = "that this background is exact but for a factor"
    return {
        "local_p_value": "Poisson probability of one window, chosen after the fact; the background taken as exact.",
        "global_p_value": f"{found.pseudo_experiments:,} Poisson pseudo-experiments around {known}; over "
        f"{found.windows:,} windows. It assumes {holds}.",
        "background_p_value": "Share of pseudo-experiments around this background, treated alike, with as large a chi2.",
    }
