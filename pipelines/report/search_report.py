"""The report of a search from top to bottom: verdict, method, results, and truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pipelines.bumphunt.limits import Limit
from pipelines.bumphunt.limits import said as limit_said
from pipelines.bumphunt.result import Search, truth_in_tuning
from pipelines.bumphunt.spectrum_result import SpectrumHunt
from pipelines.plots.record import plain
from pipelines.plots.selected import TRUTH
from pipelines.report import tables
from pipelines.report import text as words
from pipelines.report.figures import Figure, Painter, classes_of
from pipelines.report.page import Page
from pipelines.report.spectrum_report import spurious_text


def tell(search: Search, plots: Path) -> tuple[Page, dict[str, object]]:
    """Draw the figures of a search into the folder `plots`; return the page, and every number that is on it."""
    return _Story(search, plots).tell()


class _Story:
    """One report in the making: a page, a painter, and the tables that were shown."""

    def __init__(self, search: Search, plots: Path):
        self.search, self.names = search, words.names_of(search)
        self.best = (search.believed or search.hunt).best  # of the hunt whose number is reported
        self.window = tables.in_interval(search, self.best)
        self.painter = Painter(search, self.names, plots)
        self.tables: dict[str, tables.Table] = {}
        self.limit: Limit | None = None
        about = search.configuration
        spectra = words.listed([*self.names.spectra.values()])
        self.page = Page("Search for a bump", f"{about['model']} on {about['data']['source']}, spectrum of {spectra}")

    def tell(self) -> tuple[Page, dict[str, object]]:
        for chapter in (self._summary, self._beliefs, self._fits, self._bump, self._spectra, self._statistics, self._scores,
                        self._selections, self._sculpting, self._features, self._explained):  # fmt: skip
            chapter()
        if self.search.truth is not None:
            self._truth()
        self._done()
        return self.page, self._numbers()

    def _numbers(self) -> dict[str, object]:
        return plain(
            {
                "result": {
                    **self.search.summary(),
                    "best_interval": self.window,
                    "limit": None if self.limit is None else self.limit.to_dict(),
                },
                "tables": {name: table.to_dict() for name, table in self.tables.items()},
                "figures": {figure.path.name: figure.numbers for figure in self.painter.drawn},
                "configuration": self.search.configuration,
            }
        )

    def _table(self, name: str, table: tables.Table) -> None:
        self.tables[name] = table
        table.add_to(self.page)

    def _show(self, figure: Figure | None, instead: str) -> None:
        if figure is None:
            self.page.text(instead)
        else:
            figure.add_to(self.page)

    # -- chapters ------------------------------------------------------------------------------------

    def _summary(self) -> None:
        fit = self.search.best_fit
        believed = self.search.believed is not None if fit is None else fit.believed
        if fit is None:
            self.painter.bump(self.best).add_to(self.page)
        else:
            self._fit(fit)
        (self.page.lead if believed else self.page.warning)(words.lead(self.search))
        self.page.text(words.verdict(self.search, self.names, self.window))

    def _fit(self, fit: SpectrumHunt) -> None:
        number = next(i for i, one in enumerate(self.search.fits) if one is fit)
        self.painter.fit(self.search.hunt.bumps[number], fit).add_to(self.page)

    def _fits(self) -> None:
        """Every selection with a fitted background, and the best with the spectrum before the cut as its reference."""
        if not self.search.fits:
            return
        self.page.section("Background by a fit")
        self._table("fits", tables.fits(self.search, self.names))
        for fit, name in zip(self.search.fits, self.names.bumps):
            if fit.spurious is not None:
                self.page.text(f"{name}: {spurious_text(fit.spurious)}")
        for fit in self.search.fits:
            if fit is not self.search.best_fit:
                self._fit(fit)

    def _beliefs(self) -> None:
        self.page.section("What can be believed, and why")
        for said, alarming in words.beliefs(self.search):
            (self.page.warning if alarming else self.page.text)(said)
        self._table("p_values", tables.p_values(self.search))
        self.limit = tables.limit(self.search)
        if self.limit is not None:
            before = "" if self.search.fits else ", before the threshold takes its share"
            self.page.text(
                f"{limit_said(self.limit)} These are selected events{before}. The window was chosen "
                "for its excess, so the limit is one for a signal of this mass only."
            )

    def _done(self) -> None:
        about = self.search.configuration
        self.page.section("What was done")
        self._table("done", tables.done(self.search, self.names))
        self.page.details("The command that repeats it", str(about.get("command", "not known")))
        versions = "\n".join(f"{name} {version}" for name, version in about.get("versions", {}).items())
        self.page.details("Versions", versions or "not known")
        self.page.details("Data, files and full configuration", json.dumps(plain(about), indent=2))
        self.page.subsection("Terms")
        self.page.text(words.TERMS.format(null=words.NULLS[self.search.hunt.null]))

    def _spectra(self) -> None:
        self.page.section("Spectra before and after the cut")
        for name in self.search.masses:
            self.painter.spectra(name).add_to(self.page)

    def _bump(self) -> None:
        self.page.section("All windows and selections")
        self.painter.tomography(self.best).add_to(self.page)
        for bump in dict.fromkeys([self.best, *self.search.hunt.bumps]):
            if bump is not self.best or self.search.fits:
                self.painter.bump(bump).add_to(self.page)

    def _statistics(self) -> None:
        self.page.section("How often background alone does this")
        if self.search.believed is None:
            self.page.text("That is not known: what the pseudo-experiments assume fails.")
            return
        self.painter.test_statistic().add_to(self.page)

    def _scores(self) -> None:
        self.page.section("Scores")
        self.painter.scores().add_to(self.page)

    def _selections(self) -> None:
        self.page.section("All selections in numbers")
        self._table("bumps", tables.bumps(self.search, self.names))
        self.page.text(words.together(self.search))
        self._table("selections", tables.selections(self.search, self.names))

    def _sculpting(self) -> None:
        self.page.section("Does the score shape the spectrum by itself?")
        for name in self.search.masses:
            self._show(self.painter.sculpting(name), f"Sculpting of {self.names.spectra[name]} was not measured.")
        self._table("sculpting", tables.sculpting(self.search, self.names))

    def _features(self) -> None:
        self.page.section("Features inside and outside the interval")
        figure = self.painter.features(self.best)
        if figure is None:
            self.page.text(
                "There is nothing to compare: no interval, no selected events on one side of it, or no features."
            )
            return
        figure.add_to(self.page)
        self._table("features", tables.features(figure.numbers))

    def _explained(self) -> None:
        figure = self.painter.contributions()
        if figure is not None:
            self.page.section("Why these events are anomalous")
            figure.add_to(self.page)

    def _truth(self) -> None:
        self.page.section("What the labels say", mark=TRUTH)
        classes = classes_of(self.search)
        above = "Nothing above does: neither the selection nor a p-value has seen them."
        if truth_in_tuning(self.search.configuration):
            above = "Above, only the choice of the model's hyperparameters does: the selection depends on it."
        self.page.warning(
            f"Everything in this section uses the true labels of simulated events. {above} Real data have no such section."
        )
        self.painter.truth_scores(classes).add_to(self.page)
        if "background" in classes and len(classes) > 1:
            self.painter.truth_roc(classes).add_to(self.page)
        else:
            self.page.text(f"No ROC curve: it needs background and signal, and there is only {', '.join(classes)}.")
        self.painter.truth_composition(self.best, classes).add_to(self.page)
        if any(truth["signals"] for truth in self.search.truth or ()):
            self._table("composition", tables.composition(self.search, self.names, TRUTH))
            self._table("gains", tables.gains(self.search, self.names, TRUTH))
        background = classes.get("background", np.zeros(len(self.search.scores), bool))
        self._show(
            self.painter.truth_sculpting(self.best, background), "There is no background whose sculpting to see."
        )
