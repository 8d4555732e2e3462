"""Cut values that an exported model carries: thresholds on its score at percentiles of given events."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines import provenance
from pipelines.arguments import argument
from pipelines.bumphunt.options import BumpHuntOptions, Range
from pipelines.bumphunt.scores import natural_tails
from pipelines.bumphunt.selection import check_weights, cuts_of, equal_edges, ranges_of
from pipelines.bumphunt.spectrum import bin_of
from pipelines.errors import InputError
from pipelines.events.events import Events


@dataclasses.dataclass(frozen=True)
class CutValues:
    """Thresholds on a score, as `zoo hunt` makes them of the same events.

    Attributes:
        score_kind: of the score. cuts: percentile, tail and threshold of each; of a cut that follows the mass the threshold
            is that at the median mass.
        mass: (G,) GeV at which `curves` (P, G) are written down; linear between them, constant outside. Both are empty of
            thresholds that are the same at all masses.
        data: source, number and checksum of the events.
    """

    score_kind: str
    cuts: tuple[tuple[float, str, float], ...]
    mass: tuple[float, ...]
    curves: tuple[tuple[float, ...], ...]
    data: Mapping[str, object]

    def to_dict(self) -> dict[str, Any]:
        """Return it all, ready for JSON."""
        values: list[dict[str, Any]] = [dict(zip(("percentile", "tail", "threshold"), cut)) for cut in self.cuts]
        for value, curve in zip(values, self.curves):
            value["curve"] = list(curve)
        return {
            "score_kind": self.score_kind, "follows_mass": bool(self.mass), "mass": list(self.mass), "values": values,
            "data": dict(self.data),
        }  # fmt: skip

    def signatures(self) -> dict[str, Any]:
        """Return TensorFlow functions: `cuts()`, the numbers, and `selected`, which events are beyond them."""
        percentile, tail, threshold = zip(*self.cuts)
        numbers = {
            "percentile": tf.constant(percentile, tf.float64),
            "tail": tf.constant(tail),
            "threshold": tf.constant(threshold, tf.float64),
        }
        if self.mass:
            numbers |= {"mass": tf.constant(self.mass, tf.float64), "curve": tf.constant(self.curves, tf.float64)}
        sign = tf.where(numbers["tail"] == "upper", tf.ones(len(tail), tf.float64), -1.0)

        @tf.function(input_signature=[], autograph=False)
        def cuts():
            return {name: tf.identity(value) for name, value in numbers.items()}

        scores = tf.TensorSpec((None,), tf.float32, name="score")

        @tf.function(input_signature=[scores], autograph=False)
        def at_all_masses(score):
            return {"selected": sign * (tf.cast(score, tf.float64)[:, None] - numbers["threshold"]) > 0}

        @tf.function(input_signature=[scores, tf.TensorSpec((None,), tf.float64, name="mass")], autograph=False)
        def following(score, mass):
            t = _interpolated(mass, numbers["mass"], tf.transpose(numbers["curve"]))
            return {"selected": sign * (tf.cast(score, tf.float64)[:, None] - t) > 0}

        return {"cuts": cuts, "selected": following if self.mass else at_all_masses}


def _interpolated(x: tf.Tensor, at: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Return values (G, P), known at rising points (G,), at x (N,): linear between them, constant outside; (N, P)."""
    x = tf.clip_by_value(x, at[0], at[-1])
    after = tf.clip_by_value(tf.searchsorted(at, x, side="right"), 1, tf.shape(at)[0] - 1)
    low, high = tf.gather(at, after - 1), tf.gather(at, after)
    share = ((x - low) / (high - low))[:, None]
    return tf.gather(values, after - 1) * (1.0 - share) + tf.gather(values, after) * share


def cut_values(
    model: Any,
    events: Events,
    percentiles: float | Sequence[float],
    *,
    cut: str = "mass",
    mass_range: Range | None = None,
    options: BumpHuntOptions | None = None,
    ignore_weights: bool = False,
) -> CutValues:
    """Return the thresholds on a model's default score at percentiles of events.

    Args:
        model: a trained model. events: by which the percentiles are, with their weights if they have some.
        percentiles: of the score, in (0, 100): 99 selects one percent.
        cut: "mass", a threshold that follows the mass (`pipelines.bumphunt.mass_cut`), or "global", one for all masses.
        mass_range: GeV; only events within it count. options: bins and windows, for the degree of the polynomial.
        ignore_weights: count all events alike.

    Raises `InputError` for what cannot be cut so, as `pipelines.search`: weights below 0 too, before anything is scored.
    """
    kind = model.score_kinds[0]
    options = dataclasses.replace(
        options or BumpHuntOptions(),
        percentiles=percentiles,
        cut=cut,
        tails=natural_tails(model, kind),
        null="shuffled",
    )
    if not len(events):
        raise InputError(f"{events.name}: there are no events to take percentiles of")
    ends = ranges_of({"mass": events.mass}, mass_range)["mass"]
    edges = equal_edges("mass", events.mass, ends, options.bins)
    events = events.take(np.flatnonzero(bin_of(events.mass, edges) < options.bins))
    weight = None if ignore_weights or not events.has("weight") else events.weight
    check_weights(weight)
    score, mass = (
        np.asarray(values, np.float64) for values in (model.score(events), events.mass)
    )  # as a hunt has them
    if not np.isfinite(score).all():
        raise InputError(
            f"{events.name}: {np.sum(~np.isfinite(score))} scores are NaN or infinite; leave those events out"
        )
    try:
        found = list(cuts_of("mass", score, mass, edges, weight, options))
    except InputError as error:
        if cut != "mass":
            raise
        raise InputError(f"{error}; or take one threshold for all masses ({argument('cut', 'global')})") from None
    curves = [one.curve for one in found if one.curve is not None]
    return CutValues(
        score_kind=kind,
        cuts=tuple((one.percentile, one.tail, one.threshold) for one in found),
        mass=curves[0].mass if curves else (),
        curves=tuple(curve.threshold for curve in curves),
        data={"source": Path(events.name).name, "events": len(events), "sha256": provenance.checksum(events)},
    )
