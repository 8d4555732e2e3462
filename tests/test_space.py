"""Search spaces: what is drawn is possible, what is fixed or written in a file is obeyed, what is conditional stays so."""

import json
import math
import pickle

import pytest

import zoo
from pipelines import InputError
from tuning import algorithms
from tuning.kerastuner import keras_tuner
from tuning.space import Space, sample
from tuning.spacefile import load_space, read_space
from zoo import registry
from zoo.base import COUNT, POSITIVE, Limit
from zoo.cli.terminal import setting

MODELS = zoo.names()


@pytest.fixture(scope="module", autouse=True)
def toy():
    """A model whose space has what spaces can have: a parent, children, names that make one hyperparameter together."""
    with pytest.warns(DeprecationWarning, match="hyperparameters as keywords"):  # as of earlier versions

        class Toy(zoo.AnomalyModel):
            presets = {"wide": {"units": (9, 9), "rate": 0.5}}
            limits = {"units": COUNT, "rate": Limit(0, 1), "momentum": Limit(0, 1, open_high=True), "slope": POSITIVE}

            def __init__(
                self, *, columns=("*",), scaling="standard", units=(4, 2), rate=0.1, momentum=0.9, optimizer="sgd", slope=0.3,
                flag=True, batch_size=100, members=1, seed=0,
            ):  # fmt: skip
                super().__init__(locals())

            @classmethod
            def search_space(cls, hp):
                optimizer = hp.Choice("optimizer", ["sgd", "adam"])
                with hp.conditional_scope("optimizer", ["sgd"]):
                    momentum = hp.Float("momentum", 0.1, 0.9)
                drawn = {"optimizer": optimizer, "units": (hp.Choice("width", [4, 8]),) * hp.Int("depth", 1, 3)}
                drawn["rate"] = hp.Float("rate", 1e-3, 1e-1, sampling="log")
                return drawn if momentum is None else drawn | {"momentum": momentum}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(registry, "_models", dict(registry._models))
        yield registry.register("toy")(Toy)


@pytest.fixture
def file(tmp_path):
    def write(text):
        (tmp_path / "space.yaml").write_text(text)
        return tmp_path / "space.yaml"

    return write


def draws(space, number=60):
    whole = space.hyperparameters()
    return [space.draw(sample(whole, seed)) for seed in range(number)]


def seen(space, name):
    return {given.get(name, "absent") for given in draws(space)}


# -- every model's own space -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_hundred_draws_and_all_corners_of_every_models_space_are_possible(name):
    Space(name).check(draws=100)


@pytest.mark.parametrize("name", MODELS)
def test_draws_of_every_models_space_build_that_model(name):
    valid = registry.defaults(registry.model_class(name))
    for given in draws(Space(name), 4):
        config = zoo.get(name, **given).get_config()
        for key, value in given.items():
            assert key in valid and config[key] == value


@pytest.mark.parametrize("name", MODELS)
def test_every_name_of_every_models_space_makes_something(name):
    idle = [row["name"] for row in Space(name).rows() if not row["makes"]]
    assert not idle


@pytest.mark.parametrize("name", MODELS)
def test_the_printed_yaml_of_every_model_is_its_space(name, file):
    path = file(Space(name).template())
    assert Space(name, overrides=path).rows() == Space(name).rows()
    assert Space(name).table().splitlines()[0].split() == ["name", "searched", "makes", "when"]


@pytest.mark.parametrize("name", MODELS)
def test_every_single_hyperparameter_of_a_space_can_be_fixed_at_what_was_drawn(name):
    for key, value in draws(Space(name), 1)[0].items():
        space = Space(name, fixed={key: value})
        assert {json.dumps(given[key]) for given in draws(space, 3)} == {json.dumps(value)}


def test_what_belongs_together_cannot_be_fixed_one_by_one_and_says_so():
    with pytest.raises(InputError, match=r"impossible point: activations=.*drawn at layers="):
        Space("ae", fixed={"encoder_units": (16, 8, 4)}).check()
    Space("ae", fixed={"encoder_units": (16, 8, 4), "layers": 3}).check(draws=10)


