"""The figures of a search's report, drawn into a folder, with their captions and the numbers behind them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.bumphunt.bump_hunt import Bump
from pipelines.bumphunt.result import SHORT, Search
from pipelines.bumphunt.spectrum import histogram
from pipelines.bumphunt.spectrum_result import SpectrumHunt
from pipelines.metrics import sculpting_where_possible
from pipelines.plots import hunt as plots
from pipelines.plots import selected as of_selected
from pipelines.plots.contributions import plot_contributions
from pipelines.plots.selected import TRUTH
from pipelines.plots.spectrum_fit import plot_spectrum_fit
from pipelines.report.page import Page
from pipelines.report.spectrum_report import background_name
from pipelines.report.text import Names, fit_in_figure, in_figure, unit_of

MOST = 50_000  # selected events inside, and outside, whose features are drawn, at most
FEATURES = 12  # that are drawn
FORMULAE = {"m_jj": "$m_{jj}$", "m_jjj": "$m_{jjj}$"}


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure with its caption and the numbers that it shows."""

    path: Path
    caption: str
    numbers: Mapping[str, object]
    mark: str = ""

    def add_to(self, page: Page) -> None:
        page.figure(self.path, self.caption, mark=self.mark)


class Painter:
    """Draws the figures of one search into a folder and keeps account of them."""

    def __init__(self, search: Search, names: Names, folder: Path):
        self.search, self.names, self.folder = search, names, folder
        self.drawn: list[Figure] = []

    def _keep(self, name: str, caption: str, numbers: Mapping[str, object], mark: str = "") -> Figure:
        self.drawn.append(Figure(self.folder / f"{name}.png", caption, numbers, mark))
        return self.drawn[-1]

    def _axis(self, spectrum_name: str) -> str:
        name = self.names.spectra[spectrum_name]
        return f"{FORMULAE.get(name, name)} [GeV]"

    def _is_following(self, bump: Bump) -> bool:
        """Whether a bump is one of the hunt that was made again with cuts that follow the mass."""
        return self.search.following is not None and any(bump is one for one in self.search.following.bumps)

    def _number(self, bump: Bump) -> int:
        following = self.search.following if self._is_following(bump) else None
        bumps = (following or self.search.hunt).bumps
        return next(i for i, one in enumerate(bumps) if one is bump)

    def _name(self, bump: Bump) -> str:
        again = ", by a threshold that follows the mass" if self._is_following(bump) else ""
        return f"{self.names.bumps[self._number(bump)]}{again}"

    # -- what was found ------------------------------------------------------------------------------

    def spectra(self, name: str) -> Figure:
        """The spectrum `name` before selection and after each."""
        pairs = [(n, bump) for n, bump in zip(self.names.bumps, self.search.hunt.bumps) if bump.spectrum == name]
        path = f"spectra_{list(self.search.masses).index(name) + 1}"
        numbers = plots.plot_selections(
            {n: (np.array(one.edges), np.array(one.before), np.array(one.observed)) for n, one in pairs},
            self.folder / f"{path}.png",
            unit=unit_of(self.search, name),
            xlabel=self._axis(name),
        )
        caption = (
            f"The spectrum of {self.names.spectra[name]} before the cut on the score (black) and after each. Bins are as in "
            "the hunt, merged where few events are selected. Below, the share of events that is selected, over its mean: it "
            "should be 1 at all masses within the error bars, but for a bump. Worrying: a slope or a curve, for then the "
            "score depends on the mass and the reference is wrong."
        )
        return self._keep(path, caption, numbers)

    def bump(self, bump: Bump) -> Figure:
        """A selected spectrum with its reference and its interval."""
        path, name = f"bump_{self._number(bump) + 1}", self._name(bump)
        path += "_following" if self._is_following(bump) else ""
        numbers = plots.plot_bump(
            np.array(bump.edges),
            np.array(bump.observed),
            np.array(bump.reference),
            self.folder / f"{path}.png",
            normalisation=bump.normalisation,
            normalisation_error=bump.normalisation_error,
            interval=bump.interval,
            unit=unit_of(self.search, bump.spectrum),
            said=in_figure(self.search, bump),
            xlabel=self._axis(bump.spectrum),
        )
        shaded = "No window deviates as was looked for, so no interval is shaded."
        if bump.interval is not None:
            low, high = bump.interval
            shaded = f"The shaded interval, {low:.0f} to {high:.0f} GeV, is the window of smallest local p-value."
        caption = (
            f"Events selected at {name} (points) and the reference, normalised outside the interval "
            f"(blue). {shaded} Below, the difference in each bin over its expected standard deviation. Worrying: pulls "
            "outside the interval that are often beyond 2, or have the same sign over many bins."
        )
        return self._keep(path, caption, numbers)

    def fit(self, bump: Bump, fit: SpectrumHunt) -> Figure:
        """The selected spectrum of a bump with its fitted background."""
        path = f"fit_{self._number(bump) + 1}"
        is_told = fit is self.search.best_fit and fit.believed
        numbers = plot_spectrum_fit(
            fit.edges,
            fit.counts,
            fit.expected,
            self.folder / f"{path}.png",
            interval=fit.interval,
            excluded=None if fit.refit is None else fit.refit.excluded,
            background=background_name(fit.refit or fit.background),
            said=fit_in_figure(self.search) if is_told else "",
            xlabel=self._axis(bump.spectrum),
        )
        caption = (
            f"Events selected at {self._name(bump)} (points), the background fitted to them (line), and the most significant "
            "window (shaded). Below, the significance of every bin by itself. Worrying: the same sign over many bins."
        )
        return self._keep(path, caption, numbers)

    def tomography(self, bump: Bump) -> Figure:
        """All windows of one selection."""
        axis = self._axis(bump.spectrum)
        numbers = plots.plot_tomography(np.array(bump.tomography), self.folder / "tomography.png", xlabel=axis)
        name = self._name(bump)
        caption = (
            f"All {len(bump.tomography)} windows that were scanned at {name}, each a line from its lower to its upper end "
            f"at the height of its local significance ({self.search.hunt.statistic}). A bump shows as one tower of overlapping windows. Worrying: several "
            "towers of like height, or one at the very end of the spectrum, where the reference leans on one side only."
        )
        return self._keep("tomography", caption, numbers)

    def test_statistic(self) -> Figure:
        """Pseudo-experiments and data, of every selection of the hunt that is believed."""
        hunt = self.search.believed or self.search.hunt
        each = {
            name: (bump.pseudo_statistics, bump.test_statistic, bump.global_p_value, bump.global_p_value_is_bound)
            for name, bump in zip(self.names.bumps, hunt.bumps)
        }
        numbers = plots.plot_test_statistic(each, self.folder / "test_statistic.png")
        caption = (
            "The test statistic of pseudo-experiments of background alone, and the observed one (red). The p-value is "
            "(k + 1)/(n + 1) if k of n pseudo-experiments are at the red line or right of it; where there are none, that is "
            "only an upper bound. "
            "P-values are those of each selection alone. Worrying: an observed value left of nearly all pseudo-experiments, "
            "which means that the data agree with the reference better than chance allows."
        )
        return self._keep("test_statistic", caption, numbers)

    def _cuts(self) -> dict[str, float]:
        """Thresholds by name; those of several spectra are the same."""
        return {cut: bump.threshold for cut, bump in zip(self.names.cuts, self.search.hunt.bumps)}

    def _score(self) -> str:
        return "anomaly score" if self.search.fold is None else "rank of the score within the fold"

    def scores(self) -> Figure:
        """Scores of all events hunted, with the cuts."""
        numbers = of_selected.plot_scores(
            {"all events": self.search.scores}, self._cuts(), self.folder / "scores.png", xlabel=self._score()
        )
        caption = "Scores of all events hunted, with the cuts of the selections."
        if self.search.fold is not None:
            caption += " Ranks are uniform by construction; what matters is where the cuts are."
        caption += " Worrying: spikes, which are events the model cannot tell apart, or a cut within one."
        return self._keep("scores", caption, numbers)

    def sculpting(self, name: str) -> Figure | None:
        """Sculpting of one spectrum, by tail; None if it was not measured."""
        path = f"sculpting_{list(self.search.masses).index(name) + 1}"
        both = {
            "one threshold": self.search.sculpting[name],
            "following the mass": self.search.sculpting_following.get(name, {}),
        }
        series = {
            f"{tail} tail, {cut}": sculpting_series(found)
            for cut, by_tail in both.items()
            for tail, found in by_tail.items()
            if found
        }
        if not series:
            return None
        numbers = plots.plot_sculpting(series, self.folder / f"{path}.png")
        caption = (
            f"How much a cut on the score changes the shape of the {self.names.spectra[name]} spectrum: distance of the "
            "spectra after and before, against the percentile of the cut, of one threshold for all masses and of one that "
            "follows the mass. Bands are mean and one and two standard "
            "deviations of random selections of as many events. Worrying: a distance above the band, which grows with the "
            "percentile. A signal, too, raises it."
        )
        return self._keep(path, caption, numbers)

    def features(self, bump: Bump) -> Figure | None:
        """Features of selected events inside and outside the interval; None if there is nothing to compare."""
        events, columns = self.search.events, feature_columns(self.search)
        selected, inside = self.search.selected(bump), self.search.in_interval(bump)
        parts = {"inside": selected & inside, "outside": selected & ~inside}
        if not columns or not all(part.any() for part in parts.values()):
            return None
        rng = np.random.default_rng(self.search.configuration.get("seed", 0))
        values = []
        for part in parts.values():
            rows = np.flatnonzero(part)
            rows = rows if len(rows) <= MOST else np.sort(rng.choice(rows, MOST, replace=False))
            values.append(events.take(rows).read("features", columns))
        path = self.folder / "features.png"
        inside, outside = values
        numbers: Any = of_selected.plot_features(inside, outside, columns, path, number=FEATURES)
        inner, outer = (numbers["events"][side] for side in parts)
        caption = (
            f"Features of selected events inside the interval ({inner:,} events, red) and outside ({outer:,}, blue), "
            "those first that differ most. What a signal is made of shows as a narrow peak in a few of them. Worrying: no "
            "difference at all, or only one that the mass explains, such as larger momenta at larger masses."
        )
        return self._keep("features", caption, numbers)

    def contributions(self) -> Figure | None:
        """What each input contributes to the scores of the selected events; None if that was not asked for."""
        found = self.search.explained
        if found is None:
            return None
        path = self.folder / "contributions.png"
        numbers = plot_contributions(found.to_dict(), path)
        caption = (
            f"Mean contribution of each input to {found.kind} of {found.events:,} selected events ({found.selected}), by "
            f"{found.method}, {found.baseline}. The dots are those of other events. Worrying: an input that follows the mass alone."
        )
        return self._keep("contributions", caption, numbers)

    # -- what the labels say -------------------------------------------------------------------------

    def truth_scores(self, classes: Mapping[str, np.ndarray]) -> Figure:
        """Scores by true class; `classes` are masks (N,)."""
        samples = {name: self.search.scores[mask] for name, mask in classes.items()}
        path = self.folder / "truth_scores.png"
        numbers = of_selected.plot_scores(samples, self._cuts(), path, xlabel=self._score(), normalise=True, mark=TRUTH)
        caption = (
            "Scores by the true class of events, each normalised. A signal should lie beyond the cuts more often than "
            "background does. Worrying: a signal that lies where the background is, or on the side that is not cut on."
        )
        return self._keep("truth_scores", caption, numbers, TRUTH)

    def truth_roc(self, classes: Mapping[str, np.ndarray]) -> Figure:
        """ROC curves with the cuts."""
        background, *signals = ((name, self.search.scores[mask]) for name, mask in classes.items())
        cuts = {cut: (b.tail, b.threshold) for cut, b in zip(self.names.cuts, self.search.hunt.bumps)}
        path = self.folder / "truth_roc.png"
        numbers = of_selected.plot_working_points(background[1], dict(signals), cuts, path)
        caption = (
            "Rejection of background, one over the share that is selected, against the share of the signal that is "
            "selected, for every possible cut; the cuts made here are marked. Worrying: a curve at or below that of chance."
            + ("" if self.search.weight is None else " Every event counts once here, whatever its weight.")
        )
        return self._keep("truth_roc", caption, numbers, TRUTH)

    def truth_composition(self, bump: Bump, classes: Mapping[str, np.ndarray]) -> Figure:
        """What the selected spectrum is made of."""
        search, selected = self.search, self.search.selected(bump)
        contents = {
            name: histogram(
                search.masses[bump.spectrum][selected & mask],
                np.array(bump.edges),
                None if search.weight is None else search.weight[selected & mask],
            ).content
            for name, mask in classes.items()
        }
        numbers = of_selected.plot_composition(
            np.array(bump.edges),
            contents,
            self.folder / "truth_composition.png",
            reference=np.array(bump.reference),
            interval=bump.interval,
            xlabel=self._axis(bump.spectrum),
        )
        caption = (
            f"Events selected at {self._name(bump)}, stacked by their true class, and the "
            "reference. Worrying: an interval without signal in it, which is a bump that background alone has made."
        )
        return self._keep("truth_composition", caption, numbers, TRUTH)

    def truth_sculpting(self, bump: Bump, background: np.ndarray) -> Figure | None:
        """Sculpting of the true background alone, in the spectrum and tail of one bump; None if it cannot be told."""
        search, mass = self.search, self.search.masses[bump.spectrum]
        low, high = search.ranges[bump.spectrum]
        mine = background & (mass >= low) & (mass <= high)
        score = search.scores[mine] if bump.tail == "upper" else -search.scores[mine]
        percentiles = [float(p) for p in search.sculpting[bump.spectrum][bump.tail]] if mine.any() else []
        weight = None if search.weight is None or not np.ptp(search.weight) else search.weight[mine]
        bins, seed = search.configuration["options"]["bins"], search.configuration["seed"]
        found = sculpting_where_possible(score, mass[mine], percentiles, bins, seed, weight)
        if not found:
            return None
        path = self.folder / "truth_sculpting.png"
        numbers = plots.plot_sculpting({f"background, {bump.tail} tail": sculpting_series(found)}, path, mark=TRUTH)
        caption = (
            "Sculpting as above, of true background alone: what is above the band here is no signal, but a score that "
            "depends on the mass. Worrying: exactly that."
        )
        return self._keep("truth_sculpting", caption, numbers, TRUTH)


def feature_columns(search: Search) -> list[str]:
    """Return the features of the events but the masses that were hunted in."""
    hunted = {*search.masses, *(SHORT.get(name, name) for name in search.masses), search.events.about.mass_column}
    return [name for name in search.events.columns if name not in hunted] if search.events.has("features") else []


def sculpting_series(found: Mapping[str, Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Return the sculpting of one tail, by percentile, as arrays for `plot_sculpting`."""
    keys = ("distance", "floor", "floor_std")
    series = {key: np.array([one[key] for one in found.values()]) for key in keys}
    return {"percentile": np.array([float(percentile) for percentile in found]), **series}


def classes_of(search: Search) -> dict[str, np.ndarray]:
    """Return the events of each true class as masks (N,), background first."""
    label, names = search.events.label, search.events.about.label_names
    found = {int(k): names.get(int(k), f"signal {k}") if k else "background" for k in np.unique(label)}
    if len(set(found.values())) < len(found):
        found = {k: f"{name} ({k})" if k else name for k, name in found.items()}
    return {name: label == k for k, name in found.items()}
