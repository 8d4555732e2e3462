"""The figures of a run, drawn from a small training of every kind of model."""

import re
import shutil

import h5py
import numpy as np
import pytest

import pipelines
import zoo
from pipelines import metrics, plots
from pipelines.plots.page import NOTES
from zoo import run
from zoo.evaluation import figures

FILES = {"errors", "history", "observables", "roc"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, train_events):
    """Run directories of a group of VAEs and of a single auto-encoder."""
    folder = tmp_path_factory.mktemp("runs")
    small = {"batch_size": 250, "epochs": 2}
    vae = zoo.get("vae", members=2, units=(8, 8), decoder_epochs=2, **small)
    ae = zoo.get("ae", columns=("pt_*", "mass_*", "tau21_*"), encoder_units=(4, 2), **small)
    for name, model in (("vae", vae), ("ae", ae)):
        run.train(model, train_events, folder / name, verbose=0, jit_compile=False)
    return folder


@pytest.fixture(scope="module")
def drawn(trained, tmp_path_factory):
    """The figures of the VAEs, and the files that were said to be there."""
    events = pipelines.open("lhco_sim_test").select(mass_range=(2700, 5000))
    folder = tmp_path_factory.mktemp("drawn") / "figures"
    return folder, figures.draw(trained / "vae", folder, events)


def stems(folder):
    return {path.stem for path in folder.iterdir() if path.suffix == ".png"}


@pytest.mark.drawn
def test_every_figure_of_a_vae_is_drawn_with_its_numbers(drawn):
    folder, files = drawn
    assert stems(folder) == FILES | {"peak", "scan", "observables_with_mass"}
    assert sorted(path.name for path in folder.iterdir()) == files
    for path in folder.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.with_suffix(".json").exists() or path.with_suffix(".h5").exists(), path


def test_the_numbers_behind_the_figures_are_those_of_the_model(trained, drawn, test_events):
    model, (folder, _) = zoo.load(trained / "vae"), drawn
    roc = plots.read_numbers(folder / "roc.h5")
    background, signal = (model.score(test_events.select(label=k)) for k in (0, 1))
    area = metrics.auc(background, signal)
    found = roc["signals"]["two-prong"]
    for sign, name in ((1, "score"), (-1, "minus score")):  # the number that `zoo evaluate` prints
        best = metrics.significance_improvement(sign * background, sign * signal)
        assert float(found[name]["best"]["gain"]) == pytest.approx(best["improvement"], rel=1e-6)
        assert float(found[name]["best"]["error"]) == pytest.approx(best["error"], rel=1e-6)
    assert float(found["score"]["auc"]) == pytest.approx(area, abs=1e-6)
    assert float(found["minus score"]["auc"]) == pytest.approx(1 - area, abs=1e-6)
    with h5py.File(folder / "scan.h5") as file:
        assert np.isfinite(file["observables/mass_heavy"][()]).all()
        np.testing.assert_allclose(file["z"][()], model.scan(test_events.select(label=0))["z"], rtol=1e-5)


def test_a_model_without_latent_mass_or_watched_term_has_the_other_figures(trained, test_events, tmp_path):
    figures.draw(trained / "ae", tmp_path / "figures", test_events)
    assert stems(tmp_path / "figures") == FILES


def test_unlabelled_events_are_drawn_as_data_without_a_roc_curve(trained, test_events, tmp_path):
    figures.draw(trained / "ae", tmp_path / "figures", test_events.without_labels())
    assert stems(tmp_path / "figures") == FILES - {"roc"}
    assert set(plots.read_numbers(tmp_path / "figures" / "errors.json")["samples"]) == {"data"}


def test_data_background_and_every_signal_are_on_one_figure_of_errors(trained, test_events, tmp_path):
    data = test_events.without_labels()
    samples = {"W'": test_events.select(label=1), "background": test_events.select(label=0)}
    figures.draw(trained / "ae", tmp_path / "figures", data, samples=samples)
    assert stems(tmp_path / "figures") == FILES
    errors = plots.read_numbers(tmp_path / "figures" / "errors.json")
    assert errors["reference"] == "background"
    counted = {name: one["events"] for name, one in errors["samples"].items()}
    assert counted == {"data": len(data)} | {name: len(sample) for name, sample in samples.items()}
    roc = plots.read_numbers(tmp_path / "figures" / "roc.h5")
    assert set(roc["signals"]) == {"W'"}  # of data nobody knows what they are


@pytest.mark.slow
def test_samples_without_data_are_drawn(trained, test_events, tmp_path):
    samples = {"W'": test_events.select(label=1), "background": test_events.select(label=0)}
    figures.draw(trained / "vae", tmp_path / "alone", samples=samples)
    assert stems(tmp_path / "alone") == FILES | {"peak", "scan", "observables_with_mass"}


