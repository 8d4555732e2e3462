"""Hyperparameter tuning: search spaces to trials to the best model, KerasTuner's oracle at the head.

>>> from tuning.objectives import Objective
>>> sorted(Objective.parse("reconstruction+10*sculpting").weights)
['reconstruction', 'sculpting']
"""


def search(model, events, **options):
    """Search the hyperparameters of a model; see `tuning.session.search`."""
    from tuning.session import search as run_search

    return run_search(model, events, **options)
