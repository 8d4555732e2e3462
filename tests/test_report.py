"""The report of a search: one safe file whose every number is the hunt's, and figures that compute what they say."""

import base64
import dataclasses
import html
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy.stats import ks_2samp, norm
from sklearn.metrics import roc_auc_score, roc_curve

from pipelines import Events, InputError
from pipelines.bumphunt.search import search
from pipelines.bumphunt.spectrum import Spectrum, side_band_reference
from pipelines.plots import hunt as figures
from pipelines.plots import selected as of_selected
from pipelines.report import Page, write_report

HOSTILE = "<script>alert('x')</script>"
VOID = {"meta", "img", "br", "hr", "link", "input"}
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

# a figure that warns, of a missing glyph or of a division by nothing, is not finished
pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.drawn]


class Column:
    """A model that gives one feature as score."""

    def __init__(self, name="score"):
        self.zoo_name, self.column = "column", name

    def score(self, events):
        return events.read("features", [self.column])[:, 0]


class Document(HTMLParser):
    """What a browser makes of a page: tags, tables, text; raises for a tag that is not closed where it should be."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.tables = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def said(self):
        return " ".join(" ".join(self.text).split())


def some_events(n=6000, signal=150, seed=1, labels=True, columns=("score", "m_1", "m_2"), **about):
    """A falling spectrum, a signal at 3500 GeV of larger score and m_1; weights or other things by `about`."""
    rng = np.random.default_rng(seed)
    mass = np.r_[2700 + rng.exponential(600, n), rng.normal(3500, 50, signal)]
    is_signal = np.arange(n + signal) >= n
    score, m_1, m_2 = rng.normal(size=(3, n + signal))
    features = np.column_stack([score + 2.5 * is_signal, 100 + 10 * m_1 + 40 * is_signal, m_2])
    if labels:
        about["label"] = is_signal.astype(int)
    return Events.from_arrays(features, mass, columns, **about)


def searched(events=None, **options):
    given = {"percentiles": [90], "mass_range": (2700, 5000), "bins": 20, "widths": (2, 4), "pseudo_experiments": 100}
    return search(Column(), some_events() if events is None else events, **(given | options))


@pytest.fixture(scope="module", autouse=True)
def quick_limits():
    """Upper limits take a second each and have tests of their own, test_limits.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.bumphunt.limits.upper_limit", lambda n, b, error: (b, (b / 4, b / 2, b, 2 * b, 4 * b)))
        yield


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the pixels out: for what is said and counted, which is the same."""
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **options: file.write(PIXEL))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report as it is, drawn: two percentiles, labels, names that try to be HTML."""
    folder = tmp_path_factory.mktemp("report")
    columns, label_names = ("score", HOSTILE, "m_2"), {0: "background", 1: "<img src=x onerror=alert(1)>"}
    events = some_events(columns=columns, label_names=label_names)
    found = searched(events, percentiles=[80, 95], about={"model": HOSTILE, "command": f"zoo hunt '{HOSTILE}'"})
    write_report(folder, found)
    return found, folder, Document((folder / "report.html").read_text(encoding="utf-8"))


def written(found, folder):
    """The page and the numbers of a report."""
    page = write_report(folder, found)
    return Document(page.read_text(encoding="utf-8")), json.loads((folder / "report.json").read_text())


# -- the file ---------------------------------------------------------------------------------------


