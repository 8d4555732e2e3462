"""Several files as one: nothing lost, nothing copied, proportions exact."""

import numpy as np
import pytest

from pipelines import Events, InputError
from pipelines.events.mixing import join, mix


def made(values, *, columns=("a", "b"), **more):
    values = np.asarray(values, float)
    features = np.stack([values + 0.5 * i for i in range(len(columns))], axis=1)
    return Events.from_arrays(features, 1000 + values, columns, **more)


@pytest.fixture
def files(tmp_path):
    paths = []
    for name, values in (("one", range(700)), ("two", range(1000, 1030)), ("three", range(2000, 2500))):
        made(values, units=("GeV", ""), source=name, license="CC0").write(tmp_path / f"{name}.h5")
        paths.append(tmp_path / f"{name}.h5")
    return [Events.from_file(path) for path in paths]


def test_joined_events_are_those_of_the_parts_in_their_order(files):
    joined = join(files)
    expected = np.concatenate([np.arange(700), np.arange(1000, 1030), np.arange(2000, 2500)])
    assert joined.mass.tolist() == (1000 + expected).tolist() and joined.seams == (0, 700, 730, 1230)
    np.testing.assert_array_equal(joined.read("features", ["b"])[:, 0], expected + 0.5)
    found = [b["mass"] for b in joined.blocks("mass", size=64, rows=[(690, 740), (0, 3)])]
    assert np.concatenate(found).tolist() == (1000 + np.r_[expected[690:740], 0, 1, 2]).tolist()
    assert joined.about.source == "one; two; three" and joined.about.license == "CC0"
    assert all(str(part.path) in joined.name for part in files)


def test_everything_that_events_can_do_joined_events_can(files, tmp_path):
    joined = join(files)
    chosen = joined.select(mass_range=(1600, 3100))
    assert chosen.mass.tolist() == [*range(1600, 1700), *range(2000, 2030), *range(3000, 3100)]
    assert chosen.seams == (0, 100, 130, 230)
    first, second = chosen.split(0.3, seed=1)
    assert sorted([*first.mass, *second.mass]) == chosen.mass.tolist()
    chosen.write(tmp_path / "out.h5")
    again = Events.from_file(tmp_path / "out.h5")
    np.testing.assert_array_equal(again.read("features"), chosen.read("features"))
    assert join([joined, files[1]]).mass[-30:].tolist() == files[1].mass.tolist()


def test_columns_are_found_by_name_in_the_order_of_the_first(files):
    swapped = Events.from_arrays(np.array([[9, 1.0, 2.0]]), [5000], ["more", "b", "a"])
    assert join([files[0], swapped]).read("features")[-1].tolist() == [2.0, 1.0]


def test_weights_of_those_without_are_one():
    joined = join([made([0, 1], weight=[2, 3]), made([2])])
    assert joined.weight.tolist() == [2, 3, 1]


def test_truth_is_kept_if_all_have_it_and_it_means_the_same():
    one = made([0, 1], label=[0, 1], label_names={0: "QCD", 1: "Z'"}, process=[3, 4], process_names={3: "x", 4: "y"})
    assert join([one, one]).label.tolist() == [0, 1, 0, 1] and join([one, one]).about.process_names == {3: "x", 4: "y"}
    assert not join([one, made([5])]).has_labels
    assert not join([one, one]).without_labels().has_labels


@pytest.mark.parametrize(
    "other, words",
    [
        (made([1], columns=("a", "c")), ("no column 'b'",)),
        (made([1], units=("MeV", "")), ("a is in MeV", "GeV")),
        (Events.from_arrays(None, [1.0], objects=np.ones((1, 2, 4)), object_columns=list("Epqr")), ("no features",)),
    ],
)
def test_what_does_not_fit_together_is_refused(other, words, files):
    with pytest.raises(InputError) as error:
        join([files[0], other])
    assert all(word in str(error.value) for word in (*words, files[0].name))
    with pytest.raises(InputError, match="no events to join"):
        join([])


def test_objects_are_joined_and_must_have_one_shape():
    one, two, three = (
        Events.from_arrays(None, np.ones(n), objects=np.full((n, p, 4), n), object_columns=list("Epqr"))
        for n, p in ((2, 3), (4, 3), (1, 5))
    )
    assert join([one, two]).read("objects")[:, 0, 0].tolist() == [2, 2, 4, 4, 4, 4]
    assert join([one, two]).read("mask").shape == (6, 3)
    with pytest.raises(InputError, match="objects of shape"):
        join([one, three])


