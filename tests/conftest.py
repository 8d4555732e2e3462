"""What several tests share: small samples of the embedded events, and figures without pixels."""

import base64
import gc
import os
import random
import subprocess
import sys

import pytest

# Tests run beside each other; threads of one that wait for those of another take longer than the work that they share.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import pipelines

# Traced graphs are millions of objects: to look through them for garbage as often as usual takes a tenth of the time.
gc.set_threshold(10_000, 20)

# Claims of the contract that hold for a model by code that others are tested for, that of the base class. They are tested where
# slow tests are run. A new model is tested for every claim.
BIT_BY_BIT = "training is bit by bit the same from memory from disk and from the file"
XLA = "xla and plain training agree"
EVERY_EPOCH = "training records every epoch of every phase"
ONE_SEED = "two models of one seed are the same whatever was trained before"
BY_THE_CODE_OF_OTHERS = {
    "ae": {XLA, BIT_BY_BIT, ONE_SEED, EVERY_EPOCH},
    "vae": {XLA, BIT_BY_BIT, ONE_SEED, EVERY_EPOCH},
    "deep_svdd": {XLA, BIT_BY_BIT, ONE_SEED, EVERY_EPOCH},
    "gcn_vae": {XLA, BIT_BY_BIT, ONE_SEED, EVERY_EPOCH},
}


