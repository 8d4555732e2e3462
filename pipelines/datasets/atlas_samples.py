"""Which samples the 13 TeV release of ATLAS Open Data has, and which of them are signals.

Categories and their order are those of S. Frette, "Deployment of unsupervised learning in a search for new physics with
ATLAS Open Data" (University of Oslo, 2022), section III.A.3, and of its published code; the numbers of the samples
(DSID) are those of the release's list of cross-sections.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipelines.errors import InputError

KINDS = {True: "simulation", False: "data"}
"""What `Sample.simulated` is called."""

Patterns = Mapping[str, "str | Sequence[str | int]"] | Sequence[str | int]

SIGNALS: Mapping[str, tuple[int | str, ...]] = {
    "SUSYSlepSlep": (392916, 392918, 392920, 392924, 392925, 392936, 392942)
    + (392951, 392962, 392964, 392982, 392985, 392996, 392999),
    "SUSYC1C1": (392501, 392502, 392504, 392506, 392507, 392509, 392513, 392517, 392518, 392521),
    "GG_ttn1": (370114, 370118, 370129, 370144),
    "TT_directTT": (387154, 387157, 387163, 388240),
    "SUSYC1N2": (392217, 392220, 392223, 392226, 392302, 392304, 392308, 392317, 392323)
    + (392324, 392326, 392330, 392332, 392354, 392356, 392361, 392364, 392365),
    "Zprime_ee": (*range(301215, 301219), "ZPrime*_ee"),
    "Zprime_mumu": (*range(301220, 301224), "ZPrime*_mumu"),
    "Zprime_tt": (*range(301322, 301334), "ZPrime*_tt"),
    "RS_G_ZZ": (303329, 303334, 307431, 307434, 307439),
    "G_ee": (305550, 305553, 305556, 305559, 305562),
    "G_mumu": (305568, 305571, 305574, 305577, 305580),
    "dmV_Zll": (303511, 303512, 303513, 303514, 305710, 305711, 306085, 306093, 306103, 306109),
}
"""The signals and their samples, by number, Z' also by name, in the order of the labels 1 to 12."""

BACKGROUNDS: Mapping[str, tuple[int, ...]] = {
    "Zjets": tuple(range(364100, 364142)),
    "Zjetsincl": (361106, 361107, 361108),
    "Wjets": tuple(range(364156, 364198)),
    "Wjetsincl": tuple(range(361100, 361106)),
    "Diboson": (363356, 363358, 363359, 363360, 363489, 363490, 363491, 363492, 363493, 364250),
    "ttbar": (410000,),
    "singleTop": (410011, 410012, 410013, 410014, 410025, 410026),
    "topX": (410155, 410218, 410219),
    "Higgs": (341081, 341122, 341123, 341155, 341156, 341947, 341964, 343981, 344235, 345041, 345060)
    + (345318, 345319, 345323, 345324, 345325, 345327, 345336, 345337, 345445),
}
"""Standard Model processes and their samples."""

# One process, simulated twice: in one sample or two, and in slices of p_T and flavour. Together it would count twice.
_TWICE = {
    "Z -> ee": ((361106,), range(364114, 364128)),
    "Z -> mumu": ((361107,), range(364100, 364114)),
    "Z -> tautau": ((361108,), range(364128, 364142)),
    "W -> enu": ((361100, 361103), range(364170, 364184)),
    "W -> munu": ((361101, 361104), range(364156, 364170)),
    "W -> taunu": ((361102, 361105), range(364184, 364198)),
}


@dataclasses.dataclass(frozen=True)
class Sample:
    """What a file of the release holds, by its name: a period of data (`dsid` 0) or a simulated sample."""

    path: Path
    dsid: int
    name: str

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Sample:
        """Tell it from the name of a file; raises `InputError` if that is not one of the release.

        >>> Sample.of("2lep/MC/mc_361106.Zee.2lep.root").title, Sample.of("data_A.2lep.root").simulated
        ('361106 Zee', False)
        """
        path = Path(path)
        found = re.match(r"(?:mc_(?P<dsid>\d{6})\.|(?=data_))(?P<name>\w+)\.", path.name)
        if not found:
            raise InputError(
                f"{path}: its name does not tell which sample it is; expected names as in the release, "
                f"data_A.2lep.root or mc_361106.Zee.2lep.root"
            )
        return cls(path, int(found["dsid"] or 0), found["name"])

    @property
    def simulated(self) -> bool:
        """Whether it is simulation."""
        return self.dsid > 0

    @property
    def title(self) -> str:
        """Number and name, as `process_names` has it."""
        return f"{self.dsid} {self.name}" if self.simulated else self.name

    def matches(self, patterns: Sequence[str]) -> bool:
        """Whether its number or name is one of these, which may be shell patterns."""
        return any(fnmatch.fnmatchcase(text, p) for p in patterns for text in (str(self.dsid), self.name))


class Truth(NamedTuple):
    """What is known of the events of a simulated file."""

    dsid: int
    process: int
    label: int


