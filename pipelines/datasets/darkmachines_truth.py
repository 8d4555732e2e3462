"""Which Dark Machines processes are signals, and the numbers that stand for processes and labels in an events file."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from pipelines.errors import InputError

# Table 2 of the challenge's paper.
BACKGROUNDS = (
    *("njets", "w_jets", "gam_jets", "z_jets", "ttbar", "single_top", "single_topbar", "ww", "wtop", "wtopbar"),
    *("2gam", "Wgam", "zw", "Zgam", "zz", "single_higgs", "ttbarGam", "ttbarZ", "ttbarHiggs", "atop", "ttbarW"),
    *("atopbar", "ztop", "ztopbar", "4top", "ttbarWW"),
)
# Names in the challenge's table of results and of its files; SIGNALS[k - 1] has label k, whatever a file holds. The
# last is what its paper calls monoV_Zp2000.0_DM_1.0.
SIGNALS = (
    *("monojet_Zp2000.0_DM_50.0", "monoV_Zp2000.0_DM_1.0", "monotop_200_A", "pp23mt_50", "pp24mt_50"),
    *("stlp_st1000", "sqsq1_sq1400_neut800", "glgl1400_neutralino1100", "glgl1600_neutralino800"),
    *("gluino_1000.0_neutralino_1.0", "stop2b1000_neutralino300", "sqsq_sq1800_neut800"),
    *("chaneut_cha200_neut50", "chaneut_cha250_neut150", "chaneut_cha300_neut100", "chaneut_cha400_neut200"),
    *("chacha_cha300_neut140", "chacha_cha400_neut60", "chacha_cha600_neut200"),
    "monoV_Zp2000.0_DM_50.0",
)


def is_signal(process: str, signal: Sequence[str] = (), background: Sequence[str] = ()) -> bool:
    """Tell whether a process is a signal: by the patterns given, otherwise by `SIGNALS` and `BACKGROUNDS`.

    Raises `InputError` for a process that is in none of them, or matches patterns of both kinds.

    >>> is_signal("stlp_st1000"), is_signal("4top"), is_signal("4top", signal=["4*"])
    (True, False, True)
    """
    as_signal, as_background = (any(fnmatch.fnmatchcase(process, p) for p in kind) for kind in (signal, background))
    if as_signal and as_background:
        raise InputError(f"process {process!r} matches a pattern for signals and one for backgrounds; change one")
    if as_signal or as_background:
        return as_signal
    if process not in SIGNALS and process not in BACKGROUNDS:
        raise InputError(
            f"process {process!r} is not one of the {len(BACKGROUNDS)} backgrounds and {len(SIGNALS)} signals known "
            f"here; say what it is by a pattern of signal or background, or leave truth out by blind"
        )
    return process in SIGNALS


def truth_numbers(
    processes: Iterable[str], signal: Sequence[str] = (), background: Sequence[str] = ()
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the numbers of processes and their labels: those published first, the same in every file, then others.

    Raises `InputError` as `is_signal`, and for more than 127 signals.
    """
    here = sorted(processes)
    signals = [name for name in here if is_signal(name, signal, background)]
    process = {name: number for number, name in enumerate(dict.fromkeys((*BACKGROUNDS, *SIGNALS, *here)))}
    label = {name: number for number, name in enumerate(dict.fromkeys((*SIGNALS, *signals)), 1)}
    if max(label.values()) > 127:
        raise InputError(f"{len(signals)} signal processes, expected at most 127 of them; convert fewer files at once")
    return {name: process[name] for name in here}, {name: label[name] if name in signals else 0 for name in here}
