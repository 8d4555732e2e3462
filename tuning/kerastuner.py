"""The only module that imports KerasTuner, on Keras 2: ``from tuning.kerastuner import keras_tuner``.

>>> from tuning.kerastuner import keras_tuner
>>> from keras_tuner.src.backend import config
>>> bool(config.multi_backend())
False
"""

import importlib
import sys

import zoo.keras  # noqa: F401  (tensorflow.keras must be tf_keras before KerasTuner imports it)

__all__ = ["keras_tuner"]


def _open():
    # KerasTuner looks at the installed `keras`, never at tf.keras, and with Keras 3 there it refuses every
    # tf_keras model (keras-tuner issue 1039, open). It asks once, by keras.version(), at its own import.
    if "keras_tuner" not in sys.modules:
        installed = importlib.import_module("keras")
        version = installed.version
        installed.version = lambda: "2"
        try:
            importlib.import_module("keras_tuner")
        finally:
            installed.version = version
    if importlib.import_module("keras_tuner.src.backend.config").multi_backend():
        raise ImportError(
            "keras_tuner was imported before tuning, and chose Keras 3: it would refuse the zoo's models, "
            "which are Keras 2. In a new Python, put `from tuning.kerastuner import keras_tuner` "
            "above `import keras_tuner`."
        )
    return sys.modules["keras_tuner"]


keras_tuner = _open()
