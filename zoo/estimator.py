"""Models of the zoo as scikit-learn has its outlier detectors: `zoo.as_estimator`.

Signs are those of `sklearn.ensemble.IsolationForest`: `score_samples` is minus the model's score, so lower is more anomalous,
and `predict` gives -1 for what is beyond the cut.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from pipelines.errors import InputError
from pipelines.events.events import Events
from zoo import registry
from zoo.tables import column_names, read_columns

# Checks of scikit-learn (`sklearn.utils.estimator_checks`) that cannot hold, and why.
CANNOT_HOLD: Mapping[str, str] = {
    "check_dataframe_column_names_consistency": "columns of a table go by their names, in whatever order they are",
    "check_estimators_pickle": "a trained model is no pickle: save it by zoo.run.save_run(estimator.model_, folder)",
    "check_sample_weight_equivalence_on_dense_data": "scaling and batches count events, whatever their weights",
}
# Two more that networks need not keep: they ask for 1e-7, and scores are of float32.
CANNOT_HOLD_OF_NETWORKS: Mapping[str, str] = {
    "check_methods_sample_order_invariance": "float32 rounds by the place of an event among those scored with it",
    "check_methods_subset_invariance": "float32 rounds by how many events are scored at once",
}
OWN = {"contamination": 0.1, "score_kind": None, "mass_column": None, "jit_compile": True}


class Estimator(OutlierMixin, BaseEstimator):
    """A model of the zoo with scikit-learn's interface; `as_estimator` makes one.

    Parameters are the model's hyperparameters, and

        contamination: share of the training events that `predict` calls anomalous, in (0, 0.5].
        score_kind: one of the model's; its default otherwise.
        mass_column: of tables, the column with the mass in GeV that models which decorrelate from it, or look into a window
            of it, need; it is no feature.
        jit_compile: compile the training step with XLA.

    `columns` are by default all that there are. A `batch_size` larger than the number of events is that number.

    Attributes:
        model_: the trained model of the zoo. offset_: of `decision_function`. n_features_in_, feature_names_in_: as in
            scikit-learn; the latter of tables.
    """

    zoo_model: ClassVar[str] = ""

    def fit(self, X, y=None, sample_weight=None, *, mass=None):  # noqa: N803  (scikit-learn's names)
        """Train on events without labels, and choose the cut.

        Args:
            X: (N, F) numbers, or a table (`zoo.tables`). y: not looked at.
            sample_weight: (N,) weights of the events. mass: (N,) GeV, if it is not in a column.

        Raises `InputError`, which is a `ValueError`, for what cannot be learnt from, as `AnomalyModel.fit`.
        """
        if not 0 < self.contamination <= 0.5:
            raise InputError(f"contamination={self.contamination!r}, expected a number in (0, 0.5]")
        if mass is None and self.mass_column is not None:
            mass = self._column(X, self.mass_column)
        x = self._features(X, reset=True)
        events = self._events(x, mass, sample_weight)
        given = {name: getattr(self, name) for name in self._hyperparameters()}
        if "batch_size" in given:
            given["batch_size"] = min(given["batch_size"], len(events))
        model = registry.get(self.zoo_model, **given)
        try:
            model.fit(events, verbose=0, jit_compile=self.jit_compile)
        except InputError as error:
            if x.shape[1] > 1:
                raise
            raise InputError(f"{error} (n_features=1)") from None  # as scikit-learn says it
        self.model_ = model
        self.offset_ = float(np.percentile(self._scores(x), 100.0 * self.contamination))
        return self

    def score_samples(self, X):  # noqa: N803
        """Return minus the anomaly score of every event, (N,): lower is more anomalous."""
        check_is_fitted(self, "model_")
        return self._scores(self._features(X, reset=False))

    def decision_function(self, X):  # noqa: N803
        """Return `score_samples(X) - offset_`: below 0 of what `predict` calls anomalous."""
        return self.score_samples(X) - self.offset_

    def predict(self, X):  # noqa: N803
        """Return 1 of ordinary events and -1 of anomalous ones, (N,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    # -- how ---------------------------------------------------------------------------------------

    @classmethod
    def _hyperparameters(cls) -> list[str]:
        return [name for name in inspect.signature(cls).parameters if name not in OWN]

    def _scores(self, x: np.ndarray) -> np.ndarray:
        return -np.asarray(self.model_.score(x, self.score_kind), np.float64)

    def _column(self, table: Any, name: str) -> np.ndarray:
        if (names := column_names(table)) is None:
            raise InputError(f"mass_column={name!r}: X is no table, so it has no such column; give fit(X, mass=...)")
        return read_columns(table, [name], names, "X")[:, 0]

    def _features(self, X: Any, reset: bool) -> np.ndarray:  # noqa: N803
        """Return the features (N, F) float32, checked as scikit-learn does; those of a table by their names."""
        names = column_names(X)
        if names is None or not all(isinstance(name, str) for name in names):
            return validate_data(self, X, reset=reset, dtype=np.float32)
        if reset:
            wanted = [name for name in names if name != self.mass_column]
        else:
            wanted = list(getattr(self, "feature_names_in_", names))
        x: np.ndarray = check_array(read_columns(X, wanted, names, "X"), input_name="X", estimator=self)
        if reset:
            self.feature_names_in_, self.n_features_in_ = np.array(wanted, dtype=object), x.shape[1]
        return x

    def _events(self, x: np.ndarray, mass: Any, weight: Any) -> Events:
        names = getattr(self, "feature_names_in_", None)
        columns = [f"x{k}" for k in range(x.shape[1])] if names is None else list(names)
        mass = np.zeros(len(x)) if mass is None else np.asarray(mass, np.float64)
        if weight is not None:
            weight = np.asarray(weight, np.float32)
            weight = np.full(len(x), weight) if weight.ndim == 0 else weight
            if weight.shape != (len(x),) or not weight.any():
                zero = "all zero" if weight.shape == (len(x),) else f"of shape {weight.shape}"
                raise InputError(
                    f"sample_weight is {zero}, expected the weight of each of {len(x)} events, some above zero"
                )
        return Events.from_arrays(x, mass, columns, weight=weight)


def as_estimator(model: str, preset: str | None = None, **parameters: object) -> Estimator:
    """Return an untrained model of the zoo as an outlier detector of scikit-learn.

    Args:
        model: a registered name of a model of events that takes features. preset: a named set of its hyperparameters.
        parameters: hyperparameters, and those of `Estimator`.

    Raises `InputError` for an unknown model, preset or parameter, and for a model that takes something else.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(500, 3))
        >>> detector = as_estimator("pca", latent_dim=2, contamination=0.02).fit(x)
        >>> int((detector.predict(x) == -1).sum()), detector.predict([[9.0, -9.0, 9.0]]).tolist()
        (10, [-1])
    """
    kind = estimator_class(model)
    presets: Any = registry.describe(model)["presets"]
    if preset is not None and preset not in presets:
        registry.get(model, preset)  # which says what is near
    given = {**presets.get(preset or "", {}), **parameters}
    if unknown := [name for name in given if name not in inspect.signature(kind).parameters]:
        registry.get(model, None, **{unknown[0]: given[unknown[0]]})  # which says what is near
    return kind(**given)


_classes: dict[str, type[Estimator]] = {}


def estimator_class(model: str) -> type[Estimator]:
    """Return the class of estimators of a model, whose parameters are the model's hyperparameters.

    >>> estimator_class("gan_ae").__name__
    'GanAeEstimator'
    """
    kind: Any = registry.model_class(model)
    kind.require("events", "as_estimator")
    defaults = {**kind.Hyperparameters.defaults(), **OWN}
    if "object_columns" in defaults:
        raise InputError(f"as_estimator: {model} takes objects, not a table of numbers; use zoo.get and Events")
    if kind.scores_by_mass:
        raise InputError(f"as_estimator: {model} scores by the mass too, which a table has not; use zoo.get and Events")
    name = _name(model)
    if name not in _classes or _classes[name].zoo_model != model:
        _classes[name] = type(name, (Estimator,), {
            "__init__": _constructor({**defaults, "columns": ("*",)}), "__module__": __name__, "zoo_model": model,
            "__doc__": f"`zoo.get({model!r})` as scikit-learn has its outlier detectors; see `Estimator`.",
        })  # fmt: skip
    return _classes[name]


def _name(model: str) -> str:
    return "".join(part.capitalize() for part in model.split("_")) + "Estimator"


def _constructor(defaults: Mapping[str, object]) -> Any:
    """Return an `__init__` with these parameters, of which scikit-learn reads the names."""

    def __init__(self, **given):  # noqa: N807
        signature.bind(self, **given)
        for name, default in defaults.items():
            setattr(self, name, given.get(name, default))

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    others = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value) for name, value in defaults.items()
    ]
    signature = inspect.Signature([own, *others])
    setattr(__init__, "__signature__", signature)  # noqa: B010  (a function has no such attribute by itself)
    return __init__


def __getattr__(name: str) -> type[Estimator]:  # by which workers of joblib find the classes
    for model in registry.names() if name.endswith("Estimator") else ():
        if _name(model) == name:
            return estimator_class(model)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
