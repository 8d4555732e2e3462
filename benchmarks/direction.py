"""Do members of a score without direction point the same way, and what tells without labels?

    python benchmarks/direction.py RUN --training EVENTS --data LABELLED --kind kl --anchor reconstruction [--json FILE]

For every member of a run: the AUC of its score, and its mean rank correlation with the others, which takes no label. Then the AUC,
and the largest S/sqrt(B), of several combinations. None of them looks at a label, nor at the labelled events otherwise than to score
them: ranks are among the training events, and correlations are of these.

- the mean of the scores, as `zoo score` gives it; the mean of their ranks;
- agreed: members turned round by the signs of the leading eigenvector of the matrix of rank correlations, then the mean of ranks;
- two-sided: the mean over members of -log of the share of events as far out on either side;
- with --anchor KIND (may be repeated): each member is turned round where its ranks fall with those of another kind of score of the
  same member, such as `reconstruction`, whose direction the method gives; then the mean of ranks;
- component: the first principal component of the members' ranks, turned as a whole to rise with the first --anchor: `aligned` of
  `vae`.

Where nothing turns a combination it may point either way: a search looks at both tails, and the AUC of both is printed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata

import zoo
from pipelines.metrics import auc, significance_improvement
from zoo.models.vae import direction


def main() -> None:
    """Read the command line, score, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--training", required=True, help="events that the run was trained on; labels are not read")
    parser.add_argument("--kind")
    parser.add_argument(
        "--anchor", action="append", default=[], help="another kind of score, which tells the direction"
    )
    parser.add_argument("--json", type=Path, help="file for every number")
    options = parser.parse_args()
    within = {"mass_range": zoo.load(options.run).loaded_from.get("mass_range")}
    scores = zoo.score(options.run, options.data, options.kind, **within)
    known = zoo.score(options.run, options.training, options.kind, **within).per_member
    events = zoo.evaluate(options.run, options.data, options.kind).events
    label = events.label
    ranks = np.array([share_below(own, one) for own, one in zip(known, scores.per_member)])
    correlation = np.corrcoef([rankdata(one) for one in known])
    signs = agreed(correlation)
    combined = {
        "mean score": scores.mean,
        "mean rank": ranks.mean(axis=0),
        "agreed, mean rank": np.where(signs[:, None] > 0, ranks, 1 - ranks).mean(axis=0),
        "two-sided, mean of members": two_sided(ranks, known.shape[1]).mean(axis=0),
    }
    anchors: dict[str, list[float]] = {}
    for kind in options.anchor:
        other = zoo.score(options.run, options.training, kind, **within).per_member
        anchors[kind] = [float(np.corrcoef(rankdata(one), rankdata(its))[0, 1]) for one, its in zip(known, other)]
        turned = np.where(np.array(anchors[kind])[:, None] > 0, ranks, 1 - ranks)
        combined[f"turned by {kind}, mean rank"] = turned.mean(axis=0)
        combined.setdefault("component", direction(known, other) @ (ranks - 0.5))
    signals = [int(k) for k in np.unique(label) if k]
    names = [events.about.label_names.get(k, f"signal {k}") for k in signals]

    def areas(score: np.ndarray) -> list[float]:
        return [auc(score[label == 0], score[label == k]) for k in signals]

    members = [
        {"member": k, "auc": areas(one), "correlation": float((correlation[k].sum() - 1) / max(len(ranks) - 1, 1)),
         "sign": int(signs[k]), "anchors": {kind: values[k] for kind, values in anchors.items()}}
        for k, one in enumerate(scores.per_member)
    ]  # fmt: skip
    table = Table(
        "member", *(f"AUC {name}" for name in names), "rank correlation with others", "sign",
        *(f"with {kind}" for kind in anchors), title=scores.kind,
    )  # fmt: skip
    for one in members:
        table.add_row(
            str(one["member"]),
            *(f"{a:.3f}" for a in one["auc"]),
            f"{one['correlation']:.2f}",
            f"{one['sign']:+d}",
            *(f"{value:+.2f}" for value in one["anchors"].values()),
        )
    together = {name: areas(score) for name, score in combined.items()}
    summary = Table(
        "combination", *(f"AUC {name} (other tail)" for name in names), *(f"S/sqrt(B) {name}" for name in names)
    )
    gains = {name: improvements(score, label, signals) for name, score in combined.items()}
    for name, each in together.items():
        both = [f"x {up:.2f} ({down:.2f})" for up, down in gains[name]]
        summary.add_row(name, *(f"{a:.3f} ({1 - a:.3f})" for a in each), *both)
    for one in (table, summary):
        Console(width=150).print(one)
    if options.json:
        options.json.write_text(
            json.dumps({"members": members, "combined": together, "gains": gains, "signals": names}, indent=1)
        )


def improvements(score: np.ndarray, label: np.ndarray, signals: list[int]) -> list[tuple[float, ...]]:
    """Return the largest eps_S / sqrt(eps_B) of each signal, in the upper tail of a score and in the lower one."""
    return [
        tuple(
            significance_improvement(sign * score[label == 0], sign * score[label == k])["improvement"]
            for sign in (1, -1)
        )
        for k in signals
    ]


def agreed(correlation: np.ndarray) -> np.ndarray:
    """Return the sign of every member (K,): of the leading eigenvector of their correlations, most of them +1."""
    leading = np.linalg.eigh(correlation)[1][:, -1]
    signs = np.where(leading >= 0, 1, -1)
    return signs if signs.sum() >= 0 else -signs


def share_below(known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the share (N,) of known values that are below each value."""
    return np.searchsorted(np.sort(known), values) / len(known)


def two_sided(ranks: np.ndarray, events: int) -> np.ndarray:
    """Return -log of the share of so many events as far out on either side, of ranks (K, N) in [0, 1]."""
    return -np.log(np.clip(2 * np.minimum(ranks, 1 - ranks), 1 / events, 1))


if __name__ == "__main__":
    main()
