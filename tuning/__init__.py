"""Hyperparameter tuning: search spaces to trials to the best model, KerasTuner's oracle at the head.

    results = tuning.search("vae", pipelines.open("events.h5"), trials=200, out="my_search")
    results = tuning.load_results("my_search")    # finished or not

>>> from tuning.objectives import Objective
>>> sorted(Objective.parse("reconstruction+10*sculpting").weights)
['reconstruction', 'sculpting']
"""

from pipelines.quiet import imported


def search(model, events, **options):
    """Search the hyperparameters of a model; see `tuning.session.search`."""
    return imported("tuning.session").search(model, events, **options)


def load_results(out):
    """Return what is on disk of a search, finished or not; see `tuning.results.load_results`."""
    from tuning.results import load_results as load

    return load(out)