def test_the_page_needs_nothing_but_itself(report):
    _, _, page = report
    assert not {"script", "link", "iframe", "object", "embed", "style src"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert re.fullmatch(r"#section-\d+|https://arxiv\.org/abs/[\d.]+", attributes.get("href", "#section-1"))
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_contents_lead_to_sections(report):
    _, _, page = report
    links = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    assert len(links) == 10 and links == [a["id"] for a in page.all("section")]


def test_pictures_are_those_in_the_folder_of_plots(report):
    _, folder, page = report
    shown = [base64.b64decode(a["src"].partition(",")[2], validate=True) for a in page.all("img")]
    assert all(picture.startswith(b"\x89PNG\r\n\x1a\n") and picture.endswith(b"IEND\xaeB`\x82") for picture in shown)
    assert sorted(shown) == sorted(path.read_bytes() for path in (folder / "plots").glob("*.png"))
    assert all(a["alt"] and int(a["width"]) > 400 for a in page.all("img"))


def test_numbers_of_every_figure_are_beside_it_and_in_the_report(report):
    _, folder, _ = report
    inside = json.loads((folder / "report.json").read_text())["figures"]
    assert {p.name for p in (folder / "plots").iterdir()} == {*inside, *(name[:-3] + "json" for name in inside)}
    for name, numbers in inside.items():
        assert json.loads((folder / "plots" / name).with_suffix(".json").read_text()) == numbers


def test_hostile_names_are_text(report):
    found, _, page = report
    said = page.said()
    assert HOSTILE in said and f"zoo hunt '{HOSTILE}'" in said and "<img src=x onerror=alert(1)>" in said
    assert HOSTILE in page.tables[4][1][0]  # first of the features
    assert found.configuration["model"] == HOSTILE


def test_a_file_whose_name_is_html_is_text(tmp_path, undrawn):
    from pipelines.outputs import new_disk

    path = tmp_path / "<b>&amp;\"'.h5"
    source = some_events(labels=False)
    import h5py

    with new_disk(path) as disk, h5py.File(disk, "w") as file:
        for name in ("features", "mass"):
            file[name] = source.read(name)
        file.attrs.update(source.about.to_attributes())
    page, _ = written(searched(Events.from_file(path)), tmp_path / "out")
    assert "<b>&amp;\"'.h5" in page.said() and not page.all("b")


def test_the_same_search_gives_the_same_report(tmp_path, undrawn):
    found = searched()
    for name in "ab":
        write_report(tmp_path / name, found)
    for name in ("report.html", "report.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_figure_is_the_same_drawn_again(tmp_path):
    for name in "ab":
        figures.plot_tomography([(1, 3, 0.01), (2, 4, 0.4)], tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_folder_that_cannot_be_is_refused(tmp_path, undrawn):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        write_report(tmp_path / "file", searched())


# -- the numbers ------------------------------------------------------------------------------------


def test_tables_show_what_the_json_has(report):
    _, folder, page = report
    tables = json.loads((folder / "report.json").read_text())["tables"]
    assert list(tables) == ["p_values", "bumps", "selections", "sculpting", "features", "composition", "gains", "done"]
    assert len(page.tables) == len(tables)
    for shown, table in zip(page.tables, tables.values()):
        assert shown[0] == list(table["columns"].values())
        cells = [["\N{EN DASH}" if cell is None else cell for cell in row] for row in table["shown"]]
        assert [[cell.replace("\N{MINUS SIGN}", "-") for cell in row] for row in shown[1:]] == cells
        assert all(set(row) == set(table["columns"]) for row in table["rows"])


def test_rows_are_the_bumps(report):
    found, folder, page = report
    tables = json.loads((folder / "report.json").read_text())["tables"]
    for bump, row, shown in zip(found.hunt.bumps, tables["bumps"]["rows"], page.tables[1][1:], strict=True):
        for name in ("mass_estimate", "signal_estimate", "local_significance", "fisher_significance"):
            assert row[name] == getattr(bump, name)
        assert row["interval"] == list(bump.interval)
        assert row["global_p_value"] == [bump.global_p_value, bump.global_p_value_is_bound]
        assert row["observed"] - row["expected"][0] == pytest.approx(bump.signal_estimate)
        inside = found.selected(bump) & found.in_interval(bump)
        assert row["observed"] == np.count_nonzero(inside) == float(shown[2].replace(",", ""))
        assert shown[1] == f"{bump.interval[0]:.0f} to {bump.interval[1]:.0f}"
        assert shown[5] == f"{bump.mass_estimate:.0f}" and shown[6] == f"{bump.local_significance:.2f}"
    for bump, row in zip(found.hunt.bumps, tables["selections"]["rows"], strict=True):
        for name in ("percentile", "tail", "threshold", "selected_events"):
            assert row[name] == getattr(bump, name)
        assert row["normalisation"] == [bump.normalisation, bump.normalisation_error]


def test_sculpting_features_and_truth_are_the_searchs(report):
    found, folder, _ = report
    tables = json.loads((folder / "report.json").read_text())["tables"]
    measured = found.sculpting["mass"]["upper"]
    assert [row["percentile"] for row in tables["sculpting"]["rows"]] == [50, 80, 85, 95, 99]
    for row in tables["sculpting"]["rows"]:
        one = measured[f"{row['percentile']:g}"]
        assert row["distance"] == one["distance"] and row["floor"] == [one["floor"], one["floor_std"]]
        assert row["above_floor"] == (one["distance"] - one["floor"]) / one["floor_std"]
    best, x = found.hunt.best, found.events.read("features")
    inside = found.selected(best) & found.in_interval(best)
    outside = found.selected(best) & ~found.in_interval(best)
    expected = {c: ks_2samp(x[inside, i], x[outside, i]).statistic for i, c in enumerate(found.events.columns)}
    rows = tables["features"]["rows"]
    assert {row["feature"]: row["distance"] for row in rows} == pytest.approx(expected)
    assert [row["distance"] for row in rows] == sorted(expected.values(), reverse=True)
    label = found.events.label
    for bump, counts, gains in zip(found.hunt.bumps, tables["composition"]["rows"], tables["gains"]["rows"]):
        chosen = found.selected(bump)
        assert counts["s_selected"] == np.count_nonzero(chosen & (label == 1))
        assert counts["b_interval"] == np.count_nonzero(chosen & found.in_interval(bump) & (label == 0))
        assert gains["efficiency"] == counts["s_selected"] / counts["s_before"]


def test_the_verdict_says_the_best_window(report):
    found, folder, page = report
    hunt, best, said = found.hunt, found.hunt.best, page.said()
    low, high = best.interval
    assert f"{low:.0f} to {high:.0f} GeV (percentile {best.percentile:g})" in said
    assert [
        "local, Poisson (following the mass)",
        f"{best.local_p_value:.3g}",
        f"{best.local_significance:.1f}",
    ] == page.tables[0][2][:3]
    assert "too many events in the spectrum of mass from 2700 to 5000 GeV" in said
    result = json.loads((folder / "report.json").read_text())["result"]
    assert result["global_p_value"] == hunt.global_p_value and result["interval"] == list(best.interval)
    assert (
        hunt.global_p_value_is_bound
        and f"(p < {round(101 * hunt.global_p_value)}/101, global) for a bump at {low:.0f}" in said
    )
    assert "less than one such search in" in said


def test_a_p_value_no_pseudo_experiment_reaches_is_below_one_over_their_number_and_one(tmp_path, undrawn):
    page, numbers = written(searched(pseudo_experiments=50), tmp_path)
    assert numbers["result"]["global_p_value_is_bound"] and numbers["result"]["global_p_value"] == 1 / 51
    assert (
        "Of pseudo-experiments of background alone, none of 50 is as extreme in any window (p < 1/51, > 2.0 sigma)"
        in page.said()
    )
    assert page.tables[1][1][-3:-1] == ["< 1/51", "> 2.0"]
    assert "p = 0 " not in page.said()


def test_a_large_significance_is_not_called_a_discovery(tmp_path, undrawn):
    page, numbers = written(searched(some_events(signal=400), pseudo_experiments=1000), tmp_path)
    assert numbers["result"]["global_significance"] > 3 and "That is no discovery" in page.said()


def test_a_p_value_that_was_found_is_no_bound(tmp_path, undrawn):
    page, numbers = written(searched(some_events(signal=0)), tmp_path)
    p = numbers["result"]["global_p_value"]
    assert p > 0.02 and not numbers["result"]["global_p_value_is_bound"]
    (one,) = numbers["figures"]["test_statistic.png"]["selections"].values()
    assert p == (one["as_extreme"] + 1) / 101
    assert (
        f"background alone, {one['as_extreme']} of 100 are as extreme" in page.said()
        and f"(p = {p:.3g}, " in page.said()
    )
    assert "there is no evidence of anything else" in page.said() and "p <" not in page.said()


# -- what there is to say ---------------------------------------------------------------------------


@pytest.mark.parametrize("most", [7, 19, 20, 55])
def test_whole_numbers_are_drawn_with_as_many_in_every_bin(most, tmp_path):
    counts = np.arange(0.0, most + 1).repeat(300)[:, None]
    found = of_selected.plot_features(counts, counts, ["n"], tmp_path / "features.png")["features"]["n"]
    edges = np.array(found["edges"])
    assert len(edges) <= 21 and (edges % 1 == 0.5).all() and edges[0] == -0.5 and edges[-1] > most
    full = np.array(found["inside"])[: (most + 1) // int(edges[1] - edges[0])]
    np.testing.assert_allclose(full, full[0])


@pytest.mark.parametrize("how", ["without labels", "ignored", "not judged"])
def test_no_labels_no_truth(tmp_path, undrawn, monkeypatch, how):
    found = searched(some_events(labels=how != "without labels"), ignore_labels=how == "ignored")
    found = dataclasses.replace(found, truth=None)
    monkeypatch.setattr(Events, "label", property(lambda events: pytest.fail("the report looked at labels")))
    page, numbers = written(found, tmp_path)
    assert not {"composition", "gains"} & set(numbers["tables"])
    assert not [name for name in numbers["figures"] if "truth" in name]
    assert "truth" not in page.said().lower() and ["labels", "not used"] in page.tables[-1]


@pytest.mark.parametrize("labels", [True, False])
def test_truth_in_the_tuning_is_said_wherever_labels_are(tmp_path, undrawn, labels):
    tuning = {"truth_used": True, "objective": "auc:two-prong"}
    page, _ = written(searched(some_events(labels=labels), about={"run": {"tuning": tuning}}), tmp_path)
    told = "TRUTH USED: labels chose this model's hyperparameters (tune --objective auc:two-prong)"
    (row,) = (row for row in page.tables[-1] if row[0] == "labels")
    assert row[1] == told + ("; used, to judge the result too" if labels else "; not used otherwise")
    assert f"The search itself looked at no label. {told}." in page.said()
    assert page.said().index(f"{told}. No search in data without labels") < page.said().index("Caveat.")
    assert "Nothing above does" not in page.said()
    assert ("the selection depends on it" in page.said()) is labels


def test_every_figure_of_truth_is_marked(report):
    _, folder, _ = report
    truth = (folder / "report.html").read_text(encoding="utf-8").partition("What the labels say</a>")[2]
    truth = truth[truth.index("What the labels say") :].partition("What was done")[0]
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", truth, re.DOTALL)
    assert len(captions) == 6 and all(of_selected.TRUTH in caption for caption in captions)
    before = (folder / "report.html").read_text(encoding="utf-8").partition('id="section-9"')[0]
    assert not any(
        of_selected.TRUTH in caption for caption in re.findall(r"<figcaption>(.*?)</figcaption>", before, re.DOTALL)
    )


def test_labels_without_background_or_signal_make_no_roc(tmp_path, undrawn):
    for name, label in (("signal", 1), ("background", 0)):
        events = some_events(labels=False, signal=0, label=np.full(6000, label))
        page, numbers = written(searched(events), tmp_path / name)
        assert "truth_roc.png" not in numbers["figures"] and "truth_composition.png" in numbers["figures"]
        assert "it needs background and signal" in page.said()


def test_a_floor_without_spread_is_nothing_to_measure_by(tmp_path, undrawn):
    found = searched()
    for measured in (found.sculpting, found.sculpting_following):
        for one in measured["mass"]["upper"].values():
            one["floor_std"] = 0.0
    page, numbers = written(found, tmp_path)
    assert "Whether the cut on the score shapes the mass spectrum by itself cannot be told" in page.said()
    assert {row["above_floor"] for row in numbers["tables"]["sculpting"]["rows"]} == {None}
    (figure,) = (one for name, one in numbers["figures"].items() if name.startswith("sculpting"))
    assert {above for one in figure["series"].values() for above in one["above_floor"]} == {None}


def test_no_bump_is_said(tmp_path, undrawn):
    mass = np.repeat(np.linspace(2750, 4950, 20), 200)
    events = Events.from_arrays(np.tile(np.arange(200.0), 20)[:, None], mass, ["score"], label=np.arange(4000) % 2)
    page, numbers = written(searched(events, relative_error=None, cut="global"), tmp_path)  # there are ties
    assert numbers["result"]["interval"] is None and numbers["result"]["global_p_value"] == 1
    assert "No window has an excess of events: nothing was found." in page.said()
    assert "There is nothing to compare" in page.said() and "features.png" not in numbers["figures"]
    assert page.tables[1][1][1:6] == ["\N{EN DASH}"] * 5
    assert numbers["figures"]["tomography.png"]["best"] is None


def test_a_deficit_is_one(tmp_path, undrawn):
    rng = np.random.default_rng(3)
    events = some_events(signal=0, labels=False)
    features, mass = events.read("features"), events.mass
    hole = (np.abs(mass - 3500) < 100) & (features[:, 0] > 0.5) & (rng.random(len(mass)) < 0.95)
    features[hole, 0] = -3
    page, numbers = written(searched(Events.from_arrays(features, mass, events.columns), deficit=True), tmp_path)
    row = numbers["tables"]["bumps"]["rows"][0]
    assert row["signal_estimate"] < 0 and row["observed"] < row["expected"][0]
    assert page.tables[1][1][4].startswith("\N{MINUS SIGN}")
    assert "too few events in the spectrum" in page.said() and "for a deficit at" in page.said()


def test_folds_are_said_and_their_ranks_drawn(tmp_path, undrawn):
    events = some_events(n=3000)
    found = search(
        lambda fold, train: Column(), events, folds=2, percentiles=[90], bins=15, widths=(2, 4), pseudo_experiments=50
    )
    page, numbers = written(found, tmp_path)
    assert ["folds", "2"] in page.tables[-1]
    assert numbers["figures"]["scores.png"]["xlabel"] == "rank of the score within the fold"


def test_several_spectra_and_tails_are_told_apart(tmp_path, undrawn):
    events = some_events(columns=("score", "m_1", "mj1j2j3"), mass_column="mj1j2")
    rng, features = np.random.default_rng(5), events.read("features")
    features[:, 2] = events.mass + rng.exponential(100, len(features))
    events = Events.from_arrays(features, events.mass, events.columns, mass_column="mj1j2", label=events.label)
    found = searched(events, spectra=["m_jj", "m_jjj"], tails="both", percentiles=[80])
    page, numbers = written(found, tmp_path)
    names = [row["selection"] for row in numbers["tables"]["bumps"]["rows"]]
    assert len(set(names)) == 4 and names[:2] == ["m_jj, percentile 80, upper tail", "m_jj, percentile 80, lower tail"]
    assert {f"bump_{i}.png" for i in range(1, 5)} <= set(numbers["figures"])
    assert {"spectra_1.png", "spectra_2.png", "sculpting_2.png"} <= set(numbers["figures"])
    assert set(numbers["figures"]["features.png"]["features"]) == {"score", "m_1"}  # no mass that was hunted in
    assert "m_jj from 2700 to 5000 GeV and m_jjj from 2700 to 5000 GeV" in page.said()
    assert "All 4 selections together: " in page.said()


def test_events_of_one_weight_have_the_same_fisher_and_larger_errors(tmp_path, undrawn):
    weight = np.full(6150, 4.0)
    one, four = (written(searched(some_events(**given)), tmp_path / name)[1] for name, given in
                 (("one", {}), ("four", {"weight": weight})))  # fmt: skip
    assert four["tables"]["bumps"]["shown"][0][7] == one["tables"]["bumps"]["shown"][0][7] is not None
    few, many = (numbers["figures"]["bump_1.png"] for numbers in (one, four))
    assert four["figures"]["bump_1.png"]["unit"] == 4
    np.testing.assert_allclose(many["observed"], 4 * np.array(few["observed"]))
    np.testing.assert_allclose(many["pull"], few["pull"])  # four times as much of everything, and of its error


def test_a_score_that_knows_the_mass_raises_an_alarm(tmp_path, undrawn):
    events = some_events(signal=0, labels=False, seed=2)
    features = events.read("features")
    clean, _ = written(searched(events), tmp_path / "clean")
    features[:, 0] += (events.mass - 2700) / 600
    events = Events.from_arrays(features, events.mass, events.columns)
    sculpted, _ = written(searched(events, cut="global"), tmp_path / "sculpted")
    assert "does not visibly shape" in clean.said() and not [a for a in clean.all("div") if a["class"] == "warning"]
    assert "differ by more than statistics can explain" in sculpted.said()
    assert [a for a in sculpted.all("div") if a["class"] == "warning"]


def test_a_window_at_the_end_of_the_spectrum_is_said_to_be_one_sided(tmp_path, undrawn):
    said = "has a side band on one side only"
    in_the_middle = searched()
    (bump,) = in_the_middle.hunt.bumps
    moved = dataclasses.replace(bump, interval=(bump.edges[-3], bump.edges[-1]))
    at_the_end = dataclasses.replace(in_the_middle, hunt=dataclasses.replace(in_the_middle.hunt, bumps=(moved,)))
    assert said in written(at_the_end, tmp_path / "end")[0].said()
    assert bump.interval[1] < 5000 and said not in written(in_the_middle, tmp_path / "mid")[0].said()


def test_only_features_of_selected_events_are_read(tmp_path, undrawn, monkeypatch):
    found, read, blocks = searched(), [], Events.blocks
    monkeypatch.setattr("pipelines.report.figures.MOST", 40)

    def spy(events, *fields, **options):
        read.extend([len(events)] if "features" in fields else [])
        return blocks(events, *fields, **options)

    monkeypatch.setattr(Events, "blocks", spy)
    _, numbers = written(found, tmp_path)
    assert read == [40, 40] and numbers["figures"]["features.png"]["events"] == {"inside": 40, "outside": 40}


# -- a page -----------------------------------------------------------------------------------------


def test_a_page_escapes_everything():
    page = Page(HOSTILE, HOSTILE).lead(HOSTILE).warning(HOSTILE).section(HOSTILE, mark=HOSTILE).subsection(HOSTILE)
    page.text(HOSTILE).details(HOSTILE, HOSTILE).table([HOSTILE], [[HOSTILE]], HOSTILE, mark=HOSTILE)
    page.figure(PIXEL, HOSTILE, alt='" onload="x', mark=HOSTILE)
    text = page.to_html()
    found = Document(text)
    assert "<script" not in text and text.count(html.escape(HOSTILE, quote=False).partition("'")[0]) == 20
    assert found.all("img")[0]["alt"] == '" onload="x' and not found.all("script")


def test_papers_become_links_and_nothing_else_does():
    page = Document(Page("t").text("See arXiv:2103.06595, http://x.org and javascript:alert(1).").to_html())
    assert [a["href"] for a in page.all("a")] == ["https://arxiv.org/abs/2103.06595"]


def test_columns_of_numbers_are_aligned_to_the_right():
    rows = [["a", 12345, "< 1/40", "1.5 ± 0.2", "3 to 4", None], ["b", -0.5, "1e-05", None, "10 to 12", None]]
    page = Document(Page("t").table(list("uvwxyz"), rows, "c").to_html())
    assert [a.get("class") for a in page.all("th")] == [None] + ["number"] * 5
    assert page.tables[0][1] == ["a", "12,345", "< 1/40", "1.5 ± 0.2", "3 to 4", "\N{EN DASH}"]
    assert page.tables[0][2][1:3] == ["\N{MINUS SIGN}0.5", "1e\N{MINUS SIGN}05"]


def test_bad_pieces_of_a_page_are_refused(tmp_path):
    with pytest.raises(InputError, match="a row of 1 cells, expected 2"):
        Page("t").table(["a", "b"], [[1]], "c")
    with pytest.raises(InputError, match=r"no\.png: cannot be read"):
        Page("t").figure(tmp_path / "no.png", "c")
    with pytest.raises(InputError, match="no PNG"):
        Page("t").figure(b"GIF89a", "c")


def test_an_empty_page_is_a_page():
    assert Document(Page("t").to_html()).all("h1")


# -- figures against other computations -------------------------------------------------------------


def test_pulls_of_random_selections_have_unit_width(tmp_path, undrawn):
    rng, bins = np.random.default_rng(1), 2000
    before = rng.poisson(400, bins)
    selected = rng.binomial(before, 0.6)  # loose: a Poisson error would make their width sqrt(0.4)
    edges, window = np.arange(bins + 1.0), slice(0, 1000)
    spectra = [Spectrum(edges, content.astype(float), content.astype(float)) for content in (selected, before)]
    reference, f, error = side_band_reference(*spectra, window)
    numbers = figures.plot_bump(
        edges, selected, reference.content, tmp_path / "b.png", normalisation=f, normalisation_error=error
    )
    pull = np.array(numbers["pull"])[window]
    assert np.std(pull) == pytest.approx(1, abs=4 / np.sqrt(2 * 1000)) and abs(np.mean(pull)) < 0.2


def test_share_selected_over_its_mean(tmp_path, undrawn):
    edges, before, selected = [0, 1, 2, 4], [100, 50, 0], [20, 5, 0]
    one = figures.plot_selections({"a": (edges, before, selected)}, tmp_path / "s.png")["selections"]["a"]
    assert one["share"] == 25 / 150 and one["ratio"][2] is None
    assert one["ratio"][:2] == pytest.approx([0.2 / (25 / 150), 0.1 / (25 / 150)])
    assert one["ratio_error"][0] == pytest.approx(np.sqrt(100 * 0.2 * 0.8) / 100 / (25 / 150))


def test_tomography_has_every_window(tmp_path, undrawn):
    windows = [(3000, 3200, 0.3), (3100, 3300, 1e-4), (3100, 3400, 1e-4), (3200, 3400, 1.0)]
    numbers = figures.plot_tomography(windows, tmp_path / "t.png")
    assert numbers["best"] == 1 and numbers["low"] == [3000, 3100, 3100, 3200]
    assert numbers["significance"] == pytest.approx([norm.isf(0.3), norm.isf(1e-4), norm.isf(1e-4), 0])


def test_pseudo_experiments_are_counted(tmp_path, undrawn):
    toys = np.r_[np.zeros(10), np.arange(90) / 10]
    numbers = figures.plot_test_statistic({"a": (toys, 8.5, 0.05, False)}, tmp_path / "t.png")["selections"]["a"]
    assert sum(numbers["content"]) == 100 and numbers["as_extreme"] == 5


def test_pseudo_experiments_as_extreme_are_those_of_the_p_value(tmp_path, undrawn):
    found = searched(
        some_events(signal=0, n=600), relative_error=0.5, bins=6, widths=(1, 2), pseudo_experiments=2000
    )  # many equal ones
    bump = found.hunt.best
    assert np.count_nonzero(bump.pseudo_statistics == np.float64(bump.test_statistic)) > 0
    _, numbers = written(found, tmp_path)
    (one,) = numbers["figures"]["test_statistic.png"]["selections"].values()
    assert bump.global_p_value == (one["as_extreme"] + 1) / 2001


def test_working_points_agree_with_scikit_learn(tmp_path, undrawn):
    rng = np.random.default_rng(2)
    background, signal = rng.normal(size=500), rng.normal(1, 1, 300)
    cuts = {"up": ("upper", 0.7), "down": ("lower", -0.5)}
    one = of_selected.plot_working_points(background, {"s": signal}, cuts, tmp_path / "r.png")["signals"]["s"]
    truth, scores = np.r_[np.zeros(500), np.ones(300)], np.r_[background, signal]
    assert one["upper"]["auc"] == pytest.approx(roc_auc_score(truth, scores))
    assert one["lower"]["auc"] == pytest.approx(1 - roc_auc_score(truth, scores))
    eps_b, eps_s, _ = roc_curve(truth, scores, drop_intermediate=False)
    curve = {(round(s, 9), round(b, 9)) for s, b in zip(eps_s, eps_b)}
    mine = zip(one["upper"]["signal_efficiency"], one["upper"]["background_efficiency"])
    assert all((round(s, 9), round(b, 9)) in curve for s, b in mine)
    assert one["upper"]["cuts"]["up"]["signal_efficiency"] == pytest.approx(np.mean(signal > 0.7))
    assert one["lower"]["cuts"]["down"]["background_efficiency"] == pytest.approx(np.mean(background < -0.5))


def test_no_score_is_lost(tmp_path, undrawn):
    score = np.r_[np.random.default_rng(3).normal(size=50_000), 1e6, -1e5]
    one = of_selected.plot_scores({"all": score}, {"99": 2.3}, tmp_path / "s.png")
    found = one["samples"]["all"]
    assert sum(found["content"]) + found["below"] + found["above"] == len(score)
    assert one["edges"][-1] < 10  # two events far away do not hide the others


def test_composition_adds_up_to_what_was_selected(report):
    found, folder, _ = report
    numbers = json.loads((folder / "plots" / "truth_composition.json").read_text())
    np.testing.assert_allclose(np.sum(list(numbers["contents"].values()), axis=0), found.hunt.best.observed)


BAD = {
    "fewer bins than edges say": lambda path: figures.plot_bump(
        [0, 1, 2], [1], [1, 1], path, normalisation=0.1, normalisation_error=0
    ),
    "negative contents": lambda path: figures.plot_bump(
        [0, 1, 2], [1, -1], [1, 1], path, normalisation=0.1, normalisation_error=0
    ),
    "normalisation 0": lambda path: figures.plot_bump([0, 1], [1], [1], path, normalisation=0.0, normalisation_error=0),
    "NaN": lambda path: figures.plot_bump([0, 1], [np.nan], [1], path, normalisation=0.1, normalisation_error=0),
    "more selected than there are": lambda path: figures.plot_selections({"a": ([0, 1], [5], [6])}, path),
    "nothing selected": lambda path: figures.plot_selections({"a": ([0, 1], [5], [0])}, path),
    "no selections": lambda path: figures.plot_selections({}, path),
    "windows of two numbers": lambda path: figures.plot_tomography([(1, 2)], path),
    "a window from above": lambda path: figures.plot_tomography([(2, 1, 0.5)], path),
    "a p-value of 0": lambda path: figures.plot_tomography([(1, 2, 0.0)], path),
    "no pseudo-experiments": lambda path: figures.plot_test_statistic({"a": ([], 1.0, 0.1, False)}, path),
    "a constant score": lambda path: of_selected.plot_scores({"a": np.ones(5)}, {}, path),
    "columns that are not there": lambda path: of_selected.plot_features(np.ones((2, 1)), np.ones((2, 1)), "ab", path),
    "nothing inside": lambda path: of_selected.plot_features(np.ones((0, 1)), np.ones((2, 1)), "a", path),
    "a third tail": lambda path: of_selected.plot_working_points([1.0], {"s": [1.0]}, {"a": ("middle", 1)}, path),
    "no PNG": lambda path: figures.plot_tomography([(1, 2, 0.5)], path.with_suffix(".pdf")),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arrays_are_refused_and_nothing_is_written(tmp_path, what):
    with pytest.raises(InputError):
        BAD[what](tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())


# -- what can be believed ---------------------------------------------------------------------------


def knowing_the_mass(signal=0, step=0.0):
    events = some_events(signal=signal, labels=False, seed=2, n=12_000)
    features = events.read("features")
    features[:, 0] += (events.mass - 2700) / 600 + step * ((events.mass > 3300) & (events.mass < 3700))
    return Events.from_arrays(features, events.mass, events.columns)


def test_a_significance_whose_assumption_fails_is_not_told(tmp_path, undrawn):
    found = searched(knowing_the_mass(), cut="global")
    large = found.hunt.best.local_significance
    assert large > 8 and found.believed is found.following and found.following.global_significance < 2
    page, numbers = written(found, tmp_path)
    said, best = page.said(), found.following.best
    assert f"{large:.1f}" not in said and f"{found.hunt.best.fisher_significance:.1f} sigma" not in said
    assert "That fails: outside the bump the reference does not describe" in said
    lead = f"find one as significant as that at {best.interval[0]:.0f} to {best.interval[1]:.0f} GeV ("
    assert said.index(lead) < said.index("Contents")
    assert [row["p_value"] for row in numbers["tables"]["p_values"]["rows"]][4:7] == ["-"] * 3
    believed = numbers["result"]["believed"]
    assert believed["cut"] == "mass" and believed["global_p_value"] == found.following.global_p_value
    assert found.to_dict()["following"]["bumps"][0]["threshold_curve"]["degree"] >= 2
    assert any(name.endswith("_following.png") for name in numbers["figures"])


def test_where_no_cut_helps_no_number_is_told(tmp_path, undrawn):
    found = searched(knowing_the_mass(step=2.5), percentiles=[90])
    found = dataclasses.replace(found, hunt=failing(found.hunt))
    page, numbers = written(found, tmp_path)
    assert found.believed is None and "No number of this search can be believed: the reference" in page.said()
    assert "faster with the mass than a threshold may follow. Take another score" in page.said()
    both = searched(knowing_the_mass(), cut="global")
    both = dataclasses.replace(both, following=failing(both.following))
    assert "So that fails too." in written(both, tmp_path / "both")[0].said() and both.believed is None
    assert numbers["result"]["believed"] == {
        "cut": None, "background": None, "global_p_value": None, "global_p_value_is_bound": None, "global_significance": None,
    }  # fmt: skip
    assert page.tables[1][1][6:10] == ["\N{EN DASH}"] * 4 and "test_statistic.png" not in numbers["figures"]


def failing(hunt):
    """The same with a reference that does not describe the spectrum."""
    bumps = tuple(dataclasses.replace(bump, reference_p_value=1e-9) for bump in hunt.bumps)
    return dataclasses.replace(hunt, bumps=bumps)


def test_the_report_leads_with_its_figure_and_ends_with_options_and_terms(report):
    _, folder, _ = report
    text = (folder / "report.html").read_text(encoding="utf-8")
    order = [
        text.index(piece) for piece in ("<figure", 'class="lead"', "Contents", "What can be believed, and why</h2>")
    ]
    assert order == sorted(order)
    assert text.index(". What the labels say ") < text.index(". What was done</h2>") < text.index("Terms</h3>")
