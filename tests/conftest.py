"""What several tests share: small samples of the embedded events, and figures without pixels."""

import base64
import os
import random
import subprocess
import sys

import numpy as np
import pytest

# Tests run beside each other; threads of one that wait for those of another take longer than the work that they share.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import pipelines

# What holds for one model of particles by the code that both share; conv_vae takes minutes for it.
SHARED = (
    "test_training_is_bit_by_bit_the_same_from_memory_from_disk_and_from_the_file",
    "test_xla_and_plain_training_agree",
    "test_reset_starts_over_exactly_and_the_same_seed_gives_the_same_model",
    "test_training_step_is_traced_once_whatever_the_epochs_and_phases",
    "test_training_goes_on_from_a_run_as_if_it_had_not_stopped",
    "test_training_records_every_epoch_of_every_phase",
    "test_validation_and_training_loss_agree_on_the_same_events",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.name in {f"{test}[conv_vae]" for test in SHARED}:
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3600))


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
    random.seed(1)
    np.random.seed(1)
    if "tensorflow" in sys.modules:
        sys.modules["tensorflow"].random.set_seed(1)


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
