"""What several tests share: small samples of the embedded events."""

import subprocess
import sys

import pytest

import pipelines


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