@pytest.mark.parametrize("ratio", [0.5, 0.1, 0.01, 2.0])
def test_mixture_has_the_ratio_asked_and_uses_what_there_is(ratio):
    background, signal = made(np.arange(2000)), made(10_000 + np.arange(100))
    mixed = mix(background, signal, ratio, seed=3)
    b, s = np.bincount(mixed.label)
    assert s == round(ratio * b) and (b == 2000 or s >= 99)
    truth = mixed.mass >= 11_000
    assert (mixed.label == truth).all() and len(set(mixed.mass.tolist())) == b + s


def test_mixture_is_fixed_by_its_seed_and_blind_to_it_otherwise():
    background, signal = made(np.arange(1000)), made(5000 + np.arange(500))
    one, again, other = (mix(background, signal, 0.1, seed=s).mass.tolist() for s in (1, 1, 2))
    assert one == again != other


def test_several_signals_get_labels_and_names_of_their_own():
    labelled = made(np.arange(9000, 9100), label=np.repeat([1], 100), label_names={1: "two-prong"})
    mixed = mix(made(np.arange(1000)), [labelled, made(np.arange(5000, 5100))], [0.05, 0.02])
    assert np.bincount(mixed.label).tolist() == [1000, 50, 20]
    assert dict(mixed.about.label_names) == {0: "background", 1: "two-prong", 2: "signal 2"}


def test_labelled_files_give_their_background_as_background_and_their_signal_as_signal():
    both = made(np.arange(1000), label=(np.arange(1000) >= 900).astype(int))
    mixed = mix(both, both, 0.1)
    assert np.bincount(mixed.label).tolist() == [900, 90]
    assert (mixed.mass[mixed.label == 0] < 1900).all() and (mixed.mass[mixed.label == 1] >= 1900).all()
    with pytest.raises(InputError, match="no signal among"):
        mix(both, both.select(label=0), 0.1)


def test_several_backgrounds_leave_their_own_signal_out_whatever_their_labels_mean():
    one = made(np.arange(100), label=np.arange(100) >= 90, label_names={0: "QCD", 1: "two-prong"})
    two = made(np.arange(500, 600), label=np.repeat([0, 2], 50), label_names={0: "background", 2: "Z'"})
    mixed = mix([one, two, made(np.arange(800, 820))], made(np.arange(5000, 5100)), 0.1)
    kept = mixed.mass[mixed.label == 0] - 1000
    assert sorted(kept) == [*range(90), *range(500, 550), *range(800, 820)] and (mixed.label == 1).sum() == 16


def test_names_of_truth_are_united_and_a_conflict_is_said():
    one = made([0, 1], label=[0, 1], label_names={0: "QCD", 1: "Z'"})
    assert dict(join([one, made([2], label=[6], label_names={6: "W'"})]).about.label_names) == {
        0: "QCD",
        1: "Z'",
        6: "W'",
    }
    with pytest.warns(UserWarning, match="label 1 is \"Z'\" in one source and 'other'"):
        assert not join([one, made([2], label=[1], label_names={1: "other"})]).has_labels


def test_sources_of_what_was_joined_before_keep_their_seams(files):
    mixed = mix(join(files), made(range(9000, 9200)), 0.1)
    assert mixed.seams == (0, 700, 730, 1230, 1353)
    chosen = join([join(files).select(mass_range=(1600, 3100)), files[0]])
    assert chosen.seams == (0, 100, 130, 230, 930)


def test_other_masses_and_other_units_of_objects_are_refused():
    with pytest.raises(InputError, match=r"the mass is mll, in .* it is mjj"):
        join([made([1], mass_column="mjj"), made([1], mass_column="mll")])
    objects = {"objects": np.ones((1, 2, 2)), "object_columns": ["E", "pt"]}
    one, two = (Events.from_arrays(None, [1.0], **objects, object_units=[u, u]) for u in ("GeV", "MeV"))
    with pytest.raises(InputError, match="object_units MeV, MeV"):
        join([one, two])


@pytest.mark.parametrize("ratio", [0, -1, float("nan"), [0.1, 0.2]])
def test_impossible_ratios_are_refused(ratio):
    with pytest.raises(InputError, match="S/B"):
        mix(made(range(10)), made(range(10)), ratio)
    with pytest.raises(InputError, match="leaves none"):
        mix(made(range(10)), made(range(10)), 1e-3)
