"""Events on disk, features, tf.data, selections, metrics: everything around a model, and no model.

>>> import pipelines
>>> events = pipelines.open("lhco_sim_test")
>>> events.columns[0]
'pt_1'
"""

import os

# TensorFlow 2.21 with oneDNN gets batched products that sum over tens of thousands of rows wrong (1e28 for 100, on several
# threads): gradients of several members without XLA. Unless the user says otherwise, and before TensorFlow is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from pipelines.errors import InputError
from pipelines.events import Events, EventsWriter
from pipelines.moved import alias

alias(
    {
        f"pipelines.{old}": f"pipelines.{new}"
        for old, new in {
            "layout": "events.layout",
            "derived": "events.derived",
            "selection": "events.weighting",
            "mixing": "events.mixing",
            "datasets.overlap": "events.overlap",
            "rows": "events.row_cache",
            "batches": "events.batches",
            "cluster": "jobs.executors",
            "batchfarm": "jobs.batch_systems",
            "chunks": "jobs.chunks",
            "spectra": "bumphunt.spectra",
            "cuts": "bumphunt.selection",
            "toys": "bumphunt.pseudo_experiments",
            "hunt": "bumphunt.search",
            "validation": "bumphunt.validation",
            "spectra_generator": "simulation.spectra",
            "datasets.table_formats": "datasets.tables",
        }.items()
    }
)

__all__ = ["Events", "EventsWriter", "InputError", "open", "search"]


def open(path_or_name) -> Events:
    """Open an events file, or an embedded sample by its name (see `pipelines.datasets.catalog.SAMPLES`).

    Raises `InputError` if there is no such file or sample.
    """
    from pipelines.datasets.catalog import find

    return Events.from_file(find(path_or_name))


def __getattr__(name: str):
    if name == "search":  # when asked for: it takes SciPy, and to import this package is cheap
        from pipelines.bumphunt.search import search

        return search
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
