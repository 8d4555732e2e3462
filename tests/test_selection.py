"""Weights that flatten the mass spectrum."""

import numpy as np
import pytest

from pipelines import Events, InputError
from pipelines.events.weighting import FlatMass

# small samples with long tails, as the tests want them
pytestmark = pytest.mark.filterwarnings("ignore:weights that flatten the mass spectrum")


def events(mass, weight=None):
    mass = np.asarray(mass)
    return Events.from_arrays(np.zeros((len(mass), 1)), mass, ["pt_1"], weight=weight)


@pytest.fixture
def falling():
    """A dijet-like spectrum, whose tail has bins of one event and of none."""
    return (2700 + np.random.default_rng(0).exponential(600, 60_000)).astype(np.float32)


@pytest.mark.parametrize("bins", [1, 40, 500])
def test_weighted_spectrum_is_flat_and_the_average_weight_is_one(bins, falling):
    flat = FlatMass(events(falling), bins)
    weights = flat(falling).astype(np.float64)
    content, _ = np.histogram(falling.astype(np.float64), flat.edges, weights=weights)
    filled = content > 0
    np.testing.assert_allclose(content[filled], len(falling) / filled.sum(), rtol=1e-5)
    assert weights.mean() == pytest.approx(1, rel=1e-5)


def test_weights_are_the_formula_by_hand():
    mass = [2700, 2710, 2720, 3500, 3600, 5000]  # bins of 575 GeV: 3, 2, 0, 1 events
    flat = FlatMass(events(mass), bins=4)
    assert flat.edges.tolist() == [2700, 3275, 3850, 4425, 5000]
    assert flat(np.array(mass)).tolist() == pytest.approx([2 / 3] * 3 + [1] * 2 + [2])


def test_own_weights_are_flattened_with_the_spectrum(falling):
    own = np.random.default_rng(1).uniform(0.1, 3, len(falling)).astype(np.float32)
    flat = FlatMass(events(falling, own), bins=500)
    total = own.astype(np.float64) * flat(falling)
    content, _ = np.histogram(falling.astype(np.float64), flat.edges, weights=total)
    filled = content > 0
    assert not filled.all()  # an empty bin stays empty, and takes no share
    np.testing.assert_allclose(content[filled], len(own) / filled.sum(), rtol=1e-5)
    assert total.mean() == pytest.approx(1, rel=1e-5)


def test_single_event_in_its_bin_weighs_as_much_as_a_full_bin():
    mass = np.r_[np.full(9999, 2700.0), 5000.0]
    weights = FlatMass(events(mass), bins=10)(mass)
    assert weights[-1] == pytest.approx(5000) and weights[:-1].sum() == pytest.approx(5000, rel=1e-4)


def test_content_of_a_late_bin_is_exact_after_millions_of_weighted_events():
    """A running sum in float32 would have lost the last events: 2^24 + 1 is 2^24 there."""
    mass = np.array([2700.0] * 8 + [5000.0] * 3, np.float32)
    weight = np.array([2.0**22] * 8 + [1.0] * 3, np.float32)
    assert FlatMass(events(mass, weight), bins=2)(mass[-1:]) == pytest.approx(11 / 2 / 3, rel=1e-6)


def test_equal_masses_all_weigh_one():
    assert FlatMass(events([3000.0] * 7))(np.full(7, 3000.0)).tolist() == [1.0] * 7


def test_masses_outside_take_the_nearest_bin(falling):
    flat = FlatMass(events(falling), bins=10)
    low, high = flat(np.array([100.0, 1e6]))
    assert low == flat(np.array([falling.min()]))[0] and high == flat(np.array([falling.max()]))[0]
    assert flat(falling).dtype == np.float32


def test_weights_that_cannot_be_flattened_are_refused():
    for weight, words in ((np.r_[-1.0, np.ones(9)], "weight -1"), (np.zeros(10), "all weights are 0")):
        events = Events.from_arrays(np.zeros((10, 1)), np.linspace(3000, 4000, 10), ["x"], weight=weight)
        with pytest.raises(InputError, match=words):
            FlatMass(events, bins=5)


def test_few_events_with_all_the_weight_are_said():
    weight = np.r_[np.full(990, 1e-3), np.full(10, 1e3)]
    events = Events.from_arrays(
        np.zeros((1000, 1)), np.random.default_rng(0).uniform(3000, 4000, 1000), ["x"], weight=weight
    )
    with pytest.warns(UserWarning, match="effective of 1000 events"):
        FlatMass(events, bins=1)