def category(sample: Sample) -> str:
    """Say what a sample is by default.

    >>> category(Sample.of("mc_301215.ZPrime2000_ee.2lep.root"))
    'signal: Zprime_ee'
    """
    if not sample.simulated:
        return "data"
    for kind, categories in (("signal", SIGNALS), ("background", BACKGROUNDS)):
        for name, patterns in _by_name(categories).items():
            if sample.matches(patterns):
                return f"{kind}: {name}"
    return "simulation of an unknown kind; say with signal= or background= which"


def of_one_kind(samples: Sequence[Sample], only: str | None) -> list[Sample]:
    """Return the samples of the kind `only`, or all if it is None.

    Raises `InputError` if there are none, if data and simulation are among them, or if events would count twice.

    >>> files = ["data_A.2lep.root", "mc_361106.Zee.2lep.root"]
    >>> [sample.name for sample in of_one_kind([Sample.of(file) for file in files], "simulation")]
    ['Zee']
    """
    kept = [sample for sample in samples if only in (None, KINDS[sample.simulated])]
    if not kept:
        raise InputError(f"none of {len(samples)} files is {only or 'given'}; expected files of ATLAS Open Data")
    by_kind = {sample.simulated: sample.title for sample in reversed(kept)}
    if len(by_kind) > 1:
        raise InputError(
            f"data and simulation ({by_kind[False]}, {by_kind[True]}) in one call: data have no truth, they are "
            f"converted each by themselves; choose one with only='data' or only='simulation'"
        )
    (title, count), *_ = Counter(sample.title for sample in kept).most_common(1)
    if count > 1:
        files = ", ".join(str(sample.path) for sample in kept if sample.title == title)
        raise InputError(f"{files}: {count} files of the sample {title}, its events would count twice; leave one")
    numbers = {sample.dsid for sample in kept}
    for process, (whole, slices) in _TWICE.items():
        both = [next(iter(sorted(numbers.intersection(part))), None) for part in (whole, slices)]
        if None not in both:
            raise InputError(
                f"samples {both[0]} and {both[1]} both simulate {process}, which would count twice; "
                f"leave out {', '.join(map(str, whole))} or {slices[0]} to {slices[-1]}"
            )
    return kept


def truths(
    samples: Sequence[Sample], signal: Patterns | None = None, background: Sequence[str] | None = None
) -> tuple[list[Truth], dict[int, str]]:
    """Return the truth about every sample, and the names of the labels that there are.

    Args:
        samples: simulated samples; their processes are numbered in the order of their DSIDs.
        signal: patterns of samples with label 1, 2, ..., or lists of patterns by the name of the label; default
            `SIGNALS` that are not among `background`.
        background: patterns of samples with label 0; default those of `BACKGROUNDS` that are not among `signal`.

    Raises:
        InputError: a sample is neither or both, or a pattern given matches none.

    Example:
        >>> samples = [Sample.of("mc_361106.Zee.2lep.root"), Sample.of("mc_301215.ZPrime2000_ee.2lep.root")]
        >>> truths(samples)[1], truths(samples, signal=["ZPrime*"])[1]
        ({0: 'background', 6: 'Zprime_ee'}, {0: 'background', 1: 'ZPrime*'})
    """
    signals = _by_name(SIGNALS if signal is None else signal)
    backgrounds = list(itertools.chain(*_by_name(BACKGROUNDS if background is None else background).values()))
    if signal is not None:
        _check_used(samples, itertools.chain(*signals.values()), "signal")
    if background is not None:
        _check_used(samples, backgrounds, "background")
    order = {sample.title: number for number, sample in enumerate(sorted(samples, key=lambda s: (s.dsid, s.name)))}
    found, names = [], {}
    for sample in samples:
        kinds = [k for k, patterns in enumerate(signals.values(), 1) if sample.matches(patterns)]
        if sample.matches(backgrounds):  # what is given goes before what is the default
            if signal is None:
                kinds = [0]
            elif background is not None or not kinds:
                kinds.append(0)
        if len(kinds) != 1:
            what = " and ".join(["background", *signals][kind] for kind in kinds) or "neither signal nor background"
            raise InputError(
                f"{sample.path}: sample {sample.title} is {what}, expected one of them; "
                f"name it, or its number, among signal or background, or leave it out"
            )
        names[kinds[0]] = ["background", *signals][kinds[0]]
        found.append(Truth(sample.dsid, order[sample.title], kinds[0]))
    return found, dict(sorted(names.items()))


def _by_name(patterns: Patterns) -> dict[str, list[str]]:
    """Return lists of patterns by name; patterns without a name are their own."""
    if isinstance(patterns, str):
        patterns = [patterns]
    if not isinstance(patterns, Mapping):
        patterns = {str(pattern): [pattern] for pattern in patterns}
    return {name: [p] if isinstance(p, str) else [str(q) for q in p] for name, p in patterns.items()}


def _check_used(samples: Sequence[Sample], patterns: Iterable[str], what: str) -> None:
    for pattern in patterns:
        if not any(sample.matches([pattern]) for sample in samples):
            near = difflib.get_close_matches(pattern, [sample.name for sample in samples], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(s.title for s in samples)}"
            raise InputError(f"{what} {pattern!r}: no such sample among the files; {hint}")
