"""The command `zoo`: each module is a group of commands that parse, call the library, and print."""

from zoo.cli.streams import open_closed

open_closed()  # before anything is opened
