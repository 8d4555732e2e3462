"""Figures of merit: numbers that a tuner minimises, alone, as a weighted sum, or all at once as a Pareto front.

The GAN-AE authors tuned by hand on reconstruction error, mass sculpting and stability (their sec. 4.1): the three are
here, without labels and in units that do not depend on the hyperparameters, so that trials can be compared. `argos`
measures, also without labels, how sensitive a detector is in a signal region (`tuning.argos`). For benchmarks there is
`auc:LABEL`, which uses the truth of the validation events. All its outputs are marked.
Events count by their weights, as in `zoo evaluate`. Whatever the objective is, training never sees a label.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipelines.arguments import argument, setting
from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.metrics import PERCENTILES, auc, sculpting, weighted_quantile, weights_of
from tuning import pareto
from tuning.argos import SignalRegion, sensitivity
from tuning.pareto import AUGMENTATION

ENOUGH = 100  # selected events without which a spectrum of 40 bins says nothing


def reconstruction(model, validation: Events, history: Mapping[str, list[float]]) -> float:
    """Mean over events (and members) of the RMS residual, every feature in units of its standard deviation.

    mean_i sqrt(1/F sum_f ((x_if - x'_if) / sigma_f)^2), in physical features that vary: the same measure whatever
    the model's input scaling is. 0 is perfect; predicting the mean of everything gives a little less than 1. Of a model
    that takes objects, f goes over the columns of every slot, and empty slots count with the zeros that they are.
    """
    x, found = _physical(model, validation), model.results(validation, ["reconstructed"])["reconstructed"]
    x, found = x.reshape(len(x), -1), found.reshape(*found.shape[: found.ndim - x.ndim + 1], -1)
    weight, _ = weights_of(validation)
    if weight is None:
        spread = x.std(axis=0)
    else:
        variance = np.average((x - np.average(x, axis=0, weights=weight)) ** 2, axis=0, weights=weight)
        spread = np.sqrt(np.maximum(variance, 0.0))
    varies = spread > 1e-6 * np.abs(x).max(axis=0)
    residual = x - found
    each = np.sqrt(np.mean((residual[..., varies] / spread[varies]) ** 2, axis=-1))
    return float(np.mean(np.average(each, axis=-1, weights=weight)))


def _physical(model, events: Events) -> np.ndarray:
    """Return what a model reconstructs: (N, P, C) objects, of the slots and columns that it takes, or (N, F) features."""
    objects = getattr(getattr(model, "inputs", None), "object_columns", ())
    if not objects:
        return events.read("features", model.resolved_columns).astype(np.float64)
    x = np.concatenate([block[0] for block in model.inputs.blocks(events)]).astype(np.float64)
    slots, columns = (getattr(model, name, slice(None)) for name in ("places", "fields"))  # of `zoo.sets`
    return x[:, slots][..., columns]


def mass_sculpting(model, validation: Events, history: Mapping[str, list[float]]) -> float:
    """Jensen-Shannon distance of the mass spectrum after a cut on the score, above its statistical floor.

    The mean of distance - floor over those of the 50th, 85th, 95th and 99th percentiles that at least `ENOUGH` events
    pass, and at least 0; see `pipelines.metrics.sculpting`. The larger of both tails of a score without direction. For a
    score blind to the mass it scatters by some 0.007 with 1,000 validation events and 0.002 with 40,000 (docs/tuning.md).
    """
    score, mass = model.score(validation), validation.mass
    tails = (1, -1) if model.score_kinds[0] in model.undirected else (1,)
    weight, _ = weights_of(validation)
    found = []
    for tail in tails:
        if weight is None:
            passed = {p: round(len(mass) * (1 - p / 100)) for p in PERCENTILES}
        else:
            passed = {
                p: int(np.sum(tail * score > weighted_quantile(tail * score, p / 100, weight))) for p in PERCENTILES
            }
        percentiles = [p for p in PERCENTILES if passed[p] >= ENOUGH] or [PERCENTILES[0]]
        found.append(sculpting(tail * score, mass, percentiles, weight=weight).values())
    return max(0.0, *(float(np.mean([at["distance"] - at["floor"] for at in one])) for one in found))


def val_loss(model, validation: Events, history: Mapping[str, list[float]]) -> float:
    """The model's own loss on the validation events at the last epoch; comparable only at fixed loss weights."""
    return float(history["val_loss"][-1])


def stability(model, validation: Events, history: Mapping[str, list[float]]) -> float:
    """How differently members of other seeds rank the events: sqrt(12 mean_i var_k r_ik), at least 0.

    r_ik in (0, 1) is the rank of event i by the score of member k, var_k with K - 1. It is sqrt(1 - rho), rho the mean
    Spearman correlation of all pairs of members: 0 where all agree, about 1 where they have nothing in common, and sqrt(2)
    for two that are opposite. It is GAN-AE's third criterion, "training a model several times with the same
    hyperparameters but with different initialization seeds" (sec. 4.1): the members of a trial are such trainings.

    Raises `InputError` for one member, which has nothing to differ from.
    """
    from scipy.stats import rankdata

    scores = model.score(validation, per_member=True)
    _check_members(len(scores))
    ranks = (rankdata(scores, axis=1) - 0.5) / scores.shape[1]
    return float(np.sqrt(12.0 * np.mean(ranks.var(axis=0, ddof=1))))


def _check_members(members: int) -> None:
    if members < 2:
        raise InputError(
            f"stability compares members, and there is 1; give each trial some, as by {setting('members', 4)}"
        )


def missed_area(model, validation: Events, history: Mapping[str, list[float]], label: str) -> float:
    """1 - AUC of the model's first score for events of a label against background: this looks at the truth.

    The score is taken as it is, never turned around: of a score without direction it may be above 0.5.
    """
    which, score = _label(validation, label), model.score(validation)
    background, signal = (validation.label == k for k in (0, which))
    weight, _ = weights_of(validation)
    return 1.0 - auc(score[background], score[signal], None if weight is None else (weight[background], weight[signal]))


def _label(events: Events, label: str) -> int:
    """Return the number of a label given by number or name; raises `InputError` where events do not have it, or no background."""
    if not events.has_labels:
        raise InputError(
            f"auc:{label} needs labels, and {events.name} has none; give labelled events, or an objective without"
        )
    there = {int(k): events.about.label_names.get(int(k), str(k)) for k in np.unique(events.label)}
    found = [k for k, name in there.items() if k and label in (str(k), name)]
    if not found or 0 not in there:
        names = ", ".join(f"{k} ({name})" for k, name in there.items())
        raise InputError(f"auc:{label} is not possible; {events.name} has the labels {names}; expected a signal and 0")
    return found[0]


class _Once:
    """A model whose outputs are computed once for all terms: `more`, and its first score."""

    def __init__(self, model, more: Sequence[str]):
        self._model, self._more = model, more
        self._found: Mapping[str, np.ndarray] | None = None

    def __getattr__(self, name: str):
        return getattr(self._model, name)

    def results(self, events: Events, names: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Return what `AnomalyModel.results` does, for the events of the first call."""
        if self._found is None:
            self._found = self._model.results(events, [self._kind, *self._more])
        return self._found

    @property
    def _kind(self) -> str:
        return self._model.score_kinds[0]

    def score(self, events: Events, per_member: bool = False) -> np.ndarray:
        """Return what `AnomalyModel.score` does."""
        found = self.results(events, [self._kind])[self._kind]
        each = found if found.ndim > 1 else found[None]
        return each if per_member else each.mean(axis=0)

    def score_others(self, events: Events) -> np.ndarray:
        """Return the first score of other events than those of the first call."""
        return self._model.score(events)


TERMS: dict[str, Callable[..., float]] = {
    "reconstruction": reconstruction,
    "sculpting": mass_sculpting,
    "val_loss": val_loss,
    "stability": stability,
}
TRUTH = "1-auc:"  # how a term that looks at the truth begins
ARGOS = "argos"  # which is to be large: what is minimised, and recorded, is minus it
NAMES = (*TERMS, ARGOS)
WORD = r"(?:[a-z_]+|auc:[^+*,]+)"


@dataclasses.dataclass(frozen=True)
class Objective:
    """What is minimised: a weighted sum of figures of merit, or with `pareto` all of them at once.

    `region` is the signal region of `argos`; without it such an objective can be read and compared, but not measured.

    >>> Objective.parse("reconstruction+10*sculpting").weights
    {'reconstruction': 1.0, 'sculpting': 10.0}
    >>> both = Objective.parse("pareto:reconstruction,auc:two-prong")
    >>> list(both.weights), both.pareto, both.uses_truth
    (['reconstruction', '1-auc:two-prong'], True, True)
    """

    text: str
    weights: Mapping[str, float]
    pareto: bool = False
    region: SignalRegion | None = None

    @classmethod
    def parse(cls, text: str, region: SignalRegion | None = None) -> Objective:
        """Read an objective; raises `InputError` for an unknown term or a weight that is not a positive number."""
        if text.startswith("pareto:"):
            return cls(text, _pareto_terms(text), True, region)
        weights: dict[str, float] = {}
        for term in text.split("+"):
            match = re.fullmatch(rf"\s*(?:(\d+\.?\d*|\.\d+)\s*\*)?\s*({WORD})\s*", term)
            if not match or not _known(match[2]) or not 0 < float(match[1] or 1) < float("inf"):
                raise InputError(
                    f"objective {text!r}: {term.strip()!r} is not known; expected a sum of {', '.join(NAMES)}, auc:LABEL, "
                    f"each with a positive weight or none, as in 'reconstruction+10*sculpting', or 'pareto:' and a list"
                )
            name = _named(match[2])
            weights[name] = weights.get(name, 0.0) + float(match[1] or 1.0)
        return cls(text, weights, region=region)

    @property
    def needs_region(self) -> bool:
        """Whether a term is measured in a signal region."""
        return _named(ARGOS) in self.weights

    @property
    def uses_truth(self) -> bool:
        """Whether a term looks at labels."""
        return any(name.startswith(TRUTH) for name in self.weights)

    @property
    def notice(self) -> str:
        """What every output says about labels."""
        if self.uses_truth:
            return "TRUTH USED: labels judged these trials; no result without labels could be chosen like this"
        return "no labels used"

    def check(self, validation: Events, model) -> None:
        """Raise `InputError` where a term cannot be had of these events, or of this model."""
        if "reconstruction" in self.weights and not model.reconstructs:
            raise InputError(
                f"objective {self.text!r} is not possible: {model.zoo_name} does not reconstruct events; give another, as "
                f"{argument('objective', 'sculpting' if model.outliers_score_high else 'val_loss')}, or "
                f"sculpting+stability with {setting('members', 4)}"
            )
        for name in self.weights:
            if name.startswith(TRUTH):
                _label(validation, name.removeprefix(TRUTH))
        if "stability" in self.weights:
            _check_members(model.members)
        if self.region is not None:
            self.region.check(validation)

    def __call__(self, model, validation: Events, history: Mapping[str, list[float]]) -> dict[str, float]:
        """Return every term and `objective`, their weighted sum.

        Of a Pareto objective that is max_j f_j + 0.05 sum_j f_j of the terms as they are, a number to watch while a search
        runs: trials are compared by `order`.
        """
        unlabelled = validation.without_labels() if validation.has_labels else validation
        asked = _Once(model, ["reconstructed"] if "reconstruction" in self.weights else [])
        found = {name: self._measure(name, asked, validation, unlabelled, history) for name in self.weights}
        return found | {"objective": self._one(found)}

    def _measure(self, name: str, model, labelled: Events, unlabelled: Events, history) -> float:
        if name.startswith(TRUTH):
            return missed_area(model, labelled, history, name.removeprefix(TRUTH))
        if name == _named(ARGOS):
            assert self.region is not None, "`check` asks for it"
            return sensitivity(model, unlabelled, self.region)
        return TERMS[name](model, unlabelled, history)

    def _one(self, found: Mapping[str, float]) -> float:
        if self.pareto:
            return max(found.values(), key=lambda value: (value != value, value)) + AUGMENTATION * sum(found.values())
        return sum(self.weights[name] * value for name, value in found.items())

    def order(self, metrics: Sequence[Mapping[str, float]]) -> list[int]:
        """Return the places of trials, best first, from what calling this gave for each: what promotion goes by.

        By `objective`, or of a Pareto objective by front and then by room (see `tuning.pareto.order`); equal ones keep
        their order.
        """
        if self.pareto:
            return pareto.order(self.values(metrics)).tolist() if metrics else []
        return sorted(range(len(metrics)), key=lambda place: metrics[place]["objective"])

    def scores(self, metrics: Sequence[Mapping[str, float]]) -> list[float]:
        """Return one number a trial, small is good, for oracles that need one.

        Of a Pareto objective it is made of ranks among these trials (see `tuning.pareto.scalarise`): all change as
        trials are added.
        """
        if self.pareto:
            return pareto.scalarise(self.values(metrics)).tolist() if metrics else []
        return [one["objective"] for one in metrics]

    def best(self, metrics: Sequence[Mapping[str, float]]) -> int:
        """Return the place of the trial to take: the first by `order`, of a Pareto objective the knee of its front."""
        return pareto.knee(self.values(metrics)) if self.pareto else self.order(metrics)[0]

    def values(self, metrics: Sequence[Mapping[str, float]]) -> np.ndarray:
        """Return the terms of trials, (n, k)."""
        return np.array([[one[name] for name in self.weights] for one in metrics], float).reshape(-1, len(self.weights))


def _pareto_terms(text: str) -> dict[str, float]:
    terms = [term.strip() for term in text.removeprefix("pareto:").split(",")]
    for term in terms:
        if not re.fullmatch(WORD, term) or not _known(term):
            raise InputError(
                f"objective {text!r}: {term!r} is not known; expected 'pareto:' and at least two of {', '.join(NAMES)}, "
                f"auc:LABEL, without weights, as in 'pareto:reconstruction,sculpting,stability'"
            )
    if len(terms) < 2 or len(set(terms)) < len(terms):
        raise InputError(f"objective {text!r}: expected at least two figures of merit after 'pareto:', each once")
    return {_named(term): 1.0 for term in terms}


def _known(term: str) -> bool:
    return term in NAMES or term.startswith("auc:")


def _named(term: str) -> str:
    """A term as it is recorded: what is minimised is one minus the area, or minus ARGOS."""
    if term == ARGOS:
        return f"-{ARGOS}"
    return f"1-{term.strip()}" if term.startswith("auc:") else term