ASKED = {  # by the issue: what a model has of sizes, rates, weights, schedules, batch size, scaling
    "vae": {"latent_dim", "units", "flow", "num_flows", "scaling", "batch_size", "optimizer", "alpha", "learning_rate"},
    "gan_ae": {"latent_dim", "ae_units", "d_units", "scaling", "batch_size", "epsilon", "alpha", "disco_power",
               "dropout_rate", "negative_slope", "learning_rate", "d_epochs", "ae_epochs"},
    "ae": {"encoder_units", "decoder_units", "activations", "negative_slope", "kernel_regularisation", "kernel_norm",
           "activity_regularisation", "regularised", "learning_rate", "scaling", "batch_size"},
    "conv_vae": {"latent_dim", "channels", "flow", "num_flows", "scaling", "batch_size", "beta", "learning_rate"},
    "gcn_vae": {"latent_dim", "units", "graph_layer", "adjacency", "neighbours", "flow", "num_flows", "scaling",
                "batch_size", "beta", "learning_rate"},
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_every_hyperparameter_that_one_would_tune_is_searched(name):
    space = Space(name)
    assert {made for row in space.rows() for made in row["makes"]} == ASKED[name]
    drawn = draws(space, 30)
    assert all(len({json.dumps(given.get(made)) for given in drawn}) > 1 for made in ASKED[name])


ARCHITECTURES = {"vae": 1248, "gan_ae": 48, "conv_vae": 168, "gcn_vae": 1512}  # as the documentation says


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_documentation_counts_the_architectures_of_a_space(name):
    space = Space(name)
    rows = {row["name"]: row for row in space.rows() if row["name"] in space.shapes()}
    free = [len(values(row)) for row in rows.values() if not row["when"] and row["name"] not in ("flow", "adjacency")]
    flows = 1 + (len(values(rows["flow"])) - 1) * len(values(rows["num_flows"])) if "flow" in rows else 1
    graphs = 1 + 1 * 2 if "adjacency" in rows else 1
    assert math.prod(free) * flows * graphs == ARCHITECTURES[name]
    assert all(len(values(rows[each])) <= 3 for each in ("batch_size", "scaling"))  # each is compiled


def values(row):
    return row.get("values") or range(row["min"], row["max"] + 1)


@pytest.mark.parametrize("name", ["vae", "conv_vae", "gcn_vae"])
def test_the_number_of_flows_is_searched_only_where_there_is_one(name):
    for given in draws(Space(name)):
        assert ("num_flows" in given) == ("flow" in given) and given.get("flow") != "none"
    assert {given["num_flows"] for given in draws(Space(name, {"flow": "planar"}))} == {2, 6}
    assert seen(Space(name, {"flow": "householder", "num_flows": 4}), "num_flows") == {4}


def test_the_number_of_neighbours_is_searched_only_where_the_nearest_are():
    for given in draws(Space("gcn_vae")):
        assert ("neighbours" in given) == (given["adjacency"] == "knn")


# -- fixing ----------------------------------------------------------------------------------------------


def test_a_fixed_name_is_registered_as_fixed_and_nothing_else_is():
    whole = Space("toy", {"rate": 0.02}).hyperparameters()
    fixed = [one.name for one in whole.space if type(one).__name__ == "Fixed"]
    assert fixed == ["rate"] and seen(Space("toy", {"rate": 0.02}), "rate") == {0.02}


def test_fixing_a_hyperparameter_takes_the_names_that_only_make_it_out_of_the_space():
    space = Space("toy", {"units": (7, 5)})
    assert list(space.searched) == ["optimizer", "momentum", "rate"] and seen(space, "units") == {(7, 5)}
    gan = Space("gan_ae", {"d_units": (300, 200)})
    assert "d_shape" not in {one.name for one in gan.hyperparameters().space}
    assert "alpha" in gan.searched and seen(gan, "d_units") == {(300, 200)}


def test_fixing_a_name_that_is_no_hyperparameter_does_not_reach_the_model():
    space = Space("toy", {"width": 8})
    assert seen(space, "width") == {"absent"} and {set(units) == {8} for units in seen(space, "units")} == {True}


def test_what_the_space_never_asks_for_is_fixed_as_well():
    assert seen(Space("toy", {"batch_size": 50, "columns": ("a",)}), "batch_size") == {50}


@pytest.mark.parametrize("optimizer, momenta", [("adam", 1), ("sgd", 60)])
def test_a_fixed_parent_keeps_its_children_conditional(optimizer, momenta):
    space = Space("toy", {"optimizer": optimizer})
    assert len({given.get("momentum") for given in draws(space)}) == momenta
    whole = space.hyperparameters()
    (condition,) = next(one for one in whole.space if one.name == "momentum").conditions
    assert (condition.name, condition.values) == ("optimizer", ["sgd"])


def test_children_are_drawn_where_their_parent_says_and_only_there():
    for given in draws(Space("toy")):
        assert ("momentum" in given) == (given["optimizer"] == "sgd")


def test_presets_give_what_is_not_searched_and_the_space_wins_over_them():
    space = Space("toy", preset="wide", overrides={"replace": True, "slope": {"min": 0.1, "max": 0.2}})
    assert seen(space, "units") == {(9, 9)} and seen(space, "rate") == {0.5} and len(seen(space, "slope")) == 60
    assert all(units != (9, 9) for units in seen(Space("toy", preset="wide"), "units"))


def test_a_space_goes_to_other_processes():
    space = Space("toy", {"units": (7, 5)}, overrides={"rate": {"max": 0.01}})
    again = pickle.loads(pickle.dumps(space))
    assert draws(again, 5) == draws(space, 5)


# -- files -----------------------------------------------------------------------------------------------


def test_a_file_narrows_and_what_it_leaves_out_stays_as_the_model_has_it(file):
    space = Space("toy", overrides=file("rate: {max: 1e-2}\nwidth: [8, 16]\n"))
    rate = space.searched["rate"]
    assert (rate.min_value, rate.max_value, rate.sampling) == (1e-3, 1e-2, "log")
    assert {unit for units in seen(space, "units") for unit in units} == {8, 16} and "depth" in space.searched


def test_numbers_with_an_exponent_are_numbers_although_yaml_1_1_says_words(file):
    entries, _ = read_space(file("rate: {min: 1e-4, max: 1e-2, sampling: log}\nslope: [1e-3, 2E-3]\n"))
    assert (entries["rate"].low, entries["rate"].high, entries["slope"].values) == (1e-4, 1e-2, (1e-3, 2e-3))


def test_a_file_fixes_and_chooses_among_layouts(file):
    space = Space("toy", overrides=file("rate: 0.05\nunits: [[64, 32], [16]]\n"))
    assert seen(space, "rate") == {0.05} and seen(space, "units") == {(64, 32), (16,)}
    assert not {"width", "depth"} & set(space.searched)
    assert seen(Space("toy", overrides=file("units: {fix: [6, 3]}\n")), "units") == {(6, 3)}


@pytest.mark.parametrize(
    "value", ["two", "1.5", "true", "none", "[2, none]", "[2.5, 3]", "1000000000", "{type: float, max: 3}"]
)
def test_a_name_that_only_the_space_has_takes_numbers_of_its_kind_alone(value, file):
    with pytest.raises(InputError, match=r"depth .*expected a whole number"):
        Space("toy", overrides=file(f"depth: {value}\n")).check()
    if value[0] not in "[{":
        with pytest.raises(InputError, match=r"fixed: depth=.*expected a whole number"):
            Space("toy", fixed=dict([setting(f"depth={value}")]))


@pytest.mark.parametrize("line", ["units: {fix: [6, 3]}", "slope: 0.25", "units: [[6, 3], [2]]"])
def test_the_printed_yaml_keeps_what_a_file_has_fixed(line, file):
    space = Space("toy", overrides=file(f"{line}\n"))
    again = Space("toy", overrides=file(space.template()))
    assert again.rows() == space.rows() and draws(again, 5) == draws(space, 5)


def test_a_file_adds_what_the_models_own_space_does_not_have_with_conditions(file):
    path = file(
        "slope: {min: 0.1, max: 0.9, when: {optimizer: [adam]}}\nbatch_size: {min: 50, max: 60}\nflag: [true, false]\n"
    )
    space = Space("toy", overrides=path)
    for given in draws(space):
        assert ("slope" in given) == (given["optimizer"] == "adam")
        assert given["batch_size"] in range(50, 61) and isinstance(given["batch_size"], int)
    assert seen(space, "flag") == {True, False}
    assert Space("toy", overrides=file(space.template())).rows() == space.rows()


def test_a_file_that_replaces_leaves_all_else_to_the_preset(file):
    space = Space("toy", overrides=file("replace: true\nrate: {min: 0.2, max: 0.3, sampling: linear}\n"))
    assert list(space.searched) == ["rate"]
    assert all(set(given) == {"rate"} and 0.2 <= given["rate"] <= 0.3 for given in draws(space))
    assert Space("toy", overrides=file(space.template())).rows() == space.rows()


def test_a_mapping_does_what_its_file_does(file):
    path = file("rate: {max: 1e-2}\nunits: [[64, 32], [16]]\n")
    kept = json.loads(json.dumps(load_space(path)))
    assert Space("toy", overrides=kept).rows() == Space("toy", overrides=path).rows()


@pytest.mark.parametrize(
    "text, found, expected",
    [
        ("rate: {min: 0.5, max: 1.5}", "max of rate is 1.5", "a number >= 0 and <= 1"),
        ("momentum: [0.5, 1.0]", "a value of momentum is 1.0", "< 1"),
        ("rate: -1", "a value of rate is -1", ">= 0"),
        ("rate: {min: 0.9, max: 0.1}", "rate is from 0.9 to 0.1", "min < max"),
        ("rate: {min: 0}", "min of rate is 0", "> 0 where sampling is log"),
        ("rate: {min: word}", "min of rate is 'word'", "a finite number"),
        ("rate: {min: .nan}", "rate.min is nan", "a finite number"),
        ("rate: {low: 1}", "rate has 'low'", "some of min, max"),
        ("rate: {max: 0.1, values: [1]}", "rate has values and max", "one of them"),
        ("rate: {default: 0.1}", "rate is {'default': 0.1}", "min and max, values, or fix"),
        ("rate: {max: 0.1, step: -1}", "step of rate is -1", "> 0"),
        ("rate: {max: 0.1, sampling: cubic}", "sampling of rate is 'cubic'", "linear, log"),
        ("rate: []", "values of rate are []", "at least one"),
        ("rate: [0.1, word]", "values of rate are", "all of one type"),
        ("rate: [0.1, 0.1]", "values of rate are", "each once"),
        ("rate: [[0.1, 0.2]]", "rate has the list", "one value, such as 0.1"),
        ("rate: null", "a value of rate is None", "a number >= 0 and <= 1"),
        ("depth: {min: 1, max: 2.5}", "max of depth is 2.5", "a whole number"),
        ("slope: {max: 1}", "slope has no min", "give it"),
        ("units: {min: 1, max: 2}", "units is a range", "a choice"),
        ("rats: [1, 2]", "'rats' is no hyperparameter of toy", "near: rate"),
        ("momentum: {max: 0.8, when: {optimizer: [sgd]}}", "when of momentum", "leave it out"),
        ("slope: {min: 1, max: 2, when: {optimiser: [sgd]}}", "when of slope has 'optimiser'", "no name of the space"),
        ("replace: maybe", "replace is 'maybe'", "true or false"),
        ("replace: true", "nothing is listed", "at least one"),
        ("rate: [0.1\nwidth: 4", "line 2 no YAML", "expected lines such as"),
        ("rate: 0.1\nrate: 0.2", "'rate' is there twice", "expected lines"),
        ("- rate", "list", "expected names"),
        ("", "NoneType", "expected names"),
        ("rate: !!python/object/apply:os.system ['true']", "no YAML", "expected lines"),
        ("width: [4, 0]", "impossible point: units=(0,", "fix or narrow"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_what_was_expected(text, found, expected, file):
    path = file(text)
    with pytest.raises(InputError) as refused:
        Space("toy", overrides=path).check()
    message = str(refused.value)
    assert message.startswith(f"{path}") and found in message and expected in message and "\n" not in message


def grid(space):
    """Every combination that KerasTuner's grid has of a space, as our oracle asks for it."""
    oracle = algorithms.make("grid", space.hyperparameters(), trials=100, max_epochs=1, factor=3, seed=0)
    return [space.draw(trial.hyperparameters) for trial in algorithms.start_trials(oracle)]


@pytest.mark.parametrize(
    "line, expected",
    [
        ("rate: {min: 0, max: 0.3, step: 0.1, sampling: linear}", [0.0, 0.1, 0.2, 0.3]),  # keras-tuner issue 1001
        ("rate: {min: 0, max: 1, step: 0.3, sampling: linear}", [0.0, 0.3, 0.6, 0.9, 1.0]),
        ("rate: {min: 0.001, max: 1, step: 10}", [0.001, 0.01, 0.1, 1.0]),  # whose own sampling is log
        ("rate: {min: 0.1, max: 0.3, step: '+0.1'}", [0.1, 0.2, 0.3]),
        ("rate: {min: 0.1, max: 0.8, step: '*2', sampling: linear}", [0.1, 0.2, 0.4, 0.8]),
        ("rate: {min: 0.1, max: 0.8, step: 2, sampling: reverse_log}", [0.1, 0.5, 0.7, 0.8]),
        ("batch_size: {min: 2, max: 8, step: 2, sampling: log}", [2, 4, 8]),  # keras-tuner issue 716
        ("batch_size: {min: 10, max: 45, step: 20}", [10, 30, 45]),
        ("batch_size: [20, 40.0]", [20, 40]),
        ("depth: {min: 2, max: 4}", [2, 3, 4]),
    ],
)
def test_a_grid_has_every_value_of_a_range_once_ends_included_and_whole_numbers_stay_whole(line, expected, file):
    space = Space("toy", overrides=file(f"replace: true\n{line}"))
    name = line.partition(":")[0]
    tried = [len(given["units"]) if name == "depth" else given[name] for given in grid(space)]
    assert sorted(tried) == expected and {type(value) for value in tried} == {type(expected[0])}
    assert Space("toy", overrides=file(space.template())).rows() == space.rows()


@pytest.mark.parametrize("name, step", [("dropout_rate", 0.05), ("negative_slope", 0.05)])
def test_the_ends_of_a_models_own_stepped_ranges_are_drawn_too(name, step):
    row = next(row for row in Space("gan_ae").rows() if row["name"] == name)
    assert row["values"][-1] == row["max"] == 0.4 and row["step"] == step and not row["multiplies"]
    assert {given[name] for given in draws(Space("gan_ae"), 200)} == set(row["values"])


def test_the_table_says_whether_a_step_adds_or_multiplies(file):
    text = Space("toy", overrides=file("rate: {step: 10}\nslope: {min: 0.1, max: 0.3, step: 0.1}")).table()
    assert "0.001 to 0.1, log, step *10" in text and "0.1 to 0.3, step +0.1" in text


@pytest.mark.parametrize(
    "line, message",
    [
        ("rate: {step: 0.01}", r"step of rate is 0.01: it multiplies, since sampling is log; .* '\+0.01' to add"),
        ("rate: {step: '*1'}", "step of rate is 1: expected a factor > 1"),
        ("rate: {step: by two}", "step of rate is 'by two', expected a number, '\\+NUMBER' to add"),
        ("rate: {step: '+1e-9'}", "makes 9.9e.07 values, expected at most 1000"),
        ("momentum: {min: 0, step: '*2'}", "step of momentum multiplies, and min is 0"),
        ("batch_size: {min: 1, max: 9, step: 1.5}", "step of batch_size is 1.5, expected a whole number"),
        ("optimizer: [sgd, null]", "a value of optimizer is None, expected one such as 'sgd'"),
        (f"rate: {'9' * 1000}", "rate is a number of very many digits, expected a number within 64 bits"),
    ],
)
def test_steps_and_values_that_mean_nothing_are_refused_by_name(line, message, file):
    with pytest.raises(InputError, match=message):
        Space("toy", overrides=file(line)).check()


NONE = ("none", "None", "null", "~")


@pytest.mark.parametrize("word", NONE)
def test_none_has_one_meaning_in_files_however_it_is_spelled(word, file):
    assert seen(Space("vae", overrides=file(f"flow: [{word}, iaf]\nlatent_dim: 1")), "flow") == {"absent", "iaf"}
    assert seen(Space("vae", overrides=file(f"replace: true\nflow: {word}\nlatent_dim: [1, 2]")), "flow") == {"absent"}


@pytest.mark.parametrize("value", [None, *NONE])
def test_none_has_one_meaning_in_python_however_it_is_spelled(value):
    space = Space("vae", {"flow": value})
    assert seen(space, "flow") == seen(space, "num_flows") == {"absent"}
    mapping = {"flow": [value, "planar"]}
    assert Space("vae", overrides=mapping).rows() == Space("vae", overrides={"flow": ["none", "planar"]}).rows()


def test_a_choice_may_have_none_where_the_models_own_space_does_not_ask(toy, file):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(toy, "limits", {**toy.limits, "slope": Limit(choices=(None, 0.1, 0.3))})
        space = Space("toy", overrides=file("slope: [null, 0.1]"))
        assert seen(space, "slope") == {None, 0.1}
        assert [row["values"] for row in space.rows() if row["name"] == "slope"] == [[None, 0.1]]
        assert Space("toy", overrides=file(space.template())).rows() == space.rows()


def test_no_error_of_keras_tuner_reaches_a_user(monkeypatch):
    def refuse(self, name, *arguments, **options):
        raise ValueError("expected\nsomething else")

    space = Space("toy")
    monkeypatch.setattr(keras_tuner.HyperParameters, "Float", refuse)
    with pytest.raises(InputError, match=r"space: momentum cannot be searched \(expected something else\)"):
        space.hyperparameters()


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match=r"none.yaml: No such file.*tune space MODEL --yaml"):
        Space("toy", overrides=tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "fixed, overrides, message",
    [
        ({"wdith": 4}, None, "fixed: 'wdith' is no hyperparameter of toy.*near: width"),
        ({"rate": 0.1}, {"rate": [0.1, 0.2]}, "rate is there, and in fixed too"),
        ({"units": (4,), "width": 8}, None, "width makes nothing but units, which is given too"),
        ({"units": (4,)}, {"depth": [1, 2]}, "depth makes nothing but units"),
    ],
)
def test_contradictions_are_refused(fixed, overrides, message):
    with pytest.raises(InputError, match=message):
        Space("toy", fixed, None, overrides)


@pytest.mark.parametrize(
    "model, fixed, message",
    [
        ("toy", {"rate": 1.5}, r"fixed: rate=1.5 is not possible; expected a number >= 0 and <= 1"),
        ("vae", {"flow": "realnvp"}, "fixed: flow='realnvp' is not possible; expected one of None, 'planar'"),
        ("gan_ae", {"d_shape": "big"}, "fixed: d_shape='big' is not possible; expected one of start, lhco2020"),
        ("conv_vae", {"network": "big"}, "fixed: network='big' is not possible; expected one of paper, small"),
    ],
)
def test_what_is_set_is_refused_where_it_stands_and_not_as_a_point_of_the_space(model, fixed, message):
    with pytest.raises(InputError, match=message):
        Space(model, fixed)


def test_a_word_of_the_space_that_a_file_does_not_know_is_refused(file):
    with pytest.raises(InputError, match=r"space.yaml: a value of d_shape is 'big'; expected one of start, lhco2020"):
        Space("gan_ae", overrides=file("d_shape: [start, big]"))


def test_unknown_models_and_presets_are_refused_by_name():
    with pytest.raises(InputError, match="'vea' is not known"):
        Space("vea")
    with pytest.raises(InputError, match="preset 'none'"):
        Space("toy", preset="none")


def test_a_batch_larger_than_the_events_is_refused_before_the_search():
    Space("toy").check(events=100)
    with pytest.raises(InputError, match="batch_size=100 is searched, and 99 events train"):
        Space("toy").check(events=99)


# -- with KerasTuner -------------------------------------------------------------------------------------


@pytest.mark.parametrize("oracle", ["RandomSearchOracle", "BayesianOptimizationOracle", "GridSearchOracle"])
def test_keras_tuners_own_oracles_draw_from_a_space_what_is_possible(oracle, tmp_path):
    space = Space("toy", overrides={"units": [[8, 4], [6]], "slope": {"min": 0.1, "max": 0.4, "step": 0.1}})
    kind = getattr(keras_tuner.oracles, oracle)
    options = {"num_initial_points": 2, "seed": 1} if oracle.startswith("Bayesian") else {}
    made = kind(
        objective=keras_tuner.Objective("objective", "min"),
        max_trials=4,
        hyperparameters=space.hyperparameters(),
        **options,
    )
    made._set_project_dir(str(tmp_path), "oracle")
    for number in range(4):
        trial = made.create_trial("one")
        given = space.draw(trial.hyperparameters)
        registry.model_class("toy").check({**registry.defaults(registry.model_class("toy")), **given})
        assert given["units"] in {(8, 4), (6,)}
        made.update_trial(trial.trial_id, {"objective": float(number)})
        trial.status = "COMPLETED"
        made.end_trial(trial)


def test_a_hyperparameter_fixed_by_hand_is_set_also_where_the_space_would_not_ask_for_it():
    assert seen(Space("toy", {"momentum": 0.5}), "momentum") == {0.5}


def test_a_word_that_the_space_translates_is_not_handed_to_the_model_as_it_is():
    assert seen(Space("vae", {"flow": "none"}), "flow") == {"absent"}
    assert seen(Space("vae", overrides={"flow": ["none", "iaf"]}), "flow") == {"absent", "iaf"}


def test_a_narrowed_parent_has_no_corners_outside_of_what_is_left(monkeypatch):
    space = Space("ae", overrides={"layers": {"min": 3, "max": 4}})
    checked = set()
    monkeypatch.setattr(Space, "_check_draw", lambda self, hp, events: checked.add(hp.values["layers"]))
    space.check(draws=10)
    assert checked == {3, 4}
