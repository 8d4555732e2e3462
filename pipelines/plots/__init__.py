"""Figures in the field's style, each with the numbers behind it.

Every function takes arrays and writes two files that appear whole or not at all: the figure `NAME.png`, and beside it
its numbers, `NAME.json`, or `NAME.h5` for `plot_roc` and `plot_scan`, whose arrays are large. It returns what
`read_numbers` reads from there. A figure that exists is replaced. The style is mplhep's, whatever the user's own
settings are, which stay as they are. These figures are not registered with pyplot, so none outlives its function.

All raise `InputError`, naming the array, for values that are NaN or infinite, for a class without events, for shapes
that do not belong together, and for a path that does not end in `.png` or cannot be written.

`training`: terms of the loss and the peak of one of them. `errors`: histograms of scores and their ratios.
`observables`: input against reconstruction. `roc`: ROC curves and gains. `scan`: what a decoder makes of latent space
and mass. `hunt`: a bump, its spectra, windows, pseudo-experiments, sculpting. `selected`: scores, features and truth of
selected events. `validation`: coverage and injected signals. `scanned`: many spectra, looked at by several
ways to find bumps. Below them `page` (style, colours, legend), `record` (the two files) and `arrays` (what is asked of input).
"""

from pipelines.plots.errors import plot_errors
from pipelines.plots.hunt import plot_bump, plot_sculpting, plot_selections, plot_test_statistic, plot_tomography
from pipelines.plots.observables import plot_observables
from pipelines.plots.record import read_numbers
from pipelines.plots.roc import plot_roc
from pipelines.plots.scan import plot_scan, smooth_density
from pipelines.plots.scanned import plot_found_bumps, plot_off, plot_scanned, plot_two_scans
from pipelines.plots.selected import plot_composition, plot_features, plot_scores, plot_working_points
from pipelines.plots.training import plot_history, plot_peak
from pipelines.plots.validation import plot_coverage, plot_injection, plot_injection_curve, plot_reach

__all__ = [
    "plot_bump",
    "plot_composition",
    "plot_coverage",
    "plot_errors",
    "plot_features",
    "plot_found_bumps",
    "plot_history",
    "plot_injection",
    "plot_injection_curve",
    "plot_observables",
    "plot_off",
    "plot_peak",
    "plot_reach",
    "plot_roc",
    "plot_scan",
    "plot_scanned",
    "plot_scores",
    "plot_sculpting",
    "plot_selections",
    "plot_test_statistic",
    "plot_tomography",
    "plot_two_scans",
    "plot_working_points",
    "read_numbers",
    "smooth_density",
]
