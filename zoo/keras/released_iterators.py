"""Iterators of a training that has ended: who lets go of them."""

from __future__ import annotations

import sys
import traceback
import types
from collections.abc import Iterator


def let_go_of_iterators(error: BaseException | None) -> None:
    """Clear the frames of Keras and TensorFlow that an error keeps: they hold the iterator of a training.

    Whoever drops the last reference to it waits for the threads that read its events. If that is the garbage collector, it
    may wait in a thread that has a lock which they need, for ever.
    """
    present = set(_callers(sys._getframe()))
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            for one in _callers(frame):  # a frame keeps its callers, whether or not the traceback has them
                if one not in present and one.f_globals.get("__name__", "").startswith(("tf_keras.", "tensorflow.")):
                    one.clear()
        error = error.__context__


def _callers(frame: types.FrameType | None) -> Iterator[types.FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
