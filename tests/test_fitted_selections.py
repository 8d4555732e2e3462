"""Searches whose background is fitted to the selected spectrum: the same hunt as in a spectrum alone, and what is told of it."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.stats import norm

import pipelines
from pipelines import Events, InputError
from pipelines.bumphunt.options import SearchOptions
from pipelines.bumphunt.result import QUOTED, SIGNIFICANCES, fit_table
from pipelines.bumphunt.spectrum_hunt import bumphunt
from pipelines.report import tables, write_report
from pipelines.report.text import names_of
from zoo.cli.hunt import BACKGROUNDS, table

RANGE = (2700.0, 5000.0)
OPTIONS = {"mass_range": RANGE, "widths": (2, 5), "pseudo_experiments": 200, "percentiles": [95]}


def searched(signal=0, weight=None, **options):
    """A score that rises with the mass, in a spectrum that a dijet function describes."""
    rng = np.random.default_rng(1)
    low, high = RANGE
    mass = low - 500 * np.log(1 - rng.random(30_000) * (1 - np.exp((low - high) / 500)))
    score = 2 * np.log(mass / low) + rng.normal(size=len(mass))
    mass, score = np.r_[mass, rng.normal(3823, 60, signal)], np.r_[score, rng.normal(3.2, 0.6, signal)]
    events = Events.from_arrays(score[:, None], mass, ["x"], **({} if weight is None else {"weight": weight}))
    return pipelines.search(score, events, **(OPTIONS | {"background": "dijet3"} | options))


@pytest.fixture(scope="module")
def found():
    return searched(150)


def test_it_is_the_hunt_in_the_selected_spectrum(found):
    edges = np.linspace(*RANGE, 41)
    counts = np.histogram(found.masses["mass"][found.selected(found.hunt.best)], edges)[0]
    alone = bumphunt(counts, "dijet3", edges=edges, widths=(2, 5), pseudo_experiments=200)
    (fit,) = found.fits
    assert fit.global_p_value == alone.global_p_value and fit.interval == alone.interval
    np.testing.assert_array_equal(fit.counts, counts)
    assert fit.interval[0] < 3823 < fit.interval[1] and fit.mass_estimate == pytest.approx(3823, abs=60)


def test_it_is_what_the_search_tells(found, tmp_path):
    believed = found.summary()["believed"]
    assert believed["background"] == "dijet3" and believed["global_p_value"] == found.fits[0].global_p_value
    assert found.to_dict()["fits"][0]["background"]["kind"] == "dijet3" and found.to_json()
    write_report(tmp_path, found)
    numbers = json.loads((tmp_path / "report.json").read_text())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "with the background dijet3 fitted to the selected spectrum" in page.partition("Contents")[0]
    assert {"fits", "p_values"} <= set(numbers["tables"]) and {"fit_1.png", "bump_1.png"} <= set(numbers["figures"])
    assert numbers["tables"]["p_values"]["rows"][0]["what"] == "global (fit of dijet3)"
    assert numbers["result"]["limit"]["window"] == list(found.fits[0].interval)
    assert "With a fitted background:" in table(found)


def test_the_p_value_of_the_background_is_everywhere_that_of_the_fit_which_is_believed(found):
    (fit,) = found.fits
    wrong = dataclasses.replace(fit.background, p_value=0.001, describes=False)
    right = dataclasses.replace(fit.background, p_value=0.37, describes=True)
    found = dataclasses.replace(found, fits=(dataclasses.replace(fit, background=wrong, refit=right),))
    (row,), of_background = tables.fits(found, names_of(found)).rows, tables.p_values(found).rows[2]
    assert found.summary()["reference_p_value"] == row["background_p_value"] == 0.37
    assert of_background["p_value"] == "0.37" == fit_table(found)[1][0][3] and found.fits[0].believed


def test_several_selections_cost_their_number_and_background_alone_is_none():
    found = searched(percentiles=[80, 95], pseudo_experiments=100)
    smallest = min(fit.global_p_value for fit in found.fits)
    assert len(found.fits) == 2 and found.fit_global_p_value == min(1.0, 2 * smallest)
    assert found.fit_global_p_value > 0.02 and all(fit.believed for fit in found.fits)
    summary = found.summary()
    assert {name: summary[name] for name in QUOTED} == {name: summary["believed"][name] for name in QUOTED}
    assert summary["trials_factor"] == pytest.approx(found.fit_global_p_value / smallest)
    assert summary["pseudo_experiments"] == 100 and summary["fisher_significance"] is None
    p, z = found.fit_global_p_value, norm.isf(found.fit_global_p_value)
    last = (
        f"Global p-value {p:.3g}, {max(z, 0):.1f} sigma, of 100 pseudo-experiments, with the background dijet3 fitted"
    )
    assert str(found).splitlines()[-1].startswith(last) and last in found._repr_html_()


def test_pseudo_experiments_that_are_told_are_those_of_the_fit():
    found = searched(pseudo_experiments=10_001, cut="global", null="poisson")
    assert found.hunt.pseudo_experiments == 10_001
    assert found.summary()["pseudo_experiments"] == found.fits[0].pseudo_experiments == 10_000


def test_a_fit_that_does_not_describe_the_spectrum_gives_no_number(found, tmp_path):
    (fit,) = found.fits
    wrong = dataclasses.replace(fit, refit=None, background=dataclasses.replace(fit.background, describes=False))
    found = dataclasses.replace(found, fits=(wrong,))
    assert not wrong.believed and found.summary()["believed"]["global_p_value"] is None
    assert all(found.summary()[name] is None for name in SIGNIFICANCES)
    assert str(found).splitlines()[-1].startswith("No p-value may be quoted: the fitted background does not describe")
    write_report(tmp_path, found)
    assert "No number of this search can be believed" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "report.json").read_text())["result"]["limit"] is None


def test_what_cannot_be_fitted_is_refused_before_anything_is_scored():
    with pytest.raises(InputError, match=r"background 'dijet3' is fitted to numbers of events, and these have weights"):
        searched(weight=np.random.default_rng(0).uniform(0.5, 1, 30_000))
    with pytest.raises(InputError, match="background 'sideband', expected one of spectrum, auto"):
        SearchOptions(background="sideband")
    for name in set(BACKGROUNDS) - {"sidebands", "template"}:  # which are of a scan of windows
        assert SearchOptions(background=name).background == name
    assert searched(background="spectrum").fits == ()
