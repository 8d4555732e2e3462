"""Whatever is imported first, one gets Keras 2 models that KerasTuner accepts, or is told what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ZOO = "from zoo.keras import keras"
TUNER = "from tuning.kerastuner import keras_tuner"
FIRST_USE = "import tensorflow as tf; tf.keras.Model"

# A program that catches the refusal goes on with Keras 3, and must find its environment as it was.
REFUSED = """
import os
try:
    from zoo.keras import keras
except ImportError:
    assert "TF_USE_LEGACY_KERAS" not in os.environ
    assert tf.losses.MeanSquaredError.__module__.startswith("keras.src"), tf.losses.MeanSquaredError
    raise
"""

# What every program that comes through the door may rely on, including the import that Spektral uses.
IS_KERAS_2 = """
import tensorflow as tf
from tensorflow.keras import Model
from tensorflow.keras.layers import Dense
import tf_keras
model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
assert isinstance(model, tf_keras.Model), type(model).__mro__
assert Model is tf.keras.Model is keras.Model, (Model, tf.keras.Model, keras.Model)
assert Dense is keras.layers.Dense, Dense
"""

BUILDS = """
import tempfile
import keras as installed_keras
from zoo.keras import keras
assert installed_keras.version() == installed_keras.__version__, "keras.version was not restored"
assert installed_keras.version().startswith("3."), installed_keras.version()

def build(hp):
    model = keras.Sequential([keras.layers.Dense(hp.Int("units", 1, 4), input_shape=(2,))])
    model.compile(loss="mse")
    return model

tuner = keras_tuner.Hyperband(build, objective="val_loss", max_epochs=2, directory=tempfile.mkdtemp())
built = tuner.hypermodel.build(tuner.oracle.get_space())
assert isinstance(built, keras.Model), type(built).__mro__
"""

# name -> (statements, environment, words the ImportError must contain; none when it must work)
CASES = {
    "zoo first": ([ZOO, IS_KERAS_2, TUNER, BUILDS], {}, []),
    "tensorflow first": (["import tensorflow", ZOO, IS_KERAS_2, TUNER, BUILDS], {}, []),
    "tensorflow first and tf.keras used": ([FIRST_USE, REFUSED], {}, ["Keras 3", "above the first use"]),
    "from tensorflow.keras first": (["from tensorflow.keras import Model", ZOO], {}, ["Keras 3", "above"]),
    "keras 3 first": (["import keras as k3; k3.Model", TUNER, BUILDS, IS_KERAS_2], {}, []),
    "keras_tuner first, then zoo alone": (["import keras_tuner", ZOO, IS_KERAS_2], {}, []),
    "keras_tuner first": (["import keras_tuner", TUNER], {}, ["keras_tuner was imported before", "above"]),
    "the user chose Keras 2": ([FIRST_USE, ZOO, IS_KERAS_2], {"TF_USE_LEGACY_KERAS": "True"}, []),
    "the user chose Keras 3": ([ZOO], {"TF_USE_LEGACY_KERAS": "0"}, ["TF_USE_LEGACY_KERAS=0", "unset"]),
}


def run(case):
    statements, environment, _ = CASES[case]
    clean = {
        name: value for name, value in os.environ.items() if name not in ("TF_USE_LEGACY_KERAS", "TF_CPP_MIN_LOG_LEVEL")
    }
    limits = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.run(
        [sys.executable, "-c", "\n".join([*statements, "print('the end')"])],
        check=False,
        cwd=ROOT,
        env={**clean, **limits, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


# Each case is an interpreter that imports TensorFlow: six seconds. These say again what the others do in another order.
AGAIN = {
    "keras 3 first",  # what "zoo first" does, which is quick since it alone says that TensorFlow is quiet
    "tensorflow first",
    "keras_tuner first, then zoo alone",
    "from tensorflow.keras first",
    "the user chose Keras 2",
}


@pytest.mark.parametrize("case", [pytest.param(one, marks=[pytest.mark.slow] * (one in AGAIN)) for one in CASES])
def test_import_order_gives_keras_2_or_says_what_to_do(case):
    outcome, words = run(case), CASES[case][2]
    if not words:
        assert outcome.returncode == 0 and "the end" in outcome.stdout, outcome.stderr
        assert case != "zoo first" or outcome.stderr == "", "TensorFlow's own messages"
        return
    assert outcome.returncode != 0, "it went on with the wrong Keras"
    message = outcome.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: ")
    assert [word for word in words if word not in message] == []
