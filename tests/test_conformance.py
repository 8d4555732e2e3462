"""The contract of `AnomalyModel`, kept by every model in the register: a new model is tested here without a line."""

import re
import warnings

import numpy as np
import pytest

import zoo
from zoo import conformance, registry
from zoo.base import AnomalyModel

# a model of spectra keeps another contract
EVENTS = [name for name in zoo.names() if registry.model_class(name).data_kind == "events"]


@pytest.fixture(scope="module")
def subjects():
    """The one model of every name that these tests train."""
    return {}


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("claim", conformance.CHECKS)
def test_model(claim, name, subjects, tmp_path):
    if name not in subjects:
        subjects[name] = conformance.Subject(name)
    with warnings.catch_warnings():
        if told := registry.model_class(name).yardstick:  # at every training, of which a claim may do none
            warnings.filterwarnings("ignore", re.escape(told), UserWarning)
        conformance.CHECKS[claim](subjects[name], tmp_path)


@pytest.mark.parametrize("name", EVENTS)
def test_kerastuner_draws_from_every_space_what_the_model_takes(name):
    from tuning.kerastuner import keras_tuner

    model, hp = registry.model_class(name), keras_tuner.HyperParameters()
    zoo.get(name, **model.search_space(hp))
    assert len(hp.space) >= 3
    for seed in range(20):
        drawn = hp.copy()
        drawn.values = {one.name: one.random_sample(seed + i) for i, one in enumerate(hp.space)}
        zoo.get(name, **model.search_space(drawn))


class Cheat(registry.model_class("deep_svdd")):
    """Deep SVDD that does what no model may: its score knows the label, and its configuration forgets."""

    def score(self, events, kind=None, per_member=False):
        found = super().score(events, kind, per_member)
        return found + events.label if getattr(events, "has_labels", False) else found

    def get_config(self):
        return super().get_config() | {"epochs": self.hp.epochs + 1}

    @classmethod
    def search_space(cls, hp):
        return {"latent_dim": hp.Int("latent_dim", 0, 8), "epochs": hp.Choice("epochs", [1, 2])}


def test_claims_that_do_not_hold_are_told_with_their_reasons():
    told = []
    wrong = {
        one.claim: one for one in conformance.check(Cheat, progress=told.append, pattern="[cls]*") if not one.holds
    }
    assert {"config round trip", "score looks at neither mass nor label"} <= set(wrong)
    assert "search space gives hyperparameters that the model takes" in wrong
    assert "latent_dim=0" in wrong["search space gives hyperparameters that the model takes"].reason
    assert "missing column is named" not in wrong and len(told) > len(wrong)


def test_a_third_partys_class_needs_no_name_in_the_register():
    class Mine(registry.model_class("deep_svdd")):
        """Deep SVDD of a third party."""

    Mine.zoo_name = ""
    assert [one for one in conformance.check(Mine, pattern="a saved run*") if not one.holds] == []
    assert "Mine" not in zoo.names()


class Seedless(registry.model_class("pca")):
    """Components of all events, whatever the seed."""

    zoo_name, seedless = "", True


@pytest.mark.parametrize(
    ("model", "sample", "reason"),
    [
        ("pca", 500, None),
        ("pca", 2000, "another seed gives the same scores; expected others, unless the model says `seedless = True`"),
        (Seedless, 2000, None),
        (Seedless, 500, "seedless is True, and another seed gives other scores"),
    ],
)
def test_a_model_that_draws_nothing_says_so(model, sample, reason):
    small = {"columns": ("mass_heavy", "mass_light"), "latent_dim": 1, "sample": sample}
    (found,) = conformance.check(model, small, pattern="two models of one seed*")
    assert found.holds == (reason is None) and (reason or "") in found.reason


def test_a_model_of_spectra_is_refused():
    with pytest.raises(zoo.registry.InputError, match="a model of spectra"):
        conformance.check("ddp")


def test_subject_is_small_and_what_is_given_wins():
    subject = conformance.Subject("ae", {"encoder_units": (5, 2)})
    model = subject.make()
    assert isinstance(model, AnomalyModel) and tuple(model.hp.encoder_units) == (5, 2) and model.hp.batch_size == 256
    assert np.array_equal(subject.train.read("features"), conformance.Subject("vae").train.read("features"))
