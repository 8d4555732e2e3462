"""The evaluation of the Dark Machines challenge: its table of scores, total improvement, six rankings, box plots.

A table has a row for each signal, model and channel of events, in the challenge's own CSV columns
(Aarrestad et al., SciPost Phys. 12 (2022) 043, arXiv 2105.14027):

    Signal,Model,Chan,AUC,1e-2,1e-3,1e-4

that is, the area under the ROC curve and the signal efficiency where 1e-2, 1e-3 and 1e-4 of the background pass.
Four more columns, such as `AUC_error`, may give their standard errors; a field may be empty: not measured.

`table`: the rows. `files`: the CSV. `merit`: the figures of merit of scores. `improvement`, `ranking`: models compared.
`reports`: all of it for JSON, a published summary compared, rows that cannot be. `figure`: box plots.
"""

from pipelines.leaderboard.figure import plot
from pipelines.leaderboard.files import read, write
from pipelines.leaderboard.improvement import Improvements, improvements
from pipelines.leaderboard.merit import auc_error, entries, judge, measure
from pipelines.leaderboard.ranking import WAYS, Ranking, rankings
from pipelines.leaderboard.reports import compare, impossible, report
from pipelines.leaderboard.table import FIGURES, WORKING_POINTS, Table

__all__ = [
    "FIGURES",
    "WAYS",
    "WORKING_POINTS",
    "Improvements",
    "Ranking",
    "Table",
    "auc_error",
    "compare",
    "entries",
    "impossible",
    "improvements",
    "judge",
    "measure",
    "plot",
    "rankings",
    "read",
    "report",
    "write",
]
