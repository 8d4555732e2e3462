"""CWoLa hunting: a classifier of a window in mass against its side bands, trained without labels.

J. Collins, K. Howe, B. Nachman, "Anomaly detection for resonant new physics with machine learning", Phys. Rev. Lett. 121
(2018) 241803 (arXiv:1805.02664), and "Extending the search for new resonances with machine learning", Phys. Rev. D 99
(2019) 014038 (arXiv:1902.02634), called the paper here. The idea of learning from mixtures is of E. Metodiev, B. Nachman,
J. Thaler, "Classification without labels", JHEP 10 (2017) 174.
"""

from __future__ import annotations

import dataclasses

from zoo.models.window_classifier import CONSTANT, ClassifierHyperparameters, WindowClassifier
from zoo.models.window_model import SidebandModel
from zoo.registry import register
from zoo.windows import SidebandHyperparameters


@register("cwola")
class CWoLa(SidebandModel, WindowClassifier):
    """A classifier of the events in a window of mass against those beside it, without labels (Collins, Howe, Nachman 2018).

    Networks f, whose output is a probability, minimise

        -1/B sum_i w_i (y_i ln f(x_i) + (1 - y_i) ln (1 - f(x_i)))

    with y_i = 1 in the window and 0 in the side bands, and weights that give both the same total. Let signal be in the
    window alone, and let features not depend on the mass. Then f / (1 - f) grows with the likelihood ratio of signal
    and background (Metodiev et al. 2017). **Features that depend on the mass are learnt too**: choose `columns` that do
    not, and look at the spectrum that a cut leaves.

    The score `probability` is f(x). Each member is `folds` networks: one that was trained on an event never scores it.
    `held_out` in the history is the loss of every event by the network that has not seen it.

    Raises `InputError` naming a hyperparameter out of range; in training if there is no window, if it is outside of the
    masses, or if there are too few events in it or beside it.

    Example:
        >>> import zoo
        >>> zoo.get("cwola", window=(3300, 3700)).hp.window
        (3300, 3700)
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hyperparameters(ClassifierHyperparameters, SidebandHyperparameters):
        pass

    hp: Hyperparameters

    presets = {
        "collins2019": {
            **CONSTANT, "units": (64, 32, 16, 4), "activation": "elu", "dropout_rate": 0.2, "batch_size": 20_000,
        },
        "hallin2021": {
            **CONSTANT, "units": (64, 64, 64), "activation": "relu", "batch_size": 128, "dropout_rate": 0.0, "epochs": 100, "members": 10,
        },
    }  # fmt: skip
