"""The command `zoo`: each module is a group of commands that parse, call the library, and print."""

import sys

from pipelines import memory
from pipelines.errors import InputError
from pipelines.quiet import hushed
from zoo.cli.streams import open_closed


def _import_numpy() -> None:
    """Import NumPy, the first thing that fails where memory or threads are short; raises `InputError`, or that of Ctrl-C."""
    memory.check(memory.COMMANDS)
    try:
        with hushed():
            import numpy  # noqa: F401
    except KeyboardInterrupt:  # which OpenBLAS, too, raises
        memory.check_threads()
        raise
    except (ImportError, OSError, MemoryError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"NumPy cannot be imported ({lines[-1]}){memory.hint()}") from None


open_closed()  # before anything is opened
try:
    _import_numpy()
except InputError as _error:
    sys.stderr.write(f"Error: {_error}\n")
    sys.exit(2)
except KeyboardInterrupt:
    sys.stderr.write("\nInterrupted.\n")
    sys.exit(130)
