"""Random configurations: never one twice, and of few architectures where that is wanted."""

import pytest

from pipelines.errors import InputError
from tuning import algorithms
from tuning.kerastuner import keras_tuner
from tuning.space import Space


def draws(algorithm, space, trials, architectures=0, shapes=(), seed=0):
    oracle = algorithms.make(algorithm, space, trials, 1, 3, seed, architectures, shapes)
    found = []
    while (trial := oracle.create_trial("a")).status == "RUNNING":
        found.append({k: v for k, v in trial.hyperparameters.values.items() if not k.startswith("tuner/")})
        algorithms.end_trial(oracle, trial, 1.0, 1)
    return found, oracle


def rate_of(values):
    """The learning rate of a configuration: one name for each optimizer that it depends on."""
    (rate,) = (value for name, value in values.items() if name.startswith("learning_rate"))
    return rate


@pytest.mark.parametrize("algorithm", ["hyperband", "random"])
def test_few_architectures_and_many_settings_of_each(algorithm):
    space = Space("vae")
    shapes = space.shapes()
    found, _ = draws(algorithm, space.hyperparameters(), 40, 5, shapes)
    kinds = [tuple(sorted((k, v) for k, v in values.items() if k in shapes)) for values in found]
    assert len(found) == 40 and len(set(kinds)) <= 5 and kinds[:5] == kinds[5:10] == kinds[35:]
    assert len({values["alpha"] for values in found}) == len({rate_of(values) for values in found}) == 40


def test_the_first_configurations_are_those_of_a_search_without_limit():
    space = Space("vae")
    limited, free = (draws("hyperband", space.hyperparameters(), 12, few, space.shapes())[0] for few in (6, 0))
    assert limited[:6] == free[:6] and limited[6:] != free[6:]


def test_a_small_space_is_drawn_to_its_end_whatever_the_limit():
    space = keras_tuner.HyperParameters()
    space.Choice("width", [1, 2, 3])
    space.Choice("rate", [0.1, 0.2])
    found, oracle = draws("hyperband", space, 50, 2, {"width"})
    widths = {values["width"] for values in found}
    assert oracle.exhausted and len(widths) <= 2
    assert len(found) == 2 * len(widths) == len({tuple(values.items()) for values in found})


def test_what_is_drawn_depends_on_the_seed_alone():
    space = Space("gan_ae")
    one, other, third = (draws("random", space.hyperparameters(), 9, 3, space.shapes(), seed)[0] for seed in (0, 0, 1))
    assert one == other != third


@pytest.mark.parametrize("algorithm, few", [("grid", 3), ("bayesian", 3), ("hyperband", -1)])
def test_a_limit_that_means_nothing_is_refused(algorithm, few):
    with pytest.raises(InputError, match="architectures"):
        algorithms.make(algorithm, Space("vae").hyperparameters(), 5, 1, 3, 0, few, {"width"})
