"""Events on disk and in memory: what a file holds, columns worked out while reading, weights, mixtures, batches."""

from pipelines.events.events import Events
from pipelines.events.writer import EventsWriter

__all__ = ["Events", "EventsWriter"]
