"""Is a search to be believed? Sculpting, coverage, injected signal, contamination, stability, and a yardstick with labels.

A search without labels has to be validated with them, on simulated events, before it is pointed at data. None of this
is part of a search; studies that need truth are marked.
"""

from pipelines.bumphunt.validation.contamination import RATIOS, contamination
from pipelines.bumphunt.validation.coverage import coverage
from pipelines.bumphunt.validation.injection import believed_numbers, injected, injection_curve, paper_numbers
from pipelines.bumphunt.validation.mixtures import check_ratios, contaminated, signal_events, signal_of
from pipelines.bumphunt.validation.sculpting import CURVE, following_curve, sculpting_curve
from pipelines.bumphunt.validation.spectrum_injection import needed_yield, pybumphunter_injection, spectrum_injection
from pipelines.bumphunt.validation.stability import stability
from pipelines.bumphunt.validation.supervised import supervised

__all__ = [
    "CURVE",
    "RATIOS",
    "believed_numbers",
    "check_ratios",
    "contaminated",
    "contamination",
    "coverage",
    "following_curve",
    "injected",
    "injection_curve",
    "needed_yield",
    "paper_numbers",
    "pybumphunter_injection",
    "sculpting_curve",
    "signal_events",
    "signal_of",
    "spectrum_injection",
    "stability",
    "supervised",
]
