"""What columns are by their names: truth, weights, numbers that tell events apart, or variables of an event.

Public tables call their truth `label`, `isSignal`, `is_signal_new`, `label_Tbqq` or `y`, and their weights `weight`,
`KaggleWeight` or `mcWeight`. A detector that is trained on one of them has learnt the answer. So names are read word by
word, whatever their case: `isSignal` is `is` and `signal`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence

TRUTH, WEIGHT, BOOKKEEPING = "truth", "weight", "bookkeeping"

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")

# A name with one of these words is truth, whatever the others are: label_Tbqq, truth_pt, y_true.
_TRUTH_WORDS = frozenset(["label", "labels", "truth", "true", "target", "targets", "groundtruth"])
# Names of generated particles and their weights, as GenJet_pt and LHE_HT.
_GENERATED = frozenset(["gen", "generator", "lhe"])
# A name that consists of one of these words and of nothing but the words after them: is_signal_new, class_id.
_TRUTH_NAMES = frozenset(
    [
        "signal",
        "sig",
        "background",
        "bkg",
        "bg",
        "anomaly",
        "anomalous",
        "outlier",
        "outliers",
        "bsm",
        "class",
        "classes",
        "category",
        "process",
        "sample",
        "y",
    ]
)
_BESIDE_TRUTH = frozenset(
    [
        "is",
        "or",
        "new",
        "flag",
        "id",
        "ids",
        "type",
        "event",
        "evt",
        "events",
        "mc",
        "no",
        "number",
        "num",
        "name",
        "index",
        "idx",
        "train",
        "test",
    ]
)
_TRUTH_WHOLE = frozenset(
    [
        "dsid",
        "channelnumber",
        "mcchannelnumber",
        "eventtype",
        "evttype",
        "ytrain",
        "ytest",
        "issig",
        "isbkg",
        "isbg",
        "isanomaly",
    ]
)

_WEIGHT_WHOLE = frozenset(["w", "wt", "wts", "wgt", "wgts", "xs", "xsec", "xsection", "crosssection"])
_BESIDE_W = frozenset(["event", "evt", "mc", "total", "nominal", "norm", "sample"])  # event_w; the others are W bosons
_WEIGHT_WORDS = frozenset(["wgt", "sumw", "xsec", "xsection"])

_EVENT_NAMES = frozenset(
    [
        "run",
        "event",
        "evt",
        "lumi",
        "luminosity",
        "ls",
        "bx",
        "bunch",
        "entry",
        "row",
        "index",
        "idx",
        "orbit",
        "id",
        "uid",
        "uuid",
        "hash",
        "unnamed",
        "fold",
        "kfold",
        "split",
    ]
)
_BESIDE_EVENT = frozenset(
    ["number", "num", "nr", "no", "nb", "block", "section", "crossing", "level", "time", "timestamp", "file", "chunk"]
)
_REGIONS = frozenset(["sr", "cr", "vr", "region", "regions"])
_BESIDE_REGION = frozenset(["signal", "control", "sideband", "sidebands"])
_PARTS = frozenset(
    ["train", "training", "test", "testing", "validation", "val", "holdout", "data", "mc", "simulation", "sim"]
)
_BESIDE_PART = frozenset(["is", "in", "pass", "passes", "passed", "id", "set", "sample"])


def kind_of_column(name: str) -> str | None:
    """Return "truth", "weight" or "bookkeeping" (event and run numbers, regions, parts of a sample), else None.

    >>> [kind_of_column(name) for name in ("isSignal", "label_Tbqq", "KaggleWeight", "eventNumber", "isSR", "tau21_1")]
    ['truth', 'truth', 'weight', 'bookkeeping', 'bookkeeping', None]
    """
    words = [word.lower() for word in _WORD.findall(name)]
    compact = "".join(word for word in words if not word.isdigit())
    if not compact:
        return None
    parts = {word for word in words if not word.isdigit()}
    if _is_weight(words, compact):
        return WEIGHT
    if _is_truth(words, parts, compact):
        return TRUTH
    only = parts - _BESIDE_EVENT
    if words[0] == "level" and words[1:] == ["0"]:  # the index of a frame, as pandas names it
        return BOOKKEEPING
    if only and only <= _EVENT_NAMES:
        return BOOKKEEPING
    if parts & _REGIONS and parts <= _REGIONS | _BESIDE_REGION | _BESIDE_PART:
        return BOOKKEEPING
    if parts & _PARTS and "is" in parts | {compact[:2]} and parts <= _PARTS | _BESIDE_PART:
        return BOOKKEEPING
    return None


def _is_weight(words: Sequence[str], compact: str) -> bool:
    return (
        compact in _WEIGHT_WHOLE
        or ("w" in words and set(words) <= _BESIDE_W | {"w"})
        or compact.startswith("scalefactor")
        or any(word in _WEIGHT_WORDS or re.fullmatch(r".*weights?|weights?(?!ed).*", word) for word in words)
        or "crosssection" in compact
    )


def _is_truth(words: Sequence[str], parts: set[str], compact: str) -> bool:
    if parts & _TRUTH_WORDS or words[0] in _GENERATED or compact in _TRUTH_WHOLE:
        return True
    if re.match(r"is(signal|background)", compact) or re.search(r"^(label|truth)|(label|labels|truth)$", compact):
        return True
    names = _TRUTH_NAMES - {"y"} if len(parts) < len(words) else _TRUTH_NAMES  # y_1 is a rapidity
    return bool(parts & names) and parts <= names | _BESIDE_TRUTH


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that a shell pattern matches; one that is a name itself, as `jet_pt[0]`, is that name.

    >>> matching("tau[1]", ["tau1", "tau[1]"]), matching("tau[1]", ["tau1", "tau2"]), matching("tau*", ["tau1", "pt"])
    (['tau[1]'], ['tau1'], ['tau1'])
    """
    there = list(names)
    if pattern in there:
        return [pattern]
    return [name for name in there if fnmatch.fnmatchcase(name, pattern)]


def taken_by_pattern(pattern: str, names: Iterable[str]) -> list[str]:
    """Return as `matching`, but a pattern takes no truth, weights, or numbers of events: they are asked for by name.

    >>> taken_by_pattern("*", ["pt_1", "isSignal", "eventNumber"]), taken_by_pattern("isSR", ["isSR"])
    (['pt_1'], ['isSR'])
    """
    return [name for name in matching(pattern, names) if name == pattern or kind_of_column(name) is None]
