"""Events on disk, features, tf.data, selections, metrics: everything around a model, and no model.

>>> import pipelines
>>> events = pipelines.open("lhco_sim_test")
>>> events.columns[0]
'pt_1'
"""

from pipelines.errors import InputError
from pipelines.events import Events, EventsWriter

__all__ = ["Events", "EventsWriter", "InputError", "open"]


def open(path_or_name) -> Events:
    """Open an events file, or an embedded sample by its name (see `pipelines.datasets.catalog.SAMPLES`).

    Raises `InputError` if there is no such file or sample.
    """
    from pipelines.datasets.catalog import find

    return Events.from_file(find(path_or_name))