def pytest_collection_finish():
    """What was imported and collected stays to the end: the garbage collector need not look through it time and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    slow = {f"test_model[{claim}-{model}]" for model, claims in BY_THE_CODE_OF_OTHERS.items() for claim in claims}
    for item in items:
        claim, _, model = item.name.removeprefix("test_model[").removesuffix("]").rpartition("-")
        if item.name.startswith("test_model[") and model in OWN and claim not in OWN[model]:
            slow.add(item.name)
    for item in items:
        if item.name in slow or item.nodeid.startswith(tuple(HELD_BY_OTHERS)):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3600))


# What weakly supervised models, those without gradient steps, and conv_vae are tested for in minutes only by what is their own;
# the rest they keep by the code of the base, or by that which they share with each other. conv_vae shares all but its networks
# with gcn_vae, its presets too, and tests/test_sets.py has their loss, gradients and scores.
_CLOSED = (
    "training step is traced once whatever the epochs and phases",
    "what the model infers is what it says",
    "events far from the training sample score elsewhere",
    "reset starts over exactly",
    "config round trip",
    "score looks at neither mass nor label",
    "search space gives hyperparameters that the model takes",
)
OWN = {
    "conv_vae": (
        "config round trip",
        "untrained model says so",
        "search space gives hyperparameters that the model takes",
    ),
    "cwola": (
        "validation and training loss agree on the same events",
        "reset starts over exactly",
        "training step is traced once whatever the epochs and phases",
        "config round trip",
        "a saved run has the same scores",
        "training goes on from a state as if it had not stopped",
        "score looks at neither mass nor label",
        "labels never train",
        "columns are found by name in any order",
        "bad arrays are refused with their reason",
        "search space gives hyperparameters that the model takes",
    ),
    "cathode": ("config round trip", "search space gives hyperparameters that the model takes"),
    "lacathode": (
        "config round trip",
        "score looks at neither mass nor label",
        "bad arrays are refused with their reason",
    ),
    "anode": (
        "validation and training loss agree on the same events",
        "config round trip",
        "search space gives hyperparameters that the model takes",
    ),
    "r_anode": (
        "config round trip",
        "search space gives hyperparameters that the model takes",
    ),
    "idealised": ("config round trip", "every preset and the defaults can be built"),
    "pca": (*_CLOSED, "a constant factor on all event weights changes nothing"),
    "knn": _CLOSED,
    "isolation_forest": (*_CLOSED, "a saved run has the same scores"),
}


# Dear tests whose claim a cheaper test holds too, which is named beside them. They are slow tests.
HELD_BY_OTHERS = {
    # the same on one worker and on two: chunks are tested with plain functions, and two kinds of file are
    "tests/test_darkmachines.py::test_events_do_not_depend_on_workers": "test_lhco, test_chunks",
    "tests/test_simulation_lhco.py::test_black_box_and_its_key_depend_on_seed_and_not_on_workers": "test_smaller_sample_is, test_chunks",
    "tests/test_table.py::test_two_workers_write_the_same_file_as_one": "test_lhco, test_chunks",
    "tests/test_lhco_features.py::test_two_workers_give_the_same_file": "test_lhco, test_chunks",
    "tests/test_simulation_lhco.py::test_sample_depends_on_seed_and_not_on_workers": "test_smaller_sample_is, test_chunks",
    "tests/test_simulation_lhco.py::test_killed_simulation_goes_on_where_it_stopped": "test_chunks, test_crash",
    "tests/test_darkmachines.py::test_killed_conversion_goes_on_where_it_stopped": "test_chunks, test_crash",
    "tests/test_cluster.py::test_workers_that_take_long_to_be_back_are_not_given_up": "test_task_of_a_worker_that_was_killed",
    "tests/test_cluster.py::test_two_farms_at_once_do_not_disturb_each_other": "tests of one farm, used by several tests",
    # a killed training: the same interruption without a process of its own, before and after every epoch
    "tests/test_run.py::test_a_stopped_command_resumes_to_the_scores_of_an_unbroken_one": "test_an_interrupted_training",
    # members: gan_ae, of two networks, holds what a member is, ae what follows; of vae test_vae does with a flow
    "tests/test_members.py::test_a_member_is_the_plain_model_of_its_seed_on_the_same_batches[0-vae]": "[0-gan_ae]",
    "tests/test_members.py::test_a_member_is_the_plain_model_of_its_seed_on_the_same_batches[1-vae]": "[1-gan_ae]",
    "tests/test_members.py::test_a_member_is_the_plain_model_of_its_seed_on_the_same_batches[2-vae]": "[2-gan_ae]",
    "tests/test_members.py::test_a_member_is_the_plain_model_of_its_seed_on_the_same_batches[0-deep_svdd]": "[0-ae]",
    "tests/test_members.py::test_a_member_is_the_plain_model_of_its_seed_on_the_same_batches[1-deep_svdd]": "[1-ae]",
    "tests/test_members.py::test_a_member_is_the_plain_model_of_its_seed_on_the_same_batches[2-deep_svdd]": "[2-ae]",
    "tests/test_members.py::test_members_with_their_own_dials_are_plain_models_with_these[vae]": "[gan_ae]",
    "tests/test_members.py::test_members_with_their_own_dials_are_plain_models_with_these[deep_svdd]": "[ae]",
    "tests/test_members.py::test_score_is_the_mean_over_members_and_score_std_their_standard_deviation[gan_ae]": "[ae]",
    "tests/test_members.py::test_score_is_the_mean_over_members_and_score_std_their_standard_deviation[vae]": "[ae]",
    "tests/test_members.py::test_score_is_the_mean_over_members_and_score_std_their_standard_deviation[deep_svdd]": "[ae]",
    "tests/test_members.py::test_members_that_share_all_but_the_seed_differ[gan_ae]": "[ae]",
    "tests/test_members.py::test_members_that_share_all_but_the_seed_differ[vae]": "[ae]",
    "tests/test_members.py::test_dials_may_be_vectors_without_tracing_anything_anew[deep_svdd]": "[ae]",
    "tests/test_members.py::test_dials_may_be_vectors_without_tracing_anything_anew[vae]": "[ae]",
    "tests/test_vae.py::test_event_weights_have_mean_one_so_that_their_scale_means_nothing": "a constant factor (conformance)",
    "tests/test_vae.py::test_a_run_says_which_epoch_it_is_of_and_whether_training_ended_before_a_peak[no peak": "[a peak]",
    "tests/test_sets.py::test_training_with_a_flow_changes_every_weight_and_exports[gcn_vae]": "test_vae, of a flow",
    "tests/test_families.py::test_a_published_file_becomes_a_scored_run_in_one_command[lhco]": "[atlas]",
    # one program for many sizes: vae has the most kinds of layers
    "tests/test_padded_networks.py::test_a_network_in_a_larger_one_trains_as_it_would_alone[gan_ae-3": "[vae-0], [deep_svdd",
    "tests/test_padded_networks.py::test_a_network_in_a_larger_one_trains_as_it_would_alone[vae-1": "[vae-0]",
    "tests/test_padded_networks.py::test_a_network_in_a_larger_one_trains_as_it_would_alone[vae-2": "[vae-0]",
    # XLA: of the flows three of six kinds; of the sets gan_ae and cwola hold it
    "tests/test_flows.py::test_traced_once_and_compiled_with_xla_it_is_what_it_is_eagerly[planar": "[orthogonal",
    "tests/test_flows.py::test_traced_once_and_compiled_with_xla_it_is_what_it_is_eagerly[householder": "[orthogonal",
    "tests/test_flows.py::test_traced_once_and_compiled_with_xla_it_is_what_it_is_eagerly[triangular": "[orthogonal",
    "tests/test_keras_doors.py::test_import_order_gives_keras_2_or_says_what_to_do[keras_tuner first]": "[keras 3 first]",
    "tests/test_keras_doors.py::test_import_order_gives_keras_2_or_says_what_to_do[tensorflow first and tf.keras": "[keras 3",
    "tests/test_leaderboard.py::test_errors_are_the_spread_of_repeated_experiments[1e-2]": "[1e-3], test_error_agrees",
    "tests/test_leaderboard.py::test_errors_are_the_spread_of_repeated_experiments[AUC]": "[1e-3], test_error_agrees",
    "tests/test_tuning.py::test_an_interrupted_search_resumes_to_what_an_unbroken_one_finds[1]": "[2]",
    "tests/test_tuning.py::test_an_interrupted_search_resumes_to_what_an_unbroken_one_finds[5]": "[2]",
}


# the smallest picture there is, of one pixel
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """Figures are made but not painted, which takes most of their time, unless a test is marked `drawn`."""
    if item.get_closest_marker("drawn"):
        return (yield)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("matplotlib.figure.Figure.savefig", lambda figure, file, **options: file.write(PIXEL))
        return (yield)


@pytest.fixture(autouse=True)
def same_numbers_in_every_run():
    """What a test leaves without a seed (a layer's first weights) is the same in every run, whatever ran before it."""
    random.seed(1)  # from which Keras takes seeds; TensorFlow's own would clear its cache of kernels at every test
    np.random.seed(1)


@pytest.fixture(scope="module")
def linear_without_figures():
    """The zoo with the model "linear"; a training's figure is an empty file: to draw it is a third of a search this small."""
    import linear_model

    from pipelines import plots

    with linear_model.registered() as patched:
        patched.setattr(plots, "plot_history", lambda rows, path: path.touch())
        yield


@pytest.fixture(scope="session")
def train_events():
    """1,500 simulated background events within GAN-AE's mass range, in memory, with made-up labels that mean nothing."""
    events = pipelines.open("lhco_sim_train").select(mass_range=(2700, 5000)).sample(1500, seed=1)
    features, mass = events.read("features"), events.mass
    return pipelines.Events.from_arrays(features, mass, events.columns, label=(features[:, 0] > 1300).astype("int8"))


@pytest.fixture(scope="session")
def test_events():
    """The embedded test sample within the mass range: background, two-prong and three-prong signal."""
    return pipelines.open("lhco_sim_test").select(mass_range=(2700, 5000))


@pytest.fixture
def fresh_python(tmp_path):
    """Run code in a new interpreter that knows nothing of this one, and return what it printed."""

    def run(code, *arguments, cwd=tmp_path, isolated=False):
        options = ["-I"] if isolated else []
        done = subprocess.run(
            [sys.executable, *options, "-c", code, *map(str, arguments)], capture_output=True, text=True, cwd=cwd
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