def test_a_sample_called_as_a_class_of_the_data_is_refused(trained, test_events, tmp_path):
    with pytest.raises(pipelines.InputError, match=r"sample 'background' .* has a class of that name"):
        figures.draw(trained / "ae", tmp_path / "figures", test_events, samples={"background": test_events})
    assert not (tmp_path / "figures").exists()


def test_without_events_the_training_alone_is_drawn(trained, tmp_path):
    figures.draw(trained / "vae", tmp_path / "figures")
    assert stems(tmp_path / "figures") == {"history", "peak"}


def test_bad_events_leave_no_folder(trained, test_events, tmp_path):
    with pytest.raises(pipelines.InputError, match="no column"):
        few = pipelines.Events.from_arrays(np.ones((5, 1)), np.full(5, 3e3), ["pt_1"])
        figures.draw(trained / "vae", tmp_path / "figures", few)
    assert not (tmp_path / "figures").exists()


def test_an_unknown_score_kind_is_named(trained, tmp_path):
    with pytest.raises(pipelines.InputError, match="score kind 'nonsense'"):
        figures.draw(trained / "ae", tmp_path / "figures", kind="nonsense")
    assert not (tmp_path / "figures").exists()


def test_two_classes_of_one_name_are_both_drawn(trained, test_events, tmp_path):
    features, columns = test_events.read("features"), test_events.columns
    label_names = {0: "QCD", 1: "background", 2: "background"}
    same = pipelines.Events.from_arrays(
        features, test_events.mass, columns, label=test_events.label, label_names=label_names
    )
    figures.draw(trained / "ae", tmp_path / "figures", same)
    found = plots.read_numbers(tmp_path / "figures" / "errors.json")["samples"]
    assert {name: one["events"] for name, one in found.items()} == {
        "background": int((same.label == 0).sum()),
        "background (1)": int((same.label == 1).sum()),
        "background (2)": int((same.label == 2).sum()),
    }


@pytest.mark.slow
def test_a_figure_that_cannot_be_drawn_leaves_the_others_and_says_why(trained, test_events, tmp_path, caplog):
    features, columns = test_events.read("features"), test_events.columns
    constant = pipelines.Events.from_arrays(features, np.full(len(features), 3e3), columns, label=test_events.label)
    figures.draw(trained / "vae", tmp_path / "figures", constant)
    assert re.search("no figure 'scan'.*mass", caplog.text)
    assert stems(tmp_path / "figures") == FILES | {"peak", "observables_with_mass"}


@pytest.mark.parametrize("damage", ["phase,epoch,kl\nvae,0,what\n", "phase,epoch,member,kl\nvae,0,0,1.0\n"])
def test_a_damaged_history_is_named(trained, tmp_path, damage):
    shutil.copytree(trained / "vae", tmp_path / "run")
    name = "members.csv" if "member," in damage else "history.csv"
    (tmp_path / "run" / name).write_text(damage)
    with pytest.raises(pipelines.InputError, match=rf"{name}: damaged"):
        figures.draw(tmp_path / "run", tmp_path / "figures")


def test_the_training_of_a_group_with_a_diverged_member_is_drawn(trained, tmp_path):
    shutil.copytree(trained / "vae", tmp_path / "run")
    table = (tmp_path / "run" / "members.csv").read_text().splitlines()
    columns = table[0].split(",")
    rows = [dict(zip(columns, line.split(","))) for line in table[1:]]
    for row in rows:
        row["kl"] = "" if row["member"] == "1" else row["kl"]
    lines = [",".join(columns), *(",".join(row[c] for c in columns) for row in rows)]
    (tmp_path / "run" / "members.csv").write_text("\n".join(lines) + "\n")
    figures.draw(tmp_path / "run", tmp_path / "figures")
    assert np.shape(plots.read_numbers(tmp_path / "figures" / "peak.json")["values"])[1] == 1


@pytest.mark.parametrize("weighted", [pytest.param(False, marks=pytest.mark.slow), True])
def test_figures_that_count_weighted_events_alike_say_so(weighted, trained, test_events, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    notes, savefig = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *a, **k: notes.append(figure.get_supxlabel()) or savefig(figure, *a, **k)
    )
    weight = np.linspace(0.5, 1.5, len(test_events)) if weighted else np.full(len(test_events), 2.0)
    events = pipelines.Events.from_arrays(
        test_events.read("features"), test_events.mass, test_events.columns, label=test_events.label, weight=weight
    )
    figures.draw(trained / "vae", tmp_path / "figures", events)
    for name in ("observables.json", "observables_with_mass.json", "roc.h5", "scan.h5"):
        said = plots.read_numbers(tmp_path / "figures" / name)["weights"]
        assert (said if isinstance(said, str) else said.decode()) == ("not used" if weighted else "none")
    assert sorted(notes)[-4:] == [NOTES[weighted]] * 4 and notes.count(NOTES[True]) == 4 * weighted
    sums = plots.read_numbers(tmp_path / "figures" / "errors.json")["samples"]
    assert sum(one["sum_of_weights"] for one in sums.values()) == pytest.approx(weight.sum())
