"""The one error that tells a user what is wrong with what they gave."""

_last_read: list[str] = []  # at most one


def note_read(path: object) -> None:
    """Note which file is opened, for the report of an unexpected error."""
    _last_read[:] = [str(path)]


def last_read() -> str | None:
    """Return the file that `note_read` was told of last.

    >>> note_read("events.csv")
    >>> last_read()
    'events.csv'
    """
    return next(iter(_last_read), None)


LONGEST = 2000  # characters of a message


class InputError(ValueError):
    """Something the user gave cannot be used: a file, a column, a value, an output path.

    Its message is one line: the file or argument, what was found, what was expected, what to try.
    The command line prints it on stderr and exits with code 2. What is longer than 2,000 characters, such as a value of a
    hostile file, is cut in its middle.
    """

    def __init__(self, *args: object):
        if len(args) == 1 and isinstance(args[0], str) and len(args[0]) > LONGEST:
            args = (f"{args[0][: LONGEST // 2]} ... {args[0][-LONGEST // 3 :]}",)
        super().__init__(*args)


class Unfinished(InputError):
    """Not the input stopped a long job but where it ran: a full disk, workers that died.

    What is finished is kept, and the same command may succeed later.
    """


class WorkersDied(Unfinished):
    """Every worker that tried a task died. The task itself may be the reason, such as its memory."""


class WorkerFault(RuntimeError):
    """A worker cannot do any task, such as one that does not see the events: another one may."""
