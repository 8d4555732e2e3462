"""Events on disk, features, tf.data, selections, metrics: everything around a model, and no model.

>>> import pipelines
>>> events = pipelines.open("lhco_sim_test")
>>> events.columns[0]
'pt_1'
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# TensorFlow 2.21 with oneDNN gets batched products that sum over tens of thousands of rows wrong (1e28 for 100, on several
# threads): gradients of several members without XLA. Unless the user says otherwise, and before TensorFlow is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import pipelines.quiet  # noqa: F401  it sets how much TensorFlow says, before that is imported
from pipelines.errors import InputError
from pipelines.moved import alias

if TYPE_CHECKING:
    from pipelines.events import Events, EventsWriter

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
            "spectra": "bumphunt.spectrum",
            "bumphunt.spectra": "bumphunt.spectrum",
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


def open(data: Any, mass_range: tuple[float, float] | None = None, **options: Any) -> "Events":
    """Open events of any kind: an events file, an embedded sample by its name, a published file, a table, or a frame.

    What is no events file, such as CSV, Parquet or ROOT, is converted first; `options` are those of `zoo data convert`, as
    in `pipelines.open("jets.parquet", mass="mjj")`. `mass_range` keeps low <= mass < high, GeV. See
    `pipelines.datasets.opening.open_events`.

    Raises `InputError` if there is no such file or sample, or as the conversion does.
    """
    from pipelines.datasets.opening import open_events

    return open_events(data, mass_range, **options)


_WHERE = {  # names whose modules take NumPy or SciPy: imported when they are asked for
    "Events": "pipelines.events",
    "EventsWriter": "pipelines.events",
    "search": "pipelines.bumphunt.search",
}


def __getattr__(name: str) -> Any:
    if name in ("arguments", "checksums", "events", "locks", "outputs"):  # modules
        return importlib.import_module(f"pipelines.{name}")
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
