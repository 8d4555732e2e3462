"""The only module that imports Keras: all others write ``from zoo.keras import keras``, and get Keras 2 (``tf_keras``).

Beside it is what mends Keras 2 and TensorFlow for the models: calls of Keras that name what works instead (`refusals`),
updates of optimizers as single operations (`optimizer_updates`), and memory that is let go of (`released_gradients`,
`released_iterators`).

Spektral 1.3 and TensorFlow Probability 0.25 subclass Keras 2 layers, and one Keras 3 object among them fails
far from its cause. TensorFlow decides once in a process, when its Keras is first touched: so this module
decides first, and says so when it came too late.

>>> from zoo.keras import keras
>>> keras.__version__.startswith("2.")
True
"""

import importlib
import os
from pathlib import Path

import zoo
from pipelines import memory
from pipelines.quiet import imported

__all__ = ["keras"]

_FLAG = "TF_USE_LEGACY_KERAS"
_ACCEPTED = ("1", "true", "True")  # the only spellings that TensorFlow's KerasLazyLoader understands
_WHY = "the zoo's models need Keras 2, the package tf-keras"


def _refuse_explicit_keras_3():
    flag = os.environ.get(_FLAG)
    if flag and flag not in _ACCEPTED:
        raise ImportError(
            f"{_FLAG}={flag} is set in this environment, which makes TensorFlow use Keras 3; {_WHY}. "
            f"Run `unset {_FLAG}` (or `export {_FLAG}=1`) and start Python again."
        )


def _refuse_if_keras_3(module):
    found = module.Model.__module__.partition(".")[0]
    if found != "tf_keras":
        raise ImportError(
            f"tensorflow.keras was used before zoo was imported, and is now Keras 3 (its Model comes from "
            f"{found!r}); {_WHY}. In a new Python, put `from zoo.keras import keras` above the first use of "
            f"tf.keras, or `export {_FLAG}=1` before starting Python."
        )


def _import_tf_keras():
    try:
        return importlib.import_module("tf_keras"), importlib.import_module("tf_keras.api._v2.keras")
    except ModuleNotFoundError as error:
        if error.name != "tf_keras":
            raise
        raise ImportError(f"tf-keras is not installed; {_WHY}. Run `pip install tf-keras`.") from error


def _open():
    _refuse_explicit_keras_3()
    memory.check(memory.MODELS)
    tf = imported("tensorflow")

    tf_keras, api = _import_tf_keras()
    _refuse_if_keras_3(tf.keras)
    # `from tensorflow.keras import ...`, which Spektral and KerasTuner write, does not look at the flag but
    # along this path, which TensorFlow fixed at its own import: possibly before the flag was set.
    home = str(Path(api.__file__).parent.parent)
    if tf.__path__[0] != home:
        tf.__path__.insert(0, home)
    _refuse_if_keras_3(importlib.import_module("tensorflow.keras"))
    return tf_keras


def _open_with_flag():
    ours = zoo.keras_chosen_here or not os.environ.get(_FLAG)
    try:
        if ours:
            os.environ[_FLAG] = "1"
        return _open()
    except ImportError:
        # A program that goes on with Keras 3 after our refusal must find its environment as it was.
        if ours:
            os.environ.pop(_FLAG, None)
        raise


keras = _open_with_flag()
