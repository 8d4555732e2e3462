"""Is a search to be believed? Sculpting, coverage, injected signal, contamination, stability, and a yardstick with labels.

A search without labels has to be validated with them, on simulated events, before it is pointed at data. None of this
is part of a search; studies that need truth are marked.
"""

from pipelines.bumphunt.validation.contamination import RATIOS, contamination
from pipelines.bumphunt.validation.coverage import coverage
from pipelines.bumphunt.validation.injection import injected, paper_numbers
from pipelines.bumphunt.validation.mixtures import check_ratios, contaminated
from pipelines.bumphunt.validation.sculpting import CURVE, following_curve, sculpting_curve
from pipelines.bumphunt.validation.spectrum_injection import needed_yield, pybumphunter_injection, spectrum_injection
from pipelines.bumphunt.validation.stability import stability
from pipelines.bumphunt.validation.supervised import supervised

__all__ = [
    "CURVE",
    "RATIOS",
    "check_ratios",
    "contaminated",
    "contamination",
    "coverage",
    "following_curve",
    "injected",
    "needed_yield",
    "paper_numbers",
    "pybumphunter_injection",
    "sculpting_curve",
    "spectrum_injection",
    "stability",
    "supervised",
]
